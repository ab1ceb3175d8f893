"""What a caller hands to a search, looked at once before it starts: the simulator and its first step, roots, settings,
generators. A mistake is one line that names the value, what was expected, and the cure.

Not here: what policies, critics, evaluators and simulators answer while the search runs (``calls.py``,
``expansion.py``); a simulator that raises at its first step is left to the search, which counts it. All promises of a
simulator are checked by ``branchwise.testing.check_simulator``, on whole episodes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from ..envs.simulator import CHANCE, TERMINAL, Simulator
from .settings import SearchSettings
from .transcript import Turn

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
    """Raises TypeError where something else is passed in its place."""
    name = type(simulator).__name__
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
    players = getattr(simulator, "players", None)
    if not isinstance(players, int | np.integer) or isinstance(players, bool) or players < 1:
        raise ValueError(_broken(simulator, f"players is {players!r}", f"set {name}.players to their number, from 1"))


def check_root(simulator: Simulator[Any], name: str, state: Any, transcript: Any, task: Any) -> None:
    """Raises TypeError for a transcript or a task of another type, ValueError where no player is to move, and for a
    state or a player that the simulator should not have given."""
    if not isinstance(transcript, list | tuple) or not all(isinstance(turn, Turn) for turn in transcript):
        raise TypeError(
            f"the transcript of {name} is {shown(transcript)}; expected turns, such as"
            " (observed(simulator.observation(state)),) of branchwise.search.transcript"
        )
    if not isinstance(task, Mapping):
        raise TypeError(f"the task of {name} is {shown(task)}; expected a dict, such as {{'seed': 0}}")
    _check_state(simulator, state)
    player = simulator.current_player(state)
    if fault := fault_of_player(player, simulator.players):
        raise ValueError(_broken(simulator, *fault))
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
    if fault := fault_of_actions(actions):
        raise ValueError(_broken(simulator, fault, "list texts (str), each once, in a list or a tuple"))
    _check_policy(simulator, policy, "propose" if actions is None else "score")
    if not actions:
        return
    try:
        after = simulator.step(state, actions[0])
    except Exception:
        return
    _check_state(simulator, after)
    try:
        rewards = simulator.rewards(after)
        player = simulator.current_player(after)
    except Exception:
        return
    if wrong := fault_of_player(player, simulator.players):
        raise ValueError(_broken(simulator, *wrong))
    if isinstance(rewards, str | Mapping) or np.shape(rewards) != (simulator.players,):
        example = f"({', '.join(['0.0'] * simulator.players)}{',' * (simulator.players == 1)})"
        what = (
            f"rewards gives {shown(rewards)} for {simulator.players} {'player' * (simulator.players == 1) or 'players'}"
        )
        raise ValueError(_broken(simulator, what, f"return one number a player, such as {example}"))


def fault_of_actions(actions: Any) -> str:
    """What is wrong with an answer of ``legal_actions``; empty where nothing is."""
    if actions is None:
        return ""
    if not isinstance(actions, Sequence) or isinstance(actions, str):
        return f"legal_actions gives {shown(actions)}, and not a list or a tuple"
    if set(map(type, actions)) - {str}:
        wrong = next((action for action in actions if not isinstance(action, str)), None)
        if wrong is not None:
            return f"legal_actions has {shown(wrong)}, and not texts alone"
    if len(set(actions)) < len(actions):
        twice = next(action for place, action in enumerate(actions) if action in actions[:place])
        return f"legal_actions has {twice!r} twice"
    return ""


def fault_of_player(player: Any, players: int) -> tuple[str, str] | None:
    """What is wrong with an answer of ``current_player``, and the cure."""
    if isinstance(player, int | np.integer) and (0 <= player < players or player in (CHANCE, TERMINAL)):
        return None
    numbers = "0" if players == 1 else f"0 to {players - 1}"
    return f"current_player gives {player!r} with players={players}", f"players are {numbers}; or CHANCE, TERMINAL"


def shown(value: Any) -> str:
    """A value as a message can show it: its type, and its start."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = ""
    return f"{text[:80]}{'…' * (len(text) > 80)} ({type(value).__name__})".lstrip()


def _check_policy(simulator: Simulator[Any], policy: Any, method: str) -> None:
    name = type(simulator).__name__
    if policy is None:
        if method == "propose":
            raise ValueError(
                f"{name} takes free-text actions, and there is no policy to propose any; pass one, or search"
                " branchwise.envs.listed.ListedActions(simulator), which lists what the environment suggests"
            )
        return
    offered = getattr(policy, "offers", None)
    if not callable(getattr(policy, method, None)) or (offered is not None and method not in offered):
        actions = "free-text actions" if method == "propose" else "a list of actions"
        cure = f"FunctionPolicy({method}=…) makes a policy of a function"
        raise TypeError(f"{name} takes {actions}, and the policy {type(policy).__name__} has no {method}(); {cure}")


def _check_state(simulator: Simulator[Any], state: Any) -> None:
    if not _hashable(state):
        cure = "use a tuple, a NamedTuple or a frozen dataclass of tuples, texts and numbers"
        raise ValueError(_broken(simulator, f"the state {shown(state)} is not hashable", cure))
    try:
        position = simulator.position(state)
    except Exception:
        return
    if not _hashable(position):
        raise ValueError(_broken(simulator, f"position gives {shown(position)}", "return something hashable, a tuple"))


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _broken(simulator: Any, what: str, cure: str) -> str:
    return (
        f"{type(simulator).__name__}: {what}; {cure}. branchwise.testing.check_simulator checks all that a simulator"
        " promises"
    )
