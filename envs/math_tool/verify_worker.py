"""The process in which expressions are compared: lines of JSON ``[gold, answer, sign]`` in, one word a line out.

``gold`` and ``answer`` are LaTeX, parsed by latex2sympy (the parser of math-verify) into sympy. They are equal where

- their values agree to ``DIGITS`` significant digits, for expressions without letters (exactly, where both are
  rational);
- at every point of ``_points`` they have the same value, for expressions with letters: small, large and whole numbers
  of both signs, and both sides of each number of the expressions and of each root at which a function such as ``|x-5|``
  bends (identities of analytic functions are decided by that but for coincidence). The letters k, m and n are whole,
  and positive in a factorial, a binomial or a bound of a sum. Points at which a part is not real or not finite say
  nothing, but for complex expressions; of those that say something, there must be ``ENOUGH``.

With a ``sign``, ``gold`` and ``answer`` are the differences of the sides of two relations, which are the same where one
is a constant times the other: any but 0 for ``=`` and ``\\ne``, a positive one for ``<`` and ``\\le``.

Where ``gold`` and ``answer`` are lists ``[side, sign, side, …]``, they are relations of any form. Then the reply is
``wrong`` where one holds at a point at which the other does not, and ``ungradable`` otherwise.

``\\sqrt[3]{-8}`` is -2, the real root, and ``(-8)^{1/3}`` the principal root, which is complex.

Nothing is rounded: a decimal comes as a fraction, so that ``1.414214`` is not ``\\sqrt{2}``. Expressions with functions
that have no name (``f(x)``) are simplified. The reply is ``ungradable`` where a side cannot be parsed.

Run by path with ``python -I``: it imports nothing of the package. It ends when its input does, and its memory is
limited. Time is the parent's to watch.
"""

import itertools
import json
import logging
import random
import re
import sys
from typing import Any

MEMORY = 2 << 30  # bytes of address space; sympy alone maps 0.4 of them
DIGITS = 100
ENOUGH = 2  # points with a value on both sides
BASE = 12  # points at random
MOST = 64  # points for one comparison
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


def compare(gold: Any, answer: Any, sign: str) -> bool | None:
    """Whether both are the same; ``None`` where that cannot be decided."""
    from sympy import Expr

    if isinstance(gold, list):
        return _same_truth(gold, answer)
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
    from sympy import Abs, I, sign

    expression = latex2sympy(text, is_real=not complex_, convert_degrees=True, normalization_config=None)
    if not complex_ and re.search(r"\\sqrt\[\d*[13579]\]", text) and not re.search(r"\^\{[^{}]*(?:/|\\frac)", text):
        expression = expression.replace(_is_odd_root, lambda power: sign(power.base) * Abs(power.base) ** power.exp)
    if complex_ and hasattr(expression, "free_symbols"):
        expression = expression.subs({letter: I for letter in expression.free_symbols if str(letter) == "i"})
    return expression


def _is_odd_root(expression: Any) -> bool:
    return bool(expression.is_Pow and expression.exp.is_Rational and expression.exp.p == 1 and expression.exp.q % 2)


def _equal(right: Any, given: Any, complex_: bool) -> bool | None:
    symbols = sorted(right.free_symbols | given.free_symbols, key=str)
    if not symbols:
        return _same_value(right, given)
    compared = 0
    for point in _points(right, given):
        if not complex_ and not (_real_at(right, point) and _real_at(given, point)):
            continue
        sides = right.subs(point), given.subs(point)
        values = [_value(side) for side in sides]
        if None in values:
            continue
        if not complex_ and any(abs(value.as_real_imag()[1]) > 10**-DIGITS for value in values):
            continue
        compared += 1
        if not (_close(*values) and _cancels(*sides)):
            return False
    return True if compared >= ENOUGH else _simplified(right, given)


def _proportional(right: Any, given: Any, sign: str) -> bool | None:
    ratios = []
    for point in _points(right, given):
        if not (_real_at(right, point) and _real_at(given, point)):
            continue
        top, bottom = _value(right.subs(point)), _value(given.subs(point))
        if top is None or bottom is None or top == bottom == 0:
            continue
        if top == 0 or bottom == 0:
            return False
        ratios.append(top / bottom)
    if len(ratios) < ENOUGH:
        return None
    if not all(_close(ratio, ratios[0]) for ratio in ratios):
        return False
    return sign in ("=", "\\ne") or bool(ratios[0] > 0)


def _same_truth(gold: list[str], answer: list[str]) -> bool | None:
    """``False`` where one of two relations ``[side, sign, side, …]`` holds at a point at which the other does not."""
    from sympy import Tuple

    relations = []
    for relation in (gold, answer):
        sides = [parsed(side, complex_=False) for side in relation[::2]]
        relations.append(Tuple(*(left - right for left, right in itertools.pairwise(sides))))
    for point in _points(*relations):
        if not all(_real_at(relation, point) for relation in relations):
            continue
        truths = []
        for relation, signs in zip(relations, (gold[1::2], answer[1::2]), strict=True):
            values = [_value(difference.subs(point)) for difference in relation]
            if any(value is None or not value.is_comparable for value in values):
                break
            truths.append(all(_holds(value, sign) for value, sign in zip(values, signs, strict=True)))
        if len(truths) == 2 and truths[0] != truths[1]:
            return False
    return None


def _holds(difference: Any, sign: str) -> bool:
    return bool({"<": difference < 0, "\\le": difference <= 0, "=": difference == 0, "\\ne": difference != 0}[sign])


def _points(right: Any, given: Any) -> list[dict[Any, Any]]:
    """At most ``MOST`` points: some at random, some far out, and one for each of ``_marks`` of each letter."""
    from sympy import Rational

    rng = random.Random(0)
    symbols = sorted(right.free_symbols | given.free_symbols, key=str)
    counts = [letter for side in (right, given) for letter in _counts(side)]
    steep = [letter for side in (right, given) for letter in _exponents(side)]
    towers = [letter for side in (right, given) for power in _powers(side) for letter in _exponents(power)]
    points: list[dict[Any, Any]] = []
    for place in range(BASE + 4):
        point: dict[Any, Any] = {}
        for index, symbol in enumerate(symbols):
            positive = place < 4 or symbol in counts
            sign = 1 if positive or (place >> index % 3) & 1 else -1
            if str(symbol) in WHOLE or symbol in counts:
                size = Rational(place % BASE + 1 + rng.randrange(3))
            else:
                size = Rational(rng.randrange(20, 400), 97)
            far = place >= BASE and symbol not in counts and symbol not in steep
            point[symbol] = sign * (size + 1009 * (index + 1) if far else size)
        points.append(point)
    marks = []
    for symbol in symbols:
        bound = 30 if symbol in counts or symbol in towers else 1000 if symbol in steep else 10**100
        whole = str(symbol) in WHOLE or symbol in counts
        values = _marks(right, given, symbol, points[0], whole)
        lowest = 1 if symbol in counts else -bound
        marks.append([{symbol: value} for value in values if lowest <= value <= bound])
    for row in range(max(map(len, marks), default=0)):
        points += [points[0] | letter[row] for letter in marks if row < len(letter)]
    return points[:MOST]


def _counts(expression: Any) -> set[Any]:
    """The letters in a factorial, a binomial, or a bound of a sum or product: they count, from 1."""
    from sympy import Product, Sum, binomial, factorial

    inside = list(expression.atoms(factorial, binomial))
    inside += [bound for series in expression.atoms(Sum, Product) for limits in series.limits for bound in limits[1:]]
    return set().union(*(part.free_symbols for part in inside))


def _exponents(expression: Any) -> set[Any]:
    """The letters in an exponent: far out, the power would have too many digits."""
    return set().union(*(power.free_symbols for power in _powers(expression)))


def _powers(expression: Any) -> list[Any]:
    """The exponents in ``expression``."""
    from sympy import Pow, exp

    return [power.exp for power in expression.atoms(Pow)] + [power.args[0] for power in expression.atoms(exp)]


def _marks(right: Any, given: Any, symbol: Any, point: dict[Any, Any], whole: bool) -> list[Any]:
    """Values of ``symbol`` around which two expressions may differ: the roots of the argument of a function with a bend
    or a jump, with the other letters at ``point``, the numbers of both expressions with either sign, and a few small
    whole numbers."""
    from mpmath.libmp import NoConvergence  # type: ignore[import-untyped]
    from sympy import Abs, Max, Min, Number, Piecewise, Poly, Pow, Rational, Tuple, ceiling, floor, sign
    from sympy.core.relational import Relational  # type: ignore[import-untyped]
    from sympy.polys.polyerrors import DomainError, PolynomialError  # type: ignore[import-untyped]

    bends = [difference for side in (right, given) if isinstance(side, Tuple) for difference in side]
    for side in (right, given):
        for function in side.atoms(Abs, sign, floor, ceiling):
            bends.append(function.args[0])
        for function in side.atoms(Max, Min):
            bends += [one - other for one in function.args for other in function.args if one is not other]
        for function in side.atoms(Piecewise):
            bends += [relation.lhs - relation.rhs for _, when in function.args for relation in when.atoms(Relational)]
        bends += [power.base for power in side.atoms(Pow) if power.exp.is_integer is not True]
    centres: list[Any] = []
    others = {letter: value for letter, value in point.items() if letter != symbol}
    for bend in (bend.subs(others).doit() for bend in bends):
        if bend.free_symbols == {symbol} and bend.is_polynomial(symbol) and 1 <= Poly(bend, symbol).degree() <= 8:
            try:
                roots = Poly(bend, symbol).sqf_part().nroots(n=30, maxsteps=100)  # a multiple root would not converge
            except (NoConvergence, PolynomialError, DomainError):
                continue
            parts = [root.as_real_imag() for root in roots]
            real = [Rational(str(part)).limit_denominator(10**9) for part, other in parts if abs(other) < 1e-9]
            centres += [*real, *(2 * root for root in real)]  # at the bend, and beyond it
    numbers = {abs(Rational(number)) for side in (right, given) for number in side.atoms(Number) if number.is_Rational}
    centres += [0, *(value for number in sorted(numbers - {0})[:8] for value in (number, -number)), -3, 5]
    step = 1 if whole else Rational(10, 97)
    values = [value for centre in centres for value in (centre, centre + step, centre - step)]
    return list(dict.fromkeys(Rational(round(value)) if whole else Rational(value) for value in values))


def _real_at(expression: Any, point: dict[Any, Any]) -> bool:
    """Whether no part of ``expression`` leaves the real numbers: no root or logarithm of a negative number."""
    from sympy import Pow, log

    parts = [(power.base, power.exp) for power in expression.atoms(Pow) if power.exp.is_integer is not True]
    parts += [(logarithm.args[0], None) for logarithm in expression.atoms(log)]
    for base, exponent in parts:
        value = base.subs(point).doit().evalf(DIGITS)
        if (
            value.is_comparable
            and value < 0
            and (exponent is None or exponent.subs(point).doit().is_integer is not True)
        ):
            return False
    return True


def _same_value(right: Any, given: Any) -> bool | None:
    right, given = right.doit(), given.doit()
    if right == given:
        return True
    if (right.is_Rational and given.is_Rational) or right.is_infinite or given.is_infinite:
        return False
    one, other = _value(right), _value(given)
    return None if one is None or other is None else _close(one, other) and _cancels(right, given)


def _value(expression: Any, digits: int = DIGITS) -> Any:
    """The value of an expression without letters, to ``digits`` digits; ``None`` where it has none that is finite."""
    from sympy import Integer
    from sympy.core.function import AppliedUndef  # type: ignore[import-untyped]

    value = expression.doit().evalf(digits + 20)
    if not value.is_number or not value.is_finite or value.atoms(AppliedUndef):
        return None
    return value if value.as_real_imag()[1] != 0 or value.is_comparable else Integer(0)  # all of its digits cancelled


def _close(one: Any, other: Any, digits: int = DIGITS) -> bool:
    from sympy import Float

    return bool(abs(one - other) <= max(abs(one), abs(other)) * Float(10, digits) ** -digits)


def _cancels(right: Any, given: Any) -> bool:
    """Whether two expressions without letters, equal to ``DIGITS`` digits, have no difference that can be computed:
    ``1+e^{-1000}`` is not 1."""
    from sympy import Add

    rest = (right - given).doit()
    if rest.is_Rational:
        return bool(rest == 0)
    if not rest.has(Add):  # nothing is left to cancel, so that the first digits are right
        return not any(part.is_comparable and part != 0 for part in rest.evalf(2).as_real_imag())
    values = [_value(side, 10 * DIGITS) for side in (right, given)]
    return None in values or _close(values[0], values[1], 10 * DIGITS)


def _simplified(right: Any, given: Any) -> bool | None:
    from sympy import simplify

    return True if simplify(right - given) == 0 else None


if __name__ == "__main__":
    main()
