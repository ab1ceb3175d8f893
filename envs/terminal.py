"""Text of strangers on a terminal or a page: what a terminal would obey, and what cannot be seen, is made visible.

Actions that a model proposed, observations, names of files and recipes may hold escape sequences (which move the
cursor, rename the window or hide what follows), marks that turn the direction of reading around, and characters without
width that make two names look alike. Each becomes U+FFFD, the replacement character. What is replaced: C0 and C1
controls but for tab and line feed (ECMA-48), marks of direction (Unicode UAX #9), characters without width but for the
two joiners that scripts and emoji need, line separators, tags, and lone surrogates, which no output can encode.

What it does not do: escape markup; HTML and rich do that themselves. Files keep texts as they are.
"""

import re
import textwrap
from typing import Final

NARROWEST: Final = 40
"""Columns that a terminal is taken to have at least: below, no table can be read."""

_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def printable(text: str) -> str:
    """``text`` that is safe to print; lines and tabs stay.

    >>> printable("click[\\x1b[2Jbuy \\u202enow]")
    'click[�[2Jbuy �now]'
    """
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)


def printable_line(text: str) -> str:
    """``text`` that is safe to print, on one line, runs of blanks as one blank.

    >>> printable_line("two\\n  lines\\r\\n")
    'two lines'
    """
    return printable(" ".join(text.split()))


def wrapped(text: str, columns: int) -> str:
    """``text`` in lines of at most ``columns`` (and at least :data:`NARROWEST`), broken between words alone; a number
    and its unit, joined by a space that does not break, are one word.

    >>> print(wrapped("of forty columns that a terminal has: 4.7\u202fs", 1))
    of forty columns that a terminal has:
    4.7\u202fs
    """
    width = max(columns, NARROWEST)
    return "\n".join(
        line
        if len(line) <= width
        else textwrap.fill(line, width, replace_whitespace=False, break_long_words=False, break_on_hyphens=False)
        for line in text.split("\n")
    )
