"""What a caller hands to a search, looked at once before it starts: the simulator and its first step, roots, settings,
generators. A mistake is one line that names the value, what was expected, and the cure.

Not here: what policies, critics, evaluators and simulators answer while the search runs (``calls.py``,
``expansion.py``); a simulator that raises at its first step is left to the search, which counts it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np

from ..envs.play.policy import can
from ..envs.play.transcript import Turn
from ..envs.promises import (
    Fault,
    fault_of_actions,
    fault_of_player,
    fault_of_players,
    fault_of_rewards,
    fault_of_state,
    shown,
)
from ..envs.simulator import TERMINAL, Simulator
from .settings import SearchSettings
from .trees.nodes import MAX_PLAYERS

NEEDED: Final = ("current_player", "observation", "legal_actions", "step", "rewards")
"""The methods of a simulator that every search calls."""


def checked_settings(settings: Any) -> SearchSettings:
    """The settings; the defaults for None. Raises TypeError."""
    if settings is None:
        return SearchSettings()
    if not isinstance(settings, SearchSettings):
        cure = "SearchSettings(**settings)" if isinstance(settings, Mapping) else "SearchSettings(simulations=…)"
        raise TypeError(f"settings is {shown(settings)}; pass {cure}")
    return settings


def generators(rng: Any) -> np.random.Generator | list[np.random.Generator]:
    """One generator (of seed 0 for None, of ``rng`` where that is a number), or those given, one a root. Raises
    TypeError."""
    if rng is None or (isinstance(rng, int | np.integer) and not isinstance(rng, bool)):
        return np.random.default_rng(0 if rng is None else int(rng))
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, Sequence) and all(isinstance(one, np.random.Generator) for one in rng):
        return list(rng)
    raise TypeError(
        f"rng is {shown(rng)}; pass numpy.random.default_rng(seed), a seed, or a list of one generator a root"
    )


def check_hook(name: str, hook: Any, method: str = "") -> None:
    """Raises TypeError where ``hook`` is neither None nor an object with ``method`` (without one: a function)."""
    if isinstance(hook, type):
        raise TypeError(f"{name} is the class {hook.__name__}; pass an object of it, {hook.__name__}(…)")
    if hook is not None and not callable(getattr(hook, method, None) if method else hook):
        raise TypeError(f"{name} is {shown(hook)}; expected {f'an object with {method}()' if method else 'a function'}")


def check_simulator_methods(simulator: Any) -> None:
    """Raises TypeError where something else is passed in its place, ValueError where its ``players`` is no number, or
    more than a tree holds."""
    if isinstance(simulator, type):
        raise TypeError(f"simulator is the class {simulator.__name__}; pass an object of it, {simulator.__name__}(…)")
    missing = [method for method in NEEDED if not callable(getattr(simulator, method, None))]
    if missing:
        inner = getattr(getattr(simulator, "unwrapped", None), "simulator", None)
        cure = "subclass branchwise.envs.simulator.Simulator"
        if inner is not None:
            cure = "it is an environment over a simulator, so pass env.unwrapped.simulator"
        elif hasattr(simulator, "action_space"):
            cure = "a Gymnasium environment becomes a simulator by branchwise.envs.adapters.GymnasiumSimulator"
        raise TypeError(f"simulator is {shown(simulator)}, which has no {', '.join(missing)}; {cure}")
    _refuse(simulator, fault_of_players(simulator))
    if simulator.players > MAX_PLAYERS:
        raise ValueError(
            f"{type(simulator).__name__}.players is {simulator.players}; a tree holds at most {MAX_PLAYERS} players, so"
            " search a game of fewer, or one player's view of it (branchwise.envs.views)"
        )


def check_root(simulator: Simulator[Any], name: str, state: Any, transcript: Any, task: Any) -> None:
    """Raises TypeError for a transcript or a task of another type, ValueError where no player is to move, and for a
    state or a player that the simulator should not have given."""
    if not isinstance(transcript, list | tuple) or not all(isinstance(turn, Turn) for turn in transcript):
        raise TypeError(
            f"the transcript of {name} is {shown(transcript)}; expected turns, such as"
            " (observed(simulator.observation(state)),) of branchwise.envs.play.transcript"
        )
    if not isinstance(task, Mapping):
        raise TypeError(f"the task of {name} is {shown(task)}; expected a dict, such as {{'seed': 0}}")
    _refuse(simulator, fault_of_state(simulator, state))
    player = simulator.current_player(state)
    _refuse(simulator, fault_of_player(player, simulator.players))
    if player < 0:
        kind = "terminal" if player == TERMINAL else "a chance node"
        raise ValueError(f"{name} is {kind}; a search starts where a player is to move")


def check_first_step(simulator: Simulator[Any], state: Any, policy: Any) -> None:
    """Raises ValueError where the actions of ``state``, or what the first of them leads to, are not what a simulator
    promises; TypeError where the policy cannot be asked for such actions. What raises is left to the search."""
    try:
        actions = simulator.legal_actions(state)
    except Exception:
        return
    _refuse(simulator, fault_of_actions(actions))
    _check_policy(simulator, policy, "propose" if actions is None else "score")
    if not actions:
        return
    faults: list[Fault | None] = []
    try:
        after = simulator.step(state, actions[0])
        faults.append(fault_of_state(simulator, after))
        faults.append(fault_of_player(simulator.current_player(after), simulator.players))
        faults.append(fault_of_rewards(simulator.rewards(after), simulator.players))
    except Exception:
        pass
    for fault in faults:
        _refuse(simulator, fault)


def _check_policy(simulator: Simulator[Any], policy: Any, method: Literal["score", "propose"]) -> None:
    name = type(simulator).__name__
    if policy is None:
        if method == "propose":
            raise ValueError(
                f"{name} takes free-text actions, and there is no policy to propose any; pass one, or search"
                " branchwise.envs.wrappers.ListedActions(simulator), which lists what the environment suggests"
            )
        return
    if not can(policy, method):
        actions = "free-text actions" if method == "propose" else "a list of actions"
        cure = f"FunctionPolicy({method}=…) makes a policy of a function"
        raise TypeError(f"{name} takes {actions}, and the policy {type(policy).__name__} has no {method}(); {cure}")


def _refuse(simulator: Any, fault: Fault | None) -> None:
    if fault is not None:
        raise ValueError(
            f"{type(simulator).__name__}: {fault.what}; {fault.cure}. branchwise.testing.check_simulator checks all"
            " that a simulator promises"
        )
