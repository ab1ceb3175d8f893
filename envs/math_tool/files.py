"""Problems from files, by path: GSM8K, SVAMP, and the format of MATH.

| format | file | question | answer | worked solution |
|---|---|---|---|---|
| GSM8K (Cobbe et al., 2021) | JSON lines | ``question`` | ``answer``, after ``####`` | ``answer``: ``<<48/2=24>>`` |
| SVAMP (Patel et al., 2021) | JSON list | ``Body`` + ``Question`` | ``Answer`` | ``Equation`` |
| MATH (Hendrycks et al., 2021) | the same, or a folder | ``problem`` | ``answer``, or boxed in ``solution`` | none |

Some solutions of MATH box without braces, ``$\\boxed 2$``: what stands there up to the dollar sign is the answer.

The format is seen from the keys of the first record. A file is split by the hash of each question (eight tenths train,
one tenth each validation and test), so that the same question is in the same split in whatever file it stands;
``split="all"`` takes the whole file, for publishers' own test files.

A problem whose answer could never be matched (more characters than are read, brackets that do not close, none at all)
is left out, counted in ``FileProblems.left_out``, and warned of with its file and line. A file of nothing else is
refused.

Nothing is loaded from a network, and no file is part of the package.
"""

import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from ..json_files import json_lines, read_text, stamp
from .answers import as_number
from .grading import last_boxed, unmatchable
from .problems import Problem, split_of
from .templates import Step

_ANNOTATION: Final = re.compile(r"<<([^<>=]+)=([^<>]+)>>")
_BARE_BOX: Final = re.compile(r"\\(?:boxed|fbox)\s++([^\s{}$\\]+)(?=\s*\$)")
_ARITHMETIC: Final = re.compile(r"[\d\s.+\-*/()]+")


class FileProblems:
    """The problems of ``path`` in ``split``, in the order of the file. ``left_out`` says of each problem of the whole
    file whose answer could never be matched where it is and why."""

    def __init__(self, path: str | Path, split: str) -> None:
        problems, self.left_out = _read(str(path), stamp(path))
        self._problems = [p for p in problems if split in ("all", split_of(p.plain))]
        if not self._problems:
            raise ValueError(f"{path}: none of its {len(problems)} problems is in split {split!r}; try split='all'")
        self.count = len(self._problems)
        if self.left_out:
            warnings.warn(
                f"{len(self.left_out)} of {len(self.left_out) + len(problems)} problems left out, as no answer could "
                f"ever be correct; the first: {self.left_out[0]}",
                stacklevel=2,
            )

    def __getitem__(self, number: int) -> Problem:
        return self._problems[number]


class _File(NamedTuple):
    problems: tuple[Problem, ...]
    left_out: tuple[str, ...]


@lru_cache(maxsize=8)
def _read(path: str, stamped: object) -> _File:
    """The problems of ``path``; ``stamped`` has a file that was changed read again."""
    problems, left_out = [], []
    reader: Callable[[Mapping[str, Any]], Problem] | None = None
    for place, record in _records(Path(path)):
        try:
            if reader is None:
                reader = _reader(record)
            problem = reader(record)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{place}: {error}; expected records of GSM8K (question, answer with '####'), SVAMP (Body, Question, "
                "Answer) or MATH (problem, and answer or a solution with \\boxed{…})"
            ) from error
        why = unmatchable(problem.answer)
        if why:
            left_out.append(f"{place}: the answer {problem.answer[:40]!r}: {why}")
        else:
            problems.append(problem)
    if left_out and not problems:
        raise ValueError(f"{left_out[0]}; none of the {len(left_out)} problems has an answer that could be matched")
    if not problems:
        raise ValueError(f"{path}: no problems; expected a JSON or JSON-lines file, or a folder of JSON files")
    return _File(tuple(problems), tuple(left_out))


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    """(where it stands, record) of a file, or of all JSON files below a folder in the order of their names."""
    if path.is_dir():
        for file in sorted(path.rglob("*.json*")):
            yield from _records(file)
        return
    if not path.is_file():
        raise FileNotFoundError(f"problems={str(path)!r}: no such file or folder")
    expected = "expected JSON, or one JSON record a line"
    text = read_text(path, expected)
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        yield from json_lines(path, expected)
        return
    for number, record in enumerate(whole if isinstance(whole, list) else [whole], start=1):
        yield f"{path}, record {number}", record


def _reader(record: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], Problem]:
    if "Body" in record and "Question" in record:
        return svamp_problem
    if "problem" in record:
        return math_problem
    if "question" in record and "####" in str(record.get("answer")):
        return gsm8k_problem
    raise ValueError(f"a record with {', '.join(map(str, record))}")


def gsm8k_problem(record: Mapping[str, Any]) -> Problem:
    """A record of GSM8K; its calculator annotations are the steps."""
    solution, mark, answer = record["answer"].rpartition("####")
    if not mark:
        answer = ""
    steps: list[Step] = []
    for expression, value in _ANNOTATION.findall(solution):
        number = as_number(value)
        if number is not None and _ARITHMETIC.fullmatch(expression):
            steps.append(Step(f"a{len(steps) + 1}", expression.strip(), value.strip()))
    return Problem(record["question"].strip(), answer.strip().replace(",", ""), tuple(steps), "gsm8k")


def svamp_problem(record: Mapping[str, Any]) -> Problem:
    """A record of SVAMP; its equation is the one step."""
    body, question, answer = record["Body"].strip(), record["Question"].strip(), record["Answer"]
    answer = "" if answer is None else str(answer).removesuffix(".0")
    separator = " " if body.endswith((".", "?", "!", ",")) else ", "
    equation = str(record.get("Equation", "")).strip()
    steps = (Step("a1", equation, answer),) if _ARITHMETIC.fullmatch(equation) else ()
    return Problem(f"{body}{separator}{question}", answer, steps, "svamp")


def math_problem(record: Mapping[str, Any]) -> Problem:
    """A record of MATH, or of a set in its format."""
    answer = record.get("answer")
    if answer is None:
        answer = last_boxed(_BARE_BOX.sub(r"\\boxed{\1}", record["solution"])) or ""
    return Problem(
        record["problem"].strip(), str(answer), (), str(record.get("type") or record.get("subject") or "math")
    )
