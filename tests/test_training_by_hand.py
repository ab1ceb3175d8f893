"""A round by hand gives the files of a round of the loop, whatever the recipe collects."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from branchwise import cli
from branchwise.agents.language_model import LanguageModel
from branchwise.search.records import load_advantages, load_episodes, save_episodes
from branchwise.search.settings import SearchSettings
from branchwise.training.evaluation import evaluate
from branchwise.training.loop.agents import acting
from branchwise.training.loop.by_hand import recipe_for
from branchwise.training.loop.config import BaseSettings, RunConfig
from branchwise.training.loop.graph import stages_of
from branchwise.training.loop.recipe import load_recipe
from branchwise.training.loop.tasks import simulator_of, tasks_of
from branchwise.training.settings import as_dict
from branchwise.training.stages import do_stage, figures
from branchwise.training.supervised import SupervisedSettings

RUN = RunConfig(
    env="TicTacToe",
    env_options={"opponents": "random"},
    seed=3,
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
    recipes={
        "rft": load_recipe("rft", {"rates": [3e-3]}),
        "eager": load_recipe("tree_sft", {"rates": [3e-3, 1e-2], "learn": {"sft": {"epochs": 8}}}),
    },
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
    for name, recipe in RUN.recipes.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(as_dict(recipe)))
    for stage in stages_of(RUN):
        if not stage.name.startswith("evaluation/"):
            do_stage(stage, folder, lambda *_: None)
    return folder


@pytest.mark.parametrize(("recipe", "file"), [("rft", "episodes.jsonl"), ("eager", "trees.parquet")])
def test_a_round_by_hand_equals_a_round_of_the_loop(recipe: str, file: str, run: Path, tmp_path: Path) -> None:
    """The settings that the run lays over a recipe are its settings here too."""
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


def test_the_pairs_of_a_round_of_the_loop_are_extracted_as_its_run_says(run: Path, tmp_path: Path) -> None:
    assert recipe_for(run / "round_1" / "trees", "eager") == RUN.recipes["eager"]
    assert recipe_for(run / "round_1" / "trees", "step_q") == load_recipe("step_q")
    command("pairs", run / "round_1" / "trees", "--recipe", "eager", "--out", tmp_path / "pairs.jsonl")
    assert (tmp_path / "pairs.jsonl").read_bytes() == (run / "eager/round_1/model/pairs.jsonl").read_bytes()


def test_a_share_of_the_model_of_the_round_before(run: Path, tmp_path: Path) -> None:
    config, base = run / "config.yaml", run / "base" / "model"
    words = ["collect", config, "--recipe", "multi_turn_dpo", "--model", base, "--set", "model_calls=400", "--out"]
    for more, why in (
        (["--round", 2], "give it with --earlier"),
        (["--earlier", base], "round 1 of this recipe samples nothing with an earlier model; leave it out"),
    ):
        done = CliRunner().invoke(cli.app, [*map(str, (*words, tmp_path / "none", *more))])
        assert done.exit_code == 2
        assert why in " ".join(done.output.split())
    better = run / "eager" / "round_1" / "model" / "model"
    command(*words, tmp_path / "two", "--round", 2, "--earlier", base)
    command(*words, tmp_path / "other", "--round", 2, "--earlier", better)
    both = [load_episodes(tmp_path / name / "episodes.jsonl") for name in ("two", "other")]
    same = sum(one == other for one, other in zip(*both, strict=False))
    assert 0 < same < min(map(len, both)), "the model's own episodes, and not those of the one before"


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


@pytest.mark.parametrize("recipe", ["multi_turn_kto", "oreo"])
def test_a_recipe_that_learns_from_whole_episodes_by_hand(recipe: str, run: Path, tmp_path: Path) -> None:
    """In place of pairs their file holds episodes. Good ones are told from bad ones by what the run searches for."""
    episodes, base = tmp_path / "episodes.jsonl", run / "base" / "model"
    said = command("pairs", run / "round_1" / "episodes", "--recipe", recipe, "--out", episodes)
    kept = load_episodes(episodes)
    assert f"{len(kept)} episodes" in said
    words = ("train", episodes, "--recipe", recipe, "--model", base)
    for outcome in ("success", "reward"):
        command(*words, "--out", tmp_path / outcome, "--outcome", outcome)
    written = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in ("success", "reward")}
    if recipe == "oreo":  # a draw is no success, and a return of its own; it is no win above the mean either
        assert written["success"] != written["reward"]
    assert (base / "model.safetensors").read_bytes() not in written.values()
    command(*words, "--out", tmp_path / "best", "--validate", run / "config.yaml")
    save_episodes(episodes, [episode for episode in kept if episode.success])
    for more in (("--outcome", "success"), ()):
        done = CliRunner().invoke(cli.app, list(map(str, (*words, "--out", tmp_path / "none", *more))))
        assert done.exit_code == 2
        assert "nothing can be learned from these" in done.output
    done = CliRunner().invoke(
        cli.app, list(map(str, (*words, "--out", "x", "--outcome", "reward", "--validate", run / "config.yaml")))
    )
    assert done.exit_code == 2
    assert "--outcome: --validate names a run" in " ".join(done.output.split())


@pytest.mark.parametrize(("recipe", "collected"), [("gigpo", "episodes"), ("tree_grpo", "trees")])
def test_a_recipe_that_learns_from_advantages_by_hand(recipe: str, collected: str, run: Path, tmp_path: Path) -> None:
    advantages, base = tmp_path / "advantages.jsonl", run / "base" / "model"
    said = command("pairs", run / "round_1" / collected, "--recipe", recipe, "--out", advantages)
    rows = load_advantages(advantages)
    assert f"{len(rows)} advantages" in said
    assert min(row.advantage for row in rows) < 0 < max(row.advantage for row in rows)
    words = ("--model", base, "--set", f"learn.policy_gradient.batch_size={len(rows) // 8}")
    command("train", advantages, "--recipe", recipe, "--out", tmp_path / "better", *words)
    written = (tmp_path / "better" / "model.safetensors").read_bytes()
    assert written != (base / "model.safetensors").read_bytes()
    done = CliRunner().invoke(cli.app, ["train", str(advantages), "--model", str(base), "--out", str(tmp_path / "no")])
    assert done.exit_code == 2
    assert "is no pair: train on such a file with a recipe" in " ".join(done.output.split())


@pytest.fixture(scope="module")
def q_model(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Q-model of ``step_q``, by hand on the trees of the run."""
    folder = tmp_path_factory.mktemp("q")
    base, pairs = run / "base" / "model", folder / "pairs.jsonl"
    command("pairs", run / "round_1" / "trees", "--recipe", "step_q", "--out", pairs)
    command("train", pairs, "--recipe", "step_q", "--model", base, "--out", folder / "q")
    return folder / "q"


def test_bench_with_a_q_model_plays_as_the_recipe_acts(run: Path, q_model: Path) -> None:
    """A further row for each model, with the figures that the agent of the loop has on the same tasks."""
    agents = ("--agent", "random", "--agent", run / "base" / "model")
    printed = command(
        "bench", run / "config.yaml", *agents, "--goals", 6, "--json", "--recipe", "step_q", "--q", q_model
    )
    rows = json.loads(printed[printed.index("[\n") : printed.rindex("]") + 1])
    model = str(run / "base" / "model")
    assert [row["agent"] for row in rows] == ["random", model, f"{model}+best_of"]
    models = {"policy": LanguageModel.load(run / "base" / "model"), "q": LanguageModel.load(q_model)}
    agent = acting(load_recipe("step_q").act, models)
    tasks = tasks_of(RUN, "test")
    row, _ = evaluate(simulator_of(RUN, "test"), tasks, agent, env=RUN.env, split="", seed=0)
    for name in ("reward", "steps", "model_calls"):
        assert rows[2][name] == getattr(row, name), name
    assert rows[2]["model_calls"] > 2 * rows[1]["model_calls"], "proposals and their ranks are counted"


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        (("--q", "q"), "add --recipe, such as --recipe step_q"),
        (("--recipe", "step_q"), "add --q FOLDER, a model that `branchwise train --recipe step_q` wrote"),
        (("--recipe", "step_dpo"), "acts as every model does; leave out --recipe"),
        (("--recipe", "step_dpo", "--q", "q"), "acts as every model does; leave out --recipe and --q"),
        (("--recipe", "step_q", "--q", "nothing"), "'nothing' is not a folder with a model"),
    ],
)
def test_bench_refuses_a_q_model_and_a_recipe_that_do_not_go_together(words: tuple[str, ...], cure: str) -> None:
    done = CliRunner().invoke(cli.app, ["bench", "TicTacToe", "--agent", "random", "--goals", "2", *words])
    assert done.exit_code == 2
    assert cure in done.output


def test_bench_refuses_a_q_model_where_no_agent_is_a_model(q_model: Path) -> None:
    words = ("bench", "TicTacToe", "--agent", "random", "--goals", "2", "--recipe", "step_q", "--q", str(q_model))
    done = CliRunner().invoke(cli.app, list(words))
    assert done.exit_code == 2
    assert "--q: none of the agents is a model" in done.output


def test_recipes_are_listed_with_their_sources() -> None:
    listed = command("recipes")
    assert "step_dpo" in listed
    assert "arXiv:2408.07199" in listed
