"""The page graph, the three texts of a page, invalid actions, the two variants, goals and their splits."""

import dataclasses
import itertools
import random
from typing import Any

import pytest

from branchwise.envs.simulator import TERMINAL
from branchwise.envs.web_shop.catalogue import Goal, Product, cap_text, option_text
from branchwise.envs.web_shop.pages import compact_goal, has_all_words
from branchwise.envs.web_shop.reward import purchase_reward
from branchwise.envs.web_shop.rules import ShopState, WebShopSimulator
from branchwise.testing import HOSTILE_TEXTS, check_simulator


def shop(**options: Any) -> WebShopSimulator:
    return WebShopSimulator(**{"products": 300, "observation_mode": "compact", **options})


COMPACT = shop()
TEXT = shop(observation_mode="text")
RICH = shop(observation_mode="text_rich")
RELEASED = shop(observation_mode="text", variant="released")


def with_options(simulator: WebShopSimulator, groups: int = 2) -> ShopState:
    """The first goal of a product with so many option groups."""
    goals = simulator.goal_range
    index = next(i for i in goals if len(simulator.goals[i].options) == groups)
    return simulator.reset(0, {"goal": index - goals.start})


def play(simulator: WebShopSimulator, state: ShopState, *actions: str) -> ShopState:
    for action in actions:
        state = simulator.step(state, action)
        assert not simulator.info(state)["invalid_action"], action
    return state


def opened(simulator: WebShopSimulator, state: ShopState) -> ShopState:
    """``state`` after searching for the goal's product and opening it."""
    goal = simulator.goal(state)
    state = play(simulator, state, f"search[{goal.name}]")
    assert goal.asin in [product.asin for product in simulator.results(state)]
    return play(simulator, state, f"click[{goal.asin}]")


def bought(simulator: WebShopSimulator, state: ShopState) -> ShopState:
    """``state`` after buying exactly what was asked."""
    state = opened(simulator, state)
    return play(simulator, state, *(f"click[{v}]" for _, v in simulator.goal(state).options), "click[buy now]")


# The page graph.


@pytest.mark.parametrize("simulator", [COMPACT, TEXT, RICH, RELEASED], ids=["compact", "text", "text_rich", "released"])
def test_every_goal_can_be_reached_by_clicks_alone(simulator: WebShopSimulator) -> None:
    for i in range(0, 300, 3):
        end = bought(simulator, simulator.reset(0, {"goal": i}))
        assert simulator.rewards(end) == (1.0,)
        assert simulator.info(end)["success"] is True
        assert simulator.current_player(end) == TERMINAL
        assert not simulator.truncated(end)


def test_pages_lead_where_they_say() -> None:
    start = with_options(COMPACT)
    results = play(COMPACT, start, f"search[{COMPACT.goal(start).name}]")
    assert (results.page, results.results_page) == ("results", 1)
    second = play(COMPACT, results, "click[next >]")
    assert second.results_page == 2
    assert play(COMPACT, second, "click[< prev]").results_page == 1
    item = play(COMPACT, second, "click[#3]")
    assert item.page == "item"
    assert item.seen == (item.item,)
    assert COMPACT.product(item.item) == COMPACT.results(second)[2]
    for page in ("description", "features", "reviews"):
        below = play(COMPACT, item, f"click[{page}]")
        assert below.page == page
        assert COMPACT.legal_actions(below) == ("click[back to search]", "click[< prev]")
        assert play(COMPACT, below, "click[< prev]")[:7] == item[:7]
    back = play(COMPACT, item, "click[< prev]")
    assert (back.page, back.results_page, back.query) == ("results", 2, second.query)
    for state in (results, second, item, back):
        index = play(COMPACT, state, "click[back to search]")
        assert index[:6] == start[:6]
    assert play(COMPACT, item, "click[back to search]").seen == item.seen


def test_results_come_by_tens_up_to_fifty() -> None:
    state = play(COMPACT, COMPACT.reset(0), "search[shirt soft easy cotton usb size color]")
    found = []
    for page in range(1, 6):
        assert state.results_page == page
        assert ("click[next >]" in COMPACT.legal_actions(state)) == (page < 5)  # type: ignore[operator]
        assert ("click[< prev]" in COMPACT.legal_actions(state)) == (page > 1)  # type: ignore[operator]
        found += [product.asin for product in COMPACT.results(state)]
        state = COMPACT.step(state, "click[next >]")
    assert len(found) == len(set(found)) == 50
    assert found == [product.asin for product in COMPACT.search("shirt soft easy cotton usb size color")]
    assert state.wrong == "button"


def test_options_are_kept_below_an_item_and_forgotten_with_it() -> None:
    item = opened(COMPACT, with_options(COMPACT))
    (first, values), (second, others) = COMPACT.product(item.item).options
    chosen = play(COMPACT, item, f"click[{others[0]}]", f"click[{values[0]}]")
    assert chosen.options == ((first, values[0]), (second, others[0]))  # in the order of the page
    changed = play(COMPACT, chosen, f"click[{values[1]}]")
    assert changed.options == ((first, values[1]), (second, others[0]))
    assert play(COMPACT, chosen, "click[features]", "click[< prev]").options == chosen.options
    again = play(COMPACT, chosen, "click[< prev]", f"click[{COMPACT.goal(item).asin}]")
    assert again.options == ()
    assert COMPACT.position(again) == COMPACT.position(item)


def test_the_end_stays_the_end() -> None:
    end = bought(COMPACT, COMPACT.reset(3))
    assert COMPACT.step(end, "search[more]") is end
    assert COMPACT.legal_actions(end) == ()
    assert COMPACT.admissible_commands(end) == []
    assert COMPACT.info(end)["reward_components"]["total"] == 1.0


def test_rewards_come_with_the_purchase_alone() -> None:
    item = opened(COMPACT, with_options(COMPACT))
    assert COMPACT.rewards(item) == (0.0,)
    end = play(COMPACT, item, "click[buy now]")
    goal, product = COMPACT.goal(item), COMPACT.product(item.item)
    expected = purchase_reward(product, goal, product.price, {})
    assert COMPACT.rewards(end) == (expected.total,)
    parts = len(goal.attributes) + 2 + 1
    assert expected.total == pytest.approx((parts - 2) / parts)
    assert COMPACT.purchase(end) == COMPACT.purchase(item) == expected
    assert COMPACT.info(end)["success"] is False
    with pytest.raises(ValueError, match="needs a state with an item"):
        COMPACT.purchase(COMPACT.reset(0))


def test_the_budget_of_steps_truncates() -> None:
    simulator = shop(max_steps=3)
    state = simulator.reset(0)
    for _ in range(3):
        assert simulator.current_player(state) == 0
        state = simulator.step(state, "click[nothing]")
    assert simulator.truncated(state)
    assert simulator.current_player(state) == TERMINAL
    assert simulator.legal_actions(state) == ()
    assert simulator.step(state, "search[shirt]") is state


def test_a_purchase_in_the_last_step_counts() -> None:
    simulator = shop(max_steps=3)
    state = next(s for s in map(simulator.reset, range(99)) if not simulator.goal(s).options)
    end = bought(simulator, state)
    assert end.steps == 3
    assert not simulator.truncated(end)
    assert simulator.rewards(end) == (1.0,)


# Commands.


@pytest.mark.parametrize(
    "spelled", ["click[buy now]", "  CLICK [ Buy   Now ]\n", "click[BUY NOW]", "Click[ buy now]", "click[\tbuy\nnow ]"]
)
def test_case_and_blanks_do_not_matter(spelled: str) -> None:
    assert play(COMPACT, opened(COMPACT, COMPACT.reset(1)), spelled).page == "done"


def test_searches_are_evened_out() -> None:
    queries = {COMPACT.step(COMPACT.reset(0), text).query for text in ("search[ Red  SHIRT ]", "SEARCH [red shirt]")}
    assert queries == {"red shirt"}


def test_rows_open_by_number_and_by_asin() -> None:
    results = play(COMPACT, COMPACT.reset(0), "search[dress shirt]")
    second = COMPACT.results(results)[1]
    states = {play(COMPACT, results, f"click[{name}]") for name in ("#2", "2", second.asin, second.asin.lower())}
    assert len(states) == 1
    listed = TEXT.legal_actions(play(TEXT, TEXT.reset(0), "search[dress shirt]"))
    assert f"click[{second.asin.lower()}]" in listed  # type: ignore[operator]
    assert TEXT.info(TEXT.step(play(TEXT, TEXT.reset(0), "search[dress shirt]"), "click[2]"))["invalid_action"]


@pytest.mark.parametrize(
    ("page", "action", "complaint"),
    [
        ("index", "buy it", "write search[words] or click[button]"),
        ("index", "search[]", "nothing to search for"),
        ("index", "search[  ]", "nothing to search for"),
        ("index", "click[buy now]", "no such button"),
        ("index", "click[search]", "no such button"),
        ("index", "click[back to search]", "no such button"),
        ("results", "search[shirt]", "search works on the search page"),
        ("results", "click[#11]", "no such button"),
        ("results", "click[#0]", "no such button"),
        ("results", "click[< prev]", "no such button"),
        ("results", "click[buy now]", "no such button"),
        ("results", "click[B0ZZZZZZZZ]", "no such button"),
        ("item", "click[attributes]", "no such button"),
        ("item", "click[next >]", "no such button"),
        ("item", "click[ultraviolet]", "no such button"),
        ("features", "click[buy now]", "no such button"),
    ],
)
def test_an_invalid_action_says_so_and_costs_a_step(page: str, action: str, complaint: str) -> None:
    for simulator in (COMPACT, TEXT, RICH):
        state = with_options(simulator)
        state = {"index": state, "results": play(simulator, state, "search[dress shirt]")}.get(page) or opened(
            simulator, state
        )
        if page == "features":
            state = play(simulator, state, "click[features]")
        after = simulator.step(state, action)
        assert simulator.position(after) == simulator.position(state)
        assert after.steps == state.steps + 1
        assert simulator.info(after)["invalid_action"] is True
        said = "invalid action" if simulator is COMPACT else complaint
        assert said in simulator.observation(after)
        right = play(simulator, after, (simulator.legal_actions(after) or ["search[hat]"])[0])
        assert "nvalid action" not in simulator.observation(right)


@pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=range(len(HOSTILE_TEXTS)))
def test_hostile_text_never_hurts(text: str) -> None:
    state = TEXT.step(TEXT.reset(0), text)
    assert state.steps == 1
    assert len(state.query) <= 1000
    TEXT.observation(state).encode()
    remembering = shop(num_prev_obs=2, num_prev_actions=2)
    remembering.observation(remembering.step(remembering.reset(0), text)).encode()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"observation_mode": "text", "split": "test"},
        {"observation_mode": "text_rich", "variant": "released", "show_attributes": True},
        {"num_prev_obs": 2, "num_prev_actions": 1},
    ],
    ids=["compact", "text", "released", "history"],
)
def test_it_keeps_the_promises_of_a_simulator(options: dict[str, Any]) -> None:
    check_simulator(
        shop(**options),
        actions=["search[red dress shirt]", "search[<r>]"],
        fresh_process=options in ({},),
        seeds=range(2),
    )


# What is read.


def test_compact_pages() -> None:
    start = with_options(COMPACT)
    goal = COMPACT.goal(start)
    values = " ".join(f"{name} {value}" for name, value in goal.options)
    wanted = f"goal {' '.join(goal.attributes)} {goal.query} {values} under ${goal.price_upper:.0f}"
    assert COMPACT.observation(start) == f"{wanted}\nsteps 15\nsearch page"

    results = play(COMPACT, start, f"search[{goal.name}]")
    products = COMPACT.results(results)
    lines = COMPACT.observation(results).split("\n")
    pages = -(-len(COMPACT.search(goal.name)) // 10)
    assert lines[:3] == [wanted, "steps 14", f"results 1 of {pages} for {goal.name.lower()}"]
    said = [("all" if p.name == goal.name else "some", price_word(p, goal)) for p in products]
    assert lines[3:] == [f"#{i} {match} {price}" for i, (match, price) in enumerate(said, start=1)]
    assert {match for match, _ in said} == {"all", "some"}

    item = play(COMPACT, results, "click[#1]")
    product = COMPACT.product(item.item)
    page = [f"item {product.name.lower()} {product.price_tag}"]
    page += [f"{name} {' '.join(values)}" for name, values in product.options]
    assert COMPACT.observation(item).split("\n")[2:] == [*page, "chosen nothing"]
    (first, values), (second, others) = product.options
    chosen = play(COMPACT, item, f"click[{others[0]}]", f"click[{values[1]}]")
    assert COMPACT.observation(chosen).split("\n")[-1] == f"chosen {first} {values[1]} {second} {others[0]}"

    features = COMPACT.observation(play(COMPACT, item, "click[features]")).split("\n")[-1]
    assert features == f"features {' '.join(product.features).lower()}"
    description = COMPACT.observation(play(COMPACT, item, "click[description]")).split("\n")[-1]
    assert description == f"description {product.description.lower().rstrip('.')}"

    back = play(COMPACT, item, "click[< prev]")
    assert COMPACT.observation(back).split("\n")[3] == f"{lines[3]} seen"
    assert COMPACT.observation(back).count(" seen") == 1
    assert COMPACT.observation(play(COMPACT, item, "click[buy now]")).split("\n")[-1] == "order placed"
    nothing = play(COMPACT, start, "search[Qqqq!]")
    assert COMPACT.observation(nothing).split("\n")[-1] == "no results for qqqq"
    assert COMPACT.observation(play(COMPACT, start, "search[!?]")).split("\n")[-1] == "no results"


def price_word(product: Product, goal: Goal) -> str:
    return "under" if product.price <= goal.price_upper else "over"


def test_a_row_says_whether_all_searched_words_are_in_the_title_and_the_price_within_the_cap() -> None:
    told = set()
    for i in range(100):
        state = COMPACT.reset(0, {"goal": i})
        goal = COMPACT.goal(state)
        words = (*goal.attributes, goal.query)
        state = play(COMPACT, state, f"search[{' '.join(words)}]")
        products = COMPACT.results(state)
        rows = [line.split() for line in COMPACT.observation(state).split("\n")[3:]]
        assert [row[0] for row in rows] == [f"#{n}" for n in range(1, len(products) + 1)]
        for (_, match, price), product in zip(rows, products, strict=True):
            padded = f" {product.name.lower()} "
            assert match == ("all" if all(f" {word} " in padded for said in words for word in said.split()) else "some")
            assert price == price_word(product, goal)
            told.add((match, price))
    assert len(told) == 4


@pytest.mark.parametrize(
    ("query", "title", "all_words"),
    [
        ("slim fit", "Men's SLIM-Fit shirt", True),
        ("slim-fit", "slim fit shirt", True),
        ("fit slim", "slim fit shirt", True),
        ("slim fit red", "slim fit shirt", False),
        ("shirt", "shirts", False),
        ("mens", "Men’s shirt", True),
        ("café 9.5", "CAFÉ size 9.5", True),
        ("9.5", "size 95", False),
        ("<q> dress shirt", "linen dress shirt", True),
        ("<r>", "anything", True),
    ],
)
def test_searched_words_are_looked_for_without_case_punctuation_and_hyphens(
    query: str, title: str, all_words: bool
) -> None:
    assert has_all_words(query, title) is all_words


@pytest.mark.parametrize(
    ("instruction", "options", "cap", "compact"),
    [
        ("Find me soft, warm men's hats", (), 1_000_000.0, "soft warm mens hats"),
        ("Find me warm hats", (("color", "red"),), 40.0, "warm hats color red under $40"),
        (
            "Find me warm hats",
            (("size", '6.5" | wide'), ("fit type", "men")),
            39.5,
            "warm hats size 6.5 wide fit type men under $39.50",
        ),
        (
            "Find me sofas with storage",
            (("color", "red, and blue: dark"),),
            40.0,
            "sofas with storage color red and blue dark under $40",
        ),
        ("i want a hat, and find me a red one: soon", None, 40.0, "i want a hat and find me a red one soon under $40"),
        ("Some hat with color: red", None, 1_000_000.0, "some hat with color red"),
    ],
)
def test_a_goal_in_compact_words(
    instruction: str, options: tuple[tuple[str, str], ...] | None, cap: float, compact: str
) -> None:
    """``options=None``: a written goal, whose instruction does not end with its options."""
    wanted = (("", "red"),) if options is None else options
    text = f"{instruction}{option_text(options or ())}{cap_text(cap)}"
    goal = dataclasses.replace(COMPACT.goals[0], instruction=text, options=wanted, price_upper=cap)
    assert compact_goal(goal) == compact


def test_the_lexicon_holds_every_word_of_every_compact_page() -> None:
    known = set(COMPACT.lexicon())
    rng = random.Random(0)
    for split in ("train", "test"):
        simulator = shop(split=split, products=1000, show_attributes=True)
        for i in range(400):
            state = simulator.reset(0, {"goal": i})
            state = simulator.step(state, f"search[{simulator.goal(state).query}]")
            while simulator.current_player(state) != TERMINAL:
                words = simulator.observation(state).replace("$", " ").replace("#", " ").replace("-", " ").split()
                assert not [word for word in words if not word.isdigit() and word not in known]
                commands = [*(simulator.legal_actions(state) or ["search[usb]"]), "oops"]
                state = simulator.step(state, rng.choice(commands))


def test_a_compact_page_of_ten_results_is_about_fifty_words() -> None:
    simulator = shop(products=1000)
    lengths = []
    for i in range(200):
        state = simulator.reset(0, {"goal": i})
        state = play(simulator, state, f"search[{simulator.goal(state).query}]")
        assert len(simulator.results(state)) == 10
        lengths.append(len(simulator.observation(state).split()))
    assert 45 <= sum(lengths) / len(lengths) <= 55
    assert max(lengths) <= 60


def test_text_pages_are_webshop_s() -> None:
    start = with_options(TEXT)
    goal = TEXT.goal(start)
    head = f"Instruction: [SEP] {goal.instruction} [SEP] "
    assert TEXT.observation(start) == f"WebShop [SEP] {head}Search"

    results = play(TEXT, start, f"search[{goal.name}]")
    rows = " [SEP] ".join(f"{p.asin} [SEP] {p.name} [SEP] {p.price_tag}" for p in TEXT.results(results))
    total = f"(Total results: {len(TEXT.search(goal.name))})"
    first = f"{head}Back to Search [SEP] Page 1 {total} [SEP] Next > [SEP] {rows}"
    assert TEXT.observation(results) == first
    second = TEXT.observation(play(TEXT, results, "click[next >]"))
    assert second.startswith(f"{head}Back to Search [SEP] Page 2 {total} [SEP] < Prev [SEP] Next > [SEP] B0")

    item = opened(TEXT, start)
    product = TEXT.product(goal.asin)
    groups = "".join(f"{name} [SEP] {' [SEP] '.join(values)} [SEP] " for name, values in product.options)
    assert TEXT.observation(item) == (
        f"{head}Back to Search [SEP] < Prev [SEP] {groups}{product.name} [SEP] Price: {product.price_tag} [SEP] "
        f"Rating: {product.rating} [SEP] Description [SEP] Features [SEP] Reviews [SEP] Buy Now"
    )
    features = TEXT.observation(play(TEXT, item, "click[features]"))
    assert features == f"{head}Back to Search [SEP] < Prev [SEP] {' [SEP] '.join(product.features)}"

    name, value = goal.options[0]
    end = play(TEXT, item, f"click[{value}]", "click[buy now]")
    blanks = "attrs None category None query None".replace(" ", " [SEP] ")
    target = (
        "asin [SEP] options [SEP] attrs [SEP] price upper [SEP] instuction text [SEP] category [SEP] product category"
    )
    assert TEXT.observation(end) == (
        "Thank you for shopping with us! [SEP] Your code: [SEP] None [SEP] (Paste it in your MTurk interface.) [SEP] "
        f'Purchased [SEP] asin [SEP] {goal.asin} [SEP] options [SEP] {{"{name}": "{value}"}} [SEP] {blanks} [SEP] '
        f"product category [SEP] None [SEP] Target [SEP] {target} [SEP] query [SEP] Goal [SEP] None [SEP] Reward [SEP] "
        f"Your score (min 0.0, max 1.0) [SEP] {TEXT.rewards(end)[0]} [SEP] Reward Details [SEP] None"
    )


def test_rich_text_marks_buttons_and_what_was_clicked() -> None:
    start = with_options(RICH)
    goal = RICH.goal(start)
    assert RICH.observation(start) == f"WebShop\nInstruction:\n{goal.instruction}\n[button] Search [button_]\n"
    item = opened(RICH, start)
    (_, values), (_, others) = RICH.product(goal.asin).options
    chosen = RICH.observation(play(RICH, item, f"click[{others[0]}]", f"click[{values[0]}]"))
    assert chosen.startswith(f"You have clicked {others[0]}.\nYou have clicked {values[0]}.\nInstruction:\n")
    assert f"\n  [clicked button] {values[0]} [clicked button_]\n  [button] {values[1]} [button_]\n" in chosen
    assert chosen.endswith("[button] Reviews [button_]\n[button] Buy Now [button_]\n")
    back = RICH.observation(play(RICH, item, "click[< prev]"))
    assert f"\n\n[clicked button] {goal.asin} [clicked button_]\n{RICH.product(goal.asin).name}\n" in back
    assert back.count("\n\n[button] B0") == 9


def test_the_attributes_page_is_there_on_request() -> None:
    simulator = shop(observation_mode="text", show_attributes=True)
    item = opened(simulator, simulator.reset(0))
    assert "Reviews [SEP] Attributes [SEP] Buy Now" in simulator.observation(item)
    product = simulator.product(item.item)
    page = simulator.observation(play(simulator, item, "click[attributes]"))
    texts = (*product.attributes, product.category, product.query, product.product_category)
    assert page.endswith(" [SEP] ".join(texts))


def test_reviews_are_shown_or_their_absence() -> None:
    pages = {True: 0, False: 0}
    for i in range(0, 60):
        state = opened(TEXT, TEXT.reset(0, {"goal": i}))
        product = TEXT.product(state.item)
        text = TEXT.observation(play(TEXT, state, "click[reviews]"))
        pages[bool(product.reviews)] += 1
        for title, score, body in product.reviews:
            assert f'"{title}" [SEP] {score} [SEP] {body}' in text
        assert text.endswith("No reviews found") != bool(product.reviews)
    assert min(pages.values()) > 5


def test_webshop_s_pages_forget_what_was_opened_at_the_search_page_and_compact_ones_do_not() -> None:
    for simulator, kept in ((RICH, 0), (COMPACT, 1)):
        item = opened(simulator, simulator.reset(0))
        assert len(play(simulator, item, "click[< prev]").seen) == 1
        assert len(play(simulator, item, "click[back to search]").seen) == kept


def test_history_goes_before_the_page_oldest_first() -> None:
    def seen(**counts: int) -> str:
        simulator = shop(observation_mode="text", **counts)
        state = play(simulator, simulator.reset(0, {"goal": 0}), "search[mat]", "click[back to search]", "search[pot]")
        return simulator.observation(state)

    index = TEXT.observation(TEXT.reset(0, {"goal": 0}))
    mat = TEXT.observation(play(TEXT, TEXT.reset(0, {"goal": 0}), "search[mat]"))
    pot = TEXT.observation(play(TEXT, TEXT.reset(0, {"goal": 0}), "search[pot]"))
    assert seen() == pot
    assert seen(num_prev_actions=1) == f"search[pot] [SEP] {pot}"
    assert seen(num_prev_obs=1) == f"{index} [SEP] {pot}"
    assert (
        seen(num_prev_obs=1, num_prev_actions=2) == f"click[back to search] [SEP] {index} [SEP] search[pot] [SEP] {pot}"
    )
    assert seen(num_prev_obs=2, num_prev_actions=1) == f"{mat} [SEP] {index} [SEP] search[pot] [SEP] {pot}"


# The released variant.


def test_released_shows_next_past_the_end_and_mended_does_not() -> None:
    for simulator, shown in ((TEXT, False), (RELEASED, True)):
        total = len(simulator.search("color size"))
        pages = -(-total // 10)
        state = play(simulator, simulator.reset(0), "search[color size]", *["click[next >]"] * (pages - 1))
        assert ("click[next >]" in (simulator.legal_actions(state) or ())) == shown
        assert ("Next >" in simulator.observation(state)) == shown
    empty = play(RELEASED, state, "click[next >]")
    assert RELEASED.results(empty) == []
    assert RELEASED.observation(empty).endswith(f"Page {pages + 1} (Total results: {total}) [SEP] < Prev [SEP] Next >")
    assert play(RELEASED, empty, "click[< prev]").results_page == pages


def test_released_searches_from_any_page_and_mended_does_not() -> None:
    item = opened(RELEASED, RELEASED.reset(0))
    again = play(RELEASED, item, "search[lamp]")
    assert (again.page, again.query, again.results_page) == ("results", "lamp", 1)
    assert RELEASED.admissible_commands(item)[0] == "search[…]"  # type: ignore[index]
    assert TEXT.step(opened(TEXT, TEXT.reset(0)), "search[lamp]").wrong == "place"


def test_released_is_silent_about_an_invalid_action() -> None:
    state = RELEASED.reset(0)
    after = RELEASED.step(state, "nonsense")
    assert RELEASED.observation(after) == RELEASED.observation(state)
    assert RELEASED.info(after)["invalid_action"] is True


# Search prefixes.


def test_prefixes_find_by_attribute_category_and_query() -> None:
    by_attribute = COMPACT.search("<a> slim fit")
    assert by_attribute
    assert all("slim fit" in product.attributes for product in by_attribute)
    by_category = COMPACT.search("<c> beauty ignored")
    assert len(by_category) == 50
    assert {product.category for product in by_category} == {"beauty"}
    by_query = COMPACT.search("<q> dress shirt")
    assert [product.query for product in by_query] == ["dress shirt"] * len(by_query)
    for found in (by_attribute, by_category, by_query):
        places = [COMPACT.catalogue.index_of(product.asin) for product in found]
        assert places == sorted(places)
    assert COMPACT.search("<a> no such attribute") == COMPACT.search("<q> nothing") == []
    page = COMPACT.observation(play(COMPACT, COMPACT.reset(0), "search[<q> dress shirt]")).split("\n")
    assert page[2].endswith(" for q dress shirt")
    assert [row.split()[1] for row in page[3:]] == ["all"] * min(len(by_query), 10)


def test_the_random_prefix_finds_fifty_and_the_same_each_time() -> None:
    found = COMPACT.search("<r>")
    assert len({product.asin for product in found}) == 50
    assert found == shop().search("<r>")
    assert found != COMPACT.search("<r> again")
    assert len(shop(products=30).search("<r>")) == 30


# Goals and arguments.


def test_goals_by_seed_are_spread_and_repeatable() -> None:
    drawn = [COMPACT.reset(seed).goal for seed in range(600)]
    assert drawn == [shop().reset(seed).goal for seed in range(600)]
    assert len(set(drawn)) > 400
    assert {goal * 4 // len(COMPACT.goals) for goal in drawn} == {0, 1, 2, 3}


@pytest.mark.parametrize("index", [-1, 1200, 10**9])
def test_a_goal_outside_the_split_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match=f"goal {index} is not in split 'train', whose goals are 0 to 1199"):
        COMPACT.reset(0, {"goal": index})


def test_bad_reset_options_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown reset option 'gaol'; accepted: 'goal'"):
        COMPACT.reset(0, {"gaol": 1})
    with pytest.raises(ValueError, match="goal '3'; expected a whole number"):
        COMPACT.reset(0, {"goal": "3"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev"}, "split='dev'; expected one of 'train', 'validation', 'test'"),
        ({"observation_mode": "html"}, "observation_mode='html'; expected one of 'text', 'text_rich', 'compact'"),
        ({"variant": "fixed"}, "variant='fixed'; expected one of 'mended', 'released'"),
        ({"goals": "robot"}, "goals='robot'"),
        ({"goals": "human"}, "goals='human' needs WebShop's files"),
        ({"max_steps": 0}, "max_steps=0; expected a whole number of at least 1"),
        ({"num_prev_obs": -1}, "num_prev_obs=-1"),
        ({"products": 5}, "products=5; a generated catalogue has 10 to 1,000,000 products"),
        ({"near_duplicates": 2}, "near_duplicates=2"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shop(**options)


def test_unknown_products_are_refused() -> None:
    with pytest.raises(KeyError, match="no product 'B0NOTHING1'"):
        COMPACT.product("B0NOTHING1")
    assert COMPACT.product(COMPACT.product(7).asin.lower()) == COMPACT.product(7)


# Sharing.


def test_copies_share_the_catalogue_the_index_and_the_pages() -> None:
    first, second, other = shop(), shop(), shop(observation_mode="text")
    assert first._view is second._view
    assert first.catalogue is other.catalogue
    assert first._view is not other._view


def test_states_are_small_and_equal_by_value() -> None:
    import pickle

    states = [bought(simulator, simulator.reset(11)) for simulator in (shop(), shop())]
    assert states[0] == states[1]
    assert hash(states[0]) == hash(states[1])
    assert len(pickle.dumps(states[0])) < 400


def test_positions_forget_the_clock_alone() -> None:
    state = play(COMPACT, COMPACT.reset(0), "search[shirt]", "click[#1]", "click[< prev]", "click[#1]")
    direct = play(COMPACT, COMPACT.reset(0), "search[shirt]", "click[#1]")
    assert state != direct
    assert COMPACT.position(state) == COMPACT.position(direct)
    assert COMPACT.position(COMPACT.step(direct, "oops")) == COMPACT.position(direct)


def test_searching_compares_products_since_first_rows_often_mislead() -> None:
    """What the shop is for: at the default difficulty neither the first row of a search for the kind of thing nor the
    first of one for the whole instruction is always right, while a right one is among the first ten."""
    simulator = shop(products=1000, split="validation")

    def best_of(goal_index: int, asin: str) -> float:
        goal, product = simulator.goals[goal_index], simulator.product(asin)
        offered = dict(product.options)
        options = {name: value for name, value in goal.options if value in offered.get(name, ())}
        return purchase_reward(product, goal, product.price, options).total

    kind = specific = whole = reachable = 0
    goals = list(itertools.islice(simulator.goal_range, 300))
    for i in goals:
        goal = simulator.goals[i]
        kind += best_of(i, simulator.search(goal.query)[0].asin) == 1.0
        found = simulator.search(" ".join((*goal.attributes, goal.query)))[:10]
        specific += best_of(i, found[0].asin) == 1.0
        reachable += any(best_of(i, product.asin) == 1.0 for product in found)
        whole += best_of(i, simulator.search(goal.instruction)[0].asin) == 1.0
    assert kind < 0.25 * len(goals)
    assert specific < 0.7 * len(goals)
    assert whole < 0.9 * len(goals)
    assert reachable > 0.98 * len(goals)
