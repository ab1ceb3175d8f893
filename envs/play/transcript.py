"""What was said: the turns between an environment and an agent.

A transcript is a tuple of :class:`Turn`, oldest first: an observation (``role="user"``), the agent's action
(``role="assistant"``), the next observation, and so on. Token masks and logged reference log-probabilities are taken
from here, never from scanning token ids (``methods``: Agent Q's replay buffer, M-DPO's masks).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from ..promises import shown
from ..simulator import Simulator

Role = Literal["system", "user", "assistant"]
ROLES: Final = get_args(Role)


@dataclass(frozen=True, slots=True)
class Turn:
    """One message.

    ``token_ids`` and ``logps`` (one log-probability a token, float, natural logarithm) are filled where a local model
    sampled or scored the turn. ``is_agent`` marks text to train on.
    """

    role: Role
    text: str
    is_agent: bool = False
    token_ids: tuple[int, ...] = ()
    logps: tuple[float, ...] = ()


Transcript = tuple[Turn, ...]


def observed(text: str) -> Turn:
    """A turn in which the environment speaks."""
    return Turn("user", text)


def acted(text: str, token_ids: tuple[int, ...] = (), logps: tuple[float, ...] = ()) -> Turn:
    """A turn in which the agent acts."""
    return Turn("assistant", text, True, token_ids, logps)


def messages(transcript: Sequence[Turn]) -> list[dict[str, str]]:
    """The turns as chat messages, ``{"role": …, "content": …}``, as tokenizers' chat templates and TRL take them."""
    return [{"role": turn.role, "content": turn.text} for turn in transcript]


def said(simulator: Simulator[Any], state: Any, player: int | None = None) -> str:
    """What is observed in a state by ``player``; by default who is to move there (at ends and chance nodes player 0).
    Raises TypeError where that is no text."""
    if simulator.players == 1:
        text: Any = simulator.observation(state)
    else:
        text = simulator.observation(state, max(simulator.current_player(state), 0) if player is None else player)
    if not isinstance(text, str):
        raise TypeError(f"{type(simulator).__name__}.observation gave {shown(text)}; return a text (str)")
    return text


def known(simulator: Simulator[Any], state: Any, player: int) -> str:
    """All that ``player`` knows in a state. Raises TypeError where that is no text."""
    text: Any = simulator.information_state(state, player)
    if not isinstance(text, str):
        raise TypeError(f"{type(simulator).__name__}.information_state gave {shown(text)}; return a text (str)")
    return text
