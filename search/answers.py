"""The answer of a search: what to play, what to learn from, and what the tree expects to happen.

Values are those of the player who chooses (``trees/nodes.py``), in units of return. The pictures stand in ``graph.py``.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..envs.play.sampling import drawn
from .rules.targets import playable
from .trees.tree import Tree

By = Literal["search", "visits", "value", "temperature", "gumbel"]


@dataclass(frozen=True, slots=True)
class ChildRow:
    """One child in :func:`child_table`. ``value`` is NaN without a visit; ``proof`` is win, draw, loss or empty."""

    node: int
    action: str
    visits: int
    share: float
    value: float
    prior: float
    proof: str


def action(
    tree: Tree, by: By = "search", temperature: float = 1.0, rng: np.random.Generator | None = None, node: int = 0
) -> str:
    """The action to play at a node.

    ``search``: as the search was set; ``visits``, ``value``: :meth:`Tree.best_child`. ``temperature``: drawn with
    probability ∝ visits^(1/temperature) (AlphaZero) among the actions that what is proven leaves
    (``rules/targets.py``), by ``rng``, the tree's own by default; 0 takes the most visited. ``gumbel``: Gumbel MuZero's
    choice among the most visited root actions. Raises ValueError where the node has no children."""
    children = tree.children(node)
    if not children:
        raise ValueError(f"node {node} has no children: {tree.last_error or 'no simulation expanded it'}")
    if by == "gumbel":
        if node:
            raise ValueError("by='gumbel' reads the root's draws; other nodes have none")
        return tree.actions[tree.gumbel_child()]
    if by != "temperature":
        return tree.actions[tree.best_child(node, None if by == "search" else by)]
    if not temperature >= 0.0:
        raise ValueError(f"temperature is {temperature}; expected 0 (the most visited) or more")
    known, visits, values = tree.child_numbers(node)
    visits = visits * playable(known, visits, values)
    if temperature == 0.0 or not visits.any():
        return tree.actions[tree.best_child(node, "visits")]
    with np.errstate(divide="ignore"):
        logs = np.log(visits)
    return tree.actions[children[drawn(logs, float(temperature), (tree.rng if rng is None else rng).random())]]


def principal_variation(tree: Tree, node: int = 0) -> list[int]:
    """The nodes of the line that the search expects: from ``node`` (left out) the child that it would play, then the
    most visited of each, as far as it was visited; at chance nodes the most visited outcome."""
    line: dict[int, None] = {}  # in order, and quick to look into
    while (
        (child := tree.best_child(node, "visits" if line else None)) >= 0 and tree.visits(child) and child not in line
    ):
        line[child] = None
        node = child
    return list(line)


def child_table(tree: Tree, node: int = 0) -> list[ChildRow]:
    """The children of a node, the most visited first, then the likelier."""
    children = tree.children(node)
    total = max(sum(tree.visits(child) for child in children), 1)
    rows = [
        ChildRow(
            child,
            tree.actions[child],
            tree.visits(child),
            tree.visits(child) / total,
            tree.value(child),
            tree.prior(child),
            tree.proof(child),
        )
        for child in children
    ]
    return sorted(rows, key=lambda row: (-row.visits, -row.prior, row.node))
