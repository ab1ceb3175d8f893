"""What a leaf becomes: which actions it gets, which are left out, and what is kept of who proposed them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from test_search_engine import (
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

from branchwise.search.engine import SearchSettings, normalised, search
from branchwise.search.evaluation import ValueFunction
from branchwise.search.policy import Proposal
from branchwise.search.tree import EXPANDED, INCOMPLETE

# ---- free text --------------------------------------------------------------------------------------------------


class Saying(HashPolicy):
    def propose(self, transcripts: Any, n: int, rng: Any) -> list[list[Proposal]]:
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
        def propose(self, transcripts: Any, n: int, rng: Any) -> list[list[Proposal]]:
            return [[Proposal(text, -1.0) for text in (" ", "say 1", "", "say 2", "say 2")] for _ in transcripts]

    settings = SearchSettings(simulations=1, uniform_prior=0.0)
    [tree] = search(FreeText(), roots([0], FreeText()), Blank(), ValueFunction(judged), settings)
    assert tree.actions[1:] == ["say 1", "say 2"]
    assert [tree.prior(child) for child in tree.children()] == pytest.approx([1 / 3, 2 / 3])
    assert (tree.counters["invalid_actions"], tree.counters["merged_proposals"]) == (2, 1)


def test_the_tokens_of_a_proposal_are_kept_with_the_name_of_who_said_them() -> None:
    class Named(Saying):
        policy_id = "somebody"

    settings = SearchSettings(simulations=1)
    for policy, name in ((Named(), "somebody"), (Saying(), "")):
        [tree] = search(FreeText(), roots([0], FreeText()), policy, ValueFunction(judged), settings)
        assert {tree.agent_turn(child).policy_id for child in tree.children()} == {name}


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
        def propose(self, transcripts: Any, n: int, rng: Any) -> list[list[Proposal]]:
            return [[Proposal(text, -1.0) for text in ("abcd", "abce")] for _ in transcripts]

    def actions(distance: float) -> list[str]:
        settings = SearchSettings(simulations=1, merge="edit_distance", merge_distance=distance)
        [tree] = search(FreeText(), roots([0], FreeText()), Near(), ValueFunction(judged), settings)
        return tree.actions[1:]

    assert actions(0.25) == ["abcd", "abce"]
    assert actions(0.2500001) == ["abcd"]
