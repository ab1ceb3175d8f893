"""Any environment of ours as an environment of TRL's ``GRPOTrainer`` (``environment_factory``, TRL 1.x).

>>> from branchwise.envs.grpo import grpo_environment
>>> factory = grpo_environment("branchwise/WebShop-v0", observation_mode="compact")
>>> environment = factory()
>>> print(environment.reset(seed=3)[:4])
goal

``GRPOTrainer(…, environment_factory=factory, train_dataset=rows)``: TRL calls ``reset(**row)`` with a row's columns and
appends what it returns to the prompt, offers the public methods as tools, and asks ``get_reward()`` at the end.
``episodes(n)`` makes such rows. Without a data set, the environment owns the data: ``grpo_environment(…,
num_generations=8)`` counts the episodes itself, and each reset answers with instruction and first observation.

Not handled here: games in which the trained model plays both sides (the other players are ``opponents``), one tool a
kind of action (there is one tool, ``act``), and environments that own the data in several processes, each of which
would count from the first episode: give those a data set.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .arguments import checked_seed
from .registry import make_env
from .simulator import TERMINAL, Simulator

INSTRUCTION = "Reach the goal by calling the tool act, one action at a time.\n\n"
_MOST_SHOWN = 40


class GRPOEnvironment:
    """One rollout at a time over ``simulator``, a single-player simulator, which many instances may share.

    ``seeds``: where rows name no seed, those of the episodes to come, shared by all instances too.
    """

    def __init__(self, simulator: Simulator[Any], seeds: Iterator[int] | None = None) -> None:
        if simulator.players != 1:
            raise ValueError(f"{simulator.players} players; pass SinglePlayerView(simulator, player, opponents).")
        self._simulator = simulator
        self._seeds = seeds
        self._state: Any = None
        self._earned = 0.0

    def reset(
        self,
        seed: int | None = None,
        options: Mapping[str, Any] | None = None,
        prompt: str | Sequence[Mapping[str, Any]] | None = None,
        **row: Any,
    ) -> str:
        """Start the episode that a row names by ``seed`` and ``options`` (as for ``env.reset``); the rest is ignored.
        Where the row's ``prompt`` is empty, the answer begins with the instruction.

        GRPO compares rollouts of one row, so that all must be the same episode: ``ValueError`` without a seed, unless
        the environment owns the data.
        """
        if seed is None and self._seeds is None:
            raise ValueError(
                f"A row has no seed, so that its rollouts would be different episodes (other columns: {sorted(row)}): "
                "add a column seed (grpo.episodes makes rows), or leave the data to the environment: "
                "grpo_environment(…, num_generations=…), as in GRPOConfig."
            )
        if seed is None and self._seeds is not None:
            seed = next(self._seeds)
        self._state = self._simulator.reset(checked_seed(seed), options)
        self._earned = 0.0
        return f"{INSTRUCTION}{self._page()}" if _is_empty(prompt) else self._page()

    def act(self, action: str) -> str:
        """
        Do something in the environment, and read what comes of it.

        Args:
            action: What to do: one of the actions that were listed last, exactly as it is written there. Where an
                action has an ellipsis (…), write your own text in its place.

        Returns:
            What there is to see after the action, and the actions to choose from.
        """
        if self._state is None:
            raise RuntimeError("act() was called before reset(): call reset with a row first.")
        if self._simulator.current_player(self._state) == TERMINAL:
            return "The episode is over. Nothing more can be done."
        self._state = self._simulator.step(self._state, action if isinstance(action, str) else f"{action}")
        self._earned += float(self._simulator.rewards(self._state)[0])
        return self._page()

    def get_reward(self) -> float:
        """The sum of the episode's rewards so far."""
        return self._earned

    def _page(self) -> str:
        seen = self._simulator.observation(self._state)
        if self._simulator.current_player(self._state) == TERMINAL:
            return f"{seen}\nThe episode is over."
        commands = self._simulator.admissible_commands(self._state)
        if commands is None:
            return seen
        shown = ", ".join(commands[:_MOST_SHOWN])
        more = f" and {len(commands) - _MOST_SHOWN} more" if len(commands) > _MOST_SHOWN else ""
        return f"{seen}\nActions: {shown}{more}"


def grpo_environment(
    env_id: str, num_generations: int | None = None, first_seed: int = 0, **options: Any
) -> Callable[[], GRPOEnvironment]:
    """A factory of environments over one simulator of ``env_id``, made with ``options`` (those of ``gym.make``).

    With ``num_generations``, that of the ``GRPOConfig``, the environments own the data: a trainer without a data set
    resets them row by row, and so many resets in turn are one episode, of the seeds from ``first_seed`` on.
    """
    if num_generations is not None and num_generations < 1:
        raise ValueError(f"num_generations={num_generations}: expected at least 1.")
    simulator = make_env(env_id, **options).simulator
    seeds = None
    if num_generations is not None:
        seeds = (seed for seed in itertools.count(first_seed) for _ in range(num_generations))
    return lambda: GRPOEnvironment(simulator, seeds)


def _is_empty(prompt: str | Sequence[Mapping[str, Any]] | None) -> bool:
    """Whether a row has a prompt that says nothing, as TRL makes it where there is no data set."""
    if prompt is None or isinstance(prompt, str):
        return prompt == ""
    return not any(turn["content"] for turn in prompt)


def episodes(n: int, instruction: str = INSTRUCTION, first_seed: int = 0) -> list[dict[str, Any]]:
    """Rows for ``Dataset.from_list``: the episodes of ``n`` seeds from ``first_seed`` on, each with ``instruction`` as
    its prompt, to which TRL appends the first observation."""
    prompt = [{"role": "user", "content": instruction}]
    return [{"prompt": prompt, "seed": first_seed + i} for i in range(n)]
