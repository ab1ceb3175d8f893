"""Who plays by rule or by search in every environment, and the table of ``benchmarks/environments.py``."""

import importlib.util
import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from branchwise.agents.searching import RolloutSearcher
from branchwise.envs.play.agent import Agent
from branchwise.envs.play.players import scripted_agents
from branchwise.envs.play.playing import run_episodes
from branchwise.envs.play.transcript import observed
from branchwise.envs.registry import environments, simulator_for
from branchwise.envs.simulator import TERMINAL
from branchwise.envs.views import SinglePlayerView
from branchwise.envs.wrappers import ListedActions

FILE = Path(__file__).resolve().parents[1] / "benchmarks" / "environments.py"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"


@pytest.fixture(scope="module")
def bench() -> Any:
    sys.path.append(str(FILE.parent))  # where a script finds its neighbours
    spec = importlib.util.spec_from_file_location("environments_benchmark", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def view(env_id: str, **options: Any) -> Any:
    """A simulator for one player: of a game the side of player 0."""
    game = next(row for row in environments() if row.id == env_id).players > 1
    return simulator_for(env_id, **options, **({"opponents": "random"} if game else {}))


def decide(agent: Agent, simulator: Any, state: Any, seed: int) -> str:
    transcript = (observed(simulator.observation(state)),)
    return agent.act(simulator, [state], [transcript], [np.random.default_rng(seed)])[0].action


# ---- players by rule -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", [row.id for row in environments()])
def test_random_plays_every_environment_and_its_actions_are_valid(env_id: str) -> None:
    tasks = [{"seed": seed} for seed in range(3)]
    episodes = run_episodes(view(env_id), tasks, scripted_agents(env_id)["random"](), seed=0)
    assert all(episode.steps > 0 for episode in episodes)
    assert sum(episode.invalid_actions for episode in episodes) == 0


def test_an_environments_players_are_those_of_its_row() -> None:
    assert set(scripted_agents("branchwise/LeducPoker-v0")) == {"random", "rule", "equilibrium"}
    assert set(scripted_agents("branchwise/MathTool-v0")) == {"random", "careless", "habitual", "expert"}
    assert set(scripted_agents("branchwise/WebShop-v0")) == {"random", "rule_based", "habitual", "careful"}
    assert set(scripted_agents("branchwise/OpenSpiel-v0")) == {"random"}


def test_a_player_of_the_row_acts_on_the_game_behind_the_view() -> None:
    agent = scripted_agents("branchwise/TicTacToe-v0")["perfect"]()
    simulator = view("branchwise/TicTacToe-v0")
    episodes = run_episodes(simulator, [{"seed": seed} for seed in range(20)], agent, seed=0)
    assert agent.name == "perfect"
    assert all(episode.total_reward >= 0 for episode in episodes)
    assert np.mean([episode.success for episode in episodes]) > 0.8


def test_the_expert_solves_what_random_does_not() -> None:
    simulator = view("branchwise/MathTool-v0")
    tasks = [{"seed": goal, "options": {"goal": goal}} for goal in range(5)]
    agents = scripted_agents("branchwise/MathTool-v0")
    assert all(episode.success for episode in run_episodes(simulator, tasks, agents["expert"](), seed=0))
    assert not all(episode.success for episode in run_episodes(simulator, tasks, agents["random"](), seed=0))


# ---- the search ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", ["branchwise/KuhnPoker-v0", "branchwise/LiarsDice-v0", "branchwise/LeducPoker-v0"])
def test_the_search_sees_neither_hidden_cards_nor_luck_to_come(env_id: str) -> None:
    simulator = view(env_id)
    agent = RolloutSearcher(24)
    told_apart = 0
    for seed in range(6):
        state = simulator.reset(seed)
        other = simulator.resample(state, 0, np.random.default_rng(seed))
        told_apart += state != other
        assert decide(agent, simulator, state, seed) == decide(agent, simulator, other, seed)
    assert told_apart == 6


def test_the_search_finds_a_win_at_once() -> None:
    simulator = view("branchwise/TicTacToe-v0")
    game = simulator.simulator
    inner = game.reset(0)
    for action in ("1", "4", "2", "5"):
        assert action in game.legal_actions(inner)
        inner = game.step(inner, action)
    state = simulator.reset(0)._replace(inner=inner)
    after = game.step(inner, decide(RolloutSearcher(100), simulator, state, 0))
    assert game.rewards(after) == (1.0, -1.0)


@pytest.mark.parametrize("env_id", ["branchwise/WebShop-v0", "branchwise/MathTool-v0", "branchwise/CaSiNo-v0"])
def test_the_search_answers_with_a_suggested_action_where_any_text_may_be_one(env_id: str) -> None:
    simulator = view(env_id)
    state = simulator.reset(0)
    action = decide(RolloutSearcher(8), simulator, state, 0)
    after = simulator.step(state, action)
    assert not simulator.info(after)["invalid_action"]


def test_listed_actions_are_never_none_and_none_at_the_end() -> None:
    view = simulator_for("branchwise/Haggling-v0", opponents="random")
    assert isinstance(view, SinglePlayerView)
    rules: Any = ListedActions(view.simulator)
    state = rules.reset(0)
    assert view.simulator.legal_actions(state) is None
    assert rules.legal_actions(state) == view.simulator.suggested_actions(state)  # type: ignore[attr-defined]
    state = rules.step(state, "walk away")
    assert rules.current_player(state) == TERMINAL
    assert rules.legal_actions(state) == ()
    assert pickle.loads(pickle.dumps(rules)).legal_actions(rules.reset(1)) == rules.legal_actions(rules.reset(1))


@pytest.mark.parametrize("mode", ["text", "compact"])
def test_what_the_math_tool_suggests_is_valid_and_reaches_the_answer(mode: str) -> None:
    simulator: Any = simulator_for(
        "branchwise/MathTool-v0", observation_mode=mode, max_calls=1, steps=(1, 1), families=("wages",)
    )
    state = simulator.reset(0)
    solved = False
    for action in simulator.suggested_actions(state):
        after = simulator.step(state, action)
        assert not simulator.info(after)["invalid_action"]
        answers = simulator.suggested_actions(after)
        assert len(answers) == 1
        solved |= simulator.info(simulator.step(after, answers[0]))["success"]
    assert solved
    assert simulator.suggested_actions(simulator.step(after, answers[0])) == ()


# ---- the table -----------------------------------------------------------------------------------------------------


def test_a_line_has_the_same_episodes_for_each_agent(bench: Any) -> None:
    line = bench.measure("branchwise/TicTacToe-v0", "random", 6)
    assert line.scripted.agent == "perfect"
    assert {row.episodes for row in (line.random, line.scripted, line.search)} == {6}
    assert line.gain == pytest.approx(line.search.reward - line.random.reward)
    assert line.gain_low <= line.gain <= line.gain_high
    assert line.search.reward_low <= line.search.reward <= line.search.reward_high


def test_tables_are_written_between_the_marks(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "environments.md"
    page.write_text(f"before\n{BEGIN}old\n{END}after\n", encoding="utf-8")
    monkeypatch.setattr(bench, "PAGE", page)
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "environments.json")
    measured = list(bench.lines(["branchwise/TicTacToe-v0", "branchwise/KuhnPoker-v0"], 4))
    assert [(line.env, line.against) for line in measured] == [
        ("branchwise/TicTacToe-v0", "random"),
        ("branchwise/TicTacToe-v0", "perfect"),
        ("branchwise/KuhnPoker-v0", "random"),
        ("branchwise/KuhnPoker-v0", "equilibrium"),
    ]
    for line in (*reversed(measured), measured[0]):
        bench.write(line)
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{BEGIN}\n### Score\n")
    assert text.endswith(f"{END}after\n")
    assert "old" not in text
    assert text.count("| KuhnPoker-v0 | `equilibrium` | 4 |") == 2
    record = json.loads((tmp_path / "environments.json").read_text(encoding="utf-8"))
    assert record["simulations"] == 100
    assert bench.recorded() == measured


def test_where_search_does_not_beat_random_the_page_says_why(bench: Any) -> None:
    line = bench.measure("branchwise/KuhnPoker-v0", "equilibrium", 2)
    assert "does not beat" not in bench.tables([replace(line, gain_low=0.1)])
    text = bench.tables([replace(line, gain_low=0.0)])
    assert "### Where search does not beat random" in text
    assert "- KuhnPoker-v0 against `equilibrium`: " in text


def test_the_page_has_the_figures_of_the_record_and_every_environment(bench: Any) -> None:
    measured = bench.recorded()
    assert bench.tables(measured) in bench.PAGE.read_text(encoding="utf-8")
    assert {line.env for line in measured} == {row.id for row in environments()}


def test_every_line_where_search_does_not_beat_random_has_its_reason(bench: Any) -> None:
    missed = {(line.env, line.against) for line in bench.recorded() if not line.beaten}
    assert missed == set(bench.WHY)
