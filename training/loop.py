"""The loop: a base model, then rounds of collect → extract → train → validate → promote, then the table.

The run is a graph of stages (``stages.py``): a stage reads the folders of earlier ones and writes its own, so a
killed run goes on where it was. Recipes that collect in the same way share the collection of the first round, in
which they all are the base; later each collects with its own model, on the same goals and under the same budget of
model calls.

Goals: the base and the collections see the training split alone, choices are made on the validation split, the table
is the test split's. In the generated shop the splits are different catalogues.
"""

import copy
import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Final

import gymnasium as gym
import numpy as np
import yaml

from ..agents.critics import CriticEvaluator, ValueModel
from ..agents.forward import positions_of
from ..agents.language_model import LanguageModel, check_model_folder
from ..agents.prompting import history_key, history_named
from ..agents.searching import SearchingAgent
from ..envs.abilities import kind_of_action
from ..envs.json_files import json_text
from ..envs.outcomes import SuccessOutcome
from ..envs.play.agent import Agent
from ..envs.play.episode import Episode
from ..envs.play.players import PolicyAgent, scripted_agents
from ..envs.play.playing import run_episodes
from ..envs.play.task import Task, TaskSource, goal_count, start
from ..search.engine import SearchSettings, search
from ..search.evaluation import PolicyRollout, RandomRollout
from ..search.extraction import (
    By,
    PreferencePair,
    best_paths,
    rollout_anchors,
    sibling_pairs,
    successful_trajectories,
    trajectory_pairs,
)
from ..search.files import atomically, make_folder
from ..search.locks import only_writer
from ..search.pooling import pooled, pooled_answers, pooled_pairs
from ..search.selfplay import self_play
from ..search.store import load_episodes, load_pairs, load_trees, save_episodes, save_pairs, save_trees
from ..search.tree import Tree
from .evaluation import ResultRow, evaluate, row_of
from .preference import action_kind_counts, train_preference
from .readable import agent_order
from .recipe import Recipe, RunConfig, load_recipe
from .report import write_report
from .rows import sft_rows, steps_after, without_repeats
from .scratch import from_scratch
from .settings import SettingsError, as_dict, build_from, read_yaml
from .stages import (
    FIGURES,
    Display,
    Stage,
    StageContext,
    check_stages,
    figures,
    is_finished,
    read_figures,
    read_from,
    run_stages,
)
from .supervised import TrainingStopped, train_supervised
from .value_model import train_value_model, value_rows

TREES_A_BATCH: Final = 32
ANSWER_VISITS: Final = 64
"""Of a node of a game's tree that is pooled with its equals."""
CONFIG: Final = "config.yaml"


def run_loop(config: RunConfig, run: Path, display: Display, workers: int = 2) -> list[ResultRow]:
    """Do what is left of ``config`` in the folder ``run``; returns the table's rows, written to ``results.json`` beside
    ``metrics.jsonl`` and ``report.html``.

    Raises :class:`SettingsError` where the folder holds a run with other settings,
    :class:`~branchwise.training.stages.StageFailed` where a stage failed.
    """
    run = Path(run)
    check_run(config)
    stages = stages_of(config)
    check_stages(stages)
    _check_folder(run)
    make_folder(run)
    with only_writer(run):
        return _run(config, run, stages, display, workers)


def check_run(config: RunConfig) -> None:
    """Raises :class:`SettingsError` for what would be refused in the middle of a run: an environment or options that
    there are not, players by rule that it does not have, more goals than a split has, searches that cannot be made, a
    model that is not there."""
    source = _source(config)
    simulators = {split: _checked_simulator(config, split) for split in ("train", "validation", "test")}
    players = scripted_agents(config.env)
    for name in config.baselines:
        if name not in players:
            raise SettingsError(f"baselines: {config.env} has no player {name!r}; it has {', '.join(players)}")
    if config.model:
        if Path(config.model).is_dir() or config.model.startswith((".", "/", "~")):
            check_model_folder(config.model)
    else:
        _check_base(config, source, players)
    wanted = {"train": config.rounds * config.train_goals, "validation": config.validation_goals}
    wanted["test"] = config.test_goals
    if config.search_recipe:
        wanted["train"] += 2 * config.critic_goals
    for split, simulator in simulators.items():
        goals = goal_count(simulator)
        if goals is not None and wanted[split] > goals:
            raise SettingsError(
                f"split {split!r} has {goals} goals; {wanted[split]} are asked for. Lower "
                f"{split}_goals" + (", rounds or critic_goals" if split == "train" else "")
            )
    searches = {"search": config.search, "critic_search": config.critic_search, "acting": config.acting}
    searched = _searched(config, source)
    for name, settings in searches.items():
        try:  # no trees: what is left is whether simulator and settings go together
            search(searched, [], None, RandomRollout(), replace(settings, hide_outcome=False), [])
        except ValueError as error:
            raise SettingsError(f"{name}: {error}; the loop passes no such part to its searches") from None


def _check_base(config: RunConfig, source: TaskSource, players: Mapping[str, Any]) -> None:
    """Whether a model can be made from scratch here."""
    base, row = config.base, source.row
    if not base.demonstrators:
        known = ", ".join(players)
        raise SettingsError(
            f"base.demonstrators: a model from scratch is shown how {config.env} is played; name players by rule with "
            f"their shares ({known}, or module:name of your own), or start from a --model"
        )
    for name in base.demonstrators:
        if ":" not in name and name not in players:
            raise SettingsError(f"base.demonstrators: {config.env} has no player {name!r}; it has {', '.join(players)}")
    if base.lessons and not row.lessons:
        raise SettingsError(f"base.lessons={base.lessons}: {config.env} has no lessons; leave it out")
    if not row.worlds:
        if base.worlds > 1:
            raise SettingsError(f"base.worlds={base.worlds}: {config.env} has one world; leave it out")
    elif row.worlds in config.env_options:
        raise SettingsError(f"env_options.{row.worlds}: a model from scratch sees many worlds; leave it out")
    else:
        _checked_simulator(config, "train", **{row.worlds: 0})


def _checked_simulator(config: RunConfig, split: str, **more: Any) -> Any:
    try:
        return _simulator(config, split, **more)
    except (TypeError, ValueError, gym.error.Error) as error:
        raise SettingsError(f"env={config.env} with env_options={config.env_options}, split {split}: {error}") from None


def _run(config: RunConfig, run: Path, stages: Sequence[Stage], display: Display, workers: int) -> list[ResultRow]:
    _claim(config, run)

    class Noting:
        """Passes everything on, and keeps ``metrics.jsonl`` and the report up to date."""

        def started(self, stage: str) -> None:
            display.started(stage)

        def repeated(self, stage: str, why: str) -> None:
            display.repeated(stage, why)

        def moved(self, stage: str, done: float, total: float, note: str) -> None:
            display.moved(stage, done, total, note)

        def finished(self, stage: str, found: Mapping[str, Any], seconds: float) -> None:
            write_metrics(run, stages)
            display.finished(stage, found, seconds)

    run_stages(stages, run, Noting(), workers)
    rows = [
        read_from(run / stage.name, lambda folder: row_of(read_figures(folder / FIGURES)))
        for stage in stages
        if stage.name.startswith("evaluation/")
    ]
    rows.sort(key=lambda row: agent_order(row.agent))
    write_metrics(run, stages)
    with atomically(run / "results.json") as path:
        path.write_text(json_text([asdict(row) for row in rows], indent=1) + "\n")
    write_report(run)
    return rows


def is_done(config: RunConfig, run: Path) -> bool:
    """Whether nothing is left to do."""
    return (run / "report.html").is_file() and all(is_finished(run, stage.name) for stage in stages_of(config))


def write_metrics(run: Path, stages: Sequence[Stage]) -> None:
    """``metrics.jsonl``: the figures of every finished stage, a line each, in the order of the run."""
    lines = [json_text({"stage": s.name, **figures(run, s.name)}) + "\n" for s in stages if is_finished(run, s.name)]
    with atomically(run / "metrics.jsonl") as path:
        path.write_text("".join(lines))


def _check_folder(run: Path) -> None:
    """Raises ``ValueError`` where the folder holds something, and no run: nothing of anybody else's is replaced."""
    names = sorted(path.name for path in run.iterdir()) if run.is_dir() else []
    if (others := [name for name in names if not name.startswith(".")]) and CONFIG not in names:
        raise ValueError(
            f"{run} is not empty and has no {CONFIG}, so it is no run's folder ({', '.join(others[:3])}); give "
            "--out a new or an empty one"
        )


def _claim(config: RunConfig, run: Path) -> None:
    """Write the run's settings, or check that they are the same as before. A setting that the file does not have,
    since an earlier version wrote it, has its default."""
    recipes = {name: load_recipe(name) for name in config.recipes}
    path = run / CONFIG
    if os.path.lexists(path):
        before, recipes_before = _settings_in(path)
        changed = _differing(before, config) + [
            f"recipes.{name}" for name, recipe in recipes.items() if recipes_before.get(name, recipe) != recipe
        ]
        if changed:
            raise SettingsError(
                f"{run} holds a run with other settings ({', '.join(changed)}); give another --out, or delete the "
                "folder"
            )
        return
    settings = {**as_dict(config), "recipes": {name: as_dict(recipe) for name, recipe in recipes.items()}}
    with atomically(path) as partial:
        partial.write_text(yaml.safe_dump(settings, sort_keys=False))


def _settings_in(path: Path) -> tuple[RunConfig, dict[str, Recipe]]:
    """A run's settings and its recipes by name. Raises :class:`SettingsError` where they cannot be read."""
    try:
        data = read_yaml(path)
        recipes = data.get("recipes")
        if not isinstance(recipes, dict):
            raise SettingsError(f"{path}: recipes={recipes!r}; expected the settings of each recipe by its name")
        built = {str(name): build_from(path, Recipe, recipe) for name, recipe in recipes.items()}
        return build_from(path, RunConfig, {**data, "recipes": list(built)}), built
    except SettingsError as error:
        raise SettingsError(
            f"{error}; the file is damaged, or another version wrote it: give another --out, or delete the folder"
        ) from None


def _differing(before: RunConfig, after: RunConfig) -> list[str]:
    before, after = (replace(config, recipes=tuple(sorted(config.recipes))) for config in (before, after))
    return sorted(f.name for f in fields(RunConfig) if getattr(before, f.name) != getattr(after, f.name))


def stages_of(config: RunConfig) -> list[Stage]:
    """The run as a graph, in an order in which it could be done one by one."""
    recipes = [load_recipe(name) for name in config.recipes]
    for recipe in recipes:
        if recipe.name.casefold() in (*config.baselines, "behaviour_cloning"):
            raise SettingsError(f"a recipe is called {recipe.name!r}, as a row of the table is already; rename it")
    stages = [Stage("base", make_base, (), {"config": config})]
    models = {"behaviour_cloning": "base"}
    for number in range(1, config.rounds + 1):
        for recipe in recipes:
            before = f"{recipe.name}/round_{number - 1}/model" if number > 1 else "base"
            collection = f"{recipe.name}/round_{number}/{recipe.collect}" if number > 1 else f"round_1/{recipe.collect}"
            common = {"config": config, "round": number, "model": before}
            if all(stage.name != collection for stage in stages):
                collect = collect_trees if recipe.collect == "trees" else collect_episodes
                stages.append(Stage(collection, collect, (before,), common))
            trained = f"{recipe.name}/round_{number}/model"
            stages.append(
                Stage(
                    trained, train_round, (before, collection), {**common, "recipe": recipe, "collection": collection}
                )
            )
            models[recipe.name] = trained
    searching = [r.name for name, r in zip(config.recipes, recipes, strict=True) if name == config.search_recipe]
    searchers = ("behaviour_cloning", *searching) if searching else ()
    for place, name in enumerate(searchers):
        arguments = {"config": config, "model": models[name], "place": place}
        stages.append(Stage(f"critic_trees/{name}", collect_critic_trees, (models[name],), arguments))
    if searchers:
        trees = tuple(f"critic_trees/{name}" for name in searchers)
        arguments = {"config": config, "model": models[searchers[-1]], "trees": trees}
        stages.append(Stage("critic", train_critic, (models[searchers[-1]], *trees), arguments))
    for agent in config.baselines:
        stages.append(Stage(f"evaluation/{agent}", judge, (), {"config": config, "agent": agent, "model": ""}))
    for name, model in models.items():
        stages.append(Stage(f"evaluation/{name}", judge, (model,), {"config": config, "agent": name, "model": model}))
    for name in searchers:
        for way, needs in (("mcts", ("critic",)), ("mcts_oracle", ())):
            agent = f"{name}+{way}"
            stages.append(
                Stage(f"evaluation/{agent}", judge, (models[name], *needs),
                      {"config": config, "agent": agent, "model": models[name]})
            )  # fmt: skip
    return stages


# The stages. Each draws from generators seeded by the run's seed and its own name.


def make_base(context: StageContext) -> dict[str, Any]:
    """The model that all recipes start from: given, or made from scratch, taught to read and shown how others play."""
    config: RunConfig = context.arguments["config"]
    made: dict[str, Any] = {}
    if config.model:
        policy = LanguageModel.load(config.model, history=config.history)
    else:
        policy, made = from_scratch(
            _source(config), config.base, config.history, config.seed, _rng(config, "base"), context.tell
        )
    policy.save(context.folder / "model")
    validation = _validate(config, policy)
    parameters = sum(p.numel() for p in policy.model.parameters())
    return {**made, "parameters": parameters, **validation}


def collect_trees(context: StageContext) -> dict[str, Any]:
    """Search the round's goals with the model of before, until they or the model calls are used up."""
    config: RunConfig = context.arguments["config"]
    number: int = context.arguments["round"]
    tasks = _goals(config, "train", (number - 1) * config.train_goals, config.train_goals, behind_view=True)
    trees, winners = _grow(context, tasks, config.search, config.model_calls)
    save_trees(context.folder / "trees.parquet", trees)
    if winners:
        save_pairs(context.folder / "winners.jsonl", winners)
    return _grown(trees)


def collect_critic_trees(context: StageContext) -> dict[str, Any]:
    """Small trees on goals that no round has used, by a policy that acts with search: what the critic learns from."""
    config: RunConfig = context.arguments["config"]
    first = config.rounds * config.train_goals + context.arguments["place"] * config.critic_goals
    tasks = _goals(config, "train", first, config.critic_goals, behind_view=True)
    trees, _ = _grow(context, tasks, config.critic_search)
    save_trees(context.folder / "trees.parquet", trees)
    return _grown(trees)


def _grow(
    context: StageContext, tasks: Sequence[Task], settings: SearchSettings, limit: float = math.inf
) -> tuple[list[Tree], list[PreferencePair]]:
    """Trees of the tasks, until ``limit`` model calls are used up, and the actions of roll-outs that succeeded. Each
    batch of trees is a part of the stage (``stages.py``)."""
    config: RunConfig = context.arguments["config"]
    simulator, policy = _searched(config, _source(config)), _policy(config, context)
    one_player = simulator.players == 1
    # Nobody is asked for a prior that would not be read: a game of tic-tac-toe takes 0.13 s instead of 1.6.
    prior = None if not one_player and config.leaves == "random" and settings.uniform_prior == 1.0 else policy
    evaluator = (
        PolicyRollout(policy, temperature=config.temperature, keep_successes=one_player)
        if config.leaves == "policy"
        else RandomRollout(keep_successes=one_player)
    )
    rngs = _rng(config, context.arguments["model"], "trees").spawn(len(tasks))
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
                found = self_play(simulator, some, prior, evaluator, settings, own, least_visits=ANSWER_VISITS)
            else:
                roots = [start(simulator, task) for task in some]
                found = search(simulator, roots, policy, evaluator, settings, own)
            anchors, _ = rollout_anchors(evaluator.take_successes(), found, per_tree=2, round=_round(context))
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


def _round(context: StageContext) -> int:
    return int(context.arguments.get("round", 0))


def _grown(trees: Sequence[Tree]) -> dict[str, Any]:
    counters: Counter[str] = sum((Counter(tree.counters) for tree in trees), Counter())
    solved = {_name_of(tree.task) for tree in trees if best_paths(tree)[0]}
    return {
        "goals": len({_name_of(tree.task) for tree in trees}),
        "tries": counters["simulations"],
        "nodes": sum(len(tree) for tree in trees),
        "solved_goals": len(solved),
        "model_calls": 0,  # where no model was asked
        "prompts": 0,
        **{name: int(count) for name, count in sorted(counters.items())},
    }


def collect_episodes(context: StageContext) -> dict[str, Any]:
    """Sample episodes of the round's goals, pass after pass, until the model calls are used up."""
    config: RunConfig = context.arguments["config"]
    simulator, policy = _simulator(config, "train"), _policy(config, context)
    agent = PolicyAgent(policy, temperature=config.temperature)
    tasks = _tasks(config, "train", context.arguments["round"])
    episodes: list[Episode] = []
    calls, passes = 0, 0
    while calls < config.model_calls:
        part = context.parts / f"{passes}.jsonl"
        if not part.is_file():
            save_episodes(part, run_episodes(simulator, tasks, agent, config.seed + 1000 * _round(context) + passes))
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


def train_round(context: StageContext) -> dict[str, Any]:
    """Extract rows from the collection, train a candidate for each learning rate, keep the best on validation goals if
    it is better than the model of before."""
    config: RunConfig = context.arguments["config"]
    recipe: Recipe = context.arguments["recipe"]
    collection = context.run / context.arguments["collection"]
    pairs, dropped = extract(
        recipe, collection, context.arguments["round"], _rng(config, context.folder.name), config.history,
        _better_by(config),
    )  # fmt: skip
    if pairs:
        save_pairs(context.folder / "pairs.jsonl", pairs)
    before = read_from(
        context.run / context.arguments["model"], lambda folder: _validation_of(config, read_figures(folder / FIGURES))
    )
    collected = figures(context.run, context.arguments["collection"])
    chosen_by = _chosen_by(config)
    best, best_found = _policy(config, context), before
    tried = []
    epochs = recipe.supervised.epochs if recipe.train == "supervised" else recipe.preference.epochs
    for number, rate in enumerate(recipe.learning_rates if pairs else ()):
        policy = _policy(config, context)

        def tell(row: dict[str, float], number: int = number) -> None:
            context.tell(number + row["epoch"] / epochs, len(recipe.learning_rates), f"loss {row['loss']:.3f}")

        candidate: dict[str, Any] = {"learning_rate": rate}
        try:
            history = _train(config, recipe, policy, pairs, rate, tell)
            candidate |= {
                k: v for k, v in history[-1].items() if k in ("loss", "chosen_logp", "rejected_logp", "margin")
            }
        except TrainingStopped as stopped:
            candidate["stopped"] = str(stopped)
        policy.forget()
        found = _validate(config, policy)
        tried.append(candidate | found)
        if found[chosen_by] > best_found[chosen_by]:
            best, best_found = policy, found
    best.save(context.folder / "model")
    contrasts = [pair for pair in pairs if pair.rejected]
    chosen, rejected = _kinds(_simulator(config, "train"), pairs)
    return {
        "recipe": recipe.name,
        "round": context.arguments["round"],
        **({"pairs": len(contrasts), "anchors": len(pairs) - len(contrasts)} if recipe.train == "preference" else {}),
        "rows": len(pairs),
        "dropped": dropped,
        "chosen_kinds": chosen,
        "rejected_kinds": rejected,
        "candidates": tried,
        f"{chosen_by}_before": before[chosen_by],
        "promoted": best_found[chosen_by] > before[chosen_by],
        "chosen_logp_per_token": max(tried, key=lambda c: c[chosen_by]).get("chosen_logp") if tried else None,
        **{name: collected[name] for name in ("model_calls", "prompts") if name in collected},
        **best_found,
    }


def extract(
    recipe: Recipe, collection: Path, number: int, rng: np.random.Generator, history: str, better_by: By = "success"
) -> tuple[list[PreferencePair], dict[str, int]]:
    """The rows that ``recipe`` trains on, and what was dropped by reason. Each comes once as ``history`` shows it, but
    for episodes that are better by reward; of games' trees equal positions are one (``search.pooling``)."""
    dropped: Counter[str] = Counter()
    rows: list[PreferencePair] = []

    def take(found: tuple[list[PreferencePair], Counter[str]]) -> None:
        rows.extend(found[0])
        dropped.update(found[1])

    if recipe.collect == "episodes":
        episodes = read_from(collection, lambda folder: load_episodes(folder / "episodes.jsonl"))
        if recipe.extract == "trajectory_pairs":
            take(trajectory_pairs(episodes, by=better_by, per_task=recipe.per_task, rng=rng, round=number))
        if recipe.extract == "successes" or recipe.anchors:
            take(successful_trajectories(episodes, by=better_by, per_task=recipe.per_task, round=number))
        # How often an episode was better is what luck and unlike opponents leave to learn from.
        return rows if better_by == "reward" else without_repeats(rows, history), dict(dropped)
    trees = read_from(collection, _trees_in)
    if trees and trees[0].players > 1:
        shown = history_named(history)
        positions, left = pooled(trees, lambda seen: history_key(shown(seen)), ANSWER_VISITS, round=number)
        dropped.update(left)
        if recipe.extract == "sibling_pairs":
            take(pooled_pairs(positions, recipe.threshold, recipe.min_visits, per_position=recipe.per_node))
        if recipe.extract == "best_paths" or recipe.anchors:
            rows += pooled_answers(positions)
        return rows, dict(dropped)
    for tree in trees:
        if recipe.extract == "sibling_pairs":
            take(sibling_pairs(
                tree, recipe.threshold, recipe.min_visits, contrast="best", per_node=recipe.per_node, round=number
            ))  # fmt: skip
        if recipe.extract == "best_paths" or recipe.anchors:
            take(best_paths(tree, paths=2, round=number))
    winners = collection / "winners.jsonl"
    if winners.is_file() and (recipe.extract == "best_paths" or recipe.anchors):
        rows += read_from(collection, lambda _: load_pairs(winners))
    return without_repeats(rows, history), dict(dropped)


def _train(
    config: RunConfig, recipe: Recipe, policy: LanguageModel, pairs: Sequence[PreferencePair], rate: float, tell: Any,
) -> list[dict[str, float]]:  # fmt: skip
    limit = policy.max_prompt_tokens
    if recipe.train == "supervised":
        steps = [step for pair in pairs for step in steps_after(pair.prompt, pair.chosen)]
        rows, _ = sft_rows(steps, policy.tokenizer, config.history, limit, positions=positions_of(policy.model))
        return train_supervised(policy.model, rows, replace(recipe.supervised, learning_rate=rate), config.seed, tell)
    logged = recipe.collect == "trees" and all(pair.ref_chosen_logp is not None for pair in pairs if pair.rejected)
    reference = "logged" if logged else copy.deepcopy(policy.model)
    return train_preference(
        policy.model, policy.tokenizer, pairs, replace(recipe.preference, learning_rate=rate), reference=reference,
        seed=config.seed, history=config.history, max_tokens=limit, progress=tell,
    ).history  # fmt: skip


def train_critic(context: StageContext) -> dict[str, Any]:
    """A value model, started from the trained policy, on the node values of the critic's trees."""
    config: RunConfig = context.arguments["config"]
    trees = [tree for name in context.arguments["trees"] for tree in read_from(context.run / name, _trees_in)]
    rows = [row for tree in trees for row in value_rows(tree)]
    critic = ValueModel.from_language_model(_policy(config, context))
    total = config.critic.descent.epochs
    report = train_value_model(
        critic, rows, config.critic, config.seed,
        lambda row: context.tell(row["epoch"], total, f"loss {row['loss']:.3f}"),
    )  # fmt: skip
    critic.save(context.folder / "model")
    return {
        "rows": report.trained, "held_out": report.held_out, "explained_variance": report.explained_variance,
        "auc": report.auc, "error": report.error,
        "model_calls": sum(figures(context.run, name)["model_calls"] for name in context.arguments["trees"]),
    }  # fmt: skip


def judge(context: StageContext) -> dict[str, Any]:
    """One row of the table: an agent on the test goals."""
    config: RunConfig = context.arguments["config"]
    simulator = _simulator(config, "test")
    tasks = _tasks(config, "test")
    row, episodes = evaluate(
        simulator, tasks, _agent(config, context), env=config.env, split="test", seed=config.seed,
        progress=lambda done: context.tell(done, len(tasks), f"{done} of {len(tasks)} episodes"),
    )  # fmt: skip
    save_episodes(context.folder / "episodes.jsonl", episodes)
    return asdict(row)


def _agent(config: RunConfig, context: StageContext) -> Agent:
    name: str = context.arguments["agent"]
    if name in config.baselines:
        return scripted_agents(config.env)[name]()
    policy = _policy(config, context)
    _, _, way = name.partition("+")
    if way == "mcts":
        critic = CriticEvaluator(read_from(context.run / "critic", lambda folder: ValueModel.load(folder / "model")))
        return SearchingAgent(policy, critic, config.acting, name=name)
    if way == "mcts_oracle":
        settings = replace(config.acting, hide_outcome=False, simulations=config.oracle_simulations)
        rollout = PolicyRollout(policy, temperature=config.temperature)
        return SearchingAgent(policy, rollout, settings, name, view=lambda simulator: _with_outcome(config, simulator))
    return PolicyAgent(policy, name=name)


# Common parts.


def _source(config: RunConfig) -> TaskSource:
    """The environment as agents meet it: of a game one side, the others played by ``opponents``."""
    source = TaskSource(config.env, config.env_options)
    if source.row.players > 1 and "opponents" not in source.options:
        return TaskSource(config.env, {**config.env_options, "opponents": "random"})
    return source


def _simulator(config: RunConfig, split: str, **more: Any) -> Any:
    return _source(config).simulator(split, **more)


def _policy(config: RunConfig, context: StageContext) -> LanguageModel:
    return read_from(
        context.run / context.arguments["model"],
        lambda folder: LanguageModel.load(folder / "model", history=config.history),
    )


def _trees_in(folder: Path) -> list[Tree]:
    return load_trees(folder / "trees.parquet")


def _searched(config: RunConfig, source: TaskSource) -> Any:
    """The training split's simulator as a search meets it, which may see outcomes: a game with all its players."""
    return _with_outcome(config, source.behind_view().simulator("train"))


def _with_outcome(config: RunConfig, simulator: Any) -> Any:
    return SuccessOutcome(simulator) if config.outcome == "success" and simulator.players == 1 else simulator


def _tasks(config: RunConfig, split: str, number: int = 1) -> list[Task]:
    """The goals of a split: for round ``number`` of training the ``number``-th stretch of ``train_goals``."""
    count = {"train": config.train_goals, "validation": config.validation_goals, "test": config.test_goals}[split]
    return _goals(config, split, (number - 1) * count, count)


def _goals(config: RunConfig, split: str, first: int, count: int, behind_view: bool = False) -> list[Task]:
    source = _source(config).behind_view() if behind_view else _source(config)
    return source.tasks(source.simulator(split), split, count, first)


def _validate(config: RunConfig, policy: LanguageModel) -> dict[str, Any]:
    simulator = _simulator(config, "validation")
    row, _ = evaluate(
        simulator, _tasks(config, "validation"), PolicyAgent(policy), env=config.env, split="validation",
        seed=config.seed,
    )  # fmt: skip
    return {
        _chosen_by(config): getattr(row, config.outcome),
        "validation_low": getattr(row, f"{config.outcome}_low"),
        "validation_high": getattr(row, f"{config.outcome}_high"),
        "episode_length": row.steps,
    }


def _chosen_by(config: RunConfig) -> str:
    """The figure by which a model is better than another."""
    return f"validation_{config.outcome}"


def _better_by(config: RunConfig) -> By:
    """What makes one episode better than another: in games what was won, where that is what is searched for."""
    return "reward" if config.outcome == "reward" and _source(config).row.players > 1 else "success"


def _validation_of(config: RunConfig, found: Mapping[str, Any]) -> dict[str, Any]:
    return {k: found[k] for k in (_chosen_by(config), "validation_low", "validation_high", "episode_length")}


def _kinds(simulator: Any, pairs: Sequence[PreferencePair]) -> tuple[dict[str, int], dict[str, int]]:
    counts = action_kind_counts(pairs, lambda text: kind_of_action(simulator, text))
    return {kind: n for kind, (n, _) in counts.items()}, {kind: n for kind, (_, n) in counts.items()}


def _rng(config: RunConfig, *names: str) -> np.random.Generator:
    """A generator of its own for each stage: the run's seed and the stage's name."""
    return np.random.default_rng([config.seed, *"/".join(names).encode()])
