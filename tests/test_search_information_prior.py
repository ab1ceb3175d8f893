"""Priors of actions that are available in some determinisations alone: one door, or ten."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from information_search import grown

from branchwise.envs.play.policy import FunctionPolicy
from branchwise.envs.play.transcript import Transcript
from branchwise.envs.simulator import TERMINAL, Simulator
from branchwise.search.engine import Root, SearchSettings, search
from branchwise.search.trees.information_tree import InformationTree
from branchwise.search.trees.nodes import FAILED


class Hall(NamedTuple):
    doors: str
    taken: str = ""


class Doors(Simulator[Hall]):
    """Behind a first step there is, unseen from here, one hall of several, each with doors of its own."""

    def __init__(self, *halls: str) -> None:
        self.halls = halls

    def reset(self, seed: int, options: Any = None) -> Hall:
        return Hall(self.halls[0])

    def current_player(self, state: Hall) -> int:
        return TERMINAL if len(state.taken) == 2 else 0

    def observation(self, state: Hall, player: int = 0) -> str:
        return state.taken

    def legal_actions(self, state: Hall) -> list[str]:
        return list(state.doors) if state.taken else ["s"]

    def step(self, state: Hall, action: str) -> Hall:
        return state._replace(taken=state.taken + action)

    def rewards(self, state: Hall) -> tuple[float]:
        return (0.0,)

    def resample(self, state: Hall, player: int, rng: np.random.Generator) -> Hall:
        return state._replace(doors=self.halls[int(rng.integers(len(self.halls)))])


def priors(tree: InformationTree) -> dict[str, float]:
    return {tree.actions[edge]: tree.prior(edge) for edge in tree.children(tree.sets[0, "s"])}


@pytest.mark.parametrize("halls", [("a", "abcdefghij"), ("a", "bcdefghij"), ("ab", "bc", "cd", "defghij")])
def test_without_a_policy_all_actions_have_the_same_prior_whenever_they_turn_up(halls: tuple[str, ...]) -> None:
    doors = Doors(*halls)
    [tree] = grown(doors, [doors.reset(0)], information="single_observer", selection="puct", simulations=60)
    assert priors(tree) == dict.fromkeys(priors(tree), pytest.approx(0.1))
    assert sorted(priors(tree)) == list("abcdefghij")


def likes(transcript: Transcript, actions: Sequence[str]) -> list[float]:
    """a : b : c : d as 1 : 2 : 3 : 4."""
    return [float(np.log("abcd".index(action) + 1)) if action in "abcd" else 0.0 for action in actions]


@pytest.mark.parametrize(("seed", "halls_asked"), [(0, ["abcd"]), (5, ["bc", "abcd"]), (9, ["ab", "bc", "abcd"])])
def test_the_policy_is_asked_about_actions_that_turn_up(seed: int, halls_asked: list[str]) -> None:
    asked: list[str] = []
    read: list[str] = []

    def policy(transcript: Transcript, actions: Sequence[str]) -> list[float]:
        asked.append("".join(actions))
        read.append(transcript[-1].text)
        return likes(transcript, actions)

    doors = Doors("ab", "bc", "abcd")
    settings = SearchSettings(simulations=60, uniform_prior=0.0, information="single_observer")
    [tree] = search(doors, [Root(doors.reset(0))], FunctionPolicy(policy), lambda *_: 0.0, settings, seed)
    assert isinstance(tree, InformationTree)
    assert priors(tree) == {action: pytest.approx(("abcd".index(action) + 1) / 10) for action in "abcd"}
    assert asked == ["s", *halls_asked]
    assert read == ["", *["s"] * len(halls_asked)]  # what the player sees there
    assert len(asked) == tree.counters["model_calls"] - tree.visits(0) + below_ends(tree)


def below_ends(tree: InformationTree) -> int:
    """Simulations that ended with the game, which cost no evaluation."""
    return sum(tree.visits(edge) for edge in tree.children(tree.sets[0, "s"]))


def test_a_policy_that_fails_on_actions_that_turn_up_costs_the_leaf() -> None:
    def policy(transcript: Transcript, actions: Sequence[str]) -> list[float]:
        if len(actions) == 2:
            raise RuntimeError("two are too many")
        return [0.0] * len(actions)

    doors = Doors("a", "bc", "a", "a", "a")
    settings = SearchSettings(simulations=40, information="single_observer")
    [tree] = search(doors, [Root(doors.reset(0))], FunctionPolicy(policy), lambda *_: 0.0, settings, 0)
    assert 0 < tree.counters["failed_leaves"] < 20
    assert tree.visits(0) == 40 - tree.counters["failed_leaves"]
    assert tree.last_error == "policy.score failed: RuntimeError: two are too many"
    assert not tree.nodes["pending"].any()


def test_beside_actions_without_probability_those_that_turn_up_count_as_average_ones() -> None:
    """The policy gives all to a where it is alone, and nothing to it beside b, c and d, so that no ratio says how they
    compare. One action of four was known: a third of the policy's each, the new ones count 4/3 beside its 1."""

    def policy(transcript: Transcript, actions: Sequence[str]) -> list[float]:
        return [0.0 if action != "a" or len(actions) == 1 else -np.inf for action in actions]

    doors = Doors("a", "abcd")
    settings = SearchSettings(simulations=60, uniform_prior=0.0, information="single_observer")
    for seed in range(8):
        [tree] = search(doors, [Root(doors.reset(0))], FunctionPolicy(policy), lambda *_: 0.0, settings, seed)
        assert isinstance(tree, InformationTree)
        found = priors(tree)
        if list(found) == ["a", "b", "c", "d"] and found["a"]:
            break
    assert found == {"a": pytest.approx(1 / 5), **dict.fromkeys("bcd", pytest.approx(4 / 15))}
    assert tree.counters["failed_leaves"] == 0


def test_an_action_that_leads_to_nothing_but_failures_has_failed_too() -> None:
    class Stuck(Doors):
        def step(self, state: Hall, action: str) -> Hall:
            if state.taken:
                raise KeyError(action)
            return super().step(state, action)

    doors = Stuck("ab")
    options = {"information": "single_observer", "simulations": 10, "max_failed_share": 0.9}
    [tree] = grown(doors, [doors.reset(0)], evaluator=lambda *_: 0.0, **options)
    assert (tree.visits(0), tree.counters["failed_leaves"]) == (2, 8)
    assert tree.counters["failed_actions"] == 3  # a, b, and with both the way to them
    edges = [edge for node in (0, tree.sets[0, "s"]) for edge in tree.children(node)]
    assert [tree.actions[edge] for edge in edges if tree.has(edge, FAILED)] == ["s", "a", "b"]
    assert "KeyError" in tree.last_error
    assert not tree.nodes["pending"].any()
