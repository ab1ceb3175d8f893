"""What a simulation costs: our searches beside OpenSpiel's C++, mctx and a plain-Python tree, in one run.

The contestants of a row take turns of 20 ms or more; a row has the median CPU time of each (``time.process_time``, one
thread), in microseconds a simulation, the median of the rounds' ratios, and floors: what could not be saved by any
search of that kind.

- *OpenSpiel*: ``MCTSBot`` with ``RandomRolloutEvaluator``, uct_c = 2, solve = False, against ``search.compiled`` with
  the same constant, ``solve=False`` and random ties, from the empty board, Python calls included. Floors: the roll-out
  alone, and reading alone as many random blocks of children, in an array of the tree's size, as the walks read.
- *mctx*: ``gumbel_muzero_policy`` on CPU, compiled beforehand, with a model that answers zeros, 16 actions, against
  ``selection="gumbel"`` with equal priors and a kernel that answers zero.
- *plain Python*: a tree of objects with ``__slots__`` under PUCT, 16 actions, against the same search compiled.
- *two workers*: wall time of two trees of connect four one after the other, over that of two threads; needs two idle
  cores, and is the one row that is not CPU time.

One run is one hour of one machine: ratios of two runs differ by up to a third. So ``benchmarks/results/search.json``
keeps several runs, each with its date, processor and versions; the tables have the median over the runs and the range
of the runs' ratios, and the README quotes the lower end.

Run: ``python benchmarks/search.py [--quick] [--only openspiel] [--fresh]``; each run is printed and added to the file,
to ``docs/compiled_search.md`` and to the README's table. Not measured: strength (``matches.py``), the engine with words
(``tree.py``).
"""

import argparse
import gc
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import numpy as np
from numba import njit
from pages import put_table

from branchwise.envs.games.breakthrough import Breakthrough
from branchwise.envs.games.connect_four import ConnectFour
from branchwise.envs.games.kernels import CompiledRules, below, next_random
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.simulator import Simulator
from branchwise.search import compiled
from branchwise.search.compiled.loop import COMPILED_NODE
from branchwise.search.engine import Root
from branchwise.search.rules.options import Gumbel, Puct, Uct
from branchwise.search.settings import SearchSettings
from branchwise.search.trees.nodes import NODE

OUTPUT = Path(__file__).resolve().parent / "results" / "search.json"
README = Path(__file__).resolve().parents[1] / "README.md"
PAGE = README.parent / "docs" / "compiled_search.md"
QUOTED = {
    ("OpenSpiel MCTSBot: connect_four", "10000"): "OpenSpiel's C++ `MCTSBot`, connect four, 10,000 simulations",
    ("OpenSpiel MCTSBot: breakthrough", "10000"): "OpenSpiel's C++ `MCTSBot`, breakthrough, 10,000 simulations",
    ("mctx gumbel_muzero_policy, CPU", "64 x 800"): "mctx on CPU, Gumbel, 64 trees of 800 simulations",
}  # the rows that the README shows
WIDTH = 16
SHORTEST_TURN = 0.02  # seconds
PAUSE = 0.05
Row = dict[str, Any]


# ---- a game that is nothing but branching ---------------------------------------------------------------------------


@njit(cache=True)
def wide_legal(state: tuple[int, int], actions: Any) -> int:
    for i in range(WIDTH):
        actions[i] = i
    return WIDTH


@njit(cache=True)
def wide_step(state: tuple[int, int], action: int) -> tuple[tuple[int, int], float, bool]:
    return (state[0] * 17 + action + 1, state[1] + 1), 0.0, False


@njit(cache=True)
def zero_value(state: tuple[int, int], random: int) -> tuple[float, int]:
    return 0.0, random


@njit(cache=True)
def hashed_value(state: tuple[int, int], random: int) -> tuple[float, int]:
    return (state[0] * 37 & 1023) / 1023.0, random


class Wide(Simulator[int]):
    """Sixteen actions everywhere, no end, one player."""

    rules = CompiledRules(
        name="wide",
        players=1,
        words=2,
        max_actions=WIDTH,
        max_depth=1000,
        legal=wide_legal,
        step=wide_step,
        rollout=zero_value,
        encode=lambda state: (state, 0),
        action_text=str,
    )

    def reset(self, seed: int, options: Any = None) -> int:
        return seed

    def current_player(self, state: int) -> int:
        return 0

    def legal_actions(self, state: int) -> list[str]:
        return [str(i) for i in range(WIDTH)]


# ---- measuring ------------------------------------------------------------------------------------------------------


def turns(
    rounds: int, work: dict[str, Callable[[], Any]], clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    """Seconds of each contestant, one entry a round. They take turns, after one turn each that is thrown away; a turn
    repeats short work until it has lasted :data:`SHORTEST_TURN`, so that nobody is measured on the other's caches, and
    waits before it, so that threads of the other's that still spin are not counted."""

    def seconds(run: Callable[[], Any]) -> float:
        time.sleep(PAUSE)
        start, repeats, spent = clock(), 0, 0.0
        while spent < SHORTEST_TURN:
            run()
            repeats += 1
            spent = clock() - start
        return spent / repeats

    for run in work.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, run in work.items():
            times[name].append(seconds(run))
    return times


def row(
    name: str, size: str, times: dict[str, list[float]], count: float, ours: str = "ours", peer: str = "peer"
) -> Row:
    """A row of the table, printed at once: median microseconds for one of ``count``, floors (the other contestants)
    among them, the median of the rounds' ratios, and our best round."""
    each = {key: round(statistics.median(times[key]) / count * 1e6, 4) for key in times}
    ratio = statistics.median(b / a for a, b in zip(times[ours], times[peer], strict=True))
    made = {"name": name, "size": size, "ours": each[ours], "peer": each[peer], "ratio": round(ratio, 2)}
    made |= {key: each[key] for key in each if key not in (ours, peer)}
    made["best"] = round(min(times[ours]) / count * 1e6, 4)
    printed(made)
    return made


def printed(made: Row) -> None:
    floors = "  ".join(f"{key} {made[key]:.3f}" for key in ("best", "rollout", "memory") if key in made)
    print(f"{made['name']:44}{made['size']:>14}{made['ours']:12.3f}{made['peer']:12.3f}{made['ratio']:10.1f}  {floors}")
    sys.stdout.flush()


# ---- against OpenSpiel ----------------------------------------------------------------------------------------------


@njit
def read_blocks(nodes: np.ndarray, reads: int, width: int, random: int) -> float:
    """The scores of ``width`` neighbours at ``reads`` random places that depend on each other, as a walk's do."""
    total = 0.0
    last = max(nodes.shape[0] - width, 1)
    for _ in range(reads):
        random, bits = next_random(random)
        first = below(bits ^ np.int64(total), last)
        for child in range(first, first + width):
            total += nodes[child].value + nodes[child].factor
    return total


def rollouts_alone(rules: CompiledRules) -> Callable[[tuple[int, ...], int, int], float]:
    rollout = rules.rollout

    @njit
    def many(state: Any, count: int, random: int) -> float:
        total = 0.0
        for _ in range(count):
            value, random = rollout(state, random)
            total += value
        return total

    return many


def mean_depth(tree: compiled.CompiledTree) -> float:
    """Blocks of children that a simulation read on average: Σ over nodes with children of the visits that went on."""
    nodes = tree.nodes
    return float((nodes["visits"] - 1)[nodes["children"] > 0].sum()) / tree.visits()


def against_openspiel(quick: bool) -> list[Row]:
    import pyspiel

    rows = []
    for name, game in (("tic_tac_toe", TicTacToe()), ("connect_four", ConnectFour()), ("breakthrough", Breakthrough())):
        theirs = pyspiel.load_game(name)
        start = theirs.new_initial_state()
        root = Root(game.reset(0))
        encoded = game.rules.encode(root.state)
        roll = rollouts_alone(game.rules)
        for simulations, rounds in ((1_000, 25), (10_000, 9), (100_000, 5)):
            if quick and simulations == 100_000:
                continue
            settings = SearchSettings(
                simulations=simulations, selection=Uct(exploration=math.sqrt(2.0)), random_ties=True, solve=False
            )
            rng = np.random.default_rng(0)
            [tree] = compiled.search(game, [root], None, None, settings, rng)
            assert isinstance(tree, compiled.CompiledTree)
            reads = int(mean_depth(tree) * simulations)
            width = round(float(tree.nodes["children"][tree.nodes["children"] > 0].mean()))
            evaluator = pyspiel.RandomRolloutEvaluator(1, 0)

            def search(settings: Any = settings, root: Any = root, game: Any = game, rng: Any = rng) -> Any:
                return compiled.search(game, [root], None, None, settings, rng)

            def bot(count: int = simulations, evaluator: Any = evaluator, theirs: Any = theirs, at: Any = start) -> Any:
                return pyspiel.MCTSBot(theirs, evaluator, 2.0, count, 4000, False, 0, False).mcts_search(at)

            times = turns(
                3 if quick else rounds,
                {
                    "ours": search,
                    "peer": bot,
                    "rollout": lambda roll=roll, at=encoded, count=simulations: roll(at, count, 1),
                    "memory": lambda nodes=tree.nodes, reads=reads, width=width: read_blocks(nodes, reads, width, 1),
                },
            )
            rows.append(row(f"OpenSpiel MCTSBot: {name}", f"{simulations}", times, simulations))
    return rows


# ---- against mctx ---------------------------------------------------------------------------------------------------


def against_mctx(quick: bool) -> list[Row]:
    import jax
    import jax.numpy as jnp
    import mctx

    def model(params: Any, key: Any, action: Any, state: Any) -> Any:
        zeros = jnp.zeros(action.shape[0])
        logits = jnp.zeros((action.shape[0], WIDTH))
        return mctx.RecurrentFnOutput(reward=zeros, discount=zeros + 1.0, prior_logits=logits, value=zeros), state

    def contest(batch: int, simulations: int) -> Row:
        zeros = jnp.zeros(batch)
        root = mctx.RootFnOutput(prior_logits=jnp.zeros((batch, WIDTH)), value=zeros, embedding=zeros)
        plan = jax.jit(
            lambda key, root: (
                mctx.gumbel_muzero_policy(
                    (), key, root, model, num_simulations=simulations, max_num_considered_actions=16
                ).action
            )
        )
        settings = SearchSettings(simulations=simulations + 1, selection=Gumbel(considered=16), solve=False)
        game, rng, roots = Wide(), np.random.default_rng(0), [Root(seed) for seed in range(batch)]
        evaluator = compiled.KernelEvaluator(zero_value)
        times = turns(
            2 if quick else 7,
            {
                "ours": lambda: compiled.search(game, roots, None, evaluator, settings, rng),
                "peer": lambda: plan(jax.random.PRNGKey(0), root).block_until_ready(),
            },
        )
        return row("mctx gumbel_muzero_policy, CPU", f"{batch} x {simulations}", times, simulations * batch)

    return [contest(64, 800), contest(1, 3200)]


# ---- against plain Python -------------------------------------------------------------------------------------------


class Node:
    """The contestant: a node as an object."""

    __slots__ = ("children", "parent", "prior", "value_sum", "visits")

    def __init__(self, parent: "Node | None", prior: float) -> None:
        self.parent, self.prior = parent, prior
        self.children: list[Node] = []
        self.visits = 0
        self.value_sum = 0.0


def search_with_objects(simulations: int, exploration: float = 2.5) -> None:
    root = Node(None, 1.0)
    for i in range(simulations):
        node = root
        while node.children:
            parent_value = node.value_sum / node.visits
            scale = exploration * math.sqrt(node.visits)
            best_score = -math.inf
            for child in node.children:
                value = child.value_sum / child.visits if child.visits else parent_value
                score = value + scale * child.prior / (1 + child.visits)
                if score > best_score:
                    best_score, node = score, child
        leaf = node
        leaf.children = [Node(leaf, 1 / WIDTH) for _ in range(WIDTH)]
        value = (i * 37 & 1023) / 1023
        up: Node | None = leaf
        while up is not None:
            up.visits += 1
            up.value_sum += value
            up = up.parent


def against_python(quick: bool) -> list[Row]:
    simulations = 100_000 // WIDTH
    game, evaluator = Wide(), compiled.KernelEvaluator(hashed_value)
    few = SearchSettings(simulations=simulations, selection=Puct(exploration=2.5), solve=False)
    rng = np.random.default_rng(0)
    times = turns(
        2 if quick else 7,
        {
            "ours": lambda: compiled.search(game, [Root(0)], None, evaluator, few, rng),
            "peer": lambda: search_with_objects(simulations),
        },
    )
    return [row("plain-Python tree: compiled search", "16, 1e5 nodes", times, simulations)]


# ---- workers, memory ------------------------------------------------------------------------------------------------


def two_workers(quick: bool) -> list[Row]:
    game = ConnectFour()
    simulations = 50_000 if quick else 500_000
    settings = SearchSettings(
        simulations=simulations, selection=Uct(exploration=math.sqrt(2.0)), random_ties=True, solve=False
    )
    roots = [Root(game.reset(0))] * 2
    rng = np.random.default_rng(0)

    def run(workers: int) -> Any:
        return compiled.search(game, roots, None, None, settings, rng, workers=workers)

    times = turns(3 if quick else 9, {"ours": lambda: run(2), "peer": lambda: run(1)}, time.perf_counter)
    return [row("one worker: root-parallel connect four, 2", f"{simulations}", times, simulations * 2)]


def memory(quick: bool) -> list[Row]:
    """Bytes a node; OpenSpiel's ``SearchNode`` as counted in its source (80)."""
    rows = []
    for name, record in (("compiled", COMPILED_NODE), ("general engine, texts aside", NODE)):
        ratio = round(80 / record.itemsize, 2)
        rows.append(
            {"name": f"bytes a node: {name}", "size": "any", "ours": record.itemsize, "peer": 80, "ratio": ratio}
        )
        printed(rows[-1])
    return rows


def over_runs(runs: list[Row]) -> list[Row]:
    """A row for each contest: medians over the runs, ``low`` and ``high`` the range of their ratios."""
    contests: dict[tuple[str, str], list[Row]] = {}
    for run in runs:
        for made in run["rows"]:
            contests.setdefault((made["name"], made["size"]), []).append(made)
    rows = []
    for (name, size), made in contests.items():
        keys = [key for key in made[0] if key not in ("name", "size")]
        ratios = [each["ratio"] for each in made]
        medians = {key: statistics.median(each[key] for each in made) for key in keys}
        rows.append({"name": name, "size": size, **medians, "low": min(ratios), "high": max(ratios), "runs": len(made)})
    return rows


def table_of(rows: list[Row]) -> str:
    """The rows of :func:`over_runs` as Markdown."""
    lines = ["| against | size | ours | best round | peer | ratio [range] | floors |", "|---|---|---|---|---|---|---|"]
    for made in rows:
        floors = ", ".join(f"{key} {made[key]:.3f}" for key in ("rollout", "memory") if key in made)
        times = (f"{made[key]:.3g}" if key in made else "" for key in ("ours", "best", "peer"))
        ratio = f"{made['ratio']:.1f} [{made['low']:.1f}, {made['high']:.1f}]"
        lines.append("| " + " | ".join([made["name"], made["size"], *times, ratio, floors]) + " |")
    return "\n".join(lines)


def quoted_table(rows: list[Row]) -> str:
    """The README's rows: medians of times, and the least ratio of all runs."""
    lines = ["| | branchwise | peer | ratio, at least |", "|---|---|---|---|"]
    for made in rows:
        if (made["name"], made["size"]) in QUOTED:
            name = QUOTED[made["name"], made["size"]]
            lines.append(f"| {name} | {made['ours']:.3g} | {made['peer']:.3g} | {int(made['low'])} |")
    return "\n".join(lines)


def processor() -> str:
    """The name of the processor, where the system says it."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("numba", "numpy", "open_spiel", "mctx", "jax")}


PARTS = {
    "openspiel": against_openspiel,
    "mctx": against_mctx,
    "python": against_python,
    "workers": two_workers,
    "memory": memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few rounds, no trees of 100,000 simulations")
    parser.add_argument("--only", choices=list(PARTS), help="one part, without writing the file")
    parser.add_argument("--fresh", action="store_true", help="forget the runs that the file has")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    print(f"{'against':44}{'size':>14}{'ours, us':>12}{'peer, us':>12}{'ratio':>10}  best round and floors, us")
    rows: list[Row] = []
    for name, part in PARTS.items():
        if arguments.only in (None, name):
            gc.freeze()  # a tree of Python objects is not to pay for collecting what other parts left
            rows += part(arguments.quick)
    if arguments.only is None:
        kept = (
            json.loads(arguments.output.read_text())["runs"]
            if arguments.output.exists() and not arguments.fresh
            else []
        )
        run = {
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "processor": processor(),
            "python": platform.python_version(),
            "versions": versions(),
            "quick": arguments.quick,
            "rows": rows,
        }
        runs = [*kept, run]
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps({"unit": "microseconds a simulation", "runs": runs}, indent=1) + "\n")
        if arguments.output == OUTPUT:
            put_table(PAGE, table_of(over_runs(runs)), "speed")
            put_table(README, quoted_table(over_runs(runs)), "speed")


if __name__ == "__main__":
    main()
