"""The Gymnasium shell over a small counting game, and every registered environment: registered means tested."""

import json
import pickle
import subprocess
import sys
import time
import warnings
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

import branchwise
from branchwise.envs import CHANCE, TERMINAL, Simulator, SimulatorEnv, environments, simulator_for
from branchwise.envs.gym_shell import UnicodeText
from branchwise.testing import check_simulator, check_snapshot

PHRASES = ("search[red cotton shirt]", "search[slim fit men's shoes size 9]")
IDS = [row.id for row in environments()]


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


# Every registered environment.


@pytest.fixture(params=IDS)
def registered(request: pytest.FixtureRequest) -> gym.Env[str, str]:
    return gym.make(request.param, render_mode="ansi")


def test_gymnasium_finds_nothing_to_say(registered: gym.Env[str, str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(registered)
        checked = gym.make(registered.spec.id, disable_env_checker=False)  # type: ignore[union-attr]
        checked.reset(seed=0)
        checked.step(PHRASES[0])
        checked.step("nothing of the kind")


def test_it_keeps_every_promise_of_a_simulator(registered: gym.Env[str, str]) -> None:
    check_simulator(registered.unwrapped.simulator, actions=PHRASES)  # type: ignore[attr-defined]


def test_it_keeps_every_promise_of_snapshots(registered: gym.Env[str, str]) -> None:
    check_snapshot(registered, actions=PHRASES)


def test_observations_stay_in_their_space(registered: gym.Env[str, str]) -> None:
    rng = np.random.default_rng(0)
    for seed in range(5):
        observation, info = registered.reset(seed=seed)
        ended = False
        while not ended:
            assert registered.observation_space.contains(observation)
            assert registered.render() == observation
            commands = [c for c in info["admissible_commands"] or () if "…" not in c] or [*PHRASES, "\x00\ud800"]
            observation, _, terminated, truncated, info = registered.step(str(rng.choice(commands)))
            ended = terminated or truncated


@pytest.mark.parametrize("env_id", IDS)
def test_its_specification_is_json_and_makes_it_again(env_id: str) -> None:
    written = gym.spec(env_id).to_json()
    assert json.loads(written)["id"] == env_id
    assert gym.make(type(gym.spec(env_id)).from_json(written)).reset(seed=3) == gym.make(env_id).reset(seed=3)


@pytest.mark.parametrize("env_id", IDS)
def test_the_module_form_of_its_id_imports_by_itself(env_id: str) -> None:
    script = f"import gymnasium; print(gymnasium.make('branchwise.envs:{env_id}').reset(seed=0)[0][:20])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip()


@pytest.mark.parametrize("env_id", IDS)
def test_it_can_be_pickled_in_the_middle(env_id: str) -> None:
    env = gym.make(env_id)
    env.reset(seed=2)
    env.step(PHRASES[0])
    copied = pickle.loads(pickle.dumps(env))
    assert copied.step("click[back to search]") == env.step("click[back to search]")


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("env_id", IDS)
def test_vectors_say_what_single_environments_say(env_id: str, mode: str) -> None:
    extra: dict[str, Any] = {"vector_kwargs": {"shared_memory": False}} if mode == "async" else {}
    envs = gym.make_vec(env_id, num_envs=2, vectorization_mode=mode, **extra)
    try:
        observations, _ = envs.reset(seed=[5, 6])
        after, rewards, terminated, truncated, infos = envs.step((PHRASES[0], "nonsense"))
        infos = {key: list(value) for key, value in infos.items()}
    finally:
        envs.close()
    for i, action in enumerate((PHRASES[0], "nonsense")):
        env = gym.make(env_id)
        assert env.reset(seed=5 + i)[0] == observations[i]
        observation, reward, ended, cut, info = env.step(action)
        assert (observation, reward, ended, cut) == (after[i], rewards[i], terminated[i], truncated[i])
        assert infos["invalid_action"][i] == info["invalid_action"]
        assert list(infos["admissible_commands"][i]) == info["admissible_commands"]


@pytest.mark.parametrize("env_id", IDS)
def test_shared_memory_is_refused_rather_than_filled_with_filler(env_id: str) -> None:
    with pytest.raises(ValueError, match="shared_memory=False"):
        gym.make_vec(env_id, num_envs=1, vectorization_mode="async")


@pytest.mark.parametrize("env_id", IDS)
def test_its_splits_and_players_are_as_listed(env_id: str) -> None:
    row = next(row for row in environments() if row.id == env_id)
    assert row.summary
    firsts = set()
    for split in row.splits:
        simulator = simulator_for(env_id, split=split)
        assert simulator.players == row.players
        firsts.add(simulator.observation(simulator.reset(0)))
    assert len(firsts) == len(row.splits)


def test_register_envs_and_a_second_registration_change_nothing() -> None:
    gym.register_envs(branchwise)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        branchwise.register()
    assert set(IDS) <= set(gym.registry)


def test_importing_branchwise_is_light() -> None:
    heavy = ("torch", "transformers", "bm25s", "numba", "scipy", "pettingzoo")
    script = f"import sys, branchwise; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_an_unknown_id_names_its_neighbours() -> None:
    with pytest.raises(ValueError, match="did you mean branchwise/WebShop-v0"):
        simulator_for("WebShp-v1")
    with pytest.raises(ValueError, match="Registered: branchwise/WebShop-v0"):
        simulator_for("chess")


def test_an_unknown_option_names_those_that_are_accepted() -> None:
    with pytest.raises(TypeError, match=r"no option 'product'.*products"):
        simulator_for("branchwise/WebShop-v0", product=10)


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


@pytest.mark.parametrize("env_id", IDS)
def test_ten_thousand_steps_a_second_and_more(env_id: str) -> None:
    """Steps per CPU-second through ``gym.make``, resets included; best of three."""
    env = gym.make(env_id)
    actions = [PHRASES[0], "click[next >]", "click[< prev]", "nonsense", "click[back to search]", PHRASES[1]]
    rates = []
    for _ in range(3):
        started = time.process_time()
        for seed in range(200):
            env.reset(seed=seed)
            for action in actions:
                env.step(action)
        rates.append(200 * len(actions) / (time.process_time() - started))
    assert max(rates) > 10_000
