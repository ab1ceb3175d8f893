"""Commands that play: ``envs`` lists the environments, ``play`` lets a person play one, ``bench`` evaluates agents."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..search.files import chosen_path
from .credit import bench_credit
from .options import (
    MOST_GOALS,
    MOST_SIMULATIONS,
    WRONG_PAGES,
    EnvArgument,
    HistoryOption,
    OptionOption,
    SeedOption,
    model_named,
    named_options,
    not_a_run,
    options_of_run,
    output_folder,
    parsed_options,
    refuse,
    run_named,
    source_of,
)
from .printing import bar, console, note, print_json, reported, show

if TYPE_CHECKING:
    from ..agents.language_model import LanguageModel
    from ..envs.play.agent import Agent
    from ..training.evaluation import ResultRow
    from ..training.loop.config import RunConfig
    from ..training.loop.slots import BestOf

CREDIT: Final = "credit"
USUAL_GOALS: Final = 300
IN_A_GAME: Final = "In a game"
WITH_SEARCH: Final = "With search"
WITH_Q: Final = "With a Q-model"


@reported
def envs(
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="For programs: with options and defaults.")
    ] = False,
) -> None:
    """List the environments, one line each; with --json also their options, splits and named opponents.

    Example: branchwise envs --json
    """
    from ..envs.registry import described, environments

    if as_json:
        print_json([described(row) for row in environments()])
        return
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("id", "players", "what one does there"):
        table.add_column(name, no_wrap=name != "what one does there")
    for row in environments():
        table.add_row(row.id, str(row.players), row.summary)
    console().print(table)


@reported
def play(
    env: EnvArgument,
    goal: Annotated[int | None, typer.Option(metavar="N", help="The number of the goal in its split.")] = None,
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
    from ..envs.play import person as terminal

    not_a_run(env)
    with named_options(env, option) as options:
        asked = {"opponents": opponent, "player": player}
        options.update({name: value for name, value in asked.items() if value is not None})
        terminal.play(env, options, goal, seed)


@reported
def bench(
    env: Annotated[
        str,
        typer.Argument(
            metavar="ENV",
            help="An id that `branchwise envs` lists, or a run (web_shop, a YAML file): its environment with its "
            "options; or credit, the benchmark of credit assignment, which takes no agents.",
        ),
    ],
    agent: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AGENT",
            help="random; another player that `branchwise envs --json` names; mcts (search with random roll-outs); or "
            "a model, a folder or a Hugging Face id. May be repeated. Required, but for credit.",
            parser=os.path.expanduser,
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="SPLIT", help="Whose goals, where there are splits; default test.")
    ] = None,
    goals: Annotated[
        int,
        typer.Option(
            min=1, max=MOST_GOALS, metavar="N", help="Goals (without goals: seeds) 0 to N−1, the same for every agent."
        ),
    ] = USUAL_GOALS,
    seed: SeedOption = 0,
    opponent: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Who plays the other players; default random.", rich_help_panel=IN_A_GAME),
    ] = None,
    player: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="The player that the agents are; default: each in turn.", rich_help_panel=IN_A_GAME
        ),
    ] = None,
    simulations: Annotated[
        int,
        typer.Option(
            min=0,
            max=MOST_SIMULATIONS,
            metavar="N",
            help="Simulations a decision. Above 0, each model has a second row, in which it searches; mcts takes "
            "100 if this is 0.",
            rich_help_panel=WITH_SEARCH,
        ),
    ] = 0,
    critic: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The critic that values the leaves of a model's search. Without one, roll-outs to the true outcome "
            "do: an oracle.",
            rich_help_panel=WITH_SEARCH,
            parser=chosen_path,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help="A recipe whose agent acts by best_of, such as step_q, or a YAML file; as the run has it, where a run "
            "is benchmarked. Each model has another row, in which it plays the best of its proposals.",
            rich_help_panel=WITH_Q,
        ),
    ] = None,
    q: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The Q-model that ranks the proposals, from `branchwise train --recipe RECIPE`.",
            parser=chosen_path,
            rich_help_panel=WITH_Q,
        ),
    ] = None,
    option: OptionOption = None,
    history: HistoryOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Output folder for episodes and results. If it exists, the benchmark resumes from it.",
            parser=output_folder,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="For programs: the rows of results.json.")
    ] = False,
) -> None:
    """Evaluate agents on the same goals, with 95 % intervals.

    In a game an agent is one of the players. Ctrl-C prints the results of the goals played so far.

    `branchwise bench credit` compares ways of assigning credit (docs/credit.md). Its options: --option seeds=5, cells
    (all, fitted, held_out, or names), workers=2, rates=[0.1,0.3,1], clip_low, clip_high.

    Example: branchwise bench branchwise/WebShop-v0 --agent random --agent rule-based --agent runs/web_shop/base/model
    --option observation_mode=compact

    Example: branchwise bench web_shop --agent runs/web_shop/base/model --recipe step_q --q q_model

    Example: branchwise bench branchwise/LeducPoker-v0 --agent random --agent equilibrium --agent mcts --opponent rule

    Example: branchwise bench credit --out credit_results --option seeds=1
    """
    if env == CREDIT:
        refused = {
            "--agent": agent or None, "--split": split, "--goals": None if goals == USUAL_GOALS else goals,
            "--opponent": opponent, "--player": player, "--simulations": simulations or None, "--critic": critic,
            "--recipe": recipe, "--q": q, "--history": history,
        }  # fmt: skip
        refuse(refused, "the credit benchmark has methods and tasks of its own")
        bench_credit(option, seed, out, as_json)
        return
    if not agent:
        raise typer.BadParameter("name who plays, such as --agent random", param_hint="--agent")
    from ..agents.named import agents_called
    from ..agents.searching import RolloutSearcher
    from ..envs.play.players import PolicyAgent
    from ..envs.registry import environment_row
    from ..search.files import make_folder
    from ..search.locks import only_writer
    from ..training.benchmark import Benchmark

    run = run_named(env, recipe)
    env, run_options = (env, {}) if run is None else options_of_run(run)
    if critic is not None and not simulations:
        raise ValueError("--critic: it values the leaves of a search, and nobody searches; add --simulations")
    act = _best_of(run, recipe, q)
    view: dict[str, Any] = {"opponents": opponent, "player": player}
    view = {name: value for name, value in view.items() if value is not None}
    said = parsed_options(option)
    for name, flag in (("opponents", "--opponent"), ("player", "--player")):
        if name in said and name in view:
            raise ValueError(f"{flag} and --option {name}=… say the same; leave one out")
    if environment_row(env).players > 1 and "opponents" not in {**run_options, **said}:
        view.setdefault("opponents", "random")
    source, split, simulator = source_of(env, split, "test", option, view, run_options)
    tasks = source.tasks(simulator, split, goals)
    simulator.reset(tasks[0]["seed"], tasks[0]["options"])  # options that a reset refuses: an error before the work
    agents = [made for name in agent for made in agents_called(name, env, simulations, critic, history, tell=note)]
    if not any(isinstance(made, PolicyAgent) for made in agents):
        refuse({"--critic": critic, "--history": history, "--q": q}, "none of the agents is a model")
        if not any(isinstance(made, RolloutSearcher) for made in agents):
            refuse({"--simulations": simulations or None}, "none of the agents searches")
    if act is not None:
        agents = _with_best_of(agents, act, model_named(str(q), history))
    settings = {
        "env": source.row.id,
        "split": split if source.row.splits else "",
        "options": dict(source.options),
        "seed": seed,
        "simulations": simulations,
        "critic": None if critic is None else str(critic),
        "history": history,
        "act": None if act is None else asdict(act),
        "q": None if q is None else str(q),
    }
    if out:
        make_folder(out)
    with only_writer(out) if out else nullcontext():
        benchmark = Benchmark(simulator, tasks, settings, out)
        try:
            for made in agents:
                with bar(made.name, goals) as moved:
                    benchmark.play(made, moved)
        except KeyboardInterrupt:
            ended = benchmark.rows[-1].episodes if len(benchmark.rows) and benchmark.rows[-1].agent == made.name else 0
            cure = "the same command resumes" if out else "give --out FOLDER to keep episodes and resume"
            show(f"{made.name}: {ended} of {goals} goals; {cure}", err=True)
            raise
        finally:
            benchmark.save()
            _print_results(benchmark.rows, as_json)
    if helpless := [row.agent for row in benchmark.rows if row.invalid_action_rate == 1.0]:
        show(f"note: every action of {', '.join(helpless)} was invalid. {WRONG_PAGES}", err=True)
    if "opponents" in source.options and not as_json:
        seat = f"player {source.options['player']}" if "player" in source.options else "each player in turn"
        show(f"As {seat}, the others played by {source.options['opponents']}.")
    if out:
        show(f"Episodes and results: {out}", err=as_json)


def _best_of(run: "RunConfig | None", recipe: str | None, q: Path | None) -> "BestOf | None":
    """How agents of the recipe act, as ``run`` has it, by the model in the folder ``q``; nothing where neither is
    given."""
    if recipe is None:
        if q is not None:
            raise ValueError("--q: it ranks what a recipe's agent proposes; add --recipe, such as --recipe step_q")
        return None
    from ..agents.language_model import check_model_folder
    from ..training.loop.recipe import load_recipe, recipe_stem
    from ..training.loop.slots import BestOf

    act = (load_recipe(recipe) if run is None else run.recipes[recipe_stem(recipe)]).act
    if not isinstance(act, BestOf):
        useless = "--recipe" if q is None else "--recipe and --q"
        raise ValueError(f"--recipe {recipe}: its agent acts as every model does; leave out {useless}")
    if q is None:
        raise ValueError(
            f"--recipe {recipe}: its agent ranks proposals by a Q-model; add --q FOLDER, a model that `branchwise "
            f"train --recipe {recipe}` wrote"
        )
    check_model_folder(q)
    return act


def _with_best_of(agents: Sequence["Agent"], act: "BestOf", q: "LanguageModel") -> list["Agent"]:
    """The agents, and after each model the agent that plays the best of its proposals."""
    from ..agents.language_model import LanguageModel
    from ..envs.play.players import PolicyAgent
    from ..training.loop.agents import acting

    found = []
    for agent in agents:
        found.append(agent)
        if isinstance(agent, PolicyAgent) and isinstance(agent.policy, LanguageModel):
            found.append(acting(act, {"policy": agent.policy, "q": q}, f"{agent.name}+best_of"))
    return found


def _print_results(rows: Sequence["ResultRow"], as_json: bool) -> None:
    from ..training.display import ResultsTable

    if rows and as_json:
        print_json([asdict(row) for row in rows])
    elif rows:
        console().print(ResultsTable(rows))
