"""WebShop's own files: what is read from them, the published splits, and what is said of broken ones."""

import hashlib
import json
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from branchwise.envs.web_shop.catalogue import NO_CAP
from branchwise.envs.web_shop.env import WebShopEnv
from branchwise.envs.web_shop.files import CatalogueError, FileCatalogue
from branchwise.envs.web_shop.reward import purchase_reward
from branchwise.envs.web_shop.rules import ShopState, WebShopSimulator

TABLE = {
    "asin": "B000000001",
    "name": "Oak Table",
    "full_description": "A table.",
    "small_description": ["Solid Wood", "Easy to clean"],
    "pricing": "$5.99",
    "customization_options": {"Color": [{"value": "Red/Blue "}, {"value": "Green"}], "Size": None},
    "images": ["x"],
    "category": "garden",
    "query": " Console Tables ",
    "product_category": "Home › Tables",
}
LAMP = {**TABLE, "asin": "B000000002", "name": "Lamp", "pricing": "$10.00$20.00", "customization_options": ""}
ABOUT = {
    "B000000001": {
        "attributes": ["solid wood"],
        "instruction": "Find me solid wood console tables",
        "instruction_attributes": ["solid wood"],
    },
    "B000000002": {"attributes": [], "instruction": "Find me a lamp", "instruction_attributes": ["solid wood", "lamp"]},
}
HUMAN = {
    "B000000001": [
        {"instruction": "i need a table.", "instruction_attributes": ["solid wood"], "instruction_options": ["green"]},
        {"instruction": "no attribute", "instruction_attributes": [], "instruction_options": []},
    ]
}


def folder(path: Path, products: Any = None, about: Any = None, human: Any = None) -> Path:
    """A catalogue folder of two products, or of what is given (text is written as it is)."""
    contents = {
        "items_shuffle_1000.json": [TABLE, LAMP] if products is None else products,
        "items_ins_v2_1000.json": ABOUT if about is None else about,
        "items_human_ins.json": HUMAN if human is None else human,
    }
    for name, content in contents.items():
        (path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def with_(entry: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**entry, **changes}


def test_fields_are_read_as_webshop_reads_them(tmp_path: Path) -> None:
    table, lamp = FileCatalogue(folder(tmp_path))
    assert (table.name, table.query, table.product_category) == ("Oak Table", "console tables", "Home › Tables")
    assert table.options == (("color", ("red | blue", "green")),)
    assert (table.price, table.price_tag, table.rating) == (5.99, "$5.99", "N.A.")
    assert table.features == ("Solid Wood", "Easy to clean")
    assert lamp.options == ()
    assert lamp.price_tag == "$10.0 to $20.0"
    assert 10.0 <= lamp.price <= 20.0


def test_synthetic_goals_are_the_combinations_of_options(tmp_path: Path) -> None:
    goals = FileCatalogue(folder(tmp_path)).goals
    cap = next(goal.price_upper for goal in goals if goal.asin == "B000000001")
    expected = {
        f"Find me solid wood console tables with color: {value}, and price lower than {cap:.2f} dollars"
        for value in ("red | blue", "green")
    }
    assert {goal.instruction for goal in goals if goal.asin == "B000000001"} == expected
    assert len(goals) == 3
    # "solid wood" is used by 3 goals and "lamp" by 1: weights 1/3 and (1/3 + 1) / 2
    assert {goal.asin: goal.weight for goal in goals} == pytest.approx({"B000000001": 1 / 3, "B000000002": 2 / 3})


def test_human_goals_name_values_alone(tmp_path: Path) -> None:
    (goal,) = FileCatalogue(folder(tmp_path), goals="human").goals
    assert goal.instruction == f"i need a table, and price lower than {goal.price_upper:.2f} dollars"
    assert goal.options == (("", "green"),)


@pytest.mark.parametrize(
    ("pricing", "price", "tag"),
    [
        ("$5.99", 5.99, "$5.99"),
        ("", 100.0, "$100.0"),
        (None, 100.0, "$100.0"),
        ("$1,299.00", 1299.0, "$1299.0"),
        ("$7$7$9", 7.0, "$7.0 to $7.0"),
    ],
)
def test_prices(tmp_path: Path, pricing: Any, price: float, tag: str) -> None:
    product = FileCatalogue(folder(tmp_path, [with_(TABLE, pricing=pricing)]))[0]
    assert (product.price, product.price_tag) == (price, tag)


def test_what_costs_more_than_any_cap_has_none(tmp_path: Path) -> None:
    goal = FileCatalogue(folder(tmp_path, [with_(TABLE, pricing="$985")])).goals[0]
    assert goal.price_upper == NO_CAP
    assert "price" not in goal.instruction


def test_products_are_taken_once_and_in_order(tmp_path: Path) -> None:
    entries = [with_(TABLE, asin="nan"), TABLE, with_(TABLE, name="again"), with_(TABLE, asin="B0000000012"), LAMP]
    shop = FileCatalogue(folder(tmp_path, entries))
    assert [product.name for product in shop] == ["Oak Table", "Lamp"]
    assert shop.index_of("B000000002") == 1
    assert shop.index_of("B000000003") == -1
    assert len(FileCatalogue(folder(tmp_path, entries), products=2)) == 1  # the first two entries


def test_a_single_text_of_features_and_unknown_attributes(tmp_path: Path) -> None:
    product = FileCatalogue(folder(tmp_path, [with_(TABLE, small_description="One text")], {}))[0]
    assert product.features == ("One text",)
    assert product.attributes == ("DUMMY_ATTR",)


def test_the_full_set_has_names_of_its_own(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "items_shuffle.json").write_text(json.dumps([LAMP]))
    (tmp_path / "items_ins_v2.json").write_text(json.dumps(ABOUT))
    assert [product.name for product in FileCatalogue(tmp_path)] == ["Lamp"]
    assert [product.name for product in FileCatalogue(tmp_path, products=1)] == ["Oak Table"]


@pytest.mark.parametrize(
    ("count", "test", "validation", "train"),
    [(3000, 500, 1000, 1500), (2999, 599, 599, 1801), (13, 2, 2, 9), (3, 0, 0, 3)],
)
def test_splits_are_the_published_ones_or_fifths(
    tmp_path: Path, count: int, test: int, validation: int, train: int
) -> None:
    options = {"size": [{"value": str(i)} for i in range(count)]}
    shop = FileCatalogue(folder(tmp_path, [with_(TABLE, customization_options=options)]))
    ranges = [shop.goal_range(split) for split in ("test", "validation", "train")]
    assert [len(r) for r in ranges] == [test, validation, train]
    assert [i for r in ranges for i in r] == list(range(count))


def test_an_empty_split_is_refused_at_reset(tmp_path: Path) -> None:
    simulator = WebShopSimulator(catalogue=str(folder(tmp_path)), split="test")
    with pytest.raises(ValueError, match=r"split 'test' has no goals in this catalogue \(3 in all\)"):
        simulator.reset(0)


def test_the_order_of_goals_is_that_of_the_released_shuffle(tmp_path: Path) -> None:
    options = {"size": [{"value": f"{i} cm"} for i in range(40)]}
    shop = FileCatalogue(folder(tmp_path, [with_(TABLE, customization_options=options)]))
    order = list(range(40))
    random.Random(233).shuffle(order)
    assert [goal.options[0][1] for goal in shop.goals] == [f"{i} cm" for i in order]


BROKEN = [
    pytest.param({"products": "[{"}, r"items_shuffle_1000.json: not JSON \(.*line 1 column 3", id="cut off"),
    pytest.param({"products": {}}, "items_shuffle_1000.json: expected a list of products, found {}", id="an object"),
    pytest.param({"about": []}, r"items_ins_v2_1000.json: expected an object with a key for each ASIN", id="a list"),
    pytest.param(
        {"products": [TABLE, 7]}, r"product number 1: field '\(entry\)' is 7, expected an object", id="a number"
    ),
    pytest.param({"products": [{}]}, "product number 0: field 'asin' is nothing, expected a text", id="no asin"),
    *[
        pytest.param(
            {"products": [with_(TABLE, **{field: None})]},
            f"items_shuffle_1000.json: product B000000001: field '{field}' is nothing, expected a (text|list of texts)",
            id=field,
        )
        for field in ("name", "full_description", "category", "query", "product_category", "small_description")
    ],
    pytest.param({"products": [with_(TABLE, pricing="free")]}, "B000000001: field 'pricing' is 'free'", id="price"),
    pytest.param({"products": [with_(TABLE, pricing="$1.2.3")]}, "'pricing' is '\\$1.2.3'", id="price of two points"),
    pytest.param({"products": [with_(TABLE, pricing=5)]}, "field 'pricing' is 5", id="price as a number"),
    pytest.param(
        {"products": [with_(TABLE, customization_options=["red"])]},
        "'customization_options' is \\['red'\\]",
        id="options",
    ),
    pytest.param(
        {"products": [with_(TABLE, customization_options={"color": "red"})]},
        "field 'customization_options.color' is 'red', expected a list or null",
        id="option values",
    ),
    pytest.param(
        {"products": [with_(TABLE, customization_options={"color": [{"name": "red"}]})]},
        'expected an object with a text "value"',
        id="option value",
    ),
    pytest.param(
        {"about": {"B000000001": {"attributes": "solid"}}},
        "field 'attributes' is 'solid', expected a list of texts",
        id="attributes",
    ),
    pytest.param({"about": {"B000000001": 3}}, "expected an object", id="attributes entry"),
    pytest.param(
        {"about": {"B000000001": {"instruction": "Find", "instruction_attributes": []}}},
        "items_ins_v2_1000.json: product B000000001: field 'instruction_attributes' is \\[\\], expected at least one",
        id="no attributes",
    ),
    pytest.param(
        {"about": {"B000000001": {"instruction": 3, "instruction_attributes": ["x"]}}},
        "field 'instruction' is 3, expected a text or null",
        id="instruction",
    ),
]


@pytest.mark.parametrize(("contents", "message"), BROKEN)
def test_broken_files_name_file_product_field_and_cure(tmp_path: Path, contents: dict[str, Any], message: str) -> None:
    with pytest.raises(CatalogueError, match=message) as caught:
        FileCatalogue(folder(tmp_path, **contents))
    assert "download the file again" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("human", "message"),
    [
        ({"B000000001": 5}, "expected a list of instructions"),
        ({"B000000001": ["x"]}, r"field '\[0\]' is 'x', expected an object"),
        ({"B000000001": [{"instruction": "x", "instruction_attributes": ["y"]}]}, "'instruction_options' is nothing"),
        (
            {"B000000001": [{"instruction": None, "instruction_attributes": ["y"], "instruction_options": []}]},
            "items_human_ins.json: product B000000001: field 'instruction' is nothing",
        ),
    ],
)
def test_broken_human_goals(tmp_path: Path, human: Any, message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        FileCatalogue(folder(tmp_path, human=human), goals="human")


def test_missing_folders_and_files(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"nowhere' is not a folder; expected one with items_shuffle_1000.json"):
        WebShopSimulator(catalogue=str(tmp_path / "nowhere"))
    with pytest.raises(CatalogueError, match=r"items_shuffle_1000.json: no such file; download"):
        FileCatalogue(tmp_path)
    folder(tmp_path)
    (tmp_path / "items_human_ins.json").unlink()
    assert len(FileCatalogue(tmp_path).goals) == 3
    with pytest.raises(CatalogueError, match=r"items_human_ins.json: no such file"):
        FileCatalogue(tmp_path, goals="human")


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "items_shuffle_1000.json").write_bytes(b'[{"asin": "\xff\xfe"}]')
    with pytest.raises(CatalogueError, match="not UTF-8"):
        FileCatalogue(tmp_path)


def test_knobs_of_the_generated_shop_are_refused_with_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="have no effect on catalogue="):
        WebShopSimulator(catalogue=str(folder(tmp_path)), near_duplicates=0.1)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    first = WebShopSimulator(catalogue=str(folder(tmp_path)))
    same = WebShopSimulator(catalogue=str(tmp_path), observation_mode="compact")
    assert first.catalogue is same.catalogue
    changed = WebShopSimulator(catalogue=str(folder(tmp_path, [with_(TABLE, name="Pine Table")])))
    assert changed.product(0).name == "Pine Table"
    assert first.product(0).name == "Oak Table"


def test_values_of_several_words_are_set_apart_in_compact_pages(tmp_path: Path) -> None:
    simulator = WebShopSimulator(catalogue=str(folder(tmp_path)), observation_mode="compact")
    state = simulator.step(simulator.step(simulator.reset(0), "search[table]"), "click[#1]")
    assert "color red | blue, green" in simulator.observation(state)
    chosen = simulator.step(state, "click[ Red |  blue ]")
    assert chosen.options == (("color", "red | blue"),)
    assert simulator.observation(chosen).endswith("\nchosen color red | blue")


def test_a_value_that_two_groups_share_is_the_last_group_s(tmp_path: Path) -> None:
    options = {"color": [{"value": "one"}], "size": [{"value": "one"}, {"value": "two"}]}
    simulator = WebShopSimulator(catalogue=str(folder(tmp_path, [with_(TABLE, customization_options=options)])))
    state = simulator.step(simulator.step(simulator.reset(0), "search[table]"), "click[B000000001]")
    assert simulator.step(state, "click[one]").options == (("size", "one"),)
    assert (simulator.legal_actions(state) or ()).count("click[one]") == 1


# The 1,000-product set.


@pytest.fixture(scope="module")
def webshop(shared_data: Path) -> WebShopSimulator:
    return WebShopSimulator(catalogue=str(shared_data / "webshop"))


def test_the_published_counts(webshop: WebShopSimulator, shared_data: Path) -> None:
    assert len(webshop.catalogue) == 1000
    assert len(webshop.goals) == 6910
    assert [len(webshop.catalogue.goal_range(split)) for split in ("test", "validation", "train")] == [500, 1000, 5410]
    human = WebShopSimulator(catalogue=str(shared_data / "webshop"), goals="human", split="test")
    assert len(human.goals) == 13
    assert len(human.goal_range) == 2


def test_every_compact_page_of_the_set_is_in_the_observation_space_and_regular(shared_data: Path) -> None:
    env = WebShopEnv(catalogue=str(shared_data / "webshop"), observation_mode="compact")
    simulator = env.simulator
    start = simulator.reset(0)
    for item in range(1000):
        for page in ("item", "description", "features"):
            text = simulator.observation(start._replace(page=page, item=item))
            assert text in env.observation_space
            assert text == text.strip()
            assert "  " not in text
    for index, goal in enumerate(simulator.goals):
        line = simulator.observation(start._replace(goal=index)).split("\n")[0]
        capped = f" under ${goal.price_upper:.0f}" if goal.price_upper < NO_CAP else ""
        assert line.endswith(capped)
        assert ("under $" in line) == bool(capped)
        assert not line.startswith("goal find me")


def test_every_goal_of_the_set_is_worth_one_by_clicks_and_458_are_not_in_the_released_reward(
    webshop: WebShopSimulator,
) -> None:
    refused = 0
    for index, goal in enumerate(webshop.goals):
        state = ShopState(index, "item", "x", 1, goal.product)
        for _, value in goal.options:
            state = webshop.step(state._replace(steps=0), f"click[{value}]")
        assert webshop.purchase(state).total == 1.0
        product = webshop.product(goal.product)
        released = purchase_reward(product, goal, product.price, dict(goal.options), variant="released")
        refused += released.total < 1.0
    assert refused == 458


def test_goals_are_the_same_in_every_process(webshop: WebShopSimulator, shared_data: Path) -> None:
    script = (
        "import sys, hashlib; from branchwise.envs.web_shop.files import FileCatalogue;"
        "print(hashlib.sha256(repr(FileCatalogue(sys.argv[1]).goals).encode()).hexdigest())"
    )
    command = [sys.executable, "-c", script, str(shared_data / "webshop")]
    elsewhere = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "1"})
    assert elsewhere.stdout.strip() == hashlib.sha256(repr(webshop.goals).encode()).hexdigest()
    again = FileCatalogue(shared_data / "webshop")
    assert again.goals == webshop.goals
    other = FileCatalogue(shared_data / "webshop", seed=1)
    assert [goal.price_upper for goal in other.goals] != [goal.price_upper for goal in again.goals]


def test_splits_of_the_set_share_no_goal_and_no_option_mixes_them(shared_data: Path) -> None:
    seen: dict[str, set[int]] = {}
    for split in ("train", "validation", "test"):
        simulator = WebShopSimulator(catalogue=str(shared_data / "webshop"), split=split)  # type: ignore[abstract,arg-type]
        seen[split] = {simulator.reset(seed).goal for seed in range(500)}
        seen[split] |= {simulator.reset(0, {"goal": i}).goal for i in range(500)}
        assert seen[split] <= set(simulator.goal_range)
    assert not seen["train"] & seen["validation"] | seen["train"] & seen["test"] | seen["validation"] & seen["test"]
    assert seen["test"] == set(range(500))


def test_the_goal_in_info_is_what_reset_takes(webshop: WebShopSimulator) -> None:
    state = webshop.reset(7)
    assert state.goal >= 1500
    assert webshop.reset(0, {"goal": webshop.info(state)["goal"]}) == state


def test_a_simulator_of_a_folder_survives_pickling(webshop: WebShopSimulator) -> None:
    copy = pickle.loads(pickle.dumps(webshop))
    assert copy.catalogue is webshop.catalogue
    assert copy.observation(copy.reset(3)) == webshop.observation(webshop.reset(3))


def test_released_draws_goals_by_weight(shared_data: Path) -> None:
    options: dict[str, Any] = {"catalogue": str(shared_data / "webshop")}
    simulators = [WebShopSimulator(**options, variant=v) for v in ("mended", "released")]
    means = [sum(s.goals[s.reset(seed).goal].weight for seed in range(2000)) / 2000 for s in simulators]
    weights = [simulators[0].goals[i].weight for i in simulators[0].goal_range]
    assert means[0] == pytest.approx(sum(weights) / len(weights), rel=0.2)
    assert means[1] == pytest.approx(sum(w * w for w in weights) / sum(weights), rel=0.2)


def test_search_in_the_set_finds_a_product_by_its_own_title(webshop: WebShopSimulator) -> None:
    found = [webshop.search(webshop.product(i).name)[0].asin == webshop.product(i).asin for i in range(0, 1000, 20)]
    assert sum(found) >= 47  # of 50; some titles are listed twice
