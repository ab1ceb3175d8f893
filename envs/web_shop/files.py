"""WebShop's own product files as a catalogue.

A folder holds ``items_shuffle_1000.json`` (a list of products), ``items_ins_v2_1000.json`` (ASIN -> attributes and a
synthetic instruction) and, for human goals, ``items_human_ins.json`` (ASIN -> a list of written instructions); the
full set drops ``_1000``. They are read as ``web_agent_site/engine/engine.py`` and ``goal.py`` read them: the same
products, the same goals in the same shuffled order (``random.Random(233)``), so that "goal 0" is the published goal
0, and the published splits: test = the first 500, validation = the next 1,000, train = the rest. With fewer than
3,000 goals (WebShop publishes no split there) the first fifth is test and the second validation.

One thing differs: a price range's price and a goal's cap, which WebShop draws from Python's global generator at
start-up, are drawn from (seed, ASIN, number of the goal) here, so that goals are the same in every process.

A file that is missing or broken is a ``CatalogueError`` that names the file, the product, the field and the cure.
"""

import hashlib
import itertools
import math
import random
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from ..json_files import read_json
from .catalogue import Draws, Goal, Product, cap_text, mix, option_text, price_cap
from .retrieval import document

SHUFFLE_SEED: Final = 233
TEST_GOALS: Final = 500
VALIDATION_GOALS: Final = 1000
NO_ATTRIBUTES: Final = ("DUMMY_ATTR",)
DEFAULT_PRICE: Final = 100.0
MAX_GOALS: Final = (100_000, 100)
"""At most so many goals, and so many more for each product; WebShop's own files have 7 a product."""

_CURE: Final = "download the file again, or point catalogue= at a folder with WebShop's data"


class CatalogueError(ValueError):
    """A catalogue folder cannot be read."""


def files_of(folder: str | Path, products: int | None, goals: str) -> tuple[Path, ...]:
    """The files to read: products, attributes and, for human goals, instructions. Where a folder has both sizes, the
    small one serves ``products`` up to 1,000."""
    base = Path(folder).expanduser()
    if not base.is_dir():
        raise CatalogueError(
            f"catalogue={str(folder)!r} is not a folder; expected one with items_shuffle_1000.json, {_CURE}"
        )
    sizes = ("_1000", "") if products is not None and products <= 1000 else ("", "_1000")
    for size in sizes:
        found = [base / f"items_shuffle{size}.json", base / f"items_ins_v2{size}.json"]
        if found[0].exists():
            break
    if goals == "human":
        found.append(base / "items_human_ins.json")
    for path in found:
        if not path.is_file():
            raise CatalogueError(f"{path}: no such file; {_CURE}")
    return tuple(found)


def files_key(paths: Sequence[Path]) -> str:
    """Changes when a file does, without reading it."""
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return f"{mix(zlib.crc32(repr(stats).encode()), len(stats)):016x}-{stats[0][0]}"


class FileCatalogue(Sequence[Product]):
    """The products of a folder in the order of the file, and the goals of all splits in WebShop's shuffled order."""

    def __init__(
        self,
        folder: str | Path,
        products: int | None = None,
        goals: Literal["synthetic", "human"] = "synthetic",
        seed: int = 0,
    ) -> None:
        paths = files_of(folder, products, goals)
        self.fingerprint = f"files-{files_key(paths)}-{products}-{goals}-{seed}"
        attributes = _read(paths[1], dict)
        self._products = tuple(_products(paths[0], _read(paths[0], list)[:products], attributes, seed))
        self._index = {product.asin: i for i, product in enumerate(self._products)}
        if goals == "human":
            self.goals = tuple(self._human_goals(paths[2], seed))
        else:
            self.goals = tuple(self._synthetic_goals(paths[1], attributes, seed))

    def __len__(self) -> int:
        return len(self._products)

    def __getitem__(self, index: int) -> Product:  # type: ignore[override]
        return self._products[index]

    def index_of(self, asin: str) -> int:
        return self._index.get(asin, -1)

    def goal_range(self, split: str) -> range:
        count = len(self.goals)
        if count >= 2 * (TEST_GOALS + VALIDATION_GOALS):
            test, validation = TEST_GOALS, VALIDATION_GOALS
        else:
            test = validation = count // 5
        first, last = {
            "test": (0, test),
            "validation": (test, test + validation),
            "train": (test + validation, count),
        }[split]
        return range(first, last)

    def matching(self, field: str, text: str) -> Iterator[int]:
        """Products with the attribute, category or query ``text``, in order."""
        for i, product in enumerate(self._products):
            value = {"attribute": product.attributes, "category": (product.category,), "query": (product.query,)}[field]
            if text in value:
                yield i

    def content(self) -> str:
        digest = hashlib.sha256()
        for product in self._products:
            digest.update(document(product).encode())
            digest.update(b"\0")
        return digest.hexdigest()

    def _synthetic_goals(self, path: Path, attributes: dict[str, Any], seed: int) -> list[Goal]:
        """One goal for each combination of a product's option values."""
        goals: list[Goal] = []
        uses: Counter[str] = Counter()
        goal_count, limit = 0, MAX_GOALS[0] + MAX_GOALS[1] * len(self._products)
        for index, product in enumerate(self._products):
            entry = attributes.get(product.asin, {})
            instruction = entry.get("instruction")
            if instruction is None:
                continue
            wanted = _strings(path, product.asin, "instruction_attributes", entry.get("instruction_attributes"))
            if not isinstance(instruction, str):
                raise _wrong(path, product.asin, "instruction", instruction, "a text or null")
            if not wanted:
                raise _wrong(path, product.asin, "instruction_attributes", [], "at least one attribute")
            cap = price_cap(product.price, _draws(seed, product.asin, 1))
            options = dict(sorted(product.options))
            goal_count += math.prod(map(len, options.values()))
            if goal_count > limit:
                raise CatalogueError(
                    f"{path}: the options of the products up to {product.asin} make {goal_count:,} goals; the limit of "
                    f"{len(self._products):,} products is {limit:,}. Leave that product out, or take goals='human'"
                )
            for values in itertools.product(*options.values()):
                chosen = tuple(zip(options, values, strict=True))
                text = f"{instruction}{option_text(chosen)}{cap_text(cap)}"
                goals.append(_goal(index, product, text, wanted, chosen, cap))
                uses.update(wanted)
        weighted = [_weighted(goal, sum(1 / uses[a] for a in goal.attributes) / len(goal.attributes)) for goal in goals]
        random.Random(SHUFFLE_SEED).shuffle(weighted)
        return weighted

    def _human_goals(self, path: Path, seed: int) -> list[Goal]:
        """One goal for each written instruction that names an attribute."""
        goals: list[Goal] = []
        written = _read(path, dict)
        for index, product in enumerate(self._products):
            entries = written.get(product.asin, [])
            if not isinstance(entries, list):
                raise _wrong(path, product.asin, "(entry)", entries, "a list of instructions")
            for number, entry in enumerate(entries):
                if not isinstance(entry, dict):
                    raise _wrong(path, product.asin, f"[{number}]", entry, "an object")
                wanted = _strings(path, product.asin, "instruction_attributes", entry.get("instruction_attributes"))
                values = _strings(path, product.asin, "instruction_options", entry.get("instruction_options"))
                instruction = entry.get("instruction")
                if not isinstance(instruction, str):
                    raise _wrong(path, product.asin, "instruction", instruction, "a text")
                if not wanted:
                    continue
                cap = price_cap(product.price, _draws(seed, product.asin, 2 + number))
                text = instruction.strip(".") + cap_text(cap)
                goals.append(_goal(index, product, text, wanted, tuple(("", value) for value in values), cap))
        random.Random(SHUFFLE_SEED).shuffle(goals)
        return goals


def _goal(
    index: int,
    product: Product,
    instruction: str,
    attributes: tuple[str, ...],
    options: tuple[tuple[str, str], ...],
    cap: float,
) -> Goal:
    return Goal(
        index, product.asin, product.name, product.category, product.query, product.product_category,
        instruction, attributes, options, cap,
    )  # fmt: skip


def _weighted(goal: Goal, weight: float) -> Goal:
    return Goal(
        goal.product, goal.asin, goal.name, goal.category, goal.query, goal.product_category,
        goal.instruction, goal.attributes, goal.options, goal.price_upper, weight,
    )  # fmt: skip


def _draws(seed: int, asin: str, number: int) -> Draws:
    return Draws(mix(seed & ((1 << 64) - 1), zlib.crc32(asin.encode()), number))


def _read(path: Path, expected: type) -> Any:
    try:
        content = read_json(path, _CURE)
    except OSError as error:
        raise CatalogueError(f"{path}: cannot be read ({error.strerror}); {_CURE}") from None
    except ValueError as error:
        raise CatalogueError(f"{error}") from None
    if not isinstance(content, expected):
        kind = "a list of products" if expected is list else "an object with a key for each ASIN"
        raise CatalogueError(f"{path}: expected {kind}, found {_shown(content)}; {_CURE}")
    return content


def _products(path: Path, entries: list[Any], attributes: dict[str, Any], seed: int) -> Iterator[Product]:
    met: set[str] = set()
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise _wrong(path, f"number {place}", "(entry)", entry, "an object")
        asin = entry.get("asin")
        if not isinstance(asin, str) or not asin:
            raise _wrong(path, f"number {place}", "asin", asin, "a text")
        if asin == "nan" or len(asin) > 10 or asin in met:
            continue
        met.add(asin)
        yield _product(path, asin, entry, attributes.get(asin, {}), seed)


def _product(path: Path, asin: str, entry: dict[str, Any], about: Any, seed: int) -> Product:
    texts = {}
    for field in ("name", "full_description", "category", "query", "product_category"):
        value = entry.get(field)
        if not isinstance(value, str):
            raise _wrong(path, asin, field, value, "a text")
        texts[field] = value
    features = entry.get("small_description")
    if isinstance(features, str):
        features = [features]
    if not isinstance(about, dict):
        raise _wrong(path, asin, "(entry of the attributes file)", about, "an object")
    listed = _strings(path, asin, "attributes", about["attributes"]) if "attributes" in about else NO_ATTRIBUTES
    prices = _prices(path, asin, entry.get("pricing"))
    if len(prices) == 1:
        price, tag = prices[0], f"${prices[0]}"
    else:
        share = _draws(seed, asin, 0).bits() / 2.0**64
        price, tag = prices[0] + (prices[1] - prices[0]) * share, f"${prices[0]} to ${prices[1]}"
    return Product(
        asin=asin,
        name=texts["name"],
        category=texts["category"],
        query=texts["query"].lower().strip(),
        product_category=texts["product_category"],
        description=texts["full_description"],
        features=_strings(path, asin, "small_description", features),
        attributes=listed,
        options=tuple(_options(path, asin, entry.get("customization_options"))),
        price=price,
        price_tag=tag,
    )


def _prices(path: Path, asin: str, pricing: Any) -> tuple[float, ...]:
    """A text such as "$5.99" or "$5.99$7.99" -> one price or the two ends of a range; $100 where none is said."""
    if not pricing:
        return (DEFAULT_PRICE,)
    parts = [re.sub(r"[^\d.]", "", part) for part in pricing.split("$")[1:]] if isinstance(pricing, str) else []
    try:
        prices = tuple(float(part) for part in parts)
    except ValueError:
        prices = ()
    if not prices or not all(map(math.isfinite, prices)):
        raise _wrong(path, asin, "pricing", pricing, 'a text such as "$5.99" or "$5.99$7.99", or none')
    return prices[:2]


def _options(path: Path, asin: str, groups: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    if not groups:
        return
    if not isinstance(groups, dict):
        raise _wrong(path, asin, "customization_options", groups, "an object")
    merged: dict[str, tuple[str, ...]] = {}
    for name, contents in groups.items():
        if contents is None:
            continue
        if not isinstance(contents, list):
            raise _wrong(path, asin, f"customization_options.{name}", contents, "a list or null")
        values = []
        for content in contents:
            value = content.get("value") if isinstance(content, dict) else None
            if not isinstance(value, str):
                raise _wrong(path, asin, f"customization_options.{name}", content, 'an object with a text "value"')
            values.append(value.strip().replace("/", " | ").lower())
        merged[name.lower()] = tuple(values)
    yield from merged.items()


def _strings(path: Path, asin: str, field: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _wrong(path, asin, field, value, "a list of texts")
    return tuple(value)


def _wrong(path: Path, asin: str, field: str, value: Any, expected: str) -> CatalogueError:
    found = "nothing" if value is None else _shown(value)
    return CatalogueError(f"{path}: product {asin}: field {field!r} is {found}, expected {expected}; {_CURE}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
