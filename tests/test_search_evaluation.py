"""What a leaf is worth: roll-outs with luck, ends and mistakes, draws, and evaluators made of others."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from flat_settings import flat_settings
from table_game import TableGame
from toys import (
    Corridor,
    Even,
    FreeText,
    HashPolicy,
    Line,
    Path,
    RandomTree,
    SamplingPolicy,
    corridor_root,
    judged,
    roots,
    zero,
)

from branchwise.envs.play.policy import Proposal
from branchwise.envs.play.sampling import sampled
from branchwise.envs.play.transcript import observed
from branchwise.envs.simulator import CHANCE, TERMINAL, Simulator
from branchwise.search.engine import Root, SearchSettings, search
from branchwise.search.evaluation import (
    Leaf,
    Mixed,
    PolicyRollout,
    RandomRollout,
    Repeated,
    ValueFunction,
)
from branchwise.search.trees.nodes import EXPANDED

# ---- roll-outs --------------------------------------------------------------------------------------------------


def leaf_at(place: int, clock: int = 0) -> Leaf:
    return Leaf(Corridor(), Line(place, clock), (observed("start"),), False, np.random.default_rng(0), tree=4, node=9)


class Right(HashPolicy):
    def score(self, transcripts: Any, candidates: Any) -> list[np.ndarray]:
        self.calls += len(transcripts)
        return [np.array([-5.0, -0.1]) for _ in candidates]


def test_a_roll_out_discounts_from_the_leaf_on() -> None:
    evaluator = PolicyRollout(Right(), discount=0.5, temperature=0.0)
    values = evaluator.evaluate([leaf_at(2), leaf_at(1), leaf_at(0)])
    assert values.tolist() == [[1.0], [0.5], [0.25]]
    assert evaluator.calls == 6
    assert evaluator.last_calls == [1, 2, 3]


def test_a_roll_out_that_is_cut_off_is_worth_what_it_earned() -> None:
    assert PolicyRollout(Right(), max_steps=2, temperature=0.0).evaluate([leaf_at(0)]).tolist() == [[0.0]]


def test_successful_roll_outs_are_kept_with_their_leaf() -> None:
    evaluator = PolicyRollout(Right(), temperature=0.0, keep_successes=True)
    evaluator.evaluate([leaf_at(1), leaf_at(0, clock=11)])
    [success] = evaluator.take_successes()
    assert (success.tree, success.node, success.start, success.value) == (4, 9, 1, 1.0)
    assert [turn.text for turn in success.transcript if turn.is_agent] == ["right", "right"]
    assert evaluator.take_successes() == []


def test_random_roll_outs_ask_no_model() -> None:
    evaluator = RandomRollout()
    values = evaluator.evaluate([leaf_at(2), leaf_at(0)])
    assert set(values.ravel()) <= {0.0, 1.0}
    assert evaluator.calls == 0


def test_random_roll_outs_refuse_free_text() -> None:
    leaf = Leaf(FreeText(), Path(0, ()), (), False, np.random.default_rng(0))
    with pytest.raises(ValueError, match="any text"):
        RandomRollout().evaluate([leaf])


def test_model_calls_count_scores_and_roll_out_steps() -> None:
    evaluator = PolicyRollout(Right(), temperature=0.0)
    [tree] = search(Corridor(), [corridor_root()], Even(), evaluator, SearchSettings(simulations=50))
    # three nodes scored; roll-outs of 3, 2 and 1 steps
    assert tree.counters["model_calls"] == 3 + 6


def test_a_prompt_for_several_actions_is_one_prompt_and_so_many_model_calls() -> None:
    """As an episode that samples one action a prompt counts them, so that equal budgets buy equally many samples."""
    policy = SamplingPolicy()
    simulator = FreeText()
    settings = SearchSettings(simulations=6, proposals=4, proposals_by_depth=(7,))
    evaluator = ValueFunction(judged)
    [tree] = search(simulator, roots([0], simulator), policy, evaluator, settings)
    expanded = [node for node in range(len(tree)) if tree.has(node, EXPANDED) and not tree.is_terminal(node)]
    inner = len(expanded) - 1
    assert policy.calls == 1 + inner
    assert tree.counters["prompts"] == policy.calls + evaluator.calls
    assert tree.counters["model_calls"] == 7 + 4 * inner + evaluator.calls
    stopped = replace(settings, simulations=100, max_model_calls=20)
    [tree] = search(simulator, roots([0], simulator), policy, ValueFunction(judged), stopped)
    assert 20 <= tree.counters["model_calls"] < 20 + 4 + 1


def test_progress_is_told_totals() -> None:
    told: list[tuple[int, int, int]] = []
    simulator = RandomTree()
    trees = search(
        simulator,
        roots(range(3), simulator),
        HashPolicy(),
        ValueFunction(judged),
        SearchSettings(simulations=8),
        progress=lambda simulations, nodes, calls: told.append((simulations, nodes, calls)),
    )
    total = sum(tree.counters["simulations"] for tree in trees)
    assert told[-1] == (total, sum(map(len, trees)), sum(tree.counters["model_calls"] for tree in trees))


def test_sampling_follows_the_log_probabilities() -> None:
    rng = np.random.default_rng(0)
    logps = np.log([0.7, 0.2, 0.1]) - 50.0
    drawn = np.bincount([sampled(logps, 1.0, rng) for _ in range(4000)], minlength=3) / 4000
    assert drawn == pytest.approx([0.7, 0.2, 0.1], abs=0.03)
    assert sampled(logps, 0.0, rng) == 0
    assert {sampled(np.array([-np.inf, 0.0, -np.inf]), 1.0, rng) for _ in range(50)} == {1}
    for wrong in ([np.nan, 0.0], [-np.inf, -np.inf], []):
        with pytest.raises(ValueError, match="log-probabilities"):
            sampled(np.array(wrong), 1.0, rng)


# ---- roll-outs that meet luck, ends and mistakes ----------------------------------------------------------------


class Wager(Simulator[str]):
    """Bet (pays 1), draw one of two equal outcomes of chance (pays 4), bet again (pays 16), and once more (pays 64)."""

    def reset(self, seed: int, options: Any = None) -> str:
        return ""

    def current_player(self, state: str) -> int:
        return TERMINAL if len(state) == 4 else CHANCE if len(state) == 1 else 0

    def observation(self, state: str, player: int = 0) -> str:
        return state or "-"

    def legal_actions(self, state: str) -> Any:
        return ["b"]

    def chance_outcomes(self, state: str) -> list[tuple[str, float]]:
        return [("h", 0.5), ("t", 0.5)]

    def step(self, state: str, action: str) -> str:
        return state + action

    def rewards(self, state: str) -> Any:
        return (4.0 ** (len(state) - 1) if state else 0.0,)

    def info(self, state: str) -> dict[str, Any]:
        return {"success": len(state) == 4 and state[1] == "h", "invalid_action": False}


def leaf_of(simulator: Simulator[Any], state: Any, terminal: bool = False, seed: int = 0) -> Leaf:
    return Leaf(simulator, state, (observed("start"),), terminal, np.random.default_rng(seed), 3, 5)


@pytest.mark.parametrize("options", [{}, {"backup": "bellman"}, {"information": "single_observer"}], ids=str)
@pytest.mark.parametrize("discount", [0.5, 1.0])
def test_luck_takes_no_time_whatever_finds_the_value(options: dict[str, Any], discount: float) -> None:
    class Drawn(Wager):
        def resample(self, state: str, player: int, rng: np.random.Generator) -> str:
            return state

        def information_state(self, state: str, player: int) -> str:
            return state

    settings = flat_settings(simulations=40, discount=discount, solve=False, **options)
    expected = (1.0 + 4.0) + discount * 16.0 + discount**2 * 64.0
    for evaluator in (RandomRollout(discount=discount), ValueFunction(lambda *_: 0.0)):
        [tree] = search(Drawn(), [Root("")], None, evaluator, settings)
        deepest = tree.value(tree.children(0)[0])
        assert deepest == pytest.approx(expected) if isinstance(evaluator, RandomRollout) else 5.0 < deepest <= expected


def test_what_luck_pays_is_discounted_by_the_actions_before_it() -> None:
    [[value]] = RandomRollout(discount=0.5).evaluate([leaf_of(Wager(), "")])
    assert value == (1.0 + 4.0) + 0.5 * 16.0 + 0.25 * 64.0
    [[value]] = RandomRollout(discount=0.5).evaluate([leaf_of(Wager(), "b")])  # luck at once
    assert value == 4.0 + 16.0 + 0.5 * 64.0
    [[value]] = RandomRollout(discount=0.0).evaluate([leaf_of(Wager(), "")])
    assert value == 1.0 + 4.0


def test_a_roll_out_takes_at_most_so_many_actions() -> None:
    assert [RandomRollout(max_steps=steps).evaluate([leaf_of(Wager(), "")])[0, 0] for steps in (1, 2, 3, 4)] == [
        5.0,
        21.0,
        85.0,
        85.0,
    ]


class Endless(Wager):
    """Pays 1 for every bet, without an end."""

    def current_player(self, state: str) -> int:
        return 0

    def rewards(self, state: str) -> Any:
        return (1.0,)


@pytest.mark.parametrize("evaluator", [RandomRollout(), PolicyRollout(Even())])
def test_without_a_word_a_roll_out_takes_a_hundred_actions_and_discounts_none(evaluator: Any) -> None:
    assert evaluator.evaluate([leaf_of(Endless(), "")]).tolist() == [[100.0]]


def test_a_roll_out_from_an_end_is_worth_nothing_and_no_success() -> None:
    evaluator = PolicyRollout(Even(), keep_successes=True)
    ended = leaf_of(Wager(), "bhbb", terminal=True)
    assert evaluator.evaluate([ended, leaf_of(Wager(), "bhb")]).tolist() == [[0.0], [64.0]]
    assert (evaluator.calls, evaluator.last_calls) == (1, [0, 1])
    [success] = evaluator.take_successes()
    assert (success.tree, success.node, success.start, success.value) == (3, 5, 1, 64.0)
    assert [turn.text for turn in success.transcript] == ["start", "b", "bhbb"]


def test_random_roll_outs_keep_transcripts_where_successes_are_kept() -> None:
    evaluator = RandomRollout(keep_successes=True)
    evaluator.evaluate([leaf_of(Wager(), "bh"), leaf_of(Wager(), "bt")])
    [success] = evaluator.take_successes()
    assert [turn.text for turn in success.transcript] == ["start", "b", "bhb", "b", "bhbb"]
    assert success.value == 80.0
    assert (RandomRollout().reads_transcripts, evaluator.reads_transcripts) == (False, True)


def test_the_successes_of_one_of_several_players_are_not_kept() -> None:
    class Pair(Wager):
        players = 2

        def rewards(self, state: str) -> Any:
            return (0.25, 0.75)

    assert RandomRollout().evaluate([leaf_of(Pair(), "bh")]).tolist() == [[0.5, 1.5]]
    with pytest.raises(ValueError, match="keep_successes=True keeps what one player did; here several play"):
        RandomRollout(keep_successes=True).evaluate([leaf_of(Pair(), "bh")])


@pytest.mark.parametrize(("of_the_search", "own", "value"), [(0.5, None, 0.25), (0.5, 1.0, 1.0), (1.0, None, 1.0)])
def test_a_roll_out_has_the_discount_of_its_search_unless_it_is_given_another(
    of_the_search: float, own: float | None, value: float
) -> None:
    """Three steps to the reward."""
    names = ("root", "one", "two", "end")
    table = {name: (0, {"go": (after, (after == "end",))}) for name, after in pairwise(names)}
    game = TableGame(table)
    leaf = Leaf(game, game.reset(0), (), False, np.random.default_rng(0), discount=of_the_search)
    assert RandomRollout(own).evaluate([leaf]).tolist() == [[value]]
    assert PolicyRollout(lambda transcript, actions: [0.0], own).evaluate([leaf]).tolist() == [[value]]


@pytest.mark.parametrize(
    ("rewards", "words"),
    [
        ((1.0, 0.0), r"Wager: rewards gives \(1\.0, 0\.0\) \(tuple\) with players=1; return one number a player"),
        (None, r"Wager: rewards gives None \(NoneType\) with players=1; return one number a player"),
        ({1.0: "won"}, r"Wager: rewards gives \{1\.0: 'won'\} \(dict\) with players=1; return one number a player"),
        ((), r"Wager: rewards gives \(\) \(tuple\) with players=1; return one number a player"),
        (("much",), r"Wager\.rewards gave \('much',\) \(tuple\); return a finite number"),
    ],
)
def test_a_reward_that_a_roll_out_cannot_add_names_the_method_and_the_cure(rewards: Any, words: str) -> None:
    game = Wager()
    game.rewards = lambda state: rewards  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=words):
        RandomRollout().evaluate([leaf_of(game, "bh")])


def test_a_mistake_in_rewards_that_does_not_come_again_is_told_as_it_was() -> None:
    class Moody(Wager):
        asked = 0

        def rewards(self, state: str) -> Any:
            self.asked += 1
            return (1.0 + "1",) if self.asked == 1 else (1.0,)  # type: ignore[operator]

    with pytest.raises(TypeError, match="unsupported operand"):
        RandomRollout().evaluate([leaf_of(Moody(), "bh")])


def test_a_roll_out_without_actions_says_what_is_missing() -> None:
    class Dumb(Wager):
        def legal_actions(self, state: str) -> Any:
            return []

    with pytest.raises(ValueError, match="the simulator gave no legal actions in a state that is not terminal"):
        RandomRollout().evaluate([leaf_of(Dumb(), "bh")])


def test_a_policy_that_proposes_nothing_acts_with_the_empty_text_as_its_agent_does() -> None:
    class Dumb(HashPolicy):
        def propose(self, transcripts: Any, n: int, rngs: Any) -> list[list[Proposal]]:
            assert n == 1
            return [[] for _ in transcripts]

    class Noting(FreeText):
        def step(self, state: Path, action: str) -> Path:
            taken.append(action)
            return super().step(state, action)

    taken: list[str] = []
    leaf = Leaf(Noting(depth=2), Path(0, ()), (observed("start"),), False, np.random.default_rng(0))
    evaluator = PolicyRollout(Dumb())
    evaluator.evaluate([leaf])
    assert (taken, evaluator.last_calls) == (["", ""], [2])


def test_a_batch_of_listed_actions_and_free_text_is_played_on_together() -> None:
    listed, free = RandomTree(depth=2), FreeText(depth=2)
    leaves = [leaf_of(simulator, Path(0, ())) for simulator in (free, listed, free)]
    evaluator = PolicyRollout(SamplingPolicy(), keep_successes=False)
    assert evaluator.evaluate(leaves).shape == (3, 1)
    assert (evaluator.calls, evaluator.last_calls) == (6, [2, 2, 2])


def test_evaluators_say_what_they_are_made_of() -> None:
    with pytest.raises(TypeError, match=r"ValueFunction\(0\.5\); expected a function \(simulator, state, transcript\)"):
        ValueFunction(0.5)  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"PolicyRollout\(None\): there is no policy to play on with; RandomRollout\(\)"
    ):
        PolicyRollout(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("players", "given", "values"),
    [
        (1, 0.5, [0.5]),
        (2, 0.5, [0.5, -0.5]),
        (2, (0.5, 0.25), [0.5, 0.25]),
        (3, (0.5, 0.25, 0.0), [0.5, 0.25, 0.0]),
        (3, 0.5, [0.5]),
    ],
)
def test_one_number_is_for_one_player_or_for_two_that_are_opposed(
    players: int, given: Any, values: list[float]
) -> None:
    game = Wager()
    game.players = players
    evaluator = ValueFunction(lambda *_: given)
    assert evaluator.evaluate([leaf_of(game, "")] * 3).tolist() == [values] * 3
    assert evaluator.calls == 3


class Asking:
    """An evaluator of given values that asks its model as often as its leaf is deep."""

    def __init__(self, *values: float, **said: Any) -> None:
        self.values, self.calls = list(values), 0
        for name, value in said.items():
            setattr(self, name, value)

    def evaluate(self, leaves: Sequence[Leaf]) -> np.ndarray:
        self.last_calls = [len(leaf.state) for leaf in leaves]
        return np.array(self.values[: len(leaves)]).reshape(-1, 1)


def test_repeated_takes_the_mean_of_each_leaf_and_adds_up_its_prompts() -> None:
    evaluator = Repeated(Asking(0.0, 1.0, 0.25, 0.75, 0.5, 1.5), 2)
    leaves = [leaf_of(Wager(), state) for state in ("bh", "b", "")]
    assert evaluator.evaluate(leaves).tolist() == [[0.5], [0.5], [1.0]]
    assert (evaluator.last_calls, evaluator.calls) == ([4, 2, 0], 6)
    silent = Repeated(ValueFunction(zero), 3)
    silent.evaluate(leaves)
    assert (silent.last_calls, silent.calls) == ([3, 3, 3], 9)


def test_mixed_weighs_both_and_adds_up_their_prompts() -> None:
    evaluator = Mixed(Asking(1.0, 0.0), ValueFunction(lambda *_: 0.5), 0.75)
    assert evaluator.evaluate([leaf_of(Wager(), "bh"), leaf_of(Wager(), "")]).tolist() == [[0.875], [0.125]]
    assert (evaluator.last_calls, evaluator.calls) == ([3, 1], 4)


def test_wrapped_evaluators_read_what_one_within_them_reads() -> None:
    def reads(evaluator: Any) -> tuple[bool, bool]:
        return evaluator.reads_outcome, evaluator.reads_transcripts

    outcome, blind = Asking(reads_outcome=True), Asking(reads_transcripts=False)
    assert [reads(Repeated(one, 2)) for one in (Asking(), outcome, blind)] == [
        (False, True),
        (True, True),
        (False, False),
    ]
    assert reads(Mixed(Asking(), Asking(), 0.5)) == (False, True)
    assert reads(Mixed(Asking(), outcome, 0.5)) == reads(Mixed(outcome, Asking(), 0.5)) == (True, True)
    assert reads(Mixed(blind, blind, 0.5)) == (False, False)
    assert reads(Mixed(blind, Asking(), 0.5)) == (False, True)


def test_an_evaluator_that_says_nothing_of_outcomes_may_judge_hidden_ones() -> None:
    class Judge:
        def evaluate(self, leaves: Sequence[Leaf]) -> np.ndarray:
            return np.zeros((len(leaves), 1))

    settings = SearchSettings(hide_outcome=True)
    search(Corridor(), [corridor_root()], None, Judge(), settings)
    with pytest.raises(ValueError, match="Mixed reads the environment's rewards, which hide_outcome=True forbids"):
        search(Corridor(), [corridor_root()], None, Mixed(Judge(), RandomRollout(), 0.5), settings)


def test_a_score_is_drawn_for_as_many_candidates_as_there_are() -> None:
    rng = np.random.default_rng(0)
    assert sampled(np.array([-1.0, 0.0]), 0.0, rng, 2) == 1
    for count in (1, 3):
        with pytest.raises(ValueError, match=rf"log-probabilities of shape \(2,\) for {count} candidates"):
            sampled(np.zeros(2), 0.0, rng, count)
