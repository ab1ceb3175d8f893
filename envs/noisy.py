"""A verifier that errs: a single-player simulator whose success is reported wrongly now and then.

With probability ``noise`` the verdict at the end of an episode is flipped: :class:`NoisyVerdict` adds a chance node
after the last action, so that a search, a roll-out and a sampled episode each draw a verdict of their own, and whoever
averages several of them sees through the noise. Rewards of the steps are those of the inner simulator; with
``wrappers.SuccessOutcome`` around it the verdict is what is paid.

What it does not do: verdicts that err alike each time they are asked for the same episode.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from .simulator import CHANCE, TERMINAL, Simulator
from .views import without_view
from .wrappers import Wrapper

STANDS: Final = "verdict stands"
FLIPPED: Final = "verdict flipped"


class Judged(NamedTuple):
    """The inner simulator's state, and the verdict: empty before there is one, else what luck made of it."""

    inner: Any
    verdict: str = ""


class NoisyVerdict(Wrapper):
    """``simulator`` with a verdict that is flipped with probability ``noise`` (above 0, below 0.5)."""

    def __init__(self, simulator: Simulator[Any], noise: float) -> None:
        if simulator.players != 1:
            raise ValueError(f"{simulator.players} players; a verdict that errs is defined for one")
        if not 0.0 < noise < 0.5:
            raise ValueError(f"noise={noise}; expected a probability above 0 and below 0.5")
        super().__init__(simulator)
        self.noise = noise

    def reset(self, seed: int, options: Any = None) -> Judged:
        return Judged(self.simulator.reset(seed, options))

    def _awaits_verdict(self, state: Judged) -> bool:
        return not state.verdict and self.simulator.current_player(state.inner) == TERMINAL

    def current_player(self, state: Judged) -> int:
        return CHANCE if self._awaits_verdict(state) else self.simulator.current_player(state.inner)

    def chance_outcomes(self, state: Judged) -> Sequence[tuple[str, float]]:
        """At the end the verdict; before it whatever luck the inner simulator has."""
        if self._awaits_verdict(state):
            return (STANDS, 1.0 - self.noise), (FLIPPED, self.noise)
        return self.simulator.chance_outcomes(state.inner)

    def step(self, state: Judged, action: str) -> Judged:
        """The state after ``action``; a judged episode stays as it is, and one that waits for its verdict takes nothing
        else."""
        if state.verdict:
            return state
        if self._awaits_verdict(state):
            return state._replace(verdict=action) if action in (STANDS, FLIPPED) else state
        return Judged(self.simulator.step(state.inner, action))

    def rewards(self, state: Judged) -> tuple[float, ...]:
        """Those of the inner simulator; that of the last action is paid with the verdict."""
        return (0.0,) if self._awaits_verdict(state) else self.simulator.rewards(state.inner)

    def info(self, state: Judged) -> dict[str, Any]:
        found = self.simulator.info(state.inner)
        return {**found, "success": bool(found["success"]) != (state.verdict == FLIPPED)}

    def observation(self, state: Judged, player: int = 0) -> str:
        return self.simulator.observation(state.inner, player)

    def legal_actions(self, state: Judged) -> Sequence[str] | None:
        return self.simulator.legal_actions(state.inner)

    def truncated(self, state: Judged) -> bool:
        return bool(state.verdict) and self.simulator.truncated(state.inner)

    def admissible_commands(self, state: Judged) -> list[str] | None:
        return self.simulator.admissible_commands(state.inner)

    def position(self, state: Judged) -> Hashable:
        return self.simulator.position(state.inner), state.verdict

    def information_state(self, state: Judged, player: int = 0) -> str:
        return self.simulator.information_state(state.inner, player)

    def resample(self, state: Judged, player: int, rng: Any) -> Judged:
        return state._replace(inner=self.simulator.resample(state.inner, player, rng))

    def behind_view(self, state: Judged) -> tuple[Simulator[Any], Any]:
        """The inner simulator and its state, for players by rule."""
        return without_view(self.simulator, state.inner)

    def __getattr__(self, name: str) -> Any:
        """What the inner simulator offers beyond the protocol, asked of the inner state. Success is in :meth:`info`."""
        if name == "success":
            raise AttributeError(f"{type(self).__name__} has no success beside its info")
        offered = super().__getattr__(name)
        return partial(_of_inner, offered) if name in _OF_STATES else offered


_OF_STATES: Final = frozenset(
    (
        *("suggested_actions", "outcome_figures", "array", "svg", "moves_seen", "optimal_values", "action_indices"),
        *("numbered_actions", "lists_all", "simultaneous_players"),
    )
)


def _of_inner(offered: Callable[..., Any], state: Judged, *others: Any) -> Any:
    return offered(state.inner, *others)
