"""Many episodes of one simulator in one process, as a Gymnasium vector environment.

``gym.make_vec(id, num_envs)`` makes this one by default (the ids' ``vector_entry_point``): one simulator for all, and
no text that crosses between processes. It answers as ``vectorization_mode="sync"`` does, autoreset on the next step
included, but puts ``infos`` together an array a key instead of an entry at a time. For simulators whose steps are slow,
``"async"`` with ``vector_kwargs={"shared_memory": False}`` spreads over processes.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from ..arguments import checked_seed
from ..simulator import Simulator
from .gym import SimulatorEnv


class SimulatorVectorEnv(gym.vector.VectorEnv[tuple[str, ...], Sequence[str], np.ndarray]):
    """``num_envs`` episodes over ``simulator``, a single-player simulator.

    Observations are a tuple of texts, actions any sequence of texts; rewards float64 ``[num_envs]``, ends bool
    ``[num_envs]``; ``infos[key]`` is an array ``[num_envs]`` (of objects, unless all values are numbers or bool of one
    type) with ``infos["_" + key]`` true where an environment has it. An environment whose episode ended is reset by the
    next step, which ignores its action. ``max_episode_steps``: an episode that has not ended by then is truncated.
    """

    def __init__(
        self,
        simulator: Simulator[Any],
        num_envs: int,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
    ) -> None:
        for name, value in (("num_envs", num_envs), ("max_episode_steps", max_episode_steps)):
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}: expected at least 1.")
        self.envs = [SimulatorEnv(simulator, render_mode=render_mode) for _ in range(num_envs)]
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.metadata = {**self.envs[0].metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.single_observation_space = self.envs[0].observation_space
        self.single_action_space = self.envs[0].action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._longest = max_episode_steps
        self._steps = [0] * num_envs
        self._over = [False] * num_envs
        self._observations = [""] * num_envs

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Start all episodes: environment ``i`` with seed ``seed + i``, or ``seed[i]``. ``options["reset_mask"]``, bool
        ``[num_envs]``, leaves those where it is false as they are."""
        if seed is None:
            seeds: Sequence[int | None] = [None] * self.num_envs
        else:
            several = isinstance(seed, Sequence | np.ndarray) and not isinstance(seed, str)
            seeds = seed if several else [checked_seed(seed) + i for i in range(self.num_envs)]  # type: ignore[assignment]
        options = dict(options or {})
        chosen = options.pop("reset_mask", None)
        if chosen is None:
            chosen = np.ones(self.num_envs, np.bool_)
        for name, given in (("seed", seeds), ("options['reset_mask']", chosen)):
            if len(given) != self.num_envs:
                raise ValueError(f"{name} has {len(given)} entries: expected {self.num_envs}, one an environment.")
        infos: list[dict[str, Any]] = [{} for _ in self.envs]
        for i in np.flatnonzero(chosen).tolist():
            self._observations[i], infos[i] = self.envs[i].reset(seed=seeds[i], options=options or None)
            self._over[i], self._steps[i] = False, 0
        return tuple(self._observations), _columns(infos)

    def step(
        self, actions: Sequence[str]
    ) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step in each environment."""
        n = self.num_envs
        if len(actions) != n:
            raise ValueError(f"{len(actions)} actions for {n} environments: expected one each.")
        rewards, terminated, truncated = np.zeros(n), np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        infos = []
        for i, (env, action) in enumerate(zip(self.envs, actions, strict=True)):
            if self._over[i]:
                self._observations[i], info = env.reset()
                self._over[i], self._steps[i] = False, 0
            else:
                self._observations[i], rewards[i], ended, cut, info = env.step(action)
                self._steps[i] += 1
                cut = cut or (self._steps[i] == self._longest and not ended)
                terminated[i], truncated[i], self._over[i] = ended, cut, ended or cut
            infos.append(info)
        return tuple(self._observations), rewards, terminated, truncated, _columns(infos)

    def render(self) -> tuple[str | np.ndarray | None, ...]:  # type: ignore[override]
        return tuple(env.render() for env in self.envs)

    def close_extras(self, **kwargs: Any) -> None:
        for env in self.envs:
            env.close()


def _columns(infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The infos of all environments, a column a key, as ``VectorEnv._add_info`` lays them out."""
    columns: dict[str, Any] = {}
    n = len(infos)
    for key in dict.fromkeys(key for info in infos for key in info):
        rows = [i for i, info in enumerate(infos) if key in info]
        values = [infos[i][key] for i in rows]
        there = np.zeros(n, np.bool_)
        there[rows] = True
        if all(isinstance(value, dict) for value in values):
            columns[key] = _columns([info.get(key, {}) for info in infos])
        else:
            kinds = {type(value) for value in values}
            kind = kinds.pop() if len(kinds) == 1 else object  # an int's column would cut another's float
            plain = kind in (bool, int, float) or issubclass(kind, np.number)
            column = np.zeros(n, kind) if plain else np.full(n, None, object)
            for i, value in zip(rows, values, strict=True):
                column[i] = value
            columns[key] = column
        columns[f"_{key}"] = there
    return columns
