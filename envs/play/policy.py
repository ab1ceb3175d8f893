"""What the tree asks of a policy: proposals and scores, always for a batch of transcripts.

Implementations live a floor up (``agents``); the tree sees only this protocol.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

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
    """A policy that is only ever asked for one of the two may lack the other."""

    def propose(
        self, transcripts: Sequence[Transcript], n: int, rngs: Sequence[np.random.Generator]
    ) -> list[list[Proposal]]:
        """``n`` sampled actions for each transcript (fewer where the model answered nothing usable). ``rngs`` has one
        generator for each transcript (the same one may come twice), so that what is proposed to one tree does not
        depend on the trees that share the batch."""
        ...

    def score(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """For each transcript the log-probabilities of its candidates, end of turn included: float64 ``[k]``."""
        ...


PolicyFunction = Callable[[Transcript, Sequence[str]], Sequence[float] | np.ndarray]
ProposalFunction = Callable[[Transcript, int, np.random.Generator], Sequence[Proposal]]


class FunctionPolicy:
    """A policy of plain functions. ``score(transcript, actions)`` gives a log-probability for each action, up to a
    constant; ``propose(transcript, n, rng)`` gives up to ``n`` proposals, where any text may be an answer. A search
    makes one of a function that is passed as its policy, as ``score``.

    >>> policy = FunctionPolicy(lambda transcript, actions: [-len(action) for action in actions])
    >>> policy.score([()], [["buy", "search"]])
    [array([-3., -6.])]
    """

    def __init__(self, score: PolicyFunction | None = None, propose: ProposalFunction | None = None) -> None:
        for name, function in (("score", score), ("propose", propose)):
            if function is not None and not callable(function):
                raise TypeError(f"{name} is {function!r}; expected a function")
        self._score = score
        self._propose = propose
        self.calls = 0

    def has(self, method: Literal["score", "propose"]) -> bool:
        """Whether there is a function for this method."""
        return (self._score if method == "score" else self._propose) is not None

    def score(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """As :meth:`Policy.score`."""
        if self._score is None:
            raise ValueError("the actions are listed here, and the policy only proposes; FunctionPolicy(score=…)")
        self.calls += len(transcripts)
        return [np.array(self._score(t, c), np.float64) for t, c in zip(transcripts, candidates, strict=True)]

    def propose(
        self, transcripts: Sequence[Transcript], n: int, rngs: Sequence[np.random.Generator]
    ) -> list[list[Proposal]]:
        """As :meth:`Policy.propose`."""
        if self._propose is None:
            raise ValueError("any text may be an answer here, and the policy only scores; FunctionPolicy(propose=…)")
        self.calls += len(transcripts)
        return [list(self._propose(t, n, rng)) for t, rng in zip(transcripts, rngs, strict=True)]


def as_policy(policy: Any) -> Any:
    """``policy``, or where it is a function a :class:`FunctionPolicy` of it; None stays None. Raises TypeError for
    anything else."""
    if isinstance(policy, type):
        raise TypeError(f"policy is the class {policy.__name__}; pass an object of it, {policy.__name__}(…)")
    if policy is None or any(hasattr(policy, name) for name in ("score", "propose")):
        return policy
    if callable(policy):
        return FunctionPolicy(policy)
    raise TypeError(
        f"policy is {policy!r}, which has neither score() nor propose(); expected an object with both, a"
        " function (transcript, actions) -> log-probabilities, or None for equal priors"
    )


def can(policy: Any, method: Literal["score", "propose"]) -> bool:
    """Whether a policy can be asked to ``score`` or to ``propose``: it has that method, and as a
    :class:`FunctionPolicy` a function for it."""
    if isinstance(policy, FunctionPolicy):
        return policy.has(method)
    return hasattr(policy, method)
