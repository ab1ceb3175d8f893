"""Rows of tokens as batches, and the log-probabilities of the learned tokens in them.

The log-probability of a token is read where the model predicts it: at the state one earlier. Only those states are
projected onto the vocabulary (:func:`projection`): with long observations and short actions most of the projection
would be thrown away. Sides of preference rows are flattened to rows of tokens (:func:`collate`); segments with the same
prompt share a row that holds it once (``agents/packing.py``), which halves the work on step pairs.

What this file does not do: turn turns into tokens (``rows.py``), or compute losses (``losses.py``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from ..agents.packing import pack, prefix_tree
from .rows import Segment, Side

Projection = Callable[..., Tensor]
LONGEST_PACKED: Final = 1024
"""Tokens a packed row; above, the dense attention mask costs more than the shared prompt saves."""


def projection(model: Any) -> Projection:
    """A function ``(ids [rows, length], flat positions [n]) -> logits [n, vocabulary]`` that projects only what is
    asked.

    Padding is on the right and the models are causal, so no real token can see it and no attention mask is needed;
    packed rows bring theirs as further arguments (``attention_mask``, ``position_ids``).
    The choice is made by a hook at the output embedding, inside the model's own forward: what an architecture does to
    its logits afterwards (scaling, capping) still happens. A model without such a module projects everything.
    """
    head = getattr(model, "get_output_embeddings", lambda: None)()

    def project(ids: Tensor, flat: Tensor, **reading: Tensor) -> Tensor:
        if "attention_mask" in reading:
            reading["attention_mask"] = reading["attention_mask"].to(model.dtype)
        if head is None:
            logits = model(input_ids=ids, use_cache=False, **reading).logits
            return logits.reshape(-1, logits.shape[-1])[flat]

        def choose(_: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
            return (inputs[0].reshape(-1, inputs[0].shape[-1])[flat][None],)

        hook = head.register_forward_pre_hook(choose)
        try:
            return model(input_ids=ids, use_cache=False, **reading).logits[0]
        finally:
            hook.remove()

    return project


def likelihood(logits: Tensor, targets: Tensor) -> Tensor:
    """log softmax of ``logits [n, vocabulary]`` at ``targets [n]``: float32 ``[n]``."""
    return -torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")


def token_logps(project: Projection, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the masked tokens, row after row: float32 ``[n]``, and the row of each: int64 ``[n]``.

    ``ids`` int64 ``[rows, length]``, padded on the right; ``mask`` bool of that shape, its first column False.
    """
    owner, place = torch.nonzero(mask, as_tuple=True)
    flat = owner * ids.shape[1] + place - 1  # the state one earlier predicts the token
    return likelihood(project(ids, flat), ids[owner, place]), owner


def padded(ids: Sequence[Sequence[int]], masks: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows padded on the right: ids int64 and masks bool, both ``[rows, longest]``. The first token has no
    prediction.
    """
    longest = max(len(row) for row in ids)
    all_ids = np.zeros((len(ids), longest), dtype=np.int64)
    all_masks = np.zeros((len(ids), longest), dtype=bool)
    for index, (row, mask) in enumerate(zip(ids, masks, strict=True)):
        all_ids[index, : len(row)] = row
        all_masks[index, : len(row)] = mask
    all_masks[:, 0] = False
    return torch.from_numpy(all_ids).to(device), torch.from_numpy(all_masks).to(device)


@dataclass(slots=True)
class SideBatch:
    """``S`` sides flattened to rows of tokens. ``ids`` int64 ``[R, L]``; ``reading``: how the model must read them
    (``position_ids``, ``attention_mask``), empty where they are plain sequences. For each of the ``n`` learned tokens:
    ``flat`` int64, the place in the flattened ``ids`` that predicts it, ``target`` int64, ``side`` int64, whose it is,
    and ``place`` int64, its number among that side's learned tokens. ``tokens`` float32 ``[S]``: learned tokens a
    side."""

    ids: Tensor
    reading: dict[str, Tensor]
    flat: Tensor
    target: Tensor
    side: Tensor
    place: Tensor
    tokens: Tensor


def collate(sides: Sequence[Side], packed: bool) -> SideBatch:
    """``sides`` as one batch; a side may be empty.

    ``packed``: segments with the same prompt share a row. A batch without such segments, or whose rows would be longer
    than :data:`LONGEST_PACKED`, is left plain.
    """
    groups: dict[tuple[int, ...], list[tuple[int, int, Segment]]] = {}
    for number, side in enumerate(sides):
        before = 0
        for segment in side:
            groups.setdefault(segment.prompt_ids, []).append((number, before, segment))
            before += sum(segment.mask)
    shared = list(groups.values())
    packed = packed and any(len(group) > 1 for group in shared)
    if packed:
        longest = max(
            len(group[0][2].prompt_ids) + sum(len(segment.completion_ids) for *_, segment in group) for group in shared
        )
        packed = longest <= LONGEST_PACKED
    if not packed:
        shared = [[one] for group in shared for one in group]
    trees = [prefix_tree(group[0][2].prompt_ids, [segment.completion_ids for *_, segment in group]) for group in shared]
    if packed:
        batch = pack(trees, pad=0)
        ids = batch.tokens
        hidden = torch.from_numpy(~batch.mask)
        mask = torch.zeros(hidden.shape).masked_fill_(hidden, torch.finfo(torch.float32).min)
        reading = {"position_ids": torch.from_numpy(batch.positions), "attention_mask": mask}
    else:
        ids = np.zeros((len(trees), max(map(len, trees))), dtype=np.int64)
        for number, tree in enumerate(trees):
            ids[number, : len(tree)] = tree.tokens
        reading = {}
    learned = [np.concatenate([segment.mask for *_, segment in group]) > 0 for group in shared]

    def chosen(parts: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate([part[kept] for part, kept in zip(parts, learned, strict=True)]))

    width = ids.shape[1]
    return SideBatch(
        torch.from_numpy(ids),
        reading,
        flat=chosen([tree.source + number * width for number, tree in enumerate(trees)]),
        target=chosen([tree.target for tree in trees]),
        side=chosen(
            [np.repeat([n for n, *_ in group], tree.lengths) for group, tree in zip(shared, trees, strict=True)]
        ),
        place=chosen(
            [
                np.concatenate([before + np.cumsum(segment.mask, dtype=np.int64) - 1 for _, before, segment in group])
                for group in shared
            ]
        ),
        tokens=torch.tensor([float(learned_tokens(side)) for side in sides]),
    )


def moved(batch: SideBatch, device: torch.device) -> SideBatch:
    """``batch`` on ``device``."""
    tensors = (batch.flat, batch.target, batch.side, batch.place, batch.tokens)
    reading = {name: value.to(device) for name, value in batch.reading.items()}
    return SideBatch(batch.ids.to(device), reading, *(tensor.to(device) for tensor in tensors))


def side_logps(project: Projection, batch: SideBatch) -> tuple[Tensor, Tensor]:
    """Log-probabilities summed over each side's learned tokens, float32 ``[S]``; and those of the tokens themselves,
    ``[n]``."""
    logps = likelihood(project(batch.ids, batch.flat, **batch.reading), batch.target)
    return torch.zeros_like(batch.tokens).index_add(0, batch.side, logps), logps


def by_place(batch: SideBatch, values: Tensor) -> Tensor:
    """``values`` of the learned tokens, float32 ``[n]``, as ``[S, most tokens]``, each side's in order, then zeros."""
    found = torch.zeros(len(batch.tokens), int(batch.tokens.max()), dtype=values.dtype, device=values.device)
    return found.index_put((batch.side, batch.place), values)


def learned_tokens(side: Side) -> int:
    """How many tokens of a side are learned."""
    return sum(sum(segment.mask) for segment in side)
