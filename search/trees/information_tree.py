"""A tree of information sets: what a search under hidden information grows (``information.py`` has the walk).

Two kinds of nodes hang below each other in turn: information sets, whose "action" is their key, and the actions taken
there. Its children are no contiguous blocks, since each determinisation may allow other actions: they are found through
``edges`` (information set → action → node) and ``sets`` (player and key → information set). Under
``multiple_observer`` several actions may lead to one set; its parent is the first. Only the root has a state.

A walk may come back to what a player knew before: two tries at one door, or an opponent who moves twice unseen. The
second time is a node of its own (``again``: set → the same, met once more on one walk), so no node is on a walk twice.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...envs.games.compiling import say_if_compiling
from ...envs.play.transcript import Transcript, observed
from ...envs.simulator import Simulator
from ..rules.backup import UNPROVEN
from .ascent import _back_up_information
from .descent import _best_of
from .nodes import EXPANDED, FAILED, INFORMATION
from .tree import Tree


class InformationTree(Tree):
    """As :class:`Tree`, without states and proofs. ``zero_sum`` says whether one player's return is the
    other's opposite; either way one number a node is kept, that of who moves."""

    def __init__(
        self,
        simulator: Simulator[Any] | None,
        state: Any,
        transcript: Transcript,
        task: dict[str, Any] | None = None,
        index: int = 0,
        rng: np.random.Generator | None = None,
        discount: float = 1.0,
        *,
        players: int,
        zero_sum: bool,
    ) -> None:
        self.edges: dict[int, dict[str, int]] = {}
        self.sets: dict[tuple[int, str], int] = {}
        self.again: dict[int, int] = {}
        say_if_compiling(_best_of, "the search of hidden information")
        super().__init__(
            simulator,
            state,
            transcript,
            task,
            index,
            rng,
            discount,
            players=players,
            zero_sum=zero_sum,
            one_number=True,
        )
        if simulator is not None:
            self.begin_information()

    def children(self, node: int = 0) -> Sequence[int]:
        """The actions of an information set, in the order in which they turned up."""
        return list(self.edges.get(node, {}).values())

    def sets_below(self, node: int) -> list[int]:
        """The information sets that an action was the first to lead to."""
        return [other for other in (*self.sets.values(), *self.again.values()) if other and self.parent(other) == node]

    def known_returns(self, node: int = 0) -> np.ndarray:
        """As :meth:`Tree.known_returns`. Nothing is solved here; an action whose only steps failed cannot be played."""
        children = self._child_indices(node)
        broken = ((self._nodes["flags"][children] & FAILED) != 0) & (self._nodes["visits"][children] == 0)
        return np.where(broken, -np.inf, np.nan)

    def is_own_view(self, node: int) -> bool:
        """Whether this is an information set of the player who moves there: what the policy read there is known."""
        own = self.settings.get("information") == "multiple_observer" or self.player(node) == self.player(0)
        return node == 0 or (own and self.has(node, INFORMATION))

    def transcript(self, node: int = 0) -> Transcript:
        """The root's; at another information set all that its player knows, which is what the policy read. Raises
        ValueError for another's view and for actions, below which there is no one state."""
        if node == 0:
            return super().transcript(0)
        if not self.is_own_view(node):
            raise ValueError(f"node {node} is no information set of the player to move: nobody reads words there")
        return (observed(self.actions[node]),)

    def reroot(self, child: int) -> None:
        raise ValueError(
            "a tree of information sets has no one state below an action; reroot_to(state) where it is known"
        )

    def reroot_to(self, state: Any, transcript: Transcript = ()) -> None:
        """Become the tree below the information set that the root's player is in at ``state``, where the game has gone
        since, and give the rest of the memory back. What the player has not seen of the state does not matter.

        What the simulations found there is kept; they count as this tree's simulations. Other players' sets that were
        first met on another way (``multiple_observer``) are left behind. Raises ValueError where another player is to
        move, with whose eyes nothing was drawn, where no simulation expanded the set, where one is under way, or where
        one met the set twice: the state does not say which time this is.
        """
        assert self.simulator is not None
        viewer, mover = self.player(0), self.simulator.current_player(state)
        if mover != viewer:
            raise ValueError(
                f"player {mover} is to move there, and the tree was searched for player {viewer}; search anew"
            )
        top = self.sets.get((viewer, self.simulator.information_state(state, viewer)), -1)
        if top < 0 or not self.has(top, EXPANDED) or self.nodes["pending"].any():
            raise ValueError("no simulation expanded that information set, or one is under way; search anew")
        if top in self.again:
            raise ValueError(
                "a simulation met that information set twice, and the state does not say which time this is; search"
                " anew"
            )
        parents, kept = self.nodes["parent"], np.zeros(self.size, np.bool_)
        kept[top] = True
        for node in range(top + 1, self.size):  # a parent stands before what hangs below it
            kept[node] = kept[parents[node]]
        order = np.flatnonzero(kept)
        self._nodes = self._nodes[order]
        self._nodes["parent"][1:] = np.searchsorted(order, self._nodes["parent"][1:])
        self._nodes["parent"][0] = -1
        self._head["size"] = self.size = len(order)
        self.keep_words(order.tolist())
        self.actions[0], self.logps[0], self._transcripts[0] = "", float("nan"), tuple(transcript)
        self.moves = [turn.text for turn in transcript if turn.is_agent]
        self._worded = self._word_bytes = 0
        self.noisy, self.stopped = False, ""
        self.counters["simulations"] = self.visits(0)
        self.attach(self.simulator, [state, *([None] * (self.size - 1))])

    def attach(self, simulator: Simulator[Any], states: Sequence[Any]) -> None:
        """Give the tree its simulator and the root its state; rebuild the tables."""
        self.simulator = simulator
        self._states = list(states)
        self._find_edges()
        self.begin_information()

    def restore(self, *beside: Any) -> None:
        """As :meth:`Tree.restore`; what hangs below what is known without a simulator too."""
        super().restore(*beside)
        self._find_edges()

    def _find_edges(self) -> None:
        """``edges``, ``sets`` and ``again`` of all nodes but the root, whose own key its state has."""
        self.edges, self.sets, self.again = {}, {}, {}
        latest: dict[tuple[int, str], int] = {}
        for node in range(1, self.size):
            if self.has(node, INFORMATION):
                key = self.player(node), self.actions[node]
                if key in latest:
                    self.again[latest[key]] = node
                self.sets.setdefault(key, node)
                latest[key] = node
            else:
                self.edges.setdefault(self.parent(node), {})[self.actions[node]] = node

    def begin_information(self) -> None:
        """Make the root an information set of its player."""
        self._nodes[0]["flags"] |= INFORMATION
        assert self.simulator is not None
        player = self.player(0)
        key = player, self.simulator.information_state(self.states[0], player)
        if self.sets.get(key):
            self.again[0] = self.sets[key]
        self.sets[key] = 0

    def information_set(self, player: int, key: str, path: Sequence[int]) -> int:
        """The information set that ``player`` is in at the end of ``path``, whose last node is an action; one that is
        not on the path already. Made where it is met first."""
        before, node = -1, self.sets.get((player, key))
        while node is not None and node in path:
            before, node = node, self.again.get(node)
        if node is None:
            node = self._append(path[-1], [key], [1.0], [float("nan")], INFORMATION, player)
            if before < 0:
                self.sets[player, key] = node
            else:
                self.again[before] = node
        return node

    def add_edges(self, node: int, actions: Sequence[str], priors: np.ndarray, logps: Sequence[float]) -> None:
        """Give an information set further actions."""
        first = self._append(node, actions, priors, logps, 0, self.player(node))
        self._nodes[node]["flags"] |= EXPANDED
        self.edges.setdefault(node, {}).update({action: first + i for i, action in enumerate(actions)})

    def share_prior(self, node: int) -> None:
        """Scale the priors of an information set's actions so that they sum to one, over all that ever were available;
        a walk takes their shares among those that are (``choose_available``)."""
        edges = self._child_indices(node)
        priors = self._nodes["prior"][edges].astype(np.float64)
        self._nodes["prior"][edges] = priors / priors.sum()

    def choose_available(self, node: int, edges: np.ndarray, settings: np.ndarray) -> int:
        """Which of these actions of an information set the rule takes; each counts as available once more."""
        return int(_best_of(self._nodes, self._head, settings, node, edges))

    def close_edge(self, edge: int, edges: np.ndarray, error: str) -> None:
        """The step of ``edge``, chosen among ``edges``, failed: it is not tried again, and nothing was chosen."""
        self.counters["failed_actions"] += 1
        self.last_error = error
        self._nodes["flags"][edge] |= FAILED
        self._nodes["hint"][edges] -= 1.0

    def back_up_information(
        self, path: np.ndarray, rewards: np.ndarray, returns: np.ndarray, settings: np.ndarray
    ) -> None:
        """Tell a simulation's returns (float64 ``[players]``) to its path; ``rewards``: float64 ``[path, players]``."""
        _back_up_information(self._nodes, self._head, settings, path, rewards, returns)

    def _append(
        self,
        parent: int,
        actions: Sequence[str],
        priors: Sequence[float] | np.ndarray,
        logps: Sequence[float],
        flags: int,
        player: int,
    ) -> int:
        """Nodes at the end that only know their parent."""
        count = len(actions)
        self.reserve(count)
        first = self.size
        for i in range(count):
            record = self._nodes[first + i]
            record["parent"], record["first_child"] = parent, -1
            record["prior"], record["flags"], record["player"], record["proof"] = priors[i], flags, player, UNPROVEN
        self._head["size"] = self.size = first + count
        self.actions.extend(actions)
        self.logps.extend(logps)
        for beside in (self._states, self._positions, self._transcripts):
            beside.extend([None] * count)  # type: ignore[list-item]
        return first
