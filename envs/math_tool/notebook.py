"""From a log of snippets to what the next one prints: the log is the truth, dumps are a cache of it.

A node of a search tree is a log. Going on from it takes the dump that was taken when its last snippet ran, or, where
that is gone or damaged, a replay of the log. Results are remembered too, so that a search that asks twice runs once.
Both caches are bounded, by bytes and by count.

What it does not do: share anything between processes.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from .interpreter import Interpreter, Result, Session, Snapshot, SnapshotError

Log = tuple[str, ...]

_BYTES: Final = 64 << 20
_RESULTS: Final = 50_000


class Notebook:
    """Runs snippets after logs with ``interpreter``. Pickles without its caches."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.interpreter = interpreter
        self._results: OrderedDict[Log, Result] = OrderedDict()
        self._snapshots: OrderedDict[Log, Snapshot] = OrderedDict()
        self._bytes = 0

    def __reduce__(self) -> tuple[type["Notebook"], tuple[Interpreter]]:
        return Notebook, (self.interpreter,)

    def run(self, log: Sequence[str], code: str) -> Result:
        """The result of ``code`` after the snippets of ``log``, all of which were kept when they ran."""
        log = tuple(log)
        key = (*log, code)
        found = self._results.get(key)
        if found is not None:
            self._results.move_to_end(key)
            return found
        with self._at(log) as session:
            result = session.run(code)
            if result.kept:
                self._keep(key, session.snapshot())
        self._results[key] = result
        if len(self._results) > _RESULTS:
            self._results.popitem(last=False)
        return result

    def forget(self) -> None:
        """Empty both caches."""
        self._results.clear()
        self._snapshots.clear()
        self._bytes = 0

    def _at(self, log: Log) -> Session:
        """The session after ``log``, from the longest part of it whose snapshot is remembered and whole."""
        for known in range(len(log), 0, -1):
            snapshot = self._snapshots.get(log[:known])
            if snapshot is None:
                continue
            try:
                session = self.interpreter.restore(snapshot)
            except SnapshotError:
                self._drop(log[:known])
                continue
            self._snapshots.move_to_end(log[:known])
            break
        else:
            known, session = 0, self.interpreter.open()
        if known < len(log):
            for code in log[known:]:
                session.run(code)
            self._keep(log, session.snapshot())
        return session

    def _keep(self, log: Log, snapshot: Snapshot) -> None:
        self._drop(log)
        self._snapshots[log] = snapshot
        self._bytes += len(snapshot.content)
        while self._bytes > _BYTES and len(self._snapshots) > 1:
            self._drop(next(iter(self._snapshots)))

    def _drop(self, log: Log) -> None:
        dropped = self._snapshots.pop(log, None)
        if dropped is not None:
            self._bytes -= len(dropped.content)
