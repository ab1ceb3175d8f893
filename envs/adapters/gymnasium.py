"""Any Gymnasium environment as a :class:`Simulator`, so that a search can branch on it.

A state is the seed of its episode and the log of its actions: immutable, picklable, and equal exactly where the past is
equal. What the environment said there (observation, reward, flags) lies beside and takes no part in equality. To act
from a state, the one live environment is brought there:

1. it may be there already (steps of one roll-out cost nothing extra);
2. from a snapshot, kept in a bounded cache: the environment's own (``snapshot``/``restore`` or ALE's
   ``clone_state``/``restore_state``), else a deep copy;
3. from the seeded reset, by replaying the log; the nearest snapshot on the way shortens it.

Each way is tried when the simulator is made (``branching``), and the fastest that held is used. Replay must hold in
every case, for a state has to mean the same after a snapshot was dropped and in another process; where it does not,
:class:`~branchwise.envs.adapters.CannotBranch` says what each way did.

Luck is a function of the seed and the actions, and comes again with them: a search that steps from a state knows what
luck will bring (``foreknowledge``), and values a slippery lake as if it chose where it slips. ``resample`` gives a
state with other luck to come, so a search with ``information="single_observer"`` plans without foreknowledge: each
simulation draws its own luck below the root, and nodes are what was done and seen.

Not handled here: several players, environments whose randomness no seed controls (refused), and differences that
show later than the steps tried (``branchwise.testing.check_simulator`` walks whole episodes).
"""

import copy
import dataclasses
import enum
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from ..characters import within_planes
from ..simulator import TERMINAL, Simulator
from .branching import (
    WAYS,
    Trial,
    fastest_way,
    luck_can_be_redrawn,
    luck_differs_by_seed,
    reseed,
    steps_in_a_copy,
)

_DEFAULT_MAX_STEPS = 1_000
_LARGEST_ARRAY = 4_096
_LONGEST_ECHO = 80
_MOST_NAMES = 20
_SUCCESS = ("success", "is_success", "won")


@dataclass(frozen=True, slots=True)
class GymnasiumState:
    """The episode's ``seed``, reset ``options`` and ``log`` of actions that reached the environment, the number of
    ``refusals`` (they count against the budget), the text ``refused`` last; beside them what the environment said, and
    what it had ``seen`` to say before each action. A number in the log is a new seed for the luck from there on.
    """

    seed: int
    options: tuple[tuple[str, Any], ...]
    log: tuple[str | int, ...]
    refusals: int
    refused: str | None
    observation: str = field(compare=False)
    reward: float = field(compare=False)
    terminated: bool = field(compare=False)
    truncated: bool = field(compare=False)
    success: bool = field(compare=False)
    unusable: bool = field(compare=False)
    legal: tuple[str, ...] | None = field(compare=False)
    commands: tuple[str, ...] | None = field(compare=False)
    facts: tuple[tuple[str, Any], ...] = field(compare=False)
    seen: tuple[str, ...] = field(default=(), compare=False, repr=False)


def describe(observation: Any) -> str:
    """An observation as text, the same on every machine: numbers to six significant digits, arrays in brackets,
    dictionaries a line a key. Raises ``ValueError`` for arrays of more than 4,096 numbers, such as images."""
    if isinstance(observation, str):
        return observation
    if isinstance(observation, Mapping):
        return "\n".join(f"{key}: {describe(value)}" for key, value in observation.items())
    if isinstance(observation, np.ndarray) and observation.ndim:
        if observation.size > _LARGEST_ARRAY:
            raise ValueError(
                f"An observation of shape {observation.shape} makes no readable text; "
                "pass describe=, a function from observation to str."
            )
        return "[" + " ".join(describe(row) for row in observation) + "]"
    if isinstance(observation, list | tuple):
        return "(" + ", ".join(describe(value) for value in observation) + ")"
    if isinstance(observation, np.ndarray):
        observation = observation.item()
    if isinstance(observation, float | np.floating):
        return f"{float(observation):.6g}"
    return str(observation)


class GymnasiumSimulator(Simulator[GymnasiumState]):
    """``environment`` (a registered id, or a function without arguments that makes a single-agent environment) as a
    simulator.

    - ``actions``: names for the actions of a ``Discrete`` space in their order (default: the environment's own, from
      ``get_action_meanings()`` or an enumeration ``actions``, else their numbers), or, for any space, a mapping from
      text to action. A ``Text`` space needs none: every text is an action there.
    - ``describe``: observation (without its ``action_mask``) → text.
    - ``max_steps``: the budget, invalid actions included; by default the id's ``max_episode_steps``, else 1,000.
    - ``cache_size``: how many snapshots are kept.

    What is legal: the actions that a mask admits, found in ``info["action_mask"]``, ``observation["action_mask"]`` or
    the method ``action_masks()``; in a ``Text`` space the commands of ``info["admissible_commands"]``. If one of these
    has an ellipsis (``search[…]``), actions are free text and the commands are only shown. A text that is not listed
    reaches the environment all the same, since many games understand more than they list; it counts as invalid unless
    the environment itself reports ``info["invalid_action"]``.

    ``info``: ``success`` is the environment's ``success``, ``is_success`` or ``won``, and all its other numbers (a
    score, the best possible one) are passed on.

    ``branching`` is the fastest way that held in the trial: ``"native"``, ``"deepcopy"`` or ``"replay"``; ``tried``
    says what became of each. Raises :class:`~branchwise.envs.adapters.CannotBranch` when not even replay holds.

    ``foreknowledge``: luck was seen in the trial. Searches then warn, unless they plan without it
    (``information="single_observer"``). That redraws what ``np_random`` of ``gymnasium.Env`` has still to draw; what
    was drawn before and is hidden, such as a card that lies face down, stays as it is.
    """

    players = 1
    never_repeats = True  # a position has the log of all actions
    _at: "_Key | None"

    def __init__(
        self,
        environment: str | Callable[[], gym.Env[Any, Any]],
        actions: Sequence[str] | Mapping[str, Any] | None = None,
        *,
        describe: Callable[[Any], str] = describe,
        max_steps: int | None = None,
        cache_size: int = 1_024,
    ) -> None:
        for name, value, least in (("max_steps", max_steps, 1), ("cache_size", cache_size, 0)):
            if value is not None and (not isinstance(value, int) or value < least):
                raise ValueError(f"{name}={value!r}: expected a whole number of at least {least}.")
        self.environment = environment
        self.describe = describe
        self.cache_size = cache_size
        if max_steps is None:
            max_steps = (gym.spec(environment).max_episode_steps if isinstance(environment, str) else None) or (
                _DEFAULT_MAX_STEPS
            )
        self.max_steps = max_steps
        self._env = self._make()
        self.actions = _named_actions(self._env, actions)
        self._forget()
        trial = Trial(self._env, self._make, self._any_action)
        self.branching, self.tried = fastest_way(trial, f"{environment!r}")
        self._way = WAYS[self.branching]
        self.hides = luck_can_be_redrawn(trial)
        self.foreknowledge = self.hides or luck_differs_by_seed(trial)
        self._worth_a_copy = min(steps_in_a_copy(trial), max_steps) if self.branching == "deepcopy" else 0

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> GymnasiumState:
        frozen = _frozen_options(options or {})
        observation, info = self._reset(seed, frozen)
        self._at = seed, frozen, ()
        return self._state(self._at, 0, observation, 0.0, False, False, info)

    def current_player(self, state: GymnasiumState) -> int:
        return TERMINAL if state.terminated or state.truncated else 0

    def observation(self, state: GymnasiumState, player: int = 0) -> str:
        if state.refused is None:
            return state.observation
        names = state.legal or ()
        shown = ", ".join(names[:_MOST_NAMES]) + (", …" if len(names) > _MOST_NAMES else "")
        refused = within_planes(repr(state.refused))
        return f"{state.observation}\nInvalid action {refused}: expected one of {shown}."

    def legal_actions(self, state: GymnasiumState) -> Sequence[str] | None:
        return () if state.terminated or state.truncated else state.legal

    def admissible_commands(self, state: GymnasiumState) -> list[str] | None:
        if state.terminated or state.truncated:
            return []
        return None if state.commands is None else list(state.commands)

    def step(self, state: GymnasiumState, action: str) -> GymnasiumState:
        """Act; blanks at the ends of ``action`` do not count. A text that names no legal action takes a step of the
        budget and leaves the environment as it is. Raises ``ValueError`` in a state in which the episode is over."""
        if state.terminated or state.truncated:
            raise ValueError("step() of a state in which the episode is over: reset, or step another state.")
        action = _storable(action)
        listed: str | None = action
        if state.legal is not None and action not in state.legal:  # blanks at the ends do not count
            listed = next((name for name in state.legal if name.strip() == action.strip()), None)
        if self.actions is not None and listed is None:
            return self._refuse(state, action.strip())
        action = action if listed is None else listed
        self._bring_to(state)
        self._at = None  # nowhere, until the step has succeeded: an exception leaves no wrong position behind
        observation, reward, terminated, truncated, info = self._env.step(self._meant(action))
        if listed is None:
            info = {"invalid_action": True, **info}
        log = (*state.log, action)
        truncated = not terminated and (bool(truncated) or _steps(log) + state.refusals >= self.max_steps)
        self._at = state.seed, state.options, log
        seen = (*state.seen, state.observation)
        return self._state(
            self._at, state.refusals, observation, float(reward), bool(terminated), truncated, info, seen
        )

    def rewards(self, state: GymnasiumState) -> tuple[float, ...]:
        return (state.reward,)

    def truncated(self, state: GymnasiumState) -> bool:
        return state.truncated

    def info(self, state: GymnasiumState) -> dict[str, Any]:
        invalid = state.unusable or state.refused is not None
        return {**dict(state.facts), "success": state.success, "invalid_action": invalid}

    def position(self, state: GymnasiumState) -> Hashable:
        return _key(state)

    def information_state(self, state: GymnasiumState, player: int = 0) -> str:
        """What was observed and done since the episode began."""
        lines = []
        for seen, action in zip(state.seen, (entry for entry in state.log if isinstance(entry, str)), strict=True):
            lines += [seen, f"> {action}"]
        return "\n".join([*lines, self.observation(state, player)])

    def resample(self, state: GymnasiumState, player: int, rng: np.random.Generator) -> GymnasiumState:
        """The same past with other luck to come; the state itself where there is no luck. Raises ``ValueError`` where
        the environment draws its luck from elsewhere than ``np_random``."""
        if not self.foreknowledge:
            return state
        if not self.hides:
            raise ValueError(
                f"{self.environment!r}: episodes differ by seed, and no luck could be drawn anew in the middle of one. "
                "Cure: draw from self.np_random, as gymnasium.Env asks; or search with information='perfect', which "
                "knows what luck will bring."
            )
        log = state.log[:-1] if state.log and isinstance(state.log[-1], int) else state.log
        return dataclasses.replace(state, log=(*log, int(rng.integers(2**63))))

    def close(self) -> None:
        """Close the live environment and drop the snapshots."""
        self._forget()
        self._env.close()

    def __getstate__(self) -> dict[str, Any]:
        """Environments and snapshots stay behind: what they hold can be had again from seeds and logs."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_env", "_way", "_at", "_cache")}

    def __setstate__(self, fields: dict[str, Any]) -> None:
        self.__dict__.update(fields)
        self._env = self._make()
        self._way = WAYS[self.branching]
        self._forget()

    def _forget(self) -> None:
        self._at = None
        self._cache: OrderedDict[_Key, Any] = OrderedDict()

    def _make(self) -> gym.Env[Any, Any]:
        """Without a ``TimeLimit``: its count would be a part of the state that no native snapshot holds, and the log's
        length says the same."""
        if isinstance(self.environment, str):
            return gym.make(self.environment, max_episode_steps=-1, disable_env_checker=True)
        return self.environment()

    def _reset(self, seed: int, options: tuple[tuple[str, Any], ...]) -> tuple[Any, dict[str, Any]]:
        self._at = None
        return self._env.reset(seed=seed, options=dict(options) if options else None)

    def _meant(self, action: str) -> Any:
        if self.actions is None:
            return action
        return copy.copy(self.actions[action])

    def _state(
        self,
        key: "_Key",
        refusals: int,
        observation: Any,
        reward: float,
        terminated: bool,
        truncated: bool,
        info: Mapping[str, Any],
        seen: tuple[str, ...] = (),
    ) -> GymnasiumState:
        seed, options, log = key
        observation, mask = split_mask(observation)
        commands = self._commands(info, mask)
        free = self.actions is None and any("…" in command for command in commands or ())
        return GymnasiumState(
            seed=seed,
            options=options,
            log=log,
            refusals=refusals,
            refused=None,
            observation=_storable(self.describe(observation)),
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            success=reported_success(info) or False,
            unusable=bool(info.get("invalid_action", False)),
            legal=None if free else commands,
            commands=commands,
            facts=tuple((key, value) for key, value in info.items() if isinstance(value, _NUMBERS)),
            seen=seen,
        )

    def _commands(self, info: Mapping[str, Any], mask: Any) -> tuple[str, ...] | None:
        """What the environment lists as possible now; ``None`` where it lists nothing and takes any text."""
        if self.actions is None:
            return listed_commands(info)
        space = self._env.action_space
        if not isinstance(space, spaces.Discrete):
            return tuple(self.actions)
        mask = info.get("action_mask", mask)
        if mask is None and self._env.has_wrapper_attr("action_masks"):
            mask = self._env.get_wrapper_attr("action_masks")()
        if mask is None:
            return tuple(self.actions)
        if np.shape(mask) != (space.n,):
            raise ValueError(f"An action mask of shape {np.shape(mask)} for {space}: expected one number an action.")
        return tuple(name for name, action in self.actions.items() if mask[int(action) - int(space.start)])

    def _refuse(self, state: GymnasiumState, action: str) -> GymnasiumState:
        asked = action if len(action) <= _LONGEST_ECHO else action[:_LONGEST_ECHO] + "…"
        return dataclasses.replace(
            state,
            refusals=state.refusals + 1,
            refused=asked,
            reward=0.0,
            truncated=_steps(state.log) + state.refusals + 1 >= self.max_steps,
        )

    def _bring_to(self, state: GymnasiumState) -> None:
        """Put the live environment where ``state`` is, and keep a snapshot if it had to be moved there."""
        wanted = _key(state)
        if self._at == wanted:
            return
        seed, options, log = wanted
        known = None
        if len(log) >= self._worth_a_copy:
            known = next((n for n in range(len(log), -1, -1) if (seed, options, log[:n]) in self._cache), None)
        if known is None:
            self._reset(seed, options)
            known = 0
        else:
            key = (seed, options, log[:known])
            self._cache.move_to_end(key)
            self._at = None
            self._env = self._way.resume(self._env, self._cache[key])
        for entry in log[known:]:
            if isinstance(entry, int):
                reseed(self._env, entry)
            else:
                self._env.step(self._meant(entry))
        self._at = wanted
        if self.branching != "replay" and wanted not in self._cache and len(log) - known >= self._worth_a_copy:
            self._cache[wanted] = self._way.take(self._env)
            while len(self._cache) > self.cache_size:
                self._cache.popitem(last=False)

    def _any_action(self, observation: Any, info: Mapping[str, Any], rng: np.random.Generator) -> Any:
        listed = self._commands(info, split_mask(observation)[1]) or ()
        names = listed if self.actions is not None else [name for name in listed if "…" not in name]
        if names:
            return self._meant(names[int(rng.integers(len(names)))])
        self._env.action_space.seed(int(rng.integers(2**31)))
        return self._env.action_space.sample()


_NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating)


def split_mask(observation: Any) -> tuple[Any, Any]:
    """``observation`` without its ``action_mask``, and the mask, or ``None``."""
    if not isinstance(observation, Mapping) or "action_mask" not in observation:
        return observation, None
    return {key: value for key, value in observation.items() if key != "action_mask"}, observation["action_mask"]


def listed_commands(info: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The commands of ``info["admissible_commands"]``, each once; ``None`` where there are none."""
    commands = info.get("admissible_commands")
    if not commands:
        return None
    if isinstance(commands, str) or not all(isinstance(command, str) for command in commands):
        raise ValueError(f"info['admissible_commands']={commands!r:.200}: expected a list of texts, or None.")
    return tuple(dict.fromkeys(map(_storable, commands)))


def reported_success(info: Mapping[str, Any]) -> bool | None:
    """Whether ``info`` reports success, by any of the names in use; ``None`` where it reports nothing."""
    return next((bool(info[name]) for name in _SUCCESS if info.get(name) is not None), None)


_Key = tuple[int, tuple[tuple[str, Any], ...], tuple[str | int, ...]]


def _key(state: GymnasiumState) -> _Key:
    """Where the environment stands in ``state``."""
    return state.seed, state.options, state.log


def _steps(log: Sequence[str | int]) -> int:
    """How many actions a log holds."""
    return sum(isinstance(entry, str) for entry in log)


def _frozen_options(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Reset options as a part of a state, which is hashed. Lists become tuples: a task that was saved as JSON has lists
    alone."""
    frozen = tuple(sorted(((name, _frozen(value)) for name, value in options.items()), key=lambda item: str(item[0])))
    for name, value in frozen:
        try:
            hash(value)
        except TypeError:
            raise ValueError(
                f"options[{name!r}]={value!r} cannot be hashed, and a state has to be: pass no dictionaries or arrays."
            ) from None
    return frozen


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _storable(text: str) -> str:
    """Lone surrogates, which no file takes, become question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _named_actions(env: gym.Env[Any, Any], actions: Sequence[str] | Mapping[str, Any] | None) -> dict[str, Any] | None:
    space = env.action_space
    if isinstance(actions, Mapping):
        if not actions:
            raise ValueError("actions={}: expected at least one name and its action.")
        return dict(actions)
    if isinstance(space, spaces.Discrete):
        numbers = range(int(space.start), int(space.start + space.n))
        names = list(actions) if actions is not None else _own_names(env, len(numbers))
        names = names or [str(number) for number in numbers]
        if len(names) != len(numbers) or len(set(names)) != len(names):
            raise ValueError(f"actions={names}: expected {len(numbers)} different names, one an action of {space}.")
        return dict(zip(names, numbers, strict=True))
    if isinstance(space, spaces.Text) and actions is None:
        return None
    raise ValueError(
        f"The action space {space} has no names of its own; pass actions={{text: action, …}}, "
        "a mapping from what an agent writes to what the environment takes."
    )


def _own_names(env: gym.Env[Any, Any], count: int) -> list[str]:
    """What the environment calls its actions: ALE's ``get_action_meanings()``, or an enumeration ``actions`` from 0, as
    MiniGrid has; nothing where they do not name each of ``count`` actions."""
    base: Any = env.unwrapped
    meanings, kind = getattr(base, "get_action_meanings", None), getattr(base, "actions", None)
    names: list[str] = []
    if callable(meanings):
        names = [str(name) for name in meanings()]
    elif (
        isinstance(kind, type) and issubclass(kind, enum.Enum) and [item.value for item in kind] == [*range(len(kind))]
    ):
        names = [item.name for item in kind]
    return names if len(set(names)) == count else []
