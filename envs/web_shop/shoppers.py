"""Who shops by rule in the web shop: at random, by WebShop's rule, carefully, or by habit.

:func:`rule_based` is the rule baseline of WebShop (arXiv:2207.01206, section 5): search the instruction as it stands,
open the first result, buy it without choosing options. It and :func:`random_shopper` read the observation and the legal
actions alone, in each of the shop's observation modes.

The careful shopper compares before buying, and shoppers with habits do not. A habit belongs to a category of goods (in
one the first result is taken, in another the price is ignored), so that a model cloned from them is mediocre through
what it was shown; rare random errors would average out. Written for the compact observations.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..simulator import Simulator
from .catalogue import Goal, Product
from .pages import has_all_words
from .rules import ShopState, WebShopSimulator

_BUY: Final = "click[buy now]"
_PREVIOUS: Final = "click[< prev]"
_NAVIGATION: Final = frozenset({"click[back to search]", _PREVIOUS, "click[next >]"})
_INSTRUCTION: Final = re.compile(r"Instruction:\s*(?:\[SEP\])?\s*(.+?)\s*(?:\[SEP\]|\n|$)")
_GOAL: Final = re.compile(r"^goal (.+)$", re.MULTILINE)
_WORD: Final = re.compile(r"[\w$.'-]+")


def random_shopper(simulator: Simulator[Any], state: Any, rng: np.random.Generator) -> str:
    """Uniform over the legal actions; where a query is typed, one to five words of the instruction (of the whole
    observation where there is none), in their order."""
    legal = simulator.legal_actions(state)
    if legal is not None:
        return legal[int(rng.integers(len(legal)))] if legal else ""
    observation = simulator.observation(state)
    words = _WORD.findall(instruction_in(observation) or observation)
    if not words:
        return "search[]"
    size = min(len(words), int(rng.integers(1, 6)))
    places = np.sort(rng.choice(len(words), size=size, replace=False))
    return f"search[{' '.join(words[i] for i in places)}]"


def rule_based(simulator: Simulator[Any], state: Any, rng: np.random.Generator) -> str:
    """Searches the instruction, opens the first result, buys."""
    legal = simulator.legal_actions(state)
    if legal is None:
        return f"search[{instruction_in(simulator.observation(state))}]"
    if _BUY in legal:
        return _BUY
    # A results page lists products after its buttons; a product's sub-page has buttons only: its way on is back.
    results = [action for action in legal if action not in _NAVIGATION]
    if results:
        return results[0]
    return _PREVIOUS if _PREVIOUS in legal else next(iter(legal), "")


def instruction_in(observation: str) -> str:
    """The shopping instruction in an observation of any mode; "" where there is none."""
    found = _GOAL.findall(observation) or _INSTRUCTION.findall(observation)
    return found[-1].strip() if found else ""


@dataclass(frozen=True, slots=True)
class Habits:
    """How somebody shops. ``specific``: searches for the wanted attributes too, not merely the kind of thing;
    ``compares``: opens the first unseen row that has all searched words at a price under the cap, not merely the first;
    ``chooses``: picks the wanted options, and leaves an item that does not offer them."""

    specific: bool = True
    compares: bool = True
    chooses: bool = True


CAREFUL: Final = Habits()
HABITS: Final[Mapping[str, Habits]] = {
    "fashion": CAREFUL,
    "beauty": Habits(specific=False, compares=False),
    "electronics": Habits(chooses=False),
    "grocery": Habits(specific=False, chooses=False),
    "garden": Habits(specific=False, compares=False, chooses=False),
}
"""By the category of the goal: what :func:`habitual` does."""


def query(goal: Goal, habits: Habits = CAREFUL) -> str:
    """What a shopper with ``habits`` searches for."""
    return " ".join((*goal.attributes, goal.query)) if habits.specific else goal.query


def looks_right(simulator: WebShopSimulator, state: ShopState, product: Product) -> bool:
    """Whether the results page of ``state`` shows ``product`` as ``all under``: all searched words, within the cap."""
    return has_all_words(state.query, product.name) and product.price <= simulator.goal(state).price_upper


def first_right(simulator: WebShopSimulator, state: ShopState, compares: bool = True) -> str | None:
    """The row, as it is clicked (``#3``), of the first unseen product that looks right; of the first unseen one for
    shoppers who do not compare."""
    for row, product in enumerate(simulator.results(state), start=1):
        unseen = simulator.catalogue.index_of(product.asin) not in state.seen
        if unseen and (not compares or looks_right(simulator, state, product)):
            return f"#{row}"
    return None


def careful(simulator: Any, state: Any, rng: np.random.Generator) -> str:
    """The careful shopper: searches for all that is wanted, compares, chooses the options, buys."""
    return shop(simulator, state)


def shop(simulator: WebShopSimulator, state: ShopState, habits: Habits = CAREFUL) -> str:
    """The next action of a shopper with ``habits``; reads only what the pages show."""
    goal = simulator.goal(state)
    if state.page == "index":
        return f"search[{query(goal, habits)}]"
    legal = simulator.legal_actions(state) or []
    if state.page == "results":
        row = first_right(simulator, state, habits.compares)
        if row is not None:
            return f"click[{row}]"
        return "click[next >]" if "click[next >]" in legal else "click[back to search]"
    if state.page == "item":
        if habits.chooses:
            offered = dict(simulator.catalogue[state.item].options)
            for name, value in goal.options:
                if value not in offered.get(name, ()):
                    return "click[< prev]"
                if (name, value) not in state.options:
                    return f"click[{value}]"
        return "click[buy now]"
    return "click[< prev]"


def habitual(simulator: Any, state: Any, rng: np.random.Generator) -> str:
    """The shopper with the habit of the goal's category (:data:`HABITS`)."""
    return shop(simulator, state, HABITS.get(simulator.goal(state).category, CAREFUL))
