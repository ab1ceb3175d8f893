"""What a search hands out to play and to learn from agrees with what is proven: general, compiled and array trees."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from branchwise.agents.searching import SearchingAgent
from branchwise.envs.games.board import BoardState
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.simulator import TERMINAL, Simulator
from branchwise.search import compiled, reading
from branchwise.search.array_tree import ArrayTree
from branchwise.search.compiled import CompiledTree
from branchwise.search.compiled_tree import merged
from branchwise.search.engine import Root, search
from branchwise.search.evaluation import RandomRollout, ValueFunction
from branchwise.search.extraction import sibling_pairs
from branchwise.search.settings import SearchSettings
from branchwise.search.targets import playable, visit_shares
from branchwise.search.tree import Tree
from branchwise.training.value_model import value_rows

GAME = TicTacToe()
NAN, INF = np.nan, np.inf


def after(squares: str) -> BoardState:
    state = GAME.reset(0)
    for square in squares:
        state = GAME.step(state, square)
    return state


WINS = after("124759")  # x wins by 6; after 3 or 8 the game goes on


@cache
def worth(state: BoardState) -> float:
    """The exact value for who moves."""
    return max(outcome(state, action) for action in GAME.legal_actions(state))


def outcome(state: BoardState, action: str) -> float:
    child = GAME.step(state, action)
    over = GAME.current_player(child) == TERMINAL
    return float(GAME.rewards(child)[GAME.current_player(state)]) if over else -worth(child)


# ---- the rule -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "left"),
    [
        ([NAN, INF, NAN, INF], [0, 1, 0, 1]),  # proven wins alone
        ([NAN, -INF, 0.0], [1, 0, 1]),  # no proven loss while another move exists
        ([-INF, -INF], [1, 1]),  # nothing else exists
        ([-INF, 0.0, 0.0], [0, 1, 1]),  # all solved: the best
        ([0.3, 0.7, -INF], [0, 1, 0]),
        ([0.3, NAN], [1, 1]),  # the open one may be better
        ([NAN, NAN], [1, 1]),
        ([], []),
    ],
)
def test_what_is_proven_leaves_these_actions(known: list[float], left: list[int]) -> None:
    assert playable(np.array(known, np.float64)).tolist() == [bool(each) for each in left]


def test_shares_are_those_of_the_visits_of_the_actions_that_are_left() -> None:
    visits, prior = np.array([6.0, 3.0, 1.0]), np.array([0.2, 0.3, 0.5])
    assert visit_shares(visits, prior, np.array([NAN, NAN, NAN])) == pytest.approx([0.6, 0.3, 0.1])
    assert visit_shares(visits, prior, np.array([-INF, NAN, NAN])) == pytest.approx([0.0, 0.75, 0.25])
    assert visit_shares(visits, prior, np.array([NAN, INF, INF])) == pytest.approx([0.0, 0.75, 0.25])
    assert visit_shares(np.array([6.0, 0.0, 0.0]), prior, np.array([-INF, NAN, NAN])) == pytest.approx(
        [0, 0.375, 0.625]
    )
    assert visit_shares(np.zeros(2), np.array([0.0, 1.0]), np.array([INF, NAN])).tolist() == [1.0, 0.0]


# ---- the trees ------------------------------------------------------------------------------------------------------


def grown(state: Any, simulator: Any = GAME, **options: Any) -> Tree:
    chosen = SearchSettings(**{"simulations": 200, "selection": "alphazero", **options})
    [tree] = search(simulator, [Root(state, task={"seed": 0})], None, RandomRollout(), chosen, np.random.default_rng(0))
    return tree


def compiled_grown(state: Any, **options: Any) -> CompiledTree:
    chosen = SearchSettings(**{"simulations": 200, "selection": "alphazero", **options})
    [tree] = compiled.search(GAME, [Root(state)], None, None, chosen, np.random.default_rng(0))
    assert isinstance(tree, CompiledTree)
    return tree


def test_a_proven_win_has_all_mass_and_the_roots_value() -> None:
    for tree in (grown(WINS), compiled_grown(WINS)):
        assert tree.proof() == "win"
        assert tree.best_action() == "6"
        actions, target = tree.policy_target()
        assert dict(zip(actions, target.tolist(), strict=True)) == {"3": 0.0, "6": 1.0, "8": 0.0}
        assert tree.value(0) == 1.0
        assert -1.0 < tree.mean(0) < 1.0
    rng = np.random.default_rng(1)
    assert {reading.action(grown(WINS), "temperature", 1.0, rng) for _ in range(20)} == {"6"}
    agent = SearchingAgent(None, RandomRollout(), SearchSettings(simulations=200, selection="alphazero"))  # type: ignore[arg-type]
    assert agent.act(GAME, [WINS], [()], [rng])[0].action == "6"


def test_what_one_of_several_compiled_trees_has_proven_counts_in_their_merged_table() -> None:
    few, many = compiled_grown(WINS, simulations=2, selection="uct"), compiled_grown(WINS, selection="uct")
    assert not few.proof()
    assert merged([few, many])["6"][1] == merged([many, few])["6"][1] == 1.0


def test_an_array_tree_hands_out_what_is_proven() -> None:
    tree = ArrayTree(SearchSettings(simulations=200, selection="alphazero"), actions=9, players=2, zero_sum=True)
    states: dict[int, BoardState] = {0: WINS}
    leaves = tree.next()
    while len(leaves):
        leaf = int(leaves[0])
        if leaf:
            parent, action = int(tree.parents(leaves)[0]), str(int(tree.actions_into(leaves)[0]) + 1)
            states[leaf] = GAME.step(states[parent], action)
        state = states[leaf]
        over = GAME.current_player(state) == TERMINAL
        legal = [] if over else GAME.legal_actions(state)
        tree.terminal[0], tree.rewards[0] = over, GAME.rewards(state)[0]
        tree.movers[0] = 0 if over else GAME.current_player(state)
        tree.priors[0] = [1.0 / max(len(legal), 1) if str(i + 1) in legal else -1.0 for i in range(9)]
        tree.values[0] = 0.0
        leaves = tree.step()
    assert tree.policy_target().tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0]
    assert tree.value() == 1.0
    assert tree.q_values()[5] == 1.0


@pytest.mark.parametrize("simulations", [3, 8, 20, 60, 400])
def test_targets_and_answers_agree_with_the_exact_values_at_every_position_that_is_proven(simulations: int) -> None:
    rng = np.random.default_rng(simulations)
    checked = 0
    for _ in range(12):
        state = GAME.reset(0)
        for _ in range(int(rng.integers(2, 7))):
            actions = GAME.legal_actions(state)
            following = GAME.step(state, actions[int(rng.integers(len(actions)))])
            if GAME.current_player(following) == TERMINAL:
                break
            state = following
        options = {"simulations": simulations, "selection": ("puct", "uct")[int(rng.integers(2))]}
        for tree in (grown(state, **options), compiled_grown(state, **options)):
            for node in range(len(tree)):
                if not len(tree.children(node)):
                    continue
                actions, target = tree.policy_target(node)
                assert target.sum() == pytest.approx(1.0)
                assert target[list(tree.children(node)).index(tree.best_child(node))] > 0.0
                proofs = [tree.proof(child) for child in tree.children(node)]
                for share, proof in zip(target, proofs, strict=True):
                    if "win" in proofs:
                        assert (share > 0.0) <= (proof == "win")
                    elif set(proofs) != {"loss"}:
                        assert share == 0.0 or proof != "loss"
            if tree.proof():
                checked += 1
                assert tree.value(0) == worth(state)
                best = {action for action in GAME.legal_actions(state) if outcome(state, action) == worth(state)}
                actions, target = tree.policy_target()
                assert {action for action, share in zip(actions, target, strict=True) if share} <= best
                assert tree.best_action() in best
    assert checked > 2 or simulations < 60


def test_a_proven_loss_is_not_played_while_another_move_exists() -> None:
    def gloomy(simulator: Any, state: Any, transcript: Any) -> float:
        return -1.0 if state.mover == WINS.mover else 1.0  # every open move looks as lost as the proven one

    rng = np.random.default_rng(0)
    for simulations in range(2, 60):
        chosen = SearchSettings(simulations=simulations, selection="puct")
        state = after("15")  # x in the corner, o in the middle
        [tree] = search(GAME, [Root(state)], None, ValueFunction(gloomy), chosen, rng)
        proofs = [tree.proof(child) for child in tree.children()]
        if set(proofs) != {"loss"}:
            assert tree.proof(tree.best_child()) != "loss"
            assert tree.proof(tree.best_child(0, "value")) != "loss"


# ---- one player, and what is made of trees ---------------------------------------------------------------------------


class Shelves(Simulator[tuple[int, ...]]):
    """Two choices among three; only the sum of both pays."""

    def reset(self, seed: int, options: Any = None) -> tuple[int, ...]:
        return ()

    def current_player(self, state: tuple[int, ...]) -> int:
        return TERMINAL if len(state) == 2 else 0

    def observation(self, state: tuple[int, ...], player: int = 0) -> str:
        return str(state)

    def legal_actions(self, state: tuple[int, ...]) -> list[str]:
        return ["0", "1", "2"]

    def step(self, state: tuple[int, ...], action: str) -> tuple[int, ...]:
        return (*state, int(action))

    def rewards(self, state: tuple[int, ...]) -> tuple[float, ...]:
        return (sum(state) / 4.0 if len(state) == 2 else 0.0,)


def test_where_all_is_solved_one_player_learns_the_best_action_alone() -> None:
    tree = grown((), Shelves())
    assert tree.is_solved(0)
    for node in (0, *tree.children(0)):
        assert dict(zip(*tree.policy_target(node), strict=True)) == {"0": 0.0, "1": 0.0, "2": 1.0}
    assert tree.best_action() == "2"
    assert reading.action(tree, "temperature", 1.0, np.random.default_rng(0)) == "2"


def test_a_critic_and_pairs_learn_what_is_proven() -> None:
    tree = grown(WINS)
    rows = value_rows(tree)
    assert rows[0].q == 1.0
    of_root = [pair for pair in sibling_pairs(tree)[0] if pair.node == 0]
    assert [(pair.chosen[0].text, pair.chosen_q) for pair in of_root] == [("6", 1.0)]


def test_without_the_solver_or_with_a_discount_values_stay_means() -> None:
    for options in ({"solve": False}, {"discount": 0.9}):
        tree = grown(WINS, **options)
        assert tree.value(0) == tree.mean(0) < 1.0
