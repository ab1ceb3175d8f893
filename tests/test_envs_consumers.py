"""Conventions by which libraries of reinforcement learning meet an environment, held for every registered one, and the
libraries themselves where they are installed (docs/compatibility.md says which versions were tried)."""

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pettingzoo
import pytest
from gymnasium.utils.env_checker import check_env

import branchwise  # noqa: F401 - registers
from branchwise.envs import environments, registry
from branchwise.envs.shells import DiscreteActions
from branchwise.envs.text_image import COLUMNS, LINES, text_image

ROWS = {row.id: row for row in environments()}
IDS = [row.id for row in ROWS.values() if not row.extra]
GAMES = [env_id for env_id in IDS if ROWS[env_id].players > 1]
KUHN = "branchwise/KuhnPoker-v0"
AS_NUMBERS: dict[str, Any] = {"wrapper_class": DiscreteActions, "wrapper_kwargs": {"arrays": True}}


def cell(image: np.ndarray, line: int, column: int) -> np.ndarray:
    """The dots of one character, bool ``[10, 6]``."""
    return image[20 * line : 20 * (line + 1) : 2, 12 * column : 12 * (column + 1) : 2, 0] < 128


# Pictures.


@pytest.mark.parametrize("env_id", IDS)
def test_every_environment_is_a_picture_of_one_size(env_id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(env_id, render_mode="rgb_array")
        check_env(env)
    env.reset(seed=0)
    first: Any = env.render()
    assert (first.shape, first.dtype) == ((500, 960, 3), np.uint8)
    assert np.array_equal(first, text_image(env.unwrapped.simulator.observation(env.unwrapped.state)))  # type: ignore[attr-defined]
    env.step("nothing of the kind")
    second: Any = env.render()
    assert second.shape == first.shape
    assert not np.array_equal(first, second)


def test_a_picture_shows_each_character_in_its_place() -> None:
    image = text_image("T\n l")
    assert cell(image, 0, 0).astype(int).tolist() == [
        [0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 0],
        [1, 0, 1, 0, 1, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    assert cell(image, 1, 1).any()
    assert not cell(image, 1, 0).any()
    assert not cell(image, 0, 1).any()


def test_long_texts_wrap_and_what_does_not_fit_is_counted() -> None:
    assert np.array_equal(text_image("word " * 20), text_image("word " * 16 + "\n" + "word " * 4))
    full = "\n".join("ab" for _ in range(LINES))
    assert np.array_equal(text_image(f"{full}\nab"), text_image("\n".join(["ab"] * (LINES - 1) + ["... 2 more lines"])))
    assert cell(text_image("x" * 81), 1, 0).any()
    assert cell(text_image("x" * COLUMNS), 0, COLUMNS - 1).any()


def test_letters_beyond_ascii_are_shown_by_the_nearest_or_as_a_block() -> None:
    assert np.array_equal(text_image("café – ‘x’"), text_image("cafe - 'x'"))
    block = cell(text_image("漢"), 0, 0)
    assert block[1:8, :5].all()
    characters = text_image("\n".join(map(chr, range(33, 58))))
    assert len({cell(characters, line, 0).tobytes() for line in range(25)}) == 25


@pytest.mark.parametrize("env_id", GAMES)
def test_every_game_is_a_picture_in_pettingzoo(env_id: str) -> None:
    for make in (registry.make_aec, registry.make_parallel):
        env = make(env_id, render_mode="rgb_array")
        env.reset(seed=0)
        image: Any = env.render()
        assert (image.shape, image.dtype) == ((500, 960, 3), np.uint8)


def test_gymnasium_keeps_frames_and_shows_windows_of_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    env = gym.make(KUHN, render_mode="rgb_array_list")
    env.reset(seed=0)
    env.step("bet")
    assert [frame.shape for frame in env.render()] == [(500, 960, 3)] * 2  # type: ignore[union-attr]
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    window = gym.make(KUHN, render_mode="human")
    window.reset(seed=0)
    window.close()


# Masks, infos, limits.


@pytest.mark.parametrize("env_id", IDS)
def test_action_masks_are_those_of_info(env_id: str) -> None:
    env = DiscreteActions(gym.make(env_id))
    _, info = env.reset(seed=0)
    for _ in range(5):
        masks = env.get_wrapper_attr("action_masks")()
        assert masks.dtype == np.bool_
        assert np.array_equal(masks, info["action_mask"])
        assert info["is_success"] is info["success"]
        _, _, terminated, truncated, info = env.step(int(env.action_space.sample(info["action_mask"])))
        if terminated or truncated:
            _, info = env.reset()


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("numbers", [True, False])
def test_gymnasium_s_vectors_take_infos_apart_and_together(env_id: str, numbers: bool) -> None:
    """``DictInfoToList``, which RLlib uses, undoes how a vector puts infos together."""
    envs = gym.vector.SyncVectorEnv([lambda: DiscreteActions(gym.make(env_id)) if numbers else gym.make(env_id)] * 2)
    listed = gym.wrappers.vector.DictInfoToList(envs)
    _, infos = listed.reset(seed=[3, 4])
    for seed, info in zip((3, 4), infos, strict=True):
        expected = envs.envs[0].reset(seed=seed)[1]
        assert info.keys() == expected.keys()
        for name, value in expected.items():
            assert np.array_equal(info[name], value), name


@pytest.mark.parametrize("env_id", GAMES)
@pytest.mark.parametrize("kind", ["aec", "parallel"])
def test_infos_are_the_same_flags_for_every_agent_at_any_time(env_id: str, kind: str) -> None:
    """What tensors can be made of: the same keys always, and no texts."""
    env = pettingzoo.make(kind, env_id)
    flags = {"success", "invalid_action", *(["to_move"] if kind == "parallel" else [])}
    env.reset(seed=0)
    infos = env.infos if kind == "aec" else env.reset(seed=0)[1]
    rng = np.random.default_rng(0)
    for _ in range(60):
        assert set(infos) >= set(env.agents)
        for info in infos.values():
            assert set(info) == flags
            assert all(isinstance(value, bool) for value in info.values())
        if not env.agents:
            break
        if kind == "aec":
            over = env.terminations[env.agent_selection] or env.truncations[env.agent_selection]
            env.step(None if over else int(rng.integers(env.action_space(env.agent_selection).n)))
            infos = env.infos
        else:
            _, _, _, _, infos = env.step({name: int(rng.integers(env.action_space(name).n)) for name in env.agents})


@pytest.mark.parametrize("env_id", GAMES)
def test_every_mask_of_a_cycle_can_be_sampled_from(env_id: str) -> None:
    env = pettingzoo.make("parallel", env_id)
    seen, infos = env.reset(seed=0)
    for name in env.agents:
        assert seen[name]["action_mask"].any()
        assert infos[name]["to_move"] or seen[name]["action_mask"].all()


@pytest.mark.parametrize("env_id", IDS)
def test_a_vector_truncates_as_gymnasium_s_time_limit_does(env_id: str) -> None:
    ours = gym.make_vec(env_id, num_envs=2, max_episode_steps=3)
    theirs = gym.make_vec(env_id, num_envs=2, max_episode_steps=3, vectorization_mode="sync")
    for envs in (ours, theirs):
        envs.reset(seed=4)
    actions = ("nothing of the kind",) * 2
    for _ in range(9):
        seen, _, ended, cut, _ = ours.step(actions)
        expected, _, also_ended, also_cut, _ = theirs.step(actions)
        assert np.array_equal(ended, also_ended)
        assert np.array_equal(cut, also_cut & ~also_ended)
        assert seen == expected or ours.envs[0]._np_random_seed != 4  # type: ignore[attr-defined] # after an autoreset
    with pytest.raises(ValueError, match="max_episode_steps=0"):
        gym.make_vec(env_id, num_envs=2, max_episode_steps=0)


def test_an_array_for_texts_holds_them_whole() -> None:
    """What stable-baselines3's buffers do with a space."""
    space = gym.make(KUHN).observation_space
    buffer = np.zeros((2, *space.shape), dtype=space.dtype)  # type: ignore[misc]
    buffer[0] = "a long observation"
    assert buffer[0] == "a long observation"


# The libraries themselves.


def test_stable_baselines3_takes_an_id() -> None:
    sb3 = pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.env_checker import check_env as check
    from stable_baselines3.common.env_util import make_vec_env

    texts = make_vec_env(KUHN, n_envs=2)
    assert all(text.startswith("Kuhn poker. You are player 0.") for text in texts.reset())
    assert texts.step(["bet", "bet"])[0][0].startswith("Kuhn poker.")
    assert texts.render().shape == (1000, 960, 3)
    check(DiscreteActions(gym.make(KUHN), arrays=True))
    sb3.PPO("MlpPolicy", make_vec_env(KUHN, n_envs=2, **AS_NUMBERS), n_steps=16, batch_size=16).learn(32)


def test_maskable_ppo_learns_and_sees_success() -> None:
    contrib = pytest.importorskip("sb3_contrib")
    env = DiscreteActions(gym.make("branchwise/TicTacToe-v0"), arrays=True)
    model = contrib.MaskablePPO("MlpPolicy", env, n_steps=64, batch_size=32, n_epochs=1, seed=0).learn(64)
    assert len(model.ep_success_buffer) >= 5
    env.reset(seed=0)
    taken, _ = model.predict(env.reset(seed=0)[0], action_masks=env.action_masks())
    assert env.action_masks()[int(taken)]


@pytest.mark.parametrize("kind", ["aec", "parallel"])
@pytest.mark.parametrize("env_id", [KUHN, "branchwise/Werewolf-v0"])
def test_torchrl_rolls_games_out(kind: str, env_id: str) -> None:
    pytest.importorskip("torchrl")
    from torchrl.envs.libs.pettingzoo import PettingZooWrapper

    env = PettingZooWrapper(pettingzoo.make(kind, env_id), use_mask=kind == "aec", seed=0)
    rolled = env.rollout(20, break_when_any_done=False)
    assert rolled.shape == (20,)
    for group in env.group_map:
        assert not rolled["next", group, "info", "invalid_action"].any()


def test_torchrl_checks_numbers_of_a_text_environment() -> None:
    pytest.importorskip("torchrl")
    from torchrl.envs.libs.gym import GymWrapper
    from torchrl.envs.utils import check_env_specs

    check_env_specs(GymWrapper(DiscreteActions(gym.make(KUHN), arrays=True)))


def test_supersuit_makes_vectors_of_games() -> None:
    suits = pytest.importorskip("supersuit")
    vector = suits.concat_vec_envs_v1(
        suits.pettingzoo_env_to_vec_env_v1(pettingzoo.make("parallel", KUHN)), 2, base_class="gymnasium"
    )
    seen, _ = vector.reset(seed=0)
    assert seen["action_mask"].shape == (4, 2)
    vector.step(np.ones(4, np.int64))


def test_tianshou_takes_games() -> None:
    pytest.importorskip("tianshou")
    from tianshou.env import DummyVectorEnv, PettingZooEnv

    vector = DummyVectorEnv([lambda: PettingZooEnv(pettingzoo.make("aec", KUHN))] * 2)
    vector.reset()
    seen = vector.step(np.array([1, 1]))[0]
    assert {one["agent_id"] for one in seen} <= {"player_0", "player_1"}


def test_gymnasium_records_a_video(tmp_path: Path) -> None:
    pytest.importorskip("moviepy")
    env = gym.wrappers.RecordVideo(
        gym.make(KUHN, render_mode="rgb_array"), str(tmp_path), episode_trigger=lambda episode: True
    )
    env.reset(seed=0)
    while not any(env.step("bet")[2:4]):
        pass
    env.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".mp4"]
