"""Crashes before every change of the file system, and power cuts there, for the work named on the command line; each is
followed by the same work again, which must leave the files of an uninterrupted run. Prints a JSON object.

    python tests/crash_points.py stages|search|folder [unsynced]

With ``unsynced`` nothing is synced before it gets its name, to show that the power cuts would find that. In a process
of its own, which forks one for each point: forking is safe here, where nothing has started threads.
"""

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from disk import CRASHED, Disk, files, in_a_child

import branchwise.search.files
import branchwise.training.stages
from branchwise.envs.play.transcript import acted, observed
from branchwise.envs.registry import simulator_for
from branchwise.search import resume
from branchwise.search.engine import Root, SearchSettings
from branchwise.search.evaluation import RandomRollout
from branchwise.search.extraction import PreferencePair
from branchwise.search.files import atomically, make_folder, write_folder
from branchwise.search.locks import only_writer
from branchwise.search.records import load_pairs, save_pairs
from branchwise.training.stages import FIGURES, Stage, StageContext, check_stages, do_stage, figures


def pair(number: int) -> PreferencePair:
    return PreferencePair((observed(f"page {number}"),), (acted("buy"),), (acted("leave"),), 1.0, 0.0, 3, 2)


def collect(context: StageContext) -> dict[str, Any]:
    """Three parts, then all of them in one file, as a collection of trees is made."""
    rows = []
    for number in range(3):
        part = context.parts / f"{number}.jsonl"
        if not part.is_file():
            save_pairs(part, [pair(number)])
        rows += load_pairs(part)
    save_pairs(context.folder / "pairs.jsonl", rows)
    return {"rows": len(rows)}


def train(context: StageContext) -> dict[str, Any]:
    """A model's folder and a file that nobody syncs by himself, as a trainer leaves them."""
    rows = load_pairs(context.run / "round_1" / "pairs" / "pairs.jsonl")

    def write(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"weights " * len(rows))
        (folder / "inner").mkdir()
        (folder / "inner" / "tokenizer.json").write_text("{}")

    write_folder(context.folder / "model", write)
    (context.folder / "trainer").mkdir()
    (context.folder / "trainer" / "log.txt").write_text("loss 0.1")
    return {"rows": len(rows)}


def judge(context: StageContext) -> dict[str, Any]:
    weights = (context.run / "dpo" / "round_1" / "model" / "model" / "model.safetensors").read_bytes()
    return {"success": len(weights) / 100}


def stages(root: Path) -> None:
    """A loop in miniature: settings, three stages, metrics after each, a table."""
    run = root / "runs" / "small"
    graph = [
        Stage("round_1/pairs", collect),
        Stage("dpo/round_1/model", train, ("round_1/pairs",)),
        Stage("evaluation/dpo", judge, ("dpo/round_1/model",)),
    ]
    check_stages(graph)
    make_folder(run)
    with only_writer(run):
        if not (run / "config.yaml").exists():
            with atomically(run / "config.yaml") as path:
                path.write_text("seed: 0\n")
        assert (run / "config.yaml").read_text() == "seed: 0\n"
        for stage in graph:
            do_stage(stage, run, lambda *_: None)
            with atomically(run / "results.json") as path:
                path.write_text(json.dumps({s.name: figures(run, s.name) for s in graph if (run / s.name).is_dir()}))


def search(root: Path) -> None:
    """Two trees that are saved after each round of simulations."""
    resume.SECONDS_BETWEEN_SAVES = -1.0
    game = simulator_for("branchwise/TicTacToe-v0")
    roots = []
    for seed in range(2):
        state = game.reset(seed)
        words = (observed(game.observation(state, 0)),)
        roots.append(Root(state, words, {"env_id": "branchwise/TicTacToe-v0", "seed": seed, "options": {}}))
    settings = SearchSettings(selection="uct", simulations=6)
    resume.search_into(
        root / "out" / "trees.parquet", game, roots, None, RandomRollout(), settings, np.random.default_rng(0)
    )


def folder(root: Path) -> None:
    """A model's folder, written and then replaced."""

    def write(target: Path, text: str) -> None:
        for name in ("config.json", "model.safetensors"):
            (target / name).write_text(f"{name} {text}")

    for text in ("first", "second"):
        write_folder(root / "models" / "mine", lambda target, text=text: write(target, text))


def torn(disk: Path) -> str:
    """What is wrong with the model's folder as it was found, before anything was written again."""
    found = {path.name: path.read_text() for path in (disk / "models" / "mine").glob("*")}
    wholes = [{n: f"{n} {text}" for n in ("config.json", "model.safetensors")} for text in ("first", "second")]
    return "" if found in ({}, *wholes) else f"holds {found}"


WORK: dict[str, Callable[[Path], None]] = {"stages": stages, "search": search, "folder": folder}


def comparable(root: Path) -> dict[str, bytes]:
    """The files without what differs from run to run: the seconds that stages took."""
    timed = re.compile(rb',?\s*"seconds": [0-9.e-]+')
    return {
        name: timed.sub(b"", content) if name.endswith((FIGURES, "results.json")) else content
        for name, content in files(root).items()
    }


def main(name: str, unsynced: str = "") -> None:
    work = WORK[name]
    if unsynced:
        for module in (branchwise.search.files, branchwise.training.stages):
            module.sync = lambda path: None
    memory = Path("/dev/shm")  # where syncing costs nothing; the disk is made up here in any case
    scratch = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    try:
        whole = scratch / "whole"
        whole.mkdir()
        work(whole)  # in this process, so that the others find kernels compiled
        reference = comparable(whole)
        faults: list[str] = []
        point, tried = 1, 0
        while True:
            root, power = scratch / f"{point}", scratch / f"{point}.power"
            root.mkdir()

            def crashing(root: Path = root, power: Path = power, point: int = point) -> None:
                Disk(root, point, power)
                work(root)

            code = in_a_child(crashing)
            if code == 0:
                break
            if code != CRASHED:
                faults.append(f"change {point}: the run ended with exit code {code} before the crash")
                break
            for kind, disk in (("crash", root), ("old", power / "old"), ("new", power / "new")):
                tried += 1
                if name == "folder" and (wrong_at_once := torn(disk)):
                    faults.append(f"change {point}, {kind}: {wrong_at_once}")
                elif in_a_child(lambda disk=disk: work(disk)):
                    faults.append(f"change {point}, {kind}: the same work again failed")
                elif (found := comparable(disk)) != reference:
                    wrong = [n for n in reference.keys() | found.keys() if reference.get(n) != found.get(n)]
                    faults.append(f"change {point}, {kind}: {sorted(wrong)} differ")
            shutil.rmtree(root)
            shutil.rmtree(power)
            point += 1
        print(json.dumps({"points": point - 1, "tried": tried, "files": sorted(reference), "faults": faults}))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
