"""The learner of the credit benchmark: a table of logits trained by full-batch Adam on all rows at once.

Preferences and imitation, with h the difference of a pair's log-ratios, each summed over a side's actions,

    mean over pairs − log σ(β h)  +  λ · mean over chosen actions − log π(a | s),

of which only the second term is there without pairs; the reference is the base policy. Advantages, with ρ = π / π_base
of an action,

    mean over rows − min(ρ A, clip(ρ, 1 − ε_low, 1 + ε_high) A).

What it does not do: batches, weights of pairs, a penalty for KL.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .labels import Labels, PlacedPair, Places

BETA: Final = 0.3
LIKELIHOOD_WEIGHT: Final = 1.0
CLIP: Final = (0.5, 1.0)
"""ε_low and ε_high: the ratio stays between a half and two. The recipes' 0.2 is made for many small updates; here one
batch is all that is trained on."""
RATES: Final = (0.1, 0.3, 1.0)
"""Logits that a first step moves. Adam's first step is a sign, whatever the weight of a label, so the larger the rate,
the less it matters how often an action was labelled."""
ITERATIONS: Final = (3, 10, 30, 100, 300)
"""After how many steps a table is looked at."""
_BETAS: Final = (0.9, 0.999)
_SMALL: Final = 1e-8

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Preferences:
    """``differences``: float64 ``[pairs, entries]``, how often the chosen side took an action less how often the
    rejected one did; ``likelihood``: float64 ``[entries]``, the share of each among all chosen actions. Entries are
    those of the flattened table."""

    differences: Array
    likelihood: Array
    beta: float = BETA
    weight: float = LIKELIHOOD_WEIGHT

    def gradient(self, log_ratios: Array) -> Array:
        """Of the loss for the log-probabilities, ``[tables, entries]``, from ``log_ratios`` to the base."""
        found = np.tile(-self.weight * self.likelihood, (len(log_ratios), 1))
        if len(self.differences):
            h = self.beta * log_ratios @ self.differences.T
            pull = self.beta / (1.0 + np.exp(np.clip(h, -60.0, 60.0)))
            found -= pull @ self.differences / len(self.differences)
        return found


@dataclass(frozen=True, slots=True)
class Advantages:
    """``gains`` and ``losses``: float64 ``[entries]``, the sums of the positive and of the negative advantages of each
    action, divided by the number of rows."""

    gains: Array
    losses: Array
    clip: tuple[float, float] = CLIP

    def gradient(self, log_ratios: Array) -> Array:
        """As :meth:`Preferences.gradient`."""
        ratio = np.exp(log_ratios)
        low, high = self.clip
        return -ratio * (self.gains * (ratio < 1.0 + high) + self.losses * (ratio > 1.0 - low))


Problem = Preferences | Advantages


def preferences(pairs: Sequence[PlacedPair], shape: tuple[int, ...]) -> Preferences:
    """What ``pairs`` ask of a table of ``shape`` ``[keys, horizon, 2, branching]``."""
    size = int(np.prod(shape))
    chosen = [_counts(pair.chosen, shape) for pair in pairs]
    differences = [
        count - _counts(pair.rejected, shape)
        for count, pair in zip(chosen, pairs, strict=True)
        if len(pair.rejected)
    ]  # fmt: skip
    total = np.sum(chosen, axis=0) if chosen else np.zeros(size)
    return Preferences(np.array(differences).reshape(-1, size), total / max(total.sum(), 1.0))


def advantages(labels: Labels, shape: tuple[int, ...], clip: tuple[float, float] = CLIP) -> Advantages:
    """What actions with advantages ask of a table of ``shape``."""
    rows = max(len(labels.values), 1)
    gains, losses = (
        np.bincount(_entries(labels.places, shape), part, int(np.prod(shape))) / rows
        for part in (np.maximum(labels.values, 0.0), np.minimum(labels.values, 0.0))
    )
    return Advantages(gains, losses, clip)


def _entries(places: Places, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The numbers in the flattened table of actions, whatever their turn."""
    return np.ravel_multi_index(tuple(places[:, [0, 2, 3, 4]].T), shape)


def _counts(places: Places, shape: tuple[int, ...]) -> Array:
    return np.bincount(_entries(places, shape), minlength=int(np.prod(shape))).astype(np.float64)


def log_softmax(logits: Array) -> Array:
    """Over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def trained(
    base: Array, problem: Problem, rates: Sequence[float] = RATES, iterations: Sequence[int] = ITERATIONS
) -> Iterator[tuple[float, int, Array]]:
    """Rate, iterations and probabilities of each table trained from the ``base`` probabilities; the rates go side by
    side."""
    start = np.log(base)
    rate = np.array(rates).reshape(-1, *[1] * base.ndim)
    logits = np.tile(start, (len(rates), *[1] * base.ndim))
    first, second = np.zeros_like(logits), np.zeros_like(logits)
    for step in range(1, max(iterations) + 1):
        logps = log_softmax(logits)
        pull = problem.gradient((logps - start).reshape(len(rates), -1)).reshape(logits.shape)
        gradient = pull - np.exp(logps) * pull.sum(axis=-1, keepdims=True)
        first = _BETAS[0] * first + (1 - _BETAS[0]) * gradient
        second = _BETAS[1] * second + (1 - _BETAS[1]) * gradient**2
        scale = np.sqrt(second / (1 - _BETAS[1] ** step)) + _SMALL
        logits = logits - rate * (first / (1 - _BETAS[0] ** step)) / scale
        if step in iterations:
            for value, table in zip(rates, np.exp(log_softmax(logits)), strict=True):
                yield value, step, table
