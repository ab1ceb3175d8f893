"""Environments of other packages by name, as rows: ``my_package:MyEnv-v0``, ``CartPole-v1``, ``my_module:MyRules``.

- A Gymnasium id, written as for ``gym.make``: ``module:id`` imports the module first, which registers the id. It
  becomes a simulator by ``adapters.GymnasiumSimulator``; its options are the keyword arguments of the environment.
- ``module:name`` of a :class:`Simulator` subclass, or of a function that returns a simulator.

Modules are found as Python finds them, and last in the working directory.

Not handled here: PettingZoo's environments, which ``adapters.PettingZooSimulator`` takes as objects.
"""

import inspect
import os
import sys
from functools import partial
from importlib import import_module
from typing import Any

import gymnasium as gym

from .rows import SPLITS, EnvironmentRow
from .simulator import Simulator


def foreign_row(env_id: str) -> EnvironmentRow | None:
    """The row of an environment that is not ours, None where nothing has that name. Raises ``ValueError`` where a
    module before a colon cannot be imported or has neither, and what the module raises."""
    module, colon, name = env_id.rpartition(":")
    if colon:
        loaded = _imported(module, env_id)
        made = getattr(loaded, name, None) if name.isidentifier() else None
        if made is not None:
            return _row_of_rules(env_id, made)
    if name in gym.registry:
        return EnvironmentRow(env_id, f"{name}, by Gymnasium.", f"{__name__}:gymnasium_simulator", foreign=True)
    if colon:
        raise ValueError(
            f"No environment {env_id!r}: {module} neither registers an environment {name!r} with Gymnasium nor has a "
            "simulator of that name"
        )
    return None


def _imported(module: str, env_id: str) -> Any:
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # a console script does not look where it is run
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"No environment {env_id!r}: there is no module {error.name!r}; install it, or run where it lies"
        ) from None
    except (Exception, SystemExit) as error:
        raise ValueError(f"No environment {env_id!r}: {module} raised {type(error).__name__}: {error}") from error


def _row_of_rules(env_id: str, made: Any) -> EnvironmentRow:
    """``made``: a Simulator subclass, or a function that returns a simulator."""
    if not callable(made):
        raise ValueError(f"{env_id} is {made!r:.60}; expected a subclass of Simulator, or a function that makes one")
    if isinstance(made, type) and not hasattr(made, "legal_actions"):
        kind = issubclass(made, gym.Env)
        cure = "register it with gymnasium.register and give that id" if kind else "subclass it"
        raise ValueError(f"{env_id} is a class and no Simulator (branchwise.envs.simulator); {cure}")
    parameters = inspect.signature(made).parameters
    players = int(getattr(made if isinstance(made, type) else made(), "players", 1))
    summary = (inspect.getdoc(made) or f"{env_id}.").partition("\n\n")[0].replace("\n", " ")
    splits = SPLITS if "split" in parameters else ()
    return EnvironmentRow(env_id, summary, env_id, players=players, splits=splits, foreign=True)


def gymnasium_simulator(env_id: str, **options: Any) -> Simulator[Any]:
    """A registered Gymnasium environment, made with ``options``, as a simulator. Raises what
    :class:`~branchwise.envs.adapters.GymnasiumSimulator` does."""
    from .adapters.gymnasium import GymnasiumSimulator

    module, _, name = env_id.rpartition(":")
    if module:
        _imported(module, env_id)
    limit = gym.spec(name).max_episode_steps
    make = partial(gym.make, name, max_episode_steps=-1, disable_env_checker=True, **options)
    return GymnasiumSimulator(make, max_steps=limit)
