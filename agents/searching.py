"""Acting by search: from every state a tree is grown, and the action of its best child is played.

All states of a batch are searched together (``search.engine``), so that their leaves share forwards. Trees are not
kept from one decision to the next. A search that reads the environment's rewards knows the outcome of what it tries:
that is an oracle, and the agent's name says so; ``SearchSettings(hide_outcome=True)`` with an evaluator that judges
transcripts is what an agent could do in the world."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..envs.simulator import Simulator
from ..search.engine import Root, SearchSettings, search
from ..search.evaluation import Evaluator
from ..search.policy import Policy
from ..search.transcript import Transcript
from ..search.tree import Tree
from .agent import Decision


class SearchingAgent:
    """Plays the best action of a search with ``policy`` and ``evaluator`` under ``settings``."""

    def __init__(
        self,
        policy: Policy,
        evaluator: Evaluator,
        settings: SearchSettings | None = None,
        name: str | None = None,
        view: Callable[[Simulator[Any]], Simulator[Any]] = lambda simulator: simulator,
    ) -> None:
        self.policy = policy
        self.evaluator = evaluator
        self.view = view
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
        trees = search(self.view(simulator), roots, self.policy, self.evaluator, self.settings, rngs)
        return [Decision(self._action(simulator, tree), int(tree.counters["model_calls"])) for tree in trees]

    def _action(self, simulator: Simulator[Any], tree: Tree) -> str:
        """The search's answer; where the policy had nothing to propose at the root, the first legal action, or empty
        text, which the environment counts as invalid."""
        if len(tree.children(0)):
            return tree.best_action(self.settings.final)
        legal = simulator.legal_actions(tree.states[0])
        return legal[0] if legal else ""
