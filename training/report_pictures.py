"""Pictures of a run as SVG, made without a drawing library: curves by round, and a search tree with its pairs.

Colours are left to the page (classes and ``currentColor``), so that one picture serves light and dark. Text goes
through ElementTree, which escapes it. Nothing here reads files or chooses what to show.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

from ..envs.terminal import printable
from ..search import Tree

MARKERS = ("circle", "square", "triangle", "diamond", "wedge")
"""As many as the page has colours of series (``s0`` on)."""


@dataclass(frozen=True)
class Curve:
    """``points`` are (round, value) of the model that stood after each round; ``rejected`` the values of models that
    were trained and not promoted. ``style``, an index of :data:`MARKERS`, chooses colour and marker together."""

    label: str
    style: int
    points: tuple[tuple[int, float], ...]
    rejected: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class PairMark:
    """A pair as drawn: its number in the list beside the picture, and the nodes of its two actions."""

    number: int
    chosen: int
    rejected: int | None


def chart(title: str, curves: Sequence[Curve], *, percent: bool = False, zero: bool = False) -> str:
    """Curves by round as an SVG of 360 × 250, each labelled at its end. ``zero``: the axis starts at 0.

    Round 0 is the base. Values that are not finite are left out; raises ``ValueError`` where none is left.
    """
    everything = [point for curve in curves for point in (*curve.points, *curve.rejected) if math.isfinite(point[1])]
    if not everything:
        raise ValueError(f"no values to draw in {title!r}")
    ticks = axis_ticks([value for _, value in everything], zero=zero)
    first, last = min(x for x, _ in everything), max(x for x, _ in everything)
    left, right, top, bottom = 44.0, 246.0, 14.0, 216.0

    def across(x: float) -> float:
        return (left + right) / 2 if first == last else left + 10 + (x - first) / (last - first) * (right - left - 20)

    def down(y: float) -> float:
        return bottom - (y - ticks[0]) / (ticks[-1] - ticks[0]) * (bottom - top)

    svg = _svg(360, 250, title)
    for tick in ticks:
        y = down(tick)
        _add(svg, "line", x1=left, x2=right, y1=y, y2=y, class_="grid")
        _add(svg, "text", tick_label(tick, ticks, percent=percent), x=left - 6, y=y + 4, class_="tick end")
    every = max(1, math.ceil((last - first + 1) / 8))
    for x in range(first, last + 1, every):
        _add(svg, "text", "base" if x == 0 else str(x), x=across(x), y=bottom + 18, class_="tick middle")
    _add(svg, "text", "round", x=(left + right) / 2, y=bottom + 33, class_="tick middle")
    ends = []
    for curve in curves:
        group = _add(svg, "g", class_=f"series s{curve.style}")
        places = [(across(number), down(value)) for number, value in curve.points if math.isfinite(value)]
        if len(places) > 1:
            _add(group, "polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in places), class_="curve")
        for number, value in curve.rejected:
            if math.isfinite(value):
                _marker(group, curve.style, across(number), down(value), "hollow")
        for place in places:
            _marker(group, curve.style, *place, "full")
        if places:
            ends.append((places[-1], curve))
    for (end_x, end_y), height, curve in _without_overlap(ends, top, bottom):
        label = _add(svg, "g", class_=f"series s{curve.style}")
        _add(label, "line", x1=end_x + 6, y1=end_y, x2=right + 8, y2=height, class_="leader")
        _add(label, "text", curve.label, x=right + 11, y=height + 4, class_="label")
    return ET.tostring(svg, encoding="unicode")


def axis_ticks(values: Sequence[float], *, zero: bool) -> list[float]:
    """Three to seven round numbers, evenly spaced, that enclose ``values`` (and 0 if ``zero``).

    >>> axis_ticks([0.21, 0.68], zero=True)
    [0.0, 0.2, 0.4, 0.6, 0.8]
    >>> axis_ticks([5.0, 5.0], zero=False)
    [4.6, 4.8, 5.0, 5.2, 5.4]
    """
    low, high = min(values), max(values)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.4, high + 0.4
    raw = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw - 1e-12)
    start, stop = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(start, stop + 1)]


def tick_label(tick: float, ticks: Sequence[float], *, percent: bool) -> str:
    """``tick`` with the digits that tell it from its neighbours."""
    scale = 100 if percent else 1
    step = (ticks[1] - ticks[0]) * scale
    digits = next(d for d in range(6) if abs(round(step, d) - step) < 1e-9 or d == 5)
    return f"{tick * scale:.{digits}f}".replace("-", "−") + (" %" if percent else "")


def _without_overlap(
    ends: Sequence[tuple[tuple[float, float], Curve]], top: float, bottom: float
) -> list[tuple[tuple[float, float], float, Curve]]:
    """Heights for the labels: in the order of the curves' ends, at least a line apart, inside the picture."""
    line = 15.0
    ordered = sorted(ends, key=lambda end: end[0][1])
    heights: list[float] = []
    for i, ((_, y), _) in enumerate(ordered):
        heights.append(max(y, heights[-1] + line) if i else max(y, top))
    lowest = bottom
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], lowest)
        lowest = heights[i] - line
    return [(end, height, curve) for (end, curve), height in zip(ordered, heights, strict=True)]


def _marker(parent: ET.Element, style: int, x: float, y: float, fill: str) -> None:
    kind = MARKERS[style]
    if kind == "circle":
        _add(parent, "circle", cx=x, cy=y, r=4, class_=fill)
        return
    corners: dict[str, list[tuple[float, float]]] = {
        "square": [(-3.6, -3.6), (3.6, -3.6), (3.6, 3.6), (-3.6, 3.6)],
        "triangle": [(0, -4.8), (4.6, 3.4), (-4.6, 3.4)],
        "diamond": [(0, -5), (5, 0), (0, 5), (-5, 0)],
        "wedge": [(-4.6, -3.4), (4.6, -3.4), (0, 4.8)],
    }
    _add(parent, "polygon", points=" ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners[kind]), class_=fill)


def drawn_nodes(tree: Tree, marks: Sequence[PairMark], limit: int = 40) -> list[int]:
    """The nodes to draw: those of the pairs with all that lies above them, then the most visited ones, ``limit`` in
    all (more only where the pairs need more). Every drawn node's parent is drawn."""
    kept = {0}
    for mark in marks:
        for node in (mark.chosen, mark.rejected):
            if node is not None:
                kept.update(tree.path(node))
    by_visits = sorted(
        (node for node in range(len(tree)) if tree.visits(node)), key=lambda n: (-tree.visits(n), tree.depth(n), n)
    )
    for node in by_visits:
        if len(kept) >= limit:
            break
        if node == 0 or tree.parent(node) in kept:
            kept.add(node)
    return sorted(kept)


WIDTH, GAP, ROW, CHARACTER = 1104, 46, 38, 6.7
"""In pixels: the width that a tree fills, the room between levels, the height of a leaf, a letter of an action."""
NARROWEST, WIDEST = 150, 240
"""Bounds of a node's width, in pixels: a deep tree is wider than the page and is scrolled."""


def tree_picture(tree: Tree, marks: Sequence[PairMark], title: str, limit: int = 40) -> str:
    """The tree from left to right: action, value (mean return) and visits of each node; width of an edge by visits.

    Chosen and rejected actions of ``marks`` are told by line style, sign and colour, with the pair's number.
    """
    nodes = drawn_nodes(tree, marks, limit)
    children: dict[int, list[int]] = {node: [] for node in nodes}
    for node in nodes[1:]:  # by their parents: what an information set is reached by has no children of its own
        children[tree.parent(node)].append(node)
    heights = _heights(children)
    levels = max(tree.depth(node) for node in nodes) + 1
    width = min(max(WIDTH / levels - GAP, NARROWEST), WIDEST)
    svg = _svg(levels * (width + GAP) - GAP + 4, (max(heights.values()) + 1) * ROW + 4, title, fixed=True)
    roles: dict[int, list[tuple[str, int]]] = {}
    for mark in marks:
        roles.setdefault(mark.chosen, []).append(("chosen", mark.number))
        if mark.rejected is not None:
            roles.setdefault(mark.rejected, []).append(("rejected", mark.number))

    def place(node: int) -> tuple[float, float]:
        return tree.depth(node) * (width + GAP) + 2, (heights[node] + 0.5) * ROW + 2

    most = max(1, tree.visits(0))
    for node in nodes[1:]:
        (x1, y1), (x2, y2) = place(tree.parent(node)), place(node)
        x1 += width
        bend = (x1 + x2) / 2
        role = roles[node][0][0] if node in roles else ""
        _add(
            svg,
            "path",
            d=f"M{x1:.1f},{y1:.1f} C{bend:.1f},{y1:.1f} {bend:.1f},{y2:.1f} {x2:.1f},{y2:.1f}",
            class_=f"edge {role}".strip(),
            stroke_width=f"{1 + 5 * math.sqrt(tree.visits(node) / most):.1f}",
        )
    for node in nodes:
        hidden = max(0, len(tree.children(node)) - len(children[node]))
        _node(svg, tree, node, place(node), width, roles.get(node, ()), hidden)
    return ET.tostring(svg, encoding="unicode")


def _heights(children: Mapping[int, Sequence[int]]) -> dict[int, float]:
    """A row for each leaf, from the top; a parent in the middle of its children."""
    heights: dict[int, float] = {}
    leaves = 0
    waiting = [(0, False)]
    while waiting:
        node, below_done = waiting.pop()
        below = children[node]
        if not below:
            heights[node] = leaves
            leaves += 1
        elif below_done:
            heights[node] = (heights[below[0]] + heights[below[-1]]) / 2
        else:
            waiting.append((node, True))
            waiting.extend((child, False) for child in reversed(below))
    return heights


def _node(
    svg: ET.Element,
    tree: Tree,
    node: int,
    place: tuple[float, float],
    width: float,
    roles: Sequence[tuple[str, int]],
    hidden: int,
) -> None:
    x, y = place
    action = "start" if node == 0 else tree.actions[node]
    value, visits = tree.value(node), tree.visits(node)
    known = math.isfinite(value)
    group = _add(svg, "g", class_=f"node {roles[0][0] if roles else ''}".strip())
    seen = node > 0 and tree.has_transcript(tree.parent(node))
    about = named(action, tree.transcript(tree.parent(node))[-1].text) if seen else ""
    told = f"{action}\nvalue {value:.3f}, {visits} visits" if known else f"{action}\nnot visited"
    _add(
        group,
        "title",
        told + (f"\n{about}" if about else "") + (f"\n{hidden} more children are not drawn" if hidden else ""),
    )
    shape = "node-box terminal" if tree.is_terminal(node) else "node-box"
    box: dict[str, Any] = {
        "x": x,
        "y": y - 15,
        "width": width,
        "height": 30,
        "rx": 2 if tree.is_terminal(node) else 7,
    }
    _add(group, "rect", class_="node-ground", **box)
    _add(group, "rect", class_=shape, fill_opacity=f"{0.34 * min(max(value, 0.0), 1.0) if known else 0:.2f}", **box)
    signs = " ".join(f"{'✓' if role == 'chosen' else '✗'}{number}" for role, number in roles)
    room = int((width - 14) / CHARACTER) - (len(signs) + 1 if signs else 0)
    line = _add(group, "text", shortened(action, room), x=x + 7, y=y - 2, class_="node-action")
    if about and room - len(action) > 6:
        _add(line, "tspan", f" {shortened(about, room - len(action) - 1)}", class_="node-about")
    figures = f"{value:.2f} · {visits}×" if known else "not visited"
    _add(group, "text", figures + (f" · +{hidden}" if hidden else ""), x=x + 7, y=y + 10, class_="node-figures")
    if signs:
        _add(group, "text", signs, x=x + width - 7, y=y - 2, class_="node-sign end")


def named(action: str, observation: str) -> str:
    """What the observation says of the thing that a bracketed action names: the rest of the line that starts with it.

    >>> named("click[#2]", "results 1 of 1 for red shoe\\n#1 all over\\n#2 all under seen")
    'all under seen'
    >>> named("click[buy now]", "chosen red")
    ''
    """
    label = action.partition("[")[2].removesuffix("]").casefold()
    for line in observation.split("\n") if label else ():
        if line.casefold().startswith(label + " "):
            return line[len(label) + 1 :].strip()
    return ""


def shortened(text: str, length: int) -> str:
    """``text`` in at most ``length`` characters, its end replaced by an ellipsis where it is longer.

    >>> shortened("click[back to search]", 12)
    'click[back …'
    """
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"


def _svg(width: float, height: float, title: str, *, fixed: bool = False) -> ET.Element:
    attributes = {"viewBox": f"0 0 {width:g} {height:g}", "role": "img", "aria-label": printable(title)}
    if fixed:
        attributes |= {"width": f"{width:g}", "height": f"{height:g}"}
    return ET.Element("svg", attributes)


def _add(parent: ET.Element, tag: str, text: str | None = None, **attributes: object) -> ET.Element:
    named = {
        key.rstrip("_").replace("_", "-"): f"{value:.1f}" if isinstance(value, float) else printable(str(value))
        for key, value in attributes.items()
    }
    element = ET.SubElement(parent, tag, named)
    element.text = None if text is None else printable(text)
    return element
