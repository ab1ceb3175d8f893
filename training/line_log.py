"""A file of lines that grows as results come: what the logs of audits and benchmarks share.

Whoever keeps one reads what is there first and says how many bytes of it are whole; a line that a kill has cut off is
dropped, and lines are handed to the operating system as they come. What it does not do: lock (``search.locks``),
survive a power cut to the last line (nothing is synced).
"""

from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self


class LineLog:
    """Appends to a file from :meth:`open_at` on; before, and without one, nothing is written. A context manager."""

    _file: BinaryIO | None = None

    def open_at(self, path: Path, whole: int) -> None:
        """Append to ``path``, of which the first ``whole`` bytes are kept."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "ab")  # noqa: SIM115 (closed by __exit__)
        self._file.truncate(whole)

    def write(self, lines: bytes) -> None:
        if self._file is not None:
            self._file.write(lines)

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
