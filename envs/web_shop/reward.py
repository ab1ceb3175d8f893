"""WebShop's reward of a purchase, as a pure function.

    reward = r_type × (matched attributes + matched options + [price <= cap]) / (attributes + options + 1)

(Yao et al., 2022, "WebShop: Towards Scalable Real-World Web Interaction with Grounded Language Agents", equation 1 and
``web_agent_site/engine/goal.py``). An attribute matches where an attribute of the product agrees with it by
``token_set_ratio > 85``, or where the product's title, features or description contain it. An option matches where a
chosen value agrees with it by the same ratio, both reduced to the first colour word that they contain. ``r_type`` is 1,
0.5, 0.1 or 0 by how much the titles share of their nouns, where neither search category nor product category agree.

``variant="released"`` keeps a flaw of the released code: a synthetic goal's options stay (name, value) pairs, which are
reduced to a colour only where name or value *is* a colour word, and else compared as text. So a goal for "darkgrey"
cannot be met by choosing "darkgrey", which is reduced to "dark". Human goals are plain values and not concerned.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

from rapidfuzz import fuzz, utils

from .catalogue import Goal, Product

Variant = Literal["mended", "released"]
Nouns = Callable[[str], Sequence[str]]

# In the order in which they are looked for; options are reduced to the first that they contain.
_COLOR_WORDS: Final = """
    alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown burgundy camel camo
    caramel champagne charcoal cheetah chestnut chocolate christmas coffee cognac copper coral cranberry cream
    crystal dark denim eggplant elephant espresso fuchsia gold granite grape graphite grass gray green grey heather
    indigo ivory ivy khaki lavender lemon leopard light lilac lime magenta maroon mauve merlot midnight mint mocha
    multicolor mushroom mustard natural navy nude olive orange peach pewter pink plum purple rainbow red rose royal
    rust sand sapphire seashell silver skull slate steel stone stonewash sunflower tan taupe teal tiger turquoise
    violet walnut wheat white wine yellow
"""
COLORS: Final = tuple(_COLOR_WORDS.split())

MATCH: Final = 85  # of the ratio rounded to a whole number, as thefuzz rounds it
_LATIN_1: Final = dict.fromkeys(range(128, 256))

_OTHER_WORDS: Final = """
    a an and are as at be by for from in into is it its of off on onto or per so than that the these this to up via
    was with without your our you we all any both each every more most no not only own same such too very can will
    just new best great good perfect nice big small large mini soft hard long short high low wide slim thin thick
    full deep light heavy easy quick fast free safe super ultra extra multi non anti
"""
_NOT_NOUNS: Final = frozenset(_OTHER_WORDS.split())


@dataclass(frozen=True, slots=True)
class PurchaseReward:
    """``total`` and what it is made of. ``r_option`` and ``w_option`` are None where the goal asks for no option."""

    total: float
    r_type: float
    r_att: float
    r_option: float | None
    r_price: float
    w_att: float
    w_option: float | None
    w_price: float
    query_match: bool
    category_match: bool
    title_score: float

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@lru_cache(maxsize=65536)
def default_nouns(title: str) -> tuple[str, ...]:
    """The words of ``title`` taken for nouns, lower-case, without a model.

    A listing's title is a chain of nouns in title case, which part-of-speech taggers mark as (proper) nouns almost
    throughout; so every word of two letters or more counts, except function words and common adjectives. Numbers do
    not."""
    words = re.findall(r"[^\W\d_]{2,}", title.lower())
    return tuple(word for word in words if word not in _NOT_NOUNS)


@dataclass(frozen=True, slots=True)
class SpacyNouns:
    """The nouns and proper nouns that a spaCy model finds in a title, as WebShop takes them; made by
    :func:`spacy_nouns`."""

    model: str

    def __call__(self, title: str) -> tuple[str, ...]:
        return _nouns_by_spacy(self.model, title)


def spacy_nouns(model: str = "en_core_web_sm") -> SpacyNouns:
    """The noun function of the released WebShop. ``ImportError`` says what to install where spaCy or ``model`` is
    missing."""
    _spacy_pipeline(model)
    return SpacyNouns(model)


@lru_cache(maxsize=1)
def _spacy_pipeline(model: str) -> Any:
    try:
        import spacy

        return spacy.load(model)
    except (ImportError, OSError) as error:
        raise ImportError(
            f"spacy_nouns({model!r}) needs spaCy and that model: in the checkout pip install '.[spacy]', "
            f"then python -m spacy download {model}"
        ) from error


@lru_cache(maxsize=65536)
def _nouns_by_spacy(model: str, title: str) -> tuple[str, ...]:
    return tuple(token.text.lower() for token in _spacy_pipeline(model)(title) if token.pos_ in ("NOUN", "PROPN"))


@lru_cache(maxsize=65536)
def normalize_color(text: str) -> str:
    """The first of ``COLORS`` that ``text`` contains, as a part of a word too; ``text`` itself where there is none."""
    return next((color for color in COLORS if color in text), text)


def purchase_reward(
    product: Product,
    goal: Goal,
    price: float,
    options: Mapping[str, str],
    nouns: Nouns = default_nouns,
    variant: Variant = "mended",
) -> PurchaseReward:
    """What buying ``product`` for ``price`` dollars with the chosen ``options`` (group -> value) is worth for ``goal``.

    ``total`` is in [0, 1]. ``nouns`` maps a title to its nouns, lower-case.
    """
    r_type, query_match, category_match, title_score = _type_reward(product, goal, nouns)
    attributes = sum(_has_attribute(product, wanted) for wanted in goal.attributes)
    wanted_options = _wanted_options(goal, variant)
    chosen = [normalize_color(value) for value in options.values()]
    matched = sum(any(_agree(value, wanted) for value in chosen) for wanted in wanted_options)
    r_price = float(price <= goal.price_upper)
    parts = len(goal.attributes) + len(wanted_options) + 1
    return PurchaseReward(
        total=r_type * ((attributes + matched + r_price) / parts),
        r_type=r_type,
        r_att=attributes / len(goal.attributes) if goal.attributes else 1.0,
        r_option=matched / len(wanted_options) if wanted_options else None,
        r_price=r_price,
        w_att=len(goal.attributes) / parts,
        w_option=len(wanted_options) / parts if wanted_options else None,
        w_price=1 / parts,
        query_match=query_match,
        category_match=category_match,
        title_score=title_score,
    )


def _type_reward(product: Product, goal: Goal, nouns: Nouns) -> tuple[float, bool, bool, float]:
    query_match = product.query == goal.query
    category_match = len(_categories(product.product_category) & _categories(goal.product_category)) >= 2
    wanted = nouns(goal.name)
    shared = len(set(nouns(product.name)) & set(wanted))
    title_score = shared / len(wanted) if wanted else 0.2
    r_type = 1.0 if query_match or category_match or title_score > 0.2 else 0.5
    if title_score < 0.1:
        r_type = 0.1
    if title_score == 0.0:
        r_type = 0.0
    return r_type, query_match, category_match, title_score


@lru_cache(maxsize=4096)
def _categories(path: str) -> frozenset[str]:
    return frozenset(part.strip() for part in path.split("›"))


def _has_attribute(product: Product, wanted: str) -> bool:
    return (
        any(_agree(attribute, wanted) for attribute in product.attributes)
        or wanted in product.name.lower()
        or wanted in " ".join(product.features).lower()
        or wanted in product.description.lower()
    )


def _wanted_options(goal: Goal, variant: Variant) -> list[str]:
    if variant == "mended":
        return [normalize_color(value) for _, value in goal.options]
    wanted = []
    for name, value in goal.options:
        if not name:  # a human goal's option is a plain text
            wanted.append(normalize_color(value))
        else:  # a pair: `color in pair` is true only of a part that equals the colour
            pair = (name, value)
            wanted.append(next((color for color in COLORS if color in pair), str(pair)))
    return wanted


@lru_cache(maxsize=65536)
def _agree(a: str, b: str) -> bool:
    return round(fuzz.token_set_ratio(_plain(a), _plain(b))) > MATCH


@lru_cache(maxsize=65536)
def _plain(text: str) -> str:
    """``text`` as thefuzz prepares it: Latin-1 letters beyond ASCII dropped, lower-case, other signs to spaces."""
    return utils.default_process(text.translate(_LATIN_1))
