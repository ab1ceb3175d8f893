"""``self`` among the opponents: the collecting model plays all seats of its share of the sampled episodes, and nobody
else meets it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stage_functions import Silent

from branchwise.envs.play.task import TaskSource, start
from branchwise.envs.registry import environment_row
from branchwise.envs.views import SinglePlayerView
from branchwise.search.records import load_episodes
from branchwise.training.loop import collect as collect_module
from branchwise.training.loop.config import BaseSettings, RunConfig, load_config
from branchwise.training.loop.graph import stages_of
from branchwise.training.loop.recipe import recipes_named
from branchwise.training.loop.run import check_run, run_loop
from branchwise.training.loop.tasks import against_itself, simulator_of, source_of, tasks_of
from branchwise.training.settings import SettingsError
from branchwise.training.stages import do_stage, figures
from branchwise.training.supervised import SupervisedSettings


def config_of(env: str = "TicTacToe", opponents: Any = None, **options: Any) -> RunConfig:
    return RunConfig(
        env,
        env_options={"opponents": opponents or {"self": 1, "random": 1}, **options},
        outcome="reward",
        rounds=1,
        train_goals=40,
        validation_goals=4,
        test_goals=4,
        model_calls=400,
        base=BaseSettings(
            width=16, layers=1, heads=2, demonstrations=30, demonstrators={"random": 1},
            cloning=SupervisedSettings(batch_size=8),
        ),
        recipes=recipes_named("rft"),
        search_recipe="",
    )  # fmt: skip


def collected(config: RunConfig, folder: Path) -> Path:
    check_run(config)
    for stage in stages_of(config)[:2]:
        do_stage(stage, folder, lambda *_: None)
    return folder / "round_1" / "episodes"


@pytest.mark.parametrize("env", ["TicTacToe", "LeducPoker"])
def test_the_share_of_self_is_played_by_one_model_in_all_seats(
    env: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(env)
    games = []
    usual = collect_module.by_agents
    monkeypatch.setattr(
        collect_module, "by_agents",
        lambda agent: lambda running: games.extend({id(e): e for e in running}.values()) or usual(agent)(running),
    )  # fmt: skip
    episodes = load_episodes(collected(config, tmp_path) / "episodes.jsonl")
    found = figures(tmp_path, "round_1/episodes")
    assert found["model_calls"] == sum(episode.model_calls for episode in episodes) <= config.model_calls
    own = [episode for episode in episodes if episode.task["env_options"]["opponents"] == "self"]
    others = [episode for episode in episodes if episode.task["env_options"]["opponents"] == "random"]
    assert len(own) + len(others) == len(episodes)
    assert min(len(own), len(others)) >= len(episodes) / 5
    assert {episode.task["options"]["player"] for episode in own} == {0, 1}
    assert all(episode.steps == episode.model_calls for episode in others)
    assert all(episode.steps < episode.model_calls for episode in own), "the other seat costs too"
    assert games, "one lock-step for all seats"
    assert all(set(game.movers) <= {0, 1} and sum(game.calls) == len(game.movers) for game in games)


def test_each_seat_sees_its_own_side_alone(tmp_path: Path) -> None:
    episodes = load_episodes(collected(config_of("KuhnPoker"), tmp_path) / "episodes.jsonl")
    own = [episode for episode in episodes if episode.task["env_options"]["opponents"] == "self"]
    game = TaskSource("KuhnPoker").simulator("train")
    for episode in own:
        seat = episode.task["options"]["player"]
        state = start(game, {**episode.task, "options": {}}).state
        first = game.observation(state, seat)
        assert episode.transcript[0].text.splitlines()[0] == first.splitlines()[0], "the card that this seat was dealt"
        assert episode.transcript[0].text != game.observation(state, 1 - seat)


def test_a_task_is_played_alike_in_every_pass_and_from_both_seats() -> None:
    config = config_of()
    drawn = [against_itself(config, task) for task in tasks_of(config, "train")]
    assert drawn == [against_itself(config, task) for task in tasks_of(config, "train")]
    assert drawn[::2] == drawn[1::2]
    assert 0 < sum(drawn) < len(drawn)
    assert [against_itself(replace(config, seed=1), task) for task in tasks_of(config, "train")] != drawn
    assert not any(against_itself(config_of(opponents="random"), task) for task in tasks_of(config, "train"))


@pytest.mark.parametrize(
    ("opponents", "rest"),
    [
        ({"self": 1, "perfect": 3}, "perfect"),
        ({"self": 1, "perfect": 3, "random": 1}, {"perfect": 3, "random": 1}),
    ],
)
def test_validation_and_test_are_played_against_the_others_named(opponents: Any, rest: Any) -> None:
    config = config_of(opponents=opponents)
    for split in ("validation", "test"):
        assert isinstance(simulator_of(config, split), SinglePlayerView)
        assert {json.dumps(task["env_options"]["opponents"]) for task in tasks_of(config, split)} == {json.dumps(rest)}
    assert source_of(config).options["opponents"] == rest
    share = np.mean([against_itself(config, {"seed": seed}) for seed in range(400)])
    assert abs(share - 1 / sum(opponents.values())) < 0.08


@pytest.mark.parametrize("opponents", ["self", "{self: 2}", "[self, random]"])
def test_self_alone_is_refused_with_the_cure(opponents: str) -> None:
    overrides = ["env=TicTacToe", f"env_options={{opponents: {opponents}}}", "recipes=[rft]", "search_recipe=''"]
    with pytest.raises(SettingsError, match=r"validation and test tasks need .* such as {self: 1, random: 1}"):
        load_config("smoke", overrides)


@pytest.mark.parametrize("share", ["0", "-1", "yes", ".nan", "many"])
def test_a_share_that_is_none_is_refused(share: str) -> None:
    with pytest.raises(SettingsError, match="expected a positive share"):
        load_config("smoke", ["env=TicTacToe", f"env_options={{opponents: {{random: 1, self: {share}}}}}"])


def test_self_has_no_effect_on_trees_alone_and_is_refused_there(tmp_path: Path) -> None:
    config = replace(config_of(), recipes=recipes_named("tree_sft"))
    with pytest.raises(SettingsError, match="no recipe collects episodes"):
        run_loop(config, tmp_path / "run", Silent())
    assert not (tmp_path / "run").exists()


def test_no_environment_names_an_opponent_self() -> None:
    for name in ("TicTacToe", "KuhnPoker", "Werewolf", "Bargaining"):
        assert "self" not in dict(environment_row(name).opponents)
