"""Runs, as data: an environment, goals, a model, budgets, and which recipes are compared.

A run is a YAML file (``recipes/``, beside the recipes). Where it names a recipe it may lay settings over the recipe's
own, and ``key=value`` lies over both. It is read strictly: a setting that does not exist is an error, and so is one of
a part that this run does not have (:func:`unread`).
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Literal

import gymnasium as gym

from ...agents.prompting import history_named
from ...envs.opponents import is_share
from ...envs.play.task import TaskSource
from ...envs.registry import environment_row
from ...search import SearchSettings
from ...search.extraction import Outcome
from ...search.presets import suited_settings
from ...search.rules.options import overlaid
from ...search.typed import check_fields
from ..readable import BASE
from ..settings import MOST_COUNT, SettingsError, build, build_from, check_counts, check_seed, override, read_yaml
from ..stages import plain_name
from ..supervised import SupervisedSettings
from ..value import ValueSettings
from .recipe import FOLDER, Recipe, laid_over, recipe_data, recipe_stem, recipes_named, settings_file
from .slots import trees_of

MAX_RECIPES: Final = 100
USUAL: Final = ("rft", "tree_sft", "trajectory_dpo", "step_dpo")
"""The recipes of a run that names none."""
STAGES: Final = ("base", "critic", "critic_trees", "evaluation")
SELF: Final = "self"
"""Among a game's opponents: the model that collects."""
USUAL_ENV: Final = "branchwise/WebShop-v0"
LEFT_OUT: Final[Mapping[str, dict[str, Any]]] = {"acting": {"hide_outcome": True}, "critic_search": {"simulations": 8}}
"""What a run's searches are where it says nothing of them, beside the defaults of ``SearchSettings``."""
REQUIRED: Final = {"collect", "extract", "learn"}
SEARCHING: Final = "step_dpo"
"""The recipe that acts with search too, where a run does not say which, and has it."""


@dataclass(frozen=True, slots=True)
class BaseSettings:
    """The model that every recipe starts from, where it is made here.

    width, layers, heads: of the small model (``agents.small_model``).
    worlds: how many worlds of the training split are shown, where the environment makes others of a number (generated
        shops).
    lessons, reading, reading_gate: pages with questions, where the environment has some (0: none), how they are
        trained, and the share of answers on pages of the validation split that must be right; more passes are made
        until they are, at most ``reading_passes``.
    demonstrations, demonstrators, cloning: episodes shown; who plays them, players by rule with their shares (names
        that ``branchwise envs --json`` shows, or ``module:name``); how they are trained.
    demonstrations_file: in place of both, a JSONL file of which all is shown, whatever ``demonstrations`` says:
        episodes, or conversations as ``messages`` (``search.records.load_demonstrations``).
    """

    width: int = 64
    layers: int = 3
    heads: int = 4
    worlds: int = 1
    lessons: int = 0
    reading: SupervisedSettings = field(default_factory=SupervisedSettings)
    reading_gate: float = 0.98
    reading_passes: int = 3
    demonstrations: int = 3000
    demonstrators: dict[str, float] = field(default_factory=dict)
    cloning: SupervisedSettings = field(default_factory=SupervisedSettings)
    demonstrations_file: str = ""

    def __post_init__(self) -> None:
        check_fields(self)
        check_counts(self, "width", "layers", "heads", "worlds", "reading_passes", "demonstrations")
        if not 0 <= self.lessons <= MOST_COUNT:
            raise ValueError(f"lessons={self.lessons}; expected 0 (none) to {MOST_COUNT:,}")
        if not 0 <= self.reading_gate <= 1:
            raise ValueError(f"reading_gate={self.reading_gate}; expected a share from 0 to 1")
        for name in ("lessons", "demonstrations"):
            if 0 < getattr(self, name) < self.worlds:
                raise ValueError(
                    f"{name}={getattr(self, name)} for worlds={self.worlds}; expected at least one a world"
                )
        for name, share in self.demonstrators.items():
            if not is_share(share):
                raise ValueError(f"demonstrators: {name}={share!r}; expected a positive share")
        if self.demonstrations_file:
            self._check_file_alone()
        if self.width % (2 * self.heads):
            raise ValueError(f"width={self.width}; expected a multiple of {2 * self.heads}, twice heads={self.heads}")

    def _check_file_alone(self) -> None:
        """Raises ``ValueError`` for settings that have no effect beside a file of demonstrations."""
        file = f"demonstrations_file={self.demonstrations_file!r}"
        if self.demonstrators:
            raise ValueError(
                f"{file} and demonstrators={self.demonstrators}; the model is shown one of them: leave one out"
            )
        if self.worlds > 1 and not self.lessons:
            raise ValueError(f"worlds={self.worlds} are for lessons and demonstrators; with {file} alone leave it out")


@dataclass(frozen=True, slots=True)
class RunConfig:
    """A run of the loop.

    env, env_options: the environment, as for ``gym.make``; ``split`` is the loop's own. A game's ``opponents`` may have
        ``self`` among their shares (``{self: 1, random: 1}``): in that share of the sampled episodes the model that
        collects plays all seats. Everything else is played against the others named.
    model: a Hugging Face id or folder to start from; empty: a small one made from scratch and shown demonstrations.
    history: what the model reads of a transcript (``agents.prompting``).
    rounds: of collecting and training; each has ``train_goals`` goals of its own.
    model_calls: the budget of collecting, a round and recipe: a sampled action is one call, however many of them a
        prompt is asked for, and so is a prompt whose listed actions are scored. Nothing is learned from beyond it.
    audit_pairs, audit_rolls: how many pairs of each round have their labels audited (0: none), and by how many
        roll-outs a side; calls of the model beyond the budget, which nothing learns from.
    temperature: of sampled episodes and roll-outs; in free text also of what is proposed at the nodes of a tree.
    outcome: what search is for and models are chosen by: ``success`` (1 or 0), or the environment's ``reward``.
    verdict_noise: the probability with which the verdict on an episode is flipped while collecting, each time that it
        is asked for (below 0.5; of one player, with outcome=success). Episodes are then paid by the verdict;
        validation, test and audit see the truth.
    baselines: players by rule that have a row of the table, by name.
    leaves: what values the leaves of collecting: roll-outs by the ``policy``, or by ``random`` legal actions, which
        cost no model calls.
    search: of collecting trees, over which a recipe lays its own. In a file, this and the searches below begin with
        what suits a game that hides something (``search.presets.suited_settings``).
    acting: the search at test time, with ``oracle_simulations`` where the outcome is seen.
    recipes: the agents that are trained, by name; in a file a list of names of recipes or of files, or a mapping from
        them to settings that are laid over the recipe's own.
    search_recipe: the one that acts with search beside the base (empty: nobody does). In a game only where two players'
        returns are opposite; the rules say who wins the states that the search tries out, so that there is no row with
        an oracle.
    critic_goals, critic_search, critic: goals that each policy that acts with search searches for the critic of its
        leaves; how it searches them; how the critic is trained.
    """

    env: str = USUAL_ENV
    env_options: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    model: str = ""
    history: str = "last_observation"
    rounds: int = 2
    train_goals: int = 200
    validation_goals: int = 100
    test_goals: int = 300
    model_calls: int = 40_000
    audit_pairs: int = 50
    audit_rolls: int = 16
    temperature: float = 1.0
    outcome: Outcome = "success"
    verdict_noise: float = 0.0
    baselines: tuple[str, ...] = ("random",)
    base: BaseSettings = field(default_factory=BaseSettings)
    leaves: Literal["policy", "random"] = "policy"
    search: SearchSettings = field(default_factory=SearchSettings)
    acting: SearchSettings = field(default_factory=lambda: SearchSettings(**LEFT_OUT["acting"]))
    oracle_simulations: int = 8
    recipes: dict[str, Recipe] = field(default_factory=lambda: recipes_named(*USUAL))
    search_recipe: str = SEARCHING
    critic_goals: int = 1000
    critic_search: SearchSettings = field(default_factory=lambda: SearchSettings(**LEFT_OUT["critic_search"]))
    critic: ValueSettings = field(default_factory=ValueSettings)

    def __post_init__(self) -> None:
        check_fields(self)
        check_counts(self, "rounds", "train_goals", "validation_goals", "test_goals", "model_calls")
        check_counts(self, "oracle_simulations", "critic_goals", "audit_rolls")
        if not 0 <= self.audit_pairs <= MOST_COUNT:
            raise ValueError(f"audit_pairs={self.audit_pairs}; expected 0 (no audit) to {MOST_COUNT:,}")
        if len(self.recipes) > MAX_RECIPES:
            raise ValueError(f"recipes names {len(self.recipes):,}; the limit is {MAX_RECIPES}")
        check_seed(self.seed)
        if self.temperature < 0:
            raise ValueError(f"temperature={self.temperature}; expected 0 (the likeliest text) or a positive number")
        if not 0.0 <= self.verdict_noise < 0.5:
            raise ValueError(f"verdict_noise={self.verdict_noise}; expected a probability from 0 to below 0.5")
        history_named(self.history)
        row = environment_row(self.env)
        object.__setattr__(self, "env", row.id)
        if row.players > 1:  # the rules say who wins what is tried out, so that nothing is hidden from a search
            object.__setattr__(self, "acting", replace(self.acting, hide_outcome=False))
        if self.verdict_noise and (row.players > 1 or self.outcome != "success"):
            raise ValueError(
                f"verdict_noise={self.verdict_noise} flips success, and outcome={self.outcome} in {self.env}"
            )
        if "split" in self.env_options:
            raise ValueError(
                "env_options.split is set by the loop: train to learn, validation to choose, test to judge"
            )
        _check_self_play(self.env_options.get("opponents"))
        if not self.recipes:
            raise ValueError("recipes is empty; name at least one")
        names = [plain_name(name, "recipes:").casefold() for name in self.recipes]
        if taken := [name for name in names if name in (*self.baselines, BASE, *STAGES) or names.count(name) > 1]:
            raise ValueError(f"recipes: {taken[0]!r} is the name of a row or a stage already; rename the recipe's file")
        if self.search_recipe and self.search_recipe not in self.recipes:
            known = ", ".join(self.recipes)
            raise ValueError(
                f"search_recipe={self.search_recipe!r} is not among recipes={known}; name one of them, or nothing "
                "(search_recipe=), and no row acts with search"
            )
        if self.search_recipe and self.recipes[self.search_recipe].learn.makes != "policy":
            raise ValueError(f"search_recipe={self.search_recipe!r} learns no policy that could act with search")
        for name, recipe in self.recipes.items():
            if trees := trees_of(recipe.collect):
                try:
                    trees.settings(self.search)
                except ValueError as error:
                    raise ValueError(f"recipes.{name}.collect.trees over the run's search: {error}") from None
        if row.players == 1 and not self.acting.hide_outcome:
            raise ValueError("acting.hide_outcome must be true: at test time the outcome is seen by oracle rows alone")


def _check_self_play(opponents: Any) -> None:
    """Raises ``ValueError`` where ``self`` is named so that validation and test tasks would have no opponent."""
    alone = opponents == SELF or (isinstance(opponents, Mapping) and list(opponents) == [SELF])
    if alone or (isinstance(opponents, list | tuple) and SELF in opponents):
        raise ValueError(
            f"env_options.opponents={opponents!r}: self plays where episodes are sampled, and validation and test "
            "tasks need an opponent that stays the same; give shares with another, such as {self: 1, random: 1}"
        )
    if isinstance(opponents, Mapping) and SELF in opponents:
        for name, share in opponents.items():
            if not is_share(share):
                raise ValueError(f"env_options.opponents: {name}={share!r}; expected a positive share")


def load_config(name: str | Path, overrides: Sequence[str] = (), recipe: str = "") -> RunConfig:
    """A run's settings: one of ours by name (:func:`config_names`) or a YAML file; ``overrides`` are ``key=value``.
    ``recipe``: one more, by name or file, where the run does not have it."""
    path = settings_file(str(name), "run", config_names)
    data = _beside(path, read_yaml(path))
    if "collect" in data and "env" not in data:
        raise SettingsError(
            f"{str(name)!r} is a recipe, which says how one agent is trained; a run names recipes: give one of "
            f"{', '.join(config_names())}, or a file of your own with recipes: [{name}]"
        )
    config = build_from(path, RunConfig, _with_recipes(data))  # its own faults first, with its name
    try:
        _check_all_read(config, data, lambda name: _with_recipes({k: v for k, v in data.items() if k != name}))
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None
    if overrides or recipe:
        config = _overridden(data, overrides, recipe)
    shown = os.path.expanduser(config.base.demonstrations_file)
    base = replace(config.base, demonstrations_file=shown) if shown else config.base
    return replace(config, model=os.path.expanduser(config.model), base=base)


def _beside(path: Path, data: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run's file with the paths of recipes that lie beside it and not where the command runs."""

    def found(name: Any) -> Any:
        beside = path.parent / str(name)
        return (
            str(beside)
            if str(name).endswith((".yaml", ".yml")) and not Path(name).exists() and beside.is_file()
            else name
        )

    said = data.get("recipes")
    if isinstance(said, Mapping):
        return {**data, "recipes": {found(name): changes for name, changes in said.items()}}
    return {**data, "recipes": [found(name) for name in said]} if isinstance(said, list) else data


def run_of(name: str, overrides: Sequence[str] = (), recipe: str = "") -> RunConfig:
    """As :func:`load_config`; the id of an environment is a run of it, with the default settings."""
    if is_run(name):
        return load_config(name, overrides, recipe)
    meant = [run for run in config_names() if run.replace("_", "") == name.replace("_", "").replace("-", "")]
    if meant:  # WebShop is an environment with default settings, and so would webshop be
        raise SettingsError(
            f"{name!r} may be the run {meant[0]} or an environment with default settings; write {meant[0]}, or the "
            "environment's id as `branchwise envs` has it"
        )
    return _overridden({"env": name, "search_recipe": ""}, overrides, recipe)


def is_run(name: str) -> bool:
    """Whether that names a run, by a name of ours or a YAML file, and no environment."""
    return Path(name).suffix in (".yaml", ".yml") or name in config_names()


def _overridden(data: Mapping[str, Any], overrides: Sequence[str], recipe: str) -> RunConfig:
    """The run with ``key=value`` laid over its settings, of which something must read each."""
    config = build(RunConfig, _with_recipes(data, overrides, recipe))
    said = {each: each.partition("=")[0].strip().split(".")[0] for each in overrides}
    _check_all_read(
        config,
        said.values(),
        lambda name: _with_recipes(data, [each for each in overrides if said[each] != name], recipe),
    )
    return config


def _check_all_read(config: RunConfig, said: Collection[str], without: Callable[[str], dict[str, Any]]) -> None:
    """Raises :class:`SettingsError` where a setting that was ``said`` has no effect in this run. ``without``: the
    settings as if it had not been said, which it may repeat."""
    for name, why in unread(config):
        if name in said and getattr(config, name) != getattr(build(RunConfig, without(name)), name):
            raise SettingsError(f"{name}: nothing in this run reads it, since {why}; leave it out")


def unread(config: RunConfig) -> Iterator[tuple[str, str]]:
    """The settings of parts that this run does not have, and why."""
    if config.model:
        yield "base", f"it starts from model={config.model} and makes none"
    if not config.audit_pairs:
        yield "audit_rolls", "no labels are audited (audit_pairs=0)"
    if not config.search_recipe:
        for name in ("acting", "oracle_simulations", "critic_goals", "critic_search", "critic"):
            yield name, "nobody acts with search (search_recipe is empty)"
    elif environment_row(config.env).players > 1:
        yield "oracle_simulations", "games have no row with an oracle"
    if not any(trees_of(recipe.collect) for recipe in config.recipes.values()):
        yield "search", "none of its recipes collects trees"
        if not config.search_recipe:
            yield "leaves", "no trees are grown"


def _with_recipes(data: Mapping[str, Any], overrides: Sequence[str] = (), recipe: str = "") -> dict[str, Any]:
    """The settings of a run with those of each of its recipes: where a recipe is named, those of its file, and over
    them what the run says of it. Names that ``overrides`` pick keep what the run says of them."""
    own = _by_name(data.get("recipes", USUAL))
    of_recipes = [each for each in overrides if each.startswith("recipes.")]
    data = override({**data, "recipes": own}, [each for each in overrides if each not in of_recipes])
    named = {_in_run(name, own): changes for name, changes in _by_name(data["recipes"]).items()}
    if recipe and _in_run(recipe, named) not in named:
        named = {name: said for name, said in named.items() if recipe_stem(name) != recipe_stem(recipe)} | {recipe: {}}
    files: dict[str, str] = {}
    for name in named:
        stem = name if _is_whole(name, named[name] or {}) else recipe_stem(name)
        if stem in files:
            raise SettingsError(f"recipes has {stem!r} twice; name each once")
        files[stem] = name
    said = {stem: named[name] or own.get(name, {}) for stem, name in files.items()}
    data = _suited({**data, "recipes": override({"recipes": said}, of_recipes)["recipes"]})
    found = {}
    for stem, changes in data["recipes"].items():
        if not isinstance(changes, Mapping):
            raise SettingsError(f"recipes.{stem}={changes!r}: expected settings of its own, or nothing")
        file = files.get(stem, stem)
        found[stem] = dict(changes) if _is_whole(file, changes) else laid_over(recipe_data(file)[1], changes)
    data["recipes"] = found
    data["search_recipe"] = _searching(data, found, overrides)
    return data


def _searching(data: Mapping[str, Any], recipes: Mapping[str, Any], overrides: Sequence[str]) -> Any:
    """Which recipe acts with search too: the one that is said, unless others were picked; by default ``step_dpo`` if
    the run has it."""
    said = data.get("search_recipe", SEARCHING)
    if not isinstance(said, str):
        return said
    stem = recipe_stem(said)
    keys = {each.partition("=")[0].strip() for each in overrides}
    left_out = "search_recipe" not in data or ("recipes" in keys and "search_recipe" not in keys)
    return "" if stem not in recipes and left_out else stem


def _in_run(name: str, own: Collection[str]) -> str:
    """The name by which a run has a recipe, which may be the path of its file."""
    return next((other for other in own if name in (other, recipe_stem(other))), name)


def _is_whole(name: str, said: Any) -> bool:
    """Whether a run says all of a recipe, as the file in its folder does, so that no file of it is read."""
    has_file = os.path.isfile(FOLDER / f"{name}.yaml") or os.path.isfile(name)
    return isinstance(said, Mapping) and said.keys() >= ({f.name for f in fields(Recipe)} if has_file else REQUIRED)


def _suited(data: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run in which each search of a game that hides something begins with what suits it
    (``search.presets``), and acting sees no outcome; what the run says itself lies over that."""
    env, options = str(data.get("env", USUAL_ENV)), data.get("env_options") or {}
    begins: dict[str, dict[str, Any]] = {"search": {}, **LEFT_OUT}
    try:
        row = environment_row(env)
        if row.players > 1:
            of_game = {name: value for name, value in options.items() if name not in ("opponents", "split")}
            usual = suited_settings(TaskSource(row.id, of_game).behind_view().simulator("train"))
            begins = {name: overlaid(usual, own) for name, own in {**begins, "acting": {}}.items()}
    except (TypeError, ValueError, AttributeError, ImportError, gym.error.Error):
        return data  # named with its cure where the settings are checked
    laid = {
        name: overlaid(own, said) for name, own in begins.items() if isinstance(said := data.get(name, {}), Mapping)
    }
    return {**data, **laid}


def _by_name(recipes: Any) -> dict[str, Any]:
    if isinstance(recipes, Mapping):
        return {str(name): {} if changes is None else changes for name, changes in recipes.items()}
    if not isinstance(recipes, list | tuple) or not all(isinstance(name, str) for name in recipes):
        raise SettingsError(f"recipes={recipes!r}: expected a list of names, or a mapping from names to settings")
    if len(recipes) > MAX_RECIPES:
        raise SettingsError(f"recipes names {len(recipes):,}; the limit is {MAX_RECIPES}")
    if twice := [name for name in recipes if recipes.count(name) > 1]:
        raise SettingsError(f"recipes has {twice[0]!r} twice; name each once")
    return {name: {} for name in recipes}


def config_names() -> list[str]:
    """The run configurations that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if "env" in read_yaml(path))


def run_folder_named(config: str | Path) -> Path:
    """The folder of a run where none is given: ``runs/CONFIG``. Raises ``ValueError`` where the file's name is no plain
    name."""
    try:
        return Path("runs") / plain_name(Path(config).stem, f"CONFIG {str(config)!r}:")
    except ValueError as error:
        raise ValueError(f"{error}; rename the file, or give the run's folder with --out") from None
