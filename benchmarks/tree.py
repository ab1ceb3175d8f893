"""What a simulation costs: our tree and engine against a plain-Python tree of objects with ``__slots__``.

Two questions, at trees of about 1e3, 1e4 and 1e5 nodes, with PUCT, running means and 4 actions a state:

- *tree operations*: select, add children and back up alone, with a constant value and no words;
- *whole search*: with a simulator, a policy and an evaluator that do next to nothing, for one tree and for 32 trees at
  once, against the same search written for objects, one leaf at a time.

Each figure is the median over rounds in which the contestants take turns, in microseconds a simulation, after one round
that is thrown away (it compiles). Run: ``python benchmarks/tree.py [--quick]``; the table is printed and written to
``benchmarks/results/tree.json``. Not measured: memory, real policies.
"""

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from branchwise.envs.play.policy import Proposal
from branchwise.envs.play.transcript import Transcript, acted, observed
from branchwise.envs.simulator import TERMINAL, Simulator
from branchwise.search.engine import Root, SearchSettings, search
from branchwise.search.evaluation import ValueFunction
from branchwise.search.rules.options import Puct
from branchwise.search.settings import settings_record
from branchwise.search.trees.children import Children
from branchwise.search.trees.tree import Tree

WIDTH = 4
TREES = 32
EXPLORATION = 2.5
ACTIONS = [f"action {i}" for i in range(WIDTH)]
PRIOR = np.array([0.4, 0.3, 0.2, 0.1])


class Place(NamedTuple):
    number: int
    depth: int


class Toy(Simulator[Place]):
    """Four actions everywhere, no end; a state is a number."""

    def reset(self, seed: int, options: Any = None) -> Place:
        return Place(seed + 1, 0)

    def current_player(self, state: Place) -> int:
        return TERMINAL if state.depth >= 1000 else 0

    def observation(self, state: Place, player: int = 0) -> str:
        return "here"

    def legal_actions(self, state: Place) -> list[str]:
        return ACTIONS

    def step(self, state: Place, action: str) -> Place:
        return Place((state.number * 1103515245 + ord(action[-1])) & 0x7FFFFFFF, state.depth + 1)

    def rewards(self, state: Place) -> tuple[float, ...]:
        return (0.0,)


def judged(simulator: Any, state: Place, transcript: Any) -> float:
    return (state.number & 1023) / 1023


class Constant:
    def __init__(self) -> None:
        self.calls = 0
        self.logps = np.log(PRIOR)

    def score(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        return [self.logps] * len(transcripts)

    def propose(
        self, transcripts: Sequence[Transcript], n: int, rngs: Sequence[np.random.Generator]
    ) -> list[list[Proposal]]:
        raise NotImplementedError


class Node:
    """The contestant: a node as an object."""

    __slots__ = ("action", "children", "parent", "prior", "reward", "state", "value_sum", "visits")

    def __init__(self, parent: "Node | None", action: str, state: Any, prior: float, reward: float) -> None:
        self.parent, self.action, self.state, self.prior, self.reward = parent, action, state, prior, reward
        self.children: list[Node] = []
        self.visits = 0
        self.value_sum = 0.0


def select_object(root: Node) -> Node:
    node = root
    while node.children:
        parent_value = node.value_sum / node.visits
        scale = EXPLORATION * math.sqrt(node.visits)
        best_score = -math.inf
        best = node
        for child in node.children:
            value = child.value_sum / child.visits if child.visits else parent_value
            score = value + scale * child.prior / (1 + child.visits)
            if score > best_score:
                best_score, best = score, child
        node = best
    return node


def back_up_object(leaf: Node, value: float) -> None:
    node: Node | None = leaf
    while node is not None:
        if node.parent is not None:
            value += node.reward
        node.visits += 1
        node.value_sum += value
        node = node.parent


def operations_of_objects(simulations: int) -> None:
    root = Node(None, "", None, 1.0, 0.0)
    priors = PRIOR.tolist()
    for i in range(simulations):
        leaf = select_object(root)
        leaf.children = [Node(leaf, action, None, prior, 0.0) for action, prior in zip(ACTIONS, priors, strict=True)]
        back_up_object(leaf, (i * 37 & 1023) / 1023)


def operations_of_arrays(simulations: int) -> None:
    tree = Tree(None, None, ())
    record = settings_record(SearchSettings(selection=Puct(exploration=EXPLORATION)), zero_sum=False, players=1)
    nothing = [None] * WIDTH
    zeros = [0.0] * WIDTH
    flags = [0] * WIDTH
    for i in range(simulations):
        leaf, _, _ = tree.select(record)
        tree.add_children(leaf, Children(ACTIONS, nothing, PRIOR, zeros, zeros, flags))
        tree.back_up(leaf, (i * 37 & 1023) / 1023, record)


def search_with_objects(simulations: int) -> None:
    simulator, policy = Toy(), Constant()
    state = simulator.reset(0)
    root = Node(None, "", state, 1.0, 0.0)
    for _ in range(simulations):
        leaf = select_object(root)
        actions = simulator.legal_actions(leaf.state)
        transcript = transcript_of(leaf, simulator)
        [logps] = policy.score([transcript], [actions])
        weights = np.exp(logps - logps.max())
        weights /= weights.sum()
        seen = set()
        node: Node | None = leaf
        while node is not None:
            seen.add(node.state)
            node = node.parent
        for action, prior in zip(actions, weights.tolist(), strict=True):
            child = simulator.step(leaf.state, action)
            if simulator.position(child) not in seen:
                leaf.children.append(Node(leaf, action, child, prior, simulator.rewards(child)[0]))
        back_up_object(leaf, judged(simulator, leaf.state, transcript))


def transcript_of(node: Node, simulator: Toy) -> Transcript:
    turns: list[Any] = []
    step = node
    while step.parent is not None:
        turns += [observed(simulator.observation(step.state)), acted(step.action)]
        step = step.parent
    return (observed("start"), *reversed(turns))


def search_with_arrays(simulations: int, trees: int = 1) -> None:
    simulator = Toy()
    roots = [Root(simulator.reset(seed), (observed("start"),)) for seed in range(trees)]
    settings = SearchSettings(simulations=simulations, selection=Puct(exploration=EXPLORATION), uniform_prior=0.0)
    search(simulator, roots, Constant(), ValueFunction(judged), settings)


CONTESTS: dict[str, dict[str, tuple[Callable[[int], None], int]]] = {
    "tree operations": {
        "array + numba": (operations_of_arrays, 1),
        "objects with slots": (operations_of_objects, 1),
    },
    "whole search": {
        "engine, 1 tree": (search_with_arrays, 1),
        f"engine, {TREES} trees": (lambda simulations: search_with_arrays(simulations, TREES), TREES),
        "objects with slots": (search_with_objects, 1),
    },
}


def measured(nodes: int, rounds: int) -> dict[str, dict[str, float]]:
    """Median microseconds a simulation by contest and contestant."""
    simulations = nodes // WIDTH
    result: dict[str, dict[str, float]] = {}
    for contest, contestants in CONTESTS.items():
        times: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, (run, trees) in contestants.items():
                start = time.perf_counter()
                run(simulations)
                times[name].append((time.perf_counter() - start) / simulations / trees * 1e6)
        result[contest] = {name: statistics.median(values) for name, values in times.items()}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="only trees of 1e3 nodes, three rounds")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "tree.json")
    arguments = parser.parse_args()
    measured(200, 1)
    plan = {1000: 3} if arguments.quick else {1000: 15, 10_000: 7, 100_000: 3}
    results = {nodes: measured(nodes, rounds) for nodes, rounds in plan.items()}
    print("microseconds a simulation, median")
    print(f"{'':42}" + "".join(f"{nodes:>12,} nodes" for nodes in results))
    for contest, contestants in CONTESTS.items():
        for name in contestants:
            figures = "".join(f"{results[nodes][contest][name]:18.2f}" for nodes in results)
            print(f"{contest + ': ' + name:42}{figures}")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    about = {"python": platform.python_version(), "machine": platform.machine(), "unit": "microseconds a simulation"}
    arguments.output.write_text(json.dumps({**about, "rounds": plan, "medians": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
