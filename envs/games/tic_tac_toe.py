"""Tic-tac-toe: rules on bitboards, compiled and as a text simulator.

A bitboard has nine bits in reading order. Three in a line is looked up in a table of the 512 sets of squares.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from numba import njit

from ..simulator import TERMINAL
from .board import BoardGame, BoardState, after_move, movers_first, row_texts
from .kernels import CompiledRules, below, next_random, nth_bit, popcount

_BOARD: Final = 0b111_111_111
_LINES: Final = (0b111, 0b111_000, 0b111_000_000, 0b1_001_001, 0b10_010_010, 0b100_100_100, 0b100_010_001, 0b1_010_100)
_HAS_LINE: Final = np.array([any(stones & line == line for line in _LINES) for stones in range(512)])
_LINE_OF: Final = _HAS_LINE.tolist()
_SQUARES: Final = ("1", "2", "3", "4", "5", "6", "7", "8", "9")
_LEGAL: Final = [tuple(text for i, text in enumerate(_SQUARES) if not taken >> i & 1) for taken in range(512)]
_ROW_TEXTS: Final = row_texts(3, ("x", "o"))


@njit(cache=True)
def _legal(state: tuple[int, int], actions: Any) -> int:
    own, other = state
    free = _BOARD & ~(own | other)
    count = 0
    for square in range(9):
        if (free >> square) & 1:
            actions[count] = square
            count += 1
    return count


@njit(cache=True)
def _step(state: tuple[int, int], action: int) -> tuple[tuple[int, int], float, bool]:
    own, other = state
    own |= 1 << action
    if _HAS_LINE[own]:
        return (other, own), 1.0, True
    return (other, own), 0.0, (own | other) == _BOARD


@njit(cache=True)
def _rollout(state: tuple[int, int], random: int) -> tuple[float, int]:
    own, other = state
    free = _BOARD & ~(own | other)
    value = 1.0
    while free:
        random, bits = next_random(random)
        stone = nth_bit(free, below(bits, popcount(free)))
        own |= stone
        if _HAS_LINE[own]:
            return value, random
        free ^= stone
        own, other = other, own
        value = -value
    return 0.0, random


RULES: Final = CompiledRules(
    name="tic_tac_toe",
    players=2,
    words=2,
    max_actions=9,
    max_depth=9,
    legal=_legal,
    step=_step,
    rollout=_rollout,
    encode=movers_first,
    action_text=_SQUARES.__getitem__,
)


class TicTacToe(BoardGame):
    """
    ## Description

    Two players put stones on nine squares in turn; three in a line win. With perfect play it is a draw.

    ## Action Space

    Text: the number of a free square, `1` to `9` in reading order. Anything else leaves the state with the same player,
    who is told so; `max_invalid` in a row forfeit the game.

    ## Observation Space

    Text: who the reader is and who moves, and the three rows (`x` player 0, `o` player 1, `.` empty). As numbers: int8
    `[2, 3, 3]`, own and other stones, row 0 the first.

    ## Rewards

    1 for the winner and −1 for the loser at the end, 0 for a draw.

    ## Starting State

    The empty board; all seeds start alike.

    ## Episode End

    A line of three, a full board, or a forfeit. Never truncated.

    ## Information

    - `success`: player 0 won
    - `invalid_action`: whether the last action was none
    - `winner`: 0, 1, or −1 for nobody

    ## Arguments

    - `max_invalid` (3): invalid actions in a row that forfeit the game
    - `invalid_loses` (`True`, nothing else): the option of all games by which invalid actions lose, as they do here

    >>> game = TicTacToe()
    >>> state = game.step(game.step(game.reset(seed=0), "5"), "1")
    >>> print(game.observation(state))
    Tic-tac-toe. You are x: three in a line win. Your move.
    o . .
    . x .
    . . .
    >>> game.step(state, "5").invalid > 0
    True

    ## Version History

    - v0: first version

    ## Sources

    Rules as in OpenSpiel's `tic_tac_toe`.
    """

    title = "Tic-tac-toe."
    goals = ("three in a line win.", "three in a line win.")
    grammar = "a move is the number of a square, 1 to 9 in reading order"
    codes = {text: code for code, text in enumerate(_SQUARES)}  # noqa: RUF012 - never changed
    rows = 3
    columns = stride = 3
    rules = RULES

    def legal_actions(self, state: BoardState) -> Sequence[str]:
        return _LEGAL[state.first | state.second] if state.mover >= 0 else ()

    def play(self, state: BoardState, code: int) -> BoardState | None:
        first, second, mover, _, _, _, _ = state
        stone = 1 << code
        if (first | second) & stone:
            return None
        if mover == 0:
            first |= stone
            won = _LINE_OF[first]
        else:
            second |= stone
            won = _LINE_OF[second]
        return after_move(state, first, second, won, won or first | second == _BOARD)

    def board(self, state: BoardState) -> str:
        texts = _ROW_TEXTS
        x, o = state.first, state.second
        return f"{texts[x & 7][o & 7]}\n{texts[x >> 3 & 7][o >> 3 & 7]}\n{texts[x >> 6][o >> 6]}"

    def optimal_values(self, state: BoardState) -> dict[str, float]:
        """What each legal action is worth to the player to move where both play perfectly: 1, 0 or −1."""
        return {action: _value_of_move(state._replace(invalid=0), action) for action in self.legal_actions(state)}

    def svg(self, state: BoardState) -> str:
        """The position as an SVG picture, the first row highest."""
        return super().svg(state._replace(first=_flipped(state.first), second=_flipped(state.second)))


def _flipped(bits: int) -> int:
    return (bits & 7) << 6 | bits & 56 | bits >> 6


@cache
def _value(state: BoardState) -> float:
    """What perfect play gives the player to move."""
    return max(_value_of_move(state, action) for action in _GAME.legal_actions(state))


def _value_of_move(state: BoardState, action: str) -> float:
    after = _GAME.step(state, action)
    over = _GAME.current_player(after) == TERMINAL
    return _GAME.rewards(after)[state.mover] if over else -_value(after)


_GAME: Final = TicTacToe()
