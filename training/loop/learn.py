"""A round of training: rows are extracted, a candidate is trained for each learning rate of the recipe and validated
as the recipe acts, and the best is promoted where it is better than what was there before.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...agents.language_model import LanguageModel
from ...envs.abilities import kind_of_action
from ..preference import action_kind_counts
from ..rows import NothingToTrain
from ..stages import FIGURES, StageContext, best_tried, figures, read_figures, read_from
from ..trainer import TrainingStopped
from .agents import Parts, agent_of, policy_in
from .config import RunConfig
from .extract import Rows, extract, load_rows, save_rows
from .judge import chosen_by, validate, validation_of
from .learners import Preference
from .recipe import Recipe
from .tasks import generator, simulator_of


def train_round(
    context: StageContext, *, config: RunConfig, recipe: Recipe, name: str, round: int, collection: str,
    parts: Parts, before: str,
) -> dict[str, Any]:  # fmt: skip
    """The stage: rows from the collection, candidates, and the best of them, or the model of the stage ``before``.
    ``parts``: the agent's models so far."""
    rng = generator(config.seed, "extract", str(round))
    rows, dropped = extract(recipe.extract, context.run / collection, rng)
    replaces = recipe.learn.makes in parts
    if rows:
        path = context.folder / f"{recipe.learn.takes}.jsonl"
        save_rows(path, rows)
        rows = load_rows(path, recipe.learn.takes)  # in the order of whoever trains on the file
        rows, left_out = recipe.learn.usable(rows, config.outcome)
        dropped |= {reason: count for reason, count in left_out.items() if count}
    found = read_from(context.run / before, lambda folder: validation_of(config, read_figures(folder / FIGURES)))
    try:
        best, best_found, tried = best_candidate(context, config, recipe, parts, rows, found)
    except NothingToTrain:
        dropped = {**dropped, "no row fits the model": len(rows)}
        best, best_found, tried = best_candidate(context, config, recipe, parts, [], found)
    best.save(context.folder / "model")
    score = chosen_by(config)
    return {
        "recipe": name,
        "makes": recipe.learn.makes,
        "round": round,
        **_counts(config, recipe, rows),
        "dropped": dropped,
        "candidates": tried,
        f"{score}_before": found[score],
        "promoted": bool(tried) and (best_found[score] > found[score] or not replaces),
        "chosen_logp_per_token": best_tried({"candidates": tried}).get("chosen_logp"),
        **_spent(context, collection),
        **best_found,
    }


def best_candidate(
    context: StageContext, config: RunConfig, recipe: Recipe, parts: Parts, rows: Rows,
    before: Mapping[str, Any],
) -> tuple[LanguageModel, Mapping[str, Any], list[dict[str, Any]]]:  # fmt: skip
    """A candidate for each learning rate, validated as the recipe acts: the model of the best, or the one that it
    started from where none is better than what that one has on validation tasks (``before``); its figures on them; and
    the figures of all candidates. A part that the agent did not have is the best candidate's whatever came before."""
    learner, score = recipe.learn, chosen_by(config)
    start = parts.get(learner.makes, parts["policy"])
    beside = {"reference": policy_in(context, config, parts["policy"])} if learner.makes == "q" else {}
    best, best_found = policy_in(context, config, start), before
    to_beat = before[score] if learner.makes in parts else -math.inf
    tried = []
    for number, rate in enumerate(recipe.rates if rows else ()):
        model = policy_in(context, config, start)

        def tell(row: dict[str, float], number: int = number) -> None:
            context.tell(number + row["epoch"] / learner.epochs, len(recipe.rates), f"loss {row['loss']:.3f}")

        candidate: dict[str, Any] = {"learning_rate": rate}
        try:
            at_rate = replace(learner, learning_rate=rate)
            last = at_rate.train(model, rows, config.outcome, config.seed, tell, **beside)
            shown = ("loss", "chosen_logp", "rejected_logp", "margin")
            candidate |= {name: value for name, value in last.items() if name in shown}
        except TrainingStopped as stopped:
            candidate["stopped"] = str(stopped)
        model.forget()
        found = validate(config, agent_of(context, config, recipe.act, parts, {learner.makes: model}))
        tried.append(candidate | found)
        if found[score] > to_beat:
            best, best_found, to_beat = model, found, found[score]
    if not tried and learner.makes not in parts:  # the agent acts otherwise than what was validated before
        best_found = validate(config, agent_of(context, config, recipe.act, parts, {learner.makes: best}))
    return best, best_found, tried


def _counts(config: RunConfig, recipe: Recipe, rows: Rows) -> dict[str, Any]:
    if recipe.learn.takes == "episodes":
        return {"rows": len(rows), "chosen_kinds": {}, "rejected_kinds": {}}
    simulator = simulator_of(config, "train")
    if recipe.learn.takes == "advantages":  # of one sort what is to be likelier, of the other what is to be less likely
        signs = {
            name: Counter(kind_of_action(simulator, row.action[0].text) for row in rows if sign * row.advantage > 0)
            for name, sign in (("chosen_kinds", 1), ("rejected_kinds", -1))
        }
        return {"rows": len(rows), **{name: dict(sorted(kinds.items())) for name, kinds in signs.items()}}
    kinds = action_kind_counts(rows, lambda text: kind_of_action(simulator, text))
    contrasts = sum(bool(pair.rejected) for pair in rows)
    found: dict[str, Any] = {"rows": len(rows)}
    if isinstance(recipe.learn, Preference):
        found = {"pairs": contrasts, "anchors": len(rows) - contrasts, **found}
    found["chosen_kinds"] = {kind: chosen for kind, (chosen, _) in kinds.items()}
    found["rejected_kinds"] = {kind: rejected for kind, (_, rejected) in kinds.items()}
    return found


def _spent(context: StageContext, collection: str) -> dict[str, Any]:
    collected = figures(context.run, collection)
    return {name: collected[name] for name in ("model_calls", "prompts", "tokens") if name in collected}
