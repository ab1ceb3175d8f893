"""Search under hidden information against a plain-Python twin, node by node; where nothing is hidden, against the plain
search; and what is kept of a tree when the game goes on. Poker stands in test_search_poker.py."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from flat_settings import flat, flat_settings
from information_search import grown
from random_numbers import digest

from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.play.transcript import observed
from branchwise.envs.simulator import CHANCE, TERMINAL, Simulator
from branchwise.search.engine import Root, SearchSettings, extend, search
from branchwise.search.evaluation import Leaf
from branchwise.search.rules.options import Uct
from branchwise.search.trees.information_tree import InformationTree
from branchwise.search.trees.nodes import EXPANDED, FAILED, INFORMATION

# ---- node by node -----------------------------------------------------------------------------------------------


class Table(NamedTuple):
    seed: int
    secrets: tuple[int, ...]
    moves: tuple[str, ...]


class Secrets(Simulator[Table]):
    """Everyone holds a secret of 0 to 2, which says how many actions they have; of the others' moves one sees only
    whether they are even. After two moves chance shows a card. Pays at random, step by step, to each their own."""

    def __init__(self, players: int, zero_sum: bool) -> None:
        self.players, self.zero_sum = players, zero_sum

    def reset(self, seed: int, options: Any = None) -> Table:
        return Table(seed, tuple(digest("secret", seed, player) % 3 for player in range(self.players)), ())

    def current_player(self, state: Table) -> int:
        if len(state.moves) == 2:
            return CHANCE
        return TERMINAL if len(state.moves) >= 6 else len(state.moves) % self.players

    def chance_outcomes(self, state: Table) -> list[tuple[str, float]]:
        return [("0", 0.5), ("1", 0.2), ("2", 0.3)]

    def legal_actions(self, state: Table) -> list[str]:
        return [str(i) for i in range(2 + state.secrets[self.current_player(state)])]

    def step(self, state: Table, action: str) -> Table:
        return state._replace(moves=(*state.moves, action))

    def observation(self, state: Table, player: int = 0) -> str:
        return self.information_state(state, player)

    def information_state(self, state: Table, player: int) -> str:
        seen = [
            move if place == 2 or place % self.players == player else "eo"[int(move) % 2]
            for place, move in enumerate(state.moves)
        ]
        return f"{state.seed} {state.secrets[player]} {''.join(seen)}"

    def resample(self, state: Table, player: int, rng: np.random.Generator) -> Table:
        secrets = [int(rng.integers(3)) for _ in state.secrets]
        secrets[player] = state.secrets[player]
        return state._replace(secrets=tuple(secrets))

    def rewards(self, state: Table) -> tuple[float, ...]:
        if self.zero_sum:
            won = float(digest("won", state) % 3 - 1) if len(state.moves) >= 6 else 0.0
            return (won, -won)
        return tuple(digest("pay", state, player) % 5 / 8 if state.moves else 0.0 for player in range(self.players))


class Judge:
    calls = 0

    def evaluate(self, leaves: Sequence[Leaf]) -> np.ndarray:
        values = [[digest("value", leaf.state, p) / 2**53 for p in range(leaf.simulator.players)] for leaf in leaves]
        if getattr(leaves[0].simulator, "zero_sum", False):
            return np.array([[value[0], -value[0]] for value in values])
        return np.array(values)


class Seat:
    """An information set of the twin: who moves there, and of each action [visits, available, sum of returns]."""

    def __init__(self, player: int) -> None:
        self.player, self.visits, self.total = player, 0, 0.0
        self.known = False
        self.edges: dict[str, list[float]] = {}


class Twin:
    """Information-set search as Cowling, Powley and Whitehouse (2012) write it, with nothing but dictionaries."""

    def __init__(self, simulator: Secrets, settings: SearchSettings, state: Table, rng: np.random.Generator) -> None:
        self.simulator, self.settings, self.state, self.rng = simulator, flat(settings), state, rng
        self.viewer = simulator.current_player(state)
        self.seats: dict[tuple[int, str], Seat] = {}
        self.low, self.high = math.inf, -math.inf  # of every mean below the root that was ever backed up
        for _ in range(settings.simulations):
            self.simulate(simulator.resample(state, self.viewer, rng), self.viewer)

    def simulate(self, state: Table, mover: int, depth: int = 0) -> list[float]:
        observer = self.viewer if self.settings.information == "single_observer" else mover
        seat = self.seats.setdefault((mover, self.simulator.information_state(state, observer)), Seat(mover))
        legal = self.simulator.legal_actions(state)
        if not seat.known or depth >= self.settings.max_depth:
            if depth < self.settings.max_depth:
                seat.known = True
                seat.edges = {action: [0, 0, 0.0] for action in legal}
            returns = Judge().evaluate([Leaf(self.simulator, state, (), False, self.rng)])[0].tolist()
        else:
            action = self.choose(seat, legal)
            state = self.simulator.step(state, action)
            earned = list(self.simulator.rewards(state))
            if self.simulator.current_player(state) == CHANCE:
                outcomes = self.simulator.chance_outcomes(state)
                draw, passed, card = self.rng.random(), 0.0, outcomes[-1][0]
                for outcome, share in outcomes:
                    passed += share
                    if draw < passed:
                        card = outcome
                        break
                state = self.simulator.step(state, card)
                earned = [a + b for a, b in zip(earned, self.simulator.rewards(state), strict=True)]
            mover = self.simulator.current_player(state)
            below = [0.0] * self.simulator.players if mover == TERMINAL else self.simulate(state, mover, depth + 1)
            returns = [r + self.settings.discount * v for r, v in zip(earned, below, strict=True)]
            seat.edges[action][0] += 1
            seat.edges[action][2] += returns[seat.player]
            self.widen(seat.edges[action][2] / seat.edges[action][0])
        seat.visits += 1
        seat.total += returns[seat.player]
        if depth:
            self.widen(seat.total / seat.visits)
        return returns

    def widen(self, mean: float) -> None:
        self.low, self.high = min(self.low, mean), max(self.high, mean)

    def scaled(self, value: float) -> float:
        if self.settings.normalise == "no":
            return value
        return (value - self.low) / max(self.high - self.low, 1e-8) if self.high > self.low else 0.0

    def choose(self, seat: Seat, legal: Sequence[str]) -> str:
        best, best_score = "", -math.inf
        for action in legal:
            edge = seat.edges.setdefault(action, [0, 0, 0.0])
            edge[1] += 1
            visits, available, total = edge
            if self.settings.selection == "uct":
                score = 1e30
                if visits:
                    explore = math.sqrt(2 * math.log(available) / visits)
                    score = total / visits + self.settings.exploration * explore
            elif self.settings.selection == "puct":
                score = total / visits if visits else seat.total / seat.visits
                prior = float(np.float32(1 / len(legal)))
                score += self.settings.exploration * prior * math.sqrt(available) / (1 + visits)
            else:
                first = self.scaled(seat.total / seat.visits) if self.settings.unvisited_value == "parent" else 0.0
                score = self.scaled(total / visits) if visits else first
                score += self.settings.exploration * math.sqrt(math.log(available) / (1 + visits))
            if score > best_score:
                best, best_score = action, score
        return best


@pytest.mark.parametrize("kind", ["single_observer", "multiple_observer"])
@pytest.mark.parametrize(("players", "zero_sum"), [(2, True), (2, False), (3, False)])
@pytest.mark.parametrize(
    "options",
    [
        {"selection": "uct"},
        {"selection": "ucb1", "discount": 0.8},
        {"selection": "ucb1", "unvisited_value": "zero"},
        {"selection": "uct", "max_depth": 3},
        {"selection": "puct"},
        {"selection": "ucb1", "normalise": "tree"},
        {"selection": "ucb1", "normalise": "tree", "unvisited_value": "zero"},
    ],
)
def test_the_tree_is_the_twins(options: dict[str, Any], players: int, zero_sum: bool, kind: str) -> None:
    simulator = Secrets(players, zero_sum)
    settings = flat_settings(
        simulations=400, exploration=0.7, solve=False, information=kind, uniform_prior=1.0, **options
    )  # type: ignore[arg-type]
    for seed in range(2):
        state = simulator.reset(seed)
        generators = [np.random.default_rng(seed), np.random.default_rng(seed)]
        [tree] = search(simulator, [Root(state)], None, Judge(), settings, [generators[0]])
        assert isinstance(tree, InformationTree)
        twin = Twin(simulator, settings, state, generators[1])
        assert set(tree.sets) == set(twin.seats)
        for key, seat in twin.seats.items():
            node = tree.sets[key]
            assert (tree.visits(node), tree.player(node)) == (seat.visits, seat.player)
            assert tree.value(node) == pytest.approx(seat.total / seat.visits, abs=1e-9)
            edges = {tree.actions[edge]: edge for edge in tree.children(node)}
            assert list(edges) == list(seat.edges)
            for action, (visits, available, total) in seat.edges.items():
                edge = edges[action]
                assert (tree.visits(edge), float(tree.nodes["hint"][edge])) == (visits, available)
                if visits:
                    assert tree.value(edge) == pytest.approx(total / visits, abs=1e-9)


class Open(Secrets):
    """The same with open cards, and without the card that chance shows."""

    def current_player(self, state: Table) -> int:
        return TERMINAL if len(state.moves) >= 6 else len(state.moves) % self.players

    def information_state(self, state: Table, player: int) -> str:
        return repr(state)

    def resample(self, state: Table, player: int, rng: np.random.Generator) -> Table:
        return state


@pytest.mark.parametrize(("players", "zero_sum"), [(1, False), (2, True), (3, False)])
@pytest.mark.parametrize("selection", ["uct", "puct", "ucb1"])
def test_where_nothing_is_hidden_it_is_the_plain_search(selection: str, players: int, zero_sum: bool) -> None:
    """An action that is always available was so as often as its node was visited."""
    simulator = Open(players, zero_sum)
    options = {"evaluator": Judge(), "selection": selection}
    plain, hidden = (
        grown(simulator, [simulator.reset(0)], information=kind, **options)[0]
        for kind in ("perfect", "multiple_observer")
    )
    pairs = [(0, 0)]
    for one, other in pairs:
        assert plain.visits(one) == hidden.visits(other)
        below = dict(zip(map(hidden.actions.__getitem__, hidden.children(other)), hidden.children(other), strict=True))
        for child in plain.children(one):
            edge = below[plain.actions[child]]
            assert plain.visits(child) == hidden.visits(edge)
            if plain.visits(child):
                assert plain.value(child) == pytest.approx(hidden.value(edge), abs=1e-9)
            pairs += [(child, met) for met in hidden.sets_below(edge)]


# ---- what may not be known --------------------------------------------------------------------------------------


def test_hidden_information_needs_a_resample() -> None:
    with pytest.raises(ValueError, match="TicTacToe has no resample"):
        grown(TicTacToe(), [TicTacToe().reset(0)])


# ---- keeping a subtree ------------------------------------------------------------------------------------------


def contents(tree: InformationTree, top: int) -> dict[tuple[str, ...], tuple[int, float]]:
    """Visits and sums of all that hangs below an information set, by the way there."""
    found = {}
    front = [(top, ())]
    for node, way in front:
        for edge in tree.children(node):
            step = (*way, tree.actions[edge])
            found[step] = (tree.visits(edge), float(tree.nodes["value_sum"][edge]))
            front += [(below, (*step, tree.actions[below])) for below in tree.sets_below(edge)]  # type: ignore[list-item]
    return found


@pytest.mark.parametrize("kind", ["single_observer", "multiple_observer"])
def test_what_was_found_below_an_information_set_is_kept(kind: str) -> None:
    simulator = Secrets(2, False)
    state = simulator.reset(1)
    [tree] = grown(simulator, [state], evaluator=Judge(), information=kind, simulations=1500)
    _, key = max(
        ((p, k) for p, k in tree.sets if p == 0 and tree.sets[p, k]), key=lambda at: tree.visits(tree.sets[at])
    )
    moves = "".join(key.split()[-1]).replace("e", "0").replace("o", "1")  # one way to have seen that
    later = state._replace(moves=tuple(moves))
    top = tree.sets[0, simulator.information_state(later, 0)]
    assert tree.actions[top] == key
    visits, value, expected = tree.visits(top), tree.value(top), contents(tree, top)
    size, room = len(tree), tree.array_bytes
    hidden = later._replace(secrets=(later.secrets[0], (later.secrets[1] + 1) % 3))
    tree.reroot_to(hidden)
    assert (tree.visits(0), tree.value(0), contents(tree, 0)) == (visits, value, expected)
    assert visits > 20
    assert len(tree) < size / 2
    assert tree.array_bytes < room
    assert tree.states[0] == hidden
    settings = SearchSettings(
        simulations=visits + 200,
        selection=Uct(exploration=1.0),
        solve=False,
        uniform_prior=1.0,
        information=kind,  # type: ignore[arg-type]
    )
    extend(simulator, [tree], None, Judge(), settings)
    assert tree.visits(0) == visits + 200
    assert tree.visits(0) == 1 + sum(tree.visits(edge) for edge in tree.children(0))


def test_a_subtree_of_another_player_or_of_nobody_is_refused() -> None:
    simulator = Secrets(2, False)
    state = simulator.reset(1)
    [tree] = grown(simulator, [state], evaluator=Judge(), simulations=30)
    with pytest.raises(ValueError, match="player 1 is to move there, and the tree was searched for player 0"):
        tree.reroot_to(simulator.step(state, "1"))
    far = state._replace(moves=("1", "0", "2", "1"))
    assert simulator.current_player(far) == 0
    with pytest.raises(ValueError, match="no simulation expanded"):
        tree.reroot_to(far)
    with pytest.raises(ValueError, match=r"reroot_to\(state\)"):
        tree.reroot(1)


@pytest.mark.parametrize("simulations", [1, 5])
def test_a_tree_is_gone_on_with_by_settings_of_its_own_kind(simulations: int) -> None:
    simulator = Secrets(2, False)
    options = {"evaluator": Judge(), "simulations": simulations}
    [hidden] = grown(simulator, [simulator.reset(1)], **options)
    [plain] = grown(simulator, [simulator.reset(1)], information="perfect", **options)
    for tree, kind in ((hidden, "perfect"), (plain, "single_observer"), (plain, "multiple_observer")):
        settings = SearchSettings(simulations=9, solve=False, information=kind)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="tree 0 was searched with other settings of information; search it anew"):
            extend(simulator, [tree], None, Judge(), settings)
    single = SearchSettings(simulations=9, solve=False, information="single_observer")
    with pytest.raises(ValueError, match="tree 0 was searched with other settings of information; search it anew"):
        extend(simulator, [hidden], None, Judge(), single)  # its sets are of what the one player sees
    other = SearchSettings(simulations=9, solve=False, information="multiple_observer")
    assert extend(simulator, [hidden], None, Judge(), other)[0].visits(0) == 9


# ---- reading the tree -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["single_observer", "multiple_observer"])
def test_words_are_those_of_a_set_that_its_own_player_sees(kind: str) -> None:
    simulator = Secrets(2, False)
    root = Root(simulator.reset(1), (observed("hello"),))
    settings = SearchSettings(simulations=200, solve=False, information=kind)  # type: ignore[arg-type]
    [tree] = search(simulator, [root], None, Judge(), settings)
    assert isinstance(tree, InformationTree)
    assert tree.transcript() == (observed("hello"),)
    own, others = [], []
    for node in range(1, len(tree)):
        is_set = tree.has(node, INFORMATION)
        if is_set and (kind == "multiple_observer" or tree.player(node) == 0):
            own.append(node)
        else:
            others.append(node)
    assert {tree.player(node) for node in own} == ({0, 1} if kind == "multiple_observer" else {0})
    assert all(tree.is_own_view(node) for node in (0, *own))
    assert all(tree.transcript(node) == (observed(tree.actions[node]),) for node in own)
    assert not any(tree.is_own_view(node) for node in others)
    with pytest.raises(ValueError, match=rf"node {others[0]} is no information set of the player to move: nobody"):
        tree.transcript(others[0])


def test_the_value_of_a_set_is_that_of_who_moves_there_and_of_an_action_that_of_who_took_it() -> None:
    simulator = Secrets(3, False)
    [tree] = grown(simulator, [simulator.reset(1)], evaluator=Judge(), simulations=200)
    sets = [node for node in range(len(tree)) if tree.has(node, INFORMATION)]
    assert {tree.player(node) for node in sets} == {0, 1, 2}
    for node in sets:
        assert tree.chooser(node) == tree.player(node)
        for edge in tree.children(node):
            assert tree.chooser(edge) == tree.player(node)
            if tree.visits(edge):
                returns = tree.returns(edge)
                assert np.flatnonzero(~np.isnan(returns)).tolist() == [tree.player(node)]
                assert returns[tree.player(node)] == tree.value(edge)


def test_the_other_of_two_opposed_players_gets_the_opposite() -> None:
    simulator = Secrets(2, True)
    [tree] = grown(simulator, [simulator.reset(1)], evaluator=Judge(), simulations=50)
    edge = max(tree.children(), key=tree.visits)
    assert tree.returns(edge).tolist() == [tree.value(edge), -tree.value(edge)]


def test_an_action_whose_step_failed_was_not_available_after_all() -> None:
    simulator = Secrets(2, False)
    [tree] = grown(simulator, [simulator.reset(1)], evaluator=Judge(), simulations=1)
    edges = np.array(tree.children())
    tree.nodes["hint"][edges] = np.arange(3.0, 3.0 + len(edges))
    tree.close_edge(int(edges[1]), edges, "the simulator failed: lost")
    assert tree.nodes["hint"][edges].tolist() == np.arange(2.0, 2.0 + len(edges)).tolist()
    assert [tree.has(edge, FAILED) for edge in edges[:2]] == [False, True]
    assert (tree.counters["failed_actions"], tree.last_error) == (1, "the simulator failed: lost")


def test_an_action_whose_only_step_failed_is_not_played() -> None:
    simulator = Secrets(2, False)
    [tree] = grown(simulator, [simulator.reset(1)], evaluator=Judge(), simulations=1)
    first, *others = tree.children()
    tree.nodes["flags"][first] |= FAILED
    assert tree.best_child() == others[0]
    assert tree.policy_target()[1].tolist() == [0.0] + [1 / len(others)] * len(others)


def test_a_tree_that_moved_on_starts_with_the_words_that_it_is_given() -> None:
    simulator = Secrets(2, False)
    state = simulator.reset(1)
    [tree] = grown(simulator, [state], evaluator=Judge(), simulations=1500)
    tops = [node for (player, _), node in tree.sets.items() if player == 0 and node and tree.has(node, EXPANDED)]
    key = tree.actions[max(tops, key=tree.visits)]
    later = state._replace(moves=tuple("".join(key.split()[-1]).replace("e", "0").replace("o", "1")))
    tree.mark_path(np.array([0]))
    with pytest.raises(ValueError, match="no simulation expanded that information set, or one is under way"):
        tree.reroot_to(later)
    tree.forget_pending()
    tree.noisy = True
    tree.reroot_to(later, [observed("so far")])  # type: ignore[arg-type]
    assert tree.transcript() == (observed("so far"),)
    assert (tree.actions[0], tree.parent(0), tree.noisy, tree.stopped) == ("", -1, False, "")
    assert tree.counters["simulations"] == tree.visits(0)
    assert np.isnan(tree.logps[0])
    assert len(tree.actions) == len(tree.logps) == len(tree.states) == len(tree)
    assert all(tree.parent(edge) == node for node in range(len(tree)) for edge in tree.children(node))


# ---- who looks, and who searches beside --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["single_observer", "multiple_observer"])
def test_worlds_are_drawn_as_the_player_at_the_root_sees_them(kind: Any) -> None:
    asked: list[int] = []

    class Asked(Secrets):
        def resample(self, state: Table, player: int, rng: np.random.Generator) -> Table:
            asked.append(player)
            return super().resample(state, player, rng)

    simulator = Asked(3, False)
    state = simulator.step(simulator.reset(1), "0")
    assert simulator.current_player(state) == 1
    grown(simulator, [state], evaluator=Judge(), information=kind, simulations=30)
    assert asked == [1] * 30


def test_a_tree_of_information_sets_is_the_same_alone_and_beside_one_that_fails() -> None:
    simulator = Secrets(2, True)

    class Policy:
        """Raises about the second move of the game of seed 0."""

        def score(self, transcripts: Sequence[Any], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
            seen = [transcript[-1].text for transcript in transcripts]
            if any(text.startswith("0 ") and len(text) == len("0 0 e") for text in seen):
                raise ConnectionError("gone")
            return [-np.arange(float(len(actions))) for actions in candidates]

        propose = None

    settings = SearchSettings(
        simulations=60, selection="puct", solve=False, information="multiple_observer", max_failed_share=1.0
    )
    roots = [Root(simulator.reset(seed)) for seed in range(3)]

    def searched(places: Sequence[int]) -> list[Any]:
        rngs = [np.random.default_rng(3).spawn(3)[place] for place in places]
        return search(simulator, [roots[place] for place in places], Policy(), Judge(), settings, rngs)  # type: ignore[arg-type]

    together = searched(range(3))
    assert [tree.counters["failed_leaves"] > 0 for tree in together] == [True, False, False]
    for index, tree in enumerate(together):
        [alone] = searched([index])
        assert tree.nodes.tobytes() == alone.nodes.tobytes()
        assert tree.actions == alone.actions
        assert tree.counters == alone.counters
        assert not tree.nodes["pending"].any()
