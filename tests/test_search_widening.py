"""Progressive widening where any text may be an answer: the policy is asked again, and what it then says is as good as
what it said at first."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flat_settings import flat_settings

from branchwise.envs.play.policy import Proposal
from branchwise.envs.play.transcript import observed
from branchwise.envs.simulator import TERMINAL, Simulator
from branchwise.search.engine import Root, SearchStopped, extend, search
from branchwise.search.evaluation import ValueFunction
from branchwise.search.extraction import sibling_pairs
from branchwise.search.store import load_trees, save_trees
from branchwise.search.trees.children import Children
from branchwise.search.trees.tree import Tree
from branchwise.search.widening import insert_children

WORDS = "abcdefghijkl"


class Typing(Simulator[str]):
    """Two words, then the end; ``players`` take turns. It pays the first word's place in the alphabet."""

    def __init__(self, players: int = 1, length: int = 2) -> None:
        self.players, self.length = players, length

    def reset(self, seed: int, options: Any = None) -> str:
        return ""

    def current_player(self, state: str) -> int:
        return TERMINAL if len(state) >= self.length else len(state) % self.players

    def observation(self, state: str, player: int = 0) -> str:
        return f"so far: {state}"

    def legal_actions(self, state: str) -> None:
        return None

    def step(self, state: str, action: str) -> str:
        return state + action.strip()[0]

    def rewards(self, state: str) -> tuple[float, ...]:
        pay = WORDS.index(state[0]) / len(WORDS) if len(state) >= self.length else 0.0
        return tuple(pay if player == 0 else 1.0 - pay for player in range(self.players))

    def info(self, state: str) -> dict[str, Any]:
        return {"success": False, "invalid_action": state[-1:] == "c"}


class Draws:
    """Draws words with falling probabilities, from the generator of each transcript."""

    shares = np.array([0.4, 0.2, 0.1, 0.1, 0.05, 0.05, 0.02, 0.02, 0.02, 0.02, 0.01, 0.01])

    def __init__(self) -> None:
        self.calls = 0
        self.said: list[tuple[str, str]] = []

    def propose(self, transcripts: Any, n: int, rngs: Sequence[np.random.Generator]) -> list[list[Proposal]]:
        self.calls += len(transcripts)
        answers = []
        for transcript, rng in zip(transcripts, rngs, strict=True):
            words = [WORDS[i] for i in rng.choice(len(WORDS), n, p=self.shares)]
            where = transcript[-1].text if transcript else ""
            self.said += [(where, word) for word in words]
            answers.append(
                [Proposal(word, float(np.log(self.shares[WORDS.index(word)])), (ord(word),), (-1.0,)) for word in words]
            )
        return answers

    def score(self, transcripts: Any, candidates: Any) -> Any:
        raise NotImplementedError


def zero(simulator: Any, state: Any, transcript: Any) -> Any:
    return 0.0 if simulator.players == 1 else [0.0] * simulator.players


SETTINGS = {
    "simulations": 60,
    "proposals": 2,
    "widening": 1.0,
    "widening_power": 0.5,
    "uniform_prior": 0.0,
    "exploration": 1.0,
}


def grown(simulator: Simulator[Any], policy: Any, seed: int = 0, critic: Any = None, **options: Any) -> Tree:
    settings = flat_settings(**{**SETTINGS, **options})
    root = Root(simulator.reset(0), (), {"seed": 0})
    rngs = [np.random.default_rng(seed)]
    [tree] = search(simulator, [root], policy, ValueFunction(zero), settings, rngs, critic=critic)
    return tree


def assert_sound(tree: Tree) -> None:
    """Links, words and counts belong together wherever nodes have moved to."""
    reached = [0]
    for node in reached:
        children = list(tree.children(node))
        reached += children
        assert all(tree.parent(child) == node for child in children)
        assert len({tree.actions[child] for child in children}) == len(children)
        for child in children:
            assert tree.states[child] == tree.simulator.step(tree.states[node], tree.actions[child])  # type: ignore[union-attr]
            assert tree.agent_turn(child).text == tree.actions[child]
            assert tree.agent_turn(child).token_ids == (ord(tree.actions[child]),)
            if tree.reader(child) == tree.player(node):  # else the action is another player's
                assert tree.transcript(child)[-2].text == tree.actions[child]
        if children:
            assert tree.visits(node) == 1 + sum(tree.visits(child) for child in children)
            assert sum(tree.prior(child) for child in children) == pytest.approx(1.0, abs=1e-5)
        if tree.all_returns().shape[1]:  # every leaf is worth nothing: what was earned is all there is
            sums, earned = np.split(tree.all_returns(), 2, axis=1)
            assert sums[node] == pytest.approx(tree.visits(node) * earned[node] + sums[children].sum(axis=0))
            assert tree.nodes["value_sum"][node] == sums[node][tree.chooser(node)]
    assert sorted(reached) == list(range(len(tree)))


@pytest.mark.parametrize("players", [1, 3])
@pytest.mark.parametrize("options", [{}, {"solve": False}, {"leaves_per_tree": 3}, {"transpositions": True}])
def test_the_policy_is_asked_again_and_the_tree_stays_sound(options: dict[str, Any], players: int) -> None:
    policy = Draws()
    tree = grown(Typing(players, length=3), policy, **options)
    if not tree.counters["transpositions"]:
        assert_sound(tree)
    assert len(tree.children()) >= 5  # two were proposed at first, and some say what was said before
    assert tree.counters["simulations"] == 60
    assert not tree.nodes["pending"].any()


def test_priors_are_the_shares_of_all_that_was_proposed() -> None:
    policy = Draws()
    tree = grown(Typing(), policy, solve=False)
    counts = Counter(word for where, word in policy.said if not where)
    total = sum(counts.values())
    assert total > 2
    assert tree.asked[0][0] == total
    for child in tree.children():
        assert tree.prior(child) == pytest.approx(counts[tree.actions[child]] / total, abs=1e-6)
    everywhere = len(policy.said)
    valued = sum(tree.visits(node) > 0 and not tree.is_terminal(node) for node in range(len(tree)))
    assert tree.counters["prompts"] == policy.calls + valued
    assert tree.counters["model_calls"] == everywhere + valued
    assert tree.counters["merged_proposals"] == everywhere - (len(tree) - 1)


def test_the_search_finds_what_was_not_among_the_first_proposals() -> None:
    """``l`` pays most, and is drawn once in a hundred times."""
    narrow = grown(Typing(), Draws(), widening=0.0, simulations=400)
    wide = grown(Typing(), Draws(), widening=2.0, simulations=400)
    pays = [max(tree.value(child) for child in tree.children() if tree.visits(child)) for tree in (narrow, wide)]
    assert narrow.stopped == "exhausted"
    assert pays[1] > pays[0]
    assert {tree.actions[child] for tree in (wide,) for child in tree.children()} >= set("abcdef")


class Scripted(Draws):
    """Says the listed words, two a call, and then the last two for ever."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words

    def propose(self, transcripts: Any, n: int, rngs: Any) -> list[list[Proposal]]:
        answers = []
        for transcript in transcripts:
            self.calls += 1
            if transcript:
                answers.append([Proposal("a", 0.0), Proposal("b", 0.0)])
                continue
            answers.append([Proposal(word, -1.0) for word in self.words[:2]])
            self.words = self.words[2:] or self.words
        return answers


def test_what_is_closed_opens_again_until_the_policy_has_nothing_left_to_say() -> None:
    """Everything below ``a`` and ``b`` is searched to the end; the policy then says ``c`` and ``d``, and after them
    nothing else: the tree is closed for good."""
    policy = Scripted("abcd")
    tree = grown(Typing(), policy, simulations=500, exploration=30.0)
    assert [tree.actions[child] for child in tree.children()] == ["a", "b", "c", "d"]
    assert tree.is_solved()
    assert tree.stopped == "exhausted"
    assert tree.counters["simulations"] < 30
    assert policy.calls < 30
    assert tree.best_action() == "d"


def test_a_vain_question_is_not_asked_again_at_once() -> None:
    policy = Scripted("ab")
    grown(Typing(length=50), policy, simulations=100, solve=False, max_depth=1)
    assert policy.calls <= 1 + 10  # once, and once for each of the ⌈sqrt(100)⌉ children that it was to have


def test_proposals_alike_by_the_callers_rule_are_one_child() -> None:
    class Shouting(Scripted):
        def propose(self, transcripts: Any, n: int, rngs: Any) -> list[list[Proposal]]:
            answers = super().propose(transcripts, n, rngs)
            later = self.calls > 1
            return [[Proposal(p.text.upper() if later else p.text, p.logp) for p in answer] for answer in answers]

    class Caseless(Typing):
        def step(self, state: str, action: str) -> str:
            return state + action.strip()[0].lower()

    settings = flat_settings(**SETTINGS)  # type: ignore[arg-type]
    simulator, policy = Caseless(), Shouting("abab")
    [tree] = search(
        simulator,
        [Root("")],
        policy,  # type: ignore[arg-type]
        ValueFunction(zero),
        settings,
        same=lambda one, other: one.lower() == other.lower(),
    )
    assert [tree.actions[child] for child in tree.children()] == ["a", "b"]


class Alphabet:
    def values(self, transcripts: Any, candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        return [np.array([WORDS.index(word) / 12 for word in words]) for words in candidates]


def test_the_critic_is_asked_about_the_later_ones_too() -> None:
    tree = grown(Typing(), Draws(), critic=Alphabet(), critic_weight=0.5, solve=False)
    assert len(tree.children()) > 2
    for child in tree.children():
        assert float(tree.nodes["hint"][child]) == pytest.approx(WORDS.index(tree.actions[child]) / 12)


def test_in_parts_through_a_file_it_is_the_same_tree(tmp_path: Path) -> None:
    simulator = Typing(length=3)
    whole = grown(simulator, Draws(), 4)
    half = grown(simulator, Draws(), 4, simulations=23)
    save_trees(tmp_path / "half.parquet", [half])
    [loaded] = load_trees(tmp_path / "half.parquet", simulator)
    extend(simulator, [loaded], Draws(), ValueFunction(zero), flat_settings(**SETTINGS))  # type: ignore[arg-type]
    assert loaded.nodes.tobytes() == whole.nodes.tobytes()
    assert (loaded.actions, loaded.asked) == (whole.actions, whole.asked)
    loaded.reroot(loaded.best_child(0, "visits"))
    assert_sound(loaded)
    assert set(loaded.asked) <= set(range(len(loaded)))


def test_a_policy_that_fails_later_costs_no_tree() -> None:
    class Once(Draws):
        def propose(self, transcripts: Any, n: int, rngs: Any) -> list[list[Proposal]]:
            if any(not transcript for transcript in transcripts) and self.said:
                raise ConnectionError("gone")
            return super().propose(transcripts, n, rngs)

    tree = grown(Typing(length=4), Once(), max_failed_share=1.0)
    assert tree.counters["failed_leaves"] > 0
    assert "gone" in tree.last_error
    assert tree.counters["simulations"] == 60
    assert_sound(tree)


def test_pairs_can_be_made_of_it() -> None:
    tree = grown(Typing(), Draws(), solve=False, simulations=80)
    pairs, _ = sibling_pairs(tree, 0.05)
    assert all(pair.chosen_q > pair.rejected_q for pair in pairs)
    assert pairs


def test_a_rule_of_the_caller_that_raises_costs_its_answer() -> None:
    """Comparing what the policy says later with the children that there are fails: these stay as they are."""

    def same(one: str, other: str) -> bool:
        if one in "ab" and other in "cd":
            raise LookupError("no dictionary")
        return False

    settings = flat_settings(**{**SETTINGS, "simulations": 20, "solve": False, "max_failed_share": 1.0})
    policy, root = Scripted("abcd"), Root("", (), {"seed": 0})
    [tree] = search(Typing(), [root], policy, ValueFunction(zero), settings, same=same)  # type: ignore[arg-type]
    assert [tree.actions[child] for child in tree.children()] == ["a", "b"]
    assert tree.asked[0][0] == 2
    assert tree.last_error == "same failed: LookupError: no dictionary"
    assert tree.counters["failed_leaves"] == 3  # asked for a third, a fourth and a fifth child
    assert [tree.prior(child) for child in tree.children()] == [0.5, 0.5]
    strict = replace(settings, max_failed_share=0.1)
    with pytest.raises(SearchStopped, match=r"3 of 20 leaves failed, more than max_failed_share=0\.1.*no dictionary"):
        search(Typing(), [root], Scripted("abcd"), ValueFunction(zero), strict, same=same)  # type: ignore[arg-type]


@pytest.mark.parametrize(("broken", "failures"), [(False, 0), (True, 2)])
def test_the_bonus_of_a_later_proposal_is_asked_when_it_comes(broken: bool, failures: int) -> None:
    """With the sixth simulation a third child is due: before it, and again after it, the bonus of each is asked."""
    asked: list[tuple[str, int]] = []

    def bonus(tree: Tree, node: int) -> float:
        asked.append((tree.actions[node], tree.visits(0)))
        if broken and tree.actions[node] == "d":
            raise LookupError("no dictionary")
        return 0.5

    options = {"simulations": 6, "selection": "uct_bonus", "solve": False, "max_depth": 1, "max_failed_share": 1.0}
    settings, policy, root = flat_settings(**{**SETTINGS, **options}), Scripted("abcd"), Root("", (), {"seed": 0})
    [tree] = search(Typing(), [root], policy, ValueFunction(zero), settings, bonus=bonus)  # type: ignore[arg-type]
    assert [tree.actions[child] for child in tree.children()] == ["a", "b", "c", "d"]
    assert asked.count(("d", 5)) == 1
    assert tree.counters["failed_leaves"] == failures
    assert ("bonus failed: LookupError: no dictionary" in tree.last_error) == broken
    hints = [float(tree.nodes["hint"][child]) for child in tree.children()]
    assert hints == [0.5, 0.5, *([0.0, 0.0] if broken else [0.5, 0.5])]


def test_later_proposals_stand_behind_the_first_the_likelier_first() -> None:
    class Growing(Scripted):
        def propose(self, transcripts: Any, n: int, rngs: Any) -> list[list[Proposal]]:
            later = self.calls > 0
            self.calls += len(transcripts)
            words = "cddb" if later else "ab"
            return [[Proposal(word, -1.0) for word in words] for _ in transcripts]

    tree = grown(Typing(length=9), Growing(""), simulations=6, solve=False, max_depth=1)
    assert [tree.actions[child] for child in tree.children()] == ["a", "b", "d", "c"]
    assert [tree.prior(child) for child in tree.children()] == pytest.approx([1 / 6, 2 / 6, 2 / 6, 1 / 6])
    assert tree.asked[0][0] == 6
    assert tree.counters["merged_proposals"] == 2


def test_where_less_than_one_child_is_due_one_is_asked_for_once_none_is_open() -> None:
    tree = grown(Typing(length=1), Scripted("abcdef"), simulations=50, widening=0.5)
    assert [tree.actions[child] for child in tree.children()] == ["a", "b", "c", "d", "e", "f"]
    assert tree.stopped == "exhausted"


def test_a_root_that_could_not_be_valued_is_widened_as_after_one_visit() -> None:
    calls = [0]

    def once(simulator: Any, state: Any, transcript: Any) -> float:
        calls[0] += 1
        if calls[0] == 1:
            raise ConnectionError("gone")
        return 0.0

    settings = flat_settings(**{**SETTINGS, "simulations": 2, "widening": 3.0, "max_failed_share": 0.5})
    [tree] = search(Typing(), [Root("")], Scripted("abcd"), ValueFunction(once), settings)  # type: ignore[arg-type]
    assert (tree.visits(0), tree.counters["failed_leaves"]) == (1, 1)
    assert [tree.actions[child] for child in tree.children()] == ["a", "b", "c", "d"]


def test_a_state_that_several_ways_lead_to_is_widened_by_all_its_visits() -> None:
    """Each visited state that is not closed, and was not asked about in vain, has as many open children as the walk
    admits by the visits of all ways to it."""

    class Letters(Typing):
        def step(self, state: str, action: str) -> str:
            return "".join(sorted(super().step(state, action)))

    tree = grown(Letters(length=4), Draws(), transpositions=True, simulations=300, solve=False)
    shared = [node for node in tree.asked if tree.links_to(node)]
    assert shared
    for node in shared:
        before_the_last = sum(tree.visits(child) for child in tree.children(node))
        wanted = math.ceil(before_the_last**0.5)
        assert len(tree.children(node)) >= wanted or tree.asked[node][1] == wanted
    assert any(len(tree.children(node)) > math.ceil(tree.visits(node) ** 0.5) for node in shared)
    inner = [node for node in range(len(tree)) if not tree.is_terminal(node) and tree.source(node) == node]
    assert len({tree.states[node] for node in inner}) == len(inner)  # those that came later are linked too


def test_nothing_is_asked_for_after_the_last_simulation() -> None:
    """A second child is due with the third simulation."""
    for simulations, calls in ((1, 1), (2, 1), (3, 2)):
        policy = Scripted("abcd")
        tree = grown(Typing(length=9), policy, simulations=simulations, widening=1.5, max_depth=1, solve=False)
        assert policy.calls == calls
        assert len(tree.children()) == 2 * calls


def test_a_critic_that_fails_about_later_proposals_costs_their_answer() -> None:
    class Strict(Alphabet):
        def values(self, transcripts: Any, candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
            if any("d" in words for words in candidates):
                raise LookupError("no dictionary")
            return super().values(transcripts, candidates)

    options = {"simulations": 20, "critic_weight": 0.5, "solve": False, "max_depth": 1, "max_failed_share": 1.0}
    tree = grown(Typing(), Scripted("abcd"), critic=Strict(), **options)
    assert [tree.actions[child] for child in tree.children()] == ["a", "b"]
    assert tree.counters["failed_leaves"] == 3  # asked for a third, a fourth and a fifth child
    assert tree.last_error == "critic.values failed: LookupError: no dictionary"
    assert tree.visits(0) == 20
    assert [tree.prior(child) for child in tree.children()] == [0.5, 0.5]  # as if nothing had been said


@pytest.mark.parametrize(
    ("back", "priors"), [("", [1 / 4] * 4), ("d", [1 / 3] * 3), ("cd", [1 / 2] * 2)], ids=["none", "one", "all"]
)
def test_what_leads_back_of_a_later_answer_leaves_its_share_to_the_others(back: str, priors: list[float]) -> None:
    class Circling(Typing):
        def position(self, state: str) -> str:
            return "" if state and state in back else state

    tree = grown(Circling(), Scripted("abcd"), simulations=6, solve=False, max_depth=1)
    assert [tree.actions[child] for child in tree.children()] == list("abcd")[: len(priors)]
    assert [tree.prior(child) for child in tree.children()] == pytest.approx(priors)
    assert tree.counters["dropped_revisits"] >= len(back)


def test_a_player_who_has_won_is_not_asked_for_more() -> None:
    class Winning(Typing):
        """Who says ``a`` has won."""

        zero_sum = True

        def current_player(self, state: str) -> int:
            return TERMINAL if state[-1:] == "a" else super().current_player(state)

        def rewards(self, state: str) -> tuple[float, ...]:
            won = 0.0 if state[-1:] != "a" else 1.0 if len(state) % 2 else -1.0
            return won, -won

    policy = Scripted("abcd")
    tree = grown(Winning(players=2, length=9), policy)
    assert (tree.proof(0), tree.stopped, tree.visits(0)) == ("win", "solved", 2)
    assert policy.calls == 1


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("players", [1, 3])
def test_children_that_come_later_move_those_of_others_and_change_nothing_in_them(players: int, count: int) -> None:
    """Through all sizes of the arrays, those at which they are full among them."""

    def rewards(low: int, high: int) -> Any:
        return [float(i) if players == 1 else [float(i), 2.0 * i, 3.0 * i] for i in range(low, high)]

    tree = Tree(None, "root", (), capacity=8, players=players)
    tree.add_children(0, Children(["a", "b"], ["A", "B"], np.array([0.5, 0.5]), [0.0, 0.0], rewards(0, 2), [0, 0]))
    names = [f"b{i}" for i in range(5)]
    tree.add_children(
        2, Children(names, names, np.arange(5) / 8, [-float(i) for i in range(5)], rewards(10, 15), [0] * 5)
    )
    tree.asked = {0: [2, 0], 2: [5, 0]}
    added: list[str] = []
    for step in range(0, 60, count):
        new = [f"n{step + i}" for i in range(count)]
        first = insert_children(
            tree,
            0,
            Children(
                new,
                new,
                np.full(count, 0.25),
                [-1.0] * count,
                rewards(20, 20 + count),
                [0] * count,
                [None] * count,
                [0] * count,
            ),
        )
        added += new
        assert first == 3 + step
        assert len(tree) == 8 + step + count
        assert [tree.actions[child] for child in tree.children(0)] == ["a", "b", *added]
        assert [tree.actions[child] for child in tree.children(2)] == names
        assert [tree.states[child] for child in tree.children(2)] == names
        assert [tree.logps[child] for child in tree.children(2)] == [0.0, -1.0, -2.0, -3.0, -4.0]
        assert [tree.prior(child) for child in tree.children(2)] == [0.0, 0.125, 0.25, 0.375, 0.5]
        assert {tree.parent(child) for child in tree.children(2)} == {2}
        assert {tree.parent(child) for child in tree.children(0)} == {0}
        assert [float(tree.nodes["reward"][child]) for child in tree.children(2)] == [10.0, 11.0, 12.0, 13.0, 14.0]
        if players == 3:
            assert [tree.all_returns()[child].tolist()[3:] for child in tree.children(2)] == rewards(10, 15)
        assert tree.asked == {0: [2, 0], 2: [5, 0]}


def test_what_opens_again_opens_all_above_it() -> None:
    """One way leads down to where each answer ends the game; whenever all that was said there is searched to the end,
    and with it the whole tree, the next letter is said there, and the old ones above it."""

    class Letters(Scripted):
        def propose(self, transcripts: Any, n: int, rngs: Any) -> list[list[Proposal]]:
            answers = []
            for transcript in transcripts:
                deep = transcript[-1].text == "so far: aaa"
                self.calls += deep
                answers.append([Proposal(WORDS[min(self.calls, 12) - 1] if deep else "a", -1.0)])
            return answers

    settings = flat_settings(**{**SETTINGS, "simulations": 100, "proposals": 1})
    game, root = Typing(length=4), Root("", (observed("so far: "),))
    [tree] = search(game, [root], Letters(""), ValueFunction(zero), settings)  # type: ignore[arg-type]
    node = 0
    for _ in range(3):
        [node] = tree.children(node)
    assert [tree.actions[child] for child in tree.children(node)] == list(WORDS)
    assert all(tree.visits(child) == 1 for child in tree.children(node))
    assert (tree.stopped, tree.visits(0)) == ("exhausted", 4 + 12)
