"""Which way of training pays: all trained rows over several training seeds and two budgets of tries.

Every seed makes a base model of its own; the recipes then collect with it under one budget of model calls, train on
the same goals, choose their learning rate on the same validation goals, and are judged on the same test goals. The
table gives each recipe's success pooled over the seeds (Wilson's interval) and its paired difference to step-DPO's
comparison partners (exact McNemar test over all pairs of goal and seed). One seed's goals share a model, so pooled
intervals are narrower than the scatter between seeds; the seeds are listed one by one for that reason.

    python benchmarks/learning.py --seeds 0 1 2 --out runs/learning
"""

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from branchwise.search.records import load_episodes
from branchwise.training.display import ProgressDisplay
from branchwise.training.evaluation import paired_difference, wilson
from branchwise.training.loop import RunConfig, load_config, run_loop
from branchwise.training.stages import is_finished

BUDGETS = {"few tries": (4, 4_000), "many tries": (16, 16_000)}
"""Name -> simulations a goal and model calls a round."""
COMPARED = (("step_dpo", "tree_sft"), ("step_dpo", "rft"), ("step_dpo", "trajectory_dpo"), ("tree_sft", "rft"))


def config_of(base: RunConfig, seed: int, budget: str, rounds: int) -> RunConfig:
    simulations, calls = BUDGETS[budget]
    return replace(
        base, seed=seed, rounds=rounds, model_calls=calls, search_recipe="",
        search=replace(base.search, simulations=simulations),
    )  # fmt: skip


def successes(run: Path, agent: str) -> list[bool]:
    return [episode.success for episode in load_episodes(run / "evaluation" / agent / "episodes.jsonl")]


def table(folder: Path, seeds: list[int], recipes: tuple[str, ...]) -> tuple[str, list[dict[str, object]]]:
    """The results as Markdown and as rows."""
    lines = ["| budget | agent | pooled success % | " + " | ".join(f"seed {s}" for s in seeds) + " |"]
    lines.append("|---|---|---|" + "---|" * len(seeds))
    rows: list[dict[str, object]] = []
    for budget in BUDGETS:
        runs = {seed: folder / f"{budget.replace(' ', '_')}_seed_{seed}" for seed in seeds}
        for agent in ("behaviour_cloning", *recipes):
            each = {seed: successes(run, agent) for seed, run in runs.items()}
            pooled = [won for found in each.values() for won in found]
            low, high = wilson(sum(pooled), len(pooled))
            share = sum(pooled) / len(pooled)
            by_seed = {seed: sum(found) / len(found) for seed, found in each.items()}
            rows.append({"budget": budget, "agent": agent, "success": share, "success_low": low, "success_high": high,
                         "episodes": len(pooled), "by_seed": by_seed})  # fmt: skip
            cells = " | ".join(f"{100 * sum(found) / len(found):.1f}" for found in each.values())
            lines.append(f"| {budget} | {agent} | {100 * share:.1f} [{100 * low:.1f}, {100 * high:.1f}] | {cells} |")
    lines += ["", "| budget | difference | points [95 %] | p |", "|---|---|---|---|"]
    for budget in BUDGETS:
        for first, second in COMPARED:
            pairs: list[list[bool]] = [[], []]
            for seed in seeds:
                run = folder / f"{budget.replace(' ', '_')}_seed_{seed}"
                pairs[0] += successes(run, first)
                pairs[1] += successes(run, second)
            found = paired_difference(*pairs)
            rows.append({"budget": budget, "first": first, "second": second, "difference": found.difference,
                         "low": found.low, "high": found.high, "p": found.p})  # fmt: skip
            lines.append(
                f"| {budget} | {first} − {second} | {100 * found.difference:+.1f} [{100 * found.low:+.1f}, "
                f"{100 * found.high:+.1f}] | {found.p:.2g} |"
            )
    return "\n".join(lines), rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="web_shop", help="run settings to start from (default: web_shop)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="training seeds (default: 0 1 2)")
    parser.add_argument("--rounds", type=int, default=1, help="rounds of collecting and training (default: 1)")
    parser.add_argument("--out", type=Path, default=Path("runs/learning"), help="folder of the runs; resumed if there")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    base = load_config(arguments.config)
    for seed in arguments.seeds:
        first: Path | None = None
        for budget in BUDGETS:
            run = arguments.out / f"{budget.replace(' ', '_')}_seed_{seed}"
            if first is not None and not is_finished(run, "base"):
                shutil.copytree(first / "base", run / "base")  # budgets of one seed start from one model
            with ProgressDisplay(Console(stderr=True)) as display:
                run_loop(config_of(base, seed, budget, arguments.rounds), run, display, arguments.workers)
            first = first or run
    text, rows = table(arguments.out, arguments.seeds, tuple(base.recipes))
    print(text)
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "learning.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
