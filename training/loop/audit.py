"""How right the labels of a round are: a sample of its pairs, both sides played out by the policy that collected them
(``search.audit``); in games that have a solver by perfect play, which is what their searches look for. Outcomes are the
true ones, also where a run collects with ``verdict_noise``; noise of the environment itself (Bifurcation's) stays.

Sides of several actions are played whole, so that pairs of whole episodes are right by construction; of IPR's
remainders, whose label is about their first action, that action alone is played.
"""

from collections import Counter
from typing import Any

from ...envs.play.players import PolicyAgent
from ...search import load_pairs
from ...search.audit import Verdict
from ..labels import judged_by_place, kind_of_contrast, label_table
from ..stages import StageContext, read_from
from .agents import sampler_in
from .config import RunConfig
from .tasks import generator, searched_simulator, simulator_of, with_outcome


def audit_labels(context: StageContext, *, config: RunConfig, name: str, round: int, policy: str) -> dict[str, Any]:
    """The stage: the figures of the round's labels (``labels``: rows of ``labels.label_table``; none where the round
    has no pairs). ``policy``: the stage of the model that collected."""
    gives = config.recipes[name].collect.gives
    file = context.run / name / f"round_{round}" / "model" / "pairs.jsonl"
    pairs = read_from(file.parent, lambda _: load_pairs(file)) if file.is_file() else []
    pairs = [pair for pair in pairs if pair.rejected]
    rng = generator(config.seed, "audit", name, str(round))
    places = sorted(rng.permutation(len(pairs))[: config.audit_pairs].tolist())
    of_episodes = with_outcome(config, simulator_of(config, "train")) if gives == "episodes" else None
    simulator = of_episodes or searched_simulator(config, noise=False)
    agent = PolicyAgent(sampler_in(context, config, policy), config.temperature)
    rolls, actions = config.audit_rolls, 1 if gives == "steps" else None
    found: list[tuple[int, Verdict | str]] = []
    seed = [int(rng.integers(2**31))]
    for some in judged_by_place(pairs, places, simulator, agent, seed, rolls, actions, exact=simulator.players > 1):
        found += some
        context.tell(len(found), len(places), "pairs")
    judged = [(pairs[place], verdict) for place, verdict in found if isinstance(verdict, Verdict)]
    return {
        "recipe": name,
        "round": round,
        "of": len(pairs),
        "rolls": max((verdict.rolls for _, verdict in judged), default=0),
        "labels": label_table(judged, lambda pair: kind_of_contrast(simulator, pair)) if judged else [],
        "not_judged": dict(Counter(why for _, why in found if isinstance(why, str))),
        "model_calls": sum(verdict.model_calls for _, verdict in judged),
    }
