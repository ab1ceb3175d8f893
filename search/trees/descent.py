"""The way down: which leaf the next simulation reaches. The formulas stand in ``rules/selection.py`` and
``rules/gumbel.py``, the layout of nodes and its conventions in ``nodes.py``.

At a node where a player moves the walk takes the child with the largest score, at a chance node an outcome by its
probability, and it ends at a node without children. Of the children that are solved the best one alone has a score:
what it is known to return, without a bonus, since nothing of it is uncertain. So what was found is counted again where
no open child may be better, and no simulation is spent on the rest. A solved child that is chosen is walked through to
the end that it is known by, and no model is asked. Nodes on the way are marked as under way, so that several leaves of
one tree can be out at once.

Not here: the walk through information sets (``information.py``, which asks :func:`_best_of`) and the draw among all
nodes of Optima (``expansion.py``).
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from ..rules.backup import critic_mix, visit_weighted_value
from ..rules.gumbel import completed, final_choice, improved_policy, interior_choice, planned_choice
from ..rules.selection import (
    ALPHAZERO,
    FIRST_PLAY_PARENT,
    FIRST_PLAY_REDUCED,
    GUMBEL,
    MINIMAX,
    P_UCB,
    PUCT,
    UCB1,
    UCT_BONUS,
    alphazero_exploration,
    first_play_value,
    full_width,
    min_max_normalised,
    p_ucb,
    puct,
    ucb1,
    uct,
    uct_bonus,
    widened,
)
from .ascent import _close_above, _settle, _solved_return, _sums_of_children
from .nodes import (
    BUSY,
    CHANCE,
    FAILED,
    LINKED,
    MAX_CHILDREN,
    NORMALISE_NOT,
    NORMALISE_TREE,
    SHARED,
    SOLVED,
    VALUED,
    _source,
    discount_into,
)

PATH_TOO_SHORT = -2


@njit(cache=True)
def _uniform(head: np.ndarray) -> float:
    """The next number in [0, 1) of the tree's own sequence: splitmix64 (Steele, Lea and Flood, 2014)."""
    state = head[0].noise + np.uint64(0x9E3779B97F4A7C15)
    head[0].noise = state
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state = state ^ (state >> np.uint64(31))
    return float(state >> np.uint64(11)) / 9007199254740992.0


@njit(cache=True)
def _state_value(nodes: np.ndarray, values: np.ndarray, settings: np.ndarray, node: int, source: int) -> float:
    """V of a node's state for its player to move, from Q of the action into it: (Q − r) / γ. Zero where nothing is
    known. The rarer cases stand apart, so that this is short enough to be inlined into the walk."""
    if nodes[source].flags & SHARED:
        value_sum, visits = _sums_of_children(nodes, source)
        return visit_weighted_value(value_sum, visits) if visits > 0.0 else 0.0
    discount = discount_into(nodes[source].player, settings[0].discount)
    record = nodes[node]
    if record.visits == 0 or (discount == 0.0 and node != 0):
        return 0.0
    if values.shape[1] > 0:
        return _state_value_of_many(nodes, values, node, max(nodes[source].player, 0), discount)
    mean = record.value_sum / record.visits
    if node == 0:
        return mean
    value = (mean - record.reward) / discount
    return value if not settings[0].zero_sum else _in_view_of_mover(nodes, node, source, value)


@njit(cache=True)
def _state_value_of_many(nodes: np.ndarray, values: np.ndarray, node: int, player: int, discount: float) -> float:
    mean = values[node, player] / nodes[node].visits
    return mean if node == 0 else (mean - values[node, values.shape[1] // 2 + player]) / discount


@njit(cache=True)
def _in_view_of_mover(nodes: np.ndarray, node: int, source: int, value: float) -> float:
    chooser = max(nodes[nodes[node].parent].player, 0)
    return value if chooser == max(nodes[source].player, 0) else -value


@njit(cache=True)
def _visits_of_state(nodes: np.ndarray, node: int, source: int) -> float:
    if nodes[source].flags & SHARED:
        return _visits_of_shared(nodes, source)
    return float(nodes[node].visits) + float(nodes[node].pending)


@njit(cache=True)
def _visits_of_shared(nodes: np.ndarray, source: int) -> float:
    visits = 1.0
    for child in range(nodes[source].first_child, nodes[source].first_child + nodes[source].children):
        visits += float(nodes[child].visits) + float(nodes[child].pending)
    return visits


@njit(cache=True)
def _bounds(
    nodes: np.ndarray, head: np.ndarray, settings: np.ndarray, source: int, value: float
) -> tuple[float, float]:
    if settings[0].normalise == NORMALISE_TREE:
        return head[0].low, head[0].high
    low, high = value, value
    for child in range(nodes[source].first_child, nodes[source].first_child + nodes[source].children):
        if nodes[child].visits > 0:
            low, high = widened(low, high, nodes[child].value_sum / nodes[child].visits)
    return low, high


@njit(cache=True)
def _visited_prior(nodes: np.ndarray, source: int) -> float:
    """The sum of the priors of the children that have a visit, or have one under way."""
    mass = 0.0
    for child in range(nodes[source].first_child, nodes[source].first_child + nodes[source].children):
        if nodes[child].visits > 0 or nodes[child].pending > 0:
            mass += nodes[child].prior
    return mass


@njit(cache=True)
def _ucb1(value: float, visits: float, parent_visits: float, exploration: float, prior: float) -> float:
    return ucb1(value, visits, parent_visits, exploration)


@njit(inline="always")
def _best_by_rule(
    nodes: np.ndarray,
    values: np.ndarray,
    settings: np.ndarray,
    first: int,
    last: int,
    rule: Callable[..., float],
    exploration: float,
    virtual_loss: float,
    parent_visits: float,
    unvisited: float,
) -> int:
    """The child with the largest score by one of the three plain rules; −1 where all are lost.

    Inlined once a rule, so that the compiler can lift the parent's part out of the loop, and divides nothing for a
    child without visits, which most are: together a third of a walk's time.
    """
    best = solved = -1
    best_score = best_known = -np.inf
    for child in range(first, last):
        if _is_open(nodes, child):
            record = nodes[child]
            pending = float(record.pending)
            visits = float(record.visits) + pending
            if visits > 0.0:
                value = (record.value_sum - virtual_loss * pending) / visits
                score = rule(value, visits, parent_visits, exploration, record.prior)
            else:
                score = rule(unvisited, 0.0, parent_visits, exploration, record.prior)
            if score > best_score:
                best_score = score
                best = child
        else:
            known = _known_return(nodes, values, settings, child)
            if known > best_known:
                best_known = known
                solved = child
    if solved < 0:
        return best
    score = _known_score(nodes[solved], settings[0], best_known)
    return solved if score > best_score or (score == best_score and solved < best) else best


@njit(cache=True)
def _known_score(record: Any, rules: Any, known: float) -> float:
    """The score of the best solved child: what it returns; simulations under way there count as losses."""
    pending = 0.0 if rules.visits_only else float(record.pending)
    if pending == 0.0 or known == np.inf:
        return known
    visits = float(record.visits)
    return (known * visits - rules.virtual_loss * pending) / (visits + pending)


@njit(cache=True)
def _known_return(nodes: np.ndarray, values: np.ndarray, settings: np.ndarray, child: int) -> float:
    """What a solved child is known to return to who chooses: −∞ where it is lost or failed, ∞ where it wins."""
    if (nodes[child].flags | nodes[_source(nodes, child)].flags) & FAILED:
        return -np.inf
    return _solved_return(nodes, values, settings, child, max(nodes[nodes[child].parent].player, 0))


@njit(cache=True)
def _score_with_options(
    record: Any,
    rules: Any,
    parent_visits: float,
    parent_value: float,
    visited_prior: float,
    low: float,
    high: float,
) -> float:
    """The score of a child under every rule and option; ``low < high`` are bounds to normalise by, ``visited_prior``
    the sum of the priors of its visited siblings (read under ``FIRST_PLAY_REDUCED`` alone)."""
    pending = float(record.pending)
    visits = float(record.visits) + pending
    if rules.visits_only and record.visits > 0:
        value = record.value_sum / record.visits
    elif visits > 0.0 and not rules.visits_only:
        value = (record.value_sum - rules.virtual_loss * pending) / visits
    else:
        value = first_play_value(
            rules.first_play, parent_value, record.hint, record.prior, rules.fpu_value, visited_prior
        )
    of_parent = rules.first_play == FIRST_PLAY_PARENT or rules.first_play == FIRST_PLAY_REDUCED
    if rules.normalise != NORMALISE_NOT and (visits > 0.0 or of_parent):
        value = min_max_normalised(value, low, high) if high > low else 0.0
    if rules.critic_weight > 0.0:
        value = critic_mix(value, record.hint, 1.0 - rules.critic_weight)
    if rules.selection == PUCT:
        return puct(value, visits, parent_visits, rules.exploration, record.prior)
    if rules.selection == UCB1:
        return ucb1(value, visits, parent_visits, rules.exploration)
    if rules.selection == ALPHAZERO:
        growing = alphazero_exploration(parent_visits, rules.exploration_base, rules.exploration)
        return puct(value, visits, parent_visits, growing, record.prior)
    if rules.selection == P_UCB:
        return p_ucb(value, visits, parent_visits, rules.exploration, record.prior)
    if rules.selection == UCT_BONUS:
        return uct_bonus(value, visits, parent_visits, rules.exploitation, rules.exploration, record.hint, record.prior)
    if rules.selection == MINIMAX:
        return full_width(visits, record.prior)
    return uct(value, visits, parent_visits, rules.exploration, record.prior)


@njit(cache=True)
def _is_open(nodes: np.ndarray, child: int) -> bool:
    flags = nodes[child].flags
    if not flags & (SOLVED | LINKED):
        return True
    return not flags & SOLVED and not nodes[nodes[child].first_child].flags & SOLVED


@njit(inline="always")
def _best_scoring_child(
    nodes: np.ndarray, values: np.ndarray, head: np.ndarray, settings: np.ndarray, node: int, source: int
) -> int:
    """The child with the largest score; −1 where all are lost."""
    rules = settings[0]
    parent_visits = _visits_of_state(nodes, node, source)
    parent_value = 0.0
    of_parent = rules.first_play == FIRST_PLAY_PARENT or rules.first_play == FIRST_PLAY_REDUCED
    if of_parent or rules.normalise != NORMALISE_NOT:
        parent_value = _state_value(nodes, values, settings, node, source)
    if rules.plain:
        first = nodes[source].first_child
        last = first + nodes[source].children
        weight, loss = rules.exploration, rules.virtual_loss
        if rules.selection == PUCT:
            return _best_by_rule(nodes, values, settings, first, last, puct, weight, loss, parent_visits, parent_value)
        if rules.selection == UCB1:
            return _best_by_rule(nodes, values, settings, first, last, _ucb1, weight, loss, parent_visits, parent_value)
        return _best_by_rule(nodes, values, settings, first, last, uct, weight, loss, parent_visits, parent_value)
    return _best_with_options(nodes, values, head, settings, source, parent_visits, parent_value)


@njit(cache=True)
def _best_with_options(
    nodes: np.ndarray,
    values: np.ndarray,
    head: np.ndarray,
    settings: np.ndarray,
    source: int,
    parent_visits: float,
    parent_value: float,
) -> int:
    rules = settings[0]
    low, high = 0.0, 0.0
    if rules.normalise != NORMALISE_NOT:
        low, high = _bounds(nodes, head, settings, source, parent_value)
    visited_prior = _visited_prior(nodes, source) if rules.first_play == FIRST_PLAY_REDUCED else 0.0
    best = solved = -1
    best_score = best_known = -np.inf
    admitted = MAX_CHILDREN
    if rules.widening > 0.0:
        admitted = int(math.ceil(rules.widening * max(parent_visits, 1.0) ** rules.widening_power))  # noqa: RUF046
    equals = 0
    first = nodes[source].first_child
    for child in range(first, first + nodes[source].children):
        if not _is_open(nodes, child):
            known = _known_return(nodes, values, settings, child)
            if known > best_known:
                best_known = known
                solved = child
            continue
        if admitted <= 0:
            continue
        admitted -= 1
        score = _score_with_options(nodes[child], rules, parent_visits, parent_value, visited_prior, low, high)
        if score > best_score:
            best_score = score
            best = child
            equals = 1
        elif rules.random_ties and score == best_score:
            equals += 1
            if _uniform(head) * equals < 1.0:
                best = child
    if solved < 0 or (rules.selection == MINIMAX and best >= 0):  # level by level: nothing comes twice
        return best
    score = _known_score(nodes[solved], rules, best_known)
    if rules.normalise != NORMALISE_NOT and score < np.inf:
        score = min_max_normalised(score, low, high) if high > low else 0.0
    elif rules.selection == UCT_BONUS and score < np.inf:
        score *= rules.exploitation
    if score == best_score and rules.random_ties:
        return solved if _uniform(head) * (equals + 1) < 1.0 else best
    return solved if score > best_score or (score == best_score and solved < best) else best


@njit(cache=True)
def _known_child(nodes: np.ndarray, values: np.ndarray, settings: np.ndarray, source: int) -> int:
    """The child of a solved node by which it is known what that is worth: the best, the first of equals; where all are
    lost the first visited, and −1 where none is."""
    first = nodes[source].first_child
    best, best_known = -1, -np.inf
    for child in range(first, first + nodes[source].children):
        known = _known_return(nodes, values, settings, child)
        lost = known == -np.inf and nodes[child].visits > 0 and not nodes[child].flags & FAILED
        if known > best_known or (best < 0 and lost):
            best, best_known = child, known
    return best


@njit(cache=True)
def _best_of(nodes: np.ndarray, head: np.ndarray, settings: np.ndarray, node: int, candidates: np.ndarray) -> int:
    """Which of the actions that are available in this determinisation scores best, each against its own availability
    count in place of the parent's visits (Cowling, Powley and Whitehouse, 2012), and with its share of their prior."""
    available = nodes[candidates]
    mass = 0.0
    for record in available:
        mass += record.prior
    best = -1
    best_score = -np.inf
    equals = 0
    parent_value = nodes[node].value_sum / nodes[node].visits if nodes[node].visits > 0 else 0.0
    for i in range(candidates.shape[0]):
        child = candidates[i]
        nodes[child].hint += 1.0
        record = available[i]
        if mass > 0.0:
            record.prior /= mass
        score = _score_with_options(
            record, settings[0], float(nodes[child].hint), parent_value, 0.0, head[0].low, head[0].high
        )
        if score > best_score:
            best_score = score
            best = child
            equals = 1
        elif settings[0].random_ties and score == best_score:
            equals += 1
            if _uniform(head) * equals < 1.0:
                best = child
    return best


@njit(cache=True)
def _outcome(nodes: np.ndarray, head: np.ndarray, source: int) -> int:
    """A child of a chance node, drawn by its probability."""
    passed = 0.0
    draw = _uniform(head)
    chosen = first = nodes[source].first_child
    for child in range(first, first + nodes[source].children):
        if nodes[child].prior > 0.0:
            passed += nodes[child].prior
            chosen = child
            if draw < passed:
                break
    return chosen  # the last that can come, where rounded probabilities add up to less than the draw


@njit(cache=True)
def _arrays_of_children(nodes: np.ndarray, source: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(Q, zero without a visit; visits, without those under way; prior) of each child: float64 ``[children]``."""
    count = int(nodes[source].children)
    first = nodes[source].first_child
    values, visits, prior = np.empty(count), np.empty(count), np.empty(count)
    for i in range(count):
        record = nodes[first + i]
        visits[i] = float(record.visits)
        values[i] = record.value_sum / record.visits if record.visits > 0 else 0.0
        prior[i] = 0.0 if record.flags & FAILED and record.visits == 0 else record.prior
    return values, visits, prior


@njit(cache=True)
def _started_visits(nodes: np.ndarray, source: int) -> np.ndarray:
    """The visits of each child, those under way included: float64 ``[children]``. Plans and shares of visits count
    them; Q and what is completed by it know nothing of them yet."""
    first = nodes[source].first_child
    visits = np.empty(int(nodes[source].children))
    for i in range(visits.shape[0]):
        visits[i] = float(nodes[first + i].visits) + float(nodes[first + i].pending)
    return visits


@njit(cache=True)
def _open_children(nodes: np.ndarray, source: int) -> np.ndarray:
    """Which children can be chosen under the Gumbel rule: those of a prior above zero that are not lost. Bool
    ``[children]``."""
    first = nodes[source].first_child
    found = np.empty(int(nodes[source].children), np.bool_)
    for i in range(found.shape[0]):
        found[i] = nodes[first + i].prior > 0.0 and _is_open(nodes, first + i)
    return found


@njit(cache=True)
def _gumbel_root_child(nodes: np.ndarray, settings: np.ndarray, gumbel: np.ndarray, considered: np.ndarray) -> int:
    """The root's child for the next simulation under sequential halving (Gumbel MuZero, Algorithm 2); −1 where every
    child is lost."""
    values, visits, prior = _arrays_of_children(nodes, 0)
    rules = settings[0]
    sigma = completed(
        values, visits, prior, nodes[0].hint, rules.value_scale, rules.maxvisit_init, rules.rescale_values
    )
    started = _started_visits(nodes, 0)
    chosen = planned_choice(gumbel, np.log(prior), sigma, started, _open_children(nodes, 0), considered)
    return nodes[0].first_child + chosen if chosen >= 0 else -1


@njit(cache=True)
def _gumbel_final_child(nodes: np.ndarray, settings: np.ndarray, gumbel: np.ndarray) -> int:
    """The root's child to play in the end: the best of the most visited, a lost one only where all are."""
    values, visits, prior = _arrays_of_children(nodes, 0)
    rules = settings[0]
    sigma = completed(
        values, visits, prior, nodes[0].hint, rules.value_scale, rules.maxvisit_init, rules.rescale_values
    )
    is_open = _open_children(nodes, 0)
    counts = np.where(is_open, visits, -1.0) if is_open.any() else visits
    return nodes[0].first_child + final_choice(gumbel, np.log(prior), sigma, counts)


@njit(cache=True)
def _gumbel_child(nodes: np.ndarray, settings: np.ndarray, source: int) -> int:
    policy = np.where(_open_children(nodes, source), _improved_policy(nodes, settings, source), -np.inf)
    chosen = interior_choice(policy, _started_visits(nodes, source))
    return nodes[source].first_child + chosen if chosen >= 0 else -1


@njit(cache=True)
def _improved_policy(nodes: np.ndarray, settings: np.ndarray, source: int) -> np.ndarray:
    """What Gumbel MuZero makes of a node's prior and of what was found below it: float64 ``[children]``."""
    values, visits, prior = _arrays_of_children(nodes, source)
    rules = settings[0]
    sigma = completed(
        values, visits, prior, nodes[source].hint, rules.value_scale, rules.maxvisit_init, rules.rescale_values
    )
    return improved_policy(np.log(prior), sigma)


@njit(cache=True)
def _select(
    nodes: np.ndarray,
    values: np.ndarray,
    head: np.ndarray,
    settings: np.ndarray,
    path: np.ndarray,
    gumbel: np.ndarray,
    considered: np.ndarray,
) -> tuple[int, int, int]:
    """(leaf, its depth, its flags), the nodes on the way in ``path``; the leaf is −1 where the walk met a leaf that is
    already under way, and ``PATH_TOO_SHORT`` (nothing is changed) where ``path`` is.

    ``gumbel`` (float64 ``[root's children]``) and ``considered`` (int64 ``[simulations]``, ``gumbel.halving_plan``)
    steer the root under ``gumbel``, and are not read under other rules.
    """
    node = 0
    depth = 0
    path[0] = 0
    noise = head[0].noise
    while True:
        if depth + 1 >= path.shape[0]:
            head[0].noise = noise
            return PATH_TOO_SHORT, depth, 0
        source = _source(nodes, node)
        if nodes[source].children == 0:
            break
        if nodes[source].player == CHANCE:
            child = _outcome(nodes, head, source)
        elif nodes[source].flags & SOLVED:
            child = _known_child(nodes, values, settings, source)
            if child < 0:
                break
        elif settings[0].selection == GUMBEL:
            child = (
                _gumbel_child(nodes, settings, source)
                if depth
                else _gumbel_root_child(nodes, settings, gumbel, considered)
            )
        else:
            child = _best_scoring_child(nodes, values, head, settings, node, source)
        if child < 0:  # all children were lost on paths that do not lead through this node
            if not _settle(nodes, values, settings, source):
                return -1, depth, nodes[source].flags
            _close_above(nodes, values, settings, path, depth)
            if nodes[0].flags & SOLVED:
                return -1, 0, nodes[0].flags
            node = 0
            depth = 0
            continue
        node = child
        depth += 1
        path[depth] = node
    source = _source(nodes, node)
    flags = nodes[source].flags | nodes[node].flags
    under_way = nodes[node].pending > 0 or nodes[source].flags & BUSY
    if under_way and not flags & SOLVED and (settings[0].solve or not flags & VALUED):
        return -1, depth, flags
    nodes[source].flags |= BUSY
    for i in range(depth + 1):
        nodes[path[i]].pending += 1
    return node, depth, flags
