"""Rows for one forward over a prompt and many continuations of it.

A row holds the prompt once and, after it, the continuations as the branches of a prefix tree. A branch token sees the
prompt, its own ancestors and itself; its position is the prompt's length plus its depth. The last token of a
continuation is never an input, since nothing is predicted from it, unless the caller asks for it (``keep_last``, for
models that read a value there).

Numpy only; the arrays become tensors where the model is called.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt of ``P`` tokens with ``B`` branch tokens.

    ``tokens`` int ``[P + B]``; ``positions`` int ``[P + B]``; ``sees`` bool ``[B, B]``: which branch token attends to
    which. ``source`` int ``[T]``: for every token of every continuation, in order, the row position that predicts it;
    ``target`` int ``[T]``: that token. ``last`` int ``[k]``: the row position of each continuation's last token (with
    ``keep_last``; the prompt's last token for an empty continuation). ``lengths`` holds the ``k`` continuations'
    numbers of tokens."""

    tokens: list[int]
    positions: list[int]
    prompt: int
    sees: np.ndarray
    source: list[int]
    target: list[int]
    last: list[int]
    lengths: list[int]

    def __len__(self) -> int:
        return len(self.tokens)


def prefix_tree(prompt: Sequence[int], continuations: Sequence[Sequence[int]], keep_last: bool = False) -> Row:
    """The row of ``prompt`` (at least one token) and ``continuations``."""
    size = len(prompt)
    tokens = list(prompt)
    positions = list(range(size))
    parents: list[int] = []
    child: dict[tuple[int, int], int] = {}
    source: list[int] = []
    target: list[int] = []
    last: list[int] = []
    for continuation in continuations:
        node = size - 1
        end = len(continuation) if keep_last else len(continuation) - 1
        for depth, token in enumerate(continuation):
            source.append(node)
            target.append(token)
            if depth < end:
                step = (node, token)
                following = child.get(step)
                if following is None:
                    following = child[step] = len(tokens)
                    tokens.append(token)
                    positions.append(size + depth)
                    parents.append(node)
                node = following
        last.append(node)
    sees = np.eye(len(parents), dtype=bool)
    for i, parent in enumerate(parents):
        if parent >= size:
            sees[i] |= sees[parent - size]
    return Row(tokens, positions, size, sees, source, target, last, [len(c) for c in continuations])


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
    mask = np.empty((len(rows), 1, longest, longest), dtype=bool)
    mask[:] = np.tri(longest, dtype=bool)  # a pad sees itself at least, and nothing sees a pad but later pads
    for i, row in enumerate(rows):
        size, end = row.prompt, len(row)
        tokens[i, :end] = row.tokens
        positions[i, :end] = row.positions
        mask[i, 0, size:end, size:end] = row.sees
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
