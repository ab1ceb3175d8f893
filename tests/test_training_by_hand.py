"""A round by hand gives the files of a round of the loop, whatever the recipe collects."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from branchwise import cli
from branchwise.search.settings import SearchSettings
from branchwise.training.loop.graph import stages_of
from branchwise.training.loop.recipe import BaseSettings, RunConfig, recipes_named
from branchwise.training.settings import as_dict
from branchwise.training.stages import do_stage, figures
from branchwise.training.supervised import SupervisedSettings

RUN = RunConfig(
    env="TicTacToe",
    env_options={"opponents": "random"},
    outcome="reward",
    rounds=1,
    train_goals=12,
    validation_goals=20,
    test_goals=6,
    model_calls=4000,
    base=BaseSettings(
        width=16, layers=1, heads=2, demonstrations=60, demonstrators={"random": 1.0},
        cloning=SupervisedSettings(batch_size=8),
    ),
    leaves="random",
    search=SearchSettings(simulations=64, proposals=3, revisit=True, uniform_prior=1.0),
    recipes=recipes_named("rft", "tree_sft"),
    search_recipe="",
)  # fmt: skip


def command(*words: object) -> str:
    done = CliRunner().invoke(cli.app, list(map(str, words)))
    assert done.exit_code == 0, (words, done.output, done.exception)
    return done.output


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.yaml").write_text(yaml.safe_dump(as_dict(RUN)))
    for stage in stages_of(RUN):
        if not stage.name.startswith("evaluation/"):
            do_stage(stage, folder, lambda *_: None)
    return folder


@pytest.mark.parametrize(("recipe", "file"), [("rft", "episodes.jsonl"), ("tree_sft", "trees.parquet")])
def test_a_round_by_hand_equals_a_round_of_the_loop(recipe: str, file: str, run: Path, tmp_path: Path) -> None:
    config, base = run / "config.yaml", run / "base" / "model"
    collected, pairs, better = tmp_path / "collected", tmp_path / "pairs.jsonl", tmp_path / "better"
    command("collect", config, "--recipe", recipe, "--model", base, "--out", collected)
    command("pairs", collected, "--recipe", recipe, "--out", pairs)
    said = command("train", pairs, "--recipe", recipe, "--model", base, "--out", better, "--validate", config)
    model = run / recipe / "round_1" / "model"
    for mine, theirs in (
        (collected / file, run / "round_1" / RUN.recipes[recipe].collect.gives / file),
        (pairs, model / "pairs.jsonl"),
        (better / "model.safetensors", model / "model" / "model.safetensors"),
    ):
        assert mine.read_bytes() == theirs.read_bytes(), theirs.name
    tried = figures(run, f"{recipe}/round_1/model")
    assert tried["promoted"], "else the models are equal whatever was trained"
    assert f"{tried['validation_reward']:.3f} after" in said


def test_a_collection_with_other_settings_is_not_taken_for_this_one(run: Path, tmp_path: Path) -> None:
    words = ("collect", run / "config.yaml", "--model", run / "base" / "model", "--out", tmp_path / "collected")
    command(*words, "--recipe", "tree_sft", "--set", "train_goals=2")
    assert "done already" in command(*words, "--recipe", "tree_sft", "--set", "train_goals=2")
    for other in (("--recipe", "tree_sft"), ("--recipe", "tree_sft", "--set", "train_goals=2", "--round", "2")):
        done = CliRunner().invoke(cli.app, list(map(str, (*words, *other))))
        assert done.exit_code == 2
        assert "holds a collection with other settings" in done.output
    done = CliRunner().invoke(
        cli.app, ["pairs", str(tmp_path / "collected"), "--recipe", "rft", "--out", str(tmp_path / "pairs.jsonl")]
    )
    assert done.exit_code == 2
    assert "holds no episodes, which this recipe reads; collect with it" in done.output


def test_a_recipe_without_validation_trains_its_first_rate_and_says_so(run: Path, tmp_path: Path) -> None:
    pairs = run / "rft" / "round_1" / "model" / "pairs.jsonl"
    base, better = run / "base" / "model", tmp_path / "better"
    said = command("train", pairs, "--recipe", "rft", "--model", base, "--out", better, "--set", "learn.sft.epochs=1")
    assert "rft at learning rate 0.0005 (of its rates 0.0005, 0.0015; --validate RUN tries all)" in said
    done = CliRunner().invoke(
        cli.app,
        ["train", str(pairs), "--recipe", "rft", "--model", str(base), "--out", str(better), "--epochs", "2"],
    )
    assert done.exit_code == 2
    assert "--recipe says how the model learns" in done.output


def test_recipes_are_listed_with_their_sources() -> None:
    listed = command("recipes")
    assert "step_dpo" in listed
    assert "arXiv:2408.07199" in listed
