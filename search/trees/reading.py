"""What can be read of a tree's numbers: who moves, visits, means, what is proven, and the numbers by which an action
is chosen and learned from (``rules/targets.py``).

Values are those of the player who chose the action (``nodes.py``). A linked node is read through its source.
Not here: texts, states and transcripts (``transcripts.py``), the line of play and tables (``search/answers.py``).
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from ...envs.simulator import CHANCE
from ..rules.backup import DRAW, LOSS, UNPROVEN, WIN, opposite_proof
from ..rules.gumbel import MAXVISIT_INIT, VALUE_SCALE
from ..rules.selection import rule_in
from .arrays import NodeArrays
from .ascent import _solved_return
from .nodes import ENDED, INFORMATION, LINKED, SETTINGS, SHARED, SOLVED, _path

_NAMES: Final = {LOSS: "loss", DRAW: "draw", UNPROVEN: "", WIN: "win"}
_WORTH: Final = np.array([-1.0, 0.0, np.nan, 1.0])  # by the codes of proofs
_OPPOSITE: Final = np.array([WIN, DRAW, UNPROVEN, LOSS], np.uint8)


class Reading(NodeArrays):
    """The arrays of a tree, as questions. ``zero_sum``: whether one player's return is the other's opposite."""

    zero_sum: bool
    discount: float
    settings: dict[str, Any]

    def settings_to_read(self) -> np.ndarray:
        """What the kernels need to know to read this tree, :data:`nodes.SETTINGS` ``[1]``: the numbers of ``gumbel`` by
        the settings, proofs wherever there can be some."""
        record = np.zeros(1, SETTINGS)
        record["discount"], record["zero_sum"], record["proofs"] = self.discount, self.zero_sum, self.zero_sum
        options = rule_in(self.settings)[1]
        for name, usual in (("value_scale", VALUE_SCALE), ("maxvisit_init", MAXVISIT_INIT), ("rescale_values", True)):
            record[name] = options.get(name, usual)
        return record

    def parent(self, node: int) -> int:
        """The parent's index; −1 for the root."""
        return int(self._nodes[node]["parent"])

    def children(self, node: int = 0) -> Sequence[int]:
        """The indices of a node's children, in the order of its actions; of a linked node, those of its source."""
        record = self._nodes[self.source(node)]
        first = int(record["first_child"])
        return range(first, first + int(record["children"]))

    def source(self, node: int) -> int:
        """The node that holds the state of a linked node; any other node is its own source."""
        record = self._nodes[node]
        return int(record["first_child"]) if int(record["flags"]) & LINKED else node

    def player(self, node: int = 0) -> int:
        """Who moves at a node (``envs.simulator``: CHANCE is −1); 0 at terminals."""
        return int(self._nodes[node]["player"])

    def chooser(self, node: int) -> int:
        """The player for whom :meth:`value` of the node counts: who took the action into it; at the root, and at an
        information set, who moves."""
        parent = self.parent(node)
        if self.has(node, INFORMATION):
            return self.player(node)
        return max(self.player(node if parent < 0 else parent), 0)

    def depth(self, node: int) -> int:
        """Steps from the root to ``node``."""
        return len(_path(self._nodes, node)) - 1

    def path(self, node: int) -> list[int]:
        """Node indices from the root to ``node``, both included."""
        return _path(self._nodes, node).tolist()

    def path_return(self, node: int) -> float:
        """The undiscounted sum of the rewards from the root to ``node`` of the player who moves at the root. Raises
        ValueError where the rewards of other players' steps are not kept (information sets)."""
        player, steps = self.chooser(0), self.path(node)[1:]
        if self._values.shape[1]:
            return float(self._values[steps, self.players + player].sum())
        if self.players > 1 and not self.zero_sum:
            raise ValueError("this tree keeps of a step the reward of who took it alone")
        signs = [1.0 if self.chooser(step) == player else -1.0 for step in steps]
        return float(sum(sign * float(self._nodes[step]["reward"]) for sign, step in zip(signs, steps, strict=True)))

    def prior(self, node: int) -> float:
        return float(self._nodes[node]["prior"])

    def value(self, node: int = 0) -> float:
        """What the action into ``node`` returns to who took it (the state to who moves, at the root): what is proven,
        where something is, else :meth:`mean`; NaN where it was never visited."""
        record = self._nodes[node]
        proof = self._proof(node)
        if proof != UNPROVEN and record["visits"] and not self.has(node, ENDED):
            return (float(record["reward"]) if self.parent(node) >= 0 else 0.0) + float(_WORTH[proof])
        if record["visits"] and self.has(node, LINKED) and self.is_solved(node):
            return float(_solved_return(self._nodes, self._values, self.settings_to_read(), node, self.chooser(node)))
        return self.mean(node)

    def mean(self, node: int) -> float:
        """As :meth:`value`, but the mean return that simulations found, whatever is proven: what the rules of selection
        read of an open node. Without proofs, that of a solved node is what it is known to return."""
        record = self._nodes[node]
        visits = int(record["visits"])
        return float(record["value_sum"]) / visits if visits else float("nan")

    def returns(self, node: int) -> np.ndarray:
        """What the action into ``node`` returns to each player: float64 ``[players]``, the mean where all returns are
        kept, else :meth:`value`; NaN without a visit, and for others than the chooser where only that one's is kept."""
        if self._values.shape[1]:
            return self._values[node, : self.players] / (int(self._nodes[node]["visits"]) or np.nan)
        value = self.value(node)
        known = np.full(self.players, np.nan)
        known[self.chooser(node)] = value
        if self.zero_sum:
            known[1 - self.chooser(node)] = -value
        return known

    def proof(self, node: int = 0) -> str:
        """``win``, ``draw`` or ``loss``, as proven for the player whose :meth:`value` it is; empty where it is not."""
        return _NAMES[self._proof(node)]

    def _proof(self, node: int) -> int:
        proof = int(self._nodes[self.source(node)]["proof"])
        return opposite_proof(proof) if self.chooser(node) == 1 else proof

    def has(self, node: int, flag: int) -> bool:
        return bool(int(self._nodes[node]["flags"]) & flag)

    def is_solved(self, node: int = 0) -> bool:
        """Whether nothing is left to simulate below the node. What it is worth is known only where :meth:`left_out` is
        empty; in a zero-sum game :meth:`proof` says it."""
        return self.has(node, SOLVED) or self.has(self.source(node), SOLVED)

    def is_chance(self, node: int) -> bool:
        """Whether chance moves at the node. Of a node that no simulation reached that is not known."""
        return self.player(self.source(node)) == CHANCE

    def links_to(self, node: int) -> list[int]:
        """The linked nodes whose state this node holds."""
        if not self.has(node, SHARED):
            return []
        nodes = self.nodes
        return np.flatnonzero((nodes["first_child"] == node) & ((nodes["flags"] & LINKED) != 0)).tolist()

    def is_decided(self, left: int) -> bool:
        """Whether the most visited child of the root stays so after ``left`` further simulations; false where some are
        solved, since then values decide (as they do if one of those simulations solves one)."""
        children = self.children(0)
        if not children or any(self.is_solved(child) for child in children):
            return False
        visits = sorted(self._nodes["visits"][self._child_indices(0)].tolist())
        return len(visits) == 1 or visits[-1] - visits[-2] > left

    def child_numbers(self, node: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What ``rules/targets.py`` reads of a node's children: known returns, visits and values, float64
        ``[children]``."""
        return self.known_returns(node), self._of_children(node, "visits"), self.child_values(node)

    def known_returns(self, node: int = 0) -> np.ndarray:
        """What each solved child of a node is known to return to who moves, as ``targets.playable`` takes it: float64
        ``[children]``, NaN for an open one. Of chance's outcomes none is known: nobody chooses the best."""
        children = self._child_indices(node)
        known = np.full(len(children), np.nan)
        if not self.is_chance(node):
            flags, settings, mover = self._nodes["flags"], self.settings_to_read(), self._mover(node)
            solved = (flags[children] | flags[self._sources(children)]) & SOLVED
            for i in np.flatnonzero(solved).tolist():
                known[i] = _solved_return(self._nodes, self._values, settings, int(children[i]), mover)
        return known

    def child_values(self, node: int = 0) -> np.ndarray:
        """:meth:`value` of each child of a node: float64 ``[children]``."""
        children = self._child_indices(node)
        nodes, sources, mover = self._nodes, self._sources(children), self._mover(node)
        visits, flags = nodes["visits"][children], nodes["flags"][children]
        visited = visits > 0
        values = np.where(visited, nodes["value_sum"][children] / np.maximum(visits, 1), np.nan)
        proofs = nodes["proof"][sources]
        proofs = _OPPOSITE[proofs] if mover == 1 else proofs
        proven = visited & (proofs != UNPROVEN) & (flags & ENDED == 0)
        values[proven] = nodes["reward"][children][proven] + _WORTH[proofs[proven]]
        solved = (flags | nodes["flags"][sources]) & SOLVED != 0
        for i in np.flatnonzero(visited & ~proven & solved & (flags & LINKED != 0)).tolist():
            values[i] = _solved_return(nodes, self._values, self.settings_to_read(), int(children[i]), mover)
        return values

    def _child_indices(self, node: int) -> np.ndarray:
        """:meth:`children` as int64 ``[children]``."""
        return np.array(self.children(node), np.int64)

    def _of_children(self, node: int, name: str) -> np.ndarray:
        """A field of a node's children: float64 ``[children]``."""
        return self._nodes[name][self._child_indices(node)].astype(np.float64)

    def _sources(self, children: np.ndarray) -> np.ndarray:
        """:meth:`source` of each of these nodes."""
        nodes = self._nodes
        return np.where(nodes["flags"][children] & LINKED, nodes["first_child"][children], children)

    def _mover(self, node: int) -> int:
        """The player for whom the values of a node's children count."""
        return max(self.player(self.source(node)), 0)

    def all_returns(self) -> np.ndarray:
        """The sums of all players' returns beside each node, and their rewards: float64 ``[nodes, 2 · players]``, or
        without columns where one number says all."""
        return self._values[: self.size if self._values.shape[1] else 0]

    def take_all_returns(self, returns: np.ndarray) -> None:
        """Set what :meth:`all_returns` gave."""
        if returns.shape != (self.size, 2 * self.players):
            raise ValueError(f"returns of shape {returns.shape} for {self.size} nodes and {self.players} players")
        self._values = np.ascontiguousarray(returns, np.float64)
