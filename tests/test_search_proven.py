"""What a search hands out to play and to learn from agrees with what is proven: general and compiled trees."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from flat_settings import flat_settings

from branchwise.agents.searching import SearchingAgent
from branchwise.envs.games.board import BoardState
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.play.transcript import observed
from branchwise.envs.simulator import CHANCE, TERMINAL, Simulator
from branchwise.search import answers, compiled
from branchwise.search.compiled import CompiledTree
from branchwise.search.compiled.tree import merged
from branchwise.search.engine import Root, search
from branchwise.search.evaluation import RandomRollout, ValueFunction
from branchwise.search.expansion import prepare_root
from branchwise.search.extraction import sibling_pairs
from branchwise.search.rules.backup import DRAW, LOSS, WIN
from branchwise.search.rules.gumbel import root_answer
from branchwise.search.rules.targets import best_of, playable, visit_shares
from branchwise.search.settings import SearchSettings, settings_record
from branchwise.search.trees.children import Children
from branchwise.search.trees.nodes import BUSY, ENDED, EXPANDED, FAILED, SOLVED, VALUED
from branchwise.search.trees.tree import Tree
from branchwise.training.value import value_rows

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


# ---- reading a tree, by hand ----------------------------------------------------------------------------------------


def family(visits: list[int], values: list[float], player: int = 0, **options: Any) -> Tree:
    """A root and its children, whose visits and mean returns are given."""
    tree, count = Tree(None, None, (), **options), len(visits)
    tree.nodes["player"][0] = player
    words = [f"a{i}" for i in range(count)]
    rewards = np.zeros((count, tree.players)) if tree.all_returns().shape[1] else [0.0] * count
    tree.add_children(
        0, Children(words, [None] * count, np.full(count, 1 / max(count, 1)), [0.0] * count, rewards, [0] * count)
    )
    tree.nodes["visits"][1:] = visits
    tree.nodes["value_sum"][1:] = np.array(visits) * np.array(values)
    return tree


@pytest.mark.parametrize(
    ("visits", "left", "decided"),
    [
        ([5, 2], 2, True),
        ([5, 2], 3, False),  # the other can still draw level
        ([2, 3, 5], 1, True),
        ([2, 3, 5], 2, False),
        ([4, 4], 0, False),
        ([1], 1000, True),
        ([0], 1000, True),
        ([], 0, False),
    ],
)
def test_a_search_is_decided_once_the_second_cannot_draw_level(visits: list[int], left: int, decided: bool) -> None:
    tree = family(visits, [0.0] * len(visits))
    assert tree.is_decided(left) == decided
    if visits:
        tree.nodes["flags"][1] |= SOLVED
        assert not tree.is_decided(left)


def test_a_new_tree_is_of_one_player_who_waits_for_nothing() -> None:
    tree = Tree(None, None, (observed("go"),))
    assert (tree.index, tree.discount, tree.players, tree.zero_sum, tree.noisy) == (0, 1.0, 1, False, False)
    assert (tree.task, tree.settings, tree.last_error, tree.stopped) == ({}, {}, "", "")
    assert set(tree.counters.values()) == {0}
    assert (tree.actions, tree.luck()[1], tree.left_out()) == ([""], None, "")
    alone = Tree(GAME, None, ())  # whose root has no state
    assert (alone.player(), len(alone), alone.known) == (0, 1, {})
    assert Tree(None, "kept", ()).states[0] == "kept"


def test_without_a_node_the_root_is_asked() -> None:
    """Player 1 moves at the root and has lost; at its only action luck decides between two ends."""
    tree = family([3], [0.5], 1, players=2, zero_sum=True)
    tree.add_children(1, Children(["heads", "tails"], [None] * 2, np.full(2, 0.5), [0.0] * 2, [0.0] * 2, [SOLVED, 0],
                      players=[CHANCE, 0]))  # fmt: skip
    tree.nodes["flags"][0] |= SOLVED
    tree.nodes["proof"][:2] = [WIN, LOSS]
    assert [tree.player(), tree.player(1), tree.player(2)] == [1, 0, CHANCE]
    assert (tree.proof(), tree.proof(1)) == ("loss", "win")
    assert (tree.is_solved(), tree.is_solved(1)) == (True, False)
    assert [list(tree.children()), list(tree.children(1))] == [[1], [2, 3]]
    assert [len(tree.known_returns()), len(tree.known_returns(1))] == [1, 2]
    assert [tree.child_numbers()[1].tolist(), tree.child_numbers(1)[1].tolist()] == [[3.0], [0.0, 0.0]]
    assert tree.policy_target()[0] == ["a0"]
    assert tree.best_child() == 1
    assert (tree.best_child(2), tree.best_child(3, "value")) == (-1, -1)
    assert tree.transcript() == ()


def test_a_rule_that_there_is_none_of_is_refused() -> None:
    tree = family([1, 2], [0.0, 0.0])
    with pytest.raises(ValueError, match="final is 'most'; expected 'visits' or 'value'"):
        tree.best_child(0, "most")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the root has no Gumbel draws; search with selection='gumbel'"):
        tree.gumbel_child()


def test_a_tree_is_shown_in_one_line() -> None:
    tree = family([1, 2], [0.0, 0.0], index=3, task={"seed": 7})
    tree.nodes["visits"][0] = 4
    assert repr(tree) == "Tree(index=3, nodes=3, visits=4, task={'seed': 7})"


@pytest.mark.parametrize(("player", "returns"), [(0, [0.25, -0.25]), (1, [-0.25, 0.25])])
def test_returns_of_opposed_players_are_opposite(player: int, returns: list[float]) -> None:
    tree = family([4, 0], [0.25, 0.0], player, players=2, zero_sum=True)
    assert tree.returns(1).tolist() == returns
    assert np.isnan(tree.returns(2)).all()


def test_the_return_of_one_player_is_its_value() -> None:
    tree = family([4, 0], [0.25, 0.0])
    assert tree.returns(1).tolist() == [0.25]
    assert np.isnan(tree.returns(2)).all()


def test_where_only_one_return_is_kept_the_others_are_not_known() -> None:
    tree = family([4], [0.25], 1, players=3, one_number=True)
    assert np.array_equal(tree.returns(1), [NAN, 0.25, NAN], equal_nan=True)


def test_all_returns_are_kept_where_no_number_says_all() -> None:
    kept = {
        (players, zero_sum): Tree(None, None, (), players=players, zero_sum=zero_sum).all_returns().shape[1]
        for players, zero_sum in ((1, False), (2, True), (2, False), (3, False), (3, True))
    }
    assert kept == {(1, False): 0, (2, True): 0, (2, False): 4, (3, False): 6, (3, True): 6}
    assert Tree(None, None, (), players=3, one_number=True).all_returns().shape[1] == 0
    with pytest.raises(ValueError, match=r"returns of shape \(1, 4\) for 1 nodes and 3 players"):
        Tree(None, None, (), players=3).take_all_returns(np.zeros((1, 4)))


def test_a_value_is_seen_by_who_moves() -> None:
    opposed = [family([], [], player, players=2, zero_sum=True).seen_by_mover(0, 0.5) for player in (0, 1)]
    assert opposed == [0.5, -0.5]
    assert family([], [], 1, players=2).seen_by_mover(0, 0.5) == 0.5
    assert family([], [], 2, players=3).seen_by_mover(0, np.array([0.5, 0.25, 0.125])) == 0.125
    assert family([], [], CHANCE, players=3).seen_by_mover(0, np.array([0.5, 0.25, 0.125])) == 0.5


def test_a_proven_action_is_worth_what_it_earned_and_what_is_proven() -> None:
    tree = family([2, 2, 2, 0], [0.25] * 4, players=2, zero_sum=True)
    tree.nodes["proof"][1:] = [WIN, DRAW, LOSS, WIN]
    tree.nodes["reward"][1:] = 0.5
    assert [tree.value(node) for node in (1, 2, 3)] == [1.5, 0.5, -0.5]
    assert np.isnan(tree.value(4))
    tree.nodes["proof"][0], tree.nodes["visits"][0], tree.nodes["reward"][0] = DRAW, 7, 0.5
    assert tree.value(0) == 0.0  # no action led to the root
    tree.nodes["flags"][1] |= ENDED
    assert tree.value(1) == 0.25
    tree.nodes["player"][0] = 1
    assert [tree.value(node) for node in (2, 3)] == [0.5, 1.5]
    assert [tree.proof(node) for node in (1, 2, 3)] == ["loss", "draw", "win"]


@pytest.mark.parametrize("discount", [1.0, 0.5])
@pytest.mark.parametrize("player", [0, 1])
def test_the_value_of_a_state_leaves_out_the_step_into_it(discount: float, player: int) -> None:
    """V = (Q − r) / γ, for player 0."""
    for players, zero_sum in ((2, True), (1, False)):
        tree = family([4], [0.75], player if players == 2 else 0, players=players, zero_sum=zero_sum, discount=discount)
        tree.nodes["reward"][1] = 0.25
        root = came_again(tree)
        assert (tree.visits(1), tree.mean(1)) == (5, 0.75)
        assert root == 0.75  # to who chose it
    tree = family([4], [0.75], player, players=2, zero_sum=True)
    tree.nodes["proof"][1] = LOSS
    assert came_again(tree) == (-1.0 if player == 0 else 1.0)
    many = family([4], [0.75], player, players=3, discount=discount)
    many.take_all_returns(np.array([[0.0] * 6, [3.0, 2.0, 1.0, 0.25, 0.0, 0.0]]))
    came_again(many)
    assert many.all_returns()[0, :3].tolist() == [0.75, 0.5, 0.25]
    assert many.all_returns()[1, :3].tolist() == [3.75, 2.5, 1.25]


@pytest.mark.parametrize("players", [1, 3])
@pytest.mark.parametrize(
    ("visits", "discount", "added"), [(0, 1.0, 0.25), (1, 1.0, 0.75), (4, 0.0, 0.25), (0, 0.0, 0.25), (1, 0.5, 0.75)]
)
def test_a_solved_state_of_which_nothing_was_found_adds_the_step_into_it(
    visits: int, discount: float, added: float, players: int
) -> None:
    tree = family([visits], [0.75], players=players, discount=discount)
    tree.nodes["reward"][1] = 0.25
    if players == 3:
        tree.take_all_returns(np.array([[0.0] * 6, [0.75 * visits, 0.5 * visits, 0.25 * visits, 0.25, 0.125, 0.0]]))
    assert came_again(tree) == added
    if players == 3:
        assert tree.all_returns()[0, :3].tolist() == ([added, 0.5, 0.25] if visits and discount else [0.25, 0.125, 0.0])


def came_again(tree: Tree) -> float:
    """What a simulation that ends at the solved node 1 once more adds to the root's sum."""
    tree.nodes["flags"][1] |= SOLVED
    before = float(tree.nodes["value_sum"][0])
    tree.mark_under_way(1)
    tree.back_up(
        1,
        99.0 if tree.players < 3 else np.full(3, 99.0),
        settings_record(SearchSettings(discount=tree.discount), zero_sum=tree.zero_sum, players=tree.players),
    )
    return float(tree.nodes["value_sum"][0]) - before


def test_without_a_generator_trees_draw_by_their_index() -> None:
    draws = [Tree(None, None, (), index=index).rng.random() for index in (0, 1)]
    assert draws == [np.random.default_rng(index).random() for index in (0, 1)]


def test_answers_are_refused_where_there_are_none() -> None:
    tree = family([1, 2], [0.0, 0.0])
    with pytest.raises(ValueError, match="node 1 has no children: no simulation expanded it"):
        answers.action(tree, node=1)
    tree.last_error = "policy.score failed"
    with pytest.raises(ValueError, match=r"node 1 has no children: policy\.score failed"):
        answers.action(tree, node=1)
    tree.add_children(1, Children(["b"], [None], np.ones(1), [0.0], [0.0], [0]))
    with pytest.raises(ValueError, match="by='gumbel' reads the root's draws; other nodes have none"):
        answers.action(tree, "gumbel", node=1)
    for temperature in (-5e-324, NAN):
        with pytest.raises(ValueError, match=rf"temperature is {temperature}; expected 0 \(the most visited\) or more"):
            answers.action(tree, "temperature", temperature)


def test_a_draw_by_temperature_follows_a_power_of_the_visits() -> None:
    tree = family([16, 4, 0], [0.0] * 3)
    rng = np.random.default_rng(0)

    def share(*temperature: float) -> list[float]:
        drawn = [answers.action(tree, "temperature", *temperature, rng=rng) for _ in range(2000)]  # type: ignore[misc]
        return [drawn.count(name) / 2000 for name in ("a0", "a1", "a2")]

    assert share() == pytest.approx([0.8, 0.2, 0.0], abs=0.03)
    assert share(2.0) == pytest.approx([2 / 3, 1 / 3, 0.0], abs=0.03)
    assert share(0.0) == [1.0, 0.0, 0.0]
    own, other = (family([5, 5], [0.0] * 2, index=4) for _ in range(2))
    drawn = [answers.action(own, "temperature") for _ in range(20)]
    assert drawn == [f"a{int(other.rng.random() >= 0.5)}" for _ in range(20)]  # the tree's own generator


def test_a_draw_where_nothing_was_visited_is_the_likeliest() -> None:
    tree = family([0, 0], [0.0, 0.0])
    tree.nodes["prior"][2] = 0.75
    assert answers.action(tree, "temperature") == "a1"
    assert [row.action for row in answers.child_table(tree)] == ["a1", "a0"]
    assert [row.share for row in answers.child_table(tree)] == [0.0, 0.0]


def test_the_table_of_children_is_in_order_of_visits_then_of_priors() -> None:
    tree = family([2, 5, 2, 2], [0.5, 0.25, 0.0, 0.0])
    tree.nodes["prior"][1:] = [0.125, 0.25, 0.5, 0.125]
    rows = answers.child_table(tree)
    assert [row.node for row in rows] == [2, 3, 1, 4]
    assert rows[0] == answers.ChildRow(2, "a1", 5, 5 / 11, 0.25, 0.25, "")


# ---- the rule, at its edges -----------------------------------------------------------------------------------------


def test_of_equal_actions_the_other_number_decides_and_then_the_first() -> None:
    open_, prior = np.full(3, NAN), np.array([0.25, 0.25, 0.5])
    assert best_of(open_, np.array([2.0, 3.0, 3.0]), np.array([0.0, 0.25, 0.5]), prior) == 2
    assert best_of(open_, np.array([2.0, 3.0, 3.0]), np.array([0.0, 0.5, 0.5]), prior) == 1
    assert best_of(open_, np.array([2.0, 3.0, 4.0]), np.array([0.5, 0.5, 0.0]), prior, "value") == 1
    assert best_of(open_, np.zeros(3), np.full(3, NAN), prior) == 2
    assert best_of(np.array([NAN, NAN, -INF]), np.zeros(3), np.full(3, NAN), prior) == 0  # the likeliest is lost
    assert best_of(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0)) == -1


def test_shares_where_nothing_has_a_visit_or_a_prior_are_equal() -> None:
    none = np.zeros(2)
    assert visit_shares(none, none, none, np.full(2, NAN)).tolist() == [0.5, 0.5]
    assert visit_shares(none, none, none, np.array([NAN, -INF])).tolist() == [1.0, 0.0]
    assert visit_shares(none, none, np.array([0.25, 0.5]), np.full(2, NAN)) == pytest.approx([1 / 3, 2 / 3])


def test_the_values_of_children_are_their_rewards_and_what_is_proven() -> None:
    tree = Tree(None, None, (), players=2, zero_sum=True)
    tree.add_children(0, Children(["a", "b"], [None] * 2, np.full(2, 0.5), [0.0] * 2, [0.5] * 2, [0, 0]))
    tree.nodes["visits"][1:], tree.nodes["proof"][1:] = 4, [WIN, LOSS]
    assert tree.child_values().tolist() == [1.5, -0.5]
    tree.nodes["player"][0] = 1
    assert tree.child_values().tolist() == [-0.5, 1.5]
    tree.nodes["flags"][1] |= ENDED
    assert tree.child_values().tolist() == [0.0, 1.5]
    tree.nodes["visits"][2] = 0
    np.testing.assert_array_equal(tree.child_values(), [0.0, NAN])


# ---- writing a tree, by hand ----------------------------------------------------------------------------------------


def test_after_gumbel_the_target_is_the_improved_policy_by_the_usual_numbers_where_none_are_kept() -> None:
    tree = family([3, 1, 0], [0.5, 0.25, 0.0])
    tree.nodes["hint"][0] = 0.375
    values, visits, prior = np.array([0.5, 0.25, 0.0]), np.array([3.0, 1.0, 0.0]), np.full(3, 1 / 3)
    for kept, numbers in (({}, (0.1, 50.0, True)), ({"value_scale": 2.0, "maxvisit_init": 7.0}, (2.0, 7.0, True)),
                          ({"rescale_values": False}, (0.1, 50.0, False))):  # fmt: skip
        tree.settings = {"selection": {"gumbel": kept}}
        _, expected = root_answer(np.zeros(3), values, visits, prior, 0.375, *numbers)
        assert tree.policy_target()[1] == pytest.approx(expected, rel=1e-6)
    tree.settings = {"selection": "puct"}
    assert tree.policy_target() == (["a0", "a1", "a2"], pytest.approx([0.75, 0.25, 0.0]))
    unseen = family([0, 0], [0.0, 0.0])
    unseen.settings = {"selection": "gumbel"}
    assert unseen.policy_target()[1].tolist() == [0.5, 0.5]


def test_the_draws_of_gumbel_decide_at_the_root_alone() -> None:
    tree = family([2, 2], [0.25, 0.5])
    tree.add_children(1, Children(["b0", "b1"], [None] * 2, np.full(2, 0.5), [0.0] * 2, [0.0] * 2, [0, 0]))
    tree.nodes["visits"][4] = 1
    tree.settings = {"selection": "gumbel"}
    assert (tree.best_child(), tree.best_child(1)) == (2, 4)
    tree.take_beside_nodes({**tree.beside_nodes(), "gumbel": [9.0, 0.0], "considered": [2, 2]})
    assert (tree.best_child(), tree.gumbel_child(), tree.best_child(1), tree.best_child(0, "visits")) == (1, 1, 4, 2)
    tree.settings = {"selection": "puct"}
    assert tree.best_child() == 2


def test_the_rule_that_was_set_decides_where_none_is_named() -> None:
    tree = family([3, 1], [0.25, 0.5])
    assert tree.best_action() == "a0"
    tree.settings = {"final": "value"}
    assert (tree.best_action(), tree.best_action("visits"), tree.best_action("value")) == ("a1", "a0", "a1")
    tree.settings = {"selection": "gumbel"}  # which has no draws here
    assert tree.best_action() == "a0"


@pytest.mark.parametrize(
    ("players", "zero_sum", "discount", "settings", "kept"),
    [
        (2, True, 1.0, {"solve": True}, (True, True, False, True)),
        (2, True, 1.0, {}, (True, True, False, False)),
        (2, True, 0.5, {"solve": True}, (True, True, False, False)),
        (2, True, 1.0, {"solve": True, "hide_outcome": True}, (True, True, True, False)),
        (1, False, 1.0, {"solve": True}, (True, False, False, False)),
        (2, False, 1.0, {"solve": True}, (False, False, False, False)),
    ],
)
def test_settings_say_what_a_tree_keeps_of_a_step(
    players: int, zero_sum: bool, discount: float, settings: Any, kept: tuple[bool, ...]
) -> None:
    """One number, opposed players, a hidden outcome, proofs."""
    tree = Tree(None, None, (), players=players, zero_sum=zero_sum, discount=discount)
    tree.settings = settings
    assert tree.step_rules == kept


@pytest.mark.parametrize(("player", "reward"), [(0, 0.25), (1, 0.5), (2, 0.75), (CHANCE, 0.25)])
def test_an_action_of_several_players_earns_what_it_pays_who_takes_it(player: int, reward: float) -> None:
    tree = Tree(None, None, (), players=3)
    tree.nodes["player"][0] = player
    tree.add_children(0, Children(["a"], [None], np.ones(1), [0.0], np.array([[0.25, 0.5, 0.75]]), [0]))
    assert tree.nodes["reward"].tolist() == [0.0, reward]
    assert tree.all_returns().tolist() == [[0.0] * 6, [0.0, 0.0, 0.0, 0.25, 0.5, 0.75]]
    tree.add_children(1, Children([], [], np.zeros(0), [], [], []))
    assert (len(tree), list(tree.children(1)), tree.has(1, EXPANDED)) == (2, [], True)


def test_links_lead_to_the_node_that_holds_their_state() -> None:
    tree = family([1, 1, 1, 1], [0.0] * 4)
    tree.link(3, 1)
    tree.link(4, 1)
    assert [tree.links_to(node) for node in range(5)] == [[], [3, 4], [], [], []]
    assert [tree.source(node) for node in range(5)] == [0, 1, 2, 1, 1]
    assert tree.counters["transpositions"] == 2


def test_what_a_search_left_out_does_not_matter_where_the_root_is_proven() -> None:
    tree = family([1, 1], [0.0, 0.0], players=2, zero_sum=True)
    assert tree.left_out() == ""
    tree.mark_incomplete(2)
    assert tree.left_out() == "exhausted"
    tree.nodes["flags"][2] |= FAILED
    assert tree.left_out() == "exhausted"  # it is open
    tree.nodes["flags"][2] |= SOLVED
    assert tree.left_out() == "failed"
    tree.nodes["proof"][1] = LOSS
    assert tree.left_out() == "failed"
    tree.nodes["proof"][0] = WIN
    assert tree.left_out() == ""


@pytest.mark.parametrize("players", [2, 3])
def test_where_a_step_is_known_by_who_took_it_alone_no_path_adds_up(players: int) -> None:
    tree = family([1], [0.0], players=players, one_number=True)
    with pytest.raises(ValueError, match="this tree keeps of a step the reward of who took it alone"):
        tree.path_return(1)


@pytest.mark.parametrize("player", [0, 1])
def test_the_hidden_outcome_of_an_end_becomes_the_reward_of_who_came_there(player: int) -> None:
    tree = family([0, 0], [0.0, 0.0], player, players=3)
    tree.set_terminal_value(2, np.array([0.5, 0.25, 0.125]))
    assert float(tree.nodes["reward"][2]) == (0.5, 0.25)[player]
    assert tree.all_returns()[2].tolist() == [0.0, 0.0, 0.0, 0.5, 0.25, 0.125]
    assert [tree.has(node, VALUED) for node in (1, 2)] == [False, True]
    one = family([0, 0], [0.0, 0.0])
    one.set_terminal_value(1, -0.5)
    assert (float(one.nodes["reward"][1]), one.has(1, VALUED), one.has(2, VALUED)) == (-0.5, True, False)


@pytest.mark.parametrize("drawn", [False, True])
def test_luck_is_put_back_to_where_it_was(drawn: bool) -> None:
    tree = family([0], [0.0])
    tree.draws = 11
    luck = tree.luck(drawn=drawn)
    first = tree.rng.random()
    tree.draws = 12
    tree.set_luck(luck)
    assert tree.draws == 11
    assert (tree.rng.random() == first) == drawn


def test_noise_is_mixed_into_the_roots_prior_once() -> None:
    tree = family([0, 0], [0.0, 0.0])
    tree.mix_root_prior(np.array([1.0, 0.0]), 0.25)
    assert [tree.prior(node) for node in (0, 1, 2)] == [1.0, 0.625, 0.375]
    assert tree.noisy
    prepare_root(tree, SearchSettings(noise=0.25))
    assert [tree.prior(node) for node in (1, 2)] == [0.625, 0.375]
    fresh = family([0, 0], [0.0, 0.0])
    prepare_root(fresh, SearchSettings(noise=0.0))
    assert ([fresh.prior(node) for node in (1, 2)], fresh.noisy) == ([0.5, 0.5], False)
    prepare_root(fresh, SearchSettings(noise=0.25))
    assert ([fresh.prior(node) for node in (1, 2)] != [0.5, 0.5], fresh.noisy) == (True, True)


def test_a_simulation_that_is_under_way_is_marked_on_its_whole_path_and_forgotten() -> None:
    tree = family([0, 0], [0.0, 0.0])
    tree.add_children(2, Children(["b"], [None], np.ones(1), [0.0], [0.0], [0]))
    tree.mark_under_way(3)
    tree.mark_under_way(1)
    tree.nodes["flags"][3] |= BUSY | ENDED
    assert tree.nodes["pending"].tolist() == [2, 1, 1, 1]
    tree.forget_pending()
    assert tree.nodes["pending"].tolist() == [0, 0, 0, 0]
    assert (tree.has(3, BUSY), tree.has(3, ENDED)) == (False, True)


def test_a_failure_is_counted_with_its_words_and_a_closed_action_only_told() -> None:
    record = settings_record(SearchSettings(), zero_sum=False, players=1)
    tree = family([1, 1], [0.0, 0.0])
    tree.mark_under_way(1)
    tree.abandon(1, "lost", record)
    assert (tree.counters["failed_leaves"], tree.last_error, tree.is_solved(1)) == (1, "lost", True)
    tree.mark_under_way(2)
    tree.close_action(2, "gone", record)
    assert (tree.counters["failed_leaves"], tree.last_error, tree.is_solved(2)) == (1, "gone", True)
    assert not tree.nodes["pending"].any()
    assert tree.left_out() == "failed"
