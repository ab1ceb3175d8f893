"""What a user tries first: short ids, near names, an empty value, ``python -m``, a clone in a folder of any name."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from branchwise import __version__, cli, simulator_for
from branchwise.agents.named import agents_called
from branchwise.envs.registry import environment_row, environments
from branchwise.search.store import load_trees
from branchwise.training.loop.config import load_config
from branchwise.training.readable import row_order
from branchwise.training.settings import SettingsError

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("row", environments(), ids=lambda row: row.id)
def test_an_id_is_found_without_its_namespace_and_in_any_case(row: object) -> None:
    whole = row.id  # type: ignore[attr-defined]
    short = whole.removeprefix("branchwise/")
    for text in (whole, short, short.lower(), short.upper(), whole.lower(), f"branchwise.envs:{whole}"):
        assert environment_row(text) is row


@pytest.mark.parametrize("wrong", ["WebShop-v9", "other/WebShop-v0", "", "branchwise/", "Web Shop-v0"])
def test_another_id_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="No environment"):
        environment_row(wrong)


def test_every_command_takes_a_short_id_and_writes_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    assert runner.invoke(cli.app, ["play", "kuhnpoker-v0", "--seed", "1"], "q\n").exit_code == 0
    arguments = ["search", "KuhnPoker-v0", "--goals", "1", "--simulations", "5", "--out", "t.parquet"]
    assert runner.invoke(cli.app, arguments).exit_code == 0
    assert load_trees("t.parquet")[0].task["env_id"] == "branchwise/KuhnPoker-v0"
    done = runner.invoke(cli.app, ["bench", "KuhnPoker-v0", "--agent", "random", "--goals", "2", "--json"])
    assert json.loads(done.stdout)[0]["env"] == "branchwise/KuhnPoker-v0"
    assert load_config("smoke", ["env=webshop-v0"]).env == "branchwise/WebShop-v0"
    assert simulator_for("tictactoe-v0").players == 2


@pytest.mark.parametrize(
    ("env", "typed", "meant"),
    [
        ("branchwise/WebShop-v0", "randon", "random"),
        ("branchwise/WebShop-v0", "rulebased", "rule_based"),
        ("branchwise/KuhnPoker-v0", "equilibirum", "equilibrium"),
        ("branchwise/KuhnPoker-v0", "mtcs", "mcts"),
        ("branchwise/Bargaining-v0", "tit-for-tatt", "tit-for-tat"),
    ],
)
def test_a_mistyped_agent_is_named_and_nobody_else_is_asked(env: str, typed: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean {meant}\\?"):
        agents_called(typed, env, tell=pytest.fail)


@pytest.mark.parametrize("name", ["rule-based", "tit_for_tat", "monte-carlo"])
def test_a_player_of_another_environment_is_no_model_either(name: str) -> None:
    with pytest.raises(ValueError, match=r"it plays branchwise/.*Players here: random, perfect, mcts"):
        agents_called(name, "branchwise/TicTacToe-v0", tell=pytest.fail)


@pytest.mark.parametrize("typed", ["tit-for-tat", "tit_for_tat", "Tit-For-Tat"])
def test_a_player_is_found_however_its_words_are_joined(typed: str) -> None:
    assert [agent.name for agent in agents_called(typed, "branchwise/Bargaining-v0")] == ["tit-for-tat"]


def test_an_empty_value_of_a_text_is_the_empty_text() -> None:
    assert load_config("smoke", ["search_recipe="]).search_recipe == ""
    assert load_config("smoke", ["search_recipe=''"]).search_recipe == ""
    with pytest.raises(SettingsError, match="rounds=None is NoneType; expected int"):
        load_config("smoke", ["rounds="])


def test_agents_have_one_order() -> None:
    order = ["random", "rule_based", "behaviour_cloning", "rft", "step_dpo", "own", "step_dpo+mcts", "rft+mcts_oracle"]
    for turned in (order, order[::-1]):
        assert sorted(turned, key=lambda agent: row_order({"agent": agent})) == order
    kinds = {"a": "oracle", "b+mcts": "trained", "c_oracle": "search"}
    rows = sorted(({"agent": agent, "kind": kind} for agent, kind in kinds.items()), key=row_order)
    assert [row["agent"] for row in rows] == ["b+mcts", "c_oracle", "a"], "a kind is no name"


def test_python_m_is_the_command(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "branchwise"]
    done = subprocess.run([*program, "--version"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == f"branchwise {__version__}\n"
    done = subprocess.run([*program, "play", "nowhere"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["copy", "my pröject"])
def test_a_clone_is_tested_whatever_its_folder_is_called(name: str, tmp_path: Path) -> None:
    """``copy`` is a module of Python's own, and ``my pröject`` no name of a module."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is nothing to clone")
    clone = tmp_path / name
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", ROOT.as_uri(), clone], check=True, capture_output=True)
    shutil.copy(ROOT / "tests" / "conftest.py", clone / "tests")  # as it is here, committed or not
    program = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_agents_packing.py"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(program, cwd=clone, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


def test_an_opponent_that_is_said_as_an_option_plays() -> None:
    said = ["bench", "TicTacToe", "--agent", "random", "--goals", "20", "--json"]
    rows = []
    for more in (["--opponent", "perfect"], ["--option", "opponents=perfect"], []):
        done = CliRunner().invoke(cli.app, said + more)
        [row] = json.loads(done.stdout)
        rows.append({name: value for name, value in row.items() if not name.startswith("seconds")})
    assert rows[0] == rows[1] != rows[2]
    refused = CliRunner().invoke(cli.app, [*said, "--opponent", "perfect", "--option", "opponents=random"])
    assert refused.exit_code == 2
    assert "say the same; leave one out" in refused.stderr


@pytest.mark.parametrize("command", [["search", "tic_tac_toe", "--out", "x.parquet"], ["play", "tic_tac_toe"]])
def test_a_run_where_an_environment_is_meant_is_told_from_it(command: list[str]) -> None:
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 2
    assert "tic_tac_toe is a run, and this command takes an environment: branchwise/TicTacToe-v0" in done.stderr
