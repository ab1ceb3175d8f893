"""Games in which all players move as their own search says, a tree for each decision (AlphaZero, arXiv 1712.01815).

All games go on side by side (``envs.play.playing``), so that the trees of one turn share their batches. Each player's
tree begins with what that player saw and did; what the others know waits at the root (``Tree.before_root``). The move
that is played is drawn in proportion to visits^(1/temperature) among what is not proven worse, so that games part.

Trees are not kept from one decision to the next: with a root of its own each gets its own noise and its full budget.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..envs.play.playing import Playing, play
from ..envs.play.policy import Policy
from ..envs.play.task import start
from ..envs.simulator import Simulator
from .answers import action
from .engine import search
from .evaluation import Evaluator
from .settings import SearchSettings
from .trees.tree import Tree


def self_play(
    simulator: Simulator[Any],
    tasks: Sequence[Mapping[str, Any]],
    policy: Policy | None,
    evaluator: Evaluator,
    settings: SearchSettings,
    rngs: Sequence[np.random.Generator],
    temperature: float = 1.0,
) -> list[Tree]:
    """Play ``tasks`` (one generator each) to their ends; the trees of all decisions, in the order in which they were
    made. Raises what ``engine.search`` raises."""
    trees: list[Tree] = []
    roots = [start(simulator, task) for task in tasks]
    games = [
        Playing(simulator, root.state, rng, root.transcript, number)
        for number, (root, rng) in enumerate(zip(roots, rngs, strict=True))
    ]

    def decide(running: Sequence[Playing]) -> list[str]:
        found = search(
            simulator,
            [game.root(tasks[game.number]) for game in running],
            policy,
            evaluator,
            settings,
            [game.rng for game in running],
        )
        for tree in found:
            tree.index = len(trees)
            trees.append(tree)
        return [action(tree, "temperature", temperature, game.rng) for tree, game in zip(found, running, strict=True)]

    for _ in play(games, decide):
        pass
    return trees
