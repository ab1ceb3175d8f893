"""How good an agent of a run is: on validation tasks, which choose models, and on test tasks, for the table."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from ...agents.critics import ValueModel
from ...envs.play.agent import Agent
from ...envs.play.players import PolicyAgent
from ...search.engine import is_zero_sum
from ...search.records import save_episodes
from ..evaluation import evaluate
from ..exploitability import can_be_solved, exploitability
from ..stages import StageContext, figures, read_from
from ..value import bounds, train_value_model, value_rows
from .agents import AgentSpec, agent_of, policy_in
from .config import RunConfig
from .extract import trees_in
from .tasks import searched_simulator, simulator_of, source_of, tasks_of


def judge(context: StageContext, *, config: RunConfig, spec: AgentSpec) -> dict[str, Any]:
    """One row of the table: an agent on the test tasks."""
    tasks = tasks_of(config, "test")
    agent = agent_of(context, config, spec.act, spec.parts, name=spec.name)
    row, episodes = evaluate(
        simulator_of(config, "test"), tasks, agent, env=config.env, split="test", seed=config.seed,
        progress=lambda done: context.tell(done, len(tasks), f"{done} of {len(tasks)} episodes"),
    )  # fmt: skip
    save_episodes(context.folder / "episodes.jsonl", episodes)
    found = {**asdict(row), "kind": spec.kind}
    is_game = source_of(config).row.players == 2  # asked first: other simulators are costly to make
    if is_game and isinstance(agent, PolicyAgent) and can_be_solved(game := searched_simulator(config)):
        found["figures"]["exploitability"] = {"mean": exploitability(agent.policy, game).exploitability}
    return found


def validate(config: RunConfig, agent: Agent) -> dict[str, Any]:
    """The figures of an agent on the validation tasks."""
    row, _ = evaluate(
        simulator_of(config, "validation"), tasks_of(config, "validation"), agent, env=config.env, split="validation",
        seed=config.seed,
    )  # fmt: skip
    return {
        chosen_by(config): getattr(row, config.outcome),
        "validation_low": getattr(row, f"{config.outcome}_low"),
        "validation_high": getattr(row, f"{config.outcome}_high"),
        "episode_length": row.steps,
    }


def chosen_by(config: RunConfig) -> str:
    """The figure by which a model is better than another."""
    return f"validation_{config.outcome}"


def validation_of(config: RunConfig, found: Mapping[str, Any]) -> dict[str, Any]:
    """Of a stage's figures those of :func:`validate`."""
    return {k: found[k] for k in (chosen_by(config), "validation_low", "validation_high", "episode_length")}


def train_critic(
    context: StageContext, *, config: RunConfig, policy: str, collections: Sequence[str]
) -> dict[str, Any]:
    """A value model, started from the trained policy, on the node values of the critic's trees."""
    simulator = searched_simulator(config)
    game = simulator if simulator.players > 1 else None  # which says what is known at the root of information sets
    trees = [tree for name in collections for tree in read_from(context.run / name, partial(trees_in, simulator=game))]
    rows = [row for tree in trees for row in value_rows(tree)]
    low, high = bounds(rows, is_zero_sum(simulator))
    critic = ValueModel.from_language_model(policy_in(context, config, policy), low=low, high=high)
    total = config.critic.descent.epochs
    report = train_value_model(
        critic, rows, config.critic, config.seed,
        lambda row: context.tell(row["epoch"], total, f"loss {row['loss']:.3f}"),
    )  # fmt: skip
    critic.save(context.folder / "model")
    return {
        "rows": report.trained, "held_out": report.held_out, "explained_variance": report.explained_variance,
        "auc": report.auc, "error": report.error,
        "model_calls": sum(figures(context.run, name)["model_calls"] for name in collections),
    }  # fmt: skip
