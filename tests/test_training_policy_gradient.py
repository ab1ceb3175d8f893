"""The clipped policy gradient: closed forms, its likeness to step-DPO, and what training does."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hand_trees import built
from word_models import SHOP_WORDS

from branchwise.agents.language_model import LanguageModel
from branchwise.agents.prompting import all_turns
from branchwise.agents.small_model import make_model, make_tokenizer
from branchwise.envs.play.transcript import acted, observed
from branchwise.search.credit import StepAdvantage, tree_advantages
from branchwise.training.batches import collate, side_logps
from branchwise.training.loop.extractors import SiblingPairs
from branchwise.training.loop.learners import PolicyGradient
from branchwise.training.losses import clipped_losses, k3
from branchwise.training.policy_gradient import (
    PolicyGradientSettings,
    old_logps,
    policy_gradient_objective,
    token_references,
    train_policy_gradient,
)
from branchwise.training.preference import (
    PreferenceSettings,
    model_references,
    preference_objective,
    side_references,
)
from branchwise.training.rows import NothingToTrain, Side, preference_rows, trajectory_rows
from branchwise.training.trainer import TrainingStopped

WORDS = (*SHOP_WORDS, "after", "start")
GOALS = ("red", "shirt", "item", "page")


def policy_of(history: Any = all_turns, seed: int = 0) -> LanguageModel:
    tokenizer = make_tokenizer(WORDS)
    model = make_model(tokenizer, width=16, layers=2, heads=2, max_tokens=128, seed=seed)
    return LanguageModel(model, tokenizer, history=history)


def steps_of(logp: float | None = None) -> list[StepAdvantage]:
    """At each goal a click that is good and one of two tokens more that is bad."""
    return [
        StepAdvantage((observed(f"goal {goal}"),), (acted(action),), advantage, logp)
        for goal in GOALS
        for action, advantage in (("click[one]", 1.0), ("click[two three four]", -1.0))
    ]


def sides_of(policy: LanguageModel, steps: Sequence[StepAdvantage]) -> list[Side]:
    rows, _ = trajectory_rows([(step.prompt, step.action[0].text) for step in steps], policy.tokenizer, policy.history)
    return [row.side for row in rows]


def objective(policy: LanguageModel, steps: Sequence[StepAdvantage], old: np.ndarray, **settings: Any) -> Any:
    return policy_gradient_objective(
        policy.model, sides_of(policy, steps), [step.advantage for step in steps], old,
        PolicyGradientSettings(**settings),
    )(np.arange(len(steps)))  # fmt: skip


def gradient(model: Any, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad(set_to_none=True)
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


# ---- the loss -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [  # ε = 0.2 below and 0.3 above; the slope is that for log ρ
        (1.0, 2.0, -2.0, -2.0),
        (1.0, -2.0, 2.0, 2.0),
        (1.25, 2.0, -2.5, -2.5),
        (1.5, 2.0, -2.6, 0.0),  # far enough up
        (0.5, 2.0, -1.0, -1.0),  # back towards 1
        (0.5, -2.0, 1.6, 0.0),  # far enough down
        (1.5, -2.0, 3.0, 3.0),  # back towards 1
    ],
)
def test_the_surrogate_has_the_papers_closed_form(ratio: float, advantage: float, loss: float, slope: float) -> None:
    log_ratio = torch.tensor([math.log(ratio)], requires_grad=True)
    found = clipped_losses(log_ratio, torch.tensor([advantage]), 0.2, 0.3)
    found.sum().backward()
    assert found.item() == pytest.approx(loss)
    assert log_ratio.grad.item() == pytest.approx(slope)


def test_k3_is_unbiased_never_below_0_and_flat_where_the_policies_agree() -> None:
    policy, old = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    found = k3(torch.tensor(np.log(policy / old)))
    assert (found >= 0).all()
    assert found[1].item() == 0.0
    assert (policy * found.numpy()).sum() == pytest.approx((policy * np.log(policy / old)).sum())  # KL(π‖π_old)
    at = torch.zeros(1, requires_grad=True)
    k3(at).sum().backward()
    assert at.grad.item() == 0.0


@pytest.mark.parametrize("ratio", ["step", "token"])
def test_the_loss_of_a_batch_is_the_mean_over_its_steps(ratio: str) -> None:
    policy, other, steps = policy_of(), policy_of(seed=1), steps_of()
    now, before = (token_references(one.model, sides_of(one, steps)) for one in (policy, other))
    old = before.sum(axis=1) if ratio == "step" else before
    expected = []
    for step, mine, theirs in zip(steps, now, before, strict=True):
        count = int((mine != 0).sum())
        logs = [float((mine - theirs).sum())] if ratio == "step" else (mine - theirs)[:count].tolist()
        parts = [
            -min(math.exp(r) * step.advantage, min(max(math.exp(r), 0.8), 1.4) * step.advantage)
            + 0.5 * (math.exp(-r) - 1 + r)
            for r in logs
        ]
        expected.append(sum(parts) / len(parts))
    found = objective(policy, steps, old, ratio=ratio, clip=0.2, clip_high=0.4, kl_weight=0.5)
    assert found.loss.item() == pytest.approx(np.mean(expected), rel=1e-4)
    assert 0 < float(found.means["clipped"][0]) <= float(found.means["clipped"][1])


def test_a_ratio_of_tokens_and_one_of_steps_agree_on_actions_of_one_token() -> None:
    policy = policy_of()
    lone = [StepAdvantage((observed("goal red"),), (acted(""),), 1.5), *steps_of()]
    sides = [(type(side[0])(side[0].prompt_ids, side[0].completion_ids[-1:], (1,)),) for side in sides_of(policy, lone)]
    old = token_references(policy_of(seed=1).model, sides)
    losses = [
        policy_gradient_objective(
            policy.model, sides, [step.advantage for step in lone], before, PolicyGradientSettings(ratio=ratio)
        )(np.arange(len(sides))).loss.item()
        for ratio, before in (("step", old[:, 0]), ("token", old))
    ]  # fmt: skip
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize("ratio", ["step", "token"])
def test_observation_tokens_have_exactly_no_gradient(ratio: str, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of()
    step = StepAdvantage(
        (observed("goal red"), acted("click[one]"), observed("results page")), (acted("buy now"),), 1.0
    )
    [side] = sides_of(policy, [step])
    kept: list[torch.Tensor] = []

    def keep(_: Any, __: Any, output: Any) -> None:
        if output.logits.requires_grad:
            output.logits.retain_grad()
            kept.append(output.logits)

    old = old_logps(policy.model, [step], [side], ratio)
    monkeypatch.setattr(policy.model, "get_output_embeddings", lambda: None)  # so that everything is projected
    handle = policy.model.register_forward_hook(keep)
    found = objective(policy, [step], old, ratio=ratio)
    handle.remove()
    found.loss.backward()
    moved = (kept[-1].grad.abs().sum(-1) > 0)[0].tolist()
    [segment] = side
    assert moved[: len(segment.input_ids) - 1] == [bool(learned) for learned in segment.input_mask[1:]]
    assert sum(moved) == len(segment.completion_ids)


# ---- step-DPO -------------------------------------------------------------------------------------------------------


def two_by_two(prior: float = 0.5) -> Any:
    """Two children a node, whose values differ by ½ at the root, by 1 and by ¼ below."""

    def both(first: dict[str, Any], second: dict[str, Any], names: tuple[str, str]) -> dict[str, Any]:
        return {names[0]: {"n": 4, "p": prior, **first}, names[1]: {"n": 4, "p": 1 - prior, **second}}

    left = both({"q": 1.0}, {"q": 0.0}, ("click[two]", "search[ shirt ]"))
    right = both({"q": 0.25}, {"q": 0.0}, ("click[three]", "buy now"))
    children = both({"q": 0.75, "children": left}, {"q": 0.25, "children": right}, ("click[one]", "click[done]"))
    return built({"n": 8, "children": children}, "goal red shirt")


def cosine_to_step_dpo(tree: Any, beta: float) -> float:
    policy = policy_of()
    steps, _ = tree_advantages(tree)
    sides = sides_of(policy, steps)
    old = token_references(policy.model, sides).sum(axis=1)
    ours = gradient(policy.model, objective(policy, steps, old).loss)
    pairs, _ = SiblingPairs(threshold=0.0, weight="difference").from_tree(tree, "success", 0)
    assert len(pairs) == 3
    rows, _ = preference_rows(pairs, policy.tokenizer, policy.history)
    settings = PreferenceSettings(beta=beta, sft_weight=0.0)
    loss = preference_objective(policy.model, rows, model_references(policy.model, rows), settings)
    theirs = gradient(policy.model, loss(np.arange(len(rows))).loss)
    return torch.nn.functional.cosine_similarity(ours, theirs, dim=0).item()


@pytest.mark.parametrize("beta", [0.1, 3.0])
def test_between_two_siblings_the_gradient_is_that_of_step_dpo_weighted_by_the_difference(beta: float) -> None:
    assert cosine_to_step_dpo(two_by_two(), beta) > 0.99999


def test_with_unequal_priors_it_is_not() -> None:
    assert cosine_to_step_dpo(two_by_two(prior=0.125), 0.1) < 0.99


# ---- training -------------------------------------------------------------------------------------------------------


def log_odds(policy: LanguageModel) -> float:
    actions = [["click[one]", "click[two three four]"]] * len(GOALS)
    scores = policy.score([(observed(f"goal {goal}"),) for goal in GOALS], actions)
    return float(np.mean([score[0] - score[1] for score in scores]))


@pytest.mark.parametrize("ratio", ["step", "token"])
def test_training_makes_actions_with_an_advantage_likelier(ratio: Any) -> None:
    policy, seen = policy_of(), []
    before = log_odds(policy)
    settings = PolicyGradientSettings(learning_rate=5e-3, epochs=10, batch_size=8, log_every=5, ratio=ratio)
    report = train_policy_gradient(policy, steps_of(), settings, progress=seen.append)
    assert report.history == seen
    assert report.rows.rows == 8
    assert log_odds(policy) > before + 0.2
    last = report.history[-1]
    assert last["loss"] < report.history[0]["loss"]
    assert last["kl"] > 0
    assert last["clipped"] > 0, "further than this nothing pulls"


def test_the_same_seed_gives_the_same_weights() -> None:
    settings, policies = PolicyGradientSettings(learning_rate=5e-3, batch_size=4), [policy_of() for _ in range(2)]
    for policy in policies:
        torch.rand(1)
        train_policy_gradient(policy, steps_of(), settings, seed=3)
    first, other = [policy.model.state_dict() for policy in policies]
    assert all(torch.equal(first[name], other[name]) for name in first)


def test_a_weight_of_the_distance_holds_the_policy() -> None:
    moved = []
    for weight in (0.0, 30.0):
        policy = policy_of()
        settings = PolicyGradientSettings(learning_rate=5e-3, epochs=10, batch_size=8, clip=0.9, kl_weight=weight)
        moved.append(train_policy_gradient(policy, steps_of(), settings).history[-1]["kl"])
    assert moved[1] < moved[0] / 4


def test_what_was_logged_is_the_old_policy_where_all_rows_have_it_and_the_ratio_is_of_the_step() -> None:
    policy = policy_of()
    steps = steps_of(-3.0)
    sides = sides_of(policy, steps)
    assert old_logps(policy.model, steps, sides, "step").tolist() == [-3.0] * 8
    own = side_references(policy.model, sides)
    mixed = [*steps[1:], steps_of()[0]]
    assert old_logps(policy.model, mixed, sides, "step") == pytest.approx(own, abs=1e-5)
    assert old_logps(policy.model, steps, sides, "token").sum(axis=1) == pytest.approx(own, abs=1e-5)
    with pytest.raises(ValueError, match=r"step 0 has logp=0\.5; a log-probability is at most 0"):
        old_logps(policy.model, steps_of(0.5), sides, "step")


def test_references_of_tokens_are_those_of_each_side_whatever_the_batch() -> None:
    policy, steps = policy_of(), steps_of()
    sides = sides_of(policy, steps)
    together = token_references(policy.model, sides)
    assert together.shape == (8, max(len(side[0].completion_ids) for side in sides))
    for side, row in zip(sides, together, strict=True):
        batch = collate([side], packed=False)
        with torch.no_grad():
            logits = policy.model(input_ids=batch.ids).logits
            _, logps = side_logps(lambda _, flat, logits=logits: logits.reshape(-1, logits.shape[-1])[flat], batch)
        assert row[: len(logps)] == pytest.approx(logps.numpy(), abs=1e-5)
        assert not row[len(logps) :].any()


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(ValueError, match="the list is empty"):
        train_policy_gradient(policy_of(), [], PolicyGradientSettings())
    level = [StepAdvantage((observed("goal red"),), (acted("click[one]"),), 0.0)]
    with pytest.raises(NothingToTrain, match="1 of 1 steps gave a row, and none of these has an advantage"):
        train_policy_gradient(policy_of(), level, PolicyGradientSettings())
    assert PolicyGradient().usable(level, "success") == ([], {"no advantage": 1})
    long = [StepAdvantage((observed("goal red"),), (acted("click[one] " * 200),), 1.0)]
    with pytest.raises(NothingToTrain, match="longer than the model's 128 positions"):
        train_policy_gradient(policy_of(), long, PolicyGradientSettings())


def test_a_loss_that_is_no_number_stops() -> None:
    policy = policy_of()
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    steps = [StepAdvantage(step.prompt, step.action, -1.0, -1e30) for step in steps_of()]
    with pytest.raises(TrainingStopped, match=r"or raise kl_weight \(0\)"):
        train_policy_gradient(policy, steps, PolicyGradientSettings())
    assert all(torch.equal(before[name], value) for name, value in policy.model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "values", "fault"),
    [
        ("clip", (0.0, 1.0), "clip must be above 0 and below 1"),
        ("clip_high", (0.0,), "clip_high must be above 0"),
        ("kl_weight", (-0.1,), "kl_weight must be at least 0"),
        ("ratio", ("word",), "ratio"),
        ("learning_rate", (0.0,), "learning_rate must be above 0"),
    ],
)
def test_settings_have_limits(name: str, values: tuple[Any, ...], fault: str) -> None:
    for value in values:
        with pytest.raises(ValueError, match=fault):
            PolicyGradientSettings(**{name: value})
