"""The slot *learn*: how a model learns from rows.

A learner takes rows of one kind and makes one part of an agent: its ``policy``, or a ``q`` that ranks what the policy
proposes. Its settings are those of the trainer behind it. ``train`` changes a model in place and returns the history
of metrics; ``frozen`` is the policy beside which a Q-model learns, where that is another model. ``fault`` says why
nothing could be learned from rows, else "". ``outcome`` is what a run searches for: ``success``, or ``reward``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import numpy as np

from ...agents.forward import positions_of
from ...agents.language_model import LanguageModel
from ...envs.play.episode import Episode
from ...envs.play.task import task_key
from ...search.extraction import PreferencePair
from ..kto import KtoSettings, Labelled, train_kto
from ..oreo import OreoSettings, train_oreo
from ..preference import PreferenceSettings, has_logged, train_preference
from ..rows import sft_rows, steps_after
from ..supervised import SupervisedSettings, train_supervised
from .extract import RowKind

Outcome = Literal["success", "reward"]
Tell = Callable[[dict[str, float]], None]
History = list[dict[str, float]]
Makes = Literal["policy", "q"]


@dataclass(frozen=True, slots=True)
class Sft(SupervisedSettings):
    """Supervised training on the chosen sides."""

    takes: ClassVar[RowKind] = "pairs"
    makes: ClassVar[Makes] = "policy"

    def fault(self, rows: Sequence[PreferencePair], outcome: Outcome) -> str:
        return ""

    def train(
        self, policy: LanguageModel, rows: Sequence[PreferencePair], outcome: Outcome, seed: int, tell: Tell,
        frozen: LanguageModel | None = None,
    ) -> History:  # fmt: skip
        steps = [step for pair in rows for step in steps_after(pair.prompt, pair.chosen)]
        limit, positions = policy.max_prompt_tokens, positions_of(policy.model)
        tokens, _ = sft_rows(steps, policy.tokenizer, policy.history, limit, positions=positions)
        return train_supervised(policy.model, tokens, self, seed, tell)


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
        self, policy: LanguageModel, rows: Sequence[PreferencePair], outcome: Outcome, seed: int, tell: Tell,
        frozen: LanguageModel | None = None,
    ) -> History:  # fmt: skip
        start: Any = "start" if frozen is None else frozen.model
        reference = "logged" if self.reference == "logged" and has_logged(rows) else start
        return train_preference(
            policy.model, policy.tokenizer, rows, self, reference=reference, seed=seed, history=policy.history,
            max_tokens=policy.max_prompt_tokens, progress=tell,
        ).history  # fmt: skip


@dataclass(frozen=True, slots=True)
class Q(Preference):
    """A model of its own whose log-ratio to the policy is a Q-value, β·log(π/π_ref) (arXiv:2409.09345): trained as a
    preference model, in the first round from a copy of the policy. The reference ``start`` is the policy in every
    round."""

    makes: ClassVar[Makes] = "q"


@dataclass(frozen=True, slots=True)
class Kto(KtoSettings):
    """KTO on whole episodes (arXiv:2402.01306; arXiv:2409.02392): good are those that succeeded, where a run searches
    for reward those above the mean of their task."""

    takes: ClassVar[RowKind] = "episodes"
    makes: ClassVar[Makes] = "policy"

    def fault(self, rows: Sequence[Episode], outcome: Outcome) -> str:
        return "" if len(set(_good(rows, outcome))) == 2 else "labels all alike"

    def train(
        self, policy: LanguageModel, rows: Sequence[Episode], outcome: Outcome, seed: int, tell: Tell,
        frozen: LanguageModel | None = None,
    ) -> History:  # fmt: skip
        labelled = [Labelled(row.transcript, good) for row, good in zip(rows, _good(rows, outcome), strict=True)]
        return train_kto(policy, labelled, self, seed=seed, progress=tell).history


@dataclass(frozen=True, slots=True)
class Oreo(OreoSettings):
    """The soft Bellman equation on whole episodes, a value trained beside the policy (arXiv:2412.16145)."""

    takes: ClassVar[RowKind] = "episodes"
    makes: ClassVar[Makes] = "policy"

    def fault(self, rows: Sequence[Episode], outcome: Outcome) -> str:
        return "" if len(set(_returns(rows, outcome))) > 1 else "returns all alike"

    def train(
        self, policy: LanguageModel, rows: Sequence[Episode], outcome: Outcome, seed: int, tell: Tell,
        frozen: LanguageModel | None = None,
    ) -> History:  # fmt: skip
        return train_oreo(policy, rows, self, outcome=outcome, seed=seed, progress=tell).history


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
