"""KTO: preference training on single trajectories that are labelled good or bad, without pairs.

The loss of a batch is Σ_i w_i ℓ_i / Σ_i w_i with ℓ of ``losses.py`` (arXiv:2402.01306, Eq. 7; over the agent's tokens
of whole trajectories: M-KTO, arXiv:2409.02392). Its baseline z0 estimates how far the policy is from the reference on
answers that do not belong to the prompt: each trajectory brings one, the answers of a trajectory of another prompt put
after its own prompts, and z0 is the mean over the batch. Which answers these are is fixed before training, so that the
reference is read once and not kept. (TRL shifts answers by one inside a batch, so that tries at one task that follow
each other are paired.)

λ_D n_D / (λ_U n_U) should be in [1, 4/3] (Eq. 8), n being the numbers of good and bad trajectories.

What this file does not do: choose labels beyond an episode's success.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..agents.forward import Forward, positions_of
from ..agents.language_model import LanguageModel
from ..envs.play.episode import Episode
from ..envs.play.transcript import Transcript
from .batches import collate, moved, projection, side_logps
from .losses import kto_baseline, kto_losses, weighted_mean
from .preference import drop_above, side_references
from .rows import NothingToTrain, RowCounts, Segment, Side, trajectory_rows
from .trainer import BatchLoss, LossOf, Progress, TuningSettings, optimise


@dataclass(frozen=True, slots=True)
class Labelled:
    """A trajectory and whether it is what the agent should do. ``weight`` is its weight in the loss."""

    transcript: Transcript
    desirable: bool
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class KtoSettings(TuningSettings):
    """How :func:`train_kto` trains. The defaults suit small models trained from scratch; a pretrained model wants a
    ``learning_rate`` of 1e-6 or so."""

    beta: float = 0.1
    """Strength of the pull to the reference."""
    desirable_weight: float = 1.0
    """λ_D."""
    undesirable_weight: float = 1.0
    """λ_U."""
    max_chosen_drop: float = 3.0
    """Training stops where the tokens of good trajectories of the last ``log_every`` steps are on average this many
    nats less likely than under the reference."""

    def __post_init__(self) -> None:
        TuningSettings.__post_init__(self)
        for name in ("beta", "desirable_weight", "undesirable_weight", "max_chosen_drop"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)!r}")


@dataclass(slots=True)
class KtoReport:
    """``history``: the columns of :func:`~branchwise.training.trainer.optimise` and ``kl`` (z0), ``desirable_ratio``
    and ``undesirable_ratio`` (mean r of a trajectory), ``chosen_drop`` (nats a token of good trajectories, against the
    reference). ``rows`` says what became of the trajectories."""

    history: list[dict[str, float]]
    rows: RowCounts = field(default_factory=RowCounts)


def labelled_episodes(episodes: Iterable[Episode]) -> list[Labelled]:
    """Episodes by their success."""
    return [Labelled(episode.transcript, episode.success) for episode in episodes]


def train_kto(
    policy: LanguageModel,
    labelled: Sequence[Labelled],
    settings: KtoSettings,
    *,
    reference: Any = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> KtoReport:
    """Trains ``policy`` in place; the same arguments give the same weights. ``reference``: a frozen causal language
    model; by default the policy's as it starts.

    Raises ``ValueError`` for no trajectories, for labels that are all alike, and where no trajectory gives a row, and
    :class:`~branchwise.training.trainer.TrainingStopped` on collapse, with the model back at its last good state.
    """
    model = policy.model
    if not labelled:
        raise ValueError("no trajectories to train on: the list is empty")
    positions = positions_of(model)
    found, counts = trajectory_rows(
        [one.transcript for one in labelled], policy.tokenizer, policy.history, policy.max_prompt_tokens, positions
    )
    found = [row for row in found if labelled[row.source].weight > 0]
    own = [labelled[row.source] for row in found]
    if len({one.desirable for one in own}) < 2:
        raise NothingToTrain(
            f"{sum(one.desirable for one in own)} good and {sum(not one.desirable for one in own)} bad trajectories "
            f"gave rows {dict(+counts.dropped)}; KTO needs both kinds: sample more, or train on the good ones alone "
            "(train_supervised)"
        )
    sides = [row.side for row in found]
    strangers = mismatched(sides, positions)
    frozen = model if reference is None else reference
    references = np.stack([side_references(frozen, sides), side_references(frozen, strangers)])

    history = optimise(
        model,
        [row.length for row in found],
        kto_objective(model, sides, strangers, references, own, settings),
        settings,
        seed,
        progress,
        dropout=False,
        harm=drop_above(settings.max_chosen_drop, "the tokens of good trajectories"),
        cure=f" or raise beta ({settings.beta:g})",
    )
    return KtoReport(history, counts)


def kto_objective(
    model: Any,
    sides: Sequence[Side],
    strangers: Sequence[Side],
    references: np.ndarray,
    labelled: Sequence[Labelled],
    settings: KtoSettings,
) -> LossOf:
    """The loss above of a batch of ``sides``, given by their numbers. ``strangers``: the mismatched side of each;
    ``references`` float64 ``[2, sides]``: the reference's log-probabilities of both."""
    project, packed = projection(model), Forward(model).packs
    device = next(model.parameters()).device
    reference = torch.tensor(references, dtype=torch.float32, device=device)
    good = torch.tensor([one.desirable for one in labelled], device=device)
    weights = torch.tensor([one.weight for one in labelled], dtype=torch.float32, device=device)

    def loss_of(numbers: np.ndarray) -> BatchLoss:
        at = torch.from_numpy(numbers).to(device)
        with torch.no_grad():
            other = moved(collate([strangers[number] for number in numbers], packed), device)
            baseline = kto_baseline(side_logps(project, other)[0] - reference[1, at])
        batch = moved(collate([sides[number] for number in numbers], packed), device)
        ratio = side_logps(project, batch)[0] - reference[0, at]
        losses = kto_losses(
            ratio, good[at], baseline, settings.beta, settings.desirable_weight, settings.undesirable_weight
        )
        right, r = good[at], ratio.detach()
        return BatchLoss(
            weighted_mean(losses, weights[at]),
            int(batch.tokens.sum()),
            {
                "kl": (baseline, 1),
                "desirable_ratio": (r[right].sum(), right.sum()),
                "undesirable_ratio": (r[~right].sum(), (~right).sum()),
                "chosen_drop": (-r[right].sum(), batch.tokens[right].sum()),
            },
        )

    return loss_of


def mismatched(sides: Sequence[Side], positions: int | None = None) -> list[Side]:
    """For each side the answers of another after its own prompts, those of a side with another first prompt wherever
    no prompt has more than half of the sides. Prompts lose their start where ``positions`` leave no room."""
    groups: dict[Hashable, list[int]] = {}
    for number, side in enumerate(sides):
        groups.setdefault(side[0].prompt_ids, []).append(number)
    order = [number for group in groups.values() for number in group]
    largest = max(map(len, groups.values()))
    shift = largest if largest < len(order) else 1
    partner = dict(zip(order, order[shift:] + order[:shift], strict=True))
    return [_answered(side, sides[partner[number]], positions) for number, side in enumerate(sides)]


def _answered(side: Side, other: Side, positions: int | None) -> Side:
    found = []
    for number, segment in enumerate(other):
        prompt = side[number % len(side)].prompt_ids
        if positions is not None:
            prompt = prompt[max(0, len(prompt) + len(segment.completion_ids) - positions) :]
        found.append(Segment(prompt, segment.completion_ids, segment.mask))
    return tuple(found)
