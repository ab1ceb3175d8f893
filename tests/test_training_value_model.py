"""Training a critic on trees: rows, weights, hold-out by task, figures."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from branchwise.agents.critics import ValueModel
from branchwise.agents.small_model import make_model, make_tokenizer
from branchwise.search.transcript import acted, observed
from branchwise.search.tree import TERMINAL, Tree
from branchwise.training.supervised import SupervisedSettings
from branchwise.training.value_model import (
    ValueRow,
    ValueSettings,
    area_under_curve,
    explained_variance,
    split_by_task,
    train_value_model,
    value_loss,
    value_rows,
)

COLORS = ["red", "blue", "green", "white"]


def critic_of(**settings) -> ValueModel:
    tokenizer = make_tokenizer(["goal", *COLORS])
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
    flags = [0, TERMINAL, 0]
    tree.add_children(0, actions, [None] * 3, np.full(3, 1 / 3), [-1.1] * 3, [0.25, 0.5, 0.0], flags)
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


def test_errors_name_the_row() -> None:
    critic, rows = critic_of(), matching_rows()
    with pytest.raises(ValueError, match="empty"):
        train_value_model(critic, [], ValueSettings(), seed=0)
    rows[2] = dataclasses.replace(rows[2], q=-1.0)
    with pytest.raises(ValueError, match=r"row 2 has q=-1, outside the critic's bounds \[0, 1\]"):
        train_value_model(critic, rows, ValueSettings(), seed=0)
