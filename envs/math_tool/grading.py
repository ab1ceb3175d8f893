"""Is an answer right? Read into a tree of numbers and expressions (``answers.py``); numbers are compared exactly.

The declared answer format is one thing in one ``\\boxed{…}``: a number (sign, ``$`` before and ``%`` or ``°`` after,
thousands commas, a decimal part, an exponent or ``\\times 10^n``, a fraction as ``3/4`` or ``\\frac{3}{4}``, a mixed
number), or, where the right answer is no number, an expression of its kind. Words, units, sums left to do (``3*6``),
several answers and "41 or 42" are not in the format, whatever they contain.

What counts as equal:

- Numbers are equal as fractions, with sign and size: ``0.33`` is not ``1/3``, ``1e-30`` not ``1e-29``. Only a decimal
  of 15 significant digits or more, which is how binary arithmetic prints a third, may be off by a trillionth of the
  right answer.
- Digits are those of any script: ``٤٢`` and ``４２`` are ``42``. Other signs (decimal points, commas) are Latin.
- An expression may be plain text as well: ``exp(2)``, ``log_2(9)``, ``e^(2x)``, ``sqrt(2)/2``; ``sin x`` is words.
- Expressions are equal where their values are, to a hundred digits, or at points where they have letters
  (``verify_worker.py``). A decimal is its fraction, so that ``1.414214`` is not ``\\sqrt{2}``; ``\\sqrt{4}`` is ``2``.
- A list of answers, with or without ``\\{…\\}``, is equal in any order, with each item as often; tuples, intervals and
  matrices item by item, each with its own brackets, so that ``(1,2)`` is neither ``\\{1,2\\}`` nor ``[1,2]``; lists
  with dots as written.
- A relation is equal from either side (``5 \\ge x``), and where one is a positive multiple of the other.
- The unit and the name of the right answer (``10\\text{ cm}``, ``x=5``) may be left out, not changed: nothing is
  converted. A numeral in another base equals only itself in that base, ``12:30`` only ``12:30``.
- Words are equal in any case, ``\\text{(B)}`` is ``B``.

latex2sympy, math-verify's parser, reads LaTeX into sympy, which can take for ever on a few characters. It runs in a
child process with a limit on memory, which is killed when it is late; the answer then is ``ungradable``.

What it does not do: look at how an answer was found, or read an answer outside ``\\boxed{…}``. It solves no inequality:
of ``|x-10|<3`` and ``7<x<13``, or ``[2,\\infty)`` and ``x \\ge 2``, the outcome is ``ungradable``; it is ``wrong`` only
where one inequality holds at a point at which the other does not.
"""

import atexit
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

from .answers import BETWEEN, DERIVATIVE, SCALARS, Answer, balanced, read, spelt, words_of
from .child import Child

Verdict = Literal["correct", "wrong", "malformed", "ungradable"]
"""``malformed``: not in the declared format; ``ungradable``: in the format, but nobody could say."""

LONGEST_ANSWER: Final = 300  # characters
WORKER_SECONDS: Final = 5.0  # for all that has to be compared of an answer
_FLOATING_ERROR: Final = Fraction(1, 10**12)  # of a decimal that binary arithmetic printed, relative

_BOX: Final = re.compile(r"\\(?:boxed|fbox)\s*+\{")
_WORD: Final = re.compile(r"\\?[A-Za-z]{2,}")
_LETTERS: Final = re.compile(r"(?<![\\A-Za-z])[A-Za-z]+")
_UNREAD: Final = re.compile(rf"'|\\prime|\\ldots|{DERIVATIVE.pattern}")
_NOT_PROSE: Final = re.compile(rf"{BETWEEN.pattern}|\\(?:begin|end)\{{\w+\}}")
_INTERVALS: Final = frozenset(("(,)", "[,)", "(,]", "[,]", "union"))
_DECIMAL: Final = re.compile(r"(?<![\w.])(\d*)\.(\d+)")
_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def last_boxed(text: str) -> str | None:
    """What stands in the last ``\\boxed{…}`` (or ``\\fbox``) of ``text``; ``None`` where there is none, or it does not
    close. A box that is empty or holds nothing but dots mentions the format, and is no answer.

    >>> last_boxed(r"first \\boxed{1}, no: \\boxed{\\frac{3}{4}}, which is in \\boxed{}")
    '\\\\frac{3}{4}'
    """
    for box in reversed([*_BOX.finditer(text)]):
        end = _closing_brace(text, box.end())
        if end is None:
            return None
        content = text[box.end() : end].strip()
        if content.strip(" .…"):
            return content
    return None


def _closing_brace(text: str, start: int) -> int | None:
    """Where the brace that was opened before ``start`` closes; ``None`` where it does not, or far away."""
    depth = 1
    for place in range(start, min(len(text), start + 4 * LONGEST_ANSWER)):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return place
    return None


@lru_cache(maxsize=65536)
def grade(gold: str, answer: str) -> Verdict:
    """Whether ``answer``, the content of a box, is the right one, ``gold``.

    >>> grade(r"\\frac{3}{4}", "0.75"), grade("(1,2)", r"\\{1,2\\}"), grade("42", "41 or 42")
    ('correct', 'wrong', 'malformed')
    """
    if not answer or len(answer) > LONGEST_ANSWER:
        return "malformed"
    wanted = read(gold)
    if wanted is None:
        return "correct" if spelt(gold) == spelt(answer) else "ungradable"
    given = read(_without_unit(answer, wanted))
    if given is None:
        return "malformed"
    if wanted.kind == "words" or given.kind == "words":
        words = words_of(gold), words_of(answer)
        return "malformed" if None in words else "correct" if words[0] == words[1] else "wrong"
    if wanted.kind == "relation" or given.kind == "relation":
        wanted, given = _as_relation(wanted), _as_relation(given)
    if not _in_format(wanted, given, gold, answer):
        return "malformed"
    if spelt(gold) == spelt(answer):
        return "correct"
    try:
        return "correct" if _same(wanted, given, time.monotonic() + WORKER_SECONDS) else "wrong"
    except _UndecidedError:
        return "ungradable"


def unmatchable(gold: str) -> str:
    """Why no answer can ever be graded as correct against ``gold``; empty where it is correct against itself.

    >>> unmatchable("(1,2"), unmatchable("(1,2)")
    ('brackets that do not match', '')
    """
    if not gold.strip():
        return "no answer"
    if len(gold) > LONGEST_ANSWER:
        return f"{len(gold)} characters; at most {LONGEST_ANSWER} are read"
    if not balanced(gold):
        return "brackets that do not match"
    return "" if grade(gold, gold) == "correct" else "not in a form that can be compared"


def _in_format(wanted: Answer, given: Answer, gold: str, answer: str) -> bool:
    """Whether ``given`` is one thing of ``wanted``'s kind, with no name, unit or words that ``wanted`` has not."""
    if (given.name and not wanted.name) or (given.unit and not wanted.unit):
        return False
    if wanted.kind in SCALARS and given.kind not in SCALARS:
        return False
    if wanted.kind == "number":
        return given.kind == "number"
    spelling, wanted_spelling = (_NOT_PROSE.sub(",", spelt(text)) for text in (answer, gold))
    if re.search(r"(?<![_\d])\d+ \d", spelling) or ("\\text" in spelling and "\\text" not in wanted_spelling):
        return False
    letters = set("".join(_LETTERS.findall(wanted_spelling)))
    known = {word.lower() for word in _WORD.findall(wanted_spelling)}
    prose = (word for word in _WORD.findall(spelling) if not word.startswith("\\"))
    return all(word.lower() in known or set(word) <= letters for word in prose)


def _without_unit(answer: str, wanted: Answer) -> str:
    """``answer`` without the unit of the right answer where it is written without ``\\text``."""
    spelling = spelt(answer)
    if wanted.unit and "\\text" not in spelling and spelling.lower().endswith(wanted.unit):
        return spelling[: -len(wanted.unit)]
    return answer


def _as_relation(answer: Answer) -> Answer:
    """``y=3-x``, read as the value of y, as the relation that it is too."""
    if not answer.name or answer.kind not in ("number", "expression"):
        return answer
    sides = Answer("expression", answer.name), answer._replace(name="")
    return Answer("relation", (sides, ("=",)))


class _UndecidedError(Exception):
    """Two expressions of which nobody could say whether they are equal, or not in time."""


def _same(gold: Answer, given: Answer, deadline: float) -> bool:
    """Whether the trees are equal; raises ``_UndecidedError``."""
    if (given.name and given.name != gold.name) or (given.unit and given.unit != gold.unit):
        return False
    if gold.kind in SCALARS and given.kind in SCALARS:
        return _same_scalar(gold, given, deadline)
    if gold.kind != given.kind:
        if any(map(_has_inequality, (gold, given))) and all(map(_is_set, (gold, given))):
            raise _UndecidedError
        return False
    one, other = gold.content, given.content
    if gold.kind in ("list", "union"):
        return len(one) == len(other) and _same_in_some_order(one, list(other), deadline)
    if gold.kind == "matrix":
        return len(one) == len(other) and all(_all_same(*rows, deadline) for rows in zip(one, other, strict=True))
    if gold.kind == "relation":
        if _same_relation(one, other, deadline):
            return True
        if _is_inequality(gold) and _is_inequality(given):
            _disprove(one, other, deadline)
        return False
    return _all_same(one, other, deadline)


def _same_in_some_order(one: Sequence[Answer], other: list[Answer], deadline: float) -> bool:
    """Whether each item of ``one`` has its own equal in ``other``: ``1,1,2`` is not ``1,2,2``."""
    for item in one:
        place = next((place for place, candidate in enumerate(other) if _same(item, candidate, deadline)), None)
        if place is None:
            return False
        del other[place]
    return True


def _all_same(one: Sequence[Answer], other: Sequence[Answer], deadline: float) -> bool:
    return len(one) == len(other) and all(_same(a, b, deadline) for a, b in zip(one, other, strict=True))


def _same_relation(one: Any, other: Any, deadline: float) -> bool:
    (sides, signs), (given_sides, given_signs) = one, other
    if signs != given_signs:
        return False
    if _all_same(sides, given_sides, deadline):
        return True
    if len(signs) > 1 or not {side.kind for side in (*sides, *given_sides)} <= {"number", "expression"}:
        return False
    gold, given = (f"({_latex(left)})-({_latex(right)})" for left, right in (sides, given_sides))
    return _compared(gold, given, deadline, signs[0])


def _is_inequality(answer: Answer) -> bool:
    return answer.kind == "relation" and not {"<", "\\le", "\\ne"}.isdisjoint(answer.content[1])


def _has_inequality(answer: Answer) -> bool:
    """Whether ``answer`` is an inequality, or several: ``x>5 \\text{ or } x<-5``."""
    return _is_inequality(answer) or (answer.kind == "list" and any(map(_is_inequality, answer.content)))


def _is_set(answer: Answer) -> bool:
    """Whether ``answer`` may be a set of real numbers, written as intervals or as inequalities."""
    return answer.kind in _INTERVALS or _has_inequality(answer)


def _disprove(one: Any, other: Any, deadline: float) -> None:
    """Raise ``_UndecidedError`` unless one relation holds at a point at which the other does not."""
    chains = []
    for sides, signs in (one, other):
        if not {side.kind for side in sides} <= {"number", "expression"}:
            raise _UndecidedError
        chain = [_latex(sides[0])]
        for sign, side in zip(signs, sides[1:], strict=True):
            chain += [sign, _latex(side)]
        chains.append(chain)
    if _worker().compare(chains[0], chains[1], "", deadline - time.monotonic()) != "wrong":
        raise _UndecidedError


def _same_scalar(gold: Answer, given: Answer, deadline: float) -> bool:
    if gold.kind == given.kind == "number":
        near = abs(gold.content - given.content) <= abs(gold.content) * _FLOATING_ERROR
        return gold.content == given.content or (given.floating and near)
    if "base" in (gold.kind, given.kind) or "colon" in (gold.kind, given.kind):
        return gold[:2] == given[:2]
    return gold.content == given.content or _compared(_latex(gold), _latex(given), deadline)


def _latex(scalar: Answer) -> str:
    """``scalar`` for the worker: decimals as fractions, no thousands commas."""
    if scalar.kind == "number":
        return f"\\frac{{{scalar.content.numerator}}}{{{scalar.content.denominator}}}"
    exact = _DECIMAL.sub(lambda found: f"(\\frac{{{found[1] + found[2]}}}{{1{'0' * len(found[2])}}})", scalar.content)
    return _THOUSANDS.sub("", exact)


def _compared(gold: str, given: str, deadline: float, sign: str = "") -> bool:
    # latex2sympy reads every letter as lower case, and a derivative as a product or a power.
    letters = [set("".join(_LETTERS.findall(text))) for text in (gold, given)]
    if any(letter.swapcase() in letters[1] and letter not in letters[1] for letter in letters[0]):
        return False
    if any(map(_UNREAD.search, (gold, given))):
        raise _UndecidedError
    verdict = _worker().compare(gold, given, sign, deadline - time.monotonic())
    if verdict == "ungradable":
        raise _UndecidedError
    return verdict == "correct"


# ---- sympy, in its own process -----------------------------------------------------------------------------------


class VerifyWorker:
    """Compares in a child process; starts it when first asked, and again after it was late or died."""

    def __init__(self, seconds: float = WORKER_SECONDS) -> None:
        self.seconds = seconds
        script = Path(__file__).with_name("verify_worker.py")
        self._child = Child([sys.executable, "-I", str(script)], {**os.environ, "OMP_NUM_THREADS": "1"})

    def compare(
        self, gold: str | list[str], answer: str | list[str], sign: str = "", seconds: float | None = None
    ) -> Verdict:
        """Whether the expressions (with a ``sign``: the relations to 0; lists: ``[side, sign, side, …]``) are equal,
        within ``seconds``."""
        seconds = self.seconds if seconds is None else min(seconds, self.seconds)
        reply = self._child.ask(json.dumps([gold, answer, sign]).encode(), seconds) if seconds > 0 else None
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
