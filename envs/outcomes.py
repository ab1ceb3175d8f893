"""The same rules with another reward: 1 for success, 0 or −1 for failure.

Search with graded rewards is drawn to safe half-successes; Agent Q (arXiv:2408.07199, section 3) and most of its kin
search for the outcome R ∈ {0, 1}; MCTS-DPO (arXiv:2405.00451) and the step-level Q-value models (arXiv:2409.09345) give
failures −1. The transform is explicit, and the environment that an agent is judged in keeps its own reward.
"""

from typing import Any

from .simulator import TERMINAL, Simulator


class SuccessOutcome:
    """``simulator`` with a reward of 1 on entering a terminal state of success, ``failure`` on entering another, and 0
    elsewhere; single-player.

    All else is the simulator's own, methods beyond the protocol included, but not compiled rules, which pay the
    simulator's own rewards.
    """

    rules = None

    def __init__(self, simulator: Simulator[Any], failure: float = 0.0) -> None:
        if simulator.players != 1:
            raise ValueError(f"{simulator.players} players; success as an outcome is defined for one")
        self._simulator = simulator
        self._failure = failure

    def __getattr__(self, name: str) -> Any:
        return getattr(self._simulator, name)

    @property
    def unwrapped(self) -> Simulator[Any]:
        """The simulator inside all wrappers, for players who know one game's rules."""
        return getattr(self._simulator, "unwrapped", self._simulator)

    def __reduce__(self) -> tuple[Any, ...]:
        return SuccessOutcome, (self._simulator, self._failure)

    def rewards(self, state: Any) -> tuple[float, ...]:
        """What the step into ``state`` earned; shape ``[1]``."""
        if self._simulator.current_player(state) != TERMINAL:
            return (0.0,)
        return (1.0 if self._simulator.info(state)["success"] else self._failure,)
