"""Agents that do not look ahead: a policy's likeliest legal action or one drawn from it, and players by rule.

Where the legal actions are listed a policy scores them, ``a = argmax_a log π(a | s)`` or ``a ~ softmax(log π /
temperature)``; in free text it proposes one. Players by rule are :data:`~branchwise.envs.opponents.Opponent` functions
in the agent's place; :func:`scripted_agents` has those that an environment's row names."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..opponents import Opponent, named_opponent, random_opponent
from ..registry import environment_row
from ..simulator import Simulator
from ..views import without_view
from .agent import Decision
from .policy import Policy, PolicyFunction, Proposal, as_policy
from .sampling import sampled
from .transcript import Transcript


@runtime_checkable
class GreedyPolicy(Policy, Protocol):
    """A policy that can give its likeliest text, token by token."""

    def propose_best(self, transcripts: Sequence[Transcript]) -> list[list[Proposal]]:
        """At most one proposal for each transcript; no randomness."""
        ...


class PolicyAgent:
    """``temperature=0`` takes the likeliest legal action, and the greedy text where the policy offers
    ``propose_best``; otherwise texts are proposals at the policy's own temperature. A policy that proposes nothing
    acts with the empty text, which environments count as an invalid action. Log-probabilities that are none (NaN,
    infinite, of another number than the actions) raise ValueError. A function is a policy too
    (``search.policy.FunctionPolicy``)."""

    def __init__(self, policy: Policy | PolicyFunction, temperature: float = 0.0, name: str = "policy") -> None:
        if not temperature >= 0:
            raise ValueError(f"temperature={temperature}; take 0 for the likeliest action or a positive number")
        if policy is None:
            raise TypeError("policy is None; an agent that asks nobody is RandomAgent()")
        self.policy: Policy = as_policy(policy)
        self.temperature = temperature
        self.name = name

    def act(
        self,
        simulator: Simulator[Any],
        states: Sequence[Any],
        transcripts: Sequence[Transcript],
        rngs: Sequence[np.random.Generator],
    ) -> list[Decision]:
        legal = [simulator.legal_actions(state) for state in states]
        decisions = [Decision("", 0)] * len(states)
        listed = [(i, actions) for i, actions in enumerate(legal) if actions]
        if listed:
            scores = self.policy.score([transcripts[i] for i, _ in listed], [actions for _, actions in listed])
            for (i, actions), logps in zip(listed, scores, strict=True):
                decisions[i] = Decision(actions[sampled(logps, self.temperature, rngs[i], len(actions))], 1)
        free = [i for i, actions in enumerate(legal) if actions is None]
        if free:
            asked = [transcripts[i] for i in free]
            if self.temperature == 0 and isinstance(self.policy, GreedyPolicy):
                answers = self.policy.propose_best(asked)
            else:
                answers = self.policy.propose(asked, 1, [rngs[i] for i in free])
            for i, proposals in zip(free, answers, strict=True):
                decisions[i] = Decision(proposals[0].text if proposals else "", 1)
        return decisions


class ScriptedAgent:
    """``opponent`` in the agent's place, in a game as the viewed player. Asks no model."""

    def __init__(self, opponent: Opponent, name: str) -> None:
        self.opponent = opponent
        self.name = name

    def act(
        self,
        simulator: Simulator[Any],
        states: Sequence[Any],
        transcripts: Sequence[Transcript],
        rngs: Sequence[np.random.Generator],
    ) -> list[Decision]:
        return [Decision(self.choose(simulator, state, rng), 0) for state, rng in zip(states, rngs, strict=True)]

    def choose(self, simulator: Simulator[Any], state: Any, rng: np.random.Generator) -> str:
        """The action in ``state``."""
        return self.opponent(*without_view(simulator, state), rng)


class RandomAgent(ScriptedAgent):
    """Uniform over the legal actions; in free text one of those that ``envs.abilities`` suggests."""

    def __init__(self) -> None:
        super().__init__(random_opponent, "random")


def scripted_agents(env_id: str) -> dict[str, Callable[[], ScriptedAgent]]:
    """Makers of an environment's agents by rule, by name: ``"random"`` (the row's own, else :class:`RandomAgent`) and
    those that its row names."""
    row = environment_row(env_id)
    named = dict(row.opponents or row.solvers)
    return {name: partial(_scripted, name, named) for name in dict.fromkeys(("random", *named))}


def scripted_agent(env_id: str, name: str) -> ScriptedAgent:
    """The player by rule of that name in the environment, or one's own by ``module:name``. Raises ``ValueError`` where
    there is none."""
    known = scripted_agents(env_id)
    if name in known:
        return known[name]()
    if ":" not in name:
        raise ValueError(f"{env_id} has no player {name!r}; it has {', '.join(known)}, or module:name of your own")
    return ScriptedAgent(named_opponent(name), name.rpartition(":")[2])


def _scripted(name: str, named: Mapping[str, str]) -> ScriptedAgent:
    return ScriptedAgent(named_opponent(name, named), name)
