"""From the folder of a collection to rows to learn from, by a recipe's extractors; and rows as files."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from ...agents.prompting import history_key, history_named
from ...envs.play.episode import Episode
from ...envs.simulator import Simulator
from ...search import Tree, load_pairs, load_trees, save_pairs
from ...search.credit import StepAdvantage
from ...search.extraction import PreferencePair
from ...search.pooling import Position, pooled
from ...search.records import load_advantages, load_episodes, save_advantages, save_episodes
from ..rows import without_repeats
from ..stages import FIGURES, read_figures, read_from
from .extractors import (
    Advantages,
    BestPathPairs,
    BestPaths,
    Credit,
    Credited,
    Extractor,
    Found,
    FromEpisodes,
    FromTrees,
    RowKind,
    Segments,
    StatePairs,
    StepPairs,
    TreeCredit,
    Tries,
    VineCredit,
)

Rows = Sequence[Any]
"""Pairs, episodes or steps with advantages."""

WINNERS: Final = "winners.jsonl"
"""In a collection of trees: the actions of roll-outs that succeeded."""
ROLLED: Final = "rolled.jsonl"
"""In a collection of trees: pairs of siblings with the values of their roll-outs."""


def extract(
    extractors: Mapping[str, Extractor], collection: Path, rng: np.random.Generator
) -> tuple[Rows, dict[str, int]]:
    """The rows that the extractors find in the folder of a collection, and what was dropped by reason. Pairs come once
    each, as the model is shown them, but for episodes that are better by reward: how often one was is what luck and
    unlike opponents leave to learn from."""
    about = read_figures(collection / FIGURES)
    for each in extractors.values():
        if isinstance(each, Advantages):  # what it gives no other extractor does, so it is alone
            rows, left_out = _credited(each.by, collection, about)
            return rows, dict(left_out)
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
    often = about["by"] == "reward" and about["gives"] in ("episodes", "mixed")
    return pairs if often else without_repeats(pairs, about["history"]), dict(dropped)


def save_rows(path: Path, rows: Rows) -> None:
    """Rows as a file: pairs, with anchors in a file beside it, episodes, or steps with advantages."""
    if rows and isinstance(rows[0], Episode):
        save_episodes(path, rows)
    elif rows and isinstance(rows[0], StepAdvantage):
        save_advantages(path, rows)
    else:
        save_pairs(path, rows)


def load_rows(path: Path, kind: RowKind) -> Rows:
    """The rows of a file. Raises what ``search.records`` does."""
    loaders: Mapping[RowKind, Callable[[Path], Rows]] = {
        "pairs": load_pairs,
        "episodes": load_episodes,
        "advantages": load_advantages,
    }
    return loaders[kind](path)


def _credited(credit: Credit, collection: Path, about: Mapping[str, Any]) -> Credited:
    round = about["round"]
    if isinstance(credit, TreeCredit):
        return credit.from_trees(_trees_of(collection, about), round)
    if isinstance(credit, VineCredit):
        valued = collection / "advantages.jsonl"
        return read_from(collection, lambda _: load_advantages(valued)) if valued.is_file() else [], Counter()
    shown = history_named(about["history"])
    return credit.from_episodes(_episodes_in(collection, about), about["by"], shown, round)


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


def _trees_of(collection: Path, about: Mapping[str, Any]) -> list[Tree]:
    trees = read_from(collection, trees_in)
    _check_env(collection, (tree.task.get("env_id") for tree in trees), about)
    return trees


def _found(
    extractors: Iterable[Extractor], collection: Path, about: Mapping[str, Any], rng: np.random.Generator
) -> Iterable[Found]:
    extractors, round = list(extractors), about["round"]
    of_episodes = [each for each in extractors if isinstance(each, FromEpisodes | StatePairs)]
    of_trees = [each for each in extractors if isinstance(each, FromTrees)]
    steps = collection / "steps.jsonl"
    for steps_of in (each for each in extractors if isinstance(each, StepPairs)):
        yield steps_of.from_steps(read_from(collection, lambda _: load_pairs(steps)) if steps.is_file() else [])
    if of_episodes:
        episodes = _episodes_in(collection, about)
        for each in of_episodes:
            if isinstance(each, StatePairs):
                yield each.from_episodes(episodes, about["by"], history_named(about["history"]), round)
            else:
                yield each.from_episodes(episodes, about["by"], round, rng)
    trees = _trees_of(collection, about) if of_trees else []
    if trees and trees[0].players > 1:
        yield from _pooled(of_trees, trees, about)
        return
    for tree in trees:
        for one in of_trees:
            yield one.from_tree(tree, about["by"], round)
    rolled = collection / ROLLED
    for one in of_trees:
        if isinstance(one, Segments) and one.label == "rolls":
            yield one.from_rolls(read_from(collection, lambda _: load_pairs(rolled)) if rolled.is_file() else [])
    winners = collection / WINNERS
    if winners.is_file() and any(isinstance(each, BestPaths) for each in of_trees):
        yield read_from(collection, lambda _: load_pairs(winners)), Counter()


def _pooled(extractors: Sequence[FromTrees], trees: Sequence[Tree], about: Mapping[str, Any]) -> Iterable[Found]:
    """What games' trees hold of each position, as the model is shown it (``search.pooling``)."""
    shown = history_named(about["history"])
    by_visits: dict[int, tuple[list[Position], Counter[str]]] = {}
    for each in extractors:
        if isinstance(each, BestPathPairs | Segments):  # of which segments are refused before the run
            yield from (each.from_tree(tree, about["by"], about["round"]) for tree in trees)
            continue
        if each.visits not in by_visits:
            by_visits[each.visits] = pooled(
                trees, lambda seen: history_key(shown(seen)), each.visits, round=about["round"]
            )
        positions, left_out = by_visits[each.visits]
        yield (), left_out
        yield each.from_positions(positions)
