"""Trees that are searched on: a tree that was extended equals one of one go, or the extension is refused in words; and
what happens when the search goes on after the root was moved, or below an earlier limit of depth.
"""

import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from flat_settings import flat_settings
from numba import njit
from table_game import TableGame

from branchwise.envs.games.board import BoardState
from branchwise.envs.games.kernels import CompiledRules
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.play.transcript import Transcript, acted, observed
from branchwise.envs.simulator import TERMINAL, Simulator
from branchwise.search import compiled
from branchwise.search.compiled import CompiledTree, KernelEvaluator
from branchwise.search.engine import Root, SearchStopped, extend, search
from branchwise.search.evaluation import ValueFunction
from branchwise.search.resume import search_into
from branchwise.search.rules.backup import LOSS, UNPROVEN, WIN
from branchwise.search.rules.options import Gumbel, Puct
from branchwise.search.settings import SearchSettings
from branchwise.search.store import load_trees, save_trees
from branchwise.search.trees.children import Children
from branchwise.search.trees.nodes import FAILED, INVALID, LINKED, SOLVED
from branchwise.search.trees.tree import Tree

GAME = TicTacToe()
RULES: dict[str, dict[str, Any]] = {
    "ucb1": {},
    "uct": {},
    "puct": {},
    "alphazero": {"unvisited_value": "constant", "fpu_value": -0.2},
    "p_ucb": {"unvisited_value": "reduced", "fpu_value": 0.3},
    "uct_bonus": {"bonus_terms": ("early_depth",)},
    "minimax": {"backup": "minimax"},
    "softmax": {},
    "gumbel": {"solve": False, "considered": 4},
}
COMPILED = {name: RULES[name] for name in ("ucb1", "uct", "puct", "alphazero", "gumbel")}


@njit(cache=True)
def board_value(state: tuple[int, int], random: int) -> tuple[float, int]:
    return ((state[0] * 37 + state[1] * 101) % 1009) / 504.5 - 1.0, random


def settings(rule: str, simulations: int, **others: Any) -> SearchSettings:
    return flat_settings(selection=rule, simulations=simulations, **RULES[rule], **others)  # type: ignore[arg-type]


def grown(rule: str, simulations: int) -> Tree:
    root = Root(GAME.reset(0), task={"seed": 0})
    [tree] = search(GAME, [root], None, KernelEvaluator(board_value), settings(rule, simulations), generator())
    return tree


def compiled_grown(rule: str, simulations: int, **others: Any) -> CompiledTree:
    chosen = settings(rule, simulations, **others)
    [tree] = compiled.search(GAME, [Root(GAME.reset(0))], None, KernelEvaluator(board_value), chosen, generator())
    assert isinstance(tree, CompiledTree)
    return tree


def generator() -> np.random.Generator:
    return np.random.default_rng(3)


def resumed(tree: Tree, chosen: SearchSettings) -> Tree:
    return extend(GAME, [tree], None, KernelEvaluator(board_value), chosen)[0]


def compiled_resumed(tree: CompiledTree, chosen: SearchSettings | None = None) -> CompiledTree:
    return compiled.extend([tree], KernelEvaluator(board_value), chosen)[0]


def stopped(rule: str, simulations: int, nodes: int, **others: Any) -> Tree:
    """A search that a limit of nodes stopped on its way to ``simulations``."""
    root = Root(GAME.reset(0), task={"seed": 0})
    chosen = settings(rule, simulations, max_nodes=nodes, **others)
    [tree] = search(GAME, [root], None, KernelEvaluator(board_value), chosen, generator())
    assert tree.stopped == "max_nodes"
    return tree


# ---- every rule, in one go or in two ------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_a_tree_that_was_extended_equals_one_go_or_is_refused(rule: str) -> None:
    first, whole = grown(rule, 40), grown(rule, 150)
    if rule == "gumbel":
        with pytest.raises(ValueError, match=r"tree 0 cannot be extended to simulations=150: .* simulations=40"):
            resumed(first, settings(rule, 150))
    else:
        assert np.array_equal(resumed(first, settings(rule, 150)).nodes, whole.nodes)


@pytest.mark.parametrize("rule", COMPILED)
def test_a_compiled_tree_that_was_extended_equals_one_go_or_is_refused(rule: str) -> None:
    first, whole = compiled_grown(rule, 40), compiled_grown(rule, 600)
    if rule == "gumbel":
        with pytest.raises(ValueError, match=r"tree 0 cannot be extended to simulations=600: .* simulations=40"):
            compiled_resumed(first, settings(rule, 600))
    else:
        assert np.array_equal(compiled_resumed(first, settings(rule, 600)).nodes, whole.nodes)


@pytest.mark.parametrize("rule", RULES)
def test_an_interrupted_search_that_is_resumed_equals_one_go(rule: str, tmp_path: Any) -> None:
    part, whole = stopped(rule, 150, 200), grown(rule, 150)
    assert 1 < part.counters["simulations"] < 150
    save_trees(tmp_path / "tree.parquet", [part])
    [loaded] = load_trees(tmp_path / "tree.parquet", GAME)
    for tree in (part, loaded):
        assert np.array_equal(resumed(tree, settings(rule, 150)).nodes, whole.nodes)
        assert tree.best_action() == whole.best_action()


@pytest.mark.parametrize("rule", COMPILED)
def test_an_interrupted_compiled_search_that_is_resumed_equals_one_go(rule: str) -> None:
    part, whole = compiled_grown(rule, 600, max_nodes=400), compiled_grown(rule, 600)
    assert part.stopped == "max_nodes"
    assert 1 < part.simulations < 600
    for tree in (part, pickle.loads(pickle.dumps(part))):
        assert np.array_equal(compiled_resumed(tree, settings(rule, 600)).nodes, whole.nodes)
        assert tree.best_action() == whole.best_action()


def test_a_compiled_gumbel_search_that_was_interrupted_early_equals_one_go() -> None:
    """One of the root's children has been expanded, whichever."""
    expanded = set()
    for seed in range(6):
        part, whole = (
            compiled.search(GAME, [Root(GAME.reset(0))], None, KernelEvaluator(board_value), chosen, seed)[0]
            for chosen in (settings("gumbel", 100, max_nodes=19), settings("gumbel", 100))
        )
        assert isinstance(part, CompiledTree)
        assert (part.stopped, len(part)) == ("max_nodes", 18)
        expanded |= {child for child in part.children() if part.children(child)}
        assert np.array_equal(compiled_resumed(part, settings("gumbel", 100)).nodes, whole.nodes)
    assert len(expanded) > 1


@pytest.mark.parametrize("rule", COMPILED)
def test_a_compiled_tree_goes_on_after_a_move_or_is_refused(rule: str) -> None:
    tree = compiled_grown(rule, 100)
    tree.reroot(tree.best_action())
    kept = tree.visits()
    if rule == "gumbel":
        with pytest.raises(ValueError, match=r"re-rooted, or searched by another rule.*search anew from its root"):
            compiled_resumed(tree, settings(rule, 200))
    else:
        compiled_resumed(tree, settings(rule, 200))
        assert tree.visits() == 200 > kept
        assert sum(tree.visits(child) for child in tree.children()) == 199


@pytest.mark.parametrize("rule", RULES)
def test_a_tree_goes_on_after_a_move_or_is_refused(rule: str) -> None:
    tree = grown(rule, 100)
    tree.reroot(max(tree.children(), key=tree.visits))
    if rule == "gumbel":
        with pytest.raises(ValueError, match=r"re-rooted, or searched by another rule.*search anew from its root"):
            resumed(tree, settings(rule, 200))
        resumed(tree, SearchSettings(simulations=200, solve=False))  # the cure that the message names
    else:
        resumed(tree, settings(rule, 200))
    assert tree.visits(0) == 200
    assert sum(tree.visits(child) for child in tree.children()) == 199


def test_a_gumbel_plan_is_made_anew_as_long_as_no_action_was_visited() -> None:
    whole, compiled_whole = grown("gumbel", 64), compiled_grown("gumbel", 64)
    assert np.array_equal(resumed(grown("gumbel", 1), settings("gumbel", 64)).nodes, whole.nodes)
    extended = compiled_resumed(compiled_grown("gumbel", 1), settings("gumbel", 64))
    assert np.array_equal(extended.nodes, compiled_whole.nodes)


def test_a_gumbel_plan_is_not_exchanged_on_the_way() -> None:
    other = SearchSettings(selection=Gumbel(considered=2), simulations=150, solve=False)
    with pytest.raises(ValueError, match="other numbers than considered=2"):
        resumed(stopped("gumbel", 150, 200), other)
    part = compiled_grown("gumbel", 600, max_nodes=400)
    with pytest.raises(ValueError, match="other numbers than considered=2"):
        compiled_resumed(part, SearchSettings(selection=Gumbel(considered=2), simulations=600, solve=False))
    root, judge, puct = Root(GAME.reset(0)), KernelEvaluator(board_value), SearchSettings(simulations=40, solve=False)
    with pytest.raises(ValueError, match="searched by another rule"):
        resumed(search(GAME, [root], None, judge, puct)[0], settings("gumbel", 80))
    assert resumed(grown("gumbel", 40), settings("gumbel", 30)).visits(0) == 40  # nothing is left to do


def test_a_tree_of_a_version_with_fewer_options_is_resumed(tmp_path: Any) -> None:
    path, root = tmp_path / "tree.parquet", Root(GAME.reset(0), task={"seed": 0})
    tree = grown("alphazero", 40)
    for name in ("widening_power", "call_seconds"):
        del tree.settings[name]
    del tree.settings["selection"]["alphazero"]["exploration_base"]
    save_trees(path, [tree])
    arguments = (path, GAME, [root], None, KernelEvaluator(board_value))
    [resumed_tree] = search_into(*arguments, settings("alphazero", 80), generator())
    assert np.array_equal(resumed_tree.nodes, grown("alphazero", 80).nodes)
    with pytest.raises(ValueError, match=r"grown with .*fpu_value"):
        search_into(*arguments, SearchSettings(selection=Puct(unvisited_value="constant", fpu_value=0.5)), generator())


def test_a_compiled_gumbel_tree_becomes_a_tree_that_plays_the_same() -> None:
    tree = compiled_grown("gumbel", 64)
    other = tree.to_tree()
    assert other.best_action() == tree.best_action()
    for node in (0, tree.children()[0]):
        np.testing.assert_allclose(other.policy_target(node)[1], tree.policy_target(node)[1], atol=1e-6)


# ---- below an earlier limit of depth ------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [rule for rule in COMPILED if rule != "gumbel"])
def test_a_compiled_tree_goes_on_below_an_earlier_depth_limit_as_the_general_one(rule: str) -> None:
    shallow, deep = settings(rule, 400, max_depth=2), settings(rule, 700)
    [tree] = compiled.search(GAME, [Root(GAME.reset(0))], None, KernelEvaluator(board_value), shallow, generator())
    [other] = search(GAME, [Root(GAME.reset(0))], None, KernelEvaluator(board_value), shallow, generator())
    assert isinstance(tree, CompiledTree)
    assert_same(compiled_resumed(tree, deep), 0, resumed(other, deep), 0)


def assert_same(tree: CompiledTree, node: int, other: Tree, there: int) -> None:
    assert tree.visits(node) == other.visits(there)
    if tree.visits(node):
        assert tree.mean(node) == pytest.approx(other.mean(there), abs=1e-5)
        children = {other.actions[child]: child for child in other.children(there)}
        for child in tree.children(node):
            assert_same(tree, child, other, children[tree.action(child)])


def test_a_compiled_tree_that_is_deeper_than_the_limit_stays_in_its_memory() -> None:
    tree = compiled_grown("uct", 2000)
    chosen = settings("uct", 4000, max_depth=1)
    compiled_resumed(tree, chosen)
    other = compiled_grown("uct", 2000).to_tree()
    resumed(other, chosen)
    assert_same(tree, 0, other, 0)


def test_random_ties_go_round_all_children_below_an_earlier_depth_limit() -> None:
    shallow = settings("uct", 300, random_ties=True, max_depth=1)
    [tree] = compiled.search(GAME, [Root(GAME.reset(0))], None, None, shallow, generator())
    assert isinstance(tree, CompiledTree)
    compiled.extend([tree], settings=settings("uct", 1000, random_ties=True, max_depth=2))
    below = [[tree.visits(child) for child in tree.children(node)] for node in tree.children()]
    assert all(min(visits) > 0 for visits in below)
    orders = {tuple(tree.action(child) for child in tree.children(node)) for node in tree.children()}
    assert orders != {tuple(sorted(order)) for order in orders}
    for place in (0, -1):
        assert len({sorted(order).index(order[place]) for order in orders}) > 2
    for child, visits in zip(tree.children(), below, strict=True):
        assert len(visits) == 8
        legal = GAME.legal_actions(GAME.step(tree.state, tree.action(child)))
        assert sorted(tree.action(node) for node in tree.children(child)) == sorted(legal)


def test_compiled_trees_of_different_games_or_settings_are_not_extended_together() -> None:
    from branchwise.envs.games.connect_four import ConnectFour

    other = ConnectFour()
    chosen = settings("uct", 20)
    [one] = compiled.search(GAME, [Root(GAME.reset(0))], None, None, chosen)
    [two] = compiled.search(other, [Root(other.reset(0))], None, None, chosen)
    with pytest.raises(ValueError, match="trees of tic_tac_toe and of connect_four"):
        compiled.extend([one, two], settings=settings("uct", 40))  # type: ignore[list-item]
    [three] = compiled.search(GAME, [Root(GAME.reset(0))], None, None, settings("uct", 30))
    with pytest.raises(ValueError, match="different settings"):
        compiled.extend([one, three])  # type: ignore[list-item]


@pytest.mark.parametrize(("name", "value"), [("max_actions", 256), ("max_actions", 0), ("players", 3)])
def test_rules_beyond_what_a_compiled_node_holds_are_refused(name: str, value: int) -> None:
    given = {"name": "x", "players": 2, "words": 1, "max_actions": 9, "max_depth": 9, "legal": None, "step": None}
    with pytest.raises(ValueError, match=f"CompiledRules.{name} is {value}; expected a number from 1"):
        CompiledRules(**{**given, name: value}, rollout=None, encode=tuple, action_text=str)


# ---- zero priors, and actions that are lost --------------------------------------------------------------------------


class Shop(Simulator[tuple[str, ...]]):
    """Five actions to depth 3, for one player."""

    def reset(self, seed: int, options: Any = None) -> tuple[str, ...]:
        return ()

    def current_player(self, state: tuple[str, ...]) -> int:
        return TERMINAL if len(state) == 3 else 0

    def observation(self, state: tuple[str, ...], player: int = 0) -> str:
        return "".join(state) or "start"

    def legal_actions(self, state: tuple[str, ...]) -> list[str]:
        return list("abcde")

    def step(self, state: tuple[str, ...], action: str) -> tuple[str, ...]:
        return (*state, action)

    def rewards(self, state: tuple[str, ...]) -> tuple[float, ...]:
        return (sum("abcde".index(action) for action in state) / 12.0,) if len(state) == 3 else (0.0,)


class Sure:
    """Gives the actions these probabilities."""

    calls = 0

    def __init__(self, *shares: float) -> None:
        with np.errstate(divide="ignore"):
            self.logps = np.log(np.array(shares))

    def score(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        return [self.logps for _ in transcripts]

    def propose(self, transcripts: Any, n: int, rngs: Any) -> list[list[Any]]:
        raise NotImplementedError


PLAN = SearchSettings(selection="gumbel", simulations=32, solve=False, uniform_prior=0.0)


@pytest.mark.parametrize(
    ("shares", "possible"), [((1.0, 0.0, 0.0, 0.0, 0.0), {"a"}), ((0.0, 0.5, 0.0, 0.25, 0.25), {"b", "d", "e"})]
)
def test_actions_of_prior_zero_are_not_considered(shares: tuple[float, ...], possible: set[str]) -> None:
    root = Root((), (observed("start"),))
    flat = ValueFunction(lambda simulator, state, transcript: 0.0)
    [tree] = search(Shop(), [root], Sure(*shares), flat, PLAN, generator())  # type: ignore[arg-type]
    assert {tree.actions[child] for child in tree.children() if tree.visits(child)} == possible


@pytest.mark.parametrize("lost", [{"b"}, {"a", "c", "d"}, set("abcde")])
def test_a_gumbel_search_goes_on_without_actions_whose_evaluation_fails(lost: set[str]) -> None:
    def judge(simulator: Any, state: tuple[str, ...], transcript: Transcript) -> float:
        if len(state) == 1 and state[0] in lost:
            raise RuntimeError("out of order")
        return 0.5

    chosen = SearchSettings(selection="gumbel", simulations=32, solve=False, max_failed_share=1.0)
    root = Root((), (observed("start"),))
    [tree] = search(Shop(), [root], None, ValueFunction(judge), chosen, generator())
    visits = {tree.actions[child]: tree.visits(child) for child in tree.children()}
    assert tree.counters["failed_leaves"] == len(lost)
    assert sum(visits.values()) == (31 - len(lost) if len(lost) < 5 else 0)
    assert not any(visits[action] for action in lost)
    assert np.isfinite(tree.value(0))
    assert tree.best_action() not in lost or len(lost) == 5


def test_a_root_that_never_evaluates_ends_a_gumbel_search() -> None:
    state = BoardState(0, 0, 0)

    def broken(simulator: Any, state: Any, transcript: Any) -> float:
        raise RuntimeError("never")

    chosen = SearchSettings(selection="gumbel", simulations=4, solve=False, max_failed_share=1.0)
    with pytest.raises(SearchStopped, match=r"4 of 4 leaves failed") as stopped:
        search(GAME, [Root(state)], None, ValueFunction(broken), chosen, generator())
    assert stopped.value.trees[0].visits(0) == 0


# ---- the numbers of a new root, by hand ------------------------------------------------------------------------------


def by_hand(
    players: int = 1, zero_sum: bool = False, movers: tuple[int, int] = (0, 0), discount: float = 1.0, visits: int = 4
) -> Tree:
    """A root with the children ``left`` (never expanded) and ``right``, which earned 0.25 at the step and returned 0.75
    in the mean to who chose it, with two children of its own; ``movers`` move at the root and at ``right``."""
    tree = Tree(None, None, (observed("start"),), index=1, discount=discount, players=players, zero_sum=zero_sum)
    tree.nodes["player"][0] = movers[0]
    earned = [0.25, 0.125, 0.0][:players]
    rewards = np.array([[0.0] * players, earned]) if tree._values.shape[1] else [0.0, 0.25]
    tree.add_children(0, Children(["left", "right"], [None] * 2, np.array([0.25, 0.75]), [-1.0, -2.0], rewards, [0, 0],
                      players=[movers[1]] * 2))  # fmt: skip
    below = np.zeros((2, players)) if tree._values.shape[1] else [0.0, 0.0]
    tree.add_children(2, Children(["up", "down"], [None] * 2, np.array([0.5, 0.5]), [-3.0, -4.0], below, [0, 0]))
    for node, count in ((0, visits + 1), (2, visits), (3, max(visits - 1, 0))):
        tree.nodes["visits"][node] = count
        tree.nodes["value_sum"][node] = 0.75 * count
        if tree._values.shape[1]:
            tree._values[node, :players] = np.array([0.75, 0.5, 0.25][:players]) * count
    return tree


@pytest.mark.parametrize(
    ("zero_sum", "movers", "discount", "value"),
    [
        (False, (0, 0), 1.0, 0.5),
        (False, (0, 0), 0.5, 1.0),
        (True, (0, 1), 1.0, -0.5),
        (True, (0, 1), 0.5, -1.0),
        (True, (1, 0), 0.5, -1.0),
        (True, (0, 0), 0.5, 1.0),
        (True, (1, 1), 0.5, 1.0),
    ],
)
def test_a_new_root_is_worth_what_its_state_is_to_who_moves_there(
    zero_sum: bool, movers: tuple[int, int], discount: float, value: float
) -> None:
    """V = (Q − r) / γ, with the sign of who moves there."""
    tree = by_hand(1 + zero_sum, zero_sum, movers, discount)
    tree.reroot(2)
    assert (tree.visits(0), tree.mean(0)) == (4, value)
    root = tree.nodes[0]
    assert (root["parent"], root["prior"], root["reward"], root["player"]) == (-1, 1.0, 0.0, movers[1])
    assert [tree.actions[node] for node in range(len(tree))] == ["", "up", "down"]
    assert np.isnan(tree.logps[0])
    assert tree.logps[1:] == [-3.0, -4.0]
    assert (list(tree.children()), tree.parent(1), tree.visits(1), tree.mean(1)) == ([1, 2], 0, 3, 0.75)


@pytest.mark.parametrize(("mover", "own"), [(0, 1.0), (1, 0.75), (2, 0.5)])
def test_a_new_root_keeps_the_return_of_every_player(mover: int, own: float) -> None:
    tree = by_hand(3, False, (0, mover), 0.5)
    tree.reroot(2)
    assert tree.returns(0).tolist() == [1.0, 0.75, 0.5]
    assert tree.all_returns()[0].tolist() == [4.0, 3.0, 2.0, 0.0, 0.0, 0.0]
    assert tree.mean(0) == own
    assert tree.all_returns()[1:].tolist() == [[2.25, 1.5, 0.75, 0.0, 0.0, 0.0], [0.0] * 6]


@pytest.mark.parametrize(("zero_sum", "movers", "value"), [(False, (0, 0), 0.75), (True, (0, 1), -0.75)])
def test_where_nothing_later_counts_a_new_root_keeps_its_mean(
    zero_sum: bool, movers: tuple[int, int], value: float
) -> None:
    tree = by_hand(1 + zero_sum, zero_sum, movers, discount=0.0)
    tree.reroot(2)
    assert (tree.visits(0), tree.mean(0)) == (4, value)


@pytest.mark.parametrize("players", [1, 3])
def test_a_new_root_that_was_expanded_and_never_valued_is_worth_nothing_yet(players: int) -> None:
    """As where its evaluation failed."""
    tree = by_hand(players, visits=0)
    tree.reroot(2)
    assert (tree.visits(0), tree.counters["simulations"], len(tree.children())) == (0, 0, 2)
    assert np.isfinite(tree.nodes["value_sum"]).all()
    assert np.isfinite(tree.all_returns()).all()
    assert np.isnan(tree.value(0))


@pytest.mark.parametrize("rule", ["puct", "gumbel"])
def test_a_moved_tree_starts_its_search_anew(rule: str) -> None:
    tree = grown(rule, 60)
    child = max(tree.children(), key=tree.visits)
    tree.noisy, tree.stopped = True, "simulations"
    visits, transcript = tree.visits(child), tree.transcript(child)
    assert tree.has_gumbel() == (rule == "gumbel")
    tree.reroot(child)
    assert (tree.noisy, tree.stopped, tree.counters["simulations"]) == (False, "", visits)
    assert tree.transcript(0) == transcript
    assert tree.beside_nodes()["gumbel"] == tree.beside_nodes()["considered"] == []
    assert not tree.has_gumbel()


def test_what_was_logged_and_asked_below_a_new_root_moves_with_it() -> None:
    tree = by_hand()
    turns = {node: acted(name, logps=(-0.5 * node,)) for node, name in enumerate(tree.actions) if node}
    for node, turn in turns.items():
        tree.log_turn(node, turn)
    tree.asked = {0: [2, 0], 1: [3, 3], 2: [4, 2], 3: [5, 0]}
    tree.reroot(2)
    assert [tree.agent_turn(node) for node in range(3)] == [acted(""), turns[3], turns[4]]
    assert tree.asked == {0: [4, 2], 1: [5, 0]}


def test_a_tree_moves_one_step_to_where_it_was_searched() -> None:
    tree = by_hand()
    for node in (0, 3, 5):
        with pytest.raises(ValueError, match=f"node {node} is no child of the root; re-root one step at a time"):
            tree.reroot(node)
    with pytest.raises(ValueError, match="node 1 was never expanded, or a simulation is under way; search it anew"):
        tree.reroot(1)
    tree.mark_under_way(3)
    with pytest.raises(ValueError, match="node 2 was never expanded, or a simulation is under way; search it anew"):
        tree.reroot(2)
    tree.forget_pending()
    tree.reroot(2)
    assert len(tree) == 3


def test_rewards_along_a_path_add_up() -> None:
    tree = by_hand()
    tree.nodes["reward"][4] = 0.5
    assert [tree.path_return(node) for node in (0, 1, 2, 4)] == [0.0, 0.0, 0.25, 0.75]


@pytest.mark.parametrize("node", [1, 3])
def test_an_edge_to_a_shared_state_is_solved_where_itself_or_the_state_is(node: int) -> None:
    """Node 1 leads to the state of node 3; where its own step failed, that is not the state's fault."""
    tree = by_hand()
    tree.nodes["first_child"][1], tree.nodes["flags"][1] = 3, LINKED
    assert not tree.is_solved(1)
    tree.nodes["flags"][node] |= SOLVED
    assert tree.is_solved(1)
    assert tree.is_solved(3) == (node == 3)


def two_ways(players: int = 1, zero_sum: bool = False) -> Tree:
    """Nodes 1 and 2 both lead to S, by node 3, which holds it, and by node 4, an edge to it. S has two solved ends."""
    tree = Tree(None, None, (observed("start"),), players=players, zero_sum=zero_sum)
    none = np.zeros((2, players)) if tree._values.shape[1] else [0.0] * 2
    tree.add_children(0, Children(["a", "b"], [None] * 2, np.full(2, 0.5), [0.0] * 2, none, [0, 0]))
    for node in (1, 2):
        tree.add_children(node, Children(["s"], [None], np.ones(1), [0.0], none[:1], [0]))
    tree.link(4, 3)
    tree.add_children(3, Children(["x", "y"], [None] * 2, np.full(2, 0.5), [0.0] * 2, none, [SOLVED, SOLVED]))
    tree.nodes["flags"][3] |= SOLVED
    return tree


@pytest.mark.parametrize("visits", [0, 1, 3])
@pytest.mark.parametrize("players", [1, 3])
def test_an_edge_that_comes_to_hold_a_solved_state_is_worth_what_was_known_of_it(players: int, visits: int) -> None:
    """The simulations through the edge ended while the state was open."""
    tree = two_ways(players)
    known, open_ = np.array([0.75, 0.5, 0.25])[:players], np.full(players, 0.125)
    for node, count, value in (
        (0, 9, open_), (1, 4, open_), (2, 4, open_), (3, 2, known), (4, visits, open_), (5, 1, known)
    ):  # fmt: skip
        tree.nodes["visits"][node], tree.nodes["value_sum"][node] = count, count * value[0]
        if players > 1:
            tree._values[node, :players] = count * value
    assert tree.known_returns(2).tolist() == [0.75]
    tree.reroot(2)
    assert tree.source(1) == 1
    assert tree.known_returns().tolist() == [0.75]
    assert (tree.visits(0), tree.mean(0), tree.visits(1)) == (4, 0.125, visits)
    if visits:
        assert tree.mean(1) == 0.75
        assert tree.returns(1).tolist() == known.tolist()


@pytest.mark.parametrize(("proof", "failed", "visits"), [(WIN, 0, 2), (LOSS, 0, 2), (UNPROVEN, FAILED, 0)])
def test_an_edge_to_a_proven_or_failed_state_keeps_what_its_simulations_found(
    proof: int, failed: int, visits: int
) -> None:
    tree = two_ways(2, True)
    tree.nodes["proof"][3] = proof
    tree.nodes["flags"][3] |= failed
    for node, count in ((0, 5), (2, 4), (4, visits)):
        tree.nodes["visits"][node], tree.nodes["value_sum"][node] = count, 0.125 * count
    tree.reroot(2)
    assert tree.nodes["value_sum"].tolist() == [0.5, 0.125 * visits, 0.0, 0.0]
    known = {WIN: np.inf, LOSS: -np.inf, UNPROVEN: -np.inf}[proof]
    assert tree.known_returns().tolist() == [known]


@pytest.mark.parametrize("options", [{"critic_weight": 0.5}, {"unvisited_value": "prior"}])
def test_what_a_critic_said_of_an_action_stays_with_it_when_its_state_changes_hands(options: dict[str, Any]) -> None:
    """A and B both lead to S by the action s, of which the critic thinks otherwise after either."""
    table = {
        "root": (0, {"A": ("A", (0,)), "B": ("B", (0,))}),
        "A": (0, {"s": ("S", (0,))}),
        "B": (0, {"s": ("S", (0,))}),
        "S": (0, {"e": ("end", (0,)), "f": ("stop", (0,))}),
    }

    class Critic:
        def values(self, transcripts: Any, candidates: Any) -> Any:
            said = [0.9 if transcript[-1].text == "A" else 0.125 for transcript in transcripts]
            return [np.full(len(actions), value) for value, actions in zip(said, candidates, strict=True)]

    game = TableGame(table)
    given = flat_settings(simulations=12, transpositions=True, solve=False, **options)
    start = Root(game.reset(0), (observed("root"),))
    [tree] = search(game, [start], None, lambda *_: 0.5, given, critic=Critic())
    by_b = tree.children(0)[1]
    [edge] = tree.children(by_b)
    assert tree.source(edge) != edge
    tree._nodes["flags"][tree.source(edge)] |= INVALID  # what the environment said of the action after A
    tree.reroot(by_b)
    [edge] = tree.children(0)
    assert tree.source(edge) == edge
    assert tree.nodes["hint"][edge] == 0.125
    assert not tree.has(edge, INVALID)
    assert len(tree.children(edge)) == 2


@pytest.mark.parametrize("selection", ["puct", "gumbel"])
@pytest.mark.parametrize("kept", [True, False])
def test_after_a_move_a_state_that_several_actions_lead_to_stands_once(kept: bool, selection: str) -> None:
    """Below the new root a, b and c lead to S. What is known of S stands in the node below c, or (not ``kept``) in one
    that the move leaves behind: then the first edge gets it, and the others lead there."""
    tree = Tree(None, None, (observed("start"),), players=2, zero_sum=True)
    tree.settings = {"selection": selection}

    def grow(node: int, *actions: str) -> int:
        count, words = len(actions), list(actions)
        return tree.add_children(
            node, Children(words, words, np.ones(count), [0.0] * count, [0.0] * count, [0] * count)
        )

    grow(0, "top", "left")
    grow(1, "a", "b", "c")
    edges = [grow(node, "S") for node in (3, 4, 5)]
    holder = edges[2] if kept else grow(grow(2, "d"), "S")
    inner = grow(holder, "p", "q")
    for edge in edges:
        if edge != holder:
            tree.link(edge, holder)
    tree.nodes["visits"][:] = np.arange(len(tree), 0, -1)
    tree.nodes["value_sum"][:] = np.arange(len(tree))
    tree.nodes["hint"][edges[0]], tree.nodes["hint"][holder] = 0.25, 0.875
    tree.nodes["proof"][holder] = WIN
    tree.nodes["flags"][holder] |= SOLVED
    means = [tree.mean(node) for node in (*edges, inner, inner + 1)]
    tree.reroot(1)
    at = 6 if kept else 4
    assert tree.actions == ["", "a", "b", "c", "S", "S", "S", "p", "q"]
    assert [tree.parent(node) for node in range(9)] == [-1, 0, 0, 0, 1, 2, 3, at, at]
    assert [tree.source(node) for node in (4, 5, 6)] == [at] * 3
    assert [list(tree.children(node)) for node in (4, 5, 6)] == [[7, 8]] * 3
    assert tree.nodes["children"].tolist() == [3, 1, 1, 1, *(2 * (node == at) for node in (4, 5, 6)), 0, 0]
    assert [tree.mean(node) for node in range(4, 9)] == means
    assert (tree.proof(at), [tree.is_solved(node) for node in (4, 5, 6)]) == ("win", [True] * 3)
    assert float(tree.nodes["hint"][at]) == (0.25 if selection == "puct" and not kept else 0.875)
    assert tree.links_to(at) == [node for node in (4, 5, 6) if node != at]
