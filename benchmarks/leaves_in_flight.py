"""What several leaves in flight in one tree cost in strength, and which way of marking them costs least.

A search that evaluates leaves in batches can take a batch from one tree: it selects again before the values of the
leaves before are known. Two ways of marking what is under way keep the walks apart (``SearchSettings``):

- *virtual loss*: a leaf under way counts as a visit that returned −1 (Chaslot, Winands and van den Herik, 2008);
- *visit only*: as a visit without a return (``visits_only``; WU-UCT, Liu et al., 2020).

Connect four, random roll-outs, the tree's own kernels. Each cell: 600 games of the searcher with several leaves in
flight against the searcher with one, at equal simulations, in pairs with colours exchanged after two random plies (the
same 300 openings in all cells). Score: a win 1, a draw ½; 50 % is no cost. The interval is the bootstrap's 95 % over
pairs. Beside the score: how many leaves a batch held on average, as a batch ends where the walk meets a leaf that is
already under way.

Run: ``python benchmarks/leaves_in_flight.py [--games 600]``; prints a table, writes
``benchmarks/results/leaves_in_flight.json`` and the table of ``docs/leaves_in_flight.md``. Not measured: evaluators
other than roll-outs, the time that batches save (that is the evaluator's), the solver (off).
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from pages import put_table

from branchwise.envs.games.connect_four import RULES
from branchwise.search.rules.options import Puct, Uct
from branchwise.search.settings import SearchSettings, settings_record
from branchwise.search.trees.ascent import _back_up
from branchwise.search.trees.descent import _select
from branchwise.search.trees.nodes import ENDED, HEAD, NODE, VALUED, _add_children
from branchwise.training.evaluation import bootstrap_mean

SIMULATIONS: Final = (64, 1000)
LEAVES: Final = (4, 8, 16, 32)
RULE_SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "puct": {"selection": Puct(exploration=2.5)},
    "uct": {"selection": Uct(exploration=1.0)},
}
MARKS: Final[dict[str, dict[str, Any]]] = {
    "virtual loss": {"virtual_loss": 1.0},
    "visit only": {"visits_only": True},
}
FIRST_MARK: Final = next(iter(MARKS))
PAGE: Final = Path(__file__).parents[1] / "docs" / "leaves_in_flight.md"
START: Final = (0, 0)
MOST_LEAVES: Final = max(LEAVES)
DEPTH: Final = 44

game_legal, game_step, game_rollout = RULES.legal, RULES.step, RULES.rollout


class Searcher(NamedTuple):
    record: np.ndarray
    leaves: int


class Cell(NamedTuple):
    """One line of the table: a setting, and what came out."""

    rule: str
    mark: str
    simulations: int
    leaves: int
    games: int
    score: float
    low: float
    high: float
    leaves_in_a_batch: float


@njit(cache=True)
def _searched(
    nodes: np.ndarray,
    values: np.ndarray,
    head: np.ndarray,
    record: np.ndarray,
    states: np.ndarray,
    paths: np.ndarray,
    simulations: int,
    leaves: int,
    random: int,
) -> tuple[int, int]:
    """Grow the tree whose root's state is ``states[0]`` and whose player to move is 0: (batches, random)."""
    actions, none, nothing = np.empty(7, np.int64), np.empty(0), np.empty(0, np.int64)
    priors, rewards, flags, players = np.empty(7), np.empty(7), np.empty(7, np.int64), np.empty(7, np.int64)
    depths, found = np.empty(leaves, np.int64), np.empty((leaves, 2), np.int64)
    returns = np.empty(1)
    done = 0
    batches = 0
    while done < simulations:
        count = 0
        while count < min(leaves, simulations - done):
            leaf, depth, leaf_flags = _select(nodes, values, head, record, paths[count], none, nothing)
            if leaf < 0:
                break
            depths[count] = depth
            found[count, 0], found[count, 1] = leaf, leaf_flags
            count += 1
        for i in range(count):
            leaf, returns[0] = found[i, 0], 0.0
            if not found[i, 1] & VALUED:
                state = (states[leaf, 0], states[leaf, 1])
                mover = nodes[leaf].player
                width = game_legal(state, actions)
                first = head[0].size
                for place in range(width):
                    after, reward, over = game_step(state, actions[place])
                    states[first + place, 0], states[first + place, 1] = after
                    priors[place] = 1.0 / width
                    rewards[place] = reward
                    flags[place] = (ENDED | VALUED) if over else 0
                    players[place] = 1 - mover
                _add_children(nodes, head, leaf, priors[:width], rewards[:width], flags[:width], players[:width])
                value, random = game_rollout(state, random)
                returns[0] = value if mover == 0 else -value
            _back_up(nodes, values, head, record, paths[i], depths[i], returns)
        done += count
        batches += 1
    return batches, random


class Table:
    """The memory of one tree, used again for every move."""

    def __init__(self, simulations: int) -> None:
        capacity = 7 * simulations + 8
        self.nodes = np.zeros(capacity, NODE)
        self.values = np.zeros((capacity, 0))
        self.head = np.zeros(1, HEAD)
        self.states = np.zeros((capacity, 2), np.int64)
        self.paths = np.zeros((MOST_LEAVES, DEPTH), np.int64)

    def move(self, searcher: Searcher, state: tuple[int, int], simulations: int, random: int) -> tuple[int, int, int]:
        """(the place of the most visited action, then the better one; batches; random)."""
        self.nodes[0] = np.zeros((), NODE)
        self.nodes[0]["parent"] = self.nodes[0]["first_child"] = -1
        self.head[0] = np.zeros((), HEAD)
        self.head["size"] = 1
        self.states[0] = state
        batches, random = _searched(
            self.nodes,
            self.values,
            self.head,
            searcher.record,
            self.states,
            self.paths,
            simulations,
            searcher.leaves,
            random,
        )
        first, count = int(self.nodes[0]["first_child"]), int(self.nodes[0]["children"])
        children = self.nodes[first : first + count]
        means = children["value_sum"] / np.maximum(children["visits"], 1)
        return int(np.lexsort((means, children["visits"]))[-1]), batches, random


def opening(rng: np.random.Generator) -> tuple[int, int]:
    """The state after two random plies."""
    state, actions = START, np.empty(7, np.int64)
    for _ in range(2):
        count = game_legal(state, actions)
        state, _, _ = game_step(state, actions[int(rng.integers(count))])
    return state


def game(
    tables: tuple[Table, Table], searchers: tuple[Searcher, Searcher], state: Any, simulations: int, random: int
) -> tuple[float, int, int, int]:
    """(the first searcher's score, its batches, its moves, random); the first searcher moves first."""
    actions = np.empty(7, np.int64)
    spent = [0, 0]
    moves = [0, 0]
    turn = 0
    while True:
        game_legal(state, actions)
        place, batches, random = tables[turn].move(searchers[turn], state, simulations, random)
        spent[turn] += batches
        moves[turn] += 1
        state, reward, over = game_step(state, actions[place])
        if over:
            score = 0.5 if reward == 0.0 else float(turn == 0)
            return score, spent[0], moves[0], random
        turn = 1 - turn


def match(rule: str, mark: str, simulations: int, leaves: int, games: int, seed: int) -> Cell:
    """``games`` games of ``leaves`` in flight against one."""
    openings = np.random.default_rng(seed)
    random = int(np.random.default_rng([seed, simulations, leaves]).integers(2**62))
    common: dict[str, Any] = {"simulations": simulations, "solve": False, **RULE_SETTINGS[rule]}
    several = SearchSettings(leaves_per_tree=leaves, **MARKS[mark], **common)
    one = SearchSettings(**common)
    players = (
        Searcher(settings_record(several, zero_sum=True, players=2), leaves),
        Searcher(settings_record(one, zero_sum=True, players=2), 1),
    )
    tables = Table(simulations), Table(simulations)
    pairs = np.empty(games // 2)
    batches = searches = 0
    for pair in range(games // 2):
        start = opening(openings)
        first, spent, moves, random = game(tables, players, start, simulations, random)
        batches += spent
        searches += moves
        second, _, _, random = game(tables, (players[1], players[0]), start, simulations, random)
        pairs[pair] = (first + 1.0 - second) / 2.0
    low, high = bootstrap_mean(pairs, seed)
    filled = simulations * searches / batches
    return Cell(rule, mark, simulations, leaves, 2 * len(pairs), float(pairs.mean()), low, high, filled)


def table(cells: list[Cell]) -> str:
    """The cells as Markdown: a line a rule, a number of simulations and leaves; a column a mark."""
    lines = [
        "| rule | simulations | leaves | " + " | ".join(f"{mark} | leaves in a batch" for mark in MARKS) + " |",
        "|---|---|---|" + "---|---|" * len(MARKS),
    ]
    found = {(cell.rule, cell.simulations, cell.leaves, cell.mark): cell for cell in cells}
    for rule, simulations, leaves in dict.fromkeys((cell.rule, cell.simulations, cell.leaves) for cell in cells):
        row = [rule, f"{simulations:,}", str(leaves)]
        for mark in MARKS:
            cell = found.get((rule, simulations, leaves, mark), found[rule, simulations, leaves, FIRST_MARK])
            row += [f"{cell.score:.1%} ({cell.low:.1%}–{cell.high:.1%})", f"{cell.leaves_in_a_batch:.1f}"]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--games", type=int, default=600, help="games a cell, in pairs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rules", nargs="+", default=list(RULE_SETTINGS), choices=list(RULE_SETTINGS))
    arguments = parser.parse_args()
    cells = []
    start = time.process_time()
    for rule in arguments.rules:
        for simulations in SIMULATIONS:
            for leaves in (1, *LEAVES):
                for mark in MARKS if leaves > 1 else [FIRST_MARK]:  # one leaf meets no mark
                    cells.append(match(rule, mark, simulations, leaves, arguments.games, arguments.seed))
                    print(cells[-1], f"{time.process_time() - start:.0f} s", flush=True)
    printed = table(cells)
    print(printed)
    about = {"python": platform.python_version(), "machine": platform.machine(), "seed": arguments.seed}
    output = Path(__file__).parent / "results" / "leaves_in_flight.json"
    put_table(PAGE, printed)
    output.write_text(json.dumps({**about, "cells": [cell._asdict() for cell in cells]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
