"""An environment served by OpenEnv, played over its WebSocket by OpenEnv's own client. Needs the extra ``openenv``."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("openenv", reason="the extra openenv is not installed: pip install '.[openenv]'")

import httpx
import uvicorn
from openenv.core.generic_client import GenericEnvClient
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from branchwise import simulator_for
from branchwise.envs.openenv import SimulatorEnvironment, TextAction, openenv_app

ENV = "branchwise/KuhnPoker-v0"


@contextlib.contextmanager
def served(env_id: str, **options: Any) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(openenv_app(env_id, **options), port=port, log_level="error"))
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


def socket_of(address: str) -> str:
    return address.replace("http", "ws", 1) + "/ws"


def test_a_step_over_http_says_where_to_play_and_bad_resets_what_was_wrong() -> None:
    with served(ENV) as address:
        step = httpx.post(f"{address}/step", json={"action": {"text": "bet"}})
        assert step.status_code == 409
        assert "WebSocket (/ws)" in step.json()["detail"]
        reset = httpx.post(f"{address}/reset", json={"seed": 1, "nonsense": 2})
        assert reset.status_code == 422
        assert "unknown reset option 'nonsense'" in reset.json()["detail"]
        assert httpx.post(f"{address}/step", json={"action": {"words": 3}}).status_code == 422
        good = httpx.post(f"{address}/reset", json={"seed": 1})
        assert good.status_code == 200
        assert good.json()["observation"]["text"].startswith("Kuhn poker.")


def test_a_bad_reset_leaves_the_session_usable() -> None:
    with served(ENV) as address, connect(socket_of(address)) as client:
        for message, part in (
            ('{"type": "step", "data": {"text": "bet"}}', "call reset first"),
            ('{"type": "reset", "data": {"nonsense": 2}}', "unknown reset option"),
            ('{"type": "reset", "data": {"seed": 1}}', "Kuhn poker."),
        ):
            client.send(message)
            assert part in str(client.recv(timeout=10))


def test_a_session_left_alone_ends_and_frees_its_place() -> None:
    with served(ENV, max_sessions=1, session_timeout=0.5) as address:
        client = connect(socket_of(address))
        client.send('{"type": "reset", "data": {"seed": 1}}')
        assert "Kuhn poker." in str(client.recv(timeout=10))
        with pytest.raises(ConnectionClosed, match=r"idle for 0\.5 s"):
            client.recv(timeout=10)
        with GenericEnvClient(base_url=address).sync() as another:
            assert another.reset(seed=4).observation["text"].startswith("Kuhn poker.")


def test_one_session_too_many_is_told_so() -> None:
    with served(ENV, max_sessions=1) as address, connect(socket_of(address)) as first:
        first.send('{"type": "reset", "data": {"seed": 1}}')
        first.recv(timeout=10)
        with connect(socket_of(address)) as second:
            assert "CAPACITY_REACHED" in str(second.recv(timeout=10))
        first.send('{"type": "step", "data": {"text": "bet"}}')
        assert "Kuhn poker." in str(first.recv(timeout=10))


@pytest.mark.parametrize(
    ("origin", "admitted"),
    [
        (None, True),
        ("the server", True),
        ("https://friend.example", True),
        ("https://evil.example", False),
        ("http://127.0.0.1:1", False),
        ("null", False),
    ],
)
def test_a_web_page_of_another_origin_is_refused(origin: str | None, admitted: bool) -> None:
    with served(ENV, origins=["https://friend.example"]) as address:
        origin = address if origin == "the server" else origin
        headers = {} if origin is None else {"Origin": origin}
        assert (httpx.post(f"{address}/reset", json={}, headers=headers).status_code == 200) is admitted
        if admitted:
            with connect(socket_of(address), origin=origin) as client:  # type: ignore[arg-type]
                client.send('{"type": "reset", "data": {}}')
                assert "Kuhn poker." in str(client.recv(timeout=10))
        else:
            with pytest.raises(InvalidStatus, match="403"):
                connect(socket_of(address), origin=origin)  # type: ignore[arg-type]


def test_without_the_token_nothing_is_answered() -> None:
    with served(ENV, token="a secret") as address:
        for headers in ({}, {"Authorization": "Bearer another"}, {"Authorization": ""}):
            assert httpx.get(f"{address}/schema", headers=headers).status_code == 401
            with pytest.raises(InvalidStatus, match="403"):
                connect(socket_of(address), additional_headers=headers)
        right = {"Authorization": "Bearer a secret"}
        assert httpx.get(f"{address}/schema", headers=right).status_code == 200
        with GenericEnvClient(base_url=address, headers=right).sync() as client:
            assert client.reset(seed=4).observation["text"].startswith("Kuhn poker.")


@pytest.mark.parametrize(
    "wrong", [{"max_sessions": 0}, {"session_timeout": 0.0}, {"token": ""}, {"origins": "https://x.example"}]
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        openenv_app(ENV, **wrong)
