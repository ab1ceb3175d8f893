"""Failures are no results: a search of which all or too many leaves failed stops with the reason, however few there
were, and agents do not play its answer; a number from outside that no computer can add up costs its leaf; an exception
without words, a bonus that raises and calls that never come back leave the search whole."""

import pickle
import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import pytest
from flat_settings import flat_settings
from numba import njit
from toys import Answers, Maze, Way
from typer.testing import CliRunner

from branchwise.agents.searching import RolloutSearcher, SearchingAgent
from branchwise.cli import app
from branchwise.envs.checked import LARGEST
from branchwise.envs.games.kuhn_poker import KuhnPoker
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.play.players import PolicyAgent
from branchwise.envs.play.policy import FunctionPolicy
from branchwise.envs.play.transcript import observed
from branchwise.envs.simulator import Simulator
from branchwise.search import compiled
from branchwise.search.calls import MOST_LATE, Patience, ask, failure
from branchwise.search.engine import Root, SearchSettings, SearchStopped, extend, search
from branchwise.search.evaluation import Leaf, Mixed, PolicyRollout, RandomRollout, Repeated, ValueFunction
from branchwise.search.expansion import NOTHING_PROPOSED
from branchwise.search.rules.options import Puct, UctBonus
from branchwise.search.store import load_trees, save_trees
from branchwise.search.trees.tree import Tree


class Wide(Maze):
    """With as many ways at every step as there are letters."""

    def legal_actions(self, state: Way) -> list[str] | None:
        return [*ascii_lowercase]


def grow(evaluator: Any, simulations: int = 8, trees: int = 1, policy: Any = None, **options: Any) -> list[Tree]:
    roots = [Root(Way(seed), (observed(f"{seed}:"),), {"seed": seed}) for seed in range(trees)]
    settings = flat_settings(**{"simulations": simulations, "exploration": 9.0, "solve": False, **options})
    return search(Wide(), roots, policy, evaluator, settings)


def raising(*_: Any) -> Any:
    raise ConnectionError("no endpoint")


ALWAYS: dict[str, Callable[[Sequence[Leaf]], Any]] = {
    "raises": raising,
    "gives None": lambda leaves: None,
    "gives numbers without a player": lambda leaves: np.zeros(len(leaves)),
    "gives one number": lambda leaves: 0.5,
    "gives words": lambda leaves: ["good"] * len(leaves),
    "gives a value too many": lambda leaves: np.zeros((len(leaves), 2)),
    "gives NaN": lambda leaves: np.full((len(leaves), 1), np.nan),
}


class Always:
    calls = 0

    def __init__(self, how: str) -> None:
        self.evaluate = ALWAYS[how]


# ---- all or too many ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ALWAYS)
@pytest.mark.parametrize("simulations", [1, 2, 8])
def test_a_search_of_which_every_leaf_failed_stops_however_few_they_were(how: str, simulations: int) -> None:
    with pytest.raises(SearchStopped, match=rf"{simulations} of {simulations} leaves failed.*evaluator\.evaluate f"):
        grow(Always(how), simulations)
    with pytest.raises(SearchStopped, match=f"{simulations} of {simulations} leaves failed, all that there were"):
        grow(Always(how), simulations, max_failed_share=1.0)


def test_a_function_that_raises_stops_the_search_as_its_evaluator_or_its_policy() -> None:
    with pytest.raises(SearchStopped, match=r"8 of 8 leaves failed.*ConnectionError: no endpoint"):
        grow(raising)
    with pytest.raises(SearchStopped, match=r"8 of 8 leaves failed.*policy\.score failed: ConnectionError"):
        grow(ValueFunction(lambda *_: 0.0), policy=raising)


def test_hidden_information_and_what_is_not_compiled_follow_the_same_rule() -> None:
    poker = KuhnPoker()
    dealt = poker.step(poker.step(poker.reset(0), "Q"), "J")
    settings = SearchSettings(simulations=6, information="multiple_observer", solve=False)
    with pytest.raises(SearchStopped, match=r"leaves failed, more than"):  # some were ends of the game
        search(poker, [Root(dealt)], None, Always("raises"), settings)
    game = TicTacToe()
    with pytest.raises(SearchStopped, match="6 of 6 leaves failed"):
        compiled.search(game, [Root(game.reset(0))], None, raising, SearchSettings(simulations=6))


class SomeFail:
    """The first ``failures`` evaluations of one leaf at a time fail."""

    calls = 0

    def __init__(self, failures: int) -> None:
        self.left = failures

    def evaluate(self, leaves: Sequence[Leaf]) -> Any:
        if self.left:
            self.left -= len(leaves) == 1
            raise ConnectionError("no endpoint")
        return np.full((len(leaves), 1), 0.5)


@pytest.mark.parametrize(("failures", "share"), [(1, 0.5), (2, 0.5), (4, 0.5), (1, 0.125), (7, 0.9), (0, 0.0)])
def test_lost_leaves_up_to_the_stated_share_stop_no_small_search(failures: int, share: float) -> None:
    [tree] = grow(SomeFail(failures), max_failed_share=share)
    assert tree.counters["failed_leaves"] == failures
    assert tree.visits(0) == 8 - failures


@pytest.mark.parametrize(("failures", "share"), [(5, 0.5), (1, 0.1), (1, 0.0), (7, 0.8)])
def test_more_than_the_stated_share_does(failures: int, share: float) -> None:
    with pytest.raises(
        SearchStopped, match=f"{failures} of 8 leaves failed, more than max_failed_share={share}; the la"
    ):
        grow(SomeFail(failures), max_failed_share=share)


def test_one_lost_leaf_stops_no_tree_that_is_continued_from_many_good_ones() -> None:
    trees = grow(ValueFunction(lambda *_: 0.5), 30)
    more = SearchSettings(simulations=31, selection=Puct(exploration=9.0), solve=False)
    [tree] = extend(Wide(), trees, None, SomeFail(1), more)
    assert tree.counters["failed_leaves"] == 1
    assert tree.visits(0) == 30


def test_the_trees_of_a_stopped_search_are_handed_out_also_to_another_process() -> None:
    with pytest.raises(SearchStopped) as stopped:
        grow(SomeFail(6), trees=1)
    for error in (stopped.value, pickle.loads(pickle.dumps(stopped.value))):
        assert str(error).startswith("6 of 8 leaves failed")
        assert error.trees[0].visits(0) == 2


def test_the_command_ends_with_one_line_and_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RandomRollout, "evaluate", raising)
    asked = ["search", "branchwise/TicTacToe-v0", "--goals", "1", "--out", str(tmp_path / "t.parquet")]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 1
    assert re.search(r"(\d+) of \1 leaves failed", done.stderr)
    assert len(done.stderr.strip().splitlines()) <= 3  # with lines of the progress
    asked = ["bench", "branchwise/TicTacToe-v0", "--goals", "1", "--agent", "mcts"]
    monkeypatch.setattr(
        "branchwise.search.compiled.engine.why_not_compiled", lambda *_: "so that the evaluator is asked"
    )
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 1
    assert "leaves failed" in done.stderr


# ---- agents -------------------------------------------------------------------------------------------------------


def decide(agent: Any, seeds: Sequence[int], listed: bool = True) -> list[str]:
    states, transcripts = [Way(seed) for seed in seeds], [(observed(f"{seed}:"),) for seed in seeds]
    rngs = [np.random.default_rng(seed) for seed in seeds]
    return [decision.action for decision in agent.act(Maze(listed), states, transcripts, rngs)]


class Deaf(Answers):
    """No evaluation of seed 2."""

    def evaluate(self, leaves: Sequence[Leaf]) -> Any:
        if any(leaf.state.seed == 2 for leaf in leaves):
            raise ConnectionError("no endpoint")
        return np.full((len(leaves), 1), 0.5)


@pytest.mark.parametrize("seeds", [(2,), (0, 1, 2, 3)])
def test_an_agent_plays_no_answer_that_is_made_of_failures(seeds: tuple[int, ...]) -> None:
    deaf = Deaf()
    agent = SearchingAgent(deaf, deaf, SearchSettings(simulations=4))
    with pytest.raises(SearchStopped, match="ConnectionError: no endpoint"):
        decide(agent, seeds)
    assert len(decide(agent, (0, 1, 3))) == 3


class Mute(Answers):
    """Proposes nothing for seed 2."""

    def propose(self, transcripts: Any, n: int, rngs: Any) -> Any:
        answers = super().propose(transcripts, n, rngs)
        return [[] if t[-1].text.startswith("2:") else a for t, a in zip(transcripts, answers, strict=True)]


@pytest.mark.parametrize("seeds", [(2,), (0, 2, 3)])
def test_where_the_policy_proposes_nothing_the_empty_text_is_played(seeds: tuple[int, ...]) -> None:
    mute = Mute()
    agent = SearchingAgent(mute, mute, SearchSettings(simulations=4, proposals=2))
    actions = decide(agent, seeds, listed=False)
    assert [action == "" for action in actions] == [seed == 2 for seed in seeds]
    with pytest.raises(SearchStopped, match=f"{NOTHING_PROPOSED}$"):
        search(Maze(False), [Root(Way(2), (observed("2:"),))], mute, mute, agent.settings)


def test_functions_make_agents_too() -> None:
    def score(transcript: Any, actions: Sequence[str]) -> list[float]:
        return [float(action == "b") for action in actions]

    assert decide(PolicyAgent(score), (0,)) == ["b"]
    agent = SearchingAgent(score, lambda simulator, state, transcript: state.steps.count("b") / 6)
    assert decide(agent, (0,)) == ["b"]


def test_a_search_by_rollouts_that_all_fail_is_no_answer_either() -> None:
    class Lost(Maze):
        def rewards(self, state: Way) -> tuple[float, ...]:
            if len(state.steps) > 1:
                raise KeyError("lost")
            return (0.0,)

    with pytest.raises(SearchStopped, match="KeyError"):
        RolloutSearcher(4).act(Lost(), [Way(0)], [(observed("0:"),)], [np.random.default_rng(0)])


# ---- numbers from outside -----------------------------------------------------------------------------------------

TOO_LARGE = [np.nan, np.inf, -np.inf, 1e39, -1e39, 1e308, -1e308]


@pytest.mark.parametrize("value", TOO_LARGE)
@pytest.mark.parametrize("wrapped", ["alone", "repeated", "mixed"])
def test_a_value_that_cannot_be_added_up_costs_its_leaf(value: float, wrapped: str, tmp_path: Path) -> None:
    inner = ValueFunction(lambda simulator, state, transcript: value if state.steps == "b" else 0.5)
    evaluator = {"alone": inner, "repeated": Repeated(inner, 2), "mixed": Mixed(inner, inner, 0.5)}[wrapped]
    [tree] = grow(evaluator, 30)
    assert tree.counters["failed_leaves"] == 1
    assert "ValueError: it gave the value" in tree.last_error
    assert tree.value(0) == 0.5
    save_trees(tmp_path / "trees.parquet", [tree])
    [loaded] = load_trees(tmp_path / "trees.parquet", Wide())
    assert loaded.nodes.tobytes() == tree.nodes.tobytes()


def test_the_largest_value_is_added_up_saved_and_loaded(tmp_path: Path) -> None:
    for sign in (1.0, -1.0):
        [tree] = grow(ValueFunction(lambda *_, sign=sign: sign * LARGEST), 300, selection="uct", normalise="tree")
        assert np.isclose(tree.value(0), sign * LARGEST)
        save_trees(tmp_path / "trees.parquet", [tree])
        [loaded] = load_trees(tmp_path / "trees.parquet", Wide())
        assert loaded.nodes.tobytes() == tree.nodes.tobytes()
        assert loaded.best_action() == tree.best_action()


@pytest.mark.parametrize("value", TOO_LARGE)
def test_returns_of_several_players_are_looked_at_too(value: float) -> None:
    class Shared(Maze):
        players = 2

        def rewards(self, state: Way) -> tuple[float, ...]:
            return (0.0, 0.0)

    evaluator = ValueFunction(lambda simulator, state, transcript: (0.5, value if state.steps == "b" else 0.5))
    settings = SearchSettings(simulations=20, selection=Puct(exploration=9.0), solve=False)
    [tree] = search(Shared(), [Root(Way(0))], None, evaluator, settings)
    assert tree.counters["failed_leaves"] == 1
    assert np.isfinite(tree.all_returns()).all()


@pytest.mark.parametrize("value", TOO_LARGE)
def test_an_opinion_of_a_critic_and_a_bonus_are_looked_at_too(value: float) -> None:
    class Judge(Answers):
        def values(self, transcripts: Any, candidates: Any) -> Any:
            return [
                [value if t[-1].text == "0:b" else 0.5] * len(c) for t, c in zip(transcripts, candidates, strict=True)
            ]

    judge, root, flat = Judge(), Root(Way(0), (observed("0:"),)), ValueFunction(lambda *_: 0.5)
    settings = SearchSettings(simulations=20, selection=Puct(exploration=9.0), solve=False, critic_weight=0.5)
    [tree] = search(Maze(), [root], None, flat, settings, critic=judge)
    assert tree.counters["failed_leaves"] == 1
    assert "critic.values failed" in tree.last_error
    assert np.isfinite(tree.nodes["hint"]).all()

    settings = SearchSettings(simulations=20, selection=UctBonus(exploration=9.0), solve=False)
    asked = [0]

    def bonus(tree: Tree, node: int) -> float:
        asked[0] += 1
        return value if asked[0] == 30 else 0.1

    [tree] = search(Maze(), [root], None, flat, settings, bonus=bonus)
    assert tree.counters["failed_leaves"] == 1
    assert "bonus failed: ValueError: it gave [" in tree.last_error
    assert np.isfinite(tree.nodes["hint"]).all()


def test_a_bonus_that_always_raises_stops_the_search_and_a_rare_one_does_not() -> None:
    settings = SearchSettings(simulations=8, solve=False, selection="uct_bonus")
    with pytest.raises(SearchStopped, match="bonus failed: ConnectionError: no endpoint"):
        search(Maze(), [Root(Way(0))], None, ValueFunction(lambda *_: 0.5), settings, bonus=raising)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_no_score_that_is_no_number_is_played(value: float, temperature: float) -> None:
    """By the agent that acts straight from a policy as by a roll-out and a search."""

    def score(transcript: Any, actions: Sequence[str]) -> list[float]:
        return [-1.0, value, *[-2.0] * (len(actions) - 2)]

    with pytest.raises(ValueError, match="log-probabilities that are NaN, infinite or all zero"):
        decide(PolicyAgent(score, temperature), (0,))
    with pytest.raises(ValueError, match=r"log-probabilities of shape \(2,\) for 3 candidates"):
        decide(PolicyAgent(lambda transcript, actions: [0.0, 0.0], temperature), (0,))
    with pytest.raises(
        SearchStopped, match=r"policy\.score failed: ValueError: it gave log-probabilities that are NaN"
    ):
        grow(ValueFunction(lambda *_: 0.5), policy=FunctionPolicy(score))
    with pytest.raises(SearchStopped, match=r"evaluator\.evaluate failed: ValueError: the policy gave log-prob"):
        grow(PolicyRollout(score, temperature=temperature))


@njit
def no_value(state: Any, random: int) -> tuple[float, int]:
    return np.nan, random


def test_a_kernel_that_gives_no_number_stops_a_compiled_search() -> None:
    game, settings = TicTacToe(), SearchSettings(simulations=50, selection="puct")
    with pytest.raises(SearchStopped, match="gave tic_tac_toe NaN, infinity, or values whose sum is beyond"):
        compiled.search(game, [Root(game.reset(0))], None, compiled.KernelEvaluator(no_value), settings)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RandomRollout("0.9"), "discount is '0.9'; expected a number from 0 to 1"),  # type: ignore[arg-type]
        (lambda: RandomRollout(np.nan), "discount is nan; expected a number from 0 to 1"),
        (lambda: RandomRollout(1.0, 10.5), "max_steps is 10.5; expected a whole number"),  # type: ignore[arg-type]
        (lambda: Repeated(RandomRollout(), 2.5), "times is 2.5; expected a whole number"),  # type: ignore[arg-type]
        (lambda: Mixed(RandomRollout(), RandomRollout(), np.nan), "alpha is nan; expected 0"),
        (lambda: PolicyRollout(Answers(), temperature=np.nan), "temperature=nan; take 0"),
        (lambda: PolicyAgent(Answers(), np.nan), "temperature=nan; take 0"),
    ],
)
def test_an_evaluator_is_made_of_numbers(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        make()


# ---- exceptions and threads ---------------------------------------------------------------------------------------


class Wordless(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


@pytest.mark.parametrize("who", ["evaluator", "policy", "simulator"])
def test_an_exception_whose_words_raise_costs_its_leaf(who: str) -> None:
    def wordless(*_: Any) -> Any:
        raise Wordless

    class Broken(Maze):
        def legal_actions(self, state: Way) -> Any:
            return wordless() if state.steps == "b" else super().legal_actions(state)

    def worth(simulator: Any, state: Any, transcript: Any) -> float:
        return wordless() if who == "evaluator" and state.steps == "b" else 0.5

    def score(transcript: Any, actions: Any) -> Any:
        return wordless() if who == "policy" and transcript[-1].text == "0:b" else [0.0] * len(actions)

    simulator: Simulator[Any] = Broken() if who == "simulator" else Maze()
    settings = SearchSettings(simulations=20, selection=Puct(exploration=9.0), solve=False)
    [tree] = search(simulator, [Root(Way(0), (observed("0:"),))], score, worth, settings)
    assert tree.counters["failed_leaves"] == 1
    assert tree.last_error.endswith("failed: Wordless, whose own words cannot be read")
    assert failure("x", ValueError("a")) == "x failed: ValueError: a"


def test_calls_that_never_come_back_leave_a_bounded_number_of_threads() -> None:
    """Of four trees that all hang; the search makes as many calls, ends before any comes back, and says why."""
    release = threading.Event()
    calls = [0]

    def hang(*_: Any) -> float:
        calls[0] += 1
        release.wait(20)
        return 0.5

    before = threading.active_count()
    with pytest.raises(SearchStopped, match=f"not called: {MOST_LATE} calls that took longer than call_seconds=0.02"):
        grow(hang, 40, 4, call_seconds=0.02, max_failed_share=0.9)
    assert threading.active_count() - before == calls[0] == MOST_LATE
    release.set()


def test_calls_that_came_back_late_make_room_for_others() -> None:
    """More of them than may run at once, one after the other."""
    late = [0]

    def sometimes_late(simulator: Any, state: Any, transcript: Any) -> float:
        if state.steps[-1:] == "b":
            late[0] += 1
            time.sleep(0.1)
        return 0.5

    settings = SearchSettings(simulations=60, selection=Puct(exploration=9.0), solve=False, call_seconds=0.02)
    [tree] = search(Maze(), [Root(Way(0), (observed("0:"),))], None, sometimes_late, settings)
    assert tree.counters["failed_leaves"] == late[0] > MOST_LATE
    assert "not called" not in tree.last_error


@pytest.mark.parametrize("seconds", [None, 30.0])
@pytest.mark.parametrize("error", [ConnectionError("no endpoint"), SystemExit(3)])
def test_a_call_that_raises_in_time_raises_what_it_raised(error: BaseException, seconds: float | None) -> None:
    def call(_: Any) -> Any:
        raise error

    with pytest.raises(type(error)) as raised:
        Patience(seconds).call(call, 0)
    assert raised.value is error


@pytest.mark.parametrize("seconds", [None, 30.0])
def test_a_call_that_answers_in_time_is_answered(seconds: float | None) -> None:
    patience = Patience(seconds)
    assert [patience.call(lambda number: number + 1, 41), patience.late] == [42, []]


def test_as_many_late_calls_may_run_and_one_more_is_not_made() -> None:
    release, made = threading.Event(), [0]

    def hang(_: Any) -> None:
        made[0] += 1
        release.wait(20)

    patience = Patience(0.01)
    for _ in range(MOST_LATE):
        with pytest.raises(TimeoutError, match=r"no answer within call_seconds=0\.01"):
            patience.call(hang, 0)
    with pytest.raises(TimeoutError, match=f"not called: {MOST_LATE} calls that took longer than call_seconds=0.01"):
        patience.call(hang, 0)
    assert (made[0], len(patience.late)) == (MOST_LATE, MOST_LATE)
    release.set()
    for thread in patience.late:
        thread.join(20)
    patience.seconds = 20.0
    assert patience.call(lambda number: number, 7) == 7
    assert patience.late == []


class Question:
    """A leaf about which somebody is asked."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.error, self.answer = rng, "", None


@pytest.mark.parametrize("count", [1, 2, 3])
def test_before_a_batch_is_asked_one_by_one_its_generators_are_set_back(count: int) -> None:
    def draw(questions: Sequence[Question]) -> list[float]:
        drawn = [question.rng.random() for question in questions]
        if len(questions) > 1:
            raise RuntimeError("too many")
        return drawn

    def take(question: Question, answer: Any) -> None:
        question.answer = answer

    questions = [Question(np.random.default_rng(seed)) for seed in range(count)]
    ask("who", questions, draw, take, Patience())
    assert [question.answer for question in questions] == [
        np.random.default_rng(seed).random() for seed in range(count)
    ]
    assert [question.error for question in questions] == [""] * count


def test_nobody_is_asked_about_nothing() -> None:
    ask("who", [], raising, raising, Patience())


def test_an_answer_that_is_not_taken_costs_its_question_alone() -> None:
    def take(question: Question, answer: Any) -> None:
        if answer == 1:
            raise LookupError("odd")

    questions = [Question(np.random.default_rng(0)) for _ in range(3)]
    ask("who", questions, lambda some: [*range(len(some))], take, Patience())
    assert [question.error for question in questions] == ["", "who failed: LookupError: odd", ""]
