"""From trees to pairs of segments: after the same words, some actions of one way on against some of another.

The length of a segment is the granularity of the contrast. With one action it is the pair of siblings
(``extraction.sibling_pairs``); with all actions until the end, from a node, the pair of remainders of IPR
(arXiv:2406.11176), and from the root the pair of whole episodes (ETO, arXiv:2403.02502); in between the segments of
hierarchical preference learning (HPL, arXiv:2510.03253) and SDPO (arXiv:2501.01821).

At a node the best child is compared with each other one, as ``sibling_pairs`` does with ``contrast="best"``. The chosen
side goes on from the better child along the children of largest value, the rejected side from the worse one along
those of smallest value; where luck moves, along the most visited outcome. Sides are labelled by

    mean      the values of their first actions, Q(s, a)
    regret    the values of their ends, so that the difference is that of the regrets V(s) − (Σ r + V(end)) of both

which for one action are the same.

What this file does not do: games of several players, whose segments would hold one player's moves and not the answers.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Final, Literal

import numpy as np

from ..envs.play.transcript import Turn
from .extraction import Dropped, PreferencePair, contrasts, expanded, moves_until, seen_enough
from .trees.tree import Tree

Length = int | Literal["n/3", "pages", "all"]
Label = Literal["mean", "regret"]
Page = Callable[[str], Hashable]
PARTS: Final = 3


def segment_pairs(
    tree: Tree,
    length: Length = 1,
    *,
    label: Label = "mean",
    at: Literal["nodes", "root"] = "nodes",
    threshold: float = 0.1,
    min_visits: int = 1,
    per_node: int | None = None,
    page: Page | None = None,
    round: int = 0,
) -> tuple[list[PreferencePair], Dropped]:
    """Pairs of segments from all nodes, or from the ``root`` alone.

    ``length``: so many actions, or fewer where a way on ends or was not visited further; a third of the way from
    the root through the better child to its end, rounded up (``n/3``, HPL's equal parts); until another page is seen
    (``pages``; ``page`` says which one an observation is of); or ``all``, to an end. ``threshold``: the least
    difference of the labels; the other filters are those of ``sibling_pairs``; under ``regret`` the ends must have
    ``min_visits`` too, unless they are solved or over. Dropped reasons: those of ``sibling_pairs``, ``no end`` (pairs
    of whole ways that lead to no end), and ``reversed`` (whose ends say the opposite). Raises ``ValueError`` for a game
    of several players, a tree of a search with transpositions, whose nodes do not know on which way they were reached,
    for ``length="pages"`` without ``page``, and for a length below 1.
    """
    if tree.settings.get("transpositions"):
        raise ValueError("segments need ways, which trees searched with transpositions do not keep; take sibling_pairs")
    if not isinstance(length, str) and length < 1:
        raise ValueError(f"length={length}; expected a number of actions from 1 on, or 'n/3', 'pages' or 'all'")
    if tree.players > 1:
        raise ValueError(f"segments are one player's actions, and {tree.players} play here; take sibling_pairs")
    if length == "pages" and page is None:
        raise ValueError("length='pages' needs page, a function from an observation to the page that it is of")
    pairs: list[PreferencePair] = []
    dropped: Dropped = Counter()
    for node in expanded(tree, dropped, [0] if at == "root" else None):
        least = threshold if label == "mean" else 0.0
        found = []
        for better, worse in contrasts(tree, node, least, min_visits, "best", dropped):
            pair = _pair(tree, node, better, worse, length, label, page, min_visits, round)
            if isinstance(pair, str):
                dropped[pair] += 1
            elif pair.chosen_q < pair.rejected_q:
                dropped["reversed"] += 1
            elif pair.chosen_q == pair.rejected_q:
                dropped["tie"] += 1
            elif pair.chosen_q - pair.rejected_q < threshold:
                dropped["below threshold"] += 1
            else:
                found.append(pair)
        found.sort(key=lambda pair: pair.rejected_q - pair.chosen_q)
        if per_node is not None and len(found) > per_node:
            dropped["over per_node"] += len(found) - per_node
            found = found[:per_node]
        dropped["no contrast"] += not found
        pairs += found
    return pairs, +dropped


def _pair(
    tree: Tree, node: int, better: int, worse: int, length: Length, label: Label, page: Page | None, min_visits: int,
    round: int,
) -> PreferencePair | str:  # fmt: skip
    """The pair, or why there is none."""
    ways = _way_on(tree, better, best=True), _way_on(tree, worse, best=False)
    if length == "all" and not all(tree.is_terminal(way[-1]) for way in ways):
        return "no end"
    if length == "n/3":
        steps = sum(not tree.is_chance(tree.parent(step)) for step in (*tree.path(node)[1:], *ways[0]))
        length = math.ceil(steps / PARTS)
    chosen, rejected = (_cut(tree, node, way, length, page) for way in ways)
    judged = [way[0 if label == "mean" else -1] for way in (chosen, rejected)]
    if not all(seen_enough(tree, step, min_visits) or tree.is_terminal(step) for step in judged):
        return "too few visits"
    good, bad = (_worth(tree, node, step) for step in judged)
    return PreferencePair(
        prompt=tree.transcript(node),
        chosen=_turns(tree, node, chosen),
        rejected=_turns(tree, node, rejected),
        chosen_q=good,
        rejected_q=bad,
        chosen_visits=tree.visits(judged[0]),
        rejected_visits=tree.visits(judged[1]),
        ref_chosen_logp=_logp(tree, chosen),
        ref_rejected_logp=_logp(tree, rejected),
        env_id=str(tree.task.get("env_id", "")),
        task=tree.task,
        tree=tree.index,
        node=node,
        depth=tree.depth(node),
        round=round,
        kind="segment",
        moves=moves_until(tree, node),
    )


def _way_on(tree: Tree, child: int, best: bool) -> list[int]:
    """The nodes from ``child`` on, to an end or to where no simulation went on."""
    way = [child]
    while visited := [other for other in tree.children(way[-1]) if tree.visits(other)]:
        sign = 1 if best else -1
        if tree.is_chance(way[-1]):
            way.append(max(visited, key=lambda other: (tree.visits(other), -other)))
        else:
            way.append(max(visited, key=lambda other: (sign * tree.value(other), tree.visits(other), -other)))
    return way


def _cut(tree: Tree, node: int, way: list[int], length: Length, page: Page | None) -> list[int]:
    """The beginning of a way on that is the segment; its last node is what an action led to."""
    actions = [place for place, step in enumerate(way) if not tree.is_chance(tree.parent(step))]
    if length == "pages":
        assert page is not None
        here = page(tree.transcript(node)[-1].text)
        last = next((place for place in actions if _page_of(tree, way[place], page) != here), actions[-1])
    else:
        last = actions[-1] if length == "all" else actions[min(int(length), len(actions)) - 1]
    return way[: last + 1]


def _page_of(tree: Tree, node: int, page: Page) -> Hashable:
    """The page that is seen at a node; of an end, and of luck, one that is no other's."""
    return object() if tree.is_terminal(node) or tree.is_chance(node) else page(tree.transcript(node)[-1].text)


def _worth(tree: Tree, node: int, end: int) -> float:
    """What a way from ``node`` to ``end`` earned before its last step, and the value of that step."""
    return tree.path_return(tree.parent(end)) - tree.path_return(node) + tree.value(end)


def _turns(tree: Tree, node: int, way: list[int]) -> tuple[Turn, ...]:
    said = tree.transcript(tree.parent(way[-1]))[len(tree.transcript(node)) :]
    return (*said, tree.agent_turn(way[-1]))


def _logp(tree: Tree, way: list[int]) -> float | None:
    """The sum of the actions' log-probabilities, or None where one was not logged."""
    logps = [tree.logps[step] for step in way if not tree.is_chance(tree.parent(step))]
    return float(sum(logps)) if np.isfinite(logps).all() else None
