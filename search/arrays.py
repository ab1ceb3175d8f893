"""Trees as arrays alone: the store of nodes that every tree has, and a search for models that work on arrays.

:class:`ArrayTree` is the engine without words: the caller holds the states (by node index, or not at all) and a model
that values many leaves at once; the tree selects, expands and backs up, n leaves a call, without a Python object a
node. The rules are those of :class:`SearchSettings`, the kernels those of ``descent.py`` and ``ascent.py``.

Not here: texts, simulators, transpositions, information sets (``tree.py``, ``engine.py``).
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import njit, typeof

from .ascent import _abandon, _back_up, _release
from .backup import LOSS, UNPROVEN, WIN
from .descent import PATH_TOO_SHORT, _select
from .gumbel import considered_visits, gumbel_draws
from .nodes import EXPANDED, HEAD, NODE, SOLVED, TERMINAL, VALUED, WALK, _add_children, _fill_path
from .selection import GUMBEL
from .settings import SearchSettings, walk_of

MOST_ROOM = 1 << 20
LEAF, DEPTH = -2, -1  # of a simulation, at the end of its path
TABLE_TERMINAL, TABLE_MOVER = 0, 1


class _Entries:
    """The compiled kernels, called past numba's dispatcher.

    The dispatcher looks at the type of every argument, about 0.25 µs for a structured array: 1.2 µs for a call of
    :func:`_select` that works for 0.3. The entry of a compiled kernel looks at nothing, so only arrays that this file
    made or checked may go in.
    """

    select: Callable[..., tuple[int, int, int]]
    back_up: Callable[..., None]
    add_children: Callable[..., int]
    next_leaves: Callable[..., int]
    tell_and_next: Callable[..., tuple[int, int]]

    def __init__(self) -> None:
        self.ready = False

    def prepare(self) -> None:
        """Compile the kernels, or read them from numba's cache."""
        nodes, values, head, walk = np.zeros(1, NODE), np.zeros((1, 0)), np.zeros(1, HEAD), np.zeros(1, WALK)
        path, numbers, whole = np.zeros(1, np.int32), np.zeros(1), np.zeros(1, np.int64)
        tree = (nodes, values, head, walk)
        paths, table = np.zeros((1, 1), np.int32), np.zeros((1, 1))
        self.select = _entry(_select, *tree, path, numbers, whole)
        self.back_up = _entry(_back_up_from, *tree, path, 0, 0, numbers)
        self.add_children = _entry(_add_children, nodes, head, 0, numbers, numbers, whole, whole)
        self.next_leaves = _entry(_next_leaves, *tree, paths, numbers, whole, 0, 0)
        self.tell_and_next = _entry(_tell_and_next, *tree, paths, table, numbers, whole, 0, 0, 0, 0)
        self.ready = True


_ENTRIES = _Entries()


def _entry(kernel: Any, *arguments: Any) -> Callable[..., Any]:
    signature = tuple(typeof(argument) for argument in arguments)
    kernel.compile(signature)
    return kernel.overloads[signature].entry_point


class NodeArrays:
    """The arrays of one tree and their growth, by doubling. ``players`` returns are kept a node where ``vector``, else
    one."""

    def __init__(self, capacity: int, players: int = 1, vector: bool = False) -> None:
        if not _ENTRIES.ready:
            _ENTRIES.prepare()
        capacity = max(capacity, 1)
        self.players = players
        self._nodes = np.zeros(capacity, NODE)
        self._nodes[0]["parent"] = self._nodes[0]["first_child"] = -1
        self._nodes[0]["prior"] = 1.0
        self._nodes[0]["proof"] = UNPROVEN
        self._values = np.zeros((capacity if vector else 0, 2 * players if vector else 0))
        self._head = np.zeros(1, HEAD)
        self._head["size"] = self.size = 1
        self._head["low"], self._head["high"] = np.inf, -np.inf
        self._returns = np.zeros(players if vector else 1)
        self._path = np.zeros(256, np.int32)
        self._nobody = np.zeros(16, np.int64)
        self._gumbel = np.zeros(0)
        self._considered = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return self.size

    @property
    def nodes(self) -> np.ndarray:
        """The records of all nodes: structured array ``[nodes]`` of :data:`NODE`; a view."""
        return self._nodes[: self.size]

    @property
    def array_bytes(self) -> int:
        """Bytes of the arrays, room for growth included."""
        return self._nodes.nbytes + self._values.nbytes + self._path.nbytes

    def reserve(self, count: int) -> None:
        """Make room for ``count`` further nodes."""
        needed = self.size + count
        if needed > len(self._nodes):
            capacity = max(2 * len(self._nodes), needed)
            self._nodes = _grown(self._nodes, capacity)
            if self._values.shape[1]:
                self._values = _grown(self._values, capacity)

    def seed_noise(self, rng: np.random.Generator) -> None:
        """Start the tree's own random numbers, once, from the state of ``rng`` (which draws nothing by it); chance and
        random ties draw from them."""
        if self._head["noise"][0] == 0:
            digest = hashlib.blake2b(repr(rng.bit_generator.state).encode(), digest_size=8).digest()
            self._head["noise"] = int.from_bytes(digest, "little") | 1

    def plan_gumbel(self, draws: np.ndarray, simulations: int, considered: int) -> None:
        """Fix the root's Gumbel draws (float64 ``[root's children]``) and its sequential halving."""
        self._gumbel = np.array(draws, np.float64)
        self._considered = considered_visits(min(considered, len(draws)), max(simulations, 1))

    def add_block(
        self,
        node: int,
        priors: Sequence[float] | np.ndarray,
        rewards: Sequence[float] | np.ndarray,
        flags: Sequence[int],
        players: Sequence[int] | None,
    ) -> int:
        """Give a node children; one entry each (``players`` None: player 0). Returns the index of the first."""
        count = len(priors)
        if self.size + count > len(self._nodes):
            self.reserve(count)
        if players is None and count > len(self._nobody):
            self._nobody = np.zeros(2 * count, np.int64)
        first = _ENTRIES.add_children(
            self._nodes,
            self._head,
            node,
            np.array(priors, np.float64),
            np.array(rewards, np.float64),
            np.array(flags, np.int64),
            self._nobody if players is None else np.array(players, np.int64),
        )
        self.size = first + count
        return first

    def select(self, walk: np.ndarray) -> tuple[int, int, int]:
        """Walk to a leaf and mark it under way: (leaf, depth, flags); the leaf is −1 where that leaf already is."""
        found = _ENTRIES.select(self._nodes, self._values, self._head, walk, self._path, self._gumbel, self._considered)
        if found[0] == PATH_TOO_SHORT:
            self._path = np.zeros(2 * len(self._path), np.int32)
            return self.select(walk)
        return found

    def path_taken(self, depth: int) -> np.ndarray:
        """The nodes of the last :meth:`select`: int32 ``[depth + 1]``."""
        return self._path[: depth + 1].copy()

    def back_up(self, leaf: int, value: float | np.ndarray, walk: np.ndarray, path: np.ndarray | None = None) -> None:
        """Tell the value of a selected leaf's state to all nodes above it: of player 0, or float64 ``[players]`` where
        all returns are kept. ``path``: how the simulation came there, where the leaf has several parents."""
        if path is None:
            path, depth = self._path, -1
        else:
            depth = len(path) - 1
        self._returns.fill(value) if isinstance(value, float) else np.copyto(self._returns, value)
        _ENTRIES.back_up(self._nodes, self._values, self._head, walk, path, leaf, depth, self._returns)

    def take_back(self, leaf: int, walk: np.ndarray, path: np.ndarray | None = None) -> None:
        """Take a selected leaf's simulation back; the leaf is not tried again, unless it is the root."""
        depth = self._walk_back(leaf) if path is None else len(path) - 1
        _abandon(self._nodes, walk, self._path if path is None else path, depth)

    def release(self, leaf: int, path: np.ndarray | None = None) -> None:
        """Forget a selection, as if it had not been made."""
        depth = self._walk_back(leaf) if path is None else len(path) - 1
        _release(self._nodes, self._path if path is None else path, depth)

    def has_gumbel(self) -> bool:
        """Whether the root has its Gumbel draws."""
        return len(self._gumbel) > 0

    def _walk_back(self, leaf: int) -> int:
        return _fill_path(self._nodes, leaf, self._path)


class ArrayTree(NodeArrays):
    """A search without words: ``leaves = tree.next(n)``, ask the model about them, ``tree.tell(...)``, and so on; or
    both at once with :meth:`step`.

    ``actions`` is how many children a node gets; the parent of leaf ``i`` and the action into it are
    ``tree.parents(leaves)[i]`` and ``tree.actions_into(leaves)[i]``, so that a caller can keep states by node index.
    ``settings`` as in a search of words, of which this reads simulations, the rules of selection and backup,
    ``max_depth``, ``solve``, ``random_ties``, and under ``gumbel`` its two numbers; ``leaves_per_tree`` bounds ``n``.
    ``players`` and ``zero_sum`` say whose returns are kept (``nodes.py``).

    >>> import numpy as np
    >>> tree = ArrayTree(SearchSettings(simulations=50, exploration=1.0), actions=3)
    >>> leaves = tree.next()
    >>> while len(leaves):  # a model that likes action 2
    ...     leaves = tree.step(tree.actions_into(leaves) / 2.0, np.full((len(leaves), 3), 1 / 3))
    >>> tree.visits().argmax()
    np.int64(2)
    """

    def __init__(
        self,
        settings: SearchSettings,
        actions: int,
        players: int = 1,
        zero_sum: bool = False,
        rng: np.random.Generator | None = None,
    ) -> None:
        one_number = players == 1 or (zero_sum and players == 2)
        room = min(settings.simulations * actions + 1, MOST_ROOM)  # untouched pages cost nothing, growth copies
        super().__init__(room, players, not one_number)
        self.settings = settings
        self.actions = actions
        self.rng = np.random.default_rng(0) if rng is None else rng
        self.seed_noise(self.rng)
        self._walk = walk_of(settings, zero_sum=zero_sum, players=players)
        batch = settings.leaves_per_tree
        self._paths = np.zeros((batch, settings.max_depth + 4), np.int32)
        self._leaves = self._paths[:, LEAF]
        self._out = 0
        columns = self._returns.shape[0]
        self._table = np.zeros((batch, 2 + 2 * columns + actions))
        self.terminal = self._table[:, TABLE_TERMINAL]
        self.movers = self._table[:, TABLE_MOVER]
        self.values = self._table[:, 2 : 2 + columns]
        self.rewards = self._table[:, 2 + columns : 2 + 2 * columns]
        self.priors = self._table[:, 2 + 2 * columns :]
        self._limits = settings.max_depth, settings.simulations
        self._needs_gumbel = settings.selection == "gumbel"
        self._batch = batch
        self._arguments = self._gathered()

    def next(self, count: int = 1) -> np.ndarray:
        """Up to ``count`` leaves to ask the model about: int64 ``[leaves]``, a view; empty when the search is over.

        The leaves of the last call must have been told. Terminal nodes that come again are backed up here.
        """
        if self._out:
            raise ValueError(f"{self._out} leaves of the last call are still to be told")
        if not 1 <= count <= self._batch:
            raise ValueError(f"{count} leaves; expected 1 to leaves_per_tree={self._batch}")
        self._out = _ENTRIES.next_leaves(
            self._nodes,
            self._values,
            self._head,
            self._walk,
            self._paths,
            self._gumbel,
            self._considered,
            count,
            self.settings.simulations,
        )
        return self._leaves[: self._out]

    def tell(self, values: np.ndarray | None = None, priors: np.ndarray | None = None) -> None:
        """What the model says of the leaves of the last call stands in the first rows of these arrays of the tree:

        values: of each leaf's state, for player 0, or for all players where their returns are kept: float64
            ``[batch, 1 or players]``. A leaf with a value, reward or prior that is NaN is taken back and counted
            (``failed``).
        priors: float64 ``[batch, actions]``, each row sums to one; a negative entry is no action.
        rewards: of the step into each leaf, as ``values``; zero unless written. terminal: 1 or 0, ``[batch]``; 0 unless
            written. movers: who moves at each leaf (``CHANCE``: its priors are probabilities): ``[batch]``;
            player 0 unless written. What was written stays until it is written over.

        ``values`` and ``priors``, where given, are copied there first.
        """
        if values is not None:
            self.values[: self._out] = np.reshape(values, (self._out, -1))
        if priors is not None:
            self.priors[: self._out] = priors
        self._tell(0)

    def step(self, values: np.ndarray | None = None, priors: np.ndarray | None = None) -> np.ndarray:
        """:meth:`tell`, then :meth:`next` for as many leaves as may be out at once, in one call of the kernels."""
        if values is not None:
            self.values[: self._out] = np.reshape(values, (self._out, -1))
        if priors is not None:
            self.priors[: self._out] = priors
        self._tell(self._batch)
        return self._leaves if self._out == self._batch else self._leaves[: self._out]

    def parents(self, leaves: np.ndarray) -> np.ndarray:
        """The parent of each node, −1 for the root: int32 ``[leaves]``."""
        return self._nodes["parent"][leaves]

    def actions_into(self, leaves: np.ndarray) -> np.ndarray:
        """Which action of its parent each node is: int64 ``[leaves]``; 0 for the root."""
        parents = self._nodes["parent"][leaves]
        return np.where(parents < 0, 0, leaves - self._nodes["first_child"][parents])

    def visits(self, node: int = 0) -> np.ndarray:
        """Visits of a node's children: int32 ``[actions]``."""
        return self._of_children(node, "visits").copy()

    def q_values(self, node: int = 0) -> np.ndarray:
        """Mean returns of a node's actions for its player to move: float64 ``[actions]``, 0 without a visit."""
        return self._of_children(node, "value_sum") / np.maximum(self._of_children(node, "visits"), 1)

    @property
    def failed(self) -> int:
        """How many leaves were taken back."""
        return int(self._head["failed"][0])

    def _of_children(self, node: int, name: str) -> np.ndarray:
        first = int(self._nodes["first_child"][node])
        return self._nodes[name][first : first + int(self._nodes["children"][node])]

    def _tell(self, then: int) -> None:
        if self.size + self._out * self.actions > self._room:
            self.reserve(self._out * self.actions)
            self._arguments = self._gathered()
        told = self._out
        self._out, self.size = _ENTRIES.tell_and_next(
            *self._arguments, told, 0 if self._needs_gumbel else then, *self._limits
        )
        if self._needs_gumbel and self.size > 1:
            self._needs_gumbel = False
            draws = gumbel_draws(self.rng, self.actions, self.settings.gumbel_scale)
            legal = int((self._of_children(0, "prior") > 0.0).sum())
            self.plan_gumbel(draws, self.settings.simulations - 1, min(self.settings.considered, legal))
            self._arguments = self._gathered()
            if then:
                self.next(then)

    def _gathered(self) -> tuple[np.ndarray, ...]:
        """What every call of the kernels takes, gathered once: it saves a tenth of a call."""
        self._room = len(self._nodes)
        return (
            self._nodes,
            self._values,
            self._head,
            self._walk,
            self._paths,
            self._table,
            self._gumbel,
            self._considered,
        )


@njit(cache=True)
def _back_up_from(
    nodes: np.ndarray,
    values: np.ndarray,
    head: np.ndarray,
    walk: np.ndarray,
    path: np.ndarray,
    leaf: int,
    depth: int,
    returns: np.ndarray,
) -> None:
    """``depth`` −1: the path is that of the leaf's parents, and is written into ``path``."""
    if depth < 0:
        depth = _fill_path(nodes, leaf, path)
    _back_up(nodes, values, head, walk, path, depth, returns)


def _grown(array: np.ndarray, length: int) -> np.ndarray:
    grown = np.zeros((length, *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown


@njit(cache=True)
def _next_leaves(
    nodes: np.ndarray,
    values: np.ndarray,
    head: np.ndarray,
    walk: np.ndarray,
    paths: np.ndarray,
    gumbel: np.ndarray,
    considered: np.ndarray,
    count: int,
    simulations: int,
) -> int:
    found = 0
    nothing = np.zeros(max(values.shape[1] // 2, 1))
    while found < count and nodes[0].visits + nodes[0].pending < simulations and not nodes[0].flags & SOLVED:
        leaf, depth, flags = _select(nodes, values, head, walk, paths[found], gumbel, considered)
        if leaf < 0:
            break
        if flags & VALUED:
            nothing[:] = 0.0
            _back_up(nodes, values, head, walk, paths[found], depth, nothing)
            continue
        paths[found, LEAF] = leaf
        paths[found, DEPTH] = depth
        found += 1
    return found


@njit(cache=True)
def _tell_and_next(
    nodes: np.ndarray,
    values: np.ndarray,
    head: np.ndarray,
    walk: np.ndarray,
    paths: np.ndarray,
    table: np.ndarray,
    gumbel: np.ndarray,
    considered: np.ndarray,
    told: int,
    then: int,
    max_depth: int,
    simulations: int,
) -> tuple[int, int]:
    """(how many leaves are out, how many nodes there are). Two arrays for the whole batch, since each argument costs
    about 50 ns."""
    columns = max(values.shape[1] // 2, 1)
    actions = table.shape[1] - 2 - 2 * columns
    back = np.empty(columns)
    for i in range(told):
        leaf, depth = paths[i, LEAF], paths[i, DEPTH]
        row = table[i]
        terminal = row[TABLE_TERMINAL] != 0.0
        returns, rewards = row[2 : 2 + columns], row[2 + columns : 2 + 2 * columns]
        priors = row[2 + 2 * columns : 2 + 2 * columns + actions]
        if not (_finite(returns) and _finite(rewards) and (terminal or _finite(priors))):
            head[0].failed += 1
            _abandon(nodes, walk, paths[i], depth)
            continue
        _tell_leaf(nodes, values, head, walk, leaf, depth < max_depth, priors, rewards, terminal, int(row[TABLE_MOVER]))
        if walk[0].selection == GUMBEL:
            mover = max(nodes[leaf].player, 0)
            if values.shape[1] > 0:
                nodes[leaf].hint = returns[mover]
            else:
                nodes[leaf].hint = -returns[0] if walk[0].zero_sum and mover == 1 else returns[0]
        for column in range(columns):
            back[column] = 0.0 if terminal else returns[column]
        _back_up(nodes, values, head, walk, paths[i], depth, back)
    found = 0
    if then > 0:
        found = _next_leaves(nodes, values, head, walk, paths, gumbel, considered, then, simulations)
    return found, head[0].size


@njit(cache=True)
def _finite(numbers: np.ndarray) -> bool:
    return np.isfinite(numbers.sum())


@njit(cache=True)
def _tell_leaf(
    nodes: np.ndarray,
    values: np.ndarray,
    head: np.ndarray,
    walk: np.ndarray,
    leaf: int,
    expand: bool,
    priors: np.ndarray,
    rewards: np.ndarray,
    terminal: bool,
    player: int,
) -> None:
    """Set what is known of a leaf, and give it its children. Those that are no action count as solved."""
    record = nodes[leaf]
    record.player = player
    if leaf > 0:
        chooser = max(nodes[record.parent].player, 0)
        if values.shape[1] > 0:
            half = values.shape[1] // 2
            for each in range(half):
                values[leaf, half + each] = rewards[each]
            record.reward = rewards[chooser]
        else:
            record.reward = -rewards[0] if walk[0].zero_sum and chooser == 1 else rewards[0]
    if terminal:
        record.flags |= TERMINAL | VALUED
        return
    if not expand or record.flags & EXPANDED:
        return
    first = head[0].size
    record.first_child = first
    record.children = priors.shape[0]
    record.flags |= EXPANDED
    for i in range(priors.shape[0]):
        child = nodes[first + i]
        child.parent = leaf
        child.first_child = -1
        child.children = 0
        child.flags = SOLVED if priors[i] < 0.0 else 0
        child.pending = 0
        child.visits = 0
        child.value_sum = 0.0
        child.prior = max(priors[i], 0.0)
        child.reward = 0.0
        child.hint = 0.0
        child.player = 0
        child.proof = UNPROVEN if priors[i] >= 0.0 else (WIN if player == 1 else LOSS)  # what cannot be played is lost
    head[0].size = first + priors.shape[0]
