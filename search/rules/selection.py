"""Which child a simulation walks to: the score of a child under each published rule, as small numba functions.

Each function takes plain numbers, so that it can be read beside its paper and tested against a closed form; the walk
over the children lives in ``trees/descent.py``. In all of them ``value`` is Q(s, a), the mean return of the child so
far, ``visits`` its visit count N(s, a), ``parent_visits`` the visit count N(s) of the node that is left,
``exploration`` the constant c, and logarithms are natural. A parent that was never visited counts as visited once, so
that log and root are defined.

Which rule is which:

- ``ucb1``: Agent Q (arXiv 2408.07199, Eq. 7).
- ``uct``: Kocsis and Szepesvári (2006), as LATS and the step-level Q-value models write it.
- ``puct``: AlphaZero (arXiv 1712.01815) with a constant c; MCTS-DPO (arXiv 2405.00451). ``alphazero`` is the same with
  the constant that grows with the visits, ``alphazero_exploration``.
- ``p_ucb``: PG-TD (arXiv 2303.05510) and ARMAP (arXiv 2502.12130); their Q is the best return found, not the mean.
- ``uct_bonus``: SWE-Search (arXiv 2410.20285), UCT with additive terms (``swe_search.py``).
- ``minimax``: PokéChamp (arXiv 2503.04094): every move to a fixed depth, ``full_width``, under the minimax backup.
- ``softmax``: Optima (arXiv 2410.08115) draws the next node to expand among *all* nodes, ``softmax_node``.
- ``gumbel``: Gumbel MuZero; its formulas look at all children together and stand in ``gumbel.py``.

Around the rules: what an unvisited child is worth (``first_play_value``), the scaling of values to [0, 1]
(``sibling_bounds``, ``min_max_normalised``) and the noise at the root (``noisy_prior``).

Ties go to the child with the lowest index (the earliest in the simulator's order of actions, or of the policy's
proposals), so that a search is a function of its numbers alone; or, with ``random_ties``, to one that the tree's own
generator draws.

Beside the rules: what turns a policy's log-probabilities into a prior (``mixed_prior``).

Not here: the walk itself, and regret matching.
"""

import math
from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np
from numba import njit

from ...envs.play.sampling import drawn

Selection = Literal["ucb1", "uct", "puct", "alphazero", "p_ucb", "uct_bonus", "minimax", "softmax", "gumbel"]
UnvisitedValue = Literal["zero", "parent", "infinite", "prior", "reduced", "constant"]

UCB1: Final = 0
UCT: Final = 1
PUCT: Final = 2
ALPHAZERO: Final = 3
P_UCB: Final = 4
UCT_BONUS: Final = 5
MINIMAX: Final = 6
SOFTMAX: Final = 7
GUMBEL: Final = 8
SELECTION_CODES: Final[dict[str, int]] = {
    "ucb1": UCB1,
    "uct": UCT,
    "puct": PUCT,
    "alphazero": ALPHAZERO,
    "p_ucb": P_UCB,
    "uct_bonus": UCT_BONUS,
    "minimax": MINIMAX,
    "softmax": SOFTMAX,
    "gumbel": GUMBEL,
}

FIRST_PLAY_ZERO: Final = 0
FIRST_PLAY_PARENT: Final = 1
FIRST_PLAY_INFINITE: Final = 2
FIRST_PLAY_PRIOR: Final = 3
FIRST_PLAY_REDUCED: Final = 4
FIRST_PLAY_CONSTANT: Final = 5
FIRST_PLAY_CODES: Final[dict[str, int]] = {
    "zero": FIRST_PLAY_ZERO,
    "parent": FIRST_PLAY_PARENT,
    "infinite": FIRST_PLAY_INFINITE,
    "prior": FIRST_PLAY_PRIOR,
    "reduced": FIRST_PLAY_REDUCED,
    "constant": FIRST_PLAY_CONSTANT,
}

BEYOND_RETURNS: Final = 1e30  # a score above any that a visited child can have


def rule_in(settings: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """(name, options) of the rule in settings as JSON holds them; ("", {}) where there is none."""
    found = settings.get("selection")
    if isinstance(found, str):
        return found, {}
    if not isinstance(found, Mapping) or len(found) != 1:
        return "", {}
    [(name, options)] = found.items()
    return (name, options or {}) if isinstance(options, Mapping | None) else ("", {})


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
        return BEYOND_RETURNS * (1.0 + prior)
    return value + exploration * math.sqrt(2.0 * math.log(max(parent_visits, 1.0)) / visits)


@njit(cache=True)
def puct(value: float, visits: float, parent_visits: float, exploration: float, prior: float) -> float:
    """Q + c · P · sqrt(N(parent)) / (1 + N(child)): AlphaZero with a constant c; MCTS-DPO, section 3."""
    return value + exploration * prior * math.sqrt(max(parent_visits, 1.0)) / (1.0 + visits)


@njit(cache=True)
def alphazero_exploration(parent_visits: float, c_base: float, c_init: float) -> float:
    """log((N(parent) + c_base + 1) / c_base) + c_init: the c of :func:`puct` in AlphaZero's pseudocode, MuZero (arXiv
    1911.08265, Eq. 2; c_base 19652, c_init 1.25), TS-LLM, and PG-TD's β(s)."""
    return math.log((parent_visits + c_base + 1.0) / c_base) + c_init


@njit(cache=True)
def p_ucb(value: float, visits: float, parent_visits: float, exploration: float, prior: float) -> float:
    """Q + c · P · sqrt(log N(parent)) / (1 + N(child)): PG-TD (arXiv 2303.05510) and ARMAP, with Q the best
    return. The logarithm stands under the root, the visits do not. c = 6.36 in both programs; PG-TD's other form takes
    c from :func:`alphazero_exploration`.
    """
    return value + exploration * prior * math.sqrt(math.log(max(parent_visits, 1.0))) / (1.0 + visits)


@njit(cache=True)
def uct_bonus(
    value: float,
    visits: float,
    parent_visits: float,
    exploitation: float,
    exploration: float,
    bonus: float,
    prior: float,
) -> float:
    """w_e · Q + w_x · sqrt(log N(parent) / N(child)) + bonus: SWE-Search (arXiv 2410.20285).

    No 2 under the root, unlike :func:`uct`. ``bonus`` is the sum of the additive terms (``swe_search.py``). An
    unvisited child comes first, by its prior.
    """
    if visits == 0.0:
        return BEYOND_RETURNS * (1.0 + prior)
    return exploitation * value + exploration * math.sqrt(math.log(max(parent_visits, 1.0)) / visits) + bonus


@njit(cache=True)
def full_width(visits: float, prior: float) -> float:
    """−N(child) + P / 2: the least visited child first, among equals the likelier one.

    So a node has had all its children visited once before any is visited twice: the walk of PokéChamp's search
    (arXiv 2503.04094), which looks at every move to a fixed depth; the choice is left to the minimax backup.
    """
    return 0.5 * prior - visits


@njit(cache=True)
def first_play_value(
    rule: int, parent_value: float, prior_value: float, prior: float, fpu_value: float, visited_prior: float
) -> float:
    """Q of a child without a visit, by ``FIRST_PLAY_*``: 0 (Agent Q, rStar-Math); V(parent) (AssistanceZero); beyond
    all returns, so that each child is tried once, the likelier first (UCT); ``prior_value``, what a critic said of the
    child before any visit (TS-LLM); ``fpu_value`` (Leela Chess Zero's absolute strategy); or V(parent) − fpu_value ·
    √(Σ P of the visited children), first-play urgency reduction (KataGo, arXiv 1902.10565, c_FPU = 0.2; Leela Chess
    Zero). ``visited_prior`` is that sum."""
    if rule == FIRST_PLAY_PARENT:
        return parent_value
    if rule == FIRST_PLAY_INFINITE:
        return BEYOND_RETURNS * (1.0 + prior)
    if rule == FIRST_PLAY_PRIOR:
        return prior_value
    if rule == FIRST_PLAY_REDUCED:
        return parent_value - fpu_value * math.sqrt(visited_prior)
    return fpu_value if rule == FIRST_PLAY_CONSTANT else 0.0


@njit(cache=True)
def min_max_normalised(value: float, low: float, high: float) -> float:
    """(Q − low) / (high − low), the denominator at least 1e-8: MuZero (arXiv 1911.08265, Eq. 5), with the bounds over
    the whole tree (keep them by :func:`widened`) or over a node and its children (:func:`sibling_bounds`)."""
    return (value - low) / max(high - low, 1e-8)


@njit(cache=True)
def widened(low: float, high: float, value: float) -> tuple[float, float]:
    """The bounds (low, high) with ``value`` taken in; start from (inf, −inf)."""
    return min(low, value), max(high, value)


@njit(cache=True)
def sibling_bounds(node_value: float, values: np.ndarray, visits: np.ndarray) -> tuple[float, float]:
    """The least and the largest of V(node) and of Q of its visited children: mctx's
    ``qtransform_by_parent_and_siblings``, where an unvisited child then has the normalised value 0.

    ``values``, ``visits``: float64 ``[k]``; the value of an unvisited child is not read.
    """
    low, high = node_value, node_value
    for i in range(values.shape[0]):
        if visits[i] > 0.0:
            low, high = widened(low, high, values[i])
    return low, high


@njit(cache=True)
def noisy_prior(prior: np.ndarray, noise: np.ndarray, fraction: float) -> np.ndarray:
    """(1 − ε) · P + ε · η with ε = ``fraction``: AlphaZero's root noise (arXiv 1712.01815, Methods; ε = 0.25).

    ``prior``, ``noise``: float64 ``[k]``, each sums to one; η from :func:`dirichlet_noise`. Returns float64 ``[k]``.
    """
    return (1.0 - fraction) * prior + fraction * noise


def dirichlet_noise(rng: np.random.Generator, count: int, alpha: float) -> np.ndarray:
    """One draw of Dirichlet(α, …, α): float64 ``[count]`` that sums to one."""
    return rng.dirichlet(np.full(count, alpha))


@njit(cache=True)
def softmax_node(values: np.ndarray, allowed: np.ndarray, temperature: float, top: int, uniform: float) -> int:
    """The node that softmax(value / temperature) over the ``top`` best allowed nodes draws at ``uniform`` in [0, 1);
    −1 where none is allowed. Optima (arXiv 2410.08115), with its ``top`` of 10.

    ``values``: float64 ``[n]``, one a node of the tree; ``allowed``: bool ``[n]``, false for what may not be expanded
    (unvisited, terminal, too like a node that was picked already). Among equal values the earlier node is in the top.
    """
    left = allowed.copy()
    best = np.empty(min(top, values.shape[0]), np.int64)
    kept = 0
    for rank in range(best.shape[0]):
        found = -1
        for node in range(values.shape[0]):
            if left[node] and (found < 0 or values[node] > values[found]):
                found = node
        if found < 0:
            break
        best[rank] = found
        left[found] = False
        kept += 1
    if kept == 0:
        return -1
    best = best[:kept]
    return best[drawn(values[best], temperature, uniform)]


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
