"""The public checks find what they promise to find: one simulator a lie, each broken in one place."""

import sys
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest

from branchwise import simulator_for, testing
from branchwise.envs import CHANCE, TERMINAL, Simulator, SimulatorEnv
from branchwise.envs.shells import SimulatorAECEnv
from branchwise.testing import HOSTILE_TEXTS, check_simulator, check_snapshot


class Place(NamedTuple):
    place: int = 0
    steps: int = 0
    wrong: str = ""


class Honest(Simulator[Any]):
    """Five steps left or right; the right end pays."""

    def reset(self, seed: int, options: Any = None) -> Any:
        return Place(seed % 3)

    def current_player(self, state: Any) -> int:
        return TERMINAL if state.steps >= 5 else 0

    def observation(self, state: Any, player: int = 0) -> str:
        return f"at {state.place}{state.wrong}"

    def legal_actions(self, state: Any) -> Any:
        return ["left", "right"] if state.steps < 5 else []

    def step(self, state: Any, action: str) -> Any:
        move = {"left": -1, "right": 1}.get(action)
        return Place(state.place + (move or 0), state.steps + 1, "" if move else "; no such move")

    def rewards(self, state: Any) -> tuple[float, ...]:
        return (float(state.place > 3),)

    def info(self, state: Any) -> dict[str, Any]:
        return {"success": state.place > 3, "invalid_action": bool(state.wrong)}


class RollingDice(Honest):
    """A chance node at the start, two players in turn after it."""

    players = 2

    def current_player(self, state: Any) -> int:
        return CHANCE if state.steps == 0 else TERMINAL if state.steps >= 5 else state.steps % 2

    def legal_actions(self, state: Any) -> Any:
        return ["left", "right"] if 0 < state.steps < 5 else []

    def chance_outcomes(self, state: Any) -> list[tuple[str, float]]:
        return [("left", 0.25), ("right", 0.75)]

    def rewards(self, state: Any) -> tuple[float, ...]:
        return (float(state.place > 3), -float(state.place > 3))


class LoadedDice(RollingDice):
    def chance_outcomes(self, state: Any) -> list[tuple[str, float]]:
        return [("left", 0.25), ("right", 0.5)]


class Mutable(Honest):
    def reset(self, seed: int, options: Any = None) -> Any:
        return SimpleNamespace(place=0, steps=0, wrong="")


class Box:
    """Compared by value, yet changed by a step."""

    def __init__(self, place: int, steps: int, wrong: str = "") -> None:
        self.place, self.steps, self.wrong = place, steps, wrong

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Box) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.place, self.steps))


class ChangesItsState(Honest):
    def reset(self, seed: int, options: Any = None) -> Any:
        return Box(seed % 3, 0)

    def step(self, state: Any, action: str) -> Any:
        after = Box(*super().step(state, action))
        state.place += 1
        return after


class ComparedByIdentity(Honest):
    def reset(self, seed: int, options: Any = None) -> Any:
        return _Identity()


class _Identity:
    place, steps, wrong = 0, 0, ""


class RemembersSteps(Honest):
    def __init__(self) -> None:
        self.count = 0

    def step(self, state: Any, action: str) -> Any:
        self.count += 1
        return super().step(state, action)._replace(place=self.count)


class RandomReset(Honest):
    def reset(self, seed: int, options: Any = None) -> Any:
        return Place(int(np.random.default_rng().integers(10**9)))


class RaisesOnBrackets(Honest):
    def step(self, state: Any, action: str) -> Any:
        return super().step(state, action[: action.index("]")] if action.startswith("click[") else action)


class EchoesAll(Honest):
    def step(self, state: Any, action: str) -> Any:
        after = super().step(state, action)
        return after._replace(wrong=f"; {action.encode('utf-8', 'replace').decode()}?") if after.wrong else after


class EchoesSurrogates(Honest):
    def step(self, state: Any, action: str) -> Any:
        after = super().step(state, action)
        return after._replace(wrong=f"; {action[:50]}?") if after.wrong else after


class SwallowsNonsense(Honest):
    def info(self, state: Any) -> dict[str, Any]:
        return {"success": False, "invalid_action": False}


class CallsLegalInvalid(Honest):
    def legal_actions(self, state: Any) -> Any:
        return ["left", "right", "jump"] if state.steps < 5 else []


class NeverEnds(Honest):
    def current_player(self, state: Any) -> int:
        return 0

    def legal_actions(self, state: Any) -> Any:
        return ["left", "right"]


class LegalAfterTheEnd(Honest):
    def legal_actions(self, state: Any) -> Any:
        return ["left", "right"]


class SharesItsInfo(Honest):
    facts: dict[str, Any] = {"success": False, "invalid_action": False}  # noqa: RUF012

    def info(self, state: Any) -> dict[str, Any]:
        self.facts.update(super().info(state))
        return self.facts


class SharesItsCommands(Honest):
    commands = ["left", "right"]  # noqa: RUF012

    def admissible_commands(self, state: Any) -> Any:
        return self.commands if state.steps < 5 else []


class NoSuccess(Honest):
    def info(self, state: Any) -> dict[str, Any]:
        return {"invalid_action": bool(state.wrong)}


class TwoRewards(Honest):
    def rewards(self, state: Any) -> tuple[float, ...]:
        return (0.0, 0.0)


class NanReward(Honest):
    def rewards(self, state: Any) -> tuple[float, ...]:
        return (float("nan"),)


class SpeaksBytes(Honest):
    def observation(self, state: Any, player: int = 0) -> Any:
        return b"at"


class TruncatedYetRunning(Honest):
    def truncated(self, state: Any) -> bool:
        return state.steps == 2


class GoesInCircles(Honest):
    never_repeats = True

    def position(self, state: Any) -> Any:
        return state.place


class CannotBePickled(Honest):
    def __init__(self) -> None:
        self.judge = lambda action: True


@pytest.mark.parametrize("simulator", [Honest(), RollingDice()])
def test_honest_simulators_pass(simulator: Simulator[Any]) -> None:
    check_simulator(simulator, fresh_process=False)


@pytest.mark.parametrize(
    ("simulator", "promise"),
    [
        (LoadedDice, "probabilities that sum to 1.*0.75"),
        (Mutable, "states and positions are hashable"),
        (ChangesItsState, "step does not change the state"),
        (ComparedByIdentity, "reset\\(0\\) is the same episode every time"),
        (RemembersSteps, "the same action from"),
        (RandomReset, "reset\\(0\\) is the same episode every time"),
        (RaisesOnBrackets, "step never raises on text.*ValueError"),
        (EchoesAll, "an observation does not grow with the action"),
        (EchoesSurrogates, "can be written to a file"),
        (SwallowsNonsense, "no legal action is counted as invalid"),
        (CallsLegalInvalid, "a legal action is valid.*'jump'"),
        (NeverEnds, "ends within its budget"),
        (LegalAfterTheEnd, "nothing is legal after the end"),
        (SharesItsInfo, "info is a fresh dict"),
        (SharesItsCommands, "admissible_commands is a fresh list"),
        (NoSuccess, "info has a bool 'success'"),
        (TwoRewards, "one finite number a player"),
        (NanReward, "one finite number a player"),
        (SpeaksBytes, "an observation is a str"),
        (TruncatedYetRunning, "a truncated state has no player"),
        (CannotBePickled, "the simulator can be pickled"),
        (GoesInCircles, "no position comes twice where never_repeats is set"),
    ],
)
def test_a_broken_promise_is_named_with_its_cure(simulator: Any, promise: str) -> None:
    with pytest.raises(AssertionError, match=f"(?s)broken promise: .*{promise}.*Cure: "):
        check_simulator(simulator(), fresh_process=False)


HASH_ORDERED = '''
from branchwise.envs import TERMINAL, Simulator

class HashOrdered(Simulator):
    """Iterates a set of strings: the order differs from process to process."""
    words = {f"word{i}" for i in range(50)}
    def reset(self, seed, options=None): return (0, " ".join(self.words))
    def current_player(self, state): return TERMINAL if state[0] else 0
    def observation(self, state, player=0): return state[1]
    def legal_actions(self, state): return [] if state[0] else ["on"]
    def step(self, state, action): return (1, "" if action == "on" else "what?")
    def rewards(self, state): return (0.0,)
    def info(self, state): return {"success": False, "invalid_action": state[1] == "what?"}

class Sorted(HashOrdered):
    def reset(self, seed, options=None): return (0, " ".join(sorted(self.words)))

OPENED = []

class NeedsItsProcess(Sorted):
    def reset(self, seed, options=None): return (OPENED[0], super().reset(seed)[1])
'''


def test_a_fresh_process_finds_what_depends_on_hashing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hash_ordered_game.py").write_text(HASH_ORDERED)
    monkeypatch.syspath_prepend(str(tmp_path))
    import hash_ordered_game as games

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_simulator(games.Sorted())
        with pytest.raises(AssertionError, match=r"(?s)in a fresh process: seed 0 parts after 0 steps.*hash"):
            check_simulator(games.HashOrdered())
        games.OPENED.append(0)
        with pytest.raises(AssertionError, match=r"(?s)runs in a fresh process: exit code 1.*IndexError"):
            check_simulator(games.NeedsItsProcess())
    finally:
        del sys.modules["hash_ordered_game"]


def test_what_a_fresh_process_cannot_load_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("typed_at_a_prompt")
    made = type("Made", (Honest,), {"__module__": module.__name__})
    monkeypatch.setattr(module, "Made", made, raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.warns(UserWarning, match="Made could not be loaded in a fresh process.*typed_at_a_prompt"):
        check_simulator(made())


def test_a_fresh_process_that_waits_for_ever_is_a_broken_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testing, "_LONGEST", 0.05)
    with pytest.raises(AssertionError, match="runs in a fresh process: 3 walks took more than"):
        check_simulator(simulator_for("branchwise/TicTacToe-v0"))


def test_hostile_texts_hold_what_hurts() -> None:
    assert max(map(len, HOSTILE_TEXTS)) >= 1_000_000
    assert any("\ud800" in text for text in HOSTILE_TEXTS)
    assert any("\x00" in text for text in HOSTILE_TEXTS)


class ShallowEnv(SimulatorEnv[Any]):
    """Restores the place but not the clock."""

    def restore(self, snapshot: Any) -> Any:
        assert self.state is not None
        return super().restore(snapshot._replace(steps=self.state.steps))


class StaleEnv(SimulatorEnv[Any]):
    """Returns the observation from before."""

    def restore(self, snapshot: Any) -> Any:
        before = self.simulator.observation(self.state)  # type: ignore[arg-type]
        return before + "!", super().restore(snapshot)[1]


def test_honest_snapshots_pass_wrapped_or_not() -> None:
    check_snapshot(SimulatorEnv(Honest()))
    check_snapshot(gym.wrappers.OrderEnforcing(SimulatorEnv(Honest())))


@pytest.mark.parametrize(
    ("env", "promise"),
    [
        (ShallowEnv(Honest()), "goes on like the original"),
        (StaleEnv(Honest()), "shows the observation of its snapshot"),
        (gym.wrappers.TimeLimit(SimulatorEnv(Honest()), 3), "goes on like the original.*counters of wrappers"),
        (gym.make("CartPole-v1"), "has snapshot\\(\\) and restore.*GymnasiumSimulator"),
    ],
)
def test_snapshots_that_lose_something_are_named(env: Any, promise: str) -> None:
    with pytest.raises(AssertionError, match=f"(?s)broken promise: .*{promise}"):
        check_snapshot(env)


class Echo(Honest):
    """Quotes what makes no sense as it was written."""

    def step(self, state: Any, action: str) -> Any:
        after = super().step(state, action)
        return after._replace(wrong=f" {action[:100].encode('utf-8', 'replace').decode()}") if after.wrong else after


def test_an_observation_outside_of_the_declared_space_is_found() -> None:
    testing.check_hostile_steps(Honest(), 200)
    with pytest.raises(AssertionError, match="an observation is in the space that environments declare"):
        testing.check_hostile_steps(Echo(), 200)


def test_pettingzoo_texts_outside_of_their_space_are_found() -> None:
    with pytest.raises(AssertionError, match="the observation of player_0 is in its space"):
        testing.check_zoo_text(lambda: SimulatorAECEnv(Echo(), text=True))
