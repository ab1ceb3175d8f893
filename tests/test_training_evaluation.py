"""Figures of episodes against published and hand-made numbers, and episodes that do not depend on their neighbours."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import pytest

from branchwise.envs.play.agent import Decision
from branchwise.envs.play.episode import Episode
from branchwise.envs.play.players import RandomAgent
from branchwise.envs.play.playing import run_episodes
from branchwise.envs.play.transcript import Transcript, acted, observed
from branchwise.envs.simulator import TERMINAL, Simulator
from branchwise.envs.web_shop.rules import WebShopSimulator
from branchwise.training.evaluation import (
    bootstrap_mean,
    evaluate,
    mean_interval,
    paired_difference,
    paired_p,
    row_of,
    summarise,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe (1998), Statistics in Medicine 17, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_s_interval_is_the_published_one(successes: int, episodes: int, low: float, high: float) -> None:
    assert wilson(successes, episodes) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("successes", "episodes"), [(0, 7), (7, 7), (3, 7), (150, 300)])
def test_wilson_s_interval_is_where_the_score_test_turns(successes: int, episodes: int) -> None:
    """Its ends solve (p̂ − p)² = z² p (1 − p) / n."""
    z, n, share = 1.959963984540054, episodes, successes / episodes
    around = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = ((share + z**2 / (2 * n) + side * around) / (1 + z**2 / n) for side in (-1, 1))
    assert wilson(successes, episodes) == pytest.approx((low, high), abs=1e-12)


def test_the_bootstrap_is_deterministic_and_near_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(2.0, 3.0, size=400)
    interval = bootstrap_mean(values, seed=5)
    assert interval == bootstrap_mean(values, seed=5)
    assert interval != bootstrap_mean(values, seed=6)
    half = 1.96 * values.std() / math.sqrt(400)
    assert interval == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05)
    assert bootstrap_mean(np.array([0.25]), seed=0) == (0.25, 0.25)


def test_bootstrap_of_two_values_has_the_exact_ends() -> None:
    """Means of two draws from {0, 1} are 0, ½ and 1 with ¼, ½, ¼: both ends lie in the tails."""
    assert bootstrap_mean(np.array([0.0, 1.0]), seed=0) == (0.0, 1.0)
    assert bootstrap_mean(np.array([0.0, 1.0]), seed=0, resamples=1) in {(mean, mean) for mean in (0.0, 0.5, 1.0)}


def outcomes(both: int, first_only: int, second_only: int, neither: int) -> tuple[list[bool], list[bool]]:
    first = [True] * (both + first_only) + [False] * (second_only + neither)
    second = [True] * both + [False] * first_only + [True] * second_only + [False] * neither
    return first, second


@pytest.mark.parametrize(
    ("first_only", "second_only", "p"),
    [
        (8, 2, 2 * (1 + 10 + 45) / 1024),
        (2, 8, 2 * (1 + 10 + 45) / 1024),
        (5, 0, 2 / 32),
        (4, 4, 1.0),
        (5, 4, 1.0),  # twice the tail is above 1
        (0, 0, 1.0),
    ],
)
def test_mcnemar_is_exact_and_counts_disagreements_alone(first_only: int, second_only: int, p: float) -> None:
    for both, neither in ((0, 5), (11, 7)):
        first, second = outcomes(both, first_only, second_only, neither)
        found = paired_difference(first, second, seed=1)
        assert found.p == pytest.approx(p, rel=1e-12)
        assert found.difference == pytest.approx((first_only - second_only) / len(first))
        assert found.low <= found.difference <= found.high
        assert found == paired_difference(first, second, seed=1)
        assert paired_difference(first, second) == paired_difference(first, second, seed=0)
        other = paired_difference(second, first, seed=1)
        turned = (-found.difference, -found.high, -found.low)
        assert (other.difference, other.low, other.high) == pytest.approx(turned, abs=1 / len(first))


def test_paired_figures_need_pairs() -> None:
    with pytest.raises(ValueError, match="2 against 1 episodes: paired figures need the same tasks in one order"):
        paired_difference([True, False], [True])
    with pytest.raises(ValueError, match="0 against 0 episodes"):
        paired_difference([], [])


# Episodes.


class Walk(NamedTuple):
    length: int
    steps: int = 0
    last: str = ""


class Walking(Simulator[Walk]):
    """Ends after ``length`` steps, at most 6; each step but an invalid "?" earns ½, and so does the last one."""

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> Walk:
        return Walk((options or {}).get("length", 1 + seed % 5))

    def current_player(self, state: Walk) -> int:
        return TERMINAL if state.steps >= min(state.length, 6) else 0

    def truncated(self, state: Walk) -> bool:
        return state.steps >= 6 and state.length > 6

    def observation(self, state: Walk, player: int = 0) -> str:
        return f"at {state.steps}"

    def legal_actions(self, state: Walk) -> Sequence[str]:
        return ["a", "b", "?"]

    def step(self, state: Walk, action: str) -> Walk:
        return Walk(state.length, state.steps + 1, action)

    def rewards(self, state: Walk) -> tuple[float, ...]:
        return (0.5 if state.last in ("a", "b") else 0.0,)

    def info(self, state: Walk) -> dict[str, Any]:
        done = self.current_player(state) == TERMINAL
        return {"success": done and state.last == "a", "invalid_action": state.last == "?"}


class Drawing:
    """Takes a legal action at random; each costs three model calls. Remembers how many states it was given."""

    name = "drawing"

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def act(
        self,
        simulator: Simulator[Any],
        states: Sequence[Any],
        transcripts: Sequence[Transcript],
        rngs: Sequence[np.random.Generator],
    ) -> list[Decision]:
        self.sizes.append(len(states))
        for state, transcript in zip(states, transcripts, strict=True):
            assert transcript[-1] == observed(simulator.observation(state))
        return [Decision(str(rng.choice(["a", "b", "?"])), 3) for rng in rngs]


TASKS = [{"seed": seed, "id": f"t{seed}"} for seed in range(23)]


def test_an_episode_is_written_down_whole() -> None:
    class Scripted(Drawing):
        def act(
            self,
            simulator: Simulator[Any],
            states: Sequence[Any],
            transcripts: Sequence[Transcript],
            rngs: Sequence[np.random.Generator],
        ) -> list[Decision]:
            return [Decision("b?a"[state.steps % 3], 2) for state in states]

    tasks = [{"seed": 0, "options": {"length": 3}, "id": "x"}, {"seed": 0, "options": {"length": 9}}]
    three, cut = run_episodes(Walking(), tasks, Scripted(), seed=0)
    said = (observed("at 0"), acted("b"), observed("at 1"), acted("?"), observed("at 2"), acted("a"), observed("at 3"))
    assert three == Episode(tasks[0], said, (0.5, 0.0, 0.5), True, 3, 1, 6, False)
    assert (cut.steps, cut.truncated, cut.invalid_actions, cut.model_calls) == (6, True, 2, 12)
    assert cut.total_reward == 2.0


@pytest.mark.parametrize("batch_size", [1, 2, 7, 64])
def test_episodes_do_not_depend_on_the_batch_or_on_other_tasks(batch_size: int) -> None:
    agent, ended = Drawing(), list[int]()
    whole = run_episodes(Walking(), TASKS, Drawing(), seed=3)
    episodes = run_episodes(Walking(), TASKS, agent, seed=3, batch_size=batch_size, progress=ended.append)
    assert episodes == whole
    assert [episode.task["id"] for episode in episodes] == [task["id"] for task in TASKS]
    assert max(agent.sizes) == min(batch_size, len(TASKS))
    assert sum(agent.sizes) == sum(episode.steps for episode in episodes)
    assert ended == sorted(ended)
    assert ended[-1] == len(TASKS)
    assert run_episodes(Walking(), TASKS[:5], Drawing(), seed=3) == whole[:5]
    assert run_episodes(Walking(), TASKS, Drawing(), seed=4) != whole


def test_places_in_a_batch_are_filled_as_soon_as_they_are_free() -> None:
    agent = Drawing()
    run_episodes(Walking(), [{"seed": 0, "options": {"length": n}} for n in (4, 1, 1, 1, 1)], agent, 0, batch_size=2)
    assert agent.sizes == [2, 2, 2, 2]


def test_shopping_does_not_depend_on_the_batch() -> None:
    simulator = WebShopSimulator(products=60, observation_mode="compact", max_steps=8)
    tasks = [{"seed": 0, "options": {"goal": goal}} for goal in range(12)]
    alone = run_episodes(simulator, tasks, RandomAgent(), seed=1, batch_size=1)
    assert alone == run_episodes(simulator, tasks, RandomAgent(), seed=1, batch_size=5)
    assert len({episode.transcript for episode in alone}) == 12


def test_episodes_that_were_played_before_are_kept_and_change_none_of_the_others() -> None:
    whole = run_episodes(Walking(), TASKS, Drawing(), seed=3)
    kept = dict.fromkeys((0, 7, 22), Episode({"id": "kept"}, (), (), True, 0))
    given, agent = dict(kept), Drawing()
    ended: dict[int, Episode] = {}
    counted = list[int]()
    episodes = run_episodes(
        Walking(),
        TASKS,
        agent,
        seed=3,
        batch_size=5,
        progress=counted.append,
        done=given,
        ended=lambda index, episode: ended.update({index: episode}),
    )
    assert episodes == [kept.get(index, episode) for index, episode in enumerate(whole)]
    assert ended == {index: episode for index, episode in enumerate(whole) if index not in kept}
    assert given == kept
    assert counted[0] >= 3
    assert counted[-1] == len(TASKS)
    assert sum(agent.sizes) == sum(episode.steps for episode in ended.values())
    everything = dict(enumerate(whole))
    assert run_episodes(Walking(), TASKS, Drawing(), seed=9, done=everything) == whole


def test_the_row_of_episodes_without_a_step_has_rates_of_zero() -> None:
    row = summarise([Episode({}, (), (), True, 0)] * 2, agent="a", env="e", split="test", seed=0, seconds=3.0)
    assert (row.success, row.reward, row.steps) == (1.0, 0.0, 0.0)
    assert (row.invalid_action_rate, row.model_calls, row.seconds_per_decision) == (0.0, 0.0, 3.0)
    one = summarise([Episode({}, (), (1.0,), True, 1, 1, 5)], agent="a", env="e", split="test", seed=0, seconds=3.0)
    assert (one.invalid_action_rate, one.model_calls, one.seconds_per_decision) == (1.0, 5.0, 3.0)
    assert (one.reward, one.reward_low, one.reward_high) == (1.0, 1.0, 1.0)


def test_no_tasks_and_no_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="no tasks to evaluate drawing on; give at least one goal of the split 'test'"):
        evaluate(Walking(), [], Drawing(), env="walk", split="test", seed=0)
    with pytest.raises(ValueError, match="batch_size=0; expected at least 1"):
        run_episodes(Walking(), TASKS, Drawing(), seed=0, batch_size=0)
    assert run_episodes(Walking(), [], Drawing(), seed=0) == []


def test_the_row_sums_up_its_episodes() -> None:
    start = time.perf_counter()
    row, episodes = evaluate(Walking(), TASKS, Drawing(), env="walk", split="test", seed=3)
    seconds = time.perf_counter() - start
    steps = sum(len(episode.transcript) // 2 for episode in episodes)
    assert (row.agent, row.env, row.split, row.seed, row.episodes) == ("drawing", "walk", "test", 3, 23)
    assert row.success == sum(episode.transcript[-2].text == "a" for episode in episodes) / 23
    assert (row.success_low, row.success_high) == wilson(round(row.success * 23), 23)
    assert row.reward == pytest.approx(np.mean([sum(episode.rewards) for episode in episodes]))
    assert row.reward_low < row.reward < row.reward_high
    invalid = sum(turn == acted("?") for episode in episodes for turn in episode.transcript)
    assert row.invalid_action_rate == pytest.approx(invalid / steps)
    assert row.steps == pytest.approx(steps / 23)
    assert row.model_calls == 3.0
    assert 0 < row.seconds_per_decision * steps <= seconds
    again = summarise(episodes, agent="drawing", env="walk", split="test", seed=3, seconds=2.0 * steps)
    assert again.seconds_per_decision == pytest.approx(2.0)


@pytest.mark.parametrize("reward", [math.nan, math.inf])
def test_rewards_that_are_no_numbers_are_named(reward: float) -> None:
    episode = Episode({}, (), (0.5, reward), True, 2)
    with pytest.raises(ValueError, match=r"an episode of a in e has rewards .*; expected finite numbers"):
        summarise([episode], agent="a", env="e", split="test", seed=0, seconds=3.0)


def test_a_row_of_figures_that_are_no_numbers_is_refused() -> None:
    row = summarise([Episode({}, (), (1.0,), True, 1)], agent="a", env="e", split="test", seed=0, seconds=3.0)
    assert row_of({**asdict(row), "more": 3}) == row
    for change, fault in (({"steps": "many"}, "a number"), ({"reward": 10**400}, "finite"), ({"seed": 0.5}, "whole")):
        with pytest.raises((TypeError, ValueError), match=fault):
            row_of({**asdict(row), **change})


def test_intervals_and_paired_tests_are_those_of_the_books() -> None:
    values = np.array([0.2, 0.4, 0.6])
    mean, low, high = mean_interval(values)
    assert (mean, high - mean) == (pytest.approx(0.4), pytest.approx(4.3027 * 0.2 / np.sqrt(3), rel=1e-4))
    assert low == pytest.approx(2 * mean - high)
    assert np.isnan(mean_interval(values[:1])[1])
    assert paired_p(values, values) == 1
    assert paired_p(values, values - 0.1) == 0
    assert paired_p(values[:1], values[1:2]) == 1
    assert paired_p(values, np.array([0.1, 0.4, 0.4])) == pytest.approx(0.2254, abs=1e-4)  # t = √3
