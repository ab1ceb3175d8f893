"""One player's side of a game: who plays the rest, that it stays pure, and what is told and paid."""

import itertools
import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest

from branchwise.envs.games.kuhn_poker import KuhnPoker
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.opponents import (
    Mixture,
    borrow_generator,
    draw_from,
    draw_outcome,
    named_opponent,
    random_opponent,
    return_generator,
)
from branchwise.envs.registry import opponent_for, simulator_for
from branchwise.envs.shells import SimulatorEnv
from branchwise.envs.simulator import CHANCE, TERMINAL, Simulator
from branchwise.envs.views import SinglePlayerView
from branchwise.testing import check_simulator


def first_move(simulator: Simulator[Any], state: Any, rng: np.random.Generator) -> str:
    actions = simulator.legal_actions(state)
    assert actions is not None
    return actions[0]


class LastMove:
    def __call__(self, simulator: Simulator[Any], state: Any, rng: np.random.Generator) -> str:
        actions = simulator.legal_actions(state)
        assert actions is not None
        return actions[-1]


def nonsense(simulator: Simulator[Any], state: Any, rng: np.random.Generator) -> str:
    return "nothing of the kind"


class Coins(Simulator[tuple[int, ...]]):
    """Player 0 says heads or tails, luck throws, four times; each right call earns 1 and costs the other 1. Player 1
    never moves; with ``quick`` luck ends half of the games before anybody does."""

    players = 2

    def __init__(self, quick: bool = False) -> None:
        self.quick = quick

    def reset(self, seed: int, options: Any = None) -> tuple[int, ...]:
        return (-1,) if self.quick else ()

    def current_player(self, state: tuple[int, ...]) -> int:
        if state[:1] == (-1,):
            return CHANCE if len(state) == 1 else self.current_player(state[2:]) if state[1] else TERMINAL
        return TERMINAL if len(state) == 8 else (0, CHANCE)[len(state) % 2]

    def chance_outcomes(self, state: tuple[int, ...]) -> list[tuple[str, float]]:
        return [("0", 0.5), ("1", 0.5)]

    def observation(self, state: tuple[int, ...], player: int = 0) -> str:
        return str(state)

    def legal_actions(self, state: tuple[int, ...]) -> tuple[str, ...]:
        return ("0", "1") if self.current_player(state) == 0 else ()

    def step(self, state: tuple[int, ...], action: str) -> tuple[int, ...]:
        return (*state, int(action))

    def rewards(self, state: tuple[int, ...]) -> tuple[float, ...]:
        if not state or len(state) % 2:
            return (0.0, 0.0)
        right = 1.0 if state[-1] == state[-2] else -1.0
        return (right, -right)

    def info(self, state: tuple[int, ...]) -> dict[str, Any]:
        return {"success": False, "invalid_action": False}


def played(view: SinglePlayerView, seed: int, actions: int = 99) -> list[Any]:
    states = [view.reset(seed)]
    while view.current_player(states[-1]) != TERMINAL and len(states) <= actions:
        states.append(view.step(states[-1], (view.legal_actions(states[-1]) or ["?"])[0]))
    return states


@pytest.mark.parametrize("player", [0, 1])
def test_it_keeps_every_promise_of_a_simulator(player: int) -> None:
    for game in (TicTacToe(), KuhnPoker()):
        check_simulator(SinglePlayerView(game, player), fresh_process=False)


def test_the_viewed_player_is_always_the_one_to_move_and_legal_actions_are_its_own() -> None:
    game = TicTacToe()
    for player in (0, 1):
        for state in played(SinglePlayerView(game, player), 5)[:-1]:
            assert game.current_player(state.inner) == player


def test_opponents_are_asked_by_seat() -> None:
    game = TicTacToe()
    view = SinglePlayerView(game, 0, [nonsense, LastMove()])
    state = view.step(view.reset(0), "1")
    assert game.legal_actions(state.inner) == game.legal_actions(game.step(game.step(game.reset(0), "1"), "9"))


def test_luck_is_a_function_of_the_state_alone() -> None:
    """Episodes that are stepped in turns, from pickles and in another order are those of their seeds."""
    view = SinglePlayerView(KuhnPoker(), 1)
    alone = [played(view, seed) for seed in range(30)]
    states = [view.reset(seed) for seed in reversed(range(30))][::-1]
    for depth in range(max(map(len, alone)) - 1):
        for seed in reversed(range(30)):
            if depth + 1 < len(alone[seed]):
                assert states[seed] == alone[seed][depth]
                states[seed] = view.step(pickle.loads(pickle.dumps(states[seed])), view.legal_actions(states[seed])[0])  # type: ignore[index]


def test_luck_is_as_probable_as_the_game_says() -> None:
    """Kuhn's six deals, 1,200 seeds: chi-squared with 5 degrees of freedom is below 20.5 with probability 0.999."""
    view = SinglePlayerView(KuhnPoker(), 0)
    deals = Counter(str(view.reset(seed).inner)[:40] for seed in range(1_200))
    assert len(deals) == 6
    assert sum((count - 200) ** 2 / 200 for count in deals.values()) < 20.5


def test_another_seed_or_step_is_another_stream() -> None:
    draws = []
    for seed, step in [(0, 0), (0, 1), (1, 0), (1, 1), (2**63 + 1, 0), (2**100, 5), (0, 0)]:
        rng = borrow_generator(seed, step)
        draws.append(tuple(rng.random(4)))
        return_generator(rng)
    assert draws[0] == draws[-1]
    assert len(set(draws)) == len(draws) - 1
    seen = np.array([borrow_generator(7, step).random() for step in range(4_000)])
    assert abs(seen.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(seen[:-1], seen[1:])[0, 1]) < 0.06


def test_a_borrowed_generator_is_nobody_else_s() -> None:
    first = borrow_generator(1, 1)
    second = borrow_generator(1, 1)
    assert first is not second
    assert first.random() == second.random()


def test_rewards_are_those_since_the_player_last_moved() -> None:
    view = SinglePlayerView(Coins(), 0)
    states = played(view, 3)
    assert view.rewards(states[0]) == (0.0,)
    for before, after in itertools.pairwise(states):
        fell = after.inner[-1]
        assert view.rewards(after) == (1.0 if fell == after.inner[-2] else -1.0,)
        assert len(after.inner) == len(before.inner) + 2


def test_episodes_that_end_before_the_player_acts_are_passed_over() -> None:
    view = SinglePlayerView(Coins(quick=True), 0)
    starts = [view.reset(seed) for seed in range(50)]
    assert all(view.current_player(start) == 0 for start in starts)
    assert starts == [view.reset(seed) for seed in range(50)]
    with pytest.raises(ValueError, match="before player 1 could act"):
        SinglePlayerView(Coins(), 1).reset(0)


def test_success_is_the_viewed_player_s() -> None:
    outcomes = Counter()
    for player in (0, 1):
        view = SinglePlayerView(TicTacToe(), player)
        for seed in range(40):
            end = played(view, seed)[-1]
            assert view.info(end)["success"] == (view.rewards(end)[0] > 0)
            outcomes[player, view.info(end)["success"]] += 1
    assert len(outcomes) == 4


def test_an_opponent_s_nonsense_is_not_the_player_s() -> None:
    view = SinglePlayerView(TicTacToe(), 0, nonsense)
    state = view.step(view.reset(0), "5")
    assert view.current_player(state) == TERMINAL  # the opponent forfeits
    assert view.info(state)["invalid_action"] is False
    assert view.info(state)["success"] is True


def test_the_player_s_own_nonsense_is_told_at_once() -> None:
    view = SinglePlayerView(TicTacToe(), 1)
    state = view.reset(0)
    after = view.step(state, "nothing of the kind")
    assert view.info(after)["invalid_action"] is True
    assert after.inner != state.inner
    assert view.current_player(after) == 0


def test_it_offers_what_the_game_offers() -> None:
    game = TicTacToe()
    view = SinglePlayerView(game, 1)
    state = view.reset(1)
    assert view.svg(state) == game.svg(state.inner)
    assert (view.array(state) == game.array(state.inner, 1)).all()
    assert view.all_actions() == game.all_actions()
    assert not hasattr(SinglePlayerView(Coins(), 0), "svg")
    assert not hasattr(view, "nothing_of_the_kind")


def test_resampling_keeps_what_the_player_knows_and_changes_the_luck() -> None:
    game = KuhnPoker()
    view = SinglePlayerView(game, 0)
    state = view.reset(4)
    rng = np.random.default_rng(0)
    others = [view.resample(state, 0, rng) for _ in range(40)]
    assert {view.observation(other) for other in others} == {view.observation(state)}
    assert len({other.inner for other in others}) == 2
    assert len({other.seed for other in others}) == 40


def test_a_searching_opponent_may_use_views_itself() -> None:
    """Generators are borrowed: an opponent that steps a view inside does not disturb the one outside."""
    game = KuhnPoker()
    inner = SinglePlayerView(game, 0)

    def thinker(simulator: Simulator[Any], state: Any, rng: np.random.Generator) -> str:
        played(inner, 3)
        return random_opponent(simulator, state, rng)

    for seed in range(20):
        assert played(SinglePlayerView(game, 0, thinker), seed) == played(SinglePlayerView(game, 0, "random"), seed)


def test_names_of_opponents() -> None:
    assert named_opponent("random") is random_opponent
    assert named_opponent(first_move) is first_move
    assert named_opponent("branchwise.envs.opponents:random_opponent") is random_opponent
    assert opponent_for("branchwise/KuhnPoker-v0", "equilibrium") is not random_opponent
    with pytest.raises(ValueError, match="'random' or 'equilibrium'"):
        opponent_for("branchwise/KuhnPoker-v0", "nobody")
    with pytest.raises(ValueError, match="nowhere"):
        named_opponent("nowhere:nobody")


def test_seats_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match=r"player=2.*0 to 1"):
        SinglePlayerView(TicTacToe(), 2)
    with pytest.raises(ValueError, match="one a player"):
        SinglePlayerView(TicTacToe(), 0, ["random"])


def test_a_game_that_never_comes_back_is_a_fault_that_is_named() -> None:
    class Endless(TicTacToe):
        def step(self, state: Any, action: str) -> Any:
            return super().step(state, action) if self.current_player(state) == 0 else state

    view = SinglePlayerView(Endless(), 0)
    with pytest.raises(RuntimeError, match="without player 0 coming to move"):
        view.step(view.reset(0), "1")


def test_simulators_by_id_are_games_or_views() -> None:
    assert simulator_for("branchwise/KuhnPoker-v0").players == 2
    assert simulator_for("branchwise/KuhnPoker-v0", player=1).players == 1
    assert simulator_for("branchwise/KuhnPoker-v0", opponents="equilibrium").players == 1
    env = SimulatorEnv(simulator_for("branchwise/KuhnPoker-v0", opponents=["random", first_move]))
    assert env.reset(seed=0)[1]["admissible_commands"]


def test_outcomes_are_drawn_as_often_as_their_probabilities_say() -> None:
    class Loaded(Coins):
        def chance_outcomes(self, state: tuple[int, ...]) -> list[tuple[str, float]]:
            return [("0", 0.9), ("1", 0.1)]

    rng = np.random.default_rng(0)
    drawn = Counter(draw_outcome(Loaded(), (0,), rng) for _ in range(4_000))
    assert abs(drawn["1"] - 400) < 4 * 19  # four standard deviations


@pytest.mark.parametrize("shares", [(0.3, 0.7), (0.0, 1.0), (1.0, 0.0), (0.3, 0.7 - 1e-7)])
def test_a_draw_takes_the_outcome_in_whose_part_of_the_unit_interval_the_number_falls(
    shares: tuple[float, float],
) -> None:
    for seed in range(200):
        drawn = draw_from(zip("ab", shares, strict=True), np.random.default_rng(seed))
        assert drawn == ("a" if np.random.default_rng(seed).random() < shares[0] else "b")


def test_the_seat_of_an_episode_is_an_option_of_its_reset() -> None:
    """One view for both seats: each episode is that of the view made for its seat."""
    both = simulator_for("branchwise/KuhnPoker-v0", opponents="equilibrium")
    for seat in (0, 1):
        own = simulator_for("branchwise/KuhnPoker-v0", opponents="equilibrium", player=seat)
        for seed in range(6):
            state, same = both.reset(seed, {"player": seat}), own.reset(seed)
            while True:
                assert both.observation(state) == own.observation(same)
                assert both.information_state(state) == own.information_state(same)
                assert both.rewards(state) == own.rewards(same)
                assert both.info(state) == own.info(same)
                assert both.array(state, 0).tolist() == own.array(same, 0).tolist()  # type: ignore[attr-defined]
                if both.current_player(state) == TERMINAL:
                    break
                actions = both.legal_actions(state)
                assert actions == own.legal_actions(same)
                state, same = both.step(state, actions[-1]), own.step(same, actions[-1])  # type: ignore[index]
    check_simulator(both, options={"player": 1})
    for wrong in (2, -1, "first", None):
        with pytest.raises(ValueError, match="expected 0 to 1"):
            both.reset(0, {"player": wrong})


def test_of_a_mixture_one_plays_the_whole_episode_by_its_share() -> None:
    def moves(view: SinglePlayerView, seed: int) -> list[str]:
        state = view.reset(seed)
        while view.current_player(state) != TERMINAL:
            state = view.step(state, sorted(view.legal_actions(state) or [])[len(asked) % 2])
        return asked

    def member(name: str) -> Any:
        def play(simulator: Simulator[Any], state: Any, rng: np.random.Generator) -> str:
            asked.append(name)
            return random_opponent(simulator, state, rng)

        return play

    asked: list[str] = []
    mixture = Mixture((member("a"), member("b")), (1.0, 3.0))
    view = SinglePlayerView(TicTacToe(), opponents=mixture)
    drawn = Counter()
    for seed in range(400):
        asked.clear()
        assert len(set(moves(view, seed))) == 1
        drawn[asked[0]] += 1
    assert 60 <= drawn["a"] <= 140  # 100 expected, four standard deviations are 35
    pickle.dumps(simulator_for("branchwise/TicTacToe-v0", opponents={"random": 1, "perfect": 0.5}))


@pytest.mark.parametrize("wrong", [{}, {"random": 0}, {"random": -1}, {"random": True}, {"random": "half"}])
def test_shares_that_are_none_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="opponents="):
        simulator_for("branchwise/TicTacToe-v0", opponents=wrong)
