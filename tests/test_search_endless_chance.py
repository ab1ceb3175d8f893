"""A chance node that leads to itself: nothing that draws luck draws for ever."""

from typing import Any

import numpy as np
import pytest

from branchwise.envs.opponents import draw_outcome, past_chance
from branchwise.envs.play.task import start
from branchwise.envs.simulator import CHANCE, MOST_DRAWS, TERMINAL, Simulator
from branchwise.search.engine import Root, SearchSettings, SearchStopped, search
from branchwise.search.evaluation import Evaluator, RandomRollout, ValueFunction


class Loop(Simulator[str]):
    """``good`` ends; ``bad`` leads to chance nodes, each of which leads to another."""

    def __init__(self, outcomes: int = 1) -> None:
        self.outcomes = outcomes

    def reset(self, seed: int, options: Any = None) -> str:
        return "loop" if options else "start"

    def current_player(self, state: str) -> int:
        return {"start": 0, "good": TERMINAL}.get(state, CHANCE)

    def observation(self, state: str, player: int = 0) -> str:
        return state

    def legal_actions(self, state: str) -> list[str]:
        return ["good", "bad"]

    def step(self, state: str, action: str) -> str:
        return "good" if action == "good" else "loop"

    def rewards(self, state: str) -> tuple[float]:
        return (0.0,)

    def chance_outcomes(self, state: str) -> list[tuple[str, float]]:
        return [(str(place), 1.0 / self.outcomes) for place in range(self.outcomes)]

    def resample(self, state: str, player: int, rng: np.random.Generator) -> str:
        return state


@pytest.mark.parametrize("outcomes", [1, 2])
@pytest.mark.parametrize("information", ["perfect", "single_observer"])
@pytest.mark.parametrize("evaluator", [RandomRollout(), ValueFunction(lambda simulator, state, transcript: 0.0)])
def test_endless_chance_costs_its_leaf_and_the_search_ends(
    outcomes: int, information: Any, evaluator: Evaluator
) -> None:
    settings = SearchSettings(
        simulations=6, max_depth=5, revisit=True, information=information, solve=False, max_failed_share=1.0
    )
    try:
        [tree] = search(Loop(outcomes), [Root("start")], None, evaluator, settings, 0)
    except SearchStopped as stopped:
        [tree] = stopped.trees
    assert tree.counters["failed_leaves"] or tree.counters["failed_actions"]
    assert "Loop draws chance more than 1000 times in a row" in tree.last_error


def test_nodes_and_time_are_looked_at_between_simulations_that_draw_for_ever() -> None:
    settings = SearchSettings(simulations=10_000, max_nodes=100, revisit=True, max_failed_share=1.0)
    [tree] = search(Loop(2), [Root("start")], None, RandomRollout(), settings, 0)
    assert tree.stopped == "max_nodes"
    assert tree.size < 3 * MOST_DRAWS


def test_luck_before_the_first_decision_that_never_ends_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="Loop draws chance more than 1000 times in a row; let step lead"):
        start(Loop(), {"seed": 0, "options": {"loop": True}})


def test_as_many_draws_as_are_allowed_pass() -> None:
    class Deal(Loop):
        def current_player(self, state: str) -> int:
            return CHANCE if len(state) < MOST_DRAWS else TERMINAL

        def step(self, state: str, action: str) -> str:
            return state + action

    game, rng = Deal(), np.random.default_rng(0)
    state, player = past_chance(game, "", lambda state: draw_outcome(game, state, rng))
    assert (state, player) == ("0" * MOST_DRAWS, TERMINAL)


@pytest.mark.parametrize("random_ties", [False, True])
def test_six_cards_in_a_row_take_six_chance_nodes(random_ties: bool) -> None:
    class Cards(Loop):
        def reset(self, seed: int, options: Any = None) -> Any:
            return ()

        def current_player(self, state: Any) -> int:
            return 0 if len(state) in (0, 7) else CHANCE if len(state) < 7 else TERMINAL

        def step(self, state: Any, action: str) -> Any:
            return (*state, action)

    settings = SearchSettings(simulations=2, revisit=True, random_ties=random_ties)
    [tree] = search(Cards(outcomes=30), [Root(())], None, RandomRollout(), settings, 0)
    assert tree.size == 1 + 2 + 6 * 30 + 2  # the actions of the root and after the cards
    assert not tree.counters["failed_leaves"]


@pytest.mark.parametrize(("draws", "failed"), [(MOST_DRAWS, 0), (MOST_DRAWS + 1, 1)])
def test_a_simulation_passes_as_many_draws_in_a_row_as_are_allowed(draws: int, failed: int) -> None:
    class Deal(Loop):
        def current_player(self, state: Any) -> int:
            return 0 if state < 0 else CHANCE if state < draws else TERMINAL

        def legal_actions(self, state: Any) -> list[str]:
            return ["on"]

        def step(self, state: Any, action: str) -> Any:
            return state + 1

    settings = SearchSettings(simulations=2, revisit=True, max_failed_share=0.5, solve=False)
    [tree] = search(Deal(), [Root(-1)], None, ValueFunction(lambda *_: 0.0), settings, 0)  # type: ignore[list-item]
    assert tree.counters["failed_leaves"] == failed
    assert ("more than 1000 times in a row" in tree.last_error) == bool(failed)
