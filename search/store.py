"""Trees as parquet files, and back.

One row a node: ``tree`` (its place in the file), ``node``, ``action``, ``logp`` (NaN where nobody
measured it), ``observation`` (null where nobody was in the node's state), ``logged`` (JSON of the tokens that the
policy logged, or null), every field of the node record, ``returns`` (sums of all players' returns and their rewards,
where a tree keeps them all), and ``about`` (in the root's row: JSON with task, settings, counters, generators, what
steers the root, and its transcript). States are not stored: a state is what its simulator makes of the task and of
the actions on the path, so loading with the simulator replays them. Of a tree of information sets only the root has a
state. A file calls nothing (:data:`GENERATORS` is all that it may name), is checked before a kernel reads it, and is
refused where it unpacks to more than :func:`~branchwise.search.files.check_unpacked` allows.

Every file is written under a temporary name in its own folder, flushed to disk and renamed, so a file that stands is
whole. Errors are ValueError and name file, line or node, what was expected, and the cure. Lone surrogates, which
UTF-8 cannot hold, become U+FFFD; of trees, ``about`` has the exact texts of such nodes (``exact``), which are read in
their place. Not here: pairs and episodes (``records.py``), compression options, appending, remote file systems.
"""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..envs.checked import LARGEST
from ..envs.json_files import parse_json
from ..envs.play.task import first_state
from ..envs.play.transcript import said
from ..envs.simulator import CHANCE, Simulator
from .files import atomically, check_file, check_unpacked
from .records import json_number, turn_from_json, turn_to_json, utf8_text
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
        "transcript": [turn_to_json(turn) for turn in tree.transcript(0)],
        "before_root": {player: [turn_to_json(turn) for turn in turns] for player, turns in tree.before_root.items()},
        "moves": tree.moves,
        "root": None if tree.simulator is None else _root_text(tree, tree.simulator, tree.states[0]),
        "exact": {"action": _not_utf8(tree.actions), "observation": _not_utf8(seen)},
    }
    try:
        about_text = json.dumps(about, default=json_number)
    except TypeError as error:
        raise ValueError(f"the task of tree {tree.index} is {tree.task!r}; expected what JSON can hold") from error
    logged = [
        json.dumps(turn_to_json(tree.agent_turn(node)), default=json_number)
        if tree.agent_turn(node).token_ids
        else None
        for node in range(count)
    ]
    columns: dict[str, Any] = {
        "tree": np.full(count, place, np.int32),
        "node": np.arange(count, dtype=np.int32),
        "action": [utf8_text(action) for action in tree.actions],
        "logp": pa.array(tree.logps, pa.float64(), from_pandas=False),
        "observation": [None if text is None else utf8_text(text) for text in seen],
        "logged": logged,
        **{name: np.ascontiguousarray(nodes[name]) for name, _ in _NODE_COLUMNS},
        "returns": tree.all_returns().tolist() if tree.all_returns().shape[1] else [None] * count,
        "about": [utf8_text(about_text)] + [None] * (count - 1),
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
                if column[int(node)] != utf8_text(text):
                    raise ValueError(f"the {name} of node {node} is {column[int(node)]!r}, and exactly {text!r}")
                column[int(node)] = text
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f"{where}: the root's 'about' is not what save_trees writes ({error!r})") from error
    turns = {}
    for node, text in enumerate(columns["logged"]):
        if text is not None:
            try:
                turns[node] = turn_from_json(parse_json(text, "JSON", "expected a turn"))
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
        tuple(turn_from_json(turn) for turn in about["transcript"]),
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
        tree.before_root[int(player)] = tuple(map(turn_from_json, turns))
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
            return utf8_text(simulator.information_state(state, tree.player(0)))
        return utf8_text(said(simulator, state))
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
            check(node, utf8_text(tree.transcript(node)[-1].text), utf8_text(said(simulator, state, tree.reader(node))))
    tree.attach(simulator, states)


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
        return json.loads(json.dumps(task, default=json_number))
    except TypeError as error:
        raise ValueError(f"the task {task!r}; expected what JSON can hold") from error


def _not_utf8(texts: Sequence[str | None]) -> dict[str, str]:
    """Those of the texts, by their place, that UTF-8 cannot hold as they are."""
    return {str(place): text for place, text in enumerate(texts) if text is not None and utf8_text(text) != text}
