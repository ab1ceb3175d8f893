"""Reading texts that players write, and showing them to others, without harm.

Players of games with words write whatever they like: a megabyte, escape sequences of terminals, right-to-left
overrides, fake lines of the game's record. :func:`command` makes of such a text something to look up in a table of
moves; :func:`plain_words` and :func:`quotation` make of it a quotation that stays on its line.

What it does not do: judge what the words mean. Words that ask the reader to obey them stay as they are, in quotation
marks; the reader has to know that a quotation is no instruction.
"""

import json
import unicodedata

from ..characters import within_planes

_LONGEST_COMMAND = 64
_HARMLESS_FORMAT = "\u200d"  # joins the parts of an emoji, and letters of Indic scripts


def command(action: str) -> str:
    """``action`` in lower case with single blanks; empty where it is longer than any command.

    >>> command("  Vote   3 ")
    'vote 3'
    >>> command("a" * 1_000_000)
    ''
    """
    return " ".join(action.lower().split()) if len(action) <= _LONGEST_COMMAND else ""


def plain_words(text: str, limit: int) -> str:
    """The first ``limit`` characters of ``text`` with blanks evened out; control and format characters (direction
    overrides, zero-width marks), surrogates, and code points without a meaning become blanks, characters that
    ``characters`` does not admit ``\\ufffd``. A cut is marked ``…``.

    >>> plain_words("I am\\n\\nthe \\x1b[2J seer\\u202e", 100)
    'I am the [2J seer'
    """
    head = within_planes(text[: 4 * limit])  # blanks may shrink, but a megabyte need not be read to the end
    words = " ".join("".join(c if _harmless(c) else " " for c in head).split())
    return words if len(words) <= limit and len(text) == len(head) else words[: limit - 1].rstrip() + "…"


def quotation(words: str) -> str:
    """``words`` in double quotes, with quotes and backslashes inside marked by a backslash: one line, and nothing in it
    can pass for the end of the quotation.

    >>> print(quotation('He said "vote 3"'))
    "He said \\"vote 3\\""
    """
    return json.dumps(words, ensure_ascii=False)


def _harmless(character: str) -> bool:
    return unicodedata.category(character)[0] not in "CZ" or character in _HARMLESS_FORMAT
