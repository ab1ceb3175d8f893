"""Policy gradient on single steps with an advantage each: the clipped objective of PPO, GRPO and their kin.

The loss of a batch is the mean over its steps i of

    − min(ρ_i A_i, clip(ρ_i, 1 − ε_low, 1 + ε_high) A_i) + kl_weight · k3_i

(PPO, arXiv:1707.06347, Eq. 7; ε_high > ε_low: DAPO, arXiv:2503.14476) with ρ = π(a|s) / π_old(a|s), the policy in
training against the one before it, and k3 of ``losses.py``. With ``ratio: step`` ρ is the whole action's, from the sum
of its tokens' log-probabilities (as GiGPO, arXiv:2505.10978, writes it; GSPO, arXiv:2507.18071, takes the root by
length too); with ``ratio: token`` each token has a ratio of its own and the advantage of its step, and a step counts
with the mean over its tokens (GRPO, arXiv:2402.03300). Only the agent's tokens are in it: what was observed has no
gradient.

π_old is the policy as it starts, scored once before training, without dropout; so the model in training has none
either. Where every row has its log-probability logged and the ratio is of the step, the logged ones are read instead.

At π = π_old the gradient for ``ratio: step`` is − mean_i A_i ∇ log π(a_i|s_i). Take the advantages of a tree's siblings
(``tree_advantages``, not normalised) at nodes where two children of equal prior are compared: A = ± ΔQ / 2, and the
gradient is exactly parallel to that of step-DPO on the same pairs, each weighted by its ΔQ, whatever β is (π_ref = π,
sft_weight 0; Tree-GRPO, arXiv:2509.21240, has the like for its groups). With priors p and 1 − p the two sides have
(1 − p) ΔQ and − p ΔQ, and with more children the pairs of a node share them: then the two differ.

What this file does not do: estimate advantages (``search/credit.py``), learn a value, sample anew between two steps of
the optimiser.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from ..agents.forward import Forward, positions_of
from ..agents.language_model import LanguageModel
from ..envs.checked import LARGEST
from ..search.calls import ROUNDING
from ..search.credit import StepAdvantage
from .batches import by_place, collate, learned_tokens, moved, projection, side_logps
from .losses import clipped_losses, k3, weighted_mean
from .preference import REFERENCE_BATCH
from .rows import NothingToTrain, RowCounts, Side, side_length, trajectory_rows
from .trainer import BatchLoss, LossOf, Progress, TuningSettings, evaluating, optimise


@dataclass(frozen=True, slots=True)
class PolicyGradientSettings(TuningSettings):
    """How :func:`train_policy_gradient` trains. The defaults suit small models trained from scratch; a pretrained model
    wants a ``learning_rate`` of 1e-6 or so."""

    ratio: Literal["step", "token"] = "step"
    """What has a ratio of its own: the whole action of a step, or each of its tokens."""
    clip: float = 0.2
    """ε: a ratio below 1 − ε or above 1 + ε moves no further away from 1."""
    clip_high: float | None = None
    """ε of the upper side, where it is another (DAPO: 0.28)."""
    kl_weight: float = 0.0
    """Weight of the distance to the policy as it started."""

    def __post_init__(self) -> None:
        TuningSettings.__post_init__(self)
        if not 0 < self.clip < 1:
            raise ValueError(f"clip must be above 0 and below 1, got {self.clip!r}")
        if self.clip_high is not None and self.clip_high <= 0:
            raise ValueError(f"clip_high must be above 0, got {self.clip_high!r}; leave it out to take clip's")
        if self.kl_weight < 0:
            raise ValueError(f"kl_weight must be at least 0, got {self.kl_weight!r}")


@dataclass(slots=True)
class PolicyGradientReport:
    """``history``: the columns of :func:`~branchwise.training.trainer.optimise` and ``ratio`` (mean ρ), ``clipped``
    (share of ratios that are clipped) and ``kl`` (mean k3; nats an action, or a token). ``rows`` says what became of
    the steps."""

    history: list[dict[str, float]]
    rows: RowCounts = field(default_factory=RowCounts)


def train_policy_gradient(
    policy: LanguageModel,
    steps: Sequence[StepAdvantage],
    settings: PolicyGradientSettings,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> PolicyGradientReport:
    """Trains ``policy`` in place on ``steps``; the same arguments give the same weights.

    Raises ``ValueError`` for no steps, for advantages that are all 0, for logged numbers that are no
    log-probabilities, and where no step gives a row, and :class:`~branchwise.training.trainer.TrainingStopped` where
    the loss is not finite.
    """
    if not steps:
        raise ValueError("no steps to train on: the list is empty")
    found, counts = trajectory_rows(
        [(step.prompt, step.action[0].text) for step in steps],
        policy.tokenizer,
        policy.history,
        policy.max_prompt_tokens,
        positions_of(policy.model),
    )
    own = [steps[row.source] for row in found]
    if not any(step.advantage for step in own):
        raise NothingToTrain(
            f"{len(own)} of {len(steps)} steps gave a row, and none of these has an advantage other than 0: "
            f"{dict(+counts.dropped)}"
        )
    sides = [row.side for row in found]
    history = optimise(
        policy.model,
        [row.length for row in found],
        policy_gradient_objective(
            policy.model,
            sides,
            [step.advantage for step in own],
            old_logps(policy.model, own, sides, settings.ratio),
            settings,
        ),
        settings,
        seed,
        progress,
        dropout=False,
        cure=f" or raise kl_weight ({settings.kl_weight:g})",
    )
    return PolicyGradientReport(history, counts)


def policy_gradient_objective(
    model: Any, sides: Sequence[Side], advantages: Sequence[float], old: np.ndarray, settings: PolicyGradientSettings
) -> LossOf:
    """The loss above of a batch of ``sides``, given by their numbers. ``old``: log-probabilities under π_old, float64
    ``[sides]``, or of each token ``[sides, most tokens]``, as :func:`old_logps` gives them."""
    project, packed = projection(model), Forward(model).packs
    device = next(model.parameters()).device
    before = torch.tensor(old, dtype=torch.float32, device=device)
    better = torch.tensor(advantages, dtype=torch.float32, device=device)
    low, high = settings.clip, settings.clip if settings.clip_high is None else settings.clip_high

    def loss_of(numbers: np.ndarray) -> BatchLoss:
        at = torch.from_numpy(numbers).to(device)
        batch = moved(collate([sides[number] for number in numbers], packed), device)
        sums, logps = side_logps(project, batch)
        if settings.ratio == "step":
            log_ratio, advantage, weight = sums - before[at], better[at], torch.ones_like(sums)
        else:
            log_ratio = logps - before[at][batch.side, batch.place]
            advantage, weight = better[at][batch.side], 1 / batch.tokens[batch.side]
        losses, distance = clipped_losses(log_ratio, advantage, low, high), k3(log_ratio)
        ratio = log_ratio.detach().exp()
        outside = torch.where(advantage > 0, ratio > 1 + high, ratio < 1 - low)
        return BatchLoss(
            weighted_mean(losses + settings.kl_weight * distance, weight),
            int(batch.tokens.sum()),
            {
                "ratio": (ratio.sum(), len(ratio)),
                "clipped": (outside.sum(), len(ratio)),
                "kl": (distance.detach().sum(), len(ratio)),
            },
        )

    return loss_of


def old_logps(model: Any, steps: Sequence[StepAdvantage], sides: Sequence[Side], ratio: str) -> np.ndarray:
    """Log-probabilities of the actions under the policy before training: float64 ``[steps]`` for ``ratio: step``, those
    that were logged where all are, else ``model``'s; for ``ratio: token`` the model's, ``[steps, most tokens]``."""
    if ratio == "token":
        return token_references(model, sides)
    logged = [step.logp for step in steps if step.logp is not None]
    if len(logged) < len(steps):
        return token_references(model, sides).sum(axis=1)
    for number, logp in enumerate(logged):
        if not -LARGEST <= logp <= ROUNDING:
            raise ValueError(
                f"step {number} has logp={logp!r}; a log-probability is at most 0 and at least {-LARGEST:.3g}: leave "
                "it out (None), and the model as it starts is taken"
            )
    return np.array(logged)


def token_references(reference: Any, sides: Sequence[Side]) -> np.ndarray:
    """The log-probability of each learned token of each side under ``reference``: float64 ``[sides, most tokens]``,
    each side's in order, then zeros. Sides of similar length share a batch."""
    device = next(reference.parameters()).device
    found = np.zeros((len(sides), max(map(learned_tokens, sides))))
    order = sorted(range(len(sides)), key=lambda number: side_length(sides[number]))
    with evaluating(reference):
        project, packed = projection(reference), Forward(reference).packs
        for start in range(0, len(order), 2 * REFERENCE_BATCH):
            part = order[start : start + 2 * REFERENCE_BATCH]
            batch = moved(collate([sides[number] for number in part], packed), device)
            tokens = by_place(batch, side_logps(project, batch)[1]).double().cpu().numpy()
            found[part, : tokens.shape[1]] = tokens
    return found
