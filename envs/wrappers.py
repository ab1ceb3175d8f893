"""Simulators around a simulator: a wrapper states what it changes, and all else is the inner simulator's.

:class:`ListedActions` lists actions where any text may be an answer; :class:`SuccessOutcome` pays for success alone.
Both are a :class:`Wrapper`, which anybody may subclass: it passes on the methods of the protocol, what the simulator
declares (``players``, ``zero_sum``, ``hides``), and whatever it offers beyond the protocol (``abilities``).

Not handled here: another state than the inner simulator's, as the view of one player has (``views``).
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from .abilities import hides, suggested_actions
from .promises import checked_fact
from .simulator import TERMINAL, Simulator


class Wrapper(Simulator[Any]):
    """``simulator`` as it is, for a subclass to change.

    Compiled rules are not passed on, since they know of no change; a subclass that leaves steps, legal actions and
    rewards as they are may declare them.
    """

    rules: Any = None

    def __init__(self, simulator: Simulator[Any]) -> None:
        self.simulator = simulator
        self.players = simulator.players
        self.zero_sum = getattr(simulator, "zero_sum", False)
        self.hides = hides(simulator)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "simulator":  # asked for before there is one: pickle and copy do
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.simulator, name)

    @property
    def unwrapped(self) -> Simulator[Any]:
        """The simulator inside all wrappers, for players who know one game's rules."""
        return getattr(self.simulator, "unwrapped", self.simulator)

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> Any:
        return self.simulator.reset(seed, options)

    def current_player(self, state: Any) -> int:
        return self.simulator.current_player(state)

    def observation(self, state: Any, player: int = 0) -> str:
        return self.simulator.observation(state, player)

    def legal_actions(self, state: Any) -> Sequence[str] | None:
        return self.simulator.legal_actions(state)

    def step(self, state: Any, action: str) -> Any:
        return self.simulator.step(state, action)

    def rewards(self, state: Any) -> tuple[float, ...]:
        return self.simulator.rewards(state)

    def truncated(self, state: Any) -> bool:
        return self.simulator.truncated(state)

    def info(self, state: Any) -> dict[str, Any]:
        return self.simulator.info(state)

    def admissible_commands(self, state: Any) -> list[str] | None:
        return self.simulator.admissible_commands(state)

    def position(self, state: Any) -> Hashable:
        return self.simulator.position(state)

    def chance_outcomes(self, state: Any) -> Sequence[tuple[str, float]]:
        return self.simulator.chance_outcomes(state)

    def information_state(self, state: Any, player: int = 0) -> str:
        return self.simulator.information_state(state, player)

    def resample(self, state: Any, player: int, rng: np.random.Generator) -> Any:
        return self.simulator.resample(state, player, rng)


class ListedActions(Wrapper):
    """``simulator`` with ``legal_actions`` that are never ``None``: where any text may be an answer, those that
    ``abilities.suggested_actions`` suggests.

    A search without a language model draws from this list: an offer's terms without its message, a search field filled
    with phrases that were read. The best answer may not be in it.
    """

    @property
    def rules(self) -> Any:  # type: ignore[override]
        """The simulator's compiled rules, which list all actions; ``None`` where it has none."""
        return getattr(self.simulator, "rules", None)

    def legal_actions(self, state: Any) -> Sequence[str]:
        """The legal actions, or the suggested ones; none at the end."""
        if self.simulator.current_player(state) == TERMINAL:
            return ()
        return suggested_actions(self.simulator, state)

    def lists_all(self, state: Any) -> bool:
        """Whether :meth:`legal_actions` are all that may be said, and no mere suggestions."""
        return self.simulator.legal_actions(state) is not None


class SuccessOutcome(Wrapper):
    """``simulator`` with a reward of 1 on entering a terminal state of success, ``failure`` on entering another, and 0
    elsewhere; single-player.

    Search with graded rewards is drawn to safe half-successes; Agent Q (arXiv:2408.07199, section 3) and most of its
    kin search for the outcome R ∈ {0, 1}; MCTS-DPO (arXiv:2405.00451) and the step-level Q-value models
    (arXiv:2409.09345) give failures −1. The environment that an agent is judged in keeps its own reward.
    """

    def __init__(self, simulator: Simulator[Any], failure: float = 0.0) -> None:
        if simulator.players != 1:
            raise ValueError(f"{simulator.players} players; success as an outcome is defined for one")
        super().__init__(simulator)
        self.failure = failure

    def rewards(self, state: Any) -> tuple[float, ...]:
        """What the step into ``state`` earned; shape ``[1]``."""
        if self.simulator.current_player(state) != TERMINAL:
            return (0.0,)
        return (1.0 if checked_fact(self.simulator, state, "success") else self.failure,)
