"""TRL's own DPOTrainer on our pairs: the same tokens, losses and weights as ours, and what it refuses."""

import copy
import os
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from word_models import SHOP_WORDS

from branchwise.agents.language_model import LanguageModel
from branchwise.agents.prompting import all_turns, last_observation
from branchwise.agents.small_model import make_model, make_tokenizer
from branchwise.envs.play.transcript import acted, observed
from branchwise.search.extraction import PreferencePair
from branchwise.training import trl_trainer
from branchwise.training.preference import PreferenceSettings, train_step_dpo
from branchwise.training.rows import preference_rows
from branchwise.training.settings import SettingsError
from branchwise.training.trainer import TrainingStopped

PROMPT = (observed("goal red shirt"), acted("search[red shirt]"), observed("results page one two three"))
NUMBERS = ("one", "two", "three")
PAIRS = [
    PreferencePair(
        PROMPT if i % 2 else PROMPT[:1],
        (acted(f"click[{NUMBERS[i % 3]}]"),),
        (acted(f"click[{NUMBERS[(i + 1) % 3]} {NUMBERS[i % 2]}]"),),
    )
    for i in range(6)
]
EPISODES = PreferencePair(PROMPT[:1], (*PROMPT[1:], acted("click[one]")), (acted("search[page]"),), kind="trajectory")
SETTINGS = {"learning_rate": 5e-3, "beta": 0.3, "per_device_train_batch_size": 16, "logging_steps": 1}


def policy_of(history: Any = all_turns, seed: int = 0) -> LanguageModel:
    tokenizer = make_tokenizer(SHOP_WORDS)
    model = make_model(tokenizer, width=16, layers=2, heads=2, max_tokens=128, seed=seed)
    return LanguageModel(model, tokenizer, history=history)


def distance(a: torch.nn.Module, b: torch.nn.Module) -> float:
    return max(
        float((x - y).abs().max()) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize(
    ("history", "pairs"),
    [(all_turns, PAIRS), (last_observation, PAIRS), (all_turns, [*PAIRS, EPISODES])],
    ids=["steps", "last observation", "with an episode, whose observations are masked"],
)
def test_losses_and_weights_are_those_of_our_own_trainer(history: Any, pairs: list[PreferencePair]) -> None:
    """All rows in a batch, no warm-up: both schedules are half a cosine."""
    steps, rows = 6, {"ours": [], "trl": []}
    ours, theirs = policy_of(history), policy_of(history)
    settings = PreferenceSettings(
        learning_rate=5e-3, beta=0.3, sft_weight=0.0, warmup=0.0, max_steps=steps, batch_size=16, log_every=1
    )
    train_step_dpo(ours, pairs, settings, logged=False, progress=rows["ours"].append)
    more = {"max_steps": steps, "lr_scheduler_type": "cosine", "warmup_steps": 0}
    counts, last = trl_trainer.train_with_trl(theirs, pairs, {**SETTINGS, **more}, 0, rows["trl"].append)
    assert counts.rows == len(pairs)
    assert [row["step"] for row in rows["trl"]] == list(range(1, steps + 1))
    assert last == rows["trl"][-1]
    assert rows["trl"][0]["loss"] == pytest.approx(rows["ours"][0]["loss"], abs=1e-5)
    for one, other in zip(rows["ours"], rows["trl"], strict=True):
        for name in ("loss", "margin", "grad_norm"):
            assert other[name] == pytest.approx(one[name], abs=2e-4), name
    assert [row["accuracy"] for row in rows["trl"][1:]] == [row["accuracy"] for row in rows["ours"][1:]]  # first h = 0
    assert distance(ours.model, policy_of(history).model) > 0.01
    assert distance(ours.model, theirs.model) < 1e-4


def test_the_batch_has_our_tokens_and_masks_observations() -> None:
    policy = policy_of()
    rows, _ = preference_rows([PAIRS[1], EPISODES], policy.tokenizer)
    batch = trl_trainer._collate(0, [trl_trainer.trl_row(row) for row in rows])
    sides = [row.chosen[0] for row in rows] + [row.rejected[0] for row in rows]
    for number, segment in enumerate(sides):
        length = len(segment.input_ids)
        assert batch["input_ids"][number, :length].tolist() == list(segment.input_ids)
        assert batch["attention_mask"][number].sum() == length
        assert batch["completion_mask"][number, :length].tolist() == list(segment.input_mask)
        assert not batch["completion_mask"][number, length:].any()


def test_the_policy_and_the_world_are_as_they_were_but_for_the_weights() -> None:
    tokenizer = make_tokenizer(SHOP_WORDS)
    sizes = {"vocab_size": len(tokenizer), "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 128}
    torch.manual_seed(0)
    policy = LanguageModel(GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=3, eos_token_id=3)), tokenizer)
    policy.model.eval()
    before, config = copy.deepcopy(policy.model), policy.model.config.to_dict()

    def drawn() -> tuple[float, float, float]:
        return random.random(), np.random.rand(), torch.rand(1).item()

    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    expected = drawn()
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    trl_trainer.train_with_trl(policy, PAIRS, {**SETTINGS, "max_steps": 1})
    assert drawn() == expected
    assert distance(policy.model, before) > 0
    assert "forward" not in vars(policy.model)
    assert [module.p for module in policy.model.modules() if isinstance(module, torch.nn.Dropout)] == [0.1] * 4
    assert not policy.model.training
    assert policy.model.config.to_dict() == config


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    trl_trainer.train_with_trl(policy_of(), PAIRS, {**SETTINGS, "max_steps": 1})
    assert capfd.readouterr() == ("", "")
    assert "TQDM_DISABLE" not in os.environ


def test_a_reference_that_moves_along_is_one_of_trls_settings() -> None:
    """It needs a reference model of its own, a copy of the policy."""
    moving = {"precompute_ref_log_probs": False, "sync_ref_model": True, "ref_model_sync_steps": 1, "max_steps": 2}
    policy = policy_of()
    _, last = trl_trainer.train_with_trl(policy, PAIRS, {**SETTINGS, **moving})
    assert np.isfinite(last["loss"])


def test_other_pairs_are_scored_anew_though_they_are_as_many() -> None:
    """TRL keeps precomputed reference log-probabilities by the content of the data set."""
    swapped = [replace(pair, chosen=pair.rejected, rejected=pair.chosen) for pair in PAIRS]
    first = [
        trl_trainer.train_with_trl(policy_of(), pairs, {**SETTINGS, "max_steps": 1})[1] for pairs in (PAIRS, swapped)
    ]
    for row in first:
        assert row["loss"] == pytest.approx(np.log(2), abs=1e-5)
        assert row["margin"] == pytest.approx(0.0, abs=1e-5)


def test_an_adapter_is_trained_and_merged() -> None:
    peft = pytest.importorskip("peft")
    policy = policy_of()
    before = copy.deepcopy(policy.model)
    adapter = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=True)
    trl_trainer.train_with_trl(policy, PAIRS, {**SETTINGS, "max_steps": 4, "learning_rate": 0.05}, peft_config=adapter)
    moved = {
        name for name, value in policy.model.state_dict().items() if not torch.equal(value, before.state_dict()[name])
    }
    assert moved == {f"model.layers.{i}.self_attn.{p}_proj.weight" for i in range(2) for p in "qv"}


@pytest.mark.parametrize(
    ("pair", "history", "message"),
    [
        (replace(PAIRS[0], rejected=()), all_turns, r"pair 1 has no rejected side.*default trainer"),
        (EPISODES, last_observation, r"pair 1 has a side of 2 prompts.*all_turns"),
        (replace(PAIRS[0], weight=0.5), all_turns, r"pair 1 has weight=0\.5.*default trainer"),
        (replace(PAIRS[0], margin=0.5), all_turns, r"pair 1 has weight=1, margin=0\.5"),
        (replace(PAIRS[0], label_smoothing=0.1), all_turns, r"label_smoothing=0\.1"),
    ],
)
def test_what_trl_has_no_place_for_is_refused_with_the_cure(pair: Any, history: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trl_trainer.train_with_trl(policy_of(history), [PAIRS[0], pair], SETTINGS)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"lerning_rate": 1}, SettingsError, "unknown setting lerning_rate; did you mean 'learning_rate'"),
        ({"learning_rate": "fast"}, SettingsError, "learning_rate='fast' is str; expected float"),
        ({"remove_unused_columns": True}, SettingsError, "remove_unused_columns is not a setting here"),
        ({"max_length": 8}, ValueError, "max_length=8 would cut completions: the longest side has"),
    ],
)
def test_settings_that_would_not_do_are_named(settings: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        trl_trainer.train_with_trl(policy_of(), PAIRS, settings)


def test_a_run_that_ends_in_no_numbers_leaves_the_policy_alone() -> None:
    policy = policy_of()
    before = copy.deepcopy(policy.model)
    with pytest.raises(TrainingStopped, match=r"not finite; the model is as it was. Lower learning_rate \(1e\+38\)"):
        trl_trainer.train_with_trl(policy, PAIRS, {**SETTINGS, "learning_rate": 1e38, "max_steps": 3})
    assert distance(policy.model, before) == 0


def test_no_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="no pairs to train on"):
        trl_trainer.train_with_trl(policy_of(), [], SETTINGS)
