"""Loops of the kernels against sums by hand: which entries they take in, the first and the last included."""

import math
from typing import Any

import numpy as np
import pytest
from flat_settings import flat_settings
from numba import njit

from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.search.compiled import gumbel as compiled_gumbel
from branchwise.search.compiled import loop as compiled_loop
from branchwise.search.compiled.build import built
from branchwise.search.rules.backup import LOSS, UNPROVEN, WIN
from branchwise.search.rules.options import Uct
from branchwise.search.rules.selection import alphazero_exploration, sibling_bounds, softmax_node, uct
from branchwise.search.settings import SearchSettings, settings_record
from branchwise.search.trees.arrays import NodeArrays
from branchwise.search.trees.ascent import _settle, _solved_return, _sums_of_children
from branchwise.search.trees.children import Children
from branchwise.search.trees.descent import (
    _arrays_of_children,
    _bounds,
    _open_children,
    _started_visits,
    _state_value,
    _visited_prior,
    _visits_of_state,
)
from branchwise.search.trees.nodes import (
    BUSY,
    CHANCE,
    ENDED,
    EXPANDED,
    FAILED,
    INCOMPLETE,
    INVALID,
    LINKED,
    SHARED,
    SOLVED,
    VALUED,
)
from branchwise.search.trees.tree import Tree


def diamond(visits: tuple[int, ...], sums: tuple[float, ...]) -> Tree:
    """Root → 1 and 2; 2 is an edge to the state of 1, whose children from 3 on have these visits and value sums."""
    tree = Tree(None, "root", ())
    tree.add_children(0, Children(["a", "b"], ["X", "X"], np.array([0.5, 0.5]), [0.0, 0.0], [0.0, 0.0], [0, 0]))
    tree.link(2, 1)
    count = len(visits)
    tree.add_children(
        1, Children(["c"] * count, ["Y"] * count, np.arange(1.0, count + 1), [0.0] * count, [0.0] * count, [0] * count)
    )
    tree._nodes["visits"][3 : 3 + count] = visits
    tree._nodes["value_sum"][3 : 3 + count] = sums
    tree._nodes["visits"][1:3] = 1
    return tree


UCT = settings_record(SearchSettings(selection=Uct(exploration=1.0), solve=False), zero_sum=False, players=1)


def test_a_shared_state_has_the_visits_of_its_edges_and_one() -> None:
    tree = diamond((2, 3, 5), (1.0, 2.0, 4.0))
    tree._nodes["pending"][4] = 1
    assert tree.has(1, SHARED)
    assert tree.has(2, LINKED)
    for node in (1, 2):
        assert _visits_of_state(tree._nodes, node, 1) == 1 + (2 + 3 + 1 + 5)
        assert _state_value(tree._nodes, tree._values, UCT, node, 1) == pytest.approx((1.0 + 2.0 + 4.0) / 10)
    assert _sums_of_children(tree._nodes, 1) == (7.0, 10.0)
    assert _visits_of_state(tree._nodes, 0, 0) == 0.0
    tree._nodes["visits"][4] = 0  # what an edge without a visit keeps is no sum of visits
    assert _sums_of_children(tree._nodes, 1) == (5.0, 7.0)


def test_uct_explores_below_a_shared_state_by_all_its_visits() -> None:
    # Q = 0.6 of 20 visits against 0.3 of one: at N = 22 the rarer child scores 0.3 + √(2 ln 22) = 2.79 against 1.16; a
    # state that counted as visited once would have ln 1 = 0, and never try it again
    tree = diamond((20, 1), (12.0, 0.3))
    assert uct(0.3, 1.0, 22.0, 1.0, 0.5) == pytest.approx(0.3 + math.sqrt(2 * math.log(22)))
    for rule in ("uct", "ucb1"):
        settings = flat_settings(selection=rule, exploration=1.0, solve=False)  # type: ignore[arg-type]
        for edge in (1, 2):
            tree = diamond((20, 1), (12.0, 0.3))
            tree._nodes["value_sum"][edge] = 99.0  # the walk goes over this edge
            leaf, depth, _ = tree.select(settings_record(settings, zero_sum=False, players=1))
            assert (tree.path_taken(depth)[1], leaf) == (edge, 4)


def test_bounds_and_masses_are_over_all_children() -> None:
    tree = diamond((2, 0, 5, 1), (-4.0, 0.0, 5.0, 3.0))
    record = settings_record(SearchSettings(normalise="siblings", solve=False), zero_sum=False, players=1)
    assert _bounds(tree._nodes, tree._head, record, 1, 0.5) == (-2.0, 3.0)
    assert _visited_prior(tree._nodes, 1) == 1.0 + 3.0 + 4.0
    tree._nodes["pending"][4] = 1
    assert _visited_prior(tree._nodes, 1) == 1.0 + 2.0 + 3.0 + 4.0
    values, visits, prior = _arrays_of_children(tree._nodes, 1)
    assert (values.tolist(), visits.tolist(), prior.tolist()) == ([-2, 0, 1, 3], [2, 0, 5, 1], [1, 2, 3, 4])
    assert _started_visits(tree._nodes, 1).tolist() == [2, 1, 5, 1]


def test_open_children_are_possible_and_not_lost() -> None:
    tree = diamond((1, 1, 1), (0.0, 0.0, 0.0))
    tree._nodes["flags"][3] |= SOLVED
    tree._nodes["prior"][5] = 0.0
    assert _open_children(tree._nodes, 1).tolist() == [False, True, False]


def test_sibling_bounds_and_the_best_nodes_take_in_the_first_and_the_last() -> None:
    assert sibling_bounds(0.0, np.array([-1.0, 0.5, 2.0]), np.ones(3)) == (-1.0, 2.0)
    assert softmax_node(np.array([9.0, 1.0, 1.0]), np.ones(3, np.bool_), 0.01, 1, 0.5) == 0
    assert softmax_node(np.array([1.0, 1.0, 9.0]), np.ones(3, np.bool_), 0.01, 1, 0.5) == 2


settle = njit(compiled_loop.settle)


def records(**fields: list[float]) -> np.ndarray:
    """A node with children from record 1 on."""
    nodes = np.zeros(1 + len(next(iter(fields.values()))), compiled_loop.COMPILED_NODE)
    nodes["first_child"][0], nodes["children"][0] = 1, len(nodes) - 1
    for name, values in fields.items():
        nodes[name][1:] = values
    return nodes.view(np.recarray)


def test_compiled_masses_and_best_children_are_over_all_children() -> None:
    nodes = records(visits=[1, 0, 2], factor=[0.5, 0.25, 0.125], value=[0.0, 0.0, 1.0])
    assert compiled_loop.visited_prior(nodes, 1, 3) == 0.625
    for best in range(3):
        nodes.value[1:] = [float(i == best) for i in range(3)]
        assert compiled_loop.best_child(nodes, 1, 3, np.float32(0.0), np.float32(0.0)) == 1 + best


@pytest.mark.parametrize(
    ("proofs", "expected"),
    [([1, 1, 1], 1), ([1, 2, 1], 2), ([3, 0, 0], 3), ([0, 0, 3], 3), ([0, 1, 1], 0), ([1, 1, 0], 0), ([2, 2, 1], 2)],
)
def test_a_compiled_node_is_proven_from_all_its_children(proofs: list[int], expected: int) -> None:
    nodes = records(flags=[proof | (compiled_loop.SOLVED if proof else 0) for proof in proofs])
    assert settle(np.asarray(nodes).view(compiled_loop.COMPILED_NODE), 0, True) == bool(expected)
    assert nodes["flags"][0] & compiled_loop.PROOF == expected


@pytest.mark.parametrize("base", [2.0, 19652.0])
def test_the_compiled_exploration_of_alphazero_grows_with_its_base(base: float) -> None:
    rules = TicTacToe().rules
    fixed = (("WEIGHT", compiled_loop.WEIGHT_PUCT), ("ALPHAZERO", True))
    scale = built(compiled_loop, "exploration_scale", rules, rules.rollout, fixed)
    for visits in (1, 3, 50):
        expected = alphazero_exploration(visits, base, 1.25) * math.sqrt(visits)
        assert scale(visits, 1.25, base) == pytest.approx(expected, rel=1e-9)


def test_unvisited_children_alone_change_places() -> None:
    """The second and third of three; what stands beyond them is no child."""
    rules = TicTacToe().rules
    exchange = built(compiled_loop, "exchange_unvisited", rules, rules.rollout, ())
    orders = set()
    for random in range(40):
        nodes = np.asarray(records(action=[5, 6, 7, 8])).view(compiled_loop.COMPILED_NODE)
        exchange(nodes, 2, 1, random * 1_000_003)
        orders.add(tuple(nodes["action"][1:].tolist()))
    assert orders == {(5, 6, 7, 8), (5, 7, 6, 8)}


@pytest.mark.parametrize(
    ("proofs", "expected"),
    [
        ([0, 1, 0], [0.25, 0.5, -np.inf, 0.75]),
        ([1, 1, 1], [0.25, -np.inf, -np.inf, -np.inf]),
        ([2, 2, 1], [0.25, 0.0, -np.inf, -np.inf]),
        ([2, 3, 0], [0.25, -np.inf, 1.0, 0.75]),
    ],
)
def test_of_solved_children_the_first_of_the_best_keeps_its_value_unless_it_is_lost(
    proofs: list[int], expected: list[float]
) -> None:
    keep_best = njit(compiled_loop.keep_best)
    flags = [proof | (compiled_loop.SOLVED if proof else 0) for proof in proofs]
    nodes = records(flags=flags, value=[0.5, 0.625, 0.75], visits=[2, 2, 2], factor=[0.7] * 3)
    nodes["value"][0] = 0.25
    nodes = np.asarray(nodes).view(compiled_loop.COMPILED_NODE)
    keep_best(nodes, 0)
    assert nodes["value"].tolist() == expected
    assert nodes["factor"][1:].tolist() == pytest.approx([0.0 if proof else 0.7 for proof in proofs])


@pytest.mark.parametrize("loop", [compiled_loop, compiled_gumbel], ids=["sums", "means"])
def test_the_compiled_mean_of_four_million_returns_is_their_mean(loop: Any) -> None:
    """float32 rounded to the nearest is off by more than 1e-3 here: what is added has errors of its own all one way."""
    rules = TicTacToe().rules
    back_up = built(loop, "back_up", rules, rules.rollout, ())

    @njit
    def back_up_all(nodes: np.ndarray, record: np.ndarray, returns: np.ndarray, visits: int) -> None:
        for i in range(visits):
            back_up(nodes, record, 0, returns[i % returns.shape[0]], 1.0)

    for returns in (np.random.default_rng(0).random(13), np.array([0.3]), np.array([-0.3, 0.1]), np.array([1.0, 0.0])):
        nodes, record = np.zeros(1, compiled_loop.COMPILED_NODE), np.zeros(1, compiled_loop.STEP)
        visits = (1 << 22) // len(returns) * len(returns)
        back_up_all(nodes, record, returns, visits)
        assert nodes["visits"][0] == visits
        assert nodes["value"][0] == pytest.approx(returns.mean(), abs=1e-5)
        if loop is compiled_loop and len(returns) == 2 and returns[0] == 1.0:
            assert nodes["value_sum"][0] == visits / 2


# ---- what is known of solved nodes, by hand ---------------------------------------------------------------------


def record(players: int = 1, zero_sum: bool = False, **options: Any) -> np.ndarray:
    return settings_record(flat_settings(**options), zero_sum=zero_sum, players=players)


def known(tree: Tree, child: int, player: int = 0, **options: Any) -> float:
    rules = record(tree.players, tree.zero_sum, **options)
    return float(_solved_return(tree._nodes, tree._values, rules, child, player))


def test_a_node_without_a_visit_is_known_by_what_was_kept_in_it_where_children_were_visited() -> None:
    tree = diamond((2, 0), (1.0, 0.0))
    tree._nodes["visits"][1:3] = 0
    tree._nodes["value_sum"][1:3] = 0.75, 0.25
    assert [known(tree, edge) for edge in (1, 2)] == [0.75, 0.75]  # the state's, whatever the edge has
    tree._nodes["visits"][1] = 4
    assert [known(tree, edge) for edge in (1, 2)] == [0.1875, 0.1875]


def test_of_a_state_that_was_never_visited_the_edge_tells_what_is_known_and_else_nothing() -> None:
    tree = diamond((0, 0), (0.0, 0.0))
    tree._nodes["visits"][1:3] = 0, 2
    tree._nodes["value_sum"][1:3] = 0.75, 0.5
    assert [known(tree, edge) for edge in (1, 2)] == [-np.inf, 0.25]
    tree._nodes["visits"][2] = 0
    assert known(tree, 2) == -np.inf


@pytest.mark.parametrize("failed", [1, 2])
def test_a_failed_edge_without_a_visit_is_none_and_one_with_visits_is_worth_their_mean(failed: int) -> None:
    tree = diamond((2, 3), (1.0, 1.5))
    tree._nodes["value_sum"][1] = 0.5
    tree._nodes["flags"][failed] |= FAILED
    assert known(tree, 2) == 0.5
    tree._nodes["visits"][2] = 0
    assert known(tree, 2) == -np.inf


@pytest.mark.parametrize("mover", [0, 1])
def test_what_is_known_of_a_shared_state_turns_round_for_an_edge_of_the_other_player(mover: int) -> None:
    """Nothing is proven of it, as where an action is missing; node 1 was chosen by ``mover`` at the root."""
    tree = Tree(None, "root", (), players=2, zero_sum=True)
    tree._nodes["player"][0] = mover
    tree.add_children(0, Children(["a", "b"], ["X", "Y"], np.array([0.5, 0.5]), [0.0] * 2, [0.0] * 2, [0, 0]))
    tree.add_children(2, Children(["c"], ["X"], np.ones(1), [0.0], [0.0], [0]))
    tree.link(3, 1)
    tree._nodes["visits"][1], tree._nodes["value_sum"][1] = 4, 1.0
    assert known(tree, 1, mover) == 0.25
    assert [known(tree, 3, player) for player in (mover, 1 - mover)] == [0.25, -0.25]
    tree._nodes["player"][0] = CHANCE  # counts for player 0
    assert [known(tree, 3, player) for player in (0, 1)] == [0.25, -0.25]


def test_an_end_is_known_by_its_reward_to_each_player() -> None:
    tree = Tree(None, "root", (), players=3)
    tree.add_children(
        0, Children(["a"], ["A"], np.ones(1), [0.0], np.array([[0.5, 0.25, 0.125]]), [ENDED | VALUED | SOLVED])
    )
    tree._values[1, :3] = 9.0
    assert [known(tree, 1, player) for player in range(3)] == [0.5, 0.25, 0.125]


@pytest.mark.parametrize("visits", [0, 1, 4])
def test_a_closed_state_is_worth_its_best_action_after_the_step_into_it(visits: int) -> None:
    """r + γ · max = ¼ + ½ · ¾; of the root the best alone. Without a visit the number itself is kept."""
    tree = Tree(None, "root", (), discount=0.5)
    tree.add_children(0, Children(["a"], ["A"], np.ones(1), [0.0], [0.25], [0]))
    tree.add_children(
        1,
        Children(
            ["b", "c", "d"],
            list("BCD"),
            np.full(3, 1 / 3),
            [0.0] * 3,
            [0.5, 0.75, -1.0],
            [ENDED | VALUED | SOLVED] * 3,
        ),
    )
    tree._nodes["visits"][:2], tree._nodes["visits"][2:5] = visits, 1
    rules = record(discount=0.5)
    assert [_settle(tree._nodes, tree._values, rules, node) for node in (1, 0)] == [True, True]
    assert tree._nodes["value_sum"][:2].tolist() == [max(visits, 1) * 0.625] * 2
    assert known(tree, 1, discount=0.5) == 0.625


def closed_for_three(mover: int, chooser: int, visits: int = 4, at: int = 1) -> Tree:
    """``chooser`` moved into a state where ``mover`` has three ends, the last two as good as each other for players 0
    and 1; ``at``: where that state stands, 0 the root."""
    tree = Tree(None, "root", (), players=3, discount=0.5)
    tree._nodes["player"][0] = mover if at == 0 else chooser
    if at:
        tree.add_children(
            0, Children(["a"], ["A"], np.ones(1), [0.0], np.array([[0.25, 0.5, 0.125]]), [0], players=[mover])
        )
    ends = np.array([[0.0, 0.0, 1.0], [0.5, 0.75, 0.25], [0.5, 0.75, 0.0]])
    tree.add_children(
        at, Children(list("bcd"), list("BCD"), np.full(3, 1 / 3), [0.0] * 3, ends, [ENDED | VALUED | SOLVED] * 3)
    )
    tree._nodes["visits"][: at + 1] = visits
    tree._values[at, :3] = 7.0
    tree._nodes["value_sum"][at] = 7.0
    return tree


@pytest.mark.parametrize(("mover", "best"), [(0, [0.5, 0.75, 0.25]), (1, [0.5, 0.75, 0.25]), (2, [0.0, 0.0, 1.0])])
@pytest.mark.parametrize("visits", [0, 1, 4])
@pytest.mark.parametrize("chooser", [0, 1, CHANCE])
def test_a_closed_state_of_several_players_is_worth_to_each_what_who_moves_takes(
    mover: int, best: list[float], visits: int, chooser: int
) -> None:
    tree = closed_for_three(mover, chooser, visits)
    rules = record(3, discount=0.5)
    assert _settle(tree._nodes, tree._values, rules, 1)
    expected = [max(visits, 1) * (r + 0.5 * v) for r, v in zip([0.25, 0.5, 0.125], best, strict=True)]
    assert tree._values[1].tolist() == [*expected, 0.25, 0.5, 0.125]
    assert tree._nodes["value_sum"][1] == expected[max(chooser, 0)]
    root = closed_for_three(mover, chooser, visits, at=0)
    assert _settle(root._nodes, root._values, rules, 0)
    assert root._values[0].tolist() == [max(visits, 1) * v for v in best] + [0.0] * 3
    assert root._nodes["value_sum"][0] == max(visits, 1) * best[mover]


@pytest.mark.parametrize("place", [1, 2, 3, 4])
def test_of_several_players_the_mean_stays_where_an_action_is_missing_or_failed(place: int) -> None:
    tree = closed_for_three(0, 1)
    tree._nodes["flags"][place] |= INCOMPLETE if place == 1 else FAILED
    assert _settle(tree._nodes, tree._values, record(3, discount=0.5), 1)
    assert tree.is_solved(1)
    assert (tree._values[1, :3].tolist(), tree._nodes["value_sum"][1]) == ([7.0] * 3, 7.0)


@pytest.mark.parametrize("failed", [4, 5])
def test_of_several_players_the_mean_stays_where_an_edge_or_the_state_that_it_leads_to_failed(failed: int) -> None:
    tree = closed_for_three(0, 1)
    tree.add_children(2, Children(["e"], ["E"], np.ones(1), [0.0], np.zeros((1, 3)), [ENDED | VALUED | SOLVED]))
    tree.link(4, 5)
    tree._nodes["flags"][failed] |= FAILED
    assert _settle(tree._nodes, tree._values, record(3, discount=0.5), 1)
    assert (tree._values[1, :3].tolist(), tree._nodes["value_sum"][1]) == ([7.0] * 3, 7.0)


@pytest.mark.parametrize("solved", [1, 2])
def test_a_state_is_settled_where_either_the_edge_or_its_state_is_solved(solved: int) -> None:
    tree = diamond((1, 1), (0.5, 0.25))
    tree.add_children(2 + 1, Children(["e"], ["E"], np.ones(1), [0.0], [0.0], [0]))
    tree.link(5, 1)
    assert not _settle(tree._nodes, tree._values, record(), 3)
    tree._nodes["flags"][5 if solved == 1 else 1] |= SOLVED
    assert _settle(tree._nodes, tree._values, record(), 3)


@pytest.mark.parametrize("never", [0, 1, 2])
def test_an_outcome_of_chance_that_never_comes_says_nothing_wherever_it_stands(never: int) -> None:
    tree = Tree(None, "root", (), players=2, zero_sum=True)
    tree._nodes["player"][0] = CHANCE
    tree.add_children(0, Children(list("abc"), list("ABC"), np.full(3, 0.5), [0.0] * 3, [0.0] * 3, [SOLVED] * 3))
    tree._nodes["proof"][1:4] = WIN
    tree._nodes["proof"][1 + never], tree._nodes["prior"][1 + never] = LOSS, 0.0
    assert _settle(tree._nodes, tree._values, record(2, True), 0)
    assert tree._nodes["proof"][0] == WIN
    other = 1 + (never + 1) % 3
    tree._nodes["proof"][[0, other]] = UNPROVEN, LOSS
    assert not _settle(tree._nodes, tree._values, record(2, True), 0)


# ---- the way up, by hand ----------------------------------------------------------------------------------------


def chain(players: int = 1, zero_sum: bool = False, **options: Any) -> Tree:
    """Root → 1 (reward ½, or for every player) → 2 (reward ¼)."""
    tree = Tree(None, "root", (), players=players, zero_sum=zero_sum, **options)
    for node, reward in ((0, 0.5), (1, 0.25)):
        rewards = np.full((1, players), reward) if tree._values.shape[1] else [reward]
        tree.add_children(node, Children(["a"], ["A"], np.ones(1), [0.0], rewards, [0]))
    return tree


def simulate(tree: Tree, leaf: int, value: Any, **options: Any) -> None:
    tree.mark_under_way(leaf)
    tree.back_up(leaf, value, record(tree.players, tree.zero_sum, solve=False, **options))


def test_the_best_return_of_several_is_kept_though_all_are_losses() -> None:
    tree = chain()
    for visits, (value, best) in enumerate([(-2.0, -2.0), (-3.0, -2.0), (-4.0, -2.0), (-1.0, -1.0)], start=1):
        simulate(tree, 2, value, backup="max")
        assert [tree.mean(node) for node in range(3)] == [0.75 + best, 0.75 + best, 0.25 + best]
        assert tree.visits(2) == visits


@pytest.mark.parametrize(("players", "zero_sum"), [(1, False), (2, True), (3, False)])
def test_the_bounds_of_a_trees_values_are_those_of_its_actions(players: int, zero_sum: bool) -> None:
    """The root's own value is that of no action. With opposed players each value is seen from both sides."""

    def bounds(normalise: str, *steps: tuple[int, float]) -> tuple[float, float]:
        tree = chain(players, zero_sum)
        for leaf, value in steps:
            told = value if players < 3 else np.array([value, 0.0, 0.0])
            simulate(tree, leaf, told, normalise=normalise)
        return float(tree._head["low"][0]), float(tree._head["high"][0])

    assert bounds("tree", (0, 5.0)) == bounds("no", (2, 5.0)) == (np.inf, -np.inf)
    assert bounds("tree", (0, 9.0), (2, 1.0)) == ((-1.75, 1.75) if zero_sum else (1.25, 1.75))
    assert bounds("tree", (1, 1.0), (1, 4.0)) == ((-3.0, 3.0) if zero_sum else (1.5, 3.0))


@pytest.mark.parametrize("backup", ["mean", "bellman", "bellman_max", "minimax"])
def test_where_one_number_is_kept_of_players_who_are_not_opposed_no_sign_changes(backup: str) -> None:
    tree = chain(3, one_number=True)
    tree._nodes["player"][:2] = 1
    simulate(tree, 2, 1.0, backup=backup)
    assert [tree.mean(node) for node in range(3)] == [1.75, 1.75, 1.25]


def test_of_equal_answers_of_one_player_the_others_get_what_the_first_holds() -> None:
    tree = Tree(None, "root", (), players=2)
    tree.add_children(0, Children(["a", "b"], ["A", "B"], np.array([0.5, 0.5]), [0.0] * 2, np.zeros((2, 2)), [0, 0]))
    for leaf, value in ((1, (0.5, 3.0)), (2, (0.5, 1.0))):
        simulate(tree, leaf, np.array(value), backup="minimax")
    assert tree.returns(0).tolist() == [0.5, 3.0]


@pytest.mark.parametrize("players", [1, 3])
def test_a_state_that_was_valued_is_neither_busy_nor_failed_any_more(players: int) -> None:
    tree = chain(players)
    tree._nodes["flags"][2] |= BUSY | FAILED | INVALID
    simulate(tree, 2, 1.0 if players == 1 else np.ones(3))
    assert int(tree._nodes["flags"][2]) == INVALID
    assert not tree.nodes["pending"].any()


def test_a_simulation_that_is_forgotten_leaves_its_path_as_it_was() -> None:
    tree = chain()
    before = tree.nodes.copy()
    for path in (None, np.array([0, 1, 2], np.int32)):
        tree.mark_under_way(2)
        tree._nodes["flags"][2] |= BUSY
        tree.release(2, path)
        assert tree.nodes.tobytes() == before.tobytes()


@pytest.mark.parametrize("leaf", [0, 1, 2])
def test_a_leaf_that_failed_is_closed_unless_it_is_the_root(leaf: int) -> None:
    """What stands above it keeps the mean that it had."""
    tree = chain()
    tree.nodes["visits"][:], tree.nodes["value_sum"][:] = [4, 3, 0], [2.0, 1.5, 0.0]
    tree.mark_under_way(leaf)
    tree._nodes["flags"][leaf] |= BUSY
    tree.take_back(leaf, record())
    assert tree.nodes["value_sum"].tolist() == [2.0, 1.5, 0.0]
    assert not tree.nodes["pending"].any()
    assert int(tree._nodes["flags"][leaf]) == FAILED | (SOLVED if leaf else 0) | (EXPANDED if leaf < 2 else 0)
    assert [tree.is_solved(node) for node in range(3)] == [leaf > 0, leaf > 0, leaf == 2]


# ---- room -------------------------------------------------------------------------------------------------------


def test_the_room_of_a_tree_is_counted_in_bytes_and_grows_by_doubling() -> None:
    one, path = 40, 256 * 4
    assert NodeArrays(0).array_bytes == one + path
    plain, several = NodeArrays(8), NodeArrays(8, 3, vector=True)
    assert (plain.players, several.players) == (1, 3)
    for room, (further, rows) in enumerate([(7, 8), (8, 16), (15, 16), (16, 32), (99, 100)]):
        plain.reserve(further)
        several.reserve(further)
        assert plain.array_bytes == rows * one + path, room
        assert several.array_bytes == rows * (one + 6 * 8) + path, room


def test_who_moves_after_many_actions_is_player_0_unless_told_and_nobody_at_an_end() -> None:
    tree = Tree(None, None, ())
    count = 5_000
    tree.add_children(
        0, Children([""] * count, [None] * count, np.ones(count), [0.0] * count, [0.0] * count, [0] * count)
    )
    assert not tree.nodes["player"].any()
    tree.add_children(
        1, Children(list("abc"), [None] * 3, np.ones(3), [0.0] * 3, [0.0] * 3, [0] * 3, players=[CHANCE, -2, 1])
    )
    assert tree.nodes["player"][-3:].tolist() == [CHANCE, 0, 1]
