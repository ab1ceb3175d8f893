"""What a search needs to know of an environment before it starts: which settings suit its rules, and where it begins.

Hidden information is searched over information sets of the player to move (``information.py``), values scaled to [0, 1]
by the tree's bounds, since games of cards pay in chips; with that scale an exploration of 5 serves. All else are the
defaults of :class:`SearchSettings`. An episode that begins with luck (cards are dealt) is searched from the first
decision: :func:`deal` draws the luck, and :func:`start` makes the same state again from the task.

The command ``branchwise search`` and the players called ``mcts`` all ask here.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..envs.abilities import hides
from ..envs.opponents import draw_outcome, past_chance
from ..envs.simulator import Simulator


def suited_settings(simulator: Simulator[Any]) -> dict[str, Any]:
    """The fields of :class:`SearchSettings` that should differ from their defaults in these rules."""
    if not hides(simulator):
        return {}
    return {"information": "single_observer", "normalise": "tree", "exploration": 5.0}


def deal(simulator: Simulator[Any], task: Mapping[str, Any]) -> list[str]:
    """The outcomes of the luck before the first decision of the episode ``task``, drawn from its seed."""
    state = simulator.reset(int(task["seed"]), task.get("options"))
    rng = np.random.default_rng(int(task["seed"]))
    dealt: list[str] = []

    def draw(state: Any) -> str:
        dealt.append(draw_outcome(simulator, state, rng))
        return dealt[-1]

    past_chance(simulator, state, draw)
    return dealt


def start(simulator: Simulator[Any], task: Mapping[str, Any]) -> Any:
    """The state at which the search of ``task`` begins: ``seed`` and ``options`` of its reset, then the outcomes in
    ``dealt``, where it has some."""
    state = simulator.reset(int(task["seed"]), task.get("options"))
    for outcome in task.get("dealt", ()):
        state = simulator.step(state, outcome)
    return state
