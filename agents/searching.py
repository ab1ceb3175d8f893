"""Acting by search: from every state a tree is grown, and the action of its best child is played.

All states of a batch are searched together (``search.engine``), so that their leaves share forwards. Trees are not
kept from one decision to the next. A search that reads the environment's rewards knows the outcome of what it tries:
that is an oracle, and the agent's name says so; ``SearchSettings(hide_outcome=True)`` with an evaluator that judges
transcripts is what an agent could do in the world."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..envs.simulator import Simulator
from ..search.engine import Root, SearchSettings, search
from ..search.evaluation import Evaluator
from ..search.policy import Policy
from ..search.transcript import Transcript
from .agent import Decision


class SearchingAgent:
    """Plays the best action of a search with ``policy`` and ``evaluator`` under ``settings``."""

    def __init__(
        self, policy: Policy, evaluator: Evaluator, settings: SearchSettings | None = None, name: str | None = None
    ) -> None:
        self.policy = policy
        self.evaluator = evaluator
        self.settings = settings or SearchSettings()
        kind = "search" if self.settings.hide_outcome else "oracle search"
        self.name = name or f"{kind}, {self.settings.simulations} simulations"

    def act(
        self,
        simulator: Simulator[Any],
        states: Sequence[Any],
        transcripts: Sequence[Transcript],
        rngs: Sequence[np.random.Generator],
    ) -> list[Decision]:
        roots = [Root(state, transcript) for state, transcript in zip(states, transcripts, strict=True)]
        trees = search(simulator, roots, self.policy, self.evaluator, self.settings, rngs)
        return [Decision(tree.best_action(self.settings.final), int(tree.counters["model_calls"])) for tree in trees]
