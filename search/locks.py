"""One writer at a time for a file or a folder.

The lock is the operating system's (``flock``) on a hidden file: in the folder, or beside the file. It ends with the
process that holds it, so a lock never outlives a crash or a reboot; the hidden file is removed at the end, and where a
kill has left it, it is taken over.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .files import hidden_beside, make_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def only_writer(path: str | Path) -> Iterator[None]:
    """Hold the lock of the file or folder ``path``, which no other process can until the block ends or this process
    does, however it ends. Raises ValueError with the other's process id where ``path`` is being written to.

    Where there are no such locks (Windows, some network file systems), nothing is locked.
    """
    target = Path(path)
    lock = target / ".lock" if target.is_dir() else hidden_beside(target, "lock")
    make_folder(lock.parent)
    held = _locked(lock, target) if fcntl is not None else None
    try:
        yield
    finally:
        if held is not None:
            lock.unlink(missing_ok=True)  # while it is held, so that nobody's is removed but one's own
            os.close(held)


def _locked(lock: Path, target: Path) -> int | None:
    """A descriptor of the locked file; None where the file system has no locks."""
    while True:
        held = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(held, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(held)
            raise ValueError(
                f"{target} is being written to by the process {owner}; wait until it has ended, end it, or name another"
                f" {'folder' if target.is_dir() else 'file'}"
            ) from None
        except OSError:
            os.close(held)
            return None
        if lock.exists() and os.path.samestat(os.fstat(held), os.stat(lock)):
            os.ftruncate(held, 0)
            os.pwrite(held, str(os.getpid()).encode(), 0)
            return held
        os.close(held)  # its last owner removed it after it was opened here
