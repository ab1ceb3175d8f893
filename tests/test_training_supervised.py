"""Supervised training: exact masks, weights, determinism, the stop on a loss that is not a number."""

import copy
import math

import numpy as np
import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from branchwise.training.supervised import (
    SupervisedSettings,
    TrainingStopped,
    cosine_schedule,
    endless_batches,
    padded,
    projection,
    supervised_loss,
    token_logps,
    train_supervised,
)


def small_llama(seed: int = 0, vocab: int = 24) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=64,
            initializer_range=0.2,
        )
    )


def random_rows(count: int, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        length = int(rng.integers(4, 12))
        mask = [0, 0] + [int(x) for x in rng.integers(0, 2, length - 3)] + [1]
        rows.append({"input_ids": rng.integers(1, 24, length).tolist(), "mask": mask})
    return rows


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_loss_is_the_token_mean_of_the_models_own_cross_entropy() -> None:
    model, rows = small_llama(), random_rows(5)
    total, count = 0.0, 0
    for row in rows:
        ids = torch.tensor([row["input_ids"]])
        logps = torch.log_softmax(model(ids).logits[0], -1)
        for place in range(1, len(row["input_ids"])):
            if row["mask"][place]:
                total -= logps[place - 1, row["input_ids"][place]].item()
                count += 1
    loss, tokens = supervised_loss(projection(model), rows, torch.device("cpu"))
    assert tokens == count
    assert loss.item() == pytest.approx(total / count, abs=1e-5)


def test_rows_of_weight_zero_leave_loss_and_gradient_alone() -> None:
    model, rows = small_llama(), random_rows(3)
    extra = [*rows, {**random_rows(1, seed=9)[0], "weight": 0.0}]
    with_extra, _ = supervised_loss(projection(model), extra, torch.device("cpu"))
    without, _ = supervised_loss(projection(model), rows, torch.device("cpu"))
    assert with_extra.item() == pytest.approx(without.item(), abs=1e-6)


def test_gradient_of_the_logits_at_masked_out_tokens_is_exactly_zero() -> None:
    model = small_llama()
    row = {"input_ids": [3, 4, 5, 6, 7, 8], "mask": [0, 0, 1, 0, 0, 1]}
    ids, mask = padded([row["input_ids"]], [row["mask"]], torch.device("cpu"))
    logits = model(ids).logits
    logits.retain_grad()

    def project(_: torch.Tensor, flat: torch.Tensor) -> torch.Tensor:
        return logits.reshape(-1, logits.shape[-1])[flat]

    logps, _ = token_logps(project, ids, mask)
    (-logps.mean()).backward()
    assert logits.grad is not None
    moved = logits.grad[0].abs().sum(-1) > 0
    assert moved.tolist() == [False, True, False, False, True, False]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2"])
def test_projection_gives_the_models_own_logits(kind: str) -> None:
    torch.manual_seed(0)
    if kind == "llama":
        model = small_llama()
    elif kind == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(vocab_size=24, n_embd=16, n_layer=1, n_head=2, n_positions=32))
    else:  # caps its logits after the projection: the short way must not be taken
        model = Gemma2ForCausalLM(
            Gemma2Config(
                vocab_size=24,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=2,
                head_dim=8,
                final_logit_softcapping=0.5,
                initializer_range=0.5,
            )
        )
    model.eval()
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]])
    flat = torch.tensor([1, 2, 4])
    with torch.no_grad():
        expected = model(ids, attention_mask=(ids > 0).long()).logits.reshape(8, -1)[flat]
        assert torch.allclose(projection(model)(ids, flat), expected, atol=1e-5)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    rows, settings = random_rows(40), SupervisedSettings(batch_size=8, epochs=2)
    models = [small_llama() for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        torch.rand(3)  # the global generator must not matter
        train_supervised(model, rows, settings, seed)
    assert same_weights(models[0], models[1])
    assert not same_weights(models[0], models[2])


def test_it_learns_a_copying_task() -> None:
    rows = [{"input_ids": [1, a, b, 2, a, b], "mask": [0, 0, 0, 0, 1, 1]} for a in range(3, 13) for b in range(3, 13)]
    model = small_llama()
    seen: list[dict[str, float]] = []
    settings = SupervisedSettings(max_steps=300, batch_size=25, learning_rate=1e-2, log_every=100)
    history = train_supervised(model, rows, settings, seed=0, progress=seen.append)
    assert history == seen
    assert [row["step"] for row in history] == [100, 200, 300]
    assert history[0]["tokens"] == 100 * 25 * 2
    assert history[-1]["loss"] < 0.1 < history[0]["loss"]


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_last_good_state() -> None:
    rows = random_rows(8)
    model = small_llama()
    before = copy.deepcopy(model)
    broken = [{**row, "weight": math.inf} for row in rows]
    with pytest.raises(TrainingStopped, match="learning_rate") as stopped:
        train_supervised(model, broken, SupervisedSettings(batch_size=4), seed=0)
    assert stopped.value.step == 1
    assert same_weights(model, before)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "empty"),
        ([{"input_ids": [1, 2], "mask": [0]}], "row 0: 2 input_ids but 1"),
        ([{"input_ids": [1, 2], "mask": [1, 0]}], "row 0: mask trains no token"),
        ([{"input_ids": [1, 2], "mask": [0, 1], "weight": 0.0}], "weight of every row is 0"),
    ],
)
def test_rows_that_cannot_be_trained_are_named(rows: list[dict], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_supervised(small_llama(), rows, SupervisedSettings(), seed=0)


def test_an_epoch_of_batches_holds_every_row_once_and_like_lengths_together() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 230)
    batches = endless_batches(lengths, 10, np.random.default_rng(1))
    epoch = [next(batches) for _ in range(23)]
    assert sorted(np.concatenate(epoch).tolist()) == list(range(230))
    assert max(np.ptp(lengths[batch]) for batch in epoch) < 15


def test_cosine_schedule_at_its_corners() -> None:
    assert cosine_schedule(5, 100, 0.1) == pytest.approx(0.5)
    assert cosine_schedule(10, 100, 0.1) == pytest.approx(1.0)
    assert cosine_schedule(56, 100, 0.1) == pytest.approx(0.5)
    assert cosine_schedule(1, 10, 0.0) == pytest.approx(1.0)
