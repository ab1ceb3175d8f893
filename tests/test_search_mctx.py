"""Our PUCT and Gumbel searches against mctx on random synthetic decision processes.

Both sides see the same tables of next states, rewards, values and prior logits, the same discounts, the same invalid
root actions and the same Gumbel draws, in double precision. mctx spends a simulation on each new node and evaluates
the root beforehand, so n of its simulations are n + 1 of ours. Values are continuous, so that no two scores are equal
and mctx's tie-breaking noise (1e-7) decides nothing. The trees that mctx stores with its own tests are rebuilt besides.
"""

import json
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from flat_settings import flat_settings

from branchwise.envs.play.policy import Proposal
from branchwise.envs.play.transcript import Transcript, observed
from branchwise.envs.simulator import Simulator
from branchwise.search import answers as reading
from branchwise.search.engine import Root, search
from branchwise.search.evaluation import ValueFunction
from branchwise.search.rules import gumbel as formulas
from branchwise.search.rules.selection import alphazero_exploration, min_max_normalised, puct, sibling_bounds

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
mctx = pytest.importorskip("mctx", reason="the oracle mctx is a test extra")
jax = pytest.importorskip("jax", reason="the oracle mctx needs jax")

STATES = 97
BATCH = 12
SIMULATIONS = 48
C_BASE, C_INIT = 19652.0, 1.25
SIGMA = {"gumbel": (0.1, 50.0, True), "gumbel, values as they are": (0.3, 20.0, False)}


class Tables(NamedTuple):
    """A random decision process: int ``[S, A]``, float ``[S, A]``, float ``[S]``, float ``[S, A]``."""

    following: np.ndarray
    rewards: np.ndarray
    values: np.ndarray
    logits: np.ndarray


class Case(NamedTuple):
    """A batch of searches over one process: int ``[B]``, float ``[B]``, int ``[B, A]``, and the deepest node."""

    tables: Tables
    roots: np.ndarray
    discounts: np.ndarray
    invalid: np.ndarray
    max_depth: int


class Answer(NamedTuple):
    """What a search of one root ended with: ``[A]`` each, the root's value, and of every node (visits, mean return of
    the action into it) as a sorted array ``[nodes, 2]``, the root's return its value."""

    visits: np.ndarray
    weights: np.ndarray
    qvalues: np.ndarray
    value: float
    nodes: np.ndarray
    action: int


def case(actions: int, max_depth: int) -> Case:
    rng = np.random.default_rng([actions, max_depth])
    tables = Tables(
        rng.integers(STATES, size=(STATES, actions)),
        rng.normal(size=(STATES, actions)),
        rng.normal(size=STATES),
        2.0 * rng.normal(size=(STATES, actions)),
    )
    invalid = (rng.random((BATCH, actions)) < 0.3).astype(np.int64)
    invalid[: BATCH // 3] = 0
    invalid[np.arange(BATCH), rng.integers(actions, size=BATCH)] = 0
    discounts = rng.permutation([0.0, 0.3, 0.5, 0.5, 0.9, 0.9, 0.9, 0.97, 0.97, 1.0, 1.0, 1.0])
    return Case(tables, rng.integers(STATES, size=BATCH), discounts, invalid, max_depth)


# ---- the oracle -----------------------------------------------------------------------------------------------------


def _recurrent(params: Any, _key: Any, action: Any, embedding: Any) -> Any:
    (following, rewards, values, logits), discounts = params
    after = following[embedding, action]
    output = mctx.RecurrentFnOutput(
        reward=rewards[embedding, action], discount=discounts, prior_logits=logits[after], value=values[after]
    )
    return output, after


def _oracle(policy: Any, **options: Any) -> Any:
    def run(tables: Any, roots: Any, discounts: Any, invalid: Any, max_depth: Any) -> Any:
        root = mctx.RootFnOutput(prior_logits=tables[3][roots], value=tables[2][roots], embedding=roots)
        return policy(
            (tables, discounts),
            jax.random.PRNGKey(7),
            root,
            _recurrent,
            num_simulations=SIMULATIONS,
            invalid_actions=invalid,
            max_depth=max_depth,
            **options,
        )

    return jax.jit(run, compiler_options={"xla_backend_optimization_level": 0})  # compiling takes longer than running


@pytest.fixture(scope="module")
def oracles() -> Iterator[dict[str, Any]]:
    with jax.enable_x64(True):
        yield {
            "puct": _oracle(mctx.muzero_policy, dirichlet_fraction=0.0, temperature=0.0),
        } | {
            rule: _oracle(
                mctx.gumbel_muzero_policy,
                max_num_considered_actions=8,
                qtransform=partial(
                    mctx.qtransform_completed_by_mix_value,
                    value_scale=value_scale,
                    maxvisit_init=maxvisit_init,
                    rescale_values=rescale_values,
                ),
            )
            for rule, (value_scale, maxvisit_init, rescale_values) in SIGMA.items()
        }


def _asked(oracles: dict[str, Any], rule: str, example: Case) -> tuple[list[Answer], np.ndarray]:
    """mctx's answers, and the Gumbel draws that it made: float ``[B, A]`` (zeros where it makes none)."""
    output = oracles[rule](*example)
    tree = output.search_tree
    summary = tree.summary()
    draws = np.zeros(example.invalid.shape) if rule == "puct" else np.asarray(tree.extra_data.root_gumbel)
    answers = []
    for i in range(BATCH):
        visits = np.asarray(tree.node_visits[i])
        edges = np.asarray(tree.parents[i]), np.asarray(tree.action_from_parent[i])
        returns = np.asarray(tree.children_rewards[i])[edges] + example.discounts[i] * np.asarray(tree.node_values[i])
        returns[0] = tree.node_values[i, 0]
        nodes = np.stack([visits, returns], axis=1)[visits > 0]
        answers.append(
            Answer(
                np.asarray(summary.visit_counts[i]),
                np.asarray(output.action_weights[i]),
                np.asarray(summary.qvalues[i]),
                float(summary.value[i]),
                _in_order(nodes),
                int(output.action[i]),
            )
        )
    return answers, draws


def _in_order(nodes: np.ndarray) -> np.ndarray:
    return nodes[np.lexsort((nodes[:, 1], nodes[:, 0]))]


def _assert_same_tree(ours: Answer, theirs: Answer) -> None:
    np.testing.assert_array_equal(ours.visits, theirs.visits)
    visited = theirs.visits > 0
    np.testing.assert_allclose(ours.qvalues[visited], theirs.qvalues[visited], atol=1e-4)
    assert ours.value == pytest.approx(theirs.value, abs=1e-4)
    assert ours.nodes.shape == theirs.nodes.shape
    np.testing.assert_allclose(ours.nodes, theirs.nodes, atol=1e-4)


def _assert_same_choice(ours: Answer, theirs: Answer) -> None:
    np.testing.assert_allclose(ours.weights, theirs.weights, atol=1e-4)
    assert ours.action == theirs.action


# ---- the formulas in the plainest loop that there is ----------------------------------------------------------------


class _Node:
    """A node of the plain twin; ``total`` sums the returns of its state."""

    def __init__(self, state: int, logits: np.ndarray, raw_value: float) -> None:
        self.state = state
        self.logits = logits
        self.prior = np.exp(logits - logits.max())
        self.prior /= self.prior.sum()
        self.raw_value = raw_value
        self.visits = 1
        self.total = raw_value
        self.children: dict[int, _Node] = {}

    def value(self) -> float:
        return self.total / self.visits


class _Twin:
    def __init__(self, rule: str, example: Case, index: int, draws: np.ndarray) -> None:
        self.rule = rule
        self.tables = example.tables
        self.discount = float(example.discounts[index])
        self.max_depth = example.max_depth
        self.draws = draws[index]
        state = int(example.roots[index])
        self.valid = np.flatnonzero(example.invalid[index] == 0)
        logits = np.full(len(self.draws), -np.inf)
        logits[self.valid] = self.tables.logits[state][self.valid]
        self.root = _Node(state, logits, float(self.tables.values[state]))
        self.sequence = formulas.considered_visits(min(8, len(self.valid)), SIMULATIONS)

    def statistics(self, node: _Node) -> tuple[np.ndarray, np.ndarray]:
        """Q and N of the children: float64 ``[A]`` each."""
        values = np.zeros(len(node.logits))
        visits = np.zeros(len(node.logits))
        for action, child in node.children.items():
            values[action] = self.tables.rewards[node.state, action] + self.discount * child.value()
            visits[action] = child.visits
        return values, visits

    def choice(self, node: _Node) -> int:
        values, visits = self.statistics(node)
        if self.rule in SIGMA:
            sigma = formulas.completed(values, visits, node.prior, node.raw_value, *SIGMA[self.rule])
            if node is self.root:
                return formulas.root_choice(
                    self.draws, node.logits, sigma, visits, float(self.sequence[int(visits.sum())])
                )
            return formulas.interior_choice(formulas.improved_policy(node.logits, sigma), visits)
        low, high = sibling_bounds(node.value(), values, visits)
        exploration = alphazero_exploration(float(node.visits), C_BASE, C_INIT)
        scores = []
        for action in range(len(values)):
            value = min_max_normalised(values[action], low, high) if visits[action] > 0 else 0.0
            score = puct(value, visits[action], float(node.visits), exploration, node.prior[action])
            scores.append(score if node is not self.root or action in self.valid else -np.inf)
        return int(np.argmax(scores))

    def simulate(self) -> None:
        path = [self.root]
        actions: list[int] = []
        while True:
            node = path[-1]
            action = self.choice(node)
            actions.append(action)
            child = node.children.get(action)
            if child is None:
                state = int(self.tables.following[node.state, action])
                child = _Node(state, self.tables.logits[state], float(self.tables.values[state]))
                child.visits, child.total = 0, 0.0
                node.children[action] = child
                path.append(child)
                break
            path.append(child)
            if len(actions) >= self.max_depth:
                break
        value = path[-1].raw_value
        path[-1].visits += 1
        path[-1].total += value
        for node, action in zip(reversed(path[:-1]), reversed(actions), strict=True):
            value = self.tables.rewards[node.state, action] + self.discount * value
            node.visits += 1
            node.total += value

    def answer(self) -> Answer:
        for _ in range(SIMULATIONS):
            self.simulate()
        values, visits = self.statistics(self.root)
        if self.rule in SIGMA:
            action, weights = formulas.root_answer(
                self.draws, values, visits, self.root.prior, self.root.raw_value, *SIGMA[self.rule]
            )
        else:
            weights = visits / visits.sum()
            action = int(np.argmax(visits))
        nodes, stack = [(self.root.visits, self.root.value())], [self.root]
        while stack:
            node = stack.pop()
            for taken, child in node.children.items():
                nodes.append((child.visits, self.tables.rewards[node.state, taken] + self.discount * child.value()))
                stack.append(child)
        return Answer(visits, weights, values, self.root.value(), _in_order(np.array(nodes)), action)


SHAPES = [(3, SIMULATIONS), (3, 4), (17, SIMULATIONS), (17, 2), (17, 1)]
CASES = [(rule, *shape) for rule in ("puct", "gumbel") for shape in SHAPES]
CASES += [("gumbel, values as they are", *shape) for shape in (SHAPES[1], SHAPES[2])]


@pytest.mark.parametrize(("rule", "actions", "max_depth"), CASES)
def test_the_formulas_in_a_plain_loop_are_mctx(
    oracles: dict[str, Any], rule: str, actions: int, max_depth: int
) -> None:
    example = case(actions, max_depth)
    answers, draws = _asked(oracles, rule, example)
    for index, theirs in enumerate(answers):
        ours = _Twin(rule, example, index, draws).answer()
        _assert_same_tree(ours, theirs)
        _assert_same_choice(ours, theirs)


# ---- the general engine ---------------------------------------------------------------------------------------------


class Place(NamedTuple):
    number: int
    reward: float
    open_actions: tuple[str, ...]


class Process(Simulator[Place]):
    """The tables as a simulator; a place is observed as its number."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.all_actions = tuple(str(action) for action in range(tables.logits.shape[1]))

    def reset(self, seed: int, options: Any = None) -> Place:
        return Place(seed, 0.0, self.all_actions)

    def current_player(self, state: Place) -> int:
        return 0

    def observation(self, state: Place, player: int = 0) -> str:
        return str(state.number)

    def legal_actions(self, state: Place) -> tuple[str, ...]:
        return state.open_actions

    def step(self, state: Place, action: str) -> Place:
        edge = state.number, int(action)
        return Place(int(self.tables.following[edge]), float(self.tables.rewards[edge]), self.all_actions)

    def rewards(self, state: Place) -> tuple[float, ...]:
        return (state.reward,)


class TablePolicy:
    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.calls = 0

    def score(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        scores = []
        for transcript, actions in zip(transcripts, candidates, strict=True):
            logits = self.tables.logits[int(transcript[-1].text)][[int(action) for action in actions]]
            scores.append(logits - np.log(np.exp(logits).sum()))
        return scores

    def propose(
        self, transcripts: Sequence[Transcript], n: int, rngs: Sequence[np.random.Generator]
    ) -> list[list[Proposal]]:
        raise NotImplementedError


class Drawn(np.random.Generator):
    """A generator whose Gumbel draws are given."""

    def __init__(self, draws: np.ndarray) -> None:
        super().__init__(np.random.PCG64(0))
        self.draws = draws

    def gumbel(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        assert size == len(self.draws)
        return self.draws


def _engine(rule: str, example: Case, index: int, draws: np.ndarray) -> Answer:
    simulator = Process(example.tables)
    valid = np.flatnonzero(example.invalid[index] == 0)
    state = Place(int(example.roots[index]), 0.0, tuple(str(action) for action in valid))
    common: dict[str, Any] = {
        "simulations": SIMULATIONS + 1,
        "discount": float(example.discounts[index]),
        "max_depth": example.max_depth,
        "uniform_prior": 0.0,
        "revisit": True,
        "solve": False,
    }
    if rule in SIGMA:
        sigma = dict(zip(("value_scale", "maxvisit_init", "rescale_values"), SIGMA[rule], strict=True))
        settings = flat_settings(selection="gumbel", considered=8, **sigma, **common)  # type: ignore[arg-type]
    else:
        settings = flat_settings(
            selection="alphazero",
            exploration=C_INIT,
            exploration_base=C_BASE,
            unvisited_value="zero",
            normalise="siblings",
            **common,
        )
    values = ValueFunction(lambda _simulator, place, _transcript: float(example.tables.values[place.number]))
    root = Root(state, (observed(simulator.observation(state)),))
    tree = search(simulator, [root], TablePolicy(example.tables), values, settings, [Drawn(draws[index][valid])])[0]
    visits, qvalues, weights = np.zeros((3, example.invalid.shape[1]))
    for child in tree.children(0):
        place = int(tree.actions[child])
        visits[place] = tree.visits(child)
        qvalues[place] = tree.value(child)
    actions, target = tree.policy_target()
    weights[[int(text) for text in actions]] = target
    nodes = [(tree.visits(node), tree.value(node)) for node in range(len(tree)) if tree.visits(node) > 0]
    played = reading.action(tree, by="gumbel" if rule in SIGMA else "visits")
    return Answer(visits, weights, qvalues, tree.value(0), _in_order(np.array(nodes)), int(played))


@pytest.mark.parametrize(("rule", "actions", "max_depth"), CASES)
def test_the_engine_is_mctx(oracles: dict[str, Any], rule: str, actions: int, max_depth: int) -> None:
    example = case(actions, max_depth)
    answers, draws = _asked(oracles, rule, example)
    for index, theirs in enumerate(answers):
        if example.discounts[index] == 0.0 and rule == "puct":
            continue  # a node keeps r + γ V alone, from which a discount of zero leaves no V to normalise by
        ours = _engine(rule, example, index, draws)
        _assert_same_tree(ours, theirs)
        _assert_same_choice(ours, theirs)


# ---- the trees that mctx stores with its tests -----------------------------------------------------------------------

STORED = Path(mctx.__file__).parent / "_src" / "tests" / "test_data"


class Stored(Simulator[tuple[int, ...]]):
    """A stored tree as a decision process; a state is the actions that led to it. A discount of −1 is two players with
    opposed interests who move in turn."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.players = 2 if found["env_config"]["discount"] == -1.0 else 1
        self.zero_sum = self.players == 2
        self.nodes: dict[tuple[int, ...], dict[str, Any]] = {}
        waiting: list[tuple[tuple[int, ...], dict[str, Any]]] = [((), found["tree"])]
        while waiting:
            path, node = waiting.pop()
            self.nodes[path] = node
            waiting += [((*path, child["action"]), child) for child in node["child_stats"]]
        self.width = len(found["tree"]["child_stats"])

    def reset(self, seed: int, options: Any = None) -> tuple[int, ...]:
        return ()

    def current_player(self, state: tuple[int, ...]) -> int:
        return len(state) % self.players

    def observation(self, state: tuple[int, ...], player: int = 0) -> str:
        return " ".join(map(str, state))

    def legal_actions(self, state: tuple[int, ...]) -> list[str]:
        return [str(action) for action in range(self.width)]

    def step(self, state: tuple[int, ...], action: str) -> tuple[int, ...]:
        return (*state, int(action))

    def rewards(self, state: tuple[int, ...]) -> tuple[float, ...]:
        reward = float(self.nodes[state].get("reward", 0.0)) if state else 0.0
        return (reward, -reward) if self.zero_sum else (reward,)

    def score(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        paths = [tuple(map(int, transcript[-1].text.split())) for transcript in transcripts]
        return [np.log([child["prior"] for child in self.nodes[path]["child_stats"]]) for path in paths]


@pytest.mark.parametrize(
    "name", ["gumbel_muzero_tree", "gumbel_muzero_reward_tree", "muzero_tree", "muzero_qtransform_tree"]
)
def test_the_engine_rebuilds_the_tree_that_mctx_stores(name: str) -> None:
    if not (STORED / f"{name}.json").exists():
        pytest.skip(f"this mctx comes without {name}.json")
    found = json.loads((STORED / f"{name}.json").read_text(encoding="utf-8"))
    process, config = Stored(found), found["algorithm_config"]
    # Fixed bounds −1 and 1 scale Q to (Q + 1) / 2, an unvisited child's to 0: up to ½, Q / 2 and −½
    scale = 0.5 if config["qtransform"] == "qtransform_by_min_max" else 1.0
    options: dict[str, Any] = {"selection": "alphazero", "exploration": C_INIT, "exploration_base": C_BASE}
    if name.startswith("gumbel"):
        options = {"selection": "gumbel", "considered": config["max_num_considered_actions"], "gumbel_scale": 0.0}
        options |= config["qtransform_kwargs"]
    elif scale == 0.5:
        options |= {"unvisited_value": "constant", "fpu_value": -0.5}
    else:
        options |= {"unvisited_value": "zero", "normalise": "siblings"}
    settings = flat_settings(
        simulations=found["tree"]["visit"],
        discount=abs(found["env_config"]["discount"]),
        uniform_prior=0.0,
        solve=False,
        revisit=True,
        max_depth=1000,
        **options,
    )

    def judge(simulator: Any, state: tuple[int, ...], transcript: Transcript) -> float:
        return scale * process.nodes[state]["raw_value_view"] * (-1.0 if process.current_player(state) == 1 else 1.0)

    root = Root((), (observed(""),))
    [tree] = search(process, [root], process, ValueFunction(judge), settings)  # type: ignore[arg-type]
    visited = {tree.states[node]: node for node in range(len(tree)) if tree.visits(node)}
    assert visited.keys() == {path for path, node in process.nodes.items() if node.get("visit")}
    for path, node in visited.items():
        stored = process.nodes[path]
        assert tree.visits(node) == stored["visit"]
        sign = -1.0 if process.zero_sum and path else 1.0  # for who moved there, not for who moves
        earned = stored.get("reward", 0.0) if path else 0.0
        expected = earned + (settings.discount if path else 1.0) * sign * scale * stored["value_view"]
        assert tree.value(node) == pytest.approx(expected, abs=1e-3)
