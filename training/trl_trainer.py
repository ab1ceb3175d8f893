"""Preference pairs trained by TRL's own ``DPOTrainer``, through its public interface alone.

What TRL offers beyond ``trainer.py`` comes with it: bf16, gradient accumulation and checkpointing, LoRA
(``peft_config``), trackers, its further losses. Every field of TRL's ``DPOConfig`` is a setting.

TRL reads exactly the tokens that ``rows.py`` makes: history policy, prompt limit and chat template are ours. The data
set carries them as columns of their own, and the collator that is handed to TRL is TRL's, fed with these columns and
with observation tokens taken out of ``completion_mask``. The reference is the model as it starts: TRL scores the pairs
once before training (``precompute_ref_log_probs``). A copy of the model is trained, and its weights are taken over when
training has succeeded: TRL rebinds ``forward``, switches dropout off and changes the configuration of what it trains.

What TRL has no place for is refused, never dropped: anchors, sides of several segments, and weights, margins and
smoothing of single pairs. Log-probabilities that were logged with the pairs are not read. ``trainer.py`` takes all of
these.

Importing this file imports TRL, which takes seconds.
"""

import copy
import os
import random
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from typing import Any, Final

import datasets
import numpy as np
import torch
from huggingface_hub import constants
from transformers import PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from ..agents.forward import positions_of
from ..agents.language_model import LanguageModel
from ..search.extraction import PreferencePair
from .rows import PreferenceRow, RowCounts, preference_rows
from .settings import SettingsError, build, check_seed
from .trainer import Progress, TrainingStopped

OURS: Final = ("remove_unused_columns", "seed", "padding_free")
"""Fields of ``DPOConfig`` that are not for the caller to set."""
NAMES: Final = {"rewards/accuracies": "accuracy", "rewards/margins": "margin"}
"""TRL's columns that our history has under another name."""


def train_with_trl(
    policy: LanguageModel,
    pairs: Sequence[PreferencePair],
    settings: Mapping[str, Any],
    seed: int = 0,
    progress: Progress | None = None,
    peft_config: Any = None,
) -> tuple[RowCounts, dict[str, float]]:
    """Trains ``policy`` in place on ``pairs`` by TRL's ``DPOTrainer``: what became of the pairs, and the last metrics.

    ``settings`` are fields of ``DPOConfig``, with TRL's defaults (``learning_rate`` 1e-6, ``beta`` 0.1, …) except that
    nothing is truncated, reported or saved, and that on a CPU there is neither bf16 nor gradient checkpointing.
    ``peft_config``: of an adapter, which is merged into the model at the end. The metrics are TRL's, with ``accuracy``
    and ``margin`` by our names; ``progress`` is called with each row, ``step`` and ``epoch`` among its columns.

    Raises :class:`~branchwise.training.settings.SettingsError` for settings that ``DPOConfig`` does not have,
    ``ValueError`` for pairs that TRL cannot honour, and :class:`~branchwise.training.trainer.TrainingStopped` where a
    weight is not finite at the end. The policy is then as it was.
    """
    check_seed(seed)
    if not pairs:
        raise ValueError("no pairs to train on: the list is empty; lower the extraction threshold or search longer")
    rows, counts = preference_rows(
        pairs, policy.tokenizer, policy.history, policy.max_prompt_tokens, positions_of(policy.model)
    )
    if not rows:
        raise ValueError(f"none of {len(pairs)} pairs gave a row to train on: {dict(+counts.dropped)}")
    check_trl_rows(rows)
    with tempfile.TemporaryDirectory() as scratch, _world_as_found(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # names that TRL and transformers are about to change
        arguments = trl_config(settings, policy, seed, scratch)
        longest = max(row.length for row in rows)
        if arguments.max_length is not None and arguments.max_length < longest:
            raise ValueError(
                f"max_length={arguments.max_length} would cut completions: the longest side has {longest} tokens; "
                "leave it out, and limit prompts by the model's max_prompt_tokens"
            )
        model, log = copy.deepcopy(policy.model), _Log(progress)
        tokenizer = copy.deepcopy(policy.tokenizer)
        scored_first = arguments.precompute_ref_log_probs or peft_config is not None
        trainer = DPOTrainer(
            model=model,
            ref_model=None if scored_first else copy.deepcopy(policy.model),
            args=arguments,
            data_collator=partial(
                _collate, tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
            ),
            train_dataset=datasets.Dataset.from_list([trl_row(row) for row in rows]),
            processing_class=tokenizer,
            callbacks=[log],
            peft_config=peft_config,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        trained = model if peft_config is None else trainer.model.merge_and_unload()
        if not all(bool(torch.isfinite(value).all()) for value in trained.parameters()):
            raise TrainingStopped(
                "TRL's run ended with a weight that is not finite; the model is as it was. Lower learning_rate "
                f"({arguments.learning_rate:g}).",
                trainer.state.global_step,
                log.rows,
            )
        policy.model.load_state_dict(trained.state_dict())
    return counts, log.rows[-1] if log.rows else {}


def trl_config(settings: Mapping[str, Any], policy: LanguageModel, seed: int, folder: str) -> DPOConfig:
    """``settings`` as TRL's ``DPOConfig``, over the defaults that :func:`train_with_trl` names."""
    for name in OURS:
        if name in settings:
            raise SettingsError(f"{name} is not a setting here: the rows are tokens already; leave it out")
    cpu = next(policy.model.parameters()).device.type == "cpu"
    known = {field.name for field in fields(DPOConfig)}
    defaults = {
        "output_dir": folder,
        "precompute_ref_log_probs": True,
        "max_length": None,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": cpu,
        **(dict.fromkeys(("bf16", "gradient_checkpointing", "dataloader_pin_memory"), False) if cpu else {}),
    }
    usual = {name: value for name, value in defaults.items() if name in known}
    return build(DPOConfig, {**usual, **settings, "seed": seed, "remove_unused_columns": False})


def check_trl_rows(rows: Sequence[PreferenceRow]) -> None:
    """Raises ``ValueError`` naming the first row that TRL's ``DPOTrainer`` has no place for."""
    for row in rows:
        if not row.rejected:
            raise ValueError(
                f"pair {row.source} has no rejected side: TRL's DPOTrainer has no term for anchors. Leave anchors out "
                "(branchwise pairs --no-anchors), or train with the default trainer, which learns from them"
            )
        if len(row.chosen) > 1 or len(row.rejected) > 1:
            raise ValueError(
                f"pair {row.source} has a side of {max(len(row.chosen), len(row.rejected))} prompts (a trajectory "
                "whose history policy does not show all turns), and TRL reads one sequence a side. Extract step pairs, "
                "use the history policy all_turns, or train with the default trainer"
            )
        if row.weight != 1.0 or row.margin or row.label_smoothing:
            raise ValueError(
                f"pair {row.source} has weight={row.weight:g}, margin={row.margin:g} and "
                f"label_smoothing={row.label_smoothing:g}, which TRL's DPOTrainer has by pair no place for. Extract "
                "pairs without them, or train with the default trainer"
            )


def trl_row(row: PreferenceRow) -> dict[str, Any]:
    """A row of TRL's data set. TRL tokenises ``prompt``, ``chosen`` and ``rejected`` whatever else there is; they are
    place holders, and the tokens are the columns that begin with ``our_``."""
    (chosen,), (rejected,) = row.chosen, row.rejected
    return {
        "prompt": ".",
        "chosen": ".",
        "rejected": ".",
        "our_prompt": list(chosen.prompt_ids),
        "our_chosen": list(chosen.completion_ids),
        "our_rejected": list(rejected.completion_ids),
        "our_chosen_mask": list(chosen.mask),
        "our_rejected_mask": list(rejected.mask),
    }


def _collate(pad: int, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """TRL's own batch of our tokens, observation tokens masked out of the completions."""
    named = [
        {
            "prompt_ids": example["our_prompt"],
            "chosen_ids": example["our_chosen"],
            "rejected_ids": example["our_rejected"],
            **{name: example[name] for name in ("ref_chosen_logps", "ref_rejected_logps") if name in example},
        }
        for example in examples
    ]
    batch = DataCollatorForPreference(pad_token_id=pad)(named)
    masks = [(e["our_prompt"], e[name]) for name in ("our_chosen_mask", "our_rejected_mask") for e in examples]
    for row, (prompt, mask) in zip(batch["completion_mask"], masks, strict=True):
        row[len(prompt) : len(prompt) + len(mask)] = torch.tensor(mask)
    return batch


class _Log(TrainerCallback):
    """Rows of metrics, one for the last step too. ``transformers`` takes callbacks as classes."""

    def __init__(self, progress: Progress | None) -> None:
        self.rows: list[dict[str, float]] = []
        self._progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_log = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any) -> None:
        if logs is None or "loss" not in logs:  # the summary at the end has none
            return
        named = {NAMES.get(name, name): float(value) for name, value in logs.items()}
        self.rows.append({**named, "step": state.global_step, "epoch": state.epoch})
        if self._progress is not None:
            self._progress(self.rows[-1])


@contextmanager
def _world_as_found() -> Iterator[None]:
    """TRL seeds the global generators of Python, NumPy and torch, reports its use and draws progress bars; here the
    generators stay as they were, nothing is sent, and ``progress`` alone says how far it is."""
    python_state, numpy_state, silent = random.getstate(), np.random.get_state(), constants.HF_HUB_DISABLE_TELEMETRY
    bars, quiet = datasets.are_progress_bars_disabled(), os.environ.get("TQDM_DISABLE")
    constants.HF_HUB_DISABLE_TELEMETRY = True
    datasets.disable_progress_bars()
    os.environ["TQDM_DISABLE"] = "1"  # which TRL reads for its bar of reference log-probabilities
    try:
        with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
            yield
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = silent
        if not bars:
            datasets.enable_progress_bars()
        if quiet is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = quiet
        random.setstate(python_state)
        np.random.set_state(numpy_state)
