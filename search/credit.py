"""From trees and episodes to advantages: how much better each action was than what the policy does there on average,

    A(s, a) = Q(s, a) − V(s),

for trainers that follow the policy gradient. Four ways to estimate it:

- :func:`tree_advantages`: the children of a node against each other (in the manner of Tree-GRPO, arXiv:2509.21240).
- :func:`vine_advantages`: both values by roll-outs from restored states along an episode (VinePPO, arXiv:2410.01679).
- :func:`group_advantages`: an episode against those of its task, and a step against those from the same state (GiGPO,
  arXiv:2505.10978).
- :func:`pooled_advantages`: means of returns by state, and by state and action, over all episodes of a task.

:func:`state_pairs` compares the same means, two actions of a state at a time, as preference pairs.

Each returns rows and a Counter that says, by reason, what was left out. A row whose advantage is 0 teaches nothing and
is left out as ``no advantage``. Returns of a step are those of its own path: a reward of another branch, or before the
step, is in none of them. Standard deviations have n in the denominator.

What this file does not do: learned values and generalised advantage estimation, which need a critic; equal positions of
games pooled over trees (``pooling.py`` does that for pairs).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..envs.play.agent import Agent
from ..envs.play.episode import Episode
from ..envs.play.playing import Playing, by_agents, play
from ..envs.play.transcript import Transcript, Turn
from ..envs.simulator import Simulator
from .extraction import (
    Dropped,
    Outcome,
    PreferencePair,
    binary_error,
    by_task,
    expanded,
    logged_logp,
    seen_enough,
    step_pair,
)
from .stepwise import replayed
from .trees.tree import Tree

SMALLEST: Final = 1e-9
SMALLEST_SHARE: Final = 1e-12
"""Of the largest return: differences up to it, and up to SMALLEST, are rounding."""
"""An advantage of at most this size is 0 but for rounding; so is a standard deviation."""


@dataclass(frozen=True)
class StepAdvantage:
    """After ``prompt``, ``action`` (one turn of the agent) was better by ``advantage`` than the policy's average there.

    ``q``: what the action returned, ``baseline``: V of the state (both as the estimate has them before it divides or
    adds anything), ``visits``: how many simulations, roll-outs or steps are behind ``q``. ``logp``: log-probability of
    the action under the policy that collected, summed over tokens, or None where it was not logged. The rest says where
    the row came from, as in :class:`~branchwise.search.extraction.PreferencePair`; of episodes ``tree`` numbers the
    task and ``node`` the episode among those of the task (``vine``: ``tree`` numbers the episode), ``depth`` the step.
    ``kind``: ``tree``, ``vine``, ``group`` or ``pooled``.
    """

    prompt: Transcript
    action: tuple[Turn, ...]
    advantage: float
    logp: float | None = None
    q: float = 0.0
    baseline: float = 0.0
    visits: int = 0
    env_id: str = ""
    task: dict[str, Any] = field(default_factory=dict)
    tree: int = 0
    node: int = 0
    depth: int = 0
    round: int = 0
    kind: str = ""


Found = tuple[list[StepAdvantage], Dropped]
Key = Callable[[Transcript], Hashable]


# ---- trees ------------------------------------------------------------------------------------------------------


def tree_advantages(tree: Tree, *, min_visits: int = 1, normalise: bool = False, round: int = 0) -> Found:
    """At each expanded node the visited children against each other, for whoever moves there:

        A(s, a) = Q(s, a) − V(s),    V(s) = Σ_b P(b|s) Q(s, b) / Σ_b P(b|s)    over the children that are compared,

    P being the tree's prior (after its mixing with uniform and noise); where all of them have prior 0 they count
    alike. Q includes the reward of the step, and is discounted as the search was. ``normalise`` divides by the standard
    deviation of the siblings' Q, √(Σ_b (Q(s, b) − mean Q)² / n). Tree-GRPO compares the returns of complete roll-outs,
    within a tree and over the trees of a prompt; here the group is the siblings, so that each row is about one action.

    Compared are children with at least ``min_visits`` visits; solved children with fewer pass, since their value is
    known. A node's rows count alike, whatever their priors. Dropped reasons: ``unvisited``, ``too few visits``, ``no
    advantage`` (children), ``no contrast`` (nodes with fewer than two children to compare), ``other's view``
    (information sets of who does not move there).
    """
    rows: list[StepAdvantage] = []
    dropped: Dropped = Counter()
    for node in expanded(tree, dropped):
        children = []
        for child in tree.children(node):
            if tree.visits(child) == 0:
                dropped["unvisited"] += 1
            elif not seen_enough(tree, child, min_visits):
                dropped["too few visits"] += 1
            else:
                children.append(child)
        if len(children) < 2:
            dropped["no contrast"] += 1
            continue
        q = np.array([tree.value(child) for child in children])
        prior = np.array([tree.prior(child) for child in children])
        baseline = float(np.average(q, weights=prior if prior.sum() > 0 else None))
        advantages = _divided(q - baseline, q) if normalise else q - baseline
        for child, advantage in zip(children, advantages, strict=True):
            step = step_pair(tree, node, child, None, round, "tree")
            rows.append(
                StepAdvantage(
                    prompt=step.prompt,
                    action=step.chosen,
                    advantage=float(advantage),
                    logp=step.ref_chosen_logp,
                    q=step.chosen_q,
                    baseline=baseline,
                    visits=step.chosen_visits,
                    env_id=step.env_id,
                    task=step.task,
                    tree=step.tree,
                    node=step.node,
                    depth=step.depth,
                    round=step.round,
                    kind=step.kind,
                )
            )
    return _with_advantage(rows, dropped)


# ---- roll-outs along an episode ---------------------------------------------------------------------------------


def vine_advantages(
    simulator: Simulator[Any],
    episodes: Sequence[Episode],
    agent: Agent,
    rngs: Sequence[np.random.Generator],
    rollouts: int = 9,
    *,
    discount: float = 1.0,
    round: int = 0,
) -> tuple[list[StepAdvantage], Dropped, list[int]]:
    """VinePPO (arXiv:2410.01679): along each episode

        A(s_t, a_t) = r_t + γ V(s_{t+1}) − V(s_t),    V(s) = mean over K roll-outs from s of Σ_j γ^j r_j,

    with K ``rollouts`` and γ ``discount``; V of the state after the last action, an end, is 0. Both states of a step
    are valued once, so that the V(s_{t+1}) of a step is the V of the next. Rows, what was dropped, and the model calls
    that the roll-outs of each episode cost.

    ``episodes``: of ``simulator``, played to their ends; their actions are replayed, and the rewards are the
    simulator's. ``agent``: the policy, which samples; one generator an episode. Raises ``ValueError`` for a game of
    several players, and for luck between two steps of an episode, which its actions do not tell.
    """
    if simulator.players > 1:
        raise ValueError(f"vine roll-outs value what one player does, and {simulator.players} play here")
    walks = [replayed(simulator, episode) for episode in episodes]
    plays = [
        Playing(simulator, state, own, episode.transcript[:place], number)
        for number, (episode, walk, rng) in enumerate(zip(episodes, walks, rngs, strict=True))
        for place, state, _ in walk
        for own in rng.spawn(rollouts)
    ]
    for _ in play(plays, by_agents(agent)):
        pass
    returns = np.array([returns_to_go([paid[0] for paid in each.rewards[1:]], discount)[0] for each in plays])
    values = iter(returns.reshape(-1, rollouts).mean(axis=1).tolist())
    rows = []
    for number, (episode, walk) in enumerate(zip(episodes, walks, strict=True)):
        value = [next(values) for _ in walk] + [0.0]
        for depth, (place, _, paid) in enumerate(walk):
            q = paid + discount * value[depth + 1]
            step = _Step(episode, 0, place, depth, paid)
            rows.append(_row(step, number, q, value[depth], q - value[depth], rollouts, round, "vine"))
    calls = [0] * len(episodes)
    for playing in plays:
        calls[playing.number] += playing.calls[0]
    return *_with_advantage(rows, Counter()), calls


# ---- episodes ---------------------------------------------------------------------------------------------------


def group_advantages(
    episodes: Sequence[Episode],
    key: Key,
    *,
    by: Outcome = "success",
    weight: float = 1.0,
    discount: float = 0.95,
    normalise: bool = True,
    round: int = 0,
) -> Found:
    """GiGPO (arXiv:2505.10978), over the episodes i of a task and the steps t whose state is equal:

        A_E(i)    = (R_i − mean R) / std R               R_i = Σ_t r_t, over the episodes of the task
        A_S(i, t) = (R_{i,t} − mean) / std               R_{i,t} = Σ_{k ≥ t} γ^{k−t} r_k, over the steps of the state
        A(i, t)   = A_E(i) + ω A_S(i, t)

    with γ ``discount`` and ω ``weight``; without ``normalise`` nothing is divided by a standard deviation (the paper
    has both). A group of one has advantage 0, and so have groups whose returns are all equal. States are equal where
    ``key`` of what was seen and done until then is: what the model is shown.

    ``by``: with ``success`` an episode's last step pays 1 where it succeeded, and nothing else pays; with ``reward`` as
    the episode says. A row's ``q`` is R_{i,t} and its ``baseline`` the mean over its state. Dropped reasons: ``no
    action`` (episodes), ``no advantage`` (steps). Raises ``ValueError`` for an episode that has not a reward a step.
    """
    rows: list[StepAdvantage] = []
    dropped: Dropped = Counter()
    for index, tries in enumerate(by_task(episodes, dropped)):
        paid = [_rewards(episode, by) for episode in tries]
        whole = _against_group(np.array([sum(rewards) for rewards in paid]), normalise)
        for group in _by_state(tries, paid, key, discount).values():
            returns = np.array([step.earned for step in group])
            among = _against_group(returns, normalise)
            for step, own in zip(group, among, strict=True):
                advantage = float(whole[step.number] + weight * own)
                rows.append(_row(step, index, step.earned, float(returns.mean()), advantage, 1, round, "group"))
    return _with_advantage(sorted(rows, key=_place), dropped)


def pooled_advantages(
    episodes: Sequence[Episode], key: Key, *, by: Outcome = "success", discount: float = 1.0, round: int = 0
) -> Found:
    """Monte-Carlo means over equal states of the episodes of a task:

        A(s, a) = Q(s, a) − V(s),    Q: mean of R_t over the steps with state s and action a,    V: over those with s

    with R_t = Σ_{k ≥ t} γ^{k−t} r_k of the step's own episode and γ ``discount``. One row a step, so that an action
    counts as often as the policy took it. ``key``, ``by``, dropped reasons and errors as in :func:`group_advantages`.
    """
    rows: list[StepAdvantage] = []
    dropped: Dropped = Counter()
    for index, tries in enumerate(by_task(episodes, dropped)):
        paid = [_rewards(episode, by) for episode in tries]
        for group in _by_state(tries, paid, key, discount).values():
            of_action: dict[str, list[float]] = defaultdict(list)
            for step in group:
                of_action[step.action.text].append(step.earned)
            baseline = float(np.mean([step.earned for step in group]))
            for step in group:
                alike = of_action[step.action.text]
                q = float(np.mean(alike))
                advantage = float(_difference(np.array(q), np.array(baseline)))
                rows.append(_row(step, index, q, baseline, advantage, len(alike), round, "pooled"))
    return _with_advantage(sorted(rows, key=_place), dropped)


def state_pairs(
    episodes: Sequence[Episode],
    key: Key,
    threshold: float = 0.1,
    min_visits: int = 1,
    *,
    per_state: int | None = None,
    z: float = 0.0,
    by: Outcome = "success",
    round: int = 0,
) -> tuple[list[PreferencePair], Dropped]:
    """Step pairs of plain episodes: at equal states of a task's episodes the action of the largest mean return (as in
    :func:`pooled_advantages`, undiscounted) against each other one, both taken at least ``min_visits`` times, where
    the means differ by ``threshold`` and, with ``z``, by so many standard errors of returns that are 0 or 1.

    An action counts once an episode and state, at its first visit there, so that a circle is no evidence. ``z`` is a
    filter, and no test: means of few are extreme, and the best of several is lucky. ``per_state``: at most so many a
    state, those with the largest difference first. ``key``, ``by`` and errors as in :func:`group_advantages`; where
    something is hidden, equal prompts of a task share what is hidden too, and the pairs know it. Dropped reasons: ``no
    action`` (episodes), ``too few visits`` (actions), ``tie``, ``below threshold``, ``unclear`` (below ``z``), ``over
    per_state`` (pairs), ``no contrast`` (states).
    """
    if per_state is not None and per_state < 1:
        raise ValueError(f"per_state={per_state}; expected a whole number from 1 on")
    pairs: list[PreferencePair] = []
    dropped: Dropped = Counter()
    for index, tries in enumerate(by_task(episodes, dropped)):
        paid = [_rewards(episode, by) for episode in tries]
        for number, group in enumerate(_by_state(tries, paid, key, 1.0).values()):
            of_action: dict[str, dict[int, _Step]] = defaultdict(dict)
            for step in group:
                of_action[step.action.text].setdefault(step.number, step)
            taken = [list(steps.values()) for steps in of_action.values() if len(steps) >= min_visits]
            dropped["too few visits"] += len(of_action) - len(taken)
            ranked = sorted(taken, key=_mean, reverse=True)
            found = []
            for worse in ranked[:0:-1]:
                better = ranked[0]
                gap = float(_difference(np.array(_mean(better)), np.array(_mean(worse))))
                if gap <= SMALLEST:
                    dropped["tie"] += 1
                elif not gap >= threshold:
                    dropped["below threshold"] += 1
                elif gap < z * binary_error([_mean(better), _mean(worse)], [len(better), len(worse)]):
                    dropped["unclear"] += 1
                else:
                    found.append(_state_pair(better, worse, index, number, round))
            if not found:
                dropped["no contrast"] += 1
            dropped["over per_state"] += max(len(found) - (per_state or len(found)), 0)
            pairs += found[:per_state]
    return pairs, +dropped


def _mean(steps: Sequence["_Step"]) -> float:
    return sum(step.earned for step in steps) / len(steps)


def _state_pair(
    better: Sequence["_Step"], worse: Sequence["_Step"], tree: int, node: int, round: int
) -> PreferencePair:
    """The two actions after what was seen before the better one, for the first time."""
    first, other = better[0], worse[0]
    task = first.episode.task
    return PreferencePair(
        prompt=first.prompt,
        chosen=(first.action,),
        rejected=(other.action,),
        chosen_q=_mean(better),
        rejected_q=_mean(worse),
        chosen_visits=len(better),
        rejected_visits=len(worse),
        ref_chosen_logp=logged_logp((first.action,)),
        ref_rejected_logp=logged_logp((other.action,)),
        env_id=str(task.get("env_id", "")),
        task=task,
        tree=tree,
        node=node,
        depth=first.depth,
        round=round,
        kind="state",
    )


def returns_to_go(rewards: Sequence[float], discount: float) -> list[float]:
    """Σ_{k ≥ t} γ^{k−t} r_k for each step t of ``rewards``."""
    found = [0.0] * len(rewards)
    later = 0.0
    for step in range(len(rewards) - 1, -1, -1):
        later = found[step] = rewards[step] + discount * later
    return found


@dataclass(frozen=True, slots=True)
class _Step:
    """A step of an episode, the ``number``-th of its task: the action is at ``place`` of the transcript, and ``earned``
    is the return from there."""

    episode: Episode
    number: int
    place: int
    depth: int
    earned: float

    @property
    def action(self) -> Turn:
        return self.episode.transcript[self.place]

    @property
    def prompt(self) -> Transcript:
        return self.episode.transcript[: self.place]


def _by_state(
    tries: Sequence[Episode], paid: Sequence[Sequence[float]], key: Key, discount: float
) -> dict[Hashable, list[_Step]]:
    """The steps of a task's episodes, with what each step of them ``paid``, by state."""
    groups: dict[Hashable, list[_Step]] = defaultdict(list)
    for number, (episode, rewards) in enumerate(zip(tries, paid, strict=True)):
        places = [place for place, turn in enumerate(episode.transcript) if turn.is_agent]
        for depth, (place, earned) in enumerate(zip(places, returns_to_go(rewards, discount), strict=True)):
            step = _Step(episode, number, place, depth, earned)
            groups[key(step.prompt)].append(step)
    return groups


def _rewards(episode: Episode, by: Outcome) -> Sequence[float]:
    """What each of an episode's actions paid."""
    turns = sum(turn.is_agent for turn in episode.transcript)
    if by == "success":
        return [0.0] * (turns - 1) + [float(episode.success)]
    if len(episode.rewards) != turns:
        raise ValueError(
            f"an episode has {turns} agent turns and {len(episode.rewards)} rewards; by='reward' needs one a turn"
        )
    if not math.isfinite(sum(abs(float(reward)) for reward in episode.rewards)):
        raise ValueError(f"an episode has the rewards {list(episode.rewards)!r:.60}; expected finite numbers and sums")
    return episode.rewards


def _row(
    step: _Step, tree: int, q: float, baseline: float, advantage: float, visits: int, round: int, kind: str
) -> StepAdvantage:
    task = step.episode.task
    return StepAdvantage(
        prompt=step.prompt,
        action=(step.action,),
        advantage=advantage,
        logp=logged_logp((step.action,)),
        q=q,
        baseline=baseline,
        visits=visits,
        env_id=str(task.get("env_id", "")),
        task=task,
        tree=tree,
        node=step.number,
        depth=step.depth,
        round=round,
        kind=kind,
    )


# ---- groups -----------------------------------------------------------------------------------------------------


def _against_group(returns: NDArray[np.float64], normalise: bool) -> NDArray[np.float64]:
    """Each return less the mean of all, divided by their standard deviation where that is asked for."""
    centred = _difference(returns, returns.mean())
    return _divided(centred, returns) if normalise else centred


def _difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """``first`` less ``second``; 0 where that is rounding alone."""
    gap = first - second
    return np.where(np.abs(gap) > SMALLEST_SHARE * np.maximum(np.abs(first), np.abs(second)), gap, 0.0)


def _divided(advantages: NDArray[np.float64], returns: NDArray[np.float64]) -> NDArray[np.float64]:
    """``advantages`` in units of the standard deviation of ``returns``; 0 where that is 0."""
    spread = float(returns.std())
    rounding = max(SMALLEST, SMALLEST_SHARE * float(np.abs(returns).max(initial=0.0)))
    return advantages / spread if spread > rounding else np.zeros_like(advantages)


def _with_advantage(rows: Iterable[StepAdvantage], dropped: Dropped) -> Found:
    every = list(rows)
    kept = [row for row in every if abs(row.advantage) > SMALLEST]
    dropped["no advantage"] += len(every) - len(kept)
    return kept, +dropped


def _place(row: StepAdvantage) -> tuple[int, int, int]:
    return row.tree, row.node, row.depth
