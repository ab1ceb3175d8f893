"""Collecting what recipes learn from, with a policy, under a budget of model calls.

Episodes are sampled as the agent would play; trees are searched, in games of several players by self-play, a tree a
decision. Each is a stage of the run: batches are parts of it, so that a killed collection takes them up again.

Budgets are equal for all recipes: an answer is a model call, and what was bought beyond the budget is cut off, since
batches are bought whole.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from ...envs.play.episode import Episode
from ...envs.play.players import PolicyAgent
from ...envs.play.playing import run_episodes
from ...envs.play.task import Task, start
from ...search import (
    PolicyRollout,
    RandomRollout,
    SearchSettings,
    Tree,
    load_pairs,
    load_trees,
    save_pairs,
    save_trees,
    search,
    self_play,
)
from ...search.extraction import PreferencePair, best_paths, rollout_anchors
from ...search.store import load_episodes, save_episodes
from ..stages import StageContext
from .agents import policy_in
from .recipe import RunConfig
from .slots import Collect, Trees
from .tasks import generator, goals_of, searched_simulator, simulator_of, source_of, tasks_of

TREES_A_BATCH: Final = 32
WINNERS_A_TREE: Final = 2
"""Successful roll-outs that are kept of each tree."""


def collect(
    context: StageContext, *, config: RunConfig, slot: Collect, round: int, policy: str | Path
) -> dict[str, Any]:
    """The stage: what ``slot`` says, with a model, on the tasks of ``round``."""
    if isinstance(slot, Trees):
        found = collect_trees(context, config, slot.settings(config.search), round, policy)
    else:
        found = collect_episodes(context, config, round, policy)
    return {"seed": config.seed, "round": round, "history": config.history, **found}


def collect_episodes(context: StageContext, config: RunConfig, round: int, policy: str | Path) -> dict[str, Any]:
    """Sample episodes of the round's goals, pass after pass, until the model calls are used up."""
    simulator = simulator_of(config, "train")
    agent = PolicyAgent(policy_in(context, config, policy), temperature=config.temperature)
    tasks = tasks_of(config, "train", round)
    episodes: list[Episode] = []
    calls, passes = 0, 0
    while calls < config.model_calls:
        part = context.parts / f"{passes}.jsonl"
        if not part.is_file():
            save_episodes(part, run_episodes(simulator, tasks, agent, config.seed + 1000 * round + passes))
        episodes += load_episodes(part)
        calls = sum(episode.model_calls for episode in episodes)
        passes += 1
        context.tell(calls, config.model_calls, f"{len(episodes):,} episodes")
    episodes = episodes[: _within(config.model_calls, [episode.model_calls for episode in episodes])]
    calls = sum(episode.model_calls for episode in episodes)
    save_episodes(context.folder / "episodes.jsonl", episodes)
    return {
        "goals": len(tasks),
        "tries": len(episodes),
        "model_calls": calls,
        "prompts": calls,  # each for one action
        "success": float(np.mean([episode.success for episode in episodes])),
        "solved_goals": len({_name_of(e.task) for e in episodes if e.success}),
    }


def collect_trees(
    context: StageContext, config: RunConfig, settings: SearchSettings, round: int, policy: str | Path
) -> dict[str, Any]:
    """Search the round's goals, until they or the model calls are used up."""
    first = (round - 1) * config.train_goals
    tasks = goals_of(source_of(config).behind_view(), "train", first, config.train_goals)
    rng = generator(config.seed, "trees", str(round))
    trees, winners = _grow(context, config, policy, tasks, settings, rng, config.model_calls, round)
    save_trees(context.folder / "trees.parquet", trees)
    if winners:
        save_pairs(context.folder / "winners.jsonl", winners)
    return _grown(trees)


def collect_critic_trees(context: StageContext, *, config: RunConfig, policy: str, place: int) -> dict[str, Any]:
    """Small trees on goals that no round has used, by a policy that acts with search: what the critic learns from."""
    first = config.rounds * config.train_goals + place * config.critic_goals
    tasks = goals_of(source_of(config).behind_view(), "train", first, config.critic_goals)
    trees, _ = _grow(context, config, policy, tasks, config.critic_search, generator(config.seed, "critic", str(place)))
    save_trees(context.folder / "trees.parquet", trees)
    return _grown(trees)


def _grow(
    context: StageContext, config: RunConfig, model: str | Path, tasks: Sequence[Task], settings: SearchSettings,
    rng: np.random.Generator, limit: float = math.inf, round: int = 0,
) -> tuple[list[Tree], list[PreferencePair]]:  # fmt: skip
    """Trees of the tasks, until ``limit`` model calls are used up, and the actions of roll-outs that succeeded."""
    simulator, policy = searched_simulator(config), policy_in(context, config, model)
    one_player = simulator.players == 1
    evaluator = (
        PolicyRollout(policy, temperature=config.temperature, keep_successes=one_player)
        if config.leaves == "policy"
        else RandomRollout(keep_successes=one_player)
    )
    rngs = rng.spawn(len(tasks))
    trees: list[Tree] = []
    winners: list[PreferencePair] = []
    calls = 0
    for first in range(0, len(tasks), TREES_A_BATCH):
        if calls >= limit:
            break
        part, won = context.parts / f"{first}.parquet", context.parts / f"{first}.jsonl"
        if not part.is_file():
            some, own = tasks[first : first + TREES_A_BATCH], rngs[first : first + TREES_A_BATCH]
            if simulator.players > 1:
                found = self_play(simulator, some, policy, evaluator, settings, own)
            else:
                roots = [start(simulator, task) for task in some]
                found = search(simulator, roots, policy, evaluator, settings, own)
            anchors, _ = rollout_anchors(evaluator.take_successes(), found, per_tree=WINNERS_A_TREE, round=round)
            for tree in found:
                tree.index += len(trees)
            if anchors:
                save_pairs(won, [replace(pair, tree=len(trees) + pair.tree) for pair in anchors])
            save_trees(part, found)  # last: where it stands, both do
        trees += load_trees(part)
        winners += load_pairs(won) if won.is_file() else []
        calls = sum(tree.counters["model_calls"] for tree in trees)
        context.tell(min(first + TREES_A_BATCH, len(tasks)), len(tasks), f"{calls:,} model calls")
    kept = _within(limit, [tree.counters["model_calls"] for tree in trees])
    return trees[:kept], [pair for pair in winners if pair.tree < kept]


def _within(limit: float, costs: Sequence[int]) -> int:
    """How many of the first ``costs`` add up to no more than ``limit``; at least one. So recipes learn from what equal
    budgets bought, however large the batches were in which it was bought."""
    return max(1, int(np.searchsorted(np.cumsum(costs), limit, side="right")))


def _name_of(task: Mapping[str, Any]) -> str:
    return json.dumps(task, sort_keys=True)


def _grown(trees: Sequence[Tree]) -> dict[str, Any]:
    counters: Counter[str] = sum((Counter(tree.counters) for tree in trees), Counter())
    solved = {_name_of(tree.task) for tree in trees if best_paths(tree)[0]}
    return {
        "goals": len({_name_of(tree.task) for tree in trees}),
        "tries": counters["simulations"],
        "nodes": sum(len(tree) for tree in trees),
        "solved_goals": len(solved),
        **{name: int(count) for name, count in sorted(counters.items())},
    }
