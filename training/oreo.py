"""OREO: policy and value trained together on whole episodes by the soft Bellman equation, without pairs.

The loss of a batch is value + policy + kl_weight · KL(π‖π_ref) with the value and policy losses of ``losses.py``
(arXiv:2412.16145). An action is a token (the paper's main variant), or a whole agent turn (its step-level
variant); the state before an action is read at the token that predicts it, so a turn's state is the last token of its
prompt. The KL is over the whole vocabulary, a mean over tokens (code of the authors).

The value is a :class:`~branchwise.agents.critics.ValueModel`, a network of its own, whose head starts at the middle of
the returns; at the optimum V lies between the smallest and the largest return, as such a model's values do. After
training it values searches and candidates like any critic. One optimiser steps both networks; each loss stops the
gradient at the other's quantities. (The authors step the value first.) The reference model is kept, since it reads
every batch.

What this file does not do: the response-level variant (DRO), importance weights, a moving average of the policy.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..agents.critics import ValueModel
from ..agents.forward import Forward, positions_of
from ..agents.language_model import LanguageModel
from ..envs.play.episode import Episode
from ..search.extraction import Outcome
from .batches import SideBatch, by_place, collate, likelihood, moved, projection
from .losses import full_kl, oreo_policy_loss, oreo_value_loss, trajectory_mean
from .rows import NothingToTrain, RowCounts, Side, trajectory_rows
from .trainer import BatchLoss, LossOf, Progress, TuningSettings, evaluating, optimise


@dataclass(frozen=True, slots=True)
class OreoSettings(TuningSettings):
    """How :func:`train_oreo` trains. The defaults suit small models trained from scratch; the paper has a
    ``learning_rate`` of 5e-6 for models of some billion parameters."""

    beta: float = 0.03
    """Strength of the pull to the reference, in units of the return a nat."""
    kl_weight: float = 0.01
    """Weight of KL(π‖π_ref)."""
    level: Literal["token", "turn"] = "token"
    """What an action is: a token, or a whole agent turn."""

    def __post_init__(self) -> None:
        TuningSettings.__post_init__(self)
        if self.beta <= 0:
            raise ValueError(f"beta must be above 0, got {self.beta!r}")
        if self.kl_weight < 0:
            raise ValueError(f"kl_weight must be at least 0, got {self.kl_weight!r}")


@dataclass(slots=True)
class OreoReport:
    """``critic``: the trained value. ``history``: the columns of :func:`~branchwise.training.trainer.optimise` and
    ``value_loss``, ``policy_loss``, ``kl`` (nats a token), ``value`` (mean V(s_t)), ``log_ratio`` (mean log π/π_ref of
    a trajectory). ``rows`` says what became of the episodes."""

    critic: ValueModel
    history: list[dict[str, float]]
    rows: RowCounts = field(default_factory=RowCounts)


def train_oreo(
    policy: LanguageModel,
    episodes: Sequence[Episode],
    settings: OreoSettings,
    *,
    outcome: Outcome = "success",
    critic: ValueModel | None = None,
    reference: Any = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> OreoReport:
    """Trains ``policy`` and a critic in place on ``episodes``; the same arguments give the same weights.

    ``outcome``: the return is 1 for success and 0 otherwise, or the rewards from the action on.
    ``critic``: one with the policy's tokenizer; by default a new one on a copy of the policy's weights, bounded by the
    smallest and largest return. ``reference``: a frozen causal language model; by default a copy of the policy's.

    Raises ``ValueError`` for no episodes, for returns that are all alike or outside the critic's bounds, and where no
    episode gives a row, and :class:`~branchwise.training.trainer.TrainingStopped` where the loss is not finite.
    """
    if not episodes:
        raise ValueError("no episodes to train on: the list is empty")
    if reference is policy.model:
        raise ValueError("reference is the model in training; leave it out, or give a frozen copy")
    found, counts = trajectory_rows(
        [episode.transcript for episode in episodes],
        policy.tokenizer,
        policy.history,
        policy.max_prompt_tokens,
        positions_of(policy.model),
    )
    if not found:
        raise NothingToTrain(f"none of {len(episodes)} episodes gave a row to train on: {dict(+counts.dropped)}")
    returns = [returns_of(episodes[row.source], outcome) for row in found]
    low, high = float(min(map(np.min, returns))), float(max(map(np.max, returns)))
    if low == high:
        raise ValueError(
            f"the return of all {len(found)} episodes is {low:g}: nothing to learn from; take episodes that differ"
        )
    if critic is None:
        critic = ValueModel.from_language_model(policy, low=low, high=high)
    elif low < critic.low - 1e-6 or high > critic.high + 1e-6:
        raise ValueError(
            f"returns lie in [{low:g}, {high:g}], outside the critic's bounds [{critic.low:g}, {critic.high:g}]; make "
            "the critic with the smallest and largest return as low and high"
        )
    frozen = copy.deepcopy(policy.model) if reference is None else reference
    history = optimise(
        torch.nn.ModuleList([policy.model, critic]),
        [row.length for row in found],
        oreo_objective(policy.model, critic, frozen, [row.side for row in found], returns, settings),
        settings,
        seed,
        progress,
        dropout=False,
        clipped=(policy.model, critic),  # a value's large errors do not slow the policy
        cure=f" or raise beta ({settings.beta:g})",
    )
    return OreoReport(critic, history, counts)


def returns_of(episode: Episode, outcome: Outcome) -> np.ndarray:
    """The return from each agent turn of an episode on: float64 ``[turns]``."""
    turns = sum(turn.is_agent for turn in episode.transcript)
    if outcome == "success":
        return np.full(turns, float(episode.success))
    if len(episode.rewards) != turns:
        raise ValueError(
            f"an episode has {turns} agent turns and {len(episode.rewards)} rewards; outcome='reward' needs one a turn"
        )
    return np.cumsum(np.asarray(episode.rewards, dtype=float)[::-1])[::-1]


def oreo_objective(
    model: Any,
    critic: ValueModel,
    reference: Any,
    sides: Sequence[Side],
    returns: Sequence[np.ndarray],
    settings: OreoSettings,
) -> LossOf:
    """The loss above of a batch of ``sides``, given by their numbers. ``returns``: of each, R from each of its agent
    turns on."""
    project, ref_project = projection(model), projection(reference)
    packed = Forward(model).packs and Forward(critic.base).packs
    device = next(model.parameters()).device
    turns = [turn_numbers(side) for side in sides]

    def loss_of(numbers: np.ndarray) -> BatchLoss:
        batch = moved(collate([sides[number] for number in numbers], packed), device)
        width = int(batch.tokens.max())
        turn = torch.zeros(len(numbers), width, dtype=torch.int64)
        returned = torch.zeros(len(numbers), width)
        for row, number in enumerate(numbers):
            own = turns[number]
            turn[row, : len(own)] = torch.from_numpy(own)
            returned[row, : len(own)] = torch.from_numpy(returns[number][own])
        turn = turn.to(device)[batch.side, batch.place]
        returned = returned.to(device)[batch.side, batch.place]

        logits = project(batch.ids, batch.flat, **batch.reading)
        with evaluating(reference):
            reference_logits = ref_project(batch.ids, batch.flat, **batch.reading)
        ratios = likelihood(logits, batch.target) - likelihood(reference_logits, batch.target)
        values = state_values(critic, batch)
        kl = trajectory_mean(
            by_place(batch, full_kl(logits, reference_logits)), by_place(batch, torch.ones_like(ratios))
        )

        action = batch.place if settings.level == "token" else turn
        actions = int(action.max()) + 1
        first = _first_tokens(batch, action)

        def by_action(of: Tensor, which: Tensor | None = None) -> Tensor:
            where = (batch.side, action) if which is None else (batch.side[which], action[which])
            return torch.zeros(len(numbers), actions, device=device).index_put(
                where, of if which is None else of[which], accumulate=True
            )

        mask = by_action(torch.ones_like(ratios), first)
        taken = by_action(ratios), by_action(returned, first), mask, settings.beta
        v = by_action(values, first)
        value_loss, policy_loss = oreo_value_loss(v, *taken), oreo_policy_loss(v, *taken)
        return BatchLoss(
            value_loss + policy_loss + settings.kl_weight * kl,
            int(batch.tokens.sum()),
            {
                "value_loss": (value_loss.detach(), 1),
                "policy_loss": (policy_loss.detach(), 1),
                "kl": (kl.detach(), 1),
                "value": (trajectory_mean(v.detach(), mask), 1),
                "log_ratio": (ratios.detach().sum(), len(numbers)),
            },
        )

    return loss_of


def state_values(critic: ValueModel, batch: SideBatch) -> Tensor:
    """V of the state before each learned token: float32 ``[n]``."""
    reading = dict(batch.reading)
    if "attention_mask" in reading:
        reading["attention_mask"] = reading["attention_mask"].to(critic.base.dtype)
    states = critic.base(input_ids=batch.ids, use_cache=False, **reading).last_hidden_state
    read = critic.head(states.reshape(-1, states.shape[-1])[batch.flat].float())[..., 0]
    return critic.low + (critic.high - critic.low) * torch.sigmoid(read)


def turn_numbers(side: Side) -> np.ndarray:
    """The number of the agent turn that each learned token of ``side`` is in: int64 ``[tokens]``. Between two turns of
    one segment there are observation tokens; a segment begins a turn."""
    numbers: list[int] = []
    turn = -1
    for segment in side:
        inside = False
        for learned in segment.mask:
            if learned and not inside:
                turn += 1
            inside = bool(learned)
            if learned:
                numbers.append(turn)
    return np.array(numbers, dtype=np.int64)


def _first_tokens(batch: SideBatch, action: Tensor) -> Tensor:
    """Whether each learned token is the first of its action: bool ``[n]``."""
    dense = torch.full((len(batch.tokens), int(batch.tokens.max())), -1, dtype=torch.int64, device=action.device)
    dense[batch.side, batch.place] = action
    before = torch.cat([torch.full_like(dense[:, :1], -1), dense[:, :-1]], dim=1)
    return (dense != before)[batch.side, batch.place]
