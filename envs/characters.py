"""The characters that texts of environments may have: those of the declared spaces (``shells.UnicodeText``).

They are the assigned characters of Unicode's basic plane and the emoji. What players, pages and files write may have
others, such as the letters of mathematical alphabets and rare ideographs (``𠮷``); whoever shows such a text passes it
through :func:`within_planes`. Not handled here: control characters, surrogates and unassigned code points, which
``str.isprintable`` knows, and which each environment replaces in its own way.
"""

import re
from typing import Final

PLANES: Final = (range(0x20, 0xFFFE), range(0x1F000, 0x1FB00))
"""The code points from which the characters are taken."""
_BEYOND: Final = re.compile("[\ufffe-\U0001efff\U0001fb00-\U0010ffff]")


def within_planes(text: str) -> str:
    """``text`` with ``\\ufffd`` for each character outside of :data:`PLANES`; control characters stay.

    >>> within_planes("𠮷田 👕") == "\\ufffd田 👕"
    True
    """
    return text if text.isascii() else _BEYOND.sub("\ufffd", text)
