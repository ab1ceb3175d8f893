"""Segments of one hand-made tree: short ones are siblings, whole ones are remainders and whole episodes."""

from typing import Any

import pytest

from branchwise.envs.play.episode import Episode
from branchwise.envs.play.transcript import acted, observed
from branchwise.envs.web_shop.pages import kind_of_page
from branchwise.search import sibling_pairs, trajectory_pairs
from branchwise.search.segments import segment_pairs

from .hand_trees import TASK, built

#  start ─┬─ good (0.8) ─┬─ buy (1.0, end)
#         │              └─ look (0.6) ── buy late (0.6) ── done (1.0, end)
#         ├─ bad (0.2) ─┬─ wait (0.25) ── leave (0.0, end)
#         │             └─ turn (0.15, not visited further)
#         └─ never (no visit)
SPEC: dict[str, Any] = {
    "n": 12,
    "q": 0.6,
    "children": {
        "good": {
            "n": 6, "q": 0.8, "logp": -0.5,
            "children": {
                "buy": {"n": 2, "q": 1.0, "r": 1.0, "end": True, "logp": -0.25},
                "look": {
                    "n": 3, "q": 0.6, "logp": -2.0,
                    "children": {"buy late": {"n": 2, "q": 0.6, "children": {
                        "done": {"n": 1, "q": 1.0, "r": 1.0, "end": True}}}},
                },
            },
        },
        "bad": {
            "n": 5, "q": 0.2, "logp": -1.5,
            "children": {
                "wait": {"n": 2, "q": 0.25, "logp": -0.75,
                         "children": {"leave": {"n": 1, "q": 0.0, "end": True, "logp": -0.125}}},
                "turn": {"n": 2, "q": 0.15, "logp": float("nan")},
            },
        },
        "never": {"n": 0},
    },
}  # fmt: skip


def texts(turns: Any) -> list[str]:
    return [turn.text for turn in turns]


def test_segments_of_one_action_are_pairs_of_siblings() -> None:
    tree = built(SPEC)
    for label in ("mean", "regret"):
        found, dropped = segment_pairs(tree, 1, label=label, threshold=0.05, min_visits=2, per_node=2)  # type: ignore[arg-type]
        wanted, left_out = sibling_pairs(tree, 0.05, 2, contrast="best", per_node=2)
        assert [pair.kind for pair in found] == ["segment"] * len(wanted)
        same = [{**vars(pair), "kind": ""} for pair in found]
        assert same == [{**vars(pair), "kind": ""} for pair in wanted]
        assert dropped == left_out


def test_whole_segments_from_a_node_are_remainders() -> None:
    """What is left of the best and of the worst way on, with the sum of their log-probabilities."""
    tree = built(SPEC)
    (pair,), dropped = segment_pairs(tree, "all", threshold=0.3)
    assert dropped["no end"] == 1  # at the start: nobody went on after "turn", the worst way
    assert texts(pair.prompt) == ["start", "good", "after good"]
    assert texts(pair.chosen) == ["buy"]
    assert texts(pair.rejected) == ["look", "after look", "buy late", "after buy late", "done"]
    assert (pair.chosen_q, pair.rejected_q) == (1.0, pytest.approx(0.6))  # the values of the first actions
    assert (pair.ref_chosen_logp, pair.ref_rejected_logp) == (-0.25, pytest.approx(-4.0))


def test_a_way_that_was_not_searched_to_an_end_gives_no_whole_segment() -> None:
    tree = built({**SPEC, "children": {**SPEC["children"], "bad": {"n": 5, "q": 0.2}}})
    found, dropped = segment_pairs(tree, "all", at="root", threshold=0.3)
    assert found == []
    assert dropped["no end"] == 1
    cut, _ = segment_pairs(tree, 3, at="root", threshold=0.3)
    assert texts(cut[0].rejected) == ["bad"]  # as long as it is known


def test_whole_segments_from_the_root_are_pairs_of_episodes() -> None:
    """The tree's best way and its worst one, as two sampled episodes would be compared."""
    spec = {**SPEC, "children": {**SPEC["children"]}}
    spec["children"]["bad"] = {
        **SPEC["children"]["bad"],
        "children": {"wait": SPEC["children"]["bad"]["children"]["wait"]},
    }
    tree = built(spec)
    (pair,) = segment_pairs(tree, "all", at="root", label="regret", threshold=0.5)[0]

    def episode(moves: list[str], success: bool) -> Episode:
        turns = [observed("start")]
        for move in moves:
            turns += [acted(move), observed(f"after {move}")]
        rewards = (*([0.0] * (len(moves) - 1)), float(success))
        return Episode(TASK, tuple(turns), rewards, success, len(moves), 0, 0, False)

    episodes = [episode(["good", "buy"], True), episode(["bad", "wait", "leave"], False)]
    (wanted,), _ = trajectory_pairs(episodes, pairing="all")
    assert (pair.prompt, pair.chosen, pair.rejected) == (wanted.prompt, wanted.chosen, wanted.rejected)
    assert (pair.chosen_q, pair.rejected_q) == (wanted.chosen_q, wanted.rejected_q) == (1.0, 0.0)


def test_labels_are_the_means_of_first_actions_or_the_values_of_ends() -> None:
    tree = built(SPEC)
    (mean,) = segment_pairs(tree, 2, at="root", threshold=0.3)[0]
    assert (mean.chosen_q, mean.rejected_q) == (pytest.approx(0.8), pytest.approx(0.2))
    (regret,) = segment_pairs(tree, 2, at="root", label="regret", threshold=0.3)[0]
    assert texts(regret.rejected) == ["bad", "after bad", "turn"]  # the child of smallest value
    assert (regret.chosen_q, regret.rejected_q) == (1.0, pytest.approx(0.15))
    assert regret.ref_rejected_logp is None  # one of its actions was not logged
    assert not segment_pairs(tree, 2, at="root", label="regret", threshold=0.3, min_visits=3)[
        0
    ]  # of its ends one has 2
    assert len(segment_pairs(tree, 2, at="root", threshold=0.3, min_visits=3)[0]) == 1  # its first actions have 6 and 5


def test_trees_that_keep_no_ways_and_lengths_that_are_none_are_refused() -> None:
    tree = built(SPEC)
    for length in (0, -1):
        with pytest.raises(ValueError, match=f"length={length}; expected a number of actions"):
            segment_pairs(tree, length)
    tree.settings["transpositions"] = True
    with pytest.raises(ValueError, match="searched with transpositions"):
        segment_pairs(tree, 2)


def test_rewards_on_the_way_count_in_the_value_of_an_end() -> None:
    """Q(a) = 0.3 + V and the end is worth 0.3 + 0.9 from the node on."""
    tree = built(
        {
            "n": 9,
            "children": {
                "a": {"n": 4, "q": 1.0, "r": 0.3, "children": {"b": {"n": 3, "q": 0.9}}},
                "c": {"n": 4, "q": 0.5, "children": {"d": {"n": 3, "q": 0.4}}},
            },
        }
    )
    (pair,) = segment_pairs(tree, 2, at="root", label="regret")[0]
    assert (pair.chosen_q, pair.rejected_q) == (pytest.approx(1.2), pytest.approx(0.4))


def test_a_third_of_the_way_is_rounded_up() -> None:
    deep: dict[str, Any] = {"n": 2, "q": 1.0, "end": True}
    for step in range(6, 0, -1):
        deep = {"n": 3, "q": 0.9, "children": {f"g{step}": deep}}
    poor: dict[str, Any] = {"n": 2, "q": 0.0, "end": True}
    for step in range(3, 0, -1):
        poor = {"n": 3, "q": 0.1, "children": {f"b{step}": poor}}
    tree = built({"n": 9, "children": {"go": deep, "err": poor}})
    (pair,) = segment_pairs(tree, "n/3", threshold=0.3)[0]
    assert texts(turn for turn in pair.chosen if turn.is_agent) == ["go", "g1", "g2"]  # 7 actions: 3 of them
    assert texts(turn for turn in pair.rejected if turn.is_agent) == ["err", "b1", "b2"]


def test_a_segment_ends_where_another_page_is_seen() -> None:
    tree = built(SPEC)
    pages = {"start": 1, "after good": 1, "after bad": 2, "after look": 1, "after wait": 1}
    (pair,) = segment_pairs(tree, "pages", at="root", threshold=0.3, page=pages.__getitem__)[0]
    assert texts(pair.chosen) == ["good", "after good", "buy"]  # to the end
    assert texts(pair.rejected) == ["bad"]
    with pytest.raises(ValueError, match="needs page"):
        segment_pairs(tree, "pages")


def test_pages_of_the_shop() -> None:
    assert kind_of_page("goal a\nsteps 3\nsearch page") == "search"
    assert kind_of_page("goal a\nsteps 3\nresults 1 of 2 for a\n#1 all under") == "results"
    assert kind_of_page("goal item of a kind\nsteps 3\nitem tamsin shirt $3\nchosen nothing") == "item"
    assert kind_of_page("goal a\nsteps 3\nreviews none") == "text"
    assert kind_of_page("Instruction: [SEP] a [SEP] Back to Search [SEP] Page 1 (Total results: 3)") == "results"
    assert kind_of_page("Instruction: [SEP] a [SEP] Back to Search [SEP] < Prev [SEP] Buy Now") == "item"
    assert kind_of_page("Instruction: [SEP] a [SEP] Back to Search [SEP] < Prev [SEP] cotton") == "text"


def test_games_of_several_players_have_no_segments() -> None:
    tree = built(SPEC)
    tree.players = 2
    with pytest.raises(ValueError, match="one player"):
        segment_pairs(tree, 2)
