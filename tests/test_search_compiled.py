"""The compiled search: against a slow twin in plain Python node by node, the general engine, exact solvers, mctx."""

import math
import pickle
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from compiled_search import (
    CostlyMaze,
    Maze,
    MazeState,
    assert_same_as_general,
    board_value,
    maze_legal_above_two,
    maze_value,
)
from flat_settings import changed, flat, flat_settings
from numba import njit

from branchwise.envs.games.board import BoardGame, BoardState
from branchwise.envs.games.connect_four import ConnectFour, has_four
from branchwise.envs.games.kernels import CompiledRules, next_random
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.play.policy import FunctionPolicy
from branchwise.envs.simulator import TERMINAL
from branchwise.search import compiled
from branchwise.search.compiled import CompiledTree, KernelEvaluator
from branchwise.search.compiled.engine import _Run
from branchwise.search.compiled.loop import exploration_scale
from branchwise.search.engine import Root
from branchwise.search.engine import search as general_search
from branchwise.search.evaluation import RandomRollout, ValueFunction
from branchwise.search.rules.options import AlphaZero, Gumbel, Puct, Ucb1, Uct
from branchwise.search.rules.selection import alphazero_exploration, puct, ucb1, uct
from branchwise.search.settings import SearchSettings
from branchwise.search.trees.tree import Tree

# ---- the twin -----------------------------------------------------------------------------------------------------


class TwinNode:
    def __init__(self, action: int = 0, prior: float = 1.0) -> None:
        self.action, self.prior = action, prior
        self.visits, self.value_sum = 0, 0.0
        self.children: list[TwinNode] = []
        self.over, self.solved, self.proof = False, False, 0  # proof for who chose: 1 loss, 2 draw, 3 win


@njit
def draw(random: int) -> tuple[int, int]:
    return next_random(random)


class Twin:
    """The loop of ``compiled_loop.py``, with objects, float64 and the formulas of ``selection.py``."""

    def __init__(self, rules: CompiledRules, root: Any, settings: SearchSettings, random: int, value: Any):
        self.rules, self.state, self.settings, self.random = rules, root, flat(settings), random
        self.value = value
        self.root = TwinNode()
        self.first = settings.rule.name == "uct" or settings.unvisited_value == "infinite"
        self.sign = -1.0 if rules.players == 2 else 1.0

    def run(self, simulations: int) -> TwinNode:
        for _ in range(simulations):
            if self.root.solved:
                break
            self.simulate()
        return self.root

    def index(self, count: int) -> int:
        self.random, bits = draw(self.random)
        return (bits % (1 << 64)) * count >> 64

    @staticmethod
    def exchange(here: TwinNode, there: TwinNode) -> None:
        here.action, there.action = there.action, here.action

    def expand(self, node: TwinNode, state: Any) -> None:
        codes = np.zeros(self.rules.max_actions, np.int64)
        count = self.rules.legal(state, codes)
        node.children = [TwinNode(int(code), 1.0 / count) for code in codes[:count]]

    def known(self, child: TwinNode) -> float:
        value = child.value_sum / child.visits
        return (value, -math.inf, 0.0, 1.0)[child.proof] if child.solved else value

    def score(self, node: TwinNode, child: TwinNode, parent_value: float) -> float:
        settings = self.settings
        value = self.known(child) if child.visits else parent_value
        if child.solved:  # the best of those that are solved is in the race
            best = max(node.children, key=lambda other: self.known(other) if other.solved else -math.inf)
            return value if child is best else -math.inf
        if not child.visits and settings.unvisited_value == "constant":
            value = settings.fpu_value
        elif not child.visits and settings.unvisited_value == "reduced":
            mass = sum(other.prior for other in node.children if other.visits)
            value -= settings.fpu_value * math.sqrt(mass)
        if settings.selection == "uct":
            return uct(value, child.visits, node.visits, settings.exploration, child.prior)
        if settings.selection == "ucb1":
            return ucb1(value, child.visits, node.visits, settings.exploration)
        c = settings.exploration
        if settings.selection == "alphazero":
            c = alphazero_exploration(node.visits, settings.exploration_base, c)
        return puct(value, child.visits, node.visits, c, child.prior)

    def choose(self, node: TwinNode, is_root: bool, reward: float) -> TwinNode:
        settings = self.settings
        unvisited = node.visits - 1
        if self.first and unvisited < len(node.children):
            if settings.random_ties:
                other = unvisited + self.index(len(node.children) - unvisited)
                self.exchange(node.children[unvisited], node.children[other])
            return node.children[unvisited]
        parent_value = 0.0
        if settings.unvisited_value in ("parent", "reduced"):
            parent_value = node.value_sum / node.visits
            if not is_root:
                parent_value = self.sign * (parent_value - reward) / settings.discount
        best, best_score, equals = node.children[0], -math.inf, 0
        for child in node.children:
            score = self.score(node, child, parent_value)
            if score > best_score:
                best, best_score, equals = child, score, 1
            elif score == best_score and settings.random_ties and not self.first:
                equals += 1
                if self.index(equals) == 0:
                    best = child
        return best

    def simulate(self) -> None:
        settings = self.settings
        node, state, path, rewards, over, reward = self.root, self.state, [self.root], [0.0], False, 0.0
        while not over:
            if not node.children:
                if node.visits == 0 or len(path) - 1 >= settings.max_depth:
                    break
                self.expand(node, state)
            node = self.choose(node, node is self.root, reward)
            state, reward, over = self.rules.step(state, node.action)
            path.append(node)
            rewards.append(reward)
        value = 0.0
        if over:
            node.over = True
            if settings.solve and (self.rules.players == 1 or settings.discount == 1.0):  # a proof says not how soon
                self.prove(path, reward)
        else:
            value, self.random = self.value(state, self.random)
        for i in range(len(path) - 1, -1, -1):
            node = path[i]
            if node.proof and not node.over:
                value = (node.proof - 2.0) * (1.0 if i == 0 else -1.0)
            if i:
                value = rewards[i] + settings.discount * self.sign * value
            node.visits += 1
            node.value_sum += value
            if node.solved and self.rules.players == 1:  # the best that is known below it
                best = max((child.value_sum / child.visits for child in node.children), default=0.0)
                node.value_sum = node.visits * (rewards[i] + settings.discount * best if i else best)

    def prove(self, path: list[TwinNode], reward: float) -> None:
        two = self.rules.players == 2
        path[-1].solved = True
        path[-1].proof = (2 + (reward > 0) - (reward < 0)) if two else 0
        for i in range(len(path) - 2, -1, -1):
            proofs = [child.proof if child.solved else -1 for child in path[i].children]
            if not (two and 3 in proofs) and -1 in proofs:
                return
            path[i].solved = True
            if two:
                path[i].proof = max(proofs) if i == 0 else 4 - max(proofs)


def assert_same(tree: CompiledTree, node: int, twin: TwinNode) -> int:
    """Hold the trees together below a node; returns how many nodes there are."""
    assert tree.visits(node) == twin.visits
    if twin.visits:
        assert tree.mean(node) == pytest.approx(twin.value_sum / twin.visits, abs=1e-5)
        proven = twin.proof and not twin.over
        assert tree.value(node) == (twin.proof - 2.0 if proven else tree.mean(node))
    assert tree.proof(node) == ("", "loss", "draw", "win")[twin.proof]
    assert tree.is_solved(node) == twin.solved
    assert tree.is_terminal(node) == twin.over
    children = tree.children(node)
    assert [int(tree.nodes[child]["action"]) for child in children] == [child.action for child in twin.children]
    return 1 + sum(assert_same(tree, child, other) for child, other in zip(children, twin.children, strict=True))


VARIANTS: dict[str, SearchSettings] = {
    "uct, random ties, proofs": SearchSettings(simulations=1500, selection=Uct(exploration=2**0.5), random_ties=True),
    "ucb1, zero, random ties": SearchSettings(
        simulations=1500, selection=Ucb1(exploration=1.0, unvisited_value="zero"), random_ties=True, solve=False
    ),
    "puct, parent, discounted": SearchSettings(simulations=1500, selection=Puct(exploration=1.5), discount=0.5),
    "alphazero, infinite": SearchSettings(
        simulations=1500, selection=AlphaZero(exploration=1.25, unvisited_value="infinite"), max_depth=4
    ),
    "puct, first play reduced": SearchSettings(
        simulations=1000, selection=Puct(exploration=1.5, unvisited_value="reduced", fpu_value=0.3)
    ),
    "ucb1, constant first play": SearchSettings(
        simulations=1000, selection=Ucb1(exploration=0.7, unvisited_value="constant", fpu_value=-0.25), max_depth=4
    ),
}


def kernels_for(simulator: Any, settings: SearchSettings) -> tuple[KernelEvaluator | None, Any]:
    """Roll-outs where they are compiled, else a value that the state decides."""
    if simulator.players == 2 and settings.discount == 1.0:
        return None, simulator.rules.rollout
    kernel = board_value if simulator.players == 2 else maze_value
    return KernelEvaluator(kernel), kernel


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("simulator", [TicTacToe(), Maze()], ids=["tic_tac_toe", "maze"])
def test_every_node_equals_the_twin(simulator: Any, variant: str) -> None:
    settings = VARIANTS[variant]
    evaluator, value = kernels_for(simulator, settings)
    for seed in range(3):
        state = simulator.reset(seed)
        generator = np.random.default_rng(seed)
        [tree] = compiled.search(simulator, [Root(state)], None, evaluator, settings, generator)
        assert isinstance(tree, CompiledTree)
        random = int(np.random.default_rng(seed).integers(1 << 62))
        twin = Twin(simulator.rules, simulator.rules.encode(state), settings, random, value)
        assert assert_same(tree, 0, twin.run(settings.simulations)) == len(tree)
        assert tree.random == twin.random


def test_actions_are_tried_in_random_order() -> None:
    """Nine actions and eight visits of children: each is left out by about one seed in nine."""
    game, left_out = TicTacToe(), set()
    settings = SearchSettings(simulations=9, selection="uct", random_ties=True)
    for seed in range(40):
        [tree] = compiled.search(game, [Root(game.reset(0))], None, None, settings, seed)
        left_out |= {tree.action(child) for child in tree.children() if not tree.visits(child)}  # type: ignore[union-attr]
    assert len(left_out) > 6


def test_scales_are_those_of_the_formulas() -> None:
    assert exploration_scale(50, 1.3, 19652.0) / math.sqrt(7) == pytest.approx(uct(0.0, 7, 50, 1.3, 0.1))


# ---- the general engine -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        SearchSettings(simulations=400, selection=Uct(exploration=1.0)),
        SearchSettings(simulations=400, selection=Ucb1(exploration=1.0, unvisited_value="zero")),
        SearchSettings(simulations=400, selection=Ucb1(exploration=1.0)),
        SearchSettings(simulations=400, selection=Ucb1(exploration=1.0, unvisited_value="infinite")),
        SearchSettings(simulations=400, selection=Puct(exploration=1.5, unvisited_value="zero"), discount=0.5),
        SearchSettings(simulations=400, selection=Puct(exploration=1.3), discount=0.0),
        SearchSettings(
            simulations=400, selection=Puct(exploration=1.5, unvisited_value="reduced", fpu_value=0.4), discount=0.5
        ),
        SearchSettings(
            simulations=400, selection=Puct(exploration=1.5, unvisited_value="constant", fpu_value=0.3), discount=0.5
        ),
        SearchSettings(simulations=400, selection=Gumbel(considered=4), solve=False),
        SearchSettings(
            simulations=400, selection=Gumbel(value_scale=0.7, maxvisit_init=9.0, rescale_values=False), solve=False
        ),
        SearchSettings(
            simulations=400, selection=Gumbel(value_scale=0.01, maxvisit_init=5.0, rescale_values=False), solve=False
        ),
    ],
    ids=lambda settings: str(settings.rule),
)
def test_the_general_engine_grows_the_same_tree_in_a_maze(settings: SearchSettings) -> None:
    game = Maze()
    root, evaluator = Root(game.reset(5)), KernelEvaluator(maze_value)
    [tree] = compiled.search(game, [root], None, evaluator, settings, [np.random.default_rng(2)])
    [other] = general_search(game, [root], None, evaluator, settings, [np.random.default_rng(2)])
    assert isinstance(tree, CompiledTree)
    assert_same_as_general(tree, 0, other, 0)
    assert tree.best_action() == other.best_action()


@njit
def no_value(state: tuple[int, int], random: int) -> tuple[float, int]:
    return 0.0, random


@pytest.mark.parametrize("kernel", [board_value, no_value], ids=["values", "all alike"])
@pytest.mark.parametrize("squares", ["", "51"])
def test_gumbel_grows_the_tree_of_the_general_engine_in_a_game_of_two_with_equal_priors(
    kernel: Any, squares: str
) -> None:
    game = TicTacToe()
    state = game.reset(0)
    for square in squares:
        state = game.step(state, square)
    settings = SearchSettings(simulations=400, selection=Gumbel(gumbel_scale=0.0), solve=False)
    evaluator = KernelEvaluator(kernel)
    [tree] = compiled.search(game, [Root(state)], None, evaluator, settings)
    [other] = general_search(game, [Root(state)], None, evaluator, settings)
    assert isinstance(tree, CompiledTree)
    assert_same_as_general(tree, 0, other, 0)
    assert tree.best_action() == other.best_action()


@pytest.mark.parametrize("options", [{}, {"selection": "gumbel", "solve": False}], ids=["puct", "gumbel"])
def test_a_state_without_actions_that_is_not_over_is_valued_again(options: dict[str, Any]) -> None:
    class Cut(Maze):
        rules = replace(Maze.rules, name="cut maze", legal=maze_legal_above_two)

    settings = flat_settings(**{"simulations": 60, "exploration": 1.5} | options)
    game = Cut()
    [tree] = compiled.search(game, [Root(game.reset(3))], None, KernelEvaluator(maze_value), settings)
    assert isinstance(tree, CompiledTree)
    ends = [node for node in range(1, len(tree)) if tree.visits(node) and not tree.children(node)]
    assert tree.visits() == 60
    assert max(tree.visits(node) for node in ends) > 2


def test_the_general_engine_grows_the_same_tree_in_a_game_with_proofs() -> None:
    game = TicTacToe()
    state = game.reset(0)
    for square in "5172":
        state = game.step(state, square)
    settings = SearchSettings(simulations=400, selection=Uct(exploration=1.0))
    evaluator = KernelEvaluator(board_value)
    [tree] = compiled.search(game, [Root(state)], None, evaluator, settings, np.random.default_rng(0))
    [other] = general_search(game, [Root(state)], None, evaluator, settings, np.random.default_rng(0))
    assert isinstance(tree, CompiledTree)
    assert tree.proof() == "win"
    assert_same_as_general(tree, 0, other, 0)
    assert tree.best_action() == other.best_action() == "3"


def test_what_is_not_compiled_goes_to_the_general_engine() -> None:
    game = TicTacToe()
    root = Root(game.reset(0))
    compiled_kinds = [
        compiled.search(game, [root], None, evaluator, settings)
        for evaluator, settings in (
            (ValueFunction(lambda simulator, state, transcript: 0.0), SearchSettings(simulations=8)),
            (None, SearchSettings(simulations=8, leaves_per_tree=2)),
            (RandomRollout(max_steps=4), SearchSettings(simulations=8)),
        )
    ]
    assert all(isinstance(trees[0], Tree) for trees in compiled_kinds)
    assert "backup='bellman'" in compiled.why_not_compiled(game, None, None, SearchSettings(backup="bellman"))
    asked = compiled.why_not_compiled(game, FunctionPolicy(lambda *_: [0.0]), None, SearchSettings())
    assert asked == "FunctionPolicy is asked in Python"


# ---- solved games -------------------------------------------------------------------------------------------------


@cache
def exact(own: int, other: int) -> int:
    """Connect four solved by alpha-beta's plain cousin: +1, 0 or −1 for the player to move."""
    taken = own | other
    best = -1
    for column in (3, 2, 4, 1, 5, 0, 6):
        stone = ((taken << 8) | 0x7F) & ~taken & (0x010101010101 << column)
        if stone:
            if has_four(own | stone):
                return 1
            best = max(best, 0 if taken | stone == 0x7F7F7F7F7F7F else -exact(other, own | stone))
            if best == 1:
                break
    return best


def move_values(game: BoardGame, state: BoardState, solved: Any) -> dict[str, float]:
    values = {}
    for action in game.legal_actions(state):
        after = game.step(state, action)
        over = game.current_player(after) == TERMINAL
        values[action] = game.rewards(after)[state.mover] if over else -solved(*game.rules.encode(after))
    return values


def test_tic_tac_toe_is_played_perfectly_from_every_position() -> None:
    game = TicTacToe()

    @cache
    def solved(own: int, other: int) -> float:
        state = BoardState(own, other) if own.bit_count() == other.bit_count() else BoardState(other, own, 1)
        return max(move_values(game, state, solved).values())

    states, frontier = [], [game.reset(0)]
    while frontier:
        states += frontier
        after = {game.step(state, action) for state in frontier for action in game.legal_actions(state)}
        frontier = [state for state in after if game.current_player(state) != TERMINAL]
    assert len(states) == 4520  # positions of tic-tac-toe that are not over
    settings = SearchSettings(simulations=4000, selection=Uct(exploration=2**0.5), random_ties=True)
    trees = compiled.search(game, [Root(state) for state in states], None, None, settings, np.random.default_rng(0))
    for state, tree in zip(states, trees, strict=True):
        values = move_values(game, state, solved)
        assert values[tree.best_action()] == max(values.values())


def test_connect_four_end_games_are_played_perfectly() -> None:
    game = ConnectFour()
    rng = np.random.default_rng(4)
    roots = []
    while len(roots) < 60:
        state = game.reset(0)
        for _ in range(42 - int(rng.integers(6, 15))):
            if game.current_player(state) != TERMINAL:
                actions = game.legal_actions(state)
                state = game.step(state, actions[int(rng.integers(len(actions)))])
        if game.current_player(state) != TERMINAL:
            values = move_values(game, state, exact)
            if len(set(values.values())) > 1:
                roots.append((state, values))
    settings = SearchSettings(simulations=100_000, selection=Uct(exploration=2**0.5), random_ties=True)
    trees = compiled.search(game, [Root(state) for state, _ in roots], None, None, settings, rng)
    for (state, values), tree in zip(roots, trees, strict=True):
        best = max(values.values())
        assert values[tree.best_action()] == best, (state, values, tree.root_table())
        if tree.proof():
            assert {"win": 1, "draw": 0, "loss": -1}[tree.proof()] == best


# ---- work that is done once -----------------------------------------------------------------------------------------


def test_a_compiled_gumbel_search_plays_what_it_drew_where_all_actions_are_worth_the_same() -> None:
    @njit
    def nothing(state: tuple[int, int], random: int) -> tuple[float, int]:
        return 0.0, random

    game, played = TicTacToe(), set()
    settings = SearchSettings(simulations=4, selection=Gumbel(considered=4), solve=False)
    for seed in range(12):
        generators = np.random.default_rng(seed)
        [tree] = compiled.search(game, [Root(game.reset(0))], None, KernelEvaluator(nothing), settings, generators)
        assert isinstance(tree, CompiledTree)
        visited = np.array([tree.visits(child) for child in tree.children()])
        drawn = np.where(visited == visited.max(), tree.gumbel, -np.inf)  # logits are equal, and so are values
        assert tree.best_action() == tree.action(tree.children()[int(drawn.argmax())])
        played.add(tree.best_action())
    assert len(played) > 3


@pytest.mark.parametrize("discount", [1.0, 0.5])
def test_known_returns_of_one_player_are_those_of_the_general_tree_without_a_conversion(
    discount: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SearchSettings(simulations=150, selection="uct", discount=discount)
    [tree] = compiled.search(
        Maze(), [Root(Maze().reset(3))], None, KernelEvaluator(maze_value), settings, np.random.default_rng(0)
    )
    assert isinstance(tree, CompiledTree)
    settings = changed(settings, exploration=1000.0)  # to the end of the tree
    solved = 0
    for simulations in (150, 400, 4_000):  # partly solved, further, and to the end; the tree grows in between
        compiled.extend([tree], KernelEvaluator(maze_value), replace(settings, simulations=simulations))
        general = tree.to_tree()
        with monkeypatch.context() as patched:
            patched.setattr(CompiledTree, "to_tree", None)
            for node in range(0, len(tree), 5):
                known = tree.known_returns(node)
                assert known == pytest.approx(general.known_returns(node), rel=1e-6, nan_ok=True)
                solved += int(np.isfinite(known).sum())
            line = tree.principal_variation()
        assert pickle.loads(pickle.dumps(tree)).principal_variation() == line
    assert tree.is_solved()
    assert solved > 100


def test_numbers_of_a_kernel_are_checked_where_they_are_new_and_once_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked, isfinite = [0], np.isfinite

    def counting(numbers: Any) -> Any:
        checked[0] += np.size(numbers)
        return isfinite(numbers)

    monkeypatch.setattr(np, "isfinite", counting)
    monkeypatch.setattr("branchwise.search.compiled.engine._CHUNK", 20)
    settings = SearchSettings(simulations=1000, selection=Puct(exploration=1.5))
    kernel = KernelEvaluator(maze_value)
    [tree] = compiled.search(Maze(), [Root(Maze().reset(3))], None, kernel, settings, np.random.default_rng(0))
    assert checked[0] <= 2 * len(tree) + 50  # each node twice; the root 50 times more


@pytest.mark.parametrize("discount", [1.0, 0.5])
def test_a_solved_tree_of_one_player_returns_what_the_best_actions_earn_at_the_root_too(discount: float) -> None:
    game = CostlyMaze()

    @cache
    def worth(state: MazeState) -> float:
        return max((earned(state, action) for action in game.legal_actions(state)), default=0.0)

    def earned(state: MazeState, action: str) -> float:
        after = game.step(state, action)
        return after.reward + discount * worth(after)

    root = game.reset(3)
    settings = SearchSettings(simulations=6_000, selection=Uct(exploration=1000.0), discount=discount)
    [tree] = compiled.search(game, [Root(root)], None, KernelEvaluator(maze_value), settings)
    assert isinstance(tree, CompiledTree)
    assert tree.stopped == "solved"
    assert tree.value() == tree.mean() == pytest.approx(worth(root), rel=1e-6)
    assert worth(root) < -1.0

    def check(node: int, state: MazeState) -> int:
        for child in tree.children(node):
            assert tree.value(child) == pytest.approx(earned(state, tree.action(child)), rel=1e-6)
        return 1 + sum(check(child, game.step(state, tree.action(child))) for child in tree.children(node))

    assert check(0, root) == len(tree) > 100


def test_scales_beyond_those_that_are_remembered_are_computed_anew() -> None:
    game = TicTacToe()
    settings = SearchSettings(simulations=300, selection=Uct(exploration=1.0))
    [whole] = compiled.search(game, [Root(game.reset(0))], None, KernelEvaluator(board_value), settings)
    tree = CompiledTree(game, game.rules, game.reset(0), settings, 0)
    run = _Run([tree], settings, board_value, None)
    rules, _, walk, actions = run._given(tree)
    scales = np.full(30, 777.0, np.float32)
    scales[:20] = 0.0
    nodes = np.zeros(4_000, tree.nodes.dtype)
    size, _, done = run.compiled(nodes, 1, game.rules.encode(tree.state), 0, 300, rules, scales[:20], walk, actions)
    assert done == 300
    assert np.array_equal(nodes[:size], whole.nodes)
    assert scales[10:20].tolist() == pytest.approx([exploration_scale(n, 1.0, 1.0) for n in range(10, 20)])
    assert (scales[20:] == 777.0).all()
