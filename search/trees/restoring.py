"""Trees that become others: the tree below a move that was played, and the tree that a file holds.

``reroot`` keeps what simulations found below a child of the root. ``restore``, ``attach`` and the pairs of methods that
give and take what stands beside the nodes are how ``search/store.py`` makes a tree from a file again.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from ...envs.play.transcript import Turn
from ...envs.simulator import Simulator
from ..rules.selection import rule_in
from .ascent import _solved_return
from .nodes import ENDED, EXPANDED, FAILED, LINKED, UNSTEPPED, _subtree, discount_into
from .transcripts import Transcripts


class Restoring(Transcripts):
    """A tree with words that can become another; what these are is said in :class:`~branchwise.search.trees.tree.Tree`,
    which sets them."""

    counters: dict[str, int]
    noisy: bool
    stopped: str
    known: dict[Hashable, int]
    asked: dict[int, list[int]]
    _worded: int
    _word_bytes: int

    def restore(
        self, nodes: np.ndarray, actions: Sequence[str], logps: Sequence[float], agent_turns: dict[int, Turn]
    ) -> None:
        """Become the tree with these records and words; states are unknown until :meth:`attach`."""
        count = len(nodes)
        self._nodes = nodes
        self._head["size"] = self.size = count
        self.actions = list(actions)
        self.logps = list(logps)
        self._states = [None] * count
        self._positions = [None] * count
        self._transcripts = [self._transcripts[0], *([None] * (count - 1))]
        self._agent_turns = dict(agent_turns)

    def attach(self, simulator: Simulator[Any], states: Sequence[Any]) -> None:
        """Give the tree its simulator and the state of every node that was stepped into; rebuild the table of
        states."""
        self.simulator = simulator
        self._states = list(states)
        stepped_into = [not self.has(node, UNSTEPPED) for node in range(len(self._states))]
        self._positions = [
            simulator.position(state) if there else None for state, there in zip(states, stepped_into, strict=True)
        ]
        self._index_states()

    def _index_states(self) -> None:
        """Fill ``known`` by the nodes."""
        self.known = {}
        if self.settings.get("transpositions"):
            depths = [0]
            for node, state in enumerate(self._states):
                if node:
                    depths.append(depths[self.parent(node)] + 1)
                if not self.has(node, ENDED | LINKED | UNSTEPPED):
                    self.known.setdefault((depths[node], state), node)

    def beside_nodes(self) -> dict[str, Any]:
        """What steers the tree beside its nodes, as JSON-able numbers."""
        head: dict[str, Any] = {"noise": self.draws}
        head |= {name: repr(self._head[name][0].item()) for name in ("low", "high")}  # JSON has no infinity
        return {"head": head, "gumbel": self._gumbel.tolist(), "considered": self._considered.tolist()} | {
            "noisy": self.noisy,
            "stopped": self.stopped,
            "asked": sorted([node, *known] for node, known in self.asked.items()),
        }

    def take_beside_nodes(self, beside: dict[str, Any]) -> None:
        """Set what :meth:`beside_nodes` gave."""
        head = beside["head"]
        self._head["low"], self._head["high"], self.draws = float(head["low"]), float(head["high"]), head["noise"]
        self._gumbel = np.array(beside["gumbel"], np.float64)
        self._considered = np.array(beside["considered"], np.int64)
        self.noisy, self.stopped = bool(beside["noisy"]), str(beside["stopped"])
        self.asked = {int(node): [int(proposed), int(vain)] for node, proposed, vain in beside.get("asked", ())}

    def reroot(self, child: int) -> None:
        """Become the tree below ``child``, a child of the root, and give the rest of the memory back.

        What the simulations found below it is kept; they count as this tree's simulations. (With γ = 0 they found
        nothing there: the root keeps the return of the action.) The root's noise and Gumbel draws are forgotten; under
        ``gumbel`` the tree can be read, and not be extended. Raises ValueError for a node that is no child of the root,
        that was never expanded, or where a simulation is under way.
        """
        if child not in self.children(0):
            raise ValueError(f"node {child} is no child of the root; re-root one step at a time")
        if not self.has(self.source(child), EXPANDED) or self._nodes["pending"][: self.size].any():
            raise ValueError(f"node {child} was never expanded, or a simulation is under way; search it anew")
        transcript = self.transcript(child) if self.simulator is not None else self._transcripts[child]
        if not self.is_chance(0):
            self.before_root[self.reader(0)] = (*self.transcript(0), self.agent_turn(child))
        self.moves.append(self.actions[child])
        visits, worth = self.visits(child), self._worth_of_state(child)
        self._keep_known()
        self._keep_below(child)
        root = self._nodes[0]
        root["parent"], root["prior"], root["reward"] = -1, 1.0, 0.0
        if visits and isinstance(worth, np.ndarray):
            self._values[0, : self.players] = worth * visits
            self._values[0, self.players :] = 0.0
            root["value_sum"] = worth[max(int(root["player"]), 0)] * visits
        elif visits:
            root["value_sum"] = worth * visits
        self.actions[0], self.logps[0] = "", float("nan")
        if self.settings.get("transpositions") and self.simulator is not None:
            self._transcripts = [None] * self.size  # some came through parents that are gone
        self._transcripts[0] = transcript
        self._index_states()
        self.forget_plan()
        self._worded = self._word_bytes = 0
        self.noisy, self.stopped = False, ""
        self.counters["simulations"] = visits

    def discount_into(self, node: int) -> float:
        """γ of the action into a node, 1 where chance moves there: its value is reward + γ · the value of the state."""
        return float(discount_into(self.player(self.source(node)), self.discount))

    def _worth_of_state(self, child: int) -> float | np.ndarray:
        """What the simulations found the state below an action to be worth, its reward left out: for who moves there,
        or to all players where all returns are kept."""
        discount = self.discount_into(child)
        if self._values.shape[1]:
            returns = self.returns(child)
            return (returns - self._values[child, self.players :]) / discount if discount else returns
        value = self.mean(child)
        of_state = (value - float(self._nodes[child]["reward"])) / discount if discount else value
        same = not self.zero_sum or self.chooser(child) == max(self.player(child), 0)
        return of_state if same else -of_state

    def _keep_below(self, child: int) -> None:
        """Let go of all nodes but ``child``, which becomes the first, and those below it."""
        order, place = _subtree(self._nodes[: self.size], child, rule_in(self.settings)[0] == "gumbel")
        nodes = self._nodes[order]
        nodes["parent"] = np.where(nodes["parent"] >= 0, place[nodes["parent"]], -1)
        nodes["first_child"] = np.where(nodes["first_child"] >= 0, place[nodes["first_child"]], -1)
        asked = {int(place[self.source(old)]): known for old, known in self.asked.items()}  # handed over, as children
        self.asked = {node: known for node, known in asked.items() if node >= 0}
        self._agent_turns = {int(place[old]): turn for old, turn in self._agent_turns.items() if place[old] > 0}
        self.keep_words(order.tolist())
        if self._values.shape[1]:
            self._values = self._values[order]
        self._nodes = nodes
        self._head["size"] = self.size = len(order)

    def _keep_known(self) -> None:
        """What is known of solved states that other nodes hold, as the means of the edges to them, since these may hold
        them next."""
        nodes, settings = self._nodes, self.settings_to_read()
        for edge in np.flatnonzero(nodes["flags"][: self.size] & LINKED).tolist():
            if self.is_solved(edge) and not self.proof(edge) and not self.has(self.source(edge), FAILED):
                visits = max(self.visits(edge), 1)
                for player in range(self.players if self._values.shape[1] else 0):
                    self._values[edge, player] = visits * _solved_return(nodes, self._values, settings, edge, player)
                nodes["value_sum"][edge] = visits * _solved_return(
                    nodes, self._values, settings, edge, self.chooser(edge)
                )
