"""A search with its trees in a file: stopped, taken up again, and refused where the file is of another one."""

import json
import signal
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from branchwise import cli
from branchwise.envs.adapters import GymnasiumSimulator
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.search import resume
from branchwise.search.engine import Root
from branchwise.search.evaluation import RandomRollout
from branchwise.search.rules.options import RULES, Puct, from_flat, numbers_of, overlaid
from branchwise.search.settings import SearchSettings
from branchwise.search.store import load_trees, save_trees

GAME = TicTacToe()
ROOTS = [Root(GAME.reset(seed), task={"seed": seed}) for seed in range(3)]
SETTINGS = SearchSettings(simulations=60, solve=False)


class Stopping:
    """Sends a signal in a round, as a user would, and keeps what it was told."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.trees: Any = ()
        self.rounds = 0

    def __call__(self, simulations: int, nodes: int, model_calls: int) -> None:
        self.rounds += 1
        if self.rounds == self.at:
            signal.raise_signal(signal.SIGINT)


def searched(path: Path, settings: SearchSettings = SETTINGS, progress: Any = None, roots: Any = ROOTS) -> Any:
    return resume.search_into(path, GAME, roots, None, RandomRollout(), settings, np.random.default_rng(0), progress)


def test_stopped_and_gone_on_with_equals_one_search(tmp_path: Path) -> None:
    searched(tmp_path / "whole.parquet")
    for at in (7, 5):
        stopping = Stopping(at)
        with pytest.raises(KeyboardInterrupt):
            searched(tmp_path / "cut.parquet", progress=stopping)
        assert len(stopping.trees) == len(ROOTS)
    counts = [tree.counters["simulations"] for tree in load_trees(tmp_path / "cut.parquet")]
    assert counts == [12, 12, 12]
    searched(tmp_path / "cut.parquet")
    assert (tmp_path / "cut.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


@pytest.mark.parametrize("rule", ["puct", "uct", "ucb1", "gumbel"])
def test_a_file_of_an_earlier_version_with_all_options_side_by_side_is_resumed_bit_for_bit(
    rule: str, tmp_path: Path
) -> None:
    settings = SearchSettings(simulations=60, selection=rule, solve=False)  # type: ignore[arg-type]
    whole, cut = tmp_path / "whole.parquet", tmp_path / "cut.parquet"
    searched(whole, settings)
    with pytest.raises(KeyboardInterrupt):
        searched(cut, settings, Stopping(20))
    trees = load_trees(cut, GAME)
    for tree in trees:
        tree.settings = flat_json(settings)
    save_trees(cut, trees)
    assert load_trees(cut)[0].settings == settings.as_json()
    searched(cut, settings)
    assert cut.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("rule", RULES)
def test_settings_of_an_earlier_version_are_those_that_were_read(rule: str) -> None:
    settings = SearchSettings(selection=rule, solve=rule != "gumbel", proposals_by_depth=(4, 2))  # type: ignore[arg-type]
    assert SearchSettings(**from_flat(flat_json(settings))) == settings
    assert from_flat(settings.as_json()) == settings.as_json()


def test_settings_without_a_rule_or_with_one_that_nobody_knows_are_kept_as_they_are() -> None:
    for settings in ({}, {"simulations": 3}, {"selection": "luck", "exploration": 1.0}, {"selection": [3]}):
        assert from_flat(settings) == settings
    assert from_flat({"exploration": 2.0}) == {"selection": {"puct": {"exploration": 2.0}}}


def test_options_of_one_rule_are_laid_over_each_other_and_another_rule_begins_anew() -> None:
    under = {"selection": {"puct": {"exploration": 2.0, "unvisited_value": "zero"}}, "proposals": 3}
    assert overlaid(under, {"selection": "puct"}) == under
    assert overlaid(under, {"selection": {"puct": {"exploration": 1.0}}}) == {
        "selection": {"puct": {"exploration": 1.0, "unvisited_value": "zero"}},
        "proposals": 3,
    }
    assert overlaid(under, {"selection": {"uct": None}, "proposals": 4}) == {"selection": {"uct": {}}, "proposals": 4}


def flat_json(settings: SearchSettings) -> dict[str, Any]:
    """The settings as earlier versions wrote them."""
    options = json.loads(json.dumps(numbers_of(settings.rule)))
    return {**settings.as_json(), **options, "selection": settings.rule.name}


class Line(gym.Env[int, int]):
    """A walk on a line between the two places that the options name."""

    observation_space, action_space = gym.spaces.Discrete(99, start=-9), gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        (self.place, self.goal), _ = (options or {}).get("ends", ((5, 8), ()))
        return self.place, {}

    def step(self, action: int) -> Any:
        self.place += 1 if action else -1
        over = self.place == self.goal
        return self.place, float(over), over, False, {}


@pytest.mark.parametrize("ends", [((3, 5), ()), [[3, np.int64(5)], []]])
def test_tuples_and_lists_in_a_task_come_back_as_the_same_task(ends: Any, tmp_path: Path) -> None:
    game = GymnasiumSimulator(Line, ["left", "right"], max_steps=6)
    task = {"seed": 0, "options": {"ends": ends}}
    root = Root(game.reset(0, task["options"]), task=task)
    for simulations in (10, 20):
        settings, rng = SearchSettings(simulations=simulations), np.random.default_rng(0)
        resume.search_into(tmp_path / "t.parquet", game, [root], None, RandomRollout(), settings, rng)
    [tree] = load_trees(tmp_path / "t.parquet", game)
    assert tree.counters["simulations"] == 20
    assert tree.states[0] == root.state


def test_more_simulations_go_on_and_other_rules_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "trees.parquet"
    searched(path)
    more = searched(path, SearchSettings(simulations=90, solve=False))
    assert [tree.visits(0) for tree in more] == [90, 90, 90]
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"exploration.*remove it"):
        searched(path, SearchSettings(simulations=90, solve=False, selection=Puct(exploration=0.123)))
    with pytest.raises(ValueError, match="the trees of 3 goals where 2 are asked for"):
        searched(path, roots=ROOTS[:2])
    with pytest.raises(ValueError, match="of other tasks"):
        searched(path, roots=ROOTS[1:])
    assert path.read_bytes() == before


def test_another_seed_is_refused_and_the_trees_stay(tmp_path: Path) -> None:
    path = tmp_path / "trees.parquet"
    searched(path)
    before = path.read_bytes()
    for seed in (1, 2):
        with pytest.raises(ValueError, match="another seed"):
            resume.search_into(path, GAME, ROOTS, None, RandomRollout(), SETTINGS, np.random.default_rng(seed), None)
    assert path.read_bytes() == before


def test_trees_are_written_while_they_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "SECONDS_BETWEEN_SAVES", 0.0)
    path = tmp_path / "trees.parquet"
    kept = []

    def look(simulations: int, nodes: int, model_calls: int) -> None:
        if path.exists():
            kept.append(sum(tree.counters["simulations"] for tree in load_trees(path)))

    searched(path, SearchSettings(simulations=5, solve=False), look)
    assert kept == [3, 6, 9, 12]


def test_the_command_grows_a_game_without_a_model_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["search", "branchwise/TicTacToe-v0", "--goals", "1", "--out", "tree.parquet", "--set", "solve=false"]
    for simulations in ("20", "50"):
        with pytest.raises(SystemExit) as left:
            cli.app([*arguments, "--simulations", simulations])
        assert left.value.code == 0
    said = capsys.readouterr().out
    assert "tree.parquet: 1 tree, " in said
    assert "50 simulations, 0 model calls" in said
    assert said.count("(root)") == 2  # the outlines of both trees
