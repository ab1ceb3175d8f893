"""The engine's promises about batches, ends, proposals and roll-outs; what fails stands in test_search_failures.py, the
rules against a plain twin in test_search_twin.py."""

import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st
from random_numbers import digest, uniform

from branchwise.envs.simulator import TERMINAL, Simulator
from branchwise.search.arrays import _back_up_from
from branchwise.search.engine import Root, SearchSettings, SearchStopped, extend, normalised, search
from branchwise.search.evaluation import Leaf, PolicyRollout, RandomRollout, ValueFunction, sampled
from branchwise.search.policy import Proposal
from branchwise.search.selection import mixed_prior, usable
from branchwise.search.settings import walk_of
from branchwise.search.transcript import Transcript, observed
from branchwise.search.tree import EXPANDED, VALUED, Tree, _add_children, _path, _select
from branchwise.search.tree import TERMINAL as TERMINAL_FLAG


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

    def propose(self, transcripts: Sequence[Transcript], n: int, rng: np.random.Generator) -> list[list[Proposal]]:
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

    def propose_each(
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
    settings = SearchSettings(simulations=25, leaves_per_tree=leaves_per_tree, selection="ucb1", exploration=1.0)
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
    settings = SearchSettings(solve=solve, **options)
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


@pytest.mark.parametrize(("solve", "visits"), [(True, 1), (False, 6)])
def test_a_dead_end_is_valued_and_where_solving_not_tried_again(solve: bool, visits: int) -> None:
    def judge(simulator: Any, state: Line, transcript: Any) -> float:
        return 1.0 if state.place == 1 else 0.0

    settings = SearchSettings(simulations=7, exploration=0.0, solve=solve)
    [tree] = search(Alley(), [corridor_root()], Even(), ValueFunction(judge), settings)
    assert tree.actions[1] == "1"
    assert (tree.visits(1), tree.value(1), len(tree.children(1))) == (visits, 1.0, 0)
    assert tree.is_solved(1) == solve
    assert tree.is_solved() == solve


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
    for settings in (SearchSettings(simulations=9), SearchSettings(9, "uct", 1, discount=1, virtual_loss=0)):
        [tree] = search(simulator, roots([1], simulator), HashPolicy(), ValueFunction(judged), settings)
        tree.best_action()
    entries = (_select, _back_up_from, _add_children, _path, mixed_prior, usable)
    assert {kernel.py_func.__name__: len(kernel.signatures) for kernel in entries} == {
        kernel.py_func.__name__: 1 for kernel in entries
    }


def test_the_first_search_after_installation_says_that_it_compiles(tmp_path: pathlib.Path) -> None:
    """With an empty cache the notice comes, and comes first; with what that left, none. A small kernel stands for those
    of the search, whose compiling takes half a minute."""
    (tmp_path / "small.py").write_text(_SMALL)
    said = [
        subprocess.run(
            [sys.executable, str(tmp_path / "small.py")], capture_output=True, text=True, check=True
        ).stderr.splitlines()
        for _ in range(2)
    ]
    assert said == [["branchwise: compiling the sum, once after installation …", "3"], ["3"]]


_SMALL = """
import sys
from numba import njit
from branchwise.search.compiling import say_if_compiling


@njit(cache=True)
def add(one, other):
    return one + other


say_if_compiling(add, "the sum")
print(add(1, 2), file=sys.stderr)
"""


_CALLING = """
from numba import njit
from branchwise.search.compiling import forget_outdated
from .between import answer


@njit(cache=True)
def ask():
    return answer()


if FORGET:
    forget_outdated(ask)
print(ask())
"""


def test_kernels_of_before_an_update_are_forgotten_and_others_kept(tmp_path: Path) -> None:
    """Without it numba goes on with what ``ask`` had called before."""
    package, said = tmp_path / "package", []
    package.mkdir()
    constant = "from numba import njit\n\n\n@njit(cache=True)\ndef answer():\n    return {}\n"
    (package / "__init__.py").touch()
    (package / "between.py").write_text("from .called import answer\n")
    (package / "calling.py").write_text(_CALLING)
    (package / "other.py").write_text(constant.format(3) + "answer()\n")
    for number, forget in ((1, False), (2, False), (2, True)):
        (package / "called.py").write_text(constant.format(number))
        said.append(subprocess.run(
            [sys.executable, "-c", f"import builtins as b; b.FORGET = {forget}; import package.other, package.calling"],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        ).stdout.strip())  # fmt: skip
        if number == 1:
            kept = [path.stat().st_mtime_ns for path in (package / "__pycache__").glob("other.*.nbi")]
    assert said == ["1", "1", "2"]
    assert [path.stat().st_mtime_ns for path in (package / "__pycache__").glob("other.*.nbi")] == kept


def test_without_the_compiler_environments_play_and_a_search_says_what_it_needs() -> None:
    script = "import gymnasium as gym, branchwise\nenv = gym.make('branchwise/ConnectFour-v0')\nenv.reset(seed=0)\n"
    script += "print(env.step('4')[1])\nimport branchwise.search.engine"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "0.0\n"
    assert done.stderr.splitlines()[-1].endswith("unset NUMBA_DISABLE_JIT")


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
    flags = [TERMINAL_FLAG | VALUED, 0]
    tree.add_children(0, ["win", "wander"], ["W", "X"], np.array([0.5, 0.5]), [0.0, 0.0], [1.0, 0.0], flags)
    settings = SearchSettings(exploration=1.0, unvisited_value="zero", virtual_loss=0.0)
    walk = walk_of(settings, zero_sum=False, players=1)
    for value in (0.0, 0.0, 0.5, 0.5):
        leaf, _, _ = tree.select(walk)
        tree.back_up(leaf, value, walk)
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


# ---- free text --------------------------------------------------------------------------------------------------


class Saying(HashPolicy):
    def propose(self, transcripts: Any, n: int, rng: Any) -> list[list[Proposal]]:
        texts = ["say 1", " say  1", "say 0", "say 2", "say 1 "]
        return [
            [Proposal(text, -float(i), (i,), (-float(i),)) for i, text in enumerate(texts[:n])] for _ in transcripts
        ]


def test_equal_proposals_are_merged_and_share_their_prior() -> None:
    simulator = FreeText()
    settings = SearchSettings(simulations=1, uniform_prior=0.0)
    [tree] = search(simulator, roots([0], simulator), Saying(), ValueFunction(judged), settings)
    assert tree.actions[1:] == ["say 1", "say 0", "say 2"]
    assert list(tree.nodes["prior"][1:]) == pytest.approx([0.6, 0.2, 0.2])
    assert tree.logps[1:] == [-0.0, -2.0, -3.0]
    assert tree.agent_turn(2).logps == (-2.0,)
    assert tree.counters["merged_proposals"] == 2
    assert tree.counters["invalid_actions"] == 1


def test_indentation_tells_proposals_apart_and_blanks_do_not() -> None:
    assert normalised("search[red  shirt] ") == normalised(" search[red shirt]")
    assert normalised("if a:\n    b\nc") != normalised("if a:\n    b\n    c")


# ---- failures ---------------------------------------------------------------------------------------------------


def test_a_batch_that_is_asked_again_draws_the_same_numbers_for_the_others() -> None:
    class Fragile(RandomRollout):
        def evaluate(self, leaves: Sequence[Leaf]) -> np.ndarray:
            values = super().evaluate(leaves)
            if any(leaf.tree == 1 and leaf.node == 2 for leaf in leaves):
                raise RuntimeError("late")
            return values

    simulator = RandomTree()
    settings = SearchSettings(simulations=20, exploration=1.0)
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


# ---- roll-outs --------------------------------------------------------------------------------------------------


def leaf_at(place: int, clock: int = 0) -> Leaf:
    return Leaf(Corridor(), Line(place, clock), (observed("start"),), False, np.random.default_rng(0), tree=4, node=9)


class Right(HashPolicy):
    def score(self, transcripts: Any, candidates: Any) -> list[np.ndarray]:
        self.calls += len(transcripts)
        return [np.array([-5.0, -0.1]) for _ in candidates]


def test_a_roll_out_discounts_from_the_leaf_on() -> None:
    evaluator = PolicyRollout(Right(), discount=0.5, temperature=0.0)
    values = evaluator.evaluate([leaf_at(2), leaf_at(1), leaf_at(0)])
    assert values.tolist() == [[1.0], [0.5], [0.25]]
    assert evaluator.calls == 6
    assert evaluator.last_calls == [1, 2, 3]


def test_a_roll_out_that_is_cut_off_is_worth_what_it_earned() -> None:
    assert PolicyRollout(Right(), max_steps=2, temperature=0.0).evaluate([leaf_at(0)]).tolist() == [[0.0]]


def test_successful_roll_outs_are_kept_with_their_leaf() -> None:
    evaluator = PolicyRollout(Right(), temperature=0.0, keep_successes=True)
    evaluator.evaluate([leaf_at(1), leaf_at(0, clock=11)])
    [success] = evaluator.take_successes()
    assert (success.tree, success.node, success.start, success.value) == (4, 9, 1, 1.0)
    assert [turn.text for turn in success.transcript if turn.is_agent] == ["right", "right"]
    assert evaluator.take_successes() == []


def test_random_roll_outs_ask_no_model() -> None:
    evaluator = RandomRollout()
    values = evaluator.evaluate([leaf_at(2), leaf_at(0)])
    assert set(values.ravel()) <= {0.0, 1.0}
    assert evaluator.calls == 0


def test_random_roll_outs_refuse_free_text() -> None:
    leaf = Leaf(FreeText(), Path(0, ()), (), False, np.random.default_rng(0))
    with pytest.raises(ValueError, match="any text"):
        RandomRollout().evaluate([leaf])


def test_model_calls_count_scores_and_roll_out_steps() -> None:
    evaluator = PolicyRollout(Right(), temperature=0.0)
    [tree] = search(Corridor(), [corridor_root()], Even(), evaluator, SearchSettings(simulations=50))
    # three nodes scored; roll-outs of 3, 2 and 1 steps
    assert tree.counters["model_calls"] == 3 + 6


def test_a_prompt_for_several_actions_is_one_prompt_and_so_many_model_calls() -> None:
    """As an episode that samples one action a prompt counts them, so that equal budgets buy equally many samples."""
    policy = SamplingPolicy()
    simulator = FreeText()
    settings = SearchSettings(simulations=6, proposals=4, proposals_by_depth=(7,))
    evaluator = ValueFunction(judged)
    [tree] = search(simulator, roots([0], simulator), policy, evaluator, settings)
    expanded = [node for node in range(len(tree)) if tree.has(node, EXPANDED) and not tree.is_terminal(node)]
    inner = len(expanded) - 1
    assert policy.calls == 1 + inner
    assert tree.counters["prompts"] == policy.calls + evaluator.calls
    assert tree.counters["model_calls"] == 7 + 4 * inner + evaluator.calls
    stopped = replace(settings, simulations=100, max_model_calls=20)
    [tree] = search(simulator, roots([0], simulator), policy, ValueFunction(judged), stopped)
    assert 20 <= tree.counters["model_calls"] < 20 + 4 + 1


def test_progress_is_told_totals() -> None:
    told: list[tuple[int, int, int]] = []
    simulator = RandomTree()
    trees = search(
        simulator,
        roots(range(3), simulator),
        HashPolicy(),
        ValueFunction(judged),
        SearchSettings(simulations=8),
        progress=lambda simulations, nodes, calls: told.append((simulations, nodes, calls)),
    )
    total = sum(tree.counters["simulations"] for tree in trees)
    assert told[-1] == (total, sum(map(len, trees)), sum(tree.counters["model_calls"] for tree in trees))


def test_sampling_follows_the_log_probabilities() -> None:
    rng = np.random.default_rng(0)
    logps = np.log([0.7, 0.2, 0.1]) - 50.0
    drawn = np.bincount([sampled(logps, 1.0, rng) for _ in range(4000)], minlength=3) / 4000
    assert drawn == pytest.approx([0.7, 0.2, 0.1], abs=0.03)
    assert sampled(logps, 0.0, rng) == 0
    assert {sampled(np.array([-np.inf, 0.0, -np.inf]), 1.0, rng) for _ in range(50)} == {1}
    for wrong in ([np.nan, 0.0], [-np.inf, -np.inf], []):
        with pytest.raises(ValueError, match="log-probabilities"):
            sampled(np.array(wrong), 1.0, rng)
