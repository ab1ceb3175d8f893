"""Which actions of a node what is proven leaves to be played, and the policy target over them.

A solved action is visited no more, so its share of the visits says nothing about it: beside a proven win every other
action can have as many. All that a search hands out (``best_action``, ``policy_target``, draws by temperature) is
therefore restricted first, by one rule:

- where an action is a proven win, to the proven wins;
- where all actions are solved, to those that lead to the best known return;
- else to all but the proven losses, and but those that cannot be played or whose evaluation failed.

Among the actions that are left, visits decide, as in an unsolved tree (``Tree.best_child`` adds how a solved action
compares with an open one).
"""

import numpy as np


def playable(known: np.ndarray) -> np.ndarray:
    """The rule above: bool ``[k]``, true at least once where k > 0.

    ``known``: float64 ``[k]``, the return that a solved action is known to lead to, for who moves: +inf for a proven
    win, −inf for a proven loss and for what cannot be played; NaN for an open action.
    """
    best = np.nanmax(known, initial=-np.inf)
    if best == np.inf or not np.isnan(known).any():
        return known >= best
    return known != -np.inf


def visit_shares(visits: np.ndarray, prior: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The share of the visits of the :func:`playable` actions that each of these got, of their prior where none was
    visited: float64 ``[k]``, sum 1."""
    allowed = playable(known)
    for weights in (visits, prior):
        kept = np.where(allowed, weights, 0.0)
        if kept.any():
            return kept / kept.sum()
    return allowed / max(allowed.sum(), 1)
