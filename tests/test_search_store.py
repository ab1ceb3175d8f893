"""What is written comes back equal, others can read it, and damaged files are named."""

import json
import os
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from information_search import grown as grown_by_information

from branchwise.envs.checked import LARGEST
from branchwise.envs.games.kuhn_poker import KuhnPoker
from branchwise.envs.play.policy import Proposal
from branchwise.envs.play.transcript import Turn, acted, observed
from branchwise.envs.simulator import CHANCE, TERMINAL, Simulator
from branchwise.search.engine import Root, SearchSettings, extend, search
from branchwise.search.evaluation import PolicyRollout
from branchwise.search.extraction import PreferencePair, anchors, sibling_pairs
from branchwise.search.graph import outline, to_networkx
from branchwise.search.records import load_pairs, save_episodes, save_pairs
from branchwise.search.store import atomically, load_trees, save_trees
from branchwise.search.trees.children import Children
from branchwise.search.trees.nodes import NODE
from branchwise.search.trees.tree import Tree


class Word(NamedTuple):
    goal: str
    said: str


class Spelling(Simulator[Word]):
    """Spell the goal letter by letter; the first letter may be any text."""

    def __init__(self, title: str = "spell") -> None:
        self.title = title

    def reset(self, seed: int, options: Any = None) -> Word:
        return Word(["ab", "ba", "bb"][seed % 3], (options or {}).get("said", ""))

    def current_player(self, state: Word) -> int:
        return TERMINAL if len(state.said) >= 2 else 0

    def observation(self, state: Word, player: int = 0) -> str:
        return f"{self.title} {state.goal}: “{state.said}”\n"

    def legal_actions(self, state: Word) -> list[str] | None:
        return ["a", "b"] if state.said else None

    def step(self, state: Word, action: str) -> Word:
        return Word(state.goal, state.said + action[:1])

    def rewards(self, state: Word) -> tuple[float, ...]:
        return (float(state.said == state.goal),)


class Letters:
    """Proposes letters drawn from the generator, with their tokens."""

    def __init__(self) -> None:
        self.calls = 0

    def score(self, transcripts: Any, candidates: Any) -> list[np.ndarray]:
        return [np.log(np.full(len(actions), 1 / len(actions))) for actions in candidates]

    def propose(self, transcripts: Any, n: int, rngs: Any) -> list[list[Proposal]]:
        texts = [["a", "b", "ü\u2028\n"][rng.integers(3)] for rng in rngs for _ in range(n)]
        found = [Proposal(text, -1.25, (len(text), 7), (-1.0, -0.25)) for text in texts]
        return [found[i : i + n] for i in range(0, len(found), n)]


def grown(simulations: int = 6, simulator: Spelling | None = None) -> list[Tree]:
    simulator = simulator or Spelling()
    roots = []
    for seed in range(4):
        task = {"env_id": "spelling", "seed": seed, "options": {"said": "b"} if seed == 3 else {}}
        state = simulator.reset(seed, task["options"])
        transcript = (Turn("system", "Spell."), observed(simulator.observation(state)))
        roots.append(Root(state, transcript, task))
    policy = Letters()
    settings = SearchSettings(simulations=simulations, solve=False)
    return search(simulator, roots, policy, PolicyRollout(policy), settings, np.random.default_rng(5))  # type: ignore[arg-type]


def assert_equal(found: Tree, expected: Tree) -> None:
    assert found.nodes.tobytes() == expected.nodes.tobytes()
    assert found.actions == expected.actions
    np.testing.assert_array_equal(found.logps, expected.logps)
    for name in ("task", "index", "counters", "settings", "last_error", "discount"):
        assert getattr(found, name) == getattr(expected, name)
    for node in range(len(expected)):
        assert found.agent_turn(node) == expected.agent_turn(node)
        if expected.visits(node):
            assert found.transcript(node) == expected.transcript(node)
    assert found.rng.bit_generator.state == expected.rng.bit_generator.state


# ---- trees ------------------------------------------------------------------------------------------------------


def test_trees_come_back_without_a_simulator(tmp_path: FilePath) -> None:
    trees = grown()
    save_trees(tmp_path / "trees.parquet", trees)
    loaded = load_trees(tmp_path / "trees.parquet")
    for found, expected in zip(loaded, trees, strict=True):
        assert_equal(found, expected)
    assert loaded[0].states[0] is None
    assert sibling_pairs(loaded[0]) == sibling_pairs(trees[0])


def test_trees_come_back_with_their_states(tmp_path: FilePath) -> None:
    trees = grown()
    save_trees(tmp_path / "trees.parquet", trees, observations=False)
    for found, expected in zip(load_trees(tmp_path / "trees.parquet", Spelling()), trees, strict=True):
        assert_equal(found, expected)
        assert found.states == expected.states
        assert found._positions == expected._positions


def test_a_search_that_was_saved_and_loaded_goes_on_as_if_it_had_not_been(tmp_path: FilePath) -> None:
    save_trees(tmp_path / "trees.parquet", grown(4))
    trees = load_trees(tmp_path / "trees.parquet", Spelling())
    policy = Letters()
    extend(Spelling(), trees, policy, PolicyRollout(policy), SearchSettings(simulations=12, solve=False))  # type: ignore[arg-type]
    for found, expected in zip(trees, grown(12), strict=True):
        assert_equal(found, expected)


def test_a_root_in_the_middle_of_an_episode_is_replayed_from_its_transcript(tmp_path: FilePath) -> None:
    simulator = Spelling()
    start = simulator.reset(0)
    state = simulator.step(start, "a")
    said = (observed(simulator.observation(start)), acted("a"), observed(simulator.observation(state)))
    policy = Letters()
    trees = search(simulator, [Root(state, said, {"seed": 0})], policy, PolicyRollout(policy))  # type: ignore[arg-type]
    save_trees(tmp_path / "trees.parquet", trees)
    assert load_trees(tmp_path / "trees.parquet", simulator)[0].states == trees[0].states


def test_a_tree_without_words_or_simulator_says_how_to_get_them(tmp_path: FilePath) -> None:
    save_trees(tmp_path / "trees.parquet", grown(), observations=False)
    [tree, *_] = load_trees(tmp_path / "trees.parquet")
    with pytest.raises(ValueError, match="load the tree with its simulator"):
        tree.transcript(1)
    with pytest.raises(ValueError, match=r"load_trees\(path, simulator\)"):
        extend(Spelling(), [tree], Letters(), PolicyRollout(Letters()), SearchSettings(solve=False))  # type: ignore[arg-type]


@pytest.mark.parametrize("folder", ["exp:1", "file:runs", "mock:x"])
def test_a_folder_with_a_colon_is_no_uri(folder: str, tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trees = grown()
    save_trees(f"{folder}/trees.parquet", trees)
    assert len(load_trees(f"{folder}/trees.parquet", Spelling())) == len(trees)


def test_another_simulator_is_noticed(tmp_path: FilePath) -> None:
    save_trees(tmp_path / "trees.parquet", grown())
    with pytest.raises(ValueError, match=r"tree 0, node 0: the simulator says 'write ab.*with the same options"):
        load_trees(tmp_path / "trees.parquet", Spelling("write"))


def test_a_file_of_trees_opens_anywhere(tmp_path: FilePath) -> None:
    trees = grown()
    save_trees(tmp_path / "trees.parquet", trees)
    table = pq.read_table(tmp_path / "trees.parquet")
    assert table.num_rows == sum(map(len, trees))
    assert {"tree", "node", "parent", "action", "visits", "value_sum", "prior"} <= set(table.column_names)
    assert table["logp"].null_count == 0  # what nobody measured is NaN, as in the trees


def test_a_log_probability_that_others_wrote_as_null_is_not_known(tmp_path: FilePath) -> None:
    path = tmp_path / "trees.parquet"
    save_trees(path, grown())
    rewritten(path, "logp", lambda logps: [None, None, *logps[2:]])
    assert np.isnan(load_trees(path)[0].logps[:3]).tolist() == [True, True, False]


def test_replaying_looks_at_the_root_and_at_three_observations(tmp_path: FilePath) -> None:
    """A look may be expensive."""

    class Seen(Spelling):
        looks = 0

        def observation(self, state: Word, player: int = 0) -> str:
            self.looks += 1
            return super().observation(state, player)

    save_trees(tmp_path / "trees.parquet", grown(12)[:1])
    simulator = Seen()
    assert len(load_trees(tmp_path / "trees.parquet", simulator)[0]) > 4
    assert simulator.looks == 4


def test_a_file_of_information_sets_holds_no_observations_beside_their_keys(tmp_path: FilePath) -> None:
    game = KuhnPoker()
    [tree] = grown_by_information(game, [game.step(game.step(game.reset(0), "J"), "Q")], simulations=20)
    save_trees(tmp_path / "trees.parquet", [tree])
    assert pq.read_table(tmp_path / "trees.parquet")["observation"].null_count == len(tree) > 5
    [loaded] = load_trees(tmp_path / "trees.parquet")
    assert [loaded.transcript(node) for node in tree.sets.values()] == [tree.transcript(n) for n in tree.sets.values()]


@pytest.mark.parametrize("moves", [("J", "Q"), ("J", "Q", "pass")])
def test_a_file_of_information_sets_tells_its_root_by_what_its_player_knows(
    moves: tuple[str, ...], tmp_path: FilePath
) -> None:
    game = KuhnPoker()
    state = game.reset(0)
    for move in moves:
        state = game.step(state, move)
    [tree] = grown_by_information(game, [state], simulations=20)
    save_trees(tmp_path / "trees.parquet", [tree])
    about = json.loads(pq.read_table(tmp_path / "trees.parquet")["about"][0].as_py())
    assert about["root"] == game.information_state(state, game.current_player(state))


def test_damaged_tree_files_are_named(tmp_path: FilePath) -> None:
    path = tmp_path / "trees.parquet"
    with pytest.raises(ValueError, match="no such file"):
        load_trees(path)
    with pytest.raises(
        ValueError, match="a folder, where a file is expected; `branchwise search` and save_trees write one"
    ):
        load_trees(tmp_path)
    path.touch()
    with pytest.raises(ValueError, match="is empty"):
        load_trees(path)
    path.write_bytes(b"\xff\xfeforeign")
    with pytest.raises(ValueError, match="expected parquet"):
        load_trees(path)
    save_trees(path, grown())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cut off"):
        load_trees(path)
    pq.write_table(pa.table({"tree": [0]}), path)
    with pytest.raises(ValueError, match="without the columns node"):
        load_trees(path)
    path.write_bytes(whole)
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["prior", "about"]), path)
    with pytest.raises(ValueError, match="found b'branchwise trees 2', without the columns prior, about; it was"):
        load_trees(path)
    for metadata, found in ((None, "None"), ({"format": "branchwise trees 3"}, "b'branchwise trees 3'")):
        pq.write_table(table.replace_schema_metadata(metadata), path)
        with pytest.raises(ValueError, match=f"expected format 'branchwise trees 2', found {found}; it was written by"):
            load_trees(path)


def test_a_tree_whose_links_do_not_fit_is_named(tmp_path: FilePath) -> None:
    path = tmp_path / "trees.parquet"
    save_trees(path, grown())
    table = pq.read_table(path)
    parents = table["parent"].to_pylist()
    parents[2] = 17
    column = table.schema.get_field_index("parent")
    pq.write_table(table.set_column(column, table.schema.field(column), pa.array(parents, pa.int32())), path)
    with pytest.raises(ValueError, match=r"tree 0, node 2: parent and children do not fit"):
        load_trees(path)


@pytest.mark.parametrize(("name", "node", "value"), [("parent", 2, 1), ("children", 0, 2), ("children", 1, 1)])
def test_a_node_outside_of_its_parents_block_is_named(name: str, node: int, value: int, tmp_path: FilePath) -> None:
    """A root with three children of two children each; one number is another."""
    tree = Tree(None, None, (observed("start"),))
    numbers = np.zeros(10, NODE)
    numbers["parent"] = [-1, 0, 0, 0, 1, 1, 2, 2, 3, 3]
    numbers["first_child"] = [1, 4, 6, 8, -1, -1, -1, -1, -1, -1]
    numbers["children"] = [3, 2, 2, 2, 0, 0, 0, 0, 0, 0]
    tree.restore(numbers, [""] + ["a"] * 9, [0.0] * 10, {})
    path = tmp_path / "trees.parquet"
    save_trees(path, [tree])
    assert len(load_trees(path)[0]) == 10
    numbers[name][node] = value
    save_trees(path, [tree])
    with pytest.raises(ValueError, match="parent and children do not fit; the file is damaged"):
        load_trees(path)


def rewritten(path: FilePath, name: str, change: Any) -> None:
    """The tree file with the values of one column changed."""
    table = pq.read_table(path)
    place = table.schema.get_field_index(name)
    column = pa.array(change(table[name].to_pylist()), table.schema.field(name).type)
    pq.write_table(table.set_column(place, table.schema.field(name), column), path)


def test_parents_and_blocks_in_a_file_of_information_sets_that_lead_beyond_the_tree_are_named(
    tmp_path: FilePath,
) -> None:
    """No sum over the blocks tells it there: sets turn up in any order."""
    game, path = KuhnPoker(), tmp_path / "trees.parquet"
    [tree] = grown_by_information(game, [game.step(game.step(game.reset(0), "J"), "Q")], simulations=20)
    save_trees(path, [tree])
    for name, place, number in (
        ("parent", 0, 0), ("parent", 3, -1), ("parent", 3, 3), ("parent", 3, len(tree)), ("node", 3, 4),
        ("children", 3, len(tree)),
    ):  # fmt: skip
        rewritten(
            path, name, lambda values, place=place, number=number: [*values[:place], number, *values[place + 1 :]]
        )
        with pytest.raises(ValueError, match=f"tree 0, node {place}: parent and children do not fit"):
            load_trees(path)
        save_trees(path, [tree])
    for name, number in (("first_child", 3), ("children", 1)):  # its own child
        rewritten(path, name, lambda values, number=number: [*values[:3], number, *values[4:]])
    with pytest.raises(ValueError, match="tree 0, node 3: parent and children do not fit"):
        load_trees(path)
    save_trees(path, [tree])
    for name, number in (("first_child", len(tree) - 1), ("children", 2)):
        rewritten(path, name, lambda values, number=number: [*values[:3], number, *values[4:]])
    with pytest.raises(ValueError, match="tree 0, node 3: parent and children do not fit"):
        load_trees(path)


def test_a_task_that_json_cannot_hold_is_named_and_nothing_is_written(tmp_path: FilePath) -> None:
    tree, *_ = grown()
    tree.task = {"seed": 0, "options": {1, 2}}  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"the task of tree 0 is .*\{1, 2\}.*; expected what JSON can hold"):
        save_trees(tmp_path / "trees.parquet", [tree])
    pair = PreferencePair((), (acted("c"),), task={"seed": {1, 2}})
    with pytest.raises(TypeError, match=r"\{1, 2\} cannot be written as JSON"):
        save_pairs(tmp_path / "pairs.jsonl", [pair])
    assert list(tmp_path.iterdir()) == []


def test_texts_that_utf_8_cannot_hold_come_back_and_must_fit_their_column(tmp_path: FilePath) -> None:
    path = tmp_path / "trees.parquet"
    tree = Tree(None, None, (observed("start"),), {"seed": 0})
    tree.add_children(0, Children(["a\ud800b", "c"], [None] * 2, np.full(2, 0.5), [0.0] * 2, [0.0] * 2, [0, 0]))
    tree.remember_observation(1, "broken \udfff")
    tree._nodes["visits"][:2] = 1
    save_trees(path, [tree])
    assert pq.read_table(path)["action"].to_pylist() == ["", "a\ufffdb", "c"]
    [loaded] = load_trees(path)
    assert loaded.actions == ["", "a\ud800b", "c"]
    assert loaded.transcript(1)[-1].text == "broken \udfff"
    for name, fault in (("action", r"action of node 1 is 'z', and exactly"), ("observation", "observation of node 1")):
        save_trees(path, [tree])
        rewritten(path, name, lambda texts: [texts[0], "z", *texts[2:]])
        with pytest.raises(ValueError, match=rf"tree 0: the root's 'about' is not what save_trees writes .*{fault}"):
            load_trees(path)


@pytest.mark.parametrize(
    "text", ["{", "[1]", "{}", '{"role": "assistant", "content": "a", "is_agent": true, "token_ids": 3}']
)
def test_a_logged_turn_that_is_none_is_named_with_its_node(text: str, tmp_path: FilePath) -> None:
    path = tmp_path / "trees.parquet"
    save_trees(path, grown())
    rewritten(path, "logged", lambda turns: [*turns[:2], text, *turns[3:]])
    with pytest.raises(ValueError, match=r"tree 0, node 2: 'logged' is not what save_trees writes"):
        load_trees(path)


def test_returns_of_another_number_of_players_are_named(tmp_path: FilePath) -> None:
    path = tmp_path / "trees.parquet"
    tree = Tree(None, None, (observed("start"),), {"seed": 0}, players=3)
    assert tree.all_returns().shape == (1, 6)
    save_trees(path, [tree])
    np.testing.assert_array_equal(load_trees(path)[0].all_returns(), tree.all_returns())
    rewritten(path, "returns", lambda returns: [[0.0] * 4])
    with pytest.raises(
        ValueError, match=r"tree 0: returns of shape \(1, 4\) for 1 nodes and 3 players; the file is dama"
    ):
        load_trees(path)


def test_returns_of_some_nodes_alone_are_named(tmp_path: FilePath) -> None:
    path = tmp_path / "trees.parquet"
    save_trees(path, grown()[:1])
    for returns in (lambda old: [[0.0, 0.0], *old[1:]], lambda old: [[0.0, 0.0], *([[0.0]] * (len(old) - 1))]):
        save_trees(path, grown()[:1])
        rewritten(path, "returns", returns)
        with pytest.raises(ValueError, match=r"tree 0: .*; the file is damaged"):
            load_trees(path)


class Mute(Spelling):
    """Says nothing at the start but an error."""

    def observation(self, state: Word, player: int = 0) -> str:
        if not state.said:
            raise RuntimeError("no voice")
        return super().observation(state, player)


@pytest.mark.parametrize(("saved", "loaded"), [(Mute, Mute), (Mute, Spelling), (Spelling, Mute)])
def test_a_root_of_which_nothing_can_be_said_is_saved_and_not_compared(
    saved: Any, loaded: Any, tmp_path: FilePath
) -> None:
    tree = grown()[0]
    assert tree.simulator is not None
    tree.attach(saved(), tree.states)
    save_trees(tmp_path / "trees.parquet", [tree])
    about = json.loads(pq.read_table(tmp_path / "trees.parquet")["about"][0].as_py())
    assert (about["root"] is None) is (saved is Mute)
    [found] = load_trees(tmp_path / "trees.parquet", loaded())
    assert found.states == tree.states


def test_a_tree_whose_task_has_no_seed_is_read_and_not_replayed(tmp_path: FilePath) -> None:
    trees = grown()
    for tree in trees:
        tree.task = {"env_id": "spelling"}
    save_trees(tmp_path / "trees.parquet", trees)
    assert len(load_trees(tmp_path / "trees.parquet")) == len(trees)
    with pytest.raises(
        ValueError, match=r"tree 0: the task \{'env_id': 'spelling'\} has no 'seed', so its states cannot"
    ):
        load_trees(tmp_path / "trees.parquet", Spelling())


@pytest.mark.parametrize("node", [1, 2, 3])
def test_the_first_three_observations_of_a_file_are_held_to_the_simulator(node: int, tmp_path: FilePath) -> None:
    path = tmp_path / "trees.parquet"
    trees = grown(12)[:1]
    save_trees(path, trees)
    seen = [number for number, text in enumerate(pq.read_table(path)["observation"].to_pylist()) if text is not None]
    changed = seen[node - 1]
    rewritten(path, "observation", lambda texts: [*texts[:changed], "another", *texts[changed + 1 :]])
    with pytest.raises(
        ValueError, match=rf"tree 0, node {changed}: the simulator says .* where the file has 'another'"
    ):
        load_trees(path, Spelling())


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"players": 0}, "players=0; expected a whole number from 1 to 127"),
        ({"players": 2, "zero_sum": True}, ""),
        ({"players": 127}, r"returns of shape \(3,\) for 3 nodes and 127 players; the file is damaged"),
        ({"information_sets": True}, "information_sets says other than the root's flags"),
        ({"players": 128}, "players=128; expected"),
        ({"players": 1.0}, "players=1.0; expected"),
        ({"discount": 0.0}, ""),
        ({"discount": 1.0}, ""),
        ({"discount": -0.001}, "discount=-0.001; expected a number from 0 to 1"),
        ({"discount": 1.001}, "discount=1.001; expected"),
        ({"task": []}, r"task=\[\]; expected an object"),
        ({"counters": 3}, "counters=3; expected an object"),
        ({"gumbel": [0.5], "considered": []}, "1 Gumbel draws and 0 turns for 2 actions"),
        ({"gumbel": [], "considered": [1]}, "0 Gumbel draws and 1 turns for 2 actions"),
        ({"gumbel": [0.5], "considered": [1]}, "1 Gumbel draws and 1 turns for 2 actions"),
        ({"gumbel": [0.5, 0.25], "considered": [1, 2]}, ""),
    ],
)
def test_numbers_that_steer_a_tree_are_read_up_to_their_limits(change: Any, fault: str, tmp_path: FilePath) -> None:
    path = tmp_path / "trees.parquet"
    tree = Tree(None, None, (observed("start"),), {"seed": 0})
    tree.add_children(0, Children(["a", "b"], [None] * 2, np.full(2, 0.5), [0.0] * 2, [0.0] * 2, [0, 0]))
    save_trees(path, [tree])
    rewritten(path, "about", lambda abouts: [json.dumps({**json.loads(abouts[0]), **change}), *abouts[1:]])
    if not fault:
        [loaded] = load_trees(path)
        for name, value in change.items():
            assert loaded.beside_nodes().get(name, getattr(loaded, name, None)) == value
        return
    with pytest.raises(ValueError, match=fault):
        load_trees(path)


def test_a_file_of_an_earlier_version_that_counted_failed_leaves_beside_the_nodes_is_read(tmp_path: FilePath) -> None:
    path = tmp_path / "trees.parquet"
    save_trees(path, grown())

    def earlier(abouts: Any) -> Any:
        written = json.loads(abouts[0])
        written["head"]["failed"] = 0
        return [json.dumps(written), *abouts[1:]]

    expected = load_trees(path)[0].beside_nodes()
    rewritten(path, "about", earlier)
    assert load_trees(path)[0].beside_nodes() == expected


@pytest.mark.parametrize(
    ("name", "node", "value"),
    [
        ("node", 1, 2),
        ("parent", 0, 0),
        ("parent", 1, -1),
        ("parent", 1, 1),
        ("parent", 1, 2),
        ("parent", 3, 1),  # the last child of the root is another's
        ("parent", 4, 0),  # the first child of node 1 is another's
        ("first_child", 0, 0),
        ("first_child", 0, 2),
        ("first_child", 1, 1),
        ("first_child", 1, 9),
        ("children", 0, 4),
        ("children", 0, 10),
        ("children", 1, 3),
        ("children", 2, 3),  # one more than there are nodes
        ("children", 3, 1),
        ("player", 1, CHANCE - 1),
        ("proof", 1, 4),
        ("visits", 1, -1),
        *((name, 1, value) for name in ("value_sum", "prior", "reward", "hint") for value in (np.nan, np.inf, -np.inf)),
        ("prior", 1, -0.001),
        ("prior", 1, 1.01),
        ("value_sum", 1, 1e39),
    ],
)
def test_a_record_that_does_not_fit_the_others_is_named(name: str, node: int, value: float, tmp_path: FilePath) -> None:
    path = tmp_path / "trees.parquet"
    tree = Tree(None, None, (observed("start"),), {"seed": 0})
    for parent, count in ((0, 3), (1, 2), (2, 2)):
        shares, zeros = np.full(count, 1 / count), [0.0] * count
        tree.add_children(parent, Children(list("abc")[:count], [None] * count, shares, zeros, zeros, [0] * count))
    assert tree.nodes["parent"].tolist() == [-1, 0, 0, 0, 1, 1, 2, 2]
    save_trees(path, [tree])
    rewritten(path, name, lambda values: [*values[:node], value, *values[node + 1 :]])
    of_links = name in ("node", "parent", "first_child", "children")
    fault = "parent and children do not" if of_links else "no such player, proof, visits, prior or value"
    with pytest.raises(ValueError, match=rf"tree 0, node \d+: {fault}"):
        load_trees(path)


@pytest.mark.parametrize(("name", "value"), [("player", CHANCE), ("proof", 3), ("visits", 0)])
def test_a_record_at_the_limit_of_what_fits_is_read(name: str, value: int, tmp_path: FilePath) -> None:
    path = tmp_path / "trees.parquet"
    tree = Tree(None, None, (observed("start"),), {"seed": 0})
    tree.add_children(0, Children(["a", "b"], [None] * 2, np.full(2, 0.5), [0.0] * 2, [0.0] * 2, [0, 0]))
    save_trees(path, [tree])
    rewritten(path, name, lambda values: [values[0], value, values[2]])
    assert load_trees(path)[0].nodes[name][1] == value


@pytest.mark.parametrize(
    ("visits", "largest", "read"),
    [
        (0, 1.0, True),
        (0, 1.5, False),
        (1, 1.0, True),
        (1, 1.5, False),
        (4, 4.0, True),
        (4, -4.0, True),
        (4, 4.5, False),
    ],
)
def test_a_sum_of_returns_is_as_large_as_its_visits_allow(
    visits: int, largest: float, read: bool, tmp_path: FilePath
) -> None:
    """In largest returns; what is known of a state without a visit counts as one."""
    path = tmp_path / "trees.parquet"
    tree = Tree(None, None, (observed("start"),), {"seed": 0})
    tree.add_children(0, Children(["a"], [None], np.ones(1), [0.0], [0.0], [0]))
    tree.nodes["visits"][1], tree.nodes["value_sum"][1] = visits, largest * LARGEST
    save_trees(path, [tree])
    if read:
        assert load_trees(path)[0].nodes["value_sum"][1] == largest * LARGEST
    else:
        with pytest.raises(ValueError, match="tree 0, node 1: no such player, proof, visits, prior or value"):
            load_trees(path)


def test_nothing_to_save_is_an_error(tmp_path: FilePath) -> None:
    for save in (save_trees, save_pairs, save_episodes):
        with pytest.raises(ValueError, match="to save"):
            save(tmp_path / "file", [])
    assert list(tmp_path.iterdir()) == []


def test_pairs_of_real_trees_come_back_without_their_tokens(tmp_path: FilePath) -> None:
    def bare(turns: Any) -> tuple[Turn, ...]:
        return tuple(replace(turn, token_ids=(), logps=()) for turn in turns)

    pairs = [pair for tree in grown(12) for pair in (*sibling_pairs(tree)[0], *anchors(tree)[0])]
    assert len(pairs) > 3
    save_pairs(tmp_path / "pairs.jsonl", pairs)
    ordered = sorted(pairs, key=lambda pair: not pair.rejected)
    assert load_pairs(tmp_path / "pairs.jsonl") == [
        replace(pair, prompt=bare(pair.prompt), chosen=bare(pair.chosen), rejected=bare(pair.rejected))
        for pair in ordered
    ]


# ---- writing ----------------------------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: FilePath) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write_half() -> None:
        with atomically(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


# ---- pictures ---------------------------------------------------------------------------------------------------


def test_the_graph_has_the_trees_nodes_and_edges() -> None:
    [tree, *_] = grown()
    graph = to_networkx(tree)
    assert nx.is_arborescence(graph)
    assert len(graph) == len(tree)
    assert graph.nodes[0]["visits"] == 6
    assert all(graph.nodes[node]["depth"] == tree.depth(node) for node in graph)
    visited = to_networkx(tree, visited_only=True)
    assert set(visited) == {node for node in range(len(tree)) if tree.visits(node)}


def test_the_outline_shows_visits_values_and_what_it_leaves_out() -> None:
    tree = Tree(None, None, ())
    tree.add_children(
        0, Children(["long " * 30, "b", "c"], [1, 2, 3], np.full(3, 1 / 3), [0.0] * 3, [0.0] * 3, [2, 0, 0])
    )
    tree._nodes["visits"][:4] = [4, 2, 1, 0]
    tree._nodes["value_sum"][:4] = [1.0, 1.0, 0.0, 0.0]
    assert outline(tree, children=2, width=12).splitlines() == [
        "    4  +0.250  p=1.00  (root)",
        "      2  +0.500  p=0.33  long long l…  [terminal]",
        "      1  +0.000  p=0.33  b",
        "  …  1 more, 0 visits",
    ]
    assert outline(tree, depth=0).count("\n") == 0
