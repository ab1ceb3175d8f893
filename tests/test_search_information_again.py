"""Information sets that a walk meets more than once: a door that may be tried four times, and an opponent who moves
twice unseen."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from information_search import grown

from branchwise.envs.simulator import TERMINAL, Simulator
from branchwise.search.engine import SearchSettings, extend
from branchwise.search.rules.options import Uct
from branchwise.search.store import load_trees, save_trees
from branchwise.search.trees.information_tree import InformationTree
from branchwise.search.trees.nodes import INFORMATION


class Tries(NamedTuple):
    code: int
    made: int = 0
    is_open: bool = False


class Vault(Simulator[Tries]):
    """Four tries at a code of 0 or 1. Whoever stands before the closed door sees nothing of the tries before."""

    def reset(self, seed: int, options: Any = None) -> Tries:
        return Tries(seed % 2)

    def current_player(self, state: Tries) -> int:
        return TERMINAL if state.is_open or state.made == 4 else 0

    def observation(self, state: Tries, player: int = 0) -> str:
        return "open" if state.is_open else "door"

    def legal_actions(self, state: Tries) -> list[str]:
        return ["0", "1"]

    def step(self, state: Tries, action: str) -> Tries:
        return Tries(state.code, state.made + 1, int(action) == state.code)

    def rewards(self, state: Tries) -> tuple[float]:
        return (float(state.is_open),)

    def resample(self, state: Tries, player: int, rng: np.random.Generator) -> Tries:
        return state._replace(code=int(rng.integers(2)))


class Unseen(Simulator[str]):
    """Player 0 moves, then player 1 twice, of which player 0 sees nothing, then player 0 once more. A draw."""

    players, zero_sum = 2, True

    def reset(self, seed: int, options: Any = None) -> str:
        return ""

    def current_player(self, state: str) -> int:
        return (0, 1, 1, 0, TERMINAL)[len(state)]

    def observation(self, state: str, player: int = 0) -> str:
        return state if player else state[::3]

    def legal_actions(self, state: str) -> list[str]:
        return ["a", "b"]

    def step(self, state: str, action: str) -> str:
        return state + action

    def rewards(self, state: str) -> tuple[float, float]:
        return 0.0, 0.0

    def resample(self, state: str, player: int, rng: np.random.Generator) -> str:
        return state


def visits_by_set(tree: InformationTree) -> list[tuple[int, int]]:
    """(visits, 1 + the visits of the actions) of each information set that has actions."""
    sets = [node for node in range(len(tree)) if tree.has(node, INFORMATION) and tree.children(node)]
    return [(tree.visits(node), 1 + sum(map(tree.visits, tree.children(node)))) for node in sets]


@pytest.mark.parametrize("simulator", [Vault(), Unseen()])
def test_a_set_that_is_met_again_counts_each_simulation_once(simulator: Simulator[Any]) -> None:
    [tree] = grown(simulator, [simulator.reset(0)], evaluator=lambda *_: 0.0, information="single_observer")
    assert not tree.nodes["pending"].any()
    assert tree.visits(0) == 300
    assert len(tree.again) == {Vault: 3, Unseen: 2}[type(simulator)]
    assert all(visits == below for visits, below in visits_by_set(tree))


def test_each_try_at_a_door_has_a_value_of_its_own() -> None:
    """One try opens it in half of all cases, and two different ones always; below the last of four nothing comes."""
    vault = Vault()
    [tree] = grown(vault, [vault.reset(0)], evaluator=lambda *_: 0.0, simulations=4000, exploration=0.3)
    last = 0
    while last in tree.again:
        last = tree.again[last]
    assert tree.value(0) > 0.85
    assert not any(tree.sets_below(edge) for edge in tree.children(last))


def test_what_was_met_again_is_read_back_from_a_file(tmp_path: Path) -> None:
    vault = Vault()
    settings = SearchSettings(
        simulations=60, selection=Uct(exploration=1.0), solve=False, information="single_observer", uniform_prior=1.0
    )
    options = {"evaluator": lambda *_: 0.0, "information": "single_observer"}
    [whole], [tree] = (grown(vault, [vault.reset(0)], simulations=count, **options) for count in (60, 25))
    tree.task.update({"seed": 0})
    save_trees(tmp_path / "vault.parquet", [tree])
    [loaded] = load_trees(tmp_path / "vault.parquet", vault)
    assert isinstance(loaded, InformationTree)
    assert (loaded.sets, loaded.again) == (tree.sets, tree.again)
    extend(vault, [loaded], None, lambda *_: 0.0, settings)  # type: ignore[list-item]
    assert np.array_equal(loaded.nodes, whole.nodes)


def test_a_tree_does_not_move_on_to_a_set_that_was_met_twice() -> None:
    vault = Vault()
    [tree] = grown(vault, [vault.reset(0)], evaluator=lambda *_: 0.0)
    with pytest.raises(ValueError, match="met that information set twice, and the state does not say which time"):
        tree.reroot_to(vault.step(vault.reset(0), "1"))
