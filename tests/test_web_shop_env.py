"""The web shop through ``gym.make``: its page of documentation, arguments, goals, snapshots, copies."""

import doctest
import inspect
import re

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env

import branchwise
from branchwise.envs.registry import simulator_for
from branchwise.envs.web_shop import env as module
from branchwise.envs.web_shop.env import WebShopEnv
from branchwise.envs.web_shop.rules import WebShopSimulator
from branchwise.testing import check_snapshot

ID = "branchwise/WebShop-v0"


def test_the_documentation_s_example_runs() -> None:
    assert branchwise.__version__
    result = doctest.testmod(module)
    assert result.attempted >= 7
    assert result.failed == 0


def test_the_documentation_has_gymnasium_s_headings_and_every_argument_with_its_default() -> None:
    page = inspect.cleandoc(WebShopEnv.__doc__ or "")
    for heading in (
        *(
            "Description",
            "Action Space",
            "Observation Space",
            "Rewards",
            "Starting State",
            "Episode End",
            "Information",
        ),
        *("Arguments", "Version History", "Source"),
    ):
        assert f"## {heading}\n" in page
    rows = dict(re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| `([^`]+)` \|", page, flags=re.MULTILINE))
    documented = {name.strip("`"): default for names, default in rows.items() for name in names.split(", ")}
    arguments = inspect.signature(WebShopSimulator).parameters
    assert set(documented) == set(arguments)
    for name, default in documented.items():
        value = arguments[name].default
        assert default == (value.__name__ if callable(value) else repr(value).replace("'", '"'))


@pytest.mark.parametrize("mode", ["text", "text_rich", "compact"])
def test_gymnasium_s_checker_finds_nothing(mode: str, recwarn: pytest.WarningsRecorder) -> None:
    check_env(gym.make(ID, products=100, observation_mode=mode).unwrapped, skip_render_check=True)
    assert not [str(warning.message) for warning in recwarn if "branchwise" in str(warning.filename)]


def test_snapshots_hold() -> None:
    check_snapshot(gym.make(ID, products=100, observation_mode="compact"), actions=["search[color size]"])


def test_an_episode_that_buys_what_was_asked() -> None:
    env = gym.make(ID, observation_mode="text")
    _, info = env.reset(options={"goal": 5})
    assert info["admissible_commands"] == ["search[…]"]
    assert info["goal"] == 5
    goal = env.unwrapped.goal  # type: ignore[attr-defined]
    rewards = []
    for action in (
        f"search[{goal.name}]",
        f"click[{goal.asin}]",
        *(f"click[{value}]" for _, value in goal.options),
        "click[buy now]",
    ):
        _, reward, terminated, truncated, info = env.step(action)
        rewards.append(reward)
    assert rewards[-1] == 1.0
    assert not any(rewards[:-1])
    assert terminated
    assert not truncated
    assert info["success"] is True
    assert info["reward_components"]["total"] == 1.0
    assert info["admissible_commands"] == []


def test_simulator_for_takes_the_same_arguments() -> None:
    simulator = simulator_for(ID, products=100, observation_mode="compact", split="validation", max_steps=7)
    assert isinstance(simulator, WebShopSimulator)
    assert "steps 7" in simulator.observation(simulator.reset(0))
    assert gym.make(ID, products=100, split="validation").unwrapped.goals[0] == simulator.goals[0]  # type: ignore[attr-defined]
