"""Ctrl-C and SIGTERM during a search: finish the batch, so that no tree is torn, save, and leave."""

import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from .trees.tree import Tree


class Interruption:
    """Within this context the first SIGINT or SIGTERM only asks; :meth:`leave_if_asked` writes the trees to
    ``autosave`` (``store.save_trees``) and raises KeyboardInterrupt or SystemExit(143). A second signal raises at once.
    Without ``autosave``, or outside the main thread, signals do what they always did.
    """

    def __init__(self, trees: Sequence[Tree], autosave: str | Path | None) -> None:
        self.trees = trees
        self.autosave = autosave
        self.asked = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if self.autosave is not None and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def leave_if_asked(self) -> None:
        """Between two batches: save and leave, where a signal came."""
        if not self.asked:
            return
        from .store import save_trees  # the store reads trees and pairs; only this way out needs it

        assert self.autosave is not None
        save_trees(self.autosave, self.trees)
        self._leave(self.asked)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            self._leave(number)
        self.asked = number

    def _leave(self, number: int) -> None:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)
