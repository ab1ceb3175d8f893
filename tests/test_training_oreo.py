"""OREO: zero residual at the soft optimum, gradients, actions by token and by turn, and what training does."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from word_models import SHOP_WORDS

from branchwise.agents.critics import ValueModel
from branchwise.agents.language_model import LanguageModel
from branchwise.agents.prompting import actions_and_last_observation, all_turns, last_observation
from branchwise.agents.small_model import make_model, make_tokenizer
from branchwise.envs.play.episode import Episode
from branchwise.envs.play.transcript import acted, observed
from branchwise.training.losses import full_kl, oreo_policy_loss, oreo_value_loss, sums_from, trajectory_mean
from branchwise.training.oreo import OreoSettings, oreo_objective, returns_of, train_oreo, turn_numbers
from branchwise.training.rows import Segment, sft_rows, trajectory_rows
from branchwise.training.supervised import SupervisedSettings, train_supervised

BETA = 0.6


def soft_optimum() -> tuple[torch.Tensor, ...]:
    """Two binary actions, then a return: V(s_t), ρ_t and R of each of the four trajectories at the soft optimum, from
    Q = R at the end, V = β log Σ π_ref exp(Q/β), π* = π_ref exp((Q − V)/β)."""
    reference = {(): (0.3, 0.7), (0,): (0.5, 0.5), (1,): (0.9, 0.1)}
    returns = {(0, 0): 1.0, (0, 1): 0.0, (1, 0): 0.25, (1, 1): 2.0}
    value = dict(returns)
    for state in ((0,), (1,), ()):
        q = [value[(*state, action)] for action in (0, 1)]
        value[state] = BETA * np.log(sum(p * np.exp(x / BETA) for p, x in zip(reference[state], q, strict=True)))
    paths = list(itertools.product((0, 1), repeat=2))
    values = [[value[path[:t]] for t in (0, 1)] for path in paths]
    ratios = [[(value[path[: t + 1]] - value[path[:t]]) / BETA for t in (0, 1)] for path in paths]
    return (
        torch.tensor(values, dtype=torch.float32),
        torch.tensor(ratios, dtype=torch.float32),
        torch.tensor([[returns[path]] * 2 for path in paths]),
    )


def test_both_losses_are_0_at_the_soft_optimum_on_every_trajectory() -> None:
    values, ratios, returns = soft_optimum()
    mask = torch.ones_like(values)
    for row in range(4):
        part = slice(row, row + 1)
        arguments = values[part], ratios[part], returns[part], mask[part], BETA
        assert oreo_value_loss(*arguments).item() == pytest.approx(0.0, abs=1e-10)
        assert oreo_policy_loss(*arguments).item() == pytest.approx(0.0, abs=1e-10)
    assert oreo_value_loss(values + 0.5, ratios, returns, mask, BETA).item() == pytest.approx(0.25, abs=1e-6)
    assert oreo_policy_loss(values - 0.5, ratios, returns, mask, BETA).item() == pytest.approx(0.25, abs=1e-6)


def test_descending_both_losses_finds_the_soft_optimum() -> None:
    """Tabular: logits of three states and their values, over all four trajectories."""
    target_values, target_ratios, returns = soft_optimum()
    reference = torch.tensor([[0.3, 0.7], [0.5, 0.5], [0.9, 0.1]]).log()
    logits, table = reference.clone().requires_grad_(), torch.zeros(3, requires_grad=True)
    paths = torch.tensor(list(itertools.product((0, 1), repeat=2)))
    states = torch.stack([torch.zeros(4, dtype=torch.int64), 1 + paths[:, 0]], dim=1)
    optimizer = torch.optim.Adam([logits, table], lr=0.05)
    for _ in range(800):
        ratios = (torch.log_softmax(logits, 1) - reference)[states, paths]
        arguments = table[states], ratios, returns, torch.ones(4, 2), BETA
        optimizer.zero_grad()
        (oreo_value_loss(*arguments) + oreo_policy_loss(*arguments)).backward()
        optimizer.step()
    assert torch.allclose(table[states], target_values, atol=1e-3)
    assert torch.allclose(ratios, target_ratios, atol=1e-3)


def test_each_loss_reaches_its_own_network_and_each_ratio_through_its_own_term() -> None:
    values, ratios = torch.tensor([[0.2, 0.4]]), torch.tensor([[0.5, -1.0]])
    returns, mask = torch.ones(1, 2), torch.ones(1, 2)
    v, r = values.clone().requires_grad_(), ratios.clone().requires_grad_()
    residual = values - returns + BETA * torch.tensor([[0.5 - 1.0, -1.0]])
    oreo_value_loss(v, r, returns, mask, BETA).backward()
    assert r.grad is None
    assert torch.allclose(v.grad, residual)  # 2 · residual / T, T = 2
    v, r = values.clone().requires_grad_(), ratios.clone().requires_grad_()
    oreo_policy_loss(v, r, returns, mask, BETA).backward()
    assert v.grad is None
    assert torch.allclose(r.grad, BETA * residual)


def test_a_trajectory_counts_once_however_long() -> None:
    values = torch.tensor([[4.0, 100.0, 100.0], [1.0, 2.0, 3.0]])
    mask = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    assert trajectory_mean(values, mask).item() == (4 + 2) / 2
    assert sums_from(torch.tensor([[1.0, 2.0, 4.0]])).tolist() == [[7.0, 6.0, 4.0]]


def test_the_divergence_is_over_the_whole_vocabulary() -> None:
    p, q = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[0.25, 0.25, 0.5]])
    expected = 0.5 * np.log(2) + 0.25 * np.log(0.5)
    assert full_kl(p.log() + 3, q.log() - 1).item() == pytest.approx(expected, abs=1e-6)
    assert full_kl(p.log(), p.log()).item() == pytest.approx(0.0, abs=1e-7)


def test_turns_are_told_apart_by_observations_and_segments() -> None:
    side = (Segment((1,), (5, 6, 7, 8, 9), (1, 1, 0, 0, 1)), Segment((1, 2), (5, 6), (1, 1)))
    assert turn_numbers(side).tolist() == [0, 0, 1, 2, 2]


def episode(goal: str, *clicks: str, rewards: tuple[float, ...] = ()) -> Episode:
    """Two decisions; success is to click "one" both times."""
    turns = [observed(f"goal {goal}")]
    for click in clicks:
        turns += [acted(f"click[{click}]"), observed("results page")]
    success = set(clicks) == {"one"}
    return Episode(
        {}, tuple(turns[:-1]), rewards or (0.0,) * (len(clicks) - 1) + (float(success),), success, len(clicks)
    )


EPISODES = [
    episode(goal, *clicks)
    for goal in ("red", "shirt", "item")
    for clicks in itertools.product(("one", "two"), repeat=2)
]


def policy_of(history: Any = all_turns, seed: int = 0) -> LanguageModel:
    tokenizer = make_tokenizer(SHOP_WORDS)
    model = make_model(tokenizer, width=16, layers=2, heads=2, max_tokens=128, seed=seed)
    return LanguageModel(model, tokenizer, history=history)


def test_returns_are_of_the_whole_episode_or_of_what_is_still_to_come() -> None:
    played = episode("red", "one", "two", "one", rewards=(0.5, 0.0, 1.0))
    assert returns_of(played, "success").tolist() == [0.0] * 3
    assert returns_of(played, "reward").tolist() == [1.5, 1.0, 1.0]
    with pytest.raises(ValueError, match="3 agent turns and 1 rewards"):
        returns_of(episode("red", "one", "two", "one", rewards=(1.0,)), "reward")


@pytest.mark.parametrize("level", ["token", "turn"])
@pytest.mark.parametrize("history", [all_turns, last_observation])
def test_the_loss_of_a_batch_is_that_of_its_episodes_read_one_by_one(level: Any, history: Any) -> None:
    """By hand: log-ratios and values of each state by separate forwards, summed up from the end."""
    policy, reference = policy_of(history), policy_of(seed=1).model
    critic = ValueModel.from_language_model(policy_of(history, seed=2), low=-1.0, high=2.0)
    torch.manual_seed(0)
    torch.nn.init.normal_(critic.head.weight)
    played = [EPISODES[0], EPISODES[5], episode("page", "one")]
    rows, _ = trajectory_rows([one.transcript for one in played], policy.tokenizer, history)
    settings = OreoSettings(beta=0.3, kl_weight=0.2, level=level)
    sides, returns = [row.side for row in rows], [returns_of(one, "success") for one in played]
    batch = oreo_objective(policy.model, critic, reference, sides, returns, settings)(np.arange(3))

    value_losses, policy_losses, divergences = [], [], []
    for side, one in zip(sides, played, strict=True):
        ratios, values, kl = [], [], []
        for segment in side:
            ids = torch.tensor([segment.input_ids])
            with torch.no_grad():
                own, other = (torch.log_softmax(m(ids).logits[0], -1) for m in (policy.model, reference))
                states = critic.base(input_ids=ids).last_hidden_state[0]
            before = False
            for place, learned in enumerate(segment.input_mask):
                if learned:
                    token = segment.input_ids[place]
                    ratio = float(own[place - 1, token] - other[place - 1, token])
                    value = -1 + 3 * torch.sigmoid(critic.head(states[place - 1])).item()
                    kl.append(float((own[place - 1].exp() * (own[place - 1] - other[place - 1])).sum()))
                    if level == "token" or not before:
                        ratios.append(ratio)
                        values.append(value)
                    else:
                        ratios[-1] += ratio
                before = bool(learned)
        later = np.cumsum(ratios[::-1])[::-1]
        residuals = (np.array(values) - float(one.success) + 0.3 * later) ** 2
        value_losses.append(residuals.mean())
        policy_losses.append(residuals.mean())
        divergences.append(np.mean(kl))
    expected = np.mean(value_losses) + np.mean(policy_losses) + 0.2 * np.mean(divergences)
    assert batch.loss.item() == pytest.approx(expected, abs=1e-4)
    assert float(batch.means["kl"][0]) == pytest.approx(np.mean(divergences), abs=1e-4)
    assert batch.trained == sum(len(turn_numbers(side)) for side in sides)


def chance_of_one(policy: LanguageModel) -> float:
    prompts = [(observed(f"goal {goal}"),) for goal in ("red", "shirt", "item")]
    scores = policy.score(prompts, [["click[one]", "click[two]"]] * 3)
    return float(np.mean([1 / (1 + np.exp(score[1] - score[0])) for score in scores]))


@pytest.mark.parametrize("level", ["token", "turn"])
def test_training_raises_what_succeeds_and_learns_its_value(level: Any) -> None:
    policy, seen = policy_of(actions_and_last_observation), []
    rows, _ = sft_rows([one.transcript for one in EPISODES], policy.tokenizer, policy.history)
    cloning = SupervisedSettings(learning_rate=1e-2, max_steps=60, batch_size=12)
    train_supervised(policy.model, rows, cloning, seed=0)  # a policy that plays what is in the episodes
    assert chance_of_one(policy) < 0.6
    settings = OreoSettings(learning_rate=5e-3, max_steps=100, batch_size=12, log_every=20, beta=0.1, level=level)
    report = train_oreo(policy, EPISODES, settings, progress=seen.append)
    assert report.history == seen
    assert report.rows.rows == len(EPISODES)
    assert chance_of_one(policy) > 0.9
    assert report.history[-1]["value_loss"] < report.history[0]["value_loss"]
    lost, won = ((observed("goal red"), acted(f"click[{c}]"), observed("results page")) for c in ("two", "one"))
    values = report.critic.values([lost, won])
    assert values[1] > values[0] + 0.2
    assert (report.critic.low, report.critic.high) == (0.0, 1.0)


def test_the_same_seed_gives_the_same_policy_and_critic_in_the_mode_they_had() -> None:
    settings, found = OreoSettings(learning_rate=5e-3, batch_size=4), []
    for _ in range(2):
        policy = policy_of()
        policy.model.train()
        torch.rand(1)
        report = train_oreo(policy, EPISODES, settings, seed=2)
        assert policy.model.training
        assert not report.critic.training
        found.append({**policy.model.state_dict(), **{f"critic.{k}": v for k, v in report.critic.state_dict().items()}})
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_rewards_on_the_way_bound_the_critic_and_are_learned() -> None:
    played = [episode("red", click, "one", rewards=(r, 1.0)) for click, r in (("one", 2.0), ("two", -1.0))]
    report = train_oreo(policy_of(), played, OreoSettings(), outcome="reward")
    assert (report.critic.low, report.critic.high) == (0.0, 3.0)


def test_what_cannot_be_learned_from_is_named() -> None:
    policy = policy_of()
    with pytest.raises(ValueError, match="the list is empty"):
        train_oreo(policy, [], OreoSettings())
    with pytest.raises(ValueError, match="the return of all 2 episodes is 1: nothing to learn"):
        train_oreo(policy, [episode("red", "one"), episode("item", "one")], OreoSettings())
    with pytest.raises(ValueError, match="reference is the model in training"):
        train_oreo(policy, EPISODES, OreoSettings(), reference=policy.model)
    critic = ValueModel.from_language_model(policy, low=0.5, high=1.0)
    with pytest.raises(ValueError, match=r"returns lie in \[0, 1\], outside the critic's bounds \[0\.5, 1\]"):
        train_oreo(policy, EPISODES, OreoSettings(), critic=critic)
    with pytest.raises(ValueError, match="none of 1 episodes gave a row"):
        train_oreo(policy, [Episode({}, (observed("goal"),), (), False, 0)], OreoSettings())
    for name, value in (("beta", 0.0), ("kl_weight", -0.1), ("level", "step")):
        with pytest.raises(ValueError, match=name):
            OreoSettings(**{name: value})
