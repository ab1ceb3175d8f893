"""Trees, pairs and episodes as plain files, and back.

- Trees: parquet, one row a node: ``tree`` (its place in the file), ``node``, ``action``, ``logp`` (NaN where nobody
  measured it), ``observation`` (null where nobody was in the node's state), ``logged`` (JSON of the tokens that the
  policy logged, or null), every field of the node record, ``returns`` (sums of all players' returns and their rewards,
  where a tree keeps them all), and ``about`` (in the root's row: JSON with task, settings, counters, generators, what
  steers the root, and its transcript). States are not stored: a state is what its simulator makes of the task and of
  the actions on the path, so loading with the simulator replays them. Of a tree of information sets only the root has a
  state. A file calls nothing (:data:`GENERATORS` is all that it may name), is checked before a kernel reads it, and is
  refused where it unpacks to more than :func:`~branchwise.search.files.check_unpacked` allows.
- Pairs: JSONL. ``prompt``, ``chosen`` and ``rejected`` are lists of ``{"role", "content"}``, the conversational
  columns with explicit prompt that TRL's preference trainers take, with the fields of :class:`PreferencePair` beside
  them. Rows without a rejected side (anchors) are no preference; they have a file of their own,
  :func:`anchors_beside` the pairs, with ``prompt`` and ``completion``, as TRL's supervised trainer takes them. ``task``
  is JSON in a string, so that tasks of different shape load as one column. No value is null: a log-probability that was
  not logged is 0.0 with ``ref_chosen_logged`` (``ref_rejected_logged``) false. Token ids of turns are not kept. Read
  are also pairs that others wrote for TRL: texts in place of messages, and none of our fields.
- Episodes: JSONL, one episode a line, turns with all that was logged.
- Demonstrations are only read: episodes, or conversations as ``messages``.

Every file is written under a temporary name in its own folder, flushed to disk and renamed, so a file that stands is
whole. Errors are ValueError and name file, line or node, what was expected, and the cure. Lone surrogates, which
UTF-8 cannot hold, become U+FFFD; of trees, ``about`` has the exact texts of such nodes (``exact``), which are read in
their place. Not here: compression options, appending, remote file systems.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..envs.checked import LARGEST
from ..envs.json_files import json_lines, parse_json
from ..envs.play.episode import Episode
from ..envs.play.task import first_state
from ..envs.play.transcript import ROLES, Transcript, Turn, acted, messages, said
from ..envs.simulator import CHANCE, Simulator
from .calls import ROUNDING
from .extraction import PreferencePair
from .files import atomically, check_file, check_unpacked
from .rules.options import from_flat
from .trees.information_tree import InformationTree
from .trees.nodes import EXPANDED, INFORMATION, LINKED, MAX_PLAYERS, NODE, UNSTEPPED
from .trees.tree import Tree

TREES_FORMAT: Final = b"branchwise trees 2"
FORMAT_KEY: Final = b"format"
GENERATORS: Final = {
    kind.__name__: kind
    for kind in (np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64)
}
"""The generators that a tree file may name."""

LONGEST_LINE: Final = 2**26
"""Bytes of a line of a file of demonstrations."""
_SHOWN: Final = "an episode of save_episodes, or an object with messages (role and content), the agent's as assistant"

Row = TypeVar("Row")


# ---- trees ------------------------------------------------------------------------------------------------------

_NODE_COLUMNS: Final = [(name, pa.from_numpy_dtype(NODE[name])) for name in NODE.names or ()]
_TEXTS: Final = ("action", "observation", "logged", "about")
_NULLABLE: Final = ("observation", "logged", "about", "returns", "logp")
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
    the simulator. The file has no observation of a node where the simulator fails to give one. Raises ValueError for no
    trees or a task that JSON cannot hold."""
    if not trees:
        raise ValueError(f"{path}: no trees to save; a file needs at least one")
    # Opened here: pyarrow takes a name with a colon for a URI.
    with (
        atomically(path) as temporary,
        open(temporary, "wb") as file,
        pq.ParquetWriter(file, _SCHEMA, compression="zstd") as writer,
    ):
        for place, tree in enumerate(trees):
            writer.write_table(_tree_table(tree, place, observations))


def load_trees(path: str | Path, simulator: Simulator[Any] | None = None) -> list[Tree]:
    """Read trees. With their simulator, states are rebuilt by replaying each task's actions, and the trees can be
    searched on; without it, ``states`` holds None.

    Raises ValueError where the file is empty, cut off or not one of ours, or where the simulator replays something
    else.
    """
    path = Path(path)
    check_file(path, "`branchwise search` and save_trees write one")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty; expected parquet written by save_trees. Search again")
    columns = _columns(path)
    places = columns["tree"]
    bounds = [0, *(np.flatnonzero(np.diff(places)) + 1).tolist(), len(places)]
    return [
        _tree_from_columns(path, {name: column[start:stop] for name, column in columns.items()}, simulator)
        for start, stop in pairwise(bounds)
    ]


def _columns(path: Path) -> dict[str, Any]:
    """The columns of the file: numbers as arrays, texts as lists in which equal texts are one object."""
    try:
        with open(path, "rb") as opened:
            schema = pq.read_schema(opened)
        found = (schema.metadata or {}).get(FORMAT_KEY)
        missing = [name for name in _SCHEMA.names if name not in schema.names]
        if found != TREES_FORMAT or missing:
            raise ValueError(
                f"{path}: expected format {TREES_FORMAT.decode()!r}, found {found!r}"
                + (f", without the columns {', '.join(missing)}" if missing else "")
                + "; it was written by something else, or by another version"
            )
        with open(path, "rb") as opened, pq.ParquetFile(opened, read_dictionary=list(_TEXTS)) as file:
            metadata = file.metadata
            groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
            numbers = sum(group.column(at).num_values for group in groups for at in range(group.num_columns))
            unpacked = sum(group.total_byte_size for group in groups) + 8 * numbers
            check_unpacked(path, unpacked)
            table = file.read(_SCHEMA.names).unify_dictionaries().combine_chunks()
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise ValueError(
            f"{path}: expected parquet written by save_trees; it is something else or was cut off ({error}). Search"
            " again"
        ) from error
    if not len(table):
        raise ValueError(f"{path}: no trees in it; expected at least one. Search again")
    columns: dict[str, Any] = {}
    for name in _SCHEMA.names:
        column, expected = table[name].combine_chunks(), _SCHEMA.field(name).type
        kind = column.type.value_type if name in _TEXTS and pa.types.is_dictionary(column.type) else column.type
        if kind != expected or (column.null_count and name not in _NULLABLE):
            raise ValueError(f"{path}: column {name!r} holds {kind} or nothing; expected {expected}")
        if name in _TEXTS:
            column = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
            texts, places = column.dictionary, column.indices
            unpacked += pc.sum(pc.take(pc.binary_length(texts), places)).as_py() or 0
            check_unpacked(path, unpacked)
            words = [*texts.to_pylist(), None]
            columns[name] = [words[place] for place in places.fill_null(len(texts)).to_pylist()]
        else:
            columns[name] = column.to_pylist() if name == "returns" else column.to_numpy(zero_copy_only=False)
    return columns


def _tree_table(tree: Tree, place: int, observations: bool) -> pa.Table:
    count = len(tree)
    nodes = tree.nodes
    observations = observations and not isinstance(tree, InformationTree)
    # A state that another way led to has children of its own, though nobody passed here.
    met = [bool(nodes["visits"][node]) or tree.has(tree.source(node), EXPANDED) for node in range(count)]
    seen = [_observation(tree, node) if observations and node and met[node] else None for node in range(count)]
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
        "before_root": {player: [_turn_to_json(turn) for turn in turns] for player, turns in tree.before_root.items()},
        "moves": tree.moves,
        "root": None if tree.simulator is None else _root_text(tree, tree.simulator, tree.states[0]),
        "exact": {"action": _not_utf8(tree.actions), "observation": _not_utf8(seen)},
    }
    try:
        about_text = json.dumps(about, default=_number)
    except TypeError as error:
        raise ValueError(f"the task of tree {tree.index} is {tree.task!r}; expected what JSON can hold") from error
    logged = [
        json.dumps(_turn_to_json(tree.agent_turn(node)), default=_number) if tree.agent_turn(node).token_ids else None
        for node in range(count)
    ]
    columns: dict[str, Any] = {
        "tree": np.full(count, place, np.int32),
        "node": np.arange(count, dtype=np.int32),
        "action": [_text(action) for action in tree.actions],
        "logp": pa.array(tree.logps, pa.float64(), from_pandas=False),
        "observation": [None if text is None else _text(text) for text in seen],
        "logged": logged,
        **{name: np.ascontiguousarray(nodes[name]) for name, _ in _NODE_COLUMNS},
        "returns": tree.all_returns().tolist() if tree.all_returns().shape[1] else [None] * count,
        "about": [_text(about_text)] + [None] * (count - 1),
    }
    return pa.table(columns, schema=_SCHEMA)


def _tree_from_columns(path: Path, columns: dict[str, Any], simulator: Simulator[Any] | None) -> Tree:
    count = len(columns["tree"])
    nodes = np.zeros(count, NODE)
    for name, _ in _NODE_COLUMNS:
        nodes[name] = columns[name]
    where = f"{path}: tree {columns['tree'][0]}"
    _check_structure(where, columns["node"], nodes)
    try:
        about = parse_json(columns["about"][0], "JSON", "expected an object")
        tree = _tree_from_about(about, nodes)
        for name, texts in about.get("exact", {}).items():
            column = columns[name] = list(columns[name])
            for node, text in texts.items():
                if column[int(node)] != _text(text):
                    raise ValueError(f"the {name} of node {node} is {column[int(node)]!r}, and exactly {text!r}")
                column[int(node)] = text
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f"{where}: the root's 'about' is not what save_trees writes ({error!r})") from error
    turns = {}
    for node, text in enumerate(columns["logged"]):
        if text is not None:
            try:
                turns[node] = _turn_from_json(parse_json(text, "JSON", "expected a turn"))
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                raise ValueError(f"{where}, node {node}: 'logged' is not what save_trees writes ({error!r})") from error
    returns = columns["returns"]
    keeps = tree.all_returns().shape[1] > 0
    tree.restore(nodes, columns["action"], columns["logp"].tolist(), turns)
    if keeps or returns[0] is not None:
        try:
            if not keeps:
                raise ValueError("it has returns of all players, and one number says all")
            tree.take_all_returns(np.array(returns, np.float64))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: {error}; the file is damaged") from error
    for node, text in enumerate(columns["observation"]):
        if node and text is not None:
            tree.remember_observation(node, text)
    if simulator is not None:
        _replay(where, tree, simulator, about.get("root"))
    return tree


def _tree_from_about(about: Any, nodes: np.ndarray) -> Tree:
    """The tree without its nodes, and what steers it; a number that the nodes do not bear out is an error."""
    players = about["players"]
    most = int(nodes["player"].max(initial=0)) + 1
    if not isinstance(players, int) or not most <= players <= MAX_PLAYERS:
        raise ValueError(f"players={players!r}; expected a whole number from {most} to {MAX_PLAYERS}")
    if not 0.0 <= float(about["discount"]) <= 1.0:
        raise ValueError(f"discount={about['discount']!r}; expected a number from 0 to 1")
    for name in ("task", "settings", "counters"):
        if not isinstance(about[name], dict):
            raise ValueError(f"{name}={about[name]!r}; expected an object")
    make = InformationTree if about["information_sets"] else Tree
    tree = make(
        None,
        None,
        tuple(_turn_from_json(turn) for turn in about["transcript"]),
        about["task"],
        int(about["index"]),
        _generator(about["generator"]),
        about["discount"],
        players=players,
        zero_sum=bool(about["zero_sum"]),
    )
    root = nodes[0]
    if bool(about["information_sets"]) != bool(root["flags"] & INFORMATION):
        raise ValueError("information_sets says other than the root's flags")
    gumbel, considered = about["gumbel"], about["considered"]
    if len(gumbel) not in (0, int(root["children"])) or bool(gumbel) != bool(considered):
        raise ValueError(f"{len(gumbel)} Gumbel draws and {len(considered)} turns for {root['children']} actions")
    tree.take_beside_nodes(about)
    tree.settings, tree.last_error = from_flat(about["settings"]), str(about["last_error"])
    tree.counters.update(about["counters"])
    for player, turns in about.get("before_root", {}).items():
        tree.before_root[int(player)] = tuple(map(_turn_from_json, turns))
    tree.moves = [str(move) for move in about.get("moves", tree.moves)]
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
    if not bad.any() and not (nodes["flags"][0] & INFORMATION):  # whose sets turn up in any order
        blocks = np.where(has_children, last - first + 1, 0)
        within = (first[parents] <= order) & (order <= last[parents]) & has_children[parents]
        bad = np.where(order > 0, ~within, blocks.sum() != count - 1)
    if not bad.any() and linked.any():
        depths = np.zeros(count, np.int64)
        for node, parent in enumerate(parents.tolist()[1:], 1):
            depths[node] = depths[parent] + 1
        sources = np.where(linked, first, order)
        bad = linked & (linked[sources] | (depths[sources] != depths))
    if bad.any():
        raise ValueError(f"{where}, node {int(np.argmax(bad))}: parent and children do not fit; the file is damaged")
    bad = (nodes["player"] < CHANCE) | (nodes["proof"] > 3) | (nodes["visits"] < 0)
    for name in ("value_sum", "prior", "reward", "hint"):
        bad |= ~np.isfinite(nodes[name])
    bad |= (nodes["prior"] < 0.0) | (nodes["prior"] > 1.0 + 1e-3)
    bad |= np.abs(nodes["value_sum"]) > LARGEST * np.maximum(nodes["visits"], 1.0)
    if bad.any():
        raise ValueError(
            f"{where}, node {int(np.argmax(bad))}: no such player, proof, visits, prior or value; the file is damaged"
        )


def _observation(tree: Tree, node: int) -> str | None:
    """What is observed at a node; None where chance moves, which shows nothing, and where the simulator fails to say
    it, which must not cost the whole file."""
    if tree.is_chance(node) and node:
        return None
    try:
        return tree.transcript(node)[-1].text
    except Exception:
        return None


def _root_text(tree: Tree, simulator: Simulator[Any], state: Any) -> str | None:
    """What tells the root's state from others: what is known there to the player of a search of hidden information,
    else what is seen there; None where the simulator fails to say it."""
    try:
        if isinstance(tree, InformationTree):
            return _text(simulator.information_state(state, tree.player(0)))
        return _text(said(simulator, state))
    except Exception:
        return None


def _replay(where: str, tree: Tree, simulator: Simulator[Any], root: str | None) -> None:
    """Rebuild all states, and check the root and the first few observations that were stored against them."""
    if "seed" not in tree.task:
        raise ValueError(f"{where}: the task {tree.task!r} has no 'seed', so its states cannot be replayed")
    state = first_state(simulator, tree.task)
    for move in tree.moves:
        state = simulator.step(state, move)

    def check(node: int, expected: str, found: str) -> None:
        if expected != found:
            raise ValueError(
                f"{where}, node {node}: the simulator says {found[:200]!r} where the file has {expected[:200]!r};"
                " pass the simulator that the tree was searched with, with the same options. A root in the middle of an"
                " episode needs its moves in its transcript"
            )

    found = _root_text(tree, simulator, state)
    if root is not None and found is not None:
        check(0, root, found)
    states: list[Any] = [state]
    information = isinstance(tree, InformationTree)
    checks = 3
    for node in range(1, len(tree)):
        if information or tree.has(node, UNSTEPPED):
            states.append(None)
            continue
        state = simulator.step(states[tree.parent(node)], tree.actions[node])
        states.append(state)
        if checks and tree.has_transcript(node) and not tree.is_chance(node):
            checks -= 1
            check(node, _text(tree.transcript(node)[-1].text), _text(said(simulator, state, tree.reader(node))))
    tree.attach(simulator, states)


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
    not say whose they are, or where one of the two files exists and holds no pairs."""
    if not pairs:
        raise ValueError(f"{path}: no pairs to save; lower the threshold, or search more")
    check_replaceable(path)
    beside = anchors_beside(path)
    contrasts = [_pair_to_json(pair) for pair in pairs if pair.rejected]
    anchors = [_pair_to_json(pair) for pair in pairs if not pair.rejected]
    if contrasts and anchors:
        _write_lines(beside, anchors)
    else:
        beside.unlink(missing_ok=True)
    _write_lines(path, contrasts or anchors)


def check_replaceable(path: str | Path) -> None:
    """Raises ValueError where a file that :func:`save_pairs` would replace or remove exists, and holds no pairs."""
    for file in (Path(path), anchors_beside(path)):
        if not file.is_file() or not file.stat().st_size:
            continue
        with open(file, "rb") as opened:
            line = opened.readline()
        if not line.startswith(b"{") or not any(word in line for word in (b'"prompt"', b'"chosen"')):
            raise ValueError(f"{file} exists and holds no pairs; it is not overwritten: name another, or remove it")


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
    for turn in (*pair.chosen, *pair.rejected):
        if turn.is_agent != (turn.role == "assistant"):
            raise ValueError(
                f"a turn with role {turn.role!r} and is_agent={turn.is_agent}; the file keeps only the role"
            )
    row: dict[str, Any] = {"prompt": messages(pair.prompt)}
    sides = _SIDES if pair.rejected else _SIDES[:1]
    if pair.rejected:
        row |= {"chosen": messages(pair.chosen), "rejected": messages(pair.rejected)}
    else:
        row["completion"] = messages(pair.chosen)
    for side in sides:
        logp = getattr(pair, f"ref_{side}_logp")
        if logp is not None and logp > ROUNDING:  # a score up to a constant, as functions may give
            logp = None
        row |= {
            f"{side}_q": float(getattr(pair, f"{side}_q")),
            f"{side}_visits": getattr(pair, f"{side}_visits"),
            f"ref_{side}_logp": float(logp or 0.0),
            f"ref_{side}_logged": logp is not None,
        }
    row |= {name: float(getattr(pair, name)) for name in (_NUMBERS if pair.rejected else _NUMBERS[:1])}
    row |= {name: getattr(pair, name) for name in (*_WORDS, *_PLACES)}
    return {**row, "task": json.dumps(pair.task, default=_number)}


def _pair_from_json(row: dict[str, Any]) -> PreferencePair:
    if "label" in row:
        raise ValueError("a row with 'label' is for training without pairs (KTO), which reads no such file")
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
        values[f"{side}_visits"] = _typed(row, f"{side}_visits", int, 0)
    values |= {name: _finite(row, name, 1.0 if name == "weight" else 0.0, LARGEST) for name in _NUMBERS}
    values |= {name: _typed(row, name, int, 0) for name in _PLACES}
    values |= {name: _typed(row, name, str, "") for name in _WORDS}
    task = row.get("task", "{}")
    task = parse_json(task, "task", "expected an object") if isinstance(task, str) else {}
    if not isinstance(task, dict):
        raise ValueError(f"task={task!r:.40}; expected an object, as JSON in a text")
    return PreferencePair(
        prompt=prompt,
        chosen=answers[0],
        rejected=answers[1] if len(answers) > 1 else (),
        task=task,
        **values,
    )


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
    values = {entry.name: row[entry.name] for entry in fields(Episode) if entry.name != "figures"}
    figures = row.get("figures", {})
    if not isinstance(figures, dict):
        raise ValueError(f"figures={figures!r:.40}; expected numbers by name")
    values["figures"] = {name: _finite(figures, name, None, LARGEST) for name in figures}
    values["transcript"] = tuple(_turn_from_json(turn) for turn in row["transcript"])
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
    return tuple(replace(turn, text=_text(turn.text)) for turn in turns)


# ---- lines and turns --------------------------------------------------------------------------------------------


def _write_lines(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    with atomically(path) as temporary, open(temporary, "wb") as file:
        for row in rows:
            file.write(_line(row))


def _line(row: dict[str, Any]) -> bytes:
    return _text(json.dumps(row, ensure_ascii=False, allow_nan=False, default=_number)).encode() + b"\n"


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


def _turn_to_json(turn: Turn) -> dict[str, Any]:
    row: dict[str, Any] = {"role": turn.role, "content": turn.text, "is_agent": turn.is_agent}
    if turn.token_ids or turn.logps:
        row |= {"token_ids": turn.token_ids, "logps": turn.logps}
    return row


def _turn_from_json(row: dict[str, Any]) -> Turn:
    role, text, is_agent = row["role"], row["content"], row["is_agent"]
    if role not in ROLES or not isinstance(text, str) or not isinstance(is_agent, bool):
        raise ValueError(f"a turn with role {role!r:.40}, content {text!r:.40} and is_agent {is_agent!r:.40}")
    ids, logps = row.get("token_ids", ()), row.get("logps", ())
    return Turn(role, text, is_agent, tuple(map(int, ids)), tuple(map(float, logps)))


def _generator(state: dict[str, Any]) -> np.random.Generator:
    name = state["bit_generator"]
    if name not in GENERATORS:
        raise ValueError(f"bit_generator={name!r}; expected one of {', '.join(GENERATORS)}")
    bit_generator = GENERATORS[name]()
    bit_generator.state = state  # type: ignore[assignment]
    return np.random.Generator(bit_generator)


def as_read(task: Any) -> Any:
    """A task as a file gives it back: tuples are lists, and numpy's numbers Python's. Raises ValueError for what JSON
    cannot hold."""
    try:
        return json.loads(json.dumps(task, default=_number))
    except TypeError as error:
        raise ValueError(f"the task {task!r}; expected what JSON can hold") from error


def _number(value: object) -> object:
    """JSON for numpy's numbers and arrays."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{value!r} cannot be written as JSON")


def _not_utf8(texts: Sequence[str | None]) -> dict[str, str]:
    """Those of the texts, by their place, that UTF-8 cannot hold as they are."""
    return {str(place): text for place, text in enumerate(texts) if text is not None and _text(text) != text}


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
