"""How the value of a leaf changes the nodes above it: the formulas, as small numba functions on plain numbers.

A node's value is the mean return of the *action that led into it*: Q(s, a) = r(s, a) + γ · V(s'), where s' is the
node's own state; where chance moves in s', γ is 1, since luck takes no time (``nodes.discount_into``). The root has no
action; its value is V(root). The walk from leaf to root lives in ``trees/ascent.py``.

- ``mean``: the running mean of the returns of all simulations that passed (Agent Q, arXiv 2408.07199, Eq. 8:
  Q ← (Q·N + R)/(N + 1)), kept as a sum.
- ``bellman``: Q ← r + γ V(s'), V(s') ← Σ_a N(s', a) Q(s', a) / Σ_a N(s', a) (MCTS-DPO, arXiv 2405.00451, section 3).
  It differs from the mean in that a node's own evaluation is forgotten once a child has been visited.
- ``max``: Q is the best return of all simulations that passed (PG-TD, arXiv 2303.05510; ARMAP, arXiv 2502.12130).
- ``bellman_max``: Q ← r + γ max_a Q(s', a) over the visited children (QLASS, arXiv 2502.02584), ``action_return`` of
  the best child.
- ``minimax``: the same, where the maximum is that of the player to move in its own view, so that the other player takes
  the least (PokéChamp, arXiv 2503.04094).

Several players: a value vector has one entry a player, each entry an ``action_return`` of its own, and a player chooses
by its own entry (max^n: Luckhardt and Irani, 1986); in a zero-sum game of two one number with a sign is enough
(``seen_by``). What is proven goes up on its own: the codes ``LOSS`` … ``WIN`` after MCTS-Solver (Winands, Björnsson and
Saito, 2008).
"""

from typing import Final, Literal

from numba import njit

Backup = Literal["mean", "bellman", "max", "bellman_max", "minimax"]
MEAN: Final = 0
BELLMAN: Final = 1
MAX: Final = 2
BELLMAN_MAX: Final = 3
MINIMAX: Final = 4
BACKUP_CODES: Final[dict[str, int]] = {
    "mean": MEAN,
    "bellman": BELLMAN,
    "max": MAX,
    "bellman_max": BELLMAN_MAX,
    "minimax": MINIMAX,
}

# Proofs, in the view of one player, ordered so that the proof of a node is the largest of its children's.
LOSS: Final = 0
DRAW: Final = 1
UNPROVEN: Final = 2
WIN: Final = 3


@njit(cache=True)
def action_return(reward: float, discount: float, value: float) -> float:
    """r + γ · v: the return of an action from the return of the state that it leads to."""
    return reward + discount * value


@njit(cache=True)
def visit_weighted_value(child_value_sum: float, child_visits: float) -> float:
    """Σ N·Q / Σ N over the visited children, from Σ of their value sums (each N·Q) and Σ N > 0."""
    return child_value_sum / child_visits


@njit(cache=True)
def best_return(best: float, visits: float, value: float) -> float:
    """max(Q, R), and R where N = 0: the best return so far (PG-TD, arXiv 2303.05510; ARMAP, arXiv 2502.12130)."""
    return max(best, value) if visits > 0.0 else value


@njit(cache=True)
def seen_by(value: float, player: int) -> float:
    """A two-player zero-sum value, told in the view of player 0, in the view of ``player`` (0 or 1): v or −v."""
    return value if player == 0 else -value


@njit(cache=True)
def critic_mix(search_value: float, critic_value: float, alpha: float) -> float:
    """α · Q_search + (1 − α) · Q_critic: Agent Q (arXiv 2408.07199, Eq. 10)."""
    return alpha * search_value + (1.0 - alpha) * critic_value


@njit(cache=True)
def proof_of_children(best: int, child: int) -> int:
    """The proof of a node from those of its children, all in the view of the player who moves at it; start from LOSS.

    A child that wins proves a win; a node whose children are all proven has the best of them; anything else is
    unproven: Winands, Björnsson and Saito (2008), with draws between. Because LOSS < DRAW < UNPROVEN < WIN, that is the
    larger of the two.
    """
    return max(best, child)


@njit(cache=True)
def opposite_proof(proof: int) -> int:
    """A proof in the view of the other player of a two-player zero-sum game: win and loss change places."""
    if proof == WIN:
        return LOSS
    if proof == LOSS:
        return WIN
    return proof


@njit(cache=True)
def proof_of_outcome(value: float) -> int:
    """The proof that a terminal is, from its value for the player in question: the sign of it."""
    if value > 0.0:
        return WIN
    return LOSS if value < 0.0 else DRAW


@njit(cache=True)
def proven_value(proof: int, unproven: float) -> float:
    """+1, 0 or −1 for a proven win, draw or loss; ``unproven`` otherwise."""
    if proof == WIN:
        return 1.0
    if proof == LOSS:
        return -1.0
    return 0.0 if proof == DRAW else unproven
