"""The methods of the credit benchmark: what each collects under the budget of samples, and the rows that it makes.

Collection and extraction are the package's own: ``play`` with a policy's agent, ``search`` with roll-outs of the same
policy, the extractors of ``search.extraction``, ``segments``, ``audit`` and ``credit``, with the settings of the recipe
of the same name where there is one. A sample is one action drawn from the policy, or one prompt that a tree scores;
what batches bought beyond the budget is cut off, an episode or a tree at a time, and at least one is kept. Methods that
collect alike share what was collected.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ...envs.play.episode import Episode
from ...envs.play.players import PolicyAgent
from ...envs.play.playing import run_episodes
from ...envs.play.task import Task, start
from ...envs.play.transcript import Transcript
from ...search import PolicyRollout, SearchSettings, Tree, search, sibling_pairs
from ...search.audit import Verdict, audited, relabelled, swapped
from ...search.credit import (
    StepAdvantage,
    group_advantages,
    pooled_advantages,
    state_pairs,
    tree_advantages,
    vine_advantages,
)
from ...search.extraction import (
    PreferencePair,
    best_paths,
    rollout_anchors,
    successful_trajectories,
    trajectory_pairs,
)
from ...search.rules.options import Puct
from ...search.segments import Length, segment_pairs
from .cells import Cell, table_policy

GOALS: Final = 24
"""Goals, of four keys: six of each."""
TREES_A_BATCH: Final = 8
EPISODES_A_BATCH: Final = 8
"""Episodes whose states are valued together."""
SIMULATIONS: Final = 2
"""Of a tree, for each point of the chain."""
ROLLS: Final = 4
"""Roll-outs a side of a pair that is verified, and from each state of ``vine_ppo`` (its paper has nine, of which the
budget would pay too few)."""
VERIFIED_A_TREE: Final = 4
THRESHOLD: Final = 0.3
MIN_VISITS: Final = 2
PER_NODE: Final = 3
PER_TASK: Final = 4
STATE_ERRORS: Final = 1.0
"""By so many standard errors the means of ``state_dpo`` differ."""
WINNERS_A_TREE: Final = 2
"""Paths of a tree, and roll-outs, that are imitated."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What a method learns from: ``pairs`` (without a rejected side: to imitate), or ``advantages``; the samples that
    it used, and the CPU seconds of collecting them, also where another method has collected them already."""

    samples: int
    seconds: float
    pairs: Sequence[PreferencePair] = ()
    advantages: Sequence[StepAdvantage] = ()


@dataclass(frozen=True, slots=True)
class _Grown:
    """A tree, and the actions of its successful roll-outs."""

    tree: Tree
    winners: list[PreferencePair]


def generator(seed: int, *names: str) -> np.random.Generator:
    """Each piece of work draws from a generator of its own, of the seed and its name."""
    return np.random.default_rng([seed, *"/".join(names).encode()])


def last_seen(prompt: Transcript) -> str:
    """Which states are equal: what is observed there."""
    return prompt[-1].text


class Samples:
    """What a cell and a seed offer: episodes and trees by the base policy, collected once, as far as somebody asks."""

    def __init__(self, cell: Cell, seed: int) -> None:
        self.seed, self.budget = seed, cell.budget * cell.horizon
        self.name = cell.name
        self.task = cell.task(seed)
        self.base = cell.base(self.task)
        self.policy = table_policy(self.base)
        self.agent = PolicyAgent(self.policy, 1.0)
        self.tasks: list[Task] = [{"seed": goal, "options": {"goal": goal}} for goal in range(GOALS)]
        self.settings = SearchSettings(
            simulations=SIMULATIONS * cell.horizon,
            selection=Puct(exploration=2.0),
            uniform_prior=0.1,
            revisit=True,
            solve=not self.task.is_noisy,
        )
        self._episodes: list[Episode] = []
        self._trees: list[_Grown] = []
        self._seconds = {"episodes": 0.0, "trees": 0.0}

    def generator(self, *names: str) -> np.random.Generator:
        return generator(self.seed, self.name, *names)

    def episodes(self, limit: float) -> tuple[list[Episode], int, float]:
        """The episodes that ``limit`` samples pay for, pass after pass over the goals; their samples and seconds."""
        began, passes = time.process_time(), len(self._episodes) // GOALS
        while sum(each.model_calls for each in self._episodes) < limit:
            seed = int(self.generator("episodes", str(passes)).integers(2**31))
            self._episodes += run_episodes(self.task, self.tasks, self.agent, seed)
            passes += 1
        self._seconds["episodes"] += time.process_time() - began
        costs = [each.model_calls for each in self._episodes]
        used = within(limit, costs)
        return self._episodes[:used], sum(costs[:used]), self._seconds["episodes"] * sum(costs[:used]) / sum(costs)

    def trees(self, limit: float) -> tuple[list[_Grown], list[int], float]:
        """The trees that ``limit`` samples pay for, goal after goal; the samples of each, and the seconds of all."""
        began = time.process_time()
        while sum(_calls(each) for each in self._trees) < limit:
            first = len(self._trees)
            goals = [self.tasks[number % GOALS] for number in range(first, first + TREES_A_BATCH)]
            rngs = self.generator("trees", str(first)).spawn(len(goals))
            evaluator = PolicyRollout(self.policy, keep_successes=True)
            roots = [start(self.task, goal) for goal in goals]
            found = search(self.task, roots, self.policy, evaluator, self.settings, rngs)
            winners, _ = rollout_anchors(evaluator.take_successes(), found, per_tree=WINNERS_A_TREE)
            self._trees += [_Grown(tree, [row for row in winners if row.tree == tree.index]) for tree in found]
        self._seconds["trees"] += time.process_time() - began
        costs = [_calls(each) for each in self._trees]
        used = within(limit, costs)
        return self._trees[:used], costs[:used], self._seconds["trees"] * sum(costs[:used]) / sum(costs)


def within(limit: float, costs: Sequence[int]) -> int:
    """How many of the first ``costs`` add up to no more than ``limit``; at least one."""
    return max(1, int(np.searchsorted(np.cumsum(costs), limit, side="right")))


def _calls(grown: _Grown) -> int:
    return grown.tree.counters["model_calls"]


# ---- methods ----------------------------------------------------------------------------------------------------


def null(samples: Samples) -> Rows:
    return Rows(0, 0.0)


def rft(samples: Samples) -> Rows:
    episodes, used, seconds = samples.episodes(samples.budget)
    return Rows(used, seconds, _successes(episodes))


def trajectory_dpo(samples: Samples, per_task: int = PER_TASK) -> Rows:
    episodes, used, seconds = samples.episodes(samples.budget)
    return Rows(used, seconds, [*_trajectory_pairs(samples, episodes, per_task), *_successes(episodes)])


def trajectory_dpo_8(samples: Samples) -> Rows:
    return trajectory_dpo(samples, 8)


def tree_sft(samples: Samples) -> Rows:
    trees, used, seconds = samples.trees(samples.budget)
    return Rows(sum(used), seconds, _winning_steps(trees))


def step_dpo(samples: Samples) -> Rows:
    trees, used, seconds = samples.trees(samples.budget)
    return Rows(sum(used), seconds, [*_siblings(trees), *_winning_steps(trees)])


def broken(samples: Samples) -> Rows:
    """The pairs of ``step_dpo`` with their sides exchanged, and nothing to imitate: what must not work."""
    trees, used, seconds = samples.trees(samples.budget)
    return Rows(sum(used), seconds, [swapped(pair) for pair in _siblings(trees)])


def step_dpo_verified(samples: Samples) -> Rows:
    """Of each tree the four pairs that differ most, rolled anew: kept where the roll-outs confirm them by the
    threshold. The budget pays the roll-outs."""
    trees, costs, seconds = samples.trees(samples.budget)
    began = time.process_time()
    pairs: list[PreferencePair] = []
    owners: list[int] = []
    for number, grown in enumerate(trees):
        found, _ = sibling_pairs(grown.tree, 0.1, contrast="best", per_node=1)
        found.sort(key=lambda pair: pair.rejected_q - pair.chosen_q)
        pairs += found[:VERIFIED_A_TREE]
        owners += [number] * len(found[:VERIFIED_A_TREE])
    rngs = samples.generator("verified").spawn(len(pairs))
    spent, kept = list(costs), []
    for first in range(0, len(pairs), 2 * TREES_A_BATCH):
        some = slice(first, first + 2 * TREES_A_BATCH)
        verdicts = audited(pairs[some], samples.task, samples.agent, rngs[some], ROLLS)
        for owner, pair, verdict in zip(owners[some], pairs[some], verdicts, strict=True):
            if isinstance(verdict, Verdict):
                spent[owner] += verdict.model_calls
                if verdict.gap >= THRESHOLD:
                    kept.append((owner, relabelled(pair, verdict)))
        if sum(spent[: owners[some][-1] + 1]) > samples.budget:
            break
    count = within(samples.budget, spent)
    seconds = seconds * sum(costs[:count]) / sum(costs) + time.process_time() - began
    verified = [pair for owner, pair in kept if owner < count]
    return Rows(sum(spent[:count]), seconds, [*verified, *_winning_steps(trees[:count])])


def segments(samples: Samples, length: Length = "n/3") -> Rows:
    trees, used, seconds = samples.trees(samples.budget)
    return Rows(sum(used), seconds, [*_segments(trees, length, PER_NODE), *_winning_steps(trees)])


def suffix(samples: Samples) -> Rows:
    return segments(samples, "all")


def mixed(samples: Samples) -> Rows:
    trees, costs, tree_seconds = samples.trees(samples.budget / 2)
    episodes, used, seconds = samples.episodes(samples.budget - sum(costs))
    pairs = [*_trajectory_pairs(samples, episodes, PER_TASK), *_segments(trees, "n/3", 1), *_siblings(trees)]
    return Rows(sum(costs) + used, tree_seconds + seconds, [*pairs, *_successes(episodes)])


def grpo(samples: Samples) -> Rows:
    return gigpo(samples, weight=0.0)


def gigpo(samples: Samples, weight: float = 1.0) -> Rows:
    episodes, used, seconds = samples.episodes(samples.budget)
    return Rows(used, seconds, advantages=group_advantages(episodes, last_seen, weight=weight)[0])


def pooled(samples: Samples) -> Rows:
    episodes, used, seconds = samples.episodes(samples.budget)
    return Rows(used, seconds, advantages=pooled_advantages(episodes, last_seen)[0])


def pooled_dpo(samples: Samples) -> Rows:
    """At each state of the episodes of a task the action of the largest mean return against each other one, with the
    filters of ``step_dpo``; successful episodes are imitated."""
    episodes, used, seconds = samples.episodes(samples.budget)
    states: dict[tuple[int, str], dict[str, StepAdvantage]] = defaultdict(dict)
    for row in pooled_advantages(episodes, last_seen)[0]:
        states[row.tree, last_seen(row.prompt)][row.action[0].text] = row
    pairs = []
    for actions in states.values():
        ranked = sorted((row for row in actions.values() if row.visits >= MIN_VISITS), key=lambda row: row.q)
        pairs += [
            PreferencePair(ranked[-1].prompt, ranked[-1].action, row.action, ranked[-1].q, row.q, task=row.task)
            for row in ranked[:-1][:PER_NODE]
            if ranked[-1].q - row.q >= THRESHOLD
        ]
    return Rows(used, seconds, [*pairs, *_successes(episodes)])


def state_dpo(samples: Samples) -> Rows:
    episodes, used, seconds = samples.episodes(samples.budget)
    pairs, _ = state_pairs(episodes, last_seen, THRESHOLD, per_state=PER_NODE, z=STATE_ERRORS)
    return Rows(used, seconds, pairs)


def tree_grpo(samples: Samples) -> Rows:
    trees, used, seconds = samples.trees(samples.budget)
    rows = [tree_advantages(each.tree, min_visits=MIN_VISITS, normalise=True)[0] for each in trees]
    return Rows(sum(used), seconds, advantages=[row for found in rows for row in found])


def vine_ppo(samples: Samples) -> Rows:
    """Batches of episodes with roll-outs from their states, until the samples are used up."""
    episodes, _, seconds = samples.episodes(samples.budget)
    began = time.process_time()
    rng = samples.generator("values")
    rows: list[StepAdvantage] = []
    costs: list[int] = []
    for first in range(0, len(episodes), EPISODES_A_BATCH):
        some = episodes[first : first + EPISODES_A_BATCH]
        found, _, spent = vine_advantages(samples.task, some, samples.agent, rng.spawn(len(some)), ROLLS)
        rows += [replace(row, tree=first + row.tree) for row in found]
        costs += [calls + each.model_calls for calls, each in zip(spent, some, strict=True)]
        if sum(costs) > samples.budget:
            break
    count = within(samples.budget, costs)
    seconds *= sum(each.model_calls for each in episodes[:count]) / sum(each.model_calls for each in episodes)
    seconds += time.process_time() - began
    return Rows(sum(costs[:count]), seconds, advantages=[row for row in rows if row.tree < count])


Method = Callable[[Samples], Rows]
METHODS: Final[dict[str, Method]] = {
    method.__name__: method
    for method in (
        *(null, rft, tree_sft, trajectory_dpo, trajectory_dpo_8, step_dpo, step_dpo_verified, segments, suffix, mixed),
        *(pooled_dpo, state_dpo, grpo, gigpo, pooled, tree_grpo, vine_ppo, broken),
    )
}
CONTROLS: Final = ("null", "broken")
"""Not to be chosen."""


# ---- rows -------------------------------------------------------------------------------------------------------


def _successes(episodes: Sequence[Episode]) -> list[PreferencePair]:
    return successful_trajectories(episodes, per_task=PER_TASK)[0]


def _trajectory_pairs(samples: Samples, episodes: Sequence[Episode], per_task: int) -> list[PreferencePair]:
    return trajectory_pairs(episodes, per_task=per_task, rng=samples.generator("pairs"))[0]


def _siblings(trees: Sequence[_Grown]) -> list[PreferencePair]:
    return [
        pair
        for each in trees
        for pair in sibling_pairs(each.tree, THRESHOLD, MIN_VISITS, contrast="best", per_node=PER_NODE)[0]
    ]


def _segments(trees: Sequence[_Grown], length: Length, per_node: int) -> list[PreferencePair]:
    return [
        pair
        for each in trees
        for pair in segment_pairs(each.tree, length, threshold=THRESHOLD, min_visits=MIN_VISITS, per_node=per_node)[0]
    ]


def _winning_steps(trees: Sequence[_Grown]) -> list[PreferencePair]:
    """The actions of the best paths and of successful roll-outs."""
    return [
        pair for each in trees for pair in (*best_paths(each.tree, paths=WINNERS_A_TREE)[0], *each.winners)
    ]  # fmt: skip
