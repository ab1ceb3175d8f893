"""Search for models that work on arrays, without words and without a Python object a node.

:class:`ArrayTree` is the engine without words: the caller holds the states (by node index, or not at all) and a model
that values many leaves at once; the tree selects, expands and backs up, n leaves a call. The rules are those of
:class:`SearchSettings`, the kernels those of ``descent.py`` and ``ascent.py``.

Handing an array to a compiled function costs about 0.15 µs, and a step needs eight of them; so the addresses of a
tree's arrays stand in one record, made anew whenever one of the arrays is, and a step hands over the address of that
record alone. What a step alone calls is inlined, since between compiled functions eight arrays are fifty words.

Not here: texts, simulators, transpositions, information sets (``tree.py``, ``engine.py``).
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Final, NoReturn

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

from ...envs.checked import LARGEST
from ...envs.simulator import MOST_DRAWS
from ..rules.backup import LOSS, UNPROVEN, WIN
from ..rules.options import numbers_of
from ..rules.selection import GUMBEL
from ..settings import SearchSettings, settings_record
from .arrays import entry
from .ascent import _abandon, _back_up
from .descent import _select
from .nodes import CHANCE, ENDED, EXPANDED, FAILED, HEAD, NODE, SETTINGS, SOLVED, VALUED
from .reading import Reading

MOST_ROOM: Final = 1 << 20
LEAF: Final = -2  # of a simulation, at the end of its path
DEPTH: Final = -1
TABLE_TERMINAL: Final = 0
TABLE_MOVER: Final = 1
NO_ROOM: Final = -1
NO_GUMBEL: Final = -2
UNPROVABLE: Final = -3

_NOT_READ: Final = (
    "noise",
    "critic_weight",
    "widening",
    "hide_outcome",
    "transpositions",
    "information",
    "seconds",
    "max_nodes",
    "max_bytes",
    "max_model_calls",
    "stop_decided",
)
"""Settings of which a tree of arrays knows the default alone. Others that it does not read are about words."""


PLACES: Final = np.dtype(
    [(name, np.int64) for name in ("nodes", "values", "head", "settings", "paths", "table", "gumbel", "considered")]
    + [(name, np.int64) for name in ("room", "returns", "path", "batch", "columns", "draws", "turns")]
    + [(name, np.int64) for name in ("max_depth", "simulations", "out")]
)
"""Where the arrays of a tree lie, as addresses; their lengths; the limits; and how many leaves are out."""


class ArrayTree(Reading):
    """A search without words: ``leaves = tree.next(n)``, ask the model about them, ``tree.tell(...)``, and so on; or
    both at once with :meth:`step`.

    ``actions`` is how many children a node gets; the parent of leaf ``i`` and the action into it are
    ``tree.parents(leaves)[i]`` and ``tree.actions_into(leaves)[i]``, so that a caller can keep states by node index.
    ``settings`` as in a search of words, of which this reads simulations, the rules of selection and backup,
    ``max_depth``, ``solve``, ``random_ties``, and the numbers of ``gumbel`` and of first play; ``leaves_per_tree``
    bounds ``n``. Raises ValueError for settings that need words, a simulator or a clock.
    ``players`` and ``zero_sum`` say whose returns are kept (``nodes.py``).

    >>> import numpy as np
    >>> tree = ArrayTree(SearchSettings(simulations=50, selection={"puct": {"exploration": 1.0}}), actions=3)
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
        _check(settings, players)
        one_number = players == 1 or (zero_sum and players == 2)
        room = min(settings.simulations * actions + 1, MOST_ROOM)  # untouched pages cost nothing, growth copies
        super().__init__(room, players, not one_number)
        self.settings = settings
        self.actions = actions
        self.zero_sum = zero_sum
        self.rng = np.random.default_rng(0) if rng is None else rng
        self.seed_noise(self.rng)
        self._settings_record = settings_record(settings, zero_sum=zero_sum, players=players)
        batch = settings.leaves_per_tree
        self._paths = np.zeros((batch, settings.max_depth + 4), np.int32)
        self._leaves = self._paths[:, LEAF]
        columns = self._returns.shape[0]
        self._table = np.zeros((batch, 2 + 2 * columns + actions))
        self.terminal = self._table[:, TABLE_TERMINAL]
        self.movers = self._table[:, TABLE_MOVER]
        self.values = self._table[:, 2 : 2 + columns]
        self.rewards = self._table[:, 2 + columns : 2 + 2 * columns]
        self.priors = self._table[:, 2 + 2 * columns :]
        self._batch = batch
        self._step = _compiled_step()
        self._locate()

    def next(self, count: int = 1) -> np.ndarray:
        """Up to ``count`` leaves to ask the model about: int64 ``[leaves]``, a view; empty when the search is over.

        The leaves of the last call must have been told. Terminal nodes that come again are backed up here; where an
        outcome of chance failed, another is drawn.
        """
        if self._out:
            raise ValueError(f"{self._out} leaves of the last call are still to be told")
        if not 1 <= count <= self._batch:
            raise ValueError(f"{count} leaves; expected 1 to leaves_per_tree={self._batch}")
        return self._leaves[: self._go_on(count)]

    def tell(self, values: np.ndarray | None = None, priors: np.ndarray | None = None) -> None:
        """What the model says of the leaves of the last call stands in the first rows of these arrays of the tree:

        values: of each leaf's state, for player 0, or for all players where their returns are kept: float64
            ``[batch, 1 or players]``. A leaf of which a value, reward or prior is NaN or infinite, or
            whose sizes add up to more than 3.4e38, or with a mover that is no player, is taken back and counted
            (``failed``).
        priors: float64 ``[batch, actions]``, each row sums to one; a negative entry is no action. A leaf that is not
            terminal and has no action is taken back too; where it is terminal they are not read.
        rewards: of the step into each leaf, as ``values``; zero unless written. terminal: 1 or 0, ``[batch]``; 0 unless
            written. movers: who moves at each leaf (``CHANCE``: its priors are probabilities): ``[batch]``;
            player 0 unless written. What was written stays until it is written over.

        ``values`` and ``priors``, where given, are copied there first. Raises ValueError where the search proves wins,
        draws and losses (``zero_sum`` with ``solve`` and without a discount) and a reward is none of theirs; nothing
        was told then.
        """
        self._take(values, priors)
        self._go_on(0)

    def step(self, values: np.ndarray | None = None, priors: np.ndarray | None = None) -> np.ndarray:
        """:meth:`tell`, then :meth:`next` for as many leaves as may be out at once, in one call of the kernels."""
        if values is not None or priors is not None:
            self._take(values, priors)
        out = self._step(self._address, self._batch)
        if out < 0:
            out = self._go_on(self._batch)
        return self._leaves if out == self._batch else self._leaves[:out]

    def parents(self, leaves: np.ndarray) -> np.ndarray:
        """The parent of each node, −1 for the root: int32 ``[leaves]``."""
        return self._nodes["parent"][leaves]

    def actions_into(self, leaves: np.ndarray) -> np.ndarray:
        """Which action of its parent each node is: int64 ``[leaves]``; 0 for the root."""
        parents = self._nodes["parent"][leaves]
        return np.where(parents < 0, 0, leaves - self._nodes["first_child"][parents])

    def visits(self, node: int = 0) -> np.ndarray:
        """Visits of a node's children: int32 ``[actions]``."""
        return self._nodes["visits"][self._child_indices(node)]

    def q_values(self, node: int = 0) -> np.ndarray:
        """Returns of a node's actions for its player to move, proven or mean as ``Tree.value``: float64 ``[actions]``,
        0 without a visit."""
        values = self.child_values(node)
        return np.where(np.isnan(values), 0.0, values)

    def policy_target(self, node: int = 0) -> np.ndarray:
        """What a policy would learn at a node (:meth:`Reading.shares`): float64 ``[actions]``, sum 1."""
        return self.shares(node, self.settings.rule.name == "gumbel", self.settings.final)

    def settings_to_read(self) -> np.ndarray:
        """The settings as the kernels read them: :data:`nodes.SETTINGS` ``[1]``."""
        return self._settings_record

    @property
    def failed(self) -> int:
        """How many leaves were taken back."""
        return int(self._head["failed"][0])

    @property
    def size(self) -> int:
        """How many nodes there are."""
        return int(self._head["size"][0])

    @size.setter
    def size(self, count: int) -> None:
        self._head["size"] = count

    @property
    def _out(self) -> int:
        """How many leaves are out: their model was not heard yet."""
        return int(self._places["out"][0])

    def _take(self, values: np.ndarray | None, priors: np.ndarray | None) -> None:
        out = self._out
        if values is not None:
            self.values[:out] = np.reshape(values, (out, -1))
        if priors is not None:
            self.priors[:out] = priors

    def _go_on(self, count: int) -> int:
        """Tell what is out, and find up to ``count`` leaves; how many are out then."""
        while (out := self._step(self._address, count)) < 0:
            if out == NO_ROOM:
                self.reserve(self._out * self.actions)
            elif out == UNPROVABLE:
                raise ValueError(
                    "solve=True proves wins, draws and losses: a leaf's reward is 1, 0 or -1 if it is terminal, else 0;"
                    f" got {self.rewards[: self._out].ravel()}, terminal {self.terminal[: self._out]}; set solve=False"
                )
            else:
                options = numbers_of(self.settings.rule)
                self.plan_gumbel(self.rng, options["gumbel_scale"], self.settings.simulations, options["considered"])
        return out

    def reserve(self, count: int) -> None:
        """Make room for ``count`` further nodes."""
        super().reserve(count)
        self._locate(self._out)

    def plan_gumbel(self, rng: np.random.Generator, scale: float, simulations: int, considered: int) -> None:
        super().plan_gumbel(rng, scale, simulations, considered)
        self._locate(self._out)

    def _locate(self, out: int = 0) -> None:
        """Write down where the arrays lie. After anything that replaces one of them."""
        arrays: list[np.ndarray] = [
            self._nodes,
            self._values,
            self._head,
            self._settings_record,
            self._paths,
            self._table,
        ]
        arrays += [self._gumbel, self._considered]
        lengths = [len(self._nodes), self._values.shape[1], self._paths.shape[1], self._batch, self._table.shape[1]]
        lengths += [len(self._gumbel), len(self._considered), self.settings.max_depth, self.settings.simulations]
        self._places = np.array([(*(array.ctypes.data for array in arrays), *lengths, out)], PLACES)
        self._address = self._places.ctypes.data

    def __reduce__(self) -> NoReturn:
        raise TypeError("an ArrayTree cannot be pickled or copied; keep what is read from it, such as visits()")


def _check(settings: SearchSettings, players: int) -> None:
    usual = SearchSettings()
    for name in _NOT_READ:
        if getattr(settings, name) != getattr(usual, name):
            raise ValueError(
                f"an ArrayTree does not read {name}={getattr(settings, name)!r}; search with engine.search"
            )
    if settings.rule.name in ("softmax", "uct_bonus") or settings.unvisited_value == "prior":
        raise ValueError("an ArrayTree has neither selection='softmax' nor 'uct_bonus', nor unvisited_value='prior'")
    if settings.backup == "max" and players > 1:
        raise ValueError(f"backup='max' keeps the best return of one player, and there are {players}; use 'minimax'")


@cache
def _compiled_step() -> Callable[[int, int], int]:
    return entry(_step, 0, 0)


@intrinsic
def _pointer(context: Any, address: Any) -> Any:
    """An address as a pointer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.voidptr(types.int64), generate


@njit(cache=True)
def _step(address: int, count: int) -> int:
    """Tell the leaves that are out, and find up to ``count`` others: how many, or what is wrong (all was told where the
    draws lack, else nothing was done). ``address`` is that of the record of :data:`PLACES`."""
    at = carray(_pointer(address), (1,), PLACES)[0]
    nodes = carray(_pointer(at.nodes), (at.room,), NODE)
    values = carray(_pointer(at.values), (at.room, at.returns), np.float64)
    head = carray(_pointer(at.head), (1,), HEAD)
    settings = carray(_pointer(at.settings), (1,), SETTINGS)
    paths = carray(_pointer(at.paths), (at.batch, at.path), np.int32)
    table = carray(_pointer(at.table), (at.batch, at.columns), np.float64)
    gumbel = carray(_pointer(at.gumbel), (at.draws,), np.float64)
    considered = carray(_pointer(at.considered), (at.turns,), np.int64)
    actions = at.columns - 2 - 2 * max(at.returns // 2, 1)
    if head[0].size + at.out * actions > at.room:
        return NO_ROOM
    if settings[0].proofs and not _provable(paths, table, at.out):
        return UNPROVABLE
    if at.out > 0:
        _tell(nodes, values, head, settings, paths, table, at.out, at.max_depth)
        at.out = 0
    if count > 0:
        if settings[0].selection == GUMBEL and at.turns == 0 and nodes[0].children > 0:
            return NO_GUMBEL
        at.out = _next_leaves(nodes, values, head, settings, paths, gumbel, considered, count, at.simulations)
    return at.out


@njit(inline="always")
def _provable(paths: np.ndarray, table: np.ndarray, told: int) -> bool:
    """Whether each reward is that of a win, draw or loss, or of a step before it. What is no number is looked at
    later."""
    for i in range(told):
        reward = abs(table[i, 3])  # of the one number that a game of two opposed players keeps
        if paths[i, LEAF] > 0 and 0.0 < reward <= LARGEST and not (reward == 1.0 and table[i, TABLE_TERMINAL] != 0.0):
            return False
    return True


@njit(inline="always")
def _next_leaves(
    nodes: np.ndarray,
    values: np.ndarray,
    head: np.ndarray,
    settings: np.ndarray,
    paths: np.ndarray,
    gumbel: np.ndarray,
    considered: np.ndarray,
    count: int,
    simulations: int,
) -> int:
    found = 0
    nothing = np.zeros(max(values.shape[1] // 2, 1))
    over = SOLVED | FAILED  # a root that was refused is not asked again
    lost = 0
    while found < count and nodes[0].visits + nodes[0].pending < simulations and not nodes[0].flags & over:
        leaf, depth, flags = _select(nodes, values, head, settings, paths[found], gumbel, considered)
        if leaf < 0:
            break
        if flags & SOLVED and flags & FAILED:  # chance led there again: another outcome is drawn
            _abandon(nodes, values, settings, paths[found], depth)
            lost += 1
            if lost == MOST_DRAWS:
                break
            continue
        if flags & (VALUED | SOLVED):
            nothing[:] = 0.0
            _back_up(nodes, values, head, settings, paths[found], depth, nothing)
            continue
        paths[found, LEAF] = leaf
        paths[found, DEPTH] = depth
        found += 1
    return found


@njit(inline="always")
def _tell(
    nodes: np.ndarray,
    values: np.ndarray,
    head: np.ndarray,
    settings: np.ndarray,
    paths: np.ndarray,
    table: np.ndarray,
    told: int,
    max_depth: int,
) -> None:
    columns = max(values.shape[1] // 2, 1)
    players = 2 if settings[0].zero_sum else columns
    back = np.empty(columns)
    for i in range(told):
        leaf, depth = paths[i, LEAF], paths[i, DEPTH]
        row = table[i]
        terminal = row[TABLE_TERMINAL] != 0.0
        returns, rewards = row[2 : 2 + columns], row[2 + columns : 2 + 2 * columns]
        priors = row[2 + 2 * columns :]
        known_mover = row[TABLE_MOVER] < players and (terminal or row[TABLE_MOVER] >= CHANCE)
        has_priors = terminal or (_finite(priors) and priors.max() >= 0.0)
        if not (known_mover and has_priors and _finite(returns) and _finite(rewards)):
            head[0].failed += 1
            _abandon(nodes, values, settings, paths[i], depth)
            continue
        mover = int(max(row[TABLE_MOVER], CHANCE))  # TERMINAL where the episode is over
        _tell_leaf(nodes, values, head, settings, leaf, depth < max_depth, priors, rewards, terminal, mover)
        if settings[0].selection == GUMBEL:
            mover = max(mover, 0)
            if values.shape[1] > 0:
                nodes[leaf].hint = returns[mover]
            else:
                nodes[leaf].hint = -returns[0] if settings[0].zero_sum and mover == 1 else returns[0]
        for column in range(columns):
            back[column] = 0.0 if terminal else returns[column]
        _back_up(nodes, values, head, settings, paths[i], depth, back)


@njit(cache=True, fastmath={"reassoc"})
def _finite(numbers: np.ndarray) -> bool:
    """Whether these are numbers, and float32 can hold the sum of their sizes."""
    total = 0.0
    for number in numbers:
        total += abs(number)
    return total <= LARGEST


@njit(inline="always")
def _tell_leaf(
    nodes: np.ndarray,
    values: np.ndarray,
    head: np.ndarray,
    settings: np.ndarray,
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
            record.reward = -rewards[0] if settings[0].zero_sum and chooser == 1 else rewards[0]
    if terminal:
        record.flags |= ENDED | VALUED
        return
    if not expand or record.flags & EXPANDED:
        return
    first = head[0].size
    record.first_child = first
    record.children = priors.shape[0]
    record.flags |= EXPANDED
    for i in range(priors.shape[0]):
        child = nodes[first + i]  # all zeros so far
        child.parent = leaf
        child.first_child = -1
        child.flags = SOLVED if priors[i] < 0.0 else 0
        child.prior = max(priors[i], 0.0)
        child.proof = UNPROVEN if priors[i] >= 0.0 else (WIN if player == 1 else LOSS)  # what cannot be played is lost
    head[0].size = first + priors.shape[0]
