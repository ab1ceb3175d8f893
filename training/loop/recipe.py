"""Recipes and runs, as data.

A :class:`Recipe` says how one trained agent comes about: four slots, each the name of an option with that option's
settings. A :class:`RunConfig` says the rest: environment, goals, model, budgets, and which recipes are compared. Both
are YAML files (``recipes/``), read strictly: a setting that nothing reads is an error.
"""

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import gymnasium as gym

from ...agents.prompting import history_named
from ...envs.opponents import is_share
from ...envs.play.task import TaskSource
from ...envs.registry import environment_row
from ...search import SearchSettings
from ...search.presets import suited_settings
from ...search.rules.options import overlaid
from ...search.typed import check_fields
from ..readable import BASE
from ..settings import (
    MOST_COUNT,
    OneOf,
    SettingsError,
    build,
    build_from,
    check_counts,
    check_seed,
    override,
    read_yaml,
)
from ..stages import plain_name
from ..supervised import SupervisedSettings
from ..value import ValueSettings
from .extract import SiblingPairs
from .learners import Preference
from .slots import ACT, COLLECT, EXTRACT, LEARN, Act, Collect, Extractor, Learn, Policy, Trees

MAX_RECIPES: Final = 100
FOLDER: Final = Path(__file__).parents[1] / "recipes"
USUAL: Final = ("rft", "tree_sft", "trajectory_dpo", "step_dpo")
"""The recipes of a run that names none."""
STAGES: Final = ("base", "critic", "critic_trees", "evaluation")
SELF: Final = "self"
"""Among a game's opponents: the model that collects."""
USUAL_ENV: Final = "branchwise/WebShop-v0"
LEFT_OUT: Final[Mapping[str, dict[str, Any]]] = {"acting": {"hide_outcome": True}, "critic_search": {"simulations": 8}}
"""What a run's searches are where it says nothing of them, beside the defaults of ``SearchSettings``."""
REQUIRED: Final = {"summary", "source", "collect", "extract", "learn"}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one trained agent comes about: four slots, each a name and that name's settings.

    summary, source: one line on what it does; the paper.
    collect: what it learns from (``slots.py``).
    extract: the rows that are made of it (``extract.py``), one extractor or several.
    learn: how a model learns from them (``learners.py``).
    rates: learning rates that are tried in every round; the best on validation goals is kept. Empty: the learner's own.
    act: how what was learned decides (``slots.py``).
    """

    summary: str
    source: str
    collect: Annotated[Collect, OneOf(COLLECT)]
    extract: Annotated[dict[str, Extractor], OneOf(EXTRACT)]
    learn: Annotated[Learn, OneOf(LEARN)]
    rates: tuple[float, ...] = ()
    act: Annotated[Act, OneOf(ACT)] = field(default_factory=Policy)

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.rates:
            object.__setattr__(self, "rates", (self.learn.learning_rate,))
        usual = type(self.learn)().learning_rate
        if self.learn.learning_rate not in (usual, *self.rates):
            raise ValueError(
                f"rates={self.rates} are tried, and not learn's learning_rate={self.learn.learning_rate}; leave one out"
            )
        if min(self.rates) <= 0:
            raise ValueError(f"rates={self.rates}; expected positive numbers")
        if len(set(self.rates)) < len(self.rates):
            raise ValueError(f"rates={self.rates} has one twice; name each once")
        if not self.extract:
            raise ValueError(f"extract is empty; name at least one of {', '.join(EXTRACT)}")
        for name, extractor in self.extract.items():
            if extractor.reads != self.collect.gives:
                fitting = [other for other, kind in EXTRACT.items() if kind.reads == self.collect.gives]
                raise ValueError(
                    f"extract.{name} reads {extractor.reads}, and collect gives {self.collect.gives}; change collect, "
                    f"or take one of {', '.join(fitting)}"
                )
            if extractor.gives != self.learn.takes:
                fitting = [other for other, kind in EXTRACT.items() if kind.gives == self.learn.takes]
                raise ValueError(
                    f"extract.{name} gives {extractor.gives}, and learn takes {self.learn.takes}; change learn, "
                    f"or take one of {', '.join(fitting)}"
                )
        by_visits = isinstance(self.learn, Preference) and self.learn.label_smoothing == "visits"
        if by_visits and self.collect.gives != "trees":
            raise ValueError(
                f"learn.label_smoothing=visits reads the visits of a tree, and collect gives {self.collect.gives}, of "
                "which all have as many; take pair or q"
            )
        if isinstance(self.learn, Preference) and not any(extractor.compares for extractor in self.extract.values()):
            raise ValueError(f"extract {', '.join(self.extract)} gives no pairs to compare; add one, or learn sft")
        for name, extractor in self.extract.items():
            if isinstance(extractor, SiblingPairs) and extractor.counts and not isinstance(self.learn, Preference):
                raise ValueError(f"extract.{name} gives pairs {extractor.counts}, which only a preference loss reads")
        made = {"policy", self.learn.makes}
        if missing := [part for part in self.act.needs if part not in made]:
            raise ValueError(f"act needs {' and '.join(missing)}, which learn does not make; change learn or act")
        if unused := made - set(self.act.needs):
            raise ValueError(f"learn makes {' and '.join(unused)}, which act does not use; act: best_of does")


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
    temperature: of sampled episodes and roll-outs; in free text also of what is proposed at the nodes of a tree.
    outcome: what search is for and models are chosen by: ``success`` (1 or 0), or the environment's ``reward``.
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
    temperature: float = 1.0
    outcome: Literal["success", "reward"] = "success"
    baselines: tuple[str, ...] = ("random",)
    base: BaseSettings = field(default_factory=BaseSettings)
    leaves: Literal["policy", "random"] = "policy"
    search: SearchSettings = field(default_factory=SearchSettings)
    acting: SearchSettings = field(default_factory=lambda: SearchSettings(**LEFT_OUT["acting"]))
    oracle_simulations: int = 8
    recipes: dict[str, Recipe] = field(default_factory=lambda: recipes_named(*USUAL))
    search_recipe: str = "step_dpo"
    critic_goals: int = 1000
    critic_search: SearchSettings = field(default_factory=lambda: SearchSettings(**LEFT_OUT["critic_search"]))
    critic: ValueSettings = field(default_factory=ValueSettings)

    def __post_init__(self) -> None:
        check_fields(self)
        check_counts(self, "rounds", "train_goals", "validation_goals", "test_goals", "model_calls")
        check_counts(self, "oracle_simulations", "critic_goals")
        if len(self.recipes) > MAX_RECIPES:
            raise ValueError(f"recipes names {len(self.recipes):,}; the limit is {MAX_RECIPES}")
        check_seed(self.seed)
        if self.temperature < 0:
            raise ValueError(f"temperature={self.temperature}; expected 0 (the likeliest text) or a positive number")
        history_named(self.history)
        row = environment_row(self.env)
        object.__setattr__(self, "env", row.id)
        if row.players > 1:  # the rules say who wins what is tried out, so that nothing is hidden from a search
            object.__setattr__(self, "acting", replace(self.acting, hide_outcome=False))
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
            raise ValueError(f"search_recipe={self.search_recipe!r} is not among recipes={known}")
        if self.search_recipe and self.recipes[self.search_recipe].learn.makes != "policy":
            raise ValueError(f"search_recipe={self.search_recipe!r} learns no policy that could act with search")
        for name, recipe in self.recipes.items():
            if isinstance(recipe.collect, Trees):
                try:
                    recipe.collect.settings(self.search)
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


def load_recipe(name: str | Path, changes: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe of ours by name, or from a YAML file by path, ``changes`` laid over it."""
    path, data = _recipe_data(str(name))
    recipe = build_from(path, Recipe, data)
    return build(Recipe, laid_over(data, changes), f"recipes.{path.stem}.") if changes else recipe


def recipes_named(*names: str | Path) -> dict[str, Recipe]:
    """Recipes by name, each of ours or from a YAML file."""
    return {_stem(str(name)): load_recipe(name) for name in names}


def load_config(name: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """A run's settings: one of ours by name (:func:`config_names`) or a YAML file; ``overrides`` are ``key=value``."""
    path = _find(str(name), config_names)
    data = read_yaml(path)
    if "collect" in data and "env" not in data:
        raise SettingsError(
            f"{str(name)!r} is a recipe, which says how one agent is trained; a run names recipes: give one of "
            f"{', '.join(config_names())}, or a file of your own with recipes: [{name}]"
        )
    with_recipes = partial(_with_recipes, data)
    build_from(path, RunConfig, with_recipes())  # its own faults first, with its name
    config = build(RunConfig, with_recipes(overrides))
    shown = os.path.expanduser(config.base.demonstrations_file)
    base = replace(config.base, demonstrations_file=shown) if shown else config.base
    return replace(config, model=os.path.expanduser(config.model), base=base)


def run_of(name: str, overrides: Sequence[str] = ()) -> RunConfig:
    """As :func:`load_config`; the id of an environment is a run of it, with the default settings."""
    if Path(name).suffix in (".yaml", ".yml") or name in config_names():
        return load_config(name, overrides)
    return build(RunConfig, _with_recipes({"env": name, "search_recipe": ""}, overrides))


def _with_recipes(data: Mapping[str, Any], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The settings of a run with those of each of its recipes: where a recipe is named, those of its file, and over
    them what the run says of it."""
    data = {**data, "recipes": _by_name(data.get("recipes", USUAL))}
    of_recipes = [each for each in overrides if each.startswith("recipes.")]
    data = override(data, [each for each in overrides if each not in of_recipes])
    data["recipes"] = override({"recipes": _by_name(data["recipes"])}, of_recipes)["recipes"]
    data = _suited(data)
    found = {}
    for name, changes in data["recipes"].items():
        if not isinstance(changes, Mapping):
            raise SettingsError(f"recipes.{name}={changes!r}: expected settings of its own, or nothing")
        whole = changes.keys() >= REQUIRED
        stem = name if whole else _stem(name)
        if stem in found:
            raise SettingsError(f"recipes has {stem!r} twice; name each once")
        found[stem] = dict(changes) if whole else laid_over(_recipe_data(name)[1], changes)
    data["recipes"] = found
    if isinstance(searching := data.get("search_recipe"), str):
        data["search_recipe"] = _stem(searching)
    return data


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


def laid_over(recipe: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's settings with ``changes``. A slot that changes its name begins anew. Of ``extract``
    a mapping adds to the extractors, changes them, or takes one away (``best_paths: null``); names replace them all."""
    result = dict(recipe)
    for key, change in changes.items():
        before = result.get(key)
        if isinstance(before, str):
            before = {before: {}}
        if isinstance(before, list) and key == "extract":
            before = {name: {} for name in before}
        same = isinstance(before, Mapping) and isinstance(change, Mapping)
        if same and key in ("collect", "learn", "act"):
            same = before.keys() == change.keys()  # type: ignore[union-attr]
        result[key] = _merged(before, change) if same else change  # type: ignore[arg-type]
        if key == "extract" and isinstance(change, Mapping):
            result[key] = {name: value for name, value in result[key].items() if change.get(name, {}) is not None}
    return result


def _merged(before: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(before)
    for key, value in change.items():
        if key == "selection":  # of a search, where another rule begins with its own defaults
            merged[key] = overlaid(merged, {key: value})[key]
            continue
        inner = merged.get(key) or {}
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(inner, value) if both else value
    return merged


def _recipe_data(name: str) -> tuple[Path, dict[str, Any]]:
    path = _find(name, recipe_names)
    data = read_yaml(path)
    if "env" in data:
        raise SettingsError(f"{name!r} is a run, not a recipe; recipes of ours: {', '.join(recipe_names())}")
    return path, data


def _stem(name: str) -> str:
    return Path(name).stem if name.endswith((".yaml", ".yml")) or "/" in name else name


def run_folder_named(config: str | Path) -> Path:
    """The folder of a run where none is given: ``runs/CONFIG``. Raises ``ValueError`` where the file's name is no plain
    name."""
    try:
        return Path("runs") / plain_name(Path(config).stem, f"CONFIG {str(config)!r}:")
    except ValueError as error:
        raise ValueError(f"{error}; rename the file, or give the run's folder with --out") from None


def config_names() -> list[str]:
    """The run configurations that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if "env" in read_yaml(path))


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if "env" not in read_yaml(path))


def _find(name: str, names: Callable[[], list[str]]) -> Path:
    """The file of a name of ours or a path; ``names`` says what is offered where there is none."""
    ours = FOLDER / f"{name}.yaml"
    path = Path(name)
    if ours.is_file() and path.suffix == "":
        return ours
    if not path.is_file():
        known = names()
        near = difflib.get_close_matches(name.lower().replace("-", "_"), known, 1)
        hint = f"did you mean {near[0]}? Or " if near else ""
        raise SettingsError(f"no settings file {name!r}; {hint}give a path, or one of ours: {', '.join(known)}")
    return path
