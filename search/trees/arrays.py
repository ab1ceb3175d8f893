"""The numbers that every tree has: its arrays, their growth, and the kernels of ``descent.py``, ``ascent.py`` and
``nodes.py`` called on them.

Not here: the words (``tree.py``).
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import njit, typeof

from ...envs.games.compiling import say_if_compiling
from ..rules.backup import UNPROVEN
from ..rules.gumbel import gumbel_draws, halving_plan, why_not_planned
from .ascent import _abandon, _back_up, _release
from .descent import PATH_TOO_SHORT, _select
from .nodes import HEAD, NODE, SETTINGS, _add_children, _path


class _Entries:
    """The compiled kernels, called past numba's dispatcher.

    The dispatcher looks at the type of every argument, about 0.25 µs for a structured array: 1.2 µs for a call of
    :func:`_select` that works for 0.3. The entry of a compiled kernel looks at nothing, so only arrays that this file
    made or checked may go in.
    """

    select: Callable[..., tuple[int, int, int]]
    back_up: Callable[..., None]
    add_children: Callable[..., int]

    def __init__(self) -> None:
        self.ready = False

    def prepare(self) -> None:
        """Compile the kernels, or read them from numba's cache."""
        say_if_compiling(_select, "the search")
        nodes, values, head, settings = np.zeros(1, NODE), np.zeros((1, 0)), np.zeros(1, HEAD), np.zeros(1, SETTINGS)
        path, numbers, whole = np.zeros(1, np.int32), np.zeros(1), np.zeros(1, np.int64)
        tree = (nodes, values, head, settings)
        self.select = _entry(_select, *tree, path, numbers, whole)
        self.back_up = _entry(_back_up_from, *tree, path, 0, numbers)
        self.add_children = _entry(_add_children, nodes, head, 0, numbers, numbers, whole, whole)
        self.ready = True


_ENTRIES = _Entries()
_PARENTS = np.zeros(0, np.int32)  # the path of a leaf that was reached by its parents


def _entry(kernel: Any, *arguments: Any) -> Callable[..., Any]:
    """The compiled ``kernel`` for arguments of these types, behind the dispatcher."""
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
            digest = hashlib.blake2b(repr(_listed(rng.bit_generator.state)).encode(), digest_size=8).digest()
            self._head["noise"] = int.from_bytes(digest, "little") | 1

    def plan_gumbel(self, rng: np.random.Generator, scale: float, simulations: int, considered: int) -> None:
        """Plan the visits of the root's children, where none has one: Gumbel draws, if there are none yet, and the
        sequential halving of a search of ``simulations``, the root's own included."""
        prior = self._of_root("prior")
        if not self._of_root("visits").any():
            if not self.has_gumbel():
                self._gumbel = gumbel_draws(rng, len(prior), scale)
            self._considered = halving_plan(prior, considered, simulations)

    def forget_plan(self) -> None:
        """Another rule steers the root from here on: its visits follow no plan any more."""
        self._gumbel, self._considered = np.zeros(0), np.zeros(0, np.int64)

    def why_not_planned(self, simulations: int, considered: int) -> str:
        """``gumbel.why_not_planned`` of this tree."""
        visits, prior = self._of_root("visits"), self._of_root("prior")
        return why_not_planned(visits, prior, self.has_gumbel(), self._considered, considered, simulations)

    def _of_root(self, name: str) -> np.ndarray:
        """A field of the root's children: float64 ``[children]``."""
        first, count = int(self._nodes["first_child"][0]), int(self._nodes["children"][0])
        return self._nodes[name][first : first + count].astype(np.float64)

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

    def select(self, settings: np.ndarray) -> tuple[int, int, int]:
        """Walk to a leaf and mark it under way: (leaf, depth, flags); the leaf is −1 where that leaf already is."""
        found = _ENTRIES.select(
            self._nodes, self._values, self._head, settings, self._path, self._gumbel, self._considered
        )
        if found[0] == PATH_TOO_SHORT:
            self._path = np.zeros(2 * len(self._path), np.int32)
            return self.select(settings)
        return found

    @property
    def draws(self) -> int:
        """Where the walk's own random numbers (outcomes of chance, ties) are; set it back to repeat them."""
        return int(self._head["noise"][0])

    @draws.setter
    def draws(self, place: int) -> None:
        self._head["noise"] = place

    def path_taken(self, depth: int) -> np.ndarray:
        """The nodes of the last :meth:`select`: int32 ``[depth + 1]``."""
        return self._path[: depth + 1].copy()

    def back_up(
        self, leaf: int, value: float | np.ndarray, settings: np.ndarray, path: np.ndarray | None = None
    ) -> None:
        """Tell the value of a selected leaf's state to all nodes above it: of player 0, or float64 ``[players]`` where
        all returns are kept. ``path``: how the simulation came there, where the leaf has several parents."""
        path = _PARENTS if path is None else path
        self._returns.fill(value) if isinstance(value, float) else np.copyto(self._returns, value)
        _ENTRIES.back_up(self._nodes, self._values, self._head, settings, path, leaf, self._returns)

    def take_back(self, leaf: int, settings: np.ndarray, path: np.ndarray | None = None) -> None:
        """Take a selected leaf's simulation back; the leaf is not tried again, unless it is the root."""
        path = _path(self._nodes, leaf) if path is None else path
        _abandon(self._nodes, self._values, settings, path, len(path) - 1)

    def release(self, leaf: int, path: np.ndarray | None = None) -> None:
        """Forget a selection, as if it had not been made."""
        path = _path(self._nodes, leaf) if path is None else path
        _release(self._nodes, path, len(path) - 1)

    def has_gumbel(self) -> bool:
        """Whether the root has its Gumbel draws."""
        return len(self._gumbel) > 0


@njit(cache=True)
def _back_up_from(
    nodes: np.ndarray,
    values: np.ndarray,
    head: np.ndarray,
    settings: np.ndarray,
    path: np.ndarray,
    leaf: int,
    returns: np.ndarray,
) -> None:
    """:func:`_back_up` over ``path``; over the leaf's parents where that is empty."""
    taken = path if path.shape[0] > 0 else _path(nodes, leaf)
    _back_up(nodes, values, head, settings, taken, taken.shape[0] - 1, returns)


def _listed(state: Any) -> Any:
    """The state of a bit generator with its arrays as lists, whose words no print option of numpy shortens."""
    if isinstance(state, dict):
        return {name: _listed(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray) else state


def _grown(array: np.ndarray, length: int) -> np.ndarray:
    grown = np.zeros((length, *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown
