"""The slot *learn*: how a model learns from rows.

A learner takes rows of one kind and makes one part of an agent: its ``policy``, or a ``q`` that ranks what the policy
proposes. Its settings are those of the trainer behind it. ``train`` changes a model in place and returns the last
metrics. ``fault`` says why nothing could be learned from rows, else "". ``outcome`` is what a run searches for:
``success``, or ``reward``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import numpy as np

from ...agents.language_model import LanguageModel
from ...envs.play.episode import Episode
from ...envs.play.task import task_key
from ...search.extraction import PreferencePair
from ..kto import KtoSettings, Labelled, train_kto
from ..oreo import OreoSettings, train_oreo
from ..preference import PreferenceSettings, has_logged, train_preference
from ..supervised import SupervisedSettings, train_sft
from .extract import RowKind

Outcome = Literal["success", "reward"]
Tell = Callable[[dict[str, float]], None]
Metrics = dict[str, float]
Makes = Literal["policy", "q"]


@dataclass(frozen=True, slots=True)
class Sft(SupervisedSettings):
    """Supervised training on the chosen sides."""

    takes: ClassVar[RowKind] = "pairs"
    makes: ClassVar[Makes] = "policy"

    def fault(self, rows: Sequence[PreferencePair], outcome: Outcome) -> str:
        return ""

    def train(
        self, policy: LanguageModel, rows: Sequence[PreferencePair], outcome: Outcome, seed: int, tell: Tell
    ) -> Metrics:
        return train_sft(policy, rows, self, seed=seed, progress=tell)[1]


@dataclass(frozen=True, slots=True)
class Preference(PreferenceSettings):
    """DPO and its family on pairs, with the likelihood of the chosen sides, anchors' too, beside."""

    takes: ClassVar[RowKind] = "pairs"
    makes: ClassVar[Makes] = "policy"

    reference: Literal["logged", "start"] = "logged"
    """The log-probabilities that were logged while collecting, where every pair has them; or the model as it starts,
    scored once."""

    def fault(self, rows: Sequence[PreferencePair], outcome: Outcome) -> str:
        if self.sft_weight == 0 and not any(row.rejected for row in rows):
            return "no pairs"
        return ""

    def train(
        self, policy: LanguageModel, rows: Sequence[PreferencePair], outcome: Outcome, seed: int, tell: Tell
    ) -> Metrics:
        return self._descend(policy, rows, "start", seed, tell)

    def _descend(
        self, model: LanguageModel, rows: Sequence[PreferencePair], start: Any, seed: int, tell: Tell
    ) -> Metrics:
        """``start``: the reference where log-probabilities were not logged, or are not to be used."""
        reference = "logged" if self.reference == "logged" and has_logged(rows) else start
        return train_preference(
            model.model, model.tokenizer, rows, self, reference=reference, seed=seed, history=model.history,
            max_tokens=model.max_prompt_tokens, progress=tell,
        ).history[-1]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Q(Preference):
    """A model of its own whose log-ratio to the policy is a Q-value, β·log(π/π_ref) (arXiv:2409.09345): trained as a
    preference model, in the first round from a copy of the policy. The reference ``start`` is the policy in every
    round."""

    makes: ClassVar[Makes] = "q"

    def train_beside(
        self, policy: LanguageModel, q: LanguageModel, rows: Sequence[PreferencePair], seed: int, tell: Tell
    ) -> Metrics:
        """As ``train``, for a Q-model that a round before has trained: ``policy`` is not it any more."""
        return self._descend(q, rows, policy.model, seed, tell)


@dataclass(frozen=True, slots=True)
class Kto(KtoSettings):
    """KTO on whole episodes (arXiv:2402.01306; arXiv:2409.02392): good are those that succeeded, where a run searches
    for reward those above the mean of their task."""

    takes: ClassVar[RowKind] = "episodes"
    makes: ClassVar[Makes] = "policy"

    def fault(self, rows: Sequence[Episode], outcome: Outcome) -> str:
        return "" if len(set(_good(rows, outcome))) == 2 else "labels all alike"

    def train(self, policy: LanguageModel, rows: Sequence[Episode], outcome: Outcome, seed: int, tell: Tell) -> Metrics:
        labelled = [Labelled(row.transcript, good) for row, good in zip(rows, _good(rows, outcome), strict=True)]
        return train_kto(policy, labelled, self, seed=seed, progress=tell).history[-1]


@dataclass(frozen=True, slots=True)
class Oreo(OreoSettings):
    """The soft Bellman equation on whole episodes, a value trained beside the policy (arXiv:2412.16145)."""

    takes: ClassVar[RowKind] = "episodes"
    makes: ClassVar[Makes] = "policy"

    def fault(self, rows: Sequence[Episode], outcome: Outcome) -> str:
        return "" if len(set(_returns(rows, outcome))) > 1 else "returns all alike"

    def train(self, policy: LanguageModel, rows: Sequence[Episode], outcome: Outcome, seed: int, tell: Tell) -> Metrics:
        return train_oreo(policy, rows, self, outcome=outcome, seed=seed, progress=tell).history[-1]


def _returns(episodes: Sequence[Episode], outcome: Outcome) -> list[float]:
    return [float(episode.success) if outcome == "success" else episode.total_reward for episode in episodes]


def _good(episodes: Sequence[Episode], outcome: Outcome) -> list[bool]:
    returns = _returns(episodes, outcome)
    if outcome == "success":
        return [value > 0 for value in returns]
    of_task: dict[str, list[float]] = {}
    tasks = [task_key(episode.task) for episode in episodes]
    for task, value in zip(tasks, returns, strict=True):
        of_task.setdefault(task, []).append(value)
    means = {task: float(np.mean(values)) for task, values in of_task.items()}
    return [value > means[task] + 1e-9 for task, value in zip(tasks, returns, strict=True)]


Learn = Sft | Preference | Q | Kto | Oreo
LEARN: Final[Mapping[str, type[Learn]]] = {"sft": Sft, "preference": Preference, "q": Q, "kto": Kto, "oreo": Oreo}
