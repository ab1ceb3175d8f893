"""Reads an answer: from LaTeX or plain text to a small tree of numbers, expressions and what holds them.

Every spelling of one thing gives one tree, and different things give different trees, so that comparing trees decides
most answers without computer algebra (``grading.py``):

| kind | content | spelt, for example |
|---|---|---|
| number | ``Fraction`` | ``1,234.50``, ``\\frac1{72}``, ``1\\frac12``, ``2.88 \\times 10^{-19}``, ``0.\\overline{3}`` |
| base | (digits, base) | ``1010_2`` |
| colon | the numbers | ``12:30``, ``3:2`` |
| expression | text in one spelling | ``2\\sqrt{3}``, ``x^2+1`` |
| words | lower-case words | ``\\text{even}``, ``\\text{(B)}`` |
| list | items | ``2,-2``, ``\\pm 2``, ``2 \\text{ or } {-2}``, ``\\{2,-2\\}`` |
| sequence | items in order, with dots | ``1,2,\\ldots,10`` |
| ``(,)``, ``[,)``, … | items in order | tuples and intervals |
| union | items | ``(0,1) \\cup (2,3)`` |
| matrix | rows | ``pmatrix``, ``bmatrix``, ``array`` |
| relation | (sides, signs) with ``<`` and ``\\le`` alone | ``x \\le 5``, ``5 \\ge x`` |

What it does not do: compare, simplify, or correct. What it cannot read is ``None``.
"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final, NamedTuple

_DIGITS: Final = 400  # characters; a longer number is no answer
_FLOATING: Final = 15  # significant digits of a decimal that binary arithmetic may have printed

# ---- one spelling ------------------------------------------------------------------------------------------------

_SIGNS: Final = str.maketrans(
    {
        **{"\u2212": "-", "\u2013": "-", "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u2018": "'", "\u2019": "'"},
        **{"×": "\\times ", "·": "\\cdot ", "÷": "/", "π": "\\pi ", "∞": "\\infty ", "√": "\\sqrt ", "±": "\\pm "},
        **{"≤": "\\le ", "≥": "\\ge ", "≠": "\\ne ", "°": "^\\circ ", "∪": "\\cup ", "∈": "\\in ", "…": "\\ldots "},
        **{"½": "\\frac{1}{2}", "¼": "\\frac{1}{4}", "¾": "\\frac{3}{4}"},
    }
)
_OTHER_DIGIT: Final = re.compile(r"[^\D0-9]")
_RAISED: Final = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_GREEK: Final = r"\\(?:alpha|beta|gamma|delta|theta|lambda|mu|pi|rho|sigma|tau|phi|omega)(?![a-zA-Z])"
_SPELLINGS: Final = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits)(?![a-zA-Z])\.?", ""),
        (r"\{,\}", ","),
        (r"(?<=[\d,])\s*\\[!,]\s*(?=\d)", ""),  # thin spaces within a number: 11,\! 111
        (r"(?<!\\)\\[!,:;> ]|~|\\q?quad(?![a-zA-Z])|\\hspace\{[^{}]*\}", " "),
        (r"\\\$", "$"),
        (r"\\%", "%"),
        (r"\\degrees?(?![a-zA-Z])", r"^\\circ "),
        (r"\\leq(?:slant|q)?(?![a-zA-Z])|<=|=<", r"\\le "),
        (r"\\geq(?:slant|q)?(?![a-zA-Z])|>=", r"\\ge "),
        (r"\\neq(?![a-zA-Z])|!=", r"\\ne "),
        (r"\\lt(?![a-zA-Z])", "<"),
        (r"\\gt(?![a-zA-Z])", ">"),
        (r"\\lbrace(?![a-zA-Z])", r"\\{"),
        (r"\\rbrace(?![a-zA-Z])", r"\\}"),
        (r"\\(?:cdots|dots|dotsc|dotsb)(?![a-zA-Z])|\.{3}", r"\\ldots "),
        (r"\\(?:varnothing)(?![a-zA-Z])", r"\\emptyset"),
        (r"\\(?:mathrm|mathit|rm)\s*(?:\{\s*([ei])\s*\}|([ei])(?![a-zA-Z]))", r"{\1\2}"),  # constants, upright
        (r"(?<=\d)\s*[xX]\s*(?=10\^)", r"\\times "),  # 3x10^8
        (r"\\(?:mathrm|mathbf|mathit|textbf|textit|textrm|textnormal|mbox|rm)(?=\{)", r"\\text"),
        (r"\*\*", "^"),
        (r"(?<![a-zA-Z\\])(sqrt|pi)(?![a-zA-Z])", r"\\\1 "),
        (r"\\sqrt\s*([0-9a-zA-Z])", r"\\sqrt{\1}"),
        (rf"\\frac\s*([0-9a-zA-Z]|{_GREEK})", r"\\frac{\1}"),
        (rf"(\\frac\s*\{{(?:[^{{}}]|\{{[^{{}}]*\}})*\}})\s*([0-9a-zA-Z]|{_GREEK})", r"\1{\2}"),
        (r"\^\s*\{\s*\\circ\s*\}", r"^\\circ "),
        (r"\s+", " "),
    )
)
_TEXT: Final = re.compile(r"\\text\{([^{}]*)\}")
_ARGUMENT: Final = re.compile(r"(\\sqrt|\^)\s*\(")
DERIVATIVE: Final = re.compile(r"[a-df-zA-Z]\^\{\((?:\d+|[a-z])\)\}")
"""``f^{(2)}``, ``y^{(n)}``: most often no power."""
_FUNCTION: Final = re.compile(
    r"(?<![a-zA-Z\\])(arc(?:sin|cos|tan)|(?:sin|cos|tan)h?|sec|csc|cot|log|ln|exp)(?=[(^_])"  # exp(2), log_2(9)
)
_BLANK: Final = re.compile(r"(?<![a-zA-Z\d,]) +| +(?![a-zA-Z\d])|(?<=[a-zA-Z]) +(?=\d)|(?<=\d) +(?=[a-zA-Z])")


@lru_cache(maxsize=4096)
def spelt(text: str) -> str:
    """``text`` in one spelling: no dollar signs around it, no blanks that mean nothing, one name for each command, and
    the decimal digits of all scripts as ``0`` to ``9``.

    >>> spelt(r"\\dfrac 1{72}"), spelt(r"11,\\! 111"), spelt(r"x \\leq - 3"), spelt(r"\\text{two  words}")
    ('\\\\frac{1}{72}', '11,111', 'x\\\\le-3', '\\\\text{two words}')
    """
    text = _OTHER_DIGIT.sub(lambda digit: str(int(digit[0])), text.strip())
    for left, right in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        if len(text) > len(left + right) and text.startswith(left) and text.endswith(right) and text[-2:] != "\\$":
            text = text[len(left) : -len(right)].strip()
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+", _raised, text.translate(_SIGNS))
    for pattern, plain in _SPELLINGS:
        text = pattern.sub(plain, text)
    text = _braced(text)
    # Blanks inside \text{…} are kept, one of several; outside they are kept between letters, between digits, and after
    # a comma before a digit, where they say that it is no comma of thousands.
    parts = re.split(r"(\\text\{[^{}]*\})", text)
    parts[::2] = [_FUNCTION.sub(r"\\\1", _BLANK.sub("", part)) for part in parts[::2]]
    parts[1::2] = [part.replace("{ ", "{").replace(" }", "}") for part in parts[1::2]]
    return re.sub(r"(?<=[^.])\.$|(?<=\d)[,;]$", "", "".join(parts).strip())


def _braced(text: str) -> str:
    """``e^(2x)`` as ``e^{2x}``, and ``\\sqrt(2)`` as ``\\sqrt{2}``, innermost first. ``f^(2)``, which may be a
    derivative, keeps its brackets: ``f^{(2)}``."""
    for found in reversed([*_ARGUMENT.finditer(text)]):
        start = found.end() - 1
        end = _closing(text, start)
        if end > 0 and text[end] == ")":
            inner = f"{{({text[start + 1 : end]})}}"
            if DERIVATIVE.match(f"{text[: found.start()][-1:]}^{inner}") is None:
                inner = f"{{{text[start + 1 : end]}}}"
            text = f"{text[: found.start()]}{found[1]}{inner}{text[end + 1 :]}"
    return text


def _raised(found: re.Match[str]) -> str:
    power = found[0].translate(_RAISED)
    return f"^{power}" if len(power) == 1 else f"^{{{power}}}"


# ---- numbers -----------------------------------------------------------------------------------------------------

_DECIMAL: Final = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+"
_END: Final = r"(?:%|\^\\circ)?"
_NUMBER: Final = re.compile(
    rf"(?P<minus>[+-]?)\$?(?P<minus2>[+-]?)(?P<digits>{_DECIMAL})"
    rf"(?:[eE](?P<power>[+-]?\d{{1,3}})|(?:\\times|\\cdot|\*)10\^(?P<open>\{{)?(?P<power2>[+-]?\d{{1,3}})(?(open)\}}))?"
    rf"{_END}"
)
_POWER: Final = re.compile(r"(?P<minus>-?)10\^(?P<open>\{)?(?P<power>[+-]?\d{1,3})(?(open)\})")
_FRACTION: Final = re.compile(
    rf"(?P<minus>[+-]?)\$?(?:(?P<whole>\d+) ?)?"
    rf"(?:\\frac\{{(?P<a>[+-]?(?:{_DECIMAL}))\}}\{{(?P<b>[+-]?(?:{_DECIMAL}))\}}|(?P<c>{_DECIMAL})/(?P<d>{_DECIMAL})){_END}"
)
_REPEATING: Final = re.compile(
    rf"(?P<minus>[+-]?)\$?(?P<whole>\d*)\.(?P<once>\d*)\\overline\{{(?P<again>\d{{1,40}})\}}{_END}"
)


def as_number(text: str) -> Fraction | None:
    """The number that ``text`` is, exactly; ``None`` where it is anything else.

    >>> as_number("-$1,234.50"), as_number(r"\\frac{3}{4}"), as_number("1,23"), as_number("3 apples")
    (Fraction(-2469, 2), Fraction(3, 4), None, None)
    >>> as_number(r"1\\frac{1}{2}"), as_number(r"2.5 \\times 10^{-3}"), as_number(r"0.1\\overline{6}")
    (Fraction(3, 2), Fraction(1, 400), Fraction(1, 6))
    >>> as_number("٤٢"), as_number(r"\\frac{３}{４}")
    (Fraction(42, 1), Fraction(3, 4))
    """
    return None if len(text) > _DIGITS else _number(spelt(text))


def _number(text: str) -> Fraction | None:
    if (found := _NUMBER.fullmatch(text)) is not None:
        if found["minus"] and found["minus2"]:
            return None
        power = int(found["power"] or found["power2"] or 0)
        value = _decimal(found["digits"]) * Fraction(10) ** power
        return -value if "-" in (found["minus"], found["minus2"]) else value
    if (found := _POWER.fullmatch(text)) is not None:
        return Fraction(10) ** int(found["power"]) * (-1 if found["minus"] else 1)
    if (found := _FRACTION.fullmatch(text)) is not None:
        if found["c"] and found["whole"] and " " not in text:  # 11/2 is eleven halves
            top, bottom, whole = _decimal(found["whole"] + found["c"]), _decimal(found["d"]), Fraction(0)
        else:
            top, bottom = _decimal(found["a"] or found["c"]), _decimal(found["b"] or found["d"])
            whole = Fraction(found["whole"] or 0)
        # With a whole number before it, only a proper fraction: 2\frac{3}{2} is a product or a slip.
        if not bottom or (found["whole"] and whole and not 0 < top / bottom < 1):
            return None
        return (whole + top / bottom) * (-1 if found["minus"] == "-" else 1)
    if (found := _REPEATING.fullmatch(text)) is not None:
        again = Fraction(int(found["again"]), 10 ** len(found["again"]) - 1)
        value = (int(found["whole"] + found["once"] or "0") + again) / 10 ** len(found["once"])
        return -value if found["minus"] == "-" else value
    return None


def _decimal(digits: str) -> Fraction:
    return Fraction(digits.replace(",", "").rstrip("."))


def _significant(text: str) -> str:
    return re.sub(r"[eE\\].*|\D", "", text).lstrip("0")


# ---- the tree ----------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """``kind`` and ``content`` as in the table above; ``unit`` after it (``cm^2``), ``name`` before it (``x=``);
    ``floating``, whether a number is a decimal of 15 significant digits or more, as binary arithmetic prints a third.
    """

    kind: str
    content: Any
    unit: str = ""
    name: str = ""
    floating: bool = False


_OPEN, _CLOSE = "([{", ")]}"
_NAME: Final = re.compile(r"([a-zA-Z](?:_(?:\w|\{\w+\}))?|\\[a-z]+|[a-zA-Z]\([a-z]\))(?:=|\\in(?![a-z]))")
_LETTER: Final = re.compile(r"[a-zA-Z]")
_UNIT: Final = re.compile(r"(.*[^,({\[\s])\s*\\text\{([^{}]*)\}(\^(?:\{\d\}|\d))?", re.DOTALL)
BETWEEN: Final = re.compile(
    r",?\s*(?:\\text\{(?:and|or)\}|\\lor(?![a-z])|\\vee(?![a-z])|(?<![a-zA-Z])(?:or|and)(?![a-zA-Z]))\s*"
)
_MATRIX: Final = re.compile(r"\\begin\{([pbB]?matrix|smallmatrix|array)\}(?:\{[|clr]*\})?(.*)\\end\{\1\}", re.DOTALL)
_BASE: Final = re.compile(r"\(?([0-9A-Za-z]*\d[0-9A-Za-z]*)\)?_(?:(\d)|\{(\d{1,2})\})")
_COLON: Final = re.compile(r"\d+(?::\d+)+")
SCALARS: Final = frozenset(("number", "expression", "base", "colon"))
"""Kinds of answers that are one value."""
_RELATION: Final = re.compile(r"\\le(?![a-z])|\\ge(?![a-z])|\\ne(?![a-z])|\\approx(?![a-z])|\\equiv(?![a-z])|<|>|=")
_FLIPPED: Final = {"\\ge": "\\le", ">": "<"}
_DOTS: Final = "\\ldots"


def read(text: str) -> Answer | None:
    """The tree of ``text``; ``None`` where its brackets do not match or it is empty.

    >>> read(r"5 \\ge x") == read(r"x \\leq 5"), read(r"\\pm 2") == read("2, -2")
    (True, True)
    >>> read("(1,2)") == read(r"\\{1,2\\}"), read("1010_2").content
    (False, ('1010', 2))
    """
    return _read(spelt(text)) if balanced(text) else None


def balanced(text: str) -> bool:
    """Whether braces, and round and square brackets together (``[0,1)`` is one pair), open before they close."""
    braces = brackets = 0
    for place, character in enumerate(text):
        if character in "{}" and (place == 0 or text[place - 1] != "\\"):
            braces += 1 if character == "{" else -1
        elif character in "()[]":
            brackets += 1 if character in "([" else -1
        if braces < 0 or brackets < 0:
            return False
    return braces == brackets == 0 and text.count("\\{") == text.count("\\}")


def words_of(text: str) -> str | None:
    """The words of ``text``, in lower case with one blank between them; ``None`` where it has anything but words."""
    plain = _TEXT.sub(r" \1 ", spelt(text))
    if re.fullmatch(r"[\w\s.,:;'()-]*[^\W\d_][\w\s.,:;'()-]*", plain) is None:
        return None
    return " ".join(re.findall(r"[^\W\d_]+|\d+", plain.lower()))


def _read(text: str) -> Answer | None:
    text = text.strip()
    while text[:1] == "{" and _closing(text, 0) == len(text) - 1:
        text = text[1:-1].strip()
    if not text:
        return None
    if (number := _number(text) if len(text) <= _DIGITS else None) is not None:
        return Answer("number", number, floating="." in text and len(_significant(text)) >= _FLOATING)
    if text[:2] == "\\{" and text[-2:] == "\\}" and text.find("\\}") == len(text) - 2:
        return _items("list", _split(text[2:-2], ","))
    if (whole := _TEXT.fullmatch(text)) is not None:
        inner = _read(whole[1]) if re.search(r"\d", whole[1]) else None
        return inner if inner is not None and inner.kind == "number" else Answer("words", words_of(text) or whole[1])
    parts = _split(BETWEEN.sub(",", text), ",")
    if len(parts) > 1:
        return _lifted(_items("sequence" if _DOTS in (part.strip() for part in parts) else "list", parts))
    if (named := _NAME.match(text)) is not None and len(_signs(text)) == _outside(text).count("=") <= 1:
        rest = _read(text[named.end() :])
        if rest is not None and not rest.name and not _LETTER.fullmatch(text[named.end() :]):
            return rest._replace(name=named[1] if named[0].endswith("=") else "")
    flipped = re.fullmatch(r"(.+)=([a-zA-Z])", text)
    if flipped is not None and not _signs(flipped[1]) and not _LETTER.fullmatch(flipped[1]):
        rest = _read(flipped[1])
        return None if rest is None else rest._replace(name=flipped[2])
    if len(parts := _split(text, "\\cup")) > 1:
        return _items("union", parts)
    if text[0] in "([" and text[-1] in ")]" and _closing(text, 0) == len(text) - 1:
        inside = _split(text[1:-1], ",")
        if len(inside) > 1:
            return _items(f"{text[0]},{text[-1]}", inside)
    if (matrix := _MATRIX.fullmatch(text)) is not None:
        rows = [row for row in re.split(r"\\\\", matrix[2]) if row.strip()]
        cells = [[_read(cell) for cell in row.split("&")] for row in rows]
        return None if any(None in row for row in cells) else Answer("matrix", tuple(map(tuple, cells)))
    if _signs(text):
        return _relation(text)
    if "\\pm" in text:
        both = [text.replace("\\mp", "+" if sign == "-" else "-").replace("\\pm", sign) for sign in "+-"]
        return _items("list", [side.removeprefix("+").replace("(+", "(") for side in both])
    if (measured := _UNIT.fullmatch(text)) is not None:
        rest = _read(measured[1])
        unit = " ".join(measured[2].lower().split()) + (measured[3] or "").replace("{", "").replace("}", "")
        if rest is not None and not rest.unit and rest.kind != "words":
            return rest if unit in ("", ".") else rest._replace(unit=unit)
    return _scalar(text)


def _scalar(text: str) -> Answer:
    if (based := _BASE.fullmatch(text)) is not None:
        digits, base = based[1].upper(), int(based[2] or based[3])
        if 2 <= base <= 36 and all(int(digit, 36) < base for digit in digits):
            return Answer("base", (digits.lstrip("0") or "0", base))
    if _COLON.fullmatch(text):
        return Answer("colon", tuple(map(int, text.split(":"))))
    if "\\text" in text and (words := words_of(text)) is not None:
        return Answer("words", words)
    return Answer("expression", text.removeprefix("$").removesuffix("%") or text)


def _relation(text: str) -> Answer | None:
    found = _signs(text)
    signs = [sign[0] for sign in found]
    starts, ends = [0, *(sign.end() for sign in found)], [*(sign.start() for sign in found), len(text)]
    sides = [_read(text[start:end]) for start, end in zip(starts, ends, strict=True)]
    if len(signs) > 3 or any(side is None or side.kind not in SCALARS for side in sides):
        return None
    if any(sign in _FLIPPED for sign in signs):
        signs, sides = [_FLIPPED.get(sign, sign) for sign in signs[::-1]], sides[::-1]
        if set(signs) - {"<", "\\le", "="} or any(sign[0] in ("<", "\\le") for sign in found):
            return None  # 1 < x > 0: two directions in one chain
    return Answer("relation", (tuple(sides), tuple(signs)))


def _signs(text: str) -> list[re.Match[str]]:
    """The signs of a relation outside of brackets: none in ``\\sum_{k=1}^n k``."""
    return list(_RELATION.finditer(_outside(text)))


def _outside(text: str) -> str:
    """``text`` with a blank for every character inside brackets."""
    depth, plain = 0, []
    for character in text:
        depth -= character in _CLOSE
        plain.append(" " if depth > 0 else character)
        depth += character in _OPEN
    return "".join(plain)


def _items(kind: str, parts: list[str]) -> Answer | None:
    items: list[Answer] = []
    for part in parts:
        item = Answer("expression", _DOTS) if part.strip() == _DOTS else _read(part)
        if item is None:
            return None
        within = kind == "list" and item.kind == "list" and "\\pm" in part  # 3, \pm 2: three items
        items += item.content if within else [item]
    return Answer(kind, tuple(items))


def _lifted(answer: Answer | None) -> Answer | None:
    """``x=1,x=2`` as ``x=`` before the list."""
    names = {item.name for item in answer.content} if answer is not None else set()
    if answer is None or len(names) != 1 or names == {""}:
        return answer
    return answer._replace(content=tuple(item._replace(name="") for item in answer.content), name=names.pop())


def _split(text: str, mark: str) -> list[str]:
    """``text`` at each ``mark`` outside of brackets."""
    parts, depth, start, place = [], 0, 0, 0
    while place < len(text):
        depth += (text[place] in _OPEN) - (text[place] in _CLOSE)
        if depth == 0 and text.startswith(mark, place) and not (mark.isalpha() and text[place + len(mark)].isalpha()):
            parts.append(text[start:place])
            place += len(mark)
            start = place
            continue
        place += 1
    return [*parts, text[start:]]


def _closing(text: str, place: int) -> int:
    """Where the bracket that opens at ``place`` closes; −1 where it does not."""
    depth = 0
    for end in range(place, len(text)):
        depth += (text[end] in _OPEN) - (text[end] in _CLOSE)
        if depth == 0:
            return end
    return -1
