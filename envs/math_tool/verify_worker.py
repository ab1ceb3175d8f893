"""The process in which expressions are compared: lines of JSON ``[gold, answer, sign]`` in, one word a line out.

``gold`` and ``answer`` are LaTeX, parsed by latex2sympy (the parser of math-verify) into sympy. They are equal where

- their values agree to ``DIGITS`` significant digits, for expressions without letters (exactly, where both are
  rational);
- at each of ``POINTS`` points they have the same value, for expressions with letters (identities of analytic functions
  are decided by that but for coincidence): at positive and negative rational points, and at whole numbers for the
  letters k, m and n; points at which a side is not real or not finite say nothing, but for complex expressions.

With a ``sign``, ``gold`` and ``answer`` are the differences of the sides of two relations, which are the same where one
is a constant times the other: any but 0 for ``=`` and ``\\ne``, a positive one for ``<`` and ``\\le``.

Nothing is rounded: a decimal comes as a fraction, so that ``1.414214`` is not ``\\sqrt{2}``. Expressions with functions
that have no name (``f(x)``) are simplified. The reply is ``ungradable`` where a side cannot be parsed.

Run by path with ``python -I``: it imports nothing of the package. It ends when its input does, and its memory is
limited. Time is the parent's to watch.
"""

import json
import logging
import random
import re
import sys
from typing import Any

MEMORY = 2 << 30  # bytes of address space; sympy alone maps 0.4 of them
DIGITS = 100
POINTS = 8
WHOLE = frozenset("kmn")


def main() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):
        pass  # no such limit on this system; the parent still watches the time
    import latex2sympy2_extended  # type: ignore[import-untyped]  # noqa: F401
    import sympy  # type: ignore[import-untyped]  # noqa: F401

    logging.disable(logging.CRITICAL)
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            same = compare(*json.loads(line))
            reply = "ungradable" if same is None else "correct" if same else "wrong"
        except BaseException:
            reply = "ungradable"
        print(reply, flush=True)


def compare(gold: str, answer: str, sign: str) -> bool | None:
    """Whether both are the same; ``None`` where that cannot be decided."""
    from sympy import Expr

    # A lone i is the imaginary unit in both or in neither.
    complex_ = any(re.search(r"(?<![a-zA-Z\\])(?<!_)(?<!_\{)i(?![a-zA-Z])", text) for text in (gold, answer))
    right, given = parsed(gold, complex_), parsed(answer, complex_)
    if not isinstance(right, Expr) or not isinstance(given, Expr):
        return None if sign else bool(right == given) or None
    if sign:
        return _proportional(right, given, sign)
    if right == given:
        return True
    return None if _is_open(right) or _is_open(given) else _equal(right, given, complex_)


def _is_open(expression: Any) -> bool:
    """Whether it has derivatives, which would be 0 of one letter by another, or integrals without bounds."""
    from sympy import Derivative, Integral

    return bool(expression.has(Derivative)) or any(
        len(bounds) == 1 for integral in expression.atoms(Integral) for bounds in integral.limits
    )


def parsed(text: str, complex_: bool) -> Any:
    from latex2sympy2_extended import latex2sympy
    from sympy import I

    expression = latex2sympy(text, is_real=not complex_, convert_degrees=True, normalization_config=None)
    if complex_ and hasattr(expression, "free_symbols"):
        expression = expression.subs({letter: I for letter in expression.free_symbols if str(letter) == "i"})
    return expression


def _equal(right: Any, given: Any, complex_: bool) -> bool | None:
    symbols = sorted(right.free_symbols | given.free_symbols, key=str)
    if not symbols:
        return _same_value(right, given)
    compared = 0
    for point in _points(symbols):
        values = [_value(side.subs(point)) for side in (right, given)]
        if None in values:
            continue
        if not complex_ and any(abs(value.as_real_imag()[1]) > 10**-DIGITS for value in values):
            continue
        compared += 1
        if not _close(*values):
            return False
    if compared >= POINTS // 4:
        return True
    return _simplified(right, given)


def _proportional(right: Any, given: Any, sign: str) -> bool | None:
    symbols = sorted(right.free_symbols | given.free_symbols, key=str)
    ratios = []
    for point in _points(symbols):
        top, bottom = _value(right.subs(point)), _value(given.subs(point))
        if top is None or bottom is None or top == 0 or bottom == 0:
            continue
        ratios.append(top / bottom)
    if len(ratios) < POINTS // 4:
        return None
    if not all(_close(ratio, ratios[0]) for ratio in ratios):
        return False
    return sign in ("=", "\\ne") or bool(ratios[0] > 0)


def _points(symbols: list[Any]) -> list[dict[Any, Any]]:
    from sympy import Rational

    rng = random.Random(0)
    points: list[dict[Any, Any]] = []
    for place in range(POINTS):
        point: dict[Any, Any] = {}
        for symbol in symbols:
            if str(symbol) in WHOLE:
                point[symbol] = Rational(place + 1 + rng.randrange(3))
            else:
                sign = -1 if place % 2 and rng.random() < 0.7 else 1
                point[symbol] = sign * Rational(rng.randrange(20, 400), 97)
        points.append(point)
    return points


def _same_value(right: Any, given: Any) -> bool | None:
    right, given = right.doit(), given.doit()
    if right == given:
        return True
    if (right.is_Rational and given.is_Rational) or right.is_infinite or given.is_infinite:
        return False
    one, other = _value(right), _value(given)
    return None if one is None or other is None else _close(one, other)


def _value(expression: Any) -> Any:
    """The value of an expression without letters, to ``DIGITS`` digits; ``None`` where it has none that is finite."""
    from sympy import Integer
    from sympy.core.function import AppliedUndef  # type: ignore[import-untyped]

    value = expression.doit().evalf(DIGITS + 20)
    if not value.is_number or not value.is_finite or value.atoms(AppliedUndef):
        return None
    return value if value.as_real_imag()[1] != 0 or value.is_comparable else Integer(0)  # all of its digits cancelled


def _close(one: Any, other: Any) -> bool:
    from sympy import Float

    return bool(abs(one - other) <= max(abs(one), abs(other)) * Float(10, DIGITS) ** -DIGITS)


def _simplified(right: Any, given: Any) -> bool | None:
    from sympy import simplify

    return True if simplify(right - given) == 0 else None


if __name__ == "__main__":
    main()
