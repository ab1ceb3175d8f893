"""Supervised training on token rows: the reading stage, behaviour cloning, rejection fine-tuning, SFT on tree paths.

The loss of a batch is the weighted mean over its trained tokens,

    L = − Σ_r w_r Σ_{t: mask_rt = 1} log π(x_rt | x_r,<t)  /  Σ_r w_r Σ_t mask_rt,

so observation tokens (mask 0) are read and never learned. The loop is ``trainer.py``'s.

What it does not do: mixed precision, several devices. A larger run belongs in a trainer of TRL, which reads the same
rows.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..agents.forward import positions_of
from ..agents.language_model import LanguageModel
from ..search.extraction import PreferencePair
from .batches import Projection, padded, projection, token_logps
from .losses import weighted_mean
from .rows import NothingToTrain, RowCounts, Step, sft_rows, step_key, steps_after
from .trainer import BatchLoss, OptimiserSettings, Progress, optimise


@dataclass(frozen=True, slots=True)
class SupervisedSettings(OptimiserSettings):
    """How :func:`train_supervised` trains: the optimiser's settings alone."""


def train_supervised(
    model: Any,
    rows: Sequence[dict[str, Any]],
    settings: SupervisedSettings,
    seed: int,
    progress: Progress | None = None,
) -> list[dict[str, float]]:
    """Trains ``model`` in place on ``rows`` and returns the history of metrics.

    A row is ``{"input_ids": [int], "mask": [0 or 1], "weight": float}``, ids and mask of one length. ``mask[t] = 1``
    trains the prediction of token ``t`` from the tokens before it; ``weight`` is 1 where absent. History as in
    :func:`~branchwise.training.trainer.optimise`; ``loss`` is in nats a token.

    The same model, rows, settings and seed give the same weights. Raises ``ValueError`` for rows that hold nothing to
    train and :class:`~branchwise.training.trainer.TrainingStopped` where the loss or a gradient is not finite; the
    model then holds its last good state.
    """
    check_rows(rows, positions_of(model))
    device = next(model.parameters()).device
    project = projection(model)

    def loss_of(batch: np.ndarray) -> BatchLoss:
        return BatchLoss(*supervised_loss(project, [rows[index] for index in batch], device))

    return optimise(model, [len(row["input_ids"]) for row in rows], loss_of, settings, seed, progress)


def train_sft(
    policy: LanguageModel,
    pairs: Sequence[PreferencePair],
    settings: SupervisedSettings,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[RowCounts, dict[str, float]]:
    """Supervised training of ``policy`` in place on the chosen sides: what became of them, and the last metrics. A step
    that was the better one of several contrasts is learned once; anchors are learned as often as they come. Raises as
    ``train_supervised``."""
    steps: list[Step] = []
    learned: set[Hashable] = set()
    repeated = 0
    for pair in sorted(pairs, key=lambda pair: bool(pair.rejected)):  # anchors first
        own = list(steps_after(pair.prompt, pair.chosen))
        new = [step for step in own if not pair.rejected or step_key(step, policy.history) not in learned]
        learned.update(step_key(step, policy.history) for step in own)
        repeated += len(own) - len(new)
        steps += new
    rows, counts = sft_rows(
        steps, policy.tokenizer, policy.history, policy.max_prompt_tokens, positions=positions_of(policy.model)
    )
    counts.dropped["repeated steps"] += repeated
    if not rows:
        raise NothingToTrain(f"none of {len(steps)} steps gave a row to train on: {dict(+counts.dropped)}")
    return counts, train_supervised(policy.model, rows, settings, seed, progress)[-1]


def supervised_loss(project: Projection, batch: Sequence[dict[str, Any]], device: torch.device) -> tuple[Tensor, int]:
    """The loss above for one batch, and how many tokens it trains."""
    ids, mask = padded([row["input_ids"] for row in batch], [row["mask"] for row in batch], device)
    weights = torch.tensor([row.get("weight", 1.0) for row in batch], dtype=torch.float32, device=device)
    logps, owner = token_logps(project, ids, mask)
    return weighted_mean(-logps, weights[owner]), len(logps)


def check_rows(rows: Sequence[dict[str, Any]], positions: int | None = None) -> None:
    """Raises ``ValueError`` naming the first row that cannot be trained on, by a model of so many ``positions``."""
    if not rows:
        raise ValueError("no rows to train on: the list is empty; were all of them dropped on the way?")
    for index, row in enumerate(rows):
        if len(row["input_ids"]) != len(row["mask"]):
            raise ValueError(
                f"row {index}: {len(row['input_ids'])} input_ids but {len(row['mask'])} mask entries; give one a token"
            )
        if positions is not None and len(row["input_ids"]) > positions:
            raise ValueError(
                f"row {index}: {len(row['input_ids'])} tokens, and the model has {positions} positions; give sft_rows "
                "positions, which cuts prompts, or drop the row"
            )
        if not any(row["mask"][1:]):
            raise ValueError(f"row {index}: mask trains no token (the first has no prediction); drop the row")
    if not any(row.get("weight", 1.0) > 0 for row in rows):
        raise ValueError("the weight of every row is 0: nothing to train on")
