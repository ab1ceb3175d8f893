"""A tree for people and for graph tools: a text outline, a networkx graph, and Graphviz's dot.

The outline prints a node a line, children by visits; the graph has a node for each tree node with all its numbers.
A node that is linked to a state that another holds (transpositions) has an edge to that state's children.
"""

from collections.abc import Sequence

import networkx as nx

from ..envs.terminal import printable_line
from .trees.information_tree import InformationTree
from .trees.nodes import ENDED, FAILED, INFORMATION, INVALID, LINKED, SOLVED
from .trees.tree import Tree

_MARKS = ((ENDED, "terminal"), (SOLVED, "solved"), (FAILED, "failed"), (INVALID, "invalid"), (LINKED, "linked"))


def outline(tree: Tree, depth: int = 3, children: int = 5, width: int = 60) -> str:
    """The tree as indented text: visits, value, prior, action and marks of each node down to ``depth``, the
    ``children`` most visited of each node, actions cut to ``width`` characters.

    The first line is the root; where children are left out, a line says how many.
    """
    lines = []
    waiting: list[tuple[int, int] | str] = [(0, 0)]  # nodes with their level, and lines, the next one last
    while waiting:
        following = waiting.pop()
        if isinstance(following, str):
            lines.append(following)
            continue
        node, level = following
        visits = tree.visits(node)
        value = f"{tree.value(node):+.3f}" if visits else "     –"
        prior = float(tree.nodes[node]["prior"])
        action = printable_line(tree.actions[node]) if node else "(root)"
        if tree.is_chance(node):
            action += "  (chance)"
        if len(action) > width:
            action = action[: width - 1] + "…"
        found = [mark for flag, mark in _MARKS if tree.has(node, flag)]
        if node == 0 and "solved" in found:
            found[found.index("solved")] = tree.left_out() or "solved"
        marks = ", ".join([*found, tree.proof(node)]).rstrip(", ")
        lines.append(f"{'  ' * level}{visits:5d}  {value}  p={prior:.2f}  {action}{f'  [{marks}]' if marks else ''}")
        if level >= depth:
            continue
        ranked = sorted(below(tree, node), key=lambda child: (-tree.visits(child), child))
        if len(ranked) > children:
            rest = ranked[children:]
            waiting.append(f"{'  ' * (level + 1)}…  {len(rest)} more, {sum(map(tree.visits, rest))} visits")
        waiting += [(child, level + 1) for child in reversed(ranked[:children])]
    return "\n".join(lines)


def below(tree: Tree, node: int) -> Sequence[int]:
    """What hangs below a node: its children, and below an action of a tree of information sets the sets it leads to."""
    if isinstance(tree, InformationTree) and not tree.has(node, INFORMATION):
        return tree.sets_below(node)
    return tree.children(node)


def to_networkx(tree: Tree, visited_only: bool = False) -> nx.DiGraph:
    """A directed graph from parents to children. Node attributes: ``action``, ``visits``, ``value`` (0.0 where
    unvisited), ``prior``, ``reward``, ``depth``, and the booleans ``terminal``, ``solved``, ``failed``,
    ``invalid`` and ``linked``. Of a node that the simulator was not stepped into yet (no simulation reached it) only
    action and prior are known: its reward is 0.0 and its booleans are false."""
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
    for node in list(graph):
        if tree.source(node) != node:
            graph.add_edges_from((node, child) for child in tree.children(node) if child in graph)
    return graph


def to_dot(tree: Tree, nodes: int = 60, width: int = 24) -> str:
    """The ``nodes`` most visited nodes as Graphviz's dot: action, visits and value in each box, wider edges for more
    visits. Render with ``dot -Tsvg``."""
    graph = to_networkx(tree, visited_only=True)
    kept = set(sorted(graph, key=lambda node: (-graph.nodes[node]["visits"], node))[:nodes]) | {0}
    most = max(tree.visits(0), 1)
    lines = ["digraph tree {", '  node [shape=box, fontname="sans-serif"];']
    for node in sorted(kept):
        about = graph.nodes[node]
        said = printable_line(about["action"])[:width] if node else "root"
        said = said.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'  {node} [label="{said}\\n{about["visits"]} · {about["value"]:+.2f}"];')
    for parent, child in graph.edges:
        if parent in kept and child in kept:
            lines.append(f"  {parent} -> {child} [penwidth={1 + 4 * tree.visits(child) / most:.2f}];")
    return "\n".join([*lines, "}"]) + "\n"
