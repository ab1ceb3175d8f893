"""An action drawn from log-probabilities: softmax(log π / temperature)."""

import math

import numpy as np
from numba import njit


def sampled(logps: np.ndarray, temperature: float, rng: np.random.Generator, count: int | None = None) -> int:
    """An index drawn from softmax(logps / temperature); the first of the largest where the temperature is 0.

    Raises ValueError where ``logps`` (float ``[k]``) are no log-probabilities: NaN, +inf, or none above −inf; and where
    there are not ``count`` of them.
    """
    logps = np.array(logps, np.float64)
    if count is not None and logps.shape != (count,):
        raise ValueError(f"the policy gave log-probabilities of shape {logps.shape} for {count} candidates")
    if not usable(logps):
        raise ValueError(
            f"the policy gave log-probabilities that are NaN, infinite or all zero probability: {logps[:8]}"
        )
    return int(logps.argmax()) if temperature == 0.0 else drawn(logps, float(temperature), rng.random())


@njit(cache=True)
def usable(logps: np.ndarray) -> bool:
    """Whether float64 ``[k]`` log-probabilities make a distribution: none NaN or +inf, and at least one above −inf."""
    possible = False
    for logp in logps:
        if not logp < np.inf:
            return False
        possible = possible or logp > -np.inf
    return possible


@njit(cache=True)
def drawn(logps: np.ndarray, temperature: float, uniform: float) -> int:
    """The index at which the cumulated softmax(logps / temperature) passes ``uniform`` (in [0, 1)).

    ``logps``: float64 ``[k]``, k ≥ 1, :func:`usable`. An index of probability zero is never returned.
    """
    largest = logps.max()
    total = 0.0
    for logp in logps:
        total += math.exp((logp - largest) / temperature)
    passed = 0.0
    last = 0
    for i in range(logps.shape[0]):
        weight = math.exp((logps[i] - largest) / temperature)
        if weight > 0.0:
            last = i
            passed += weight
            if passed > uniform * total:
                return i
    return last
