"""TRL's ``DPOTrainer`` with the loss of ``preference_loss.py`` and rows that are tokens already.

Four of its seams are overridden: ``_prepare_dataset`` (the rows are ready; the dataset holds their numbers alone),
``_set_signature_columns_if_needed``, the collator, and ``_compute_loss``. The optimiser, its schedule, clipping and the
loop are TRL's and transformers'. What this file does not do: evaluation during training, checkpoints, several devices.

Importing it imports TRL, which takes seconds: ``preference.py`` does so on first use.
"""

import math
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer

from ..agents.forward import Forward
from .preference_loss import PreferenceSettings, SideBatch, collate, label_smoothing, pair_losses, side_logps
from .rows import PreferenceRow
from .supervised import Progress, TrainingStopped, cosine_schedule, endless_batches, projection, saved_state


class StepPreferenceTrainer(DPOTrainer):
    """Trains on ``rows`` with ``references`` float64 ``[rows, 2]`` (chosen, rejected; NaN where unknown). ``records``
    is the history, ``good`` the last state worth keeping."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        rows: Sequence[PreferenceRow],
        references: np.ndarray,
        settings: PreferenceSettings,
        seed: int,
        output_dir: str | Path,
        progress: Progress | None,
    ) -> None:
        self.rows = rows
        self.packed = Forward(model).packs
        self.references = references
        self.settings = settings
        self.progress = progress
        self.records: list[dict[str, float]] = []
        self.good = saved_state(model)
        self.sums: defaultdict[str, float] = defaultdict(float)
        self.batches = EpochBatches(rows, settings.batch_size, np.random.default_rng(seed))
        with warnings.catch_warnings():  # newer transformers rename gradient_checkpointing, older know no other name
            warnings.simplefilter("ignore", FutureWarning)
            arguments = _arguments(model, settings, seed, output_dir)
        if arguments.world_size > 1:
            raise ValueError(f"{arguments.world_size} processes were launched; this trainer runs in one")
        super().__init__(
            model=model,
            args=arguments,
            data_collator=self.collate_numbers,
            train_dataset=Dataset.from_dict({"row": list(range(len(rows)))}),
            processing_class=tokenizer,
            callbacks=[_Recorder(self)],
        )
        self.remove_callback(PrinterCallback)

    def _send_telemetry(self) -> None:
        """Nothing is sent anywhere."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["row"]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        """The schedule of :func:`~branchwise.training.supervised.train_supervised`, whose first step already learns."""
        warmup = self.settings.warmup
        self.lr_scheduler = LambdaLR(
            optimizer or self.optimizer, lambda done: cosine_schedule(done + 1, num_training_steps, warmup)
        )
        return self.lr_scheduler

    def get_train_dataloader(self) -> DataLoader:
        return DataLoader(self.train_dataset, batch_sampler=self.batches, collate_fn=self.collate_numbers)

    def collate_numbers(self, examples: Sequence[dict[str, int]]) -> dict[str, Tensor]:
        """The batch of the rows with these numbers."""
        numbers = [example["row"] for example in examples]
        rows = [self.rows[number] for number in numbers]
        batch = collate(rows, self.packed)
        source = self.settings.label_smoothing
        return {
            "input_ids": batch.ids,
            **batch.reading,
            "flat": batch.flat,
            "target": batch.target,
            "side": batch.side,
            "tokens": batch.tokens,
            "reference": torch.tensor(self.references[numbers].T, dtype=torch.float32),
            "weight": torch.tensor([row.weight for row in rows], dtype=torch.float32),
            "margin": torch.tensor([row.margin for row in rows], dtype=torch.float32),
            "epsilon": torch.tensor([label_smoothing(row, source) for row in rows], dtype=torch.float32),
        }

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False) -> Tensor:
        settings, weight = self.settings, inputs["weight"]
        count = len(weight)
        reading: dict[str, Tensor] = {
            name: inputs[name] for name in ("position_ids", "attention_mask") if name in inputs
        }
        side = inputs["side"]
        batch = SideBatch(inputs["input_ids"], reading, inputs["flat"], inputs["target"], side, inputs["tokens"])
        sums, logps = side_logps(projection(model), batch)
        ratios = sums.reshape(2, count) - inputs["reference"]
        tokens = inputs["tokens"].reshape(2, count)
        pair = tokens[1] > 0
        loss = preference = torch.zeros((), device=weight.device)
        if pair.any():
            losses = pair_losses(
                settings.loss,
                settings.beta,
                ratios[0, pair],
                ratios[1, pair],
                tokens[0, pair],
                tokens[1, pair],
                inputs["margin"][pair],
                inputs["epsilon"][pair],
            )
            preference = (weight[pair] * losses).sum() / weight[pair].sum().clamp_min(1e-12)
            loss = loss + preference
        chosen = side < count
        token_weight = weight[side[chosen]]
        sft = -(token_weight * logps[chosen]).sum() / token_weight.sum().clamp_min(1e-12)
        loss = loss + settings.sft_weight * sft
        if not torch.isfinite(loss):
            self.stop(f"the loss was {loss.item()}")
        self.add(loss.detach(), preference.detach(), sft.detach(), ratios.detach(), tokens, sums.detach(), pair)
        return loss

    def add(
        self, loss: Tensor, preference: Tensor, sft: Tensor, ratios: Tensor, tokens: Tensor, sums: Tensor, pair: Tensor
    ) -> None:
        """Adds a batch to what the next record averages."""
        known = torch.isfinite(ratios[0])
        h = (ratios[0] - ratios[1])[pair]
        for name, value in {
            "batches": 1,
            "loss": loss,
            "sft_loss": sft,
            "preference_loss": preference * pair.sum(),
            "pairs": pair.sum(),
            "right": (h > 0).sum(),
            "margin": self.settings.beta * h.sum(),
            "chosen": sums[: len(pair)].sum(),
            "chosen_tokens": tokens[0].sum(),
            "rejected": sums[len(pair) :].sum(),
            "rejected_tokens": tokens[1].sum(),
            "drop": -ratios[0, known].sum(),
            "drop_tokens": tokens[0, known].sum(),
        }.items():
            self.sums[name] += float(value)

    def record(self) -> None:
        """Closes a stretch of steps: writes its record, stops on collapse, else keeps the state as a good one."""
        sums = self.sums
        record: dict[str, float] = {
            "step": self.state.global_step,
            "epoch": self.state.epoch,
            "loss": sums["loss"] / sums["batches"],
            "sft_loss": sums["sft_loss"] / sums["batches"],
            "learning_rate": self.lr_scheduler.get_last_lr()[0],
        }
        for name, total, number in (
            ("preference_loss", "preference_loss", "pairs"),
            ("accuracy", "right", "pairs"),
            ("margin", "margin", "pairs"),
            ("chosen_logp", "chosen", "chosen_tokens"),
            ("rejected_logp", "rejected", "rejected_tokens"),
            ("chosen_drop", "drop", "drop_tokens"),
        ):
            if sums[number]:
                record[name] = sums[total] / sums[number]
        self.sums.clear()
        self.records.append(record)
        if self.progress is not None:
            self.progress(record)
        drop = record.get("chosen_drop", -math.inf)
        if drop > self.settings.max_chosen_drop:
            self.stop(
                f"the chosen tokens are {drop:.2f} nats less likely than under the reference, above "
                f"max_chosen_drop={self.settings.max_chosen_drop:g}"
            )
        if not all(bool(torch.isfinite(value).all()) for value in self.model.parameters()):
            self.stop("a weight is not finite")
        self.good = saved_state(self.model)

    def stop(self, reason: str) -> None:
        """Raises :class:`TrainingStopped`."""
        step = self.state.global_step
        raise TrainingStopped(
            f"{reason}, at step {step} of {self.state.max_steps}; the model is back at its last good state. Lower "
            f"learning_rate ({self.settings.learning_rate:g}), raise beta ({self.settings.beta:g}) or sft_weight "
            f"({self.settings.sft_weight:g}), or add anchors.",
            step,
            self.records,
        )


def _arguments(model: Any, settings: PreferenceSettings, seed: int, output_dir: str | Path) -> DPOConfig:
    return DPOConfig(
        output_dir=str(output_dir),
        beta=settings.beta,
        learning_rate=settings.learning_rate,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        seed=seed,
        max_length=None,  # prompts are cut by rows.py, and counted
        precompute_ref_log_probs=True,  # they come with the rows, so no reference model is loaded
        remove_unused_columns=False,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        use_cache=bool(getattr(model.config, "use_cache", True)),  # the default would switch it off in the model
        use_cpu=next(model.parameters()).device.type == "cpu",
    )


class EpochBatches:
    """A batch sampler: each pass gives every row once, rows of like length together."""

    def __init__(self, rows: Sequence[PreferenceRow], batch_size: int, rng: np.random.Generator) -> None:
        self.count = math.ceil(len(rows) / batch_size)
        self.batches = endless_batches(np.array([row.length for row in rows]), batch_size, rng)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(self.count):
            yield next(self.batches).tolist()


class _Recorder(TrainerCallback):
    def __init__(self, trainer: StepPreferenceTrainer) -> None:
        self.trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.trainer.settings.log_every == 0 or state.global_step == state.max_steps:
            self.trainer.record()
