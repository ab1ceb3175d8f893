"""Products and where they come from.

A catalogue is a sequence of :class:`Product` with the goals that customers have. :class:`GeneratedCatalogue` is a
pure function of (seed, split, size, difficulty): product ``i`` is computed from counters when asked for, so a shop of
a million products opens at once and holds in memory only what was looked at. ``files.py`` reads WebShop's own.

Generated products come in families of ten of one type. In a family, a near-duplicate copies another product and
changes one thing: the price (mostly beyond what a customer of the first would pay), the values of an option, or an
attribute. Search knows no prices, so the right product can only be told by comparing. Each goal is filled by at least
one product, the goal's own, with reward exactly 1; often by others too (about 2.2 of the 50 found, at the default
difficulty).

No two goals of a thousand products have the same instruction, and no goal has one of the same thousand of an earlier
split (train, validation, test; of equal seed, size and difficulty): a goal that would repeat one is drawn again. Larger
shops repeat some between their thousands (2 % within and 4 % between splits at 10,000 products), and a family without
options whose products are all alike runs out of words (10 of the 12,000 goals of seed 0 repeat one of their own split).

Randomness here is splitmix64 (Steele, Lea and Flood, 2014) on named counters: no state, the same in every process.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, Protocol, TypeVar

from .vocabulary import (
    ACRONYMS,
    AISLES,
    ATTRIBUTES_PER_TYPE,
    BRANDS,
    OPTION_VALUES,
    REVIEWS,
    ProductType,
    product_types,
)

Item = TypeVar("Item")

SPLITS: Final = ("train", "validation", "test")
FAMILY: Final = 10
SMALLEST: Final = 10
LARGEST: Final = 1_000_000
GOALS_PER_PRODUCT: Final = 4
LOWEST_PRICE: Final = 5
HIGHEST_PRICE: Final = 95
BEYOND_CAP: Final = (25, 55)  # a cap is at most 40 above its product's price, and 28 on average
PRICE_TWINS: Final = 50  # of a hundred near-duplicates, those that differ in price, …
OPTION_TWINS: Final = 25  # … in an option's values, and the rest in an attribute
NO_CAP: Final = 1_000_000.0
_TRIES: Final = 64  # of a goal whose instruction would repeat another one

_MASK: Final = (1 << 64) - 1
_ASIN_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ASIN_SPACE: Final = 36**8
_ASIN_STRIDE: Final = 1_117_359_650_921  # coprime with 36, so that asin <-> index is one to one


@dataclass(frozen=True, slots=True)
class Product:
    """What a page can show of a product.

    ``options`` are the groups in the order of the page, each (name, values), all lower-case. ``price`` is what is paid,
    in dollars; ``price_tag`` is what is shown (a range, for some of WebShop's). ``reviews`` are (title, score, body).
    """

    asin: str
    name: str
    category: str
    query: str
    product_category: str
    description: str
    features: tuple[str, ...]
    attributes: tuple[str, ...]
    options: tuple[tuple[str, tuple[str, ...]], ...]
    price: float
    price_tag: str
    rating: str = "N.A."
    reviews: tuple[tuple[str, int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Goal:
    """What a customer wants. ``product`` is the index of a product that fills it; ``options`` are (group, value), the
    group empty where WebShop's human goals name only the value; ``price_upper`` is 1,000,000 where no cap was said;
    ``weight`` is WebShop's sampling weight."""

    product: int
    asin: str
    name: str
    category: str
    query: str
    product_category: str
    instruction: str
    attributes: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    price_upper: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How hard the generated shop is.

    ``near_duplicates``: probability that a product copies the one before it in its family, but for one thing.
    ``attributes``: fewest and most attributes of a product and of a goal (within 1..5).
    ``options``: probabilities of 0, 1 and 2 option groups.
    ``hidden_attributes``: share of attributes that stand on the features page only, not in the title.
    """

    near_duplicates: float = 0.7
    attributes: tuple[int, int] = (2, 3)
    options: tuple[float, float, float] = (0.1, 0.4, 0.5)
    hidden_attributes: float = 0.0

    def __post_init__(self) -> None:
        for name in ("near_duplicates", "hidden_attributes"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name}={getattr(self, name)!r}; expected a number from 0 to 1")
        if len(self.attributes) != 2 or not 1 <= self.attributes[0] <= self.attributes[1] <= ATTRIBUTES_PER_TYPE:
            raise ValueError(
                f"attributes={self.attributes!r}; "
                f"expected (fewest, most) with 1 <= fewest <= most <= {ATTRIBUTES_PER_TYPE}"
            )
        if len(self.options) != 3 or min(self.options) < 0.0 or abs(sum(self.options) - 1.0) > 1e-6:
            raise ValueError(
                f"options={self.options!r}; expected the probabilities of 0, 1 and 2 option groups, of sum 1"
            )


class Catalogue(Protocol):
    """A sequence of products, with goals. ``fingerprint`` is equal only for equal catalogues of one process."""

    fingerprint: str

    @property
    def goals(self) -> Sequence[Goal]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Product: ...

    def index_of(self, asin: str) -> int:
        """The index of a product, or -1."""
        ...

    def goal_range(self, split: str) -> range:
        """The goals that belong to ``split``."""
        ...

    def matching(self, field: str, text: str) -> Iterator[int]:
        """The products whose ``field`` ("attribute", "category" or "query") is ``text``, in order."""
        ...

    def content(self) -> str:
        """A text that is equal only for catalogues with equal documents, in every process that runs the same code:
        what a search index on disk is kept under."""
        ...


def mix(*counters: int) -> int:
    """64 random bits that depend on all ``counters`` and their order."""
    state = 0
    for counter in counters:
        state = (state + counter * 0x9E3779B97F4A7C15 + 0xD1B54A32D192ED03) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


class Draws:
    """Random draws from one counter, in order."""

    __slots__ = ("_state",)

    def __init__(self, key: int) -> None:
        self._state = key

    def bits(self) -> int:
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def below(self, n: int) -> int:
        """Uniform in ``0..n-1`` (by multiplication; the bias is below n / 2**64)."""
        return (self.bits() * n) >> 64

    def between(self, low: int, high: int) -> int:
        """Uniform in ``low..high``, both included."""
        return low + self.below(high - low + 1)

    def chance(self, probability: float) -> bool:
        return self.bits() < probability * 18446744073709551616.0

    def sample(self, items: Sequence[Item], k: int) -> tuple[Item, ...]:
        """``k`` different items in random order."""
        pool = list(items)
        for i in range(k):
            j = i + self.below(len(pool) - i)
            pool[i], pool[j] = pool[j], pool[i]
        return tuple(pool[:k])


def price_cap(price: float, draws: Draws) -> float:
    """WebShop's cap: two of the next four multiples of 10 above ``price`` (up to 990), the higher one; no cap where
    there are fewer than two."""
    above = [10.0 * i for i in range(1, 100) if 10.0 * i > price][:4]
    if len(above) < 2:
        return NO_CAP
    first = draws.below(len(above))
    second = draws.below(len(above) - 1)
    second += second >= first
    return above[max(first, second)]


def cap_text(price_upper: float) -> str:
    """The end of an instruction that says the cap."""
    return "" if price_upper >= NO_CAP else f", and price lower than {price_upper:.2f} dollars"


def option_text(options: Sequence[tuple[str, str]]) -> str:
    """The part of an instruction that says the options."""
    said = ", and ".join(f"{name}: {value}" for name, value in options)
    return f" with {said}" if said else ""


@dataclass(frozen=True, slots=True)
class _Draft:
    """A product before it has words."""

    brand: str
    attributes: tuple[str, ...]
    hidden: tuple[str, ...]
    options: tuple[tuple[str, tuple[str, ...]], ...]
    price: int


class GeneratedGoals(Sequence[Goal]):
    """The goals of a generated catalogue: ``GOALS_PER_PRODUCT`` a product, computed when asked for."""

    def __init__(self, catalogue: "GeneratedCatalogue") -> None:
        self._catalogue = catalogue
        self._count = GOALS_PER_PRODUCT * len(catalogue)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Goal:  # type: ignore[override]
        if not -self._count <= index < self._count:
            raise IndexError(f"goal {index} of {self._count}")
        return self._catalogue.goal(index % self._count)

    def __iter__(self) -> Iterator[Goal]:
        return (self._catalogue.goal(i) for i in range(len(self)))


class GeneratedCatalogue:
    """A shop that is a pure function of its arguments; every split has products and goals of its own."""

    def __init__(
        self, size: int = 1000, seed: int = 0, split: str = "train", difficulty: Difficulty = Difficulty()
    ) -> None:
        if not SMALLEST <= size <= LARGEST:
            raise ValueError(f"products={size}; a generated catalogue has {SMALLEST} to {LARGEST:,} products")
        self.size, self.seed, self.split, self.difficulty = size, seed, split, difficulty
        self._key = mix(seed & _MASK, SPLITS.index(split))
        self._types = product_types()
        self._stride = next(s for s in range(int(size * 0.618) | 1, 2 * size + 3, 2) if _coprime(s, size))
        self._family: Callable[[int], tuple[Product, ...]] = lru_cache(maxsize=1024)(self._make_family)
        self._family_goals: Callable[[int], dict[int, Goal]] = lru_cache(maxsize=1024)(self._make_goals)
        self._unstride = pow(self._stride, -1, size)
        self.goals = GeneratedGoals(self)
        self.fingerprint = f"generated-1-{seed}-{split}-{size}-{difficulty}"

    def __reduce__(self) -> tuple[object, ...]:
        return GeneratedCatalogue, (self.size, self.seed, self.split, self.difficulty)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Product:
        if not 0 <= index < self.size:
            raise IndexError(f"product {index} of {self.size}")
        return self._family(index // FAMILY)[index % FAMILY]

    def __iter__(self) -> Iterator[Product]:
        for family in range(-(-self.size // FAMILY)):
            yield from self._make_family(family)[: self.size - family * FAMILY]

    def goal(self, index: int) -> Goal:
        """Goal ``index``, from 0."""
        return self._family_goals(self._wanted(index) // FAMILY)[index]

    def index_of(self, asin: str) -> int:
        if not re.fullmatch(r"B[0-9A-Z]{9}", asin) or asin[1] != "0":
            return -1
        code = int(asin[2:], 36)
        index = (code - self._key) * pow(_ASIN_STRIDE, -1, _ASIN_SPACE) % _ASIN_SPACE
        return index if index < self.size else -1

    def goal_range(self, split: str) -> range:
        return range(len(self.goals)) if split == self.split else range(0)

    def matching(self, field: str, text: str) -> Iterator[int]:
        types = {
            place
            for place, kind in enumerate(self._types)
            if text in {"attribute": kind.attributes, "category": (kind.aisle.category,), "query": (kind.noun,)}[field]
        }
        if not types:  # a word that is nowhere must not cost a walk through the shop
            return
        for family in range(-(-self.size // FAMILY)):
            if self._type_of(family) in types:
                for index in range(family * FAMILY, min((family + 1) * FAMILY, self.size)):
                    if field != "attribute" or text in self[index].attributes:
                        yield index

    def content(self) -> str:
        return self.fingerprint

    def _asin(self, index: int) -> str:
        code = (index * _ASIN_STRIDE + self._key) % _ASIN_SPACE
        digits = []
        for _ in range(8):
            code, digit = divmod(code, 36)
            digits.append(_ASIN_DIGITS[digit])
        return "B0" + "".join(reversed(digits))

    def _type_of(self, family: int) -> int:
        round_, place = divmod(family, len(self._types))
        order = _permutation(mix(self._key, 1, round_), len(self._types))
        return order[place]

    def _make_family(self, family: int) -> tuple[Product, ...]:
        kind = self._types[self._type_of(family)]
        draws = Draws(mix(self._key, 2, family))
        drafts = [self._draft(kind, draws)]
        while len(drafts) < FAMILY:
            if draws.chance(self.difficulty.near_duplicates):
                drafts.append(self._near_duplicate(drafts[-1], kind, draws))
            else:
                drafts.append(self._draft(kind, draws))
        # Search breaks ties by place, so a place must not tell which of two twins came first.
        order = draws.sample(range(FAMILY), FAMILY)
        return tuple(
            self._product(family * FAMILY + place, kind, drafts[which], draws) for place, which in enumerate(order)
        )

    def _draft(self, kind: ProductType, draws: Draws) -> _Draft:
        attributes = draws.sample(kind.attributes, draws.between(*self.difficulty.attributes))
        return _Draft(
            brand=BRANDS[draws.below(len(BRANDS))],
            attributes=attributes,
            hidden=tuple(a for a in attributes if draws.chance(self.difficulty.hidden_attributes)),
            options=self._option_groups(kind, draws),
            price=draws.between(*kind.aisle.prices),
        )

    def _option_groups(self, kind: ProductType, draws: Draws) -> tuple[tuple[str, tuple[str, ...]], ...]:
        none, one, _ = self.difficulty.options
        groups = kind.aisle.groups
        roll = draws.bits() / 2.0**64
        if roll < none:
            return ()
        if roll < none + one:
            groups = groups[:1] if draws.chance(0.5) else groups[1:]
        return tuple((name, self._values(pool, draws)) for name, pool in groups)

    def _values(self, pool: str, draws: Draws) -> tuple[str, ...]:
        values = OPTION_VALUES[pool]
        chosen = set(draws.sample(values, draws.between(3, min(4, len(values)))))
        return tuple(value for value in values if value in chosen)

    def _near_duplicate(self, draft: _Draft, kind: ProductType, draws: Draws) -> _Draft:
        """``draft`` with one thing changed, and sometimes the brand."""
        brand = draft.brand if draws.chance(0.5) else BRANDS[draws.below(len(BRANDS))]
        attributes, hidden, options, price = draft.attributes, draft.hidden, draft.options, draft.price
        change = draws.below(100)
        if change < PRICE_TWINS:
            gap = draws.between(*BEYOND_CAP)
            price = price + gap if price + gap <= HIGHEST_PRICE else max(LOWEST_PRICE, price - gap)
        elif change < PRICE_TWINS + OPTION_TWINS and options:
            place = draws.below(len(options))
            name = options[place][0]
            pool = next(pool for shown, pool in kind.aisle.groups if shown == name)
            options = (*options[:place], (name, self._values(pool, draws)), *options[place + 1 :])
        else:
            place = draws.below(len(attributes))
            others = [a for a in kind.attributes if a not in attributes]
            if others:
                other = others[draws.below(len(others))]
                if attributes[place] in hidden:
                    hidden = tuple(other if a == attributes[place] else a for a in hidden)
                attributes = (*attributes[:place], other, *attributes[place + 1 :])
        return _Draft(brand, attributes, hidden, options, price)

    def _product(self, index: int, kind: ProductType, draft: _Draft, draws: Draws) -> Product:
        visible = [a for a in draft.attributes if a not in draft.hidden]
        rating = f"{draws.between(31, 49) / 10:.1f}"
        return Product(
            asin=self._asin(index),
            name=_title(" ".join((draft.brand, *visible, kind.noun))),
            category=kind.aisle.category,
            query=kind.noun,
            product_category=kind.product_category,
            description=f"The {draft.brand.title()} {kind.noun} is made for {kind.aisle.use}.",
            features=(
                f"{kind.noun.capitalize()} by {draft.brand.title()}",
                *(a.capitalize() for a in draft.attributes),
            ),
            attributes=draft.attributes,
            options=draft.options,
            price=float(draft.price),
            price_tag=f"${draft.price}",
            rating=rating,
            reviews=draws.sample(REVIEWS, draws.below(3)),
        )

    def _cheapest_twin(self, index: int) -> int:
        """The cheapest product of the family with the attributes and options of ``index``: whoever says a cap would
        rather have that one, and its dearer twins are what to tell it from."""
        wanted = self[index]
        start = index - index % FAMILY
        twins = [
            i
            for i in range(start, min(start + FAMILY, self.size))
            if set(self[i].attributes) == set(wanted.attributes) and self[i].options == wanted.options
        ]
        return min(twins, key=lambda i: (self[i].price, i))

    def _wanted(self, index: int) -> int:
        """The product that goal ``index`` is drawn for: goals ``i``, ``i + size``, … want the same one, neighbours want
        products of different families."""
        return index % self.size * self._stride % self.size

    def _make_goals(self, family: int) -> dict[int, Goal]:
        """The goals that want a product of ``family``, by number; none repeats the instruction of another one, or of a
        goal for the same type in the same thousand products of an earlier split."""
        products = range(family * FAMILY, min((family + 1) * FAMILY, self.size))
        first = [product * self._unstride % self.size for product in products]
        before = self._said_before(family)
        said, goals = set(before), {}
        for index in sorted(i + self.size * k for i in first for k in range(GOALS_PER_PRODUCT)):
            tries = [self._drawn_goal(index, products, 0)]
            while tries[-1].instruction in said and len(tries) < _TRIES:
                tries.append(self._drawn_goal(index, products, len(tries)))
            if tries[-1].instruction in said:  # a family that has no more words repeats its own, not another split's
                tries.sort(key=lambda goal: goal.instruction in before)
                tries.append(tries[0])
            goals[index] = tries[-1]
            said.add(tries[-1].instruction)
        return goals

    def _said_before(self, family: int) -> set[str]:
        """The instructions of earlier splits for the type of ``family`` in its round of types."""
        earlier = self._earlier
        if earlier is None:
            return set()
        kinds, round_ = len(self._types), family // len(self._types)
        place = _permutation(mix(earlier._key, 1, round_), kinds).index(self._type_of(family))
        there = round_ * kinds + place
        if there * FAMILY >= self.size:
            return set()
        return earlier._said_before(there) | {goal.instruction for goal in earlier._family_goals(there).values()}

    @cached_property
    def _earlier(self) -> "GeneratedCatalogue | None":
        place = SPLITS.index(self.split)
        return GeneratedCatalogue(self.size, self.seed, SPLITS[place - 1], self.difficulty) if place else None

    def _drawn_goal(self, index: int, family: Sequence[int], attempt: int) -> Goal:
        """Goal ``index`` as the draws of ``attempt`` make it; later attempts take another product of the family too."""
        draws = Draws(mix(self._key, 3, index, attempt) if attempt else mix(self._key, 3, index))
        other = attempt >= _TRIES // 2
        product_index = self._cheapest_twin(family[draws.below(len(family))] if other else self._wanted(index))
        product = self[product_index]
        fewest, most = self.difficulty.attributes
        count = min(len(product.attributes), draws.between(fewest, most))
        attributes = draws.sample(product.attributes, count)
        options = tuple((name, values[draws.below(len(values))]) for name, values in sorted(product.options))
        price_upper = price_cap(product.price, draws)
        instruction = f"Find me {', '.join(attributes)} {product.query}{option_text(options)}{cap_text(price_upper)}"
        return Goal(
            product=product_index, asin=product.asin, name=product.name, category=product.category, query=product.query,
            product_category=product.product_category, instruction=instruction, attributes=attributes, options=options,
            price_upper=price_upper,
        )  # fmt: skip


def _title(text: str) -> str:
    return " ".join(word.upper() if word in ACRONYMS else word.capitalize() for word in text.split())


def _coprime(a: int, b: int) -> bool:
    while b:
        a, b = b, a % b
    return a == 1


@lru_cache(maxsize=256)
def _permutation(key: int, n: int) -> tuple[int, ...]:
    draws = Draws(key)
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        j = draws.below(i + 1)
        order[i], order[j] = order[j], order[i]
    return tuple(order)


def words_of_the_shop() -> set[str]:
    """Every lower-case word that a generated product or goal can contain, prices aside."""
    texts = [*BRANDS, "the is made for by find me with and price under lower than dollars"]
    for aisle in AISLES:
        texts += [aisle.category, aisle.path, aisle.use, *aisle.types, *aisle.attributes]
        for name, pool in aisle.groups:
            texts += [name, *OPTION_VALUES[pool]]
    texts += [text for title, _, body in REVIEWS for text in (title, body)]
    return {word for text in texts for word in re.findall(r"[\w-]+", text.lower())}
