"""The credit benchmark run and resumed: each pair of a cell and a seed is measured by a worker process and logged.

The folder of a run has ``credit.jsonl`` (first what is measured, then a line a cell, seed and method, in groups of all
methods, in the order of the work) and ``credit.md``, the tables. A run that was stopped, by Ctrl-C or by a kill, and
resumed has the lines of one that was not, CPU seconds apart; what is lost is what was under way. All draws follow from
the cell and the seed, so that lines depend neither on the number of workers nor on the other cells.
"""

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from ...envs.json_files import parse_json
from ...search.files import atomically
from ..line_log import LineLog
from ..pool import leave_with_parent
from ..stages import StageFailed, is_number
from .cells import CELLS, FITTED, HELD_OUT, exact_success
from .labels import exact_advantages, fidelity, labels_of_advantages, labels_of_pairs, placed_pairs
from .methods import GOALS, METHODS, Rows, Samples
from .tabular import CLIP, ITERATIONS, RATES, advantages, preferences, trained

LOG: Final = "credit.jsonl"
TABLES: Final = "credit.md"
BEGINS: Final = b'{"credit": '
"""How the log begins."""
MOST_WORKERS: Final = 64
GROUPS: Final = {"all": CELLS, "fitted": [c.name for c in FITTED], "held_out": [c.name for c in HELD_OUT]}

Progress = Callable[[int, str], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """What is run. ``seeds``: how many, counted from ``first_seed``; beside fitted cells the held-out ones have as many
    again, fresh ones; ``cells``: names, or ``all``, ``fitted``, ``held_out``; ``clip_low``, ``clip_high``: bounds of
    the policy gradient's ratio; ``rates``: the learning rates that are tried."""

    seeds: int = 5
    cells: str | Sequence[str] = "all"
    clip_low: float = CLIP[0]
    clip_high: float = CLIP[1]
    rates: Sequence[float] = RATES
    workers: int = 2
    first_seed: int = 0

    def __post_init__(self) -> None:
        for name, most in (("seeds", 10_000), ("workers", MOST_WORKERS)):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= most:
                raise ValueError(f"{name}={value!r}; expected a whole number from 1 to {most:,}")
        for name in ("clip_low", "clip_high"):
            if not is_number(getattr(self, name)) or getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)!r}; expected a number above 0")
        if (
            not isinstance(self.rates, Sequence)
            or not self.rates
            or not all(is_number(r) and r > 0 for r in self.rates)
        ):
            raise ValueError(f"rates={self.rates!r}; expected numbers above 0, such as [0.1, 0.3]")
        self.names()

    def names(self) -> list[str]:
        """The cells by name, in the order of the work."""
        asked = self.cells.split(",") if isinstance(self.cells, str) else self.cells
        if not isinstance(asked, Sequence) or not asked or not all(isinstance(name, str) for name in asked):
            raise ValueError(f"cells={self.cells!r}; expected names of cells, or one of {', '.join(GROUPS)}")
        chosen = {cell for name in asked for cell in GROUPS.get(name.strip(), [name.strip()])}
        if unknown := sorted(chosen - CELLS.keys()):
            raise ValueError(
                f"cells: no cell {unknown[0]!r}; expected one of {', '.join(GROUPS)}, or names such as {FITTED[0].name}"
            )
        return [name for name in CELLS if name in chosen]

    def work(self) -> list[tuple[str, int]]:
        """Cells and seeds, in the order of the work: all cells with the seeds, held-out ones with the fresh seeds."""
        names = self.names()
        held_out = [name for name in names if name in GROUPS["held_out"]]
        fresh = held_out if len(held_out) < len(names) else []
        end = self.first_seed + self.seeds
        first, second = range(self.first_seed, end), range(end, end + self.seeds)
        return [(cell, seed) for seeds, cells in ((first, names), (second, fresh)) for seed in seeds for cell in cells]

    def about(self) -> dict[str, Any]:
        """What the lines of a log depend on, beside cell and seed."""
        return {
            "clip": [self.clip_low, self.clip_high], "goals": GOALS, "rates": list(self.rates),
            "iterations": list(ITERATIONS), "methods": list(METHODS),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """A line. ``success`` and ``base``: exact, of the trained and the base policy; ``sign``, ``tied``, ``tau``:
    ``labels.fidelity``; ``rate`` and ``iterations`` are those that trained best; ``cpu_seconds``: of collecting, even
    where that was shared, of labelling and of training."""

    cell: str
    seed: int
    method: str
    success: float
    base: float
    samples: int
    labels: int
    sign: float | None
    tied: float | None
    tau: float | None
    labels_per_1000_samples: float
    rate: float
    iterations: int
    cpu_seconds: float


_UNKNOWN: Final = ("sign", "tied", "tau")


def measure(cell: str, seed: int, settings: Settings) -> list[Result]:
    """All methods in one cell with one seed."""
    samples = Samples(CELLS[cell], seed)
    return [measured(samples, name, METHODS[name](samples), settings) for name in METHODS]


def measured(samples: Samples, method: str, rows: Rows, settings: Settings) -> Result:
    """How right the labels of ``rows`` are, and what they train."""
    began = time.process_time()
    task, base = samples.task, samples.base
    before = exact_success(task, base)
    if rows.advantages:
        labels = labels_of_advantages(task, rows.advantages)
        problem: Any = advantages(labels, base.shape, (settings.clip_low, settings.clip_high))
    else:
        pairs = placed_pairs(task, rows.pairs)
        labels, problem = labels_of_pairs(pairs), preferences(pairs, base.shape)
    best, rate, iterations = before, 0.0, 0
    if len(labels.values):
        tables = [
            (exact_success(task, table), rate, count) for rate, count, table in trained(base, problem, settings.rates)
        ]
        best, rate, iterations = max(tables, key=lambda found: round(found[0], 9))
    right = fidelity(labels, exact_advantages(task, base))
    seconds = rows.seconds + time.process_time() - began
    return Result(
        cell=samples.name,
        seed=samples.seed,
        method=method,
        success=round(best, 6),
        base=round(before, 6),
        samples=rows.samples,
        labels=len(labels.values),
        labels_per_1000_samples=round(1000 * len(labels.values) / max(rows.samples, 1), 2),
        rate=rate,
        iterations=iterations,
        cpu_seconds=round(seconds, 4),
        **{name: None if value is None else round(value, 6) for name, value in right.items()},
    )


def run(settings: Settings, folder: Path | None, progress: Progress | None = None) -> list[Result]:
    """Measure what ``folder`` does not hold yet, and return the results in the order of the work.
    ``progress``: how many cells and seeds are done, and how long the rest will take, in words. Raises
    ``ValueError`` where the folder holds another benchmark, :class:`StageFailed` where a worker was killed."""
    work = settings.work()
    with ResultLog(None if folder is None else folder / LOG, settings.about()) as log:
        todo = [each for each in work if each not in log.found]
        began = time.monotonic()
        if progress and todo:
            progress(len(work) - len(todo), "")
        with closing(_each_measured(todo, settings)) as measured_ones:
            for count, found in enumerate(measured_ones, 1):
                log.add(found)
                if progress:
                    left = (time.monotonic() - began) / count * (len(todo) - count)
                    progress(len(work) - len(todo) + count, f"{left:.0f} s left")
    return [result for each in work for result in log.found[each]]


def save_tables(folder: Path, text: str) -> None:
    with atomically(folder / TABLES) as path:
        path.write_text(text, encoding="utf-8")


def _each_measured(todo: Sequence[tuple[str, int]], settings: Settings) -> Generator[list[Result], None, None]:
    """The results of each piece of work, in order. Where it is closed before, its workers end at once."""
    if not todo:
        return
    others = set(multiprocessing.active_children())
    with _one_thread_each():
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(min(settings.workers, len(todo)), context, initializer=_begin)
        try:
            yield from pool.map(measure, *zip(*todo, strict=True), [settings] * len(todo))
        except BrokenProcessPool:
            raise StageFailed(
                "a worker process was killed (out of memory?); run the same command again to resume"
            ) from None
        except BaseException:
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Of a worker: Ctrl-C is the parent's, and a killed parent leaves nobody behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=leave_with_parent, daemon=True).start()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Worker processes that start meanwhile compute in one thread each, so that sums have one order everywhere."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class ResultLog(LineLog):
    """The results by cell and seed, kept in ``path`` as they come (``None``: in memory alone). A group of lines that a
    kill has cut off is dropped. A context manager. Raises ``ValueError`` naming file and line where the file holds
    something else, or a benchmark of other settings."""

    def __init__(self, path: Path | None, about: Mapping[str, Any]) -> None:
        self.found: dict[tuple[str, int], list[Result]] = {}
        self._methods = list(about["methods"])
        if path is None:
            return
        whole = self._read(path, about) if path.exists() else 0
        self.open_at(path, whole)
        if not whole:
            self._write([{"credit": about}])

    def add(self, results: Sequence[Result]) -> None:
        """Keep the results of all methods in one cell with one seed."""
        self._write(map(asdict, results))
        self.found[results[0].cell, results[0].seed] = list(results)

    def _write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self.write("".join(f"{json.dumps(row)}\n" for row in rows).encode())
        self.flush()

    def _read(self, path: Path, about: Mapping[str, Any]) -> int:
        """Take the results of ``path``; how many bytes of it are whole groups."""
        cure = "name another folder, or remove it to measure anew"
        whole = size = 0
        group: list[Result] = []
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    if number == 1 and not line.startswith(BEGINS):
                        raise ValueError(f"{path} exists and holds no credit benchmark; {cure}")
                    break
                size += len(line)
                row = parse_json(line, f"{path}, line {number}", cure)
                if number == 1:
                    _check_about(path, row, about, cure)
                    whole = size
                    continue
                try:
                    group.append(_result_of(row))
                except (ValueError, TypeError, KeyError) as error:
                    raise ValueError(f"{path}, line {number}: no result of the benchmark ({error}); {cure}") from None
                if [result.method for result in group] != self._methods[: len(group)]:
                    raise ValueError(f"{path}, line {number}: the methods are not in their order; {cure}")
                if len(group) == len(self._methods):
                    self.found[group[0].cell, group[0].seed] = group
                    group, whole = [], size
        return whole


def load(path: Path) -> list[Result]:
    """The results in a log, whatever its settings."""
    with open(path, "rb") as file:
        lines = [parse_json(line, str(path), "expected the log of a credit benchmark") for line in file]
    return [_result_of(line) for line in lines[1:]]


def _check_about(path: Path, row: Any, about: Mapping[str, Any], cure: str) -> None:
    known = row.get("credit") if isinstance(row, dict) else None
    if not isinstance(known, dict):
        raise ValueError(f"{path} exists and holds no credit benchmark; {cure}")
    if changed := [name for name in {**known, **about} if known.get(name) != about.get(name)]:
        shown = ", ".join(f"{name}={known.get(name)!r:.60}" for name in changed)
        raise ValueError(f"{path} holds a benchmark with {shown}; {cure}")


def _result_of(row: Any) -> Result:
    result = Result(**row)
    for entry in fields(Result):
        value = getattr(result, entry.name)
        if entry.name in ("cell", "method"):
            if not isinstance(value, str):
                raise ValueError(f"{entry.name} is {value!r:.40}")
        elif not is_number(value) and not (entry.name in _UNKNOWN and value is None):
            raise ValueError(f"{entry.name} is {value!r:.40}")
    return result
