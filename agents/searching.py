"""Acting by search: from every state a tree is grown, and the action of its best child is played.

All states of a batch are searched together (``search.engine``), so that their leaves share forwards. Trees are not
kept from one decision to the next. A search that reads the environment's rewards knows the outcome of what it tries:
that is an oracle, and the agent's name says so; ``SearchSettings(hide_outcome=True)`` with an evaluator that judges
transcripts is what an agent could do in the world.

One player's view of a game is taken off before the search: luck and the others' moves are then nodes of the tree, where
in the view they would be the future of this very episode."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..envs.abilities import hides
from ..envs.play.agent import Decision
from ..envs.play.policy import Policy, PolicyFunction, as_policy
from ..envs.play.transcript import Transcript
from ..envs.simulator import Simulator
from ..envs.views import without_view
from ..envs.wrappers import ListedActions
from ..search import Tree, compiled
from ..search.border import checked_settings
from ..search.engine import Root, SearchSettings, SearchStopped, search
from ..search.evaluation import Evaluator, LeafFunction, as_evaluator
from ..search.expansion import NOTHING_PROPOSED
from ..search.presets import suited_settings


class SearchingAgent:
    """Plays the best action of a search with ``policy`` and ``evaluator`` under ``settings``.

    Where the policy proposes nothing at a root, or every action there leads back, the first legal action is played, or
    the empty text, which the environment counts as invalid. Whatever else failed in a whole tree is no answer, and
    raises SearchStopped.
    """

    def __init__(
        self,
        policy: Policy | PolicyFunction,
        evaluator: Evaluator | LeafFunction,
        settings: SearchSettings | None = None,
        name: str | None = None,
        view: Callable[[Simulator[Any]], Simulator[Any]] = lambda simulator: simulator,
    ) -> None:
        self.policy: Policy = as_policy(policy)
        self.evaluator: Evaluator = as_evaluator(evaluator)
        self.view = view
        self.settings = checked_settings(settings)
        kind = "search" if self.settings.hide_outcome else "oracle search"
        self.name = name or f"{kind}, {self.settings.simulations} simulations"

    def act(
        self,
        simulator: Simulator[Any],
        states: Sequence[Any],
        transcripts: Sequence[Transcript],
        rngs: Sequence[np.random.Generator],
    ) -> list[Decision]:
        game, roots = _roots(simulator, states, transcripts)
        settings = self.settings
        if settings.information == "perfect" and hides(game):
            hidden = settings.hide_outcome and game.players == 1  # a game's rules say who wins an imagined state
            settings = replace(settings, information="single_observer", hide_outcome=hidden)
        try:
            trees = search(self.view(game), roots, self.policy, self.evaluator, settings, rngs)
        except SearchStopped as stopped:
            if not all(map(_proposed_nothing, stopped.trees)):
                raise
            trees = list(stopped.trees)
        return [Decision(self._action(game, tree), int(tree.counters["model_calls"])) for tree in trees]

    def _action(self, simulator: Simulator[Any], tree: Tree) -> str:
        if tree.last_error and not tree.visits(0) and not _proposed_nothing(tree):
            raise SearchStopped(f"every leaf of a tree failed; the last one because {tree.last_error}", [tree])
        if len(tree.children(0)):
            return tree.best_action()
        legal = simulator.legal_actions(tree.states[0])
        return legal[0] if legal else ""


def _proposed_nothing(tree: Tree) -> bool:
    return not tree.visits(0) and tree.last_error.endswith(NOTHING_PROPOSED)


class RolloutSearcher:
    """Search that knows the rules and nothing else: equal priors, a leaf worth the return of one random roll-out.

    Compiled where the game is. Settings are those that suit the rules (``search.presets``): hidden information is
    searched over states that the player cannot tell apart. Where any text may be an answer, the suggested actions are
    searched (``envs.wrappers``). In a game the roll-outs earn what the rules say of imagined states; in an environment
    for one player they try out the task itself and read its outcome, which makes the agent an oracle: name it so.
    """

    def __init__(self, simulations: int = 100, name: str = "mcts") -> None:
        self.simulations = simulations
        self.name = name

    def act(
        self,
        simulator: Simulator[Any],
        states: Sequence[Any],
        transcripts: Sequence[Transcript],
        rngs: Sequence[np.random.Generator],
    ) -> list[Decision]:
        game, roots = _roots(simulator, states, transcripts)
        settings = SearchSettings(simulations=self.simulations, **suited_settings(game))
        listed: Any = ListedActions(game)
        trees = compiled.search(listed, roots, settings=settings, rng=rngs)
        for tree in trees:
            if isinstance(tree, Tree) and not tree.visits(0):
                raise SearchStopped(f"every leaf of a tree failed; the last one because {tree.last_error}", [tree])
        return [Decision(tree.best_action(), 0) for tree in trees]


def _roots(
    simulator: Simulator[Any], states: Sequence[Any], transcripts: Sequence[Transcript]
) -> tuple[Simulator[Any], list[Root]]:
    """What is searched: the simulator, or the game behind a player's view of it, from its own states."""
    behind = [without_view(simulator, state) for state in states]
    roots = [Root(state, transcript) for (_, state), transcript in zip(behind, transcripts, strict=True)]
    return behind[0][0] if behind else simulator, roots
