"""The slot *learn*: how a model learns from rows.

A learner takes rows of one kind and makes one part of an agent: its ``policy``, or a ``q`` that ranks what the policy
proposes. Its settings are those of the trainer behind it; it trains a model in place and returns the history of
metrics.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from ...agents.forward import positions_of
from ...agents.language_model import LanguageModel
from ...search.extraction import PreferencePair
from ..preference import PreferenceSettings, train_preference
from ..rows import sft_rows, steps_after
from ..supervised import SupervisedSettings, train_supervised
from .extract import Rows

Tell = Callable[[dict[str, float]], None]
Makes = Literal["policy", "q"]


@dataclass(frozen=True, slots=True)
class Sft(SupervisedSettings):
    """Supervised training on the chosen sides."""

    takes: ClassVar[Rows] = "pairs"
    makes: ClassVar[Makes] = "policy"

    def train(
        self, policy: LanguageModel, rows: Sequence[PreferencePair], seed: int, tell: Tell | None = None
    ) -> list[dict[str, float]]:
        steps = [step for pair in rows for step in steps_after(pair.prompt, pair.chosen)]
        limit, positions = policy.max_prompt_tokens, positions_of(policy.model)
        tokens, _ = sft_rows(steps, policy.tokenizer, policy.history, limit, positions=positions)
        return train_supervised(policy.model, tokens, self, seed, tell)


@dataclass(frozen=True, slots=True)
class Preference(PreferenceSettings):
    """DPO and its family on pairs, with the likelihood of anchors beside."""

    takes: ClassVar[Rows] = "pairs"
    makes: ClassVar[Makes] = "policy"

    reference: Literal["logged", "start"] = "logged"
    """The log-probabilities that were logged while collecting, or the model as it starts, scored once."""

    def train(
        self, policy: LanguageModel, rows: Sequence[PreferencePair], seed: int, tell: Tell | None = None
    ) -> list[dict[str, float]]:
        reference = "logged" if self.reference == "logged" else copy.deepcopy(policy.model)
        return train_preference(
            policy.model, policy.tokenizer, rows, self, reference=reference, seed=seed, history=policy.history,
            max_tokens=policy.max_prompt_tokens, progress=tell,
        ).history  # fmt: skip


@dataclass(frozen=True, slots=True)
class Q(Preference):
    """A model of its own whose log-ratio to the policy is a Q-value, β·log(π/π_ref) (arXiv:2409.09345): trained as a
    preference model, from a copy of the policy."""

    makes: ClassVar[Makes] = "q"


Learn = Sft | Preference | Q
LEARN: Final[Mapping[str, type[Learn]]] = {"sft": Sft, "preference": Preference, "q": Q}
