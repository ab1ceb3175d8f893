"""A leaf on its way through a batch: what each stage learns about it, and what the policy and the critic say there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..envs.play.policy import Proposal
from ..envs.play.transcript import Transcript
from .trees.tree import Tree


@dataclass(slots=True)
class Words:
    """The actions of a leaf and what was said of each, side by side.

    ``logps``: float64 ``[actions]``, of which the prior is made: what the policy measured (``measured``), equal numbers
    without a policy, and shares among ``proposals`` where it proposed the actions; ``proposed`` is how many proposals
    these were before equal ones were merged. ``opinions``: what a critic says of each, float64 ``[actions]``.
    """

    actions: Sequence[str]
    logps: np.ndarray
    measured: bool = False
    proposals: Sequence[Proposal] | None = None
    proposed: int = 0
    opinions: np.ndarray | None = None

    @property
    def logged(self) -> list[float]:
        """The log-probability of each action under the policy; NaN where no policy measured it."""
        if self.proposals is not None:
            return [proposal.logp for proposal in self.proposals]
        return self.logps.tolist() if self.measured else [float("nan")] * len(self.logps)

    def only(self, kept: Sequence[int]) -> "Words":
        """What was said of these actions, in this order."""
        return Words(
            [self.actions[i] for i in kept],
            self.logps[kept],
            self.measured,
            None if self.proposals is None else [self.proposals[i] for i in kept],
            self.proposed,
            None if self.opinions is None else self.opinions[kept],
        )


@dataclass(slots=True, eq=False)
class Selected:
    """A leaf under way. ``value`` is that of its state for player 0, or for all players where the tree keeps all
    returns. ``path`` is filled where nodes have several parents, ``state`` where it is known, ``earned`` (rewards along
    the path) in trees of information sets, ``words`` where it can get children. ``error``: what failed, in words."""

    tree: Tree
    node: int
    depth: int
    flags: int
    path: np.ndarray | None = None
    state: Any = None
    earned: np.ndarray | None = None
    transcript: Transcript = ()
    words: Words | None = None
    value: float | np.ndarray = 0.0
    error: str = ""

    @property
    def rng(self) -> np.random.Generator:
        return self.tree.rng

    @property
    def said(self) -> Words:
        """``words``, where they are there."""
        assert self.words is not None
        return self.words
