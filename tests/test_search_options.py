"""Single options of the search, each against a hand-made case."""

import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from flat_settings import flat_settings
from rich.console import Console
from table_game import TableGame

from branchwise.envs.play.policy import Proposal
from branchwise.envs.play.transcript import Transcript
from branchwise.envs.simulator import CHANCE, TERMINAL, Simulator
from branchwise.search.answers import action, principal_variation
from branchwise.search.engine import Root, SearchSettings, SearchStopped, search
from branchwise.search.evaluation import Leaf, RankingCritic, ValueFunction
from branchwise.search.progress import SearchBar
from branchwise.search.store import load_trees, save_trees
from branchwise.search.trees.nodes import EXPANDED
from branchwise.search.trees.tree import Tree

WIDTH, DEPTH = 3, 6


class Place(NamedTuple):
    moves: tuple[int, ...]


def number(state: Place, salt: int) -> float:
    value = salt
    for move in state.moves:
        value = (value * 31 + move + 7) * 2654435761 % 2**32
    return (value ^ (value >> 13)) % 10007 / 10007


class Bush(Simulator[Place]):
    """Three actions everywhere to depth 6; two players in turns with opposed interests where ``players`` is 2."""

    def __init__(self, players: int = 1) -> None:
        self.players, self.zero_sum = players, players == 2

    def reset(self, seed: int, options: Any = None) -> Place:
        return Place(())

    def current_player(self, state: Place) -> int:
        return TERMINAL if len(state.moves) >= DEPTH else len(state.moves) % self.players

    def observation(self, state: Place, player: int = 0) -> str:
        return " ".join(map(str, state.moves)) or "start"

    def legal_actions(self, state: Place) -> Sequence[str] | None:
        return [str(i) for i in range(WIDTH)]

    def step(self, state: Place, action: str) -> Place:
        return Place((*state.moves, int(action)))

    def rewards(self, state: Place) -> tuple[float, ...]:
        if len(state.moves) < DEPTH:
            return (0.0,) * self.players
        pay = tuple(float(round(number(state, player))) for player in range(self.players))
        return (pay[0], -pay[0]) if self.zero_sum else pay


class Typing(Bush):
    """The same, where any text may be an answer."""

    def legal_actions(self, state: Place) -> None:
        return None

    def step(self, state: Place, action: str) -> Place:
        return Place((*state.moves, len(action)))


def worth(state: Place, players: int, zero_sum: bool) -> list[float]:
    values = [number(state, 100 + player) for player in range(players)]
    return [values[0], -values[0]] if zero_sum else values


class Priors:
    calls = 0

    def score(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        return [np.log([0.2, 0.5, 0.3]) for _ in transcripts]

    def propose(
        self, transcripts: Sequence[Transcript], n: int, rngs: Sequence[np.random.Generator]
    ) -> list[list[Proposal]]:
        words = ["alpha", "alpine", "beta", "alpha ", "gamma ray", "gamma rays"]
        return [[Proposal(word, -1.0) for word in words[:n]] for _ in transcripts]


def grown(simulator: Simulator[Any], policy: Any = None, evaluator: Any = None, seed: int = 0, **options: Any) -> Tree:
    hooks = {name: options.pop(name) for name in ("critic", "bonus", "same") if name in options}
    judge = evaluator or ValueFunction(lambda sim, state, _: worth(state, sim.players, sim.zero_sum))
    settings = flat_settings(**{"simulations": 80, "exploration": 1.0, **options})
    rng = np.random.default_rng(seed)
    [tree] = search(simulator, [Root(simulator.reset(0))], policy, judge, settings, [rng], **hooks)
    return tree


# ---- proposals --------------------------------------------------------------------------------------------------


def actions(tree: Tree, node: int = 0) -> list[str]:
    return [tree.actions[child] for child in tree.children(node)]


def test_fewer_proposals_deeper_down() -> None:
    tree = grown(Typing(), Priors(), proposals_by_depth=(5, 2), proposals=1, simulations=40)
    child = tree.best_child()
    below = tree.best_child(child)
    assert [len(tree.children(node)) for node in (0, child, below)] == [4, 2, 1]  # two of the five say the same


def test_proposals_are_merged_by_edit_distance_or_as_the_caller_says() -> None:
    assert actions(grown(Typing(), Priors(), proposals=6)) == ["alpha", "alpine", "beta", "gamma ray", "gamma rays"]
    near = grown(Typing(), Priors(), proposals=6, merge="edit_distance", merge_distance=0.2)
    assert actions(near) == ["alpha", "alpine", "beta", "gamma ray"]
    assert near.counters["merged_proposals"] >= 2
    assert near.prior(near.children()[3]) == pytest.approx(0.1 / 4 + 0.9 * 2 / 6)
    asked = grown(Typing(), Priors(), proposals=6, same=lambda one, other: one[0] == other[0])
    assert actions(asked) == ["alpha", "beta", "gamma ray"]


def test_widening_admits_children_with_the_visits() -> None:
    for simulations, tried in ((2, 1), (4, 2), (6, 3)):
        tree = grown(Bush(), Priors(), widening=1.0, widening_power=0.5, simulations=simulations, exploration=10.0)
        assert sum(tree.visits(child) > 0 for child in tree.children()) == tried
        assert actions(tree) == ["1", "2", "0"]  # by prior


@pytest.mark.parametrize("widening", [0.5, 1.0])
def test_after_one_visit_the_likeliest_is_alone_whatever_a_critic_says(widening: float) -> None:
    critic = RankingCritic(lambda transcripts, candidates: [[2, 1, 0] for _ in transcripts])
    options: dict[str, Any] = {"widening": widening, "critic": critic, "unvisited_value": "prior", "exploration": 0.0}
    tree = grown(Bush(), Priors(), simulations=2, **options)
    assert [tree.visits(child) for child in tree.children()] == [1, 0, 0]
    assert tree.nodes["hint"][list(tree.children())].argmax() > 0


# ---- root, critic, bonus, nodes ---------------------------------------------------------------------------------


def test_noise_at_the_root_alone_and_another_with_every_seed() -> None:
    plain, one, other = (
        grown(Bush(), Priors(), seed=seed, noise=noise, uniform_prior=0.0)
        for seed, noise in ((1, 0.0), (1, 0.25), (2, 0.25))
    )
    priors = [np.array([tree.prior(child) for child in tree.children()]) for tree in (plain, one, other)]
    assert priors[0] == pytest.approx([0.2, 0.5, 0.3])
    for noisy in priors[1:]:
        assert noisy.sum() == pytest.approx(1.0)
        assert (noisy >= 0.75 * priors[0] - 1e-6).all()
        assert not np.allclose(noisy, priors[0])
    assert not np.allclose(priors[1], priors[2])
    child = one.best_child()
    assert [one.prior(node) for node in one.children(child)] == pytest.approx([0.2, 0.5, 0.3])


class LikesTwo:
    def values(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        return [np.array([float(name == "2") for name in names]) for names in candidates]


def test_a_critic_leads_first_play_and_mixes_into_the_choice() -> None:
    flat = ValueFunction(lambda *_: 0.5)
    first = grown(Bush(), None, flat, critic=LikesTwo(), unvisited_value="prior", simulations=2, exploration=0.0)
    assert [first.visits(child) for child in first.children()] == [0, 0, 1]
    mixed = grown(Bush(), None, flat, critic=LikesTwo(), critic_weight=0.5, simulations=30, exploration=0.1)
    assert mixed.best_action() == "2"
    expanded = sum(mixed.has(node, EXPANDED) for node in range(len(mixed)))
    assert mixed.counters["model_calls"] == 2 * expanded  # the critic and the evaluator; there is no policy


def test_agent_q_mixes_a_ranking_into_its_ucb() -> None:
    """Q = α · Q_search + (1 − α) · Q_rank at every choice (Eq. 7 and 10), an unvisited action's Q_search being 0: by
    hand for the root, whose leaves are worth what their number says."""
    alpha, exploration, worth_of = 0.6, 0.8, {"0": 0.2, "1": 0.9, "2": 0.4}
    judge = ValueFunction(lambda _, state, __: worth_of[str(state.moves[0])] if state.moves else 0.0)
    critic = RankingCritic(lambda transcripts, candidates: [[2, 0, 1] for _ in transcripts])
    options = {"selection": "ucb1", "unvisited_value": "zero", "exploration": exploration, "solve": False}
    tree = grown(Bush(), None, judge, critic=critic, critic_weight=1 - alpha, simulations=40, max_depth=1, **options)
    ranked, visits = {"0": 0.5, "1": 0.0, "2": 1.0}, dict.fromkeys("012", 0)
    for parent in range(1, 40):
        explore = {a: exploration * np.sqrt(np.log(parent) / (1 + n)) for a, n in visits.items()}
        found = {a: worth_of[a] if n else 0.0 for a, n in visits.items()}
        score = {a: alpha * found[a] + (1 - alpha) * ranked[a] + explore[a] for a in visits}
        visits[max(score, key=lambda a: score[a])] += 1
    assert {tree.actions[child]: tree.visits(child) for child in tree.children()} == visits


def test_a_ranking_that_leaves_an_action_out_costs_its_leaf() -> None:
    critic = RankingCritic(lambda transcripts, candidates: [[0, 1] for _ in transcripts])
    options: dict[str, Any] = {"unvisited_value": "prior", "simulations": 5}
    with pytest.raises(SearchStopped, match=r"5 of 5 leaves failed.*critic\.values failed") as stopped:
        grown(Bush(), None, None, critic=critic, **options)
    assert stopped.value.trees[0].counters["failed_leaves"] == 5
    assert RankingCritic(lambda *_: [[0]]).values([()], [("only",)])[0].tolist() == [1.0]


def test_a_bonus_is_added_and_asked_anew() -> None:
    def shy(tree: Tree, node: int) -> float:
        return -5.0 if tree.actions[node] == "1" and tree.visits(node) else 0.0

    tree = grown(Bush(), None, ValueFunction(lambda *_: 0.5), bonus=shy, selection="uct_bonus", simulations=40)
    assert [tree.visits(child) for child in tree.children()][1] == 1


def test_a_bonus_is_asked_of_actions_before_they_are_tried() -> None:
    flat = ValueFunction(lambda *_: 0.5)
    options: dict[str, Any] = {"selection": "uct_bonus", "simulations": 1}
    tree = grown(Bush(), None, flat, bonus=lambda tree, node: float(tree.actions[node]), **options)
    assert tree.nodes["hint"][list(tree.children())].tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(SearchStopped, match=r"1 of 1 leaves failed.*because bonus failed: ZeroDivisionError"):
        grown(Bush(), None, flat, bonus=lambda tree, node: 1 / float(tree.actions[node]), **options)


def test_a_bonus_that_fails_costs_its_leaf_once() -> None:
    def bonus(tree: Tree, node: int) -> float:
        return math.nan if tree.visits(node) and tree.visits(0) % 3 == 0 else 0.0

    options: dict[str, Any] = {"bonus": bonus, "selection": "uct_bonus", "simulations": 24, "max_failed_share": 0.5}
    tree = grown(Bush(), None, ValueFunction(lambda *_: 0.5), **options)
    assert tree.counters["failed_leaves"] == 8
    with pytest.raises(SearchStopped, match=r"7 of 21 leaves failed.*because bonus failed"):
        grown(Bush(), None, ValueFunction(lambda *_: 0.5), **{**options, "max_failed_share": 0.3})


def test_softmax_draws_nodes_by_value_and_spreads_a_batch() -> None:
    def judge(simulator: Any, state: Place, transcript: Any) -> float:
        return 1.0 if state.moves[:1] == (2,) else 0.0

    tree = grown(Bush(), None, ValueFunction(judge), selection="softmax", temperature=0.05, simulations=60)
    assert tree.best_action() == "2"
    assert tree.nodes["visits"][0] == 60
    children = tree.children()
    assert tree.visits(0) == 1 + sum(tree.visits(child) for child in children)
    spread = grown(Bush(), None, None, selection="softmax", leaves_per_tree=4, apart=0.5, simulations=40)
    assert not spread.nodes["pending"].any()


@pytest.mark.parametrize("solve", [True, False])
@pytest.mark.parametrize(
    "options",
    [{"selection": "softmax"}, {"selection": "uct_bonus", "whole_tree": True, "bonus_terms": ("early_depth",)}],
)
def test_a_search_among_nodes_of_which_none_can_grow_says_that_it_is_exhausted(
    options: dict[str, Any], solve: bool
) -> None:
    tree = grown(Bush(), None, ValueFunction(lambda *_: 0.5), max_depth=1, simulations=40, solve=solve, **options)
    assert tree.visits(0) == len(tree) < 40
    assert tree.stopped == "exhausted"


@pytest.mark.parametrize(
    "options",
    [{"selection": "softmax"}, {"selection": "uct_bonus", "whole_tree": True, "bonus_terms": ("early_depth",)}],
)
def test_a_search_among_nodes_of_which_none_can_grow_as_a_model_failed_says_so(options: dict[str, Any]) -> None:
    def judge(simulator: Any, state: Place, transcript: Any) -> float:
        return math.nan if state.moves == (1,) else 0.5

    tree = grown(Bush(), None, ValueFunction(judge), max_depth=1, simulations=40, **options)
    assert tree.counters["failed_leaves"] == 1
    assert tree.stopped == "failed"


def test_gumbel_plays_the_best_of_the_most_visited() -> None:
    tree = grown(Bush(), Priors(), selection="gumbel", solve=False, gumbel_scale=0.0, considered=3)
    assert action(tree, "gumbel") in actions(tree)
    most = max(tree.visits(child) for child in tree.children())
    assert tree.visits(next(c for c in tree.children() if tree.actions[c] == action(tree, "gumbel"))) == most


@pytest.mark.parametrize("leaves", [1, 4, 16])
def test_gumbel_is_the_same_where_all_values_are_shifted(leaves: int) -> None:
    """Completed Q-values are scaled between their least and their largest, so a leaf that is still under way, of which
    nothing is known, must not count as a zero among them."""

    def judged(shift: float) -> ValueFunction:  # sixteenths, so that sums are exact
        return ValueFunction(lambda simulator, state, _: shift + round(16 * number(state, 100)) / 16)

    options: dict[str, Any] = {"selection": "gumbel", "solve": False, "max_depth": DEPTH - 1, "leaves_per_tree": leaves}
    for seed in range(10):
        plain, shifted = (grown(Bush(), Priors(), judged(shift), seed=seed, **options) for shift in (0.0, -64.0))
        assert plain.actions == shifted.actions
        assert plain.nodes["visits"].tolist() == shifted.nodes["visits"].tolist()
        np.testing.assert_allclose(plain.policy_target()[1], shifted.policy_target()[1], rtol=1e-9)
        assert plain.best_action() == shifted.best_action()


def test_the_answer_is_the_one_of_the_search_that_was_set(tmp_path: Path) -> None:
    """Whoever asks, and after a file too; ``visits`` still says what was visited most, which after Gumbel is often a
    tie of several."""
    flat = ValueFunction(lambda *_: 0.5)
    trees = [
        grown(Bush(), Priors(), flat, seed=seed, selection="gumbel", solve=False, simulations=4, considered=3)
        for seed in range(12)
    ]
    for tree in trees:
        tree.task = {"seed": 0}
    save_trees(tmp_path / "trees.parquet", trees)
    for tree, again in zip(trees, load_trees(tmp_path / "trees.parquet"), strict=True):
        answer = action(tree, "gumbel")
        assert answer == tree.best_action() == action(tree) == again.best_action()
        assert answer == tree.actions[principal_variation(tree)[0]]
    assert any(tree.best_action() != tree.best_action("visits") for tree in trees)
    for seed in range(20):
        tree = grown(Bush(), Priors(), seed=seed, final="value", solve=False, simulations=12, exploration=5.0)
        assert tree.best_action() == tree.best_action("value") == action(tree)


class Coin(Simulator[str]):
    """Take 0.4, or toss a coin that shows heads three times in four for 0 and else pays 1."""

    def reset(self, seed: int, options: Any = None) -> str:
        return ""

    def current_player(self, state: str) -> int:
        return {"": 0, "toss": CHANCE}.get(state, TERMINAL)

    def observation(self, state: str, player: int = 0) -> str:
        return state

    def legal_actions(self, state: str) -> list[str]:
        return ["take", "toss"]

    def chance_outcomes(self, state: str) -> list[tuple[str, float]]:
        return [("heads", 0.75), ("tails", 0.25)]

    def step(self, state: str, action: str) -> str:
        return action

    def rewards(self, state: str) -> tuple[float, ...]:
        return ({"take": 0.4, "tails": 1.0}.get(state, 0.0),)


def test_chance_counts_by_probability() -> None:
    tree = grown(Coin(), None, selection="ucb1", simulations=4000, exploration=2.0)
    toss = tree.children()[1]
    assert tree.value(toss) == pytest.approx(0.25, abs=0.05)
    heads, tails = tree.children(toss)
    assert tree.visits(toss) == tree.visits(heads) + tree.visits(tails)
    assert tree.visits(heads) / tree.visits(toss) == pytest.approx(0.75, abs=0.05)
    assert tree.best_action("value") == "take"


def test_random_ties_differ_by_seed_and_not_within_one() -> None:
    def shape(seed: int) -> bytes:
        flat = ValueFunction(lambda *_: 0.0)
        options = {"random_ties": True, "unvisited_value": "zero", "exploration": 0.0}
        return grown(Bush(), None, flat, seed, **options).nodes["visits"].tobytes()

    assert shape(1) == shape(1)
    assert len({shape(seed) for seed in range(5)}) > 1


def test_the_bar_says_what_a_reader_wants_to_know() -> None:
    bar = SearchBar()
    simulator = Bush()
    bar.trees = [grown(simulator, Priors())]
    line = bar.line(80, len(bar.trees[0]), 160)
    assert line.startswith("80 of 80 simulations · ")
    assert "best value" in line
    assert "160 model calls · 0 invalid proposals" in line


def test_without_a_terminal_a_line_now_and_then_and_one_at_the_end() -> None:
    said = io.StringIO()
    with SearchBar(Console(file=said, width=80), seconds=1000.0) as bar:
        search(Bush(), [Root(Bush().reset(0))] * 2, None, Flat(), SearchSettings(simulations=40), progress=bar)
    first, last = said.getvalue().splitlines()
    assert first.startswith("2 of 80 simulations · ")
    assert last.startswith("80 of 80 simulations · ")


@pytest.mark.parametrize("width", [80, 160])
def test_on_a_terminal_all_words_are_seen(width: int) -> None:
    said = io.StringIO()
    with SearchBar(Console(file=said, width=width, force_terminal=True)) as bar:
        search(Bush(), [Root(Bush().reset(0))], None, Flat(), SearchSettings(simulations=40), progress=bar)
    shown = " ".join(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", " ", said.getvalue()).split())
    for words in ("40 simulations", "nodes", "best value 0.5", "model calls", "0 invalid proposals", "0:00:0"):
        assert words in shown, words
    assert "…" not in shown


class Flat:
    calls = 0

    def evaluate(self, leaves: Sequence[Leaf]) -> np.ndarray:
        return np.full((len(leaves), 1), 0.5)


def test_terminal_leaves_of_a_hidden_game_are_judged_for_each_player() -> None:
    class Judge:
        calls = 0

        def evaluate(self, leaves: Sequence[Leaf]) -> np.ndarray:
            return np.array([[0.25, -0.25] for _ in leaves])

    tree = grown(Bush(2), None, Judge(), hide_outcome=True, solve=False, simulations=700, selection="uct")
    assert tree.value(0) == pytest.approx(0.25)
    assert tree.returns(tree.best_child()) == pytest.approx([0.25, -0.25])


@pytest.mark.parametrize(
    ("early", "late"), [([0.25], [0.5]), ([0.25, -0.25], [0.5, -0.5]), ([0.25, 0.125, 0.75], [0.5, 1.0, 0.375])]
)
def test_a_hidden_end_is_worth_what_was_judged_whoever_led_there(early: list[float], late: list[float]) -> None:
    """The first player ends the game, or the last does."""
    players = len(early)
    nothing = [0.0] * players
    table = {
        "root": (0, {"stop": ("early", nothing), "on": ("middle", nothing)}),
        "middle": (players - 1, {"stop": ("late", nothing)}),
    }
    judged = {"early": early, "late": late}
    judge = ValueFunction(lambda _, state, __: judged.get(state[0], nothing))
    tree = grown(TableGame(table, players, players == 2), None, judge, hide_outcome=True, solve=False, simulations=12)
    stop, on = tree.children()
    [end] = tree.children(on)
    assert tree.returns(stop).tolist() == early
    assert tree.returns(end).tolist() == late
    assert tree.visits(stop) + tree.visits(end) > 8


class Coins(Simulator[str]):
    """Three coins to choose from, each as good as the others."""

    def reset(self, seed: int, options: Any = None) -> str:
        return ""

    def current_player(self, state: str) -> int:
        return (0, CHANCE, TERMINAL)[len(state)]

    def observation(self, state: str, player: int = 0) -> str:
        return state

    def legal_actions(self, state: str) -> list[str]:
        return ["a", "b", "c"]

    def chance_outcomes(self, state: str) -> list[tuple[str, float]]:
        return [("h", 0.5), ("t", 0.5)]

    def step(self, state: str, action: str) -> str:
        return state + action

    def rewards(self, state: str) -> tuple[float, ...]:
        return (0.0,)


@pytest.mark.parametrize("seed", range(8))
def test_a_coin_that_was_chosen_is_tossed_at_once(seed: int) -> None:
    """Ties are broken at random; the walk that gave a chance node its outcomes comes back to it all the same."""
    options = {"random_ties": True, "unvisited_value": "zero", "exploration": 0.0, "selection": "ucb1", "solve": False}
    tree = grown(Coins(), None, ValueFunction(lambda *_: 0.0), seed, simulations=2, **options)
    opened = [child for child in tree.children() if tree.has(child, EXPANDED)]
    assert [tree.visits(child) for child in opened] == [1]
