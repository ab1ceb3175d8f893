"""A progress bar of a search, for ``search(progress=SearchBar())``."""

import math
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from .tree import Tree


class SearchBar:
    """Shows simulations, nodes, the best root value, model calls, and invalid proposals with failed leaves, as totals
    over all trees. Where the output is no terminal it prints a line every ``seconds`` instead.

    Use as a context manager, so that the bar is taken down however the search ends.
    """

    def __init__(self, console: Console | None = None, seconds: float = 10.0) -> None:
        self.trees: Sequence[Tree] = ()
        self.console = Console(stderr=True) if console is None else console
        self.seconds = seconds
        self._last = -math.inf
        self._bar = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> "SearchBar":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, simulations: int, nodes: int, model_calls: int) -> None:
        now = time.monotonic()
        if not self.console.is_terminal and now - self._last < self.seconds:
            return
        self._last = now
        total = sum(int(tree.settings.get("simulations", 0)) for tree in self.trees) or None
        done = sum(tree.counters["simulations"] for tree in self.trees)
        line = self.line(done, nodes, model_calls)
        self._bar.update(self._task, completed=done, total=total, description=line)
        if not self.console.is_terminal:
            self.console.print(line, highlight=False, soft_wrap=True)

    def line(self, simulations: int, nodes: int, model_calls: int) -> str:
        """The words beside the bar."""
        best = max((tree.value(0) for tree in self.trees if tree.visits(0)), default=math.nan)
        invalid = sum(tree.counters["invalid_actions"] for tree in self.trees)
        failed = sum(tree.counters["failed_leaves"] for tree in self.trees)
        return (
            f"{simulations:,} simulations · {nodes:,} nodes · best value {best:.3f} · {model_calls:,} model calls"
            f" · {invalid:,} invalid proposals" + (f" · {failed:,} failed leaves" if failed else "")
        )
