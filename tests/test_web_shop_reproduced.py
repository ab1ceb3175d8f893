"""Rows of the table without a model: the same on every machine, whatever processes, processors and caches are like."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import branchwise
from branchwise.envs.web_shop import retrieval
from branchwise.envs.web_shop.retrieval import open_index

PLAY = """
import json
from branchwise.envs.play.players import scripted_agents
from branchwise.envs.registry import simulator_for
from branchwise.training.evaluation import run_episodes

shop = simulator_for("branchwise/WebShop-v0", split="test", products=200, observation_mode="compact", max_steps=12)
tasks = [{"seed": 0, "options": {"goal": goal}} for goal in range(40)]
agents = scripted_agents("branchwise/WebShop-v0")
for name in ("random", "rule_based"):
    for episode in run_episodes(shop, tasks, agents[name](), seed=0):
        print(json.dumps([[turn.text for turn in episode.transcript], episode.rewards]))
"""
NO_SIMD = "X86_V3 X86_V4 AVX512_ICL AVX512_SPR AVX2 FMA3 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL ASIMD SVE"


def played(cache: Path, path: Path | None = None, **environment: str) -> str:
    """Every word and reward of two agents' episodes, in a process of its own with that cache of search indices."""
    own = {**os.environ, "BRANCHWISE_CACHE": str(cache), **environment}
    if path is not None:
        own["PYTHONPATH"] = str(path)
    done = subprocess.run([sys.executable, "-c", PLAY], env=own, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_agents_without_a_model_play_the_same_under_every_hash_seed_thread_count_and_processor(tmp_path: Path) -> None:
    reference = played(tmp_path / "a", PYTHONHASHSEED="0")
    assert len(reference.splitlines()) == 80
    assert len({json.loads(line)[1][-1] for line in reference.splitlines()}) > 3  # it does measure something
    plain = {"PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "2", "RAPIDFUZZ_IMPLEMENTATION": "python"}
    assert played(tmp_path / "b", NPY_DISABLE_CPU_FEATURES=NO_SIMD, NPY_ENABLE_CPU_FEATURES="", **plain) == reference
    assert played(tmp_path / "a", PYTHONHASHSEED="3") == reference  # with the index that the first process kept


def test_an_index_that_other_code_built_is_not_read(tmp_path: Path) -> None:
    """An update of the package meets the search index of before: search must answer as the updated code does."""
    source = Path(branchwise.__file__).parent
    before = tmp_path / "before"
    before.mkdir()
    package = before / "branchwise"
    package.mkdir()
    for entry in source.iterdir():
        if entry.name != "envs" and not entry.name.startswith("."):
            (package / entry.name).symlink_to(entry)
    (package / "envs").mkdir()
    for entry in (source / "envs").iterdir():
        if entry.name != "web_shop":
            (package / "envs" / entry.name).symlink_to(entry)
    shop = package / "envs" / "web_shop"
    shop.mkdir()
    for entry in (source / "envs" / "web_shop").glob("*.py"):
        (shop / entry.name).write_text(entry.read_text())
    module = shop / "retrieval.py"
    stemmed = "return _stem(word) if len(word) > 2 else word"
    assert stemmed in module.read_text()
    module.write_text(module.read_text().replace(stemmed, "return word"))

    cache = tmp_path / "cache"
    with_old_code = played(cache, before)
    assert with_old_code != played(tmp_path / "fresh")  # stemming matters to what is found
    assert played(cache) == played(tmp_path / "fresh")


def test_an_index_of_other_libraries_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRANCHWISE_CACHE", str(tmp_path))
    read = []

    def documents() -> list[str]:
        read.append(None)
        return ["red lamp", "blue lamp"]

    open_index("shop", documents)
    open_index("shop", documents)
    assert len(read) == 1
    retrieval._builder.cache_clear()
    version = retrieval.metadata.version
    monkeypatch.setattr(retrieval.metadata, "version", lambda name: version(name) + ".post1")
    open_index("shop", documents)
    assert len(read) == 2
    retrieval._builder.cache_clear()
