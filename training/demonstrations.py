"""What a model made from scratch is shown of the web shop before it acts: to read, and how others shop.

*Reading* comes first: pages followed by questions about them (which row looks right, which option is wanted), with
the loss on the answers. A model that cannot read learns nothing from search; the gate measures answers on pages of a
shop that it has not seen.

*Demonstrations* come from a careful shopper, who compares before buying, and from shoppers with habits. A habit
belongs to a category of goods (in one the first result is taken, in another the price is ignored), so that a cloned
model is mediocre through what it was shown; rare random errors would average out. Now and then a habit is broken, so
that the model thinks other actions possible.

Written for the compact observations of ``branchwise/WebShop-v0``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..envs.simulator import TERMINAL
from ..envs.web_shop.catalogue import Goal, Product
from ..envs.web_shop.pages import has_all_words
from ..envs.web_shop.rules import ShopState, WebShopSimulator
from ..search.transcript import Transcript, Turn, acted, observed


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
"""By the category of the goal: what :func:`demonstrations` shows."""


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


def demonstrations(
    simulator: WebShopSimulator,
    count: int,
    rng: np.random.Generator,
    habits: Mapping[str, Habits] = HABITS,
    broken: float = 0.1,
) -> list[Transcript]:
    """``count`` episodes on goals of ``simulator``'s split. In a share ``broken`` of them the shopper is careful,
    whatever the habit of the category; pass ``habits={}`` for careful shoppers alone."""
    episodes = []
    for _ in range(count):
        state = simulator.reset(int(rng.integers(2**31)))
        goal = simulator.goal(state)
        kind = CAREFUL if rng.random() < broken else habits.get(goal.category, CAREFUL)
        transcript: Transcript = (observed(simulator.observation(state)),)
        while simulator.current_player(state) != TERMINAL:
            action = shop(simulator, state, kind)
            state = simulator.step(state, action)
            transcript = (*transcript, acted(action), observed(simulator.observation(state)))
        episodes.append(transcript)
    return episodes


def reading_lessons(simulator: WebShopSimulator, count: int, rng: np.random.Generator) -> list[Transcript]:
    """``count`` pages, each followed by questions and their answers as turns of a conversation: on the search page what
    kind of thing is wanted, and with which attributes (``kind``, ``what``), on a results page which row is the first
    that looks right and was not seen (``first``), on an item's which value of an option is wanted (``want color``)."""
    lessons: list[Transcript] = []
    while len(lessons) < count:
        state = _some_page(simulator, rng)
        asked = _questions(simulator, state)
        if not asked:
            continue
        page = simulator.observation(state)
        turns: list[Turn] = []
        for place in rng.permutation(len(asked)):
            question, answer = asked[place]
            turns += [observed(question if turns else f"{page}\n{question}"), acted(answer)]
        lessons.append(tuple(turns))
    return lessons


def _some_page(simulator: WebShopSimulator, rng: np.random.Generator) -> ShopState:
    """The search page of a goal, a results page, some of its rows seen, or an item from it, some of its options
    chosen."""
    state = simulator.reset(int(rng.integers(2**31)))
    if rng.random() < 0.35:
        return state._replace(steps=int(rng.integers(6)))
    goal = simulator.goal(state)
    words = query(goal) if rng.random() < 0.7 else goal.query
    state = simulator.step(state._replace(steps=int(rng.integers(6))), f"search[{words}]")
    rows = simulator.results(state)
    seen = [simulator.catalogue.index_of(product.asin) for product in rows if rng.random() < 0.15]
    if rng.random() < 0.55:
        return state._replace(seen=tuple(sorted(seen)))
    state = simulator.step(state, f"click[#{rng.integers(1, len(rows) + 1)}]")
    for _, values in simulator.catalogue[state.item].options:
        if rng.random() < 0.3:
            state = simulator.step(state, f"click[{values[int(rng.integers(len(values)))]}]")
    return state


def _questions(simulator: WebShopSimulator, state: ShopState) -> list[tuple[str, str]]:
    if state.page == "index":
        goal = simulator.goal(state)
        return [("kind", goal.query), ("what", query(goal))]
    if state.page == "results":
        return [("first", first_right(simulator, state) or "none")]
    offered = dict(simulator.catalogue[state.item].options)
    return [(f"want {name}", value) for name, value in simulator.goal(state).options if name in offered]


def lesson_words() -> Sequence[str]:
    """The words of the questions, for the tokenizer."""
    return ["first", "want", "none", "kind", "what"]


def phrases(simulator: Any) -> list[str]:
    """Words and phrases of the shop, for a tokenizer: attributes and kinds of things are one token each."""
    from ..envs.web_shop.vocabulary import AISLES

    many = [phrase for aisle in AISLES for phrase in (*aisle.types, *aisle.attributes)]
    buttons = ["buy now", "back to search", "< prev", "next >"]
    return [*simulator.lexicon(), *lesson_words(), *many, *buttons]
