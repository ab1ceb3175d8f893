"""A disk that fails: the file system as a process changes it, cut off before any one change, by a crash or a power cut.

``Disk(root, cut, power)`` watches what this process does below ``root``: opening to write, renaming, making, removing,
and syncing. Before change number ``cut`` (from 1 on) the process ends as by ``kill -9``. Where ``power`` is given it
first leaves, in ``power/old`` and ``power/new``, what the disk may hold after a power cut:

- old: only what was synced. A folder has the names that it had when it was last synced.
- new: all names are there, and files that were not synced since their last change are empty.

Files and folders that are removed stay open here, so that no inode number is given away twice.
"""

import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

CRASHED = 77
_CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink"}


class Disk:
    def __init__(self, root: Path, cut: int, power: Path | None = None) -> None:
        self.root, self.cut, self.power = root, cut, power
        self.changes = 0
        self.kept: list[int] = []
        self.content: dict[int, tuple[tuple[int, int], bytes]] = {}
        self.names: dict[int, dict[str, tuple[int, bool]]] = {}
        self.quiet = False
        fsync = os.fsync

        def synced(handle: int) -> None:
            if not self.quiet:
                place = os.readlink(f"/proc/self/fd/{handle}")
                if self.inside(place):
                    self.change("fsync", place)
                    fsync(handle)
                    self.aside(self.remember, place)
                    return
            fsync(handle)

        os.fsync = synced
        self.aside(self.remember_all, root)
        sys.addaudithook(self.hear)

    def aside(self, act: Callable[..., Any], *arguments: Any) -> Any:
        self.quiet = True
        try:
            return act(*arguments)
        finally:
            self.quiet = False

    def inside(self, path: str) -> bool:
        return path == str(self.root) or path.startswith(f"{self.root}/")

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.quiet or not (event == "open" or event in _CHANGES):
            return
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, str | bytes | os.PathLike) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
            paths = [(path, -1)]
        elif event in ("os.rename", "os.link"):
            source, target, *folders = arguments
            paths = [(source, folders[0]), (target, folders[1])]
        else:
            paths = [(arguments[0], arguments[-1] if event in ("os.remove", "os.rmdir", "os.mkdir") else -1)]
        named = [place for path, folder in paths if self.inside(place := self.aside(absolute, path, folder))]
        if named:
            self.change(event, *named)

    def change(self, event: str, *paths: str) -> None:
        self.changes += 1
        if self.changes == self.cut:
            self.quiet = True
            if self.power is not None:
                for kind in ("old", "new"):
                    self.leave(self.root, self.power / kind, kind == "old")
            os._exit(CRASHED)
        if event != "fsync":
            self.aside(self.keep, paths)

    def keep(self, paths: tuple[str, ...]) -> None:
        for path in paths:
            with suppress(FileNotFoundError):
                self.kept.append(os.open(path, os.O_PATH | os.O_NOFOLLOW))

    def remember_all(self, path: Path) -> None:
        for inside in path.iterdir():
            self.remember_all(inside) if inside.is_dir() else self.remember(str(inside))
        self.remember(str(path))

    def remember(self, path: str) -> None:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            entries = list(os.scandir(path))
            self.names[found.st_ino] = {e.name: (e.inode(), e.is_dir(follow_symlinks=False)) for e in entries}
        else:
            self.content[found.st_ino] = (state(found), Path(path).read_bytes())

    def leave(self, path: Path, target: Path, old: bool) -> None:
        """Write what the disk holds of the folder ``path``."""
        self.leave_folder(path.stat().st_ino, path, target, old)

    def leave_folder(self, inode: int, path: Path | None, target: Path, old: bool) -> None:
        target.mkdir(parents=True)
        if old:
            entries = self.names.get(inode, {})
            for name, (own, is_folder) in entries.items():
                if is_folder:
                    self.leave_folder(own, None, target / name, old)
                else:
                    (target / name).write_bytes(self.content[own][1] if own in self.content else b"")
            return
        assert path is not None
        for inside in path.iterdir():
            found = inside.stat()
            if inside.is_dir():
                self.leave_folder(found.st_ino, inside, target / inside.name, old)
            else:
                durable = found.st_ino in self.content and self.content[found.st_ino][0] == state(found)
                (target / inside.name).write_bytes(inside.read_bytes() if durable else b"")


def state(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns


def absolute(path: Any, folder: int) -> str:
    """A path as it was given, below an open folder where one was given with it."""
    if isinstance(path, int):  # an open file
        return os.readlink(f"/proc/self/fd/{path}")
    text = os.fsdecode(path)
    base = os.readlink(f"/proc/self/fd/{folder}") if isinstance(folder, int) and folder >= 0 else os.getcwd()
    return os.path.normpath(os.path.join(base, text))


def in_a_child(act: Callable[[], Any]) -> int:
    """The exit code of ``act`` in a forked process: 0, or 1 where it raised."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    code = 1
    try:
        act()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def files(root: Path) -> dict[str, bytes]:
    """All files below ``root``, by their place; folders without files as empty entries."""
    return {
        str(path.relative_to(root)) + ("/" if path.is_dir() else ""): b"" if path.is_dir() else path.read_bytes()
        for path in sorted(root.rglob("*"))
    }
