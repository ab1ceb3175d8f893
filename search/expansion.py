"""What hangs below a leaf: asking the policy for actions or their probabilities and a critic for its view of them,
merging proposals that say the same, and keeping what leads somewhere new.

The simulator is stepped into a child when a simulation first reaches it (``walks.py``), and for all actions of a
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
from .rules.options import Gumbel
from .rules.selection import dirichlet_noise, mixed_prior
from .selected import Selected, Words
from .settings import SearchSettings
from .trees.children import Children
from .trees.nodes import ENDED, EXPANDED, FAILED, INVALID, MAX_CHILDREN, SOLVED, UNSTEPPED, VALUED
from .trees.stepping import Refused, Stepped, stepped
from .trees.tree import Tree

NOTHING_PROPOSED: Final = "it proposed nothing"
_NOTHING: Final = np.zeros(0)  # priors that are still to be said

Same = Callable[[str, str], bool]
Bonus = Callable[[Tree, int], float]


class Critic(Protocol):
    """Says of actions what they are worth before any is tried: a ranking model, a Q-model."""

    def values(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> Sequence[np.ndarray]:
        """For each transcript the values of its candidates, for who is to move: float ``[k]``."""
        ...


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
                listed = self.simulator.legal_actions(leaf.state)
            except Exception as error:
                leaf.error = failure("the simulator", error)
                continue
            if listed is None:
                to_propose.append(leaf)
            elif fault := fault_of_actions(listed):
                leaf.error = f"the simulator failed: {fault.what}; {fault.cure}"
            elif len(listed) == 0:
                leaf.error = "the simulator gave no legal actions in a state that is not terminal"
            else:
                leaf.words = Words(listed, np.zeros(len(listed)))
                to_score.append(leaf)
        if self.policy is None:
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
            _, children = self._children(tree, node, state, names, None, False)
        else:
            children = self._unstepped(tree, names)
        children.priors, children.logps = probabilities, [float("nan")] * len(names)
        self._store(tree, node, children, tree.depth(node))

    # ---- asking the policy and the critic -----------------------------------------------------------------------

    def _proposals(self, depth: int) -> int:
        by_depth = self.settings.proposals_by_depth
        return by_depth[depth] if depth < len(by_depth) else self.settings.proposals

    def _score(self, leaves: Sequence[Selected]) -> Sequence[Any]:
        assert self.policy is not None
        return self.policy.score([leaf.transcript for leaf in leaves], [leaf.said.actions for leaf in leaves])

    def _take_scores(self, leaf: Selected, scores: Any) -> None:
        logps = np.array(scores, np.float64)  # a copy: numba compiles anew for read-only and for strided arrays
        expected = len(leaf.said.actions)
        if logps.shape != (expected,):
            raise ValueError(f"it gave log-probabilities of shape {logps.shape} for {expected} candidates")
        if not usable(logps):
            raise ValueError(f"it gave log-probabilities that are NaN, infinite or all zero probability: {logps[:8]}")
        leaf.said.logps, leaf.said.measured = logps, True

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
        firsts = [alike[0] for alike in merged]
        shares = np.log([len(alike) / len(proposals) for alike in merged])
        leaf.words = Words([first.text for first in firsts], shares, proposals=firsts, proposed=len(proposals))
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
        return self.critic.values([leaf.transcript for leaf in leaves], [leaf.said.actions for leaf in leaves])

    def _take_opinions(self, leaf: Selected, opinions: Any) -> None:
        found = np.array(opinions, np.float64)
        expected = len(leaf.said.actions)
        if found.shape != (expected,) or not in_range(found):
            raise ValueError(
                f"it gave {found.ravel()[:8]} of shape {found.shape} for {expected} candidates; expected a number each,"
                f" none beyond ±{LARGEST:.2g}"
            )
        leaf.said.opinions = found

    # ---- children ------------------------------------------------------------------------------------------------

    def _add_children(self, leaf: Selected) -> None:
        """Make a child of each action that leads somewhere new."""
        tree, settings, words = leaf.tree, self.settings, leaf.said
        found = self.stepped(leaf, words)
        if found is None:
            return
        kept, children = found
        if len(kept) > MAX_CHILDREN:
            leaf.error = (
                f"{type(self.simulator).__name__} has {len(kept)} actions in one state, and a node holds at most"
                f" {MAX_CHILDREN}; list fewer, or let a policy propose some (legal_actions gives None)"
            )
            return
        all_kept = len(kept) == len(words.actions)
        logged = words.logged
        if not all_kept:
            words, logged = words.only(kept), [logged[i] for i in kept]
            if kept and not usable(words.logps):
                words.logps = np.zeros(len(kept))
        children.priors, children.logps = self.priors(words) if kept else words.logps, logged
        if settings.widening > 0.0:
            if words.proposals is not None:
                tree.asked[tree.source(leaf.node)] = [words.proposed, 0]
            order = np.argsort(-children.priors, kind="stable").tolist()
            words, children = words.only(order), children.in_order(order)
        first = self._store(tree, leaf.node, children, leaf.depth)
        if not all_kept or words.proposals is not None or not self._lists_all(leaf.state):
            tree.mark_incomplete(leaf.node)
        if words.opinions is not None:
            tree.set_hints(leaf.node, words.opinions)
        elif self.bonus is not None:
            leaf.error = self.ask_bonus(tree, tree.children(leaf.node))
        if leaf.node == 0 and kept:
            prepare_root(tree, settings)
        self.log_proposals(tree, words, children, first)

    def priors(self, words: Words) -> np.ndarray:
        """The priors of actions: float64 ``[actions]``, sum 1."""
        return mixed_prior(words.logps, self.settings.prior_temperature, self.settings.uniform_prior)

    def stepped(self, leaf: Selected, words: Words) -> tuple[Sequence[int], Children] | None:
        """Which actions are kept, and the children of the leaf that they lead to; None, and the leaf's ``error``, where
        every step fails."""
        proposed = words.proposals is not None
        repeats = not self.settings.revisit and not getattr(self.simulator, "never_repeats", False)
        if not (repeats or proposed or self.settings.transpositions):
            return range(len(words.actions)), self._unstepped(leaf.tree, words.actions)
        try:
            seen = None if self.settings.revisit else leaf.tree.positions_on_path(leaf.node, leaf.path)
            kept, children = self._children(leaf.tree, leaf.node, leaf.state, words.actions, seen, proposed)
        except Refused:
            raise
        except Exception as error:
            leaf.error = failure("the simulator", error)
            return None
        leaf.tree.counters["dropped_revisits"] += len(words.actions) - len(kept)
        return kept, children

    def _lists_all(self, state: Any) -> bool:
        asked = getattr(self.simulator, "lists_all", None)
        return asked is None or bool(asked(state))

    def log_proposals(self, tree: Tree, words: Words, children: Children, first: int) -> None:
        """Keep the tokens of the proposals that became the children from ``first`` on."""
        if words.proposals is None:
            return
        tree.counters["invalid_actions"] += sum(1 for flags in children.flags if flags & INVALID)
        for child, proposal in enumerate(words.proposals, first):
            if proposal.token_ids:
                tree.log_turn(child, acted(proposal.text, proposal.token_ids, proposal.logps))

    def _unstepped(self, tree: Tree, actions: Sequence[str]) -> Children:
        """Children of which nothing is known but their actions."""
        count, nothing = len(actions), tree.step_rules.no_reward(self.simulator.players)
        return Children(actions, [None] * count, _NOTHING, (), [nothing] * count, [UNSTEPPED] * count)

    def _children(
        self, tree: Tree, node: int, before: Any, actions: Sequence[str], seen: set[Hashable] | None, proposed: bool
    ) -> tuple[list[int], Children]:
        """Which actions lead not back onto their own path, and what these lead to. Raises the last failure where every
        step fails."""
        simulator = self.simulator
        chooser, rules = max(tree.player(node), 0), tree.step_rules
        kept: list[int] = []
        positions: list[Hashable] = []
        steps: list[Stepped] = []
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
            kept.append(i)
            positions.append(position)
            steps.append(step)
        if failed:
            if len(failed) == len(actions):
                raise failed[-1]
            tree.counters["failed_actions"] += len(failed)
            tree.last_error = failure("the simulator", failed[-1])
        return kept, Children(
            [actions[i] for i in kept],
            [step.state for step in steps],
            _NOTHING,
            (),
            [step.reward for step in steps],
            [step.flags for step in steps],
            positions,
            [step.player for step in steps],
        )

    def _store(self, tree: Tree, node: int, children: Children, depth: int) -> int:
        first = tree.add_children(tree.source(node) if self.settings.transpositions else node, children)
        self.link_known(tree, first, children, depth)
        return first

    def link_known(self, tree: Tree, first: int, children: Children, depth: int) -> None:
        """Under transpositions, let children from ``first`` on whose states are known be edges to those."""
        if self.settings.transpositions:
            for child, (state, flags) in enumerate(zip(children.states, children.flags, strict=True), first):
                if not flags & (ENDED | UNSTEPPED):
                    source = tree.known.setdefault((depth + 1, state), child)
                    if source != child:
                        tree.link(child, source)


def prepare_root(tree: Tree, settings: SearchSettings) -> None:
    """Noise in the prior of an expanded root, or its Gumbel draws, where it has not had them."""
    children = tree.children(0)
    if settings.noise > 0.0 and not tree.noisy:
        tree.mix_root_prior(dirichlet_noise(tree.rng, len(children), settings.noise_alpha), settings.noise)
    rule = settings.rule
    if isinstance(rule, Gumbel):
        tree.plan_gumbel(tree.rng, rule.gumbel_scale, settings.simulations, rule.considered)


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
    return not leaf.flags & (EXPANDED | ENDED | VALUED) and leaf.depth < max_depth
