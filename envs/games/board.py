"""What the board games share: two players in turns, a winner or a draw, invalid moves, and pictures.

A state is a :class:`BoardState`: two bitboards and who is to move. An invalid action changes nothing but the count of
invalid actions in a row; ``max_invalid`` of them forfeit the game. The winner earns +1 and the loser −1 by the step
that ends the game; a draw earns 0.
"""

from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Final, NamedTuple

import numpy as np

from ..arguments import checked_options
from ..simulator import TERMINAL, Simulator
from .kernels import CompiledRules
from .wording import command

NOBODY: Final = -1
Square = tuple[int, int]
_NOT_LEGAL: Final = 1 << 16
_BITS: Final = bytes.maketrans(b"01", b"\0\1")


class BoardState(NamedTuple):
    """``first`` and ``second`` are the players' stones as bitboards; ``mover`` is the player to move, or TERMINAL;
    ``winner`` a player or NOBODY. ``invalid`` counts the invalid actions in a row that led here, with a bit beside the
    count where the last was a move of the game that is not legal here. ``links`` are hex's; ``drawing`` is the
    board as text in games where a step puts its marks into the one before (hex, breakthrough)."""

    first: int = 0
    second: int = 0
    mover: int = 0
    winner: int = NOBODY
    invalid: int = 0
    links: tuple[int, int] = (0, 0)
    drawing: str = ""


_NO_LINKS: Final = (0, 0)
# From all fields, in two thirds of the time that the class takes with its defaults.
new_state: Final = partial(tuple.__new__, BoardState)


class BoardGame(Simulator[BoardState]):
    """The parts of ``Simulator`` that do not differ between the board games.

    A subclass has ``title``, ``goals`` (what each player is after), ``marks`` (how each is written), ``grammar`` (what
    a move looks like), ``codes`` (the code of each move's text), ``rows`` and ``columns``, ``stride`` (from one row to
    the next in a bitboard), ``rules`` (compiled), and the methods without a body.
    """

    players = 2
    zero_sum = True
    never_repeats = True
    title: str
    goals: tuple[str, str]
    marks: tuple[str, str] = ("x", "o")
    grammar: str
    codes: Mapping[str, int]
    rows: int
    columns: int
    stride: int
    rules: CompiledRules
    array_range = (0.0, 1.0)

    def __init__(self, max_invalid: int = 3, invalid_loses: bool = True) -> None:
        if invalid_loses is not True:
            raise ValueError(f"invalid_loses={invalid_loses!r}; expected True: invalid actions lose a board game")
        if not 1 <= max_invalid < _NOT_LEGAL:
            raise ValueError(f"max_invalid is {max_invalid}; expected 1 or more: the invalid actions that forfeit")
        self.max_invalid = max_invalid
        self._heads = {
            (mover, player): f"{self.title} You are {self.marks[player]}: {self.goals[player]} "
            + ("Your move." if mover == player else f"{self.marks[mover]} to move.")
            for mover in (0, 1)
            for player in (0, 1)
        }

    def play(self, state: BoardState, code: int) -> BoardState | None:
        """The state after a move; None where the move is not legal."""
        raise NotImplementedError

    def board(self, state: BoardState) -> str:
        """The position as lines of text."""
        raise NotImplementedError

    def stones(self, state: BoardState) -> tuple[list[Square], list[Square]]:
        """The squares (row, column) of the two players' stones."""
        return _squares(state.first, self.stride), _squares(state.second, self.stride)

    def all_actions(self) -> Sequence[str]:
        """Every move that can ever be legal, in a fixed order."""
        return tuple(self.codes)

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> BoardState:
        checked_options(self, options)
        return BoardState()

    def current_player(self, state: BoardState) -> int:
        return state.mover

    def observation(self, state: BoardState, player: int = 0) -> str:
        mover = state.mover
        head = self._heads[mover, player] if mover >= 0 else self._ending(state, player)
        if state.invalid:
            return f"{head}\n{self.board(state)}\n{self._complaint(state)}"
        return f"{head}\n{self.board(state)}"

    def step(self, state: BoardState, action: str) -> BoardState:
        code = self.codes.get(action)
        if code is None:
            code = self.codes.get(command(action))
        if state.mover < 0:
            return state
        after = None if code is None else self.play(state, code)
        return self._refused(state, code is not None) if after is None else after

    def rewards(self, state: BoardState) -> tuple[float, ...]:
        winner = state.winner
        if winner < 0:
            return (0.0, 0.0)
        return (-1.0, 1.0) if winner else (1.0, -1.0)

    def info(self, state: BoardState) -> dict[str, Any]:
        """``success`` (player 0 won), ``invalid_action``, and ``winner``: a player, or −1 for nobody."""
        return {"success": state.winner == 0, "invalid_action": state.invalid > 0, "winner": state.winner}

    def success(self, state: BoardState, player: int) -> bool:
        """Whether ``player`` won."""
        return state.winner == player

    def position(self, state: BoardState) -> Hashable:
        return state[:4]  # stones, mover and winner, in two thirds of the time of the four names

    def array(self, state: BoardState, player: int = 0) -> np.ndarray:
        """Stones of ``player`` and of the other: int8 ``[2, rows, columns]``, row 0 the first of the squares' rows."""
        digits, shape, strides = self._planes
        own, other = (state.second, state.first) if player else (state.first, state.second)
        bits = format(own | other << strides[0], digits)[::-1].encode()  # half the time of numpy's unpackbits
        return np.ndarray(shape, np.int8, bytearray(bits.translate(_BITS)), 0, strides)

    @cached_property
    def _planes(self) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
        """The format of two bitboards as digits; shape and strides of their squares in these."""
        places = self.rows * self.stride
        return f"0{2 * places}b", (2, self.rows, self.columns), (places, self.stride, 1)

    def svg(self, state: BoardState) -> str:
        """The position as an SVG picture, row 0 lowest."""
        return picture(self.rows, self.columns, self.stones(state))

    def _refused(self, state: BoardState, known: bool) -> BoardState:
        count = invalid_count(state) + 1
        invalid = count | _NOT_LEGAL if known else count
        if count >= self.max_invalid:
            return state._replace(mover=TERMINAL, winner=1 - state.mover, invalid=invalid)
        return state._replace(invalid=invalid)

    def _complaint(self, state: BoardState) -> str:
        count = invalid_count(state)
        reason = "That move is not legal here" if state.invalid & _NOT_LEGAL else f"That was no move: {self.grammar}"
        if state.mover >= 0:
            return f"{reason}. {self.max_invalid - count} more in a row and the game is lost."
        return f"{reason}. {self.marks[1 - state.winner]} forfeits the game after {count} invalid moves in a row."

    def _ending(self, state: BoardState, player: int) -> str:
        result = "The game is drawn" if state.winner == NOBODY else "You won" if state.winner == player else "You lost"
        return f"{self.title} You are {self.marks[player]}. {result}."


def invalid_count(state: BoardState) -> int:
    """How many invalid actions in a row led to ``state``."""
    return state.invalid & (_NOT_LEGAL - 1)


def after_move(state: BoardState, first: int, second: int, won: bool, over: bool, drawing: str = "") -> BoardState:
    """The state with these stones after a legal move of ``state.mover``."""
    mover = state.mover
    if over:
        return new_state((first, second, TERMINAL, mover if won else NOBODY, 0, _NO_LINKS, drawing))
    return new_state((first, second, 1 - mover, NOBODY, 0, _NO_LINKS, drawing))


def movers_first(state: BoardState) -> tuple[int, ...]:
    """The stones as a kernel reads them: those of the player to move, then the other's."""
    return (state.second, state.first) if state.mover == 1 else (state.first, state.second)


def _squares(bits: int, stride: int) -> list[Square]:
    """The squares of a bitboard whose rows are ``stride`` bits apart."""
    return [divmod(place, stride) for place in range(bits.bit_length()) if bits >> place & 1]


def row_texts(columns: int, marks: tuple[str, str]) -> list[list[str]]:
    """The text of a row by the first player's stones in it and the second's; empty where a square has both."""

    def text(first: int, second: int) -> str:
        return " ".join(marks[0] if first >> c & 1 else marks[1] if second >> c & 1 else "." for c in range(columns))

    size = range(1 << columns)
    return [["" if first & second else text(first, second) for second in size] for first in size]


def texts_of_ones(tables: Sequence[Sequence[tuple[str, ...]]], bits: int) -> tuple[str, ...]:
    """The texts of the ones among 192 bits, the lowest first: ``tables[byte][value]``. Written out, since a loop takes
    twice as long."""
    t, b = tables, bits.to_bytes(24, "little")
    return (
        *t[0][b[0]], *t[1][b[1]], *t[2][b[2]], *t[3][b[3]], *t[4][b[4]], *t[5][b[5]],
        *t[6][b[6]], *t[7][b[7]], *t[8][b[8]], *t[9][b[9]], *t[10][b[10]], *t[11][b[11]],
        *t[12][b[12]], *t[13][b[13]], *t[14][b[14]], *t[15][b[15]], *t[16][b[16]], *t[17][b[17]],
        *t[18][b[18]], *t[19][b[19]], *t[20][b[20]], *t[21][b[21]], *t[22][b[22]], *t[23][b[23]],
    )  # fmt: skip


def picture(rows: int, columns: int, stones: tuple[list[Square], list[Square]], slanted: bool = False) -> str:
    """An SVG board with round stones, dark those of the first player. Row 0 is drawn lowest; on a slanted board (hex)
    it is drawn highest, and each row half a square to the right of the one above."""
    size = 40

    def corner(row: int, column: int) -> tuple[int, int]:
        if slanted:
            return column * size + row * size // 2, row * size
        return column * size, (rows - 1 - row) * size

    width = columns * size + ((rows - 1) * size // 2 if slanted else 0)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {rows * size}" width="{width}">']
    for row in range(rows):
        for column in range(columns):
            x, y = corner(row, column)
            parts.append(f'<rect x="{x}" y="{y}" width="{size}" height="{size}" fill="#e8d6b0" stroke="#806020"/>')
    for player, fill in enumerate(("#202020", "#fafafa")):
        for row, column in stones[player]:
            x, y = corner(row, column)
            middle = f'cx="{x + size // 2}" cy="{y + size // 2}" r="{size * 2 // 5}"'
            parts.append(f'<circle {middle} fill="{fill}" stroke="#202020"/>')
    return "\n".join([*parts, "</svg>"])
