"""What the stages of ``test_training_stages.py`` do: in a file of its own, that spawned processes can import."""

import os
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from branchwise.training.pool import run_stages
from branchwise.training.stages import Stage, StageContext, read_from

NEVER = 60.0  # seconds; longer than any test waits


def write(context: StageContext, read: Sequence[str] = (), add: int = 0, meet: str = "") -> dict[str, Any]:
    """Writes the sum of ``add`` and the numbers of the stages in ``read``; returns when it started and ended.
    With ``meet``, a file, it goes on only while another stage is at work that has written its name there."""
    start = time.time()
    numbers = [int((context.run / name / "number").read_text()) for name in read]
    number = sum(numbers) + add
    if meet:
        _meet(Path(meet), context.folder.name)
    context.tell(1, 2, "half")
    (context.folder / "number").write_text(str(number))
    context.tell(2, 2, "")
    return {"number": number, "start": start, "end": time.time()}


def _meet(place: Path, name: str) -> None:
    with place.open("a") as file:
        file.write(f"{name}\n")
    deadline = time.monotonic() + NEVER
    while len(place.read_text().splitlines()) < 2:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name} was alone")
        time.sleep(0.01)


def raise_error(context: StageContext) -> dict[str, Any]:
    (context.folder / "half").write_text("half")
    raise ValueError("no data in row 7")


def read_damaged(context: StageContext) -> dict[str, Any]:
    """Reads a number from the folder of another stage, where there is none."""
    return {"number": read_from(context.run / "first", lambda folder: int((folder / "number").read_text()))}


def kill_itself_once(context: StageContext, mark: Path) -> dict[str, Any]:
    """Dies as a process that runs out of memory does, unless the file ``mark`` stands."""
    (context.folder / "half").write_text("half")
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"files": sorted(path.name for path in context.folder.iterdir())}


def leave(context: StageContext, signal: int = 0, code: int = 0) -> dict[str, Any]:
    """Ends its process as compiled code can: by an exit code, or by a signal of its own."""
    if signal:
        os.kill(os.getpid(), signal)
    os._exit(code)


def wait_for_ever(context: StageContext, mark: Path) -> dict[str, Any]:
    mark.write_text(str(os.getpid()))
    time.sleep(NEVER)
    return {}


class Silent:
    def started(self, stage: str) -> None: ...
    def repeated(self, stage: str, why: str) -> None: ...
    def moved(self, stage: str, done: float, total: float, note: str) -> None: ...
    def finished(self, stage: str, figures: object, seconds: float) -> None: ...


def a_run_that_waits(run: Path, mark: Path) -> list[Stage]:
    return [Stage("quick", partial(write, add=3)), Stage("long", partial(wait_for_ever, mark=mark), ("quick",))]


def run_and_wait(run: str, mark: str) -> None:
    run_stages(a_run_that_waits(Path(run), Path(mark)), Path(run), Silent())
