"""The optimiser loop: history, last good state, stops, what it leaves alone, batches, schedule."""

import contextlib
import math
from typing import Any

import numpy as np
import pytest
import torch

from branchwise.training.trainer import (
    BatchLoss,
    GoodState,
    OptimiserSettings,
    TrainingStopped,
    adamw,
    cosine_schedule,
    endless_batches,
    evaluating,
    optimise,
)


def scripted(losses: list[float], **settings: Any) -> tuple[list[dict[str, float]], list[list[float]]]:
    """Training of one number w whose loss at step i is ``losses[i]``, with gradient 1 (no number where it is
    ``BROKEN``): the history; and before each step and at the end w, with whether the model was in training mode."""
    model = torch.nn.Linear(1, 1, bias=False)
    trained: list[list[float]] = []

    def loss_of(batch: np.ndarray) -> BatchLoss:
        trained.append([model.weight.item(), model.training])
        value = losses[len(trained) - 1]
        if value == BROKEN:
            return BatchLoss((0 * model.weight.sum()).sqrt(), 1)
        return BatchLoss(value + model.weight.sum() - model.weight.sum().detach(), len(batch))

    model.eval()
    told: list[dict[str, float]] = []
    faulty = not all(math.isfinite(loss) and loss != BROKEN for loss in losses)
    with pytest.raises(TrainingStopped) if faulty else contextlib.nullcontext() as stopped:
        optimise(model, [1] * 5, loss_of, OptimiserSettings(**settings), 0, told.append)
    if stopped is not None:
        assert (stopped.value.history, stopped.value.step) == (told, len(trained))
    assert not model.training
    assert model.weight.grad is None
    return told, [*trained, [model.weight.item(), True]]


BROKEN = -1e9


def test_the_history_has_the_mean_loss_since_the_row_before_and_a_row_for_the_last_step() -> None:
    told, _ = scripted([1.0, 2.0, 3.0, 5.0, 7.0], max_steps=5, log_every=2, batch_size=2, warmup=0.0)
    assert [row["step"] for row in told] == [2, 4, 5]
    assert [row["loss"] for row in told] == [1.5, 4.0, 7.0]
    assert [row["epoch"] for row in told] == [2 / 3, 4 / 3, 5 / 3]
    assert [row["grad_norm"] for row in told] == [1.0] * 3
    assert told[1]["tokens"] > told[0]["tokens"]
    assert told[-1]["tokens"] <= 10
    rates = [2e-3 * cosine_schedule(step, 5, 0.0) for step in (2, 4, 5)]
    assert [row["learning_rate"] for row in told] == pytest.approx(rates)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"epochs": 1.0}, 3),
        ({"epochs": 0.5}, 2),
        ({"epochs": 1e-9}, 1),
        ({"epochs": 2.5}, 8),
        ({"epochs": 2.5, "max_steps": 1}, 1),
    ],
)
def test_a_part_of_an_epoch_is_rounded_up_to_steps_and_max_steps_outrules_epochs(
    settings: dict[str, Any], steps: int
) -> None:
    assert scripted([0.0] * 8, batch_size=2, **settings)[0][-1]["step"] == steps


@pytest.mark.parametrize("fault", [math.nan, math.inf, BROKEN])
def test_the_last_good_state_is_that_of_the_last_row_of_the_history(fault: float) -> None:
    for at, good in ((1, 0), (3, 2), (4, 4)):
        losses = [0.0] * 9
        losses[at] = fault
        told, weights = scripted(losses, max_steps=9, log_every=2)
        assert len(told) == good // 2
        assert weights[-1][0] == weights[good][0]
        assert len({weight for weight, _ in weights}) == at + 1
        assert all(training for _, training in weights)


def test_matrices_decay_and_vectors_and_frozen_weights_do_not() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3), torch.nn.Linear(3, 1))
    model[2].requires_grad_(False)
    matrices, vectors = adamw(model, 0.1, 0.25, (0.5, 0.75)).param_groups
    assert [id(p) for p in matrices["params"]] == [id(model[0].weight)]
    assert [id(p) for p in vectors["params"]] == [id(p) for p in (model[0].bias, model[1].weight, model[1].bias)]
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.25, 0.0)
    for group in (matrices, vectors):
        assert (group["lr"], group["betas"]) == (0.1, (0.5, 0.75))


def test_an_evaluated_model_has_no_dropout_and_no_gradients_and_its_mode_back() -> None:
    model = torch.nn.Dropout(0.5)
    for training in (True, False):
        model.train(training)
        with evaluating(model):
            assert not model.training
            assert not torch.is_grad_enabled()
        assert model.training is training
        with contextlib.suppress(TypeError), evaluating(model):
            model(None)
        assert model.training is training


def test_an_epoch_of_batches_holds_every_row_once_and_like_lengths_together() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 230)
    batches = endless_batches(lengths, 10, np.random.default_rng(1))
    epoch = [next(batches) for _ in range(23)]
    assert sorted(np.concatenate(epoch).tolist()) == list(range(230))
    assert max(np.ptp(lengths[batch]) for batch in epoch) < 15


def test_fifty_batches_of_an_epoch_share_their_lengths_and_no_more() -> None:
    """200 lengths of rows in two batches of 100: sorted, all in one; in stretches of 50 batches, each has its own."""
    lengths = np.arange(200)
    batches = endless_batches(lengths, 2, np.random.default_rng(1))
    epochs = [[next(batches).tolist() for _ in range(100)] for _ in range(2)]
    for epoch in epochs:
        assert sorted(row for batch in epoch for row in batch) == list(range(200))
        assert sorted(map(tuple, epoch)) != [(i, i + 1) for i in range(0, 200, 2)]
        assert all(first < second for first, second in epoch)
    assert sorted(map(tuple, epochs[0])) != sorted(map(tuple, epochs[1]))
    for rows, one_stretch in ((100, True), (102, False)):
        batches = endless_batches(lengths[:rows], 2, np.random.default_rng(1))
        found = sorted(tuple(next(batches).tolist()) for _ in range(rows // 2))
        assert (found == [(i, i + 1) for i in range(0, rows, 2)]) is one_stretch


def test_cosine_schedule_at_its_corners() -> None:
    assert cosine_schedule(5, 100, 0.1) == pytest.approx(0.5)
    assert cosine_schedule(10, 100, 0.1) == pytest.approx(1.0)
    assert cosine_schedule(56, 100, 0.1) == pytest.approx(0.5)
    assert cosine_schedule(1, 10, 0.0) == pytest.approx(1.0)
    assert cosine_schedule(100, 100, 0.0) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.99)))
    assert cosine_schedule(1, 1, 0.5) == pytest.approx(
        0.5 * (1 + math.cos(-math.pi / 2))
    )  # it rises to the peak before its only step


def pulled(model: torch.nn.Module, **means: Any) -> Any:
    """A loss that pulls every trained parameter to 0, with further columns for the history."""

    def loss_of(batch: np.ndarray) -> BatchLoss:
        loss = sum(p.square().sum() for p in model.parameters() if p.requires_grad)
        return BatchLoss(loss, len(batch), {name: column(batch) for name, column in means.items()})

    return loss_of


def test_frozen_parameters_are_neither_trained_nor_kept() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    model[0].requires_grad_(False)
    frozen, trained = model[0].weight.clone(), model[1].weight.clone()
    optimise(model, [1, 1], pulled(model), OptimiserSettings(batch_size=1), 0)
    assert torch.equal(model[0].weight, frozen)
    assert not torch.equal(model[1].weight, trained)
    state = GoodState(model)
    assert sum(value.numel() for value in state._kept) == 3 + 1
    with torch.no_grad():
        model[0].weight.zero_()
        model[1].weight.zero_()
    state.restore()
    assert not model[0].weight.any()
    assert model[1].weight.any()


def test_the_last_good_state_holds_the_statistics_that_training_changes() -> None:
    model = torch.nn.BatchNorm1d(2)
    state = GoodState(model)
    model(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    after = model.running_mean.clone()
    assert after.any()
    state.restore()
    assert not model.running_mean.any()
    model(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    state.keep()
    model(torch.tensor([[9.0, 9.0], [8.0, 8.0]]))
    state.restore()
    assert torch.equal(model.running_mean, after)


def test_a_column_is_the_sum_over_the_count_since_the_row_before_and_absent_where_nothing_counts() -> None:
    model = torch.nn.Linear(1, 1)
    steps = iter(range(1, 100))
    columns = {"mean": lambda batch: (float(next(steps)), 2), "absent": lambda batch: (torch.tensor(3.0), 0)}
    settings = OptimiserSettings(max_steps=5, log_every=2, batch_size=1)
    history = optimise(model, [1], pulled(model, **columns), settings, 0)
    assert [row["mean"] for row in history] == [(1 + 2) / 4, (3 + 4) / 4, 5 / 2]
    assert all("absent" not in row for row in history)


def test_a_learners_own_rule_stops_and_the_state_of_the_row_before_is_back() -> None:
    model = torch.nn.Linear(2, 2)
    seen: list[dict[str, float]] = []
    weights: list[torch.Tensor] = []

    def harm(row: dict[str, float]) -> str:
        weights.append(model.weight.detach().clone())
        return "it shrank" if row["step"] == 6 else ""

    settings = OptimiserSettings(max_steps=8, log_every=2, batch_size=1)
    message = r"^it shrank, at step 6 of 8; .* Lower learning_rate \(0\.002\), or pray\.$"
    with pytest.raises(TrainingStopped, match=message) as stopped:
        optimise(model, [1], pulled(model), settings, 0, seen.append, harm=harm, cure=", or pray")
    assert stopped.value.history == seen
    assert [row["step"] for row in seen] == [2, 4, 6]
    assert torch.equal(model.weight, weights[1])
    assert not torch.equal(model.weight, weights[2])


def test_a_weight_that_is_not_finite_stops_at_the_next_row() -> None:
    model = torch.nn.Linear(1, 1, bias=False)

    def spoil(row: dict[str, float]) -> None:
        if row["step"] == 2:
            model.weight.data.fill_(math.inf)

    before: list[float] = []
    settings = OptimiserSettings(max_steps=4, log_every=1, batch_size=1)
    with pytest.raises(TrainingStopped, match="a weight is not finite, at step 2 of 4"):
        optimise(
            model, [1], pulled(model), settings, 0,
            lambda row: (before.append(model.weight.item()) if row["step"] == 1 else None, spoil(row)),
        )  # fmt: skip
    assert model.weight.item() == before[0]


@pytest.mark.parametrize("dropout", [True, False])
def test_each_module_has_its_own_mode_back(dropout: bool) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(1))
    model.train()
    model[2].eval()
    seen = []

    def loss_of(batch: np.ndarray) -> BatchLoss:
        seen.append([module.training for module in model.modules()])
        return BatchLoss(model[0].weight.sum(), 1)

    optimise(model, [1], loss_of, OptimiserSettings(), 0, dropout=dropout)
    assert seen == [[dropout] * 4]
    assert [module.training for module in model.modules()] == [True, True, True, False]


def test_the_global_generators_are_as_they_were() -> None:
    model = torch.nn.Linear(1, 1)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    optimise(model, [1], pulled(model), OptimiserSettings(), 1)
    assert torch.rand(1) == expected
