"""Where a deal stands among all deals: the Pareto front and the solution points of cooperative bargaining.

Everything here takes ``points``, float64 ``[n, 2]``: what each of n possible outcomes is worth to the two players, and
``disagreement``, what they get without a deal. With gains g = points − disagreement, among the outcomes that leave
nobody below disagreement:

- Nash point (Nash 1950): argmax g₁·g₂.
- Kalai–Smorodinsky point (Kalai and Smorodinsky 1975): the outcome that is best for the worse-off player when gains are
  measured by each player's largest possible gain, argmax min(g₁/g₁*, g₂/g₂*); on a convex set that is where the line
  from disagreement to the ideal point (g₁*, g₂*) leaves the set.
- Maximum welfare: argmax points₁ + points₂, over all outcomes; all of them, since in games over a price they are many.

Among equally good Nash or Kalai–Smorodinsky points the one with the larger sum counts, then the first. Sets are finite:
continuous ones are given by a grid. Not handled: more than two players, lotteries over outcomes.
"""

from typing import NamedTuple

import numpy as np

_NEARLY = 1e-9


class Solutions(NamedTuple):
    """The Pareto front, float64 ``[k, 2]``, by falling utility of the first player, and the solution points: Nash and
    Kalai–Smorodinsky float64 ``[2]`` (the disagreement point where no outcome leaves both with as much), welfare
    float64 ``[m, 2]``."""

    front: np.ndarray
    nash: np.ndarray
    kalai_smorodinsky: np.ndarray
    welfare: np.ndarray


def pareto_front(points: np.ndarray) -> np.ndarray:
    """Those of ``points`` that no other point dominates (at least as good for both, better for one): float64
    ``[k, 2]``, each once, by falling utility of the first player."""
    order = np.lexsort((-points[:, 1], -points[:, 0]))
    ordered = points[order]
    best_before = np.maximum.accumulate(np.concatenate([[-np.inf], ordered[:-1, 1]]))
    return ordered[ordered[:, 1] > best_before]


def is_pareto_optimal(point: np.ndarray | tuple[float, float], points: np.ndarray) -> bool:
    """Whether none of ``points`` is at least as good for both players as ``point`` and better for one (by 1e-9)."""
    differences = points - np.asarray(point)
    return not bool(np.any(np.all(differences >= -_NEARLY, axis=1) & np.any(differences > _NEARLY, axis=1)))


def solutions(points: np.ndarray, disagreement: np.ndarray | tuple[float, float]) -> Solutions:
    """All solution points at once."""
    none = np.asarray(disagreement, dtype=np.float64)
    totals = points.sum(axis=1)
    welfare = points[totals >= totals.max() - _NEARLY]
    rational = points[np.all(points >= none - _NEARLY, axis=1)]
    if not len(rational):
        return Solutions(pareto_front(points), none, none, welfare)
    gains = np.maximum(rational - none, 0.0)
    sums = rational.sum(axis=1)
    ideal = gains.max(axis=0)
    scaled = gains / np.where(ideal > _NEARLY, ideal, 1.0)
    scaled[:, ideal <= _NEARLY] = np.inf  # a player who cannot gain does not hold the other back
    worst = np.minimum(scaled.min(axis=1), 1.0)
    nash, kalai = rational[_best(gains.prod(axis=1), sums)], rational[_best(worst, sums)]
    return Solutions(pareto_front(points), nash, kalai, welfare)


def _best(values: np.ndarray, sums: np.ndarray) -> int:
    """Index of the largest value; among equals that with the largest sum, then the first."""
    equal = np.flatnonzero(values >= values.max() - _NEARLY)
    return int(equal[np.argmax(sums[equal])])
