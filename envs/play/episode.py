"""One episode that an agent played: what evaluation measures, and what trajectory pairs and roll-out baselines learn
from."""

from dataclasses import dataclass, field
from typing import Any

from .transcript import Transcript


@dataclass(frozen=True)
class Episode:
    """``task`` is a JSON-able dict that says what was played (``env_id``, ``seed``, ``options``); episodes of equal
    tasks are tries at the same thing. ``rewards`` has one reward a step; ``transcript`` starts with the first
    observation. ``model_calls`` counts answers of models (sampled actions, scored prompts); ``truncated`` says that the
    budget ended the episode; ``figures`` are those of its end that the environment has (``abilities.figures_of``)."""

    task: dict[str, Any]
    transcript: Transcript
    rewards: tuple[float, ...]
    success: bool
    steps: int
    invalid_actions: int = 0
    model_calls: int = 0
    truncated: bool = False
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def total_reward(self) -> float:
        return float(sum(self.rewards))
