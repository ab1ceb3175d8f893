"""Every table that a command prints, at 60, 80 and 120 columns: each name and figure is there, and no line is wider."""

import contextlib
import inspect
import io
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from branchwise import cli
from branchwise.envs.registry import environments
from branchwise.training.display import ProgressDisplay, ResultsTable
from branchwise.training.evaluation import ResultRow
from branchwise.training.readable import agent_name

WIDTHS = (60, 80, 120)
AGENTS = ("random", "step_dpo", "behaviour_cloning+mcts", "step_dpo+mcts_oracle", "runs/web_shop/base/model+mcts")


def result(agent: str, seconds: float = 0.0123) -> ResultRow:
    shares = (0.253, 0.205, 0.307, 0.639, 0.604, 0.670)
    return ResultRow(agent, "branchwise/WebShop-v0", "test", 300, 0, *shares, 0.125, 4.1, 28.35, seconds)


def shown(rows: list[ResultRow], width: int) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(ResultsTable(rows))
    return capture.get()


def words_of(agent: str) -> Iterator[str]:
    """The words of a name: a narrow column folds between them, and a path where it must."""
    for word in agent_name(agent).split():
        yield from [word] if len(word) <= 16 else [word[:12]]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("seconds", [0.0123, 200.0])
def test_the_table_of_results_has_names_and_whole_figures(width: int, seconds: float) -> None:
    text = shown([result(agent, seconds) for agent in AGENTS], width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "…" not in text
    for agent in AGENTS:
        assert all(word in text for word in words_of(agent)), agent
    time = "12.3 ms" if seconds < 1 else "3 min 20 s"
    for figure in ("25.3", "[20.5, 30.7]", "0.639", "[0.60, 0.67]", "12.5", "4.1", "28.4", time):
        assert text.count(figure) == len(AGENTS), figure
    for word in ("success", "reward", "invalid", "steps", "calls", "time", "300 goals"):
        assert word in text


def test_intervals_stand_beside_their_means_where_there_is_room() -> None:
    assert "25.3 [20.5, 30.7]" in shown([result("random")], 120)


@pytest.mark.parametrize("command", cli.app.registered_commands, ids=lambda command: command.callback.__name__)
def test_help_shows_each_paragraph_whole_and_unbroken(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither are the docstring's line breaks the terminal's, nor is a bracket taken for markup."""
    monkeypatch.setenv("COLUMNS", "1000")
    lines = CliRunner().invoke(cli.app, [command.callback.__name__, "--help"]).output.splitlines()
    shown = [line.strip() for line in lines]
    for paragraph in (inspect.getdoc(command.callback) or "").split("\n\n"):
        assert " ".join(paragraph.split()) in shown
    assert [line for line in lines if "<bool>" in line and "--help" not in line] == []  # a flag takes no value


@pytest.mark.parametrize("width", WIDTHS)
def test_bench_names_its_agents(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    arguments = ["bench", "branchwise/KuhnPoker-v0", "--agent", "random", "--agent", "equilibrium", "--goals", "3"]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0, done.output
    assert "Random" in done.stdout
    assert "equilibrium" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_envs_has_every_id_and_number_of_players_on_one_line(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = CliRunner().invoke(cli.app, ["envs"]).output.splitlines()
    for row in environments():
        [line] = [line for line in lines if line.startswith(f"{row.id} ")]
        assert line.split()[1] == str(row.players)
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_search_prints_its_tree_within_the_width(width: int, monkeypatch: pytest.MonkeyPatch, tmp_path: str) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.chdir(tmp_path)
    arguments = ["search", "branchwise/MultiIssue-v0", "--goals", "1", "--simulations", "20", "--out", "t.parquet"]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0, done.output
    outline = done.stdout.split("t.parquet:")[0].splitlines()
    assert len(outline) > 5
    assert outline[0] == "visits, value for who chose it, p = prior, action"
    assert max(map(len, outline)) <= width


@pytest.mark.parametrize("columns", ["1", "0", "39", "x"])
def test_a_terminal_of_no_width_is_taken_to_have_forty_columns(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    shown = CliRunner().invoke(cli.app, ["envs"]).output
    assert "branchwise/WebShop-v0" in shown


def test_the_last_lines_of_stages_break_between_words_and_never_before_a_unit() -> None:
    for width in range(40, 80):
        file = io.StringIO()
        console = Console(file=file, width=width, force_terminal=True, color_system=None)
        display = ProgressDisplay(console)
        figures = {"validation_success": 0.25, "promoted": False}
        display.finished("step_dpo/round_1/model with words", figures, 4.7)
        text = file.getvalue()
        assert max(map(len, text.splitlines())) <= width
        assert "25.0\u202f%" in text
        assert "4.7\xa0s" in text


def test_in_a_file_a_finished_stage_is_one_line_with_plain_blanks() -> None:
    file = io.StringIO()
    display = ProgressDisplay(Console(file=file, width=40))
    display.finished("step_dpo/round_1/model", {"validation_success": 0.25, "promoted": False}, 4.7)
    assert file.getvalue() == "step_dpo/round_1/model: done, validation success 25.0 %, not promoted, 4.7 s\n"


def test_an_error_on_a_terminal_breaks_between_words(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "from branchwise.cli import main; main()", "play", "WebShop-v0"]
    main, other = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80"}
    done = subprocess.Popen([*program, "--option", "splt=test"], stdout=other, stderr=other, env=environment)
    os.close(other)
    text = b""
    with contextlib.suppress(OSError):  # its end, on Linux
        while part := os.read(main, 4096):
            text += part
    os.close(main)
    assert done.wait(60) == 2
    lines = text.decode().split("\r\n")
    assert len(lines) > 2
    assert max(map(len, lines)) <= 80
    assert "near_duplicates," in text.decode()
