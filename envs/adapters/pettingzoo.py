"""Any PettingZoo ``AECEnv`` as a :class:`Simulator`, so that a search can branch on it.

The environment is shown as one stream of moves, whoever makes them, to ``adapters.GymnasiumSimulator``, which finds out
how to come back to a state and believes nothing: a deep copy that goes on like its original, else replay from the seed,
else :class:`~branchwise.envs.adapters.CannotBranch`. What every player sees, each move's rewards and whose turn it is
are written into that stream's observation, so that they are held to the same trial. Steps of agents that are done,
which PettingZoo wants with ``None``, are made here.

Not handled here: ``ParallelEnv`` (``pettingzoo.utils.parallel_to_aec`` makes an ``AECEnv`` of one), agents that join
midway, and luck as chance nodes: it is drawn inside the environment, from its seed, so that a search sees it coming.
"""

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from ..characters import within_planes
from ..simulator import TERMINAL, Simulator
from .branching import Branching
from .gymnasium import GymnasiumSimulator, GymnasiumState, describe, reported_success, split_mask

_DEFAULT_MAX_STEPS = 1_000


class PettingZooSimulator(Simulator[GymnasiumState]):
    """``environment`` (a function without arguments that makes an ``AECEnv``, or an id in ``pettingzoo.aec_registry``)
    as a simulator of as many players as it has ``possible_agents``.

    - ``actions``: names for the actions of ``Discrete`` spaces in their order (default: their numbers); the agents' may
      differ in size, and the names are those of the largest. Agents with ``Text`` spaces need none. Masks are read from
      ``observation["action_mask"]`` or ``infos[agent]["action_mask"]``, commands from
      ``infos[agent]["admissible_commands"]`` as :class:`~branchwise.envs.adapters.GymnasiumSimulator` reads them.
    - ``describe``: observation (without its mask) → text.
    - ``max_steps``: the budget of moves, invalid ones included; ``cache_size``: how many snapshots are kept.

    Player ``i`` is ``possible_agents[i]``. It earns its ``rewards`` at each step and, when it is next to move, what
    ``last()`` pays beyond those, so returns are those of ``last()``. ``success`` is what ``infos[agent]`` reports, else
    whether the player has a positive return at the end. ``branching`` is ``"deepcopy"`` or ``"replay"``, whichever
    held; ``tried`` says what became of each.
    """

    never_repeats = True  # a position has the log of all actions

    def __init__(
        self,
        environment: str | Callable[[], Any],
        actions: Sequence[str] | None = None,
        *,
        describe: Callable[[Any], str] = describe,
        max_steps: int = _DEFAULT_MAX_STEPS,
        cache_size: int = 1_024,
    ) -> None:
        self._make = _Maker(environment, describe)
        stream = self._make()
        self.agents: tuple[str, ...] = tuple(stream.names)
        self.players = len(self.agents)
        self._stream = GymnasiumSimulator(self._make, actions, max_steps=max_steps, cache_size=cache_size)
        self.branching: Branching = self._stream.branching
        self.tried = self._stream.tried
        self.foreknowledge = self._stream.foreknowledge

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> GymnasiumState:
        return self._stream.reset(seed, options)

    def current_player(self, state: GymnasiumState) -> int:
        return TERMINAL if self._stream.current_player(state) == TERMINAL else _told(state)["player"]

    def observation(self, state: GymnasiumState, player: int = 0) -> str:
        """What ``player`` sees; what was refused is told to its writer alone, who is still to move."""
        told = _told(state)
        seen: str = told["seen"][player]
        if state.refused is None or player != told["player"]:
            return seen
        return f"{seen}\nInvalid action {within_planes(repr(state.refused))}: it is not legal here."

    def legal_actions(self, state: GymnasiumState) -> Sequence[str] | None:
        return self._stream.legal_actions(state)

    def admissible_commands(self, state: GymnasiumState) -> list[str] | None:
        return self._stream.admissible_commands(state)

    def step(self, state: GymnasiumState, action: str) -> GymnasiumState:
        return self._stream.step(state, action)

    def rewards(self, state: GymnasiumState) -> tuple[float, ...]:
        return (0.0,) * self.players if state.refused is not None else tuple(_told(state)["rewards"])

    def truncated(self, state: GymnasiumState) -> bool:
        return self._stream.truncated(state)

    def info(self, state: GymnasiumState) -> dict[str, Any]:
        returns = tuple(_told(state)["returns"])
        invalid = self._stream.info(state)["invalid_action"]
        return {"success": self.success(state, 0), "invalid_action": invalid, "returns": returns}

    def success(self, state: GymnasiumState, player: int) -> bool:
        told = _told(state)
        reported: bool | None = told["success"][player]
        if reported is not None:
            return reported
        return self.current_player(state) == TERMINAL and told["returns"][player] > 0

    def position(self, state: GymnasiumState) -> Hashable:
        return self._stream.position(state)

    def close(self) -> None:
        """Close the live environment and drop the snapshots."""
        self._stream.close()


@lru_cache(maxsize=4_096)
def _parsed(said: str) -> dict[str, Any]:
    return json.loads(said)


def _told(state: GymnasiumState) -> dict[str, Any]:
    return _parsed(state.observation)


class _Maker:
    """Makes streams; a class, so that it can be pickled where the environment's maker can."""

    def __init__(self, environment: str | Callable[[], Any], describe: Callable[[Any], str]) -> None:
        self.environment, self.describe = environment, describe

    def __call__(self) -> "_Stream":
        if isinstance(self.environment, str):
            import pettingzoo

            return _Stream(pettingzoo.make("aec", self.environment), self.describe)
        return _Stream(self.environment(), self.describe)

    def __repr__(self) -> str:
        return f"{self.environment!r}"


class _Stream(gym.Env[str, Any]):
    """An ``AECEnv`` as a single stream of moves; what everybody sees and earns is one JSON text."""

    def __init__(self, aec: Any, describe: Callable[[Any], str]) -> None:
        self._aec = aec
        self._describe = describe
        if not hasattr(aec, "possible_agents"):
            raise ValueError(
                f"{aec} has no possible_agents: expected an environment whose agents are known beforehand."
            )
        self.names = list(aec.possible_agents)
        self.action_space = _joint_space([aec.action_space(name) for name in self.names])
        self.observation_space = spaces.Text(1)  # nobody asks: the stream is read by the adapter alone

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self._aec.reset(seed=seed, options=options)
        self._seen = dict.fromkeys(self.names, "")
        self._returns = dict.fromkeys(self.names, 0.0)
        self._success: dict[str, bool | None] = dict.fromkeys(self.names)
        self._since = dict.fromkeys(self.names, 0.0)  # what each has earned since its last turn
        self._look()
        return self._said(self._paid({})), self._choices()

    def step(self, action: Any) -> tuple[str, float, bool, bool, dict[str, Any]]:
        actor = self._aec.agent_selection
        self._aec.step(action)
        invalid = self._aec.infos.get(actor, {}).get("invalid_action")
        self._since[actor] = 0.0
        rewards = dict(self._aec.rewards)
        self._look()
        ends = list(self._aec.terminations.values())
        cut = bool(self._aec.truncations) and all(self._aec.truncations.values()) and not any(ends)
        earned = self._paid(rewards)
        over = not self._aec.agents
        info = self._choices()
        if invalid is not None:
            info["invalid_action"] = bool(invalid)
        return self._said(earned), 0.0, over and not cut, over and cut, info

    def close(self) -> None:
        self._aec.close()

    def _look(self) -> None:
        for name in self._aec.agents:
            observation, _ = split_mask(self._aec.observe(name))
            if isinstance(observation, Mapping) and len(observation) == 1:
                (observation,) = observation.values()
            self._seen[name] = self._describe(observation)
            self._success[name] = reported_success(self._aec.infos.get(name, {}))

    def _paid(self, rewards: Mapping[str, float]) -> dict[str, float]:
        """What each agent earns by a step: its reward, and, once it is to move, what ``last()`` pays beyond that. Makes
        the steps of agents that are done, until one who is not is to move."""
        aec, earned = self._aec, {name: float(rewards.get(name, 0.0)) for name in self.names}
        for name, reward in earned.items():
            self._since[name] += reward
        while aec.agents:
            mover = aec.agent_selection
            rest = float(aec._cumulative_rewards[mover]) - self._since[mover]
            self._since[mover] += rest
            earned[mover] += rest
            if not (aec.terminations[mover] or aec.truncations[mover]):
                break
            aec.step(None)
        for name, reward in earned.items():
            self._returns[name] += reward
        return earned

    def _said(self, earned: Mapping[str, float]) -> str:
        mover = self._aec.agent_selection if self._aec.agents else None
        return json.dumps(
            {
                "player": -1 if mover is None else self.names.index(mover),
                "seen": list(self._seen.values()),
                "rewards": list(earned.values()),
                "returns": list(self._returns.values()),
                "success": list(self._success.values()),
            }
        )

    def _choices(self) -> dict[str, Any]:
        """The ``info`` of the player to move: what it may do."""
        if not self._aec.agents:
            return {}
        agent = self._aec.agent_selection
        if not isinstance(self.action_space, spaces.Discrete):
            return {"admissible_commands": self._aec.infos[agent].get("admissible_commands")}
        mask = split_mask(self._aec.observe(agent))[1]
        if mask is None:
            mask = self._aec.infos[agent].get("action_mask")
        own = self._aec.action_space(agent)
        full = np.zeros(int(self.action_space.n), np.int8)
        full[: int(own.n)] = 1 if mask is None else mask
        return {"action_mask": full}


def _joint_space(agents: Sequence[Any]) -> spaces.Space[Any]:
    """The space that holds every agent's actions."""
    if all(isinstance(space, spaces.Discrete) and space.start == 0 for space in agents):
        return max(agents, key=lambda space: space.n)
    if all(isinstance(space, spaces.Text) for space in agents):
        return agents[0]
    raise ValueError(f"The agents act in {agents}: expected Discrete spaces that start at 0, or Text, for all.")
