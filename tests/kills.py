"""Kills at random times: the stages of a smoke run, and a search into a file, ended by ``kill -9`` and begun again
until they are done; then every file must be that of an uninterrupted run. Prints a line for each run and a summary;
exit code 1 where a file differs.

    python tests/kills.py --times 200 [--seed 0] [--what loop|search|both]

The stages are those of ``branchwise loop smoke``, one after the other in a forked process, so that a kill costs no
start of Python and falls into the work: two kills are aimed at each stage, at a random moment of the seconds that it
takes. Moments are drawn from ``--seed``; what is being written then depends on the machine.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import transformers
from crash_points import comparable
from disk import in_a_child

from branchwise.envs.play.transcript import observed
from branchwise.envs.registry import simulator_for
from branchwise.search import resume
from branchwise.search.engine import Root, SearchSettings
from branchwise.search.evaluation import RandomRollout
from branchwise.search.locks import only_writer
from branchwise.training.loop.config import load_config
from branchwise.training.loop.graph import stages_of
from branchwise.training.stages import do_stage, figures

SMALL = ["recipes=[rft, step_dpo]", "search_recipe=''", "validation_goals=2", "test_goals=3", "base.demonstrations=600"]


def loop(root: Path) -> None:
    run = root / "run"
    run.mkdir(exist_ok=True)
    with only_writer(run):
        for stage in stages_of(load_config("smoke", SMALL)):
            do_stage(stage, run, lambda *_: None)


def search(root: Path) -> None:
    resume.SECONDS_BETWEEN_SAVES = 0.02
    game = simulator_for("branchwise/TicTacToe-v0")
    roots = []
    for seed in range(3):
        state = game.reset(seed)
        words = (observed(game.observation(state, 0)),)
        roots.append(Root(state, words, {"env_id": "branchwise/TicTacToe-v0", "seed": seed, "options": {}}))
    settings = SearchSettings(selection="uct", simulations=400, solve=False)
    resume.search_into(root / "trees.parquet", game, roots, None, RandomRollout(), settings, np.random.default_rng(0))


WORK = {"loop": loop, "search": search}


def digests(root: Path) -> dict[str, str]:
    timed = re.compile(rb'("seconds(_per_decision)?": |, "seconds)[^,}\n]*')
    return {name: hashlib.sha256(timed.sub(b"", content)).hexdigest() for name, content in comparable(root).items()}


def killed(work: Callable[[Path], None], root: Path, seconds: float, stage: Path | None = None) -> bool:
    """Do the work in a child and kill it so long after its start, or after the start of a stage; whether that came
    before its end."""
    process = os.fork()
    if not process:
        code = 1
        try:
            work(root)
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    deadline = time.monotonic() + seconds if stage is None else None
    while deadline is None or time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            if status:
                raise SystemExit(f"{root}: the run failed after a kill, with status {status}")
            return False
        if deadline is None and stage is not None and (stage.exists() or under_way(stage).exists()):
            deadline = time.monotonic() + seconds
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    return os.WIFSIGNALED(status)


def under_way(stage: Path) -> Path:
    return stage.with_name(f"{stage.name}.partial")


def where(root: Path) -> str:
    """The stage in which a kill fell."""
    run = root / "run"
    under_way = [str(path.relative_to(run))[: -len(".partial")] for path in run.rglob("*.partial")]
    return under_way[0] if under_way else "between stages"


def aims(name: str, whole: Path, root: Path) -> list[tuple[Path | None, float]]:
    """The stage that a kill is aimed at, and the longest delay after its start: for one run, twice each stage."""
    if name == "search":
        return [(None, 0.8)] * 20
    names = [stage.name for stage in stages_of(load_config("smoke", SMALL))]
    return [(root / "run" / stage, figures(whole / "run", stage)["seconds"]) for stage in names for _ in "12"]


def kill(name: str, times: int, rng: np.random.Generator, scratch: Path) -> dict[str, object]:
    work = WORK[name]
    whole = scratch / f"{name}-whole"
    whole.mkdir()
    if in_a_child(lambda: work(whole)):
        raise SystemExit(f"the uninterrupted {name} failed")
    reference = digests(whole)
    kills, runs = 0, 0
    places: Counter[str] = Counter()
    differing: list[str] = []
    while kills < times:
        root = scratch / f"{name}-{runs}"
        root.mkdir()
        for stage, longest in aims(name, whole, root):
            if stage is not None and stage.exists():
                continue  # done before the kill came
            if killed(work, root, longest * rng.random(), stage):
                kills += 1
                places[where(root) if name == "loop" else "search"] += 1
        if in_a_child(lambda root=root: work(root)):
            raise SystemExit(f"{root}: the run failed after kills")
        found = digests(root)
        differing += [f"{name} {runs}: {n}" for n in reference.keys() | found if reference.get(n) != found.get(n)]
        shutil.rmtree(root)
        runs += 1
        print(f"{name}: {min(kills, times)} of {times} kills, {runs} runs", file=sys.stderr, flush=True)
    return {"what": name, "kills": kills, "runs": runs, "files": len(reference), "in": places, "differing": differing}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--times", type=int, default=200, help="kills of each kind of work")
    parser.add_argument("--seed", type=int, default=0, help="of the delays")
    parser.add_argument("--what", choices=[*WORK, "both"], default="both")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")  # jax says so where it is installed, unused
    torch.set_num_threads(1)  # and no other thread is started before the forks
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    memory = Path("/dev/shm")
    scratch = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    try:
        failed = False
        for name in WORK if asked.what == "both" else [asked.what]:
            found = kill(name, asked.times, np.random.default_rng(asked.seed), scratch)
            failed = failed or bool(found["differing"])
            print(json.dumps(found), flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
