"""Gumbel MuZero's formulas (Danihelka et al., "Policy improvement by planning with Gumbel", ICLR 2022), as mctx writes
them: sequential halving over Gumbel-sampled actions at the root, completed Q-values, and a deterministic walk inside
the tree whose visits come near the improved policy.

All arrays are float64 ``[k]``, one entry a child: ``values`` is Q(s, a) (not read where there is no visit), ``visits``
N(s, a), ``prior`` P(s, a), which sums to one, and ``logits`` is log P up to a common constant. ``raw_value`` is what
the evaluator said of the node's own state, before any search below it.

How a search uses them: at the root, once, ``gumbel_draws`` and ``halving_plan``; then for each simulation ``completed``
→ ``planned_choice`` at the root, ``completed`` → ``improved_policy`` → ``interior_choice`` below; in the end
``root_answer``. A plan is one for a number of simulations and for children without visits: it can be followed to its
end, interrupted or not, but neither be made longer nor be laid over visits that another search made.

Not here: the walk over the tree (``trees/descent.py``); mctx's stochastic MuZero.
"""

import math
from typing import Final

import numpy as np
from numba import njit

VALUE_SCALE: Final = 0.1
MAXVISIT_INIT: Final = 50.0
LOWEST_SCORE: Final = -1e9


def gumbel_draws(rng: np.random.Generator, count: int, scale: float = 1.0) -> np.ndarray:
    """g(a) ~ Gumbel(0, 1) times ``scale`` (0: none, for play at full strength): float64 ``[count]``."""
    return scale * rng.gumbel(size=count)


@njit(cache=True)
def considered_visits(considered: int, simulations: int) -> np.ndarray:
    """Sequential halving (Karnin et al., 2013; Algorithm 2 of the paper) as a list: which visit count an action must
    have to be chosen at the root's simulation 0, 1, …

    m = ``considered`` actions are visited max(1, ⌊n / (⌈log2 m⌉ · m)⌋) times each, then the better half of them, and
    so on down to two, until ``simulations`` = n are spent. Returns int64 ``[simulations]``.
    """
    sequence = np.empty(simulations, np.int64)
    if considered <= 1:
        for i in range(simulations):
            sequence[i] = i
        return sequence
    phases = math.ceil(math.log2(considered))
    length = 0
    visited = 0
    remaining = considered
    while length < simulations:
        for _ in range(max(1, simulations // (phases * remaining))):
            for _ in range(remaining):
                if length < simulations:
                    sequence[length] = visited
                    length += 1
            visited += 1
        remaining = max(2, remaining // 2)
    return sequence


@njit(cache=True)
def halving_plan(prior: np.ndarray, considered: int, simulations: int) -> np.ndarray:
    """:func:`considered_visits` of a search of ``simulations``, the root's own included, that starts with at most
    ``considered`` root actions. Actions of prior zero are impossible, and never among them. Returns int64
    ``[max(simulations − 1, 1)]``.
    """
    possible = 0
    for share in prior:
        possible += share > 0.0
    return considered_visits(min(considered, possible), max(simulations - 1, 1))


@njit(cache=True)
def mixed_value(values: np.ndarray, visits: np.ndarray, prior: np.ndarray, raw_value: float) -> float:
    """(v + ΣN · Σ_visited P·Q / Σ_visited P) / (1 + ΣN): what an unvisited child is worth (Appendix D)."""
    total = 0.0
    mass = 0.0
    weighted = 0.0
    for i in range(values.shape[0]):
        if visits[i] > 0.0:
            share = max(prior[i], np.finfo(np.float64).tiny)
            total += visits[i]
            mass += share
            weighted += share * values[i]
    if total == 0.0:
        return raw_value
    return (raw_value + total * weighted / mass) / (total + 1.0)


@njit(cache=True)
def completed(
    values: np.ndarray,
    visits: np.ndarray,
    prior: np.ndarray,
    raw_value: float,
    value_scale: float = VALUE_SCALE,
    maxvisit_init: float = MAXVISIT_INIT,
    rescale_values: bool = True,
) -> np.ndarray:
    """σ(q) = (c_visit + max N) · c_scale · q of the completed Q-values (Eq. 8 and 10), float64 ``[k]``, with c_visit =
    ``maxvisit_init`` and c_scale = ``value_scale``.

    q is Q of a visited and :func:`mixed_value` for an unvisited child, under ``rescale_values`` scaled to [0, 1]
    between the least and the largest of them: mctx's ``qtransform_completed_by_mix_value``, with its names.
    """
    count = values.shape[0]
    unvisited = mixed_value(values, visits, prior, raw_value)
    filled = np.empty(count)
    low, high, most = np.inf, -np.inf, 0.0
    for i in range(count):
        filled[i] = values[i] if visits[i] > 0.0 else unvisited
        low = min(low, filled[i])
        high = max(high, filled[i])
        most = max(most, visits[i])
    scale = (maxvisit_init + most) * value_scale
    for i in range(count):
        filled[i] = scale * ((filled[i] - low) / max(high - low, 1e-8) if rescale_values else filled[i])
    return filled


@njit(cache=True)
def improved_policy(logits: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """softmax(logits + σ(q)): the improved policy π' (Eq. 11); at the root also the policy target. Float64 ``[k]``."""
    count = logits.shape[0]
    policy = np.empty(count)
    largest = -np.inf
    for i in range(count):
        policy[i] = logits[i] + sigma[i]
        largest = max(largest, policy[i])
    total = 0.0
    for i in range(count):
        policy[i] = math.exp(policy[i] - largest)
        total += policy[i]
    for i in range(count):
        policy[i] /= total
    return policy


@njit(cache=True)
def root_choice(
    gumbel: np.ndarray, logits: np.ndarray, sigma: np.ndarray, visits: np.ndarray, considered_visit: float
) -> int:
    """argmax of g + logits + σ(q) among the children with exactly ``considered_visit`` visits, the first of equals; −1
    where there is none. (Algorithm 2; scores below −1e9 count as −1e9, so that a lone impossible action is playable.)
    """
    largest = logits.max()
    best = -1
    best_score = -np.inf
    for i in range(logits.shape[0]):
        if visits[i] == considered_visit:
            score = max(LOWEST_SCORE, gumbel[i] + logits[i] - largest + sigma[i])
            if score > best_score:
                best_score = score
                best = i
    return best


@njit(cache=True)
def planned_choice(
    gumbel: np.ndarray,
    logits: np.ndarray,
    sigma: np.ndarray,
    visits: np.ndarray,
    is_open: np.ndarray,
    plan: np.ndarray,
) -> int:
    """:func:`root_choice` among the open children (bool ``[k]``: possible, and not lost by a failure) at this turn of
    ``plan`` (:func:`halving_plan`), which is the sum of the visits; −1 where none is open.

    Where no open child has the count that the plan asks for, because a lost one had it, the plan moves on to its next
    count, and at its end to the most visited.
    """
    counts = np.where(is_open, visits, -1.0)
    for wanted in plan[int(visits.sum()) :]:
        chosen = root_choice(gumbel, logits, sigma, counts, float(wanted))
        if chosen >= 0:
            return chosen
    most = counts.max()
    return root_choice(gumbel, logits, sigma, counts, most) if most >= 0.0 else -1


@njit(cache=True)
def final_choice(gumbel: np.ndarray, logits: np.ndarray, sigma: np.ndarray, visits: np.ndarray) -> int:
    """The action to play: :func:`root_choice` among the most visited children."""
    return root_choice(gumbel, logits, sigma, visits, visits.max())


@njit(cache=True)
def root_answer(
    gumbel: np.ndarray,
    values: np.ndarray,
    visits: np.ndarray,
    prior: np.ndarray,
    raw_value: float,
    value_scale: float = VALUE_SCALE,
    maxvisit_init: float = MAXVISIT_INIT,
    rescale_values: bool = True,
) -> tuple[int, np.ndarray]:
    """What a search ends with: (the action to play, the policy target float64 ``[k]``), of the root's children."""
    logits = np.log(prior)
    sigma = completed(values, visits, prior, raw_value, value_scale, maxvisit_init, rescale_values)
    return final_choice(gumbel, logits, sigma, visits), improved_policy(logits, sigma)


@njit(cache=True)
def interior_choice(policy: np.ndarray, visits: np.ndarray) -> int:
    """argmax of π'(a) − N(a) / (1 + ΣN), the first of equals (Eq. 14, section 5): visits follow the improved policy
    without noise. A child with π' = −∞ is lost; −1 where all are."""
    total = 1.0 + visits.sum()
    best = -1
    best_score = -np.inf
    for i in range(policy.shape[0]):
        score = policy[i] - visits[i] / total
        if score > best_score:
            best_score = score
            best = i
    return best


def why_not_planned(
    visits: np.ndarray, prior: np.ndarray, drawn: bool, plan: np.ndarray, considered: int, simulations: int
) -> str:
    """Why a root whose children have these visits cannot be searched to ``simulations`` in all, in words; empty where
    it can: none of them was visited yet, or it has draws and follows the very ``plan`` of such a search."""
    if not visits.any():
        return ""
    if not drawn:
        return "it was re-rooted, or searched by another rule, and the visits of its root's actions follow no plan"
    if np.array_equal(plan, halving_plan(prior, considered, simulations)):
        return ""
    if len(plan) != max(simulations - 1, 1):
        return f"it was planned for simulations={len(plan) + 1} in all"
    return f"it was planned with other numbers than considered={considered}"


def not_planned(tree: int, simulations: int, reason: str) -> str:
    """The error that :func:`why_not_planned` gives reason to."""
    return (
        f"selection='gumbel' plans the visits of a whole search beforehand, and tree {tree} cannot be extended to"
        f" simulations={simulations}: {reason}; search anew from its root, or use another selection"
    )
