"""A log-probability is written where a policy measured it, and nowhere else."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flat_settings import flat_settings
from test_search_round_trips import Digits, Judged, Sums

from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.play.transcript import observed
from branchwise.search import compiled
from branchwise.search.engine import Root, SearchSettings, search
from branchwise.search.evaluation import RandomRollout
from branchwise.search.extraction import anchors, best_path_pairs, best_paths, sibling_pairs
from branchwise.search.records import load_pairs, save_pairs
from branchwise.search.store import load_trees, save_trees
from branchwise.search.trees.nodes import INFORMATION
from branchwise.search.trees.tree import Tree

INFORMATION_SETS: dict[str, Any] = {"information": "multiple_observer"}


def grown(simulator: Sums, policy: Any, **options: Any) -> Tree:
    state = simulator.reset(0)
    root = Root(state, (observed(simulator.observation(state)),), {"seed": 0})
    settings = flat_settings(**{"simulations": 30, "solve": False, **options})
    return search(simulator, [root], policy, Judged(simulator.players), settings, np.random.default_rng(0))[0]


@pytest.mark.parametrize(
    ("game", "options"),
    [
        ({}, {}),
        ({}, {"widening": 1.0}),
        ({}, {"transpositions": True}),
        ({"chance": True}, {}),
        ({"players": 2, "hidden": True}, INFORMATION_SETS),
        ({"players": 2, "hidden": True}, {"information": "single_observer"}),
    ],
)
def test_without_a_policy_no_action_has_a_log_probability(game: Any, options: Any, tmp_path: Path) -> None:
    tree = grown(Sums(**game), None, **options)
    assert len(tree) > 10
    assert all(math.isnan(logp) for logp in tree.logps)
    save_trees(tmp_path / "trees.parquet", [tree])
    [loaded] = load_trees(tmp_path / "trees.parquet")
    assert all(math.isnan(logp) for logp in loaded.logps)


def test_pairs_of_a_search_without_a_policy_have_no_logged_reference(tmp_path: Path) -> None:
    settings = SearchSettings(simulations=60, solve=False)
    simulator = Sums()
    root = Root(simulator.reset(0), (observed("go"),), {"seed": 0})
    trees = search(simulator, [root], None, RandomRollout(), settings, np.random.default_rng(0))
    found = [pair for extract in (sibling_pairs, best_path_pairs, best_paths, anchors) for pair in extract(trees[0])[0]]
    assert len(found) > 5
    save_pairs(tmp_path / "pairs.jsonl", found)
    for pair in load_pairs(tmp_path / "pairs.jsonl"):
        assert pair.ref_chosen_logp is None
        assert pair.ref_rejected_logp is None
    assert '_logged": true' not in (tmp_path / "pairs.jsonl").read_text()


def test_with_a_policy_each_listed_action_has_the_policy_s_number() -> None:
    simulator, policy = Sums(), Digits()
    tree = grown(simulator, policy)
    for node in range(1, len(tree)):
        if tree.visits(tree.parent(node)):
            before = tree.transcript(tree.parent(node))
            [scores] = policy.score([before], [["1", "2", "3"]])
            assert tree.logps[node] == scores[int(tree.actions[node]) - 1]


@pytest.mark.parametrize(
    ("game", "options"), [({}, {}), ({}, {"widening": 1.0}), ({"players": 2, "hidden": True}, INFORMATION_SETS)]
)
def test_proposals_keep_the_policy_s_number_and_not_their_share(game: Any, options: Any) -> None:
    tree = grown(Sums(text=True, **game), Digits(), **options)
    logps = [tree.logps[node] for node in range(1, len(tree)) if not tree.has(node, INFORMATION)]
    assert len(logps) > 5
    assert set(logps) == {-1.25}


def test_a_compiled_tree_has_no_log_probabilities() -> None:
    settings = SearchSettings(simulations=50, selection="uct")
    [tree] = compiled.search(TicTacToe(), [Root(TicTacToe().reset(0), task={"seed": 0})], settings=settings)
    assert all(math.isnan(logp) for logp in tree.to_tree().logps)
