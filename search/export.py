"""Our advantages, pairs and episodes as rows that other trainers read: a pure function for each kind of row and format,
and one writer.

==========  ===================================  ==========================================  =========================
rows        ``trl`` (JSONL)                      ``verl`` (parquet)                          ``verifiers`` (JSONL)
==========  ===================================  ==========================================  =========================
advantages  ``prompt, completion, label``: KTO   ``prompt, reward_model, extra_info``: RL    an episode of one step each
pairs       ``prompt, chosen, rejected``: DPO    no trainer of verl reads pairs              pairs are no roll-outs
episodes    ``messages``: SFT                    ``messages``: multi-turn SFT                an episode each
==========  ===================================  ==========================================  =========================

After the loaders of TRL 1.16 (``KTOTrainer``, ``DPOTrainer``, ``SFTTrainer``), verl 0.9.1 (``RLHFDataset``,
``MultiTurnSFTDataset``) and verifiers 0.4.0 (``read_episodes`` of a ``traces.jsonl``). None of them trains on an
advantage from a file: TRL's label is its sign, verl computes its own from rewards, and verifiers keeps them by token.
The number is in a column beside, which a reward function or a trainer of one's own can read.

What this file does not do: token ids. Files of pairs and advantages have none, and those of an episode are the agent's
alone, without what a chat template puts around them; all three trainers tokenize texts.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from ..envs.json_files import json_lines, parse_json
from ..envs.play.episode import Episode
from ..envs.play.transcript import Transcript, messages
from .credit import StepAdvantage
from .extraction import PreferencePair
from .files import atomically, check_file
from .records import (
    advantage_to_json,
    anchors_beside,
    check_roles,
    json_number,
    load_advantages,
    load_episodes,
    load_pairs,
    save_pairs,
    utf8_text,
    write_lines,
)

Kind = Literal["advantages", "pairs", "episodes"]
Format = Literal["trl", "verl", "verifiers"]
Exported = StepAdvantage | PreferencePair | Episode
"""A row of any kind."""
TRACE_VERSION: Final = 1
"""Of the schema of a trace of verifiers."""
_ROWS: Final = 1_000
"""Rows of a parquet file's group: what is in memory twice."""
_FORMAT_KEY: Final = b"format"


# ---- what a file holds ----------------------------------------------------------------------------------------------


def kind_of(path: str | Path) -> Kind:
    """Which of our kinds of rows the file holds, by its first line. Raises ValueError where it is none of them."""
    expected = "expected advantages, pairs or episodes that branchwise wrote (JSONL)"
    check_file(path, expected)
    for where, row in json_lines(path, expected):
        if isinstance(row, dict):
            if "advantage" in row:
                return "advantages"
            if "transcript" in row:
                return "episodes"
            if {"chosen", "completion"} & set(row) and "label" not in row:
                return "pairs"
            found = ", ".join(list(row)[:8]) or "no fields"
            raise ValueError(f"{where}: a row with {found:.200}; {expected}")
        raise ValueError(f"{where}: {type(row).__name__} where an object is expected; {expected}")
    raise ValueError(f"{path}: the file is empty; {expected}")


def load_rows(path: str | Path, kind: Kind) -> Sequence[Exported]:
    """The rows of a file of this kind; of pairs also those without a rejected side beside them."""
    readers: dict[Kind, Callable[[str | Path], Sequence[Exported]]] = {
        "advantages": load_advantages,
        "pairs": load_pairs,
        "episodes": load_episodes,
    }
    return readers[kind](path)


# ---- TRL ------------------------------------------------------------------------------------------------------------


def trl_labelled(row: StepAdvantage) -> dict[str, Any]:
    """TRL's unpaired preference (KTO): the action is desirable (``label``) where its advantage is positive. Our fields
    are beside it, so that :func:`~branchwise.search.records.load_advantages` reads the file as well."""
    fields = advantage_to_json(row)
    first = {"prompt": fields["prompt"], "completion": fields["completion"], "label": row.advantage > 0}
    return {**first, **fields}


def trl_conversation(episode: Episode) -> dict[str, Any]:
    """TRL's conversational language modelling (SFT): all turns as ``messages``."""
    return {"messages": _said(episode.transcript), **_about(episode)}


# ---- verl -----------------------------------------------------------------------------------------------------------


def verl_prompt(row: StepAdvantage, index: int) -> dict[str, Any]:
    """A row of verl's RL data set, the ``index``-th of its file: the state as ``prompt``. ``ground_truth``, which verl
    gives to its reward function together with ``extra_info``, is the action that was taken, whatever its advantage."""
    fields = advantage_to_json(row)
    prompt, (answer,) = fields.pop("prompt"), fields.pop("completion")
    return {
        "data_source": row.env_id or "branchwise",
        "prompt": prompt,
        "ability": "agent",
        "reward_model": {"style": "rule", "ground_truth": answer["content"]},
        "extra_info": {"index": index, "action": answer["content"], **fields},
    }


def verl_conversation(episode: Episode) -> dict[str, Any]:
    """A row of verl's multi-turn SFT data set, which learns every message of the assistant."""
    return {"messages": _said(episode.transcript), **_about(episode)}


_MESSAGES: Final = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_PROMPTS: Final = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", _MESSAGES),
        ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        (
            "extra_info",
            pa.struct(
                [
                    ("index", pa.int64()),
                    ("action", pa.string()),
                    *((name, pa.float64()) for name in ("advantage", "q", "baseline")),
                    ("visits", pa.int64()),
                    ("logp", pa.float64()),
                    ("logged", pa.bool_()),
                    *((name, pa.string()) for name in ("env_id", "kind")),
                    *((name, pa.int64()) for name in ("tree", "node", "depth", "round")),
                    ("task", pa.string()),
                ]
            ),
        ),
    ],
    metadata={_FORMAT_KEY: b"branchwise verl advantages 1"},
)
_CONVERSATIONS: Final = pa.schema(
    [
        ("messages", _MESSAGES),
        ("success", pa.bool_()),
        ("reward", pa.float64()),
        ("steps", pa.int64()),
        ("invalid_actions", pa.int64()),
        ("truncated", pa.bool_()),
        ("env_id", pa.string()),
        ("task", pa.string()),
    ],
    metadata={_FORMAT_KEY: b"branchwise verl episodes 1"},
)


# ---- verifiers ------------------------------------------------------------------------------------------------------


def verifiers_step(row: StepAdvantage, index: int) -> dict[str, Any]:
    """An episode of one step, the ``index``-th of its file: the action alone is ``sampled``, its reward is ``q``, and
    advantage and baseline are metrics. Rows of one state are a group."""
    check_roles(row.action)
    state = [row.env_id, row.task, _said(row.prompt)]
    numbers = {name: float(getattr(row, name)) for name in ("advantage", "baseline", "visits", "depth")}
    about = {name: getattr(row, name) for name in ("kind", "tree", "node", "round")}
    if row.logp is not None:
        about["logp"] = float(row.logp)
    return _episode(
        kind="advantages",
        index=index,
        env_id=row.env_id,
        task=row.task,
        prompt=row.prompt,
        turns=(*row.prompt, *row.action),
        sampled=[False] * len(row.prompt) + [True],
        group=state,
        rewards={"q": row.q},
        metrics=numbers,
        info=about,
        truncated=False,
    )


def verifiers_episode(episode: Episode, index: int) -> dict[str, Any]:
    """An episode, the ``index``-th of its file; its turns are one branch, the agent's ``sampled``. Episodes of one task
    are a group."""
    turns = episode.transcript
    numbers = {name: float(getattr(episode, name)) for name in ("success", "steps", "invalid_actions", "model_calls")}
    begins = next((place for place, turn in enumerate(turns) if turn.is_agent), len(turns))
    return _episode(
        kind="episodes",
        index=index,
        env_id=str(episode.task.get("env_id", "")),
        task=episode.task,
        prompt=turns[:begins],
        turns=turns,
        sampled=[turn.is_agent for turn in turns],
        group=[episode.task],
        rewards={"reward": episode.total_reward},
        metrics={**episode.figures, **numbers},
        info={"rewards": list(episode.rewards)},
        truncated=episode.truncated,
    )


def _episode(
    *,
    kind: Kind,
    index: int,
    env_id: str,
    task: dict[str, Any],
    prompt: Transcript,
    turns: Transcript,
    sampled: Sequence[bool],
    group: Any,
    rewards: dict[str, float],
    metrics: dict[str, float],
    info: dict[str, Any],
    truncated: bool,
) -> dict[str, Any]:
    """verifiers' ``Episode`` of one ``Trace``. Times, which nobody measured, are 0; ids are hashes, so that the same
    rows give the same file."""
    said = _said(turns)
    own = _hash([kind, index, said, task])
    about = {"type": "Task", "data": {"name": env_id, "prompt": _said(prompt), "branchwise": task}}
    nodes = [
        {"parent": place - 1 if place else None, "message": message, "sampled": is_sampled, "timestamp": 0.0}
        for place, (message, is_sampled) in enumerate(zip(said, sampled, strict=True))
    ]
    trace = {
        "version": TRACE_VERSION,
        "id": own,
        "verifiers": {"version": "branchwise"},
        "task": about,
        "agent": {"config": {}, "name": "agent"},
        "nodes": nodes,
        "rewards": {name: {"score": float(score), "weight": 1.0} for name, score in rewards.items()},
        "metrics": metrics,
        "info": info,
        "is_completed": True,
        "ok": True,
        "stop_condition": "max_turns" if truncated else "agent_completed",
        "timing": {"start": 0.0},
    }
    return {
        "id": own,
        "env": {"id": env_id, "name": f"branchwise {kind}"},
        "task": about,
        "group": {"id": _hash(group)},
        "ok": True,
        "traces": [trace],
    }


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=json_number)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


# ---- what several have ----------------------------------------------------------------------------------------------


def _said(turns: Transcript) -> list[dict[str, str]]:
    check_roles(turns)
    return messages(turns)


def _about(episode: Episode) -> dict[str, Any]:
    return {
        "success": episode.success,
        "reward": episode.total_reward,
        "steps": episode.steps,
        "invalid_actions": episode.invalid_actions,
        "truncated": episode.truncated,
        "env_id": str(episode.task.get("env_id", "")),
        "task": json.dumps(episode.task, default=json_number),
    }


# ---- files ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Way:
    """How a kind of rows is written: ``convert`` makes the ``index``-th row, of parquet with ``schema``; ``trainer`` is
    who reads the file."""

    trainer: str
    convert: Callable[[Any, int], dict[str, Any]]
    schema: pa.Schema | None = None


_WAYS: Final[dict[tuple[str, str], _Way]] = {
    ("trl", "advantages"): _Way("TRL's KTOTrainer", lambda row, _: trl_labelled(row)),
    ("trl", "episodes"): _Way("TRL's SFTTrainer", lambda row, _: trl_conversation(row)),
    ("verl", "advantages"): _Way("verl's RL trainers (RLHFDataset)", verl_prompt, _PROMPTS),
    ("verl", "episodes"): _Way("verl's SFT trainer", lambda row, _: verl_conversation(row), _CONVERSATIONS),
    ("verifiers", "advantages"): _Way("verifiers (traces.jsonl)", verifiers_step),
    ("verifiers", "episodes"): _Way("verifiers (traces.jsonl)", verifiers_episode),
}
_PAIRS_BY: Final = "TRL's DPOTrainer"


def read_by(kind: Kind, to: Format) -> str:
    """Who reads such rows. Raises ValueError where nobody of this format does, with the kinds that it takes."""
    if (to, kind) == ("trl", "pairs"):
        return _PAIRS_BY
    if (to, kind) not in _WAYS:
        taken = " and ".join(other for name, other in _WAYS if name == to)
        raise ValueError(f"these rows are {kind}, and the format {to} takes {taken}; pairs are for the format trl")
    return _WAYS[to, kind].trainer


def check_export(out: str | Path, kind: Kind, to: Format) -> None:
    """Raises ValueError where such rows cannot be written in this format, or where ``out`` (of pairs also the file of
    anchors beside it) exists and is something else than an earlier export of the same kind."""
    read_by(kind, to)
    out = Path(out)
    if to == "verl" and out.suffix != ".parquet":
        raise ValueError(f"{out}: verl reads parquet by its ending; name it {out.stem or 'rows'}.parquet")
    for file in (out, anchors_beside(out)) if kind == "pairs" else (out,):
        if file.is_file() and file.stat().st_size and not _is_earlier(file, kind, to):
            raise ValueError(
                f"{file} exists and is no export of {kind} for {to}; it is not overwritten: name another, or remove it"
            )


def export(out: str | Path, rows: Sequence[Exported], kind: Kind, to: Format) -> None:
    """Write rows of ``kind`` (:class:`StepAdvantage`, :class:`PreferencePair` or :class:`Episode`) for trainers of the
    format ``to``, the file whole or not at all. Lone surrogates become U+FFFD. Raises ValueError for no rows, for what
    :func:`check_export` refuses, and for a turn whose role does not say whose it is."""
    if not rows:
        raise ValueError(f"{out}: no {kind} to export; a file needs at least one")
    check_export(out, kind, to)
    if (to, kind) == ("trl", "pairs"):
        save_pairs(out, [row for row in rows if isinstance(row, PreferencePair)])
        return
    way = _WAYS[to, kind]
    found = (way.convert(row, index) for index, row in enumerate(rows))
    if way.schema is None:
        write_lines(out, found)
        return
    with (
        atomically(out) as temporary,
        open(temporary, "wb") as file,  # opened here: pyarrow takes a name with a colon for a URI
        pq.ParquetWriter(file, way.schema, compression="zstd") as writer,
    ):
        for group in _groups(found):
            writer.write_table(pa.Table.from_pylist(group, schema=way.schema))


def _groups(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    for row in rows:
        group.append(_in_utf8(row))
        if len(group) == _ROWS:
            yield group
            group = []
    if group:
        yield group


def _in_utf8(value: Any) -> Any:
    if isinstance(value, str):
        return utf8_text(value)
    if isinstance(value, dict):
        return {name: _in_utf8(item) for name, item in value.items()}
    return [_in_utf8(item) for item in value] if isinstance(value, list) else value


def _is_earlier(path: Path, kind: Kind, to: Format) -> bool:
    """Whether a file that exists was written by :func:`export` from rows of the same kind."""
    if to == "verl":
        way = _WAYS[to, kind]
        try:
            with open(path, "rb") as file:
                found = pq.read_schema(file).metadata or {}
        except (pa.ArrowException, OSError):
            return False
        return way.schema is not None and found.get(_FORMAT_KEY) == way.schema.metadata[_FORMAT_KEY]
    with open(path, "rb") as file:
        line = file.readline()
    try:
        row = parse_json(line, str(path), "")
    except ValueError:
        return False
    if not isinstance(row, dict):
        return False
    if to == "verifiers":
        env = row.get("env")
        return "traces" in row and isinstance(env, dict) and env.get("name") == f"branchwise {kind}"
    if kind == "pairs":
        return bool({"chosen", "completion"} & set(row)) and "advantage" not in row and "label" not in row
    return {"advantages": {"advantage", "label"}, "episodes": {"messages", "success", "env_id"}}[kind] <= set(row)
