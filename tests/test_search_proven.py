"""What a search hands out to play and to learn from agrees with what is proven: general and compiled trees."""

from typing import Any

import numpy as np
import pytest
from flat_settings import flat_settings
from toys import GAME, outcome, worth

from branchwise.agents.searching import SearchingAgent
from branchwise.envs.games.board import BoardState
from branchwise.envs.simulator import CHANCE, TERMINAL, Simulator
from branchwise.search import answers, compiled
from branchwise.search.compiled import CompiledTree
from branchwise.search.compiled.tree import merged
from branchwise.search.engine import Root, search
from branchwise.search.evaluation import RandomRollout, ValueFunction
from branchwise.search.extraction import sibling_pairs
from branchwise.search.rules.targets import best_of, playable, visit_shares
from branchwise.search.settings import SearchSettings
from branchwise.search.trees.tree import Tree
from branchwise.training.value import value_rows

NAN, INF = np.nan, np.inf


def after(squares: str) -> BoardState:
    state = GAME.reset(0)
    for square in squares:
        state = GAME.step(state, square)
    return state


WINS = after("124759")  # x wins by 6; after 3 or 8 the game goes on


# ---- the rule -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "left"),
    [
        ([NAN, INF, NAN, INF], [0, 1, 0, 1]),  # proven wins alone
        ([NAN, -INF, NAN], [1, 0, 1]),  # no proven loss while another move exists
        ([-INF, -INF], [1, 1]),  # nothing else exists
        ([-INF, 0.0, 0.0], [0, 1, 1]),  # all solved: the best
        ([0.3, 0.7, -INF], [0, 1, 0]),
        ([0.3, NAN], [0, 1]),  # the open one looks better
        ([0.5, NAN], [1, 0]),  # it does not
        ([NAN, 0.3], [1, 0]),
        ([0.6, 0.3, NAN, 0.6], [1, 0, 0, 1]),
        ([NAN, NAN], [1, 1]),
        ([], []),
    ],
)
def test_what_is_proven_leaves_these_actions(known: list[float], left: list[int]) -> None:
    returns = np.array(known, np.float64)
    ones = np.ones(len(known))
    assert playable(returns, ones, 0.5 * ones).tolist() == [bool(each) for each in left]


def test_the_rival_of_what_is_known_is_the_open_action_that_the_rule_would_choose() -> None:
    known, visits = np.array([0.4, NAN, NAN, NAN]), np.array([90.0, 9.0, 3.0, 0.0])
    values = np.array([0.4, 0.3, 0.5, NAN])
    prior = np.full(4, 0.25)
    assert playable(known, visits, values, "visits").tolist() == [True, False, False, False]
    assert playable(known, visits, values, "value").tolist() == [False, True, True, True]
    assert best_of(known, visits, values, prior, "visits") == 0
    assert best_of(known, visits, values, prior, "value") == 2
    assert playable(known, visits * [1, 0, 0, 0], values).tolist() == [True, False, False, False]  # no rival


def test_the_target_is_largest_at_the_best_action_whatever_is_known() -> None:
    rng = np.random.default_rng(0)
    for _ in range(3_000):
        count = int(rng.integers(1, 6))
        known = rng.choice([NAN, NAN, INF, -INF, 0.0, 0.5], count)
        visits = rng.integers(0, 5, count).astype(float)
        values = np.where(visits > 0, rng.normal(size=count), NAN)
        prior = rng.dirichlet(np.ones(count))
        target = visit_shares(visits, values, prior, known)
        assert target.sum() == pytest.approx(1.0)
        assert target[best_of(known, visits, values, prior)] == target.max() > 0.0


def test_shares_are_those_of_the_visits_of_the_actions_that_are_left() -> None:
    visits, prior = np.array([6.0, 3.0, 1.0]), np.array([0.2, 0.3, 0.5])

    def shares(*known: float, visits: np.ndarray = visits) -> list[float]:
        return visit_shares(visits, np.zeros(3), prior, np.array(known)).tolist()

    assert shares(NAN, NAN, NAN) == pytest.approx([0.6, 0.3, 0.1])
    assert shares(-INF, NAN, NAN) == pytest.approx([0.0, 0.75, 0.25])
    assert shares(NAN, INF, INF) == pytest.approx([0.0, 0.75, 0.25])
    assert shares(-INF, NAN, NAN, visits=visits * [1, 0, 0]) == pytest.approx([0, 0.375, 0.625])
    assert visit_shares(np.zeros(2), np.zeros(2), np.array([0.0, 1.0]), np.array([INF, NAN])).tolist() == [1.0, 0.0]


# ---- the trees ------------------------------------------------------------------------------------------------------


def grown(state: Any, simulator: Any = GAME, **options: Any) -> Tree:
    chosen = flat_settings(**{"simulations": 200, "selection": "alphazero", **options})
    [tree] = search(simulator, [Root(state, task={"seed": 0})], None, RandomRollout(), chosen, np.random.default_rng(0))
    return tree


def compiled_grown(state: Any, **options: Any) -> CompiledTree:
    chosen = flat_settings(**{"simulations": 200, "selection": "alphazero", **options})
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
    assert {answers.action(grown(WINS), "temperature", 1.0, rng) for _ in range(20)} == {"6"}
    agent = SearchingAgent(None, RandomRollout(), SearchSettings(simulations=200, selection="alphazero"))  # type: ignore[arg-type]
    assert agent.act(GAME, [WINS], [()], [rng])[0].action == "6"


def test_what_one_of_several_compiled_trees_has_proven_counts_in_their_merged_table() -> None:
    few, many = compiled_grown(WINS, simulations=2, selection="uct"), compiled_grown(WINS, selection="uct")
    assert not few.proof()
    together = few.root_table()["6"][0] + many.root_table()["6"][0]
    assert merged([few, many])["6"] == merged([many, few])["6"] == (together, 1.0)
    assert merged([many, many])["6"] == (2 * many.root_table()["6"][0], 1.0)


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
                assert target[list(tree.children(node)).index(tree.best_child(node, "visits"))] == target.max()
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
    assert answers.action(tree, "temperature", 1.0, np.random.default_rng(0)) == "2"


class EndOrGoOn(Shelves):
    """``0`` ends the episode and earns ``paid``; ``1`` opens 39 more steps that pay nothing."""

    def __init__(self, paid: float, players: int = 1) -> None:
        self.paid, self.players = paid, players
        self.zero_sum = players == 2

    def current_player(self, state: tuple[int, ...]) -> int:
        return TERMINAL if state[:1] == (0,) or len(state) == 40 else len(state) % self.players

    def legal_actions(self, state: tuple[int, ...]) -> list[str]:
        return ["0", "1"] if not state else ["1", "2"]

    def rewards(self, state: tuple[int, ...]) -> tuple[float, ...]:
        paid = self.paid if state == (0,) else 0.0
        return (paid,) if self.players == 1 else (paid, -paid)


@pytest.mark.parametrize(
    ("paid", "of_open", "players", "best"),
    [(1.0, 0.2, 1, "0"), (0.1, 0.2, 1, "1"), (0.0, -0.8, 2, "0"), (0.0, 0.8, 2, "1")],
)
def test_a_known_return_beside_an_open_action_is_played_and_learnt_where_it_is_better(
    paid: float, of_open: float, players: int, best: str
) -> None:
    options = SearchSettings(simulations=200, selection="puct")
    rng = np.random.default_rng(0)
    [tree] = search(EndOrGoOn(paid, players), [Root(())], None, ValueFunction(lambda *_: of_open), options, rng)
    assert tree.is_solved(tree.children()[0])
    assert not tree.is_solved(tree.children()[1])
    assert tree.best_action() == tree.best_action("value") == best
    assert dict(zip(*tree.policy_target(), strict=True)) == {best: 1.0, "10"[int(best)]: 0.0}
    assert {answers.action(tree, "temperature", 1.0, rng) for _ in range(50)} == {best}


class Coin(Shelves):
    """One choice, then luck: heads (1 in 10) pay 1."""

    def current_player(self, state: tuple[int, ...]) -> int:
        return (0, CHANCE, TERMINAL)[len(state)]

    def chance_outcomes(self, state: tuple[int, ...]) -> list[tuple[str, float]]:
        return [("0", 0.1), ("1", 0.9)]

    def rewards(self, state: tuple[int, ...]) -> tuple[float, ...]:
        return (1.0 if len(state) == 2 and state[1] == 0 else 0.0,)


def test_luck_does_not_choose_the_best_known_outcome() -> None:
    tree = grown((), Coin())
    child = tree.children()[0]
    actions, target = tree.policy_target(child)
    assert actions[int(target.argmax())] == tree.actions[tree.best_child(child, "visits")] == "1"
    assert (target > 0.0).all()


def test_pairs_and_critics_learn_what_is_proven() -> None:
    tree = grown(WINS)
    assert value_rows(tree)[0].q == 1.0, "the root, as who is to move there sees it"
    of_root = [pair for pair in sibling_pairs(tree)[0] if pair.node == 0]
    assert [(pair.chosen[0].text, pair.chosen_q) for pair in of_root] == [("6", 1.0)]


def test_without_the_solver_or_with_a_discount_values_stay_means() -> None:
    for options in ({"solve": False}, {"discount": 0.9}):
        tree = grown(WINS, **options)
        assert tree.value(0) == tree.mean(0) < 1.0
        assert not any(tree.proof(node) for node in range(len(tree)))
