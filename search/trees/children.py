"""The children that a node is to get, as lists side by side that are passed whole."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(slots=True)
class Children:
    """One entry a child in each: its action, the state that it leads to (None where the simulator was not stepped),
    prior, log-probability of the action under the policy, reward of who acts (or of all players), flags of the node,
    the state's position (none: not known yet), and who moves there (None: player 0 in all)."""

    actions: Sequence[str]
    states: Sequence[Any]
    priors: np.ndarray
    logps: Sequence[float]
    rewards: Sequence[Any] | np.ndarray
    flags: Sequence[int]
    positions: Sequence[Hashable] = ()
    players: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.actions)

    def in_order(self, order: Sequence[int]) -> "Children":
        """These children in another order."""

        def moved(beside: Sequence[Any]) -> list[Any]:
            return [beside[i] for i in order]

        return Children(
            moved(self.actions),
            moved(self.states),
            self.priors[order],
            moved(self.logps),
            moved(self.rewards),  # type: ignore[arg-type]
            moved(self.flags),
            moved(self.positions) if self.positions else (),
            None if self.players is None else moved(self.players),
        )
