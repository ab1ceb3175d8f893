"""The credit benchmark of ``branchwise bench credit``: its options, its progress, its tables."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from .options import parsed_options
from .printing import bar, console, note, print_json, show

if TYPE_CHECKING:
    from ..training.credit.summary import Table


def bench_credit(option: Sequence[str] | None, seed: int, out: Path | None, as_json: bool = False) -> None:
    """Run the benchmark, or what ``out`` lacks of it, and print its tables. ``option``: ``KEY=VALUE`` of its
    settings."""
    from ..search.files import make_folder
    from ..search.locks import only_writer
    from ..training.credit.run import LOG, Settings, run, save_tables
    from ..training.credit.summary import cell_table, decision_tree, markdown, method_table, shared

    options = parsed_options(option)
    known = [entry.name for entry in fields(Settings) if entry.name != "first_seed"]
    if unknown := [name for name in options if name not in known]:
        raise ValueError(f"--option {unknown[0]}: the credit benchmark has {', '.join(known)}")
    settings = Settings(**options, first_seed=seed)
    total = len(settings.work())
    if out:
        if out.exists() and not (out / LOG).exists() and any(not path.name.startswith(".") for path in out.iterdir()):
            raise ValueError(f"{out} holds something else than this benchmark; name another --out")
        make_folder(out)
    with only_writer(out) if out else nullcontext():
        try:
            with bar("credit", total) as moved:
                results = run(settings, out, moved)
        except KeyboardInterrupt:
            show(f"credit: {'the same command resumes' if out else 'give --out FOLDER to resume'}", err=True)
            raise
        if out:
            save_tables(out, markdown(results, " ".join(["branchwise bench credit", *_said(option, seed)])))
    if as_json:
        print_json([asdict(result) for result in results])
        return
    _print_table(method_table(shared(results)))
    show(
        "level: cells in which it is not below the best; sign, tied: shares of labels in %; labels/k: labels a 1,000 "
        "samples; CPU s: a cell and seed"
    )
    _print_table(cell_table(shared(results)))
    show("h: points; n: samples a point; b: actions; level: methods not below the best")
    if judged := decision_tree(results):
        for line in judged[0]:
            show(line)
        _print_table(judged[1])
        show("level: cells where the named method is not below the best; loss, gain: points")
    if out:
        note(f"{out}: all lines and tables")


def _said(option: Sequence[str] | None, seed: int) -> list[str]:
    """The options of the command, as they were given."""
    return [*(f"--option {each}" for each in option or ()), *([f"--seed {seed}"] if seed else [])]


def _print_table(table: "Table") -> None:
    from rich.table import Table as RichTable
    from rich.text import Text

    titles, rows = table
    drawn = RichTable(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for title, cell in zip(titles, rows[0], strict=True):
        drawn.add_column(title, justify="left" if cell.replace("_", "").isalpha() else "right", no_wrap=True)
    for row in rows:
        drawn.add_row(*map(Text, row))  # brackets are no markup
    console().print(drawn)
