"""Numbers instead of words: the wrapper over every registered environment."""

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from branchwise.envs import environments
from branchwise.envs.abilities import ActionTable, phrases, suggested_actions
from branchwise.envs.shells import DiscreteActions
from branchwise.envs.simulator import Simulator

ROWS = {row.id: row for row in environments()}
SHOP = "branchwise/WebShop-v0"
SMALL_SHOP = {"products": 100, "observation_mode": "compact"}


def wrapped(env_id: str, **options: Any) -> DiscreteActions:
    if ROWS[env_id].extra:
        pytest.importorskip({"openspiel": "pyspiel"}[ROWS[env_id].extra])
    return DiscreteActions(gym.make(env_id, render_mode="ansi"), **options)


@pytest.mark.parametrize("env_id", ROWS)
def test_gymnasium_finds_nothing_to_say(env_id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "(?s).*is different from the unwrapped version")
        warnings.filterwarnings("ignore", "(?s).*Box observation space m.* value is -?infinity")  # OpenSpiel's tensors
        check_env(wrapped(env_id), skip_render_check=True)
        check_env(wrapped(env_id, arrays=True), skip_render_check=True)


@pytest.mark.parametrize("env_id", ROWS)
def test_masked_samples_are_valid_actions_and_mean_what_is_said(env_id: str) -> None:
    env, plain = wrapped(env_id), gym.make(env_id)
    env.action_space.seed(0)
    for seed in range(3):
        seen = env.reset(seed=seed)
        assert plain.reset(seed=seed)[0] == seen[0]
        info, over = seen[1], False
        while not over:
            mask = info["action_mask"]
            assert mask.dtype == np.int8
            assert mask.shape == (env.action_space.n,)  # type: ignore[attr-defined]
            assert [text is not None for text in info["action_texts"]] == mask.astype(bool).tolist()
            assert info["actions_left_out"] == 0
            action = env.action_space.sample(mask)
            text = info["action_texts"][action]
            free = env.unwrapped.simulator.legal_actions(env.unwrapped.state) is None  # type: ignore[attr-defined]
            result = env.step(action)
            assert result[:4] == plain.step(text)[:4]
            info, over = result[-1], result[2] or result[3]
            assert free or not info["invalid_action"]
        assert not info["action_mask"].any()


def test_a_number_that_stands_for_nothing_is_an_invalid_action() -> None:
    env = DiscreteActions(gym.make(SHOP, **SMALL_SHOP), n=64)
    env.reset(seed=0)
    for number in (63, -1, np.int64(40)):
        assert env.step(number)[-1]["invalid_action"]


def test_actions_beyond_the_numbers_are_counted() -> None:
    env = DiscreteActions(gym.make(SHOP, **SMALL_SHOP), n=3)
    _, info = env.reset(seed=0)
    assert info["action_mask"].tolist() == [1, 1, 1]
    assert info["actions_left_out"] == len(suggested_actions(env.unwrapped.simulator, env.unwrapped.state)) - 3 > 0  # type: ignore[attr-defined]


def test_a_search_field_is_filled_with_phrases_of_the_goal() -> None:
    env = DiscreteActions(gym.make(SHOP, **SMALL_SHOP))
    observation, info = env.reset(seed=0)
    goal = observation.splitlines()[0].removeprefix("goal ")
    searches = [text.removeprefix("search[").removesuffix("]") for text in info["action_texts"] if text]
    assert len(searches) == 12
    assert any(search in goal and len(search.split()) == 3 for search in searches)


def test_random_numbers_can_buy_something() -> None:
    env = DiscreteActions(gym.make(SHOP, **SMALL_SHOP))
    env.action_space.seed(1)
    total = 0.0
    for seed in range(30):
        _, info = env.reset(seed=seed)
        over = False
        while not over:
            _, reward, terminated, truncated, info = env.step(env.action_space.sample(info["action_mask"]))
            total, over = total + reward, terminated or truncated
    assert total > 0


def test_phrases_are_few_and_never_none() -> None:
    assert phrases("") == ["yes"]
    assert phrases("...") == ["yes"]
    assert len(phrases("word " * 5_000)) <= 12
    assert all(len(phrase) <= 200 for phrase in phrases("x" * 10_000 + "\nshort"))


def test_what_is_not_ours_is_refused() -> None:
    with pytest.raises(TypeError, match="branchwise"):
        DiscreteActions(gym.make("CartPole-v1"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="n=0"):
        DiscreteActions(gym.make(SHOP, **SMALL_SHOP), n=0)


def test_masks_are_remembered_and_cannot_be_changed_by_their_readers() -> None:
    env = (
        wrapped("branchwise/TicTacToe-v0") if "branchwise/TicTacToe-v0" in ROWS else wrapped("branchwise/LiarsDice-v0")
    )
    simulator = env.unwrapped.simulator  # type: ignore[attr-defined]
    table = ActionTable(simulator)
    state = simulator.reset(0)
    assert table.mask(state) is table.mask(state)
    with pytest.raises(ValueError, match="read-only"):
        table.mask(state)[0] = 1
    _, info = env.reset(seed=0)
    info["action_mask"][:] = 0
    assert env.reset(seed=0)[1]["action_mask"].any()


@pytest.mark.parametrize("kept", [True, False])
def test_what_is_remembered_of_long_episodes_stays_right(kept: bool) -> None:
    """A thousand lists of up to thirty actions, which come again at once or never, are more than a table keeps."""

    class Lists(Simulator[int]):
        def legal_actions(self, state: int) -> tuple[str, ...]:
            return tuple(f"{state} {i}" for i in range(1 + state % 30))

        def current_player(self, state: int) -> int:
            return 0

    table = ActionTable(Lists(), n=40)  # type: ignore[abstract]
    for state in range(1_000):
        for _ in range(3 if kept else 1):
            mask, texts = table.choices(state)
            assert mask.sum() == len(texts) == 1 + state % 30
            assert texts == {i: f"{state} {i}" for i in range(1 + state % 30)}
            texts.clear()
    assert (table._known is not None) == kept
