"""Any environment of ours as an OpenEnv server, for trainers that talk to environments over HTTP and WebSocket.

>>> import pytest
>>> _ = pytest.importorskip("openenv")
>>> from branchwise.envs.openenv import openenv_app
>>> app = openenv_app("branchwise/WebShop-v0", observation_mode="compact")

``uvicorn.run(app)`` serves it; OpenEnv's ``GenericEnvClient(base_url=…)`` plays: ``reset(seed=3)``,
``step({"text": "search[red shirt]"})``. Each session has its own episode, all share one simulator. Interface: OpenEnv
0.10. Needs ``pip install branchwise[openenv]``. Not handled here: several agents in one episode (other players are
``opponents``), and time limits of a step (``timeout_s`` is passed over: a step is not interrupted).
"""

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from .registry import environment_row, make_env
from .simulator import TERMINAL, Simulator

try:
    from openenv.core.env_server.http_server import create_app  # type: ignore[import-not-found]
    from openenv.core.env_server.interfaces import Environment  # type: ignore[import-not-found]
    from openenv.core.env_server.types import (  # type: ignore[import-not-found]
        Action,
        EnvironmentMetadata,
        Observation,
        State,
    )
except ImportError:  # tools that read every module can import this one; serving says what is missing
    create_app, Environment, Action, Observation, State = None, object, object, object, object

if TYPE_CHECKING:
    from fastapi import FastAPI  # type: ignore[import-not-found]

_SEEDS = 2**31


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
        self._now = self._simulator.reset(seed, options or None)
        self._state = State(episode_id=episode_id or uuid4().hex, step_count=0, seed=seed)
        return self._seen(None)

    def step(self, action: TextAction, timeout_s: float | None = None, **_: Any) -> TextObservation:
        """Act; an action after the end changes nothing and earns nothing."""
        if self._now is None:
            raise RuntimeError("step() was called before reset(): call reset first.")
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


def openenv_app(env_id: str, max_sessions: int = 64, **options: Any) -> "FastAPI":
    """The server of ``env_id``, made with ``options`` (those of ``gym.make``), for up to ``max_sessions`` clients."""
    if create_app is None:
        raise ImportError("OpenEnv is not installed: pip install branchwise[openenv].")
    simulator = make_env(env_id, **options).simulator
    row = environment_row(env_id)
    return create_app(
        lambda: SimulatorEnvironment(simulator, row.id, row.summary),
        TextAction,
        TextObservation,
        env_name=row.id,
        max_concurrent_envs=max_sessions,
    )
