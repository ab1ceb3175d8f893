"""``branchwise export``: what it prints, what it refuses, and that it replaces nothing of another kind."""

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from branchwise import cli
from branchwise.cli.exporting import Format as Choice
from branchwise.envs.play.episode import Episode
from branchwise.envs.play.transcript import acted, observed
from branchwise.search.credit import StepAdvantage
from branchwise.search.export import Format
from branchwise.search.extraction import PreferencePair
from branchwise.search.records import load_pairs, save_advantages, save_episodes, save_pairs

PROMPT, LEFT, RIGHT = (observed("left or right"),), (acted("left"),), (acted("right"),)
WON = Episode({"env_id": "toy", "seed": 1}, (*PROMPT, *LEFT), (1.0,), True, 1)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of each kind."""
    monkeypatch.chdir(tmp_path)
    save_advantages("advantages.jsonl", [StepAdvantage(PROMPT, LEFT, 0.5), StepAdvantage(PROMPT, RIGHT, -0.5)])
    save_pairs("pairs.jsonl", [PreferencePair(PROMPT, LEFT, RIGHT), PreferencePair(PROMPT, LEFT)])
    lost = replace(WON, transcript=(*PROMPT, *RIGHT), rewards=(0.0,), success=False)
    save_episodes("episodes.jsonl", [WON, lost, replace(WON, transcript=PROMPT)])
    return tmp_path


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, ["export", *arguments])
    return done.exit_code, " ".join(done.output.replace("│", " ").split())


def test_the_choices_are_the_formats() -> None:
    assert [choice.value for choice in Choice] == list(get_args(Format))


@pytest.mark.parametrize(
    ("kind", "to", "said"),
    [
        ("advantages", "trl", "2 advantages for TRL's KTOTrainer; 1 better than the policy's average, 1 worse"),
        ("advantages", "verl", "2 advantages for verl's RL trainers (RLHFDataset); 1 better"),
        ("advantages", "verifiers", "2 advantages for verifiers (traces.jsonl); 1 better"),
        ("pairs", "trl", "1 pairs for TRL's DPOTrainer out.anchors.jsonl: 1 rows without a rejected side"),
        ("episodes", "trl", "2 episodes for TRL's SFTTrainer left out: 1 without an action"),
        ("episodes", "verl", "2 episodes for verl's SFT trainer left out: 1 without an action"),
        ("episodes", "verifiers", "2 episodes for verifiers (traces.jsonl) left out: 1 without an action"),
    ],
)
def test_each_kind_is_written_and_written_again(kind: str, to: str, said: str, place: Path) -> None:
    out = f"out.{'parquet' if to == 'verl' else 'jsonl'}"
    for _ in range(2):
        code, output = run(f"{kind}.jsonl", "--format", to, "--out", out)
        assert code == 0, output
        assert f"{out}: {said}" in output
    rows = pq.read_table(out).num_rows if to == "verl" else len(Path(out).read_text().splitlines())
    assert rows == (1 if kind == "pairs" else 2)  # the pair without a rejected side is in the file beside


def test_pairs_keep_their_anchors_beside(place: Path) -> None:
    assert run("pairs.jsonl", "--format", "trl", "--out", "out.jsonl")[0] == 0
    assert load_pairs("out.jsonl") == load_pairs("pairs.jsonl")
    assert Path("out.anchors.jsonl").is_file()


def test_rows_without_a_rejected_side_alone_are_for_supervised_training(place: Path) -> None:
    save_pairs("steps.jsonl", [PreferencePair(PROMPT, LEFT)])
    code, output = run("steps.jsonl", "--format", "trl", "--out", "out.jsonl")
    assert (code, output) == (0, "out.jsonl: 1 rows without a rejected side, for TRL's SFTTrainer")
    assert load_pairs("out.jsonl") == load_pairs("steps.jsonl")


def test_failed_episodes_are_named_and_may_be_left_out(place: Path) -> None:
    code, output = run("episodes.jsonl", "--format", "trl", "--out", "all.jsonl")
    assert (code, "1 of the 2 episodes failed, and SFT learns them too" in output) == (0, True), output
    code, output = run("episodes.jsonl", "--format", "trl", "--out", "good.jsonl", "--successful")
    assert code == 0, output
    assert "left out: 1 without an action left out: 1 that failed" in output
    assert [json.loads(line)["success"] for line in Path("good.jsonl").read_text().splitlines()] == [True]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pairs.jsonl", "--format", "verl", "--out", "o.parquet"), "these rows are pairs, and the format verl takes"),
        (("pairs.jsonl", "--format", "verifiers", "--out", "o.jsonl"), "takes advantages and episodes"),
        (("pairs.jsonl", "--format", "trl", "--out", "o.jsonl", "--successful"), "only an episode succeeds"),
        (("advantages.jsonl", "--format", "verl", "--out", "o.jsonl"), "name it o.parquet"),
        (("advantages.jsonl", "--format", "trl", "--out", "advantages.jsonl"), "is read by this command"),
        (("pairs.jsonl", "--format", "trl", "--out", "pairs.anchors.jsonl"), "is read by this command"),
        (("advantages.jsonl", "--format", "trl", "--out", "pairs.jsonl"), "is no export of advantages for trl"),
        (("episodes.jsonl", "--format", "trl", "--out", "notes.txt"), "is no export of episodes for trl"),
        (("episodes.jsonl", "--format", "verl", "--out", "notes.parquet"), "is no export of episodes for verl"),
        (("notes.txt", "--format", "trl", "--out", "o.jsonl"), "expected advantages, pairs or episodes"),
        (("nothing.jsonl", "--format", "trl", "--out", "o.jsonl"), "no such file"),
        ((".", "--format", "trl", "--out", "o.jsonl"), "a folder, where a file is expected"),
        (("silent.jsonl", "--format", "trl", "--out", "o.jsonl"), "the agent acts in none of its episodes"),
        (("lost.jsonl", "--format", "trl", "--out", "o.jsonl", "--successful"), "no episode succeeded"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)
def test_what_cannot_be_exported_is_one_line_and_nothing_is_written(
    arguments: tuple[str, ...], said: str, place: Path
) -> None:
    Path("notes.txt").write_text("my notes\n")
    Path("notes.parquet").write_text("my notes\n")
    save_episodes("silent.jsonl", [replace(WON, transcript=PROMPT)])
    save_episodes("lost.jsonl", [replace(WON, success=False)])
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    code, output = run(*arguments)
    assert code == 2, output
    assert said in output
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


def test_a_link_is_written_where_it_leads(place: Path) -> None:
    Path("out.jsonl").symlink_to("disk.jsonl")
    assert run("pairs.jsonl", "--format", "trl", "--out", "out.jsonl")[0] == 0
    assert Path("out.jsonl").is_symlink()
    assert load_pairs("disk.jsonl")
