"""The loop in every family of environments, whole and tiny, in this process: each stage, the rows, the report."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from flat_settings import flat_settings

from branchwise.agents.critics import ValueModel
from branchwise.agents.language_model import LanguageModel
from branchwise.agents.named import agents_called
from branchwise.agents.small_model import make_model, make_tokenizer
from branchwise.envs.play.episode import Episode
from branchwise.envs.play.task import TaskSource
from branchwise.search.presets import suited_settings
from branchwise.search.records import load_episodes, load_pairs
from branchwise.search.rules.options import Puct
from branchwise.search.settings import SearchSettings
from branchwise.training.evaluation import row_of
from branchwise.training.loop import agents
from branchwise.training.loop import collect as collecting
from branchwise.training.loop import run as run_module
from branchwise.training.loop.collect import collect_episodes
from branchwise.training.loop.config import BaseSettings, RunConfig, run_of
from branchwise.training.loop.graph import stages_of
from branchwise.training.loop.recipe import load_recipe, recipes_named
from branchwise.training.loop.run import check_run
from branchwise.training.loop.slots import Episodes
from branchwise.training.loop.tasks import simulator_of
from branchwise.training.report import write_report
from branchwise.training.run_folder import further_figures, read_run
from branchwise.training.settings import SettingsError, as_dict
from branchwise.training.stages import FIGURES, StageContext, do_stage, figures, read_figures
from branchwise.training.supervised import SupervisedSettings
from branchwise.training.value import ValueSettings

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
        audit_pairs=6,
        audit_rolls=2,
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


@pytest.mark.parametrize("name", ["TicTacToe", "KuhnPoker"])
def test_a_critic_values_the_leaves_of_a_zero_sum_game_at_test_time(name: str, tmp_path: Path) -> None:
    game = TaskSource(name).behind_view().simulator("train")
    config = replace(
        tiny(name),
        recipes=recipes_named("step_dpo"),
        search_recipe="step_dpo",
        critic_goals=4,
        critic=ValueSettings(descent=SupervisedSettings(learning_rate=1e-3, epochs=1.0)),
        critic_search=flat_settings(simulations=8, **suited_settings(game)),
        acting=flat_settings(simulations=4, **suited_settings(game)),
    )
    check_run(config)
    for stage in stages_of(config):
        do_stage(stage, tmp_path, lambda done, total, note: None)
    rows = {folder.name: read_figures(folder / FIGURES) for folder in (tmp_path / "evaluation").iterdir()}
    assert rows["step_dpo+mcts"]["episodes"] == 6
    assert not [agent for agent in rows if "oracle" in agent], "what is tried out tells nothing of the game played"
    known = {agent for agent, row in rows.items() if "exploitability" in row["figures"]}
    assert known == ({"behaviour_cloning", "step_dpo"} if name == "KuhnPoker" else set())
    assert all(rows[agent]["figures"]["exploitability"]["mean"] > 0 for agent in known)
    assert write_report(tmp_path).is_file()
    assert [line.startswith("Exploitability: ") for line in further_figures(read_run(tmp_path))] == [True] * bool(known)
    assert figures(tmp_path, "critic")["rows"] > 10
    critic = ValueModel.load(tmp_path / "critic" / "model")
    assert -critic.low == critic.high > 0


@pytest.mark.parametrize("name", FAMILIES)
def test_every_search_of_a_run_begins_with_what_suits_the_game(name: str) -> None:
    """What is left out, that is: what the run says itself stays, also where it says the default."""
    said = [
        "search_recipe=step_dpo",
        "acting.selection.puct.exploration=1.25",
        "search.normalise='no'",
        f"env_options={FAMILIES[name][0]}",
    ]
    config = run_of(name, said)
    game = TaskSource(name, FAMILIES[name][0]).behind_view().simulator("train")
    hidden = game.players > 1 and bool(suited_settings(game))
    for found in (config.search, config.acting, config.critic_search):
        assert found.information == ("single_observer" if hidden else "perfect")
    assert config.acting.rule == Puct(exploration=1.25)
    assert config.acting.hide_outcome == (game.players == 1), "a game's rules say who wins what is tried out"
    assert (config.search.normalise, config.critic_search.normalise) == ("no", "tree" if hidden else "no")
    assert config.critic_search.simulations == 8


@pytest.mark.parametrize(
    ("env", "change", "cure"),
    [
        ("LeducPoker", {}, r"search\.information=perfect: .* hides something .* take single_observer"),
        ("MathTool", {"leaves": "random"}, "leaves=random: .* lists no actions"),
    ],
)
def test_a_search_that_would_fail_or_see_too_much_is_refused_before_the_run(
    env: str, change: dict[str, Any], cure: str
) -> None:
    config = replace(tiny(env), search=SearchSettings(simulations=8), **change)
    with pytest.raises(SettingsError, match=cure):
        check_run(config)


def test_the_policy_ranks_in_self_play_too(tmp_path: Path) -> None:
    config = replace(tiny("TicTacToe"), recipes=recipes_named("agent_q"), train_goals=2)
    check_run(config)
    for stage in stages_of(config)[:2]:
        do_stage(stage, tmp_path, lambda done, total, note: None)
    assert figures(tmp_path, "round_1/trees")["nodes"] > 2


@pytest.mark.parametrize("name", ["TicTacToe", "KuhnPoker"])
def test_a_games_trees_and_episodes_give_advantages(name: str, tmp_path: Path) -> None:
    config = replace(tiny(name), recipes=recipes_named("tree_grpo", "gigpo"))
    check_run(config)
    for stage in stages_of(config)[:5]:
        do_stage(stage, tmp_path, lambda done, total, note: None)
    for recipe in config.recipes:
        found = figures(tmp_path, f"{recipe}/round_1/model")
        assert found["rows"] > 4, found["dropped"]
        assert all(math.isfinite(one["loss"]) for one in found["candidates"])


def test_no_two_seeds_and_no_two_rounds_sample_with_the_same_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    def played(simulator: Any, tasks: Any, agent: Any, seed: int, done: Any) -> list[Episode]:
        assert agent.policy.temperature == agent.temperature == 0.7  # the first is what free text is sampled at
        used.append(seed)
        return [Episode({}, (), (0.0,), False, 1, 0, 10)]

    monkeypatch.setattr(collecting, "run_episodes", played)
    tokenizer = make_tokenizer(["x"])
    policy = LanguageModel(make_model(tokenizer, width=8, layers=1, heads=1, seed=0), tokenizer)
    monkeypatch.setattr(agents, "policy_in", lambda *_: policy)
    for seed in range(3):
        for round in (1, 2):
            folder = tmp_path / f"{seed}_{round}"
            folder.mkdir()
            context = StageContext(tmp_path, folder, lambda *_: None)
            config = replace(tiny("TicTacToe"), seed=seed, model_calls=50, temperature=0.7)
            collect_episodes(context, config, Episodes(earlier=0.5), round, "base", "base")
    assert len(set(used)) == len(used) == 3 * 2 * 6


def test_a_critic_of_a_game_with_other_returns_is_refused_before_the_run() -> None:
    config = replace(tiny("Bargaining"), search_recipe="step_dpo")
    with pytest.raises(
        SettingsError, match=r"of two whose returns are opposite, and .*Bargaining.* whose returns are not"
    ):
        check_run(config)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["MathTool", "LeducPoker", "Bargaining"])  # free text, self-play with luck, partners
def test_a_run_that_is_killed_in_every_stage_ends_as_an_uninterrupted_one(name: str) -> None:
    script = Path(__file__).with_name("family_kills.py")
    done = subprocess.run([sys.executable, str(script), name], capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["differing"] == []
    assert found["files"] > 40
    killed = found["killed"]
    assert {"base", "round_1/episodes", "round_1/trees", "evaluation/step_dpo"} <= killed.keys()
    assert any(place.startswith("parts/") for place in killed["round_1/episodes"]), "in the middle of collecting"
    assert any(place.startswith("parts/") for place in killed["round_1/trees"])
    trained = [places for stage, places in killed.items() if stage.endswith("/model")]
    assert all("pairs.jsonl" in places and "figures.json" not in places for places in trained), "while it trains"
    assert trained or name == "MathTool"  # whose model is too small to find anything


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


@pytest.mark.parametrize(
    ("run", "overrides", "recipe", "cure"),
    [
        ("leduc_poker", [], "learn_from_all_cards", r"collect\.trees\.search\.information=perfect: .* hides something"),
        ("leduc_poker", [], "step_q", r"extract\.best_path_pairs\.path=terminal: .* take path: final"),
        ("leduc_poker", [], "ipr", r"step_rollouts: .* has 2 players"),
        ("leduc_poker", [], "vine_ppo", r"step_values: .* has 2 players"),
        ("leduc_poker", [], "state_dpo", r"state_pairs: .* hides something"),
        ("deal_or_no_deal", ["search.simulations=50", "leaves=random"], "step_dpo", ""),
    ],
)
def test_a_recipe_by_hand_is_checked_as_one_of_the_run(
    run: str, overrides: list[str], recipe: str, cure: str, tmp_path: Path
) -> None:
    if recipe == "learn_from_all_cards":
        recipe = str(tmp_path / f"{recipe}.yaml")
        said = {**as_dict(load_recipe("tree_sft")), "collect": {"trees": {"search": {"information": "perfect"}}}}
        Path(recipe).write_text(yaml.safe_dump(said))
    config = run_of(run, [*overrides, "search_recipe="], recipe)
    if not cure:
        check_run(config)
        return
    with pytest.raises(SettingsError, match=cure):
        check_run(config)


def test_trees_that_a_recipe_reads_whole_are_kept_whole() -> None:
    assert collecting.least_visits(run_of("tic_tac_toe")) == 64
    assert collecting.least_visits(run_of("tic_tac_toe", [], "mcts_dpo")) == 0


def test_players_of_one_s_own_have_rows_by_module_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def first(simulator, state, rng):\n    return simulator.legal_actions(state)[0]\n"
    (tmp_path / "lazy_players.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = replace(tiny("TicTacToe"), baselines=("random", "lazy_players:first"))
    check_run(config)
    stage = next(stage for stage in stages_of(config) if stage.name == "evaluation/first")
    do_stage(stage, tmp_path, lambda *_: None)
    assert row_of(figures(tmp_path, stage.name)).agent == "first"
    [agent] = agents_called("lazy_players:first", "TicTacToe")
    assert agent.name == "first"
    with pytest.raises(SettingsError, match=r"has no player 'last'; it has random, perfect, or module"):
        check_run(replace(config, baselines=("last",)))
