"""Search under hidden information: information-set Monte-Carlo tree search (Cowling, Powley and Whitehouse, 2012).

Each simulation draws a state that the root's player cannot tell from the true one (``Simulator.resample``) and walks in
it. Nodes are information sets: of the root's player (``single_observer``: whatever he cannot see is one node), or of
whoever moves (``multiple_observer``, as OpenSpiel's ``ISMCTSBot``: the others choose by what *they* know). Below each
hang the actions taken there, with visits and mean returns of their own. Among the actions that this determinisation
allows the rule chooses, each scored against how often it was available and with its share of their prior. Chance is
sampled and leaves no node. A set that a walk meets again is another node the second time, so that every walk counts
once at a node.

All returns are carried along the walk, so that general-sum games of any number of players need nothing more; nodes keep
that of the player who moves.

Not handled: several leaves of one tree at once, proofs (nothing is proven by a sample). A subtree is kept by
``InformationTree.reroot_to``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..envs.checked import checked_outcome, checked_player, checked_rewards
from ..envs.opponents import past_chance
from ..envs.play.transcript import Transcript, known, observed
from ..envs.simulator import TERMINAL, Simulator
from .calls import failure
from .expansion import Expansion, prepare_root
from .selected import Selected
from .settings import SearchSettings
from .trees.information_tree import InformationTree
from .trees.nodes import ENDED, EXPANDED, FAILED, INFORMATION, VALUED
from .trees.tree import Tree


class InformationWalk:
    """A :class:`~branchwise.search.walks.Walk` through trees of information sets."""

    all_returns = True

    def __init__(
        self, simulator: Simulator[Any], settings: SearchSettings, record: np.ndarray, expansion: Expansion
    ) -> None:
        self.simulator = simulator
        self.settings = settings
        self.record = record
        self.expansion = expansion

    def next(self, tree: Tree, drawn: Sequence[Selected]) -> Selected:
        """Walk through one determinisation to an information set that was never evaluated, or to an end."""
        assert isinstance(tree, InformationTree)
        viewer = tree.player(0)
        leaf = Selected(tree, 0, 0, 0)
        path, earned = [0], [np.zeros(self.simulator.players)]
        state: Any = None
        try:
            state = self.simulator.resample(tree.states[0], viewer, tree.rng)
            while True:
                node = path[-1]
                if not tree.has(node, EXPANDED) or len(path) // 2 >= self.settings.max_depth:
                    break
                edges = self._edges(leaf, tree, node, state, len(path) // 2)
                if leaf.error:
                    break
                if not len(edges):
                    if len(path) > 1:  # the action that leads here has failed with all that follow it
                        path.pop(), earned.pop()
                    raise RuntimeError(tree.last_error)
                edge = tree.choose_available(node, edges, self.record)
                try:
                    after, gained = self._step(state, tree.actions[edge], tree.rng)
                    mover = checked_player(self.simulator, after)
                except Exception as error:
                    tree.close_edge(edge, edges, failure("the simulator", error))
                    continue
                state = after
                path.append(edge)
                earned.append(gained)
                if mover == TERMINAL:
                    leaf.flags = ENDED | VALUED
                    break
                path.append(tree.information_set(mover, self._key(state, viewer, mover), path))
                earned.append(np.zeros(self.simulator.players))
        except Exception as error:
            leaf.error = failure("the simulator", error)
            tree.counters["failed_actions"] += not tree.has(path[-1], INFORMATION)
        leaf.path, leaf.earned, leaf.state = np.array(path, np.int32), np.array(earned), state
        leaf.node, leaf.depth = path[-1], len(path) // 2
        tree.mark_path(leaf.path)
        if leaf.flags & VALUED:
            leaf.value = np.zeros(self.simulator.players)
        return leaf

    def transcript(self, leaf: Selected) -> Transcript:
        """What the policy reads: all that the player to move knows."""
        mover = leaf.tree.player(leaf.node)
        return (observed(known(self.simulator, leaf.state, mover)),)

    def expand(self, leaves: list[Selected]) -> None:
        """Give each information set the actions of its first determinisation; others are added as they turn up
        (``_add_newcomers``)."""
        self.expansion.propose(leaves)
        for leaf in leaves:
            if leaf.error:
                continue
            assert isinstance(leaf.tree, InformationTree)
            words = leaf.said
            leaf.tree.add_edges(leaf.node, words.actions, self.expansion.priors(words), words.logged)
            if leaf.node == 0:
                prepare_root(leaf.tree, self.settings)

    def back_up(self, leaf: Selected) -> str:
        """As :meth:`Walk.back_up`."""
        assert isinstance(leaf.tree, InformationTree)
        assert leaf.path is not None
        assert leaf.earned is not None
        returns = np.array(leaf.value, np.float64).reshape(-1)  # of one player the value is a plain number
        leaf.tree.back_up_information(leaf.path, leaf.earned, returns, self.record)
        return ""

    def _edges(self, leaf: Selected, tree: InformationTree, node: int, state: Any, depth: int) -> np.ndarray:
        """The nodes of the available actions; where any text may be an answer, of those that were proposed. Without
        those whose step failed before. ``leaf`` takes the words of what fails."""
        edges = tree.edges[node]
        listed = self.simulator.legal_actions(state)
        actions = list(edges) if listed is None else listed
        if any(action not in edges for action in actions):
            leaf.error = self._add_newcomers(tree, node, state, depth)
            if leaf.error:
                return np.zeros(0, np.int64)
        return np.array([edges[action] for action in actions if not tree.has(edges[action], FAILED)], np.int64)

    def _add_newcomers(self, tree: InformationTree, node: int, state: Any, depth: int) -> str:
        """Give an information set the actions that are first available in this determinisation, for which the policy is
        asked by itself. Beside the actions known before they get the share that the policy gives them here; where none
        of those is available, that of as many average ones. Returns what failed, in words."""
        asked = Selected(tree, node, depth, 0, state=state)
        if self.expansion.policy is not None:
            asked.transcript = self.transcript(asked)
        self.expansion.propose([asked])
        if asked.error:
            return asked.error
        edges, words = tree.edges[node], asked.said
        actions, shares = words.actions, self.expansion.priors(words)
        old = [i for i, action in enumerate(actions) if action in edges]
        new = [i for i, action in enumerate(actions) if action not in edges]
        before = sum(tree.prior(edges[actions[i]]) for i in old), float(shares[old].sum())
        scale = before[0] / before[1] if min(before) > 0.0 else len(actions) / len(edges)
        logged = words.logged
        tree.add_edges(node, [actions[i] for i in new], shares[new] * scale, [logged[i] for i in new])
        tree.share_prior(node)
        return ""

    def _step(self, state: Any, action: str, rng: np.random.Generator) -> tuple[Any, np.ndarray]:
        """The state after an action and the chance that follows it, and what each player earned meanwhile."""
        simulator = self.simulator
        state = simulator.step(state, action)
        earned = np.array(checked_rewards(simulator, state), np.float64)

        def draw(state: Any) -> str:
            return checked_outcome(simulator, state, rng)

        def passed(state: Any) -> None:
            earned[:] += checked_rewards(simulator, state)

        return past_chance(simulator, state, draw, passed)[0], earned

    def _key(self, state: Any, viewer: int, mover: int) -> str:
        observer = viewer if self.settings.information == "single_observer" else mover
        return known(self.simulator, state, observer)
