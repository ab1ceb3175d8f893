"""The environments that branchwise registers with Gymnasium: ids, versions, splits, and a simulator by id.

Importing ``branchwise`` calls :func:`register` (Gymnasium has had no plug-in entry points since 1.0), so that
``gym.make("branchwise/WebShop-v0")`` works after it, and ``gym.make("branchwise.envs:branchwise/WebShop-v0")`` by
itself. Entry points are strings: importing stays light, and specifications can be written as JSON. The version in an id
rises with any change of rules, rewards or text.

The two wrappers that ``gym.make`` would add are switched off: ``SimulatorEnv`` itself refuses steps before a reset and
after the end, and the passive checker's questions are asked once, by the tests, of every row here.
"""

import difflib
import inspect
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator

from .gym_shell import SimulatorEnv
from .simulator import Simulator


@dataclass(frozen=True, slots=True)
class EnvironmentRow:
    """A registered environment. ``entry_point`` makes the environment and ``simulator`` its rules, both written
    ``module:name``; ``splits`` are the values of the ``split`` option."""

    id: str
    summary: str
    entry_point: str
    simulator: str
    players: int = 1
    splits: tuple[str, ...] = ("train", "validation", "test")


_ENVIRONMENTS = (
    EnvironmentRow(
        id="branchwise/WebShop-v0",
        summary="Search a shop, open products, choose options and buy what the instruction asks for.",
        entry_point="branchwise.envs.web_shop.env:WebShopEnv",
        simulator="branchwise.envs.web_shop.rules:WebShopSimulator",
    ),
)


def register() -> None:
    """Register every environment with Gymnasium; a second call changes nothing."""
    for row in _ENVIRONMENTS:
        if row.id not in gym.registry:
            gym.register(
                row.id,
                entry_point=row.entry_point,
                disable_env_checker=True,
                order_enforce=False,
            )


def environments() -> tuple[EnvironmentRow, ...]:
    """The registered environments, in the order in which ``branchwise envs`` shows them."""
    return _ENVIRONMENTS


def simulator_for(env_id: str, **options: Any) -> Simulator[Any]:
    """The simulator of a registered environment, made with ``options`` (the keyword arguments of ``gym.make``).

    Raises ``ValueError`` for an unknown id (naming near ones) and ``TypeError`` for an unknown option (naming those
    that are accepted).
    """
    row = _row(env_id)
    accepted = accepted_options(row.id)
    unknown = sorted(options.keys() - accepted.keys())
    if unknown:
        raise TypeError(
            f"{row.id} has no option {', '.join(map(repr, unknown))}; accepted: {', '.join(accepted) or 'none'}."
        )
    env = gym.make(row.id, **options).unwrapped
    assert isinstance(env, SimulatorEnv)
    return env.simulator


def accepted_options(env_id: str) -> dict[str, Any]:
    """Names and defaults of the options of a registered environment, the keyword arguments of its simulator."""
    parameters = inspect.signature(load_env_creator(_row(env_id).simulator)).parameters
    return {name: parameter.default for name, parameter in parameters.items()}


def _row(env_id: str) -> EnvironmentRow:
    wanted = env_id.rpartition(":")[2]
    rows = {row.id: row for row in _ENVIRONMENTS}
    if wanted in rows:
        return rows[wanted]
    by_name = {name.rpartition("/")[2].lower(): name for name in rows}
    near = difflib.get_close_matches(wanted.rpartition("/")[2].lower(), by_name, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(by_name[name] for name in near)}? " if near else ""
    raise ValueError(f"No environment {env_id!r}: {hint}Registered: {', '.join(rows)}.")
