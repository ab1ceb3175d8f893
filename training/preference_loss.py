"""The preference losses as pure functions of token rows, and the settings that choose among them.

With ``h = [log π(chosen) − log π_ref(chosen)] − [log π(rejected) − log π_ref(rejected)]``, each a sum over a side's
learned tokens (``rows.py``: a trajectory's segments sum up, observation tokens count for nothing), margin ``m`` and
label smoothing ``ε`` of the pair:

    sigmoid       − (1−ε) log σ(βh − m) − ε log σ(−(βh − m))     DPO; cDPO for ε > 0; ODPO, arXiv:2402.10571, for m > 0
    sigmoid_norm  the same on h whose sides are divided by their token counts
    robust        [− (1−ε) log σ(βh) + ε log σ(−βh)] / (1 − 2ε)  rDPO, arXiv:2403.00409
    ipo           (h̄ − 1/(2β))²                                  arXiv:2310.12036; in h̄, as in TRL, sides are divided
                                                                 by their token counts
    hinge         max(0, 1 − βh)                                 SLiC, arXiv:2305.10425

and the loss of a batch is

    Σ_i w_i ℓ_i / Σ_i w_i  +  sft_weight · Σ_i w_i nll_i / Σ_i w_i n_i,

the first sum over its pairs, the second over all its rows: ``nll`` is − log π of the ``n`` chosen tokens.

Anchors (rows without a rejected side) take part in the second term only. They keep alive the actions that are never the
better of two siblings because nothing else was tried; pair-only training drives such actions to zero everywhere. TRL's
own ``label_smoothing`` does nothing for "sigmoid", and it has neither margins nor weights by pair: hence the loss here.

What this file does not do: run a model's optimiser (``dpo_trainer.py``), or find references (``preference.py``).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ..agents.packing import pack, prefix_tree
from ..search.typed import check_fields
from .rows import PreferenceRow, Segment, Side
from .supervised import Projection, likelihood

Loss = Literal["sigmoid", "sigmoid_norm", "robust", "ipo", "hinge"]
Smoothing = Literal["pair", "visits", "q"]
LONGEST_PACKED = 1024  # tokens a row; above, the dense attention mask costs more than the shared prompt saves


@dataclass(frozen=True, slots=True)
class PreferenceSettings:
    """How :func:`train_preference` trains. The defaults suit small models trained from scratch; a pretrained model
    wants a ``learning_rate`` of 1e-6 or less and a smaller ``sft_weight``."""

    beta: float = 0.3
    """Strength of the pull to the reference (IPO's τ)."""
    loss: Loss = "sigmoid"
    """Which ℓ of the table above."""
    label_smoothing: Smoothing = "pair"
    """Where a pair's ε comes from: ``pair`` as stored with it; ``visits`` N_l/(N_w+N_l), at most ½ (MCTS-DPO); ``q``
    σ(Q_l − Q_w), the soft labels under which the optimum is π ∝ π_ref·exp(Q/β) (Agent Q, theorem 1)."""
    sft_weight: float = 1.0
    """Weight of the mean negative log-likelihood of the chosen tokens, anchors included; 0 leaves it out."""
    learning_rate: float = 3e-4
    """Peak learning rate of AdamW: the sharp edge of step-DPO; choose it by validation success, not by pair
    accuracy.
    """
    epochs: float = 1.0
    """Passes over the rows."""
    batch_size: int = 32
    """Rows (pairs and anchors) a step."""
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises from zero; a cosine brings it back."""
    weight_decay: float = 0.0
    """Decoupled decay of the matrices."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    max_chosen_drop: float = 3.0
    """Training stops where the chosen tokens of the last ``log_every`` steps are on average this many nats less likely
    than under the reference."""
    log_every: int = 20
    """Steps between two rows of the history; also how often the last good state is kept."""

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("beta", "learning_rate", "epochs", "batch_size", "max_grad_norm", "max_chosen_drop", "log_every"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)!r}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay!r}")
        if self.sft_weight < 0 or not 0 <= self.warmup < 1:
            raise ValueError(
                f"sft_weight must be at least 0 and warmup in [0, 1), got {self.sft_weight!r} and {self.warmup!r}"
            )


def label_smoothing(row: PreferenceRow, source: str) -> float:
    """ε of a pair: how likely the label is the wrong way round; see :class:`PreferenceSettings`."""
    if source == "visits":
        return min(0.5, row.rejected_visits / max(1, row.chosen_visits + row.rejected_visits))
    if source == "q":
        return 1 / (1 + math.exp(min(700.0, row.chosen_q - row.rejected_q)))
    return row.label_smoothing


def pair_losses(
    loss: str,
    beta: float,
    chosen_ratio: Tensor,
    rejected_ratio: Tensor,
    chosen_tokens: Tensor,
    rejected_tokens: Tensor,
    margin: Tensor,
    epsilon: Tensor,
) -> Tensor:
    """ℓ of the table at the top, float32 ``[pairs]``. Ratios are log π − log π_ref of a side; tokens are its learned
    tokens.
    """
    if loss in ("ipo", "sigmoid_norm"):
        chosen_ratio = chosen_ratio / chosen_tokens
        rejected_ratio = rejected_ratio / rejected_tokens
    h = chosen_ratio - rejected_ratio
    if loss == "ipo":
        return (h - 1 / (2 * beta)) ** 2
    if loss == "hinge":
        return torch.relu(1 - beta * h)
    logit = beta * h - margin
    right, wrong = F.logsigmoid(logit), F.logsigmoid(-logit)
    if loss == "robust":
        return (-(1 - epsilon) * right + epsilon * wrong) / (1 - 2 * epsilon)
    return -(1 - epsilon) * right - epsilon * wrong


@dataclass(slots=True)
class SideBatch:
    """Rows of preference rows flattened to rows of tokens. ``ids`` int64 ``[R, L]``; ``reading``: how the model must
    read them (``position_ids``, ``attention_mask``), empty where they are plain sequences. For each of the ``n``
    learned tokens: ``flat`` int64, the place in the flattened ``ids`` that predicts it, ``target`` int64, and ``side``
    int64: row r's chosen side is r, its rejected side rows + r. ``tokens`` float32 ``[2 · rows]``: learned tokens a
    side."""

    ids: Tensor
    reading: dict[str, Tensor]
    flat: Tensor
    target: Tensor
    side: Tensor
    tokens: Tensor


def collate(rows: Sequence[PreferenceRow], packed: bool) -> SideBatch:
    """Both sides of ``rows`` as one batch.

    ``packed``: segments with the same prompt share a row that holds it once (``agents/packing.py``), which halves the
    work on step pairs. A batch without such segments, or whose rows would be long (the mask is dense), is left plain.
    """
    sides = [row.chosen for row in rows] + [row.rejected for row in rows]
    groups: dict[tuple[int, ...], list[tuple[int, Segment]]] = {}
    for number, side in enumerate(sides):
        for segment in side:
            groups.setdefault(segment.prompt_ids, []).append((number, segment))
    shared = list(groups.values())
    packed = packed and any(len(group) > 1 for group in shared)
    if packed:
        longest = max(len(group[0][1].prompt_ids) + sum(len(s.completion_ids) for _, s in group) for group in shared)
        packed = longest <= LONGEST_PACKED
    if not packed:
        shared = [[one] for group in shared for one in group]
    trees = [prefix_tree(group[0][1].prompt_ids, [segment.completion_ids for _, segment in group]) for group in shared]
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
    learned = [np.concatenate([segment.mask for _, segment in group]) > 0 for group in shared]
    owners = [
        np.repeat([number for number, _ in group], tree.lengths) for group, tree in zip(shared, trees, strict=True)
    ]

    def chosen(parts: Sequence[Sequence[int] | np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate([np.asarray(p)[m] for p, m in zip(parts, learned, strict=True)]))

    width = ids.shape[1]
    return SideBatch(
        torch.from_numpy(ids),
        reading,
        chosen([np.asarray(tree.source) + number * width for number, tree in enumerate(trees)]),
        chosen([tree.target for tree in trees]),
        chosen(owners),
        torch.tensor([float(learned_tokens(side)) for side in sides]),
    )


def moved(batch: SideBatch, device: torch.device) -> SideBatch:
    """``batch`` on ``device``."""
    tensors = (batch.flat, batch.target, batch.side, batch.tokens)
    reading = {name: value.to(device) for name, value in batch.reading.items()}
    return SideBatch(batch.ids.to(device), reading, *(tensor.to(device) for tensor in tensors))


def side_logps(project: Projection, batch: SideBatch) -> tuple[Tensor, Tensor]:
    """Log-probabilities summed over each side's learned tokens, float32 ``[2 · rows]``; and those of the tokens
    themselves, ``[n]``."""
    logps = likelihood(project(batch.ids, batch.flat, **batch.reading), batch.target)
    return torch.zeros_like(batch.tokens).index_add(0, batch.side, logps), logps


def learned_tokens(side: Side) -> int:
    """How many tokens of a side are learned."""
    return sum(sum(segment.mask) for segment in side)
