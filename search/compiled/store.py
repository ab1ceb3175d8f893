"""Compiled trees as a file, and back: numpy's ``.npz``, which holds numbers and one JSON text, and runs nothing.

The root's state is not stored, since only its game knows how to write one: who loads hands over the same roots, and the
file says whether they are. Every node is checked before a search may walk on it: by the game's own kernels which moves
are legal there; that it has one parent, numbers, and visits that a search leaves. A file that stands is whole
(``files.atomically``).

Not here: trees with words (``store.py``; :meth:`CompiledTree.to_tree` makes one).
"""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numba import njit

from ...envs.games.kernels import CompiledRules
from ...envs.json_files import parse_json
from ...envs.simulator import Simulator
from ..engine import Root
from ..files import atomically, check_file, check_unpacked
from ..rules.options import from_flat
from ..settings import SearchSettings
from .loop import COMPILED_NODE, LATE
from .tree import CompiledTree, tries_each_once

FORMAT: Final = "branchwise compiled trees 1"


def save_compiled(path: str | Path, trees: Sequence[CompiledTree]) -> None:
    """Write trees of one game. Raises ValueError for no trees, or a task that JSON cannot hold."""
    if not trees:
        raise ValueError(f"{path}: no trees to save; a file needs at least one")
    about = {"format": FORMAT, "game": trees[0].rules.name, "trees": [_about(path, tree) for tree in trees]}
    arrays: dict[str, Any] = {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)}
    for place, tree in enumerate(trees):
        arrays |= {f"nodes_{place}": tree.nodes, f"gumbel_{place}": tree.gumbel}
    with atomically(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def load_compiled(path: str | Path, simulator: Simulator[Any], roots: Sequence[Root]) -> list[CompiledTree]:
    """Read trees that were searched from ``roots``, to go on with (``compiled.extend``).

    Raises ValueError where the file is missing, cut off, of something else, of another game, or of other roots.
    """
    path = Path(path)
    check_file(path, "save_compiled writes one")
    try:
        with zipfile.ZipFile(path) as packed:
            check_unpacked(path, sum(member.file_size for member in packed.infolist()))
        with np.load(path, allow_pickle=False) as file:
            about = parse_json(file["about"].tobytes(), "'about'", "expected an object")
            count = len(about["trees"]) if about["format"] == FORMAT else 0
            arrays = [(file[f"nodes_{place}"], file[f"gumbel_{place}"]) for place in range(count)]
    except (ValueError, KeyError, TypeError, OSError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: expected a file of save_compiled; it is another, or was cut off ({error})"
        ) from error
    rules: CompiledRules = simulator.rules  # type: ignore[attr-defined]
    if about["format"] != FORMAT or about["game"] != rules.name:
        found = f"{about['format']!r} of {about.get('game')!r}"
        raise ValueError(f"{path}: expected {FORMAT!r} of {rules.name!r}, found {found}")
    if count != len(roots):
        raise ValueError(f"{path}: {count} trees, and {len(roots)} roots; pass those that were searched")
    return [
        _tree(f"{path}: tree {place}", simulator, rules, root, kept, *both)
        for place, (root, kept, both) in enumerate(zip(roots, about["trees"], arrays, strict=True))
    ]


def _about(path: str | Path, tree: CompiledTree) -> dict[str, Any]:
    kept: dict[str, Any] = {name: getattr(tree, name) for name in ("task", "index", "random", "simulations")}
    kept["root"] = [int(word) for word in tree.rules.encode(tree.state)]
    kept["settings"] = tree.settings.as_json()
    try:
        json.dumps(tree.task)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: the task {tree.task!r} cannot be written as JSON: {error}") from error
    return kept


def _tree(
    where: str,
    simulator: Simulator[Any],
    rules: CompiledRules,
    root: Root,
    kept: dict[str, Any],
    nodes: np.ndarray,
    gumbel: np.ndarray,
) -> CompiledTree:
    encoded = rules.encode(root.state)
    if nodes.dtype != COMPILED_NODE or nodes.ndim != 1 or not len(nodes) or gumbel.ndim != 1:
        raise ValueError(f"{where}: records of {nodes.dtype}; expected those of a compiled tree")
    try:
        if [int(word) for word in encoded] != kept["root"]:
            raise ValueError("it was searched from another root; pass the roots that were searched")
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in from_flat(kept["settings"]).items()
        }
        settings = SearchSettings(**given)
        random = int(np.int64(kept["random"]))  # what the loop takes
        tree = CompiledTree(simulator, rules, root.state, settings, random, kept["task"], kept["index"])
        tree.simulations = int(kept["simulations"])
        tree.gumbel = np.array(gumbel, np.float64)
        if not np.isfinite(tree.gumbel).all():
            raise ValueError("a Gumbel draw is NaN or infinite; the file is damaged")
        if tree.simulations != int(nodes[0]["visits"]):
            raise ValueError(
                f"simulations={tree.simulations} and {nodes[0]['visits']} visits of the root; is it damaged?"
            )
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error
    nodes = np.ascontiguousarray(nodes)
    damaged = _first_damaged(nodes, encoded, rules.legal, rules.step, rules.max_actions)
    if damaged < 0 and len(gumbel) not in (0, rules.legal(encoded, np.zeros(rules.max_actions, np.int64))):
        damaged = 0
    if damaged >= 0:
        raise ValueError(f"{where}, node {damaged}: no position of this game has these children; the file is damaged")
    wrong = _first_without_number(nodes)
    if wrong >= 0:
        raise ValueError(f"{where}, node {wrong}: a value or prior is NaN or infinite; the file is damaged")
    wrong = _first_miscounted(nodes, tries_each_once(settings))
    if wrong >= 0:
        raise ValueError(f"{where}, node {wrong}: no search leaves these visits; the file is damaged")
    tree.nodes = nodes
    return tree


def _first_without_number(nodes: np.ndarray) -> int:
    """The first node with a sum or factor that is not finite, or a value that is NaN (−∞ marks what is not visited
    again); −1 where there is none."""
    wrong = ~np.isfinite(nodes["value_sum"]) | ~np.isfinite(nodes["factor"]) | np.isnan(nodes["value"])
    return int(wrong.argmax()) if wrong.any() else -1


@njit(cache=True)
def _first_miscounted(nodes: np.ndarray, each_once: bool) -> int:
    """The first node with less than no visits, with children and no visit, with no more visits than its children have
    together, or of which a child was visited before its turn where ``each_once``; −1 where all are right. The loops
    index by visits: others would lead them out of their arrays."""
    for node in range(nodes.shape[0]):
        visits = int(nodes[node].visits)
        first, count = int(nodes[node].first_child), int(nodes[node].children)
        in_turn = each_once and not nodes[node].flags & LATE
        left = visits - 1
        for i in range(count):
            child = int(nodes[first + i].visits)
            left -= child
            if child < min(int(nodes[first + i].children), 1):
                return first + i
            if in_turn and child > 0 and i >= visits - 1:
                return node
        if visits < 0 or (count > 0 and left < 0):
            return node
    return -1


@njit
def _first_damaged(nodes: np.ndarray, root: Any, legal: Any, step: Any, most: int) -> int:
    """The first node whose children are not the legal moves of its position, each once and side by side; −1 where all
    are right. Positions are replayed level by level, by the game's kernels."""
    count = nodes.shape[0]
    actions = np.empty(most, np.int64)
    marks = np.full(1 << 16, -1, np.int64)  # by action: the node at which it is legal and was not met yet
    states = [root]
    waiting = [0]
    seen = 1
    at = 0
    while at < len(waiting):
        node = waiting[at]
        state = states[at]
        at += 1
        children = int(nodes[node].children)
        if children == 0:
            continue
        first = int(nodes[node].first_child)
        if first <= node or first + children > count or legal(state, actions) != children:
            return node
        marks[actions[:children]] = node
        seen += children
        for child in range(first, first + children):
            action = nodes[child].action
            if marks[action] != node:
                return child
            marks[action] = -1
            after, _, over = step(state, action)
            if nodes[child].children > 0:
                if over:
                    return child
                waiting.append(child)
                states.append(after)
        if len(waiting) > count:
            return node
    return -1 if seen == count else 0
