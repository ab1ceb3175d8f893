"""What is finished survives: kills at random times, a crash before every change of the file system, and a power cut
that drops all that was not synced. After each the same work again leaves the files of an uninterrupted run."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from branchwise.envs.registry import simulator_for
from branchwise.search.engine import Root, SearchSettings
from branchwise.search.evaluation import RandomRollout
from branchwise.search.locks import only_writer
from branchwise.search.resume import search_into

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads /proc")


def reported(script: str, *arguments: str, seconds: float = 280) -> list[dict[str, Any]]:
    command = [sys.executable, str(HERE / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    assert done.stdout, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(("work", "least"), [("stages", 100), ("search", 20), ("folder", 20)])
def test_a_crash_or_a_power_cut_before_any_change_of_the_file_system_changes_no_result(work: str, least: int) -> None:
    [found] = reported("crash_points.py", work)
    assert found["faults"] == []
    assert found["points"] >= least
    assert found["tried"] == 3 * found["points"]  # the crash, and the two disks that a power cut may leave


@pytest.mark.parametrize("work", ["stages", "folder"])
def test_power_cuts_find_what_is_named_before_it_is_on_disk(work: str) -> None:
    [found] = reported("crash_points.py", work, "unsynced")
    assert any("new: " in fault for fault in found["faults"])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("what", ["loop", "search"])
def test_a_dozen_kills_at_random_times_change_no_result(what: str) -> None:
    [found] = reported("kills.py", "--times", "12", "--what", what, seconds=850)
    assert found["kills"] >= 12
    assert found["differing"] == []


def test_a_second_search_into_one_file_is_refused(tmp_path: Path) -> None:
    game = simulator_for("branchwise/TicTacToe-v0")
    path = tmp_path / "trees.parquet"
    root = Root(game.reset(0), (), {"env_id": "branchwise/TicTacToe-v0", "seed": 0})

    def search() -> None:
        search_into(path, game, [root], None, RandomRollout(), SearchSettings(simulations=4), None)  # type: ignore[arg-type]

    with only_writer(path), pytest.raises(ValueError, match=r"trees.parquet is being written to by the process [0-9]+"):
        search()
    search()
    assert [entry.name for entry in tmp_path.iterdir()] == ["trees.parquet"]
