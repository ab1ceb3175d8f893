"""The vector of one process: step for step what Gymnasium's own vector of the same environments answers."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from branchwise.envs.shells.vector import SimulatorVectorEnv, _columns

GAME = "branchwise/KuhnPoker-v0"
SHOP = "branchwise/WebShop-v0"


def same(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    if isinstance(theirs, dict):
        assert set(ours) == set(theirs)
        for key in theirs:
            same(ours[key], theirs[key])
    elif isinstance(theirs, np.ndarray):
        assert ours.dtype == theirs.dtype
        assert ours.tolist() == theirs.tolist()
    else:
        assert ours == theirs


@pytest.mark.parametrize(("env_id", "options"), [(GAME, {}), (SHOP, {"products": 100, "max_steps": 4})])
def test_it_answers_as_gymnasium_s_own(env_id: str, options: dict[str, Any]) -> None:
    ours = gym.make_vec(env_id, num_envs=3, **options)
    theirs = gym.make_vec(env_id, num_envs=3, vectorization_mode="sync", **options)
    assert isinstance(ours, SimulatorVectorEnv)
    assert isinstance(theirs, SyncVectorEnv)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    rng = np.random.default_rng(0)
    first, second = ours.reset(seed=3), theirs.reset(seed=3)
    for _ in range(30):
        for one, other in zip(first, second, strict=True):
            same(one, other)
        commands = first[-1]["admissible_commands"]
        actions = [str(rng.choice(c)) if c and rng.random() < 0.9 else "nonsense" for c in commands]
        first, second = ours.step(actions), theirs.step(actions)  # type: ignore[assignment]
    ours.close()
    theirs.close()


def test_infos_keep_what_each_environment_says_where_types_differ() -> None:
    envs = gym.make_vec("branchwise/Persuasion-v0", num_envs=2, player=1, rounds=1, max_invalid=1)
    envs.reset(seed=0)
    *_, infos = envs.step(["no act at all", "yes"])
    assert infos["defaulted"].tolist() == [1, None]  # a player's number, or nobody
    columns = _columns(
        [
            {"score": 0, "best": True, "terms": {"a": 1}, "steps": 1},
            {"score": 0.5, "best": 2, "terms": None, "steps": 2},
        ]
    )
    assert columns["score"].tolist() == [0, 0.5]
    assert columns["best"].tolist() == [True, 2]
    assert columns["terms"].tolist() == [{"a": 1}, None]
    assert columns["steps"].dtype == np.int64


def test_all_share_one_simulator() -> None:
    envs = gym.make_vec(SHOP, num_envs=50, products=100)
    assert len({id(env.simulator) for env in envs.envs}) == 1  # type: ignore[attr-defined]


def test_seeds_one_by_one_and_resets_of_some() -> None:
    envs = gym.make_vec(GAME, num_envs=3)
    first, _ = envs.reset(seed=[5, 6, 7])
    again, infos = envs.reset(seed=[7, 8, 9], options={"reset_mask": np.array([False, True, False])})
    assert again[0] == first[0]
    assert again[2] == first[2]
    assert again[1] == gym.make(GAME).reset(seed=8)[0]
    assert infos["_success"].tolist() == [False, True, False]


def test_wrong_numbers_of_things_are_named() -> None:
    envs = gym.make_vec(GAME, num_envs=3)
    with pytest.raises(ValueError, match="expected 3"):
        envs.reset(seed=[1, 2])
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="2 actions for 3"):
        envs.step(["bet", "pass"])
    with pytest.raises(ValueError, match="num_envs=0"):
        gym.make_vec(GAME, num_envs=0)


def test_rendering_of_all() -> None:
    envs = gym.make_vec(GAME, num_envs=2, render_mode="ansi")
    observations, _ = envs.reset(seed=0)
    assert envs.render() == observations


def test_one_seed_for_all_is_a_whole_number_of_any_kind() -> None:
    vector = gym.make_vec(GAME, num_envs=2)
    assert vector.reset(seed=np.int64(3))[0] == vector.reset(seed=3)[0] == vector.reset(seed=np.array([3, 4]))[0]
    for wrong in (-1, 1.5, "ab"):
        with pytest.raises(gym.error.Error, match=r"seed=.*: expected a whole number"):
            vector.reset(seed=wrong)
