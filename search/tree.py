"""The search tree: one structured numpy array of nodes, numba operations on it, and texts and states beside it.

Nothing outside this file knows the layout of :data:`NODE`. A node is a 32-byte record; the children of a node are
contiguous; the array grows by doubling. Node 0 is the root. Texts (actions), states, transcripts and logged
log-probabilities are Python lists by node index.

Conventions:

- ``value_sum / visits`` of a node is the mean return of the action that led into it (reward included); of the root it
  is the value of its state (``backup.py``).
- A node is evaluated once, when a simulation first reaches it, and expanded at the same time. So for every expanded
  node, root included, visits = 1 + the visits of its children, as long as it is neither at the depth limit nor a dead
  end.
- ``reward`` of a node is what the step into it earned. Where outcomes are hidden from the search, rewards are zero
  and a terminal node gets there what the evaluator said of it.
- ``solved`` means that nothing is left to simulate below: a terminal whose value is known, a node that could not be
  evaluated, or a node whose children are all solved.
- ``pending`` counts the simulations that are under way through a node (several leaves of one tree in one batch). Each
  counts as a visit with the return −virtual_loss until its own return is known.

Not handled: more than one player, chance nodes, transpositions (equal states in two places are two nodes).
"""

from collections.abc import Hashable, Sequence
from typing import Any, Final, Literal

import numpy as np
from numba import njit

from ..envs.simulator import Simulator
from .backup import BELLMAN, action_return, visit_weighted_value
from .selection import PUCT, UCB1, puct, ucb1, uct
from .transcript import Transcript, Turn, acted, observed

NODE: Final = np.dtype(
    [
        ("parent", np.int32),
        ("first_child", np.int32),
        ("children", np.uint16),
        ("flags", np.uint8),
        ("pending", np.uint8),
        ("visits", np.int32),
        ("value_sum", np.float64),
        ("prior", np.float32),
        ("reward", np.float32),
    ]
)
assert NODE.itemsize == 32

EXPANDED: Final = 1
TERMINAL: Final = 2
VALUED: Final = 4  # terminal, and its return is known
SOLVED: Final = 8
FAILED: Final = 16  # a model or simulator call about this node failed
INVALID: Final = 32  # the environment called the action into this node invalid

MAX_CHILDREN: Final = 65535
MAX_PENDING: Final = 255
COUNTERS: Final = (
    "simulations",
    "model_calls",
    "failed_leaves",
    "invalid_actions",
    "merged_proposals",
    "dropped_revisits",
)

FinalRule = Literal["visits", "value"]


@njit(cache=True)
def _state_value(nodes: np.ndarray, node: int, discount: float) -> float:
    """V of the node's state, from its Q: (Q − r) / γ. Zero where nothing is known."""
    record = nodes[node]
    if record.visits == 0 or discount == 0.0:
        return 0.0
    value = record.value_sum / record.visits
    return value if node == 0 else (value - record.reward) / discount


@njit(cache=True)
def _best_scoring_child(
    nodes: np.ndarray,
    node: int,
    rule: int,
    exploration: float,
    unvisited_as_parent: bool,
    virtual_loss: float,
    discount: float,
) -> int:
    parent_visits = float(nodes[node].visits) + float(nodes[node].pending)
    unvisited = _state_value(nodes, node, discount) if unvisited_as_parent else 0.0
    best = -1
    best_score = -np.inf
    first = nodes[node].first_child
    for child in range(first, first + nodes[node].children):
        record = nodes[child]
        if record.flags & SOLVED:
            continue
        pending = float(record.pending)
        visits = float(record.visits) + pending
        value = (record.value_sum - virtual_loss * pending) / visits if visits > 0.0 else unvisited
        if rule == PUCT:
            score = puct(value, visits, parent_visits, exploration, record.prior)
        elif rule == UCB1:
            score = ucb1(value, visits, parent_visits, exploration)
        else:
            score = uct(value, visits, parent_visits, exploration, record.prior)
        if score > best_score:
            best_score = score
            best = child
    return best


@njit(cache=True)
def _select(
    nodes: np.ndarray,
    rule: int,
    exploration: float,
    unvisited_as_parent: bool,
    virtual_loss: float,
    discount: float,
    solve: bool,
) -> tuple[int, int, int]:
    """(leaf, its depth, its flags); the leaf is −1 where the walk met a leaf that is already under way."""
    node = 0
    depth = 0
    while nodes[node].children > 0:
        node = _best_scoring_child(nodes, node, rule, exploration, unvisited_as_parent, virtual_loss, discount)
        depth += 1
    flags = nodes[node].flags
    if nodes[node].pending > 0 and (solve or not flags & VALUED):
        return -1, depth, flags
    leaf = node
    while node >= 0:
        nodes[node].pending += 1
        node = nodes[node].parent
    return leaf, depth, flags


@njit(cache=True)
def _close(nodes: np.ndarray, node: int) -> None:
    """Mark a node solved, and every ancestor whose children are all solved."""
    nodes[node].flags |= SOLVED
    node = nodes[node].parent
    while node >= 0:
        first = nodes[node].first_child
        for child in range(first, first + nodes[node].children):
            if not nodes[child].flags & SOLVED:
                return
        nodes[node].flags |= SOLVED
        node = nodes[node].parent


@njit(cache=True)
def _back_up(nodes: np.ndarray, leaf: int, value: float, rule: int, discount: float, solve: bool) -> None:
    node = leaf
    while node >= 0:
        record = nodes[node]
        record.visits += 1
        record.pending -= 1
        if rule == BELLMAN and node != leaf:
            value_sum = 0.0
            visits = 0.0
            for child in range(record.first_child, record.first_child + record.children):
                value_sum += nodes[child].value_sum
                visits += nodes[child].visits
            value = visit_weighted_value(value_sum, visits)
        if node > 0:
            value = action_return(record.reward, discount, value)
        if rule == BELLMAN:
            record.value_sum = value * record.visits
        else:
            record.value_sum += value
        node = record.parent
    record = nodes[leaf]
    if solve and record.children == 0 and record.flags & (VALUED | EXPANDED):
        _close(nodes, leaf)


@njit(cache=True)
def _abandon(nodes: np.ndarray, leaf: int) -> None:
    """Take a simulation back whose leaf could not be evaluated; the leaf is not tried again, unless it is the root."""
    node = leaf
    while node >= 0:
        nodes[node].pending -= 1
        node = nodes[node].parent
    nodes[leaf].flags |= FAILED
    if leaf > 0:
        _close(nodes, leaf)


@njit(cache=True)
def _add_children(
    nodes: np.ndarray, parent: int, first: int, priors: np.ndarray, rewards: np.ndarray, flags: np.ndarray
) -> None:
    nodes[parent].first_child = first
    nodes[parent].children = priors.shape[0]
    nodes[parent].flags |= EXPANDED
    for i in range(priors.shape[0]):
        record = nodes[first + i]
        record.parent = parent
        record.first_child = -1
        record.children = 0
        record.flags = flags[i]
        record.pending = 0
        record.visits = 0
        record.value_sum = 0.0
        record.prior = priors[i]
        record.reward = rewards[i]


@njit(cache=True)
def _path(nodes: np.ndarray, node: int) -> np.ndarray:
    length = 0
    step = node
    while step >= 0:
        length += 1
        step = nodes[step].parent
    path = np.empty(length, np.int64)
    for place in range(length - 1, -1, -1):
        path[place] = node
        node = nodes[node].parent
    return path


@njit(cache=True)
def _best_return(nodes: np.ndarray, node: int, discount: float) -> float:
    """The largest return of any visited path that starts with the action into ``node`` and ends in a childless
    node."""
    record = nodes[node]
    best = -np.inf
    for child in range(record.first_child, record.first_child + record.children):
        if nodes[child].visits > 0:
            best = max(best, _best_return(nodes, child, discount))
    if best == -np.inf:
        return record.value_sum / record.visits if record.visits > 0 else -np.inf
    return action_return(record.reward, discount, best)


class Tree:
    """One search tree, with the words beside its numbers.

    ``states``, ``actions`` (``""`` for the root) and ``logps`` (log-probability of the action under the policy that
    searched, summed over its tokens, before any mixing; NaN for the root) are lists by node index. ``task`` is a
    JSON-able dict that says which episode the root belongs to (``env_id``, ``seed``, ``options`` where known),
    ``index`` the tree's place in its search, ``counters`` what the search did (``COUNTERS``), ``last_error`` the last
    failure in words, ``settings`` the search settings as a JSON-able dict, ``rng`` the tree's own generator.
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
    ) -> None:
        self.simulator = simulator
        self.task: dict[str, Any] = {} if task is None else task
        self.index = index
        self.rng = np.random.default_rng(index) if rng is None else rng
        self.discount = float(discount)
        self.settings: dict[str, Any] = {}
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self.last_error = ""
        self.size = 1
        self.states: list[Any] = [state]
        self.actions: list[str] = [""]
        self.logps: list[float] = [float("nan")]
        self._positions: list[Hashable] = [None]
        self._transcripts: list[Transcript | None] = [tuple(transcript)]
        self._agent_turns: dict[int, Turn] = {}
        self._nodes = np.zeros(max(capacity, 1), NODE)
        self._nodes[0] = (-1, -1, 0, 0, 0, 0, 0.0, 1.0, 0.0)

    def __len__(self) -> int:
        return self.size

    def __repr__(self) -> str:
        return f"Tree(index={self.index}, nodes={self.size}, visits={int(self._nodes[0]['visits'])}, task={self.task})"

    @property
    def nodes(self) -> np.ndarray:
        """The records of all nodes: structured array ``[nodes]`` of :data:`NODE`; a view."""
        return self._nodes[: self.size]

    # ---- reading ----------------------------------------------------------------------------------------------

    def parent(self, node: int) -> int:
        """The parent's index; −1 for the root."""
        return int(self._nodes[node]["parent"])

    def children(self, node: int = 0) -> range:
        """The indices of a node's children, in the order of its actions."""
        record = self._nodes[node]
        first = int(record["first_child"])
        return range(first, first + int(record["children"]))

    def depth(self, node: int) -> int:
        """Steps from the root to ``node``."""
        return len(_path(self._nodes, node)) - 1

    def path(self, node: int) -> list[int]:
        """Node indices from the root to ``node``, both included."""
        return _path(self._nodes, node).tolist()

    def path_return(self, node: int) -> float:
        """The undiscounted sum of the rewards from the root to ``node``."""
        return float(sum(float(self._nodes[step]["reward"]) for step in self.path(node)))

    def visits(self, node: int) -> int:
        return int(self._nodes[node]["visits"])

    def value(self, node: int) -> float:
        """The mean return of the action into ``node`` (of the state, for the root); NaN where it was never visited."""
        record = self._nodes[node]
        visits = int(record["visits"])
        return float(record["value_sum"]) / visits if visits else float("nan")

    def has(self, node: int, flag: int) -> bool:
        return bool(int(self._nodes[node]["flags"]) & flag)

    def is_terminal(self, node: int) -> bool:
        return self.has(node, TERMINAL)

    def is_solved(self, node: int = 0) -> bool:
        return self.has(node, SOLVED)

    def agent_turn(self, node: int) -> Turn:
        """The turn in which the agent took the action into ``node``, with its tokens where the policy logged them."""
        return self._agent_turns.get(node) or acted(self.actions[node])

    def transcript(self, node: int = 0) -> Transcript:
        """What was said up to ``node``: the root's transcript, then an action and an observation for each step."""
        found = self._transcripts[node]
        if found is not None:
            return found
        if self.simulator is None:
            raise ValueError(
                f"node {node} of this tree has no stored observation; load the tree with its simulator, or save it with"
                " observations=True (nodes that were never visited have none)"
            )
        before = self.transcript(self.parent(node))
        turn = observed(self.simulator.observation(self.states[node]))
        transcript = (*before, self.agent_turn(node), turn)
        self._transcripts[node] = transcript
        return transcript

    def best_child(self, node: int = 0, final: FinalRule = "visits") -> int:
        """The child to play: ``visits`` the most visited (then the better value), ``value`` the best mean return
        among those visited; −1 where there is none.

        Solved children are no longer visited, so their visits say nothing: each counts with the best return that was
        found below it, and is preferred where that is at least the value of the child that the rule would choose.
        Where no child was visited, the largest prior decides.
        """
        if final not in ("visits", "value"):
            raise ValueError(f"final is {final!r}; expected 'visits' or 'value'")
        nodes = self._nodes
        children = self.children(node)
        visited = [child for child in children if nodes[child]["visits"] > 0]
        if not visited:
            return max(children, key=lambda child: (float(nodes[child]["prior"]), -child), default=-1)
        open_children = [child for child in visited if not self.is_solved(child)]
        solved = [(_best_return(nodes, child, self.discount), -child) for child in visited if self.is_solved(child)]
        best = -1
        if open_children:

            def rank(child: int) -> tuple[float, float, int]:
                value = self.value(child)
                return (self.visits(child), value, -child) if final == "visits" else (value, self.visits(child), -child)

            best = max(open_children, key=rank)
        if solved:
            known, negative = max(solved)
            if best < 0 or known >= self.value(best):
                best = -negative
        return best

    def best_action(self, final: FinalRule = "visits") -> str:
        """The action to play at the root (:meth:`best_child`). Raises ValueError where the root was never expanded."""
        child = self.best_child(0, final)
        if child < 0:
            raise ValueError(f"the root has no children: {self.last_error or 'no simulation was run'}")
        return self.actions[child]

    def policy_target(self, node: int = 0) -> tuple[list[str], np.ndarray]:
        """The actions of ``node`` and the share of its children's visits that each got: float64 ``[children]``,
        sum 1 (the prior where none was visited)."""
        children = self.children(node)
        records = self._nodes[children.start : children.stop]
        weights = records["visits"].astype(np.float64)
        if weights.sum() == 0.0:
            weights = records["prior"].astype(np.float64)
        return [self.actions[child] for child in children], weights / max(weights.sum(), 1e-300)

    # ---- growing ----------------------------------------------------------------------------------------------

    def add_children(
        self,
        node: int,
        actions: Sequence[str],
        states: Sequence[Any],
        priors: np.ndarray,
        logps: Sequence[float],
        rewards: Sequence[float],
        flags: Sequence[int],
        positions: Sequence[Hashable] = (),
    ) -> int:
        """Give an unexpanded node its children (none: a dead end); returns the index of the first."""
        count = len(actions)
        if count > MAX_CHILDREN:
            raise ValueError(f"{count} actions at one node; a node holds at most {MAX_CHILDREN}")
        first = self.size
        if first + count > len(self._nodes):
            grown = np.zeros(max(2 * len(self._nodes), first + count), NODE)
            grown[:first] = self._nodes[:first]
            self._nodes = grown
        _add_children(
            self._nodes,
            node,
            first if count else -1,
            np.asarray(priors, np.float64),
            np.asarray(rewards, np.float64),
            np.asarray(flags, np.int64),
        )
        self.size = first + count
        self.actions.extend(actions)
        self.states.extend(states)
        self.logps.extend(logps)
        self._positions.extend(positions or [None] * count)
        self._transcripts.extend([None] * count)
        return first

    def positions_on_path(self, node: int) -> set[Hashable]:
        """The simulator's positions from the root to ``node``."""
        positions = self._positions
        if positions[0] is None and self.simulator is not None:
            positions[0] = self.simulator.position(self.states[0])
        return {positions[step] for step in _path(self._nodes, node).tolist()}

    def log_turn(self, node: int, turn: Turn) -> None:
        """Keep the tokens with which the policy took the action into ``node``."""
        self._agent_turns[node] = turn

    def select(
        self,
        rule: int,
        exploration: float,
        unvisited_as_parent: bool,
        virtual_loss: float,
        discount: float,
        solve: bool,
    ) -> tuple[int, int, int]:
        """Walk to a leaf and mark it under way: (leaf, depth, flags); the leaf is −1 where that leaf already is."""
        return _select(self._nodes, rule, exploration, unvisited_as_parent, virtual_loss, discount, solve)

    def back_up(self, leaf: int, value: float, rule: int, discount: float, solve: bool) -> None:
        """Tell a selected leaf's value (of its state) to all nodes above it."""
        _back_up(self._nodes, leaf, value, rule, discount, solve)

    def set_terminal_value(self, node: int, value: float) -> None:
        """Remember what the evaluator said of a terminal node whose outcome is hidden."""
        self._nodes[node]["reward"] = value
        self._nodes[node]["flags"] |= VALUED

    def forget_pending(self) -> None:
        """No simulation is under way any more: an interrupted search left some."""
        self._nodes["pending"] = 0

    def abandon(self, leaf: int, error: str) -> None:
        """Take a selected leaf's simulation back: it could not be evaluated, for the reason given."""
        self.counters["failed_leaves"] += 1
        self.last_error = error
        _abandon(self._nodes, leaf)

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
        self.size = count
        self.actions = list(actions)
        self.logps = list(logps)
        self.states = [None] * count
        self._positions = [None] * count
        self._transcripts = [self._transcripts[0], *([None] * (count - 1))]
        self._agent_turns = dict(agent_turns)

    def remember_observation(self, node: int, text: str) -> None:
        """Set what was observed at a node; its parent's transcript must be known."""
        before = self.transcript(self.parent(node))
        self._transcripts[node] = (*before, self.agent_turn(node), observed(text))

    def attach(self, simulator: Simulator[Any], states: Sequence[Any]) -> None:
        """Give the tree its simulator and the state of every node."""
        self.simulator = simulator
        self.states = list(states)
        self._positions = [simulator.position(state) for state in states]
