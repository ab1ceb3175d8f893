"""A run as a graph of stages: a base, then rounds of collect → extract → learn → validate → promote, beside which a
sample of each round's labels is audited, then the table.

Recipes that collect alike share the collection of the first round, in which they all are the base; later each collects
with its own model, under the same budget of model calls and on the same goals. (In games a round's trees are of
``train_goals`` deals, its episodes of so many seats, of which a deal has several.)
"""

from dataclasses import replace
from functools import partial
from typing import Any

from ...agents.language_model import LanguageModel
from ..readable import BASE
from ..stages import Stage, StageContext
from .agents import AgentSpec, Search, agent_of
from .audit import audit_labels
from .collect import collect, collect_critic_trees
from .config import RunConfig
from .judge import judge, train_critic, validate
from .learn import train_round
from .recipe import Recipe
from .scratch import from_scratch
from .slots import Collect, Episodes, Policy
from .tasks import generator, source_of


def stages_of(config: RunConfig) -> list[Stage]:
    """The stages, in an order in which they could be done one by one."""
    stages = [Stage("base", partial(make_base, config=config))]
    parts = {name: {"policy": "base"} for name in config.recipes}
    latest = dict.fromkeys(config.recipes, "base")
    earlier: dict[str, str | None] = dict.fromkeys(config.recipes)
    for round in range(1, config.rounds + 1):
        for name, recipe in config.recipes.items():
            gather = partial(
                collect, config=config, slot=recipe.collect, round=round, policy=parts[name]["policy"],
                earlier=earlier[name],
            )  # fmt: skip
            collection = collection_of(config, name, round)
            if all(stage.name != collection for stage in stages):
                needs = dict.fromkeys(filter(None, (parts[name]["policy"], earlier[name])))
                stages.append(Stage(collection, gather, tuple(needs)))
            mixes = isinstance(recipe.collect, Episodes) and recipe.collect.earlier
            earlier[name] = parts[name]["policy"] if mixes else None
            trained = f"{name}/round_{round}/model"
            learn = partial(
                train_round, config=config, recipe=recipe, name=name, round=round, collection=collection,
                parts=parts[name], before=latest[name],
            )  # fmt: skip
            needs = dict.fromkeys((latest[name], *parts[name].values(), collection))
            stages.append(Stage(trained, learn, tuple(needs)))
            if config.audit_pairs and compares(recipe):
                policy = parts[name]["policy"]
                check = partial(audit_labels, config=config, name=name, round=round, policy=policy)
                stages.append(Stage(f"{name}/round_{round}/audit", check, (trained, policy)))
            parts[name] = {**parts[name], recipe.learn.makes: trained}
            latest[name] = trained
    searchers = {BASE: "base"}
    if config.search_recipe:
        searchers[config.search_recipe] = parts[config.search_recipe]["policy"]
        collections = []
        for place, (name, policy) in enumerate(searchers.items()):
            gather = partial(collect_critic_trees, config=config, policy=policy, place=place)
            stages.append(Stage(f"critic_trees/{name}", gather, (policy,)))
            collections.append(f"critic_trees/{name}")
        trained = searchers[config.search_recipe]
        learn = partial(train_critic, config=config, policy=trained, collections=tuple(collections))
        stages.append(Stage("critic", learn, (trained, *collections)))
    for spec in agents_of(config, parts):
        stages.append(Stage(f"evaluation/{spec.name}", partial(judge, config=config, spec=spec), spec.needs))
    return stages


def compares(recipe: Recipe) -> bool:
    """Whether a recipe learns from pairs of which one side is better: labels that can be audited."""
    return recipe.learn.takes == "pairs" and any(each.compares for each in recipe.extract.values())


def agents_of(config: RunConfig, parts: dict[str, dict[str, str]]) -> list[AgentSpec]:
    """The rows of the table; ``parts`` are the folders of each recipe's models."""
    rows = [AgentSpec(name.rpartition(":")[2], "reference", name) for name in config.baselines]
    rows.append(AgentSpec(BASE, "reference", parts={"policy": "base"}))
    rows += [AgentSpec(name, "trained", recipe.act, parts[name]) for name, recipe in config.recipes.items()]
    if config.search_recipe:
        learned = Search(config.acting, "value")
        is_game = source_of(config).row.players > 1  # whose end, tried out, tells nothing of the game that is played
        seeing = Search(replace(config.acting, simulations=config.oracle_simulations), "outcome")
        for name, policy in ((BASE, "base"), (config.search_recipe, parts[config.search_recipe]["policy"])):
            rows.append(AgentSpec(f"{name}+mcts", "search", learned, {"policy": policy, "value": "critic"}))
            if not is_game:
                rows.append(AgentSpec(f"{name}+mcts_oracle", "oracle", seeing, {"policy": policy}))
    return rows


def collection_of(config: RunConfig, name: str, round: int) -> str:
    """The folder of a recipe's collection. In the first round that of the first recipe that collects so is shared."""
    recipe = config.recipes[name]
    kind = recipe.collect.gives
    if round > 1:
        return f"{name}/round_{round}/{kind}"
    alike = [other for other, one in config.recipes.items() if _first(one.collect) == _first(recipe.collect)]
    first = next(other for other, one in config.recipes.items() if one.collect.gives == kind)
    return f"round_1/{kind}" if first in alike else f"{alike[0]}/round_1/{kind}"


def _first(slot: Collect) -> Collect:
    """How it collects in the first round, in which there is no earlier model."""
    return replace(slot, earlier=0.0) if isinstance(slot, Episodes) else slot


def make_base(context: StageContext, *, config: RunConfig) -> dict[str, Any]:
    """The model that all recipes start from: given, or made from scratch, taught to read and shown how others play."""
    made: dict[str, Any] = {}
    if config.model:
        policy = LanguageModel.load(config.model, history=config.history)
    else:
        policy, made = from_scratch(
            source_of(config), config.base, config.history, config.seed, generator(config.seed, "base"), context.tell
        )
    policy.save(context.folder / "model")
    validation = validate(config, agent_of(context, config, Policy(), {}, {"policy": policy}))
    parameters = sum(p.numel() for p in policy.model.parameters())
    return {**made, "parameters": parameters, **validation}
