"""Kernels compiled and kept: saying that it is done, which takes some seconds once after installation, and forgetting
what an update has made old.

Numba compiles a kernel anew when the file that it stands in has changed, but not when a file has from which it calls
something: kernels of before an update would go on.
"""

import re
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

_PACKAGE: Final = Path(__file__).parents[2]
_IMPORT: Final = re.compile(rb"^from (\.*)([\w.]+) import", re.MULTILINE)


_said: Final[set[str]] = set()


def say_if_compiling(kernel: Any, what: str) -> None:
    """Say so on standard error, once in a process, before the first call of ``kernel``, where neither this process nor
    numba's cache on disk has it compiled."""
    if what not in _said and not is_compiled(kernel):
        _said.add(what)
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
    or of one that it imports from: its functions are called, and its constants built in."""
    kept_in = getattr(getattr(kernel, "stats", None), "cache_path", None)
    if kept_in is not None:  # else it is not kept, or not compiled (NUMBA_DISABLE_JIT)
        _forget_outdated(Path(kernel.py_func.__code__.co_filename).parent, Path(kept_in))


@cache
def _forget_outdated(folder: Path, kept_in: Path) -> None:
    newest: dict[str, int] = {}
    with suppress(OSError):  # where nothing can be written, nothing was updated either
        for index in kept_in.glob("*.nbi"):
            name = index.name.partition(".")[0]
            if name not in newest:
                newest[name] = max((path.stat().st_mtime_ns for path in _behind(folder / f"{name}.py")), default=0)
            if index.stat().st_mtime_ns < newest[name]:
                index.unlink(missing_ok=True)


def _behind(path: Path) -> set[Path]:
    """A file, and those that it imports from, by way of others too."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        source = waiting.pop()
        if source not in found and source.is_file():
            found.add(source)
            waiting += _imported(source)
    return found


@cache
def _imported(source: Path) -> list[Path]:
    """The files of its package, and of this one, that a file imports from (``from .name import …``)."""
    found = []
    for dots, name in _IMPORT.findall(source.read_bytes()):
        names = name.decode().split(".")
        if dots:
            found.append(source.parents[len(dots) - 1].joinpath(*names).with_suffix(".py"))
        elif names[0] == __name__.partition(".")[0]:
            found.append(_PACKAGE.joinpath(*names[1:]).with_suffix(".py"))
    return found
