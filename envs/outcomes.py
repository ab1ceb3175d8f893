"""The same rules with another reward: 1 for success, 0 otherwise.

Search with graded rewards is drawn to safe half-successes; Agent Q (arXiv:2408.07199, section 3) and most of its kin
search for the outcome R ∈ {0, 1}. The transform is explicit, and the environment that an agent is judged in keeps its
own reward.
"""

from typing import Any

from .simulator import TERMINAL, Simulator


class SuccessOutcome:
    """``simulator`` with a reward of 1 on entering a terminal state of success, and 0 elsewhere; single-player.

    All else is the simulator's own, methods beyond the protocol included.
    """

    def __init__(self, simulator: Simulator[Any]) -> None:
        if simulator.players != 1:
            raise ValueError(f"{simulator.players} players; success as an outcome is defined for one")
        self._simulator = simulator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._simulator, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return SuccessOutcome, (self._simulator,)

    def rewards(self, state: Any) -> tuple[float, ...]:
        """``(1.0,)`` or ``(0.0,)``."""
        ended = self._simulator.current_player(state) == TERMINAL
        return (float(ended and self._simulator.info(state)["success"]),)
