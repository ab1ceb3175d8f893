"""Selection and backup formulas against numbers computed by hand."""

import math

import numpy as np
import pytest

from branchwise.search.backup import action_return, visit_weighted_value
from branchwise.search.selection import mixed_prior, puct, ucb1, uct
from branchwise.search.tree import NODE, Tree


def test_ucb1_is_agent_q_equation_7() -> None:
    # N(parent) = e², N(child) = 3: sqrt(2 / 4) = 1/√2
    assert ucb1(0.25, 3.0, math.e**2, 2.0) == pytest.approx(0.25 + 2.0 / math.sqrt(2.0))


def test_ucb1_of_an_unvisited_child_is_finite() -> None:
    assert ucb1(0.0, 0.0, math.e, 1.0) == pytest.approx(1.0)


def test_uct_has_a_two_under_the_root_and_divides_by_the_visits() -> None:
    # sqrt(2 · ln(e²) / 4) = 1
    assert uct(0.5, 4.0, math.e**2, 0.7, 0.1) == pytest.approx(0.5 + 0.7)


def test_uct_takes_unvisited_children_first_and_by_prior() -> None:
    assert uct(0.0, 0.0, 10.0, 1.0, 0.1) > uct(1e6, 1.0, 10.0, 1e6, 1.0)
    assert uct(0.0, 0.0, 10.0, 1.0, 0.3) > uct(0.0, 0.0, 10.0, 1.0, 0.2)


def test_puct_is_alphazeros() -> None:
    # 2.5 · 0.2 · sqrt(16) / (1 + 3) = 0.5
    assert puct(0.125, 3.0, 16.0, 2.5, 0.2) == pytest.approx(0.625)


def test_puct_of_the_first_child_follows_the_prior_although_the_parent_has_no_visit() -> None:
    assert puct(0.0, 0.0, 0.0, 1.0, 0.6) > puct(0.0, 0.0, 0.0, 1.0, 0.4)


def test_mixed_prior_is_softmax_mixed_with_uniform() -> None:
    logps = np.log([0.5, 0.3, 0.2])
    assert mixed_prior(logps, 1.0, 0.0) == pytest.approx([0.5, 0.3, 0.2])
    assert mixed_prior(logps, 1.0, 0.3) == pytest.approx([0.45, 0.31, 0.24])
    sharp = np.array([0.25, 0.09, 0.04]) / 0.38
    assert mixed_prior(logps, 0.5, 0.0) == pytest.approx(sharp)
    assert mixed_prior(logps - 1000.0, 1.0, 0.0) == pytest.approx([0.5, 0.3, 0.2])
    assert mixed_prior(np.array([0.0, -np.inf]), 1.0, 0.2) == pytest.approx([0.9, 0.1])


def test_backup_formulas() -> None:
    assert action_return(0.25, 0.5, 3.0) == 1.75
    assert visit_weighted_value(3 * 0.5 + 1 * 1.0, 4.0) == 0.625


def test_a_node_takes_32_bytes() -> None:
    assert NODE.itemsize == 32


def chain(discount: float) -> Tree:
    """Root → a (reward 0.5) → b (reward 0.25), and a second child c of a."""
    tree = Tree(None, "root", (), discount=discount, capacity=1)
    tree.add_children(0, ["a"], ["A"], np.array([1.0]), [0.0], [0.5], [0])
    tree.add_children(1, ["b", "c"], ["B", "C"], np.array([0.5, 0.5]), [0.0, 0.0], [0.25, 0.0], [0, 0])
    return tree


def simulate(tree: Tree, leaf: int, value: float, rule: int, discount: float) -> None:
    for node in tree.path(leaf):
        tree._nodes[node]["pending"] += 1
    tree.back_up(leaf, value, rule, discount, False)


def test_mean_backup_by_hand() -> None:
    tree = chain(0.5)
    simulate(tree, 2, 1.0, 0, 0.5)  # b: 0.25 + 0.5 = 0.75, a: 0.5 + 0.375 = 0.875, root: its state's value, 0.875
    simulate(tree, 3, 0.0, 0, 0.5)  # c: 0, a: 0.5, root: 0.5
    assert [tree.value(node) for node in range(4)] == [0.6875, 0.6875, 0.75, 0.0]
    assert [tree.visits(node) for node in range(4)] == [2, 2, 1, 1]


def test_bellman_backup_by_hand() -> None:
    tree = chain(0.5)
    simulate(tree, 1, 8.0, 1, 0.5)  # a: 0.5 + 4 = 4.5: its own evaluation counts until a child is visited
    assert tree.value(1) == 4.5
    simulate(tree, 2, 1.0, 1, 0.5)  # b: 0.75, so V(A) = 0.75, a: 0.5 + 0.375
    assert tree.value(1) == 0.875
    simulate(tree, 3, 0.0, 1, 0.5)
    simulate(tree, 3, 0.0, 1, 0.5)  # V(A) = (1 · 0.75 + 2 · 0) / 3 = 0.25, a: 0.625, V(root) = 0.625
    assert [tree.value(node) for node in range(4)] == [0.625, 0.625, 0.75, 0.0]
    assert [tree.visits(node) for node in range(4)] == [4, 4, 1, 2]
