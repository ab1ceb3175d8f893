"""Opponents for the board games: perfect tic-tac-toe, and flat Monte-Carlo for any game with compiled rules.

:class:`MonteCarloPlayer` takes a move that wins at once, leaves out moves after which the other can win at once, and
values the rest by the mean of random games from there on. It looks no further; for more, pass
``"branchwise.search.compiled:SearchingPlayer"``, which searches a tree.
"""

from functools import cache
from typing import Any

import numpy as np

from ..simulator import TERMINAL, Simulator
from .board import BoardState
from .tic_tac_toe import TicTacToe

_GAME = TicTacToe()


@cache
def _value(state: BoardState) -> float:
    """What perfect play gives the player to move."""
    return max(_value_of_move(state, action) for action in _GAME.legal_actions(state))


def _value_of_move(state: BoardState, action: str) -> float:
    after = _GAME.step(state, action)
    over = _GAME.current_player(after) == TERMINAL
    return _GAME.rewards(after)[state.mover] if over else -_value(after)


def perfect_tic_tac_toe(simulator: Simulator[Any], state: BoardState, rng: np.random.Generator) -> str:
    """A perfect move, each as likely: it never loses, and wins where the other errs."""
    position = state._replace(invalid=0)
    values = {action: _value_of_move(position, action) for action in _GAME.legal_actions(position)}
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
