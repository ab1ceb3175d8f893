"""Trees without words: their arrays move as they grow, and the kernels must follow."""

import copy
import pickle

import numpy as np
import pytest
from flat_settings import flat_settings

from branchwise.envs.checked import LARGEST
from branchwise.envs.simulator import MOST_DRAWS
from branchwise.search.rules.backup import LOSS, WIN
from branchwise.search.rules.gumbel import root_answer
from branchwise.search.rules.options import Uct
from branchwise.search.settings import SearchSettings
from branchwise.search.trees.array_tree import ArrayTree
from branchwise.search.trees.nodes import CHANCE, ENDED


def grown(tree: ArrayTree, room_by_hand: bool = False) -> ArrayTree:
    leaves = tree.next(3)
    turn = 0
    while len(leaves):
        turn += 1
        if room_by_hand and turn % 30 == 0:
            tree.reserve(len(tree._nodes) - tree.size + 1)  # the arrays move
        values = (tree.actions_into(leaves) * 7 + leaves * 13) % 11 / 11.0
        shares = np.array([1.0, 0.5, 0.25])[: tree.values.shape[1]]
        leaves = tree.step(np.outer(values, shares), np.full((len(leaves), 4), 0.25))
    return tree


@pytest.mark.parametrize("players", [1, 3])
@pytest.mark.parametrize("selection", ["puct", "gumbel"])
def test_a_tree_whose_arrays_move_is_the_same_tree(
    selection: str, players: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SearchSettings(simulations=401, selection=selection, leaves_per_tree=3, solve=False)  # type: ignore[arg-type]
    whole = grown(ArrayTree(settings, 4, players))
    monkeypatch.setattr("branchwise.search.trees.array_tree.MOST_ROOM", 5)
    small = grown(ArrayTree(settings, 4, players), room_by_hand=True)
    assert len(whole) == len(small) == 401 * 4 + 1
    assert whole.nodes.tobytes() == small.nodes.tobytes()
    assert whole.visits().sum() == 400


def test_a_tree_is_not_copied_since_it_holds_addresses() -> None:
    tree = ArrayTree(SearchSettings(simulations=4), actions=2)
    for copying in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            copying(tree)


def test_leaves_are_told_before_others_are_asked_for() -> None:
    tree = ArrayTree(SearchSettings(simulations=9, leaves_per_tree=2), actions=2)
    assert tree.next().tolist() == [0]
    with pytest.raises(ValueError, match="1 leaves of the last call are still to be told"):
        tree.next()
    tree.tell(np.zeros(1), np.full((1, 2), 0.5))
    with pytest.raises(ValueError, match="expected 1 to leaves_per_tree=2"):
        tree.next(3)
    tree.next(2)
    tree.tell(np.array([np.nan, 0.5]), np.full((2, 2), 0.5))
    assert tree.failed == 1
    assert tree.visits().tolist() in ([0, 1], [1, 0])


@pytest.mark.parametrize("players", [1, 2, 3])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_leaf_is_taken_back_wherever_its_number_is_wrong(players: int, wrong: float) -> None:
    actions = 20  # each failure closes one
    tree = ArrayTree(SearchSettings(simulations=40, leaves_per_tree=1), actions, players)
    tree.priors[:] = 1 / actions
    tree.next()
    tree.tell()
    arrays = (tree.values, tree.rewards, tree.priors)
    places = [(array, place) for array in arrays for place in range(array.shape[1])]
    assert len(places) == 2 * players + actions
    for failed, (array, place) in enumerate(places[:15] + places[-4:], 1):
        tree.next()
        right, array[0, place] = array[0, place], wrong
        tree.tell()
        array[0, place] = right
        assert tree.failed == failed
    tree.values[0, 0] = LARGEST
    tree.next()
    tree.tell()
    assert tree.failed == failed


# ---- what is read of it ---------------------------------------------------------------------------------------------

INF, NAN = np.inf, np.nan
GOLDEN = 0x9E3779B97F4A7C15  # the step of splitmix64


def played(
    tree: ArrayTree,
    pays: dict[tuple[int, ...], tuple[float, ...]],
    values: float = 0.0,
    impossible: tuple[int, ...] = (),
) -> ArrayTree:
    """Two actions a step, players in turns, where ``pays`` says what a step earns; the second step is the last. What
    is ``impossible`` cannot be played."""
    states: dict[int, tuple[int, ...]] = {0: ()}
    leaves = tree.next()
    while len(leaves):
        leaf = int(leaves[0])
        if leaf:
            states[leaf] = (*states[int(tree.parents(leaves)[0])], int(tree.actions_into(leaves)[0]))
        state, columns = states[leaf], tree.values.shape[1]
        over = len(state) == 2
        tree.terminal[0], tree.movers[0] = over, 0 if over else len(state) % max(tree.players, 1)
        tree.rewards[0] = pays.get(state, (0.0,) * tree.players)[:columns]
        tree.values[0] = values
        tree.priors[0] = [-1.0 if (*state, action) == impossible else 0.5 for action in (0, 1)]
        leaves = tree.step()
    return tree


def settings(**options: object) -> SearchSettings:
    return flat_settings(**{"simulations": 40, "selection": "uct", **options})  # type: ignore[arg-type]


PAYS = {(0,): (0.25,), (0, 0): (0.0,), (0, 1): (0.5,), (1, 0): (0.25,), (1, 1): (0.125,)}


@pytest.mark.parametrize(("discount", "known"), [(1.0, [0.75, 0.25]), (0.5, [0.5, 0.125])])
def test_what_one_player_searched_to_the_end_is_worth_the_best_below_it(discount: float, known: list[float]) -> None:
    tree = played(ArrayTree(settings(discount=discount), 2), PAYS)
    assert tree.known_returns().tolist() == known
    assert tree.known_returns(1).tolist() == [0.0, 0.5]
    assert tree.policy_target().tolist() == [1.0, 0.0]


def test_an_action_that_is_still_open_has_no_known_return() -> None:
    tree = played(ArrayTree(settings(simulations=4, exploration=0.0), 2), PAYS)
    assert np.isnan(tree.known_returns()).all()
    tree = played(ArrayTree(settings(simulations=40), 2), PAYS, impossible=(0,))
    assert tree.known_returns().tolist() == [-INF, 0.25]
    assert tree.visits().tolist() == [0, 3]


def test_of_several_players_each_takes_its_own_best_below_what_is_closed() -> None:
    pays = {(0, 0): (0.5, 0.0, 0.25), (1, 1): (0.25, 0.5, 0.0)}
    tree = played(ArrayTree(settings(), 2, players=3), pays, impossible=(0,))
    assert tree.known_returns().tolist() == [-INF, 0.25]
    assert tree.known_returns(2).tolist() == [0.0, 0.5]
    assert tree.policy_target().tolist() == [0.0, 1.0]
    closed = played(ArrayTree(settings(), 2, players=3), pays)
    assert closed.known_returns().tolist() == [0.5, 0.25]  # below 0 both are alike to who moves: the first
    assert closed.policy_target().tolist() == [1.0, 0.0]
    assert closed.nodes["reward"].tolist() == [0.0] * 6 + [0.5]  # of (1, 1), to the second, who moved there
    opposed = played(ArrayTree(settings(), 2, players=3, zero_sum=True), pays)  # three have each their own return
    assert opposed.nodes.tobytes() == closed.nodes.tobytes()


def test_two_players_without_proofs_know_of_what_is_closed_its_mean() -> None:
    pays = {(1, 0): (0.5, -0.5), (1, 1): (0.25, -0.25)}
    tree = played(ArrayTree(settings(discount=0.5), 2, players=2, zero_sum=True), pays)
    assert np.isnan(tree.known_returns()).all()  # with a discount nothing is closed
    assert tree.policy_target() == pytest.approx(tree.visits() / tree.visits().sum())


def test_a_root_that_was_refused_ends_the_search() -> None:
    tree = ArrayTree(settings(simulations=10), 2)
    leaves = tree.next()
    assert leaves.tolist() == [0]
    assert tree.step([NAN], np.full((1, 2), 0.5)).tolist() == []
    assert tree.next().tolist() == []
    assert tree.failed == 1


@pytest.mark.parametrize(("players", "zero_sum"), [(1, False), (2, True), (3, False)])
def test_an_action_whose_leaf_failed_is_known_to_be_none(players: int, zero_sum: bool) -> None:
    tree = ArrayTree(settings(simulations=10, max_depth=1), 2, players, zero_sum)
    leaves = tree.next()
    while len(leaves):
        tree.values[:] = NAN if leaves[0] == 1 else 0.0
        leaves = tree.step(priors=np.full((1, 2), 0.5))
    assert tree.failed == 1
    assert np.array_equal(tree.known_returns(), [-INF, NAN], equal_nan=True)
    assert tree.policy_target().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("discount", [1.0, 0.5])
def test_of_two_players_a_state_whose_actions_all_failed_is_worth_its_mean(discount: float) -> None:
    tree = ArrayTree(settings(simulations=9, discount=discount), 2, players=2, zero_sum=True)
    leaves = tree.next()
    while len(leaves):
        tree.movers[0] = 0 if leaves[0] == 0 else 1
        parent = int(tree.parents(leaves)[0])
        leaves = tree.step([NAN if parent == 1 else 0.25], np.full((1, 2), 0.5))
    assert tree.failed == 2
    known = tree.known_returns()
    assert known[0] == discount * 0.25
    assert np.isnan(known[1])


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize(("reward", "terminal"), [(0.5, 1), (-2.0, 1), (LARGEST, 1), (1.0, 0), (-0.25, 0)])
def test_a_reward_that_is_no_win_draw_or_loss_is_refused_where_they_are_proven(
    reward: float, terminal: int, row: int
) -> None:
    def told(**options: object) -> ArrayTree:
        tree = ArrayTree(settings(simulations=4, leaves_per_tree=2, **options), 2, players=2, zero_sum=True)
        tree.priors[:] = 0.5
        tree.rewards[:] = 0.5  # of the root, which has none
        tree.next()
        tree.tell()
        assert tree.nodes["reward"][0] == 0.0
        tree.rewards[:] = 0.0
        assert len(tree.next(2)) == 2
        tree.rewards[row], tree.terminal[row] = reward, terminal
        return tree

    tree = told()
    for _ in range(2):  # nothing was told, so it can be set right
        with pytest.raises(ValueError, match=r"a leaf's reward is 1, 0 or -1 .*, else 0; .*solve=False"):
            tree.step()
    assert tree.visits().tolist() == [0, 0]
    tree.rewards[row], tree.terminal[row] = 1.0, 1.0
    tree.tell()
    assert tree.known_returns().tolist()[row] == INF
    for options in ({"solve": False}, {"discount": 0.5}):
        tree = told(**options)
        tree.tell()
        assert tree.visits().tolist() == [1, 1]
        assert tree.q_values()[row] == reward


def test_proofs_are_told_in_the_view_of_who_moves() -> None:
    pays = {(0, 0): (1.0, -1.0), (0, 1): (-1.0, 1.0), (1, 0): (1.0, -1.0), (1, 1): (0.0, 0.0)}
    tree = played(ArrayTree(settings(), 2, players=2, zero_sum=True), pays)
    assert tree.known_returns().tolist() == [-INF, 0.0]  # the other answers 0 with 1, and 1 with 1
    assert tree.known_returns(1)[1] == INF
    assert tree.known_returns(2)[1] == 0.0
    assert tree.value() == 0.0
    assert tree.q_values().tolist() == [-1.0, 0.0]
    discounted = played(ArrayTree(settings(discount=0.5), 2, players=2, zero_sum=True), pays)
    assert discounted.q_values()[0] > -1.0
    assert discounted.value() == float(discounted.nodes["value_sum"][0]) / int(discounted.nodes["visits"][0])


def test_what_the_other_cannot_play_does_not_save_it() -> None:
    tree = played(ArrayTree(settings(), 2, players=2, zero_sum=True), {(0, 0): (1.0, -1.0)}, impossible=(0, 1))
    assert tree.known_returns()[0] == INF
    assert tree.value() == 1.0
    assert float(tree.nodes["value_sum"][0]) < int(tree.nodes["visits"][0])  # the mean is less


@pytest.mark.parametrize("zero_sum", [False, True])
def test_an_action_of_prior_0_is_one(zero_sum: bool) -> None:
    tree = ArrayTree(settings(simulations=9), 2, players=1 + zero_sum, zero_sum=zero_sum)
    leaves = tree.next()
    while len(leaves):
        leaves = tree.step(np.full(1, 0.5), np.array([[1.0, 0.0]]))
    assert tree.visits().min() > 0
    assert tree.q_values().tolist() == [0.5, 0.5]
    assert np.isnan(tree.known_returns()).all()


def test_a_proven_action_is_worth_its_reward_and_what_is_proven() -> None:
    tree = ArrayTree(settings(simulations=9, solve=False), 2, players=2, zero_sum=True)
    leaves = tree.next()
    while len(leaves):
        leaves = tree.step(np.zeros(1), np.full((1, 2), 0.5))
    tree.nodes["reward"][1:3], tree.nodes["proof"][1:3] = 0.5, [WIN, LOSS]
    assert tree.q_values().tolist() == [1.5, -0.5]
    tree.nodes["player"][0] = 1
    assert tree.q_values().tolist() == [-0.5, 1.5]
    tree.nodes["flags"][1] |= ENDED
    assert tree.q_values().tolist() == [0.0, 1.5]
    tree.nodes["visits"][2] = 1
    assert tree.q_values().tolist() == [0.0, 1.5]
    tree.nodes["visits"][2] = 0
    assert tree.q_values().tolist() == [0.0, 0.0]


def test_the_root_is_worth_nothing_before_a_visit_and_then_its_mean() -> None:
    tree = ArrayTree(settings(solve=False), 2)
    assert np.isnan(tree.value())
    leaves = tree.next()
    tree.tell(np.array([0.25]), np.full((1, 2), 0.5))
    assert tree.value() == 0.25
    leaves = tree.next()
    tree.tell(np.array([0.75]), np.full((len(leaves), 2), 0.5))
    assert tree.value() == 0.5
    assert sorted(tree.q_values().tolist()) == [0.0, 0.75]
    read = tree.visits()
    read[:] = 99
    assert tree.visits().sum() == 1


@pytest.mark.parametrize(
    ("players", "zero_sum", "mover"), [(1, False, 0), (2, True, 0), (2, True, 1), (3, False, 0), (3, False, 2)]
)
@pytest.mark.parametrize("considered", [2, 3])
def test_after_gumbel_the_target_is_the_improved_policy(
    players: int, zero_sum: bool, mover: int, considered: int
) -> None:
    options = {"selection": "gumbel", "solve": False, "simulations": 32, "value_scale": 0.25, "maxvisit_init": 10.0}
    tree = ArrayTree(settings(**options, considered=considered), 3, players, zero_sum)
    priors = np.array([0.5, 0.25, 0.25])
    leaves = tree.next()
    raw, against = 0.375, zero_sum and mover == 1
    tree.movers[:] = mover
    while len(leaves):
        values = raw if leaves[0] == 0 else tree.actions_into(leaves)[0] / 2.0
        tree.values[:] = 9.0
        tree.values[:, 0 if zero_sum else mover] = -values if against else values
        leaves = tree.step(priors=priors[None])
    visits = tree.visits().astype(np.float64)
    assert np.count_nonzero(visits) == considered
    _, expected = root_answer(np.zeros(3), tree.q_values(), visits, priors, raw, 0.25, 10.0, True)
    assert tree.policy_target() == pytest.approx(expected)
    assert tree.policy_target() != pytest.approx(visits / visits.sum(), abs=0.01)


@pytest.mark.parametrize("selection", ["uct", "gumbel"])
def test_the_one_action_gets_all_visits(selection: str) -> None:
    tree = ArrayTree(settings(selection=selection, solve=False), 1)
    leaves = tree.next()
    while len(leaves):
        leaves = tree.step(np.zeros(1), np.ones((1, 1)))
    assert tree.visits().tolist() == [39]


def test_before_any_visit_the_target_is_the_prior() -> None:
    for selection in ("uct", "gumbel"):
        tree = ArrayTree(settings(selection=selection, solve=False, simulations=1), 2)
        tree.next()
        tree.tell(np.zeros(1), np.array([[0.75, 0.25]]))
        assert tree.policy_target().tolist() == [0.75, 0.25]


# ---- what is told to it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", ["both", "values", "priors", "written"])
def test_what_was_written_stays_where_nothing_is_given(told: str) -> None:
    whole = ArrayTree(settings(leaves_per_tree=2), 2)
    tree = ArrayTree(settings(leaves_per_tree=2), 2)
    for each in (whole, tree):
        each.next(2)
    priors = np.array([0.75, 0.25])
    tree.priors[:] = priors
    leaves = whole.step(np.full(1, 0.5), priors[None])
    tree.values[:] = 0.5
    other = tree.step(np.full(1, 0.5) if told in ("both", "values") else None,
                      priors[None] if told in ("both", "priors") else None)  # fmt: skip
    while len(leaves):
        assert leaves.tolist() == other.tolist()
        values = leaves / 100.0
        leaves = whole.step(values, np.tile(priors, (len(leaves), 1)))
        tree.values[: len(values), 0] = values
        given = values if told in ("both", "values") else None
        other = tree.step(given, np.tile(priors, (len(values), 1)) if told in ("both", "priors") else None)
    assert tree.nodes.tobytes() == whole.nodes.tobytes()


def test_values_of_several_players_are_given_leaf_by_leaf() -> None:
    for mover in range(3):
        tree = ArrayTree(settings(leaves_per_tree=2), 2, players=3)
        tree.movers[:] = mover
        tree.next()
        leaves = tree.step(np.array([[0.25, 0.5, 0.75]]), np.full((1, 2), 0.5))
        assert tree.value() == (0.25, 0.5, 0.75)[mover]
        assert len(leaves) == 2
        tree.tell(np.array([[1, 2, 3], [4, 5, 6]]), np.full((2, 2), 0.5))
        assert tree.value() == pytest.approx(np.mean([(0.25, 0.5, 0.75)[mover], 1 + mover, 4 + mover]))
        assert tree.q_values().tolist() == [1 + mover, 4 + mover]


@pytest.mark.parametrize(("players", "zero_sum"), [(1, False), (2, True), (2, False), (3, False)])
def test_a_leaf_where_nobody_moves_is_taken_back(players: int, zero_sum: bool) -> None:
    tree = ArrayTree(settings(), 12, players, zero_sum)
    tree.priors[:] = 1 / 12
    tree.next()
    tree.tell()
    for failed, mover in enumerate((players, players + 1, CHANCE - 1, NAN, INF), 1):
        tree.next()
        tree.movers[0] = mover
        tree.tell()
        assert tree.failed == failed
    for mover in (CHANCE, *range(players)):
        [leaf] = tree.next()
        tree.movers[0] = mover
        tree.tell()
        assert (tree.failed, tree.nodes["player"][leaf]) == (5, mover)


@pytest.mark.parametrize("players", [1, 3])
def test_what_may_be_done_at_an_end_is_not_read(players: int) -> None:
    tree = ArrayTree(settings(simulations=3), 2, players)
    tree.priors[:] = 0.5
    tree.next()
    tree.tell()
    tree.next()
    tree.terminal[0], tree.rewards[0], tree.priors[0] = 1.0, 0.25, NAN
    tree.tell()
    assert (tree.failed, tree.size) == (0, 3)
    assert sorted(tree.q_values()) == [0.0, 0.25]


def test_a_leaf_at_the_depth_limit_gets_no_children() -> None:
    tree = ArrayTree(settings(max_depth=2), 2)
    leaves, asked = tree.next(), 0
    while len(leaves):
        asked += 1
        leaves = tree.step(np.zeros(1), np.full((1, 2), 0.5))
    assert (tree.size, asked) == (1 + 2 + 4, 40)
    assert tree.nodes["children"].tolist() == [2, 2, 2, 0, 0, 0, 0]


def test_at_least_one_leaf_is_asked_for() -> None:
    tree = ArrayTree(settings(leaves_per_tree=2), 2)
    with pytest.raises(ValueError, match="0 leaves; expected 1 to leaves_per_tree=2"):
        tree.next(0)
    assert (tree.parents(np.array([0])).tolist(), tree.actions_into(np.array([0])).tolist()) == ([-1], [0])


def test_without_a_generator_the_draws_are_those_of_seed_0() -> None:
    def drawn(*rng: np.random.Generator) -> list[int]:
        tree = ArrayTree(settings(selection="gumbel", solve=False, considered=2, simulations=20), 6, 1, False, *rng)
        leaves = tree.next()
        while len(leaves):
            leaves = tree.step(np.zeros(len(leaves)), np.full((len(leaves), 6), 1 / 6))
        return tree.visits().tolist()

    assert drawn() == drawn(np.random.default_rng(0))
    assert any(drawn() != drawn(np.random.default_rng(seed)) for seed in range(1, 6))

    def tied(*rng: np.random.Generator) -> int:
        tree = ArrayTree(settings(random_ties=True), 6, 1, False, *rng)
        tree.next()
        return int(tree.step(np.zeros(1), np.full((1, 6), 1 / 6))[0])

    assert tied() == tied(np.random.default_rng(0))
    assert len({tied(np.random.default_rng(seed)) for seed in range(20)}) > 3


@pytest.mark.parametrize("players", [1, 3])
def test_outcomes_of_chance_are_drawn_by_their_probability_and_make_a_mean(players: int) -> None:
    """Action 0 leads to a coin of 3 : 1 that pays player 0 one or nothing, action 1 to nothing at all."""
    settings = SearchSettings(simulations=2_000, selection=Uct(exploration=1.0), solve=False)
    tree = ArrayTree(settings, actions=2, players=players)
    leaves = tree.next()
    while len(leaves):
        [leaf], [parent], [action] = leaves, tree.parents(leaves), tree.actions_into(leaves)
        drawn = parent > 0
        tree.movers[0] = CHANCE if leaf and not drawn and action == 0 else 0
        tree.terminal[0] = drawn or (leaf and action == 1)
        tree.rewards[0] = 0.0
        tree.rewards[0, 0] = float(drawn and action == 0)
        tree.values[0] = 0.0
        tree.priors[0] = [0.75, 0.25]
        leaves = tree.step()
    assert tree.failed == 0
    coin = tree.visits(1)
    assert coin.sum() > 1_800
    assert coin[0] / coin.sum() == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / coin.sum()) ** 0.5)
    assert tree.q_values()[0] == pytest.approx(coin[0] / tree.visits()[0])


def test_what_chance_cannot_reach_costs_no_simulation() -> None:
    """The first of two outcomes fails when it is first asked about; the other is drawn instead, to the last visit."""
    tree = ArrayTree(settings(solve=False), 2)
    leaves, asked = tree.next(), []
    while len(leaves):
        asked.append(int(leaves[0]))
        tree.movers[0] = CHANCE if leaves[0] == 0 else 0
        leaves = tree.step([NAN if leaves[0] == 1 else 0.0], np.full((1, 2), 0.5))
    assert asked.count(1) == tree.failed == 1
    assert len(asked) == 41
    assert tree.visits().tolist() == [0, 39]
    assert not tree.nodes["pending"].any()


def splitmix(count: int) -> np.ndarray:
    """The first numbers in [0, 1) of splitmix64 from state 0, in whole arrays: float64 ``[count]``."""
    state = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((state ^ (state >> np.uint64(31))) >> np.uint64(11)) / 2.0**53


def test_outcomes_that_failed_are_drawn_again_as_often_as_is_allowed() -> None:
    """Of two outcomes the likely one failed. The other is found if 999 draws were lost before it, not if 1,000 were."""
    came = np.flatnonzero(splitmix(8_000_000) >= 0.999)
    apart = np.diff(came)
    for draws, found in ((MOST_DRAWS, 1), (MOST_DRAWS + 1, 0)):
        tree = ArrayTree(settings(solve=False), 2)
        tree.next()
        tree.movers[0] = CHANCE
        tree.tell([0.0], [[0.999, 0.001]])
        tree.next()
        tree.tell([NAN], [[0.5, 0.5]])
        last = int(came[np.flatnonzero(apart == draws)[0]])  # the draw before them
        tree.draws = (last + 1) * GOLDEN % 2**64
        assert len(tree.next()) == found
        assert tree.draws == (last + 1 + MOST_DRAWS) * GOLDEN % 2**64
