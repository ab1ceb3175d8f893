"""Every combination of rules against a slow plain-Python twin, node by node, on random games of one to three players
with chance.

The twin keeps all players' returns at every node, writes each formula out as its paper has it, and shares no code with
the engine but the settings and the splitting of a prior over actions.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from flat_settings import changed, flat
from random_numbers import uniform
from toys import Game, RandomGame

from branchwise.envs.play.policy import Proposal
from branchwise.envs.play.transcript import Transcript, observed
from branchwise.envs.simulator import CHANCE, TERMINAL
from branchwise.search.engine import Root, SearchSettings, search
from branchwise.search.evaluation import Leaf
from branchwise.search.rules.options import Puct
from branchwise.search.rules.selection import mixed_prior
from branchwise.search.trees.arrays import NodeArrays


def values_of(simulator: RandomGame, state: Game) -> list[float]:
    values = [uniform("value", state, player) for player in range(simulator.players)]
    return [values[0], -values[0]] if simulator.zero_sum else values


class Judge:
    def __init__(self) -> None:
        self.calls = 0

    def evaluate(self, leaves: Sequence[Leaf]) -> np.ndarray:
        return np.array([values_of(leaf.simulator, leaf.state) for leaf in leaves])  # type: ignore[arg-type]


class HashPolicy:
    calls = 0

    def score(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        return [
            np.array([-3.0 * uniform("logp", transcript[-1].text, action) for action in actions])
            for transcript, actions in zip(transcripts, candidates, strict=True)
        ]

    def propose(
        self, transcripts: Sequence[Transcript], n: int, rngs: Sequence[np.random.Generator]
    ) -> list[list[Proposal]]:
        raise NotImplementedError


class HashCritic:
    def values(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        return [
            np.array([uniform("opinion", transcript[-1].text, action) for action in actions])
            for transcript, actions in zip(transcripts, candidates, strict=True)
        ]


# ---- the twin ---------------------------------------------------------------------------------------------------


class Node:
    def __init__(self, twin: "Twin", state: Game, parent: "Node | None", action: str, prior: float) -> None:
        simulator = twin.simulator
        self.state, self.parent, self.action, self.prior = state, parent, action, prior
        self.mover = simulator.current_player(state)
        self.terminal = self.mover == TERMINAL
        earned = [0.0] * simulator.players if parent is None else list(simulator.rewards(state))
        self.earned = [float(np.float32(reward)) for reward in earned]
        self.chooser = max(self.mover if parent is None else parent.mover, 0)
        self.children: list[Node] = []
        self.totals = [0.0] * simulator.players
        self.visits = self.pending = 0
        self.opinion = 0.0
        self.solved = False
        self.proof: int | None = None  # what the game is worth to player 0, where it is proven

    @property
    def q(self) -> float:
        return self.totals[self.chooser] / self.visits

    def above(self) -> "list[Node]":
        nodes = [self]
        while nodes[-1].parent is not None:
            nodes.append(nodes[-1].parent)
        return nodes


class Twin:
    def __init__(self, simulator: RandomGame, seed: int, settings: SearchSettings, noise: int) -> None:
        self.simulator, self.settings, self.noise = simulator, flat(settings), noise
        self.low, self.high = math.inf, -math.inf
        self.done = 0
        self.root = Node(self, simulator.reset(seed), None, "", 1.0)

    def draw(self) -> float:
        mask = 2**64 - 1
        self.noise = (self.noise + 0x9E3779B97F4A7C15) & mask
        z = self.noise
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return ((z ^ (z >> 31)) >> 11) / 2**53

    def value_for_mover(self, node: Node) -> float:
        """V of the node's state for its mover: (Q − r) / γ."""
        if not node.visits:
            return 0.0
        player, discount = max(node.mover, 0), self.discount_into(node)
        mean = node.totals[player] / node.visits
        if node.parent is None:
            return mean
        return (mean - node.earned[player]) / discount if discount else 0.0

    def discount_into(self, node: Node) -> float:
        """Chance takes no time."""
        return 1.0 if node.mover == CHANCE else self.settings.discount

    def known(self, child: Node) -> float:
        """What a solved child is known to return to who chose it: ±∞ where it wins or loses."""
        if child.proof is not None:
            sign = child.proof if child.chooser == 0 else -child.proof
            return sign * math.inf if sign else 0.0
        return child.earned[child.chooser] if child.terminal else child.q

    def score(self, node: Node, child: Node) -> float:
        s = self.settings
        n, parent_n = child.visits + child.pending, max(node.visits + node.pending, 1)
        first_play = {
            "zero": 0.0,
            "parent": self.value_for_mover(node),
            "infinite": 1e30 * (1 + child.prior),
            "prior": child.opinion,
            "constant": s.fpu_value,
            "reduced": self.value_for_mover(node)
            - s.fpu_value * math.sqrt(sum(other.prior for other in node.children if other.visits + other.pending)),
        }[s.unvisited_value]
        if s.visits_only:
            q = child.q if child.visits else first_play
        else:
            q = (child.totals[child.chooser] - s.virtual_loss * child.pending) / n if n else first_play
        if n or s.unvisited_value in ("parent", "reduced"):
            q = self.normalised(node, q)
        if s.critic_weight:
            q = (1 - s.critic_weight) * q + s.critic_weight * child.opinion
        c, p = s.exploration, child.prior
        if s.selection == "puct":
            return q + c * p * math.sqrt(parent_n) / (1 + n)
        if s.selection == "alphazero":
            c = math.log((node.visits + node.pending + s.exploration_base + 1) / s.exploration_base) + c
            return q + c * p * math.sqrt(parent_n) / (1 + n)
        if s.selection == "ucb1":
            return q + c * math.sqrt(math.log(parent_n) / (1 + n))
        if s.selection == "p_ucb":
            return q + c * p * math.sqrt(math.log(parent_n)) / (1 + n)
        if s.selection == "minimax":
            return 0.5 * p - n
        if n == 0:
            return 1e30 * (1 + p)
        return q + c * math.sqrt(2 * math.log(parent_n) / n)

    def normalised(self, node: Node, q: float) -> float:
        low, high = self.low, self.high
        if self.settings.normalise == "no":
            return q
        if self.settings.normalise == "siblings":
            around = [self.value_for_mover(node), *(other.q for other in node.children if other.visits)]
            low, high = min(around), max(around)
        return (q - low) / max(high - low, 1e-8) if high > low else 0.0

    def score_of_known(self, node: Node, child: Node) -> float:
        """Without a bonus: nothing of it is uncertain."""
        known, pending = self.known(child), 0 if self.settings.visits_only else child.pending
        if known == math.inf:
            return known
        if pending:
            lost = self.settings.virtual_loss * pending
            known = (known * child.visits - lost) / (child.visits + pending)
        return self.normalised(node, known)

    def choose(self, node: Node) -> Node:
        if node.mover == CHANCE:
            draw, passed = self.draw(), 0.0
            for child in node.children[:-1]:
                passed += child.prior
                if draw < passed:
                    return child
            return node.children[-1]
        solved = [child for child in node.children if child.solved and self.known(child) > -math.inf]
        if node.solved:
            lost = [child for child in node.children if child.solved and child.visits]
            return max(solved, key=self.known) if solved else lost[0]
        admitted = len(node.children)
        if self.settings.widening:
            seen = max(node.visits + node.pending, 1)
            admitted = math.ceil(self.settings.widening * seen**self.settings.widening_power)
        best: list[Node] = []
        best_score = -math.inf
        for child in [child for child in node.children if not child.solved][:admitted]:
            score = self.score(node, child)
            if score > best_score:
                best, best_score = [child], score
            elif score == best_score and self.settings.random_ties:
                best.append(child)
                if self.draw() * len(best) < 1.0:
                    best[0] = child
        if not solved or (self.settings.selection == "minimax" and best):
            return best[0]
        known = max(solved, key=self.known)  # the others cannot be better
        score = self.score_of_known(node, known)
        if score == best_score and self.settings.random_ties:
            return known if self.draw() * (len(best) + 1) < 1.0 else best[0]
        earlier = score == best_score and node.children.index(known) < node.children.index(best[0])
        return known if score > best_score or earlier else best[0]

    def select(self) -> Node | None:
        draws = self.noise
        while True:
            node, self.noise = self.root, draws
            while node.children:
                node = self.choose(node)
            if node.mover != CHANCE or node.children:
                break
            outcomes = self.simulator.chance_outcomes(node.state)
            self.give_children(node, [name for name, _ in outcomes], [share for _, share in outcomes])
        if node.pending and not node.solved and (self.solves or not node.terminal):
            return None
        for step in node.above():
            step.pending += 1
        return node

    def give_children(self, node: Node, actions: Sequence[str], priors: Sequence[float]) -> None:
        for action, prior in zip(actions, priors, strict=True):
            state = self.simulator.step(node.state, action)
            node.children.append(Node(self, state, node, action, float(np.float32(prior))))

    def expand(self, node: Node) -> None:
        s = self.settings
        actions = self.simulator.legal_actions(node.state)
        text = "start" if node is self.root else self.simulator.observation(node.state, node.mover)
        logps = np.array([-3.0 * uniform("logp", text, action) for action in actions])
        priors = mixed_prior(logps, s.prior_temperature, s.uniform_prior).tolist()
        opinions = [float(np.float32(uniform("opinion", text, action))) for action in actions]
        order = list(range(len(actions)))
        if s.widening:
            order.sort(key=lambda i: -priors[i])
        self.give_children(node, [actions[i] for i in order], [priors[i] for i in order])
        if s.critic_weight or s.unvisited_value == "prior":
            for child, i in zip(node.children, order, strict=True):
                child.opinion = opinions[i]

    # ---- proofs: MCTS-Solver for two players, closing for all -----------------------------------------------------

    def settle(self, node: Node) -> bool:
        closed = all(child.solved for child in node.children)
        if not self.proofs:
            node.solved = closed and node.mover != CHANCE
            if node.solved:  # worth the best of its actions, to each player its own
                best = max(node.children, key=self.known)
                below = best.earned if best.terminal else [total / best.visits for total in best.totals]
                if node.parent is not None:
                    discount = self.discount_into(node)
                    below = [r + discount * v for r, v in zip(node.earned, below, strict=True)]
                node.totals = [node.visits * v for v in below]
            return node.solved
        known = [child.proof for child in node.children]
        if node.mover == CHANCE:
            if not closed or known[0] is None or any(proof != known[0] for proof in known):
                return False
            node.proof = known[0]
        else:
            sign = 1 if node.mover == 0 else -1
            if sign in known:
                node.proof = sign
            elif not closed:
                return False
            elif None not in known:
                node.proof = sign * max(sign * proof for proof in known if proof is not None)
        node.solved = True
        return True

    @property
    def proofs(self) -> bool:
        """They say who wins, and not how soon: a discount leaves nothing to prove."""
        return self.settings.solve and self.simulator.zero_sum and self.settings.discount == 1.0

    @property
    def solves(self) -> bool:
        return self.settings.solve and (self.proofs or not self.simulator.zero_sum)

    def back_up(self, leaf: Node, values: list[float]) -> None:
        s = self.settings
        if self.solves and leaf.terminal:
            if self.proofs:
                leaf.proof = int(leaf.earned[0])
            leaf.solved = True
            if self.proofs:
                self.close_above(leaf)
        for node in leaf.above():
            node.visits += 1
            node.pending -= 1
            if node is not leaf and s.backup not in ("mean", "max"):
                visited = [child for child in node.children if child.visits]
                if s.backup == "bellman" or node.mover == CHANCE:
                    total = sum(child.visits for child in visited)
                    values = [sum(child.totals[p] for child in visited) / total for p in range(len(values))]
                else:
                    best = max(visited, key=lambda child: child.q)
                    values = [total / best.visits for total in best.totals]
            if self.proofs and node.proof is not None and not node.terminal:
                values = [float(node.proof), -float(node.proof)]
            if node.parent is not None:
                discount = self.discount_into(node)
                values = [r + discount * v for r, v in zip(node.earned, values, strict=True)]
            if s.backup == "mean":
                node.totals = [total + v for total, v in zip(node.totals, values, strict=True)]
            elif s.backup == "max":
                before = node.totals[0] / max(node.visits - 1, 1)
                node.totals = [node.visits * (max(before, values[0]) if node.visits > 1 else values[0])]
            else:
                node.totals = [v * node.visits for v in values]
            if node.parent is not None:
                for bound in (node.q, -node.q) if self.simulator.zero_sum else (node.q,):
                    self.low, self.high = min(self.low, bound), max(self.high, bound)
        if self.solves and leaf.terminal and not self.proofs:
            self.close_above(leaf)

    def close_above(self, leaf: Node) -> None:
        for node in leaf.above()[1:]:
            if not self.settle(node):
                break

    def run(self) -> Node:
        s = self.settings
        while self.done < s.simulations and not self.root.solved:
            leaves: list[Node] = []
            for _ in range(min(s.leaves_per_tree, s.simulations - self.done)):
                leaf = self.select()
                if leaf is None:
                    break
                leaves.append(leaf)
            self.done += len(leaves)
            values = []
            for leaf in leaves:
                if not leaf.terminal and not leaf.children and len(leaf.above()) - 1 < s.max_depth:
                    self.expand(leaf)
                if leaf.terminal:
                    values.append([0.0] * self.simulator.players)
                else:
                    values.append(values_of(self.simulator, leaf.state))
            for leaf, value in zip(leaves, values, strict=True):
                self.back_up(leaf, value)
        return self.root


def assert_same(tree: Any, twin: Twin) -> None:
    stack = [(0, twin.root)]
    reached = 0
    while stack:
        index, node = stack.pop()
        reached += 1
        assert tree.actions[index] == node.action
        assert tree.states[index] == node.state
        where = f"at {node.state}"
        assert tree.visits(index) == node.visits, where
        assert tree.is_solved(index) == node.solved, where
        assert (
            tree.proof(index)
            == {None: "", 1: "win", 0: "draw", -1: "loss"}[
                node.proof if node.proof is None or node.chooser == 0 else -node.proof
            ]
        ), where
        assert int(tree.nodes[index]["pending"]) == 0
        assert tree.prior(index) == node.prior
        if node.visits:
            mine = [total / node.visits for total in node.totals]
            assert tree.mean(index) == pytest.approx(mine[node.chooser], rel=1e-9, abs=1e-9), where
            if node.proof is not None and not node.terminal:
                mine = [float(node.proof), -float(node.proof)]
            np.testing.assert_allclose(tree.returns(index), mine, rtol=1e-9, atol=1e-9, err_msg=where)
        children = tree.children(index)
        assert len(children) == len(node.children), where
        stack.extend(zip(children, node.children, strict=True))
    assert reached == len(tree)


GAMES = {
    "one player": RandomGame(1, False, False),
    "one player, chance": RandomGame(1, False, True),
    "zero-sum": RandomGame(2, True, False),
    "zero-sum, chance": RandomGame(2, True, True),
    "general-sum, chance": RandomGame(2, False, True),
    "three players": RandomGame(3, False, True),
}
BASE = SearchSettings(simulations=50, selection=Puct(exploration=1.0), uniform_prior=0.2)
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "first play zero": {"unvisited_value": "zero"},
    "first play infinite": {"unvisited_value": "infinite"},
    "first play constant": {"unvisited_value": "constant", "fpu_value": 0.4},
    "first play reduced": {"unvisited_value": "reduced", "fpu_value": 0.3, "leaves_per_tree": 2},
    "first play reduced, tree bounds": {"unvisited_value": "reduced", "fpu_value": 0.3, "normalise": "tree"},
    "critic first": {"unvisited_value": "prior"},
    "critic mixed": {"critic_weight": 0.4},
    "tree bounds": {"normalise": "tree"},
    "sibling bounds": {"normalise": "siblings", "unvisited_value": "zero"},
    "random ties": {"random_ties": True, "exploration": 0.0, "unvisited_value": "zero"},
    "widening": {"widening": 1.0, "widening_power": 0.4},
    "batch": {"leaves_per_tree": 4},
    "batch, visits only": {"leaves_per_tree": 4, "visits_only": True},
    "unsolved": {"solve": False},
    "discount": {"discount": 0.8},
    "greedy and short-sighted": {"exploration": 0.0, "discount": 0.0},
    "first play zero, batch, unsolved": {"unvisited_value": "zero", "leaves_per_tree": 3, "solve": False},
    "shallow": {"max_depth": 3},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("game", GAMES)
def test_the_engine_grows_the_twins_tree(game: str, variant: str) -> None:
    simulator = GAMES[game]
    for seed, selection in enumerate(["puct", "alphazero", "ucb1", "uct", "p_ucb", "minimax"]):
        backups = (
            ("mean", "bellman", "bellman_max", "minimax", "max")
            if variant in ("plain", "batch", "unsolved")
            else ("mean",)
        )
        if "fpu_value" in VARIANTS[variant] and selection in ("uct", "minimax"):
            continue  # these have no first-play value
        for backup in (*backups, "minimax")[: len(backups) + (seed % 2)]:
            if backup == "max" and (simulator.players > 1 or simulator.chance):
                continue  # refused
            settings = changed(BASE, selection=selection, backup=backup, **VARIANTS[variant])  # type: ignore[arg-type]
            _compare(simulator, seed, settings)


def _compare(simulator: RandomGame, seed: int, settings: SearchSettings) -> None:
    while simulator.current_player(simulator.reset(seed)) < 0:
        seed += 100
    state = simulator.reset(seed)
    asks = settings.critic_weight or settings.unvisited_value == "prior"
    rng = np.random.default_rng(seed)
    arrays = NodeArrays(1)
    arrays.seed_noise(rng)
    [tree] = search(
        simulator,
        [Root(state, (observed("start"),))],
        HashPolicy(),  # type: ignore[arg-type]
        Judge(),
        settings,
        [rng],
        critic=HashCritic() if asks else None,
    )
    twin = Twin(simulator, seed, settings, int(arrays._head["noise"][0]))
    twin.run()
    assert_same(tree, twin)
