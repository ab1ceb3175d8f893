"""Commands of the tree search: ``search`` grows trees, ``pairs`` extracts preference pairs from them."""

import enum
import functools
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..search.files import chosen_path
from .options import (
    A_RECIPE,
    MOST_GOALS,
    MOST_SIMULATIONS,
    WITH_RECIPE,
    WITHOUT_RECIPE,
    WRONG_PAGES,
    EnvArgument,
    HistoryOption,
    OptionOption,
    SeedOption,
    model_named,
    not_a_run,
    output_file,
    refuse,
    source_of,
)
from .printing import console, error_console, reported, show

if TYPE_CHECKING:
    from ..search import Tree
    from ..search.extraction import PreferencePair


class Extract(enum.StrEnum):
    """Which contrasts of a tree become pairs."""

    SIBLINGS = "siblings"
    BEST_PATH = "best-path"
    BEST_PATH_STEPS = "best-path-steps"


@reported
def search(
    env: EnvArgument,
    out: Annotated[
        Path,
        typer.Option(
            help="Output file (parquet). If it exists, the search resumes from it.", parser=output_file, metavar="FILE"
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="The policy: a model folder or a Hugging Face id. Without one, equal priors and random roll-outs.",
            parser=os.path.expanduser,
        ),
    ] = None,
    goals: Annotated[
        int,
        typer.Option(min=1, max=MOST_GOALS, metavar="N", help="Goals (without goals: seeds) 0 to N−1, one tree each."),
    ] = 64,
    split: Annotated[
        str | None, typer.Option(metavar="SPLIT", help="Whose goals, where there are splits; default train.")
    ] = None,
    simulations: Annotated[
        int | None, typer.Option(min=1, max=MOST_SIMULATIONS, metavar="N", help="Simulations a tree; default 16.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Settings of a published search: agent_q, mcts_dpo, lats, alphazero, … (docs/search.md).",
        ),
    ] = None,
    seed: SeedOption = 0,
    option: OptionOption = None,
    history: HistoryOption = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a setting of the search, such as selection=uct; may be repeated."
        ),
    ] = None,
) -> None:
    """Grow search trees and save them; run the same command to resume.

    Trees are saved every few minutes, at the end, and on Ctrl-C. With --model, the model proposes actions and values
    leaves by its own roll-outs. A single tree is printed.

    Example: branchwise search branchwise/WebShop-v0 --model runs/web_shop/base/model --out trees.parquet --option
    observation_mode=compact

    Example: branchwise search branchwise/ConnectFour-v0 --goals 1 --simulations 400 --out connect_four.parquet
    """
    import numpy as np

    from ..envs.wrappers import ListedActions
    from ..search.engine import SearchSettings
    from ..search.evaluation import PolicyRollout, RandomRollout, RankingCritic
    from ..search.files import DISK_FAULTS, check_output
    from ..search.graph import outline
    from ..search.presets import preset_options, suited_settings
    from ..search.progress import SearchBar
    from ..search.resume import search_into
    from ..search.rules.options import overlaid
    from ..training.settings import build, override

    if simulations is not None and any(each.startswith("simulations=") for each in assignments or ()):
        raise ValueError("--simulations and --set simulations=… say the same; leave one out")
    asked = {"simulations": 16} | ({} if preset is None else preset_options(preset))
    asked |= {} if simulations is None else {"simulations": simulations}
    asked = overlaid(asked, override({}, assignments or ()))
    wanted = build(SearchSettings, asked)  # a wrong setting: an error before a model is loaded
    if wanted.asks_critic and model is None:
        raise ValueError("these settings have a critic rank the actions, and the model is the critic: pass --model")
    check_output(out)
    if model is None and history is not None:
        raise ValueError("--history: there is no --model that would read it; leave it out")
    policy = None if model is None else model_named(model, history)
    evaluator = RandomRollout() if policy is None else PolicyRollout(policy)
    simulator, roots = _roots(env, split, goals, option)
    settings = build(SearchSettings, overlaid(suited_settings(simulator), asked))
    critic = None
    if policy is not None and settings.asks_critic:
        from ..training.loop.collect import by_likelihood

        critic = RankingCritic(functools.partial(by_likelihood, policy))
    rng = np.random.default_rng(seed)
    if policy is None:
        simulator = ListedActions(simulator)
    try:
        with SearchBar(error_console()) as bar:
            trees = search_into(out, simulator, roots, policy, evaluator, settings, rng, bar, critic=critic)
    except (KeyboardInterrupt, SystemExit):
        if out.exists():
            show(f"{out}: what was searched is saved; run the same command to resume", err=True)
        raise
    except OSError as error:
        if error.errno not in DISK_FAULTS:
            raise
        kept = "what was searched since its last save" if out.exists() else "what was searched"
        raise OSError(f"{error.strerror}. {kept.capitalize()} is lost; then run the same command again") from error
    if not bar.batches:
        show(f"{out} is done already: nothing was searched again. More --simulations go on with it.")
    if len(trees) == 1:
        show("visits, value for who chose it, p = prior, action")
        show(outline(trees[0], depth=2, width=max(12, min(60, console().width - 55))))
    totals = sum((Counter(tree.counters) for tree in trees), Counter())
    told = f"{out}: {len(trees):,} tree{'s' * (len(trees) > 1)}, {sum(map(len, trees)):,} nodes, "
    told += f"{totals['simulations']:,} simulations, {totals['model_calls']:,} model calls"
    if simulator.players == 1:
        solved = sum(any(tree.path_return(n) >= 1 for n in _visited_ends(tree)) for tree in trees)
        told += f"; a return of 1 found in {solved}"
    show(told)
    ends = Counter(tree.stopped for tree in trees if tree.stopped)
    if set(ends) - {"simulations"}:
        show(f"stopped: {', '.join(f'{count} {reason}' for reason, count in ends.most_common())}")
    if failed := totals["failed_leaves"]:
        reason = next((tree.last_error for tree in trees if tree.last_error), "")
        show(f"{failed} leaves failed, the last with: {reason}", err=True)


def _visited_ends(tree: "Tree") -> list[int]:
    return [node for node in range(1, len(tree)) if tree.visits(node) and tree.is_terminal(node)]


def _roots(env: str, split: str | None, goals: int, option: Sequence[str] | None) -> tuple[Any, list[Any]]:
    """What is searched, and a root a task."""
    from ..envs.play.task import start
    from ..envs.views import without_view

    not_a_run(env)
    source, split, simulator = source_of(env, split, "train", option)
    if without_view(simulator, simulator.reset(0))[0] is not simulator:
        raise ValueError(
            f"{env}: a search moves for every player, and in one player's view it would read the future; leave out "
            "player and opponents"
        )
    roots = [start(simulator, task) for task in source.tasks(simulator, split, goals)]
    for root in roots:
        if simulator.current_player(root.state) < 0:
            raise ValueError(f"{env}: episode {root.task['seed']} is over before anybody is to move")
    return simulator, roots


@reported
def pairs(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="With --recipe, a folder that `branchwise collect` wrote; without, a file of trees that `branchwise "
            "search` wrote.",
            parser=chosen_path,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Output file: JSONL that TRL reads.", parser=output_file, metavar="FILE")],
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help=f"Extract what this recipe learns from: {A_RECIPE}.",
            rich_help_panel=WITH_RECIPE,
        ),
    ] = None,
    extract: Annotated[
        Extract | None,
        typer.Option(
            metavar="WAY",
            help="siblings (default): children of a node against each other; best-path: the best against the worst "
            "along the best path; best-path-steps: the actions of the best path alone, for `train --method sft`.",
            rich_help_panel=WITHOUT_RECIPE,
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="NUMBER",
            help="The least difference between the values of both sides; default 0.1.",
            rich_help_panel=WITHOUT_RECIPE,
        ),
    ] = None,
    min_visits: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_SIMULATIONS,
            metavar="N",
            help="The least number of visits of each side; default 1.",
            rich_help_panel=WITHOUT_RECIPE,
        ),
    ] = None,
    anchors: Annotated[
        bool | None,
        typer.Option(
            metavar="",
            help="Keep good actions of nodes that give no pair, in a second file (pairs.anchors.jsonl for pairs.jsonl) "
            "that `branchwise train` reads too. Default: keep.",
            rich_help_panel=WITHOUT_RECIPE,
        ),
    ] = None,
) -> None:
    """Extract preference pairs, or whatever else a recipe learns from.

    With --recipe, from the folder of `branchwise collect`, exactly as a round of the loop does: for training that
    recipe. Without, from the trees of `branchwise search`, by the options below: for trees and settings of your own.
    Prints how many were left out, and why.

    Example: branchwise pairs collected --recipe step_dpo --out pairs.jsonl

    Example: branchwise pairs trees.parquet --out pairs.jsonl --threshold 0.2
    """
    from ..search.files import check_output
    from ..search.records import anchors_beside, check_replaceable
    from ..search.store import load_trees
    from ..training.stages import is_finished

    if recipe is not None:
        from ..training.loop.by_hand import recipe_for, rows_of
        from ..training.loop.extract import save_rows

        refuse(
            {"--extract": extract, "--threshold": threshold, "--min-visits": min_visits, "--anchors": anchors},
            "--recipe says what is extracted",
        )
        how = recipe_for(source, recipe)
        for written in (out, anchors_beside(out)):
            check_output(written)
        check_replaceable(out)
        rows, left_out = rows_of(source, how)
        if rows and how.learn.takes != "pairs":
            save_rows(out, rows)
            show(f"{out}: {len(rows)} {how.learn.takes}")
            return
        _save_rows(out, rows, Counter(left_out), f"{source}: {recipe} found nothing to learn from")
        return
    if is_finished(source.parent, source.name):
        raise ValueError(f"{source} is the folder of a collection: add --recipe, the one that it was collected for")
    trees, extract = source, extract or Extract.SIBLINGS
    given = {"--threshold": threshold, "--min-visits": min_visits, "--anchors": anchors}
    if extract is Extract.BEST_PATH_STEPS:
        refuse(given, "--extract best-path-steps compares nothing")
    if extract is Extract.BEST_PATH and anchors is False:
        refuse({"--min-visits": min_visits}, "--extract best-path --no-anchors takes what the path visited")
    least, visits = 0.1 if threshold is None else threshold, min_visits or 1
    for written in (out, anchors_beside(out)):
        check_output(written, trees)
    check_replaceable(out)
    found: list[PreferencePair] = []
    dropped: Counter[str] = Counter()
    loaded = load_trees(trees)
    if all(len(tree) == 1 for tree in loaded):
        back = sum(tree.counters["dropped_revisits"] for tree in loaded)
        why = next((tree.last_error for tree in loaded if tree.last_error), "no simulation reached an action")
        why = f"all actions that were tried, {back}, led back to where they were taken" if back else why
        raise ValueError(f"{trees}: no pairs, since no tree has more than its root: {why}. {WRONG_PAGES}")
    for tree in loaded:
        for rows, left_out in _extracted(tree, extract, least, visits, anchors is not False):
            found += rows
            dropped += left_out
    cures = {"below threshold": "lower --threshold", "too few visits": "lower --min-visits"}
    cure = ", ".join([*(cure for reason, cure in cures.items() if dropped[reason]), "search with more simulations"])
    _save_rows(out, found, dropped, f"{trees}: no pairs", f". The cure: {cure}")


def _save_rows(
    out: Path, rows: Sequence["PreferencePair"], dropped: Mapping[str, int], nothing: str, cure: str = ""
) -> None:
    """Write the rows, and say what they are and what was left out. Raises ValueError where there are none."""
    from ..search.records import anchors_beside, save_pairs

    lost = ", ".join(f"{count} {reason}" for reason, count in Counter(dropped).most_common())
    if not rows:
        raise ValueError(f"{nothing}; left out: {lost or 'nothing'}{cure}")
    save_pairs(out, rows)
    contrasts = [pair for pair in rows if pair.rejected]
    without = [pair for pair in rows if not pair.rejected]
    for path, written in ((out, contrasts or without), (anchors_beside(out), without if contrasts else [])):
        if written:
            kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(pair.kind for pair in written).most_common())
            show(f"{path}: {len(written)} rows{'' if written is contrasts else ' without a rejected side'} ({kinds})")
    if lost:
        show(f"left out: {lost}")


def _extracted(
    tree: "Tree", extract: Extract, threshold: float, min_visits: int, anchors: bool
) -> Iterator[tuple[list["PreferencePair"], Counter[str]]]:
    from ..search import extraction

    if extract is Extract.BEST_PATH_STEPS:
        yield extraction.best_paths(tree)
        return
    if extract is Extract.SIBLINGS:
        yield extraction.sibling_pairs(tree, threshold, min_visits)
    else:
        yield extraction.best_path_pairs(tree, threshold=threshold)
    if anchors:
        rows, left_out = extraction.anchors(tree, threshold=threshold, contrast_visits=min_visits)
        left_out.pop("has contrast", None)  # such nodes gave pairs: nothing was lost
        yield rows, Counter({f"{reason} (anchors)": count for reason, count in left_out.items()})
