"""The keeper of the jail: a warm CPython that forks one prisoner a call, and never runs an agent's code itself.

Run by path; it imports nothing of the package. A line of JSON in (``shown``, ``run``, ``seconds``, ``megabytes``), a
line of JSON out. What stands between a prisoner and the machine, each layer enough for most probes:

- user, mount, network, IPC and UTS namespaces of the keeper; a PID namespace of each prisoner, who is its process 1, so
  that its death is the death of all in it; no capabilities;
- landlock: no path can be opened, created or changed, no port bound or reached;
- seccomp: a list of the system calls that arithmetic needs; all others (open, socket, fork, execve, ptrace …) fail;
- limits: address space, processor time, no file may grow, no descriptor be opened, no core;
- the keeper's watch: a prisoner is killed when a program has had its seconds of the processor, or three times as long
  on the wall, whatever the program does to its own clocks.

The keeper hands the programs over one by one, each with a word drawn for it, and takes a report only with that word, in
one bounded line of the expected types; at the end the prisoner must repeat one word more. So a program that writes a
report of its own and ends the process, or leaves one for a later program, is undone. One that plays the rest of the
prisoner's part can lie about its own notebook, as one that redefines ``print`` can, and about nothing else.

Any layer that cannot be put up stops the keeper before it says that it is ready.

x86-64 only: the numbers of system calls are its. What it does not do: hide the time (``datetime.now`` of the C library)
or addresses of objects; both are patched for honest code alone.
"""

import contextlib
import ctypes
import json
import linecache
import os
import platform
import resource
import select
import signal
import struct
import sys
import time
import traceback

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
SECCOMP_MODE_FILTER, CAPABILITY_VERSION, CAPSET = 2, 0x20080522, 126
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF, LANDLOCK_VERSION = 444, 446, 1
SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL = 0x7FFF0000, 0x00050000, 0x80000000
AUDIT_ARCH_X86_64 = 0xC000003E
EPERM = 1

# read write close fstat lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn sched_yield mremap
# madvise setitimer getpid exit gettimeofday getrusage times sigaltstack gettid time futex clock_gettime clock_getres
# exit_group getrandom rseq
ALLOWED = (
    *(0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 28, 38, 39, 60, 96, 98, 100, 131, 186, 201, 202, 228, 229, 231),
    *(318, 334),
)
ROOM = 64 << 10  # characters kept of head and tail each, in the prisoner
LARGEST = 1 << 20  # bytes of a prisoner's message
GRACE = 0.05  # seconds of the processor for reading a program and reporting
STANDSTILL = 1704067200.0  # the first second of 2024
MODULES = (
    "bisect calendar cmath collections copy dataclasses datetime decimal enum fractions functools heapq itertools json "
    "math mpmath numbers operator random re statistics string sympy textwrap time typing"
)
WARM = """
from sympy import *
x, y = symbols("x y")
solve([x + y - 3, x - y - 1], [x, y]); solve(x**2 - 2, x); solve(x**3 - x - 1, x); solveset(sin(x) - 1, x, S.Reals)
integrate(x * exp(x) + 1 / (x**2 + 1), x); diff(sin(x) * x**2, x); limit(sin(x) / x, x, 0); series(exp(x), x, 0, 4)
simplify((x**2 - 1) / (x - 1)); factor(x**4 - 1); expand((x + y)**3); nsimplify(0.333333, rational=True)
Matrix([[1, 2], [3, 4]]).inv(); Matrix([[2, 1], [1, 2]]).eigenvals(); summation(x, (x, 1, 10)); nsolve(cos(x) - x, 1)
factorint(360); primerange(2, 30); binomial(10, 3); Rational(1, 3) + sqrt(8); N(pi, 30); latex(x**2 / 2); gcd(12, 18)
diophantine(2 * x + 3 * y - 5); solve_univariate_inequality(x**2 < 4, x); rsolve; dsolve; apart(1 / (x**2 - 1))
str(x**2 + sqrt(2) / y); repr(x); pretty(x / y); parse_expr("2*x + 1"); Point(0, 0).distance(Point(3, 4))
"""


def check(value: int, layer: str) -> int:
    """``value`` of a system call, or an ``OSError`` that names the layer."""
    if value < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{layer}: {os.strerror(error)}")
    return value


def confine() -> None:
    """Go on as process 1 of namespaces of our own, as nobody; the process that started waits outside, and when it is
    killed the kernel kills this one, and with it whoever is imprisoned."""
    user, group = os.getuid(), os.getgid()
    flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
    check(_libc.unshare(flags), "namespaces")
    for name, content in (
        ("setgroups", "deny"),
        ("uid_map", f"65534 {user} 1"),
        ("gid_map", f"65534 {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(content)
    keeper = os.fork()
    if keeper:
        os.close(0)
        os.close(1)
        os.waitpid(keeper, 0)
        os._exit(0)
    check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "death signal")
    check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def landlock() -> None:
    """A ruleset without a rule: what is not open now can never be opened."""
    version = check(_libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_VERSION), "landlock")
    paths = (1 << (13, 13, 14, 15, 15, 16)[min(version, 5)]) - 1
    ports = 3 if version >= 4 else 0
    scopes = 3 if version >= 6 else 0
    rules = struct.pack("QQQ", paths, ports, scopes)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = check(_libc.syscall(LANDLOCK_CREATE_RULESET, rules, len(rules), 0), "landlock")
    check(_libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0), "landlock")
    os.close(ruleset)


def seccomp_program() -> bytes:
    """The filter as classic BPF: another architecture dies, a listed call passes, any other fails with EPERM."""

    def line(code: int, yes: int, no: int, value: int) -> bytes:
        return struct.pack("HBBI", code, yes, no, value)

    load, equal, give = 0x20, 0x15, 0x06
    program = [line(load, 0, 0, 4), line(equal, 1, 0, AUDIT_ARCH_X86_64), line(give, 0, 0, SECCOMP_RET_KILL)]
    program.append(line(load, 0, 0, 0))
    for number in ALLOWED:
        program += [line(equal, 0, 1, number), line(give, 0, 0, SECCOMP_RET_ALLOW)]
    program.append(line(give, 0, 0, SECCOMP_RET_ERRNO | EPERM))
    return b"".join(program)


PROGRAM = seccomp_program()


def seccomp() -> None:
    code = ctypes.create_string_buffer(PROGRAM)
    header = struct.pack("HxxxxxxP", len(PROGRAM) // 8, ctypes.addressof(code))
    check(_libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0), "seccomp")


def limit(seconds: float, memory: int, calls: int) -> None:
    """Limits of the prisoner. Processor time is of all programs, in whole seconds; the keeper watches each exactly."""
    total = int(seconds * calls) + 1
    for kind, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, total),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(kind, (most, most))


class Writer:
    """The prisoner's standard output and error: head, tail, and how many characters there were."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.head, self.tail, self.characters = "", "", 0

    def write(self, text: str) -> int:
        self.characters += len(text)
        missing = ROOM - len(self.head)
        self.head += text[:missing]
        self.tail = (self.tail + text[missing:])[-ROOM:] if len(text) > missing else self.tail
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


def stand_still() -> None:
    """Clock and luck of honest code."""
    import datetime
    import random

    class Standstill(datetime.datetime):
        @classmethod
        def now(cls, tz=None):  # type: ignore[no-untyped-def,override]
            return datetime.datetime.fromtimestamp(STANDSTILL, tz or datetime.UTC).replace(tzinfo=tz)

        @classmethod
        def utcnow(cls):  # type: ignore[no-untyped-def,override]
            return cls.now()

    Standstill.__name__ = Standstill.__qualname__ = "datetime"
    Standstill.__module__ = "datetime"
    random.seed(0)
    for name in ("time", "monotonic", "perf_counter"):
        setattr(time, name, lambda: STANDSTILL)
        setattr(time, f"{name}_ns", lambda: int(STANDSTILL) * 10**9)
    time.sleep = lambda seconds: None  # type: ignore[assignment]
    datetime.datetime = Standstill  # type: ignore[misc]


def serve_sentence(seconds: float, programs: int, memory: int, questions: int, out: int) -> None:
    """What the prisoner does: run each program that comes, report, and repeat the last word; the end."""
    for number in range(256):
        if number not in (questions, out):
            with contextlib.suppress(OSError):
                os.close(number)
    namespace: dict = {"__name__": "__main__"}
    check(_libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "dumpable")
    check(_libc.syscall(CAPSET, struct.pack("II", CAPABILITY_VERSION, 0), bytes(24)), "capabilities")
    stand_still()
    limit(seconds, memory, programs)
    seccomp()
    for place in range(1, programs + 1):
        word, shown, run = json.loads(_line(questions))
        linecache.cache[f"<call {place}>"] = (len(shown), None, [f"{line}\n" for line in shown.split("\n")], "")
        writer = sys.stdout = sys.stderr = Writer()  # type: ignore[assignment]
        error = ""
        try:
            exec(compile(run, f"<call {place}>", "exec"), namespace)
            if run.endswith("\n#value") and namespace.get("_") is not None:
                writer.write(f"{namespace['_']!r}\n")
        except MemoryError:
            os._exit(4)
        except BaseException as failure:
            error = type(failure).__name__[:100]
            writer.write(_told(failure))
        _send(out, [word, error, writer.head, writer.tail, writer.characters])
    _send(out, json.loads(_line(questions)))
    os._exit(0)


def _line(descriptor: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(descriptor, 1 << 16)
        if not part:
            os._exit(5)
        line += part
    return line


def _line_of(content: object) -> bytes:
    """``content`` as a line of JSON. Characters stand as themselves, at most six bytes each: escaped, an emoji takes
    twelve, and what is far from a flood would go beyond :data:`LARGEST`."""
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _send(descriptor: int, content: object) -> None:
    message = _line_of(content)
    while message:
        message = message[os.write(descriptor, message) :]


def _told(failure: BaseException) -> str:
    """The traceback from the first frame of a call on; the last four frames."""
    try:
        told = traceback.TracebackException.from_exception(failure)
        told.stack = traceback.StackSummary.from_list([f for f in told.stack if f.filename.startswith("<call")][-4:])
        told.__cause__ = told.__context__ = None  # type: ignore[assignment]
        text = "".join(line for line in told.format() if not set(line) <= set(" ^~\n"))
        lines = [line for line in text.split("\n") if line.strip() and not set(line) <= set(" ^~")]
        return "\n".join(line[:1000] for line in lines) + "\n"
    except BaseException:
        return f"{type(failure).__name__}\n"


class EscapeError(Exception):
    """The prisoner did not do what a prisoner does; the message is the limit that it met."""


class Guard:
    """The keeper's end of the pipes to prisoner ``pid``: asks line by line, and watches its time from outside."""

    def __init__(self, pid: int, questions: int, answers: int, seconds: float) -> None:
        self.pid, self.seconds = pid, seconds
        self._questions, self._answers = questions, answers
        self._clock = (~pid << 3) | 2  # of its processor time, clock_getcpuclockid(3)

    def ask(self, question: object) -> list:
        """The prisoner's answer to ``question``, whose first item is a word that it could not know before."""
        try:
            _send(self._questions, question)
        except OSError:
            raise EscapeError("crash") from None
        line = self._answer(self._used(), time.monotonic() + 3 * self.seconds + 1)
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            raise EscapeError("crash") from None
        if not isinstance(answer, list) or not answer or answer[0] != question[0]:  # type: ignore[index]
            raise EscapeError("crash")
        return answer

    def _answer(self, before: float, deadline: float) -> bytes:
        line = b""
        while True:
            left = min(before + self.seconds + GRACE - self._used(), deadline - time.monotonic())
            if left <= 0:
                raise EscapeError("seconds")
            if not select.select([self._answers], [], [], left)[0]:
                continue
            part = os.read(self._answers, 1 << 16)
            line += part
            if len(line) > LARGEST:
                raise EscapeError("output")
            if not part or b"\n" in line[:-1]:
                raise EscapeError("crash")
            if line.endswith(b"\n"):
                return line

    def _used(self) -> float:
        """Seconds of the processor that the prisoner has used."""
        try:
            return time.clock_gettime(self._clock)
        except OSError:
            return 0.0  # it has ended; the pipe says so too


def imprison(request: dict, own: int, statm: int) -> dict:
    """Fork a prisoner into a new PID namespace, ask it program by program, see it dead; what it said last, or the limit
    that it met. A program that ends its process, or writes reports of its own, cannot repeat the words that come after
    it, and is undone."""
    questions, questioner = os.pipe()
    answerer, answers = os.pipe()
    memory = int(os.pread(statm, 100, 0).split()[0]) * resource.getpagesize() + (request["megabytes"] << 20)
    check(_libc.unshare(CLONE_NEWPID), "PID namespace")
    pid = os.fork()
    if pid == 0:
        try:
            serve_sentence(request["seconds"], len(request["run"]), memory, questions, answers)
        finally:
            os._exit(5)
    check(_libc.setns(own, CLONE_NEWPID), "PID namespace")
    os.close(questions)
    os.close(answers)
    guard = Guard(pid, questioner, answerer, request["seconds"])
    met, report = "", []
    try:
        for shown, run in zip(request["shown"], request["run"], strict=True):
            report = guard.ask([os.urandom(16).hex(), shown, run])
        guard.ask([os.urandom(16).hex()])
    except EscapeError as escape:
        met = str(escape)
    finally:
        os.close(questioner)
        os.close(answerer)
        if met in ("seconds", "output"):
            os.kill(pid, signal.SIGKILL)
    code = _ended(pid)
    if met in ("seconds", "output"):
        return {"limit": met}
    if code == -signal.SIGKILL:
        return {"limit": "seconds"}
    if code == 4:
        return {"limit": "megabytes"}
    if met or code or not _is_report(report):
        return {"limit": "crash"}
    _, error, head, tail, characters = report
    return {"error": error[:100], "head": head[:ROOM], "tail": tail[-ROOM:], "characters": characters}


def _ended(pid: int) -> int:
    """The exit code of the prisoner, who is killed where it does not end by itself at once."""
    for _ in range(100):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return 5


def _is_report(report: list) -> bool:
    """Whether it is [word, error, head, tail, characters]."""
    if len(report) != 5 or not all(isinstance(text, str) for text in report[:4]):
        return False
    return type(report[4]) is int and len(report[2]) <= report[4] < 1 << 62


def main() -> None:
    try:
        if platform.machine() != "x86_64" or sys.platform != "linux":
            raise OSError(f"the jail is for Linux on x86-64, this is {sys.platform} on {platform.machine()}")
        for module in MODULES.split():
            __import__(module)
        exec(WARM, {})
        confine()
        own, statm = os.open("/proc/self/ns/pid", os.O_RDONLY), os.open("/proc/self/statm", os.O_RDONLY)
        landlock()
        probe = {"shown": ["1"], "run": ["print(1)"], "seconds": 5.0, "megabytes": 64}
        if imprison(probe, own, statm).get("head") != "1\n":
            raise OSError(f"the probe did not print 1: {imprison(probe, own, statm)}")
    except (OSError, ImportError) as error:
        print(f"{type(error).__name__}: {error}".replace("\n", " "), flush=True)
        return
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            reply = imprison(json.loads(line), own, statm)
        except OSError as error:
            reply = {"limit": "crash", "why": str(error)}
        sys.stdout.buffer.write(_line_of(reply))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
