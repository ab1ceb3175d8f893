"""What is to be played: tasks as data, where each starts, and the tasks of an environment's splits.

A task is JSON-able and says all that makes an episode: the environment and its options, the seed and the options of its
reset. Where an environment has numbered goals a task is a goal; elsewhere it is a seed, and no seed belongs to two
splits. In a game whose agent has one side the seats take turns, so that tasks 2k and 2k + 1 are one seed from both.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypedDict

import numpy as np

from ..opponents import draw_outcome, past_chance
from ..registry import EnvironmentRow, environment_row, simulator_for
from ..simulator import Simulator
from ..views import VIEW_OPTIONS, SinglePlayerView
from .transcript import Transcript, observed, said

FIRST_SEED: Final = {"test": 0, "validation": 1_000_000_000, "train": 2_000_000_000}
"""Of the tasks of each split, where an environment has no goals."""


class Task(TypedDict, total=False):
    """What is to be played. ``env_options`` made the simulator, ``seed`` and ``options`` are those of its reset;
    ``dealt``: the outcomes of the luck before the first decision, where they are not drawn from the seed."""

    env_id: str
    env_options: dict[str, Any]
    seed: int
    options: dict[str, Any]
    dealt: list[str]


@dataclass(frozen=True, slots=True)
class Root:
    """Where an episode or a tree starts: a state, what the player to move saw and did until then (the observation of
    the state last), and the task that it belongs to. In the middle of an episode ``moves`` are what all players and
    luck did since the task's first decision (``None``: the actions of the transcript), and ``others`` what the other
    players saw and did."""

    state: Any
    transcript: Transcript = ()
    task: dict[str, Any] = field(default_factory=dict)
    moves: tuple[str, ...] | None = None
    others: Mapping[int, Transcript] = field(default_factory=dict)


def task_key(task: Mapping[str, Any]) -> str:
    """One text for tasks that are equal: what episodes and trees are grouped and found by."""
    return json.dumps(task, sort_keys=True, default=str)


def places_by_task(tasks: Iterable[Mapping[str, Any]]) -> list[list[int]]:
    """The places of equal tasks, in order of first appearance."""
    places: dict[str, list[int]] = {}
    for place, task in enumerate(tasks):
        places.setdefault(task_key(task), []).append(place)
    return list(places.values())


def start(simulator: Simulator[Any], task: Mapping[str, Any]) -> Root:
    """Where ``task`` begins: its first state, and what is observed there by who is to move."""
    state = first_state(simulator, task)
    return Root(state, (observed(said(simulator, state)),), dict(task))


def first_state(simulator: Simulator[Any], task: Mapping[str, Any]) -> Any:
    """The state of the first decision of ``task``: after its reset, and after the luck before it, which is drawn from
    the task's seed where the task does not have it."""
    state = simulator.reset(int(task["seed"]), task.get("options"))
    if "dealt" in task:
        for outcome in task["dealt"]:
            state = simulator.step(state, outcome)
    else:
        rng = np.random.default_rng(int(task["seed"]))
        state, _ = past_chance(simulator, state, lambda state: draw_outcome(simulator, state, rng))
    return state


@dataclass(frozen=True, slots=True)
class TaskSource:
    """The simulators and tasks of an environment. ``env``: an id (``registry.environment_row``); ``options``: as for
    ``gym.make``, without ``split``. A game with ``opponents`` or ``player`` among them is one player's side of it."""

    env: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def row(self) -> EnvironmentRow:
        return environment_row(self.env)

    def behind_view(self) -> "TaskSource":
        """The same for all players, as a search meets a game."""
        return TaskSource(self.env, {name: value for name, value in self.options.items() if name not in VIEW_OPTIONS})

    def simulator(self, split: str, **more: Any) -> Simulator[Any]:
        """The simulator, made with ``more`` options too. Raises what ``registry.simulator_for`` does."""
        return simulator_for(self.env, **self._options(split), **more)

    def tasks(self, simulator: Simulator[Any], split: str, count: int, first: int = 0) -> list[Task]:
        """``count`` tasks of ``split`` from number ``first`` on, for its ``simulator``. Raises ``ValueError`` where the
        split has fewer goals."""
        goals = goal_count(simulator)
        if goals is not None and first + count > goals:
            raise ValueError(f"split {split!r} of {self.env} has {goals} goals; {first + count} are asked for")
        numbers = range(first, first + count)
        if goals is not None:
            common = self._common(split)
            return [{**common, "seed": number, "options": {"goal": number}} for number in numbers]
        seats = len(self._seats(simulator))
        return self._seeded(simulator, split, [(number // seats, number) for number in numbers])

    def sampled_tasks(self, simulator: Simulator[Any], split: str, seeds: Sequence[int]) -> list[Task]:
        """A task a seed (from 0 below 10⁹): where there are goals, of the goal that the seed draws."""
        return self._seeded(simulator, split, [(seed, place) for place, seed in enumerate(seeds)])

    def _seeded(self, simulator: Simulator[Any], split: str, turns: Sequence[tuple[int, int]]) -> list[Task]:
        """Tasks of (seed, turn): seeds count from the split's first, unless the simulator keeps the splits apart; the
        seats take turns."""
        common, seats = self._common(split), self._seats(simulator)
        first = 0 if self.row.splits or goal_count(simulator) is not None else FIRST_SEED[split]
        return [
            {**common, "seed": first + seed, "options": {"player": seats[turn % len(seats)]} if len(seats) > 1 else {}}
            for seed, turn in turns
        ]

    def _common(self, split: str) -> Task:
        return {"env_id": self.row.id, "env_options": self._options(split)}

    def _options(self, split: str) -> dict[str, Any]:
        return {**self.options, "split": split} if self.row.splits else dict(self.options)

    def _seats(self, simulator: Simulator[Any]) -> Sequence[int]:
        """Whose side of a game is played: each player's in turn, unless ``player`` names one."""
        if not isinstance(simulator, SinglePlayerView) or "player" in self.options:
            return (0,)
        return range(simulator.simulator.players)


def goal_count(simulator: Simulator[Any]) -> int | None:
    """How many numbered goals the simulator's split has (``reset(options={"goal": i})``), None where it has none.
    Raises ``ValueError`` for a ``goal_count`` that is no number of goals."""
    count = getattr(simulator, "goal_count", None)
    if count is not None and (type(count) is not int or count < 1):
        raise ValueError(f"{type(simulator).__name__}.goal_count is {count!r:.80}; expected a whole number from 1 on")
    return count
