"""A text as a picture, for whoever asks an environment for ``render_mode="rgb_array"``: recorders of videos, viewers,
training libraries.

A screen of 25 lines of 80 characters, always of the same size, as recorders need. Each character is one of the 5 × 7
dot-matrix letters of character displays; long lines are wrapped, and the last line says how many do not fit. Not
handled here: letters beyond ASCII, which are shown by their nearest one (``é`` as ``e``), or as a block.
"""

import textwrap
import unicodedata
from functools import cache

import numpy as np

LINES, COLUMNS = 25, 80
_CELL = (10, 6)  # dots of a character's place: lines and columns
_SCALE = 2
_MARGIN = 1  # dots above a letter
_PAPER, _INK = 255, 24  # grey
_FIRST, _BLOCK = 32, 95
_ALIKE = str.maketrans("–—−‘’“”…·×›→", "---''\"\"..x>>")
# The letters from the blank to the tilde: five columns each, a byte a column, the lowest bit at the top.
_LETTERS = bytes.fromhex(
    """
    0000000000 00005F0000 0007000700 147F147F14 242A7F2A12 2313086462 3649562050 0008070300 001C224100 0041221C00
    2A1C7F1C2A 08083E0808 0080703000 0808080808 0000606000 2010080402 3E5149453E 00427F4000 7249494946 2141494D33
    1814127F10 2745454539 3C4A494931 4121110907 3649494936 464949291E 0000140000 0040340000 0008142241 1414141414
    0041221408 0201590906 3E415D594E 7C1211127C 7F49494936 3E41414122 7F4141413E 7F49494941 7F09090901 3E41415173
    7F0808087F 00417F4100 2040413F01 7F08142241 7F40404040 7F021C027F 7F0408107F 3E4141413E 7F09090906 3E4151215E
    7F09192946 2649494932 03017F0103 3F4040403F 1F2040201F 3F4038403F 6314081463 0304780403 6159494D43 007F414141
    0204081020 004141417F 0402010204 4040404040 0003070800 2054547840 7F28444438 3844444428 384444287F 3854545418
    00087E0902 18A4A49C78 7F08040478 00447D4000 2040403D00 7F10284400 00417F4000 7C04780478 7C08040478 3844444438
    FC18242418 18242418FC 7C08040408 4854545424 04043F4424 3C4040207C 1C2040201C 3C4030403C 4428102844 4C9090907C
    4464544C44 0008364100 0000770000 0041360800 0201020402
    """
)


@cache
def _dots() -> np.ndarray:
    """The dots of all letters and of the block: uint8 ``[96, 10, 6]``, 1 where there is ink."""
    columns = np.frombuffer(_LETTERS, np.uint8).reshape(-1, 5)
    dots = np.zeros((len(columns) + 1, *_CELL), np.uint8)
    dots[:-1, _MARGIN : _MARGIN + 8, :5] = np.unpackbits(columns[:, :, None], axis=2, bitorder="little").swapaxes(1, 2)
    dots[_BLOCK, _MARGIN : _MARGIN + 7, :5] = 1
    return dots


def text_image(text: str) -> np.ndarray:
    """``text`` as a picture: uint8 ``[500, 960, 3]``.

    >>> text_image("x to move").shape
    (500, 960, 3)
    """
    lines: list[str] = []
    for line in text.expandtabs(4).split("\n"):
        lines += textwrap.wrap(line, COLUMNS, replace_whitespace=False) or [""]
    if len(lines) > LINES:
        lines[LINES - 1 :] = [f"... {len(lines) - LINES + 1} more lines"]
    places = np.zeros((LINES, COLUMNS), np.intp)
    for row, line in enumerate(lines):
        places[row, : len(line)] = [_number(character) for character in line]
    height, width = _CELL
    dots = _dots()[places].swapaxes(1, 2).reshape(LINES * height, COLUMNS * width)
    grey = np.where(dots, np.uint8(_INK), np.uint8(_PAPER))
    large = np.broadcast_to(grey[:, None, :, None, None], (len(grey), _SCALE, grey.shape[1], _SCALE, 3))
    return large.reshape(len(grey) * _SCALE, grey.shape[1] * _SCALE, 3)


@cache
def _number(character: str) -> int:
    """Which letter shows ``character``."""
    near = unicodedata.normalize("NFKD", character.translate(_ALIKE))[0]
    return ord(near) - _FIRST if " " <= near <= "~" else _BLOCK
