"""Which settings of a search suit the rules of an environment.

Hidden information is searched over information sets of the player to move (``information.py``), values scaled to [0, 1]
by the tree's bounds, since games of cards pay in chips; with that scale an exploration of 5 serves. All else are the
defaults of :class:`SearchSettings`.

The command ``branchwise search`` and the players called ``mcts`` all ask here.
"""

from typing import Any

from ..envs.abilities import hides
from ..envs.simulator import Simulator


def suited_settings(simulator: Simulator[Any]) -> dict[str, Any]:
    """The fields of :class:`SearchSettings` that should differ from their defaults in these rules."""
    if not hides(simulator):
        return {}
    return {"information": "single_observer", "normalise": "tree", "exploration": 5.0}
