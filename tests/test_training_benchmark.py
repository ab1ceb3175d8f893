"""A benchmark that is stopped keeps its episodes, and resumes to what it would have been."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from branchwise import cli, simulator_for
from branchwise.agents.searching import RolloutSearcher
from branchwise.envs.opponents import random_opponent
from branchwise.envs.play.players import ScriptedAgent
from branchwise.search.records import load_episodes
from branchwise.training.benchmark import Benchmark
from branchwise.training.evaluation import evaluate

GAME = "branchwise/KuhnPoker-v0"
SETTINGS = {"env": GAME, "split": "", "seed": 3, "options": {"opponents": "random"}}
TASKS = [{"seed": number, "options": {}} for number in range(12)]
PROGRAM = [sys.executable, "-c", "from branchwise.cli import main; main()"]


class Interrupted(ScriptedAgent):
    """Plays at random, and is stopped at its ``acts``-th decision."""

    def __init__(self, acts: int = 10**9) -> None:
        super().__init__(random_opponent, "random")
        self.acts = acts

    def choose(self, *arguments: Any) -> str:
        self.acts -= 1
        if self.acts < 0:
            raise KeyboardInterrupt
        return super().choose(*arguments)


def benchmark(folder: Path | None, tasks: list[dict[str, Any]] = TASKS, **changes: Any) -> Benchmark:
    return Benchmark(simulator_for(GAME, opponents="random"), tasks, {**SETTINGS, **changes}, folder)


def figures(row: Any) -> dict[str, Any]:
    return {**(row if isinstance(row, dict) else asdict(row)), "seconds_per_decision": 0.0}


def uninterrupted(tasks: list[dict[str, Any]] = TASKS) -> dict[str, Any]:
    game = simulator_for(GAME, opponents="random")
    row, _ = evaluate(game, tasks, Interrupted(), env=GAME, split="", seed=3)
    return figures(row)


def test_stopped_anywhere_it_resumes_to_the_same_figures(tmp_path: Path) -> None:
    expected = uninterrupted()
    for acts in range(12):
        folder = tmp_path / str(acts)
        first = benchmark(folder)
        with pytest.raises(KeyboardInterrupt):
            first.play(Interrupted(acts))
        ended = sum(row.episodes for row in first.rows)
        assert ended == len((folder / "episodes" / "random.jsonl").read_bytes().splitlines())
        second = benchmark(folder)
        assert figures(second.play(Interrupted())) == expected
        second.save()
        assert [figures(row) for row in json.loads((folder / "results.json").read_text())] == [expected]


def test_a_line_that_was_cut_off_anywhere_costs_its_episode_alone(tmp_path: Path) -> None:
    expected = uninterrupted()
    benchmark(tmp_path).play(Interrupted())
    file = tmp_path / "episodes" / "random.jsonl"
    whole = file.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(last, len(whole), 50):
        file.write_bytes(whole[:cut])
        assert figures(benchmark(tmp_path).play(Interrupted())) == expected
        assert len(load_episodes(file)) == len(TASKS)


def test_more_tasks_and_other_agents_use_what_is_there(tmp_path: Path) -> None:
    benchmark(tmp_path, TASKS[:5]).play(Interrupted())
    more = benchmark(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        more.play(Interrupted(0))
    assert more.rows[0].episodes == 5
    assert figures(benchmark(tmp_path).play(Interrupted())) == uninterrupted()
    assert figures(benchmark(tmp_path, TASKS[:5]).play(Interrupted(0))) == uninterrupted(TASKS[:5])
    assert benchmark(tmp_path).play(RolloutSearcher(5)).episodes == len(TASKS)


@pytest.mark.parametrize("change", [{"seed": 4}, {"options": {"opponents": "equilibrium"}}, {"split": "test"}])
def test_a_folder_of_another_benchmark_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    benchmark(tmp_path)
    with pytest.raises(ValueError, match=f"holds a benchmark with {next(iter(change))}=.*name another --out"):
        benchmark(tmp_path, **change)


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ValueError, match="something else than a benchmark"):
        benchmark(tmp_path)


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    benchmark(tmp_path).play(Interrupted())
    file = tmp_path / "episodes" / "random.jsonl"
    file.write_bytes(b"{}\n" + file.read_bytes())
    with pytest.raises(ValueError, match=r"random\.jsonl, line 1: no episode that bench wrote"):
        benchmark(tmp_path).play(Interrupted())


@pytest.mark.parametrize("damage", [b"", b"{", b"[" * 200_000, b"\xff", b"[]"])
def test_damaged_settings_and_lines_are_one_line_with_the_cure(tmp_path: Path, damage: bytes) -> None:
    benchmark(tmp_path).play(Interrupted())
    (tmp_path / "episodes" / "random.jsonl").write_bytes(damage + b"\n")
    with pytest.raises(ValueError, match=r"random\.jsonl, line 1: no.*; remove the file to play anew$") as of_line:
        benchmark(tmp_path).play(Interrupted())
    (tmp_path / "bench.json").write_bytes(damage)
    with pytest.raises(ValueError, match=r"bench\.json: not .*; remove .*, or name another --out$") as of_settings:
        benchmark(tmp_path)
    assert "\n" not in f"{of_line.value}{of_settings.value}"


def test_agents_whose_names_read_alike_have_files_of_their_own(tmp_path: Path) -> None:
    names = ["runs/a/model", "runs_a_model", "runs a model", "/runs/a/model/", "é" * 200, "é" * 201, "/", "", "agent"]
    for name in names:
        agent = Interrupted()
        agent.name = name
        benchmark(tmp_path).play(agent)
    files = {file.name for file in (tmp_path / "episodes").iterdir()}
    assert len(files) == len(names)
    assert {"runs_a_model.jsonl", "agent.jsonl"} <= files


def bench(*arguments: object) -> list[str]:
    return ["bench", "branchwise/TicTacToe-v0", "--agent", "mcts", "--simulations", "3000", *map(str, arguments)]


def started(cwd: Path, *arguments: object) -> subprocess.Popen[str]:
    """A run of many goals that has played at least two of them."""
    running = subprocess.Popen(
        [*PROGRAM, *bench("--goals", 5000, "--out", "out", *arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    file = cwd / "out" / "episodes" / "mcts.jsonl"
    end = time.monotonic() + 120
    while not (file.exists() and file.read_bytes().count(b"\n") >= 2):
        assert running.poll() is None, running.stderr.read() if running.stderr else ""
        assert time.monotonic() < end
        time.sleep(0.02)
    return running


def test_a_killed_run_has_lost_the_episode_under_way_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = started(tmp_path)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    played = len(load_episodes_whole(tmp_path / "out" / "episodes" / "mcts.jsonl"))
    monkeypatch.chdir(tmp_path)
    goals = str(played + 2)
    resumed = CliRunner().invoke(cli.app, bench("--goals", goals, "--out", "out", "--json"))
    assert resumed.exit_code == 0, resumed.output
    once = CliRunner().invoke(cli.app, bench("--goals", goals, "--json"))
    assert [figures(row) for row in json.loads(resumed.stdout)] == [figures(row) for row in json.loads(once.stdout)]


def load_episodes_whole(file: Path) -> list[bytes]:
    return [line for line in file.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def test_ctrl_c_prints_what_was_reached_and_how_to_resume(tmp_path: Path) -> None:
    running = started(tmp_path)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    reached = re.search(r"mcts: (\d+) of 5000 goals; the same command resumes", err)
    assert reached is not None, err
    assert int(reached[1]) == len(load_episodes(tmp_path / "out" / "episodes" / "mcts.jsonl")) >= 2
    assert f"{reached[1]} episodes of branchwise/TicTacToe-v0" in out
    assert "Traceback" not in err
    [row] = json.loads((tmp_path / "out" / "results.json").read_text())
    assert row["episodes"] == int(reached[1])


def test_without_out_ctrl_c_still_prints_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("branchwise.agents.named.scripted_agents", lambda env: {"random": lambda: Interrupted(9)})
    done = CliRunner().invoke(cli.app, ["bench", GAME, "--agent", "random", "--goals", "50"])
    assert done.exit_code == 130
    reached = re.search(r"random: (\d) of 50 goals; give --out FOLDER", done.stderr)
    assert reached is not None, done.stderr
    assert f"{reached[1]} episodes of {GAME}" in done.stdout


@pytest.mark.parametrize(
    "change", [{"rewards": [10**400]}, {"rewards": [float("nan")]}, {"steps": -7}, {"seconds": 10**400},
               {"seconds": float("nan")}, {"seconds": -1}],
)  # fmt: skip
def test_an_episode_of_numbers_that_none_has_is_named(change: dict[str, Any], tmp_path: Path) -> None:
    benchmark(tmp_path).play(Interrupted())
    file = tmp_path / "episodes" / "random.jsonl"
    first, *others = file.read_text().splitlines()
    file.write_text("\n".join([json.dumps({**json.loads(first), **change}), *others, ""]))
    with pytest.raises(ValueError, match=r"random\.jsonl, line 1: no episode that bench wrote .*; remove the file"):
        benchmark(tmp_path).play(Interrupted())
