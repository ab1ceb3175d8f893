"""What a run plays: its simulators, as agents and as searches meet them, its tasks by split, its generators.

Goals: the base and the collections see the training split alone, choices are made on the validation split, the table
is the test split's. In the generated shop the splits are different catalogues.

``self`` among a game's ``opponents`` (shares by name) is the model that collects, in every seat. It counts where
episodes are sampled; all else is played against the rest of the mixture, so that figures of models and rounds compare.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...envs.noisy import NoisyVerdict
from ...envs.play.task import Task, TaskSource
from ...envs.simulator import Simulator
from ...envs.wrappers import SuccessOutcome
from .config import SELF, RunConfig


def source_of(config: RunConfig) -> TaskSource:
    """The environment as agents meet it: of a game one side, the others played by ``opponents`` but ``self``."""
    source = TaskSource(config.env, {**config.env_options, **_others(config)})
    if source.row.players > 1 and "opponents" not in source.options:
        return TaskSource(config.env, {**config.env_options, "opponents": "random"})
    return source


def _others(config: RunConfig) -> dict[str, Any]:
    """The opponents without ``self``, where it is one of several."""
    if not self_share(config):
        return {}
    rest = {name: share for name, share in config.env_options["opponents"].items() if name != SELF}
    return {"opponents": rest if len(rest) > 1 else next(iter(rest))}


def self_share(config: RunConfig) -> float:
    """The share of the sampled episodes in which a model plays all seats."""
    said = config.env_options.get("opponents")
    return said[SELF] / sum(said.values()) if isinstance(said, Mapping) and SELF in said else 0.0


def against_itself(config: RunConfig, task: Task) -> bool:
    """Whether a model plays this task against itself, drawn by the share from the run's seed and the task's: in every
    pass alike, and from all seats."""
    return generator(config.seed, SELF, str(task["seed"])).random() < self_share(config)


def simulator_of(config: RunConfig, split: str, **more: Any) -> Simulator[Any]:
    """The split's simulator as agents meet it."""
    return source_of(config).simulator(split, **more)


def sampled_simulator(config: RunConfig) -> Simulator[Any]:
    """The training split's simulator as episodes are sampled in it. Where its verdict errs, nothing but the verdict is
    paid, so that no reward tells the truth."""
    simulator = simulator_of(config, "train")
    return with_outcome(config, with_noise(config, simulator)) if config.verdict_noise else simulator


def searched_simulator(config: RunConfig, noise: bool = True) -> Simulator[Any]:
    """The training split's simulator as a search meets it, which may see outcomes: a game with all its players. Without
    ``noise`` the verdict never errs."""
    simulator = source_of(config).behind_view().simulator("train")
    return with_outcome(config, with_noise(config, simulator) if noise else simulator)


def with_noise(config: RunConfig, simulator: Simulator[Any]) -> Simulator[Any]:
    return NoisyVerdict(simulator, config.verdict_noise) if config.verdict_noise else simulator


def with_outcome(config: RunConfig, simulator: Simulator[Any]) -> Simulator[Any]:
    """The simulator whose rewards are what the run searches for."""
    return SuccessOutcome(simulator) if config.outcome == "success" and simulator.players == 1 else simulator


def tasks_of(config: RunConfig, split: str, round: int = 1) -> list[Task]:
    """The tasks of a split: of training those of ``round``, ``train_goals`` a round."""
    count = {"train": config.train_goals, "validation": config.validation_goals, "test": config.test_goals}[split]
    return goals_of(source_of(config), split, (round - 1) * count, count)


def goals_of(source: TaskSource, split: str, first: int, count: int) -> list[Task]:
    """``count`` tasks of a split from number ``first`` on."""
    return source.tasks(source.simulator(split), split, count, first)


def generator(seed: int, *names: str) -> np.random.Generator:
    """A generator of its own for each piece of work: the run's seed and the work's name."""
    return np.random.default_rng([seed, *"/".join(names).encode()])
