"""What the web shop costs: steps, snapshots, copies, opening a shop of a million products.

- *steps*: whole episodes through ``gym.make`` on the generated shop of 1,000 products, in steps a CPU-second, for two
players: one that takes random buttons, one that searches the goal's words, opens rows, chooses options and buys.
Goals are drawn from all 4,000, so that most pages are drawn anew; everything that a step does is counted, the player
too. - *snapshots*: microseconds for ``snapshot()`` and for ``restore()``, the latter with observation and info. -
*copies*: memory of a process with 100 environments against one with a single environment, after the same 300
episodes. - *opening*: seconds to make the environment, reset it and search once in a fresh process, its index in the
cache, without Python's and the libraries' start (which is given beside it); the index is built first if it is not
there.

Figures are medians over rounds in which the contestants take turns. The table is printed and written to
``benchmarks/results/web_shop.json``. Run: ``python benchmarks/web_shop.py [--quick]``.
"""

import argparse
import json
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym

import branchwise  # noqa: F401 (registers the environment)

ID = "branchwise/WebShop-v0"
MODES = ("compact", "text", "text_rich")

_COPIES = """
import random, sys
sys.path[:0] = [{here!r}]
from web_shop import ID, buttons, episode, resident
import gymnasium as gym, branchwise
rng = random.Random(0)
copies = [gym.make(ID, observation_mode="compact") for _ in range({copies})]
for i in range(300):
    for _ in episode(copies[i % {copies}], buttons, rng):
        pass
print(resident())
"""

_OPENING = """
import time
start = time.perf_counter()
import gymnasium as gym, branchwise
from branchwise.envs.web_shop import env
imported = time.perf_counter()
shop = gym.make("{id}", products={products}, observation_mode="compact")
shop.reset(options={{"goal": 0}})
shop.step("search[" + shop.unwrapped.goal.query + "]")
print(imported - start, time.perf_counter() - imported)
"""


def buttons(env: Any, commands: list[str], rng: random.Random) -> str:
    """A random button; on the search page the kind of thing that is wanted."""
    command = commands[rng.randrange(len(commands))]
    return f"search[{env.goals[env.state.goal].query}]" if command == "search[…]" else command


def shopper(env: Any, commands: list[str], rng: random.Random) -> str:
    """Searches, opens one of the rows, chooses what is wanted where it is offered, and buys or goes back."""
    goal = env.goals[env.state.goal]
    if env.state.page == "index":
        return f"search[{' '.join((*goal.attributes, goal.query))}]"
    if env.state.page == "results":
        return commands[rng.randrange(1, len(commands))]
    chosen = dict(env.state.options)
    for name, value in goal.options:
        if name not in chosen and f"click[{value}]" in commands:
            return f"click[{value}]"
    return "click[buy now]" if rng.random() < 0.5 and "click[buy now]" in commands else "click[< prev]"


def episode(env: gym.Env, player: Callable[[Any, list[str], random.Random], str], rng: random.Random) -> Iterator[None]:
    """One item a step."""
    _, info = env.reset(options={"goal": rng.randrange(4000)})
    over = False
    while not over:
        action = player(env.unwrapped, info["admissible_commands"], rng)
        _, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
        yield


def steps_a_second(env: gym.Env, player: Callable[[Any, list[str], random.Random], str], seconds: float) -> float:
    rng = random.Random(time.perf_counter_ns())
    steps, start = 0, time.process_time()
    while (spent := time.process_time() - start) < seconds:
        steps += sum(1 for _ in episode(env, player, rng))
    return steps / spent


def snapshot_microseconds(env: gym.Env, repetitions: int) -> tuple[float, float]:
    """Of ``snapshot()`` and of ``restore()``, going back and forth between the states of an episode."""
    unwrapped: Any = env.unwrapped
    states = []
    for _ in episode(env, shopper, random.Random(1)):
        states.append(unwrapped.snapshot())
    start = time.process_time()
    for _ in range(repetitions):
        unwrapped.snapshot()
    taken = time.process_time()
    for i in range(repetitions):
        unwrapped.restore(states[i % len(states)])
    return (taken - start) / repetitions * 1e6, (time.process_time() - taken) / repetitions * 1e6


def resident() -> int:
    """Bytes of memory that this process holds (its highest, where the system does not tell the present)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def in_a_fresh_process(script: str) -> list[float]:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="three short rounds, and 100,000 products to open")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "web_shop.json")
    arguments = parser.parse_args()
    rounds, seconds = (3, 0.5) if arguments.quick else (5, 1.0)
    products = 100_000 if arguments.quick else 1_000_000
    script = _OPENING.format(id=ID, products=products)
    print(f"opening {products:,} products once, so that the index is in the cache …", flush=True)
    built = sum(in_a_fresh_process(script))

    players = {"random buttons": buttons, "shopper": shopper}
    shops = {mode: gym.make(ID, observation_mode=mode) for mode in MODES}
    figures: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        figures.setdefault(name, []).append(value)

    for _ in range(rounds):
        for mode, env in shops.items():
            for name, player in players.items():
                note(f"{mode}, {name} (steps / CPU-second)", steps_a_second(env, player, seconds))
            snapshot, restore = snapshot_microseconds(env, 20_000)
            note(f"{mode}, snapshot (µs)", snapshot)
            note(f"{mode}, restore (µs)", restore)
        one, hundred = (
            in_a_fresh_process(_COPIES.format(here=str(Path(__file__).parent), copies=copies))[0] for copies in (1, 100)
        )
        note("memory, 1 environment (MB)", one / 1e6)
        note("memory, 100 environments (MB)", hundred / 1e6)
        note("memory, 100 against 1 (ratio)", hundred / one)
        start, opening = in_a_fresh_process(script)
        note("start of Python's libraries (s)", start)
        note(f"opening {products:,} products from the cache (s)", opening)

    medians = {name: statistics.median(values) for name, values in figures.items()}
    for name, median in medians.items():
        spread = f"{min(figures[name]):,.4g} to {max(figures[name]):,.4g}"
        print(f"{name:60} {median:>12,.4g}   ({spread})")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    about = {"python": platform.python_version(), "machine": platform.machine(), "rounds": rounds}
    content = {**about, "first opening (s)": built, "medians": medians, "all": figures}
    arguments.output.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
