"""PettingZoo environments as simulators: faithful to the environment, and refused where they cannot be repeated."""

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils import parallel_to_aec

from branchwise import simulator_for
from branchwise.envs.adapters import CannotBranch, PettingZooSimulator
from branchwise.envs.shells import SimulatorAECEnv
from branchwise.envs.simulator import TERMINAL
from branchwise.testing import check_simulator

GAME = "branchwise/LiarsDice-v0"


class Race(AECEnv):  # type: ignore[misc]
    """Three runners throw a die by turns; the slow one drops out after two turns, the others after three; who is ahead
    then has won. ``leak`` says what is done wrongly."""

    metadata = {"name": "race_v0"}  # noqa: RUF012

    def __init__(self, leak: str = "") -> None:
        super().__init__()
        self.leak = leak
        self.possible_agents = ["fast_0", "fast_1", "slow_2"]
        self.agents: list[str] = []

    def observation_space(self, agent: str) -> Any:
        return spaces.Dict({"observation": spaces.Box(0, 99, (3,), np.int64), "action_mask": spaces.MultiBinary(2)})

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(2)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        self.rng = np.random.default_rng(None if self.leak == "clock" else seed)
        self.agents = list(self.possible_agents)
        self.at = dict.fromkeys(self.agents, 0)
        self.turns = dict.fromkeys(self.agents, 0)
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos: dict[str, Any] = {agent: {} for agent in self.agents}
        self.agent_selection = self.agents[0]

    def observe(self, agent: str) -> Any:
        tired = self.turns[agent] == 1
        return {
            "observation": np.array(list(self.at.values())),
            "action_mask": np.array([1, 0 if tired else 1], np.int8),
        }

    def step(self, action: Any) -> None:
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        self._cumulative_rewards[agent] = 0.0
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self.at[agent] += int(self.rng.integers(1, 7)) * (1 + action)
        self.turns[agent] += 1
        following = self.agents[(self.agents.index(agent) + 1) % len(self.agents)]
        if agent == "slow_2" and self.turns[agent] == 2:
            self.terminations[agent] = True
        if agent == "fast_1" and self.turns[agent] == 3:
            best = max(self.at["fast_0"], self.at["fast_1"])
            self.rewards = {name: 1.0 if self.at[name] == best else -1.0 for name in self.agents}
            self.terminations = dict.fromkeys(self.agents, True)
        self._accumulate_rewards()
        self.agent_selection = following
        self._deads_step_first()

    def close(self) -> None:
        pass

    def __deepcopy__(self, memo: Any) -> "Race":
        if self.leak != "copy":
            made = Race(self.leak)
            made.__dict__.update({k: v.copy() if isinstance(v, dict | list) else v for k, v in self.__dict__.items()})
            made.rng = np.random.default_rng()
            made.rng.bit_generator.state = self.rng.bit_generator.state
            return made
        return Race(self.leak)


class LeakyRace(Race):
    def __init__(self) -> None:
        super().__init__("copy")


class PaysLate(Race):
    """Pays at the end of the race as ``Race`` does, but into what ``last()`` reads alone."""

    def step(self, action: Any) -> None:
        super().step(action)
        self.rewards = dict.fromkeys(self.agents, 0.0)


class LeavesRewards(Race):
    """Pays one point for each turn to who took it, into what ``last()`` reads, and never clears ``rewards``."""

    def _accumulate_rewards(self) -> None:
        self.rewards = dict.fromkeys(self.agents, 1.0)
        self._cumulative_rewards[self.agent_selection] += 1.0


def last_s_returns(env: Any) -> tuple[float, ...]:
    """The returns of an episode in which everybody takes action 0, as ``last()`` pays them."""
    env.reset(seed=0)
    returns = dict.fromkeys(env.possible_agents, 0.0)
    for agent in env.agent_iter():
        _, reward, terminated, truncated, _ = env.last()
        returns[agent] += reward
        env.step(None if terminated or truncated else 0)
    return tuple(returns.values())


@pytest.mark.parametrize(
    ("make", "returns"),
    [(Race, {1.0, -1.0, 0.0}), (PaysLate, {1.0, -1.0, 0.0}), (LeavesRewards, {3.0, 2.0})],
)
def test_returns_are_those_that_last_pays(make: Any, returns: set[float]) -> None:
    simulator = PettingZooSimulator(make)
    state = simulator.reset(0)
    earned = np.zeros(3)
    while simulator.current_player(state) != TERMINAL:
        state = simulator.step(state, "0")
        earned += simulator.rewards(state)
    assert simulator.info(state)["returns"] == tuple(earned.tolist()) == last_s_returns(make())
    assert set(earned.tolist()) == returns


class Rounds(ParallelEnv):  # type: ignore[misc]
    """Three rounds, each of which pays player a one point and costs player b one."""

    metadata = {"name": "rounds_v0"}  # noqa: RUF012
    possible_agents = ["a", "b"]  # noqa: RUF012
    render_mode = None

    def observation_space(self, agent: str) -> Any:
        return spaces.Discrete(4)

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(2)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.agents, self.round = ["a", "b"], 0
        return {"a": 0, "b": 0}, {"a": {}, "b": {}}

    def step(self, actions: dict[str, Any]) -> Any:
        self.round += 1
        over = self.round == 3
        self.agents = [] if over else self.agents
        seen, ends, cuts = ({"a": value, "b": value} for value in (self.round, over, False))
        return seen, {"a": 1.0, "b": -1.0}, ends, cuts, {"a": {}, "b": {}}


def test_each_round_of_a_parallel_environment_is_paid_when_it_ends() -> None:
    simulator = PettingZooSimulator(lambda: parallel_to_aec(Rounds()))
    state = simulator.reset(0)
    earned = []
    while simulator.current_player(state) != TERMINAL:
        state = simulator.step(state, "0")
        earned.append(simulator.rewards(state))
    assert earned == [(0.0, 0.0), (1.0, -1.0)] * 3


def test_the_fastest_way_that_holds_is_taken() -> None:
    assert PettingZooSimulator(Race).branching == "deepcopy"
    adapted = PettingZooSimulator(LeakyRace)
    assert adapted.branching == "replay"
    assert "reset" in adapted.tried["deepcopy"] or "raised" in adapted.tried["deepcopy"]


def test_what_no_seed_repeats_is_refused() -> None:
    with pytest.raises(CannotBranch, match="replay"):
        PettingZooSimulator(lambda: Race("clock"))


def test_what_was_refused_is_told_to_its_writer_alone() -> None:
    race = PettingZooSimulator(Race, ["walk", "run"])
    state = race.step(race.step(race.reset(0), "walk"), "my secret")
    assert race.current_player(state) == 1
    assert "my secret" in race.observation(state, 1)
    assert all("my secret" not in race.observation(state, other) for other in (0, 2))


@pytest.mark.parametrize("environment", [Race, LeakyRace])
def test_it_keeps_every_promise_of_a_simulator(environment: Any) -> None:
    check_simulator(PettingZooSimulator(environment, ["walk", "run"]), fresh_process=False, seeds=range(2))


def test_agents_who_are_done_are_passed_over_and_masks_are_legal_actions() -> None:
    race = PettingZooSimulator(Race, ["walk", "run"])
    state = race.reset(3)
    players, rewards = [], []
    while (player := race.current_player(state)) != TERMINAL:
        players.append(player)
        turn = players.count(player)
        assert race.legal_actions(state) == (("walk",) if turn == 2 else ("walk", "run"))
        state = race.step(state, race.legal_actions(state)[-1])
        rewards.append(race.rewards(state))
    assert players == [0, 1, 2, 0, 1, 2, 0, 1]
    assert rewards[:-1] == [(0.0, 0.0, 0.0)] * 7
    assert sorted(rewards[-1]) in ([-1.0, 0.0, 1.0], [0.0, 1.0, 1.0])
    assert race.info(state)["success"] == (rewards[-1][0] > 0)
    assert race.legal_actions(state) == ()


def test_an_illegal_action_is_answered_and_costs_budget() -> None:
    race = PettingZooSimulator(Race, ["walk", "run"], max_steps=2)
    state = race.step(race.reset(0), "fly")
    assert race.current_player(state) == 0
    assert race.info(state)["invalid_action"]
    assert "'fly'" in race.observation(state, 0)
    assert race.truncated(race.step(state, "fly"))


@pytest.mark.parametrize("text", [True, False])
def test_there_and_back_is_the_same_game(text: bool) -> None:
    """A game of ours as a PettingZoo environment as a simulator: what is said and paid is what the game says and
    pays."""
    rules = simulator_for(GAME)

    def make() -> SimulatorAECEnv:
        return SimulatorAECEnv(rules, text=text)

    names = None if text else list(rules.all_actions())  # type: ignore[attr-defined]
    again = PettingZooSimulator(make, names)
    rng = np.random.default_rng(0)
    for seed in range(5):
        env = make()
        env.reset(seed=seed)
        state = again.reset(seed)
        while (player := again.current_player(state)) != TERMINAL:
            assert env.agent_selection == f"player_{player}"
            if text:
                assert again.observation(state, player) == env.observe(env.agent_selection)
            legal = rules.legal_actions(env.state_now)
            assert legal is not None
            assert text or sorted(again.legal_actions(state) or ()) == sorted(legal)
            action = str(rng.choice(legal))
            env.step(action)
            state = again.step(state, action)
            assert again.rewards(state) == tuple(rules.rewards(env.state_now))


def test_what_it_cannot_read_is_named() -> None:
    class Continuous(Race):
        def action_space(self, agent: str) -> Any:
            return spaces.Box(0, 1, (2,))

    with pytest.raises(ValueError, match="Discrete"):
        PettingZooSimulator(Continuous)


def test_pettingzoo_s_connect_four() -> None:
    pytest.importorskip("pygame", reason="PettingZoo's classic games need pygame")
    from pettingzoo.classic import connect_four_v3

    adapted = PettingZooSimulator(connect_four_v3.env)
    check_simulator(adapted, fresh_process=False, seeds=[0])
    state = adapted.reset(0)
    for move in "0101010":
        assert adapted.legal_actions(state) == tuple("0123456")
        state = adapted.step(state, move)
    assert adapted.rewards(state) == (1.0, -1.0)
    assert adapted.current_player(state) == TERMINAL
