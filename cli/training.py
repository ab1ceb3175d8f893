"""Commands that train: ``recipes`` lists how, ``loop`` runs all stages, ``collect`` and ``train`` one each."""

import enum
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..search.files import chosen_path
from .options import (
    A_RECIPE,
    RUNS,
    WITH_RECIPE,
    WITHOUT_RECIPE,
    HistoryOption,
    RunArgument,
    model_named,
    output_folder,
    refuse,
)
from .printing import STOPPED, bar, console, error_console, note, print_json, reported, resumable, show


class Method(enum.StrEnum):
    """How a model learns from pairs."""

    STEP_DPO = "step-dpo"
    SFT = "sft"


class Trainer(enum.StrEnum):
    """Whose trainer does step-DPO."""

    OURS = "ours"
    TRL = "trl"


class Outcome(enum.StrEnum):
    """What makes an episode a good one."""

    SUCCESS = "success"
    REWARD = "reward"


class Reference(enum.StrEnum):
    """Where DPO's reference log-probabilities come from."""

    LOGGED = "logged"
    MODEL = "model"


@reported
def recipes(
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="For programs: with all settings.")] = False,
) -> None:
    """List the recipes: ways to train an agent, each with its paper.

    A recipe says what is collected, what is extracted from it, how a model learns, and how it then acts. `branchwise
    loop RUN --set recipes=[step_dpo,rft]` compares some; `collect`, `pairs`, `train` and `bench` take one with
    --recipe.

    Example: branchwise recipes
    """
    from ..training.loop.recipe import load_recipe, recipe_names
    from ..training.settings import as_dict

    known = {name: load_recipe(name) for name in recipe_names()}
    if as_json:
        print_json([{"name": name, **as_dict(recipe)} for name, recipe in known.items()])
        return
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("recipe", "source", "what it does"):
        table.add_column(title, no_wrap=title != "what it does")
    for name, recipe in known.items():
        table.add_row(name, recipe.source, recipe.summary)
    console().print(table)


@reported
def loop(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help=f"A run: a YAML file, or one of ours: {RUNS}.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The run's folder; default runs/CONFIG.", parser=output_folder)
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a setting of the run, such as seed=1 or search.simulations=32; may be repeated.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Start from this model, a folder or a Hugging Face id. Default: a small one made from scratch.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Stages that run side by side.")] = 2,
) -> None:
    """Collect, train and evaluate, round after round; run the same command to resume.

    Example: branchwise loop web_shop --out runs/web_shop
    """
    from ..agents.named import check_model
    from ..training.display import ProgressDisplay, ResultsTable
    from ..training.loop.config import load_config, run_folder_named
    from ..training.loop.run import is_done, run_loop
    from ..training.run_folder import budgets, read_run
    from ..training.stages import FIGURES, is_finished

    if model and any(each.partition("=")[0].strip() == "model" for each in assignments or ()):
        raise ValueError("--model and --set model=… say the same; leave one out")
    settings = load_config(config, [*(assignments or ()), *([f"model={model}"] if model else ())])
    run = out or run_folder_named(config)
    done_before = is_done(settings, run)
    before = sum(1 for _ in run.glob(f"**/{FIGURES}"))
    if before and not done_before:
        note(f"{run}: goes on after {before} finished stage{'s' * (before > 1)}")
    if settings.model and not is_finished(run, "base"):
        check_model(settings.model, note)
    try:
        with ProgressDisplay(error_console()) as display:
            rows = run_loop(settings, run, display, workers)
    except KeyboardInterrupt:
        kept = f"finished stages are in {run}" if any(run.glob(f"**/{FIGURES}")) else "no stage was finished yet"
        raise KeyboardInterrupt(f"{STOPPED}; {kept}; run the same command to resume") from None
    if done_before:
        show(f"{run} is done already: nothing was done again. Another --out starts afresh.")
    console().print(ResultsTable(rows))
    for line in budgets(read_run(run)):
        show(line)
    show(f"Report: {run / 'report.html'}")


@reported
def collect(
    run: RunArgument,
    recipe: Annotated[str, typer.Option(metavar="RECIPE", help=f"The recipe that will learn from it: {A_RECIPE}.")],
    model: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="The model that collects: a folder (a run makes runs/web_shop/base/model) or a Hugging Face id.",
            parser=os.path.expanduser,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", help="Output folder. If it exists, the collection resumes from it.", parser=output_folder
        ),
    ],
    round: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="The round; each has goals of its own.")] = 1,
    earlier: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="From round 2 on, for recipes that sample a share of the episodes with the model of the round before.",
            parser=os.path.expanduser,
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a setting of the run, such as train_goals=50 or seed=1; may be repeated.",
        ),
    ] = None,
) -> None:
    """Collect what a recipe learns from: episodes, trees or steps, as a round of the loop does.

    Goals, budget of model calls, random draws and the settings of the recipe are those of the run, so the files equal
    those of a round of the loop.
    Then `branchwise pairs` extracts what is learned from.

    Example: branchwise collect web_shop --recipe step_dpo --model runs/web_shop/base/model --out collected
    """
    from ..agents.named import check_model
    from ..search.locks import only_writer
    from ..training.loop.by_hand import check_earlier, collect_into
    from ..training.loop.config import run_of
    from ..training.loop.recipe import recipe_stem
    from ..training.loop.run import check_run
    from ..training.stages import is_finished

    settings = run_of(run, [*(assignments or ()), f"model={model}", "search_recipe="], recipe)
    for each in filter(None, (model, earlier)):
        check_model(each, note)
    check_run(replace(settings, rounds=max(settings.rounds, round)))
    before = Path(earlier) if earlier else None
    check_earlier(settings, recipe_stem(recipe), round, before)
    done_before = is_finished(out.parent, out.name)
    with (
        only_writer(out),
        resumable("finished batches are kept; run the same command to resume"),
        bar(out.name, 1) as moved,
    ):

        def progress(done: float, total: float, about: str) -> None:
            moved(done / total, about)

        found = collect_into(out, settings, recipe_stem(recipe), Path(model), round, progress, before)
    solved = f", {found['solved_goals']} solved" if "solved_goals" in found else ""
    again = "; done already" if done_before else ""
    tries = {"trees": "simulations", "episodes": "episodes"}.get(found["gives"], "tries")
    done = f"{found['tries']} {tries} of {found['goals']} goals{solved}"
    show(f"{out}: {done}, {found['model_calls']} model calls{again}")


@reported
def train(
    pairs: Annotated[
        Path,
        typer.Argument(
            metavar="PAIRS",
            help="A file that `branchwise pairs` wrote, or other pairs in TRL's format.",
            parser=chosen_path,
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            metavar="MODEL", help="The model to start from: a folder or a Hugging Face id.", parser=os.path.expanduser
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            help="Output folder for the trained model. A model that is there is replaced.",
            parser=output_folder,
        ),
    ],
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help=f"Learn as this recipe does: {A_RECIPE}.",
            rich_help_panel=WITH_RECIPE,
        ),
    ] = None,
    validate: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Try each learning rate of the recipe, and keep the best on the validation goals of this run: a name "
            "(web_shop), a YAML file, or an ENV. Default: train once, at the recipe's first rate.",
            rich_help_panel=WITH_RECIPE,
        ),
    ] = None,
    outcome: Annotated[
        Outcome | None,
        typer.Option(
            help="What whole episodes are good by, for recipes that learn from these: success (default), or more "
            "reward than the mean of the task. With --validate it is the run's.",
            rich_help_panel=WITH_RECIPE,
        ),
    ] = None,
    method: Annotated[
        Method | None,
        typer.Option(help="step-dpo (default), or sft on the chosen sides.", rich_help_panel=WITHOUT_RECIPE),
    ] = None,
    trainer: Annotated[
        Trainer,
        typer.Option(
            help="ours, or trl: step-DPO by TRL's own DPOTrainer, on pairs without anchors; --set takes any field of "
            "DPOConfig, and the defaults are TRL's.",
            rich_help_panel=WITHOUT_RECIPE,
        ),
    ] = Trainer.OURS,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            help="Peak learning rate; default 3e-4 (DPO), 2e-3 (SFT), for small models made here. For a pretrained "
            "model take 1e-6 (DPO), 1e-5 (SFT).",
            rich_help_panel=WITHOUT_RECIPE,
        ),
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option(metavar="NUMBER", help="Passes over the rows; default 1.", rich_help_panel=WITHOUT_RECIPE),
    ] = None,
    beta: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            help="DPO: strength of the pull to the reference; default 0.3.",
            rich_help_panel=WITHOUT_RECIPE,
        ),
    ] = None,
    sft_weight: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            help="DPO: weight of the chosen sides' likelihood; default 1.",
            rich_help_panel=WITHOUT_RECIPE,
        ),
    ] = None,
    reference: Annotated[
        Reference | None,
        typer.Option(
            help="DPO: the log-probabilities logged during the search, or the model as it starts. Default: logged if "
            "every pair has them, else model.",
            rich_help_panel=WITHOUT_RECIPE,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="The seed of all draws; default 0, with --validate the run's."),
    ] = None,
    history: HistoryOption = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change another setting: of the recipe (learn.preference.epochs=1), or without one of the trainer "
            "(batch_size=16); may be repeated.",
        ),
    ] = None,
) -> None:
    """Train a model on pairs, and save it with its tokenizer.

    With --recipe, the model learns as the recipe says; add --validate to train exactly as a round of the loop does: the
    best learning rate on validation goals is kept, if it beats the model as it was. Without, by step-DPO or SFT with
    the options below: for pairs and settings of your own.

    Example: branchwise train pairs.jsonl --recipe step_dpo --model runs/web_shop/base/model --out better --validate
    web_shop

    Example: branchwise train pairs.jsonl --model runs/web_shop/base/model --out better --learning-rate 1.5e-3
    """
    from ..search.records import load_pairs
    from ..training.preference import PreferenceSettings, has_logged, logged_fault, train_step_dpo
    from ..training.settings import SettingsError, build, check_seed, override
    from ..training.supervised import SupervisedSettings, train_sft
    from ..training.trainer import TrainingStopped

    if recipe is not None:
        if trainer is Trainer.TRL:
            raise SettingsError("--trainer trl trains with DPOConfig's settings, not a recipe's; leave out one of them")
        options = {"--learning-rate": learning_rate, "--epochs": epochs, "--beta": beta, "--sft-weight": sft_weight}
        refuse(
            {"--method": method, "--reference": reference, **options},
            "--recipe says how the model learns; change it with --set rates=[1.5e-3] or learn.preference.epochs=1",
        )
        if validate is not None:
            refuse({"--outcome": outcome}, "--validate names a run, which says what it searches for")
        _check_output(out, pairs, model)
        _train_recipe(recipe, validate, outcome, pairs, model, out, seed, history, assignments or ())
        return
    seed = seed or 0
    refuse({"--validate": validate, "--outcome": outcome}, "it goes with a --recipe, and none is given")
    method = method or Method.STEP_DPO
    given: dict[str, Any] = {"learning_rate": learning_rate, "epochs": epochs, "beta": beta, "sft_weight": sft_weight}
    given = {name: value for name, value in given.items() if value is not None}
    if trainer is Trainer.TRL:
        if method is Method.SFT:
            raise SettingsError("--trainer trl trains by TRL's DPOTrainer; use --method step-dpo, or leave it out")
        refuse({"--sft-weight": sft_weight, "--reference": reference}, "--trainer trl has its own (--set sft_weight=…)")
        if epochs is not None:
            given["num_train_epochs"] = given.pop("epochs")
        _check_output(out, pairs, model)
        _train_trl(pairs, model, out, override(given, assignments or ()), seed, history)
        return
    useless = [name for name in ("beta", "sft_weight") if name in given] + ["reference"] * (reference is not None)
    if method is Method.SFT and useless:
        raise SettingsError(f"--method sft has no {' and no '.join(useless)}; leave out, or use --method step-dpo")
    kind = PreferenceSettings if method is Method.STEP_DPO else SupervisedSettings
    settings: Any = build(kind, override(given, assignments or ()))
    check_seed(seed)
    _check_output(out, pairs, model)
    rows = load_pairs(pairs)
    policy = _starting_model(model, history, rows)
    logged = has_logged(rows) if reference is None else reference is Reference.LOGGED
    if method is Method.STEP_DPO and rows and not any(pair.rejected for pair in rows):
        raise ValueError(
            f"none of the {len(rows)} rows has a rejected side: they are anchors, and step-DPO needs pairs. Train on "
            "them with --method sft, or give the file of pairs, whose anchors are read with it"
        )
    if method is Method.STEP_DPO and not logged and reference is None:
        typer.echo(
            "note: no log-probabilities were logged with these pairs; the model as it starts is the reference", err=True
        )
    if method is Method.STEP_DPO and logged and (fault := logged_fault(policy, rows)):
        show(f"note: {fault}", err=True)
    try:
        with bar("train", settings.epochs) as moved:

            def progress(row: dict[str, float]) -> None:
                moved(row["epoch"], f"loss {row['loss']:.3f}")

            counts, last = (
                train_sft(policy, rows, settings, seed=seed, progress=progress)
                if method is Method.SFT
                else train_step_dpo(policy, rows, settings, logged=logged, seed=seed, progress=progress)
            )
    except TrainingStopped:
        policy.save(out)
        show(f"{out}: the last good state of the model", err=True)
        raise
    policy.save(out)
    told = [
        f"{name.replace('_', ' ')} {last[name]:.3f}" for name in ("loss", "accuracy", "chosen_drop") if name in last
    ]
    show(f"{out}: {'SFT' if method is Method.SFT else 'step-DPO'} on {_lost(counts)}; {', '.join(told)}")


def _check_output(out: Path, pairs: Path, model: str) -> None:
    """Raises where the trained model cannot be written, or would be written over what it is made of."""
    from ..search.files import check_model_output, check_writable
    from ..search.records import anchors_beside

    check_model_output(out, pairs, anchors_beside(pairs), model)
    check_writable(out)


def _starting_model(model: str, history: str | None, rows: Sequence[Any]) -> Any:
    """The model that trains on these pairs, by default reading what those who wrote them meant to be read: the last
    observation of ours, the whole of others' prompts."""
    ours = any(pair.kind for pair in rows)
    return model_named(model, history, dtype="float32", usual="last_observation" if ours else "all_turns")


def _train_trl(pairs: Path, model: str, out: Path, settings: Mapping[str, Any], seed: int, history: str | None) -> None:
    from ..search.records import load_pairs
    from ..training.trl_trainer import train_with_trl

    rows = load_pairs(pairs)
    policy = _starting_model(model, history, rows)
    with bar("train", float(settings.get("num_train_epochs", 3))) as moved:
        counts, last = train_with_trl(
            policy, rows, settings, seed, lambda row: moved(row["epoch"], f"loss {row['loss']:.3f}")
        )
    policy.save(out)
    told = ", ".join(f"{name} {last[name]:.3f}" for name in ("loss", "accuracy") if name in last)
    show(f"{out}: step-DPO by TRL on {_lost(counts)}; {told}")


def _train_recipe(
    recipe: str, validate: str | None, outcome: Outcome | None, pairs: Path, model: str, out: Path, seed: int | None,
    history: str | None, assignments: Sequence[str],
) -> None:  # fmt: skip
    from ..agents.named import check_model
    from ..training.loop.by_hand import train_best, train_once
    from ..training.loop.config import run_of
    from ..training.loop.extract import load_rows
    from ..training.loop.recipe import load_recipe, recipe_stem
    from ..training.readable import number
    from ..training.settings import override

    check_model(model, note)
    if validate is None:
        how = load_recipe(recipe, override({}, assignments))
        policy = model_named(model, history, dtype="float32")
        with bar("train", how.learn.epochs) as moved:
            last = train_once(
                how,
                policy,
                load_rows(pairs, how.learn.takes),
                (outcome or Outcome.SUCCESS).value,
                seed or 0,
                lambda row: moved(row["epoch"], f"loss {row['loss']:.3f}"),
            )
        policy.save(out)
        others = (
            f" (of its rates {', '.join(map(number, how.rates))}; --validate RUN tries all)" if how.rates[1:] else ""
        )
        show(f"{out}: {recipe} at learning rate {number(how.rates[0])}{others}; loss {last['loss']:.3f}")
        return
    given = {"search_recipe": "", "seed": seed, "model": model, "history": history}
    of_recipe = [f"recipes.{recipe_stem(recipe)}.{assignment}" for assignment in assignments]
    config = run_of(validate, [*(f"{k}={v}" for k, v in given.items() if v is not None), *of_recipe], recipe)
    how = config.recipes[recipe_stem(recipe)]
    with bar("train", 1) as moved:
        before, found, tried = train_best(
            pairs, out, config, how, Path(model), lambda done, total, about: moved(done / total, about)
        )
    score = next(name for name in found if name.startswith("validation_"))
    for candidate in tried:
        show(f"learning rate {number(candidate['learning_rate'])}: {score.replace('_', ' ')} {candidate[score]:.3f}")
    change = f"{score.replace('_', ' ')} {before[score]:.3f} before, {found[score]:.3f} after"
    kept = "the model as it was, since no candidate is better" if found is before else recipe
    show(f"{out}: {kept}, {change}")
    if how.learn.makes == "q":
        show(f"A Q-model; to act with it: branchwise bench {validate} --agent {model} --recipe {recipe} --q {out}")


def _lost(counts: Any) -> str:
    reasons = {**counts.dropped, "truncated prompts": counts.truncated_prompts}
    return ", ".join([f"{counts.rows} rows", *(f"{count} {reason}" for reason, count in reasons.items() if count)])
