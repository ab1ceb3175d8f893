"""The rules of the web shop: pure functions over :class:`ShopState`.

The page graph is WebShop's: index → results (tens, up to fifty) → item → description, features, reviews (and attributes);
``< prev`` goes back one level, ``back to search`` to the index, ``buy now`` ends the episode. A new search or a return to
the results forgets the chosen options. The reward is earned by ``buy now`` alone (``reward.py``).

Every action counts as a step; text that is no valid action changes nothing but the count and is answered by a line that says so.
"""

import re
import threading
import weakref
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

from ..simulator import TERMINAL, Simulator
from . import pages
from .catalogue import SPLITS, Catalogue, Difficulty, GeneratedCatalogue, Goal, Product, mix, words_of_the_shop
from .pages import BACK, BUY, NEXT, PREVIOUS, ROWS, SUB_PAGES
from .retrieval import Index
from .reward import Nouns, PurchaseReward, Variant, default_nouns, purchase_reward

ObservationMode = Literal["text", "text_rich", "compact"]
OBSERVATION_MODES: Final = ("text", "text_rich", "compact")
SEARCH: Final = "search[…]"

_ACTION: Final = re.compile(r"\s*(search|click)\s*\[(.*)\]\s*", re.IGNORECASE | re.DOTALL)
_MAX_QUERY: Final = 1000  # characters; a longer query is cut, so that hostile text costs nothing


class ShopState(NamedTuple):
    """Where a customer is. ``goal`` is an index into the simulator's goals, ``item`` a product's index or -1, ``seen`` the
    products opened in this episode (ascending), ``options`` the chosen (group, value) in the order of the page,
    ``message`` what was wrong with the last action (empty if nothing), ``history`` earlier (observation, action)."""

    goal: int
    page: str = "index"
    query: str = ""
    results_page: int = 0
    item: int = -1
    options: tuple[tuple[str, str], ...] = ()
    seen: tuple[int, ...] = ()
    steps: int = 0
    message: str = ""
    history: tuple[tuple[str, str], ...] = ()


_shared: "weakref.WeakValueDictionary[str, Shop]" = weakref.WeakValueDictionary()
_shared_lock = threading.Lock()


class Shop:
    """A catalogue with its index: what all copies of an environment in a process share."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.index = Index(catalogue)  # type: ignore[arg-type]

    @staticmethod
    def open(catalogue: Catalogue) -> "Shop":
        with _shared_lock:
            shop = _shared.get(catalogue.fingerprint)
            if shop is None:
                shop = _shared[catalogue.fingerprint] = Shop(catalogue)
            return shop


class WebShopSimulator(Simulator[ShopState]):
    """See ``WebShopEnv`` (``env.py``) for the page of this environment and its arguments."""

    def __init__(
        self,
        catalogue: str | None = None,
        products: int = 1000,
        catalogue_seed: int = 0,
        split: str = "train",
        observation_mode: ObservationMode = "text",
        max_steps: int = 15,
        goals: Literal["synthetic", "human"] = "synthetic",
        variant: Variant = "mended",
        near_duplicates: float = 0.7,
        attributes: tuple[int, int] = (2, 3),
        options: tuple[float, float, float] = (0.1, 0.4, 0.5),
        hidden_attributes: float = 0.0,
        show_attributes: bool = False,
        num_prev_obs: int = 0,
        num_prev_actions: int = 0,
        nouns: Nouns = default_nouns,
    ) -> None:
        _expect("split", split, SPLITS)
        _expect("observation_mode", observation_mode, OBSERVATION_MODES)
        _expect("goals", goals, ("synthetic", "human"))
        _expect("variant", variant, ("mended", "released"))
        self.arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        difficulty = Difficulty(near_duplicates, tuple(attributes), tuple(options), hidden_attributes)  # type: ignore[arg-type]
        if catalogue is not None:
            raise NotImplementedError("catalogue folders are read by files.py, which does not stand yet")
        self._open(Shop.open(GeneratedCatalogue(products, catalogue_seed, split, difficulty)))

    def _open(self, shop: Shop) -> None:
        arguments = self.arguments
        self._shop = shop
        self.catalogue = shop.catalogue
        self.goals = shop.catalogue.goals
        self.goal_range = shop.catalogue.goal_range(arguments["split"])
        self.split = arguments["split"]
        self.observation_mode = arguments["observation_mode"]
        self.max_steps = arguments["max_steps"]
        self.variant = arguments["variant"]
        self._nouns = arguments["nouns"]
        self._attributes_page = arguments["show_attributes"]
        self._num_prev_obs = arguments["num_prev_obs"]
        self._num_prev_actions = arguments["num_prev_actions"]
        self._page_text = lru_cache(maxsize=16384)(self._draw)
        self._actions = lru_cache(maxsize=16384)(self._find_actions)
        self._purchase = lru_cache(maxsize=16384)(self._buy)

    def __reduce__(self) -> tuple[Any, ...]:
        return _make, (self.arguments,)

    # What a script or a test may ask beside the game.

    def goal(self, state: ShopState) -> Goal:
        """The goal of the episode that ``state`` belongs to."""
        return self.goals[state.goal]

    def product(self, key: int | str) -> Product:
        """A product by index or ASIN; ``KeyError`` names an ASIN that this catalogue does not have."""
        if isinstance(key, str):
            index = self.catalogue.index_of(key.upper())
            if index < 0:
                raise KeyError(f"no product {key!r} in this catalogue")
            key = index
        return self.catalogue[key]

    def results(self, state: ShopState) -> list[Product]:
        """The products on the results page that ``state`` shows (or came from), in order; at most ten."""
        return [self.catalogue[i] for i in self._rows(state.query, state.results_page)]

    def purchase(self, state: ShopState) -> PurchaseReward:
        """The reward that buying now would earn, with its parts; ``state`` must have an item."""
        return self._purchase(state.goal, state.item, state.options)

    def lexicon(self) -> list[str]:
        """Every lower-case word of a compact page or instruction of the generated catalogue, prices aside; sorted."""
        page_words = "goal steps search page results of no item chosen nothing seen description features reviews none"
        page_words += " attributes invalid action order placed under price find me with and"
        return sorted(words_of_the_shop() | set(page_words.split()) | {w for b in (BACK, BUY, "prev next") for w in b.split()})

    # The rules.

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> ShopState:
        """``options={"goal": i}``: goal ``i`` of the split; otherwise ``seed`` picks one, uniformly."""
        count = len(self.goal_range)
        if count == 0:
            raise ValueError(f"split {self.split!r} has no goals in this catalogue; expected at least one, choose another split")
        index = (options or {}).get("goal")
        if index is None:
            return ShopState(self.goal_range[(mix(int(seed), 4) * count) >> 64])
        if not 0 <= int(index) < count:
            raise ValueError(f"goal {index} is not in split {self.split!r}, which has goals 0 to {count - 1}")
        return ShopState(self.goal_range[int(index)])

    def current_player(self, state: ShopState) -> int:
        return TERMINAL if state.page == "done" or state.steps >= self.max_steps else 0

    def truncated(self, state: ShopState) -> bool:
        return state.page != "done" and state.steps >= self.max_steps

    def rewards(self, state: ShopState) -> tuple[float, ...]:
        return (self.purchase(state).total if state.page == "done" else 0.0,)

    def legal_actions(self, state: ShopState) -> Sequence[str] | None:
        if state.page == "done" or state.steps >= self.max_steps:
            return []
        if state.page == "index":
            return None
        return list(self._actions(state.page, state.query, state.results_page, state.item))

    def admissible_commands(self, state: ShopState) -> list[str] | None:
        actions = self.legal_actions(state)
        return [SEARCH] if actions is None else list(actions)

    def position(self, state: ShopState) -> ShopState:
        return state._replace(steps=0, message="", history=())

    def info(self, state: ShopState) -> dict[str, Any]:
        facts: dict[str, Any] = {"success": False, "invalid_action": bool(state.message), "goal": state.goal}
        if state.page == "done":
            reward = self.purchase(state)
            facts["success"] = reward.total == 1.0
            facts["reward_components"] = reward.as_dict()
        return facts

    def step(self, state: ShopState, action: str) -> ShopState:
        if state.page == "done" or state.steps >= self.max_steps:
            return state
        after = self._act(state, action)
        if self._num_prev_obs or self._num_prev_actions:
            kept = max(self._num_prev_obs, self._num_prev_actions)
            after = after._replace(history=(*state.history, (self._page(state), action[:_MAX_QUERY]))[-kept:])
        return after

    def _act(self, state: ShopState, action: str) -> ShopState:
        match = _ACTION.fullmatch(action)
        steps = state.steps + 1
        if match is None:
            return state._replace(steps=steps, message="invalid action")
        verb, argument = match[1].lower(), " ".join(match[2].lower().split())
        if verb == "search":
            if not argument or (state.page != "index" and self.variant == "mended"):
                return state._replace(steps=steps, message="invalid action")
            return ShopState(
                state.goal, "results", argument[:_MAX_QUERY], 1, -1, (), state.seen, steps, "", state.history
            )
        return self._click(state, argument, steps)

    def _click(self, state: ShopState, target: str, steps: int) -> ShopState:
        goal, page, query, number, item, chosen, seen, _, _, history = state
        if page != "index":
            if target == BACK:
                return ShopState(goal, "index", "", 0, -1, (), seen, steps, "", history)
            if page == "results":
                total = len(self._shop.index.search(query))
                if target == NEXT and number * ROWS < total:
                    return ShopState(goal, page, query, number + 1, -1, (), seen, steps, "", history)
                if target == PREVIOUS and number > 1:
                    return ShopState(goal, page, query, number - 1, -1, (), seen, steps, "", history)
                opened = self._row(query, number, target)
                if opened >= 0:
                    seen = seen if opened in seen else tuple(sorted((*seen, opened)))
                    return ShopState(goal, "item", query, number, opened, (), seen, steps, "", history)
            elif page == "item":
                if target == PREVIOUS:
                    return ShopState(goal, "results", query, number, -1, (), seen, steps, "", history)
                if target == BUY:
                    return ShopState(goal, "done", query, number, item, chosen, seen, steps, "", history)
                if target in SUB_PAGES and (target != "attributes" or self._attributes_page):
                    return ShopState(goal, target, query, number, item, chosen, seen, steps, "", history)
                options = self.catalogue[item].options
                name = next((name for name, values in reversed(options) if target in values), None)
                if name is not None:
                    picked = dict(chosen)
                    picked[name] = target
                    chosen = tuple((name, picked[name]) for name, _ in options if name in picked)
                    return ShopState(goal, page, query, number, item, chosen, seen, steps, "", history)
            elif target == PREVIOUS:
                return ShopState(goal, "item", query, number, item, chosen, seen, steps, "", history)
        return state._replace(steps=steps, message="invalid action")

    def _rows(self, query: str, number: int) -> tuple[int, ...]:
        return self._shop.index.search(query)[(number - 1) * ROWS : number * ROWS] if number else ()

    def _row(self, query: str, number: int, target: str) -> int:
        """The product that ``target`` names on this results page, or -1."""
        rows = self._rows(query, number)
        if self.observation_mode == "compact":
            place = target.removeprefix("#")
            if place.isascii() and place.isdecimal() and len(place) <= 2:
                return rows[int(place) - 1] if 1 <= int(place) <= len(rows) else -1
        return next((i for i in rows if self.catalogue[i].asin.lower() == target), -1)

    def _find_actions(self, page: str, query: str, number: int, item: int) -> tuple[str, ...]:
        targets = [BACK]
        if page == "results":
            rows = self._rows(query, number)
            if number > 1:
                targets.append(PREVIOUS)
            if number * ROWS < len(self._shop.index.search(query)):
                targets.append(NEXT)
            if self.observation_mode == "compact":
                targets += [f"#{row}" for row in range(1, len(rows) + 1)]
            else:
                targets += [self.catalogue[i].asin.lower() for i in rows]
        elif page == "item":
            targets += [PREVIOUS, *(p for p in SUB_PAGES if p != "attributes" or self._attributes_page), BUY]
            targets += [value for _, values in self.catalogue[item].options for value in values]
        else:
            targets.append(PREVIOUS)
        return tuple(f"click[{target}]" for target in dict.fromkeys(targets))

    def _buy(self, goal: int, item: int, options: tuple[tuple[str, str], ...]) -> PurchaseReward:
        product = self.catalogue[item]
        return purchase_reward(product, self.goals[goal], product.price, dict(options), self._nouns, self.variant)

    # What is read.

    def observation(self, state: ShopState, player: int = 0) -> str:
        text = self._page(state)
        if state.message and self.variant == "mended":
            text = f"{text}\n{state.message}" if self.observation_mode != "text" else f"{text} [SEP] {state.message}"
        if not state.history:
            return text
        parts = [text]
        for back, (observation, action) in enumerate(reversed(state.history), start=1):
            if back <= self._num_prev_actions:
                parts.append(action)
            if back <= self._num_prev_obs:
                parts.append(observation)
        return " [SEP] ".join(reversed(parts))

    def _page(self, state: ShopState) -> str:
        body = self._page_text(
            state.goal, state.page, state.query, state.results_page, state.item, state.options, state.seen
        )
        if self.observation_mode == "compact":
            goal = pages.compact_instruction(self.goals[state.goal].instruction)
            return f"goal {goal}\nsteps {self.max_steps - state.steps}\n{body}"
        return body

    def _draw(
        self,
        goal_index: int,
        page: str,
        query: str,
        number: int,
        item: int,
        chosen: tuple[tuple[str, str], ...],
        seen: tuple[int, ...],
    ) -> str:
        rows = self._rows(query, number) if page == "results" else ()
        products = [self.catalogue[i] for i in rows]
        opened = [i in seen for i in rows]
        total = len(self._shop.index.search(query)) if page == "results" else 0
        if self.observation_mode == "compact":
            if page == "index":
                return "search page"
            if page == "results":
                return pages.compact_results(products, opened, number, -(-total // ROWS))
            if page == "item":
                return pages.compact_item(self.catalogue[item], chosen)
            return "order placed" if page == "done" else pages.compact_sub_page(self.catalogue[item], page)
        goal = self.goals[goal_index]
        if page == "index":
            pieces = pages.index_pieces(goal)
        elif page == "results":
            pieces = pages.results_pieces(goal, products, opened, number, total)
        elif page == "item":
            pieces = pages.item_pieces(goal, self.catalogue[item], chosen, self._attributes_page)
        elif page == "done":
            pieces = [pages.Piece("Thank you for shopping with us!")]
        else:
            pieces = pages.sub_page_pieces(goal, self.catalogue[item], page)
        return pages.as_text(pieces) if self.observation_mode == "text" else pages.as_rich_text(pieces)


def _make(arguments: dict[str, Any]) -> WebShopSimulator:
    return WebShopSimulator(**arguments)


def _expect(name: str, value: object, expected: Sequence[str]) -> None:
    if value not in expected:
        raise ValueError(f"{name}={value!r}; expected one of {', '.join(map(repr, expected))}")
