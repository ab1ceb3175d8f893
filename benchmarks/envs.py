"""What environments cost, in one process and one run, the contestants taking turns.

- *simulator*: whole episodes of random legal actions on the bare rules, every step with the legal actions and the text
  that the player to move reads, in steps a CPU-second; luck counts as steps.
- *gymnasium shell*: the same through ``gym.make``, in steps of the one agent a CPU-second. For a game that is player
  0's side against ``random``, whose moves are made inside: *moves* counts theirs too.
- *pettingzoo shell*: ``agent_iter`` with ``last()`` (numbers, mask, texts), in steps of all agents; *text* is the
  pure-text form.
- *cost*: microseconds that a move through a shell takes beyond one on the rules.
- *snapshot*, *restore*: microseconds, through the Gymnasium shell and, for games, the PettingZoo shell.
- *vector*: 64 environments through ``gym.make_vec``, steps of one environment, ``vector_entry_point`` and ``sync``.
- *nothing*: the same loops around environments that do nothing: what Gymnasium, PettingZoo and this file cost alone.
- *peers*, where they are installed: pyspiel (a step with ``observation_string``, ``legal_actions`` and their strings),
  PettingZoo's connect four (``agent_iter`` with ``last()``; needs pygame), TextArena (a step with ``get_observation``;
  legal moves are not offered, and are found from its board).

Every registered environment is measured; ids as arguments choose some. Figures are medians over rounds of CPU time; the
table is printed and written to ``benchmarks/results/envs.json``. Run: ``python benchmarks/envs.py [--quick] [ID …]``.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from pettingzoo.utils.env import AECEnv

from branchwise.envs import environments, registry, simulator_for
from branchwise.envs.abilities import suggested_actions
from branchwise.envs.opponents import draw_outcome, named_opponent
from branchwise.envs.simulator import CHANCE, TERMINAL

Runner = Callable[[float], dict[str, float]]


def simulator_steps(env_id: str) -> Runner:
    rules = simulator_for(env_id)

    def run(seconds: float) -> dict[str, float]:
        rng = np.random.default_rng(time.perf_counter_ns())
        draw = iter(_uniform(rng))
        steps, seed, start = 0, 0, time.process_time()
        while (spent := time.process_time() - start) < seconds:
            for _ in range(10):
                seed += 1
                state = rules.reset(seed)
                while (player := rules.current_player(state)) != TERMINAL:
                    if player == CHANCE:
                        action = draw_outcome(rules, state, rng)
                    else:
                        rules.observation(state, player)
                        actions = rules.legal_actions(state)
                        if actions is None:
                            actions = suggested_actions(rules, state)
                        action = actions[int(next(draw) * len(actions))]
                    state = rules.step(state, action)
                    steps += 1
        return {"simulator": steps / spent}

    return run


def _uniform(rng: np.random.Generator) -> Iterator[float]:
    """Uniform numbers, drawn by the thousand, so that what is measured is not the drawing."""
    while True:
        yield from rng.random(1_000).tolist()


def gym_steps(env_id: str) -> Runner:
    named = dict(registry.environment_row(env_id).opponents)
    opponent = named_opponent("random", named)
    moves = [0]

    def counting(simulator: Any, state: Any, rng: np.random.Generator) -> str:
        moves[0] += 1
        return opponent(simulator, state, rng)

    game = registry.environment_row(env_id).players > 1
    played = gym_loop(gym.make(env_id, **({"opponents": counting} if game else {})), "gymnasium shell")

    def run(seconds: float) -> dict[str, float]:
        moves[0] = 0
        figures = played(seconds)
        spent = figures.pop("seconds")
        if game:
            figures["gymnasium shell, moves"] = figures["gymnasium shell"] + moves[0] / spent
        return figures

    return run


def gym_loop(env: Any, name: str) -> Runner:
    """Steps a CPU-second of ``env``, and the ``seconds`` that were spent."""

    def run(seconds: float) -> dict[str, float]:
        draw = iter(_uniform(np.random.default_rng(time.perf_counter_ns())))
        steps, seed, start = 0, 0, time.process_time()
        while (spent := time.process_time() - start) < seconds:
            for _ in range(10):
                seed += 1
                _, info = env.reset(seed=seed)
                over = False
                while not over:
                    actions = info["admissible_commands"]
                    if actions is None or "…" in actions[0]:
                        actions = suggested_actions(env.unwrapped.simulator, env.unwrapped.state)
                    _, _, terminated, truncated, info = env.step(actions[int(next(draw) * len(actions))])
                    over = terminated or truncated
                    steps += 1
        return {name: steps / spent, "seconds": spent}

    return run


def zoo_steps(env_id: str, text: bool) -> Runner:
    return zoo_loop(
        registry.make_aec(env_id, text=text, words=True), "pettingzoo shell, text" if text else "pettingzoo shell"
    )


def zoo_loop(env: Any, name: str) -> Runner:
    text = getattr(env, "text", False)

    def run(seconds: float) -> dict[str, float]:
        draw = iter(_uniform(np.random.default_rng(time.perf_counter_ns())))
        steps, seed, start = 0, 0, time.process_time()
        while (spent := time.process_time() - start) < seconds:
            for _ in range(10):
                seed += 1
                env.reset(seed=seed)
                for _ in env.agent_iter():
                    _, _, terminated, truncated, info = env.last()
                    if terminated or truncated:
                        env.step(None)
                        continue
                    if text:
                        choices = info["admissible_commands"]
                        if choices is None or "…" in choices[0]:
                            choices = suggested_actions(env.simulator, env.state_now)
                    else:
                        choices = list(info["legal_actions"])
                    env.step(choices[int(next(draw) * len(choices))])
                    steps += 1
        return {name: steps / spent}

    return run


def snapshots(env_id: str, zoo: bool) -> Runner:
    env: Any = registry.make_aec(env_id) if zoo else gym.make(env_id).unwrapped
    env.reset(seed=0)
    name = "zoo " if zoo else ""

    def run(seconds: float) -> dict[str, float]:
        n = 2_000
        start = time.process_time()
        for _ in range(n):
            kept = env.snapshot()
        taken = time.process_time()
        for _ in range(n):
            env.restore(kept)
        restored = time.process_time()
        return {f"{name}snapshot (µs)": (taken - start) / n * 1e6, f"{name}restore (µs)": (restored - taken) / n * 1e6}

    return run


def vector_steps(env_id: str, mode: str, num_envs: int = 64) -> Runner:
    envs = gym.make_vec(env_id, num_envs=num_envs, vectorization_mode=mode)

    def run(seconds: float) -> dict[str, float]:
        draw = iter(_uniform(np.random.default_rng(time.perf_counter_ns())))
        _, infos = envs.reset(seed=1)
        steps, start = 0, time.process_time()
        while (spent := time.process_time() - start) < seconds:
            for _ in range(5):
                commands = infos["admissible_commands"]
                actions = [c[int(next(draw) * len(c))] if c else "yes" for c in commands]
                infos = envs.step(actions)[-1]
                steps += num_envs
        return {f"vector of {num_envs}, {mode}": steps / spent}

    return run


# Floors: the same loops around environments that do nothing.


class NothingToStep(gym.Env[str, str]):
    """Twenty steps without content."""

    observation_space = gym.spaces.Text(1)
    action_space = gym.spaces.Text(1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self.left = 20
        return "a", {"admissible_commands": ["a", "b"]}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        return "a", 0.0, not self.left, False, {"admissible_commands": ["a", "b"]}


class NothingToPlay(AECEnv):  # type: ignore[misc]
    """Twenty turns without content, of two agents."""

    def __init__(self) -> None:
        self.possible_agents = ["player_0", "player_1"]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        self.agents = list(self.possible_agents)
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {agent: {"legal_actions": {0: "a", 1: "b"}} for agent in self.agents}
        self.agent_selection = self.agents[0]
        self.left = 20

    def observe(self, agent: str) -> None:
        return None

    def step(self, action: int | None) -> None:
        if not self.left:
            self._was_dead_step(action)
            return
        self.left -= 1
        self.agent_selection = self.possible_agents[self.left % 2]
        if not self.left:
            self.terminations = dict.fromkeys(self.agents, True)
            self._deads_step_first()


def floors() -> list[Runner]:
    def made(wrapped: bool, name: str) -> Runner:
        spec = EnvSpec("Nothing-v0", NothingToStep, disable_env_checker=not wrapped, order_enforce=wrapped)
        played = gym_loop(gym.make(spec), name)
        return lambda seconds: {name: played(seconds)[name]}

    return [
        made(False, "gym.make"),
        made(True, "gym.make, with the wrappers that ours do without"),
        zoo_loop(NothingToPlay(), "agent_iter, last and step"),
    ]


# Peers.


def pyspiel_steps(game: str) -> Runner:
    import pyspiel

    loaded = pyspiel.load_game(game)

    def run(seconds: float) -> dict[str, float]:
        draw = iter(_uniform(np.random.default_rng(time.perf_counter_ns())))
        steps, start = 0, time.process_time()
        while (spent := time.process_time() - start) < seconds:
            for _ in range(10):
                state = loaded.new_initial_state()
                while not state.is_terminal():
                    player = state.current_player()
                    legal = state.legal_actions()
                    if player >= 0:
                        state.observation_string(player)
                        for action in legal:
                            state.action_to_string(player, action)
                    state = state.clone()  # as a simulator's step leaves its state alone
                    state.apply_action(legal[int(next(draw) * len(legal))])
                    steps += 1
        return {f"pyspiel {game}, clones": steps / spent}

    return run


def pettingzoo_connect_four(raw: bool) -> Runner:
    from pettingzoo.classic import connect_four_v3

    env = connect_four_v3.raw_env() if raw else connect_four_v3.env()
    name = "PettingZoo connect four" + (", without its wrappers" if raw else "")

    def run(seconds: float) -> dict[str, float]:
        draw = iter(_uniform(np.random.default_rng(time.perf_counter_ns())))
        steps, seed, start = 0, 0, time.process_time()
        while (spent := time.process_time() - start) < seconds:
            for _ in range(5):
                seed += 1
                env.reset(seed=seed)
                for _ in env.agent_iter():
                    seen, _, terminated, truncated, _ = env.last()
                    if terminated or truncated:
                        env.step(None)
                        continue
                    choices = np.flatnonzero(seen["action_mask"])
                    env.step(int(choices[int(next(draw) * len(choices))]))
                    steps += 1
        return {name: steps / spent}

    return run


def textarena_connect_four() -> Runner:
    import textarena

    env = textarena.make("ConnectFour-v0-raw")

    def run(seconds: float) -> dict[str, float]:
        draw = iter(_uniform(np.random.default_rng(time.perf_counter_ns())))
        steps, seed, start = 0, 0, time.process_time()
        while (spent := time.process_time() - start) < seconds:
            for _ in range(5):
                seed += 1
                env.reset(num_players=2, seed=seed)
                done = False
                while not done:
                    env.get_observation()
                    board = env.state.game_state["board"]
                    free = [column for column, cell in enumerate(board[0]) if cell == "."]
                    done, _ = env.step(f"[col {free[int(next(draw) * len(free))]}]")
                    steps += 1
        return {"TextArena connect four": steps / spent}

    return run


def peers() -> list[Runner]:
    """Those that are installed."""
    found: list[Runner] = []
    makers: list[Callable[[], Runner]] = [
        *(
            lambda game=game: pyspiel_steps(game)
            for game in ("tic_tac_toe", "connect_four", "kuhn_poker", "leduc_poker")
        ),
        *(lambda raw=raw: pettingzoo_connect_four(raw) for raw in (False, True)),
        textarena_connect_four,
    ]
    for maker in makers:
        try:
            found.append(maker())
        except ImportError as error:
            print(f"left out: {error}", file=sys.stderr)
    return found


def contestants(env_id: str) -> list[Runner]:
    row = registry.environment_row(env_id)
    runners = [simulator_steps(env_id), gym_steps(env_id), snapshots(env_id, zoo=False)]
    if row.players > 1:
        runners += [zoo_steps(env_id, text=False), zoo_steps(env_id, text=True), snapshots(env_id, zoo=True)]
    runners += [vector_steps(env_id, mode) for mode in ("vector_entry_point", "sync")]
    return runners


def shell_costs(figures: dict[str, float]) -> dict[str, float]:
    """Microseconds a move beyond the rules."""
    gymnasium = "gymnasium shell, moves" if "gymnasium shell, moves" in figures else "gymnasium shell"
    shells = [name for name in (gymnasium, "pettingzoo shell", "pettingzoo shell, text") if name in figures]
    return {f"{name}, cost (µs)": 1e6 / figures[name] - 1e6 / figures["simulator"] for name in shells}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("ids", nargs="*", help="ids of the registry; all by default")
    parser.add_argument("--quick", action="store_true", help="three rounds of 0.1 s")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "envs.json")
    arguments = parser.parse_args()
    rounds, seconds = (3, 0.1) if arguments.quick else (5, 0.2)
    ids = [registry.environment_row(name).id for name in arguments.ids] or [row.id for row in environments()]

    runners: dict[str, list[Runner]] = {}
    for env_id in ids:
        try:
            runners[env_id] = contestants(env_id)
        except ImportError as error:
            print(f"left out: {env_id}: {error}", file=sys.stderr)
    runners["nothing"] = floors()
    runners["peers"] = peers()
    for group in runners.values():  # compile, open and fill caches
        for run in group:
            run(0.01)
    figures: dict[str, dict[str, list[float]]] = {name: {} for name in runners}
    for number in range(rounds):
        for name, group in runners.items():
            for run in group:
                for figure, value in run(seconds).items():
                    figures[name].setdefault(figure, []).append(value)
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)

    medians = {
        name: {figure: statistics.median(values) for figure, values in group.items()} for name, group in figures.items()
    }
    for name, group in medians.items():
        costs = shell_costs(group) if "simulator" in group else {}
        print(f"\n{name}")
        for figure, median in {**group, **costs}.items():
            spread = figures[name].get(figure)
            span = f"   ({min(spread):,.4g} to {max(spread):,.4g})" if spread else ""
            print(f"  {figure:42} {median:>12,.4g}{span}")
        group.update(costs)
    about = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "load_at_the_end": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "rounds": rounds,
        "cpu_seconds_each": seconds,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(
        json.dumps({**about, "medians": medians, "all": figures}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
