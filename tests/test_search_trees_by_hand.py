"""Trees that are written by hand, read as a search would: what is played, what is solved, and a rule at its edges."""

from typing import Any

import numpy as np
import pytest
from toys import GAME

from branchwise.envs.play.transcript import observed
from branchwise.envs.simulator import CHANCE
from branchwise.search import answers
from branchwise.search.expansion import prepare_root
from branchwise.search.rules.backup import DRAW, LOSS, WIN
from branchwise.search.rules.gumbel import root_answer
from branchwise.search.rules.targets import best_of, visit_shares
from branchwise.search.settings import SearchSettings, settings_record
from branchwise.search.trees.children import Children
from branchwise.search.trees.nodes import BUSY, ENDED, EXPANDED, FAILED, SOLVED, VALUED
from branchwise.search.trees.tree import Tree

NAN, INF = np.nan, np.inf


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
