"""The Gymnasium face of the math tool; the rules are in ``rules.py``."""

from typing import Any, ClassVar

from gymnasium.error import ResetNeeded

from ..shells.gym import SimulatorEnv
from .problems import Problem
from .rules import LONGEST_ACTION, MathState, MathToolSimulator


class MathToolEnv(SimulatorEnv[MathState]):
    """
    ## Description

    A math problem in words, and a Python interpreter. In each turn the agent reasons and writes a block of code, and
    reads what the code prints; it ends with the answer in `\\boxed{…}`. The form is that of tool-integrated reasoning
    (ToRA) and of multi-turn preference learning (Xiong et al., 2024).

    Problems are generated without end, from thirteen families of grade-school and algebra templates, as long and as
    full of distractors as the arguments say, each with a worked solution in tool calls; or they are read from files of
    GSM8K, SVAMP or the format of MATH.

    The interpreter is pydantic-monty, which has no files, network, environment or fork, always with limits. What an
    agent writes is taken for hostile: nothing that it runs can outlast its call, and nothing that it prints is graded.

    ## Action Space

    Text.

    | What it contains | What it does |
    |---|---|
    | one or more ```` ```python ```` blocks | runs them as one snippet: one call |
    | `\\boxed{…}` outside of code | answers with the last box that is not empty; ends the episode; code is not run |
    | `python[code]`, `answer[number]` (the whole action, compact mode) | the same, for small models |

    A block ends at three backticks that begin or end a line; within a line they are code. Variables stay between calls,
    as in a notebook; the value of a last line that is an expression is shown. What follows a forged ```` ```output ````
    block is not read. Anything else (also empty code, an empty box, and code when no calls are left) changes nothing,
    counts as a turn, is answered by a line that says what was wrong, and sets `info["invalid_action"]`.

    ## Observation Space

    Text, in one of two forms (`observation_mode`):

    - `"text"`: first the task, what the interpreter has, the budgets and the problem; then an ```` ```output ````
      block with what was printed or the traceback, at most `max_output` characters of it (head and tail), and the
      budgets left;
    - `"compact"`: for small models, lower-case lines of few regular words: the problem, the budgets, and every call so
      far with its output or the name of its error.

    A snippet that runs out of time or memory, prints more than a million characters, or leaves variables of more than
    4 MB, is undone as a whole; the output says so.

    ## Rewards

    1 for a correct answer, 0 otherwise. A number is compared exactly, in whatever spelling; other answers are equal
    where their values are, and where their kind is the same (a tuple is no set). Only the declared format counts: the
    number alone, or the expression if the answer is no number. `envs/math_tool/grading.py` says what counts as equal.

    ## Starting State

    The problem of the split that `reset(options={"goal": i})` names, else one that the seed picks. Numbers of generated
    problems go up to 2³¹ − 1; the same arguments and number give the same problem in every process.

    ## Episode End

    Terminated by an answer; truncated after `max_turns` turns without one.

    ## Information

    - `admissible_commands`: `None`, as any text may be an action; in compact mode `["python[…]", "answer[…]"]`
    - `success`: whether the answer was correct
    - `invalid_action`: whether the last action was none
    - `goal`: the number of the problem in its split, as `reset(options={"goal": i})` takes it
    - `family`: the kind of problem
    - `outcome`: `""` while it goes on, then `correct`, `wrong`, `malformed` (not in the declared format), `ungradable`
      (nobody could tell, or not in time) or `unanswered`
    - `reward_components` (at the end): `total`, `format` (1 if the answer was in the format), `tool` (share of calls
      without an error), `calls`, `turns`: parts for shaping a reward of your own

    ## Arguments

    >>> import gymnasium as gym
    >>> import branchwise
    >>> env = gym.make("branchwise/MathTool-v0", split="test")
    >>> observation, info = env.reset(options={"goal": 0})
    >>> step = env.unwrapped.problem.steps[0]
    >>> observation, reward, terminated, truncated, info = env.step(f"First:\\n```python\\n{step.code}\\n```")
    >>> observation.splitlines()[1] == step.value
    True
    >>> answer = env.unwrapped.problem.answer
    >>> observation, reward, terminated, truncated, info = env.step(f"So it is \\\\boxed{{{answer}}}.")
    >>> reward, terminated, info["outcome"]
    (1.0, True, 'correct')

    | Argument | Default | Meaning |
    |---|---|---|
    | `problems` | `None` | a file or folder of problems; `None` generates them |
    | `split` | `"train"` | `"train"`, `"validation"` or `"test"`; for a file also `"all"` |
    | `problem_seed` | `0` | generated: seed of the stream of problems |
    | `families` | `None` | generated: names of the families (`templates.FAMILIES`); `None`: all |
    | `steps` | `(2, 4)` | generated: fewest and most steps of the worked solution, 1 to 8 |
    | `distractors` | `(0, 1)` | generated: fewest and most sentences that do not matter, 0 to 5 |
    | `largest` | `50` | generated: largest number that a sentence adds, 10 to 10,000 |
    | `observation_mode` | `"text"` | `"text"` or `"compact"` |
    | `max_turns` | `8` | turns before the episode is cut off |
    | `max_calls` | `6` | snippets that are run |
    | `interpreter` | `"monty"` | `"monty"`, `"jail"` (Linux: CPython with sympy), or an `Interpreter` |
    | `seconds` | `1.0` | limit of time a call |
    | `megabytes` | `32` | limit of memory of the notebook |
    | `max_output` | `1000` | characters of output shown |

    **Splits.** A generated problem belongs to the split that the hash of its arithmetic picks, whatever its seed, so
    that splits never share a sum; a problem from a file, to that of its text. Eight tenths are train, a tenth each
    validation and test.

    **Determinism.** Clock, hashes and `random` inside the interpreter are fixed, memory and depth are counted alike
    everywhere. Time is in seconds, so code that needs nearly `seconds` can end differently on different machines.

    ## Version History

    - v0: first version

    ## Source

    Turns and format after Xiong et al., *Building Math Agents with Multi-Turn Iterative Preference Learning*
    (<https://arxiv.org/abs/2409.02392>), and Gou et al., *ToRA* (<https://arxiv.org/abs/2309.17452>). Problems are
    generated here; GSM8K, SVAMP and MATH are read from their own files.
    """

    max_action_length: ClassVar[int] = LONGEST_ACTION

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(MathToolSimulator(**options), render_mode=render_mode)

    @property
    def problem(self) -> Problem:
        """The problem of this episode, with its answer and worked solution."""
        if self.state is None:
            raise ResetNeeded("problem was read before reset(): there is no episode yet.")
        assert isinstance(self.simulator, MathToolSimulator)
        return self.simulator.problem(self.state)
