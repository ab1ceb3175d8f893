"""The search loop of compiled games: select, expand, evaluate and back up, all in numba.

``engine.py`` compiles the functions of this file once for each game, with the game's rules in place of the names
below that have none. A simulation walks from the root and replays the moves, so that no node holds a state; a node
is expanded when it is reached for the second time, and its children lie side by side. (That a node gets its children
one visit later than in the general engine changes nothing but memory: until then they have no visits.)

A node is a record of 24 bytes. ``value_sum`` and ``value`` are the sum and the mean of the returns of the action into
the node for the player who chose it (of the root: for the player to move there); ``factor`` is what else its score
needs.
With N the parent's visits and n the child's, every compiled rule has the form Q + c(N) · w:

    uct         c(N) = c √(2 ln N)     w = 1/√n, remembered as factor
    ucb1        c(N) = c √(ln N)       w = 1/√(1 + n), remembered as factor
    puct        c(N) = c √N            w = P/(1 + n), with P as factor: priors are equal
    alphazero   as puct, c growing with N

(``rules/selection.py`` has the formulas; the tests hold them together.) The numbers are float32: scores are off by
about 1e-7 of their size, and sums of ±1 and 0 are exact. Other sums are rounded up and down in turn (:func:`rounded`),
so that means are off by about 1e-5 of the returns' size after 2²⁴ visits; rounded to the nearest, each addition to a
large sum would err the same way, and a mean of returns 0.3 would be 0.27.

Random ties: where every child is tried once before any is tried twice, the order of a node's children is drawn once,
and the first of equals is taken, as in OpenSpiel's ``MCTSBot``; a draw at each tie would cost a fifth of the time.
Under the other rules each tie is drawn.

What is proven goes up as in MCTS-Solver (Winands, Björnsson and Saito, 2008): a node with a winning child is lost for
the player who moved into it, a node all of whose children are proven has the best of them, and a proven loss is not
visited again. With a discount nothing is proven (``settings.py``). Of the solved children that are not lost the best
one stays in the race, with w = 0 (``trees/descent.py``).

Not here: chance nodes, virtual loss, backups other than the mean, transpositions. The Gumbel rule is in
``gumbel.py``.
"""

import math
from typing import Any, Final

import numpy as np

from ...envs.games.kernels import below, next_random

COMPILED_NODE: Final = np.dtype(
    [
        ("value_sum", np.float32),
        ("value", np.float32),
        ("factor", np.float32),
        ("visits", np.int32),
        ("first_child", np.int32),
        ("action", np.uint16),
        ("children", np.uint8),
        ("flags", np.uint8),
    ],
    align=True,
)
assert COMPILED_NODE.itemsize == 24

# The proof of a node in the view of the player who chose the action into it, in the two lowest bits of its flags.
PROVEN_LOSS: Final = 1
PROVEN_DRAW: Final = 2
PROVEN_WIN: Final = 3
PROOF: Final = 3
SOLVED: Final = 4  # nothing is left to simulate below; with two players always with a proof
OVER: Final = 8
LATE: Final = 16  # it was at the depth limit, and may get children in a later search
UNPROVABLE: Final = 32  # of the root: the game pays what is neither win, draw nor loss

WEIGHT_UCT: Final = 0
WEIGHT_UCB1: Final = 1
WEIGHT_PUCT: Final = 2

UNVISITED_ZERO: Final = 0
UNVISITED_PARENT: Final = 1
UNVISITED_FIRST: Final = 2  # every child once before any twice
UNVISITED_REDUCED: Final = 3
UNVISITED_CONSTANT: Final = 4
BEYOND_RETURNS: Final = np.float32(1e30)

# What the game gives in place of these: ``build.py``.
game_legal: Any = None
game_step: Any = None
game_value: Any = None
TWO_PLAYERS = True
# What the settings fix at compile time.
WEIGHT = WEIGHT_UCT
UNVISITED = UNVISITED_FIRST
ALPHAZERO = False
RANDOM_TIES = False
SOLVE = False


RULES: Final = np.dtype(
    [
        ("exploration", np.float64),
        ("exploration_base", np.float64),
        ("discount", np.float64),
        ("max_depth", np.int64),
        ("fpu_value", np.float64),
        ("value_scale", np.float64),
        ("maxvisit_init", np.float64),
        ("rescale_values", np.bool_),
    ]
)
"""The settings that the loop reads, as an array of one record."""

STEP: Final = np.dtype([("node", np.int64), ("reward", np.float64)], align=True)
"""A step of the walk: the node that it reached, and what it earned the player who took it."""


def exploration_scale(visits: float, exploration: float, base: float) -> float:
    """c(N), what the weights of the children of a node with N = ``visits`` ≥ 1 are multiplied by."""
    if WEIGHT == WEIGHT_UCT:
        return exploration * math.sqrt(2.0 * math.log(visits))
    if WEIGHT == WEIGHT_UCB1:
        return exploration * math.sqrt(math.log(visits))
    if ALPHAZERO:
        exploration += math.log((visits + base + 1.0) / base)
    return exploration * math.sqrt(visits)


def rounded(exact: Any, visits: int) -> Any:
    """A float64 number as one of its two neighbours in float32, the nearer one more often, so that over many ``visits``
    the errors cancel; a number that float32 holds stays as it is.

    What float32 drops are the last 29 bits: added to them are those of visits · 2²⁹ / φ, which fill the range evenly
    (Weyl's sequence of the golden ratio), and what carries over rounds away from zero."""
    bits = np.float64(exact).view(np.int64) + (visits * 331804471 & 0x1FFFFFFF)
    return np.float32(np.int64(bits & ~0x1FFFFFFF).view(np.float64))


def expand(nodes: np.ndarray, node: int, size: int, state: Any, actions: np.ndarray) -> int:
    """Give a node its children, the records from ``size`` on, which are all zeros; returns how many."""
    count = game_legal(state, actions)
    nodes[node].first_child = size
    nodes[node].children = count
    even = np.float32(1.0 / max(count, 1))
    for i in range(count):
        child = nodes[np.uint64(size + i)]
        child.action = actions[i]
        if WEIGHT == WEIGHT_UCB1:
            child.factor = np.float32(1.0)
        elif WEIGHT == WEIGHT_PUCT:
            child.factor = even
    return count


def exchange_unvisited(nodes: np.ndarray, child: int, others: int, random: int) -> int:
    """Let one of the unvisited ``child`` and its ``others`` following siblings, each as likely, stand at ``child``."""
    random, bits = next_random(random)
    here = nodes[child]
    there = nodes[child + below(bits, others + 1)]
    action = here.action
    here.action = there.action
    there.action = action
    return random


def prepare_late(nodes: np.ndarray, node: int, random: int) -> int:
    """Prepare the children of a node that was at the depth limit of an earlier search. The count of its visits does not
    say which of them comes next, so each has a value beyond all returns until its first visit, in random order where
    ties are random."""
    first: Any = np.int64(nodes[node].first_child)  # signed: numba makes floats of mixed sums
    count: Any = np.int64(nodes[node].children)
    for i in range(count):
        if RANDOM_TIES:
            random = exchange_unvisited(nodes, first + i, count - 1 - i, random)
        nodes[first + i].value = BEYOND_RETURNS
    return random


def visited_prior(nodes: np.ndarray, first: int, count: int) -> float:
    """The sum of the priors of the visited children."""
    mass = 0.0
    for child in range(first, first + count):
        if nodes[child].visits > 0:
            mass += nodes[child].factor
    return mass


def score_of(record: Any, scale: Any, unvisited_value: Any) -> float:
    """Q + c(N) · w of a child, all float32; −∞ for a solved one, unless it is the best of those."""
    value = record.value
    if UNVISITED != UNVISITED_FIRST and record.visits == 0:
        value = unvisited_value
    if WEIGHT == WEIGHT_PUCT:
        if SOLVE and record.flags & SOLVED:  # whose factor is its prior all the same
            return value
        return value + scale * (record.factor / np.float32(record.visits + 1))
    return value + scale * record.factor


def best_child(nodes: np.ndarray, first: int, count: int, scale: Any, unvisited_value: Any) -> int:
    """The child with the largest score, the first of equals."""
    best = first
    best_score = score_of(nodes[np.uint64(first)], scale, unvisited_value)
    for child in range(first + 1, first + count):
        score = score_of(nodes[np.uint64(child)], scale, unvisited_value)
        if score > best_score:
            best_score = score
            best = child
    return best


def random_best_child(
    nodes: np.ndarray, first: int, count: int, scale: Any, unvisited_value: Any, random: int
) -> tuple[int, int]:
    """As :func:`best_child`, with a random one of equals, and the next state of the random numbers."""
    best = first
    best_score = score_of(nodes[np.uint64(first)], scale, unvisited_value)
    equals = 1
    for child in range(first + 1, first + count):
        score = score_of(nodes[np.uint64(child)], scale, unvisited_value)
        if score > best_score:
            best_score = score
            best = child
            equals = 1
        elif score == best_score:
            equals += 1
            random, bits = next_random(random)
            if below(bits, equals) == 0:
                best = child
    return best, random


def state_value(record: Any, reward: float, discount: float, is_root: bool) -> float:
    """V of a node's state for the player to move there, from Q of the action into it."""
    if is_root or discount == 0.0:
        return record.value if is_root else 0.0
    value = (record.value - reward) / discount
    return -value if TWO_PLAYERS else value


def settle(nodes: np.ndarray, node: int, is_root: bool) -> bool:
    """Mark a node solved if that follows from its children; returns whether it does."""
    first = nodes[node].first_child
    best = PROVEN_LOSS
    all_solved = True
    for child in range(first, first + nodes[node].children):
        flags = nodes[child].flags
        if flags & SOLVED:
            best = max(best, flags & PROOF)
        else:
            all_solved = False
    if not all_solved and not (TWO_PLAYERS and best == PROVEN_WIN):
        return False
    if TWO_PLAYERS:
        nodes[node].flags |= SOLVED | (best if is_root else 4 - best)
    else:
        nodes[node].flags |= SOLVED
    return True


def prove(nodes: np.ndarray, walk: np.ndarray, depth: int) -> None:
    """The walk ended with the game: its last node is solved, and so are those above it of which that follows."""
    reward = walk[depth].reward
    if TWO_PLAYERS:
        early = 0.0
        for i in range(1, depth):
            early += abs(walk[i].reward)
        if early != 0.0 or (reward != 0.0 and abs(reward) != 1.0):
            nodes[0].flags |= UNPROVABLE
            return
    proof = PROVEN_WIN if reward > 0.0 else PROVEN_LOSS if reward < 0.0 else PROVEN_DRAW
    nodes[walk[depth].node].flags |= SOLVED | (proof if TWO_PLAYERS else 0)
    for i in range(depth - 1, -1, -1):
        if not settle(nodes, walk[i].node, i == 0):
            return


def back_up(nodes: np.ndarray, walk: np.ndarray, depth: int, value: float, discount: float) -> None:
    """Tell the value of the state at the end of the walk, for its player to move, to all nodes of the walk."""
    for i in range(depth, -1, -1):
        record = nodes[np.uint64(walk[i].node)]
        if SOLVE and TWO_PLAYERS and record.flags & SOLVED and not record.flags & OVER:
            value = float(record.flags & PROOF) - 2.0
            if i > 0:
                value = -value
        if i > 0:
            value = walk[i].reward + discount * (-value if TWO_PLAYERS else value)
        visits = record.visits + 1
        share = np.float32(1.0) / np.float32(visits)
        record.visits = visits
        record.value_sum = rounded(float(record.value_sum) + value, visits)
        record.value = record.value_sum * share
        if WEIGHT == WEIGHT_UCT:
            record.factor = math.sqrt(share)
        elif WEIGHT == WEIGHT_UCB1:
            record.factor = math.sqrt(np.float32(1.0) / np.float32(visits + 1))


def keep_solved(nodes: np.ndarray, walk: np.ndarray, depth: int, discount: float) -> None:
    """The walk ended with the game, and its statistics are up to date: keep of each node of it that is solved what it
    is known to return, and of its siblings that are the best in the race."""
    for i in range(depth, -1, -1):
        record = nodes[walk[i].node]
        if not record.flags & SOLVED:
            return
        if not TWO_PLAYERS:
            keep_known(nodes, record, walk[i].reward, discount, i == 0)
        if i > 0:
            keep_best(nodes, walk[i - 1].node)


def keep_known(nodes: np.ndarray, record: Any, reward: float, discount: float, is_root: bool) -> None:
    """Of one player: what a solved node is known to return, the best of its actions, becomes its mean."""
    known = 0.0 if record.flags & OVER else -np.inf
    for child in range(record.first_child, record.first_child + record.children):
        known = max(known, nodes[child].value)
    record.value = known if is_root else reward + discount * known
    record.value_sum = record.value * record.visits


def keep_best(nodes: np.ndarray, node: int) -> None:
    """Of the solved children of a node the first of the best keeps its value; the others, and losses, are not visited
    again."""
    best = -1
    best_known = np.float32(-np.inf)
    first = nodes[node].first_child
    for child in range(first, first + nodes[node].children):
        record = nodes[child]
        if record.flags & SOLVED:
            known = record.value_sum / np.float32(record.visits)
            if TWO_PLAYERS:
                proof = record.flags & PROOF
                known = np.float32(-np.inf) if proof == PROVEN_LOSS else np.float32(proof) - np.float32(2.0)
            record.value = -np.inf
            if WEIGHT != WEIGHT_PUCT:
                record.factor = 0.0
            if known > best_known:
                best_known = known
                best = child
    if best >= 0:
        nodes[best].value = best_known


def grow(
    nodes: np.ndarray,
    size: int,
    root: Any,
    random: int,
    simulations: int,
    rules: np.ndarray,
    scales: np.ndarray,
    walk: np.ndarray,
    actions: np.ndarray,
) -> tuple[int, int, int]:
    """Up to ``simulations`` simulations from ``root``, the state of node 0: (nodes in use, state of the random numbers,
    simulations done). Ends early where the records run short, or the root is solved.

    ``nodes``: :data:`COMPILED_NODE` ``[any]``, zeros from ``size`` on; ``rules``: :data:`RULES` ``[1]``; ``scales``:
    room to remember :func:`exploration_scale` by visits, float32, zeros at first; ``walk``: :data:`STEP`
    ``[longest game + 1]``; ``actions``: room for the legal actions of one state, int64.
    """
    exploration = rules[0].exploration
    base = rules[0].exploration_base
    discount = rules[0].discount
    max_depth = rules[0].max_depth
    fpu_value = rules[0].fpu_value
    remembered = scales.shape[0]
    last_start = nodes.shape[0] - actions.shape[0]
    done = 0
    walk[0].node = 0
    while done < simulations and size <= last_start and not nodes[0].flags & (SOLVED | UNPROVABLE):
        state = root
        node = 0
        depth = 0
        reward = 0.0
        over = False
        while not over:
            here = nodes[np.uint64(node)]
            visits = here.visits
            count = here.children
            if count == 0:
                if depth >= max_depth:
                    here.flags |= LATE
                    break
                if visits == 0:
                    break
                count = expand(nodes, node, size, state, actions)
                size += count
                if here.flags & LATE and UNVISITED == UNVISITED_FIRST:
                    random = prepare_late(nodes, node, random)
                if here.flags & LATE or count == 0:  # valued once more, as the general engine values what it expands
                    break
            first = here.first_child
            if UNVISITED == UNVISITED_FIRST and visits <= count and not here.flags & LATE:
                child = first + visits - 1
                if RANDOM_TIES:
                    random = exchange_unvisited(nodes, child, count - visits, random)
            else:
                scale = scales[visits] if visits < remembered else np.float32(0.0)
                if scale == 0.0:
                    scale = np.float32(exploration_scale(visits, exploration, base))
                    if visits < remembered:
                        scales[visits] = scale
                unvisited_value = np.float32(0.0)
                if UNVISITED in (UNVISITED_PARENT, UNVISITED_REDUCED):
                    unvisited_value = np.float32(state_value(here, reward, discount, depth == 0))
                if UNVISITED == UNVISITED_REDUCED:
                    unvisited_value -= np.float32(fpu_value * math.sqrt(visited_prior(nodes, first, count)))
                elif UNVISITED == UNVISITED_CONSTANT:
                    unvisited_value = np.float32(fpu_value)
                if RANDOM_TIES and UNVISITED != UNVISITED_FIRST:
                    child, random = random_best_child(nodes, first, count, scale, unvisited_value, random)
                else:
                    child = best_child(nodes, first, count, scale, unvisited_value)
            node = child
            state, reward, over = game_step(state, nodes[np.uint64(node)].action)
            depth += 1
            walk[depth].node = node
            walk[depth].reward = reward
        value = 0.0
        if over:
            nodes[node].flags |= OVER
            if SOLVE:
                prove(nodes, walk, depth)
        else:
            value, random = game_value(state, random)
        back_up(nodes, walk, depth, value, discount)
        if SOLVE and over:
            keep_solved(nodes, walk, depth, discount)
        done += 1
    return size, random, done
