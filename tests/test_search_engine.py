"""The engine's promises about batches, ends and proposals; arguments are in test_search_arguments.py, leaves are valued
in test_search_evaluation.py, what fails stands in test_search_failures.py, the rules against a plain twin in
test_search_twin.py."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flat_settings import flat_settings
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st
from toys import (
    Corridor,
    Even,
    FreeText,
    HashPolicy,
    Line,
    RandomTree,
    SamplingPolicy,
    corridor_root,
    judged,
    roots,
    zero,
)

from branchwise.envs.play.sampling import usable
from branchwise.envs.play.transcript import observed
from branchwise.search.engine import Root, SearchSettings, SearchStopped, extend, search
from branchwise.search.evaluation import Leaf, PolicyRollout, RandomRollout, ValueFunction
from branchwise.search.rules.options import Puct, Ucb1, Uct
from branchwise.search.rules.selection import mixed_prior
from branchwise.search.settings import settings_record
from branchwise.search.trees.arrays import _back_up_from
from branchwise.search.trees.children import Children
from branchwise.search.trees.descent import _select
from branchwise.search.trees.nodes import ENDED, VALUED, _add_children, _path
from branchwise.search.trees.tree import Tree

# ---- batches ----------------------------------------------------------------------------------------------------


def numbers(tree: Tree) -> tuple[bytes, list[str], list[float]]:
    return tree.nodes.tobytes(), tree.actions, tree.logps[1:]


def fresh_generators(count: int) -> list[np.random.Generator]:
    return np.random.default_rng(7).spawn(count)


@pytest.mark.parametrize("simulator", [RandomTree(), FreeText()], ids=["listed", "free text"])
@pytest.mark.parametrize("leaves_per_tree", [1, 4])
def test_a_tree_is_the_same_alone_and_among_others(simulator: RandomTree, leaves_per_tree: int) -> None:
    settings = SearchSettings(simulations=25, leaves_per_tree=leaves_per_tree, selection=Ucb1(exploration=1.0))
    together = search(
        simulator,
        roots(range(6), simulator),
        SamplingPolicy(),
        PolicyRollout(SamplingPolicy()),
        settings,
        fresh_generators(6),
    )
    for index, generator in enumerate(fresh_generators(6)):
        [alone] = search(
            simulator,
            roots([index], simulator),
            SamplingPolicy(),
            PolicyRollout(SamplingPolicy()),
            settings,
            [generator],
        )
        assert numbers(alone) == numbers(together[index])
        assert alone.counters == together[index].counters


def test_same_seed_gives_the_same_trees_and_another_seed_others() -> None:
    simulator = FreeText()

    def grow(seed: int) -> list[Any]:
        rng = np.random.default_rng(seed)
        policy = SamplingPolicy()
        return [
            numbers(tree)
            for tree in search(simulator, roots(range(3), simulator), policy, PolicyRollout(policy), None, rng)
        ]

    assert grow(1) == grow(1)
    assert grow(1) != grow(2)


def test_a_search_in_two_parts_equals_one_in_one_go() -> None:
    simulator = RandomTree()
    settings = SearchSettings(simulations=40)

    def evaluator() -> PolicyRollout:
        return PolicyRollout(HashPolicy())

    whole = search(simulator, roots(range(3), simulator), HashPolicy(), evaluator(), settings, np.random.default_rng(1))
    first = replace(settings, simulations=15)
    parts = search(simulator, roots(range(3), simulator), HashPolicy(), evaluator(), first, np.random.default_rng(1))
    extend(simulator, parts, HashPolicy(), evaluator(), settings)
    assert [numbers(tree) for tree in parts] == [numbers(tree) for tree in whole]


def test_every_stage_is_one_call_for_all_trees() -> None:
    sizes: list[int] = []

    class Counting(HashPolicy):
        def score(self, transcripts: Any, candidates: Any) -> list[np.ndarray]:
            sizes.append(len(transcripts))
            return super().score(transcripts, candidates)

    simulator = RandomTree()
    search(simulator, roots(range(10), simulator), Counting(), ValueFunction(judged), SearchSettings(simulations=5))
    assert sizes[0] == 10
    assert len(sizes) <= 5


# ---- shape ------------------------------------------------------------------------------------------------------


@settings_of_hypothesis(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    selection=st.sampled_from(["puct", "uct", "ucb1"]),
    backup=st.sampled_from(["mean", "bellman"]),
    leaves_per_tree=st.integers(1, 5),
    simulations=st.integers(1, 60),
    solve=st.booleans(),
    exploration=st.floats(0.0, 5.0),
    max_depth=st.integers(1, 6),
)
def test_any_tree_is_sound(seed: int, solve: bool, **options: Any) -> None:
    simulator = RandomTree(rewards=False)
    settings = flat_settings(solve=solve, **options)
    [tree] = search(simulator, roots([seed], simulator), HashPolicy(), ValueFunction(judged), settings)
    nodes = tree.nodes
    assert nodes["visits"][0] <= settings.simulations
    assert nodes["visits"][0] == settings.simulations or tree.is_solved()
    assert not nodes["pending"].any()
    reached = [0]
    for node in reached:
        reached.extend(tree.children(node))
        children = tree.children(node)
        if children:
            assert nodes["visits"][node] == 1 + sum(nodes["visits"][child] for child in children)
            assert sum(nodes["prior"][child] for child in children) == pytest.approx(1.0, abs=1e-5)
            assert all(tree.parent(child) == node for child in children)
        if nodes["visits"][node]:
            assert -1e-9 <= tree.value(node) <= 1.0 + 1e-9
    assert sorted(reached) == list(range(len(tree)))


# ---- ends -------------------------------------------------------------------------------------------------------


def test_no_edge_leads_back_onto_the_path() -> None:
    [tree] = search(Corridor(), [corridor_root()], Even(), ValueFunction(zero), SearchSettings(simulations=50))
    assert tree.actions == ["", "right", "right", "right"]
    assert tree.counters["dropped_revisits"] == 3
    assert tree.counters["simulations"] == 4
    assert tree.is_solved()
    assert float(tree.nodes["prior"][1]) == 1.0


def test_edges_may_lead_back_where_revisits_are_allowed() -> None:
    settings = SearchSettings(simulations=20, revisit=True)
    [tree] = search(Corridor(), [corridor_root()], Even(), ValueFunction(zero), settings)
    assert len(tree.children(0)) == 2
    assert tree.counters["dropped_revisits"] == 0


def test_a_terminal_counts_its_reward_and_is_not_simulated_twice() -> None:
    [tree] = search(Corridor(), [corridor_root()], Even(), ValueFunction(zero), SearchSettings(simulations=50))
    assert tree.value(3) == 1.0
    assert tree.visits(3) == 1
    [again] = search(
        Corridor(), [corridor_root()], Even(), ValueFunction(zero), SearchSettings(simulations=50, solve=False)
    )
    assert again.visits(3) == 47
    assert again.counters["simulations"] == 50


class Alley(Corridor):
    """From place 0 a dead alley at place 1 (its one action leads back) and the way out at place 3."""

    def legal_actions(self, state: Line) -> list[str]:
        return ["0"] if state.place == 1 else ["1", "2"] if state.place == 0 else ["3"]

    def step(self, state: Line, action: str) -> Line:
        return Line(int(action), state.clock + 1)


@pytest.mark.parametrize("solve", [True, False])
def test_a_dead_end_is_valued_once_where_solving(solve: bool) -> None:
    asked = []

    def judge(simulator: Any, state: Line, transcript: Any) -> float:
        asked.append(state.place)
        return 1.0 if state.place == 1 else 0.0

    settings = SearchSettings(simulations=7, selection=Puct(exploration=0.0), solve=solve)
    [tree] = search(Alley(), [corridor_root()], Even(), ValueFunction(judge), settings)
    assert tree.actions[1] == "1"
    assert (tree.visits(1), tree.value(1), len(tree.children(1))) == (6, 1.0, 0)
    assert tree.is_solved(1) == solve
    assert asked == [0, 1] if solve else [0, *[1] * 6]


def test_a_search_that_was_interrupted_can_go_on() -> None:
    class Interrupted(HashPolicy):
        def score(self, transcripts: Any, candidates: Any) -> list[np.ndarray]:
            self.calls += 1
            if self.calls == 4:
                raise KeyboardInterrupt
            return super().score(transcripts, candidates)

    simulator = RandomTree()
    settings = SearchSettings(simulations=20)
    trees = [Tree(simulator, root.state, root.transcript) for root in roots(range(2), simulator)]
    with pytest.raises(KeyboardInterrupt):
        extend(simulator, trees, Interrupted(), ValueFunction(judged), settings)
    assert all(tree.nodes["pending"].any() for tree in trees)
    extend(simulator, trees, HashPolicy(), ValueFunction(judged), settings)
    assert not any(tree.nodes["pending"].any() for tree in trees)
    assert all(tree.counters["simulations"] == 20 or tree.is_solved() for tree in trees)


def test_a_search_starts_where_a_player_is_to_move() -> None:
    root = Root(Line(3, 3), (observed("out"),))
    with pytest.raises(ValueError, match="root 0 is terminal"):
        search(Corridor(), [root], Even(), ValueFunction(zero))


def test_each_kernel_is_compiled_for_one_signature() -> None:
    simulator = RandomTree()
    for settings in (
        SearchSettings(simulations=9),
        SearchSettings(simulations=9, selection=Uct(exploration=1), discount=1, virtual_loss=0),
    ):
        [tree] = search(simulator, roots([1], simulator), HashPolicy(), ValueFunction(judged), settings)
        tree.best_action()
    entries = (_select, _back_up_from, _add_children, _path, mixed_prior, usable)
    assert {kernel.py_func.__name__: len(kernel.signatures) for kernel in entries} == {
        kernel.py_func.__name__: 1 for kernel in entries
    }


def test_a_hidden_outcome_is_never_read_and_the_evaluator_is_asked_once() -> None:
    asked = []

    class Blind(Corridor):
        def rewards(self, state: Line) -> tuple[float, ...]:
            raise AssertionError("the outcome was read")

    def guess(simulator: Any, state: Line, transcript: Any) -> float:
        asked.append(state)
        return 0.25 * state.place

    settings = SearchSettings(simulations=30, hide_outcome=True, solve=False, discount=0.5)
    [tree] = search(Blind(), [corridor_root()], Even(), ValueFunction(guess), settings)
    assert len(asked) == 4
    assert tree.visits(3) == 27
    assert tree.value(3) == 0.75


def test_roll_outs_are_refused_where_the_outcome_is_hidden() -> None:
    with pytest.raises(ValueError, match="hide_outcome"):
        search(Corridor(), [corridor_root()], Even(), RandomRollout(), SearchSettings(hide_outcome=True))


def test_the_best_action_is_a_solved_win_although_it_was_visited_once() -> None:
    tree = Tree(None, "root", ())
    flags = [ENDED | VALUED, 0]
    tree.add_children(0, Children(["win", "wander"], ["W", "X"], np.array([0.5, 0.5]), [0.0, 0.0], [1.0, 0.0], flags))
    settings = SearchSettings(selection=Puct(exploration=1.0, unvisited_value="zero"), virtual_loss=0.0)
    record = settings_record(settings, zero_sum=False, players=1)
    for value in (0.0, 0.0, 0.5, 0.5):
        leaf, _, _ = tree.select(record)
        tree.back_up(leaf, value, record)
        if leaf == 2:
            break
    assert tree.best_action("visits") == "win"
    assert tree.best_action("value") == "win"


def test_a_root_without_children_has_no_best_action() -> None:
    with pytest.raises(ValueError, match="no children"):
        Tree(None, "root", ()).best_action()


def test_policy_target_is_the_share_of_visits() -> None:
    simulator = RandomTree()
    [tree] = search(
        simulator, roots([3], simulator), HashPolicy(), ValueFunction(judged), SearchSettings(simulations=31)
    )
    actions, shares = tree.policy_target()
    assert actions == simulator.legal_actions(tree.states[0])
    assert shares == pytest.approx([tree.visits(child) / (tree.visits(0) - 1) for child in tree.children()])


# ---- failures ---------------------------------------------------------------------------------------------------


def test_a_batch_that_is_asked_again_draws_the_same_numbers_for_the_others() -> None:
    class Fragile(RandomRollout):
        def evaluate(self, leaves: Sequence[Leaf]) -> np.ndarray:
            values = super().evaluate(leaves)
            if any(leaf.tree == 1 and leaf.node == 2 for leaf in leaves):
                raise RuntimeError("late")
            return values

    simulator = RandomTree()
    settings = SearchSettings(simulations=20, selection=Puct(exploration=1.0))
    trees, clean = (
        search(simulator, roots(range(3), simulator), HashPolicy(), evaluator, settings, np.random.default_rng(3))
        for evaluator in (Fragile(), RandomRollout())
    )
    assert [tree.counters["failed_leaves"] for tree in trees] == [0, 1, 0]
    assert numbers(trees[0]) == numbers(clean[0])
    assert numbers(trees[2]) == numbers(clean[2])


def test_a_failed_root_is_tried_again() -> None:
    class Once(HashPolicy):
        def score(self, transcripts: Any, candidates: Any) -> list[np.ndarray]:
            self.calls += 1
            if self.calls == 1:
                raise TimeoutError("slow")
            return super().score(transcripts, candidates)

    simulator = RandomTree()
    [tree] = search(simulator, roots([0], simulator), Once(), ValueFunction(judged), SearchSettings(simulations=5))
    assert tree.visits(0) == 4


def test_a_search_stops_when_too_much_fails() -> None:
    class Dead(HashPolicy):
        def score(self, transcripts: Any, candidates: Any) -> list[np.ndarray]:
            raise ConnectionError("refused")

    simulator = RandomTree()
    with pytest.raises(SearchStopped, match=r"30 of 30 leaves failed.*refused") as stopped:
        search(simulator, roots(range(30), simulator), Dead(), ValueFunction(judged))
    assert len(stopped.value.trees) == 30


def test_settings_name_the_value_and_what_was_expected() -> None:
    with pytest.raises(ValueError, match=r"selection is 'best'; expected one of ucb1, uct, puct"):
        SearchSettings(selection="best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"simulations is 0; expected a number from 1"):
        SearchSettings(simulations=0)
