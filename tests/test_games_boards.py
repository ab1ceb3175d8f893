"""Rules of the board games: held to OpenSpiel on random positions, text and kernels held to each other."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numba import njit

from branchwise.envs.abilities import ActionTable
from branchwise.envs.games.board import BoardGame, BoardState
from branchwise.envs.games.board_players import MonteCarloPlayer, perfect_tic_tac_toe
from branchwise.envs.games.breakthrough import Breakthrough
from branchwise.envs.games.connect_four import ConnectFour, has_four
from branchwise.envs.games.hex import Hex
from branchwise.envs.games.kernels import four_in_line, nth_bit
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.opponents import random_opponent
from branchwise.envs.simulator import TERMINAL
from branchwise.testing import check_simulator

GAMES: tuple[BoardGame, ...] = (TicTacToe(), ConnectFour(), Breakthrough(), Hex(), Hex(size=4))
NAMES = ("tic_tac_toe", "connect_four", "breakthrough", "hex", "hex(4)")
ours = pytest.mark.parametrize("game", GAMES, ids=NAMES)


_four = four_in_line((1, 7, 8, 9))


@njit
def four_by_kernel(stones: int) -> int:
    return _four(stones)


@njit
def nth_by_kernel(mask: int, n: int) -> int:
    return nth_bit(mask, n)


def positions(game: BoardGame, count: int, seed: int = 0) -> Iterator[BoardState]:
    """``count`` positions of random games, ends included."""
    draw = random.Random(seed).random
    state = game.reset(0)
    for _ in range(count):
        yield state
        actions = game.legal_actions(state)
        state = game.step(state, actions[int(draw() * len(actions))]) if actions else game.reset(0)


def of_tic_tac_toe(text: str) -> str:  # x(row,column)
    return str(3 * int(text[2]) + int(text[4]) + 1)


def of_connect_four(text: str) -> str:  # x3, o3
    return str(int(text[1]) + 1)


def of_breakthrough(text: str) -> str:  # a7a6, with a star where something is taken; its first player is at the top
    return text[0] + str(9 - int(text[1])) + text[2] + str(9 - int(text[3]))


def of_hex(text: str) -> str:  # a1; in some versions with the player before it
    return text[-3:] if text[-2].isdigit() and text[-3].isalpha() else text[-2:]


OPENSPIEL: dict[str, tuple[str, BoardGame, Callable[[str], str]]] = {
    "tic_tac_toe": ("tic_tac_toe", TicTacToe(), of_tic_tac_toe),
    "connect_four": ("connect_four", ConnectFour(), of_connect_four),
    "breakthrough": ("breakthrough", Breakthrough(), of_breakthrough),
    "hex": ("hex", Hex(), of_hex),
    "hex_5": ("hex(board_size=5)", Hex(size=5), of_hex),
}


def agree_with_openspiel(name: str, count: int) -> None:
    pyspiel = pytest.importorskip("pyspiel", reason="OpenSpiel is not installed")
    openspiel_name, game, translated = OPENSPIEL[name]
    draw = random.Random(7).random
    theirs = pyspiel.load_game(openspiel_name)
    state, other = game.reset(0), theirs.new_initial_state()
    for _ in range(count):
        player = other.current_player()
        assert game.current_player(state) == (TERMINAL if other.is_terminal() else player)
        if other.is_terminal():
            assert game.rewards(state) == tuple(other.returns())
            state, other = game.reset(0), theirs.new_initial_state()
            continue
        assert game.rewards(state) == (0.0, 0.0)
        table = {translated(other.action_to_string(player, action)): action for action in other.legal_actions()}
        actions = game.legal_actions(state)
        assert len(actions) == len(set(actions)) == len(table)
        assert set(actions) == set(table)
        text = actions[int(draw() * len(actions))]
        state = game.step(state, text)
        other.apply_action(table[text])


@pytest.mark.parametrize("name", OPENSPIEL)
def test_rules_agree_with_openspiel(name: str) -> None:
    agree_with_openspiel(name, 2_000)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPENSPIEL)
def test_rules_agree_with_openspiel_on_fifty_thousand_positions(name: str) -> None:
    agree_with_openspiel(name, 50_000)


@ours
def test_kernels_agree_with_the_text_rules(game: BoardGame) -> None:
    rules = game.rules
    codes = np.zeros(rules.max_actions, np.int64)
    for state in positions(game, 1_500, seed=3):
        if game.current_player(state) == TERMINAL:
            continue
        encoded = rules.encode(state)
        count = rules.legal(encoded, codes)
        texts = [rules.action_text(int(code)) for code in codes[:count]]
        assert sorted(texts) == sorted(game.legal_actions(state))
        code = int(codes[hash(state) % count])
        after = game.step(state, rules.action_text(code))
        encoded_after, reward, over = rules.step(encoded, code)
        assert over == (game.current_player(after) == TERMINAL)
        assert reward == game.rewards(after)[state.mover]
        if not over:
            assert encoded_after == rules.encode(after)


@ours
def test_rollouts_have_the_mean_of_random_games(game: BoardGame) -> None:
    """Four standard errors of two means (the seeds are fixed)."""
    draw = random.Random(11).random
    start = next(state for state in positions(game, 9, seed=5) if state.mover == 1)
    games = 3_000 if game.rows < 11 else 500
    total = 0.0
    for _ in range(games):
        state = start
        while actions := game.legal_actions(state):
            state = game.step(state, actions[int(draw() * len(actions))])
        total += game.rewards(state)[1]
    rolled, stream = 0.0, 12345
    for _ in range(games):
        value, stream = game.rules.rollout(game.rules.encode(start), stream)
        rolled += value
    assert abs(total - rolled) / games < 4 * np.sqrt(2 / games)


@ours
def test_simulators_keep_the_protocol(game: BoardGame) -> None:
    check_simulator(game, seeds=range(2), fresh_process=game.columns == 3)


@ours
def test_an_invalid_action_keeps_the_turn_and_three_in_a_row_forfeit(game: BoardGame) -> None:
    start = game.step(game.reset(0), game.legal_actions(game.reset(0))[0])
    state = start
    for left in (2, 1):
        state = game.step(state, "resign")
        assert state.mover == start.mover
        assert game.info(state)["invalid_action"]
        assert game.position(state) == game.position(start)
        assert f"{left} more in a row" in game.observation(state, state.mover)
    valid = game.step(state, game.legal_actions(state)[0])
    assert not game.info(valid)["invalid_action"]
    forfeit = game.step(state, "resign")
    assert game.current_player(forfeit) == TERMINAL
    assert game.rewards(forfeit) == (1.0, -1.0)
    assert game.info(forfeit)["success"]
    assert "forfeits" in game.observation(forfeit)


def test_a_full_column_is_refused_as_not_legal() -> None:
    game = ConnectFour()
    state = game.reset(0)
    for _ in range(6):
        state = game.step(state, "4")
    assert "4" not in game.legal_actions(state)
    assert "not legal here" in game.observation(game.step(state, "4"))


def test_breakthrough_refuses_to_take_straight_on() -> None:
    game = Breakthrough()
    state = BoardState(1 << 8 * 3, 1 << 8 * 4 | 1 << 63)  # a4 against a5 and h8
    assert game.legal_actions(state) == ("a4b5",)
    assert game.step(state, "a4a5").invalid
    assert not game.step(state, "a4b5").invalid


def test_taking_the_last_pawn_wins() -> None:
    game = Breakthrough()
    state = game.step(BoardState(1 << 8 * 3, 1 << 8 * 4 + 1), "a4b5")
    assert game.rewards(state) == (1.0, -1.0)


@pytest.mark.parametrize("places", [(0, 1, 2, 3), (0, 8, 16, 24), (0, 9, 18, 27), (3, 10, 17, 24), (35, 36, 37, 38)])
def test_four_in_line_are_seen_by_kernel_and_text_rules(places: tuple[int, ...]) -> None:
    stones = sum(1 << place for place in places)
    assert has_four(stones)
    assert not has_four(stones & ~(1 << places[1]))
    assert four_by_kernel(stones) != 0
    assert four_by_kernel(stones & ~(1 << places[1])) == 0


def test_no_line_goes_around_the_edge() -> None:
    around = 1 << 5 | 1 << 6 | 1 << 8 | 1 << 9
    assert not has_four(around)
    assert four_by_kernel(around) == 0


def test_the_nth_bit_is_the_nth() -> None:
    assert [nth_by_kernel(0b1011_0001, n) for n in range(4)] == [1, 16, 32, 128]


@ours
def test_a_picture_shows_every_stone(game: BoardGame) -> None:
    state = list(positions(game, 6, seed=2))[-1]
    picture = game.svg(state)
    stones = game.stones(state)
    assert picture.startswith("<svg")
    assert picture.count("<circle") == len(stones[0]) + len(stones[1])
    planes = game.array(state, 0)
    assert planes.shape == (2, game.rows, game.columns)
    assert planes[0].sum() == len(stones[0])
    assert np.array_equal(game.array(state, 1), planes[::-1])


@ours
def test_text_squares_and_planes_show_the_same_stones(game: BoardGame) -> None:
    shown = {*game.marks, "."}
    for state in positions(game, 60, seed=4):
        lines = [line.split()[-game.columns :] for line in game.board(state).splitlines()]
        rows = [line for line in lines if shown.issuperset(line)]
        if isinstance(game, ConnectFour | Breakthrough):
            rows.reverse()  # row 0 is the lowest
        planes = game.array(state, 1)[::-1]
        for mark, squares, plane in zip(game.marks, game.stones(state), planes, strict=True):
            seen = [(row, column) for row, line in enumerate(rows) for column, cell in enumerate(line) if cell == mark]
            assert seen == squares
            assert np.argwhere(plane).tolist() == [list(square) for square in squares]


@ours
def test_every_legal_action_has_an_index(game: BoardGame) -> None:
    index: dict[str, Any] = {text: i for i, text in enumerate(game.all_actions())}
    assert len(index) == len(game.codes)
    assert all(text in index for state in positions(game, 300) for text in game.legal_actions(state))


@ours
def test_numbered_actions_are_the_legal_ones(game: BoardGame) -> None:
    every = game.all_actions()
    table = ActionTable(game)
    for state in positions(game, 400, seed=6):
        legal = game.legal_actions(state)
        mask, texts = table.choices(state)
        assert mask.tolist() == [text in legal for text in every]
        assert list(texts.values()) == list(legal)
        assert all(every[number] == text for number, text in texts.items())
        texts.clear()  # the reader's own


def test_breakthrough_states_made_by_hand_look_like_those_that_were_played() -> None:
    game = Breakthrough()
    for state in positions(game, 200, seed=8):
        bare = state._replace(drawing="")
        assert game.board(bare) == game.board(state)
        for action in game.legal_actions(state)[:3]:
            assert game.board(game.step(bare, action)) == game.board(game.step(state, action))


def score_against_random(game: BoardGame, player: Any, games: int) -> float:
    """The mean reward of ``player`` against random moves, as first and second in turn."""
    rng = np.random.default_rng(0)
    total = 0.0
    for number in range(games):
        state = game.reset(0)
        while (mover := game.current_player(state)) != TERMINAL:
            chosen = player if mover == number % 2 else random_opponent
            state = game.step(state, chosen(game, state, rng))
        total += game.rewards(state)[number % 2]
    return total / games


def test_the_perfect_player_never_loses_and_draws_with_itself() -> None:
    game = TicTacToe()
    assert score_against_random(game, perfect_tic_tac_toe, 60) > 0.8
    rng = np.random.default_rng(1)
    for _ in range(20):
        state = game.reset(0)
        while game.current_player(state) != TERMINAL:
            state = game.step(state, perfect_tic_tac_toe(game, state, rng))
        assert game.rewards(state) == (0.0, 0.0)


@pytest.mark.parametrize("game", [ConnectFour(), Breakthrough(), Hex(size=5)], ids=NAMES[1:4])
def test_the_monte_carlo_player_beats_random_moves(game: BoardGame) -> None:
    assert score_against_random(game, MonteCarloPlayer(games=60), 8) >= 0.75


def test_each_row_of_hex_is_half_a_cell_to_the_right_whatever_the_width_of_its_number() -> None:
    lines = Hex().observation(Hex().reset(0)).split("\n")[1:]
    assert [line.index(".") for line in lines[1:]] == [lines[0].index("a") + row for row in range(11)]
