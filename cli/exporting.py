"""The command ``export``: rows of ours as files that other trainers read."""

import enum
from pathlib import Path
from typing import Annotated

import typer

from ..search.files import chosen_path
from .options import output_file, refuse
from .printing import note, reported, show


class Format(enum.StrEnum):
    """Whose rows are written."""

    TRL = "trl"
    VERL = "verl"
    VERIFIERS = "verifiers"


@reported
def export(
    rows: Annotated[
        Path,
        typer.Argument(
            metavar="ROWS",
            help="A file of advantages, pairs or episodes (JSONL) that `branchwise pairs`, `collect`, `bench` or a run "
            "wrote.",
            parser=chosen_path,
        ),
    ],
    to: Annotated[
        Format,
        typer.Option(
            "--format",
            help="trl: advantages as labelled answers for KTO, pairs for DPO, episodes for SFT. verl: advantages as "
            "prompts for RL, episodes for SFT. verifiers: advantages and episodes as a run's traces.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="Output file: JSONL; for verl parquet. verifiers reads a folder's traces.jsonl.",
            parser=output_file,
            metavar="FILE",
        ),
    ],
    successful: Annotated[
        bool,
        typer.Option("--successful", metavar="", help="Of episodes, export those alone that succeeded. Default: all."),
    ] = False,
) -> None:
    """Export rows with advantages, pairs or episodes for other trainers: TRL, verl, verifiers.

    No trainer of theirs reads an advantage: TRL's KTO learns from its sign, and verl computes advantages from rewards.
    The numbers are in columns beside (docs/files.md).

    Example: branchwise export advantages.jsonl --format trl --out labels.jsonl

    Example: branchwise export episodes.jsonl --format verl --successful --out episodes.parquet
    """
    from ..envs.play.episode import Episode
    from ..search.credit import StepAdvantage
    from ..search.export import check_export, kind_of, load_rows, read_by
    from ..search.export import export as export_rows
    from ..search.extraction import PreferencePair
    from ..search.files import check_output
    from ..search.records import anchors_beside

    kind = kind_of(rows)
    try:
        reader = read_by(kind, to.value)
    except ValueError as error:
        raise ValueError(f"{rows}: {error}") from None
    if kind != "episodes":
        refuse({"--successful": successful or None}, f"{rows} holds {kind}, and only an episode succeeds")
    for written in (out, anchors_beside(out)) if kind == "pairs" else (out,):
        check_output(written, rows, anchors_beside(rows))
    check_export(out, kind, to.value)
    found = load_rows(rows, kind)
    if idle := sum(isinstance(row, StepAdvantage) and row.advantage == 0 for row in found):
        found = [row for row in found if not (isinstance(row, StepAdvantage) and row.advantage == 0)]
        if not found:
            raise ValueError(f"{rows}: nothing to export, since all {idle} advantages are 0")
        note(f"note: {idle} rows with advantage 0 are left out: they are neither better nor worse")
    episodes = [row for row in found if isinstance(row, Episode)]
    if episodes:
        acted = [row for row in episodes if any(turn.is_agent for turn in row.transcript)]
        kept = [row for row in acted if row.success or not successful]
        if not kept:
            why = "no episode succeeded" if acted else "the agent acts in none of its episodes"
            raise ValueError(f"{rows}: nothing to export, since {why}")
        found = kept
        won = sum(row.success for row in kept)
        if won < len(kept) and to is not Format.VERIFIERS:
            failed = len(kept) - won
            note(f"note: {failed} of the {len(kept)} episodes failed, and SFT learns them too; --successful drops them")
    export_rows(out, found, kind, to.value)
    alone = [row for row in found if isinstance(row, PreferencePair) and not row.rejected]
    if len(alone) == len(found):
        show(f"{out}: {len(alone):,} rows without a rejected side, for TRL's SFTTrainer")
        return
    told = f"{out}: {len(found) - len(alone):,} {kind} for {reader}"
    if labels := [row.advantage > 0 for row in found if isinstance(row, StepAdvantage)]:
        told += f"; {sum(labels):,} better than the policy's average, {len(labels) - sum(labels):,} worse"
        if to is Format.TRL and sum(labels) in (0, len(labels)):
            note("note: all labels are the same, and KTO learns from both")
    show(told)
    if alone:
        show(f"{anchors_beside(out)}: {len(alone):,} rows without a rejected side, for TRL's SFTTrainer")
    if episodes and (lost := len(episodes) - len(acted)):
        show(f"left out: {lost} without an action")
    if episodes and (lost := len(acted) - len(found)):
        show(f"left out: {lost} that failed")
