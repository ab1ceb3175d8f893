"""The rules of the math tool: pure functions over :class:`MathState`, which is a problem's number and a log of calls.

An action is what a model says in a turn: reasoning and ```` ```python ```` blocks, or reasoning and an answer in
``\\boxed{…}``. Blocks are run as one snippet, in a notebook that keeps its variables (``notebook.py``); the next
observation is what they printed. The form is that of multi-turn preference learning with tools (Xiong et al., 2024,
arXiv:2409.02392, and ToRA before it), but code that stands in a log is not run again.

The state holds every call with its output, so that it is the whole truth about an episode; sessions and dumps are a
cache outside it, keyed by the log of snippets. The verdict on an answer is in the state too.

What an agent says is read as follows. A block of code ends at backticks, as many as opened it or more, that begin or
end a line, so that code may have backticks in its texts; where none do, at the first backticks, or with the message.
Whatever follows a forged ```` ```output ```` block is not read. An answer counts where it stands outside of code; a
message with both an answer and code is an answer.
"""

import itertools
import operator
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from ..arguments import checked_options
from ..simulator import TERMINAL, Simulator
from .answers import as_number
from .files import FileProblems
from .grading import LONGEST_ANSWER, grade, last_boxed
from .interpreter import Interpreter, Limits, MontyInterpreter, clean, with_line_feeds
from .notebook import Notebook
from .problems import SPLITS, GeneratedProblems, Problem, Problems
from .templates import LONGEST, words

ObservationMode = Literal["text", "compact"]
Outcome = Literal["", "correct", "wrong", "malformed", "ungradable", "unanswered"]
LONGEST_ACTION: Final = 20_000  # characters; the rest of a longer action is not read

_FENCE: Final = re.compile(
    r"(?<!`)(`{3,}+)[ \t]*+(?:(?P<forged>output)\b|(?:i?python[\d.]*|py3?)(?![\w-])[^\S\n]*\n?)", re.IGNORECASE
)
_SHORT: Final = re.compile(r"\s*(python|answer)\s*\[(.*)\]\s*", re.IGNORECASE | re.DOTALL)
_GAPS: Final = re.compile(r"(?<=\d)[ \t]+(?=[\d.])|(?<=\.)[ \t]+(?=\d)|(?<=[/*=<>!])[ \t]+(?=[/*=])")
_WHOLE: Final = re.compile(r"-?\b\d{1,18}\b")
_MOST_NUMBERS: Final = 8  # that are suggested at once
_PROMPT: Final = """Solve the problem. You may write Python in a block

```python
…
```

and read in the next turn what it prints (the value of a last line that is an expression is shown too). Variables stay.
It is {interpreter}. You have {calls} and {turns}.
Give the answer as \\boxed{{…}}: the number alone, without words or units, or the expression if the answer is no number.

Problem: {question}"""
_WRONG: Final[dict[str, str]] = {
    "form": "Invalid action: write code in a ```python block, or the answer as \\boxed{…}.",
    "empty": "Invalid action: the code block is empty.",
    "calls": "Invalid action: no calls left; give the answer as \\boxed{…}.",
}
_ENDS: Final[dict[str, str]] = {
    "correct": "Correct.",
    "wrong": "Wrong.",
    "malformed": "Not in the format that was asked for.",
    "ungradable": "This could not be graded.",
}
_ERRORS: Final = frozenset(
    (
        *("AssertionError", "AttributeError", "ImportError", "IndexError", "InterpreterError", "KeyError"),
        *("MemoryError", "ModuleNotFoundError", "NameError", "NotImplementedError", "OutputError", "OverflowError"),
        *("RecursionError", "RuntimeError", "SyntaxError", "TimeoutError", "TypeError", "UnboundLocalError"),
        *("ValueError", "ZeroDivisionError"),
    )
)
_LINE: Final = 120  # characters of code or output on a compact page


class Call(NamedTuple):
    """A snippet that was run, what was shown of it, the exception's name or "", and whether its effects were kept."""

    code: str
    output: str
    error: str = ""
    kept: bool = True


class MathState(NamedTuple):
    """``problem`` is a number in the split. ``wrong`` is what was wrong with the last action ("" if nothing),
    ``answer`` the content of the box, ``outcome`` how it ended ("" while it goes on)."""

    problem: int
    calls: tuple[Call, ...] = ()
    turns: int = 0
    wrong: str = ""
    answer: str = ""
    outcome: Outcome = ""

    @property
    def log(self) -> tuple[str, ...]:
        """The snippets whose effects stand in the notebook."""
        return tuple(call.code for call in self.calls if call.kept)


class Move(NamedTuple):
    """An action as it was read: ``kind`` is ``"code"``, ``"answer"``, or ``""`` where it is neither."""

    kind: Literal["", "code", "answer"]
    text: str = ""


class MathToolSimulator(Simulator[MathState]):
    """The math tool as a simulator; arguments as in ``MathToolEnv``."""

    def __init__(
        self,
        problems: str | Path | None = None,
        split: Literal["train", "validation", "test", "all"] = "train",
        problem_seed: int = 0,
        families: Sequence[str] | None = None,
        steps: tuple[int, int] = (2, 4),
        distractors: tuple[int, int] = (0, 1),
        largest: int = 50,
        observation_mode: ObservationMode = "text",
        max_turns: int = 8,
        max_calls: int = 6,
        interpreter: str | Interpreter = "monty",
        seconds: float = 1.0,
        megabytes: int = 32,
        max_output: int = 1_000,
    ) -> None:
        problems = None if problems is None else str(Path(problems).expanduser().resolve())
        self._arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        _one_of("split", split, SPLITS if problems is None else (*SPLITS, "all"))
        _one_of("observation_mode", observation_mode, ("text", "compact"))
        _at_least("problem_seed", problem_seed, 0)
        _at_least("max_turns", max_turns, 1)
        _at_least("max_calls", max_calls, 0)
        self.split, self.observation_mode = split, observation_mode
        self.max_turns, self.max_calls = max_turns, max_calls
        self.problems: Problems
        if problems is None:
            self.problems = GeneratedProblems(split, problem_seed, families, _pair(steps), _pair(distractors), largest)
        else:
            shape = (problem_seed, families, _pair(steps), _pair(distractors), largest)
            if shape != (0, None, (2, 4), (0, 1), 50):
                raise ValueError(
                    "problem_seed, families, steps, distractors and largest shape generated problems and have no "
                    f"effect on problems={problems!r}; leave them out"
                )
            self.problems = FileProblems(problems, split)
        self.goal_count: int = self.problems.count
        limits = Limits(seconds=seconds, megabytes=megabytes, output=max_output)
        self.interpreter = interpreter_for(interpreter, limits) if isinstance(interpreter, str) else interpreter
        self.notebook = Notebook(self.interpreter)

    def __reduce__(self) -> tuple[Any, ...]:
        return _make, (type(self), self._arguments)

    # What a scripted agent or a test may ask beside the game.

    def problem(self, state: MathState) -> Problem:
        """The problem of the episode that ``state`` belongs to."""
        return self.problems[state.problem]

    def lexicon(self) -> list[str]:
        """Every lower-case word that a compact page of a generated problem can contain, beside numbers and what the
        agent wrote itself; with the names that worked solutions use. Sorted."""
        page = "problem calls turns call out nothing error other invalid action answer python correct wrong malformed "
        page += "ungradable unanswered"
        names = [chr(ord("a") + place) for place in range(LONGEST)]
        return sorted(words() | set(page.split()) | set(names) | {error.lower() for error in _ERRORS})

    # The rules.

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> MathState:
        """The problem ``options["goal"]`` of the split, else one that ``seed`` picks, each as likely."""
        number = checked_options(self, options, "goal").get("goal")
        count = self.goal_count
        if number is None:
            return MathState(int(np.random.default_rng(operator.index(seed) & (2**63 - 1)).integers(count)))
        try:
            number = operator.index(number)
        except TypeError:
            raise ValueError(f"goal {number!r}; expected a whole number from 0 to {count - 1}") from None
        if not 0 <= number < count:
            raise ValueError(f"goal {number} is not in split {self.split!r}, whose goals are 0 to {count - 1}")
        return MathState(number)

    def current_player(self, state: MathState) -> int:
        return TERMINAL if state.outcome else 0

    def truncated(self, state: MathState) -> bool:
        return state.outcome == "unanswered"

    def rewards(self, state: MathState) -> tuple[float, ...]:
        return (float(state.outcome == "correct"),)

    def legal_actions(self, state: MathState) -> Sequence[str] | None:
        """``None``: any text may be an answer. Nothing after the end."""
        return () if state.outcome else None

    def admissible_commands(self, state: MathState) -> list[str] | None:
        if state.outcome:
            return []
        return ["python[…]", "answer[…]"] if self.observation_mode == "compact" else None

    def suggested_actions(self, state: MathState) -> Sequence[str]:
        """What might be tried without a language model: two of the numbers that came out or stand in the question (or
        2, for "twice" and "half"), joined by a sign, as code; and each number that came out, as the answer."""
        if state.outcome:
            return ()
        compact = self.observation_mode == "compact"
        opened, closed = ("python[", "]") if compact else ("```python\n", "\n```")
        answer = "answer[{}]" if compact else "\\boxed{{{}}}"
        found = [call.output.strip() for call in reversed(state.calls) if _WHOLE.fullmatch(call.output.strip())]
        texts = [answer.format(number) for number in dict.fromkeys(found)]
        if len(state.calls) < self.max_calls:
            known = dict.fromkeys(map(int, (*found, *_WHOLE.findall(self.problem(state).plain), 2)))
            pairs = itertools.combinations(sorted(list(known)[:_MOST_NUMBERS], reverse=True), 2)
            signs = ("+", "-", "*", "//")
            texts += [f"{opened}{a} {sign} {b}{closed}" for a, b in pairs for sign in signs if b or sign != "//"]
        return tuple(texts) or (answer.format(0),)

    def position(self, state: MathState) -> MathState:
        """The state without its clock and complaint."""
        return state._replace(turns=0, wrong="")

    def step(self, state: MathState, action: str) -> MathState:
        """The state after ``action``; a finished episode stays as it is."""
        if state.outcome:
            return state
        move = read_action(action, self.observation_mode == "compact")
        calls, turns = state.calls, state.turns + 1
        wrong = ""
        if move.kind == "answer":
            verdict = grade(self.problem(state).answer, move.text)
            return MathState(state.problem, calls, turns, "", clean(move.text[:LONGEST_ANSWER]), verdict)
        if move.kind == "":
            wrong = "form"
        elif not move.text.strip():
            wrong = "empty"
        elif len(calls) >= self.max_calls:
            wrong = "calls"
        else:
            calls = (*calls, Call(move.text, *self.notebook.run(state.log, move.text)))
        return MathState(state.problem, calls, turns, wrong, "", "unanswered" if turns >= self.max_turns else "")

    def info(self, state: MathState) -> dict[str, Any]:
        """``success``, ``invalid_action``, ``goal``, ``family``, ``outcome`` and, at the end, ``reward_components``."""
        facts: dict[str, Any] = {
            "success": state.outcome == "correct",
            "invalid_action": state.wrong != "",
            "goal": state.problem,
            "family": self.problem(state).family,
            "outcome": state.outcome,
        }
        if state.outcome:
            failed = sum(call.error != "" for call in state.calls)
            facts["reward_components"] = {
                "total": float(state.outcome == "correct"),
                "format": float(state.outcome in ("correct", "wrong")),
                "tool": 1.0 - failed / len(state.calls) if state.calls else 0.0,
                "calls": float(len(state.calls)),
                "turns": float(state.turns),
            }
        return facts

    # What is read.

    def observation(self, state: MathState, player: int = 0) -> str:
        if self.observation_mode == "compact":
            return self._compact(state)
        if not state.turns:
            calls, turns = _counted(self.max_calls, "call"), _counted(self.max_turns, "turn")
            question = clean(self.problem(state).question)
            return _PROMPT.format(interpreter=self.interpreter.description, calls=calls, turns=turns, question=question)
        if state.outcome in _ENDS:
            return f"Answer: {state.answer}\n{_ENDS[state.outcome]}"
        text = _WRONG[state.wrong] if state.wrong else f"```output\n{state.calls[-1].output}\n```"
        if state.outcome:
            return f"{text}\nNo turns left."
        return f"{text}\n{_counted(self._calls_left(state), 'call')}, {_counted(self._turns_left(state), 'turn')} left."

    def _compact(self, state: MathState) -> str:
        lines = [f"problem {clean(self.problem(state).plain)}"]
        lines.append(f"calls {self._calls_left(state)} turns {self._turns_left(state)}")
        for call in state.calls:
            lines.append(f"call {_short(call.code)}")
            if call.error:
                lines.append(f"error {call.error.lower() if call.error in _ERRORS else 'other'}")
            else:
                lines.append(f"out {_short(call.output) or 'nothing'}")
        if state.wrong:
            lines.append("invalid action")
        if state.answer:
            lines.append(f"answer {_short(state.answer)}")
        if state.outcome:
            lines.append(state.outcome)
        return "\n".join(lines)

    def _calls_left(self, state: MathState) -> int:
        return self.max_calls - len(state.calls)

    def _turns_left(self, state: MathState) -> int:
        return self.max_turns - state.turns


def read_action(action: str, compact: bool = False) -> Move:
    """What ``action`` is. ``compact`` admits the short forms ``python[code]`` and ``answer[number]`` too, in which
    blanks between digits do not count, as models that spell numbers digit by digit put them there.

    >>> read_action("So it is \\\\boxed{12}.")
    Move(kind='answer', text='12')
    >>> read_action("python[a = 1 2 * 3 ; a]", compact=True)
    Move(kind='code', text='a = 12 * 3 ; a')
    """
    text = with_line_feeds(action[:LONGEST_ACTION])
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    short = _SHORT.fullmatch(text) if compact else None
    if short is not None:
        content = _GAPS.sub("", short[2]).strip()
        if short[1].lower() == "python":
            return Move("code", content)
        joined = "".join(content.split())
        return Move("answer", joined if as_number(joined) is not None else content)
    blocks, prose = _blocks(text)
    answer = last_boxed(prose)
    if answer is not None:
        return Move("answer", answer)
    return Move("code", "\n".join(blocks)) if blocks else Move("")


def _blocks(text: str) -> tuple[list[str], str]:
    """The contents of the Python blocks, and all else up to a forged output."""
    blocks: list[str] = []
    prose, place = [], 0
    missing = LONGEST_ACTION  # so many backticks begin or end no later line; to look again for each block would be slow
    while (fence := _FENCE.search(text, place)) is not None:
        prose.append(text[place : fence.start()])
        if fence["forged"]:
            return blocks, "\n".join(prose)
        ticks = rf"(?<!`){fence[1]}`*+"
        found = None
        if len(fence[1]) < missing:
            found = re.compile(rf"^[ \t]*+{ticks}|{ticks}[ \t]*+$", re.MULTILINE).search(text, fence.end())
        if found is None:
            missing = min(missing, len(fence[1]))
            found = re.compile(ticks).search(text, fence.end())
        place = len(text) if found is None else found.start()
        blocks.append(text[fence.end() : place].strip("\n"))
    prose.append(text[place:])
    return blocks, "\n".join(prose)


def interpreter_for(name: str, limits: Limits) -> Interpreter:
    """The interpreter called ``name``: ``"monty"`` or ``"jail"``."""
    if name == "monty":
        return MontyInterpreter(limits)
    if name == "jail":
        from .jail import JailInterpreter

        return JailInterpreter(limits)
    raise ValueError(f"interpreter={name!r}; expected 'monty', 'jail' or an Interpreter")


def _short(text: str) -> str:
    """``text`` on one line of a compact page."""
    line = " ; ".join(part for part in clean(text).split("\n") if part.strip())
    return line if len(line) <= _LINE else f"{line[:_LINE]} …"


def _counted(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _make(kind: type[MathToolSimulator], arguments: dict[str, Any]) -> MathToolSimulator:
    return kind(**arguments)


def _one_of(name: str, value: object, expected: Sequence[str]) -> None:
    if value not in expected:
        raise ValueError(f"{name}={value!r}; expected one of {', '.join(map(repr, expected))}")


def _at_least(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r}; expected a whole number of at least {least}")


def _pair(value: Sequence[int]) -> tuple[int, int]:
    return tuple(value) if isinstance(value, Sequence) else value  # type: ignore[return-value]
