"""What a search is given and what goes together: roots, generators, settings, hooks; and when it stops."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flat_settings import flat_settings
from toys import (
    Corridor,
    Even,
    Fork,
    FreeText,
    Line,
    Path,
    RandomTree,
    SamplingPolicy,
    corridor_root,
    judged,
    roots,
    zero,
)

from branchwise.envs.play.transcript import Transcript
from branchwise.envs.simulator import CHANCE, TERMINAL, Simulator
from branchwise.search.engine import Root, SearchSettings, SearchStopped, extend, is_zero_sum, search
from branchwise.search.evaluation import Leaf, RandomRollout, ValueFunction
from branchwise.search.rules.options import Puct
from branchwise.search.trees.tree import Tree


def fresh_generators(count: int) -> list[np.random.Generator]:
    return np.random.default_rng(7).spawn(count)


# ---- what goes together -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rng", [None, 3, []])
def test_a_search_from_no_root_gives_no_tree(rng: Any) -> None:
    assert search(Corridor(), [], Even(), ValueFunction(zero), None, rng) == []


@pytest.mark.parametrize("count", [1, 3])
def test_there_are_as_many_generators_as_roots(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} generators for 2 roots; pass one generator, or one a root"):
        search(Corridor(), [corridor_root()] * 2, Even(), ValueFunction(zero), None, fresh_generators(count))


class Bargain(Simulator[str]):
    """Two players who both gain, by a deal or by the toss of a coin, which no zero-sum game has."""

    players, zero_sum = 2, True

    def reset(self, seed: int, options: Any = None) -> str:
        return ""

    def current_player(self, state: str) -> int:
        return {"": 0, "wait": 1, "toss": CHANCE}.get(state, TERMINAL)

    def observation(self, state: str, player: int = 0) -> str:
        return state or "-"

    def legal_actions(self, state: str) -> list[str]:
        return ["wait"] if state == "" else ["toss", "deal"]

    def chance_outcomes(self, state: str) -> list[tuple[str, float]]:
        return [("heads", 0.5), ("tails", 0.5)]

    def step(self, state: str, action: str) -> str:
        return action

    def rewards(self, state: str) -> tuple[float, ...]:
        return (1.0, 1.0) if state in ("deal", "heads", "tails") else (0.0, 0.0)


class TossOnly(Bargain):
    def legal_actions(self, state: str) -> list[str]:
        return ["wait"] if state == "" else ["toss"]


class OrNothing(Bargain):
    def legal_actions(self, state: str) -> list[str]:
        return ["wait"] if state == "" else ["nothing", "deal"]


@pytest.mark.parametrize("options", [{}, {"revisit": True}, {"transpositions": True}], ids=["ahead", "lazy", "graph"])
@pytest.mark.parametrize("simulator", [Bargain(), TossOnly(), OrNothing()], ids=["both", "chance", "step"])
def test_a_game_that_is_not_zero_sum_ends_the_search_wherever_it_is_found_out(
    simulator: Simulator[Any], options: dict[str, Any]
) -> None:
    settings = flat_settings(simulations=30, solve=False, max_failed_share=1.0, **options)
    with pytest.raises(
        ValueError, match=r"(Bargain|TossOnly|OrNothing) says that it is zero-sum, and pays \(1\.0, 1\.0\)"
    ):
        search(simulator, [Root("")], None, ValueFunction(zero), settings)


class Opinions:
    """A critic that likes nothing."""

    def values(self, transcripts: Any, candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        return [np.zeros(len(actions)) for actions in candidates]


@pytest.mark.parametrize(
    ("options", "hooks", "words"),
    [
        ({"critic_weight": 0.5}, {}, "critic_weight=0.5 and unvisited_value='parent' ask a critic; pass critic="),
        ({"unvisited_value": "prior"}, {}, "critic_weight=0.0 and unvisited_value='prior' ask a critic; pass critic="),
        ({}, {"critic": Opinions()}, "unvisited_value='parent' read no critic, and one was passed"),
        ({"selection": "uct_bonus"}, {}, "selection='uct_bonus' adds a bonus; pass bonus=, or name bonus_terms"),
        ({}, {"bonus": lambda tree, node: 0.0}, "selection='puct' adds no bonus, and one was passed"),
        ({"information": "single_observer"}, {}, "and Corridor has no resample that draws anything anew; write one"),
    ],
)
def test_a_hook_is_passed_where_the_settings_ask_for_it_and_nowhere_else(
    options: dict[str, Any], hooks: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        search(Corridor(), [corridor_root()], None, ValueFunction(zero), flat_settings(**options), **hooks)


@pytest.mark.parametrize(
    ("options", "hooks"),
    [
        ({"critic_weight": 0.5}, {"critic": Opinions()}),
        ({"unvisited_value": "prior"}, {"critic": Opinions()}),
        ({"selection": "uct_bonus"}, {"bonus": lambda tree, node: 0.0}),
        ({"selection": "uct_bonus", "bonus_terms": ("early_depth",)}, {}),
        ({}, {"same": lambda one, other: False}),
    ],
)
def test_a_hook_that_the_settings_ask_for_is_taken(options: dict[str, Any], hooks: dict[str, Any]) -> None:
    settings = flat_settings(simulations=4, **options)
    [tree] = search(Corridor(), [corridor_root()], None, ValueFunction(zero), settings, **hooks)
    assert tree.is_solved()


def test_the_best_return_of_one_is_backed_up_for_one_player_alone() -> None:
    settings = SearchSettings(simulations=4, backup="max")
    assert search(Corridor(), [corridor_root()], None, ValueFunction(zero), settings)[0].value(0) == 1.0
    with pytest.raises(ValueError, match="Bargain has 2 players, and backup='max' keeps the best return of one; use"):
        search(Bargain(), [Root("")], None, ValueFunction(zero), settings)


def test_a_tree_without_its_simulator_is_not_gone_on_with() -> None:
    tree = Tree(None, Line(0, 0), (), index=3)
    with pytest.raises(ValueError, match=r"tree 3 was loaded without its simulator; load_trees\(path, simulator\)"):
        extend(Corridor(), [tree], None, ValueFunction(zero), SearchSettings())


@pytest.mark.parametrize(
    ("players", "said", "opposed"),
    [(2, True, True), (2, False, False), (2, None, False), (1, True, False), (3, True, False)],
)
def test_two_players_are_opposed_where_the_simulator_says_so(players: int, said: bool | None, opposed: bool) -> None:
    class Says(Corridor):
        pass

    Says.players = players
    if said is not None:
        Says.zero_sum = said  # type: ignore[attr-defined]
    assert is_zero_sum(Says()) == opposed


def test_graphs_of_shared_states_hang_their_children_at_the_state() -> None:
    """Two ways lead to each state, and a way may be tried before the one that found the state first."""

    class Bag(Fork):
        def step(self, state: Path, action: str) -> Path:
            return Path(state.seed, tuple(sorted((*state.actions, action))))

    settings = SearchSettings(simulations=60, transpositions=True, solve=False, selection=Puct(exploration=5.0))
    [tree] = search(Bag(), roots([0], Bag()), None, ValueFunction(judged), settings)
    linked = [node for node in range(len(tree)) if tree.source(node) != node]
    assert len(linked) == tree.counters["transpositions"] > 5
    for node in range(len(tree)):
        assert tree.states[node] == tree.states[tree.source(node)]
        assert all(tree.parent(child) == tree.source(node) for child in tree.children(node))
    ends = [node for node in range(len(tree)) if tree.is_terminal(node)]
    assert len(ends) > len({tree.states[end] for end in ends}) > 1
    assert not set(ends) & set(linked)  # nothing hangs below an end that could be shared
    assert len({tree.states[node] for node in range(len(tree)) if not tree.is_terminal(node)}) == sum(
        not tree.is_terminal(node) and tree.source(node) == node for node in range(len(tree))
    )


def test_a_root_of_which_nothing_is_said_has_no_task_and_no_words() -> None:
    [tree] = search(Corridor(), [Root(Line(0, 0))], None, ValueFunction(zero), SearchSettings(simulations=1))
    assert (tree.task, tree.transcript()) == ({}, ())


# ---- when a search stops ----------------------------------------------------------------------------------------


def lost(simulator: Any, state: Path, transcript: Any) -> float:
    """Of one leaf nothing can be said."""
    if state.actions == ("a0",):
        raise ConnectionError("refused")
    return 0.0


def test_failures_are_looked_at_from_twenty_leaves_on() -> None:
    settings = SearchSettings(simulations=40, max_failed_share=0.0)
    with pytest.raises(SearchStopped, match=r"^1 of 20 leaves failed, more than max_failed_share=0\.0; .*refused"):
        search(Fork(), roots([0], Fork()), None, ValueFunction(lost), settings)
    with pytest.raises(SearchStopped, match=r"^1 of 19 leaves failed"):  # in the end of however few
        search(Fork(), roots([0], Fork()), None, ValueFunction(lost), replace(settings, simulations=19))


def test_a_search_goes_on_as_long_as_the_share_of_failures_is_not_more_than_set() -> None:
    settings = SearchSettings(simulations=20, max_failed_share=0.05)
    [tree] = search(Fork(), roots([0], Fork()), None, ValueFunction(lost), settings)
    assert (tree.counters["failed_leaves"], tree.visits(0)) == (1, 19)


@pytest.mark.parametrize(
    ("limit", "simulations"),
    [
        ({"max_model_calls": 7}, 7),
        ({"max_nodes": 3}, 1),  # a root and its two children
        ({"max_nodes": 4}, 2),
        ({"max_nodes": 5}, 2),
        ({"seconds": 1e-9}, 0),
        ({"simulations": 6}, 6),
    ],
)
def test_a_limit_is_reached_where_it_is_equalled(limit: dict[str, Any], simulations: int) -> None:
    [tree] = search(Fork(), roots([0], Fork()), None, ValueFunction(zero), flat_settings(**limit))
    assert (tree.stopped, tree.visits(0)) == (next(iter(limit)), simulations)


@pytest.mark.parametrize(("less", "simulations"), [(0, 1), (1, 0)])
def test_memory_may_grow_to_its_limit_and_not_beyond(less: int, simulations: int) -> None:
    tree = Tree(Fork(), Fork().reset(0), ())
    settings = SearchSettings(max_bytes=tree.bytes_to_grow() - less)
    extend(Fork(), [tree], None, ValueFunction(zero), settings)
    assert (tree.stopped, tree.visits(0)) == ("max_bytes", simulations)


def test_a_bar_is_handed_the_trees_before_the_first_round() -> None:
    class Bar:
        trees: list[Tree] = []  # noqa: RUF012

        def __call__(self, *_: int) -> None:
            assert [tree.index for tree in self.trees] == [0, 1]

    bar = Bar()
    grown = search(
        Fork(), roots([0, 1], Fork()), None, ValueFunction(zero), SearchSettings(simulations=2), progress=bar
    )
    assert bar.trees == grown


def test_progress_counts_sampled_actions_as_the_trees_do() -> None:
    told: list[int] = []
    trees = search(
        FreeText(),
        roots(range(2), FreeText()),
        SamplingPolicy(),
        ValueFunction(judged),
        SearchSettings(simulations=4, proposals=3),
        progress=lambda *totals: told.append(totals[2]),
    )
    assert told[-1] == sum(tree.counters["model_calls"] for tree in trees)


def test_an_evaluator_is_told_where_each_leaf_hangs() -> None:
    told: list[tuple[int, int, bool, str]] = []

    class Reader:
        def evaluate(self, leaves: Sequence[Leaf]) -> np.ndarray:
            told.extend((leaf.tree, leaf.node, leaf.terminal, leaf.state.actions[-1:]) for leaf in leaves)
            return np.zeros((len(leaves), 1))

    simulator = RandomTree(depth=1)
    settings = SearchSettings(simulations=2, hide_outcome=True)
    trees = search(simulator, roots([0, 1], simulator), None, Reader(), settings)
    assert [where[:3] for where in told] == [(0, 0, False), (1, 0, False), (0, 1, True), (1, 1, True)]
    assert [tree.counters["model_calls"] for tree in trees] == [2, 2]  # one each where it says nothing of them


def test_a_critic_reads_transcripts_though_nobody_else_does() -> None:
    read: list[str] = []

    class Critic:
        def values(self, transcripts: Sequence[Transcript], candidates: Any) -> list[np.ndarray]:
            read.extend(transcript[-1].text for transcript in transcripts)
            return [np.zeros(len(actions)) for actions in candidates]

    search(Corridor(), [corridor_root()], None, RandomRollout(), SearchSettings(critic_weight=0.5), critic=Critic())
    assert read[:2] == ["place 0, 0 steps", "place 1, 1 steps"]


def test_a_search_goes_on_for_as_long_as_it_may_take() -> None:
    settings = SearchSettings(simulations=5, seconds=max(60.0, 1.5 * time.monotonic()))
    [tree] = search(Fork(), roots([0], Fork()), None, ValueFunction(zero), settings)
    assert tree.stopped == "simulations"
