"""A small causal language model made from scratch: tokenizer, configuration, weights.

It lets the whole way of the data run on two cores, offline, in minutes; it is saved and loaded like any Hugging Face
folder, so nothing above this file knows that it is small. The architecture is Llama's (rotary positions, RMS norm,
SwiGLU).

Weights are drawn from N(0, 1/width): at width 64 the usual standard deviation of 0.02 leaves attention too flat to
learn to copy within minutes (94 % against 34 % of an expert's success after the same time, measured on a shop of this
kind).

Rotary positions turn with base 100: pages are short, and with the usual 10,000 the heads that look at the token
before take several times as many rows to form.

The tokenizer is word-level: known words are one token, also those with signs in them (``click[``, ``#3``), digits come
one by one, and any other word is spelled by its characters, so no English text is unknown (a word with a letter beyond
a to z, or of more than 64 letters, is). Text is lower-cased and white space folded.
"""

import re
from collections.abc import Iterable

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}<act>{{ message['content'] }}<end>"
    "{% else %}{{ message['content'] }}\n{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<act>{% endif %}"
)
SPECIAL = ("<pad>", "<unk>", "<act>", "<end>")
PIECES = r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]"
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~…–—’“”|›"


def make_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """A word-level tokenizer over ``words`` (lower-case; words with signs in them, and phrases of several words too),
    characters for all others."""
    known = sorted({word.lower() for word in words})
    signed = [word for word in known if " " not in word and not word.isalpha() and len(word) > 1]
    whole = [_whole(word) for word in sorted(signed, key=len, reverse=True)]
    pieces = dict.fromkeys((*SPECIAL, *CHARACTERS))
    pieces.update(dict.fromkeys(f"##{c}" for c in CHARACTERS if c.isalnum()))
    pieces.update(dict.fromkeys(word for word in known if " " not in word))
    core = Tokenizer(
        models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>", max_input_chars_per_word=64)
    )
    core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    core.pre_tokenizer = pre_tokenizers.Split(Regex("|".join((*whole, PIECES))), behavior="removed", invert=True)
    core.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    core.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in known if " " in word])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<end>",
        additional_special_tokens=["<act>"],
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _whole(word: str) -> str:
    """A pattern of ``word`` that is no part of a longer word or number."""
    before = r"(?<![\p{L}\p{N}])" if word[0].isalnum() else ""
    after = r"(?![\p{L}\p{N}])" if word[-1].isalnum() else ""
    return before + re.escape(word) + after


def make_model(
    tokenizer: PreTrainedTokenizerFast,
    *,
    width: int = 64,
    layers: int = 3,
    heads: int = 4,
    max_tokens: int = 512,
    seed: int = 0,
) -> LlamaForCausalLM:
    """A Llama of ``layers`` × ``width`` with tied embeddings, its weights drawn from ``seed``; float32, on the CPU.

    Raises ``ValueError`` where ``width`` does not divide into ``heads`` of an even size, as rotary positions need.
    """
    if width % (2 * heads):
        raise ValueError(
            f"width={width} does not divide into heads={heads} of an even size; "
            f"take a multiple of {2 * heads}, such as {heads * 16}"
        )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=max_tokens,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},
        initializer_range=width**-0.5,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    return model.eval()
