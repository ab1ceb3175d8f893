"""Loops of the kernels against sums by hand: which entries they take in, the first and the last included."""

import math
from typing import Any

import numpy as np
import pytest
from numba import njit

from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.search import compiled_gumbel, compiled_loop
from branchwise.search.ascent import _sums_of_children
from branchwise.search.compiled_build import built
from branchwise.search.descent import (
    _arrays_of_children,
    _bounds,
    _open_children,
    _started_visits,
    _state_value,
    _visited_prior,
    _visits_of_state,
)
from branchwise.search.nodes import LINKED, SHARED, SOLVED
from branchwise.search.selection import alphazero_exploration, mixed_prior, sibling_bounds, softmax_node, uct
from branchwise.search.settings import SearchSettings, walk_of
from branchwise.search.tree import Tree


def diamond(visits: tuple[int, ...], sums: tuple[float, ...]) -> Tree:
    """Root → 1 and 2; 2 is an edge to the state of 1, whose children from 3 on have these visits and value sums."""
    tree = Tree(None, "root", ())
    tree.add_children(0, ["a", "b"], ["X", "X"], np.array([0.5, 0.5]), [0.0, 0.0], [0.0, 0.0], [0, 0])
    tree.link(2, 1)
    count = len(visits)
    tree.add_children(
        1, ["c"] * count, ["Y"] * count, np.arange(1.0, count + 1), [0.0] * count, [0.0] * count, [0] * count
    )
    tree._nodes["visits"][3 : 3 + count] = visits
    tree._nodes["value_sum"][3 : 3 + count] = sums
    tree._nodes["visits"][1:3] = 1
    return tree


UCT = walk_of(SearchSettings(selection="uct", exploration=1.0, solve=False), zero_sum=False, players=1)


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


def test_uct_explores_below_a_shared_state_by_all_its_visits() -> None:
    # Q = 0.6 of 20 visits against 0.3 of one: at N = 22 the rarer child scores 0.3 + √(2 ln 22) = 2.79 against 1.16; a
    # state that counted as visited once would have ln 1 = 0, and never try it again
    tree = diamond((20, 1), (12.0, 0.3))
    assert uct(0.3, 1.0, 22.0, 1.0, 0.5) == pytest.approx(0.3 + math.sqrt(2 * math.log(22)))
    for rule in ("uct", "ucb1"):
        settings = SearchSettings(selection=rule, exploration=1.0, solve=False)  # type: ignore[arg-type]
        for edge in (1, 2):
            tree = diamond((20, 1), (12.0, 0.3))
            tree._nodes["value_sum"][edge] = 99.0  # the walk goes over this edge
            leaf, depth, _ = tree.select(walk_of(settings, zero_sum=False, players=1))
            assert (tree.path_taken(depth)[1], leaf) == (edge, 4)


def test_bounds_and_masses_are_over_all_children() -> None:
    tree = diamond((2, 0, 5, 1), (-4.0, 0.0, 5.0, 3.0))
    walk = walk_of(SearchSettings(normalise="siblings", solve=False), zero_sum=False, players=1)
    assert _bounds(tree._nodes, tree._head, walk, 1, 0.5) == (-2.0, 3.0)
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


@pytest.mark.parametrize(
    "logits",
    [
        [-np.inf, 0.0],
        [0.0, -np.inf, -np.inf],
        [-900.0, 0.0, 1.0],
        [3.0, -2.0, 0.5],
        [900.0, 899.0],
        [-901.0, -900.0, -902.0],
    ],
)
def test_the_compiled_softmax_is_the_prior_of_selection(logits: list[float]) -> None:
    room = np.array([*logits, 777.0])
    compiled_loop.softmax(room, len(logits), 0.7, 0.2)
    assert room[-1] == 777.0
    np.testing.assert_allclose(room[:-1], mixed_prior(np.array(logits), 0.7, 0.2), rtol=1e-12)
    assert room[:-1].sum() == pytest.approx(1.0)


@pytest.mark.parametrize("beyond", [9.0, -9.0])
def test_compiled_children_are_sorted_by_prior_and_equal_ones_keep_their_order(beyond: float) -> None:
    actions, priors = np.arange(6), np.array([0.1, 0.3, 0.1, 0.4, 0.3, beyond])
    compiled_loop.sort_by_prior(actions, priors, 5)
    assert actions.tolist() == [3, 1, 4, 0, 2, 5]
    assert priors.tolist() == [0.4, 0.3, 0.3, 0.1, 0.1, beyond]


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
    scale = built(compiled_loop, "exploration_scale", rules, rules.rollout, None, fixed)
    for visits in (1, 3, 50):
        expected = alphazero_exploration(visits, base, 1.25) * math.sqrt(visits)
        assert scale(visits, 1.25, base) == pytest.approx(expected, rel=1e-9)


def test_children_of_equal_prior_alone_change_places() -> None:
    """The second and third of three; what stands beyond them, with the same prior, is no child."""
    rules = TicTacToe().rules
    shuffle = built(compiled_loop, "shuffle_equals", rules, rules.rollout, None, ())
    orders = set()
    for random in range(40):
        nodes = np.asarray(records(action=[5, 6, 7, 8])).view(compiled_loop.COMPILED_NODE)
        shuffle(nodes, 1, np.array([0.5, 0.25, 0.25, 0.25]), 3, random * 1_000_003)
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
    back_up = built(loop, "back_up", rules, rules.rollout, None, ())

    @njit
    def back_up_all(nodes: np.ndarray, walk: np.ndarray, returns: np.ndarray, visits: int) -> None:
        for i in range(visits):
            back_up(nodes, walk, 0, returns[i % returns.shape[0]], 1.0)

    for returns in (np.random.default_rng(0).random(13), np.array([0.3]), np.array([-0.3, 0.1]), np.array([1.0, 0.0])):
        nodes, walk = np.zeros(1, compiled_loop.COMPILED_NODE), np.zeros(1, compiled_loop.STEP)
        visits = (1 << 22) // len(returns) * len(returns)
        back_up_all(nodes, walk, returns, visits)
        assert nodes["visits"][0] == visits
        assert nodes["value"][0] == pytest.approx(returns.mean(), abs=1e-5)
        if loop is compiled_loop and len(returns) == 2 and returns[0] == 1.0:
            assert nodes["value_sum"][0] == visits / 2
