"""The reward of a purchase against a table of cases worked by hand, and the two variants against each other.

The goal of the table: a "slim fit", "machine washable" shirt in colour navy, size m, for at most 40 dollars: 2
attributes + 2 options + price = 5 parts. Nouns are given by hand, so that the type reward can be worked out."""

import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from branchwise.envs.web_shop.catalogue import NO_CAP, Goal, Product
from branchwise.envs.web_shop.reward import (
    COLORS,
    PurchaseReward,
    SpacyNouns,
    default_nouns,
    normalize_color,
    purchase_reward,
    spacy_nouns,
)

SHIRT = Product(
    asin="B000000001",
    name="Norvik Slim Fit Machine Washable Dress Shirt",
    category="fashion",
    query="dress shirt",
    product_category="Clothing › Men › Shirts",
    description="A shirt for work.",
    features=("Shirt by Norvik", "Wrinkle free"),
    attributes=("slim fit", "machine washable"),
    options=(("color", ("navy", "red")), ("size", ("m", "l"))),
    price=30.0,
    price_tag="$30",
)


def like(product: Product, **changes: Any) -> Product:
    return Product(**{**{name: getattr(product, name) for name in Product.__slots__}, **changes})


def goal(**changes: Any) -> Goal:
    told: dict[str, Any] = {
        "product": 0,
        "asin": SHIRT.asin,
        "name": SHIRT.name,
        "category": SHIRT.category,
        "query": SHIRT.query,
        "product_category": SHIRT.product_category,
        "instruction": "",
        "attributes": ("slim fit", "machine washable"),
        "options": (("color", "navy"), ("size", "m")),
        "price_upper": 40.0,
    }
    return Goal(**{**told, **changes})


def last_words(title: str) -> Sequence[str]:
    """Nouns for the table: the last two words of a title."""
    return title.lower().split()[-2:]


def reward(product: Product = SHIRT, wanted: Goal | None = None, price: float = 30.0, **options: str) -> PurchaseReward:
    return purchase_reward(product, wanted or goal(), price, options, last_words)


# what is bought, its price, the chosen options, total by hand
CASES = [
    pytest.param(SHIRT, 30.0, {"color": "navy", "size": "m"}, 1.0, id="all"),
    pytest.param(SHIRT, 40.0, {"color": "navy", "size": "m"}, 1.0, id="a price at the cap is within it"),
    pytest.param(SHIRT, 40.01, {"color": "navy", "size": "m"}, 4 / 5, id="over the cap"),
    pytest.param(SHIRT, 30.0, {"color": "red", "size": "m"}, 4 / 5, id="wrong colour"),
    pytest.param(SHIRT, 30.0, {"size": "m"}, 4 / 5, id="an option left out"),
    pytest.param(SHIRT, 30.0, {}, 3 / 5, id="no option"),
    pytest.param(SHIRT, 99.0, {}, 2 / 5, id="attributes alone"),
    pytest.param(SHIRT, 30.0, {"color": "navy blue", "size": "m"}, 4 / 5, id="navy blue counts as blue, not navy"),
    pytest.param(SHIRT, 30.0, {"size": "navy", "color": "m"}, 1.0, id="groups do not matter, values do"),
    pytest.param(
        like(SHIRT, attributes=("slim fit",), name="Norvik Dress Shirt"),
        30.0,
        {"color": "navy", "size": "m"},
        4 / 5,
        id="an attribute that is nowhere",
    ),
    pytest.param(
        like(SHIRT, attributes=("slim fit",), name="Norvik Dress Shirt", description="It is Machine Washable."),
        30.0,
        {"color": "navy", "size": "m"},
        1.0,
        id="an attribute in the description",
    ),
    pytest.param(
        like(SHIRT, attributes=("slim fit",), name="Norvik Dress Shirt", features=("Machine Washable cotton",)),
        30.0,
        {"color": "navy", "size": "m"},
        1.0,
        id="an attribute in the features",
    ),
    pytest.param(
        like(SHIRT, attributes=("fit slim", "washable machine cotton"), name="Norvik Dress Shirt"),
        30.0,
        {"color": "navy", "size": "m"},
        1.0,
        id="words in another order, and more words, match",
    ),
    # type: nouns of the goal are {dress, shirt}
    pytest.param(
        like(SHIRT, query="tie", product_category="Toys › Games", name="Slim Fit Machine Washable Silk Shirt"),
        30.0,
        {"color": "navy", "size": "m"},
        1.0,
        id="half of the nouns make the type",
    ),
    pytest.param(
        like(SHIRT, name="Slim Fit Machine Washable Silk Tie"),
        30.0,
        {"color": "navy", "size": "m"},
        0.0,
        id="no noun in common is worth nothing, whatever the category",
    ),
]


@pytest.mark.parametrize(("product", "price", "options", "total"), CASES)
def test_totals_worked_by_hand(product: Product, price: float, options: dict[str, str], total: float) -> None:
    assert purchase_reward(product, goal(), price, options, last_words).total == pytest.approx(total, abs=1e-12)


def test_the_parts_and_their_weights() -> None:
    parts = reward(price=50.0, color="navy")
    assert (parts.r_type, parts.r_att, parts.r_option, parts.r_price) == (1.0, 1.0, 0.5, 0.0)
    assert (parts.w_att, parts.w_option, parts.w_price) == (2 / 5, 2 / 5, 1 / 5)
    assert parts.total == pytest.approx(
        parts.r_type * (parts.w_att * parts.r_att + parts.w_option * 0.5 + parts.w_price * parts.r_price)
    )
    assert parts.as_dict()["title_score"] == 1.0
    assert set(parts.as_dict()) == set(PurchaseReward.__slots__)


def test_without_options_the_weight_goes_to_the_rest() -> None:
    parts = reward(wanted=goal(options=()), price=50.0)
    assert parts.total == pytest.approx(2 / 3)
    assert parts.r_option is None
    assert parts.w_option is None


def test_no_cap_is_always_kept() -> None:
    assert reward(wanted=goal(price_upper=NO_CAP), price=5000.0, color="navy", size="m").total == 1.0


ELSEWHERE = {"query": "tie", "product_category": "Toys › Men"}  # one shared part of the path is not enough


@pytest.mark.parametrize(
    ("shared", "query", "path", "r_type"),
    [
        (3, "tie", "Toys › Men", 1.0),  # 3/10 > 0.2
        (2, "tie", "Toys › Men", 0.5),  # 2/10 is not more than 0.2
        (2, "dress shirt", "Toys › Men", 1.0),
        (2, "tie", "Men › Clothing", 1.0),  # two parts, in any order
        (1, "tie", "Toys › Men", 0.5),  # 1/10 is not below 0.1
        (0, "dress shirt", "Clothing › Men › Shirts", 0.0),
    ],
)
def test_the_type_by_shared_nouns_query_and_category(shared: int, query: str, path: str, r_type: float) -> None:
    wanted = [f"n{i}" for i in range(10)]
    nouns = {SHIRT.name: wanted, "other": [*wanted[:shared], "x"]}
    bought = like(SHIRT, name="other", query=query, product_category=path)
    found = purchase_reward(bought, goal(), 30.0, {}, nouns.__getitem__)
    assert found.r_type == r_type
    assert found.title_score == pytest.approx(shared / 10)


def test_below_a_tenth_of_the_nouns_the_type_is_a_tenth() -> None:
    wanted = [f"n{i}" for i in range(11)]
    nouns = {SHIRT.name: wanted, "other": wanted[:1]}
    found = purchase_reward(like(SHIRT, name="other"), goal(), 30.0, {}, nouns.__getitem__)
    assert found.query_match
    assert found.r_type == 0.1


def test_a_goal_without_nouns_scores_a_fifth() -> None:
    found = purchase_reward(SHIRT, goal(), 30.0, {}, lambda title: ())
    assert (found.title_score, found.r_type) == (0.2, 1.0)


def test_repeated_nouns_of_the_goal_count_each_time() -> None:
    nouns = {SHIRT.name: ["shirt", "shirt", "dress", "fit"], "other": ["shirt"]}
    found = purchase_reward(like(SHIRT, name="other"), goal(), 30.0, {}, nouns.__getitem__)
    assert found.title_score == 1 / 4


@pytest.mark.parametrize(
    ("text", "color"),
    [
        ("", ""),
        ("black forest", "black"),
        ("violet lavender", "lavender"),  # the first in the list's order, not the text's
        ("steelivy fuchsia", "fuchsia"),
        ("123alabaster", "alabaster"),
        ("webshop", "webshop"),
        ("standard", "tan"),  # parts of words count
    ],
)
def test_colours_are_reduced_to_the_first_of_the_list(text: str, color: str) -> None:
    assert normalize_color(text) == color


def test_the_list_of_colours_is_whole() -> None:
    assert len(COLORS) == len(set(COLORS)) == 102
    assert list(COLORS) == sorted(COLORS)


@pytest.mark.parametrize(
    ("bought", "wanted", "matches"),
    [
        ("10.5", "10.5 wide", True),  # a part of the words is a full match
        ("pack of 2", "pack of 3", True),  # 8 of 9 letters: the fuzzy match lets it pass
        ("x-large", "large", True),
        ("large", "small", False),
        ("Café", "caf", True),  # thefuzz drops Latin letters beyond ASCII
        ("abcdefg", "abcdefh", True),  # 12 / 14 = 85.7, rounded 86
        ("abcdef", "abcdeg", False),  # 10 / 12 = 83
        ("!!!", "!!!", False),  # nothing is left to compare
    ],
)
def test_the_fuzzy_match_is_thefuzz_s(bought: str, wanted: str, matches: bool) -> None:
    found = purchase_reward(SHIRT, goal(options=(("size", wanted),)), 30.0, {"size": bought}, last_words)
    assert found.r_option == float(matches)


def test_released_synthetic_goals_are_not_reduced_to_a_colour() -> None:
    """Released: the goal's option stays the pair ("color", "darkgrey"), compared as text with the bought "dark"."""
    wanted = goal(options=(("color", "darkgrey"),))
    bought = {"color": "darkgrey"}
    assert purchase_reward(SHIRT, wanted, 30.0, bought, last_words).total == 1.0
    released = purchase_reward(SHIRT, wanted, 30.0, bought, last_words, variant="released")
    assert released.r_option == 0.0
    assert released.total == pytest.approx(3 / 4)


def test_released_reduces_a_pair_with_a_bare_colour_and_human_goals() -> None:
    for options in ((("color", "red"),), (("", "dark-red"),)):
        released = purchase_reward(
            SHIRT, goal(options=options), 30.0, {"color": options[0][1]}, last_words, variant="released"
        )
        assert released.r_option == 1.0


def test_released_and_mended_agree_where_no_colour_is_hidden_in_the_value() -> None:
    for size in ("m", "10.5 wide", "king"):
        wanted = goal(options=(("size", size),))
        totals = {
            purchase_reward(SHIRT, wanted, 30.0, {"size": size}, last_words, variant=variant).total
            for variant in ("mended", "released")
        }
        assert totals == {1.0}


def test_default_nouns_keep_content_words() -> None:
    assert default_nouns("The New 2-Pack of Norvik's Slim Fit Shirts, 30 cm") == (
        "pack",
        "norvik",
        "fit",
        "shirts",
        "cm",
    )
    assert default_nouns("24 x 7") == ()


def test_spacy_nouns_take_nouns_and_proper_nouns(monkeypatch: pytest.MonkeyPatch) -> None:
    tags = {"Red": "ADJ", "Shirt": "NOUN", "Norvik": "PROPN", "for": "ADP"}

    def pipeline(title: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(text=word, pos_=tags[word]) for word in title.split()]

    monkeypatch.setitem(sys.modules, "spacy", SimpleNamespace(load=lambda model: pipeline))
    nouns = spacy_nouns("a_model_of_this_test")
    assert list(nouns("Red Shirt for Norvik")) == ["shirt", "norvik"]
    assert nouns == SpacyNouns("a_model_of_this_test")


def test_spacy_nouns_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ImportError, match=r"pip install '\.\[spacy\]'.*spacy download en_core_web_sm"):
        spacy_nouns()
