"""What the tree asks of a policy: proposals and scores, always for a batch of transcripts.

Implementations live a floor up (``agents``); the tree sees only this protocol.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from .transcript import Transcript


@dataclass(frozen=True, slots=True)
class Proposal:
    """An action that a policy sampled: its text and ``log π(text | transcript)``, summed over its tokens."""

    text: str
    logp: float
    token_ids: tuple[int, ...] = ()
    logps: tuple[float, ...] = ()


class Policy(Protocol):
    """``calls`` counts the prompts that this policy has been asked about, remembered answers included, so that the
    figure compares methods and not caches."""

    calls: int

    def propose(self, transcripts: Sequence[Transcript], n: int, rng: np.random.Generator) -> list[list[Proposal]]:
        """``n`` sampled actions for each transcript (fewer where the model answered nothing usable)."""
        ...

    def score(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """For each transcript the log-probabilities of its candidates, end of turn included: float64 ``[k]``."""
        ...


@runtime_checkable
class PolicyWithGenerators(Policy, Protocol):
    """A policy that can sample with one generator a transcript, so that what it proposes to one tree does not depend
    on the trees that share the batch."""

    def propose_each(
        self, transcripts: Sequence[Transcript], n: int, rngs: Sequence[np.random.Generator]
    ) -> list[list[Proposal]]:
        """As :meth:`Policy.propose`; ``rngs`` has one generator for each transcript (the same one may come twice)."""
        ...


def propose(
    policy: Policy, transcripts: Sequence[Transcript], n: int, rngs: Sequence[np.random.Generator]
) -> list[list[Proposal]]:
    """Ask with one generator a transcript where the policy can, else with the first of them."""
    each = getattr(policy, "propose_each", None)
    if each is not None:
        return each(transcripts, n, rngs)
    return policy.propose(transcripts, n, rngs[0])
