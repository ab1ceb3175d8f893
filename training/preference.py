"""Preference training on what a search saw: step-DPO and its loss family, on TRL's ``DPOTrainer``.

The losses stand in ``preference_loss.py``, the trainer in ``dpo_trainer.py``; here are the door to both, the references
and the checks. Pairs become token rows (``rows.py``), the reference's log-probabilities are looked up or computed once,
and the trainer does the rest.

The reference is either logged with the pairs or an explicit frozen model, scored once before training. A reference
reloaded from the model's folder (TRL's ``ref_model=None``) would inside a loop silently be the model of round 0, and is
never used.

Not handled: several devices, mixed precision, adapters. Training such models is what ``trl dpo`` on the pair file is
for.
"""

import contextlib
import math
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..agents.forward import Forward, positions_of
from ..agents.prompting import History, all_turns
from ..envs.checked import LARGEST
from ..search.calls import ROUNDING
from ..search.extraction import PreferencePair
from .preference_loss import PreferenceSettings, collate, label_smoothing, learned_tokens, moved, side_logps
from .rows import PreferenceRow, RowCounts, preference_rows
from .settings import check_seed
from .supervised import Progress, TrainingStopped, evaluating, projection

REFERENCE_BATCH = 64  # rows a forward when nothing is learned


@dataclass(slots=True)
class PreferenceReport:
    """``history``: a row each ``log_every`` steps: ``step``, ``epoch``, ``loss``, ``preference_loss``, ``sft_loss``,
    ``accuracy`` (share of pairs with h > 0), ``margin`` (mean βh), ``chosen_logp``, ``rejected_logp`` and
    ``chosen_drop`` (nats a token; the drop is against the reference), ``learning_rate``, ``grad_norm``. ``rows`` says
    what became of the pairs."""

    history: list[dict[str, float]]
    rows: RowCounts = field(default_factory=RowCounts)


def train_preference(
    model: Any,
    tokenizer: Any,
    pairs: Sequence[PreferencePair],
    settings: PreferenceSettings,
    *,
    reference: Any = "logged",
    seed: int,
    history: str | History = all_turns,
    max_tokens: int | None = None,
    progress: Progress | None = None,
) -> PreferenceReport:
    """Trains ``model`` in place on ``pairs``; the same arguments give the same weights.

    ``reference="logged"`` reads ``ref_chosen_logp`` and ``ref_rejected_logp`` of the pairs; otherwise ``reference`` is
    a frozen causal language model other than ``model`` (a copy of it, say). ``history`` and ``max_tokens`` (of a
    prompt) must be the agent's.

    Raises ``ValueError`` for pairs that cannot be trained on (none at all, no logged reference, a margin or smoothing
    that the loss has no place for), and :class:`~branchwise.training.supervised.TrainingStopped` on collapse, with the
    model back at its last good state.
    """
    if not pairs:
        raise ValueError("no pairs to train on: the list is empty; lower the extraction threshold or search longer")
    rows, counts = preference_rows(pairs, tokenizer, history, max_tokens, positions_of(model))
    if not rows:
        raise ValueError(f"none of {len(pairs)} pairs gave a row to train on: {dict(counts.dropped)}")
    trained = train_preference_rows(model, tokenizer, rows, settings, reference, seed, progress)
    return PreferenceReport(trained, counts)


def train_preference_rows(
    model: Any,
    tokenizer: Any,
    rows: Sequence[PreferenceRow],
    settings: PreferenceSettings,
    reference: Any,
    seed: int,
    progress: Progress | None = None,
) -> list[dict[str, float]]:
    """:func:`train_preference` on token rows; returns the history."""
    check_seed(seed)
    check_preference_rows(rows, settings, positions_of(model))
    rows = [row for row in rows if row.weight > 0 and (row.rejected or settings.sft_weight > 0)]  # the rest is idle
    if reference is model:
        raise ValueError("reference is the model in training; give a frozen copy (copy.deepcopy) or 'logged'")
    references = logged_references(rows) if isinstance(reference, str) else model_references(reference, rows)
    from .dpo_trainer import StepPreferenceTrainer  # imports TRL, which takes seconds that nobody else need pay

    with _left_as_found(model), tempfile.TemporaryDirectory() as scratch:  # TRL wants a folder, and leaves it empty
        trainer = StepPreferenceTrainer(model, tokenizer, rows, references, settings, seed, scratch, progress)
        try:
            trainer.train()
        except TrainingStopped:
            model.load_state_dict(trainer.good)
            raise
    return trainer.records


def check_preference_rows(
    rows: Sequence[PreferenceRow], settings: PreferenceSettings, positions: int | None = None
) -> None:
    """Raises ``ValueError`` naming the first row that the loss cannot honour, or a model of so many ``positions``
    cannot read."""
    if not rows:
        raise ValueError("no rows to train on: the list is empty; were all pairs dropped on the way?")
    if not any(row.rejected for row in rows) and settings.sft_weight == 0:
        raise ValueError("every row is an anchor and sft_weight is 0, so there is nothing to learn; set sft_weight")
    if not any(row.weight > 0 for row in rows):
        raise ValueError("the weight of every row is 0: nothing to train on")
    for row in rows:
        if positions is not None and row.length > positions:
            raise ValueError(
                f"pair {row.source} has a side of {row.length} tokens, and the model {positions} positions; give "
                "preference_rows positions, which cuts prompts, or leave the pair out"
            )
        epsilon = label_smoothing(row, settings.label_smoothing) if row.rejected else 0.0
        if settings.loss in ("ipo", "hinge") and (row.margin or epsilon):
            raise ValueError(
                f"pair {row.source} has margin={row.margin:g} and label smoothing {epsilon:g}, which "
                f"loss={settings.loss!r} has no place for; use loss='sigmoid', or extract pairs without them"
            )
        if settings.loss == "robust" and (row.margin or epsilon >= 0.5):
            raise ValueError(
                f"pair {row.source} has margin={row.margin:g} and label smoothing {epsilon:g}; loss='robust' takes no "
                "margin and a smoothing below 0.5: use loss='sigmoid'"
            )
        if not 0 <= epsilon <= 1 or not 0 <= row.weight <= LARGEST or not abs(row.margin) <= LARGEST:
            raise ValueError(
                f"pair {row.source}: label smoothing lies in [0, 1], weight is at least 0, and weight and margin are "
                f"numbers that 32 bits hold, got {epsilon!r}, {row.weight!r} and {row.margin!r}"
            )


def logged_references(rows: Sequence[PreferenceRow]) -> np.ndarray:
    """The pairs' own reference log-probabilities: float64 ``[rows, 2]``, chosen then rejected; NaN where an anchor has
    none.
    """
    references = np.full((len(rows), 2), np.nan)
    for index, row in enumerate(rows):
        if row.rejected and (row.ref_chosen_logp is None or row.ref_rejected_logp is None):
            raise ValueError(
                f"pair {row.source} has ref_chosen_logp={row.ref_chosen_logp} and ref_rejected_logp="
                f"{row.ref_rejected_logp}, but reference='logged' needs both; search with a model, which logs "
                "them, or take the model as it starts (--reference model; in Python a frozen copy as reference)"
            )
        for place, logp in enumerate((row.ref_chosen_logp, row.ref_rejected_logp)):
            if logp is None:
                continue
            if not -LARGEST <= logp <= ROUNDING:
                raise ValueError(
                    f"pair {row.source} has ref_{('chosen', 'rejected')[place]}_logp={logp!r}; a log-probability is at "
                    f"most 0 and at least {-LARGEST:.3g}: score the pair anew, or take the model as it starts "
                    "(--reference model; in Python a frozen copy as reference)"
                )
            references[index, place] = logp
    return references


def model_references(reference: Any, rows: Sequence[PreferenceRow]) -> np.ndarray:
    """Log-probabilities of both sides under ``reference``: float64 ``[rows, 2]``; 0 for the side that an anchor
    lacks.
    """
    device = next(reference.parameters()).device
    references = np.zeros((len(rows), 2))
    order = sorted(range(len(rows)), key=lambda index: rows[index].length)
    with evaluating(reference):
        project, packed = projection(reference), Forward(reference).packs
        for start in range(0, len(order), REFERENCE_BATCH):
            part = order[start : start + REFERENCE_BATCH]
            batch = moved(collate([rows[index] for index in part], packed), device)
            sums, _ = side_logps(project, batch)
            references[part] = sums.reshape(2, -1).T.double().cpu().numpy()
    return references


def check_logged(model: Any, rows: Sequence[PreferenceRow], tolerance: float = 0.02) -> float:
    """The mean over rows' sides of |logged − recomputed| reference log-probability a token, under ``model``, which
    logged them.

    Raises ``ValueError`` above ``tolerance`` nats: then the two were not made alike (temperature, truncation, history
    policy, number format), and training against the logged ones would pull to a policy that never was. Rows without
    logged values are left out; NaN where there are none at all.
    """
    logged = np.array(
        [[np.nan if value is None else value for value in (row.ref_chosen_logp, row.ref_rejected_logp)] for row in rows]
    )
    tokens = np.array([[learned_tokens(row.chosen), learned_tokens(row.rejected)] for row in rows], dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        differences = np.abs(logged - model_references(model, rows)) / tokens
    known = np.isfinite(differences)
    if not known.any():
        return math.nan
    mean = float(differences[known].mean())
    if mean > tolerance:
        index, side = np.unravel_index(np.where(known, differences, -1).argmax(), differences.shape)
        raise ValueError(
            f"logged reference log-probabilities differ from recomputed ones by {mean:.3f} nats a token on average (at "
            f"most {tolerance:g} is expected; the worst is {('chosen', 'rejected')[int(side)]} of pair "
            f"{rows[int(index)].source}, {differences[index, side]:.3f}); score with the model, history policy and "
            "prompt limit that trained rows use, at temperature 1, or take the model as it starts as reference "
            "(--reference model; in Python pass a frozen copy of it)"
        )
    return mean


def action_kind_counts(pairs: Sequence[PreferencePair], kind: Callable[[str], str]) -> dict[str, tuple[int, int]]:
    """How often each kind of action is chosen and rejected, anchors included: ``{kind: (chosen, rejected)}``.

    ``kind`` maps an action's text to its kind (``envs.abilities.kind_of_action``). A kind that is often rejected and
    never chosen will be unlearned everywhere: it needs anchors.
    """
    chosen = Counter(kind(turn.text) for pair in pairs for turn in pair.chosen if turn.is_agent)
    rejected = Counter(kind(turn.text) for pair in pairs for turn in pair.rejected if turn.is_agent)
    return {name: (chosen[name], rejected[name]) for name in sorted(chosen | rejected)}


@contextlib.contextmanager
def _left_as_found(model: Any) -> Iterator[None]:
    """Undoes what a TRL trainer leaves behind: a ``forward`` bound to this very model (a deep copy would go on
    computing with the original's weights), dropout set to zero, and the global generators seeded anew."""
    training = model.training
    dropouts = [(module, module.p) for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    device = next(model.parameters()).device
    python_state, numpy_state = random.getstate(), np.random.get_state()
    had_forward = "forward" in vars(model)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        if not had_forward:
            vars(model).pop("forward", None)
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        for module, p in dropouts:
            module.p = p
        model.zero_grad(set_to_none=True)
        model.train(training)
