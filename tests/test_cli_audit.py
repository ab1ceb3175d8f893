"""``branchwise audit``: figures, files, resuming, and files that must not be obeyed."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from branchwise import cli
from branchwise.cli.auditing import _are_rewards
from branchwise.search.audit import swapped
from branchwise.search.records import anchors_beside, load_pairs, save_pairs
from branchwise.training import labels

GAME = "TicTacToe-v0"


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, list(map(str, arguments)))
    return done.exit_code, " ".join(done.output.split())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    code, said = run("search", GAME, "--goals", 6, "--simulations", 300, "--out", folder / "t.parquet")
    assert code == 0, said
    code, said = run("pairs", folder / "t.parquet", "--out", folder / "p.jsonl", "--threshold", 0.3, "--min-visits", 4)
    assert code == 0, said
    return folder / "p.jsonl"


@pytest.fixture
def pairs(made: Path, tmp_path: Path) -> Path:
    for file in (made, anchors_beside(made)):
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path / made.name


def figures(said: str) -> dict[str, dict[str, float]]:
    return {row["of"]: row for row in json.loads(said[said.index("[ {") :])}


def test_a_game_with_a_solver_is_audited_exactly_and_planted_labels_are_found(pairs: Path) -> None:
    """Of labels that are right one in five is swapped, and the audit says so to two points."""
    clean = pairs.with_name("clean.jsonl")
    code, said = run("audit", pairs, "--out", clean)
    assert code == 0, said
    assert "perfect play" in said
    right = [pair for pair in load_pairs(clean) if pair.rejected]
    assert {pair.chosen_visits for pair in right} == {0}
    assert all(pair.chosen_q > pair.rejected_q for pair in right)
    code, said = run("audit", clean, "--json")
    assert figures(said)["all"]["right"] == 1.0
    planted = [swapped(pair) if place % 5 == 0 else pair for place, pair in enumerate(right[: len(right) // 5 * 5])]
    save_pairs(clean, planted)
    code, said = run("audit", clean, "--json")
    found = figures(said)["all"]
    assert abs(found["wrong"] - 0.2) <= 0.02
    assert found["wrong_low"] < 0.2 < found["wrong_high"]
    code, said = run("audit", clean, "--out", pairs.with_name("again.jsonl"), "--swap")
    assert code == 0, said
    again = [pair for pair in load_pairs(pairs.with_name("again.jsonl")) if pair.rejected]
    assert [pair.chosen for pair in again] == [pair.chosen for pair in right[: len(planted)]]


def test_an_audit_resumes_from_its_verdicts(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, other = pairs.with_name("v.jsonl"), pairs.with_name("w.jsonl")
    monkeypatch.setattr(labels, "PAIRS_AT_ONCE", 4)
    code, whole = run("audit", pairs, "--rolls", 4, "--verdicts", kept, "--json")
    assert code == 0, whole
    lines = kept.read_bytes().splitlines(keepends=True)
    assert len(lines) > 10
    other.write_bytes(b"".join(lines[:7]) + lines[7][: len(lines[7]) // 2])  # killed in the middle of a line
    code, again = run("audit", pairs, "--rolls", 4, "--verdicts", other, "--json")
    assert code == 0, again
    assert figures(again) == figures(whole)
    assert sorted(other.read_bytes().splitlines()) == sorted(kept.read_bytes().splitlines())
    code, said = run("audit", pairs, "--rolls", 8, "--verdicts", kept)
    assert (code, "another rolls" in said) == (2, True)
    save_pairs(pairs, load_pairs(pairs)[1:])
    code, said = run("audit", pairs, "--rolls", 4, "--verdicts", kept)
    assert (code, "another pairs" in said) == (2, True)


@pytest.mark.parametrize(
    "line", ["{}", "[]", "nonsense", '{"place": 0}', '{"place": 0, "chosen_q": "x", "rejected_q": 0, "error": 0}']
)
def test_a_damaged_file_of_verdicts_says_where(pairs: Path, line: str) -> None:
    kept = pairs.with_name("v.jsonl")
    assert run("audit", pairs, "--rolls", 1, "--sample", 3, "--verdicts", kept)[0] == 0
    kept.write_bytes(kept.read_bytes().splitlines(keepends=True)[0] + line.encode() + b"\n")
    code, said = run("audit", pairs, "--rolls", 1, "--sample", 3, "--verdicts", kept)
    assert (code, "v.jsonl, line 2" in said) == (2, True), said
    before = "my notes\n"
    kept.write_text(before)
    assert run("audit", pairs, "--rolls", 1, "--verdicts", kept)[0] == 2
    assert kept.read_text() == before


def test_a_sample_is_drawn_by_the_seed(pairs: Path) -> None:
    asked = ("audit", pairs, "--rolls", 2, "--sample", 5, "--json")
    assert run(*asked) == run(*asked)
    assert figures(run(*asked)[1])["all"]["pairs"] == 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"env_id": "os:system"}, "names code to run"),
        ({"env_options": {"opponents": "os:system"}}, "names code to run"),
        ({"env_id": ""}, "give --env"),
        ({"env_id": "Nowhere-v0"}, "Nowhere-v0"),
        ({"env_options": {"size": 3}}, "size"),
    ],
)
def test_a_file_does_not_say_what_code_runs(pairs: Path, change: dict[str, object], words: str) -> None:
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    for row in rows:
        task = {**json.loads(row["task"]), **change}
        row |= {"task": json.dumps(task), "env_id": task["env_id"]}
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, said = run("audit", pairs, "--rolls", 1)
    assert code == 2
    assert words in said
    assert "Traceback" not in said


def test_what_cannot_be_judged_is_counted(pairs: Path) -> None:
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    rows[0]["prompt"][-1]["content"] = "another board"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, said = run("audit", pairs)
    assert (code, "not judged: 1 not restored" in said) == (0, True)
    pairs.write_text(json.dumps(rows[0]) + "\n")
    code, said = run("audit", pairs)
    assert (code, "no pair could be judged: 1 not restored" in said) == (2, True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--swap",), "without --out"),
        (("--history", "all_turns"), "without --model"),
        (("--outcome", "success"), "who are paid"),
        (("--out", "p.jsonl"), "is read by this command"),
        (("--verdicts", "p.jsonl"), "is read by this command"),
        (("--out", "o.jsonl", "--verdicts", "o.jsonl"), "is read by this command"),
        (("--out", "o.jsonl", "--verdicts", "o.anchors.jsonl"), "is read by this command"),
        (("--model", "nowhere"), "nowhere"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    pairs: Path, options: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pairs.parent)
    code, said = run("audit", "p.jsonl", *options)
    assert (code, words in said) == (2, True), said


def test_anchors_alone_have_nothing_to_compare(pairs: Path) -> None:
    from dataclasses import replace

    save_pairs(pairs, [replace(pair, rejected=()) for pair in load_pairs(pairs)])
    code, said = run("audit", pairs)
    assert (code, "nothing to compare" in said) == (2, True)


@pytest.mark.parametrize("content", [b'{"my": "precious"}', b"notes without an end", bytes(range(256)) * 40])
def test_a_file_of_somebody_else_is_no_file_of_verdicts(pairs: Path, content: bytes) -> None:
    """Also where its first line has no end, as that of a file of ours that a kill cut off."""
    kept = pairs.with_name("precious")
    kept.write_bytes(content)
    code, _ = run("audit", pairs, "--rolls", 1, "--sample", 2, "--verdicts", kept)
    assert (code, kept.read_bytes()) == (2, content)
    kept.write_bytes(b'{"audit": {"pai')
    assert run("audit", pairs, "--rolls", 1, "--sample", 2, "--verdicts", kept)[0] == 0


def test_options_that_are_lists_make_an_environment(tmp_path: Path) -> None:
    made = ("--option", "steps=[2, 3]")
    code, said = run("search", "MathTool-v0", "--goals", 2, "--simulations", 60, *made, "--out", tmp_path / "t.parquet")
    assert code == 0, said
    code, said = run("pairs", tmp_path / "t.parquet", "--out", tmp_path / "p.jsonl", "--threshold", 0.01)
    if code == 0:
        code, said = run("audit", tmp_path / "p.jsonl", "--rolls", 1)
        assert "unhashable" not in said
        assert code in (0, 2)


def test_naming_the_environment_does_not_let_a_file_name_code(pairs: Path) -> None:
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    for row in rows:
        task = {**json.loads(row["task"]), "env_options": {"opponents": {"deep": ["nowhere:player"]}}}
        row |= {"task": json.dumps(task), "env_id": ""}
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, said = run("audit", pairs, "--rolls", 1, "--env", GAME)
    assert (code, "names code to run ('nowhere:player')" in said) == (2, True), said


def test_hostile_numbers_and_names_cost_nobody_the_audit(pairs: Path) -> None:
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    contrasts = [row for row in rows if "rejected" in row][:20]
    contrasts[0] |= {"chosen_q": 1e-310, "rejected_q": 0.0, "weight": 1e38}
    contrasts[1] |= {"kind": "x \u00b2"}
    contrasts[2] |= {"kind": "x " + "9" * 5000}
    contrasts[3] |= {"kind": "\x1b[31mRED\x1b]0;owned\x07"}
    contrasts[4] |= {"rejected": contrasts[4]["chosen"]}
    pairs.write_text("".join(json.dumps(row) + "\n" for row in contrasts))
    out = pairs.with_name("out.jsonl")
    code, said = run("audit", pairs, "--swap", "--out", out)
    assert code == 0, said
    assert "\x1b" not in said
    assert "1 equal sides" in said
    assert load_pairs(out)


def test_labels_that_luck_explains_are_not_written(pairs: Path) -> None:
    """One roll-out a side is never clear: nothing is left to write; with many, fewer pairs than are right."""
    code, said = run("audit", pairs, "--rolls", 1, "--out", pairs.with_name("one.jsonl"))
    assert (code, "no label is clearly right" in said) == (2, True)
    out = pairs.with_name("many.jsonl")
    code, said = run("audit", pairs, "--rolls", 8, "--out", out, "--json")
    assert code == 0, said
    found = figures(said[: said.rindex("]") + 1])["all"]
    written = [pair for pair in load_pairs(out) if pair.rejected]
    assert len(written) == round(found["clearly_right"] * found["pairs"]) < found["right"] * found["pairs"]


@pytest.mark.parametrize(("q", "visits", "env", "noted"), [
    (0.7, 4, "WebShop-v0", True), (0.75, 4, "WebShop-v0", False), (0.7, 4, "TicTacToe-v0", False),
    (0.7, 0, "WebShop-v0", False), (1e308, 1000, "WebShop-v0", False),
])  # fmt: skip
def test_values_that_are_no_shares_of_successes_are_doubted(
    pairs: Path, q: float, visits: int, env: str, noted: bool
) -> None:
    row = next(pair for pair in load_pairs(pairs) if pair.rejected)
    rows = [replace(row, chosen_q=q, rejected_q=q, chosen_visits=visits, rejected_visits=visits)] * 3
    assert _are_rewards(rows, {f'["branchwise/{env}", {{}}]': [0, 1, 2]}) == noted


def test_an_audit_that_is_stopped_keeps_what_it_has_and_says_so(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = pairs.with_name("v.jsonl")
    judged = labels.judged_by_place

    def stopped(*arguments: Any) -> Iterator[Any]:
        yield next(judged(*arguments))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(labels, "judged_by_place", stopped)
        code, said = run("audit", pairs, "--rolls", 4, "--verdicts", kept)
        assert (code, "run the same command to resume" in said) == (130, True)
        code, said = run("audit", pairs, "--rolls", 4)
        assert (code, "with --verdicts FILE the same command resumes" in said) == (130, True)
    assert len(kept.read_bytes().splitlines()) == 1 + labels.PAIRS_AT_ONCE
    assert run("audit", pairs, "--rolls", 4, "--verdicts", kept)[0] == 0
