"""Training a critic on trees: rows, weights, hold-out by task, figures."""

import dataclasses
import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from branchwise.agents.critics import CriticEvaluator, ValueModel
from branchwise.agents.language_model import LanguageModel
from branchwise.agents.searching import SearchingAgent
from branchwise.agents.small_model import make_model, make_tokenizer
from branchwise.envs.games.kuhn_poker import KuhnPoker
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.play.playing import run_episodes
from branchwise.envs.play.task import TaskSource
from branchwise.envs.play.transcript import acted, observed
from branchwise.search.engine import Root, SearchSettings, search
from branchwise.search.evaluation import Leaf, RandomRollout
from branchwise.search.trees.children import Children
from branchwise.search.trees.nodes import ENDED, NODE
from branchwise.search.trees.tree import Tree
from branchwise.training.losses import value_loss
from branchwise.training.supervised import SupervisedSettings
from branchwise.training.value import (
    ValueRow,
    ValueSettings,
    area_under_curve,
    bounds,
    explained_variance,
    split_by_task,
    train_value_model,
    value_rows,
)

GAME = TicTacToe()
COLORS = ["red", "blue", "green", "white"]


def critic_of(**settings) -> ValueModel:
    tokenizer = make_tokenizer(["goal", "search[", "click[", *COLORS])
    model = make_model(tokenizer, width=32, layers=2, heads=2, max_tokens=64)
    return ValueModel(model.base_model, tokenizer, **settings).eval()


def matching_rows(tasks: int = 12) -> list[ValueRow]:
    """The value of clicking a colour is 0.9 where the goal names it, else 0.1."""
    return [
        ValueRow(
            (observed(f"goal {wanted} {number}"), acted(f"click[{clicked}]")),
            0.9 if wanted == clicked else 0.1,
            4,
            f"task {number}",
        )
        for number in range(tasks)
        for wanted in COLORS
        for clicked in COLORS
    ]


def test_a_critic_learns_what_an_action_is_worth_on_tasks_it_has_not_seen() -> None:
    critic = critic_of()
    settings = ValueSettings(
        holdout=0.2, descent=SupervisedSettings(learning_rate=5e-3, epochs=12, batch_size=32, log_every=100)
    )
    report = train_value_model(critic, matching_rows(40), settings, seed=0)
    assert (report.trained, report.held_out) == (32 * 16, 8 * 16)
    assert report.explained_variance > 0.8
    assert report.auc > 0.95
    assert report.error < 0.15
    assert not critic.training


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_a_fresh_critic_is_drawn_to_the_visit_weighted_mean(loss) -> None:
    """Rows of one transcript cannot all be met; the optimum is their weighted mean: (9 · 1 + 3 · 0)/12."""
    transcript = (observed("goal red"), acted("click[red]"))
    rows = [ValueRow(transcript, 1.0, 9), ValueRow(transcript, 0.0, 3)]
    critic = critic_of()
    settings = ValueSettings(
        loss=loss,
        holdout=0.0,
        descent=SupervisedSettings(learning_rate=1e-2, max_steps=200, batch_size=2, weight_decay=0.0),
    )
    report = train_value_model(critic, rows, settings, seed=0)
    assert critic.values([transcript])[0] == pytest.approx(0.75, abs=0.01)
    assert math.isnan(report.auc)


def test_visits_weigh_up_to_the_cap() -> None:
    logits, targets = torch.tensor([0.3, -0.2]), torch.tensor([1.0, 0.0])
    single = [value_loss(logits[i : i + 1], targets[i : i + 1], torch.ones(1), "cross_entropy") for i in range(2)]
    both = value_loss(logits, targets, torch.tensor([1.0, 3.0]), "cross_entropy")
    assert both.item() == pytest.approx((single[0].item() + 3 * single[1].item()) / 4)


def test_visits_above_the_cap_weigh_as_the_cap() -> None:
    """A fresh critic says ½: the squared errors of returns of 1 and 0.5 are ¼ and 0."""
    rows = [
        ValueRow((observed(f"goal {color}"),), q, visits) for color, q, visits in (("red", 1, 900), ("blue", 0.5, 3))
    ]
    for cap, expected in ((9, 9 / 4 / 12), (8, 8 / 4 / 11), (3, 1 / 8), (2, 1 / 8), (900, 900 / 4 / 903)):
        settings = ValueSettings("squared_error", cap, 0.0, SupervisedSettings(max_steps=1))
        (first,) = train_value_model(critic_of(), rows, settings, seed=0).history
        assert first["loss"] == pytest.approx(expected)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_the_first_loss_is_that_of_the_values_that_the_critic_gives(loss) -> None:
    """Rows of unlike lengths in one batch: padding is not read, and every row is from its first token on."""
    critic = critic_of(low=-1.0, high=3.0)
    torch.manual_seed(0)
    torch.nn.init.normal_(critic.head.weight)
    lengths, q, visits = (1, 4, 9), np.array([2.0, -1.0, 3.0]), np.array([1, 2, 5])
    transcripts = [(observed("goal " + "red " * length), acted("click[red]")) for length in lengths]
    rows = [ValueRow(*row) for row in zip(transcripts, q.tolist(), visits.tolist(), strict=True)]
    chances, y = (critic.values(transcripts) + 1) / 4, (q + 1) / 4
    losses = -(y * np.log(chances) + (1 - y) * np.log1p(-chances)) if loss == "cross_entropy" else (chances - y) ** 2
    settings = ValueSettings(loss=loss, holdout=0.0, descent=SupervisedSettings(max_steps=1))
    (first,) = train_value_model(critic, rows, settings, seed=0).history
    assert first["loss"] == pytest.approx((visits * losses).sum() / visits.sum(), rel=1e-4)
    assert first["tokens"] == 3


def test_the_report_is_of_the_rows_held_out() -> None:
    critic, rows = critic_of(), matching_rows(6)
    settings = ValueSettings(holdout=0.3, descent=SupervisedSettings(max_steps=30, learning_rate=1e-2))
    report = train_value_model(critic, rows, settings, seed=3)
    kept_out = [rows[index] for index in split_by_task(rows, 0.3, np.random.default_rng(3))[1]]
    q = np.array([row.q for row in kept_out])
    off = critic.values([row.transcript for row in kept_out]) - q
    assert (report.trained, report.held_out) == (4 * 16, len(kept_out)) == (64, 32)
    assert report.error == pytest.approx(math.sqrt(sum(off**2) / 32))
    assert report.explained_variance == pytest.approx(1 - off.var() / q.var())
    wins = [v > w for v in (off + q)[q > 0.5] for w in (off + q)[q < 0.5]]
    assert report.auc == pytest.approx(np.mean(wins))


def test_a_row_is_good_where_its_return_is_above_the_mean_and_not_at_it() -> None:
    rows = [ValueRow((observed(f"goal {text}"),), q, 1, text) for text, q in (("a", 1.0), ("b", 0.5), ("c", 0.0))]
    held_out = [rows[1], rows[0], rows[2]]
    held_out = [dataclasses.replace(row, task="held out") for row in held_out]
    critic = critic_of()
    torch.manual_seed(2)
    torch.nn.init.normal_(critic.head.weight)
    settings = ValueSettings(holdout=0.5, descent=SupervisedSettings(max_steps=1, learning_rate=1e-9))
    report = train_value_model(critic, [*held_out, dataclasses.replace(rows[0], task="of training")], settings, seed=0)
    assert report.held_out == 3
    best, *others = critic.values([rows[0].transcript, rows[1].transcript, rows[2].transcript])
    assert len({best, *others}) == 3
    assert report.auc == sum(best > other for other in others) / 2


def test_the_same_seed_gives_the_same_critic() -> None:
    rows, settings = matching_rows(), ValueSettings(descent=SupervisedSettings(max_steps=5))
    weights = []
    for _ in range(2):
        critic = critic_of()
        train_value_model(critic, rows, settings, seed=1)
        weights.append(critic.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(weights[0].values(), weights[1].values(), strict=True))


def test_rows_end_with_what_was_seen_or_with_the_action_that_ended_the_episode() -> None:
    tree = Tree(None, None, (observed("goal red"),), task={"goal": 3})
    actions = ["click[red]", "click[buy now]", "click[blue]"]
    flags = [0, ENDED, 0]
    tree.add_children(0, Children(actions, [None] * 3, np.full(3, 1 / 3), [-1.1] * 3, [0.25, 0.5, 0.0], flags))
    for node, page in ((1, "red shirt"), (2, "reward 0.5")):
        tree.remember_observation(node, page)
        tree._nodes[node]["visits"] = node
        tree._nodes[node]["value_sum"] = 0.5 * node
    seen, ended = value_rows(tree)  # neither the root nor the third child was visited
    assert [turn.text for turn in seen.transcript] == ["goal red", "click[red]", "red shirt"]
    assert (seen.q, seen.visits, seen.task) == (0.25, 1, '{"goal": 3}')  # of the state: the step's reward is left out
    assert [turn.text for turn in ended.transcript] == ["goal red", "click[buy now]"]
    assert (ended.q, ended.visits) == (0.5, 2)
    assert value_rows(tree, min_visits=2) == [ended]


def test_a_state_s_value_is_what_its_action_returned_without_the_reward_and_the_discount() -> None:
    tree = Tree(None, None, (observed("goal red"),), index=4, discount=0.5)
    tree.add_children(
        0, Children(["click[red]", "never"], [None] * 2, np.full(2, 0.5), [-1.1] * 2, [0.25, 0.0], [0, 0])
    )
    tree.remember_observation(1, "red shirt")
    for node, visits, total in ((0, 4, 2.0), (1, 2, 1.5)):
        tree._nodes[node]["visits"], tree._nodes[node]["value_sum"] = visits, total
    for least in (0, 1):  # unvisited nodes have no value to learn
        root, seen = value_rows(tree, min_visits=least)
        assert (root.q, root.visits, root.task) == (0.5, 4, "tree 4")
        assert (seen.q, seen.visits) == ((0.75 - 0.25) / 0.5, 2)
    assert [row.visits for row in value_rows(tree, min_visits=3)] == [4]


def test_a_task_is_the_same_in_whatever_order_its_entries_stand() -> None:
    found = []
    for task in ({"goal": 3, "seed": 1}, {"seed": 1, "goal": 3}):
        tree = Tree(None, None, (observed("goal red"),), task=task)
        tree._nodes[0]["visits"] = 1
        found += value_rows(tree)
    assert found[0].task == found[1].task


def test_a_critic_learns_from_trees_of_one_player_or_of_two_with_opposite_returns() -> None:
    with pytest.raises(
        ValueError, match="or of two whose returns are opposite, and tree 3 has 2 whose returns are not"
    ):
        value_rows(Tree(None, None, (), index=3, players=2))
    with pytest.raises(ValueError, match=r"or of two whose returns are opposite, and tree 3 has 3$"):
        value_rows(Tree(None, None, (), index=3, players=3))
    assert value_rows(Tree(None, None, (), index=3, players=1)) == []


def negamax(state: Any) -> float:
    """What the player to move gets."""
    if GAME.current_player(state) < 0:
        raise AssertionError("nobody is to move at an end")
    found = []
    for action in GAME.legal_actions(state):
        after, mover = GAME.step(state, action), GAME.current_player(state)
        over = GAME.current_player(after) < 0
        found.append(GAME.rewards(after)[mover] if over else -negamax(after))
    return max(found)


def position(moves: str) -> Any:
    state = GAME.reset(0)
    for move in moves:
        state = GAME.step(state, move)
    return state


def grown(moves: str, **options: Any) -> Tree:
    state = position(moves)
    root = Root(state, (observed(GAME.observation(state, GAME.current_player(state))),), {"moves": moves})
    settings = SearchSettings(selection="uct", simulations=400, **options)
    [tree] = search(GAME, [root], None, RandomRollout(), settings, np.random.default_rng(0))
    return tree


@pytest.mark.parametrize("moves", ["1593", "159"])
def test_in_a_zero_sum_game_a_row_is_what_its_player_saw_and_gets(moves: str) -> None:
    tree = grown(moves)
    assert tree.is_solved(0)
    rows = iter(value_rows(tree))
    movers = set()
    for node in range(len(tree)):
        if not tree.visits(node):
            continue
        row = next(rows)
        if tree.is_terminal(node):
            mover = tree.player(tree.parent(node))
            assert row.transcript[-1].is_agent, "what is seen at the end would show the outcome"
            assert row.q == GAME.rewards(tree.states[node])[mover]
        else:
            assert row.transcript[-1].text == GAME.observation(tree.states[node], tree.player(node))
            if tree.is_solved(node):
                assert row.q == negamax(tree.states[node])
                movers.add(tree.player(node))
    assert movers == {0, 1}
    assert next(rows, None) is None


def test_a_critic_of_a_solved_game_has_the_right_sign_for_both_players() -> None:
    """x wins with 3 where it is to move; o with 6 where x let it."""
    rows = [row for moves in ("1425", "14259", "14257") for row in value_rows(grown(moves, solve=False))]
    assert bounds(rows, zero_sum=True) == (-1.0, 1.0)
    assert len(rows) > 100
    texts = sorted({turn.text for row in rows for turn in row.transcript})
    tokenizer = make_tokenizer({word for text in texts for word in re.findall(r"[a-z]+", text.lower())})
    model = LanguageModel(
        make_model(tokenizer, width=32, layers=1, heads=2, seed=1), tokenizer, history="last_observation"
    )
    critic = ValueModel.from_language_model(model, low=-1.0, high=1.0)
    settings = ValueSettings(holdout=0.0, descent=SupervisedSettings(learning_rate=3e-3, epochs=24.0, batch_size=16))
    train_value_model(critic, rows, settings, seed=0)
    evaluator = CriticEvaluator(critic)
    for moves, mover in (("1425", 0), ("14259", 1), ("14257", 1)):
        state = position(moves)
        assert GAME.current_player(state) == mover
        assert negamax(state) == 1.0
        words = (observed(GAME.observation(state, mover)),)
        [values] = evaluator.evaluate([Leaf(GAME, state, words, False, np.random.default_rng(0), player=mover)])
        assert values[mover] > 0.3 > -0.3 > values[1 - mover]
        assert values.sum() == 0.0
    # And a search that reads no outcome finds the winning move by it.
    root = Root(position("1425"), (observed(GAME.observation(position("1425"), 0)),))
    hidden = SearchSettings(simulations=30, hide_outcome=True)
    [tree] = search(GAME, [root], None, evaluator, hidden, np.random.default_rng(0))
    values = {tree.actions[child]: tree.value(child) for child in tree.children(0)}
    assert tree.best_action() == "3"
    assert values["3"] > 0.3 > values["9"]


def test_information_sets_give_rows_of_who_moves_there_as_the_search_shows_them() -> None:
    game = KuhnPoker()
    state = game.reset(0)
    for _ in range(2):
        state = game.step(state, game.chance_outcomes(state)[0][0])
    settings = SearchSettings(simulations=60, information="single_observer", solve=False)
    words = (observed(game.observation(state, 0)),)
    [tree] = search(game, [Root(state, words)], None, RandomRollout(), settings, np.random.default_rng(0))
    rows = value_rows(tree)
    own = [node for node in range(len(tree)) if tree.visits(node) and tree.is_own_view(node)]
    assert len(rows) == len(own) > 1
    assert [row.q for row in rows] == [tree.value(node) for node in own]
    assert all(tree.player(node) == 0 for node in own)
    assert rows[0].transcript[0].text == game.information_state(state, 0)
    assert [row.transcript[0].text for row in rows[1:]] == [tree.actions[node] for node in own[1:]]
    seen: list[Leaf] = []

    class Watching(RandomRollout):
        def evaluate(self, leaves: Any) -> Any:
            seen.extend(leaves)
            return super().evaluate(leaves)

    search(game, [Root(state, words)], None, Watching(), settings, np.random.default_rng(0))
    assert {leaf.player for leaf in seen} == {0, 1}
    assert all(leaf.player == game.current_player(leaf.state) for leaf in seen)


def test_who_acts_with_a_critic_in_a_hidden_game_searches_information_sets() -> None:
    source = TaskSource("KuhnPoker", {"opponents": "random"})
    game = source.simulator("test")
    evaluator = CriticEvaluator(critic_of(low=-2.0, high=2.0))
    agent = SearchingAgent(None, evaluator, SearchSettings(simulations=8, hide_outcome=True))  # type: ignore[arg-type]
    episodes = run_episodes(game, source.tasks(game, "test", 6), agent, seed=0)
    assert all(episode.steps and not episode.invalid_actions for episode in episodes)
    assert evaluator.computed > 6


@pytest.mark.parametrize(
    ("returns", "zero_sum", "expected"),
    [
        ([0.2, 0.9], False, (0.0, 1.0)),
        ([-0.5, 7.0], False, (-0.5, 7.0)),
        ([-0.5, 0.25], True, (-0.5, 0.5)),
        ([3.0, -1.0], True, (-3.0, 3.0)),
        ([0.0], True, (-1.0, 1.0)),
        ([], False, (0.0, 1.0)),
    ],
)
def test_a_critic_s_bounds_reach_as_far_as_the_returns(returns: Any, zero_sum: bool, expected: Any) -> None:
    assert bounds([ValueRow((), q, 1) for q in returns], zero_sum) == expected


@pytest.mark.parametrize(
    ("tasks", "share", "held_out"),
    [(2, 0.0, 0), (2, 1e-9, 1), (2, 0.99, 1), (4, 0.25, 1), (4, 0.26, 2), (4, 0.99, 3), (1, 0.5, 0)],
)
def test_a_share_of_tasks_is_rounded_up_and_one_task_is_left_to_train_on(tasks, share, held_out) -> None:
    rows = [ValueRow((), 0.0, 1, f"task {i % tasks}") for i in range(3 * tasks)]
    trained, kept_out = split_by_task(rows, share, np.random.default_rng(0))
    assert len({rows[i].task for i in kept_out}) == held_out
    assert len(trained) == 3 * (tasks - held_out)


def test_whole_tasks_are_held_out() -> None:
    rows = matching_rows()
    trained, held_out = split_by_task(rows, 0.25, np.random.default_rng(0))
    assert sorted(trained + held_out) == list(range(len(rows)))
    assert not {rows[i].task for i in trained} & {rows[i].task for i in held_out}
    assert len({rows[i].task for i in held_out}) == 3
    assert split_by_task(rows[:16], 0.25, np.random.default_rng(0))[1] == []  # one task: all of it is for training


def test_figures_on_hand_computed_cases() -> None:
    q = np.array([0.0, 0.0, 1.0, 1.0])
    assert explained_variance(q, q) == 1.0
    assert explained_variance(np.full(4, 0.5), q) == 0.0
    assert area_under_curve(np.array([0.1, 0.6, 0.5, 0.9]), q > 0.5) == 0.75  # one of four pairs is the wrong way round
    assert area_under_curve(np.full(4, 0.5), q > 0.5) == 0.5
    assert math.isnan(area_under_curve(q, q > 2))
    assert math.isnan(area_under_curve(q, q < 2))
    for same in (1.0, 0.1, 1 / 3):  # of which the mean may be another number
        assert math.isnan(explained_variance(np.linspace(0, 1, 3), np.full(3, same)))
    assert math.isnan(explained_variance(q[:0], q[:0]))
    assert area_under_curve(np.array([0.5, 0.5, 0.9]), np.array([True, False, False])) == 0.25


def test_errors_name_the_row() -> None:
    critic, rows = critic_of(), matching_rows()
    with pytest.raises(ValueError, match="empty"):
        train_value_model(critic, [], ValueSettings(), seed=0)
    settings = ValueSettings(descent=SupervisedSettings(max_steps=1))
    for q in (-5e-7, 1 + 5e-7):  # sums of floats: a hair beyond is let through
        rows[2] = dataclasses.replace(rows[2], q=q)
        train_value_model(critic, rows, settings, seed=0)
    for q in (-1e-5, 1 + 1e-5):
        rows[2] = dataclasses.replace(rows[2], q=q)
        with pytest.raises(ValueError, match="row 2 has q="):
            train_value_model(critic, rows, settings, seed=0)
    rows[2] = dataclasses.replace(rows[2], q=-1.0)
    with pytest.raises(ValueError, match=r"row 2 has q=-1, outside the critic's bounds \[0, 1\]"):
        train_value_model(critic, rows, ValueSettings(), seed=0)


def test_where_nothing_after_an_action_counts_its_return_says_nothing_of_the_state() -> None:
    tree = Tree(None, None, (observed("start"),), discount=0.0)
    tree.restore(nodes_of([(-1, 2, 0), (0, 1, 0), (0, 1, ENDED)]), ["", "on", "end"], [0.0] * 3, {})
    tree.remember_observation(1, "further")
    tree.remember_observation(2, "over")
    assert [row.transcript[-1].text for row in value_rows(tree)] == ["start", "end"]


def nodes_of(records: list[tuple[int, int, int]]) -> np.ndarray:
    """Node records of (parent, visits, flags)."""
    nodes = np.zeros(len(records), NODE)
    nodes["parent"], nodes["visits"], nodes["flags"] = zip(*records, strict=True)
    return nodes
