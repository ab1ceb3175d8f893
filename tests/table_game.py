"""A game written down as a table, for tests whose right answer is counted by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

from branchwise.envs.simulator import TERMINAL, Simulator

Position = tuple[str, tuple[float, ...]]
Moves = Mapping[str, tuple[str, Sequence[float]]]


class TableGame(Simulator[Position]):
    """``table``: name → (who moves, {action: (name, rewards)}, the probabilities where chance does); other names are
    ends. A state is a name and what the step into it paid; the first name is ``root``."""

    never_repeats = True

    def __init__(self, table: Mapping[str, Any], players: int = 1, zero_sum: bool = False) -> None:
        self.table, self.players, self.zero_sum = table, players, zero_sum

    def reset(self, seed: int, options: Any = None) -> Position:
        return "root", (0.0,) * self.players

    def current_player(self, state: Position) -> int:
        return self.table[state[0]][0] if state[0] in self.table else TERMINAL

    def observation(self, state: Position, player: int = 0) -> str:
        return state[0]

    def legal_actions(self, state: Position) -> list[str]:
        return list(self.table[state[0]][1])

    def step(self, state: Position, action: str) -> Position:
        name, rewards = self.table[state[0]][1][action]
        return name, tuple(map(float, rewards))

    def rewards(self, state: Position) -> tuple[float, ...]:
        return state[1]

    def chance_outcomes(self, state: Position) -> list[tuple[str, float]]:
        _, moves, shares = self.table[state[0]]
        return list(zip(moves, shares, strict=True))

    def info(self, state: Position) -> dict[str, Any]:
        return {"success": state[1][0] > 0, "invalid_action": False}
