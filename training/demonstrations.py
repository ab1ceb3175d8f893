"""What a model made from scratch is shown of the web shop before it acts: to read, and how others shop.

*Reading* comes first: pages followed by questions about them (which row fits, is it affordable, is the wanted option there),
with the loss on the answers. A model that cannot read learns nothing from search; the gate measures answers on pages that it has not seen.

*Demonstrations* come from a careful shopper, who compares before buying, and from shoppers with habits. A habit belongs to
a category of goods (in one the first result is taken, in another the price is ignored), so that a cloned model is mediocre
through what it was shown; rare random errors would average out. Now and then a habit is broken, so that the
model thinks other actions possible.

Written for the compact observations of ``branchwise/WebShop-v0``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..envs.simulator import TERMINAL
from ..envs.web_shop.catalogue import Goal, Product
from ..envs.web_shop.rules import ShopState, WebShopSimulator
from ..search.transcript import Transcript, acted, observed


@dataclass(frozen=True, slots=True)
class Habits:
    """How somebody shops. ``specific``: searches for the wanted attributes too, not merely the kind of thing; ``compares``: opens the first unseen row that has all attributes, not merely the first row;
    ``minds_price``: and is within the cap; ``chooses``: picks the wanted options, and leaves an item without them."""

    specific: bool = True
    compares: bool = True
    minds_price: bool = True
    chooses: bool = True


CAREFUL: Final = Habits()
HABITS: Final[Mapping[str, Habits]] = {
    "fashion": Habits(specific=False),
    "beauty": Habits(specific=False, compares=False),
    "electronics": Habits(specific=False, compares=False, chooses=False),
    "grocery": Habits(specific=False, chooses=False),
    "garden": Habits(specific=False, compares=False, chooses=False),
}
"""By the category of the goal: what :func:`demonstrations` shows."""


def query(goal: Goal, habits: Habits = CAREFUL) -> str:
    """What a shopper with ``habits`` searches for."""
    return " ".join((*goal.attributes, goal.query)) if habits.specific else goal.query


def affordable(goal: Goal, product: Product) -> bool:
    return product.price <= goal.price_upper


def fits(goal: Goal, product: Product, habits: Habits = CAREFUL) -> bool:
    """Whether a row of the results is what a shopper with ``habits`` would open."""
    if not habits.compares:
        return True
    name = product.name.lower()
    wanted = all(attribute in name for attribute in goal.attributes) and goal.query in name
    return wanted and (affordable(goal, product) or not habits.minds_price)


def shop(simulator: WebShopSimulator, state: ShopState, habits: Habits = CAREFUL) -> str:
    """The next action of a shopper with ``habits``; reads only what the pages show."""
    goal = simulator.goal(state)
    if state.page == "index":
        return f"search[{query(goal, habits)}]"
    legal = simulator.legal_actions(state) or []
    if state.page == "results":
        for row, product in enumerate(simulator.results(state), start=1):
            if simulator.catalogue.index_of(product.asin) not in state.seen and fits(goal, product, habits):
                return f"click[#{row}]"
        return next((a for a in ("click[next >]",) if a in legal), "click[back to search]")
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
    broken: float = 0.15,
) -> list[Transcript]:
    """``count`` episodes on goals drawn from ``simulator``'s split. In a share ``broken`` of them the shopper is careful,
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


def reading_lessons(
    simulator: WebShopSimulator, count: int, rng: np.random.Generator, questions: int = 8
) -> list[Transcript]:
    """``count`` pages, each followed by ``questions`` questions and their answers as turns of a conversation.

    About a results page: does a row have an attribute (``has``), is it affordable (``cheap``), is it what the goal asks
    for (``fits``), which is the first unseen one that is (``first``). About an item: is a wanted option offered (``offered``), which
    is wanted (``want``).
    """
    lessons = []
    for _ in range(count):
        state = _some_page(simulator, rng)
        asked = _about_results if state.page == "results" else _about_item
        transcript: Transcript = (observed(simulator.observation(state)),)
        for question, answer in asked(simulator, state, rng, questions):
            transcript = (
                (*transcript, acted(answer), observed(""))
                if not question
                else (
                    *transcript[:-1],
                    observed(f"{transcript[-1].text}\n{question}".strip()),
                    acted(answer),
                    observed(""),
                )
            )
        lessons.append(transcript[:-1])
    return lessons


def _some_page(simulator: WebShopSimulator, rng: np.random.Generator) -> ShopState:
    """A results page of a goal (three times in four; some rows seen), or an item from it."""
    state = simulator.reset(int(rng.integers(2**31)))
    goal = simulator.goal(state)
    words = query(goal) if rng.random() < 0.7 else goal.query
    state = simulator.step(state._replace(steps=int(rng.integers(6))), f"search[{words}]")
    rows = simulator.results(state)
    opened = [simulator.catalogue.index_of(p.asin) for p in rows if rng.random() < 0.15]
    state = state._replace(seen=tuple(sorted(opened)))
    if rng.random() < 0.75:
        return state
    good = [row for row, product in enumerate(rows, start=1) if fits(goal, product)]
    row = int(rng.choice(good)) if good and rng.random() < 0.5 else int(rng.integers(1, len(rows) + 1))
    return simulator.step(state, f"click[#{row}]")


def _about_results(
    simulator: WebShopSimulator, state: ShopState, rng: np.random.Generator, count: int
) -> list[tuple[str, str]]:
    goal, rows = simulator.goal(state), simulator.results(state)
    asked = []
    for _ in range(count - 1):
        row = int(rng.integers(len(rows)))
        product = rows[row]
        kind = ("has", "cheap", "fits")[int(rng.integers(3))]
        if kind == "has":
            attribute = goal.attributes[int(rng.integers(len(goal.attributes)))]
            asked.append((f"has {attribute} #{row + 1}", _answer(attribute in product.name.lower())))
        else:
            truth = affordable(goal, product) if kind == "cheap" else fits(goal, product)
            asked.append((f"{kind} #{row + 1}", _answer(truth)))
    unseen = [simulator.catalogue.index_of(p.asin) not in state.seen for p in rows]
    first = next((i for i, p in enumerate(rows, start=1) if unseen[i - 1] and fits(goal, p)), None)
    place = int(rng.integers(len(asked) + 1))
    asked.insert(place, ("first", f"#{first}" if first else "none"))
    return asked


def _about_item(
    simulator: WebShopSimulator, state: ShopState, rng: np.random.Generator, count: int
) -> list[tuple[str, str]]:
    goal, product = simulator.goal(state), simulator.catalogue[state.item]
    offered = dict(product.options)
    asked = [("cheap", _answer(affordable(goal, product)))]
    for name, value in goal.options:
        asked.append((f"offered {name}", _answer(value in offered.get(name, ()))))
        asked.append((f"want {name}", value))
    order = rng.permutation(len(asked))[:count]
    return [asked[i] for i in order]


def _answer(truth: bool) -> str:
    return "yes" if truth else "no"


def lesson_words() -> Sequence[str]:
    """The words of the questions, for the tokenizer."""
    return "has cheap fits first offered want yes no none".split()


def phrases(simulator: Any) -> list[str]:
    """Words and phrases of the shop, for a tokenizer: attributes and kinds of things are one token each."""
    from ..envs.web_shop.vocabulary import AISLES

    many = [phrase for aisle in AISLES for phrase in (*aisle.types, *aisle.attributes)]
    buttons = ["buy now", "back to search", "< prev", "next >"]
    return [*simulator.lexicon(), *lesson_words(), *many, *buttons]
