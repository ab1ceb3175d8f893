"""The slot *extract*: the extractors, as recipes name them.

An extractor reads episodes, trees, steps or valued steps and gives rows of one kind: ``pairs``, of which those without
a rejected side are anchors (all of them where the extractor ``compares`` nothing), whole ``episodes``, or single steps
with ``advantages``. The functions are those of ``search.extraction`` and ``search.credit``; here are their settings.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, ClassVar, Final, Literal

import numpy as np
from gymnasium.envs.registration import load_env_creator

from ...agents.prompting import History, history_key
from ...envs.play.episode import Episode
from ...envs.play.task import task_key
from ...envs.registry import environment_row
from ...search import Tree
from ...search.credit import StepAdvantage, group_advantages, pooled_advantages, state_pairs, tree_advantages
from ...search.extraction import (
    Outcome,
    PreferencePair,
    best_path_pairs,
    best_paths,
    sibling_pairs,
    successful_trajectories,
    trajectory_pairs,
)
from ...search.pooling import Position, pooled_answers, pooled_pairs
from ...search.segments import Page, segment_pairs
from ...search.typed import check_fields
from ..settings import OneOf, check_counts

Gathered = Literal["episodes", "trees", "steps", "advantages", "mixed"]
Found = tuple[Sequence[PreferencePair], Counter[str]]
RowKind = Literal["pairs", "episodes", "advantages"]
Credited = tuple[list[StepAdvantage], Counter[str]]

GAME_VISITS: Final = 64
"""Of a node of a game's tree that is kept where games are searched compiled, and pooled with its equals."""


def check_threshold(threshold: float) -> None:
    """Raises ``ValueError`` where a threshold is negative: the worse side would be chosen."""
    if threshold < 0:
        raise ValueError(f"threshold={threshold}; expected the least difference, from 0 on")


def check_errors(z: float) -> None:
    """Raises ``ValueError`` for a negative number of standard errors."""
    if z < 0:
        raise ValueError(f"z={z}; expected a number of standard errors, from 0 on")


def check_discount(discount: float) -> None:
    """Raises ``ValueError`` where a discount is none."""
    if not 0 <= discount <= 1:
        raise ValueError(f"discount={discount}; expected a number from 0 to 1")


@dataclass(frozen=True, slots=True)
class Successes:
    """Successful episodes, imitated whole (rejection fine-tuning); beside pairs, their anchors. Where a run is for
    reward, those with more than their task's mean."""

    reads: ClassVar[Gathered] = "episodes"
    gives: ClassVar[RowKind] = "pairs"
    compares: ClassVar[bool] = False

    per_task: int = 4
    """At most so many of a task."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_counts(self, "per_task")

    def from_episodes(self, episodes: Sequence[Episode], by: Outcome, round: int, rng: np.random.Generator) -> Found:
        return successful_trajectories(episodes, by=by, per_task=self.per_task, round=round)


@dataclass(frozen=True, slots=True)
class TrajectoryPairs:
    """A correct against an incorrect episode of the same task, whole (Agent Q, arXiv:2408.07199, Eq. 6). In games one
    that won more against one that won less."""

    reads: ClassVar[Gathered] = "episodes"
    gives: ClassVar[RowKind] = "pairs"
    compares: ClassVar[bool] = True

    per_task: int = 4
    """At most so many of a task."""
    pairing: Literal["random", "extremes"] = "random"
    """Drawn; or the best against the worst, the second best against the second worst, and so on."""
    threshold: float = 0.0
    """Where a run is for reward: by more than this one episode has more than the other."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_counts(self, "per_task")
        check_threshold(self.threshold)

    def from_episodes(self, episodes: Sequence[Episode], by: Outcome, round: int, rng: np.random.Generator) -> Found:
        return trajectory_pairs(
            episodes, by=by, threshold=self.threshold, pairing=self.pairing, per_task=self.per_task, rng=rng,
            round=round,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class StatePairs:
    """Actions of episodes at equal states of a task, whose mean returns differ: step pairs without a tree, by the
    groups of GiGPO (arXiv:2505.10978). States are equal where what the model is shown is."""

    reads: ClassVar[Gathered] = "episodes"
    gives: ClassVar[RowKind] = "pairs"
    compares: ClassVar[bool] = True

    threshold: float = 0.1
    """The least difference of mean return."""
    min_visits: int = 1
    """How often both actions were taken there, at least."""
    per_state: int = 3
    """At most so many a state, those of the largest difference first."""
    z: float = 0.0
    """The least difference in standard errors, where returns are 0 or 1 (runs for success)."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_counts(self, "min_visits", "per_state")
        check_threshold(self.threshold)
        check_errors(self.z)

    def from_episodes(self, episodes: Sequence[Episode], by: Outcome, shown: History, round: int) -> Found:
        return state_pairs(
            episodes, lambda seen: history_key(shown(seen)), self.threshold, self.min_visits,
            per_state=self.per_state, z=self.z, by=by, round=round,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class SiblingPairs:
    """Children of one node whose values differ (Agent Q, arXiv:2408.07199, section 5.3)."""

    reads: ClassVar[Gathered] = "trees"
    gives: ClassVar[RowKind] = "pairs"
    compares: ClassVar[bool] = True

    threshold: float = 0.1
    """The least difference of value."""
    min_visits: int = 1
    """The least visits of both sides; solved children pass."""
    contrast: Literal["best", "all"] = "best"
    """The best child against each other one, or all against all."""
    per_node: int = 3
    """At most so many a node, those of the largest difference first."""
    z: float = 0.0
    """The least difference in standard errors, where returns are 0 or 1 (runs for success)."""
    visits: int = GAME_VISITS
    """Games: the least visits of a node whose counts are added to those of its equals; roots' always are."""
    margin: float = 0.0
    """So many times the difference of value is the margin of a pair's loss (as ODPO, arXiv:2402.10571)."""
    weight: Literal["equal", "difference"] = "equal"
    """How much a pair counts in the loss: all alike, or as much as its difference of value."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_counts(self, "min_visits", "per_node", "visits")
        check_threshold(self.threshold)
        check_errors(self.z)

    @property
    def counts(self) -> str:
        """What the pairs bring for the loss, in words."""
        given = {"margins": self.margin != 0, "weights": self.weight != "equal"}
        return " and ".join(name for name, is_given in given.items() if is_given)

    def from_tree(self, tree: Tree, by: Outcome, round: int) -> Found:
        return self._counted(
            *sibling_pairs(
                tree,
                self.threshold,
                self.min_visits,
                contrast=self.contrast,
                per_node=self.per_node,
                z=self.z,
                round=round,
            )
        )

    def from_positions(self, positions: Sequence[Position]) -> Found:
        return self._counted(
            *pooled_pairs(
                positions, self.threshold, self.min_visits, contrast=self.contrast, per_position=self.per_node
            )
        )

    def _counted(self, pairs: Sequence[PreferencePair], dropped: Counter[str]) -> Found:
        """The pairs with their margins and weights for the loss."""
        if not self.counts:
            return pairs, dropped
        kept = []
        for pair in pairs:
            gap = pair.chosen_q - pair.rejected_q
            kept.append(
                replace(pair, margin=self.margin * gap, weight=gap if self.weight == "difference" else pair.weight)
            )
        return kept, dropped


@dataclass(frozen=True, slots=True)
class Segments:
    """Some actions of the best way on from a node against some of the worst (``search.segments``): with one action
    siblings, with all of them remainders, and from the root whole episodes."""

    reads: ClassVar[Gathered] = "trees"
    gives: ClassVar[RowKind] = "pairs"
    compares: ClassVar[bool] = True

    length: int | Literal["n/3", "pages", "all"] = 1
    """So many actions; a third of the way to the end; until another page is seen, where the environment has some; or
    all, to the end."""
    label: Literal["mean", "regret", "rolls"] = "mean"
    """What says which side is better: the values of the first actions, those of the segments' ends, or of the first
    actions by the roll-outs that ``collect: {trees: {rolls: 4}}`` plays from them (of one action)."""
    at: Literal["nodes", "root"] = "nodes"
    """Where segments begin."""
    threshold: float = 0.3
    """The least difference of the labels."""
    min_visits: int = 2
    """The least visits of both first actions; solved children pass."""
    per_node: int = 3
    """At most so many a node, those of the largest difference first."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_counts(self, "min_visits", "per_node")
        check_threshold(self.threshold)
        if isinstance(self.length, int):
            check_counts(self, "length")
        usual = {each.name: each.default for each in fields(self)}
        if self.label == "rolls":
            for name in ("length", "at", "min_visits", "per_node"):
                if getattr(self, name) != usual[name]:
                    raise ValueError(
                        f"{name}={getattr(self, name)} with label=rolls, which takes the pairs that were rolled, one "
                        "action each; leave it out"
                    )

    def from_tree(self, tree: Tree, by: Outcome, round: int) -> Found:
        if self.label == "rolls":
            return (), Counter()
        return segment_pairs(
            tree, self.length, label=self.label, at=self.at, threshold=self.threshold, min_visits=self.min_visits,
            per_node=self.per_node, page=_page_of(tree) if self.length == "pages" else None, round=round,
        )  # fmt: skip

    def from_rolls(self, pairs: Sequence[PreferencePair]) -> Found:
        """Of the pairs that were rolled, those whose difference is large enough."""
        kept = [
            pair for pair in pairs if pair.rejected and pair.chosen_q - pair.rejected_q >= max(self.threshold, 1e-9)
        ]
        return kept, Counter({"below threshold": len(pairs) - len(kept)})


def _page_of(tree: Tree) -> Page:
    row = environment_row(str(tree.task.get("env_id", "")))
    if not row.page:
        raise ValueError(f"length=pages: {row.id} does not say which page an observation is of; take another length")
    page: Any = load_env_creator(row.page)
    return page


@dataclass(frozen=True, slots=True)
class BestPathPairs:
    """At each node of the best path the best child against the worst, or the second best (arXiv:2409.09345,
    arXiv:2405.00451)."""

    reads: ClassVar[Gathered] = "trees"
    gives: ClassVar[RowKind] = "pairs"
    compares: ClassVar[bool] = True

    path: Literal["terminal", "final"] = "terminal"
    """To the visited end of largest return, or along the most visited children."""
    against: Literal["worst", "second"] = "worst"
    """Which child the best is better than."""
    unvisited: Literal["drop", "zero"] = "drop"
    """Whether a child without a visit takes part, with value 0."""
    threshold: float = 0.0
    """The least difference of value."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_threshold(self.threshold)

    def from_tree(self, tree: Tree, by: Outcome, round: int) -> Found:
        return best_path_pairs(
            tree, path=self.path, against=self.against, unvisited=self.unvisited, threshold=self.threshold, round=round
        )


@dataclass(frozen=True, slots=True)
class BestPaths:
    """The actions on successful paths of trees and in successful roll-outs, to be imitated; where a run is for reward,
    on paths with more than the mean of their tree's. In games of several players, what the search would play at each
    position, all trees' counts added up."""

    reads: ClassVar[Gathered] = "trees"
    gives: ClassVar[RowKind] = "pairs"
    compares: ClassVar[bool] = False

    paths: int = 2
    """At most so many paths a tree."""
    visits: int = GAME_VISITS
    """Games: the least visits of a node whose counts are added to those of its equals; roots' always are."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_counts(self, "paths", "visits")

    def from_tree(self, tree: Tree, by: Outcome, round: int) -> Found:
        return best_paths(tree, paths=self.paths, by=by, round=round)

    def from_positions(self, positions: Sequence[Position]) -> Found:
        return pooled_answers(positions), Counter()


@dataclass(frozen=True, slots=True)
class StepPairs:
    """What followed a good action against what followed the policy's own, by the means of their roll-outs (IPR)."""

    reads: ClassVar[Gathered] = "steps"
    gives: ClassVar[RowKind] = "pairs"
    compares: ClassVar[bool] = True

    threshold: float = 0.01
    """The least difference of the means."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_threshold(self.threshold)

    def from_steps(self, steps: Sequence[PreferencePair]) -> Found:
        gaps = [step.chosen_q - step.rejected_q for step in steps]
        kept = [step for step, gap in zip(steps, gaps, strict=True) if gap >= self.threshold and gap > 0]
        return kept, Counter({"below threshold": len(steps) - len(kept)})


@dataclass(frozen=True, slots=True)
class Tries:
    """Whole episodes as they came, good and bad."""

    reads: ClassVar[Gathered] = "episodes"
    gives: ClassVar[RowKind] = "episodes"
    compares: ClassVar[bool] = True

    per_task: int = 16
    """At most so many of a task, the earliest."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_counts(self, "per_task")

    def tries(self, episodes: Sequence[Episode]) -> tuple[list[Episode], Counter[str]]:
        taken: Counter[str] = Counter()
        kept = []
        acted = [episode for episode in episodes if episode.steps]
        for episode in acted:
            name = task_key(episode.task)
            taken[name] += 1
            if taken[name] <= self.per_task:
                kept.append(episode)
        dropped = Counter({"no action": len(episodes) - len(acted), "over per_task": len(acted) - len(kept)})
        return kept, +dropped


@dataclass(frozen=True, slots=True)
class TreeCredit:
    """The children of a tree's node against each other (in the manner of Tree-GRPO, arXiv:2509.21240); in games of
    several players by what each is worth to whoever moves."""

    reads: ClassVar[Gathered] = "trees"

    min_visits: int = 1
    """The least visits of a child; solved children pass."""
    normalise: bool = False
    """Divide by the standard deviation of the siblings' values."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_counts(self, "min_visits")

    def from_trees(self, trees: Sequence[Tree], round: int) -> Credited:
        rows: list[StepAdvantage] = []
        dropped: Counter[str] = Counter()
        for tree in trees:
            found, left_out = tree_advantages(tree, min_visits=self.min_visits, normalise=self.normalise, round=round)
            rows += found
            dropped.update(left_out)
        return rows, dropped


@dataclass(frozen=True, slots=True)
class GroupCredit:
    """An episode against those of its task, and a step against those from the same state (GiGPO, arXiv:2505.10978)."""

    reads: ClassVar[Gathered] = "episodes"

    weight: float = 1.0
    """ω, of the steps' part."""
    discount: float = 0.95
    """γ, of the steps' returns."""
    normalise: bool = True
    """Divide by the standard deviation of each group."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_discount(self.discount)
        if self.weight < 0:
            raise ValueError(f"weight={self.weight}; expected a number from 0 on")

    def from_episodes(self, episodes: Sequence[Episode], by: Outcome, shown: History, round: int) -> Credited:
        return group_advantages(
            episodes, lambda seen: history_key(shown(seen)), by=by, weight=self.weight, discount=self.discount,
            normalise=self.normalise, round=round,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class PooledCredit:
    """The mean return of an action in a state against that of the state, over all episodes of a task."""

    reads: ClassVar[Gathered] = "episodes"

    discount: float = 1.0
    """γ, of the steps' returns."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_discount(self.discount)

    def from_episodes(self, episodes: Sequence[Episode], by: Outcome, shown: History, round: int) -> Credited:
        return pooled_advantages(
            episodes, lambda seen: history_key(shown(seen)), by=by, discount=self.discount, round=round
        )


@dataclass(frozen=True, slots=True)
class VineCredit:
    """What ``collect: step_values`` found by roll-outs along episodes (VinePPO, arXiv:2410.01679)."""

    reads: ClassVar[Gathered] = "advantages"


Credit = TreeCredit | GroupCredit | PooledCredit | VineCredit
CREDIT: Final[Mapping[str, type[Credit]]] = {
    "tree": TreeCredit,
    "group": GroupCredit,
    "pooled": PooledCredit,
    "vine": VineCredit,
}


@dataclass(frozen=True, slots=True)
class Advantages:
    """How much better each action was than the policy's average there."""

    gives: ClassVar[RowKind] = "advantages"
    compares: ClassVar[bool] = False

    by: Annotated[Credit, OneOf(CREDIT)]
    """How that is estimated: from the siblings of a ``tree``, against a ``group`` of episodes and of steps, by means
    over ``pooled`` states, or by roll-outs from restored states (``vine``)."""

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def reads(self) -> Gathered:
        return self.by.reads


FromEpisodes = Successes | TrajectoryPairs
FromTrees = SiblingPairs | Segments | BestPathPairs | BestPaths
Extractor = FromEpisodes | StatePairs | FromTrees | StepPairs | Tries | Advantages
EXTRACT: Final[Mapping[str, type[Extractor]]] = {
    "successes": Successes,
    "trajectory_pairs": TrajectoryPairs,
    "state_pairs": StatePairs,
    "sibling_pairs": SiblingPairs,
    "segments": Segments,
    "best_path_pairs": BestPathPairs,
    "best_paths": BestPaths,
    "step_pairs": StepPairs,
    "tries": Tries,
    "advantages": Advantages,
}


def readers(gathered: Gathered) -> list[str]:
    """The extractors that read such a collection, by name; where it is one of an extractor's ways, with that."""
    found = [name for name, kind in EXTRACT.items() if kind is not Advantages and reads(kind.reads, gathered)]  # type: ignore[arg-type]
    return found + [f"advantages (by: {way})" for way, kind in CREDIT.items() if reads(kind.reads, gathered)]


def reads(wanted: Gathered, gathered: Gathered) -> bool:
    """Whether who reads the one finds it in the other: a mixed collection holds trees and episodes."""
    return wanted == gathered or (gathered == "mixed" and wanted in ("trees", "episodes"))
