"""One search tree with its words: the numbers of ``arrays.py``, and states, actions and transcripts beside them.

Texts (actions), states, transcripts and logged log-probabilities are Python lists by node index. What a tree can be
asked beyond its numbers (principal variation, table of children, pictures) stands in ``reading.py`` and ``graph.py``.
"""

import sys
from collections.abc import Hashable, Sequence
from typing import Any, Final

import numpy as np

from ..envs.play.task import Root
from ..envs.play.transcript import Transcript, Turn, acted, observed, said
from ..envs.simulator import CHANCE, Simulator
from .arrays import NodeArrays
from .ascent import _back_up, _solved_return
from .backup import UNPROVEN, opposite_proof
from .descent import _gumbel_final_child, _improved_policy, _select
from .gumbel import MAXVISIT_INIT, VALUE_SCALE
from .nodes import (
    BUSY,
    EXPANDED,
    FAILED,
    INCOMPLETE,
    INFORMATION,
    INVALID,
    LINKED,
    MAX_CHILDREN,
    MAX_PENDING,
    NODE,
    OUTCOMES,
    SHARED,
    SOLVED,
    TERMINAL,
    UNSTEPPED,
    VALUED,
    WALK,
    _add_children,
    _path,
    _subtree,
    discount_into,
)
from .selection import noisy_prior
from .stepping import StepRules, stepped
from .targets import FinalRule, best_of, visit_shares

__all__ = [
    "COUNTERS",
    "EXPANDED",
    "FAILED",
    "INCOMPLETE",
    "INFORMATION",
    "INVALID",
    "LINKED",
    "MAX_CHILDREN",
    "MAX_PENDING",
    "NODE",
    "OUTCOMES",
    "SHARED",
    "SOLVED",
    "TERMINAL",
    "UNSTEPPED",
    "VALUED",
    "FinalRule",
    "Tree",
    "_add_children",
    "_back_up",
    "_path",
    "_select",
]

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


class _States(Sequence[Any]):
    """The states of a tree by node index; one that was not stepped into yet is made when it is read."""

    def __init__(self, tree: "Tree") -> None:
        self._tree = tree

    def __len__(self) -> int:
        return self._tree.size

    def __getitem__(self, node: Any) -> Any:
        if isinstance(node, slice):
            return [self[each] for each in range(*node.indices(len(self)))]
        tree, place = self._tree, range(len(self))[node]
        if tree.simulator is not None and tree.has(place, UNSTEPPED):
            tree.step_into(place)
        return tree._states[place]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class Tree(NodeArrays):
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
        super().__init__(capacity, players, vector=not one_number and players > 1 + zero_sum)
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
        self._states: list[Any] = [state]
        self.actions: list[str] = [""]
        self.logps: list[float] = [float("nan")]
        self.known: dict[Hashable, int] = {}
        self.asked: dict[int, list[int]] = {}
        self._positions: list[Hashable] = [None]
        self._transcripts: list[Transcript | None] = [tuple(transcript)]
        self.before_root: dict[int, Transcript] = {}
        """What players who do not move at the root saw and did before it."""
        self.moves = [turn.text for turn in transcript if turn.is_agent]
        """What was done since the task's first decision until the root, by all players and luck."""
        self._agent_turns: dict[int, Turn] = {}
        if simulator is not None and state is not None:
            self._nodes[0]["player"] = max(simulator.current_player(state), 0)
            self.known[0, state] = 0

    def __repr__(self) -> str:
        return f"Tree(index={self.index}, nodes={self.size}, visits={int(self._nodes[0]['visits'])}, task={self.task})"

    # ---- reading ----------------------------------------------------------------------------------------------

    @property
    def states(self) -> Sequence[Any]:
        """The state of each node."""
        return _States(self)

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

    def visits(self, node: int) -> int:
        return int(self._nodes[node]["visits"])

    def value(self, node: int) -> float:
        """What the action into ``node`` returns to who took it (the state to who moves, at the root): what is proven,
        where something is, else :meth:`mean`; NaN where it was never visited."""
        record = self._nodes[node]
        proof = self.proof(node)
        if proof and record["visits"] and not self.is_terminal(node):
            earned = float(record["reward"]) if self.parent(node) >= 0 else 0.0
            return earned + {"win": 1.0, "draw": 0.0, "loss": -1.0}[proof]
        if record["visits"] and self.has(node, LINKED) and self.is_solved(node):
            return float(_solved_return(self._nodes, self._values, self._walk_to_read(), node, self.chooser(node)))
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
            return self._values[node, : self.players] / (self.visits(node) or np.nan)
        value = self.value(node)
        known = np.full(self.players, np.nan)
        known[self.chooser(node)] = value
        if self.zero_sum:
            known[1 - self.chooser(node)] = -value
        return known

    def proof(self, node: int = 0) -> str:
        """``win``, ``draw`` or ``loss``, as proven for the player whose :meth:`value` it is; empty where it is not."""
        proof = int(self._nodes[self.source(node)]["proof"])
        if proof == UNPROVEN:
            return ""
        return ("loss", "draw", "", "win")[opposite_proof(proof) if self.chooser(node) == 1 else proof]

    def has(self, node: int, flag: int) -> bool:
        return bool(int(self._nodes[node]["flags"]) & flag)

    def is_terminal(self, node: int) -> bool:
        """Whether the episode is over at the node. Without a simulator, and where the step into the node failed, a node
        that no simulation reached counts as not terminal."""
        if self.simulator is not None and self.has(node, UNSTEPPED) and not self.has(node, FAILED):
            self.step_into(node)
        return self.has(node, TERMINAL)

    def is_solved(self, node: int = 0) -> bool:
        """Whether nothing is left to simulate below the node. What it is worth is known only where :meth:`left_out` is
        empty; in a zero-sum game :meth:`proof` says it."""
        return self.has(node, SOLVED) or self.has(self.source(node), SOLVED)

    def links_to(self, node: int) -> list[int]:
        """The linked nodes whose state this node holds."""
        if not self.has(node, SHARED):
            return []
        nodes = self.nodes
        return np.flatnonzero((nodes["first_child"] == node) & ((nodes["flags"] & LINKED) != 0)).tolist()

    def agent_turn(self, node: int) -> Turn:
        """The turn in which the agent took the action into ``node``, with its tokens where the policy logged them."""
        return self._agent_turns.get(node) or acted(self.actions[node])

    def transcript(self, node: int = 0) -> Transcript:
        """What the player to move at ``node`` saw and did until then (at an end and where chance moves, who acted
        last): what the root knows of it, then its observation at each of its decisions on the way and its action. Other
        players' turns are not in it, and luck is no turn."""
        found = self._transcripts[node]
        if found is not None:
            return found
        missing = [node]
        while (before := self._last_decision(missing[-1])[0]) >= 0 and self._transcripts[before] is None:
            missing.append(before)
        for step in reversed(missing):
            self._transcripts[step] = self._with_turns_into(step, None)
        return self._transcripts[node] or ()

    def reader(self, node: int = 0) -> int:
        """Whose transcript a node has: of who is to move there, at ends and chance nodes of who acted last."""
        while node and (self.is_terminal(node) or self.is_chance(node)):
            node = self.parent(node)
        return max(self.player(self.source(node)), 0)

    def _last_decision(self, node: int) -> tuple[int, int]:
        """(the last node above ``node`` where its reader was to move, the action taken there), −1 where there is none
        since the root."""
        reader, child = self.reader(node), node
        while child:
            above = self.parent(child)
            if self.player(self.source(above)) == reader:
                return above, child
            child = above
        return -1, -1

    def _with_turns_into(self, node: int, text: str | None) -> Transcript:
        """The transcript of a node, where that of its reader's last decision is known; ``text`` is what is observed
        there, or else asked for."""
        before, action = self._last_decision(node)
        if before < 0:
            turns = self.before_root.get(self.reader(node), ())
        else:
            turns = (*(self._transcripts[before] or ()), self.agent_turn(action))
        if self.is_chance(node):
            return turns
        if text is None:
            if self.simulator is None:
                raise ValueError(
                    f"node {node} of this tree has no stored observation; load the tree with its simulator, or save it "
                    "with observations=True (nodes that were never visited have none)"
                )
            text = said(self.simulator, self.states[node], self.reader(node))
        return (*turns, observed(text))

    def is_chance(self, node: int) -> bool:
        """Whether chance moves at the node. Of a node that no simulation reached that is not known."""
        return self.player(self.source(node)) == CHANCE

    def best_child(self, node: int = 0, final: FinalRule | None = None) -> int:
        """The child to play: ``visits`` the most visited (then the better value), ``value`` the best mean return
        among those visited; −1 where there is none. ``None`` is the rule of the search that grew the tree: its
        setting ``final``, and at the root after ``gumbel`` what Gumbel MuZero plays.

        What is proven comes first (``targets.py``): each solved child counts with the return that it is known to lead
        to, and the best of them are preferred where that is at least the value of the open child that the rule would
        choose. Where no child was visited, the largest prior decides.
        """
        if final is None:
            if node == 0 and self.settings.get("selection") == "gumbel" and self.has_gumbel():
                return self.gumbel_child()
            final = self.settings.get("final", "visits")
        if final not in ("visits", "value"):
            raise ValueError(f"final is {final!r}; expected 'visits' or 'value'")
        children = self.children(node)
        best = best_of(*self.child_numbers(node), self._nodes["prior"][np.array(children, np.int64)], final)
        return children[best] if best >= 0 else -1

    def child_numbers(self, node: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What :mod:`targets` reads of a node's children: known returns, visits and values, float64 ``[children]``. Of
        chance's outcomes none is known: nobody chooses the best."""
        children = self.children(node)
        visits = self._nodes["visits"][np.array(children, np.int64)].astype(np.float64)
        known = np.full(len(children), np.nan) if self.is_chance(node) else self.known_returns(node)
        return known, visits, np.array([self.value(child) for child in children], np.float64)

    def gumbel_child(self) -> int:
        """The root's child that Gumbel MuZero plays."""
        if not self.has_gumbel():
            raise ValueError("the root has no Gumbel draws; search with selection='gumbel'")
        return int(_gumbel_final_child(self._nodes, self._gumbel_options(), self._gumbel))

    def _gumbel_options(self) -> np.ndarray:
        """What the formulas of ``gumbel`` read of the settings: :data:`nodes.WALK` ``[1]``."""
        walk = np.zeros(1, WALK)
        for name, usual in (("value_scale", VALUE_SCALE), ("maxvisit_init", MAXVISIT_INIT), ("rescale_values", True)):
            walk[name] = self.settings.get(name, usual)
        return walk

    def known_returns(self, node: int = 0) -> np.ndarray:
        """What each solved child of a node is known to return to who moves, as ``targets.playable`` takes it: float64
        ``[children]``, NaN for an open one."""
        known = np.full(len(self.children(node)), np.nan)
        walk = self._walk_to_read()
        for i, child in enumerate(self.children(node)):
            if self.is_solved(child):
                known[i] = _solved_return(self._nodes, self._values, walk, child, self.chooser(child))
        return known

    def _walk_to_read(self) -> np.ndarray:
        """What the kernels need to know to read this tree: :data:`nodes.WALK` ``[1]``."""
        walk = np.zeros(1, WALK)
        walk["discount"], walk["zero_sum"], walk["proofs"] = self.discount, self.zero_sum, self.zero_sum
        return walk

    def is_decided(self, left: int) -> bool:
        """Whether the most visited child of the root stays so after ``left`` further simulations; false where some are
        solved, since then values decide (as they do if one of those simulations solves one)."""
        children = self.children(0)
        if not children or any(self.is_solved(child) for child in children):
            return False
        visits = sorted(self._nodes["visits"][np.array(children, np.int64)].tolist())
        return len(visits) == 1 or visits[-1] - visits[-2] > left

    def discount_into(self, node: int) -> float:
        """γ of the action into a node, 1 where chance moves there: its value is reward + γ · the value of the state."""
        return float(discount_into(self.player(self.source(node)), self.discount))

    def seen_by_mover(self, node: int, value: float | np.ndarray) -> float:
        """A value for player 0, or the values for all, as seen by who moves at the node."""
        player = max(self.player(self.source(node)), 0)
        if isinstance(value, np.ndarray):
            return float(value[player])
        return -value if self.zero_sum and player == 1 else value

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
        sum 1 (the prior where none was visited), nothing for an action that what is proven rules out (``targets.py``).
        After a search with ``gumbel`` the improved policy (``gumbel.py``)."""
        children = self.children(node)
        records = self._nodes[np.array(children, np.int64)]
        visits = records["visits"].astype(np.float64)
        if visits.any() and self.settings.get("selection") == "gumbel":
            shares = _improved_policy(self._nodes, self._gumbel_options(), self.source(node))
        else:
            known, _, values = self.child_numbers(node)
            final = self.settings.get("final", "visits")
            shares = visit_shares(visits, values, records["prior"].astype(np.float64), known, final)
        return [self.actions[child] for child in children], shares

    def begin(self, root: Root) -> None:
        """Take what was seen and done before the root from ``root``."""
        self._transcripts[0] = tuple(root.transcript)
        self.before_root.update(root.others)
        self.moves = (
            [turn.text for turn in root.transcript if turn.is_agent] if root.moves is None else list(root.moves)
        )

    # ---- growing ----------------------------------------------------------------------------------------------

    def add_children(
        self,
        node: int,
        actions: Sequence[str],
        states: Sequence[Any],
        priors: np.ndarray,
        logps: Sequence[float],
        rewards: Sequence[float] | np.ndarray,
        flags: Sequence[int],
        positions: Sequence[Hashable] = (),
        players: Sequence[int] | None = None,
    ) -> int:
        """Give an unexpanded node its children (none: a dead end); returns the index of the first.

        rewards: of each step for the player who takes it, or float ``[children, players]`` where all are kept.
        players: who moves in each child's state (``CHANCE``, ``TERMINAL``); default player 0.
        """
        count = len(actions)
        if count > MAX_CHILDREN:
            raise ValueError(f"{count} actions at one node; a node holds at most {MAX_CHILDREN}")
        if self._values.shape[1] and count:
            earned = np.array(rewards, np.float64)
            first = self.add_block(node, priors, earned[:, max(self.player(node), 0)], flags, players)
            self._values[first : self.size] = np.concatenate([np.zeros_like(earned), earned], axis=1)
        else:
            first = self.add_block(node, priors, rewards, flags, players)
        self.actions.extend(actions)
        self._states.extend(states)
        self.logps.extend(logps)
        self._positions.extend(positions or [None] * count)
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
        children = self.children(node)
        self._nodes["hint"][np.array(children, np.int64)] = hints

    def set_hint(self, node: int, hint: float) -> None:
        """Set one node's hint: under ``gumbel``, what the evaluator said of its state for who moves there."""
        self._nodes[self.source(node)]["hint"] = hint

    def mix_root_prior(self, noise: np.ndarray, fraction: float) -> None:
        """Mix noise (float64 ``[root's children]``, sum 1) into the root's prior."""
        children = np.array(self.children(0), np.int64)
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

    def log_turn(self, node: int, turn: Turn) -> None:
        """Keep the tokens with which the policy took the action into ``node``."""
        self._agent_turns[node] = turn

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

    def abandon(self, leaf: int, error: str, walk: np.ndarray, path: np.ndarray | None = None) -> None:
        """Take a selected leaf's simulation back: it could not be evaluated, for the reason given."""
        self.count_failure(error)
        self.take_back(leaf, walk, path)

    def close_action(self, child: int, error: str, walk: np.ndarray, path: np.ndarray | None = None) -> None:
        """Take back the simulation that selected an action whose step failed; it is not tried again."""
        self.last_error = error
        self.take_back(child, walk, path)

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
        visits, value, returns = self.visits(child), self.mean(child), self.returns(child)
        chooser, reward = self.chooser(child), float(self._nodes[child]["reward"])
        discount = self.discount_into(child)
        self._keep_known()
        earned = self._values[child, self.players :].copy() if self._values.shape[1] else None
        order, place = _subtree(self._nodes[: self.size], child, self.settings.get("selection") == "gumbel")
        nodes = self._nodes[order]
        nodes["parent"] = np.where(nodes["parent"] >= 0, place[nodes["parent"]], -1)
        nodes["first_child"] = np.where(nodes["first_child"] >= 0, place[nodes["first_child"]], -1)
        for name in ("_states", "actions", "logps", "_positions", "_transcripts"):
            kept = getattr(self, name)
            setattr(self, name, [kept[old] for old in order.tolist()])
        moved = {int(place[old]): turn for old, turn in self._agent_turns.items() if place[old] > 0}
        asked = {
            int(place[self.source(old)]): known for old, known in self.asked.items()
        }  # as the children, handed over
        self.asked = {node: known for node, known in asked.items() if node >= 0}
        self._agent_turns = moved
        if self._values.shape[1]:
            self._values = self._values[order]
        self._nodes = nodes
        self._head["size"] = self.size = len(order)
        root = self._nodes[0]
        root["parent"], root["prior"], root["reward"] = -1, 1.0, 0.0
        if visits:
            if earned is not None:
                states = (returns - earned) / discount if discount else returns
                self._values[0, : self.players] = states * visits
                self._values[0, self.players :] = 0.0
                root["value_sum"] = states[max(int(root["player"]), 0)] * visits
            else:
                of_state = (value - reward) / discount if discount else value
                same = not self.zero_sum or chooser == max(int(root["player"]), 0)
                root["value_sum"] = (of_state if same else -of_state) * visits
        self.actions[0], self.logps[0] = "", float("nan")
        if self.settings.get("transpositions") and self.simulator is not None:
            self._transcripts = [None] * self.size  # some came through parents that are gone
        self._transcripts[0] = transcript
        self._index_states()
        self.forget_plan()
        self._worded = self._word_bytes = 0
        self.noisy, self.stopped = False, ""
        self.counters["simulations"] = visits

    def _keep_known(self) -> None:
        """What is known of solved states that other nodes hold, as the means of the edges to them, since these may hold
        them next."""
        nodes, walk = self._nodes, self._walk_to_read()
        for edge in np.flatnonzero(nodes["flags"][: self.size] & LINKED).tolist():
            if self.is_solved(edge) and not self.proof(edge) and not self.has(self.source(edge), FAILED):
                visits = max(self.visits(edge), 1)
                for player in range(self.players if self._values.shape[1] else 0):
                    self._values[edge, player] = visits * _solved_return(nodes, self._values, walk, edge, player)
                nodes["value_sum"][edge] = visits * _solved_return(nodes, self._values, walk, edge, self.chooser(edge))

    def mark_path(self, path: np.ndarray) -> None:
        """A simulation is under way on this path."""
        self._nodes["pending"][path] += 1

    def mark_under_way(self, node: int) -> None:
        """A simulation is under way to this node."""
        self.mark_path(_path(self._nodes, node))

    # ---- from disk ------------------------------------------------------------------------------------------------

    def has_transcript(self, node: int) -> bool:
        """Whether the node's transcript is known without asking the simulator."""
        return self._transcripts[node] is not None

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

    def remember_observation(self, node: int, text: str) -> None:
        """Set what was observed at a node; nothing happens where a transcript before it is unknown."""
        before, _ = self._last_decision(node)
        if before < 0 or self._transcripts[before] is not None:
            self._transcripts[node] = self._with_turns_into(node, text)

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
                if not self.has(node, TERMINAL | LINKED | UNSTEPPED):
                    self.known.setdefault((depths[node], state), node)

    def all_returns(self) -> np.ndarray:
        """The sums of all players' returns beside each node, and their rewards: float64 ``[nodes, 2 · players]``, or
        without columns where one number says all."""
        return self._values[: self.size if self._values.shape[1] else 0]

    def take_all_returns(self, returns: np.ndarray) -> None:
        """Set what :meth:`all_returns` gave."""
        if returns.shape != (self.size, 2 * self.players):
            raise ValueError(f"returns of shape {returns.shape} for {self.size} nodes and {self.players} players")
        self._values = np.ascontiguousarray(returns, np.float64)

    def beside_nodes(self) -> dict[str, Any]:
        """What steers the tree beside its nodes, as JSON-able numbers."""
        head = {name: self._head[name][0].item() for name in ("low", "high", "noise", "failed")}
        head |= {name: repr(head[name]) for name in ("low", "high")}  # JSON has no infinity
        return {"head": head, "gumbel": self._gumbel.tolist(), "considered": self._considered.tolist()} | {
            "noisy": self.noisy,
            "stopped": self.stopped,
            "asked": sorted([node, *known] for node, known in self.asked.items()),
        }

    def take_beside_nodes(self, beside: dict[str, Any]) -> None:
        """Set what :meth:`beside_nodes` gave."""
        for name, value in beside["head"].items():
            self._head[name] = float(value) if name in ("low", "high") else value
        self._gumbel = np.array(beside["gumbel"], np.float64)
        self._considered = np.array(beside["considered"], np.int64)
        self.noisy, self.stopped = bool(beside["noisy"]), str(beside["stopped"])
        self.asked = {int(node): [int(proposed), int(vain)] for node, proposed, vain in beside.get("asked", ())}
