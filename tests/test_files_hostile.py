"""Files from strangers: none calls anything, none fills the memory, and what is wrong with one is said in a line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flat_settings import flat_settings

from branchwise.envs.games.kuhn_poker import KuhnPoker
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.search import files
from branchwise.search.engine import Root, SearchSettings, search
from branchwise.search.evaluation import RandomRollout
from branchwise.search.store import _SCHEMA, GENERATORS, load_trees, save_trees
from branchwise.search.trees.nodes import LINKED

GAME = TicTacToe()
ROOTS = [Root(GAME.reset(0), task={"seed": 0})]


def grown(rng: Any = None, **options: Any) -> Any:
    settings = flat_settings(**{"simulations": 60, "solve": False, **options})
    return search(GAME, ROOTS, None, RandomRollout(), settings, rng or np.random.default_rng(0))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    path = tmp_path_factory.mktemp("trees") / "trees.parquet"
    save_trees(path, grown(transpositions=True))
    return pq.read_table(path)


def with_column(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, _SCHEMA.field(name), pa.array(values, _SCHEMA.field(name).type))


def with_about(table: pa.Table, change: Callable[[dict[str, Any]], Any]) -> pa.Table:
    about = json.loads(table["about"][0].as_py())
    change(about)
    return with_column(table, "about", [json.dumps(about), *[None] * (len(table) - 1)])


# ---- what is called ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["test", "seed", "default_rng", "SeedSequence", "__class__", "", None, ["PCG64"], 3])
def test_a_tree_file_names_a_generator_of_the_list_or_is_refused(
    name: Any, whole: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def called(*_: Any, **__: Any) -> None:
        raise AssertionError("the file had a function called")

    for function in ("test", "seed", "default_rng", "SeedSequence"):
        monkeypatch.setattr(np.random, function, called)
    damaged = with_about(whole, lambda about: about["generator"].update(bit_generator=name))
    pq.write_table(damaged, tmp_path / "trees.parquet")
    with pytest.raises(ValueError, match=r"trees\.parquet: tree 0: .*(expected one of PCG64|unhashable)"):
        load_trees(tmp_path / "trees.parquet")


@pytest.mark.parametrize("name", GENERATORS)
def test_every_generator_of_the_list_comes_back(name: str, tmp_path: Path) -> None:
    [tree] = grown(np.random.Generator(GENERATORS[name](5)))
    save_trees(tmp_path / "trees.parquet", [tree])
    [loaded] = load_trees(tmp_path / "trees.parquet")
    assert loaded.rng.random() == tree.rng.random()


# ---- what becomes large ------------------------------------------------------------------------------------------


def test_a_small_tree_file_of_large_equal_texts_is_refused(
    whole: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_UNPACKED", 2**24)
    page = "x" * 10**5
    path = tmp_path / "bomb.parquet"
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        for start in range(0, len(whole), 10):
            some = whole.slice(start, 10)
            writer.write_table(with_column(some, "observation", [page] * len(some)))
    with pytest.raises(ValueError, match=r"bomb\.parquet: its .* bytes unpack to .*; the limit is "):
        load_trees(path)


def test_a_tree_file_of_endless_equal_rows_is_refused(
    whole: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run-length encoding: a hundred thousand rows in a few kilobytes."""
    monkeypatch.setattr(files, "MAX_UNPACKED", 2**20)
    monkeypatch.setattr(files, "MAX_RATIO", 20)
    path = tmp_path / "bomb.parquet"
    pq.write_table(whole.slice(1, 1).take(pa.array(np.zeros(100_000, np.int32))), path, compression="zstd")
    usual = pa.default_memory_pool()
    counted = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(counted)
    try:
        with pytest.raises(ValueError, match=r"unpack to .*; the limit is"):
            load_trees(path)
    finally:
        pa.set_memory_pool(usual)
    assert counted.max_memory() < 2**20  # no column was read, of which each takes some 2**18


# ---- what a kernel would read ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda about: about.update(players=2 * 10**9), "players=2000000000; expected a whole number from 2 to 127"),
        (lambda about: about.update(players=1), "players=1; expected a whole number from 2"),
        (lambda about: about.update(players="two"), "players='two'"),
        (lambda about: about.update(discount=float("nan")), "discount=nan"),
        (lambda about: about.update(discount="much"), "could not convert"),
        (lambda about: about.update(gumbel=[0.5], considered=[]), "1 Gumbel draws and 0 turns for 9 actions"),
        (lambda about: about.update(settings=3), "settings=3; expected an object"),
        (lambda about: about.update(transcript=[{"role": "user", "content": 3, "is_agent": False}]), "content 3"),
        (lambda about: about.update(transcript=[{"role": "host", "content": "", "is_agent": False}]), "role 'host'"),
        (lambda about: about["head"].update(noise=2**70), "too large|too big|out of bounds"),
        (lambda about: about["generator"].update(state=3), "about"),
        (lambda about: about.pop("counters"), "counters"),
    ],
)
def test_what_steers_a_tree_is_checked(change: Any, fault: str, whole: pa.Table, tmp_path: Path) -> None:
    pq.write_table(with_about(whole, change), tmp_path / "trees.parquet")
    with pytest.raises(ValueError, match=fault) as raised:
        load_trees(tmp_path / "trees.parquet")
    assert str(raised.value).startswith(f"{tmp_path / 'trees.parquet'}: tree 0: ")


@pytest.mark.parametrize("text", ["[" * 200_000, "null", "[]", "3", "{", "{}", "\x00"])
def test_a_root_that_says_anything_else_is_named(text: str, whole: pa.Table, tmp_path: Path) -> None:
    path = tmp_path / "trees.parquet"
    pq.write_table(with_column(whole, "about", [text, *[None] * (len(whole) - 1)]), path)
    with pytest.raises(ValueError, match=r"trees\.parquet: tree 0: the root's 'about' is not what save_trees writes"):
        load_trees(path)


def test_records_that_no_kernel_could_read_are_named(whole: pa.Table, tmp_path: Path) -> None:
    path = tmp_path / "trees.parquet"
    columns = {name: whole[name].to_pylist() for name in whole.column_names}
    linked = next(node for node, flags in enumerate(columns["flags"]) if flags & LINKED)
    parent = columns["parent"][linked]

    def refused(name: str, node: int, value: int, fault: str) -> None:
        values = list(columns[name])
        values[node] = value
        pq.write_table(with_column(whole, name, values), path)
        with pytest.raises(ValueError, match=rf"tree 0, node {node}: {fault}"):
            load_trees(path)

    refused("player", 1, -2, "no such player")
    refused("proof", 1, 9, "no such player, proof")
    refused("visits", 1, -1, "no such player, proof, visits, prior or value")
    refused("first_child", linked, linked, "parent and children do not fit")
    refused("first_child", linked, parent, "parent and children do not fit")
    for other in (10**6, len(whole), -1):
        refused("first_child", linked, other, "parent and children do not fit")
    values = list(columns["player"])
    values[3] = 77
    pq.write_table(with_column(whole, "player", values), path)
    with pytest.raises(ValueError, match="players=2; expected a whole number from 78"):
        load_trees(path)
    for name in ("parent", "action", "visits"):
        pq.write_table(with_column(whole, name, [None] * len(whole)), path)
        with pytest.raises(ValueError, match=f"column '{name}'"):
            load_trees(path)


@pytest.mark.parametrize("information", ["perfect", "multiple_observer"])
def test_a_root_that_its_task_does_not_lead_to_is_noticed(information: Any, tmp_path: Path) -> None:
    """The task says which game, and the transcript which moves; a root that neither names cannot be made again."""
    game = KuhnPoker()
    state = game.reset(0)
    while game.current_player(state) < 0:
        state = game.step(state, game.chance_outcomes(state)[0][0])
    settings = SearchSettings(simulations=20, solve=False, information=information)
    trees = search(game, [Root(state, task={"seed": 0})], None, RandomRollout(), settings, np.random.default_rng(0))
    save_trees(tmp_path / "trees.parquet", trees)
    with pytest.raises(ValueError, match=r"tree 0, node 0: the simulator says .* where the file has"):
        load_trees(tmp_path / "trees.parquet", game)
