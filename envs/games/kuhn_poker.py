"""Kuhn poker: three cards, one bet, the smallest poker in which bluffing pays (Kuhn, 1950).

Rules, pay-offs and information sets are those of OpenSpiel's ``kuhn_poker`` with two players; the tests hold them
together. Optimal play is known in closed form: player 0 loses 1/18 a game against an equilibrium
(:class:`KuhnEquilibrium`).

What it does not do: more than two players.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arguments import checked_options
from ..forfeits import forfeit_line, forfeit_rewards, has_forfeited
from ..simulator import CHANCE, TERMINAL, Simulator
from .regret import equilibrium_values, solve
from .wording import command

CARDS: Final = "JQK"
MAX_INVALID: Final = 3
_STAKE: Final = 2.0  # the most that can be lost

_MOVES: Final = {"pass": "p", "bet": "b"}
_NAMES: Final = {"p": "pass", "b": "bet"}
_LEGAL: Final = ("pass", "bet")
# What player 0 wins where the moves end the game: a sign means that the better card decides (showdown).
_SHOWDOWN: Final = {"pp": 1, "pbb": 2, "bb": 2}
_FOLD: Final = {"bp": 1, "pbp": -1}
_TURN: Final = {"": 0, "p": 1, "b": 1, "pb": 0} | dict.fromkeys((*_SHOWDOWN, *_FOLD), TERMINAL)
_DEALS: Final = {
    held: tuple((card, 1 / (3 - len(held))) for card in CARDS if card not in held) for held in ("", *CARDS)
}


class KuhnState(NamedTuple):
    """``cards`` dealt so far, a letter a player (``"KJ"``: player 0 has the king); ``moves`` as ``p`` and ``b``;
    ``invalid`` counts the invalid texts in a row that led here, ``MAX_INVALID`` where they cost the mover the choice;
    ``forfeits``, a bit a player, who ever lost a choice so.
    """

    cards: str = ""
    moves: str = ""
    invalid: int = 0
    forfeits: int = 0


class KuhnPoker(Simulator[KuhnState]):
    """
    ## Description

    Three cards, jack, queen and king; two players. Each puts one chip into the pot and gets a card that the other does
    not see. Player 0 passes or bets one chip; after a bet the other passes (gives up the pot) or bets (calls). After
    a pass player 1 may bet, and player 0 answers. If nobody gave up, the higher card takes the pot.

    A game of three moves at most, with everything that makes poker hard: bluffing with the jack, calling with the
    queen. Its value is known: −1/18 for player 0.

    ## Action Space

    Text: `pass` or `bet`. Case and blanks do not matter. Anything else leaves the state with the same player, who is
    told so; the third invalid text in a row is played as `pass`.

    ## Observation Space

    Text of a few lines: whose eyes, the own card, the moves so far, the chips in the pot, who is to move; at the end
    the result and, after a showdown, the other's card.

    As numbers (`array`): the 0–1 vector that OpenSpiel calls the information state tensor.

    ## Rewards

    At the end what each player won: ±1, or ±2 after a bet that was called. Zero-sum.

    ## Starting State

    A chance node. Two chance moves deal a card each, uniformly; all seeds start alike.

    ## Episode End

    After two or three moves. Never truncated.

    ## Information

    - `success`: player 0 won, and no move had to be made for it
    - `invalid_action`: whether the last action was none

    ## Arguments

    | Argument | Default | Meaning |
    |---|---|---|
    | `invalid_loses` | `False` | the third invalid text in a row loses the game, with 2 chips |

    >>> game = KuhnPoker()
    >>> state = game.step(game.step(game.reset(seed=0), "Q"), "J")
    >>> for action in ("pass", "bet", "bet"):
    ...     state = game.step(state, action)
    >>> print(game.observation(state, player=0))
    Kuhn poker. You are player 0. Your card: Q.
    Moves: pass, bet, bet.
    Player 1 shows J. You win 2.
    >>> game.rewards(state)
    (2.0, -2.0)

    ## Opponents

    What each wins against `equilibrium`, exactly:

    | Name | Plays | as player 0 | as player 1 |
    |---|---|---|---|
    | `random` | uniformly | −1/6 | −1/9 |
    | `equilibrium` | Kuhn's equilibrium that bets a jack with probability 1/6 | −1/18 | 1/18 |

    ## Version History

    - v0: first version

    ## Sources

    H. W. Kuhn, "A simplified two-person poker", Contributions to the Theory of Games 1 (1950), 97–103. Rules as in
    OpenSpiel's `kuhn_poker`.
    """

    players = 2
    zero_sum = True
    hides = True
    never_repeats = True
    histories = 58
    array_range = (0, 1)

    def __init__(self, invalid_loses: bool = False) -> None:
        self.invalid_loses = invalid_loses

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> KuhnState:
        """The state before the deal, the same for every seed."""
        checked_options(self, options)
        return KuhnState()

    def current_player(self, state: KuhnState) -> int:
        if state.forfeits and self.invalid_loses:
            return TERMINAL
        return _TURN[state.moves] if len(state.cards) == 2 else CHANCE

    def legal_actions(self, state: KuhnState) -> Sequence[str]:
        return _LEGAL if self.current_player(state) >= 0 else ()

    def all_actions(self) -> Sequence[str]:
        return _LEGAL

    def chance_outcomes(self, state: KuhnState) -> Sequence[tuple[str, float]]:
        """The cards left, each as likely."""
        return _DEALS[state.cards]

    def step(self, state: KuhnState, action: str) -> KuhnState:
        cards, moves, invalid, forfeits = state
        if len(cards) < 2:
            if len(action) == 1 and action in CARDS and action not in cards:
                return KuhnState(cards + action)
            return KuhnState(cards, "", 1)
        player = _TURN[moves]
        if player == TERMINAL or (forfeits and self.invalid_loses):
            return state
        move = _MOVES.get(action) or _MOVES.get(command(action))
        if move is not None:
            return KuhnState(cards, moves + move, 0, forfeits)
        strikes = invalid % MAX_INVALID + 1
        if strikes < MAX_INVALID:
            return KuhnState(cards, moves, strikes, forfeits)
        return KuhnState(cards, moves + "p", strikes, forfeits | 1 << player)

    def rewards(self, state: KuhnState) -> tuple[float, ...]:
        """``(won by player 0, won by player 1)`` at the end, zeros before."""
        if state.forfeits and self.invalid_loses:
            return forfeit_rewards(state.forfeits, _STAKE)
        return _rewards(state.cards, state.moves)

    def observation(self, state: KuhnState, player: int = 0) -> str:
        if state.forfeits and self.invalid_loses:
            line = forfeit_line(state.forfeits, player, _STAKE)
            return f"{_observation(state._replace(invalid=0), player).splitlines()[0]}\n{line}"
        return _observation(state, player)

    def information_state(self, state: KuhnState, player: int) -> str:
        """The own card and the moves, as OpenSpiel writes them with J, Q, K for 0, 1, 2; after a showdown both cards;
        the own invalid texts in a row."""
        cards, moves, *_ = state
        known = cards if _is_showdown(state) else cards[player : player + 1]
        return f"{known}{moves}{'!' * _own_invalid(state, player)}"

    def resample(self, state: KuhnState, player: int, rng: np.random.Generator) -> KuhnState:
        """The other's card drawn anew from those that the player does not see; nothing is hidden after a showdown."""
        cards, other = state.cards, 1 - player
        if len(cards) <= other or _is_showdown(state):
            return state
        unseen = [card for card in CARDS if card not in cards[player : player + 1]]
        drawn = unseen[rng.integers(len(unseen))]
        kept = cards[player : player + 1]
        return state._replace(
            cards=drawn + kept if player else kept + drawn,
            invalid=_own_invalid(state, player),
            forfeits=state.forfeits & 1 << player,
        )

    def array(self, state: KuhnState, player: int) -> NDArray[np.uint8]:
        """Ones and zeros, uint8 ``[11]``: the player (2), its card (3), each of three moves as pass or bet (6)."""
        ones = np.zeros(11, np.uint8)
        ones[player] = 1
        if len(state.cards) > player:
            ones[2 + CARDS.index(state.cards[player])] = 1
        for number, move in enumerate(state.moves):
            ones[5 + 2 * number + (move == "b")] = 1
        return ones

    def info(self, state: KuhnState) -> dict[str, Any]:
        return {"success": self.success(state, 0), "invalid_action": state.invalid > 0}

    def success(self, state: KuhnState, player: int) -> bool:
        """Whether ``player`` won without a move that had to be made for it."""
        return self.rewards(state)[player] > 0 and not has_forfeited(state.forfeits, player)

    def position(self, state: KuhnState) -> KuhnState:
        return state._replace(invalid=0)

    def optimal_values(self, state: KuhnState) -> dict[str, float]:
        """What each action is worth to the player to move, who sees its own card alone, where both play on by an
        equilibrium: chips, to 0.001. Computed when it is first asked for and kept for the process."""
        player = self.current_player(state)
        values = _values()[player, self.information_state(self.position(state), player)]
        return {action: round(value, 3) for action, value in values.items()}


class KuhnEquilibrium:
    """An equilibrium of Kuhn poker as an opponent, one of Kuhn's family: player 0 bets a jack with probability
    ``bluff`` = α in [0, 1/3], a king with 3α, calls a bet with a queen with α + 1/3; player 1 bets a jack with 1/3 and
    calls a queen with 1/3."""

    def __init__(self, bluff: float = 1 / 6) -> None:
        if not 0 <= bluff <= 1 / 3:
            raise ValueError(f"bluff={bluff!r}: expected a probability from 0 to 1/3, where the equilibria lie.")
        self.bluff = bluff

    def bet_probability(self, card: str, moves: str) -> float:
        """Of the player to move after ``moves`` (``"p"``, ``"b"``), who holds ``card``."""
        table = {
            "": {"J": self.bluff, "Q": 0.0, "K": 3 * self.bluff},
            "pb": {"J": 0.0, "Q": self.bluff + 1 / 3, "K": 1.0},
            "p": {"J": 1 / 3, "Q": 0.0, "K": 1.0},
            "b": {"J": 0.0, "Q": 1 / 3, "K": 1.0},
        }
        return table[moves][card]

    def __call__(self, simulator: Simulator[Any], state: KuhnState, rng: np.random.Generator) -> str:
        card = state.cards[simulator.current_player(state)]
        return "bet" if rng.random() < self.bet_probability(card, state.moves) else "pass"


@lru_cache(maxsize=1)
def _values() -> dict[tuple[int, str], dict[str, float]]:
    game = KuhnPoker()
    return equilibrium_values(game, solve(game, iterations=20_000))


def _is_showdown(state: KuhnState) -> bool:
    return state.moves in _SHOWDOWN and len(state.cards) == 2


def _own_invalid(state: KuhnState, player: int) -> int:
    """Invalid texts in a row, where it was ``player`` who wrote them; nobody else is told."""
    if not state.invalid or len(state.cards) < 2:
        return 0
    writer = (len(state.moves) - (state.invalid == MAX_INVALID)) % 2
    return state.invalid if writer == player else 0


@lru_cache(maxsize=256)
def _rewards(cards: str, moves: str) -> tuple[float, float]:
    if moves in _SHOWDOWN:
        won = _SHOWDOWN[moves] if CARDS.index(cards[0]) > CARDS.index(cards[1]) else -_SHOWDOWN[moves]
    else:
        won = _FOLD.get(moves, 0)
    return float(won), float(-won)


@lru_cache(maxsize=1024)
def _observation(state: KuhnState, player: int) -> str:
    cards, moves, *_ = state
    card = cards[player : player + 1]
    lines = [f"Kuhn poker. You are player {player}. Your card: {card or 'not dealt yet'}."]
    if moves:
        lines.append(f"Moves: {', '.join(map(_NAMES.__getitem__, moves))}.")
    invalid = _own_invalid(state, player)
    turn = _TURN[moves] if len(cards) == 2 else CHANCE
    if turn == TERMINAL:
        shown = f"Player {1 - player} shows {cards[1 - player]}. " if moves in _SHOWDOWN else ""
        won = _rewards(cards, moves)[player]
        lines.append(f"{shown}You {'win' if won > 0 else 'lose'} {abs(won):.0f}.")
    elif turn >= 0:
        chips = 2 + moves.count("b")
        lines.append(f"Chips in the pot: {chips}. To move: {'you' if turn == player else f'player {turn}'}.")
    if invalid == MAX_INVALID:
        lines.append(f"That was the {MAX_INVALID}rd invalid action in a row: pass was played for you.")
    elif invalid:
        lines.append("Invalid action: write pass or bet.")
    return "\n".join(lines)
