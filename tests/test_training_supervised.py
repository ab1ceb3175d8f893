"""Supervised training: exact masks, weights, determinism, the stop on a loss that is not a number."""

import copy
import math

import numpy as np
import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from branchwise.training.batches import padded, projection, token_logps
from branchwise.training.supervised import SupervisedSettings, supervised_loss, train_supervised
from branchwise.training.trainer import (
    TrainingStopped,
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


def test_weights_are_a_weighted_mean_over_tokens() -> None:
    model, device = small_llama(), torch.device("cpu")
    rows = [{**row, "weight": weight} for row, weight in zip(random_rows(2), (0.5, 3.0), strict=True)]
    (one, n), (other, m) = (supervised_loss(projection(model), [row], device) for row in rows)
    assert n != m
    both, _ = supervised_loss(projection(model), rows, device)
    expected = (0.5 * n * one.item() + 3 * m * other.item()) / (0.5 * n + 3 * m)
    assert both.item() == pytest.approx(expected, abs=1e-5)
    unweighted = {name: value for name, value in rows[1].items() if name != "weight"}
    both, _ = supervised_loss(projection(model), [rows[0], unweighted], device)
    assert both.item() == pytest.approx((0.5 * n * one.item() + m * other.item()) / (0.5 * n + m), abs=1e-5)
    small, _ = supervised_loss(projection(model), [{**rows[0], "weight": 1e-6}], device)
    assert small.item() == pytest.approx(one.item(), abs=1e-5)


def test_a_batch_of_weight_zero_has_the_loss_zero() -> None:
    rows = [{**row, "weight": 0.0} for row in random_rows(2)]
    assert supervised_loss(projection(small_llama()), rows, torch.device("cpu"))[0].item() == 0.0


def test_the_first_token_of_a_row_is_never_learned() -> None:
    ids, mask = padded([[1, 2, 3], [4]], [[1, 0, 1], [1]], torch.device("cpu"))
    assert ids.tolist() == [[1, 2, 3], [4, 0, 0]]
    assert mask.tolist() == [[False, False, True], [False] * 3]


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
    assert str(stopped.value).startswith("the loss was nan")
    assert same_weights(model, before)


def test_training_leaves_the_callers_mode_and_generator_alone_and_seeds_dropout() -> None:
    def dropping() -> GPT2LMHeadModel:
        torch.manual_seed(0)
        return GPT2LMHeadModel(GPT2Config(vocab_size=24, n_embd=16, n_layer=1, n_head=2, n_positions=32))

    rows, settings, models = random_rows(8), SupervisedSettings(batch_size=8), [dropping(), dropping()]
    for model, training in zip(models, (True, False), strict=True):
        model.train(training)
        torch.manual_seed(5 + training)
        expected = torch.rand(1)
        torch.manual_seed(5 + training)
        train_supervised(model, rows, settings, seed=1)
        assert torch.rand(1) == expected
        assert model.training is training
    assert same_weights(*models)
    undropped = dropping()
    for module in undropped.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    train_supervised(undropped, rows, settings, seed=1)
    assert not same_weights(undropped, models[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_mask_of_packed_rows_is_read_by_a_model_of_any_type(dtype: torch.dtype) -> None:
    """Two rows of one prompt, packed: the second answer does not see the first."""
    model = small_llama().to(dtype).eval()
    plain, packed = torch.tensor([[1, 2, 3], [1, 2, 4]]), torch.tensor([[1, 2, 3, 4]])
    hidden = torch.ones(4, 4, dtype=torch.bool).triu(1)
    hidden[3, 2] = True
    mask = torch.zeros(1, 1, 4, 4).masked_fill(hidden, torch.finfo(torch.float32).min)
    with torch.no_grad():
        expected = projection(model)(plain, torch.tensor([1, 2, 5]))
        places = torch.tensor([[0, 1, 2, 2]])
        found = projection(model)(packed, torch.tensor([1, 2, 3]), attention_mask=mask, position_ids=places)
    assert found.dtype == dtype
    assert torch.allclose(found, expected, atol=1e-6 if dtype == torch.float64 else 0.05)


class NoHead(LlamaForCausalLM):
    """It has logits, and does not say by which module."""

    def get_output_embeddings(self) -> None:
        return None


def test_a_model_without_an_output_module_is_projected_whole() -> None:
    model, same = small_llama(), small_llama()
    same.__class__ = NoHead
    rows = random_rows(5)
    expected, found = (supervised_loss(projection(m), rows, torch.device("cpu")) for m in (model, same))
    assert found[0].item() == pytest.approx(expected[0].item(), abs=1e-6)
    assert found[1] == expected[1]


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


def test_a_seed_that_some_stage_could_not_take_is_refused() -> None:
    with pytest.raises(ValueError, match="seed=4294967296; expected a whole number from 0 to 4294967295"):
        train_supervised(small_llama(), random_rows(2), SupervisedSettings(max_steps=1), seed=2**32)
    train_supervised(small_llama(), random_rows(2), SupervisedSettings(max_steps=1), seed=2**32 - 1)


def test_rows_that_train_their_second_token_alone_or_have_no_weight_stand_beside_others() -> None:
    rows = [{"input_ids": [1, 2], "mask": [0, 1]}, {"input_ids": [1, 2, 3], "mask": [0, 1, 0], "weight": 0.0}]
    (told,) = train_supervised(small_llama(), rows, SupervisedSettings(), seed=0)
    assert told["tokens"] == 2
