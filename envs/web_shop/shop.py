"""What all copies of a shop in a process share: catalogue, search index, drawn pages, judged purchases.

A :class:`Shop` belongs to a catalogue and a :class:`View` of it to one way of showing and judging it. Both are kept
by weak reference, so that a hundred environments of the same arguments hold what one holds, and the last one to go
frees it.
"""

import logging
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Final, NamedTuple

from . import pages
from .catalogue import Catalogue, Draws, Product, mix
from .pages import BACK, BUY, NEXT, PREVIOUS, ROWS, SUB_PAGES
from .retrieval import RESULTS, document, open_index
from .reward import Nouns, PurchaseReward, Variant, purchase_reward

_PREFIXES: Final = {"<a>": "attribute", "<c>": "category", "<q>": "query"}
_KEPT: Final = 4096
_LARGE: Final = 100_000
_log = logging.getLogger(__name__)

_lock = threading.RLock()
_shops: "weakref.WeakValueDictionary[str, Shop]" = weakref.WeakValueDictionary()


class Manner(NamedTuple):
    """How a shop is shown and judged."""

    mode: str
    variant: Variant
    attributes_page: bool
    nouns: Nouns


class Shop:
    """A catalogue that can be searched."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        index = open_index(catalogue.content(), self._documents)
        self._by_words = index.search
        self._by_prefix = lru_cache(maxsize=1024)(self._look_up)
        self._views: weakref.WeakValueDictionary[Manner, View] = weakref.WeakValueDictionary()

    def _documents(self) -> Iterator[str]:
        if len(self.catalogue) >= _LARGE:
            _log.warning(
                "Building the search index of %s products, once; a million take one to two minutes.",
                f"{len(self.catalogue):,}",
            )
        return map(document, self.catalogue)  # type: ignore[call-overload]

    def search(self, query: str) -> tuple[int, ...]:
        """The products found for ``query``, best first, at most 50.

        WebShop's prefixes, set apart by a blank: ``<r>`` finds products at random (the same for the same query),
        ``<a>``, ``<c>`` and ``<q>`` those with an attribute, a category and a query, in the catalogue's order.
        """
        return self._by_prefix(query) if query[:1] == "<" else self._by_words(query)

    def _look_up(self, query: str) -> tuple[int, ...]:
        prefix, _, rest = query.partition(" ")
        if prefix == "<r>":
            count = len(self.catalogue)
            draws = Draws(mix(5, *query.encode()))
            found: dict[int, None] = {}
            while len(found) < min(RESULTS, count):
                found[draws.below(count)] = None
            return tuple(found)
        if prefix in _PREFIXES:
            text = rest.split(" ")[0] if prefix == "<c>" else rest
            return tuple(islice(self.catalogue.matching(_PREFIXES[prefix], text.strip()), RESULTS))
        return self._by_words(query)

    def view(self, manner: Manner) -> "View":
        """The view of this shop in ``manner``, one a process."""
        with _lock:
            view = self._views.get(manner)
            if view is None:
                view = self._views[manner] = View(self, manner)
            return view


def open_shop(fingerprint: str, make: Callable[[], Catalogue]) -> Shop:
    """The shop of the catalogue that ``fingerprint`` names; ``make()`` makes the catalogue if no shop stands."""
    with _lock:
        shop = _shops.get(fingerprint)
        if shop is None:
            shop = _shops[fingerprint] = Shop(make())
        return shop


class View:
    """Pages, buttons and rewards of a shop, each computed once."""

    def __init__(self, shop: Shop, manner: Manner) -> None:
        self.shop, self.manner = shop, manner
        self.catalogue, self.search = shop.catalogue, shop.search
        self.page = lru_cache(maxsize=_KEPT)(self._page)
        self.buttons = lru_cache(maxsize=_KEPT)(self._buttons)
        self.rows = lru_cache(maxsize=_KEPT)(self._rows)
        self.option = lru_cache(maxsize=_KEPT)(self._option)
        self.judge = lru_cache(maxsize=_KEPT)(self._judge)
        self.instruction = lru_cache(maxsize=_KEPT)(self._instruction)

    def _rows(self, query: str, number: int) -> dict[str, int]:
        """The results page ``number`` (from 1): what a row is clicked by -> product, in order. In compact mode the
        keys are ``#1``, ``#2``, …, else ASINs in lower case."""
        found = self.search(query)[(number - 1) * ROWS : number * ROWS]
        if self.manner.mode == "compact":
            return {f"#{row}": i for row, i in enumerate(found, start=1)}
        return {self.catalogue[i].asin.lower(): i for i in found}

    def row(self, query: str, number: int, target: str) -> int:
        """The product that a click on ``target`` opens, or -1; compact pages also take ``3`` for ``#3``, and ASINs."""
        rows = self.rows(query, number)
        place = rows.get(target, -1)
        if place < 0 and self.manner.mode == "compact":
            place = rows.get(f"#{target}", -1)
            if place < 0:
                place = next((i for i in rows.values() if self.catalogue[i].asin.lower() == target), -1)
        return place

    def has_next(self, query: str, number: int) -> bool:
        """Whether ``next >`` is shown; the released shop shows it past the end too."""
        return self.manner.variant == "released" or number * ROWS < len(self.search(query))

    def sub_pages(self) -> tuple[str, ...]:
        return SUB_PAGES if self.manner.attributes_page else SUB_PAGES[:-1]

    def _option(self, item: int, target: str) -> tuple[str, str] | None:
        """The (group, value) that a click on ``target`` chooses; of two groups with the value, the last."""
        for name, values in reversed(self.catalogue[item].options):
            for value in values:
                if " ".join(value.split()) == target:
                    return name, value
        return None

    def _buttons(self, page: str, query: str, number: int, item: int) -> tuple[str, ...]:
        """The actions of a page, as commands, in the order of the page."""
        targets = [BACK]
        if page == "results":
            targets += [PREVIOUS] * (number > 1) + [NEXT] * self.has_next(query, number)
            targets += self.rows(query, number)
        elif page == "item":
            targets += [PREVIOUS, *self.sub_pages(), BUY]
            targets += [value for _, values in self.catalogue[item].options for value in values]
        else:
            targets.append(PREVIOUS)
        return tuple(f"click[{target}]" for target in dict.fromkeys(targets))

    def _judge(self, goal: int, item: int, options: tuple[tuple[str, str], ...]) -> PurchaseReward:
        product = self.catalogue[item]
        return purchase_reward(
            product, self.catalogue.goals[goal], product.price, dict(options), self.manner.nouns, self.manner.variant
        )

    def _instruction(self, goal: int) -> str:
        wanted = self.catalogue.goals[goal]
        return pages.compact_goal(wanted) if self.manner.mode == "compact" else wanted.instruction

    def _page(
        self,
        goal: int,
        page: str,
        query: str,
        number: int,
        item: int,
        chosen: tuple[tuple[str, str], ...],
        seen: tuple[int, ...],
    ) -> str:
        """A page's text; in compact mode without the lines of goal and steps."""
        found = tuple(self.rows(query, number).values()) if page == "results" else ()
        products = [self.catalogue[i] for i in found]
        opened = [i in seen for i in found]
        total = len(self.search(query)) if page == "results" else 0
        if self.manner.mode == "compact":
            return self._compact(goal, page, query, products, opened, number, total, item, chosen)
        wanted = self.catalogue.goals[goal].instruction
        if page == "index":
            pieces = pages.index_pieces(wanted)
        elif page == "results":
            pieces = pages.results_pieces(wanted, products, opened, number, total, self.has_next(query, number))
        elif page == "item":
            pieces = pages.item_pieces(wanted, self.catalogue[item], chosen, self.sub_pages())
        elif page == "done":
            pieces = pages.done_pieces(self.catalogue[item], chosen, self.judge(goal, item, chosen).total)
        else:
            pieces = pages.sub_page_pieces(wanted, self.catalogue[item], page)
        return pages.as_text(pieces) if self.manner.mode == "text" else pages.as_rich_text(pieces)

    def _compact(
        self,
        goal: int,
        page: str,
        query: str,
        products: Sequence[Product],
        opened: Sequence[bool],
        number: int,
        total: int,
        item: int,
        chosen: Sequence[tuple[str, str]],
    ) -> str:
        if page == "index":
            return "search page"
        if page == "results":
            cap = self.catalogue.goals[goal].price_upper
            return pages.compact_results(query, products, cap, opened, number, -(-total // ROWS))
        if page == "item":
            return pages.compact_item(self.catalogue[item], chosen)
        return "order placed" if page == "done" else pages.compact_sub_page(self.catalogue[item], page)
