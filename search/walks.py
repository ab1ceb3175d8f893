"""How a simulation comes to its leaf, and how what was found there goes back: one object for each way of walking.

A :class:`Walk` is chosen once for a search and passed through its batches: down a plain tree (:class:`PlainWalk`),
among all nodes of one (``nodewise.py``), or through information sets (``information.py``).
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ..envs.opponents import endless_chance
from ..envs.play.transcript import Transcript
from ..envs.simulator import MOST_DRAWS, Simulator
from .calls import failure
from .expansion import Expansion
from .selected import Selected
from .settings import SearchSettings
from .trees.nodes import ENDED, EXPANDED, FAILED, OUTCOMES, SOLVED, UNSTEPPED, VALUED
from .trees.stepping import Refused
from .trees.tree import Tree


class Walk(Protocol):
    """``all_returns``: whether a leaf's value is that of all players, rather than one number."""

    all_returns: bool

    def next(self, tree: Tree, drawn: Sequence[Selected]) -> Selected | None:
        """The next leaf of a tree, marked as under way; None where there is none that is not. ``drawn``: the leaves of
        this tree that are in the batch already."""
        ...

    def transcript(self, leaf: Selected) -> Transcript:
        """What policy, critic and evaluator read at a leaf."""
        ...

    def expand(self, leaves: list[Selected]) -> None:
        """Give children to leaves that have none: one call of the policy for all of them."""
        ...

    def back_up(self, leaf: Selected) -> str:
        """Tell a leaf's value to the nodes above it. Returns what failed meanwhile, in words."""
        ...


class PlainWalk:
    """Down from the root by the rules of ``trees/descent.py``. A chance node is no leaf: it gets its outcomes, and the
    walk goes on to one of them."""

    def __init__(
        self,
        simulator: Simulator[Any],
        settings: SearchSettings,
        record: np.ndarray,
        expansion: Expansion,
        zero_sum: bool,
        reads_transcripts: bool,
    ) -> None:
        self.simulator = simulator
        self.settings = settings
        self.record = record
        self.expansion = expansion
        self.zero_sum = zero_sum
        self.reads_transcripts = reads_transcripts
        self.all_returns = simulator.players > 1 and not zero_sum
        self.luck_is_drawn = False

    def next(self, tree: Tree, drawn: Sequence[Selected]) -> Selected | None:
        """As :meth:`Walk.next`. An action whose step fails is closed, and another selected in its place."""
        outcomes, draws = 0, tree.draws
        while True:
            luck = tree.luck(self.luck_is_drawn)
            leaf = self.selected(tree, drawn)
            if leaf is None:
                return None
            if leaf.error:
                if not _costs_itself_alone(leaf):
                    return leaf
                tree.close_action(leaf.node, leaf.error, self.record, leaf.path)
                if not self.settings.random_ties:  # of ties broken alike once more, some would never be chosen
                    tree.set_luck(luck)  # the outcomes of chance stay, as if the action had not been tried
                continue
            if not leaf.flags & OUTCOMES:
                return leaf
            self.check_chance()
            if leaf.flags & (EXPANDED | SOLVED):
                return leaf
            try:
                outcomes += 1
                if outcomes > MOST_DRAWS:
                    raise endless_chance(self.simulator)
                self.expansion.expand_chance(tree, tree.source(leaf.node))
            except Refused:
                raise
            except Exception as error:
                leaf.error = failure("the simulator", error)
                return leaf
            tree.release(leaf.node, leaf.path)
            tree.draws = draws  # so that the way back here is the same, and one outcome is drawn beyond

    def selected(self, tree: Tree, drawn: Sequence[Selected]) -> Selected | None:
        """One way down, wherever it ends."""
        node, depth, flags = tree.select(self.record)
        if node < 0:
            return None
        return reached(tree, node, depth, flags, tree.path_taken(depth) if self.settings.transpositions else None)

    def check_chance(self) -> None:
        """Raises :class:`Refused` where the settings have no place for chance."""
        if self.settings.backup == "max":
            raise Refused(
                f"backup='max' keeps the best return, and in {type(self.simulator).__name__} that is the luckiest;"
                " use 'bellman_max', which takes the best action and the mean of luck"
            )

    def transcript(self, leaf: Selected) -> Transcript:
        """As :meth:`Walk.transcript`; nothing where nobody reads it."""
        return leaf.tree.transcript(leaf.node) if self.reads_transcripts else ()

    def expand(self, leaves: list[Selected]) -> None:
        """As :meth:`Walk.expand`."""
        self.expansion.expand(leaves)

    def back_up(self, leaf: Selected) -> str:
        """As :meth:`Walk.back_up`."""
        tree = leaf.tree
        if leaf.flags & ENDED and not leaf.flags & VALUED:
            seen = leaf.value if not self.zero_sum or tree.chooser(leaf.node) == 0 else -leaf.value
            tree.set_terminal_value(leaf.node, seen)
            leaf.value = 0.0
        elif self.settings.rule.name == "gumbel" and not leaf.flags & VALUED:
            tree.set_hint(leaf.node, tree.seen_by_mover(leaf.node, leaf.value))
        tree.back_up(leaf.node, leaf.value, self.record, leaf.path)
        return self.expansion.ask_bonus(tree, self.nodes_with_bonus(leaf)) if self.expansion.bonus is not None else ""

    def nodes_with_bonus(self, leaf: Selected) -> list[int]:
        """The nodes whose bonus a simulation to this leaf may have changed: those on its path and their siblings."""
        return [child for node in leaf.tree.path(leaf.node)[:-1] for child in leaf.tree.children(node)]


def _costs_itself_alone(leaf: Selected) -> bool:
    """Whether a step that failed costs no leaf: an action beside others that have not failed. An outcome of chance
    does, whenever it is drawn: without it the mean would be another."""
    tree = leaf.tree
    if tree.has(leaf.node, FAILED):
        return False
    parent = tree.parent(leaf.node)
    first, count = tree.children(parent)[0], len(tree.children(parent))
    failed = int(np.count_nonzero(tree.nodes["flags"][first : first + count] & FAILED))
    return not tree.has(parent, OUTCOMES) and failed + 1 < count


def reached(tree: Tree, node: int, depth: int, flags: int, path: np.ndarray | None = None) -> Selected:
    """A leaf that was selected, with its state, or with the ``error`` of its step. The simulator is stepped into it
    where it was not yet; an outcome of chance whose step failed is not stepped into again."""
    leaf = Selected(tree, node, depth, flags, path)
    if flags & FAILED and flags & SOLVED:
        leaf.error = tree.last_error
        return leaf
    if flags & UNSTEPPED:
        try:
            tree.step_into(node)
        except Refused:
            raise
        except Exception as error:
            tree.counters["failed_actions"] += 1
            leaf.error = failure("the simulator", error)
            return leaf
        leaf.flags = int(tree.nodes["flags"][node])
    leaf.state = tree.states[tree.source(node)]
    return leaf
