"""What a leaf is worth: the protocol, and the evaluators that need no model of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..envs.simulator import Simulator
from .transcript import Transcript


@dataclass(frozen=True, slots=True)
class Leaf:
    """A node to be valued. ``transcript`` ends with the observation of ``state``; the action that led here is its
    last agent turn. ``terminal`` leaves reach an evaluator only where the outcome is hidden from the search."""

    simulator: Simulator[Any]
    state: Any
    transcript: Transcript
    terminal: bool
    rng: np.random.Generator


class Evaluator(Protocol):
    calls: int

    def evaluate(self, leaves: Sequence[Leaf]) -> np.ndarray:
        """The expected return from each leaf on, for each player: float64 ``[leaves, players]``."""
        ...
