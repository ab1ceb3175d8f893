"""Progressive widening over free text: a tree that was extended equals one of one go, where ways lead to one state and
where leaves fail."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from branchwise.envs.play.policy import Proposal
from branchwise.envs.play.transcript import Transcript, observed
from branchwise.envs.simulator import TERMINAL, Simulator
from branchwise.search.engine import Root, SearchSettings, extend, search
from branchwise.search.evaluation import ValueFunction
from branchwise.search.settings import settings_record
from branchwise.search.trees.children import Children
from branchwise.search.trees.nodes import SOLVED
from branchwise.search.trees.tree import Tree
from branchwise.search.widening import reopen

State = tuple[str, ...]


class Bag(Simulator[State]):
    """Four letters, whose order does not matter."""

    def reset(self, seed: int, options: Any = None) -> State:
        return ()

    def current_player(self, state: State) -> int:
        return TERMINAL if len(state) >= 4 else 0

    def observation(self, state: State, player: int = 0) -> str:
        return " ".join(state) or "-"

    def legal_actions(self, state: State) -> None:
        return None

    def step(self, state: State, action: str) -> State:
        return tuple(sorted((*state, action)))

    def rewards(self, state: State) -> tuple[float]:
        return (sum(map(ord, "".join(state))) % 7 / 7.0 if len(state) >= 4 else 0.0,)


class Letters:
    def score(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        return [np.zeros(len(actions)) for actions in candidates]

    def propose(
        self, transcripts: Sequence[Transcript], count: int, rngs: Sequence[np.random.Generator]
    ) -> list[list[Proposal]]:
        return [[Proposal("abcdefg"[int(rng.integers(7))], -1.0) for _ in range(count)] for rng in rngs]


def value(simulator: Simulator[Any], state: State, transcript: Transcript) -> float:
    return 0.1 * len(state)


def value_but_of_c(simulator: Simulator[Any], state: State, transcript: Transcript) -> float:
    return float("nan") if "c" in state and len(state) > 1 else 0.1 * len(state)


@pytest.mark.parametrize(("transpositions", "valued"), [(True, value), (True, value_but_of_c), (False, value_but_of_c)])
def test_a_widened_tree_that_was_extended_equals_one_of_one_go(transpositions: bool, valued: Any) -> None:
    settings = SearchSettings(
        simulations=60,
        selection="uct",
        widening=1.0,
        widening_power=1.0,
        transpositions=transpositions,
        proposals=1,
        revisit=True,
        max_failed_share=1.0,
    )
    game, root, evaluator = Bag(), Root((), (), {"seed": 0}), ValueFunction(valued)
    [whole] = search(game, [root], Letters(), evaluator, settings, 134)
    for cut in range(18, 60, 3):
        [tree] = search(game, [root], Letters(), evaluator, replace(settings, simulations=cut), 134)
        [tree] = extend(game, [tree], Letters(), evaluator, settings)
        assert tree.actions == whole.actions, cut
        assert np.array_equal(tree.nodes, whole.nodes), cut


class TwoWays(Simulator[str]):
    """Two ways, A and B, to one state, where every answer is an end; the longer the answer, the more it pays. From B
    one may wander off without an end."""

    def reset(self, seed: int, options: Any = None) -> str:
        return "root"

    def current_player(self, state: str) -> int:
        return TERMINAL if state.startswith("end") else 0

    def observation(self, state: str, player: int = 0) -> str:
        return state

    def legal_actions(self, state: str) -> None:
        return None

    def step(self, state: str, action: str) -> str:
        if action == "wander" or state.startswith("far"):
            return f"far {state} {action}"
        return {"root": action, "A": "S", "B": "S"}.get(state, f"end {action}")

    def rewards(self, state: str) -> tuple[float]:
        return (0.1 * len(state) if state.startswith("end") else 0.0,)


class Growing:
    """At S something new each time."""

    def __init__(self, from_b: Sequence[str] = ("go",)) -> None:
        self.asked, self.from_b = 0, from_b

    def propose(
        self, transcripts: Sequence[Transcript], count: int, rngs: Sequence[np.random.Generator]
    ) -> list[list[Proposal]]:
        answers = {"root": ["A", "B"], "A": ["go"], "B": self.from_b}
        said = []
        for transcript in transcripts:
            self.asked += transcript[-1].text == "S"
            said.append([Proposal(text, -1.0) for text in answers.get(transcript[-1].text, ["x" * self.asked])])
        return said

    def score(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        return [np.zeros(len(actions)) for actions in candidates]


@pytest.mark.parametrize("from_b", [["go"], ["go", "wander"]])
@pytest.mark.parametrize("simulations", [6, 7, 8, 9, 10, 20, 40])
def test_a_shared_state_that_opens_again_opens_every_way_to_it(simulations: int, from_b: list[str]) -> None:
    settings = SearchSettings(
        simulations=simulations,
        selection="uct",
        proposals=1,
        proposals_by_depth=(2,),
        widening=1.0,
        transpositions=True,
    )
    root = Root("root", (observed("root"),))
    [tree] = search(TwoWays(), [root], Growing(from_b), ValueFunction(lambda *_: 0.5), settings)
    assert tree.counters["transpositions"] == 1
    for node in range(len(tree)):
        children = tree.children(node)
        assert not children or tree.is_solved(node) <= all(tree.is_solved(child) for child in children), node
    if simulations == 40:
        assert min(tree.visits(way) for way in tree.children(0)) >= 10


def test_a_way_that_is_open_already_keeps_no_other_closed() -> None:
    """S hangs below A and is linked from B, where something else is left to try."""
    tree = Tree(None, "root", ())
    for node, names in ((0, "AB"), (1, "S"), (2, "Sx")):
        zeros = [0.0] * len(names)
        tree.add_children(
            node, Children(list(names), list(names), np.full(len(names), 0.5), zeros, zeros, [0] * len(names))
        )
    tree.link(4, 3)
    for node in (1, 3):
        tree.nodes["flags"][node] |= SOLVED
    reopen(tree, 3, settings_record(SearchSettings(transpositions=True), zero_sum=False, players=1))
    assert not any(tree.is_solved(node) for node in range(len(tree)))
