"""The slot *learn*: how a model learns from rows.

A learner takes rows of one kind and makes one part of an agent: its ``policy``, or a ``q`` that ranks what the policy
proposes. Its settings are those of the trainer behind it. ``train`` changes a model in place and returns the last
metrics; ``usable`` are the rows from which it can learn, and how many are left out by reason. ``outcome`` is what a run
searches for: ``success``, or ``reward``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from ...agents.language_model import LanguageModel
from ...envs.play.episode import Episode
from ...envs.play.task import places_by_task
from ...search.credit import StepAdvantage
from ...search.extraction import Outcome, PreferencePair, above_mean
from ..kto import KtoSettings, Labelled, train_kto
from ..oreo import OreoSettings, train_oreo
from ..policy_gradient import PolicyGradientSettings, train_policy_gradient
from ..preference import PreferenceSettings, train_step_dpo
from ..supervised import SupervisedSettings, train_sft
from .extractors import RowKind

Tell = Callable[[dict[str, float]], None]
Metrics = dict[str, float]
Makes = Literal["policy", "q"]
Usable = tuple[Sequence[Any], dict[str, int]]


@dataclass(frozen=True, slots=True)
class Sft(SupervisedSettings):
    """Supervised training on the chosen sides."""

    takes: ClassVar[RowKind] = "pairs"
    makes: ClassVar[Makes] = "policy"

    def usable(self, rows: Sequence[PreferencePair], outcome: Outcome) -> Usable:
        return rows, {}

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

    def usable(self, rows: Sequence[PreferencePair], outcome: Outcome) -> Usable:
        """All, or without anchors where the likelihood of chosen sides does not count."""
        kept = [row for row in rows if row.rejected or self.sft_weight > 0]
        return kept, {"anchors without sft_weight": len(rows) - len(kept)}

    def train(
        self, policy: LanguageModel, rows: Sequence[PreferencePair], outcome: Outcome, seed: int, tell: Tell,
        reference: LanguageModel | None = None,
    ) -> Metrics:  # fmt: skip
        """``reference``: where log-probabilities are not to be had from the rows; by default the model as it starts."""
        logged = None if self.reference == "logged" else False
        return train_step_dpo(policy, rows, self, logged=logged, reference=reference, seed=seed, progress=tell)[1]


@dataclass(frozen=True, slots=True)
class Q(Preference):
    """A model of its own whose log-ratio to the policy is a Q-value, β·log(π/π_ref) (arXiv:2409.09345): trained as a
    preference model, in the first round from a copy of the policy. The reference ``start`` is the policy in every
    round."""

    makes: ClassVar[Makes] = "q"


@dataclass(frozen=True, slots=True)
class Kto(KtoSettings):
    """KTO on whole episodes (arXiv:2402.01306; arXiv:2409.02392): good are those that succeeded, where a run searches
    for reward those above the mean of their task, and tasks whose episodes are all alike are left out."""

    takes: ClassVar[RowKind] = "episodes"
    makes: ClassVar[Makes] = "policy"

    def usable(self, rows: Sequence[Episode], outcome: Outcome) -> Usable:
        """By success all, by reward those of tasks whose episodes differ; none where all have the same label."""
        kept = rows if outcome == "success" else _of_unlike_tries(rows)
        alike = {"episodes all alike": len(rows) - len(kept)}
        if len(set(_good(kept, outcome))) < 2:
            return [], {**alike, "labels all alike": len(kept)}
        return kept, alike

    def train(self, policy: LanguageModel, rows: Sequence[Episode], outcome: Outcome, seed: int, tell: Tell) -> Metrics:
        labelled = [Labelled(row.transcript, good) for row, good in zip(rows, _good(rows, outcome), strict=True)]
        return train_kto(policy, labelled, self, seed=seed, progress=tell).history[-1]


@dataclass(frozen=True, slots=True)
class Oreo(OreoSettings):
    """The soft Bellman equation on whole episodes, a value trained beside the policy (arXiv:2412.16145)."""

    takes: ClassVar[RowKind] = "episodes"
    makes: ClassVar[Makes] = "policy"

    def usable(self, rows: Sequence[Episode], outcome: Outcome) -> Usable:
        """All; none where all have the same return."""
        return (rows, {}) if len(set(_returns(rows, outcome))) > 1 else ([], {"returns all alike": len(rows)})

    def train(self, policy: LanguageModel, rows: Sequence[Episode], outcome: Outcome, seed: int, tell: Tell) -> Metrics:
        return train_oreo(policy, rows, self, outcome=outcome, seed=seed, progress=tell).history[-1]


@dataclass(frozen=True, slots=True)
class PolicyGradient(PolicyGradientSettings):
    """The clipped objective of PPO and GRPO on steps with an advantage each (``policy_gradient.py``)."""

    takes: ClassVar[RowKind] = "advantages"
    makes: ClassVar[Makes] = "policy"

    def usable(self, rows: Sequence[StepAdvantage], outcome: Outcome) -> Usable:
        """All; none where no advantage is other than 0."""
        return (rows, {}) if any(row.advantage for row in rows) else ([], {"no advantage": len(rows)})

    def train(
        self, policy: LanguageModel, rows: Sequence[StepAdvantage], outcome: Outcome, seed: int, tell: Tell
    ) -> Metrics:
        return train_policy_gradient(policy, rows, self, seed=seed, progress=tell).history[-1]


def _returns(episodes: Sequence[Episode], outcome: Outcome) -> list[float]:
    return [float(episode.success) if outcome == "success" else episode.total_reward for episode in episodes]


def _of_unlike_tries(episodes: Sequence[Episode]) -> list[Episode]:
    """The episodes of tasks of which one has more reward than another."""
    returns = _returns(episodes, "reward")
    groups = places_by_task(episode.task for episode in episodes)
    unlike = {place for tries in groups if any(above_mean([returns[i] for i in tries])) for place in tries}
    return [episode for place, episode in enumerate(episodes) if place in unlike]


def _good(episodes: Sequence[Episode], outcome: Outcome) -> list[bool]:
    returns = _returns(episodes, outcome)
    if outcome == "success":
        return [value > 0 for value in returns]
    good = [False] * len(episodes)
    for tries in places_by_task(episode.task for episode in episodes):
        for place, is_good in zip(tries, above_mean([returns[i] for i in tries]), strict=True):
            good[place] = is_good
    return good


Learn = Sft | Preference | Q | Kto | Oreo | PolicyGradient
LEARN: Final[Mapping[str, type[Learn]]] = {
    "sft": Sft,
    "preference": Preference,
    "q": Q,
    "kto": Kto,
    "oreo": Oreo,
    "policy_gradient": PolicyGradient,
}
