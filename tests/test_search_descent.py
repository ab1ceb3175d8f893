"""The way down in trees made by hand: which leaf the next simulation reaches, and what is left behind on the way."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from flat_settings import flat_settings

from branchwise.search.rules.backup import DRAW, LOSS, WIN
from branchwise.search.settings import settings_record
from branchwise.search.trees.children import Children
from branchwise.search.trees.descent import (
    PATH_TOO_SHORT,
    _arrays_of_children,
    _gumbel_child,
    _gumbel_final_child,
    _gumbel_root_child,
    _known_child,
    _known_return,
    _known_score,
    _score_with_options,
    _select,
    _state_value,
)
from branchwise.search.trees.information_tree import InformationTree
from branchwise.search.trees.nodes import (
    BUSY,
    CHANCE,
    ENDED,
    FAILED,
    INCOMPLETE,
    INFORMATION,
    LINKED,
    SHARED,
    SOLVED,
    VALUED,
)
from branchwise.search.trees.tree import Tree

END = SOLVED | VALUED | ENDED
LOST = SOLVED | FAILED


def tree_of(*families: Sequence[int], players: int = 1) -> Tree:
    """A tree by its nodes in order: of each family of children, their flags; ``families[i]`` are those of node i."""
    tree = Tree(None, None, (), players=players, zero_sum=players == 2)
    for node, flags in enumerate(families):
        if flags:
            count = len(flags)
            shares = np.full(count, 1 / count)
            earned = np.zeros((count, players) if players > 2 else count)
            tree.add_children(node, Children(["a"] * count, [None] * count, shares, [0.0] * count, earned, list(flags)))
    return tree


def told(tree: Tree, visits: Sequence[int], values: Sequence[float]) -> Tree:
    """The nodes have these visits and mean returns."""
    tree.nodes["visits"] = visits
    tree.nodes["value_sum"] = np.multiply(visits, values)
    return tree


def record_of(players: int = 1, **options: Any) -> np.ndarray:
    return settings_record(flat_settings(**options), zero_sum=players == 2, players=players)


def chosen(tree: Tree, rules: np.ndarray) -> int:
    """The leaf of the next simulation, which is forgotten again."""
    leaf, depth, _ = tree.select(rules)
    tree.release(leaf, tree.path_taken(depth))
    return leaf


GREEDY = {"exploration": 0.0}
RULES = {
    "plain": GREEDY,
    "ucb1": GREEDY | {"selection": "ucb1"},
    "with options": GREEDY | {"selection": "p_ucb"},
    "scaled": GREEDY | {"normalise": "siblings"},
}


@pytest.mark.parametrize("rule", RULES)
def test_of_equal_actions_the_first_is_taken_whether_it_is_known_or_open(rule: str) -> None:
    for flags, expected in (((END, END, 0), 1), ((0, END, END), 1), ((END, 0, 0), 1), ((0, 0, END), 1)):
        tree = told(tree_of(flags), [4, 1, 1, 1], [0.5] * 4)
        tree.nodes["reward"][1:] = 0.5
        assert chosen(tree, record_of(**RULES[rule])) == expected


@pytest.mark.parametrize("rule", RULES)
def test_what_is_known_is_taken_where_it_is_better_than_what_is_open(rule: str) -> None:
    for known, expected in ((0.6, 3), (0.4, 1)):
        tree = told(tree_of((0, END, END)), [4, 1, 1, 1], [0.5, 0.5, 0.1, known])
        tree.nodes["reward"][1:] = [0.0, 0.1, known]
        assert chosen(tree, record_of(**RULES[rule])) == expected


@pytest.mark.parametrize(("selection", "factor"), [("uct_bonus", 2.0), ("p_ucb", 1.0)])
def test_what_is_known_is_weighed_as_values_are(selection: Any, factor: float) -> None:
    """An open action is worth ``factor`` times its mean of 0.6."""
    for known in (0.5, 0.7):
        tree = told(tree_of((0, END)), [3, 1, 1], [0.6, 0.6, known])
        tree.nodes["reward"][2] = known
        assert chosen(tree, record_of(selection=selection, exploitation=2.0, exploration=0.0)) == (
            2 if known > 0.6 else 1
        )
        tree.nodes["hint"][1] = 0.3 if selection == "uct_bonus" else 0.0  # a bonus counts as it is: 1.2 + 0.3
        assert chosen(tree, record_of(selection=selection, exploitation=2.0, exploration=0.0)) == (
            2 if known * factor > 0.6 * factor + float(tree.nodes["hint"][1]) else 1
        )


def test_bounds_that_are_equal_say_nothing() -> None:
    """What lies between them is 0, whether it is open or known, and less is not −∞."""
    rules = record_of(exploration=0.0, normalise="siblings")
    for flags, expected in (((END, 0), 1), ((0, END), 1)):
        tree = told(tree_of(flags), [3, 1, 1], [0.5] * 3)
        tree.nodes["reward"][1:] = 0.5
        assert chosen(tree, rules) == expected
        tree.nodes["pending"][1:] = [flag == END for flag in flags]  # counts as a loss, and there are no bounds for it
        assert chosen(tree, rules) == expected
    record = told(tree_of((0,)), [2, 1], [0.5, 0.5])._nodes[1]
    for pending in (0, 1):
        record["pending"] = pending
        assert _score_with_options(record, rules[0], 2.0, 0.5, 0.0, 0.5, 0.5) == 0.0
        assert _score_with_options(record, rules[0], 2.0, 0.5, 0.0, 0.5, 1.5) == -0.75 * pending


def test_a_proven_win_is_taken_though_there_are_no_bounds() -> None:
    """It was proven on another way, so that the node above is still open."""
    tree = told(tree_of((0, SOLVED), players=2), [1, 0, 0], [0.0] * 3)
    tree.nodes["proof"][2] = WIN
    for normalise in ("no", "siblings", "tree"):
        assert chosen(tree, record_of(2, normalise=normalise, exploration=5.0)) == 2
    assert chosen(tree, record_of(2, selection="uct_bonus", exploitation=0.0)) == 2  # whatever values weigh


def test_simulations_under_way_at_a_known_end_count_as_losses() -> None:
    record = tree_of((END,))._nodes[1]
    rules, visits_only = record_of(virtual_loss=1.0)[0], record_of(virtual_loss=1.0, visits_only=True)[0]
    for visits, pending, expected in ((3, 0, 0.5), (3, 1, 0.125), (3, 2, -0.1), (0, 0, 0.5), (0, 1, -1.0)):
        record["visits"], record["pending"] = visits, pending
        assert _known_score(record, rules, 0.5) == pytest.approx(expected)
        assert _known_score(record, visits_only, 0.5) == 0.5
        assert _known_score(record, rules, np.inf) == np.inf


@pytest.mark.parametrize("failed", [1, 2])
def test_an_action_that_failed_is_known_to_be_none_on_every_way_to_its_state(failed: int) -> None:
    """Node 2 is an edge to the state of node 1."""
    tree = told(tree_of((SOLVED, SOLVED)), [3, 1, 1], [0.5] * 3)
    tree.link(2, 1)
    assert [_known_return(tree._nodes, tree._values, record_of(), node) for node in (1, 2)] == [0.5, 0.5]
    tree._nodes["flags"][failed] |= FAILED
    assert _known_return(tree._nodes, tree._values, record_of(), 2) == -np.inf


def test_of_actions_that_all_lose_the_first_that_was_visited_is_walked() -> None:
    for visits, failed, expected in (
        ((0, 1, 2), None, 2),
        ((2, 1, 0), None, 1),
        ((1, 1, 1), 0, 2),
        ((0, 0, 1), 1, 3),
        ((0, 0, 0), None, -1),
    ):
        tree = told(tree_of((SOLVED,) * 3, players=2), [4, *visits], [-1.0] * 4)
        tree.nodes["proof"][1:] = LOSS
        if failed is not None:
            tree.nodes["flags"][1 + failed] |= FAILED
        assert _known_child(tree._nodes, tree._values, record_of(2), 0) == expected
    tree.nodes["proof"][1:] = [LOSS, DRAW, DRAW]
    assert _known_child(tree._nodes, tree._values, record_of(2), 0) == 2


def test_a_node_without_a_visit_admits_the_actions_of_one_visit() -> None:
    """The root could not be evaluated, and was expanded."""
    tree = tree_of((0, 0, 0))
    tree._nodes["prior"][1:4] = [0.1, 0.3, 0.6]
    for visits in (0, 1):
        tree._nodes["visits"][0] = visits
        assert chosen(tree, record_of(widening=1.0, widening_power=0.5)) == 1


def test_what_is_known_stays_in_the_race_beyond_the_actions_that_are_admitted() -> None:
    tree = told(tree_of((0, 0, END)), [1, 0, 0, 1], [0.1, 0.0, 0.0, 0.9])
    tree.nodes["reward"][3] = 0.9
    assert chosen(tree, record_of(widening=1.0, widening_power=0.1, exploration=0.0)) == 3


def shares(draw: Any, count: int = 2_000) -> dict[int, float]:
    drawn = Counter(draw() for _ in range(count))
    return {leaf: times / count for leaf, times in drawn.items()}


def test_ties_between_what_is_open_and_what_is_known_are_broken_evenly() -> None:
    rules = record_of(random_ties=True, **GREEDY)
    for flags in ((0, 0, END), (0, 0, 0), (END, 0, 0)):
        tree = told(tree_of(flags), [4, 1, 1, 1], [0.5] * 4)
        tree.nodes["reward"][1:] = 0.5
        tree._head["noise"] = 7
        assert shares(lambda tree=tree: chosen(tree, rules)) == pytest.approx(dict.fromkeys((1, 2, 3), 1 / 3), abs=0.04)


def information_tree() -> InformationTree:
    tree = InformationTree(None, None, (), players=2, zero_sum=True)
    tree._nodes["flags"][0] |= INFORMATION
    tree.add_edges(0, ["a", "b", "c"], np.array([0.25, 0.25, 0.5]), [0.0] * 3)
    return tree


def test_ties_between_available_actions_are_broken_evenly() -> None:
    tree = information_tree()
    tree._head["noise"] = 7
    rules = record_of(2, random_ties=True, information="single_observer", solve=False, **GREEDY)
    drawn = shares(lambda: tree.choose_available(0, np.array([1, 2, 3]), rules))
    assert drawn == pytest.approx(dict.fromkeys((1, 2, 3), 1 / 3), abs=0.04)
    without = record_of(2, information="single_observer", solve=False, **GREEDY)
    assert tree.choose_available(0, np.array([2, 3, 1]), without) == 2


def test_available_actions_share_their_prior_and_are_worth_their_set_before_a_visit() -> None:
    """Of the actions a and c, with a third and two thirds of their prior, a was visited: it is worth 0.5, and its set,
    where c has no visit yet, 0.2."""
    for exploration, expected, visits in ((0.25, 1, 1), (0.35, 3, 1), (0.25, 1, 2), (0.35, 3, 2)):
        tree = information_tree()
        tree._nodes["visits"][:2], tree._nodes["value_sum"][:2] = (visits, 1), (visits * 0.2, 0.5)
        tree._nodes["hint"][[1, 3]] = 3.0
        rules = record_of(2, exploration=exploration, information="single_observer", solve=False)
        # each was available four times: 0.5 + c / 3 · 2 / 2 against 0.2 + c · 2 / 3 · 2
        assert tree.choose_available(0, np.array([1, 3]), rules) == expected
        assert tree._nodes["hint"][1:4].tolist() == [4.0, 0.0, 4.0]


def test_available_actions_without_a_prior_are_told_apart_by_their_values() -> None:
    tree = information_tree()
    tree._nodes["prior"][1:4] = 0.0
    tree._nodes["visits"][:4], tree._nodes["value_sum"][:4] = (4, 1, 1, 1), (0.4, 0.1, 0.3, 0.2)
    rules = record_of(2, information="single_observer", solve=False)
    assert tree.choose_available(0, np.array([1, 2, 3]), rules) == 2


def test_an_outcome_of_probability_zero_never_comes() -> None:
    """Not where rounded probabilities add up to less than one either."""
    tree = tree_of((0, 0, 0))
    tree._nodes["player"][0] = CHANCE
    tree._nodes["prior"][1:4] = [0.25, 0.5, 0.0]
    tree._head["noise"] = 7
    assert shares(lambda: chosen(tree, record_of())) == pytest.approx({1: 0.25, 2: 0.75}, abs=0.03)


def test_a_shared_state_is_worth_nothing_before_its_edges_have_a_visit() -> None:
    tree = tree_of((0, 0), (0, 0))
    tree.link(2, 1)
    for visits, value_sum, expected in ((0, 0.0, 0.0), (1, 0.7, 0.7)):
        tree._nodes["visits"][3], tree._nodes["value_sum"][3] = visits, value_sum
        assert _state_value(tree._nodes, tree._values, record_of(), 2, 1) == expected


@pytest.mark.parametrize(("players", "chooser", "mover"), [(1, 0, 0), (2, 0, 0), (2, 0, 1), (2, 1, 0), (2, 1, 1)])
def test_the_value_of_a_state_leaves_out_the_step_into_it(players: int, chooser: int, mover: int) -> None:
    """(0.9 − 0.5) / 0.8, for who moves there; of the root, its mean."""
    rules = record_of(players, discount=0.8)
    tree = told(tree_of((0,), (0,), players=players), [3, 2, 0], [0.7, 0.9, 0.0])
    tree.nodes["reward"][1] = 0.5
    tree.nodes["player"][:2] = chooser, mover
    assert _state_value(tree._nodes, tree._values, rules, 0, 0) == pytest.approx(0.7)
    expected = 0.5 if chooser == mover else -0.5
    assert _state_value(tree._nodes, tree._values, rules, 1, 1) == pytest.approx(expected)
    assert _state_value(tree._nodes, tree._values, rules, 2, 2) == 0.0
    assert _state_value(tree._nodes, tree._values, record_of(players, discount=0.0), 1, 1) == 0.0
    assert _state_value(tree._nodes, tree._values, record_of(players, discount=0.0), 0, 0) == pytest.approx(0.7)


def test_of_three_players_a_state_is_worth_what_it_is_to_who_moves_there() -> None:
    tree = tree_of((0,), (0,), players=3)
    tree.nodes["visits"] = [3, 2, 0]
    means, earned = np.array([0.9, 0.1, 0.5]), np.array([0.5, 0.3, 0.1])
    tree._values[1] = [*(2 * means), *earned]
    tree._values[0, :3] = 3 * means
    for mover in range(3):
        tree.nodes["player"][:2] = mover
        expected = (means - earned)[mover] / 0.8
        assert _state_value(tree._nodes, tree._values, record_of(3, discount=0.8), 1, 1) == pytest.approx(expected)
        assert _state_value(tree._nodes, tree._values, record_of(3, discount=0.8), 0, 0) == pytest.approx(means[mover])


# ---- a walk that meets what was lost, what is under way, and the end of its room ------------------------------------


def selected(tree: Tree, rules: np.ndarray, room: int) -> tuple[tuple[int, int, int], list[int]]:
    """What a walk found with so much room, and the whole room with what lies behind it (99 where nobody wrote)."""
    path = np.full(16, 99, np.int32)
    found = _select(tree._nodes, tree._values, tree._head, rules, path[:room], tree._gumbel, tree._considered)
    return (int(found[0]), int(found[1]), int(found[2])), path.tolist()


def test_a_walk_without_room_says_so_and_changes_nothing() -> None:
    """A chain of five nodes whose first move is chance's."""
    tree = tree_of((0,), (0,), (0,), (0,))
    tree._nodes["player"][0] = CHANCE
    tree._head["noise"] = 7
    before = tree._nodes.copy()
    for room in (1, 2, 3, 4, 5):
        (leaf, _, _), path = selected(tree, record_of(), room)
        assert leaf == PATH_TOO_SHORT
        assert path[room:] == [99] * (16 - room)
        assert tree._head["noise"][0] == 7
        assert np.array_equal(tree._nodes, before)
    (leaf, depth, _), path = selected(tree, record_of(), 6)
    assert (leaf, depth, path[:5]) == (4, 4, [0, 1, 2, 3, 4])
    assert tree._head["noise"][0] != 7
    assert tree._nodes["pending"][:5].tolist() == [1] * 5


LOST_BELOW = ({}, {"selection": "alphazero"}, {"normalise": "siblings"})


@pytest.mark.parametrize("options", LOST_BELOW)
def test_a_state_whose_actions_were_lost_on_other_ways_is_closed_and_the_walk_begins_again(
    options: dict[str, Any],
) -> None:
    """Node 1 has one way on, to node 3, whose one action is lost. Node 2 is open, and worth less."""
    tree = told(tree_of((0, 0), (0,), (), (LOST,)), [4, 1, 2, 1, 0], [0.5, 0.6, 0.55, 0.6, 0.0])
    (leaf, depth, _), path = selected(tree, record_of(exploration=5.0, **options), 16)
    assert (leaf, depth, path[:2]) == (2, 1, [0, 2])
    assert [tree.is_solved(node) for node in range(4)] == [False, True, False, True]
    assert tree._nodes["pending"][:4].tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("options", LOST_BELOW)
def test_where_nothing_is_left_after_all_the_walk_finds_no_leaf_and_the_root_is_closed(options: dict[str, Any]) -> None:
    tree = told(tree_of((0,), (LOST,)), [2, 1, 0], [0.5, 0.6, 0.0])
    tree._nodes["flags"][0] |= INCOMPLETE
    (leaf, depth, flags), _ = selected(tree, record_of(**options), 16)
    assert (leaf, depth, flags) == (-1, 0, tree._nodes["flags"][0])
    assert tree.is_solved(0)
    assert not tree._nodes["pending"].any()


def test_a_solved_state_of_which_no_action_is_left_is_a_leaf_itself() -> None:
    tree = told(tree_of((SOLVED,), (LOST, LOST)), [2, 1, 0, 0], [0.5, 0.5, 0.0, 0.0])
    (leaf, depth, flags), _ = selected(tree, record_of(), 16)
    assert (leaf, depth, bool(flags & SOLVED)) == (1, 1, True)


def test_a_leaf_has_the_flags_of_its_state_and_of_the_way_to_it() -> None:
    tree = told(tree_of((0, 0)), [2, 1, 0], [-5.0, -5.0, 0.0])
    tree.link(2, 1)
    leaf, _, flags = tree.select(record_of())
    assert leaf == 2
    assert flags & SHARED
    assert flags & LINKED


def test_two_ways_to_a_state_are_not_under_way_at_once() -> None:
    """Node 2 is an edge to the state of node 1, which nobody has evaluated yet."""
    tree = tree_of((0, 0))
    tree.link(2, 1)
    assert tree.select(record_of())[0] == 1
    assert tree.has(1, BUSY)
    assert tree.has(2, LINKED)
    assert tree.select(record_of())[:2] == (-1, 1)
    assert tree._nodes["pending"][:3].tolist() == [1, 1, 0]


@pytest.mark.parametrize("solve", [True, False])
def test_an_end_that_is_under_way_is_counted_again_where_nothing_is_solved(solve: bool) -> None:
    tree = tree_of((VALUED | ENDED,))
    assert tree.select(record_of(solve=solve))[0] == 1
    assert tree.select(record_of(solve=solve))[0] == (-1 if solve else 1)


# ---- Gumbel -------------------------------------------------------------------------------------------------------


GUMBEL = {"selection": "gumbel", "solve": False}


def gumbel_tree(flags: Sequence[int], visits: Sequence[int], values: Sequence[float], hint: float) -> Tree:
    tree = told(tree_of(flags), [1 + sum(visits), *visits], [0.0, *values])
    tree._nodes["hint"][0] = hint
    return tree


def test_what_failed_is_not_played_however_often_it_was_visited_before() -> None:
    draws = np.array([9.0, 0.0, 0.0])
    for visits, expected in (((3, 1, 2), 3), ((3, 1, 0), 2), ((1, 1, 0), 2), ((3, 0, 0), 2), ((0, 0, 0), 2)):
        tree = gumbel_tree((LOST, 0, 0), visits, (0.5, 0.5, 0.5), 0.5)
        assert _gumbel_final_child(tree._nodes, record_of(**GUMBEL), draws) == expected
    tree = gumbel_tree((LOST, LOST, LOST), (1, 3, 2), (0.5, 0.5, 0.5), 0.5)
    assert _gumbel_final_child(tree._nodes, record_of(**GUMBEL), draws) == 2


@pytest.mark.parametrize(("hint", "expected"), [(0.5, 2), (-10.0, 1)])
def test_what_is_played_depends_on_what_the_root_was_worth_before(hint: float, expected: int) -> None:
    """Values of 0.4 and 0.6: (50 + 2) / 10 apart where the third action, unvisited, lies between them; where that is
    worth (−10 + 4 · 0.5) / 5 = −1.6, a range of 2.2 leaves 5.2 · 0.2 / 2.2 = 0.47. The first drew 2 more."""
    tree = gumbel_tree((0, 0, 0), (2, 2, 0), (0.4, 0.6, 0.0), hint)
    draws, plan = np.array([2.0, 0.0, -99.0]), np.array([0, 0, 1, 1, 2, 2])
    assert _gumbel_final_child(tree._nodes, record_of(**GUMBEL), draws) == expected
    assert _gumbel_root_child(tree._nodes, record_of(**GUMBEL), draws, plan) == expected


def test_below_the_root_gumbel_begins_with_the_likeliest_action() -> None:
    tree = gumbel_tree((0, 0), (0, 0), (0.0, 0.0), 0.0)
    for prior, expected in (((0.75, 0.25), 1), ((0.25, 0.75), 2)):
        tree._nodes["prior"][1:3] = prior
        assert _gumbel_child(tree._nodes, record_of(**GUMBEL), 0) == expected


def test_where_every_action_failed_gumbel_has_none() -> None:
    tree = gumbel_tree((LOST, LOST), (0, 0), (0.0, 0.0), 0.0)
    assert _gumbel_child(tree._nodes, record_of(**GUMBEL), 0) == -1
    assert _gumbel_root_child(tree._nodes, record_of(**GUMBEL), np.zeros(2), np.array([0, 0])) == -1


def test_a_walk_ends_without_a_leaf_where_what_did_not_fail_is_impossible() -> None:
    """The impossible action is not solved, so the node stays open."""
    tree = gumbel_tree((LOST, 0), (0, 0), (0.0, 0.0), 0.0)
    tree._nodes["prior"][1:3] = [1.0, 0.0]
    tree._gumbel, tree._considered = np.zeros(2), np.zeros(3, np.int64)
    (leaf, depth, _), _ = selected(tree, record_of(**GUMBEL), 16)
    assert (leaf, depth) == (-1, 0)
    assert not tree.is_solved(0)


def test_an_action_that_failed_before_any_visit_has_no_prior() -> None:
    tree = gumbel_tree((LOST, LOST, LOST, 0, 0), (0, 1, 2, 0, 1), (0.0, 0.5, 0.5, 0.0, 0.5), 0.0)
    _, visits, prior = _arrays_of_children(tree._nodes, 0)
    assert visits.tolist() == [0, 1, 2, 0, 1]
    assert prior == pytest.approx([0.0, 0.2, 0.2, 0.2, 0.2])
