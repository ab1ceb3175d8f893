"""Chance in a tree: luck is nobody's action and nobody's turn, and takes no time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flat_settings import flat_settings
from table_game import TableGame

from branchwise.envs.play.transcript import observed
from branchwise.envs.simulator import CHANCE, Simulator
from branchwise.search.engine import Root, search
from branchwise.search.evaluation import PolicyRollout, RandomRollout
from branchwise.search.extraction import anchors, best_path_pairs, best_paths, sibling_pairs
from branchwise.search.store import load_trees, save_trees
from branchwise.search.trees.children import Children
from branchwise.search.trees.descent import _outcome
from branchwise.search.trees.stepping import Refused
from branchwise.search.trees.tree import Tree
from branchwise.training.value import value_rows

BET = {
    "root": (0, {"bet": ("coin", (0,)), "pass": ("safe", (0.4,))}),
    "coin": (CHANCE, {"heads": ("won", (1,)), "tails": ("lost", (0,))}, [0.5, 0.5]),
}


def grown(game: Simulator[Any], evaluator: Any = None, **options: Any) -> Tree:
    given = flat_settings(**{"simulations": 60, "selection": "uct", **options})
    root = Root(game.reset(0), (observed("root"),), {"seed": 0})
    [tree] = search(game, [root], None, RandomRollout() if evaluator is None else evaluator, given)
    return tree


def words(turns: Any) -> list[str]:
    return [turn.text for turn in turns]


def test_no_pair_and_no_row_holds_luck() -> None:
    tree = grown(TableGame(BET))
    found = [*sibling_pairs(tree)[0], *best_path_pairs(tree)[0], *best_path_pairs(tree, path="final")[0]]
    assert {(words(p.prompt)[-1], words(p.chosen)[0], words(p.rejected)[0]) for p in found} <= {
        ("root", "bet", "pass"),
        ("root", "pass", "bet"),
    }
    assert len(found) == 3
    assert [words(row.chosen) for row in best_paths(tree)[0]] == [["bet"]]  # to heads
    assert [words(row.chosen) for row in anchors(tree, threshold=1.0, min_value=0.0)[0]] == [["bet"]]


def test_a_best_path_goes_on_behind_luck() -> None:
    game = TableGame(
        {
            "root": (0, {"bet": ("coin", (0,)), "pass": ("safe", (0.25,))}),
            "coin": (CHANCE, {"heads": ("again", (0,)), "tails": ("lost", (0,))}, [0.5, 0.5]),
            "again": (0, {"go": ("won", (1,)), "stop": ("half", (0.5,))}),
        }
    )
    pairs = best_path_pairs(grown(game, solve=False))[0]
    assert [(words(pair.chosen), words(pair.rejected)) for pair in pairs] == [(["bet"], ["pass"]), (["go"], ["stop"])]


def test_the_best_return_is_not_kept_where_luck_brings_it() -> None:
    with pytest.raises(Refused, match=r"backup='max' keeps the best return, .* TableGame .* use 'bellman_max'"):
        grown(TableGame(BET), backup="max")
    tree = grown(TableGame(BET), backup="bellman_max", solve=False, simulations=400)
    [bet, _] = tree.children()
    assert tree.value(bet) == pytest.approx(0.5, abs=0.1)


def test_what_is_seen_after_luck_is_what_an_episode_shows() -> None:
    game = TableGame(
        {
            "root": (0, {"bet": ("coin", (0,))}),
            "coin": (CHANCE, {"heads": ("again", (0,)), "tails": ("lost", (0,))}, [0.5, 0.5]),
            "again": (0, {"go": ("won", (1,))}),
        }
    )
    rollout = PolicyRollout(lambda transcript, actions: [0.0] * len(actions), keep_successes=True)
    tree = grown(game, rollout, simulations=8)
    won = next(node for node in range(len(tree)) if tree.states[node][0] == "won")
    assert words(tree.transcript(won)) == ["root", "bet", "again", "go", "won"]
    assert words(rollout.take_successes()[0].transcript) == words(tree.transcript(won))
    coin = tree.children(0)[0]
    assert tree.is_chance(coin)
    assert words(tree.transcript(coin)) == ["root", "bet"]
    assert sorted(words(row.transcript) for row in value_rows(tree)) == [
        ["root"],
        ["root", "bet"],  # to tails, where the episode ends: without what is seen then
        ["root", "bet", "again"],
        ["root", "bet", "again", "go"],
    ]


def test_a_file_keeps_what_is_seen_after_luck(tmp_path: Path) -> None:
    game = TableGame(BET)
    tree = grown(game)
    save_trees(tmp_path / "trees.parquet", [tree])
    [alone], [beside] = load_trees(tmp_path / "trees.parquet"), load_trees(tmp_path / "trees.parquet", game)
    seen = [words(tree.transcript(node)) for node in range(len(tree))]
    assert [words(alone.transcript(node)) for node in range(len(tree))] == seen
    assert [words(beside.transcript(node)) for node in range(len(tree))] == seen
    assert ["root", "bet", "won"] in seen


@pytest.mark.parametrize("solve", [True, False])
def test_a_sure_win_after_luck_is_worth_what_it_is_after_its_steps(solve: bool) -> None:
    """γ = ½: V(heads) = γ · (γ · 1) = ¼ after player 1's one move, V(tails) = −½; so to go is worth −⅛."""
    game = TableGame(
        {
            "root": (0, {"go": ("coin", (0, 0)), "pass": ("end", (0, 0))}),
            "coin": (CHANCE, {"heads": ("one", (0, 0)), "tails": ("other", (0, 0))}, [0.5, 0.5]),
            "one": (1, {"move": ("two", (0, 0))}),
            "two": (0, {"win": ("won", (1, -1)), "lose": ("lost", (-1, 1))}),
            "other": (1, {"win": ("beaten", (-1, 1))}),
        },
        players=2,
        zero_sum=True,
    )
    tree = grown(game, lambda *_: 0.0, simulations=3_000, discount=0.5, solve=solve)
    go, _ = tree.children(0)
    assert tree.value(go) == pytest.approx(-0.125, abs=0.03)
    assert tree.best_action() == "pass"
    assert not any(tree.proof(node) for node in range(len(tree)))


@pytest.mark.parametrize(("selection", "whole"), [("softmax", False), ("uct_bonus", True)])
def test_a_choice_among_all_nodes_refuses_luck(selection: str, whole: bool) -> None:
    given = flat_settings(selection=selection, whole_tree=whole)  # type: ignore[arg-type]
    bonus = (lambda tree, node: 0.0) if whole else None
    game = TableGame(BET)
    with pytest.raises(Refused, match=f"selection='{selection}' chooses among the nodes where a player moves"):
        search(game, [Root(game.reset(0))], None, RandomRollout(), given, bonus=bonus)


def test_an_outcome_that_cannot_come_neither_comes_nor_leaves_anything_open() -> None:
    table = {
        "root": (0, {"bet": ("coin", (0, 0)), "pass": ("end", (-1, 1))}),
        "coin": (CHANCE, {"a": ("w", (1, -1)), "b": ("v", (1, -1)), "never": ("l", (-1, 1))}, [0.5, 0.5, 0.0]),
    }
    tree = grown(TableGame(table, 2, True), lambda *_: 0.0)
    assert tree.proof(0) == "win"
    assert tree.stopped == "solved"


def test_what_rounding_leaves_over_goes_to_an_outcome_that_can_come() -> None:
    """Probabilities are kept in 32 bits, and may add up to less than the draw: here to ¾."""
    tree = Tree(None, None, ())
    tree.add_children(0, Children(list("abc"), [None] * 3, np.array([0.5, 0.25, 0.0]), [0.0] * 3, [0.0] * 3, [0] * 3))
    tree.seed_noise(np.random.default_rng(0))
    drawn = [int(_outcome(tree.nodes, tree._head, 0)) for _ in range(4_000)]
    assert np.bincount(drawn, minlength=4) / 4_000 == pytest.approx([0.0, 0.5, 0.5, 0.0], abs=0.03)
