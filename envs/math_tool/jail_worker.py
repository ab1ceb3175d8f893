"""The keeper of the jail: a warm CPython that forks one prisoner a call, and never runs an agent's code itself.

Run by path; it imports nothing of the package. A line of JSON in (``shown``, ``run``, ``seconds``, ``megabytes``), a
line of JSON out. What stands between a prisoner and the machine, each layer enough for most probes:

- user, mount, network, IPC and UTS namespaces of the keeper; a PID namespace of each prisoner, who is its process 1, so
  that its death is the death of all in it; no capabilities;
- landlock: no path can be opened, created or changed, no port bound or reached;
- seccomp: a list of the system calls that arithmetic needs; all others (open, socket, fork, execve, ptrace …) fail;
- limits: address space, processor time, no file may grow, no descriptor be opened, no core;
- the keeper's clock: a prisoner is killed at its deadline, whatever it does.

The prisoner's output comes through one pipe, bounded; what it writes there is its own output and nothing else, since
how it ended is seen from outside. Any layer that cannot be put up stops the keeper before it says that it is ready.

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
    """Limits of the prisoner. Processor time is for all of the replay, in whole seconds; ``on_time`` is exact."""
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


def serve_sentence(request: dict, out: int, memory: int) -> None:
    """What the prisoner does: the log, silently, then the snippet; its message; the end."""
    keep = {out}
    for number in range(256):
        if number not in keep:
            with contextlib.suppress(OSError):
                os.close(number)
    namespace: dict = {"__name__": "__main__"}
    programs = [(text, run) for text, run in zip(request["shown"], request["run"], strict=True)]
    for place, (text, _) in enumerate(programs, start=1):
        linecache.cache[f"<call {place}>"] = (len(text), None, [f"{line}\n" for line in text.split("\n")], "")
    check(_libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "dumpable")
    check(_libc.syscall(CAPSET, struct.pack("II", CAPABILITY_VERSION, 0), bytes(24)), "capabilities")
    stand_still()
    signal.signal(signal.SIGPROF, lambda number, frame: os._exit(3))
    limit(request["seconds"], memory, len(programs))
    seccomp()
    error = ""
    for place, (_, run) in enumerate(programs, start=1):
        writer = sys.stdout = sys.stderr = Writer()  # type: ignore[assignment]
        error = ""
        signal.setitimer(signal.ITIMER_PROF, request["seconds"])
        try:
            exec(compile(run, f"<call {place}>", "exec"), namespace)
            if run.endswith("\n#value") and namespace.get("_") is not None:
                writer.write(f"{namespace['_']!r}\n")
        except MemoryError:
            os._exit(4)
        except BaseException as failure:
            error = type(failure).__name__
            writer.write(_told(failure))
    signal.setitimer(signal.ITIMER_PROF, 0)
    message = json.dumps([error, writer.head, writer.tail, writer.characters]).encode()
    while message:
        message = message[os.write(out, message) :]
    os._exit(0)


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


def imprison(request: dict, own: int, statm: int) -> dict:
    """Fork a prisoner into a new PID namespace, read its message, see it dead; how it ended and what it said."""
    inside, out = os.pipe()
    memory = int(os.pread(statm, 100, 0).split()[0]) * resource.getpagesize() + (request["megabytes"] << 20)
    check(_libc.unshare(CLONE_NEWPID), "PID namespace")
    pid = os.fork()
    if pid == 0:
        try:
            serve_sentence(request, out, memory)
        finally:
            os._exit(5)
    check(_libc.setns(own, CLONE_NEWPID), "PID namespace")
    os.close(out)
    deadline = time.monotonic() + 3 * request["seconds"] * len(request["run"]) + 1
    message, late = b"", False
    while len(message) <= LARGEST:
        if not select.select([inside], [], [], max(0.0, deadline - time.monotonic()))[0]:
            late = True
            break
        part = os.read(inside, 1 << 16)
        if not part:
            break
        message += part
    os.close(inside)
    if late or len(message) > LARGEST:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if len(message) > LARGEST:
        return {"limit": "output"}
    if late or code in (3, -signal.SIGKILL):
        return {"limit": "seconds"}
    if code == 4:
        return {"limit": "megabytes"}
    try:
        error, head, tail, characters = json.loads(message)
        fine = all(isinstance(text, str) for text in (error, head, tail)) and type(characters) is int
    except (ValueError, TypeError, RecursionError):
        fine = False
    if code or not fine:
        return {"limit": "crash"}
    return {"error": error[:100], "head": head[:ROOM], "tail": tail[-ROOM:], "characters": characters}


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
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
