"""Files and folders that are whole or not there, also after a power cut.

What is written goes to a temporary name, is synced to disk, and only then renamed to its own: a name that exists has
all its content. The folder around it is synced last, so that the name itself survives.

Temporary names carry the host and the process, ``.NAME.HOST.PID.tmp``, where a hash stands for the end of a long name.
What a killed process left is removed when somebody writes the same name again: if it is of this host and its process is
gone, or if it is of another host and a day old. A folder that replaces another is exchanged with it in one step on
Linux. Where the system or the file system cannot do that, there are two renames, and between them no folder of that
name: whoever was killed there left the earlier folder under ``.NAME.HOST.PID.old``, and :func:`recover` gives it its
name back.

Not here: two writers of one name in one process at a time; on Windows, where nobody can be asked whether a process
lives, what a killed process left on the same host stays. Links are not followed: one of that name is replaced.
:func:`chosen_path` follows them where a person names an output.
"""

import ctypes
import errno
import hashlib
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

MAX_UNPACKED: Final = 2**30
MAX_RATIO: Final = 200
DISK_FAULTS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
_DAY: Final = 86_400.0
_LONG: Final = 120
"""Bytes of a name. File systems take 255, of which host, process and ending need up to 90."""


def chosen_path(text: str) -> Path:
    """The path that a person gave: ``~`` is the home folder, which no shell expands in ``--out=~/x``, and a link stands
    for what it leads to, there already or not."""
    path = Path(os.path.expanduser(text))
    real = Path(os.path.realpath(path))
    return real if path.is_symlink() and real.exists() == path.exists() else path  # of a pipe the link alone is a path


def hidden_beside(target: Path, ending: str) -> Path:
    """``.NAME.ENDING`` beside ``target``; of a long name the beginning and a hash."""
    name = os.fsencode(target.name)
    if len(name) > _LONG:
        name = name[:_LONG] + hashlib.sha256(name).hexdigest()[:16].encode()
    return target.with_name(f".{os.fsdecode(name)}.{ending}")


@contextmanager
def atomically(path: str | Path) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to; renamed to ``path`` when the block ends well, else removed. Raises
    OSError that names ``path`` where the disk is full or cannot be written."""
    target = Path(path)
    make_folder(target.parent)
    sweep(target)
    temporary = _beside(target, "tmp")
    try:
        yield temporary
        publish(temporary, target)
    except BaseException as error:
        with suppress(FileNotFoundError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno in DISK_FAULTS:
            why = os.strerror(error.errno)
            raise OSError(error.errno, f"{target} is not written: {why}; make room there, or name another place") from (
                error
            )
        raise


def write_folder(folder: str | Path, write: Callable[[Path], None]) -> Path:
    """Have ``write`` fill a folder beside ``folder``, then give it that name, in place of what bore it."""
    folder = Path(folder)
    make_folder(folder.parent)
    recover(folder)
    sweep(folder)
    fresh = _beside(folder, "tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        write(fresh)
        sync(fresh)
        if not folder.exists():
            publish(fresh, folder)
        elif _exchange(fresh, folder):
            sync_folder(folder.parent)
        else:
            earlier = _beside(folder, "old")
            os.replace(folder, earlier)
            publish(fresh, folder)
            shutil.rmtree(earlier)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def recover(folder: str | Path) -> None:
    """Give a folder that a killed :func:`write_folder` had just moved away its name back."""
    folder = Path(folder)
    if not folder.exists():
        for earlier in _left_over(folder, "old"):
            os.replace(earlier, folder)
            return


def sweep(target: Path) -> None:
    """Remove what killed writers of ``target`` left beside it."""
    for left in [*_left_over(target, "tmp"), *_left_over(target, "old")]:
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _beside(target: Path, kind: str) -> Path:
    return hidden_beside(target, f"{_host()}.{os.getpid()}.{kind}")


def _host() -> str:
    return re.sub(r"\W", "-", socket.gethostname()) or "host"


def _left_over(target: Path, kind: str) -> list[Path]:
    """Temporary files or folders of ``target`` whose writer is gone, the latest first."""
    named = re.compile(rf"{re.escape(hidden_beside(target, '').name)}(?:([^.]*)\.)?(\d+)\.{kind}")
    found: list[tuple[float, Path]] = []
    with suppress(FileNotFoundError):
        for path in target.parent.iterdir():
            if writer := named.fullmatch(path.name):
                with suppress(FileNotFoundError):
                    age = time.time() - path.stat().st_mtime
                    ours = writer[1] in (None, _host())
                    if (not _lives(int(writer[2]))) if ours else age > _DAY:
                        found.append((age, path))
    return [path for _, path in sorted(found)]


def _lives(process: int) -> bool:
    if sys.platform == "win32":  # os.kill would end it there
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the system or the file system cannot."""
    if sys.platform != "linux":
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def publish(fresh: Path, target: Path) -> None:
    """Give the finished file or folder ``fresh`` the name ``target``, its content on disk before. A file of that name
    is replaced; of a folder there must be none."""
    sync(fresh)
    os.replace(fresh, target)
    sync_folder(target.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those around it where they are missing, their names on disk."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


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


def check_output(path: str | Path, *inputs: str | Path) -> None:
    """Raises ValueError where ``path`` cannot be written, or where writing it would replace one of ``inputs`` (files or
    folders that are read) or a folder that one of them is in."""
    target = Path(path)
    for source in map(Path, inputs):
        if os.path.realpath(source) == os.path.realpath(target) or (
            source.exists() and target.exists() and source.samefile(target)
        ):
            raise ValueError(f"{target} is read by this command, which would replace it by its output; name another")
        if target.is_dir() and source.exists() and Path(os.path.realpath(target)) in source.resolve().parents:
            raise ValueError(f"{target} is the folder of {source}, which is read, and would be replaced; name another")
    if target.exists() and not target.is_file() and not target.is_dir():
        raise ValueError(f"{target} is a device or a pipe, and a file is expected; name another")
    missing = target.absolute()
    while not missing.parent.exists():
        missing = missing.parent
    if missing != target.absolute() and missing.parent == Path(missing.anchor):
        raise ValueError(f"{target}: there is no folder {missing}; make it, or name a place in one that exists")


def check_model_output(folder: str | Path, *inputs: str | Path) -> None:
    """As :func:`check_output`, of a folder that gets a model; what is there may be an earlier model, or nothing."""
    check_output(folder, *inputs)
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds something else than a model, which would be lost; name another folder")


def check_writable(folder: str | Path) -> None:
    """Raises ``ValueError`` where no model can be written as ``folder``: found out before hours of training, by making
    and removing a folder beside it."""
    place = Path(folder).absolute().parent
    while not place.exists():
        place = place.parent
    try:
        Path(tempfile.mkdtemp(prefix=".branchwise.", dir=place)).rmdir()
    except OSError as error:
        raise ValueError(f"{folder} cannot be written: {error.strerror} in {place}; name another --out") from error


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
