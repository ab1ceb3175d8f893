"""Equal positions of several trees, built by hand: counts add up, proofs last, few visits are left out."""

import numpy as np
from test_search_extraction import built

from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.play.task import Root
from branchwise.envs.play.transcript import Transcript, observed
from branchwise.search.engine import search
from branchwise.search.evaluation import RandomRollout
from branchwise.search.pooling import pooled, pooled_answers, pooled_pairs
from branchwise.search.settings import SearchSettings


def last(transcript: Transcript) -> str:
    return transcript[-1].text


FIRST = built({"n": 10, "children": {"a": {"n": 6, "q": 0.5}, "b": {"n": 3, "q": 0.0}}})
SECOND = built({"n": 10, "children": {"b": {"n": 8, "q": 0.9}, "c": {"n": 1, "q": -1.0}}})


def test_visits_add_up_and_values_are_means_over_them() -> None:
    (position,), dropped = pooled([FIRST, SECOND], last)
    assert position.actions == ("a", "b", "c")
    assert position.visits.tolist() == [6, 11, 1]
    np.testing.assert_allclose(position.values, [0.5, 7.2 / 11, -1.0])
    assert position.nodes == 2
    assert not dropped


def test_the_answer_of_all_trees_is_one_row() -> None:
    (row,) = pooled_answers(pooled([FIRST, SECOND], last, round=2)[0])
    assert (row.chosen[0].text, row.chosen_visits, row.round, row.rejected) == ("b", 11, 2, ())


def test_pairs_set_the_answer_against_each_that_is_worse_by_the_threshold() -> None:
    positions, _ = pooled([FIRST, SECOND], last)
    pairs, dropped = pooled_pairs(positions, threshold=0.2, min_visits=1)
    assert [(pair.chosen[0].text, pair.rejected[0].text) for pair in pairs] == [("b", "c")]
    assert (pairs[0].rejected_q, pairs[0].rejected_visits) == (-1.0, 1)
    assert dropped["below threshold"] == 1


def test_pairs_need_visits_on_both_sides_and_are_at_most_so_many_a_position() -> None:
    positions, _ = pooled([FIRST, SECOND], last)
    assert pooled_pairs(positions, 0.1, 2)[1]["too few visits"] == 1
    pairs, dropped = pooled_pairs(positions, 0.1, 1, per_position=1)
    assert pairs[0].rejected[0].text == "c"  # the largest difference
    assert dropped["over per_position"] == 1


def test_all_pairs_of_a_position_set_the_larger_value_against_the_smaller() -> None:
    positions, _ = pooled([FIRST, SECOND], last)  # a 0.5, b 7.2 / 11, c −1
    pairs, dropped = pooled_pairs(positions, 0.2, 1, contrast="all")
    assert [(pair.chosen[0].text, pair.rejected[0].text) for pair in pairs] == [("b", "c"), ("a", "c")]
    assert pairs[1].chosen_q == 0.5
    assert dropped["below threshold"] == 1
    equal = built({"n": 9, "children": {"a": {"n": 6, "q": 0.5}, "b": {"n": 2, "q": 0.5}}})
    for contrast in ("all", "best"):
        assert pooled_pairs(pooled([equal], last)[0], 0.0, 1, contrast=contrast)[1]["tie"] == 1


def test_inner_nodes_with_few_visits_are_left_out() -> None:
    tree = built({"n": 9, "children": {"a": {"n": 8, "q": 0.5, "children": {"x": {"n": 4}, "y": {"n": 3}}}}})
    assert len(pooled([tree], last, min_visits=8)[0]) == 2
    assert len(pooled([tree], last, min_visits=9)[0]) == 1  # the root stays


def test_positions_that_read_otherwise_are_kept_apart() -> None:
    other = built({"n": 10, "children": {"a": {"n": 6, "q": 0.5}}})
    assert len(pooled([FIRST, other], id)[0]) == 2


def test_a_proven_win_of_one_tree_is_the_answer_of_all() -> None:
    game = TicTacToe()
    state = game.reset(0)
    for action in ("1", "4", "2", "5"):
        state = game.step(state, action)
    root = Root(state, (observed(game.observation(state)),))
    settings = SearchSettings(simulations=60, uniform_prior=1.0)
    trees = search(game, [root] * 3, None, RandomRollout(), settings, np.random.default_rng(0).spawn(3))
    positions, _ = pooled(trees, last, min_visits=1_000)
    (answer,) = pooled_answers(positions)
    assert answer.chosen[0].text == "3"
    assert answer.chosen_q == 1.0
