"""What a person sees of a run: a bar for each running stage, a line for each finished one, and the table at the end.

:class:`ProgressDisplay` implements :class:`~branchwise.training.stages.Display`. On a terminal, running stages have
bars; elsewhere (a file, a log of CI) there are plain lines, one a stage every :data:`LINE_EVERY` seconds at most. A
finished stage leaves one line with its key figure and seconds. :class:`ResultsTable` is the table of ``results.json``.

What it does not do: measure. Figures are what stages returned.
"""

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from ..envs.terminal import printable, printable_line, wrapped
from .evaluation import ResultRow
from .readable import agent_name, duration, interval, kind_of, number, percent
from .stages import best_tried

FIGURES = ("success % [95 %]", "reward [95 %]", "invalid %", "steps", "calls", "time")
WIDEST = 10_000
NARROWEST_NAME = 16
"""Columns that an agent's name has at least before the table takes another form; a longer name is folded."""
LINE_EVERY = 10.0
"""Seconds between two plain lines of one stage."""

SHARES = ("success", "validation_success", "reading_accuracy", "explained_variance")
COUNTS = ("pairs", "rows", "nodes")


def key_figure(figures: Mapping[str, Any]) -> str:
    """The figure of a stage that a reader waits for; "" where it has none. Of a round that promoted nothing it is the
    best candidate's.

    >>> key_figure({"validation_success": 0.25, "promoted": False, "model_calls": 12})
    'validation success 25.0\\u202f%, not promoted'
    >>> key_figure({"episodes": 40, "success": 0.5})
    'success 50.0\\u202f%'
    """
    if figures.get("promoted") is False:
        figures = {**figures, **best_tried(figures)}
    promoted = {True: ", promoted", False: ", not promoted"}.get(figures.get("promoted"), "")  # type: ignore[arg-type]
    if figures.get("candidates") == []:
        return "nothing to learn from, so no model was trained"
    for name in SHARES:
        if isinstance(figures.get(name), int | float) and math.isfinite(figures[name]):
            return f"{name.replace('_', ' ')} {percent(figures[name])}{promoted}"
    reward = figures.get("validation_reward")
    if isinstance(reward, int | float) and math.isfinite(reward):
        return f"validation reward {reward:.3f}{promoted}"
    if "solved_goals" in figures and "goals" in figures:
        return f"{number(figures['solved_goals'])} of {number(figures['goals'])} goals solved"
    for name in COUNTS:
        if isinstance(figures.get(name), int | float):
            return f"{number(figures[name])} {name}"
    return ""


def bars(console: Console) -> Progress:
    """Progress bars with a note, as every command draws them; they vanish when done."""
    return Progress(
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
        console=console,
        transient=True,
    )


class ProgressDisplay:
    """Shows stages on ``console``; a context manager, since bars own the terminal's last lines while they stand."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self._clock = clock
        self._progress = bars(console) if console.is_terminal else None
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, float] = {}

    def __enter__(self) -> "ProgressDisplay":
        if self._progress:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._progress:
            self._progress.stop()

    def started(self, stage: str) -> None:
        self._said[stage] = self._clock()
        if self._progress:
            self._tasks[stage] = self._progress.add_task(escape(printable_line(stage)), total=None, note="")
        else:
            self._line(f"{stage}: started")

    def repeated(self, stage: str, why: str) -> None:
        self._line(f"{stage}: {why}; the stage is done once more")

    def moved(self, stage: str, done: float, total: float, note: str) -> None:
        if self._progress:
            if stage in self._tasks:
                self._progress.update(
                    self._tasks[stage], completed=done, total=total or None, note=escape(printable_line(note))
                )
        elif self._clock() - self._said.get(stage, -LINE_EVERY) >= LINE_EVERY:
            self._said[stage] = self._clock()
            share = f"{100 * done / total:.0f} %" if total else number(done)
            self._line(f"{stage}: {share}{f', {note}' if note else ''}")

    def finished(self, stage: str, figures: Mapping[str, Any], seconds: float) -> None:
        if self._progress and stage in self._tasks:
            self._progress.remove_task(self._tasks.pop(stage))
        took = duration(seconds).replace(" ", "\N{NO-BREAK SPACE}")
        self._line(f"{stage}: {', '.join(filter(None, ('done', key_figure(figures), took)))}")

    def _line(self, text: str) -> None:
        if self.console.is_terminal:  # in a file a line is a line
            shown = wrapped(printable(re.sub(r"[ \t\r\n\v\f]+", " ", text)), self.console.width)
        else:
            shown = printable_line(text)
        self.console.print(Text(shown), soft_wrap=True)


class ResultsTable:
    """The table of results for any width: intervals beside their means, below them, or, where a table has no room, some
    lines an agent. Shares are per cent, intervals of 95 % in brackets, oracle rows in italics with a star."""

    def __init__(self, rows: Sequence[ResultRow]) -> None:
        self.rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        longest = max((cell_len(self._title(row)) for row in self.rows), default=0)
        spared = max(0, longest - NARROWEST_NAME)
        for below in (False, True):
            table = self._table(below)
            if Measurement.get(console, options.update(max_width=WIDEST), table).maximum - spared <= options.max_width:
                yield table
                break
        else:
            yield from self._lines()
        yield Text(_caption(self.rows), style="table.caption")

    def _table(self, below: bool) -> Table:
        """One row an agent; ``below``: intervals below their means, and narrow lines between columns."""
        narrow: dict[str, Any] = {
            "box": box.SIMPLE_HEAD,
            "show_edge": False,
            "pad_edge": False,
            "collapse_padding": True,
        }
        between = "\n" if below else " "
        table = Table(**narrow if below else {})
        table.add_column("agent", overflow="fold")
        for name in FIGURES:
            table.add_column(
                name.replace(" [", f"{between}[").replace("d %", f"d{between}%"), justify="right", no_wrap=True
            )
        for row in self.rows:
            cells = [f"{mean}{between * bool(around)}{around}" for _, mean, around in _figures(row)]
            table.add_row(Text(self._title(row)), *map(Text, cells), style=_style(row))
        return table

    def _title(self, row: ResultRow) -> str:
        """The agent's name, with its number of episodes where it has fewer than others."""
        fewer = row.episodes < max(other.episodes for other in self.rows)
        count = f" ({row.episodes} episodes)" if fewer else ""
        return printable_line(f"{agent_name(row.agent)}{' *' if _is_oracle(row) else ''}{count}")

    def _lines(self) -> Iterator[Text]:
        for row in self.rows:
            yield Text(self._title(row), style=f"bold {_style(row)}".strip())
            cells = [f"{name.partition(' [')[0]} {mean} {around}".strip() for name, mean, around in _figures(row)]
            yield Text(f"  {'   '.join(cells[:2])}\n  {'   '.join(cells[2:])}")


def _is_oracle(row: ResultRow) -> bool:
    return kind_of(asdict(row)) == "oracle"


def _figures(row: ResultRow) -> list[tuple[str, str, str]]:
    """Name, mean and interval of each figure."""
    figures = (
        (f"{100 * row.success:.1f}", interval(row.success_low, row.success_high)),
        (f"{row.reward:.3f}", interval(row.reward_low, row.reward_high, 1.0, 2)),
        (f"{100 * row.invalid_action_rate:.1f}", ""),
        (f"{row.steps:.1f}", ""),
        (number(row.model_calls), ""),
        (duration(row.seconds_per_decision), ""),
    )
    return [(name, *figure) for name, figure in zip(FIGURES, figures, strict=True)]


def _style(row: ResultRow) -> str:
    return "italic dim" if _is_oracle(row) else ""


def _caption(rows: Sequence[ResultRow]) -> str:
    if not rows:
        return ""
    row = rows[0]
    played = f"goals of {row.env}, split {row.split}" if row.split else f"episodes of {row.env}"
    most = max(row.episodes for row in rows)
    parts = [f"{most} {played}, seed {row.seed}; calls and time: a decision"]
    if any(_is_oracle(row) for row in rows):
        parts.append("* reads the outcome on the test goal itself: a bound, not an agent")
    return printable("\n".join(parts))
