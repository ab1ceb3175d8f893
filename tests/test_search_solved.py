"""What is solved and not lost stays in the race: it counts with what it is known to return, so that the values above it
are those of a plain search, and what is played, the targets and the labels agree."""

from typing import Any, ClassVar

import numpy as np
import pytest
from flat_settings import flat_settings

from branchwise.envs.simulator import CHANCE, TERMINAL, Simulator
from branchwise.search.engine import Root, search
from branchwise.search.extraction import sibling_pairs
from branchwise.search.settings import SearchSettings
from branchwise.search.trees.nodes import LINKED
from branchwise.search.trees.tree import Tree
from branchwise.training.value import value_rows


class Written(Simulator[str]):
    """States are words; ``moves``: state → action → next state; what is not in it is an end. ``luck``: chance moves."""

    moves: ClassVar[dict[str, dict[str, str]]] = {}
    pays: ClassVar[dict[str, tuple[float, ...]]] = {}
    luck: ClassVar[tuple[str, ...]] = ()
    players = 1

    def reset(self, seed: int, options: Any = None) -> str:
        return "root"

    def current_player(self, state: str) -> int:
        if state not in self.moves:
            return TERMINAL
        return CHANCE if state in self.luck else 0

    def legal_actions(self, state: str) -> list[str]:
        return list(self.moves[state])

    def chance_outcomes(self, state: str) -> list[tuple[str, float]]:
        return [(action, 1.0 / len(self.moves[state])) for action in self.moves[state]]

    def observation(self, state: str, player: int = 0) -> str:
        return state

    def step(self, state: str, action: str) -> str:
        return self.moves[state][action]

    def rewards(self, state: str) -> tuple[float, ...]:
        return self.pays.get(state, (0.0,) * self.players)


def corridors(*names: str) -> dict[str, dict[str, str]]:
    """Long ways on, a dot a step."""
    return {name + "." * n: {"on": name + "." * (n + 1)} for name in names for n in range(60)}


class Lure(Written):
    """A is worth 1, by one of twenty actions; the others are long corridors. B ends with 0.1."""

    moves: ClassVar = {
        "root": {"A": "A", "B": "B"},
        "A": {"0": "won"} | {str(i): str(i) for i in range(1, 20)},
        **corridors(*map(str, range(1, 20))),
    }
    pays: ClassVar = {"B": (0.1,), "won": (1.0,)}


def grown(simulator: Written, evaluator: Any = lambda *_: 0.0, bonus: Any = None, **options: Any) -> Tree:
    [tree] = search(simulator, [Root("root")], None, evaluator, flat_settings(**options), 0, bonus=bonus)
    return tree


@pytest.mark.parametrize("selection", ["puct", "uct", "ucb1", "alphazero", "p_ucb", "uct_bonus"])
@pytest.mark.parametrize("backup", ["mean", "bellman"])
@pytest.mark.parametrize("more", [{}, {"normalise": "tree"}, {"normalise": "siblings"}, {"leaves_per_tree": 4}])
def test_the_value_of_a_state_keeps_the_end_that_was_found_below_it(
    selection: str, backup: str, more: dict[str, Any]
) -> None:
    """Once no bonus of what is open reaches what is known, that is counted, as in a plain search."""
    bonus = (lambda tree, node: 0.0) if selection == "uct_bonus" else None
    options = {"selection": selection, "exploration": 0.5, "backup": backup, "simulations": 400} | more
    tree, plain = (grown(Lure(), bonus=bonus, solve=solve, **options) for solve in (True, False))
    assert tree.value(1) == pytest.approx(plain.value(1), abs=0.1)
    assert tree.value(1) > 0.75 or max(tree.visits(1), plain.visits(1)) < 20  # where B was found first


def test_what_is_known_has_no_bonus() -> None:
    """The likeliest action ends with nothing: no further simulation goes there while another may do better."""

    class Dead(Written):
        moves: ClassVar = {"root": {"end": "end", "on": "on"}, **corridors("on")}

    class Likely:
        calls = 0

        def score(self, transcripts: Any, candidates: Any) -> Any:
            return [np.array([0.0, -5.0][: len(actions)]) for actions in candidates]

    [tree] = search(Dead(), [Root("root")], Likely(), lambda *_: 0.0, SearchSettings(simulations=40), 0)
    assert [tree.visits(child) for child in tree.children()] == [1, 38]


def test_what_is_played_and_labelled_follows() -> None:
    tree = grown(Lure())
    assert tree.best_action() == "A"
    assert dict(zip(*tree.policy_target(), strict=True))["A"] > 0.9
    [pair] = [pair for pair in sibling_pairs(tree)[0] if pair.node == 0]
    assert (pair.chosen[0].text, pair.rejected[0].text) == ("A", "B")


@pytest.mark.parametrize("random_ties", [False, True])
def test_of_what_is_known_the_best_alone_is_visited_again(random_ties: bool) -> None:
    class Ends(Written):
        moves: ClassVar = {"root": {name: name for name in "abcd"}, **corridors("d")}
        pays: ClassVar = {"a": (0.1,), "b": (0.4,), "c": (0.4,)}

    tree = grown(Ends(), simulations=60, exploration=1.0, random_ties=random_ties)
    visits = [tree.visits(child) for child in tree.children()]
    assert visits[0] == 1
    assert min(visits[1:3]) == 1
    assert max(visits[1:3]) > visits[3] > 1


class Shop(Written):
    """All is seen: A is worth 1, B 0.5."""

    moves: ClassVar = {"root": {"A": "A", "B": "B"}, "A": {str(i): f"A{i}" for i in range(4)}}
    pays: ClassVar = {"B": (0.5,), "A0": (1.0,)}


@pytest.mark.parametrize("discount", [1.0, 0.5])
def test_a_solved_tree_is_labelled_by_what_is_known(discount: float) -> None:
    tree = grown(Shop(), simulations=400, discount=discount, exploration=10.0)
    assert tree.stopped == "solved"
    assert [tree.value(child) for child in tree.children()] == [discount, 0.5]
    assert tree.value(0) == max(discount, 0.5)
    assert tree.known_returns(0).tolist() == [discount, 0.5]
    ranked = [(pair.chosen[0].text, pair.rejected[0].text) for pair in sibling_pairs(tree)[0] if pair.node == 0]
    assert ranked == ([("A", "B")] if discount == 1.0 else [])
    told = {row.transcript[-1].text: row.q for row in value_rows(tree) if row.transcript}
    assert told["A"] == 1.0


class Tangle(Written):
    """w is lost for who moves there; both u and v lead to it, and beside it v has what a model takes for a win."""

    players, zero_sum = 2, True
    moves: ClassVar = {
        "root": {"x": "u", "y": "v"},
        "u": {"p": "w"},
        "v": {"q": "c", "p": "w"},
        "w": {"z": "lost"},
    } | {"c" * n: {"on": "c" * (n + 1)} for n in range(1, 90)}
    pays: ClassVar = {"lost": (-1.0, 1.0)}

    def current_player(self, state: str) -> int:
        if state.startswith("c"):
            return len(state) % 2 ^ 1
        return {"u": 1, "v": 1, "lost": TERMINAL}.get(state, 0)


@pytest.mark.parametrize("transpositions", [False, True])
def test_a_win_that_another_way_proved_is_one_here(transpositions: bool) -> None:
    tree = grown(
        Tangle(),
        lambda simulator, state, transcript: 0.9 if state.startswith("c") else 0.0,
        simulations=60,
        exploration=0.5,
        transpositions=transpositions,
    )
    assert tree.proof(0) == "loss"
    assert tree.value(0) == -1.0
    assert transpositions == bool((tree.nodes["flags"] & LINKED).any())


@pytest.mark.parametrize("players", [1, 3])
def test_what_is_known_of_a_shared_state_is_known_on_every_way_and_after_a_move(players: int) -> None:
    """w is closed by way of u; the edge from v was visited before that, when little was known of w."""

    class Diamond(Written):
        moves: ClassVar = {
            "root": {"y": "v", "x": "u"},
            "u": {"p": "w"},
            "v": {"p": "w", "q": "k"},
            "w": {"bad": "bad", "good": "good"},
            **corridors("k"),
        }
        pays: ClassVar = {"good": (1.0, 0.5, 0.25)[:players], "bad": (0.0,) * players}

    Diamond.players = players
    worth = {"v": 0.6, "u": 0.5, "w": 0.4}
    judge = lambda simulator, state, _: [worth.get(state, 0.0)] + [0.0] * (players - 1)  # noqa: E731
    tree = grown(Diamond(), judge, simulations=40, exploration=2.0, transpositions=True)
    [v] = [child for child in tree.children() if tree.actions[child] == "y"]
    [w] = [child for child in tree.children(v) if tree.actions[child] == "p"]
    [other] = [c for u in tree.children() if u != v for c in tree.children(u)]
    assert {tree.has(w, LINKED), tree.has(other, LINKED)} == {True, False}
    assert tree.is_solved(w)
    assert [tree.value(edge) for edge in (w, other)] == pytest.approx([1.0, 1.0])
    assert tree.known_returns(v)[0] == pytest.approx(1.0)
    for first in (v, tree.parent(other)):
        moved = grown(Diamond(), judge, simulations=40, exploration=2.0, transpositions=True)
        moved.reroot(first)
        [edge] = [child for child in moved.children() if moved.actions[child] == "p"]
        assert moved.value(edge) == moved.mean(edge) == pytest.approx(1.0)
        assert moved.returns(edge) == pytest.approx([1.0, 0.5, 0.25][:players])


@pytest.mark.parametrize("opposed", [False, True])
def test_a_state_that_luck_leads_to_again_is_worth_what_is_known(opposed: bool) -> None:
    """Two ways lead to s, one through chance. Of s every action is dropped, since it repeats a position."""

    class Back(Written):
        players, zero_sum = (2, True) if opposed else (1, False)
        moves: ClassVar = {"root": {"a": "m", "b": "c"}, "m": {"go": "s"}, "c": {"x": "s"}, "s": {"back": "root"}}
        luck = ("c",)

    tree = grown(Back(), lambda *_: 0.5, simulations=12, exploration=0.0, transpositions=True)
    assert np.isfinite(tree.nodes["value_sum"]).all()
    assert tree.value(0) == pytest.approx(0.5)


def test_a_draw_stays_in_the_race() -> None:
    """Who moves has a draw and nine ways on that a model calls lost: the state is a draw, not −1."""

    class Fork(Written):
        players, zero_sum = 2, True
        moves: ClassVar = {
            "root": {"go": "fork", "other": "k"},
            "fork": {"draw": "draw"} | {f"w{i}": f"w{i}" for i in range(9)},
            **corridors("k", *(f"w{i}" for i in range(9))),
        }

        def current_player(self, state: str) -> int:
            return TERMINAL if state == "draw" else 0 if state == "root" else 1

    def judge(simulator: Any, state: str, transcript: Any) -> float:  # for player 0
        return 0.9 if state.startswith("w") else -0.5

    tree = grown(Fork(), judge, simulations=400, selection="uct", exploration=0.3)
    assert tree.proof(tree.children(1)[0]) == "draw"
    assert tree.value(1) == pytest.approx(0.0, abs=0.1)  # it was 0.9 before
    plain = grown(Fork(), judge, simulations=400, selection="uct", exploration=0.3, solve=False)
    assert tree.value(1) == pytest.approx(plain.value(1), abs=0.1)


class Coin(Written):
    """The root's one action leads to chance, its one outcome to a node of two ends, 1 and 0."""

    moves: ClassVar = {"root": {"bet": "coin"}, "coin": {"heads": "heads"}, "heads": {"a": "won", "b": "lost"}}
    pays: ClassVar = {"won": (1.0,)}
    luck: ClassVar = ("coin",)


def test_an_outcome_of_chance_that_is_solved_is_not_asked_about_again() -> None:
    asked: list[str] = []
    tree = grown(Coin(), lambda _, state, __: asked.append(state) or 0.1, simulations=500)
    assert asked == ["root", "heads"]
    assert tree.value() > 0.98  # not 0.1


def test_an_outcome_of_chance_that_failed_is_not_asked_about_again() -> None:
    asked: list[str] = []

    def judge(simulator: Any, state: str, transcript: Any) -> float:
        asked.append(state)
        return np.nan if state == "heads" else 0.0

    tree = grown(Coin(), judge, simulations=50, max_failed_share=1.0)
    assert asked == ["root", "heads"]
    assert tree.counters["failed_leaves"] == 1


def test_a_target_by_value_is_that_of_the_action_that_is_played() -> None:
    tree = grown(Lure(), simulations=60, final="value")
    actions, shares = tree.policy_target()
    assert shares[actions.index(tree.best_action())] > 0.0
