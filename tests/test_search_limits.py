"""The limits of a search, each by itself: the least and the largest number that a setting takes and the next one, which
it does not; which settings contradict each other; what the kernels read of them; and how far a number that comes from
outside may be off."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from flat_settings import flat, flat_settings
from toys import Many

from branchwise.envs.checked import LARGEST, checked_outcomes, checked_rewards
from branchwise.envs.play.policy import FunctionPolicy
from branchwise.envs.simulator import CHANCE, TERMINAL, Simulator
from branchwise.search.calls import in_range
from branchwise.search.engine import Root, SearchStopped, search
from branchwise.search.evaluation import Mixed, PolicyRollout, RandomRollout, Repeated, ValueFunction
from branchwise.search.rules.backup import BACKUP_CODES
from branchwise.search.rules.options import RULES, AlphaZero, PUcb, Puct, Ucb1, UctBonus, numbers_of
from branchwise.search.rules.selection import FIRST_PLAY_CODES, SELECTION_CODES
from branchwise.search.rules.swe_search import TERMS
from branchwise.search.settings import SearchSettings, settings_record
from branchwise.search.trees.children import Children
from branchwise.search.trees.nodes import ENDED, MAX_CHILDREN, MAX_PLAYERS, OUTCOMES, VALUED
from branchwise.search.trees.stepping import Refused, StepRules, stepped
from branchwise.search.trees.tree import Tree

INF = float("inf")
MOST = 2**31 - 1
GUMBEL = {"selection": "gumbel", "solve": False}
CONSTANT = {"unvisited_value": "constant"}
SOFTMAX = {"selection": "softmax"}
BONUS = {"selection": "uct_bonus"}
ALPHAZERO = {"selection": "alphazero"}

# ---- the numbers of the settings ------------------------------------------------------------------------------------

RANGES: dict[str, tuple[float, float, dict[str, Any]]] = {
    "simulations": (1, MOST, {}),
    "exploration": (0.0, 1e30, {}),
    "fpu_value": (-1e30, 1e30, CONSTANT),
    "proposals": (1, MOST, {}),
    "uniform_prior": (0.0, 1.0, {}),
    "discount": (0.0, 1.0, {}),
    "leaves_per_tree": (1, 255, {}),
    "virtual_loss": (0.0, 1e30, {}),
    "max_depth": (1, 65_000, {}),
    "max_failed_share": (0.0, 1.0, {}),
    "exploitation": (0.0, 1e30, BONUS),
    "top_nodes": (1, MOST, SOFTMAX),
    "apart": (0.0, 1.0, SOFTMAX),
    "considered": (1, MOST, GUMBEL),
    "gumbel_scale": (0.0, 1e30, GUMBEL),
    "value_scale": (0.0, 1e30, GUMBEL),
    "maxvisit_init": (0.0, 1e30, GUMBEL),
    "noise": (0.0, 1.0, {}),
    "critic_weight": (0.0, 1.0, {}),
    "merge_distance": (0.0, 1.0, {}),
    "widening": (0.0, MOST, {}),
    "widening_power": (0.0, 1.0, {}),
}
"""The least, the largest, and the options that the setting needs beside it."""

LEAST = 5e-324  # the smallest number above 0
ABOVE_ZERO: dict[str, float] = {
    "prior_temperature": LEAST,
    "exploration_base": LEAST,
    "temperature": LEAST,
    "noise_alpha": LEAST,
    "seconds": LEAST,
    "call_seconds": LEAST,
    "max_nodes": 1,
    "max_bytes": 1,
    "max_model_calls": 1,
}
NEEDS = {"exploration_base": ALPHAZERO, "temperature": SOFTMAX}
"""The options that the setting needs beside it."""


def below(number: float) -> float:
    return number - 1 if isinstance(number, int) else float(np.nextafter(number, -INF))


def above(number: float) -> float:
    return number + 1 if isinstance(number, int) else float(np.nextafter(number, INF))


def test_every_number_of_the_settings_has_its_limits_in_these_tables() -> None:
    defaults = vars(flat(SearchSettings()))
    numbers = {name for name, value in defaults.items() if type(value) in (int, float)}
    limits = {name for name, value in defaults.items() if value is None}
    assert numbers | limits == set(RANGES) | set(ABOVE_ZERO)


@pytest.mark.parametrize("name", RANGES)
def test_a_setting_takes_both_its_limits_and_nothing_beyond(name: str) -> None:
    low, high, options = RANGES[name]
    for value in (low, high):
        assert getattr(flat(flat_settings(**{**options, name: value})), name) == value
    for value in (below(low), above(high)):
        with pytest.raises(ValueError, match=rf"{name} is "):
            flat_settings(**{**options, name: value})


@pytest.mark.parametrize("name", ["uniform_prior", "leaves_per_tree", "simulations"])
def test_a_number_beyond_its_limits_is_named_with_them(name: str) -> None:
    low, high, _ = RANGES[name]
    value = above(high)
    with pytest.raises(
        ValueError, match=re.escape(f"SearchSettings.{name} is {value!r}; expected a number from {low} to {high}")
    ):
        flat_settings(**{name: value})


@pytest.mark.parametrize("name", ABOVE_ZERO)
def test_a_setting_above_zero_takes_the_least_number_and_not_zero(name: str) -> None:
    least = ABOVE_ZERO[name]
    needs = NEEDS.get(name, {})
    assert getattr(flat(flat_settings(**needs, **{name: least})), name) == least
    for value in (type(least)(0), -least):
        with pytest.raises(ValueError, match=rf"\w+\.{name} is {value!r}; expected more than 0"):
            flat_settings(**needs, **{name: value})


@pytest.mark.parametrize("name", ["prior_temperature", "exploration_base", "temperature", "noise_alpha"])
def test_a_setting_that_something_is_divided_by_has_an_end(name: str) -> None:
    needs = NEEDS.get(name, {})
    assert getattr(flat(flat_settings(**needs, **{name: 1e30})), name) == 1e30
    for value in (above(1e30), INF):
        with pytest.raises(ValueError, match=rf"{name} is .*; expected more than 0, and at most 1e\+30"):
            flat_settings(**needs, **{name: value})


def test_proposals_by_depth_are_at_least_one_each() -> None:
    assert SearchSettings(proposals_by_depth=(1, 1)).proposals_by_depth == (1, 1)
    for wrong in ((0,), (4, 0), (0, 4), (-1,)):
        with pytest.raises(ValueError, match=re.escape(f"proposals_by_depth is {wrong}; expected at least 1 each")):
            SearchSettings(proposals_by_depth=wrong)


def test_bonus_terms_are_looked_up_by_name() -> None:
    assert SearchSettings(selection=UctBonus(bonus_terms=tuple(TERMS))).rule.bonus_terms == tuple(TERMS)
    with pytest.raises(ValueError, match="bonus_terms has 'luck'; expected some of early_depth"):
        SearchSettings(selection=UctBonus(bonus_terms=("early_depth", "luck")))


# ---- settings that contradict each other ----------------------------------------------------------------------------

HIDDEN = {"information": "multiple_observer"}
REDUCED = {"unvisited_value": "reduced", "fpu_value": 0.2}
TOGETHER: list[tuple[dict[str, Any], list[dict[str, Any]], str]] = [
    (
        {"information": "single_observer", "unvisited_value": "reduced", "fpu_value": 0.2},
        [{"selection": "puct"}],
        "prior mass of all children",
    ),
    ({"selection": "gumbel"}, [{"solve": True}], "plans the visits of each action"),
    (
        GUMBEL,
        [{"noise": 0.1}, {"critic_weight": 0.1}, {"normalise": "tree"}, {"normalise": "siblings"}, {"widening": 1.0}],
        "has its own noise, values and choice of actions",
    ),
    (SOFTMAX, [HIDDEN, {"widening": 1.0}, {"transpositions": True}], "draws among the nodes of one plain tree"),
    ({**BONUS, "whole_tree": True}, [{"widening": 1.0}, {"transpositions": True}], "without transpositions and widen"),
    (BONUS, [{"critic_weight": 0.1}], "keeps its bonus where a critic's value"),
    (
        HIDDEN,
        [
            GUMBEL,
            BONUS,
            {"backup": "bellman"},
            {"backup": "max"},
            {"backup": "bellman_max"},
            {"backup": "minimax"},
            {"transpositions": True},
        ],
        "an information set has no one successor",
    ),
    (
        HIDDEN,
        [{"critic_weight": 0.1}, {"unvisited_value": "prior"}, {"normalise": "siblings"}],
        "counts availability where a critic's value would stand",
    ),
    (
        HIDDEN,
        [{"widening": 1.0}, {"hide_outcome": True}, {"leaves_per_tree": 2}],
        "walks one determinisation at a time",
    ),
    ({"unvisited_value": "infinite"}, [{"normalise": "tree"}, {"normalise": "siblings"}], "lies outside any bounds"),
]


@pytest.mark.parametrize(
    ("options", "words"), [({**shared, **one}, words) for shared, each, words in TOGETHER for one in each]
)
def test_each_contradiction_is_refused_by_itself(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"^SearchSettings: .*{words}"):
        flat_settings(**options)


@pytest.mark.parametrize("rule", [Puct, AlphaZero, PUcb, Ucb1])
def test_first_play_takes_a_value_where_one_is_read(rule: Any) -> None:
    for value in ("parent", "zero", "infinite", "prior"):
        with pytest.raises(ValueError, match="is read under unvisited_value='reduced' or 'constant' alone"):
            rule(unvisited_value=value, fpu_value=0.1)
    with pytest.raises(ValueError, match="reduces nothing; set fpu_value"):
        rule(unvisited_value="reduced")


@pytest.mark.parametrize("option", numbers_of(Puct()))
@pytest.mark.parametrize("rule", RULES)
def test_an_option_that_a_rule_does_not_read_cannot_be_written(rule: str, option: str) -> None:
    if option not in {field.name for field in dataclasses.fields(RULES[rule])}:
        with pytest.raises(TypeError, match=f"selection '{rule}' has no option '{option}'"):
            SearchSettings(selection={rule: {option: 1}}, solve=False)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="unexpected keyword"):
            RULES[rule](**{option: 1})


@pytest.mark.parametrize(
    "options",
    [
        {**GUMBEL, "value_scale": 0.2, "maxvisit_init": 49.0, "rescale_values": False},
        *({**REDUCED, "selection": rule} for rule in ("puct", "alphazero", "p_ucb", "ucb1")),
        *({**CONSTANT, "selection": rule, "fpu_value": 0.0} for rule in ("puct", "alphazero", "p_ucb", "ucb1")),
        {**HIDDEN, **CONSTANT, "fpu_value": -0.5},
        {**HIDDEN, "normalise": "tree", "noise": 0.25, "solve": False},
        {**SOFTMAX, "leaves_per_tree": 4, "hide_outcome": True},
        {**BONUS, "bonus_terms": ("early_depth",), "widening": 1.0, "transpositions": True},
        {**BONUS, "whole_tree": True, "leaves_per_tree": 2},
        {"unvisited_value": "prior", "critic_weight": 1.0, "normalise": "siblings", "widening": 1.0},
        {"unvisited_value": "infinite"},
        {"backup": "minimax", "transpositions": True, "hide_outcome": True, "leaves_per_tree": 8, "widening": 0.5},
    ],
)
def test_what_goes_together_is_taken(options: dict[str, Any]) -> None:
    settings = flat_settings(**options)
    assert {name: getattr(flat(settings), name) for name in options} == options


# ---- what the kernels read ------------------------------------------------------------------------------------------


def test_the_kernels_read_each_setting_as_it_was_set() -> None:
    options: dict[str, Any] = {
        "exploration": 0.5,
        "exploration_base": 7.0,
        "fpu_value": -0.125,
        "critic_weight": 0.375,
        "widening": 3.0,
        "widening_power": 0.625,
        "random_ties": True,
        "visits_only": True,
        "virtual_loss": 2.0,
        "discount": 0.75,
        "solve": False,
    }
    [record] = settings_record(
        flat_settings(**ALPHAZERO, unvisited_value="constant", **options), zero_sum=False, players=1
    )
    assert {name: record[name] for name in options} == options
    [record] = settings_record(flat_settings(**BONUS, exploitation=0.25, exploration=0.5), zero_sum=False, players=1)
    assert (record["exploitation"], record["exploration"]) == (0.25, 0.5)
    gumbel = {"value_scale": 0.25, "maxvisit_init": 33.0, "rescale_values": False}
    [record] = settings_record(flat_settings(**GUMBEL, **gumbel), zero_sum=False, players=1)
    assert {name: record[name] for name in gumbel} == gumbel
    [usual] = settings_record(SearchSettings(), zero_sum=False, players=1)
    assert (usual["solve"], usual["rescale_values"], usual["random_ties"], usual["visits_only"]) == (1, 1, 0, 0)


def test_choices_become_the_codes_of_their_names() -> None:
    def read(name: str, **options: Any) -> int:
        return int(settings_record(flat_settings(**options), zero_sum=False, players=1)[name][0])

    for rule, code in SELECTION_CODES.items():
        assert read("selection", selection=rule, solve=False) == code
    for first, code in FIRST_PLAY_CODES.items():
        assert read("first_play", unvisited_value=first, fpu_value=0.2 * (first == "reduced")) == code
    for backup, code in BACKUP_CODES.items():
        assert read("backup", backup=backup) == code
    assert [read("normalise", normalise=name) for name in ("no", "tree", "siblings")] == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "plain"),
    [
        ({}, True),
        ({"selection": "ucb1", "unvisited_value": "zero"}, True),
        ({"selection": "uct"}, True),
        ({"selection": "alphazero"}, False),
        ({"unvisited_value": "infinite"}, False),
        ({"normalise": "tree"}, False),
        ({"critic_weight": 0.5}, False),
        ({"widening": 1.0}, False),
        ({"critic_weight": 0.5, "widening": 0.5}, False),
        ({"random_ties": True}, False),
        ({"visits_only": True}, False),
    ],
)
def test_the_short_cut_is_for_the_plain_rules_alone(options: dict[str, Any], plain: bool) -> None:
    assert bool(settings_record(flat_settings(**options), zero_sum=False, players=1)["plain"][0]) == plain


@pytest.mark.parametrize(
    ("zero_sum", "players", "options", "signs", "proofs"),
    [
        (True, 2, {}, True, True),
        (True, 2, {"solve": False}, True, False),
        (True, 2, {"hide_outcome": True}, True, False),
        (False, 2, {}, False, False),
        (True, 1, {}, False, False),
        (True, 3, {}, False, False),
    ],
)
def test_proofs_are_of_two_opposed_players_whose_outcome_is_seen(
    zero_sum: bool, players: int, options: dict[str, Any], signs: bool, proofs: bool
) -> None:
    [record] = settings_record(flat_settings(**options), zero_sum=zero_sum, players=players)
    assert (bool(record["zero_sum"]), bool(record["proofs"])) == (signs, proofs)


# ---- numbers from outside -------------------------------------------------------------------------------------------


class Duel(Simulator[str]):
    """Player 0 moves, player 1 answers, and the pay is given; a third step is a toss of ``chances``."""

    players, zero_sum = 2, True

    def __init__(
        self, pay: Any = (1.0, -1.0), before: Any = (0.0, 0.0), chances: Any = (("h", 0.5), ("t", 0.5))
    ) -> None:
        self.pay, self.before, self.chances = pay, before, chances

    def reset(self, seed: int, options: Any = None) -> str:
        return ""

    def current_player(self, state: str) -> int:
        return TERMINAL if len(state) == 2 else CHANCE if state == "c" else len(state)

    def observation(self, state: str, player: int = 0) -> str:
        return state or "-"

    def legal_actions(self, state: str) -> list[str]:
        return ["a", "b", "c"]

    def chance_outcomes(self, state: str) -> Any:
        return list(self.chances)

    def step(self, state: str, action: str) -> str:
        return state + action

    def rewards(self, state: str) -> Any:
        return self.pay if len(state) == 2 else self.before


SEEN = StepRules(one_number=True, zero_sum=True, hidden=False, proofs=False)


@pytest.mark.parametrize(
    ("off", "refused"), [(0.0, False), (1e-6, False), (-1e-6, False), (1.1e-6, True), (-1.1e-6, True)]
)
def test_pays_of_opposed_players_add_up_to_zero_within_a_millionth(off: float, refused: bool) -> None:
    game = Duel((0.0, off))
    if refused:
        with pytest.raises(Refused, match="says that it is zero-sum, and pays"):
            stepped(game, "a", "b", 1, SEEN)
    else:
        assert stepped(game, "a", "b", 1, SEEN) == ("ab", TERMINAL, ENDED | VALUED, off)
    assert stepped(game, "a", "b", 1, SEEN._replace(zero_sum=False)).reward == off


@pytest.mark.parametrize(
    ("pay", "before", "words"),
    [
        ((1.0, -1.0), (0.0, 0.0), ""),
        ((0.0, 0.0), (0.0, 0.0), ""),
        ((-1.0, 1.0), (0.0, 0.0), ""),
        ((0.5, -0.5), (0.0, 0.0), "pays (0.5, -0.5) in the end; set solve=False"),
        ((1.0, -1.0), (1.0, -1.0), "pays (1.0, -1.0) before the end; set solve=False"),
        ((1.0, -1.0), (-1.0, 1.0), "pays (-1.0, 1.0) before the end; set solve=False"),
    ],
)
def test_proofs_need_wins_draws_and_losses_at_the_end_alone(pay: Any, before: Any, words: str) -> None:
    game, rules = Duel(pay, before), SEEN._replace(proofs=True)
    steps = [("", "a", 0), ("a", "b", 1)]
    if words:
        with pytest.raises(Refused, match=re.escape(words)):
            [stepped(game, *step, rules) for step in steps]
    else:
        assert [stepped(game, *step, rules).reward for step in steps] == [0.0, pay[1]]
    assert [stepped(game, *step, SEEN).reward for step in steps] == [before[0], pay[1]]


def test_a_step_tells_who_moves_and_what_the_tree_keeps() -> None:
    game = Duel((1.0, -1.0), (0.25, -0.25))
    assert stepped(game, "", "a", 0, SEEN) == ("a", 1, 0, 0.25)
    assert stepped(game, "", "a", 1, SEEN) == ("a", 1, 0, -0.25)
    assert stepped(game, "", "c", 0, SEEN) == ("c", CHANCE, OUTCOMES, 0.25)
    assert stepped(game, "a", "b", 0, SEEN._replace(one_number=False)) == ("ab", TERMINAL, ENDED | VALUED, (1.0, -1.0))
    assert stepped(game, "a", "b", 0, SEEN._replace(hidden=True)) == ("ab", TERMINAL, ENDED, 0.0)
    unseen = SEEN._replace(one_number=False, hidden=True)
    assert stepped(game, "", "a", 0, unseen) == ("a", 1, 0, [0.0, 0.0])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_reward_may_be_as_large_as_single_precision_holds(sign: float) -> None:
    assert checked_rewards(Duel((sign * LARGEST, 0.0)), "ab") == (sign * LARGEST, 0.0)
    for wrong in (np.nextafter(LARGEST, INF), INF, np.nan):
        with pytest.raises(ValueError, match=r"return a finite number of at most 3\.4e38 for each of 2 players"):
            checked_rewards(Duel((0.0, sign * wrong)), "ab")
    assert in_range(sign * LARGEST)
    assert in_range(np.array([0.0, sign * LARGEST]))
    assert not in_range(np.array([0.0, sign * np.nextafter(LARGEST, INF)]))


@pytest.mark.parametrize(
    ("shares", "refused"),
    [
        ((0.5, 0.5), False),
        ((1.0, 0.0), False),
        ((0.5, 0.5 + 0.9e-6), False),
        ((0.5, 0.5 - 0.9e-6), False),
        ((0.5, 0.5 + 1.1e-6), True),
        ((0.5, 0.5 - 1.1e-6), True),
        ((1.5, -0.5), True),
        ((0.5, np.nan), True),
        ((), True),
    ],
)
def test_probabilities_of_chance_sum_to_one_within_a_millionth(shares: tuple[float, ...], refused: bool) -> None:
    game = Duel(chances=tuple(zip("htx", shares, strict=False)))
    if refused:
        with pytest.raises(ValueError, match=r"chance_outcomes gave probabilities .*; expected them to sum to 1"):
            checked_outcomes(game, "c")
    else:
        names, probabilities = checked_outcomes(game, "c")
        assert (names, probabilities.tolist()) == (["h", "t"], list(shares))


@pytest.mark.parametrize(
    ("first", "off", "refused"),
    [
        (0.5, 0.9e-6, False),
        (0.5, -0.9e-6, False),
        (0.5, 1.1e-6, True),
        (0.5, -1.1e-6, True),
        (-100.0, 90e-6, False),  # of large values a millionth of them
        (-100.0, 110e-6, True),
        (100.0, -110e-6, True),
    ],
)
def test_values_of_opposed_players_add_up_to_zero_within_a_millionth(first: float, off: float, refused: bool) -> None:
    settings, judge = SearchSettings(simulations=2), ValueFunction(lambda *_: (first, -first + off))
    if refused:
        with pytest.raises(SearchStopped, match=r"2 of 2 leaves failed.* in a zero-sum game they add up to zero"):
            search(Duel(), [Root("")], None, judge, settings)
    else:
        [tree] = search(Duel(), [Root("")], None, judge, settings)
        assert tree.visits(0) == 2
        assert tree.returns(0).tolist() == [first, -first]


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomRollout(0.0, 1),
        lambda: RandomRollout(1.0, np.int64(1)),  # type: ignore[arg-type]
        lambda: RandomRollout(0),
        lambda: PolicyRollout(FunctionPolicy(), temperature=0.0),
        lambda: Repeated(RandomRollout(), 1),
        lambda: Mixed(RandomRollout(), RandomRollout(), 0.0),
        lambda: Mixed(RandomRollout(), RandomRollout(), 1.0),
    ],
)
def test_an_evaluator_takes_its_limits(make: Any) -> None:
    make()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RandomRollout(above(1.0)), "discount is 1.0000000000000002; expected a number from 0 to 1"),
        (lambda: RandomRollout(-LEAST), "discount is -5e-324; expected a number from 0 to 1"),
        (lambda: RandomRollout("half"), "discount is 'half'; expected a number from 0 to 1"),  # type: ignore[arg-type]
        (lambda: RandomRollout(1.0, 2.5), "max_steps is 2.5; expected a whole number, at least 1"),  # type: ignore[arg-type]
        (lambda: RandomRollout(1.0, 0), "max_steps is 0; expected a whole number, at least 1"),
        (lambda: PolicyRollout(FunctionPolicy(), max_steps=0), "max_steps is 0; expected a whole number, at least 1"),
        (lambda: PolicyRollout(FunctionPolicy(), temperature=-LEAST), "temperature=-5e-324; take 0 for the likeliest"),
        (lambda: Repeated(RandomRollout(), 0), "times is 0; expected a whole number, at least 1"),
        (lambda: Mixed(RandomRollout(), RandomRollout(), -LEAST), "alpha is -5e-324; expected 0"),
        (lambda: Mixed(RandomRollout(), RandomRollout(), above(1.0)), "alpha is 1.0000000000000002; expected 0"),
    ],
)
def test_an_evaluator_refuses_what_lies_just_beyond(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        make()


# ---- sizes ----------------------------------------------------------------------------------------------------------


def test_a_node_holds_so_many_children_and_not_one_more() -> None:
    def add(count: int) -> Tree:
        tree = Tree(None, None, ())
        tree.add_children(
            0, Children(["a"] * count, [None] * count, np.zeros(count), [0.0] * count, [0.0] * count, [0] * count)
        )
        return tree

    assert len(add(MAX_CHILDREN).children(0)) == MAX_CHILDREN == 65_535
    with pytest.raises(ValueError, match="65536 actions at one node; a node holds at most 65535"):
        add(MAX_CHILDREN + 1)


def test_a_search_goes_through_as_many_actions_as_a_node_holds() -> None:
    flat = ValueFunction(lambda *_: 0.0)
    [tree] = search(Many(MAX_CHILDREN), [Root(-1)], None, flat, SearchSettings(simulations=2))
    assert len(tree.children(0)) == MAX_CHILDREN
    with pytest.raises(SearchStopped, match="Many has 65536 actions in one state, and a node holds at most 65535"):
        search(Many(MAX_CHILDREN + 1), [Root(-1)], None, flat, SearchSettings(simulations=2))


def test_a_tree_has_room_for_as_many_players_as_it_names() -> None:
    flat = ValueFunction(lambda simulator, *_: [0.5] * simulator.players)
    [tree] = search(Many(2, MAX_PLAYERS), [Root(-1)], None, flat, SearchSettings(simulations=2))
    assert tree.returns(0).shape == (MAX_PLAYERS,) == (127,)
    with pytest.raises(ValueError, match=r"Many\.players is 128; a tree holds at most 127 players"):
        search(Many(2, MAX_PLAYERS + 1), [Root(-1)], None, flat, SearchSettings(simulations=2))


def test_a_call_is_waited_for_as_long_as_a_thread_can_wait() -> None:
    assert SearchSettings(call_seconds=1e9).call_seconds == 1e9
    with pytest.raises(ValueError, match=r"call_seconds is 2000000000\.0; expected at most 1e9"):
        SearchSettings(call_seconds=2e9)


def test_to_stop_by_visits_and_play_by_values_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="stop_decided=True stops once the most visited action cannot be caught up"):
        SearchSettings(stop_decided=True, final="value")
