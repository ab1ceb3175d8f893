"""The rules of the web shop: pure functions over :class:`ShopState`.

The page graph is WebShop's: index → results (tens, up to fifty) → item → description, features, reviews (and
attributes); ``< prev`` goes back one level, ``back to search`` to the index, ``buy now`` ends the episode. A new
search or a return to the results forgets the chosen options. The reward is earned by ``buy now`` alone
(``reward.py``).

Every action counts as a step; text that is no valid action changes nothing but the count and is answered by a line that
says so. Arguments, pages and variants are described where they are documented: ``WebShopEnv`` (``env.py``).
"""

import bisect
import itertools
import operator
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from ..arguments import checked_options
from ..simulator import TERMINAL, Simulator
from .catalogue import SPLITS, Catalogue, Difficulty, GeneratedCatalogue, Goal, Product, mix, words_of_the_shop
from .files import FileCatalogue, files_key, files_of
from .pages import BACK, BUY, NEXT, PREVIOUS
from .reward import Nouns, PurchaseReward, Variant, default_nouns
from .shop import Manner, Shop, open_shop
from .vocabulary import AISLES

ObservationMode = Literal["text", "text_rich", "compact"]
OBSERVATION_MODES: Final = ("text", "text_rich", "compact")
SEARCH: Final = "search[…]"
CONSTANT_BUTTONS: Final = frozenset({BUY, BACK, NEXT, PREVIOUS, "description", "features", "reviews", "attributes"})
LONGEST_QUERY: Final = 1000  # characters; the rest of a longer query is not read

_ACTION: Final = re.compile(r"\s*(search|click)\s*\[(.*)\]\s*", re.IGNORECASE | re.DOTALL)
_LONGEST_ACTION: Final = LONGEST_QUERY + 100

Wrong = Literal["", "form", "empty", "place", "button"]
_WRONG: Final[dict[str, str]] = {
    "form": "Invalid action: write search[words] or click[button].",
    "empty": "Invalid action: nothing to search for; write search[words].",
    "place": "Invalid action: search works on the search page; click[back to search] leads there.",
    "button": "Invalid action: this page has no such button.",
}


class ShopState(NamedTuple):
    """Where a customer is. ``goal`` is an index into the simulator's goals, ``item`` a product's index or -1,
    ``seen`` the products opened in this episode (ascending), ``options`` the chosen (group, value) in the order of
    the page, ``wrong`` what was wrong with the last action (empty if nothing), ``history`` earlier (observation,
    action)."""

    goal: int
    page: str = "index"
    query: str = ""
    results_page: int = 0
    item: int = -1
    options: tuple[tuple[str, str], ...] = ()
    seen: tuple[int, ...] = ()
    steps: int = 0
    wrong: Wrong = ""
    history: tuple[tuple[str, str], ...] = ()


class WebShopSimulator(Simulator[ShopState]):
    """The web shop as a simulator; arguments as in ``WebShopEnv``.

    ``goals`` are the goals of the catalogue (of all splits, for a folder), ``goal_range`` the places of those in this
    split."""

    def __init__(
        self,
        catalogue: str | Path | None = None,
        products: int | None = None,
        catalogue_seed: int = 0,
        split: Literal["train", "validation", "test"] = "train",
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
        catalogue = None if catalogue is None else str(Path(catalogue).expanduser().resolve())
        self._arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        _one_of("split", split, SPLITS)
        _one_of("observation_mode", observation_mode, OBSERVATION_MODES)
        _one_of("goals", goals, ("synthetic", "human"))
        _one_of("variant", variant, ("mended", "released"))
        _at_least("max_steps", max_steps, 1)
        _at_least("num_prev_obs", num_prev_obs, 0)
        _at_least("num_prev_actions", num_prev_actions, 0)
        difficulty = Difficulty(near_duplicates, _pair(attributes), _triple(options), hidden_attributes)
        if catalogue is None:
            shop = _generated_shop(products, catalogue_seed, split, goals, difficulty)
        else:
            shop = _folder_shop(catalogue, products, catalogue_seed, goals, difficulty)
        self.split, self.max_steps, self.variant = split, max_steps, variant
        self.observation_mode = observation_mode
        self.catalogue: Catalogue = shop.catalogue
        self.goals: Sequence[Goal] = shop.catalogue.goals
        self.goal_range = shop.catalogue.goal_range(split)
        self.goal_count = len(self.goal_range)
        self._view = shop.view(Manner(observation_mode, variant, show_attributes, nouns))
        self._prev_obs, self._prev_actions = num_prev_obs, num_prev_actions
        self._weights: list[float] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _make, (type(self), self._arguments)

    # What a scripted agent or a test may ask beside the game.

    def goal(self, state: ShopState) -> Goal:
        """The goal of the episode that ``state`` belongs to."""
        return self.goals[state.goal]

    def product(self, key: int | str) -> Product:
        """A product by index or ASIN (any case); ``KeyError`` names an ASIN that this catalogue does not have."""
        if isinstance(key, str):
            index = self.catalogue.index_of(key.upper())
            if index < 0:
                raise KeyError(f"no product {key!r} in this catalogue")
            key = index
        return self.catalogue[key]

    def search(self, query: str) -> list[Product]:
        """All products that ``search[query]`` finds, best first, at most 50."""
        return [self.catalogue[i] for i in self._view.search(_clean_query(query))]

    def results(self, state: ShopState) -> list[Product]:
        """The products of the results page that ``state`` shows or came from, in order; at most ten."""
        if not state.results_page:
            return []
        return [self.catalogue[i] for i in self._view.rows(state.query, state.results_page).values()]

    def purchase(self, state: ShopState) -> PurchaseReward:
        """What buying in ``state``, which must have an item, is worth (or was, at the end)."""
        if state.item < 0:
            raise ValueError("purchase() needs a state with an item; this one is on the search or a results page")
        return self._view.judge(state.goal, state.item, state.options)

    def lexicon(self) -> list[str]:
        """Every lower-case word that a compact page, instruction or command of the generated catalogue can contain,
        with row numbers (``#3``) and prices (``$12``), but no other numbers; sorted."""
        return list(_lexicon())

    def phrases(self) -> list[str]:
        """What is said in several words and means one thing: attributes, kinds of goods, buttons."""
        named = [phrase for aisle in AISLES for phrase in (*aisle.types, *aisle.attributes)]
        return [*named, BUY, BACK, PREVIOUS, NEXT]

    def action_kind(self, action: str) -> str:
        """``search`` for ``search[red shirt]``, ``click`` for a product or an option, ``click[buy now]`` for a constant
        button, ``malformed`` for what is no ``verb[…]``."""
        verb, bracket, argument = action.strip().lower().partition("[")
        if not bracket or not verb.strip().isalpha():
            return "malformed"
        argument = argument.rstrip("]").strip()
        return f"{verb}[{argument}]" if argument in CONSTANT_BUTTONS else verb

    # The rules.

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> ShopState:
        """``options={"goal": i}``: goal ``i`` of the split; otherwise ``seed`` picks one (uniformly; by WebShop's
        weights in the released variant)."""
        count = self.goal_count
        if count == 0:
            raise ValueError(
                f"split {self.split!r} has no goals in this catalogue ({len(self.goals)} in all); choose another split"
            )
        index = checked_options(self, options, "goal").get("goal")
        if index is None:
            return ShopState(self.goal_range[self._draw_goal(seed, count)])
        try:
            index = operator.index(index)
        except TypeError:
            raise ValueError(f"goal {index!r}; expected a whole number from 0 to {count - 1}") from None
        if not 0 <= index < count:
            raise ValueError(f"goal {index} is not in split {self.split!r}, whose goals are 0 to {count - 1}")
        return ShopState(self.goal_range[index])

    def _draw_goal(self, seed: int, count: int) -> int:
        bits = mix(operator.index(seed) & ((1 << 64) - 1), 4)
        if self.variant == "mended":
            return (bits * count) >> 64
        if self._weights is None:
            self._weights = list(itertools.accumulate(self.goals[i].weight for i in self.goal_range))
        return min(bisect.bisect(self._weights, bits / 2.0**64 * self._weights[-1]), count - 1)

    def current_player(self, state: ShopState) -> int:
        return TERMINAL if state.page == "done" or state.steps >= self.max_steps else 0

    def truncated(self, state: ShopState) -> bool:
        return state.steps >= self.max_steps and state.page != "done"

    def rewards(self, state: ShopState) -> tuple[float, ...]:
        if state.page != "done":
            return (0.0,)
        return (self._view.judge(state.goal, state.item, state.options).total,)

    def legal_actions(self, state: ShopState) -> Sequence[str] | None:
        """``None`` on the search page (any text), the buttons elsewhere, nothing after the end."""
        if state.page == "done" or state.steps >= self.max_steps:
            return ()
        if state.page == "index":
            return None
        return self._view.buttons(state.page, state.query, state.results_page, state.item)

    def admissible_commands(self, state: ShopState) -> list[str] | None:
        actions = self.legal_actions(state)
        if actions is None:
            return [SEARCH]
        if actions and self.variant == "released":
            return [SEARCH, *actions]
        return list(actions)

    def position(self, state: ShopState) -> ShopState:
        """The state without steps taken, complaint and history."""
        return ShopState(state.goal, state.page, state.query, state.results_page, state.item, state.options, state.seen)

    def info(self, state: ShopState) -> dict[str, Any]:
        """``success`` (the reward is 1), ``invalid_action``, ``goal`` (the number that ``reset`` takes) and, at the
        end, ``reward_components``."""
        place = state.goal - self.goal_range.start
        facts: dict[str, Any] = {"success": False, "invalid_action": state.wrong != "", "goal": place}
        if state.page == "done":
            reward = self._view.judge(state.goal, state.item, state.options)
            facts["success"] = reward.total == 1.0
            facts["reward_components"] = reward.as_dict()
        return facts

    def step(self, state: ShopState, action: str) -> ShopState:
        """The state after ``action``; a finished episode stays as it is."""
        if state.page == "done" or state.steps >= self.max_steps:
            return state
        verb, target = _parse(action) if len(action) <= _LONGEST_ACTION else _parse.__wrapped__(action)
        after = self._after(state, verb, target)
        if self._prev_obs or self._prev_actions:
            kept = max(self._prev_obs, self._prev_actions)
            said = (self._text(state), _printable(action[:LONGEST_QUERY]))
            after = after._replace(history=(*state.history, said)[-kept:])
        return after

    def _after(self, state: ShopState, verb: str, target: str) -> ShopState:
        goal, page, query, number, item, chosen, seen, steps, _, history = state
        steps += 1
        wrong: Wrong = "button"
        if verb == "click":
            if page == "index":
                pass
            elif target == BACK:
                # WebShop forgets here what was opened; compact pages mark it for the whole episode.
                opened_before = seen if self.observation_mode == "compact" else ()
                return ShopState(goal, "index", "", 0, -1, (), opened_before, steps, "", history)
            elif page == "results":
                if target == NEXT and self._view.has_next(query, number):
                    return ShopState(goal, page, query, number + 1, -1, (), seen, steps, "", history)
                if target == PREVIOUS and number > 1:
                    return ShopState(goal, page, query, number - 1, -1, (), seen, steps, "", history)
                opened = self._view.row(query, number, target)
                if opened >= 0:
                    if opened not in seen:
                        seen = tuple(sorted((*seen, opened)))
                    return ShopState(goal, "item", query, number, opened, (), seen, steps, "", history)
            elif page == "item":
                if target == PREVIOUS:
                    return ShopState(goal, "results", query, number, -1, (), seen, steps, "", history)
                if target == BUY:
                    return ShopState(goal, "done", query, number, item, chosen, seen, steps, "", history)
                if target in self._view.sub_pages():
                    return ShopState(goal, target, query, number, item, chosen, seen, steps, "", history)
                choice = self._view.option(item, target)
                if choice is not None:
                    picked = {**dict(chosen), choice[0]: choice[1]}
                    groups = self.catalogue[item].options
                    chosen = tuple((name, picked[name]) for name, _ in groups if name in picked)
                    return ShopState(goal, page, query, number, item, chosen, seen, steps, "", history)
            elif target == PREVIOUS:
                return ShopState(goal, "item", query, number, item, chosen, seen, steps, "", history)
        elif verb == "search":
            if not target:
                wrong = "empty"
            elif page == "index" or self.variant == "released":
                return ShopState(goal, "results", target, 1, -1, (), seen, steps, "", history)
            else:
                wrong = "place"
        else:
            wrong = "form"
        return ShopState(goal, page, query, number, item, chosen, seen, steps, wrong, history)

    # What is read.

    def observation(self, state: ShopState, player: int = 0) -> str:
        text = self._text(state)
        if not state.history:
            return text
        parts = [text]
        for back, (observation, action) in enumerate(reversed(state.history), start=1):
            if back <= self._prev_actions:
                parts.append(action)
            if back <= self._prev_obs:
                parts.append(observation)
        return " [SEP] ".join(reversed(parts))

    def _text(self, state: ShopState) -> str:
        """The page, with goal, steps left and complaint, without history."""
        goal, page, query, number, item, chosen, seen, steps, wrong, _ = state
        text = self._view.page(goal, page, query, number, item, chosen, seen)
        complains = wrong and self.variant == "mended"
        if self.observation_mode == "compact":
            text = f"goal {self._view.instruction(goal)}\nsteps {self.max_steps - steps}\n{text}"
            return f"{text}\ninvalid action" if complains else text
        if not complains:
            return text
        return f"{text} [SEP] {_WRONG[wrong]}" if self.observation_mode == "text" else f"{text}{_WRONG[wrong]}\n"


@lru_cache(maxsize=65536)
def _parse(action: str) -> tuple[str, str]:
    """(verb, argument) of an action, case and blanks evened out; an empty verb where it is no action."""
    match = _ACTION.fullmatch(action)
    if match is None:
        return "", ""
    verb = match[1].lower()
    argument = match[2][: LONGEST_QUERY if verb == "search" else None].lower()
    return verb, _clean_query(argument) if verb == "search" else " ".join(argument.split())


def _clean_query(query: str) -> str:
    return " ".join(_printable(query.lower()).split())[:LONGEST_QUERY]


def _printable(text: str) -> str:
    """``text`` with a blank for each sign that cannot be shown (control, surrogate, unassigned)."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else " " for sign in text)


@lru_cache(maxsize=1)
def _lexicon() -> tuple[str, ...]:
    words = "goal steps search page results of no item chosen nothing seen invalid action order placed none find me"
    words += f" with and price for all some under over description features reviews attributes {BACK} {BUY} prev next"
    numbers = {f"#{row}" for row in range(1, 51)} | {f"${price}" for price in range(1, 141)}
    return tuple(sorted(words_of_the_shop() | set(words.split()) | {"search[", "click["} | numbers))


def _make(kind: type[WebShopSimulator], arguments: dict[str, Any]) -> WebShopSimulator:
    return kind(**arguments)


def _generated_shop(products: int | None, seed: int, split: str, goals: str, difficulty: Difficulty) -> Shop:
    if goals == "human":
        raise ValueError(
            "goals='human' needs WebShop's files (catalogue=FOLDER); the generated shop has goals='synthetic'"
        )
    catalogue = GeneratedCatalogue(1000 if products is None else products, seed, split, difficulty)
    return open_shop(catalogue.fingerprint, lambda: catalogue)


def _folder_shop(
    folder: str, products: int | None, seed: int, goals: Literal["synthetic", "human"], difficulty: Difficulty
) -> Shop:
    if difficulty != Difficulty():
        raise ValueError(
            "near_duplicates, attributes, options and hidden_attributes shape the generated catalogue and have no "
            f"effect on catalogue={str(folder)!r}; leave them out"
        )
    if products is not None:
        _at_least("products", products, 1)
    key = f"files-{files_key(files_of(folder, products, goals))}-{products}-{goals}-{seed}"
    return open_shop(key, lambda: FileCatalogue(folder, products, goals, seed))


def _one_of(name: str, value: object, expected: Sequence[str]) -> None:
    if value not in expected:
        raise ValueError(f"{name}={value!r}; expected one of {', '.join(map(repr, expected))}")


def _at_least(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r}; expected a whole number of at least {least}")


def _pair(value: Sequence[int]) -> tuple[int, int]:
    return tuple(value)  # type: ignore[return-value]


def _triple(value: Sequence[float]) -> tuple[float, float, float]:
    return tuple(value)  # type: ignore[return-value]
