"""A progress bar of a search, for ``search(progress=SearchBar())``."""

import math
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from .trees.tree import Tree


class SearchBar:
    """Shows simulations of those asked for, nodes, the best root value, model calls, and invalid proposals with failed
    leaves, as totals over all trees; on a narrow terminal in two lines. Where the output is no terminal it prints a
    line every ``seconds`` instead, and one at the end.

    Use as a context manager, so that the bar is taken down however the search ends. ``batches`` counts the batches that
    it was told of.
    """

    def __init__(self, console: Console | None = None, seconds: float = 10.0) -> None:
        self.trees: Sequence[Tree] = ()
        self.console = Console(stderr=True) if console is None else console
        self.seconds = seconds
        self.batches = 0
        self._last = -math.inf
        self._unsaid: tuple[int, int, int] | None = None
        self._bar = Progress(
            BarColumn(bar_width=16),
            TextColumn("{task.description}", table_column=Column(no_wrap=False)),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> "SearchBar":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if self._unsaid:
            self._print(self._unsaid)

    def __call__(self, simulations: int, nodes: int, model_calls: int) -> None:
        self.batches += 1
        if not self.console.is_terminal:
            self._unsaid = simulations, nodes, model_calls
            if time.monotonic() - self._last >= self.seconds:
                self._print(self._unsaid)
            return
        done, asked = self._done(), self._asked() or None
        self._bar.update(self._task, completed=done, total=asked, description=self.line(done, nodes, model_calls))

    def _print(self, totals: tuple[int, int, int]) -> None:
        self._last, self._unsaid = time.monotonic(), None
        self.console.print(self.line(self._done(), *totals[1:]), highlight=False, soft_wrap=True)

    def _done(self) -> int:
        return sum(tree.counters["simulations"] for tree in self.trees)

    def _asked(self) -> int:
        return sum(int(tree.settings.get("simulations", 0)) for tree in self.trees)

    def line(self, simulations: int, nodes: int, model_calls: int) -> str:
        """The words beside the bar."""
        values = [value for tree in self.trees if tree.visits(0) and math.isfinite(value := tree.value(0))]
        best = f"{max(values):.3f}" if values else "–"
        invalid = sum(tree.counters["invalid_actions"] for tree in self.trees)
        failed = sum(tree.counters["failed_leaves"] for tree in self.trees)
        asked = self._asked()
        of_all = f" of {asked:,}" if asked else ""
        return (
            f"{simulations:,}{of_all} simulations · {nodes:,} nodes · best value {best} · {model_calls:,} model calls"
            f" · {invalid:,} invalid proposals" + (f" · {failed:,} failed leaves" if failed else "")
        )
