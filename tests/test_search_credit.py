"""Advantages of trees and episodes that were built by hand, against numbers computed by hand."""

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hand_trees import TASK, built

from branchwise.agents.prompting import history_named
from branchwise.envs.play.episode import Episode
from branchwise.envs.play.players import RandomAgent, ScriptedAgent
from branchwise.envs.play.playing import run_episodes
from branchwise.envs.play.task import start
from branchwise.envs.play.transcript import Transcript, Turn, acted, observed
from branchwise.envs.registry import simulator_for
from branchwise.envs.simulator import TERMINAL, Simulator
from branchwise.search import RandomRollout, SearchSettings, search
from branchwise.search.credit import (
    StepAdvantage,
    group_advantages,
    pooled_advantages,
    returns_to_go,
    state_pairs,
    tree_advantages,
    vine_advantages,
)
from branchwise.search.extraction import above_mean
from branchwise.search.records import load_advantages, load_pairs, save_advantages, save_pairs
from branchwise.training.loop.extractors import StatePairs

SIBLINGS = built(
    {
        "n": 12,
        "children": {
            "good": {"n": 4, "q": 0.9, "p": 0.4, "logp": -0.5},
            "fair": {"n": 3, "q": 0.5, "p": 0.2, "logp": -1.5},
            "bad": {"n": 1, "q": 0.1, "p": 0.2, "logp": math.nan},
            "never": {"p": 0.2},
        },
    }
)


def by_action(rows: list[StepAdvantage]) -> dict[str, float]:
    return {row.action[0].text: pytest.approx(row.advantage, abs=1e-6) for row in rows}


# ---- trees ----------------------------------------------------------------------------------------------------------


def test_siblings_are_compared_with_their_mean_weighted_by_the_prior_of_those_that_were_visited() -> None:
    rows, dropped = tree_advantages(SIBLINGS, round=2)
    # V = (0.4·0.9 + 0.2·0.5 + 0.2·0.1) / 0.8 = 0.6
    assert by_action(rows) == {"good": 0.3, "fair": -0.1, "bad": -0.5}
    assert dropped == Counter({"unvisited": 1})
    good, _, bad = rows
    assert (good.q, good.baseline) == (pytest.approx(0.9), pytest.approx(0.6))
    assert (good.logp, bad.logp, good.visits) == (-0.5, None, 4)
    assert (good.env_id, good.task, good.tree, good.node, good.depth) == ("toy", TASK, 7, 0, 0)
    assert (good.round, good.kind, good.prompt) == (2, "tree", (observed("start"),))


def test_normalised_siblings_are_in_units_of_the_standard_deviation_of_their_values() -> None:
    rows, _ = tree_advantages(SIBLINGS, normalise=True)
    deviation = math.sqrt((0.4**2 + 0.0**2 + 0.4**2) / 3)
    assert by_action(rows) == {"good": 0.3 / deviation, "fair": -0.1 / deviation, "bad": -0.5 / deviation}


def test_children_with_few_visits_take_no_part_unless_they_are_solved() -> None:
    few = {"a": {"n": 3, "q": 1.0}, "b": {"n": 3, "q": 0.0}, "c": {"n": 1, "q": 0.5}}
    rows, dropped = tree_advantages(built({"n": 7, "children": few}), min_visits=2)
    assert by_action(rows) == {"a": 0.5, "b": -0.5}
    assert dropped == Counter({"too few visits": 1})
    few["c"] = {"n": 1, "q": 0.5, "solved": True}
    rows, dropped = tree_advantages(built({"n": 7, "children": few}), min_visits=2)
    assert by_action(rows) == {"a": 0.5, "b": -0.5}
    assert dropped == Counter({"no advantage": 1}), "c is worth the mean"


def test_every_node_with_a_contrast_gives_rows_that_hang_on_its_own_children_alone() -> None:
    def tree(low: float) -> Any:
        left = {"n": 4, "q": 0.5, "children": {"x": {"n": 2, "q": 1.0}, "y": {"n": 2, "q": low}}}
        return built({"n": 8, "children": {"left": left, "right": {"n": 4, "q": 0.0, "children": {"z": {"n": 3}}}}})

    rows, dropped = tree_advantages(tree(0.0))
    assert by_action(rows) == {"left": 0.25, "right": -0.25, "x": 0.5, "y": -0.5}
    assert dropped == Counter({"no contrast": 1})
    assert [row.depth for row in rows] == [0, 0, 1, 1]
    assert rows[2].prompt == (observed("start"), acted("left"), observed("after left"))
    changed, _ = tree_advantages(tree(0.5))
    assert changed[:2] == rows[:2], "below a node nothing counts but what its children's values say"


def test_priors_that_are_all_0_and_values_that_are_all_equal() -> None:
    children = {"a": {"n": 1, "q": 1.0, "p": 0.0}, "b": {"n": 1, "q": 0.0, "p": 0.0}, "c": {"n": 1, "q": 0.5, "p": 0.0}}
    assert by_action(tree_advantages(built({"n": 3, "children": children}))[0]) == {"a": 0.5, "b": -0.5}
    alike = {name: {"n": 1, "q": 0.1} for name in "abc"}
    for normalise in (False, True):
        assert tree_advantages(built({"n": 3, "children": alike}), normalise=normalise) == ([], {"no advantage": 3})


def test_in_games_the_values_are_the_movers() -> None:
    """X has 1, 2 and 5 and threatens 8; O, who has 3 and 9, is to move and wins with 6."""
    game = simulator_for("branchwise/TicTacToe-v0")
    state = start(game, {"seed": 0}).state
    for action in ("1", "3", "2", "9", "5"):
        state = game.step(state, action)
    root = replace(start(game, {"seed": 0}), state=state)
    [tree] = search(game, [root], None, RandomRollout(), SearchSettings(simulations=200, solve=False))
    assert tree.player(0) == 1
    rows, _ = tree_advantages(tree)
    of_root = {row.action[0].text: row for row in rows if row.node == 0}
    assert max(of_root, key=lambda action: of_root[action].advantage) == "6"
    assert of_root["6"].q == 1.0
    assert all(row.q == tree.value(next(c for c in tree.children(row.node) if tree.actions[c] == row.action[0].text))
               for row in rows)  # fmt: skip
    assert {tree.player(row.node) for row in rows} == {0, 1}


# ---- episodes -------------------------------------------------------------------------------------------------------


def episode(*steps: tuple[str, str, float], seed: int = 1, success: bool = False) -> Episode:
    """What was seen and done, and what it paid."""
    turns = [turn for seen, action, _ in steps for turn in (observed(seen), acted(action))]
    rewards = tuple(paid for *_, paid in steps)
    return Episode({"env_id": "toy", "seed": seed}, (*turns, observed("end")), rewards, success, len(steps))


def last(transcript: Transcript) -> str:
    return transcript[-1].text


TRIES = [
    episode(("s", "a", 0.0), ("t", "b", 1.0), success=True),
    episode(("s", "a", 0.0), ("t", "c", 0.0)),
    episode(("s", "d", 0.5)),
]
"""With γ = ½ they return (½, 1), (0, 0) and (½); state s has ½, 0, ½ and state t has 1, 0."""


def placed(rows: list[StepAdvantage]) -> dict[tuple[int, int], float]:
    """By episode and step."""
    return {(row.node, row.depth): pytest.approx(row.advantage, abs=1e-9) for row in rows}


def test_the_return_of_a_step_is_what_comes_after_it_on_its_own_path() -> None:
    assert returns_to_go([1.0, 0.0, 4.0], 0.5) == [2.0, 2.0, 4.0]
    assert returns_to_go([1.0, 2.0, 3.0], 1.0) == [6.0, 5.0, 3.0]
    assert returns_to_go([1.0, 2.0], 0.0) == [1.0, 2.0]
    assert returns_to_go([], 0.5) == []
    before, after = [
        placed(pooled_advantages([TRIES[0], other], last, by="reward", discount=0.5)[0])
        for other in (TRIES[1], episode(("s", "a", 0.0), ("t", "c", 0.0), ("u", "c", 8.0)))
    ]
    assert after[0, 1] == -0.5 * (0.5 * 8.0 - 1.0) == -1.5
    assert before[0, 1] == 0.5
    own = [row.q for row in group_advantages(TRIES[:2], last, by="reward", discount=0.5)[0]]
    assert own == [0.5, 1.0, 0.0, 0.0]


def test_groups_of_episodes_and_of_equal_states_have_the_papers_advantages() -> None:
    rows, dropped = group_advantages(TRIES, last, by="reward", weight=2.0, discount=0.5, round=3)
    whole = [0.5 / math.sqrt(1 / 6), -0.5 / math.sqrt(1 / 6), 0.0]  # R = 1, 0, ½
    deviation = math.sqrt(1 / 18)  # of ½, 0, ½, whose mean is ⅓
    assert placed(rows) == {
        (0, 0): whole[0] + 2 * (1 / 6) / deviation,
        (0, 1): whole[0] + 2 * 1.0,
        (1, 0): whole[1] - 2 * (1 / 3) / deviation,
        (1, 1): whole[1] - 2 * 1.0,
        (2, 0): 2 * (1 / 6) / deviation,
    }
    assert not dropped
    second = rows[1]
    assert (second.q, second.baseline, second.visits, second.logp) == (1.0, 0.5, 1, None)
    assert (second.prompt, second.action) == (TRIES[0].transcript[:3], (acted("b"),))
    assert (second.env_id, second.tree, second.round, second.kind) == ("toy", 0, 3, "group")


def test_without_normalising_groups_nothing_is_divided() -> None:
    rows, _ = group_advantages(TRIES, last, by="reward", discount=0.5, normalise=False)
    expected = {(0, 0): 0.5 + 1 / 6, (0, 1): 0.5 + 0.5, (1, 0): -0.5 - 1 / 3, (1, 1): -0.5 - 0.5, (2, 0): 1 / 6}
    assert placed(rows) == expected


def test_by_success_the_last_step_alone_pays() -> None:
    rows, _ = group_advantages(TRIES, last, by="success", discount=0.5, normalise=False)
    # R = 1, 0, 0; state s has ½, 0, 0 and t has 1, 0
    third = 1 / 3
    expected = {(0, 0): 1 - third + third, (0, 1): 1 - third + 0.5, (1, 0): -third - 1 / 6, (1, 1): -third - 0.5}
    assert placed(rows) == expected | {(2, 0): -third - 1 / 6}


def test_groups_of_one_and_groups_that_are_all_alike_have_no_advantage() -> None:
    alone = episode(("s", "a", 1.0), seed=2)
    rows, dropped = group_advantages([alone, replace(TRIES[0], transcript=())], last, by="reward")
    assert (rows, dropped) == ([], {"no advantage": 1, "no action": 1})
    alike = [episode(("s", "a", 0.1)), episode(("s", "b", 0.1)), episode(("s", "c", 0.1))]
    assert group_advantages(alike, last, by="reward") == ([], {"no advantage": 3})


def test_equal_returns_have_no_advantage_however_large_they_are() -> None:
    for paid in (1e8 + 0.1, 12345678.9, 2e7 + 0.1):
        for count in (3, 6, 7):
            alike = [episode(("s", "abcdefg"[number], paid)) for number in range(count)]
            assert group_advantages(alike, last, by="reward") == ([], {"no advantage": count})
            assert pooled_advantages(alike, last, by="reward") == ([], {"no advantage": count})
            assert state_pairs(alike, last, 0.0, by="reward")[0] == []
            assert above_mean([paid] * count) == [False] * count


@pytest.mark.parametrize("paid", [math.nan, math.inf, 1e308])
def test_rewards_that_are_no_numbers_are_refused(paid: float) -> None:
    tries = [*TRIES, episode(("s", "a", paid), ("t", "b", paid))]
    for estimate in (group_advantages, pooled_advantages, state_pairs):
        with pytest.raises(ValueError, match="expected finite numbers"):
            estimate(tries, last, by="reward")


def test_states_of_other_tasks_are_other_states() -> None:
    others = [episode(("s", "a", 4.0), seed=2), episode(("s", "d", 0.0), seed=2)]
    for estimate in (group_advantages, pooled_advantages):
        apart, together = estimate(TRIES, last, by="reward")[0], estimate([*TRIES, *others], last, by="reward")[0]
        assert together[: len(apart)] == apart
        assert {row.tree for row in together} == {0, 1}


def test_pooled_states_have_means_of_returns() -> None:
    rows, dropped = pooled_advantages(TRIES, last, by="reward", discount=0.5)
    # Q(s, a) = (½ + 0) / 2, Q(s, d) = ½, V(s) = ⅓; Q(t, b) = 1, Q(t, c) = 0, V(t) = ½
    assert placed(rows) == {(0, 0): -1 / 12, (0, 1): 0.5, (1, 0): -1 / 12, (1, 1): -0.5, (2, 0): 1 / 6}
    assert [row.visits for row in rows] == [2, 1, 2, 1, 1]
    assert [row.q for row in rows] == [0.25, 1.0, 0.25, 0.0, 0.5]
    assert {row.kind for row in rows} == {"pooled"}
    assert not dropped


def test_equal_states_of_episodes_give_step_pairs() -> None:
    pairs, dropped = state_pairs(TRIES, last, 0.1, by="reward", round=4)
    # undiscounted: Q(s, a) = (1 + 0) / 2, Q(s, d) = ½: a tie; Q(t, b) = 1, Q(t, c) = 0
    assert [(pair.chosen[0].text, pair.rejected[0].text) for pair in pairs] == [("b", "c")]
    assert dropped == {"tie": 1, "no contrast": 1}
    [pair] = pairs
    assert (pair.chosen_q, pair.rejected_q, pair.chosen_visits, pair.rejected_visits) == (1.0, 0.0, 1, 1)
    assert (pair.prompt, pair.tree, pair.node, pair.depth) == (TRIES[0].transcript[:3], 0, 1, 1)
    assert (pair.env_id, pair.round, pair.kind, pair.ref_chosen_logp) == ("toy", 4, "state", None)
    assert state_pairs(TRIES, last, 0.1, 2, by="reward")[1] == {"too few visits": 3, "no contrast": 2}


def test_state_pairs_are_filtered_by_threshold_and_by_standard_errors() -> None:
    """At s: a succeeds in three of four, b in one of four, c in none of two, d in one of one."""
    wins = {"a": [1, 1, 1, 0], "b": [1, 0, 0, 0], "c": [0, 0], "d": [1]}
    tries = [episode(("s", action, float(won))) for action, each in wins.items() for won in each]

    def found(threshold: float = 0.0, **options: Any) -> list[tuple[str, str]]:
        pairs, _ = state_pairs(tries, last, threshold, by="reward", **options)
        return [(pair.chosen[0].text, pair.rejected[0].text) for pair in pairs]

    assert found() == [("d", "c"), ("d", "b"), ("d", "a")]  # the largest difference first
    assert found(0.5) == [("d", "c"), ("d", "b")]
    assert found(0.9, per_state=1) == [("d", "c")]
    assert found(min_visits=2) == [("a", "c"), ("a", "b")]
    # a over c: m = 3/6, √(¼ (¼ + ½)) = 0.433, 0.75 is 1.73 of them; a over b: m = ½, √(¼ · ½) = 0.354, 0.5 is 1.41
    assert found(min_visits=2, z=1.5) == [("a", "c")]
    assert found(min_visits=2, z=1.4) == [("a", "c"), ("a", "b")]
    assert found(min_visits=2, z=1.8) == []
    assert state_pairs(tries, last, 0.5, 2, per_state=1, by="reward")[1] == {"too few visits": 1, "over per_state": 1}


def test_state_pairs_are_of_one_task_and_say_where_they_come_from() -> None:
    """State s comes first in one episode and second in another; another task has it too, with the opposite outcome."""
    tries = [
        episode(("s", "bad", 0.0)),
        episode(("r", "x", 0.0), ("s", "good", 1.0)),
        episode(("s", "good", 0.0), seed=2),
        episode(("s", "bad", 1.0), seed=2),
    ]
    pairs, _ = state_pairs(tries, last, 0.5, by="reward")
    assert [(pair.chosen[0].text, pair.rejected[0].text, pair.tree) for pair in pairs] == [
        ("good", "bad", 0),
        ("bad", "good", 1),
    ]
    assert [(pair.task, pair.prompt, pair.depth) for pair in pairs] == [
        (tries[1].task, tries[1].transcript[:3], 1),
        (tries[3].task, tries[3].transcript[:1], 0),
    ]


def test_a_circle_counts_once() -> None:
    loop = episode(*[("s", "loop", 0.0)] * 4, ("s", "go", 1.0))
    tries = [loop, episode(("s", "stop", 0.0)), episode(("s", "stop", 0.0))]
    pairs, dropped = state_pairs(tries, last, 0.5, by="reward")
    assert [(pair.chosen[0].text, pair.chosen_visits) for pair in pairs] == [("loop", 1)]
    assert dropped == {"tie": 1}  # loop and go
    assert state_pairs(tries, last, 0.5, 2, by="reward")[0] == []
    with pytest.raises(ValueError, match="per_state=0; expected a whole number from 1 on"):
        state_pairs(tries, last, per_state=0)


def test_the_extractor_reads_what_the_model_is_shown_and_passes_its_settings_on() -> None:
    tries = [
        episode(("r", "x", 0.0), ("s", "good", 1.0), success=True),
        episode(("q", "y", 0.0), ("s", "bad", 0.0)),
    ]
    shown = history_named("last_observation")
    assert len(StatePairs().from_episodes(tries, "success", shown, 3)[0]) == 1
    assert StatePairs().from_episodes(tries, "success", history_named("all_turns"), 3)[0] == []
    assert StatePairs(z=1.5).from_episodes(tries, "success", shown, 3)[1]["unclear"] == 1  # 1 against 0 is 1.41
    assert StatePairs(min_visits=2).from_episodes(tries, "success", shown, 3)[0] == []


def test_what_was_logged_of_an_action_is_summed_over_its_tokens() -> None:
    turns = (observed("s"), acted("a b", (4, 5), (-0.5, -0.25)), observed("end"))
    logged = Episode({"env_id": "toy", "seed": 1}, turns, (1.0,), True, 1)
    rows, _ = pooled_advantages([logged, TRIES[1]], last)
    assert [row.logp for row in rows] == [-0.75, None]


def test_an_episode_without_a_reward_a_step_is_refused_where_rewards_count() -> None:
    short = replace(TRIES[0], rewards=(1.0,))
    with pytest.raises(ValueError, match="an episode has 2 agent turns and 1 rewards; by='reward' needs one a turn"):
        group_advantages([short, TRIES[1]], last, by="reward")
    assert group_advantages([short, TRIES[1]], last)[0]


# ---- roll-outs along an episode -------------------------------------------------------------------------------------


class Rung(NamedTuple):
    place: int
    left: bool = False


class Ladder(Simulator[Rung]):
    """Three rungs: each step up pays a quarter, the last a whole point; to step off ends the climb and pays nothing."""

    players = 1

    def reset(self, seed: int, options: Any = None) -> Rung:
        return Rung(0)

    def current_player(self, state: Rung) -> int:
        return TERMINAL if state.left or state.place == 3 else 0

    def observation(self, state: Rung, player: int = 0) -> str:
        return f"rung {state.place}"

    def legal_actions(self, state: Rung) -> list[str]:
        return ["up", "off"]

    def step(self, state: Rung, action: str) -> Rung:
        return Rung(state.place + 1) if action == "up" else Rung(state.place, True)

    def rewards(self, state: Rung) -> tuple[float, ...]:
        return (0.0 if state.left or not state.place else 1.0 if state.place == 3 else 0.25,)

    def info(self, state: Rung) -> dict[str, Any]:
        return {"success": state.place == 3, "invalid_action": False}


UP = ScriptedAgent(lambda simulator, state, rng: "up", "up")


def climbed(*actions: str) -> Episode:
    """An episode of the ladder. Its rewards are wrong: those of the simulator count."""
    turns: list[Turn] = [observed("rung 0")]
    state = Rung(0)
    for action in actions:
        state = Ladder().step(state, action)
        turns += [acted(action), observed(f"rung {state.place}")]
    return Episode({"env_id": "ladder", "seed": 0}, tuple(turns), (9.0,) * len(actions), False, len(actions))


def test_roll_outs_of_a_sure_policy_give_the_papers_advantages_exactly() -> None:
    rngs = np.random.default_rng(0).spawn(2)
    episodes = [climbed("up", "off"), climbed("up", "up", "up")]
    rows, dropped, calls = vine_advantages(Ladder(), episodes, UP, rngs, 3, discount=0.5, round=1)
    # V(rung 0) = ¼ + ½·¼ + ¼·1 = ⅝, V(rung 1) = ¼ + ½ = ¾, V(rung 2) = 1; up from rung 0: ¼ + ½·¾ − ⅝ = 0
    assert dropped == Counter({"no advantage": 4})
    [row] = rows
    assert (row.advantage, row.q, row.baseline, row.visits) == (-0.75, 0.0, 0.75, 3)
    assert (row.tree, row.node, row.depth, row.round, row.kind) == (0, 0, 1, 1, "vine")
    assert (row.prompt, row.action[0].text) == (episodes[0].transcript[:3], "off")
    assert calls == [0, 0]


def test_roll_outs_of_a_random_policy_come_near_its_values() -> None:
    rows, _, _ = vine_advantages(Ladder(), [climbed("up", "up", "up")], RandomAgent(), [np.random.default_rng(5)], 4000)
    # V(rung 2) = ½, V(rung 1) = ½·(¼ + ½) = ⅜, V(rung 0) = ½·(¼ + ⅜) = 5/16
    assert [row.baseline for row in rows] == pytest.approx([5 / 16, 3 / 8, 1 / 2], abs=0.03)
    assert [row.advantage for row in rows] == pytest.approx([5 / 16, 3 / 8, 1 / 2], abs=0.05)
    assert sum(row.advantage for row in rows) == pytest.approx(1.5 - rows[0].baseline), "the sum telescopes"


def test_the_same_generators_give_the_same_rows_and_each_episode_its_own() -> None:
    episodes = run_episodes(Ladder(), [{"env_id": "ladder", "seed": 0}] * 4, RandomAgent(), 0)

    def found(some: slice) -> list[StepAdvantage]:
        rngs = np.random.default_rng(1).spawn(4)
        return vine_advantages(Ladder(), episodes[some], RandomAgent(), rngs[some], 5)[0]

    assert found(slice(0, 4)) == found(slice(0, 4))
    later = [replace(row, tree=row.tree + 2) for row in found(slice(2, 4))]
    assert later == [row for row in found(slice(0, 4)) if row.tree >= 2]


def test_a_game_of_several_players_has_no_roll_outs_along_an_episode() -> None:
    with pytest.raises(ValueError, match="vine roll-outs value what one player does, and 2 play here"):
        vine_advantages(simulator_for("branchwise/TicTacToe-v0"), [], RandomAgent(), [])


# ---- files ----------------------------------------------------------------------------------------------------------


def test_advantages_come_back_from_their_file(tmp_path: Path) -> None:
    rows, _ = tree_advantages(SIBLINGS, round=2)
    path = tmp_path / "advantages.jsonl"
    save_advantages(path, rows)
    assert load_advantages(path) == rows
    first = json.loads(path.read_text().splitlines()[0])
    assert first["prompt"] == [{"role": "user", "content": "start"}]
    assert first["completion"] == [{"role": "assistant", "content": "good"}]
    assert None not in first.values()
    with pytest.raises(ValueError, match="no advantages to save"):
        save_advantages(path, [])


def test_a_score_above_0_is_no_logged_log_probability(tmp_path: Path) -> None:
    path = tmp_path / "advantages.jsonl"
    save_advantages(path, [StepAdvantage((observed("s"),), (acted("a"),), 0.5, logp=2.0)])
    assert load_advantages(path)[0].logp is None


def test_pairs_and_advantages_are_not_mistaken_for_each_other(tmp_path: Path) -> None:
    from branchwise.search.extraction import sibling_pairs

    advantages, pairs = tmp_path / "advantages.jsonl", tmp_path / "pairs.jsonl"
    save_advantages(advantages, tree_advantages(SIBLINGS)[0])
    save_pairs(pairs, sibling_pairs(SIBLINGS)[0])
    with pytest.raises(ValueError, match=r"advantages\.jsonl.* line 1: a row with 'advantage' is no pair"):
        load_pairs(advantages)
    with pytest.raises(ValueError, match=r"pairs\.jsonl.* line 1: no field 'completion'; expected an advantage"):
        load_advantages(pairs)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"advantage": "much"}, "advantage='much'; expected a finite number"),
        ({"advantage": 1e39}, "advantage=1e[+]39; expected a number that 32 bits hold"),
        ({"logp": 1.0}, "logp=1.0; expected a log-probability, which is at most 0"),
        ({"visits": 1.5}, "visits=1.5; expected a whole number"),
        ({"task": "[]"}, r"task=\[\]; expected an object"),
        ({"completion": []}, "a completion of 0 messages; expected one, of the assistant"),
        ({"completion": [{"role": "user", "content": "x"}]}, "a completion of 1 messages; expected one"),
    ],
)
def test_a_damaged_row_is_named_by_file_and_line(change: dict[str, Any], fault: str, tmp_path: Path) -> None:
    path = tmp_path / "advantages.jsonl"
    save_advantages(path, tree_advantages(SIBLINGS)[0])
    lines = path.read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | change)
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=rf"advantages\.jsonl.* line 2: {fault}"):
        load_advantages(path)
