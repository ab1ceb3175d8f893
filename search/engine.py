"""Monte-Carlo tree search over many trees at once, with every model call batched across them.

One round is: select leaves in all trees → one ``policy.score`` (or ``propose`` where any text may be an answer) for
the nodes to expand → ``simulator.step`` for their children → one ``evaluator.evaluate`` → back up. With the options
of :class:`SearchSettings` this is Agent Q's search (UCB1, roll-outs, running mean), MCTS-DPO's (PUCT, log-probability
priors, Bellman backup) or AlphaZero's, for one player.

A tree's result depends on its root, its settings and its own generator alone, not on the trees that it shares batches
with, as long as the policy and the evaluator answer each member of a batch alike whatever the batch. (A policy that
samples should have ``propose_each``, which takes one generator a transcript; through plain ``propose`` the draws of a
batch come from the generator of the first tree in it.) The one exception are members of a batch call that raised:
they are asked again one at a time.

What fails costs its leaf: an exception, a NaN, an answer of the wrong length or no answer from policy, evaluator or
simulator is counted in ``tree.counters["failed_leaves"]``, with the last reason in ``tree.last_error``, and the
search goes on. Past ``max_failed_share`` it stops with :class:`SearchStopped`.

Not handled: several players, chance nodes, transpositions, root noise.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from ..envs.simulator import CHANCE, Simulator
from ..envs.simulator import TERMINAL as GAME_OVER
from .backup import BACKUP_CODES, Backup
from .evaluation import Evaluator, Leaf
from .policy import Policy, Proposal, propose
from .selection import SELECTION_CODES, Selection, UnvisitedValue, mixed_prior, usable
from .transcript import Transcript, acted
from .tree import EXPANDED, INVALID, MAX_PENDING, TERMINAL, VALUED, Tree

Progress = Callable[[int, int, int], None]

LEAST_LEAVES_BEFORE_STOPPING = 20


class SearchStopped(RuntimeError):  # noqa: N818 - not an error of the caller's
    """Too many leaves failed. ``trees`` holds what was searched until then."""

    def __init__(self, message: str, trees: list[Tree]) -> None:
        super().__init__(message)
        self.trees = trees


@dataclass(frozen=True, slots=True)
class Root:
    """Where a tree starts: a state, what was said up to it (its observation last), and which task it belongs to."""

    state: Any
    transcript: Transcript
    task: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchSettings:
    """The options of a search; the defaults suit short text environments with rewards in [0, 1].

    simulations: leaves a tree, the root's own evaluation included; afterwards the root has as many visits.
    selection, exploration: the rule (``selection.py``) and its constant c.
    unvisited_value: Q of a child without a visit, under ``puct`` and ``ucb1``: its parent's value, or ``zero`` (Agent
        Q, MCTS-DPO).
    proposals: actions sampled at a node where any text may be an answer; equal ones are merged, and the prior is each
        one's share.
    uniform_prior, prior_temperature: the prior is λ · uniform + (1 − λ) · policy^(1/T), renormalised.
    backup, discount: ``backup.py``.
    leaves_per_tree: leaves of one tree in one batch; more than one costs strength, so fill batches with trees first.
    virtual_loss: each leaf under way counts as a visit that returned −virtual_loss.
    max_depth: nodes this deep are valued, but not expanded.
    revisit: whether an action may lead back to a ``simulator.position`` on the path to it.
    hide_outcome: never read the environment's rewards; the evaluator values terminal nodes too, once each.
    solve: do not simulate a terminal twice, nor a node whose children are all solved; a tree with a solved root is
        done.
    final: the rule for the action to play in the end (``Tree.best_child``).
    max_failed_share: the share of failed leaves, of all trees together, at which the search stops.
    """

    simulations: int = 32
    selection: Selection = "puct"
    exploration: float = 2.5
    unvisited_value: UnvisitedValue = "parent"
    proposals: int = 5
    uniform_prior: float = 0.1
    prior_temperature: float = 1.0
    backup: Backup = "mean"
    discount: float = 1.0
    leaves_per_tree: int = 1
    virtual_loss: float = 1.0
    max_depth: int = 100
    revisit: bool = False
    hide_outcome: bool = False
    solve: bool = True
    final: Literal["visits", "value"] = "visits"
    max_failed_share: float = 0.5

    def __post_init__(self) -> None:
        for name, low, high in (
            ("simulations", 1, np.inf),
            ("exploration", 0.0, np.inf),
            ("proposals", 1, np.inf),
            ("uniform_prior", 0.0, 1.0),
            ("discount", 0.0, 1.0),
            ("leaves_per_tree", 1, MAX_PENDING),
            ("virtual_loss", 0.0, np.inf),
            ("max_depth", 1, np.inf),
            ("max_failed_share", 0.0, 1.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"SearchSettings.{name} is {value!r}; expected a number from {low} to {high}")
        if not self.prior_temperature > 0.0:
            raise ValueError(f"SearchSettings.prior_temperature is {self.prior_temperature!r}; expected more than 0")
        for name, allowed in (
            ("selection", tuple(SELECTION_CODES)),
            ("backup", tuple(BACKUP_CODES)),
            ("unvisited_value", ("zero", "parent")),
            ("final", ("visits", "value")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"SearchSettings.{name} is {getattr(self, name)!r}; expected one of {', '.join(allowed)}"
                )


def search(
    simulator: Simulator[Any],
    roots: Sequence[Root],
    policy: Policy,
    evaluator: Evaluator,
    settings: SearchSettings | None = None,
    rng: np.random.Generator | Sequence[np.random.Generator] | None = None,
    progress: Progress | None = None,
) -> list[Tree]:
    """Grow one tree from each root.

    ``rng``: one generator, from which each tree gets a child of its own, or one generator a root; default seed 0.
    ``progress(simulations, nodes, model_calls)`` is called after each round with totals over all trees.
    Raises ValueError for a simulator with several players, :class:`SearchStopped` where too much fails.
    """
    settings = settings or SearchSettings()
    if rng is None:
        rng = np.random.default_rng(0)
    generators = rng.spawn(len(roots)) if isinstance(rng, np.random.Generator) else list(rng)
    if len(generators) != len(roots):
        raise ValueError(f"{len(generators)} generators for {len(roots)} roots; pass one generator, or one a root")
    for index, root in enumerate(roots):
        if (player := simulator.current_player(root.state)) < 0:
            kind = "terminal" if player == GAME_OVER else "a chance node"
            raise ValueError(f"root {index} is {kind}; a search starts where a player is to move")
    trees = [
        Tree(simulator, root.state, root.transcript, root.task, index, generator, settings.discount)
        for index, (root, generator) in enumerate(zip(roots, generators, strict=True))
    ]
    return extend(simulator, trees, policy, evaluator, settings, progress)


def extend(
    simulator: Simulator[Any],
    trees: list[Tree],
    policy: Policy,
    evaluator: Evaluator,
    settings: SearchSettings,
    progress: Progress | None = None,
) -> list[Tree]:
    """Go on with trees until each has had ``settings.simulations`` simulations, earlier ones included; returns them.

    A tree that was saved, loaded and extended equals one that was searched in one go.
    """
    if simulator.players != 1:
        raise ValueError(f"{type(simulator).__name__} has {simulator.players} players; this search handles one")
    if settings.hide_outcome and getattr(evaluator, "reads_outcome", False):
        raise ValueError(
            f"{type(evaluator).__name__} reads the environment's rewards, which hide_outcome=True forbids; use an "
            "evaluator that judges transcripts, or hide_outcome=False"
        )
    for tree in trees:
        if tree.simulator is None:
            raise ValueError(f"tree {tree.index} was loaded without its simulator; load_trees(path, simulator)")
        tree.forget_pending()
        tree.settings = asdict(settings)
    run = _Run(simulator, trees, policy, evaluator, settings)
    while leaves := run.select():
        run.expand(leaves)
        run.evaluate(leaves)
        run.back_up(leaves)
        if progress is not None:
            progress(run.simulations, sum(tree.size for tree in trees), run.model_calls)
        run.stop_if_too_much_failed()
    return trees


@dataclass(slots=True, eq=False)
class _Selected:
    """A leaf under way: what each stage of a round learned about it."""

    tree: Tree
    node: int
    depth: int
    flags: int
    transcript: Transcript = ()
    actions: Sequence[str] | None = None
    proposals: list[Proposal] | None = None
    logps: np.ndarray | None = None
    value: float = 0.0
    error: str = ""

    @property
    def state(self) -> Any:
        return self.tree.states[self.node]


class _Children:
    """What the kept actions of a node lead to: parallel lists."""

    __slots__ = ("flags", "kept", "positions", "rewards", "states")

    def __init__(self) -> None:
        self.kept: list[int] = []
        self.states: list[Any] = []
        self.positions: list[Hashable] = []
        self.rewards: list[float] = []
        self.flags: list[int] = []


class _Run:
    def __init__(
        self,
        simulator: Simulator[Any],
        trees: list[Tree],
        policy: Policy,
        evaluator: Evaluator,
        settings: SearchSettings,
    ) -> None:
        self.simulator = simulator
        self.trees = trees
        self.policy = policy
        self.evaluator = evaluator
        self.settings = settings
        self.simulations = 0
        self.model_calls = 0
        self.failed = 0
        self.open = list(trees)
        self.walk = (
            SELECTION_CODES[settings.selection],
            float(settings.exploration),
            settings.unvisited_value == "parent",
            float(settings.virtual_loss),
            float(settings.discount),
            settings.solve,
        )

    # ---- the stages of a round ----------------------------------------------------------------------------------

    def select(self) -> list[_Selected]:
        """Leaves of all trees that are not done; empty where none is left."""
        settings = self.settings
        self.open = [
            tree for tree in self.open if tree.counters["simulations"] < settings.simulations and not tree.is_solved()
        ]
        leaves = []
        for tree in self.open:
            budget = min(settings.leaves_per_tree, settings.simulations - tree.counters["simulations"])
            for _ in range(budget):
                node, depth, flags = tree.select(*self.walk)
                if node < 0:
                    break
                leaves.append(_Selected(tree, node, depth, flags))
                tree.counters["simulations"] += 1
        self.simulations += len(leaves)
        return leaves

    def expand(self, leaves: Sequence[_Selected]) -> None:
        """Give children to the leaves that can have some: one call of the policy for all of them."""
        to_score: list[_Selected] = []
        to_propose: list[_Selected] = []
        for leaf in leaves:
            if leaf.flags & VALUED:
                continue
            try:
                leaf.transcript = leaf.tree.transcript(leaf.node)
                if leaf.flags & (EXPANDED | TERMINAL) or leaf.depth >= self.settings.max_depth:
                    continue
                leaf.actions = self.simulator.legal_actions(leaf.state)
            except Exception as error:
                leaf.error = _said("the simulator", error)
                continue
            if leaf.actions is None:
                to_propose.append(leaf)
            elif len(leaf.actions) == 0:
                leaf.error = "the simulator gave no legal actions in a state that is not terminal"
            else:
                to_score.append(leaf)
        _ask("policy.score", to_score, self._score, self._take_scores)
        _ask("policy.propose", to_propose, self._propose, self._take_proposals)
        for leaf in (*to_score, *to_propose):
            self._count_calls(leaf.tree, 1)
            if not leaf.error:
                self._add_children(leaf)

    def evaluate(self, leaves: Sequence[_Selected]) -> None:
        """Value every leaf whose return is not known yet: one call of the evaluator for all of them."""
        pending = [leaf for leaf in leaves if not leaf.flags & VALUED and not leaf.error]
        _ask("evaluator.evaluate", pending, self._evaluate, self._take_value)

    def back_up(self, leaves: Sequence[_Selected]) -> None:
        settings = self.settings
        rule = BACKUP_CODES[settings.backup]
        for leaf in leaves:
            tree = leaf.tree
            if leaf.error:
                self.failed += 1
                tree.abandon(leaf.node, leaf.error)
                continue
            if leaf.flags & TERMINAL and not leaf.flags & VALUED:
                tree.set_terminal_value(leaf.node, leaf.value)
                leaf.value = 0.0
            tree.back_up(leaf.node, leaf.value, rule, float(settings.discount), settings.solve)

    def stop_if_too_much_failed(self) -> None:
        if (
            self.simulations >= LEAST_LEAVES_BEFORE_STOPPING
            and self.failed > self.settings.max_failed_share * self.simulations
        ):
            last = next(tree.last_error for tree in reversed(self.trees) if tree.last_error)
            raise SearchStopped(
                f"{self.failed} of {self.simulations} leaves failed, more than max_failed_share="
                f"{self.settings.max_failed_share}; the last one because {last}",
                self.trees,
            )

    # ---- asking the policy --------------------------------------------------------------------------------------

    def _score(self, leaves: Sequence[_Selected]) -> Sequence[Any]:
        return self.policy.score([leaf.transcript for leaf in leaves], [leaf.actions or () for leaf in leaves])

    def _take_scores(self, leaf: _Selected, scores: Any) -> None:
        logps = np.array(scores, np.float64)  # a copy: numba compiles anew for read-only and for strided arrays
        expected = len(leaf.actions or ())
        if logps.shape != (expected,):
            raise ValueError(f"it gave log-probabilities of shape {logps.shape} for {expected} candidates")
        if not usable(logps):
            raise ValueError(f"it gave log-probabilities that are NaN, infinite or all zero probability: {logps[:8]}")
        leaf.logps = logps

    def _propose(self, leaves: Sequence[_Selected]) -> Sequence[Any]:
        return propose(
            self.policy,
            [leaf.transcript for leaf in leaves],
            self.settings.proposals,
            [leaf.tree.rng for leaf in leaves],
        )

    def _take_proposals(self, leaf: _Selected, proposals: Any) -> None:
        asked = len(proposals)
        proposals = [proposal for proposal in proposals if proposal.text.strip()]
        leaf.tree.counters["invalid_actions"] += asked - len(proposals)
        if not proposals:
            raise ValueError("it proposed nothing")
        if any(np.isnan(proposal.logp) for proposal in proposals):
            raise ValueError("it gave a proposal with a log-probability that is NaN")
        merged: dict[str, list[Proposal]] = {}
        for proposal in proposals:
            merged.setdefault(normalised(proposal.text), []).append(proposal)
        leaf.proposals = [alike[0] for alike in merged.values()]
        leaf.actions = [proposal.text for proposal in leaf.proposals]
        leaf.logps = np.log([len(alike) / len(proposals) for alike in merged.values()])
        leaf.tree.counters["merged_proposals"] += len(proposals) - len(merged)

    def _add_children(self, leaf: _Selected) -> None:
        """Step the simulator once for each action, and keep the children that lead somewhere new."""
        try:
            children = self._children(leaf)
        except Exception as error:
            leaf.error = _said("the simulator", error)
            return
        tree, settings, logps, actions = leaf.tree, self.settings, leaf.logps, leaf.actions
        assert logps is not None
        assert actions is not None
        logged = logps.tolist() if leaf.proposals is None else [proposal.logp for proposal in leaf.proposals]
        kept = children.kept
        if len(kept) < len(actions):
            tree.counters["dropped_revisits"] += len(actions) - len(kept)
            actions, logps, logged = [actions[i] for i in kept], logps[kept], [logged[i] for i in kept]
            if kept and not usable(logps):
                logps = np.zeros(len(kept))
        priors = mixed_prior(logps, settings.prior_temperature, settings.uniform_prior) if kept else logps
        first = tree.add_children(
            leaf.node, actions, children.states, priors, logged, children.rewards, children.flags, children.positions
        )
        if leaf.proposals is None:
            return
        tree.counters["invalid_actions"] += sum(1 for flags in children.flags if flags & INVALID)
        identity = getattr(self.policy, "policy_id", "")
        for offset, i in enumerate(kept):
            proposal = leaf.proposals[i]
            if proposal.token_ids:
                turn = acted(proposal.text, token_ids=proposal.token_ids, logps=proposal.logps, policy_id=identity)
                tree.log_turn(first + offset, turn)

    def _children(self, leaf: _Selected) -> "_Children":
        """What each action leads to, without those that lead back onto their own path."""
        simulator, settings = self.simulator, self.settings
        before, proposed = leaf.state, leaf.proposals is not None
        seen = None if settings.revisit else leaf.tree.positions_on_path(leaf.node)
        children = _Children()
        for i, action in enumerate(leaf.actions or ()):
            state = simulator.step(before, action)
            if seen is not None:
                position = simulator.position(state)
                if position in seen:
                    continue
                children.positions.append(position)
            player = simulator.current_player(state)
            if player == CHANCE:
                raise NotImplementedError("a chance node; this search handles none")
            flags = 0
            if player == GAME_OVER:
                flags = TERMINAL if settings.hide_outcome else TERMINAL | VALUED
            if proposed and simulator.info(state)["invalid_action"]:
                flags |= INVALID
            children.kept.append(i)
            children.states.append(state)
            children.flags.append(flags)
            children.rewards.append(0.0 if settings.hide_outcome else float(simulator.rewards(state)[0]))
        return children

    # ---- asking the evaluator -----------------------------------------------------------------------------------

    def _evaluate(self, leaves: Sequence[_Selected]) -> np.ndarray:
        asked = [
            Leaf(
                self.simulator,
                leaf.state,
                leaf.transcript,
                bool(leaf.flags & TERMINAL),
                leaf.tree.rng,
                leaf.tree.index,
                leaf.node,
            )
            for leaf in leaves
        ]
        values = self.evaluator.evaluate(asked)
        calls = getattr(self.evaluator, "last_calls", None) or [1] * len(leaves)
        for leaf, count in zip(leaves, calls, strict=True):
            self._count_calls(leaf.tree, count)
        return values

    def _take_value(self, leaf: _Selected, values: Any) -> None:
        if np.shape(values) != (self.simulator.players,):
            raise ValueError(f"it gave values of shape {np.shape(values)}; expected one for each player")
        leaf.value = float(values[0])
        if not np.isfinite(leaf.value):
            raise ValueError(f"it gave the value {leaf.value}")

    def _count_calls(self, tree: Tree, calls: int) -> None:
        tree.counters["model_calls"] += calls
        self.model_calls += calls


def normalised(text: str) -> str:
    """The text by which two proposals count as equal: blanks at the ends and runs of blanks inside a line do not
    matter; the indentation of a line does, and so does case."""
    lines = text.strip().splitlines()
    return "\n".join(line[: len(line) - len(line.lstrip())] + " ".join(line.split()) for line in lines)


def _said(who: str, error: Exception) -> str:
    return f"{who} failed: {type(error).__name__}: {error}"


def _ask(
    who: str,
    leaves: Sequence[_Selected],
    call: Callable[[Sequence[_Selected]], Sequence[Any] | np.ndarray],
    take: Callable[[_Selected, Any], None],
) -> None:
    """One batch call for all leaves; where it raises or answers too little, one call a leaf, so that a bad leaf takes
    no other with it: the trees' generators are set back before. An answer that ``take`` refuses costs its leaf."""
    if not leaves:
        return
    generators = [leaf.tree.rng.bit_generator for leaf in leaves] if len(leaves) > 1 else []
    states = [generator.state for generator in generators]
    try:
        answers = call(leaves)
        if len(answers) != len(leaves):
            raise ValueError(f"it gave {len(answers)} answers for {len(leaves)} questions")
    except Exception as error:
        if len(leaves) == 1:
            leaves[0].error = _said(who, error)
            return
        for generator, state in zip(generators, states, strict=True):
            generator.state = state
        for leaf in leaves:
            _ask(who, [leaf], call, take)
        return
    for leaf, answer in zip(leaves, answers, strict=True):
        try:
            take(leaf, answer)
        except Exception as error:
            leaf.error = _said(who, error)
