"""A verdict that errs: how often, where it is drawn, and that nothing else changes."""

import pickle
from typing import Any

import numpy as np
import pytest

from branchwise.envs.abilities import suggested_actions
from branchwise.envs.noisy import FLIPPED, STANDS, Judged, NoisyVerdict
from branchwise.envs.play.players import RandomAgent, scripted_agent
from branchwise.envs.play.playing import run_episodes
from branchwise.envs.play.task import TaskSource, start
from branchwise.envs.registry import simulator_for
from branchwise.envs.simulator import CHANCE, TERMINAL
from branchwise.envs.wrappers import ListedActions, SuccessOutcome
from branchwise.search import RandomRollout, SearchSettings, best_paths, search, sibling_pairs
from branchwise.testing import check_simulator

from .toys import RandomGame

SHOP = TaskSource("WebShop", {"products": 100, "observation_mode": "compact"})


@pytest.fixture(scope="module")
def shop() -> Any:
    return SHOP.simulator("train")


def ended(simulator: Any, state: Any) -> Any:
    rng = np.random.default_rng(0)
    while simulator.current_player(state) >= 0:
        actions = suggested_actions(simulator, state)
        state = simulator.step(state, actions[int(rng.integers(len(actions)))])
    return state


def test_the_verdict_is_a_chance_node_after_the_last_action(shop: Any) -> None:
    noisy = NoisyVerdict(shop, 0.2)
    check_simulator(noisy, seeds=range(3))
    first = noisy.reset(3)
    assert noisy.observation(first) == shop.observation(shop.reset(3))
    state = ended(noisy, first)
    assert noisy.current_player(state) == CHANCE
    assert noisy.rewards(state) == (0.0,)
    assert dict(noisy.chance_outcomes(state)) == {STANDS: 0.8, FLIPPED: 0.2}
    truth = shop.info(state.inner)["success"]
    for outcome, wrong in ((STANDS, False), (FLIPPED, True)):
        judged = noisy.step(state, outcome)
        assert noisy.current_player(judged) == TERMINAL
        assert noisy.info(judged)["success"] == (truth != wrong)
        assert noisy.rewards(judged) == shop.rewards(state.inner)
        assert SuccessOutcome(noisy).rewards(judged) == (float(truth != wrong),)
    assert pickle.loads(pickle.dumps(state)) == state == Judged(state.inner)


def test_luck_before_the_end_and_its_rewards_are_the_inner_simulator_s() -> None:
    inner = RandomGame(1, zero_sum=False, chance=True)
    noisy = NoisyVerdict(inner, 0.2)
    luck = paid = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        state, judged = inner.reset(seed), noisy.reset(seed)
        while (player := inner.current_player(state)) != TERMINAL:
            assert noisy.current_player(judged) == player
            if player == CHANCE:
                luck += 1
                assert noisy.chance_outcomes(judged) == inner.chance_outcomes(state)
            actions = (
                [each for each, _ in inner.chance_outcomes(state)] if player == CHANCE else inner.legal_actions(state)
            )
            action = actions[int(rng.integers(len(actions)))]
            state, judged = inner.step(state, action), noisy.step(judged, action)
            if inner.current_player(state) != TERMINAL:
                assert noisy.rewards(judged) == inner.rewards(state)
                paid += player == CHANCE and inner.rewards(state) != (0.0,)
        assert (noisy.current_player(judged), noisy.rewards(judged)) == (CHANCE, (0.0,))
        ended = noisy.step(judged, STANDS)
        assert noisy.rewards(ended) == inner.rewards(state)
        assert noisy.step(ended, FLIPPED) == noisy.step(ended, "a0") == ended  # judged once
        assert noisy.step(judged, "no verdict") == judged
    assert luck > 100
    assert paid > 10


def test_one_verdict_in_five_is_wrong(shop: Any) -> None:
    """Of an expert-like and of a random player alike: each episode's verdict is drawn with its own generator."""
    tasks = SHOP.tasks(shop, "train", 400)
    for agent in (RandomAgent(), scripted_agent("WebShop", "careful")):
        true = [episode.success for episode in run_episodes(shop, tasks, agent, 0)]
        found = [episode.success for episode in run_episodes(NoisyVerdict(shop, 0.2), tasks, agent, 0)]
        wrong = np.mean([a != b for a, b in zip(true, found, strict=True)])
        assert 0.14 <= wrong <= 0.26  # three standard errors of 400
        again = [episode.success for episode in run_episodes(NoisyVerdict(shop, 0.2), tasks, agent, 0)]
        assert again == found


def test_a_search_draws_a_verdict_a_simulation_and_pairs_hold_actions_alone(shop: Any) -> None:
    noisy = ListedActions(SuccessOutcome(NoisyVerdict(shop, 0.2)))
    roots = [start(noisy, task) for task in SHOP.tasks(shop, "train", 6)]
    settings = SearchSettings(simulations=200, solve=False, revisit=True)
    trees = search(noisy, roots, None, RandomRollout(), settings, np.random.default_rng(0).spawn(6))
    verdicts = {FLIPPED, STANDS}
    assert any(verdicts <= set(tree.actions) for tree in trees)
    for tree in trees:
        for pair in (*sibling_pairs(tree, 0.05, 2)[0], *best_paths(tree)[0]):
            assert not verdicts & {turn.text for turn in (*pair.prompt, *pair.chosen, *pair.rejected)}


@pytest.mark.parametrize("noise", [0.0, 0.5, -0.1, 1.0])
def test_noise_is_a_probability_below_a_half(shop: Any, noise: float) -> None:
    with pytest.raises(ValueError, match=r"above 0 and below 0\.5"):
        NoisyVerdict(shop, noise)


def test_games_of_several_players_are_refused() -> None:
    with pytest.raises(ValueError, match="2 players"):
        NoisyVerdict(simulator_for("TicTacToe"), 0.2)
