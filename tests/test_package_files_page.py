"""``docs/files.md`` against what is written: every key, column, flag and value of real files."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from branchwise import cli
from branchwise.envs.play.players import RandomAgent
from branchwise.envs.play.playing import run_episodes
from branchwise.envs.play.transcript import Turn
from branchwise.envs.registry import simulator_for
from branchwise.search.engine import Root, SearchSettings, search
from branchwise.search.evaluation import RandomRollout
from branchwise.search.records import save_episodes
from branchwise.search.rules import backup
from branchwise.search.store import save_trees
from branchwise.search.trees import nodes

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "files.md").read_text(encoding="utf-8")
WORDS = {
    "EXPANDED": "expanded", "ENDED": "terminal", "VALUED": "value known", "SOLVED": "solved", "FAILED": "failed",
    "INVALID": "invalid action", "LINKED": "leads to a state that another node holds", "SHARED": "such a state",
    "BUSY": "an evaluation under way", "INFORMATION": "an information set", "OUTCOMES": "a chance node",
    "INCOMPLETE": "an action is missing here", "UNSTEPPED": "the simulator was not stepped into it",
}  # fmt: skip


def section(title: str) -> str:
    return PAGE.split(f"## {title}")[1].split("\n## ")[0]


def columns(text: str) -> dict[str, str]:
    """Rows of a table: the names in its first cell, and the row."""
    rows = re.findall(r"^\| (`.+)$", text, re.M)
    return {name: row for row in rows for name in re.findall(r"`([^`]+)`", row.split(" | ")[0])}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trees of a solved game, episodes and a benchmark, as they are written."""
    folder = tmp_path_factory.mktemp("files")
    game = simulator_for("branchwise/TicTacToe-v0")
    state = game.reset(0)
    for action in "124759":  # x wins with 6
        state = game.step(state, action)
    root = Root(state, task={"seed": 0, "options": {}})
    save_trees(folder / "trees.parquet", search(game, [root], None, RandomRollout(), SearchSettings(simulations=60)))
    shop = simulator_for("branchwise/WebShop-v0", products=100)
    tasks = [{"seed": goal, "options": {"goal": goal}} for goal in range(2)]
    save_episodes(folder / "episodes.jsonl", run_episodes(shop, tasks, RandomAgent(), 0))
    out = str(folder / "bench")
    arguments = ["bench", "KuhnPoker-v0", "--agent", "random", "--goals", "2", "--out", out]
    assert CliRunner().invoke(cli.app, arguments).exit_code == 0
    return folder


def test_columns_of_trees_and_their_types_are_those_of_the_file(folder: Path) -> None:
    schema = pq.read_schema(folder / "trees.parquet")
    rows = columns(section("Trees: parquet"))
    assert set(rows) == set(schema.names)
    for name in schema.names:
        kind = str(schema.field(name).type).replace("float", "float").replace("double", "float64")
        written = rows[name].split(" | ")[1].replace(" or null", "").replace("list of ", "")
        assert written in {kind, "float32" if kind == "float" else kind, "float64"}, name


def test_flags_are_those_of_the_code() -> None:
    text = columns(section("Trees: parquet"))["flags"].split(" | ")[2]
    known = {name: getattr(nodes, name) for name in WORDS}
    assert sorted(known.values()) == sorted(map(int, re.findall(r"\b\d+\b", text.replace("(0 in", "(in"))))
    for name, value in known.items():
        assert f"{value} {WORDS[name]}" in text, name


def test_proofs_are_those_of_the_file(folder: Path) -> None:
    text = columns(section("Trees: parquet"))["proof"]
    codes = {"unproven": backup.UNPROVEN, "loss": backup.LOSS, "draw": backup.DRAW, "win": backup.WIN}
    assert all(f"{code} {word}" in text for word, code in codes.items())
    table = pq.read_table(folder / "trees.parquet")
    proofs = np.array(table["proof"])
    assert proofs[0] == codes["win"]  # of player 0, who wins with 6
    assert set(proofs.tolist()) <= set(codes.values())


def keys(rows: list[dict[str, Any]]) -> set[str]:
    return {key for row in rows for key in row}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_fields_of_episodes_and_of_their_turns_are_those_of_the_file(folder: Path) -> None:
    text = section("Episodes: JSONL")
    named = set(re.findall(r"`(\w+)`", text)) - {"bench"}
    episodes = lines(folder / "episodes.jsonl") + lines(folder / "bench" / "episodes" / "random.jsonl")
    logged = {"token_ids", "logps"}
    assert named == keys(episodes) | keys([turn for row in episodes for turn in row["transcript"]]) | logged
    assert logged <= set(Turn.__dataclass_fields__)


def test_a_benchmarks_folder_holds_what_is_said(folder: Path) -> None:
    rows = columns(section("A benchmark's folder"))
    written = {str(path.relative_to(folder / "bench")) for path in (folder / "bench").rglob("*") if path.is_file()}
    assert {name.replace("<agent>", "random") for name in rows if "/" in name or "." in name} == written
    settings = json.loads((folder / "bench" / "bench.json").read_text())
    words = rows["bench.json"].casefold()
    assert all(name in words or name == "env" for name in settings), settings
