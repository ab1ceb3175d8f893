"""The command ``branchwise``: each floor's work from a shell, thin. It parses, calls a floor below, and prints.

A room for each kind of work: ``playing.py``, ``searching.py``, ``auditing.py``, ``exporting.py``, ``training.py``;
``options.py`` and ``printing.py`` are what they share. Results go to the standard output, progress and errors to the
standard error. Exit codes: 2 invalid input, 1 failed run, 130 interrupted
(:func:`~branchwise.cli.printing.reported`). Heavy imports are inside the functions, so that ``--help`` answers at once.
"""

import inspect
import os
import re
import sys
from typing import Annotated

import typer

from . import auditing, exporting, playing, searching, training
from .options import parsed_options as parsed_options
from .printing import STOPPED as STOPPED
from .printing import exit_code as exit_code

app = typer.Typer(
    name="branchwise",
    help="Environments, tree search and step-level preference learning for LLM agents.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"branchwise {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


for command in (  # in the order of ``branchwise --help``
    playing.envs,
    playing.play,
    searching.search,
    training.collect,
    searching.pairs,
    auditing.audit,
    exporting.export,
    training.train,
    playing.bench,
    training.recipes,
    training.loop,
):
    unwrapped = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.getdoc(command) or "")  # the terminal wraps, not the docstring
    app.command(help=unwrapped.replace("[", r"\["))(command)  # a bracket is no markup


def main() -> None:
    """The entry point."""
    for stream, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, stream) is None:  # closed by the shell, as by >&-
            setattr(sys, stream, open(os.devnull, mode))  # noqa: SIM115 (until the process ends)
    for text in (sys.stdin, sys.stdout):  # a sign that an encoding lacks costs that sign alone
        text.reconfigure(errors="replace")  # type: ignore[union-attr]
    app(prog_name="branchwise")
