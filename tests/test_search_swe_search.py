"""SWE-Search's additive terms: each against a closed form, each read from a tree, and the choice among all nodes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from flat_settings import flat_settings

from branchwise.envs.simulator import TERMINAL, Simulator
from branchwise.search.engine import Root, SearchSettings, search
from branchwise.search.evaluation import ValueFunction
from branchwise.search.nodewise import best_leaf, softmax_leaf
from branchwise.search.rules import swe_search
from branchwise.search.rules.options import Softmax, UctBonus
from branchwise.search.rules.selection import uct_bonus
from branchwise.search.selected import Selected
from branchwise.search.trees.children import Children
from branchwise.search.trees.nodes import ENDED, FAILED, INVALID, SOLVED, VALUED
from branchwise.search.trees.tree import Tree


def test_depth_terms_are_the_papers() -> None:
    assert swe_search.early_depth(1) == 200.0
    assert swe_search.early_depth(3) == pytest.approx(200.0 * math.exp(-1.6))
    assert swe_search.late_depth(4) == pytest.approx(-1.6)
    assert swe_search.late_depth(0) == 0.0


def test_value_terms_have_the_released_thresholds() -> None:
    assert [swe_search.high_value_leaf(value, n) for value, n in ((50.0, 0), (49.9, 0), (90.0, 1))] == [50.0, 0.0, 0.0]
    assert swe_search.bad_child(60.0, [-20.0]) == 400.0
    assert [swe_search.bad_child(*case) for case in ((49.0, [-20.0]), (60.0, [1.0]), (60.0, [-20.0, 3.0]))] == [0.0] * 3
    assert [swe_search.good_child(values) for values in ([10.0, 75.0], [74.0], [])] == [-5.0, 0.0, 0.0]
    assert swe_search.good_parent(-10.0, 0, 51.0) == 60.0
    assert [swe_search.good_parent(*case) for case in ((1.0, 0, 51.0), (-10.0, 1, 51.0), (-10.0, 0, 50.0))] == [0.0] * 3
    assert [swe_search.finished(best) for best in (100.0, 99.0, -math.inf)] == [-50.0, 0.0, 0.0]


def test_terms_of_correction_diversity_and_duplicates() -> None:
    assert [swe_search.correction(True, n) for n in (0, 1, 3)] == [50.0, 25.0, 5.0]
    assert swe_search.correction(False, 0) == 0.0
    assert swe_search.diversity([]) == 100.0
    assert swe_search.diversity([1.0, 0.5]) == pytest.approx(25.0)
    assert [swe_search.duplicate_children(n) for n in (0, 1, 2)] == [0.0, -25.0, -100.0]
    assert swe_search.duplicate_actions([1, 3, 2]) == -50.0 * (4 + 1)


def by_hand() -> Tree:
    """Root 0; children 1 ``edit[a]``, 2 ``edit[b]`` (the state of 1), 3 ``test[]`` (an end worth 100), 4 unvisited;
    below 1 the invalid 5 ``edit[c]`` worth −20."""
    tree = Tree(None, "start", ())
    tree.settings = {"selection": {"uct_bonus": {"exploitation": 100.0}}}
    actions, states = ["edit[a]", "edit[b]", "test[]", "look"], ["same", "same", "done", "else"]
    flags = [0, 0, ENDED | VALUED, 0]
    tree.add_children(0, Children(actions, states, np.full(4, 0.25), [0.0] * 4, [0.0] * 4, flags))
    tree.add_children(1, Children(["edit[c]"], ["broken"], np.ones(1), [0.0], [0.0], [INVALID]))
    for node, visits, value in ((0, 5, 0.6), (1, 2, 0.6), (2, 1, -0.1), (3, 1, 1.0), (5, 1, -0.2)):
        tree.nodes["visits"][node], tree.nodes["value_sum"][node] = visits, visits * value
    return tree


@pytest.mark.parametrize(
    ("term", "node", "expected"),
    [
        ("early_depth", 5, 200.0 * math.exp(-0.8)),
        ("late_depth", 5, -0.8 * math.sqrt(2.0)),
        ("high_value_leaf", 3, 50.0),
        ("high_value_leaf", 1, 0.0),
        ("bad_child", 1, 5.0 * (60.0 + 20.0)),
        ("bad_child", 0, 0.0),
        ("good_child", 0, -5.0),
        ("good_parent", 2, 60.0),
        ("good_parent", 5, 70.0),
        ("finished", 0, -50.0),
        ("finished", 1, 0.0),
        ("correction", 5, 50.0),
        ("correction", 1, 0.0),
        ("diversity", 3, 100.0 * (1.0 - (1 / 7 + 1 / 8) / 2)),
        ("duplicate_children", 0, -25.0),
        ("duplicate_actions", 0, -50.0),
        ("duplicate_actions", 1, 0.0),
    ],
)
def test_terms_are_read_from_the_tree(term: str, node: int, expected: float) -> None:
    """Of ``diversity``: the end's own line is ``\\ntest[]``, of 7 letters; those that have grown are the root, whose
    line is empty (similarity 0 but for the line's end) and node 1, ``\\nedit[a]``."""
    from rapidfuzz.distance import Levenshtein

    if term == "diversity":
        near = [1 - Levenshtein.distance("\ntest[]", other) / max(7, len(other)) for other in ("", "\nedit[a]")]
        expected = 100.0 * (1.0 - sum(near) / 2)
    assert swe_search.bonus([term])(by_hand(), node) == pytest.approx(expected)


def test_terms_add_up() -> None:
    tree, names = by_hand(), list(swe_search.TERMS)
    for node in (0, 1, 3, 5):
        parts = sum(swe_search.bonus([name])(tree, node) for name in names)
        assert swe_search.bonus(names)(tree, node) == pytest.approx(parts)


class Fork(Simulator[str]):
    """Two actions everywhere, to depth 6."""

    def reset(self, seed: int, options: Any = None) -> str:
        return ""

    def current_player(self, state: str) -> int:
        return TERMINAL if len(state) >= 6 else 0

    def observation(self, state: str, player: int = 0) -> str:
        return state

    def legal_actions(self, state: str) -> Sequence[str]:
        return ["l", "r"]

    def step(self, state: str, action: str) -> str:
        return state + action

    def rewards(self, state: str) -> tuple[float, ...]:
        return (float(state == "rlrlrl"),)


def grown(judge: Any, **options: Any) -> Tree:
    settings = flat_settings(**{"selection": "uct_bonus", "exploration": 1.0, **options})
    [tree] = search(Fork(), [Root("")], None, ValueFunction(judge), settings)
    return tree


def test_the_best_of_all_nodes_grows_next() -> None:
    """Literally: after each simulation the next leaf hangs below the node with the largest score among those with an
    unvisited child."""

    def judge(simulator: Any, state: str, transcript: Any) -> float:
        return (sum(map(ord, state)) * 7919 % 101) / 101

    names = ("late_depth", "high_value_leaf", "good_child")
    options: dict[str, Any] = {"exploitation": 100.0, "whole_tree": True, "bonus_terms": names, "solve": False}
    for simulations in range(2, 25):
        before, after = (grown(judge, simulations=count, **options) for count in (simulations, simulations + 1))
        scores = {}
        for node in range(len(before)):
            fresh = [child for child in before.children(node) if not before.visits(child)]
            if before.visits(node) and fresh:
                above = before.visits(before.parent(node)) if node else 1
                added = swe_search.bonus(names)(before, node)
                assert float(before.nodes["hint"][node]) == pytest.approx(added, abs=1e-4)
                scores[node] = uct_bonus(before.value(node), before.visits(node), above, 100.0, 1.0, added, 0.0)
        [met] = [n for n in range(len(before)) if not before.visits(n) and n < len(after) and after.visits(n)]
        assert after.parent(met) == max(scores, key=lambda node: scores[node])


def test_on_a_walk_named_terms_are_what_a_caller_could_pass() -> None:
    def judge(simulator: Any, state: str, transcript: Any) -> float:
        return state.count("r") / 6

    names = ("early_depth", "finished", "duplicate_actions", "diversity")
    options: dict[str, Any] = {"selection": "uct_bonus", "exploration": 40.0, "simulations": 60, "exploitation": 100.0}
    named = grown(judge, **options, bonus_terms=names)
    settings = flat_settings(**options)
    [passed] = search(Fork(), [Root("")], None, ValueFunction(judge), settings, bonus=swe_search.bonus(names))
    assert named.nodes.tobytes() == passed.nodes.tobytes()
    other = grown(judge, **options, bonus_terms=("high_value_leaf",))
    assert other.nodes["visits"].tolist() != named.nodes["visits"].tolist()


def test_terms_are_named_in_the_settings_and_nowhere_else() -> None:
    with pytest.raises(ValueError, match=r"bonus_terms has 'early'; expected some of early_depth, late_depth"):
        SearchSettings(selection=UctBonus(bonus_terms=("early",)))
    with pytest.raises(ValueError, match="name bonus_terms"):
        grown(lambda *_: 0.0, simulations=3)


# ---- one choice, by hand ----------------------------------------------------------------------------------------


def two_branches(priors: tuple[float, float] = (0.25, 0.75)) -> Tree:
    """Root 0 (visited 3 times); children 1 ``ab`` and 2 ``ac`` (once each, both worth 0.5), with two children each."""
    tree = Tree(None, "start", ())
    tree.add_children(0, Children(["ab", "ac"], ["ab", "ac"], np.full(2, 0.5), [0.0] * 2, [0.0] * 2, [0, 0]))
    for node in (1, 2):
        tree.add_children(node, Children(["l", "r"], ["l", "r"], np.array(priors), [0.0] * 2, [0.0] * 2, [0, 0]))
    tree.nodes["visits"][:3] = 3, 1, 1
    tree.nodes["value_sum"][:3] = 1.5, 0.5, 0.5
    return tree


WHOLE = UctBonus(whole_tree=True)
SOFT = Softmax(apart=0.5)


@pytest.mark.parametrize("choose", [lambda tree: best_leaf(tree, WHOLE), lambda tree: softmax_leaf(tree, SOFT, [])])
def test_the_root_is_the_first_leaf_and_is_under_way_once(choose: Any) -> None:
    tree = Tree(None, "start", ())
    leaf = choose(tree)
    assert (leaf.node, leaf.depth, leaf.state) == (0, 0, "start")
    assert int(tree.nodes["pending"][0]) == 1
    assert choose(tree) is None


def test_of_equal_nodes_the_earliest_grows_and_by_its_likeliest_child() -> None:
    tree = two_branches()
    met = [best_leaf(tree, WHOLE) for _ in range(4)]
    assert [leaf.node for leaf in met if leaf] == [4, 3, 6, 5]  # those under way are not taken again
    assert [(leaf.depth, leaf.state) for leaf in met if leaf][:2] == [(2, "r"), (2, "l")]
    assert tree.nodes["pending"].tolist() == [4, 2, 2, 1, 1, 1, 1]
    assert best_leaf(tree, WHOLE) is None


def test_what_is_solved_does_not_grow() -> None:
    tree = two_branches()
    tree.nodes["flags"][[3, 4, 6]] |= SOLVED
    assert [leaf.node for leaf in (best_leaf(tree, WHOLE),) if leaf] == [5]
    assert best_leaf(tree, WHOLE) is None


@pytest.mark.parametrize(("apart", "met"), [(0.5, {5, 6}), (0.51, set()), (0.0, {3, 5, 6})])
def test_within_a_batch_nodes_as_far_apart_as_set_are_drawn(apart: float, met: set[int]) -> None:
    """``ab`` and ``ac`` differ in one letter of two; the first of the batch hangs below ``ab``."""
    settings = Softmax(apart=apart)
    found = set()
    for seed in range(12):
        tree = two_branches()
        tree.rng = np.random.default_rng(seed)
        tree.mark_under_way(4)
        drawn = [Selected(tree, 4, 2, 0)]
        while leaf := softmax_leaf(tree, settings, drawn[:1]):
            found.add(leaf.node)
    assert found == met


@pytest.mark.parametrize(("worth", "below"), [(0.7, {3, 4}), (0.5, {5, 6})])
def test_nodes_are_drawn_by_their_means_whatever_their_visits(worth: float, below: set[int]) -> None:
    """``ab`` returned ``worth`` once, ``ac`` 0.6 in the mean of four."""
    tree = two_branches()
    tree.nodes["visits"][:3] = 6, 1, 4
    tree.nodes["value_sum"][:3] = 0.0, worth, 2.4
    for _ in range(2):
        leaf = softmax_leaf(tree, Softmax(temperature=1e-3), [])
        assert leaf is not None
        assert leaf.node in below


@pytest.mark.parametrize(("apart", "far"), [(0.5, True), (0.51, False)])
def test_a_node_that_is_near_to_any_of_those_drawn_is_left_out(apart: float, far: bool) -> None:
    """``ac`` is far from ``xy`` and differs from ``ab`` in one letter of two."""
    tree = Tree(None, "start", ())
    tree.add_children(0, Children(["ab", "xy", "ac"], [None] * 3, np.full(3, 1 / 3), [0.0] * 3, [0.0] * 3, [0] * 3))
    for node in (1, 2, 3):
        tree.add_children(node, Children(["l", "r"], [None] * 2, np.full(2, 0.5), [0.0] * 2, [0.0] * 2, [0, 0]))
    tree.nodes["visits"][:4] = 4, 1, 1, 1
    drawn = [Selected(tree, 4, 2, 0), Selected(tree, 6, 2, 0)]
    leaf = softmax_leaf(tree, Softmax(apart=apart), drawn)
    assert (leaf is not None) == far
    assert leaf is None or leaf.node in (8, 9)


def test_the_root_counts_as_visited_once_by_a_parent() -> None:
    """ln 1 = 0: the root is worth its bonus, 1.5; ``ac`` 0.5 + √(ln 3 / 1) = 1.55 or, with less of a bonus, 1.45."""
    for hint, below in ((0.0, 2), (-0.1, 0)):
        tree = two_branches()
        tree.nodes["visits"][:3] = 3, 0, 1
        tree.nodes["value_sum"][:3] = 0.0, 0.0, 0.5
        tree.nodes["hint"][:3] = 1.5, 0.0, hint
        leaf = best_leaf(tree, UctBonus(whole_tree=True, exploration=1.0))
        assert leaf is not None
        assert tree.parent(leaf.node) == below


@pytest.mark.parametrize("choose", [lambda tree: best_leaf(tree, WHOLE), lambda tree: softmax_leaf(tree, SOFT, [])])
def test_nothing_grows_below_a_node_that_was_expanded_and_never_valued(choose: Any) -> None:
    tree = two_branches()
    tree.nodes["visits"][1], tree.nodes["value_sum"][1] = 0, 0.0
    tree.nodes["flags"][1] |= SOLVED | FAILED
    assert {choose(tree).node for _ in range(2)} == {5, 6}
    assert choose(tree) is None
