"""The command ``audit``: how right the labels of a file of pairs are, measured by playing both sides out again."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..search.files import chosen_path
from .options import HistoryOption, OptionOption, SeedOption, model_named, output_file, parsed_options
from .printing import bar, columns, console, note, print_json, reported, resumable, show
from .training import Outcome

if TYPE_CHECKING:
    from ..envs.simulator import Simulator
    from ..search.extraction import PreferencePair

_NARROW: Final = 100  # columns: a table of eight columns needs them


@reported
def audit(
    pairs: Annotated[
        Path,
        typer.Argument(
            metavar="PAIRS", help="A file that `branchwise pairs` or a run's rounds wrote.", parser=chosen_path
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Who plays on after both sides: the model that collected, a folder or a Hugging Face id. Without one, "
            "random legal actions.",
            parser=os.path.expanduser,
        ),
    ] = None,
    rolls: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100_000,
            metavar="N",
            help="Roll-outs a side; default 32.",
        ),
    ] = None,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            metavar="",
            help="By perfect play, where the environment has a solver: tic-tac-toe, Kuhn and Leduc poker, Bifurcation. "
            "Default in games, where neither --model nor --rolls is given.",
        ),
    ] = False,
    sample: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Audit so many pairs, drawn by --seed. Default: all.")
    ] = None,
    actions: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Of sides of several actions play the first N, then roll out: 1 asks whether the first action of the "
            "better side was the better one. Default: all.",
        ),
    ] = None,
    outcome: Annotated[
        Outcome | None,
        typer.Option(
            help="What a side is worth: success (default; as runs search for), or the environment's reward (as "
            "`branchwise search` does). In games of several players always reward."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the pairs whose labels are clearly right, with the measured values as q, visits, margin and "
            "weight; anchors stay as they are.",
            parser=output_file,
        ),
    ] = None,
    swap: Annotated[
        bool,
        typer.Option(
            "--swap", metavar="", help="Write pairs whose labels are clearly wrong too, their sides exchanged."
        ),
    ] = False,
    verdicts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Keep a line a pair in this file (JSONL). If it exists, the audit resumes from it.",
            parser=output_file,
        ),
    ] = None,
    env: Annotated[
        str | None,
        typer.Option(metavar="ENV", help="The environment, where the file does not say it, or says another's."),
    ] = None,
    option: OptionOption = None,
    history: HistoryOption = None,
    seed: SeedOption = 0,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="For programs: all figures.")] = False,
) -> None:
    """Measure how right the labels of preference pairs are.

    Restores the state of each pair, plays both sides, lets MODEL play on, and compares the mean returns: a label is
    right where the chosen side returns more, tied where both return the same, wrong where it returns less; clearly so
    where luck does not explain the difference.

    Example: branchwise audit runs/web_shop/step_dpo/round_1/model/pairs.jsonl --model runs/web_shop/base/model

    Example: branchwise audit pairs.jsonl --model runs/web_shop/base/model --out clean.jsonl
    """
    import json

    import numpy as np

    from ..envs.play.players import PolicyAgent, RandomAgent
    from ..search.audit import USUAL_ROLLS, Verdict, relabelled
    from ..search.files import check_output
    from ..search.locks import only_writer
    from ..search.records import anchors_beside, check_replaceable, load_pairs, save_pairs
    from ..training.labels import VerdictLog, digest, judged_by_place, kind_of_contrast, label_table

    if swap and out is None:
        raise ValueError("--swap has no effect without --out")
    if model is None and history is not None:
        raise ValueError("--history has no effect without --model")
    if exact and (model or rolls):
        raise ValueError(
            f"{'--model' if model else '--rolls'} has no effect with --exact, which rolls nothing; leave it out"
        )
    read = [pairs, anchors_beside(pairs)]
    if verdicts is not None:
        check_output(verdicts, *read)
        read.append(verdicts)
    if out is not None:
        check_output(out, *read)
        check_output(anchors_beside(out), *read)
        check_replaceable(out)
    rows = load_pairs(pairs)
    places = [place for place, pair in enumerate(rows) if pair.rejected]
    if not places:
        raise ValueError(f"{pairs}: none of its {len(rows)} rows has a rejected side, so there is nothing to compare")
    rng = np.random.default_rng(seed)
    if sample is not None:
        places = sorted(rng.permutation(places)[:sample].tolist())
    options = parsed_options(option)
    groups = _by_environment(pairs, rows, places, env, options)
    if outcome is None and _are_rewards(rows, groups):
        note(
            f"note: the values in {pairs} are no shares of successes, which the audit measures; where the search was "
            "for reward, say --outcome reward"
        )
    policy = None if model is None else model_named(model, history)
    agent = RandomAgent() if policy is None else PolicyAgent(policy, 1.0)
    success = outcome is not Outcome.REWARD
    about = {
        "pairs": digest(pairs), "model": _digest_of(model), "rolls": rolls, "exact": exact, "actions": actions,
        "seed": seed, "success": success, "env": env or "", "options": options, "history": history,
    }  # fmt: skip
    if_stopped = (
        f"verdicts so far are in {verdicts}; run the same command to resume"
        if verdicts
        else "nothing was kept; with --verdicts FILE the same command resumes"
    )
    kinds: dict[int, str] = {}
    measures: set[str] = set()
    with (
        only_writer(verdicts) if verdicts else nullcontext(),
        VerdictLog(verdicts, about) as log,
        resumable(if_stopped),
        bar("audit", len(places)) as moved,
    ):
        moved(0, f"0 of {len(places)} pairs")
        for made, members in groups.items():
            env_id, made_with = json.loads(made)
            simulator = _simulator(env_id, made_with, success, outcome)
            solvable = hasattr(simulator, "optimal_values")
            if exact and not solvable:
                raise ValueError(f"--exact: {env_id} has no solver; leave it out, and sides are rolled")
            by_solver = exact or (solvable and simulator.players > 1 and model is None and rolls is None)
            measures.add("success" if success and simulator.players == 1 else "reward")
            kinds |= {place: kind_of_contrast(simulator, rows[place]) for place in members}
            left = [place for place in members if place not in log.found]
            for found in judged_by_place(
                rows, left, simulator, agent, [seed], rolls or USUAL_ROLLS, actions, by_solver
            ):
                log.add(found)
                done = sum(place in log.found for place in places)
                moved(done, f"{done} of {len(places)} pairs")
    verdict_of = {place: log.found[place] for place in places}
    judged = [(rows[place], verdict) for place, verdict in verdict_of.items() if isinstance(verdict, Verdict)]
    lost = Counter(verdict for verdict in verdict_of.values() if isinstance(verdict, str))
    if not judged:
        raise ValueError(f"{pairs}: no pair could be judged: {_in_words(lost)}. {_CURES}")
    kind_of = {id(rows[place]): kind for place, kind in kinds.items()}
    table = label_table(judged, lambda pair: kind_of[id(pair)])
    if as_json:
        print_json([*table, *([{"of": "not judged", **lost}] if lost else [])])
    else:
        rolled = max(verdict.rolls for _, verdict in judged)
        solved = sum(not verdict.rolls for _, verdict in judged)
        ways = ["perfect play"] * bool(solved) + [_rolled(rolled, model)] * bool(rolled)
        how = f"{ways[0]} ({solved}) and {ways[1]}" if ways[1:] else ways[0]
        show(f"{pairs}: {len(judged)} pairs judged by {how}, by {' and '.join(sorted(measures))}")
        _print_table(table)
        clear = [f"{100 * table[0][name]:.0f} %" for name in ("clearly_right", "clearly_wrong")]
        show(f"clearly right {clear[0]}, clearly wrong {clear[1]}")
        if lost:
            show(f"not judged: {_in_words(lost)}")
    if out is not None:
        clear_ones = [(pair, verdict) for pair, verdict in judged if verdict.is_clear]
        weighted = any(pair.weight != 1.0 for pair in rows if pair.rejected)
        kept = [relabelled(pair, verdict, weighted) for pair, verdict in clear_ones if swap or verdict.gap > 0]
        anchors = [pair for pair in rows if not pair.rejected]
        if not kept:
            raise ValueError(f"{out}: not written, since no label is clearly right")
        save_pairs(out, [*kept, *anchors])
        show(f"{out}: {len(kept)} pairs of {len(places)}, and {len(anchors)} rows without a rejected side", err=as_json)


def _are_rewards(rows: Sequence["PreferencePair"], groups: Mapping[str, Sequence[int]]) -> bool:
    """Whether, where one player acts, half the values times their visits are no whole numbers, as sums of successes
    are."""
    import json

    from ..envs.registry import environment_row

    pairs = [
        rows[place]
        for made, places in groups.items()
        if environment_row(json.loads(made)[0]).players == 1
        for place in places
    ]
    sums = [
        q * visits
        for pair in pairs
        for q, visits in ((pair.chosen_q, pair.chosen_visits), (pair.rejected_q, pair.rejected_visits))
        if visits > 0
    ]
    return 2 * sum(each % 1 > 0.01 and each % 1 < 0.99 for each in sums) >= len(sums) > 0


_CURES: Final = (
    "The file must say environment, task and moves of each pair, as files of branchwise do; give --env and --option "
    "where the environment was made otherwise"
)


def _digest_of(model: str | None) -> str:
    """What tells a model from another: its name, and of a folder what is in it."""
    from ..training.labels import digest

    return f"{model} {digest(Path(model))}" if model and Path(model).is_dir() else model or ""


def _rolled(rolls: int, model: str | None) -> str:
    return f"{rolls} roll-outs a side of {model or 'random actions'}"


def _in_words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in Counter(counts).most_common()) or "nothing"


def _by_environment(
    path: Path, rows: Sequence["PreferencePair"], places: Sequence[int], env: str | None, options: Mapping[str, Any]
) -> dict[str, list[int]]:
    """The places of the pairs by the environment and the options that make it, as JSON. What the user says counts
    before what the file says; a file is not obeyed where it names code."""
    import json

    groups: dict[str, list[int]] = {}
    for place in places:
        task = rows[place].task
        own = task.get("env_options")
        made = own if isinstance(own, dict) else {}
        name = env or rows[place].env_id or str(task.get("env_id", ""))
        if not name:
            raise ValueError(f"{path}: a pair does not say its environment; give --env")
        named = [*_texts({key: value for key, value in made.items() if key not in options}), *([] if env else [name])]
        if code := [text for text in named if ":" in text]:
            raise ValueError(
                f"{path} names code to run ({code[0]!r:.60}); if you trust it, say so yourself with --env or --option"
            )
        groups.setdefault(json.dumps([name, {**made, **options}], sort_keys=True), []).append(place)
    return groups


def _texts(value: Any) -> Iterator[str]:
    """All texts in a value, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from (*_texts(key), *_texts(inner))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _simulator(env: str, options: Mapping[str, Any], success: bool, outcome: Outcome | None) -> "Simulator[Any]":
    from ..envs.play.task import TaskSource
    from ..envs.registry import environment_row
    from ..envs.wrappers import SuccessOutcome
    from .options import named_options

    with named_options(env, None):
        said = dict(options)
        split = said.pop("split", "train") if environment_row(env).splits else "train"
        simulator = TaskSource(env, said).simulator(split)
    if simulator.players > 1:
        if outcome is Outcome.SUCCESS:
            raise ValueError(f"--outcome success: {env} has {simulator.players} players, who are paid; leave it out")
        return simulator
    return SuccessOutcome(simulator) if success else simulator


def _print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from ..envs.terminal import printable_line

    table = Table(box=None, padding=(0, 1, 0, 0))
    wide = columns() >= _NARROW
    table.add_column("labels of", no_wrap=False)
    for title in ("pairs", "right %", "tied %", "wrong %", "ΔQ claimed", "measured"):
        table.add_column(title, justify="right", no_wrap=True)
    if wide:
        table.add_column("clearly right, wrong %", justify="right")
    for row in rows:
        cells = [str(row["pairs"])]
        cells += [
            f"{100 * row[name]:.0f} [{100 * row[f'{name}_low']:.0f}, {100 * row[f'{name}_high']:.0f}]"
            for name in ("right", "tied", "wrong")
        ]
        cells += [f"{row['claimed']:.2f}", f"{row['measured']:.2f}"]
        if wide:
            cells.append(f"{100 * row['clearly_right']:.0f}, {100 * row['clearly_wrong']:.0f}")
        table.add_row(Text(printable_line(row["of"])), *cells)  # brackets of an action are no markup
    console().print(table)
