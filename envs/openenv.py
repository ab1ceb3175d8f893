"""Any environment of ours as an OpenEnv server, for trainers that talk to environments over HTTP and WebSocket.

>>> import pytest
>>> _ = pytest.importorskip("openenv")
>>> from branchwise.envs.openenv import openenv_app
>>> app = openenv_app("branchwise/WebShop-v0", observation_mode="compact")

``uvicorn.run(app)`` serves it; OpenEnv's ``GenericEnvClient(base_url=…)`` plays: ``reset(seed=3)``,
``step({"text": "search[red shirt]"})``. Each session has its own episode, all share one simulator; sessions are limited
in number and end when idle. A web page of another origin is refused, and without the right ``token``, where one is set,
everybody is. Interface: OpenEnv 0.10. Needs ``pip install '.[openenv]'`` in the checkout.

Not handled here: episodes over plain HTTP (OpenEnv gives each request an environment of its own, so that ``POST /step``
can only say where to play), several agents in one episode (other players are ``opponents``), encryption (put a proxy in
front), and time limits of a step (``timeout_s`` is passed over: a step is not interrupted).
"""

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from gymnasium.error import Error

from .arguments import checked_seed
from .registry import environment_row, make_env
from .simulator import TERMINAL, Simulator

try:
    from openenv.core.env_server.http_server import create_app  # type: ignore[import-not-found]
    from openenv.core.env_server.interfaces import Environment  # type: ignore[import-not-found]
    from openenv.core.env_server.types import (  # type: ignore[import-not-found]
        Action,
        ConcurrencyConfig,
        EnvironmentMetadata,
        Observation,
        State,
    )
except ImportError:  # tools that read every module can import this one; serving says what is missing
    create_app, Environment, Action, Observation, State = None, object, object, object, object

if TYPE_CHECKING:
    from fastapi import FastAPI  # type: ignore[import-not-found]

_SEEDS = 2**31
_POLICY_VIOLATION, _GOING_AWAY = 1008, 1001  # close codes of RFC 6455
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]


class NoEpisode(RuntimeError):  # noqa: N818 - reads as the sentence it is
    """A step where no episode was begun; status 409 over HTTP."""


class InvalidReset(ValueError):  # noqa: N818
    """A seed or option that the environment does not take; status 422 over HTTP."""


class TextAction(Action):  # type: ignore[misc]
    """What the agent says or does."""

    text: str


class TextObservation(Observation):  # type: ignore[misc]
    """What the agent reads, the actions that it may choose from (``None``: any text), and how it stands."""

    text: str
    admissible_commands: list[str] | None = None
    success: bool = False
    invalid_action: bool = False
    truncated: bool = False


class SimulatorEnvironment(Environment):  # type: ignore[misc]
    """An OpenEnv environment over ``simulator``, a single-player simulator, which many instances may share."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, simulator: Simulator[Any], name: str = "simulator", description: str = "") -> None:
        super().__init__()
        self._simulator = simulator
        self._name = name
        self._description = description
        self._now: Any = None
        self._state = State(episode_id=None, step_count=0)

    def reset(self, seed: int | None = None, episode_id: str | None = None, **options: Any) -> TextObservation:
        """Start the episode of ``seed`` (without one, any) and the reset ``options``."""
        if seed is None:
            seed = uuid4().int % _SEEDS
        try:
            self._now = self._simulator.reset(checked_seed(seed), options or None)
        except (ValueError, Error) as error:
            raise InvalidReset(str(error)) from error
        self._state = State(episode_id=episode_id or uuid4().hex, step_count=0, seed=seed)
        return self._seen(None)

    def step(self, action: TextAction, timeout_s: float | None = None, **_: Any) -> TextObservation:
        """Act; an action after the end changes nothing and earns nothing."""
        if self._now is None:
            raise NoEpisode(
                "step() was called before reset(): call reset first, on the same WebSocket (/ws). Over plain HTTP each "
                "request has an environment of its own, so that an episode cannot be played there; "
                "openenv's GenericEnvClient(base_url=…) plays over the WebSocket."
            )
        if self._simulator.current_player(self._now) == TERMINAL:
            return self._seen(0.0)
        self._now = self._simulator.step(self._now, action.text)
        self._state.step_count += 1
        return self._seen(float(self._simulator.rewards(self._now)[0]))

    @property
    def state(self) -> State:
        return self._state

    def get_metadata(self) -> "EnvironmentMetadata":
        return EnvironmentMetadata(name=self._name, description=self._description, version="0")

    def web_actions(self, observation: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """The buttons of OpenEnv's web page: all commands that need no filling in."""
        commands = observation.get("admissible_commands") or ()
        return [(text, {"text": text}) for text in commands if "…" not in text]

    def _seen(self, reward: float | None) -> TextObservation:
        simulator, state = self._simulator, self._now
        info = simulator.info(state)
        return TextObservation(
            text=simulator.observation(state),
            admissible_commands=simulator.admissible_commands(state),
            success=info["success"],
            invalid_action=info["invalid_action"],
            truncated=simulator.truncated(state),
            done=simulator.current_player(state) == TERMINAL,
            reward=reward,
        )


class Guard:
    """An ASGI application before ``app``: refuses web pages of other origins and requests without the token, and closes
    WebSockets that were idle for ``idle`` seconds, which ends their sessions.

    A request without an ``Origin`` header comes from a program and not from a web page. One with it has to come from
    the server's own host, or be listed in ``origins`` (``https://example.org``). A page whose own host name
    leads to the server's address (DNS rebinding) passes as the server's own: only a token keeps that out.
    """

    def __init__(self, app: Any, token: str | None, origins: Collection[str], idle: float | None) -> None:
        self._app, self._token, self._origins, self._idle = app, token, frozenset(origins), idle

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(headers)
        if refusal is None:
            idle = scope["type"] == "websocket" and self._idle is not None
            await self._app(scope, self._closing(receive, send) if idle else receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": refusal[1]})
        else:
            await _answer(send, *refusal)

    def _refusal(self, headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and reason, or ``None`` where the request is admitted."""
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and urlsplit(origin).netloc != headers.get("host"):
            return 403, f"Origin {origin!r} is not admitted: list it in openenv_app(origins=…)."
        if self._token is not None:
            given = headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self._token.encode()):
                return 401, "This server needs the header 'Authorization: Bearer TOKEN' with its token."
        return None

    def _closing(self, receive: _Receive, send: _Send) -> _Receive:
        """``receive``, which hangs up after ``idle`` seconds without a message."""

        async def next_message() -> _Message:
            try:
                return await asyncio.wait_for(receive(), self._idle)
            except TimeoutError:
                reason = f"idle for {self._idle:g} s"
                await send({"type": "websocket.close", "code": _GOING_AWAY, "reason": reason})
                return {"type": "websocket.disconnect", "code": _GOING_AWAY, "reason": reason}

        return next_message


async def _answer(send: _Send, status: int, detail: str) -> None:
    """A whole HTTP answer, in FastAPI's form of an error."""
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _status(code: int) -> Callable[[Any, Exception], Awaitable[Any]]:
    """A handler that answers an exception by ``code`` and the exception's words."""
    from fastapi.responses import JSONResponse  # type: ignore[import-not-found]

    async def handle(_: Any, error: Exception) -> Any:
        return JSONResponse({"detail": str(error)}, code)

    return handle


def openenv_app(
    env_id: str,
    max_sessions: int = 64,
    session_timeout: float | None = 1_800.0,
    token: str | None = None,
    origins: Collection[str] = (),
    **options: Any,
) -> "FastAPI":
    """The server of ``env_id``, made with ``options`` (those of ``gym.make``).

    - ``max_sessions``: how many clients may play at once; one more is told so (``CAPACITY_REACHED``) and let go.
    - ``session_timeout``: seconds after which a session without a message ends; ``None``: never.
    - ``token``: what clients have to send as ``Authorization: Bearer TOKEN``: ``GenericEnvClient(headers=…)``.
    - ``origins``: web pages of other hosts that may use the server.
    """
    if create_app is None:
        raise ImportError("OpenEnv is not installed; in the checkout: pip install '.[openenv]'")
    for name, value in (("max_sessions", max_sessions), ("session_timeout", session_timeout)):
        if value is not None and not value > 0:
            raise ValueError(f"{name}={value!r}: expected a number above 0.")
    if token == "" or isinstance(origins, str):
        raise ValueError(
            f"token={token!r}, origins={origins!r}: expected a token of some length, and a list of origins."
        )
    simulator = make_env(env_id, **options).simulator
    row = environment_row(env_id)
    app = create_app(
        lambda: SimulatorEnvironment(simulator, row.id, row.summary),
        TextAction,
        TextObservation,
        env_name=row.id,
        concurrency_config=ConcurrencyConfig(max_concurrent_envs=max_sessions, session_timeout=session_timeout),
    )
    app.add_exception_handler(NoEpisode, _status(409))
    app.add_exception_handler(InvalidReset, _status(422))
    app.add_middleware(Guard, token=token, origins=origins, idle=session_timeout)
    return app
