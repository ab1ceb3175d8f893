"""The command ``branchwise``: each floor's work from a shell, thin. It parses, calls a floor below, and prints.

Results go to the standard output, progress and errors to the standard error. Bad input (a wrong value, a missing or
broken file, an unknown name) is one line and exit code 2, wrong usage the few lines of Typer's and the same code; work
that failed on the way is one line and code 1; Ctrl-C code 130. ``BRANCHWISE_TRACEBACK=1`` shows the traceback instead
of the line. Heavy imports stand inside the functions, so that ``--help`` answers at once.
"""

import enum
import functools
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, ParamSpec

import typer

from .search.files import chosen_path

if TYPE_CHECKING:
    from rich.console import Console

    from .agents.language_model import LanguageModel
    from .envs.play.task import TaskSource
    from .search import Tree
    from .search.extraction import PreferencePair
    from .training.evaluation import ResultRow

P = ParamSpec("P")

app = typer.Typer(
    name="branchwise",
    help="Environments, tree search and step-level preference learning for LLM agents.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

MOST_GOALS = 1_000_000
MOST_SIMULATIONS = 100_000_000
"""Limits of counts: far above any use, and low enough that a slip of the finger is an error and no endless wait."""
BAD_INPUT = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
STOPPED = "stopped by Ctrl-C"

EnvArgument = Annotated[
    str,
    typer.Argument(metavar="ENV", help="An id that `branchwise envs` lists; `branchwise/` may be left out."),
]
OptionOption = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="An option of the environment; may be repeated."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One more setting by its name; may be repeated."),
]
HistoryOption = Annotated[
    str | None,
    typer.Option(
        metavar="HISTORY",
        help="What the model reads of an episode: all_turns, actions_and_last_observation or last_observation. "
        "Default: what was saved with the model, else last_observation.",
    ),
]
RecipeOption = Annotated[
    str | None, typer.Option(metavar="RECIPE", help="A recipe that `branchwise recipes` lists, or a YAML file.")
]
RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="Whose environment, goals and budgets: a run's name (web_shop), a YAML file, or an ENV."
    ),
]
SeedOption = Annotated[int, typer.Option(min=0, metavar="N", help="The seed of all draws.")]
WRONG_PAGES: Final = (
    "Is the model one for this environment and its --option? Small models made here read observation_mode=compact"
)


def _file(text: str) -> Path:
    """The path of a file that a command writes; a name that ends as a folder's does is none."""
    path = chosen_path(text)
    if text.endswith(("/", os.sep)) or path.is_dir():
        raise typer.BadParameter(f"{text!r} is a folder, where a file is expected; add a name")
    return path


def _folder(text: str) -> Path:
    """The path of a folder that a command writes."""
    path = chosen_path(text)
    if path.is_file():
        raise typer.BadParameter(f"{text!r} is a file, where a folder is expected; name another")
    return path


class Extract(enum.StrEnum):
    """Which contrasts of a tree become pairs."""

    SIBLINGS = "siblings"
    BEST_PATH = "best-path"
    BEST_PATH_STEPS = "best-path-steps"


class Method(enum.StrEnum):
    """How a model learns from pairs."""

    STEP_DPO = "step-dpo"
    SFT = "sft"


class Trainer(enum.StrEnum):
    """Whose trainer does step-DPO."""

    OURS = "ours"
    TRL = "trl"


class Reference(enum.StrEnum):
    """Where DPO's reference log-probabilities come from."""

    LOGGED = "logged"
    MODEL = "model"


def reported(command: Callable[P, None]) -> Callable[P, None]:
    """Turn a user's error into one line and an exit code; anything else is a bug and keeps its traceback."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt as stop:
            _say(f"branchwise: {stop.args[0] if stop.args else STOPPED}", err=True)
            raise typer.Exit(130) from None
        except BrokenPipeError:
            raise
        except Exception as error:
            code = exit_code(error)
            if code is None or os.environ.get("BRANCHWISE_TRACEBACK", "0") not in ("", "0"):
                raise
            named = isinstance(error, OSError) and error.filename is None and error.strerror
            _say(f"branchwise: {' '.join(str(named or error).split())}", err=True)
            raise typer.Exit(code) from None

    return wrapped


def exit_code(error: Exception) -> int | None:
    """2 for bad input, 1 for work that failed on the way, None for what is neither (a bug)."""
    if isinstance(error, (ValueError, *BAD_INPUT)) or "NUMBA_DISABLE_JIT" in str(error):
        return 2
    own = type(error).__module__.partition(".")[0] == __package__
    return 1 if own or isinstance(error, OSError) else None


def _version(wanted: bool) -> None:
    if wanted:
        from . import __version__

        typer.echo(f"branchwise {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


@app.command()
@reported
def envs(
    as_json: Annotated[bool, typer.Option("--json", help="For programs: with options and defaults.")] = False,
) -> None:
    """List the environments, one line each; with --json also their options, splits and named opponents.

    Example: branchwise envs --json
    """
    from .envs.registry import described, environments

    if as_json:
        _print_json([described(row) for row in environments()])
        return
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("id", "players", "what one does there"):
        table.add_column(name, no_wrap=name != "what one does there")
    for row in environments():
        table.add_row(row.id, str(row.players), row.summary)
    _console().print(table)


@app.command()
@reported
def play(
    env: EnvArgument,
    goal: Annotated[int | None, typer.Option(metavar="N", help="The goal's number in its split.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, metavar="N", help="Names the episode where no goal does.")] = None,
    opponent: Annotated[
        str | None, typer.Option(metavar="NAME", help="In a game, who plays the others; default random.")
    ] = None,
    player: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="In a game, whom you play; default 0, who begins in most games."),
    ] = None,
    option: OptionOption = None,
) -> None:
    """Play an environment in the terminal, a game against a named opponent.

    Example: branchwise play branchwise/WebShop-v0 --goal 3 --option split=test
    """
    from .envs.play import person as terminal

    with _named_options(env, option) as options:
        asked = {"opponents": opponent, "player": player}
        options.update({name: value for name, value in asked.items() if value is not None})
        terminal.play(env, options, goal, seed)


@app.command()
@reported
def recipes(
    as_json: Annotated[bool, typer.Option("--json", help="For programs: with all settings.")] = False,
) -> None:
    """List the recipes: how an agent is trained, and the paper. `branchwise loop RUN --set recipes=[…]` trains them.

    Example: branchwise recipes
    """
    from .training.loop.recipe import load_recipe, recipe_names
    from .training.settings import as_dict

    known = {name: load_recipe(name) for name in recipe_names()}
    if as_json:
        _print_json([{"name": name, **as_dict(recipe)} for name, recipe in known.items()])
        return
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("recipe", "source", "what it does"):
        table.add_column(title, no_wrap=title != "what it does")
    for name, recipe in known.items():
        table.add_row(name, recipe.source, recipe.summary)
    _console().print(table)


@app.command()
@reported
def loop(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A name (web_shop, smoke) or a YAML file.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The run's folder; default runs/CONFIG.", parser=_folder)
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Overrides one setting, dotted; may be repeated."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Start from this model (a folder or a Hugging Face id), not from scratch."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Stages that run side by side.")] = 2,
) -> None:
    """Search, train and evaluate, round after round; goes on where an earlier call was stopped.

    Example: branchwise loop web_shop --out runs/web_shop
    """
    from .agents.named import check_model
    from .training.display import ProgressDisplay, ResultsTable
    from .training.loop.recipe import load_config, run_folder_named
    from .training.loop.run import is_done, run_loop
    from .training.run_folder import budgets, read_run
    from .training.stages import FIGURES, is_finished

    settings = load_config(config, [*(assignments or ()), *([f"model={model}"] if model else ())])
    run = out or run_folder_named(config)
    done_before = is_done(settings, run)
    if settings.model and not is_finished(run, "base"):
        check_model(settings.model, _tell)
    try:
        with ProgressDisplay(_errors()) as display:
            rows = run_loop(settings, run, display, workers)
    except KeyboardInterrupt:
        kept = f"finished stages stand in {run}" if any(run.glob(f"**/{FIGURES}")) else "no stage was finished yet"
        raise KeyboardInterrupt(f"{STOPPED}; {kept}, and the same command goes on from there") from None
    if done_before:
        _say(f"{run} is done already: nothing was done again. Another --out starts afresh.")
    _console().print(ResultsTable(rows))
    for line in budgets(read_run(run)):
        _say(line)
    _say(f"Report: {run / 'report.html'}")


@app.command()
@reported
def collect(
    run: RunArgument,
    recipe: Annotated[str, typer.Option(metavar="RECIPE", help="Whose collection: episodes or trees.")],
    model: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="The model that collects: a folder or a Hugging Face id.",
            parser=os.path.expanduser,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="FOLDER", help="The collection. If it exists, the same command resumes.", parser=_folder),
    ],
    round: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Each round has goals of its own.")] = 1,
    assignments: SetOption = None,
) -> None:
    """Collect episodes or trees to learn from, as a round of the loop does: its goals, its budget, its draws.

    Example: branchwise collect web_shop --recipe step_dpo --model runs/web_shop/base/model --out collected
    """
    from .agents.named import check_model
    from .search.locks import only_writer
    from .training.loop.by_hand import collect_into
    from .training.loop.recipe import load_recipe, run_of
    from .training.loop.run import check_run
    from .training.stages import is_finished

    how, settings = load_recipe(recipe), run_of(run, [*(assignments or ()), f"model={model}", "search_recipe="])
    check_model(model, _tell)
    check_run(settings)
    done_before = is_finished(out.parent, out.name)
    with only_writer(out), _bar(out.name, 1) as moved:

        def tell(done: float, total: float, note: str) -> None:
            moved(done / total, note)

        found = collect_into(out, settings, how, Path(model), round, tell)
    _say(f"{out}: {found['tries']} tries of {found['goals']} goals, {found['solved_goals']} solved, "
         f"{found['model_calls']} model calls{'; done already' if done_before else ''}")  # fmt: skip


@app.command()
@reported
def search(
    env: EnvArgument,
    out: Annotated[
        Path,
        typer.Option(
            help="Output file (parquet). If it exists, the search resumes from it.", parser=_file, metavar="FILE"
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
    seed: SeedOption = 0,
    option: OptionOption = None,
    history: HistoryOption = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Settings of a published search: agent_q, mcts_dpo, lats, alphazero, … (docs/search.md).",
        ),
    ] = None,
    assignments: SetOption = None,
) -> None:
    """Grow trees, and save them every few minutes, at the end, and on Ctrl-C; the same command goes on with them.

    With a model it is the policy, and leaves are valued by its own roll-outs. A single tree is printed.

    Example: branchwise search branchwise/WebShop-v0 --model runs/web_shop/base/model --out trees.parquet --option
    observation_mode=compact

    Example: branchwise search branchwise/ConnectFour-v0 --goals 1 --simulations 400 --out connect_four.parquet
    """
    import numpy as np

    from .envs.wrappers import ListedActions
    from .search.engine import SearchSettings
    from .search.evaluation import PolicyRollout, RandomRollout, RankingCritic
    from .search.files import DISK_FAULTS, check_output
    from .search.graph import outline
    from .search.presets import preset_options, suited_settings
    from .search.progress import SearchBar
    from .search.resume import search_into
    from .search.rules.options import overlaid
    from .training.settings import build, override

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
    policy = None if model is None else _language_model(model, history)
    evaluator = RandomRollout() if policy is None else PolicyRollout(policy)
    simulator, roots = _roots(env, split, goals, option)
    settings = build(SearchSettings, overlaid(suited_settings(simulator), asked))
    if policy is None:
        simulator = ListedActions(simulator)
    critic = None
    if policy is not None and settings.asks_critic:
        from .training.loop.collect import by_likelihood

        critic = RankingCritic(functools.partial(by_likelihood, policy))
    rng = np.random.default_rng(seed)
    try:
        with SearchBar(_errors()) as bar:
            trees = search_into(out, simulator, roots, policy, evaluator, settings, rng, bar, critic=critic)
    except (KeyboardInterrupt, SystemExit):
        if out.exists():
            _say(f"{out}: what was searched is saved; the same command goes on with it", err=True)
        raise
    except OSError as error:
        if error.errno not in DISK_FAULTS:
            raise
        kept = "what was searched since its last save" if out.exists() else "what was searched"
        raise OSError(f"{error.strerror}. {kept.capitalize()} is lost; then run the same command again") from error
    if not bar.rounds:
        _say(f"{out} is done already: nothing was searched again. More --simulations go on with it.")
    if len(trees) == 1:
        _say("visits, value for who chose it, p = prior, action")
        _say(outline(trees[0], depth=2, width=max(12, min(60, _console().width - 55))))
    totals = sum((Counter(tree.counters) for tree in trees), Counter())
    told = f"{out}: {len(trees)} trees, {sum(map(len, trees))} nodes, {totals['simulations']} simulations, "
    told += f"{totals['model_calls']} model calls"
    if simulator.players == 1:
        solved = sum(any(tree.path_return(n) >= 1 for n in _visited_ends(tree)) for tree in trees)
        told += f"; a return of 1 found in {solved}"
    _say(told)
    ends = Counter(tree.stopped for tree in trees if tree.stopped)
    if set(ends) - {"simulations"}:
        _say(f"stopped: {', '.join(f'{count} {reason}' for reason, count in ends.most_common())}")
    if failed := totals["failed_leaves"]:
        reason = next((tree.last_error for tree in trees if tree.last_error), "")
        _say(f"{failed} leaves failed, the last with: {reason}", err=True)


def _visited_ends(tree: "Tree") -> list[int]:
    return [node for node in range(1, len(tree)) if tree.visits(node) and tree.is_terminal(node)]


def _roots(env: str, split: str | None, goals: int, option: Sequence[str] | None) -> tuple[Any, list[Any]]:
    """What is searched, and a root a task."""
    from .envs.play.task import start
    from .envs.views import without_view

    source, split, simulator = _source(env, split, "train", option)
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


@app.command()
@reported
def pairs(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Trees that `branchwise search` saved; with --recipe what `branchwise collect` saved.",
            parser=chosen_path,
        ),
    ],
    out: Annotated[Path, typer.Option(help="The pairs, as JSONL that TRL reads.", parser=_file, metavar="FILE")],
    recipe: RecipeOption = None,
    extract: Annotated[
        Extract | None,
        typer.Option(
            help="siblings: children of a node against each other. best-path: best against worst along the best path. "
            "best-path-steps: the best path's actions alone, for --method sft. Default: siblings."
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, metavar="NUMBER", help="The least difference of value; default 0.1.")
    ] = None,
    min_visits: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_SIMULATIONS, metavar="N", help="The least visits of both sides; default 1."),
    ] = None,
    anchors: Annotated[
        bool | None,
        typer.Option(
            help="Keep good actions of nodes without a contrast, in a file of their own (pairs.anchors.jsonl beside "
            "pairs.jsonl), which `branchwise train` reads too; kept by default."
        ),
    ] = None,
) -> None:
    """Extract preference pairs from trees, or what a recipe learns from its collection; say what was left out and why.

    Example: branchwise pairs collected --recipe step_dpo --out pairs.jsonl

    Example: branchwise pairs trees.parquet --out pairs.jsonl --threshold 0.2
    """
    from .search.files import check_output
    from .search.store import anchors_beside, check_replaceable, load_trees

    if recipe is not None:
        from .training.loop.by_hand import rows_of
        from .training.loop.recipe import load_recipe

        _refuse(
            {"--extract": extract, "--threshold": threshold, "--min-visits": min_visits, "--anchors": anchors},
            "--recipe says what is extracted",
        )
        how = load_recipe(recipe)
        for written in (out, anchors_beside(out)):
            check_output(written)
        check_replaceable(out)
        rows, left_out = rows_of(source, how)
        _save_rows(out, rows, Counter(left_out), f"{source}: {recipe} found nothing to learn from")
        return
    trees, extract = source, extract or Extract.SIBLINGS
    given = {"--threshold": threshold, "--min-visits": min_visits, "--anchors": anchors}
    if extract is Extract.BEST_PATH_STEPS:
        _refuse(given, "--extract best-path-steps compares nothing")
    if extract is Extract.BEST_PATH and anchors is False:
        _refuse({"--min-visits": min_visits}, "--extract best-path --no-anchors takes what the path visited")
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
    from .search.store import anchors_beside, save_pairs

    lost = ", ".join(f"{count} {reason}" for reason, count in Counter(dropped).most_common())
    if not rows:
        raise ValueError(f"{nothing}; left out: {lost or 'nothing'}{cure}")
    save_pairs(out, rows)
    contrasts = [pair for pair in rows if pair.rejected]
    without = [pair for pair in rows if not pair.rejected]
    for path, written in ((out, contrasts or without), (anchors_beside(out), without if contrasts else [])):
        if written:
            kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(pair.kind for pair in written).most_common())
            _say(f"{path}: {len(written)} rows{'' if written is contrasts else ' without a rejected side'} ({kinds})")
    if lost:
        _say(f"left out: {lost}")


def _extracted(
    tree: "Tree", extract: Extract, threshold: float, min_visits: int, anchors: bool
) -> Iterator[tuple[list["PreferencePair"], Counter[str]]]:
    from .search import extraction

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


@app.command()
@reported
def train(
    pairs: Annotated[
        Path,
        typer.Argument(
            metavar="PAIRS", help="Pairs that `branchwise pairs` saved, or others in TRL's format.", parser=chosen_path
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            metavar="MODEL", help="Where to start: a model folder or a Hugging Face id.", parser=os.path.expanduser
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The trained model's folder.", parser=_folder)],
    recipe: RecipeOption = None,
    validate: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="With --recipe: a run (web_shop, a YAML file, or an ENV) on whose validation goals the recipe's "
            "learning rates are tried. Default: its first rate alone.",
        ),
    ] = None,
    method: Annotated[Method | None, typer.Option(help="step-dpo (default), or sft on the chosen sides.")] = None,
    trainer: Annotated[
        Trainer,
        typer.Option(
            help="trl: step-DPO by TRL's own DPOTrainer, on pairs without anchors; --set takes any field of DPOConfig, "
            "with TRL's defaults."
        ),
    ] = Trainer.OURS,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            help="Peak learning rate; default 3e-4 (DPO), 2e-3 (SFT), for small models made here; a pretrained model "
            "wants 1e-6 (DPO), 1e-5 (SFT).",
        ),
    ] = None,
    epochs: Annotated[float | None, typer.Option(metavar="NUMBER", help="Passes over the rows; default 1.")] = None,
    beta: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="DPO: strength of the pull to the reference; default 0.3.")
    ] = None,
    sft_weight: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="DPO: weight of the chosen sides' likelihood; default 1.")
    ] = None,
    reference: Annotated[
        Reference | None,
        typer.Option(
            help="DPO: the log-probabilities logged while searching, or the model as it starts. Default: logged where "
            "every pair has them, else model."
        ),
    ] = None,
    seed: SeedOption = 0,
    history: HistoryOption = None,
    assignments: SetOption = None,
) -> None:
    """Train a model on pairs, and save it with its tokenizer.

    With --recipe as that recipe learns; with --validate as a round of the loop does: each learning rate is tried, and
    the best on validation goals is kept, if it is better than the model was.

    Example: branchwise train pairs.jsonl --recipe step_dpo --model runs/web_shop/base/model --out better --validate
    web_shop

    Example: branchwise train pairs.jsonl --model runs/web_shop/base/model --out better --learning-rate 1.5e-3
    """
    from .search.files import check_model_output, check_writable
    from .search.store import anchors_beside, load_pairs
    from .training.preference import PreferenceSettings, has_logged, logged_fault, train_step_dpo
    from .training.settings import SettingsError, build, check_seed, override
    from .training.supervised import SupervisedSettings, train_sft
    from .training.trainer import TrainingStopped

    if recipe is not None:
        if trainer is Trainer.TRL:
            raise SettingsError("--trainer trl trains with DPOConfig's settings, not a recipe's; leave out one of them")
        options = {"--learning-rate": learning_rate, "--epochs": epochs, "--beta": beta, "--sft-weight": sft_weight}
        _refuse(
            {"--method": method, "--reference": reference, **options},
            "--recipe says how the model learns; change one setting with --set learn.preference.epochs=…",
        )
        check_model_output(out, pairs, anchors_beside(pairs), model)
        check_writable(out)
        _train_recipe(recipe, validate, pairs, model, out, seed, history, assignments or ())
        return
    _refuse({"--validate": validate}, "it tries the learning rates of a --recipe, and none is given")
    method = method or Method.STEP_DPO
    given: dict[str, Any] = {"learning_rate": learning_rate, "epochs": epochs, "beta": beta, "sft_weight": sft_weight}
    given = {name: value for name, value in given.items() if value is not None}
    if trainer is Trainer.TRL:
        if method is Method.SFT:
            raise SettingsError("--trainer trl trains by TRL's DPOTrainer; use --method step-dpo, or leave it out")
        _refuse(
            {"--sft-weight": sft_weight, "--reference": reference}, "--trainer trl has its own (--set sft_weight=…)"
        )
        if epochs is not None:
            given["num_train_epochs"] = given.pop("epochs")
        check_model_output(out, pairs, anchors_beside(pairs), model)
        check_writable(out)
        _train_trl(pairs, model, out, override(given, assignments or ()), seed, history)
        return
    useless = [name for name in ("beta", "sft_weight") if name in given] + ["reference"] * (reference is not None)
    if method is Method.SFT and useless:
        raise SettingsError(f"--method sft has no {' and no '.join(useless)}; leave out, or use --method step-dpo")
    kind = PreferenceSettings if method is Method.STEP_DPO else SupervisedSettings
    settings: Any = build(kind, override(given, assignments or ()))
    check_seed(seed)
    check_model_output(out, pairs, anchors_beside(pairs), model)
    check_writable(out)
    rows = load_pairs(pairs)
    ours = any(pair.kind for pair in rows)  # who wrote the others' prompts meant them to be read whole
    policy = _language_model(model, history, dtype="float32", usual="last_observation" if ours else "all_turns")
    logged = has_logged(rows) if reference is None else reference is Reference.LOGGED
    if method is Method.STEP_DPO and not logged and reference is None:
        typer.echo(
            "note: no log-probabilities were logged with these pairs; the model as it starts is the reference", err=True
        )
    if method is Method.STEP_DPO and logged and (fault := logged_fault(policy, rows)):
        _say(f"note: {fault}", err=True)
    try:
        with _bar("train", settings.epochs) as moved:

            def progress(row: dict[str, float]) -> None:
                moved(row["epoch"], f"loss {row['loss']:.3f}")

            counts, last = (
                train_sft(policy, rows, settings, seed=seed, progress=progress)
                if method is Method.SFT
                else train_step_dpo(policy, rows, settings, logged=logged, seed=seed, progress=progress)
            )
    except TrainingStopped:
        policy.save(out)
        _say(f"{out}: the last good state of the model", err=True)
        raise
    policy.save(out)
    told = [
        f"{name.replace('_', ' ')} {last[name]:.3f}" for name in ("loss", "accuracy", "chosen_drop") if name in last
    ]
    _say(f"{out}: {'SFT' if method is Method.SFT else 'step-DPO'} on {_lost(counts)}; {', '.join(told)}")


def _train_trl(pairs: Path, model: str, out: Path, settings: Mapping[str, Any], seed: int, history: str | None) -> None:
    from .search.store import load_pairs
    from .training.trl_trainer import train_with_trl

    rows = load_pairs(pairs)
    usual = "last_observation" if any(pair.kind for pair in rows) else "all_turns"
    policy = _language_model(model, history, dtype="float32", usual=usual)
    with _bar("train", float(settings.get("num_train_epochs", 3))) as moved:
        counts, last = train_with_trl(
            policy, rows, settings, seed, lambda row: moved(row["epoch"], f"loss {row['loss']:.3f}")
        )
    policy.save(out)
    told = ", ".join(f"{name} {last[name]:.3f}" for name in ("loss", "accuracy") if name in last)
    _say(f"{out}: step-DPO by TRL on {_lost(counts)}; {told}")


def _train_recipe(
    recipe: str, validate: str | None, pairs: Path, model: str, out: Path, seed: int, history: str | None,
    assignments: Sequence[str],
) -> None:  # fmt: skip
    from .agents.named import check_model
    from .search.store import load_pairs
    from .training.loop.by_hand import train_best, train_once
    from .training.loop.recipe import load_recipe, run_of
    from .training.readable import number
    from .training.settings import override

    how = load_recipe(recipe, override({}, assignments))
    check_model(model, _tell)
    if validate is None:
        policy = _language_model(model, history, dtype="float32")
        with _bar("train", how.learn.epochs) as moved:
            last = train_once(
                how, policy, load_pairs(pairs), seed, lambda row: moved(row["epoch"], f"loss {row['loss']:.3f}")
            )
        policy.save(out)
        others = (
            f" (of its rates {', '.join(map(number, how.rates))}; --validate RUN tries all)" if how.rates[1:] else ""
        )
        _say(f"{out}: {recipe} at learning rate {number(how.rates[0])}{others}; loss {last['loss']:.3f}")
        return
    config = run_of(
        validate, [f"seed={seed}", f"model={model}", "search_recipe=", *([f"history={history}"] if history else [])]
    )
    with _bar("train", 1) as moved:
        before, found, tried = train_best(
            pairs, out, config, how, Path(model), lambda done, total, note: moved(done / total, note)
        )
    score = next(name for name in found if name.startswith("validation_"))
    for candidate in tried:
        _say(f"learning rate {number(candidate['learning_rate'])}: {score.replace('_', ' ')} {candidate[score]:.3f}")
    change = f"{score.replace('_', ' ')} {before[score]:.3f} before, {found[score]:.3f} after"
    better = found[score] > before[score]
    _say(
        f"{out}: {recipe}, {change}"
        if better
        else f"{out}: the model as it was, since no candidate is better; {change}"
    )


def _lost(counts: Any) -> str:
    reasons = {**counts.dropped, "truncated prompts": counts.truncated_prompts}
    return ", ".join([f"{counts.rows} rows", *(f"{count} {reason}" for reason, count in reasons.items() if count)])


@app.command()
@reported
def bench(
    env: Annotated[
        str,
        typer.Argument(
            metavar="ENV",
            help="An id that `branchwise envs` lists, or a run's name (web_shop): its environment with its options.",
        ),
    ],
    agent: Annotated[
        list[str],
        typer.Option(
            metavar="AGENT",
            help="random, rule-based (shop), a player that `branchwise envs --json` names, mcts (search with random "
            "roll-outs), or a model (folder or Hugging Face id); may be repeated.",
            parser=os.path.expanduser,
        ),
    ],
    split: Annotated[
        str | None, typer.Option(metavar="SPLIT", help="Whose goals, where there are splits; default test.")
    ] = None,
    goals: Annotated[
        int,
        typer.Option(
            min=1, max=MOST_GOALS, metavar="N", help="Goals (without goals: seeds) 0 to N−1, the same for every agent."
        ),
    ] = 300,
    seed: SeedOption = 0,
    opponent: Annotated[
        str | None, typer.Option(metavar="NAME", help="In a game, who plays the others; default random.")
    ] = None,
    player: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="In a game, whom the agents play; default: each in turn.")
    ] = None,
    simulations: Annotated[
        int,
        typer.Option(
            min=0,
            max=MOST_SIMULATIONS,
            metavar="N",
            help="Models search too, in a row of their own: so many simulations a decision; 0: they do not. mcts: 100, "
            "unless it is given.",
        ),
    ] = 0,
    critic: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Values the leaves of that search; without it roll-outs read the outcome: an oracle.",
            parser=chosen_path,
        ),
    ] = None,
    option: OptionOption = None,
    history: HistoryOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="A folder for episodes and results, written as they end. If it exists, the same command resumes.",
            parser=_folder,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: the rows of results.json.")] = False,
) -> None:
    """Evaluate agents on the same goals, with 95 % intervals; in a game as one of the players.

    Ctrl-C prints the results of the goals that were played.

    Example: branchwise bench branchwise/WebShop-v0 --agent random --agent rule-based --agent runs/web_shop/base/model
    --option observation_mode=compact

    Example: branchwise bench branchwise/LeducPoker-v0 --agent random --agent equilibrium --agent mcts --opponent rule
    """
    from .agents.named import agents_called
    from .agents.searching import RolloutSearcher
    from .envs.play.players import PolicyAgent
    from .envs.registry import environment_row
    from .search.files import make_folder
    from .search.locks import only_writer
    from .training.benchmark import Benchmark

    env, run_options = _env_of_run(env)
    if critic is not None and not simulations:
        raise ValueError("--critic: it values the leaves of a search, and nobody searches; add --simulations")
    view: dict[str, Any] = {"opponents": opponent, "player": player}
    view = {name: value for name, value in view.items() if value is not None}
    if environment_row(env).players > 1 and "opponents" not in run_options:
        view.setdefault("opponents", "random")
    source, split, simulator = _source(env, split, "test", option, view, run_options)
    tasks = source.tasks(simulator, split, goals)
    simulator.reset(tasks[0]["seed"], tasks[0]["options"])  # options that a reset refuses: an error before the work
    agents = [made for name in agent for made in agents_called(name, env, simulations, critic, history, tell=_tell)]
    if not any(isinstance(made, PolicyAgent) for made in agents):
        _refuse({"--critic": critic, "--history": history}, "none of the agents is a model")
        if not any(isinstance(made, RolloutSearcher) for made in agents):
            _refuse({"--simulations": simulations or None}, "none of the agents searches")
    settings = {
        "env": source.row.id,
        "split": split if source.row.splits else "",
        "options": dict(source.options),
        "seed": seed,
        "simulations": simulations,
        "critic": None if critic is None else str(critic),
        "history": history,
    }
    if out:
        make_folder(out)
    with only_writer(out) if out else nullcontext():
        benchmark = Benchmark(simulator, tasks, settings, out)
        try:
            for made in agents:
                with _bar(made.name, goals) as moved:
                    benchmark.play(made, moved)
        except KeyboardInterrupt:
            ended = benchmark.rows[-1].episodes if len(benchmark.rows) and benchmark.rows[-1].agent == made.name else 0
            cure = "the same command resumes" if out else "give --out FOLDER to keep episodes and resume"
            _say(f"{made.name}: {ended} of {goals} goals; {cure}", err=True)
            raise
        finally:
            benchmark.save()
            _print_results(benchmark.rows, as_json)
    if helpless := [row.agent for row in benchmark.rows if row.invalid_action_rate == 1.0]:
        _say(f"note: every action of {', '.join(helpless)} was invalid. {WRONG_PAGES}", err=True)
    if view and not as_json:
        seat = f"player {source.options['player']}" if "player" in source.options else "each player in turn"
        _say(f"As {seat}, the others played by {source.options['opponents']}.")
    if out:
        _say(f"Episodes and results: {out}", err=as_json)


def _print_results(rows: Sequence["ResultRow"], as_json: bool) -> None:
    from dataclasses import asdict

    from .training.display import ResultsTable

    if rows and as_json:
        _print_json([asdict(row) for row in rows])
    elif rows:
        _console().print(ResultsTable(rows))


def parsed_options(assignments: Sequence[str] | None) -> dict[str, Any]:
    """``key=value`` strings as a dictionary; values are read as YAML.

    >>> parsed_options(["products=100", "observation_mode=compact"])
    {'products': 100, 'observation_mode': 'compact'}
    """
    from .training.settings import SettingsError, parse_yaml

    options = {}
    for assignment in assignments or ():
        key, separator, value = assignment.partition("=")
        if not separator or not key.strip():
            raise ValueError(f"--option {assignment!r}: expected key=value, such as observation_mode=compact")
        try:
            options[key.strip()] = parse_yaml(value, f"--option {assignment!r}:")
        except SettingsError:
            options[key.strip()] = value
    return options


@contextmanager
def _named_options(env: str, assignments: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    """The options; an environment that has no such option, or cannot take the value, is the user's error, not a bug."""
    import gymnasium as gym

    from .envs.registry import OptionError

    options = parsed_options(assignments)
    try:
        yield options
    except gym.error.Error as error:
        raise ValueError(f"{error}") from error
    except TypeError as error:
        if isinstance(error, OptionError) or str(error).startswith(env):  # said at the border, with its cure
            raise ValueError(f"{error}") from error
        if wrong := _of_another_type(env, options):
            raise ValueError(f"{env}: {'; '.join(wrong)}") from error
        given = ", ".join(f"{name}={value!r}" for name, value in options.items())
        raise ValueError(
            f"{env} with {given or 'no options'}: {error}; `branchwise envs --json` has the options with defaults"
        ) from error


def _of_another_type(env: str, options: Mapping[str, Any]) -> list[str]:
    """What is wrong with options whose value has another type than their default."""
    from .envs.registry import accepted_options

    try:
        defaults = accepted_options(env)
    except ValueError:  # an environment of somebody else's
        return []
    return [
        f"{name}={value!r} is no value of this option; expected one like {defaults[name]!r}, its default"
        for name, value in options.items()
        if isinstance(defaults.get(name), int | float | str | tuple) and type(value) is not type(defaults[name])
    ]


def _source(
    env: str,
    split: str | None,
    usual_split: str,
    assignments: Sequence[str] | None,
    more: Mapping[str, Any] | None = None,
    usual: Mapping[str, Any] | None = None,
) -> tuple["TaskSource", str, Any]:
    """Where tasks come from, made with the ``usual`` options, over them the assignments and ``more``; the split that is
    meant, and its simulator."""
    from .envs.play.task import TaskSource
    from .envs.registry import environment_row

    splits = environment_row(env).splits
    with _named_options(env, assignments) as options:
        if "split" in options:
            raise ValueError("--option split=…: this command takes --split")
        if split is not None and not splits:
            raise ValueError(f"--split {split}: {env} has no splits; leave it out")
        source = TaskSource(env, {**(usual or {}), **options, **(more or {})})
        return source, split or usual_split, source.simulator(split or usual_split)


def _env_of_run(env: str) -> tuple[str, dict[str, Any]]:
    """The environment that is meant, and its options where ``env`` is the name or file of a run."""
    ours = Path(__file__).parent / "training" / "recipes" / f"{env}.yaml"
    if Path(env).suffix not in (".yaml", ".yml") and not ours.is_file():
        return env, {}
    from .training.loop.recipe import load_config

    config = load_config(env)
    return config.env, dict(config.env_options)


def _language_model(
    source: str, history: str | None, dtype: str | None = None, usual: str = "last_observation"
) -> "LanguageModel":
    from .agents.named import language_model

    return language_model(source, history, _tell, dtype=dtype, usual=usual)


def _say(line: str, err: bool = False) -> None:
    """Print text that may hold what strangers wrote: names, actions, reasons."""
    from .envs.terminal import printable, wrapped

    stream, shown = sys.stderr if err else sys.stdout, printable(line)
    typer.echo(wrapped(shown, _columns()) if stream.isatty() else shown, err=err)  # in a file a line is a line


def _columns() -> int:
    """The width of the terminal, as ``COLUMNS`` or the system says; a floor below which nothing can be read."""
    from .envs.terminal import NARROWEST

    return max(NARROWEST, shutil.get_terminal_size().columns)


def _tell(line: str) -> None:
    _say(line, err=True)


def _refuse(given: Mapping[str, Any], reason: str) -> None:
    """An option that would have no effect is an error."""
    for option, value in given.items():
        if value is not None:
            raise ValueError(f"{option}: {reason}; leave it out")


def _console() -> "Console":
    """The standard output; where it is no terminal, as wide as ``COLUMNS`` says, or enough for a table."""
    from rich.console import Console

    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=_columns() if known else 140)


def _errors() -> "Console":
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def _bar(name: str, total: float) -> Iterator[Callable[[float, str], None]]:
    """A progress bar on the standard error; plain lines where that is no terminal."""
    from .training.display import ProgressDisplay

    with ProgressDisplay(_errors()) as display:
        display.started(name)
        yield lambda done, note: display.moved(name, done, total, note)


def _print_json(data: Sequence[Mapping[str, Any]]) -> None:
    import json

    typer.echo(json.dumps(data, indent=1))  # all but ASCII escaped: nothing in it can move a cursor


def main() -> None:
    """The entry point."""
    for stream, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, stream) is None:  # closed by the shell, as by >&-
            setattr(sys, stream, open(os.devnull, mode))  # noqa: SIM115 (until the process ends)
    for text in (sys.stdin, sys.stdout):  # a sign that an encoding lacks costs that sign alone
        text.reconfigure(errors="replace")  # type: ignore[union-attr]
    app(prog_name="branchwise")


if __name__ == "__main__":
    main()
