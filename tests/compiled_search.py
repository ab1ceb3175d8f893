"""A decision process of one player as a simulator and as kernels, and a compiled tree held against a general one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from numba import njit

from branchwise.envs.games.kernels import CompiledRules
from branchwise.envs.simulator import TERMINAL, Simulator
from branchwise.search.compiled import CompiledTree
from branchwise.search.trees.tree import Tree


@njit(cache=True)
def mixed(x: int) -> int:
    x = (x ^ (x >> 15)) * 0x2C1B3C6D & 0x7FFFFFFF
    return (x ^ (x >> 13)) * 0x297A2D39 & 0x7FFFFFFF


@njit(cache=True)
def maze_legal(state: tuple[int, int], actions: Any) -> int:
    count = 2 + mixed(state[0] + 1) % 3
    for i in range(count):
        actions[i] = i
    return count


@njit(cache=True)
def maze_step(state: tuple[int, int], action: int) -> tuple[tuple[int, int], float, bool]:
    place = mixed(state[0] * 5 + action + 7)
    return (place, state[1] + 1), (place & 15) / 16.0, state[1] + 1 >= 6


@njit(cache=True)
def maze_value(state: tuple[int, int], random: int) -> tuple[float, int]:
    return (mixed(state[0] + 99) & 63) / 64.0, random


@njit(cache=True)
def board_value(state: tuple[int, int], random: int) -> tuple[float, int]:
    return (mixed(state[0] * 31 + state[1]) & 127) / 64.0 - 1.0, random


@njit(cache=True)
def maze_legal_above_two(state: tuple[int, int], actions: Any) -> int:
    return maze_legal(state, actions) if state[1] < 2 else 0


@njit(cache=True)
def costly_step(state: tuple[int, int], action: int) -> tuple[tuple[int, int], float, bool]:
    after, reward, over = maze_step(state, action)
    return after, reward - 2.0, over


class MazeState(NamedTuple):
    place: int
    depth: int = 0
    reward: float = 0.0


class Maze(Simulator[MazeState]):
    rules = CompiledRules(
        name="maze",
        players=1,
        words=2,
        max_actions=4,
        max_depth=6,
        legal=maze_legal,
        step=maze_step,
        rollout=maze_value,
        encode=lambda state: (state.place, state.depth),
        action_text=str,
    )

    def reset(self, seed: int, options: Any = None) -> MazeState:
        return MazeState(mixed(seed + 1))

    def current_player(self, state: MazeState) -> int:
        return TERMINAL if state.depth >= 6 else 0

    def observation(self, state: MazeState, player: int = 0) -> str:
        return f"{state.place} {state.depth}"

    def legal_actions(self, state: MazeState) -> Sequence[str]:
        return [str(i) for i in range(2 + mixed(state.place + 1) % 3)] if state.depth < 6 else []

    def step(self, state: MazeState, action: str) -> MazeState:
        (place, depth), reward, _ = maze_step((state.place, state.depth), int(action))
        return MazeState(place, depth, reward)

    def rewards(self, state: MazeState) -> tuple[float, ...]:
        return (state.reward,)


class CostlyMaze(Maze):
    """Each step costs more than one; the rules allow for longer games than there are."""

    rules = replace(Maze.rules, name="costly_maze", step=costly_step, max_depth=8)

    def step(self, state: MazeState, action: str) -> MazeState:
        after = super().step(state, action)
        return after._replace(reward=after.reward - 2.0)


def assert_same_as_general(tree: CompiledTree, node: int, other: Tree, there: int) -> None:
    """The compiled tree has a node's children one visit later, and in another order where ties are random: compare by
    action, as far as both were visited."""
    assert tree.visits(node) == other.visits(there)
    if not tree.visits(node):
        return
    assert tree.value(node) == pytest.approx(other.value(there), abs=1e-5)
    assert tree.mean(node) == pytest.approx(other.mean(there), abs=1e-5)
    assert tree.is_solved(node) == other.is_solved(there)
    assert tree.proof(node) == other.proof(there)
    children = {other.actions[child]: child for child in other.children(there)}
    for child in tree.children(node):
        assert_same_as_general(tree, child, other, children[tree.action(child)])
