"""Acting by best-of-n: a policy proposes, another model ranks (step-level Q-value models, arXiv:2409.09345).

At each decision n actions are drawn from the policy, where actions are listed without replacement (Gumbel-top-n), and
the one that a ranker values most is played; a tie goes to the likelier. :class:`LogRatio` ranks by the Q-value that a
preference model is, Q(s, a) = β·log(π_q(a | s) / π(a | s)); β changes no order and is left out. Any critic of actions
that ``search(critic=...)`` takes will do.

What it does not do: look ahead (``searching.py``).
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ..envs.play.agent import Decision
from ..envs.play.policy import Policy
from ..envs.play.transcript import Transcript
from ..envs.simulator import Simulator
from .language_model import LanguageModel


class Ranker(Protocol):
    """What actions are worth, before they are tried. It may say how many ``prompts`` are scored for it at a decision;
    else that is one."""

    def values(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """A value for each candidate after each transcript: float64 ``[k]``."""
        ...


class LogRatio:
    """``log π_q(a | s) − log π(a | s)`` of the models ``q`` and ``policy``, summed over the tokens of an action;
    ``per_token`` divides it by their number, as the code released with the paper does."""

    prompts = 2

    def __init__(self, q: LanguageModel, policy: LanguageModel, per_token: bool = False) -> None:
        self.q = q
        self.policy = policy
        self.per_token = per_token

    def values(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """As :meth:`Ranker.values`."""
        own, other = (model.score_tokens(transcripts, candidates) for model in (self.q, self.policy))
        return [
            np.array([
                (a.logp - b.logp) / (len(a.logps) if self.per_token else 1) for a, b in zip(mine, theirs, strict=True)
            ])
            for mine, theirs in zip(own, other, strict=True)
        ]  # fmt: skip


class BestOfAgent:
    """Plays the best by ``ranker`` of ``proposals`` actions that ``policy`` draws: listed ones at ``temperature``, free
    text at the policy's own. A policy that proposes nothing acts with the empty text, which environments count
    as an invalid action. A model call is an action that is sampled in free text, or a prompt whose actions are
    scored."""

    def __init__(
        self, policy: Policy, ranker: Ranker, proposals: int = 5, temperature: float = 1.0, name: str = "best_of"
    ) -> None:
        self.policy = policy
        self.ranker = ranker
        self.prompts: int = getattr(ranker, "prompts", 1)
        self.proposals = proposals
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
        candidates = self._candidates(legal, transcripts, rngs)
        asked = [place for place, texts in enumerate(candidates) if len(texts) > 1]
        values = self.ranker.values([transcripts[i] for i in asked], [candidates[i] for i in asked]) if asked else []
        chosen = [texts[0] if texts else "" for texts in candidates]
        for place, own in zip(asked, values, strict=True):
            chosen[place] = candidates[place][int(np.argmax(own))]
        return [
            Decision(text, (self.proposals if actions is None else bool(actions)) + self.prompts * (len(texts) > 1))
            for text, actions, texts in zip(chosen, legal, candidates, strict=True)
        ]

    def _candidates(
        self, legal: Sequence[Sequence[str] | None], transcripts: Sequence[Transcript],
        rngs: Sequence[np.random.Generator],
    ) -> list[list[str]]:  # fmt: skip
        """What is ranked in each state, whose ``legal`` actions these are, the likeliest first, each text once."""
        found: list[list[str]] = [[] for _ in legal]
        listed = [(i, actions) for i, actions in enumerate(legal) if actions]
        if listed:
            scores = self.policy.score([transcripts[i] for i, _ in listed], [actions for _, actions in listed])
            for (i, actions), logps in zip(listed, scores, strict=True):
                drawn = np.argsort(-(np.asarray(logps) / self.temperature + rngs[i].gumbel(size=len(actions))))
                kept = drawn[: self.proposals]
                found[i] = [actions[place] for place in kept[np.argsort(-logps[kept], kind="stable")]]
        free = [i for i, actions in enumerate(legal) if actions is None]
        if free:
            answers = self.policy.propose([transcripts[i] for i in free], self.proposals, [rngs[i] for i in free])
            for i, proposals in zip(free, answers, strict=True):
                ranked = sorted(proposals, key=lambda proposal: -proposal.logp)
                found[i] = list(dict.fromkeys(proposal.text for proposal in ranked))
        return found
