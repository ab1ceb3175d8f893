"""What a recipe is made of: four slots, each filled by the name of an option and a dataclass of its settings.

*Collect*: ``episodes`` are sampled as the agent would play, ``trees`` are searched, ``mixed`` does both, steps are
valued by roll-outs (``collect.py``). *Extract*: ``extract.py``. *Learn*: ``learners.py``. *Act*: the ``policy`` plays
its likeliest action; ``best_of`` lets it propose some and plays the one that another part of the agent ranks first
(``agents.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from ...search import SearchSettings
from ...search.presets import preset_options
from ...search.rules.options import overlaid
from ...search.typed import check_fields
from ..settings import as_dict, build, check_counts
from .extractors import EXTRACT as EXTRACT
from .extractors import Extractor as Extractor
from .extractors import Gathered, check_discount
from .learners import LEARN as LEARN
from .learners import Learn as Learn

MOST_ROLLS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Episodes:
    """Whole episodes, sampled pass after pass until the round's model calls are used up."""

    gives: ClassVar[Gathered] = "episodes"

    earlier: float = 0.0
    """The share of the model calls that goes to the model of the round before (arXiv:2409.02392: a third)."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0.0 <= self.earlier < 1.0:
            raise ValueError(f"earlier={self.earlier}; expected a share from 0 to below 1")


@dataclass(frozen=True, slots=True)
class Trees:
    """A tree a goal, in games a tree a decision of self-play."""

    gives: ClassVar[Gathered] = "trees"

    preset: str = ""
    """Settings of a published search by name (``search/presets.py``), laid over the run's own ``search``. Read as if
    they were written out under ``search``."""
    search: dict[str, Any] = field(default_factory=dict)
    """Settings of ``SearchSettings`` that are laid over those of the preset and of the run's own ``search``."""
    rolls: int = 0
    """Roll-outs a side of the pairs of siblings of each tree that differ most, before they may be accepted
    (``extract: {segments: {label: rolls}}``); their model calls are the tree's. In games of several players none."""
    ranking: bool = False
    """Whether the policy ranks the actions of a node before they are tried, by how likely they are: what a language
    model that is asked for a ranking does in Agent Q. ``critic_weight`` and ``unvisited_value`` say how it counts."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.preset:
            object.__setattr__(self, "search", overlaid(preset_options(self.preset), self.search))
            object.__setattr__(self, "preset", "")
        if not 0 <= self.rolls <= MOST_ROLLS:
            raise ValueError(f"rolls={self.rolls}; expected 0 (none) to {MOST_ROLLS:,}")
        build(SearchSettings, self.search, "search.")

    def settings(self, common: SearchSettings) -> SearchSettings:
        """The search's settings, over those of the run."""
        return build(SearchSettings, overlaid(as_dict(common), self.search), "search.")


@dataclass(frozen=True, slots=True)
class Mixed:
    """Trees for a share of the model calls, and episodes, sampled on all goals, for the rest."""

    gives: ClassVar[Gathered] = "mixed"

    trees: Trees = field(default_factory=Trees)
    """How goals are searched, one after the other until the share is used up."""
    share: float = 0.5
    """Of the model calls, for trees."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0.0 < self.share < 1.0:
            raise ValueError(f"share={self.share}; expected a share between 0 and 1")


@dataclass(frozen=True, slots=True)
class StepRollouts:
    """At each step of good episodes the policy's own way, and roll-outs that value both (IPR, arXiv:2406.11176)."""

    gives: ClassVar[Gathered] = "steps"

    rollouts: int = 5
    """Roll-outs a step and side."""
    expert: str = ""
    """Who plays the good episodes: a player by rule; empty: the policy itself, of whose sampled episodes the successful
    ones are good (where a run is for reward, the one with the largest of a task, if others have less)."""
    return_gap: float = 0.01
    """The least difference of return between a good episode and the policy's own way."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_counts(self, "rollouts")


@dataclass(frozen=True, slots=True)
class StepValues:
    """Sampled episodes, and at each of their steps the policy's roll-outs, which value it (VinePPO,
    arXiv:2410.01679)."""

    gives: ClassVar[Gathered] = "advantages"

    rollouts: int = 9
    """K: roll-outs a state."""
    discount: float = 1.0
    """γ, of the returns."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_counts(self, "rollouts")
        check_discount(self.discount)


Collect = Episodes | Trees | Mixed | StepRollouts | StepValues
COLLECT: Final[Mapping[str, type[Collect]]] = {
    "episodes": Episodes,
    "trees": Trees,
    "mixed": Mixed,
    "step_rollouts": StepRollouts,
    "step_values": StepValues,
}


def trees_of(slot: Collect) -> Trees | None:
    """How a slot searches, where it does."""
    return slot.trees if isinstance(slot, Mixed) else slot if isinstance(slot, Trees) else None


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy's likeliest action."""

    needs: ClassVar[tuple[str, ...]] = ("policy",)


@dataclass(frozen=True, slots=True)
class BestOf:
    """Of some sampled actions the one that is ranked first."""

    needs: ClassVar[tuple[str, ...]] = ("policy", "q")

    proposals: int = 5
    """Sampled actions a decision; where actions are listed, without replacement."""
    temperature: float = 1.0
    """Of the samples."""
    normalise: bool = False
    """Divide log-ratios by the number of tokens."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_counts(self, "proposals")
        if self.temperature <= 0:
            raise ValueError(f"temperature={self.temperature}; expected a positive number")


Act = Policy | BestOf
ACT: Final[Mapping[str, type[Act]]] = {"policy": Policy, "best_of": BestOf}
