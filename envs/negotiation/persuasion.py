"""GLEE's third family: a seller who knows the quality of goods talks to a buyer who does not.

Rules of GLEE (Shapira et al., arXiv:2410.05254), after repeated cheap talk and persuasion (Crawford and Sobel 1982;
Kamenica and Gentzkow 2011). In each of T rounds nature draws a good that is good with probability p. The seller sees
its quality and sends a message (free text, or yes / no); the buyer buys at the fixed price or not. A good one is worth
v times the price to the buyer, a bad one c times. Measures, with k good and r bad ones bought: seller's self-gain (k +
r)/T, buyer's (k(v − 1) + r(c − 1))/T, efficiency the part of good ones bought, fairness the part of bad ones not
bought.

Who learns what is as in GLEE's code (``games/persuasion/persuasion.py``): after each round the buyer is told its
quality, bought or not (``generate_response_text``); a myopic buyer reads instead how many goods were sold and how many
of these were good (``generate_buyer_text``), to how many buyers (``generate_round_prior``).
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, ClassVar, Final, Literal, NamedTuple

import numpy as np

from ..arguments import checked_options
from ..forfeits import has_forfeited
from ..opponents import borrow_generator, return_generator
from ..simulator import CHANCE, TERMINAL, Simulator
from .offers import parse, with_message

PERSUASION_GRID: Final[Mapping[str, tuple[Any, ...]]] = {
    "p": (1 / 3, 0.5, 0.8),
    "c": (0.0,),
    "v": (1.2, 1.25, 2.0, 3.0, 4.0),
    "price": (100, 10_000, 1_000_000),
    "rounds": (25,),
    "seller_knows_values": (True, False),
    "buyer_knows_p": (True,),
    "message_type": ("text", "binary"),
    "myopic": (True, False),
    "buyer_messages": (True,),
}
SELLER: Final = 0
BUYER: Final = 1
GOOD: Final = "good"
BAD: Final = "bad"
_SHOWN = 6  # rounds of the log in an observation; information_state has them all


class Round(NamedTuple):
    """A finished round: the good's quality, what the seller said ("yes" or "no", empty in text), whether it was bought,
    and both messages."""

    good: bool
    said: str
    bought: bool
    message: str
    answer: str


class PersuasionState(NamedTuple):
    """``values`` are (p, v, c); ``past`` the finished rounds; ``good`` the quality drawn for this one (``None``
    before); ``said`` and ``message`` what the seller has said in it (``None`` before). ``invalid`` and ``wrong`` are
    about the player to move, ``defaulted`` the player whose default move was made after too many invalid actions, or
    −1; ``forfeits``, a bit a player, who ever had a move made for it."""

    values: tuple[float, float, float]
    past: tuple[Round, ...] = ()
    good: bool | None = None
    said: str | None = None
    message: str = ""
    invalid: int = 0
    wrong: str = ""
    defaulted: int = -1
    forfeits: int = 0


class PersuasionSimulator(Simulator[PersuasionState]):
    """A seller who knows each good's quality recommends it or not; a buyer decides whether to believe that.

    ## Description
    Alice (player 0) sells one good a round at a fixed price, Bob (player 1) buys or not. Quality is drawn at chance
    nodes, outcomes ``good`` and ``bad``. A long-lived buyer remembers every round, and learns its quality at its
    end, bought or not. With ``myopic`` each round has another buyer in Bob's seat, who knows figures of the past
    instead: how many rounds there were, how many goods were sold, how many of these were good.

    ## Observation Space
    Text: the rules, past rounds, for the seller the quality of this round's good, for the buyer what was said, the
    moves that are possible.

    ## Action Space
    Seller: ``say: words`` (``message_type="text"``), or ``yes`` and ``no``, recommending or not
    (``message_type="binary"``). Buyer: ``yes`` buys, ``no`` does not; with ``buyer_messages`` they may carry a message,
    which the seller reads. ``messages=False`` is the same as binary without messages of the buyer, and
    ``legal_actions`` lists everything.

    ## Rewards
    After the buyer's decision, over the price and the number of rounds: 1 for the seller if the good was bought; for
    the buyer v − 1 if it was a good one, c − 1 if a bad one, 0 if nothing was bought. Returns are GLEE's self-gains.

    ## Starting State
    ``p=None`` and ``v=None`` draw from GLEE's grid by the seed.

    ## Episode End
    After ``rounds`` rounds. ``max_invalid`` invalid actions in a row make the default move: the seller says nothing
    ("no" in binary), the buyer does not buy; with ``invalid_loses`` they end the game, and the rewards of the player
    sum to −1.

    ## Arguments
    ``p``, ``v``, ``c``, ``price``, ``rounds``, ``seller_knows_values``, ``buyer_knows_p``, ``message_type``,
    ``myopic``, ``buyer_messages``, ``messages``, ``max_invalid``, ``invalid_loses``.

    >>> simulator = PersuasionSimulator(p=0.5, v=2.0, rounds=2, messages=False)
    >>> state = simulator.reset(0)
    >>> for action in ("good", "yes", "yes", "bad", "no", "no"):
    ...     state = simulator.step(state, action)
    >>> simulator.info(state)["self_gain"], simulator.info(state)["efficiency"], simulator.info(state)["fairness"]
    ((0.5, 0.5), 1.0, 1.0)

    ## Information
    ``success`` (both gained, and no move was made for the player), ``invalid_action``, ``defaulted``; at the end
    ``self_gain``, ``efficiency``, ``fairness`` (1 where there was no good or no bad one).

    ## Version History
    v0: first version.

    ## Sources
    Shapira et al., GLEE, arXiv:2410.05254; Kamenica and Gentzkow, Bayesian persuasion, American Economic Review 2011.
    """

    players = 2
    hides = True
    names: ClassVar[tuple[str, str]] = ("Alice", "Bob")

    def __init__(
        self,
        p: float | None = None,
        v: float | None = None,
        c: float = 0.0,
        price: int = 100,
        rounds: int = 25,
        seller_knows_values: bool = True,
        buyer_knows_p: bool = True,
        message_type: Literal["text", "binary"] = "binary",
        myopic: bool = False,
        buyer_messages: bool = True,
        messages: bool = True,
        max_invalid: int = 3,
        invalid_loses: bool = False,
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self._arguments = arguments
        self._briefs: dict[tuple[tuple[float, float, float], int], str] = {}
        for name, value, low, high in (("p", p, 0.0, 1.0), ("v", v, 1.0, 100.0), ("c", c, 0.0, 1.0)):
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name}={value!r}; expected a number from {low:g} to {high:g}.")
        for name, number in (("price", price), ("rounds", rounds), ("max_invalid", max_invalid)):
            if not isinstance(number, int) or number < 1:
                raise ValueError(f"{name}={number!r}; expected a whole number of at least 1.")
            if number > 10**9:
                raise ValueError(f"{name} is above the limit of 1,000,000,000.")
        if message_type not in ("text", "binary"):
            raise ValueError(f"message_type={message_type!r}; expected 'text' or 'binary'.")
        self.p, self.v, self.c, self.price, self.rounds = p, v, c, price, rounds
        self.seller_knows_values, self.buyer_knows_p, self.myopic = seller_knows_values, buyer_knows_p, myopic
        self.free_text = messages and message_type == "text"
        self.buyer_messages = messages and buyer_messages
        self.messages, self.max_invalid, self.invalid_loses = messages, max_invalid, invalid_loses

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **self._arguments), ()

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> PersuasionState:
        checked_options(self, options)
        rng = borrow_generator(seed, 0)
        p, v = _one_of(PERSUASION_GRID["p"], rng), _one_of(PERSUASION_GRID["v"], rng)
        return_generator(rng)
        return PersuasionState((p if self.p is None else self.p, v if self.v is None else self.v, self.c))

    def current_player(self, state: PersuasionState) -> int:
        if state.forfeits and self.invalid_loses:
            return TERMINAL
        if state.good is None:
            return TERMINAL if len(state.past) >= self.rounds else CHANCE
        return SELLER if state.said is None else BUYER

    def chance_outcomes(self, state: PersuasionState) -> Sequence[tuple[str, float]]:
        p = state.values[0]
        return [(name, chance) for name, chance in ((GOOD, p), (BAD, 1.0 - p)) if chance > 0.0]

    def legal_actions(self, state: PersuasionState) -> Sequence[str] | None:
        player = self.current_player(state)
        if player < 0:
            return ()
        return None if (self.free_text if player == SELLER else self.buyer_messages) else ("yes", "no")

    def admissible_commands(self, state: PersuasionState) -> list[str] | None:
        player = self.current_player(state)
        if player < 0:
            return []
        return ["say: …"] if player == SELLER and self.free_text else ["yes", "no"]

    def step(self, state: PersuasionState, action: str) -> PersuasionState:
        """The state after ``action``; at a chance node ``good`` or ``bad`` (anything else counts as ``bad``)."""
        player = self.current_player(state)
        if player == TERMINAL:
            return state
        if player == CHANCE:
            return PersuasionState(state.values, state.past, action == GOOD, forfeits=state.forfeits)
        act = parse(action)
        speaking = player == SELLER and self.free_text
        if act.fault:
            return self._refuse(state, player, act.fault)
        if (act.verb != "say") if speaking else act.verb not in ("yes", "no"):
            return self._refuse(state, player, f"{act.verb} is not possible now; {self._prompt(player)}.")
        if act.message and not speaking and (player == SELLER or not self.buyer_messages):
            return self._refuse(state, player, f"no message is possible here; {self._prompt(player)}.")
        return self._move(state, player, "" if speaking else act.verb, act.message)

    def _move(self, state: PersuasionState, player: int, said: str, message: str, wrong: str = "") -> PersuasionState:
        values, past, good, heard, words, *_, forfeits = state
        defaulted = player if wrong else -1
        forfeits |= 1 << player if wrong else 0
        if player == SELLER or (wrong and self.invalid_loses):
            return PersuasionState(values, past, good, said, message, 0, wrong, defaulted, forfeits)
        done = Round(bool(good), heard or "", said == "yes", words, message)
        return PersuasionState(values, (*past, done), None, None, "", 0, wrong, defaulted, forfeits)

    def _refuse(self, state: PersuasionState, player: int, fault: str) -> PersuasionState:
        wrong = f"Invalid action: {fault}"
        if state.invalid + 1 < self.max_invalid:
            return state._replace(invalid=state.invalid + 1, wrong=wrong, defaulted=-1)
        silent = player == SELLER and self.free_text
        return self._move(state, player, "" if silent else "no", "", wrong)

    def rewards(self, state: PersuasionState) -> tuple[float, ...]:
        """Of the round that just ended (quality not drawn yet), else zeros."""
        if state.forfeits and self.invalid_loses:
            gains = self.measures(state)["self_gain"]
            lost = [has_forfeited(state.forfeits, player) for player in (SELLER, BUYER)]
            return tuple(-1.0 - gain if loses else 0.0 for gain, loses in zip(gains, lost, strict=True))
        if state.good is not None or not state.past or not state.past[-1].bought:
            return (0.0, 0.0)
        return (1.0 / self.rounds, (state.values[1 if state.past[-1].good else 2] - 1.0) / self.rounds)

    def measures(self, state: PersuasionState) -> dict[str, Any]:
        """``self_gain`` (a pair), ``efficiency`` and ``fairness`` of the rounds so far, over all rounds."""
        good = [done.bought for done in state.past if done.good]
        bad = [done.bought for done in state.past if not done.good]
        k, r = sum(good), sum(bad)
        _, v, c = state.values
        return {
            "self_gain": ((k + r) / self.rounds, (k * (v - 1.0) + r * (c - 1.0)) / self.rounds),
            "efficiency": k / len(good) if good else 1.0,
            "fairness": 1.0 - r / len(bad) if bad else 1.0,
        }

    def info(self, state: PersuasionState) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "success": False,
            "invalid_action": state.wrong != "",
            "defaulted": None if state.defaulted < 0 else state.defaulted,
        }
        if self.current_player(state) == TERMINAL:
            facts.update(self.measures(state))
            facts["success"] = self.success(state, SELLER)
        return facts

    # What is read.

    def observation(self, state: PersuasionState, player: int = 0) -> str:
        return self._text(state, player, _SHOWN)

    def information_state(self, state: PersuasionState, player: int) -> str:
        return self._text(state, player, self.rounds)

    def _text(self, state: PersuasionState, player: int, shown: int) -> str:
        past = state.past
        if player == BUYER and self.myopic:
            bought = [done for done in past if done.bought]
            good = sum(done.good for done in bought)
            told = (
                [f"Rounds before you: {len(past)}; goods sold in them: {len(bought)}, of these good: {good}."]
                if past
                else []
            )
        else:
            first = max(0, len(past) - shown)
            told = list(map(_told, range(first, len(past)), past[first:]))
            if first:
                told.insert(0, "…")
        return "\n".join((self._brief(state.values, player), *told, *self._now(state, player)))

    def _brief(self, values: tuple[float, float, float], player: int) -> str:
        found = self._briefs.get((values, player))
        if found is None:
            if len(self._briefs) > 1024:
                self._briefs.clear()
            found = self._briefs[values, player] = self._written(values, player)
        return found

    def _written(self, values: tuple[float, float, float], player: int) -> str:
        p, v, c = values
        odds = (
            f"{100 * p:.4g} % of all goods are good"
            if player == SELLER or self.buyer_knows_p
            else "some goods are good"
        )
        worth = f"A good one is worth ${v * self.price:.12g} to the buyer, a bad one ${c * self.price:.12g}."
        if player == SELLER:
            buyers = "each round another buyer" if self.myopic else "the same buyer, Bob,"
            learn = (
                "They read how many were sold before and how many of these were good."
                if self.myopic
                else "After each round he learns its quality."
            )
            known = worth if self.seller_knows_values else "What goods are worth to the buyer you do not know."
            return (
                f"You are Alice and offer a good for ${self.price} in each of {self.rounds} rounds; {buyers} decides. "
                f"{learn} You earn the price of each one sold. You alone see its quality: {odds}. {known}"
            )
        return (
            f"You are Bob. In each of {self.rounds} rounds Alice offers a good for ${self.price}, and "
            f"{'another buyer decides each time; you decide now' if self.myopic else 'you decide'}. She sees its "
            f"quality, you do not{'' if self.myopic else ' until the round is over'}: {odds}. {worth}"
        )

    def _now(self, state: PersuasionState, player: int) -> list[str]:
        mover = self.current_player(state)
        if mover == TERMINAL and state.forfeits and self.invalid_loses:
            lost = has_forfeited(state.forfeits, player)
            lines = [f"{'You were' if lost else 'The other was'} put out after too many invalid actions in a row."]
        elif mover == TERMINAL:
            gain = self.measures(state)["self_gain"][player] * self.rounds * self.price
            whose = "All buyers together" if player == BUYER and self.myopic else "You"
            lines = [f"All {self.rounds} rounds are over. {whose} gained ${gain:.12g}."]
        else:
            lines = [f"Round {len(state.past) + 1} of {self.rounds}."]
            if player == SELLER and state.good is not None:
                lines.append("This one is good." if state.good else "This one is bad.")
            if player == BUYER and mover == BUYER:
                words = f'"{state.message}"' if state.message else state.said or "nothing"
                lines.append(f"Alice says: {words}")
            lines.append(f"Your move: {self._prompt(player)}" if mover == player else "Wait.")
        now = " ".join(lines)
        told = state.wrong and (state.defaulted == player if state.defaulted >= 0 else mover == player)
        return [state.wrong, now] if told else [now]

    def _prompt(self, player: int) -> str:
        if player == SELLER:
            return "say: …" if self.free_text else "yes (recommend it) | no"
        return "yes (buy) | no"

    # What partners and search may ask.

    def resample(self, state: PersuasionState, player: int, rng: np.random.Generator) -> PersuasionState:
        """What the player does not know drawn anew: for the buyer the quality of the good on offer, good with
        probability p, for a myopic one also that of goods not bought (what else he does not know of the past is left
        as it is), and p from GLEE's grid where it is not known; for a seller who does not know the buyer's values, v
        from GLEE's grid."""
        p, v, c = state.values
        if player == SELLER:
            return (
                state if self.seller_knows_values else state._replace(values=(p, _one_of(PERSUASION_GRID["v"], rng), c))
            )
        if not self.buyer_knows_p:
            p = _one_of(PERSUASION_GRID["p"], rng)
        past = state.past
        if self.myopic:
            past = tuple(done if done.bought else done._replace(good=bool(rng.random() < p)) for done in past)
        good = None if state.good is None else bool(rng.random() < p)
        return state._replace(values=(p, v, c), past=past, good=good)

    def speak_action(self, recommend: bool) -> str:
        """The seller's action that recommends this round's good, or not."""
        verb = "yes" if recommend else "no"
        if not self.free_text:
            return verb
        return with_message("say", "I recommend this one." if recommend else "I do not recommend this one.")

    def all_actions(self) -> tuple[str, ...]:
        """The actions that an index can stand for; in the text form the two sentences of :meth:`speak_action` too."""
        spoken = (self.speak_action(True), self.speak_action(False)) if self.free_text else ()
        return ("yes", "no", *spoken)

    def suggested_actions(self, state: PersuasionState) -> Sequence[str]:
        """Actions to choose from by number."""
        player = self.current_player(state)
        if player < 0:
            return ()
        return (self.speak_action(True), self.speak_action(False)) if player == SELLER else ("yes", "no")

    def success(self, state: PersuasionState, player: int) -> bool:
        """Whether both gained, the game is over, and no move had to be made for ``player``."""
        if self.current_player(state) != TERMINAL or has_forfeited(state.forfeits, player):
            return False
        return not (state.forfeits and self.invalid_loses) and min(self.measures(state)["self_gain"]) > 0.0

    def recommended(self, state: PersuasionState) -> bool:
        """Whether the seller has recommended this round's good: by yes, or by the sentence of :meth:`speak_action`.
        Other words count as a recommendation unless they contain "not", "n't", "bad" or "low" (a crude reader)."""
        return recommends(state.said or "", state.message)


def recommends(said: str, message: str) -> bool:
    """As :meth:`PersuasionSimulator.recommended`, for what was said in any round."""
    if said:
        return said == "yes"
    words = message.lower()
    return bool(words) and not any(mark in words for mark in ("not", "n't", "bad", "low"))


@lru_cache(maxsize=16_384)
def _told(number: int, done: Round) -> str:
    """A finished round, as the seller and a long-lived buyer know it."""
    said = f'"{done.message}"' if done.message else done.said or "nothing"
    answer = f', saying "{done.answer}"' if done.answer else ""
    decision = "bought" if done.bought else "did not buy"
    return f"Round {number + 1}: Alice said {said}; Bob {decision}{answer}; it was {GOOD if done.good else BAD}."


def _one_of(values: tuple[float, ...], rng: np.random.Generator) -> float:
    return values[int(rng.random() * len(values))]
