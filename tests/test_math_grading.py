"""Grading: exact numbers, the declared format, near-misses, and a worker for expressions that can be killed."""

import json
from fractions import Fraction
from pathlib import Path

import pytest

from branchwise.envs.math_tool import grading
from branchwise.envs.math_tool.answers import as_number
from branchwise.envs.math_tool.files import gsm8k_problem
from branchwise.envs.math_tool.grading import VerifyWorker, grade, last_boxed

RIGHT = [
    ("18", "18"),
    ("18", " 18.0 "),
    ("18", "+18"),
    ("18", "$18"),
    ("18", "\\$18.00"),
    ("18", "$18$"),
    ("18", "18\\%"),
    ("-3", "\u22123"),
    ("1234", "1,234"),
    ("1234", "1{,}234"),
    ("1000000", "1e6"),
    ("3/4", "0.75"),
    ("3/4", "\\frac{3}{4}"),
    ("3/4", "\\dfrac34"),
    ("-0.5", "-\\frac{1}{2}"),
    ("0.3", "0.30000000000000004"),
    ("1/3", "0.3333333333333333"),
    ("\\text{Evelyn}", "\\text{Evelyn}"),
    ("x^2+1", "x^2 + 1"),
]
NEAR = [
    ("18", "17"),
    ("18", "180"),
    ("18", "1.8"),
    ("18", "-18"),
    ("18", "18.000001"),
    ("18", "0.18"),
    ("1/3", "0.33"),
    ("1/3", "0.333333333"),
    ("3/4", "4/3"),
    ("1234567890123456789", "1234567890123456788"),
    ("1000000000", "1000000000.5"),
    ("0.05", "5\\%"),
]
MALFORMED = [
    ("42", "41 or 42"),
    ("42", "41, 42"),
    ("42", "{41, 42}"),
    ("42", "x = 42"),
    ("42", "42 apples"),
    ("42", "42\\text{ apples}"),
    ("42", "about 42"),
    ("42", "\\approx 42"),
    ("42", "\\pm 42"),
    ("42", "forty-two"),
    ("42", "6*7"),
    ("42", "6 \\cdot 7"),
    ("42", "\\sqrt{1764}"),
    ("42", "4 2"),
    ("42", "42; 43"),
    ("42", "42?"),
    ("42", ""),
    ("42", "\\boxed{42}"),
    ("1234", "1,23,4"),
    ("1234", "1.234,0"),
    ("5", "--5"),
    ("5", "5/1/1"),
    ("5", "nan"),
    ("5", "inf"),
    ("5", "5" * 500),
    ("1", "1e9999"),
    ("1", "1/0"),
    ("x^2", "x^2 or x"),
    ("x^2", "x^2 = x \\cdot x"),
    ("\\frac{\\pi}{2}", "\\frac{\\pi}{2} \\text{ radians}"),
]


@pytest.mark.parametrize(("gold", "answer"), RIGHT)
def test_an_answer_in_another_spelling_is_correct(gold: str, answer: str) -> None:
    assert grade(gold, answer) == "correct"


@pytest.mark.parametrize(("gold", "answer"), NEAR)
def test_a_near_miss_is_wrong(gold: str, answer: str) -> None:
    assert grade(gold, answer) == "wrong"


@pytest.mark.parametrize(("gold", "answer"), MALFORMED)
def test_what_is_not_in_the_declared_format_is_malformed(gold: str, answer: str) -> None:
    assert grade(gold, answer) == "malformed"


def test_numbers_never_start_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading, "_worker", lambda: pytest.fail("asked the worker"))
    grade.cache_clear()
    for gold, answer in (*RIGHT[:17], *NEAR, *MALFORMED):
        grade(gold, answer)


def test_every_answer_of_gsm8k_is_correct_against_itself_and_its_neighbours_are_wrong(shared_data: Path) -> None:
    lines = (shared_data / "math" / "gsm8k_train.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 7473
    for line in lines:
        answer = gsm8k_problem(json.loads(line)).answer
        written = json.loads(line)["answer"].rpartition("####")[2].strip()  # with its commas
        number = as_number(answer)
        assert number is not None
        assert grade(answer, answer) == grade(answer, written) == "correct"
        assert grade(answer, str(number + 1)) == grade(answer, str(number * 10 or 10)) == "wrong"


@pytest.mark.parametrize(
    ("text", "boxed"),
    [
        ("\\boxed{1} then \\boxed{2}", "2"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\fbox{3}", "3"),
        ("\\boxed{ 4 }.", "4"),
        ("\\boxed{}", None),
        ("\\boxed {7} as \\boxed{…}", "7"),
        ("no box", None),
        ("\\boxed{5", None),
        ("\\boxed 6", None),
        ("\\boxed{" * 10_000, None),
        ("\\boxed{" + "{" * 100_000, None),
    ],
)
def test_the_last_box(text: str, boxed: str | None) -> None:
    assert last_boxed(text) == boxed


def test_as_number_is_exact() -> None:
    assert as_number("0.1") == Fraction(1, 10)
    assert as_number("-\\frac{-3}{4}") == Fraction(3, 4)
    assert as_number("1e-3") == Fraction(1, 1000)
    assert as_number("١٢") == 12  # digits of any script, as Python reads them
    assert as_number("1_000") is None


def test_the_worker_compares_what_is_no_number() -> None:
    for gold, answer, verdict in (
        ("x^2+1", "1+x^2", "correct"),
        ("x^2+1", "x^2+2", "wrong"),
        ("2\\sqrt{3}", "\\sqrt{12}", "correct"),
        ("(3,4)", "(4,3)", "wrong"),
        ("\\frac{\\pi}{2}", "\\pi/2", "correct"),
        ("\\text{(B)}", "\\text{(C)}", "wrong"),
    ):
        assert grade(gold, answer) == verdict


def test_a_late_comparison_is_ungradable_and_the_next_one_is_not() -> None:
    worker = VerifyWorker(seconds=1e-4)  # no comparison is as fast
    try:
        worker._child.start()
        first = worker._child.pid
        assert worker.compare("x", "9^{9^{9^{9^9}}}") == "ungradable"
        assert worker._child.pid is None
        worker.seconds = 30.0
        assert worker.compare("x+1", "1+x") == "correct"
        assert worker._child.pid != first
    finally:
        worker.close()


def test_a_worker_that_was_killed_starts_again() -> None:
    worker = VerifyWorker(seconds=30.0)
    try:
        assert worker.compare("x+1", "1+x") == "correct"
        process = worker._child._process
        assert process is not None
        process.kill()
        process.wait()
        assert worker.compare("x+1", "1+x") == "ungradable"
        assert worker.compare("x+1", "1+x") == "correct"
    finally:
        worker.close()
