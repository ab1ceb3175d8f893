"""Recipes and runs, as data.

A :class:`Recipe` says how one trained agent comes about: what is collected, what is extracted from it, which loss it
trains, and the settings that are tried on validation goals. A :class:`RunConfig` says the rest: environment, goals,
model, budgets, and which recipes are compared. Both are YAML files (``recipes/``), read strictly.
"""

import difflib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from ..agents.prompting import history_named
from ..envs.opponents import is_share
from ..envs.registry import environment_row
from ..search.engine import SearchSettings
from ..search.typed import check_fields
from .preference import PreferenceSettings
from .settings import SettingsError, build, build_from, check_seed, override, read_yaml
from .stages import plain_name
from .supervised import SupervisedSettings
from .value import ValueSettings

LIMITS: Final = {"rounds": 1000, "worlds": 1000, "layers": 1000, "heads": 1000, "width": 65_536}
MAX_RECIPES: Final = 100
MOST: Final = 100_000_000
"""The largest settings of a run, by name and of any other: a stage is planned for every round, whatever is finished."""

FOLDER: Final = Path(__file__).parent / "recipes"


@dataclass(frozen=True, slots=True)
class Recipe:
    """One trained agent.

    name: what files and tables call it; a plain name, since stages' folders have it.
    collect: whole ``episodes`` by sampling, or ``trees`` by search, under the run's budget of model calls.
    extract: ``successes`` (rejection fine-tuning), ``best_paths`` (the successful actions that trees found),
        ``trajectory_pairs`` (a correct against an incorrect episode), ``sibling_pairs`` (children of one node whose
        values differ: Agent Q).
    anchors: rows with a chosen action alone beside the pairs, from successful episodes or paths; without them an
        action that is never the better one of a contrast is trained away.
    train: ``supervised`` or ``preference``.
    threshold, min_visits, per_node: of sibling pairs; per_task: of trajectories.
    learning_rates: tried in every round; the best on validation goals is kept.
    """

    name: str
    source: str
    collect: Literal["episodes", "trees"]
    extract: Literal["successes", "best_paths", "trajectory_pairs", "sibling_pairs"]
    train: Literal["supervised", "preference"]
    learning_rates: tuple[float, ...]
    anchors: bool = False
    threshold: float = 0.2
    min_visits: int = 1
    per_node: int = 3
    per_task: int = 4
    supervised: SupervisedSettings = field(default_factory=SupervisedSettings)
    preference: PreferenceSettings = field(default_factory=PreferenceSettings)

    def __post_init__(self) -> None:
        check_fields(self)
        plain_name(self.name, "name=")
        _at_least_one(self, "min_visits", "per_node", "per_task")
        if self.threshold < 0:
            raise ValueError(f"threshold={self.threshold}; expected the least difference of value, from 0 on")
        if (self.extract in ("successes", "trajectory_pairs")) != (self.collect == "episodes"):
            raise ValueError(f"extract={self.extract!r} does not read {self.collect}; change collect")
        if (self.extract in ("trajectory_pairs", "sibling_pairs")) != (self.train == "preference"):
            raise ValueError(f"extract={self.extract!r} does not feed train={self.train!r}")
        if self.anchors and self.train != "preference":
            raise ValueError("anchors stand beside pairs; a supervised recipe has none")
        if not self.learning_rates:
            raise ValueError("learning_rates is empty; name at least one")
        if min(self.learning_rates) <= 0:
            raise ValueError(f"learning_rates={self.learning_rates}; expected positive numbers")
        if len(set(self.learning_rates)) < len(self.learning_rates):
            raise ValueError(f"learning_rates={self.learning_rates} has one twice; name each once")


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

    def __post_init__(self) -> None:
        check_fields(self)
        _at_least_one(self, "width", "layers", "heads", "worlds", "reading_passes", "demonstrations")
        if not 0 <= self.lessons <= MOST:
            raise ValueError(f"lessons={self.lessons}; expected 0 (none) to {MOST:,}")
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
        if self.width % (2 * self.heads):
            raise ValueError(f"width={self.width}; expected a multiple of {2 * self.heads}, twice heads={self.heads}")


@dataclass(frozen=True, slots=True)
class RunConfig:
    """A run of the loop.

    env, env_options: the environment, as for ``gym.make``; ``split`` is the loop's own.
    model: a Hugging Face id or folder to start from; empty: a small one made from scratch and shown demonstrations.
    history: what the model reads of a transcript (``agents.prompting``).
    rounds: of collecting and training; each has ``train_goals`` goals of its own.
    model_calls: the budget of collecting, a round and recipe: a sampled action is one call, however many of them a
        prompt is asked for, and so is a prompt whose listed actions are scored. Nothing is learned from beyond it.
    temperature: of sampled episodes and roll-outs.
    outcome: what search is for and models are chosen by: ``success`` (1 or 0), or the environment's ``reward``.
    baselines: players by rule that have a row of the table, by name.
    leaves: what values the leaves of collecting: roll-outs by the ``policy``, or by ``random`` legal actions, which
        cost no model calls.
    search: of collecting; ``acting``: at test time, with ``oracle_simulations`` where the outcome is seen.
    recipes: names of recipes; ``search_recipe`` is the one that acts with search beside the base (empty: nobody does).
    critic_goals, critic_search, critic: goals that each policy that acts with search searches for the critic of its
        leaves; how it searches them; how the critic is trained.
    """

    env: str = "branchwise/WebShop-v0"
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
    acting: SearchSettings = field(default_factory=lambda: SearchSettings(hide_outcome=True))
    oracle_simulations: int = 8
    recipes: tuple[str, ...] = ("rft", "tree_sft", "trajectory_dpo", "step_dpo")
    search_recipe: str = "step_dpo"
    critic_goals: int = 1000
    critic_search: SearchSettings = field(default_factory=lambda: SearchSettings(simulations=8))
    critic: ValueSettings = field(default_factory=ValueSettings)

    def __post_init__(self) -> None:
        check_fields(self)
        _at_least_one(self, "rounds", "train_goals", "validation_goals", "test_goals", "model_calls")
        _at_least_one(self, "oracle_simulations", "critic_goals")
        if len(self.recipes) > MAX_RECIPES:
            raise ValueError(f"recipes names {len(self.recipes):,}; the limit is {MAX_RECIPES}")
        check_seed(self.seed)
        if self.temperature < 0:
            raise ValueError(f"temperature={self.temperature}; expected 0 (the likeliest text) or a positive number")
        history_named(self.history)
        object.__setattr__(self, "env", environment_row(self.env).id)
        if "split" in self.env_options:
            raise ValueError(
                "env_options.split is set by the loop: train to learn, validation to choose, test to judge"
            )
        if not self.recipes:
            raise ValueError("recipes is empty; name at least one")
        if len(set(self.recipes)) < len(self.recipes):
            raise ValueError(f"recipes={self.recipes} has one twice; name each once")
        if self.search_recipe and self.search_recipe not in self.recipes:
            raise ValueError(f"search_recipe={self.search_recipe!r} is not among recipes={self.recipes}")
        if not self.acting.hide_outcome:
            raise ValueError("acting.hide_outcome must be true: at test time the outcome is seen by oracle rows alone")


def _at_least_one(settings: Any, *names: str) -> None:
    for name in names:
        value, limit = getattr(settings, name), LIMITS.get(name, MOST)
        if value < 1:
            raise ValueError(f"{name}={value}; expected at least 1")
        if value > limit:
            raise ValueError(f"{name}={value}; the limit is {limit:,}")


def load_recipe(name: str) -> Recipe:
    """A recipe of ours by name, or from a YAML file by path."""
    path = _find(name, recipe_names)
    return build_from(path, Recipe, read_yaml(path))


def load_config(name: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """A run's settings: one of ours by name (:func:`config_names`) or a YAML file; ``overrides`` are ``key=value``."""
    path = _find(str(name), config_names)
    data = read_yaml(path)
    if "collect" in data and "env" not in data:
        raise SettingsError(
            f"{str(name)!r} is a recipe, which says how one agent is trained; a run names recipes: give one of "
            f"{', '.join(config_names())}, or a file of your own with recipes: [{data.get('name', name)}]"
        )
    build_from(path, RunConfig, data)  # its own faults first, with its name
    config = build(RunConfig, override(data, overrides))
    config = replace(config, model=os.path.expanduser(config.model))
    for recipe in config.recipes:
        load_recipe(recipe)  # a name that is not there is an error before hours of work, not after
    return config


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
