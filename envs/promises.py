"""What a simulator promises of a single answer, as functions that say what is wrong with one and how to mend it.

Searches look at their first step by these, ``branchwise.testing.check_simulator`` at every step of whole episodes.
:func:`checked_fact` reads one that is true or false.
Promises about several answers (equal states behave alike, steps are pure) are in ``testing.py``.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .simulator import CHANCE, TERMINAL, Simulator


class Fault(NamedTuple):
    """What is wrong with an answer, and the cure."""

    what: str
    cure: str


def is_fact(value: Any) -> bool:
    """Whether ``value`` is true or false: a bool, NumPy's too, or 1 or 0."""
    return isinstance(value, bool | np.bool_ | int) and value in (0, 1)


def checked_fact(simulator: Simulator[Any], state: Any, name: str) -> bool:
    """``simulator.info(state)[name]``. Raises ValueError where it is not there, or neither true nor false."""
    info = simulator.info(state)
    if not isinstance(info, Mapping) or name not in info or not is_fact(info[name]):
        raise ValueError(
            f"{type(simulator).__name__}.info gave {shown(info)}; return a dict in which {name!r} is True or False"
        )
    return bool(info[name])


def fault_of_players(simulator: Any) -> Fault | None:
    """Of the attribute ``players``: a whole number from 1."""
    players = getattr(simulator, "players", None)
    if isinstance(players, int | np.integer) and not isinstance(players, bool) and players >= 1:
        return None
    return Fault(f"players is {shown(players)}", f"set {type(simulator).__name__}.players to their number, from 1")


def fault_of_state(simulator: Simulator[Any], state: Any) -> Fault | None:
    """Of a state, and of its position: hashable. Raises what ``position`` raises."""
    if not _hashable(state):
        cure = "use a tuple, a NamedTuple or a frozen dataclass of tuples, texts and numbers"
        return Fault(f"the state {shown(state)} is not hashable", cure)
    position = simulator.position(state)
    if not _hashable(position):
        return Fault(f"position gives {shown(position)}, which is not hashable", "return a tuple of what matters")
    return None


def fault_of_player(player: Any, players: int) -> Fault | None:
    """Of an answer of ``current_player`` in a game of ``players``."""
    if isinstance(player, int | np.integer) and (0 <= player < players or player in (CHANCE, TERMINAL)):
        return None
    numbers = "0" if players == 1 else f"0 to {players - 1}"
    return Fault(
        f"current_player gives {shown(player)} with players={players}", f"return {numbers}, CHANCE or TERMINAL"
    )


def fault_of_actions(actions: Any) -> Fault | None:
    """Of an answer of ``legal_actions``: None, or a list or tuple of different texts."""
    if actions is None:
        return None
    if not isinstance(actions, Sequence) or isinstance(actions, str):
        return Fault(
            f"legal_actions gives {shown(actions)}", "return a list or a tuple of texts; None where any text goes"
        )
    if set(map(type, actions)) - {str}:
        wrong = [action for action in actions if not isinstance(action, str)]
        if wrong:
            return Fault(f"legal_actions has {shown(wrong[0])}", "an action is a text (str); turn others into texts")
    if len(set(actions)) < len(actions):
        twice = Counter(actions).most_common(1)[0][0]
        return Fault(f"legal_actions has {twice!r} twice", "list an action once")
    return None


def fault_of_rewards(rewards: Any, players: int) -> Fault | None:
    """Of an answer of ``rewards``: one number a player, in their order."""
    if not isinstance(rewards, str | Mapping | set) and np.shape(rewards) == (players,):
        return None
    example = f"({', '.join(['0.0'] * players)}{',' * (players == 1)})"
    return Fault(f"rewards gives {shown(rewards)} with players={players}", f"return one number a player, as {example}")


def shown(value: Any) -> str:
    """A value as a message can show it: its start, and its type."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = "something"
    return f"{text[:80]}{'…' * (len(text) > 80)} ({type(value).__name__})"


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
