"""Reading lessons on the web shop's pages, for a model made from scratch: pages followed by questions about them (which
row looks right, which option is wanted), with the loss on the answers. A model that cannot read learns nothing from
search. Written for the compact observations.
"""

import numpy as np

from ..play.transcript import Transcript, Turn, acted, observed
from .rules import ShopState, WebShopSimulator
from .shoppers import first_right, query


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
