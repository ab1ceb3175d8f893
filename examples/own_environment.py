"""An environment of one's own, learned by the loop in about a minute: ``python examples/own_environment.py [RUN]``.

Four rooms with three doors each; a sign names the door that leads on, any other ends the walk. The model is made from
scratch and was shown random walks, of which one in 81 arrives."""

import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from branchwise.envs.simulator import TERMINAL, Simulator
from branchwise.training.display import ProgressDisplay
from branchwise.training.loop import BaseSettings, RunConfig, recipes_named, run_loop

COLOURS, LOST, OUTSIDE = ("red", "green", "blue"), -1, 4


class Doors(Simulator[tuple[int, int]]):  # a state: the house, in base three what its signs say, and the room
    def reset(self, seed: int, options: Any = None) -> tuple[int, int]:
        return seed % 6561, 0

    def current_player(self, state: tuple[int, int]) -> int:
        return TERMINAL if state[1] in (LOST, OUTSIDE) else 0

    def observation(self, state: tuple[int, int], player: int = 0) -> str:
        return f"house {state[0]}, room {state[1]}, follow {COLOURS[state[0] // 3 ** max(state[1], 0) % 3]}"

    def legal_actions(self, state: tuple[int, int]) -> tuple[str, ...]:
        return COLOURS if self.current_player(state) == 0 else ()

    def step(self, state: tuple[int, int], action: str) -> tuple[int, int]:
        return state[0], state[1] + 1 if self.observation(state).endswith(action) else LOST

    def rewards(self, state: tuple[int, int]) -> tuple[float, ...]:
        return (float(state[1] == OUTSIDE),)

    def info(self, state: tuple[int, int]) -> dict[str, Any]:
        return {"success": state[1] == OUTSIDE, "invalid_action": False}


if __name__ == "__main__":
    base = BaseSettings(width=32, layers=2, demonstrations=500, demonstrators={"random": 1})
    recipes = recipes_named("step_dpo")
    config = RunConfig(
        "own_environment:Doors", base=base, recipes=recipes, search_recipe="", model_calls=40_000, train_goals=600
    )
    run = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/own_environment")
    with ProgressDisplay(Console()) as display:
        for row in run_loop(config, run, display):
            print(f"{row.agent:20} {row.success:6.1%}  [{row.success_low:.1%}, {row.success_high:.1%}]")
