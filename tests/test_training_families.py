"""The loop in every family of environments, whole and tiny, in this process: each stage, the rows, the report."""

import math
from pathlib import Path
from typing import Any

import pytest
from flat_settings import flat_settings

from branchwise.envs.play.task import TaskSource
from branchwise.search.presets import suited_settings
from branchwise.search.store import load_episodes, load_pairs
from branchwise.training.evaluation import row_of
from branchwise.training.loop import run as run_module
from branchwise.training.loop.graph import stages_of
from branchwise.training.loop.recipe import BaseSettings, RunConfig, recipes_named
from branchwise.training.loop.run import check_run
from branchwise.training.loop.tasks import simulator_of
from branchwise.training.report import write_report
from branchwise.training.stages import do_stage, figures
from branchwise.training.supervised import SupervisedSettings

FAMILIES: dict[str, tuple[dict[str, Any], dict[str, float], int]] = {
    "MathTool": ({"observation_mode": "compact"}, {"careless": 1, "expert": 1}, 800),
    "TicTacToe": ({}, {"random": 1, "perfect": 1}, 40),
    "ConnectFour": ({"opponents": {"random": 3, "monte-carlo": 1}}, {"random": 1}, 20),
    "KuhnPoker": ({"opponents": "equilibrium"}, {"random": 1}, 40),
    "LeducPoker": ({"opponents": "rule"}, {"random": 1, "rule": 1}, 40),
    "LiarsDice": ({}, {"random": 1, "bayesian": 1}, 40),
    "DealOrNoDeal": ({"messages": False, "opponents": {"conceder": 1, "linear": 1}}, {"linear": 1, "random": 1}, 40),
    "Bargaining": ({"messages": False, "opponents": "conceder"}, {"linear": 1, "random": 1}, 40),
}
TRAINED = ("rft", "tree_sft", "trajectory_dpo", "step_dpo")


def tiny(name: str) -> RunConfig:
    options, demonstrators, demonstrations = FAMILIES[name]
    game = TaskSource(name, options).behind_view().simulator("train")
    suited = suited_settings(game)
    revisit = {} if suited else {"revisit": True}
    wide = name == "MathTool"  # free text: a model that has seen too little of it proposes nothing
    return RunConfig(
        env=name,
        env_options=options,
        outcome="success" if game.players == 1 else "reward",
        rounds=1,
        train_goals=4,
        validation_goals=4,
        test_goals=6,
        model_calls=500,
        baselines=tuple(demonstrators),
        base=BaseSettings(
            width=32 if wide else 16,
            layers=2 if wide else 1,
            heads=2,
            demonstrations=demonstrations,
            demonstrators=demonstrators,
            cloning=SupervisedSettings(batch_size=8),
        ),
        search=flat_settings(simulations=8, proposals=3, solve=False, **suited, **revisit),
        recipes=recipes_named(*TRAINED),
        search_recipe="",
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_the_loop_runs_whole_in_every_family(name: str, tmp_path: Path) -> None:
    config = tiny(name)
    check_run(config)
    run_module._claim(config, tmp_path)
    stages = stages_of(config)
    for stage in stages:
        do_stage(stage, tmp_path, lambda done, total, note: None)
    rows = [row_of(figures(tmp_path, stage.name)) for stage in stages if stage.name.startswith("evaluation/")]
    assert [row.agent for row in rows] == [*config.baselines, "behaviour_cloning", *TRAINED]
    assert all(row.episodes == 6 and math.isfinite(row.reward) for row in rows)
    write_report(tmp_path)
    assert (tmp_path / "report.html").stat().st_size > 10_000
    game = TaskSource(config.env, config.env_options)
    episodes = load_episodes(tmp_path / "evaluation" / "step_dpo" / "episodes.jsonl")
    assert [episode.task for episode in episodes] == game.tasks(simulator_of(config, "test"), "test", 6) or (
        "opponents" not in config.env_options
    )
    if game.row.players > 1:
        assert {episode.task["options"].get("player") for episode in episodes} == {0, 1}
        [path] = tmp_path.glob("step_dpo/round_1/model/pairs.jsonl")
        pairs = load_pairs(path)
        assert {pair.env_id for pair in pairs} == {game.row.id}
