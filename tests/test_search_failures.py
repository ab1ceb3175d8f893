"""Nobody who answers a search can be trusted to answer: whatever policy, critic and evaluator may do wrong, at a listed
action, at free text and under hidden information, costs the leaf it is about, is counted, and leaves the other trees of
the batch as they would have been; and memory stays where it was promised."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flat_settings import flat_settings
from toys import LATE, WRONG, Answers, Maze, Way, number

from branchwise.envs.games.kuhn_poker import KuhnPoker
from branchwise.envs.play.policy import Proposal
from branchwise.envs.play.transcript import observed
from branchwise.envs.simulator import TERMINAL, Simulator
from branchwise.search.engine import Root, SearchSettings, SearchStopped, search
from branchwise.search.evaluation import Leaf
from branchwise.search.rules.options import Puct
from branchwise.search.trees.nodes import FAILED
from branchwise.search.trees.tree import Tree


def grown(answers: Answers, listed: bool, **options: Any) -> list[Tree]:
    simulator = Maze(listed)
    roots = [Root(Way(seed), (observed(f"{seed}:"),), {"seed": seed}) for seed in range(4)]
    settings = flat_settings(
        **{"simulations": 25, "exploration": 1.5, "critic_weight": 0.3, "proposals": 3, "solve": False, **options}
    )
    return search(simulator, roots, answers, answers, settings, np.random.default_rng(0), critic=answers)  # type: ignore[arg-type]


WAYS = ["raises", "late", "fewer", "none at all", "nan", "short", "long", "nothing", "words", "infinite"]
CASES = [(who, how) for who in ("score", "values", "evaluate") for how in WAYS]
CASES += [("propose", how) for how in ("raises", "late", "fewer", "none at all", "nan", "nothing", "blank", "words")]


@pytest.mark.parametrize(("who", "how"), CASES)
def test_a_wrong_answer_costs_the_leaf_that_it_is_about(who: str, how: str) -> None:
    listed = who != "propose"
    options = {"call_seconds": LATE} if how == "late" else {}
    clean = grown(Answers(), listed)
    trees = grown(Answers(who, how), listed, **options)
    for index in (0, 1, 3):
        assert trees[index].nodes.tobytes() == clean[index].nodes.tobytes(), index
        assert trees[index].counters["failed_leaves"] == 0
        assert trees[index].last_error == ""
    tree = trees[2]
    failed = [node for node in range(len(tree)) if tree.has(node, FAILED)]
    assert len(failed) == tree.counters["failed_leaves"] == 1
    assert tree.states[failed[0]] == Way(2, "b")
    assert tree.visits(failed[0]) == 0
    assert tree.last_error.startswith(
        f"{ {'values': 'critic', 'evaluate': 'evaluator'}.get(who, 'policy') }.{who} failed: "
    )
    assert tree.visits(0) == 25 - len(failed)
    assert not tree.nodes["pending"].any()


@pytest.mark.parametrize("how", ["raises", "nan", "short", "nothing", "none at all"])
@pytest.mark.parametrize("who", ["score", "evaluate"])
def test_under_hidden_information_too(who: str, how: str) -> None:
    poker = KuhnPoker()
    state = poker.step(poker.step(poker.reset(0), "Q"), "J")
    calls = [0]

    class Poor(Answers):
        def score(self, transcripts: Any, candidates: Any) -> Any:
            return self._sometimes("score", [np.zeros(len(actions)) for actions in candidates])

        def evaluate(self, leaves: Sequence[Leaf]) -> Any:
            return self._sometimes("evaluate", [np.array([0.5, -0.5]) for _ in leaves])

        def _sometimes(self, who: str, right: list[Any]) -> Any:
            calls[0] += who == self.who
            if who != self.who or calls[0] % 3:
                return right
            if self.how == "raises":
                raise ConnectionError("gone")
            return None if self.how == "none at all" else [WRONG[self.how](answer) for answer in right]

    settings = SearchSettings(simulations=60, information="multiple_observer", solve=False)
    poor = Poor(who, how)
    [tree] = search(poker, [Root(state)], poor, poor, settings, np.random.default_rng(0))  # type: ignore[arg-type]
    assert tree.counters["failed_leaves"] > 0
    assert tree.visits(0) == 60 - tree.counters["failed_leaves"]
    assert not tree.nodes["pending"].any()


def test_a_simulator_that_raises_anywhere_costs_a_leaf_or_an_action() -> None:
    """In each method that a search calls."""

    def broken(name: str) -> Simulator[Any]:
        class Broken(Maze):
            pass

        def raising(self: Any, state: Any, *rest: Any) -> Any:
            if state.steps == "ab":
                raise KeyError("lost")
            return getattr(super(Broken, self), name)(state, *rest)

        setattr(Broken, name, raising)
        return Broken()

    for name in ("current_player", "observation", "legal_actions", "step", "rewards", "position"):
        settings = SearchSettings(simulations=60, selection=Puct(exploration=3.0))
        answers = Answers()
        [tree] = search(broken(name), [Root(Way(0), (observed("0:"),))], answers, answers, settings)  # type: ignore[arg-type]
        assert tree.counters["failed_leaves"] + tree.counters["failed_actions"] > 0, name
        assert "KeyError: 'lost'" in tree.last_error, name
        assert tree.counters["simulations"] == 60
        assert not tree.nodes["pending"].any()


class Broken(Maze):
    """Raises in one method, about the tree of one seed, after ``steps``."""

    def __init__(self, method: str, seed: int, steps: str) -> None:
        super().__init__()

        def raising(state: Way, *rest: Any) -> Any:
            if state.seed == seed and state.steps.startswith(steps):
                raise KeyError("lost")
            return getattr(Maze, method)(self, state, *rest)

        setattr(self, method, raising)


@pytest.mark.parametrize("leaves_per_tree", [1, 3])
@pytest.mark.parametrize("method", ["current_player", "observation", "legal_actions", "step", "rewards"])
def test_a_simulator_that_raises_about_one_tree_leaves_the_others_as_they_are(
    method: str, leaves_per_tree: int
) -> None:
    roots = [Root(Way(seed), (observed(f"{seed}:"),)) for seed in range(3)]
    settings = SearchSettings(simulations=30, selection=Puct(exploration=3.0), leaves_per_tree=leaves_per_tree)
    clean, trees = (
        search(simulator, roots, Answers(), Answers(), settings)  # type: ignore[arg-type]
        for simulator in (Maze(), Broken(method, 0, "ab"))
    )
    assert trees[0].counters["failed_leaves"] + trees[0].counters["failed_actions"] > 0
    for index in (1, 2):
        assert trees[index].nodes.tobytes() == clean[index].nodes.tobytes()
        assert trees[index].last_error == ""


def test_what_is_seen_at_an_end_is_not_asked() -> None:
    class Blind(Maze):
        def observation(self, state: Way, player: int = 0) -> str:
            if self.current_player(state) == TERMINAL:
                raise KeyError("lost")
            return super().observation(state, player)

    settings = SearchSettings(simulations=40, selection=Puct(exploration=0.0), solve=False)
    [tree] = search(Blind(), [Root(Way(0), (observed("0:"),))], Answers(), Answers(), settings)  # type: ignore[arg-type]
    assert max(tree.depth(node) for node in range(len(tree)) if tree.visits(node)) == 6
    assert (tree.counters["failed_leaves"], tree.last_error) == (0, "")


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_a_search_stops_past_the_stated_share(share: float) -> None:
    class HalfDead(Answers):
        def evaluate(self, leaves: Sequence[Leaf]) -> Any:
            return [[np.nan if number(leaf.state.steps) < 0.4 else 0.5] for leaf in leaves]

    if share > 0.5:
        trees = grown(HalfDead(), True, max_failed_share=share, simulations=60)
        failed = sum(tree.counters["failed_leaves"] for tree in trees)
        assert 0.2 < failed / sum(tree.counters["simulations"] for tree in trees) < share
        return
    with pytest.raises(SearchStopped, match=r"more than max_failed_share=0.2; the last one because evaluator"):
        grown(HalfDead(), True, max_failed_share=share, simulations=60)


# ---- memory -----------------------------------------------------------------------------------------------------

_MEMORY = """
import gc, resource, sys
import numpy as np
from branchwise.search.engine import Root, SearchSettings, search
sys.path.insert(0, {tests!r})
from test_search_failures import {name} as job


def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


job(resident)
"""


def in_a_process_of_its_own(name: str) -> list[float]:
    code = _MEMORY.format(tests=str(Path(__file__).parent), name=name)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [float(part) for part in done.stdout.split()]


needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads resident memory from /proc")


class Talk(Simulator[tuple[str, ...]]):
    """Any text is an answer; a state is all that was said, and every answer is met with a long one."""

    def reset(self, seed: int, options: Any = None) -> tuple[str, ...]:
        return ()

    def current_player(self, state: tuple[str, ...]) -> int:
        return TERMINAL if len(state) >= 40 else 0

    def observation(self, state: tuple[str, ...], player: int = 0) -> str:
        return f"I heard {state[-1] if state else 'nothing'}. " * 20

    def legal_actions(self, state: tuple[str, ...]) -> None:
        return None

    def step(self, state: tuple[str, ...], action: str) -> tuple[str, ...]:
        return (*state, action)

    def rewards(self, state: tuple[str, ...]) -> tuple[float, ...]:
        return (0.0,)

    def info(self, state: tuple[str, ...]) -> dict[str, Any]:
        return {"success": False, "invalid_action": False}


class Chatter(Answers):
    def propose(self, transcripts: Any, n: int, rngs: Any) -> Any:
        self.calls += 1
        return [
            [Proposal(f"answer {self.calls} {i} {k} " + "blah " * 10, -1.0) for k in range(n)]
            for i in range(len(transcripts))
        ]

    def evaluate(self, leaves: Sequence[Leaf]) -> Any:
        return np.array([[number(leaf.node)] for leaf in leaves])


def talk(simulations: int, seed: int = 0, **options: Any) -> Tree:
    settings = flat_settings(simulations=simulations, exploration=1.0, **options)
    root = Root((), (observed("Hello."),), {"seed": seed})
    chatter = Chatter()
    [tree] = search(Talk(), [root], chatter, chatter, settings, np.random.default_rng(seed))  # type: ignore[arg-type]
    return tree


def a_thousand_searches(resident: Callable[[], int]) -> None:
    poker = KuhnPoker()
    state = poker.step(poker.step(poker.reset(0), "Q"), "J")
    hidden = SearchSettings(simulations=8, information="multiple_observer", solve=False)
    for count in range(1000):
        talk(8, count)
        search(poker, [Root(state)], None, Even(), hidden, np.random.default_rng(count))
        if count in (249, 999):
            print(resident())


class Even:
    calls = 0

    def evaluate(self, leaves: Sequence[Leaf]) -> np.ndarray:
        return np.zeros((len(leaves), 2))


def within_a_budget(resident: Callable[[], int]) -> None:
    talk(5)
    budget, before = 30_000_000, resident()
    tree = talk(1_000_000, 1, max_bytes=budget)
    print(budget, resident() - before, len(tree), int(tree.stopped == "max_bytes"))


@needs_proc
@pytest.mark.slow
def test_a_thousand_searches_leave_no_memory_behind() -> None:
    """Resident memory after 1,000 searches of free text and of hidden information, against that after 250."""
    early, late = in_a_process_of_its_own("a_thousand_searches")
    assert late < early + 3_000_000


@needs_proc
def test_a_budget_of_memory_holds_for_the_process() -> None:
    """The budget is counted from array sizes and texts, and stops a search before the next growth would pass it; a
    quarter more is what the allocator and the dictionaries beside may take."""
    process = in_a_process_of_its_own("within_a_budget")
    budget, growth, nodes, stopped = process
    assert stopped, process
    assert nodes > 5_000
    assert 0.3 * budget < growth < 1.25 * budget
