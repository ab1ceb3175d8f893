"""Single answers of a simulator, checked before anything is built on them.

What a simulator answers comes from outside: a reward that is NaN, infinite or too large for a node record (float32), a
player whom the game does not have, and outcomes that are no distribution raise ``ValueError`` with the method and the
cure. Promises of one answer in words are in ``promises.py``.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from .opponents import draw_from
from .promises import Fault, fault_of_player, fault_of_rewards, shown
from .simulator import TERMINAL, Simulator

LARGEST: Final = float(np.finfo(np.float32).max)
"""The largest number that a search takes from outside, of either sign: what float32 holds, in which priors, rewards and
hints are kept; sums of 2³¹ of them are finite in float64."""


def checked_player(simulator: Simulator[Any], state: Any) -> int:
    """``simulator.current_player(state)``. Raises ValueError for a player whom the game does not have."""
    player = simulator.current_player(state)
    if type(player) is not int or not TERMINAL <= player < simulator.players:  # the usual answer costs no call
        _raise(simulator, fault_of_player(player, simulator.players))
    return player


def checked_rewards(simulator: Simulator[Any], state: Any) -> Sequence[float]:
    """``simulator.rewards(state)``: one finite number a player, up to ±3.4e38. Raises ValueError for others."""
    rewards = simulator.rewards(state)
    if type(rewards) is not tuple or len(rewards) != simulator.players:
        _raise(simulator, fault_of_rewards(rewards, simulator.players))
    try:
        for reward in rewards:  # by all() this would be a tenth of a step of a roll-out
            if not -LARGEST <= reward <= LARGEST:
                break
        else:
            return rewards
    except TypeError:  # they are no numbers
        pass
    raise ValueError(
        f"{type(simulator).__name__}.rewards gave {shown(rewards)}; return a finite number of at most 3.4e38 for"
        f" each of {simulator.players} players"
    )


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
