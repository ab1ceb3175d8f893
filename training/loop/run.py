"""A run: its graph of stages done in a folder, and then the table, the figures and the report.

A killed run resumes where it was. Where a run's settings cannot work it is refused before its folder is made.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Final

import gymnasium as gym
import numpy as np
import yaml

from ...agents.language_model import check_model_folder
from ...envs.abilities import hides
from ...envs.json_files import json_text
from ...envs.opponents import random_opponent
from ...envs.play.players import scripted_agent, scripted_agents
from ...envs.play.playing import Playing, play
from ...envs.play.task import TaskSource, goal_count, start
from ...envs.registry import EnvironmentRow, environment_row
from ...envs.simulator import Simulator
from ...search import RandomRollout, RankingCritic, search
from ...search.engine import is_zero_sum
from ...search.files import atomically, make_folder
from ...search.locks import only_writer
from ...search.records import load_demonstrations
from ...search.rules.options import from_flat
from ..evaluation import ResultRow, row_of
from ..pool import run_stages
from ..readable import row_order
from ..report import write_report
from ..settings import SettingsError, as_dict, build_from, read_yaml
from ..stages import (
    FIGURES,
    Display,
    Stage,
    check_stages,
    figures,
    is_finished,
    read_figures,
    read_from,
)
from .config import RunConfig, unread
from .extractors import BestPathPairs, BestPaths, Segments, SiblingPairs, StatePairs, TrajectoryPairs
from .graph import collection_of, stages_of
from .recipe import Recipe
from .slots import COLLECT, Episodes, StepRollouts, StepValues, Trees, trees_of
from .tasks import goals_of, searched_simulator, self_share, simulator_of, source_of, with_noise

CONFIG: Final = "config.yaml"
SEARCHES: Final = ("search", "acting", "critic_search")
"""The settings of a run that are those of a search."""
LOOKED_AT: Final = 20
"""Episodes, to see whether an environment has luck."""


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
    source = source_of(config)
    simulators = {split: _checked_simulator(config, split) for split in ("train", "validation", "test")}
    players = scripted_agents(config.env)
    for name in config.baselines:
        _check_player(config, "baselines", name)
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
    grows_trees = any(trees_of(recipe.collect) for recipe in config.recipes.values())
    searches = {"search": config.search} if grows_trees else {}
    ranked = set()
    for name, recipe in config.recipes.items():
        if source.row.players > 1 and "state_pairs" in recipe.extract and hides(simulators["train"]):
            raise SettingsError(
                f"recipes.{name}.extract.state_pairs: {config.env} hides something, which the tries of a task share; "
                "equal states would be judged by it; take trajectory_pairs"
            )
        _check_extractors(config, f"recipes.{name}.extract", recipe, source.row.players)
        _check_rolls(f"recipes.{name}", recipe)
        if isinstance(recipe.collect, StepRollouts | StepValues):
            option = next(option for option, kind in COLLECT.items() if kind is type(recipe.collect))
            _check_step_rollouts(
                config,
                f"recipes.{name}.collect.{option}",
                recipe.collect,
                source,
                with_noise(config, simulators["train"]),
            )
        if (trees := trees_of(recipe.collect)) and trees != Trees():
            where = f"recipes.{name}.collect.trees.search"
            searches[where] = trees.settings(config.search)
            ranked |= {where} if trees.ranking else set()
    if self_share(config) and not any(isinstance(recipe.collect, Episodes) for recipe in config.recipes.values()):
        raise SettingsError(
            "env_options.opponents: self plays where episodes are sampled, and no recipe collects episodes (trees are "
            "grown by self-play anyway); leave it out"
        )
    searched = searched_simulator(config)
    if config.search_recipe and searched.players > 1 and not is_zero_sum(searched):
        raise SettingsError(
            f"search_recipe={config.search_recipe!r}: a critic knows the return of one player, or of two whose returns "
            f"are opposite, and {config.env} has {searched.players} players"
            + (" whose returns are not" if searched.players == 2 else "")
            + "; set search_recipe to nothing (search_recipe=)"
        )
    if searched.players > 1:
        _check_best_paths(config)
    if config.search_recipe:
        searches |= {"critic_search": config.critic_search, "acting": config.acting}
    if searches:
        _check_leaves(config, searched)
    for name, settings in searches.items():
        if searched.players > 1 and hides(searched) and settings.information == "perfect":
            raise SettingsError(
                f"{name}.information=perfect: {config.env} hides something from who is to move, and such a search sees "
                "it; take single_observer or multiple_observer, with normalise: tree"
            )
        try:  # no trees: what is left is whether simulator and settings go together
            critic = RankingCritic(lambda *_: []) if name in ranked else None
            search(searched, [], None, RandomRollout(), replace(settings, hide_outcome=False), [], critic=critic)
        except ValueError as error:
            raise SettingsError(f"{name}: {error}; the loop passes no such part to its searches") from None


def _check_leaves(config: RunConfig, searched: Simulator[Any]) -> None:
    """Whether random roll-outs, where leaves are valued so, have actions to choose from."""
    if config.leaves == "random":
        [task] = goals_of(source_of(config).behind_view(), "train", 0, 1)
        if searched.legal_actions(start(searched, task).state) is None:
            raise SettingsError(
                f"leaves=random: {config.env} lists no actions, of which such a roll-out takes one; use leaves=policy"
            )


def _check_player(config: RunConfig, where: str, name: str) -> None:
    try:
        scripted_agent(config.env, name)
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from None


def _check_extractors(config: RunConfig, where: str, recipe: Recipe, players: int) -> None:
    """Refuses settings that an extractor does not read in this environment, or in a run for this outcome."""
    for name, extractor in recipe.extract.items():
        idle = {}
        if players == 1 and isinstance(extractor, SiblingPairs | BestPaths):
            idle["visits"] = "counts where equal positions of games are pooled"
        if players > 1 and isinstance(extractor, BestPaths):
            idle["paths"] = "has no meaning in games, of which it takes what the search would play"
        if isinstance(extractor, SiblingPairs | StatePairs) and (players > 1 or config.outcome == "reward"):
            idle["z"] = "is for returns of 0 or 1, of one player in a run for success"
        if config.outcome == "success" and isinstance(extractor, TrajectoryPairs):
            idle["threshold"] = "compares rewards, and the run is for success"
        if isinstance(extractor, Segments):
            _check_segments(f"{where}.{name}", extractor, environment_row(config.env))
            trees = trees_of(recipe.collect)
            if trees is not None and trees.settings(config.search).transpositions:
                raise SettingsError(
                    f"{where}.{name}: segments need ways, and searches with transpositions keep none; leave them out"
                )
        usual = {each.name: each.default for each in fields(extractor)}
        for option, why in idle.items():
            if (said := getattr(extractor, option)) != usual[option]:
                raise SettingsError(f"{where}.{name}.{option}={said} {why}; leave it out")


def _check_segments(where: str, segments: Segments, row: EnvironmentRow) -> None:
    if row.players > 1:
        raise SettingsError(
            f"{where}: segments are one player's actions, and {row.id} has {row.players}; take sibling_pairs"
        )
    if segments.length == "pages" and not row.page:
        raise SettingsError(f"{where}.length=pages: {row.id} has no pages; take another length")


def _check_rolls(where: str, recipe: Recipe) -> None:
    """Roll-outs that nobody reads would be paid for nothing."""
    trees = trees_of(recipe.collect)
    rolls = trees.rolls if trees else 0
    reads = any(isinstance(each, Segments) and each.label == "rolls" for each in recipe.extract.values())
    if reads != bool(rolls):
        raise SettingsError(
            f"{where}: collect's trees.rolls={rolls}, and extract has {'' if reads else 'no '}segments with "
            "label=rolls, which reads the roll-outs; set both, such as rolls=4, or neither"
        )


def _check_best_paths(config: RunConfig) -> None:
    """Refuses, of a game, what finds nothing in trees of information sets, whose nodes are no ends of games."""
    for name, recipe in config.recipes.items():
        trees = trees_of(recipe.collect)
        if trees is None or trees.settings(config.search).information == "perfect":
            continue
        for kind, extractor in recipe.extract.items():
            if isinstance(extractor, BestPathPairs) and extractor.path == "terminal":
                raise SettingsError(
                    f"recipes.{name}.extract.{kind}.path=terminal: trees of information sets have no ends to lead to; "
                    "take path: final, or sibling_pairs"
                )


def _check_step_rollouts(
    config: RunConfig, where: str, slot: StepRollouts | StepValues, source: TaskSource, simulator: Simulator[Any]
) -> None:
    if source.row.players > 1:
        raise SettingsError(f"{where}: {config.env} has {source.row.players} players, and it values what one does")
    if _has_luck(config, source, simulator):
        raise SettingsError(
            f"{where}: {config.env} has luck after its first decision, which no replay of actions repeats"
        )
    if isinstance(slot, StepRollouts) and slot.expert:
        _check_player(config, f"{where}.expert", slot.expert)


def _has_luck(config: RunConfig, source: TaskSource, simulator: Simulator[Any]) -> bool:
    """Whether luck is drawn after the first decision, in some episodes of random actions."""
    rng = np.random.default_rng(config.seed)
    tasks = source.tasks(simulator, "train", min(config.train_goals, LOOKED_AT))
    playing = [Playing(simulator, start(simulator, task).state, rng, None) for task in tasks]
    for _ in play(playing, lambda on: [random_opponent(simulator, one.state, rng) for one in on], most_steps=100):
        pass
    return any(len(one.moves) > len(one.movers) for one in playing)


def _check_base(config: RunConfig, source: TaskSource, players: Mapping[str, Any]) -> None:
    """Whether a model can be made from scratch here."""
    base, row = config.base, source.row
    if base.demonstrations_file:
        try:
            load_demonstrations(base.demonstrations_file)
        except (ValueError, OSError) as error:
            raise SettingsError(f"base.demonstrations_file: {error}") from None
    elif not base.demonstrators:
        known = ", ".join(players)
        raise SettingsError(
            f"base.demonstrators: a model from scratch is shown how {config.env} is played; name players by rule with "
            f"their shares ({known}, or module:name of your own), give a base.demonstrations_file, or start from a "
            "--model"
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
        return simulator_of(config, split, **more)
    except (TypeError, ValueError, OSError, gym.error.Error) as error:
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
    rows.sort(key=lambda row: row_order(asdict(row)))
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
    path = run / CONFIG
    if os.path.lexists(path):
        if changed := _differing(_settings_in(path), config):
            raise SettingsError(
                f"{run} holds a run with other settings ({', '.join(changed)}); repeat the --set options that it was "
                "started with to go on with it, or give another --out"
            )
        return
    idle = dict(unread(config))
    said = {name: value for name, value in as_dict(config).items() if name not in idle}
    with atomically(path) as partial:
        partial.write_text(yaml.safe_dump(said, sort_keys=False))


def _settings_in(path: Path) -> RunConfig:
    """A run's settings. Raises :class:`SettingsError` where they cannot be read."""
    try:
        data = read_yaml(path)
        if not isinstance(data.get("recipes"), dict):
            raise SettingsError(f"{path}: recipes={data.get('recipes')!r}; expected the settings of each by its name")
        return build_from(path, RunConfig, _of_today(data))
    except SettingsError as error:
        raise SettingsError(
            f"{error}; the file is damaged, or another version wrote it: give another --out, or delete the folder"
        ) from None


def _of_today(data: dict[str, Any]) -> dict[str, Any]:
    """Settings of a run whose searches an earlier version may have written, with all options beside each other."""
    data = dict(data)
    for name in SEARCHES:
        if isinstance(data.get(name), dict):
            data[name] = from_flat(data[name])
    for name, recipe in data["recipes"].items():
        try:
            trees = {**recipe["collect"]["trees"]}
            trees["search"] = from_flat(trees["search"])
        except (KeyError, TypeError, AttributeError):  # it collects no trees, or is damaged
            continue
        data["recipes"] = {**data["recipes"], name: {**recipe, "collect": {**recipe["collect"], "trees": trees}}}
    return data


def _differing(before: RunConfig, after: RunConfig) -> list[str]:
    idle = dict(unread(after))
    names = [f.name for f in fields(RunConfig) if f.name != "recipes" and f.name not in idle]
    changed = [name for name in names if getattr(before, name) != getattr(after, name)]
    recipes = before.recipes.keys() | after.recipes.keys()
    others = [f"recipes.{name}" for name in recipes if before.recipes.get(name) != after.recipes.get(name)]
    if not others and any(collection_of(before, name, 1) != collection_of(after, name, 1) for name in recipes):
        others = ["the order of recipes"]  # the first has the collection that others share
    return sorted([*changed, *others])
