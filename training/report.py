"""One self-contained HTML page about a run: what was reached, how, and what the search and the agents looked like.

Reads a run's folder (``stages.py`` says how stages lie in it): ``results.json`` or, while a run is under way, the
figures of the evaluations that stand; the figures of base, rounds and critic; two episodes on one goal; one tree with
its pairs. A part that a run does not have yet is left out, and the page says so. The page needs no network and no
script; text of agents and environments is escaped, and marks of direction in it are made visible.

What it does not do: judge. It shows figures with their intervals, and compares where two intervals lie.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ..envs.terminal import printable
from ..search.files import atomically
from .evaluation import FAILURES
from .readable import (
    BASE,
    KINDS,
    NAMES,
    agent_name,
    duration,
    inline,
    interval,
    kind_of,
    number,
    percent,
)
from .report_pictures import MARKERS, Curve, axis_ticks, chart, tick_label
from .report_samples import sample_episodes, sample_tree
from .run_folder import Round, Run, figure_in_words, figure_names, read_run, unchanged, unchanged_note
from .stages import SCORES, best_tried

__all__ = ["Run", "agent_name", "read_run", "render", "write_report"]


def write_report(run: Path) -> Path:
    """Write ``report.html`` into the run's folder and return its path. Works on a run that is under way too.

    Raises ``FileNotFoundError`` where ``run`` is no folder, ``ValueError`` naming the file where one of the run's
    files is broken.
    """
    page = render(read_run(Path(run)))
    target = Path(run) / "report.html"
    with atomically(target) as temporary:
        temporary.write_bytes(page.encode("utf-8", "replace"))
    return target


def render(run: Run) -> str:
    """The page as HTML."""
    return _template().render(
        title=run.path.resolve().name,
        run=run,
        facts=_facts(run),
        headline=_headline(run),
        unchanged=unchanged_note(run),
        groups=_groups(run),
        measure=_measure(run),
        bars=_bars(run),
        further=_further(run),
        failures=_failures(run),
        efforts=_efforts(run),
        charts=_charts(run),
        sample=sample_episodes(run),
        tree=sample_tree(run),
        rounds=[_round_row(r) for r in run.rounds],
        kinds=[table for r in run.rounds if (table := _kinds(r))],
        audits=[row for r in run.audits if (row := _audit(r))],
        version=metadata.version("branchwise"),
    )


def _headline(run: Run) -> dict[str, Any] | None:
    """Base, and the best agent that needs no oracle, as rows, by the figure by which the run chose its models; whether
    their intervals lie apart; whether the best is the base itself under a recipe's name (``nothing``). ``value`` and
    ``bounds`` say a row's figure in words."""
    rows = {row["agent"]: row for row in run.results}
    better = [row for row in rows.values() if kind_of(row) in ("trained", "search")]
    if BASE not in rows or not better:
        return None
    measure = _measure(run)
    best = max(better, key=lambda row: row[measure])
    plain = [row for row in better if kind_of(row) == "trained"]
    rules = [row for name, row in rows.items() if kind_of(row) == "reference" and name != BASE]
    rule = max(rules, key=lambda row: row[measure], default=None)

    def value(row: Mapping[str, Any]) -> str:
        return percent(row["success"]) if measure == "success" else f"{row['reward']:.3f}"

    def bounds(row: Mapping[str, Any]) -> str:
        scale, digits = (100.0, 1) if measure == "success" else (1.0, 2)
        return interval(row[f"{measure}_low"], row[f"{measure}_high"], scale, digits)

    return {
        "base": rows[BASE],
        "best": best,
        "best_policy": max(plain, key=lambda row: row[measure]) if plain and kind_of(best) == "search" else None,
        "rule": rule,
        "nothing": best["agent"] in unchanged(run),
        "apart": best[f"{measure}_low"] > rows[BASE][f"{measure}_high"],
        "factor": best["success"] / rows[BASE]["success"] if measure == "success" and rows[BASE]["success"] else None,
        "measure": {"success": "success", "reward": "the mean reward"}[measure],
        "value": value,
        "bounds": bounds,
    }


def _measure(run: Run) -> str:
    """The figure by which the run chose its models: what the table draws."""
    return "reward" if "validation_reward" in run.base else "success"


def _bars(run: Run) -> dict[str, Any]:
    """The drawn column: the labels of its axis, the gap between two in per cent, and for each agent where bar and
    whisker begin and how wide they are, in per cent of the axis. Bars begin at 0."""
    measure = _measure(run)
    if measure == "success":
        ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
        labels = [f"{100 * tick:.0f}" for tick in ticks]
    else:
        bounds = [row[f"reward_{end}"] for row in run.results for end in ("low", "high")]
        ticks = axis_ticks(bounds or [0.0], zero=True)
        labels = [tick_label(tick, ticks, percent=False) for tick in ticks]

    def place(value: float) -> float:
        return 100 * (value - ticks[0]) / (ticks[-1] - ticks[0])

    drawn = {}
    for row in run.results:
        ends = sorted((place(0.0), place(row[measure])))
        low, high = place(row[f"{measure}_low"]), place(row[f"{measure}_high"])
        drawn[row["agent"]] = {"bar": (ends[0], ends[1] - ends[0]), "whisker": (low, high - low)}
    return {"labels": labels, "gap": 100 / (len(ticks) - 1), "zero": place(0.0), "of": drawn}


def _further(run: Run) -> dict[str, Any]:
    """What the environment measures beside success and reward: the names, and for each agent its figures in words."""
    names = figure_names(run)
    rows = [
        (agent_name(row["agent"]), [figure_in_words(found[name]) if name in found else "–" for name in names])
        for row in run.results
        if (found := row.get("figures", {}))
    ]
    return {"names": [name.replace("_", " ").capitalize() for name in names], "rows": rows}


def _failures(run: Run) -> list[tuple[str, list[str]]]:
    """For each agent the shares of episodes that failed, by kind; of runs that are judged by success."""
    if _measure(run) != "success":
        return []
    return [
        (agent_name(row["agent"]), [percent(row["failures"].get(kind, 0) / row["episodes"]) for kind in FAILURES])
        for row in run.results
        if row.get("failures")
    ]


def _groups(run: Run) -> list[dict[str, Any]]:
    """The table's rows in groups: references, trained, with search, with an oracle."""
    groups = {kind: [row for row in run.results if kind_of(row) == kind] for kind in KINDS}
    titles = {
        "reference": "Where it starts",
        "trained": "Trained, acting without search",
        "search": "Searching at test time, leaves valued by a learned critic",
        "oracle": "Searching at test time with an oracle",
    }
    return [{"kind": kind, "title": titles[kind], "rows": rows} for kind, rows in groups.items() if rows]


def _efforts(run: Run) -> list[dict[str, Any]]:
    """What each recipe's training cost, all rounds together."""
    found = []
    for recipe in dict.fromkeys(r.recipe for r in run.rounds):
        rounds = [r.figures for r in run.rounds if r.recipe == recipe]
        found.append(
            {
                "name": agent_name(recipe),
                "rounds": len(rounds),
                "model_calls": _total(rounds, "model_calls"),
                "prompts": _total(rounds, "prompts"),
                "tokens": _total(rounds, "tokens"),
                "trained_on": _trained_on(rounds),
                "candidates": sum(len(figures.get("candidates", ())) for figures in rounds) or None,
                "seconds": _total(rounds, "seconds"),
            }
        )
    if found and run.critic:
        critic = run.critic
        found.append(
            {
                "name": "Critic of the rows that search",
                "rounds": 1,
                "model_calls": critic.get("model_calls"),
                "prompts": None,
                "tokens": None,
                "trained_on": _trained_on([critic]),
                "candidates": 1,
                "seconds": critic.get("seconds"),
            }
        )
    return found


def _total(rounds: Iterable[Mapping[str, Any]], name: str) -> float | None:
    found = [figures[name] for figures in rounds if name in figures]
    return sum(found) if found else None


def _trained_on(rounds: Sequence[Mapping[str, Any]]) -> str:
    """How many pairs, and anchors beside them, or how many rows of supervised training."""
    counts = {name: _total(rounds, name) for name in ("pairs", "anchors")}
    if counts["pairs"] is None:
        counts = {"rows": _total(rounds, "rows")}
    return ", ".join(f"{number(count)} {name}" for name, count in counts.items() if count is not None) or "–"


def _facts(run: Run) -> list[tuple[str, str]]:
    row = run.results[0] if run.results else {}
    facts = [
        ("environment", row.get("env")),
        ("split", row.get("split")),
        ("goals", number(row["episodes"]) if "episodes" in row else None),
        ("seed", row.get("seed")),
        ("parameters", number(run.base["parameters"]) if "parameters" in run.base else None),
        ("demonstrations", number(run.base["demonstrations"]) if "demonstrations" in run.base else None),
        ("reading accuracy", percent(run.base["reading_accuracy"]) if "reading_accuracy" in run.base else None),
        (
            "critic, explained variance",
            percent(run.critic["explained_variance"]) if "explained_variance" in run.critic else None,
        ),
    ]
    return [(name, str(value)) for name, value in facts if value is not None]


def _charts(run: Run) -> list[dict[str, Any]]:
    wanted = (
        ("validation_success", "Success on validation goals", True, True),
        ("validation_reward", "Mean reward on validation tasks", False, False),
        ("episode_length", "Steps an episode, validation goals", False, True),
        ("chosen_logp_per_token", "Log-probability of chosen text, nats a token", False, False),
    )
    charts = []
    for key, title, as_percent, zero in wanted:
        curves = [curve for recipe in _recipes(run) if (curve := _curve(run, recipe, key)).points or curve.rejected]
        if any(math.isfinite(y) for curve in curves for _, y in (*curve.points, *curve.rejected)):
            picture = Markup(chart(title, curves, percent=as_percent, zero=zero))
            charts.append({"title": title, "svg": picture, "hollow": any(curve.rejected for curve in curves)})
    return charts


def _recipes(run: Run) -> list[str]:
    return list(dict.fromkeys(r.recipe for r in run.rounds))


def _curve(run: Run, recipe: str, key: str) -> Curve:
    """The promoted model's value after each round; a model that was not promoted leaves the value where it was."""
    standing = _finite(run.base.get(key))
    points = [] if standing is None else [(0, standing)]
    rejected = []
    for r in run.rounds:
        promoted = r.figures.get("promoted", True)
        value = _finite(r.figures.get(key) if promoted else best_tried(r.figures).get(key, r.figures.get(key)))
        if r.recipe != recipe or value is None:
            continue
        if promoted:
            standing = value
        else:
            rejected.append((r.number, value))
        if standing is not None:
            points.append((r.number, standing))
    trained = [name for name in NAMES if kind_of({"agent": name}) == "trained"]
    style = trained.index(recipe) if recipe in trained else _recipes(run).index(recipe)
    return Curve(agent_name(recipe), style % len(MARKERS), tuple(points), tuple(rejected))


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _round_row(r: Round) -> dict[str, Any]:
    figures = r.figures
    dropped = figures.get("dropped") or {}
    candidates = figures.get("candidates") or []
    chosen = best_tried(r.figures)
    chosen_by = next((name for name in SCORES if name in figures), SCORES[0])
    return {
        "recipe": agent_name(r.recipe),
        "round": r.number,
        "trained_on": _trained_on([figures]),
        "dropped": sum(dropped.values()),
        "reasons": sorted(dropped.items(), key=lambda item: -item[1]),
        "before": _score(figures.get(f"{chosen_by}_before"), chosen_by),
        "best": _score(chosen.get(chosen_by), chosen_by),
        "after": _score(figures.get(chosen_by), chosen_by),
        "promoted": figures.get("promoted"),
        "episode_length": figures.get("episode_length"),
        "chosen_logp": figures.get("chosen_logp_per_token"),
        "setting": ", ".join(
            f"{name.replace('_', ' ')} {number(value)}"
            for name, value in chosen.items()
            if name in ("learning_rate", "epochs", "beta", "sft_weight")
        ),
        "candidates": [_in_words(candidate) for candidate in candidates],
        "model_calls": figures.get("model_calls"),
        "seconds": figures.get("seconds"),
    }


def _in_words(candidate: Mapping[str, Any]) -> str:
    """What is known of a candidate; shares, and the bounds of their intervals, as per cent."""
    shares = "validation_success" in candidate
    return ", ".join(
        f"{name.replace('_', ' ')} {percent(value) if shares and name.startswith('validation_') else number(value)}"
        for name, value in candidate.items()
    )


def _score(value: Any, name: str) -> str:
    if name == "validation_success":
        return percent(value)
    return "–" if _finite(value) is None else f"{value:.3f}"


def _kinds(r: Round) -> dict[str, Any] | None:
    """How often each kind of action was the chosen and the rejected one, with bar lengths in per cent."""
    chosen, rejected = r.figures.get("chosen_kinds") or {}, r.figures.get("rejected_kinds") or {}
    if not rejected:
        return None
    most = max([*chosen.values(), *rejected.values(), 1])
    rows = [
        (kind, chosen.get(kind, 0), rejected.get(kind, 0))
        for kind in sorted(chosen.keys() | rejected.keys(), key=lambda k: -chosen.get(k, 0) - rejected.get(k, 0))
    ]
    return {
        "title": f"{agent_name(r.recipe)}, round {r.number}",
        "rows": [(kind, c, n, 100 * c / most, 100 * n / most) for kind, c, n in rows],
    }


def _audit(r: Round) -> dict[str, Any] | None:
    """The audit of a round's labels: that of all pairs, and its parts."""
    rows = r.figures.get("labels")
    if not rows:
        return None
    return {
        "name": agent_name(r.recipe),
        "round": r.number,
        "of": r.figures.get("of"),
        "rolls": r.figures.get("rolls"),
        "all": rows[0],
        "parts": rows[1:],
        "lost": sorted((r.figures.get("not_judged") or {}).items()),
        "model_calls": r.figures.get("model_calls"),
    }


def _visible(value: Any) -> Any:
    """Text of strangers without what turns the direction of a line or cannot be seen; markup is ours already."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _template() -> Any:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_visible
    )
    filters: dict[str, Callable[..., str]] = {
        "number": number,
        "percent": percent,
        "duration": duration,
        "agent_name": agent_name,
        "kind_of": kind_of,
        "inline": inline,
    }
    environment.filters.update(filters)
    environment.globals["interval"] = interval
    return environment.from_string(resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8"))
