"""What stands in a run's folder, read back: settings, results, and the figures of base, rounds and critic.

``stages.py`` says how stages lie in it. A run that is under way has less, and is read all the same. What it does not
do: read episodes, trees or pairs; whoever shows them does (``report_samples.py``).
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..envs.json_files import read_json
from .evaluation import row_of
from .readable import agent_name, agent_order, interval, number, row_order
from .stages import FIGURES, read_figures

LITTLE: Final = 0.1
"""Of the samples: batches that were begun are finished."""
_CURE: Final = "delete it and run the same command again"


@dataclass(frozen=True)
class Round:
    """A stage of a recipe's round, of its model or its audit: ``folder`` holds it, ``figures`` are its figures."""

    recipe: str
    number: int
    folder: Path
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """What stands in a run's folder."""

    path: Path
    settings: str
    results: tuple[Mapping[str, Any], ...]
    finished: bool
    base: Mapping[str, Any]
    critic: Mapping[str, Any]
    rounds: tuple[Round, ...]
    audits: tuple[Round, ...] = ()


def read_run(path: Path) -> Run:
    """Read results, settings and figures; episodes, trees and pairs are read when the page needs them."""
    if not path.is_dir():
        raise FileNotFoundError(f"no run folder {path}; `branchwise loop CONFIG --out {path}` makes one")
    config, results = path / "config.yaml", path / "results.json"
    if results.is_file():
        rows = _json(results)
        if not isinstance(rows, list) or not all(isinstance(row, dict) and "agent" in row for row in rows):
            raise ValueError(f"{results}: expected a list of rows, each with an 'agent'")
        for row in rows:
            _check_row(results, row)
    else:
        rows = []
        for figures in path.glob(f"evaluation/*/{FIGURES}"):
            rows.append(read_figures(figures))
            _check_row(figures, rows[-1])
    return Run(
        path=path,
        settings=config.read_text(encoding="utf-8", errors="replace") if config.is_file() else "",
        results=tuple(sorted(rows, key=row_order)),
        finished=results.is_file(),
        base=_optional(path / "base" / FIGURES),
        critic=_optional(path / "critic" / FIGURES),
        rounds=_rounds(path, "model"),
        audits=_rounds(path, "audit"),
    )


def _rounds(path: Path, stage: str) -> tuple[Round, ...]:
    found = []
    for figures in path.glob(f"*/round_*/{stage}/{FIGURES}"):
        folder = figures.parent
        if named := re.fullmatch(r"round_(\d+)", folder.parent.name):
            found.append(Round(folder.parent.parent.name, int(named[1]), folder, read_figures(figures)))
    return tuple(sorted(found, key=lambda r: (agent_order(r.recipe), r.number)))


def unchanged(run: Run) -> dict[str, bool]:
    """The recipes of which no candidate was promoted, so that their policy, which alone acts, is the base itself; and
    whether there was any candidate."""
    promoted: dict[str, bool] = {}
    tried: dict[str, bool] = {}
    for made in run.rounds:
        if made.figures.get("makes", "policy") != "policy":
            continue
        promoted[made.recipe] = promoted.get(made.recipe, False) or made.figures.get("promoted", True)
        tried[made.recipe] = tried.get(made.recipe, False) or bool(made.figures.get("candidates", True))
    return {recipe: tried[recipe] for recipe, any_was in promoted.items() if not any_was}


def unchanged_note(run: Run) -> str:
    """What must be said beside the rows of such recipes, else ""."""
    found = unchanged(run)
    worse = [agent_name(recipe) for recipe, was_tried in found.items() if was_tried]
    idle = [agent_name(recipe) for recipe, was_tried in found.items() if not was_tried]
    told = []
    if worse:
        told.append(f"No candidate of {', '.join(worse)} was better on validation goals, so none was promoted.")
    if idle:
        told.append(f"{', '.join(idle)} found nothing to learn from, so no model was trained.")
    if told:
        told.append(f"{'These rows are' if len(found) > 1 else 'This row is'} the base itself.")
    return " ".join(told)


def figure_names(run: Run) -> list[str]:
    """The names of what the environment measures beside success and reward."""
    return list(dict.fromkeys(name for row in run.results for name in row.get("figures", {})))


def further_figures(run: Run) -> Iterator[str]:
    """What the environment measures beside success and reward, a line a figure with all agents."""
    for name in figure_names(run):
        of = [(agent_name(row["agent"]), row["figures"][name]) for row in run.results if name in row.get("figures", {})]
        listed = ", ".join(f"{agent} {figure_in_words(found)}" for agent, found in of)
        yield f"{name.replace('_', ' ').capitalize()}: {listed}"


def figure_in_words(found: Mapping[str, Any]) -> str:
    """A mean with its interval, where it has one: what is computed and not sampled has none."""
    bounds = f" {interval(found['low'], found['high'], 1.0, 2)}" if "low" in found else ""
    return f"{number(found['mean'])}{bounds}"


def budgets(run: Run) -> Iterator[str]:
    """What stands under the table, a line each: whose rows are the base itself, and what the trained agents were
    allowed, from the figures of their rounds."""
    if note := unchanged_note(run):
        yield note
    yield from further_figures(run)
    yield from labels_in_words(run)
    spent = {name: Counter[str]() for name in ("model_calls", "prompts", "tokens")}
    tried: Counter[str] = Counter()
    for made in run.rounds:
        for name, counts in spent.items():
            counts[agent_name(made.recipe)] += int(made.figures.get(name, 0))
        tried[agent_name(made.recipe)] += len(made.figures.get("candidates", ()))
    equal = how_equal(list(spent["model_calls"].values()))
    if "model_calls" in run.critic:
        spent["model_calls"]["the critic of the rows that search"] = int(run.critic["model_calls"])
    titles = (
        f"samples (model calls) to collect, {equal}",
        "prompts of these",
        "tokens computed, with what was cut off",
    )
    shown = [*zip(titles, spent.values(), strict=True), ("settings tried on validation goals", tried)]
    for title, counts in shown:
        if any(counts.values()):
            listed = ", ".join(f"{name} {number(count)}" for name, count in counts.items())
            yield f"Budgets, {title}: {listed}"


def how_equal(samples: Sequence[int]) -> str:
    """Whether recipes used as many samples: a budget that goals or simulations do not use up is a bound alone."""
    held = min(samples, default=0) >= (1 - LITTLE) * max(samples, default=0)
    return "held equal" if held else "bounded alike, and not used up by all"


def labels_in_words(run: Run) -> Iterator[str]:
    """How right the labels of the rounds are, a line a recipe."""
    for recipe in dict.fromkeys(audit.recipe for audit in run.audits):
        rows = [(a.number, a.figures["labels"][0]) for a in run.audits if a.recipe == recipe and a.figures["labels"]]
        shares = [f"round {number} {_shares(row)} % of {row['pairs']}" for number, row in rows]
        if shares:
            yield f"Labels right, tied and wrong, {agent_name(recipe)}: {'; '.join(shares)}"


def _shares(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{100 * row[name]:.0f}" for name in ("right", "tied", "wrong"))


def _check_row(path: Path, row: Mapping[str, Any]) -> None:
    try:
        row_of(row)
    except KeyError as error:
        raise ValueError(f"{path}: a row has no {error}; {_CURE}") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}; {_CURE}") from None


def _json(path: Path) -> Any:
    return read_json(path, _CURE)


def _optional(path: Path) -> dict[str, Any]:
    return read_figures(path) if path.is_file() else {}
