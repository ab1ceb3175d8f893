"""Every recipe runs: two rounds in an environment that is learned within seconds, and its row of the table."""

import importlib
import json
import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from branchwise.agents.best_of import BestOfAgent, LogRatio
from branchwise.agents.language_model import LanguageModel
from branchwise.envs.play.players import scripted_agents
from branchwise.envs.play.playing import run_episodes
from branchwise.envs.play.task import TaskSource, start
from branchwise.envs.play.transcript import Turn, acted
from branchwise.envs.simulator import CHANCE
from branchwise.search.presets import PRESETS, preset
from branchwise.search.records import load_episodes, load_pairs, save_episodes
from branchwise.search.rules.options import Puct, Uct
from branchwise.search.settings import SearchSettings
from branchwise.search.stepwise import step_rollouts
from branchwise.training.evaluation import row_of
from branchwise.training.loop import collect
from branchwise.training.loop.agents import agent_of
from branchwise.training.loop.config import BaseSettings, RunConfig, load_config
from branchwise.training.loop.extract import load_rows
from branchwise.training.loop.extractors import BestPathPairs
from branchwise.training.loop.graph import stages_of
from branchwise.training.loop.judge import validate
from branchwise.training.loop.recipe import Recipe, load_recipe, recipe_names, recipes_named
from branchwise.training.loop.run import SEARCHES, _claim, _settings_in, check_run
from branchwise.training.loop.slots import StepRollouts, Trees
from branchwise.training.loop.tasks import simulator_of, tasks_of
from branchwise.training.rows import without_repeats
from branchwise.training.run_folder import read_run, unchanged
from branchwise.training.settings import SettingsError, as_dict, build
from branchwise.training.stages import FIGURES, StageContext, do_stage, figures

EXAMPLES = Path(__file__).parents[1] / "examples"


def config_of(*recipes: str, rounds: int = 2) -> RunConfig:
    return RunConfig(
        "own_environment:Doors",
        rounds=rounds,
        train_goals=30,
        validation_goals=40,
        test_goals=20,
        model_calls=1500,
        base=BaseSettings(width=16, layers=1, heads=2, demonstrations=200, demonstrators={"random": 1.0}),
        search=SearchSettings(simulations=24, selection=Puct(exploration=2.0), uniform_prior=0.2),
        recipes=recipes_named(*recipes),
        search_recipe="",
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sys.path.insert(0, str(EXAMPLES))
    folder = tmp_path_factory.mktemp("recipes")
    do_stage(stages_of(config_of("rft"))[0], folder, lambda *_: None)
    return folder


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_runs_two_rounds_and_has_a_row(name: str, base: Path, tmp_path: Path) -> None:
    shutil.copytree(base / "base", tmp_path / "base")
    config = config_of(name)
    check_run(config)
    for stage in stages_of(config):
        do_stage(stage, tmp_path, lambda *_: None)
    recipe = config.recipes[name]
    tried = [figures(tmp_path, f"{name}/round_{number}/model") for number in (1, 2)]
    for found in tried:
        assert [one["learning_rate"] for one in found["candidates"]] == list(recipe.rates), found["dropped"]
        assert all("stopped" in one or math.isfinite(one["loss"]) for one in found["candidates"])
        assert found["model_calls"] <= config.model_calls
    rows = tmp_path / name / "round_1" / "model" / f"{recipe.learn.takes}.jsonl"
    assert len(load_rows(rows, recipe.learn.takes)) == tried[0]["rows"]
    row = row_of(figures(tmp_path, f"evaluation/{name}"))
    assert row.episodes == 20
    assert row.success == 0 or any(found["promoted"] for found in tried)


sys.path.insert(0, str(EXAMPLES))
Doors = importlib.import_module("own_environment").Doors
OUTSIDE = 4
RandomAgent = scripted_agents("own_environment:Doors")["random"]


class LongWalk(Doors):  # type: ignore[misc, valid-type]
    """A quarter of a point for each room that was left; nothing that it counts as success."""

    def rewards(self, state: tuple[int, int]) -> tuple[float, ...]:
        return (0.25 * max(state[1], 0),)

    def step(self, state: tuple[int, int], action: str) -> tuple[int, int]:
        return super().step(state, action) if state[1] < 2 else (state[0], OUTSIDE)

    def info(self, state: tuple[int, int]) -> dict[str, Any]:
        return {"success": False, "invalid_action": False}


@pytest.mark.parametrize("name", ["rft", "tree_sft", "trajectory_dpo", "step_dpo", "ipr", "multi_turn_kto", "oreo",
                                  "tree_grpo", "vine_ppo", "gigpo", "state_dpo"])  # fmt: skip
def test_a_run_for_reward_learns_from_it_where_nothing_ever_succeeds(name: str, base: Path, tmp_path: Path) -> None:
    shutil.copytree(base / "base", tmp_path / "base")
    (tmp_path / "base" / FIGURES).write_text(json.dumps({**figures(base, "base"), "validation_reward": 0.0}))
    config = replace(config_of(name, rounds=1), env=f"{__name__}:LongWalk", outcome="reward")
    stages = stages_of(config)
    for stage in stages[1:3]:
        do_stage(stage, tmp_path, lambda *_: None)
    collected, learned = (figures(tmp_path, stage.name) for stage in stages[1:3])
    assert collected["by"] == "reward"
    assert learned["rows"] > 10
    if name in ("rft", "trajectory_dpo", "tree_sft"):
        pairs = load_pairs(tmp_path / stages[2].name / "pairs.jsonl")
        assert all(pair.chosen_q > pair.rejected_q for pair in pairs if pair.rejected)
        if name == "tree_sft":
            assert len(pairs) == len(without_repeats(pairs))


class Fog(Doors):  # type: ignore[misc, valid-type]
    """After each room but the last, luck turns the house by one or leaves it."""

    def current_player(self, state: tuple[int, int]) -> int:
        return CHANCE if state[1] >= 10 else super().current_player(state)

    def step(self, state: tuple[int, int], action: str) -> tuple[int, int]:
        if state[1] >= 10:
            return (state[0] + int(action)) % 6561, state[1] - 10
        house, room = super().step(state, action)
        return house, room + 10 if 0 < room < OUTSIDE else room

    def chance_outcomes(self, state: tuple[int, int]) -> Sequence[tuple[str, float]]:
        return [("0", 0.5), ("1", 0.5)]


class Endless(Doors):  # type: ignore[misc, valid-type]
    def step(self, state: tuple[int, int], action: str) -> tuple[int, int]:
        return state[0] + 1, 0


class Unsure(Doors):  # type: ignore[misc, valid-type]
    def info(self, state: tuple[int, int]) -> dict[str, Any]:
        return {**super().info(state), "success": math.nan}


def test_luck_between_steps_cannot_be_replayed_and_is_refused_before_the_run() -> None:
    for name in ("vine_ppo", "ipr"):
        config = replace(config_of(name), env=f"{__name__}:Fog")
        with pytest.raises(SettingsError, match="has luck after its first decision"):
            check_run(config)
    simulator, tasks = simulator_of(config, "train"), tasks_of(config, "train")
    played = run_episodes(simulator, tasks, RandomAgent(), 0)
    with pytest.raises(ValueError, match="Fog has luck between"):
        step_rollouts(simulator, played, RandomAgent(), np.random.default_rng(0).spawn(len(played)))


@pytest.mark.parametrize(
    ("name", "fault"),
    [("Endless", "has not ended after 10,000 steps"), ("Unsure", "a dict in which 'success' is True or False")],
)
def test_an_environment_that_breaks_its_word_is_named(name: str, fault: str) -> None:
    config = replace(config_of("rft"), env=f"{__name__}:{name}")
    with pytest.raises(ValueError, match=f"{name}.*{fault}"):
        run_episodes(simulator_of(config, "train"), tasks_of(config, "train")[:2], RandomAgent(), 0)


def longer(turn: Turn) -> Turn:
    return acted(f"{turn.text} " * 100) if turn.is_agent else turn


@pytest.mark.parametrize("name", ["rft", "trajectory_dpo", "multi_turn_kto", "oreo", "gigpo"])
def test_a_round_of_which_no_row_fits_the_model_goes_on(name: str, base: Path, tmp_path: Path) -> None:
    shutil.copytree(base / "base", tmp_path / "base")
    gathered, learned = stages_of(config_of(name, rounds=1))[1:3]
    do_stage(gathered, tmp_path, lambda *_: None)
    settings = tmp_path / "base" / "model" / "config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "max_position_embeddings": 64}))
    file = tmp_path / gathered.name / "episodes.jsonl"
    long = [replace(one, transcript=tuple(longer(turn) for turn in one.transcript)) for one in load_episodes(file)]
    save_episodes(file, long)
    do_stage(learned, tmp_path, lambda *_: None)
    found = figures(tmp_path, f"{name}/round_1/model")
    assert not found["promoted"]
    assert found["candidates"] == []
    assert found["dropped"]["no row fits the model"] > 0


def test_a_q_model_without_candidates_is_validated_and_is_not_the_base_itself(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base / "base", tmp_path / "base")
    config = config_of("step_q", rounds=1)
    config.recipes["step_q"] = replace(
        config.recipes["step_q"], extract={"best_path_pairs": BestPathPairs(threshold=5)}
    )
    for stage in stages_of(config):
        do_stage(stage, tmp_path, lambda *_: None)
    found = figures(tmp_path, "step_q/round_1/model")
    assert (found["candidates"], found["makes"]) == ([], "q")
    assert unchanged(read_run(tmp_path)) == {}
    again = [validate_as(config, tmp_path) for _ in "12"]
    assert found["validation_success"] == again[0] == again[1]


def validate_as(config: RunConfig, run: Path) -> float:
    context = StageContext(run, run / "scratch", lambda *_: None)
    parts = {"policy": "base", "q": "step_q/round_1/model"}
    return validate(config, agent_of(context, config, config.recipes["step_q"].act, parts))["validation_success"]


def test_what_another_environment_gave_is_not_learned_from(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base / "base", tmp_path / "base")
    config = config_of("rft", rounds=1)
    gathered, learned = stages_of(config)[1:3]
    do_stage(gathered, tmp_path, lambda *_: None)
    file = tmp_path / gathered.name / "episodes.jsonl"
    file.write_text(file.read_text().replace("own_environment:Doors", "branchwise/TicTacToe-v0"))
    with pytest.raises(
        RuntimeError, match="collected in own_environment:Doors and holds what is of branchwise/TicTacToe-v0"
    ):
        do_stage(learned, tmp_path, lambda *_: None)


@pytest.mark.parametrize(("loss", "smoothing"), [("ipo", "q"), ("hinge", "visits"), ("robust", "visits")])
def test_a_loss_that_has_no_place_for_what_pairs_bring_is_refused_with_the_recipe(loss: str, smoothing: str) -> None:
    step_dpo = as_dict(load_recipe("step_dpo"))
    margins = {**step_dpo, "extract": {"sibling_pairs": {"margin": 0.5}}, "learn": {"preference": {"loss": loss}}}
    with pytest.raises(SettingsError, match=f"margins, which loss={loss} has no place for"):
        build(Recipe, margins)
    smoothed = {**step_dpo, "learn": {"preference": {"loss": loss, "label_smoothing": smoothing}}}
    with pytest.raises(SettingsError, match=f"loss={loss} has no place for label_smoothing={smoothing}"):
        build(Recipe, smoothed)


def test_a_run_goes_on_with_its_recipes_in_their_order(tmp_path: Path) -> None:
    config = config_of("step_dpo", "agent_q")
    _claim(config, tmp_path)
    _claim(config, tmp_path)
    with pytest.raises(SettingsError, match="the order of recipes"):
        _claim(config_of("agent_q", "step_dpo"), tmp_path)


def test_a_mixture_of_iterations_samples_the_model_of_the_round_before(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base / "base", tmp_path / "base")
    stages = {stage.name: stage for stage in stages_of(config_of("multi_turn_dpo"))}
    assert stages["round_1/episodes"].needs == ("base",)
    assert stages["multi_turn_dpo/round_2/episodes"].needs == ("multi_turn_dpo/round_1/model", "base")
    for name in ("round_1/episodes", "multi_turn_dpo/round_1/model", "multi_turn_dpo/round_2/episodes"):
        do_stage(stages[name], tmp_path, lambda *_: None)
    first, second = (figures(tmp_path, name) for name in ("round_1/episodes", "multi_turn_dpo/round_2/episodes"))
    assert first["model_calls"] == pytest.approx(1500, abs=10)
    assert second["model_calls"] == pytest.approx(1500, abs=20)


def test_the_ranking_critic_s_order_is_the_policy_s_and_counts_half(base: Path) -> None:
    policy = LanguageModel.load(base / "base" / "model")
    doors = TaskSource("own_environment:Doors").simulator("train")
    turns, colours = [start(doors, {"seed": seed}).transcript for seed in range(4)], ("red", "green", "blue")
    orders = collect.by_likelihood(policy, turns, [colours] * 4)
    for order, logps in zip(orders, policy.score(turns, [colours] * 4), strict=True):
        assert sorted(order) == [0, 1, 2]
        assert logps[order[0]] >= logps[order[1]] >= logps[order[2]]
    slot = config_of("agent_q").recipes["agent_q"].collect
    assert isinstance(slot, Trees)
    assert slot.ranking
    settings = slot.settings(SearchSettings())
    assert (settings.rule.name, settings.critic_weight, settings.unvisited_value) == ("ucb1", 0.5, "prior")


def test_step_roll_outs_are_refused_in_a_game_and_an_expert_that_is_not_there_is_named() -> None:
    config = RunConfig(
        "TicTacToe", recipes=recipes_named("ipr"), search_recipe="", base=BaseSettings(demonstrators={"random": 1.0})
    )
    with pytest.raises(SettingsError, match=r"recipes\.ipr\.collect\.step_rollouts: .* has 2 players"):
        check_run(config)
    sys.path.insert(0, str(EXAMPLES))
    doors = config_of("ipr")
    doors.recipes["ipr"] = replace(doors.recipes["ipr"], collect=StepRollouts(expert="oracle"))
    with pytest.raises(SettingsError, match=r"step_rollouts\.expert: .* has no player 'oracle'; it has random"):
        check_run(doors)


# ---- best-of-n --------------------------------------------------------------------------------------------------


class Ranks:
    """Values actions by their place in the alphabet."""

    def values(self, transcripts: list, candidates: list) -> list[np.ndarray]:
        return [np.array([-ord(text[0]) for text in texts], float) for texts in candidates]


def test_the_best_of_n_is_the_one_that_is_ranked_first_of_what_was_drawn(base: Path) -> None:
    policy = LanguageModel.load(base / "base" / "model")
    doors = TaskSource("own_environment:Doors").simulator("train")
    roots = [start(doors, {"seed": seed}) for seed in range(8)]
    rngs = np.random.default_rng(0).spawn(8)
    states, turns = [root.state for root in roots], [root.transcript for root in roots]
    best = BestOfAgent(policy, Ranks(), proposals=3).act(doors, states, turns, rngs)
    assert {decision.action for decision in best} == {"blue"}, "all three were drawn"
    assert {decision.model_calls for decision in best} == {2}  # one prompt is scored to draw, one to rank
    one = BestOfAgent(policy, Ranks(), proposals=1)
    drawn = [
        one.act(doors, states[:1], turns[:1], np.random.default_rng(seed).spawn(1))[0].action for seed in range(300)
    ]
    [logps] = policy.score(turns[:1], [("red", "green", "blue")])
    expected = np.exp(logps - logps.max()) / np.exp(logps - logps.max()).sum()
    shares = [drawn.count(colour) / 300 for colour in ("red", "green", "blue")]
    assert shares == pytest.approx(expected.tolist(), abs=0.1), "one is a sample of the policy"


def test_a_log_ratio_of_a_model_to_itself_is_nothing(base: Path) -> None:
    policy = LanguageModel.load(base / "base" / "model")
    doors = TaskSource("own_environment:Doors").simulator("train")
    root = start(doors, {"seed": 5})
    for per_token in (False, True):
        [values] = LogRatio(policy, policy, per_token).values([root.transcript], [["red", "blue"]])
        assert values.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", ["agent_q", "step_q"])
def test_a_recipe_s_preset_lies_over_the_run_s_search(name: str) -> None:
    slot = load_recipe(name).collect
    assert isinstance(slot, Trees)
    common = SearchSettings(selection=Puct(exploration=2.0), proposals=7)
    assert slot.settings(common) == preset(name, **{"proposals": 7, "simulations": slot.settings(common).simulations})
    assert slot.settings(common).simulations == PRESETS[name].get("simulations", common.simulations)


def test_a_preset_is_written_out_where_it_is_read_and_what_stands_beside_it_lies_over_it() -> None:
    slot = Trees(preset="lats", search={"selection": {"uct": {"exploration": 0.5}}, "proposals": 2})
    assert slot == Trees(search={"selection": {"uct": {"exploration": 0.5}}, "proposals": 2, "simulations": 30})
    with pytest.raises(SettingsError, match="no preset 'latz'; did you mean 'lats'"):
        build(Trees, {"preset": "latz"}, "collect.trees.")


def test_a_recipe_s_rule_keeps_the_run_s_options_of_the_same_rule_alone() -> None:
    common = SearchSettings(selection=Puct(exploration=0.75))
    assert Trees(search={"selection": "puct"}).settings(common).rule == Puct(exploration=0.75)
    assert Trees(search={"selection": "uct"}).settings(common).rule == Uct()


def test_a_run_s_folder_of_an_earlier_version_holds_the_same_settings(tmp_path: Path) -> None:
    overrides = ["recipes=[agent_q]", "search_recipe=''", "search.selection.puct.exploration=2.0"]
    config = load_config("smoke", overrides)
    data = as_dict(config)
    for name in SEARCHES:
        data[name] = flattened(data[name])
    trees = data["recipes"]["agent_q"]["collect"]["trees"]
    trees["search"] = flattened(trees["search"])
    del trees["preset"]
    assert data["search"]["exploration"] == config.search.rule.exploration  # type: ignore[union-attr]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(data))
    assert _settings_in(tmp_path / "config.yaml") == config


def flattened(search: dict[str, Any]) -> dict[str, Any]:
    [(rule, options)] = search["selection"].items()
    return {**search, "selection": rule, **options}
