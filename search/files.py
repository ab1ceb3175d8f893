"""Files and folders that are whole or not there, also after a power cut.

What is written goes to a temporary name, is synced to disk, and only then renamed to its own: a name that exists has
all its content. The folder around it is synced last, so that the name itself survives.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomically(path: str | Path) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to; renamed to ``path`` when the block ends well, else removed."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        publish(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


def publish(fresh: Path, target: Path) -> None:
    """Give the finished file or folder ``fresh`` the name ``target``, its content on disk before. A file of that name
    is replaced; of a folder there must be none."""
    sync(fresh)
    os.replace(fresh, target)
    sync_folder(target.parent)


def sync(path: Path) -> None:
    """Have a file, or a folder with all that is in it, written to disk."""
    if not path.is_dir():
        with open(path, "rb+") as written:
            os.fsync(written.fileno())
        return
    for inside in path.iterdir():
        sync(inside)
    sync_folder(path)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder written to disk."""
    with suppress(OSError):  # not every file system can sync a folder
        names = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(names)
        finally:
            os.close(names)


def check_file(path: str | Path, cure: str) -> None:
    """Raises ValueError where ``path`` is no file: what it is instead, and the cure."""
    if not Path(path).is_file():
        what = "a folder, where a file is expected" if Path(path).is_dir() else "no such file"
        raise ValueError(f"{path}: {what}; {cure}")
