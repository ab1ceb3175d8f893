"""Searches that go on: what may change, and what a tree of another search brings along."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flat_settings import changed, flat_settings
from numba import njit
from table_game import TableGame

from branchwise.envs.games.connect_four import ConnectFour
from branchwise.envs.games.kernels import CompiledRules
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.play.transcript import observed
from branchwise.envs.simulator import TERMINAL, Simulator
from branchwise.search import compiled
from branchwise.search.engine import Root, SearchSettings, SearchStopped, extend, search
from branchwise.search.evaluation import RandomRollout
from branchwise.search.extraction import best_path_pairs, best_paths
from branchwise.search.rules.gumbel import halving_plan
from branchwise.search.rules.options import Gumbel, Puct, Uct
from branchwise.search.trees.arrays import NodeArrays
from branchwise.search.trees.stepping import Refused


@pytest.mark.parametrize(
    "change",
    [{"discount": 0.5}, {"backup": "minimax"}, {"hide_outcome": True}, {"transpositions": True}, {"solve": False}],
)
def test_what_says_how_to_read_a_tree_stays_for_as_long_as_it_grows(change: dict[str, Any]) -> None:
    game, settings = TicTacToe(), SearchSettings(simulations=20)
    trees = search(game, [Root(game.reset(0))], None, lambda *_: 0.0, settings)
    [name] = change
    with pytest.raises(
        ValueError, match=f"tree 0 was grown with {name}=.*; go on with that, or search anew with {name}"
    ):
        extend(game, trees, None, lambda *_: 0.0, changed(settings, simulations=40, **change))
    [tree] = extend(game, trees, None, lambda *_: 0.0, changed(settings, simulations=40, exploration=1.0))
    assert tree.visits(0) == 40


def test_a_tree_grown_without_the_solver_proves_nothing_by_ends_that_are_no_wins() -> None:
    """Both ends pay half a point, of which a fresh search with the solver says that it cannot prove them."""
    table = {"root": (0, {"a": ("end", (0.5, -0.5)), "b": ("end", (-0.5, 0.5))})}
    game = TableGame(table, players=2, zero_sum=True)
    without = SearchSettings(simulations=10, solve=False)
    trees = search(game, [Root(game.reset(0))], None, lambda *_: [0.0, 0.0], without)
    with pytest.raises(ValueError, match=r"grown with solve=False, .* search anew with solve=True"):
        extend(game, trees, None, lambda *_: [0.0, 0.0], replace(without, simulations=20, solve=True))
    [tree] = extend(game, trees, None, lambda *_: [0.0, 0.0], replace(without, simulations=200))
    assert (tree.proof(0), tree.best_action()) == ("", "a")
    assert 0.4 < tree.value(0) <= 0.5


GUMBEL = {"selection": "gumbel", "considered": 4}
BONUS = {"selection": "uct_bonus", "bonus_terms": ("early_depth",)}
CRITIC = {"critic_weight": 0.5}


class _Likes:
    def values(self, transcripts: Any, candidates: Any) -> list[np.ndarray]:
        return [np.full(len(actions), 0.25) for actions in candidates]


def _going_on(game: Any, trees: list[Any], **options: Any) -> list[Any]:
    critic = _Likes() if "critic_weight" in options or options.get("unvisited_value") == "prior" else None
    settings = flat_settings(**{"solve": False, **options})
    if trees:
        return extend(game, trees, None, lambda *_: 0.0, settings, critic=critic)
    return search(game, [Root(game.reset(0))], None, lambda *_: 0.0, settings, critic=critic)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (GUMBEL, CRITIC, "a critic"),
        ({}, CRITIC, "a critic"),
        (BONUS, {"unvisited_value": "prior"}, "a critic"),
        ({}, BONUS, "selection='uct_bonus'"),
        (GUMBEL, BONUS, "selection='uct_bonus'"),
        ({}, {"widening": 1.0}, "widening"),
        ({"normalise": "siblings"}, {"normalise": "tree"}, "normalise='tree'"),
    ],
)
def test_a_rule_whose_numbers_the_nodes_lack_does_not_go_on_with_them(
    before: dict[str, Any], after: dict[str, Any], words: str
) -> None:
    """A critic's opinion, a bonus and Gumbel's value of the state are kept in one place beside a node; widening takes
    children as sorted by their prior; the bounds of values are kept while they are read."""
    game = TicTacToe()
    trees = _going_on(game, [], simulations=20, **before)
    with pytest.raises(ValueError, match=f"tree 0 was grown without {words}, .* search anew with {words}"):
        _going_on(game, trees, simulations=40, **after)


@pytest.mark.parametrize("change", [{"discount": 0.5}, {"backup": "minimax"}])
def test_a_root_that_was_valued_says_already_how_it_is_read(change: dict[str, Any]) -> None:
    game = TicTacToe()
    trees = _going_on(game, [], simulations=1)
    with pytest.raises(ValueError, match="tree 0 was grown with "):
        _going_on(game, trees, simulations=40, **change)


@pytest.mark.parametrize("change", [{"discount": 0.5}, {"normalise": "tree"}, CRITIC, BONUS, GUMBEL, {"widening": 1.0}])
def test_a_tree_of_which_all_failed_goes_on_by_any_settings(change: dict[str, Any]) -> None:
    def raising(*_: Any) -> float:
        raise ConnectionError("gone")

    game = TicTacToe()
    with pytest.raises(SearchStopped) as stopped:
        search(game, [Root(game.reset(0))], None, raising, SearchSettings(simulations=3, solve=False))
    [tree] = _going_on(game, list(stopped.value.trees), simulations=40, **{"max_failed_share": 0.1, **change})
    assert (tree.counters["failed_leaves"], tree.visits(0)) == (3, 37)


def test_a_gumbel_tree_that_has_had_its_simulations_is_given_back() -> None:
    """Whatever its plan was: there is nothing left to plan."""
    game = TicTacToe()
    trees = _going_on(game, [], **GUMBEL, simulations=60)
    before = trees[0].nodes.tobytes()
    [tree] = _going_on(game, trees, **{**GUMBEL, "considered": 2}, simulations=60)
    assert tree.nodes.tobytes() == before
    tree.reroot(max(tree.children(), key=tree.visits))
    before = tree.nodes.tobytes()
    [tree] = _going_on(game, [tree], **GUMBEL, simulations=tree.counters["simulations"])
    assert tree.nodes.tobytes() == before
    assert tree.stopped == "simulations"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (GUMBEL, {}),
        (CRITIC, {}),
        (BONUS, {}),
        (CRITIC, {"unvisited_value": "prior"}),
        ({"widening": 1.0}, {"widening": 2.0}),
        ({"normalise": "tree"}, {"normalise": "siblings"}),
    ],
)
def test_a_rule_that_reads_less_or_the_same_goes_on(before: dict[str, Any], after: dict[str, Any]) -> None:
    game = TicTacToe()
    trees = _going_on(game, [], simulations=20, **before)
    assert _going_on(game, trees, simulations=40, **after)[0].visits(0) == 40


def test_a_root_that_another_rule_valued_is_none_for_gumbel() -> None:
    """Completed values start from what the evaluator said of the root, which only a Gumbel search keeps."""
    game = TicTacToe()
    trees = _going_on(game, [], simulations=1)
    with pytest.raises(ValueError, match="tree 0 was grown without selection='gumbel'"):
        _going_on(game, trees, simulations=40, **GUMBEL)


def test_a_gumbel_tree_that_another_rule_went_on_with_has_lost_its_plan() -> None:
    game = TicTacToe()
    plan = {**GUMBEL, "simulations": 100}
    trees = _going_on(game, [], **{**plan, "max_nodes": 60})
    assert trees[0].visits(0) < 50
    trees = _going_on(game, trees, simulations=50)
    assert not trees[0].has_gumbel()
    with pytest.raises(
        ValueError, match="searched by another rule, and the visits of its root's actions follow no plan"
    ):
        _going_on(game, trees, **plan)


@pytest.mark.parametrize(
    "change", [{"discount": 0.5}, {"solve": False}, {"unvisited_value": "infinite"}, {"unvisited_value": "parent"}]
)
def test_a_compiled_search_goes_on_as_it_began(change: dict[str, Any]) -> None:
    game = TicTacToe()

    @njit
    def value(state: Any, random: int) -> tuple[float, int]:
        return -0.25, random

    kernel = compiled.KernelEvaluator(value)
    settings = SearchSettings(simulations=6, selection=Puct(unvisited_value="zero", exploration=0.01))
    trees = compiled.search(game, [Root(game.reset(0))], None, kernel, settings)
    [name] = change
    with pytest.raises(ValueError, match=f"tree 0 was grown with {name}=.*; go on with that"):
        compiled.extend(trees, kernel, changed(settings, simulations=14, **change))  # type: ignore[arg-type]
    compiled.extend(trees, kernel, replace(settings, simulations=14))  # type: ignore[arg-type]
    assert trees[0].visits(0) == 14


def test_a_compiled_tree_that_goes_on_in_general_knows_its_ends() -> None:
    """7, 8 and 9 are a line: 9 wins."""
    game = TicTacToe()
    state = game.reset(0)
    for move in ("7", "1", "8", "2"):
        state = game.step(state, move)
    [small] = compiled.search(game, [Root(state)], settings=SearchSettings(simulations=3, selection="uct"))
    [tree] = extend(game, [small.to_tree()], None, RandomRollout(), SearchSettings(simulations=60, selection="uct"))
    nine = next(child for child in tree.children(0) if tree.actions[child] == "9")
    assert (tree.value(nine), tree.proof(nine), tree.proof(0)) == (1.0, "win", "win")
    assert tree.best_action() == "9"


@njit
def _two(state: Any, actions: Any) -> int:
    actions[0], actions[1] = 0, 1
    return 2


@njit
def _nothing(state: Any, random: int) -> tuple[float, int]:
    return 0.0, random


def _paying(early: float, late: float) -> "Simulator[Any]":
    @njit
    def stepped(state: Any, action: int) -> Any:
        over = state[0] == 1
        return (state[0] + 1,), late if over else early, over

    class Paying(Simulator[int]):
        players, zero_sum, never_repeats = 2, True, True
        rules = CompiledRules("paying", 2, 1, 2, 2, _two, stepped, _nothing, lambda state: (state,), str)

        def reset(self, seed: int, options: Any = None) -> int:
            return 0

        def current_player(self, state: int) -> int:
            return TERMINAL if state == 2 else state

        def observation(self, state: int, player: int = 0) -> str:
            return str(state)

        def legal_actions(self, state: int) -> list[str]:
            return ["0", "1"]

        def step(self, state: int, action: str) -> int:
            return state + 1

        def rewards(self, state: int) -> tuple[float, float]:
            paid = (0.0, early, -late)[state]
            return paid, -paid

    return Paying()


@pytest.mark.parametrize(("early", "late"), [(0.0, 3.0), (0.0, 0.5), (0.25, 1.0)])
def test_both_engines_refuse_to_prove_what_is_neither_win_draw_nor_loss(early: float, late: float) -> None:
    game = _paying(early, late)
    settings = SearchSettings(simulations=20, selection="uct")
    for find in (search, compiled.search):
        with pytest.raises(Refused, match=r"solve=True proves wins, draws and losses, and .* set solve=False"):
            find(game, [Root(0)], None, RandomRollout(), settings)
        [tree] = find(game, [Root(0)], None, RandomRollout(), replace(settings, solve=False, simulations=400))
        assert tree.value(0) == pytest.approx(early - late, abs=0.05)


@pytest.mark.parametrize("discount", [1.0, 0.5])
def test_compiled_and_general_trees_prove_alike_with_and_without_a_discount(discount: float) -> None:
    game = TicTacToe()
    state = game.reset(0)
    for move in ("1", "2", "4", "7", "5", "9"):
        state = game.step(state, move)

    @njit
    def value(state: Any, random: int) -> tuple[float, int]:
        return 0.0, random

    settings = SearchSettings(simulations=300, selection=Uct(), discount=discount)
    kernel = compiled.KernelEvaluator(value)
    [fast] = compiled.search(game, [Root(state)], None, kernel, settings)
    [slow] = search(game, [Root(state)], None, kernel, settings)
    assert [fast.visits(n) for n in fast.children(0)] == [slow.visits(n) for n in slow.children(0)]
    assert fast.proof(0) == slow.proof(0) == ("win" if discount == 1.0 else "")
    assert fast.value(0) == pytest.approx(slow.value(0), abs=1e-5)


def test_a_gumbel_tree_that_goes_on_deeper_counts_the_visits_of_children() -> None:
    """Nodes at the depth limit were valued again and again before they have children."""
    game = ConnectFour()

    @njit
    def value(state: Any, random: int) -> tuple[float, int]:
        return float(state[0] % 7 - state[1] % 5) / 8.0, random

    kernel = compiled.KernelEvaluator(value)
    shallow = SearchSettings(simulations=30, selection=Gumbel(gumbel_scale=0.0, considered=1), solve=False, max_depth=1)
    deep, roots = replace(shallow, simulations=90, max_depth=20), [Root(game.reset(0))]
    [quick] = compiled.search(game, roots, None, kernel, shallow)
    [tree] = search(game, roots, None, kernel, shallow)
    quick.settings = deep  # as if both had been planned for 90 and stopped at 30: one action is considered throughout
    plan = halving_plan(np.full(7, 1 / 7), 1, 90).tolist()
    tree.take_beside_nodes({**tree.beside_nodes(), "considered": plan})
    compiled.extend([quick], kernel, deep)  # type: ignore[arg-type]
    extend(game, [tree], None, kernel, deep)
    below = [[each.visits(n) for n in each.children(each.children(0)[0])] for each in (quick, tree)]
    assert sum(below[0]) == 59
    assert below[0] == below[1]


def test_a_path_is_worth_what_it_pays_who_moves_at_the_root() -> None:
    game = TicTacToe()
    settings = SearchSettings(simulations=3_000, selection="uct")
    [tree] = search(game, [Root(game.reset(0), (observed("root"),))], None, RandomRollout(), settings)
    ends = [node for node in range(len(tree)) if tree.visits(node) and tree.is_terminal(node)]
    assert {tree.path_return(node) for node in ends} >= {-1.0, 1.0}
    assert all(tree.path_return(node) == game.rewards(tree.states[node])[0] for node in ends)
    rows, _ = best_paths(tree, paths=3)
    assert {tree.player(row.node) for row in rows} == {0}
    assert {tree.player(pair.node) for pair in best_path_pairs(tree)[0]} <= {0, 1}


def test_of_three_players_a_path_pays_who_moves_at_the_root() -> None:
    table = {
        "root": (1, {"a": ("next", (0.5, 0.25, 0.0))}),
        "next": (2, {"b": ("end", (1.0, 2.0, 4.0)), "c": ("stop", (0.0, 8.0, 1.0))}),
    }
    game = TableGame(table, players=3)
    [tree] = search(game, [Root(game.reset(0), (observed("root"),))], None, lambda *_: [0.0] * 3, SearchSettings())
    assert [tree.path_return(node) for node in range(4)] == [0.0, 0.25, 2.25, 8.25]
    assert [row.chosen[0].text for row in best_paths(tree)[0]] == ["a"]


def test_draws_do_not_depend_on_how_numpy_prints() -> None:
    def noise(threshold: int, state: Any) -> int:
        arrays = NodeArrays(4)
        with np.printoptions(threshold=threshold):
            arrays.seed_noise(np.random.Generator(state))
        return int(arrays._head["noise"][0])

    assert noise(2, np.random.Philox(3)) == noise(1_000, np.random.Philox(3)) != noise(2, np.random.Philox(4))
    assert noise(2, np.random.MT19937(3)) != noise(2, np.random.MT19937(4))


def test_of_several_players_an_action_that_failed_is_known_to_be_none() -> None:
    table = {
        "root": (0, {"a": ("A", (0, 0, 0)), "b": ("end", (0.5, 0, 0))}),
        "A": (1, {"c": ("stop", (1, 0, 0))}),
    }

    def judge(simulator: Any, state: Any, transcript: Any) -> list[float]:
        return [float("nan") if state[0] == "A" else 0.0] * 3

    game = TableGame(table, players=3)
    [tree] = search(game, [Root(game.reset(0))], None, judge, SearchSettings(max_failed_share=1.0))
    assert tree.known_returns().tolist() == [-np.inf, 0.5]
    assert tree.policy_target()[1].tolist() == [0.0, 1.0]
    assert tree.best_action() == "b"
