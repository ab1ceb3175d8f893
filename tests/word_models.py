"""Words and tokenizers that tests of models share."""

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SHOP_WORDS = (
    *("goal", "red", "shirt", "results", "page", "item", "buy"),
    *("now", "search", "click", "search[", "click[", "one", "two", "three", "done"),
)
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<act> {{ m.content }} <end> "
    "{% else %}{{ m.content }} {% endif %}{% endfor %}{% if add_generation_prompt %}<act> {% endif %}"
)


def word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """One token a word, parted by blanks; 0 fills up, 3 ends a turn. Made without the package's own tokenizer, as a
    stranger's would be."""
    tokens = ["<pad>", "<unk>", "<act>", "<end>", *words]
    core = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<end>",
        additional_special_tokens=["<act>"],
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer
