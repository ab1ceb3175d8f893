"""Pairs from trees and episodes that were built by hand, with what each extractor leaves out."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hand_trees import TASK, built
from information_search import grown as grown_by_information

from branchwise.envs.games.leduc_poker import LeducPoker
from branchwise.envs.play.episode import Episode
from branchwise.envs.play.transcript import acted, observed
from branchwise.search.evaluation import Rollout
from branchwise.search.extraction import (
    PreferencePair,
    anchors,
    best_path_pairs,
    best_paths,
    rollout_anchors,
    sibling_pairs,
    successful_trajectories,
    trajectory_pairs,
)
from branchwise.search.trees.children import Children
from branchwise.search.trees.nodes import ENDED, VALUED


def compared(pairs: list[PreferencePair]) -> list[tuple[str, str]]:
    return [(pair.chosen[0].text, pair.rejected[0].text if pair.rejected else "") for pair in pairs]


SIBLINGS = built(
    {
        "n": 12,
        "children": {
            "good": {"n": 4, "q": 0.9, "logp": -0.5},
            "fair": {"n": 3, "q": 0.5, "logp": -1.5},
            "same": {"n": 2, "q": 0.5},
            "bad": {"n": 1, "q": 0.0, "logp": -2.5},
            "never": {},
        },
    }
)


def test_sibling_pairs_are_all_visited_siblings_that_differ_enough_the_largest_gap_first() -> None:
    pairs, dropped = sibling_pairs(SIBLINGS, threshold=0.45)
    assert compared(pairs) == [("good", "bad"), ("fair", "bad"), ("same", "bad")]
    assert dropped == Counter({"below threshold": 2, "tie": 1, "unvisited": 1})


def test_sibling_pairs_take_a_difference_equal_to_the_threshold() -> None:
    pairs, _ = sibling_pairs(SIBLINGS, threshold=0.5)
    assert compared(pairs) == [("good", "bad"), ("fair", "bad"), ("same", "bad")]


def test_sibling_pairs_of_the_best_child_only() -> None:
    pairs, dropped = sibling_pairs(SIBLINGS, threshold=0.3, contrast="best")
    assert compared(pairs) == [("good", "bad"), ("good", "fair"), ("good", "same")]
    assert dropped == Counter({"unvisited": 1})


def test_sibling_pairs_limited_a_node() -> None:
    pairs, dropped = sibling_pairs(SIBLINGS, threshold=0.3, per_node=2)
    assert compared(pairs) == [("good", "bad"), ("fair", "bad")]
    assert dropped["over per_node"] == 3


def test_pairs_as_usual_are_of_round_0_and_want_one_visit_and_a_tenth_of_difference() -> None:
    tree = built(
        {
            "n": 4,
            "children": {
                "a": {"n": 1, "q": 0.75, "r": 0.75, "end": True},
                "b": {"n": 1, "q": 0.625},
                "c": {"n": 1, "q": 0.5625},
            },
        }
    )
    pairs, dropped = sibling_pairs(tree)
    assert compared(pairs) == [("a", "c"), ("a", "b")]
    assert dropped == Counter({"below threshold": 1})
    assert anchors(tree)[1] == Counter({"has contrast": 1})
    alone = built({"n": 2, "children": {"a": {"n": 1, "q": 0.75}, "b": {"n": 1, "q": 0.6875}}})
    rows = anchors(alone)[0]
    assert compared(rows) == [("a", "")]
    rows += pairs + best_path_pairs(tree)[0] + best_paths(tree, min_return=0.5)[0]
    rows += rollout_anchors([Rollout(7, 0, (observed("start"), acted("a")), 1, 1.0)], [tree])[0]
    rows += successful_trajectories(EPISODES)[0]
    assert {row.kind for row in rows} == {
        "sibling", "best_path", "best_path_step", "anchor", "rollout", "successful_trajectory"
    }  # fmt: skip
    assert {row.round for row in rows} == {0}


def test_sibling_pairs_want_visits_on_both_sides_unless_a_child_is_solved() -> None:
    pairs, dropped = sibling_pairs(SIBLINGS, threshold=0.1, min_visits=3)
    assert compared(pairs) == [("good", "fair")]
    assert dropped == Counter({"too few visits": 2, "unvisited": 1})
    tree = built(
        {"n": 4, "children": {"a": {"n": 3, "q": 0.2}, "win": {"n": 1, "q": 1.0, "end": True, "solved": True}}}
    )
    assert compared(sibling_pairs(tree, 0.1, min_visits=3)[0]) == [("win", "a")]


def test_a_pair_says_where_it_came_from() -> None:
    [pair] = sibling_pairs(SIBLINGS, threshold=0.9, round=2)[0]
    assert pair.prompt == (observed("start"),)
    assert pair.chosen == (acted("good"),)
    assert (pair.chosen_q, pair.rejected_q) == (0.9, 0.0)
    assert (pair.chosen_visits, pair.rejected_visits) == (4, 1)
    assert (pair.ref_chosen_logp, pair.ref_rejected_logp) == (-0.5, -2.5)
    assert (pair.env_id, pair.task, pair.tree, pair.node, pair.depth, pair.round) == ("toy", TASK, 7, 0, 0, 2)
    assert pair.kind == "sibling"


def poker_tree(information: str) -> Any:
    game = LeducPoker()
    state = game.reset(0)
    while game.current_player(state) < 0:
        state = game.step(state, game.chance_outcomes(state)[0][0])
    [tree] = grown_by_information(game, [state], information=information)
    return tree


def test_nodes_of_another_s_view_are_counted_and_left_out() -> None:
    """Searched with one player's eyes, the other's moves hang below what the one knows; with everyone's, none do."""
    tree = poker_tree("single_observer")
    expanded = [node for node in range(len(tree)) if tree.children(node)]
    own = [node for node in expanded if tree.player(node) == tree.player(0)]
    assert 1 < len(own) < len(expanded)
    for pairs, dropped in (sibling_pairs(tree, 0.0), anchors(tree, -9.0, threshold=99.0)):
        assert dropped["other's view"] == len(expanded) - len(own)
        assert {pair.node for pair in pairs} <= set(own)
        assert len({pair.node for pair in pairs}) > 1
        for pair in pairs:
            assert pair.prompt == tree.transcript(pair.node)
    both = poker_tree("multiple_observer")
    pairs, dropped = sibling_pairs(both, 0.0)
    assert "other's view" not in dropped
    assert {both.player(pair.node) for pair in pairs} == {0, 1}


def test_a_single_child_and_a_tie_give_no_contrast() -> None:
    tree = built({"n": 4, "children": {"a": {"n": 3, "q": 0.5, "children": {"x": {"n": 2, "q": 0.5}}}}})
    pairs, dropped = sibling_pairs(tree)
    assert pairs == []
    assert dropped == Counter({"no contrast": 2})


PATHS = built(
    {
        "n": 20,
        "q": 0.4,
        "children": {
            "left": {
                "n": 12,
                "q": 0.3,
                "children": {
                    "lose": {"n": 8, "q": 0.0, "r": 0.0, "end": True, "solved": True},
                    "win": {"n": 2, "q": 1.0, "r": 1.0, "end": True, "solved": True},
                    "unseen": {"r": 1.0, "end": True},
                },
            },
            "right": {"n": 6, "q": 0.5, "children": {"half": {"n": 5, "q": 0.5, "r": 0.5, "end": True}}},
            "middle": {"n": 1, "q": 0.1},
        },
    }
)


def test_best_path_pairs_along_the_path_to_the_best_terminal() -> None:
    pairs, dropped = best_path_pairs(PATHS)
    assert compared(pairs) == [("right", "middle"), ("win", "lose")]
    assert [pair.depth for pair in pairs] == [0, 1]
    assert pairs[1].prompt == (observed("start"), acted("left"), observed("after left"))
    assert dropped == Counter({"unvisited": 1})


def test_best_path_pairs_against_the_second_best_and_with_a_threshold() -> None:
    pairs, dropped = best_path_pairs(PATHS, against="second", threshold=0.3)
    assert compared(pairs) == [("win", "lose")]
    assert dropped == Counter({"unvisited": 1, "below threshold": 1})


def test_best_path_pairs_may_count_the_unvisited_as_zero() -> None:
    tree = built({"n": 3, "children": {"end": {"n": 2, "q": 0.7, "r": 0.7, "end": True}, "never": {}}})
    assert compared(best_path_pairs(tree)[0]) == []
    assert compared(best_path_pairs(tree, unvisited="zero")[0]) == [("end", "never")]


def test_best_path_pairs_along_the_final_path() -> None:
    # "left" is most visited; of its solved children "win" has the better outcome
    pairs, _ = best_path_pairs(PATHS, path="final")
    assert compared(pairs) == [("right", "middle"), ("win", "lose")]


def test_best_path_pairs_take_a_difference_equal_to_the_threshold() -> None:
    assert compared(best_path_pairs(PATHS, threshold=1.0)[0]) == [("win", "lose")]
    assert compared(best_path_pairs(PATHS, threshold=1.001)[0]) == []


def test_best_path_pairs_say_which_nodes_had_one_child_or_equal_ones() -> None:
    tree = built(
        {
            "n": 9,
            "children": {
                "only": {"n": 9, "q": 0.5, "children": {
                    "a": {"n": 4, "q": 0.5, "children": {"end": {"n": 1, "q": 0.5, "r": 0.5, "end": True}}},
                    "b": {"n": 4, "q": 0.5},
                }}
            },
        }
    )  # fmt: skip
    assert best_path_pairs(tree) == ([], Counter({"single child": 2, "tie": 1}))


def test_the_final_path_ends_where_nothing_was_visited() -> None:
    tree = built({"n": 3, "children": {"a": {"n": 2, "children": {"x": {}, "y": {}}}, "b": {"n": 1, "q": -1.0}}})
    assert compared(best_path_pairs(tree, path="final")[0]) == [("a", "b")]
    assert best_path_pairs(tree, path="final")[1] == Counter()


def test_best_path_pairs_without_a_terminal() -> None:
    tree = built({"n": 2, "children": {"a": {"n": 1}}})
    assert best_path_pairs(tree) == ([], Counter({"no terminal": 1}))


def test_best_paths_are_the_steps_to_the_best_visited_terminals() -> None:
    rows, dropped = best_paths(PATHS)
    assert compared(rows) == [("left", ""), ("win", "")]
    assert dropped == Counter({"below min_return": 2})
    rows, dropped = best_paths(PATHS, paths=5, min_return=0.0)
    assert compared(rows) == [("left", ""), ("win", ""), ("right", ""), ("half", ""), ("lose", "")]
    assert best_paths(built({"n": 1}))[1] == Counter({"no terminal": 1})


def test_best_paths_by_reward_are_those_above_the_mean_of_the_tree_s_ends() -> None:
    ends = {name: {"n": 1, "q": value, "r": value, "end": True} for name, value in (("a", 0.2), ("b", 0.6), ("c", 0.1))}
    tree = built({"n": 4, "children": ends})
    rows, dropped = best_paths(tree, paths=5, by="reward")
    assert compared(rows) == [("b", "")]
    assert dropped == Counter({"not above mean": 2})
    alike = built({"n": 3, "children": {name: {"n": 1, "q": 0.5, "r": 0.5, "end": True} for name in "ab"}})
    assert best_paths(alike, by="reward") == ([], Counter({"not above mean": 2}))


def test_best_paths_say_how_many_were_over() -> None:
    assert best_paths(PATHS, paths=1, min_return=0.5)[1] == Counter({"below min_return": 1, "over paths": 1})
    assert best_paths(PATHS, paths=2, min_return=0.5)[1] == Counter({"below min_return": 1})


def test_best_paths_take_the_shortest_then_the_first_of_equal_ones() -> None:
    ends = {name: {"n": 1, "q": 1.0, "r": 1.0, "end": True} for name in ("first", "second")}
    nested = {"n": 2, "q": 1.0, "children": ends}
    tree = built({"n": 9, "children": {"long": nested, "short": {"n": 1, "q": 1.0, "r": 1.0, "end": True}}})
    assert compared(best_paths(tree)[0]) == [("short", "")]
    assert compared(best_paths(tree, paths=2)[0]) == [("short", ""), ("long", ""), ("first", "")]
    deep = {"n": 2, "q": 1.0, "children": {"longer": nested}}
    tree = built({"n": 9, "children": {"longest": deep, "long": nested}})  # what is deepest was grown first
    assert compared(best_paths(tree)[0]) == [("long", ""), ("first", "")]


def test_a_return_may_miss_its_least_by_rounding() -> None:
    for q, found in ((1 - 5e-7, 1), (1 - 5e-6, 0)):
        tree = built({"n": 1, "children": {"end": {"n": 1, "q": q, "r": q, "end": True}}})
        assert len(best_paths(tree)[0]) == found


def test_anchors_are_the_best_children_of_nodes_without_contrast() -> None:
    rows, dropped = anchors(PATHS, min_value=0.5)
    assert compared(rows) == [("half", "")]
    assert rows[0].rejected == ()
    assert rows[0].ref_rejected_logp is None
    assert dropped == Counter({"has contrast": 2})


def test_anchors_leave_out_the_bad_and_the_unseen() -> None:
    assert anchors(PATHS, min_value=0.6)[1] == Counter({"has contrast": 2, "below min_value": 1})
    assert anchors(PATHS, min_value=0.5, min_visits=6)[1] == Counter({"has contrast": 2, "too few visits": 1})
    assert anchors(built({"n": 1, "children": {"a": {}}}))[1] == Counter({"unvisited": 1})


def test_a_node_whose_actions_nobody_tried_hides_no_anchor_behind_it() -> None:
    below = {"x": {"n": 1, "q": 0.75}, "y": {"n": 1, "q": 0.75}}
    first = {"n": 1, "q": 0.75, "children": {"never": {}}}
    tree = built({"n": 4, "children": {"a": first, "b": {"n": 3, "q": 0.75, "children": below}}})
    rows, dropped = anchors(tree)
    assert compared(rows) == [("b", ""), ("x", "")]
    assert dropped == Counter({"unvisited": 1})


def test_an_anchor_is_the_best_child_then_the_most_visited_then_the_first() -> None:
    children = {"a": {"n": 1, "q": 0.5}, "b": {"n": 2, "q": 0.5}, "c": {"n": 2, "q": 0.5}, "d": {"n": 9, "q": 0.45}}
    assert compared(anchors(built({"n": 14, "children": children}))[0]) == [("b", "")]


def test_contrasts_of_anchors_have_a_threshold_and_a_least_number_of_visits() -> None:
    tree = built({"n": 6, "children": {"a": {"n": 4, "q": 0.75}, "b": {"n": 2, "q": 0.5}}})
    assert anchors(tree)[1] == anchors(tree, threshold=0.25)[1] == Counter({"has contrast": 1})
    for settings in ({"threshold": 0.26}, {"contrast_visits": 3}):
        assert compared(anchors(tree, **settings)[0]) == [("a", "")]
    assert anchors(tree, contrast_visits=2)[1] == Counter({"has contrast": 1})


def test_anchors_pass_solved_children_of_few_visits() -> None:
    tree = built({"n": 1, "children": {"end": {"n": 1, "q": 1.0, "end": True, "solved": True}}})
    assert compared(anchors(tree, min_visits=5)[0]) == [("end", "")]


def test_rollouts_of_several_trees_are_told_apart() -> None:
    """Equal words in two trees are two steps, and each tree has its own number of roll-outs."""
    other = built({"n": 1})
    other.index = 8
    said = (observed("start"), acted("a"), observed("A"))
    rollouts = [Rollout(index, 0, said, 1, 1.0) for index in (7, 8, 7, 8)]
    rows, dropped = rollout_anchors(rollouts, [PATHS, other])
    assert [row.tree for row in rows] == [7, 8]
    assert dropped == Counter({"duplicate": 2})
    rows, dropped = rollout_anchors(rollouts, [PATHS, other], per_tree=1)
    assert [row.tree for row in rows] == [7, 8]
    assert dropped == Counter({"over per_tree": 2})


def test_rollout_anchors_are_the_steps_of_a_roll_out_once_each() -> None:
    start = (*PATHS.transcript(0), acted("left"), observed("after left"))
    first = Rollout(7, 1, (*start, acted("a"), observed("A"), acted("b"), observed("end")), 3, 1.0)
    second = Rollout(7, 1, (*start, acted("a"), observed("A"), acted("c"), observed("end")), 3, 1.0)
    rows, dropped = rollout_anchors([first, second], [PATHS])
    assert compared(rows) == [("a", ""), ("b", ""), ("c", "")]
    assert [row.depth for row in rows] == [1, 2, 2]
    assert rows[1].prompt == first.transcript[:5]
    assert dropped == Counter({"duplicate": 1})
    assert rollout_anchors([first, second], [PATHS], per_tree=1)[1] == Counter({"over per_tree": 1})


def test_rollout_anchors_of_a_tree_are_as_many_as_it_may_have() -> None:
    """And equal words before an action are one step, whatever was seen after it."""
    rollouts = [Rollout(7, 0, (observed("start"), acted("a"), observed(seen)), 1, 1.0) for seen in "xyz"]
    rows, dropped = rollout_anchors(rollouts, [PATHS], per_tree=2)
    assert compared(rows) == [("a", "")]
    assert dropped == Counter({"duplicate": 1, "over per_tree": 1})


def episode(seed: int, actions: str, success: bool, logps: tuple[float, ...] = ()) -> Episode:
    turns = [observed(f"task {seed}")]
    for action in actions:
        turns += [acted(action, logps=logps), observed(f"after {action}")]
    return Episode({"seed": seed}, tuple(turns), (float(success),), success, len(actions))


EPISODES = [
    episode(0, "ab", True, (-0.5, -0.25)),
    episode(0, "cd", False),
    episode(0, "e", False),
    episode(1, "a", True),
    episode(1, "a", True),
    episode(2, "a", False),
    episode(3, "", False),
]


def test_trajectory_pairs_of_correct_and_incorrect_episodes_of_a_task() -> None:
    pairs, dropped = trajectory_pairs(EPISODES, pairing="all", per_task=5)
    assert {pair.round for pair in pairs} == {0}
    assert [[turn.text for turn in pair.rejected] for pair in pairs] == [["c", "after c", "d"], ["e"]]
    assert [turn.text for turn in pairs[0].chosen] == ["a", "after a", "b"]
    assert pairs[0].prompt == (observed("task 0"),)
    assert pairs[0].ref_chosen_logp == -1.5
    assert pairs[0].ref_rejected_logp is None
    assert dropped == Counter({"all correct": 1, "all incorrect": 1, "no action": 1})


def test_trajectory_pairs_drawn_at_random() -> None:
    drawn = {
        pair.rejected[0].text
        for seed in range(20)
        for pair in trajectory_pairs(EPISODES, rng=np.random.default_rng(seed))[0]
    }
    assert drawn == {"c", "e"}
    assert trajectory_pairs(EPISODES, rng=np.random.default_rng(0))[1]["over per_task"] == 1
    with pytest.raises(ValueError, match="rng"):
        trajectory_pairs(EPISODES)


def test_pairs_are_drawn_without_repetition_and_as_the_generator_says() -> None:
    many = [episode(0, "a", True), *(episode(0, f"b{i}"[1:], False) for i in range(8))]

    def drawn(seed: int) -> list[str]:
        pairs, dropped = trajectory_pairs(many, per_task=4, rng=np.random.default_rng(seed))
        assert dropped == Counter({"over per_task": 4})
        return [pair.rejected[0].text for pair in pairs]

    assert len(set(drawn(0))) == 4
    assert drawn(0) == drawn(0) != drawn(1)
    pairs, dropped = trajectory_pairs(many, per_task=8, rng=np.random.default_rng(0))
    assert {pair.rejected[0].text for pair in pairs} == set("01234567")
    assert dropped == Counter()


def test_tasks_are_the_same_whatever_the_order_of_their_keys() -> None:
    won = replace(episode(0, "a", True), task={"seed": 0, "options": {"x": 1}})
    lost = replace(episode(0, "b", False), task={"options": {"x": 1}, "seed": 0})
    assert len(trajectory_pairs([won, lost], pairing="all")[0]) == 1
    assert trajectory_pairs([won, replace(lost, task={"seed": 1})], pairing="all")[0] == []


def test_a_trajectory_s_prompt_is_all_that_was_said_before_its_first_action() -> None:
    """And what was said after its last one belongs to neither side; of another's turns none is learned."""
    turns = (observed("a"), observed("b"), acted("x"), observed("c"), acted("y"), observed("d"), observed("e"))
    [row] = successful_trajectories([Episode({}, turns, (1.0,), True, 2)])[0]
    assert (row.prompt, row.chosen) == (turns[:2], turns[2:5])
    assert row.ref_chosen_logp is None


def test_a_trajectory_of_which_one_action_was_not_logged_has_no_log_probability() -> None:
    turns = (observed("a"), acted("x", logps=(-0.5,)), observed("b"), acted("y"))
    won = Episode({}, turns, (1.0,), True, 2)
    assert successful_trajectories([won])[0][0].ref_chosen_logp is None
    lost = replace(won, success=False, transcript=(*turns[:3], acted("z", logps=(-0.25,))))
    [pair] = trajectory_pairs([won, lost], pairing="all")[0]
    assert (pair.ref_chosen_logp, pair.ref_rejected_logp) == (None, -0.75)


def test_successful_trajectories_are_the_correct_ones_once() -> None:
    rows, dropped = successful_trajectories(EPISODES)
    assert [row.task["seed"] for row in rows] == [0, 1]
    assert all(row.rejected == () for row in rows)
    assert dropped == Counter({"incorrect": 3, "duplicate": 1, "no action": 1})


def test_every_field_of_a_row_says_where_it_comes_from() -> None:
    """Whole rows of every extractor, by hand."""
    start = observed("start")
    below = (start, acted("left"), observed("after left"))
    at_root = {"env_id": "toy", "task": TASK, "tree": 7, "node": 0, "depth": 0, "round": 5}
    good = PreferencePair(
        (start,), (acted("good"),), (acted("bad"),), 0.9, 0.0, 4, 1, -0.5, -2.5, **at_root, kind="sibling"
    )
    assert sibling_pairs(SIBLINGS, threshold=0.8, round=5)[0] == [good]
    deep = built(
        {
            "n": 9,
            "children": {
                "left": {"n": 6, "q": 0.75, "logp": -0.25, "children": {
                    "win": {"n": 2, "q": 1.0, "r": 1.0, "end": True, "logp": -0.5},
                    "lose": {"n": 3, "q": 0.0, "end": True, "logp": -0.75},
                    "skip": {"logp": -3.0},
                }},
                "right": {"n": 2, "q": 0.75, "logp": -1.5},
            },
        }
    )  # fmt: skip
    at_left = {**at_root, "node": 1, "depth": 1}
    best = PreferencePair(below, (acted("win"),), (acted("lose"),), 1.0, 0.0, 2, 3, -0.5, -0.75, **at_left)
    assert best_path_pairs(deep, round=5)[0] == [replace(best, kind="best_path")]
    unseen = replace(best, rejected=(acted("skip"),), rejected_visits=0, ref_rejected_logp=-3.0, kind="best_path")
    worst = built({"n": 3, "children": {"a": {"n": 2, "q": 0.5, "end": True}, "b": {"logp": -3.0}}})
    near = built({"n": 3, "children": {"a": {"n": 2, "q": 0.5, "end": True}, "b": {"n": 1, "q": 0.25}}})
    assert [pair.rejected_q for pair in best_path_pairs(near)[0]] == [0.25]
    [pair] = best_path_pairs(worst, unvisited="zero")[0]
    assert (pair.rejected_q, pair.rejected_visits, pair.ref_rejected_logp) == (0.0, 0, unseen.ref_rejected_logp)
    left = PreferencePair(
        (start,), (acted("left"),), (), 0.75, 0.0, 6, 0, -0.25, None, **at_root, kind="best_path_step"
    )
    win = replace(best, rejected=(), rejected_visits=0, ref_rejected_logp=None, kind="best_path_step")
    assert best_paths(deep, round=5)[0] == [left, win]
    assert anchors(deep, round=5)[0] == [replace(left, kind="anchor")]
    rollout = Rollout(7, 1, (*below, acted("win"), observed("end")), 3, 0.5)
    [row] = rollout_anchors([rollout], [deep], round=5)[0]
    assert row == PreferencePair(below, (acted("win"),), (), 0.5, 0.0, 1, 0, None, None, **at_left, kind="rollout")


def test_every_field_of_a_trajectory_s_row() -> None:
    won = replace(episode(4, "ab", True, (-0.5, -0.25)), task=TASK)
    lost = replace(episode(4, "c", False, (-0.125,)), task=TASK, rewards=(0.25,))
    first = replace(episode(9, "a", True), task={"env_id": "toy", "seed": 1})
    where = {"env_id": "toy", "task": TASK, "tree": 1, "round": 5}
    chosen = (acted("a", logps=(-0.5, -0.25)), observed("after a"), acted("b", logps=(-0.5, -0.25)))
    expected = PreferencePair(
        (observed("task 4"),), chosen, (acted("c", logps=(-0.125,)),), 1.0, 0.25, 1, 1, -1.5, -0.125, **where,
        kind="trajectory",
    )  # fmt: skip
    assert trajectory_pairs([first, won, lost], pairing="all", round=5)[0] == [expected]
    alone = replace(expected, rejected=(), rejected_q=0.0, rejected_visits=0, ref_rejected_logp=None)
    rows = successful_trajectories([first, won, lost], round=5)[0]
    assert rows[1] == replace(alone, kind="successful_trajectory")
    assert rows[0].tree == 0


def test_trajectory_pairs_of_different_starts_are_left_out_and_the_first_per_task_kept() -> None:
    other = replace(EPISODES[1], transcript=(observed("another start"), *EPISODES[1].transcript[1:]))
    pairs, dropped = trajectory_pairs([EPISODES[0], other], pairing="all")
    assert pairs == []
    assert dropped == Counter({"different start": 1})
    pairs, dropped = trajectory_pairs([EPISODES[0], other, EPISODES[2]], pairing="all", per_task=2)
    assert [pair.rejected[0].text for pair in pairs] == ["e"]
    assert dropped == Counter({"different start": 1})
    pairs, dropped = trajectory_pairs(EPISODES[:3], pairing="all", per_task=1)
    assert [pair.rejected[0].text for pair in pairs] == ["c"]
    assert dropped == Counter({"over per_task": 1})
    rows, dropped = successful_trajectories([EPISODES[0], replace(EPISODES[3], task={"seed": 0})], per_task=1)
    assert [row.chosen[0].text for row in rows] == ["a"]
    assert dropped == Counter({"over per_task": 1})


def game_of(reward: float, word: str, seed: int = 0) -> Episode:
    transcript = (observed("go"), acted(word), observed("over"))
    return Episode({"env_id": "toy", "seed": seed}, transcript, (reward,), reward > 0, 1)


def test_by_reward_a_draw_is_better_than_a_loss() -> None:
    pairs, dropped = trajectory_pairs([game_of(0.0, "hold"), game_of(-1.0, "run")], by="reward", pairing="all")
    assert [(pair.chosen[0].text, pair.rejected[0].text) for pair in pairs] == [("hold", "run")]
    assert not dropped


def test_by_reward_episodes_as_good_as_each_other_are_no_pair() -> None:
    episodes = [game_of(2.0, "a"), game_of(2.0, "b"), game_of(2.2, "c")]
    assert trajectory_pairs(episodes[:2], by="reward", pairing="all") == ([], Counter({"all alike": 1}))
    assert trajectory_pairs(episodes, by="reward", threshold=0.5, pairing="all")[1] == Counter({"all alike": 1})


def test_by_reward_what_is_above_the_mean_of_its_task_is_kept_the_best_first() -> None:
    episodes = [game_of(-3.0, "a"), game_of(-1.0, "b"), game_of(1.0, "c"), game_of(9.0, "d", seed=1)]
    rows, dropped = successful_trajectories(episodes, by="reward")
    assert [row.chosen[0].text for row in rows] == ["c"]
    assert dropped == Counter({"incorrect": 3})
    rows, _ = successful_trajectories([*episodes, game_of(-9.0, "e")], by="reward", per_task=1)
    assert [row.chosen[0].text for row in rows] == ["c"]


def test_extremes_set_the_best_against_the_worst_then_the_next_two() -> None:
    episodes = [game_of(reward, word) for reward, word in ((0.0, "c"), (3.0, "a"), (-2.0, "d"), (1.0, "b"))]
    pairs, dropped = trajectory_pairs(episodes, by="reward", pairing="extremes", per_task=3)
    assert [(pair.chosen[0].text, pair.rejected[0].text) for pair in pairs] == [("a", "d"), ("b", "c")]
    assert trajectory_pairs(episodes, by="reward", pairing="extremes", per_task=1)[1] == Counter({"over per_task": 1})
    assert not dropped


def test_a_difference_is_held_against_its_standard_error() -> None:
    """1 against 0: √(¼ · (1/n + 1/n)) is 0.71 after a visit each and ½ after two; a solved side is known, so that
    what is left is √(⅓ · ⅔ · ½) with two visits against one."""
    for visits, z in ((1, 2**0.5), (2, 2.0), (8, 4.0)):
        tree = built({"n": 9, "children": {"a": {"n": visits, "q": 1.0}, "b": {"n": visits, "q": 0.0}}})
        assert len(sibling_pairs(tree, z=z - 1e-6)[0]) == 1
        found, dropped = sibling_pairs(tree, z=z + 1e-6)
        assert found == []
        assert dropped["unclear"] == 1
    tree = built({"n": 9, "children": {"a": {"n": 1, "q": 1.0, "solved": True}, "b": {"n": 2, "q": 0.0}}})
    z = 1 / (1 / 3 * 2 / 3 / 2) ** 0.5
    assert len(sibling_pairs(tree, z=z - 1e-6)[0]) == 1
    assert sibling_pairs(tree, z=z + 1e-6)[0] == []


def test_an_end_that_luck_judges_is_one_end_judged_by_the_mean_of_its_verdicts() -> None:
    """``lucky`` was called a success once of three times, ``good`` four times of five; the first ends earlier."""
    tree = built(
        {
            "n": 12,
            "children": {
                "lucky": {"n": 3, "q": 1 / 3},
                "go": {"n": 6, "q": 0.8, "children": {"good": {"n": 5, "q": 0.8}}},
            },
        }
    )

    def judge(node: int, flipped: int, stands: int) -> None:
        tree._nodes[node]["player"] = -1
        wins = ENDED | VALUED
        first = tree.add_children(
            node, Children(["verdict stands", "verdict flipped"], [None] * 2, np.array([0.8, 0.2]), [0.0] * 2,
                           [1.0, 0.0] if node != 1 else [0.0, 1.0], [wins, wins]),
        )  # fmt: skip
        for child, visits in ((first, stands), (first + 1, flipped)):
            tree._nodes[child]["visits"] = visits
            tree._nodes[child]["value_sum"] = visits * float(tree._nodes[child]["reward"])

    judge(1, flipped=1, stands=2)
    judge(tree.children(2)[0], flipped=1, stands=4)
    rows, dropped = best_paths(tree, paths=3)
    assert [row.chosen[0].text for row in rows] == ["go", "good"]
    assert dropped["below min_return"] == 1
