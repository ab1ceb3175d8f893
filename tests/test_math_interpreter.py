"""Interpreters: one protocol, notebooks, bounded output, determinism, and hostile code on each backend."""

import ast
import gc
import inspect
import itertools
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from branchwise.envs.math_tool import interpreter as monty
from branchwise.envs.math_tool import jail
from branchwise.envs.math_tool.interpreter import (
    Interpreter,
    InterpreterError,
    Limits,
    MontyInterpreter,
    Printed,
    Snapshot,
    SnapshotError,
    showing_last_value,
)
from branchwise.envs.math_tool.jail import JailInterpreter
from branchwise.envs.math_tool.notebook import Notebook
from branchwise.envs.math_tool.rules import MathToolSimulator

LIMITS = Limits(seconds=0.5, megabytes=64)

FORGED = """import os
for i in range(100):
  try: os.write(i, b'["","","42","",2]\\n' * 3)
  except OSError: pass
"""
"""Writes reports in the form of the jail's to whatever is open."""

ENDLESS = [
    ("endless loop", "while True: pass"),
    ("loop that eats exceptions", "while True:\n  try:\n    1/0\n  except BaseException:\n    pass"),
    ("loop in finally", "try:\n  while True: pass\nfinally:\n  while True: pass"),
    ("endless sum", "sum(range(10**12))"),
]
"""Each costs its limit of time."""

BOMBS = [
    ("list", "x = [0] * 10**9"),
    ("growing list", "a = []\nwhile True: a.append([a])"),
    ("string", "s = 'a'\nwhile True: s += s"),
    ("long string", "'a' * 10**10"),
    ("bytes", "bytes(10**10)"),
    ("integer", "1 << 10**10"),
    ("list of a range", "list(range(10**9))"),
    ("integer that cannot be printed", "10**5000"),
    ("recursion", "def f(n): return f(n + 1)\nf(0)"),
    ("recursion that eats its error", "def f():\n  try: f()\n  except RecursionError: pass\nf()"),
    ("aliased lists", "a = [0] * 1000\nb = [a] * 1000\nc = [b] * 1000\nlen(c)"),
    ("deep list", "a = []\nfor i in range(100000): a = [a]\nlen(a)"),
    ("list in itself", "a = []\na.append(a)\na"),
    ("flood in one", "print('x' * 10**7)"),
    ("long error", "raise ValueError('x' * 10**6)"),
    ("nested brackets", "(" * 3000 + "1" + ")" * 3000),
    ("nested minus", "-" * 7000 + "1"),
    ("nested calls", "f" + "()" * 3000),
]

ESCAPES = [
    ("read a file", "open('/etc/passwd').read()"),
    ("write a file", "open('/tmp/escaped', 'w').write('x')"),
    ("list a folder", "import os\nos.listdir('/')"),
    ("path", "import pathlib\npathlib.Path('/etc/passwd').read_text()"),
    ("secret in the environment", "import os\nprint(os.environ['BRANCHWISE_SECRET'])"),
    ("shell", "import os\nassert os.system('touch /tmp/escaped') == 0"),
    ("subprocess", "import subprocess\nsubprocess.run(['touch', '/tmp/escaped'])"),
    ("socket", "import socket\nsocket.create_connection(('127.0.0.1', 9))"),
    ("raw socket", "import _socket\n_socket.socket()"),
    ("url", "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:9')"),
    ("fork", "import os\nos.fork()"),
    ("thread", "import _thread\n_thread.start_new_thread(print, ())"),
    ("kill the parent", "import os\nos.kill(os.getppid(), 9)"),
    ("foreign functions", "import ctypes\nctypes.CDLL(None).system(b'touch /tmp/escaped')\nassert 0"),
    ("import by name", "__import__('os').mkdir('/tmp/escaped')"),
    ("dunder walk", "[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == 'Popen'][0](['true'])"),
    ("globals of a function", "(lambda: 0).__globals__['__builtins__']['open']('/etc/passwd')"),
    ("frames", "import sys\nsys._getframe(1).f_back.f_globals['nothing']"),
    ("input", "input()"),
]
"""Each ends in an error of its own, and nothing outside has changed."""

RUDE = [
    ("exit", "import sys\nsys.exit(3)"),
    ("raise SystemExit", "raise SystemExit"),
    ("interrupt", "raise KeyboardInterrupt"),
    ("end of a process", "import os\nos._exit(0)"),
    ("abort", "import os\nos.abort()"),
    ("close everything", "import os\nfor i in range(100):\n  try: os.close(i)\n  except OSError: pass"),
    ("write everywhere", "import os\nfor i in range(100):\n  try: os.write(i, b'ready')\n  except OSError: pass"),
    (
        "forged result",
        'import os\nfor i in range(100):\n  try: os.write(i, b\'["","42","",2]\')\n  except OSError: pass',
    ),
    ("forged report", FORGED + "os._exit(0)"),
    ("forged report that goes on", FORGED),
    (
        "name of an error",
        "class M(type):\n  __name__ = property(lambda c: 'E\ud800\\n')\nclass E(Exception, metaclass=M): pass\nraise E",
    ),
    ("error without a name", "class M(type):\n  __name__ = 5\nclass E(Exception, metaclass=M): pass\nraise E"),
    ("many characters", "import sys\nsys.stdout.characters = 10**5000"),
    ("negative characters", "import sys\nsys.stdout.characters = -5"),
    ("redefined builtins", "print = len = repr = None\n1 + 1"),
    ("null byte", "x\x00y"),
    ("surrogate", "'\ud800'"),
    ("control signs", "print('\\x00\\x1b[2J\\x07\\ud800')"),
    ("sleep", "import time\ntime.sleep(1000)"),
    ("ignored alarm", "import signal\nsignal.signal(signal.SIGPROF, signal.SIG_IGN)\n1"),
]

ALL = [*BOMBS, *ESCAPES, *RUDE]


@pytest.fixture(scope="module", params=["monty", "jail"])
def python(request: pytest.FixtureRequest) -> Interpreter:
    if request.param == "monty":
        return MontyInterpreter(LIMITS)
    try:
        return JailInterpreter(LIMITS)
    except InterpreterError as error:
        pytest.skip(f"{error}")


def children() -> list[int]:
    """Process ids of all descendants of this process."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found: list[int] = []
    wave = [os.getpid()]
    while wave:
        wave = [child for child, parent in parents.items() if parent in wave]
        found += wave
    return found


def test_a_notebook_keeps_its_variables_and_shows_the_last_value(python: Interpreter) -> None:
    with python.open() as session:
        assert session.run("a = [1]\nb = a").output == ""
        assert session.run("b.append(2)\na  # aliased").output == "[1, 2]"
        assert session.run("print('x'); None").output == "x"
        assert session.run("def f(n): return n + a[1]\nf(3)").output == "5"
        assert session.run("_ * 2").output == "10"


def test_an_error_is_a_traceback_with_the_agent_s_own_lines_and_what_came_before_it_stays(python: Interpreter) -> None:
    with python.open() as session:
        result = session.run("a = 3\nprint('before')\na / 0")
        assert result.error == "ZeroDivisionError"
        assert result.kept
        lines = result.output.split("\n")
        assert lines[:2] == ["before", "Traceback (most recent call last):"]
        assert lines[2:4] == ['  File "<call 1>", line 3, in <module>', "    a / 0"]
        assert lines[4].startswith("ZeroDivisionError: ")
        assert session.run("a").output == "3"
        assert session.run("a +").error == "SyntaxError"
        assert session.run("nothing").output.endswith("NameError: name 'nothing' is not defined")


def test_what_goes_beyond_a_limit_is_undone_as_a_whole(python: Interpreter) -> None:
    with python.open() as session:
        session.run("a = 1")
        for code, error in (
            ("a = 2\nwhile True: pass", "TimeoutError"),
            ("a = 3\nb = [0] * 10**9", "MemoryError"),
            ("a = 4\nfor i in range(2000): print('x' * 1000)", "OutputError"),
        ):
            result = session.run(code)
            assert (result.error, result.kept) == (error, False)
            assert result.output.endswith("; nothing of this code was kept")
            assert session.run("a").output == "1"


def test_a_snapshot_goes_back_and_pickles(python: Interpreter) -> None:
    with python.open() as session:
        session.run("a = [1]\ndef f(): return len(a)")
        snapshot = pickle.loads(pickle.dumps(session.snapshot()))
        session.run("a.append(2)")
        assert session.run("f()").output == "2"
    for _ in range(2):
        with pickle.loads(pickle.dumps(python)).restore(snapshot) as session:
            assert session.run("f()").output == "1"
    with python.open() as empty, python.restore(empty.snapshot()) as session:
        assert session.run("1").output == "1"


def test_a_damaged_or_foreign_snapshot_is_refused(python: Interpreter) -> None:
    with python.open() as session:
        session.run("a = 1")
        name, content, digest = session.snapshot()
    damaged = [
        Snapshot(name, content[:-1], digest),
        Snapshot(name, bytes([content[0] ^ 1]) + content[1:], digest),
        Snapshot(name, b"", digest),
        Snapshot(name, content, b""),
        Snapshot("other", content, digest),
        Snapshot(name, "text", digest),  # type: ignore[arg-type]
    ]
    for snapshot in damaged:
        with pytest.raises(SnapshotError):
            python.restore(snapshot)


def test_forged_monty_dumps_with_a_right_digest_break_nothing() -> None:
    python = MontyInterpreter(LIMITS)
    with python.open() as session:
        session.run("a = 1")
        good = session.snapshot().content
    for place in range(0, len(good), 37):
        bad = good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1 :]
        with python.restore(monty.sealed("monty", bad)) as session:
            session.run("a")
    with python.restore(monty.sealed("monty", os.urandom(1000))) as session:
        assert session.run("1").error == "InterpreterError"
    with python.open() as session:
        assert session.run("6 * 7").output == "42"


def test_output_is_bounded_and_clean(python: Interpreter) -> None:
    with python.open() as session:
        long = session.run("for i in range(10000): print(i)").output
        assert len(long) < LIMITS.output + 60
        assert long.startswith("0\n1\n")
        assert long.endswith("\n9998\n9999")
        assert "… 47,890 characters left out …" in long  # 48,890 digits and newlines in all
        assert session.run("print('```\\noutput\\n```')").output == "'''\noutput\n'''"
        shown = session.run("print('\\x00\\x1b[2J\\ud800é\\u202e')").output
        assert "é" in shown
        assert shown.encode().decode().replace("\ufffd", "").isprintable()


def test_clock_luck_and_hashes_are_the_same_in_every_session(python: Interpreter) -> None:
    codes = ("import time, random\n(time.time(), random.random(), hash('a'))", "set('hello world')", "print([1].copy)")
    said = set()
    for _ in range(3):
        with python.open() as session:
            said.add(tuple(session.run(code).output for code in codes))
    assert len(said) == 1


@pytest.mark.parametrize("probe", [name for name, _ in ENDLESS])
def test_endless_code_ends(python: Interpreter, probe: str) -> None:
    with python.open() as session:
        assert session.run("a = 1\na").output == "1"
        result = session.run(dict(ENDLESS)[probe])
        assert (result.error, result.kept) == ("TimeoutError", False)
        assert session.run("a + 1").output == "2"


@pytest.mark.parametrize("probe", [name for name, _ in ALL])
def test_hostile_code_is_contained_and_the_next_session_is_unharmed(
    python: Interpreter, probe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRANCHWISE_SECRET", "hush")
    escaped = Path("/tmp/escaped")
    with python.open() as session:
        session.run("kept = 'mine'")
        result = session.run(dict(ALL)[probe])
        assert len(result.output) <= LIMITS.output + 60
        assert "hush" not in result.output
        assert "root:" not in result.output
        (result.output + result.error).encode()  # raises on surrogates
        assert result.output != "42"
        if probe in dict(ESCAPES):
            assert result.error
        after = session.run("kept")
        assert after.output == "'mine'"
    assert not escaped.exists()
    with python.open() as session:
        assert session.run("6 * 7").output == "42"
        assert session.run("kept").error == "NameError"


@pytest.mark.parametrize(
    "stopped",
    [
        "signal.setitimer(signal.ITIMER_PROF, 0)",
        "signal.signal(signal.SIGPROF, signal.SIG_IGN)",
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))",
    ],
)
def test_a_snippet_that_switches_off_timers_in_the_jail_is_stopped_all_the_same(stopped: str) -> None:
    try:
        python = JailInterpreter(LIMITS)
    except InterpreterError as error:
        pytest.skip(f"{error}")
    with python.open() as session:
        session.run("a = 1")
        session.run("b = 2")
        result = session.run(f"import signal\n{stopped}\nwhile True: pass")
        assert (result.error, result.kept) == ("TimeoutError", False)
        assert session.run("a + b").output == "3"


def test_a_forged_report_in_the_jail_is_undone_and_later_snippets_are_run() -> None:
    try:
        python = JailInterpreter(LIMITS)
    except InterpreterError as error:
        pytest.skip(f"{error}")
    with python.open() as session:
        session.run("a = 1")
        for code in (FORGED + "os._exit(0)", FORGED + "os._exit(4)", FORGED, f"a = 2\n{FORGED}"):
            assert not session.run(code).kept
        assert session.run("a").output == "1"


@pytest.mark.parametrize("moment", ["before", "during"])
def test_a_worker_of_monty_that_stands_still_is_replaced(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monty, "_STANDSTILL_SECONDS", 1.0)
    limits = Limits(seconds=0.43 if moment == "before" else 0.44)  # a pool that nobody else has
    python = MontyInterpreter(limits)
    known = set(children())
    with python.open() as session:
        assert session.run("a = 6\na").output == "6"
        workers = [pid for pid in set(children()) - known if "monty" in Path(f"/proc/{pid}/comm").read_text()]
        assert workers

        def stop() -> None:
            for pid in workers:
                os.kill(pid, signal.SIGSTOP)

        timer = threading.Timer(0.1, stop)
        timer.start()
        if moment == "before":
            timer.join()
        result = session.run("a * 7" if moment == "before" else "while True: pass")
        assert not set(workers) & set(children())
        assert (result.output == "42") if moment == "before" else (result.error == "TimeoutError")
        timer.join()
        assert session.run("a + 1").output == "7"


def test_monty_without_its_program_says_so_when_it_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MONTY_BIN", str(tmp_path / "monty"))
    for make in (MontyInterpreter, MathToolSimulator):
        with pytest.raises(InterpreterError, match=r"monty' is no program.*pip install pydantic-monty.*'jail'"):
            make()


@pytest.mark.parametrize("program", ["true", "false", "cat"])
def test_a_program_of_monty_that_does_not_work_is_named_when_it_is_made(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONTY_BIN", found := str(shutil.which(program)))
    for make in (MontyInterpreter, MathToolSimulator):
        with pytest.raises(InterpreterError, match=rf"'{found}' was to print 42 .*MONTY_BIN.*'jail'"):
            make()


def test_probing_monty_leaves_a_forked_process_able_to_run_it() -> None:
    script = """
    import os
    from branchwise.envs.math_tool.interpreter import MontyInterpreter
    python = MontyInterpreter()
    if child := os.fork():
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os._exit(python.open().run("6 * 7").output != "42")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], timeout=60)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("2+3\r4", "4"),
        ("\r1", "1"),
        ("print(1)\r2+3\n(4+\n4)", "1\n8"),
        ("a = 2\r\na + 1\r\n", "3"),
        ("if True:\r  b = 5\rb", "5"),
        ("'\x0c\\x0b\u2028'\n7", "7"),
    ],
)
def test_line_ends_are_those_of_python(code: str, output: str, python: Interpreter) -> None:
    with python.open() as session:
        assert session.run(code) == (output, "", True)


def test_a_traceback_shows_the_line_that_a_carriage_return_began(python: Interpreter) -> None:
    with python.open() as session:
        assert "line 2, in <module>\n    1/0\n" in session.run("a = 1\r1/0\r2").output


@pytest.mark.parametrize("sign", ["😀", "\x01", "\ud800", "é", "\\"])
def test_a_flood_is_counted_in_characters(sign: str, python: Interpreter) -> None:
    with python.open() as session:
        result = session.run(f"print({sign!r} * 150_000)\nz = 5")
        assert (result.error, result.kept) == ("", True)
        assert "149,001 characters left out" in session.run(f"print({sign!r} * 150_000)").output
        assert session.run("z").output == "5"
        assert session.run(f"print({sign!r} * 1_000_001)").error == "OutputError"


def test_the_name_of_an_exception_is_no_flood() -> None:
    try:
        python = JailInterpreter(LIMITS)
    except InterpreterError as error:
        pytest.skip(f"{error}")
    with python.open() as session:
        result = session.run("raise type('A' * 2_000_000, (Exception,), {})()")
        assert (result.error, result.kept) == ("A" * 100, True)


def test_one_huge_allocation_is_a_memory_error(python: Interpreter) -> None:
    with python.open() as session:
        session.run("a = 1")
        result = session.run("'-'.join(['a' * 10**7] * 10**3)")
        assert (result.error, result.kept) == ("MemoryError", False)
        assert result.output == "MemoryError: more than 64 MB; nothing of this code was kept"
        assert session.run("a").output == "1"


def test_no_probe_makes_this_process_grow(python: Interpreter) -> None:
    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

    with python.open() as session:
        session.run("1")
    before = peak()
    for _, code in BOMBS:
        with python.open() as session:
            session.run(code)
    assert peak() - before < 100  # megabytes; the longest error message travels whole, some times 1 MB


@pytest.mark.parametrize("sessions", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_sessions_leave_no_process_and_no_descriptor(python: Interpreter, sessions: int) -> None:
    with python.open() as session:
        session.run("1")
    processes, descriptors = len(children()), len(os.listdir("/proc/self/fd"))
    for number in range(sessions):
        with python.open() as session:
            assert session.run(f"{number} + 1").output == str(number + 1)
    assert len(children()) <= processes
    assert len(os.listdir("/proc/self/fd")) <= descriptors


@pytest.mark.slow
def test_closing_leaves_nothing_and_the_next_call_starts_anew(python: Interpreter) -> None:
    gc.collect()
    close: Callable[[], None] = monty.close_workers if python.name == "monty" else jail.close_keeper
    close()
    before = set(children())
    with python.open() as session:
        session.run("1")
        assert set(children()) - before
    close()
    assert not set(children()) - before
    with python.open() as session:
        assert session.run("6 * 7").output == "42"


@pytest.mark.slow
def test_the_workers_end_with_a_process_that_is_killed(python: Interpreter) -> None:
    kind = type(python)
    script = (
        f"from {kind.__module__} import {kind.__name__}\nimport os, sys, time\n"
        f"session = {kind.__name__}().open()\nprint(session.run('6 * 7').output, flush=True)\ntime.sleep(60)"
    )
    before = set(children())
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"42\n"
        ours = set(children()) - before
        process.kill()
        process.wait()
    for _ in range(100):
        if not _running(ours):
            break
        time.sleep(0.05)
    assert not _running(ours)


def _running(pids: set[int]) -> set[int]:
    found = set()
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                found.add(pid)
        except OSError:
            continue
    return found


def _elsewhere(answers: "multiprocessing.Queue[str]", python: Interpreter) -> None:
    try:
        with python.open() as session:
            answers.put(session.run("6 * 7").output)
    except InterpreterError as error:
        answers.put(f"{error}")


@pytest.mark.parametrize(("method", "answer"), [("spawn", "42"), ("fork", "start processes by 'spawn'")])
def test_another_process_has_its_own_workers_and_a_fork_is_told_that_it_cannot(method: str, answer: str) -> None:
    python = MontyInterpreter(LIMITS)
    with python.open() as session:
        session.run("1")
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    process = context.Process(target=_elsewhere, args=(answers, python))
    process.start()
    assert answer in answers.get(timeout=60)
    process.join(timeout=60)
    with python.open() as session:
        assert session.run("6 * 7").output == "42"


def test_jailed_python_has_sympy_and_fractions() -> None:
    try:
        python = JailInterpreter(LIMITS)
    except InterpreterError as error:
        pytest.skip(f"{error}")
    with python.open() as session:
        assert session.run("from fractions import Fraction\nFraction(1, 3) + Fraction(1, 6)").output == "Fraction(1, 2)"
        assert session.run("from sympy import *\nx = symbols('x')\nsolve(x**2 - 5*x + 6, x)").output == "[2, 3]"
        assert session.run("integrate(x**2 * exp(x), x)").output == "(x**2 - 2*x + 2)*exp(x)"
        assert session.run("pow(3, -1, 7)").output == "5"


def test_a_notebook_replays_what_its_cache_has_lost_or_has_damaged() -> None:
    python = MontyInterpreter(LIMITS)
    notebook, other = Notebook(python), Notebook(python)
    log = ("a = []", "a.append(1)\nprint(id(a), a)", "b = a\nb.append(2)", "1 / 0")
    results = [notebook.run(log[:place], code) for place, code in enumerate(log)]
    final = notebook.run(log, "print(a, b is a, id([]))")
    assert final.output.startswith("[1, 2] True")
    assert other.run(log, "print(a, b is a, id([]))") == final  # nothing remembered
    for kept, snapshot in list(notebook._snapshots.items()):
        notebook._snapshots[kept] = snapshot._replace(content=snapshot.content[:-1])
    notebook._results.clear()
    assert notebook.run(log, "print(a, b is a, id([]))") == final
    assert [notebook.run(log[:place], code) for place, code in enumerate(log)] == results


def test_a_notebook_s_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("branchwise.envs.math_tool.notebook._BYTES", 20_000)
    monkeypatch.setattr("branchwise.envs.math_tool.notebook._RESULTS", 10)
    notebook = Notebook(MontyInterpreter(LIMITS))
    for number in range(40):
        notebook.run((), f"a = {number}")
    assert len(notebook._results) == 10
    assert notebook._bytes == sum(len(snapshot.content) for snapshot in notebook._snapshots.values()) <= 20_000
    assert len(pickle.dumps(notebook)) < 1_000


@pytest.mark.parametrize(
    ("code", "changed"),
    [
        ("1", "_ = (1)\nshow"),
        ("a = 1; a;  # why", "a = 1; _ = (a)\nshow"),
        ("é = 1; é", "é = 1; _ = (é)\nshow"),
        ("  a = 1\n  a", "a = 1\n_ = (a)\nshow"),
        ("a = 1", "a = 1\nNone"),
        ("if 1: 2", "if 1: 2\nNone"),
        ("a = ", "a = \nNone"),
        ("", "\nNone"),
    ],
)
def test_the_last_expression_is_shown_inside(code: str, changed: str) -> None:
    assert showing_last_value(code, "show") == changed


def test_the_last_line_tells_the_same_as_parsing() -> None:
    """On windows of lines of a library file, those that are valid."""
    lines = inspect.getsource(statistics).split("\n")
    told = 0
    for start, length in itertools.product(range(len(lines)), (1, 2, 4, 8)):
        code = textwrap.dedent("\n".join(lines[start : start + length]))
        try:
            ast.parse(code)
        except SyntaxError:
            continue
        cut = monty._cut_by_line(code)
        told += cut is not None
        assert cut in (None, monty._cut_by_parsing(code))
    assert told > 100


@pytest.mark.parametrize(
    "code",
    [
        "a = [1,\n2]\na",
        "'''a'\n'b'''",
        '"""\na',
        "f(\na",
        "f(\na)",
        "a = 1 +\\\n2",
        "if a:\nb",
        "@f\na",
        "a; b",
        "a = 1; a",
        "a # b",
        "# a\na",
        "print('(')\na",
        'print("it\'s")\nprint(a)',
        "return",
        "a b",
        "lambda",
        "x == 3",
        "x = (",
        " a",
        "*a, b",
        "a\r",
        "",
    ],
)
def test_the_last_line_tells_the_same_as_parsing_where_that_is_hard(code: str) -> None:
    assert monty._cut_by_line(code) in (None, monty._cut_by_parsing(code))


def test_printed_keeps_head_and_tail_of_any_pieces() -> None:
    text = "".join(str(i) for i in range(1000))
    for size in (1, 7, 100, 10_000):
        printed = Printed(100)
        for start in range(0, len(text), size):
            printed("stdout", text[start : start + size])
        assert printed.shown() == f"{text[:50]}\n… 2,790 characters left out …\n{text[-50:]}"


@pytest.mark.parametrize("wrong", [{"seconds": 0}, {"megabytes": "1"}, {"output": 10**9}, {"recursion": True}])
def test_limits_refuse_what_is_no_limit(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**wrong)  # type: ignore[arg-type]
