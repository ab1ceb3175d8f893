"""Optima's selection (arXiv 2410.08115): not a walk from the root, but a draw among all nodes that can still grow.

A node can grow while a child of it is unvisited. Among the ``top_nodes`` best of these one is drawn by softmax of their
values; its likeliest unvisited child is the leaf. Within a batch, nodes whose action is nearer than ``apart`` to
that of one drawn before are left out, so that a batch spreads.
"""

from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from .expansion import Selected
from .selection import softmax_node
from .settings import SearchSettings
from .tree import SOLVED, Tree


def softmax_leaf(tree: Tree, settings: SearchSettings, drawn: Sequence[Selected]) -> Selected | None:
    """The next leaf, marked as under way; None where no node can grow."""
    nodes = tree.nodes
    if nodes["visits"][0] == 0:
        return None if nodes["pending"][0] else _leaf(tree, 0)
    fresh = (nodes["visits"] == 0) & (nodes["pending"] == 0) & ((nodes["flags"] & SOLVED) == 0)
    fresh[0] = False
    allowed = np.zeros(len(nodes), np.bool_)
    allowed[nodes["parent"][fresh]] = True
    allowed &= nodes["visits"] > 0
    picked = [tree.actions[tree.parent(leaf.node)] for leaf in drawn if leaf.node]
    if settings.apart > 0.0 and picked:
        for node in np.flatnonzero(allowed).tolist():
            near = min(Levenshtein.normalized_distance(tree.actions[node], other) for other in picked)
            allowed[node] = near >= settings.apart
    values = nodes["value_sum"] / np.maximum(nodes["visits"], 1)
    node = int(softmax_node(values, allowed, settings.temperature, settings.top_nodes, tree.rng.random()))
    if node < 0:
        return None
    return _leaf(tree, max((child for child in tree.children(node) if fresh[child]), key=tree.prior))


def _leaf(tree: Tree, node: int) -> Selected:
    tree.mark_under_way(node)
    return Selected(tree, node, tree.depth(node), int(tree.nodes["flags"][node]), None, tree.states[node])
