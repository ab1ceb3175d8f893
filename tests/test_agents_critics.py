import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from word_models import word_tokenizer

from branchwise.agents.critics import CriticEvaluator, ValueModel, without_last_action
from branchwise.agents.language_model import LanguageModel
from branchwise.envs.play.transcript import Transcript, acted, observed
from branchwise.search.evaluation import Leaf

WORDS = ["goal", "red", "blue", "page", "buy", "back", "1", "2", "3"]


def make_model() -> LanguageModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS) + 4,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=3,
        pad_token_id=0,
    )
    return LanguageModel(LlamaForCausalLM(config).eval(), word_tokenizer(WORDS), max_new_tokens=8)


def make_critic(**settings: Any) -> ValueModel:
    critic = ValueModel.from_language_model(make_model(), **settings)
    torch.manual_seed(1)
    torch.nn.init.normal_(critic.head.weight, std=0.1)
    return critic


FIRST: Transcript = (observed("goal red"),)
LATER: Transcript = (*FIRST, acted("buy"), observed("page 1 2 3"))
ACTIONS = ["back", "red blue", "red 1", "", "1"]


class OnePlayer:
    players = 1


class TwoPlayers:
    players = 2


def leaf(transcript: Transcript, simulator: Any = OnePlayer, terminal: bool = False) -> Leaf:
    return Leaf(simulator(), None, transcript, terminal, np.random.default_rng(0))


def naive_value(critic: ValueModel, transcript: Transcript) -> float:
    ids = torch.tensor([critic.ids(transcript)])
    with torch.no_grad():
        logit = critic(ids, torch.ones_like(ids))
    return critic.low + (critic.high - critic.low) * float(torch.sigmoid(logit.double()))


def test_a_fresh_critic_gives_the_middle_of_its_range() -> None:
    critic = ValueModel.from_language_model(make_model(), low=-1.0, high=3.0)
    np.testing.assert_allclose(critic.values([(*LATER, acted("back")), FIRST, ()]), 1.0)


def test_packed_action_values_equal_one_forward_an_action() -> None:
    critic = make_critic(low=-1.0, high=1.0)
    packed = critic.action_values([FIRST, LATER, FIRST], [ACTIONS, ACTIONS[:2], []])
    assert [len(values) for values in packed] == [5, 2, 0]
    for prompt, actions, values in zip([FIRST, LATER], [ACTIONS, ACTIONS[:2]], packed, strict=False):
        expected = [naive_value(critic, (*prompt, acted(action))) for action in actions]
        np.testing.assert_allclose(values, expected, atol=1e-5)
        np.testing.assert_allclose(critic.values([(*prompt, acted(a)) for a in actions]), expected, atol=1e-5)
    assert np.ptp(packed[0]) > 0.01


def test_a_leaf_is_valued_by_what_is_seen_there_unless_that_shows_the_outcome() -> None:
    critic = make_critic()
    evaluator = CriticEvaluator(critic)
    acting = (*LATER, acted("back"))
    seen = [(*acting, observed("red")), (*acting, observed("blue"))]
    states = evaluator.evaluate([leaf(transcript) for transcript in seen])[:, 0]
    np.testing.assert_allclose(states, [naive_value(critic, transcript) for transcript in seen], atol=1e-5)
    assert abs(states[0] - states[1]) > 1e-4
    ends = evaluator.evaluate([leaf(transcript, terminal=True) for transcript in seen])[:, 0]
    np.testing.assert_allclose(ends, naive_value(critic, acting), atol=1e-5)
    assert without_last_action(FIRST) == (FIRST, None)
    assert without_last_action(acting) == (LATER, "back")


def test_training_changes_values_towards_their_targets() -> None:
    critic = make_critic(low=-1.0, high=1.0)
    evaluator = CriticEvaluator(critic)
    transcripts = [(*FIRST, acted(action)) for action in ACTIONS]
    leaves = [leaf((*t, observed("page")), terminal=True) for t in transcripts]
    before = evaluator.evaluate(leaves)
    returns = torch.tensor([1.0, -1.0, 1.0, -1.0, 0.0])
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2)
    ids = [critic.ids(t) for t in transcripts]
    width = max(map(len, ids))
    tokens = torch.tensor([row + [0] * (width - len(row)) for row in ids])
    seen = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids])
    for _ in range(60):
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(critic(tokens, seen), critic.targets(returns))
        loss.backward()
        optimizer.step()
    after = evaluator.evaluate(leaves)
    np.testing.assert_allclose(after[:, 0], returns.numpy(), atol=0.15)
    assert np.abs(after - before).max() > 0.2


def test_an_evaluator_remembers_by_prompt_and_action() -> None:
    critic = make_critic()
    evaluator = CriticEvaluator(critic)
    ends = [(*FIRST, acted(action)) for action in ACTIONS]
    leaves = [leaf((*t, observed(f"page {i}")), terminal=True) for i, t in enumerate(ends)]
    leaves += [leaf(FIRST), leaf((*LATER, acted("back"), observed("red")))]
    values = evaluator.evaluate(leaves)
    assert values.shape == (7, 1)
    expected = critic.values([*ends, FIRST, leaves[-1].transcript])
    np.testing.assert_allclose(values[:, 0], expected, atol=1e-6)
    assert evaluator.computed == 7
    np.testing.assert_array_equal(evaluator.evaluate(leaves[::-1]), values[::-1])
    assert (evaluator.calls, evaluator.computed) == (14, 7)
    assert evaluator.evaluate([]).shape == (0, 1)


def test_a_critic_judges_one_player() -> None:
    with pytest.raises(ValueError, match=r"TwoPlayers has 2 players; .* whose returns are opposite \(zero_sum\)"):
        CriticEvaluator(make_critic()).evaluate([leaf(FIRST, TwoPlayers)])


def test_a_saved_critic_loads_with_equal_values(tmp_path: Path) -> None:
    critic = make_critic(low=-1.0, high=2.0, history="last_observation")
    transcripts = [(*LATER, acted(action)) for action in ACTIONS]
    expected = critic.values(transcripts)
    folder = critic.save(tmp_path / "critic")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = ValueModel.load(folder)
    np.testing.assert_array_equal(loaded.values(transcripts), expected)
    assert loaded.history is critic.history
    assert [p.name for p in tmp_path.iterdir()] == ["critic"]


def test_a_critic_starts_from_a_language_models_folder_and_leaves_the_model_alone(tmp_path: Path) -> None:
    model = make_model()
    folder = model.save(tmp_path / "model")
    a, b = ValueModel.from_language_model(folder), ValueModel.from_language_model(model)
    for one, other in zip(a.base.parameters(), b.base.parameters(), strict=True):
        assert torch.equal(one, other)
    with torch.no_grad():
        next(b.base.parameters()).zero_()
    assert next(model.model.parameters()).detach().abs().max() > 0
    with pytest.raises(FileNotFoundError, match=r"no value_model\.json.*from_language_model"):
        ValueModel.load(folder)
    with pytest.raises(ValueError, match=r"low=1\.0 and high=0\.0"):
        ValueModel.from_language_model(model, low=1.0, high=0.0)


def test_long_and_hostile_transcripts_are_valued() -> None:
    critic = make_critic()
    values = critic.values([(observed("goal " * 500), acted("buy " * 500)), (observed("\ud800"), acted("\x00"))])
    assert np.isfinite(values).all()
    assert critic.counts["cut_candidates"] == 1
