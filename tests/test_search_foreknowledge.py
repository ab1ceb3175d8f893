"""What luck will bring: a search over an environment that replays its luck knows it, says so, and can do without."""

import inspect
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from flat_settings import flat_settings

from branchwise.envs.adapters import GymnasiumSimulator, PettingZooSimulator
from branchwise.envs.games.kuhn_poker import KuhnPoker
from branchwise.envs.simulator import TERMINAL
from branchwise.envs.views import SinglePlayerView
from branchwise.search.engine import Root, SearchSettings, search
from branchwise.search.evaluation import ValueFunction
from branchwise.search.store import load_trees, save_trees
from branchwise.search.trees.tree import Tree

STEPS = 100
HONEST: dict[str, Any] = {"information": "single_observer", "solve": False}


def optimum(table: Any, steps: int) -> np.ndarray:
    """The chance of reaching the goal of a slippery lake in so many steps, by value iteration: [steps + 1, squares]."""
    values = np.zeros((steps + 1, len(table)))
    for left in range(1, steps + 1):
        for square, actions in table.items():
            values[left, square] = max(
                sum(share * (pay + (0.0 if over else values[left - 1, to])) for share, to, pay, over in ways)
                for ways in actions.values()
            )
    return values


@pytest.fixture(scope="module")
def lake() -> GymnasiumSimulator:
    return GymnasiumSimulator("FrozenLake-v1", max_steps=STEPS)


@pytest.fixture(scope="module")
def best(lake: GymnasiumSimulator) -> np.ndarray:
    values = optimum(lake._env.unwrapped.P, STEPS)  # type: ignore[attr-defined]
    assert values[STEPS, 0] == pytest.approx(0.744, abs=1e-3)
    return values


def searched(lake: GymnasiumSimulator, best: np.ndarray, seed: int, root: Any = None, **options: Any) -> Tree:
    """A search whose leaves are worth exactly what best play gets from there on."""

    def value(simulator: Any, state: Any, transcript: Any) -> float:
        return float(best[STEPS - sum(isinstance(entry, str) for entry in state.log), int(state.observation)])

    settings = flat_settings(**{"simulations": 400, "selection": "uct", "exploration": 0.5, **options})
    roots = [Root(root or lake.reset(seed), (), {"seed": seed})]
    [tree] = search(lake, roots, None, ValueFunction(value), settings, [np.random.default_rng(seed)])
    return tree


def test_a_search_with_foreknowledge_expects_more_than_the_best_and_warns(
    lake: GymnasiumSimulator, best: np.ndarray
) -> None:
    with pytest.warns(UserWarning, match="knows what luck will bring.*single_observer") as warned:
        trees = [searched(lake, best, seed, backup="bellman_max") for seed in range(4)]
    assert np.mean([tree.value(0) for tree in trees]) > best[STEPS, 0] + 0.1
    lines, first = inspect.getsourcelines(searched)
    assert {warning.filename for warning in warned} == {__file__}
    assert all(first <= warning.lineno < first + len(lines) for warning in warned)  # at the call of search


def test_a_search_without_foreknowledge_stays_below_the_best(lake: GymnasiumSimulator, best: np.ndarray) -> None:
    """Each of its simulations follows a policy that knows what was seen and no more, so their mean is at most the
    optimum, to within the noise of 8 × 400 draws, whose standard error is below 0.5 / √3200."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = [searched(lake, best, seed, **HONEST).value(0) for seed in range(8)]
    assert best[STEPS, 0] - 0.25 < np.mean(values) < best[STEPS, 0] + 3 * 0.5 / np.sqrt(3200)


def test_episodes_planned_with_foreknowledge_reach_the_goal_as_nobody_could(
    lake: GymnasiumSimulator, best: np.ndarray
) -> None:
    """Four of four in 25 steps, where the best play has a chance of 0.28 each; what the warning warns of."""
    assert optimum(lake._env.unwrapped.P, 25)[25, 0] < 0.3  # type: ignore[attr-defined]
    for seed in range(4):
        state = lake.reset(seed)
        while lake.current_player(state) != TERMINAL and len(state.log) < 25:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = searched(lake, best, seed, root=state, simulations=60, backup="bellman_max")
            state = lake.step(state, tree.best_action())
        assert lake.rewards(state) == (1.0,)


def test_luck_drawn_anew_leaves_the_past_alone(lake: GymnasiumSimulator) -> None:
    rng = np.random.default_rng(0)
    state = next(
        state
        for seed in range(20)
        if (state := lake.step(lake.step(lake.reset(seed), "2"), "2")).observation in ("1", "2")
    )
    drawn = [lake.resample(state, 0, rng) for _ in range(40)]
    assert {lake.information_state(other, 0) for other in drawn} == {lake.information_state(state, 0)}
    assert {other.observation for other in drawn} == {state.observation}
    assert len({lake.step(other, "2").observation for other in drawn}) == 3  # right, or slipping up or down
    fresh = GymnasiumSimulator("FrozenLake-v1", max_steps=STEPS)
    assert [fresh.step(s, "2").observation for s in drawn] == [lake.step(s, "2").observation for s in drawn]
    assert len(lake.resample(drawn[0], 0, rng).log) == len(drawn[0].log)


def test_what_a_player_knows_is_what_was_done_and_seen(lake: GymnasiumSimulator) -> None:
    state = lake.step(lake.step(lake.reset(0), "2"), "1")
    first, second = state.seen
    assert lake.information_state(state, 0) == f"{first}\n> 2\n{second}\n> 1\n{state.observation}"


def test_luck_counts_against_no_budget() -> None:
    short = GymnasiumSimulator("FrozenLake-v1", max_steps=3)
    rng, state = np.random.default_rng(0), short.reset(0)
    for _ in range(3):
        assert not short.truncated(state)
        state = short.step(short.resample(state, 0, rng), "0")
    assert short.truncated(state)


class Walk(gym.Env[int, int]):
    """A walk to the right whose luck, if there is any, comes from a generator of its own or from Gymnasium's."""

    observation_space = gym.spaces.Discrete(40)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, luck: str) -> None:
        self.luck = luck

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.own, self.at, self.steps = np.random.default_rng(seed), 0, 0
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        draws = {"none": 0.0, "own": self.own.random(), "gymnasium": self.np_random.random()}
        self.at += action if draws[self.luck] < 0.5 else 0
        self.steps += 1
        return self.at, 0.0, self.steps >= 30, False, {}


@pytest.mark.parametrize(("luck", "foreknown"), [("none", False), ("own", True), ("gymnasium", True)])
def test_luck_is_found_when_the_simulator_is_made(luck: str, foreknown: bool) -> None:
    simulator = GymnasiumSimulator(lambda: Walk(luck))
    assert simulator.foreknowledge == foreknown
    state = simulator.reset(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error" if not foreknown else "ignore")
        zero = ValueFunction(lambda *_: 0.0)
        search(simulator, [Root(state)], None, zero, SearchSettings(simulations=4))
    if luck == "none":
        assert simulator.resample(state, 0, np.random.default_rng(0)) == state
    if luck == "own":
        with pytest.raises(ValueError, match=r"np_random"):
            simulator.resample(state, 0, np.random.default_rng(0))
        with pytest.raises(ValueError, match=r"no resample that draws anything anew"):
            search(simulator, [Root(state)], None, zero, flat_settings(simulations=40, **HONEST))


def test_episodes_without_luck_have_no_foreknowledge() -> None:
    calm = GymnasiumSimulator(lambda: gym.make("FrozenLake-v1", is_slippery=False))
    assert not calm.foreknowledge
    assert not GymnasiumSimulator("CartPole-v1").foreknowledge


def test_a_players_view_of_a_game_has_it_too() -> None:
    view = SinglePlayerView(KuhnPoker())
    zero = ValueFunction(lambda *_: 0.0)
    with pytest.warns(UserWarning, match="SinglePlayerView repeats its luck"):
        search(view, [Root(view.reset(0))], None, zero, SearchSettings(simulations=4))


def test_a_table_of_several_says_whether_it_has_luck() -> None:
    pytest.importorskip("pettingzoo")
    tic_tac_toe = pytest.importorskip("pettingzoo.classic.tictactoe_v3")
    assert not PettingZooSimulator(lambda: tic_tac_toe.env()).foreknowledge


def test_a_tree_without_foreknowledge_is_saved(lake: GymnasiumSimulator, best: np.ndarray, tmp_path: Any) -> None:
    tree = searched(lake, best, 0, **HONEST)
    save_trees(tmp_path / "lake.parquet", [tree])
    [loaded] = load_trees(tmp_path / "lake.parquet", lake)
    assert loaded.nodes.tobytes() == tree.nodes.tobytes()
    assert loaded.states[0] == tree.states[0]
