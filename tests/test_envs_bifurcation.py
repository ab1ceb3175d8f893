"""The bifurcation task: its rules, and its exact values against a plain recursion, episodes and searches."""

import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from flat_settings import flat_settings

import branchwise  # noqa: F401 - registers
from branchwise.envs.bifurcation import (
    FLIPPED,
    GOALS,
    STANDS,
    WORDS,
    Bifurcation,
    BifurcationState,
    expert,
    habitual,
    random_player,
)
from branchwise.envs.opponents import draw_outcome
from branchwise.envs.play.players import scripted_agents
from branchwise.envs.play.playing import run_episodes
from branchwise.envs.registry import simulator_for
from branchwise.envs.simulator import CHANCE, TERMINAL
from branchwise.search.engine import Root, search
from branchwise.search.evaluation import RandomRollout, ValueFunction
from branchwise.testing import check_simulator

ID = "branchwise/Bifurcation-v0"
PAGE = (Path(__file__).resolve().parents[1] / "docs" / "environments.md").read_text(encoding="utf-8")
SETTINGS: list[dict[str, Any]] = [
    {},
    {"recoverable": 0.0, "critical": 1.0, "horizon": 5, "slack": 0},
    {"recoverable": 1.0, "critical": 1.0, "horizon": 4, "slack": 7, "branching": 2, "keys": 3, "world": 5},
    {"recoverable": 0.6, "critical": 0.7, "horizon": 6, "slack": 3, "branching": 8, "keys": 1, "world": 2},
    {"hidden": True, "horizon": 7, "slack": 4, "recoverable": 0.8, "world": 9},
    {"noise": 0.4, "horizon": 5, "recoverable": 0.7, "world": 4},
    {"critical": 0.0, "horizon": 3, "slack": 1},
]


def random_table(task: Bifurcation, seed: int = 0) -> np.ndarray:
    shape = (task.keys, task.horizon, 2)
    return np.random.default_rng(seed).dirichlet(np.ones(task.branching), size=shape)


def recursion(task: Bifurcation, table: np.ndarray | None) -> Any:
    """V(key, turn, point, detour) by the rules as they are written down, one place at a time: of the policy of
    ``table``, of the best one where it is None. Knows ``is_critical``, ``right`` and ``is_recoverable`` alone."""

    def after(key: int, turn: int, point: int, detour: bool, action: int) -> float:
        if detour:
            return value(key, turn + 1, point, action != task.right[key, point, 1])
        if not task.is_critical[point] or action == task.right[key, point, 0]:
            return value(key, turn + 1, point + 1, False)
        return value(key, turn + 1, point, True) if task.is_recoverable[key, point, action] else 0.0

    @cache
    def value(key: int, turn: int, point: int, detour: bool) -> float:
        if point == task.horizon:
            return 1.0
        if turn == task.horizon + task.slack:
            return 0.0
        outcomes = [after(key, turn, point, detour, action) for action in range(task.branching)]
        return max(outcomes) if table is None else float(np.dot(table[key, point, int(detour)], outcomes))

    value.after = after  # type: ignore[attr-defined]
    return value


def at(task: Bifurcation, key: int = 0) -> BifurcationState:
    return task.reset(0, {"goal": key})


def right_word(task: Bifurcation, state: BifurcationState) -> str:
    key, point, detour, _ = task.table_index(state)
    return WORDS[task.right[key, point, detour]]


def wrong_word(task: Bifurcation, state: BifurcationState, recoverable: bool) -> str | None:
    """A wrong action of a point, None where it has none of the kind."""
    key, point, _, _ = task.table_index(state)
    if not task.is_critical[point]:
        return None
    wrong = [a for a in range(task.branching) if a != task.right[key, point, 0]]
    return next((WORDS[a] for a in wrong if task.is_recoverable[key, point, a] == recoverable), None)


def played(task: Bifurcation, player: Any, state: BifurcationState, rng: np.random.Generator) -> BifurcationState:
    while (mover := task.current_player(state)) != TERMINAL:
        state = task.step(state, draw_outcome(task, state, rng) if mover == CHANCE else player(task, state, rng))
    return state


def by_table(table: np.ndarray) -> Any:
    def policy(task: Bifurcation, state: BifurcationState) -> np.ndarray:
        key, point, detour, _ = task.table_index(state)
        return table[key, point, detour]

    return policy


# ---- the rules ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", SETTINGS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_it_keeps_every_promise_of_a_simulator_with_other_options(options: dict[str, Any], split: str) -> None:
    check_simulator(Bifurcation(**options, split=split), seeds=range(4), fresh_process=False)


def test_the_right_action_of_every_critical_point_passes_it_and_others_pass_by_any() -> None:
    task = Bifurcation()
    for key in range(task.keys):
        state = at(task, key)
        for point in range(task.horizon):
            for number, word in enumerate(task.legal_actions(state)):
                after = task.step(state, word)
                passes = number == task.right[key, point, 0] or not task.is_critical[point]
                assert (after.point == point + 1) == passes
                assert (after.outcome == "failure") == (not passes and not task.is_recoverable[key, point, number])
            state = task.step(state, right_word(task, state))
        assert (state.verdict, state.turn) == ("success", task.horizon)
        assert task.rewards(state) == (1.0,)
        assert task.info(state) == {"success": True, "invalid_action": False, "goal": key, "key": key}


def test_a_detour_leads_back_by_its_own_right_action_and_each_step_costs_a_turn() -> None:
    task = Bifurcation(horizon=2, slack=3, critical=1.0, recoverable=1.0)
    start = at(task)
    wrong = wrong_word(task, start, recoverable=True)
    assert wrong is not None
    beside = task.step(start, wrong)
    assert (beside.point, beside.detour, beside.last) == (0, True, "wrong")
    back = right_word(task, beside)
    for word in WORDS[: task.branching]:
        after = task.step(beside, word)
        assert (after.point, after.detour, after.turn) == (0, word != back, 2)
        assert after.last == ("returned" if word == back else "wrong")
    assert task.position(task.step(beside, back)) == task.position(start)


def test_running_out_of_turns_is_a_failure_and_no_truncation() -> None:
    task = Bifurcation(horizon=2, slack=1, critical=1.0, recoverable=1.0)
    state = at(task)
    word = wrong_word(task, state, recoverable=True)
    assert word is not None
    state = task.step(state, word)
    other = next(word for word in WORDS if word != right_word(task, state))
    state = task.step(task.step(state, other), other)
    assert state.verdict == "failure"
    assert task.current_player(state) == TERMINAL
    assert not task.truncated(state)
    assert task.rewards(state) == (0.0,)
    assert task.step(state, other) is state


def test_the_last_point_may_be_passed_on_the_last_turn() -> None:
    task = Bifurcation(horizon=3, slack=1, critical=0.0)
    state = task.step(at(task), "nothing of the kind")
    for _ in range(3):
        state = task.step(state, "left")
    assert (state.verdict, state.turn) == ("success", 4)


def test_illegal_text_costs_a_turn_and_nothing_else() -> None:
    task = Bifurcation(branching=3)
    for text in ("down", "", "left right", "\x00\ud800", "l" * 10**6, STANDS):
        state = task.step(at(task, 1), text)
        assert state == at(task, 1)._replace(turn=1, last="invalid action")
        assert task.info(state)["invalid_action"]
        assert not task.info(task.step(state, "left"))["invalid_action"]
    assert task.step(at(task), "  LEFT\n") == task.step(at(task), "left")


def test_what_is_read() -> None:
    task = Bifurcation(horizon=2, slack=3, critical=1.0, recoverable=1.0)
    state = at(task, 2)
    assert task.observation(state) == "key 2\npoint 1 of 2\nturns 5"
    word = wrong_word(task, state, recoverable=True)
    assert word is not None
    assert task.observation(task.step(state, word)) == "key 2\npoint 1 of 2\ndetour\nturns 4\nwrong"
    assert task.observation(task.step(state, "?")) == "key 2\npoint 1 of 2\nturns 4\ninvalid action"
    state = task.step(state, right_word(task, state))
    assert task.observation(state) == "key 2\npoint 2 of 2\nturns 4\npassed"
    state = task.step(state, right_word(task, state))
    assert task.observation(state) == "key 2\npoint 2 of 2\nturns 3\npassed\nsuccess"


@pytest.mark.parametrize("options", SETTINGS)
def test_the_lexicon_has_every_word_that_is_read(options: dict[str, Any]) -> None:
    task = Bifurcation(**options)
    rng = np.random.default_rng(0)
    for goal in range(20):
        state = at(task, goal)
        while (mover := task.current_player(state)) != TERMINAL:
            action = draw_outcome(task, state, rng) if mover == CHANCE else random_player(task, state, rng)
            state = task.step(state, "?" if rng.random() < 0.1 and mover != CHANCE else action)
            words = {word for word in task.observation(state).split() if not word.isdigit()}
            assert words <= set(task.lexicon())


def test_a_hidden_key_is_read_in_the_first_observation_alone() -> None:
    task = Bifurcation(hidden=True, critical=0.0)
    first, second = at(task, 0), at(task, 1)
    assert task.observation(first) != task.observation(second)
    for _ in range(3):
        first, second = task.step(first, "up"), task.step(second, "up")
        assert first != second
        assert task.observation(first) == task.observation(second)
        assert task.information_state(first, 0) != task.information_state(second, 0)


def test_goals_have_the_keys_in_turn_in_every_split() -> None:
    for split in ("train", "validation", "test"):
        task = Bifurcation(keys=3, split=split)
        assert [task.table_index(at(task, goal))[0] for goal in range(7)] == [0, 1, 2, 0, 1, 2, 0]
        assert {task.reset(seed).goal % 3 for seed in range(30)} == {0, 1, 2}
        with pytest.raises(ValueError, match="goal 'x'; expected a whole number from 0 to 9999"):
            task.reset(0, {"goal": "x"})
        with pytest.raises(ValueError, match=f"goal {GOALS} is not in split"):
            task.reset(0, {"goal": GOALS})


# ---- the world ------------------------------------------------------------------------------------------------------


def test_a_world_has_the_share_of_critical_points_and_of_recoverable_actions() -> None:
    task = Bifurcation(horizon=200, critical=0.3, recoverable=0.25, keys=20)
    assert task.is_critical.sum() == 60
    wrong = 60 * 20 * 3
    assert task.is_recoverable.sum() / wrong == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / wrong) ** 0.5)
    assert not task.is_recoverable[:, ~task.is_critical].any()


def test_worlds_differ_and_the_split_the_noise_and_the_episodes_change_none() -> None:
    def drawn(task: Bifurcation) -> list[Any]:
        return [task.is_critical.tolist(), task.right.tolist(), task.is_recoverable.tolist(), task.habits.tolist()]

    plain = Bifurcation(world=3)
    plain.reset(8)
    for same in ({"split": "test"}, {"noise": 0.3}, {"hidden": True}, {"rare": 0.4}, {"slack": 1}):
        assert drawn(Bifurcation(world=3, **same)) == drawn(plain)  # type: ignore[arg-type]
    for one, other in zip(drawn(plain), drawn(Bifurcation(world=4)), strict=True):
        assert one != other


def test_with_larger_shares_only_more_becomes_critical_and_recoverable() -> None:
    low, high = Bifurcation(critical=0.3, recoverable=0.2), Bifurcation(critical=0.8, recoverable=0.6)
    assert (low.right == high.right).all()
    assert (low.is_critical <= high.is_critical).all()
    assert (low.is_recoverable <= high.is_recoverable).all()
    assert low.is_recoverable.sum() < high.is_recoverable.sum()


def test_a_world_is_the_same_in_another_process() -> None:
    script = (
        "from branchwise.envs.bifurcation import Bifurcation as B; t = B(world=7);"
        "print([t.right.tolist(), t.is_recoverable.tolist(), t.hard_order, t.habits.tolist()])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    task = Bifurcation(world=7)
    here = [task.right.tolist(), task.is_recoverable.tolist(), task.hard_order, task.habits.tolist()]
    assert done.stdout.strip() == str(here)


def test_the_simulator_is_pickled_with_its_task() -> None:
    task = Bifurcation(recoverable=0.7, world=2)
    copied = pickle.loads(pickle.dumps(task))
    state = task.step(at(task, 3), "left")
    assert copied.step(at(copied, 3), "left") == state
    assert copied.optimal_values(state) == task.optimal_values(state)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"horizon": 0}, "horizon=0; expected a whole number of at least 1"),
        ({"horizon": 2.5}, "horizon=2.5; expected a whole number"),
        ({"slack": -1}, "slack=-1; expected a whole number of at least 0"),
        ({"slack": True}, "slack=True; expected a whole number"),
        ({"critical": 1.5}, "critical=1.5; expected a number from 0 to 1"),
        ({"critical": float("nan")}, "critical=nan; expected a number from 0 to 1"),
        ({"recoverable": -0.1}, "recoverable=-0.1; expected a number from 0 to 1"),
        ({"branching": 1}, "branching=1; expected a whole number from 2 to 8"),
        ({"branching": 9}, "branching=9; expected a whole number from 2 to 8"),
        ({"keys": 0}, "keys=0; expected a whole number from 1 to 10000"),
        ({"hidden": "yes"}, "hidden='yes'; expected True or False"),
        ({"noise": 0.5}, "noise=0.5; expected a probability below 0.5"),
        ({"noise": "much"}, "noise='much'; expected a number from 0 to 1"),
        ({"rare": 2}, "rare=2; expected a number from 0 to 1"),
        ({"world": -1}, "world=-1; expected a whole number of at least 0"),
        ({"split": "dev"}, "split='dev'; expected one of 'train', 'validation', 'test'"),
    ],
)
def test_a_wrong_option_is_named_with_what_was_expected(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Bifurcation(**options)


# ---- noise ----------------------------------------------------------------------------------------------------------


def test_a_noisy_verdict_is_drawn_after_the_end_and_is_what_reward_and_success_say() -> None:
    task = Bifurcation(horizon=1, critical=1.0, recoverable=0.0, noise=0.2)
    for word in WORDS[:4]:
        ended = task.step(at(task), word)
        truth = word == right_word(task, at(task))
        assert task.current_player(ended) == CHANCE
        assert not task.legal_actions(ended)
        assert task.optimal_values(ended) == {}
        assert task.rewards(ended) == (0.0,)
        assert dict(task.chance_outcomes(ended)) == {STANDS: 0.8, FLIPPED: 0.2}
        for outcome, success in ((STANDS, truth), (FLIPPED, not truth)):
            judged = task.step(ended, outcome)
            assert task.current_player(judged) == TERMINAL
            assert task.rewards(judged) == (float(success),)
            assert task.info(judged)["success"] is success
            assert task.table_index(judged)[1:3] == (1, int(not truth))
        assert task.current_player(task.step(ended, "left")) == CHANCE


@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_noise_flips_the_share_of_verdicts_that_it_says(noise: float) -> None:
    task = Bifurcation(noise=noise)
    count, rng = 3000, np.random.default_rng(0)
    fails = sum(played(task, expert, at(task, goal), rng).verdict == "failure" for goal in range(count))
    assert fails / count == pytest.approx(noise, abs=4 * (noise * (1 - noise) / count) ** 0.5)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_other_splits_have_no_noise(split: str) -> None:
    task = Bifurcation(noise=0.45, split=split)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    state = at(task)
    while task.current_player(state) != TERMINAL:
        assert task.current_player(state) == 0
        state = task.step(state, expert(task, state, rng))
    assert task.rewards(state) == (1.0,)


def test_an_invalid_text_on_the_last_turn_is_counted_before_the_verdict() -> None:
    task = Bifurcation(horizon=1, slack=0, noise=0.2)
    ended = task.step(at(task), "?")
    assert task.current_player(ended) == CHANCE
    assert task.info(ended)["invalid_action"]
    assert not task.info(task.step(ended, STANDS))["invalid_action"]


def test_gymnasium_draws_the_verdict_within_the_last_step() -> None:
    env = gym.make(ID, horizon=1, critical=0.0, noise=0.4)
    rewards = []
    for seed in range(400):
        env.reset(seed=seed)
        observation, reward, terminated, truncated, info = env.step("left")
        assert (terminated, truncated, info["success"]) == (True, False, reward == 1.0)
        assert observation.endswith("success" if reward else "failure")
        rewards.append(reward)
    assert 1 - np.mean(rewards) == pytest.approx(0.4, abs=0.1)


# ---- exact values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", SETTINGS)
def test_a_table_of_probabilities_has_the_values_of_the_recursion(options: dict[str, Any]) -> None:
    task = Bifurcation(**options)
    table = random_table(task)
    oracle, found = recursion(task, table), task.value_table(table)
    turns = task.horizon + task.slack
    assert found.v.shape == (task.keys, turns + 1, task.horizon + 1, 2)
    assert found.q.shape == (task.keys, turns, task.horizon, 2, task.branching)
    for key, turn, point, detour in np.ndindex(task.keys, turns + 1, task.horizon, 2):
        assert found.v[key, turn, point, detour] == pytest.approx(oracle(key, turn, point, bool(detour)), abs=1e-12)
        if turn < turns:
            outcomes = [oracle.after(key, turn, point, bool(detour), action) for action in range(task.branching)]
            assert found.q[key, turn, point, detour] == pytest.approx(outcomes, abs=1e-12)
    assert (found.v[:, :, task.horizon, 0] == 1.0).all()
    assert (found.v[:, :, task.horizon, 1] == 0.0).all()


@pytest.mark.parametrize("options", SETTINGS)
def test_optimal_values_are_those_of_the_recursion(options: dict[str, Any]) -> None:
    task = Bifurcation(**options)
    oracle = recursion(task, None)
    rng = np.random.default_rng(1)
    for goal in range(12):
        state = at(task, goal)
        while not state.outcome:
            key, point, detour, turn = task.table_index(state)
            values = [oracle.after(key, turn, point, bool(detour), action) for action in range(task.branching)]
            assert list(task.optimal_values(state).values()) == values
            assert list(task.optimal_values(state)) == list(task.legal_actions(state))
            state = task.step(state, random_player(task, state, rng))
        assert task.optimal_values(state) == {}


@pytest.mark.parametrize("options", SETTINGS)
def test_a_policy_given_as_a_function_has_the_values_of_its_table(options: dict[str, Any]) -> None:
    task = Bifurcation(**options)
    table = random_table(task, 3)
    found, policy = task.value_table(table), by_table(table)
    rng = np.random.default_rng(2)
    for goal in range(task.keys):
        state = at(task, goal)
        while not state.outcome:
            key, point, detour, turn = task.table_index(state)
            assert task.policy_value(state, policy) == pytest.approx(found.v[key, turn, point, detour], abs=1e-12)
            values = list(task.policy_values(state, policy).values())
            assert values == pytest.approx(found.q[key, turn, point, detour].tolist(), abs=1e-12)
            state = task.step(state, random_player(task, state, rng))
        assert task.policy_values(state, policy) == {}
        assert task.policy_value(state, policy) == float(state.outcome == "success")


def test_a_policy_may_depend_on_the_turn() -> None:
    """One critical point with three turns, all wrong actions recoverable: right on the third turn alone, and straight
    back from the detour, is a sure success; right on the first alone, after a mistake on it, is none."""
    task = Bifurcation(horizon=1, slack=2, critical=1.0, recoverable=1.0)

    def only_on(turn: int) -> Any:
        def policy(task: Bifurcation, state: BifurcationState) -> list[float]:
            key, point, detour, _ = task.table_index(state)
            right = task.right[key, point, detour]
            chosen = right if state.detour or state.turn == turn else (right + 1) % task.branching
            return [float(a == chosen) for a in range(task.branching)]

        return policy

    assert task.policy_value(at(task), only_on(2)) == 1.0
    values = task.policy_values(at(task), only_on(0))
    assert values == {word: float(word == right_word(task, at(task))) for word in WORDS[:4]}


def test_no_distribution_is_refused() -> None:
    task = Bifurcation()
    table = random_table(task)
    with pytest.raises(ValueError, match=r"expected \[keys, horizon, 2, branching\] = \(4, 12, 2, 4\)"):
        task.value_table(table[:, :, 0])
    with pytest.raises(ValueError, match="sum 1"):
        task.value_table(2 * table)
    with pytest.raises(ValueError, match="from 0 on"):
        task.value_table(np.where(np.arange(4) == 0, -1.0, 2 / 3) * np.ones_like(table))
    for wrong in ([1.0, 1.0, 0.0, 0.0], [0.5, 0.5], [np.nan] * 4):
        with pytest.raises(ValueError, match="the policy gave"):
            task.policy_value(at(task), lambda task, state, wrong=wrong: wrong)  # type: ignore[misc]


# ---- who plays it by rule -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", SETTINGS[:5])
def test_the_expert_always_succeeds(options: dict[str, Any]) -> None:
    task = Bifurcation(**options)
    rng = np.random.default_rng(0)
    assert all(played(task, expert, at(task, goal), rng).verdict == "success" for goal in range(40))


def test_the_expert_finds_back_from_a_detour() -> None:
    task = Bifurcation(horizon=3, slack=2, critical=1.0, recoverable=1.0)
    word = wrong_word(task, at(task), recoverable=True)
    assert word is not None
    assert played(task, expert, task.step(at(task), word), np.random.default_rng(0)).verdict == "success"


@pytest.mark.parametrize(("hard", "rare", "success"), [(0, 0.05, 0.25), (1, 0.3, 0.25), (2, 0.3, 0.2)])
def test_the_habitual_table_succeeds_as_often_as_asked(hard: int, rare: float, success: float) -> None:
    task = Bifurcation(rare=rare)
    table = task.habitual_table(hard, success)
    assert task.value_table(table).v[:, 0, 0, 0].mean() == pytest.approx(success, abs=1e-9)
    assert table is task.habitual_table(hard, success, rare)
    assert not table.flags.writeable


def test_success_out_of_reach_is_the_nearest_that_can_be_reached() -> None:
    """Fatal mistakes: at most rare² with two habits; at least what uniform play has, 4^−3, with none."""
    task = Bifurcation(recoverable=0.0, critical=0.25)
    high = task.value_table(task.habitual_table(2, 0.25, 0.05)).v[:, 0, 0, 0]
    assert high == pytest.approx(0.05**2, rel=1e-6)
    low = task.value_table(task.habitual_table(0, 0.001)).v[:, 0, 0, 0]
    assert low == pytest.approx(0.25**3, rel=1e-6)


@pytest.mark.parametrize(
    ("branching", "rare", "habit"), [(2, 0.05, 0.95), (4, 0.05, 0.55), (4, 0.6, 0.4), (8, 0, 0.55)]
)
def test_a_habit_is_a_distribution_with_a_rare_right_action(branching: int, rare: float, habit: float) -> None:
    task = Bifurcation(branching=branching, rare=rare, critical=1.0)
    table = task.habitual_table(3)
    assert table.sum(axis=-1) == pytest.approx(1.0)
    rest = (1 - rare - habit) / max(branching - 2, 1)
    for point in task.hard_order[:3]:
        for key in range(task.keys):
            expected = np.full(branching, rest)
            expected[task.right[key, point, 0]] = rare
            expected[task.habits[key, point]] = habit
            assert task.habits[key, point] != task.right[key, point, 0]
            assert table[key, point, 0] == pytest.approx(expected)
    others = [point for point in range(task.horizon) if point not in task.hard_order[:3]]
    assert (table[:, others].argmax(axis=-1) == task.right[:, others]).all()


def test_more_habits_than_critical_points_are_refused() -> None:
    task = Bifurcation(horizon=4, critical=0.25)
    with pytest.raises(ValueError, match="hard=2; expected at most 1, the critical points of this task"):
        task.habitual_table()
    assert task.legal_actions(at(task)).index(habitual(task, at(task), np.random.default_rng(0))) >= 0


def test_the_habitual_player_succeeds_as_often_as_its_table_says() -> None:
    task = Bifurcation(rare=0.4)
    exact = task.value_table(task.habitual_table()).v[:, 0, 0, 0].mean()
    count, rng = 4000, np.random.default_rng(0)
    wins = sum(played(task, habitual, at(task, goal), rng).verdict == "success" for goal in range(count))
    assert exact == pytest.approx(0.25, abs=1e-9)
    assert wins / count == pytest.approx(exact, abs=4 * (exact * (1 - exact) / count) ** 0.5)


def test_the_players_of_the_row_play() -> None:
    agents = scripted_agents(ID)
    assert set(agents) == {"random", "habitual", "expert"}
    task = simulator_for(ID, noise=0.2)
    tasks = [{"seed": goal, "options": {"goal": goal}} for goal in range(50)]
    episodes = run_episodes(task, tasks, agents["expert"](), seed=0)
    assert all(episode.steps == 12 and not episode.invalid_actions for episode in episodes)
    assert 0.6 < np.mean([episode.total_reward for episode in episodes]) < 0.95


# ---- searches -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [0, 1])
def test_a_tree_search_solves_it(world: int) -> None:
    """Monte-Carlo tree search from every decision of an episode; from the first it is led onto a detour."""
    task = Bifurcation(horizon=5, slack=3, critical=1.0, recoverable=0.6, branching=3, world=world)
    key = next(key for key in range(4) if wrong_word(task, at(task, key), recoverable=True))
    word = wrong_word(task, at(task, key), recoverable=True)
    assert word is not None
    state = task.step(at(task, key), word)
    settings = flat_settings(simulations=400, selection="uct", exploration=1.0, revisit=True)
    while not state.outcome:
        [tree] = search(task, [Root(state)], None, RandomRollout(), settings, np.random.default_rng(0))
        assert task.optimal_values(state)[tree.best_action()] == 1.0
        state = task.step(state, tree.best_action())
    assert state.verdict == "success"


@pytest.mark.parametrize("world", range(4))
def test_a_tree_of_all_ways_has_the_optimal_values(world: int) -> None:
    """So much exploration that every way is tried."""
    task = Bifurcation(horizon=3, slack=2, critical=1.0, recoverable=0.6, branching=2, world=world)
    settings = flat_settings(simulations=2000, selection="uct", exploration=1000.0, revisit=True, backup="max")
    for key in range(task.keys):
        nothing = ValueFunction(lambda *_: 0.0)
        [tree] = search(task, [Root(at(task, key))], None, nothing, settings, np.random.default_rng(0))
        assert tree.stopped == "solved"
        expanded = [node for node in range(len(tree.states)) if len(tree.children(node))]
        assert len(expanded) >= task.horizon
        for node in expanded:
            found = {tree.actions[child]: tree.value(child) for child in tree.children(node)}
            assert found == task.optimal_values(tree.states[node])


def test_a_search_that_never_returns_takes_detours_for_dead_ends() -> None:
    task = Bifurcation(horizon=1, slack=2, critical=1.0, recoverable=1.0, branching=2)
    wrong = wrong_word(task, at(task), recoverable=True)
    for revisit, worth in ((True, 1.0), (False, 0.0)):
        settings = flat_settings(simulations=300, backup="max", revisit=revisit)
        [tree] = search(task, [Root(at(task))], None, ValueFunction(lambda *_: 0.0), settings, np.random.default_rng(0))
        [child] = [child for child in tree.children() if tree.actions[child] == wrong]
        assert tree.value(child) == worth


def test_positions_never_repeat_where_nothing_is_recoverable() -> None:
    assert Bifurcation(recoverable=0.0).never_repeats
    assert not Bifurcation(recoverable=0.5).never_repeats


# ---- the page -------------------------------------------------------------------------------------------------------


def test_the_page_runs_and_its_figures_are_the_exact_ones() -> None:
    text = PAGE.split("## A task with known values")[1].split("## ")[0]
    names: dict[str, Any] = {}
    exec(text.split("```python\n")[1].split("```")[0], names)
    key, point, detour, turn = names["task"].table_index(names["state"])
    assert names["values"].q[key, turn, point, detour].shape == (4,)

    def reached(**options: Any) -> list[float]:
        tasks = [Bifurcation(world=world, **options) for world in range(20)]
        return [100 * float(task.value_table(task.habitual_table()).v[:, 0, 0, 0].mean()) for task in tasks]

    usual, rare, sure = reached(), reached(rare=0.05), reached(recoverable=1.0)
    said = f"{rare[0]:.1f} % of episodes (worlds 0 to 19: {min(rare):.1f} to {max(rare):.1f} %)"
    assert said in " ".join(text.split())
    assert [round(share) for share in (usual[0], min(usual), max(usual))] == [25, 10, 25]
    assert sure == pytest.approx([25.0] * 20)
