"""Problems: families, lengths, distractors, splits, files, worked solutions, lapses."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from branchwise.envs.math_tool.experts import MISTAKES, Lapse, lapses, plan
from branchwise.envs.math_tool.files import FileProblems
from branchwise.envs.math_tool.grading import unmatchable
from branchwise.envs.math_tool.problems import SPLITS, GeneratedProblems, Problem, plain, split_of
from branchwise.envs.math_tool.templates import FAMILIES, evaluate, words

CASES = [(family, length) for family in FAMILIES for length in FAMILIES[family].lengths]


@pytest.mark.parametrize(("family", "length"), CASES)
def test_a_family_has_solutions_of_each_of_its_lengths(family: str, length: int) -> None:
    problems = GeneratedProblems("train", 0, [family], (length, length), (1, 2), 60)
    for number in range(40):
        problem = problems[number]
        assert problem.family == family
        assert len(problem.steps) == length
        values: dict[str, int] = {}
        told = set(map(int, re.findall(r"\d+", problem.question)))
        for step in problem.steps:
            values[step.name] = evaluate(step.expression, values)
            assert str(values[step.name]) == step.value
            assert values[step.name] > 0
            # Division comes out even: the true quotient is the whole one.
            assert eval(step.expression.replace("//", "/"), {}, dict(values)) == values[step.name]
        assert problem.answer == problem.steps[-1].value
        assert 1 <= len(problem.distractors) <= 2
        assert set(problem.distractors) <= told
        assert "{" not in problem.question


def test_an_equation_in_two_unknowns_has_the_worked_answer() -> None:
    problems = GeneratedProblems("train", 0, ["heads_and_legs"], (4, 4))
    for number in range(50):
        heads, legs = map(int, re.findall(r"(\d+) (?:heads|legs)", problems[number].question))
        hens = int(problems[number].answer)
        assert 2 * hens + 4 * (heads - hens) == legs


def test_an_unknown_number_leads_to_the_result() -> None:
    problems = GeneratedProblems("train", 0, ["unknown_number"], (1, 8))
    for number in range(100):
        value = int(problems[number].answer)
        told = problems[number].question
        for verb, n in re.findall(r"(adds|takes away|[Ss]ubtracts|[Mm]ultiplies by|[Dd]ivides by|Adds) (\d+)", told):
            verb, n = verb.lower(), int(n)
            if verb == "divides by":
                assert value % n == 0
                value //= n
            else:
                value = {"adds": value + n, "multiplies by": value * n}.get(verb, value - n)
        assert re.search(rf"(?:result|it) is {value}\.", told)


def test_two_sides_are_equal() -> None:
    problems = GeneratedProblems("train", 0, ["two_sides"], (3, 3))
    for number in range(50):
        a, b, c, d = map(int, re.findall(r"\d+", problems[number].question.partition("x:")[2].partition(".")[0]))
        x = int(problems[number].answer)
        assert a * x + b == c * x + d


def test_numbers_name_problems_for_ever_and_streams_differ() -> None:
    one, again, other = GeneratedProblems("test"), GeneratedProblems("test"), GeneratedProblems("test", 1)
    numbers = [0, 1, 2, 1000, 2**31 - 1]
    assert [one[n] for n in numbers] == [again[n] for n in reversed(numbers)][::-1]
    assert len({one[n].question for n in range(300)} | {other[n].question for n in range(300)}) > 590


def test_splits_share_no_arithmetic_whatever_their_seeds() -> None:
    sums = {
        split: {
            (problem.family, tuple(step.expression for step in problem.steps))
            for seed in range(2)
            for problem in map(GeneratedProblems(split, seed, None, (1, 3), (0, 0), 20).__getitem__, range(400))
        }
        for split in SPLITS
    }
    assert not sums["train"] & sums["test"]
    assert not sums["train"] & sums["validation"]
    assert not sums["validation"] & sums["test"]


def test_questions_seldom_repeat_within_a_split_and_never_between_splits() -> None:
    questions = {split: {GeneratedProblems(split)[number].question for number in range(1_000)} for split in SPLITS}
    assert all(len(of_split) >= 975 for of_split in questions.values())
    assert not questions["train"] & questions["test"]
    assert not questions["train"] & questions["validation"]
    assert not questions["validation"] & questions["test"]


def test_every_word_of_a_question_is_in_the_table() -> None:
    problems = GeneratedProblems("train", 0, None, (1, 8), (0, 3), 500)
    known = words()
    for number in range(1500):
        assert set(re.findall(r"[^\W\d]+", problems[number].plain)) <= known


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"families": ["chess"]}, "families"),
        ({"families": []}, "families"),
        ({"steps": (3, 2)}, "steps"),
        ({"steps": (0, 9)}, "steps"),
        ({"steps": (8, 8), "families": ["ages"]}, "steps"),
        ({"distractors": (0, 9)}, "distractors"),
        ({"distractors": 1}, "distractors"),
        ({"largest": 1}, "largest=1"),
    ],
)
def test_arguments_that_make_no_problems_are_refused(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        GeneratedProblems("train", **arguments)


def test_the_file_of_gsm8k(shared_data: Path) -> None:
    path = shared_data / "math" / "gsm8k_train.jsonl"
    whole = FileProblems(path, "all")
    assert whole.count == 7473
    assert whole[0].question.startswith("Natalia sold clips to 48 of her friends in April")
    assert whole[0].answer == "72"
    assert [step.expression for step in whole[0].steps] == ["48/2", "48+24"]
    counts = [FileProblems(path, split).count for split in SPLITS]
    assert sum(counts) == 7473
    assert 0.78 < counts[0] / 7473 < 0.82


def test_the_file_of_svamp(shared_data: Path) -> None:
    problems = FileProblems(shared_data / "math" / "svamp.json", "all")
    assert problems.count == 1000
    apart = []
    for number in range(1000):
        (step,) = problems[number].steps
        if eval(step.expression) != float(problems[number].answer):
            apart.append(number)
    assert apart == [679]  # where the file's own equation and answer disagree


def test_files_in_the_format_of_math(tmp_path: Path) -> None:
    record = {"problem": "What is $1+1$?", "solution": "It is \\boxed{2}.", "level": "Level 1", "type": "Algebra"}
    (tmp_path / "algebra").mkdir()
    (tmp_path / "algebra" / "1.json").write_text(json.dumps(record))
    (tmp_path / "algebra" / "2.json").write_text(json.dumps({**record, "solution": "\\boxed{\\frac{1}{2}}"}))
    problems = FileProblems(tmp_path, "all")
    assert [problems[i].answer for i in range(2)] == ["2", "\\frac{1}{2}"]
    assert problems[0].family == "Algebra"
    lines = tmp_path / "test.jsonl"
    lines.write_text(json.dumps({"problem": "p", "answer": "x+1", "subject": "Algebra"}) + "\n")
    assert FileProblems(lines, "all")[0].answer == "x+1"


def test_a_box_of_math_may_have_no_braces(tmp_path: Path) -> None:
    solutions = ["so it is $\\boxed 2$.", "not \\boxed{1}, but $x=\\fbox -12 $", "$\\boxed{3}$, or $\\boxed{4}$"]
    path = tmp_path / "math.json"
    path.write_text(json.dumps([{"problem": f"p {i}", "solution": text} for i, text in enumerate(solutions)]))
    problems = FileProblems(path, "all")
    assert [problems[number].answer for number in range(3)] == ["2", "-12", "4"]


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ({"question": "q", "answer": "#### 1"}, {"question": "r", "answer": "no mark"}),
        ({"Body": "b", "Question": "q", "Answer": 1.0}, {"Body": "b", "Question": "r", "Answer": None}),
        ({"problem": "p", "solution": "\\boxed{1}"}, {"problem": "q", "solution": "no box"}),
        ({"problem": "p", "solution": "\\boxed{1}"}, {"problem": "q", "solution": "$\\boxed\\frac12$"}),
    ],
)
def test_a_record_without_an_answer_is_left_out_in_every_format(
    good: dict[str, object], bad: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "problems.json"
    path.write_text(json.dumps([good, bad]))
    with pytest.warns(UserWarning, match=r"1 of 2 problems left out.*record 2: the answer '': no answer"):
        problems = FileProblems(path, "all")
    assert [problems[number].answer for number in range(problems.count)] == ["1"]


def test_svamp_s_answers_keep_all_their_digits(tmp_path: Path) -> None:
    answers = [1234567.0, 100000.5, 0.12345678, 3.0, 12345678]
    path = tmp_path / "svamp.json"
    path.write_text(json.dumps([{"Body": "b", "Question": f"q {a}?", "Answer": a} for a in answers]))
    problems = FileProblems(path, "all")
    assert [problems[i].answer for i in range(5)] == ["1234567", "100000.5", "0.12345678", "3", "12345678"]


@pytest.mark.parametrize("form", ["records", "lines"])
def test_a_byte_order_mark_and_blank_lines_are_passed_over(form: str, tmp_path: Path) -> None:
    records = [{"question": f"q {number}", "answer": f"#### {number}"} for number in range(2)]
    text = json.dumps(records) if form == "records" else "\r\n \r\n".join(map(json.dumps, records)) + "\r\n\r\n"
    path = tmp_path / "problems.json"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    problems = FileProblems(path, "all")
    assert [problems[number].answer for number in range(problems.count)] == ["0", "1"]


def test_a_problem_that_no_answer_could_solve_is_left_out_counted_and_warned_of_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    answers = ["1", "(1,2", "x" * 301, "", "(1,2)", "\\frac{1}{2"]
    path.write_text("".join(json.dumps({"problem": f"p {a[:9]}", "answer": a}) + "\n" for a in answers))
    with pytest.warns(UserWarning, match=r"4 of 6 problems left out.*answers.jsonl, line 2: .*brackets"):
        problems = FileProblems(path, "all")
    assert [problems[number].answer for number in range(problems.count)] == ["1", "(1,2)"]
    assert [place.partition(": ")[0].rpartition(" ")[2] for place in problems.left_out] == ["2", "3", "4", "6"]
    assert "301 characters; at most 300" in problems.left_out[1]


def test_a_file_of_problems_that_nobody_could_solve_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    path.write_text(json.dumps([{"question": "q", "answer": "so #### "}, {"question": "q", "answer": "#### (1,2"}]))
    with pytest.raises(ValueError, match=r"record 1: the answer '': no answer; none of the 2 problems"):
        FileProblems(path, "all")


def test_every_problem_of_every_source_is_solved_by_its_own_answer(shared_data: Path) -> None:
    sources = [FileProblems(shared_data / "math" / name, "all") for name in ("gsm8k_train.jsonl", "svamp.json")]
    assert [source.left_out for source in sources] == [(), ()]
    generated = [GeneratedProblems(split, 0, None, (1, 8), (0, 3), 10_000) for split in SPLITS]
    for problem in (p[number] for p in generated for number in range(200)):
        assert unmatchable(problem.answer) == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no problems"),
        ("[]", "no problems"),
        ("{", "line 1"),
        ('{"a": 1}', "record 1.*expected records of GSM8K"),
        ('[{"question": "q", "answer": "no mark"}]', "record 1"),
        ('[{"problem": "p", "solution": "no box"}]', "no answer"),
        ('[{"question": "q", "answer": "#### 1"}, 3]', "record 2"),
    ],
)
def test_a_file_of_something_else_says_where(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "problems.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        FileProblems(path, "all")


def test_a_missing_file_and_an_empty_split(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        FileProblems(tmp_path / "nowhere", "all")
    path = tmp_path / "one.json"
    path.write_text(json.dumps([{"question": "q", "answer": "#### 1"}]))
    other = next(split for split in SPLITS if split != split_of(plain("q")))
    with pytest.raises(ValueError, match="split='all'"):
        FileProblems(path, other)


def test_plain_text_has_blanks_between_signs() -> None:
    assert plain("Ana's 1,250 pens, at $3.50 each?") == "ana ' s 1250 pens , at $ 3.50 each ?"


def test_every_lapse_makes_its_step_and_the_answer_wrong() -> None:
    problems = GeneratedProblems("train", 0, None, (2, 6))
    seen = set()
    for number in range(60):
        problem = problems[number]
        for lapse in lapses(problem):
            seen.add(lapse.kind)
            right, wrong = plan(problem, 20), plan(problem, 20, lapse)
            answer = evaluated(wrong.snippets)
            assert (answer == problem.answer) == (lapse.kind == "syntax")
            first = wrong.first_error
            assert wrong.snippets[:first] == right.snippets[:first]  # correct up to the first error
            assert wrong.snippets[: first + 1] != right.snippets[: first + 1] or lapse.kind == "early"
    assert seen == set(MISTAKES)


def evaluated(snippets: tuple[str, ...]) -> str:
    """The value that the last snippet of arithmetic shows; a mistyped one does nothing."""
    values: dict[str, int] = {}
    shown = ""
    for snippet in snippets:
        for line in snippet.split("\n"):
            name, sign, expression = line.partition(" = ")
            if not sign:
                shown = str(values[name])
            elif not expression.endswith("+"):
                values[name] = evaluate(expression, values)
    return shown


def test_steps_share_calls_where_there_are_more_than_calls() -> None:
    problem = GeneratedProblems("train", 0, None, (8, 8))[0]
    for calls in range(1, 10):
        snippets = plan(problem, calls).snippets
        assert len(snippets) == min(8, calls)
        assert evaluated(snippets) == problem.answer
        assert sum(snippet.count(" = ") for snippet in snippets) == 8


def test_a_lapse_that_cannot_be_made_is_refused() -> None:
    problem = Problem("q", "1")
    with pytest.raises(ValueError, match="cannot be made"):
        plan(problem, 6, Lapse("operation", 0))


def test_an_edited_file_or_folder_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    for number in ("4", "5", "61"):
        path.write_text(json.dumps({"question": "q", "answer": f"#### {number}"}))
        os.utime(path, ns=(int(number), int(number)))
        assert FileProblems(path, "all")[0].answer == number
        assert FileProblems(tmp_path, "all")[0].answer == number
    (tmp_path / "second.json").write_text(json.dumps({"question": "r", "answer": "#### 7"}))
    assert FileProblems(tmp_path, "all").count == 2
