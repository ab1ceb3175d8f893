"""Selection without a walk from the root: a choice among all nodes that can still grow, which are those with a child
that was never visited. The likeliest such child of the chosen node is the leaf.

- Optima (arXiv 2410.08115), ``softmax``: a draw among the ``top_nodes`` best by softmax of their values. Within a
  batch, nodes whose action is nearer than ``apart`` to that of one drawn before are left out, so that a batch spreads.
- SWE-Search (arXiv 2410.20285) as its program has it, ``uct_bonus`` with ``whole_tree``: the best by
  ``selection.uct_bonus`` with its parent's visits, which of the root are 1.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from rapidfuzz.distance import Levenshtein

from ..envs.simulator import Simulator
from .expansion import Expansion
from .rules.options import Softmax, UctBonus
from .rules.selection import softmax_node, uct_bonus
from .selected import Selected
from .settings import SearchSettings
from .trees.nodes import SOLVED
from .trees.stepping import Refused
from .trees.tree import Tree
from .walks import PlainWalk, reached


class WholeTreeWalk(PlainWalk):
    """A :class:`~branchwise.search.walks.Walk` that chooses among all nodes. It knows no chance."""

    def __init__(
        self,
        simulator: Simulator[Any],
        settings: SearchSettings,
        record: np.ndarray,
        expansion: Expansion,
        zero_sum: bool,
        reads_transcripts: bool,
    ) -> None:
        super().__init__(simulator, settings, record, expansion, zero_sum, reads_transcripts)
        self.luck_is_drawn = settings.rule.name == "softmax"

    def selected(self, tree: Tree, drawn: Sequence[Selected]) -> Selected | None:
        """The next leaf; one call of the rule."""
        rule = self.settings.rule
        return softmax_leaf(tree, rule, drawn) if isinstance(rule, Softmax) else best_leaf(tree, cast(UctBonus, rule))

    def check_chance(self) -> None:
        """Raises :class:`Refused`."""
        super().check_chance()
        raise Refused(
            f"selection={self.settings.rule.name!r} chooses among the nodes where a player moves, and"
            f" {type(self.simulator).__name__} has nodes where chance does; use another selection"
            f"{', or whole_tree=False' if isinstance(self.settings.rule, UctBonus) else ''}"
        )

    def nodes_with_bonus(self, leaf: Selected) -> list[int]:
        """As of a plain walk, and the root, which is chosen among the others."""
        return [0, *super().nodes_with_bonus(leaf)]


def softmax_leaf(tree: Tree, rule: Softmax, drawn: Sequence[Selected]) -> Selected | None:
    """The next leaf, marked as under way; None where no node can grow."""
    nodes = tree.nodes
    if nodes["visits"][0] == 0:
        return _root(tree)
    allowed, fresh = _can_grow(nodes)
    picked = [tree.actions[tree.parent(leaf.node)] for leaf in drawn if leaf.node]
    if rule.apart > 0.0 and picked:
        for node in np.flatnonzero(allowed).tolist():
            near = min(Levenshtein.normalized_distance(tree.actions[node], other) for other in picked)
            allowed[node] = near >= rule.apart
    values = nodes["value_sum"] / np.maximum(nodes["visits"], 1)
    node = int(softmax_node(values, allowed, rule.temperature, rule.top_nodes, tree.rng.random()))
    return None if node < 0 else _likeliest(tree, node, fresh)


def best_leaf(tree: Tree, rule: UctBonus) -> Selected | None:
    """The next leaf under ``whole_tree``, marked as under way; None where no node can grow."""
    nodes = tree.nodes
    if nodes["visits"][0] == 0:
        return _root(tree)
    allowed, fresh = _can_grow(nodes)
    best, best_score = -1, -np.inf
    for node in np.flatnonzero(allowed).tolist():
        above = float(nodes["visits"][nodes["parent"][node]]) if node else 1.0
        weights = rule.exploitation, rule.exploration
        score = uct_bonus(tree.mean(node), float(tree.visits(node)), above, *weights, float(nodes["hint"][node]), 0.0)
        if score > best_score:
            best, best_score = node, score
    return None if best < 0 else _likeliest(tree, best, fresh)


def _can_grow(nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the visited nodes with a child to try, the children to try) under a root that was visited: bool ``[nodes]``
    each."""
    fresh = (nodes["visits"] == 0) & (nodes["pending"] == 0) & ((nodes["flags"] & SOLVED) == 0)
    allowed = np.zeros(len(nodes), np.bool_)
    allowed[nodes["parent"][fresh]] = True
    return allowed & (nodes["visits"] > 0), fresh


def _root(tree: Tree) -> Selected | None:
    return None if tree.nodes["pending"][0] else _leaf(tree, 0)


def _likeliest(tree: Tree, node: int, fresh: np.ndarray) -> Selected:
    return _leaf(tree, max((child for child in tree.children(node) if fresh[child]), key=tree.prior))


def _leaf(tree: Tree, node: int) -> Selected:
    tree.mark_under_way(node)
    return reached(tree, node, tree.depth(node), int(tree.nodes["flags"][node]))
