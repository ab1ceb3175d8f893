"""Which recipe pays where, with cells of base and training seed as the unit.

A regime is a run's file with some settings changed. A cell is a regime, a base and a training seed; each recipe is
trained in each cell from the same base, under the same budget, with its rates and models chosen on the same 1,000
validation goals, and judged on the same 1,000 test goals. The table has every cell's success, means over cells with
t-intervals, and the paired differences to one recipe. With ``--bases`` cells share bases and seeds, which the intervals
do not know: they are about these cells.

    python benchmarks/learning.py math_tool noisy_round --bases 0 1 --seeds 0 1 2

A seed makes a base of its own, unless ``--bases`` names the seeds of bases that every training seed starts from. A
cell and recipe is a run of the loop, in a folder of ``--out``; the same command goes on after a stop. What
``results/learning.jsonl`` has of these settings is not trained again: remove its lines for that.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from branchwise.training.display import key_figure
from branchwise.training.evaluation import mean_interval, paired_p
from branchwise.training.loop import RunConfig, load_config, run_loop
from branchwise.training.loop.config import config_names
from branchwise.training.loop.graph import stages_of
from branchwise.training.loop.recipe import load_recipe
from branchwise.training.pool import run_stages
from branchwise.training.settings import as_dict

REGIMES = {
    "clean": [],
    "clean_round": ["rounds=1"],
    "noisy": ["verdict_noise=0.2"],
    "noisy_round": ["verdict_noise=0.2", "rounds=1"],
    "few_tries": ["search.simulations=4", "model_calls=4000"],
}  # fmt: skip
"""Name -> settings over the run's file."""
RECIPES = Path(__file__).parent / "recipes"
"""Recipes of benchmarks alone."""
RESULTS = Path(__file__).parent / "results" / "learning.jsonl"


@dataclass(frozen=True, slots=True)
class Cell:
    """Where recipes are compared."""

    run: str
    regime: str
    base: int
    seed: int


def base_model(run: str, seed: int, out: Path) -> None:
    """Makes the base of a run's file and seed, where it is not there: ``OUT/RUN/base_SEED/base/model``."""
    folder = out / run / f"base_{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    stages = [stage for stage in stages_of(load_config(run, [f"seed={seed}"])) if stage.name == "base"]
    run_stages(stages, folder, _Finished(str(folder.relative_to(out))), workers=1)


def results(work: Sequence[tuple[Cell, str]]) -> dict[tuple[Cell, str], float]:
    """Success on test goals of the cells and recipes of ``work`` that were run before, with the settings of now."""
    lines = RESULTS.read_text().splitlines() if RESULTS.is_file() else ()
    known = {_names(row): row["success"] for row in map(json.loads, lines)}
    named = {(cell, recipe): _names(_row(cell, recipe)) for cell, recipe in work}
    return {each: known[names] for each, names in named.items() if names in known}


def keep(cell: Cell, recipe: str, success: float) -> None:
    """Adds a line, so that several commands may run at once."""
    with open(RESULTS, "a") as file:
        file.write(json.dumps({**_row(cell, recipe), "success": success}) + "\n")


def _row(cell: Cell, recipe: str) -> dict[str, Any]:
    """What tells a result from others; ``settings`` is a digest of all that the run's file, the regime and the recipe
    say, the base's settings among them."""
    settings = as_dict(config_of(cell, recipe, Path()))
    del settings["model"]  # where it lies
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    return {**asdict(cell), "recipe": recipe, "settings": digest}


def _names(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in ("run", "regime", "base", "seed", "recipe", "settings"))


def config_of(cell: Cell, recipe: str, out: Path) -> RunConfig:
    own = RECIPES / f"{recipe}.yaml"
    named = str(own) if own.is_file() else recipe
    searches = load_recipe(named).collect.gives in ("trees", "mixed")  # else a run refuses settings of searches
    settings = [
        f"model={json.dumps(str(out / cell.run / f'base_{cell.base}' / 'base' / 'model'))}",
        f"recipes=[{named}]", f"seed={cell.seed}",
        "search_recipe=", "baselines=[]", "audit_pairs=0", "validation_goals=1000", "test_goals=1000",
        *(setting for setting in REGIMES[cell.regime] if searches or not setting.startswith("search.")),
    ]  # fmt: skip
    return load_config(cell.run, settings)


def trained(cell: Cell, recipe: str, out: Path) -> float:
    """Success on test goals of ``recipe`` in ``cell``, trained where it is not there."""
    folder = out / cell.run / cell.regime / f"base_{cell.base}_seed_{cell.seed}" / recipe
    run_loop(config_of(cell, recipe, out), folder, _Finished(str(folder.relative_to(out))), workers=1)
    rows = json.loads((folder / "results.json").read_text())
    return float(next(row["success"] for row in rows if row["agent"] == recipe))


class _Finished:
    """Shows what ended, a line each."""

    def __init__(self, where: str) -> None:
        self.where = where

    def started(self, stage: str) -> None: ...
    def repeated(self, stage: str, why: str) -> None: ...
    def moved(self, stage: str, done: float, total: float, note: str) -> None: ...
    def finished(self, stage: str, figures: Mapping[str, Any], seconds: float) -> None:
        print(f"{self.where}: {stage}, {key_figure(figures)}, {seconds:.0f} s", file=sys.stderr, flush=True)


def table(cells: Sequence[Cell], success: Mapping[str, NDArray[np.float64]], against: str) -> str:
    """Success in per cent by recipe (rows) and cell (columns), and the differences to ``against``."""
    own = all(cell.base == cell.seed for cell in cells)
    names = [f"seed {cell.seed}" if own else f"base {cell.base}, seed {cell.seed}" for cell in cells]
    lines = [
        "| recipe | " + " | ".join(names) + f" | mean [95 %] | minus {against} [95 %] | p |",
        "|---|" + "---|" * (len(cells) + 3),
    ]
    for recipe, values in success.items():
        mean, low, high = mean_interval(values)
        line = f"| {recipe} | " + " | ".join(f"{each:.1f}" for each in values)
        line += f" | {mean:.1f} [{low:.1f}, {high:.1f}] | "
        if recipe == against:
            lines.append(line + "– | – |")
            continue
        mean, low, high = mean_interval(values - success[against])
        p = paired_p(values, success[against])
        lines.append(line + f"{mean:+.1f} [{low:+.1f}, {high:+.1f}] | {p:.2g} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("run", choices=config_names(), metavar="RUN", help="web_shop, math_tool, …")
    parser.add_argument("regime", choices=REGIMES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="training seeds")
    parser.add_argument("--bases", type=int, nargs="+", help="seeds of the bases (default: each training seed's own)")
    parser.add_argument("--recipes", nargs="+", default=["step_dpo", "trajectory_dpo"])
    parser.add_argument("--against", default="trajectory_dpo", help="the recipe that others are compared with")
    parser.add_argument("--out", type=Path, default=Path("runs/learning"), help="folder of the runs; resumed if there")
    parser.add_argument("--workers", type=int, default=2, help="runs side by side, one core each")
    asked = parser.parse_args()
    if asked.against not in asked.recipes or asked.workers < 1:
        parser.error("--against is one of --recipes, and --workers are 1 or more")
    bases, seeds, recipes = (list(dict.fromkeys(each or [])) for each in (asked.bases, asked.seeds, asked.recipes))
    pairs = [(base, seed) for base in bases for seed in seeds] or [(seed, seed) for seed in seeds]
    cells = [Cell(asked.run, asked.regime, base, seed) for base, seed in pairs]
    if len(cells) < 2:
        parser.error("one cell has no interval; name two --seeds or more")
    work = [(cell, recipe) for cell in cells for recipe in recipes]
    known = results(work)  # settings that cannot be run are refused here
    todo = [each for each in work if each not in known]
    with ThreadPoolExecutor(asked.workers) as pool:
        wanted = dict.fromkeys(cell.base for cell, _ in todo)
        list(pool.map(lambda base: base_model(asked.run, base, asked.out), wanted))
        for each, success in zip(todo, pool.map(lambda each: trained(*each, asked.out), todo), strict=True):
            keep(*each, success)
    known = results(work)
    found = np.array([100 * known[each] for each in work]).reshape(len(cells), len(recipes))
    print(table(cells, dict(zip(recipes, found.T, strict=True)), asked.against))


if __name__ == "__main__":
    main()
