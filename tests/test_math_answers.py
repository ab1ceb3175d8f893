"""What counts as an equal answer: a table by hand, and properties over generated answers."""

from fractions import Fraction

import numpy as np
import pytest

from branchwise.envs.math_tool.answers import Answer, read, spelt
from branchwise.envs.math_tool.grading import grade, unmatchable

CASES = r"""
20                      | 20 \%                         | correct
20\%                    | 20                            | correct
20\%                    | 0.2                           | wrong
0.2                     | 20\%                          | wrong
11111                   | 11,\! 111                     | correct
11,\!111                | 11111                         | correct
1234567                 | 1\,234\,567                   | correct
1234567                 | 1{,}234{,}567                 | correct
11111                   | 11, 111                       | malformed
18                      | \$ 18                         | correct
18                      | \$18.00                       | correct
\$18                    | 18                            | correct
-3                      | - 3                           | correct
-3                      | 3                             | wrong
-3                      | −3                            | correct
0                       | -0                            | correct
0.75                    | 3 / 4                         | correct
3/4                     | \frac{ 3 }{ 4 }               | correct
3/4                     | \cfrac{3}{4}                  | correct
3/4                     | \tfrac34                      | correct
3/4                     | \dfrac 3 4                    | correct
3/4                     | \frac3{4}                     | correct
3/4                     | \frac{3}4                     | correct
3/4                     | \frac{6}{8}                   | correct
3/4                     | \frac{4}{3}                   | wrong
3/4                     | \frac{3.0}{4}                 | correct
1/72                    | \frac1{72}                    | correct
\frac1{72}              | \frac{1}{72}                  | correct
\frac{172}{1}           | \frac1{72}                    | wrong
-1/2                    | -\frac12                      | correct
-1/2                    | \frac{-1}{2}                  | correct
-1/2                    | \frac{1}{-2}                  | correct
-1/2                    | \frac{-1}{-2}                 | wrong
3/2                     | 1\frac{1}{2}                  | correct
3/2                     | 1 \frac12                     | correct
3/2                     | 1 1/2                         | correct
-3/2                    | -1\frac12                     | correct
-1/2                    | -1\frac12                     | wrong
1/2                     | 1\frac12                      | wrong
11/2                    | 1 1/2                         | wrong
7/2                     | 2\frac{3}{2}                  | malformed
1\frac12                | 1.5                           | correct
1\frac12                | 3/2                           | correct
1/2                     | ½                             | correct
42                      | 42.                           | correct
42                      | \left(42\right)               | malformed
42                      | {42}                          | correct
42                      | \text{42}                     | correct
42                      | \mathbf{42}                   | correct
42                      | $42$                          | correct
42                      | \(42\)                        | correct
42                      | 42\;                          | correct
42                      | 42,                           | correct
42                      | 42^\circ                      | correct
42                      | 42°                           | correct
42^{\circ}              | 42                            | correct
42^\circ                | 42 \degree                    | correct
42                      | 42\text{ cm}                  | malformed
42                      | 42 cm                         | malformed
42                      | x=42                          | malformed
42                      | \{42\}                        | malformed
42                      | 4 2                           | malformed
42                      | 42?                           | malformed
42                      | 42!                           | malformed
42                      | 40+2                          | malformed
42                      | \text{forty-two}              | malformed
42                      | 101010_2                      | malformed
0.4                     | 12:30                         | malformed
10\text{ cm}            | 10                            | correct
10\text{ cm}            | 10\text{cm}                   | correct
10\text{ cm}            | 10\,\mathrm{cm}               | correct
10\text{ cm}            | 10 cm                         | correct
10\text{ cm}            | 10\text{ m}                   | wrong
10\text{ cm}            | 10 m                          | malformed
10\text{ cm}            | 0.1\text{ m}                  | wrong
10\text{ cm}^2          | 10\text{ cm}^2                | correct
10\text{ cm}^2          | 10\text{ cm}                  | wrong
2\pi\text{ cm}          | 2\pi                          | correct
2\pi\text{ cm}          | 2\pi\text{ m}                 | wrong
1e-19                   | 1e-19                         | correct
1e-19                   | 1e-18                         | wrong
2.88 \times 10^{-19}    | 1.0 \times 10^{-30}           | wrong
2.88 \times 10^{-19}    | -2.88 \times 10^{-19}         | wrong
2.88 \times 10^{-19}    | 2.88 \cdot 10^{-19}           | correct
2.88 \times 10^{-19}    | 2.88e-19                      | correct
2.88 \times 10^{-19}    | 28.8 \times 10^{-20}          | correct
2.88 \times 10^{-19}    | 0                             | wrong
300000000               | 3 × 10^8                      | correct
1000                    | 10^3                          | correct
10^{-3}                 | 0.001                         | correct
1024                    | 2^{10}                        | malformed
2^{10}                  | 1024                          | correct
2^{10}                  | 1023                          | wrong
1/3                     | 0.\overline{3}                | correct
0.\overline{3}          | 1/3                           | correct
0.1\overline{6}         | \frac16                       | correct
1/3                     | 0.3\overline{4}               | wrong
1/3                     | 0.33333                       | wrong
1/3                     | 0.33333333333333331           | correct
2/3                     | 0.66666666666667              | wrong
1/3                     | 0.333333333334444             | wrong
1010_2                  | 1010_2                        | correct
1010_2                  | 1010_{2}                      | correct
1010_2                  | 1010_3                        | wrong
1010_2                  | 1010                          | wrong
1010_2                  | 10                            | wrong
2A_{16}                 | 2a_{16}                       | correct
12:30                   | 12:30                         | correct
12:30                   | 0.4                           | wrong
12:30                   | 12:31                         | wrong
3:2                     | 3 : 2                         | correct
3:2                     | 2:3                           | wrong
3:2                     | 3/2                           | wrong
12:30\text{ p.m.}       | 12:30                         | correct
\sqrt{2}                | 1.414214                      | wrong
\sqrt{2}                | 1.4142135623730951            | wrong
\sqrt{2}                | \sqrt2                        | correct
\sqrt{2}                | \sqrt 2                       | correct
\sqrt{2}                | √2                            | correct
\sqrt{2}                | sqrt(2)                       | correct
\sqrt{2}                | 2^{1/2}                       | correct
\sqrt{2}                | 2^{0.5}                       | correct
\sqrt{2}                | -\sqrt{2}                     | wrong
\sqrt{4}                | 2                             | correct
\frac{\sqrt{2}}{2}      | \frac{1}{\sqrt{2}}            | correct
2\sqrt{3}               | \sqrt{12}                     | correct
2\sqrt{3}               | 3.46                          | wrong
3\sqrt{13}              | 3 \sqrt{ 13 }                 | correct
\sqrt[3]{8}             | 2                             | correct
\pi                     | 3.14                          | wrong
\pi                     | 3.14159265358979              | wrong
\pi                     | 22/7                          | wrong
\frac{\pi}{2}           | \pi / 2                       | correct
\frac{\pi}{2}           | 0.5\pi                        | correct
\frac{\pi}{2}           | 90^\circ                      | wrong
1+2i                    | 2i + 1                        | correct
1+2i                    | 1-2i                          | wrong
e^{i\pi}                | -1                            | correct
x^2+1                   | 1 + x^2                       | correct
x^2+1                   | x^{2}+1                       | correct
x^2+1                   | x**2+1                        | correct
x^2+1                   | y^2+1                         | wrong
x^2+1                   | X^2+1                         | wrong
x^2+1                   | x^2-1                         | wrong
(x+1)^2                 | x^2+2x+1                      | correct
(x+1)(x-1)              | x^2-1                         | correct
\frac{x^2-1}{x+1}       | x-1                           | correct
2xy                     | 2yx                           | correct
x                       | |x|                           | wrong
x                       | \sqrt{x^2}                    | wrong
\pi r^2                 | \pi\, r^2                     | correct
\frac{n(n+1)}{2}        | \frac{n^2+n}{2}               | correct
x^2                     | x^2.                          | correct
x^2                     | x^2 \text{ or } x             | malformed
x^2                     | x^2, x                        | malformed
x^2                     | the square                    | malformed
y = 2x+1                | 2x+1                          | correct
y = 2x+1                | y=1+2x                        | correct
y = 2x+1                | 2x+1 = y                      | correct
y = 2x+1                | z = 2x+1                      | wrong
f(x) = 2x+1             | 2x+1                          | correct
x = 5                   | 5                             | correct
x = 5                   | 5 = x                         | correct
x = 5                   | y = 5                         | wrong
x^2+y^2=1               | 1=x^2+y^2                     | correct
x^2+y^2=1               | 2x^2+2y^2=2                   | correct
x^2+y^2=1               | x^2+y^2=2                     | wrong
x+y=3                   | y=3-x                         | correct
y=3-x                   | x+y=3                         | correct
y=x                     | x=y                           | correct
y=x                     | y=-x                          | wrong
x=3                     | x \ne 3                       | wrong
\frac{dy}{dx}           | \frac{dx}{dy}                 | ungradable
x \le 5                 | 5 \ge x                       | correct
x \le 5                 | x \leq 5                      | correct
x \le 5                 | x <= 5                        | correct
x \le 5                 | 2x \le 10                     | correct
x \le 5                 | -x \ge -5                     | correct
x \le 5                 | x \ge 5                       | wrong
x \le 5                 | x < 5                         | wrong
x \le 5                 | x \le 6                       | wrong
x < 5                   | 5 > x                         | correct
1 < x \le 5             | 5 \ge x > 1                   | correct
1 < x \le 5             | 1 \le x \le 5                 | wrong
x \ne 0                 | 0 \neq x                      | correct
\pm 2                   | 2,-2                          | correct
\pm 2                   | -2, 2                         | correct
\pm 2                   | \{2,-2\}                      | correct
\pm 2                   | 2                             | wrong
2,-2                    | \pm 2                         | correct
1 \pm \sqrt{2}          | 1-\sqrt{2}, 1+\sqrt{2}        | correct
1 \pm \sqrt{2}          | 1+\sqrt{2}                    | wrong
1,2,3                   | 3, 2, 1                       | correct
1,2,3                   | \{1,2,3\}                     | correct
1,2,3                   | 1,2                           | wrong
1,2,3                   | 1,2,3,4                       | wrong
1,2                     | 1 \text{ and } 2              | correct
1,2                     | 1 or 2                        | correct
x=1,x=2                 | 1,2                           | correct
x=1 \text{ or } x=2     | x = 2, 1                      | wrong
x=1,y=2                 | x=1, y=2                      | correct
x=1,y=2                 | x=2, y=1                      | wrong
(1,2)                   | (1, 2)                        | correct
(1,2)                   | \left( 1 , 2 \right)          | correct
(1,2)                   | (1.0,\frac{4}{2})             | correct
(1,2)                   | (2,1)                         | wrong
(1,2)                   | \{1,2\}                       | wrong
(1,2)                   | 1,2                           | wrong
(1,2)                   | [1,2]                         | wrong
(1,2)                   | (1,2]                         | wrong
(1,2)                   | (1,2,3)                       | wrong
(1,2)                   | (1,2                          | malformed
\{1,2\}                 | \{2,1\}                       | correct
\{1,2\}                 | (1,2)                         | wrong
\{1,2\}                 | \lbrace 1,2 \rbrace           | correct
[0,1)                   | \left[0,1\right)              | correct
[0,1)                   | [0,1]                         | wrong
x \in [0,1)             | [0,1)                         | correct
[0,1)                   | x \in [0,1)                   | correct
(-\infty,1)\cup(2,3)    | (2,3) \cup (-\infty, 1)       | correct
(-\infty,1)\cup(2,3)    | (-\infty,1)\cup(2,3]          | wrong
(-\infty,1)             | (\infty,1)                    | wrong
(3,\frac{\pi}{2})       | \left(3,\frac{\pi}{2}\right)  | correct
1,2,\ldots,10           | 1,2,\dots,10                  | correct
1,2,\ldots,10           | 1, 2, ..., 10                 | correct
1,2,\ldots,10           | 1,2,\ldots,9                  | wrong
1,2,\ldots,10           | 1,2,10                        | wrong
1,2,\ldots,10           | 10,2,\ldots,1                 | wrong
\begin{pmatrix}1&2\\3&4\end{pmatrix} | \begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix} | correct
\begin{pmatrix}1&2\\3&4\end{pmatrix} | \begin{pmatrix}1&2\\3&5\end{pmatrix} | wrong
\begin{pmatrix}1\\2\end{pmatrix} | \begin{pmatrix}1&2\end{pmatrix} | wrong
\begin{pmatrix}1\\\frac12\end{pmatrix} | \begin{bmatrix}1.0\\0.5\end{bmatrix} | correct
\begin{pmatrix}1\\2\end{pmatrix} | (1,2)                 | wrong
\text{(B)}              | B                             | correct
\text{(B)}              | (B)                           | correct
\text{(B)}              | \text{(C)}                    | wrong
\text{even}             | even                          | correct
\text{even}             | \text{Even}                   | correct
\text{even}             | \textbf{even}                 | correct
\text{even}             | odd                           | wrong
\text{even}             | 2                             | malformed
Evelyn                  | \text{Evelyn}                 | correct
\text{June 20}          | June 20                       | correct
\emptyset               | \varnothing                   | correct
\sin 30^\circ           | 1/2                           | correct
\infty                  | -\infty                       | wrong
\binom{5}{2}            | 10                            | correct
5!                      | 120                           | correct
\log_2 8                | 3                             | correct
|x+5|                   | x+5                           | wrong
|x-100|                 | 100-x                         | wrong
|2x-7|                  | 7-2x                          | wrong
|x-1|+|x-3|             | |2x-4|                        | wrong
|x^2-200x+9999|         | x^2-200x+9999                 | wrong
|x-3|                   | \sqrt{x^2-6x+9}               | correct
|x-y|                   | x-y                           | wrong
|x-10^6|                | 10^6-x                        | wrong
|x-10^{50}|             | 10^{50}-x                     | wrong
|x+y-10^6|              | 10^6-x-y                      | wrong
2^{|x-200|}             | 2^{200-x}                     | wrong
\tan x                  | \frac{\sin x}{\cos x}         | correct
\arcsin x               | \frac{\pi}{2}-\arccos x       | correct
2^{2^n}                 | 4^{2^{n-1}}                   | correct
\frac{1-x^{n+1}}{1-x}   | \sum_{k=0}^n x^k              | correct
\frac{n!}{(n-k)!}       | k!\binom{n}{k}                | correct
\min(x,10)              | x                             | wrong
\max(x,10)              | 10                            | wrong
\max(a,b)               | \frac{a+b+|a-b|}{2}           | correct
\sqrt{(x-5)^2}          | 5-x                           | wrong
\frac{|x-6|}{6-x}       | 1                             | wrong
|x-10|<3                | 10-x<3                        | wrong
|n|                     | n                             | wrong
|k|                     | k                             | wrong
\sqrt{m^2}              | m                             | wrong
\lfloor x\rfloor+1      | \lceil x\rceil                | wrong
\lfloor x+1\rfloor      | \lfloor x\rfloor+1            | correct
1+e^{-1000}             | 1                             | wrong
x+10^{-150}             | x                             | wrong
\sqrt{ab}               | \sqrt{a}\sqrt{b}              | correct
\binom{n}{k}            | \binom{n}{n-k}                | correct
\binom{n}{2}            | \frac{n(n-1)}{2}              | correct
2^n                     | 2 \cdot 2^{n-1}               | correct
2^n                     | n^2                           | wrong
\ln(x-100)              | \ln(x-101)                    | wrong
e^{16}-1                | -1 + exp(16)                  | correct
e^{16}-1                | -1 + exp(15)                  | wrong
\sin^2 x                | sin(x)^2                      | correct
\sin(x^2)               | sin(x)^2                      | wrong
\sin x                  | cos(x)                        | wrong
2\ln 3                  | 2ln(3)                        | correct
\ln 6                   | ln(2) + ln(3)                 | correct
\ln 6                   | ln(2)ln(3)                    | wrong
\log_2 9                | log_2(9)                      | correct
\log_2 9                | log_2 8                       | wrong
\log_2 9                | log(9)                        | wrong
\tan^{-1} 2             | arctan(2)                     | correct
\sin x                  | sin x                         | malformed
x\sin x                 | xsin(x)                       | malformed
\text{tan}              | tan                           | correct
10\text{ sec}           | 10 sec                        | correct
e^{2x}                  | e^(2x)                        | correct
e^{2x}                  | e^2x                          | wrong
\sqrt[3]{2}             | 2^(1/3)                       | correct
2^{1/3}                 | 2^1/3                         | wrong
2^{a(b+c)}              | 2^(a(b+c))                    | correct
2^a(b+c)                | 2^(a(b+c))                    | wrong
\sqrt{1+\sqrt{2}}       | sqrt(1+sqrt(2))               | correct
e^{e^2}                 | e^(e^(2))                     | correct
f^{(2)}(x)              | f^2(x)                        | ungradable
f^{(2)}(x)              | f^(2)(x)                      | correct
y^{(n)}                 | y^n                           | ungradable
e^2                     | e^(2)                         | correct
10^3                    | 10^(3)                        | correct
1+\sqrt{2}\sqrt{3}      | sqrt(2)(1+sqrt(3))            | wrong
1,1,2                   | 1,2,2                         | wrong
1,1,2                   | 2,1,1                         | correct
1,2                     | 1,2,2                         | wrong
\sum_{k=1}^{n} k        | \frac{n(n+1)}{2}              | correct
\sum_{i=1}^{n} i        | \frac{n(n+1)}{2}              | correct
\sum_{k=1}^{n} k        | \frac{n(n-1)}{2}              | wrong
2^n                     | \sum_{k=0}^{n}\binom{n}{k}    | correct
S=\sum_{k=1}^{n} k      | \frac{n(n+1)}{2}              | correct
n!                      | \prod_{j=1}^n j               | correct
1-\frac{1}{\mathrm e}   | 1-\frac{1}{e}                 | correct
1-\frac{1}{\mathrm{e}}  | 1-\frac1e                     | correct
1-\frac{1}{\mathrm{e}}  | 1+\frac1e                     | wrong
1+2i                    | 1+2\mathrm{i}                 | correct
\sqrt[3]{-8}            | -2                            | correct
\sqrt[3]{-8}            | 2                             | wrong
\sqrt[3]{x^3}           | x                             | correct
\sqrt[3]{x}             | x^{1/3}                       | correct
|(x-5)^3|               | (x-5)^3                       | wrong
|x^2-2\pi x|            | x^2-2\pi x                    | wrong
(-8)^{1/3}              | -2                            | wrong
3 \times 10^8           | 3x10^8                        | correct
3 \times 10^8           | 3x10^7                        | wrong
\frac{\pi}{4}           | \frac\pi4                     | correct
\frac{\pi}{6}           | \frac\pi{6}                   | correct
\frac{1}{\pi}           | \frac1\pi                     | correct
\frac{\sqrt{2}}{2}      | \frac{\sqrt2}2                | correct
\tan^{-1} 1             | \frac\pi4                     | correct
2^{-3}                  | 2⁻³                           | correct
10^{-6}                 | 10⁻⁶                          | correct
x^{12}+1                | x¹²+1                         | correct
x^2+1                   | x²+1                          | correct
[2,\infty)              | x\ge2                         | ungradable
|x-10|<3                | 7<x<13                        | ungradable
|x-10|<3                | 7<x<14                        | wrong
x^2<4                   | -2<x<2                        | ungradable
|x|>5                   | x>5 \text{ or } x<-5          | ungradable
(-\infty,-5)\cup(5,\infty) | |x|>5                     | ungradable
x \ge 2                 | 2                             | wrong
x^2<4                   | -2\le x\le 2                  | wrong
x^2<4                   | x<2                           | wrong
"""
TABLE = [tuple(part.strip() for part in line.split(" | ")) for line in CASES.strip().splitlines()]


def test_the_table_has_cases_enough_and_none_twice() -> None:
    assert len(TABLE) >= 150
    assert len({(gold, answer) for gold, answer, _ in TABLE}) == len(TABLE)


@pytest.mark.parametrize(("gold", "answer", "verdict"), TABLE)
def test_an_answer_of_the_table_gets_its_verdict(gold: str, answer: str, verdict: str) -> None:
    assert grade(gold, answer) == verdict


def test_every_right_answer_of_the_table_is_correct_against_itself() -> None:
    assert [gold for gold, _, _ in TABLE if unmatchable(gold)] == []


def test_equality_is_symmetric_where_neither_side_has_a_name_a_unit_or_a_sum_left_to_do() -> None:
    for gold, answer, verdict in TABLE:
        if verdict == "malformed" or grade(answer, gold) == "malformed":
            continue
        one, other = read(gold), read(answer)
        assert one is not None
        assert other is not None
        if (one.name, one.unit, one.floating) == (other.name, other.unit, other.floating):
            assert grade(answer, gold) == verdict, (gold, answer)


def spellings(value: Fraction, rng: np.random.Generator) -> list[str]:
    """``value`` as people and models write it."""
    sign, top, bottom = "-" if value < 0 else "", abs(value.numerator), value.denominator
    factor = int(rng.integers(2, 9))
    texts = [
        f"{sign}{top}/{bottom}",
        f"{sign} {top} / {bottom}",
        f"{sign}\\frac{{{top}}}{{{bottom}}}",
        f"\\dfrac{{ {sign}{top * factor} }}{{ {bottom * factor} }}",
        f"${sign}\\cfrac {{{top}}}{{{bottom}}}$",
    ]
    whole, rest = divmod(top, bottom)
    if whole and rest:
        texts += [f"{sign}{whole}\\frac{{{rest}}}{{{bottom}}}", f"{sign}{whole} {rest}/{bottom}"]
    places = next((k for k in range(8) if (value * 10**k).denominator == 1), None)
    if places is not None:
        digits = f"{top * 10**places // bottom:0{places + 1}d}"
        decimal = f"{digits[: len(digits) - places]}.{digits[len(digits) - places :]}" if places else digits
        texts += [f"{sign}{decimal}", f"{sign}{decimal} \\times 10^0", f"{sign}{decimal}e0"]
    if bottom == 1:
        texts += [f"{sign}{top:,}", f"{sign}{top:,}".replace(",", ",\\! "), f"{sign}{top:,}".replace(",", "{,}")]
        texts += [
            f"{sign}\\${top}",
            f"{sign}{top} \\%",
            f"{sign}{top}^\\circ",
            f"\\text{{{sign}{top}}}",
            f"{sign}{top}.",
        ]
    return texts


def test_a_number_is_equal_to_all_of_its_spellings_and_to_no_other_number() -> None:
    rng = np.random.default_rng(0)
    for _ in range(400):
        value = Fraction(int(rng.integers(-(10**6), 10**6)), int(rng.choice([1, 1, 2, 3, 4, 7, 8, 50, 1000])))
        texts = spellings(value, rng)
        assert {read(text) for text in texts} == {Answer("number", value)}, texts
        other = value + Fraction(int(rng.choice([-1, 1])), int(rng.choice([1, 3, 1000, 10**9, 10**30])))
        wrong = spellings(other, rng)
        gold = str(rng.choice(texts))
        assert all(grade(gold, text) == "correct" for text in texts)
        assert all(grade(gold, text) == "wrong" for text in wrong), (gold, wrong)


def test_numbers_of_every_size_are_told_apart_by_sign_and_size() -> None:
    for power in range(-40, 41, 4):
        gold = f"3.5 \\times 10^{{{power}}}"
        assert grade(gold, f"3.5e{power}") == "correct"
        for wrong in (f"-3.5e{power}", f"3.5e{power + 1}", f"3.5e{power - 1}", f"3.5000001e{power}", "0"):
            assert grade(gold, wrong) == "wrong"


@pytest.mark.parametrize("power", [400, 999, -400])
def test_a_long_decimal_beyond_the_range_of_floats_is_compared(power: int) -> None:
    assert grade(f"1e{power}", f"1.00000000000000001e{power}") == "correct"
    assert grade("1", f"1.00000000000000001e{power}") == "wrong"


@pytest.mark.parametrize(
    ("gold", "why"),
    [
        ("", "no answer"),
        ("  ", "no answer"),
        ("(1,2", "brackets"),
        ("\\frac{1}{2", "brackets"),
        ("x" * 301, "301 characters"),
        ("x'+1", ""),
        ("18", ""),
        ("\\text{Evelyn}", ""),
    ],
)
def test_what_no_answer_can_match_says_why(gold: str, why: str) -> None:
    assert (why in unmatchable(gold)) if why else unmatchable(gold) == ""


@pytest.mark.parametrize(
    "text", ["(" * 150 + "1" + ")" * 149, "(1," * 74 + "1" + ")" * 74, "{" * 150 + "}" * 150, "\\pm" * 99]
)
def test_nested_and_repeated_signs_end(text: str) -> None:
    assert grade("(1,2)", text) in ("malformed", "wrong", "ungradable")


def test_one_spelling_is_a_fixed_point() -> None:
    for gold, answer, _ in TABLE:
        for text in (gold, answer):
            assert read(spelt(text)) == read(text)


@pytest.mark.parametrize(
    ("gold", "answer", "verdict"),
    [
        ("42", "٤٢", "correct"),
        ("42", "４２", "correct"),
        ("٤٢", "42", "correct"),
        ("42", "٤٣", "wrong"),
        ("3/4", "\\frac３４", "correct"),
        ("\\sqrt{12}", "２\\sqrt{３}", "correct"),
        ("1010_2", "१०१०_२", "correct"),
        ("12:30", "１２:３０", "correct"),
        ("42", "𝟜𝟚", "correct"),
        ("4", "④", "malformed"),
    ],
)
def test_digits_are_those_of_any_script(gold: str, answer: str, verdict: str) -> None:
    assert grade(gold, answer) == verdict
