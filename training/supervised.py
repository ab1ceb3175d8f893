"""Supervised training on token rows: the reading stage, behaviour cloning, rejection fine-tuning, SFT on tree paths.

The loss of a batch is the weighted mean over its trained tokens,

    L = − Σ_r w_r Σ_{t: mask_rt = 1} log π(x_rt | x_r,<t)  /  Σ_r w_r Σ_t mask_rt,

so observation tokens (mask 0) are read and never learned. Only the hidden states that predict a trained token are
projected onto the vocabulary: with long observations and short actions most of the projection would be thrown away. The
optimiser is AdamW with a linear warm-up and a cosine decay to zero; rows of like length share a batch.

What it does not do: spread over several devices, mixed precision, checkpoints. A larger run belongs in a trainer of
TRL, which reads the same rows.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..agents.forward import positions_of
from ..search.typed import check_fields
from .settings import check_seed

Progress = Callable[[dict[str, float]], None]
Projection = Callable[..., Tensor]


class TrainingStopped(RuntimeError):  # noqa: N818
    """Training was ended because it did harm: the loss was not a number, or the chosen answers lost likelihood.

    The model holds the last state that was good. ``history`` are the metrics up to the stop, ``step`` the optimiser
    step at which it came.
    """

    def __init__(self, message: str, step: int, history: list[dict[str, float]]) -> None:
        super().__init__(message)
        self.step = step
        self.history = history


@dataclass(frozen=True, slots=True)
class SupervisedSettings:
    """How :func:`train_supervised` trains. The defaults suit models of about a million parameters trained from scratch;
    a pretrained model wants a ``learning_rate`` of 1e-5 or so."""

    learning_rate: float = 2e-3
    """Peak learning rate of AdamW."""
    epochs: float = 1.0
    """Passes over the rows; may be a fraction. Not read where ``max_steps`` is given."""
    max_steps: int | None = None
    """Optimiser steps."""
    batch_size: int = 32
    """Rows a step."""
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises from zero."""
    weight_decay: float = 0.01
    """Decoupled decay of the matrices; vectors (norms, biases) are not decayed."""
    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW's running-mean factors."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    log_every: int = 50
    """Steps between two rows of the history; also how often the last good state is kept."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.learning_rate <= 0 or self.batch_size < 1 or self.log_every < 1 or self.max_grad_norm <= 0:
            raise ValueError(
                "learning_rate and max_grad_norm must be above 0, batch_size and log_every at least 1, got "
                + ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields(self))
            )
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is a share of the steps in [0, 1), got {self.warmup!r}")
        if self.max_steps is None and self.epochs <= 0:
            raise ValueError(f"epochs must be above 0, got {self.epochs!r}")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, got {self.max_steps!r}; leave it out to count epochs")
        if self.weight_decay < 0 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(
                f"weight_decay must be at least 0 and betas in [0, 1), got {self.weight_decay!r} and {self.betas!r}"
            )


def train_supervised(
    model: Any,
    rows: Sequence[dict[str, Any]],
    settings: SupervisedSettings,
    seed: int,
    progress: Progress | None = None,
) -> list[dict[str, float]]:
    """Trains ``model`` in place on ``rows`` and returns the history of metrics.

    A row is ``{"input_ids": [int], "mask": [0 or 1], "weight": float}``, ids and mask of one length. ``mask[t] = 1``
    trains the prediction of token ``t`` from the tokens before it; ``weight`` is 1 where absent. The history has a row
    each ``settings.log_every`` steps and one for the last step: ``step``, ``epoch``, ``loss`` (nats a token, the mean
    since the row before), ``learning_rate``, ``grad_norm``, ``tokens`` (trained so far). ``progress`` is called with
    each.

    The same model, rows, settings and seed give the same weights. Raises ``ValueError`` for rows that hold nothing to
    train and :class:`TrainingStopped` where the loss or a gradient is not finite; the model then holds its last good
    state.
    """
    check_rows(rows, positions_of(model))
    device = next(model.parameters()).device
    project = projection(model)

    def loss_of(batch: np.ndarray) -> tuple[Tensor, int]:
        return supervised_loss(project, [rows[index] for index in batch], device)

    return descend(model, [len(row["input_ids"]) for row in rows], loss_of, settings, seed, progress)


def descend(
    model: Any,
    lengths: Sequence[int],
    loss_of: Callable[[np.ndarray], tuple[Tensor, int]],
    settings: SupervisedSettings,
    seed: int,
    progress: Progress | None = None,
) -> list[dict[str, float]]:
    """The training loop itself, for any loss of a batch: ``loss_of(row numbers) -> (loss, tokens or targets in it)``.

    ``lengths``: tokens of each row. History, determinism and :class:`TrainingStopped` as in :func:`train_supervised`.
    """
    check_seed(seed)
    batches_an_epoch = math.ceil(len(lengths) / settings.batch_size)
    total = settings.max_steps if settings.max_steps is not None else math.ceil(settings.epochs * batches_an_epoch)
    optimizer = adamw(model, settings.learning_rate, settings.weight_decay, settings.betas)
    batches = endless_batches(np.asarray(lengths), settings.batch_size, np.random.default_rng(seed))
    device = next(model.parameters()).device
    history: list[dict[str, float]] = []
    losses: list[float] = []
    tokens = 0
    good = saved_state(model)
    was_training = model.training
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)  # for dropout
        model.train()
        try:
            for step in range(1, total + 1):
                rate = settings.learning_rate * cosine_schedule(step, total, settings.warmup)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                loss, trained = loss_of(next(batches))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm))
                losses.append(loss.item())
                tokens += trained
                if not (math.isfinite(losses[-1]) and math.isfinite(norm)):
                    model.load_state_dict(good)
                    raise TrainingStopped(
                        f"the loss was {losses[-1]} and the gradient norm {norm} at step {step} of {total}; the model "
                        f"is back at its last good state. Lower learning_rate ({settings.learning_rate:g}).",
                        step,
                        history,
                    )
                optimizer.step()
                if step % settings.log_every == 0 or step == total:
                    history.append(
                        {
                            "step": step,
                            "epoch": step / batches_an_epoch,
                            "loss": float(np.mean(losses)),
                            "learning_rate": rate,
                            "grad_norm": norm,
                            "tokens": tokens,
                        }
                    )
                    losses.clear()
                    good = saved_state(model)
                    if progress is not None:
                        progress(history[-1])
        finally:
            optimizer.zero_grad(set_to_none=True)
            model.train(was_training)
    return history


def supervised_loss(project: Projection, batch: Sequence[dict[str, Any]], device: torch.device) -> tuple[Tensor, int]:
    """The loss above for one batch, and how many tokens it trains."""
    ids, mask = padded([row["input_ids"] for row in batch], [row["mask"] for row in batch], device)
    weights = torch.tensor([row.get("weight", 1.0) for row in batch], dtype=torch.float32, device=device)
    logps, owner = token_logps(project, ids, mask)
    token_weights = weights[owner]
    return -(token_weights * logps).sum() / token_weights.sum().clamp_min(1e-12), len(logps)


def token_logps(project: Projection, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the masked tokens, row after row: float32 ``[n]``, and the row of each: int64 ``[n]``.

    ``ids`` int64 ``[rows, length]``, padded on the right; ``mask`` bool of that shape, its first column False.
    """
    owner, place = torch.nonzero(mask, as_tuple=True)
    flat = owner * ids.shape[1] + place - 1  # the state one earlier predicts the token
    return likelihood(project(ids, flat), ids[owner, place]), owner


def likelihood(logits: Tensor, targets: Tensor) -> Tensor:
    """log softmax of ``logits [n, vocabulary]`` at ``targets [n]``: float32 ``[n]``."""
    return -torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")


def projection(model: Any) -> Projection:
    """A function ``(ids [rows, length], flat positions [n]) -> logits [n, vocabulary]`` that projects only what is
    asked.

    Padding stands on the right and the models are causal, so no real token can see it and no attention mask is needed;
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


def endless_batches(lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Batches of row numbers, an epoch after another, each epoch in its own order.

    A shuffled epoch is cut into stretches of 50 batches, each stretch sorted by length: rows of like length meet
    (little padding), yet who meets whom changes from epoch to epoch.
    """
    stretch = 50 * batch_size
    while True:
        order = rng.permutation(len(lengths))
        batches: list[np.ndarray] = []
        for start in range(0, len(order), stretch):
            part = order[start : start + stretch]
            part = part[np.argsort(lengths[part], kind="stable")]
            batches.extend(part[i : i + batch_size] for i in range(0, len(part), batch_size))
        for index in rng.permutation(len(batches)):
            yield batches[index]


def cosine_schedule(step: int, total: int, warmup: float) -> float:
    """The factor of the learning rate at ``step`` of 1…``total``: rising to 1 over ``warmup · total``, then half a
    cosine.
    """
    rising = warmup * total
    if step <= rising:
        return step / rising
    return 0.5 * (1 + math.cos(math.pi * (step - 1 - rising) / max(1.0, total - rising)))


def adamw(model: Any, learning_rate: float, weight_decay: float, betas: tuple[float, float]) -> torch.optim.AdamW:
    """AdamW that decays matrices only."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas)


def saved_state(model: Any) -> dict[str, Tensor]:
    """A copy of the model's weights that training leaves alone."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@contextlib.contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """No dropout and no gradients inside."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
