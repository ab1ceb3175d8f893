"""What a search's samples buy: usable contrasts by setting.

For each setting the round-1 trees of a run are collected with its base and budget, pairs are extracted as the recipe
does, and their labels audited by the base's own roll-outs (``search.audit``). A contrast is usable where its label is
right. Printed by setting: pairs, the share whose label is right and wrong, usable contrasts per thousand samples (model
calls; simulations where the search asks no model), all of them and those of the first decision.

    python benchmarks/contrasts.py web_shop runs/web_shop/base/model --out runs/contrasts

Settings of the extractor are the run's unless ``--threshold`` and ``--min-visits`` say otherwise; rows of the run's own
replace those of the same run in ``results/contrasts.json``.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from branchwise.agents.language_model import LanguageModel
from branchwise.envs.play.players import PolicyAgent
from branchwise.search.audit import Verdict
from branchwise.training.labels import judged_by_place, label_figures
from branchwise.training.loop.by_hand import collect_into, rows_of
from branchwise.training.loop.config import load_config
from branchwise.training.loop.tasks import searched_simulator

RESULTS = Path(__file__).parent / "results" / "contrasts.json"
SETTINGS: dict[str, dict[str, list[str]]] = {
    "web_shop": {
        "as the file has it": [],
        "half the simulations": ["search.simulations=12"],
        "twice the simulations": ["search.simulations=48"],
        "narrow: 6 proposals": ["search.proposals=6"],
        "wide: 24 proposals": ["search.proposals=24"],
        "wide root: 48 proposals": ["search.proposals_by_depth=[48]"],
        "wide root, noise 0.5": ["search.proposals_by_depth=[48]", "search.noise=0.5", "search.noise_alpha=10.0"],
        "wide root, noise, half": [
            "search.proposals_by_depth=[48]", "search.noise=0.5", "search.noise_alpha=10.0", "search.simulations=12",
        ],
        "pages may be seen again": ["search.revisit=true"],
        "more exploration": ["search.selection.puct.exploration=4.0"],
        "sequential halving at the root": ["search.selection=gumbel", "search.solve=false", "search.uniform_prior=0.0"],
    },
    "math_tool": {
        "as the file has it": [],
        "half the simulations": ["search.simulations=12"],
        "twice the simulations": ["search.simulations=48"],
        "narrow: 3 proposals": ["search.proposals=3"],
        "wide: 10 proposals": ["search.proposals=10"],
        "wide root: 16 proposals": ["search.proposals_by_depth=[16]"],
        "more exploration": ["search.selection.puct.exploration=4.0"],
        "sequential halving at the root": ["search.selection=gumbel", "search.solve=false", "search.uniform_prior=0.0"],
    },
    "bargaining": {
        "as the file has it": [],
        "a quarter of the simulations": ["search.simulations=100"],
        "twice the simulations": ["search.simulations=800"],
        "less exploration": ["search.selection.puct.exploration=0.5"],
        "more exploration": ["search.selection.puct.exploration=2.0"],
    },
}  # fmt: skip


def measured(run: str, base: Path, folder: Path, name: str, overrides: list[str], rolls: int) -> dict[str, Any]:
    """The figures of one setting; what was collected before in ``folder`` is read."""
    config = load_config(run, [f"model={base}", "search_recipe=", "recipes=[step_dpo]", *overrides])
    place = folder / name.replace(" ", "_").replace(":", "").replace(",", "")
    found = collect_into(place, config, "step_dpo", base, 1, lambda *_: None)
    rows, _ = rows_of(place, config.recipes["step_dpo"])
    pairs = [pair for pair in rows if pair.rejected]
    simulator = searched_simulator(config)
    policy = LanguageModel.load(base, history=config.history)
    agent = PolicyAgent(policy, 1.0)
    verdicts = [
        (pairs[place], verdict)
        for some in judged_by_place(pairs, range(len(pairs)), simulator, agent, [config.seed], rolls)
        for place, verdict in some
        if isinstance(verdict, Verdict)
    ]
    samples = found["model_calls"] or found["simulations"]
    labels = label_figures(verdicts)
    usable = [pair for pair, verdict in verdicts if verdict.gap > 0]
    return {
        "run": run, "setting": name, "overrides": overrides, "goals": found["goals"], "samples": samples,
        "unit": "model calls" if found["model_calls"] else "simulations", "rolls": rolls, **labels,
        "usable_per_1000": 1000 * len(usable) / samples,
        "usable_at_root_per_1000": 1000 * sum(pair.depth == 0 for pair in usable) / samples,
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"| setting | goals | {rows[0]['unit']} | pairs | right % | wrong % | usable per 1,000 "
        "| of the first decision |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['setting']} | {row['goals']:,} | {row['samples']:,} | {row['pairs']:,} | {100 * row['right']:.0f} "
        f"[{100 * row['right_low']:.0f}, {100 * row['right_high']:.0f}] | {100 * row['wrong']:.0f} "
        f"| {row['usable_per_1000']:.1f} | {row['usable_at_root_per_1000']:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("run", choices=SETTINGS)
    parser.add_argument("base", type=Path, help="the folder of the run's base model")
    parser.add_argument("--out", type=Path, required=True, help="folder for the collections, kept")
    parser.add_argument("--rolls", type=int, default=32)
    parser.add_argument("--threshold", type=float)
    parser.add_argument("--min-visits", type=int)
    asked = parser.parse_args()
    more = []
    for name, value in (("threshold", asked.threshold), ("min_visits", asked.min_visits)):
        more += [] if value is None else [f"recipes.step_dpo.extract.sibling_pairs.{name}={value}"]
    asked.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, overrides in SETTINGS[asked.run].items():
        rows.append(measured(asked.run, asked.base, asked.out / asked.run, name, [*overrides, *more], asked.rolls))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(table(rows))
    if not more:
        known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
        kept = [row for row in known if row["run"] != asked.run]
        RESULTS.write_text(json.dumps([*kept, *rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
