"""Games in which all players move as their search says: a tree a decision, each with its own player's words."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flat_settings import flat_settings

from branchwise.envs.play.policy import FunctionPolicy
from branchwise.envs.play.task import TaskSource
from branchwise.envs.wrappers import ListedActions
from branchwise.search.evaluation import RandomRollout
from branchwise.search.extraction import answers, sibling_pairs
from branchwise.search.presets import suited_settings
from branchwise.search.selfplay import self_play
from branchwise.search.settings import SearchSettings
from branchwise.search.store import load_trees, save_trees
from branchwise.search.trees.tree import Tree

POLICY = FunctionPolicy(lambda transcript, actions: [-float(len(action) % 3) for action in actions])


def played(env_id: str, games: int = 3, seed: int = 0, **settings: Any) -> tuple[Any, list[Tree]]:
    source = TaskSource(env_id)
    game: Any = ListedActions(source.simulator("train"))
    chosen = flat_settings(**{"simulations": 20, "revisit": True, "solve": False, **suited_settings(game), **settings})
    tasks = source.tasks(game, "train", games)
    return game, self_play(game, tasks, POLICY, RandomRollout(), chosen, np.random.default_rng(seed).spawn(games))


@pytest.mark.parametrize("env_id", ["branchwise/TicTacToe-v0", "branchwise/CaSiNo-v0", "branchwise/LeducPoker-v0"])
def test_a_tree_a_decision_and_the_games_go_on_by_their_moves(env_id: str, tmp_path: Path) -> None:
    game, trees = played(env_id)
    assert [tree.index for tree in trees] == list(range(len(trees)))
    by_game: dict[int, list[Tree]] = {}
    for tree in trees:
        by_game.setdefault(tree.task["seed"], []).append(tree)
    assert len(by_game) == 3
    for own in by_game.values():
        said: dict[int, list[str]] = {}
        for place, tree in enumerate(own):
            state, mover = tree.states[0], game.current_player(tree.states[0])
            said.setdefault(mover, []).append(game.observation(state, mover))
            assert [turn.text for turn in tree.transcript(0)] == said[mover]
            assert {player: [turn.text for turn in turns] for player, turns in tree.before_root.items()} == {
                player: words for player, words in said.items() if player != mover
            }
            assert tree.visits(0) >= 20
            if place + 1 < len(own):
                after = own[place + 1].moves
                assert after[: len(tree.moves)] == tree.moves
                move = after[len(tree.moves)]
                assert move in [tree.actions[child] for child in tree.children(0)]
                said[mover].append(move)
    save_trees(tmp_path / "trees.parquet", trees)
    loaded = load_trees(tmp_path / "trees.parquet", game)
    assert [tree.states[0] for tree in loaded] == [tree.states[0] for tree in trees]
    assert [tree.before_root for tree in loaded] == [tree.before_root for tree in trees]


def test_the_same_seed_plays_the_same_games_and_another_one_others() -> None:
    def moves(seed: int) -> list[list[str]]:
        return [tree.moves for tree in played("branchwise/TicTacToe-v0", seed=seed)[1]]

    assert moves(0) == moves(0) != moves(1)


def test_the_answer_of_a_proven_position_is_the_winning_move() -> None:
    _, trees = played("branchwise/TicTacToe-v0", games=6, simulations=200, solve=True)
    won = 0
    for tree in trees:
        rows, dropped = answers(tree, 30)
        assert rows[0].node == 0
        assert rows[0].chosen[0].text == tree.best_action()
        for row in rows:
            assert not row.rejected
            assert not row.node or tree.visits(row.node) >= 30 or tree.is_solved(row.node)
            known = tree.known_returns(row.node)
            winning = [
                tree.actions[child] for child, own in zip(tree.children(row.node), known, strict=True) if own == np.inf
            ]
            if winning:
                won += 1
                assert row.chosen[0].text in winning
        assert sum(dropped.values()) + len(rows) == sum(bool(len(tree.children(node))) for node in range(len(tree)))
    assert won > 20


def test_of_hidden_cards_both_players_get_pairs() -> None:
    _, trees = played("branchwise/LeducPoker-v0", games=8, simulations=60)
    rows = [row for tree in trees for row in sibling_pairs(tree, 0.1)[0]]
    assert {trees[row.tree].player(row.node) for row in rows} == {0, 1}


def test_without_a_policy_a_game_with_compiled_rules_is_searched_compiled_and_its_trees_know_their_past() -> None:
    source = TaskSource("branchwise/TicTacToe-v0")
    game = source.simulator("train")
    settings = SearchSettings(simulations=150, uniform_prior=1.0)
    trees = self_play(
        game, source.tasks(game, "train", 2), None, RandomRollout(), settings,
        np.random.default_rng(0).spawn(2), least_visits=50,
    )  # fmt: skip
    third = next(tree for tree in trees if len(tree.moves) == 2)
    assert [turn.text for turn in third.transcript(0) if turn.is_agent] == third.moves[:1]
    assert third.transcript(0)[-1].text == game.observation(third.states[0], 0)
    assert list(third.before_root) == [1]
    assert third.counters["model_calls"] == 0
    assert all(tree.visits(tree.parent(node)) >= 50 or tree.parent(node) == 0
               for tree in trees for node in range(1, len(tree)))  # fmt: skip
    rows, _ = answers(third)
    assert rows[0].chosen[0].text in game.legal_actions(third.states[0])
