"""Liar's dice: bids on hidden dice that must rise, until one player calls the other a liar.

Rules and information sets are those of OpenSpiel's ``liars_dice`` with two players and its bidding rule
``reset-face``; the tests hold them together. :class:`BayesianPlayer` is the scripted opponent.

What it does not do: more than two players, losing dice over several rounds, exact ("spot on") calls.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations_with_replacement
from math import factorial, prod
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arguments import checked_options
from ..forfeits import forfeit_line, forfeit_rewards, has_forfeited
from ..simulator import CHANCE, TERMINAL, Simulator
from .wording import command

LIAR: Final = "liar"
MAX_INVALID: Final = 3
_CALL: Final = 255  # ``liar`` among the bids of a state
_BYTES: Final = tuple(bytes((code,)) for code in range(256))


class LiarsDiceState(NamedTuple):
    """``dice`` rolled so far: player 0's faces, then player 1's, each sorted once they are complete; ``bids`` by number
    (:meth:`LiarsDice.bid_text`), 255 for ``liar``; ``invalid`` counts the invalid texts in a row that led here,
    ``MAX_INVALID`` where they cost the mover the choice; ``forfeits``, a bit a player, who ever lost a choice so."""

    dice: bytes = b""
    bids: bytes = b""
    invalid: int = 0
    forfeits: int = 0


class LiarsDice(Simulator[LiarsDiceState]):
    """
    ## Description

    Two players roll their dice under a cup. In turns they bid how many dice of both cups show a face at least; the
    highest face is wild and counts for every face. Each bid must be higher than the last: more dice, or as many of a
    higher face. Instead of bidding a player may call the other a liar. Then the cups are lifted: if the last bid
    holds, the bidder wins, else the caller.

    ## Action Space

    Text. Case and blanks do not matter.

    | Action | When | Meaning |
    |---|---|---|
    | `bid 2-5` | higher than the last bid | at least two dice show a five, or are wild |
    | `liar` | after a bid | the last bid does not hold |

    Anything else leaves the state with the same player, who is told so; the third invalid text in a row is played as
    the first legal action, the lowest bid (`liar` where no higher bid is left).

    ## Observation Space

    Text of a few lines: the own dice, the bids so far, who is to move; at the end all dice and the result.

    As numbers (`array`): the 0–1 vector that OpenSpiel calls the information state tensor.

    ## Rewards

    At the end +1 for the winner, −1 for the loser.

    ## Starting State

    A chance node. Chance rolls one die after the other, player 0's first; all seeds start alike.

    ## Episode End

    When a player calls. Never truncated: bids rise.

    ## Information

    - `success`: player 0 won, and no move had to be made for it
    - `invalid_action`: whether the last action was none

    ## Arguments

    | Argument | Default | Meaning |
    |---|---|---|
    | `dice` | `1` | dice a player, 1 to 5 |
    | `sides` | `6` | faces of a die, 2 to 9; the highest is wild |
    | `invalid_loses` | `False` | the third invalid text in a row loses the game |

    >>> game = LiarsDice(dice=2)
    >>> state = game.reset(seed=0)
    >>> for action in ("3", "6", "2", "2", "bid 2-3", "bid 3-2"):
    ...     state = game.step(state, action)
    >>> print(game.observation(state, player=0))
    Liar's dice: 2 dice a player, 6 is wild. You are player 0. Your dice: 3 6.
    Bids: 2-3 by you, 3-2 by player 1.
    To move: you.
    >>> state = game.step(state, "liar")
    >>> game.rewards(state)
    (-1.0, 1.0)

    ## Opponents

    | Name | Plays |
    |---|---|
    | `random` | uniformly |
    | `bayesian` | weighs the other's dice by the bids heard, and takes the bid, or the call, that most likely holds |

    `bayesian` wins 0.64 ± 0.03 a game against `random` with one die each, 0.95 ± 0.01 with five (2,000 games), and
    −0.01 ± 0.02 against an equilibrium of `regret.solve` with one die each (10,000 games, half of them on each side).
    That equilibrium is worth −0.0271 to player 0.

    ## Version History

    - v0: first version

    ## Sources

    Rules as in OpenSpiel's `liars_dice`, `bidding_rule=reset-face`.
    """

    players = 2
    zero_sum = True
    hides = True
    never_repeats = True
    array_range = (0, 1)

    def __init__(self, dice: int = 1, sides: int = 6, invalid_loses: bool = False) -> None:
        for name, value, lowest, highest in (("dice", dice, 1, 5), ("sides", sides, 2, 9)):
            if not isinstance(value, int) or not lowest <= value <= highest:
                raise ValueError(f"{name}={value!r}: expected a whole number from {lowest} to {highest}.")
        self.dice, self.sides, self.invalid_loses = dice, sides, invalid_loses
        self._bids = tuple(f"bid {count}-{face}" for count in range(1, 2 * dice + 1) for face in range(1, sides + 1))
        self._codes = {text: code for code, text in enumerate(self._bids)} | {LIAR: _CALL}
        after = [(*self._bids[code + 1 :], LIAR) for code in range(len(self._bids))]
        self._legal = (*after, self._bids)  # what may follow each bid; the start, -1, last
        self._roll = tuple((str(face), 1 / sides) for face in range(1, sides + 1))
        self._faces = {str(face): bytes((face,)) for face in range(1, sides + 1)}
        self._all_dice = 2 * dice

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> LiarsDiceState:
        """The state before the dice are rolled, the same for every seed."""
        checked_options(self, options)
        return LiarsDiceState()

    def current_player(self, state: LiarsDiceState) -> int:
        if state.forfeits and self.invalid_loses:
            return TERMINAL
        bids = state.bids
        if not bids:
            return 0 if len(state.dice) == self._all_dice else CHANCE
        return TERMINAL if bids[-1] == _CALL else len(bids) % 2

    def legal_actions(self, state: LiarsDiceState) -> Sequence[str]:
        dice, bids, _, forfeits = state
        if forfeits and self.invalid_loses:
            return ()
        if len(dice) < self._all_dice:
            return ()
        if not bids:
            return self._legal[-1]
        return () if bids[-1] == _CALL else self._legal[bids[-1]]

    def all_actions(self) -> Sequence[str]:
        """Every bid, lowest first, and ``liar``."""
        return (*self._bids, LIAR)

    def chance_outcomes(self, state: LiarsDiceState) -> Sequence[tuple[str, float]]:
        """The faces of the next die, each as likely."""
        return self._roll

    def step(self, state: LiarsDiceState, action: str) -> LiarsDiceState:
        dice, bids, invalid, forfeits = state
        if len(dice) < self._all_dice:
            return self._rolled(state, action)
        last = bids[-1] if bids else -1
        if last == _CALL or (forfeits and self.invalid_loses):
            return state
        code = self._codes.get(action, -1)
        if code < 0:
            code = self._codes.get(command(action), -1)
        if code > last and (bids or code != _CALL):
            return LiarsDiceState(dice, bids + _BYTES[code], 0, forfeits)
        strikes = invalid % MAX_INVALID + 1
        if strikes < MAX_INVALID:
            return LiarsDiceState(dice, bids, strikes, forfeits)
        played = bytes((self._codes[self._legal[last][0]],))
        return LiarsDiceState(dice, bids + played, strikes, forfeits | 1 << len(bids) % 2)

    def rewards(self, state: LiarsDiceState) -> tuple[float, ...]:
        """``(1, -1)`` or ``(-1, 1)`` at the end, zeros before."""
        dice, bids, _, forfeits = state
        if forfeits and self.invalid_loses:
            return forfeit_rewards(forfeits, 1.0)
        if not bids or bids[-1] != _CALL:
            return (0.0, 0.0)
        caller = (len(bids) - 1) % 2
        return (1.0, -1.0) if self.holds(bids[-2], dice) == (caller == 1) else (-1.0, 1.0)

    def holds(self, bid: int, dice: Sequence[int]) -> bool:
        """Whether as many ``dice`` show the bid's face, or the wild one, as it says."""
        count, face = divmod(bid, self.sides)
        return sum(die in (face + 1, self.sides) for die in dice) > count

    def bid_text(self, bid: int) -> str:
        """``"2-5"`` for the bid number of two fives; bids are numbered in rising order from 0."""
        return self._bids[bid].removeprefix("bid ")

    def hand(self, state: LiarsDiceState, player: int) -> bytes:
        """The faces that ``player`` rolled."""
        return state.dice[player * self.dice : (player + 1) * self.dice]

    def observation(self, state: LiarsDiceState, player: int = 0) -> str:
        dice, bids, invalid, forfeits = state
        size = self.dice
        hand = dice[size:] if player else dice[:size]
        if forfeits and self.invalid_loses:
            return f"{_head(size, self.sides, player, hand)}\n{forfeit_line(forfeits, player, 1.0)}"
        if bids and bids[-1] == _CALL:
            text = f"{_head(size, self.sides, player, hand)}{_heard(self.sides, bids[:-1], player)}"
            caller = "You call" if (len(bids) - 1) % 2 == player else f"Player {1 - player} calls"
            shown = " ".join(map(str, self.hand(state, 1 - player)))
            won = self.rewards(state)[player] > 0
            text += f"\n{caller} liar. Player {1 - player} has {shown}. You {'win' if won else 'lose'}."
        elif len(dice) < self._all_dice:
            return _head(size, self.sides, player, hand)
        else:
            turn = "you." if len(bids) % 2 == player else f"player {1 - player}."
            text = f"{_head(size, self.sides, player, hand)}{_heard(self.sides, bids, player)}\nTo move: {turn}"
        return f"{text}\n{self._complaint(state)}" if invalid and self._own_invalid(state, player) else text

    def information_state(self, state: LiarsDiceState, player: int) -> str:
        """The own dice and the bids, as OpenSpiel writes them; all dice at the end; the own invalid texts in a row."""
        called = state.bids.endswith(bytes((_CALL,)))
        known = state.dice if called else self.hand(state, player)
        bids = [LIAR if bid == _CALL else self.bid_text(bid) for bid in state.bids]
        return " ".join(["".join(map(str, known)), *bids]) + "!" * self._own_invalid(state, player)

    def resample(self, state: LiarsDiceState, player: int, rng: np.random.Generator) -> LiarsDiceState:
        """The other's dice rolled anew; nothing is hidden once somebody has called."""
        if self.current_player(state) == TERMINAL:
            return state
        own, others = self.hand(state, player), self.hand(state, 1 - player)
        rolled = bytes(rng.integers(1, self.sides + 1, len(others)).astype(np.uint8).tobytes())
        if len(others) == self.dice:
            rolled = bytes(sorted(rolled))
        return state._replace(
            dice=rolled + own if player else own + rolled,
            invalid=self._own_invalid(state, player),
            forfeits=state.forfeits & 1 << player,
        )

    def array(self, state: LiarsDiceState, player: int) -> NDArray[np.uint8]:
        """Ones and zeros, uint8 ``[2 + dice · sides + 2 · dice · sides + 1]``: the player, each of its dice, and which
        bids were made, ``liar`` last."""
        ones = np.zeros(3 + 3 * self.dice * self.sides, np.uint8)
        ones[player] = 1
        for number, face in enumerate(self.hand(state, player)):
            ones[1 + number * self.sides + face] = 1
        start = 2 + self.dice * self.sides
        for bid in state.bids:
            ones[-1 if bid == _CALL else start + bid] = 1
        return ones

    def info(self, state: LiarsDiceState) -> dict[str, Any]:
        return {"success": self.success(state, 0), "invalid_action": state.invalid > 0}

    def success(self, state: LiarsDiceState, player: int) -> bool:
        """Whether ``player`` won without a move that had to be made for it."""
        return self.rewards(state)[player] > 0 and not has_forfeited(state.forfeits, player)

    def position(self, state: LiarsDiceState) -> LiarsDiceState:
        return state._replace(invalid=0)

    def _rolled(self, state: LiarsDiceState, action: str) -> LiarsDiceState:
        dice, bids, *_ = state
        face = self._faces.get(action)
        if face is None:
            return LiarsDiceState(dice, bids, 1)
        dice += face
        if self.dice > 1 and len(dice) % self.dice == 0:
            dice = dice[: -self.dice] + bytes(sorted(dice[-self.dice :]))
        return LiarsDiceState(dice, bids)

    def _own_invalid(self, state: LiarsDiceState, player: int) -> int:
        """Invalid texts in a row, where it was ``player`` who wrote them; nobody else is told."""
        dice, bids, invalid, _ = state
        if not invalid or len(dice) < self._all_dice:
            return 0
        return invalid if (len(bids) - (invalid == MAX_INVALID)) % 2 == player else 0

    def _complaint(self, state: LiarsDiceState) -> str:
        if state.invalid == MAX_INVALID:
            last = state.bids[-1]
            played = LIAR if last == _CALL else self._bids[last]
            return f"That was the {MAX_INVALID}rd invalid action in a row: {played} was played for you."
        legal = self.legal_actions(state)
        return f"Invalid action: write {legal[0]}{' or higher' if len(legal) > 2 else ''}" + (
            f" or {LIAR}." if state.bids and legal[0] != LIAR else "."
        )


class BayesianPlayer:
    """Weighs the other's dice by the bids heard, then takes what most likely holds: the last bid's being false (the
    call), or the best higher bid's being true.

    Prior: every roll of the other's dice as likely. Likelihood of a bid under a roll: the probability that the bid
    holds for someone who sees that roll and nothing else, plus ``floor`` for bluffs. It looks one step ahead: each bid
    is valued as if it were called at once.
    """

    floor = 0.1

    def __call__(self, simulator: Simulator[Any], state: LiarsDiceState, rng: np.random.Generator) -> str:
        game = getattr(simulator, "unwrapped", simulator)
        assert isinstance(game, LiarsDice)
        player = game.current_player(state)
        rolls, prior, holds = _chances(game.dice, game.sides)
        own = rolls[tuple(game.hand(state, player))]
        heard = list(state.bids[1 - player :: 2])
        weights = prior * np.prod(self.floor + (holds @ prior)[:, heard], axis=1)
        truth = holds[own] @ (weights / weights.sum())  # of every bid
        last = state.bids[-1] if state.bids else -1
        worth = truth[last + 1 :]
        if state.bids:
            worth = np.append(worth, 1 - truth[last])
        best = np.flatnonzero(worth > worth.max() - 1e-9)
        return game.legal_actions(state)[best[int(rng.integers(len(best)))]]


@lru_cache(maxsize=16)
def _chances(dice: int, sides: int) -> tuple[dict[tuple[int, ...], int], NDArray[np.float64], NDArray[np.float64]]:
    """Of the R sorted rolls of ``dice`` dice: their numbers, their probabilities ``[R]``, and whether a bid holds for
    two of them: 1 or 0, ``[R, bids, R]``."""
    rolls = list(combinations_with_replacement(range(1, sides + 1), dice))
    ways = [factorial(dice) / prod(map(factorial, Counter(roll).values())) for roll in rolls]
    shown = np.array([[sum(die in (face, sides) for die in roll) for face in range(1, sides + 1)] for roll in rolls])
    together = shown[:, None, :] + shown[None, :, :]  # [R, R, sides]
    counts = np.arange(1, 2 * dice + 1)
    holds = together[:, None, :, :] >= counts[None, :, None, None]  # [R, counts, R, sides]
    holds = holds.transpose(0, 1, 3, 2).reshape(len(rolls), -1, len(rolls))
    return {roll: number for number, roll in enumerate(rolls)}, np.array(ways) / sides**dice, holds.astype(np.float64)


@lru_cache(maxsize=16384)
def _head(dice: int, sides: int, player: int, hand: bytes) -> str:
    cups = f"{dice} {'die' if dice == 1 else 'dice'} a player, {sides} is wild"
    own = "Your die" if dice == 1 else "Your dice"
    return f"Liar's dice: {cups}. You are player {player}. {own}: {' '.join(map(str, hand)) or 'not rolled yet'}."


@lru_cache(maxsize=65536)
def _heard(sides: int, bids: bytes, player: int) -> str:
    """The line of the bids, with the break before it; built on the line of one bid less, which was just shown."""
    if not bids:
        return ""
    bid = bids[-1]
    by = "you" if (len(bids) - 1) % 2 == player else f"player {1 - player}"
    before = _heard(sides, bids[:-1], player)
    return f"{before[:-1] + ',' if before else chr(10) + 'Bids:'} {bid // sides + 1}-{bid % sides + 1} by {by}."
