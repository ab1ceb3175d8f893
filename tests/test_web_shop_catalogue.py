"""The generated shop: a function of its arguments, one to one with ASINs, and every goal can be filled exactly."""

import hashlib
import itertools
import pickle
import re
import subprocess
import sys
from collections import Counter

import pytest

from branchwise.envs.web_shop.catalogue import (
    FAMILY,
    GOALS_PER_PRODUCT,
    NO_CAP,
    SPLITS,
    Difficulty,
    Draws,
    GeneratedCatalogue,
    mix,
    price_cap,
)
from branchwise.envs.web_shop.reward import _agree, normalize_color, purchase_reward
from branchwise.envs.web_shop.vocabulary import AISLES, OPTION_VALUES, REVIEWS, product_types

SHOP = GeneratedCatalogue(1000)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("difficulty", [Difficulty(), Difficulty(0.9, (1, 5), (0.0, 0.0, 1.0), 0.6)])
def test_every_goal_is_worth_exactly_one_at_its_product(split: str, difficulty: Difficulty) -> None:
    shop = GeneratedCatalogue(300, seed=5, split=split, difficulty=difficulty)
    for goal in shop.goals:
        product = shop[goal.product]
        assert purchase_reward(product, goal, product.price, dict(goal.options)).total == 1.0
        assert goal.asin == product.asin
        assert 10 <= goal.price_upper - goal.price_upper % 10 == goal.price_upper <= 140
        assert product.price < goal.price_upper <= product.price + 40


def test_goals_ask_for_what_their_instruction_says() -> None:
    for goal in itertools.islice(SHOP.goals, 500):
        said = f"Find me {', '.join(goal.attributes)} {goal.query}"
        if goal.options:
            said += " with " + ", and ".join(f"{name}: {value}" for name, value in goal.options)
        assert goal.instruction == f"{said}, and price lower than {goal.price_upper:.2f} dollars"
        assert [name for name, _ in goal.options] == sorted(name for name, _ in SHOP[goal.product].options)
        assert 2 <= len(goal.attributes) <= 3


def test_an_equal_catalogue_has_equal_products_in_another_process() -> None:
    script = (
        "from branchwise.envs.web_shop.catalogue import GeneratedCatalogue as C; import hashlib;"
        "c = C(1000); print(hashlib.sha256(repr([c[i] for i in range(0, 1000, 7)] + [c.goals[i] for i in range(99)])"
        ".encode()).hexdigest())"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "1"}
    )
    here = repr([SHOP[i] for i in range(0, 1000, 7)] + [SHOP.goals[i] for i in range(99)])
    assert elsewhere.stdout.strip() == hashlib.sha256(here.encode()).hexdigest()


def test_products_do_not_depend_on_the_order_in_which_they_are_asked_for() -> None:
    in_order = list(GeneratedCatalogue(205))
    other = GeneratedCatalogue(205)
    assert [other[i] for i in reversed(range(205))] == in_order[::-1]


def test_a_larger_shop_begins_with_the_smaller_one() -> None:
    assert [SHOP[i] for i in range(200)] == [GeneratedCatalogue(1_000_000)[i] for i in range(200)]


def test_a_million_products_can_be_read_anywhere() -> None:
    shop = GeneratedCatalogue(1_000_000)
    last = shop[999_999]
    assert shop.index_of(last.asin) == 999_999
    assert shop.goals[len(shop.goals) - 1] == shop.goals[-1]
    with pytest.raises(IndexError):
        shop[1_000_000]
    with pytest.raises(IndexError):
        shop.goals[4_000_000]


def test_asins_are_one_to_one() -> None:
    asins = [product.asin for product in SHOP]
    assert len(set(asins)) == 1000
    assert all(re.fullmatch(r"B0[0-9A-Z]{8}", asin) for asin in asins)
    assert [SHOP.index_of(asin) for asin in asins] == list(range(1000))


@pytest.mark.parametrize("asin", ["", "B0", "B0ZZZZZZZZ", "b0qeqfgnmp", "B0QEQFGNMP\n", "A" * 10, "B0१२३४५६७८"])
def test_other_asins_are_unknown(asin: str) -> None:
    assert SHOP.index_of(asin) == -1


def test_splits_share_neither_products_nor_goals() -> None:
    shops = {split: GeneratedCatalogue(500, split=split) for split in SPLITS}
    for first, second in itertools.combinations(SPLITS, 2):
        assert not {p.asin for p in shops[first]} & {p.asin for p in shops[second]}
        same = {p.name for p in shops[first]} & {p.name for p in shops[second]}
        assert len(same) < 5  # a name of few words may come up twice
    assert all(len(shop.goal_range(split)) == 500 * GOALS_PER_PRODUCT for split, shop in shops.items())
    assert len(shops["train"].goal_range("test")) == 0


def test_other_seeds_give_other_shops() -> None:
    assert GeneratedCatalogue(100, seed=1)[0] != GeneratedCatalogue(100, seed=2)[0]
    assert GeneratedCatalogue(100, seed=-1)[0] != GeneratedCatalogue(100, seed=1)[0]


def test_families_are_of_one_type_and_types_take_turns() -> None:
    for start in range(0, 1000, FAMILY):
        assert len({SHOP[i].query for i in range(start, start + FAMILY)}) == 1
    assert Counter(product.query for product in SHOP) == {kind.noun: FAMILY for kind in product_types()}


def test_near_duplicates_share_all_but_one_thing() -> None:
    """At least half of the products have a twin in their family that differs in price, an option group or an
    attribute alone."""
    twins = 0
    for start in range(0, 1000, FAMILY):
        family = [SHOP[i] for i in range(start, start + FAMILY)]
        for product in family:
            twins += any(
                (product.attributes != other.attributes)
                + (product.options != other.options)
                + (product.price != other.price)
                <= 1
                for other in family
                if other is not product
            )
    assert twins > 500


def test_near_duplicates_are_a_matter_of_difficulty() -> None:
    def dearer(share: float) -> int:
        shop = GeneratedCatalogue(1000, difficulty=Difficulty(near_duplicates=share))
        found = 0
        for goal in itertools.islice(shop.goals, 1000):
            start = goal.product - goal.product % FAMILY
            found += any(
                shop[i].attributes == shop[goal.product].attributes
                and shop[i].options == shop[goal.product].options
                and shop[i].price > goal.price_upper
                for i in range(start, start + FAMILY)
            )
        return found

    assert dearer(0.0) < 100 < 300 < dearer(0.9)


def test_hidden_attributes_stand_on_the_features_page_alone() -> None:
    shop = GeneratedCatalogue(300, difficulty=Difficulty(hidden_attributes=1.0))
    for product in shop:
        features = " ".join(product.features).lower()
        for attribute in product.attributes:
            assert attribute not in product.name.lower()
            assert attribute in features
            assert attribute not in product.features[0].lower()  # which search reads
    open_shop = GeneratedCatalogue(300)
    assert all(attribute in p.name.lower() for p in open_shop for attribute in p.attributes)


def test_descriptions_and_reviews_never_say_an_attribute() -> None:
    attributes = {attribute for aisle in AISLES for attribute in aisle.attributes}
    texts = [f"{title} {body}".lower() for title, _, body in REVIEWS] + [p.description.lower() for p in SHOP]
    assert not [text for text in texts if any(attribute in text for attribute in attributes)]


def test_option_groups_follow_their_probabilities() -> None:
    groups = Counter(
        len(p.options) for p in GeneratedCatalogue(2000, difficulty=Difficulty(0.0, options=(0.2, 0.3, 0.5)))
    )
    # 2,000 draws: four standard errors of 0.5 are 0.045
    assert [groups[n] / 2000 for n in range(3)] == pytest.approx([0.2, 0.3, 0.5], abs=0.045)


def test_prices_are_whole_dollars_from_5_to_95() -> None:
    for product in SHOP:
        assert product.price == int(product.price)
        assert 5 <= product.price <= 95
        assert product.price_tag == f"${int(product.price)}"


def test_the_reward_tells_apart_the_attributes_of_a_type_and_the_values_of_a_group() -> None:
    for aisle in AISLES:
        for a, b in itertools.combinations(aisle.attributes, 2):
            assert not _agree(a, b), (a, b)
            assert a not in b
    for values in OPTION_VALUES.values():
        assert [normalize_color(value) for value in values] == list(values)  # or the released reward would refuse it
        for a, b in itertools.combinations(values, 2):
            assert not _agree(normalize_color(a), normalize_color(b)), (a, b)


def test_there_are_a_hundred_types_and_no_two_share_all_attributes() -> None:
    types = product_types()
    assert len(types) == len({kind.noun for kind in types}) == 100
    for a, b in itertools.combinations(types, 2):
        assert set(a.attributes) != set(b.attributes)


def test_a_catalogue_survives_pickling() -> None:
    copy = pickle.loads(pickle.dumps(SHOP))
    assert copy[123] == SHOP[123]
    assert copy.fingerprint == SHOP.fingerprint


def test_caps_are_two_of_the_next_four_tens() -> None:
    """The higher of two of {30, 40, 50, 60}: 40, 50, 60 with 1, 2, 3 in 6."""
    draws = Draws(mix(1))
    caps = Counter(price_cap(24.0, draws) for _ in range(6000))
    assert set(caps) == {40.0, 50.0, 60.0}
    # four standard errors of 1/2 at 6,000 draws are 0.026
    assert [caps[c] / 6000 for c in (40.0, 50.0, 60.0)] == pytest.approx([1 / 6, 2 / 6, 3 / 6], abs=0.026)


@pytest.mark.parametrize(
    ("price", "caps"), [(30.0, {50.0, 60.0, 70.0}), (975.0, {990.0}), (985.0, {NO_CAP}), (2e4, {NO_CAP})]
)
def test_caps_at_the_edges(price: float, caps: set[float]) -> None:
    draws = Draws(mix(2))
    assert {price_cap(price, draws) for _ in range(200)} == caps


def test_draws_are_uniform_and_repeatable() -> None:
    draws = Draws(mix(3, 4))
    counts = Counter(draws.below(7) for _ in range(7000))
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 22.5  # chi-squared, 6 degrees, p = 0.001
    assert sorted(Draws(9).sample("abcdef", 6)) == list("abcdef")
    assert [Draws(9).bits() for _ in range(2)] == [Draws(9).bits()] * 2
    assert mix(1, 2) != mix(2, 1)


def test_splitmix64_is_the_published_generator() -> None:
    """First outputs for seed 1234567, from the reference implementation (Vigna, splitmix64.c)."""
    draws = Draws(1234567)
    assert [draws.bits() for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"near_duplicates": 1.5}, "near_duplicates=1.5; expected a number from 0 to 1"),
        ({"hidden_attributes": -0.1}, "hidden_attributes=-0.1"),
        ({"attributes": (3, 2)}, "expected \\(fewest, most\\)"),
        ({"attributes": (1, 6)}, "most <= 5"),
        ({"options": (0.5, 0.5, 0.5)}, "of sum 1"),
        ({"options": (0.5, 0.5)}, "probabilities of 0, 1 and 2 option groups"),
    ],
)
def test_impossible_difficulties_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Difficulty(**change)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 9, 1_000_001])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"products={size}; a generated catalogue has 10 to 1,000,000 products"):
        GeneratedCatalogue(size)


def test_small_shops_of_any_size_work() -> None:
    for size in (10, 11, 99, 100, 101, 137):
        shop = GeneratedCatalogue(size)
        assert len(list(shop)) == size
        wanted = {shop.goals[i].product // FAMILY for i in range(size)}
        assert wanted == set(range(-(-size // FAMILY)))  # every family is asked for


def test_no_instruction_stands_twice_within_or_between_splits_but_where_a_family_is_out_of_words() -> None:
    texts = {split: [goal.instruction for goal in GeneratedCatalogue(1000, 0, split).goals] for split in SPLITS}
    assert [len(texts[split]) - len(set(texts[split])) for split in SPLITS] == [0, 0, 10]
    for one, other in itertools.combinations(SPLITS, 2):
        assert not set(texts[one]) & set(texts[other])


def test_only_goals_that_would_repeat_an_instruction_are_drawn_again() -> None:
    shop = GeneratedCatalogue(1000, 0, "test")
    family = 7
    before = shop._said_before(family)
    goals = shop._family_goals(family)
    assert len(goals) == FAMILY * GOALS_PER_PRODUCT
    for index in sorted(goals):
        first = shop._drawn_goal(index, range(family * FAMILY, (family + 1) * FAMILY), 0)
        assert (goals[index] == first) == (first.instruction not in before)
        before.add(goals[index].instruction)


def test_a_goal_is_the_same_in_whatever_order_goals_are_asked_for() -> None:
    forth, back = GeneratedCatalogue(120, 3, "test"), GeneratedCatalogue(120, 3, "test")
    assert [forth.goal(i) for i in range(480)] == [back.goal(i) for i in reversed(range(480))][::-1]


def test_a_shop_without_words_for_all_its_goals_repeats_none_of_another_split() -> None:
    plain = Difficulty(1.0, (1, 1), (1.0, 0.0, 0.0))
    train, test = ([g.instruction for g in GeneratedCatalogue(100, 0, s, plain).goals] for s in ("train", "test"))
    assert len(test) == 400 > len(set(test))
    assert len([text for text in test if text in set(train)]) < 40
