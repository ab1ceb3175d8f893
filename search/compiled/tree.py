"""The tree that a compiled search leaves: 24 bytes a node, read with the words of ``Tree``.

Nodes hold no states and no texts: both follow from the root and the actions, and are made when they are asked for.
Node 0 is the root, the children of a node lie side by side, and the value of a node is the mean return of the action
into it for the player who chose it (of the root: for the player to move there), as in ``trees/tree.py``. A node that
was visited once has no children yet.

Not here: saving, extraction and pictures (:meth:`CompiledTree.to_tree` makes a ``Tree`` for ``store``, ``extraction``
and ``graph``).
"""

from copy import copy
from typing import Any, Final

import numpy as np
from numba import njit

from ...envs.games.compiling import forget_outdated
from ...envs.games.kernels import CompiledRules
from ...envs.simulator import Simulator
from ..engine import is_zero_sum
from ..rules.backup import DRAW, LOSS, UNPROVEN, WIN
from ..rules.gumbel import halving_plan, root_answer
from ..rules.options import numbers_of
from ..rules.targets import FinalRule, best_of, visit_shares
from ..settings import SearchSettings
from ..trees.nodes import ENDED, EXPANDED, NODE, VALUED
from ..trees.nodes import SOLVED as TREE_SOLVED
from ..trees.tree import Tree
from .loop import COMPILED_NODE, OVER, PROOF, PROVEN_DRAW, PROVEN_LOSS, PROVEN_WIN, SOLVED

_NAMES: Final = {0: "", PROVEN_LOSS: "loss", PROVEN_DRAW: "draw", PROVEN_WIN: "win"}
_VALUES: Final = {PROVEN_LOSS: -1.0, PROVEN_DRAW: 0.0, PROVEN_WIN: 1.0}
_KNOWN: Final = np.array([np.nan, -np.inf, 0.0, np.inf])
_PROOFS: Final = np.array([UNPROVEN, LOSS, DRAW, WIN], np.uint8)


class CompiledTree:
    """One tree of a compiled search.

    ``state`` is the root's, of ``simulator``; ``settings`` those of the last search; ``simulations`` how many were
    done; ``random`` the state of the tree's random numbers; ``nodes`` the records (``loop.COMPILED_NODE``).
    Picklable; a copy goes on as the original would (``compiled.extend``).
    """

    def __init__(
        self,
        simulator: Simulator[Any],
        rules: CompiledRules,
        state: Any,
        settings: SearchSettings,
        random: int,
        task: dict[str, Any] | None = None,
        index: int = 0,
    ) -> None:
        self.simulator = simulator
        self.rules = rules
        self.state = state
        self.settings = settings
        self.random = random
        self.task: dict[str, Any] = {} if task is None else task
        self.index = index
        self.simulations = 0
        self.stopped = ""
        self.nodes = np.zeros(1, COMPILED_NODE)
        self.gumbel = np.zeros(0)

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        return f"CompiledTree({self.rules.name}, nodes={len(self)}, visits={self.visits(0)}, task={self.task})"

    def __getstate__(self) -> dict[str, Any]:
        """Without the rules, whose compiled functions belong to the process; the simulator has them."""
        return {name: value for name, value in vars(self).items() if name != "rules"}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        vars(self).update(kept)
        self.rules = self.simulator.rules  # type: ignore[attr-defined]

    # ---- reading ----------------------------------------------------------------------------------------------

    def children(self, node: int = 0) -> range:
        """The indices of a node's children."""
        first = int(self.nodes[node]["first_child"])
        return range(first, first + int(self.nodes[node]["children"]))

    def action(self, node: int) -> str:
        """The text of the action into a node; empty for the root."""
        return self.rules.action_text(int(self.nodes[node]["action"])) if node else ""

    def visits(self, node: int = 0) -> int:
        return int(self.nodes[node]["visits"])

    def value(self, node: int = 0) -> float:
        """What the action into the node returns, the root's state for node 0: what is proven, where something is,
        else :meth:`mean`; NaN without a visit."""
        flags = int(self.nodes[node]["flags"])
        if flags & PROOF and self.visits(node) and not flags & OVER:
            return _VALUES[flags & PROOF]
        return self.mean(node)

    def mean(self, node: int = 0) -> float:
        """As :meth:`value`, but the mean return that simulations found, whatever is proven. Of one player, that of a
        solved node is what it is known to return."""
        record = self.nodes[node]
        if not record["visits"]:
            return float("nan")
        if self.settings.rule.name == "gumbel":
            return float(record["value"])
        return float(record["value_sum"]) / int(record["visits"])

    def proof(self, node: int = 0) -> str:
        """``win``, ``draw`` or ``loss``, as proven for the player whose :meth:`value` it is; empty where it is not."""
        return _NAMES[int(self.nodes[node]["flags"]) & PROOF]

    def is_terminal(self, node: int) -> bool:
        """Whether the game is over there, as far as a visit has shown."""
        return bool(int(self.nodes[node]["flags"]) & OVER)

    def is_solved(self, node: int = 0) -> bool:
        return bool(int(self.nodes[node]["flags"]) & SOLVED)

    def best_child(self, node: int = 0, final: FinalRule | None = None) -> int:
        """The child to play, as ``Tree.best_child``: by default as the search was set, what is proven first. −1 where
        there is none."""
        if final is None:
            if node == 0 and len(self.gumbel) and self.children(0):
                return self.children(0)[self._gumbel_answer()[0]]
            final = self.settings.final
        if final not in ("visits", "value"):
            raise ValueError(f"final is {final!r}; expected 'visits' or 'value'")
        children = self.children(node)
        best = best_of(*self._child_numbers(node), np.ones(len(children)), final)
        return children[best] if best >= 0 else -1

    def _child_numbers(self, node: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What :mod:`targets` reads of a node's children: known returns, visits and values, float64 ``[children]``."""
        return self.known_returns(node), self._of(self.children(node), "visits"), self._child_values(node)

    def known_returns(self, node: int = 0) -> np.ndarray:
        """What each solved child of a node is known to return to who moves, as ``targets.playable`` takes it: float64
        ``[children]``, NaN for an open one."""
        children = self.children(node)
        flags = self.nodes["flags"][children.start : children.stop]
        known = self._child_values(node) if self.rules.players == 1 else _KNOWN[flags & PROOF]
        return np.where(flags & SOLVED, known, np.nan)

    def _child_values(self, node: int) -> np.ndarray:
        return np.array([self.value(child) for child in self.children(node)], np.float64)

    def best_action(self, final: FinalRule | None = None) -> str:
        """The action to play at the root (:meth:`best_child`). Raises ValueError before the second simulation."""
        child = self.best_child(0, final)
        if child < 0:
            raise ValueError("the root has no children; search with at least two simulations")
        return self.action(child)

    def policy_target(self, node: int = 0) -> tuple[list[str], np.ndarray]:
        """The actions of a node and the share of visits that each got, nothing for an action that what is proven rules
        out (``rules/targets.py``); after ``gumbel`` the improved policy: float64 ``[children]``, sum 1. Where none was
        visited the shares are equal."""
        children = self.children(node)
        actions = [self.action(child) for child in children]
        visits = self._of(children, "visits")
        if visits.any() and self.settings.rule.name == "gumbel":
            return actions, self._gumbel_answer(node)[1]
        known, _, values = self._child_numbers(node)
        return actions, visit_shares(visits, values, np.ones(len(children)), known, self.settings.final)

    def principal_variation(self, final: FinalRule | None = None) -> list[str]:
        """The best action, the best answer to it, and so on, as far as children were visited."""
        actions = []
        node = self.best_child(0, final)
        while node >= 0 and self.visits(node):
            actions.append(self.action(node))
            node = self.best_child(node, final)
        return actions

    def root_table(self) -> dict[str, tuple[int, float]]:
        """Visits and value of each action at the root."""
        return {self.action(child): (self.visits(child), self.value(child)) for child in self.children(0)}

    # ---- changing ---------------------------------------------------------------------------------------------

    def reroot(self, action: str) -> None:
        """Become the tree below an action of the root; the rest of the memory is given back. Under ``gumbel`` the tree
        can then be read, and not be extended.

        Raises ValueError where that action was visited less than twice: search anew from there.
        """
        child = next((child for child in self.children(0) if self.action(child) == action), -1)
        if child < 0 or not self.nodes[child]["children"]:
            raise ValueError(f"nothing was searched below {action!r}; search anew from the state after it")
        before = self.simulator.current_player(self.state)
        state = self.simulator.step(self.state, action)
        value = self.mean(child)
        reward = float(self.simulator.rewards(state)[before])
        self.nodes = _subtree(self.nodes, child)
        root = self.nodes[0]
        if self.settings.discount:
            value = (value - reward) / self.settings.discount
        value = -value if self.rules.players == 2 else value
        if self.settings.rule.name != "gumbel":
            root["value_sum"] = value * int(root["visits"])
        if np.isfinite(root["value"]):
            root["value"] = value
        proof = int(root["flags"]) & PROOF
        if proof and self.rules.players == 2:
            root["flags"] = int(root["flags"]) & ~PROOF | (4 - proof)
        root["action"] = 0
        self.state = state
        self.simulations = int(root["visits"])
        self.gumbel = np.zeros(0)
        self.stopped = ""

    def pruned(self, visits: int) -> "CompiledTree":
        """A copy without what is below nodes with fewer than ``visits`` visits: the root, its children, and the
        children of each other node that was visited as often. The numbers of what is left stay as they are."""
        kept = copy(self)
        kept.nodes = _pruned(self.nodes, visits)
        return kept

    def to_tree(self) -> Tree:
        """The same tree as a ``Tree``, with the states and texts of all nodes."""
        tree = Tree(
            self.simulator,
            self.state,
            (),
            self.task,
            self.index,
            discount=self.settings.discount,
            players=self.simulator.players,
            zero_sum=is_zero_sum(self.simulator),
        )
        count = len(self)
        parents = np.full(count, -1, np.int32)
        for node in range(count):
            children = self.children(node)
            parents[children.start : children.stop] = node
        states = [self.state]
        for node in range(1, count):
            states.append(self.simulator.step(states[parents[node]], self.action(node)))
        movers = np.array([self.simulator.current_player(state) for state in states])
        choosers = np.where(parents >= 0, movers[parents], movers)
        source = self.nodes
        nodes = np.zeros(count, NODE)
        nodes["parent"], nodes["visits"], nodes["children"] = parents, source["visits"], source["children"]
        nodes["first_child"] = np.where(source["children"] > 0, source["first_child"], -1)
        nodes["flags"] = (
            np.where(source["children"] > 0, EXPANDED, 0)
            | np.where(movers < 0, ENDED | VALUED, 0)
            | np.where(source["flags"] & SOLVED != 0, TREE_SOLVED, 0)
        )
        nodes["value_sum"] = [
            self.mean(node) * self.visits(node) if self.visits(node) else 0.0 for node in range(count)
        ]
        for node in range(count):
            children = self.children(node)
            if children:
                nodes["prior"][children.start : children.stop] = 1.0 / len(children)
        nodes["prior"][0] = 1.0
        nodes["reward"] = [
            self.simulator.rewards(state)[max(chooser, 0)] if node else 0.0
            for node, (state, chooser) in enumerate(zip(states, choosers, strict=True))
        ]
        nodes["player"] = np.maximum(movers, 0)
        proofs = source["flags"] & PROOF  # for the chooser; a Tree has them for player 0
        nodes["proof"] = _PROOFS[np.where((proofs > 0) & (choosers == 1), 4 - proofs, proofs)]
        if self.settings.rule.name == "gumbel":
            nodes["hint"] = source["value_sum"]
        tree.restore(nodes, [self.action(node) for node in range(count)], [float("nan")] * count, {})
        tree.attach(self.simulator, states)
        tree.settings = self.settings.as_json()
        tree.counters["simulations"] = self.simulations
        if len(self.gumbel):
            drawn = {"gumbel": self.gumbel.tolist(), "considered": self.gumbel_plan().tolist()}
            tree.take_beside_nodes({**tree.beside_nodes(), **drawn})
        return tree

    def _of(self, children: range, name: str) -> np.ndarray:
        """A field of children: float64 ``[children]``."""
        return self.nodes[name][children.start : children.stop].astype(np.float64)

    def gumbel_plan(self) -> np.ndarray:
        """``gumbel.halving_plan`` of the root's children for a search by the tree's settings."""
        considered = numbers_of(self.settings.rule)["considered"]
        return halving_plan(np.ones(len(self.gumbel)), considered, self.settings.simulations)

    def _gumbel_answer(self, node: int = 0) -> tuple[int, np.ndarray]:
        """``gumbel.root_answer`` of a node; its choice is the root's alone."""
        numbers_of_rule, children = numbers_of(self.settings.rule), self.children(node)
        numbers = (self._of(children, name) for name in ("value", "visits", "factor"))
        draws = self.gumbel if node == 0 and len(self.gumbel) else np.zeros(len(children))
        options = (numbers_of_rule[name] for name in ("value_scale", "maxvisit_init", "rescale_values"))
        best, policy = root_answer(draws, *numbers, float(self.nodes[node]["value_sum"]), *options)
        return int(best), policy


def merged(trees: list[CompiledTree]) -> dict[str, tuple[int, float]]:
    """The root tables of several trees of one root as one: visits add up, values are averaged by visits, and what one
    tree has proven counts alone. The action with the most visits is root parallelisation's choice (Chaslot, Winands and
    van den Herik, 2008), where none is proven."""
    total: dict[str, tuple[int, float]] = {}
    for tree in trees:
        for action, (visits, value) in tree.root_table().items():
            before, mean = total.get(action, (0, 0.0))
            if visits:
                mean = (before * mean + visits * value) / (before + visits)
            total[action] = (before + visits, mean)
    for tree in trees:
        for child in tree.children(0):
            if tree.proof(child):
                total[tree.action(child)] = (total[tree.action(child)][0], tree.value(child))
    return total


@njit(cache=True)
def _pruned(nodes: np.ndarray, visits: int) -> np.ndarray:
    """The records that :meth:`CompiledTree.pruned` keeps, children side by side."""
    left = np.empty_like(nodes)
    left[0] = nodes[0]
    length = 1
    done = 0
    while done < length:
        record = left[done]
        count = record["children"]
        if count and (done == 0 or record["visits"] >= visits):
            first = record["first_child"]
            left[length : length + count] = nodes[first : first + count]
            left[done]["first_child"] = length
            length += count
        else:
            left[done]["children"] = 0
        done += 1
    return left[:length].copy()


@njit(cache=True)
def _subtree(nodes: np.ndarray, top: int) -> np.ndarray:
    """The records below ``top``, level by level, children side by side."""
    order = np.empty(nodes.shape[0], np.int64)
    order[0] = top
    length = 1
    done = 0
    while done < length:
        record = nodes[order[done]]
        done += 1
        for child in range(record.first_child, record.first_child + record.children):
            order[length] = child
            length += 1
    kept = nodes[order[:length]]
    first = 1
    for node in range(length):
        if kept[node].children > 0:
            kept[node].first_child = first
            first += kept[node].children
    return kept


forget_outdated(_subtree)  # before any kernel of this folder is read from disk
