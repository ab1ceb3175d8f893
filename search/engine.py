"""Monte-Carlo tree search over many trees at once, with every model call batched across them.

One batch is: select leaves in all trees → one ``policy.score`` (or ``propose`` where any text may be an answer) for
the nodes to expand → ``simulator.step`` for their children → one ``evaluator.evaluate`` → back up. The options of
:class:`SearchSettings` make it the search of Agent Q (UCB1, roll-outs, running mean), MCTS-DPO (PUCT, log-probability
priors, Bellman backup), AlphaZero, Gumbel MuZero, and of most others; see ``rules/selection.py`` and
``rules/backup.py``.

Players: one; two with opposed interests (a simulator with ``zero_sum = True``: one number a node, MCTS-Solver); or any
number, each of whom maximises its own return (max^n). Chance nodes are sampled by probability. Hidden information is
searched over determinised walks (``information.py``).

A tree's result depends on its root, its settings and its own generator alone, not on the trees that it shares batches
with, as long as the policy and the evaluator answer each member of a batch alike whatever the batch. (A policy that
samples draws for each transcript from the generator that comes with it.) The one exception are members of a batch call
that raised: they are asked again one at a time.

What fails costs its leaf: an exception, a number that is NaN, infinite or beyond ±3.4e38 (float32), an answer of the
wrong length, too late or missing, from policy, critic, evaluator, bonus or simulator, is counted in
``tree.counters["failed_leaves"]``, with the last reason in ``tree.last_error``, and the search continues. An action
whose step fails costs itself alone (``failed_actions``): another is selected in its place, and the node fails where all
of its actions did; an outcome of chance costs its leaf. The search stops with :class:`SearchStopped` past
``max_failed_share``, which is looked at from 20 leaves on and, however few there were, at the end; and where every leaf
failed.

Not handled: simultaneous moves (write them as hidden successive moves), continuous actions.
"""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..envs.abilities import hides
from ..envs.checked import LARGEST
from ..envs.play.policy import Policy, PolicyFunction, as_policy
from ..envs.play.task import Root
from ..envs.promises import shown
from ..envs.simulator import Simulator
from .border import (
    check_first_step,
    check_hook,
    check_root,
    check_simulator_methods,
    checked_settings,
    generators,
)
from .calls import ask, failure, in_range
from .evaluation import Evaluator, Leaf, LeafFunction, as_evaluator, calls_of_each, name_of
from .expansion import Bonus, Critic, Expansion, Same, expandable, normalised, prepare_root
from .information import InformationWalk
from .interruption import Interruption
from .nodewise import WholeTreeWalk
from .rules import swe_search
from .rules.gumbel import not_planned
from .rules.options import Gumbel, Softmax, UctBonus
from .rules.selection import rule_in
from .selected import Selected
from .settings import SearchSettings, settings_record
from .trees.information_tree import InformationTree
from .trees.nodes import ENDED, EXPANDED, SOLVED, VALUED
from .trees.tree import Tree
from .walks import PlainWalk, Walk
from .widening import Widening

__all__ = ["Root", "SearchSettings", "SearchStopped", "extend", "normalised", "search"]

Progress = Callable[[int, int, int], None]

LEAST_LEAVES_BEFORE_STOPPING = 20
LASTING: Final = ("backup", "discount", "hide_outcome", "transpositions", "solve")
"""Settings by which a tree's numbers are to be read: they stay for as long as it grows."""


class SearchStopped(RuntimeError):  # noqa: N818 - not an error of the caller's
    """Too many leaves failed, or all. ``trees`` holds what was searched until then."""

    def __init__(self, message: str, trees: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.trees = trees


def search(
    simulator: Simulator[Any],
    roots: Sequence[Root],
    policy: Policy | PolicyFunction | None,
    evaluator: Evaluator | LeafFunction,
    settings: SearchSettings | None = None,
    rng: np.random.Generator | Sequence[np.random.Generator] | int | None = None,
    progress: Progress | None = None,
    *,
    critic: Critic | None = None,
    same: Same | None = None,
    bonus: Bonus | None = None,
    autosave: str | Path | None = None,
) -> list[Tree]:
    """Grow one tree from each root.

    ``policy``: None gives every legal action the same prior and asks nobody; a function becomes a ``FunctionPolicy``.
    ``evaluator``: a function becomes a ``ValueFunction``.
    ``rng``: one generator, from which each tree gets a child of its own, one generator a root, or a seed; default 0.
    ``progress(simulations, nodes, model_calls)`` is called after each batch with totals over all trees
    (``progress.SearchBar`` shows a bar).
    ``critic`` says what actions are worth before they are tried (``critic_weight``, ``unvisited_value="prior"``);
    ``same(text, text)`` says which proposals count as one, in place of ``merge``; ``bonus(tree, node)`` is the additive
    term of ``uct_bonus``, in place of ``bonus_terms``, asked anew for the nodes on the path and their siblings after
    each simulation.
    ``autosave``: on Ctrl-C or SIGTERM finish the batch, write the trees there (``store.load_trees``), and raise
    KeyboardInterrupt or SystemExit; a second signal leaves at once.
    Raises TypeError for an argument of another type, ValueError where simulator, settings and evaluator do not go
    together and where the simulator's first step is not what a simulator promises, :class:`SearchStopped` where too
    much fails.
    """
    settings, policy = checked_settings(settings), as_policy(policy)
    check_simulator_methods(simulator)
    roots = checked_roots(simulator, roots)
    if roots:
        check_first_step(simulator, roots[0].state, policy)
    given = generators(rng)
    rngs = given.spawn(len(roots)) if isinstance(given, np.random.Generator) else given
    if len(rngs) != len(roots):
        raise ValueError(f"{len(rngs)} generators for {len(roots)} roots; pass one generator, or one a root")
    trees = []
    for index, (root, generator) in enumerate(zip(roots, rngs, strict=True)):
        make = Tree if settings.information == "perfect" else InformationTree
        trees.append(
            make(
                simulator,
                root.state,
                root.transcript,
                root.task,
                index,
                generator,
                settings.discount,
                players=simulator.players,
                zero_sum=is_zero_sum(simulator),
            )
        )
        trees[-1].begin(root)
    return extend(
        simulator,
        trees,
        policy,
        evaluator,
        settings,
        progress,
        critic=critic,
        same=same,
        bonus=bonus,
        autosave=autosave,
    )


def extend(
    simulator: Simulator[Any],
    trees: list[Tree],
    policy: Policy | PolicyFunction | None,
    evaluator: Evaluator | LeafFunction,
    settings: SearchSettings,
    progress: Progress | None = None,
    *,
    critic: Critic | None = None,
    same: Same | None = None,
    bonus: Bonus | None = None,
    autosave: str | Path | None = None,
) -> list[Tree]:
    """Go on with trees until each has had ``settings.simulations`` simulations, earlier ones included; returns them.

    With ``leaves_per_tree=1`` a tree that was saved, loaded and extended equals one that was searched in one go; with
    more it need not: the batches begin elsewhere, and other leaves share them. Under ``gumbel``, whose plan
    depends on ``simulations``, a tree can be resumed to the number that it was planned for, and not be extended beyond
    (ValueError), nor after ``Tree.reroot``.
    """
    settings, asked, judge = checked_settings(settings), as_policy(policy), as_evaluator(evaluator)
    check_simulator_methods(simulator)
    check_hook("critic", critic, "values")
    for name, hook in (("same", same), ("bonus", bonus), ("progress", progress)):
        check_hook(name, hook)
    rule = settings.rule
    if bonus is None and isinstance(rule, UctBonus) and rule.bonus_terms:
        bonus = swe_search.bonus(rule.bonus_terms)
    _check(simulator, trees, judge, settings, critic, bonus)
    _warn_of_foreknowledge(simulator, settings)
    as_json = settings.as_json()
    for tree in trees:
        tree.forget_pending()
        tree.settings, tree.discount = dict(as_json), settings.discount
        tree.seed_noise(tree.rng)
        if rule.name != "gumbel":
            tree.forget_plan()
        if tree.has(0, EXPANDED):
            prepare_root(tree, settings)
    run = _Run(simulator, trees, asked, judge, settings, critic, same, bonus)
    if hasattr(progress, "trees"):
        progress.trees = trees  # type: ignore[union-attr]
    with Interruption(trees, autosave) as interruption:
        while leaves := run.select():
            run.expand(leaves)
            run.evaluate(leaves)
            run.back_up(leaves)
            if progress is not None:
                progress(run.simulations, sum(tree.size for tree in trees), run.model_calls)
            run.stop_if_too_much_failed()
            interruption.leave_if_asked()
    run.stop_if_too_much_failed(over=True)
    return trees


def checked_roots(simulator: Simulator[Any], roots: Any) -> list[Root]:
    """The roots as a list. Raises TypeError and ValueError as :func:`search`."""
    if isinstance(roots, Root):
        raise TypeError("roots is one Root; pass a list, [root]")
    if isinstance(roots, str | dict) or not hasattr(roots, "__iter__"):
        raise TypeError(f"roots is {shown(roots)}; pass a list, [Root(state)]")
    found = list(roots)
    for index, root in enumerate(found):
        if not isinstance(root, Root):
            raise TypeError(f"root {index} is {shown(root)}; wrap the state, Root(state, transcript, task)")
        check_root(simulator, f"root {index}", root.state, root.transcript, root.task)
    return found


def is_zero_sum(simulator: Simulator[Any]) -> bool:
    """Whether the simulator says that two players' returns add up to zero."""
    return simulator.players == 2 and bool(getattr(simulator, "zero_sum", False))


def _read_of_nodes(settings: Mapping[str, Any]) -> list[str]:
    """The settings that read something of nodes which they alone put there, in words: the ``hint``, the order of
    children by their prior, the bounds of values. (What counts availability among information sets is no setting.)"""
    found = []
    rule, options = rule_in(settings)
    if rule in ("gumbel", "uct_bonus"):
        found.append(f"selection={rule!r}")
    if settings.get("critic_weight") or options.get("unvisited_value") == "prior":
        found.append("a critic")
    if settings.get("widening"):
        found.append("widening")
    if settings.get("normalise") == "tree":
        found.append("normalise='tree'")
    return found


def _warn_of_foreknowledge(simulator: Simulator[Any], settings: SearchSettings) -> None:
    if settings.information == "perfect" and getattr(simulator, "foreknowledge", False):
        warnings.warn(
            f"{type(simulator).__name__} repeats its luck when a state is stepped from again, so this search knows what"
            " luck will bring and values states too high; information='single_observer' plans without that",
            stacklevel=4,
        )


def _check(
    simulator: Simulator[Any],
    trees: Sequence[Tree],
    evaluator: Evaluator,
    settings: SearchSettings,
    critic: Critic | None,
    bonus: Bonus | None,
) -> None:
    name = type(simulator).__name__
    if settings.hide_outcome and evaluator.reads_outcome:
        raise ValueError(
            f"{name_of(evaluator)} reads the environment's rewards, which hide_outcome=True forbids; use an "
            "evaluator that judges transcripts, or hide_outcome=False"
        )
    if simulator.players > 1 and settings.backup == "max":
        raise ValueError(
            f"{name} has {simulator.players} players, and backup='max' keeps the best return of one; use 'minimax'"
        )
    if settings.asks_critic != (critic is not None):
        raise ValueError(
            f"critic_weight={settings.critic_weight} and unvisited_value={settings.unvisited_value or None!r} "
            + ("ask a critic; pass critic=" if critic is None else "read no critic, and one was passed")
        )
    if (settings.rule.name == "uct_bonus") != (bonus is not None):
        raise ValueError(
            f"selection={settings.rule.name!r} "
            + (
                "adds a bonus; pass bonus=, or name bonus_terms"
                if bonus is None
                else "adds no bonus, and one was passed"
            )
        )
    if settings.information != "perfect" and not hides(simulator):
        raise ValueError(
            f"information={settings.information!r} draws states that a player cannot tell apart, and {name} has no"
            " resample that draws anything anew; write one, or search with information='perfect'"
        )
    asked = settings.as_json()
    for tree in trees:
        other = [name for name in LASTING if tree.visits(0) and tree.settings.get(name, asked[name]) != asked[name]]
        if other:
            raise ValueError(
                f"tree {tree.index} was grown with {other[0]}={tree.settings[other[0]]!r}, which says how to read its"
                f" numbers; go on with that, or search anew with {other[0]}={asked[other[0]]!r}"
            )
        if tree.simulator is None:
            raise ValueError(f"tree {tree.index} was loaded without its simulator; load_trees(path, simulator)")
        information = tree.settings.get("information", settings.information) if tree.visits(0) else settings.information
        if (
            isinstance(tree, InformationTree) != (settings.information != "perfect")
            or information != settings.information
        ):
            raise ValueError(f"tree {tree.index} was searched with other settings of information; search it anew")
        if isinstance(settings.rule, Gumbel) and tree.counters["simulations"] < settings.simulations:
            reason = tree.why_not_planned(settings.simulations, settings.rule.considered)
            if reason:
                raise ValueError(not_planned(tree.index, settings.simulations, reason))
        before = _read_of_nodes(tree.settings if tree.visits(0) and tree.settings else asked)
        lacking = [name for name in _read_of_nodes(asked) if name not in before]
        if lacking:
            raise ValueError(
                f"tree {tree.index} was grown without {lacking[0]}, so its nodes lack what that reads; go on without"
                f" it, or search anew with {lacking[0]}"
            )


def _walk(
    simulator: Simulator[Any],
    settings: SearchSettings,
    record: np.ndarray,
    expansion: Expansion,
    zero_sum: bool,
    reads_transcripts: bool,
) -> Walk:
    """The way of walking that the settings ask for."""
    if settings.information != "perfect":
        return InformationWalk(simulator, settings, record, expansion)
    whole_tree = isinstance(settings.rule, Softmax) or (
        isinstance(settings.rule, UctBonus) and settings.rule.whole_tree
    )
    kind = WholeTreeWalk if whole_tree else PlainWalk
    return kind(simulator, settings, record, expansion, zero_sum, reads_transcripts)


class _Run:
    def __init__(
        self,
        simulator: Simulator[Any],
        trees: list[Tree],
        policy: Policy | None,
        evaluator: Evaluator,
        settings: SearchSettings,
        critic: Critic | None,
        same: Same | None,
        bonus: Bonus | None,
    ) -> None:
        self.simulator = simulator
        self.trees = trees
        self.evaluator = evaluator
        self.settings = settings
        self.simulations = 0
        self.model_calls = 0
        self.failed = 0
        self.open = list(trees)
        self.started = time.monotonic()
        self.zero_sum = is_zero_sum(simulator)
        self.record = settings_record(settings, zero_sum=self.zero_sum, players=simulator.players)
        self.expansion = Expansion(simulator, policy, critic, settings, same, bonus, self._count_calls)
        reads = policy is not None or critic is not None or evaluator.reads_transcripts
        self.walk = _walk(simulator, settings, self.record, self.expansion, self.zero_sum, reads)
        widens = settings.widening > 0.0 and policy is not None
        self.widening = Widening(self.expansion, settings, self.record, trees) if widens else None

    # ---- the stages of a batch ----------------------------------------------------------------------------------

    def select(self) -> list[Selected]:
        """Leaves of all trees that are not done; empty where none is left."""
        settings = self.settings
        stop = self._reason_to_stop()
        if self.widening is not None and not stop:
            self.failed += self.widening.widen(
                [t for t in self.open if t.counters["simulations"] < settings.simulations]
            )
        for tree in self.open:
            tree.stopped = stop or self._reason_to_stop_tree(tree)
        self.open = [tree for tree in self.open if not tree.stopped]
        leaves: list[Selected] = []
        for tree in self.open:
            budget = min(settings.leaves_per_tree, settings.simulations - tree.counters["simulations"])
            drawn: list[Selected] = []
            for _ in range(budget):
                leaf = self.walk.next(tree, drawn)
                if leaf is None:
                    break
                drawn.append(leaf)
                tree.counters["simulations"] += 1
            if not drawn:
                tree.stopped = self._reason_to_stop_tree(tree) or tree.left_out() or "exhausted"  # no node can grow
            leaves.extend(drawn)
        self.simulations += len(leaves)
        return leaves

    def expand(self, leaves: Sequence[Selected]) -> None:
        """Give children to the leaves that can have some: one call of the policy for all of them."""
        growing = []
        for leaf in leaves:
            if leaf.flags & (VALUED | SOLVED) or leaf.error:
                continue
            try:
                leaf.transcript = self.walk.transcript(leaf)
            except Exception as error:
                leaf.error = failure("the simulator", error)
                continue
            if expandable(leaf, self.settings.max_depth):
                growing.append(leaf)
        self.walk.expand(growing)

    def evaluate(self, leaves: Sequence[Selected]) -> None:
        """Value every leaf whose return is not known yet: one call of the evaluator for all of them."""
        pending = [leaf for leaf in leaves if not leaf.flags & (VALUED | SOLVED) and not leaf.error]
        ask("evaluator.evaluate", pending, self._evaluate, self._take_value, self.expansion.patience)

    def back_up(self, leaves: Sequence[Selected]) -> None:
        """Tell the trees what was found, and what failed."""
        for leaf in leaves:
            tree = leaf.tree
            if leaf.error:
                self.failed += 1
                tree.abandon(leaf.node, leaf.error, self.record, leaf.path)
            elif error := self.walk.back_up(leaf):
                self.failed += 1
                tree.count_failure(error)
            if self.widening is not None:  # what failed may have closed nodes above it
                self.widening.touch(tree, tree.path(leaf.node) if leaf.path is None else leaf.path.tolist())

    def stop_if_too_much_failed(self, over: bool = False) -> None:
        """Raise :class:`SearchStopped`: before the search is ``over`` by a share of 20 leaves and more; then by a share
        of all that these trees ever valued, so that one lost leaf stops none that goes on from many good ones."""
        leaves = self.simulations
        if over:
            leaves = self.failed + sum(tree.visits(0) for tree in self.trees)
        elif leaves < LEAST_LEAVES_BEFORE_STOPPING:
            return
        share = self.settings.max_failed_share
        if self.failed and (self.failed > share * leaves or self.failed == leaves):
            last = next(tree.last_error for tree in reversed(self.trees) if tree.last_error)
            reason = f"more than max_failed_share={share}" if self.failed > share * leaves else "all that there were"
            raise SearchStopped(
                f"{self.failed} of {leaves} leaves failed, {reason}; the last one because {last}", self.trees
            )

    # ---- limits -------------------------------------------------------------------------------------------------

    def _reason_to_stop(self) -> str:
        settings = self.settings
        if settings.seconds is not None and time.monotonic() - self.started >= settings.seconds:
            return "seconds"
        calls = settings.max_model_calls
        if calls is not None and sum(tree.counters["model_calls"] for tree in self.trees) >= calls:
            return "max_model_calls"
        if settings.max_bytes is not None and sum(tree.bytes_to_grow() for tree in self.trees) > settings.max_bytes:
            return "max_bytes"
        return ""

    def _reason_to_stop_tree(self, tree: Tree) -> str:
        settings = self.settings
        left = settings.simulations - tree.counters["simulations"]
        if left <= 0:
            return "simulations"
        if tree.has(0, SOLVED):
            return tree.left_out() or "solved"
        if settings.max_nodes is not None and tree.size >= settings.max_nodes:
            return "max_nodes"
        if settings.stop_decided and tree.is_decided(left):
            return "decided"
        return ""

    # ---- asking the evaluator -----------------------------------------------------------------------------------

    def _evaluate(self, leaves: Sequence[Selected]) -> np.ndarray:
        asked = [
            Leaf(
                self.simulator,
                leaf.state,
                leaf.transcript,
                bool(leaf.flags & ENDED),
                leaf.tree.rng,
                leaf.tree.index,
                leaf.node,
                self.settings.discount,
                leaf.tree.reader(leaf.node) if self.simulator.players > 1 else 0,
            )
            for leaf in leaves
        ]
        values = self.evaluator.evaluate(asked)
        for leaf, count in zip(leaves, calls_of_each(self.evaluator, len(leaves)), strict=True):
            self._count_calls(leaf.tree, count)
        return values

    def _take_value(self, leaf: Selected, values: Any) -> None:
        if np.shape(values) != (self.simulator.players,):
            raise ValueError(f"it gave values of shape {np.shape(values)}; expected one for each player")
        if self.simulator.players == 1:
            leaf.value = float(values[0])
            if not in_range(leaf.value):
                raise ValueError(f"it gave the value {leaf.value}; expected a number within ±{LARGEST:.2g}")
            return
        returns = np.array(values, np.float64)
        if not in_range(returns):
            raise ValueError(f"it gave the values {returns}; expected numbers within ±{LARGEST:.2g}")
        if self.zero_sum and abs(returns.sum()) > 1e-6 * max(1.0, abs(returns[0])):
            raise ValueError(f"it gave the values {returns}, and in a zero-sum game they add up to zero")
        leaf.value = returns if self.walk.all_returns else float(returns[0])

    def _count_calls(self, tree: Tree, prompts: int, samples: int = 1) -> None:
        """Prompts that were each asked for a score, or for so many sampled actions."""
        tree.counters["prompts"] += prompts
        tree.counters["model_calls"] += prompts * samples
        self.model_calls += prompts * samples
