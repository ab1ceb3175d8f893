"""Of several players each reads in a tree, in pairs and in files what it saw and did itself, and nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flat_settings import flat_settings

from branchwise.envs.play.policy import FunctionPolicy
from branchwise.envs.play.task import TaskSource, start
from branchwise.envs.play.transcript import Transcript
from branchwise.envs.registry import environments
from branchwise.envs.wrappers import ListedActions
from branchwise.search.engine import extend, search
from branchwise.search.evaluation import PolicyRollout, RandomRollout
from branchwise.search.extraction import anchors, best_path_pairs, best_paths, sibling_pairs
from branchwise.search.records import load_pairs, save_pairs
from branchwise.search.store import load_trees, save_trees
from branchwise.search.trees.tree import Tree

GAMES = [row.id for row in environments() if row.players > 1 and not row.extra]


def own_words(tree: Tree, game: Any, node: int) -> list[str]:
    """By going down from the root: the reader's observations where it was to move and its actions."""
    path = tree.path(node)
    players = [game.current_player(tree.states[step]) for step in path]
    reader = next((player for player in reversed(players) if player >= 0), 0)
    words = []
    for place, step in enumerate(path):
        last = place == len(path) - 1
        if players[place] == reader or (last and players[place] == -2):
            words.append(game.observation(tree.states[step], reader))
        if players[place] == reader and not last:
            words.append(tree.actions[path[place + 1]])
    return words


def texts(transcript: Transcript) -> list[str]:
    return [turn.text for turn in transcript]


def grown(env_id: str, **settings: Any) -> tuple[Any, Tree, list[tuple[list[str], list[str]]]]:
    """A game, a tree of it, and all that the policy read: transcripts with the actions that it was asked about."""
    source = TaskSource(env_id)
    game: Any = ListedActions(source.simulator("train"))
    read: list[tuple[list[str], list[str]]] = []

    def score(transcript: Transcript, actions: Any) -> list[float]:
        read.append((texts(transcript), list(actions)))
        return [-float(len(action) % 4) for action in actions]

    policy = FunctionPolicy(score)
    [task] = source.tasks(game, "train", 1)
    settings = {"simulations": 60, "revisit": True, "solve": False, "max_failed_share": 0.0, **settings}
    [tree] = search(game, [start(game, task)], policy, PolicyRollout(policy, max_steps=4), flat_settings(**settings), 0)
    return game, tree, read


@pytest.mark.parametrize("env_id", GAMES)
def test_a_player_reads_in_a_tree_what_it_saw_and_did(env_id: str) -> None:
    game, tree, read = grown(env_id)
    expected = [own_words(tree, game, node) for node in range(len(tree)) if tree.visits(node)]
    got = [texts(tree.transcript(node)) for node in range(len(tree)) if tree.visits(node)]
    assert got == expected
    assert len({tree.reader(node) for node in range(len(tree)) if tree.visits(node)}) > 1
    secrets = {
        (player, game.observation(state, player))
        for state in tree.states
        if state is not None
        for player in range(game.players)
    }
    shared = {
        text
        for player, text in secrets
        if any((other, text) in secrets for other in range(game.players) if other != player)
    }
    owner = {text: player for player, text in secrets if text not in shared}
    for words, _ in read:
        seen = [owner[word] for word in words if word in owner]
        assert len(set(seen)) <= 1  # all private observations of one prompt are one player's


@pytest.mark.parametrize("env_id", GAMES)
def test_pairs_of_both_sides_hold_their_own_players_words(env_id: str, tmp_path: Path) -> None:
    game, tree, _ = grown(env_id)
    rows = [
        *sibling_pairs(tree, 0.0)[0],
        *best_path_pairs(tree)[0],
        *best_paths(tree, min_return=-100.0)[0],
        *anchors(tree, -100.0)[0],
    ]
    assert rows
    for row in rows:
        assert texts(row.prompt) == own_words(tree, game, row.node)
        assert [turn.is_agent for turn in row.prompt] == [place % 2 == 1 for place in range(len(row.prompt))]
        assert row.env_id == env_id
    save_pairs(tmp_path / "pairs.jsonl", rows)
    assert [texts(row.prompt) for row in load_pairs(tmp_path / "pairs.jsonl")] == [texts(row.prompt) for row in rows]


@pytest.mark.parametrize("env_id", ["branchwise/CaSiNo-v0", "branchwise/Bargaining-v0", "branchwise/LeducPoker-v0"])
@pytest.mark.parametrize("with_simulator", [True, False])
def test_a_tree_that_was_moved_on_and_saved_still_knows_what_each_player_did(
    env_id: str, with_simulator: bool, tmp_path: Path
) -> None:
    """Two moves on, a save and a load: transcripts are those of the tree that never moved, and it can be extended."""
    game, whole, _ = grown(env_id, simulations=300, exploration=0.3)
    _, tree, _ = grown(env_id, simulations=300, exploration=0.3)
    steps = []
    for _ in range(2):
        child = max((child for child in tree.children(0) if tree.children(child)), key=tree.visits)
        steps.append(tree.actions[child])
        tree.reroot(child)
    top = 0
    for action in steps:
        [top] = [child for child in whole.children(top) if whole.actions[child] == action]
    assert tree.moves == steps
    save_trees(tmp_path / "trees.parquet", [tree])
    [loaded] = load_trees(tmp_path / "trees.parquet", game if with_simulator else None)
    assert (loaded.moves, loaded.before_root) == (tree.moves, tree.before_root)
    for found in (tree, loaded):
        below = {0: top}
        for node in range(1, len(found)):
            if found.visits(node) and found.parent(node) in below:
                [below[node]] = [
                    child
                    for child in whole.children(below[found.parent(node)])
                    if whole.actions[child] == found.actions[node]
                ]
                assert texts(found.transcript(node)) == texts(whole.transcript(below[node]))
        assert len(below) > 5
    if with_simulator:
        before = loaded.visits(0)
        [more] = extend(
            game,
            [loaded],
            None,
            RandomRollout(),
            flat_settings(
                simulations=before + 20, revisit=True, **{name: loaded.settings[name] for name in ("solve",)}
            ),
        )
        assert more.visits(0) >= before


def test_a_node_where_nobody_moves_is_read_by_who_acted_last() -> None:
    game, tree, _ = grown("branchwise/LeducPoker-v0", simulations=400)
    chance = [node for node in range(len(tree)) if tree.is_chance(node) and tree.visits(node)]
    ends = [node for node in range(len(tree)) if tree.is_terminal(node) and tree.visits(node)]
    assert chance
    assert ends
    for node in chance:
        assert tree.transcript(node)[-1].is_agent
        assert tree.transcript(node)[-1].text == tree.actions[node]
        assert tree.reader(node) == tree.player(tree.parent(node))
    for node in ends:
        assert tree.transcript(node)[-1].text == game.observation(tree.states[node], tree.reader(node))
    assert np.unique([tree.reader(node) for node in ends]).tolist() == [0, 1]
