"""Rows for one forward over a prompt and many continuations of it.

A row holds the prompt once and, after it, the continuations as the branches of a prefix tree. A branch token sees the
prompt, its own ancestors and itself; its position is the prompt's length plus its depth. The last token of a
continuation is never an input, since nothing is predicted from it, unless the caller asks for it (``keep_last``, for
models that read a value there).

Numpy only; the arrays become tensors where the model is called.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

LONGEST_REMEMBERED: Final = 512
"""Tokens of the continuations up to which their tree is remembered: legal actions come back, trajectories do not."""


@dataclass(frozen=True, slots=True)
class Branches:
    """The prefix tree of some continuations, whatever the prompt: ``B`` branch tokens, ``T`` tokens in all.

    ``tokens`` and ``depths`` int64 ``[B]``; ``sees`` bool ``[B, B]``: which branch token attends to which. Places are
    counted from the end of the prompt: -1 is its last token, 0 the first branch token. ``source`` int64 ``[T]``: for
    every token of every continuation, in order, the place that predicts it, and ``target`` int64 ``[T]`` the token;
    ``places`` int64 ``[U]`` has each source once, and ``source = places[which]``. ``last`` int64 ``[k]``: the place
    of each continuation's last token. ``lengths`` int64 ``[k]``: numbers of tokens."""

    tokens: np.ndarray
    depths: np.ndarray
    sees: np.ndarray
    source: np.ndarray
    target: np.ndarray
    places: np.ndarray
    which: np.ndarray
    last: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt of ``P`` tokens with its :class:`Branches`; the properties count places from the start of the row."""

    prompt: Sequence[int]
    branches: Branches

    def __len__(self) -> int:
        return len(self.prompt) + len(self.branches.tokens)

    @property
    def tokens(self) -> np.ndarray:
        """int64 ``[P + B]``."""
        return np.concatenate([np.asarray(self.prompt, np.int64), self.branches.tokens])

    @property
    def source(self) -> np.ndarray:
        """int64 ``[T]``."""
        return self.branches.source + len(self.prompt)

    @property
    def places(self) -> np.ndarray:
        """int64 ``[U]``."""
        return self.branches.places + len(self.prompt)

    @property
    def last(self) -> np.ndarray:
        """int64 ``[k]``."""
        return self.branches.last + len(self.prompt)

    @property
    def target(self) -> np.ndarray:
        """int64 ``[T]``."""
        return self.branches.target

    @property
    def lengths(self) -> np.ndarray:
        """int64 ``[k]``."""
        return self.branches.lengths


def prefix_tree(prompt: Sequence[int], continuations: Sequence[Sequence[int]], keep_last: bool = False) -> Row:
    """The row of ``prompt`` (at least one token) and ``continuations``."""
    key = tuple(map(tuple, continuations))
    grow = _remembered if sum(map(len, key)) <= LONGEST_REMEMBERED else _grow
    return Row(prompt, grow(key, keep_last))


def _grow(continuations: tuple[tuple[int, ...], ...], keep_last: bool) -> Branches:
    tokens: list[int] = []
    depths: list[int] = []
    parents: list[int] = []
    child: dict[tuple[int, int], int] = {}
    source: list[int] = []
    last: list[int] = []
    for continuation in continuations:
        node = -1
        end = len(continuation) if keep_last else len(continuation) - 1
        for depth, token in enumerate(continuation):
            source.append(node)
            if depth < end:
                step = (node, token)
                following = child.get(step)
                if following is None:
                    following = child[step] = len(tokens)
                    tokens.append(token)
                    depths.append(depth)
                    parents.append(node)
                node = following
        last.append(node)
    sees = np.eye(len(parents), dtype=bool)
    for i, parent in enumerate(parents):
        if parent >= 0:
            sees[i] |= sees[parent]
    places, which = np.unique(np.array(source, np.int64), return_inverse=True)
    return Branches(
        tokens=np.array(tokens, np.int64),
        depths=np.array(depths, np.int64),
        sees=sees,
        source=np.array(source, np.int64),
        target=np.array([token for continuation in continuations for token in continuation], np.int64),
        places=places,
        which=which,
        last=np.array(last, np.int64),
        lengths=np.array([len(c) for c in continuations], np.int64),
    )


_remembered = lru_cache(maxsize=8192)(_grow)


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Rows padded on the right to one length ``L``: ``tokens`` and ``positions`` int64 ``[N, L]``, ``mask`` bool
    ``[N, 1, L, L]`` (True: may attend)."""

    tokens: np.ndarray
    positions: np.ndarray
    mask: np.ndarray


def pack(rows: Sequence[Row], pad: int) -> PackedBatch:
    """``rows`` in one batch, filled up with the token ``pad``."""
    longest = max(map(len, rows))
    tokens = np.full((len(rows), longest), pad, dtype=np.int64)
    positions = np.zeros((len(rows), longest), dtype=np.int64)
    counted = np.arange(longest)
    mask = np.empty((len(rows), 1, longest, longest), dtype=bool)
    mask[:] = np.tri(longest, dtype=bool)  # a pad sees itself at least, and nothing sees a pad but later pads
    for i, row in enumerate(rows):
        size, end = len(row.prompt), len(row)
        tokens[i, :size] = row.prompt
        tokens[i, size:end] = row.branches.tokens
        positions[i, :size] = counted[:size]
        positions[i, size:end] = size + row.branches.depths
        mask[i, 0, size:end, size:end] = row.branches.sees
    return PackedBatch(tokens, positions, mask)


def batches_by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices of ``lengths``, longest first, in batches of at most ``budget`` tokens after padding (always at least
    one index)."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
