"""Who solves generated problems by the book: an expert, a careless one whose first error is known, and one with habits.

Both write the worked solution of the problem as tool calls and answer with what the tool printed last; they read the
state as an agent would, and the problem's worked solution, which no agent sees. The careless one makes one error of a
named kind at a named step and goes on in good faith, so that an episode is correct before its first error, which is
what Step-DPO's data needs (Lai et al., 2024, arXiv:2406.18629).

What they do not do: solve problems without a worked solution (files of MATH); those they answer from the key.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from .problems import Problem
from .rules import MathState, MathToolSimulator
from .templates import FAMILIES, Step, evaluate

_MISTAKEN_SIGNS: Final[Mapping[str, tuple[str, ...]]] = {
    "+": ("-", "*"),
    "-": ("+",),
    "*": ("+", "-"),
    "//": ("*", "-"),
}
_NUMBER: Final = re.compile(r"\b\d+\b")
_SIGN: Final = re.compile(r"//|[+\-*]")

MISTAKES: Final[Mapping[str, str]] = {
    "operation": "takes the wrong operation",
    "number": "misreads a number",
    "distractor": "takes a number of the text that does not belong here",
    "arithmetic": "reckons in the head, and wrongly, instead of using the tool",
    "skip": "leaves the step out",
    "early": "takes the result of this step for the answer",
    "syntax": "mistypes the code, reads the error and writes it right (costs a call; the answer is right)",
}
"""Kinds of errors, and what the careless one does."""


class Lapse(NamedTuple):
    """An error of ``kind`` (a key of ``MISTAKES``) at a step, counted from 0."""

    kind: str
    step: int


class Plan(NamedTuple):
    """``snippets`` in order, each one call, the answer after them; ``first_error``, the number of the first wrong
    action (that of the answer is ``len(snippets)``), or -1 where nothing is wrong."""

    snippets: tuple[str, ...]
    first_error: int = -1


def plan(problem: Problem, max_calls: int, lapse: Lapse | None = None) -> Plan:
    """The calls of a worked solution with ``lapse`` in it; steps share a call where there are more than ``max_calls``.

    Raises ``ValueError`` for a lapse that this problem does not allow (see :func:`lapses`).
    """
    steps = list(problem.steps)
    if lapse is not None:
        changed = _with_lapse(problem, lapse)
        if changed is None or (lapse.kind == "syntax" and max_calls < 2):
            raise ValueError(f"{lapse} cannot be made in this problem; possible: {list(lapses(problem))}")
        steps = changed
    mistyped = lapse is not None and lapse.kind == "syntax"
    groups = _grouped(len(steps), max_calls - mistyped)
    snippets = ["\n".join(_silent(steps[first:end])) for first, end in groups]
    if lapse is None:
        return Plan(tuple(snippets))
    if lapse.kind == "early":
        return Plan(tuple(snippets), len(snippets))
    place = next(i for i, (first, end) in enumerate(groups) if first <= lapse.step < end)
    if mistyped:
        snippets.insert(place, snippets[place].rpartition("\n")[0] + " +")
    return Plan(tuple(snippets), place)


def lapses(problem: Problem) -> Iterator[Lapse]:
    """Every lapse that can be made in ``problem``; all but those of kind ``syntax`` end in a wrong answer."""
    for place in range(len(problem.steps)):
        for kind in MISTAKES:
            if _with_lapse(problem, Lapse(kind, place)) is not None:
                yield Lapse(kind, place)


class Expert:
    """Solves by tool. Called as an opponent is: with the simulator, the state and a generator."""

    name = "expert"

    def __call__(self, simulator: Any, state: MathState, rng: np.random.Generator) -> str:
        return act(simulator, state, None)


class Careless:
    """Solves by tool with one lapse: of ``kind`` or any kind but ``syntax``, at ``step`` or any step. Which of those
    that the problem allows hangs on the problem's number alone; where it allows none, there is no lapse."""

    name = "careless"

    def __init__(self, kind: str | None = None, step: int | None = None) -> None:
        if kind is not None and kind not in MISTAKES:
            raise ValueError(f"kind={kind!r}; expected None or one of {', '.join(MISTAKES)}")
        self.kind, self.step = kind, step

    def lapse(self, simulator: MathToolSimulator, state: MathState) -> Lapse | None:
        """The lapse that is made in the episode of ``state``."""
        possible = [
            lapse
            for lapse in lapses(simulator.problem(state))
            if (lapse.kind != "syntax" if self.kind is None else lapse.kind == self.kind)
            and self.step in (None, lapse.step)
        ]
        if not possible:
            return None
        return possible[int(np.random.default_rng(state.problem).integers(len(possible)))]

    def __call__(self, simulator: Any, state: MathState, rng: np.random.Generator) -> str:
        return act(simulator, state, self.lapse(simulator, state))


HABITS: Final[Mapping[str, str]] = {
    "inventory": "early",
    "shopping": "operation",
    "wages": "early",
    "production": "operation",
    "heads_and_legs": "early",
    "unknown_number": "operation",
    "two_sides": "early",
    "percent": "operation",
    "consecutive": "early",
}
"""By the family of the problem: the lapse of who has habits, as late as it can be made. Others are solved right."""


class Habitual:
    """Solves by tool, with the lapse that is the habit in the problem's family (:data:`HABITS`): what is cloned from it
    is wrong in the same way every time, where errors of no pattern would average out."""

    name = "habitual"

    def __call__(self, simulator: Any, state: MathState, rng: np.random.Generator) -> str:
        problem = simulator.problem(state)
        kind = HABITS.get(problem.family, "")
        lapses = (Lapse(kind, step) for step in reversed(range(len(problem.steps))))
        return act(simulator, state, next((one for one in lapses if _with_lapse(problem, one) is not None), None))


def act(simulator: MathToolSimulator, state: MathState, lapse: Lapse | None) -> str:
    """The next action of the worked solution of the state's problem, with ``lapse`` in it."""
    problem = simulator.problem(state)
    compact = simulator.observation_mode == "compact"
    if not problem.steps:
        return _answer(problem.answer, compact)
    snippets = plan(problem, simulator.max_calls, lapse).snippets if simulator.max_calls else ()
    done = len(state.calls)
    if done < len(snippets):
        code = snippets[done]
        return f"python[{code.replace(chr(10), ' ; ')}]" if compact else f"{_lead(done)}\n```python\n{code}\n```"
    # Files round and convert between the last annotation and the answer, so their key has the last word.
    from_tool = state.calls and problem.family not in ("gsm8k", "svamp")
    return _answer(state.calls[-1].output.split("\n")[-1] if from_tool else problem.answer, compact)


class RandomSolver:
    """Joins two numbers of the question by a random sign, runs that, and answers with the output."""

    name = "random"

    def __call__(self, simulator: Any, state: MathState, rng: np.random.Generator) -> str:
        compact = simulator.observation_mode == "compact"
        if state.calls:
            return _answer(state.calls[-1].output, compact)
        numbers = re.findall(r"\d+", simulator.problem(state).plain) or ["1"]
        first, second = (numbers[int(rng.integers(len(numbers)))] for _ in range(2))
        code = f"{first} {('+', '-', '*', '//')[int(rng.integers(4))]} {second}"
        return f"python[{code}]" if compact else f"```python\n{code}\n```"


def _answer(text: str, compact: bool) -> str:
    return f"answer[{text}]" if compact else f"The answer is \\boxed{{{text}}}."


def _lead(done: int) -> str:
    return "Let me compute this step by step." if done == 0 else "Next:"


def _silent(steps: Sequence[Step]) -> list[str]:
    """The snippets of steps that share a call: only the last shows its value."""
    return [f"{step.name} = {step.expression}" for step in steps[:-1]] + [steps[-1].code]


def _grouped(steps: int, calls: int) -> list[tuple[int, int]]:
    """``steps`` in at most ``calls`` runs of neighbours, (first, one past last), the longer ones at the end."""
    calls = min(steps, calls)
    size, longer = divmod(steps, calls)
    groups, place = [], 0
    for group in range(calls):
        end = place + size + (group >= calls - longer)
        groups.append((place, end))
        place = end
    return groups


def _with_lapse(problem: Problem, lapse: Lapse) -> list[Step] | None:
    """The steps with the lapse and all that follows from it; ``None`` where it cannot be made, or would not show: the
    step's value and the answer must come out wrong, but for ``syntax``."""
    steps = list(problem.steps)
    if problem.family not in FAMILIES or not 0 <= lapse.step < len(steps) or lapse.kind not in MISTAKES:
        return None
    if lapse.kind == "syntax":
        return steps
    if lapse.kind == "early":
        early = lapse.step < len(steps) - 1 and steps[lapse.step].value != problem.answer
        return steps[: lapse.step + 1] if early else None
    for expression in _mistaken(problem, lapse):
        changed = steps.copy()
        changed[lapse.step] = Step(steps[lapse.step].name, expression, "")
        values: dict[str, int] = {}
        try:
            for place, step in enumerate(changed):
                values[step.name] = evaluate(step.expression, values)
                changed[place] = Step(step.name, step.expression, str(values[step.name]))
        except ZeroDivisionError:
            continue
        if changed[lapse.step].value != steps[lapse.step].value and changed[-1].value != problem.answer:
            return changed
    return None


def _mistaken(problem: Problem, lapse: Lapse) -> Iterator[str]:
    """Expressions that the lapse may write in the place of the right one, the likeliest first."""
    step = problem.steps[lapse.step]
    expression = step.expression
    if lapse.kind == "operation":
        for sign in _SIGN.finditer(expression):
            for other in _MISTAKEN_SIGNS[sign[0]]:
                yield expression[: sign.start()] + other + expression[sign.end() :]
    elif lapse.kind == "number":
        for number in _NUMBER.finditer(expression):
            for misread in (number[0][::-1].lstrip("0"), str(int(number[0]) + 1), str(int(number[0]) * 10)):
                if misread:
                    yield expression[: number.start()] + misread + expression[number.end() :]
    elif lapse.kind == "distractor":
        own = set(_NUMBER.findall(expression))
        told = [str(n) for n in problem.distractors] + re.findall(r"\d+", problem.plain)
        for number in _NUMBER.finditer(expression):
            for other in dict.fromkeys(n for n in told if n not in own):
                yield expression[: number.start()] + other + expression[number.end() :]
    elif lapse.kind == "arithmetic":
        value = int(step.value)
        yield from (str(value + off) for off in (10, -1, 1, 2))
    elif lapse.kind == "skip" and lapse.step:
        yield problem.steps[lapse.step - 1].name
