"""What a simulator can do, it can do wrapped: every wrapper over every registered environment, asked by what searches,
agents and shells ask for. What a wrapper changes is not handed through."""

import inspect
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from branchwise.agents.searching import RolloutSearcher
from branchwise.envs.abilities import ActionTable, array_of, hides, success_of
from branchwise.envs.games.kernels import CompiledRules
from branchwise.envs.games.kuhn_poker import KuhnPoker
from branchwise.envs.games.leduc_poker import LeducPoker
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.grpo import GRPOEnvironment
from branchwise.envs.opponents import draw_outcome
from branchwise.envs.play.transcript import observed
from branchwise.envs.registry import environments, opponent_for, simulator_for
from branchwise.envs.simulator import CHANCE, TERMINAL, Simulator
from branchwise.envs.views import SinglePlayerView, without_view
from branchwise.envs.wrappers import ListedActions, SuccessOutcome, Wrapper
from branchwise.search import compiled
from branchwise.search.engine import Root, SearchSettings, search
from branchwise.search.evaluation import RandomRollout
from branchwise.search.trees.tree import Tree

SMALL = {"branchwise/WebShop-v0": {"products": 40}}
IDS = [row.id for row in environments()]
GAMES = [row.id for row in environments() if row.players > 1]
OFFERED = (
    "all_actions",
    "action_count",
    "action_indices",
    "array",
    "array_range",
    "max_actions",
    "numbered_actions",
    "success",
    "suggested_actions",
    "svg",
)
"""What ``envs.abilities`` lists."""


def whole(env_id: str) -> Simulator[Any]:
    return simulator_for(env_id, **SMALL.get(env_id, {}))


def viewed(env_id: str) -> Simulator[Any]:
    """For one player, who is alone there or has random opponents."""
    game = whole(env_id)
    return game if env_id not in GAMES else SinglePlayerView(game)


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "as it is": Wrapper,
    "listed": ListedActions,
    "success": SuccessOutcome,
    "success of listed": lambda simulator: SuccessOutcome(ListedActions(simulator)),
    "listed of success": lambda simulator: ListedActions(SuccessOutcome(simulator)),
}


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapped_simulator_offers_what_it_offered_bare(env_id: str, wrapper: str) -> None:
    bare = viewed(env_id)
    for simulator in (WRAPPERS[wrapper](bare), pickle.loads(pickle.dumps(WRAPPERS[wrapper](bare)))):
        state = simulator.reset(1)
        assert state == bare.reset(1)
        assert hides(simulator) == hides(bare)
        assert (simulator.players, simulator.zero_sum) == (bare.players, bare.zero_sum)
        assert {name for name in OFFERED if hasattr(simulator, name)} == {
            name for name in OFFERED if hasattr(bare, name)
        }
        assert np.array_equal(array_of(simulator, state, 0), array_of(bare, state, 0))
        assert success_of(simulator, state, 0) == success_of(bare, state, 0)
        assert simulator.position(state) == bare.position(state)
        assert simulator.information_state(state, 0) == bare.information_state(state, 0)
        assert ActionTable(simulator).n == ActionTable(bare).n
        drawn = [one.resample(state, 0, np.random.default_rng(3)) for one in (simulator, bare)]
        assert drawn[0] == drawn[1]
        game, inner = without_view(simulator, state)
        if env_id in GAMES:
            assert (type(game), inner) == (type(whole(env_id)), state.inner)
        else:
            assert (game, inner) == (simulator, state)


@pytest.mark.parametrize("env_id", GAMES)
def test_a_listed_game_keeps_its_players_and_whether_it_hides_something(env_id: str) -> None:
    bare = whole(env_id)
    listed: Any = ListedActions(bare)
    public = getattr(bare, "complete_information", False)
    assert hides(listed) == hides(bare) == (type(bare).resample is not Simulator.resample and not public)
    assert (listed.players, listed.zero_sum) == (bare.players, bare.zero_sum)
    assert getattr(listed, "rules", None) is getattr(bare, "rules", None)


@pytest.mark.parametrize("env_id", GAMES)
def test_a_view_hides_the_luck_and_the_others_moves(env_id: str) -> None:
    view = viewed(env_id)
    assert hides(view)
    state = view.reset(0)
    assert view.resample(state, 0, np.random.default_rng(0)).seed != state.seed


@pytest.mark.parametrize("env_id", [env_id for env_id in GAMES if hides(whole(env_id))])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_hidden_information_is_searched_through_every_wrapper(env_id: str, wrapper: str) -> None:
    simulator = WRAPPERS[wrapper](viewed(env_id))
    listed: Any = simulator if "listed" in wrapper else ListedActions(simulator)
    state = listed.reset(0)
    settings = SearchSettings(simulations=6, information="single_observer", solve=False)
    [tree] = search(listed, [Root(state)], None, RandomRollout(max_steps=200), settings)
    assert tree.visits(0) == 6
    if "success" in wrapper:
        assert 0.0 <= tree.value(0) <= 1.0


def test_without_anything_hidden_a_search_of_hidden_information_is_refused_wrapped_or_not() -> None:
    game: Any = TicTacToe()
    settings = SearchSettings(simulations=6, information="single_observer", solve=False)
    for simulator in (game, ListedActions(game)):
        assert not hides(simulator)
        with pytest.raises(ValueError, match="has no resample"):
            search(simulator, [Root(game.reset(0))], None, RandomRollout(), settings)


class Quiet(Wrapper):
    """One's own wrapper, on our base: it changes what is read, and nothing else."""

    def observation(self, state: Any, player: int = 0) -> str:
        return f"A quiet room. {self.simulator.observation(state, player)}"


class Delegating:
    """One's own wrapper, of no class of ours."""

    def __init__(self, simulator: Simulator[Any]) -> None:
        self.inner = simulator

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


POKER = {"kuhn": (KuhnPoker, "Q", "J"), "leduc": (LeducPoker, "Qs", "Kh")}
"""A game, and the cards of the two players."""


@pytest.mark.parametrize("information", ["single_observer", "multiple_observer"])
@pytest.mark.parametrize("wrapper", [ListedActions, Quiet, Delegating, lambda game: Quiet(ListedActions(game))])
@pytest.mark.parametrize("game", POKER)
def test_information_sets_of_a_wrapped_game_are_searched_as_those_of_the_bare_one(
    game: str, wrapper: Callable[[Any], Any], information: Any
) -> None:
    def grown(simulator: Any) -> Tree:
        state = simulator.step(simulator.step(simulator.reset(0), first), second)
        [tree] = search(simulator, [Root(state)], None, RandomRollout(), settings, rng=4)
        return tree

    made, first, second = POKER[game]
    settings = SearchSettings(simulations=200, information=information, solve=False)
    bare, wrapped = grown(made()), grown(wrapper(made()))
    assert bare.visits(0) == 200
    assert (wrapped.nodes.tobytes(), wrapped.actions) == (bare.nodes.tobytes(), bare.actions)


class Written(Simulator[str]):
    """Says nothing of what it hides."""

    def resample(self, state: str, player: int, rng: np.random.Generator) -> str:
        return state


class Draws:
    def resample(self, state: str, player: int, rng: np.random.Generator) -> str:
        return state


@pytest.mark.parametrize(
    ("bases", "declared", "expected"),
    [
        ((Simulator,), {}, False),
        ((Written,), {}, True),
        ((Draws, Simulator), {}, True),
        ((Written,), {"hides": False}, False),
        ((Simulator,), {"hides": True}, True),
    ],
    ids=["without a resample", "with one", "with one from beside", "with one, declared", "declared"],
)
def test_a_class_that_can_draw_anew_and_declares_nothing_hides_something(
    bases: tuple[type, ...], declared: dict[str, bool], expected: bool
) -> None:
    made = type("Made", bases, declared)
    assert made.hides is type("Child", (made,), {}).hides is expected  # type: ignore[attr-defined]


def test_a_wrapper_passes_on_every_method_of_the_protocol() -> None:
    methods = {name for name, value in vars(Simulator).items() if inspect.isfunction(value) and name[0] != "_"}
    assert methods <= vars(Wrapper).keys()
    assert {"players", "zero_sum", "hides"} == set(Simulator.__annotations__) <= vars(Wrapper(TicTacToe())).keys()


def test_a_wrapper_of_ones_own_is_not_searched_by_the_compiled_rules_inside() -> None:
    assert Quiet(TicTacToe()).rules is None
    assert ListedActions(TicTacToe()).rules is TicTacToe.rules


class Duck:
    """Not of our class: what it has is what it says."""

    players = 1


def test_a_simulator_of_another_class_hides_what_it_can_draw_anew() -> None:
    assert not hides(Duck())  # type: ignore[arg-type]
    duck: Any = Duck()
    duck.resample = lambda state, player, rng: state
    assert hides(duck)
    assert Wrapper(duck).hides
    duck.hides = False
    assert not hides(duck)


class OneStep(Simulator[str]):
    """Pays 5 for a success; ``rules`` would pay it too."""

    rules = CompiledRules.__new__(CompiledRules)

    def reset(self, seed: int, options: Any = None) -> str:
        return ""

    def current_player(self, state: str) -> int:
        return TERMINAL if state else 0

    def observation(self, state: str, player: int = 0) -> str:
        return state

    def legal_actions(self, state: str) -> Sequence[str]:
        return () if state else ("good", "bad")

    def step(self, state: str, action: str) -> str:
        return action

    def rewards(self, state: str) -> tuple[float, ...]:
        return (5.0 if state == "good" else 3.0 if state else 0.0,)

    def info(self, state: str) -> dict[str, Any]:
        return {"success": state == "good", "invalid_action": False}


def test_compiled_rules_that_pay_another_reward_are_not_handed_through() -> None:
    outcome: Any = SuccessOutcome(OneStep())
    assert "no compiled rules" in compiled.why_not_compiled(outcome, None, None, SearchSettings())
    [tree] = compiled.search(outcome, [Root("")], None, None, SearchSettings(simulations=3))
    assert tree.value(1) == 1.0


def test_search_by_rollouts_reads_no_future_through_a_wrapper() -> None:
    """It searches the game behind the view, whatever the view is wrapped in."""
    view = viewed("branchwise/KuhnPoker-v0")
    state, transcript = view.reset(4), (observed("your turn"),)
    decisions = [
        RolloutSearcher(20).act(simulator, [state], [transcript], [np.random.default_rng(0)])[0].action
        for simulator in (view, SuccessOutcome(view), ListedActions(view))
    ]
    assert len(set(decisions)) == 1


NAMED = [(row.id, name) for row in environments() if row.players > 1 for name in dict(row.opponents)]


@pytest.mark.parametrize(("env_id", "name"), NAMED)
def test_every_named_opponent_plays_the_same_in_a_listed_game(env_id: str, name: str) -> None:
    game, opponent = whole(env_id), opponent_for(env_id, name)
    state, rng = game.reset(3), np.random.default_rng(0)
    while game.current_player(state) == CHANCE:
        state = game.step(state, draw_outcome(game, state, rng))
    try:
        bare = opponent(game, state, np.random.default_rng(1))
    except TypeError:  # it says that it plays another game
        pytest.skip(f"{name} does not play {env_id} as it is by default")
    assert opponent(ListedActions(game), state, np.random.default_rng(1)) == bare


@pytest.mark.parametrize("env_id", IDS)
def test_an_environment_for_grpo_plays_what_is_wrapped(env_id: str) -> None:
    bare = GRPOEnvironment(viewed(env_id))
    wrapped = GRPOEnvironment(SuccessOutcome(viewed(env_id)))
    assert wrapped.reset(seed=2) == bare.reset(seed=2)
