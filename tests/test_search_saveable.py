"""What was searched can be saved and read, whatever the simulator does at some state; and what no file can hold is
refused where it comes in, with the method and the cure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flat_settings import flat_settings

from branchwise.envs.simulator import CHANCE, TERMINAL, Simulator
from branchwise.search.engine import Root, SearchSettings, SearchStopped, extend, search
from branchwise.search.evaluation import RandomRollout
from branchwise.search.store import load_trees, save_trees
from branchwise.search.trees.tree import Tree


class Three(Simulator[tuple[str, ...]]):
    """Three steps of ``a`` or ``b``."""

    def reset(self, seed: int, options: Any = None) -> tuple[str, ...]:
        return ()

    def current_player(self, state: tuple[str, ...]) -> Any:
        return TERMINAL if len(state) >= 3 else 0

    def observation(self, state: tuple[str, ...], player: int = 0) -> Any:
        return repr(state)

    def legal_actions(self, state: tuple[str, ...]) -> Sequence[str]:
        return ["a", "b"]

    def step(self, state: tuple[str, ...], action: str) -> tuple[str, ...]:
        return (*state, action)

    def rewards(self, state: tuple[str, ...]) -> Any:
        return (float(state.count("a")),) * self.players


def searched(simulator: Simulator[Any], **settings: Any) -> Tree:
    given = flat_settings(simulations=12, max_failed_share=1.0, **settings)
    [tree] = search(simulator, [Root((), (), {"seed": 0})], None, RandomRollout(), given, 0)
    return tree


@pytest.mark.parametrize("answer", [OSError("page gone"), None, b"bytes"])
def test_a_node_whose_observation_cannot_be_had_does_not_cost_the_file(answer: Any, tmp_path: Path) -> None:
    class Silent(Three):
        def observation(self, state: tuple[str, ...], player: int = 0) -> Any:
            if state != ("a", "b"):
                return repr(state)
            if isinstance(answer, Exception):
                raise answer
            return answer

    tree = searched(Silent())
    save_trees(tmp_path / "trees.parquet", [tree])
    [loaded] = load_trees(tmp_path / "trees.parquet", Silent())
    assert np.array_equal(loaded.nodes, tree.nodes)
    node = next(node for node in range(1, tree.size) if loaded.states[node] == ("a", "b"))
    with pytest.raises(OSError if isinstance(answer, OSError) else TypeError):
        loaded.transcript(node)
    assert loaded.transcript(tree.children()[0])[-1].text == "('a',)"


def test_actions_and_observations_with_lone_surrogates_come_back_as_they_were(tmp_path: Path) -> None:
    class Odd(Three):
        def legal_actions(self, state: tuple[str, ...]) -> Sequence[str]:
            return ["\ud800", "\ud801", "\ufffd", "é"]

        def observation(self, state: tuple[str, ...], player: int = 0) -> str:
            return "".join(state)

    whole = searched(Odd())
    [tree] = search(Odd(), [Root((), (), {"seed": 0})], None, RandomRollout(), SearchSettings(simulations=7), 0)
    save_trees(tmp_path / "trees.parquet", [tree])
    [loaded] = load_trees(tmp_path / "trees.parquet", Odd())
    assert loaded.actions == tree.actions
    seen = [node for node in range(tree.size) if tree.visits(node)]
    assert [loaded.transcript(node) for node in seen] == [tree.transcript(node) for node in seen]
    [extended] = extend(Odd(), [loaded], None, RandomRollout(), SearchSettings(simulations=12))
    assert extended.actions == whole.actions
    assert np.array_equal(extended.nodes, whole.nodes)


def test_more_players_than_a_node_can_name_are_refused_before_the_search() -> None:
    class Many(Three):
        players = 128

    with pytest.raises(
        ValueError, match=r"Many\.players is 128; a tree holds at most 127 players, so search a game of"
    ):
        searched(Many())
    Many.players = 127
    assert searched(Many()).size > 1


def test_outcomes_of_chance_that_are_no_texts_cost_their_leaf() -> None:
    class Dice(Three):
        def current_player(self, state: tuple[str, ...]) -> Any:
            return CHANCE if state == ("a",) else super().current_player(state)

        def chance_outcomes(self, state: tuple[str, ...]) -> Any:
            return [(1, 0.5), (2, 0.5)]

    tree = searched(Dice())
    assert tree.counters["failed_leaves"] == 1
    assert "Dice.chance_outcomes names an outcome 1 (int); an outcome is a text (str)" in tree.last_error


def test_more_actions_than_a_node_holds_cost_their_leaf() -> None:
    class Wide(Three):
        def legal_actions(self, state: tuple[str, ...]) -> Sequence[str]:
            return [str(place) for place in range(65_536)] if state == ("a",) else ["a", "b"]

    tree = searched(Wide())
    assert tree.counters["failed_leaves"] == 1
    assert "Wide has 65536 actions in one state, and a node holds at most 65535; list fewer" in tree.last_error


NO_NUMBER = r"Paid\.rewards gave .*; return a finite number of at most 3.4e38 for each"
NOT_ONE_A_PLAYER = r"Paid: rewards gives 1\.0 \(float\) with players=1; return one number a player, as \(0\.0,\)"


@pytest.mark.parametrize(
    ("reward", "words"), [("1.0", NO_NUMBER), (None, NO_NUMBER), (1j, NO_NUMBER), (1.0, NOT_ONE_A_PLAYER)]
)
def test_a_reward_of_a_wrong_type_names_the_method_and_the_cure(reward: Any, words: str) -> None:
    class Paid(Three):
        def rewards(self, state: tuple[str, ...]) -> Any:
            rewards: Any = reward if reward == 1.0 else (reward,)
            return rewards if len(state) == 2 else (0.0,)

    with pytest.raises(SearchStopped, match=words):
        searched(Paid())


@pytest.mark.parametrize("player", ["0", None, -0.5, 1j])
def test_a_player_of_a_wrong_type_names_the_method_and_the_cure(player: Any) -> None:
    class Moved(Three):
        def current_player(self, state: tuple[str, ...]) -> Any:
            return player if len(state) == 2 else super().current_player(state)

    try:
        tree = searched(Moved())
    except SearchStopped as stopped:
        [tree] = stopped.trees
    assert "Moved: current_player gives" in tree.last_error
    assert "; return 0, CHANCE or TERMINAL" in tree.last_error
