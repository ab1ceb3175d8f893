"""What other people's environments say of themselves arrives: listed commands, masks, names, success, scores. Small
environments show each way of saying it; real ones are played where they are installed."""

import enum
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from branchwise import simulator_for
from branchwise.envs import SimulatorEnv, environments
from branchwise.envs.adapters import GymnasiumSimulator, PettingZooSimulator
from branchwise.envs.opponents import random_opponent
from branchwise.envs.shells import SimulatorAECEnv
from branchwise.envs.simulator import TERMINAL
from branchwise.testing import check_simulator

GAMES = [row.id for row in environments() if row.players > 1 and not row.extra]


class Corridor(gym.Env[str, str]):
    """A text game as TextWorld lists its commands: three rooms in a row, the last of which wins."""

    observation_space = spaces.Text(1_000)
    action_space = spaces.Text(1_000)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.room = 0
        return self.said("")

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        before = self.room
        self.room += {"go east": 1, "e": 1, "go west": -1}.get(action, 0)
        text, info = self.said("" if action in (*self.listed(before), "e") else "That's not a verb I recognise.")
        return text, float(self.room > before), self.room == 2, False, info

    def listed(self, room: int) -> list[str]:
        return ["look", *(["go west"] if room else []), "go east"]

    def said(self, text: str) -> tuple[str, dict[str, Any]]:
        info = {"admissible_commands": self.listed(self.room), "won": self.room == 2, "score": self.room}
        return f"{text}Room {self.room}.", {**info, "max_score": 2, "inventory": "nothing"}


class JudgingCorridor(Corridor):
    """The same game, which judges by itself what makes no sense."""

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        text, reward, terminated, truncated, info = super().step(action)
        return text, reward, terminated, truncated, {**info, "invalid_action": text.startswith("That's not")}


def moves(simulator: Any, state: Any, rng: np.random.Generator) -> Iterator[tuple[Any, str]]:
    """An episode of the random player: each state, and the move that it makes there."""
    while simulator.current_player(state) != TERMINAL:
        action = random_opponent(simulator, state, rng)
        yield state, action
        state = simulator.step(state, action)


def test_listed_commands_are_the_legal_actions() -> None:
    corridor = GymnasiumSimulator(Corridor, max_steps=40)
    state = corridor.reset(0)
    assert corridor.legal_actions(state) == ("look", "go east")
    assert corridor.admissible_commands(state) == ["look", "go east"]
    state = corridor.step(state, "go east")
    assert corridor.legal_actions(state) == ("look", "go west", "go east")
    end = corridor.step(state, "go east")
    assert (corridor.legal_actions(end), corridor.admissible_commands(end)) == ((), [])
    check_simulator(corridor, fresh_process=False)


def test_the_random_player_makes_only_listed_moves() -> None:
    corridor = GymnasiumSimulator(Corridor, max_steps=40)
    rng = np.random.default_rng(0)
    made = [(state, action) for _ in range(50) for state, action in moves(corridor, corridor.reset(0), rng)]
    assert len(made) > 150
    assert all(action in corridor.legal_actions(state) for state, action in made)


def test_an_unlisted_text_reaches_the_game_and_counts_as_invalid_unless_the_game_says() -> None:
    for make, abbreviation_is_invalid in ((Corridor, True), (JudgingCorridor, False)):
        corridor = GymnasiumSimulator(make)
        start = corridor.reset(0)
        assert not corridor.info(corridor.step(start, "look"))["invalid_action"]
        nonsense, abbreviated = corridor.step(start, "dance"), corridor.step(start, "e")
        assert corridor.info(nonsense)["invalid_action"]
        assert corridor.observation(nonsense) == "That's not a verb I recognise.Room 0."
        assert corridor.info(abbreviated)["invalid_action"] is abbreviation_is_invalid
        assert corridor.observation(abbreviated) == "Room 1."


def test_what_the_game_says_of_success_and_score_is_in_info() -> None:
    corridor = GymnasiumSimulator(Corridor)
    state = corridor.step(corridor.reset(0), "go east")
    assert corridor.info(state) == {
        "success": False, "invalid_action": False, "won": False, "score": 1, "max_score": 2,
    }  # fmt: skip
    assert corridor.info(corridor.step(state, "go east"))["success"] is True


@pytest.mark.parametrize("listed", ["look", ["look", 3]])
def test_commands_that_are_no_list_of_texts_are_named(listed: Any) -> None:
    class Wrong(Corridor):
        def listed(self, room: int) -> Any:
            return listed

    with pytest.raises(Exception, match="expected a list of texts"):
        GymnasiumSimulator(Wrong)


class Lanes(gym.Env[Any, int]):
    """Two lanes of numbers, from 5: only what leads neither below 3 nor above 7 is admitted. ``place`` says where the
    mask is."""

    action_space = spaces.Discrete(3, start=1)
    observation_space = spaces.Dict({"lane": spaces.Discrete(20), "action_mask": spaces.MultiBinary(3)})
    place = "observation"

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.lane = 5
        return self.said()

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.mask()[int(action) - 1], "a masked action was taken"
        self.lane += int(action) - 2
        return *self.said()[:1], 0.0, False, False, self.said()[1]

    def mask(self) -> np.ndarray:
        return np.array([self.lane > 3, 1, self.lane < 7], np.int8)

    def said(self) -> tuple[Any, dict[str, Any]]:
        observation: dict[str, Any] = {"lane": self.lane}
        if self.place == "observation":
            return {**observation, "action_mask": self.mask()}, {}
        return observation, {"action_mask": self.mask()} if self.place == "info" else {}


class InfoLanes(Lanes):
    place = "info"


class MethodLanes(Lanes):
    place = "method"

    def action_masks(self) -> np.ndarray:
        return self.mask()


class WrongLanes(Lanes):
    def said(self) -> tuple[Any, dict[str, Any]]:
        return {"lane": 5, "action_mask": np.ones(2)}, {}


@pytest.mark.parametrize("make", [Lanes, InfoLanes, MethodLanes])
def test_a_mask_is_read_wherever_it_is(make: Any) -> None:
    lanes = GymnasiumSimulator(make, ["left", "on", "right"], max_steps=30)
    state = lanes.reset(0)
    assert lanes.observation(state) == "lane: 5"
    assert lanes.legal_actions(state) == ("left", "on", "right")
    for _ in range(2):
        state = lanes.step(state, "right")
    assert lanes.legal_actions(state) == ("left", "on")
    assert lanes.info(lanes.step(state, "right"))["invalid_action"]
    check_simulator(lanes, fresh_process=False, seeds=[0])


def test_a_mask_of_another_size_is_named() -> None:
    with pytest.raises(Exception, match=r"An action mask of shape \(2,\) for Discrete\(3, start=1\)"):
        GymnasiumSimulator(WrongLanes)


class Turns(enum.IntEnum):
    left = 0
    right = 1


class Turning(gym.Env[int, int]):
    """``Discrete`` actions with names, in an enumeration as MiniGrid has it."""

    action_space = spaces.Discrete(2)
    observation_space = spaces.Discrete(9)
    actions: Any = Turns

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.at = 4
        return self.at, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.at = (self.at + (1 if action else -1)) % 9
        return self.at, 0.0, False, False, {}


class Meaning(Turning):
    """As ALE has it."""

    actions = None

    def get_action_meanings(self) -> list[str]:
        return ["LEFT", "RIGHT"]


class Unnamed(Turning):
    """Names that do not fit the space are not used."""

    actions = enum.IntEnum("Three", ["a", "b", "c"], start=0)


@pytest.mark.parametrize(
    ("make", "names"), [(Turning, ("left", "right")), (Meaning, ("LEFT", "RIGHT")), (Unnamed, ("0", "1"))]
)
def test_actions_have_the_names_that_the_environment_gives_them(make: Any, names: tuple[str, str]) -> None:
    turning = GymnasiumSimulator(make, max_steps=9)
    state = turning.reset(0)
    assert turning.legal_actions(state) == names
    assert turning.observation(turning.step(state, names[1])) == "5"
    renamed = GymnasiumSimulator(make, ["back", "forth"], max_steps=9)
    assert renamed.legal_actions(renamed.reset(0)) == ("back", "forth")


class Spaced(Turning):
    def get_action_meanings(self) -> list[str]:
        return ["turn ", "turn"]


class SpacedCorridor(Corridor):
    """Lists a command with a blank at its end, and knows it only so."""

    def listed(self, room: int) -> list[str]:
        return ["look", "go east "]

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return super().step({"go east ": "go east", "go east": "nothing"}.get(action, action))


def test_actions_with_blanks_at_the_ends_are_taken_as_they_are_listed_and_without_them() -> None:
    spaced, turning = GymnasiumSimulator(Spaced, max_steps=9), GymnasiumSimulator(Turning, max_steps=9)
    state = spaced.reset(0)
    assert spaced.legal_actions(state) == ("turn ", "turn")
    for name, same in (("turn ", "left"), ("turn", "right")):
        assert spaced.step(state, name).observation == turning.step(turning.reset(0), same).observation
    named = GymnasiumSimulator(Turning, [" left", "right "], max_steps=9)
    for action, same in ((" left", "left"), ("right ", "right"), ("left", "left"), (" right", "right")):
        assert named.step(named.reset(0), action).observation == turning.step(turning.reset(0), same).observation
    corridor = GymnasiumSimulator(SpacedCorridor, max_steps=9)
    for action in ("go east ", "go east"):
        assert corridor.step(corridor.reset(0), action).observation.endswith("Room 1.")


@pytest.mark.parametrize("env_id", GAMES)
@pytest.mark.parametrize("shell", ["aec", "gymnasium"])
def test_our_own_text_environments_come_back_with_their_actions(env_id: str, shell: str) -> None:
    """A game as an environment as a simulator: at each move the same commands, legal actions unless one has a gap to
    fill; the same success and the same judgement of what is no action."""
    game = simulator_for(env_id) if shell == "aec" else simulator_for(env_id, opponents="random")
    env: Any = SimulatorAECEnv(game, text=True) if shell == "aec" else SimulatorEnv(game)
    again: Any = (
        PettingZooSimulator(lambda: SimulatorAECEnv(game, text=True))
        if shell == "aec"
        else GymnasiumSimulator(lambda: SimulatorEnv(game))
    )
    rng = np.random.default_rng(0)
    for seed in range(2):
        env.reset(seed=seed)
        state = again.reset(seed)
        while (player := again.current_player(state)) != TERMINAL:
            now = env.state_now if shell == "aec" else env.state
            commands = game.admissible_commands(now)
            free = commands is None or any("…" in command for command in commands)
            assert again.legal_actions(state) == (None if free else tuple(commands))
            assert again.admissible_commands(state) == commands
            wrong = again.step(state, "\x00 nothing of the kind")
            assert again.info(wrong)["invalid_action"]
            action = random_opponent(game, now, rng)
            env.step(action)
            state = again.step(state, action)
            if shell == "aec":
                assert again.info(state)["invalid_action"] == env.infos[env.possible_agents[player]]["invalid_action"]
        for player in range(again.players):
            told = env.infos[env.possible_agents[player]] if shell == "aec" else game.info(env.state)
            success = again.success(state, player) if shell == "aec" else again.info(state)["success"]
            assert success == told["success"]


# Real ones, where they are installed (docs/compatibility.md says which versions were tried).


class TextWorldGame(gym.Env[str, str]):
    """One TextWorld game: its own interface has no seeds, and a reset starts the next game of the pool."""

    observation_space, action_space = spaces.Text(100_000), spaces.Text(1_000)

    def __init__(self, file: str) -> None:
        import textworld.gym

        asked = textworld.EnvInfos(admissible_commands=True, won=True, max_score=True)
        self.game = textworld.gym.make(textworld.gym.register_game(file, asked, max_episode_steps=1_000))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self.score = 0
        return self.game.reset()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        observation, score, done, info = self.game.step(action)
        earned, self.score = score - self.score, score
        return observation, float(earned), done, False, info


@pytest.mark.slow
def test_textworld_s_commands_are_legal_actions(tmp_path: Path) -> None:
    textworld = pytest.importorskip("textworld")
    options = textworld.GameOptions()
    options.seeds, options.nb_rooms, options.nb_objects, options.quest_length = 1, 2, 4, 2
    options.path = str(tmp_path / "game.z8")
    file, _ = textworld.make(options)
    game = GymnasiumSimulator(lambda: TextWorldGame(file), max_steps=30)
    state = game.reset(0)
    assert game.legal_actions(state)
    assert game.info(state)["max_score"] > 0
    rng = np.random.default_rng(0)
    made = [(state, action) for _ in range(10) for state, action in moves(game, game.reset(0), rng)]
    assert len(made) >= 20
    assert all(action in game.legal_actions(state) for state, action in made)
    assert not any(game.info(game.step(state, action))["invalid_action"] for state, action in made[:5])
    assert game.info(game.step(game.reset(0), "dance the tango"))["invalid_action"]


def test_minigrid_s_actions_have_names() -> None:
    pytest.importorskip("minigrid")
    grid = GymnasiumSimulator("MiniGrid-Empty-5x5-v0", max_steps=30)
    state = grid.reset(0)
    assert grid.legal_actions(state) == ("left", "right", "forward", "pickup", "drop", "toggle", "done")
    for action in ("forward", "forward", "right", "forward", "forward"):
        state = grid.step(state, action)
    assert grid.current_player(state) == TERMINAL
    assert grid.rewards(state)[0] > 0
    check_simulator(grid, fresh_process=False, seeds=[0])
