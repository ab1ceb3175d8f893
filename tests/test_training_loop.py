"""The loop end to end: the smoke run through the command, killed and taken up again, ends as an uninterrupted one."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from branchwise.envs.outcomes import SuccessOutcome
from branchwise.envs.registry import simulator_for
from branchwise.testing import check_simulator
from branchwise.training import loop as loop_module
from branchwise.training.loop import stages_of
from branchwise.training.recipe import config_names, load_config, load_recipe
from branchwise.training.settings import SettingsError
from branchwise.training.stages import do_stage

AGENTS = (
    *("random", "rule_based", "behaviour_cloning", "rft", "tree_sft", "trajectory_dpo", "step_dpo"),
    *("behaviour_cloning+mcts", "step_dpo+mcts", "behaviour_cloning+mcts_oracle", "step_dpo+mcts_oracle"),
)

TINY = [
    "train_goals=4", "validation_goals=2", "test_goals=3",
    "model_calls=150", "search.simulations=4", "recipes=[rft, step_dpo]",
]  # fmt: skip


def loop(run: Path) -> list[str]:
    arguments = [piece for setting in TINY for piece in ("--set", setting)]
    code = "from branchwise.cli import main; main()"
    return [sys.executable, "-c", code, "loop", "smoke", "--out", str(run), *arguments]


def result(run: Path) -> tuple[list[dict], dict[str, str], list[str]]:
    """The table without its times, a hash of every model, and the figures of the stages without times."""
    timed = ("seconds_per_decision", "seconds")
    rows = [{k: v for k, v in row.items() if k not in timed} for row in json.loads((run / "results.json").read_text())]
    models = {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("*.safetensors"))
    }
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    # As text: a critic without held-out variance has figures that are no numbers, which equal nothing.
    return rows, models, [json.dumps({k: v for k, v in line.items() if k not in timed}) for line in lines]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_run_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = subprocess.run(loop(whole), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]

    for landmark in ("evaluation/random/figures.json", "round_1/trees/figures.json", "step_dpo/round_1/model.partial"):
        process = subprocess.Popen(
            loop(killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        while not (killed / landmark).exists() and process.poll() is None:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (killed / "results.json").exists()
    done = subprocess.run(loop(killed), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    assert result(killed) == result(whole)

    rows, models, _ = result(whole)
    assert [row["agent"] for row in rows] == [a for a in AGENTS if a not in ("tree_sft", "trajectory_dpo")], (
        "as the report orders them"
    )
    assert {row["episodes"] for row in rows} == {3}
    assert "step_dpo/round_1/model/model/model.safetensors" in models
    assert "<svg" in (whole / "report.html").read_text()
    again = subprocess.run(loop(whole), capture_output=True, text=True, timeout=120)
    assert again.returncode == 0
    assert "done" in (again.stdout + again.stderr)
    given = [*loop(tmp_path / "given"), "--model", str(whole / "base" / "model"), "--set", "search_recipe=''"]
    done = subprocess.run(given, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "reading_accuracy" not in (tmp_path / "given" / "metrics.jsonl").read_text()  # nothing was made from scratch
    assert (tmp_path / "given" / "report.html").is_file()
    other = subprocess.run([*loop(whole), "--set", "seed=1"], capture_output=True, text=True, timeout=120)
    assert other.returncode == 2
    assert "other settings (seed)" in other.stderr


@pytest.mark.slow
def test_a_stage_that_was_killed_while_it_collected_takes_up_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "TREES_A_BATCH", 2)
    stages = {stage.name: stage for stage in stages_of(load_config("smoke", TINY))}

    def do(name: str, run: Path, tell: Any = lambda *_: None) -> None:
        do_stage(stages[name], run, tell)

    do("base", tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for name, file in (("round_1/trees", "trees.parquet"), ("round_1/episodes", "episodes.jsonl")):
        do(name, tmp_path / "whole")
        told = []

        def stopping(done: float, total: float, note: str, told: list[float] = told) -> None:
            told.append(done)
            if len(told) == 1:
                raise RuntimeError("the power failed")

        with pytest.raises(RuntimeError, match="the power failed"):
            do(name, tmp_path / "cut", stopping)
        parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "cut" / f"{name}.partial" / "parts").iterdir()}
        assert parts
        seen: dict[Path, int] = {}
        do(name, tmp_path / "cut", lambda *_, seen=seen, parts=parts: seen.update(  # before the stage is done
            {path: path.stat().st_mtime_ns for path in parts}
        ))  # fmt: skip
        assert seen == parts
        folders = [tmp_path / run / name for run in ("whole", "cut")]
        assert folders[0].joinpath(file).read_bytes() == folders[1].joinpath(file).read_bytes()
        assert sorted(path.name for path in folders[0].iterdir()) == sorted(path.name for path in folders[1].iterdir())


@pytest.mark.parametrize("name", config_names())
def test_every_run_configuration_reads_and_gives_a_graph_that_can_be_done(name: str) -> None:
    config = load_config(name)
    done: set[str] = set()
    for stage in stages_of(config):
        assert set(stage.needs) <= done, "an order in which the stages could be done one by one"
        done.add(stage.name)
    assert {f"evaluation/{agent}" for agent in AGENTS} <= done


def test_recipes_that_collect_alike_share_the_first_collection_and_nothing_later() -> None:
    needs = {stage.name: stage.needs for stage in stages_of(load_config("web_shop", ["rounds=2"]))}
    assert needs["step_dpo/round_1/model"] == needs["tree_sft/round_1/model"] == ("base", "round_1/trees")
    assert needs["step_dpo/round_2/model"] == ("step_dpo/round_1/model", "step_dpo/round_2/trees")
    assert needs["tree_sft/round_2/trees"] == ("tree_sft/round_1/model",)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["serch.simulations=3"], "unknown setting serch; did you mean 'search'"),
        (["search.simulations=0"], "SearchSettings.simulations is 0"),
        (["acting.hide_outcome=false"], "acting.hide_outcome must be true"),
        (["env_options.split=test"], "env_options.split is set by the loop"),
        (["search_recipe=tpo"], "search_recipe='tpo' is not among recipes"),
        (["critic_goals=0"], "critic_goals=0; expected at least 1"),
        (["recipes=[nothing]", "search_recipe=nothing"], "no settings file 'nothing'"),
        (["rounds=0"], "rounds=0; expected at least 1"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(SettingsError, match=said.replace("[", r"\[")):
        load_config("smoke", overrides)


def test_a_recipe_whose_parts_contradict_each_other_is_refused(tmp_path: Path) -> None:
    good = yaml.safe_load((Path(__file__).parents[1] / "training/recipes/step_dpo.yaml").read_text())
    for change, said in (
        ({"collect": "episodes"}, "does not read episodes"),
        ({"train": "supervised", "anchors": False}, "does not feed"),
        ({"learning_rates": []}, "learning_rates is empty"),
        ({"learning_rates": [1e-4, 0.0]}, "expected positive numbers"),
        ({"threshold": -0.1}, r"threshold=-0\.1; expected"),
        ({"per_node": 0}, "per_node=0; expected at least 1"),
    ):
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({**good, **change}))
        with pytest.raises(SettingsError, match=said):
            load_recipe(str(path))


def test_success_as_an_outcome_keeps_the_rules_and_pays_for_success_alone() -> None:
    shop = simulator_for("branchwise/WebShop-v0", products=100, observation_mode="compact")
    simulator = SuccessOutcome(shop)
    check_simulator(simulator, seeds=range(1))
    paid = set()
    for goal in range(40):
        state = shop.reset(0, {"goal": goal})
        wanted = shop.goal(state)
        state = shop.step(shop.step(state, f"search[{' '.join((*wanted.attributes, wanted.query))}]"), "click[#1]")
        for _, value in wanted.options:
            state = shop.step(state, f"click[{value}]")
        assert simulator.rewards(state) == (0.0,)
        state = shop.step(state, "click[buy now]")
        success = shop.info(state)["success"]
        assert simulator.rewards(state) == (float(success),)
        assert SuccessOutcome(shop, failure=-1.0).rewards(state) == (1.0 if success else -1.0,)
        paid.add((simulator.rewards(state)[0], shop.rewards(state)[0] == 1.0))
    assert paid == {(1.0, True), (0.0, False)}
