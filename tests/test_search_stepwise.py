"""Step rewards by roll-outs: means of what really follows, on a problem whose values are known."""

from typing import Any

import numpy as np
import pytest

from branchwise.envs.bifurcation import Bifurcation
from branchwise.envs.play.players import RandomAgent, scripted_agents
from branchwise.envs.play.playing import run_episodes
from branchwise.envs.play.task import TaskSource
from branchwise.envs.registry import simulator_for
from branchwise.envs.wrappers import SuccessOutcome
from branchwise.search.stepwise import replayed, step_rollouts


def walked(agent: Any = None, rollouts: int = 3, goals: int = 12) -> Any:
    source = TaskSource("WebShop", {"observation_mode": "compact", "products": 60, "max_steps": 6})
    shop: Any = SuccessOutcome(source.simulator("train"))
    tasks = source.tasks(shop, "train", goals)
    good = [e for e in run_episodes(shop, tasks, scripted_agents("WebShop")["careful"](), 0) if e.success]
    assert len(good) > 3
    rngs = np.random.default_rng(1).spawn(len(good))
    return shop, good, step_rollouts(shop, good, agent or RandomAgent(), rngs, rollouts)


def test_rows_hold_both_remainders_of_steps_at_which_the_policy_did_worse() -> None:
    shop, good, (rows, dropped, calls) = walked()
    assert rows
    assert not any(calls), "a player by rule asks no model"
    assert set(dropped) <= {"same action", "no better"}
    assert len(rows) + sum(dropped.values()) == sum(episode.steps for episode in good)
    for row in rows:
        episode = good[row.tree]
        assert (*row.prompt, *row.chosen) == episode.transcript[: len(row.prompt) + len(row.chosen)]
        assert row.chosen[0].text != row.rejected[0].text
        assert row.chosen[-1].is_agent
        assert row.rejected[-1].is_agent
        assert (row.chosen_visits, row.rejected_visits) == (3, 3)
        assert sum(turn.is_agent for turn in row.prompt) == row.depth
        state = shop.reset(episode.task["seed"], episode.task["options"])
        for turn in (*row.prompt, *row.rejected):
            state = shop.step(state, turn.text) if turn.is_agent else state
        assert shop.rewards(state)[0] == 0.0, "the remainder is a play of the rules, and it failed"


def test_an_action_that_ends_the_episode_is_worth_what_it_paid() -> None:
    _, good, (rows, _, _) = walked()
    last = [row for row in rows if row.depth == good[row.tree].steps - 1]
    assert last
    assert {row.chosen_q for row in last} == {1.0}


def test_values_are_the_means_of_roll_outs_by_the_same_policy() -> None:
    """Of a player that always plays well the good step is worth 1, and its own, which differs nowhere, gives no row."""
    _, good, (rows, dropped, _) = walked(scripted_agents("WebShop")["careful"]())
    assert not rows
    assert dropped == {"same action": sum(episode.steps for episode in good)}


def test_the_same_generators_give_the_same_rows() -> None:
    assert walked()[2] == walked()[2]


def test_a_game_of_several_players_is_refused() -> None:
    with pytest.raises(ValueError, match="step roll-outs value what one player does, and 2 play here"):
        step_rollouts(simulator_for("branchwise/TicTacToe-v0"), [], RandomAgent(), [])


def test_luck_after_the_last_action_is_what_the_episode_says() -> None:
    """A verdict that is flipped one time in three: replaying draws it not anew."""
    task = Bifurcation(horizon=2, slack=0, critical=1.0, recoverable=0.0, branching=2, noise=1 / 3)
    goals: Any = [{"seed": goal, "options": {"goal": goal % 4}} for goal in range(40)]
    episodes = run_episodes(task, goals, RandomAgent(), 0)
    flipped = 0
    for episode in episodes:
        steps = replayed(task, episode)
        assert [paid for *_, paid in steps] == list(episode.rewards)
        last = task.step(steps[-1][1], [turn.text for turn in episode.transcript if turn.is_agent][-1])
        flipped += (last.outcome == "success") != episode.success
    assert 0 < flipped < len(episodes)


def test_luck_between_two_actions_is_refused() -> None:
    class Early(Bifurcation):
        def current_player(self, state: Any) -> int:
            return -1 if state.turn == 1 else super().current_player(state)

    task = Bifurcation(horizon=3, critical=0.0, recoverable=0.0)
    [episode] = run_episodes(task, [{"seed": 0, "options": {"goal": 0}}], RandomAgent(), 0)
    with pytest.raises(ValueError, match="Early has luck between"):
        replayed(Early(horizon=3, critical=0.0, recoverable=0.0), episode)
