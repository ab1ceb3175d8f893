"""What the credit benchmark says: methods over all cells, cells one by one, and a decision tree from dials to a method.

Figures are means over seeds with 95 % t-intervals over seeds. In a cell a method is *level with the best* where its
mean is within half a point of the largest, or the paired t-test over seeds against the method of the largest mean does
not tell them apart (two-sided p > 0.05).

The tree names a method by at most four questions on dials, so that the mean loss of success against the best of each
fitted cell is least. How many questions it asks is found by leaving out one seed at a time (:func:`sized_tree`). It is
judged in cells that it was not fitted on, by the same seeds and by fresh ones, which no fitted cell has, beside the one
method that loses least in the fitted cells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..evaluation import mean_interval, paired_p
from .cells import BUDGETS, CELLS, DIALS, FITTED, Cell
from .methods import CONTROLS
from .run import Result

QUESTIONS: Final = 4
LEAST_GAIN: Final = 0.005
"""Of success: what more questions must gain, and what two methods must differ by."""
NO_GAIN: Final = 1e-6
"""Of the sum of losses over cells: what a question must gain to be part of a fitted tree at all."""
LEVEL: Final = 0.05
COMPARED: Final = (
    ("trajectory_dpo", "rft"),
    ("trajectory_dpo_8", "trajectory_dpo"),
    ("step_dpo", "tree_sft"),
    ("step_dpo_verified", "step_dpo"),
    ("segments", "step_dpo"),
    ("suffix", "step_dpo"),
    ("step_dpo", "trajectory_dpo_8"),
    ("mixed", "trajectory_dpo_8"),
    ("gigpo", "grpo"),
    ("pooled", "gigpo"),
    ("pooled", "trajectory_dpo_8"),
)
Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Titles and rows, as text."""
Successes = Mapping[str, Mapping[str, NDArray[np.float64]]]
"""By cell and method: success of each seed."""


def successes(results: Sequence[Result]) -> Successes:
    found: dict[str, dict[str, list[float]]] = {}
    for result in results:
        found.setdefault(result.cell, {}).setdefault(result.method, []).append(result.success)
    return {cell: {name: np.array(values) for name, values in by.items()} for cell, by in found.items()}


def best_of(cell: Mapping[str, NDArray[np.float64]]) -> str:
    """The method of the largest mean; controls apart."""
    return max((name for name in cell if name not in CONTROLS), key=lambda name: round(float(cell[name].mean()), 9))


def level_with_best(cell: Mapping[str, NDArray[np.float64]]) -> list[str]:
    """The methods that are not below the best, with one seed those within half a point; controls apart."""
    best = cell[best_of(cell)]
    return [
        name
        for name in cell
        if name not in CONTROLS
        and (
            best.mean() - cell[name].mean() < LEAST_GAIN
            or (len(best) > 1 and paired_p(cell[name], best) > LEVEL)  # one seed tells nothing apart
        )
    ]


# ---- the decision tree ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Leaf:
    method: str


@dataclass(frozen=True, slots=True)
class Question:
    """Whether ``dial`` is at most ``threshold``: then ``low``, else ``high``."""

    dial: str
    threshold: float
    low: "Tree"
    high: "Tree"


Tree = Leaf | Question


def named(tree: Tree, cell: Cell) -> str:
    """The method that the tree names for a cell."""
    while isinstance(tree, Question):
        tree = tree.low if getattr(cell, tree.dial) <= tree.threshold else tree.high
    return tree.method


def losses_of(found: Successes) -> dict[str, dict[str, float]]:
    """By cell and method: how far the mean success is below the best of the cell; controls apart."""
    means = {c: {m: float(v.mean()) for m, v in by.items() if m not in CONTROLS} for c, by in found.items()}
    return {cell: {name: max(by.values()) - mean for name, mean in by.items()} for cell, by in means.items()}


def fit_tree(losses: Mapping[str, Mapping[str, float]], questions: int = QUESTIONS) -> Tree:
    """The tree of at most so many ``questions`` with the least mean loss over ``losses``, by cell and method; of equal
    ones that of fewer questions, the earlier dial and method. Exhaustive."""
    names = list(losses)
    methods = list(next(iter(losses.values())))
    table = np.array([[losses[name][method] for method in methods] for name in names])
    dials = np.array([[getattr(CELLS[name], dial) for dial in DIALS] for name in names], np.float64)

    @cache
    def best(members: tuple[int, ...], left: int) -> tuple[float, Tree]:
        some = list(members)
        sums = np.round(table[some].sum(axis=0), 9)
        found: tuple[float, Tree] = (float(sums.min()), Leaf(methods[int(sums.argmin())]))
        for column, dial in enumerate(DIALS if left else ()):
            values = np.unique(dials[some, column])
            for threshold in (values[1:] + values[:-1]) / 2:
                is_low = dials[some, column] <= threshold
                low, high = (tuple(np.array(some)[mask].tolist()) for mask in (is_low, ~is_low))
                for beside in range(left):
                    parts = best(low, beside), best(high, left - 1 - beside)
                    cost = parts[0][0] + parts[1][0] + NO_GAIN
                    if cost < found[0] - 1e-9:
                        found = cost, Question(dial, float(threshold), parts[0][1], parts[1][1])
        return found

    return best(tuple(range(len(names))), questions)[1]


def sized_tree(found: Successes) -> Tree:
    """The tree of as many questions as pay. One seed at a time is left out: trees of each number of questions are
    fitted by the other seeds, and what they name is measured by the one left out. From no question on, a larger tree
    replaces a smaller one where it gains half a point and the 95 % t-interval of its gain over seeds is above 0. The
    trees share most of their seeds, so that interval is an approximation."""
    seeds = range(len(next(iter(next(iter(found.values())).values()))))
    if len(seeds) < 2:
        return fit_tree(losses_of(found), 0)
    others = [
        losses_of({cell: {name: np.delete(values, seed) for name, values in by.items()} for cell, by in found.items()})
        for seed in seeds
    ]

    def left_out(questions: int) -> NDArray[np.float64]:
        return np.array([success_of(fit_tree(others[seed], questions), found)[seed] for seed in seeds])

    asked, before = 0, left_out(0)
    for more in range(1, QUESTIONS + 1):
        after = left_out(more)
        gain, low, _ = mean_interval(after - before)
        if gain >= LEAST_GAIN and low > 0:
            asked, before = more, after
    return fit_tree(losses_of(found), asked)


def success_of(tree: Tree, found: Successes) -> NDArray[np.float64]:
    """Of the methods that the tree names: mean over cells, for each seed."""
    return np.mean([by[named(tree, CELLS[cell])] for cell, by in found.items()], axis=0)


def tree_lines(tree: Tree, indent: str = "") -> list[str]:
    """The tree in words, a line a branch.

    >>> print("\\n".join(tree_lines(Question("noise", 0.1, Leaf("rft"), Leaf("step_dpo")))))
    noise <= 0.1: rft
    noise > 0.1: step_dpo
    """
    if isinstance(tree, Leaf):
        return [f"{indent}{tree.method}"]
    lines = []
    for sign, branch in (("<=", tree.low), (">", tree.high)):
        head = f"{indent}{tree.dial} {sign} {tree.threshold:g}:"
        if isinstance(branch, Leaf):
            lines.append(f"{head} {branch.method}")
        else:
            lines += [head, *tree_lines(branch, f"{indent}  ")]
    return lines


@dataclass(frozen=True, slots=True)
class RuleScore:
    """A rule on some cells: in how many of them the method that it names is level with the best, and its mean loss."""

    level: int
    cells: int
    loss: float


def judge(tree: Tree, found: Successes) -> RuleScore:
    losses = losses_of(found)
    chosen = {cell: named(tree, CELLS[cell]) for cell in found}
    level = sum(chosen[cell] in level_with_best(found[cell]) for cell in found)
    return RuleScore(level, len(found), float(np.mean([losses[cell][chosen[cell]] for cell in found])))


# ---- tables -----------------------------------------------------------------------------------------------------


def method_table(results: Sequence[Result]) -> Table:
    """A row a method: success over all cells, in how many it is level with the best, and what its labels are like."""
    titles = ("method", "success % [95 %]", "level", "sign", "tied", "tau", "labels/k", "CPU s")
    found = successes(results)
    methods = list(dict.fromkeys(result.method for result in results))
    level = [name for cell in found.values() for name in level_with_best(cell)]
    seeds = sorted({result.seed for result in results})
    rows: list[tuple[str, ...]] = []
    for method in methods:
        own = [result for result in results if result.method == method]
        by_seed = np.array([np.mean([r.success for r in own if r.seed == seed]) for seed in seeds])
        count = "–" if method in CONTROLS else f"{level.count(method)}/{len(found)}"
        sign, tied, tau = (_mean([getattr(r, name) for r in own]) for name in ("sign", "tied", "tau"))
        rows.append(
            (
                method,
                _with_interval(by_seed),
                count,
                _number(sign, 100.0, 0),
                _number(tied, 100.0, 0),
                _number(tau, 1.0, 2),
                f"{np.mean([r.labels_per_1000_samples for r in own]):.0f}",
                f"{np.mean([r.cpu_seconds for r in own]):.2f}",
            )
        )
    return titles, rows


def cell_table(results: Sequence[Result]) -> Table:
    """A row a cell: its dials, the base, the best method, and how many others are level with it."""
    titles = ("h", "rec", "noise", "crit", "rare", "b", "n", "base", "best method", "success % [95 %]", "level")
    rows = []
    for name, by in successes(results).items():
        cell, best = CELLS[name], best_of(by)
        dials = (cell.horizon, cell.recoverable, cell.noise, cell.critical, cell.rare, cell.branching, cell.budget)
        base = np.mean([result.base for result in results if result.cell == name])
        level = str(len(level_with_best(by)))
        rows.append((*(f"{dial:g}" for dial in dials), f"{100 * base:.0f}", best, _with_interval(by[best]), level))
    return titles, rows


def kind_table(results: Sequence[Result], budget: int) -> Table:
    """A row a method: success over the fitted cells of one ``budget`` by kind, mistakes fatal or recoverable and
    verdicts clean or noisy; empty where there are none."""
    found = successes(results)
    kinds: dict[str, list[str]] = {}
    for cell in FITTED:
        if cell.name in found and cell.budget == budget:
            kind = f"{'recoverable' if cell.recoverable else 'fatal'}, {'noisy' if cell.noise else 'clean'}"
            kinds.setdefault(kind, []).append(cell.name)
    methods = list(dict.fromkeys(result.method for result in results)) if kinds else []
    rows: list[tuple[str, ...]] = [
        (
            method,
            *(_with_interval(np.mean([found[name][method] for name in cells], axis=0)) for cells in kinds.values()),
        )
        for method in methods
    ]
    return ("method", *kinds), rows


def difference_table(results: Sequence[Result]) -> Table:
    """A row a pair of methods: the difference of success in points, mean over all cells and over the fitted cells of
    each budget, with its t-interval paired by seed."""
    found = successes(results)
    methods = {result.method for result in results}
    groups = {"all cells": list(found)}
    for budget in BUDGETS:
        if cells := [cell.name for cell in FITTED if cell.budget == budget and cell.name in found]:
            groups[f"fitted, n = {budget}"] = cells
    rows: list[tuple[str, ...]] = [
        (
            f"{first} − {second}",
            *(
                _points(np.mean([found[name][first] - found[name][second] for name in cells], axis=0))
                for cells in groups.values()
            ),
        )
        for first, second in COMPARED
        if {first, second} <= methods
    ]
    return ("points [95 %]", *groups), rows


def success_table(results: Sequence[Result]) -> Table:
    """A row a cell, a column a method: mean success in per cent, a star where level with the best."""
    found = successes(results)
    methods = list(dict.fromkeys(result.method for result in results))
    rows = []
    for name, by in found.items():
        level = level_with_best(by)
        rows.append((name, *(f"{100 * by[m].mean():.0f}{'*' if m in level else ''}" for m in methods)))
    return ("cell", *methods), rows


def shared(results: Sequence[Result]) -> list[Result]:
    """The results of the seeds that every cell has."""
    seeds = [{result.seed for result in results if result.cell == cell} for cell in {result.cell for result in results}]
    return [result for result in results if result.seed in set.intersection(*seeds)]


def decision_tree(results: Sequence[Result]) -> tuple[list[str], Table] | None:
    """The decision tree in lines, and a table of how it and the best single method do: in how many cells they name a
    method that is level with the best, their mean loss, and the points of success that the tree gains on the single
    one. None where there are not two fitted cells."""
    names = {cell.name for cell in FITTED}
    seeds = {result.seed for result in results if result.cell in names}
    fitted = successes([result for result in results if result.cell in names])
    held_out, fresh = (
        successes([result for result in results if result.cell not in names and (result.seed in seeds) == known])
        for known in (True, False)
    )
    if len(fitted) < 2:
        return None
    tree, one = sized_tree(fitted), fit_tree(losses_of(fitted), 0)
    rows: list[tuple[str, ...]] = []
    for title, found in (("fitted", fitted), ("held-out", held_out), ("held-out, fresh seeds", fresh)):
        if found:
            gain = _points(success_of(tree, found) - success_of(one, found))
            for rule, name, more in ((tree, "tree", gain), (one, named(one, FITTED[0]), "")):
                own = judge(rule, found)
                level = f"{own.level}/{own.cells} ({100 * own.level / own.cells:.0f} %)"
                rows.append((title, name, level, f"{100 * own.loss:.1f}", more))
    return tree_lines(tree), (("cells", "rule", "level", "loss", "gain [95 %]"), rows)


def markdown(results: Sequence[Result], command: str) -> str:
    """All tables as a page; fresh seeds are in that of the decision tree alone."""
    by_cell = shared(results)
    parts = [
        "# Credit benchmark",
        f"`{command}`",
        "## Methods",
        _markdown_table(method_table(by_cell)),
        "## Differences",
        _markdown_table(difference_table(by_cell)),
        *(
            f"## Kinds of fitted cells, {budget} samples a point\n\n{_markdown_table(table)}"
            for budget in BUDGETS
            if (table := kind_table(by_cell, budget))[1]
        ),
        "## Cells",
        _markdown_table(cell_table(by_cell)),
        "## Success by cell and method",
        _markdown_table(success_table(by_cell)),
    ]
    if found := decision_tree(results):
        lines, judged = found
        parts += ["## Decision tree", "```\n" + "\n".join(lines) + "\n```", _markdown_table(judged)]
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    titles, rows = table
    lines = [titles, ("---",) * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _with_interval(values: NDArray[np.float64]) -> str:
    mean, low, high = mean_interval(values)
    around = "" if np.isnan(low) else f" [{100 * max(low, 0.0):.1f}, {100 * min(high, 1.0):.1f}]"
    return f"{100 * mean:.1f}{around}"


def _points(gaps: NDArray[np.float64]) -> str:
    mean, low, high = (100 * value for value in mean_interval(gaps))
    return f"{mean:+.1f}" + ("" if np.isnan(low) else f" [{low:+.1f}, {high:+.1f}]")


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _number(value: float | None, scale: float, digits: int) -> str:
    return "–" if value is None else f"{scale * value:.{digits}f}"
