"""The numbers of a search tree: one structured numpy array of nodes, and the numba operations on it.

A node is a 40-byte record; the children of a node are contiguous. Node 0 is the root. Each rule's formula stands in
``rules/selection.py`` and ``rules/backup.py``.

Conventions:

- ``value_sum / visits`` of a node is the mean return of the action that led into it (reward included), *for the player
  who chose that action*; of the root it is the value of its state for the player to move. ``reward`` is what the step
  into the node earned that same player. What chance chose counts for player 0.
- In a two-player zero-sum game that one number says all. Where players are more, or interests not opposed, ``values``
  holds beside each node the sums of all players' returns, and their rewards: float64 ``[nodes, 2 · players]``. Else it
  has no columns.
- A node is evaluated once, when a simulation first reaches it, and expanded at the same time. So for every expanded
  node, root included, visits = 1 + the visits of its children, as long as it is neither at the depth limit nor a dead
  end, and no action below it failed. A chance node is never evaluated: its visits are those of its children.
- ``solved`` means that nothing is left to simulate below: a terminal whose value is known, a node that could not be
  evaluated, a node whose children are all solved, or one that is proven won. What it is worth ``proof`` says, the
  outcome for player 0, in two-player zero-sum games; elsewhere its mean: the best of its children, whatever the
  simulations averaged (an edge without a visit keeps it in ``value_sum``). An ``incomplete`` node, where an
  action is missing, and one below which something failed, are proven by a child that wins and by nothing else. A chance
  node is solved where all its outcomes are proven alike.
- An ``unstepped`` node is a child of which nothing is known but its action and prior, until a simulation first reaches
  it (``expansion.py``).
- ``pending`` counts the simulations that are under way through a node (several leaves of one tree in one batch).
- A ``linked`` node (transpositions) is an edge to a state that another node, its *source*, holds: ``first_child`` is
  the source's index, and the walk goes on with the source's children. Edges keep visits and values of their own, so
  that a state with two parents has, for each, the mean of the returns that came that way; the visits of a shared state
  are 1 + those of the edges that leave it.
- ``hint`` is a number beside the statistics, whose meaning the settings give: what a critic said of the node before
  any visit; under ``uct_bonus`` the sum of the additive terms; under ``gumbel`` what the evaluator said of the node's
  own state; in a tree of information sets how often the action was available.

Not handled: regret matching, continuous actions.
"""

from typing import Final

import numpy as np
from numba import config, njit

from ...envs.games.compiling import forget_outdated
from ..rules.backup import UNPROVEN, opposite_proof

if config.DISABLE_JIT:
    raise ImportError("the search's kernels read records as compiled code alone can: unset NUMBA_DISABLE_JIT")

NODE: Final = np.dtype(
    [
        ("parent", np.int32),
        ("first_child", np.int32),
        ("visits", np.int32),
        ("children", np.uint16),
        ("flags", np.int16),
        ("value_sum", np.float64),
        ("prior", np.float32),
        ("reward", np.float32),
        ("hint", np.float32),
        ("pending", np.uint16),
        ("player", np.int8),
        ("proof", np.uint8),
    ]
)
assert NODE.itemsize == 40

EXPANDED: Final = 1
ENDED: Final = 2
VALUED: Final = 4  # terminal, and its return is known
SOLVED: Final = 8
FAILED: Final = 16  # a model or simulator call about this node failed
INVALID: Final = 32  # the environment called the action into this node invalid
LINKED: Final = 64  # an edge to a state that another node holds
SHARED: Final = 128  # a state to which linked nodes lead
BUSY: Final = 256  # a simulation that found this state unevaluated is under way
INFORMATION: Final = 512  # an information set; its actions are nodes of their own
OUTCOMES: Final = 1024  # a chance node
INCOMPLETE: Final = 2048  # an action is missing here: it was dropped, or there are only those that were proposed
UNSTEPPED: Final = 4096  # the simulator was not stepped into this node: its state, player, reward and end are unknown

MAX_CHILDREN: Final = 65535
MAX_PLAYERS: Final = 127
MAX_PENDING: Final = 255
CHANCE: Final = -1

NORMALISE_NOT: Final = 0
NORMALISE_TREE: Final = 1
NORMALISE_SIBLINGS: Final = 2

HEAD: Final = np.dtype(
    [
        ("size", np.int64),
        ("low", np.float64),
        ("high", np.float64),
        ("noise", np.uint64),
    ]
)
"""What one tree has beside its nodes: how many, the bounds of its values, the state of its random numbers
(``arrays.py``)."""

SETTINGS: Final = np.dtype(
    [
        ("plain", np.bool_),
        ("selection", np.int64),
        ("exploration", np.float64),
        ("exploration_base", np.float64),
        ("exploitation", np.float64),
        ("first_play", np.int64),
        ("fpu_value", np.float64),
        ("value_scale", np.float64),
        ("maxvisit_init", np.float64),
        ("rescale_values", np.bool_),
        ("critic_weight", np.float64),
        ("normalise", np.int64),
        ("widening", np.float64),
        ("widening_power", np.float64),
        ("random_ties", np.bool_),
        ("visits_only", np.bool_),
        ("virtual_loss", np.float64),
        ("backup", np.int64),
        ("discount", np.float64),
        ("solve", np.bool_),
        ("proofs", np.bool_),
        ("zero_sum", np.bool_),
    ]
)
"""The settings that the kernels read (``settings.py`` makes them), as an array of one record. ``plain``: nothing but a
selection of the first three, virtual loss, and unvisited children at zero or at their parent's value; for speed."""


@njit(cache=True)
def discount_into(player: int, discount: float) -> float:
    """The discount of what follows an action, by who is to move after it: γ, and 1 where that is chance, which takes no
    time. So what an outcome pays counts as if the action before it had paid it."""
    return 1.0 if player == CHANCE else discount


@njit(cache=True)
def _source(nodes: np.ndarray, node: int) -> int:
    return nodes[node].first_child if nodes[node].flags & LINKED else node


@njit(cache=True)
def _add_children(
    nodes: np.ndarray,
    head: np.ndarray,
    parent: int,
    priors: np.ndarray,
    rewards: np.ndarray,
    flags: np.ndarray,
    players: np.ndarray,
) -> int:
    """Give a node its children, contiguous at the end; returns the index of the first. The array must have room."""
    first = head[0].size
    count = priors.shape[0]
    nodes[parent].first_child = first if count else -1
    nodes[parent].children = count
    nodes[parent].flags |= EXPANDED
    for i in range(count):
        record = nodes[first + i]
        record.parent = parent
        record.first_child = -1
        record.children = 0
        record.flags = flags[i]
        record.pending = 0
        record.visits = 0
        record.value_sum = 0.0
        record.prior = priors[i]
        record.reward = rewards[i]
        record.hint = 0.0
        record.player = players[i] if players[i] >= CHANCE else 0
        record.proof = UNPROVEN
    head[0].size = first + count
    return first


@njit(cache=True)
def _path(nodes: np.ndarray, node: int) -> np.ndarray:
    """The nodes from the root to ``node`` by their parents: int32 ``[depth + 1]``."""
    length = 0
    step = node
    while step >= 0:
        length += 1
        step = nodes[step].parent
    path = np.empty(length, np.int32)
    for place in range(length - 1, -1, -1):
        path[place] = node
        node = nodes[node].parent
    return path


@njit(cache=True)
def _subtree(nodes: np.ndarray, top: int, hint_of_state: bool) -> tuple[np.ndarray, np.ndarray]:
    """(old indices in their new order, new index of each old node or −1) of what lies below ``top``, level by level,
    children side by side. A source that only a linked node reaches hands its children over to that node, with all that
    it knows of the state; what is of the action alone stays, the hint too unless it is ``hint_of_state``."""
    order = np.empty(nodes.shape[0], np.int64)
    place = np.full(nodes.shape[0], -1, np.int64)
    order[0] = top
    place[top] = 0
    length = 1
    done = 0
    while done < length:
        old = order[done]
        source = _source(nodes, old)
        while nodes[source].flags & LINKED:  # it has handed its children over
            source = nodes[source].first_child
        if source != old:
            nodes[old].first_child = source
            if place[source] < 0:
                record, other = nodes[old], nodes[source]
                record.first_child = other.first_child
                record.children = other.children
                record.flags = (record.flags | (other.flags & ~INVALID)) & ~LINKED
                record.proof = other.proof
                if hint_of_state:
                    record.hint = other.hint
                for child in range(record.first_child, record.first_child + record.children):
                    nodes[child].parent = old
                other.first_child = old
                other.children = 0
                other.flags |= LINKED
            else:
                done += 1
                continue
        done += 1
        record = nodes[old]
        for child in range(record.first_child, record.first_child + record.children):
            order[length] = child
            place[child] = length
            length += 1
    return order[:length].copy(), place


forget_outdated(opposite_proof)  # before any kernel of these folders is read from disk
forget_outdated(_source)
