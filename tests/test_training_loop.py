"""The loop end to end: the smoke run through the command, killed and taken up again, ends as an uninterrupted one."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from stage_functions import Silent

from branchwise.envs.play.players import scripted_agents
from branchwise.envs.play.playing import run_episodes
from branchwise.envs.play.task import start
from branchwise.envs.registry import simulator_for
from branchwise.envs.wrappers import SuccessOutcome
from branchwise.search.extraction import successful_trajectories
from branchwise.search.locks import only_writer
from branchwise.search.rules.options import Puct
from branchwise.testing import check_simulator
from branchwise.training.loop import collect
from branchwise.training.loop import run as run_module
from branchwise.training.loop import tasks as tasks_module
from branchwise.training.loop.config import config_names, load_config, run_folder_named
from branchwise.training.loop.extract import extract
from branchwise.training.loop.graph import stages_of
from branchwise.training.loop.learners import Preference, Sft
from branchwise.training.loop.recipe import load_recipe
from branchwise.training.loop.run import is_done, run_loop
from branchwise.training.loop.slots import Trees
from branchwise.training.report import write_report
from branchwise.training.settings import SettingsError, as_dict
from branchwise.training.stages import DamagedStage, do_stage, figures

AGENTS = (
    *("random", "rule_based", "behaviour_cloning", "rft", "tree_sft", "trajectory_dpo", "step_dpo"),
    *("behaviour_cloning+mcts", "step_dpo+mcts", "behaviour_cloning+mcts_oracle", "step_dpo+mcts_oracle"),
)

RECIPES = Path(__file__).parents[1] / "training" / "recipes"
TINY = ["validation_goals=2", "test_goals=3", "recipes=[rft, step_dpo]", "base.demonstrations=600"]


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

    for landmark in ("round_1/trees/figures.json", "step_dpo/round_1/model.partial"):
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
    assert not [path for path in whole.rglob("*") if path.is_dir() and not any(path.iterdir())]
    page = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text()
    for path in whole.rglob("figures.json"):
        found = json.loads(path.read_text())
        names = {*found, *found.get("dropped", {}), *(name for row in found.get("candidates", ()) for name in row)}
        assert {name for name in names if f"`{name}`" not in page} == set(), path
    config = load_config("smoke", TINY)
    before = (whole / "results.json").read_bytes()
    assert is_done(config, whole)
    assert run_loop(config, whole, Silent())
    assert (whole / "results.json").read_bytes() == before
    with pytest.raises(SettingsError, match=r"other settings \(seed\)"):
        run_loop(load_config("smoke", [*TINY, "seed=1"]), whole, Silent())

    # And from a model that is given nothing is made from scratch.
    tiny = [each for each in TINY if not each.startswith("base.")]
    given = load_config("smoke", [*tiny, f"model={whole / 'base' / 'model'}", "search_recipe=''"])
    for stage in stages_of(given):
        do_stage(stage, tmp_path / "given", lambda *_: None)
    assert "reading_accuracy" not in figures(tmp_path / "given", "base")
    assert write_report(tmp_path / "given").is_file()


@pytest.mark.slow
def test_every_recipe_of_the_smoke_run_has_something_to_train_on(tmp_path: Path) -> None:
    """So that whoever kills a smoke run can kill each kind of training; and all learn from equal budgets."""
    config = load_config("smoke")
    for stage in stages_of(config):
        if stage.name in ("base", "round_1/trees", "round_1/episodes"):
            do_stage(stage, tmp_path, lambda *_: None)
    for name, recipe in config.recipes.items():
        collection = f"round_1/{recipe.collect.gives}"
        collected = figures(tmp_path, collection)
        assert 0 < collected["prompts"] <= collected["model_calls"] <= config.model_calls
        rows, _ = extract(recipe.extract, tmp_path / collection, np.random.default_rng(0))
        trained = [row for row in rows if row.rejected] if isinstance(recipe.learn, Preference) else rows
        assert len(trained) >= 2, name

    # And what is cut afterwards is named with its cure, by the stages that read it.
    stages = {stage.name: stage for stage in stages_of(config)}
    for stage, file in (("round_1/trees", "trees.parquet"), ("base", "model/model.safetensors")):
        path = tmp_path / stage / file
        whole = path.read_bytes()
        path.write_bytes(whole[:-100])
        with pytest.raises(DamagedStage, match=rf"{stage} is damaged \(.*delete this folder and run the same command"):
            do_stage(stages["step_dpo/round_1/model"], tmp_path, lambda *_: None)
        path.write_bytes(whole)


@pytest.mark.slow
def test_a_stage_that_was_killed_while_it_collected_takes_up_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "TREES_A_BATCH", 2)
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
    trained = {"behaviour_cloning", *config.recipes}
    assert {f"evaluation/{agent}" for agent in {*trained, *config.baselines}} <= done


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
        (["recipes=[nothing]", "search_recipe=nothing"], "no recipe 'nothing'"),
        (["rounds=0"], "rounds=0; expected at least 1"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(SettingsError, match=said.replace("[", r"\[")):
        load_config("smoke", overrides)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["train_goals=4000"],
            "split 'train' has [0-9]+ goals; 4008 are asked for. Lower train_goals, rounds or critic",
        ),
        (["validation_goals=401"], "split 'validation' has 400 goals; 401 are asked for. Lower validation_goals"),
        (["test_goals=401"], "split 'test' has 400 goals; 401 are asked for"),
        (["rounds=60"], "split 'train' has 400 goals; 488 are asked for"),
        (["critic_goals=200"], "split 'train' has 400 goals; 408 are asked for"),
        (["env_options.products=-1"], "env=branchwise/WebShop-v0 with env_options=.*products=-1"),
        (["env_options.colour=red"], "env=branchwise/WebShop-v0 with env_options=.*colour"),
        (["env_options.catalogue_seed=3"], "env_options.catalogue_seed"),
        (["env=branchwise/TicTacToe-v0", "env_options={}"], "baselines: .*TicTacToe-v0 has no player 'rule_based'"),
        (
            ["env=TicTacToe", "env_options={}", "baselines=[random]", "base.demonstrators={random: 1}"],
            "has no lessons; leave it",
        ),
        (
            ["env=TicTacToe", "env_options={}", "baselines=[random]", "base.lessons=0"],
            "base.demonstrators: .* has no player 'habitual'; it has random, perfect",
        ),
        (["base.demonstrators={}"], "base.demonstrators: a model from scratch is shown how .* is played"),
        (
            ["base.demonstrators={nobody: 1}"],
            "base.demonstrators: .* has no player 'nobody'; it has random, rule_based",
        ),
        (["env_options.observation_mode=braille"], "observation_mode"),
        (["env=math_tool_problems:Env-v0"], "there is no module 'math_tool_problems'"),
        (["search.critic_weight=0.5"], "search: critic_weight=0.5 .* ask a critic"),
        (["acting.selection.puct.unvisited_value=prior"], "acting: .*unvisited_value='prior' ask a critic"),
        (["critic_search.selection=uct_bonus"], "critic_search: selection='uct_bonus'"),
        (["search.information=single_observer"], "search: information='single_observer'"),
    ],
)
def test_what_a_run_cannot_do_is_refused_before_its_folder_is_made(
    tmp_path: Path, overrides: list[str], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        run_loop(load_config("smoke", overrides), tmp_path / "run", Silent())
    assert not (tmp_path / "run").exists()


def test_a_model_that_is_not_there_is_refused_before_the_run_s_folder_is_made(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for model, said in (("missing", "is not a folder with a model"), ("empty", "has no config.json")):
        with pytest.raises(FileNotFoundError, match=said):
            run_loop(load_config("smoke", [f"model={tmp_path / model}"]), tmp_path / "run", Silent())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["base.heads=3"], "width=32; expected a multiple of 6"),
        (["base.worlds=161"], "lessons=160 for worlds=161; expected at least one a world"),
        (["rounds=100000000"], "rounds=100000000; the limit is 1,000"),
        (["recipes=[rft, rft]", "search_recipe=''"], "recipes has 'rft' twice; name each once"),
        (["recipes=[]", "search_recipe=''"], "recipes is empty"),
        (["critic.holdout=-0.1"], r"holdout in \[0, 1\), got 32 and -0.1"),
        (["critic.holdout=1.0"], r"holdout in \[0, 1\), got 32 and 1.0"),
        (["critic.visit_cap=0"], "visit_cap must be at least 1"),
        (["critic.descent.betas=[0.9, 1.0]"], "betas"),
        (["critic.descent.weight_decay=-1"], "weight_decay"),
        (["base.reading.max_steps=0"], "max_steps"),
    ],
)
def test_settings_of_training_are_checked_at_the_door(overrides: list[str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load_config("smoke", overrides)


HOSTILE = [
    "",
    ".",
    "..",
    "../../x",
    "/tmp/x",
    "a/b",
    "a\\b",
    "a\0b",
    "a.",
    "a b",
    "x" * 300,
    "con",
    "NUL",
    "-rf",
    "a\nb",
    "a+b",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_recipe_s_name_that_is_no_plain_name_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        yaml.safe_dump({"env": "WebShop", "recipes": {name: as_dict(load_recipe("rft"))}, "search_recipe": ""})
    )
    with pytest.raises(SettingsError, match=r"mine\.yaml: RunConfig: recipes: .* names a folder; expected 1 to 64"):
        load_config(path)


def test_a_recipe_that_has_the_name_of_one_of_the_run_s_own_stages_is_refused(tmp_path: Path) -> None:
    for name in ("base", "critic", "random", "behaviour_cloning", "Base", "STEP_DPO"):
        shutil.copy(RECIPES / "rft.yaml", tmp_path / f"{name}.yaml")
        with pytest.raises(SettingsError, match=f"recipes: '{name.lower()}' is the name of a row or a stage already"):
            load_config("smoke", [f"recipes=[step_dpo, '{tmp_path / name}.yaml']"])


def test_a_configuration_whose_name_is_no_plain_name_needs_a_folder() -> None:
    assert run_folder_named("smoke") == run_folder_named("some/where/smoke.yaml") == Path("runs/smoke")
    for name in ("..yaml", "....yaml", ".yaml", "a/con.yaml", f"{'x' * 200}.yaml"):
        with pytest.raises(ValueError, match="rename the file, or give the run's folder with --out"):
            run_folder_named(name)


def test_a_recipe_given_by_its_path_may_act_with_search_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    shutil.copy(RECIPES / "rft.yaml", path)
    names = [s.name for s in stages_of(load_config("smoke", [f"recipes=['{path}']", f"search_recipe={path}"]))]
    assert "critic_trees/mine" in names
    assert "evaluation/mine+mcts" in names


def test_a_folder_that_holds_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "thesis.tex").write_text("ten years")
    with pytest.raises(ValueError, match=r"is not empty and has no config\.yaml.*\(base\)"):
        run_loop(load_config("smoke"), tmp_path, Silent())
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["base", "base/thesis.tex"]


DAMAGED_SETTINGS = {
    "empty": b"",
    "binary": b"\x00\x01\xff\xfe",
    "not UTF-8": b"seed: \xff",
    "a list": b"[1, 2]",
    "brackets": b"[" * 200_000,
    "cut": b"env: branchwise/WebShop-v0\nbase: {width: 3",
    "no recipes": b"env: branchwise/WebShop-v0\n",
    "a recipe of text": b"recipes: {rft: rft}\n",
    "a date": b"seed: 2026-13-01\n",
}


@pytest.mark.parametrize("kind", DAMAGED_SETTINGS)
def test_damaged_settings_of_a_run_are_named_in_one_line_with_the_cure(tmp_path: Path, kind: str) -> None:
    (tmp_path / "config.yaml").write_bytes(DAMAGED_SETTINGS[kind])
    with pytest.raises(SettingsError) as damaged:
        run_loop(load_config("smoke"), tmp_path, Silent())
    assert str(tmp_path / "config.yaml") in str(damaged.value)
    assert "give another --out, or delete the folder" in str(damaged.value)


def test_settings_of_another_version_are_read_with_defaults_or_refused_by_name(tmp_path: Path) -> None:
    config = load_config("smoke")
    run_module._claim(config, tmp_path)
    path = tmp_path / "config.yaml"
    written = yaml.safe_load(path.read_text())
    older = {**written, "search": {k: v for k, v in written["search"].items() if k != "proposals"}}
    older["recipes"] = {
        **written["recipes"],
        "rft": {k: v for k, v in written["recipes"]["rft"].items() if k != "act"},
    }
    path.write_text(yaml.safe_dump(older))
    run_module._claim(config, tmp_path)  # what an older version did not know has its default
    path.write_text(yaml.safe_dump({**written, "curriculum": "easy first"}))
    with pytest.raises(SettingsError, match=r"config\.yaml: unknown setting curriculum.*another version wrote it"):
        run_module._claim(config, tmp_path)
    path.write_text(yaml.safe_dump({**written, "recipes": {**written["recipes"], "rft": older["recipes"]["step_dpo"]}}))
    with pytest.raises(SettingsError, match=r"other settings \(recipes\.rft\)"):
        run_module._claim(config, tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rates": "abc"}, r"rates='abc': expected a list"),
        ({"rates": ["abc"]}, r"rates\[0\]='abc' is str; expected float"),
        ({"rates": [float("inf")]}, "no finite number"),
        ({"rates": [1e-4, 1e-4]}, "has one twice"),
        ({"rates": [1e-4, 0.0]}, "expected positive numbers"),
        ({"learn": None}, "learn is empty; name at least one of sft"),
        ({"learn": {"preference": {"epochs": []}}}, r"learn\.preference\.epochs=\[\]"),
        ({"learn": {"preference": {"learning_rate": 0.1}}}, "are tried, and not learn's learning_rate=0.1; leave one"),
        ({"learn": {"preference": {"temperature": 1}}}, r"unknown setting learn\.preference\.temperature"),
        ({"learn": {"preference": {}, "sft": {}}}, "learn names preference, sft; expected one name"),
        ({"learn": "prefrence"}, "learn: there is no 'prefrence'; did you mean 'preference'"),
        ({"learn": "sft", "act": "best_of"}, "act needs q, which learn does not make"),
        ({"learn": "q"}, "learn makes q, which act does not use"),
        ({"collect": {"episodes": {"simulations": 8}}}, r"unknown setting collect\.episodes\.simulations"),
        ({"collect": {"trees": {"search": {"simulation": 8}}}}, r"search\.simulation; did you mean 'simulations'"),
        ({"collect": {"trees": {"search": {"simulations": 0}}}}, "simulations is 0"),
        ({"collect": "episodes"}, "extract.best_paths reads trees, and collect gives episodes; change collect, or"),
        ({"extract": {}}, "extract is empty; name at least one of successes"),
        ({"extract": "best_paths"}, "extract best_paths gives no pairs to compare; add one, or learn sft"),
        ({"extract": {"sibling_pairs": {"threshold": -0.1}}}, r"threshold=-0\.1; expected"),
        ({"extract": {"sibling_pairs": {"per_node": 1.5}}}, "per_node=1.5 is float; expected int"),
        ({"extract": {"sibling_pairs": {"per_node": 0}}}, "per_node=0; expected at least 1"),
        ({"extract": {"sibling_pairs": {"per_task": 3}}}, r"unknown setting extract\.sibling_pairs\.per_task"),
        ({"extract": {"sibling_pairs": {"margin": 1}}, "learn": "sft"}, "gives pairs margins, which only a preference"),
        ({"extract": {"best_path_pairs": {"threshold": -1}}}, r"threshold=-1\.0; expected the least difference"),
        (
            {"collect": "episodes", "extract": {"trajectory_pairs": {"threshold": -0.1}}},
            r"threshold=-0\.1; expected the least difference",
        ),
        (
            {
                "collect": "episodes",
                "extract": "trajectory_pairs",
                "learn": {"preference": {"label_smoothing": "visits"}},
            },
            "label_smoothing=visits reads the visits of a tree",
        ),
        ({"summary": 7}, "summary=7 is int; expected str"),
        ({7: 7}, "unknown setting 7"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused_with_its_file(
    tmp_path: Path, change: dict[Any, Any], said: str
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load((RECIPES / "step_dpo.yaml").read_text()), **change}))
    with pytest.raises(SettingsError, match=rf"recipe\.yaml: .*{said}"):
        load_recipe(path)


def test_a_recipe_without_its_slots_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"summary": "mine"}))
    with pytest.raises(SettingsError, match=r"recipe\.yaml: Recipe: no setting collect, extract, learn"):
        load_recipe(path)


def test_a_run_lays_settings_over_those_of_its_recipes() -> None:
    changed = load_config(
        "smoke",
        [
            "recipes={step_dpo: {learn: {preference: {epochs: 8}}, extract: {sibling_pairs: {min_visits: 4}}}, rft: }",
            "recipes.step_dpo.rates=[1e-3]",
            "recipes.rft.learn.sft.batch_size=8",
            "recipes.step_dpo.collect.trees.search.selection.puct.exploration=1.4",
        ],
    )
    usual = load_recipe("step_dpo")
    assert list(changed.recipes) == ["step_dpo", "rft"]
    made = changed.recipes["step_dpo"]
    assert made.learn == replace(usual.learn, epochs=8.0)
    assert made.extract == {**usual.extract, "sibling_pairs": replace(usual.extract["sibling_pairs"], min_visits=4)}
    assert made.rates == (1e-3,)
    assert changed.recipes["rft"].learn == replace(load_recipe("rft").learn, batch_size=8)
    assert isinstance(made.collect, Trees)
    assert made.collect.settings(changed.search) == replace(changed.search, selection=Puct(exploration=1.4))
    sft = load_config("smoke", ["recipes.step_dpo.learn={sft: {epochs: 3}}", "search_recipe=''"]).recipes["step_dpo"]
    assert sft.learn == Sft(epochs=3.0), "another learner begins with its own settings"
    with pytest.raises(SettingsError, match=r"recipes\.step_dpo\.learn\.preference\.epoch; did you mean 'epochs'"):
        load_config("smoke", ["recipes.step_dpo.learn.preference.epoch=3"])


def test_recipes_that_search_otherwise_have_a_first_collection_of_their_own() -> None:
    config = load_config("smoke", ["recipes.step_dpo.collect.trees.search.selection.puct.exploration=1.4"])
    needs = {stage.name: stage.needs for stage in stages_of(config)}
    assert needs["tree_sft/round_1/model"] == ("base", "round_1/trees")
    assert needs["step_dpo/round_1/model"] == ("base", "step_dpo/round_1/trees")


def test_a_second_run_in_one_folder_is_refused_with_the_process_that_works_there(tmp_path: Path) -> None:
    with only_writer(tmp_path):
        code = (
            "import sys; from pathlib import Path\n"
            "from branchwise.search.locks import only_writer\n"
            "with only_writer(Path(sys.argv[1])): pass\n"
        )
        second = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
        assert second.returncode == 1
        assert f"{tmp_path} is being written to by the process {os.getpid()}" in second.stderr
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=60).returncode == 0
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from branchwise.search.locks import only_writer\n"
        "with only_writer(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"by the process {holder.pid}"), only_writer(tmp_path):
            pass
        holder.kill()
    assert (tmp_path / ".lock").exists()
    with only_writer(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())
    assert not list(tmp_path.iterdir())


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


def test_pairs_of_a_run_say_of_which_environment_they_are() -> None:
    config = load_config("smoke", [])
    [task, *others] = tasks_module.tasks_of(config, "train")
    assert task == {
        "seed": 0,
        "options": {"goal": 0},
        "env_id": config.env,
        "env_options": {**config.env_options, "split": "train"},
    }
    assert others[0]["options"] == {"goal": 1}
    simulator = tasks_module.simulator_of(config, "train")
    assert start(simulator, task).task["env_id"] == config.env
    episodes = run_episodes(simulator, [task], scripted_agents(config.env)["rule_based"](), seed=0)
    [row] = successful_trajectories([replace(episodes[0], success=True)])[0]
    assert row.env_id == config.env
