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
from ...search.files import atomically, make_folder
from ..settings import SettingsError, as_dict, read_yaml
from ..stages import FIGURES, Stage, StageContext, do_stage, is_finished, partial_folder, read_figures
from .agents import agent_of
from .collect import collect
from .extract import Rows, extract, load_rows
from .judge import validate
from .learn import best_candidate
from .learners import Outcome
from .recipe import Recipe, RunConfig
from .slots import Policy
from .tasks import generator

SETTINGS: Final = "collection.yaml"
"""What a collection by hand was made with: its folder is not mistaken for another's."""
Tell = Callable[[float, float, str], None]


def _as_a_worker() -> None:
    """One torch thread, as the processes of a run have: sums of two threads differ in the last bit."""
    hush()
    torch.set_num_threads(1)


def collect_into(
    out: Path, config: RunConfig, recipe: Recipe, model: Path, round: int, tell: Tell
) -> Mapping[str, Any]:
    """The figures of a collection in the folder ``out``: done, resumed where it was killed, or done already. Raises
    :class:`SettingsError` where the folder holds a collection with other settings."""
    config_data, slot = as_dict(config), as_dict(recipe)["collect"]
    del config_data["recipes"]
    settings = {
        "model": str(model.resolve() if model.exists() else model),
        "round": round,
        "collect": slot,
        "run": config_data,
    }
    make_folder(out.parent)
    _as_a_worker()
    for folder in (out, partial_folder(out)):
        if (folder / SETTINGS).is_file() and (before := read_yaml(folder / SETTINGS)) != settings:
            changed = [name for name in settings if before.get(name) != settings[name]]
            raise SettingsError(
                f"{folder} holds a collection with other settings ({', '.join(changed)}); give another --out, or "
                "delete the folder"
            )
    work = partial(_collect, config=config, slot=recipe.collect, round=round, policy=model, settings=settings)
    do_stage(Stage(out.name, work), out.parent, tell)
    return read_figures(out / FIGURES)


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
    _check_rows(recipe, rows, outcome)
    return replace(recipe.learn, learning_rate=recipe.rates[0]).train(policy, rows, outcome, seed, tell)[-1]


def _check_rows(recipe: Recipe, rows: Rows, outcome: Outcome) -> None:
    """Raises ``ValueError`` where the rows teach nothing, such as episodes that are all alike by their ``outcome``."""
    if fault := recipe.learn.fault(rows, outcome):
        raise ValueError(f"nothing can be learned from these {len(rows)} rows by their {outcome}: {fault}")


def train_best(
    pairs: Path, out: Path, config: RunConfig, recipe: Recipe, model: Path, tell: Tell
) -> tuple[Mapping[str, Any], Mapping[str, Any], list[dict[str, Any]]]:
    """Train a candidate for each learning rate of ``recipe`` on the rows of a file and write the best to ``out``, or
    the model as it was where none is better on the validation tasks of ``config``. The figures before, of what was
    written, and of all candidates."""
    rows = load_rows(pairs, recipe.learn.takes)
    _check_rows(recipe, rows, config.outcome)
    context = StageContext(out.parent, out, tell)
    parts = {"policy": model}
    _as_a_worker()
    start = LanguageModel.load(model, history=config.history)
    before = validate(config, agent_of(context, config, Policy(), parts, {"policy": start}))
    best, found, tried = best_candidate(context, config, recipe, parts, rows, before)
    best.save(out)
    return before, found, tried
