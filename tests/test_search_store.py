"""What is written comes back equal, others can read it, and damaged files are named."""

import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from branchwise.envs.simulator import TERMINAL, Simulator
from branchwise.search.engine import Root, SearchSettings, extend, search
from branchwise.search.episode import Episode
from branchwise.search.evaluation import PolicyRollout
from branchwise.search.extraction import PreferencePair, anchors, sibling_pairs
from branchwise.search.graph import outline, to_networkx
from branchwise.search.policy import Proposal
from branchwise.search.store import (
    anchors_beside,
    atomically,
    load_episodes,
    load_pairs,
    load_trees,
    save_episodes,
    save_pairs,
    save_trees,
)
from branchwise.search.transcript import Turn, acted, observed
from branchwise.search.tree import Tree


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

    policy_id = "letters"

    def __init__(self) -> None:
        self.calls = 0

    def score(self, transcripts: Any, candidates: Any) -> list[np.ndarray]:
        return [np.log(np.full(len(actions), 1 / len(actions))) for actions in candidates]

    def propose_each(self, transcripts: Any, n: int, rngs: Any) -> list[list[Proposal]]:
        texts = [["a", "b", "ü\u2028\n"][rng.integers(3)] for rng in rngs for _ in range(n)]
        found = [Proposal(text, -1.25, (len(text), 7), (-1.0, -0.25)) for text in texts]
        return [found[i : i + n] for i in range(0, len(found), n)]

    propose = None


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
        extend(Spelling(), [tree], Letters(), PolicyRollout(Letters()), SearchSettings())  # type: ignore[arg-type]


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


def test_damaged_tree_files_are_named(tmp_path: FilePath) -> None:
    path = tmp_path / "trees.parquet"
    with pytest.raises(ValueError, match="no such file"):
        load_trees(path)
    with pytest.raises(ValueError, match="a folder, where a file is expected; save_trees writes one"):
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


def test_nothing_to_save_is_an_error(tmp_path: FilePath) -> None:
    for save in (save_trees, save_pairs, save_episodes):
        with pytest.raises(ValueError, match="to save"):
            save(tmp_path / "file", [])
    assert list(tmp_path.iterdir()) == []


# ---- pairs ------------------------------------------------------------------------------------------------------

PAIRS = [
    PreferencePair(
        prompt=(Turn("system", "Be brief."), observed("page – “ü”\u2028\n"), acted("look"), observed("more")),
        chosen=(acted("buy"),),
        rejected=(acted("leave"),),
        chosen_q=0.75,
        rejected_q=0.1,
        chosen_visits=3,
        rejected_visits=1,
        ref_chosen_logp=-1.0 / 3.0,
        ref_rejected_logp=-2.5,
        weight=0.5,
        margin=0.2,
        label_smoothing=0.1,
        env_id="shop",
        task={"seed": 1, "options": {"goal": 3}},
        tree=2,
        node=5,
        depth=1,
        round=1,
        kind="sibling",
    ),
    PreferencePair(prompt=(observed("x"),), chosen=(acted("y"), observed("z"), acted("w")), task={"seed": "one"}),
    PreferencePair(prompt=(), chosen=(acted("y"),), rejected=(acted(""),), ref_chosen_logp=0.0),
]


def test_pairs_come_back(tmp_path: FilePath) -> None:
    save_pairs(tmp_path / "pairs.jsonl", PAIRS)
    assert load_pairs(tmp_path / "pairs.jsonl") == [PAIRS[0], PAIRS[2], PAIRS[1]]  # anchors have their own file


def test_rows_without_a_rejected_side_have_a_file_of_their_own(tmp_path: FilePath) -> None:
    path = tmp_path / "pairs.jsonl"
    beside = anchors_beside(path)
    assert beside == tmp_path / "pairs.anchors.jsonl"
    save_pairs(path, PAIRS)
    rows = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    assert len(rows) == 2
    assert all(row["chosen"] and row["rejected"] for row in rows)
    [anchor] = [json.loads(line) for line in beside.read_text().splitlines()]
    assert anchor["completion"] == [
        {"role": "assistant", "content": "y"},
        {"role": "user", "content": "z"},
        {"role": "assistant", "content": "w"},
    ]
    assert not {"chosen", "rejected", "label"} & anchor.keys()


def test_anchors_of_an_earlier_extraction_are_not_read_with_later_pairs(tmp_path: FilePath) -> None:
    path = tmp_path / "pairs.jsonl"
    save_pairs(path, PAIRS)
    save_pairs(path, PAIRS[:1])
    assert load_pairs(path) == PAIRS[:1]
    save_pairs(path, PAIRS)
    save_pairs(path, PAIRS[1:2])
    assert load_pairs(path) == PAIRS[1:2]
    assert [file.name for file in tmp_path.iterdir()] == ["pairs.jsonl"]


def test_pairs_of_the_version_before_with_anchors_among_them_are_read(tmp_path: FilePath) -> None:
    row = {
        "prompt": [{"role": "user", "content": "x"}], "chosen": [{"role": "assistant", "content": "y"}],
        "rejected": [{"role": "assistant", "content": ""}], "anchor": True, "chosen_q": 0.5, "rejected_q": 0.0,
        "chosen_visits": 3, "rejected_visits": 0, "weight": 1.0, "margin": 0.0, "label_smoothing": 0.0, "env_id": "e",
        "tree": 1, "node": 2, "depth": 3, "round": 4, "kind": "anchor", "ref_chosen_logp": -1.5,
        "ref_chosen_logged": True, "ref_rejected_logp": 0.0, "ref_rejected_logged": False, "task": '{"seed": 1}',
    }  # fmt: skip
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({**row, "anchor": False}) + "\n")
    anchor, pair = load_pairs(tmp_path / "pairs.jsonl")
    assert anchor == PreferencePair(
        (observed("x"),), (acted("y"),), (), 0.5, 0.0, 3, 0, -1.5, None,
        env_id="e", task={"seed": 1}, tree=1, node=2, depth=3, round=4, kind="anchor",
    )  # fmt: skip
    assert pair == replace(anchor, rejected=(acted(""),))


QUESTION, GOOD, BAD = ({"role": role, "content": text} for role, text in
                       (("user", "2 + 2?"), ("assistant", "4"), ("assistant", "5")))  # fmt: skip
ANSWERED = PreferencePair((observed("2 + 2?"),), (acted("4"),), (acted("5"),))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": [QUESTION], "chosen": [GOOD], "rejected": [BAD]}, ANSWERED),
        ({"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}, ANSWERED),
        ({"prompt": [QUESTION], "chosen": "4", "rejected": "5", "score": 3, "source": {"a": None}}, ANSWERED),
        ({"chosen": [QUESTION, GOOD], "rejected": [QUESTION, BAD]}, ANSWERED),
        ({"prompt": [QUESTION], "completion": [GOOD]}, replace(ANSWERED, rejected=())),
        ({"prompt": "2 + 2?", "completion": "4"}, replace(ANSWERED, rejected=())),
        (
            {"prompt": [{"role": "system", "content": "Add."}, QUESTION], "chosen": [GOOD], "rejected": [BAD]},
            replace(ANSWERED, prompt=(Turn("system", "Add."), observed("2 + 2?"))),
        ),
    ],
)
def test_pairs_that_others_wrote_for_trl_are_read(row: Any, expected: PreferencePair, tmp_path: FilePath) -> None:
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row))
    assert load_pairs(tmp_path / "pairs.jsonl") == [expected]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"weight": "abc"}, "weight='abc'; expected a finite number"),
        ({"margin": math.inf}, "margin=inf; expected a finite number"),
        ({"margin": math.nan}, "margin=nan; expected a finite number"),
        ({"label_smoothing": None}, "label_smoothing=None; expected a finite number"),
        ({"chosen_q": True}, "chosen_q=True; expected a finite number"),
        ({"ref_chosen_logp": "low", "ref_chosen_logged": True}, "ref_chosen_logp='low'; expected a finite number"),
        ({"chosen_visits": 1.5}, "chosen_visits=1.5; expected a whole number"),
        ({"tree": "first"}, "tree='first'; expected a whole number"),
        ({"env_id": 3}, "env_id=3; expected a text"),
        ({"task": "{"}, "task: not JSON"),
        ({"task": "[" * 200_000}, "task: not JSON that can be read"),
        ({"prompt": 3}, "3; expected a text, or a list of messages"),
        ({"chosen": []}, "a side without a message of the assistant"),
        ({"chosen": [{"role": "assistant"}]}, "no field 'content'"),
        ({"chosen": [{"role": "tool", "content": "x"}]}, "a message with role 'tool'"),
        ({"chosen": [{"role": "assistant", "content": ["x"]}]}, "expected a text of one of system, user, assistant"),
        ({"chosen": ["x"]}, "indices"),
        ({"rejected": None}, "None; expected a text"),
        ({"label": True}, "a row with 'label' is for training without pairs"),
    ],
)
def test_a_field_of_a_pair_that_cannot_be_used_is_named(change: Any, fault: str, tmp_path: FilePath) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": [QUESTION], "chosen": [GOOD], "rejected": [BAD], **change}) + "\n")
    with pytest.raises(ValueError, match=re.escape(fault)) as raised:
        load_pairs(path)
    assert str(raised.value).startswith(f"{path}, line 1: ")


def test_pairs_of_real_trees_come_back_without_their_tokens(tmp_path: FilePath) -> None:
    def bare(turns: Any) -> tuple[Turn, ...]:
        return tuple(replace(turn, token_ids=(), logps=(), policy_id="") for turn in turns)

    pairs = [pair for tree in grown(12) for pair in (*sibling_pairs(tree)[0], *anchors(tree)[0])]
    assert len(pairs) > 3
    save_pairs(tmp_path / "pairs.jsonl", pairs)
    ordered = sorted(pairs, key=lambda pair: not pair.rejected)
    assert load_pairs(tmp_path / "pairs.jsonl") == [
        replace(pair, prompt=bare(pair.prompt), chosen=bare(pair.chosen), rejected=bare(pair.rejected))
        for pair in ordered
    ]


@pytest.mark.parametrize("order", [[0, 1, 2], [1, 0, 2], [2, 0]])
def test_datasets_reads_pairs_as_trl_wants_them(tmp_path: FilePath, order: list[int]) -> None:
    datasets = pytest.importorskip("datasets")
    save_pairs(tmp_path / "pairs.jsonl", [PAIRS[i] for i in order])
    loaded = datasets.load_dataset(
        "json", data_files=str(tmp_path / "pairs.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded.column_names[:3] == ["prompt", "chosen", "rejected"]
    assert len(loaded) == 2
    assert {str(loaded.features[name].dtype) for name in ("chosen_q", "ref_chosen_logp", "margin")} == {"float64"}


def test_datasets_reads_anchors_as_trl_s_supervised_trainer_wants_them(tmp_path: FilePath) -> None:
    datasets = pytest.importorskip("datasets")
    save_pairs(tmp_path / "steps.jsonl", [PAIRS[1]] * 3)
    loaded = datasets.load_dataset(
        "json", data_files=str(tmp_path / "steps.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded.column_names[:2] == ["prompt", "completion"]
    row = loaded[0]
    assert {str(loaded.features[name].dtype) for name in ("chosen_q", "ref_chosen_logp", "weight")} == {"float64"}
    assert json.loads(row["task"]) == {"seed": "one"}


def test_lone_surrogates_become_the_replacement_character(tmp_path: FilePath) -> None:
    pair = PreferencePair(prompt=(observed("a\ud800b"),), chosen=(acted("c"),))
    save_pairs(tmp_path / "pairs.jsonl", [pair])
    assert load_pairs(tmp_path / "pairs.jsonl")[0].prompt[0].text == "a\ufffdb"


def test_numbers_of_numpy_are_written(tmp_path: FilePath) -> None:
    pair = PreferencePair((), (acted("c"),), chosen_q=np.float32(0.5), tree=np.int64(3), task={"seed": np.int64(4)})  # type: ignore[arg-type]
    save_pairs(tmp_path / "pairs.jsonl", [pair])
    [loaded] = load_pairs(tmp_path / "pairs.jsonl")
    assert (loaded.chosen_q, loaded.tree, loaded.task) == (0.5, 3, {"seed": 4})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: b"", "is empty"),
        (lambda text: text[:-20], r"line 2: the line has no end; the file was cut off"),
        (lambda text: text.replace(b"more", b"m\xffre"), r"line 1: not UTF-8"),
        (lambda text: b"{}\n" + text, r"line 1: no field 'chosen'"),
        (lambda text: b"prompt,chosen\n" + text, r"line 1: not JSON"),
        (lambda text: text + b"[1, 2]\n", r"line 3: list where an object is expected"),
        (lambda text: text + b"\n", r"line 3: not JSON"),
    ],
)
def test_damaged_pair_files_are_named_by_line(tmp_path: FilePath, damage: Any, message: str) -> None:
    path = tmp_path / "pairs.jsonl"
    save_pairs(path, PAIRS)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        load_pairs(path)


def test_a_missing_pair_file_is_named(tmp_path: FilePath) -> None:
    with pytest.raises(ValueError, match=r"pairs\.jsonl: no such file"):
        load_pairs(tmp_path / "pairs.jsonl")


# ---- episodes ---------------------------------------------------------------------------------------------------


def test_episodes_come_back(tmp_path: FilePath) -> None:
    turn = acted("buy", token_ids=(1, 2), logps=(-0.5, -0.1), policy_id="m")
    episodes = [
        Episode({"seed": 1}, (observed("start"), turn, observed("end")), (0.0, 1.0), True, 2, 1, 5, False),
        Episode({"seed": 2}, (observed("start"),), (), False, 0, truncated=True),
    ]
    save_episodes(tmp_path / "episodes.jsonl", episodes)
    assert load_episodes(tmp_path / "episodes.jsonl") == episodes


def test_pairs_are_no_episodes(tmp_path: FilePath) -> None:
    save_pairs(tmp_path / "pairs.jsonl", PAIRS)
    with pytest.raises(ValueError, match=r"line 1: no field .*an episode"):
        load_episodes(tmp_path / "pairs.jsonl")


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


def test_missing_folders_are_made(tmp_path: FilePath) -> None:
    save_pairs(tmp_path / "a" / "b" / "pairs.jsonl", PAIRS)
    assert len(load_pairs(tmp_path / "a" / "b" / "pairs.jsonl")) == 3


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
    tree.add_children(0, ["long " * 30, "b", "c"], [1, 2, 3], np.full(3, 1 / 3), [0.0] * 3, [0.0] * 3, [2, 0, 0])
    tree._nodes["visits"][:4] = [4, 2, 1, 0]
    tree._nodes["value_sum"][:4] = [1.0, 1.0, 0.0, 0.0]
    assert outline(tree, children=2, width=12).splitlines() == [
        "    4  +0.250  p=1.00  (root)",
        "      2  +0.500  p=0.33  long long l…  [terminal]",
        "      1  +0.000  p=0.33  b",
        "  …  1 more, 0 visits",
    ]
    assert outline(tree, depth=0).count("\n") == 0
