"""Kills in the loop of a family of environments: its smallest run (``test_training_families.tiny``), ended by ``kill
-9`` once in each stage that reports how far it is, where it first does (while it collects, a part of its work is on
disk then; while it trains, ``model.partial`` is), and begun again each time. Prints a JSON object: the stages that were
killed, the number of files, and those that differ from an uninterrupted run's.

    python tests/family_kills.py KuhnPoker

In a process of its own, which forks one for each kill: forking is safe here, where nothing has started threads.
"""

import json
import os
import shutil
import signal
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from disk import in_a_child
from kills import digests, where
from test_training_families import tiny

from branchwise.search.locks import only_writer
from branchwise.training.loop import collect
from branchwise.training.loop.config import RunConfig
from branchwise.training.loop.graph import stages_of
from branchwise.training.loop.recipe import recipes_named
from branchwise.training.stages import do_stage


def smallest(name: str) -> RunConfig:
    config = tiny(name)
    base = replace(config.base, demonstrations=min(config.base.demonstrations, 150))
    return replace(
        config,
        base=base,
        model_calls=120,
        validation_goals=2,
        test_goals=3,
        recipes=recipes_named("rft", "step_dpo"),
        baselines=(),
    )


def run_all(name: str, root: Path, spared: set[str] | None) -> None:
    """All stages in this process, which ends itself in the first stage that reports and is not ``spared`` (None: all
    are)."""
    run = root / "run"
    run.mkdir(exist_ok=True)
    with only_writer(run):
        for stage in stages_of(smallest(name)):

            def told(*_: Any, stage: str = stage.name) -> None:
                if spared is not None and stage not in spared:
                    os.kill(os.getpid(), signal.SIGKILL)

            do_stage(stage, run, told)


def main(name: str) -> None:
    warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    collect.TREES_A_BATCH = 2  # type: ignore[misc]  (so that there is a middle)
    memory = Path("/dev/shm")
    scratch = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    try:
        whole, cut = scratch / "whole", scratch / "cut"
        for root in (whole, cut):
            root.mkdir()
        if in_a_child(lambda: run_all(name, whole, None)):
            raise SystemExit("the uninterrupted run failed")
        killed: dict[str, list[str]] = {}
        while code := in_a_child(lambda: run_all(name, cut, set(killed))):
            stage = where(cut)
            if code != -signal.SIGKILL or stage in killed:
                raise SystemExit(f"the run ended with {code} in {stage}, after kills in {list(killed)}")
            partial = cut / "run" / f"{stage}.partial"
            killed[stage] = sorted(str(path.relative_to(partial)) for path in partial.rglob("*") if path.is_file())
        before, after = digests(whole), digests(cut)
        differing = sorted(n for n in before.keys() | after if before.get(n) != after.get(n))
        print(json.dumps({"killed": killed, "files": len(before), "differing": differing}))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
