"""Numbers instead of words for the actions, so that classic reinforcement learning can play text environments.

>>> import gymnasium as gym, branchwise
>>> from branchwise.envs.shells import DiscreteActions
>>> env = DiscreteActions(gym.make("branchwise/WebShop-v0", observation_mode="compact"), n=32)
>>> observation, info = env.reset(seed=0)
>>> env.action_space
Discrete(32)
>>> info["action_texts"][0].startswith("search[")
True
>>> observation, reward, terminated, truncated, info = env.step(0)
>>> info["action_texts"][0], int(info["action_mask"].sum())
('click[back to search]', 12)

How an action gets its number, and what stands in where any text may be an answer: see ``abilities``. A simulator that
lists all its actions (games do) has a number for each, the same in every state. Elsewhere a number counts through the
actions of the state; a search field or a reply in free text is filled from what the simulator suggests, or with phrases
that were read: a dozen choices, among which there may not be the best one. Observations stay texts, unless
``arrays=True``: then they are what ``abilities.array_of`` makes of them, for networks without a tokenizer.
"""

from typing import Any

import gymnasium as gym
import numpy as np

from ..abilities import ActionTable, array_of, array_space
from .gym import SimulatorEnv


class DiscreteActions(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """``env``, any of our Gymnasium environments, with ``Discrete`` actions.

    ``info["action_mask"]``: int8 ``[n]``, 1 where a number stands for an action now, as ``action_space.sample(mask)``
    takes it; ``action_masks()`` is the same for sb3-contrib. ``info["action_texts"]``: what each of the ``n`` numbers
    means, ``None`` for nothing (a tuple, as vectors of Gymnasium take no dictionary of numbers). A number that stands
    for nothing is an invalid action. ``n``: how many numbers there are, where the simulator does not say; actions
    beyond have none, and ``info["actions_left_out"]`` counts them.
    """

    def __init__(self, env: gym.Env[str, str], n: int | None = None, arrays: bool = False) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, n=n, arrays=arrays)
        gym.Wrapper.__init__(self, env)
        shell = env.unwrapped
        if not isinstance(shell, SimulatorEnv):
            raise TypeError(f"DiscreteActions({env!r}): expected an environment of branchwise (a SimulatorEnv).")
        if n is not None and n < 1:
            raise ValueError(f"n={n}: expected at least 1.")
        self._shell = shell
        self._table = ActionTable(shell.simulator, n)
        self._arrays = arrays
        self.action_space = gym.spaces.Discrete(self._table.n)
        if arrays:
            self.observation_space = array_space(shell.simulator)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return self._seen(observation), self._told(info)

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        text = self._table.text(self._shell.state, int(action))
        observation, reward, terminated, truncated, info = self.env.step(text)
        return self._seen(observation), float(reward), terminated, truncated, self._told(info)

    def action_masks(self) -> np.ndarray:
        """``info["action_mask"]`` of now as bool ``[n]``, under the name by which sb3-contrib asks for it."""
        return self._table.mask(self._shell.state).astype(np.bool_)

    def _seen(self, observation: str) -> Any:
        return array_of(self._shell.simulator, self._shell.state, 0) if self._arrays else observation

    def _told(self, info: dict[str, Any]) -> dict[str, Any]:
        state = self._shell.state
        info["is_success"] = info["success"]  # the name under which stable-baselines3 looks for it
        info["action_mask"] = np.array(self._table.mask(state))
        info["action_texts"] = tuple(map(self._table.texts(state).get, range(self._table.n)))
        info["actions_left_out"] = self._table.left_out(state)
        return info
