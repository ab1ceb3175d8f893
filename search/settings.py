"""The options of a search as one frozen dataclass that YAML can give, and what the kernels read of it.

Options that contradict each other are refused when the settings are made, with the reason; those that contradict a
simulator, policy or evaluator when the search starts (``engine.py``).
"""

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, cast

import numpy as np

from .rules.backup import BACKUP_CODES, Backup
from .rules.options import LARGEST_SCALE, MAX_COUNT, RULES, Puct, Rule, numbers_of, rule_as_json, rule_of
from .rules.selection import FIRST_PLAY_CODES, SELECTION_CODES, Selection
from .trees.nodes import MAX_PENDING, NORMALISE_NOT, NORMALISE_SIBLINGS, NORMALISE_TREE, SETTINGS
from .typed import OneOf, check_fields

Normalise = Literal["no", "tree", "siblings"]
Information = Literal["perfect", "single_observer", "multiple_observer"]
FinalMove = Literal["visits", "value"]

LONGEST_CALL = 1e9
"""Seconds: what a thread can wait for."""

_USUAL_RULE = Puct()
_NORMALISE_CODES = {"no": NORMALISE_NOT, "tree": NORMALISE_TREE, "siblings": NORMALISE_SIBLINGS}


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """The options of a search; the defaults suit short text environments with rewards in [0, 1].

    simulations: leaves a tree, the root's own evaluation included; afterwards the root has as many visits.
    selection: the rule with its options (``rules/options.py``), such as ``Uct(exploration=1.4)``; a name, ``"uct"``, is
        the rule with its defaults. :attr:`rule` reads it.
    proposals: actions sampled at a node where any text may be an answer; alike ones are merged, and the prior is each
        one's share.
    uniform_prior, prior_temperature: the prior is λ · uniform + (1 − λ) · policy^(1/T), renormalised.
    backup, discount: ``rules/backup.py``.
    leaves_per_tree: leaves of one tree in one batch; more than one costs strength, so fill batches with trees first.
    virtual_loss: each leaf under way counts as a visit that returned −virtual_loss.
    max_depth: nodes this deep are valued, but not expanded.
    revisit: whether an action may lead back to a ``simulator.position`` on the path to it.
    hide_outcome: never read the environment's rewards; the evaluator values terminal nodes too, once each.
    solve: a node whose children are all solved is solved, and worth the best of them; of a node's solved children the
        best alone is visited again, where no open one may be better, and no model is asked; a tree with a solved root
        is done. In two-player zero-sum games, MCTS-Solver: a proven win ends its node at once, a proven loss is visited
        no more. It proves who wins, not how soon, so there it is off under a discount, and under hide_outcome.
    final: the rule for the action to play in the end (``Tree.best_child``); ``gumbel`` has its own.
    max_failed_share: the share of failed leaves, of all trees together, at which the search stops.

    normalise: values scaled to [0, 1] by the bounds of the ``tree`` (MuZero), or of ``siblings`` and parent (mctx).
    noise, noise_alpha: the share of Dirichlet(α) in the root's prior (AlphaZero: 0.25).
    random_ties: children of equal score by the tree's generator; else the earliest.
    critic_weight: Q at selection is (1 − weight) · Q + weight · what the critic said of the child (Agent Q).
    proposals_by_depth: ``proposals`` at depth 0, 1, … (MCTS-DPO: 4 then 2); deeper nodes have ``proposals``.
    merge, merge_distance: proposals that count as one: ``exact`` (up to blanks, which count in texts with quotation
        marks), or those whose edit distance is below this share of the longer one (Optima: 0.1).
    widening, widening_power: a node with N visits admits its ⌈C · N^p⌉ likeliest open children; C = 0 admits all. Where
        any text may be an answer and there are fewer, the policy is asked again (``widening.py``).
    visits_only: a leaf under way counts as a visit without a return (WU-UCT, arXiv 1810.11755), not as a loss.
    transpositions: equal states at equal depth are one node with several parents.
    information: hidden information by determinised walks (Cowling, Powley and Whitehouse, 2012): nodes are information
        sets of the root's player (``single_observer``), or of whoever moves (``multiple_observer``, OpenSpiel's).
    seconds, max_nodes, max_bytes, max_model_calls: where to stop besides ``simulations``; nodes a tree, seconds, bytes
        and calls of all trees together (a sampled action is one call, and so is a prompt that is scored).
    stop_decided: stop a tree once the most visited root action cannot be caught up with.
    call_seconds: a call of policy, critic or evaluator that takes longer costs its leaves.
    """

    simulations: int = 32
    selection: Annotated[Rule | Selection, OneOf(RULES)] = _USUAL_RULE
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
    final: FinalMove = "visits"
    max_failed_share: float = 0.5
    normalise: Normalise = "no"
    noise: float = 0.0
    noise_alpha: float = 0.3
    random_ties: bool = False
    critic_weight: float = 0.0
    proposals_by_depth: tuple[int, ...] = ()
    merge: Literal["exact", "edit_distance"] = "exact"
    merge_distance: float = 0.1
    widening: float = 0.0
    widening_power: float = 0.5
    visits_only: bool = False
    transpositions: bool = False
    information: Information = "perfect"
    seconds: float | None = None
    max_nodes: int | None = None
    max_bytes: int | None = None
    max_model_calls: int | None = None
    stop_decided: bool = False
    call_seconds: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "selection", rule_of(self.selection))
        check_fields(self)
        for name, low, high in (
            ("simulations", 1, MAX_COUNT),
            ("proposals", 1, MAX_COUNT),
            ("uniform_prior", 0.0, 1.0),
            ("discount", 0.0, 1.0),
            ("leaves_per_tree", 1, MAX_PENDING),
            ("virtual_loss", 0.0, LARGEST_SCALE),
            ("max_depth", 1, np.inf),
            ("max_failed_share", 0.0, 1.0),
            ("noise", 0.0, 1.0),
            ("critic_weight", 0.0, 1.0),
            ("merge_distance", 0.0, 1.0),
            ("widening", 0.0, MAX_COUNT),
            ("widening_power", 0.0, 1.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"SearchSettings.{name} is {value!r}; expected a number from {low} to {high}")
        for name in ("prior_temperature", "noise_alpha"):
            value = getattr(self, name)
            if not 0.0 < value <= LARGEST_SCALE:
                raise ValueError(
                    f"SearchSettings.{name} is {value!r}; expected more than 0, and at most {LARGEST_SCALE}"
                )
        for name in ("seconds", "max_nodes", "max_bytes", "max_model_calls", "call_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"SearchSettings.{name} is {value!r}; expected more than 0, or None for no limit")
        if self.call_seconds is not None and not self.call_seconds <= LONGEST_CALL:
            raise ValueError(
                f"SearchSettings.call_seconds is {self.call_seconds!r}; expected at most 1e9, or None for no limit"
            )
        if any(not count >= 1 for count in self.proposals_by_depth):
            raise ValueError(
                f"SearchSettings.proposals_by_depth is {self.proposals_by_depth}; expected at least 1 each"
            )
        for wrong, reason in self._contradictions():
            if wrong:
                raise ValueError(f"SearchSettings: {reason}")

    @property
    def rule(self) -> Rule:
        """The rule of selection, with its options."""
        return cast(Rule, self.selection)

    @property
    def unvisited_value(self) -> str:
        """That of the rule; empty where it has none."""
        return getattr(self.selection, "unvisited_value", "")

    @property
    def asks_critic(self) -> bool:
        """Whether the search reads what a critic says of actions before they are tried."""
        return self.critic_weight > 0.0 or self.unvisited_value == "prior"

    @property
    def proves(self) -> bool:
        """Whether a search of a two-player zero-sum game keeps proofs."""
        return self.solve and self.discount == 1.0 and not self.hide_outcome

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON holds them, from which ``SearchSettings(**as_json)`` makes equal ones: tuples are lists,
        the rule its options by its name."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}
        return {**plain, "selection": rule_as_json(self.rule)}

    def _contradictions(self) -> tuple[tuple[bool, str], ...]:
        hidden = self.information != "perfect"
        rule = self.rule.name
        gumbel, bonus = rule == "gumbel", rule == "uct_bonus"
        whole_tree = getattr(self.rule, "whole_tree", False)
        return (
            (
                hidden and self.unvisited_value == "reduced",
                "unvisited_value='reduced' needs the prior mass of all children, and in information sets"
                " the available ones change from walk to walk; use another value",
            ),
            (
                gumbel and self.solve,
                "selection='gumbel' plans the visits of each action, and solve=True skips some; set solve=False",
            ),
            (
                gumbel
                and (self.noise > 0.0 or self.critic_weight > 0.0 or self.normalise != "no" or self.widening > 0),
                "selection='gumbel' has its own noise, values and choice of actions; leave noise, critic_weight,"
                " normalise and widening at their defaults",
            ),
            (
                rule == "softmax" and (hidden or self.widening > 0.0 or self.transpositions),
                "selection='softmax' draws among the nodes of one plain tree; it goes with neither information sets,"
                " transpositions nor widening",
            ),
            (
                whole_tree and (self.widening > 0.0 or self.transpositions),
                "whole_tree=True looks at the nodes of one plain tree, without transpositions and widening",
            ),
            (
                bonus and self.critic_weight > 0.0,
                "selection='uct_bonus' keeps its bonus where a critic's value would stand; use another rule",
            ),
            (
                hidden and (gumbel or bonus or self.backup != "mean" or self.transpositions),
                f"information={self.information!r} goes with backup='mean', without transpositions, and with neither"
                " 'gumbel' nor 'uct_bonus': an information set has no one successor",
            ),
            (
                hidden
                and (self.critic_weight > 0.0 or self.unvisited_value == "prior" or self.normalise == "siblings"),
                f"information={self.information!r} counts availability where a critic's value would stand; leave"
                " critic_weight at 0, and unvisited_value and normalise to other rules",
            ),
            (
                hidden and (self.widening > 0.0 or self.hide_outcome or self.leaves_per_tree > 1),
                f"information={self.information!r} walks one determinisation at a time over all available actions and"
                " reads outcomes; leave widening, hide_outcome and leaves_per_tree at their defaults",
            ),
            (
                self.stop_decided and self.final == "value",
                "stop_decided=True stops once the most visited action cannot be caught up with, and final='value' plays"
                " another; set one of the two",
            ),
            (
                self.max_depth > 65000,
                "max_depth is more than 65000; no path is that long",
            ),
            (
                self.unvisited_value == "infinite" and self.normalise != "no",
                "unvisited_value='infinite' lies outside any bounds; it goes with normalise='no'",
            ),
        )


def settings_record(settings: SearchSettings, *, zero_sum: bool, players: int) -> np.ndarray:
    """The settings as the kernels read them: :data:`nodes.SETTINGS` ``[1]``."""
    record = np.zeros(1, SETTINGS)
    options = numbers_of(settings.rule)
    record["selection"] = SELECTION_CODES[settings.rule.name]
    record["first_play"] = FIRST_PLAY_CODES[options["unvisited_value"]]
    record["normalise"] = _NORMALISE_CODES[settings.normalise]
    record["backup"] = BACKUP_CODES[settings.backup]
    for name in (
        "exploration",
        "exploration_base",
        "exploitation",
        "fpu_value",
        "value_scale",
        "maxvisit_init",
        "rescale_values",
    ):
        record[name] = options[name]
    for name in (
        "critic_weight",
        "widening",
        "widening_power",
        "random_ties",
        "visits_only",
        "virtual_loss",
        "discount",
    ):
        record[name] = getattr(settings, name)
    record["plain"] = (
        settings.rule.name in ("ucb1", "uct", "puct")
        and options["unvisited_value"] in ("zero", "parent")
        and settings.normalise == "no"
        and settings.critic_weight == settings.widening == 0.0
        and not settings.random_ties
        and not settings.visits_only
    )
    record["zero_sum"] = zero_sum and players == 2
    record["proofs"] = zero_sum and players == 2 and settings.proves
    record["solve"] = settings.solve and (settings.proves or not (zero_sum and players == 2))
    return record
