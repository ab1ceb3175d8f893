"""The PettingZoo shells: whose turn it is, what is paid, told and drawn, the two forms, cycles, snapshots."""

import pickle
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pettingzoo
import pytest
from gymnasium.error import Error, ResetNeeded
from pettingzoo.test import api_test, parallel_api_test, seed_test
from pettingzoo.test.seed_test import parallel_seed_test

from branchwise.envs.games.kuhn_poker import KuhnPoker
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.shells import SimulatorAECEnv, SimulatorParallelEnv
from branchwise.envs.simulator import CHANCE, TERMINAL, Simulator
from branchwise.testing import check_zoo_text

GAME = "branchwise/KuhnPoker-v0"


class Guesses(NamedTuple):
    die: int = 0
    guesses: tuple[int, ...] = ()
    wrong: bool = False
    misses: int = 0


class GuessTheDie(Simulator[Guesses]):
    """A die is cast; all are told whether it is high, and guess together, unseen. Who is right earns 1. The fourth
    senseless action cuts the game off."""

    def __init__(self, players: int = 3) -> None:
        self.players = players

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> Guesses:
        return Guesses()

    def current_player(self, state: Guesses) -> int:
        if not state.die:
            return CHANCE
        return TERMINAL if len(state.guesses) == self.players or state.misses == 4 else len(state.guesses)

    def chance_outcomes(self, state: Guesses) -> Sequence[tuple[str, float]]:
        return [(str(face), 1 / 6) for face in range(1, 7)]

    def observation(self, state: Guesses, player: int = 0) -> str:
        told = (
            f"shows {state.die}" if self.current_player(state) == TERMINAL else "is high" if state.die > 3 else "is low"
        )
        own = state.guesses[player] if player < len(state.guesses) else "none yet"
        return f"The die {told}. Your guess: {own}.{' That is no guess.' if state.wrong else ''}"

    def legal_actions(self, state: Guesses) -> Sequence[str]:
        return () if self.current_player(state) < 0 else tuple("123456")

    def step(self, state: Guesses, action: str) -> Guesses:
        if action not in ("1", "2", "3", "4", "5", "6"):
            return state._replace(wrong=True, misses=state.misses + 1)
        if not state.die:
            return Guesses(int(action))
        return state._replace(guesses=(*state.guesses, int(action)), wrong=False)

    def rewards(self, state: Guesses) -> tuple[float, ...]:
        if len(state.guesses) < self.players:
            return (0.0,) * self.players
        return tuple(float(guess == state.die) for guess in state.guesses)

    def truncated(self, state: Guesses) -> bool:
        return state.misses == 4

    def info(self, state: Guesses) -> dict[str, Any]:
        return {"success": bool(self.rewards(state)[0]), "invalid_action": state.wrong}

    def simultaneous_players(self, state: Guesses) -> Sequence[int]:
        return range(len(state.guesses), self.players)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("game", [GuessTheDie(), TicTacToe(), KuhnPoker()], ids=lambda game: type(game).__name__)
def test_pettingzoo_s_tests(game: Any) -> None:
    api_test(SimulatorAECEnv(game))
    parallel_api_test(SimulatorParallelEnv(game))
    seed_test(lambda: SimulatorAECEnv(game))
    parallel_seed_test(lambda: SimulatorParallelEnv(game))
    check_zoo_text(lambda: SimulatorAECEnv(game, text=True))


def test_a_won_game_pays_both_and_ends_for_both() -> None:
    env = SimulatorAECEnv(TicTacToe(), words=True)
    env.reset(seed=0)
    for move in ("1", "4", "2", "5", "3"):
        assert env.infos[env.agent_selection]["legal_actions"][int(move) - 1] == move
        env.step(int(move) - 1)
    assert env.rewards == {"player_0": 1.0, "player_1": -1.0}
    assert env.terminations == {"player_0": True, "player_1": True}
    assert [env.infos[agent]["success"] for agent in env.agents] == [True, False]
    seen = []
    for agent in env.agent_iter():
        seen.append((agent, env.last()[1]))
        env.step(None)
    assert sorted(seen) == [("player_0", 1.0), ("player_1", -1.0)]
    assert env.agents == []
    with pytest.raises(ResetNeeded):
        env.step(0)


class Wages(TicTacToe):
    """Whoever takes square 5 earns 2 at once."""

    def rewards(self, state: Any) -> tuple[float, ...]:
        taken = (state.first | state.second).bit_count() == 1 and state.first == 16
        return (2.0, 0.0) if taken else super().rewards(state)


def test_what_is_earned_on_the_way_is_paid_once() -> None:
    env = SimulatorAECEnv(Wages())
    env.reset(seed=0)
    env.step("5")
    assert env.rewards == {"player_0": 2.0, "player_1": 0.0}
    env.step("1")
    assert env.rewards == {"player_0": 0.0, "player_1": 0.0}
    assert env.last()[1] == 2.0
    env.step("2")
    env.step("3")
    assert env.last()[1] == 0.0


def test_numbers_and_texts_are_the_same_moves() -> None:
    numbers, texts, words = (SimulatorAECEnv(TicTacToe(), text=text, words=True) for text in (False, False, True))
    for env in (numbers, texts, words):
        env.reset(seed=0)
    for number, text in ((4, "5"), (0, "1")):
        numbers.step(number)
        texts.step(text)
        words.step(text)
    assert numbers.state_now == texts.state_now == words.state_now
    assert numbers.infos["player_0"]["text"] == words.observe("player_0")
    assert numbers.infos["player_0"]["legal_actions"][1] == "2"
    assert words.infos["player_0"]["admissible_commands"] == list("2346789")


def test_only_the_player_to_move_has_a_mask() -> None:
    env = SimulatorAECEnv(TicTacToe())
    env.reset(seed=0)
    env.step(4)
    assert env.observe("player_1")["action_mask"].tolist() == [1, 1, 1, 1, 0, 1, 1, 1, 1]
    assert not env.observe("player_0")["action_mask"].any()


@pytest.mark.parametrize("action", [4, 99, -1, None, 2.5, True, "nothing of the kind", b"1"])
def test_senseless_actions_are_told_and_the_player_moves_again(action: Any) -> None:
    env = SimulatorAECEnv(TicTacToe())
    env.reset(seed=0)
    env.step(4)
    env.step(action)
    assert env.agent_selection == "player_1"
    assert env.infos["player_1"]["invalid_action"] is True
    env.step(0)
    assert env.infos["player_1"]["invalid_action"] is False
    assert env.infos["player_0"]["invalid_action"] is False


def test_who_forfeits_by_nonsense_is_the_only_one_blamed() -> None:
    env = SimulatorAECEnv(TicTacToe())
    env.reset(seed=0)
    env.step(4)
    while not env.terminations["player_1"]:
        env.step("nothing of the kind")
    assert env.infos["player_1"]["invalid_action"] is True
    assert env.infos["player_0"]["invalid_action"] is False
    assert env.infos["player_0"]["success"] is True


def test_luck_comes_from_the_seed_and_is_fair() -> None:
    env = SimulatorAECEnv(GuessTheDie())
    faces = Counter()
    for seed in range(1_200):
        env.reset(seed=seed)
        faces[env.state_now.die] += 1
    assert sum((faces[face] - 200) ** 2 / 200 for face in range(1, 7)) < 20.5  # chi-squared, 5 degrees, p = 0.001
    env.reset(seed=7)
    first = env.state_now
    env.reset()
    others = [env.reset() or env.state_now for _ in range(20)]
    assert len(set(others)) > 1
    env.reset(seed=7)
    assert env.state_now == first
    assert [env.reset() or env.state_now for _ in range(21)][1:] == others


def test_a_cut_off_game_is_truncated() -> None:
    env = SimulatorAECEnv(GuessTheDie())
    env.reset(seed=0)
    for _ in range(4):
        env.step("x")
    assert set(env.truncations.values()) == {True}
    assert set(env.terminations.values()) == {False}


def test_max_cycles_counts_turns_of_each_player() -> None:
    env = SimulatorAECEnv(TicTacToe(), max_cycles=2)
    env.reset(seed=0)
    for move in (0, 1, 2):
        env.step(move)
        assert not any(env.truncations.values())
    env.step(3)
    assert all(env.truncations.values())
    with pytest.raises(ValueError, match="max_cycles=0"):
        SimulatorAECEnv(TicTacToe(), max_cycles=0)


def test_players_who_move_together_see_nothing_of_each_other() -> None:
    env = SimulatorParallelEnv(GuessTheDie(), words=True)
    seen, infos = env.reset(seed=3)
    assert all(info["to_move"] for info in infos.values())
    assert all(one["action_mask"].sum() == 6 for one in seen.values())
    assert len({info["text"] for info in infos.values()}) == 1
    die = env.state_now.die
    guesses = {"player_0": die - 1, "player_1": die % 6, "player_2": die - 1}
    _, rewards, ended, cut, infos = env.step(guesses)
    assert rewards == {"player_0": 1.0, "player_1": 0.0, "player_2": 1.0}
    assert all(ended.values())
    assert not any(cut.values())
    assert [info["success"] for info in infos.values()] == [True, False, True]
    assert env.agents == []


def test_a_senseless_answer_ends_the_cycle_and_the_rest_are_asked_again() -> None:
    env = SimulatorParallelEnv(GuessTheDie())
    env.reset(seed=3)
    _, _, _, _, infos = env.step({"player_0": "1", "player_1": "x", "player_2": "2"})
    assert [info["to_move"] for info in infos.values()] == [False, True, True]
    assert [info["invalid_action"] for info in infos.values()] == [False, True, False]
    assert env.state_now.guesses == (1,)
    _, _, ended, _, _ = env.step({"player_1": "3", "player_2": "2"})
    assert all(ended.values())
    assert env.state_now.guesses == (1, 3, 2)


def test_in_a_game_of_turns_a_cycle_is_a_turn() -> None:
    env = SimulatorParallelEnv(TicTacToe(), max_cycles=3)
    _, infos = env.reset(seed=0)
    turns = []
    while env.agents:
        turns.append([info["to_move"] for info in infos.values()])
        _, _, ended, cut, infos = env.step(dict.fromkeys(env.agents, len(turns) - 1))
    assert turns == [[True, False], [False, True], [True, False]]
    assert all(cut.values())
    assert not any(ended.values())
    with pytest.raises(ResetNeeded):
        env.step({})


@pytest.mark.parametrize("text", [True, False])
def test_snapshots_bring_everything_back(text: bool) -> None:
    env, twin = (SimulatorAECEnv(KuhnPoker(), text=text) for _ in range(2))
    for seed in range(10):
        env.reset(seed=seed)
        env.step("pass")
        kept = env.snapshot()
        futures = []
        for other in (env, twin, env):
            other.restore(pickle.loads(pickle.dumps(kept)))
            future: list[Any] = []
            for agent in other.agent_iter():
                observation, reward, terminated, truncated, info = other.last()
                future.append((agent, str(observation), reward, terminated, truncated, str(info)))
                other.step(None if terminated or truncated else "bet")
            futures.append(future)
        assert futures[0] == futures[1] == futures[2]
    with pytest.raises(ResetNeeded):
        SimulatorAECEnv(KuhnPoker()).snapshot()


def test_rendering(capsys: pytest.CaptureFixture[str]) -> None:
    for mode, expected in (
        ("ansi", str),
        ("human", type(None)),
        ("svg", str),
        ("rgb_array", np.ndarray),
        (None, type(None)),
    ):
        env = SimulatorAECEnv(TicTacToe(), render_mode=mode)
        assert env.render() is None
        env.reset(seed=0)
        assert isinstance(env.render(), expected)
        env.close()
    assert "tac" in capsys.readouterr().out.lower()
    with pytest.raises(ValueError, match="rgb_array"):
        SimulatorAECEnv(TicTacToe(), render_mode="depth_array")
    with pytest.raises(ValueError, match="svg"):
        SimulatorAECEnv(KuhnPoker(), render_mode="svg")


def test_arrays_show_each_player_its_own_side() -> None:
    env = SimulatorAECEnv(TicTacToe())
    env.reset(seed=0)
    env.step(4)
    own, other = (env.observe(agent)["observation"] for agent in ("player_0", "player_1"))
    assert own.shape == other.shape == env.observation_space("player_0")["observation"].shape  # type: ignore[index]
    assert not np.array_equal(own, other)
    assert np.array_equal(own, other[::-1])


def test_the_registry_makes_both_by_pettingzoo_s_own_make() -> None:
    aec = pettingzoo.make("aec", GAME, text=True)
    assert aec.metadata["name"] == "kuhn_poker_v0"
    assert aec.text
    parallel = pettingzoo.make("parallel", GAME)
    assert set(parallel.reset(seed=0)[0]) == {"player_0", "player_1"}


@pytest.mark.parametrize("env_id", [GAME, "branchwise/TicTacToe-v0", "branchwise/CaSiNo-v0"])
@pytest.mark.parametrize("kind", ["aec", "parallel"])
def test_seeds_are_whole_numbers_of_any_kind(kind: Any, env_id: str) -> None:
    def started(seed: Any) -> Any:
        env = pettingzoo.make(kind, env_id)
        env.reset(seed=seed)
        return env.state_now

    for made in (np.int64, np.uint32, np.int8):
        assert started(made(3)) == started(3)
    for wrong in (-1, np.int64(-1), 1.5, "a", np.float64(3)):
        with pytest.raises(Error, match=r"seed=.*: expected a whole number of at least 0"):
            started(wrong)


@pytest.mark.parametrize("text", [False, True])
def test_what_is_asked_before_a_reset_names_the_cure(text: bool) -> None:
    env = pettingzoo.make("aec", GAME, text=text)
    for asked in (env.last, lambda: env.observe("player_0"), env.agent_iter, env.snapshot, lambda: env.step(0)):
        with pytest.raises(ResetNeeded, match=r"call reset\(\) first"):
            asked()  # type: ignore[no-untyped-call]


def test_an_answer_of_a_cycle_is_a_dict() -> None:
    env = pettingzoo.make("parallel", GAME)
    env.reset(seed=0)
    for wrong in (None, 3, ["check"]):
        with pytest.raises(ValueError, match=r"expected the agents' actions as a dict: \{'player_0': …, 'pl"):
            env.step(wrong)


@pytest.mark.parametrize("junk", ["junk", None, 3, (1, 2, 3, 4, 5, 6), "sixsix"])
def test_only_a_snapshot_is_restored(junk: Any) -> None:
    env = SimulatorAECEnv(KuhnPoker())
    env.reset(seed=0)
    before = env.snapshot()
    with pytest.raises(ValueError, match=r"restore\(.*\): expected what snapshot\(\)"):
        env.restore(junk)
    assert env.snapshot() == before
