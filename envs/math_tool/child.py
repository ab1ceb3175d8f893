"""A child process that answers lines with lines, and is killed when it is late.

The child writes ``ready`` when it has started, or another line that says why it cannot. It is started when first asked,
and again after it was killed or died; it ends when its input does, so that it does not outlive this process.

What it does not do: speak to a child from two threads at once (they take turns).
"""

import contextlib
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Final

START_SECONDS: Final = 120.0  # for importing sympy on a busy machine
LONGEST_REPLY: Final = 1 << 20  # bytes


class ChildError(RuntimeError):
    """The child did not start; the message is the line that it wrote in the place of ``ready``."""


class Child:
    """The process that ``command`` starts, with ``environment`` as its variables."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command, self._environment = list(command), dict(environment)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._replies: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def ask(self, line: bytes, seconds: float) -> bytes | None:
        """The reply to ``line`` (both without a newline inside), or ``None`` where the child was late or died; then it
        is gone. Raises ``ChildError`` where it cannot be started."""
        with self._lock:
            process = self._process or self._start()
            try:
                assert process.stdin is not None
                process.stdin.write(line + b"\n")
                process.stdin.flush()
                reply = self._reply(seconds)
            except OSError:
                reply = None
            if reply is None:
                self._end()
            return reply

    def start(self) -> None:
        """Start the child if it is not running; raises ``ChildError`` where it cannot be."""
        with self._lock:
            if self._process is None:
                self._start()

    def close(self) -> None:
        """Kill the child; twice does nothing."""
        with self._lock:
            self._end()

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        return None if self._process is None else self._process.pid

    def _start(self) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._environment,
        )
        self._process, self._replies = process, queue.SimpleQueue()
        threading.Thread(target=_forward, args=(process.stdout, self._replies), daemon=True).start()
        said = self._reply(START_SECONDS)
        if said != b"ready":
            self._end()
            raise ChildError((said or b"it ended or was late").decode("utf-8", "replace"))
        return process

    def _reply(self, seconds: float) -> bytes | None:
        try:
            return self._replies.get(timeout=seconds).rstrip(b"\n") or None
        except queue.Empty:
            return None

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()


def _forward(pipe: IO[bytes], replies: "queue.SimpleQueue[bytes]") -> None:
    """The lines of ``pipe`` into ``replies`` until it ends, then an empty one."""
    with pipe:
        for line in iter(lambda: pipe.readline(LONGEST_REPLY), b""):
            replies.put(line)
    replies.put(b"")
