"""Is an answer right? Numbers by exact arithmetic of our own, everything else by math-verify in a process of its own.

The declared answer format is one thing in one ``\\boxed{…}``: a number (sign, ``$`` before and ``%`` after, thousands
commas, a decimal part, an exponent, a fraction as ``3/4`` or ``\\frac{3}{4}``), or, where the right answer is no
number, an expression of its kind. Words, units, sums left to do (``3*6``), several answers and "41 or 42" are not in
the format, whatever they contain: math-verify would take the last for 42.

Numbers are compared as fractions, so ``0.33`` is not ``1/3``. Only a decimal of 15 significant digits or more, which is
how binary arithmetic prints a third, is rounded to twelve, and the right answer with it.

math-verify (Hugging Face) parses LaTeX with sympy, which can take for ever on a few characters. It runs in a child
process with a limit on memory, which is killed when it is late; the answer then is ``ungradable``.

What it does not do: look at how an answer was found, or read an answer outside ``\\boxed{…}``.
"""

import atexit
import json
import os
import re
import sys
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from .child import Child

Verdict = Literal["correct", "wrong", "malformed", "ungradable"]
"""``malformed``: not in the declared format; ``ungradable``: in the format, but nobody could say."""

LONGEST_ANSWER: Final = 300  # characters
WORKER_SECONDS: Final = 5.0  # for parsing and comparing together
_DIGITS: Final = 400  # an integer of more is no answer

_DECIMAL: Final = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+"
_NUMBER: Final = re.compile(
    rf"(?P<minus>[+-]?)\$?(?P<minus2>[+-]?)(?P<digits>{_DECIMAL})(?:[eE](?P<power>[+-]?\d{{1,3}}))?%?"
)
_FRACTION: Final = re.compile(r"(?P<minus>[+-]?)(?:\\frac\{(?P<a>[+-]?\d+)\}\{(?P<b>[+-]?\d+)\}|(?P<c>\d+)/(?P<d>\d+))")
_SPELLINGS: Final = (
    ("\u2212", "-"),
    ("\\dfrac", "\\frac"),
    ("\\tfrac", "\\frac"),
    ("{,}", ","),
    ("\\!", ""),
    ("\\,", ""),
    ("\\$", "$"),
    ("\\%", "%"),
    ("\\left", ""),
    ("\\right", ""),
)
_SHORT_FRACTION: Final = re.compile(r"\\frac(\d)(\d)")
_WORD: Final = re.compile(r"\\?[A-Za-z]{2,}")
_FUNCTIONS: Final = frozenset(
    ("sqrt", "frac", "cdot", "pi", "sin", "cos", "tan", "log", "ln", "exp", "arcsin", "arccos", "arctan", "sec", "csc")
)
_SEVERAL: Final = re.compile(
    r"\\(?:text|mbox|mathrm|textbf)\{\s*(?:or|and)\b|\bor\b|\band\b|\\lor|\\vee|;", re.IGNORECASE
)


def last_boxed(text: str) -> str | None:
    """What stands in the last ``\\boxed{…}`` (or ``\\fbox``) of ``text``; ``None`` where there is none that closes.

    >>> last_boxed(r"first \\boxed{1}, no: \\boxed{\\frac{3}{4}}")
    '\\\\frac{3}{4}'
    """
    start = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    if start < 0:
        return None
    opened = text.index("{", start) + 1
    depth = 1
    for place in range(opened, min(len(text), opened + 4 * LONGEST_ANSWER)):
        character = text[place]
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[opened:place].strip()
    return None


@lru_cache(maxsize=65536)
def grade(gold: str, answer: str) -> Verdict:
    """Whether ``answer``, the content of a box, is the right one, ``gold``."""
    if not answer or len(answer) > LONGEST_ANSWER:
        return "malformed"
    spelt, wanted = _spelt(answer), _spelt(gold)
    wanted_number = as_number(wanted)
    if wanted_number is not None:
        given = as_number(spelt)
        if given is None:
            return "malformed"
        return "correct" if _equal(wanted_number, given, spelt) else "wrong"
    if not _in_format(wanted, spelt):
        return "malformed"
    if spelt == wanted:
        return "correct"
    return _worker().compare(gold, answer)


def as_number(text: str) -> Fraction | None:
    """The number that ``text`` is, exactly; ``None`` where it is anything else.

    >>> as_number("-$1,234.50"), as_number(r"\\frac{3}{4}"), as_number("1,23"), as_number("3 apples")
    (Fraction(-2469, 2), Fraction(3, 4), None, None)
    """
    text = _spelt(text)
    if len(text) > _DIGITS:
        return None
    found = _NUMBER.fullmatch(text)
    if found is not None:
        if found["minus"] and found["minus2"]:
            return None
        value = Fraction(found["digits"].replace(",", "").rstrip("."))
        if found["power"]:
            value *= Fraction(10) ** int(found["power"])
        return -value if "-" in (found["minus"], found["minus2"]) else value
    found = _FRACTION.fullmatch(text)
    if found is not None:
        top, bottom = int(found["a"] or found["c"]), int(found["b"] or found["d"])
        if bottom:
            return Fraction(top, bottom) * (-1 if found["minus"] == "-" else 1)
    return None


@lru_cache(maxsize=4096)
def _spelt(text: str) -> str:
    """``text`` in one spelling: no blanks around, no pair of dollar signs, plain minus, ``\\frac``."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == "$":
        text = text[1:-1].strip()
    for spelling, plain in _SPELLINGS:
        text = text.replace(spelling, plain)
    return _SHORT_FRACTION.sub(r"\\frac{\1}{\2}", text).strip()


def _equal(gold: Fraction, given: Fraction, written: str) -> bool:
    if gold == given:
        return True
    digits = re.sub(r"[eE].*|\D", "", written).lstrip("0")
    return "." in written and len(digits) >= 15 and f"{float(gold):.12g}" == f"{float(given):.12g}"


def _in_format(gold: str, answer: str) -> bool:
    """Whether ``answer`` is one thing of ``gold``'s kind: no more answers, words or relations than it has."""
    if answer.count("{") != answer.count("}") or answer.count("(") + answer.count("[") != answer.count(
        ")"
    ) + answer.count("]"):
        return False
    if _SEVERAL.search(answer) and not _SEVERAL.search(gold):
        return False
    if any(
        sign in answer and sign not in gold
        for sign in (",", "=", "\\pm", "\\approx", "\\ne", "<", ">", "\\le", "\\ge", "\\ldots")
    ):
        return False
    known = {word.lstrip("\\").lower() for word in _WORD.findall(gold)} | _FUNCTIONS
    commands = {word for word in _WORD.findall(answer) if word.startswith("\\")}
    prose = {word.lower() for word in _WORD.findall(answer) if not word.startswith("\\")}
    return prose <= known and not (commands & {"\\text", "\\mbox", "\\mathrm"} - {f"\\{word}" for word in known})


# ---- math-verify, in its own process -----------------------------------------------------------------------------


class VerifyWorker:
    """Compares in a child process; starts it when first asked, and again after it was late or died."""

    def __init__(self, seconds: float = WORKER_SECONDS) -> None:
        self.seconds = seconds
        script = Path(__file__).with_name("verify_worker.py")
        self._child = Child([sys.executable, "-I", str(script)], {**os.environ, "OMP_NUM_THREADS": "1"})

    def compare(self, gold: str, answer: str) -> Verdict:
        """Whether math-verify takes ``answer`` for ``gold``."""
        reply = self._child.ask(json.dumps([gold, answer]).encode(), self.seconds)
        return reply.decode() if reply in (b"correct", b"wrong") else "ungradable"  # type: ignore[return-value]

    def close(self) -> None:
        """End the child."""
        self._child.close()


_workers: dict[int, VerifyWorker] = {}  # process id -> worker: a forked child starts its own


def _worker() -> VerifyWorker:
    return _workers.setdefault(os.getpid(), VerifyWorker())


@atexit.register
def close_worker() -> None:
    """End this process's worker; the next call starts another."""
    worker = _workers.pop(os.getpid(), None)
    if worker is not None:
        worker.close()
