"""A run as a folder of stages: what is finished stays finished, whatever happens to the process.

A stage is a name, the stages that it needs, and a function that writes files into a folder and returns figures. The
folder has a temporary name until the function has returned and all is on disk; then it is renamed to the stage's name
(``search.files.publish``). A finished stage is not done again, so a run that was killed at any point resumes where it
was, and, as each stage draws from a generator of its own, ends as it would have ended. A long stage may write finished
parts of its work into ``context.parts``, which outlive a kill, and read them from there. Stages that do not wait for
each other run side by side in worker processes; a worker that is killed is noticed at once, and its stage is done once
more by another.

What it does not do: distribute over machines, lock the folder (``search.locks.only_writer``).
"""

import math
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol, TypeVar

from ..envs.json_files import json_text, read_json
from ..search.files import atomically, make_folder, publish, sync

T = TypeVar("T")

FIGURES = "figures.json"
PARTS = "parts"
ATTEMPTS: Final = 2
"""How often a stage is begun in one call: once more where its process was killed."""
NOTICED_WITHIN: Final = 0.5  # seconds: how often the processes are looked at where nothing is heard from them
LONGEST_NAME: Final = 64
_PLAIN: Final = re.compile(r"\w[\w-]*")
_DEVICES: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)


def plain_name(name: str, what: str) -> str:
    """``name``, where it is safe as the name of a folder on every system: 1 to 64 letters, digits, ``_`` and ``-``,
    the first no ``-``, and no device of Windows (``con``, ``nul``, …). Raises ``ValueError`` for any other."""
    if not isinstance(name, str) or not _PLAIN.fullmatch(name) or len(name) > LONGEST_NAME or _DEVICES.fullmatch(name):
        shown = f"{name[:LONGEST_NAME]!r}…" if isinstance(name, str) and len(name) > LONGEST_NAME else repr(name)
        raise ValueError(
            f"{what} {shown} names a folder; expected 1 to {LONGEST_NAME} letters, digits, '_' and '-', "
            "and no name that Windows keeps for a device"
        )
    return name


class StageFailed(RuntimeError):  # noqa: N818  (a stage failed: nothing is wrong with the run)
    """A stage raised; the message names it and says what it raised. Finished stages are untouched."""


class DamagedStage(ValueError):  # noqa: N818
    """A finished stage's folder cannot be read; the message names the file, the fault and the cure."""


@dataclass(frozen=True)
class StageContext:
    """What a stage's function is given: the run's folder to read from, its own folder to write into, and a way to say
    how far it is: ``tell(done, total, note)``."""

    run: Path
    folder: Path
    tell: Callable[[float, float, str], None]

    @property
    def parts(self) -> Path:
        """A folder for finished parts of the work: there again when a killed stage is done anew, gone when it is
        done. Whatever is found there must be whole (``search.files.atomically``)."""
        parts = self.folder / PARTS
        parts.mkdir(exist_ok=True)
        return parts


@dataclass(frozen=True)
class Stage:
    """``work`` is picklable: a function that can be imported by name, its other arguments bound by
    ``functools.partial`` (worker processes are spawned)."""

    name: str
    work: Callable[[StageContext], dict[str, Any]]
    needs: tuple[str, ...] = ()


class Display(Protocol):
    """Where progress goes: the command draws bars, a script may print or stay silent. ``repeated`` is called where a
    stage is begun once more, and why."""

    def started(self, stage: str) -> None: ...
    def repeated(self, stage: str, why: str) -> None: ...
    def moved(self, stage: str, done: float, total: float, note: str) -> None: ...
    def finished(self, stage: str, figures: Mapping[str, Any], seconds: float) -> None: ...


def figures(run: Path, stage: str) -> dict[str, Any]:
    """The figures that a finished stage returned. Raises :class:`DamagedStage` where they cannot be read."""
    return read_figures(run / stage / FIGURES)


def read_figures(path: Path) -> dict[str, Any]:
    """The object in a stage's ``figures.json``."""
    cure = f"delete the folder {path.parent} and run the same command again"
    try:
        found = read_json(path, cure)
    except ValueError as error:
        raise DamagedStage(str(error)) from None
    if not isinstance(found, dict):
        raise DamagedStage(f"{path} holds {type(found).__name__}, not an object of figures; {cure}")
    if fault := figure_fault(found):
        raise DamagedStage(f"{path}: {fault}; {cure}")
    return found


NUMBERS: Final = (
    *("success", "validation_success", "validation_success_before", "validation_reward", "validation_reward_before"),
    *("validation_low", "validation_high"),
    *("episode_length", "reading_accuracy", "chosen_logp_per_token", "explained_variance", "auc", "error"),
    *("rows", "pairs", "anchors", "held_out", "goals", "tries", "solved_goals", "nodes", "demonstrations"),
    *("parameters", "episodes", "model_calls", "prompts", "seconds", "learning_rate", "loss"),
)
"""Figures that tables and reports show as numbers, whichever stage returns them."""
SCORES: Final = ("validation_success", "validation_reward")
"""By one of these a run chooses its models (``RunConfig.outcome``)."""
UNKNOWN: Final = ("chosen_logp_per_token", "explained_variance", "auc", "error", "loss")
"""Those of them that may be null or NaN: there was nothing to measure."""
COUNTERS: Final = ("dropped", "chosen_kinds", "rejected_kinds")


def best_candidate(found: Mapping[str, Any]) -> dict[str, Any]:
    """Of the settings that a round tried the one that did best on validation tasks; empty where none was tried."""
    candidates: Sequence[dict[str, Any]] = found.get("candidates") or ({},)
    return max(candidates, key=lambda one: next((one[name] for name in SCORES if name in one), -math.inf))


def figure_fault(found: Mapping[str, Any]) -> str:
    """What is wrong with the figures of a stage, else ""."""
    for name, value in found.items():
        if type(value) is int and not is_number(value):
            return f"{name} is {value!r:.40}, which no float holds"
        if name in NUMBERS and not is_number(value) and not (name in UNKNOWN and _is_unknown(value)):
            return f"{name} is {value!r:.40}, and a number is expected"
        if name == "promoted" and not isinstance(value, bool):
            return f"promoted is {value!r:.40}, and true or false is expected"
        if name in COUNTERS and not (isinstance(value, dict) and all(map(is_number, value.values()))):
            return f"{name} is {value!r:.40}, and numbers by name are expected"
        if name == "candidates":
            if not isinstance(value, list) or not all(isinstance(candidate, dict) for candidate in value):
                return f"candidates is {value!r:.40}, and a list of objects is expected"
            if fault := next(filter(None, map(figure_fault, value)), ""):
                return f"a candidate's {fault}"
    return ""


def is_number(value: Any) -> bool:
    """Whether ``value`` is a finite number that a float holds."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number of more than 308 digits
        return False


def _is_unknown(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def read_from(folder: Path, read: Callable[[Path], T]) -> T:
    """What ``read`` makes of the folder of a finished stage; whatever it raises is :class:`DamagedStage`."""
    try:
        return read(folder)
    except DamagedStage:
        raise
    except Exception as error:
        fault = " ".join(f"{type(error).__name__}: {error}".split())
        raise DamagedStage(
            f"{folder} is damaged ({fault}); delete this folder and run the same command again"
        ) from error


def is_finished(run: Path, stage: str) -> bool:
    return (run / stage / FIGURES).is_file()


def run_stages(stages: Sequence[Stage], run: Path, display: Display, workers: int = 2) -> None:
    """Do all stages that are not finished, each after those that it needs, at most ``workers`` at a time.

    Raises :class:`StageFailed` when a stage raised or its process was killed twice (after the ones beside it were given
    up), ``KeyboardInterrupt`` on Ctrl-C; in either case finished stages are kept and the same call resumes.
    Raises ``ValueError`` where stages share a folder, need what is not there or wait for each other, and
    :class:`DamagedStage` where a finished one cannot be read.
    """
    check_stages(stages)
    for stage in stages:
        _check_folder(run, stage.name)
    todo = [stage for stage in stages if not is_finished(run, stage.name)]
    for stage in todo:
        _check_partial(run, stage.name)
    begun: Counter[str] = Counter()
    pool: list[_Worker] = []
    try:
        while todo or any(worker.stage for worker in pool):
            for stage in [s for s in todo if all(is_finished(run, need) for need in s.needs)]:
                if sum(worker.stage is not None for worker in pool) == workers:
                    break
                _free_worker(pool).begin(stage, run)
                todo.remove(stage)
                begun[stage.name] += 1
                if begun[stage.name] == 1:
                    display.started(stage.name)
            if not any(worker.stage for worker in pool):
                raise StageFailed(f"stage {todo[0].name!r} needs folders of {run} that were there and are gone")
            wait([handle for worker in pool for handle in worker.handles()], timeout=NOTICED_WITHIN)
            failures = []
            for worker in list(pool):
                own, ended = worker.stage, worker.listen(display)
                if isinstance(ended, float) and own is not None:
                    display.finished(own.name, figures(run, own.name), ended)
                elif isinstance(ended, Exception):
                    failures.append(ended)
                elif ended is _GONE:
                    pool.remove(worker)
                    worker.end()
                    if own is not None:
                        why = worker.epitaph(own.name)
                        if begun[own.name] == ATTEMPTS or not worker.may_repeat():
                            failures.append(StageFailed(f"{why}{worker.cure()}"))
                        else:
                            todo.insert(0, own)
                            display.repeated(own.name, why)
            if failures:  # after what succeeded beside them was reported
                raise failures[0]
    except BaseException:
        for worker in pool:
            worker.process.terminate()
        raise
    finally:
        for worker in pool:
            worker.end()


_GONE: Final = object()  # a worker's process has ended


class _Worker:
    """A process that does stages, one after the other, with a pipe of its own: no lock is shared, so that a process
    that is killed while it writes blocks no other."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, others = context.Pipe()
        self.process = context.Process(target=_serve, args=(others,), daemon=False)
        self.process.start()
        others.close()
        self.stage: Stage | None = None
        self.ready = False

    def begin(self, stage: Stage, run: Path) -> None:
        try:
            self.pipe.send_bytes(pickle.dumps((stage, run)))
        except OSError:  # the process has ended, which is noticed where it is listened to
            pass
        except Exception as error:
            raise StageFailed(f"stage {stage.name!r}: {error}") from error
        self.stage = stage

    def handles(self) -> list[Any]:
        return [self.pipe, self.process.sentinel]

    def listen(self, display: Display) -> Any:
        """The seconds of a stage that is done, the error of one that failed, ``_GONE`` where the process has ended,
        else None. Progress on the way is handed to ``display``, the latest alone."""
        gone = self.process.exitcode is not None  # asked first: what it sent before it ended is read below
        latest: tuple[str, float, float, str] | None = None
        ended: Any = None
        try:
            while ended is None and self.pipe.poll():
                kind, *found = self.pipe.recv()
                self.ready = True
                if kind == "moved":
                    latest = tuple(found)  # type: ignore[assignment]
                elif kind != "ready":
                    ended = found[0]
        except (EOFError, OSError):
            self.process.join(NOTICED_WITHIN)
            gone = True
        if latest is not None:
            display.moved(*latest)
        if ended is not None:
            self.stage = None
            return ended
        return _GONE if gone else None

    def may_repeat(self) -> bool:
        """Whether another process could do better: not where this one died of its own import."""
        return self.ready or (self.process.exitcode or 0) < 0

    def epitaph(self, stage: str) -> str:
        """What is known of the end of the process."""
        code = self.process.exitcode
        if code == -signal.SIGKILL:
            return f"the process that ran {stage!r} was killed (out of memory?)"
        if code is not None and code < 0:
            return f"the process that ran {stage!r} was ended by {_signal_name(-code)}"
        if self.ready:
            return f"the process that ran {stage!r} ended with exit code {code}; its output is on the standard error"
        return f"the process for {stage!r} ended with exit code {code} while it started"

    def cure(self) -> str:
        if self.may_repeat():
            return ", twice; run the same command again to resume"
        return (
            "; its traceback is on the standard error; a script must call this under if __name__ == '__main__', since "
            "each process imports it again"
        )

    def end(self) -> None:
        """No return while the process may write."""
        self.pipe.close()
        self.process.join(10)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()


def _free_worker(pool: list[_Worker]) -> _Worker:
    for worker in pool:
        if worker.stage is None and worker.process.exitcode is None:
            return worker
    pool.append(_Worker())
    return pool[-1]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def partial_folder(folder: Path) -> Path:
    """Where a stage of this folder is under way."""
    return folder.with_name(f"{folder.name}.partial")


def check_stages(stages: Sequence[Stage]) -> None:
    """Raises ``ValueError`` where the stages cannot all be done, each in a folder of its own."""
    left = {stage.name: set(stage.needs) for stage in stages}
    for name in left:
        for piece in re.split(r"[/+]", name):
            plain_name(piece, f"stage {name!r}:")
    counts = Counter(stage.name.casefold() for stage in stages)
    if twice := sorted({stage.name for stage in stages if counts[stage.name.casefold()] > 1}):
        raise ValueError(f"stages {twice} are there more than once; names are folders, give each its own")
    for name, needs in left.items():
        if missing := needs - left.keys():
            raise ValueError(f"stage {name!r} needs {sorted(missing)}, which no stage of this run makes")
        around = {str(folder).casefold() for folder in PurePosixPath(name).parents} & counts.keys()
        if around:
            raise ValueError(
                f"stage {name!r} lies in the folder of stage {around.pop()!r}, which is replaced when done"
            )
    while ready := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in ready:
            del left[name]
    if left:
        raise ValueError(f"stages {sorted(left)} wait for each other; take one of their needs away")


def _check_folder(run: Path, stage: str) -> None:
    """Raises ``ValueError`` where a stage's name is taken by what no stage has made, or is damaged."""
    if is_finished(run, stage):
        figures(run, stage)
    elif os.path.lexists(run / stage):
        raise ValueError(
            f"{run / stage} exists and has no {FIGURES}, so it is no finished stage; nothing is deleted that this run "
            "may not have made: move or delete it and run the same command again"
        )


def _check_partial(run: Path, stage: str) -> None:
    """Raises ``ValueError`` where the folder of a stage under way, which is emptied, would be somebody else's."""
    partial = partial_folder(run / stage)
    if os.path.lexists(partial) and (partial.is_symlink() or not partial.is_dir()):
        what = "a link" if partial.is_symlink() else "no folder"
        raise ValueError(
            f"{partial} is {what}, and a stage under way has a folder there, which is emptied before it begins anew; "
            "move or delete it and run the same command again"
        )


def _serve(pipe: Connection) -> None:
    """A worker's life. One torch thread a process: two small trainings side by side beat one on two threads. Ctrl-C is
    the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    pipe.send(("ready",))
    while True:
        try:
            message = pipe.recv_bytes()
        except (EOFError, OSError):
            return
        pipe.send(("ended", _do(message, pipe)))


def _leave_with_parent() -> None:
    """A killed run's worker must not write on, beside that of the run that resumes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(message: bytes, pipe: Connection) -> float | Exception:
    """The seconds that a stage took, or what went wrong."""
    start = last = time.perf_counter()
    name = "?"
    try:
        stage, run = pickle.loads(message)
        name = stage.name

        def tell(done: float, total: float, note: str = "") -> None:
            nonlocal last
            if time.perf_counter() - last > 0.2 or done >= total:
                last = time.perf_counter()
                pipe.send(("moved", name, done, total, note))

        do_stage(stage, run, tell)
    except DamagedStage as error:
        return DamagedStage(f"stage {name!r}: {error}")
    except Exception as error:
        return StageFailed(f"stage {name!r}: {error}")
    return time.perf_counter() - start


def do_stage(stage: Stage, run: Path, tell: Callable[[float, float, str], None]) -> None:
    """Do one stage here, in this process, unless it is finished."""
    if is_finished(run, stage.name):
        return
    _check_folder(run, stage.name)
    _check_partial(run, stage.name)
    partial = partial_folder(run / stage.name)
    if not (partial / FIGURES).is_file():  # else it was killed between its last file and its name
        _work(stage, run, partial, tell)
    shutil.rmtree(partial / PARTS, ignore_errors=True)
    publish(partial, run / stage.name)


def _work(stage: Stage, run: Path, partial: Path, tell: Callable[[float, float, str], None]) -> None:
    """Fill ``partial``; its figures are written last, when all else is on disk."""
    make_folder(partial)
    for left in partial.iterdir():
        if left.is_symlink() or not left.is_dir():  # of a link the link goes, and never what it leads to
            left.unlink()
        elif left.name != PARTS:
            shutil.rmtree(left)
    start = time.perf_counter()
    try:
        found = stage.work(StageContext(run, partial, tell))
    except DamagedStage:
        raise
    except Exception as error:
        (partial / "error.txt").write_text(traceback.format_exc(), encoding="utf-8", errors="replace")
        raise RuntimeError(f"{type(error).__name__}: {error} (traceback: {partial / 'error.txt'})") from None
    found = {**found, "seconds": round(time.perf_counter() - start, 3)}
    sync(partial)
    with atomically(partial / FIGURES) as path:
        path.write_text(json_text(found, indent=1) + "\n")
