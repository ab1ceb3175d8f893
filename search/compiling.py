"""Kernels compiled and kept: saying that it is done, which takes some seconds once after installation, and forgetting
what an update has made old.

Numba compiles a kernel anew when the file that it stands in has changed, but not when a file has from which it calls
something: kernels of before an update would go on.
"""

import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

_IMPORT: Final = re.compile(rb"^from (\.+)([\w.]+) import", re.MULTILINE)


def say_if_compiling(kernel: Any, what: str) -> None:
    """Say so on standard error, before the first call of ``kernel``, where neither this process nor numba's cache on
    disk has it compiled."""
    if not is_compiled(kernel):
        print(f"branchwise: compiling {what}, once after installation …", file=sys.stderr, flush=True)


def is_compiled(kernel: Any) -> bool:
    """Whether a kernel with ``cache=True`` is compiled already, in this process or on disk."""
    if kernel.signatures:
        return True
    function = kernel.py_func
    name = f"{Path(function.__code__.co_filename).stem}.{function.__qualname__}"
    return any(Path(kernel.stats.cache_path).glob(f"{name}-*.nbi"))


def forget_outdated(kernel: Any) -> None:
    """Remove what numba has kept of the kernels of a folder, given one of them, from before a change of their own file,
    or of one with kernels that it imports from."""
    folder = Path(kernel.py_func.__code__.co_filename).parent
    newest: dict[str, int] = {}
    with suppress(OSError):  # where nothing can be written, nothing was updated either
        for index in Path(kernel.stats.cache_path).glob("*.nbi"):
            name = index.name.partition(".")[0]
            if name not in newest:
                read = _imported(folder / f"{name}.py")
                newest[name] = max(
                    (path.stat().st_mtime_ns for path, text in read.items() if b"\n@njit" in text), default=0
                )
            if index.stat().st_mtime_ns < newest[name]:
                index.unlink(missing_ok=True)


def _imported(path: Path) -> dict[Path, bytes]:
    """A file, and the files of its package that it imports from (``from .name import …``), with their texts."""
    found: dict[Path, bytes] = {}
    waiting = [path]
    while waiting:
        source = waiting.pop()
        if source not in found and source.is_file():
            found[source] = source.read_bytes()
            for dots, name in _IMPORT.findall(found[source]):
                around = source.parents[len(dots) - 1]
                waiting.append(around.joinpath(*name.decode().split(".")).with_suffix(".py"))
    return found
