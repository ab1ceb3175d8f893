"""The search engine against a slow plain-Python twin, and its promises about batches, failures and ends."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from branchwise.envs.simulator import TERMINAL, Simulator
from branchwise.search.engine import Root, SearchSettings, search
from branchwise.search.evaluation import ValueFunction
from branchwise.search.policy import Proposal
from branchwise.search.transcript import Transcript, observed


def digest(*parts: object) -> int:
    """A number that depends on the parts alone (Python's hash of text differs between processes)."""
    value = 1469598103934665603
    for byte in repr(parts).encode():
        value = ((value ^ byte) * 1099511628211) % 2**64
    return value >> 11


def uniform(*parts: object) -> float:
    return digest(*parts) / 2**53


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


# ---- the twin ---------------------------------------------------------------------------------------------------


class TwinNode:
    def __init__(self, state: Any, parent: "TwinNode | None", action: str, prior: float, reward: float) -> None:
        self.state, self.parent, self.action, self.prior, self.reward = state, parent, action, prior, reward
        self.children: list[TwinNode] = []
        self.visits = 0
        self.total = 0.0
        self.pending = 0
        self.solved = False
        self.terminal = False


class Twin:
    """The algorithm as its paper says it, one node object at a time, nothing remembered and nothing shared."""

    def __init__(self, simulator: RandomTree, state: Path, settings: SearchSettings, first_turn: str) -> None:
        self.simulator, self.settings = simulator, settings
        self.root = TwinNode(state, None, "", 1.0, 0.0)
        self.first_turn = first_turn

    def value_of_state(self, node: TwinNode) -> float:
        if node.visits == 0 or self.settings.discount == 0:
            return 0.0
        mean = node.total / node.visits
        return mean if node.parent is None else (mean - node.reward) / self.settings.discount

    def score(self, node: TwinNode, child: TwinNode) -> float:
        settings = self.settings
        n = child.visits + child.pending
        parent_n = max(node.visits + node.pending, 1)
        if n:
            q = (child.total - settings.virtual_loss * child.pending) / n
        else:
            q = self.value_of_state(node) if settings.unvisited_value == "parent" else 0.0
        c = settings.exploration
        if settings.selection == "puct":
            return q + c * child.prior * math.sqrt(parent_n) / (1 + n)
        if settings.selection == "ucb1":
            return q + c * math.sqrt(math.log(parent_n) / (1 + n))
        if n == 0:
            return 1e30 * (1 + child.prior)
        return q + c * math.sqrt(2 * math.log(parent_n) / n)

    def select(self) -> TwinNode | None:
        node = self.root
        while node.children:
            open_children = [child for child in node.children if not child.solved]
            node = max(open_children, key=lambda child: self.score(node, child))
        if node.pending and (self.settings.solve or not node.terminal):
            return None
        step: TwinNode | None = node
        while step is not None:
            step.pending += 1
            step = step.parent
        return node

    def expand(self, node: TwinNode, depth: int) -> None:
        settings = self.settings
        actions = self.simulator.legal_actions(node.state)
        text = self.first_turn if node.parent is None else self.simulator.observation(node.state)
        logits = [-3.0 * uniform("logp", text, action) / settings.prior_temperature for action in actions]
        largest = max(logits)
        weights = [math.exp(logit - largest) for logit in logits]
        total = 0.0
        for weight in weights:
            total += weight
        for action, weight in zip(actions, weights, strict=True):
            prior = settings.uniform_prior / len(actions) + (1 - settings.uniform_prior) * weight / total
            state = self.simulator.step(node.state, action)
            reward = float(np.float32(self.simulator.rewards(state)[0]))
            child = TwinNode(state, node, action, float(np.float32(prior)), reward)
            child.terminal = self.simulator.current_player(state) == TERMINAL
            node.children.append(child)

    def back_up(self, leaf: TwinNode, value: float) -> None:
        settings = self.settings
        node: TwinNode | None = leaf
        while node is not None:
            node.visits += 1
            node.pending -= 1
            if settings.backup == "bellman" and node is not leaf:
                value = sum(child.total for child in node.children) / sum(child.visits for child in node.children)
            if node.parent is not None:
                value = node.reward + settings.discount * value
            node.total = value * node.visits if settings.backup == "bellman" else node.total + value
            node = node.parent
        if settings.solve and leaf.terminal:
            leaf.solved = True
            node = leaf.parent
            while node is not None and all(child.solved for child in node.children):
                node.solved = True
                node = node.parent

    def run(self) -> TwinNode:
        done = 0
        while done < self.settings.simulations and not self.root.solved:
            leaves = []
            for _ in range(min(self.settings.leaves_per_tree, self.settings.simulations - done)):
                leaf = self.select()
                if leaf is None:
                    break
                leaves.append(leaf)
            done += len(leaves)
            values = []
            for leaf in leaves:
                depth, above = 0, leaf.parent
                while above is not None:
                    depth, above = depth + 1, above.parent
                if not leaf.terminal and not leaf.children and depth < self.settings.max_depth:
                    self.expand(leaf, depth)
                values.append(0.0 if leaf.terminal else uniform("value", leaf.state))
            for leaf, value in zip(leaves, values, strict=True):
                self.back_up(leaf, value)
        return self.root


def assert_same(tree: Any, twin: TwinNode) -> None:
    """Node by node, bit for bit."""
    stack = [(0, twin)]
    reached = 0
    while stack:
        index, node = stack.pop()
        reached += 1
        record = tree.nodes[index]
        assert tree.actions[index] == node.action
        assert tree.states[index] == node.state
        assert int(record["visits"]) == node.visits
        assert float(record["value_sum"]) == node.total
        assert float(record["prior"]) == node.prior
        assert float(record["reward"]) == node.reward
        assert tree.is_solved(index) == node.solved
        assert int(record["pending"]) == 0
        children = tree.children(index)
        assert len(children) == len(node.children)
        stack.extend(zip(children, node.children, strict=True))
    assert reached == len(tree)


@pytest.mark.parametrize("leaves_per_tree", [1, 3])
@pytest.mark.parametrize("backup", ["mean", "bellman"])
@pytest.mark.parametrize("selection", ["puct", "uct", "ucb1"])
@pytest.mark.parametrize("solve", [False, True])
def test_same_tree_as_the_plain_twin(selection: Any, backup: Any, leaves_per_tree: int, solve: bool) -> None:
    simulator = RandomTree()
    for seed, (exploration, discount, unvisited) in enumerate(
        [(1.0, 1.0, "parent"), (2.5, 0.9, "zero"), (0.3, 0.5, "parent"), (0.0, 0.0, "parent")]
    ):
        settings = SearchSettings(
            simulations=60,
            selection=selection,
            exploration=exploration,
            discount=discount,
            unvisited_value=unvisited,  # type: ignore[arg-type]
            backup=backup,
            leaves_per_tree=leaves_per_tree,
            solve=solve,
            uniform_prior=0.2,
            max_depth=4 if seed == 1 else 100,
        )
        [root] = roots([seed], simulator)
        [tree] = search(simulator, [root], HashPolicy(), ValueFunction(judged), settings)
        assert_same(tree, Twin(simulator, root.state, settings, root.transcript[-1].text).run())
