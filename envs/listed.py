"""The same rules with a list of actions everywhere: where any text may be an answer, those that ``abilities`` suggests.

A search without a language model draws from this list: an offer's terms without its message, a search field filled with
phrases that were read. The best answer may not be in it.
"""

from collections.abc import Sequence
from typing import Any

from .abilities import suggested_actions
from .simulator import TERMINAL, Simulator


class ListedActions:
    """``simulator`` with ``legal_actions`` that are never ``None``.

    All else is the simulator's own, methods beyond the protocol included.
    """

    def __init__(self, simulator: Simulator[Any]) -> None:
        self._simulator = simulator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._simulator, name)

    @property
    def unwrapped(self) -> Simulator[Any]:
        """The simulator inside all wrappers, for players who know one game's rules."""
        return getattr(self._simulator, "unwrapped", self._simulator)

    def __reduce__(self) -> tuple[Any, ...]:
        return ListedActions, (self._simulator,)

    def legal_actions(self, state: Any) -> Sequence[str]:
        """The legal actions, or the suggested ones; none at the end."""
        if self._simulator.current_player(state) == TERMINAL:
            return ()
        return suggested_actions(self._simulator, state)

    def lists_all(self, state: Any) -> bool:
        """Whether :meth:`legal_actions` are all that may be said, and no mere suggestions."""
        return self._simulator.legal_actions(state) is not None
