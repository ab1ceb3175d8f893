"""The report's pictures: axes, labels, which nodes of a tree are drawn, and that the page's colours can be read."""

import re
from importlib import resources
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from branchwise.envs.play.transcript import observed
from branchwise.search.trees.children import Children
from branchwise.search.trees.nodes import ENDED
from branchwise.search.trees.tree import Tree
from branchwise.training.report_pictures import (
    MARKERS,
    Curve,
    PairMark,
    axis_ticks,
    chart,
    drawn_nodes,
    named,
    shortened,
    tick_label,
    tree_picture,
)


def hand_built_tree() -> Tree:
    """Visits in brackets: root(15) ─ a(10) ─ aa(6, the end), ab(3); root ─ b(4) ─ ba(1), bb(0); root ─ c(0)."""
    tree = Tree(None, None, (observed("start"),), {"seed": 0})
    visits = {"root": 15, "a": 10, "b": 4, "c": 0, "aa": 6, "ab": 3, "ba": 1, "bb": 0}
    for parent, actions, flags in ((0, "a b c", [0, 0, 0]), (1, "aa ab", [ENDED, 0]), (2, "ba bb", [0, 0])):
        names = actions.split()
        count = len(names)
        first = tree.add_children(
            parent, Children(names, [None] * count, np.full(count, 1 / count), [-1.0] * count, [0.0] * count, flags)
        )
        for i, name in enumerate(names):
            tree.remember_observation(first + i, f"after {name}")
    for node, name in enumerate(("root", "a", "b", "c", "aa", "ab", "ba", "bb")):
        tree._nodes[node]["visits"] = visits[name]
        tree._nodes[node]["value_sum"] = 0.5 * visits[name]
    return tree


def test_most_visited_nodes_are_drawn() -> None:
    assert drawn_nodes(hand_built_tree(), [], limit=4) == [0, 1, 2, 4]


def test_unvisited_nodes_are_not_drawn() -> None:
    assert drawn_nodes(hand_built_tree(), [], limit=40) == [0, 1, 2, 4, 5, 6]


def test_nodes_of_pairs_are_drawn_with_all_above_them() -> None:
    assert drawn_nodes(hand_built_tree(), [PairMark(1, 6, 7)], limit=2) == [0, 2, 6, 7]


def test_tree_picture_marks_the_pair_and_counts_what_is_hidden() -> None:
    svg = ET.fromstring(tree_picture(hand_built_tree(), [PairMark(1, 4, 5)], "tree"))
    assert [path.get("class") for path in svg.iter("path")].count("edge chosen") == 1
    assert [path.get("class") for path in svg.iter("path")].count("edge rejected") == 1
    texts = ["".join(text.itertext()) for text in svg.iter("text")]
    assert "✓1" in texts
    assert "✗1" in texts
    assert "0.50 · 15× · +1" in texts  # c was never visited
    assert "0.50 · 6×" in texts
    assert sum("terminal" in (rect.get("class") or "") for rect in svg.iter("rect")) == 1


def test_nodes_do_not_overlap() -> None:
    svg = ET.fromstring(tree_picture(hand_built_tree(), [], "tree"))
    boxes = [tuple(float(r.get(k, 0)) for k in ("x", "y", "width", "height")) for r in svg.iter("rect")][::2]
    for i, (x, y, width, height) in enumerate(boxes):
        assert all(abs(x - x2) >= width or abs(y - y2) >= height for x2, y2, _, _ in boxes[i + 1 :])


def test_tree_without_observations_is_drawn() -> None:
    tree = hand_built_tree()
    tree._transcripts[1:] = [None] * 7
    assert "aa" in tree_picture(tree, [], "tree")


@pytest.mark.parametrize(
    "values", [[0.0, 1.0], [0.2, 0.21], [-0.4, -0.1], [3.0], [0.0], [1e-6, 2e-6], [7.0, 12.0, 9.5]]
)
@pytest.mark.parametrize("zero", [False, True])
def test_ticks_enclose_the_values_evenly(values: list[float], zero: bool) -> None:
    ticks = axis_ticks(values, zero=zero)
    assert ticks[0] <= min(values) + 1e-12
    assert ticks[-1] >= max(values) - 1e-12
    assert 2 <= len(ticks) <= 7
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])
    assert not zero or ticks[0] <= 0 <= ticks[-1]


def test_tick_labels_tell_neighbours_apart() -> None:
    assert [tick_label(t, [0.0, 0.25, 0.5], percent=True) for t in (0.0, 0.25)] == ["0 %", "25 %"]
    assert [tick_label(t, [-0.3, -0.275, -0.25], percent=False) for t in (-0.3, -0.275)] == ["−0.300", "−0.275"]


def labels(svg: str) -> list[tuple[str, float]]:
    found = [text for text in ET.fromstring(svg).iter("text") if text.get("class") == "label"]
    return [(text.text or "", float(text.get("y", "nan"))) for text in found]


def test_labels_of_equal_ends_do_not_overlap() -> None:
    curves = [Curve(f"recipe {i}", i, ((0, 0.2), (1, 0.5))) for i in range(4)]
    heights = sorted(y for _, y in labels(chart("success", curves)))
    assert min(np.diff(heights)) >= 14.9
    assert heights[0] > 0
    assert heights[-1] < 250


def test_values_that_are_not_finite_are_left_out() -> None:
    svg = chart("success", [Curve("one", 0, ((0, 0.2), (1, float("nan")), (2, 0.3)))])
    assert "nan" not in svg


def test_a_chart_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values to draw"):
        chart("success", [Curve("one", 0, ((0, float("nan")),))])


def test_one_point_is_drawn_without_a_line() -> None:
    svg = ET.fromstring(chart("success", [Curve("one", 0, ((1, 0.4),))]))
    assert list(svg.iter("polyline")) == []
    assert len(list(svg.iter("circle"))) == 1


def test_text_is_escaped() -> None:
    svg = chart("<script>", [Curve("<script>&", 0, ((0, 0.2),))])
    assert "<script" not in svg
    assert labels(svg)[0][0] == "<script>&"


def test_shortened_keeps_short_text_and_folds_white_space() -> None:
    assert shortened("click[ a\n b ]", 20) == "click[ a b ]"
    assert shortened("x" * 30, 10) == "x" * 9 + "…"


def test_named_reads_the_row_that_an_action_names() -> None:
    page = "results 1 of 2 for red shoe\n#1 all under\n#10 some over seen"
    assert named("click[#1]", page) == "all under"
    assert named("click[#10]", page) == "some over seen"
    assert named("search[#1]x", page) == ""
    assert named("buy", page) == ""


def theme(dark: bool) -> dict[str, str]:
    css = resources.files("branchwise.training").joinpath("report.html").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{([^}]*)\}", css)
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[1 if dark else 0]))


def contrast(first: str, second: str) -> float:
    """WCAG 2.1's contrast ratio of two sRGB colours."""

    def luminance(colour: str) -> float:
        parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["ink", "muted", "blue", "green", "purple", "amber", "red"])
def test_text_can_be_read_on_page_and_panel(name: str, dark: bool) -> None:
    """WCAG's AA for text: 4.5."""
    colours = theme(dark)
    assert contrast(colours[name], colours["paper"]) >= 4.5
    assert contrast(colours[name], colours["panel"]) >= 4.5


def test_each_style_of_a_curve_has_a_colour_and_a_marker() -> None:
    page = resources.files("branchwise.training").joinpath("report.html").read_text(encoding="utf-8")
    assert set(re.findall(r"\.s(\d) {", page)) == {str(style) for style in range(len(MARKERS))}
    alone = [chart("success", [Curve("x", style, ((0, 0.5),))]) for style in range(len(MARKERS))]
    assert len({re.sub(r" s\d", "", picture) for picture in alone}) == len(MARKERS)
