"""One step of a simulator, looked at before anything of it enters a tree.

What a simulator says comes from outside: a reward that is NaN, infinite or too large for the node record (float32), and
a player whom the game does not have, count as an exception of the step. Chance outcomes are looked at in the same way.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..envs.opponents import draw_from
from ..envs.promises import Fault, fault_of_player, fault_of_rewards, shown
from ..envs.simulator import CHANCE, Simulator
from ..envs.simulator import TERMINAL as GAME_OVER
from .calls import LARGEST
from .nodes import OUTCOMES, TERMINAL, VALUED


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
    over = player == GAME_OVER
    flags = 0
    if over:
        flags = TERMINAL if rules.hidden else TERMINAL | VALUED
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


def checked_player(simulator: Simulator[Any], state: Any) -> int:
    """``simulator.current_player(state)``. Raises ValueError for a player whom the game does not have."""
    player = simulator.current_player(state)
    if type(player) is not int or not GAME_OVER <= player < simulator.players:  # the usual answer costs no call
        _raise(simulator, fault_of_player(player, simulator.players))
    return player


def checked_rewards(simulator: Simulator[Any], state: Any) -> Sequence[float]:
    """``simulator.rewards(state)``: one finite number a player, up to ±3.4e38. Raises ValueError for others."""
    rewards = simulator.rewards(state)
    if type(rewards) is not tuple or len(rewards) != simulator.players:
        _raise(simulator, fault_of_rewards(rewards, simulator.players))
    try:
        sound = all(-LARGEST <= reward <= LARGEST for reward in rewards)
    except TypeError:  # they are no numbers
        sound = False
    if not sound:
        raise ValueError(
            f"{type(simulator).__name__}.rewards gave {shown(rewards)}; return a finite number of at most 3.4e38 for"
            f" each of {simulator.players} players"
        )
    return rewards


def _raise(simulator: Simulator[Any], fault: Fault | None) -> None:
    if fault is not None:
        raise ValueError(f"{type(simulator).__name__}: {fault.what}; {fault.cure}")


def checked_outcomes(simulator: Simulator[Any], state: Any) -> tuple[list[str], np.ndarray]:
    """The outcomes of a chance node and their probabilities: float64 ``[outcomes]``, sum 1. Raises ValueError where
    they are none."""
    outcomes = simulator.chance_outcomes(state)
    probabilities = np.array([probability for _, probability in outcomes], np.float64)
    for name, _ in outcomes:
        if not isinstance(name, str):
            raise ValueError(
                f"{type(simulator).__name__}.chance_outcomes names an outcome {shown(name)}; an outcome is a text"
                " (str), as an action is: turn others into texts"
            )
    if not len(outcomes) or not abs(probabilities.sum() - 1.0) < 1e-6 or (probabilities < 0.0).any():
        raise ValueError(f"chance_outcomes gave probabilities {probabilities[:8]}; expected them to sum to 1")
    return [name for name, _ in outcomes], probabilities


def checked_outcome(simulator: Simulator[Any], state: Any, rng: np.random.Generator) -> str:
    """An outcome of a chance node, drawn by its probability. Raises ValueError as :func:`checked_outcomes`."""
    names, probabilities = checked_outcomes(simulator, state)
    return draw_from(zip(names, probabilities.tolist(), strict=True), rng)


def _check_interests(simulator: Simulator[Any], rewards: Sequence[float], over: bool, proofs: bool) -> None:
    name = type(simulator).__name__
    if abs(rewards[0] + rewards[1]) > 1e-6:
        raise Refused(f"{name} says that it is zero-sum, and pays {rewards}")
    if proofs and (rewards[0] not in (-1.0, 0.0, 1.0) or (rewards[0] and not over)):
        raise Refused(
            f"solve=True proves wins, draws and losses, and {name} pays {rewards}"
            f"{' in the end' if over else ' before the end'}; set solve=False"
        )
