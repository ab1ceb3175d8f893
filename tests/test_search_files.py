"""Files and folders are whole or not there: a process that ends before any change of the file system leaves what was
there or what was to be, and nothing beside it for ever."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from branchwise.search import files
from branchwise.search.files import atomically, recover, sweep, write_folder
from branchwise.search.locks import only_writer

POINTS = ["os.replace", "os.fsync", "os.open", "shutil.rmtree", "Path.mkdir", "Path.unlink", "Path.write_text"]


def ended_before(point: int, work: Callable[[], Any], exchange: bool = True) -> bool:
    """Whether a process that does ``work`` and ends without a word before its ``point``-th change of the file system
    got so far."""
    child = os.fork()
    if child == 0:
        done = 0

        def counted(change: Callable[..., Any]) -> Callable[..., Any]:
            def change_or_end(*arguments: Any, **options: Any) -> Any:
                nonlocal done
                if done == point:
                    os._exit(9)
                done += 1
                return change(*arguments, **options)

            return change_or_end

        homes = {"os": os, "shutil": shutil, "Path": Path}
        for name in POINTS:
            home, _, change = name.partition(".")
            setattr(homes[home], change, counted(getattr(homes[home], change)))
        files._exchange = counted(files._exchange) if exchange else lambda *_: False  # type: ignore[assignment]
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9)
    return status == 9


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_a_file_is_old_or_new_wherever_its_writer_ends(tmp_path: Path) -> None:
    path = tmp_path / "trees.parquet"

    def write(text: str) -> None:
        with atomically(path) as temporary:
            temporary.write_text(text)

    point = 0
    while True:
        write("old")
        if not ended_before(point, lambda: write("new")):
            break
        assert path.read_text() in ("old", "new")
        write("newer")
        assert path.read_text() == "newer"
        assert hidden(tmp_path) == []
        point += 1
    assert point >= 4
    assert path.read_text() == "new"


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_old_or_new_wherever_its_writer_ends(exchange: bool, tmp_path: Path) -> None:
    folder = tmp_path / "model"

    def fill(text: str) -> Callable[[Path], None]:
        def write(target: Path) -> None:
            for name in ("config.json", "weights"):
                (target / name).write_text(text)

        return write

    def content() -> set[str]:
        return {(folder / name).read_text() for name in ("config.json", "weights")}

    point = gone = 0
    while True:
        write_folder(folder, fill("old"))
        if not ended_before(point, lambda: write_folder(folder, fill("new")), exchange):
            break
        gone += not folder.exists()
        recover(folder)  # as loading a model does
        assert content() in ({"old"}, {"new"})
        write_folder(folder, fill("newer"))
        assert content() == {"newer"}
        assert hidden(tmp_path) == []
        point += 1
    assert point >= 8
    assert content() == {"new"}
    assert (gone == 0) == (exchange and sys.platform == "linux")  # else a moment between two renames


def test_a_folder_s_first_writer_leaves_nothing_or_all(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    point = 0
    while ended_before(point, lambda: write_folder(folder, lambda target: (target / "weights").write_text("new"))):
        if folder.exists():
            assert (folder / "weights").read_text() == "new"
            shutil.rmtree(folder)
        sweep(folder)
        assert list(tmp_path.iterdir()) == []
        point += 1
    assert point >= 4


def test_left_overs_of_a_process_that_lives_stay(tmp_path: Path) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        mine = tmp_path / f".model.{files._host()}.{sleeper.pid}.tmp"
        mine.mkdir()
        (tmp_path / f".trees.parquet.{sleeper.pid}.tmp").touch()  # as the version before named them
        for name in ("model", "trees.parquet"):
            sweep(tmp_path / name)
        assert len(hidden(tmp_path)) == 2
    finally:
        sleeper.kill()
        sleeper.wait()
    for name in ("model", "trees.parquet"):
        sweep(tmp_path / name)
    assert hidden(tmp_path) == []


def test_left_overs_of_another_host_stay_for_a_day(tmp_path: Path) -> None:
    other = tmp_path / ".model.elsewhere.1.tmp"
    other.mkdir()
    sweep(tmp_path / "model")
    assert other.exists()
    two_days_ago = time.time() - 2 * 86_400
    os.utime(other, (two_days_ago, two_days_ago))
    sweep(tmp_path / "model")
    assert not other.exists()


@pytest.mark.parametrize("name", ["a" * 255, "é" * 127])
def test_every_name_that_the_file_system_takes_can_be_written(name: str, tmp_path: Path) -> None:
    for path in (tmp_path / "file" / name, tmp_path / "folder" / name):
        path.parent.mkdir()
        left_over = files.hidden_beside(path, "elsewhere.1.tmp")
        left_over.touch()
        os.utime(left_over, (0, 0))
        with only_writer(path):
            if path.parent.name == "folder":
                write_folder(path, lambda target: (target / "weights").write_text("whole"))
            else:
                with atomically(path) as temporary:
                    temporary.write_text("whole")
        assert [found.name for found in path.parent.iterdir()] == [name]


def test_other_names_are_left_alone(tmp_path: Path) -> None:
    names = [".model", ".model.tmp", ".model.x.tmp", ".model2.3999999.tmp", "model.3999999.tmp", ".a.model.3999999.tmp"]
    for name in names:
        (tmp_path / name).touch()
    sweep(tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_a_writer_that_fails_leaves_the_earlier_folder(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", lambda target: (target / "weights").write_text("old"))

    def fail(target: Path) -> None:
        (target / "weights").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(folder, fail)
    assert (folder / "weights").read_text() == "old"
    assert hidden(tmp_path) == []
