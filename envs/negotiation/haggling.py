"""Haggling over a listing: a seller and a buyer with a target each look for a price.

Setting of CraigslistBargain (He et al. 2018, arXiv:1808.09637). The seller's target is the listing price L, known to
both; the buyer's, T, is private: 0.9, 0.7 or 0.5 of it. With midpoint m = (L + T)/2 a price p is worth (p − m)/(L − m)
to the seller and the negative of that to the buyer, so that each gets 1 at the own target and 0 in the middle; without
a deal both get −½. Different from the original: worth is cut off at ±1 (a price beyond a target is worth as much as the
target), and prices end at the listing price.
"""

from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np

from .files import Listing, listings
from .offers import amount_in_cents, write_amount
from .protocol import AlternatingOffers, OfferState

SHARES_OF_TARGET: Final = (0.9, 0.7, 0.5)
NO_DEAL: Final = -0.5
_GOODS: Final[dict[str, tuple[tuple[str, ...], int, int]]] = {  # category: (things, lowest and highest price)
    "furniture": (("oak table", "bookshelf", "reading chair", "chest of drawers", "desk lamp"), 20, 600),
    "bike": (("city bike", "road bike", "folding bike", "child's bike", "cargo bike"), 40, 1500),
    "electronics": (("amplifier", "projector", "record player", "camera", "monitor"), 30, 900),
    "phone": (("phone with a new battery", "phone with a scratch", "unlocked phone"), 50, 700),
    "car": (("small car", "estate car", "old van", "convertible"), 800, 20000),
    "housing": (("room for a month", "flat near the park", "house by the lake"), 400, 4000),
}
_CATEGORIES: Final = tuple(_GOODS.items())
_STATES: Final = ("nearly unused", "used", "well kept", "older")


class HagglingContext(NamedTuple):
    """The listing, ``price`` what it asks for, and the buyer's ``target``; both in cents."""

    category: str
    title: str
    price: int
    target: int


class HagglingSimulator(AlternatingOffers):
    """A seller and a buyer haggle over the price of a listing.

    ## Description
    The seller is player 0, the buyer player 1, who begins. An offer is a price; the other may accept it, name another
    price, say something, or walk away.

    ## Observation Space
    Text: the listing, for the buyer also the own target, what was said, the moves that are possible. The seller knows
    only that the buyer's target is 90, 70 or 50 % of the listing price.

    ## Action Space
    ``offer[250]`` or ``offer[249.50]`` (0 to the listing price), ``accept``, ``walk away``, ``say: words`` (with
    ``messages``). With ``messages`` every act may carry one. Without, prices are the multiples of the listing price
    over ``increments``, and ``legal_actions`` lists everything.

    ## Rewards
    At the end (p − m)/(L − m) for the seller and the negative for the buyer, between −1 and 1, where L is the listing
    price and m the middle between it and the buyer's target; −0.5 for both without a deal.

    ## Starting State
    Listings are generated, or drawn from ``listings``, a JSON file (``options={"listing": i}`` picks one);
    the buyer's target is drawn (``options={"target": 0.7}`` sets it).

    ## Episode End
    A deal, walking away, ``max_turns`` moves (truncation), or ``max_invalid`` invalid actions in a row.

    ## Arguments
    ``listings``, ``messages``, ``max_turns``, ``increments``, ``max_invalid``, ``invalid_loses``, ``split``.

    >>> simulator = HagglingSimulator(messages=False)
    >>> state = simulator.reset(0, {"target": 0.5})
    >>> for action in (simulator.legal_actions(state)[25], "accept"):  # three quarters of the listing price
    ...     state = simulator.step(state, action)
    >>> simulator.info(state)["deal"], round(sum(simulator.rewards(state)), 9)
    (True, 0.0)

    ## Information
    ``success`` (a deal that is worth at least −0.5 to both), ``invalid_action``, ``deal``; at the end ``ended``,
    ``agreement`` (the price), ``utilities``.

    ## Version History
    v0: first version.

    ## Sources
    He et al., Decoupling strategy and generation in negotiation dialogues, EMNLP 2018, arXiv:1808.09637.
    """

    names: ClassVar[tuple[str, str]] = ("Seller", "Buyer")
    reset_options: ClassVar[tuple[str, ...]] = ("listing", "target")

    def __init__(
        self,
        listings: str | Path | None = None,
        messages: bool = True,
        max_turns: int = 20,
        increments: int = 100,
        max_invalid: int = 3,
        invalid_loses: bool = False,
        split: str = "train",
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__(
            messages=messages,
            max_rounds=None,
            max_turns=max_turns,
            max_invalid=max_invalid,
            invalid_loses=invalid_loses,
            split=split,
            talk=True,
            first=1,
        )
        self._arguments = arguments
        if not isinstance(increments, int) or not 1 <= increments <= 100:
            raise ValueError(f"increments={increments!r}; expected a whole number from 1 to 100.")
        self.listings = None if listings is None else _from_file(listings)
        self.increments = increments
        self.max_actions = increments + 3  # the prices, accept, walk away

    def _draw(self, rng: np.random.Generator, options: dict[str, Any]) -> HagglingContext:
        asked, share = options.get("listing"), options.get("target")
        if self.listings is None:
            if asked is not None:
                raise ValueError(f"listing={asked!r}; a number needs listings=FILE.")
            listing = _generated(rng)
        else:
            count = len(self.listings)
            if asked is None:
                asked = int(rng.random() * count)
            if not isinstance(asked, int) or not 0 <= asked < count:
                raise ValueError(f"listing={asked!r}; the file has listings 0 to {count - 1}.")
            listing = self.listings[asked]
        if share is None:
            share = SHARES_OF_TARGET[int(rng.random() * 3)]
        if not 0.0 <= share < 1.0:
            raise ValueError(f"target={share!r}; expected a part of the listing price, at least 0 and below 1.")
        return HagglingContext(*listing, _target(listing.price, share))

    def _redraw(self, context: HagglingContext, player: int, rng: np.random.Generator) -> HagglingContext:
        if player == 1:
            return context
        return _with_target(context, SHARES_OF_TARGET[int(rng.random() * 3)])

    def _brief(self, context: HagglingContext, player: int) -> str:
        category, title, price, target = context
        if player == 0:
            goal = f"You sell it and want ${write_amount(price)}. The buyer hopes for 90, 70 or 50 % of that."
        else:
            goal = f"You want to buy it for ${write_amount(target)}. The seller wants the listing price."
        return (
            f'You are the {self.names[player].lower()} of a listing in {category}: "{title}", ${write_amount(price)}. '
            f"{goal} Halfway between the two targets a deal is worth 0 to both, at your target 1, and no deal -0.5."
        )

    def _read(self, context: HagglingContext, player: int, terms: str) -> int | str:
        amount = amount_in_cents(terms)
        if isinstance(amount, int) and amount > context.price:
            return f"{write_amount(amount)} is above the listing price of {write_amount(context.price)}."
        return amount

    def _write(self, context: HagglingContext, player: int, outcome: int) -> str:
        return write_amount(outcome)

    def _form(self) -> str:
        return "…"

    def outcomes(self, context: HagglingContext) -> np.ndarray:
        """Prices in cents, falling: int64 ``[increments + 1]``."""
        key = (context.price, "prices")
        found = self._kept.get(key)
        if found is None:
            found = self._keep(key, np.arange(self.increments, -1, -1) * context.price // self.increments)
        return found

    def _is_compact(self, context: HagglingContext, outcome: int) -> bool:
        nearest = round(outcome * self.increments / context.price)
        return any(step * context.price // self.increments == outcome for step in (nearest, nearest + 1))

    def _public(self, context: HagglingContext) -> Any:
        return context.price

    def value(self, context: HagglingContext, player: int, outcome: int) -> float:
        _, _, price, target = context
        seller = (2 * outcome - price - target) / (price - target)
        seller = -1.0 if seller < -1.0 else 1.0 if seller > 1.0 else seller
        return seller if player == 0 else -seller

    def expected_value(self, context: HagglingContext, player: int, outcome: int) -> float:
        """The seller's worth of a price depends on the buyer's target: the mean over the three that it may be."""
        if player == 1:
            return self.value(context, 1, outcome)
        possible = [_with_target(context, share) for share in SHARES_OF_TARGET]
        return sum(self.value(one, 0, outcome) for one in possible) / len(possible)

    def disagreement(self, context: HagglingContext) -> tuple[float, float]:
        return (NO_DEAL, NO_DEAL)

    def _features(self, context: HagglingContext) -> tuple[np.ndarray, np.ndarray]:
        return self.outcomes(context)[:, None] / context.price, np.array([[1.0], [0.0]])

    def _money(self, state: OfferState, player: int) -> str:
        if state.deal < 0:
            return "nothing"
        return f"{'' if player == 0 else 'it for '}${write_amount(state.deal)}"


def _from_file(path: str | Path) -> tuple[Listing, ...]:
    return listings(path)


def _with_target(context: HagglingContext, share: float) -> HagglingContext:
    category, title, price, _ = context
    return HagglingContext(category, title, price, _target(price, share))


def _target(price: int, share: float) -> int:
    return round(price * share)


def _generated(rng: np.random.Generator) -> Listing:
    category, (things, lowest, highest) = _CATEGORIES[int(rng.random() * len(_CATEGORIES))]
    thing = things[int(rng.random() * len(things))]
    price = float(f"{lowest * (highest / lowest) ** rng.random():.2g}")  # as people ask: two leading digits
    return Listing(category, f"{thing}, {_STATES[int(rng.random() * len(_STATES))]}", round(price) * 100)
