"""Gymnasium environments as simulators: which ways of branching hold, and that lies about them are found out."""

import copy
import itertools
import pickle
import random
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils import EzPickle

from branchwise.envs import TERMINAL, SimulatorEnv
from branchwise.envs.adapters import CannotBranch, GymnasiumSimulator, describe
from branchwise.testing import check_simulator, check_snapshot


class Walk(gym.Env[int, int]):
    """A noisy walk on the integers; the base of the environments that lie."""

    observation_space = spaces.Discrete(1_000)
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.place = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = 500
        return self.place, {}

    def luck(self) -> int:
        return int(self.np_random.integers(3))

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.place += (1 if action else -1) * (1 + self.luck())
        return self.place, float(self.place), False, False, {"is_success": self.place > 510}


class RebuiltWalk(Walk, EzPickle):
    """Its deep copy is rebuilt from constructor arguments, as in many of Farama's environments."""

    def __init__(self) -> None:
        Walk.__init__(self)
        EzPickle.__init__(self)


class SharingWalk(Walk):
    """Its deep copies share the list that holds the place."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[int] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        self.places[:] = [500]
        return super().reset(seed=seed)

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.places.append(action)
        self.place = self.places[-2] if len(self.places) % 2 else len(self.places)
        return self.place, 0.0, False, False, {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "SharingWalk":
        copied = SharingWalk()
        copied.place, copied.places = self.place, self.places
        copied._np_random = copy.deepcopy(self._np_random)
        return copied


class LuckyWalk(Walk):
    """Its luck comes from a generator that no seed reaches."""

    def luck(self) -> int:
        return random.SystemRandom().randrange(1_000)


class LeakyWalk(Walk):
    """What happened in one episode shows in the next."""

    def __init__(self) -> None:
        super().__init__()
        self.steps_ever = 0

    def luck(self) -> int:
        self.steps_ever += 1
        return self.steps_ever


class SnapshotWalk(RebuiltWalk):
    """With snapshots of its own, that hold."""

    def snapshot(self) -> tuple[int, dict[str, Any]]:
        return self.place, self.np_random.bit_generator.state

    def restore(self, snapshot: tuple[int, dict[str, Any]]) -> None:
        self.place, self.np_random.bit_generator.state = snapshot


class CloningWalk(RebuiltWalk):
    """With ALE's methods: the random generator is left out unless asked for."""

    def clone_state(self, *, include_rng: bool = False) -> Any:
        return self.place, copy.deepcopy(self.np_random.bit_generator.state) if include_rng else None

    def restore_state(self, state: Any) -> None:
        self.place = state[0]
        if state[1] is not None:
            self.np_random.bit_generator.state = state[1]


class ForgetfulWalk(SnapshotWalk):
    """Its own snapshot forgets the generator."""

    def snapshot(self) -> Any:
        return self.place

    def restore(self, snapshot: Any) -> None:
        self.place = snapshot


class MaskedWalk(Walk):
    """Only steps upwards are legal at even places."""

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        observation, reward, _, _, _ = super().step(action)
        mask = np.array([self.place % 2, 1], dtype=np.int8)
        return observation, reward, False, False, {"action_mask": mask}


class Dials(gym.Env[dict[str, Any], Any]):
    """A continuous action space and a structured observation."""

    observation_space = spaces.Dict({"dial": spaces.Box(-9, 9, (2,), np.float32), "on": spaces.Discrete(2)})
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.dial = self.np_random.random(2).astype(np.float32)
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.dial = (self.dial + action).clip(-9, 9).astype(np.float32)
        return self._seen(), float(self.dial[0]), bool(self.dial[0] > 3), False, {}

    def _seen(self) -> dict[str, Any]:
        return {"dial": self.dial.copy(), "on": int(self.dial[1] > 0)}


def walked(simulator: GymnasiumSimulator, seed: int, actions: str) -> list[Any]:
    """What a fresh environment says to the actions, one character each."""
    env = simulator._make()
    env.reset(seed=seed)
    return [env.step(int(action))[0] for action in actions]


@pytest.mark.parametrize("env_id", ["CartPole-v1", "FrozenLake-v1", "Blackjack-v1"])
def test_toy_texts_and_classic_control_branch_by_verified_copies(env_id: str) -> None:
    simulator = GymnasiumSimulator(env_id)
    assert simulator.branching == "deepcopy"
    assert simulator.tried["deepcopy"] == simulator.tried["replay"] == "holds"
    check_simulator(simulator)
    check_snapshot(SimulatorEnv(simulator))


@pytest.mark.parametrize(
    ("make", "branching"),
    [
        (Walk, "deepcopy"),
        (RebuiltWalk, "replay"),
        (SharingWalk, "replay"),
        (SnapshotWalk, "native"),
        (CloningWalk, "native"),
        (ForgetfulWalk, "replay"),
        (MaskedWalk, "deepcopy"),
    ],
)
def test_the_fastest_way_that_holds_is_taken(make: Any, branching: str) -> None:
    simulator = GymnasiumSimulator(make, max_steps=30)
    assert simulator.branching == branching, simulator.tried
    check_simulator(simulator, fresh_process=False)
    check_snapshot(SimulatorEnv(simulator))


@pytest.mark.parametrize("way", ["native", "deepcopy", "replay"])
@pytest.mark.parametrize("worth_a_copy", [0, 3])
def test_a_tree_says_what_episodes_say(way: Any, worth_a_copy: int) -> None:
    """All 64 sequences of six actions, breadth first, with a cache far too small for them, each against an episode."""
    simulator = GymnasiumSimulator({"native": SnapshotWalk, "deepcopy": Walk, "replay": RebuiltWalk}[way], cache_size=5)
    assert simulator.branching == way
    simulator._worth_a_copy = worth_a_copy
    level = [("", simulator.reset(11))]
    for _ in range(6):
        level = [(path + a, simulator.step(state, a)) for path, state in level for a in "01"]
    assert len(level) == 64
    assert len(simulator._cache) <= 5
    for path, state in level:
        assert state.observation == str(walked(simulator, 11, path)[-1])


def test_randomness_that_no_seed_reaches_is_refused_with_the_reasons() -> None:
    with pytest.raises(CannotBranch) as refusal:
        GymnasiumSimulator(LuckyWalk)
    message = str(refusal.value)
    assert "native: the environment has neither snapshot/restore" in message
    assert "deepcopy: seed 0, after 0 steps: the original, after its snapshot moved, goes on differently" in message
    assert "replay: seed 0, after 0 steps: a second replay with the same seed and actions: the observation" in message
    assert "np_random" in message


def test_episodes_that_leak_into_the_next_are_refused() -> None:
    with pytest.raises(CannotBranch, match="replay: seed 0"):
        GymnasiumSimulator(LeakyWalk)


def test_a_native_snapshot_under_a_counting_wrapper_is_not_trusted() -> None:
    simulator = GymnasiumSimulator(lambda: gym.wrappers.TimeLimit(SnapshotWalk(), 20))
    assert simulator.branching == "replay"
    assert "TimeLimit may hold state" in simulator.tried["native"]


def test_states_are_values() -> None:
    simulator = GymnasiumSimulator("FrozenLake-v1")
    start = simulator.reset(1)
    one, other = simulator.step(start, "2"), simulator.step(simulator.reset(1), "2")
    assert one == other
    assert hash(one) == hash(other)
    assert one != simulator.step(start, "1")
    assert pickle.loads(pickle.dumps(one)) == one
    assert simulator.position(one) == simulator.position(other)


def test_a_pickled_simulator_steps_states_that_it_never_saw() -> None:
    simulator = GymnasiumSimulator("CartPole-v1")
    state = simulator.reset(5)
    for action in "0110":
        state = simulator.step(state, action)
    elsewhere = pickle.loads(pickle.dumps(simulator))
    assert elsewhere.step(state, "1").observation == simulator.step(state, "1").observation


def test_names_stand_for_actions_in_their_order() -> None:
    simulator = GymnasiumSimulator("FrozenLake-v1", actions=["left", "down", "right", "up"])
    state = simulator.reset(0)
    assert simulator.legal_actions(state) == ("left", "down", "right", "up")
    numbers = GymnasiumSimulator("FrozenLake-v1")
    assert simulator.step(state, " right ").observation == numbers.step(numbers.reset(0), "2").observation


def test_a_text_that_names_no_action_costs_a_step_and_moves_nothing() -> None:
    simulator = GymnasiumSimulator(Walk, actions=["down", "up"], max_steps=3)
    state = simulator.reset(0)
    wrong = simulator.step(state, "sideways")
    assert simulator.info(wrong)["invalid_action"]
    assert simulator.observation(wrong) == "500\nInvalid action 'sideways': expected one of down, up."
    assert wrong != state
    right = simulator.step(wrong, "up")
    assert simulator.observation(right) == simulator.observation(simulator.step(state, "up"))
    assert not simulator.info(right)["invalid_action"]
    last = simulator.step(right, "sideways")
    assert simulator.truncated(last)
    assert simulator.current_player(last) == TERMINAL


def test_masked_actions_are_not_legal() -> None:
    simulator = GymnasiumSimulator(MaskedWalk)
    state = next(s for s in (simulator.step(simulator.reset(i), "1") for i in range(9)) if s.observation[-1] in "02468")
    assert simulator.legal_actions(state) == ("1",)
    assert simulator.info(simulator.step(state, "0"))["invalid_action"]


def test_a_mapping_names_the_actions_of_any_space() -> None:
    with pytest.raises(ValueError, match="pass actions="):
        GymnasiumSimulator(Dials)
    simulator = GymnasiumSimulator(
        Dials, {"more": np.ones(2, np.float32), "less": -np.ones(2, np.float32)}, max_steps=9
    )
    check_simulator(simulator, fresh_process=False)
    state = simulator.reset(0)
    assert state.observation == "dial: [0.636962 0.269787]\non: 1"
    for _ in range(3):
        state = simulator.step(state, "more")
    assert simulator.rewards(state) == pytest.approx((3.636962,), abs=1e-6)
    assert (state.terminated, simulator.truncated(state)) == (True, False)


def test_names_must_fit_the_space() -> None:
    with pytest.raises(ValueError, match="expected 4 different names"):
        GymnasiumSimulator("FrozenLake-v1", actions=["left", "right"])


def test_budgets_and_options_that_cannot_be_meant_are_refused() -> None:
    for wrong in ({"max_steps": 0}, {"max_steps": 2.5}, {"cache_size": -1}):
        with pytest.raises(ValueError, match="expected a whole number of at least"):
            GymnasiumSimulator("CartPole-v1", **wrong)  # type: ignore[arg-type]
    adapted = GymnasiumSimulator("CartPole-v1")
    hash(adapted.reset(0, {"low": -0.01, "high": 0.01}))
    with pytest.raises(ValueError, match=r"options\['goal'\]=\(\{'x': 1\},\) cannot be hashed.*no dictionaries"):
        adapted.reset(0, {"goal": [{"x": 1}]})


def test_success_is_taken_from_info() -> None:
    simulator = GymnasiumSimulator(Walk)
    state = simulator.reset(0)
    while not simulator.info(state)["success"]:
        state = simulator.step(state, "1")
    assert int(state.observation) > 510


def test_a_failing_step_leaves_no_wrong_position_behind() -> None:
    simulator = GymnasiumSimulator(Walk)
    start = simulator.reset(4)
    expected = simulator.step(start, "1").observation
    working = simulator._env.step
    simulator.reset(4)

    def fails(action: Any) -> Any:
        working(action)
        raise RuntimeError("lost")

    simulator._env.step = fails  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="lost"):
        simulator.step(start, "0")
    simulator._env.step = working  # type: ignore[method-assign]
    assert simulator.step(start, "1").observation == expected


def test_text_environments_branch_too() -> None:
    """Our own web shop through its Gymnasium face: the adapter finds its snapshots, and trees agree with the rules."""
    simulator = GymnasiumSimulator("branchwise/WebShop-v0")
    assert simulator.branching == "native"
    assert simulator.legal_actions(simulator.reset(0)) is None
    rules = gym.make("branchwise/WebShop-v0").unwrapped.simulator  # type: ignore[attr-defined]
    for first, second in itertools.product(["search[red shirt]", "hello"], ["search[shoes]", "click[back to search]"]):
        state, truth = simulator.reset(0), rules.reset(0)
        for action in (first, second):
            state, truth = simulator.step(state, action), rules.step(truth, action)
            assert simulator.observation(state) == rules.observation(truth)
            assert simulator.info(state)["invalid_action"] == rules.info(truth)["invalid_action"]


@pytest.mark.parametrize(
    ("observation", "text"),
    [
        ("as it is", "as it is"),
        (np.int64(3), "3"),
        (np.float32(0.1), "0.1"),
        (1 / 3, "0.333333"),
        (True, "True"),
        (np.array([[1, 2], [3, 4]]), "[[1 2] [3 4]]"),
        (np.array(7.5), "7.5"),
        ((1, np.array([0.5])), "(1, [0.5])"),
        ({"a": 1, "b": np.array([1e-9, -2.0])}, "a: 1\nb: [1e-09 -2]"),
    ],
)
def test_observations_become_text(observation: Any, text: str) -> None:
    assert describe(observation) == text


def test_images_need_a_description() -> None:
    with pytest.raises(ValueError, match="pass describe="):
        describe(np.zeros((210, 160, 3), np.uint8))
