"""No claim of a search is false: what is proven equals the exhaustive solution of the game, whatever the search leaves
out."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from flat_settings import flat_settings
from random_numbers import digest, uniform

from branchwise.envs.games.connect_four import ConnectFour
from branchwise.envs.games.kuhn_poker import KuhnPoker, KuhnState
from branchwise.envs.play.policy import Proposal
from branchwise.envs.play.transcript import observed
from branchwise.envs.simulator import CHANCE, TERMINAL, Simulator
from branchwise.envs.wrappers import ListedActions
from branchwise.search.engine import Root, SearchSettings, SearchStopped, search
from branchwise.search.evaluation import Leaf, RandomRollout, ValueFunction
from branchwise.search.rules.backup import DRAW, LOSS, UNPROVEN, WIN
from branchwise.search.settings import settings_record
from branchwise.search.trees.ascent import _settle
from branchwise.search.trees.children import Children
from branchwise.search.trees.nodes import FAILED, INCOMPLETE, SOLVED
from branchwise.search.trees.tree import Tree
from branchwise.search.widening import reopen


class Place(NamedTuple):
    place: int
    mover: int
    clock: int


class Shuttle(Simulator[Place]):
    """Place 0 ⇄ place 1, where each player may also resign; a draw after ``limit`` moves. ``path``: from place 0 player
    0 may also leave, and wins three moves later whatever is played.

        path: 0 → 2 → 3 → 4, where player 0 has won
    """

    players = 2
    zero_sum = True

    def __init__(self, limit: int = 12, path: bool = False) -> None:
        self.limit, self.path = limit, path

    def reset(self, seed: int, options: Any = None) -> Place:
        return Place(0, 0, 0)

    def current_player(self, state: Place) -> int:
        return TERMINAL if state.place > 3 or state.clock >= self.limit else state.mover

    def observation(self, state: Place, player: int = 0) -> str:
        return str(state)

    def legal_actions(self, state: Place) -> Sequence[str]:
        if self.current_player(state) == TERMINAL:
            return ()
        if state.place < 2:
            return ["resign", "shuttle", "leave"] if self.path and state.place == 0 else ["resign", "shuttle"]
        return ["on"]

    def step(self, state: Place, action: str) -> Place:
        place = {
            "resign": 4 if state.mover == 1 else 5,
            "shuttle": 1 - state.place,
            "leave": 2,
            "on": state.place + 1,
        }[action]
        return Place(place, 1 - state.mover, state.clock + 1)

    def rewards(self, state: Place) -> tuple[float, ...]:
        return {4: (1.0, -1.0), 5: (-1.0, 1.0)}.get(state.place, (0.0, 0.0))

    def position(self, state: Place) -> tuple[int, int]:
        return state.place, state.mover


class Graph(Simulator[Place]):
    """A random graph of a few places with cycles, a draw after ``limit`` moves; some places are ends, some are left to
    chance. In a game that is not zero-sum each player has pay-offs of its own."""

    players = 2

    def __init__(self, seed: int, chance: bool = False, zero_sum: bool = True, limit: int = 7) -> None:
        self.seed, self.chance, self.zero_sum, self.limit = seed, chance, zero_sum, limit
        self.places = 7

    def reset(self, seed: int, options: Any = None) -> Place:
        return Place(0, 0, 0)

    def _is_end(self, place: int) -> bool:
        return place > 0 and uniform("end", (self.seed, place)) < 0.3

    def current_player(self, state: Place) -> int:
        if state.clock >= self.limit or self._is_end(state.place):
            return TERMINAL
        if self.chance and state.place > 0 and uniform("chance", (self.seed, state.place)) < 0.3:
            return CHANCE
        return state.mover

    def chance_outcomes(self, state: Place) -> list[tuple[str, float]]:
        return [(action, 0.5) for action in self._ways(state)[:2]]

    def observation(self, state: Place, player: int = 0) -> str:
        return f"{state.place} {state.mover} {state.clock}"

    def _ways(self, state: Place) -> list[str]:
        first = digest("ways", (self.seed, state.place)) % self.places
        return [str((first + i * 3) % self.places) for i in range(2 + digest("count", (self.seed, state.place)) % 2)]

    def legal_actions(self, state: Place) -> Sequence[str] | None:
        return () if self.current_player(state) == TERMINAL else self._ways(state)

    def step(self, state: Place, action: str) -> Place:
        return Place(int(action), 1 - state.mover, state.clock + 1)

    def rewards(self, state: Place) -> tuple[float, ...]:
        if state.clock == 0 or not self._is_end(state.place):
            return (0.0, 0.0)
        first = float(digest("pay", (self.seed, state.place)) % 3 - 1)
        return first, -first if self.zero_sum else float(digest("other", (self.seed, state.place)) % 3 - 1)

    def position(self, state: Place) -> tuple[int, int]:
        return state.place, state.mover


def exact(simulator: Simulator[Any], state: Any, known: dict[Any, np.ndarray]) -> np.ndarray:
    """What each player gets from a state on when all play their best, by looking at everything (max^n)."""
    if state not in known:
        mover = simulator.current_player(state)
        if mover == TERMINAL:
            known[state] = np.zeros(simulator.players)
        else:
            moves = (
                [move for move, _ in simulator.chance_outcomes(state)]
                if mover == CHANCE
                else simulator.legal_actions(state) or ()
            )
            below = []
            for move in moves:
                after = simulator.step(state, move)
                below.append(np.array(simulator.rewards(after)) + exact(simulator, after, known))
            known[state] = np.mean(below, axis=0) if mover == CHANCE else max(below, key=lambda r: r[mover])
    return known[state]


def noise(simulator: Any, state: Any, transcript: Any) -> float:
    return 2.0 * uniform("value", state) - 1.0


NUMBERS = {"win": 1.0, "draw": 0.0, "loss": -1.0}


def claims(tree: Tree, rules: Simulator[Any], known: dict[Any, np.ndarray]) -> int:
    """How many nodes of a tree are proven; each proof is compared with the exhaustive solution."""
    count = 0
    for node in range(len(tree)):
        if not tree.proof(node):
            continue
        state = tree.states[tree.source(node)]
        value = float(exact(rules, state, known)[0] + (rules.rewards(state)[0] if node else 0.0))
        assert NUMBERS[tree.proof(node)] == (value if tree.chooser(node) == 0 else -value), (node, tree.path(node))
        count += 1
    if tree.stopped == "solved" and tree.step_rules.proofs:
        assert tree.proof(0)
    return count


def grown(simulator: Any, policy: Any = None, seed: int = 0, evaluator: Any = None, **options: Any) -> Tree:
    settings = flat_settings(
        **{"simulations": 120, "selection": "uct", "exploration": 1.0, "max_failed_share": 1.0, **options}
    )
    evaluator = evaluator or ValueFunction(noise)
    start = simulator.reset(0)
    root = Root(start, (observed(simulator.observation(start)),), {"seed": 0})
    [tree] = search(simulator, [root], policy, evaluator, settings, [np.random.default_rng(seed)])
    return tree


# ---- repeats ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transpositions", [False, True])
@pytest.mark.parametrize("revisit", [False, True])
def test_a_move_dropped_because_it_repeats_proves_nothing(revisit: bool, transpositions: bool) -> None:
    """Both players shuttle to the draw by the clock: neither ever has to resign."""
    simulator = Shuttle()
    known: dict[Any, np.ndarray] = {}
    assert exact(simulator, simulator.reset(0), known)[0] == 0.0
    tree = grown(simulator, revisit=revisit, transpositions=transpositions, random_ties=True)
    claims(tree, simulator, known)
    assert tree.proof(0) == ("draw" if revisit else "")
    assert tree.stopped == ("solved" if revisit else "exhausted")
    assert tree.is_solved()
    assert tree.best_action() == "shuttle"


def test_a_real_win_beside_a_repeat_is_found_and_played() -> None:
    simulator = Shuttle(path=True)
    state, moves = simulator.reset(0), 0
    while simulator.current_player(state) != TERMINAL:
        if simulator.current_player(state) == 0:
            [tree] = search(simulator, [Root(state)], None, ValueFunction(noise), SearchSettings(simulations=60))
            assert tree.proof(0) == "win"
            action = tree.best_action()
        else:
            action = simulator.legal_actions(state)[-1]
        state, moves = simulator.step(state, action), moves + 1
    assert (moves, simulator.rewards(state)) == (3, (1.0, -1.0))


@pytest.mark.parametrize("chance", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"revisit": revisit, "transpositions": transpositions, "backup": backup}
        for revisit, transpositions, backup in itertools.product([False, True], [False, True], ["mean", "minimax"])
    ]
    + [{"max_depth": 3}, {"widening": 1.0}, {"hide_outcome": True}, {"leaves_per_tree": 4}]
    + [{"selection": "puct", "revisit": False}, {"selection": "softmax"}, {"solve": False}],
    ids=str,
)
def test_no_proof_is_false_in_graphs_with_cycles(options: dict[str, Any], chance: bool) -> None:
    if chance and options.get("selection") == "softmax":
        pytest.skip("softmax draws among nodes, and knows no chance")
    found = 0
    for seed in range(12):
        simulator = Graph(seed, chance)
        known: dict[Any, np.ndarray] = {}
        found += claims(grown(simulator, seed=seed, **options), simulator, known)
    proves = options.get("solve", True) and not options.get("hide_outcome")
    assert (found > 0) == proves


class Talk(Graph):
    """The same where any text may be an answer."""

    def legal_actions(self, state: Place) -> Sequence[str] | None:
        return () if self.current_player(state) == TERMINAL else None

    def suggested_actions(self, state: Place) -> Sequence[str]:
        return self._ways(state)[1:]


class Says:
    """Proposes some of what may be said."""

    def propose(self, transcripts: Any, n: int, rngs: Sequence[np.random.Generator]) -> list[list[Proposal]]:
        rng = rngs[0]
        answers = []
        for transcript in transcripts:
            place, mover, clock = map(int, transcript[-1].text.split())
            ways = Graph._ways(self.game, Place(place, mover, clock))
            answers.append([Proposal(ways[int(rng.integers(len(ways)))], -1.0) for _ in range(n)])
        return answers

    def __init__(self, game: Graph) -> None:
        self.game = game


@pytest.mark.parametrize("options", [{"proposals": 1}, {"proposals": 2, "revisit": True}, {"widening": 1.0}], ids=str)
def test_proposals_are_never_all_that_could_be_said(options: dict[str, Any]) -> None:
    found = 0
    for seed in range(12):
        simulator = Talk(seed)
        found += claims(grown(simulator, Says(simulator), seed, **options), Graph(seed), {})
    assert found > 0


def test_suggested_actions_are_not_all_either() -> None:
    for seed in range(12):
        claims(grown(ListedActions(Talk(seed)), seed=seed, revisit=True), Graph(seed), {})


def test_a_list_of_all_actions_that_was_wrapped_proves_as_before() -> None:
    tree = grown(ListedActions(Graph(1)), seed=0, revisit=True)
    assert tree.proof(0) == grown(Graph(1), seed=0, revisit=True).proof(0) != ""


# ---- failures ---------------------------------------------------------------------------------------------------


class Breaks(Graph):
    """Raises, or pays what is no number, at a tenth of the states."""

    def __init__(self, seed: int, chance: bool, how: str, where: float = 0.1) -> None:
        super().__init__(seed, chance)
        self.how, self.where = how, where

    def broken(self, state: Place) -> bool:
        """Not after the first move: a search refuses a simulator whose first step breaks a promise."""
        return state.clock > 1 and uniform("broken", (self.seed, state)) < self.where

    def step(self, state: Place, action: str) -> Place:
        after = super().step(state, action)
        if self.how == "step" and self.broken(after):
            raise KeyError("lost")
        return after

    def current_player(self, state: Place) -> int:
        return 7 if self.how == "player" and self.broken(state) else super().current_player(state)

    def position(self, state: Place) -> Any:
        if self.how == "position" and self.broken(state):
            raise KeyError("lost")
        return super().position(state)

    def rewards(self, state: Place) -> tuple[float, ...]:
        bad = {"nan": float("nan"), "inf": float("inf"), "1e39": 1e39, "str": "1"}
        if self.how in bad and self.broken(state):
            return bad[self.how], -bad[self.how] if self.how != "str" else "1"  # type: ignore[return-value, operator]
        return (0.0,) if self.how == "few" and self.broken(state) else super().rewards(state)


@pytest.mark.parametrize("chance", [False, True])
@pytest.mark.parametrize("revisit", [False, True])
@pytest.mark.parametrize("how", ["step", "player", "nan", "inf", "1e39", "str", "few", "position"])
def test_a_step_that_fails_costs_that_action_and_proves_nothing(how: str, revisit: bool, chance: bool) -> None:
    if how == "position" and revisit:
        pytest.skip("nothing asks for the position")
    failed = 0
    for seed in range(12):
        simulator = Breaks(seed, chance, how)
        tree = grown(simulator, seed=seed, revisit=revisit)
        claims(tree, Graph(seed, chance), {})
        assert np.isfinite(tree.nodes["value_sum"]).all()
        assert np.isfinite(tree.nodes["reward"]).all()
        assert not tree.nodes["pending"].any()
        assert tree.visits(0) == tree.counters["simulations"] - tree.counters["failed_leaves"]
        failed += tree.counters["failed_actions"]
        if tree.counters["failed_actions"]:
            assert tree.last_error.startswith("the simulator failed: ")
            assert any(tree.has(node, FAILED) for node in range(len(tree)))
    assert failed > 0


class Cards(KuhnPoker):
    """Pays a number that is none to who folds first, or deals with shares that are none."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def rewards(self, state: Any) -> tuple[float, ...]:
        number = {"nan": float("nan"), "inf": float("inf"), "1e39": 1e39}.get(self.how, 0.0)
        return (-number, number) if number and state.moves.endswith("bp") else super().rewards(state)

    def chance_outcomes(self, state: Any) -> list[tuple[str, float]]:
        share = float("nan") if self.how == "nan shares" else 0.2
        return [(card, share) for card, _ in super().chance_outcomes(state)]


@pytest.mark.parametrize("how", ["nan", "inf", "1e39"])
def test_numbers_that_are_none_reach_no_tree_of_information_sets(how: str) -> None:
    state: Any = KuhnState("JQ")
    settings = SearchSettings(simulations=200, information="multiple_observer", solve=False, max_failed_share=1.0)
    [tree] = search(Cards(how), [Root(state)], None, RandomRollout(), settings)
    assert 0 < tree.counters["failed_leaves"] < 20
    assert np.isfinite(tree.nodes["value_sum"]).all()
    assert tree.visits(0) == 200 - tree.counters["failed_leaves"]


def test_a_state_that_cannot_be_drawn_costs_its_simulation() -> None:
    class Stuck(KuhnPoker):
        def resample(self, state: Any, player: int, rng: np.random.Generator) -> Any:
            if rng.random() < 0.2:
                raise OSError("connection lost")
            return super().resample(state, player, rng)

    settings = SearchSettings(simulations=100, information="single_observer")
    [tree] = search(Stuck(), [Root(KuhnState("JQ"))], None, RandomRollout(), settings)
    assert 5 < tree.counters["failed_leaves"] < 40
    assert tree.visits(0) == 100 - tree.counters["failed_leaves"]


def test_a_set_whose_actions_all_fail_takes_the_action_into_it_with_it() -> None:
    class Unplayable(KuhnPoker):
        def step(self, state: Any, action: str) -> Any:
            if state.moves == "b":
                raise OSError("connection lost")
            return super().step(state, action)

    settings = SearchSettings(simulations=200, information="single_observer")
    [tree] = search(Unplayable(), [Root(KuhnState("JQ"))], None, ValueFunction(lambda *_: 0.0), settings)
    visits = {tree.actions[child]: tree.visits(child) for child in tree.children()}
    assert visits["bet"] == 1
    assert visits["pass"] > 180
    assert tree.best_action() == "pass"


def test_a_root_whose_actions_all_fail_in_a_tree_of_information_sets_stops_the_search_with_their_words() -> None:
    class Unplayable(KuhnPoker):
        played = False

        def step(self, state: Any, action: str) -> Any:
            if self.played:
                raise OSError("connection lost")
            self.played = True  # the door's own step
            return super().step(state, action)

    settings = SearchSettings(simulations=20, information="single_observer")
    with pytest.raises(SearchStopped, match="connection lost") as stopped:
        search(Unplayable(), [Root(KuhnState("JQ"))], None, ValueFunction(lambda *_: 0.0), settings)
    [tree] = stopped.value.trees
    assert tree.counters["failed_actions"] == 2
    assert all(tree.has(child, FAILED) for child in tree.children())


@pytest.mark.parametrize("how", ["nan shares", "shares of 0.2"])
def test_roll_outs_draw_from_probabilities_alone(how: str) -> None:
    simulator = Cards(how)
    leaf = Leaf(simulator, KuhnState("J"), (), False, np.random.default_rng(0))
    with pytest.raises(ValueError, match="expected them to sum to 1"):
        RandomRollout().evaluate([leaf])


def test_one_set_that_cannot_be_told_ends_no_search_of_information_sets() -> None:
    """The key of a set fails once: its action is tried again, and nothing counts as solved."""

    class Forgetful(KuhnPoker):
        failed = False

        def information_state(self, state: Any, player: int) -> str:
            if state.moves and not self.failed:
                self.failed = True
                raise OSError("connection lost")
            return super().information_state(state, player)

    settings = SearchSettings(simulations=200, information="multiple_observer")
    [tree] = search(Forgetful(), [Root(KuhnState("JQ"))], None, RandomRollout(), settings)
    assert (tree.visits(0), tree.counters["failed_leaves"]) == (199, 1)
    assert not any(tree.has(node, SOLVED) for node in range(len(tree)))
    assert tree.stopped == "simulations"


@pytest.mark.parametrize("revisit", [False, True])
def test_a_tree_where_all_else_failed_stopped_as_failed(revisit: bool) -> None:
    class Doomed(Shuttle):
        def step(self, state: Place, action: str) -> Place:
            if state.clock == 1:
                raise OSError("connection lost")
            return super().step(state, action)

    tree = grown(Doomed(), revisit=revisit)
    assert tree.stopped == "failed"
    assert tree.proof(0) == ""
    assert "connection lost" in tree.last_error


def test_a_leaf_whose_actions_all_fail_has_failed() -> None:
    class Doomed(Shuttle):
        def step(self, state: Place, action: str) -> Place:
            if state.clock == 1:
                raise OSError("connection lost")
            return super().step(state, action)

    tree = grown(Doomed())
    child = next(child for child in tree.children() if tree.actions[child] == "shuttle")
    assert tree.has(child, FAILED)
    assert tree.visits(child) == 0
    assert tree.counters["failed_leaves"] == 1


@pytest.mark.parametrize("revisit", [False, True])
def test_a_step_in_a_hundred_that_fails_costs_a_hundredth(revisit: bool) -> None:
    """Four trees of 60 simulations over an environment that raises now and then, in roll-outs too."""

    class Flaky(ConnectFour):
        luck = np.random.default_rng(0)
        never_repeats = False

        def step(self, state: Any, action: str) -> Any:
            if self.luck.random() < 0.01:
                raise ConnectionError("connection lost")
            return super().step(state, action)

    simulator = Flaky()
    settings = SearchSettings(simulations=60, selection="uct", revisit=revisit)
    roots = [Root(simulator.reset(0))] * 4
    for tree in search(simulator, roots, None, RandomRollout(), settings):
        assert tree.stopped == "simulations"
        assert tree.visits(0) == 60 - tree.counters["failed_leaves"] >= 30
    assert tree.counters["failed_leaves"] + tree.counters["failed_actions"] > 0


@pytest.mark.parametrize("share", [0.02, 0.3])
@pytest.mark.parametrize("chance", [False, True])
def test_leaves_that_could_not_be_valued_prove_nothing(chance: bool, share: float) -> None:
    def value(simulator: Any, state: Any, transcript: Any) -> float:
        if uniform("fails", state) < share:
            raise RuntimeError("out of memory")
        return noise(simulator, state, transcript)

    failed = 0
    for seed in range(12):
        tree = grown(Graph(seed, chance), seed=seed, evaluator=ValueFunction(value), revisit=True)
        claims(tree, Graph(seed, chance), {})
        assert np.isfinite(tree.nodes["value_sum"]).all()
        failed += tree.counters["failed_leaves"]
    assert failed > 0


def test_gumbel_plans_around_an_action_that_failed() -> None:
    """One of three actions cannot be valued: the others share the simulations that are left."""

    def value(simulator: Any, state: Any, transcript: Any) -> float:
        if state.place == 5:
            raise RuntimeError("out of memory")
        return 0.0

    settings: dict[str, Any] = {"selection": "gumbel", "solve": False, "simulations": 40, "revisit": True}
    tree = grown(Shuttle(path=True), evaluator=ValueFunction(value), **settings)
    visits = {tree.actions[child]: tree.visits(child) for child in tree.children()}
    assert visits.pop("shuttle") > 5
    assert visits.pop("leave") > 5
    assert np.isfinite(tree.nodes["value_sum"]).all()


# ---- several players --------------------------------------------------------------------------------------------


def test_what_is_known_of_a_general_sum_game_is_exact() -> None:
    """Where the tree is solved, every player's return; where moves were dropped, nothing is claimed."""
    words = set()
    for seed, revisit in itertools.product(range(20), [False, True]):
        simulator = Graph(seed, zero_sum=False, limit=5)
        tree = grown(simulator, seed=seed, revisit=revisit, simulations=2000, exploration=100.0)
        words.add(tree.stopped)
        if tree.stopped == "solved":
            expected = exact(simulator, simulator.reset(0), {})
            assert np.allclose(tree.returns(0), expected), seed
    assert words == {"solved", "exhausted"}


# ---- the rule itself --------------------------------------------------------------------------------------------


def family(proofs: Sequence[tuple[int, bool]], player: int = 0, flags: int = 0) -> tuple[Tree, np.ndarray]:
    """A root with these children: (proof for player 0, solved)."""
    settings = SearchSettings()
    tree = Tree(None, None, (), players=2, zero_sum=True)
    tree.add_children(0, Children(["a"] * len(proofs), [None] * len(proofs), np.ones(len(proofs)), [0.0] * len(proofs),
                      [0.0] * len(proofs), [SOLVED if solved else 0 for _, solved in proofs]))  # fmt: skip
    tree.nodes["proof"][1:] = [proof for proof, _ in proofs]
    tree.nodes["player"][0] = player
    tree.nodes["flags"][0] |= flags
    return tree, settings_record(settings, zero_sum=True, players=2)


@pytest.mark.parametrize("player", [0, 1, CHANCE])
@pytest.mark.parametrize("incomplete", [False, True])
def test_a_node_is_settled_as_its_children_allow(player: int, incomplete: bool) -> None:
    """Every family of up to three children against the definition (Winands, Björnsson and Saito, 2008)."""
    kinds = [(LOSS, True), (DRAW, True), (WIN, True), (UNPROVEN, True), (UNPROVEN, False)]
    if incomplete and player == CHANCE:
        pytest.skip("no outcome of chance is left out")
    opposite = {WIN: LOSS, LOSS: WIN, DRAW: DRAW, UNPROVEN: UNPROVEN}
    for size in (1, 2, 3):
        for children in itertools.product(kinds, repeat=size):
            tree, record = family(children, player, INCOMPLETE if incomplete else 0)
            settled = _settle(tree.nodes, tree.all_returns(), record, 0)
            seen = [opposite[proof] if player == 1 else proof for proof, _ in children]
            whole = all(solved for _, solved in children)
            if player == CHANCE:
                proof = seen[0] if whole and len(set(seen)) == 1 else UNPROVEN
                solved = proof != UNPROVEN
            elif WIN in seen:
                proof, solved = WIN, True
            else:
                known = whole and UNPROVEN not in seen and not incomplete
                proof, solved = (max(seen) if known else UNPROVEN), whole
            proof = opposite[proof] if player == 1 else proof
            assert (settled, tree.is_solved(0), int(tree.nodes["proof"][0])) == (solved, solved, proof), children


@pytest.mark.parametrize("players", [1, 2])
def test_widening_below_a_solved_ancestor_opens_every_node_above(players: int) -> None:
    """A chain of two states that were closed: when the lower one gets an action to try, both are open again."""
    settings = SearchSettings()
    record = settings_record(settings, zero_sum=players == 2, players=players)
    tree = Tree(None, None, (), players=players, zero_sum=players == 2)
    for node in range(3):
        tree.add_children(node, Children(["a"], [None], np.ones(1), [0.0], [0.0], [SOLVED]))
    tree.nodes["flags"] |= SOLVED
    tree.nodes["proof"] = DRAW
    tree.nodes["flags"][3] &= ~SOLVED
    tree.nodes["proof"][3] = UNPROVEN
    reopen(tree, 2, record)
    assert [tree.is_solved(node) for node in range(4)] == [False] * 4
    assert (tree.nodes["proof"] == UNPROVEN).all()


def test_widening_below_a_win_opens_the_nodes_below_it_alone() -> None:
    """The mover at node 1 has a proven win beside the way to the node that is to grow."""
    tree, record = family([(UNPROVEN, True)])
    tree.add_children(1, Children(["win", "other"], [None] * 2, np.ones(2), [0.0] * 2, [0.0] * 2, [SOLVED, SOLVED]))
    tree.add_children(3, Children(["end"], [None], np.ones(1), [0.0], [0.0], [SOLVED]))
    tree.nodes["proof"][[0, 1, 2]] = WIN
    tree.nodes["proof"][[3, 4]] = LOSS
    tree.nodes["flags"][0] |= SOLVED
    reopen(tree, 3, record)
    assert [tree.is_solved(node) for node in range(5)] == [True, True, True, False, True]
    assert [int(proof) for proof in tree.nodes["proof"]] == [WIN, WIN, WIN, UNPROVEN, LOSS]


class TwoCoins(Simulator[str]):
    """After the one move two coins are thrown; player 0 loses where the first shows 1 and the second 0."""

    players = 2
    zero_sum = True

    def reset(self, seed: int, options: Any = None) -> str:
        return ""

    def current_player(self, state: str) -> int:
        return {0: 0, 3: TERMINAL}.get(len(state), CHANCE)

    def observation(self, state: str, player: int = 0) -> str:
        return state

    def legal_actions(self, state: str) -> Sequence[str]:
        return () if state else ["throw"]

    def step(self, state: str, action: str) -> str:
        return state + action[0]

    def rewards(self, state: str) -> tuple[float, float]:
        earned = 0.0 if len(state) < 3 else -1.0 if state.endswith("10") else 1.0
        return earned, -earned

    def chance_outcomes(self, state: str) -> list[tuple[str, float]]:
        return [("0", 0.5), ("1", 0.5)]


@pytest.mark.parametrize("transpositions", [False, True])
def test_a_proven_outcome_of_chance_is_drawn_like_any_other_and_not_expanded_again(transpositions: bool) -> None:
    settings = SearchSettings(simulations=2_000, transpositions=transpositions)
    [tree] = search(TwoCoins(), [Root("")], None, RandomRollout(), settings, 0)
    assert (len(tree), tree.visits(0)) == (8, 2_000)  # 1 + 1 + 2 + 4: every state once
    assert abs(tree.value(0) - 0.5) < 4 * np.sqrt(0.75 / 2_000)
    assert [tree.proof(node) for node in (0, 1)] == ["", ""]
    first = next(node for node in tree.children(1) if tree.actions[node] == "0")
    assert tree.proof(first) == "win"
