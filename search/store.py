"""Trees, pairs and episodes as plain files, and back.

- Trees: parquet, one row a node: ``tree`` (its place in the file), ``node``, ``action``, ``logp``, ``observation``
  (null where the node was never visited), ``logged`` (JSON of the tokens that the policy logged, or null), every
  field of the node record, ``returns`` (sums of all players' returns and their rewards, where a tree keeps them all),
  and ``about`` (in the root's row: JSON with task, settings, counters, generators, what steers the root, and its
  transcript). States are not stored: a state is what its simulator makes of the task and of the actions on the path,
  so loading with the simulator replays them. Of a tree of information sets only the root has a state.
- Pairs: JSONL. ``prompt``, ``chosen`` and ``rejected`` are lists of ``{"role", "content"}``, the conversational
  columns with explicit prompt that TRL's preference trainers take; the fields of :class:`PreferencePair` stand beside
  them. ``task`` is JSON in a string, so that tasks of different shape load as one column. No value is null: an anchor
  has ``anchor: true`` and an empty message as ``rejected``, and a log-probability that was not logged is 0.0 with
  ``ref_chosen_logged`` (``ref_rejected_logged``) false. Token ids of turns are not kept.
- Episodes: JSONL, one episode a line, turns with all that was logged.

Every file is written under a temporary name in its own folder, flushed to disk and renamed, so a file that stands is
whole. Errors are ValueError and name file, line or node, what was expected, and the cure. Lone surrogates, which
UTF-8 cannot hold, become U+FFFD. Not here: compression options, appending, remote file systems.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..envs.simulator import Simulator
from .episode import Episode
from .extraction import PreferencePair
from .files import atomically, check_file
from .information_tree import InformationTree
from .presets import start
from .transcript import Transcript, Turn, acted, messages, said
from .tree import LINKED, NODE, Tree

TREES_FORMAT: Final = b"branchwise trees 2"
FORMAT_KEY: Final = b"format"

Row = TypeVar("Row")


# ---- trees ------------------------------------------------------------------------------------------------------

_NODE_COLUMNS: Final = [(name, pa.from_numpy_dtype(NODE[name])) for name in NODE.names or ()]
_SCHEMA: Final = pa.schema(
    [
        ("tree", pa.int32()),
        ("node", pa.int32()),
        ("action", pa.string()),
        ("logp", pa.float64()),
        ("observation", pa.string()),
        ("logged", pa.string()),
        *_NODE_COLUMNS,
        ("returns", pa.list_(pa.float64())),
        ("about", pa.string()),
    ],
    metadata={FORMAT_KEY: TREES_FORMAT},
)


def save_trees(path: str | Path, trees: Sequence[Tree], observations: bool = True) -> None:
    """Write trees as parquet. ``observations=False`` leaves the observations out: smaller, but transcripts then need
    the simulator. Raises ValueError for no trees or a task that JSON cannot hold."""
    if not trees:
        raise ValueError(f"{path}: no trees to save; a file needs at least one")
    with atomically(path) as temporary, pq.ParquetWriter(temporary, _SCHEMA, compression="zstd") as writer:
        for place, tree in enumerate(trees):
            writer.write_table(_tree_table(tree, place, observations))


def load_trees(path: str | Path, simulator: Simulator[Any] | None = None) -> list[Tree]:
    """Read trees. With their simulator, states are rebuilt by replaying each task's actions, and the trees can be
    searched on; without it, ``states`` holds None.

    Raises ValueError where the file is empty, cut off or not one of ours, or where the simulator replays something
    else.
    """
    path = Path(path)
    check_file(path, "save_trees writes one")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty; expected parquet written by save_trees. Search again")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{path}: expected parquet written by save_trees; it is something else or was cut off ({error})"
        ) from error
    found = (table.schema.metadata or {}).get(FORMAT_KEY)
    missing = [name for name in _SCHEMA.names if name not in table.schema.names]
    if found != TREES_FORMAT or missing:
        raise ValueError(
            f"{path}: expected format {TREES_FORMAT.decode()!r}, found {found!r}"
            + (f", without the columns {', '.join(missing)}" if missing else "")
            + "; it was written by something else, or by another version"
        )
    table = table.combine_chunks()
    places = table["tree"].to_numpy()
    bounds = [0, *(np.flatnonzero(np.diff(places)) + 1), len(places)]
    trees = []
    for first, stop in pairwise(bounds):
        trees.append(_tree_from_table(path, table.slice(first, stop - first), simulator))
    return trees


def _tree_table(tree: Tree, place: int, observations: bool) -> pa.Table:
    count = len(tree)
    nodes = tree.nodes
    about = {
        "index": tree.index,
        "task": tree.task,
        "settings": tree.settings,
        "counters": tree.counters,
        "last_error": tree.last_error,
        "discount": tree.discount,
        "generator": tree.rng.bit_generator.state,
        "players": tree.players,
        "zero_sum": tree.zero_sum,
        "information_sets": isinstance(tree, InformationTree),
        **tree.beside_nodes(),
        "transcript": [_turn_to_json(turn) for turn in tree.transcript(0)],
    }
    try:
        about_text = json.dumps(about, default=_number)
    except TypeError as error:
        raise ValueError(f"the task of tree {tree.index} is {tree.task!r}; expected what JSON can hold") from error
    observations = observations and not isinstance(tree, InformationTree)
    seen = [
        _text(tree.transcript(node)[-1].text) if observations and node and nodes["visits"][node] else None
        for node in range(count)
    ]
    logged = [
        json.dumps(_turn_to_json(tree.agent_turn(node))) if tree.agent_turn(node).token_ids else None
        for node in range(count)
    ]
    columns: dict[str, Any] = {
        "tree": np.full(count, place, np.int32),
        "node": np.arange(count, dtype=np.int32),
        "action": [_text(action) for action in tree.actions],
        "logp": pa.array(tree.logps, pa.float64(), from_pandas=False),
        "observation": seen,
        "logged": logged,
        **{name: np.ascontiguousarray(nodes[name]) for name, _ in _NODE_COLUMNS},
        "returns": tree.all_returns().tolist() if tree.all_returns().shape[1] else [None] * count,
        "about": [_text(about_text)] + [None] * (count - 1),
    }
    return pa.table(columns, schema=_SCHEMA)


def _tree_from_table(path: Path, table: pa.Table, simulator: Simulator[Any] | None) -> Tree:
    count = len(table)
    nodes = np.zeros(count, NODE)
    for name, _ in _NODE_COLUMNS:
        nodes[name] = table[name].to_numpy()
    where = f"{path}: tree {table['tree'][0].as_py()}"
    _check_structure(where, table["node"].to_numpy(), nodes)
    try:
        about = json.loads(table["about"][0].as_py())
        transcript = tuple(_turn_from_json(turn) for turn in about["transcript"])
        rng = _generator(about["generator"])
        make = InformationTree if about["information_sets"] else Tree
        tree = make(
            None,
            None,
            transcript,
            about["task"],
            about["index"],
            rng,
            about["discount"],
            players=int(about["players"]),
            zero_sum=bool(about["zero_sum"]),
        )
        tree.take_beside_nodes(about)
        tree.settings, tree.last_error = about["settings"], about["last_error"]
        tree.counters.update(about["counters"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{where}: the root's 'about' is not what save_trees writes ({error!r})") from error
    logged = table["logged"].to_pylist()
    turns = {node: _turn_from_json(json.loads(text)) for node, text in enumerate(logged) if text is not None}
    returns = table["returns"].to_pylist()
    tree.restore(nodes, table["action"].to_pylist(), table["logp"].to_pylist(), turns)
    if returns[0] is not None:
        try:
            tree.take_all_returns(np.array(returns, np.float64))
        except ValueError as error:
            raise ValueError(f"{where}: {error}; the file is damaged") from error
    for node, text in enumerate(table["observation"].to_pylist()):
        if text is not None:
            tree.remember_observation(node, text)
    if simulator is not None:
        _replay(where, tree, simulator)
    return tree


def _check_structure(where: str, numbers: np.ndarray, nodes: np.ndarray) -> None:
    count = len(nodes)
    parents = nodes["parent"]
    order = np.arange(count)
    bad = numbers != order
    bad |= (parents >= order) | (parents < np.where(order == 0, -1, 0))
    has_children = nodes["children"] > 0
    has_children &= (nodes["flags"] & LINKED) == 0
    linked = (nodes["flags"] & LINKED) > 0
    bad |= linked & ((nodes["first_child"] < 0) | (nodes["first_child"] >= count))
    first, last = nodes["first_child"], nodes["first_child"] + nodes["children"].astype(np.int64) - 1
    bad |= has_children & ((first <= order) | (last >= count))
    if not bad.any():
        ends = np.where(has_children, parents[np.clip(last, 0, count - 1)], order)
        bad = has_children & ((parents[np.clip(first, 0, count - 1)] != order) | (ends != order))
    if bad.any():
        raise ValueError(f"{where}, node {int(np.argmax(bad))}: parent and children do not fit; the file is damaged")


def _replay(where: str, tree: Tree, simulator: Simulator[Any]) -> None:
    """Rebuild all states, and check the first few observations that were stored against them."""
    if "seed" not in tree.task:
        raise ValueError(f"{where}: the task {tree.task!r} has no 'seed', so its states cannot be replayed")
    state = start(simulator, tree.task)
    for turn in tree.transcript(0):
        if turn.is_agent:
            state = simulator.step(state, turn.text)
    states: list[Any] = [state]
    information = isinstance(tree, InformationTree)
    checks = 3
    for node in range(1, len(tree)):
        if information:
            states.append(None)
            continue
        state = simulator.step(states[tree.parent(node)], tree.actions[node])
        states.append(state)
        if checks and tree.has_transcript(node):
            checks -= 1
            expected, found = tree.transcript(node)[-1].text, _text(said(simulator, state))
            if expected != found:
                raise ValueError(
                    f"{where}, node {node}: the simulator says {found[:200]!r} where the file has {expected[:200]!r};"
                    " pass the simulator that the tree was searched with, with the same options"
                )
    tree.attach(simulator, states)


# ---- pairs ------------------------------------------------------------------------------------------------------

_PLAIN_FIELDS: Final = (
    "chosen_q",
    "rejected_q",
    "chosen_visits",
    "rejected_visits",
    "weight",
    "margin",
    "label_smoothing",
    "env_id",
    "tree",
    "node",
    "depth",
    "round",
    "kind",
)
_NO_MESSAGE: Final = [{"role": "assistant", "content": ""}]


def save_pairs(path: str | Path, pairs: Sequence[PreferencePair]) -> None:
    """Write pairs as JSONL. Raises ValueError for no pairs, and for turns whose role does not say who spoke."""
    if not pairs:
        raise ValueError(f"{path}: no pairs to save; lower the threshold, or search more")
    _write_lines(path, (_pair_to_json(pair) for pair in pairs))


def load_pairs(path: str | Path) -> list[PreferencePair]:
    """Read pairs that :func:`save_pairs` wrote. Raises ValueError naming file and line."""
    return _read_lines(path, _pair_from_json, "a pair written by save_pairs")


def _pair_to_json(pair: PreferencePair) -> dict[str, Any]:
    for turn in (*pair.chosen, *pair.rejected):
        if turn.is_agent != (turn.role == "assistant"):
            raise ValueError(
                f"a turn with role {turn.role!r} and is_agent={turn.is_agent}; the file keeps only the role"
            )
    floats = {"chosen_q", "rejected_q", "weight", "margin", "label_smoothing"}
    plain = {name: getattr(pair, name) for name in _PLAIN_FIELDS}
    return {
        "prompt": messages(pair.prompt),
        "chosen": messages(pair.chosen),
        "rejected": messages(pair.rejected) if pair.rejected else _NO_MESSAGE,
        "anchor": not pair.rejected,
        **{name: float(value) if name in floats else value for name, value in plain.items()},
        "ref_chosen_logp": float(pair.ref_chosen_logp or 0.0),
        "ref_chosen_logged": pair.ref_chosen_logp is not None,
        "ref_rejected_logp": float(pair.ref_rejected_logp or 0.0),
        "ref_rejected_logged": pair.ref_rejected_logp is not None,
        "task": json.dumps(pair.task, default=_number),
    }


def _pair_from_json(row: dict[str, Any]) -> PreferencePair:
    return PreferencePair(
        prompt=_turns(row["prompt"]),
        chosen=_turns(row["chosen"]),
        rejected=() if row["anchor"] else _turns(row["rejected"]),
        ref_chosen_logp=row["ref_chosen_logp"] if row["ref_chosen_logged"] else None,
        ref_rejected_logp=row["ref_rejected_logp"] if row["ref_rejected_logged"] else None,
        task=json.loads(row["task"]),
        **{name: row[name] for name in _PLAIN_FIELDS},
    )


def _turns(chat: Sequence[dict[str, str]]) -> Transcript:
    return tuple(
        acted(message["content"]) if message["role"] == "assistant" else Turn(message["role"], message["content"])  # type: ignore[arg-type]
        for message in chat
    )


# ---- episodes ---------------------------------------------------------------------------------------------------


def save_episodes(path: str | Path, episodes: Sequence[Episode]) -> None:
    """Write episodes as JSONL. Raises ValueError for no episodes."""
    if not episodes:
        raise ValueError(f"{path}: no episodes to save; a file needs at least one")
    _write_lines(path, map(_episode_to_json, episodes))


def episode_line(episode: Episode, **more: Any) -> bytes:
    """One line of an episode file, with ``more`` fields of the caller's, which :func:`load_episodes` passes over."""
    return _line({**_episode_to_json(episode), **more})


def load_episodes(path: str | Path) -> list[Episode]:
    """Read episodes that :func:`save_episodes` wrote. Raises ValueError naming file and line."""
    return _read_lines(path, episode_from_json, "an episode written by save_episodes")


def _episode_to_json(episode: Episode) -> dict[str, Any]:
    return {
        **{entry.name: getattr(episode, entry.name) for entry in fields(Episode)},
        "transcript": [_turn_to_json(turn) for turn in episode.transcript],
    }


def episode_from_json(row: dict[str, Any]) -> Episode:
    """The episode that one line of an episode file holds."""
    values = {entry.name: row[entry.name] for entry in fields(Episode)}
    values["transcript"] = tuple(_turn_from_json(turn) for turn in row["transcript"])
    values["rewards"] = tuple(float(reward) for reward in row["rewards"])
    return Episode(**values)


# ---- lines and turns --------------------------------------------------------------------------------------------


def _write_lines(path: str | Path, rows: Iterator[dict[str, Any]]) -> None:
    with atomically(path) as temporary, open(temporary, "wb") as file:
        for row in rows:
            file.write(_line(row))


def _line(row: dict[str, Any]) -> bytes:
    return _text(json.dumps(row, ensure_ascii=False, allow_nan=False, default=_number)).encode() + b"\n"


def _read_lines(path: str | Path, read: Callable[[dict[str, Any]], Row], expected: str) -> list[Row]:
    path = Path(path)
    check_file(path, f"expected JSONL with {expected} in each line")
    rows = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}, line {number}"
            if not line.endswith(b"\n"):
                raise ValueError(f"{where}: the line has no end; the file was cut off. Write it again")
            try:
                row = json.loads(line.decode())
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{where}: not UTF-8 ({error}); expected {expected}. Convert the file, for example with iconv"
                ) from error
            except json.JSONDecodeError as error:
                raise ValueError(f"{where}: not JSON ({error}); expected {expected}") from error
            try:
                rows.append(read(row))
            except KeyError as error:
                raise ValueError(f"{where}: no field {error}; expected {expected}") from error
            except (TypeError, ValueError, AttributeError) as error:
                raise ValueError(f"{where}: {error}; expected {expected}") from error
    if not rows:
        raise ValueError(f"{path}: the file is empty; expected {expected} in each line")
    return rows


def _turn_to_json(turn: Turn) -> dict[str, Any]:
    row: dict[str, Any] = {"role": turn.role, "content": turn.text, "is_agent": turn.is_agent}
    if turn.token_ids or turn.logps or turn.policy_id:
        row |= {"token_ids": turn.token_ids, "logps": turn.logps, "policy_id": turn.policy_id}
    return row


def _turn_from_json(row: dict[str, Any]) -> Turn:
    return Turn(
        row["role"],
        row["content"],
        row["is_agent"],
        tuple(row.get("token_ids", ())),
        tuple(row.get("logps", ())),
        row.get("policy_id", ""),
    )


def _generator(state: dict[str, Any]) -> np.random.Generator:
    bit_generator = getattr(np.random, str(state["bit_generator"]))()
    bit_generator.state = state
    return np.random.Generator(bit_generator)


def _number(value: object) -> object:
    """JSON for numpy's numbers and arrays."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{value!r} cannot be written as JSON")


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
