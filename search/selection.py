"""Which child a simulation walks to: the score of a child under each published rule, as small numba functions.

Each function takes plain numbers, so that it can be read beside its paper and tested against a closed form; the walk
over the children lives in ``tree.py``. In all of them ``value`` is Q(s, a), the mean return of the child so far,
``visits`` its visit count N(s, a), ``parent_visits`` the visit count N(s) of the node that is left, ``exploration``
the constant c, and logarithms are natural. A parent that was never visited counts as visited once, so that log and
root are defined.

Which rule is which:

- ``ucb1``: Agent Q (arXiv 2408.07199, Eq. 7).
- ``uct``: Kocsis and Szepesvári (2006), as LATS and the step-level Q-value models write it.
- ``puct``: AlphaZero (arXiv 1712.01815) with a constant c; MCTS-DPO (arXiv 2405.00451).

Ties go to the child with the lowest index (the earliest in the simulator's order of actions, or of the policy's
proposals), so that a search is a function of its numbers alone.

Beside the rules: what turns a policy's log-probabilities into a prior (``mixed_prior``) and into a draw (``drawn``).

Not here: rules that look at more than one child at a time (regret matching, softmax over nodes).
"""

import math
from typing import Final, Literal

import numpy as np
from numba import njit

Selection = Literal["ucb1", "uct", "puct"]
UnvisitedValue = Literal["zero", "parent"]

UCB1: Final = 0
UCT: Final = 1
PUCT: Final = 2
SELECTION_CODES: Final[dict[str, int]] = {"ucb1": UCB1, "uct": UCT, "puct": PUCT}


@njit(cache=True)
def ucb1(value: float, visits: float, parent_visits: float, exploration: float) -> float:
    """Q + c · sqrt(log N(parent) / (1 + N(child))): Agent Q, Eq. 7. Defined for an unvisited child."""
    return value + exploration * math.sqrt(math.log(max(parent_visits, 1.0)) / (1.0 + visits))


@njit(cache=True)
def uct(value: float, visits: float, parent_visits: float, exploration: float, prior: float) -> float:
    """Q + c · sqrt(2 log N(parent) / N(child)): Kocsis and Szepesvári (2006).

    An unvisited child comes before every visited one; among unvisited children the larger prior comes first. The
    score of an unvisited child is therefore a number beyond the range of returns, 1e30 · (1 + prior).
    """
    if visits == 0.0:
        return 1e30 * (1.0 + prior)
    return value + exploration * math.sqrt(2.0 * math.log(max(parent_visits, 1.0)) / visits)


@njit(cache=True)
def puct(value: float, visits: float, parent_visits: float, exploration: float, prior: float) -> float:
    """Q + c · P · sqrt(N(parent)) / (1 + N(child)): AlphaZero with a constant c; MCTS-DPO, section 3."""
    return value + exploration * prior * math.sqrt(max(parent_visits, 1.0)) / (1.0 + visits)


@njit(cache=True)
def mixed_prior(logps: np.ndarray, temperature: float, uniform: float) -> np.ndarray:
    """λ · 1/k + (1 − λ) · softmax(logps / temperature), with λ = ``uniform``.

    ``logps``: float64 ``[k]``, k ≥ 1, natural logarithms, up to a common constant; −inf is allowed where at least one
    is finite. Returns float64 ``[k]`` that sums to one.
    """
    count = logps.shape[0]
    prior = np.empty(count)
    largest = logps[0]
    for i in range(1, count):
        largest = max(largest, logps[i])
    total = 0.0
    for i in range(count):
        prior[i] = math.exp((logps[i] - largest) / temperature)
        total += prior[i]
    for i in range(count):
        prior[i] = uniform / count + (1.0 - uniform) * prior[i] / total
    return prior


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
