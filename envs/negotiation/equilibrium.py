"""What rational players do where a closed form exists, and partners that play it.

- Alternating offers over a pie, discounts δ₁ and δ₂, no last round (Rubinstein 1982): the proposer i keeps
  x_i = (1 − δ_j)/(1 − δ_i·δ_j), and j accepts δ_j·x_j or more. With a last round T (Ståhl 1972), by backward induction:
  x^T = 1, x^t = 1 − δ_responder·x^(t+1).
- A seller and a buyer without discounting: whoever proposes in the last round keeps the whole gain, since the other has
  nothing to wait for; everybody knows it from the first round on.
- Persuasion with commitment (Kamenica and Gentzkow 2011): recommend every good one, and bad ones with the largest
  probability q at which a recommendation is still worth following, q = min(1, p(v − 1)/((1 − p)(1 − c))). Without
  commitment and memory, talk is empty (Crawford and Sobel 1982): the buyer buys iff p·v + (1 − p)·c ≥ 1.

The partners of the two games of offers read the other player's discount or value, which is public with complete
information; with private information no closed form exists, and they take the other to be like themselves (bargaining)
or to value the product as the grid does on average (buyer and seller). Persuasion is in ``persuasion_partners.py``.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np

from .glee import BUYER_SELLER_GRID, LONGEST_TOLD, BargainingSimulator, BuyerSellerSimulator
from .offers import write_amount
from .protocol import AlternatingOffers, OfferState

_NEARLY = 1e-9


def rubinstein_share(own_discount: float, other_discount: float) -> float:
    """What the proposer keeps without a last round: (1 − δ_other)/(1 − δ_own·δ_other); half where neither loses by
    waiting, where every split is an equilibrium."""
    both = own_discount * other_discount
    return 0.5 if both == 1.0 else (1.0 - other_discount) / (1.0 - both)


@lru_cache(maxsize=4096)
def finite_shares(discounts: tuple[float, float], rounds: int) -> tuple[float, ...]:
    """What the proposer of each of ``rounds`` rounds keeps, when player 0 proposes in odd rounds: ``rounds``
    numbers."""
    shares = [1.0]
    for number in range(rounds - 1, 0, -1):  # the responder of an odd round is player 1
        shares.append(1.0 - discounts[number % 2] * shares[-1])
    return tuple(reversed(shares))


def persuasion_rate(p: float, v: float, c: float = 0.0) -> float:
    """How often the committed seller recommends a bad good."""
    return 1.0 if p == 1.0 or c == 1.0 else min(1.0, p * (v - 1.0) / ((1.0 - p) * (1.0 - c)))


def equilibrium_partner(simulator: Any, state: OfferState, rng: np.random.Generator) -> str:
    """The subgame-perfect move in GLEE's bargaining or buyer–seller game; ``TypeError`` elsewhere."""
    simulator = getattr(simulator, "unwrapped", simulator)
    if isinstance(simulator, BargainingSimulator):
        return _bargain(simulator, state)
    if isinstance(simulator, BuyerSellerSimulator):
        return _trade(simulator, state)
    raise TypeError(
        f"no closed form is known for {type(simulator).__name__}; the equilibrium partner plays BargainingSimulator "
        "and BuyerSellerSimulator."
    )


def _bargain(simulator: BargainingSimulator, state: OfferState) -> str:
    player = state.player
    own = state.context[player]
    other = state.context[1 - player] if simulator.complete_information else own
    if state.on_table:
        offered = simulator.value(state.context, player, simulator.standing(state))
        waiting = own * _keeps(simulator, (own, other), player, state.round + 1)
        return "accept" if offered >= waiting - _NEARLY else "reject"
    kept = _keeps(simulator, (own, other), player, state.round)
    step = 1 if simulator.messages else simulator.money // simulator.increments
    theirs = math.ceil((1.0 - kept) * simulator.money / step - _NEARLY) * step  # up: less would be rejected
    return simulator.offer_action(state, simulator.money - theirs if player == 0 else theirs)


def _keeps(simulator: BargainingSimulator, discounts: tuple[float, float], player: int, number: int) -> float:
    """What ``player``, of discounts (own, other), keeps as the proposer of round ``number``; 0 after the last."""
    assert simulator.max_rounds is not None
    if simulator.max_rounds > LONGEST_TOLD:
        return rubinstein_share(*discounts)
    if number > simulator.max_rounds:
        return 0.0
    ordered = discounts if player == 0 else (discounts[1], discounts[0])
    return finite_shares(ordered, simulator.max_rounds)[number - 1]


def _trade(simulator: BuyerSellerSimulator, state: OfferState) -> str:
    player = state.player
    own = state.context[player]
    if simulator.complete_information:
        other = state.context[1 - player]
    else:
        other = round(simulator.order * float(np.mean(BUYER_SELLER_GRID["seller_value"])))
    seller, buyer = (own, other) if player == 0 else (other, own)
    assert simulator.max_rounds is not None
    if state.on_table:
        price = simulator.standing(state)
        gain = price - own if player == 0 else own - price
        if seller > buyer:
            return "accept" if gain >= 0 else "walk away"
        waiting = abs(_price(simulator, seller, buyer) - own)
        if gain >= waiting - simulator.order * _NEARLY and gain >= 0:
            return "accept"
        return "reject"
    price = own if seller > buyer else _price(simulator, seller, buyer)
    if not simulator.messages:  # to the step that does not cost the proposer the deal
        step = 2 * simulator.order // simulator.increments
        price = price // step * step if player == 0 else -(-price // step) * step
    return f"offer[{write_amount(price)}]"


def _price(simulator: BuyerSellerSimulator, seller: int, buyer: int) -> int:
    """The price to which backward induction leads: the other's value, set by who proposes last. With a hidden horizon
    nobody knows who that is, and they meet in the middle."""
    assert simulator.max_rounds is not None
    if simulator.max_rounds > LONGEST_TOLD:
        return (seller + buyer) // 2
    return buyer if simulator.max_rounds % 2 == 1 else seller


def supports(simulator: AlternatingOffers) -> bool:
    """Whether :func:`equilibrium_partner` can play ``simulator``."""
    return isinstance(simulator, BargainingSimulator | BuyerSellerSimulator)
