"""What stands in a run's folder, read back: settings, results, and the figures of base, rounds and critic.

``stages.py`` says how stages lie in it. A run that is under way has less, and is read all the same. What it does not
do: read episodes, trees or pairs; whoever shows them does (``report_samples.py``).
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..envs.json_files import read_json
from .readable import agent_name, agent_order, number
from .stages import FIGURES, read_figures


@dataclass(frozen=True)
class Round:
    """A model stage: ``folder`` holds it, ``figures`` are its figures."""

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


def read_run(path: Path) -> Run:
    """Read results, settings and figures; episodes, trees and pairs are read when the page needs them."""
    if not path.is_dir():
        raise FileNotFoundError(f"no run folder {path}; `branchwise loop CONFIG --out {path}` makes one")
    config, results = path / "config.yaml", path / "results.json"
    rows = _json(results) if results.is_file() else [read_figures(p) for p in path.glob(f"evaluation/*/{FIGURES}")]
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "agent" in row for row in rows):
        raise ValueError(f"{results}: expected a list of rows, each with an 'agent'")
    rounds = []
    for figures in path.glob(f"*/round_*/model/{FIGURES}"):
        folder = figures.parent
        if named := re.fullmatch(r"round_(\d+)", folder.parent.name):
            rounds.append(Round(folder.parent.parent.name, int(named[1]), folder, read_figures(figures)))
    return Run(
        path=path,
        settings=config.read_text(encoding="utf-8", errors="replace") if config.is_file() else "",
        results=tuple(sorted(rows, key=lambda row: agent_order(row["agent"]))),
        finished=results.is_file(),
        base=_optional(path / "base" / FIGURES),
        critic=_optional(path / "critic" / FIGURES),
        rounds=tuple(sorted(rounds, key=lambda r: (agent_order(r.recipe), r.number))),
    )


def budgets(run: Run) -> Iterator[str]:
    """What the trained agents were allowed, a line a budget, from the figures of their rounds."""
    calls: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    for made in run.rounds:
        calls[agent_name(made.recipe)] += int(made.figures.get("model_calls", 0))
        tried[agent_name(made.recipe)] += len(made.figures.get("candidates", ()))
    if "model_calls" in run.critic:
        calls["the critic of the rows that search"] = int(run.critic["model_calls"])
    for title, counts in (("model calls to collect", calls), ("settings tried on validation goals", tried)):
        if any(counts.values()):
            listed = ", ".join(f"{name} {number(count)}" for name, count in counts.items())
            yield f"Budgets, {title}: {listed}"


def _json(path: Path) -> Any:
    return read_json(path, "delete it and run the same command again")


def _optional(path: Path) -> dict[str, Any]:
    return read_figures(path) if path.is_file() else {}
