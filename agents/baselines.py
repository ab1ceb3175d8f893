"""Agents without a model, to compare with: random, and WebShop's rule.

:class:`RuleBasedShopper` is the rule baseline of WebShop (arXiv:2207.01206, section 5): search the instruction as it
stands, open the first result, buy it without choosing options. It reads what an agent may read, the observation and
the legal actions, in each of the shop's observation modes."""

import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from ..envs.simulator import Simulator
from ..search.transcript import Transcript
from .agent import Decision

BUY: Final = "click[buy now]"
PREVIOUS: Final = "click[< prev]"
NAVIGATION: Final = frozenset({"click[back to search]", PREVIOUS, "click[next >]"})
_INSTRUCTION: Final = re.compile(r"Instruction:\s*(?:\[SEP\])?\s*(.+?)\s*(?:\[SEP\]|\n|$)")
_GOAL: Final = re.compile(r"^goal (.+)$", re.MULTILINE)
_WORD: Final = re.compile(r"[\w$.'-]+")


class RandomAgent:
    """Uniform over the legal actions; where any text may be an answer, ``template`` filled with one to five words of
    the instruction (of the whole observation where there is none), in their order."""

    def __init__(self, template: str = "search[{}]") -> None:
        self.name = "random"
        self.template = template

    def act(
        self,
        simulator: Simulator[Any],
        states: Sequence[Any],
        transcripts: Sequence[Transcript],
        rngs: Sequence[np.random.Generator],
    ) -> list[Decision]:
        return [
            Decision(self._choose(simulator.legal_actions(state), _last_text(transcript), rng), 0)
            for state, transcript, rng in zip(states, transcripts, rngs, strict=True)
        ]

    def _choose(self, legal: Sequence[str] | None, observation: str, rng: np.random.Generator) -> str:
        if legal is not None:
            return legal[int(rng.integers(len(legal)))] if legal else ""
        words = _WORD.findall(instruction_in(observation) or observation)
        if not words:
            return self.template.format("")
        size = min(len(words), int(rng.integers(1, 6)))
        places = np.sort(rng.choice(len(words), size=size, replace=False))
        return self.template.format(" ".join(words[i] for i in places))


class RuleBasedShopper:
    """Searches the instruction, opens the first result, buys. Knows the web shop's actions and no other's."""

    name = "rule"

    def act(
        self,
        simulator: Simulator[Any],
        states: Sequence[Any],
        transcripts: Sequence[Transcript],
        rngs: Sequence[np.random.Generator],
    ) -> list[Decision]:
        return [
            Decision(self._choose(simulator.legal_actions(state), _last_text(transcript)), 0)
            for state, transcript in zip(states, transcripts, strict=True)
        ]

    def _choose(self, legal: Sequence[str] | None, observation: str) -> str:
        if legal is None:
            return f"search[{instruction_in(observation)}]"
        if BUY in legal:
            return BUY
        # A results page lists products after its buttons; a product's sub-page has buttons only: its way on is back.
        results = [action for action in legal if action not in NAVIGATION]
        if results:
            return results[0]
        return PREVIOUS if PREVIOUS in legal else next(iter(legal), "")


def instruction_in(observation: str) -> str:
    """The shopping instruction in a web shop observation of any mode; "" where there is none."""
    found = _GOAL.findall(observation) or _INSTRUCTION.findall(observation)
    return found[-1].strip() if found else ""


def _last_text(transcript: Transcript) -> str:
    return next((turn.text for turn in reversed(transcript) if not turn.is_agent), "")
