"""The slot *extract*: from what was collected to rows to learn from.

An extractor reads episodes, trees or steps and gives rows of one kind: ``pairs``, of which those without a rejected
side are anchors (all of them where the extractor ``compares`` nothing), or whole ``episodes``. The functions are those
of ``search.extraction``; here are their settings, as recipes name them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np

from ...agents.prompting import history_key, history_named
from ...envs.play.episode import Episode
from ...envs.play.task import task_key
from ...envs.simulator import Simulator
from ...search import Tree, load_pairs, load_trees, save_pairs
from ...search.extraction import (
    Outcome,
    PreferencePair,
    best_path_pairs,
    best_paths,
    sibling_pairs,
    successful_trajectories,
    trajectory_pairs,
)
from ...search.pooling import Position, pooled, pooled_answers, pooled_pairs
from ...search.records import load_episodes, save_episodes
from ...search.typed import check_fields
from ..rows import without_repeats
from ..settings import check_counts
from ..stages import FIGURES, read_figures, read_from

Gathered = Literal["episodes", "trees", "steps"]
Found = tuple[Sequence[PreferencePair], Counter[str]]
Rows = Sequence[Any]
"""Pairs or episodes."""
RowKind = Literal["pairs", "episodes"]

GAME_VISITS: Final = 64
"""Of a node of a game's tree that is kept where games are searched compiled, and pooled with its equals."""


def check_threshold(threshold: float) -> None:
    """Raises ``ValueError`` where a threshold is negative: the worse side would be chosen."""
    if threshold < 0:
        raise ValueError(f"threshold={threshold}; expected the least difference, from 0 on")


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

    @property
    def counts(self) -> str:
        """What the pairs bring for the loss, in words."""
        given = {"margins": self.margin != 0, "weights": self.weight != "equal"}
        return " and ".join(name for name, is_given in given.items() if is_given)

    def from_tree(self, tree: Tree, by: Outcome, round: int) -> Found:
        return self._counted(
            *sibling_pairs(
                tree, self.threshold, self.min_visits, contrast=self.contrast, per_node=self.per_node, round=round
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


FromEpisodes = Successes | TrajectoryPairs
FromTrees = SiblingPairs | BestPathPairs | BestPaths
Extractor = FromEpisodes | FromTrees | StepPairs | Tries
EXTRACT: Final[Mapping[str, type[Extractor]]] = {
    "successes": Successes,
    "trajectory_pairs": TrajectoryPairs,
    "sibling_pairs": SiblingPairs,
    "best_path_pairs": BestPathPairs,
    "best_paths": BestPaths,
    "step_pairs": StepPairs,
    "tries": Tries,
}


def extract(
    extractors: Mapping[str, Extractor], collection: Path, rng: np.random.Generator
) -> tuple[Rows, dict[str, int]]:
    """The rows that the extractors find in the folder of a collection, and what was dropped by reason. Pairs come once
    each, as the model is shown them, but for episodes that are better by reward: how often one was is what luck and
    unlike opponents leave to learn from."""
    about = read_figures(collection / FIGURES)
    dropped: Counter[str] = Counter()
    pairs: list[PreferencePair] = []
    tries: list[Episode] = []
    for each in extractors.values():
        if isinstance(each, Tries):
            kept, left_out = each.tries(_episodes_in(collection, about))
            tries += kept
            dropped.update(left_out)
    for found, left_out in _found(extractors.values(), collection, about, rng):
        pairs.extend(found)
        dropped.update(left_out)
    if tries:
        return tries, dict(dropped)
    often = about["by"] == "reward" and about["gives"] == "episodes"
    return pairs if often else without_repeats(pairs, about["history"]), dict(dropped)


def save_rows(path: Path, rows: Rows) -> None:
    """Rows as a file: pairs, with anchors in a file beside it, or episodes."""
    if rows and isinstance(rows[0], Episode):
        save_episodes(path, rows)
    else:
        save_pairs(path, rows)


def load_rows(path: Path, kind: RowKind) -> Rows:
    """The rows of a file. Raises what ``search.records`` does."""
    return load_episodes(path) if kind == "episodes" else load_pairs(path)


def _episodes_in(collection: Path, about: Mapping[str, Any]) -> list[Episode]:
    episodes = read_from(collection, lambda folder: load_episodes(folder / "episodes.jsonl"))
    _check_env(collection, (episode.task.get("env_id") for episode in episodes), about)
    return episodes


def _check_env(collection: Path, found: Iterable[Any], about: Mapping[str, Any]) -> None:
    """Raises ``ValueError`` for a collection that holds what another environment gave."""
    if others := {str(env) for env in found} - {about.get("env", "")} if "env" in about else set():
        raise ValueError(
            f"{collection} was collected in {about['env']} and holds what is of {', '.join(sorted(others))}; delete "
            "the folder, and collect again"
        )


def trees_in(folder: Path, simulator: Simulator[Any] | None = None) -> list[Tree]:
    """The trees of a collection's folder, with their states where their ``simulator`` is given."""
    return load_trees(folder / "trees.parquet", simulator)


def _found(
    extractors: Iterable[Extractor], collection: Path, about: Mapping[str, Any], rng: np.random.Generator
) -> Iterable[Found]:
    extractors, round = list(extractors), about["round"]
    of_episodes = [each for each in extractors if isinstance(each, FromEpisodes)]
    of_trees = [each for each in extractors if isinstance(each, FromTrees)]
    steps = collection / "steps.jsonl"
    for steps_of in (each for each in extractors if isinstance(each, StepPairs)):
        yield steps_of.from_steps(read_from(collection, lambda _: load_pairs(steps)) if steps.is_file() else [])
    if of_episodes:
        episodes = _episodes_in(collection, about)
        for each in of_episodes:
            yield each.from_episodes(episodes, about["by"], round, rng)
    trees = read_from(collection, trees_in) if of_trees else []
    _check_env(collection, (tree.task.get("env_id") for tree in trees), about)
    if trees and trees[0].players > 1:
        yield from _pooled(of_trees, trees, about)
        return
    for tree in trees:
        for one in of_trees:
            yield one.from_tree(tree, about["by"], round)
    winners = collection / "winners.jsonl"
    if winners.is_file() and any(isinstance(each, BestPaths) for each in of_trees):
        yield read_from(collection, lambda _: load_pairs(winners)), Counter()


def _pooled(extractors: Sequence[FromTrees], trees: Sequence[Tree], about: Mapping[str, Any]) -> Iterable[Found]:
    """What games' trees hold of each position, as the model is shown it (``search.pooling``)."""
    shown = history_named(about["history"])
    by_visits: dict[int, tuple[list[Position], Counter[str]]] = {}
    for each in extractors:
        if isinstance(each, BestPathPairs):
            yield from (each.from_tree(tree, about["by"], about["round"]) for tree in trees)
            continue
        if each.visits not in by_visits:
            by_visits[each.visits] = pooled(
                trees, lambda seen: history_key(shown(seen)), each.visits, round=about["round"]
            )
        positions, left_out = by_visits[each.visits]
        yield (), left_out
        yield each.from_positions(positions)
