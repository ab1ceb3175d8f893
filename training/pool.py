"""Stages side by side in worker processes, each after those that it needs.

A worker has a pipe of its own, so that a process that is killed while it writes blocks no other; it is noticed at once,
and its stage is done once more by another. ``stages.py`` says what a stage is.

What it does not do: distribute over machines.
"""

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final

from .stages import (
    DamagedStage,
    Display,
    Stage,
    StageFailed,
    check_partial,
    check_stage_folder,
    check_stages,
    do_stage,
    figures,
    is_finished,
)

ATTEMPTS: Final = 2
"""How often a stage is begun in one call: once more where its process was killed."""
NOTICED_WITHIN: Final = 0.5  # seconds: how often the processes are looked at where nothing is heard from them


def run_stages(stages: Sequence[Stage], run: Path, display: Display, workers: int = 2) -> None:
    """Do all stages that are not finished, each after those that it needs, at most ``workers`` at a time.

    Raises :class:`StageFailed` when a stage raised or its process was killed twice (after the ones beside it were given
    up), ``KeyboardInterrupt`` on Ctrl-C; in either case finished stages are kept and the same call resumes.
    Raises ``ValueError`` where stages share a folder, need what is not there or wait for each other, and
    :class:`DamagedStage` where a finished one cannot be read.
    """
    check_stages(stages)
    for stage in stages:
        check_stage_folder(run, stage.name)
    todo = [stage for stage in stages if not is_finished(run, stage.name)]
    for stage in todo:
        check_partial(run, stage.name)
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


def _serve(pipe: Connection) -> None:
    """A worker's life. One torch thread a process: two small trainings side by side beat one on two threads. Ctrl-C is
    the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=leave_with_parent, daemon=True).start()
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


def leave_with_parent() -> None:
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
