"""The search loop of compiled games under the Gumbel rule (``rules/gumbel.py`` has its formulas and their source).

As ``loop.py``, with two differences in a node's record: ``value_sum`` holds what the evaluator said of the
node's own state (the formulas need it), so that ``value`` is a running mean, rounded as the sums there; and ``factor``
is the prior P, the same for all. The formulas stand here once more because they read the records in place, without
arrays of their own: that makes a simulation about three times as fast. The tests hold both together.

Where all completed values of a node are equal, σ is zero and π' the prior: no exponentials are needed.
"""

import math
from typing import Any, Final

import numpy as np

from ..rules.gumbel import LOWEST_SCORE
from .loop import LATE, OVER, TWO_PLAYERS, expand, game_step, game_value, rounded

FASTMATH: Final = {"reassoc", "contract"}  # sums need not wait for each other
_SMALLEST: Final = np.finfo(np.float64).tiny


def span_of(nodes: np.ndarray, node: int) -> Any:
    """(first child, number of children), with a sign: numba makes floats of sums of unsigned and signed numbers."""
    return np.int64(nodes[node].first_child), np.int64(nodes[node].children)


def completed_children(
    nodes: np.ndarray, first: int, count: int, raw: float, rules: np.ndarray
) -> tuple[Any, float, float, float, float]:
    """Of the children ``first`` … of a node whose state the evaluator values ``raw``: (how often they were visited in
    all, the value of an unvisited one, the least and the largest completed value, the factor that makes σ of what is
    above the least, up to a constant) (``gumbel.completed``)."""
    total: Any = np.int64(0)
    most = 0
    visited = 0
    mass = 0.0
    weighted = 0.0
    low, high = np.inf, -np.inf
    for i in range(count):
        child = nodes[np.uint64(first + i)]
        visits = child.visits
        if visits > 0:
            value = float(child.value)
            share = max(float(child.factor), _SMALLEST)
            visited += 1
            total += visits
            most = max(most, visits)
            mass += share
            weighted += share * value
            low = min(low, value)
            high = max(high, value)
    filling = raw if total == 0 else (raw + total * weighted / mass) / (total + 1.0)
    if visited < count:
        low = min(low, filling)
        high = max(high, filling)
    scale = (rules[0].maxvisit_init + most) * rules[0].value_scale if high > low else 0.0
    if rules[0].rescale_values:
        scale /= max(high - low, 1e-8)
    return total, filling, low, high, scale


def root_child(nodes: np.ndarray, gumbel: np.ndarray, plan: np.ndarray, rules: np.ndarray) -> int:
    """The root's child for the next simulation of sequential halving (``gumbel.root_choice``). No child is ever lost
    here, so that one has the count of the plan's turn."""
    first, count = span_of(nodes, 0)
    total, filling, low, _, scale = completed_children(nodes, first, count, float(nodes[0].value_sum), rules)
    wanted = plan[total]
    best = 0
    best_score = -np.inf
    for i in range(count):
        child = nodes[np.uint64(first + i)]
        value = float(child.value) if child.visits > 0 else filling
        score = max(LOWEST_SCORE, gumbel[i] + scale * (value - low))
        if child.visits == wanted and score > best_score:
            best_score = score
            best = i
    return first + best


def interior_child(nodes: np.ndarray, node: int, policy: np.ndarray, rules: np.ndarray) -> int:
    """argmax π'(a) − N(a) / (1 + ΣN) (``gumbel.interior_choice``); ``policy``: room for π'."""
    first, count = span_of(nodes, node)
    if nodes[node].visits == 1:  # all completed values are the node's own: π' is the prior
        return first
    total, filling, _, high, scale = completed_children(nodes, first, count, float(nodes[node].value_sum), rules)
    mass = 1.0
    if scale > 0.0:
        mass = 0.0
        for i in range(count):
            child = nodes[np.uint64(first + i)]
            value = float(child.value) if child.visits > 0 else filling
            policy[i] = float(child.factor) * math.exp(scale * (value - high))
            mass += policy[i]
    turns = (1.0 + total) / mass  # all scores times 1 + ΣN: the same child is best
    best = 0
    best_score = -np.inf
    for i in range(count):
        child = nodes[np.uint64(first + i)]
        probability = policy[i] if scale > 0.0 else float(child.factor)
        score = probability * turns - child.visits
        if score > best_score:
            best_score = score
            best = i
    return first + best


def back_up(nodes: np.ndarray, walk: np.ndarray, depth: int, value: float, discount: float) -> None:
    """Tell the value of the state at the end of the walk, for its player to move, to all nodes of the walk."""
    for i in range(depth, -1, -1):
        record = nodes[np.uint64(walk[i].node)]
        if i > 0:
            value = walk[i].reward + discount * (-value if TWO_PLAYERS else value)
        record.visits += 1
        record.value = rounded(record.value + (value - record.value) / record.visits, record.visits)


def grow(
    nodes: np.ndarray,
    size: int,
    root: Any,
    random: int,
    simulations: int,
    rules: np.ndarray,
    gumbel: np.ndarray,
    plan: np.ndarray,
    walk: np.ndarray,
    actions: np.ndarray,
    policy: np.ndarray,
) -> tuple[int, int, int]:
    """``loop.grow`` under the Gumbel rule; ``gumbel``: the draws of the root's children, float64; ``plan``:
    ``gumbel.halving_plan``, of at least the simulations that the root will have had; ``policy``: room for a number a
    legal action, float64."""
    discount = rules[0].discount
    max_depth = rules[0].max_depth
    last_start = nodes.shape[0] - actions.shape[0]
    done = 0
    walk[0].node = 0
    while done < simulations and size <= last_start:
        state = root
        node = 0
        depth = 0
        over = False
        while not over:
            here = nodes[np.uint64(node)]
            if here.children == 0:
                if depth >= max_depth:
                    here.flags |= LATE
                    break
                if here.visits == 0:
                    break
                count = expand(nodes, node, size, state, actions)
                size += count
                if here.flags & LATE or count == 0:  # as in ``loop.grow``
                    break
            at_root = depth == 0
            node = root_child(nodes, gumbel, plan, rules) if at_root else interior_child(nodes, node, policy, rules)
            state, reward, over = game_step(state, nodes[np.uint64(node)].action)
            depth += 1
            walk[depth].node = node
            walk[depth].reward = reward
        value = 0.0
        if over:
            nodes[node].flags |= OVER
        else:
            value, random = game_value(state, random)
            if nodes[node].visits == 0:
                nodes[node].value_sum = value
        back_up(nodes, walk, depth, value, discount)
        done += 1
    return size, random, done
