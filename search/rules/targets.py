"""Which actions of a node what is proven leaves to be played, the best of them, and the policy target over them.

A proven win ends its node at once, and of what is solved only the best is visited again, so the shares of the visits
say nothing about the others; and a solved action that was found late has few. All that a search hands out
(``best_action``, ``policy_target``, draws by temperature) is therefore restricted first, by one rule:

- where an action is a proven win, to the proven wins;
- where all actions are solved, to those that lead to the best known return;
- else the best known return is compared with the value of the open action that the visits (or the values) would choose:
  where it is at least that value, to the solved actions that lead to it, else to the open actions.

Proven losses, and what cannot be played or failed, are thus left only where nothing else exists. Among the actions that
are left, visits (or values) decide, as in an unsolved tree: the most visited action is also the one with the largest
share of the target. Arrays are float64 ``[k]``, one number per action.
"""

from typing import Literal

import numpy as np

FinalRule = Literal["visits", "value"]


def playable(known: np.ndarray, visits: np.ndarray, values: np.ndarray, final: FinalRule = "visits") -> np.ndarray:
    """The rule above: bool ``[k]``, true at least once where k > 0.

    ``known``: the return that a solved action is known to lead to, for who moves: +inf for a proven win, −inf for a
    proven loss and for what cannot be played; NaN for an open action. ``values``: the mean returns, for who moves; read
    where an action was visited.
    """
    best = np.nanmax(known, initial=-np.inf)
    is_open = np.isnan(known)
    if best == np.inf or not is_open.any():
        return known >= best
    rival = _first_in(is_open & (visits > 0), visits, values, final)
    if best > -np.inf and (rival < 0 or best >= values[rival]):
        return known >= best
    return is_open


def best_of(
    known: np.ndarray, visits: np.ndarray, values: np.ndarray, prior: np.ndarray, final: FinalRule = "visits"
) -> int:
    """The index of the action to play: of the :func:`playable` ones the most visited (``visits``; then the better
    value) or the one with the best value (``value``; then the more visited), the first of equals; where none was
    visited, the largest prior decides. −1 where k = 0."""
    allowed = playable(known, visits, values, final)
    best = _first_in(allowed & (visits > 0), visits, values, final)
    if best >= 0 or not len(known):
        return best
    return int(np.where(allowed, prior, -np.inf).argmax())


def visit_shares(
    visits: np.ndarray, values: np.ndarray, prior: np.ndarray, known: np.ndarray, final: FinalRule = "visits"
) -> np.ndarray:
    """The share of the visits of the :func:`playable` actions that each of these got, of their prior where none was
    visited: float64 ``[k]``, sum 1."""
    allowed = playable(known, visits, values, final)
    for weights in (visits, prior):
        kept = np.where(allowed, weights, 0.0)
        if kept.any():
            return kept / kept.sum()
    return allowed / max(allowed.sum(), 1)


def _first_in(among: np.ndarray, visits: np.ndarray, values: np.ndarray, final: FinalRule) -> int:
    """The first by the final rule of the actions that ``among`` marks; −1 where it marks none."""
    left = np.flatnonzero(among)
    if not len(left):
        return -1
    by, then = (visits, values) if final == "visits" else (values, visits)
    left = left[by[left] == by[left].max()]
    return int(left[then[left].argmax()])
