"""The agents of a run, as data: a name, of which kind it is, the folders of its models by part, and how it acts.

:func:`agent_of` makes one that plays, from its models' folders.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ...agents.best_of import BestOfAgent, LogRatio
from ...agents.critics import CriticEvaluator, ValueModel
from ...agents.language_model import LanguageModel
from ...agents.searching import SearchingAgent
from ...envs.play.agent import Agent
from ...envs.play.players import PolicyAgent, scripted_agent
from ...search import PolicyRollout, SearchSettings
from ..readable import Kind
from ..stages import StageContext, read_from
from .config import RunConfig
from .slots import Act, BestOf, Policy
from .tasks import with_outcome

Parts = Mapping[str, str | Path]
"""An agent's models by what they are (``policy``, ``q``, ``value``): the stages that made them, or folders."""


@dataclass(frozen=True, slots=True)
class Search:
    """The best action of a tree that is grown at each decision. ``leaves``: valued by the ``value`` model, or by
    roll-outs to the outcome itself, which makes the agent an oracle."""

    settings: SearchSettings = field(default_factory=SearchSettings)
    leaves: Literal["value", "outcome"] = "value"


@dataclass(frozen=True)
class AgentSpec:
    """One row of the table. ``act`` is a player by rule where it is a name, which needs no models."""

    name: str
    kind: Kind
    act: Act | Search | str = field(default_factory=Policy)
    parts: Parts = field(default_factory=dict)

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages that make its models."""
        return tuple(dict.fromkeys(part for part in self.parts.values() if isinstance(part, str)))


def policy_in(context: StageContext, config: RunConfig, model: str | Path) -> LanguageModel:
    """The model of a stage, by the stage's name, or that of a folder of its own, as the run reads transcripts."""
    if isinstance(model, Path):
        return LanguageModel.load(model, history=config.history)
    return read_from(context.run / model, lambda folder: LanguageModel.load(folder / "model", history=config.history))


def sampler_in(context: StageContext, config: RunConfig, model: str | Path) -> LanguageModel:
    """The same, to be sampled from: in free text, where no actions are listed, at the run's temperature."""
    policy = policy_in(context, config, model)
    policy.temperature = config.temperature or policy.temperature  # 0: the agent then takes the likeliest text
    return policy


def agent_of(
    context: StageContext, config: RunConfig, act: Act | Search | str, parts: Parts,
    made: Mapping[str, LanguageModel] | None = None, name: str = "candidate",
) -> Agent:  # fmt: skip
    """The agent that acts so with the models of these folders; ``made`` are models that stand in no folder yet."""
    if isinstance(act, str):
        return scripted_agent(config.env, act)

    def model(part: str) -> LanguageModel:
        return (made or {}).get(part) or policy_in(context, config, parts[part])

    if isinstance(act, Policy | BestOf):
        return acting(act, {part: model(part) for part in act.needs}, name)
    policy = model("policy")
    if act.leaves == "value":
        critic = read_from(context.run / parts["value"], lambda folder: ValueModel.load(folder / "model"))
        return SearchingAgent(policy, CriticEvaluator(critic), act.settings, name=name)
    rollout = PolicyRollout(sampler_in(context, config, parts["policy"]), temperature=config.temperature)
    settings = replace(act.settings, hide_outcome=False)
    return SearchingAgent(policy, rollout, settings, name, view=lambda simulator: with_outcome(config, simulator))


def acting(act: Act, models: Mapping[str, LanguageModel], name: str = "candidate") -> Agent:
    """The agent that acts so with these models, one for each part that ``act.needs``."""
    if isinstance(act, Policy):
        return PolicyAgent(models["policy"], name=name)
    policy = copy.copy(models["policy"])
    policy.temperature = act.temperature  # of free text
    ranker = LogRatio(models["q"], policy, per_token=act.normalise)
    return BestOfAgent(policy, ranker, act.proposals, act.temperature, name=name)
