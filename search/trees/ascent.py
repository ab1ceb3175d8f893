"""The way up: how the value of a leaf, and what is proven of it, reach the nodes above. The formulas stand in
``rules/backup.py``, the layout of nodes and its conventions in ``nodes.py``.

Each walk takes the path of the simulation, not the nodes' parents: under transpositions a state has several.
"""

import numpy as np
from numba import njit

from ..rules.backup import (
    BELLMAN,
    LOSS,
    MAX,
    MEAN,
    UNPROVEN,
    WIN,
    action_return,
    best_return,
    opposite_proof,
    proof_of_children,
    proof_of_outcome,
    proven_value,
    seen_by,
    visit_weighted_value,
)
from ..rules.selection import widened
from .nodes import (
    BUSY,
    CHANCE,
    ENDED,
    EXPANDED,
    FAILED,
    INCOMPLETE,
    INFORMATION,
    NORMALISE_TREE,
    SOLVED,
    VALUED,
    _source,
    discount_into,
)


@njit(cache=True)
def _proof_for(proof: int, player: int) -> int:
    """A proof for player 0 in the view of ``player``, and back."""
    return opposite_proof(proof) if player == 1 else proof


@njit(cache=True)
def _solved_return(nodes: np.ndarray, values: np.ndarray, settings: np.ndarray, child: int, player: int) -> float:
    """What the action into a solved node is known to return to ``player``, who took it (to any, where all returns are
    kept): ±∞ where a win or loss is proven, −∞ where nothing is known, since it failed or had no visit.

    Where nothing is proven a solved node keeps it as its mean (:func:`_remember`), for other edges to the same state
    too: what a step earns is read off the state that it leads to.
    """
    source = _source(nodes, child)
    record, state = nodes[child], nodes[source]
    if record.visits == 0 and (record.flags | state.flags) & FAILED:
        return -np.inf
    if settings[0].proofs and state.proof != UNPROVEN:
        proof = _proof_for(int(state.proof), player)
        return np.inf if proof == WIN else (-np.inf if proof == LOSS else 0.0)
    if record.flags & VALUED:
        return values[child, values.shape[1] // 2 + player] if values.shape[1] > 0 else record.reward
    if state.visits == 0 and _sums_of_children(nodes, source)[1] == 0.0:
        source, state = child, record
        if record.visits == 0:
            return -np.inf
    visits = max(state.visits, 1)
    if values.shape[1] > 0:
        return values[source, player] / visits
    known = state.value_sum / visits
    against = source != child and settings[0].zero_sum and max(nodes[state.parent].player, 0) != player
    return -known if against else known


@njit(cache=True)
def _remember(nodes: np.ndarray, values: np.ndarray, settings: np.ndarray, node: int) -> None:
    """Keep what a solved state is worth as the mean of the action into it (``value_sum``, where that has no visit): who
    moves takes the best of its actions, of several players each its own best (max^n). Of several players the mean stays
    where an action is missing or failed: who moves may have something better, and of it the others know nothing."""
    record = nodes[node]
    mover = max(record.player, 0)
    best, chosen = -np.inf, -1
    complete = not record.flags & INCOMPLETE
    for child in range(record.first_child, record.first_child + record.children):
        known = _solved_return(nodes, values, settings, child, mover)
        complete = complete and not (nodes[child].flags | nodes[_source(nodes, child)].flags) & FAILED
        if known > best:
            best, chosen = known, child
    if chosen < 0:
        return
    visits = max(record.visits, 1)
    discount = discount_into(record.player, settings[0].discount)
    if values.shape[1] == 0:
        record.value_sum = visits * (best if node == 0 else action_return(record.reward, discount, best))
    elif complete:
        half = values.shape[1] // 2
        for player in range(half):
            known = _solved_return(nodes, values, settings, chosen, player)
            if node > 0:
                known = action_return(values[node, half + player], discount, known)
            values[node, player] = visits * known
        record.value_sum = values[node, mover if node == 0 else max(nodes[record.parent].player, 0)]


@njit(cache=True)
def _settle(nodes: np.ndarray, values: np.ndarray, settings: np.ndarray, node: int) -> bool:
    """Mark a state solved where its children allow it, with its proof or with what it is known to be worth; whether it
    is. An action that is missing counts as a child of which nothing is proven."""
    record = nodes[node]
    best = UNPROVEN if record.flags & INCOMPLETE else LOSS
    all_solved = True
    alike = True
    first_proof = UNPROVEN
    is_first = True
    for child in range(record.first_child, record.first_child + record.children):
        if record.player == CHANCE and nodes[child].prior == 0.0:
            continue  # it never comes
        source = _source(nodes, child)
        solved = bool((nodes[child].flags | nodes[source].flags) & SOLVED)
        if not solved and not settings[0].proofs:
            return False
        proof = int(nodes[source].proof)
        all_solved = all_solved and solved
        if is_first:
            first_proof = proof
        is_first = False
        alike = alike and proof == first_proof
        best = proof_of_children(best, _proof_for(proof, record.player))
    if record.player == CHANCE:
        if not (all_solved and settings[0].proofs and alike and first_proof != UNPROVEN):
            return False
        record.proof = first_proof
    elif settings[0].proofs and (best == WIN or all_solved):
        record.proof = _proof_for(best, record.player)
    elif not all_solved:
        return False
    record.flags |= SOLVED
    if not settings[0].proofs:
        _remember(nodes, values, settings, node)
    return True


@njit(cache=True)
def _close_above(nodes: np.ndarray, values: np.ndarray, settings: np.ndarray, path: np.ndarray, depth: int) -> None:
    """The node at ``depth`` of the path is solved: mark each one above it that follows from it."""
    for i in range(depth - 1, -1, -1):
        if not _settle(nodes, values, settings, _source(nodes, path[i])):
            return


@njit(cache=True)
def _sums_of_children(nodes: np.ndarray, source: int) -> tuple[float, float]:
    """(value sum, visits) of a state's edges; those under way are not counted."""
    value_sum = 0.0
    visits = 0.0
    for child in range(nodes[source].first_child, nodes[source].first_child + nodes[source].children):
        if nodes[child].visits > 0:
            value_sum += nodes[child].value_sum
            visits += nodes[child].visits
    return value_sum, visits


@njit(cache=True)
def _value_of_children(nodes: np.ndarray, source: int, rule: int) -> float:
    """V of a state for its player to move, from its visited children."""
    record = nodes[source]
    if rule == BELLMAN or record.player == CHANCE:
        return visit_weighted_value(*_sums_of_children(nodes, source))
    best = -np.inf
    for child in range(record.first_child, record.first_child + record.children):
        if nodes[child].visits > 0:
            best = max(best, nodes[child].value_sum / nodes[child].visits)
    return best


@njit(cache=True)
def _back_up(
    nodes: np.ndarray,
    values: np.ndarray,
    head: np.ndarray,
    settings: np.ndarray,
    path: np.ndarray,
    depth: int,
    returns: np.ndarray,
) -> None:
    """Tell the value of the state at the end of ``path`` to all nodes on it. ``returns``: float64 ``[players]``, or of
    player 0 alone where one number says all; overwritten."""
    rules = settings[0]
    leaf = _source(nodes, path[depth])
    nodes[leaf].flags &= ~(BUSY | FAILED)
    if nodes[leaf].flags & SOLVED and not nodes[leaf].flags & VALUED:
        _take_mean(nodes, values, settings, path, depth, returns)
    ends = rules.solve and nodes[leaf].children == 0 and nodes[leaf].flags & (VALUED | EXPANDED)
    if ends:
        nodes[leaf].flags |= SOLVED
        if rules.proofs and nodes[leaf].flags & VALUED:
            chooser = max(nodes[_source(nodes, path[depth - 1])].player, 0) if depth else 0
            nodes[leaf].proof = proof_of_outcome(seen_by(nodes[leaf].reward, chooser))
        if rules.proofs:  # so that what is proven goes up with this simulation
            _close_above(nodes, values, settings, path, depth)
    if values.shape[1] > 0:
        _back_up_all(nodes, values, head, settings, path, depth, returns)
    else:
        _back_up_one(nodes, head, settings, path, depth, returns[0])
    if ends and not rules.proofs:  # by what this simulation found
        _close_above(nodes, values, settings, path, depth)


@njit(cache=True)
def _take_mean(
    nodes: np.ndarray, values: np.ndarray, settings: np.ndarray, path: np.ndarray, depth: int, returns: np.ndarray
) -> None:
    """Into ``returns`` what earlier simulations found of the state at the end of ``path``, which nobody is asked about
    again."""
    record = nodes[path[depth]]
    discount = discount_into(nodes[_source(nodes, path[depth])].player, settings[0].discount)
    returns[:] = 0.0
    if record.visits == 0 or discount == 0.0:
        return
    if values.shape[1] > 0:
        for player in range(returns.shape[0]):
            earned = values[path[depth], returns.shape[0] + player]
            returns[player] = (values[path[depth], player] / record.visits - earned) / discount
        return
    value = (record.value_sum / record.visits - record.reward) / discount
    against = settings[0].zero_sum and depth > 0 and nodes[_source(nodes, path[depth - 1])].player == 1
    returns[0] = -value if against else value


@njit(cache=True)
def _back_up_one(
    nodes: np.ndarray, head: np.ndarray, settings: np.ndarray, path: np.ndarray, depth: int, value: float
) -> None:
    """:func:`_back_up` where one number says all: ``value`` is for player 0."""
    rules = settings[0]
    for i in range(depth, -1, -1):
        record = nodes[path[i]]
        source = _source(nodes, path[i])
        record.visits += 1
        record.pending -= 1
        if i < depth and rules.backup != MEAN and rules.backup != MAX:
            value = _value_of_children(nodes, source, rules.backup)
            if rules.zero_sum and nodes[source].player == 1:
                value = -value
        if rules.proofs and not nodes[source].flags & ENDED and nodes[source].proof != UNPROVEN:
            value = proven_value(nodes[source].proof, value)
        chooser = nodes[source].player if i == 0 else nodes[_source(nodes, path[i - 1])].player
        against = rules.zero_sum and chooser == 1
        if against:
            value = -value
        if i > 0:
            value = action_return(record.reward, discount_into(nodes[source].player, rules.discount), value)
        if rules.backup == MEAN:
            record.value_sum += value
        elif rules.backup == MAX:
            before = record.visits - 1.0
            record.value_sum = record.visits * best_return(record.value_sum / max(before, 1.0), before, value)
        else:
            record.value_sum = value * record.visits
        if rules.normalise == NORMALISE_TREE and i > 0:
            mean = record.value_sum / record.visits
            head[0].low, head[0].high = widened(head[0].low, head[0].high, mean)
            if rules.zero_sum:
                head[0].low, head[0].high = widened(head[0].low, head[0].high, -mean)
        if against:
            value = -value


@njit(cache=True)
def _back_up_all(
    nodes: np.ndarray,
    values: np.ndarray,
    head: np.ndarray,
    settings: np.ndarray,
    path: np.ndarray,
    depth: int,
    returns: np.ndarray,
) -> None:
    """:func:`_back_up` with one return a player. Under the rules that take a best child, the player to move takes it by
    its own return, and the others get what that child holds for them (max^n)."""
    rules = settings[0]
    players = values.shape[1] // 2
    for i in range(depth, -1, -1):
        node = path[i]
        record = nodes[node]
        source = _source(nodes, node)
        record.visits += 1
        record.pending -= 1
        if i < depth and rules.backup != MEAN:
            _returns_of_children(nodes, values, source, rules.backup, returns)
        discount = discount_into(nodes[source].player, rules.discount)
        for player in range(players):
            if i > 0:
                returns[player] = action_return(values[node, players + player], discount, returns[player])
            if rules.backup == MEAN:
                values[node, player] += returns[player]
            else:
                values[node, player] = returns[player] * record.visits
        chooser = nodes[source].player if i == 0 else nodes[_source(nodes, path[i - 1])].player
        record.value_sum = values[node, max(chooser, 0)]
        if rules.normalise == NORMALISE_TREE and i > 0:
            head[0].low, head[0].high = widened(head[0].low, head[0].high, record.value_sum / record.visits)


@njit(cache=True)
def _returns_of_children(nodes: np.ndarray, values: np.ndarray, source: int, rule: int, returns: np.ndarray) -> None:
    record = nodes[source]
    players = values.shape[1] // 2
    first, last = record.first_child, record.first_child + record.children
    if rule == BELLMAN or record.player == CHANCE:
        visits = 0.0
        returns[:] = 0.0
        for child in range(first, last):
            visits += nodes[child].visits
            for player in range(players):
                returns[player] += values[child, player]
        for player in range(players):
            returns[player] = visit_weighted_value(returns[player], visits)
        return
    best = -1
    best_value = -np.inf
    for child in range(first, last):
        if nodes[child].visits > 0:
            value = nodes[child].value_sum / nodes[child].visits
            if value > best_value:
                best_value = value
                best = child
    for player in range(players):
        returns[player] = values[best, player] / nodes[best].visits


@njit(cache=True)
def _back_up_information(
    nodes: np.ndarray,
    head: np.ndarray,
    settings: np.ndarray,
    path: np.ndarray,
    rewards: np.ndarray,
    returns: np.ndarray,
) -> None:
    """Means over a walk through information sets: ``path`` alternates information sets and the actions chosen there.

    ``rewards``: float64 ``[path, players]``, what each player earned between this action and the next information set
    in this determinisation (zero beside information sets). ``returns``: float64 ``[players]``; overwritten.
    """
    for i in range(path.shape[0] - 1, -1, -1):
        record = nodes[path[i]]
        record.visits += 1
        record.pending -= 1
        player = record.player
        if not record.flags & INFORMATION:
            for each in range(returns.shape[0]):
                returns[each] = action_return(rewards[i, each], settings[0].discount, returns[each])
        record.value_sum += returns[max(player, 0)]
        if settings[0].normalise == NORMALISE_TREE and i > 0:
            head[0].low, head[0].high = widened(head[0].low, head[0].high, record.value_sum / record.visits)


@njit(cache=True)
def _release(nodes: np.ndarray, path: np.ndarray, depth: int) -> None:
    """No simulation is under way on this path any more."""
    for i in range(depth + 1):
        nodes[path[i]].pending -= 1
    nodes[_source(nodes, path[depth])].flags &= ~BUSY


@njit(cache=True)
def _abandon(nodes: np.ndarray, values: np.ndarray, settings: np.ndarray, path: np.ndarray, depth: int) -> None:
    """Take a simulation back whose leaf could not be evaluated; the leaf is not tried again, unless it is the root, or
    the tree one of information sets, whose next determinisation may be another."""
    _release(nodes, path, depth)
    leaf = _source(nodes, path[depth])
    nodes[leaf].flags |= FAILED
    if depth > 0 and not nodes[0].flags & INFORMATION:
        nodes[leaf].flags |= SOLVED
        _close_above(nodes, values, settings, path, depth)
