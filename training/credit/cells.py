"""The cells of the credit benchmark: tasks by their dials, the base policy of each, and that policy as searches ask it.

Every cell is a :class:`~branchwise.envs.bifurcation.Bifurcation` with a budget of samples. The 48 fitted cells cross
horizon, recoverable mistakes, noise and budget with three worlds: few critical points and a rare right action at the
habit, few and a less rare one, many and a less rare one. The 16 held-out cells are eight tasks that have values in
between or combinations that no fitted cell has, each with a budget in between and with one of the fitted ones; what is
concluded from the fitted cells is judged there.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...envs.bifurcation import Bifurcation
from ...envs.play.policy import FunctionPolicy
from ...envs.play.transcript import Transcript

DIALS: Final = ("horizon", "recoverable", "noise", "critical", "rare", "branching", "budget")
HABITS: Final = 1
"""Points at which the base policy has a habit."""
BASE_SUCCESS: Final = 0.2
SHARE_OF_REACH: Final = 0.6
"""Where the habits allow less: this share of the success of a policy that errs at its habits alone."""
_POINT: Final = re.compile(r"^point (\d+) of ", re.MULTILINE)
_KEY: Final = re.compile(r"^key (\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Cell:
    """Dials of a task. ``noise`` acts in training alone; ``rare`` is the probability of the right action where the base
    policy has a habit; ``budget`` is how many samples a method has for each point of the chain."""

    horizon: int
    recoverable: float
    noise: float
    critical: float
    rare: float
    branching: int = 4
    budget: int = 150

    @property
    def name(self) -> str:
        """Short, with shares in per cent: ``h6_rec0_noise20_crit40_rare10_n600``. Defaults are left out."""
        shares = {"rec": self.recoverable, "noise": self.noise, "crit": self.critical, "rare": self.rare}
        parts = [f"h{self.horizon}", *(f"{name}{100 * share:.0f}" for name, share in shares.items())]
        parts += [f"b{self.branching}"] * (self.branching != 4) + [f"n{self.budget}"] * (self.budget != 150)
        return "_".join(parts)

    def task(self, seed: int) -> Bifurcation:
        """The training split's simulator; ``seed`` draws the world."""
        return Bifurcation(
            horizon=self.horizon,
            slack=self.horizon // 2,
            critical=self.critical,
            recoverable=self.recoverable,
            branching=self.branching,
            noise=self.noise,
            rare=self.rare,
            world=seed,
        )

    def base(self, task: Bifurcation) -> NDArray[np.float64]:
        """The base policy's probabilities, float64 ``[keys, horizon, 2, branching]``."""
        reach = exact_success(task, task.habitual_table(HABITS, 1.0))
        return task.habitual_table(HABITS, min(BASE_SUCCESS, SHARE_OF_REACH * reach))


_WORLDS: Final = ((0.4, 0.1), (0.4, 0.3), (0.8, 0.3))
"""Share of critical points, and probability of the right action at the habit."""
BUDGETS: Final = (150, 600)
FITTED: Final = tuple(
    Cell(horizon, recoverable, noise, critical, rare, budget=budget)
    for budget, horizon, recoverable, noise, (critical, rare) in itertools.product(
        BUDGETS, (6, 12), (0.0, 1.0), (0.0, 0.2), _WORLDS
    )
)
_OTHER_TASKS: Final = (
    Cell(9, 0.5, 0.0, 0.6, 0.2),
    Cell(9, 0.5, 0.1, 0.6, 0.2),
    Cell(9, 0.0, 0.1, 0.4, 0.3),
    Cell(6, 0.5, 0.2, 0.8, 0.1),
    Cell(12, 1.0, 0.1, 0.8, 0.1),
    Cell(12, 0.0, 0.0, 0.8, 0.1),
    Cell(12, 0.5, 0.1, 0.4, 0.1, branching=6),
    Cell(6, 1.0, 0.0, 0.8, 0.3, branching=6),
)
HELD_OUT: Final = tuple(
    replace(task, budget=budget)
    for number, task in enumerate(_OTHER_TASKS)
    for budget in (BUDGETS[number % len(BUDGETS)], 300)
)
CELLS: Final = {cell.name: cell for cell in (*FITTED, *HELD_OUT)}


def exact_success(task: Bifurcation, probabilities: NDArray[np.float64]) -> float:
    """The probability of success from the first point, without noise, mean over keys."""
    return float(task.value_table(probabilities).v[:, 0, 0, 0].mean())


def table_policy(probabilities: NDArray[np.float64]) -> FunctionPolicy:
    """The policy of a table, ``[keys, horizon, 2, branching]``, as agents and searches ask it: the key is read in the
    first observation, point and detour in the last. The candidates are all actions, in their order."""
    logps = np.log(probabilities)
    known: dict[tuple[str, str], NDArray[np.float64]] = {}

    def score(transcript: Transcript, actions: Sequence[str]) -> NDArray[np.float64]:
        first, last = transcript[0].text, transcript[-1].text
        if (first, last) not in known:
            key, point = _KEY.search(first), _POINT.search(last)
            if key is None or point is None:
                raise ValueError(f"no observation of a bifurcation task: {first!r:.60}, {last!r:.60}")
            known[first, last] = logps[int(key[1]), int(point[1]) - 1, int("\ndetour\n" in last)]
        return known[first, last]

    return FunctionPolicy(score)
