"""What a leaf is worth: the protocol, and the evaluators that need no model of their own.

- :class:`PolicyRollout`: play on with a policy until the episode ends (Agent Q, section 3; the value is the return).
- :class:`RandomRollout`: play on at random (step-level Q-value models, section 3; UCT).
- :class:`ValueFunction`: any function from a state to a number.
- :class:`Repeated`: the mean of N evaluations of the same leaf (IPR, arXiv 2406.11176: N roll-outs a step).
- :class:`RankingCritic`: what a model that ranks actions says of them before any is tried (Agent Q).
- :class:`Mixed`: α · one evaluator + (1 − α) · another (LATS, arXiv 2310.04406; ReST-MCTS*, arXiv 2406.03816).

The value of a leaf is the discounted return from its state on, the reward that led into it excluded:
V(s) = r₁ + γ r₂ + γ² r₃ + …. A roll-out that is cut off by ``max_steps`` is worth what it earned until then. The one
exception are ends whose outcome the search hides (``hide_outcome``): nothing follows them, and the answer stands for
what the last action paid, so that it counts undiscounted, as that reward would.

With several players a value is one number a player. Roll-outs draw the outcomes of chance nodes by their probabilities.

An evaluator is a subclass of :class:`Evaluator`, any object with ``evaluate``, or a function (:func:`as_evaluator`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from ..envs.play.players import PolicyAgent
from ..envs.play.playing import Decide, Playing, by_agents, play
from ..envs.play.policy import Policy, PolicyFunction
from ..envs.play.transcript import Transcript
from ..envs.simulator import Simulator


@dataclass(frozen=True, slots=True)
class Leaf:
    """A node to be valued. ``transcript`` ends with the observation of ``state``; the action that led here is its
    last agent turn. ``terminal`` leaves reach an evaluator only where the outcome is hidden from the search.
    ``tree`` and ``node`` say where the leaf hangs, ``discount`` is γ of the search; ``player`` is whose transcript it
    is: who is to move, at ends and chance nodes who acted last."""

    simulator: Simulator[Any]
    state: Any
    transcript: Transcript
    terminal: bool
    rng: np.random.Generator
    tree: int = 0
    node: int = 0
    discount: float = 1.0
    player: int = 0


class Evaluator(Protocol):
    """Values leaves. A search also takes an object with ``evaluate`` alone: the attributes have these defaults.

    ``reads_outcome``: whether it looks at the environment's rewards, which ``hide_outcome`` forbids.
    ``reads_transcripts``: False where it can do without; they are then empty.
    ``last_calls``: how many model prompts each leaf of the last batch cost; None: one each.
    """

    reads_outcome: bool = False
    reads_transcripts: bool = True
    last_calls: Sequence[int] | None = None

    def evaluate(self, leaves: Sequence[Leaf]) -> np.ndarray:
        """The expected return from each leaf on, for each player: float64 ``[leaves, players]``; of ``terminal`` leaves
        what the last action paid."""
        ...


@dataclass(frozen=True, slots=True)
class Rollout:
    """A roll-out that succeeded: from which node of which tree, what was said from the start of the episode on, how
    many turns of that came before the roll-out, and its return from the leaf on."""

    tree: int
    node: int
    transcript: Transcript
    start: int
    value: float


LeafFunction = Callable[[Simulator[Any], Any, Transcript], float | Sequence[float]]


_SAYS: Final = ("reads_outcome", "reads_transcripts", "last_calls")


class _Completed(Evaluator):
    """An object with ``evaluate`` that does not say all of itself, with the defaults where it does not."""

    def __init__(self, evaluator: Any) -> None:
        self.evaluator = evaluator
        for name in _SAYS:
            setattr(self, name, getattr(evaluator, name, getattr(Evaluator, name)))

    def evaluate(self, leaves: Sequence[Leaf]) -> np.ndarray:
        values = self.evaluator.evaluate(leaves)
        self.last_calls = getattr(self.evaluator, "last_calls", None)
        return values


def calls_of_each(evaluator: Evaluator, leaves: int) -> Sequence[int]:
    """How many model prompts each of the ``leaves`` of the last batch cost."""
    return evaluator.last_calls or [1] * leaves


def name_of(evaluator: Evaluator) -> str:
    """The class of an evaluator, as its author calls it."""
    return type(evaluator.evaluator if isinstance(evaluator, _Completed) else evaluator).__name__


class ValueFunction(Evaluator):
    """Values a leaf by ``function(simulator, state, transcript)``: the return from there on, of player 0 or
    one a player. In a two-player game a float means that the other player's return is its opposite. A search makes one
    of a function that is passed as its evaluator."""

    def __init__(self, function: LeafFunction) -> None:
        if not callable(function):
            raise TypeError(f"ValueFunction({function!r}); expected a function (simulator, state, transcript) -> value")
        self.function = function
        self.calls = 0

    def evaluate(self, leaves: Sequence[Leaf]) -> np.ndarray:
        self.calls += len(leaves)
        values = [self.function(leaf.simulator, leaf.state, leaf.transcript) for leaf in leaves]
        two = leaves[0].simulator.players == 2
        return np.array([_for_all(value, two) for value in values], np.float64)


def as_evaluator(evaluator: Any) -> Evaluator:
    """``evaluator``, or where it is a function a :class:`ValueFunction` of it; an object with ``evaluate`` alone gets
    what else an :class:`Evaluator` has. Raises TypeError for anything else."""
    if isinstance(evaluator, type):
        raise TypeError(f"evaluator is the class {evaluator.__name__}; pass an object of it, {evaluator.__name__}(…)")
    if hasattr(evaluator, "evaluate"):
        return evaluator if all(hasattr(evaluator, name) for name in _SAYS) else _Completed(evaluator)
    if callable(evaluator):
        return ValueFunction(evaluator)
    raise TypeError(
        f"evaluator is {evaluator!r}, which has no evaluate(); pass RandomRollout(), PolicyRollout(policy), an object"
        " with evaluate(leaves), or a function (simulator, state, transcript) -> value"
    )


def _for_all(value: float | Sequence[float], two: bool) -> Sequence[float]:
    if np.ndim(value):
        return value  # type: ignore[return-value]
    return (value, -value) if two else (value,)  # type: ignore[operator, return-value]


class _Rollouts(Evaluator):
    """Play all leaves on in lock-step. ``discount``: None for the search's."""

    reads_outcome = True

    def __init__(self, decide: Decide, discount: float | None, max_steps: int, keep_successes: bool) -> None:
        _check_count("max_steps", max_steps)
        if discount is not None and (not isinstance(discount, int | float) or not 0.0 <= discount <= 1.0):
            raise ValueError(f"discount is {discount!r}; expected a number from 0 to 1, or None for the search's")
        self._decide = decide
        self.discount = discount
        self.max_steps = max_steps
        self.keep_successes = keep_successes
        self.successes: list[Rollout] = []
        self.calls = 0

    def evaluate(self, leaves: Sequence[Leaf]) -> np.ndarray:
        if self.keep_successes and leaves and leaves[0].simulator.players > 1:
            raise ValueError("keep_successes=True keeps what one player did; here several play")
        played = [
            Playing(leaf.simulator, leaf.state, leaf.rng, leaf.transcript if self.reads_transcripts else None)
            for leaf in leaves
        ]
        for _ in play(played, self._decide, most_steps=self.max_steps):
            pass
        self.last_calls = [sum(each.calls) for each in played]
        self.calls += sum(self.last_calls)
        values = [
            _discounted(each.rewards, leaf.discount if self.discount is None else self.discount)
            for each, leaf in zip(played, leaves, strict=True)
        ]
        if self.keep_successes:
            for each, leaf, value in zip(played, leaves, values, strict=True):
                if each.movers and each.simulator.info(each.state)["success"]:
                    turns = (each.transcripts or {})[0]
                    self.successes.append(Rollout(leaf.tree, leaf.node, turns, len(leaf.transcript), value[0]))
        return np.array(values, np.float64).reshape(len(played), -1)

    def take_successes(self) -> list[Rollout]:
        """The successful roll-outs since the last call, which forgets them."""
        taken, self.successes = self.successes, []
        return taken


def _discounted(rewards: Sequence[Sequence[float]], discount: float) -> list[float]:
    """The return of each player: what luck paid before the first step, then that of each step, ``discount`` a step."""
    value = list(rewards[0])
    weight = 1.0
    for earned in rewards[1:]:
        for player, reward in enumerate(earned):
            value[player] += weight * reward
        weight *= discount
    return value


class PolicyRollout(_Rollouts):
    """Values a leaf by the return of one episode that ``policy`` plays from there, as
    :class:`~branchwise.envs.play.players.PolicyAgent` plays it.

    ``discount``: None for the search's. ``keep_successes`` keeps the transcripts of roll-outs that reached success
    (``successes``, :meth:`take_successes`). ``calls`` counts prompts.
    """

    def __init__(
        self,
        policy: Policy | PolicyFunction,
        discount: float | None = None,
        max_steps: int = 100,
        temperature: float = 1.0,
        keep_successes: bool = False,
    ) -> None:
        if policy is None:
            raise TypeError("PolicyRollout(None): there is no policy to play on with; RandomRollout() needs none")
        agent = PolicyAgent(policy, temperature)
        super().__init__(by_agents(agent), discount, max_steps, keep_successes)
        self.policy = agent.policy
        self.temperature = temperature


class RandomRollout(_Rollouts):
    """Values a leaf by the return of one episode of uniformly random legal actions. Asks no model. ``discount``: None
    for the search's.

    Where any text may be an answer there is nothing to draw from, and it raises ValueError.
    """

    def __init__(self, discount: float | None = None, max_steps: int = 100, keep_successes: bool = False) -> None:
        super().__init__(_at_random, discount, max_steps, keep_successes)
        self.reads_transcripts = keep_successes


def _at_random(running: Sequence[Playing]) -> Sequence[str]:
    chosen = []
    for each in running:
        actions = each.simulator.legal_actions(each.state)
        if not actions:
            raise ValueError(
                "a random roll-out met a state where any text may be an answer; use PolicyRollout"
                if actions is None
                else "the simulator gave no legal actions in a state that is not terminal"
            )
        chosen.append(actions[int(each.rng.integers(len(actions)))])
    return chosen


class Repeated(Evaluator):
    """Values a leaf by the mean of ``times`` evaluations, all in one batch: N Monte-Carlo roll-outs a node."""

    def __init__(self, evaluator: Evaluator | LeafFunction, times: int) -> None:
        _check_count("times", times)
        self.evaluator = evaluator = as_evaluator(evaluator)
        self.times = times
        self.calls = 0
        self.reads_outcome = evaluator.reads_outcome
        self.reads_transcripts = evaluator.reads_transcripts

    def evaluate(self, leaves: Sequence[Leaf]) -> np.ndarray:
        repeated = [leaf for leaf in leaves for _ in range(self.times)]
        values = self.evaluator.evaluate(repeated)
        asked = calls_of_each(self.evaluator, len(repeated))
        self.last_calls = [sum(asked[i : i + self.times]) for i in range(0, len(repeated), self.times)]
        self.calls += sum(self.last_calls)
        return np.reshape(values, (len(leaves), self.times, -1)).mean(axis=1)


class Mixed(Evaluator):
    """Values a leaf by α · ``search`` + (1 − α) · ``critic``: for instance a roll-out and a value model."""

    def __init__(self, search: Evaluator | LeafFunction, critic: Evaluator | LeafFunction, alpha: float) -> None:
        if not 0.0 <= alpha <= 1.0:
            raise ValueError(f"alpha is {alpha}; expected 0 (the critic alone) to 1 (the search alone)")
        self.parts = as_evaluator(search), as_evaluator(critic)
        self.alpha = alpha
        self.calls = 0
        self.reads_outcome = any(part.reads_outcome for part in self.parts)
        self.reads_transcripts = any(part.reads_transcripts for part in self.parts)

    def evaluate(self, leaves: Sequence[Leaf]) -> np.ndarray:
        search, critic = (np.asarray(part.evaluate(leaves), np.float64) for part in self.parts)
        asked = [calls_of_each(part, len(leaves)) for part in self.parts]
        self.last_calls = [sum(both) for both in zip(*asked, strict=True)]
        self.calls += sum(self.last_calls)
        return self.alpha * search + (1.0 - self.alpha) * critic


def _check_count(name: str, count: int) -> None:
    if not isinstance(count, int | np.integer) or count < 1:
        raise ValueError(f"{name} is {count!r}; expected a whole number, at least 1")


class RankingCritic:
    """Agent Q's critic (arXiv 2408.07199): ``rank(transcripts, candidates)`` gives for each transcript the indices of
    its candidates, the best first, and the r-th best of K is worth (K − r) / (K − 1); a lone one 1. The paper leaves
    the scale open; this one goes from 1 to 0.

    For ``search(critic=...)`` with ``critic_weight`` 1 − α (Eq. 10) or ``unvisited_value="prior"``.

    >>> critic = RankingCritic(lambda transcripts, candidates: [[2, 0, 1]])
    >>> critic.values([()], [("buy", "look", "search")])
    [array([0.5, 0. , 1. ])]
    """

    def __init__(
        self, rank: Callable[[Sequence[Transcript], Sequence[Sequence[str]]], Sequence[Sequence[int]]]
    ) -> None:
        self.rank = rank

    def values(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """float64 ``[k]`` for each transcript; NaN all over, which costs the leaf, where a ranking leaves one out."""
        orders = self.rank(transcripts, candidates)
        return [_by_rank(order, len(actions)) for order, actions in zip(orders, candidates, strict=True)]


def _by_rank(order: Sequence[int], count: int) -> np.ndarray:
    values = np.full(count, np.nan)
    if sorted(order) == list(range(count)):
        values[np.array(order, np.int64)] = np.linspace(1.0, 0.0, count)
    return values
