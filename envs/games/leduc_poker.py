"""Leduc hold'em: two suits of three ranks, a private card each, one public card, two rounds of betting (Southey et al.,
2005).

Rules, pay-offs and information sets are those of OpenSpiel's ``leduc_poker`` with two players; the tests hold them
together. Player 0 loses 0.0856 chips a game between equilibria, which ``regret.solve`` finds in about a second.

What it does not do: more than two players, other decks.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arguments import checked_options
from ..forfeits import forfeit_line, forfeit_rewards, has_forfeited
from ..simulator import CHANCE, TERMINAL, Simulator
from .regret import Equilibrium, equilibrium_values, solve
from .wording import command

CARDS: Final = ("Js", "Jh", "Qs", "Qh", "Ks", "Kh")
RAISE: Final = (2, 4)  # chips, in the first and in the second round
MAX_RAISES: Final = 2  # a round
MAX_INVALID: Final = 3
_STAKE: Final = 13.0  # the most that can be lost

_MOVES: Final = {"fold": "f", "call": "c", "raise": "r"}
_NAMES: Final = {"f": "fold", "c": "call", "r": "raise"}
_INDEX: Final = {card: i for i, card in enumerate(CARDS)}


class _Betting(NamedTuple):
    """Where a round of betting stands. ``turn`` is the player to move, or ``TERMINAL`` where the round is over;
    ``raised`` how many raises each player has matched or made."""

    turn: int
    legal: tuple[str, ...]
    raised: tuple[int, int]
    folded: bool


def _betting(moves: str) -> _Betting:
    raised = [0, 0]
    for number, move in enumerate(moves):
        if move != "f":
            raised[number % 2] = max(raised) + (move == "r")
    folded = moves.endswith("f")
    over = folded or (len(moves) > 1 and moves.endswith("c"))
    may_fold, may_raise = moves.endswith("r"), moves.count("r") < MAX_RAISES
    legal = ("fold",) * may_fold + ("call",) + ("raise",) * may_raise
    return _Betting(TERMINAL if over else len(moves) % 2, () if over else legal, (raised[0], raised[1]), folded)


def _rounds() -> dict[str, _Betting]:
    """Every sequence of moves that a round can have."""
    found, frontier = {}, [""]
    while frontier:
        moves = frontier.pop()
        found[moves] = _betting(moves)
        frontier += [moves + _MOVES[action] for action in found[moves].legal]
    return found


_ROUNDS: Final = _rounds()
_STATUS: Final = {
    moves: "folded" if betting.folded else "closed" if betting.turn == TERMINAL else "open"
    for moves, betting in _ROUNDS.items()
}
_FIRST_TURN: Final = {moves: CHANCE if _STATUS[moves] == "closed" else b.turn for moves, b in _ROUNDS.items()}
_SECOND_TURN: Final = {moves: betting.turn for moves, betting in _ROUNDS.items()}


class LeducState(NamedTuple):
    """``cards`` dealt so far as indices into ``CARDS``: player 0's, player 1's, the public one; the moves of the two
    rounds as ``f``, ``c``, ``r``; ``invalid`` counts the invalid texts in a row that led here, ``MAX_INVALID`` where
    they cost the mover the choice; ``forfeits``, a bit a player, who ever lost a choice so."""

    cards: tuple[int, ...] = ()
    first: str = ""
    second: str = ""
    invalid: int = 0
    forfeits: int = 0


class LeducPoker(Simulator[LeducState]):
    """
    ## Description

    Six cards, jack, queen and king in spades and hearts; two players. Each puts one chip into the pot and gets a
    card. A round of betting, a public card for both, a second round. Whoever pairs the public card wins, else the
    higher rank; equal ranks share the pot.

    In each round player 0 begins, and at most two raises are made: of 2 chips in the first round, 4 in the second.

    ## Action Space

    Text. Case and blanks do not matter.

    | Action | When | What it does |
    |---|---|---|
    | `fold` | after a raise | gives up the pot |
    | `call` | always | puts in what is missing, or checks where nothing is |
    | `raise` | while fewer than two raises were made in the round | puts in what is missing and 2 (4) chips more |

    Anything else leaves the state with the same player, who is told so; the third invalid text in a row is played as
    the first legal action (`fold` after a raise, else `call`).

    ## Observation Space

    Text of a few lines: the own card, the public card, the moves of both rounds, the chips that each has put in, who
    is to move; at the end the result and, after a showdown, the other's card.

    As numbers (`array`): the 0–1 vector that OpenSpiel calls the information state tensor.

    ## Rewards

    At the end what each player won, from −13 to 13 chips. Zero-sum.

    ## Starting State

    A chance node. Two chance moves deal the private cards, a third the public one after the first round; all seeds
    start alike.

    ## Episode End

    After a fold, or the second round. Never truncated.

    ## Information

    - `success`: player 0 won, and no move had to be made for it
    - `invalid_action`: whether the last action was none

    ## Arguments

    | Argument | Default | Meaning |
    |---|---|---|
    | `invalid_loses` | `False` | the third invalid text in a row loses the game, with 13 chips |

    >>> game = LeducPoker()
    >>> state = game.reset(seed=0)
    >>> for action in ("Qs", "Kh", "raise", "call", "Qh", "raise"):
    ...     state = game.step(state, action)
    >>> print(game.observation(state, player=1))
    Leduc poker. You are player 1. Your card: Kh. Public card: Qh.
    Round 1: raise, call. Round 2: raise.
    Chips put in: 3 by you, 7 by player 0. To move: you.
    >>> game.legal_actions(state)
    ('fold', 'call', 'raise')

    ## Opponents

    What each wins a game in chips against the others, 10,000 games, half of them on each side (95 % intervals):

    | Name | Plays | against `random` | against `rule` |
    |---|---|---|---|
    | `random` | uniformly | 0 | −1.35 ± 0.10 |
    | `rule` | a pair or a king raises, before the public card or with a queen calls, else folds | 1.35 ± 0.10 | 0 |
    | `equilibrium` | an equilibrium, found by CFR+ when first asked for | 0.73 ± 0.09 | 0.06 ± 0.08 |

    An equilibrium does not lose, and does not hunt mistakes as the rule does.

    ## Version History

    - v0: first version

    ## Sources

    F. Southey et al., "Bayes' bluff: opponent modelling in poker", UAI 2005 (arXiv:1207.1411). Rules as in OpenSpiel's
    `leduc_poker`.
    """

    players = 2
    zero_sum = True
    hides = True
    never_repeats = True
    histories = 9_457
    array_range = (0, 1)

    def __init__(self, invalid_loses: bool = False) -> None:
        self.invalid_loses = invalid_loses

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> LeducState:
        """The state before the deal, the same for every seed."""
        checked_options(self, options)
        return LeducState()

    def current_player(self, state: LeducState) -> int:
        cards, first, second, _, forfeits = state
        if forfeits and self.invalid_loses:
            return TERMINAL
        dealt = len(cards)
        if dealt == 2:
            return _FIRST_TURN[first]
        return _SECOND_TURN[second] if dealt == 3 else CHANCE

    def legal_actions(self, state: LeducState) -> Sequence[str]:
        if state.forfeits and self.invalid_loses:
            return ()
        dealt = len(state.cards)
        return _ROUNDS[state.second if dealt == 3 else state.first].legal if dealt > 1 else ()

    def all_actions(self) -> Sequence[str]:
        return tuple(_MOVES)

    def chance_outcomes(self, state: LeducState) -> Sequence[tuple[str, float]]:
        """The cards left, each as likely."""
        return _deals(state.cards)

    def step(self, state: LeducState, action: str) -> LeducState:
        cards, first, second, invalid, forfeits = state
        dealt = len(cards)
        moves = second if dealt == 3 else first
        legal = _ROUNDS[moves].legal
        if forfeits and self.invalid_loses:
            return state
        if dealt < 2 or not legal:
            return self._dealt(state, action) if self.current_player(state) == CHANCE else state
        if action not in legal:
            action = command(action)
        strikes = 0
        if action not in legal:
            strikes = invalid % MAX_INVALID + 1
            if strikes < MAX_INVALID:
                return LeducState(cards, first, second, strikes, forfeits)
            action = legal[0]
            forfeits |= 1 << self.current_player(state)
        moves += _MOVES[action]
        if dealt == 3:
            return LeducState(cards, first, moves, strikes, forfeits)
        return LeducState(cards, moves, "", strikes, forfeits)

    def rewards(self, state: LeducState) -> tuple[float, ...]:
        """``(won by player 0, won by player 1)`` at the end, zeros before."""
        if state.forfeits and self.invalid_loses:
            return forfeit_rewards(state.forfeits, _STAKE)
        return _rewards(state.cards, state.first, state.second)

    def observation(self, state: LeducState, player: int = 0) -> str:
        if state.forfeits and self.invalid_loses:
            line = forfeit_line(state.forfeits, player, _STAKE)
            return f"{_observation(state._replace(invalid=0), player).splitlines()[0]}\n{line}"
        return _observation(state, player)

    def information_state(self, state: LeducState, player: int) -> str:
        """The own card, the public card and the moves; after a showdown both cards; the own invalid texts in a row."""
        cards, first, second, *_ = state
        known = cards[:2] if _is_showdown(state) else cards[player : player + 1]
        public = CARDS[cards[2]] if len(cards) == 3 else ""
        held = "".join(CARDS[card] for card in known)
        return f"{held}|{public}|{first}|{second}{'!' * _own_invalid(state, player)}"

    def resample(self, state: LeducState, player: int, rng: np.random.Generator) -> LeducState:
        """The other's card drawn anew from those that the player does not see; nothing is hidden after a showdown."""
        cards = list(state.cards)
        other = 1 - player
        if len(cards) <= other or _is_showdown(state):
            return state
        seen = {*cards[player : player + 1], *cards[2:]}
        unseen = [card for card in range(len(CARDS)) if card not in seen]
        cards[other] = unseen[rng.integers(len(unseen))]
        return state._replace(
            cards=tuple(cards), invalid=_own_invalid(state, player), forfeits=state.forfeits & 1 << player
        )

    def array(self, state: LeducState, player: int) -> NDArray[np.uint8]:
        """Ones and zeros, uint8 ``[30]``: the player (2), its card (6), the public card (6), and of both rounds each of
        four moves as call or raise (16); a fold is neither."""
        cards, first, second, *_ = state
        ones = np.zeros(30, np.uint8)
        ones[player] = 1
        if len(cards) > player:
            ones[2 + cards[player]] = 1
        if len(cards) == 3:
            ones[8 + cards[2]] = 1
        for start, moves in ((14, first), (22, second)):
            for number, move in enumerate(moves):
                if move != "f":
                    ones[start + 2 * number + (move == "r")] = 1
        return ones

    def info(self, state: LeducState) -> dict[str, Any]:
        return {"success": self.success(state, 0), "invalid_action": state.invalid > 0}

    def success(self, state: LeducState, player: int) -> bool:
        """Whether ``player`` won without a move that had to be made for it."""
        return self.rewards(state)[player] > 0 and not has_forfeited(state.forfeits, player)

    def position(self, state: LeducState) -> LeducState:
        return state._replace(invalid=0)

    def optimal_values(self, state: LeducState) -> dict[str, float]:
        """What each legal action is worth to the player to move, who sees its own cards alone, where both play on by
        an equilibrium: chips, to 0.001. Found when it is first asked for (about a second) and kept for the process."""
        player = self.current_player(state)
        values = _leduc_values()[player, self.information_state(self.position(state), player)]
        return {action: round(value, 3) for action, value in values.items()}

    def _dealt(self, state: LeducState, action: str) -> LeducState:
        cards = state.cards
        card = _INDEX.get(action, -1)
        if card < 0 or card in cards:
            return state._replace(invalid=1)
        return state._replace(cards=(*cards, card), invalid=0)


def rule_player(simulator: Simulator[Any], state: LeducState, rng: np.random.Generator) -> str:
    """Raises with a pair or a king, calls with a queen or before the public card, else folds where it can."""
    player = simulator.current_player(state)
    legal = simulator.legal_actions(state)
    assert legal is not None
    rank = state.cards[player] // 2
    paired = len(state.cards) == 3 and state.cards[2] // 2 == rank
    if paired or rank == 2:
        return legal[-1]
    return "call" if rank == 1 or len(state.cards) < 3 else legal[0]


class EquilibriumPlayer:
    """Plays an approximate equilibrium (its exploitability: 0.0001 chips a game), found by ``regret.solve`` when
    it first has to move (about a second, after numba has compiled) and kept for the process."""

    def __call__(self, simulator: Simulator[Any], state: LeducState, rng: np.random.Generator) -> str:
        player = simulator.current_player(state)
        # Its own invalid texts, which it does not write, are no part of the solved game.
        information = simulator.information_state(simulator.position(state), player)
        return leduc_equilibrium().draw(player, information, rng)


@lru_cache(maxsize=1)
def leduc_equilibrium() -> Equilibrium:
    """The equilibrium that :class:`EquilibriumPlayer` plays."""
    return solve(LeducPoker(), iterations=2_000)


@lru_cache(maxsize=1)
def _leduc_values() -> dict[tuple[int, str], dict[str, float]]:
    return equilibrium_values(LeducPoker(), leduc_equilibrium())


def _is_showdown(state: LeducState) -> bool:
    return len(state.cards) == 3 and _STATUS[state.second] == "closed"


def _own_invalid(state: LeducState, player: int) -> int:
    """Invalid texts in a row, where it was ``player`` who wrote them; nobody else is told."""
    cards, first, second, invalid, _ = state
    if not invalid or len(cards) < 2:
        return 0
    moves = second if len(cards) == 3 else first
    return invalid if (len(moves) - (invalid == MAX_INVALID)) % 2 == player else 0


@lru_cache(maxsize=1024)
def _deals(cards: tuple[int, ...]) -> tuple[tuple[str, float], ...]:
    left = [name for index, name in enumerate(CARDS) if index not in cards]
    return tuple((name, 1 / len(left)) for name in left)


def _put_in(first: str, second: str) -> tuple[int, int]:
    """Chips that each player has put into the pot."""
    one, two = _ROUNDS[first].raised, _ROUNDS[second].raised
    return (1 + RAISE[0] * one[0] + RAISE[1] * two[0], 1 + RAISE[0] * one[1] + RAISE[1] * two[1])


@lru_cache(maxsize=16384)
def _rewards(cards: tuple[int, ...], first: str, second: str) -> tuple[float, float]:
    last = second if len(cards) == 3 else first
    status = _STATUS[last]
    won = 0
    if status == "folded":
        loser = (len(last) - 1) % 2
        chips = _put_in(first, second)[loser]
        won = chips if loser == 1 else -chips
    elif status == "closed" and len(cards) == 3:
        strength = [3 if card // 2 == cards[2] // 2 else card // 2 for card in cards[:2]]
        won = _put_in(first, second)[0] * ((strength[0] > strength[1]) - (strength[0] < strength[1]))
    return float(won), float(-won)


@lru_cache(maxsize=32768)
def _observation(state: LeducState, player: int) -> str:
    cards, first, second, *_ = state
    other = 1 - player
    own = CARDS[cards[player]] if len(cards) > player else "not dealt yet"
    public = f" Public card: {CARDS[cards[2]]}." if len(cards) == 3 else ""
    lines = [f"Leduc poker. You are player {player}. Your card: {own}.{public}"]
    rounds = [
        f"Round {number}: {', '.join(map(_NAMES.__getitem__, moves))}."
        for number, moves in enumerate((first, second), 1)
        if moves
    ]
    if rounds:
        lines.append(" ".join(rounds))
    chips = _put_in(first, second)
    said = f"Chips put in: {chips[player]} by you, {chips[other]} by player {other}."
    turn = LeducPoker().current_player(state)
    if turn == TERMINAL:
        shown = f"Player {other} shows {CARDS[cards[other]]}. " if _is_showdown(state) else ""
        won = _rewards(cards, first, second)[player]
        lines.append(f"{said} {shown}{'You win' if won > 0 else 'You lose' if won < 0 else 'Shared:'} {abs(won):.0f}.")
    elif turn >= 0:
        lines.append(f"{said} To move: {'you' if turn == player else f'player {turn}'}.")
    invalid = _own_invalid(state, player)
    if invalid == MAX_INVALID:
        played = _NAMES[(second if len(cards) == 3 else first)[-1]]
        lines.append(f"That was the {MAX_INVALID}rd invalid action in a row: {played} was played for you.")
    elif invalid:
        moves = second if len(cards) == 3 else first
        lines.append(f"Invalid action: write {' or '.join(_ROUNDS[moves].legal)}.")
    return "\n".join(lines)
