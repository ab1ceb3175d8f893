"""What a leaf becomes: which actions it gets, which are left out, and what is kept of who proposed them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from table_game import TableGame
from toys import (
    Corridor,
    Even,
    Fork,
    FreeText,
    HashPolicy,
    Path,
    corridor_root,
    judged,
    roots,
    zero,
)

from branchwise.envs.play.policy import Proposal
from branchwise.envs.simulator import CHANCE
from branchwise.search.engine import Root, SearchSettings, SearchStopped, normalised, search
from branchwise.search.evaluation import ValueFunction
from branchwise.search.trees.nodes import EXPANDED, INCOMPLETE, INVALID

# ---- free text --------------------------------------------------------------------------------------------------


class Saying(HashPolicy):
    def propose(self, transcripts: Any, n: int, rngs: Any) -> list[list[Proposal]]:
        texts = ["say 1", " say  1", "say 0", "say 2", "say 1 "]
        return [
            [Proposal(text, -float(i), (i,), (-float(i),)) for i, text in enumerate(texts[:n])] for _ in transcripts
        ]


def test_equal_proposals_are_merged_and_share_their_prior() -> None:
    simulator = FreeText()
    settings = SearchSettings(simulations=1, uniform_prior=0.0)
    [tree] = search(simulator, roots([0], simulator), Saying(), ValueFunction(judged), settings)
    assert tree.actions[1:] == ["say 1", "say 0", "say 2"]
    assert list(tree.nodes["prior"][1:]) == pytest.approx([0.6, 0.2, 0.2])
    assert tree.logps[1:] == [-0.0, -2.0, -3.0]
    assert tree.agent_turn(2).logps == (-2.0,)
    assert tree.counters["merged_proposals"] == 2
    assert tree.counters["invalid_actions"] == 1


def test_indentation_tells_proposals_apart_and_blanks_do_not() -> None:
    assert normalised("search[red  shirt] ") == normalised(" search[red shirt]")
    assert normalised("if a:\n    b\nc") != normalised("if a:\n    b\n    c")
    assert normalised("print(1)  \r\nx\t+ 1") == normalised("print(1)\nx + 1")
    for code in ("len('{}')", 'len("{}")', "'''\n{}\n'''", "# {}\nprint('b')"):
        texts = [code.format(f"a{blanks}b") for blanks in (" ", "  ", "\t", "\n", "\r", "\u2028", "\x0c", "\xa0")]
        assert len({normalised(text) for text in texts}) == 8
    assert len({normalised(f"# a{end}print(1)") for end in (" ", "\n", "\r", "\u2028")}) == 4


# ---- actions that are left out ----------------------------------------------------------------------------------


def test_where_all_mass_was_on_a_dropped_action_the_others_share_it() -> None:
    """The way back, which is dropped, is all that the policy would take."""

    class Back(HashPolicy):
        def score(self, transcripts: Any, candidates: Any) -> list[np.ndarray]:
            return [np.array([0.0, -np.inf]) for _ in candidates]

    [tree] = search(Corridor(), [corridor_root()], Back(), ValueFunction(zero), SearchSettings(uniform_prior=0.0))
    assert tree.actions == ["", "right", "right", "right"]
    assert [tree.prior(node) for node in (1, 2, 3)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("actions", "words"),
    [
        ([], "the simulator gave no legal actions in a state that is not terminal"),
        (None, "any text may be an answer here, and there is no policy to propose one"),
    ],
)
def test_a_state_in_which_nothing_can_be_done_costs_its_leaf(actions: Any, words: str) -> None:
    class Stuck(Fork):
        def legal_actions(self, state: Path) -> Any:
            return actions if state.actions == ("a0",) else super().legal_actions(state)

    [tree] = search(Stuck(), roots([0], Stuck()), None, ValueFunction(zero), SearchSettings(simulations=20))
    assert tree.counters["failed_leaves"] == 1
    assert tree.last_error == words
    assert [tree.visits(child) for child in tree.children()] == [0, 18]


def test_a_simulator_is_asked_of_each_state_whether_it_lists_all_that_can_be_done() -> None:
    class Partly(Fork):
        def lists_all(self, state: Path) -> bool:
            return len(state.actions) != 1

    [tree] = search(Partly(), roots([0], Partly()), None, ValueFunction(zero), SearchSettings(simulations=30))
    inner = [node for node in range(len(tree)) if tree.has(node, EXPANDED)]
    assert {tree.depth(node) for node in inner if tree.has(node, INCOMPLETE)} == {1}
    assert {tree.depth(node) for node in inner if not tree.has(node, INCOMPLETE)} >= {0, 2}


def test_blank_proposals_are_left_out_and_counted() -> None:
    class Blank(HashPolicy):
        def propose(self, transcripts: Any, n: int, rngs: Any) -> list[list[Proposal]]:
            return [[Proposal(text, -1.0) for text in (" ", "say 1", "", "say 2", "say 2")] for _ in transcripts]

    settings = SearchSettings(simulations=1, uniform_prior=0.0)
    [tree] = search(FreeText(), roots([0], FreeText()), Blank(), ValueFunction(judged), settings)
    assert tree.actions[1:] == ["say 1", "say 2"]
    assert [tree.prior(child) for child in tree.children()] == pytest.approx([1 / 3, 2 / 3])
    assert (tree.counters["invalid_actions"], tree.counters["merged_proposals"]) == (2, 1)


def test_a_leaf_at_the_depth_limit_gets_no_children() -> None:
    [tree] = search(Fork(), roots([0], Fork()), None, ValueFunction(zero), SearchSettings(simulations=60, max_depth=2))
    assert {len(tree.children(node)) for node in range(len(tree)) if tree.depth(node) == 1} == {2}
    assert max(tree.depth(node) for node in range(len(tree))) == 2


def test_each_question_of_a_batch_counts_for_its_tree() -> None:
    class Critic:
        def values(self, transcripts: Any, candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
            return [np.zeros(len(actions)) for actions in candidates]

    settings = SearchSettings(simulations=3, critic_weight=0.5)
    trees = search(Fork(), roots(range(3), Fork()), Even(), ValueFunction(zero), settings, critic=Critic())
    assert [tree.counters["model_calls"] for tree in trees] == [9, 9, 9]  # the policy, the critic, the evaluator


def test_proposals_as_far_apart_as_the_limit_are_two() -> None:
    """One letter of four is a quarter."""

    class Near(HashPolicy):
        def propose(self, transcripts: Any, n: int, rngs: Any) -> list[list[Proposal]]:
            return [[Proposal(text, -1.0) for text in ("abcd", "abce")] for _ in transcripts]

    def actions(distance: float) -> list[str]:
        settings = SearchSettings(simulations=1, merge="edit_distance", merge_distance=distance)
        [tree] = search(FreeText(), roots([0], FreeText()), Near(), ValueFunction(judged), settings)
        return tree.actions[1:]

    assert actions(0.25) == ["abcd", "abce"]
    assert actions(0.2500001) == ["abcd"]


@pytest.mark.parametrize("merge", ["exact", "edit_distance"])
def test_later_proposals_are_merged_by_the_rule_that_merges_the_first(merge: Any) -> None:
    """One letter of eight is an eighth, less than the fifth that is set."""

    class Numbered(HashPolicy):
        def propose(self, transcripts: Any, n: int, rngs: Any) -> list[list[Proposal]]:
            self.calls += 1
            return [[Proposal(f"number {self.calls}", -1.0)] for _ in transcripts]

    settings = SearchSettings(simulations=4, widening=1.0, max_depth=1, solve=False, merge=merge, merge_distance=0.2)
    [tree] = search(FreeText(), roots([0], FreeText()), Numbered(), ValueFunction(judged), settings)
    assert tree.actions[1:] == ["number 1", "number 2"][: 1 + (merge == "exact")]
    assert tree.asked[0][0] == 2


def test_what_is_left_of_the_actions_keeps_its_ratio() -> None:
    """The way back has half of the probability, and is dropped."""

    class Wide(Corridor):
        def legal_actions(self, state: Any) -> list[str]:
            return ["right", "left", "stay on"]

        def step(self, state: Any, action: str) -> Any:
            return super().step(state, "left" if action == "left" else "right")

        def position(self, state: Any) -> Any:
            return state.place

    class Uneven(HashPolicy):
        def score(self, transcripts: Any, candidates: Any) -> list[np.ndarray]:
            return [np.log([0.4, 0.5, 0.1]) for _ in candidates]

    settings = SearchSettings(simulations=1, uniform_prior=0.0)
    [tree] = search(Wide(), [corridor_root()], Uneven(), ValueFunction(zero), settings)
    assert tree.actions[1:] == ["right", "stay on"]
    assert [tree.prior(child) for child in tree.children()] == pytest.approx([0.8, 0.2])


def test_a_root_without_noise_draws_none() -> None:
    rng = np.random.default_rng(5)
    [tree] = search(Fork(), roots([0], Fork()), Even(), ValueFunction(zero), SearchSettings(simulations=3), [rng])
    assert not tree.noisy
    assert rng.random() == np.random.default_rng(5).random()


@pytest.mark.parametrize("answer", [(0.5, 0.5), [0.5], "much", None, np.inf])
def test_a_bonus_that_is_no_number_costs_its_leaf(answer: Any) -> None:
    """It goes wrong about the second child of the root, which with the others is asked about after each simulation."""

    def bonus(tree: Any, node: int) -> Any:
        return answer if node == 2 and tree.visits(0) == 6 else 0.5

    settings = SearchSettings(simulations=20, selection="uct_bonus", solve=False, max_failed_share=0.05)
    [tree] = search(Fork(), roots([0], Fork()), None, ValueFunction(zero), settings, bonus=bonus)
    assert tree.counters["failed_leaves"] == 1
    assert tree.last_error.startswith("bonus failed: ")
    with pytest.raises(
        SearchStopped, match=r"^1 of 20 leaves failed, more than max_failed_share=0\.04; .* bonus failed"
    ):
        search(
            Fork(),
            roots([0], Fork()),
            None,
            ValueFunction(zero),
            replace(settings, max_failed_share=0.04),
            bonus=bonus,
        )


def test_what_chance_brings_is_nobodys_mistake() -> None:
    """Under transpositions outcomes are stepped into when their node is opened."""

    class Strict(TableGame):
        def info(self, state: Any) -> dict[str, Any]:
            return {"success": False, "invalid_action": True}

    table = {
        "root": (0, {"toss": ("coin", [0.0]), "wait": ("root too", [0.0])}),
        "coin": (CHANCE, {"h": ("heads", [1.0]), "t": ("tails", [0.0])}, [0.5, 0.5]),
        "heads": (0, {"on": ("end", [0.0])}),
        "tails": (0, {"on": ("end", [0.0])}),
        "root too": (0, {"on": ("end", [0.0])}),
    }
    game, settings = Strict(table), SearchSettings(simulations=12, transpositions=True, solve=False)
    [tree] = search(game, [Root(game.reset(0))], None, ValueFunction(zero), settings)
    assert {"h", "t"} <= set(tree.actions)
    assert not (tree.nodes["flags"] & INVALID).any()
