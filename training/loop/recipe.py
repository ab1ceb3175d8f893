"""Recipes, as data: how one trained agent comes about.

A :class:`Recipe` is four slots, each the name of an option with that option's settings, and a YAML file
(``recipes/``), read strictly: a setting that nothing reads is an error. Which recipes a run compares, in which
environment and under which budgets, its own file says (``config.py``).
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from ...search.rules.options import overlaid
from ...search.typed import check_fields
from ..settings import OneOf, SettingsError, build, build_from, read_yaml
from .extractors import SiblingPairs, readers, reads
from .learners import Preference
from .slots import ACT, COLLECT, EXTRACT, LEARN, Act, Collect, Extractor, Learn, Policy

FOLDER: Final = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one trained agent comes about: four slots, each a name and that name's settings.

    collect: what it learns from (``slots.py``).
    extract: the rows that are made of it (``extract.py``), one extractor or several.
    learn: how a model learns from them (``learners.py``).
    rates: learning rates that are tried in every round; the best on validation goals is kept. Empty: the learner's own.
    act: how what was learned decides (``slots.py``).
    summary, source: one line on what it does; the paper, if any.
    """

    collect: Annotated[Collect, OneOf(COLLECT)]
    extract: Annotated[dict[str, Extractor], OneOf(EXTRACT)]
    learn: Annotated[Learn, OneOf(LEARN)]
    rates: tuple[float, ...] = ()
    act: Annotated[Act, OneOf(ACT)] = field(default_factory=Policy)
    summary: str = ""
    source: str = ""

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
            if not reads(extractor.reads, self.collect.gives):
                raise ValueError(
                    f"extract.{name} reads {extractor.reads}, and collect gives {self.collect.gives}; change collect, "
                    f"or take one of {', '.join(readers(self.collect.gives))}"
                )
            if extractor.gives != self.learn.takes:
                fitting = [other for other, kind in EXTRACT.items() if kind.gives == self.learn.takes]
                raise ValueError(
                    f"extract.{name} gives {extractor.gives}, and learn takes {self.learn.takes}; change learn, "
                    f"or take one of {', '.join(fitting)}"
                )
        by_visits = isinstance(self.learn, Preference) and self.learn.label_smoothing == "visits"
        if by_visits and not all(extractor.reads == "trees" for extractor in self.extract.values()):
            raise ValueError(
                f"learn.label_smoothing=visits reads the visits of a tree, and collect gives {self.collect.gives}, of "
                "which all have as many; take pair or q"
            )
        if isinstance(self.learn, Preference) and not any(extractor.compares for extractor in self.extract.values()):
            raise ValueError(f"extract {', '.join(self.extract)} gives no pairs to compare; add one, or learn sft")
        for name, extractor in self.extract.items():
            if isinstance(extractor, SiblingPairs) and extractor.counts and not isinstance(self.learn, Preference):
                raise ValueError(f"extract.{name} gives pairs {extractor.counts}, which only a preference loss reads")
            has_margins = isinstance(extractor, SiblingPairs) and extractor.margin != 0
            if has_margins and isinstance(self.learn, Preference) and self.learn.loss in ("ipo", "hinge", "robust"):
                raise ValueError(f"extract.{name} gives pairs margins, which loss={self.learn.loss} has no place for")
        made = {"policy", self.learn.makes}
        if missing := [part for part in self.act.needs if part not in made]:
            raise ValueError(f"act needs {' and '.join(missing)}, which learn does not make; change learn or act")
        if unused := made - set(self.act.needs):
            raise ValueError(f"learn makes {' and '.join(unused)}, which act does not use; act: best_of does")


def load_recipe(name: str | Path, changes: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe of ours by name, or from a YAML file by path, ``changes`` laid over it."""
    path, data = recipe_data(str(name))
    recipe = build_from(path, Recipe, data)
    return build(Recipe, laid_over(data, changes), f"recipes.{path.stem}.") if changes else recipe


def recipes_named(*names: str | Path) -> dict[str, Recipe]:
    """Recipes by name, each of ours or from a YAML file."""
    return {recipe_stem(str(name)): load_recipe(name) for name in names}


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


def recipe_data(name: str) -> tuple[Path, dict[str, Any]]:
    """The file of a recipe, by name or path, and what is in it."""
    path = settings_file(name, "recipe", recipe_names)
    data = read_yaml(path)
    if "env" in data:
        raise SettingsError(f"{name!r} is a run, not a recipe; recipes of ours: {', '.join(recipe_names())}")
    return path, data


def recipe_stem(name: str) -> str:
    """What the recipe of that name or file is called."""
    return Path(name).stem if name.endswith((".yaml", ".yml")) or "/" in name else name


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if "env" not in read_yaml(path))


def settings_file(name: str, what: str, names: Callable[[], list[str]]) -> Path:
    """The file of a name of ours or a path; where there is none, ``what`` says of what, and ``names`` what there is."""
    ours = FOLDER / f"{name}.yaml"
    path = Path(name)
    if ours.is_file() and path.suffix == "":
        return ours
    if not path.is_file():
        known = names()
        near = difflib.get_close_matches(name.lower().replace("-", "_"), known, 1)
        meant = f"did you mean {near[0]}? Or " if near else ""
        raise SettingsError(f"no {what} {name!r}; {meant}give a path, or one of ours: {', '.join(known)}")
    return path
