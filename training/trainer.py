"""The one optimiser loop of the house: AdamW on any loss of a batch, for every learner.

A learner is a function ``loss_of(row numbers) -> BatchLoss``. This loop draws the batches (rows of similar length
share one), steps AdamW with a linear warm-up and a cosine decay to zero, clips gradients, keeps a history of means,
and stops with the last good state where the loss, a gradient or a weight is not finite or where the learner's own rule
says that training does harm.

The same model, rows, settings and seed give the same weights. Afterwards the model has the mode of each of its modules
as before and no gradients, and the global random generators of torch are where they were. The last good state is a copy
of the trained weights alone: a frozen model with small trained adapters costs the adapters.

What this file does not do: several devices, mixed precision, gradient accumulation, checkpoints within a training.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..search.typed import check_fields
from .settings import MOST_COUNT, check_seed

Progress = Callable[[dict[str, float]], None]


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
class OptimiserSettings:
    """What every learner shares. The defaults suit models of about a million parameters trained from scratch; a
    pretrained model wants a ``learning_rate`` of 1e-5 or less."""

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
        positive = ("learning_rate", "batch_size", "max_grad_norm", "log_every")
        for name in positive if self.max_steps is not None else (*positive, "epochs"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)!r}")
        for name in ("batch_size", "log_every", "epochs", "max_steps"):
            if (getattr(self, name) or 0) > MOST_COUNT:
                raise ValueError(f"{name}={getattr(self, name)}; the limit is {MOST_COUNT:,}")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, got {self.max_steps!r}; leave it out to count epochs")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is a share of the steps in [0, 1), got {self.warmup!r}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay!r}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be in [0, 1), got {self.betas!r}")


@dataclass(frozen=True, slots=True)
class TuningSettings(OptimiserSettings):
    """The same with the defaults of learners that start from a policy and are held near it."""

    learning_rate: float = 3e-4
    """Peak learning rate of AdamW: the sharp edge of step-DPO; choose it by validation success, not by pair
    accuracy."""
    weight_decay: float = 0.0
    """Decoupled decay of the matrices."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's running-mean factors."""
    log_every: int = 20
    """Steps between two rows of the history; also how often the last good state is kept."""


@dataclass(slots=True)
class BatchLoss:
    """What a learner hands back for a batch: ``loss``, the scalar to descend; ``trained``, how many tokens or targets
    it trains; ``means``, further columns of the history by name, each as (sum, count) over the batch. A column is the
    sum of the sums over the sum of the counts since the row before, and is left out where the counts are 0."""

    loss: Tensor
    trained: int
    means: Mapping[str, tuple[Tensor | float, Tensor | float]] = field(default_factory=dict)


LossOf = Callable[[np.ndarray], BatchLoss]


def optimise(
    model: Any,
    lengths: Sequence[int],
    loss_of: LossOf,
    settings: OptimiserSettings,
    seed: int,
    progress: Progress | None = None,
    *,
    dropout: bool = True,
    clipped: Sequence[torch.nn.Module] = (),
    harm: Callable[[dict[str, float]], str] = lambda row: "",
    cure: str = "",
) -> list[dict[str, float]]:
    """Trains the parameters of ``model`` (a module) that require gradients, in place, and returns the history.

    ``lengths``: tokens of each row; ``loss_of`` gets int64 row numbers. ``dropout``: whether modules are in training
    mode. ``clipped``: modules that ``model`` is made of, whose gradients are each clipped by themselves; by default the
    gradient is clipped as a whole. ``harm`` is asked after each row of the history and answers with a reason to stop,
    or ""; ``cure`` is what a message advises beside a lower learning rate.

    The history has a row each ``settings.log_every`` steps and one for the last step: ``step``, ``epoch``, ``loss``
    (the mean since the row before), ``learning_rate``, ``grad_norm`` (of the whole gradient, before clipping),
    ``tokens`` (``trained`` so far), and the learner's own columns. ``progress`` is called with each. Raises
    :class:`TrainingStopped`, with the model back at the state of the last row, and ``ValueError`` for a seed out of
    range.
    """
    check_seed(seed)
    batches_an_epoch = math.ceil(len(lengths) / settings.batch_size)
    total = settings.max_steps if settings.max_steps is not None else math.ceil(settings.epochs * batches_an_epoch)
    optimizer = adamw(model, settings.learning_rate, settings.weight_decay, settings.betas)
    batches = endless_batches(np.asarray(lengths), settings.batch_size, np.random.default_rng(seed))
    good = GoodState(model)
    history: list[dict[str, float]] = []
    sums: defaultdict[str, float] = defaultdict(float)
    counts: defaultdict[str, float] = defaultdict(float)
    tokens = 0

    def stop(reason: str, step: int) -> TrainingStopped:
        good.restore()
        return TrainingStopped(
            f"{reason}, at step {step} of {total}; the model is back at its last good state. Lower learning_rate "
            f"({settings.learning_rate:g}){cure}.",
            step,
            history,
        )

    with _as_found(model, seed, dropout):
        for step in range(1, total + 1):
            rate = settings.learning_rate * cosine_schedule(step, total, settings.warmup)
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = loss_of(next(batches))
            optimizer.zero_grad(set_to_none=True)
            batch.loss.backward()
            norms = [
                torch.nn.utils.clip_grad_norm_(part.parameters(), settings.max_grad_norm)
                for part in clipped or (model,)
            ]
            norm = math.hypot(*map(float, norms))
            loss = batch.loss.item()
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise stop(f"the loss was {loss} and the gradient norm {norm}", step)
            tokens += batch.trained
            for name, (amount, count) in {"loss": (loss, 1), **batch.means}.items():
                sums[name] += float(amount)
                counts[name] += float(count)
            optimizer.step()
            if step % settings.log_every and step < total:
                continue
            history.append(
                {
                    "step": step,
                    "epoch": step / batches_an_epoch,
                    **{name: sums[name] / counts[name] for name in sums if counts[name]},
                    "learning_rate": rate,
                    "grad_norm": norm,
                    "tokens": tokens,
                }
            )
            sums.clear()
            counts.clear()
            if progress is not None:
                progress(history[-1])
            if reason := harm(history[-1]):
                raise stop(reason, step)
            if not all(bool(torch.isfinite(value).all()) for value in _trained(model)):
                raise stop("a weight is not finite", step)
            good.keep()
    return history


class GoodState:
    """A copy of what a training changes: the parameters that require gradients, and the buffers (running statistics;
    small beside them). One set of copies is made, and written over by :meth:`keep`."""

    def __init__(self, model: Any) -> None:
        self._live = [*_trained(model), *model.buffers()]
        self._kept = [value.detach().clone() for value in self._live]

    @torch.no_grad()
    def keep(self) -> None:
        """Makes the model's state the last good one."""
        for kept, live in zip(self._kept, self._live, strict=True):
            kept.copy_(live)

    @torch.no_grad()
    def restore(self) -> None:
        """Puts the model back at the last good state."""
        for kept, live in zip(self._kept, self._live, strict=True):
            live.copy_(kept)


def _trained(model: Any) -> list[Tensor]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


@contextmanager
def _as_found(model: Any, seed: int, training: bool) -> Iterator[None]:
    """All modules in (or out of) training mode and torch's generators at ``seed`` inside; outside, each module's mode
    and the generators as they were, and no gradients."""
    modes = [(module, module.training) for module in model.modules()]
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)  # for dropout
        model.train(training)
        try:
            yield
        finally:
            model.zero_grad(set_to_none=True)
            for module, mode in modes:
                module.training = mode


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """No dropout and no gradients inside."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def endless_batches(lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Batches of row numbers, an epoch after another, each epoch in its own order.

    A shuffled epoch is cut into stretches of 50 batches, each stretch sorted by length: rows of similar length meet
    (little padding), yet which rows meet changes from epoch to epoch.
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
