"""Hex on a rhombus of up to 11 by 11 cells: rules compiled and as a text simulator.

Each state keeps, for each player, the stones that are linked to that player's first edge (top; left). A stone changes
them only if it touches that edge or a linked stone, and then the links spread through the player's other stones; who
links to the second edge has won. A state also carries its drawing (350 characters): a step puts a mark into the one
before, since drawing 121 cells anew takes longer than the rest of it. A board of 121 cells takes two words of the
kernels.

A roll-out fills the board at random and looks once who has linked the edges: exactly one player has, and whoever has on
the full board would have been the first to, so that the value is that of playing random moves to the end of the game.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import compress
from typing import Any, Final

import numpy as np
from numba import njit

from ..arguments import checked_options
from ..simulator import TERMINAL
from .board import NOBODY, BoardGame, BoardState, new_state, picture, texts_of_ones
from .kernels import CompiledRules, below, lowest_bit, next_random, nth_bit, popcount

_SMALLEST: Final = 2
_LARGEST: Final = 11
_LOW: Final = 61  # cells in the low word; the others are in the high one
_LOW_MASK: Final = (1 << _LOW) - 1
_FREE: Final = bytes.maketrans(b".xo", b"\1\0\0")
_NO_CELLS: Final = b"\n abcdefghijk0123456789"  # what a drawing has beside the cells
_SIDES: Final = ((0, 1), (0, -1), (1, 0), (-1, 0), (-1, 1), (1, -1))


def _neighbours(size: int) -> list[int]:
    """The neighbours of each cell, as a set of bits."""
    sets = []
    for row in range(size):
        for column in range(size):
            near = [(row + r, column + c) for r, c in _SIDES]
            sets.append(sum(1 << r * size + c for r, c in near if 0 <= r < size and 0 <= c < size))
    return sets


def _edges(size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(first, second) edge of each player, as sets of bits: top and bottom, left and right."""
    row = (1 << size) - 1
    column = sum(1 << size * r for r in range(size))
    return (row, row << size * (size - 1)), (column, column << size - 1)


def _words(bits: int) -> tuple[int, int]:
    return bits & _LOW_MASK, bits >> _LOW


def _tables() -> tuple[np.ndarray, np.ndarray]:
    """By size: the words of each cell's neighbours, int64 ``[size, cell, 2]``; of the edges, int64
    ``[size, player, edge, 2]``."""
    near = np.zeros((_LARGEST + 1, _LARGEST**2, 2), np.int64)
    edges = np.zeros((_LARGEST + 1, 2, 2, 2), np.int64)
    for size in range(_SMALLEST, _LARGEST + 1):
        for cell, bits in enumerate(_neighbours(size)):
            near[size, cell] = _words(bits)
        for player, pair in enumerate(_edges(size)):
            for edge, bits in enumerate(pair):
                edges[size, player, edge] = _words(bits)
    return near, edges


_NEAR, _EDGES = _tables()
_State = tuple[int, int, int, int, int, int, int, int, int, int]


@njit(cache=True)
def _spread(
    size: int, low: int, high: int, linked_low: int, linked_high: int, new_low: int, new_high: int
) -> tuple[int, int]:
    """The linked stones after the stones ``new`` among those of ``low``, ``high`` became linked."""
    linked_low |= new_low
    linked_high |= new_high
    while new_low | new_high:
        if new_low:
            cell = lowest_bit(new_low)
            new_low &= new_low - 1
        else:
            cell = lowest_bit(new_high) + _LOW
            new_high &= new_high - 1
        more_low = _NEAR[size, cell, 0] & low & ~linked_low
        more_high = _NEAR[size, cell, 1] & high & ~linked_high
        linked_low |= more_low
        linked_high |= more_high
        new_low |= more_low
        new_high |= more_high
    return linked_low, linked_high


@njit(cache=True)
def _legal(state: _State, actions: Any) -> int:
    own_low, own_high, _, _, other_low, other_high, _, _, _, size = state
    low = own_low | other_low
    high = own_high | other_high
    count = 0
    for cell in range(size * size):
        taken = (low >> cell) & 1 if cell < _LOW else (high >> (cell - _LOW)) & 1
        if not taken:
            actions[count] = cell
            count += 1
    return count


@njit(cache=True)
def _step(state: _State, action: int) -> tuple[_State, float, bool]:
    low, high, linked_low, linked_high, other_low, other_high, other_linked_low, other_linked_high, mover, size = state
    stone_low: Any = np.int64(1) << action if action < _LOW else np.int64(0)
    stone_high: Any = np.int64(0) if action < _LOW else np.int64(1) << (action - _LOW)
    low |= stone_low
    high |= stone_high
    first, second = _EDGES[size, mover, 0], _EDGES[size, mover, 1]
    touches = (stone_low & first[0]) | (stone_high & first[1])
    touches |= (_NEAR[size, action, 0] & linked_low) | (_NEAR[size, action, 1] & linked_high)
    if touches:
        linked_low, linked_high = _spread(size, low, high, linked_low, linked_high, stone_low, stone_high)
    won = ((linked_low & second[0]) | (linked_high & second[1])) != 0
    after = (
        other_low, other_high, other_linked_low, other_linked_high,
        low, high, linked_low, linked_high, 1 - mover, size,
    )  # fmt: skip
    return after, 1.0 if won else 0.0, won


@njit(cache=True)
def _rollout(state: _State, random: int) -> tuple[float, int]:
    low, high, linked_low, linked_high, other_low, other_high, _, _, mover, size = state
    cells = size * size
    free_low = ~(low | other_low) & ((np.int64(1) << min(cells, _LOW)) - 1)
    free_high = ~(high | other_high) & ((np.int64(1) << max(cells - _LOW, 0)) - 1)
    count = popcount(free_low) + popcount(free_high)
    wanted = (count + 1) // 2  # the mover's share of the free cells
    random, bits = next_random(random)
    mine_low = free_low & bits  # half of them by coin tosses, then as many more or less as are missing or too many
    random, bits = next_random(random)
    mine_high = free_high & bits
    number = popcount(mine_low) + popcount(mine_high)
    while number != wanted:
        few = number < wanted
        from_low = free_low & ~mine_low if few else mine_low
        from_high = free_high & ~mine_high if few else mine_high
        random, bits = next_random(random)
        in_low = popcount(from_low)
        place = below(bits, in_low + popcount(from_high))
        if place < in_low:
            mine_low ^= nth_bit(from_low, place)
        else:
            mine_high ^= nth_bit(from_high, place - in_low)
        number += 1 if few else -1
    low |= mine_low
    high |= mine_high
    first, second = _EDGES[size, mover, 0], _EDGES[size, mover, 1]
    linked_low, linked_high = _spread(
        size, low, high, 0, 0, (first[0] & low) | linked_low, (first[1] & high) | linked_high
    )
    won = ((linked_low & second[0]) | (linked_high & second[1])) != 0
    return 1.0 if won else -1.0, random


def _cell_text(size: int, cell: int) -> str:
    row, column = divmod(cell, size)
    return "abcdefghijk"[column] + str(row + 1)


@lru_cache(maxsize=_LARGEST)
def _actions_by_byte(size: int) -> list[list[tuple[str, ...]]]:
    """The texts of the free cells, for ``texts_of_ones``."""
    tables = []
    for start in range(0, 192, 8):
        cells = [(bit, _cell_text(size, start + bit)) for bit in range(8) if start + bit < size * size]
        tables.append([tuple(text for bit, text in cells if free >> bit & 1) for free in range(256)])
    return tables


def _empty_drawing(size: int) -> str:
    width = len(str(size))  # of the rows' numbers
    lines = [f"{' ' * row}{row + 1:>{width}} {' '.join('.' * size)}" for row in range(size)]
    return "\n".join([" " * (width + 1) + " ".join("abcdefghijk"[:size]), *lines])


@lru_cache(maxsize=_LARGEST)
def rules_of(size: int) -> CompiledRules:
    """The compiled rules for a board of ``size`` by ``size`` cells."""

    def encode(state: BoardState) -> tuple[int, ...]:
        first = (*_words(state.first), *_words(state.links[0]))
        second = (*_words(state.second), *_words(state.links[1]))
        return (*second, *first, 1, size) if state.mover == 1 else (*first, *second, 0, size)

    texts = tuple(_cell_text(size, cell) for cell in range(size * size))
    return CompiledRules(
        name="hex",
        players=2,
        words=10,
        max_actions=size * size,
        max_depth=size * size,
        legal=_legal,
        step=_step,
        rollout=_rollout,
        encode=encode,
        action_text=texts.__getitem__,
    )


class Hex(BoardGame):
    """
    ## Description

    Two players put stones on the cells of a rhombus in turn. `x` wins by a chain of stones from the top edge to the
    bottom, `o` by one from left to right; one of them always does, so there are no draws. The first player wins with
    perfect play.

    ## Action Space

    Text: a free cell, letter of its column and number of its row, `c2`. Anything else leaves the state with the same
    player, who is told so; `max_invalid` in a row forfeit the game.

    ## Observation Space

    Text: who the reader is and who moves, and the rows, each half a cell to the right of the one above (`x` player 0,
    `o` player 1, `.` empty). As numbers: int8 `[2, size, size]`, own and other stones, row 0 at the top.

    ## Rewards

    1 for the winner and −1 for the loser at the end.

    ## Starting State

    The empty board; all seeds start alike. There is no swap of sides after the first move.

    ## Episode End

    A chain from edge to edge, or a forfeit. Never truncated.

    ## Information

    - `success`: player 0 won
    - `invalid_action`: whether the last action was none
    - `winner`: 0, 1, or −1 while nobody won

    ## Arguments

    - `size` (11): rows and columns, 2 to 11
    - `max_invalid` (3): invalid actions in a row that forfeit the game
    - `invalid_loses` (`True`, nothing else): the option of all games by which invalid actions lose, as they do here

    >>> game = Hex(size=3)
    >>> state = game.step(game.step(game.reset(seed=0), "b2"), "a1")
    >>> print(game.observation(state))
    Hex. You are x: link the top edge to the bottom. Your move.
      a b c
    1 o . .
     2 . x .
      3 . . .

    ## Version History

    - v0: first version

    ## Sources

    Piet Hein, 1942; John Nash, 1948. Rules as in OpenSpiel's `hex`.
    """

    title = "Hex."
    goals = ("link the top edge to the bottom.", "link the left edge to the right.")
    grammar = "a move is a cell, the letter of its column and the number of its row, such as c2"

    def __init__(self, size: int = 11, max_invalid: int = 3, invalid_loses: bool = True) -> None:
        super().__init__(max_invalid, invalid_loses)
        if not _SMALLEST <= size <= _LARGEST:
            raise ValueError(f"size is {size}; expected {_SMALLEST} to {_LARGEST} rows and columns")
        self.size = self.rows = self.columns = self.stride = size
        self.codes = {_cell_text(size, cell): cell for cell in range(size * size)}
        self._cells = tuple(enumerate(self.codes))
        self._near = _neighbours(size)
        self._ends = _edges(size)
        self._board = (1 << size * size) - 1
        self._actions = _actions_by_byte(size)
        self._empty = _empty_drawing(size)
        self._places = [place for place, mark in enumerate(self._empty) if mark == "."]

    @property
    def rules(self) -> CompiledRules:  # type: ignore[override]
        return rules_of(self.size)

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> BoardState:
        checked_options(self, options)
        return BoardState(drawing=self._empty)

    def legal_actions(self, state: BoardState) -> Sequence[str]:
        if state.mover < 0:
            return ()
        return texts_of_ones(self._actions, self._board ^ (state.first | state.second))

    def numbered_actions(self, state: BoardState) -> tuple[bytes, dict[int, str]]:
        """Which of ``all_actions`` are legal, a byte each, and their texts by index: read off the drawing."""
        free = state.drawing.encode().translate(_FREE, _NO_CELLS) if state.mover >= 0 else b""
        return free.ljust(len(self._cells), b"\0"), dict(compress(self._cells, free))

    def play(self, state: BoardState, code: int) -> BoardState | None:
        first, second, mover, _, _, links, drawing = state
        stone = 1 << code
        if (first | second) & stone:
            return None
        if mover == 0:
            own = first = first | stone
        else:
            own = second = second | stone
        linked, won = links[mover], False
        start, end = self._ends[mover]
        if stone & start or self._near[code] & linked:
            linked = self._spread(own, linked | stone, code)
            links = (links[0], linked) if mover else (linked, links[1])
            won = linked & end != 0
        place = self._places[code]
        drawing = drawing[:place] + self.marks[mover] + drawing[place + 1 :]
        if won:
            return new_state((first, second, TERMINAL, mover, 0, links, drawing))
        return new_state((first, second, 1 - mover, NOBODY, 0, links, drawing))

    def board(self, state: BoardState) -> str:
        return state.drawing

    def svg(self, state: BoardState) -> str:
        """The position as an SVG picture, a rhombus of squares with row 1 at the top."""
        return picture(self.size, self.size, self.stones(state), slanted=True)

    def _spread(self, stones: int, linked: int, cell: int) -> int:
        """The stones linked to an edge, among ``stones``, after that on ``cell`` came to be one of them."""
        near = self._near
        new = [cell]
        while new:
            more = near[new.pop()] & stones & ~linked
            linked |= more
            while more:
                new.append((more & -more).bit_length() - 1)
                more &= more - 1
        return linked
