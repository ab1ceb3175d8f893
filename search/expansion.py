"""What hangs below a leaf: asking the policy for actions or their probabilities and a critic for its view of them,
merging proposals that say the same, stepping the simulator once for each action, and keeping what leads somewhere new.

Sources of the options: K proposals by depth and merging (MCTS-DPO, arXiv 2405.00451; Optima, arXiv 2410.08115);
progressive widening (Coulom 2007; Chaslot et al. 2008), here over the children in order of prior; Dirichlet noise at
the root (AlphaZero). The critic's numbers stand beside each child for first play and mixing (Agent Q, Eq. 10).

Not here: which leaf (``descent.py``), what it is worth (``evaluation.py``), information sets (``information.py``).
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from rapidfuzz.distance import Levenshtein

from ..envs.simulator import CHANCE, Simulator
from ..envs.simulator import TERMINAL as GAME_OVER
from .calls import ask, failure
from .policy import Policy, Proposal, propose
from .selection import dirichlet_noise, mixed_prior, usable
from .settings import SearchSettings
from .transcript import Transcript, acted
from .tree import EXPANDED, INVALID, OUTCOMES, TERMINAL, VALUED, Tree

Same = Callable[[str, str], bool]
Bonus = Callable[[Tree, int], float]


class Critic(Protocol):
    """Says of actions what they are worth before any is tried: a ranking model, a Q-model."""

    def values(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> Sequence[np.ndarray]:
        """For each transcript the values of its candidates, for who is to move: float ``[k]``."""
        ...


class Refused(ValueError):  # noqa: N818 - it is the settings that are refused
    """The simulator and the settings do not go together."""


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
    opinions: np.ndarray | None = None
    value: float | np.ndarray = 0.0
    error: str = ""
    proposed: int = 0

    @property
    def rng(self) -> np.random.Generator:
        return self.tree.rng


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


class Expansion:
    """Expands leaves, for one run of the engine. ``policy=None`` gives every action the same prior."""

    def __init__(
        self,
        simulator: Simulator[Any],
        policy: Policy | None,
        critic: Critic | None,
        settings: SearchSettings,
        zero_sum: bool,
        same: Same | None,
        bonus: Bonus | None,
        count_calls: Callable[[Tree, int], None],
    ) -> None:
        self.simulator = simulator
        self.policy = policy
        self.critic = critic
        self.settings = settings
        self.one_number = simulator.players == 1 or zero_sum
        self.zero_sum = zero_sum
        self.proofs = zero_sum and settings.solve and not settings.hide_outcome
        self.same = same
        self.bonus = bonus
        self.count_calls = count_calls

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
            ask("critic.values", leaves, self._ask_critic, self._take_opinions, self.settings.call_seconds)
            for leaf in leaves:
                self.count_calls(leaf.tree, 1)

    def propose(self, leaves: Sequence[Selected]) -> list[Selected]:
        """Fill in the actions of each leaf and what the policy says of them. Returns those that have listed actions,
        then the others."""
        seconds = self.settings.call_seconds
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
            ask("policy.score", to_score, self._score, self._take_scores, seconds)
            for count in sorted({self._proposals(leaf.depth) for leaf in to_propose}):
                some = [leaf for leaf in to_propose if self._proposals(leaf.depth) == count]
                ask("policy.propose", some, partial(self._propose, count), self._take_proposals, seconds)
            for leaf in (*to_score, *to_propose):
                self.count_calls(leaf.tree, 1)
        return to_score + to_propose

    def propose_more(self, leaves: Sequence[Selected]) -> None:
        """Ask the policy for actions of nodes that have some already."""
        for count in sorted({self._proposals(leaf.depth) for leaf in leaves}):
            some = [leaf for leaf in leaves if self._proposals(leaf.depth) == count]
            ask("policy.propose", some, partial(self._propose, count), self._take_proposals, self.settings.call_seconds)
        for leaf in leaves:
            self.count_calls(leaf.tree, 1)

    def says_same(self, one: str, other: str) -> bool:
        """Whether two texts count as one action, by the rule that merges proposals."""
        if normalised(one) == normalised(other):
            return True
        return (self.same is not None or self.settings.merge != "exact") and self._alike(one, other)

    def expand_chance(self, tree: Tree, node: int) -> None:
        """Give a chance node its outcomes; their priors are their probabilities."""
        state = tree.states[node]
        outcomes = self.simulator.chance_outcomes(state)
        probabilities = np.array([probability for _, probability in outcomes], np.float64)
        if not len(outcomes) or not abs(probabilities.sum() - 1.0) < 1e-6 or (probabilities < 0.0).any():
            raise ValueError(f"chance_outcomes gave probabilities {probabilities[:8]}; expected them to sum to 1")
        names = [name for name, _ in outcomes]
        children = self._children(tree, node, state, names, set(), False)
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
        leaf.logps = logps

    def _propose(self, count: int, leaves: Sequence[Selected]) -> Sequence[Any]:
        assert self.policy is not None
        return propose(self.policy, [leaf.transcript for leaf in leaves], count, [leaf.rng for leaf in leaves])

    def _take_proposals(self, leaf: Selected, proposals: Any) -> None:
        asked = len(proposals)
        proposals = [proposal for proposal in proposals if proposal.text.strip()]
        leaf.tree.counters["invalid_actions"] += asked - len(proposals)
        if not proposals:
            raise ValueError("it proposed nothing")
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
        if found.shape != (expected,) or not np.isfinite(found).all():
            raise ValueError(f"it gave {found[:8]} of shape {found.shape} for {expected} candidates; expected numbers")
        leaf.opinions = found

    # ---- children ------------------------------------------------------------------------------------------------

    def _add_children(self, leaf: Selected) -> None:
        """Step the simulator once for each action, and keep the children that lead somewhere new."""
        tree, settings, logps, actions = leaf.tree, self.settings, leaf.logps, list(leaf.actions or ())
        children = self.stepped(leaf, actions)
        if children is None:
            return
        assert logps is not None
        logged = logps.tolist() if leaf.proposals is None else [proposal.logp for proposal in leaf.proposals]
        kept = children.kept
        if len(kept) < len(actions):
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
        if leaf.opinions is not None:
            tree.set_hints(leaf.node, leaf.opinions[kept])
        elif self.bonus is not None:
            tree.set_hints(leaf.node, [self.bonus(tree, child) for child in tree.children(leaf.node)])
        if leaf.node == 0 and kept:
            prepare_root(tree, settings)
        self.log_proposals(leaf, children, first)

    def stepped(self, leaf: Selected, actions: Sequence[str]) -> Children | None:
        """What each action leads to from the leaf; None, and the leaf's ``error``, where the simulator fails."""
        seen = None if self.settings.revisit else leaf.tree.positions_on_path(leaf.node, leaf.path)
        try:
            children = self._children(leaf.tree, leaf.node, leaf.state, actions, seen, leaf.proposals is not None)
        except Refused:
            raise
        except Exception as error:
            leaf.error = failure("the simulator", error)
            return None
        leaf.tree.counters["dropped_revisits"] += len(actions) - len(children.kept)
        return children

    def log_proposals(self, leaf: Selected, children: Children, first: int) -> None:
        """Keep the tokens of those proposals of a leaf that became its children from ``first`` on."""
        if leaf.proposals is None:
            return
        tree = leaf.tree
        tree.counters["invalid_actions"] += sum(1 for flags in children.flags if flags & INVALID)
        identity = getattr(self.policy, "policy_id", "")
        for offset, i in enumerate(children.kept):
            proposal = leaf.proposals[i]
            if proposal.token_ids:
                turn = acted(proposal.text, token_ids=proposal.token_ids, logps=proposal.logps, policy_id=identity)
                tree.log_turn(first + offset, turn)

    def _children(
        self, tree: Tree, node: int, before: Any, actions: Sequence[str], seen: set[Hashable] | None, proposed: bool
    ) -> Children:
        """What each action leads to, without those that lead back onto their own path."""
        simulator, hidden = self.simulator, self.settings.hide_outcome
        alone = simulator.players == 1
        chooser = 0 if alone else max(tree.player(node), 0)
        children = Children()
        for i, action in enumerate(actions):
            state = simulator.step(before, action)
            if seen is not None:
                position = simulator.position(state)
                if position in seen:
                    continue
                children.positions.append(position)
            player = simulator.current_player(state)
            flags = 0
            if player == GAME_OVER:
                flags = TERMINAL if hidden else TERMINAL | VALUED
            elif player == CHANCE:
                flags = OUTCOMES
            if proposed and simulator.info(state)["invalid_action"]:
                flags |= INVALID
            children.kept.append(i)
            children.states.append(state)
            children.flags.append(flags)
            children.players.append(player)
            if alone:
                children.rewards.append(0.0 if hidden else float(simulator.rewards(state)[0]))
            else:
                children.rewards.append(self._reward(state, chooser, player == GAME_OVER))
        return children

    def _reward(self, state: Any, chooser: int, over: bool) -> Any:
        """What the step into ``state`` earned: for who took it, or for all players where all returns are kept."""
        if self.settings.hide_outcome:
            return 0.0 if self.one_number else [0.0] * self.simulator.players
        rewards = self.simulator.rewards(state)
        if not self.one_number:
            return rewards
        if self.zero_sum and abs(rewards[0] + rewards[1]) > 1e-6:
            raise Refused(f"{type(self.simulator).__name__} says that it is zero-sum, and pays {rewards}")
        if self.proofs and (rewards[0] not in (-1.0, 0.0, 1.0) or (rewards[0] and not over)):
            raise Refused(
                f"solve=True proves wins, draws and losses, and {type(self.simulator).__name__} pays {rewards}"
                f"{' in the end' if over else ' before the end'}; set solve=False"
            )
        return float(rewards[chooser])

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
                if not flags & TERMINAL:
                    source = tree.known.setdefault((depth + 1, state), child)
                    if source != child:
                        tree.link(child, source)


def prepare_root(tree: Tree, settings: SearchSettings) -> None:
    """Noise in the prior of an expanded root, or its Gumbel draws, where it has not had them."""
    children = tree.children(0)
    if settings.noise > 0.0 and not tree.noisy:
        tree.mix_root_prior(dirichlet_noise(tree.rng, len(children), settings.noise_alpha), settings.noise)
    if settings.selection == "gumbel":
        tree.plan_gumbel(tree.rng, settings.gumbel_scale, settings.simulations, settings.considered)


def normalised(text: str) -> str:
    """The text by which two proposals count as equal: blanks at the ends and runs of blanks inside a line do not
    matter; the indentation of a line does, and so does case."""
    lines = text.strip().splitlines()
    return "\n".join(line[: len(line) - len(line.lstrip())] + " ".join(line.split()) for line in lines)


def expandable(leaf: Selected, max_depth: int) -> bool:
    """Whether a leaf can get children at all."""
    return not leaf.flags & (EXPANDED | TERMINAL | VALUED) and leaf.depth < max_depth
