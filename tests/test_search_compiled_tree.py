"""Compiled trees as things to keep: going on, moving, reading, merging and turning them into general ones."""

import math
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from compiled_search import Maze, assert_same_as_general, maze_value
from flat_settings import flat_settings

from branchwise.envs.games.connect_four import ConnectFour
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.simulator import TERMINAL
from branchwise.search import compiled
from branchwise.search.compiled import CompiledTree, KernelEvaluator
from branchwise.search.compiled.loop import COMPILED_NODE, OVER, PROVEN_DRAW, PROVEN_LOSS, PROVEN_WIN, SOLVED
from branchwise.search.compiled.tree import merged
from branchwise.search.engine import Root
from branchwise.search.rules.gumbel import halving_plan
from branchwise.search.rules.options import Uct
from branchwise.search.settings import SearchSettings
from branchwise.search.trees.nodes import EXPANDED, VALUED

# ---- trees as things to keep -----------------------------------------------------------------------------------------


def grown(simulations: int, seed: int = 0) -> CompiledTree:
    game = TicTacToe()
    settings = SearchSettings(simulations=simulations, selection=Uct(exploration=2**0.5), random_ties=True)
    [tree] = compiled.search(game, [Root(game.reset(0))], None, None, settings, np.random.default_rng(seed))
    assert isinstance(tree, CompiledTree)
    return tree


def test_going_on_from_a_pickled_tree_equals_one_search() -> None:
    half = pickle.loads(pickle.dumps(grown(700)))
    whole = grown(1500)
    compiled.extend([half], settings=whole.settings)
    assert np.array_equal(half.nodes, whole.nodes)
    assert half.random == whole.random


def test_visits_of_children_add_up_and_records_are_small() -> None:
    tree = grown(3000)
    assert COMPILED_NODE.itemsize == 24
    reached = 0
    for node in range(len(tree)):
        children = tree.children(node)
        reached += len(children)
        if len(children):
            assert 1 + sum(tree.visits(child) for child in children) == tree.visits(node)
        assert not tree.visits(node) or -1.0 <= tree.value(node) <= 1.0
    assert reached == len(tree) - 1


def test_rerooting_keeps_what_is_below_and_goes_on() -> None:
    tree = grown(1500)
    action = tree.best_action()
    child = tree.best_child()
    visits, value = tree.visits(child), tree.value(child)
    below = {tree.action(node): tree.visits(node) for node in tree.children(child)}
    tree.reroot(action)
    assert tree.visits() == visits
    assert tree.value() == pytest.approx(-value, abs=1e-5)
    assert {tree.action(node): tree.visits(node) for node in tree.children()} == below
    assert tree.simulator.current_player(tree.state) == 1
    compiled.extend([tree])
    assert tree.visits() == 1500 or tree.is_solved()


def test_a_compiled_tree_becomes_a_tree() -> None:
    tree = grown(500)
    other = tree.to_tree()
    assert other.best_action() == tree.best_action()
    assert other.transcript(5)
    actions, shares = tree.policy_target()
    theirs, their_shares = other.policy_target()
    assert actions == theirs
    assert np.allclose(shares, their_shares)
    assert_same_as_general(tree, 0, other, 0)


def test_limits_stop_a_tree() -> None:
    game = ConnectFour()
    for limit in ({"max_nodes": 5_000}, {"max_bytes": 120_000}, {"seconds": 0.05}):
        settings = flat_settings(simulations=1 << 23, selection="uct", exploration=2**0.5, random_ties=True, **limit)  # type: ignore[arg-type]
        [tree] = compiled.search(game, [Root(game.reset(0))], None, None, settings)
        assert isinstance(tree, CompiledTree)
        assert tree.stopped == next(iter(limit))
        assert limit == {"seconds": 0.05} or 3_000 < len(tree) <= 5_000
    with pytest.raises(ValueError, match="at most 2"):
        compiled.search(game, [Root(game.reset(0))], None, None, SearchSettings(simulations=1 << 25))


@pytest.mark.parametrize("limit", [{"max_nodes": 100}, {"max_bytes": 2_400}])
def test_a_tree_beyond_the_limit_of_a_later_search_stays_as_it_is(limit: dict[str, int]) -> None:
    tree = grown(60)
    before = tree.nodes.copy()
    assert len(tree) > 100
    compiled.extend([tree], settings=replace(tree.settings, simulations=2_000, **limit))  # type: ignore[arg-type]
    assert tree.stopped == next(iter(limit))
    assert tree.simulations == 60
    assert np.array_equal(tree.nodes, before)
    compiled.extend([tree], settings=replace(tree.settings, max_nodes=None, max_bytes=None))
    assert np.array_equal(tree.nodes, grown(2_000).nodes)


def test_a_solved_tree_is_solved_beyond_the_limit_too() -> None:
    game = TicTacToe()
    state = game.reset(0)
    for square in "517":
        state = game.step(state, square)
    settings = SearchSettings(simulations=5_000, selection=Uct(exploration=2**0.5), random_ties=True)
    [tree] = compiled.search(game, [Root(state)], None, None, settings)
    assert isinstance(tree, CompiledTree)
    assert tree.is_solved()
    assert len(tree) > 5
    compiled.extend([tree], settings=replace(settings, simulations=6_000, max_nodes=5))
    assert tree.stopped == "solved"


def test_threads_grow_the_same_trees_and_merge() -> None:
    game = TicTacToe()
    settings = SearchSettings(simulations=1000, selection=Uct(exploration=2**0.5), random_ties=True)
    roots = [Root(game.reset(0))] * 3
    alone = compiled.search(game, roots, None, None, settings, np.random.default_rng(1))
    together = compiled.search(game, roots, None, None, settings, np.random.default_rng(1), workers=2)
    assert all(np.array_equal(a.nodes, b.nodes) for a, b in zip(alone, together, strict=True))
    table = merged(together)  # type: ignore[arg-type]
    assert sum(visits for visits, _ in table.values()) == 3 * 999


# ---- reading and moving a compiled tree -----------------------------------------------------------------------------


def test_a_compiled_tree_says_what_it_cannot_answer() -> None:
    tree = grown(1)
    tree.task = {"seed": 5}
    assert repr(tree) == "CompiledTree(tic_tac_toe, nodes=1, visits=1, task={'seed': 5})"
    with pytest.raises(ValueError, match="the root has no children; search with at least two simulations"):
        tree.best_action()
    assert (tree.best_child(), tree.principal_variation(), tree.root_table()) == (-1, [], {})
    tree = grown(6)
    with pytest.raises(ValueError, match="final is 'most'; expected 'visits' or 'value'"):
        tree.best_child(0, "most")  # type: ignore[arg-type]
    once = next(child for child in tree.children() if tree.visits(child) and not tree.children(child))
    for action in (tree.action(once), "10"):
        with pytest.raises(ValueError, match=f"nothing was searched below '{action}'; search anew from the state"):
            tree.reroot(action)
    tree = grown(100)
    assert all(tree.children(child) for child in tree.children())
    with pytest.raises(ValueError, match="nothing was searched below '10'"):
        tree.reroot("10")


@pytest.mark.parametrize("selection", ["uct", "ucb1", "puct", "alphazero", "gumbel"])
def test_priors_are_equal(selection: Any) -> None:
    game = TicTacToe()
    settings = SearchSettings(simulations=40, selection=selection, solve=False)
    [tree] = compiled.search(game, [Root(game.reset(0))], None, None, settings)
    assert isinstance(tree, CompiledTree)
    if selection in ("puct", "alphazero", "gumbel"):
        assert tree.nodes["factor"][1:10].tolist() == pytest.approx([1 / 9] * 9)
    general = tree.to_tree()
    assert [general.prior(node) for node in (0, *general.children())] == pytest.approx([1.0, *[1 / 9] * 9])
    assert general.counters["simulations"] == 40


def maze_tree(discount: float, simulations: int = 60, exploration: float = 1.0) -> CompiledTree:
    settings = SearchSettings(simulations=simulations, selection=Uct(exploration=exploration), discount=discount)
    [tree] = compiled.search(Maze(), [Root(Maze().reset(3))], None, KernelEvaluator(maze_value), settings)
    assert isinstance(tree, CompiledTree)
    return tree


@pytest.mark.parametrize("discount", [1.0, 0.5])
def test_a_moved_compiled_tree_is_worth_what_its_state_is(discount: float) -> None:
    """V = (Q − r) / γ: without the reward of the step that led there."""
    tree = maze_tree(discount)
    child = [child for child in tree.children() if tree.children(child) and not tree.is_solved(child)][-1]
    assert int(tree.nodes["action"][child]) > 0
    after = Maze().step(tree.state, tree.action(child))
    assert after.reward > 0.0
    mean, visits = tree.mean(child), tree.visits(child)
    tree.stopped = "simulations"
    tree.reroot(tree.action(child))
    expected = (mean - after.reward) / discount
    assert (tree.state, tree.action(0), tree.stopped) == (after, "", "")
    assert tree.simulations == tree.visits() == visits
    assert tree.mean() == pytest.approx(expected, abs=1e-5)
    assert float(tree.nodes["value"][0]) == pytest.approx(expected, abs=1e-5)
    assert int(tree.nodes["action"][0]) == 0
    general = tree.to_tree()
    assert general.mean(0) == pytest.approx(expected, abs=1e-5)


def test_where_nothing_later_counts_a_moved_compiled_tree_keeps_its_mean() -> None:
    tree = maze_tree(0.0)
    child = next(child for child in tree.children() if tree.children(child))
    mean = tree.mean(child)
    tree.reroot(tree.action(child))
    assert tree.mean() == pytest.approx(mean, abs=1e-6)


def test_a_solved_child_that_becomes_the_root_stays_closed() -> None:
    tree = maze_tree(1.0, 4_000, exploration=1000.0)
    assert tree.is_solved()
    worse = next(child for child in tree.children() if np.isneginf(tree.nodes["value"][child]))
    tree.reroot(tree.action(worse))
    assert np.isneginf(tree.nodes["value"][0])
    assert tree.is_solved()
    visits = tree.visits()
    compiled.extend([tree], KernelEvaluator(maze_value), replace(tree.settings, simulations=visits + 50))
    assert tree.visits() == visits


def test_a_proof_changes_sides_with_the_root() -> None:
    """What is proven for who took an action is the opposite of what is proven for who moves after it."""
    game, seen = TicTacToe(), set()
    for squares in ("12473", "15", "125", "1473"):
        state = game.reset(0)
        for square in squares:
            state = game.step(state, square)
        settings = SearchSettings(simulations=20_000, selection="uct")
        [tree] = compiled.search(game, [Root(state)], None, None, settings)
        assert isinstance(tree, CompiledTree)
        general = tree.to_tree()
        named = {tree.action(child): tree.proof(child) for child in tree.children()}
        assert {general.actions[child]: general.proof(child) for child in general.children()} == named
        for action, proof in named.items():
            moved = pickle.loads(pickle.dumps(tree))
            if not proof or not moved.children(moved.children()[list(named).index(action)]):
                continue
            moved.reroot(action)
            assert moved.proof() == {"win": "loss", "draw": "draw", "loss": "win"}[proof]
            assert moved.value() == {"win": -1.0, "draw": 0.0, "loss": 1.0}[proof]
            assert moved.to_tree().proof() == moved.proof()
            seen.add(proof)
    assert seen == {"win", "draw", "loss"}


def test_merged_means_are_weighed_by_their_visits() -> None:
    few, many = grown(60, seed=1), grown(400, seed=2)
    assert not few.proof()
    table = merged([few, many])
    for action, (visits, value) in table.items():
        (one, low), (other, high) = few.root_table()[action], many.root_table()[action]
        assert visits == one + other
        assert value == pytest.approx((one * low + other * high) / visits)
    assert merged([]) == {}
    alone = grown(4)
    assert merged([alone]) == {
        action: (visits, value if visits else 0.0) for action, (visits, value) in alone.root_table().items()
    }


def test_a_proven_action_of_a_compiled_tree_is_worth_what_is_proven_unless_the_game_is_over_there() -> None:
    tree = grown(6)
    child = tree.children()[0]
    tree.nodes["visits"][child], tree.nodes["value_sum"][child] = 2, 1.0
    for flags, value in (
        (0, 0.5),
        (PROVEN_WIN, 1.0),
        (PROVEN_DRAW, 0.0),
        (PROVEN_LOSS, -1.0),
        (OVER | PROVEN_WIN, 0.5),
    ):
        tree.nodes["flags"][child] = flags
        assert (tree.value(child), tree.mean(child)) == (value, 0.5)
    tree.nodes["visits"][child] = 0
    assert math.isnan(tree.value(child))


def test_what_solved_moves_of_two_players_are_known_to_return() -> None:
    tree = grown(2)
    children = tree.children()
    tree.nodes["flags"][children.start : children.start + 3] = [
        SOLVED | proof for proof in (PROVEN_LOSS, PROVEN_DRAW, PROVEN_WIN)
    ]
    np.testing.assert_array_equal(tree.known_returns(), [-np.inf, 0.0, np.inf] + [np.nan] * 6)


def test_a_new_compiled_tree_is_the_first_of_its_search_and_of_no_task() -> None:
    game = TicTacToe()
    tree = CompiledTree(game, game.rules, game.reset(0), SearchSettings(), 5)
    assert (tree.index, tree.task, tree.simulations, tree.stopped, len(tree)) == (0, {}, 0, "", 1)


@pytest.mark.parametrize("selection", ["uct", "puct", "gumbel"])
def test_the_principal_variation_is_the_best_answer_each_time(selection: Any) -> None:
    game = TicTacToe()
    settings = SearchSettings(simulations=300, selection=selection, solve=False)
    [tree] = compiled.search(game, [Root(game.step(game.reset(0), "9"))], None, None, settings)
    assert isinstance(tree, CompiledTree)
    line, node = tree.principal_variation(), 0
    for move in line:
        visits = [tree.visits(child) for child in tree.children(node)]
        node = next(child for child in tree.children(node) if tree.action(child) == move)
        assert tree.visits(node) == max(visits) > 0
    assert line[0] == tree.best_action() != tree.action(tree.best_child(1))
    assert len(line) > 2
    assert not any(tree.visits(child) for child in tree.children(node))


@pytest.mark.parametrize("selection", ["uct", "gumbel"])
def test_a_move_keeps_every_line_below_it(selection: Any) -> None:
    """Four squares are free: below the move there are nodes of three children, of two and of one."""
    game = TicTacToe()
    state = game.reset(0)
    for square in "12354":
        state = game.step(state, square)
    settings = SearchSettings(simulations=100, selection=selection, solve=False)
    [tree] = compiled.search(game, [Root(state)], None, None, settings)
    assert isinstance(tree, CompiledTree)

    def lines(node: int, so_far: str = "") -> dict[str, tuple[int, bool]]:
        found = {so_far: (tree.visits(node), tree.is_terminal(node))}
        for child in tree.children(node):
            found |= lines(child, so_far + tree.action(child))
        return found

    child = max(tree.children(), key=lambda child: max(map(len, lines(child))))
    before = lines(child)
    assert max(map(len, before)) == (3 if selection == "uct" else 2)
    tree.reroot(tree.action(child))
    assert lines(0) == before
    assert len(before) == len(tree)
    assert len(tree.gumbel) == 0


@pytest.mark.parametrize("selection", ["uct", "gumbel"])
def test_a_tree_stops_at_a_limit_where_no_further_move_has_room(selection: Any) -> None:
    """A root, its nine moves, and the eight after one of them: a node with nine would not fit."""
    game = TicTacToe()
    settings = SearchSettings(simulations=200, selection=selection, solve=False, max_nodes=19, seconds=20.0)
    [tree] = compiled.search(game, [Root(game.reset(0))], None, None, settings)
    assert (tree.stopped, len(tree)) == ("max_nodes", 18)
    assert tree.visits(0) > 10


def test_the_only_move_has_all_of_the_prior() -> None:
    game = TicTacToe()
    state = game.reset(0)
    for square in "12354687":
        state = game.step(state, square)
    [tree] = compiled.search(game, [Root(state)], None, None, SearchSettings(simulations=3, solve=False))
    assert [float(tree.nodes["factor"][child]) for child in tree.children()] == [1.0]


@pytest.mark.parametrize("selection", ["uct", "gumbel"])
@pytest.mark.parametrize("simulator", [TicTacToe(), Maze()], ids=["game", "maze"])
def test_a_compiled_tree_becomes_a_tree_that_says_the_same_of_every_node(simulator: Any, selection: Any) -> None:
    state = simulator.reset(3)
    for action in ("1", "2", "3") if isinstance(simulator, TicTacToe) else ():
        state = simulator.step(state, action)
    settings = flat_settings(simulations=300, selection=selection, exploration=1.0, solve=selection != "gumbel")
    [tree] = compiled.search(simulator, [Root(state)], None, None, settings)
    assert isinstance(tree, CompiledTree)
    general, ends = tree.to_tree(), 0
    for node in range(len(tree)):
        assert general.has(node, EXPANDED) == (len(tree.children(node)) > 0)
        assert (general.is_solved(node), general.proof(node)) == (tree.is_solved(node), tree.proof(node))
        assert general.actions[node] == tree.action(node)
        assert list(general.children(node)) == list(tree.children(node)) or not len(tree.children(node))
        assert all(general.parent(child) == node for child in tree.children(node))
        assert int(general.nodes["first_child"][node]) == (tree.children(node)[0] if tree.children(node) else -1)
        if node:
            mover = simulator.current_player(general.states[general.parent(node)])
            assert general.nodes["reward"][node] == simulator.rewards(general.states[node])[mover]
        assert general.nodes["player"][node] == max(simulator.current_player(general.states[node]), 0)
        assert tree.visits(node) or general.nodes["value_sum"][node] == 0.0
        over = simulator.current_player(general.states[node]) == TERMINAL
        assert general.is_terminal(node) == general.has(node, VALUED) == over >= tree.is_terminal(node)
        ends += tree.is_terminal(node)
    assert ends > 5
    assert (general.parent(0), general.nodes["reward"][0]) == (-1, 0.0)
    assert general.settings == tree.settings.as_json()


@pytest.mark.parametrize("simulations", [2, 200])
def test_a_compiled_gumbel_tree_hands_on_its_draws_and_its_plan(simulations: int) -> None:
    game = TicTacToe()
    settings = SearchSettings(simulations=simulations, selection="gumbel", solve=False)
    [tree] = compiled.search(game, [Root(game.reset(0))], None, None, settings)
    assert isinstance(tree, CompiledTree)
    beside = tree.to_tree().beside_nodes()
    assert beside["gumbel"] == tree.gumbel.tolist()
    assert beside["considered"] == halving_plan(np.full(9, 1 / 9), 16, simulations).tolist()


def test_a_pruned_tree_keeps_the_numbers_of_what_is_left() -> None:
    tree = grown(1500)
    kept = tree.pruned(200)
    assert len(kept) < len(tree) / 5
    assert kept.root_table() == tree.root_table()
    visited = [child for child in kept.children(0) if kept.visits(child) >= 200]
    assert visited
    for child in kept.children(0):
        below = [(kept.action(node), kept.visits(node), kept.value(node)) for node in kept.children(child)]
        if child in visited:
            whole = next(node for node in tree.children(0) if tree.action(node) == kept.action(child))
            expected = [(tree.action(node), tree.visits(node), tree.value(node)) for node in tree.children(whole)]
            assert repr(below) == repr(expected)  # NaN where nothing was visited
        else:
            assert not below
    assert kept.to_tree().visits(0) == tree.visits(0)


def test_pruning_leaves_the_tree_itself_alone() -> None:
    tree = grown(700)
    before = tree.nodes.copy()
    assert len(tree.pruned(10**9)) == 10  # the root and the nine squares
    assert np.array_equal(tree.nodes, before)
