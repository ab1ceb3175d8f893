"""Who acts: an agent takes a batch of states with what was said in each, and gives one decision for each.

An agent reads transcripts and the simulator's legal actions. Only agents that search step the simulator, and only
from the states that they are given. Every state of a batch comes with its own generator, so that an episode's outcome
does not depend on which others it is played beside."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..simulator import Simulator
from .transcript import Transcript


@dataclass(frozen=True, slots=True)
class Decision:
    """An action, and how many model calls it cost: sampled actions and scored prompts (remembered answers count;
    scripted agents cost none)."""

    action: str
    model_calls: int


class Agent(Protocol):
    """``name`` is what tables call the agent."""

    name: str

    def act(
        self,
        simulator: Simulator[Any],
        states: Sequence[Any],
        transcripts: Sequence[Transcript],
        rngs: Sequence[np.random.Generator],
    ) -> list[Decision]:
        """One decision for each state; ``transcripts`` end with the observations of the states."""
        ...
