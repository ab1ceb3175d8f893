"""Preference training on what a search saw: step-DPO and its loss family, under the house's own trainer.

The loss of a batch is

    Σ_i w_i ℓ_i / Σ_i w_i  +  sft_weight · Σ_i w_i nll_i / Σ_i w_i n_i,

the first sum over its pairs, with ℓ of ``losses.py``, the second over all its rows: ``nll`` is − log π of the ``n``
chosen tokens. Anchors (rows without a rejected side) take part in the second term only. They keep alive the actions
that are never the better of two siblings because nothing else was tried; pair-only training drives such actions to
zero everywhere.

The reference is either logged with the pairs or an explicit frozen model, scored once before training, without dropout;
so the model in training has none either. A reference reloaded from the model's folder (TRL's ``ref_model=None``) would
inside a loop silently be the model of round 0, and is never used.

What this file does not do: several devices, mixed precision. ``trl_trainer.py`` and ``trl dpo`` on the pair file do.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from ..agents.forward import Forward, positions_of
from ..agents.language_model import LanguageModel
from ..agents.prompting import History, all_turns
from ..envs.checked import LARGEST
from ..search.calls import ROUNDING
from ..search.extraction import PreferencePair
from .batches import collate, learned_tokens, moved, projection, side_logps
from .losses import Loss, pair_losses, weighted_mean
from .rows import NothingToTrain, PreferenceRow, RowCounts, Side, preference_rows, side_length
from .trainer import BatchLoss, LossOf, Progress, TuningSettings, evaluating, optimise

Smoothing = Literal["pair", "visits", "q"]
REFERENCE_BATCH = 64  # rows a forward when nothing is learned
_SAMPLE = 64  # pairs whose logged log-probabilities are compared


@dataclass(frozen=True, slots=True)
class PreferenceSettings(TuningSettings):
    """How :func:`train_preference` trains. The defaults suit small models trained from scratch; a pretrained model
    wants a ``learning_rate`` of 1e-6 or less and a smaller ``sft_weight``."""

    beta: float = 0.3
    """Strength of the pull to the reference (IPO's τ)."""
    loss: Loss = "sigmoid"
    """Which ℓ of the table in ``losses.py``."""
    label_smoothing: Smoothing = "pair"
    """Where a pair's ε comes from: ``pair`` as stored with it; ``visits`` N_l/(N_w+N_l), at most ½ (MCTS-DPO); ``q``
    σ(Q_l − Q_w), the soft labels under which the optimum is π ∝ π_ref·exp(Q/β) (Agent Q, theorem 1)."""
    sft_weight: float = 1.0
    """Weight of the mean negative log-likelihood of the chosen tokens, anchors included; 0 leaves it out."""
    max_chosen_drop: float = 3.0
    """Training stops where the chosen tokens of the last ``log_every`` steps are on average this many nats less likely
    than under the reference."""

    def __post_init__(self) -> None:
        TuningSettings.__post_init__(self)
        for name in ("beta", "max_chosen_drop"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)!r}")
        if self.sft_weight < 0:
            raise ValueError(f"sft_weight must be at least 0, got {self.sft_weight!r}")
        refused = {"ipo": ("visits", "q"), "hinge": ("visits", "q"), "robust": ("visits",)}
        if self.label_smoothing in refused.get(self.loss, ()):
            raise ValueError(
                f"loss={self.loss} has no place for label_smoothing={self.label_smoothing}; use loss=sigmoid, or pair"
            )


@dataclass(slots=True)
class PreferenceReport:
    """``history``: a row each ``log_every`` steps: ``step``, ``epoch``, ``loss``, ``preference_loss``, ``sft_loss``,
    ``accuracy`` (share of pairs with h > 0), ``margin`` (mean βh), ``chosen_logp``, ``rejected_logp`` and
    ``chosen_drop`` (nats a token; the drop is against the reference), ``learning_rate``, ``grad_norm``, ``tokens``.
    ``rows`` says what became of the pairs."""

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

    ``reference="logged"`` reads ``ref_chosen_logp`` and ``ref_rejected_logp`` of the pairs; ``"start"`` is ``model`` as
    it is before training; otherwise ``reference`` is another, frozen causal language model. ``history`` and
    ``max_tokens`` (of a prompt) must be the agent's.

    Raises ``ValueError`` for pairs that cannot be trained on (none at all, no logged reference, a margin or smoothing
    that the loss has no place for), and :class:`~branchwise.training.trainer.TrainingStopped` on collapse, with the
    model back at its last good state.
    """
    if not pairs:
        raise ValueError("no pairs to train on: the list is empty; lower the extraction threshold or search longer")
    rows, counts = preference_rows(pairs, tokenizer, history, max_tokens, positions_of(model))
    if not rows:
        raise NothingToTrain(f"none of {len(pairs)} pairs gave a row to train on: {dict(counts.dropped)}")
    trained = train_preference_rows(model, rows, settings, reference, seed, progress)
    return PreferenceReport(trained, counts)


def train_step_dpo(
    policy: LanguageModel,
    pairs: Sequence[PreferencePair],
    settings: PreferenceSettings,
    *,
    logged: bool | None = None,
    reference: LanguageModel | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[RowCounts, dict[str, float]]:
    """Step-DPO of ``policy`` in place: what became of the pairs, and the last metrics. The reference is what the pairs
    logged, or, with ``logged=False``, the model ``reference``, by default ``policy`` as it starts, whose
    log-probabilities are measured before anything changes; where ``logged`` is left out, the former if every pair has
    it. Raises as ``train_preference``."""
    logged = has_logged(pairs) if logged is None else logged
    start = "start" if reference is None else reference.model
    report = train_preference(
        policy.model,
        policy.tokenizer,
        pairs,
        settings,
        reference="logged" if logged else start,
        seed=seed,
        history=policy.history,
        max_tokens=policy.max_prompt_tokens,
        progress=progress,
    )
    return report.rows, report.history[-1] if report.history else {}


def train_preference_rows(
    model: Any,
    rows: Sequence[PreferenceRow],
    settings: PreferenceSettings,
    reference: Any,
    seed: int,
    progress: Progress | None = None,
) -> list[dict[str, float]]:
    """:func:`train_preference` on token rows; returns the history."""
    check_preference_rows(rows, settings, positions_of(model))
    rows = [row for row in rows if row.weight > 0 and (row.rejected or settings.sft_weight > 0)]  # the rest is idle
    if reference is model:
        raise ValueError(
            "reference is the model in training; give 'start' (the model before training) or a frozen copy"
        )
    if isinstance(reference, str) and reference not in ("logged", "start"):
        raise ValueError(f"reference={reference!r}; expected 'logged', 'start' or a frozen model")
    frozen = model if isinstance(reference, str) else reference
    references = logged_references(rows) if reference == "logged" else model_references(frozen, rows)

    return optimise(
        model,
        [row.length for row in rows],
        preference_objective(model, rows, references, settings),
        settings,
        seed,
        progress,
        dropout=False,
        harm=drop_above(settings.max_chosen_drop, "the chosen tokens"),
        cure=f", raise beta ({settings.beta:g}) or sft_weight ({settings.sft_weight:g}), or add anchors",
    )


def drop_above(limit: float, tokens: str) -> Callable[[dict[str, float]], str]:
    """The rule that ends a training whose column ``chosen_drop`` is above ``limit`` nats; ``tokens`` says which."""

    def harm(row: dict[str, float]) -> str:
        if (drop := row.get("chosen_drop", -math.inf)) <= limit:
            return ""
        return f"{tokens} are {drop:.2f} nats less likely than under the reference, above max_chosen_drop={limit:g}"

    return harm


def preference_objective(
    model: Any, rows: Sequence[PreferenceRow], references: np.ndarray, settings: PreferenceSettings
) -> LossOf:
    """The loss above of a batch of ``rows``, given by their numbers. ``references`` float64 ``[rows, 2]``: the
    reference's log-probabilities of both sides, NaN where unknown."""
    project, packed = projection(model), Forward(model).packs
    device = next(model.parameters()).device

    def column(values: Any) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)

    reference = column(references.T)
    weights, margins = column([row.weight for row in rows]), column([row.margin for row in rows])
    epsilons = column([label_smoothing(row, settings.label_smoothing) for row in rows])

    def loss_of(numbers: np.ndarray) -> BatchLoss:
        part = [rows[number] for number in numbers]
        count = len(part)
        batch = moved(collate([*(row.chosen for row in part), *(row.rejected for row in part)], packed), device)
        sums, logps = side_logps(project, batch)
        at = torch.from_numpy(numbers).to(device)
        weight, tokens = weights[at], batch.tokens.reshape(2, count)
        ratios = sums.reshape(2, count) - reference[:, at]
        pair = tokens[1] > 0
        preference = torch.zeros((), device=device)
        if pair.any():
            losses = pair_losses(
                settings.loss,
                settings.beta,
                ratios[0, pair],
                ratios[1, pair],
                tokens[0, pair],
                tokens[1, pair],
                margins[at][pair],
                epsilons[at][pair],
            )
            preference = weighted_mean(losses, weight[pair])
        chosen = batch.side < count
        sft = weighted_mean(-logps[chosen], weight[batch.side[chosen]])
        h, known = (ratios[0] - ratios[1]).detach()[pair], torch.isfinite(ratios[0])
        sums = sums.detach().reshape(2, count)
        return BatchLoss(
            preference + settings.sft_weight * sft,
            int(batch.tokens.sum()),
            {
                "sft_loss": (sft.detach(), 1),
                "preference_loss": (preference.detach() * len(h), len(h)),
                "accuracy": ((h > 0).sum(), len(h)),
                "margin": (settings.beta * h.sum(), len(h)),
                "chosen_logp": (sums[0].sum(), tokens[0].sum()),
                "rejected_logp": (sums[1].sum(), tokens[1].sum()),
                "chosen_drop": (-ratios[0, known].detach().sum(), tokens[0, known].sum()),
            },
        )

    return loss_of


def label_smoothing(row: PreferenceRow, source: str) -> float:
    """ε of a pair: how likely the label is the wrong way round; see :class:`PreferenceSettings`."""
    if source == "visits":
        return min(0.5, row.rejected_visits / max(1, row.chosen_visits + row.rejected_visits))
    if source == "q":
        return 1 / (1 + math.exp(min(700.0, row.chosen_q - row.rejected_q)))
    return row.label_smoothing


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
    sides = [side for row in rows for side in (row.chosen, row.rejected)]
    return side_references(reference, sides, [row.length for row in rows for _ in range(2)]).reshape(len(rows), 2)


def side_references(reference: Any, sides: Sequence[Side], lengths: Sequence[int] | None = None) -> np.ndarray:
    """The log-probability of each side under ``reference``: float64 ``[sides]``; 0 for an empty one. Sides of similar
    ``lengths`` (by default their own) share a batch."""
    device = next(reference.parameters()).device
    found = np.zeros(len(sides))
    lengths = [side_length(side) for side in sides] if lengths is None else lengths
    order = sorted((index for index, side in enumerate(sides) if side), key=lengths.__getitem__)
    with evaluating(reference):
        project, packed = projection(reference), Forward(reference).packs
        for start in range(0, len(order), 2 * REFERENCE_BATCH):
            part = order[start : start + 2 * REFERENCE_BATCH]
            batch = moved(collate([sides[index] for index in part], packed), device)
            found[part] = side_logps(project, batch)[0].double().cpu().numpy()
    return found


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


def has_logged(pairs: Sequence[PreferencePair]) -> bool:
    """Whether the policy that searched logged both sides of every pair; anchors need no reference."""
    return all(
        pair.ref_chosen_logp is not None and pair.ref_rejected_logp is not None for pair in pairs if pair.rejected
    )


def logged_fault(policy: LanguageModel, pairs: Sequence[PreferencePair]) -> str:
    """Where the logged log-probabilities are not this model's, by how much, else "". Right where another policy wrote
    the actions, wrong where the history differs. A sample of the pairs is looked at."""
    some = pairs[:: max(1, len(pairs) // _SAMPLE)]
    rows, _ = preference_rows(
        some, policy.tokenizer, policy.history, policy.max_prompt_tokens, positions_of(policy.model)
    )
    try:
        check_logged(policy.model, rows)
    except ValueError as error:
        return str(error)
    return ""


def action_kind_counts(pairs: Sequence[PreferencePair], kind: Callable[[str], str]) -> dict[str, tuple[int, int]]:
    """How often each kind of action is chosen and rejected, anchors included: ``{kind: (chosen, rejected)}``.

    ``kind`` maps an action's text to its kind (``envs.abilities.kind_of_action``). A kind that is often rejected and
    never chosen will be unlearned everywhere: it needs anchors.
    """
    chosen = Counter(kind(turn.text) for pair in pairs for turn in pair.chosen if turn.is_agent)
    rejected = Counter(kind(turn.text) for pair in pairs for turn in pair.rejected if turn.is_agent)
    return {name: (chosen[name], rejected[name]) for name in sorted(chosen | rejected)}
