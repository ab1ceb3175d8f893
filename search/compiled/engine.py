"""Search for games whose rules are numba kernels: the settings of the general engine, the whole loop compiled.

A simulator with ``rules`` (:class:`~branchwise.envs.games.kernels.CompiledRules`) is searched here in a fraction of a
microsecond a simulation beside the roll-out itself (``benchmarks/search.py``), with leaves valued by random roll-outs
or by a kernel of one's own. Compiled are the rules ``uct``, ``ucb1``, ``puct``, ``alphazero`` and ``gumbel``, the mean
backup, discounts, MCTS-Solver, ties, limits of time and memory; :func:`why_not_compiled` says what is not. Everything
else goes to ``engine.search``, which grows the same tree from the same values of leaves. (Its roll-outs draw other
random numbers, its ties other ones too.)

The first search of a game compiles for some seconds, says so, and keeps the result on disk (``build.py``).
Kernels release Python's lock: ``workers`` threads search several trees at once, and several trees of one root together
are root parallelisation (``tree.merged``).

Not here: policies, evaluators that are asked in Python, chance nodes, hidden information. A tree is limited to 2²⁴
simulations, the largest count that float32 holds.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Lock
from typing import Any, Final

import numpy as np

from ...envs.games.kernels import CompiledRules
from ...envs.play.policy import Policy, PolicyFunction
from ...envs.simulator import Simulator
from ..border import check_simulator_methods, checked_settings, generators
from ..engine import Progress, Root, SearchStopped, checked_roots
from ..engine import search as search_in_general
from ..evaluation import Evaluator, Leaf, LeafFunction, RandomRollout
from ..rules.gumbel import gumbel_draws, not_planned, why_not_planned
from ..rules.options import Gumbel, Uct, numbers_of
from ..settings import SearchSettings
from ..trees.stepping import Refused
from ..trees.tree import Tree
from . import gumbel as gumbel_loop
from . import loop as plain_loop
from .build import built
from .loop import (
    COMPILED_NODE,
    RULES,
    SOLVED,
    STEP,
    UNPROVABLE,
    UNVISITED_CONSTANT,
    UNVISITED_FIRST,
    UNVISITED_PARENT,
    UNVISITED_REDUCED,
    UNVISITED_ZERO,
    WEIGHT_PUCT,
    WEIGHT_UCB1,
    WEIGHT_UCT,
)
from .tree import CompiledTree

MOST_SIMULATIONS: Final = 1 << 24
MOST_NODES: Final = (1 << 31) - 1
_CHUNK: Final = 1 << 14  # simulations between two looks at the clock, and what Ctrl-C waits for
_FIRST_CAPACITY: Final = 1 << 18
_REMEMBERED_SCALES: Final = 1 << 14
_WEIGHTS: Final = {"uct": WEIGHT_UCT, "ucb1": WEIGHT_UCB1, "puct": WEIGHT_PUCT, "alphazero": WEIGHT_PUCT}
_UNVISITED: Final = {
    "zero": UNVISITED_ZERO,
    "parent": UNVISITED_PARENT,
    "infinite": UNVISITED_FIRST,
    "reduced": UNVISITED_REDUCED,
    "constant": UNVISITED_CONSTANT,
}
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
model and whose games never come back to a position; for two of them see :func:`_why_not`."""


class KernelEvaluator(Evaluator):
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


def search(
    simulator: Simulator[Any],
    roots: Sequence[Root],
    policy: Policy | PolicyFunction | None = None,
    evaluator: Evaluator | LeafFunction | None = None,
    settings: SearchSettings | None = None,
    rng: np.random.Generator | Sequence[np.random.Generator] | int | None = None,
    progress: Progress | None = None,
    *,
    workers: int = 1,
) -> "list[CompiledTree] | list[Tree]":
    """Grow one tree from each root: all of them :class:`CompiledTree`, or all ``Tree`` where something is not compiled.

    ``policy``: None for equal priors. ``evaluator``: None for random roll-outs to the end of the game. ``rng``: one
    generator, of which each tree takes a number (and its Gumbel draws) in turn, one generator a root, or a seed;
    default 0. ``workers``: threads that search trees side by side. ``settings.seconds``, ``max_nodes`` and
    ``max_bytes`` are looked at every 16,384 simulations of a tree, nodes and bytes also where memory has to grow.
    Raises ValueError for a root where no player is to move, and for more than 2²⁴ simulations; TypeError for arguments
    of another type; SearchStopped where a kernel gave no number.
    """
    settings = checked_settings(settings)
    check_simulator_methods(simulator)
    reason = why_not_compiled(simulator, policy, evaluator, settings)
    if reason:
        return search_in_general(
            simulator,
            roots,
            policy,
            evaluator or RandomRollout(max_steps=10_000),
            settings,
            rng,
            progress,
        )
    roots, given = checked_roots(simulator, roots), generators(rng)
    rngs = [given] * len(roots) if isinstance(given, np.random.Generator) else given
    if len(rngs) != len(roots):
        raise ValueError(f"{len(rngs)} generators for {len(roots)} roots; pass one generator, or one a root")
    rules: CompiledRules = simulator.rules  # type: ignore[attr-defined]
    trees = []
    for index, (root, generator) in enumerate(zip(roots, rngs, strict=True)):
        tree = CompiledTree(simulator, rules, root.state, settings, 0, root.task, index)
        if isinstance(settings.rule, Gumbel):
            count = len(simulator.legal_actions(root.state) or ())
            tree.gumbel = gumbel_draws(generator, count, settings.rule.gumbel_scale)
        tree.random = int(generator.integers(1 << 62))
        trees.append(tree)
    return _grow(trees, evaluator, settings, progress, workers)


def extend(
    trees: list[CompiledTree],
    evaluator: Evaluator | None = None,
    settings: SearchSettings | None = None,
    progress: Progress | None = None,
    *,
    workers: int = 1,
) -> list[CompiledTree]:
    """Go on with trees of one game until each has had ``settings.simulations`` simulations, earlier ones included;
    returns them. ``settings``: None for the trees' own.

    A tree that was extended equals one that was searched in one go. Under ``gumbel``, whose plan depends on
    ``simulations``, a tree can be resumed to the number that it was planned for, and not be extended beyond
    (ValueError), nor after ``CompiledTree.reroot``.
    """
    if not trees:
        return trees
    if settings is None:
        settings = trees[0].settings
        if any(tree.settings != settings for tree in trees):
            raise ValueError("the trees were searched with different settings; pass those to go on with")
    settings = checked_settings(settings)
    reason = why_not_compiled(trees[0].simulator, None, evaluator, settings)
    if reason:
        raise ValueError(f"{reason}; a compiled tree goes on with what is compiled")
    for tree in trees:
        if tree.rules.name != trees[0].rules.name:
            raise ValueError(
                f"trees of {trees[0].rules.name} and of {tree.rules.name}; extend those of one game together"
            )
        if len(tree) > 1 and tree.settings.rule.name != settings.rule.name:
            raise ValueError(f"tree {tree.index} was grown with selection={tree.settings.rule.name!r}; go on with that")
        for name in ("discount", "solve", "unvisited_value"):
            before = getattr(tree.settings, name)
            if len(tree) > 1 and before != getattr(settings, name):
                raise ValueError(f"tree {tree.index} was grown with {name}={before!r}; go on with that")
        _check_plan(tree, settings)
    for tree in trees:
        if tree.simulations < settings.simulations:
            tree.settings = settings
    return _grow(trees, evaluator, settings, progress, workers)


def _check_plan(tree: CompiledTree, settings: SearchSettings) -> None:
    """Raise ValueError where the rule ``gumbel`` cannot go on with a tree to ``settings.simulations``."""
    rule = settings.rule
    if not isinstance(rule, Gumbel) or tree.simulations >= settings.simulations:
        return
    children = tree.children(0)
    visits, prior = tree.nodes["visits"][children.start : children.stop], np.ones(len(children))
    is_drawn = len(tree.gumbel) > 0
    reason = why_not_planned(visits, prior, is_drawn, tree.gumbel_plan(), rule.considered, settings.simulations)
    if not is_drawn and not reason:
        reason = "it has no draws for its root"
    if reason:
        raise ValueError(not_planned(tree.index, settings.simulations, reason))


def _grow(
    trees: list[CompiledTree],
    evaluator: Any,
    settings: SearchSettings,
    progress: Progress | None,
    workers: int,
) -> list[CompiledTree]:
    if settings.simulations > MOST_SIMULATIONS:
        raise ValueError(f"simulations={settings.simulations}; a compiled tree holds at most 2²⁴")
    if not trees:
        return trees
    kernel = evaluator.kernel if isinstance(evaluator, KernelEvaluator) else trees[0].rules.rollout
    run = _Run(trees, settings, kernel, progress)
    if workers == 1 or len(trees) == 1:
        for tree in trees:
            run.grow(tree)
    else:
        with ThreadPoolExecutor(workers) as threads:
            list(threads.map(run.grow, trees))
    return trees


def why_not_compiled(
    simulator: Simulator[Any],
    policy: Policy | PolicyFunction | None,
    evaluator: Evaluator | LeafFunction | None,
    settings: SearchSettings,
) -> str:
    """What of a search is not compiled, in words; empty where all is."""
    rules = getattr(simulator, "rules", None)
    if not isinstance(rules, CompiledRules):
        return f"{type(simulator).__name__} has no compiled rules"
    if policy is not None:
        return f"{type(policy).__name__} is asked in Python"
    if evaluator is None:
        if settings.discount != 1.0:
            return "compiled roll-outs play without a discount"
    elif isinstance(evaluator, RandomRollout):
        discount = settings.discount if evaluator.discount is None else evaluator.discount
        if evaluator.keep_successes or discount != 1.0 or evaluator.max_steps < rules.max_depth:
            return "compiled roll-outs play to the end, without a discount, and keep no transcripts"
    elif not isinstance(evaluator, KernelEvaluator):
        return f"{type(evaluator).__name__} is asked in Python"
    return _plan(settings).reason


class SearchingPlayer:
    """An opponent (``envs.opponents``) that plays by compiled UCT with MCTS-Solver and random roll-outs, from an empty
    tree each move."""

    def __init__(self, simulations: int = 1_000, exploration: float = 2.0**0.5) -> None:
        self.settings = SearchSettings(simulations=simulations, selection=Uct(exploration), random_ties=True)

    def __call__(self, simulator: Simulator[Any], state: Any, rng: np.random.Generator) -> str:
        [tree] = search(simulator, [Root(state)], settings=self.settings, rng=rng)
        return tree.best_action()


class _Plan:
    """What settings come to: ``reason`` (what of them is not compiled), and the compiled loops, by game and kernels."""

    def __init__(self, settings: SearchSettings) -> None:
        self.settings = settings
        self.reason = _why_not(settings)
        self.loops: dict[tuple[CompiledRules, Any], tuple[Any, np.ndarray]] = {}
        self.scales = np.zeros(_REMEMBERED_SCALES, np.float32)  # the loop writes there what it has computed
        first_play = "infinite" if settings.rule.name == "uct" else settings.unvisited_value
        self.fixed = {
            "WEIGHT": _WEIGHTS.get(settings.rule.name, WEIGHT_PUCT),
            "UNVISITED": _UNVISITED.get(first_play, UNVISITED_ZERO),
            "ALPHAZERO": settings.rule.name == "alphazero",
            "RANDOM_TIES": settings.random_ties,
        }
        if settings.rule.name == "gumbel":
            self.fixed = {"WEIGHT": WEIGHT_PUCT, "UNVISITED": UNVISITED_ZERO}

    def loop(self, rules: CompiledRules, kernel: Any) -> tuple[Any, np.ndarray]:
        """The compiled loop of a game, and the settings as it reads them."""
        known = self.loops.get((rules, kernel))
        if known is None:
            module = gumbel_loop if self.settings.rule.name == "gumbel" else plain_loop
            given = np.zeros(1, RULES)
            options = numbers_of(self.settings.rule)
            for name in RULES.names or ():
                given[name] = options[name] if name in options else getattr(self.settings, name)
            given["max_depth"] = min(self.settings.max_depth, rules.max_depth)
            fixed = dict(self.fixed)
            if module is plain_loop:
                fixed["SOLVE"] = self.settings.proves if rules.players == 2 else self.settings.solve
            known = built(module, "grow", rules, kernel, tuple(fixed.items())), given
            self.loops[rules, kernel] = known
        return known


class _Run:
    """One call of :func:`extend`: what its trees share."""

    def __init__(
        self,
        trees: list[CompiledTree],
        settings: SearchSettings,
        kernel: Any,
        progress: Progress | None,
    ) -> None:
        self.settings = settings
        self.plan = _plan(settings)
        self.compiled, self.given = self.plan.loop(trees[0].rules, kernel)
        self.deadline = None if settings.seconds is None else time.monotonic() + settings.seconds
        self.most_nodes = settings.max_nodes or MOST_NODES
        self.memory_limit = "max_nodes"
        if settings.max_bytes is not None:
            fitting = max(1, settings.max_bytes // COMPILED_NODE.itemsize // len(trees))
            if fitting < self.most_nodes:
                self.most_nodes, self.memory_limit = fitting, "max_bytes"
        self.own_values = kernel is not trees[0].rules.rollout
        self.told = None if progress is None else _Told(progress, trees)

    def grow(self, tree: CompiledTree) -> None:
        """Grow one tree to its simulations, or to a limit."""
        rules = tree.rules
        most = rules.max_actions
        root = rules.encode(tree.state)
        given = self._given(tree)
        left = self.settings.simulations - tree.simulations
        size = len(tree.nodes)
        capacity = min(size + 2 * left + 64 * most, size + _FIRST_CAPACITY, self.most_nodes)
        nodes = np.zeros(max(capacity, size), COMPILED_NODE)
        if tree.simulations:
            _copy(tree.nodes, nodes)
        tree.stopped = ""
        while left > 0 and not tree.stopped:
            before = size
            size, tree.random, done = self.compiled(nodes, size, root, tree.random, min(left, _CHUNK), *given)
            left -= done
            tree.simulations += done
            tree.nodes = nodes[:size]
            if nodes[0]["flags"] & UNPROVABLE:
                raise Refused(
                    f"solve=True proves wins, draws and losses, and {rules.name} pays other numbers than 1, 0 and -1 in"
                    " the end, or some before it; set solve=False"
                )
            if done == 0 and nodes[0]["flags"] & SOLVED:
                tree.stopped = "solved"
            elif size + most > len(nodes) >= self.most_nodes:
                tree.stopped = self.memory_limit
            elif size + most > len(nodes):
                larger = np.zeros(min(2 * len(nodes), self.most_nodes), COMPILED_NODE)
                _copy(nodes, larger)
                nodes = larger
            if self.deadline is not None and time.monotonic() >= self.deadline:
                tree.stopped = "seconds"
            if self.told is not None:
                self.told.add(tree, done)
            self.check_finite(tree, nodes[:1])  # a chunk looks at the root and at what it added, the end at everything
            self.check_finite(tree, nodes[before:size])
        self.check_finite(tree, nodes[:size])
        if 2 * size < len(nodes):
            tree.nodes = np.zeros(size, COMPILED_NODE)
            _copy(nodes[:size], tree.nodes)

    def check_finite(self, tree: CompiledTree, nodes: np.ndarray) -> None:
        """Raise SearchStopped where what a caller's kernel gave made one of these nodes' sums no number."""
        if self.own_values and not np.isfinite(nodes["value_sum"]).all():
            raise SearchStopped(
                f"the kernel of a KernelEvaluator gave {tree.rules.name} NaN, infinity, or values whose sum is beyond"
                " what float32 holds (3.4e38)",
                [tree],
            )

    def _given(self, tree: CompiledTree) -> tuple[np.ndarray, ...]:
        """The arguments of the compiled loop that do not change while a tree grows."""
        walk = np.zeros(tree.rules.max_depth + 1, STEP)  # a tree may be deeper than this search's max_depth
        actions = np.zeros(tree.rules.max_actions, np.int64)
        if self.settings.rule.name != "gumbel":
            return self.given, self.plan.scales, walk, actions
        return self.given, tree.gumbel, tree.gumbel_plan(), walk, actions, np.zeros(tree.rules.max_actions)


class _Told:
    """Tells the progress of all trees together, from whichever thread."""

    def __init__(self, progress: Progress, trees: list[CompiledTree]) -> None:
        self.progress = progress
        self.simulations = 0
        self.nodes = {id(tree): len(tree) for tree in trees}
        self.lock = Lock()

    def add(self, tree: CompiledTree, done: int) -> None:
        with self.lock:
            self.simulations += done
            self.nodes[id(tree)] = len(tree)
            self.progress(self.simulations, sum(self.nodes.values()), 0)


def _copy(source: np.ndarray, target: np.ndarray) -> None:
    """The records of ``source`` to the front of ``target``, as bytes: numpy takes records apart."""
    target[: len(source)].view(np.uint8)[:] = source.view(np.uint8)


@lru_cache(maxsize=64)
def _plan(settings: SearchSettings) -> _Plan:
    return _Plan(settings)


def _why_not(settings: SearchSettings) -> str:
    """What of the settings is not compiled, in words; empty where all is."""
    if settings.rule.name not in (*_WEIGHTS, "gumbel"):
        return f"selection={settings.rule.name!r} is not compiled"
    if settings.unvisited_value and settings.unvisited_value not in _UNVISITED:
        return f"unvisited_value={settings.unvisited_value!r} is not compiled"
    if settings.rule.name == "ucb1" and settings.unvisited_value == "reduced":
        return "unvisited_value='reduced' under selection='ucb1', which keeps no priors, is not compiled"
    plain = SearchSettings()
    for name in _NOT_COMPILED:
        value = getattr(settings, name)
        if value != getattr(plain, name):
            return f"{name}={value!r} is not compiled"
    return ""
