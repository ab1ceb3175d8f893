"""Files of pairs and episodes: they come back, rows of others are read, and what is damaged or impossible is refused in
one line, with file and line."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from branchwise.envs.checked import LARGEST
from branchwise.envs.play.episode import Episode
from branchwise.envs.play.transcript import Turn, acted, observed
from branchwise.search.calls import ROUNDING
from branchwise.search.extraction import PreferencePair
from branchwise.search.records import anchors_beside, load_episodes, load_pairs, save_episodes, save_pairs

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


# ---- pairs ------------------------------------------------------------------------------------------------------

PAIRS = [
    PreferencePair(
        prompt=(Turn("system", "Be brief."), observed("page – “ü”\u2028\n"), acted("look"), observed("more")),
        chosen=(acted("buy"),),
        rejected=(acted("leave"),),
        chosen_q=0.75,
        rejected_q=0.1,
        chosen_visits=3,
        rejected_visits=1,
        ref_chosen_logp=-1.0 / 3.0,
        ref_rejected_logp=-2.5,
        weight=0.5,
        margin=0.2,
        label_smoothing=0.1,
        env_id="shop",
        task={"seed": 1, "options": {"goal": 3}},
        tree=2,
        node=5,
        depth=1,
        round=1,
        kind="sibling",
    ),
    PreferencePair(prompt=(observed("x"),), chosen=(acted("y"), observed("z"), acted("w")), task={"seed": "one"}),
    PreferencePair(prompt=(), chosen=(acted("y"),), rejected=(acted(""),), ref_chosen_logp=0.0),
]


def test_pairs_come_back(tmp_path: Path) -> None:
    save_pairs(tmp_path / "pairs.jsonl", PAIRS)
    assert load_pairs(tmp_path / "pairs.jsonl") == [PAIRS[0], PAIRS[2], PAIRS[1]]  # anchors have their own file


def test_rows_without_a_rejected_side_have_a_file_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    beside = anchors_beside(path)
    assert beside == tmp_path / "pairs.anchors.jsonl"
    save_pairs(path, PAIRS)
    rows = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    assert len(rows) == 2
    assert all(row["chosen"] and row["rejected"] for row in rows)
    [anchor] = [json.loads(line) for line in beside.read_text().splitlines()]
    assert anchor["completion"] == [
        {"role": "assistant", "content": "y"},
        {"role": "user", "content": "z"},
        {"role": "assistant", "content": "w"},
    ]
    assert not {"chosen", "rejected", "label", "rejected_q", "margin", "label_smoothing"} & anchor.keys()


def test_an_anchor_keeps_its_weight(tmp_path: Path) -> None:
    anchor = replace(PAIRS[1], weight=0.25)
    save_pairs(tmp_path / "pairs.jsonl", [anchor])
    assert load_pairs(tmp_path / "pairs.jsonl") == [anchor]


def test_anchors_of_an_earlier_extraction_are_not_read_with_later_pairs(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    save_pairs(path, PAIRS)
    save_pairs(path, PAIRS[:1])
    assert load_pairs(path) == PAIRS[:1]
    save_pairs(path, PAIRS)
    save_pairs(path, PAIRS[1:2])
    assert load_pairs(path) == PAIRS[1:2]
    assert [file.name for file in tmp_path.iterdir()] == ["pairs.jsonl"]


@pytest.mark.parametrize("content", [
    b"notes\n", b'{"a": 1}\n', b"\n", b'[{"prompt": 1}]', b'x{"prompt": 1}',
    b'{"prompt": "my own"}\n',
    b'{"prompt": [], "chosen": [], "rejected": []}\n',  # labelled by somebody
    b'{"prompt": [], "completion": [], "label": true, "chosen_q": 1}\n',
    b'{"prompt": [], "completion": [], "advantage": 1}\n',
])  # fmt: skip
@pytest.mark.parametrize("beside", [False, True])
def test_a_file_that_holds_no_pairs_is_neither_replaced_nor_removed(
    content: bytes, beside: bool, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.jsonl"
    foreign = anchors_beside(path) if beside else path
    foreign.write_bytes(content)
    for pairs in (PAIRS, PAIRS[:1]):
        with pytest.raises(
            ValueError, match=rf"{foreign.name} exists and holds no pairs that branchwise wrote; it is not overwritten"
        ):
            save_pairs(path, pairs)
    assert [file.name for file in tmp_path.iterdir()] == [foreign.name]
    assert foreign.read_bytes() == content


def test_a_file_of_pairs_and_an_empty_one_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b"")
    for earlier in (PAIRS, PAIRS[1:2], PAIRS):
        save_pairs(path, earlier)
    assert len(load_pairs(path)) == 3


@pytest.mark.parametrize("side", ["chosen", "rejected"])
@pytest.mark.parametrize("turn", [Turn("assistant", "a"), Turn("user", "a", is_agent=True)])
def test_a_turn_whose_role_does_not_say_whose_it_is_is_not_written(side: str, turn: Turn, tmp_path: Path) -> None:
    pair = replace(PAIRS[0], **{side: (turn,)})
    with pytest.raises(
        ValueError, match=rf"a turn with role '{turn.role}' and is_agent={turn.is_agent}; the file keeps"
    ):
        save_pairs(tmp_path / "pairs.jsonl", [pair])
    save_pairs(tmp_path / "pairs.jsonl", [replace(PAIRS[0], prompt=(turn,))])  # nothing is learned of a prompt


def test_a_log_probability_of_zero_is_logged_and_one_of_none_is_not(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    for chosen, rejected in ((0.0, None), (None, 0.0), (None, None), (-0.5, 0.0)):
        pair = replace(PAIRS[0], ref_chosen_logp=chosen, ref_rejected_logp=rejected)
        anchor = replace(PAIRS[1], ref_chosen_logp=chosen)
        save_pairs(path, [pair, anchor])
        assert load_pairs(path) == [pair, anchor]


def test_pairs_of_the_version_before_with_anchors_among_them_are_read(tmp_path: Path) -> None:
    row = {
        "prompt": [{"role": "user", "content": "x"}], "chosen": [{"role": "assistant", "content": "y"}],
        "rejected": [{"role": "assistant", "content": ""}], "anchor": True, "chosen_q": 0.5, "rejected_q": 0.0,
        "chosen_visits": 3, "rejected_visits": 0, "weight": 1.0, "margin": 0.0, "label_smoothing": 0.0, "env_id": "e",
        "tree": 1, "node": 2, "depth": 3, "round": 4, "kind": "anchor", "ref_chosen_logp": -1.5,
        "ref_chosen_logged": True, "ref_rejected_logp": 0.0, "ref_rejected_logged": False, "task": '{"seed": 1}',
    }  # fmt: skip
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({**row, "anchor": False}) + "\n")
    anchor, pair = load_pairs(tmp_path / "pairs.jsonl")
    assert anchor == PreferencePair(
        (observed("x"),), (acted("y"),), (), 0.5, 0.0, 3, 0, -1.5, None,
        env_id="e", task={"seed": 1}, tree=1, node=2, depth=3, round=4, kind="anchor",
    )  # fmt: skip
    assert pair == replace(anchor, rejected=(acted(""),))


QUESTION, GOOD, BAD = ({"role": role, "content": text} for role, text in
                       (("user", "2 + 2?"), ("assistant", "4"), ("assistant", "5")))  # fmt: skip
ANSWERED = PreferencePair((observed("2 + 2?"),), (acted("4"),), (acted("5"),))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": [QUESTION], "chosen": [GOOD], "rejected": [BAD]}, ANSWERED),
        ({"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}, ANSWERED),
        ({"prompt": [QUESTION], "chosen": "4", "rejected": "5", "score": 3, "source": {"a": None}}, ANSWERED),
        ({"chosen": [QUESTION, GOOD], "rejected": [QUESTION, BAD]}, ANSWERED),
        ({"prompt": [QUESTION], "completion": [GOOD]}, replace(ANSWERED, rejected=())),
        ({"prompt": "2 + 2?", "completion": "4"}, replace(ANSWERED, rejected=())),
        (
            {"prompt": [{"role": "system", "content": "Add."}, QUESTION], "chosen": [GOOD], "rejected": [BAD]},
            replace(ANSWERED, prompt=(Turn("system", "Add."), observed("2 + 2?"))),
        ),
    ],
)
def test_pairs_that_others_wrote_for_trl_are_read(row: Any, expected: PreferencePair, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row))
    assert load_pairs(tmp_path / "pairs.jsonl") == [expected]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"weight": "abc"}, "weight='abc'; expected a finite number"),
        ({"margin": math.inf}, "margin=inf; expected a finite number"),
        ({"margin": math.nan}, "margin=nan; expected a finite number"),
        ({"label_smoothing": None}, "label_smoothing=None; expected a finite number"),
        ({"chosen_q": True}, "chosen_q=True; expected a finite number"),
        ({"ref_chosen_logp": "low", "ref_chosen_logged": True}, "ref_chosen_logp='low'; expected a finite number"),
        ({"chosen_visits": 1.5}, "chosen_visits=1.5; expected a whole number"),
        ({"tree": "first"}, "tree='first'; expected a whole number"),
        ({"env_id": 3}, "env_id=3; expected a text"),
        ({"task": "{"}, "task: not JSON"),
        ({"task": "[1]"}, "task=[1]; expected an object"),
        ({"task": "[" * 200_000}, "task: not JSON that can be read"),
        ({"prompt": 3}, "3; expected a text, or a list of messages"),
        ({"chosen": []}, "a side without a message of the assistant"),
        ({"chosen": [{"role": "assistant"}]}, "no field 'content'"),
        ({"chosen": [{"role": "tool", "content": "x"}]}, "a message with role 'tool'"),
        ({"chosen": [{"role": "assistant", "content": ["x"]}]}, "expected a text of one of system, user, assistant"),
        ({"chosen": ["x"]}, "indices"),
        ({"rejected": None}, "None; expected a text"),
        ({"label": True}, "a row with 'label' is for training without pairs"),
        ({"prompt": [{"role": "user", "content": None}]}, "a message with role 'user' and content None"),
        ({"rejected_visits": True}, "rejected_visits=True; expected a whole number"),
        ({"kind": None}, "kind=None; expected a text"),
        ({"weight": True}, "weight=True; expected a finite number"),
        ({"ref_rejected_logp": math.nan, "ref_rejected_logged": True}, "ref_rejected_logp=nan; expected a finite"),
    ],
)
def test_a_field_of_a_pair_that_cannot_be_used_is_named(change: Any, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": [QUESTION], "chosen": [GOOD], "rejected": [BAD], **change}) + "\n")
    with pytest.raises(ValueError, match=re.escape(fault)) as raised:
        load_pairs(path)
    assert str(raised.value).startswith(f"{path}, line 1: ")


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": [GOOD], "rejected": [BAD]},  # nothing that both begin with
        {"completion": [QUESTION, GOOD]},
        {"chosen": [QUESTION, GOOD], "rejected": [BAD]},
    ],
)
def test_a_row_without_a_prompt_whose_sides_begin_with_none_is_named(row: Any, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row))
    with pytest.raises(ValueError, match=r"line 1: no field 'prompt'; expected a pair"):
        load_pairs(tmp_path / "pairs.jsonl")


def test_the_prompt_of_a_row_without_one_is_all_that_both_sides_begin_with(tmp_path: Path) -> None:
    """And no more: what is equal again behind the first difference belongs to the sides."""
    rows = {"chosen": [QUESTION, GOOD, QUESTION, GOOD, QUESTION], "rejected": [QUESTION, GOOD, QUESTION, BAD, QUESTION]}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(rows))
    asked = observed("2 + 2?")
    expected = PreferencePair((asked, acted("4"), asked), (acted("4"), asked), (acted("5"), asked))
    assert load_pairs(tmp_path / "pairs.jsonl") == [expected]


@pytest.mark.parametrize("task", [{"a": 1}, None, 3])
def test_a_task_of_others_that_is_no_text_is_passed_over(task: Any, tmp_path: Path) -> None:
    row = {"prompt": [QUESTION], "chosen": [GOOD], "rejected": [BAD], "task": task}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row))
    assert load_pairs(tmp_path / "pairs.jsonl") == [ANSWERED]


@pytest.mark.parametrize("order", [[0, 1, 2], [1, 0, 2], [2, 0]])
def test_datasets_reads_pairs_as_trl_wants_them(tmp_path: Path, order: list[int]) -> None:
    datasets = pytest.importorskip("datasets")
    save_pairs(tmp_path / "pairs.jsonl", [PAIRS[i] for i in order])
    loaded = datasets.load_dataset(
        "json", data_files=str(tmp_path / "pairs.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded.column_names[:3] == ["prompt", "chosen", "rejected"]
    assert len(loaded) == 2
    assert {str(loaded.features[name].dtype) for name in ("chosen_q", "ref_chosen_logp", "margin")} == {"float64"}


def test_datasets_reads_anchors_as_trl_s_supervised_trainer_wants_them(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    save_pairs(tmp_path / "steps.jsonl", [PAIRS[1]] * 3)
    loaded = datasets.load_dataset(
        "json", data_files=str(tmp_path / "steps.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded.column_names[:2] == ["prompt", "completion"]
    row = loaded[0]
    assert {str(loaded.features[name].dtype) for name in ("chosen_q", "ref_chosen_logp", "weight")} == {"float64"}
    assert json.loads(row["task"]) == {"seed": "one"}


def test_lone_surrogates_become_the_replacement_character(tmp_path: Path) -> None:
    pair = PreferencePair(prompt=(observed("a\ud800b"),), chosen=(acted("c"),))
    save_pairs(tmp_path / "pairs.jsonl", [pair])
    assert load_pairs(tmp_path / "pairs.jsonl")[0].prompt[0].text == "a\ufffdb"


def test_numbers_of_numpy_are_written(tmp_path: Path) -> None:
    pair = PreferencePair((), (acted("c"),), chosen_q=np.float32(0.5), tree=np.int64(3), task={"seed": np.int64(4)})  # type: ignore[arg-type]
    save_pairs(tmp_path / "pairs.jsonl", [pair])
    [loaded] = load_pairs(tmp_path / "pairs.jsonl")
    assert (loaded.chosen_q, loaded.tree, loaded.task) == (0.5, 3, {"seed": 4})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: b"", "is empty"),
        (lambda text: text[:-20], r"line 2: the line has no end; the file was cut off"),
        (lambda text: text.replace(b"more", b"m\xffre"), r"line 1: not UTF-8"),
        (lambda text: b"{}\n" + text, r"line 1: no field 'chosen'"),
        (lambda text: b"prompt,chosen\n" + text, r"line 1: not JSON"),
        (lambda text: text + b"[1, 2]\n", r"line 3: list where an object is expected"),
        (lambda text: text + b"\n-\n", r"line 4: not JSON"),
    ],
)
def test_damaged_pair_files_are_named_by_line(tmp_path: Path, damage: Any, message: str) -> None:
    path = tmp_path / "pairs.jsonl"
    save_pairs(path, PAIRS)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        load_pairs(path)


@pytest.mark.parametrize("between", [b"\n", b"  \t\r\n", b"\n\n"])
def test_blank_lines_and_a_byte_order_mark_are_passed_over(between: bytes, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    save_pairs(path, PAIRS[:1] * 2)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"\xef\xbb\xbf" + lines[0] + between + lines[1] + between + b" ")
    assert load_pairs(path) == PAIRS[:1] * 2


def test_a_missing_pair_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"pairs\.jsonl: no such file"):
        load_pairs(tmp_path / "pairs.jsonl")


# ---- episodes ---------------------------------------------------------------------------------------------------


def test_episodes_come_back(tmp_path: Path) -> None:
    turn = acted("buy", token_ids=(1, 2), logps=(-0.5, -0.1))
    episodes = [
        Episode({"seed": 1}, (observed("start"), turn, observed("end")), (0.0, 1.0), True, 2, 1, 5, False),
        Episode({"seed": 2}, (observed("start"),), (), False, 0, truncated=True),
    ]
    save_episodes(tmp_path / "episodes.jsonl", episodes)
    assert load_episodes(tmp_path / "episodes.jsonl") == episodes


def test_a_file_of_an_earlier_version_that_names_the_policy_of_a_turn_is_read(tmp_path: Path) -> None:
    turn = acted("buy", token_ids=(1, 2), logps=(-0.5, -0.1))
    path, episode = tmp_path / "episodes.jsonl", Episode({"seed": 1}, (observed("start"), turn), (1.0,), True, 1)
    save_episodes(path, [episode])
    path.write_text(path.read_text().replace('"token_ids"', '"policy_id": "m", "token_ids"'))
    assert "policy_id" in path.read_text()
    assert load_episodes(path) == [episode]


@pytest.mark.parametrize("logged", [{"token_ids": (1,)}, {"logps": (-0.5,)}, {}])
def test_whatever_was_logged_of_a_turn_comes_back(logged: Any, tmp_path: Path) -> None:
    episode = Episode({"seed": 1}, (observed("start"), acted("buy", **logged)), (1.0,), True, 1)
    save_episodes(tmp_path / "episodes.jsonl", [episode])
    assert load_episodes(tmp_path / "episodes.jsonl") == [episode]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"task": [1]}, r"task=\[1\]; expected dict"),
        ({"success": 1}, "success=1; expected bool"),
        ({"truncated": None}, "truncated=None; expected bool"),
        ({"steps": "2"}, "steps='2'; expected int"),
        ({"model_calls": 2.5}, "model_calls=2.5; expected int"),
        ({"rewards": ["much"]}, "reward='much'; expected a finite number"),
        ({"rewards": 1.0}, r"rewards=1\.0; expected a list"),
        ({"transcript": [{"role": "user", "content": "a"}]}, "no field 'is_agent'"),
        ({"transcript": [{"role": "user", "content": "a", "is_agent": 1}]}, "a turn with role 'user', .*is_agent 1"),
        ({"transcript": [{"role": "host", "content": "a", "is_agent": True}]}, "a turn with role 'host'"),
        ({"transcript": [{"role": "user", "content": 1, "is_agent": True}]}, "content 1 and"),
    ],
)
def test_a_field_of_an_episode_that_cannot_be_used_is_named(change: Any, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    save_episodes(path, [Episode({"seed": 1}, (observed("a"),), (0.5,), True, 1)])
    row = json.loads(path.read_text())
    path.write_text(json.dumps({**row, **change}) + "\n")
    with pytest.raises(ValueError, match=rf"episodes\.jsonl, line 1: .*{fault}"):
        load_episodes(path)
    path.write_text(json.dumps({**row, "more": 3}))  # fields of the caller's own, and no line break at the end
    assert len(load_episodes(path)) == 1


def test_pairs_are_no_episodes(tmp_path: Path) -> None:
    save_pairs(tmp_path / "pairs.jsonl", PAIRS)
    with pytest.raises(ValueError, match=r"line 1: no field .*an episode"):
        load_episodes(tmp_path / "pairs.jsonl")


def test_missing_folders_are_made(tmp_path: Path) -> None:
    save_pairs(tmp_path / "a" / "b" / "pairs.jsonl", PAIRS)
    assert len(load_pairs(tmp_path / "a" / "b" / "pairs.jsonl")) == 3


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


@pytest.mark.parametrize("rejected", [{}, {"rejected": []}, {"rejected": ""}, {"rejected": [{**X, "content": ""}]}])
def test_a_row_that_says_that_it_is_an_anchor_has_no_rejected_side(rejected: dict[str, Any], tmp_path: Path) -> None:
    pair = loaded({"prompt": "q", "chosen": "x", "anchor": True, **rejected}, tmp_path)
    assert pair == PreferencePair((observed("q"),), (acted("x"),))


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
        ({**PAIR, "anchor": True, "rejected": [{**R, "content": ""}, Z]}, "a row with 'anchor' true and a rejected"),
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
        ({"chosen_visits": -5}, "chosen_visits=-5; expected a whole number from 0 on"),
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
    save_pairs(tmp_path / "saved" / name, [loaded({**PAIR, "tree": number}, tmp_path)])
    assert load_pairs(tmp_path / "saved" / name)[0].tree == number


def test_a_log_probability_of_zero_may_be_rounded(tmp_path: Path) -> None:
    assert loaded({**PAIR, "ref_chosen_logged": True, "ref_chosen_logp": 5e-7}, tmp_path).ref_chosen_logp == 5e-7


def test_numbers_at_their_limits_come_back(tmp_path: Path) -> None:
    row = {**PAIR, "ref_chosen_logged": True, "ref_chosen_logp": ROUNDING, "weight": LARGEST, "margin": -LARGEST}
    pair = loaded(row, tmp_path)  # and again from the file that was written of it
    assert (pair.ref_chosen_logp, pair.weight, pair.margin) == (ROUNDING, LARGEST, -LARGEST)
    path = tmp_path / "episodes.jsonl"
    limits = {"steps": 1, "invalid_actions": 1, "model_calls": 2**63 - 1}
    episode = Episode({"seed": 1}, (observed("a"),), (LARGEST,), True, **limits)
    save_episodes(path, [episode])
    assert load_episodes(path) == [episode]


def test_a_number_that_json_has_no_word_for_is_not_written(tmp_path: Path) -> None:
    for number in (math.nan, math.inf):
        with pytest.raises(ValueError, match="not JSON compliant"):
            save_pairs(tmp_path / "pairs.jsonl", [replace(PAIRS[0], margin=number)])
        with pytest.raises(ValueError, match="not JSON compliant"):
            save_episodes(tmp_path / "episodes.jsonl", [Episode({}, (observed("a"),), (number,), True, 1)])
    assert list(tmp_path.iterdir()) == []


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
        ({"model_calls": 2**63}, "model_calls=9223372036854775808; expected int"),
    ],
)
def test_a_figure_of_an_episode_that_none_has_is_named(change: dict[str, Any], fault: str, tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    save_episodes(path, [Episode({"seed": 1}, (observed("a"),), (0.5,), True, 1)])
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}) + "\n")
    with pytest.raises(ValueError, match=rf"episodes\.jsonl, line 1: {fault}"):
        load_episodes(path)
