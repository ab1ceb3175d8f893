"""Runs of stages: order, what stands after a failure, and going on after it. Processes are spawned as in a real run."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from branchwise.training.loop.run import write_metrics
from branchwise.training.pool import run_stages
from branchwise.training.stages import (
    FIGURES,
    DamagedStage,
    Stage,
    StageContext,
    StageFailed,
    do_stage,
    figures,
    is_finished,
)

HERE = Path(__file__).parent


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``stage_functions.py``, on the path for this process and for those that it spawns."""
    monkeypatch.syspath_prepend(str(HERE))
    import stage_functions

    return stage_functions


class Heard:
    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def started(self, stage: str) -> None:
        self.said.append(("started", stage))

    def moved(self, stage: str, done: float, total: float, note: str) -> None:
        self.said.append(("moved", stage, done, total))

    def repeated(self, stage: str, why: str) -> None:
        self.said.append(("repeated", stage, why))

    def finished(self, stage: str, figures: Mapping[str, Any], seconds: float) -> None:
        assert seconds >= 0
        self.said.append(("finished", stage, figures.get("number")))

    def of(self, kind: str) -> list[str]:
        return [said[1] for said in self.said if said[0] == kind]


def quiet(done: float, total: float, note: str) -> None:
    pass


def counting(context: StageContext, calls: list[list[str]]) -> dict[str, Any]:
    calls.append(sorted(path.name for path in context.folder.iterdir()))
    (context.folder / "made").write_text("whole")
    return {"n": len(calls)}


# In this process.


def test_a_partial_folder_is_made_anew_and_a_finished_one_left(tmp_path: Path) -> None:
    calls: list[list[str]] = []
    stage = Stage("a/b", partial(counting, calls=calls))
    under_way = tmp_path / "a" / "b.partial"
    under_way.mkdir(parents=True)
    (under_way / "left").write_text("half")
    assert not is_finished(tmp_path, "a/b")
    for _ in range(2):
        do_stage(stage, tmp_path, quiet)
        assert calls == [[]]  # done once, in an empty folder
        assert {**figures(tmp_path, "a/b"), "seconds": 0} == {"n": 1, "seconds": 0}
        assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == [FIGURES, "made"]
        assert not under_way.exists()


def test_a_stage_that_raises_leaves_its_traceback_and_no_finished_folder(tmp_path: Path, work: ModuleType) -> None:
    with pytest.raises(RuntimeError, match=r"ValueError: no data in row 7 \(traceback: .*bad\.partial/error\.txt\)"):
        do_stage(Stage("bad", work.raise_error), tmp_path, quiet)
    assert not is_finished(tmp_path, "bad")
    assert not (tmp_path / "bad").exists()
    told = (tmp_path / "bad.partial" / "error.txt").read_text()
    assert "in raise_error" in told
    assert told.endswith("ValueError: no data in row 7\n")


@pytest.mark.parametrize(
    ("names_and_needs", "message"),
    [
        ([("a", ("c", "b")), ("b", ())], r"stage 'a' needs \['c'\], which no stage of this run makes"),
        ([("a", ("b",)), ("b", ("a",)), ("c", ())], r"stages \['a', 'b'\] wait for each other"),
        ([("a", ("a",))], r"stages \['a'\] wait for each other"),
        ([("a", ()), ("b", ()), ("a", ())], r"stages \['a'\] are there more than once"),
        ([("a", ()), ("a/b/c", ())], r"stage 'a/b/c' lies in the folder of stage 'a'"),
    ],
)
def test_stages_that_cannot_all_be_done_are_refused_before_any_is(
    tmp_path: Path, names_and_needs: list[tuple[str, tuple[str, ...]]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run_stages([Stage(name, counting, needs) for name, needs in names_and_needs], tmp_path, Heard())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", ": not JSON (it is empty)"),
        (b"null", " holds NoneType, not an object of figures"),
        (b"[1]", " holds list"),
        (b'{"n": 1', ": not JSON (Expecting"),
        (b"\x00\xff\xfe", ": not UTF-8 ("),
        (b"[" * 200_000, ": not JSON that can be read (brackets nested too deeply)"),
    ],
)
def test_a_damaged_stage_is_named_with_its_cure_before_any_work(tmp_path: Path, content: bytes, fault: str) -> None:
    calls: list[list[str]] = []
    stages = [Stage("good", partial(counting, calls=calls)), Stage("next", counting, ("good",))]
    do_stage(stages[0], tmp_path, quiet)
    (tmp_path / "good" / FIGURES).write_bytes(content)
    with pytest.raises(DamagedStage) as damaged:
        run_stages(stages, tmp_path, Heard())
    said = str(damaged.value)
    assert "\n" not in said
    assert said.startswith(f"{tmp_path / 'good' / FIGURES}{fault}")
    assert said.endswith(f"delete the folder {tmp_path / 'good'} and run the same command again")
    assert isinstance(damaged.value, ValueError)  # bad input: exit code 2
    shutil.rmtree(tmp_path / "good")
    do_stage(stages[0], tmp_path, quiet)
    assert len(calls) == 2


def test_what_no_stage_has_made_is_never_deleted(tmp_path: Path) -> None:
    stage = Stage("papers", partial(counting, calls=[]))
    thesis = tmp_path / "papers" / "thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("ten years")
    for attempt in (lambda: do_stage(stage, tmp_path, quiet), lambda: run_stages([stage], tmp_path, Heard())):
        with pytest.raises(ValueError, match=r"papers exists and has no figures.json.*move or delete it"):
            attempt()
    assert thesis.read_text() == "ten years"
    assert [path.name for path in tmp_path.iterdir()] == ["papers"]


@pytest.mark.parametrize("kind", ["folder", "file", "nothing"])
def test_a_link_in_place_of_the_folder_under_way_is_not_followed(kind: str, tmp_path: Path) -> None:
    run, target = tmp_path / "run", tmp_path / "target"
    run.mkdir()
    if kind == "folder":
        target.mkdir()
        (target / "thesis.tex").write_text("ten years")
    elif kind == "file":
        target.write_text("ten years")
    (run / "a.partial").symlink_to(target)
    stage = Stage("a", partial(counting, calls=[]))
    for attempt in (lambda: do_stage(stage, run, quiet), lambda: run_stages([stage], run, Heard())):
        with pytest.raises(ValueError, match=r"a\.partial is a link, .* move or delete it"):
            attempt()
    assert (run / "a.partial").is_symlink()
    assert [path.name for path in target.rglob("*")] == (["thesis.tex"] if kind == "folder" else [])


def test_links_in_a_folder_under_way_are_removed_and_not_what_they_lead_to(tmp_path: Path) -> None:
    run, target = tmp_path / "run", tmp_path / "target"
    (run / "a.partial").mkdir(parents=True)
    target.mkdir()
    (target / "thesis.tex").write_text("ten years")
    for name in ("model", "parts"):
        (run / "a.partial" / name).symlink_to(target)
    calls: list[list[str]] = []
    do_stage(Stage("a", partial(counting, calls=calls)), run, quiet)
    assert calls == [[]]
    assert (target / "thesis.tex").read_text() == "ten years"
    assert sorted(path.name for path in (run / "a").iterdir()) == [FIGURES, "made"]


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        ({"validation_success": "high"}, "validation_success is 'high', and a number is expected"),
        ({"model_calls": 10**400}, "model_calls is 10{39}"),
        ({"anything": -(10**400)}, "anything is -10{38}, which no float holds"),
        ({"seconds": None}, "seconds is None, and a number is expected"),
        ({"rows": True}, "rows is True, and a number is expected"),
        ({"success": math.nan}, "success is nan, and a number is expected"),
        ({"promoted": "yes"}, "promoted is 'yes', and true or false is expected"),
        ({"dropped": {"tie": "many"}}, "dropped is {'tie': 'many'}, and numbers by name are expected"),
        ({"chosen_kinds": [1]}, r"chosen_kinds is \[1\], and numbers by name"),
        ({"candidates": {"learning_rate": 1}}, "candidates is .*, and a list of objects is expected"),
        ({"candidates": [{"validation_success": "x"}]}, "a candidate's validation_success is 'x', and a number"),
    ],
)
def test_a_figure_that_no_table_can_show_is_named(found: dict[str, Any], fault: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / FIGURES).write_text(json.dumps(found))
    with pytest.raises(DamagedStage, match=rf"a/figures\.json: {fault}.*; delete the folder"):
        figures(tmp_path, "a")


def test_figures_that_could_not_be_measured_are_null_in_json_that_every_parser_reads(tmp_path: Path) -> None:
    measured = {"auc": math.nan, "candidates": [{"loss": math.inf}], "error": 0.5, "rows": 3, "stopped": ""}
    stage = Stage("a", lambda context: measured)
    do_stage(stage, tmp_path, quiet)
    write_metrics(tmp_path, [stage])
    read = [json.loads(path.read_text(), parse_constant=pytest.fail) for path in tmp_path.glob("**/*.json*")]
    assert len(read) == 2
    for found in read:
        assert measured | {"auc": None, "candidates": [{"loss": None}]} == {name: found[name] for name in measured}


def test_a_figure_that_could_not_be_measured_is_none_or_nan(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    known = {"auc": math.nan, "chosen_logp_per_token": None, "stopped": "the loss was nan", "loss": 0.5}
    (tmp_path / "a" / FIGURES).write_text(json.dumps({**known, "candidates": [known]}))
    assert figures(tmp_path, "a")["stopped"] == "the loss was nan"


HOSTILE = [
    "", ".", "..", "../../x", "/etc", "a//b", "a/../b", "a/", "/", "a\\b", "C:", "a\0b", "a.", "a ", " a", "-a", "a\nb",
    "x" * 300, "con", "NUL", "Com1", "a\u202eb", "~", "$HOME", "a*", "a?",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_stage_s_name_that_is_no_plain_path_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="names a folder; expected 1 to 64 letters, digits"):
        run_stages([Stage(name, counting)], tmp_path, Heard())
    assert not list(tmp_path.iterdir())


def test_two_stages_that_differ_in_case_alone_share_a_folder_on_some_systems_and_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"stages \['RFT', 'rft'\] are there more than once"):
        run_stages([Stage("rft", counting), Stage("RFT", counting)], tmp_path, Heard())


# In spawned processes.


def test_stages_wait_for_what_they_need_and_a_finished_run_is_not_done_again(tmp_path: Path, work: ModuleType) -> None:
    place = str(tmp_path / "meeting")
    stages = [
        Stage("sum", partial(work.write, read=("left", "right"), add=1), ("left", "right")),
        Stage("left", partial(work.write, read=("first",), add=10, meet=place), ("first",)),
        Stage("right", partial(work.write, read=("first",), add=100, meet=place), ("first",)),
        Stage("first", partial(work.write, add=1000)),
    ]
    heard = Heard()
    run_stages(stages, tmp_path, heard, workers=2)
    found = {stage.name: figures(tmp_path, stage.name) for stage in stages}
    numbers = {name: one["number"] for name, one in found.items()}
    assert numbers == {"first": 1000, "left": 1010, "right": 1100, "sum": 2111}
    for stage in stages:
        assert all(found[need]["end"] <= found[stage.name]["start"] for need in stage.needs)
    assert heard.of("started")[0] == "first"
    assert heard.of("started")[-1] == heard.of("finished")[-1] == "sum"
    assert set(heard.of("started")) == set(heard.of("finished")) == set(found)
    for name, one in found.items():
        assert heard.said.index(("moved", name, 2, 2)) < heard.said.index(("finished", name, one["number"]))

    again = Heard()
    run_stages(stages, tmp_path, again, workers=2)
    assert again.said == []
    assert {stage.name: figures(tmp_path, stage.name) for stage in stages} == found


def test_a_stage_that_fails_is_named_and_the_others_stand(tmp_path: Path, work: ModuleType) -> None:
    stages = [
        Stage("good", partial(work.write, add=5)),
        Stage("bad", work.raise_error, ("good",)),
        Stage("slow", partial(work.wait_for_ever, mark=tmp_path / "slow_started"), ("good",)),
        Stage("after", partial(work.write, read=("good",)), ("bad",)),
    ]
    with pytest.raises(StageFailed, match="stage 'bad': ValueError: no data in row 7"):
        run_stages(stages, tmp_path, Heard(), workers=2)
    finished = [stage.name for stage in stages if is_finished(tmp_path, stage.name)]
    assert finished == ["good"]  # "slow" would be, had the run waited for it
    before = figures(tmp_path, "good")

    mended = [stages[0], Stage("bad", partial(work.write, add=6), ("good",)), stages[3]]
    heard = Heard()
    run_stages(mended, tmp_path, heard, workers=2)
    assert heard.of("started") == ["bad", "after"]
    assert figures(tmp_path, "good") == before
    assert figures(tmp_path, "after")["number"] == 5
    assert not (tmp_path / "bad.partial").exists()
    assert not (tmp_path / "bad" / "half").exists()


def test_a_stage_that_finds_another_damaged_ends_the_run_as_bad_input(tmp_path: Path, work: ModuleType) -> None:
    stages = [Stage("first", work.write), Stage("next", work.read_damaged, ("first",))]
    do_stage(stages[0], tmp_path, quiet)
    (tmp_path / "first" / "number").write_text("se")
    with pytest.raises(DamagedStage, match=r"stage 'next': .*first is damaged \(ValueError.*delete this folder"):
        run_stages(stages, tmp_path, Heard(), workers=1)


def test_a_stage_whose_process_was_killed_is_done_once_more(tmp_path: Path, work: ModuleType) -> None:
    mark = tmp_path / "died"
    stages = [Stage("dies", partial(work.kill_itself_once, mark=mark)), Stage("next", work.write, ("dies",))]
    heard = Heard()
    run_stages(stages, tmp_path, heard, workers=1)
    assert mark.exists()
    assert {**figures(tmp_path, "dies"), "seconds": 0} == {"files": ["half"], "seconds": 0}
    assert heard.said[:3] == [
        ("started", "dies"),
        ("repeated", "dies", "the process that ran 'dies' was killed (out of memory?)"),
        ("finished", "dies", None),
    ]
    assert heard.of("finished") == ["dies", "next"]


def test_a_stage_whose_process_is_killed_twice_ends_the_run(tmp_path: Path, work: ModuleType) -> None:
    stages = [Stage("dies", partial(work.leave, signal=signal.SIGKILL))]
    heard = Heard()
    with pytest.raises(StageFailed, match=r"'dies' was killed \(out of memory\?\), twice; run the same command again"):
        run_stages(stages, tmp_path, heard, workers=1)
    assert heard.of("repeated") == ["dies"]
    assert not is_finished(tmp_path, "dies")


@pytest.mark.parametrize("place", [0, 1])
def test_a_killed_process_is_noticed_at_once_beside_another_that_works(
    tmp_path: Path, work: ModuleType, place: int
) -> None:
    """Two sleeping stages, the process of one of them killed from outside: its second process is at work while the
    other sleeps, and when that is killed too the run ends, and the other with it, before it has slept enough."""
    marks = [tmp_path / "mark_0", tmp_path / "mark_1"]
    stages = [Stage(f"sleeps_{i}", partial(work.wait_for_ever, mark=mark)) for i, mark in enumerate(marks)]

    def kill(times: int) -> None:
        for _ in range(times):
            for mark in marks:
                _when_written(mark)
            pid = int(marks[place].read_text())
            marks[place].unlink()
            os.kill(pid, signal.SIGKILL)

    heard = Heard()
    killer = threading.Thread(target=kill, args=(2,))
    killer.start()
    with pytest.raises(StageFailed, match=f"the process that ran 'sleeps_{place}' was killed"):
        run_stages(stages, tmp_path / "run", heard, workers=2)
    killer.join()
    assert heard.of("repeated") == [f"sleeps_{place}"]
    assert heard.of("finished") == []
    assert _ends(int(marks[1 - place].read_text()))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"code": 7}, r"the process that ran 'dies' ended with exit code 7; its output is on the standard error"),
        ({"signal": signal.SIGSEGV}, r"the process that ran 'dies' was ended by SIGSEGV"),
    ],
)
def test_a_process_that_ends_by_itself_is_told_with_what_is_known(
    arguments: dict[str, int], told: str, tmp_path: Path, work: ModuleType
) -> None:
    with pytest.raises(StageFailed, match=told) as failed:
        run_stages([Stage("dies", partial(work.leave, **arguments))], tmp_path, Heard(), workers=1)
    assert "memory" not in str(failed.value)


def test_processes_that_die_while_they_start_are_not_called_killed(tmp_path: Path, work: ModuleType) -> None:
    """A script whose call stands outside ``if __name__ == "__main__"``: each worker runs it again and dies of that."""
    script = (
        "import sys\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[1])\nimport stage_functions as work\n"
        "work.run_stages([work.Stage('first', work.write)], Path(sys.argv[2]), work.Silent(), workers=1)\n"
    )
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, str(tmp_path / "script.py"), str(HERE), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=work.NEVER)
    assert done.returncode == 1
    last = done.stderr.rstrip().rpartition("\n")[2]
    assert "StageFailed: the process for 'first' ended with exit code 1 while it started" in last
    assert "if __name__ == '__main__'" in last
    assert "memory" not in last


def test_work_that_no_other_process_can_import_is_a_failure_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"stage 'local': .*pickle"):
        run_stages([Stage("local", lambda context: {})], tmp_path, Heard(), workers=1)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill -9"])
def test_what_is_finished_stands_after_the_whole_run_is_ended(
    tmp_path: Path, work: ModuleType, sign: signal.Signals
) -> None:
    """By Ctrl-C the run ends as an interrupt; after either no worker stays to write on."""
    run, mark = tmp_path / "run", tmp_path / "mark"
    script = (
        "import sys\nsys.path.insert(0, sys.argv[1])\nimport stage_functions\n"
        "if __name__ == '__main__': stage_functions.run_and_wait(*sys.argv[2:])"
    )
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, str(tmp_path / "script.py"), str(HERE), str(run), str(mark)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        worker = int(_when_written(mark))
        os.kill(process.pid, sign)
        _, said = process.communicate(timeout=work.NEVER / 2)
    assert process.returncode == -sign  # Python dies of the interrupt that nobody caught
    assert ("KeyboardInterrupt" in said) == (sign == signal.SIGINT)
    assert _ends(worker)
    assert is_finished(run, "quick")
    assert figures(run, "quick")["number"] == 3
    assert not is_finished(run, "long")


def _when_written(path: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists() and (text := path.read_text()):
            return text
        time.sleep(0.05)
    raise TimeoutError(f"{path} was not written")


def _ends(pid: int) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/status")
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if status.exists() and "State:\tZ" in status.read_text():
            return True
        time.sleep(0.05)
    return False
