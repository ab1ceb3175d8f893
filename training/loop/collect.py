"""Collecting what recipes learn from, with a policy, under a budget of model calls.

Episodes are sampled as the agent would play, against itself where the run's opponents say so; trees are searched, in
games of several players by self-play, a tree a decision. Each is a stage of the run: passes of episodes and batches of
trees are parts of it, so that a killed collection takes them up again.

Budgets are equal for all recipes that ask a model: an answer is a model call, and what was bought beyond the budget is
cut off, since batches are bought whole. Trees of games that ask none (random roll-outs, equal priors) cost no call:
all goals of the round are searched, and the figures show simulations.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from ...agents.language_model import LanguageModel
from ...envs.play.agent import Agent
from ...envs.play.episode import Episode
from ...envs.play.players import PolicyAgent, scripted_agent
from ...envs.play.playing import Playing, by_agents, play, run_episodes
from ...envs.play.task import Task, places_by_task, start, task_key
from ...envs.play.transcript import Transcript
from ...envs.simulator import Simulator
from ...search import (
    PolicyRollout,
    RandomRollout,
    RankingCritic,
    SearchSettings,
    Tree,
    load_pairs,
    load_trees,
    save_pairs,
    save_trees,
    search,
    self_play,
    sibling_pairs,
)
from ...search.audit import Verdict, audited, relabelled
from ...search.credit import vine_advantages
from ...search.extraction import Outcome, PreferencePair, above_mean, best_paths, rollout_anchors
from ...search.files import atomically
from ...search.records import load_episodes, save_advantages, save_episodes
from ...search.stepwise import step_rollouts
from ..stages import StageContext
from .agents import sampler_in
from .config import RunConfig
from .extract import ROLLED, WINNERS
from .extractors import GAME_VISITS, Advantages, BestPathPairs, BestPaths, SiblingPairs
from .slots import Collect, Episodes, Mixed, StepRollouts, StepValues, Trees
from .tasks import (
    SELF,
    against_itself,
    generator,
    goals_of,
    sampled_simulator,
    searched_simulator,
    simulator_of,
    source_of,
    tasks_of,
)

TREES_A_BATCH: Final = 32
EPISODES_A_BATCH: Final = 16
GAMES_AT_ONCE: Final = 64
TOKENS: Final = ".tokens"
"""Ending of the files that hold how many tokens a part of the work cost."""
WINNERS_A_TREE: Final = 2
"""Successful roll-outs that are kept of each tree."""
ROLLED_A_TREE: Final = 4
"""Pairs of each tree whose sides are rolled, where they are."""
LEAST_ROLLED: Final = 0.1
"""The least difference of value of a pair whose sides are rolled."""
_PLAIN: Final = Trees()
Valued = tuple[Sequence[Any], Counter[str], list[int]]
"""Rows of some episodes' steps, what was dropped, and the model calls of each episode's roll-outs."""


def collect(
    context: StageContext, *, config: RunConfig, slot: Collect, round: int, policy: str | Path,
    earlier: str | Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The stage: what ``slot`` says, with a model, on the tasks of ``round``. ``earlier``: the model of the round
    before, where it takes part."""
    if isinstance(slot, Trees):
        found = collect_trees(context, config, slot, round, policy)
    elif isinstance(slot, Mixed):
        found = collect_mixed(context, config, slot, round, policy)
    elif isinstance(slot, StepRollouts):
        found = collect_steps(context, config, slot, round, policy)
    elif isinstance(slot, StepValues):
        found = collect_values(context, config, slot, round, policy)
    else:
        found = collect_episodes(context, config, slot, round, policy, earlier)
    found["tokens"] = sum(int(file.read_text()) for file in context.parts.glob(f"*{TOKENS}"))
    about = {"env": config.env, "seed": config.seed, "round": round, "history": config.history, "by": config.outcome}
    return {"gives": slot.gives, **about, **found}


def collect_episodes(
    context: StageContext, config: RunConfig, slot: Episodes, round: int, policy: str | Path,
    earlier: str | Path | None,
) -> dict[str, Any]:  # fmt: skip
    """Sample episodes of the round's goals, pass after pass, until the model calls are used up."""
    share = 0.0 if earlier is None else slot.earlier
    episodes = _sampled(context, config, policy, round, (1.0 - share) * config.model_calls)
    if share and earlier is not None:
        episodes += _sampled(context, config, earlier, round, share * config.model_calls, "earlier")
    save_episodes(context.folder / "episodes.jsonl", episodes)
    return _of_episodes(config, episodes)


def _of_episodes(config: RunConfig, episodes: Sequence[Episode]) -> dict[str, Any]:
    calls = sum(episode.model_calls for episode in episodes)
    return {
        "goals": config.train_goals,
        "tries": len(episodes),
        "model_calls": calls,
        "prompts": calls,  # each for one action
        "success": float(np.mean([episode.success for episode in episodes])),
        "solved_goals": len({task_key(e.task) for e in episodes if e.success}),
    }


def _sampled(
    context: StageContext, config: RunConfig, policy: str | Path, round: int, budget: float, who: str = "episodes"
) -> list[Episode]:
    """Episodes of a model on the round's goals for ``budget`` model calls, pass after pass over all goals. ``who``
    names the files of the passes, and their draws."""
    episodes: list[Episode] = []
    calls = 0
    passes = _passes(context, config, policy, round, who)
    while calls < budget:
        episodes += next(passes)
        calls = sum(episode.model_calls for episode in episodes)
        context.tell(calls, budget, f"{len(episodes):,} episodes")
    return episodes[: _within(budget, [episode.model_calls for episode in episodes])]


def _passes(
    context: StageContext, config: RunConfig, policy: str | Path, round: int, who: str
) -> Iterator[list[Episode]]:
    """Pass after pass over the round's goals, an episode each, without an end."""
    simulator, tasks = sampled_simulator(config), tasks_of(config, "train", round)
    model = sampler_in(context, config, policy)
    agent = PolicyAgent(model, temperature=config.temperature)
    alone = {number: task for number, task in enumerate(tasks) if against_itself(config, task)}
    for number in count():
        part = context.parts / f"{who}_{number}.jsonl"
        if not part.is_file():
            model.forget()  # scores of another batch differ in the last bit: a part depends on no earlier one
            seed = int(generator(config.seed, who, str(round), str(number)).integers(2**31))
            with _counted(model, part):
                played = run_episodes(simulator, tasks, agent, seed, done=_played_alone(config, alone, agent, seed))
            save_episodes(part, played)  # last: where it is there, its count of tokens is
        found = load_episodes(part)
        if not any(episode.model_calls for episode in found):
            raise ValueError("a pass over all goals asked the model nothing, so that no budget of calls ends it")
        yield found


def _played_alone(config: RunConfig, tasks: Mapping[int, Task], agent: Agent, seed: int) -> dict[int, Episode]:
    """Episodes of the tasks, by their number, in which ``agent`` plays all seats; each is that of the seat that its
    task names, and costs what all seats cost. Played in the game behind the view, whose luck is drawn with the
    episode's generator; the line with which a view begins what is seen after an invalid action is not there."""
    if not tasks:
        return {}
    game = source_of(config).behind_view().simulator("train")

    def starts() -> Iterator[Playing]:
        for number, task in tasks.items():
            options = {name: value for name, value in task["options"].items() if name != "player"}
            root = start(game, {**task, "options": options})
            yield Playing(game, root.state, np.random.default_rng([seed, number]), root.transcript, number)

    found = {}
    for over in play(starts(), by_agents(agent), GAMES_AT_ONCE):
        task = tasks[over.number]
        said = {**task, "env_options": {**task["env_options"], "opponents": SELF}}
        seat = task["options"].get("player", config.env_options.get("player", 0))
        found[over.number] = replace(over.episode(said, seat), model_calls=sum(over.calls))
    return found


def collect_steps(
    context: StageContext, config: RunConfig, slot: StepRollouts, round: int, policy: str | Path
) -> dict[str, Any]:
    """Good episodes of the round's goals, one a goal, and at each of their steps what the policy would have done
    instead, until the model calls are used up; half of them are for the good episodes where the policy plays these
    too."""
    simulator, tasks = searched_simulator(config), tasks_of(config, "train", round)
    if slot.expert:
        expert = scripted_agent(config.env, slot.expert)
        seed = int(generator(config.seed, "expert", str(round)).integers(2**31))
        played = run_episodes(simulator_of(config, "train"), tasks, expert, seed)
    else:
        played = _sampled(context, config, policy, round, config.model_calls / 2)
    good = _good(played, config.outcome, bool(slot.expert))
    calls = sum(episode.model_calls for episode in played)
    model = sampler_in(context, config, policy)
    agent = PolicyAgent(model, temperature=config.temperature)
    own = generator(config.seed, "steps", str(round))

    def valued(some: Sequence[Episode]) -> Valued:
        return step_rollouts(
            simulator, some, agent, own.spawn(len(some)), slot.rollouts, return_gap=slot.return_gap, round=round
        )

    rows, used, spent = _valued(context, model, good, config.model_calls - calls, valued)
    if rows:
        save_pairs(context.folder / "steps.jsonl", rows)
    return {**_of_values(tasks, played, rows, calls + spent), "tries": len(used)}


def collect_values(
    context: StageContext, config: RunConfig, slot: StepValues, round: int, policy: str | Path
) -> dict[str, Any]:
    """Episodes of the round's goals, pass after pass, and roll-outs from each of their states, batch after batch, until
    the model calls are used up: an episode costs what its roll-outs cost and its own calls."""
    simulator, tasks = searched_simulator(config), tasks_of(config, "train", round)
    model = sampler_in(context, config, policy)
    agent = PolicyAgent(model, temperature=config.temperature)
    own = generator(config.seed, "values", str(round))

    def valued(some: Sequence[Episode]) -> Valued:
        rows, dropped, spent = vine_advantages(
            simulator, some, agent, own.spawn(len(some)), slot.rollouts, discount=slot.discount, round=round
        )
        return rows, dropped, [calls + each.model_calls for calls, each in zip(spent, some, strict=True)]

    played = chain.from_iterable(_passes(context, config, policy, round, "episodes"))
    rows, used, calls = _valued(context, model, played, config.model_calls, valued)
    if rows:
        save_advantages(context.folder / "advantages.jsonl", rows)
    return _of_values(tasks, used, rows, calls)


@contextmanager
def _counted(model: LanguageModel, part: Path) -> Iterator[None]:
    """Writes down beside a part of the work how many tokens ``model`` computed for it."""
    before = model.tokens
    yield
    with atomically(part.with_name(f"{part.stem}{TOKENS}")) as file:
        file.write_text(str(model.tokens - before))


def _valued(
    context: StageContext, model: LanguageModel, episodes: Iterable[Episode], limit: float,
    valued: Callable[[Sequence[Episode]], Valued],
) -> tuple[list[Any], list[Episode], int]:  # fmt: skip
    """The rows of the first episodes that cost no more than ``limit`` model calls, these episodes, and what they cost.
    ``valued`` plays the roll-outs of some of them."""
    rows: list[Any] = []
    used: list[Episode] = []
    costs: list[int] = []
    waiting = iter(episodes)
    while sum(costs) < limit and (some := list(islice(waiting, EPISODES_A_BATCH))):
        model.forget()  # as in a collection that was resumed
        with _counted(model, context.parts / f"steps_{len(used)}"):
            found, _, spent = valued(some)
        rows += [replace(row, tree=len(used) + row.tree) for row in found]
        used += some
        costs += spent
        context.tell(min(sum(costs), limit), limit, f"{len(rows):,} rows")
    kept = _within(limit, costs) if costs else 0
    return [row for row in rows if row.tree < kept], used[:kept], sum(costs[:kept])


def _of_values(tasks: Sequence[Task], played: Sequence[Episode], rows: Sequence[Any], calls: int) -> dict[str, Any]:
    return {
        "goals": len(tasks), "tries": len(played), "model_calls": calls, "prompts": calls,
        "solved_goals": len({task_key(episode.task) for episode in played if episode.success}), "rows": len(rows),
    }  # fmt: skip


def _good(episodes: Sequence[Episode], outcome: Outcome, by_expert: bool) -> list[Episode]:
    """Of each task the earliest episode that succeeded; by reward that of the largest, where it is above the mean of
    the task's, or an expert's."""
    if outcome == "success":
        return list({task_key(each.task): each for each in reversed(episodes) if each.success}.values())[::-1]
    groups = places_by_task(episode.task for episode in episodes)
    return [
        max(tries, key=lambda episode: episode.total_reward)
        for tries in ([episodes[place] for place in places] for places in groups)
        if by_expert or any(above_mean([episode.total_reward for episode in tries]))
    ]


def collect_trees(
    context: StageContext, config: RunConfig, slot: Trees, round: int, policy: str | Path
) -> dict[str, Any]:
    """Search the round's goals, until they or the model calls are used up."""
    return _grown(_searched(context, config, slot, round, policy, config.model_calls), config.outcome)


def collect_mixed(
    context: StageContext, config: RunConfig, slot: Mixed, round: int, policy: str | Path
) -> dict[str, Any]:
    """Search goals for a share of the model calls; what is left of them samples episodes on all goals."""
    trees = _searched(context, config, slot.trees, round, policy, slot.share * config.model_calls)
    searched = _grown(trees, config.outcome)
    episodes = _sampled(context, config, policy, round, config.model_calls - searched["model_calls"])
    sampled = _of_episodes(config, episodes)
    save_episodes(context.folder / "episodes.jsonl", episodes)
    solved = {task_key(each.task) for each in episodes if each.success}
    if config.outcome == "success":
        solved |= {task_key(tree.task) for tree in trees if tree.players == 1 and best_paths(tree)[0]}
    return {
        **searched,
        **sampled,
        **{name: searched[name] + sampled[name] for name in ("tries", "model_calls", "prompts")},
        "searched_goals": searched["goals"],
        "solved_goals": len(solved),
    }


def _searched(
    context: StageContext, config: RunConfig, slot: Trees, round: int, policy: str | Path, limit: float
) -> list[Tree]:
    """The trees of the round's goals that ``limit`` model calls pay for, written down with what came beside them."""
    first = (round - 1) * config.train_goals
    tasks = goals_of(source_of(config).behind_view(), "train", first, config.train_goals)
    rng = generator(config.seed, "trees", str(round))
    settings = slot.settings(config.search)
    if config.verdict_noise:  # a search that proves would look through a verdict that errs
        settings = replace(settings, solve=False)
    grown = _grow(context, config, policy, tasks, settings, rng, limit, round, slot, least_visits(config))
    save_trees(context.folder / "trees.parquet", grown.trees)
    for name, pairs in ((WINNERS, grown.winners), (ROLLED, grown.rolled)):
        if pairs:
            save_pairs(context.folder / name, pairs)
    return grown.trees


def least_visits(config: RunConfig) -> int:
    """The least visits of a node of a game's tree that any recipe of the run reads; the others are not kept."""
    extractors = [each for recipe in config.recipes.values() for each in recipe.extract.values()]
    whole = (
        isinstance(each, BestPathPairs) or (isinstance(each, Advantages) and each.reads == "trees")
        for each in extractors
    )
    if any(whole):
        return 0  # these read trees whole
    return min((each.visits for each in extractors if isinstance(each, SiblingPairs | BestPaths)), default=GAME_VISITS)


def collect_critic_trees(context: StageContext, *, config: RunConfig, policy: str, place: int) -> dict[str, Any]:
    """Small trees on goals that no round has used, by a policy that acts with search: what the critic learns from."""
    first = config.rounds * config.train_goals + place * config.critic_goals
    tasks = goals_of(source_of(config).behind_view(), "train", first, config.critic_goals)
    rng = generator(config.seed, "critic", str(place))
    trees = _grow(context, config, policy, tasks, config.critic_search, rng).trees
    save_trees(context.folder / "trees.parquet", trees)
    return _grown(trees, config.outcome)


@dataclass(frozen=True, slots=True)
class _Grown:
    """Trees, and beside them the actions of roll-outs that succeeded, and pairs of siblings with the values of their
    own roll-outs."""

    trees: list[Tree]
    winners: list[PreferencePair]
    rolled: list[PreferencePair]


def _grow(
    context: StageContext, config: RunConfig, model: str | Path, tasks: Sequence[Task], settings: SearchSettings,
    rng: np.random.Generator, limit: float = math.inf, round: int = 0, slot: Trees = _PLAIN,
    least_visits: int = GAME_VISITS,
) -> _Grown:  # fmt: skip
    """Trees of the tasks, until ``limit`` model calls are used up. ``least_visits``: of games' trees nodes with fewer
    are not kept."""
    simulator, policy = searched_simulator(config), sampler_in(context, config, model)
    one_player = simulator.players == 1
    keeps = one_player and config.outcome == "success"
    evaluator = (
        PolicyRollout(policy, temperature=config.temperature, keep_successes=keeps)
        if config.leaves == "policy"
        else RandomRollout(keep_successes=keeps)
    )
    agent = PolicyAgent(policy, config.temperature)
    critic = RankingCritic(partial(by_likelihood, policy)) if slot.ranking else None
    # A policy whose prior is not read and that plays no roll-outs is not asked: games are then searched compiled.
    asked = one_player or config.leaves == "policy" or settings.uniform_prior < 1.0 or slot.ranking
    rngs = rng.spawn(len(tasks))
    grown = _Grown([], [], [])
    calls = 0
    for first in range(0, len(tasks), TREES_A_BATCH):
        if calls >= limit:
            break
        part, won, rolled = (context.parts / f"{first}.{end}" for end in ("parquet", "jsonl", ROLLED))
        if not part.is_file():
            policy.forget()  # as for a pass of episodes
            some, own = tasks[first : first + TREES_A_BATCH], rngs[first : first + TREES_A_BATCH]
            with _counted(policy, part):
                if simulator.players > 1:
                    found = self_play(
                        simulator, some, policy if asked else None, evaluator, settings, own, critic=critic,
                        least_visits=least_visits,
                    )  # fmt: skip
                else:
                    roots = [start(simulator, task) for task in some]
                    found = search(simulator, roots, policy, evaluator, settings, own, critic=critic)
                judged = _rolled(simulator, found, agent, own, slot.rolls, round) if slot.rolls else []
            anchors, _ = rollout_anchors(evaluator.take_successes(), found, per_tree=WINNERS_A_TREE, round=round)
            for tree in found:
                tree.index += len(grown.trees)
            for path, pairs in ((won, anchors), (rolled, judged)):
                if pairs:
                    save_pairs(path, [replace(pair, tree=len(grown.trees) + pair.tree) for pair in pairs])
            save_trees(part, found)  # last: where it stands, all do
        grown.trees.extend(load_trees(part))
        grown.winners.extend(load_pairs(won) if won.is_file() else [])
        grown.rolled.extend(load_pairs(rolled) if rolled.is_file() else [])
        calls = sum(tree.counters["model_calls"] for tree in grown.trees)
        context.tell(min(first + TREES_A_BATCH, len(tasks)), len(tasks), f"{calls:,} model calls")
    kept = _within(limit, [tree.counters["model_calls"] for tree in grown.trees])
    return _Grown(
        grown.trees[:kept],
        [pair for pair in grown.winners if pair.tree < kept],
        [pair for pair in grown.rolled if pair.tree < kept],
    )


def _rolled(
    simulator: Simulator[Any], trees: Sequence[Tree], agent: Agent, rngs: Sequence[np.random.Generator], rolls: int,
    round: int,
) -> list[PreferencePair]:  # fmt: skip
    """Of the pairs of siblings of each tree that differ most, one a node, those that ``rolls`` roll-outs a side
    confirm, with the values of these; what they cost is added to the tree's model calls."""
    pairs: list[PreferencePair] = []
    for tree in trees:
        found, _ = sibling_pairs(tree, LEAST_ROLLED, contrast="best", per_node=1, round=round)
        found.sort(key=lambda pair: pair.rejected_q - pair.chosen_q)
        pairs += found[:ROLLED_A_TREE]
    drawn = [rng for pair in pairs for rng in rngs[pair.tree].spawn(1)]
    judged = []
    for pair, verdict in zip(pairs, audited(pairs, simulator, agent, drawn, rolls), strict=True):
        if isinstance(verdict, Verdict):
            if verdict.gap > 0:
                judged.append(replace(relabelled(pair, verdict), kind="rolled"))
            for name in ("model_calls", "prompts"):
                trees[pair.tree].counters[name] += verdict.model_calls
    return judged


def by_likelihood(
    policy: LanguageModel, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]
) -> list[list[int]]:
    """The candidates after each transcript in the order in which ``policy`` would take them."""
    return [np.argsort(-logps, kind="stable").tolist() for logps in policy.score(transcripts, candidates)]


def _within(limit: float, costs: Sequence[int]) -> int:
    """How many of the first ``costs`` add up to no more than ``limit``; at least one. So recipes learn from what equal
    budgets bought, however large the batches were in which it was bought."""
    return max(1, int(np.searchsorted(np.cumsum(costs), limit, side="right")))


def _grown(trees: Sequence[Tree], outcome: Outcome) -> dict[str, Any]:
    counters: Counter[str] = sum((Counter(tree.counters) for tree in trees), Counter())
    solved = {}
    if outcome == "success" and (alone := [tree for tree in trees if tree.players == 1]):
        solved = {"solved_goals": len({task_key(tree.task) for tree in alone if best_paths(tree)[0]})}
    return {
        "goals": len({task_key(tree.task) for tree in trees}),
        "tries": counters["simulations"],
        "nodes": sum(len(tree) for tree in trees),
        **solved,
        "model_calls": 0,  # where no model was asked
        "prompts": 0,
        **{name: int(count) for name, count in sorted(counters.items())},
    }
