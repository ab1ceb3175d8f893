"""Acting straight from a policy: its likeliest legal action, or one drawn from it.

Where the legal actions are listed they are scored, ``a = argmax_a log π(a | s)`` or ``a ~ softmax(log π /
temperature)``; where any text may be an answer the policy proposes one. No look-ahead."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..envs.simulator import Simulator
from ..search.evaluation import sampled
from ..search.policy import Policy, PolicyFunction, Proposal, as_policy, propose
from ..search.transcript import Transcript
from .agent import Decision


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
                answers = propose(self.policy, asked, 1, [rngs[i] for i in free])
            for i, proposals in zip(free, answers, strict=True):
                decisions[i] = Decision(proposals[0].text if proposals else "", 1)
        return decisions
