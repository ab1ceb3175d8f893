"""The loop's stages one at a time, for the command: ``collect``, ``pairs`` and ``train`` with a recipe.

They call what the loop calls, with its draws, so that a round by hand gives the files of a round of the loop.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
import yaml

from ...agents.language_model import LanguageModel
from ...agents.named import hush
from ...search.extraction import Outcome
from ...search.files import atomically, make_folder
from ..settings import SettingsError, as_dict, build_from, read_yaml
from ..stages import FIGURES, Stage, StageContext, StageFailed, do_stage, is_finished, partial_folder, read_figures
from .agents import agent_of
from .collect import collect, least_visits
from .config import RunConfig
from .extract import Rows, extract, load_rows
from .judge import validate
from .learn import best_candidate
from .recipe import Recipe, load_recipe, recipe_stem
from .run import CONFIG
from .slots import Episodes, Policy
from .tasks import generator

SETTINGS: Final = "collection.yaml"
"""What a collection by hand was made with: its folder is not mistaken for another's."""
Tell = Callable[[float, float, str], None]


def _as_a_worker() -> None:
    """One torch thread, as the processes of a run have: sums of two threads differ in the last bit."""
    hush()
    torch.set_num_threads(1)


def recipe_for(collection: Path, name: str) -> Recipe:
    """The recipe as the run of a collection has it (by hand, or of a round of the loop), else ours or that of a
    file."""
    stem = recipe_stem(name)
    settings = collection / SETTINGS
    files = [settings, *(parent / CONFIG for parent in list(collection.resolve().parents)[:4])]
    for file in files:
        if file.is_file():
            found = read_yaml(file)
            recipes = (found.get("run") or {} if file == settings else found).get("recipes") or {}
            if isinstance(recipes, Mapping) and stem in recipes:
                return build_from(file, Recipe, recipes[stem])
            break
    return load_recipe(name)


def check_earlier(config: RunConfig, recipe: str, round: int, earlier: Path | None) -> None:
    """Raises :class:`SettingsError` where the recipe needs an earlier model that is not given, or the other way."""
    slot = config.recipes[recipe].collect
    share = slot.earlier if isinstance(slot, Episodes) else 0.0
    if bool(share and round > 1) != (earlier is not None):
        raise SettingsError(
            f"round {round} of this recipe samples {share:g} of its calls with the model of the round before: give it "
            "with --earlier"
            if earlier is None
            else f"--earlier: round {round} of this recipe samples nothing with an earlier model; leave it out"
        )


def collect_into(
    out: Path, config: RunConfig, recipe: str, model: Path, round: int, tell: Tell, earlier: Path | None = None
) -> Mapping[str, Any]:
    """The figures of a collection in the folder ``out``: done, resumed where it was killed, or done already. ``recipe``
    is one of the run's.
    ``earlier``: the model of the round before, of which a recipe may sample a share. Raises :class:`SettingsError`
    where the folder holds a collection with other settings, or the recipe needs an earlier model that is not given."""
    check_earlier(config, recipe, round, earlier)
    slot = config.recipes[recipe].collect
    settings = {
        "model": str(model.resolve() if model.exists() else model),
        **({"earlier": str(earlier.resolve() if earlier.exists() else earlier)} if earlier else {}),
        "round": round,
        "collect": as_dict(config.recipes[recipe])["collect"],
        "least_visits": least_visits(config),
        "run": as_dict(config),
    }
    make_folder(out.parent)
    _as_a_worker()
    for folder in (out, partial_folder(out)):
        if (folder / SETTINGS).is_file() and (changed := _differing(read_yaml(folder / SETTINGS), settings)):
            raise SettingsError(
                f"{folder} holds a collection with other settings ({', '.join(changed)}); give another --out, or "
                "delete the folder"
            )
    work = partial(_collect, config=config, slot=slot, round=round, policy=model, earlier=earlier,
                   settings=settings)  # fmt: skip
    try:
        do_stage(Stage(out.name, work), out.parent, tell)
    except RuntimeError as error:
        raise StageFailed(str(error)) from None
    return read_figures(out / FIGURES)


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The settings that differ; what a run says of its recipes is none of a collection's."""

    def parted(settings: Mapping[str, Any]) -> dict[str, Any]:
        run = settings.get("run") or {}
        return {**settings, "run": {name: value for name, value in run.items() if name != "recipes"}}

    own, other = parted(before), parted(after)
    return [name for name in {**own, **other} if own.get(name) != other.get(name)]


def _collect(context: StageContext, *, settings: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    with atomically(context.folder / SETTINGS) as path:
        path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return collect(context, **arguments)


def rows_of(collection: Path, recipe: Recipe) -> tuple[Rows, dict[str, int]]:
    """The rows that ``recipe`` extracts from the folder of a collection, by hand or of a run, and what was dropped.
    Raises ``ValueError`` where there is none, or it holds what the recipe does not read."""
    if not is_finished(collection.parent, collection.name):
        raise FileNotFoundError(f"{collection} is no collection: it has no {FIGURES}; `branchwise collect` makes one")
    found = read_figures(collection / FIGURES)
    if found.get("gives") != recipe.collect.gives:
        raise ValueError(f"{collection} holds no {recipe.collect.gives}, which this recipe reads; collect with it")
    rng = generator(found["seed"], "extract", str(found["round"]))
    return extract(recipe.extract, collection, rng)


def train_once(
    recipe: Recipe, policy: LanguageModel, rows: Rows, outcome: Outcome, seed: int, tell: Callable[[Any], None]
) -> Mapping[str, float]:
    """Train ``policy`` in place as ``recipe`` learns, at its first learning rate; the last metrics."""
    rows = _usable(recipe, rows, outcome)
    return replace(recipe.learn, learning_rate=recipe.rates[0]).train(policy, rows, outcome, seed, tell)


def _usable(recipe: Recipe, rows: Rows, outcome: Outcome) -> Rows:
    """Raises ``ValueError`` where the rows teach nothing, such as episodes that are all alike by their ``outcome``."""
    kept, dropped = recipe.learn.usable(rows, outcome)
    if not kept:
        why = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count) or "there are none"
        raise ValueError(f"nothing can be learned from these {len(rows)} rows by their {outcome}: {why}")
    return kept


def train_best(
    pairs: Path, out: Path, config: RunConfig, recipe: Recipe, model: Path, tell: Tell
) -> tuple[Mapping[str, Any], Mapping[str, Any], list[dict[str, Any]]]:
    """Train a candidate for each learning rate of ``recipe`` on the rows of a file and write the best to ``out``, or
    the model as it was where none is better on the validation tasks of ``config``. The figures before, of what was
    written, and of all candidates."""
    rows = _usable(recipe, load_rows(pairs, recipe.learn.takes), config.outcome)
    context = StageContext(out.parent, out, tell)
    parts = {"policy": model}
    _as_a_worker()
    start = LanguageModel.load(model, history=config.history)
    before = validate(config, agent_of(context, config, Policy(), parts, {"policy": start}))
    best, found, tried = best_candidate(context, config, recipe, parts, rows, before)
    best.save(out)
    return before, found, tried
