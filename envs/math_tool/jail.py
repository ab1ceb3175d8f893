"""The other interpreter, for Linux: a warm CPython with sympy and fractions, each call in a jail of its own.

``jail_worker.py`` is the keeper, a child process that forks a prisoner a call; a notebook is a log of snippets, and a
call replays it (as the published evaluation of multi-turn preference learning does), so that no prisoner outlives its
call and a snapshot is the log itself. One keeper a process serves all its sessions.

Slower than monty (a fork and a replay a call) and in need of namespaces, landlock and seccomp; without any of them it
says so and does not run. What differs from monty: everything that CPython has; ``id`` differs from call to call, and
addresses in what is printed are written as ``0x0``.
"""

import atexit
import json
import os
import re
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from .child import Child, ChildError
from .interpreter import (
    FLOOD,
    LONGEST_CODE,
    InterpreterError,
    Limits,
    Printed,
    Result,
    Snapshot,
    SnapshotError,
    beyond,
    error_name,
    opened,
    sealed,
    showing_last_value,
    too_long,
    with_line_feeds,
)

_VALUE: Final = "#value"  # a comment that asks the keeper's prisoner to show ``_``
_ADDRESS: Final = re.compile(r"0x[0-9a-f]{8,16}")


class JailInterpreter:
    """CPython in a jail behind the protocol. Raises ``InterpreterError`` where the jail cannot be built."""

    name = "jail"
    description = (
        "CPython without files, network or processes. It has sympy, fractions, statistics, math, decimal, itertools, "
        "functools, collections, random, re and json; it has no numpy, and input and files fail"
    )

    def __init__(self, limits: Limits = Limits()) -> None:  # noqa: B008 (immutable)
        self.limits = limits
        try:
            _keeper().start()
        except (ChildError, OSError) as error:
            raise InterpreterError(
                f"the jail cannot be built here ({error}); it needs Linux on x86-64 with user namespaces, landlock and "
                "seccomp, and sympy: use interpreter='monty'"
            ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        return JailInterpreter, (self.limits,)

    def open(self) -> "JailSession":
        return JailSession(self.limits, ())

    def restore(self, snapshot: Snapshot) -> "JailSession":
        try:
            log = json.loads(opened(snapshot, self.name))
        except ValueError as error:
            raise SnapshotError(str(error)) from error
        return JailSession(self.limits, tuple(log))


class JailSession:
    """A log of snippets."""

    def __init__(self, limits: Limits, log: tuple[str, ...]) -> None:
        self.limits = limits
        self._log = log

    def run(self, code: str) -> Result:
        if len(code) > LONGEST_CODE:
            return too_long(code)
        code = with_line_feeds(code)
        reply = self._reply((*self._log, code))
        limits = self.limits
        if "limit" in reply:
            return beyond(reply["limit"], limits)
        if reply["characters"] > FLOOD:
            return beyond("output", limits)
        printed = Printed(limits.output)
        printed("", reply["head"])
        printed("", reply["tail"])
        printed.characters = max(reply["characters"], printed.characters)
        self._log = (*self._log, code)
        return Result(_ADDRESS.sub("0x0", printed.shown()), error_name(reply["error"]))

    def snapshot(self) -> Snapshot:
        return sealed(JailInterpreter.name, json.dumps(self._log).encode())

    def close(self) -> None:
        pass

    def __enter__(self) -> "JailSession":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _reply(self, snippets: tuple[str, ...]) -> dict[str, Any]:
        limits = self.limits
        request = {
            "shown": snippets,
            "run": [showing_last_value(code, _VALUE) for code in snippets],
            "seconds": limits.seconds,
            "megabytes": limits.megabytes,
        }
        reply = _keeper().ask(json.dumps(request).encode(), 10 + 4 * limits.seconds * len(snippets))
        return {"limit": "crash"} if reply is None else json.loads(reply)


_keepers: dict[int, Child] = {}  # process id -> keeper: a forked child starts its own


def _keeper() -> Child:
    keeper = _keepers.get(os.getpid())
    if keeper is None:
        script = Path(__file__).with_name("jail_worker.py")
        # Not -I, which would have the seed of hashes ignored; -s and -P keep the user's and the working folder out.
        command = [sys.executable, "-s", "-P", str(script)]
        keeper = _keepers.setdefault(os.getpid(), Child(command, {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}))
    return keeper


@atexit.register
def close_keeper() -> None:
    """End this process's keeper; the next call starts another."""
    keeper = _keepers.pop(os.getpid(), None)
    if keeper is not None:
        keeper.close()
