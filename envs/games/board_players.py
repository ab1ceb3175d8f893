"""Opponents for the board games: perfect tic-tac-toe, and flat Monte-Carlo for any game with compiled rules.

:class:`MonteCarloPlayer` takes a move that wins at once, leaves out moves after which the other can win at once, and
values the rest by the mean of random games from there on. It looks no further; for more, pass
``"branchwise.search.compiled:SearchingPlayer"``, which searches a tree.
"""

from typing import Any

import numpy as np

from ..simulator import TERMINAL, Simulator
from .board import BoardState
from .tic_tac_toe import TicTacToe

_GAME = TicTacToe()


def perfect_tic_tac_toe(simulator: Simulator[Any], state: BoardState, rng: np.random.Generator) -> str:
    """A perfect move, each as likely: it never loses, and wins where the other errs."""
    values = _GAME.optimal_values(state)
    best = [action for action, value in values.items() if value == max(values.values())]
    return best[int(rng.random() * len(best))]


class MonteCarloPlayer:
    """``games`` random games a move, shared among the legal actions; needs a simulator with compiled ``rules``."""

    def __init__(self, games: int = 400) -> None:
        if games < 1:
            raise ValueError(f"games is {games}; expected at least 1 random game a move")
        self.games = games

    def __call__(self, simulator: Any, state: Any, rng: np.random.Generator) -> str:
        actions = simulator.legal_actions(state)
        player = simulator.current_player(state)
        afters = [simulator.step(state, action) for action in actions]
        for action, after in zip(actions, afters, strict=True):
            if simulator.current_player(after) == TERMINAL and simulator.rewards(after)[player] > 0:
                return action
        random = int(rng.integers(1 << 62))
        each = max(1, self.games // len(actions))
        best, best_value = actions[0], -np.inf
        for action, after in zip(actions, afters, strict=True):
            value = 0.0
            if simulator.current_player(after) != TERMINAL:
                if _can_win(simulator, after):
                    value = -2.0 * each
                else:
                    encoded = simulator.rules.encode(after)
                    for _ in range(each):
                        result, random = simulator.rules.rollout(encoded, random)
                        value -= result
            if value > best_value:
                best, best_value = action, value
        return best


def _can_win(simulator: Any, state: Any) -> bool:
    """Whether the player to move wins with one move."""
    player = simulator.current_player(state)
    afters = (simulator.step(state, action) for action in simulator.legal_actions(state))
    return any(simulator.rewards(after)[player] > 0 for after in afters)
