"""The Gymnasium shell over a small counting game."""

import pickle
import time
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import Error, ResetNeeded
from hypothesis import given, settings
from hypothesis import strategies as st

from branchwise.envs import CHANCE, TERMINAL, Simulator, SimulatorEnv
from branchwise.envs.shells import UnicodeText


class Count(NamedTuple):
    """A count to be brought to ``target``, within six steps."""

    target: int
    count: int = 0
    steps: int = 0
    wrong: bool = False


class CountingGame(Simulator[Count]):
    def reset(self, seed: int, options: Any = None) -> Count:
        return Count((options or {}).get("target", 1 + seed % 5))

    def current_player(self, state: Count) -> int:
        return TERMINAL if state.count == state.target or state.steps == 6 else 0

    def observation(self, state: Count, player: int = 0) -> str:
        return f"{state.count} of {state.target}" + ("; that is no move" if state.wrong else "")

    def legal_actions(self, state: Count) -> list[str]:
        return [] if self.current_player(state) == TERMINAL else ["up", "down"]

    def step(self, state: Count, action: str) -> Count:
        change = {"up": 1, "down": -1}.get(action)
        return Count(state.target, state.count + (change or 0), state.steps + 1, change is None)

    def rewards(self, state: Count) -> tuple[float, ...]:
        return (float(state.count == state.target),)

    def truncated(self, state: Count) -> bool:
        return state.steps == 6 and state.count != state.target

    def info(self, state: Count) -> dict[str, Any]:
        return {"success": state.count == state.target, "invalid_action": state.wrong}


class TwoPlayers(CountingGame):
    players = 2


class SecondMoveIsLuck(CountingGame):
    def current_player(self, state: Count) -> int:
        return CHANCE if state.steps == 1 else super().current_player(state)


def counting_env(render_mode: str | None = None) -> SimulatorEnv[Count]:
    return SimulatorEnv(CountingGame(), render_mode=render_mode)


@pytest.fixture
def env() -> SimulatorEnv[Count]:
    return counting_env()


def test_an_episode_says_what_the_simulator_says(env: SimulatorEnv[Count]) -> None:
    assert env.reset(seed=1) == (
        "0 of 2",
        {"success": False, "invalid_action": False, "admissible_commands": ["up", "down"]},
    )
    assert env.step("up")[:4] == ("1 of 2", 0.0, False, False)
    observation, reward, terminated, truncated, info = env.step("up")
    assert (observation, reward, terminated, truncated) == ("2 of 2", 1.0, True, False)
    assert info == {"success": True, "invalid_action": False, "admissible_commands": []}


def test_a_spent_budget_truncates_and_never_terminates(env: SimulatorEnv[Count]) -> None:
    env.reset(seed=1)
    ends = [env.step("down")[2:4] for _ in range(6)]
    assert ends == [(False, False)] * 5 + [(False, True)]


@pytest.mark.parametrize("action", [None, b"up", 3, 1.5, ["up"], np.int64(1)])
def test_what_is_not_text_is_an_invalid_action(env: SimulatorEnv[Count], action: Any) -> None:
    env.reset(seed=1)
    observation, _, _, _, info = env.step(action)
    assert info["invalid_action"]
    assert "no move" in observation


def test_numpy_strings_are_text(env: SimulatorEnv[Count]) -> None:
    env.reset(seed=1)
    assert env.step(np.str_("up"))[0] == "1 of 2"


def test_steps_outside_an_episode_are_refused(env: SimulatorEnv[Count]) -> None:
    with pytest.raises(ResetNeeded, match="before reset"):
        env.step("up")
    with pytest.raises(ResetNeeded, match="before reset"):
        env.snapshot()
    env.reset(seed=0)
    env.step("up")
    with pytest.raises(ResetNeeded, match="after the end"):
        env.step("up")


def test_reset_without_a_seed_follows_the_seeded_generator(env: SimulatorEnv[Count]) -> None:
    episodes = []
    for _ in range(2):
        env.reset(seed=7)
        episodes.append([env.reset()[0] for _ in range(8)])
    assert episodes[0] == episodes[1]
    assert len(set(episodes[0])) > 1


def test_reset_passes_options_on(env: SimulatorEnv[Count]) -> None:
    assert env.reset(seed=0, options={"target": 4})[0] == "0 of 4"


def test_restore_brings_back_an_episode_that_had_ended(env: SimulatorEnv[Count]) -> None:
    env.reset(seed=1)
    env.step("up")
    kept = env.snapshot()
    assert env.step("up")[2]
    observation, info = env.restore(kept)
    assert (observation, info["admissible_commands"]) == ("1 of 2", ["up", "down"])
    assert env.step("up")[:3] == ("2 of 2", 1.0, True)
    env.restore(env.snapshot())
    with pytest.raises(ResetNeeded):
        env.step("up")


def test_a_snapshot_opens_in_another_environment_that_was_never_reset(env: SimulatorEnv[Count]) -> None:
    env.reset(seed=1)
    env.step("up")
    other = counting_env()
    other.restore(pickle.loads(pickle.dumps(env.snapshot())))
    assert other.step("up") == env.step("up")


def test_rendering_is_the_text(env: SimulatorEnv[Count]) -> None:
    drawn = counting_env("ansi")
    drawn.reset(seed=1)
    assert drawn.render() == "0 of 2"
    env.reset(seed=1)
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None
    with pytest.raises(ValueError, match="human"):
        counting_env("human")


def test_chance_is_refused_rather_than_played_by_the_agent() -> None:
    env = SimulatorEnv(SecondMoveIsLuck())
    env.reset(seed=3)
    with pytest.raises(ValueError, match="chance nodes"):
        env.step("up")


def test_games_for_several_are_sent_elsewhere() -> None:
    with pytest.raises(ValueError, match="players=2"):
        SimulatorEnv(TwoPlayers())


@given(st.integers(0, 50), st.lists(st.one_of(st.sampled_from(["up", "down"]), st.text(max_size=5)), max_size=6))
def test_any_restored_state_goes_on_as_before(seed: int, actions: list[str]) -> None:
    env = counting_env()
    env.reset(seed=seed)
    trail: list[tuple[Any, str, Any]] = []
    for action in actions:
        kept = env.snapshot()
        result = env.step(action)
        trail.append((kept, action, result))
        if result[2] or result[3]:
            break
    for kept, action, result in reversed(trail):
        env.restore(kept)
        assert env.step(action) == result


@given(st.text())
@settings(max_examples=200)
def test_the_text_space_admits_what_files_admit(text: str) -> None:
    space = UnicodeText(1_000)
    assert space.contains(text) == (len(text) <= 1_000 and all(c in space.character_set for c in text))


def test_the_text_space_is_a_text_space_and_light() -> None:
    space = UnicodeText(100, seed=3)
    for _ in range(5):
        assert space.contains(space.sample())
    assert all(space.contains(text) for text in ("", "naïve café", "搜索 рубашка قميص", "tab\tline\n€ 👕"))
    assert not any(space.contains(text) for text in ("\x00", "\x1b[2J", "\ud800", "a" * 101, b"a", None))
    again = pickle.loads(pickle.dumps(space))
    assert again == space
    assert again.sample() == space.sample()
    assert len(pickle.dumps(space)) < 10_000
    assert isinstance(space, gym.spaces.Text)
    assert space.character_list[space.character_index("é")] == "é"


def test_the_shell_costs_less_than_five_microseconds_a_step() -> None:
    """Best of five, against the bare simulator asked the same things."""
    game = CountingGame()
    env = counting_env()

    def bare(steps: int) -> None:
        for _ in range(steps):
            state = game.step(Count(9), "up")
            game.current_player(state)
            game.info(state)["admissible_commands"] = game.admissible_commands(state)
            game.observation(state)
            game.rewards(state)

    def shelled(steps: int) -> None:
        env.reset(seed=0, options={"target": 9})
        for _ in range(steps):
            env.state = Count(9)
            env.step("up")

    def seconds(run: Any) -> float:
        times = []
        for _ in range(5):
            started = time.process_time()
            run(2_000)
            times.append(time.process_time() - started)
        return min(times) / 2_000

    assert seconds(shelled) - seconds(bare) < 5e-6


def test_a_snapshot_and_its_restoring_cost_microseconds(env: SimulatorEnv[Count]) -> None:
    env.reset(seed=0)
    times = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(2_000):
            env.snapshot()
        times.append(time.process_time() - started)
    assert min(times) / 2_000 < 5e-6


def test_pictures_where_the_simulator_draws() -> None:
    class Drawn(CountingGame):
        def svg(self, state: Count) -> str:
            return f"<svg>{state.count}</svg>"

    env = SimulatorEnv(Drawn(), render_mode="svg")
    env.reset(seed=0)
    env.step("up")
    assert env.render() == "<svg>1</svg>"
    assert SimulatorEnv.metadata["render_modes"] == ["ansi", "rgb_array"]
    with pytest.raises(ValueError, match="svg"):
        SimulatorEnv(CountingGame(), render_mode="svg")


def test_seeds_are_whole_numbers_of_any_kind(env: SimulatorEnv[Count]) -> None:
    for seed in (3, np.int64(3), np.uint8(3)):
        env.reset(seed=seed)  # type: ignore[arg-type]
        assert env.np_random_seed == 3
        assert env.np_random.integers(1000) == np.random.default_rng(3).integers(1000)
    for wrong in (-1, np.int64(-1), 1.5, "a"):
        with pytest.raises(Error, match=r"seed=.*: expected a whole number of at least 0"):
            env.reset(seed=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("junk", ["junk", None, 3, ()])
def test_only_a_snapshot_is_restored(junk: Any, env: SimulatorEnv[Count]) -> None:
    env.reset(seed=0)
    before = env.snapshot()
    with pytest.raises(ValueError, match=r"restore\(.*\): expected what snapshot\(\)"):
        env.restore(junk)
    assert env.snapshot() == before
