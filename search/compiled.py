"""Search for games whose rules are numba kernels: the settings of the general engine, the whole loop compiled.

A simulator with ``rules`` (:class:`~branchwise.envs.games.kernels.CompiledRules`) is searched here in a fraction of a
microsecond a simulation beside the roll-out itself (``benchmarks/search.py``), with leaves valued by random roll-outs
or by a kernel of one's own. Compiled are the rules ``uct``, ``ucb1``, ``puct``, ``alphazero`` and ``gumbel``, the mean
backup, discounts, MCTS-Solver, ties, limits of time and memory; :func:`why_not_compiled` says what is not. Everything
else goes to ``engine.search``, which grows the same tree from the same values of leaves. (Its roll-outs draw other
random numbers, its ties other ones too.)

The first search of a game compiles for some seconds, says so, and keeps the result on disk (``compiled_build.py``).
Kernels release Python's lock: ``workers`` threads search several trees at once, and several trees of one root together
are root parallelisation (``compiled_tree.merged``).

Not here: policies and evaluators that are asked in Python, chance nodes, hidden information. A tree is limited to 2²⁴
simulations, the largest count that float32 holds.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Lock
from typing import Any, Final

import numpy as np

from ..envs.games.kernels import CompiledRules
from ..envs.simulator import Simulator
from . import compiled_gumbel, compiled_loop
from .compiled_build import built
from .compiled_loop import (
    CHOICE,
    COMPILED_NODE,
    RULES,
    STEP,
    UNVISITED_FIRST,
    UNVISITED_PARENT,
    UNVISITED_ZERO,
    WEIGHT_PUCT,
    WEIGHT_UCB1,
    WEIGHT_UCT,
)
from .compiled_tree import CompiledTree
from .engine import Progress, Root
from .engine import search as search_in_general
from .evaluation import Evaluator, Leaf, RandomRollout
from .gumbel import considered_visits, gumbel_draws
from .policy import Policy
from .settings import SearchSettings
from .tree import Tree

MOST_SIMULATIONS: Final = 1 << 24
_CHUNK: Final = 1 << 14  # simulations between two looks at the clock, and what Ctrl-C waits for
_FIRST_CAPACITY: Final = 1 << 18
_REMEMBERED_SCALES: Final = 1 << 14
_WEIGHTS: Final = {"uct": WEIGHT_UCT, "ucb1": WEIGHT_UCB1, "puct": WEIGHT_PUCT, "alphazero": WEIGHT_PUCT}
_UNVISITED: Final = {"zero": UNVISITED_ZERO, "parent": UNVISITED_PARENT, "infinite": UNVISITED_FIRST}
_GUMBEL: Final = (("WEIGHT", WEIGHT_PUCT), ("UNVISITED", UNVISITED_ZERO))
_NOT_COMPILED: Final = (
    "backup",
    "leaves_per_tree",
    "hide_outcome",
    "normalise",
    "noise",
    "critic_weight",
    "widening",
    "transpositions",
    "information",
    "stop_decided",
)
"""Settings of which only the default is compiled. The others are compiled, or say nothing to a search that asks no
model and whose games never come back to a position; for two of them see :func:`_why_not_settings`."""


class KernelEvaluator:
    """Values leaves by a numba kernel ``(state, random) -> (value, random)``: the return from a state on for the player
    to move, of the kernel's state (``CompiledRules``); ``random`` is the int64 state of the random numbers, to be
    handed back as it is where none are drawn. Serves both engines."""

    reads_transcripts = False

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.calls = 0

    def evaluate(self, leaves: Sequence[Leaf]) -> np.ndarray:
        values = []
        for leaf in leaves:
            simulator: Any = leaf.simulator
            value, _ = self.kernel(simulator.rules.encode(leaf.state), int(leaf.rng.integers(1 << 62)))
            second = simulator.players == 2 and simulator.current_player(leaf.state) == 1
            values.append([-value if second else value] + [value if second else -value] * (simulator.players - 1))
        self.calls += len(leaves)
        return np.array(values, np.float64).reshape(len(leaves), -1)


class KernelPolicy:
    """Priors by a numba kernel ``(state, actions, count, logits)`` that writes the logits of the first ``count`` codes
    of ``actions`` into ``logits`` (float64). For compiled searches alone: other policies read transcripts."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel


def search(
    simulator: Simulator[Any],
    roots: Sequence[Root],
    policy: Policy | KernelPolicy | None = None,
    evaluator: Evaluator | None = None,
    settings: SearchSettings | None = None,
    rng: np.random.Generator | Sequence[np.random.Generator] | None = None,
    progress: Progress | None = None,
    *,
    workers: int = 1,
) -> "list[CompiledTree] | list[Tree]":
    """Grow one tree from each root: all of them :class:`CompiledTree`, or all ``Tree`` where something is not compiled.

    ``policy``: None for equal priors. ``evaluator``: None for random roll-outs to the end of the game. ``rng``: one
    generator, of which each tree takes a number (and its Gumbel draws) in turn, or one generator a root. ``workers``:
    threads that search trees side by side. ``settings.seconds``, ``max_nodes`` and ``max_bytes`` are looked at every
    16,384 simulations of a tree, nodes and bytes also where memory has to grow.
    Raises ValueError for a root where no player is to move, and for more than 2²⁴ simulations.
    """
    settings = settings or SearchSettings()
    reason = why_not_compiled(simulator, policy, evaluator, settings)
    if reason:
        if isinstance(policy, KernelPolicy):
            raise ValueError(f"{reason}, and a KernelPolicy cannot be asked by the general engine; pass another policy")
        return search_in_general(
            simulator, roots, policy, evaluator or RandomRollout(settings.discount, 10_000), settings, rng, progress
        )
    rng = np.random.default_rng(0) if rng is None else rng
    generators = [rng] * len(roots) if isinstance(rng, np.random.Generator) else list(rng)
    if len(generators) != len(roots):
        raise ValueError(f"{len(generators)} generators for {len(roots)} roots; pass one generator, or one a root")
    rules: CompiledRules = simulator.rules  # type: ignore[attr-defined]
    trees = []
    for index, (root, generator) in enumerate(zip(roots, generators, strict=True)):
        if simulator.current_player(root.state) < 0:
            raise ValueError(f"root {index} is terminal; a search starts where a player is to move")
        tree = CompiledTree(simulator, rules, root.state, settings, 0, root.task, index)
        if settings.selection == "gumbel":
            count = len(simulator.legal_actions(root.state) or ())
            tree.gumbel = gumbel_draws(generator, count, settings.gumbel_scale)
        tree.random = int(generator.integers(1 << 62))
        trees.append(tree)
    return _grow(trees, policy, evaluator, settings, progress, workers)


def extend(
    trees: list[CompiledTree],
    policy: KernelPolicy | Policy | None = None,
    evaluator: Evaluator | None = None,
    settings: SearchSettings | None = None,
    progress: Progress | None = None,
    *,
    workers: int = 1,
) -> list[CompiledTree]:
    """Go on with trees until each has had ``settings.simulations`` simulations, earlier ones included; returns them.
    ``settings``: None for each tree's own."""
    if not trees:
        return trees
    settings = settings or trees[0].settings
    reason = why_not_compiled(trees[0].simulator, policy, evaluator, settings)
    if reason:
        raise ValueError(f"{reason}; a compiled tree goes on with what is compiled")
    for tree in trees:
        if len(tree) > 1 and tree.settings.selection != settings.selection:
            raise ValueError(f"tree {tree.index} was grown with selection={tree.settings.selection!r}; go on with that")
        tree.settings = settings
    return _grow(trees, policy, evaluator, settings, progress, workers)


def _grow(
    trees: list[CompiledTree],
    policy: KernelPolicy | Policy | None,
    evaluator: Evaluator | None,
    settings: SearchSettings,
    progress: Progress | None,
    workers: int,
) -> list[CompiledTree]:
    if settings.simulations > MOST_SIMULATIONS:
        raise ValueError(f"simulations={settings.simulations}; a compiled tree holds at most 2²⁴")
    if not trees:
        return trees
    kernel = evaluator.kernel if isinstance(evaluator, KernelEvaluator) else trees[0].rules.rollout
    prior = policy.kernel if isinstance(policy, KernelPolicy) else None
    run = _Run(trees, settings, kernel, prior, progress)
    if workers == 1 or len(trees) == 1:
        for tree in trees:
            run.grow(tree)
    else:
        with ThreadPoolExecutor(workers) as threads:
            list(threads.map(run.grow, trees))
    return trees


def why_not_compiled(
    simulator: Simulator[Any],
    policy: "Policy | KernelPolicy | None",
    evaluator: Evaluator | None,
    settings: SearchSettings,
) -> str:
    """What of a search is not compiled, in words; empty where all is."""
    rules = getattr(simulator, "rules", None)
    if not isinstance(rules, CompiledRules):
        return f"{type(simulator).__name__} has no compiled rules"
    if policy is not None and not isinstance(policy, KernelPolicy):
        return f"{type(policy).__name__} is asked in Python"
    if isinstance(evaluator, RandomRollout):
        if evaluator.keep_successes or evaluator.discount != 1.0 or evaluator.max_steps < rules.max_depth:
            return "compiled roll-outs play to the end, without a discount, and keep no transcripts"
    elif evaluator is not None and not isinstance(evaluator, KernelEvaluator):
        return f"{type(evaluator).__name__} is asked in Python"
    if evaluator is None and settings.discount != 1.0:
        return "compiled roll-outs play without a discount"
    return _why_not_settings(settings)


class SearchingPlayer:
    """An opponent (``envs.opponents``) that plays by compiled UCT with MCTS-Solver and random roll-outs, from an empty
    tree each move."""

    def __init__(self, simulations: int = 1_000, exploration: float = 2.0**0.5) -> None:
        self.settings = SearchSettings(
            simulations=simulations, selection="uct", exploration=exploration, random_ties=True
        )

    def __call__(self, simulator: Simulator[Any], state: Any, rng: np.random.Generator) -> str:
        [tree] = search(simulator, [Root(state)], settings=self.settings, rng=rng)
        return tree.best_action()


class _Run:
    """One call of :func:`extend`: what its trees share."""

    def __init__(
        self, trees: list[CompiledTree], settings: SearchSettings, kernel: Any, prior: Any, progress: Progress | None
    ) -> None:
        self.settings = settings
        self.kernel = kernel
        self.prior = prior
        self.progress = progress
        self.simulations = 0
        self.nodes = {tree.index: len(tree) for tree in trees}
        self.deadline = None if settings.seconds is None else time.monotonic() + settings.seconds
        limits = [settings.max_nodes or MOST_SIMULATIONS * 255]
        if settings.max_bytes is not None:
            limits.append(max(1, settings.max_bytes // COMPILED_NODE.itemsize // len(trees)))
        self.most_nodes = min(limits)
        self.memory_limit = "max_nodes" if self.most_nodes == settings.max_nodes else "max_bytes"
        self.lock = Lock()

    def grow(self, tree: CompiledTree) -> None:
        """Grow one tree to its simulations, or to a limit."""
        most = tree.rules.max_actions
        grow = self._loop(tree)
        root = tree.rules.encode(tree.state)
        left = self.settings.simulations - tree.simulations
        size = len(tree)
        capacity = min(size + 2 * left + 64 * most, size + _FIRST_CAPACITY, self.most_nodes)
        nodes = np.zeros(max(capacity, size), COMPILED_NODE)
        _copy(tree.nodes, nodes)
        tree.stopped = ""
        while left > 0 and not tree.stopped:
            size, tree.random, done = grow(nodes, size, root, tree.random, min(left, _CHUNK))
            left -= done
            tree.simulations += done
            if size + most > len(nodes):
                if len(nodes) >= self.most_nodes:
                    tree.stopped = self.memory_limit
                larger = np.zeros(min(2 * len(nodes), self.most_nodes), COMPILED_NODE)
                _copy(nodes, larger)
                nodes = larger
            elif done == 0:
                tree.stopped = "solved"
            if self.deadline is not None and time.monotonic() >= self.deadline:
                tree.stopped = "seconds"
            tree.nodes = nodes[:size]
            self._tell(tree, done)
        if 2 * size < len(nodes):
            tree.nodes = np.zeros(size, COMPILED_NODE)
            _copy(nodes[:size], tree.nodes)

    def _loop(self, tree: CompiledTree) -> Callable[..., tuple[int, int, int]]:
        """The compiled loop of a tree: ``(nodes, size, root, random, simulations)``, the rest given."""
        settings, rules = self.settings, tree.rules
        depth = min(settings.max_depth, rules.max_depth)
        given = _given(settings, depth)
        walk = np.zeros(depth + 1, STEP)
        choices = np.zeros(rules.max_actions, CHOICE)
        if settings.selection == "gumbel":
            compiled = built(compiled_gumbel, "grow", rules, self.kernel, self.prior, _GUMBEL)
            count = len(tree.gumbel)
            considered = considered_visits(min(settings.considered, count), max(settings.simulations - 1, 1))
            drawn = np.zeros(count)
            return lambda *own: compiled(*own, given, tree.gumbel, drawn, considered, walk, choices)
        compiled = built(compiled_loop, "grow", rules, self.kernel, self.prior, _fixed(settings))
        scales = _scales(settings.selection, settings.exploration, settings.exploration_base)
        return lambda *own: compiled(*own, given, scales, walk, choices)

    def _tell(self, tree: CompiledTree, done: int) -> None:
        with self.lock:
            self.simulations += done
            self.nodes[tree.index] = len(tree)
            if self.progress is not None:
                self.progress(self.simulations, sum(self.nodes.values()), 0)


def _copy(source: np.ndarray, target: np.ndarray) -> None:
    """The records of ``source`` to the front of ``target``, as bytes: numpy takes records apart."""
    target[: len(source)].view(np.uint8)[:] = source.view(np.uint8)


@lru_cache(maxsize=64)
def _given(settings: SearchSettings, depth: int) -> np.ndarray:
    given = np.zeros(1, RULES)
    for name in RULES.names or ():
        given[name] = getattr(settings, name)
    given["max_depth"] = depth
    return given


@lru_cache(maxsize=64)
def _fixed(settings: SearchSettings) -> tuple[tuple[str, int], ...]:
    """What the settings fix at compile time (``compiled_loop.py``)."""
    each_once = settings.selection == "uct" or settings.unvisited_value == "infinite"
    return (
        ("WEIGHT", _WEIGHTS[settings.selection]),
        ("UNVISITED", UNVISITED_FIRST if each_once else _UNVISITED[settings.unvisited_value]),
        ("ALPHAZERO", settings.selection == "alphazero"),
        ("RANDOM_TIES", settings.random_ties),
        ("SOLVE", settings.solve),
    )


@lru_cache(maxsize=64)
def _scales(selection: str, exploration: float, base: float) -> np.ndarray:
    """Room in which the loop remembers c(N) from one search to the next; zero where it has not been asked."""
    return np.zeros(_REMEMBERED_SCALES, np.float32)


@lru_cache(maxsize=64)
def _why_not_settings(settings: SearchSettings) -> str:
    if settings.selection not in (*_WEIGHTS, "gumbel"):
        return f"selection={settings.selection!r} is not compiled"
    if settings.selection != "gumbel" and settings.unvisited_value not in _UNVISITED:
        return f"unvisited_value={settings.unvisited_value!r} is not compiled"
    plain = SearchSettings()
    for name in _NOT_COMPILED:
        value = getattr(settings, name)
        if value != getattr(plain, name):
            return f"{name}={value!r} is not compiled"
    return ""
