"""A tree for people and for graph tools: a text outline, and a networkx graph.

The outline prints a node a line, children by visits; the graph has a node for each tree node with all its numbers.
"""

import networkx as nx

from .tree import FAILED, INVALID, SOLVED, TERMINAL, Tree

_MARKS = ((TERMINAL, "terminal"), (SOLVED, "solved"), (FAILED, "failed"), (INVALID, "invalid"))


def outline(tree: Tree, depth: int = 3, children: int = 5, width: int = 60) -> str:
    """The tree as indented text: visits, value, prior, action and marks of each node down to ``depth``, the
    ``children`` most visited of each node, actions cut to ``width`` characters.

    The first line is the root; where children are left out, a line says how many.
    """
    lines = []

    def add(node: int, level: int) -> None:
        visits = tree.visits(node)
        value = f"{tree.value(node):+.3f}" if visits else "     –"
        prior = float(tree.nodes[node]["prior"])
        action = " ".join(tree.actions[node].split()) if node else "(root)"
        if len(action) > width:
            action = action[: width - 1] + "…"
        marks = ", ".join(mark for flag, mark in _MARKS if tree.has(node, flag))
        lines.append(f"{'  ' * level}{visits:5d}  {value}  p={prior:.2f}  {action}{f'  [{marks}]' if marks else ''}")
        if level >= depth:
            return
        ranked = sorted(tree.children(node), key=lambda child: (-tree.visits(child), child))
        for child in ranked[:children]:
            add(child, level + 1)
        if len(ranked) > children:
            rest = ranked[children:]
            lines.append(f"{'  ' * (level + 1)}…  {len(rest)} more, {sum(map(tree.visits, rest))} visits")

    add(0, 0)
    return "\n".join(lines)


def to_networkx(tree: Tree, visited_only: bool = False) -> nx.DiGraph:
    """A directed graph from parents to children. Node attributes: ``action``, ``visits``, ``value`` (0.0 where
    unvisited), ``prior``, ``reward``, ``depth``, and the booleans ``terminal``, ``solved``, ``failed``,
    ``invalid``."""
    graph = nx.DiGraph(task=tree.task, index=tree.index)
    depths = [0] * len(tree)
    for node in range(len(tree)):
        parent = tree.parent(node)
        if parent >= 0:
            depths[node] = depths[parent] + 1
        visits = tree.visits(node)
        if visited_only and node and not visits:
            continue
        graph.add_node(
            node,
            action=tree.actions[node],
            visits=visits,
            value=tree.value(node) if visits else 0.0,
            prior=float(tree.nodes[node]["prior"]),
            reward=float(tree.nodes[node]["reward"]),
            depth=depths[node],
            **{mark: tree.has(node, flag) for flag, mark in _MARKS},
        )
        if parent >= 0:
            graph.add_edge(parent, node)
    return graph
