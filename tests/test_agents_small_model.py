"""The model made from scratch: no unknown words on the pages it is for, a stable template, weights by seed."""

import string
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from branchwise.agents.language_model import LanguageModel
from branchwise.agents.small_model import make_model, make_tokenizer
from branchwise.envs.simulator import TERMINAL
from branchwise.envs.web_shop.rules import WebShopSimulator

SHOP = WebShopSimulator(products=200, observation_mode="compact")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer([*SHOP.lexicon(), "slim fit"])


def pages(goals: int) -> list[str]:
    """Pages of every kind, and the actions between them."""
    texts = []
    for goal in range(goals):
        state = SHOP.reset(0, {"goal": goal})
        wanted = SHOP.goal(state)
        texts.append(SHOP.observation(state))
        actions = [f"search[{wanted.query}]", "click[#3]", *("click[features]", "click[< prev]", "click[reviews]")]
        actions += [
            "click[< prev]",
            "nonsense",
            "click[< prev]",
            "click[next >]",
            "click[back to search]",
            "search[zzz]",
        ]
        actions += ["click[back to search]", f"search[{wanted.name}]", f"click[{wanted.asin}]", "click[buy now]"]
        for action in actions:
            state = SHOP.step(state, action)
            texts += [action, SHOP.observation(state)]
        assert SHOP.current_player(state) == TERMINAL
    return texts


def test_no_text_is_unknown_and_pages_are_a_token_a_word(tokenizer: PreTrainedTokenizerFast) -> None:
    for text in pages(25):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id not in ids
    results = SHOP.observation(SHOP.step(SHOP.reset(0, {"goal": 0}), f"search[{SHOP.goals[0].query}]"))
    assert len(tokenizer(results)["input_ids"]) <= len(results.split()) + 6
    for odd in ('6.5" | wide', "xnj-tshirt348", "L.BROWN2060", string.printable, "ﬁne “quotes” – …"):
        assert "<unk>" not in tokenizer.tokenize(odd)
    assert tokenizer.tokenize("naïve red") == ["<unk>", "red"]


def test_pieces(tokenizer: PreTrainedTokenizerFast) -> None:
    cases = {
        "search[Slim fit  Shirt]": ["search[", "slim fit", "shirt", "]"],
        "click[#10]\n#3 all under $40 seen": ["click[", "#10", "]", "#3", "all", "under", "$40", "seen"],
        "steps 15": ["steps", "1", "5"],
        "qzx": ["q", "##z", "##x"],
    }
    for text, pieces in cases.items():
        assert tokenizer.tokenize(text) == pieces
    assert tokenizer.decode(tokenizer("click[back to search]")["input_ids"]) == "click[ back to search ]"


def test_the_tokenizer_survives_its_folder(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert loaded.chat_template == tokenizer.chat_template
    for name in ("pad_token_id", "unk_token_id", "eos_token_id"):
        assert getattr(loaded, name) == getattr(tokenizer, name) is not None
    for text in [*pages(3), "slim fit <act>click[#1]<end>", "qzx 6.5"]:
        ids = tokenizer(text)["input_ids"]
        assert loaded(text)["input_ids"] == ids
        assert loaded.decode(ids) == tokenizer.decode(ids)


def test_every_conversation_s_ids_begin_with_those_of_its_beginning(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = []
    before: list[int] = []
    act, end = tokenizer.convert_tokens_to_ids(["<act>", "<end>"])
    for place, text in enumerate(pages(1)):
        messages.append({"role": "assistant" if place % 2 else "user", "content": text})
        ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
        assert ids[: len(before)] == before
        assert len(ids) > len(before)
        prompt = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, add_generation_prompt=True)
        assert prompt == [*ids, act]
        if place % 2:
            assert (ids[len(before)], ids[-1]) == (act, end)
            assert ids[len(before) + 1 : -1] == tokenizer(text)["input_ids"]
        before = ids
    assert before.count(act) == before.count(end) == len(messages) // 2


def test_weights_are_a_function_of_the_seed_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = make_model(tokenizer, width=32, layers=2, heads=2, seed=7)
    assert torch.equal(torch.rand(3), expected)  # the caller's generator is as it was
    torch.manual_seed(2)
    again, other = (make_model(tokenizer, width=32, layers=2, heads=2, seed=seed) for seed in (7, 8))
    weights, same, different = (dict(model.named_parameters()) for model in (first, again, other))
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert not any(torch.equal(weights[name], different[name]) for name in weights if weights[name].dim() == 2)
    assert not first.training
    drawn = torch.cat([weight.flatten() for weight in weights.values() if weight.dim() == 2])
    assert drawn.std().item() == pytest.approx(32**-0.5, rel=0.02)
    assert first.lm_head.weight is first.model.embed_tokens.weight
    assert first.config.num_hidden_layers == 2


def test_a_width_that_does_not_divide_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    for width in (50, 36):
        message = f"width={width} does not divide into heads=4 of an even size; take a multiple of 8, such as 64"
        with pytest.raises(ValueError, match=message):
            make_model(tokenizer, width=width, heads=4)


def test_a_saved_model_gives_the_same_logits(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model = make_model(tokenizer, width=32, layers=2, heads=2)
    LanguageModel(model, tokenizer).save(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = tokenizer(SHOP.observation(SHOP.reset(0)), return_tensors="pt")["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits, rtol=0, atol=0)
