"""The math tool through its rules and through ``gym.make``: actions, budgets, pages, purity, experts, arguments."""

import doctest
import inspect
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from branchwise.envs.math_tool import env as module
from branchwise.envs.math_tool.env import MathToolEnv
from branchwise.envs.math_tool.experts import HABITS, MISTAKES, Careless, Expert, Habitual, RandomSolver
from branchwise.envs.math_tool.interpreter import InterpreterError
from branchwise.envs.math_tool.rules import MathState, MathToolSimulator, Move, read_action
from branchwise.envs.math_tool.templates import FAMILIES
from branchwise.envs.registry import simulator_for
from branchwise.envs.simulator import TERMINAL
from branchwise.testing import check_simulator, check_snapshot

ID = "branchwise/MathTool-v0"
TEXT = MathToolSimulator(split="test", seconds=0.5)
COMPACT = MathToolSimulator(split="test", observation_mode="compact", seconds=0.5)
ACTIONS = [
    "```python\nx = 3\nx\n```",
    "```python\nprint(x, y)\n```",
    "```python\ny = [x] * 3\n```",
    "I do not know.",
    "\\boxed{3}",
    "python[x = 1 2]",
]


def code(text: str) -> str:
    return f"```python\n{text}\n```"


def played(simulator: MathToolSimulator, *actions: str, goal: int = 0) -> MathState:
    state = simulator.reset(0, {"goal": goal})
    for action in actions:
        state = simulator.step(state, action)
    return state


@pytest.mark.parametrize("simulator", [TEXT, COMPACT], ids=["text", "compact"])
def test_it_keeps_the_promises_of_a_simulator(simulator: MathToolSimulator) -> None:
    check_simulator(simulator, actions=ACTIONS)


def test_snapshots_hold() -> None:
    check_snapshot(gym.make(ID), actions=ACTIONS)


@pytest.mark.parametrize("mode", ["text", "compact"])
def test_gymnasium_s_checker_finds_nothing(mode: str, recwarn: pytest.WarningsRecorder) -> None:
    check_env(gym.make(ID, observation_mode=mode).unwrapped, skip_render_check=True)
    assert not [str(warning.message) for warning in recwarn if "branchwise" in str(warning.filename)]


def test_the_documentation_s_example_runs() -> None:
    result = doctest.testmod(module)
    assert result.attempted >= 8
    assert result.failed == 0


def test_the_documentation_has_gymnasium_s_headings_and_every_argument_with_its_default() -> None:
    page = inspect.cleandoc(MathToolEnv.__doc__ or "")
    headings = "Description|Action Space|Observation Space|Rewards|Starting State|Episode End|Information|Arguments"
    for heading in (*headings.split("|"), "Version History", "Source"):
        assert f"## {heading}\n" in page
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", page, flags=re.MULTILINE))
    arguments = inspect.signature(MathToolSimulator).parameters
    assert set(rows) == set(arguments)
    for name, default in rows.items():
        assert default == repr(arguments[name].default).replace("'", '"')


def test_an_episode_of_several_turns() -> None:
    state = played(TEXT, "Let me see.\n" + code("a = 6\nprint('six')"), code("a * 7"), code("a / 0"))
    assert [call.output.split("\n")[-1] for call in state.calls] == ["six", "42", "ZeroDivisionError: division by zero"]
    assert TEXT.observation(state).startswith("```output\nTraceback (most recent call last):\n")
    assert TEXT.observation(state).endswith("\n```\n3 calls, 5 turns left.")
    assert TEXT.info(state)["invalid_action"] is False
    assert TEXT.current_player(state) == 0
    end = TEXT.step(state, f"So it is \\boxed{{{TEXT.problem(state).answer}}}.")
    assert TEXT.current_player(end) == TERMINAL
    assert not TEXT.truncated(end)
    assert TEXT.rewards(end) == (1.0,)
    info = TEXT.info(end)
    assert info["success"] is True
    assert info["outcome"] == "correct"
    parts = info["reward_components"]
    assert parts == {"total": 1.0, "format": 1.0, "tool": pytest.approx(2 / 3), "calls": 3.0, "turns": 4.0}
    assert TEXT.step(end, "\\boxed{1}") == end


@pytest.mark.parametrize(
    ("answer", "outcome", "reward"),
    [("{gold}", "correct", 1.0), ("{gold}0", "wrong", 0.0), ("{gold} or 5", "malformed", 0.0)],
)
def test_outcomes_of_answers(answer: str, outcome: str, reward: float) -> None:
    gold = TEXT.problem(TEXT.reset(0, {"goal": 0})).answer
    state = played(TEXT, f"\\boxed{{{answer.format(gold=gold)}}}")
    assert state.outcome == outcome
    assert TEXT.rewards(state) == (reward,)


def test_an_answer_that_cannot_be_graded_is_an_outcome_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "problems.json"
    path.write_text('[{"problem": "p", "answer": "x + 1"}]')
    simulator = MathToolSimulator(path, split="all")
    monkeypatch.setattr("branchwise.envs.math_tool.rules.grade", lambda gold, answer: "ungradable")
    state = played(simulator, "\\boxed{1 + x}")
    assert simulator.info(state)["outcome"] == "ungradable"
    assert simulator.rewards(state) == (0.0,)
    assert simulator.info(state)["success"] is False


def test_budgets_of_calls_and_turns() -> None:
    simulator = MathToolSimulator(max_calls=2, max_turns=4)
    state = played(simulator, code("1"), code("2"), code("3"))
    assert len(state.calls) == 2
    assert simulator.info(state)["invalid_action"] is True
    assert "no calls left" in simulator.observation(state)
    assert simulator.observation(state).endswith("no calls, 1 turn left.")
    end = simulator.step(state, "hm")
    assert simulator.truncated(end)
    assert simulator.info(end)["outcome"] == "unanswered"
    assert simulator.legal_actions(end) == ()
    assert not simulator.truncated(simulator.step(state, "\\boxed{1}"))  # an answer in the last turn is an answer


@pytest.mark.parametrize(
    ("action", "move"),
    [
        ("", Move("")),
        ("just words", Move("")),
        ("```python\nx = 1\n```", Move("code", "x = 1")),
        ("a ```Python  \nx = 1\n``` b ```py\ny = 2``` c", Move("code", "x = 1\ny = 2")),
        ("```python\nx = 1", Move("code", "x = 1")),
        ("```python x = 1```", Move("code", "x = 1")),
        ("```\nx = 1\n```", Move("")),
        ("```pythonic\nx\n```", Move("")),
        ("```python\n```", Move("code", "")),
        ("```python\ns = '\\boxed{3}'\n```", Move("code", "s = '\\boxed{3}'")),
        ("```python\n1\n```\nso \\boxed{5}", Move("answer", "5")),
        ("```python\n1\n```\n```output\n5\n```\nso \\boxed{5}", Move("code", "1")),
        ("```output\n5\n```\nso \\boxed{5}", Move("")),
        ("```python\nf = '```'\nf\n```", Move("code", "f = '```'\nf")),
        ("```python\nx = 1  # in ``` here\n  ```\nso \\boxed{5}", Move("answer", "5")),
        ("```python\nx = f'```output{y}'\n```\nso", Move("code", "x = f'```output{y}'")),
        ("````python\nx = '''\n```\n'''\n````", Move("code", "x = '''\n```\n'''")),
        ("```python\n1```\nand\n```python\n2```\ndone", Move("code", "1\n2")),
        ("```python\n1\n```python\n2\n```", Move("code", "1\n2")),
        ("```python\n1\n```output\n5\n```\nso \\boxed{5}", Move("code", "1")),
        *((f"```{name}\nx = 1\n```", Move("code", "x = 1")) for name in ("python3", "Python3.11", "py3", "ipython")),
        ("```python-repl\n1\n```", Move("")),
        ("```python\n" + "```x " * 3_000, Move("code", "")),
        ("It is \\boxed{52}, as you asked in \\boxed{}, \\boxed {…} or \\boxed{...}.", Move("answer", "52")),
        ("The answer goes into \\boxed{ }.", Move("")),
        ("\\boxed{51}? \\boxed{52", Move("")),
        ("\\boxed{1} or \\boxed{2}", Move("answer", "2")),
        ("\\boxed{1", Move("")),
        ("python[1 + 1]", Move("")),
        ("x" * 30_000 + "\\boxed{1}", Move("")),
        ("\\boxed{\ud800}", Move("answer", "?")),
    ],
)
def test_how_an_action_is_read(action: str, move: Move) -> None:
    assert read_action(action) == move


@pytest.mark.parametrize(
    ("action", "move"),
    [
        ("python[a = 1 2 * 3 ; a]", Move("code", "a = 12 * 3 ; a")),
        (" Python [ x = [1 , 2] ] ", Move("code", "x = [1 , 2]")),
        ("python[a = 8 / / 2 * * 1 . 5]", Move("code", "a = 8 // 2 ** 1.5")),
        ("answer[ - 1 2 ]", Move("answer", "-12")),
        ("answer[x + 1]", Move("answer", "x + 1")),
        ("\\boxed{3}", Move("answer", "3")),
        ("python[a = 1\n2]", Move("code", "a = 1\n2")),
        ("python[]", Move("code", "")),
    ],
)
def test_how_a_short_action_is_read(action: str, move: Move) -> None:
    assert read_action(action, compact=True) == move


def test_nothing_that_code_prints_is_graded() -> None:
    gold = TEXT.problem(TEXT.reset(0, {"goal": 0})).answer
    state = played(TEXT, code(f"print('\\\\boxed{{{gold}}}\\n```\\nCorrect.')"))
    assert state.outcome == ""
    assert TEXT.observation(state).count("```") == 2  # the block's own


def test_a_snippet_beyond_its_limits_is_undone_and_costs_a_call() -> None:
    state = played(TEXT, code("a = 1"), code("a = 2\nwhile True: pass"), code("a"))
    assert [call.error for call in state.calls] == ["", "TimeoutError", ""]
    assert state.log == ("a = 1", "a")
    assert state.calls[-1].output == "1"


def test_the_same_log_gives_the_same_state_in_another_process() -> None:
    actions = [code("a = [1]\nprint(id(a), a, {'x', 'y', 3})"), code("a.append(a)\nhash('a'), a"), code("1 / 0")]
    script = (
        "import sys\nfrom branchwise.envs.math_tool.rules import MathToolSimulator\n"
        "simulator = MathToolSimulator(split='test', seconds=0.5)\nstate = simulator.reset(0, {'goal': 0})\n"
        f"for action in {actions!r}:\n    state = simulator.step(state, action)\nprint(repr(state))"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert said.stdout.strip() == repr(played(TEXT, *actions))


def test_a_state_goes_on_where_no_cache_is() -> None:
    state = played(TEXT, code("a = [1]"), code("a.append(2)"))
    elsewhere = pickle.loads(pickle.dumps(TEXT))
    assert elsewhere.step(pickle.loads(pickle.dumps(state)), code("a")) == TEXT.step(state, code("a"))


def test_branches_of_a_state_do_not_touch_each_other() -> None:
    state = played(TEXT, code("a = [1]"))
    left, right = TEXT.step(state, code("a.append(2)\na")), TEXT.step(state, code("a.append(3)\na"))
    assert (left.calls[-1].output, right.calls[-1].output) == ("[1, 2]", "[1, 3]")
    assert TEXT.step(left, code("a")).calls[-1].output == "[1, 2]"


def test_the_prompt_says_what_the_interpreter_has_and_the_budgets() -> None:
    prompt = TEXT.observation(TEXT.reset(0))
    assert TEXT.interpreter.description in prompt
    assert "6 calls and 8 turns" in prompt
    assert "\\boxed{…}" in prompt


def test_what_the_prompt_says_of_monty_is_so() -> None:
    described = TEXT.interpreter.description
    has, _, lacks = described.partition("it has no ")
    for name in re.findall(r"\b(math|decimal|itertools|functools|collections|random|re|json|datetime)\b", has):
        assert TEXT.notebook.run((), f"import {name}").error == ""
    for name in ("fractions", "statistics", "numpy", "sympy"):
        assert name in lacks
        assert TEXT.notebook.run((), f"import {name}").error == "ModuleNotFoundError"
    for text in ("input()", "x = 1\ndel x", "def f(): yield 1", "class A(dict): pass"):
        assert TEXT.notebook.run((), text).error


def test_a_compact_page() -> None:
    state = played(COMPACT, "python[a = 6 ; a]", "python[b]", "python[None]", "what?")
    assert COMPACT.observation(state).split("\n")[1:] == [
        "calls 3 turns 4",
        "call a = 6 ; a",
        "out 6",
        "call b",
        "error nameerror",
        "call None",
        "out nothing",
        "invalid action",
    ]
    assert COMPACT.admissible_commands(state) == ["python[…]", "answer[…]"]
    assert COMPACT.observation(COMPACT.step(state, "answer[-1]")).endswith("answer -1\nwrong")


def test_the_lexicon_holds_every_word_of_every_compact_page() -> None:
    simulator = MathToolSimulator(observation_mode="compact", steps=(1, 8), distractors=(0, 2))
    known = set(simulator.lexicon())
    rng = np.random.default_rng(0)
    for goal in range(150):
        state = simulator.reset(0, {"goal": goal})
        solver = (Expert(), Careless(), Careless("syntax"))[goal % 3]
        while True:
            assert set(re.findall(r"[^\W\d_]+", simulator.observation(state))) <= known
            if simulator.current_player(state) == TERMINAL:
                break
            state = simulator.step(state, solver(simulator, state, rng))


@pytest.mark.parametrize("simulator", [TEXT, COMPACT], ids=["text", "compact"])
def test_the_expert_solves_and_the_careless_fails(simulator: MathToolSimulator) -> None:
    assert outcomes(simulator, Expert(), 40) == {"correct"}
    assert outcomes(simulator, Careless(), 40) == {"wrong"}
    assert outcomes(simulator, Careless("syntax"), 20) == {"correct"}
    assert outcomes(simulator, Careless(step=1), 20) == {"wrong"}


def test_a_habit_is_the_same_in_every_problem_of_a_family() -> None:
    for family in FAMILIES:
        simulator = MathToolSimulator(observation_mode="compact", families=[family])
        expected = {"wrong"} if family in HABITS else {"correct"}
        found = outcomes(simulator, Habitual(), 30)
        assert found == expected or (family in HABITS and "wrong" in found), family  # some allow no such lapse


@pytest.mark.parametrize("kind", sorted(set(MISTAKES) - {"syntax"}))
def test_every_kind_of_lapse_fails_where_it_can_be_made(kind: str) -> None:
    careless = Careless(kind)
    for goal in range(15):
        state = TEXT.reset(0, {"goal": goal})
        made = careless.lapse(TEXT, state)
        while TEXT.current_player(state) != TERMINAL:
            state = TEXT.step(state, careless(TEXT, state, np.random.default_rng(0)))
        assert state.outcome == ("correct" if made is None else "wrong")


def outcomes(simulator: MathToolSimulator, solver: Any, goals: int) -> set[str]:
    found = set()
    for goal in range(goals):
        state = simulator.reset(0, {"goal": goal})
        rng = np.random.default_rng(goal)
        while simulator.current_player(state) != TERMINAL:
            state = simulator.step(state, solver(simulator, state, rng))
        found.add(state.outcome)
    return found


def test_the_random_solver_seldom_is_right() -> None:
    assert outcomes(TEXT, RandomSolver(), 30) <= {"wrong", "correct", "malformed"}


def test_a_file_of_problems_by_path(shared_data: Path) -> None:
    path = str(shared_data / "math" / "gsm8k_train.jsonl")
    simulator = simulator_for(ID, problems=path, split="all")
    assert isinstance(simulator, MathToolSimulator)
    assert simulator.problems.count == 7473
    assert outcomes(simulator, Expert(), 20) == {"correct"}
    env = gym.make(ID, problems=path, split="test")
    observation, _ = env.reset(seed=3)
    assert env.unwrapped.problem.question in observation  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"split": "all"}, "split"),
        ({"observation_mode": "rich"}, "observation_mode"),
        ({"max_turns": 0}, "max_turns"),
        ({"max_calls": -1}, "max_calls"),
        ({"problem_seed": -1}, "problem_seed"),
        ({"interpreter": "bash"}, "interpreter"),
        ({"seconds": 0}, "seconds"),
        ({"problems": ".", "largest": 60}, "largest"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        MathToolSimulator(**arguments)


@pytest.mark.parametrize("options", [{"goal": -1}, {"goal": 2**31}, {"goal": "x"}, {"problem": 1}])
def test_wrong_options_of_reset_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"goal|problem"):
        TEXT.reset(0, options)


def test_the_jail_is_another_interpreter_behind_the_same_rules() -> None:
    try:
        simulator = MathToolSimulator(interpreter="jail", megabytes=64)
    except InterpreterError as error:
        pytest.skip(f"{error}")
    state = played(simulator, code("from sympy import *\nx = symbols('x')"), code("solve(2*x - 6, x)"))
    assert state.calls[-1].output == "[3]"
    assert "sympy" in simulator.observation(simulator.reset(0))
    assert pickle.loads(pickle.dumps(simulator)).step(state, code("x + x")).calls[-1].output == "2*x"


def test_the_example_of_the_guide_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "math_tool.md").read_text(encoding="utf-8")
    example, printed = re.findall(r"(?ms)^```python\n(.*?)^```$.*?^````text\n(.*?)^````$", page)[0]
    exec(example, {})
    assert capsys.readouterr().out == printed
    assert printed.endswith("1.0 correct\n")


@pytest.mark.parametrize("kind", [TEXT, COMPACT])
def test_a_lone_carriage_return_ends_a_line(kind: MathToolSimulator) -> None:
    state = kind.step(kind.reset(0), code("2+3\r4"))
    assert state.calls[0].code == "2+3\n4"
    assert state.calls[0].output == "4"
    assert read_action("python[2+3\r4]", compact=True) == Move("code", "2+3\n4")
