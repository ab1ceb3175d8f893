"""Compiled trees on disk, and signals during a compiled search."""

import copy
import json
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flat_settings import flat, flat_settings

from branchwise.envs.games.connect_four import ConnectFour
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.search import compiled
from branchwise.search.compiled.store import load_compiled, save_compiled
from branchwise.search.compiled.tree import CompiledTree
from branchwise.search.engine import Root
from branchwise.search.rules.options import Puct
from branchwise.search.settings import SearchSettings

GAME = TicTacToe()
ROOTS = [
    Root(GAME.reset(0), task={"seed": 0}),
    Root(GAME.step(GAME.reset(0), GAME.legal_actions(GAME.reset(0))[0]), task={"seed": 1}),
]


def searched(simulations: int = 300, **options: Any) -> list[CompiledTree]:
    options = {"selection": "uct", "random_ties": True} | options
    settings = flat_settings(simulations=simulations, **options)
    trees = compiled.search(GAME, ROOTS, settings=settings, rng=np.random.default_rng(3))
    assert all(isinstance(tree, CompiledTree) for tree in trees)
    return trees  # type: ignore[return-value]


@pytest.mark.parametrize(
    "options", [{}, {"solve": True}, {"selection": "gumbel", "random_ties": False, "solve": False}]
)
def test_saved_loaded_and_extended_equals_one_search(tmp_path: Path, options: dict[str, Any]) -> None:
    whole = searched(800, **options)
    kept = searched(300, **options)
    if options.get("selection") == "gumbel":  # the plan of sequential halving reads the final number
        whole, kept = searched(300, **options), searched(300, **options)
    save_compiled(tmp_path / "trees.npz", kept)
    loaded = load_compiled(tmp_path / "trees.npz", GAME, ROOTS)
    for before, after, one in zip(kept, loaded, whole, strict=True):
        assert (before.nodes == after.nodes).all()
        assert before.task == after.task
        assert before.settings == after.settings
        assert before.best_action() == after.best_action()
        assert one.settings.selection == after.settings.selection
    compiled.extend(loaded, settings=whole[0].settings)
    for after, one in zip(loaded, whole, strict=True):
        assert after.nodes.tobytes() == one.nodes.tobytes()
        assert after.random == one.random


def test_a_file_that_is_none_of_ours_says_so(tmp_path: Path) -> None:
    path = tmp_path / "trees.npz"
    save_compiled(path, searched())
    whole = path.read_bytes()
    for cut in (0, 10, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"trees\.npz"):
            load_compiled(path, GAME, ROOTS)
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="2 trees, and 1 roots"):
        load_compiled(path, GAME, ROOTS[:1])
    with pytest.raises(ValueError, match="from another root"):
        load_compiled(path, GAME, ROOTS[::-1])
    with pytest.raises(ValueError, match=r"of 'connect_four', found .* of 'tic_tac_toe'"):
        load_compiled(path, ConnectFour(), ROOTS)
    with pytest.raises(ValueError, match="no such file"):
        load_compiled(tmp_path / "nothing", GAME, ROOTS)
    np.save(tmp_path / "array.npy", np.arange(3))
    with pytest.raises(ValueError, match="expected a file of save_compiled"):
        load_compiled(tmp_path / "array.npy", GAME, ROOTS)
    later = json.dumps({"format": "branchwise compiled trees 2", "game": "tic_tac_toe", "trees": [1, 2]})
    np.savez(path, about=np.frombuffer(later.encode(), np.uint8))
    with pytest.raises(ValueError, match=r"trees 1' of 'tic_tac_toe', found '.* trees 2' of 'tic_tac_toe'"):
        load_compiled(path, GAME, ROOTS)


def test_a_task_that_json_cannot_hold_is_refused_before_a_file_is_written(tmp_path: Path) -> None:
    trees = searched(1)
    trees[1].task = {"path": tmp_path}
    with pytest.raises(ValueError, match=r"trees\.npz: the task .* cannot be written as JSON"):
        save_compiled(tmp_path / "trees.npz", trees)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["nodes_1", "gumbel_1"])
def test_arrays_of_another_kind_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "trees.npz"
    save_compiled(path, searched(20))
    with np.load(path) as file:
        whole = dict(file)
    others = [whole[name][None]]
    if name == "nodes_1":
        others += [whole[name][:0], whole[name]["visits"], np.zeros(len(whole[name]), np.float64)]
    for other in others:
        np.savez(path, **(whole | {name: other}))
        with pytest.raises(ValueError, match=r"tree 1: records of .*; expected those of a compiled tree"):
            load_compiled(path, GAME, ROOTS)


@pytest.mark.parametrize(
    "options",
    [
        {"unvisited_value": "zero"},
        {"unvisited_value": "infinite"},
        {"unvisited_value": "reduced", "fpu_value": 0.2},
        {"unvisited_value": "reduced", "fpu_value": 1.0},
        {"unvisited_value": "constant", "fpu_value": 1.0},
    ],
)
def test_settings_are_read_back_as_they_were(tmp_path: Path, options: dict[str, Any]) -> None:
    settings = flat_settings(simulations=20, selection="puct", **options)
    trees = [CompiledTree(GAME, GAME.rules, root.state, settings, 7 + i, root.task, i) for i, root in enumerate(ROOTS)]
    save_compiled(tmp_path / "trees.npz", trees)
    for tree, loaded in zip(trees, load_compiled(tmp_path / "trees.npz", GAME, ROOTS), strict=True):
        assert loaded.settings == settings
        assert (loaded.index, loaded.random, loaded.task) == (tree.index, tree.random, tree.task)


def test_nodes_that_no_game_has_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    refused = 0
    for field in ("first_child", "children", "action"):
        for _ in range(30):
            trees = searched()
            node = int(rng.choice(np.flatnonzero(trees[0].nodes["children"])))
            if field == "action":
                node = trees[0].children(node)[0]
            before = int(trees[0].nodes[node][field])
            trees[0].nodes[node][field] = int(rng.integers(0, 200))
            save_compiled(tmp_path / "trees.npz", trees)
            if int(trees[0].nodes[node][field]) == before:
                continue
            with pytest.raises(ValueError, match="the file is damaged"):
                load_compiled(tmp_path / "trees.npz", GAME, ROOTS)
            refused += 1
    assert refused > 80


@pytest.mark.parametrize("node", [0, 1])
def test_a_move_that_is_not_legal_there_or_that_another_child_has_is_named(tmp_path: Path, node: int) -> None:
    whole = searched(300)
    first, *_, last = whole[0].children(node)
    illegal = int(whole[0].nodes["action"][node]) if node else 99  # below node 1 its own square is taken
    another = int(whole[0].nodes["action"][first])
    for action in (illegal, another):
        trees = copy.deepcopy(whole)
        trees[0].nodes["action"][last] = action
        save_compiled(tmp_path / "trees.npz", trees)
        with pytest.raises(ValueError, match=f"tree 0, node {last}: no position of this game has these children"):
            load_compiled(tmp_path / "trees.npz", GAME, ROOTS)


def test_children_beyond_the_end_and_records_that_no_node_leads_to_are_refused(tmp_path: Path) -> None:
    trees = searched(300)
    node = next(node for node in range(1, len(trees[0])) if trees[0].children(node))
    trees[0].nodes["first_child"][node] = len(trees[0]) - 1
    save_compiled(tmp_path / "trees.npz", trees)
    with pytest.raises(ValueError, match=f"tree 0, node {node}: no position of this game has these children"):
        load_compiled(tmp_path / "trees.npz", GAME, ROOTS)
    trees = searched(300, random_ties=False)
    trees[0].nodes["first_child"][0] = 0  # a root that is its own child
    save_compiled(tmp_path / "trees.npz", trees)
    with pytest.raises(ValueError, match="tree 0, node 0: no position of this game has these children"):
        load_compiled(tmp_path / "trees.npz", GAME, ROOTS)
    trees = searched(300)
    trees[1].nodes = np.append(trees[1].nodes, np.zeros(1, trees[1].nodes.dtype))
    save_compiled(tmp_path / "trees.npz", trees)
    with pytest.raises(ValueError, match="tree 1, node 0: no position of this game has these children"):
        load_compiled(tmp_path / "trees.npz", GAME, ROOTS)


def near_the_end(simulations: int) -> tuple[CompiledTree, Root]:
    """Two squares are free, so that the root's children have one child each."""
    state = GAME.reset(0)
    for square in "1235468":
        state = GAME.step(state, square)
    settings = SearchSettings(simulations=simulations, selection="puct", solve=False)
    [tree] = compiled.search(GAME, [Root(state)], settings=settings)
    assert isinstance(tree, CompiledTree)
    return tree, Root(state)


def test_one_visit_too_many_is_refused(tmp_path: Path) -> None:
    trees = searched(300)
    child = max(trees[0].children(), key=trees[0].visits)
    trees[0].nodes["visits"][child] += 1
    save_compiled(tmp_path / "trees.npz", trees)
    with pytest.raises(ValueError, match="tree 0, node 0: no search leaves these visits"):
        load_compiled(tmp_path / "trees.npz", GAME, ROOTS)
    tree, root = near_the_end(20)
    above = tree.children()[0]
    [child] = tree.children(above)
    tree.nodes["visits"][child] += 1
    save_compiled(tmp_path / "trees.npz", [tree])
    with pytest.raises(ValueError, match=f"tree 0, node {above}: no search leaves these visits"):
        load_compiled(tmp_path / "trees.npz", GAME, [root])


def test_fewer_visits_than_none_are_refused_of_a_root_alone_too(tmp_path: Path) -> None:
    trees = searched(1)
    trees[0].simulations = trees[0].nodes["visits"][0] = -3
    save_compiled(tmp_path / "trees.npz", trees)
    with pytest.raises(ValueError, match="tree 0, node 0: no search leaves these visits"):
        load_compiled(tmp_path / "trees.npz", GAME, ROOTS)


@pytest.mark.parametrize("selection", ["uct", "puct", "gumbel"])
@pytest.mark.parametrize("visits", [-1, 400, 2_000_000_000, 2**31 - 1])
def test_visits_that_do_not_add_up_are_refused(tmp_path: Path, selection: str, visits: int) -> None:
    """The loops index by visits: they would read and write outside their arrays."""
    trees = searched(selection=selection, random_ties=False, solve=False)
    parent = max(trees[0].children(), key=trees[0].visits)
    damaged = {trees[0].children()[1]: 0, trees[0].children(parent)[0]: parent}
    for child, above in damaged.items():
        named = child if visits < 0 else above
        before = int(trees[0].nodes["visits"][child])
        trees[0].nodes["visits"][child] = visits
        save_compiled(tmp_path / "trees.npz", trees)
        trees[0].nodes["visits"][child] = before
        with pytest.raises(ValueError, match=f"tree 0, node {named}: no search leaves these visits; the file is damag"):
            load_compiled(tmp_path / "trees.npz", GAME, ROOTS)


def test_children_that_were_not_visited_in_turn_are_refused(tmp_path: Path) -> None:
    """A search that tries each child once finds the next by the count: it would exchange moves that were made."""
    trees = searched(7)
    children = trees[0].children()
    assert [trees[0].visits(child) for child in children] == [1] * 6 + [0] * 3
    for early in (6, 8):
        damaged = copy.deepcopy(trees)
        damaged[0].nodes["visits"][children[0]], damaged[0].nodes["visits"][children[early]] = 0, 1
        save_compiled(tmp_path / "trees.npz", damaged)
        with pytest.raises(ValueError, match="tree 0, node 0: no search leaves these visits"):
            load_compiled(tmp_path / "trees.npz", GAME, ROOTS)


@pytest.mark.parametrize(
    ("field", "number"), [("value_sum", np.nan), ("value_sum", np.inf), ("factor", np.nan), ("value", np.nan)]
)
@pytest.mark.parametrize("node", [0, 3])
def test_numbers_that_are_none_are_refused(tmp_path: Path, field: str, number: float, node: int) -> None:
    trees = searched()
    trees[1].nodes[field][node] = number
    save_compiled(tmp_path / "trees.npz", trees)
    expected = f"tree 1, node {node}: a value or prior is NaN or infinite; the file is damaged"
    with pytest.raises(ValueError, match=expected):
        load_compiled(tmp_path / "trees.npz", GAME, ROOTS)


def test_draws_and_random_numbers_that_no_search_has_are_refused(tmp_path: Path) -> None:
    trees = searched(selection="gumbel", random_ties=False, solve=False)
    trees[1].gumbel[2] = np.nan
    save_compiled(tmp_path / "trees.npz", trees)
    with pytest.raises(ValueError, match="tree 1: a Gumbel draw is NaN or infinite; the file is damaged"):
        load_compiled(tmp_path / "trees.npz", GAME, ROOTS)
    trees[1].gumbel = np.zeros(9)  # of eight moves
    save_compiled(tmp_path / "trees.npz", trees)
    with pytest.raises(ValueError, match="tree 1, node 0: no position of this game has these children"):
        load_compiled(tmp_path / "trees.npz", GAME, ROOTS)
    trees = searched()
    trees[0].random = 1 << 70
    save_compiled(tmp_path / "trees.npz", trees)
    with pytest.raises(ValueError, match=r"tree 0: .*too large"):
        load_compiled(tmp_path / "trees.npz", GAME, ROOTS)


@pytest.mark.parametrize("options", [{}, {"selection": "puct", "random_ties": False}])
def test_trees_of_every_way_to_grow_are_loaded(tmp_path: Path, options: dict[str, Any]) -> None:
    """Below an earlier depth limit, after a move, solved, and of one simulation."""
    for trees in (searched(1, **options), searched(300, max_depth=1, **options), searched(60_000, **options)):
        for simulations in (trees[0].simulations, trees[0].simulations + 200):
            settings = replace(trees[0].settings, simulations=simulations, max_depth=100)
            compiled.extend(trees, settings=settings)
            save_compiled(tmp_path / "trees.npz", trees)
            for tree, loaded in zip(trees, load_compiled(tmp_path / "trees.npz", GAME, ROOTS), strict=True):
                assert loaded.nodes.tobytes() == tree.nodes.tobytes()
    [tree, _] = searched(2_000, **options)
    tree.reroot(tree.best_action())
    save_compiled(tmp_path / "trees.npz", [tree])
    [loaded] = load_compiled(tmp_path / "trees.npz", GAME, [Root(tree.state)])
    assert loaded.nodes.tobytes() == tree.nodes.tobytes()


SEARCHING = """
    import sys
    import numpy as np
    from branchwise.envs.games.connect_four import ConnectFour
    from branchwise.search import compiled
    from branchwise.search.engine import Root
    from branchwise.search.settings import SearchSettings

    game = ConnectFour()
    told = []

    def progress(simulations, nodes, calls):
        if not told:
            print("searching", flush=True)
        told.append(simulations)

    settings = SearchSettings(simulations=16_000_000, selection="uct")
    roots = [Root(game.reset(0)), Root(game.step(game.reset(0), "4"))]
    compiled.search(game, roots, settings=settings, progress=progress, workers=int(sys.argv[2]), autosave=sys.argv[1])
"""


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_a_signal_saves_and_leaves(tmp_path: Path, number: int, workers: int) -> None:
    path = tmp_path / "trees.npz"
    command = [sys.executable, "-c", textwrap.dedent(SEARCHING), str(path), str(workers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "searching\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == (-signal.SIGINT if number == signal.SIGINT else 128 + number), errors
    game = ConnectFour()
    trees = load_compiled(path, game, [Root(game.reset(0)), Root(game.step(game.reset(0), "4"))])
    assert 0 < trees[0].simulations < 16_000_000
    assert trees[0].stopped == ""
    done = trees[0].simulations
    compiled.extend(trees, settings=SearchSettings(simulations=done + 10, selection="uct"))
    assert trees[0].simulations == done + 10


class _Flat:
    """Settings that are written as earlier versions wrote them."""

    def __init__(self, settings: SearchSettings, **options: Any) -> None:
        self.options = {**vars(flat(settings)), **options}

    def as_json(self) -> dict[str, Any]:
        return self.options


def test_a_reduction_by_nothing_that_was_once_accepted_is_loaded_as_the_parents_value(tmp_path: Path) -> None:
    trees = searched(40, selection="puct", random_ties=False, unvisited_value="reduced", fpu_value=0.2)
    for tree in trees:
        tree.settings = _Flat(tree.settings, fpu_value=0.0)
    save_compiled(tmp_path / "trees.npz", trees)
    for tree in load_compiled(tmp_path / "trees.npz", GAME, ROOTS):
        assert tree.settings.rule == Puct()
