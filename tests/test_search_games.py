"""Search in games: solved games, transpositions, re-rooting, stops, files."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flat_settings import flat_settings
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from branchwise.envs.games.kuhn_poker import KuhnPoker
from branchwise.envs.games.leduc_poker import LeducPoker
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.simulator import CHANCE, TERMINAL, Simulator
from branchwise.search.answers import action, child_table, principal_variation
from branchwise.search.engine import Root, SearchSettings, extend, search
from branchwise.search.evaluation import Leaf, Mixed, RandomRollout, Repeated, ValueFunction
from branchwise.search.graph import outline, to_dot, to_networkx
from branchwise.search.rules.options import Uct
from branchwise.search.store import load_trees, save_trees
from branchwise.search.trees.nodes import LINKED
from branchwise.search.trees.tree import Tree


def zero(simulator: Any, state: Any, transcript: Any) -> float:
    return 0.0


def grown(simulator: Simulator[Any], state: Any, seed: int = 0, **options: Any) -> Tree:
    settings = flat_settings(**{"simulations": 200, "selection": "uct", "exploration": 1.0, **options})
    [tree] = search(
        simulator, [Root(state, (), {"seed": 0})], None, RandomRollout(), settings, [np.random.default_rng(seed)]
    )
    return tree


# ---- two players ------------------------------------------------------------------------------------------------


def exact(simulator: Simulator[Any], state: Any, known: dict[Any, float]) -> float:
    """The value of a state for player 0, by looking at everything."""
    if state not in known:
        mover = simulator.current_player(state)
        if mover == TERMINAL:
            known[state] = simulator.rewards(state)[0]
        else:
            below = [
                exact(simulator, simulator.step(state, move), known) for move in simulator.legal_actions(state) or ()
            ]
            known[state] = max(below) if mover == 0 else min(below)
    return known[state]


def test_tic_tac_toe_is_proven_and_played_right_from_every_fiftieth_position() -> None:
    simulator = TicTacToe()
    known: dict[Any, float] = {}
    exact(simulator, simulator.reset(0), known)
    positions = [state for state in known if simulator.current_player(state) != TERMINAL][::50]
    settings = SearchSettings(simulations=3000, selection=Uct(exploration=1.0))
    roots = [Root(state) for state in positions]
    for root, tree in zip(roots, search(simulator, roots, None, ValueFunction(zero), settings), strict=True):
        mover = simulator.current_player(root.state)
        worth = known[root.state] * (1 if mover == 0 else -1)
        if tree.is_solved():
            assert tree.proof(0) == {1.0: "win", 0.0: "draw", -1.0: "loss"}[worth]
        played = simulator.step(root.state, tree.best_action())
        assert known[played] * (1 if mover == 0 else -1) == worth


def test_a_win_in_one_ends_the_search() -> None:
    simulator = TicTacToe()
    state = simulator.reset(0)
    for place in (0, 3, 1, 4):
        state = simulator.step(state, (simulator.legal_actions(simulator.reset(0)) or ())[place])
    tree = grown(simulator, state, simulations=1000)
    assert tree.proof(0) == "win"
    assert tree.stopped == "solved"
    assert tree.counters["simulations"] < 50


def test_a_game_with_other_pay_offs_is_not_solved_by_proofs() -> None:
    class Double(TicTacToe):
        def rewards(self, state: Any) -> tuple[float, ...]:
            return tuple(2 * reward for reward in super().rewards(state))

    with pytest.raises(ValueError, match=r"pays \(.*2.*solve=False"):
        grown(Double(), Double().reset(0), simulations=2000)


# ---- transpositions ---------------------------------------------------------------------------------------------


class Grid(Simulator[tuple[int, int]]):
    """Steps right or up on a grid of 4 by 4: many ways to one place. Reward 1 at the far corner after x ≥ y ways."""

    def __init__(self, distinct: bool = False) -> None:
        self.distinct = distinct

    def reset(self, seed: int, options: Any = None) -> Any:
        return ("", 0, 0) if self.distinct else (0, 0)

    def current_player(self, state: Any) -> int:
        return TERMINAL if state[-2] + state[-1] >= 6 else 0

    def observation(self, state: Any, player: int = 0) -> str:
        return str(state[-2:])

    def legal_actions(self, state: Any) -> list[str]:
        return ["right", "up"]

    def step(self, state: Any, action: str) -> Any:
        x, y = state[-2] + (action == "right"), state[-1] + (action == "up")
        return (state[0] + action[0], x, y) if self.distinct else (x, y)

    def rewards(self, state: Any) -> tuple[float, ...]:
        return (float(state[-2] == 4 and state[-1] == 2),)


def test_a_graph_equals_the_tree_where_nothing_is_transposed() -> None:
    simulator = Grid(distinct=True)
    for options in ({"selection": "uct"}, {"selection": "puct", "leaves_per_tree": 3}, {"backup": "bellman"}):
        plain, graph = (grown(simulator, simulator.reset(0), transpositions=on, **options) for on in (False, True))
        assert plain.nodes.tobytes() == graph.nodes.tobytes()
        assert graph.counters["transpositions"] == 0


@settings_of_hypothesis(max_examples=25, deadline=None)
@given(
    simulations=st.integers(1, 120),
    selection=st.sampled_from(["puct", "uct", "ucb1"]),
    backup=st.sampled_from(["mean", "bellman", "bellman_max"]),
    leaves=st.integers(1, 4),
    solve=st.booleans(),
)
def test_a_graph_counts_visits_by_its_edges(
    simulations: int, selection: Any, backup: Any, leaves: int, solve: bool
) -> None:
    simulator = Grid()
    tree = grown(
        simulator,
        (0, 0),
        transpositions=True,
        simulations=simulations,
        selection=selection,
        backup=backup,
        leaves_per_tree=leaves,
        solve=solve,
    )
    places = [
        state for node, state in enumerate(tree.states) if not tree.is_terminal(node) and not tree.has(node, LINKED)
    ]
    assert len(set(places)) == len(places)
    into: dict[int, int] = {}
    for node in range(1, len(tree)):
        into[tree.source(node)] = into.get(tree.source(node), 0) + tree.visits(node)
        assert tree.visits(node) == 0 or 0.0 <= tree.value(node) <= 1.0
    into[0] = tree.visits(0)
    for node in range(len(tree)):
        children = tree.children(node)
        if children and tree.source(node) == node and not tree.is_terminal(node):
            assert into[node] == 1 + sum(tree.visits(child) for child in children)
    assert not tree.nodes["pending"].any()


def test_a_graph_is_smaller_and_finds_the_same() -> None:
    plain, graph = (grown(Grid(), (0, 0), transpositions=on, simulations=400) for on in (False, True))
    assert len(graph) < len(plain)
    assert graph.best_action() == plain.best_action()
    assert to_networkx(graph).number_of_edges() > len(graph) - 1


# ---- re-rooting, files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transpositions", [False, True])
def test_a_child_becomes_the_root_and_the_rest_is_given_back(transpositions: bool) -> None:
    simulator = TicTacToe()
    tree = grown(simulator, simulator.reset(0), simulations=600, solve=False, transpositions=transpositions)
    child = tree.best_child()
    expected = {tree.actions[node]: (tree.visits(node), tree.value(node)) for node in tree.children(child)}
    visits, value, state, size, room = (
        tree.visits(child),
        tree.value(child),
        tree.states[child],
        len(tree),
        tree.array_bytes,
    )
    tree.reroot(child)
    assert (tree.visits(0), tree.states[0]) == (visits, state)
    assert tree.value(0) == pytest.approx(-value)
    assert {tree.actions[node]: (tree.visits(node), tree.value(node)) for node in tree.children(0)} == expected
    assert len(tree) < size
    assert tree.array_bytes < room / 2
    reached = {0}
    todo = [0]
    while todo:
        for node in tree.children(todo.pop()):
            if node not in reached:
                reached.add(node)
                todo.append(node)
    assert {tree.source(node) for node in reached} | reached == set(range(len(tree)))
    settings = SearchSettings(
        simulations=visits + 100, selection=Uct(exploration=1.0), solve=False, transpositions=transpositions
    )
    extend(simulator, [tree], None, RandomRollout(), settings)
    assert tree.visits(0) == visits + 100
    assert tree.transcript(0)[-1].text == simulator.observation(state, 1)


CONTINUED: list[tuple[Simulator[Any], dict[str, Any]]] = [
    (TicTacToe(), {"selection": "puct", "random_ties": True, "noise": 0.25}),
    (TicTacToe(), {"transpositions": True, "normalise": "tree"}),
    (TicTacToe(), {"selection": "gumbel", "solve": False}),
    (KuhnPoker(), {"information": "multiple_observer", "solve": False}),
    (LeducPoker(), {"information": "single_observer", "solve": False}),
]


@pytest.mark.parametrize(("simulator", "options"), CONTINUED)
def test_saved_loaded_and_continued_is_uninterrupted(
    simulator: Simulator[Any], options: dict[str, Any], tmp_path: Path
) -> None:
    start = simulator.reset(0)
    moves = []
    while simulator.current_player(start) == CHANCE:
        moves.append(simulator.chance_outcomes(start)[0][0])
        start = simulator.step(start, moves[-1])

    class Dealt(type(simulator)):  # type: ignore[misc]
        def reset(self, seed: int, options: Any = None) -> Any:
            return start

    dealt = Dealt()
    settings = {"simulations": 150, "selection": "uct", "exploration": 1.0, **options}
    whole = grown(dealt, start, 3, **settings)
    plan = flat_settings(**settings)
    half = grown(dealt, start, 3, **{**settings, "max_nodes": 10})
    assert half.counters["simulations"] < 150
    save_trees(tmp_path / "half.parquet", [half])
    [loaded] = load_trees(tmp_path / "half.parquet", dealt)
    extend(dealt, [loaded], None, RandomRollout(), plan)
    assert loaded.nodes.tobytes() == whole.nodes.tobytes()
    assert loaded.actions == whole.actions


# ---- stops and failures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"max_nodes": 50}, "max_nodes"),
        ({"max_model_calls": 30}, "max_model_calls"),
        ({"max_bytes": 200_000}, "max_bytes"),
        ({"seconds": 0.05}, "seconds"),
        ({"stop_decided": True, "simulations": 400, "exploration": 0.05}, "decided"),
    ],
)
def test_a_search_stops_where_it_is_told(options: dict[str, Any], reason: str) -> None:
    simulator = TicTacToe()
    settings = flat_settings(
        **{"simulations": 100_000, "selection": "uct", "exploration": 1.0, "solve": False, **options}
    )
    [tree] = search(
        simulator, [Root(simulator.reset(0))], None, ValueFunction(zero if reason != "decided" else first), settings
    )
    assert tree.stopped == reason
    if reason == "max_nodes":
        assert 50 <= len(tree) < 70
    if reason == "max_bytes":
        assert tree.array_bytes < 200_000


def first(simulator: Any, state: Any, transcript: Any) -> float:
    """Likes the first square for player 0."""
    return 0.9 if str(simulator.observation(state, 0)).count("x") and state[0] & 1 else -0.9


def test_a_call_that_takes_too_long_costs_its_leaf() -> None:
    class Slow:
        calls = 0

        def evaluate(self, leaves: Sequence[Leaf]) -> np.ndarray:
            if leaves[0].node == 2:
                time.sleep(0.5)
            return np.zeros((len(leaves), 2))

    simulator = TicTacToe()
    settings = SearchSettings(simulations=12, call_seconds=0.1)
    [tree] = search(simulator, [Root(simulator.reset(0))], None, Slow(), settings)
    assert tree.counters["failed_leaves"] == 1
    assert "no answer within call_seconds=0.1" in tree.last_error


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"selection": "gumbel"}, "solve=False"),
        ({"selection": "softmax", "transpositions": True}, "plain tree"),
        ({"information": "single_observer", "backup": "bellman"}, "backup='mean'"),
        ({"unvisited_value": "infinite", "normalise": "tree"}, "bounds"),
        ({"fpu_value": 0.2}, "fpu_value=0.2 is read under"),
        ({"information": "single_observer", "unvisited_value": "reduced", "fpu_value": 0.2}, "information sets"),
        ({"proposals_by_depth": (4, 0)}, "at least 1"),
        ({"seconds": 0.0}, "more than 0"),
    ],
)
def test_contradicting_settings_are_refused_with_the_reason(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        flat_settings(**options)


def test_a_critic_that_is_missing_or_not_read_is_refused() -> None:
    simulator = TicTacToe()
    with pytest.raises(ValueError, match="pass critic="):
        grown(simulator, simulator.reset(0), critic_weight=0.5)
    with pytest.raises(ValueError, match="use 'minimax'"):
        grown(simulator, simulator.reset(0), backup="max")


_INTERRUPTED = """
import sys, numpy as np
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.search.engine import Root, SearchSettings, search
from branchwise.search.evaluation import RandomRollout
simulator = TicTacToe()
said = []


def progress(*_):
    if not said:
        said.append(print("searching", flush=True))


settings = SearchSettings(simulations=10_000_000, solve=False)
roots = [Root(simulator.reset(0), (), {"seed": 0})]
search(simulator, roots, None, RandomRollout(), settings, progress=progress, autosave=sys.argv[1])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_leaves(number: signal.Signals, tmp_path: Path) -> None:
    target = tmp_path / "trees.parquet"
    process = subprocess.Popen(
        [sys.executable, "-c", _INTERRUPTED, str(target)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "searching\n"
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    [tree] = load_trees(target, TicTacToe())
    assert tree.visits(0) == tree.counters["simulations"] > 0


# ---- reading ----------------------------------------------------------------------------------------------------


def test_the_answer_is_read_in_every_form() -> None:
    simulator = TicTacToe()
    tree = grown(simulator, simulator.reset(0), solve=False)
    table = child_table(tree)
    assert sum(row.visits for row in table) == 199
    assert table[0].action == action(tree, "visits") == tree.best_action()
    assert action(tree, "temperature", 0.0) == table[0].action
    rng = np.random.default_rng(0)
    drawn = [action(tree, "temperature", 1.0, rng) for _ in range(3000)]
    assert drawn.count(table[0].action) / 3000 == pytest.approx(table[0].share, abs=0.03)
    line = principal_variation(tree)
    assert line[0] == tree.best_child()
    assert [tree.parent(node) for node in line[1:]] == line[:-1]
    assert outline(tree).startswith("  200")
    assert to_dot(tree).startswith("digraph tree {")
    assert to_dot(tree).count("->") == to_dot(tree).count("label=") - 1


def test_values_of_all_players_are_kept_in_general_sum_games() -> None:
    class Share(Simulator[str]):
        """Player 0 takes a share of one; player 1 accepts, or both get nothing but a tenth."""

        players = 2

        def reset(self, seed: int, options: Any = None) -> str:
            return ""

        def current_player(self, state: str) -> int:
            return min(len(state), 2) if len(state) < 2 else TERMINAL

        def observation(self, state: str, player: int = 0) -> str:
            return state

        def legal_actions(self, state: str) -> list[str]:
            return ["3", "5", "9"] if not state else ["y", "n"]

        def step(self, state: str, action: str) -> str:
            return state + action

        def rewards(self, state: str) -> tuple[float, ...]:
            if len(state) < 2:
                return (0.0, 0.0)
            mine = int(state[0]) / 10
            return (mine, 1 - mine) if state[1] == "y" else (0.1, 0.2)

    tree = grown(Share(), "", simulations=600, backup="minimax", selection="puct")
    assert tree.best_action("value") == "5"
    five = next(node for node in tree.children(0) if tree.actions[node] == "5")
    assert tree.returns(five) == pytest.approx([0.5, 0.5])


def test_evaluators_are_repeated_and_mixed() -> None:
    simulator = TicTacToe()
    leaf = Leaf(simulator, simulator.reset(0), (), False, np.random.default_rng(0))
    many = Repeated(RandomRollout(), 400).evaluate([leaf, leaf])
    assert many.shape == (2, 2)
    assert many[:, 0] == pytest.approx([0.585 - 0.288] * 2, abs=0.12)  # x wins 58.5 % at random, o 28.8 %
    mixed = Mixed(ValueFunction(lambda *_: 1.0), ValueFunction(zero), 0.25).evaluate([leaf])
    assert mixed.tolist() == [[0.25, -0.25]]


def test_what_was_searched_to_the_end_is_worth_what_each_player_takes() -> None:
    """General sum: three steps, each player for itself; a tree that is closed answers as backward induction does, not
    by the means of what was tried."""
    pays = {"00": (3.0, 1.0), "01": (0.0, 2.0), "10": (2.0, 0.0), "11": (1.0, 0.5), "20": (9.0, 0.0), "21": (0.5, 0.25)}

    class Choices(Simulator[str]):
        players = 2

        def reset(self, seed: int, options: Any = None) -> str:
            return ""

        def current_player(self, state: str) -> int:
            return len(state) if len(state) < 2 else TERMINAL

        def observation(self, state: str, player: int = 0) -> str:
            return state

        def legal_actions(self, state: str) -> list[str]:
            return list("01" if state else "012")

        def step(self, state: str, action: str) -> str:
            return state + action

        def rewards(self, state: str) -> tuple[float, ...]:
            return pays.get(state, (0.0, 0.0))

    tree = grown(Choices(), "", simulations=100)
    assert tree.is_solved()
    assert tree.best_action() == "1"  # player 1 answers 0 with 1 (0 for player 0), 1 with 1 (1), 2 with 1 (0.5)
