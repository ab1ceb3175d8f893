"""The simulator is stepped into a child when a simulation first reaches it, and the trees are those of a search that
steps into every child at once."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flat_settings import flat_settings
from toys import Many, RandomGame

from branchwise.envs.games.breakthrough import Breakthrough
from branchwise.envs.games.connect_four import ConnectFour
from branchwise.envs.games.kuhn_poker import KuhnPoker
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.play.transcript import observed
from branchwise.envs.simulator import Simulator
from branchwise.envs.views import SinglePlayerView
from branchwise.search.answers import principal_variation
from branchwise.search.engine import Root, SearchSettings, extend, search
from branchwise.search.evaluation import RandomRollout
from branchwise.search.graph import outline, to_networkx
from branchwise.search.store import load_trees, save_trees
from branchwise.search.trees.children import Children
from branchwise.search.trees.nodes import ENDED as OVER
from branchwise.search.trees.nodes import UNSTEPPED
from branchwise.search.trees.tree import Tree

GAMES: dict[str, Any] = {
    "tic_tac_toe": TicTacToe,
    "connect_four": ConnectFour,
    "one player": lambda: RandomGame(1, False, False),
    "zero sum, chance": lambda: RandomGame(2, True, True),
    "three players, chance": lambda: RandomGame(3, False, True),
    "a player's view": lambda: SinglePlayerView(TicTacToe()),
}
OPTIONS: list[dict[str, Any]] = [
    {"selection": "uct", "exploration": 1.4},
    {"selection": "uct", "solve": False, "random_ties": True},
    {"selection": "puct", "noise": 0.25, "leaves_per_tree": 4},
    {"selection": "alphazero", "unvisited_value": "zero", "normalise": "tree"},
    {"selection": "ucb1", "unvisited_value": "infinite", "backup": "minimax"},
    {"selection": "gumbel", "solve": False},
    {"selection": "softmax"},
    {"selection": "puct", "widening": 2.0, "max_depth": 3},
    {"selection": "uct_bonus", "whole_tree": True, "bonus_terms": ("early_depth", "finished")},
    {"selection": "puct", "transpositions": True, "revisit": False},
]


FIRST_LOOK = 1  # the step by which a search checks what a simulator promises


def grown(simulator: Any, simulations: int = 150, **options: Any) -> Tree:
    state = simulator.reset(0)
    while simulator.current_player(state) == -1:
        state = simulator.step(state, simulator.chance_outcomes(state)[0][0])
    settings = flat_settings(**{"simulations": simulations, "revisit": True, **options})
    [tree] = search(
        simulator, [Root(state, (), {"seed": 0})], None, RandomRollout(), settings, [np.random.default_rng(1)]
    )
    return tree


def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Step into every child when its parent is expanded, those of chance nodes too."""

    def add_children(self: Tree, node: int, *rest: Any) -> int:
        first = lazily(self, node, *rest)
        for child in range(first, self.size):
            if self.has(child, UNSTEPPED):
                self.step_into(child)
        return first

    lazily = Tree.add_children
    monkeypatch.setattr(Tree, "add_children", add_children)


def assert_same(found: Tree, expected: Tree) -> None:
    """Node by node: numbers and words of what was visited, actions and priors of all."""
    assert found.actions == expected.actions
    for name in ("parent", "first_child", "children", "visits", "value_sum", "prior", "hint", "pending", "proof"):
        np.testing.assert_array_equal(found.nodes[name], expected.nodes[name], name)
    seen = found.nodes["visits"] > 0
    for name in ("flags", "reward", "player"):
        np.testing.assert_array_equal(found.nodes[name][seen], expected.nodes[name][seen], name)
    np.testing.assert_array_equal(found.all_returns()[seen[: len(found.all_returns())]],
                                  expected.all_returns()[seen[: len(expected.all_returns())]])  # fmt: skip
    assert found.counters == expected.counters
    assert (found.stopped, found.best_action()) == (expected.stopped, expected.best_action())
    assert principal_variation(found) == principal_variation(expected)
    for node in np.flatnonzero(seen).tolist():
        assert found.states[node] == expected.states[node]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("game", GAMES)
def test_the_trees_are_those_of_stepping_into_every_child_at_once(
    game: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = GAMES[game]()
    if options["selection"] in ("softmax", "uct_bonus") and "chance" in game:
        pytest.skip("a draw among all nodes knows no chance")
    found = grown(simulator, **options)
    lazy = int((found.nodes["flags"] & UNSTEPPED != 0).sum())
    if "transpositions" in options:
        assert lazy == 0
    elif game in ("tic_tac_toe", "connect_four"):
        assert lazy > 0
    with monkeypatch.context() as patch:
        at_once(patch)
        expected = grown(simulator, **options)
    assert not (expected.nodes["flags"] & UNSTEPPED).any()
    assert_same(found, expected)
    for node in range(len(found)):  # and what was not visited is filled in when it is asked for
        assert found.states[node] == expected.states[node]
    for name in ("flags", "reward", "player"):
        np.testing.assert_array_equal(found.nodes[name], expected.nodes[name], name)


@pytest.mark.parametrize("game", [TicTacToe, ConnectFour, Breakthrough])
def test_a_game_that_never_repeats_has_the_same_trees_without_a_look_ahead(game: Any) -> None:
    simulator, looking = game(), game()
    looking.never_repeats = False
    found = grown(simulator, revisit=False)
    assert (found.nodes["flags"] & UNSTEPPED).any()
    assert_same(found, grown(looking, revisit=False))


class Counting:
    """Counts the steps of a simulator."""

    def __init__(self, simulator: Simulator[Any]) -> None:
        self._simulator, self.steps = simulator, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._simulator, name)

    def step(self, state: Any, action: str) -> Any:
        self.steps += 1
        return self._simulator.step(state, action)


class Zero:
    reads_transcripts = False

    def evaluate(self, leaves: Any) -> np.ndarray:
        return np.zeros((len(leaves), leaves[0].simulator.players))


@pytest.mark.parametrize("options", [{}, {"revisit": True}, {"selection": "gumbel", "solve": False}], ids=str)
def test_a_simulation_steps_once(options: dict[str, Any]) -> None:
    rules: Any = Counting(ConnectFour())
    settings = flat_settings(**{"simulations": 300, **options})
    [tree] = search(rules, [Root(rules.reset(0))], None, Zero(), settings)  # type: ignore[arg-type]
    assert rules.steps == int((tree.nodes["visits"] > 0).sum()) - 1 + FIRST_LOOK <= 300


def test_a_root_of_many_actions_steps_into_those_it_tries() -> None:
    rules: Any = Counting(Many(65_535))
    search(rules, [Root(-1)], None, Zero(), SearchSettings(simulations=20, revisit=True))  # type: ignore[arg-type]
    assert rules.steps == 19 + FIRST_LOOK


# ---- files, readers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"selection": "puct", "leaves_per_tree": 3}], ids=str)
def test_a_file_keeps_what_was_not_stepped_into_and_goes_on(options: dict[str, Any], tmp_path: Path) -> None:
    whole = grown(ConnectFour(), 200, revisit=False, **options)
    half = grown(ConnectFour(), 100, revisit=False, **options)
    save_trees(tmp_path / "trees.parquet", [half])
    rules: Any = Counting(ConnectFour())
    [tree] = load_trees(tmp_path / "trees.parquet", rules)
    assert rules.steps == int((tree.nodes["visits"] > 0).sum()) - 1
    settings = flat_settings(simulations=200, revisit=False, **options)
    extend(rules, [tree], None, RandomRollout(), settings)
    assert tree.nodes.tobytes() == whole.nodes.tobytes()


def test_a_tree_of_another_version_has_all_its_states(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Files without the flag, as they were written before: every node is replayed."""
    with monkeypatch.context() as patch:
        at_once(patch)
        save_trees(tmp_path / "trees.parquet", [grown(TicTacToe(), 40)])
    [tree] = load_trees(tmp_path / "trees.parquet", TicTacToe())
    assert None not in tree._states
    extend(TicTacToe(), [tree], None, RandomRollout(), SearchSettings(simulations=80, revisit=True))
    assert tree.visits(0) == 80


def test_readers_cope_with_children_that_were_never_tried(tmp_path: Path) -> None:
    simulator = TicTacToe()
    state = simulator.reset(0)
    for move in ("7", "1", "8", "2"):
        state = simulator.step(state, move)
    [tree] = search(simulator, [Root(state, (), {"seed": 0})], None, Zero(), SearchSettings(simulations=2))  # type: ignore[arg-type]
    untried = [child for child in tree.children() if not tree.visits(child)]
    assert len(untried) == 4
    assert all(tree.has(child, UNSTEPPED) for child in untried)
    assert "p=0.20" in outline(tree)
    assert len(to_networkx(tree)) == len(tree)
    save_trees(tmp_path / "trees.parquet", [tree])
    [alone] = load_trees(tmp_path / "trees.parquet")
    win = next(child for child in tree.children() if tree.actions[child] == "9")
    assert win in untried
    assert not alone.is_terminal(win), "without a simulator nobody can know"
    assert tree.is_terminal(win)
    assert tree.has(win, OVER)
    assert tree.player(win) == 0
    assert tree.transcript(win)[-1].text == simulator.observation(tree.states[win])
    assert tree.states[win] == simulator.step(state, "9")
    assert float(tree.nodes["reward"][win]) == 1.0


def test_a_child_whose_step_fails_when_it_is_read_says_so_and_stays_as_it_was() -> None:
    class Lost(TicTacToe):
        def step(self, state: Any, action: str) -> Any:
            if action == "9":
                raise KeyError("lost")
            return super().step(state, action)

    state = Lost().reset(0)
    [tree] = search(Lost(), [Root(state)], None, Zero(), SearchSettings(simulations=4, revisit=True))  # type: ignore[arg-type]
    child = next(child for child in tree.children() if tree.actions[child] == "9")
    before = tree.nodes[child].copy()
    with pytest.raises(KeyError, match="lost"):
        tree.states[child]
    assert tree.nodes[child] == before


def test_the_subtree_of_a_move_is_kept_with_what_it_has_not_tried() -> None:
    tree = grown(ConnectFour(), 120)
    tree.reroot(tree.best_child())
    assert (tree.nodes["flags"] & UNSTEPPED).any()
    extend(ConnectFour(), [tree], None, RandomRollout(), SearchSettings(simulations=200, revisit=True))
    assert tree.visits(0) == 200
    game = ConnectFour()
    for node in range(1, len(tree)):
        assert tree.states[node] == game.step(tree.states[tree.parent(node)], tree.actions[node])


def test_outcomes_of_chance_are_stepped_into_when_they_are_drawn() -> None:
    poker = KuhnPoker()
    rules: Any = Counting(SinglePlayerView(poker))
    state = rules.reset(0)
    [tree] = search(rules, [Root(state)], None, Zero(), SearchSettings(simulations=30))  # type: ignore[arg-type]
    assert rules.steps == int((tree.nodes["visits"] > 0).sum()) - 1 + FIRST_LOOK


def test_memory_of_states_is_counted_when_they_come() -> None:
    tree = grown(ConnectFour(), 100)
    early = tree.bytes_to_grow()
    assert len(list(tree.states)) == len(tree)
    assert tree.bytes_to_grow() > early


def test_states_are_read_like_a_list_and_made_when_they_are_read() -> None:
    tree, game = grown(ConnectFour(), 20), ConnectFour()
    last = len(tree) - 1
    assert tree.has(last, UNSTEPPED)
    made = game.step(tree.states[tree.parent(last)], tree.actions[last])
    assert tree.states[-1] == tree.states[last] == made
    with pytest.raises(IndexError):
        tree.states[len(tree)]
    assert not tree.has(last, UNSTEPPED)
    tree = grown(ConnectFour(), 20)
    assert tree.states[last - 2 :] == [tree.states[node] for node in (last - 2, last - 1, last)]
    assert tree.states[:2] == [tree.states[0], tree.states[1]]
    assert tree.states[3:0:-2] == [tree.states[3], tree.states[1]]
    assert tree.states[-1] == made
    assert len(tree.states) == len(tree)
    assert tree.states == list(tree.states)
    assert tree.states == grown(ConnectFour(), 20).states
    assert tree.states != list(tree.states)[:-1]
    assert tree.states != len(tree)


def test_without_its_simulator_a_tree_steps_into_nothing(tmp_path: Path) -> None:
    save_trees(tmp_path / "trees.parquet", [grown(ConnectFour(), 20)])
    [tree] = load_trees(tmp_path / "trees.parquet")
    last = len(tree) - 1
    with pytest.raises(ValueError, match=f"node {last} has no state yet; load the tree with its simulator to step"):
        tree.step_into(last)


def test_memory_is_counted_before_the_arrays_grow() -> None:
    """Half as much again is free after a growth: below 64 free nodes, or a twentieth, the next growth is counted."""

    def grows(size: int, free: int) -> bool:
        tree = Tree(None, None, (), capacity=size + free)
        count = size - 1
        if count:
            zeros = [0] * count
            tree.add_children(0, Children(["a"] * count, [None] * count, np.zeros(count), zeros, zeros, zeros))
        assert len(tree._nodes) == size + free
        words = sum(80 + sys.getsizeof(None) + sys.getsizeof(action) + 300 for action in tree.actions)
        arrays = tree.bytes_to_grow() - words
        assert arrays in (tree.array_bytes, 3 * tree.array_bytes)
        assert tree.bytes_to_grow() - words == arrays  # what was counted is not counted again
        return arrays > tree.array_bytes

    assert [grows(1, free) for free in (63, 64)] == [True, False]
    assert [grows(2000, free) for free in (99, 100)] == [True, False]


def test_memory_of_words_grows_with_the_roots_transcript() -> None:
    few, many = (Tree(None, None, (observed("go"),) * count).bytes_to_grow() for count in (1, 3))
    assert many - few == 2 * 16


def test_each_state_is_counted_once_whenever_it_comes_and_what_a_move_gives_back_no_more() -> None:
    game = ConnectFour()

    def words(tree: Tree) -> int:
        before = 16 * len(tree.transcript(0)) + 300
        return sum(
            80 + sys.getsizeof(state) + sys.getsizeof(action) + before
            for state, action in zip(tree._states, tree.actions, strict=True)
        )

    tree = Tree(game, game.reset(0), (observed("go"),), capacity=1000)
    assert tree.bytes_to_grow() - tree.array_bytes == words(tree)
    actions = game.legal_actions(tree.states[0])
    for node in (0, 1):
        tree.add_children(node, Children(actions, [None] * 7, np.full(7, 1 / 7), [0.0] * 7, [0.0] * 7, [UNSTEPPED] * 7))
        tree.step_into(tree.children(node)[0])  # the first that was not counted yet
        assert tree.bytes_to_grow() - tree.array_bytes == words(tree)
    before = tree.bytes_to_grow()
    tree.step_into(2)
    assert tree.bytes_to_grow() - before == sys.getsizeof(tree._states[2])
    tree.reroot(1)
    free = len(tree._nodes) - len(tree)
    assert tree.bytes_to_grow() - tree.array_bytes * (3 if free < 64 else 1) == words(tree)
