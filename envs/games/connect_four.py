"""Connect four, 7 columns by 6 rows: rules on bitboards, compiled and as a text simulator.

A bitboard has a byte a row, the lowest row in the lowest byte, and a zero as the eighth bit of each row, so that a
line of four is four ones at a distance of 1, 7, 8 or 9. The squares that can be played are the empty ones above a stone
or the floor.
"""

from collections.abc import Sequence
from typing import Any, Final

from numba import njit

from .board import BoardGame, BoardState, after_move, movers_first, row_texts
from .kernels import CompiledRules, below, four_in_line, next_random

_FLOOR: Final = 0x7F
_BOARD: Final = 0x7F7F7F7F7F7F
_COLUMN: Final = 0x010101010101
_TOP_ROW: Final = 40  # the lowest bit of the highest row
_COLUMNS: Final = ("1", "2", "3", "4", "5", "6", "7")
_LEGAL: Final = [tuple(text for c, text in enumerate(_COLUMNS) if not top >> c & 1) for top in range(128)]
_ROW_TEXTS: Final = row_texts(7, ("x", "o"))


_four = four_in_line((1, 7, 8, 9))


def has_four(stones: int) -> bool:
    """Whether four stones of a bitboard (an int without sign) are in a row."""
    for distance in (8, 1, 7, 9):
        pairs = stones & stones >> distance
        if pairs & pairs >> 2 * distance:
            return True
    return False


@njit(cache=True)
def _legal(state: tuple[int, int], actions: Any) -> int:
    own, other = state
    top = (own | other) >> _TOP_ROW
    count = 0
    for column in range(7):
        if not (top >> column) & 1:
            actions[count] = column
            count += 1
    return count


@njit(cache=True)
def _step(state: tuple[int, int], action: int) -> tuple[tuple[int, int], float, bool]:
    own, other = state
    taken = own | other
    stone = ((taken << 8) | _FLOOR) & ~taken & (_COLUMN << action)
    own |= stone
    if _four(own) != 0:
        return (other, own), 1.0, True
    return (other, own), 0.0, (taken | stone) == _BOARD


@njit(cache=True)
def _rollout(state: tuple[int, int], random: int) -> tuple[float, int]:
    own, other = state
    taken = own | other
    columns = 0  # those that are not full, four bits each: no step of the loop waits for the board before it
    count = 0
    for column in range(7):
        if not (taken >> (_TOP_ROW + column)) & 1:
            columns |= column << (4 * count)
            count += 1
    value = 1.0
    while count:
        random, bits = next_random(random)
        place = below(bits, count) * 4
        column = (columns >> place) & 15
        stone = ((taken << 8) | _FLOOR) & ~taken & (_COLUMN << column)
        own |= stone
        taken |= stone
        if _four(own) != 0:
            return value, random
        if stone >> _TOP_ROW:  # full: the last column takes its place
            count -= 1
            columns ^= (column ^ ((columns >> (4 * count)) & 15)) << place
        own, other = other, own
        value = -value
    return 0.0, random


RULES: Final = CompiledRules(
    name="connect_four",
    players=2,
    words=2,
    max_actions=7,
    max_depth=42,
    legal=_legal,
    step=_step,
    rollout=_rollout,
    encode=movers_first,
    action_text=_COLUMNS.__getitem__,
)


class ConnectFour(BoardGame):
    """
    ## Description

    Two players drop stones into seven columns of six squares; a stone falls onto the highest one of its column. The
    first to have four in a row, across, upright or slanting, wins; a full board without is a draw. With perfect play
    the first player wins.

    ## Action Space

    Text: the number of a column that is not full, `1` to `7` from the left. Anything else leaves the state with the
    same player, who is told so; `max_invalid` in a row forfeit the game.

    ## Observation Space

    Text: who the reader is and who moves, the six rows (`x` player 0, `o` player 1, `.` empty), the columns' numbers.
    As numbers: int8 `[2, 6, 7]`, own and other stones, row 0 lowest.

    ## Rewards

    1 for the winner and −1 for the loser at the end, 0 for a draw.

    ## Starting State

    The empty board; all seeds start alike.

    ## Episode End

    A line of four, a full board, or a forfeit. Never truncated.

    ## Information

    - `success`: player 0 won
    - `invalid_action`: whether the last action was none
    - `winner`: 0, 1, or −1 for nobody

    ## Arguments

    - `max_invalid` (3): invalid actions in a row that forfeit the game
    - `invalid_loses` (`True`, nothing else): the option of all games by which invalid actions lose, as they do here

    >>> game = ConnectFour()
    >>> state = game.reset(seed=0)
    >>> for column in ("4", "4", "3"):
    ...     state = game.step(state, column)
    >>> print(game.observation(state, player=1))
    Connect four. You are o: four in a row win. Your move.
    . . . . . . .
    . . . . . . .
    . . . . . . .
    . . . . . . .
    . . . o . . .
    . . x x . . .
    1 2 3 4 5 6 7

    ## Version History

    - v0: first version

    ## Sources

    Rules as in OpenSpiel's `connect_four`; solved by Allis (1988) and Allen (1988).
    """

    title = "Connect four."
    goals = ("four in a row win.", "four in a row win.")
    grammar = "a move is the number of a column, 1 to 7"
    codes = {text: code for code, text in enumerate(_COLUMNS)}  # noqa: RUF012 - never changed
    rows = 6
    columns = 7
    stride = 8
    rules = RULES

    def legal_actions(self, state: BoardState) -> Sequence[str]:
        return _LEGAL[(state.first | state.second) >> _TOP_ROW] if state.mover >= 0 else ()

    def play(self, state: BoardState, code: int) -> BoardState | None:
        first, second, mover, _, _, _, _ = state
        taken = first | second
        stone = ((taken << 8) | _FLOOR) & ~taken & (_COLUMN << code)
        if not stone:
            return None
        if mover == 0:
            first |= stone
            won = has_four(first)
        else:
            second |= stone
            won = has_four(second)
        return after_move(state, first, second, won, won or taken | stone == _BOARD)

    def board(self, state: BoardState) -> str:
        texts = _ROW_TEXTS
        a, b, c, d, e, f = state.first.to_bytes(6, "big")
        g, h, i, j, k, m = state.second.to_bytes(6, "big")
        return (
            f"{texts[a][g]}\n{texts[b][h]}\n{texts[c][i]}\n{texts[d][j]}\n{texts[e][k]}\n{texts[f][m]}\n1 2 3 4 5 6 7"
        )
