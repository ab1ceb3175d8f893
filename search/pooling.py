"""Equal positions of many trees made one: what all searches that met a position found out about its actions.

A tree knows a position from its own simulations. Games that are played over and over meet the same positions in many
trees, at roots with many visits and at inner nodes with few, and single trees disagree: learning the answer of each
once teaches contradictions. Here the counts of all nodes that read the same are added up before anything is extracted,

    N(s, a) = Σ_nodes N,    Q(s, a) = Σ_nodes N · Q / N(s, a),

and an action that one of the trees has solved counts as solved. From such a table come the answers
(:func:`pooled_answers`) and the contrasts (:func:`pooled_pairs`), one position each.

What reads the same is the caller's ``key`` of a transcript: what the learner is shown of it. Nodes with few visits are
left out first (``min_visits``), since their values are biased, not only noisy: below them hardly anybody has chosen
well yet. Solved nodes with few visits are right, and left out too: they are the many positions that no game comes to
(tic-tac-toe, 400 games of 400 simulations: with them 2,886 positions, without 898, which already hold 99.7 % of what
the learner meets against a perfect player). Meant for what ``engine.search`` and ``self_play`` grow; nothing here reads
a game.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..envs.play.transcript import Transcript
from .extraction import Dropped, PreferencePair, expanded, step_pair
from .rules.targets import best_of
from .trees.tree import Tree

Key = Callable[[Transcript], Hashable]


@dataclass(frozen=True, slots=True)
class Position:
    """A position and what is known of its ``actions``: ``visits``, ``values`` for who moves (NaN without a visit) and
    ``known`` returns (``targets.playable``; NaN where open), float64 ``[actions]``. ``nodes``: how many were pooled;
    ``examples``: for each action a row of it, from the node that visited it most."""

    actions: tuple[str, ...]
    visits: NDArray[np.float64]
    values: NDArray[np.float64]
    known: NDArray[np.float64]
    nodes: int
    examples: tuple[PreferencePair, ...]

    def best(self) -> int:
        """The place of the action to play: what is proven first, then the most visited (``targets.best_of``)."""
        return best_of(self.known, self.visits, self.values, np.zeros(len(self.actions)))


def pooled(trees: Iterable[Tree], key: Key, min_visits: int = 1, *, round: int = 0) -> tuple[list[Position], Dropped]:
    """The positions of ``trees`` in the order in which they were first met, from roots and from nodes with at least
    ``min_visits`` visits. Dropped reasons, by node: ``unvisited``, ``other's view``."""
    found: dict[Hashable, dict[str, _Sum]] = {}
    nodes: Counter[Hashable] = Counter()
    dropped: Dropped = Counter()
    for tree in trees:
        for node in expanded(tree, dropped, _well_known(tree, min_visits)):
            known, visits, values = tree.child_numbers(node)
            if not visits.any():
                dropped["unvisited"] += 1
                continue
            name = key(tree.transcript(node))
            nodes[name] += 1
            sums = found.setdefault(name, {})
            for child, how, count, value in zip(tree.children(node), known, visits, values, strict=True):
                sum_ = sums.setdefault(tree.actions[child], _Sum())
                sum_.add(count, value, how)
                if sum_.example is None or count > sum_.most:
                    sum_.most, sum_.example = count, (tree, node, child)
    return [_position(sums, nodes[name], round) for name, sums in found.items()], +dropped


def pooled_answers(positions: Sequence[Position]) -> list[PreferencePair]:
    """The action to play of each position, without a rejected side."""
    return [_row(position, position.best()) for position in positions]


def pooled_pairs(
    positions: Sequence[Position],
    threshold: float = 0.1,
    min_visits: int = 1,
    *,
    contrast: Literal["best", "all"] = "best",
    per_position: int | None = None,
) -> tuple[list[PreferencePair], Dropped]:
    """The action to play of each position against each other one, or with ``contrast="all"`` each two actions, where
    Q differs by at least ``threshold``, both visited at least ``min_visits`` times over all trees or solved.
    ``per_position``: at most so many, the largest differences first. Dropped reasons: ``too few visits``, ``tie``,
    ``below threshold``, ``over per_position`` (pairs), ``no contrast`` (positions)."""
    pairs: list[PreferencePair] = []
    dropped: Dropped = Counter()
    for position in positions:
        best, values = position.best(), position.values
        seen = (position.visits >= max(min_visits, 1)) | (~np.isnan(position.known) & (position.visits > 0))
        if best < 0 or not seen[best]:
            dropped["too few visits"] += 1
            continue
        places = np.flatnonzero(seen).tolist()
        dropped["too few visits"] += len(position.actions) - len(places)
        compared = (
            [(best, place) for place in places if place != best]
            if contrast == "best"
            else [(a, b) if values[a] >= values[b] else (b, a) for a, b in combinations(places, 2)]
        )
        found = []
        for better, worse in compared:
            gap = values[better] - values[worse]
            if gap == 0:
                dropped["tie"] += 1
            elif gap < threshold:
                dropped["below threshold"] += 1
            else:
                found.append((better, worse))
        found.sort(key=lambda pair: (values[pair[1]] - values[pair[0]], pair))
        if per_position is not None:
            dropped["over per_position"] += max(len(found) - per_position, 0)
            found = found[:per_position]
        dropped["no contrast"] += not found
        for better, place in found:
            other = position.examples[place]
            pairs.append(
                replace(
                    _row(position, better),
                    rejected=other.chosen,
                    rejected_q=float(position.values[place]),
                    rejected_visits=int(position.visits[place]),
                    ref_rejected_logp=other.ref_chosen_logp,
                    kind="pooled",
                )
            )
    return pairs, +dropped


def _well_known(tree: Tree, min_visits: int) -> list[int]:
    kept = tree.nodes["visits"] >= min_visits
    kept[0] = True
    return [int(node) for node in np.flatnonzero(kept)]


class _Sum:
    """What is known of one action of a position."""

    __slots__ = ("example", "known", "most", "total", "value_of_known", "visits")

    def __init__(self) -> None:
        self.visits = self.total = self.most = 0.0
        self.known = self.value_of_known = np.nan
        self.example: tuple[Tree, int, int] | None = None

    def add(self, visits: float, value: float, known: float) -> None:
        if visits > 0:
            self.visits += visits
            self.total += visits * value
        if not np.isnan(known):
            self.known = known
            self.value_of_known = value

    @property
    def value(self) -> float:
        if not np.isnan(self.value_of_known):
            return self.value_of_known
        return self.total / self.visits if self.visits else np.nan


def _position(sums: dict[str, _Sum], nodes: int, round: int) -> Position:
    examples = []
    for each in sums.values():
        assert each.example is not None
        tree, node, child = each.example
        examples.append(step_pair(tree, node, child, None, round, "answer"))
    return Position(
        tuple(sums),
        np.array([each.visits for each in sums.values()]),
        np.array([each.value for each in sums.values()]),
        np.array([each.known for each in sums.values()]),
        nodes,
        tuple(examples),
    )


def _row(position: Position, place: int) -> PreferencePair:
    return replace(
        position.examples[place],
        chosen_q=float(np.nan_to_num(position.values[place])),
        chosen_visits=int(position.visits[place]),
    )
