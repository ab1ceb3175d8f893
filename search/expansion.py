"""What hangs below a leaf: asking the policy for actions or their probabilities and a critic for its view of them,
merging proposals that say the same, and keeping what leads somewhere new.

The simulator is stepped into a child when a simulation first reaches it (:func:`reached`), and for all actions of a
leaf at once where the states are needed before: to drop actions that repeat a position (``revisit=False``, unless the
simulator says ``never_repeats``), to find states that are known (``transpositions``), and to count invalid proposals.
An action whose step fails is a child that failed: counted in ``failed_actions``, never tried again, and nothing is
proven by the others but a win.

Sources of the options: K proposals by depth and merging (MCTS-DPO, arXiv 2405.00451; Optima, arXiv 2410.08115);
progressive widening (Coulom 2007; Chaslot et al. 2008), here over the children in order of prior; Dirichlet noise at
the root (AlphaZero). The critic's numbers stand beside each child for first play and mixing (Agent Q, Eq. 10).

Not here: which leaf (``trees/descent.py``), what it is worth (``evaluation.py``), information sets
(``information.py``)."""

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import numpy as np
from rapidfuzz.distance import Levenshtein

from ..envs.checked import LARGEST, checked_outcomes
from ..envs.play.policy import Policy, Proposal
from ..envs.play.sampling import usable
from ..envs.play.transcript import Transcript, acted
from ..envs.promises import fault_of_actions
from ..envs.simulator import Simulator
from .calls import Patience, ask, failure, in_range
from .rules.selection import dirichlet_noise, mixed_prior
from .settings import SearchSettings
from .trees.nodes import EXPANDED, FAILED, INVALID, MAX_CHILDREN, SOLVED, TERMINAL, UNSTEPPED, VALUED
from .trees.stepping import Refused, Stepped, stepped
from .trees.tree import Tree

NOTHING_PROPOSED: Final = "it proposed nothing"

Same = Callable[[str, str], bool]
Bonus = Callable[[Tree, int], float]


class Critic(Protocol):
    """Says of actions what they are worth before any is tried: a ranking model, a Q-model."""

    def values(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> Sequence[np.ndarray]:
        """For each transcript the values of its candidates, for who is to move: float ``[k]``."""
        ...


@dataclass(slots=True, eq=False)
class Selected:
    """A leaf under way: what each stage of a round learned about it. ``value`` is that of its state for player 0, or
    for all players where the tree keeps all returns. ``path`` is filled where nodes have several parents, ``state``
    and ``earned`` (rewards along the path) in trees of information sets."""

    tree: Tree
    node: int
    depth: int
    flags: int
    path: np.ndarray | None = None
    state: Any = None
    earned: np.ndarray | None = None
    transcript: Transcript = ()
    actions: Sequence[str] | None = None
    proposals: list[Proposal] | None = None
    logps: np.ndarray | None = None
    measured: bool = False
    opinions: np.ndarray | None = None
    value: float | np.ndarray = 0.0
    error: str = ""
    proposed: int = 0

    @property
    def rng(self) -> np.random.Generator:
        return self.tree.rng

    @property
    def logged(self) -> list[float]:
        """The log-probability of each action under the policy; NaN where no policy measured it. (``logps``, of which
        the prior is made, are equal numbers without a policy, and shares among proposals.)"""
        if self.proposals is not None:
            return [proposal.logp for proposal in self.proposals]
        assert self.logps is not None
        return self.logps.tolist() if self.measured else [float("nan")] * len(self.logps)


class Children:
    """What the kept actions of a node lead to: parallel lists."""

    __slots__ = ("flags", "kept", "players", "positions", "rewards", "states")

    def __init__(self) -> None:
        self.kept: list[int] = []
        self.states: list[Any] = []
        self.positions: list[Hashable] = []
        self.rewards: list[Any] = []
        self.flags: list[int] = []
        self.players: list[int] = []

    def add(self, action: int, step: Stepped, position: Hashable = None) -> None:
        self.kept.append(action)
        self.states.append(step.state)
        self.positions.append(position)
        self.rewards.append(step.reward)
        self.flags.append(step.flags)
        self.players.append(step.player)


class Expansion:
    """Expands leaves, for one run of the engine. ``policy=None`` gives every action the same prior."""

    def __init__(
        self,
        simulator: Simulator[Any],
        policy: Policy | None,
        critic: Critic | None,
        settings: SearchSettings,
        same: Same | None,
        bonus: Bonus | None,
        count_calls: Callable[..., None],
    ) -> None:
        self.simulator = simulator
        self.policy = policy
        self.critic = critic
        self.settings = settings
        self.same = same
        self.bonus = bonus
        self.count_calls = count_calls
        self.patience = Patience(settings.call_seconds)

    def expand(self, leaves: Sequence[Selected]) -> None:
        """Give children to leaves that have none: one call of the policy for all of them."""
        asked = [leaf for leaf in self.propose(leaves) if not leaf.error]
        self.ask_critic(asked)
        for leaf in asked:
            if not leaf.error:
                self._add_children(leaf)

    def ask_critic(self, leaves: Sequence[Selected]) -> None:
        """Fill in what the critic, if there is one, says of the actions of each leaf."""
        if self.critic is not None:
            ask("critic.values", leaves, self._ask_critic, self._take_opinions, self.patience)
            for leaf in leaves:
                self.count_calls(leaf.tree, 1)

    def propose(self, leaves: Sequence[Selected]) -> list[Selected]:
        """Fill in the actions of each leaf and what the policy says of them. Returns those that have listed actions,
        then the others."""
        to_score: list[Selected] = []
        to_propose: list[Selected] = []
        for leaf in leaves:
            try:
                leaf.actions = self.simulator.legal_actions(leaf.state)
            except Exception as error:
                leaf.error = failure("the simulator", error)
                continue
            if leaf.actions is None:
                to_propose.append(leaf)
            elif fault := fault_of_actions(leaf.actions):
                leaf.error = f"the simulator failed: {fault.what}; {fault.cure}"
            elif len(leaf.actions) == 0:
                leaf.error = "the simulator gave no legal actions in a state that is not terminal"
            else:
                to_score.append(leaf)
        if self.policy is None:
            for leaf in to_score:
                leaf.logps = np.zeros(len(leaf.actions or ()))
            for leaf in to_propose:
                leaf.error = "any text may be an answer here, and there is no policy to propose one"
        else:
            ask("policy.score", to_score, self._score, self._take_scores, self.patience)
            for count in sorted({self._proposals(leaf.depth) for leaf in to_propose}):
                some = [leaf for leaf in to_propose if self._proposals(leaf.depth) == count]
                ask("policy.propose", some, partial(self._propose, count), self._take_proposals, self.patience)
            for leaf in to_score:
                self.count_calls(leaf.tree, 1)
            for leaf in to_propose:
                self.count_calls(leaf.tree, 1, self._proposals(leaf.depth))
        return to_score + to_propose

    def propose_more(self, leaves: Sequence[Selected]) -> None:
        """Ask the policy for actions of nodes that have some already."""
        for count in sorted({self._proposals(leaf.depth) for leaf in leaves}):
            some = [leaf for leaf in leaves if self._proposals(leaf.depth) == count]
            ask("policy.propose", some, partial(self._propose, count), self._take_proposals, self.patience)
        for leaf in leaves:
            self.count_calls(leaf.tree, 1, self._proposals(leaf.depth))

    def says_same(self, one: str, other: str) -> bool:
        """Whether two texts count as one action, by the rule that merges proposals."""
        if normalised(one) == normalised(other):
            return True
        return (self.same is not None or self.settings.merge != "exact") and self._alike(one, other)

    def ask_bonus(self, tree: Tree, nodes: Sequence[int]) -> str:
        """Ask the bonus of each of these nodes anew. Where it raises or gives no number, nothing is set, and the words
        of that are returned."""
        assert self.bonus is not None
        try:
            found = np.array([self.bonus(tree, node) for node in nodes], np.float64)
            if found.shape != (len(nodes),) or not in_range(found):
                raise ValueError(f"it gave {found.ravel()[:8]}; expected a number within ±{LARGEST:.2g}")
        except Exception as error:
            return failure("bonus", error)
        tree.nodes["hint"][np.array(nodes, np.int64)] = found
        return ""

    def expand_chance(self, tree: Tree, node: int) -> None:
        """Give a chance node its outcomes; their priors are their probabilities."""
        state = tree.states[node]
        names, probabilities = checked_outcomes(self.simulator, state)
        if self.settings.transpositions:
            children = self._children(tree, node, state, names, None, False)
        else:
            children = self._unstepped(tree, len(names))
        self._store(tree, node, names, children, probabilities, [float("nan")] * len(names), tree.depth(node))

    # ---- asking the policy and the critic -----------------------------------------------------------------------

    def _proposals(self, depth: int) -> int:
        by_depth = self.settings.proposals_by_depth
        return by_depth[depth] if depth < len(by_depth) else self.settings.proposals

    def _score(self, leaves: Sequence[Selected]) -> Sequence[Any]:
        assert self.policy is not None
        return self.policy.score([leaf.transcript for leaf in leaves], [leaf.actions or () for leaf in leaves])

    def _take_scores(self, leaf: Selected, scores: Any) -> None:
        logps = np.array(scores, np.float64)  # a copy: numba compiles anew for read-only and for strided arrays
        expected = len(leaf.actions or ())
        if logps.shape != (expected,):
            raise ValueError(f"it gave log-probabilities of shape {logps.shape} for {expected} candidates")
        if not usable(logps):
            raise ValueError(f"it gave log-probabilities that are NaN, infinite or all zero probability: {logps[:8]}")
        leaf.logps, leaf.measured = logps, True

    def _propose(self, count: int, leaves: Sequence[Selected]) -> Sequence[Any]:
        assert self.policy is not None
        return self.policy.propose([leaf.transcript for leaf in leaves], count, [leaf.rng for leaf in leaves])

    def _take_proposals(self, leaf: Selected, proposals: Any) -> None:
        asked = len(proposals)
        proposals = [proposal for proposal in proposals if proposal.text.strip()]
        leaf.tree.counters["invalid_actions"] += asked - len(proposals)
        if not proposals:
            raise ValueError(NOTHING_PROPOSED)
        if any(np.isnan(proposal.logp) for proposal in proposals):
            raise ValueError("it gave a proposal with a log-probability that is NaN")
        merged = self._merged(proposals)
        leaf.proposed = len(proposals)
        leaf.proposals = [alike[0] for alike in merged]
        leaf.actions = [proposal.text for proposal in leaf.proposals]
        leaf.logps = np.log([len(alike) / len(proposals) for alike in merged])
        leaf.tree.counters["merged_proposals"] += len(proposals) - len(merged)

    def _merged(self, proposals: Sequence[Proposal]) -> list[list[Proposal]]:
        """The proposals in groups that say the same, in order of first appearance."""
        exact: dict[str, list[Proposal]] = {}
        for proposal in proposals:
            exact.setdefault(normalised(proposal.text), []).append(proposal)
        if self.same is None and self.settings.merge == "exact":
            return list(exact.values())
        groups: list[tuple[str, list[Proposal]]] = []
        for text, alike in exact.items():
            for first, group in groups:
                if self._alike(first, text):
                    group.extend(alike)
                    break
            else:
                groups.append((text, list(alike)))
        return [group for _, group in groups]

    def _alike(self, one: str, other: str) -> bool:
        if self.same is not None:
            return self.same(one, other)
        return Levenshtein.normalized_distance(one, other) < self.settings.merge_distance

    def _ask_critic(self, leaves: Sequence[Selected]) -> Sequence[Any]:
        assert self.critic is not None
        return self.critic.values([leaf.transcript for leaf in leaves], [leaf.actions or () for leaf in leaves])

    def _take_opinions(self, leaf: Selected, opinions: Any) -> None:
        found = np.array(opinions, np.float64)
        expected = len(leaf.actions or ())
        if found.shape != (expected,) or not in_range(found):
            raise ValueError(
                f"it gave {found.ravel()[:8]} of shape {found.shape} for {expected} candidates; expected a number each,"
                f" none beyond ±{LARGEST:.2g}"
            )
        leaf.opinions = found

    # ---- children ------------------------------------------------------------------------------------------------

    def _add_children(self, leaf: Selected) -> None:
        """Make a child of each action that leads somewhere new."""
        tree, settings, logps, actions = leaf.tree, self.settings, leaf.logps, list(leaf.actions or ())
        children = self.stepped(leaf, actions)
        if children is None:
            return
        assert logps is not None
        logged = leaf.logged
        kept = children.kept
        if len(kept) > MAX_CHILDREN:
            leaf.error = (
                f"{type(self.simulator).__name__} has {len(kept)} actions in one state, and a node holds at most"
                f" {MAX_CHILDREN}; list fewer, or let a policy propose some (legal_actions gives None)"
            )
            return
        dropped = len(actions) - len(kept)
        if dropped:
            logps = logps[kept]
            if kept and not usable(logps):
                logps = np.zeros(len(kept))
        priors = mixed_prior(logps, settings.prior_temperature, settings.uniform_prior) if kept else logps
        if settings.widening > 0.0:
            if leaf.proposals is not None:
                tree.asked[tree.source(leaf.node)] = [leaf.proposed, 0]
            order = np.argsort(-priors, kind="stable").tolist()
            priors = priors[order]
            kept[:] = [kept[i] for i in order]
            for name in ("states", "positions", "rewards", "flags", "players"):
                listed = getattr(children, name)
                setattr(children, name, [listed[i] for i in order] if listed else [])
        actions, logged = [actions[i] for i in kept], [logged[i] for i in kept]
        first = self._store(tree, leaf.node, actions, children, priors, logged, leaf.depth)
        if dropped or leaf.proposals is not None or not self._lists_all(leaf.state):
            tree.mark_incomplete(leaf.node)
        if leaf.opinions is not None:
            tree.set_hints(leaf.node, leaf.opinions[kept])
        elif self.bonus is not None:
            leaf.error = self.ask_bonus(tree, tree.children(leaf.node))
        if leaf.node == 0 and kept:
            prepare_root(tree, settings)
        self.log_proposals(leaf, children, first)

    def stepped(self, leaf: Selected, actions: Sequence[str]) -> Children | None:
        """What each action leads to from the leaf; None, and the leaf's ``error``, where every step fails."""
        proposed = leaf.proposals is not None
        repeats = not self.settings.revisit and not getattr(self.simulator, "never_repeats", False)
        if not (repeats or proposed or self.settings.transpositions):
            return self._unstepped(leaf.tree, len(actions))
        try:
            seen = None if self.settings.revisit else leaf.tree.positions_on_path(leaf.node, leaf.path)
            children = self._children(leaf.tree, leaf.node, leaf.state, actions, seen, proposed)
        except Refused:
            raise
        except Exception as error:
            leaf.error = failure("the simulator", error)
            return None
        leaf.tree.counters["dropped_revisits"] += len(actions) - len(children.kept)
        return children

    def _lists_all(self, state: Any) -> bool:
        asked = getattr(self.simulator, "lists_all", None)
        return asked is None or bool(asked(state))

    def log_proposals(self, leaf: Selected, children: Children, first: int) -> None:
        """Keep the tokens of those proposals of a leaf that became its children from ``first`` on."""
        if leaf.proposals is None:
            return
        tree = leaf.tree
        tree.counters["invalid_actions"] += sum(1 for flags in children.flags if flags & INVALID)
        for offset, i in enumerate(children.kept):
            proposal = leaf.proposals[i]
            if proposal.token_ids:
                tree.log_turn(first + offset, acted(proposal.text, proposal.token_ids, proposal.logps))

    def _unstepped(self, tree: Tree, count: int) -> Children:
        """Children of which nothing is known but their actions."""
        children = Children()
        unknown = Stepped(None, 0, UNSTEPPED, tree.step_rules.no_reward(self.simulator.players))
        for i in range(count):
            children.add(i, unknown)
        return children

    def _children(
        self, tree: Tree, node: int, before: Any, actions: Sequence[str], seen: set[Hashable] | None, proposed: bool
    ) -> Children:
        """What each action leads to, without those that lead back onto their own path. Raises the last failure where
        every step fails."""
        simulator = self.simulator
        chooser, rules = max(tree.player(node), 0), tree.step_rules
        children = Children()
        failed: list[Exception] = []
        for i, action in enumerate(actions):
            position = None
            try:
                step = stepped(simulator, before, action, chooser, rules)
                if seen is not None:
                    position = simulator.position(step.state)
                    if position in seen:
                        continue
                if proposed and simulator.info(step.state)["invalid_action"]:
                    step = step._replace(flags=step.flags | INVALID)
            except Refused:
                raise
            except Exception as error:
                failed.append(error)
                step = Stepped(None, 0, FAILED | SOLVED | UNSTEPPED, rules.no_reward(simulator.players))
            children.add(i, step, position)
        if failed:
            if len(failed) == len(actions):
                raise failed[-1]
            tree.counters["failed_actions"] += len(failed)
            tree.last_error = failure("the simulator", failed[-1])
        return children

    def _store(
        self,
        tree: Tree,
        node: int,
        actions: Sequence[str],
        children: Children,
        priors: np.ndarray,
        logged: Sequence[float],
        depth: int,
    ) -> int:
        first = tree.add_children(
            tree.source(node) if self.settings.transpositions else node,
            actions,
            children.states,
            priors,
            logged,
            children.rewards,
            children.flags,
            children.positions,
            children.players,
        )
        self.link_known(tree, first, children, depth)
        return first

    def link_known(self, tree: Tree, first: int, children: Children, depth: int) -> None:
        """Under transpositions, let children from ``first`` on whose states are known be edges to those."""
        if self.settings.transpositions:
            for child, (state, flags) in enumerate(zip(children.states, children.flags, strict=True), first):
                if not flags & (TERMINAL | UNSTEPPED):
                    source = tree.known.setdefault((depth + 1, state), child)
                    if source != child:
                        tree.link(child, source)


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


def prepare_root(tree: Tree, settings: SearchSettings) -> None:
    """Noise in the prior of an expanded root, or its Gumbel draws, where it has not had them."""
    children = tree.children(0)
    if settings.noise > 0.0 and not tree.noisy:
        tree.mix_root_prior(dirichlet_noise(tree.rng, len(children), settings.noise_alpha), settings.noise)
    if settings.selection == "gumbel":
        tree.plan_gumbel(tree.rng, settings.gumbel_scale, settings.simulations, settings.considered)


def normalised(text: str) -> str:
    """The text by which two proposals count as equal: blanks at the ends and runs of blanks inside a line do not
    matter; the indentation of a line does, and so does case. A text with quotation marks, inside of which any blank may
    matter (code), counts as it is, but for its ends."""
    text = text.strip()
    if "'" in text or '"' in text:
        return text
    lines = [(line, line.lstrip(" \t")) for line in text.split("\n")]
    return "\n".join(line[: len(line) - len(rest)] + re.sub(r"[ \t]+", " ", rest.rstrip()) for line, rest in lines)


def expandable(leaf: Selected, max_depth: int) -> bool:
    """Whether a leaf can get children at all."""
    return not leaf.flags & (EXPANDED | TERMINAL | VALUED) and leaf.depth < max_depth
