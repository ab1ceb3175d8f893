"""One step of a simulator, looked at before anything of it enters a tree.

What a simulator says comes from outside: a reward that is NaN, infinite or too large for the node record (float32), and
a player whom the game does not have, count as an exception of the step (``envs.checked``).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ...envs.checked import checked_player, checked_rewards
from ...envs.simulator import CHANCE, TERMINAL, Simulator
from .nodes import ENDED, OUTCOMES, VALUED


class Refused(ValueError):  # noqa: N818 - it is the settings that are refused
    """The simulator and the settings do not go together."""


class StepRules(NamedTuple):
    """What a tree keeps of a step: ``one_number`` the reward of who acts, else those of all players; nothing of the
    outcome where it is ``hidden``. ``proofs``: of wins, draws and losses, which need rewards of ±1 and 0."""

    one_number: bool
    zero_sum: bool
    hidden: bool
    proofs: bool

    def no_reward(self, players: int) -> Any:
        """What is kept where nothing was earned, or is known."""
        return 0.0 if self.one_number else [0.0] * players


class Stepped(NamedTuple):
    """What an action leads to: the state, who moves there, the node's flags, and the reward of who acted, or of all."""

    state: Any
    player: int
    flags: int
    reward: Any


def stepped(simulator: Simulator[Any], before: Any, action: str, chooser: int, rules: StepRules) -> Stepped:
    """What ``action``, taken by ``chooser`` in ``before``, leads to. Raises what the simulator raises, ValueError for
    numbers that no tree can hold, and :class:`Refused` where game and settings do not go together."""
    state = simulator.step(before, action)
    player = checked_player(simulator, state)
    over = player == TERMINAL
    flags = 0
    if over:
        flags = ENDED if rules.hidden else ENDED | VALUED
    elif player == CHANCE:
        flags = OUTCOMES
    if rules.hidden:
        return Stepped(state, player, flags, rules.no_reward(simulator.players))
    rewards = checked_rewards(simulator, state)
    if not rules.one_number:
        return Stepped(state, player, flags, rewards)
    if rules.zero_sum:
        _check_interests(simulator, rewards, over, rules.proofs)
    return Stepped(state, player, flags, float(rewards[chooser]))


def _check_interests(simulator: Simulator[Any], rewards: Sequence[float], over: bool, proofs: bool) -> None:
    name = type(simulator).__name__
    if abs(rewards[0] + rewards[1]) > 1e-6:
        raise Refused(f"{name} says that it is zero-sum, and pays {rewards}")
    if proofs and (rewards[0] not in (-1.0, 0.0, 1.0) or (rewards[0] and not over)):
        raise Refused(
            f"solve=True proves wins, draws and losses, and {name} pays {rewards}"
            f"{' in the end' if over else ' before the end'}; set solve=False"
        )
