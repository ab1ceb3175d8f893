"""Environments that others wrote are searched through the adapters: Gymnasium's, PettingZoo's, OpenSpiel's; each held
to an exact solution of its own, or to our own version of the same game."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from flat_settings import flat_settings
from gymnasium import spaces
from pettingzoo import AECEnv

from branchwise.envs.adapters import GymnasiumSimulator, PettingZooSimulator
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.shells import SimulatorAECEnv
from branchwise.envs.simulator import TERMINAL, Simulator
from branchwise.search.engine import Root, search
from branchwise.search.evaluation import RandomRollout, ValueFunction
from branchwise.search.trees.tree import Tree


def grown(simulator: Simulator[Any], state: Any, evaluator: Any = None, **options: Any) -> Tree:
    settings = flat_settings(**{"simulations": 300, "selection": "uct", "exploration": 1.0, **options})
    [tree] = search(simulator, [Root(state)], None, evaluator or RandomRollout(), settings, np.random.default_rng(0))
    return tree


def after(simulator: Simulator[Any], *actions: str) -> Any:
    state = simulator.reset(0)
    for action in actions:
        state = simulator.step(state, action)
    return state


# ---- Gymnasium --------------------------------------------------------------------------------------------------


def action_values(env: gym.Env[Any, Any], discount: float) -> np.ndarray:
    """Q* of a toy-text environment from its own table of transitions, by value iteration: float64
    ``[states, actions]``."""
    table = env.unwrapped.P  # type: ignore[attr-defined]
    values = np.zeros((len(table), len(table[0])))
    for _ in range(300):
        best = values.max(1)
        for place, actions in table.items():
            for action, outcomes in actions.items():
                values[place, action] = sum(
                    chance * (reward + (0.0 if over else discount * best[to])) for chance, to, reward, over in outcomes
                )
    return values


def frozen_lake() -> gym.Env[Any, Any]:
    return gym.make("FrozenLake-v1", is_slippery=False)


def cliff() -> gym.Env[Any, Any]:
    return gym.make("CliffWalking-v1")


def taxi() -> gym.Env[Any, Any]:
    return gym.make("Taxi-v4")


@pytest.mark.parametrize(
    ("make", "last_steps", "steps"), [(frozen_lake, 4, 12), (cliff, 3, 8), (taxi, 3, 8)], ids=["lake", "cliff", "taxi"]
)
def test_the_last_steps_in_a_toy_world_are_the_best(
    make: Callable[[], gym.Env[Any, Any]], last_steps: int, steps: int
) -> None:
    """Walk an optimal way to the end; from each of the last places on it the search finds an action that its exact
    value calls best."""
    discount = 0.9
    exact = action_values(make(), discount)
    simulator = GymnasiumSimulator(make)
    assert simulator.branching in ("native", "deepcopy", "replay")
    states = [simulator.reset(3)]
    while simulator.current_player(states[-1]) != TERMINAL:
        states.append(simulator.step(states[-1], str(exact[int(states[-1].observation)].argmax())))
    pays = max(abs(exact[int(state.observation)]).max() for state in states[-1 - last_steps : -1])
    for state in states[-1 - last_steps : -1]:
        tree = grown(
            simulator,
            state,
            RandomRollout(discount, max_steps=steps),
            discount=discount,
            exploration=pays,
            backup="max",
            simulations=250,
        )
        values = exact[int(state.observation)]
        assert values[int(tree.best_action("value"))] == pytest.approx(values.max()), (state.observation, values)


# ---- PettingZoo -------------------------------------------------------------------------------------------------


class Nim(AECEnv):  # type: ignore[misc]
    """Take one to three matches by turns; who takes the last wins."""

    metadata = {"name": "nim_v0"}  # noqa: RUF012

    def __init__(self, matches: int = 7) -> None:
        super().__init__()
        self.matches = matches
        self.possible_agents = ["one", "two"]
        self.agents: list[str] = []

    def observation_space(self, agent: str) -> Any:
        return spaces.Dict({"observation": spaces.Discrete(99), "action_mask": spaces.MultiBinary(3)})

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(3)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        self.left = self.matches
        self.agents = list(self.possible_agents)
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos: dict[str, Any] = {agent: {} for agent in self.agents}
        self.agent_selection = "one"

    def observe(self, agent: str) -> Any:
        return {"observation": self.left, "action_mask": np.array([self.left > i for i in range(3)], np.int8)}

    def step(self, action: Any) -> None:
        agent = self.agent_selection
        if self.terminations[agent]:
            self._was_dead_step(action)
            return
        self.left -= int(action) + 1
        other = self.agent_selection = "two" if agent == "one" else "one"
        if not self.left:
            self.rewards = {agent: 1.0, other: -1.0}
            self.terminations = dict.fromkeys(self.agents, True)
        self._accumulate_rewards()


@pytest.mark.parametrize("matches", [3, 5, 6, 7])
def test_a_pettingzoo_environment_is_won(matches: int) -> None:
    """Nim's winning move leaves a multiple of four."""
    simulator = PettingZooSimulator(lambda: Nim(matches), actions=["1", "2", "3"])
    tree = grown(simulator, simulator.reset(0), simulations=600)
    assert tree.best_action("value") == str(matches % 4)
    assert tree.returns(tree.best_child(0, "value"))[0] == pytest.approx(
        -tree.returns(tree.best_child(0, "value"))[1], abs=1e-9
    )


class Unpromised(TicTacToe):
    """Tic-tac-toe that does not say that it is zero-sum, as PettingZoo cannot."""

    zero_sum = False


def test_through_pettingzoo_a_game_has_the_same_tree() -> None:
    own = Unpromised()
    names = own.all_actions()
    through = PettingZooSimulator(lambda: SimulatorAECEnv(Unpromised()), actions=names)
    opening = ("5", "1")
    trees = [
        grown(simulator, after(simulator, *opening), ValueFunction(lambda *_: 0.0), simulations=150)
        for simulator in (own, through)
    ]
    assert trees[0].actions == trees[1].actions
    assert trees[0].nodes["visits"].tolist() == trees[1].nodes["visits"].tolist()
    np.testing.assert_allclose(trees[0].all_returns(), trees[1].all_returns())


# ---- OpenSpiel --------------------------------------------------------------------------------------------------


@pytest.fixture
def spiel() -> Callable[..., Any]:
    pytest.importorskip("pyspiel", reason="OpenSpiel is a test extra")
    from branchwise.envs.adapters import OpenSpielSimulator

    return OpenSpielSimulator


@pytest.mark.parametrize("options", [{}, {"solve": False}, {"backup": "minimax", "selection": "minimax"}])
def test_openspiels_tic_tac_toe_has_the_same_tree_as_ours(spiel: Callable[..., Any], options: dict[str, Any]) -> None:
    """Proofs included; both list the squares row by row."""
    ours, theirs = TicTacToe(), spiel("tic_tac_toe")
    assert theirs.zero_sum
    trees = []
    for simulator in (ours, theirs):
        state = simulator.reset(0)
        for square in (4, 0, 1):  # the centre, the corner, and above the centre: a threat
            state = simulator.step(state, simulator.legal_actions(state)[square])
        trees.append(grown(simulator, state, ValueFunction(lambda *_: 0.0), simulations=400, **options))
    for name in ("visits", "value_sum", "proof", "player", "children", "first_child", "reward"):
        assert trees[0].nodes[name].tolist() == trees[1].nodes[name].tolist(), name


def test_openspiels_connect_four_is_won_in_one(spiel: Callable[..., Any]) -> None:
    simulator = spiel("connect_four")
    state = simulator.reset(0)
    for column in (3, 0, 3, 0, 3, 0):
        state = simulator.step(state, simulator.legal_actions(state)[column])
    tree = grown(simulator, state, simulations=400)
    assert tree.best_action() == simulator.legal_actions(state)[3]
    assert tree.proof(0) == "win"


def pig_values(goal: int) -> Callable[[int, int, int], tuple[float, float]]:
    """How likely the player to move wins Pig at (own score, other's score, turn total) by rolling and by stopping, by
    value iteration."""
    places = [(own, other, total) for own in range(goal) for other in range(goal) for total in range(goal - own)]
    wins = dict.fromkeys(places, 0.5)

    def both(own: int, other: int, total: int) -> tuple[float, float]:
        def rolled(total: int) -> float:
            return 1.0 if own + total >= goal else wins[own, other, total]

        roll = (1.0 - wins[other, own, 0] + sum(rolled(total + pips) for pips in range(2, 7))) / 6
        return roll, 1.0 - wins[other, own + total, 0]

    for _ in range(30):
        for place in places:
            wins[place] = max(both(*place))
    return both


@pytest.mark.parametrize("rolls", [(), (2,), (2, 2), (2, 3), (6,), (6, 3)])
def test_in_openspiels_pig_luck_is_weighed(spiel: Callable[..., Any], rolls: tuple[int, ...]) -> None:
    """Chance: a one loses what the turn has brought so far. Where it is not close, the search does what is right."""
    simulator = spiel("pig", winscore=10, players=2)
    state = simulator.reset(0)
    for pips in rolls:
        state = simulator.step(simulator.step(state, "roll"), f"Roll {pips}")
    roll, stop = pig_values(10)(0, 0, sum(rolls))
    assert abs(roll - stop) > 0.04
    tree = grown(simulator, state, simulations=3000)
    assert tree.best_action() == ("roll" if roll > stop else "stop")
    rolling = next(child for child in tree.children() if tree.actions[child] == "roll")
    assert [tree.prior(child) for child in tree.children(rolling)] == pytest.approx([1 / 6] * 6)


@pytest.mark.parametrize(("card", "answer"), [("2", "Bet"), ("0", "Pass")])
@pytest.mark.parametrize("kind", ["single_observer", "multiple_observer"])
def test_in_openspiels_kuhn_poker_a_bet_is_called_with_the_king_alone(
    spiel: Callable[..., Any], card: str, answer: str, kind: str
) -> None:
    """Hidden information: nothing beats the king, and the jack beats nothing."""
    simulator = spiel("kuhn_poker")
    state = simulator.reset(0)
    for number in (1, int(card)):
        state = simulator.step(state, next(name for name, _ in simulator.chance_outcomes(state) if str(number) in name))
    state = simulator.step(state, "Bet")
    tree = grown(simulator, state, information=kind, exploration=2.0, simulations=300)
    assert tree.best_action() == answer
    assert tree.value(0) == pytest.approx(2.0 if answer == "Bet" else -1.0, abs=0.15)
