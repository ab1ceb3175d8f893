"""Tree search: what scripts call, by one name. Files behind it may move; this face stays.

>>> from branchwise.search import Root, SearchSettings, search

Loaded at first use, so that importing one module of this package does not load the others.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ..envs.play.task import Root as Root
    from .array_tree import ArrayTree as ArrayTree
    from .engine import SearchStopped as SearchStopped
    from .engine import extend as extend
    from .engine import search as search
    from .evaluation import Mixed as Mixed
    from .evaluation import PolicyRollout as PolicyRollout
    from .evaluation import RandomRollout as RandomRollout
    from .evaluation import RankingCritic as RankingCritic
    from .evaluation import Repeated as Repeated
    from .evaluation import ValueFunction as ValueFunction
    from .resume import search_into as search_into
    from .selfplay import self_play as self_play
    from .settings import SearchSettings as SearchSettings
    from .store import load_pairs as load_pairs
    from .store import load_trees as load_trees
    from .store import save_pairs as save_pairs
    from .store import save_trees as save_trees
    from .tree import Tree as Tree

_HOMES: Final = {
    "..envs.play.task": ("Root",),
    ".array_tree": ("ArrayTree",),
    ".engine": ("SearchStopped", "extend", "search"),
    ".evaluation": ("Mixed", "PolicyRollout", "RandomRollout", "RankingCritic", "Repeated", "ValueFunction"),
    ".resume": ("search_into",),
    ".selfplay": ("self_play",),
    ".settings": ("SearchSettings",),
    ".store": ("load_pairs", "load_trees", "save_pairs", "save_trees"),
    ".tree": ("Tree",),
}
_HOME: Final = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_HOME[name], __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
