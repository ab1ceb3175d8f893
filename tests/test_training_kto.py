"""KTO: closed forms, TRL's loss, the mismatched answers, and what training does."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from word_models import SHOP_WORDS

from branchwise.agents.language_model import LanguageModel
from branchwise.agents.prompting import actions_and_last_observation, all_turns
from branchwise.agents.small_model import make_model, make_tokenizer
from branchwise.envs.play.episode import Episode
from branchwise.envs.play.transcript import Transcript, acted, messages, observed
from branchwise.training.kto import (
    KtoSettings,
    Labelled,
    kto_objective,
    labelled_episodes,
    mismatched,
    train_kto,
)
from branchwise.training.loop.learners import Kto
from branchwise.training.losses import kto_baseline, kto_losses
from branchwise.training.preference import side_references
from branchwise.training.rows import Segment, trajectory_rows
from branchwise.training.trainer import TrainingStopped

GOALS = ("red", "shirt", "item", "page")


def tried(goal: str, *clicks: str) -> Transcript:
    turns = [observed(f"goal {goal}")]
    for click in clicks:
        turns += [acted(f"click[{click}]"), observed("results page")]
    return tuple(turns[:-1])


def tries() -> list[Labelled]:
    """Two good and two bad tries at each goal, of one and two turns; bad is what clicks "two" last."""
    return [
        Labelled(tried(goal, *clicks), clicks[-1] != "two")
        for goal in GOALS
        for clicks in (("one",), ("three", "one"), ("two",), ("three", "two"))
    ]


def policy_of(history: Any = all_turns, seed: int = 0) -> LanguageModel:
    tokenizer = make_tokenizer(SHOP_WORDS)
    model = make_model(tokenizer, width=16, layers=2, heads=2, max_tokens=128, seed=seed)
    return LanguageModel(model, tokenizer, history=history)


def test_a_trajectory_at_the_baseline_has_half_its_weight_as_loss() -> None:
    losses = kto_losses(torch.tensor([0.7, 0.7]), torch.tensor([True, False]), torch.tensor(0.7), 0.5, 1.2, 0.8)
    assert losses.tolist() == pytest.approx([0.6, 0.4])


def test_losses_have_the_papers_closed_form() -> None:
    ratio, z0, beta = [1.5, -0.4], 0.3, 0.7

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    losses = kto_losses(torch.tensor(ratio), torch.tensor([True, False]), torch.tensor(z0), beta, 1.1, 1.3)
    expected = [1.1 * (1 - sigmoid(beta * (ratio[0] - z0))), 1.3 * (1 - sigmoid(beta * (z0 - ratio[1])))]
    assert losses.tolist() == pytest.approx(expected)


def test_good_is_pushed_up_and_bad_down() -> None:
    ratio = torch.zeros(2, requires_grad=True)
    kto_losses(ratio, torch.tensor([True, False]), torch.tensor(0.0), 0.4).sum().backward()
    assert ratio.grad.tolist() == pytest.approx([-0.1, 0.1])  # β σ'(0) = β/4


def test_the_baseline_is_the_mean_but_at_least_0_and_has_no_gradient() -> None:
    ratio = torch.tensor([1.0, 2.0], requires_grad=True)
    assert kto_baseline(ratio).item() == 1.5
    assert not kto_baseline(ratio).requires_grad
    assert kto_baseline(-ratio).item() == 0.0


def test_loss_equals_trls_on_single_turns(tmp_path) -> None:
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    items = [Labelled(tried(goal, click), click == "one") for goal in GOALS for click in ("one", "two three")]
    policy, reference = policy_of(seed=0), policy_of(seed=1).model
    rows, _ = trajectory_rows([item.transcript for item in items], policy.tokenizer)
    sides = [row.side for row in rows]
    shifted = [  # TRL's way: the answer of the row before
        (Segment(side[0].prompt_ids, other[0].completion_ids, other[0].mask),)
        for side, other in zip(sides, [sides[-1], *sides[:-1]], strict=True)
    ]
    references = np.stack([side_references(reference, sides), side_references(reference, shifted)])
    settings = KtoSettings(beta=0.4, desirable_weight=1.1, undesirable_weight=0.9)
    ours = kto_objective(policy.model, sides, shifted, references, items, settings)(np.arange(len(items)))
    theirs = KTOTrainer(
        model=policy.model,
        ref_model=reference,
        args=KTOConfig(
            output_dir=str(tmp_path), beta=0.4, desirable_weight=1.1, undesirable_weight=0.9, bf16=False, use_cpu=True,
            per_device_train_batch_size=len(items), gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_list(
            [
                {
                    "prompt": messages(item.transcript[:1]),
                    "completion": messages(item.transcript[1:]),
                    "label": item.desirable,
                }
                for item in items
            ]
        ),
        processing_class=policy.tokenizer,
    )  # fmt: skip
    batch = theirs.data_collator([theirs.train_dataset[i] for i in range(len(items))])
    expected = theirs.compute_loss(theirs.model, batch)
    assert ours.loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert float(ours.means["kl"][0]) > 0.01, "the baseline takes part"


def test_answers_are_put_after_the_prompts_of_another_task() -> None:
    rows, _ = trajectory_rows([one.transcript for one in tries()], policy_of().tokenizer)
    sides = [row.side for row in rows]
    found = mismatched(sides)
    owner = {side[0].completion_ids + side[0].prompt_ids: side[0].prompt_ids for side in sides}
    assert len(owner) == len(sides)
    for side, other in zip(sides, found, strict=True):
        assert other[0].prompt_ids == side[0].prompt_ids
    answers = sorted(segment.completion_ids for (segment,) in sides)
    assert sorted(segment.completion_ids for (segment,) in found) == answers  # each is used once
    partners = [
        {number for number, side in enumerate(sides) if side[0].completion_ids == other[0].completion_ids}
        for other in found
    ]
    assert all(len(same) == len(GOALS) for same in partners)


def test_each_segment_of_the_other_is_put_after_a_prompt_and_cut_to_the_positions() -> None:
    one = (Segment((1, 2, 3), (9,), (1,)),)
    two = (Segment((4, 5), (6,), (1,)), Segment((4, 7), (8, 8), (0, 1)))
    assert mismatched([one, two]) == [
        (Segment((1, 2, 3), (6,), (1,)), Segment((1, 2, 3), (8, 8), (0, 1))),
        (Segment((4, 5), (9,), (1,)),),
    ]
    assert mismatched([one, two], positions=3)[0] == (
        Segment((2, 3), (6,), (1,)),
        Segment((3,), (8, 8), (0, 1)),
    )
    assert mismatched([one, one]) == [one, one]
    assert mismatched([one]) == [one]


def log_odds(policy: LanguageModel) -> float:
    scores = policy.score([(observed(f"goal {goal}"),) for goal in GOALS], [["click[one]", "click[two]"]] * len(GOALS))
    return float(np.mean([score[0] - score[1] for score in scores]))


@pytest.mark.parametrize("history", [all_turns, actions_and_last_observation])
def test_training_makes_good_trajectories_likelier_than_bad_ones(history: Any) -> None:
    policy, seen = policy_of(history), []
    before = log_odds(policy)
    settings = KtoSettings(learning_rate=5e-3, epochs=10, batch_size=8, log_every=5, beta=0.3)
    report = train_kto(policy, tries(), settings, progress=seen.append)
    assert report.history == seen
    assert report.rows.rows == 16
    assert log_odds(policy) > before + 1
    last = report.history[-1]
    assert last["desirable_ratio"] > last["undesirable_ratio"]
    assert last["kl"] >= 0
    assert last["loss"] < report.history[0]["loss"]


def test_the_same_seed_gives_the_same_weights_and_a_frozen_copy_is_the_start() -> None:
    settings, policies = KtoSettings(learning_rate=5e-3, batch_size=8), [policy_of() for _ in range(3)]
    for policy, reference in zip(policies, (None, None, policy_of().model), strict=True):
        torch.rand(1)
        train_kto(policy, tries(), settings, reference=reference, seed=3)
    first, *others = [policy.model.state_dict() for policy in policies]
    assert all(torch.equal(first[name], other[name]) for other in others for name in first)


def test_labels_of_one_kind_and_no_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="the list is empty"):
        train_kto(policy_of(), [], KtoSettings())
    good = [one for one in tries() if one.desirable]
    with pytest.raises(ValueError, match=r"8 good and 0 bad trajectories.*needs both kinds"):
        train_kto(policy_of(), good, KtoSettings())
    idle = [*good, *(Labelled(one.transcript, False, 0.0) for one in tries() if not one.desirable)]
    with pytest.raises(ValueError, match="8 good and 0 bad"):
        train_kto(policy_of(), idle, KtoSettings())


def test_collapse_stops() -> None:
    policy = policy_of()
    before = copy.deepcopy(policy.model)
    settings = KtoSettings(learning_rate=0.3, batch_size=4, log_every=1, max_chosen_drop=0.01, epochs=20)
    with pytest.raises(
        TrainingStopped, match=r"the tokens of good trajectories .* or raise beta \(0\.1\)\."
    ) as stopped:
        train_kto(policy, tries(), settings)
    assert stopped.value.history[-1]["chosen_drop"] > 0.01
    assert before.config.to_dict() == policy.model.config.to_dict()


def test_episodes_are_labelled_by_success() -> None:
    episodes = [Episode({}, tried("red", "one"), (0.0,), success, 1) for success in (True, False)]
    assert [one.desirable for one in labelled_episodes(episodes)] == [True, False]


@pytest.mark.parametrize("name", ["beta", "desirable_weight", "undesirable_weight", "max_chosen_drop", "learning_rate"])
def test_settings_are_above_0(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be above 0"):
        KtoSettings(**{name: 0.0})


def test_by_reward_good_is_above_the_mean_of_its_task_and_tasks_that_are_all_alike_are_left_out() -> None:
    def of_task(seed: int, *rewards: float) -> list[Episode]:
        return [Episode({"seed": seed}, tried("red", "one"), (reward,), False, 1) for reward in rewards]

    rows = [*of_task(0, 1.0, 1.0, 1.0), *of_task(1, 0.0, 0.5), *of_task(2, -1.0)]
    kept, dropped = Kto().usable(rows, "reward")
    assert list(kept) == rows[3:5]
    assert dropped == {"episodes all alike": 4}
    assert Kto().usable(rows[:3], "reward") == ([], {"episodes all alike": 3, "labels all alike": 0})
