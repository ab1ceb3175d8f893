"""Breakthrough on 8 by 8 squares: rules on bitboards, compiled and as a text simulator.

A bitboard has a byte a rank, rank 1 in the lowest byte, file a in the lowest bit. The targets of the moves straight on
and of those slanting to either side are three masks; a random move takes a random bit of their disjoint union.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numba import njit

from .board import BoardGame, BoardState, after_move, row_texts
from .kernels import CompiledRules, below, lowest_bit, next_random, nth_bit, popcount, shifted_right

_WHITE: Final = 0xFFFF
_BLACK: Final = 0xFFFF << 48
_WORD: Final = (1 << 64) - 1
_NOT_FILE_A: Any = np.int64(0xFEFEFEFEFEFEFEFE - (1 << 64))
_NOT_FILE_H: Any = np.int64(0x7F7F7F7F7F7F7F7F)
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


def _action_text(code: int) -> str:
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


def _texts_by_targets(back: int) -> list[list[tuple[str, ...]]]:
    """The texts of the moves onto the squares of a set within one rank, for stones that come from ``back`` before."""
    texts: list[list[tuple[str, ...]]] = []
    for rank in range(8):
        row = []
        for targets in range(256):
            places = [8 * rank + file for file in range(8) if targets >> file & 1]
            row.append(tuple(_action_text((p - back) << 6 | p) for p in places if 0 <= p - back < 64))
        texts.append(row)
    return texts


_TEXTS: Final = tuple([ranks for b in backs for ranks in _texts_by_targets(b)] for backs in ((8, 7, 9), (-8, -9, -7)))
_ROW_TEXTS: Final = row_texts(8, ("w", "b"))
_NOT_A: Final = 0xFEFEFEFEFEFEFEFE
_NOT_H: Final = 0x7F7F7F7F7F7F7F7F
_LAST_RANKS: Final = 0xFF << 56 | 0xFF

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
    codes = _codes()
    rows = 8
    columns = stride = 8
    rules = RULES

    def reset(self, seed: int, options: Any = None) -> BoardState:
        return BoardState(_WHITE, _BLACK)

    def legal_actions(self, state: BoardState) -> Sequence[str]:
        white, black, mover = state[:3]
        if mover == 0:
            straight = (white << 8) & ~(white | black) & _WORD
            left = (white << 7) & _NOT_H & ~white
            right = (white << 9) & _NOT_A & ~white
        elif mover == 1:
            straight = black >> 8 & ~(white | black)
            left = black >> 9 & _NOT_H & ~black
            right = black >> 7 & _NOT_A & ~black
        else:
            return ()
        actions: list[str] = []
        for texts, targets in zip(
            _TEXTS[mover], (straight | left << 64 | right << 128).to_bytes(24, "little"), strict=True
        ):
            if targets:
                actions += texts[targets]
        return tuple(actions)

    def play(self, state: BoardState, code: int) -> BoardState | None:
        white, black, mover = state[0], state[1], state[2]
        source, target = 1 << (code >> 6), 1 << (code & 63)
        own, other = (black, white) if mover else (white, black)
        if not own & source or (target < source) != bool(mover) or own & target:
            return None
        if (code >> 6 ^ code) & 7 == 0 and other & target:
            return None
        own ^= source | target
        other &= ~target
        won = bool(target & _LAST_RANKS) or not other
        white, black = (other, own) if mover else (own, other)
        return after_move(state, white, black, won, won)

    def board(self, state: BoardState) -> str:
        texts = _ROW_TEXTS
        a, b, c, d, e, f, g, h = state[0].to_bytes(8, "big")
        i, j, k, m, n, o, p, q = state[1].to_bytes(8, "big")
        return (
            f"8 {texts[a << 8 | i]}\n7 {texts[b << 8 | j]}\n6 {texts[c << 8 | k]}\n5 {texts[d << 8 | m]}\n"
            f"4 {texts[e << 8 | n]}\n3 {texts[f << 8 | o]}\n2 {texts[g << 8 | p]}\n1 {texts[h << 8 | q]}\n"
            "  a b c d e f g h"
        )
