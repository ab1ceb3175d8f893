"""The words beside a tree's numbers: states, actions, and what each player saw and did until a node.

A player's transcript is its own: a node has the words of who is to move there, and other players' turns are not in
them. Transcripts are put together when they are asked for, from the observations at that player's decisions.
"""

from collections.abc import Hashable, Sequence
from typing import Any

from ...envs.play.task import Root
from ...envs.play.transcript import Transcript, Turn, acted, observed, said
from ...envs.simulator import Simulator
from .nodes import ENDED, FAILED, UNSTEPPED
from .reading import Reading


class _States(Sequence[Any]):
    """The states of a tree by node index; one that was not stepped into yet is made when it is read."""

    def __init__(self, tree: "Transcripts") -> None:
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


class Transcripts(Reading):
    """A tree with words, all by node index: ``_states`` (None where no simulation was), ``actions``, ``logps``,
    ``_positions`` and ``_transcripts`` (None where nobody asked yet), ``_agent_turns`` (those with logged tokens)."""

    simulator: Simulator[Any] | None

    def __init__(self, state: Any, transcript: Transcript, capacity: int, players: int, vector: bool) -> None:
        super().__init__(capacity, players, vector)
        self._states: list[Any] = [state]
        self.actions: list[str] = [""]
        self.logps: list[float] = [float("nan")]
        self._positions: list[Hashable] = [None]
        self._transcripts: list[Transcript | None] = [tuple(transcript)]
        self.before_root: dict[int, Transcript] = {}
        """What players who do not move at the root saw and did before it."""
        self.moves = [turn.text for turn in transcript if turn.is_agent]
        """What was done since the task's first decision until the root, by all players and luck."""
        self._agent_turns: dict[int, Turn] = {}

    def begin(self, root: Root) -> None:
        """Take what was seen and done before the root from ``root``."""
        self._transcripts[0] = tuple(root.transcript)
        self.before_root.update(root.others)
        self.moves = (
            [turn.text for turn in root.transcript if turn.is_agent] if root.moves is None else list(root.moves)
        )

    @property
    def states(self) -> Sequence[Any]:
        """The state of each node."""
        return _States(self)

    def visits(self, node: int) -> int:
        return int(self._nodes[node]["visits"])

    def step_into(self, node: int) -> None:
        """Step the simulator into a child that was not stepped into yet."""
        raise NotImplementedError

    def beside(self) -> tuple[list[Any], ...]:
        """The lists that have an entry for each node."""
        return self.actions, self._states, self.logps, self._positions, self._transcripts

    def keep_words(self, order: Sequence[int]) -> None:
        """Let go of the words of all nodes but these, which stand in this order from here on."""
        for beside in self.beside():
            beside[:] = [beside[old] for old in order]

    def is_terminal(self, node: int) -> bool:
        """Whether the episode is over at the node. Without a simulator, and where the step into the node failed, a node
        that no simulation reached counts as not terminal."""
        if self.simulator is not None and self.has(node, UNSTEPPED) and not self.has(node, FAILED):
            self.step_into(node)
        return self.has(node, ENDED)

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

    def has_transcript(self, node: int) -> bool:
        """Whether the node's transcript is known without asking the simulator."""
        return self._transcripts[node] is not None

    def remember_observation(self, node: int, text: str) -> None:
        """Set what was observed at a node; nothing happens where a transcript before it is unknown."""
        before, _ = self._last_decision(node)
        if before < 0 or self._transcripts[before] is not None:
            self._transcripts[node] = self._with_turns_into(node, text)

    def log_turn(self, node: int, turn: Turn) -> None:
        """Keep the tokens with which the policy took the action into ``node``."""
        self._agent_turns[node] = turn
