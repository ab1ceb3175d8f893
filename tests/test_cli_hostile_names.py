"""No name, action or reason of a stranger reaches the terminal as it is: each command, driven with hostile ones."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from branchwise import cli
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.terminal import printable, printable_line
from branchwise.search.engine import Root, SearchSettings, search
from branchwise.search.evaluation import RandomRollout
from branchwise.search.graph import outline, to_dot
from branchwise.training.display import ProgressDisplay, ResultsTable
from branchwise.training.evaluation import ResultRow

SIGNS = "\x1b]0;owned\x07\x1b[2J\x9b1A\u202e\u2066\u200b\ufeff"
GAME = "branchwise/TicTacToe-v0"


def is_clean(text: str) -> bool:
    return printable(text) == text


@pytest.mark.parametrize(
    "code",
    [
        *(*range(0x20), *range(0x7F, 0xA0), 0xAD, 0x61C, 0x200B, 0x200E, 0x200F, *range(0x2028, 0x202F)),
        *(*range(0x2060, 0x2070), 0xFEFF, 0xD800, 0xDFFF, 0xE0001, 0xE007F),
    ],
)
def test_what_a_terminal_obeys_or_nobody_sees_is_replaced(code: int) -> None:
    kept = chr(code) if chr(code) in "\n\t" else "\ufffd"
    assert printable(f"a{chr(code)}b") == f"a{kept}b"
    assert not set(printable_line(f"a{chr(code)}b")) & {"\n", "\t", chr(code)}


@pytest.mark.parametrize(
    "text", ["naïve – 日本語 עברית العربية", "👩\u200d👧 ক\u200cষ", "12\u202f% \u00a0[1, 2]", "line\n\ttab"]
)
def test_what_people_write_stays(text: str) -> None:
    assert printable(text) == text
    assert text.encode()


@pytest.mark.parametrize(
    "arguments",
    [
        [f"wrong{SIGNS}"],
        ["play", f"branchwise/{SIGNS}-v0"],
        ["play", GAME, "--option", f"{SIGNS}=1"],
        ["play", GAME, "--option", f"opponents={SIGNS}"],
        ["search", GAME, "--out", "t.parquet", "--set", f"{SIGNS}=1"],
        ["search", GAME, "--out", "t.parquet", "--set", f"selection={SIGNS}"],
        ["search", GAME, "--out", "t.parquet", "--model", f"./{SIGNS}"],
        ["search", GAME, "--out", "folder{}", "--goals", SIGNS],
        ["pairs", f"{SIGNS}.parquet", "--out", "p.jsonl"],
        ["pairs", "broken{}.parquet", "--out", "p.jsonl"],
        ["pairs", f"t{SIGNS}", "--out", "folder{}"],
        ["export", f"{SIGNS}.jsonl", "--format", "trl", "--out", "o.jsonl"],
        ["export", "broken{}.parquet", "--format", "verl", "--out", "o.parquet"],
        ["export", "r.jsonl", "--format", SIGNS, "--out", "o.jsonl"],
        ["export", "hostile{}.jsonl", "--format", "trl", "--out", "o.jsonl"],
        ["train", f"{SIGNS}.jsonl", "--model", "m", "--out", "o"],
        ["train", "p.jsonl", "--model", "m", "--out", "o", "--method", SIGNS],
        ["train", "p.jsonl", "--model", "m", "--out", "o", "--\x1b[2J\x9b1A"],
        ["bench", GAME, "--agent", f"./{SIGNS}"],
        ["bench", GAME, "--agent", f"ran{SIGNS}dom"],
        ["bench", GAME, "--agent", "random", "--split", SIGNS],
        ["bench", GAME, "--agent", "random", "--goals", "2", "--opponent", SIGNS],
        ["bench", GAME, "--agent", "random", "--goals", "2", "--out", "folder{}"],
        ["loop", SIGNS],
        ["loop", "smoke", "--out", "run", "--set", f"{SIGNS}=1"],
        ["loop", "smoke", "--out", "run", "--set", f"recipes=['{SIGNS}']"],
        ["loop", "smoke", "--out", "run", "--set", f"env={SIGNS}"],
    ],
    ids=lambda arguments: " ".join(arguments).encode("ascii", "backslashreplace").decode()[:60],
)
def test_errors_are_clean(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / f"folder{SIGNS}").mkdir()
    (tmp_path / f"folder{SIGNS}" / "file").touch()
    (tmp_path / f"broken{SIGNS}.parquet").write_text("broken")
    (tmp_path / f"hostile{SIGNS}.jsonl").write_text(json.dumps({SIGNS: SIGNS}) + "\n")
    done = CliRunner().invoke(cli.app, [argument.replace("{}", SIGNS) for argument in arguments])
    assert done.exit_code == 2, done.output
    assert is_clean(done.output), ascii(done.output)


def test_files_of_hostile_names_are_written_and_named_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trees, pairs, folder = (f"{SIGNS}.{ending}".replace("/", "") for ending in ("parquet", "jsonl", "out"))
    for arguments in (
        ["search", GAME, "--goals", "1", "--simulations", "40", "--out", trees],
        ["pairs", trees, "--out", pairs],
        ["bench", GAME, "--agent", "random", "--goals", "2", "--out", folder],
        ["bench", GAME, "--agent", "random", "--goals", "2", "--json"],
    ):
        done = CliRunner().invoke(cli.app, arguments)
        assert done.exit_code == 0, done.output
        assert is_clean(done.output), ascii(done.output)
    anchors = f"{pairs.removesuffix('.jsonl')}.anchors.jsonl"
    assert {path.name for path in tmp_path.iterdir()} == {trees, pairs, anchors, folder}


class Hostile(TicTacToe):
    """Its first action has a hostile text, as a model might propose."""

    def legal_actions(self, state: Any) -> Any:
        return [f"{SIGNS}{action}" for action in super().legal_actions(state)]

    def step(self, state: Any, action: str) -> Any:
        return super().step(state, action[-1])


def test_pictures_of_a_tree_are_clean() -> None:
    game = Hostile()
    settings = SearchSettings(simulations=30)
    [tree] = search(game, [Root(game.reset(0))], None, RandomRollout(), settings)
    assert SIGNS in tree.actions[1]
    assert is_clean(outline(tree))
    assert is_clean(to_dot(tree))


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("terminal", [False, True])
def test_tables_and_progress_are_clean(width: int, terminal: bool) -> None:
    console = Console(width=width, color_system=None)
    row = ResultRow(SIGNS, f"env{SIGNS}", f"split{SIGNS}", 3, 0, *[0.5] * 6, 0.0, 4.1, 2.0, 0.1)
    with console.capture() as capture:
        console.print(ResultsTable([row]))
    assert is_clean(capture.get())
    shown = Console(width=width, color_system=None, force_terminal=terminal)
    with shown.capture() as capture:
        display = ProgressDisplay(shown)
        display.started(f"stage{SIGNS}")
        display.moved(f"stage{SIGNS}", 1, 2, f"note{SIGNS}")
        if display._progress is not None:
            shown.print(display._progress.get_renderable())
        display.finished(f"stage{SIGNS}", {"success": 0.5}, 1.0)
    assert is_clean(capture.get())
