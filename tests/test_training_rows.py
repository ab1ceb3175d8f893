"""Turns to token rows: masks, segments under forgetful histories, and the counts of what was lost."""

from collections import Counter
from dataclasses import replace

import pytest
from word_models import SHOP_WORDS

from branchwise.agents.prompting import (
    actions_and_last_observation,
    all_turns,
    completion_ids,
    last_observation,
    prompt_ids,
    prompts_and_completions,
)
from branchwise.agents.small_model import make_tokenizer
from branchwise.envs.play.transcript import acted, observed
from branchwise.search.extraction import PreferencePair
from branchwise.training.rows import PreferenceRow, Segment, preference_rows, sft_rows

TRANSCRIPT = (
    observed("goal red shirt"),
    acted("search[red shirt]"),
    observed("results page one two"),
    acted("click[two]"),
    observed("item two"),
    acted("click[buy now]"),
    observed("done"),
)


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(SHOP_WORDS)


def learned(row: dict, tokenizer) -> list[str]:
    return tokenizer.convert_ids_to_tokens([i for i, m in zip(row["input_ids"], row["mask"], strict=True) if m])


def test_a_whole_transcript_is_one_row_whose_agent_tokens_alone_are_learned(tokenizer) -> None:
    rows, counts = sft_rows([TRANSCRIPT], tokenizer, all_turns)
    assert len(rows) == counts.rows == 1
    actions = "search[ red shirt ] <end> click[ two ] <end> click[ buy now ] <end>"
    assert " ".join(learned(rows[0], tokenizer)) == actions
    assert counts.learned_tokens == 14
    assert rows[0]["weight"] == 1.0
    longer = prompt_ids(tokenizer, TRANSCRIPT[:5]) + completion_ids(tokenizer, "click[buy now]")
    assert list(rows[0]["input_ids"]) == longer


@pytest.mark.parametrize("history", [actions_and_last_observation, last_observation, "last_observation"])
def test_a_forgetful_history_gives_a_row_an_action_with_the_prompt_that_the_agent_saw(tokenizer, history) -> None:
    rows, _ = sft_rows([TRANSCRIPT], tokenizer, history)
    assert len(rows) == 3
    for row, place in zip(rows, (1, 3, 5), strict=True):
        prompt = prompt_ids(tokenizer, TRANSCRIPT[:place], history)
        answer = completion_ids(tokenizer, TRANSCRIPT[place].text)
        assert list(row["input_ids"]) == prompt + answer
        assert list(row["mask"]) == [0] * len(prompt) + [1] * len(answer)


def test_a_step_is_learned_alone_and_weights_follow_the_items(tokenizer) -> None:
    rows, _ = sft_rows([(TRANSCRIPT[:3], "click[one]"), TRANSCRIPT[:2]], tokenizer, weights=[0.5, 2.0])
    assert learned(rows[0], tokenizer) == ["click[", "one", "]", "<end>"]
    assert [row["weight"] for row in rows] == [0.5, 2.0]
    with pytest.raises(ValueError, match="1 weights for 2 items"):
        sft_rows([TRANSCRIPT, TRANSCRIPT], tokenizer, weights=[1.0])


def test_prompts_that_lose_turns_and_items_without_an_agent_are_counted(tokenizer) -> None:
    limit = len(prompt_ids(tokenizer, TRANSCRIPT[:3])) - 1
    rows, counts = sft_rows([(TRANSCRIPT[:3], "click[one]"), TRANSCRIPT[:1]], tokenizer, max_tokens=limit)
    assert (counts.rows, counts.truncated_prompts, counts.dropped_turns, counts.cut_observations) == (1, 1, 2, 0)
    assert counts.dropped == {"no agent turn": 1}
    assert len(rows[0]["input_ids"]) <= limit + 4


def test_a_step_pair_has_a_segment_a_side(tokenizer) -> None:
    pair = PreferencePair(
        TRANSCRIPT[:3], (acted("click[two]"),), (acted("click[one]"),), ref_chosen_logp=-1.0, weight=0.5
    )
    (row,), counts = preference_rows([pair], tokenizer)
    assert len(row.chosen) == len(row.rejected) == 1
    assert list(row.chosen[0].prompt_ids) == list(row.rejected[0].prompt_ids) == prompt_ids(tokenizer, TRANSCRIPT[:3])
    assert row.chosen[0].mask == (1, 1, 1, 1)
    assert (row.ref_chosen_logp, row.ref_rejected_logp, row.weight, row.source) == (-1.0, None, 0.5, 0)
    assert counts.learned_tokens == 8


@pytest.mark.parametrize(("history", "segments"), [(all_turns, 1), (actions_and_last_observation, 3)])
def test_a_trajectory_pair_has_the_segments_that_its_history_needs(tokenizer, history, segments) -> None:
    pair = PreferencePair(TRANSCRIPT[:1], TRANSCRIPT[1:6], (acted("click[one]"),))
    (row,), _ = preference_rows([pair], tokenizer, history)
    assert len(row.chosen) == segments
    assert sum(sum(segment.mask) for segment in row.chosen) == 14
    if segments == 1:  # observation tokens stand in the completion and are not learned
        assert 0 in row.chosen[0].mask
        assert list(row.chosen[0].prompt_ids) == prompt_ids(tokenizer, TRANSCRIPT[:1])


def test_pairs_that_teach_nothing_are_dropped_and_counted(tokenizer) -> None:
    pairs = [
        PreferencePair(
            TRANSCRIPT[:3], (acted("click[two]"),), (acted("Click[Two]"),)
        ),  # this tokenizer reads lower case
        PreferencePair(TRANSCRIPT[:3], (observed("two"),), ()),
        PreferencePair(TRANSCRIPT[:3], (acted("click[two]"),), ()),
    ]
    rows, counts = preference_rows(pairs, tokenizer)
    assert [row.source for row in rows] == [2]
    assert rows[0].rejected == ()
    assert counts.dropped == {"same tokens on both sides": 1, "no agent turn": 1}


def test_every_field_of_a_pair_stands_in_its_row(tokenizer) -> None:
    """And an anchor's row has no other side."""
    pair = PreferencePair(
        TRANSCRIPT[:1], (acted("click[two]"),), (acted("click[one]"),), 0.9, 0.1, 7, 3, -1.5, -2.5, 0.5, 0.25, 0.125
    )
    (anchor, row), counts = preference_rows([replace(pair, rejected=()), pair], tokenizer)
    prompt = tuple(prompt_ids(tokenizer, TRANSCRIPT[:1]))
    chosen, rejected = (
        (Segment(prompt, tuple(completion_ids(tokenizer, text)), (1,) * 4),) for text in ("click[two]", "click[one]")
    )
    assert row == PreferenceRow(chosen, rejected, -1.5, -2.5, 0.5, 0.25, 0.125, 0.9, 0.1, 7, 3, 1)
    assert anchor == replace(row, rejected=(), source=0)
    assert (counts.rows, counts.learned_tokens, counts.truncated_prompts) == (2, 4 + 8, 0)


def test_the_length_of_a_row_is_that_of_its_longest_segment() -> None:
    short, long = Segment((1,) * 9, (2,), (1,)), Segment((1,) * 3, (2,) * 8, (1,) * 8)
    assert PreferenceRow((short,), (long, short)).length == 11
    assert PreferenceRow((long, short), ()).length == 11
    assert PreferenceRow((short,), ()).length == 10


def test_a_side_whose_turns_are_all_the_environments_is_dropped(tokenizer) -> None:
    said = (observed("two"),)
    pairs = [
        PreferencePair(TRANSCRIPT[:3], (acted("click[two]"),), said),
        PreferencePair(TRANSCRIPT[:3], said, (acted("click[two]"),)),
    ]
    rows, counts = preference_rows(pairs, tokenizer)
    assert rows == []
    assert counts.dropped == {"no agent turn": 2}


def test_a_prompt_cut_so_that_it_goes_on_nowhere_begins_a_segment_of_its_own(tokenizer) -> None:
    """Under all_turns one segment holds the whole transcript, until a prompt no longer begins as the one before it."""
    limit = len(prompt_ids(tokenizer, TRANSCRIPT[:5])) - 1
    rows, counts = sft_rows([TRANSCRIPT], tokenizer, all_turns, max_tokens=limit)
    assert len(rows) == 2
    assert counts.learned_tokens == sum(sum(row["mask"]) for row in rows) == 14
    assert (counts.truncated_prompts, counts.dropped_turns, counts.cut_observations) == (1, 2, 0)
    last = [*prompt_ids(tokenizer, TRANSCRIPT[:5], all_turns, limit), *completion_ids(tokenizer, "click[buy now]")]
    assert list(rows[1]["input_ids"]) == last
    counts = sft_rows([TRANSCRIPT], tokenizer, last_observation, max_tokens=4)[1]
    assert (counts.truncated_prompts, counts.dropped_turns, counts.cut_observations) == (1, 0, 1)  # the results page


def test_a_segment_goes_on_after_the_prompts_lost_their_longest_turn(tokenizer) -> None:
    """The first prompt holds a long observation, the second has no room for it, and the third goes on from the
    second."""
    turns = (observed("one " * 20), acted("two"), observed("red"), acted("one"), observed("two"), acted("red"))
    limit = len(prompt_ids(tokenizer, turns[:3])) - 1
    rows, counts = sft_rows([turns], tokenizer, all_turns, max_tokens=limit)
    assert [list(row["input_ids"]) for row in rows] == [
        [*prompt_ids(tokenizer, turns[:1]), *completion_ids(tokenizer, "two")],
        [*prompt_ids(tokenizer, turns[2:5]), *completion_ids(tokenizer, "red")],
    ]
    assert (counts.truncated_prompts, counts.dropped_turns, counts.learned_tokens) == (2, 4, 6)


# ---- a model's positions ----------------------------------------------------------------------------------------


def test_prompts_leave_room_for_the_longest_answer_as_in_scoring(tokenizer) -> None:
    """With 20 positions, an answer of 9 tokens and its end leaves 10 to the prompts of both sides, in training as in
    scoring; each loss is counted."""
    prompt = (observed("one " * 30),)
    answers = ["two " * 8 + "two", "three"]
    pair = PreferencePair(prompt, (acted(answers[0]),), (acted(answers[1]),))
    (row,), counts = preference_rows([pair], tokenizer, positions=20)
    [scored], _ = prompts_and_completions(tokenizer, [prompt], [answers], None, 20, Counter())
    assert row.chosen[0].prompt_ids == row.rejected[0].prompt_ids == tuple(scored)
    assert (row.length, counts.cut_observations) == (20, 2)
    (learned_row,), counts = sft_rows([(prompt, answers[0])], tokenizer, positions=20)
    assert (len(learned_row["input_ids"]), counts.cut_observations) == (20, 1)
    for limit, length in ((6, 6), (15, 10), (1000, 10)):  # the smaller one counts
        (row,), _ = preference_rows([pair], tokenizer, max_tokens=limit, positions=20)
        assert len(row.chosen[0].prompt_ids) == len(row.rejected[0].prompt_ids) == length
    unbounded = preference_rows([pair], tokenizer)[0][0]
    assert unbounded.length > 20
    assert preference_rows([pair], tokenizer, positions=1000)[0] == [unbounded]


def test_an_answer_that_fills_all_positions_is_dropped_counted_and_named(tokenizer) -> None:
    fits, long = acted("two " * 18), acted("two " * 19)  # with the end of turn 19 and 20 tokens
    pairs = [PreferencePair((observed("one"),), (acted("three"),), (rejected,)) for rejected in (fits, long, long)]
    rows, counts = preference_rows(pairs, tokenizer, positions=20)
    assert [row.source for row in rows] == [0]
    assert counts.dropped == {"longer than the model's 20 positions (first: pair 1)": 2}
    items = [(pairs[0].prompt, turn.text) for turn in (long, fits)]
    rows, counts = sft_rows(items, tokenizer, positions=20)
    assert (len(rows), counts.dropped) == (1, {"longer than the model's 20 positions (first: item 0)": 1})


def test_a_trajectory_longer_than_the_positions_goes_on_in_another_segment(tokenizer) -> None:
    pair = PreferencePair(TRANSCRIPT[:1], TRANSCRIPT[1:6])
    (whole,), _ = preference_rows([pair], tokenizer)
    assert len(whole.chosen) == 1
    (row,), _ = preference_rows([pair], tokenizer, positions=whole.length - 1)
    assert len(row.chosen) > 1
    assert row.length < whole.length
    assert sum(sum(segment.mask) for segment in row.chosen) == sum(whole.chosen[0].mask)
