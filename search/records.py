"""Pairs, advantages, episodes and demonstrations as JSONL, a line each, and back.

- Pairs: ``prompt``, ``chosen`` and ``rejected`` are lists of ``{"role", "content"}``, the conversational columns with
  explicit prompt that TRL's preference trainers take, with the fields of :class:`PreferencePair` beside them. Rows
  without a rejected side (anchors) are no preference; they have a file of their own, :func:`anchors_beside` the pairs,
  with ``prompt`` and ``completion``, as TRL's supervised trainer takes them. ``task`` and ``moves`` are JSON in a
  string, so that tasks of different shape load as one column. No value is null: a log-probability that was not logged
  is 0.0 with ``ref_chosen_logged`` (``ref_rejected_logged``) false. Token ids of turns are not kept. Read are also
  pairs that others wrote for TRL: texts in place of messages, and none of our fields.
- Advantages: ``prompt`` and ``completion`` as anchors have them, with the fields of :class:`StepAdvantage`; a
  log-probability that was not logged is 0.0 with ``logged`` false.
- Episodes: turns with all that was logged.
- Demonstrations are only read: episodes, or conversations as ``messages``.

Every file is written under a temporary name in its own folder, flushed to disk and renamed, so a file that stands is
whole. Errors are ValueError and name file and line, what was expected, and the cure. Lone surrogates, which UTF-8
cannot hold, become U+FFFD. Not here: trees (``store.py``), compression, appending, remote file systems.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from ..envs.checked import LARGEST
from ..envs.json_files import json_lines, parse_json
from ..envs.play.episode import Episode
from ..envs.play.transcript import ROLES, Transcript, Turn, acted, messages
from .calls import ROUNDING
from .credit import StepAdvantage
from .extraction import PreferencePair
from .files import atomically, check_file

LONGEST_LINE: Final = 2**26
"""Bytes of a line of a file of demonstrations."""
_SHOWN: Final = "an episode of save_episodes, or an object with messages (role and content), the agent's as assistant"

Row = TypeVar("Row")


# ---- pairs ------------------------------------------------------------------------------------------------------

_SIDES: Final = ("chosen", "rejected")
_NUMBERS: Final = ("weight", "margin", "label_smoothing")
_PLACES: Final = ("tree", "node", "depth", "round")
_WORDS: Final = ("env_id", "kind")
_KINDS: Final = {int: "a whole number", str: "a text", bool: "true or false"}


def anchors_beside(path: str | Path) -> Path:
    """Where the rows without a rejected side of the pair file ``path`` are: ``pairs.anchors.jsonl`` beside
    ``pairs.jsonl``."""
    path = Path(path)
    return path.with_name(f"{path.stem}.anchors{path.suffix}")


def save_pairs(path: str | Path, pairs: Sequence[PreferencePair]) -> None:
    """Write pairs as JSONL, and those without a rejected side to :func:`anchors_beside`; where there are no others
    (steps for supervised training), to ``path`` itself. Raises ValueError for no pairs, and for turns whose role does
    not say whose they are, or where one of the two files exists and holds other things."""
    if not pairs:
        raise ValueError(f"{path}: no pairs to save; lower the threshold, or search more")
    check_replaceable(path)
    beside = anchors_beside(path)
    contrasts = [_pair_to_json(pair) for pair in pairs if pair.rejected]
    anchors = [_pair_to_json(pair) for pair in pairs if not pair.rejected]
    if contrasts and anchors:
        write_lines(beside, anchors)
    else:
        beside.unlink(missing_ok=True)
    write_lines(path, contrasts or anchors)


def check_replaceable(path: str | Path) -> None:
    """Raises ValueError where a file that :func:`save_pairs` would replace or remove exists, and holds no pairs."""
    for file in (Path(path), anchors_beside(path)):
        if not file.is_file() or not file.stat().st_size:
            continue
        with open(file, "rb") as opened:
            line = opened.readline()
        if not _is_pair(line):
            raise ValueError(
                f"{file} exists and holds no pairs that branchwise wrote; it is not overwritten: name another, or "
                "remove it"
            )


def _is_pair(line: bytes) -> bool:
    """Whether a line is one that :func:`save_pairs` writes."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and "prompt" in row and "chosen_q" in row and not {"advantage", "label"} & row.keys()


def load_pairs(path: str | Path) -> list[PreferencePair]:
    """Read the pairs of ``path``, and those that :func:`save_pairs` wrote beside it: ours, or rows of TRL's preference
    columns (``prompt``, ``chosen``, ``rejected``) or supervised columns (``prompt``, ``completion``), conversational or
    plain texts, of which a prompt is one user message and an answer one of the assistant. Without a ``prompt`` the
    messages that both sides begin with are it, without the last of the shorter side. Raises ValueError naming file and
    line."""
    rows = _read_lines(path, _pair_from_json, "a pair: prompt, chosen and rejected, as messages or texts")
    beside = anchors_beside(path)
    if beside.is_file():
        rows += _read_lines(beside, _pair_from_json, "a row with prompt and completion, as messages or texts")
    return rows


def _pair_to_json(pair: PreferencePair) -> dict[str, Any]:
    check_roles((*pair.chosen, *pair.rejected))
    row: dict[str, Any] = {"prompt": messages(pair.prompt)}
    sides = _SIDES if pair.rejected else _SIDES[:1]
    if pair.rejected:
        row |= {"chosen": messages(pair.chosen), "rejected": messages(pair.rejected)}
    else:
        row["completion"] = messages(pair.chosen)
    for side in sides:
        logp = _as_logged(getattr(pair, f"ref_{side}_logp"))
        row |= {
            f"{side}_q": float(getattr(pair, f"{side}_q")),
            f"{side}_visits": getattr(pair, f"{side}_visits"),
            f"ref_{side}_logp": float(logp or 0.0),
            f"ref_{side}_logged": logp is not None,
        }
    row |= {name: float(getattr(pair, name)) for name in (_NUMBERS if pair.rejected else _NUMBERS[:1])}
    row |= {name: getattr(pair, name) for name in (*_WORDS, *_PLACES)}
    return {**row, "task": json.dumps(pair.task, default=json_number), "moves": json.dumps(pair.moves)}


def _pair_from_json(row: dict[str, Any]) -> PreferencePair:
    if "label" in row:
        raise ValueError("a row with 'label' is for training without pairs (KTO), which reads no such file")
    if "advantage" in row:
        raise ValueError("a row with 'advantage' is no pair: train on such a file with a recipe that takes advantages")
    alone, anchor = "completion" in row, _typed(row, "anchor", bool, False)
    if alone and (both := [side for side in _SIDES if side in row]):
        raise ValueError(f"a row with 'completion' and {both[0]!r}: give chosen and rejected, or completion alone")
    if anchor and any(turn.text for turn in _turns(row.get("rejected", []), "assistant")):
        raise ValueError("a row with 'anchor' true and a rejected side; leave one of them out")
    answers = [_turns(row["completion" if alone else "chosen"], "assistant")]
    if not alone and not anchor:
        answers.append(_turns(row["rejected"], "assistant"))
    if "prompt" in row:
        prompt = _turns(row["prompt"], "user")
    else:
        if len(answers) < 2:
            raise KeyError("prompt")
        if answers[0] == answers[1]:
            raise ValueError("a row without 'prompt' whose sides are the same, so that neither is better")
        ends = min(map(len, answers)) - 1  # the last message of a side is its answer
        pairs = zip(answers[0][:ends], answers[1], strict=False)
        shared = sum(takewhile(bool, (int(one == other) for one, other in pairs)))
        if not shared:
            raise KeyError("prompt")
        prompt, answers = answers[0][:shared], [turns[shared:] for turns in answers]
    for turns in answers:
        if not any(turn.is_agent for turn in turns):
            raise ValueError("a side without a message of the assistant")
    values: dict[str, Any] = {}
    for side in _SIDES:
        logged = _typed(row, f"ref_{side}_logged", bool, False) and side in _SIDES[: len(answers)]
        values[f"ref_{side}_logp"] = _logp(row, f"ref_{side}_logp") if logged else None
        values[f"{side}_q"] = _finite(row, f"{side}_q", 0.0)
        visits = values[f"{side}_visits"] = _typed(row, f"{side}_visits", int, 0)
        if visits < 0:
            raise ValueError(f"{side}_visits={visits}; expected a whole number from 0 on")
    values |= {name: _finite(row, name, 1.0 if name == "weight" else 0.0, LARGEST) for name in _NUMBERS}
    values |= {name: _typed(row, name, int, 0) for name in _PLACES}
    values |= {name: _typed(row, name, str, "") for name in _WORDS}
    moves = row.get("moves", "[]")
    moves = parse_json(moves, "moves", "expected a list of texts") if isinstance(moves, str) else moves
    if not isinstance(moves, list) or not all(isinstance(move, str) for move in moves):
        raise ValueError(f"moves={moves!r:.40}; expected a list of texts")
    return PreferencePair(
        moves=tuple(moves),
        prompt=prompt,
        chosen=answers[0],
        rejected=answers[1] if len(answers) > 1 else (),
        task=_task(row),
        **values,
    )


def check_roles(turns: Iterable[Turn]) -> None:
    """Raises ValueError for a turn whose role does not say whose it is."""
    for turn in turns:
        if turn.is_agent != (turn.role == "assistant"):
            raise ValueError(
                f"a turn with role {turn.role!r} and is_agent={turn.is_agent}; the file keeps only the role"
            )


def _as_logged(logp: float | None) -> float | None:
    """None also where a policy gave a score up to a constant, as functions may: no log-probability is above 0."""
    return None if logp is None or logp > ROUNDING else logp


def _task(row: dict[str, Any]) -> dict[str, Any]:
    task = row.get("task", "{}")
    task = parse_json(task, "task", "expected an object") if isinstance(task, str) else {}
    if not isinstance(task, dict):
        raise ValueError(f"task={task!r:.40}; expected an object, as JSON in a text")
    return task


def _turns(said: Any, role: str) -> Transcript:
    """Messages, or one text of ``role``."""
    if isinstance(said, str):
        said = [{"role": role, "content": said}]
    if not isinstance(said, list):
        raise ValueError(f"{said!r:.60}; expected a text, or a list of messages")
    turns = []
    for message in said:
        role, text = message["role"], message["content"]
        if role not in ROLES or not isinstance(text, str):
            raise ValueError(
                f"a message with role {role!r:.40} and content {text!r:.40}; expected a text of one of"
                f" {', '.join(ROLES)}"
            )
        turns.append(acted(text) if role == "assistant" else Turn(role, text))  # type: ignore[arg-type]
    return tuple(turns)


def _typed(row: dict[str, Any], name: str, kind: type, usual: Any) -> Any:
    value = row.get(name, usual)
    if type(value) is not kind:
        raise ValueError(f"{name}={value!r:.40}; expected {_KINDS[kind]}")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{name}={value!r:.40}; expected a whole number of 64 bits")
    return value


def _finite(row: dict[str, Any], name: str, usual: Any, largest: float = math.inf) -> float:
    """The number ``name`` of ``row``, of a size up to ``largest``."""
    value = row.get(name, usual)
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:  # a whole number of more than 308 digits
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name}={value!r:.40}; expected a finite number")
    if abs(number) > largest:
        raise ValueError(f"{name}={number:g}; expected a number that 32 bits hold, of at most {largest:.3g}")
    return number


def _logp(row: dict[str, Any], name: str) -> float:
    """A log-probability: at most 0, but for rounding."""
    number = _finite(row, name, None, LARGEST)
    if number > ROUNDING:
        raise ValueError(f"{name}={number!r}; expected a log-probability, which is at most 0")
    return number


# ---- advantages -------------------------------------------------------------------------------------------------


def save_advantages(path: str | Path, rows: Sequence[StepAdvantage]) -> None:
    """Write advantages as JSONL. Raises ValueError for no rows, and for an action whose role does not say whose it
    is."""
    if not rows:
        raise ValueError(f"{path}: no advantages to save; search more, or play more episodes of each task")
    write_lines(path, map(advantage_to_json, rows))


def load_advantages(path: str | Path) -> list[StepAdvantage]:
    """Read advantages that :func:`save_advantages` wrote. Of others ``prompt``, ``completion`` (messages or texts) and
    ``advantage`` are needed. Raises ValueError naming file and line."""
    return _read_lines(path, _advantage_from_json, "an advantage: prompt, completion and advantage")


def advantage_to_json(row: StepAdvantage) -> dict[str, Any]:
    """The line of an advantage, as an object."""
    check_roles(row.action)
    logp = _as_logged(row.logp)
    return {
        "prompt": messages(row.prompt),
        "completion": messages(row.action),
        **{name: float(getattr(row, name)) for name in ("advantage", "q", "baseline")},
        "visits": row.visits,
        "logp": float(logp or 0.0),
        "logged": logp is not None,
        **{name: getattr(row, name) for name in (*_WORDS, *_PLACES)},
        "task": json.dumps(row.task, default=json_number),
    }


def _advantage_from_json(row: dict[str, Any]) -> StepAdvantage:
    action = _turns(row["completion"], "assistant")
    if len(action) != 1 or not action[0].is_agent:
        raise ValueError(f"a completion of {len(action)} messages; expected one, of the assistant")
    return StepAdvantage(
        prompt=_turns(row["prompt"], "user"),
        action=action,
        advantage=_finite(row, "advantage", row["advantage"], LARGEST),
        logp=_logp(row, "logp") if _typed(row, "logged", bool, False) else None,
        q=_finite(row, "q", 0.0),
        baseline=_finite(row, "baseline", 0.0),
        visits=_typed(row, "visits", int, 0),
        task=_task(row),
        **{name: _typed(row, name, int, 0) for name in _PLACES},
        **{name: _typed(row, name, str, "") for name in _WORDS},
    )


# ---- episodes ---------------------------------------------------------------------------------------------------


def save_episodes(path: str | Path, episodes: Sequence[Episode]) -> None:
    """Write episodes as JSONL. Raises ValueError for no episodes."""
    if not episodes:
        raise ValueError(f"{path}: no episodes to save; a file needs at least one")
    write_lines(path, map(_episode_to_json, episodes))


def episode_line(episode: Episode, **more: Any) -> bytes:
    """One line of an episode file, with ``more`` fields of the caller's, which :func:`load_episodes` passes over."""
    return _line({**_episode_to_json(episode), **more})


def load_episodes(path: str | Path) -> list[Episode]:
    """Read episodes that :func:`save_episodes` wrote. Raises ValueError naming file and line."""
    return _read_lines(path, episode_from_json, "an episode written by save_episodes")


def _episode_to_json(episode: Episode) -> dict[str, Any]:
    return {
        **{entry.name: getattr(episode, entry.name) for entry in fields(Episode)},
        "transcript": [turn_to_json(turn) for turn in episode.transcript],
    }


def episode_from_json(row: dict[str, Any]) -> Episode:
    """The episode that one line of an episode file holds."""
    values = {entry.name: row[entry.name] for entry in fields(Episode) if entry.name != "figures"}
    figures = row.get("figures", {})
    if not isinstance(figures, dict):
        raise ValueError(f"figures={figures!r:.40}; expected numbers by name")
    values["figures"] = {name: _finite(figures, name, None, LARGEST) for name in figures}
    values["transcript"] = tuple(turn_from_json(turn) for turn in row["transcript"])
    rewards = row["rewards"]
    if not isinstance(rewards, list):
        raise ValueError(f"rewards={rewards!r:.40}; expected a list of numbers")
    values["rewards"] = tuple(_finite({"reward": reward}, "reward", None, LARGEST) for reward in rewards)
    for name, kind in (("task", dict), ("success", bool), ("truncated", bool)):
        if not isinstance(values[name], kind):
            raise ValueError(f"{name}={values[name]!r:.40}; expected {kind.__name__}")
    for name in ("steps", "invalid_actions", "model_calls"):
        if type(values[name]) is not int or not 0 <= values[name] < 2**63:
            raise ValueError(f"{name}={values[name]!r:.40}; expected int, of at least 0")
    if len(rewards) != values["steps"] or values["invalid_actions"] > values["steps"]:
        raise ValueError(
            f"{len(rewards)} rewards and {values['invalid_actions']} invalid actions in {values['steps']} steps; "
            "expected a reward a step"
        )
    return Episode(**values)


# ---- demonstrations ---------------------------------------------------------------------------------------------


def load_demonstrations(path: str | Path) -> list[Transcript]:
    """What was seen and done, a transcript for each line in which an agent acts: episodes of :func:`save_episodes`, or
    conversations, ``{"messages": [{"role", "content"}, …]}``, in which the assistant is the agent; further columns are
    ignored. Raises ValueError naming file and line, and where no line has an agent that acts."""
    read = _read_lines(path, _demonstration, _SHOWN, strict=True)
    found = [turns for turns in read if any(turn.is_agent for turn in turns)]
    if not found:
        raise ValueError(f"{path}: nobody acts in any of its {len(read)} lines; expected {_SHOWN}")
    return found


def _demonstration(row: dict[str, Any]) -> Transcript:
    if "transcript" in row and "messages" in row:
        raise ValueError("a row with 'transcript' and 'messages'; leave one of them out")
    if "transcript" in row:
        turns = episode_from_json(row).transcript
    elif not isinstance(row["messages"], list):
        raise ValueError(f"messages={row['messages']!r:.60}; expected a list of messages")
    else:
        turns = _turns(row["messages"], "user")
    if turns and turns[0].is_agent:
        raise ValueError("the agent acts before anything was shown; begin with what it sees")
    return tuple(replace(turn, text=utf8_text(turn.text)) for turn in turns)


# ---- lines and turns --------------------------------------------------------------------------------------------


def write_lines(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write objects as JSONL, whole or not at all."""
    with atomically(path) as temporary, open(temporary, "wb") as file:
        for row in rows:
            file.write(_line(row))


def _line(row: dict[str, Any]) -> bytes:
    return utf8_text(json.dumps(row, ensure_ascii=False, allow_nan=False, default=json_number)).encode() + b"\n"


def _read_lines(
    path: str | Path, read: Callable[[dict[str, Any]], Row], expected: str, strict: bool = False
) -> list[Row]:
    """``strict``: neither a line longer than :data:`LONGEST_LINE` nor a key that comes twice in an object."""
    check_file(path, f"expected JSONL with {expected} in each line")
    rows = []
    most_bytes = LONGEST_LINE if strict else -1
    for where, row in json_lines(path, f"expected {expected}", most_bytes=most_bytes, unique=strict):
        if not isinstance(row, dict):
            raise ValueError(f"{where}: {type(row).__name__} where an object is expected; expected {expected}")
        try:
            rows.append(read(row))
        except KeyError as error:
            raise ValueError(f"{where}: no field {error}; expected {expected}") from error
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ValueError(f"{where}: {error}; expected {expected}") from error
    if not rows:
        raise ValueError(f"{path}: the file is empty; expected {expected} in each line")
    return rows


def turn_to_json(turn: Turn) -> dict[str, Any]:
    row: dict[str, Any] = {"role": turn.role, "content": turn.text, "is_agent": turn.is_agent}
    if turn.token_ids or turn.logps:
        row |= {"token_ids": turn.token_ids, "logps": turn.logps}
    return row


def turn_from_json(row: dict[str, Any]) -> Turn:
    role, text, is_agent = row["role"], row["content"], row["is_agent"]
    if role not in ROLES or not isinstance(text, str) or not isinstance(is_agent, bool):
        raise ValueError(f"a turn with role {role!r:.40}, content {text!r:.40} and is_agent {is_agent!r:.40}")
    ids, logps = row.get("token_ids", ()), row.get("logps", ())
    return Turn(role, text, is_agent, tuple(map(int, ids)), tuple(map(float, logps)))


def json_number(value: object) -> object:
    """JSON for numpy's numbers and arrays."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{value!r} cannot be written as JSON")


def utf8_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
