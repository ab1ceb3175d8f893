"""Tree search: what scripts call, by one name. Files behind it may move; this face stays.

>>> from branchwise.search import Root, SearchSettings, search

Loaded at first use, so that importing one module of this package does not load the others. Games with compiled rules
have a search of their own behind ``branchwise.search.compiled``.
"""

from typing import TYPE_CHECKING

from ..envs.lazily import loaded_lazily

if TYPE_CHECKING:
    from ..envs.play.task import Root as Root
    from .answers import action as action
    from .answers import child_table as child_table
    from .answers import principal_variation as principal_variation
    from .credit import StepAdvantage as StepAdvantage
    from .credit import group_advantages as group_advantages
    from .credit import pooled_advantages as pooled_advantages
    from .credit import state_pairs as state_pairs
    from .credit import tree_advantages as tree_advantages
    from .credit import vine_advantages as vine_advantages
    from .engine import SearchStopped as SearchStopped
    from .engine import extend as extend
    from .engine import search as search
    from .evaluation import Evaluator as Evaluator
    from .evaluation import Leaf as Leaf
    from .evaluation import Mixed as Mixed
    from .evaluation import PolicyRollout as PolicyRollout
    from .evaluation import RandomRollout as RandomRollout
    from .evaluation import RankingCritic as RankingCritic
    from .evaluation import Repeated as Repeated
    from .evaluation import ValueFunction as ValueFunction
    from .expansion import Critic as Critic
    from .extraction import PreferencePair as PreferencePair
    from .extraction import anchors as anchors
    from .extraction import best_path_pairs as best_path_pairs
    from .extraction import best_paths as best_paths
    from .extraction import rollout_anchors as rollout_anchors
    from .extraction import sibling_pairs as sibling_pairs
    from .extraction import successful_trajectories as successful_trajectories
    from .extraction import trajectory_pairs as trajectory_pairs
    from .graph import outline as outline
    from .graph import to_dot as to_dot
    from .graph import to_networkx as to_networkx
    from .presets import preset as preset
    from .presets import suited_settings as suited_settings
    from .progress import SearchBar as SearchBar
    from .records import load_advantages as load_advantages
    from .records import load_episodes as load_episodes
    from .records import load_pairs as load_pairs
    from .records import save_advantages as save_advantages
    from .records import save_episodes as save_episodes
    from .records import save_pairs as save_pairs
    from .resume import search_into as search_into
    from .rules.options import AlphaZero as AlphaZero
    from .rules.options import Gumbel as Gumbel
    from .rules.options import Minimax as Minimax
    from .rules.options import PUcb as PUcb
    from .rules.options import Puct as Puct
    from .rules.options import Softmax as Softmax
    from .rules.options import Ucb1 as Ucb1
    from .rules.options import Uct as Uct
    from .rules.options import UctBonus as UctBonus
    from .selfplay import self_play as self_play
    from .settings import SearchSettings as SearchSettings
    from .store import load_trees as load_trees
    from .store import save_trees as save_trees
    from .trees.information_tree import InformationTree as InformationTree
    from .trees.tree import Tree as Tree

__getattr__, __dir__, __all__ = loaded_lazily(
    __name__,
    {
        "..envs.play.task": ("Root",),
        ".answers": ("action", "child_table", "principal_variation"),
        ".credit": (
            "StepAdvantage",
            "group_advantages",
            "pooled_advantages",
            "state_pairs",
            "tree_advantages",
            "vine_advantages",
        ),
        ".engine": ("SearchStopped", "extend", "search"),
        ".evaluation": (
            "Evaluator",
            "Leaf",
            "Mixed",
            "PolicyRollout",
            "RandomRollout",
            "RankingCritic",
            "Repeated",
            "ValueFunction",
        ),
        ".expansion": ("Critic",),
        ".extraction": (
            "PreferencePair",
            "anchors",
            "best_path_pairs",
            "best_paths",
            "rollout_anchors",
            "sibling_pairs",
            "successful_trajectories",
            "trajectory_pairs",
        ),
        ".graph": ("outline", "to_dot", "to_networkx"),
        ".presets": ("preset", "suited_settings"),
        ".progress": ("SearchBar",),
        ".resume": ("search_into",),
        ".rules.options": (
            "AlphaZero",
            "Gumbel",
            "Minimax",
            "PUcb",
            "Puct",
            "Softmax",
            "Ucb1",
            "Uct",
            "UctBonus",
        ),
        ".selfplay": ("self_play",),
        ".settings": ("SearchSettings",),
        ".records": (
            "load_advantages",
            "load_episodes",
            "load_pairs",
            "save_advantages",
            "save_episodes",
            "save_pairs",
        ),
        ".store": ("load_trees", "save_trees"),
        ".trees.information_tree": ("InformationTree",),
        ".trees.tree": ("Tree",),
    },
)
