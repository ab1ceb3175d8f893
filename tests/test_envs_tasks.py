"""Tasks: which there are in a split, where each starts, and environments of other packages by name."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from branchwise.envs.play.players import RandomAgent, scripted_agents
from branchwise.envs.play.playing import run_episodes
from branchwise.envs.play.task import TaskSource, first_state, goal_count, start
from branchwise.envs.registry import environment_row, environments, simulator_for
from branchwise.envs.simulator import CHANCE
from branchwise.envs.views import SinglePlayerView

OURS = [row for row in environments() if not row.extra]
MODULE = '''
import gymnasium as gym
from gymnasium import spaces
from branchwise.envs.simulator import TERMINAL, Simulator


class Guess(Simulator):
    """Say the number that the hint names.

    One step."""

    def __init__(self, largest: int = 4, split: str = "train") -> None:
        self.largest = largest
        self.goal_count = 10 if split == "train" else 3

    def reset(self, seed, options=None):
        return ((options or {}).get("goal", seed) % (self.largest + 1), -1)

    def current_player(self, state):
        return TERMINAL if state[1] >= 0 else 0

    def observation(self, state, player=0):
        return f"hint {state[0]}"

    def legal_actions(self, state):
        return [str(i) for i in range(self.largest + 1)] if state[1] < 0 else []

    def step(self, state, action):
        return (state[0], int(action) if action.isdigit() else 99)

    def rewards(self, state):
        return (float(state[0] == state[1]),)

    def info(self, state):
        return {"success": state[0] == state[1], "invalid_action": state[1] == 99}


def larger():
    return Guess(9)


class Env(gym.Env):
    observation_space = spaces.Text(20)

    def __init__(self, n: int = 3) -> None:
        self.action_space = spaces.Discrete(n)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.number = int(self.np_random.integers(self.action_space.n))
        return f"hint {self.number}", {}

    def step(self, action):
        right = bool(action == self.number)
        return "done", float(right), True, False, {"success": right}


gym.register("OwnHints-v0", entry_point=Env, max_episode_steps=7)
number = 3
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module in the working directory, which is on nobody's path."""
    (tmp_path / "own_hints.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != ""])
    monkeypatch.delitem(sys.modules, "own_hints", raising=False)
    yield tmp_path
    gym.registry.pop("OwnHints-v0", None)


def test_a_simulator_of_a_module_is_an_environment(own: Path) -> None:
    row = environment_row("own_hints:Guess")
    assert (row.id, row.players, row.splits, row.foreign) == (
        "own_hints:Guess",
        1,
        ("train", "validation", "test"),
        True,
    )
    assert row.summary == "Say the number that the hint names."
    assert simulator_for("own_hints:Guess", largest=2).legal_actions((0, -1)) == ["0", "1", "2"]
    assert simulator_for("own_hints:larger").observation((7, -1)) == "hint 7"
    source = TaskSource("own_hints:Guess", {"largest": 2})
    tasks = source.tasks(source.simulator("test"), "test", 3)
    assert tasks[2] == {
        "env_id": "own_hints:Guess", "env_options": {"largest": 2, "split": "test"}, "seed": 2, "options": {"goal": 2},
    }  # fmt: skip
    with pytest.raises(ValueError, match="split 'test' of own_hints:Guess has 3 goals; 4 are asked for"):
        source.tasks(source.simulator("test"), "test", 2, first=2)
    with pytest.raises(TypeError, match="no option 'large'; did you mean largest"):
        simulator_for("own_hints:Guess", large=2)
    assert set(scripted_agents("own_hints:Guess")) == {"random"}


def test_an_id_of_gymnasium_is_an_environment(own: Path) -> None:
    source = TaskSource("own_hints:OwnHints-v0", {"n": 5})
    simulator: Any = source.simulator("train")
    assert simulator.max_steps == 7
    tasks = source.tasks(simulator, "train", 4)
    assert [task["seed"] for task in tasks] == [2_000_000_000 + i for i in range(4)]
    assert simulator.legal_actions(start(simulator, tasks[0]).state) == ("0", "1", "2", "3", "4")
    assert environment_row("OwnHints-v0").foreign  # registered by now
    episodes = run_episodes(simulator, tasks, RandomAgent(), 0)
    assert [episode.task for episode in episodes] == tasks


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("own_hints:Nope", "own_hints neither registers an environment 'Nope' with Gymnasium nor has a simulator"),
        ("no_such_package:Env-v0", "there is no module 'no_such_package'"),
        ("own_hints:Env", "is a class and no Simulator .*; register it with gymnasium.register and give that id"),
        ("own_hints:number", "own_hints:number is 3; expected a subclass of Simulator"),
        ("Werwolf", "did you mean branchwise/Werewolf-v0"),
        ("Nothing-v0", "No environment 'Nothing-v0': Registered: branchwise/WebShop-v0"),
    ],
)
def test_a_name_of_nothing_says_what_was_looked_for(own: Path, name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        environment_row(name)


def test_ours_are_found_with_our_module_before_the_colon() -> None:
    assert environment_row("branchwise.envs:branchwise/Hex-v0").id == "branchwise/Hex-v0"
    assert environment_row("branchwise:hex").id == "branchwise/Hex-v0"


@pytest.mark.parametrize("row", OURS, ids=lambda row: row.id)
def test_no_two_splits_share_a_task_and_every_task_starts_where_somebody_is_to_move(row: Any) -> None:
    options = {"opponents": "random"} if row.players > 1 else {"products": 100} if "Shop" in row.id else {}
    for source in (TaskSource(row.id, options), TaskSource(row.id, options).behind_view()):
        names: set[str] = set()
        for split in ("train", "validation", "test"):
            simulator = source.simulator(split)
            tasks = source.tasks(simulator, split, 6)
            assert source.tasks(simulator, split, 3, first=3) == tasks[3:]
            for task in tasks:
                root = start(simulator, json.loads(json.dumps(task)))
                assert simulator.current_player(root.state) >= 0
                assert root.state == first_state(simulator, task)
                assert root.task == task
                assert root.transcript[-1].text == simulator.observation(
                    root.state, simulator.current_player(root.state)
                )
            names |= {json.dumps(task, sort_keys=True) for task in tasks}
        assert len(names) == 18


def test_seats_take_turns_unless_one_is_named() -> None:
    source = TaskSource("branchwise/KuhnPoker-v0", {"opponents": "random"})
    view = source.simulator("test")
    assert isinstance(view, SinglePlayerView)
    tasks = source.tasks(view, "test", 4, first=1)
    assert [(task["seed"], task["options"]["player"]) for task in tasks] == [(0, 1), (1, 0), (1, 1), (2, 0)]
    assert [start(view, task).state.player for task in tasks] == [1, 0, 1, 0]
    named = TaskSource("branchwise/KuhnPoker-v0", {"opponents": "random", "player": 1})
    assert [task["options"] for task in named.tasks(named.simulator("test"), "test", 2)] == [{}, {}]
    game = source.behind_view()
    assert (game.options, game.tasks(game.simulator("test"), "test", 1)[0]["options"]) == ({}, {})


def test_the_deal_before_the_first_decision_is_the_seeds() -> None:
    game = simulator_for("branchwise/LeducPoker-v0")
    assert game.current_player(game.reset(3)) == CHANCE
    assert start(game, {"seed": 3}) == start(game, {"seed": 3})
    assert len({start(game, {"seed": seed}).state for seed in range(60)}) > 20


@pytest.mark.parametrize("env_id", ["branchwise/WebShop-v0", "branchwise/MathTool-v0", "branchwise/Bifurcation-v0"])
def test_goals_are_counted(env_id: str) -> None:
    simulator = simulator_for(env_id, **({"products": 100} if "Shop" in env_id else {}))
    count = goal_count(simulator)
    assert count is not None
    assert simulator.info(simulator.reset(0, {"goal": count - 1}))["goal"] == count - 1
    with pytest.raises(ValueError, match=f"goal {count}"):
        simulator.reset(0, {"goal": count})
    assert goal_count(simulator_for("branchwise/Hex-v0")) is None
