"""The engine's promises about batches, ends and proposals; leaves are valued in test_search_evaluation.py, what fails
stands in test_search_failures.py, the rules against a plain twin in test_search_twin.py."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from flat_settings import flat_settings
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st
from random_numbers import digest, uniform

from branchwise.envs.play.policy import Proposal
from branchwise.envs.play.sampling import usable
from branchwise.envs.play.transcript import Transcript, observed
from branchwise.envs.simulator import CHANCE, TERMINAL, Simulator
from branchwise.search.engine import Root, SearchSettings, SearchStopped, extend, is_zero_sum, search
from branchwise.search.evaluation import Leaf, PolicyRollout, RandomRollout, ValueFunction
from branchwise.search.rules.options import Puct, Ucb1, Uct
from branchwise.search.rules.selection import mixed_prior
from branchwise.search.settings import settings_record
from branchwise.search.trees.arrays import _back_up_from
from branchwise.search.trees.children import Children
from branchwise.search.trees.descent import _select
from branchwise.search.trees.nodes import ENDED, VALUED, _add_children, _path
from branchwise.search.trees.tree import Tree


class Path(NamedTuple):
    seed: int
    actions: tuple[str, ...]


class RandomTree(Simulator[Path]):
    """A tree of random shape: each state has 1 to 4 actions, ends with probability 0.2 or at depth 5, and pays at
    random."""

    players = 1

    def __init__(self, depth: int = 5, rewards: bool = True) -> None:
        self.depth = depth
        self.each_step_pays = rewards

    def reset(self, seed: int, options: Any = None) -> Path:
        return Path(seed, ())

    def current_player(self, state: Path) -> int:
        depth = len(state.actions)
        ends = depth >= self.depth or (depth > 1 and uniform("end", state) < 0.2)
        return TERMINAL if ends else 0

    def observation(self, state: Path, player: int = 0) -> str:
        return f"at {'/'.join(state.actions)}"

    def legal_actions(self, state: Path) -> list[str]:
        return [f"a{i}" for i in range(1 + digest("width", state) % 4)]

    def step(self, state: Path, action: str) -> Path:
        return Path(state.seed, (*state.actions, action))

    def rewards(self, state: Path) -> tuple[float, ...]:
        if self.current_player(state) == TERMINAL:
            return (float(uniform("pay", state) < 0.4),)
        return (0.125 * (digest("small", state) % 2) if self.each_step_pays and state.actions else 0.0,)

    def info(self, state: Path) -> dict[str, Any]:
        won = self.current_player(state) == TERMINAL and self.rewards(state)[0] == 1.0
        return {"success": won, "invalid_action": False}


class HashPolicy:
    """Log-probabilities that depend on the transcript and the action alone."""

    def __init__(self) -> None:
        self.calls = 0

    def score(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        self.calls += len(transcripts)
        return [
            np.array([-3.0 * uniform("logp", transcript[-1].text, action) for action in actions])
            for transcript, actions in zip(transcripts, candidates, strict=True)
        ]

    def propose(
        self, transcripts: Sequence[Transcript], n: int, rngs: Sequence[np.random.Generator]
    ) -> list[list[Proposal]]:
        self.calls += len(transcripts)
        return [
            [Proposal(f"say {digest(transcript[-1].text, i) % 4}", -1.0 - i) for i in range(n)]
            for transcript in transcripts
        ]


def judged(simulator: Simulator[Any], state: Path, transcript: Transcript) -> float:
    return uniform("value", state)


def roots(seeds: Sequence[int], simulator: RandomTree) -> list[Root]:
    states = [simulator.reset(seed) for seed in seeds]
    return [
        Root(
            state,
            (observed(f"seed {state.seed} {simulator.observation(state)}"),),
            {"env_id": "toy", "seed": state.seed},
        )
        for state in states
    ]


# ---- batches ----------------------------------------------------------------------------------------------------


class SamplingPolicy(HashPolicy):
    """Draws its proposals from the generator of each transcript."""

    def propose(
        self, transcripts: Sequence[Transcript], n: int, rngs: Sequence[np.random.Generator]
    ) -> list[list[Proposal]]:
        self.calls += len(transcripts)
        return [[Proposal(f"say {rng.integers(5)}", -1.0) for _ in range(n)] for rng in rngs]


class FreeText(RandomTree):
    """Any text may be an answer; ``say 0`` makes no sense."""

    def legal_actions(self, state: Path) -> None:  # type: ignore[override]
        return None

    def info(self, state: Path) -> dict[str, Any]:
        return {**super().info(state), "invalid_action": state.actions[-1:] == ("say 0",)}


def numbers(tree: Tree) -> tuple[bytes, list[str], list[float]]:
    return tree.nodes.tobytes(), tree.actions, tree.logps[1:]


def fresh_generators(count: int) -> list[np.random.Generator]:
    return np.random.default_rng(7).spawn(count)


@pytest.mark.parametrize("simulator", [RandomTree(), FreeText()], ids=["listed", "free text"])
@pytest.mark.parametrize("leaves_per_tree", [1, 4])
def test_a_tree_is_the_same_alone_and_among_others(simulator: RandomTree, leaves_per_tree: int) -> None:
    settings = SearchSettings(simulations=25, leaves_per_tree=leaves_per_tree, selection=Ucb1(exploration=1.0))
    together = search(
        simulator,
        roots(range(6), simulator),
        SamplingPolicy(),
        PolicyRollout(SamplingPolicy()),
        settings,
        fresh_generators(6),
    )
    for index, generator in enumerate(fresh_generators(6)):
        [alone] = search(
            simulator,
            roots([index], simulator),
            SamplingPolicy(),
            PolicyRollout(SamplingPolicy()),
            settings,
            [generator],
        )
        assert numbers(alone) == numbers(together[index])
        assert alone.counters == together[index].counters


def test_same_seed_gives_the_same_trees_and_another_seed_others() -> None:
    simulator = FreeText()

    def grow(seed: int) -> list[Any]:
        rng = np.random.default_rng(seed)
        policy = SamplingPolicy()
        return [
            numbers(tree)
            for tree in search(simulator, roots(range(3), simulator), policy, PolicyRollout(policy), None, rng)
        ]

    assert grow(1) == grow(1)
    assert grow(1) != grow(2)


def test_a_search_in_two_parts_equals_one_in_one_go() -> None:
    simulator = RandomTree()
    settings = SearchSettings(simulations=40)

    def evaluator() -> PolicyRollout:
        return PolicyRollout(HashPolicy())

    whole = search(simulator, roots(range(3), simulator), HashPolicy(), evaluator(), settings, np.random.default_rng(1))
    first = replace(settings, simulations=15)
    parts = search(simulator, roots(range(3), simulator), HashPolicy(), evaluator(), first, np.random.default_rng(1))
    extend(simulator, parts, HashPolicy(), evaluator(), settings)
    assert [numbers(tree) for tree in parts] == [numbers(tree) for tree in whole]


def test_every_stage_is_one_call_for_all_trees() -> None:
    sizes: list[int] = []

    class Counting(HashPolicy):
        def score(self, transcripts: Any, candidates: Any) -> list[np.ndarray]:
            sizes.append(len(transcripts))
            return super().score(transcripts, candidates)

    simulator = RandomTree()
    search(simulator, roots(range(10), simulator), Counting(), ValueFunction(judged), SearchSettings(simulations=5))
    assert sizes[0] == 10
    assert len(sizes) <= 5


# ---- shape ------------------------------------------------------------------------------------------------------


@settings_of_hypothesis(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    selection=st.sampled_from(["puct", "uct", "ucb1"]),
    backup=st.sampled_from(["mean", "bellman"]),
    leaves_per_tree=st.integers(1, 5),
    simulations=st.integers(1, 60),
    solve=st.booleans(),
    exploration=st.floats(0.0, 5.0),
    max_depth=st.integers(1, 6),
)
def test_any_tree_is_sound(seed: int, solve: bool, **options: Any) -> None:
    simulator = RandomTree(rewards=False)
    settings = flat_settings(solve=solve, **options)
    [tree] = search(simulator, roots([seed], simulator), HashPolicy(), ValueFunction(judged), settings)
    nodes = tree.nodes
    assert nodes["visits"][0] <= settings.simulations
    assert nodes["visits"][0] == settings.simulations or tree.is_solved()
    assert not nodes["pending"].any()
    reached = [0]
    for node in reached:
        reached.extend(tree.children(node))
        children = tree.children(node)
        if children:
            assert nodes["visits"][node] == 1 + sum(nodes["visits"][child] for child in children)
            assert sum(nodes["prior"][child] for child in children) == pytest.approx(1.0, abs=1e-5)
            assert all(tree.parent(child) == node for child in children)
        if nodes["visits"][node]:
            assert -1e-9 <= tree.value(node) <= 1.0 + 1e-9
    assert sorted(reached) == list(range(len(tree)))


# ---- ends -------------------------------------------------------------------------------------------------------


class Line(NamedTuple):
    place: int
    clock: int


class Corridor(Simulator[Line]):
    """Places 0 to 3 in a row; place 3 ends the episode with reward 1, the twelfth step without."""

    def reset(self, seed: int, options: Any = None) -> Line:
        return Line(0, 0)

    def current_player(self, state: Line) -> int:
        return TERMINAL if state.place == 3 or state.clock >= 12 else 0

    def observation(self, state: Line, player: int = 0) -> str:
        return f"place {state.place}, {state.clock} steps"

    def legal_actions(self, state: Line) -> list[str]:
        return ["left", "right"]

    def step(self, state: Line, action: str) -> Line:
        return Line(max(0, state.place - 1) if action == "left" else state.place + 1, state.clock + 1)

    def rewards(self, state: Line) -> tuple[float, ...]:
        return (float(state.place == 3),)

    def info(self, state: Line) -> dict[str, Any]:
        return {"success": state.place == 3, "invalid_action": False}

    def position(self, state: Line) -> int:
        return state.place


def corridor_root() -> Root:
    return Root(Line(0, 0), (observed("place 0, 0 steps"),), {"env_id": "corridor", "seed": 0})


class Even(HashPolicy):
    def score(self, transcripts: Any, candidates: Any) -> list[np.ndarray]:
        self.calls += len(transcripts)
        return [np.zeros(len(actions)) for actions in candidates]


def zero(simulator: Any, state: Any, transcript: Any) -> float:
    return 0.0


def test_no_edge_leads_back_onto_the_path() -> None:
    [tree] = search(Corridor(), [corridor_root()], Even(), ValueFunction(zero), SearchSettings(simulations=50))
    assert tree.actions == ["", "right", "right", "right"]
    assert tree.counters["dropped_revisits"] == 3
    assert tree.counters["simulations"] == 4
    assert tree.is_solved()
    assert float(tree.nodes["prior"][1]) == 1.0


def test_edges_may_lead_back_where_revisits_are_allowed() -> None:
    settings = SearchSettings(simulations=20, revisit=True)
    [tree] = search(Corridor(), [corridor_root()], Even(), ValueFunction(zero), settings)
    assert len(tree.children(0)) == 2
    assert tree.counters["dropped_revisits"] == 0


def test_a_terminal_counts_its_reward_and_is_not_simulated_twice() -> None:
    [tree] = search(Corridor(), [corridor_root()], Even(), ValueFunction(zero), SearchSettings(simulations=50))
    assert tree.value(3) == 1.0
    assert tree.visits(3) == 1
    [again] = search(
        Corridor(), [corridor_root()], Even(), ValueFunction(zero), SearchSettings(simulations=50, solve=False)
    )
    assert again.visits(3) == 47
    assert again.counters["simulations"] == 50


class Alley(Corridor):
    """From place 0 a dead alley at place 1 (its one action leads back) and the way out at place 3."""

    def legal_actions(self, state: Line) -> list[str]:
        return ["0"] if state.place == 1 else ["1", "2"] if state.place == 0 else ["3"]

    def step(self, state: Line, action: str) -> Line:
        return Line(int(action), state.clock + 1)


@pytest.mark.parametrize("solve", [True, False])
def test_a_dead_end_is_valued_once_where_solving(solve: bool) -> None:
    asked = []

    def judge(simulator: Any, state: Line, transcript: Any) -> float:
        asked.append(state.place)
        return 1.0 if state.place == 1 else 0.0

    settings = SearchSettings(simulations=7, selection=Puct(exploration=0.0), solve=solve)
    [tree] = search(Alley(), [corridor_root()], Even(), ValueFunction(judge), settings)
    assert tree.actions[1] == "1"
    assert (tree.visits(1), tree.value(1), len(tree.children(1))) == (6, 1.0, 0)
    assert tree.is_solved(1) == solve
    assert asked == [0, 1] if solve else [0, *[1] * 6]


def test_a_search_that_was_interrupted_can_go_on() -> None:
    class Interrupted(HashPolicy):
        def score(self, transcripts: Any, candidates: Any) -> list[np.ndarray]:
            self.calls += 1
            if self.calls == 4:
                raise KeyboardInterrupt
            return super().score(transcripts, candidates)

    simulator = RandomTree()
    settings = SearchSettings(simulations=20)
    trees = [Tree(simulator, root.state, root.transcript) for root in roots(range(2), simulator)]
    with pytest.raises(KeyboardInterrupt):
        extend(simulator, trees, Interrupted(), ValueFunction(judged), settings)
    assert all(tree.nodes["pending"].any() for tree in trees)
    extend(simulator, trees, HashPolicy(), ValueFunction(judged), settings)
    assert not any(tree.nodes["pending"].any() for tree in trees)
    assert all(tree.counters["simulations"] == 20 or tree.is_solved() for tree in trees)


def test_a_search_starts_where_a_player_is_to_move() -> None:
    root = Root(Line(3, 3), (observed("out"),))
    with pytest.raises(ValueError, match="root 0 is terminal"):
        search(Corridor(), [root], Even(), ValueFunction(zero))


def test_each_kernel_is_compiled_for_one_signature() -> None:
    simulator = RandomTree()
    for settings in (
        SearchSettings(simulations=9),
        SearchSettings(simulations=9, selection=Uct(exploration=1), discount=1, virtual_loss=0),
    ):
        [tree] = search(simulator, roots([1], simulator), HashPolicy(), ValueFunction(judged), settings)
        tree.best_action()
    entries = (_select, _back_up_from, _add_children, _path, mixed_prior, usable)
    assert {kernel.py_func.__name__: len(kernel.signatures) for kernel in entries} == {
        kernel.py_func.__name__: 1 for kernel in entries
    }


def test_a_hidden_outcome_is_never_read_and_the_evaluator_is_asked_once() -> None:
    asked = []

    class Blind(Corridor):
        def rewards(self, state: Line) -> tuple[float, ...]:
            raise AssertionError("the outcome was read")

    def guess(simulator: Any, state: Line, transcript: Any) -> float:
        asked.append(state)
        return 0.25 * state.place

    settings = SearchSettings(simulations=30, hide_outcome=True, solve=False, discount=0.5)
    [tree] = search(Blind(), [corridor_root()], Even(), ValueFunction(guess), settings)
    assert len(asked) == 4
    assert tree.visits(3) == 27
    assert tree.value(3) == 0.75


def test_roll_outs_are_refused_where_the_outcome_is_hidden() -> None:
    with pytest.raises(ValueError, match="hide_outcome"):
        search(Corridor(), [corridor_root()], Even(), RandomRollout(), SearchSettings(hide_outcome=True))


def test_the_best_action_is_a_solved_win_although_it_was_visited_once() -> None:
    tree = Tree(None, "root", ())
    flags = [ENDED | VALUED, 0]
    tree.add_children(0, Children(["win", "wander"], ["W", "X"], np.array([0.5, 0.5]), [0.0, 0.0], [1.0, 0.0], flags))
    settings = SearchSettings(selection=Puct(exploration=1.0, unvisited_value="zero"), virtual_loss=0.0)
    record = settings_record(settings, zero_sum=False, players=1)
    for value in (0.0, 0.0, 0.5, 0.5):
        leaf, _, _ = tree.select(record)
        tree.back_up(leaf, value, record)
        if leaf == 2:
            break
    assert tree.best_action("visits") == "win"
    assert tree.best_action("value") == "win"


def test_a_root_without_children_has_no_best_action() -> None:
    with pytest.raises(ValueError, match="no children"):
        Tree(None, "root", ()).best_action()


def test_policy_target_is_the_share_of_visits() -> None:
    simulator = RandomTree()
    [tree] = search(
        simulator, roots([3], simulator), HashPolicy(), ValueFunction(judged), SearchSettings(simulations=31)
    )
    actions, shares = tree.policy_target()
    assert actions == simulator.legal_actions(tree.states[0])
    assert shares == pytest.approx([tree.visits(child) / (tree.visits(0) - 1) for child in tree.children()])


# ---- failures ---------------------------------------------------------------------------------------------------


def test_a_batch_that_is_asked_again_draws_the_same_numbers_for_the_others() -> None:
    class Fragile(RandomRollout):
        def evaluate(self, leaves: Sequence[Leaf]) -> np.ndarray:
            values = super().evaluate(leaves)
            if any(leaf.tree == 1 and leaf.node == 2 for leaf in leaves):
                raise RuntimeError("late")
            return values

    simulator = RandomTree()
    settings = SearchSettings(simulations=20, selection=Puct(exploration=1.0))
    trees, clean = (
        search(simulator, roots(range(3), simulator), HashPolicy(), evaluator, settings, np.random.default_rng(3))
        for evaluator in (Fragile(), RandomRollout())
    )
    assert [tree.counters["failed_leaves"] for tree in trees] == [0, 1, 0]
    assert numbers(trees[0]) == numbers(clean[0])
    assert numbers(trees[2]) == numbers(clean[2])


def test_a_failed_root_is_tried_again() -> None:
    class Once(HashPolicy):
        def score(self, transcripts: Any, candidates: Any) -> list[np.ndarray]:
            self.calls += 1
            if self.calls == 1:
                raise TimeoutError("slow")
            return super().score(transcripts, candidates)

    simulator = RandomTree()
    [tree] = search(simulator, roots([0], simulator), Once(), ValueFunction(judged), SearchSettings(simulations=5))
    assert tree.visits(0) == 4


def test_a_search_stops_when_too_much_fails() -> None:
    class Dead(HashPolicy):
        def score(self, transcripts: Any, candidates: Any) -> list[np.ndarray]:
            raise ConnectionError("refused")

    simulator = RandomTree()
    with pytest.raises(SearchStopped, match=r"30 of 30 leaves failed.*refused") as stopped:
        search(simulator, roots(range(30), simulator), Dead(), ValueFunction(judged))
    assert len(stopped.value.trees) == 30


def test_settings_name_the_value_and_what_was_expected() -> None:
    with pytest.raises(ValueError, match=r"selection is 'best'; expected one of ucb1, uct, puct"):
        SearchSettings(selection="best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"simulations is 0; expected a number from 1"):
        SearchSettings(simulations=0)


# ---- what goes together -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rng", [None, 3, []])
def test_a_search_from_no_root_gives_no_tree(rng: Any) -> None:
    assert search(Corridor(), [], Even(), ValueFunction(zero), None, rng) == []


@pytest.mark.parametrize("count", [1, 3])
def test_there_are_as_many_generators_as_roots(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} generators for 2 roots; pass one generator, or one a root"):
        search(Corridor(), [corridor_root()] * 2, Even(), ValueFunction(zero), None, fresh_generators(count))


class Bargain(Simulator[str]):
    """Two players who both gain, by a deal or by the toss of a coin, which no zero-sum game has."""

    players, zero_sum = 2, True

    def reset(self, seed: int, options: Any = None) -> str:
        return ""

    def current_player(self, state: str) -> int:
        return {"": 0, "wait": 1, "toss": CHANCE}.get(state, TERMINAL)

    def observation(self, state: str, player: int = 0) -> str:
        return state or "-"

    def legal_actions(self, state: str) -> list[str]:
        return ["wait"] if state == "" else ["toss", "deal"]

    def chance_outcomes(self, state: str) -> list[tuple[str, float]]:
        return [("heads", 0.5), ("tails", 0.5)]

    def step(self, state: str, action: str) -> str:
        return action

    def rewards(self, state: str) -> tuple[float, ...]:
        return (1.0, 1.0) if state in ("deal", "heads", "tails") else (0.0, 0.0)


class TossOnly(Bargain):
    def legal_actions(self, state: str) -> list[str]:
        return ["wait"] if state == "" else ["toss"]


class OrNothing(Bargain):
    def legal_actions(self, state: str) -> list[str]:
        return ["wait"] if state == "" else ["nothing", "deal"]


@pytest.mark.parametrize("options", [{}, {"revisit": True}, {"transpositions": True}], ids=["ahead", "lazy", "graph"])
@pytest.mark.parametrize("simulator", [Bargain(), TossOnly(), OrNothing()], ids=["both", "chance", "step"])
def test_a_game_that_is_not_zero_sum_ends_the_search_wherever_it_is_found_out(
    simulator: Simulator[Any], options: dict[str, Any]
) -> None:
    settings = flat_settings(simulations=30, solve=False, max_failed_share=1.0, **options)
    with pytest.raises(
        ValueError, match=r"(Bargain|TossOnly|OrNothing) says that it is zero-sum, and pays \(1\.0, 1\.0\)"
    ):
        search(simulator, [Root("")], None, ValueFunction(zero), settings)


class Opinions:
    """A critic that likes nothing."""

    def values(self, transcripts: Any, candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        return [np.zeros(len(actions)) for actions in candidates]


@pytest.mark.parametrize(
    ("options", "hooks", "words"),
    [
        ({"critic_weight": 0.5}, {}, "critic_weight=0.5 and unvisited_value='parent' ask a critic; pass critic="),
        ({"unvisited_value": "prior"}, {}, "critic_weight=0.0 and unvisited_value='prior' ask a critic; pass critic="),
        ({}, {"critic": Opinions()}, "unvisited_value='parent' read no critic, and one was passed"),
        ({"selection": "uct_bonus"}, {}, "selection='uct_bonus' adds a bonus; pass bonus=, or name bonus_terms"),
        ({}, {"bonus": lambda tree, node: 0.0}, "selection='puct' adds no bonus, and one was passed"),
        ({"information": "single_observer"}, {}, "and Corridor has no resample that draws anything anew; write one"),
    ],
)
def test_a_hook_is_passed_where_the_settings_ask_for_it_and_nowhere_else(
    options: dict[str, Any], hooks: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        search(Corridor(), [corridor_root()], None, ValueFunction(zero), flat_settings(**options), **hooks)


@pytest.mark.parametrize(
    ("options", "hooks"),
    [
        ({"critic_weight": 0.5}, {"critic": Opinions()}),
        ({"unvisited_value": "prior"}, {"critic": Opinions()}),
        ({"selection": "uct_bonus"}, {"bonus": lambda tree, node: 0.0}),
        ({"selection": "uct_bonus", "bonus_terms": ("early_depth",)}, {}),
        ({}, {"same": lambda one, other: False}),
    ],
)
def test_a_hook_that_the_settings_ask_for_is_taken(options: dict[str, Any], hooks: dict[str, Any]) -> None:
    settings = flat_settings(simulations=4, **options)
    [tree] = search(Corridor(), [corridor_root()], None, ValueFunction(zero), settings, **hooks)
    assert tree.is_solved()


def test_the_best_return_of_one_is_backed_up_for_one_player_alone() -> None:
    settings = SearchSettings(simulations=4, backup="max")
    assert search(Corridor(), [corridor_root()], None, ValueFunction(zero), settings)[0].value(0) == 1.0
    with pytest.raises(ValueError, match="Bargain has 2 players, and backup='max' keeps the best return of one; use"):
        search(Bargain(), [Root("")], None, ValueFunction(zero), settings)


def test_a_tree_without_its_simulator_is_not_gone_on_with() -> None:
    tree = Tree(None, Line(0, 0), (), index=3)
    with pytest.raises(ValueError, match=r"tree 3 was loaded without its simulator; load_trees\(path, simulator\)"):
        extend(Corridor(), [tree], None, ValueFunction(zero), SearchSettings())


@pytest.mark.parametrize(
    ("players", "said", "opposed"),
    [(2, True, True), (2, False, False), (2, None, False), (1, True, False), (3, True, False)],
)
def test_two_players_are_opposed_where_the_simulator_says_so(players: int, said: bool | None, opposed: bool) -> None:
    class Says(Corridor):
        pass

    Says.players = players
    if said is not None:
        Says.zero_sum = said  # type: ignore[attr-defined]
    assert is_zero_sum(Says()) == opposed


def test_graphs_of_shared_states_hang_their_children_at_the_state() -> None:
    """Two ways lead to each state, and a way may be tried before the one that found the state first."""

    class Bag(Fork):
        def step(self, state: Path, action: str) -> Path:
            return Path(state.seed, tuple(sorted((*state.actions, action))))

    settings = SearchSettings(simulations=60, transpositions=True, solve=False, selection=Puct(exploration=5.0))
    [tree] = search(Bag(), roots([0], Bag()), None, ValueFunction(judged), settings)
    linked = [node for node in range(len(tree)) if tree.source(node) != node]
    assert len(linked) == tree.counters["transpositions"] > 5
    for node in range(len(tree)):
        assert tree.states[node] == tree.states[tree.source(node)]
        assert all(tree.parent(child) == tree.source(node) for child in tree.children(node))
    ends = [node for node in range(len(tree)) if tree.is_terminal(node)]
    assert len(ends) > len({tree.states[end] for end in ends}) > 1
    assert not set(ends) & set(linked)  # nothing hangs below an end that could be shared
    assert len({tree.states[node] for node in range(len(tree)) if not tree.is_terminal(node)}) == sum(
        not tree.is_terminal(node) and tree.source(node) == node for node in range(len(tree))
    )


def test_a_root_of_which_nothing_is_said_has_no_task_and_no_words() -> None:
    [tree] = search(Corridor(), [Root(Line(0, 0))], None, ValueFunction(zero), SearchSettings(simulations=1))
    assert (tree.task, tree.transcript()) == ({}, ())


# ---- when a search stops ----------------------------------------------------------------------------------------


def lost(simulator: Any, state: Path, transcript: Any) -> float:
    """Of one leaf nothing can be said."""
    if state.actions == ("a0",):
        raise ConnectionError("refused")
    return 0.0


class Fork(RandomTree):
    """Two actions everywhere, to depth 6."""

    def current_player(self, state: Path) -> int:
        return TERMINAL if len(state.actions) == 6 else 0

    def legal_actions(self, state: Path) -> list[str]:
        return ["a0", "a1"]

    def rewards(self, state: Path) -> tuple[float, ...]:
        return (0.0,)


def test_failures_are_looked_at_from_twenty_leaves_on() -> None:
    settings = SearchSettings(simulations=40, max_failed_share=0.0)
    with pytest.raises(SearchStopped, match=r"^1 of 20 leaves failed, more than max_failed_share=0\.0; .*refused"):
        search(Fork(), roots([0], Fork()), None, ValueFunction(lost), settings)
    with pytest.raises(SearchStopped, match=r"^1 of 19 leaves failed"):  # in the end of however few
        search(Fork(), roots([0], Fork()), None, ValueFunction(lost), replace(settings, simulations=19))


def test_a_search_goes_on_as_long_as_the_share_of_failures_is_not_more_than_set() -> None:
    settings = SearchSettings(simulations=20, max_failed_share=0.05)
    [tree] = search(Fork(), roots([0], Fork()), None, ValueFunction(lost), settings)
    assert (tree.counters["failed_leaves"], tree.visits(0)) == (1, 19)


@pytest.mark.parametrize(
    ("limit", "simulations"),
    [
        ({"max_model_calls": 7}, 7),
        ({"max_nodes": 3}, 1),  # a root and its two children
        ({"max_nodes": 4}, 2),
        ({"max_nodes": 5}, 2),
        ({"seconds": 1e-9}, 0),
        ({"simulations": 6}, 6),
    ],
)
def test_a_limit_is_reached_where_it_is_equalled(limit: dict[str, Any], simulations: int) -> None:
    [tree] = search(Fork(), roots([0], Fork()), None, ValueFunction(zero), flat_settings(**limit))
    assert (tree.stopped, tree.visits(0)) == (next(iter(limit)), simulations)


@pytest.mark.parametrize(("less", "simulations"), [(0, 1), (1, 0)])
def test_memory_may_grow_to_its_limit_and_not_beyond(less: int, simulations: int) -> None:
    tree = Tree(Fork(), Fork().reset(0), ())
    settings = SearchSettings(max_bytes=tree.bytes_to_grow() - less)
    extend(Fork(), [tree], None, ValueFunction(zero), settings)
    assert (tree.stopped, tree.visits(0)) == ("max_bytes", simulations)


def test_a_bar_is_handed_the_trees_before_the_first_round() -> None:
    class Bar:
        trees: list[Tree] = []  # noqa: RUF012

        def __call__(self, *_: int) -> None:
            assert [tree.index for tree in self.trees] == [0, 1]

    bar = Bar()
    grown = search(
        Fork(), roots([0, 1], Fork()), None, ValueFunction(zero), SearchSettings(simulations=2), progress=bar
    )
    assert bar.trees == grown


def test_progress_counts_sampled_actions_as_the_trees_do() -> None:
    told: list[int] = []
    trees = search(
        FreeText(),
        roots(range(2), FreeText()),
        SamplingPolicy(),
        ValueFunction(judged),
        SearchSettings(simulations=4, proposals=3),
        progress=lambda *totals: told.append(totals[2]),
    )
    assert told[-1] == sum(tree.counters["model_calls"] for tree in trees)


def test_an_evaluator_is_told_where_each_leaf_hangs() -> None:
    told: list[tuple[int, int, bool, str]] = []

    class Reader:
        def evaluate(self, leaves: Sequence[Leaf]) -> np.ndarray:
            told.extend((leaf.tree, leaf.node, leaf.terminal, leaf.state.actions[-1:]) for leaf in leaves)
            return np.zeros((len(leaves), 1))

    simulator = RandomTree(depth=1)
    settings = SearchSettings(simulations=2, hide_outcome=True)
    trees = search(simulator, roots([0, 1], simulator), None, Reader(), settings)
    assert [where[:3] for where in told] == [(0, 0, False), (1, 0, False), (0, 1, True), (1, 1, True)]
    assert [tree.counters["model_calls"] for tree in trees] == [2, 2]  # one each where it says nothing of them


def test_a_critic_reads_transcripts_though_nobody_else_does() -> None:
    read: list[str] = []

    class Critic:
        def values(self, transcripts: Sequence[Transcript], candidates: Any) -> list[np.ndarray]:
            read.extend(transcript[-1].text for transcript in transcripts)
            return [np.zeros(len(actions)) for actions in candidates]

    search(Corridor(), [corridor_root()], None, RandomRollout(), SearchSettings(critic_weight=0.5), critic=Critic())
    assert read[:2] == ["place 0, 0 steps", "place 1, 1 steps"]


def test_a_search_goes_on_for_as_long_as_it_may_take() -> None:
    settings = SearchSettings(simulations=5, seconds=max(60.0, 1.5 * time.monotonic()))
    [tree] = search(Fork(), roots([0], Fork()), None, ValueFunction(zero), settings)
    assert tree.stopped == "simulations"
