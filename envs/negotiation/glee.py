"""GLEE's two games of offers: dividing money under discounting, and a seller and a buyer over a price.

Rules, parameters and measures of GLEE (Shapira et al., arXiv:2410.05254); its third family is in ``persuasion.py``.
Player 0 is Alice, who proposes in odd rounds, player 1 Bob. With gains in shares of the money (or of the price order),
round t of agreement, p the price and V values, both over the price order:

- bargaining: self-gain g_i·δ_i^(t−1); efficiency their sum; fairness 1 − 4(g₁ − ½)² (0 without a deal, as g₁ = 0);
- buyer and seller: self-gain p − V_s and V_b − p, or 0 without a deal; efficiency 1 if they traded where V_b > V_s, or
  did not where V_b < V_s, or V_b = V_s, else 0; fairness 1 − 4(p − (V_s + V_b)/2)² with a deal, else 1.

The measures are those of GLEE's code. One of its habits is kept, that horizons of more than 20 rounds are not told to
the players; its prompts are not.
"""

import itertools
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, ClassVar, Final

import numpy as np

from .offers import amount_in_cents, named_values, write_amount
from .protocol import Context, OfferState, SameOffers

BARGAINING_GRID: Final[Mapping[str, tuple[Any, ...]]] = {
    "delta_1": (1.0, 0.95, 0.9, 0.8),
    "delta_2": (1.0, 0.95, 0.9, 0.8),
    "money": (100, 10_000, 1_000_000),
    "max_rounds": (99, 12),
    "complete_information": (True, False),
    "messages": (True, False),
}
BUYER_SELLER_GRID: Final[Mapping[str, tuple[Any, ...]]] = {
    "seller_value": (0.8, 1.0, 1.2, 1.5),
    "buyer_value": (0.8, 1.0, 1.2, 1.5),
    "price_order": (100, 10_000, 1_000_000),
    "max_rounds": (1, 10, 30),
    "messages": (True, False),
    "complete_information": (True, False),
}
MAX_INCREMENTS: Final = 10_000  # each is an action
LONGEST_TOLD: Final = 20  # rounds; a longer horizon is hidden from the players


def configurations(grid: Mapping[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """Every combination of a grid's values, as keyword arguments of its simulator."""
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


class _Glee(SameOffers):
    """What the two games have in common: answers without counter-offers, a horizon that may be hidden, messages with
    offers alone."""

    counter: ClassVar[bool] = False
    quiet_verbs: ClassVar[frozenset[str]] = frozenset({"accept", "reject", "walk away"})

    def _clock(self, state: OfferState) -> str:
        return f"Round {state.round}{self._of_rounds}."

    @cached_property
    def _of_rounds(self) -> str:
        return "" if (self.max_rounds or 0) > LONGEST_TOLD else f" of {self.max_rounds}"

    def time(self, state: OfferState) -> float:
        """As in the protocol; a hidden horizon counts as :data:`LONGEST_TOLD` rounds, since no player knows it."""
        assert self.max_rounds is not None
        limit = min(self.max_rounds, LONGEST_TOLD)
        return 1.0 if limit == 1 else min(1.0, (state.round - 1) / (limit - 1))

    def is_last_answer(self, state: OfferState) -> bool:
        assert self.max_rounds is not None
        return state.round == self.max_rounds <= LONGEST_TOLD

    def measures(self, state: OfferState) -> dict[str, Any]:
        """``self_gain`` (a pair), ``efficiency`` and ``fairness`` of a finished game."""
        raise NotImplementedError

    def info(self, state: OfferState) -> dict[str, Any]:
        """As in the protocol and, at the end, GLEE's ``self_gain``, ``efficiency`` and ``fairness``."""
        facts = super().info(state)
        if state.player < 0:
            facts.update(self.measures(state))
        return facts


class BargainingSimulator(_Glee):
    """Two players divide a sum of money by alternating offers; what is left loses worth with every round.

    ## Description
    GLEE's bargaining family, which is Rubinstein's game with a last round. Alice (player 0) proposes in odd rounds, Bob
    in even ones; the other accepts, which ends the game, or rejects, and then proposes. An agreement in round t is
    worth share·δ_i^(t−1) to player i. After ``max_rounds`` rejections both get nothing.

    ## Observation Space
    Text: the rules with the player's own discount (and the other's, with complete information), what was said, the
    round
    (with its limit up to 20 rounds), the moves that are possible.

    ## Action Space
    ``offer[alice=60 bob=40]`` (two amounts that add up to the money, at most two digits after the point), ``accept``,
    ``reject``. With ``messages`` an offer may carry one: ``offer[alice=60 bob=40]: because …``. Without, the offers are
    the multiples of money/``increments``, and ``legal_actions`` lists everything.

    ## Rewards
    At the end each player's share of the money times δ_i^(t−1), between 0 and 1; 0 without a deal.

    ## Starting State
    ``discounts=None`` draws δ₁ and δ₂ from GLEE's grid (1, 0.95, 0.9, 0.8) by the seed; ``reset`` takes
    ``options={"discounts": (δ₁, δ₂)}``.

    ## Episode End
    A deal, the last rejection, or ``max_invalid`` invalid actions in a row, which end the game without a deal.

    ## Arguments
    ``discounts`` or ``delta_1`` and ``delta_2``, ``money`` (whole units), ``max_rounds``, ``complete_information``,
    ``messages``, ``increments``, ``max_invalid``, ``invalid_loses``.

    >>> simulator = BargainingSimulator(discounts=(0.9, 0.9), messages=False)
    >>> state = simulator.reset(0)
    >>> for action in ("offer[alice=90 bob=10]", "reject", "offer[alice=50 bob=50]", "accept"):
    ...     state = simulator.step(state, action)
    >>> simulator.rewards(state)
    (0.45, 0.45)

    ## Information
    ``success``, ``invalid_action``, ``deal``; at the end ``ended``, ``agreement``, ``utilities``, ``self_gain``,
    ``efficiency``, ``fairness``.

    ## Version History
    v0: first version.

    ## Sources
    Shapira et al., GLEE, arXiv:2410.05254; Rubinstein, Perfect equilibrium in a bargaining model, Econometrica 1982.
    """

    reset_options: ClassVar[tuple[str, ...]] = ("discounts",)
    walk_away: ClassVar[bool] = False

    def __init__(
        self,
        discounts: tuple[float, float] | None = None,
        money: int = 100,
        max_rounds: int = 12,
        complete_information: bool = True,
        messages: bool = True,
        increments: int = 100,
        max_invalid: int = 3,
        invalid_loses: bool = False,
        delta_1: float | None = None,
        delta_2: float | None = None,
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__(
            messages=messages,
            max_rounds=max_rounds,
            max_turns=None,
            max_invalid=max_invalid,
            invalid_loses=invalid_loses,
            talk=False,
        )
        self._arguments = arguments
        if (delta_1 is None) != (delta_2 is None) or (delta_1 is not None and discounts is not None):
            raise ValueError("give discounts=(δ₁, δ₂), or both delta_1 and delta_2, or neither for drawn ones.")
        given = discounts if delta_1 is None or delta_2 is None else (delta_1, delta_2)
        self.discounts = None if given is None else _discounts(given)
        self.money = _whole("money", money) * 100
        self.complete_information = complete_information
        self.hides = not complete_information
        self.increments = _increments(increments, self.money)
        self._outcomes = np.arange(self.increments, -1, -1) * (self.money // self.increments)

    def _draw(self, rng: np.random.Generator, options: dict[str, Any]) -> Context:
        given = options.get("discounts", self.discounts)
        if given is not None:
            return _discounts(given)
        grid = BARGAINING_GRID["delta_1"]
        return (grid[int(rng.random() * 4)], grid[int(rng.random() * 4)])

    def _redraw(self, context: Context, player: int, rng: np.random.Generator) -> Context:
        """With private information the other's discount is any of the grid's, each as likely."""
        if self.complete_information:
            return context
        other = BARGAINING_GRID["delta_1"][int(rng.random() * 4)]
        return (context[0], other) if player == 0 else (other, context[1])

    def _brief(self, context: Context, player: int) -> str:
        other = 1 - player
        if self.complete_information:
            theirs = f"for {self.names[other]} it is worth {context[other]:g} times as much"
        else:
            theirs = f"how much it loses for {self.names[other]} you do not know"
        last = f" After round {self.max_rounds} both get nothing." if (self.max_rounds or 0) <= LONGEST_TOLD else ""
        return (
            f"You are {self.names[player]}. {self.names[player]} and {self.names[other]} divide "
            f"${write_amount(self.money)}. Alice proposes first. A rejected offer is gone, and whoever "
            f"rejected it proposes next. With every round that passes the money is "
            f"worth {context[player]:g} times as much to you; {theirs}.{last}"
        )

    def _read(self, context: Context, player: int, terms: str) -> int | str:
        values = named_values(terms, ("alice", "bob"))
        if isinstance(values, str):
            return values
        alice, bob = amount_in_cents(values[0]), amount_in_cents(values[1])
        if isinstance(alice, str):
            return alice
        if isinstance(bob, str):
            return bob
        if alice + bob != self.money:
            return (
                f"alice and bob add up to {write_amount(alice + bob)}; they must add up to {write_amount(self.money)}."
            )
        return alice

    def _write(self, context: Context, player: int, outcome: int) -> str:
        return f"alice={write_amount(outcome)} bob={write_amount(self.money - outcome)}"

    def _form(self) -> str:
        return "alice=… bob=…"

    def outcomes(self, context: Context) -> np.ndarray:
        """Alice's share in cents, from all to nothing: int64 ``[increments + 1]``."""
        return self._outcomes

    def _is_compact(self, context: Context, outcome: int) -> bool:
        return outcome % (self.money // self.increments) == 0

    def value(self, context: Context, player: int, outcome: int) -> float:
        return (outcome if player == 0 else self.money - outcome) / self.money

    def _discount(self, state: OfferState, player: int) -> float:
        return state.context[player] ** (state.round - 1)

    def _features(self, context: Context) -> tuple[np.ndarray, np.ndarray]:
        return self._outcomes[:, None] / self.money, np.array([[1.0], [0.0]])

    def _money(self, state: OfferState, player: int) -> str:
        got = self.utilities(state)[player]
        return f"${write_amount(round(got * self.money))} in money of the first round"

    def measures(self, state: OfferState) -> dict[str, Any]:
        gains = self.utilities(state)
        share = state.deal / self.money if state.deal >= 0 else 0.0
        return {"self_gain": gains, "efficiency": sum(gains), "fairness": 1.0 - 4.0 * (share - 0.5) ** 2}


class BuyerSellerSimulator(_Glee):
    """A seller and a buyer look for a price; each may trade with somebody else instead, at their own value.

    ## Description
    GLEE's negotiation family. Alice (player 0) sells and names a price in odd rounds, Bob (player 1) buys and names one
    in even rounds; the other accepts, rejects (and names a price next), or takes the outside option: John, who trades
    at that player's own value. After ``max_rounds`` rejections both trade with John. Trade may be impossible: values
    are drawn so that the seller's may be above the buyer's.

    ## Observation Space
    Text: the rules with the player's own value (and the other's, with complete information), what was said, the round,
    the moves that are possible.

    ## Action Space
    ``offer[105]`` or ``offer[104.50]``, a price; and to an offer ``accept``, ``reject``, ``walk away`` (John). With
    ``messages`` an offer may carry one: ``offer[105]: …``. Without, prices are 0 to twice the price order in
    ``increments`` equal steps, and ``legal_actions`` lists everything.

    ## Rewards
    At the end, over the price order: price − own value for the seller, own value − price for the buyer; 0 without a
    deal. A deal may be a loss.

    ## Starting State
    ``seller_value=None`` and ``buyer_value=None`` draw values from GLEE's grid (0.8, 1, 1.2, 1.5 times the price order)
    by the seed; ``reset`` takes ``options={"values": (seller, buyer)}``.

    ## Episode End
    A deal, the outside option, the last rejection, or ``max_invalid`` invalid actions in a row.

    ## Arguments
    ``seller_value``, ``buyer_value``, ``price_order`` (whole units), ``max_rounds``, ``complete_information``,
    ``messages``, ``increments``, ``max_invalid``, ``invalid_loses``.

    >>> simulator = BuyerSellerSimulator(seller_value=0.8, buyer_value=1.2, messages=False)
    >>> state = simulator.reset(0)
    >>> for action in ("offer[120]", "reject", "offer[100]", "accept"):
    ...     state = simulator.step(state, action)
    >>> [round(reward, 3) for reward in simulator.rewards(state)]
    [0.2, 0.2]

    ## Information
    ``success`` (as GLEE's efficiency: a trade where there is something to gain, none where there is not),
    ``invalid_action``, ``deal``; at the end ``ended``, ``agreement``, ``utilities``, ``self_gain``, ``efficiency``,
    ``fairness``.

    ## Version History
    v0: first version.

    ## Sources
    Shapira et al., GLEE, arXiv:2410.05254.
    """

    reset_options: ClassVar[tuple[str, ...]] = ("values",)

    def __init__(
        self,
        seller_value: float | None = None,
        buyer_value: float | None = None,
        price_order: int = 100,
        max_rounds: int = 10,
        complete_information: bool = True,
        messages: bool = True,
        increments: int = 100,
        max_invalid: int = 3,
        invalid_loses: bool = False,
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__(
            messages=messages,
            max_rounds=max_rounds,
            max_turns=None,
            max_invalid=max_invalid,
            invalid_loses=invalid_loses,
            talk=False,
        )
        self._arguments = arguments
        self._opening = ("offer",)  # John is an answer to an offer
        self.order = _whole("price_order", price_order) * 100
        self.complete_information = complete_information
        self.hides = not complete_information
        self.fixed = (seller_value, buyer_value)
        for name, value in zip(("seller_value", "buyer_value"), self.fixed, strict=True):
            if value is not None:
                _value(name, value)
        self.increments = _increments(increments, 2 * self.order)
        self._step = 2 * self.order // self.increments
        self._outcomes = np.arange(self.increments, -1, -1) * self._step

    def _draw(self, rng: np.random.Generator, options: dict[str, Any]) -> Context:
        """The two values in cents."""
        grid = BUYER_SELLER_GRID["seller_value"]
        seller, buyer = options.get("values", self.fixed)
        drawn = grid[int(rng.random() * 4)], grid[int(rng.random() * 4)]
        return tuple(
            round(self.order * (luck if value is None else _value("values", value)))
            for value, luck in zip((seller, buyer), drawn, strict=True)
        )

    def _redraw(self, context: Context, player: int, rng: np.random.Generator) -> Context:
        """With private information the other's value is any of the grid's, each as likely."""
        if self.complete_information:
            return context
        other = round(self.order * BUYER_SELLER_GRID["seller_value"][int(rng.random() * 4)])
        return (context[0], other) if player == 0 else (other, context[1])

    def _brief(self, context: Context, player: int) -> str:
        other = 1 - player
        trade, role = (("sell", "buyer"), ("buy", "seller"))[player]
        theirs = (
            f" To {self.names[other]} it is worth ${write_amount(context[other])}." if self.complete_information else ""
        )
        last = (
            f" If round {self.max_rounds} ends without a deal, both do so."
            if (self.max_rounds or 0) <= LONGEST_TOLD
            else ""
        )
        return (
            f"You are {self.names[player]} and {trade} a product; {self.names[other]} is the {role}. To you it is "
            f"worth ${write_amount(context[player])}.{theirs} Alice names the first price; whoever rejects a price "
            f"names the next. Instead you may walk away and {trade} at your own value with John.{last}"
        )

    def _read(self, context: Context, player: int, terms: str) -> int | str:
        return amount_in_cents(terms)

    def _write(self, context: Context, player: int, outcome: int) -> str:
        return write_amount(outcome)

    def _form(self) -> str:
        return "…"

    def outcomes(self, context: Context) -> np.ndarray:
        """Prices in cents, falling: int64 ``[increments + 1]``."""
        return self._outcomes

    def _is_compact(self, context: Context, outcome: int) -> bool:
        return outcome % self._step == 0 and outcome <= 2 * self.order

    def value(self, context: Context, player: int, outcome: int) -> float:
        gain = outcome - context[0] if player == 0 else context[1] - outcome
        return gain / self.order

    def _features(self, context: Context) -> tuple[np.ndarray, np.ndarray]:
        return self._outcomes[:, None] / self.order, np.array([[2.0], [0.0]])

    def _money(self, state: OfferState, player: int) -> str:
        gain = round(self.utilities(state)[player] * self.order)
        return f"a {'loss' if gain < 0 else 'gain'} of ${write_amount(abs(gain))}"

    def info(self, state: OfferState) -> dict[str, Any]:
        """As in the protocol, with GLEE's measures; ``success`` is an efficient outcome without a loss, which nobody
        forced by invalid actions."""
        facts = super().info(state)
        if state.player < 0:
            efficient = facts["efficiency"] == 1.0 and min(facts["utilities"]) >= 0.0
            facts["success"] = efficient and state.ended != "forfeit"
        return facts

    def measures(self, state: OfferState) -> dict[str, Any]:
        seller, buyer = state.context
        deal = state.deal >= 0
        fairness = 1.0 - 4.0 * ((state.deal - (seller + buyer) / 2) / self.order) ** 2 if deal else 1.0
        efficient = seller == buyer or deal == (buyer > seller)
        return {"self_gain": self.utilities(state), "efficiency": float(efficient), "fairness": fairness}


def _discounts(values: Any) -> tuple[float, float]:
    pair = tuple(float(value) for value in values)
    if len(pair) != 2 or not all(0.0 < value <= 1.0 for value in pair):
        raise ValueError(f"discounts={values!r}; expected two numbers above 0 and at most 1.")
    return pair  # type: ignore[return-value]


def _value(name: str, value: float) -> float:
    if not 0.0 <= value <= 2.0:
        raise ValueError(f"{name}={value!r}; expected a multiple of the price order from 0 to 2.")
    return float(value)


def _whole(name: str, value: int) -> int:
    if not isinstance(value, int) or not 1 <= value <= 10**9:
        raise ValueError(f"{name}={value!r}; expected a whole number from 1 to a thousand million.")
    return value


def _increments(increments: int, cents: int) -> int:
    if not isinstance(increments, int) or not 1 <= increments <= MAX_INCREMENTS or cents % increments:
        raise ValueError(
            f"increments={increments!r}; expected a whole number from 1 to {MAX_INCREMENTS:,} that divides {cents} "
            "cents evenly."
        )
    return increments
