"""Python for an agent: run a snippet in a notebook-like session, keep the session as bytes, go back to it.

One protocol for all backends (:class:`Interpreter`: ``open``, ``restore``; :class:`Session`: ``run``, ``snapshot``),
and the default backend, pydantic-monty: a Python interpreter in Rust, in worker processes, without files, network,
environment, clock or fork. ``jail.py`` holds the other backend; ``notebook.py`` turns logs of snippets into results.

Same log, same output, in every process. What that takes:

- Every snippet runs in a session restored from the dump before it. A session that goes on and one that was restored
  give out different ``id``\\ s; nobody can tell which of two restored ones they have.
- The clock stands still, ``sleep`` returns at once, ``random`` starts from one seed, hashes are monty's own.
- A snippet that runs out of time or memory, prints a flood or makes the notebook too large is undone as a whole: its
  effects and its output, of which nobody could say how far they had come, are dropped. Its message has no figures but
  those of the limits.

Memory and depth of calls are counted by the interpreter, the same everywhere. Time is not: monty counts seconds, not
instructions. A snippet whose worker was kept waiting by other processes is tried again, so that only snippets that need
very nearly ``seconds`` of work can end differently on different machines.

Results are text. Values are never turned into objects of this process: a thousand lists of a thousand lists of one list
are a kilobyte there and would be gigabytes here. The last expression of a snippet is shown as a notebook shows it, by
asking for its ``repr`` inside.
"""

import ast
import atexit
import datetime
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import threading
import time
import warnings
from dataclasses import dataclass
from functools import lru_cache
from keyword import iskeyword
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol

from ..characters import within_planes
from ..json_files import stamp

LONGEST_CODE: Final = 8_000  # characters; a longer snippet is refused
FLOOD: Final = 1_000_000  # characters printed by one snippet
_LARGEST_SNAPSHOT: Final = 4 << 20  # bytes
_ATTEMPTS: Final = 2  # of a snippet whose worker got too little of the processor
_FRAMES: Final = 4  # shown of a traceback
# How a snippet ends that ends in an expression. No names are looked up, as the snippet may have bound them anew, and
# the value of the whole is a string: other values would be built as objects of this process.
SHOWN_VALUE: Final = 'f"{_!r}"'


@dataclass(frozen=True, slots=True)
class Limits:
    """What a snippet may use: ``seconds`` of work, ``megabytes`` of heap (2^20 bytes) for the whole notebook, nested
    calls, and ``output`` characters shown (head and tail of what was printed)."""

    seconds: float = 1.0
    megabytes: int = 32
    recursion: int = 200
    output: int = 1_000

    def __post_init__(self) -> None:
        for name, least, most in (
            ("seconds", 0.01, 3_600),
            ("megabytes", 1, 4_096),
            ("recursion", 10, 1_000),
            ("output", 40, 50_000),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                raise ValueError(f"limit {name}={value!r}; expected a number from {least} to {most:,}")


class Result(NamedTuple):
    """What a snippet gave: ``output`` as shown, at most ``Limits.output`` characters and a note; ``error``, the name of
    the exception (empty if none); ``kept``, whether its effects stay in the notebook (an exception's do, a limit's do
    not)."""

    output: str
    error: str = ""
    kept: bool = True


class Snapshot(NamedTuple):
    """A session as bytes, with their BLAKE2 digest. Not signed: restore only what your own programs took."""

    backend: str
    content: bytes
    digest: bytes


class SnapshotError(ValueError):
    """A snapshot that is not whole, or not of this backend."""


class InterpreterError(Exception):
    """The interpreter itself failed or is not available here; the message says why and what to do."""


class Session(Protocol):
    """A notebook. Its context manager closes it."""

    def run(self, code: str) -> Result:
        """Run ``code`` after what was run before. Never raises because of what the code is or does."""
        ...

    def snapshot(self) -> Snapshot:
        """The session as it stands, as often as wanted."""
        ...

    def close(self) -> None:
        """Free what the session holds; twice does nothing."""
        ...

    def __enter__(self) -> "Session": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Interpreter(Protocol):
    """A way to run Python. ``description`` is what a prompt says of it; picklable."""

    name: str
    description: str
    limits: Limits

    def open(self) -> Session:
        """An empty notebook."""
        ...

    def restore(self, snapshot: Snapshot) -> Session:
        """The notebook that ``snapshot`` was taken of; raises ``SnapshotError`` where its bytes were changed."""
        ...


class MontyInterpreter:
    """pydantic-monty behind the protocol. A pool of at most two workers serves all sessions of a process that have the
    same limit of time. Raises ``InterpreterError`` where monty's program is not installed or does not work."""

    name = "monty"
    description = (
        "a small Python without files, network or packages. It has math, decimal, itertools, functools, collections, "
        "random, re, json and datetime; it has no fractions, statistics, numpy, sympy, input, del, yield or class "
        "inheritance"
    )

    def __init__(self, limits: Limits = Limits()) -> None:
        self.limits = limits
        _configured(limits.seconds)
        _probe()

    def __reduce__(self) -> tuple[Any, ...]:
        return MontyInterpreter, (self.limits,)

    def open(self) -> "MontySession":
        return MontySession(self.limits, None)

    def restore(self, snapshot: Snapshot) -> "MontySession":
        return MontySession(self.limits, opened(snapshot, self.name))


class MontySession:
    """A dump, and what to do with it. No worker is held between calls, so a session cannot leak one."""

    def __init__(self, limits: Limits, dump: bytes | None) -> None:
        self.limits = limits
        self._dump = dump

    def run(self, code: str) -> Result:
        if len(code) > LONGEST_CODE:
            return too_long(code)
        code = with_line_feeds(code)
        for attempt in range(_ATTEMPTS):
            result, dump, waited = self._attempt(code)
            if not waited or attempt == _ATTEMPTS - 1:
                break
        if dump is not None:
            self._dump = dump
        return result

    def snapshot(self) -> Snapshot:
        if self._dump is None:
            self.run("None")
        assert self._dump is not None
        return sealed(MontyInterpreter.name, self._dump)

    def close(self) -> None:
        pass

    def __enter__(self) -> "MontySession":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _attempt(self, code: str) -> tuple[Result, bytes | None, bool]:
        """The result, the dump after it (``None`` where the snippet is undone), and whether the worker was kept
        waiting."""
        import pydantic_monty

        limits, printed = self.limits, Printed(self.limits.output)
        source = showing_last_value(code)
        clock, started = None, 0.0
        try:
            with _checkout(limits) as session:
                if self._dump is not None:
                    session.load_session(self._dump)
                clock = _processor_clock(session.worker_pid)
                started, error = _read(clock), ""
                try:
                    value = session.feed_run(source, print_callback=printed)
                    if type(value) is str and value != "None":
                        printed("stdout", f"{value}\n")
                except (pydantic_monty.MontyRuntimeError, pydantic_monty.MontySyntaxError) as failure:
                    error, _, message = failure.display("type-msg").partition(": ")
                    limit = next((name for says, name in _SAYS.items() if message.startswith(says)), "")
                    if printed.characters > FLOOD:
                        return beyond("output", limits), None, False
                    if limit:
                        waited = clock is not None and _read(clock) - started < 0.9 * limits.seconds
                        return beyond(limit, limits), None, waited and limit == "seconds"
                    printed("stderr", _traceback(failure, code, source))
                if printed.characters > FLOOD:
                    return beyond("output", limits), None, False
                dump = session.dump()
            if len(dump) > _LARGEST_SNAPSHOT or (len(dump) > 1 << 16 and not _loads(dump, limits)):
                return beyond("size", limits), None, False
            return Result(printed.shown(), error_name(error)), dump, False
        except (pydantic_monty.MontyError, ValueError, RuntimeError, TimeoutError) as failure:
            timed_out = getattr(failure, "timed_out", False)
            # A worker that stood still had no time to work; its successor may.
            waited = timed_out and _read(clock) - started < 0.9 * limits.seconds
            return beyond("seconds" if timed_out else "crash", limits), None, waited


# ---- what both backends share ------------------------------------------------------------------------------------


def beyond(what: str, limits: Limits) -> Result:
    """The result of a snippet that is undone because it went beyond a limit."""
    kind, text = {
        "seconds": ("TimeoutError", f"more than {limits.seconds:g} seconds"),
        "megabytes": ("MemoryError", f"more than {limits.megabytes} MB"),
        "output": ("OutputError", f"more than {FLOOD:,} characters printed"),
        "size": ("MemoryError", "the variables take too much room"),
        "crash": ("InterpreterError", "the interpreter broke down"),
    }[what]
    return Result(f"{kind}: {text}; nothing of this code was kept", kind, kept=False)


def too_long(code: str) -> Result:
    """The result of a snippet of more than ``LONGEST_CODE`` characters."""
    return Result(
        f"SyntaxError: {len(code):,} characters of code; at most {LONGEST_CODE:,} are run", "SyntaxError", kept=False
    )


def sealed(backend: str, content: bytes) -> Snapshot:
    """A snapshot of ``content``."""
    return Snapshot(backend, content, hashlib.blake2b(content, digest_size=16).digest())


def opened(snapshot: Snapshot, backend: str) -> bytes:
    """The content of a snapshot of ``backend``; ``SnapshotError`` where it is not what was sealed."""
    try:
        name, content, digest = snapshot
        whole = isinstance(content, bytes) and hashlib.blake2b(content, digest_size=16).digest() == digest
    except (TypeError, ValueError):
        name, whole = "?", False
    if not whole or name != backend:
        raise SnapshotError(
            f"a snapshot of {name!r} whose bytes are {'whole' if whole else 'damaged'}; expected a whole one of "
            f"{backend!r}: replay the log of snippets instead"
        )
    return content


class Printed:
    """Collects what is printed, called with ``(stream, text)``: the first and the last ``room`` characters, and how
    many there were. Memory stays within a few times ``room`` however much comes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.characters = 0
        self._head = ""
        self._tail = ""

    def __call__(self, stream: str, text: str) -> None:
        self.characters += len(text)
        missing = self.room - len(self._head)
        if missing > 0:
            self._head += text[:missing]
            text = text[missing:]
        if text:
            self._tail = (self._tail + text)[-self.room :]

    def shown(self) -> str:
        """What was printed, cleaned of signs that no file takes; of more than ``room`` characters the first and the
        last, with a note of how many are left out between them."""
        if self.characters <= self.room:
            return clean(self._head).rstrip("\n")
        half = self.room // 2
        tail = (self._head + self._tail)[-half:].rstrip("\n")
        left_out = self.characters - 2 * half
        return f"{clean(self._head[:half])}\n… {left_out:,} characters left out …\n{clean(tail)}"


def with_line_feeds(code: str) -> str:
    """``code`` with a line feed for each line end: Python counts a carriage return as one too, alone and before a line
    feed, and whoever cuts code at the parser's line numbers has to count as it does.

    >>> with_line_feeds("a = 1\\r\\na\\r")
    'a = 1\\na\\n'
    """
    return code.replace("\r\n", "\n").replace("\r", "\n") if "\r" in code else code


def clean(text: str) -> str:
    """``text`` with ``\\ufffd`` for what is not printable (control signs, surrogates, private use) but tab and newline,
    and with fences of three backticks broken, so that no output ends the block that it stands in."""
    if "```" in text:
        text = text.replace("```", "'''")
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(c if c in "\n\t" or c.isprintable() else "\ufffd" for c in within_planes(text))


def error_name(text: str) -> str:
    """``text``, which code may have chosen, as the name of an exception: printable, on one line, not long.

    >>> error_name("ValueError"), error_name("E\\ud800\\n") == "E\ufffd\ufffd"
    ('ValueError', True)
    """
    return clean(text[:100]).replace("\n", "\ufffd").replace("\t", "\ufffd")


@lru_cache(maxsize=1024)  # replays and siblings in a search ask for the same snippets
def showing_last_value(code: str, shown: str = SHOWN_VALUE) -> str:
    """``code``, changed to keep the value of its last expression in ``_`` and to end in ``shown``; where it ends in
    another statement, or does not parse, only the line ``None`` is added, so that no value is ever that of the whole.
    Line numbers stay.

    >>> showing_last_value("a = 2\\na + 1  # sum", "print(_)")
    'a = 2\\n_ = (a + 1)\\nprint(_)'
    """
    code = with_line_feeds(code)
    if code[:1] in " \t\n":
        code = textwrap.dedent(code)
    cut = _cut_by_line(code)
    before, last = _cut_by_parsing(code) if cut is None else cut
    return f"{before}_ = ({last})\n{shown}" if last else f"{code}\nNone"


def _cut_by_parsing(code: str) -> tuple[str, str]:
    """What stands before the last expression, and it, without a comment; it is empty where ``code`` ends otherwise."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return code, ""
    if not body or not isinstance(body[-1], ast.Expr):
        return code, ""
    last = body[-1]
    lines = code.encode().split(b"\n")
    before = b"\n".join([*lines[: last.lineno - 1], lines[last.lineno - 1][: last.col_offset]])
    return before.decode(), ast.get_source_segment(code, last) or ""


# Parsing makes an object of every sign, 15 to 80 µs a snippet; the last line tells in 5 how nearly all of them end.
_STRING_OR_COMMENT: Final = re.compile(r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|#[^\n]*""")
_UNSURE: Final = re.compile(r"""['"\\@\f]|:\s*\Z""")  # of what is left: what the next line may belong to
_NAME: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_]\w*[ ]*=[^=]", re.ASCII)
_LONG: Final = 2_000  # characters; the pattern takes quadratic time on a line of escaped quotes


def _cut_by_line(code: str) -> tuple[str, str] | None:
    """The same, where the last line stands alone and is of a common kind, else ``None``."""
    if len(code) > _LONG or "'''" in code or '"""' in code:
        return None
    head, newline, last = code.rpartition("\n")
    if ";" in last:
        return None
    rest = _STRING_OR_COMMENT.sub("", head)
    if _UNSURE.search(rest) or any(rest.count(left) != rest.count(right) for left, right in ("()", "[]", "{}")):
        return None
    if _ASSIGNMENT.match(last):
        return code, ""
    if not last.isascii() or last[:1].isspace() or "#" in last or "\\" in last:
        return None
    if not _NAME.fullmatch(last) or iskeyword(last):
        try:
            compile(last, "<last line>", "eval", ast.PyCF_ONLY_AST)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
    return head + newline, last.rstrip()


# ---- monty's errors and workers ----------------------------------------------------------------------------------

# How monty's own messages begin, and the limit that each is about: the third is of one allocation that is larger than
# all that is allowed. A snippet that raises such a message itself is undone too, which harms nobody else.
_SAYS: Final = {
    "feed time limit exceeded": "seconds",
    "memory limit exceeded": "megabytes",
    "the worker exceeded its memory limit": "megabytes",
    "the worker exceeded": "crash",
}
_STANDSTILL_SECONDS: Final = 5.0  # beyond a snippet's own; then a worker that does not answer is killed
_PROBE_SECONDS: Final = 30.0  # it takes milliseconds, on a machine that is not busy
_lock = threading.Lock()
# (process id, seconds a snippet) -> pool; of a parent too, whose pool must not be dropped here
_pools: dict[tuple[int, float], Any] = {}
_started: set[int] = set()  # process ids in which monty has run; a fork inherits those of its parents


def _configured(seconds: float) -> Any:
    """A pool that was not started, for snippets of ``seconds``."""
    import pydantic_monty

    try:
        given = os.environ.get("MONTY_BIN")
        if given and not os.access(given, os.X_OK):
            raise FileNotFoundError(f"MONTY_BIN={given!r} is no program")
        return pydantic_monty.Monty(
            min_processes=1,
            max_processes=2,
            max_checkouts_per_worker=100_000,
            request_timeout=seconds + _STANDSTILL_SECONDS,
        )
    except FileNotFoundError as error:
        raise InterpreterError(
            f"the program of pydantic-monty is not installed here ({error}): pip install pydantic-monty, or put the "
            "path of 'monty' into the variable MONTY_BIN, or use interpreter='jail'"
        ) from error


def _probe() -> None:
    """Raise ``InterpreterError`` unless monty's program runs. It is run by itself: a worker that starts and cannot work
    would make every snippet read like a fault of its own, and a pool's threads would not survive a later fork."""
    program = os.environ.get("MONTY_BIN") or shutil.which("monty", path=sysconfig.get_path("scripts"))
    if program is not None:  # else pydantic_monty has found one elsewhere
        _run_probe(program, stamp(program))


@lru_cache(maxsize=8)
def _run_probe(program: str, stamped: object) -> None:
    try:
        done = subprocess.run(
            [program, "-c", "print(6 * 7)"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_SECONDS
        )
        if done.stdout.startswith(b"42"):
            return
        found = f"it printed {done.stdout[:80]!r}, exit status {done.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        found = str(error)
    raise InterpreterError(
        f"the program of pydantic-monty does not work: {program!r} was to print 42 ({found}): correct or unset the "
        "variable MONTY_BIN, or pip install --force-reinstall pydantic-monty-runtime, or use interpreter='jail'"
    )


def _pool(seconds: float) -> Any:
    process = os.getpid()
    pool = _pools.get((process, seconds))
    if pool is not None:
        return pool
    with _lock:
        if (process, seconds) not in _pools:
            if _started - {process}:
                raise InterpreterError(
                    "this process was forked from one that had already run Python in monty, whose threads a fork does "
                    "not have: start processes by 'spawn' or 'forkserver', or fork before the first call"
                )
            _started.add(process)
            if importlib.util.find_spec("opentelemetry") is None:
                # monty asks for it in every call, and looking through all of sys.path for what is not there takes a
                # third of the call; these entries say at once that there is none.
                sys.modules["opentelemetry"] = sys.modules["opentelemetry.context"] = None  # type: ignore[assignment]
            _pools[process, seconds] = _configured(seconds).__enter__()
        return _pools[process, seconds]


@atexit.register
def close_workers() -> None:
    """End this process's workers; the next call starts others."""
    with _lock:
        for process, seconds in list(_pools):
            if process == os.getpid():
                _pools.pop((process, seconds)).__exit__(None, None, None)


_STANDSTILL: Final = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
_POLICY: Final = {"sleep": "zero", "random_start": {"seed": 0}, "datetime": _STANDSTILL}


def _checkout(limits: Limits) -> Any:
    return _pool(limits.seconds).checkout(
        limits={
            "max_feed_duration_secs": limits.seconds,
            "max_memory": limits.megabytes << 20,
            "max_recursion_depth": limits.recursion,
        },
        os_policy=_POLICY,
    )


def _loads(dump: bytes, limits: Limits) -> bool:
    """Whether a large dump can be restored; deep nesting might break a worker."""
    try:
        with _checkout(limits) as session:
            session.load_session(dump)
            session.dump()
    except Exception:
        return False
    return True


def _traceback(failure: Any, code: str, source: str) -> str:
    """The traceback in CPython's form, without markers under the lines and with the agent's own lines."""
    lines = []
    frames = failure.traceback()
    ours = frames[-1].filename if frames else ""
    written, changed = code.split("\n"), source.split("\n")
    for frame in frames[-_FRAMES:]:
        text = frame.source_line or ""
        if frame.filename == ours and 0 < frame.line <= len(changed):
            text = written[min(frame.line, len(written)) - 1]
        number = frame.filename.removeprefix("<python-input-").removesuffix(">")
        place = f"call {int(number) + 1}" if number.isdecimal() else frame.filename
        where = f", in {frame.function_name}" if frame.function_name else ""
        lines.append(f'  File "<{place}>", line {frame.line}{where}\n    {text.strip()[:200]}\n')
    head = "Traceback (most recent call last):\n" if lines else ""
    message = failure.display("type-msg")
    return f"{head}{''.join(lines)}{message if len(message) <= 1000 else message[:1000] + ' …'}\n"


def _processor_clock(pid: int | None) -> int | None:
    """Linux's clock of the processor time of another process (``clock_getcpuclockid(3)``)."""
    return (~pid << 3) | 2 if pid and sys.platform == "linux" else None


def _read(clock: int | None) -> float:
    try:
        return 0.0 if clock is None else time.clock_gettime(clock)
    except OSError:
        return 0.0  # the worker has ended
