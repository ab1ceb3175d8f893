"""Labels of single actions, and how right they are against the exact advantages of the base policy,

    A(s, a) = Q^π(t, s, a) − V^π(t, s),

computed without noise: a verdict that is flipped with probability q scales every advantage by 1 − 2q and changes no
sign. A pair labels each action of its chosen side +1 and each of its rejected side −1, a row without a rejected side
its actions +1; an advantage labels its action with its value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ...envs.bifurcation import Bifurcation
from ...envs.play.task import first_state
from ...envs.play.transcript import Turn
from ...search.credit import StepAdvantage
from ...search.extraction import PreferencePair

TIE: Final = 1e-6
"""Of the size of a true advantage that says nothing."""
Places = NDArray[np.int64]
"""Actions as int64 ``[n, 5]``: key, turn, point, detour, number of the action; an index of ``ValueTable.q``."""


@dataclass(frozen=True, slots=True)
class Labels:
    """``values``: float64 ``[n]``, one for each of ``places``."""

    places: Places
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PlacedPair:
    """The actions of a pair's sides; ``rejected`` is empty for a row to imitate."""

    chosen: Places
    rejected: Places


def places(task: Bifurcation, of: Any, prompt: Sequence[Turn], side: Sequence[Turn]) -> Places:
    """Where the actions of ``side`` were taken: the state after the actions of ``prompt``, from the start of the task
    ``of``, and so on."""
    words = task.all_actions()
    state = first_state(task, of)
    for turn in prompt:
        if turn.is_agent:
            state = task.step(state, turn.text)
    found = []
    for turn in side:
        if turn.is_agent:
            key, point, detour, used = task.table_index(state)
            found.append((key, used, point, detour, words.index(turn.text)))
            state = task.step(state, turn.text)
    return np.array(found, np.int64).reshape(-1, 5)


def placed_pairs(task: Bifurcation, pairs: Sequence[PreferencePair]) -> list[PlacedPair]:
    """The pairs by replaying them."""
    return [
        PlacedPair(
            places(task, pair.task, pair.prompt, pair.chosen), places(task, pair.task, pair.prompt, pair.rejected)
        )
        for pair in pairs
    ]


def labels_of_pairs(pairs: Sequence[PlacedPair]) -> Labels:
    sides = [(side, sign) for pair in pairs for side, sign in ((pair.chosen, 1.0), (pair.rejected, -1.0))]
    return Labels(
        np.concatenate([np.empty((0, 5), np.int64), *(side for side, _ in sides)]),
        np.concatenate([np.empty(0), *(np.full(len(side), sign) for side, sign in sides)]),
    )


def labels_of_advantages(task: Bifurcation, rows: Sequence[StepAdvantage]) -> Labels:
    return Labels(
        np.concatenate([np.empty((0, 5), np.int64), *(places(task, r.task, r.prompt, r.action) for r in rows)]),
        np.array([row.advantage for row in rows], np.float64),
    )


def exact_advantages(task: Bifurcation, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """A of all actions, indexed as ``ValueTable.q``: key, turn, point, detour, action."""
    v, q = task.value_table(probabilities)
    return q - v[:, :-1, :-1, :, None]


def fidelity(labels: Labels, advantages: NDArray[np.float64]) -> dict[str, float | None]:
    """``sign``: the share of labels at actions whose mean label has the sign of the true advantage; actions whose mean
    label is 0 count half, those whose true advantage is below 1e-6 in size do not count and are the share ``tied``.
    An action is one of a state with its turn. ``tau``: Kendall's tau-b between mean label and true advantage over
    actions of places whatever the turn, of which both are means over the labels there. None where there is nothing to
    compare, as of the order of labels that are all +1."""
    if not len(labels.values):
        return {"sign": None, "tied": None, "tau": None}
    truth = advantages[tuple(labels.places.T)]
    mean, true, count = _means(labels.places, labels.values, truth)
    decides = np.abs(true) >= TIE
    right = np.where(mean == 0.0, 0.5, np.sign(mean) == np.sign(true))
    weight = float(count[decides].sum())
    mean_of_place, true_of_place, _ = _means(labels.places[:, [0, 2, 3, 4]], labels.values, truth)
    tau = None
    if len(np.unique(mean_of_place)) > 1 and len(np.unique(true_of_place)) > 1:
        tau = float(stats.kendalltau(mean_of_place, true_of_place).statistic)
    return {
        "sign": float((right * count)[decides].sum() / weight) if weight else None,
        "tied": float(1.0 - weight / count.sum()),
        "tau": tau,
    }


def _means(
    rows: Places, *values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The means of both ``values`` over equal ``rows``, and how many there are. Rounded, so that sums in another order
    tie alike."""
    _, group, count = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    first, second = (np.round(np.bincount(group.ravel(), each) / count, 12) for each in values)
    return first, second, count.astype(np.float64)
