"""An environment served by OpenEnv, played over its WebSocket by OpenEnv's own client. Needs the extra ``openenv``."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("openenv", reason="the extra openenv is not installed: pip install branchwise[openenv]")

import uvicorn
from openenv.core.generic_client import GenericEnvClient

from branchwise import simulator_for
from branchwise.envs.openenv import SimulatorEnvironment, TextAction, openenv_app

ENV = "branchwise/KuhnPoker-v0"


@contextlib.contextmanager
def served(env_id: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(openenv_app(env_id), port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.started
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(timeout=10)


def test_a_client_plays_an_episode_over_the_wire() -> None:
    rules = simulator_for(ENV, opponents="random")
    with served(ENV) as address, GenericEnvClient(base_url=address).sync() as client:
        result = client.reset(seed=4)
        state = rules.reset(4)
        while not result.done:
            assert result.observation["text"] == rules.observation(state)
            assert result.observation["admissible_commands"] == rules.admissible_commands(state)
            action = result.observation["admissible_commands"][0]
            result, state = client.step({"text": action}), rules.step(state, action)
        assert result.reward == rules.rewards(state)[0] != 0
        assert client.state()["step_count"] > 0


def test_invalid_actions_and_actions_after_the_end_are_answered() -> None:
    env = SimulatorEnvironment(simulator_for(ENV, opponents="random"))
    with pytest.raises(RuntimeError, match="reset"):
        env.step(TextAction(text="x"))
    first = env.reset(seed=1)
    assert not first.done
    assert first.reward is None
    assert env.step(TextAction(text="\x00 nothing of the kind")).invalid_action
    seen = env.reset(seed=1)
    assert seen == first
    while not seen.done:
        seen = env.step(TextAction(text=seen.admissible_commands[0]))
    assert env.step(TextAction(text="anything")).reward == 0.0
    assert env.web_actions({"admissible_commands": ["a", "say[…]"]}) == [("a", {"text": "a"})]
