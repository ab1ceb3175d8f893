"""A person plays a game in the terminal, against an opponent by name."""

from typing import Any

import pytest
from typer.testing import CliRunner

from branchwise import cli, simulator_for
from branchwise.envs.play.person import play
from branchwise.envs.simulator import TERMINAL

GAME = "branchwise/KuhnPoker-v0"


def played(*lines: str, **options: Any) -> list[str]:
    fed = iter(lines)
    shown: list[str] = []
    play(GAME, options, seed=3, input=lambda prompt: next(fed), output=lambda text: shown.append(str(text)))
    return shown


@pytest.mark.parametrize("player", [0, 1])
def test_the_other_players_move_by_themselves(player: int) -> None:
    shown = played("1", "1", player=player, opponents="equilibrium")
    view = simulator_for(GAME, player=player, opponents="equilibrium")
    state = view.reset(3)
    assert view.observation(state) in shown[0]
    while view.current_player(state) != TERMINAL:
        state = view.step(state, view.legal_actions(state)[0])  # type: ignore[index]
    assert shown[-1].startswith(f"Reward {view.rewards(state)[0]:.3g} after ")


def test_the_command_takes_opponent_and_player_and_names_the_known_ones() -> None:
    runner = CliRunner()
    done = runner.invoke(cli.app, ["play", GAME, "--opponent", "equilibrium", "--player", "1", "--seed", "3"], "1\n1\n")
    assert done.exit_code == 0, done.output
    assert "You are player 1" in done.output
    assert "Reward" in done.output
    for wrong, known in ((["--opponent", "nobody"], "'equilibrium'"), (["--player", "7"], "0 to 1")):
        done = runner.invoke(cli.app, ["play", GAME, *wrong])
        assert done.exit_code == 2
        assert known in done.output


def test_a_game_for_one_has_no_opponents() -> None:
    done = CliRunner().invoke(cli.app, ["play", "branchwise/WebShop-v0", "--opponent", "random"])
    assert done.exit_code == 2
    assert "so it has no opponents" in done.output


def test_envs_lists_each_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist gives it to its workers
    lines = CliRunner().invoke(cli.app, ["envs"]).output.splitlines()
    for row in (line for line in lines if "branchwise/" in line):
        assert row.split()[1].isdecimal()
        assert row.rstrip().endswith(".")


@pytest.mark.parametrize(("player", "colour"), [(0, "Black"), (1, "White")])
def test_who_plays_chess_reads_its_colour(player: int, colour: str) -> None:
    pytest.importorskip("pyspiel")
    shown: list[str] = []
    options = {"game": "chess", "player": player}
    play("branchwise/OpenSpiel-v0", options, seed=1, input=lambda _: "q", output=lambda text: shown.append(str(text)))
    assert f"You are player {player}, {colour}." in shown[0]
