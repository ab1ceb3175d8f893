"""A run as a folder of stages: what is finished stays finished, whatever happens to the process.

A stage is a name, the stages that it needs, and a function that writes files into a folder and returns figures. The
folder has a temporary name until the function has returned and all is on disk; then it is renamed to the stage's name
(``search.files.publish``). A finished stage is not done again, so a run that was killed at any point resumes where it
was, and, as each stage draws from a generator of its own, ends as it would have ended. A long stage may write finished
parts of its work into ``context.parts``, which outlive a kill, and read them from there.

What it does not do: run stages side by side (``pool.py``), lock the folder (``search.locks.only_writer``).
"""

import math
import os
import re
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol, TypeVar

from ..envs.json_files import json_text, read_json
from ..search.files import atomically, make_folder, publish, sync

T = TypeVar("T")

FIGURES = "figures.json"
PARTS = "parts"
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
    *("parameters", "episodes", "model_calls", "prompts", "tokens", "seconds", "learning_rate", "loss"),
)
"""Figures that tables and reports show as numbers, whichever stage returns them."""
SCORES: Final = ("validation_success", "validation_reward")
"""By one of these a run chooses its models (``RunConfig.outcome``)."""
UNKNOWN: Final = ("chosen_logp_per_token", "explained_variance", "auc", "error", "loss")
"""Those of them that may be null or NaN: there was nothing to measure."""
COUNTERS: Final = ("dropped", "chosen_kinds", "rejected_kinds", "not_judged")
LABELS: Final = (
    *("pairs", "right", "right_low", "right_high", "tied", "tied_low", "tied_high", "wrong", "wrong_low", "wrong_high"),
    *("clearly_right", "clearly_wrong", "claimed", "measured"),
)
"""The figures of a row of an audit, beside ``of``, what it is of (``labels.label_table``)."""


def best_tried(found: Mapping[str, Any]) -> dict[str, Any]:
    """Of the settings that a round tried the one that did best on validation tasks; empty where none was tried."""
    candidates: Sequence[dict[str, Any]] = found.get("candidates") or ({},)
    return max(candidates, key=validation_score)


def validation_score(found: Mapping[str, Any]) -> float:
    """The figure on validation tasks by which a run chooses; −∞ where there is none."""
    return next((found[name] for name in SCORES if name in found), -math.inf)


def figure_fault(found: Mapping[str, Any]) -> str:
    """What is wrong with the figures of a stage, else ""."""
    for name, value in found.items():
        if type(value) is int and not is_number(value):
            return f"{name} is {value!r:.40}, which no float holds"
        if name in NUMBERS and not is_number(value) and not (name in UNKNOWN and _is_unknown(value)):
            return f"{name} is {value!r:.40}, and a number is expected"
        if name == "promoted" and not isinstance(value, bool):
            return f"promoted is {value!r:.40}, and true or false is expected"
        if name == "labels" and (fault := label_fault(value)):
            return fault
        if name in COUNTERS and not (isinstance(value, dict) and all(map(is_number, value.values()))):
            return f"{name} is {value!r:.40}, and numbers by name are expected"
        if name == "candidates":
            if not isinstance(value, list) or not all(isinstance(candidate, dict) for candidate in value):
                return f"candidates is {value!r:.40}, and a list of objects is expected"
            if fault := next(filter(None, map(figure_fault, value)), ""):
                return f"a candidate's {fault}"
    return ""


def label_fault(rows: Any) -> str:
    """What is wrong with the rows of an audit, else ""."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return f"labels is {rows!r:.40}, and a list of objects is expected"
    for row in rows:
        if not isinstance(row.get("of"), str) or not all(is_number(row.get(name)) for name in LABELS):
            return f"a row of labels is {row!r:.60}, and the figures of an audit are expected"
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


def check_stage_folder(run: Path, stage: str) -> None:
    """Raises ``ValueError`` where a stage's name is taken by what no stage has made, or is damaged."""
    if is_finished(run, stage):
        figures(run, stage)
    elif os.path.lexists(run / stage):
        raise ValueError(
            f"{run / stage} exists and has no {FIGURES}, so it is no finished stage; nothing is deleted that this run "
            "may not have made: move or delete it and run the same command again"
        )


def check_partial(run: Path, stage: str) -> None:
    """Raises ``ValueError`` where the folder of a stage under way, which is emptied, would be somebody else's."""
    partial = partial_folder(run / stage)
    if os.path.lexists(partial) and (partial.is_symlink() or not partial.is_dir()):
        what = "a link" if partial.is_symlink() else "no folder"
        raise ValueError(
            f"{partial} is {what}, and a stage under way has a folder there, which is emptied before it begins anew; "
            "move or delete it and run the same command again"
        )


def do_stage(stage: Stage, run: Path, tell: Callable[[float, float, str], None]) -> None:
    """Do one stage here, in this process, unless it is finished."""
    if is_finished(run, stage.name):
        return
    check_stage_folder(run, stage.name)
    check_partial(run, stage.name)
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
