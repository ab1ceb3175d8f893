"""Options that several commands have, with their help, and how their values are read: paths, an environment with its
options, the tasks of a split, a model.

What it does not do: print (``printing.py``).
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..search.files import chosen_path
from .printing import note

if TYPE_CHECKING:
    from ..agents.language_model import LanguageModel
    from ..envs.play.task import TaskSource
    from ..training.loop.config import RunConfig

MOST_GOALS: Final = 1_000_000
MOST_SIMULATIONS: Final = 100_000_000
"""Limits of counts: far above any use, and low enough that a slip of the finger is an error and no endless wait."""
WRONG_PAGES: Final = (
    "Is the model one for this environment and its --option? Small models made here read observation_mode=compact"
)

EnvArgument = Annotated[
    str,
    typer.Argument(metavar="ENV", help="An id that `branchwise envs` lists; `branchwise/` may be left out."),
]
OptionOption = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="An option of the environment; may be repeated."),
]
HistoryOption = Annotated[
    str | None,
    typer.Option(
        metavar="HISTORY",
        help="What the model reads of an episode: all_turns, actions_and_last_observation or last_observation. "
        "Default: what was saved with the model, else last_observation.",
    ),
]
WITH_RECIPE: Final = "With a recipe"
WITHOUT_RECIPE: Final = "Without a recipe"
"""Panels of the help of commands that go both ways."""
RUNS: Final = "web_shop, math_tool, tic_tac_toe, connect_four, leduc_poker, bargaining, deal_or_no_deal, smoke"
"""Of ours (a test holds it to the files)."""
A_RECIPE: Final = "a name that `branchwise recipes` lists, or a YAML file"
RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="Environment, goals and budgets, from a run: a name (web_shop), a YAML file, or an ENV."
    ),
]
SeedOption = Annotated[int, typer.Option(min=0, metavar="N", help="The seed of all draws.")]


def output_file(text: str) -> Path:
    """The path of a file that a command writes; a name that ends as a folder's does is none."""
    path = chosen_path(text)
    if text.endswith(("/", os.sep)) or path.is_dir():
        raise typer.BadParameter(f"{text!r} is a folder, where a file is expected; add a name")
    return path


def output_folder(text: str) -> Path:
    """The path of a folder that a command writes."""
    path = chosen_path(text)
    if path.is_file():
        raise typer.BadParameter(f"{text!r} is a file, where a folder is expected; name another")
    return path


def refuse(given: Mapping[str, Any], reason: str) -> None:
    """An option that would have no effect is an error."""
    for option, value in given.items():
        if value is not None:
            raise ValueError(f"{option}: {reason}; leave it out")


def parsed_options(assignments: Sequence[str] | None) -> dict[str, Any]:
    """``key=value`` strings as a dictionary; values are read as YAML.

    >>> parsed_options(["products=100", "observation_mode=compact"])
    {'products': 100, 'observation_mode': 'compact'}
    """
    from ..training.settings import SettingsError, parse_yaml

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
def named_options(env: str, assignments: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    """The options; an environment that has no such option, or cannot take the value, is the user's error, not a bug."""
    import gymnasium as gym

    from ..envs.registry import OptionError

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
    from ..envs.registry import accepted_options

    try:
        defaults = accepted_options(env)
    except ValueError:  # an environment of somebody else's
        return []
    return [
        f"{name}={value!r} is no value of this option; expected one like {defaults[name]!r}, its default"
        for name, value in options.items()
        if isinstance(defaults.get(name), int | float | str | tuple) and type(value) is not type(defaults[name])
    ]


def source_of(
    env: str,
    split: str | None,
    usual_split: str,
    assignments: Sequence[str] | None,
    more: Mapping[str, Any] | None = None,
    usual: Mapping[str, Any] | None = None,
) -> tuple["TaskSource", str, Any]:
    """Where tasks come from, made with the ``usual`` options, over them the assignments and ``more``; the split that is
    meant, and its simulator."""
    from ..envs.play.task import TaskSource
    from ..envs.registry import environment_row

    splits = environment_row(env).splits
    with named_options(env, assignments) as options:
        if "split" in options:
            raise ValueError("--option split=…: this command takes --split")
        if split is not None and not splits:
            raise ValueError(f"--split {split}: {env} has no splits; leave it out")
        source = TaskSource(env, {**(usual or {}), **options, **(more or {})})
        return source, split or usual_split, source.simulator(split or usual_split)


def run_named(name: str, recipe: str | None = None) -> "RunConfig | None":
    """The run of this name or YAML file, with this recipe among its own; None where it is neither, such as the id of an
    environment."""
    ours = Path(__file__).parents[1] / "training" / "recipes" / f"{name}.yaml"
    if Path(name).suffix not in (".yaml", ".yml") and not os.path.isfile(ours):
        return None  # without what a run needs, which takes seconds to import
    from ..training.loop.config import is_run, load_config

    return load_config(name, recipe=recipe or "") if is_run(name) else None


def not_a_run(name: str) -> None:
    """Raises ``ValueError`` for the name of a run where an environment is meant."""
    if (run := run_named(name)) is not None:
        raise ValueError(
            f"{name} is a run, and this command takes an environment: {run.env} (--option KEY=VALUE for its options)"
        )


def options_of_run(run: "RunConfig") -> tuple[str, dict[str, Any]]:
    """The environment of a run, and its options as an agent meets it."""
    from ..training.loop.tasks import source_of

    return run.env, dict(source_of(run).options)


def model_named(
    source: str, history: str | None, dtype: str | None = None, usual: str = "last_observation"
) -> "LanguageModel":
    from ..agents.named import language_model

    return language_model(source, history, note, dtype=dtype, usual=usual)
