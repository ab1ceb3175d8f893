"""Rows of pairs and episodes from outside that say something impossible: refused in one line, with file and line."""

import json
from pathlib import Path
from typing import Any

import pytest

from branchwise.search.episode import Episode
from branchwise.search.extraction import PreferencePair
from branchwise.search.store import load_episodes, load_pairs, save_episodes, save_pairs
from branchwise.search.transcript import acted, observed

Q, X, R, Y, Z = (
    {"role": role, "content": text}
    for role, text in (("user", "q"), ("assistant", "x"), ("user", "r"), ("assistant", "y"), ("assistant", "z"))
)
PAIR = {"prompt": "q", "chosen": "x", "rejected": "z"}
HUGE = 10**400


def loaded(row: dict[str, Any], folder: Path) -> PreferencePair:
    (folder / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    [pair] = load_pairs(folder / "pairs.jsonl")
    save_pairs(folder / "again.jsonl", [pair])
    assert load_pairs(folder / "again.jsonl") == [pair]
    return pair


# ---- rows without a prompt --------------------------------------------------------------------------------------


def test_a_side_that_the_other_begins_with_keeps_its_answer(tmp_path: Path) -> None:
    pair = loaded({"chosen": [Q, X, R, Y], "rejected": [Q, X]}, tmp_path)
    assert pair.prompt == (observed("q"),)
    assert pair.chosen == (acted("x"), observed("r"), acted("y"))
    assert pair.rejected == (acted("x"),)
    turned = loaded({"chosen": [Q, X], "rejected": [Q, X, R, Y]}, tmp_path)
    assert (turned.prompt, turned.chosen, turned.rejected) == (pair.prompt, pair.rejected, pair.chosen)


def test_all_messages_before_the_first_difference_are_the_prompt(tmp_path: Path) -> None:
    pair = loaded({"chosen": [Q, X, R, Y], "rejected": [Q, X, R, Z]}, tmp_path)
    assert (len(pair.prompt), pair.chosen, pair.rejected) == (3, (acted("y"),), (acted("z"),))


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"chosen": [Q, X], "rejected": [Q, X]}, "without 'prompt' whose sides are the same"),
        ({"chosen": [Q, X, R], "rejected": [Q, X, R, Y]}, "a side without a message of the assistant"),
        ({"chosen": [X], "rejected": [X, R, Y]}, "no field 'prompt'"),
        ({"chosen": [], "rejected": [Q, X]}, "no field 'prompt'"),
        ({"prompt": "q", "completion": "x", "rejected": "z"}, "a row with 'completion' and 'rejected'"),
        ({"prompt": "q", "completion": "x", "chosen": "x"}, "a row with 'completion' and 'chosen'"),
        ({**PAIR, "anchor": True}, "a row with 'anchor' true and a rejected side"),
        ({**PAIR, "anchor": "no"}, "anchor='no'; expected true or false"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(row: dict[str, Any], fault: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"pairs\.jsonl, line 1: .*{fault}"):
        loaded(row, tmp_path)


# ---- numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"weight": HUGE}, "weight=10{39}; expected a finite number"),
        ({"chosen_q": -HUGE}, "chosen_q=-10{38}; expected a finite number"),
        ({"tree": HUGE}, "tree=10{39}; expected a whole number of 64 bits"),
        ({"tree": 2**63}, "tree=9223372036854775808; expected a whole number of 64 bits"),
        ({"tree": -(2**63) - 1}, "tree=-9223372036854775809; expected a whole number of 64 bits"),
        ({"weight": 1e300}, r"weight=1e\+300; expected a number that 32 bits hold"),
        ({"margin": -1e39}, r"margin=-1e\+39; expected a number that 32 bits hold"),
        ({"ref_chosen_logged": "no"}, "ref_chosen_logged='no'; expected true or false"),
        ({"ref_chosen_logged": 1}, "ref_chosen_logged=1; expected true or false"),
        ({"ref_chosen_logged": True, "ref_chosen_logp": 5}, r"ref_chosen_logp=5\.0; .* which is at most 0"),
        ({"ref_rejected_logged": True, "ref_rejected_logp": -1e300}, r"ref_rejected_logp=-1e\+300; .* 32 bits"),
    ],
)
def test_a_number_that_cannot_be_trained_on_is_named(change: dict[str, Any], fault: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"pairs\.jsonl, line 1: {fault}"):
        loaded({**PAIR, **change}, tmp_path)


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63)])
@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.parquet"])
def test_the_largest_whole_numbers_go_through_both_kinds_of_file(number: int, name: str, tmp_path: Path) -> None:
    save_pairs(tmp_path / name, [loaded({**PAIR, "tree": number}, tmp_path)])
    assert load_pairs(tmp_path / name)[0].tree == number


def test_a_log_probability_of_zero_may_be_rounded(tmp_path: Path) -> None:
    assert loaded({**PAIR, "ref_chosen_logged": True, "ref_chosen_logp": 5e-7}, tmp_path).ref_chosen_logp == 5e-7


def test_a_score_that_is_no_log_probability_is_written_as_not_logged(tmp_path: Path) -> None:
    """Policies that are functions may score up to a constant."""
    pair = PreferencePair((observed("q"),), (acted("x"),), (acted("z"),), ref_chosen_logp=3.0, ref_rejected_logp=-1.0)
    save_pairs(tmp_path / "pairs.jsonl", [pair])
    [found] = load_pairs(tmp_path / "pairs.jsonl")
    assert (found.ref_chosen_logp, found.ref_rejected_logp) == (None, -1.0)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"rewards": [HUGE]}, "reward=10{39}; expected a finite number"),
        ({"rewards": [float("nan")]}, "reward=nan; expected a finite number"),
        ({"rewards": ["1"]}, "reward='1'; expected a finite number"),
        ({"rewards": [1e300]}, "reward=.* 32 bits"),
        ({"rewards": []}, "0 rewards and 0 invalid actions in 1 steps; expected a reward a step"),
        ({"steps": -7}, "steps=-7; expected int, of at least 0"),
        ({"steps": True}, "steps=True; expected int"),
        ({"invalid_actions": 2}, "1 rewards and 2 invalid actions in 1 steps"),
        ({"invalid_actions": "none"}, "invalid_actions='none'; expected int"),
        ({"model_calls": HUGE}, "model_calls=10{39}; expected int"),
    ],
)
def test_a_figure_of_an_episode_that_none_has_is_named(change: dict[str, Any], fault: str, tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    save_episodes(path, [Episode({"seed": 1}, (observed("a"),), (0.5,), True, 1)])
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}) + "\n")
    with pytest.raises(ValueError, match=rf"episodes\.jsonl, line 1: {fault}"):
        load_episodes(path)
