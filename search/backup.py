"""How the value of a leaf changes the nodes above it: the formulas, as small numba functions on plain numbers.

A node's value is the mean return of the *action that led into it*: Q(s, a) = r(s, a) + γ · V(s'), where s' is the
node's own state. The root has no action; its value is V(root). The walk from leaf to root lives in ``tree.py``.

- ``mean``: the running mean of the returns of all simulations that passed (Agent Q, arXiv 2408.07199, Eq. 8:
  Q ← (Q·N + R)/(N + 1)), kept as a sum.
- ``bellman``: Q ← r + γ V(s'), V(s') ← Σ_a N(s', a) Q(s', a) / Σ_a N(s', a) (MCTS-DPO, arXiv 2405.00451, section 3).
  It differs from the mean in that a node's own evaluation is forgotten once a child has been visited.

Not here: maximum and minimax backups.
"""

from typing import Final, Literal

from numba import njit

Backup = Literal["mean", "bellman"]
BACKUP_CODES: Final[dict[str, int]] = {"mean": 0, "bellman": 1}
BELLMAN: Final = 1


@njit(cache=True)
def action_return(reward: float, discount: float, value: float) -> float:
    """r + γ · v: the return of an action from the return of the state that it leads to."""
    return reward + discount * value


@njit(cache=True)
def visit_weighted_value(child_value_sum: float, child_visits: float) -> float:
    """Σ N·Q / Σ N over the visited children, from Σ of their value sums (each N·Q) and Σ N > 0."""
    return child_value_sum / child_visits
