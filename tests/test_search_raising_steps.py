"""An action whose step raises costs itself alone, whether all actions of a node are stepped into at once or each when a
simulation first reaches it."""

from typing import Any

import numpy as np
import pytest
from flat_settings import flat_settings
from random_numbers import digest, uniform
from toys import RandomGame

from branchwise.envs.games.kuhn_poker import KuhnPoker
from branchwise.envs.simulator import CHANCE, Simulator
from branchwise.search.engine import Root, SearchSettings, SearchStopped, search
from branchwise.search.trees.nodes import FAILED, INFORMATION
from branchwise.search.trees.tree import Tree


class Raising(RandomGame):
    """All actions of a state but one raise. No position repeats, so that ``revisit`` says when actions are stepped into
    (False: all at once), and changes nothing else."""

    def step(self, state: Any, action: str) -> Any:
        if action[0] == "a" and int(action[1]) != digest("possible", state) % len(self.legal_actions(state)):
            raise KeyError(action)
        return super().step(state, action)


OPTIONS: list[dict[str, Any]] = [
    {"selection": "uct", "exploration": 1.4},
    {"selection": "puct", "noise": 0.25},
    {"selection": "puct", "leaves_per_tree": 4},
    {"selection": "ucb1", "unvisited_value": "infinite", "backup": "minimax"},
    {"selection": "softmax"},
    {"selection": "uct_bonus", "whole_tree": True, "bonus_terms": ("early_depth", "finished")},
]


class Maze(Simulator[str]):
    """Four actions a step, three steps; of them one is possible."""

    players = 1

    def __init__(self, *possible: str) -> None:
        self.possible = possible

    def reset(self, seed: int, options: Any = None) -> str:
        return ""

    def current_player(self, state: str) -> int:
        return 0 if len(state) < 3 else -2

    def observation(self, state: str, player: int = 0) -> str:
        return state

    def legal_actions(self, state: str) -> list[str]:
        assert len(state) < 3
        return list("abcd")

    def step(self, state: str, action: str) -> str:
        if action not in self.possible:
            raise KeyError(action)
        return state + action

    def rewards(self, state: str) -> tuple[float]:
        return (float(state.count("b")) if len(state) == 3 else 0.0,)


class Judge:
    """The value of a state is a number drawn for it."""

    reads_transcripts = False

    def evaluate(self, leaves: Any) -> np.ndarray:
        found = np.array([[uniform("value", leaf.state, 0)] for leaf in leaves])
        players = leaves[0].simulator.players
        return found if players == 1 else np.hstack([found, -found, 0.0 * found])[:, :players]


def grown(simulator: Any, revisit: bool, state: Any, **options: Any) -> Tree:
    settings = flat_settings(**{"simulations": 60, "solve": False, "revisit": revisit, **options})
    [tree] = search(simulator, [Root(state)], None, Judge(), settings, [np.random.default_rng(1)])
    return tree


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("game", [(1, False, False), (2, True, True), (3, False, True)], ids=str)
def test_a_step_that_raises_costs_the_same_whether_it_is_made_at_once_or_when_it_is_reached(
    game: tuple[int, bool, bool], options: dict[str, Any]
) -> None:
    if options["selection"] in ("softmax", "uct_bonus") and game[2]:
        pytest.skip("a draw among all nodes knows no chance")
    for seed in range(4):
        simulator = Raising(*game)
        lazy, at_once = (grown(simulator, revisit, simulator.reset(seed), **options) for revisit in (True, False))
        assert lazy.counters["failed_leaves"] == at_once.counters["failed_leaves"] == 0
        assert lazy.counters["simulations"] == at_once.counters["simulations"] == lazy.visits(0)
        assert lazy.actions == at_once.actions
        for name in ("parent", "children", "visits", "value_sum", "prior", "pending"):
            np.testing.assert_array_equal(lazy.nodes[name], at_once.nodes[name], name)
        tried = lazy.nodes["flags"] & FAILED != 0
        assert (at_once.nodes["flags"][tried] & FAILED).all()
        assert lazy.counters["failed_actions"] == tried.sum()


@pytest.mark.parametrize("revisit", [True, False])
def test_three_of_four_actions_that_raise_cost_no_simulation(revisit: bool) -> None:
    tree = grown(Maze("b"), revisit, "", solve=True)
    assert tree.counters["failed_leaves"] == 0
    assert tree.best_action() == "b"
    assert [tree.visits(child) for child in tree.children()] == [0, tree.visits(0) - 1, 0, 0]
    assert revisit or tree.last_error == "the simulator failed: KeyError: 'd'"  # the last of those tried at once
    assert not tree.nodes["player"].any()
    assert tree.counters["failed_actions"] == (tree.nodes["flags"] & FAILED != 0).sum()  # each once


def test_ties_beside_an_action_that_raises_are_broken_evenly() -> None:
    """Of b, c and d, where a raises: 1,200 draws, each within five standard deviations (16.3) of 400."""
    drawn = []
    for seed in range(1_200):
        settings = SearchSettings(simulations=2, random_ties=True, revisit=True)
        [tree] = search(Maze("b", "c", "d"), [Root("")], None, Judge(), settings, seed)
        drawn += [tree.actions[child] for child in tree.children() if tree.visits(child)]
    assert len(drawn) == 1_200
    assert all(abs(drawn.count(action) - 400) < 5 * 16.3 for action in "bcd")


def test_a_draw_that_met_an_action_that_raises_is_made_again_with_the_same_number() -> None:
    """One number a simulation but the root's, whatever fails."""
    tree = grown(Maze("b", "c"), True, "", selection="softmax", simulations=6)
    assert tree.counters["failed_actions"] > 0
    assert tree.visits(0) == 6
    assert tree.rng.random() == np.random.default_rng(1).random(6)[-1]


def test_a_node_of_which_every_action_raises_costs_a_leaf() -> None:
    with pytest.raises(SearchStopped, match=r"1 of 2 leaves failed.*KeyError: 'd'") as stopped:
        grown(Maze(), True, "", max_failed_share=0.3)
    assert stopped.value.trees[0].counters["failed_leaves"] == 1
    assert stopped.value.trees[0].counters["failed_actions"] == 4


def test_an_outcome_of_chance_that_raises_costs_its_leaf() -> None:
    class Torn(RandomGame):
        def step(self, state: Any, action: str) -> Any:
            if action == "o0":
                raise KeyError(action)
            return super().step(state, action)

    simulator = Torn(1, False, True)
    tree = grown(simulator, True, simulator.reset(0), max_failed_share=0.9)
    assert tree.counters["failed_leaves"] > tree.counters["failed_actions"] > 0


@pytest.mark.parametrize("information", ["single_observer", "multiple_observer"])
def test_an_action_that_raises_costs_no_leaf_in_a_tree_of_information_sets(information: Any) -> None:
    class NoBets(KuhnPoker):
        def step(self, state: Any, action: str) -> Any:
            if action == "bet":
                raise KeyError(action)
            return super().step(state, action)

    simulator = NoBets()
    state = simulator.reset(0)
    while simulator.current_player(state) == CHANCE:
        state = simulator.step(state, simulator.chance_outcomes(state)[0][0])
    tree = grown(simulator, True, state, information=information)
    assert tree.counters["failed_leaves"] == 0
    failed = tree.nodes["flags"] & FAILED != 0
    assert tree.counters["failed_actions"] == failed.sum() > 0
    assert {tree.actions[node] for node in np.flatnonzero(failed)} == {"bet"}
    assert tree.visits(0) == 60
    for node in range(len(tree)):  # each simulation but the first took another action in the place of one that raised
        if tree.has(node, INFORMATION) and tree.children(node):
            assert tree.visits(node) == 1 + sum(tree.visits(edge) for edge in tree.children(node))


class NoWay(KuhnPoker):
    """Every step of a player raises, after so many moves."""

    def __init__(self, moves: int) -> None:
        super().__init__()
        self.moves = moves

    def step(self, state: Any, action: str) -> Any:
        if self.current_player(state) != CHANCE and len(state) >= self.moves:
            raise KeyError(action)
        return super().step(state, action)


def test_in_a_tree_of_information_sets_where_every_action_raises_each_simulation_but_the_first_costs_its_leaf() -> None:
    simulator = NoWay(0)
    state = KuhnPoker().step(KuhnPoker().step(KuhnPoker().reset(0), "Q"), "J")
    tree = grown(simulator, True, state, information="single_observer", simulations=8, max_failed_share=0.9)
    assert (tree.visits(0), tree.counters["failed_leaves"]) == (1, 7)
    assert tree.counters["failed_actions"] == 2
    assert "KeyError: 'check'" in tree.last_error or "KeyError: 'bet'" in tree.last_error
    assert not tree.nodes["pending"].any()
