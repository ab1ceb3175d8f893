"""Files that are whole or not there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

MAX_UNPACKED: Final = 2**30
MAX_RATIO: Final = 200


@contextmanager
def atomically(path: str | Path) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to; renamed to ``path`` when the block ends well, else removed."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    with suppress(OSError):  # not every file system can sync a folder
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def check_file(path: str | Path, cure: str) -> None:
    """Raises ValueError where ``path`` is no file: what it is instead, and the cure."""
    if not Path(path).is_file():
        what = "a folder, where a file is expected" if Path(path).is_dir() else "no such file"
        raise ValueError(f"{path}: {what}; {cure}")


def check_unpacked(path: str | Path, unpacked: int) -> None:
    """Raises ValueError where a compressed file would take more than 1 GiB (``MAX_UNPACKED``) unpacked, and more than
    200 times (``MAX_RATIO``) its own size: a small file must not fill the memory."""
    size = Path(path).stat().st_size
    limit = max(MAX_UNPACKED, MAX_RATIO * size)
    if unpacked > limit:
        raise ValueError(
            f"{path}: its {size:,} bytes unpack to {unpacked:,}; the limit is {limit:,} (1 GiB, or {MAX_RATIO} times"
            " the file where that is more). Search again, in several files"
        )
