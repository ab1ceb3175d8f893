"""Breakthrough on 8 by 8 squares: rules on bitboards, compiled and as a text simulator.

A bitboard has a byte a rank, rank 1 in the lowest byte, file a in the lowest bit. The targets of the moves straight on
and of those slanting to either side are three masks; a random move takes a random bit of their disjoint union.

A state carries its drawing (160 characters), as in hex: a step puts two marks into the one before. States that are made
by hand have none, and are drawn when they are read.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from numba import njit

from ..arguments import checked_options
from .board import BoardGame, BoardState, after_move, texts_of_ones
from .kernels import CompiledRules, below, lowest_bit, next_random, nth_bit, popcount, shifted_right

_WHITE: Final = 0xFFFF
_BLACK: Final = 0xFFFF << 48
_WORD: Final = (1 << 64) - 1
_NOT_A: Final = 0xFEFEFEFEFEFEFEFE
_NOT_H: Final = 0x7F7F7F7F7F7F7F7F
_NOT_FILE_A: Any = np.int64(_NOT_A - (1 << 64))
_NOT_FILE_H: Any = np.int64(_NOT_H)
_RANK_8: Any = np.int64((0xFF << 56) - (1 << 64))
_RANK_1: Any = np.int64(0xFF)


@njit(cache=True)
def _targets(white: int, black: int, mover: int) -> tuple[int, int, int]:
    """Where the mover's stones can go straight on, to the side of file a, and to that of file h."""
    empty = ~(white | black)
    if mover == 0:
        return (
            (white << 8) & empty,
            (white << 7) & _NOT_FILE_H & ~white,
            (white << 9) & _NOT_FILE_A & ~white,
        )
    return (
        shifted_right(black, 8) & empty,
        shifted_right(black, 9) & _NOT_FILE_H & ~black,
        shifted_right(black, 7) & _NOT_FILE_A & ~black,
    )


@njit(cache=True)
def _moved(white: int, black: int, mover: int, source: int, target: int) -> tuple[int, int, bool]:
    """(white, black, whether the mover has won) after a move between two squares, given as single bits."""
    if mover == 0:
        white = (white ^ source) | target
        black &= ~target
        return white, black, (target & _RANK_8) != 0 or black == 0
    black = (black ^ source) | target
    white &= ~target
    return white, black, (target & _RANK_1) != 0 or white == 0


@njit(cache=True)
def _legal(state: tuple[int, int, int], actions: Any) -> int:
    white, black, mover = state
    straight, left, right = _targets(white, black, mover)
    ahead = 8 - 16 * mover
    count = 0
    while straight:
        target = lowest_bit(straight)
        actions[count] = (target - ahead) << 6 | target
        straight &= straight - 1
        count += 1
    while left:
        target = lowest_bit(left)
        actions[count] = (target - ahead + 1) << 6 | target
        left &= left - 1
        count += 1
    while right:
        target = lowest_bit(right)
        actions[count] = (target - ahead - 1) << 6 | target
        right &= right - 1
        count += 1
    return count


@njit(cache=True)
def _step(state: tuple[int, int, int], action: int) -> tuple[tuple[int, int, int], float, bool]:
    white, black, mover = state
    source = np.int64(1) << (action >> 6)
    target = np.int64(1) << (action & 63)
    white, black, won = _moved(white, black, mover, source, target)
    return (white, black, 1 - mover), 1.0 if won else 0.0, won


@njit(cache=True)
def _random_move(white: int, black: int, mover: int, bits: int) -> tuple[int, int, bool]:
    straight, left, right = _targets(white, black, mover)
    straights = popcount(straight)
    lefts = popcount(left)
    n = below(bits, straights + lefts + popcount(right))
    mask, back = straight, 8
    if n >= straights:
        n -= straights
        mask, back = left, 7 + 2 * mover
        if n >= lefts:
            n -= lefts
            mask, back = right, 9 - 2 * mover
    target = nth_bit(mask, n)
    source = shifted_right(target, back) if mover == 0 else target << back
    return _moved(white, black, mover, source, target)


@njit(cache=True)
def _rollout(state: tuple[int, int, int], random: int) -> tuple[float, int]:
    white, black, mover = state
    value = 1.0
    if mover == 1:
        random, bits = next_random(random)
        white, black, won = _random_move(white, black, 1, bits)
        if won:
            return value, random
        value = -value
    while True:  # two moves a turn of the loop, so that each direction has code of its own
        random, bits = next_random(random)
        white, black, won = _random_move(white, black, 0, bits)
        if won:
            return value, random
        random, bits = next_random(random)
        white, black, won = _random_move(white, black, 1, bits)
        if won:
            return -value, random


def _encode(state: BoardState) -> tuple[int, ...]:
    return _signed(state.first), _signed(state.second), max(state.mover, 0)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def _square(place: int) -> str:
    return "abcdefgh"[place & 7] + str((place >> 3) + 1)


@cache
def _action_text(code: int) -> str:
    """One object a move, wherever it stands: few enough for the processor's cache, and looked up by identity."""
    return _square(code >> 6) + _square(code & 63)


def _codes() -> dict[str, int]:
    """Every move of White, then every move of Black."""
    codes = {}
    for up in (1, -1):
        for source in range(64):
            for side in (0, -1, 1):
                rank, file = (source >> 3) + up, (source & 7) + side
                if 0 <= rank < 8 and 0 <= file < 8:
                    code = source << 6 | rank << 3 | file
                    codes[_action_text(code)] = code
    return codes


def _texts_by_targets(*backs: int) -> list[list[tuple[str, ...]]]:
    """The texts of the moves onto the squares of a set within one rank, for stones that come from so many squares back;
    all ranks for the first of ``backs``, then for the next."""
    tables: list[list[tuple[str, ...]]] = []
    for back in backs:
        for rank in range(0, 64, 8):
            sets = ([rank + file for file in range(8) if targets >> file & 1] for targets in range(256))
            tables.append([tuple(_action_text((p - back) << 6 | p) for p in s if 0 <= p - back < 64) for s in sets])
    return tables


def _ways(codes: Iterable[int]) -> dict[int, tuple[int, int, int, int, bool, bool, int, int]]:
    """By a move's code: who makes it; the bit of the square from, those of both, that of the square to; whether it goes
    straight on, and to the last rank; where the higher of the squares is in a drawing, and the lower."""
    ways = {}
    for code in codes:
        places = code >> 6, code & 63
        source, target = (1 << place for place in places)
        upper, lower = (18 * (7 - (place >> 3)) + 2 * (place & 7) + 2 for place in sorted(places, reverse=True))
        straight, far = (places[0] - places[1]) % 8 == 0, not 7 < places[1] < 56
        ways[code] = int(target < source), source, source | target, target, straight, far, upper, lower
    return ways


def _drawing(white: int, black: int) -> str:
    lines = []
    for rank in range(7, -1, -1):
        bits = [1 << 8 * rank + file for file in range(8)]
        lines.append(f"{rank + 1} {' '.join('w' if white & bit else 'b' if black & bit else '.' for bit in bits)}\n")
    return "".join(lines) + "  a b c d e f g h"


_CODES: Final = _codes()
_WAYS: Final = _ways(_CODES.values())
_LEFT_BEHIND: Final = (("w", "."), (".", "b"))  # on the higher square and on the lower, by who moved
# Targets straight on, to the side of file a and to that of file h are three words of one number: a multiplication makes
# three shifted copies of the stones (Black's a word too high, since they move down), a mask cuts what left the board.
# The copies do not overlap, as nobody who is to move has a stone on its last rank.
_THRICE: Final = 1 | 1 << 64 | 1 << 128
_SHIFTS: Final = (
    (1 << 8 | 1 << 64 + 7 | 1 << 128 + 9, 0, _WORD | _NOT_H << 64 | _NOT_A << 128),
    (1 << 64 - 8 | 1 << 128 - 9 | 1 << 192 - 7, 64, _WORD >> 8 | (_NOT_H >> 8) << 64 | (_NOT_A >> 8) << 128),
)
_TEXTS: Final = tuple(_texts_by_targets(*backs) for backs in ((8, 7, 9), (-8, -9, -7)))
_START: Final = BoardState(_WHITE, _BLACK, drawing=_drawing(_WHITE, _BLACK))

RULES: Final = CompiledRules(
    name="breakthrough",
    players=2,
    words=3,
    max_actions=48,
    max_depth=208,
    legal=_legal,
    step=_step,
    rollout=_rollout,
    encode=_encode,
    action_text=_action_text,
)


class Breakthrough(BoardGame):
    """
    ## Description

    Sixteen pawns a side on a chess board, two ranks each. A pawn moves one square straight on or slanting forward onto
    an empty square; slanting, it also takes. The first to reach the far rank, or to take all, wins; there are no draws.

    ## Action Space

    Text: the squares from and to, `a2a3`; taking is written alike. Anything else leaves the state with the same player,
    who is told so; `max_invalid` in a row forfeit the game.

    ## Observation Space

    Text: who the reader is and who moves, the ranks from 8 to 1 (`w` player 0, who moves up; `b` player 1; `.` empty),
    the files' letters. As numbers: int8 `[2, 8, 8]`, own and other pawns, row 0 rank 1.

    ## Rewards

    1 for the winner and −1 for the loser at the end.

    ## Starting State

    Both armies on their two ranks, White to move; all seeds start alike.

    ## Episode End

    A pawn on the far rank, no pawn left, or a forfeit; after 208 moves at the latest. Never truncated.

    ## Information

    - `success`: player 0 won
    - `invalid_action`: whether the last action was none
    - `winner`: 0, 1, or −1 while nobody won

    ## Arguments

    - `max_invalid` (3): invalid actions in a row that forfeit the game
    - `invalid_loses` (`True`, nothing else): the option of all games by which invalid actions lose, as they do here

    >>> game = Breakthrough()
    >>> state = game.step(game.reset(seed=0), "a2b3")
    >>> print(game.observation(state, player=1))
    Breakthrough. You are b: reach rank 1. Your move.
    8 b b b b b b b b
    7 b b b b b b b b
    6 . . . . . . . .
    5 . . . . . . . .
    4 . . . . . . . .
    3 . w . . . . . .
    2 . w w w w w w w
    1 w w w w w w w w
      a b c d e f g h

    ## Version History

    - v0: first version

    ## Sources

    Dan Troyka, 2000. Rules as in OpenSpiel's `breakthrough`, where the player at the top moves first.
    """

    title = "Breakthrough."
    goals = ("reach rank 8.", "reach rank 1.")
    marks = ("w", "b")
    grammar = "a move is the squares from and to, such as a2a3"
    codes = _CODES
    rows = 8
    columns = stride = 8
    rules = RULES

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> BoardState:
        checked_options(self, options)
        return _START

    def legal_actions(self, state: BoardState) -> Sequence[str]:
        white, black, mover, _, _, _, _ = state
        if mover < 0:
            return ()
        own, other = (black, white) if mover else (white, black)
        copies, back, squares = _SHIFTS[mover]
        targets = own * copies >> back & squares
        return texts_of_ones(_TEXTS[mover], targets ^ targets & (own * _THRICE | other))

    def play(self, state: BoardState, code: int) -> BoardState | None:
        white, black, mover, _, _, _, drawing = state
        side, source, squares, target, straight, far, upper, lower = _WAYS[code]
        own, other = (black, white) if mover else (white, black)
        if side != mover or own & squares != source:
            return None
        if other & target:
            if straight:
                return None
            other ^= target
        own ^= squares
        won = far or not other
        if drawing:
            above, below = _LEFT_BEHIND[mover]
            drawing = f"{drawing[:upper]}{above}{drawing[upper + 1 : lower]}{below}{drawing[lower + 1 :]}"
        white, black = (other, own) if mover else (own, other)
        return after_move(state, white, black, won, won, drawing)

    def board(self, state: BoardState) -> str:
        return state.drawing or _drawing(state.first, state.second)
