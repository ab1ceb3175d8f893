"""What a command prints, and where: results, notes, progress bars, errors with their exit codes.

Results go to the standard output, progress and errors to the standard error. Bad input (a wrong value, a missing or
broken file, an unknown name) is one line and exit code 2, wrong usage the few lines of Typer's and the same code; work
that failed on the way is one line and code 1; Ctrl-C code 130. ``BRANCHWISE_TRACEBACK=1`` shows the traceback instead
of the line.
"""

import functools
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec

import typer

if TYPE_CHECKING:
    from rich.console import Console

P = ParamSpec("P")
BAD_INPUT = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
STOPPED = "stopped by Ctrl-C"


def reported(command: Callable[P, None]) -> Callable[P, None]:
    """Turn a user's error into one line and an exit code; anything else is a bug and keeps its traceback."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt as stop:
            show(f"branchwise: {stop.args[0] if stop.args else STOPPED}", err=True)
            raise typer.Exit(130) from None
        except BrokenPipeError:
            raise
        except Exception as error:
            code = exit_code(error)
            if code is None or os.environ.get("BRANCHWISE_TRACEBACK", "0") not in ("", "0"):
                raise
            named = isinstance(error, OSError) and error.filename is None and error.strerror
            show(f"branchwise: {' '.join(str(named or error).split())}", err=True)
            raise typer.Exit(code) from None

    return wrapped


@contextmanager
def resumable(how: str) -> Iterator[None]:
    """Says, where the user stops, what is kept and ``how`` to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{STOPPED}; {how}") from None


def exit_code(error: Exception) -> int | None:
    """2 for bad input, 1 for work that failed on the way, None for what is neither (a bug)."""
    if isinstance(error, (ValueError, *BAD_INPUT)) or "NUMBA_DISABLE_JIT" in str(error):
        return 2
    own = type(error).__module__.partition(".")[0] == __package__.partition(".")[0]
    return 1 if own or isinstance(error, OSError) else None


def show(line: str, err: bool = False) -> None:
    """Print text that may hold what strangers wrote: names, actions, reasons."""
    from ..envs.terminal import printable, wrapped

    stream, shown = sys.stderr if err else sys.stdout, printable(line)
    typer.echo(wrapped(shown, columns()) if stream.isatty() else shown, err=err)  # in a file a line is a line


def columns() -> int:
    """The width of the terminal, as ``COLUMNS`` or the system says; a floor below which nothing can be read."""
    from ..envs.terminal import NARROWEST

    return max(NARROWEST, shutil.get_terminal_size().columns)


def note(line: str) -> None:
    """Print on the standard error."""
    show(line, err=True)


def console() -> "Console":
    """The standard output; where it is no terminal, as wide as ``COLUMNS`` says, or enough for a table."""
    from rich.console import Console

    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=columns() if known else 140)


def error_console() -> "Console":
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def bar(name: str, total: float) -> Iterator[Callable[[float, str], None]]:
    """A progress bar on the standard error; plain lines where that is no terminal."""
    from ..training.display import ProgressDisplay

    with ProgressDisplay(error_console()) as display:
        display.started(name)
        yield lambda done, about: display.moved(name, done, total, about)


def print_json(data: Sequence[Mapping[str, Any]]) -> None:
    import json

    typer.echo(json.dumps(data, indent=1))  # all but ASCII escaped: nothing in it can move a cursor
