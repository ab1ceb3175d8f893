"""Trees as deep as a long episode: every public reader walks a chain of 3,000 steps without recursion, for one player,
two with opposed interests and two without, and after saving and loading."""

import sys
from pathlib import Path
from typing import Any

import pytest
from flat_settings import flat_settings

from branchwise.envs.play.transcript import observed
from branchwise.envs.simulator import TERMINAL, Simulator
from branchwise.search import answers as reading
from branchwise.search import extraction
from branchwise.search.engine import Root, SearchSettings, search
from branchwise.search.evaluation import RandomRollout, ValueFunction
from branchwise.search.graph import outline, to_dot, to_networkx
from branchwise.search.store import load_trees, save_trees
from branchwise.search.trees.tree import Tree

STEPS = 3_000


class Chain(Simulator[int]):
    """One way to go, 3,000 steps long; ``pays`` in the end."""

    def __init__(self, pays: tuple[float, ...] = (1.0,), zero_sum: bool = False) -> None:
        self.players, self.pays, self.zero_sum = len(pays), pays, zero_sum

    def reset(self, seed: int, options: Any = None) -> int:
        return 0

    def current_player(self, state: int) -> int:
        return TERMINAL if state >= STEPS else state % self.players

    def observation(self, state: int, player: int = 0) -> str:
        return f"{state}"

    def legal_actions(self, state: int) -> tuple[str, ...]:
        return ("go",) if state < STEPS else ()

    def step(self, state: int, action: str) -> int:
        return state + 1

    def rewards(self, state: int) -> tuple[float, ...]:
        return self.pays if state >= STEPS else (0.0,) * self.players


GAMES = {
    "one player": (Chain(), 1.0),
    "opposed": (Chain((1.0, -1.0), zero_sum=True), 1.0),
    "general sum": (Chain((0.5, 2.0)), 0.5),
}


@pytest.fixture(scope="module")
def trees() -> dict[str, Tree]:
    settings = SearchSettings(simulations=STEPS + 20, selection="uct", max_depth=STEPS + 1, revisit=True)
    grown = {}
    for name, (game, _) in GAMES.items():
        zeros = ValueFunction(lambda simulator, *_: [0.0] * simulator.players)
        zeros.reads_transcripts = False  # type: ignore[attr-defined]  (so that no transcript is known beforehand)
        [grown[name]] = search(game, [Root(0, (observed("0"),), {"seed": 0})], None, zeros, settings)
    return grown


@pytest.mark.parametrize("name", GAMES)
def test_every_reader_walks_to_the_end(name: str, trees: dict[str, Tree]) -> None:
    tree, (_, pays) = trees[name], GAMES[name]
    assert len(tree) == STEPS + 1
    assert tree.stopped == "solved"
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(500)  # the depth of the tree is far beyond, that of a test runner is not
    try:
        transcript = tree.transcript(STEPS)
        own = [state for state in range(STEPS) if tree.player(state) == tree.reader(STEPS)]
        assert [turn.text for turn in transcript[::2]] == [str(state) for state in (*own, STEPS)]
        assert tree.best_action() == reading.action(tree) == reading.action(tree, "temperature") == "go"
        assert reading.principal_variation(tree) == list(range(1, STEPS + 1))
        assert tree.returns(0)[0] == pays
        assert tree.depth(STEPS) == STEPS
        assert tree.path(STEPS) == list(range(STEPS + 1))
        assert tree.policy_target()[1].tolist() == [1.0]
        assert [row.visits for row in reading.child_table(tree)] == [tree.visits(1)]
        assert outline(tree, depth=STEPS).count("\n") == STEPS
        assert to_networkx(tree).number_of_edges() == STEPS
        assert to_dot(tree, nodes=STEPS + 1).count("->") == STEPS
        best, _ = extraction.best_paths(tree, min_return=-1.0)
        assert len(best) == STEPS / tree.players  # those of who moves at the root
        assert extraction.sibling_pairs(tree)[1]["no contrast"] == STEPS
        assert extraction.best_path_pairs(tree, path="final")[1]["single child"] == STEPS
        extraction.anchors(tree)
    finally:
        sys.setrecursionlimit(limit)


def test_a_deep_tree_is_saved_loaded_and_rerooted(trees: dict[str, Tree], tmp_path: Path) -> None:
    tree, (game, _) = trees["general sum"], GAMES["general sum"]
    transcript = tree.transcript(STEPS)
    save_trees(tmp_path / "deep.parquet", [tree])
    [loaded] = load_trees(tmp_path / "deep.parquet", game)
    assert loaded.transcript(STEPS) == transcript
    assert loaded.nodes.tobytes() == tree.nodes.tobytes()
    loaded.reroot(1)
    assert loaded.transcript(STEPS - 1) == transcript
    assert reading.principal_variation(loaded) == list(range(1, STEPS))


@pytest.mark.parametrize("failed", [False, True])
@pytest.mark.parametrize(
    "options", [{"selection": "softmax"}, {"selection": "uct_bonus", "whole_tree": True}, {"selection": "uct"}]
)
def test_every_rule_backs_up_and_takes_back_along_the_whole_path(options: dict[str, Any], failed: bool) -> None:
    steps = 600  # more than the room that a tree's path starts with

    def value(simulator: Any, state: int, transcript: Any) -> list[float]:
        return [float("nan") if failed and state == steps else 0.0] * simulator.players

    settings = flat_settings(simulations=steps + 1, max_depth=steps + 1, revisit=True, **options)
    zeros = ValueFunction(value)
    zeros.reads_transcripts = False  # type: ignore[attr-defined]
    bonus = (lambda tree, node: 0.0) if "whole_tree" in options else None
    [tree] = search(Chain(), [Root(0, (observed("0"),))], None, zeros, settings, bonus=bonus)
    assert tree.nodes["visits"].tolist()[: steps + 1] == [steps + 1 - failed - node for node in range(steps + 1)]
    assert not tree.nodes["pending"].any()
    assert tree.counters["failed_leaves"] == failed


def test_a_rollout_of_3_000_steps_keeps_its_transcript() -> None:
    rollout = RandomRollout(max_steps=STEPS, keep_successes=True)
    settings = SearchSettings(simulations=2, selection="uct")
    [tree] = search(Chain(), [Root(0, (observed("0"),))], None, rollout, settings)
    assert tree.value(0) == 1.0
