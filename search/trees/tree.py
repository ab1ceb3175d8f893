"""One search tree with its words, as the search grows it: the numbers of ``arrays.py``, and states, actions and
transcripts beside them, by node index.

What it is read by stands in ``reading.py`` and ``transcripts.py``, how it becomes another tree in ``restoring.py``,
what it can be asked beyond that (line of play, table of children, pictures) in ``search/answers.py`` and ``graph.py``.
"""

import sys
from collections.abc import Hashable, Sequence
from typing import Any, Final

import numpy as np

from ...envs.play.transcript import Transcript
from ...envs.simulator import CHANCE, Simulator
from ..rules.selection import noisy_prior, rule_in
from ..rules.targets import FinalRule, best_of, visit_shares
from .children import Children
from .descent import _gumbel_final_child, _improved_policy
from .nodes import (
    BUSY,
    FAILED,
    INCOMPLETE,
    LINKED,
    MAX_CHILDREN,
    SHARED,
    SOLVED,
    UNSTEPPED,
    VALUED,
    _path,
)
from .restoring import Restoring
from .stepping import StepRules, stepped

COUNTERS: Final = (
    "simulations",
    "model_calls",
    "prompts",
    "failed_leaves",
    "failed_actions",
    "invalid_actions",
    "merged_proposals",
    "dropped_revisits",
    "transpositions",
)


class Tree(Restoring):
    """One search tree, with the words beside its numbers.

    ``states``, ``actions`` (``""`` for the root) and ``logps`` (log-probability of the action under the policy that
    searched, summed over its tokens, before any mixing; NaN for the root) go by node index. A child that no simulation
    reached may have no state yet (:meth:`step_into`); reading it in ``states`` makes it. ``task`` is a
    JSON-able dict that says which episode the root belongs to (``env_id``, ``seed``, ``options`` where known),
    ``index`` the tree's place in its search, ``counters`` what the search did (``COUNTERS``), ``last_error`` the last
    failure in words, ``settings`` the search settings as a JSON-able dict, ``rng`` the tree's own generator. ``noisy``
    says that the root's prior has its noise, ``stopped`` why the search of it ended (``docs/search.md``). ``known``
    (depth and state → node) is filled where the settings ask for transpositions, ``asked`` (node → how many actions
    were proposed there, and the number of children at which asking again was in vain) under progressive widening.
    """

    def __init__(
        self,
        simulator: Simulator[Any] | None,
        state: Any,
        transcript: Transcript,
        task: dict[str, Any] | None = None,
        index: int = 0,
        rng: np.random.Generator | None = None,
        discount: float = 1.0,
        capacity: int = 64,
        players: int = 1,
        zero_sum: bool = False,
        one_number: bool = False,
    ) -> None:
        super().__init__(state, transcript, capacity, players, vector=not one_number and players > 1 + zero_sum)
        self.simulator = simulator
        self.zero_sum = zero_sum
        self.task: dict[str, Any] = {} if task is None else task
        self.index = index
        self.rng = np.random.default_rng(index) if rng is None else rng
        self.discount = float(discount)
        self.settings: dict[str, Any] = {}
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self.last_error = ""
        self.noisy = False
        self.stopped = ""
        self._worded = 0
        self._word_bytes = 0
        self.known: dict[Hashable, int] = {}
        self.asked: dict[int, list[int]] = {}
        if simulator is not None and state is not None:
            self._nodes[0]["player"] = max(simulator.current_player(state), 0)
            self.known[0, state] = 0

    def __repr__(self) -> str:
        return f"Tree(index={self.index}, nodes={self.size}, visits={int(self._nodes[0]['visits'])}, task={self.task})"

    # ---- reading ----------------------------------------------------------------------------------------------

    def seen_by_mover(self, node: int, value: float | np.ndarray) -> float:
        """A value for player 0, or the values for all, as seen by who moves at the node."""
        player = max(self.player(self.source(node)), 0)
        if isinstance(value, np.ndarray):
            return float(value[player])
        return -value if self.zero_sum and player == 1 else value

    def best_child(self, node: int = 0, final: FinalRule | None = None) -> int:
        """The child to play: ``visits`` the most visited (then the better value), ``value`` the best mean return
        among those visited; −1 where there is none. ``None`` is the rule of the search that grew the tree: its
        setting ``final``, and at the root after ``gumbel`` what Gumbel MuZero plays.

        What is proven comes first (``rules/targets.py``): each solved child counts with the return that it is known to
        lead to, and the best of them are preferred where that is at least the value of the open child that the rule
        would choose. Where no child was visited, the largest prior decides."""
        if final is None:
            if node == 0 and rule_in(self.settings)[0] == "gumbel" and self.has_gumbel():
                return self.gumbel_child()
            final = self.settings.get("final", "visits")
        if final not in ("visits", "value"):
            raise ValueError(f"final is {final!r}; expected 'visits' or 'value'")
        children = self.children(node)
        best = best_of(*self.child_numbers(node), self._of_children(node, "prior"), final)
        return children[best] if best >= 0 else -1

    def gumbel_child(self) -> int:
        """The root's child that Gumbel MuZero plays."""
        if not self.has_gumbel():
            raise ValueError("the root has no Gumbel draws; search with selection='gumbel'")
        return int(_gumbel_final_child(self._nodes, self.settings_to_read(), self._gumbel))

    def bytes_to_grow(self) -> int:
        """Bytes that this tree takes (arrays, list slots, states and texts without what they share), and those that the
        next growth of the arrays will take for a while."""
        for node in range(self._worded, self.size):
            self._word_bytes += 80 + sys.getsizeof(self._states[node]) + sys.getsizeof(self.actions[node])
            self._word_bytes += 16 * len(self._transcripts[0] or ()) + 300
        self._worded = self.size
        free = len(self._nodes) - self.size
        return self._word_bytes + self.array_bytes * (3 if free < max(64, self.size // 20) else 1)

    def best_action(self, final: FinalRule | None = None) -> str:
        """The action to play at the root (:meth:`best_child`). Raises ValueError where the root was never expanded."""
        child = self.best_child(0, final)
        if child < 0:
            raise ValueError(f"the root has no children: {self.last_error or 'no simulation was run'}")
        return self.actions[child]

    def policy_target(self, node: int = 0) -> tuple[list[str], np.ndarray]:
        """The actions of ``node`` and the share of its children's visits that each got: float64 ``[children]``,
        sum 1 (the prior where none was visited), nothing for an action that what is proven rules out
        (``rules/targets.py``). After a search with ``gumbel`` the improved policy (``rules/gumbel.py``)."""
        actions = [self.actions[child] for child in self.children(node)]
        known, visits, values = self.child_numbers(node)
        if rule_in(self.settings)[0] == "gumbel" and visits.any():
            return actions, _improved_policy(self._nodes, self.settings_to_read(), self.source(node))
        prior, final = self._of_children(node, "prior"), self.settings.get("final", "visits")
        return actions, visit_shares(visits, values, prior, known, final)

    # ---- growing ----------------------------------------------------------------------------------------------

    def add_children(self, node: int, children: Children) -> int:
        """Give an unexpanded node its children (none: a dead end); returns the index of the first."""
        count = len(children)
        if count > MAX_CHILDREN:
            raise ValueError(f"{count} actions at one node; a node holds at most {MAX_CHILDREN}")
        if self._values.shape[1] and count:
            earned = np.array(children.rewards, np.float64)
            own = earned[:, max(self.player(node), 0)]
            first = self.add_block(node, children.priors, own, children.flags, children.players)
            self._values[first : self.size] = np.concatenate([np.zeros_like(earned), earned], axis=1)
        else:
            first = self.add_block(node, children.priors, children.rewards, children.flags, children.players)
        self.actions.extend(children.actions)
        self._states.extend(children.states)
        self.logps.extend(children.logps)
        self._positions.extend(children.positions or [None] * count)
        self._transcripts.extend([None] * count)
        return first

    @property
    def step_rules(self) -> StepRules:
        """What this tree keeps of a step, by the settings of its last search."""
        hidden = bool(self.settings.get("hide_outcome"))
        proofs = self.zero_sum and bool(self.settings.get("solve")) and self.discount == 1.0 and not hidden
        return StepRules(not self._values.shape[1], self.zero_sum, hidden, proofs)

    def step_into(self, node: int) -> None:
        """Step the simulator into a child that was not stepped into yet, and keep its state, who moves there, its end
        and its reward. Raises what ``stepping.stepped`` raises; the node is then as before."""
        if self.simulator is None:
            raise ValueError(f"node {node} has no state yet; load the tree with its simulator to step into it")
        parent = self.parent(node)
        chooser = max(self.player(parent), 0)
        state, player, flags, reward = stepped(
            self.simulator, self._states[parent], self.actions[node], chooser, self.step_rules
        )
        record = self._nodes[node]
        if self._values.shape[1]:
            self._values[node, self.players :] = reward
            reward = reward[chooser]
        record["reward"], record["player"] = reward, player if player >= CHANCE else 0
        record["flags"] = (int(record["flags"]) & ~UNSTEPPED) | flags
        self._states[node] = state
        if node < self._worded:
            self._word_bytes += sys.getsizeof(state)

    def left_out(self) -> str:
        """What a search to the end did not see, so that nothing is known though nothing is left to simulate: ``failed``
        where a model or the simulator failed, ``exhausted`` where actions were dropped (they repeat a position) or are
        only those that a policy proposed; empty where all was seen, or the root is proven."""
        if self.proof(0):
            return ""
        flags = self.nodes["flags"]
        if ((flags & (FAILED | SOLVED)) == (FAILED | SOLVED)).any():
            return "failed"
        return "exhausted" if (flags & INCOMPLETE).any() else ""

    def mark_incomplete(self, node: int) -> None:
        """Actions are missing at the node, so that nothing is proven by those that are there, except a win."""
        self._nodes[self.source(node)]["flags"] |= INCOMPLETE

    def link(self, node: int, source: int) -> None:
        """Make ``node``, a new leaf, an edge to the state that ``source`` holds."""
        self._nodes[node]["first_child"] = source
        self._nodes[node]["flags"] |= LINKED
        self._nodes[source]["flags"] |= SHARED
        self.counters["transpositions"] += 1

    def set_hints(self, node: int, hints: Sequence[float] | np.ndarray) -> None:
        """Set the hint of each child of ``node``: what a critic said of it, or its bonus."""
        self._nodes["hint"][self._child_indices(node)] = hints

    def set_hint(self, node: int, hint: float) -> None:
        """Set one node's hint: under ``gumbel``, what the evaluator said of its state for who moves there."""
        self._nodes[self.source(node)]["hint"] = hint

    def mix_root_prior(self, noise: np.ndarray, fraction: float) -> None:
        """Mix noise (float64 ``[root's children]``, sum 1) into the root's prior."""
        children = self._child_indices(0)
        priors = self._nodes["prior"][children].astype(np.float64)
        self._nodes["prior"][children] = noisy_prior(priors, noise, fraction)
        self.noisy = True

    def positions_on_path(self, node: int, path: np.ndarray | None = None) -> set[Hashable]:
        """The simulator's positions from the root to ``node``, or on a simulation's ``path``."""
        positions = self._positions
        steps = (_path(self._nodes, node) if path is None else path).tolist()
        for step in steps:
            if positions[step] is None and self.simulator is not None:
                positions[step] = self.simulator.position(self._states[self.source(step)])
        return {positions[step] for step in steps}

    def set_terminal_value(self, node: int, value: float | np.ndarray) -> None:
        """Remember what the evaluator said of a terminal node whose outcome is hidden: as its reward, for who came
        there, or float64 ``[players]`` where all returns are kept."""
        if self._values.shape[1]:
            self._values[node, self.players :] = value
            value = np.asarray(value)[self.chooser(node)]
        self._nodes[node]["reward"] = value
        self._nodes[node]["flags"] |= VALUED

    def forget_pending(self) -> None:
        """No simulation is under way any more: an interrupted search left some."""
        self._nodes["pending"] = 0
        self._nodes["flags"] &= np.int16(~BUSY)

    def abandon(self, leaf: int, error: str, record: np.ndarray, path: np.ndarray | None = None) -> None:
        """Take a selected leaf's simulation back: it could not be evaluated, for the reason given."""
        self.count_failure(error)
        self.take_back(leaf, record, path)

    def close_action(self, child: int, error: str, record: np.ndarray, path: np.ndarray | None = None) -> None:
        """Take back the simulation that selected an action whose step failed; it is not tried again."""
        self.last_error = error
        self.take_back(child, record, path)

    def luck(self, drawn: bool = False) -> tuple[int, Any]:
        """Where the random numbers of selection are: the tree's own, and where they are ``drawn`` from it, ``rng``."""
        return int(self._head["noise"][0]), self.rng.bit_generator.state if drawn else None

    def set_luck(self, luck: tuple[int, Any]) -> None:
        """Put the random numbers of selection back to where :meth:`luck` found them."""
        self._head["noise"] = luck[0]
        if luck[1] is not None:
            self.rng.bit_generator.state = luck[1]

    def count_failure(self, error: str) -> None:
        """Something failed, for the reason given."""
        self.counters["failed_leaves"] += 1
        self.last_error = error

    def mark_path(self, path: np.ndarray) -> None:
        """A simulation is under way on this path."""
        self._nodes["pending"][path] += 1

    def mark_under_way(self, node: int) -> None:
        """A simulation is under way to this node."""
        self.mark_path(_path(self._nodes, node))
