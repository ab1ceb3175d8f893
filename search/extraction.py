"""From trees and episodes to preference pairs: which action was better than which, after what had been said.

Step-level, from a tree:

- :func:`sibling_pairs`: two children of a node, both visited, whose values differ by at least a threshold (Agent Q,
  arXiv 2408.07199, section 5.3 and Algorithm 1).
- :func:`best_path_pairs`: at each node of the best path the best child against the worst (step-level Q-value models,
  arXiv 2409.09345; MCTS-DPO, arXiv 2405.00451) or against the second best.
- :func:`answers`: the action that a search would play, at each node (games, by self-play).
- :func:`best_paths`: the actions of the best finished paths, without a rejected side (fine-tuning on the tree's best
  rows).
- :func:`anchors`: good actions at nodes that give no contrast, without a rejected side. Actions that are never the
  chosen one of a contrast, but often the rejected one, are driven to zero by training on pairs alone; anchors hold
  them.
- :func:`rollout_anchors`: the actions of successful roll-outs, without a rejected side.

Trajectory-level, from episodes:

- :func:`trajectory_pairs`: a correct against an incorrect episode of the same task (Agent Q's outcome baseline, ETO).
- :func:`successful_trajectories`: the correct ones alone (rejection fine-tuning).

Step-level from episodes is ``credit.state_pairs``.

Each returns what it found and a Counter that says, by reason, what it left out. A pair whose ``rejected`` is empty is
called an anchor. Nothing here weighs, tokenises or truncates; that is the work of ``training``.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..envs.play.episode import Episode
from ..envs.play.task import places_by_task
from ..envs.play.transcript import Transcript, Turn
from .evaluation import Rollout
from .trees.information_tree import InformationTree
from .trees.nodes import INFORMATION
from .trees.tree import Tree

Dropped = Counter[str]
Outcome = Literal["success", "reward"]
"""What makes one episode, or one end of a tree, better than another."""


@dataclass(frozen=True)
class PreferencePair:
    """After ``prompt``, ``chosen`` was better than ``rejected`` (``()`` for an anchor).

    ``chosen_q``, ``rejected_q``: mean returns (NaN-free; 0.0 where there is none), ``*_visits`` the simulations
    behind them; ``ref_*_logp``: log-probability under the policy that searched, summed over tokens, or None where it
    was not logged. ``weight``, ``margin``, ``label_smoothing`` are for the loss. The rest says where the pair came
    from: ``task`` as in :class:`Tree`, ``tree`` its index in the search, ``node`` the node whose children are
    compared, ``depth`` of that node, ``round`` of training, ``kind`` the extractor. ``moves``: what all players and
    luck did since the task's first decision, where the prompt's actions do not tell all of it (else empty): task and
    moves restore the state (``search.audit``).
    """

    prompt: Transcript
    chosen: tuple[Turn, ...]
    rejected: tuple[Turn, ...] = ()
    chosen_q: float = 0.0
    rejected_q: float = 0.0
    chosen_visits: int = 0
    rejected_visits: int = 0
    ref_chosen_logp: float | None = None
    ref_rejected_logp: float | None = None
    weight: float = 1.0
    margin: float = 0.0
    label_smoothing: float = 0.0
    env_id: str = ""
    task: dict[str, Any] = field(default_factory=dict)
    tree: int = 0
    node: int = 0
    depth: int = 0
    round: int = 0
    kind: str = ""
    moves: tuple[str, ...] = ()


def sibling_pairs(
    tree: Tree,
    threshold: float = 0.1,
    min_visits: int = 1,
    *,
    contrast: Literal["all", "best"] = "all",
    per_node: int | None = None,
    z: float = 0.0,
    round: int = 0,
) -> tuple[list[PreferencePair], Dropped]:
    """Pairs of children of one node with |ΔQ| ≥ ``threshold``, both visited at least ``min_visits`` times (solved
    children pass: their value is known).

    ``z``: the least ΔQ in standard errors of returns that are 0 or 1, √(m(1 − m)(1/n₁ + 1/n₂)) with m the mean of all
    n₁ + n₂ visits; a solved child adds no term 1/n. 1 against 0 after one visit each is 1.4, after two 2: a filter, and
    no test, since few visits and the best of several siblings make it smaller than it says.
    ``contrast``: ``all`` pairs of siblings (Agent Q), or the ``best`` child against each of the others. ``per_node``:
    at most so many a node, those with the largest difference first. Dropped reasons: ``unvisited`` (a child without a
    visit), ``too few visits``, ``tie`` (equal values), ``below threshold``, ``unclear`` (below ``z``), ``over
    per_node`` (pairs), ``no contrast`` (nodes that gave no pair), ``other's view`` (information sets of another than
    who moves).
    """
    pairs: list[PreferencePair] = []
    dropped: Dropped = Counter()
    for node in expanded(tree, dropped):
        found = contrasts(tree, node, threshold, min_visits, contrast, dropped, z)
        if per_node is not None and len(found) > per_node:
            dropped["over per_node"] += len(found) - per_node
            found = found[:per_node]
        if not found:
            dropped["no contrast"] += 1
        pairs.extend(step_pair(tree, node, better, worse, round, "sibling") for better, worse in found)
    return pairs, +dropped


def best_path_pairs(
    tree: Tree,
    *,
    path: Literal["terminal", "final"] = "terminal",
    against: Literal["worst", "second"] = "worst",
    unvisited: Literal["drop", "zero"] = "drop",
    threshold: float = 0.0,
    round: int = 0,
) -> tuple[list[PreferencePair], Dropped]:
    """One pair at each node of the best path: the child of largest value against the one of smallest, or the second
    best.

    ``path``: to the visited terminal of largest return (step-level Q-value models), or along the most visited
    children (MCTS-DPO). ``unvisited="zero"`` lets a child without a visit take part with value 0, as the code
    released with the step-level Q-value models does. Dropped reasons: ``no terminal`` (trees), ``unvisited``
    (children), ``single child``, ``tie``, ``below threshold`` (nodes).
    """
    dropped: Dropped = Counter()
    nodes = _best_terminal_path(tree) if path == "terminal" else _most_visited_path(tree)
    if not nodes:
        dropped["no terminal"] += 1
    pairs = []
    for node in nodes[:-1]:
        if tree.is_chance(node):
            continue
        values = {}
        for child in tree.children(node):
            if tree.visits(child):
                values[child] = tree.value(child)
            elif unvisited == "zero":
                values[child] = 0.0
            else:
                dropped["unvisited"] += 1
        ranked = sorted(values, key=lambda child: (-values[child], child))
        if len(ranked) < 2:
            dropped["single child"] += 1
            continue
        better, worse = ranked[0], ranked[-1 if against == "worst" else 1]
        if values[better] == values[worse]:
            dropped["tie"] += 1
        elif values[better] - values[worse] < threshold:
            dropped["below threshold"] += 1
        else:
            pairs.append(step_pair(tree, node, better, worse, round, "best_path"))
    return pairs, dropped


def best_paths(
    tree: Tree, *, paths: int = 1, by: Outcome = "success", min_return: float = 1.0, round: int = 0
) -> tuple[list[PreferencePair], Dropped]:
    """The actions on the paths to the ``paths`` best visited terminals with a return of at least ``min_return``; a
    step that two paths share comes once. ``by="reward"``: those with a return above the mean of the tree's visited
    terminals, and ``min_return`` is not read. An end that luck judges (a verdict that errs) is one, good where the mean
    of its verdicts is above half of ``min_return``. Of several players the returns and the actions are those of who
    moves at the root. Dropped reasons: ``no terminal`` (trees), ``below min_return``, by reward ``not above mean``,
    ``over paths`` (terminals)."""
    dropped: Dropped = Counter()
    ranked = _ends(tree)
    if not ranked:
        dropped["no terminal"] += 1
    if by == "reward":
        good = [end.node for end, is_good in zip(ranked, above_mean([e.total for e in ranked]), strict=True) if is_good]
    else:
        good = [
            end.node
            for end in ranked
            if (end.total > min_return / 2 if end.by_luck else end.total >= min_return - 1e-6)
        ]
    dropped["not above mean" if by == "reward" else "below min_return"] += len(ranked) - len(good)
    dropped["over paths"] += max(len(good) - paths, 0)
    player = tree.chooser(0)
    steps = dict.fromkeys(
        child
        for leaf in good[:paths]
        for child in tree.path(leaf)[1:]
        if tree.player(tree.source(tree.parent(child))) == player
    )
    return [step_pair(tree, tree.parent(child), child, None, round, "best_path_step") for child in steps], +dropped


def answers(tree: Tree, min_visits: int = 1, *, round: int = 0) -> tuple[list[PreferencePair], Dropped]:
    """At each node that was visited at least ``min_visits`` times, and at the root, the action that the search would
    play there (``Tree.best_child``), for whoever is to move. Dropped reasons, by node: ``too few visits``,
    ``unvisited``, ``other's view``."""
    rows = []
    dropped: Dropped = Counter()
    for node in expanded(tree, dropped):
        best = tree.best_child(node)
        if node and not seen_enough(tree, node, min_visits):
            dropped["too few visits"] += 1
        elif best < 0 or not tree.visits(best):
            dropped["unvisited"] += 1
        else:
            rows.append(step_pair(tree, node, best, None, round, "answer"))
    return rows, +dropped


def anchors(
    tree: Tree,
    min_value: float = 0.5,
    min_visits: int = 1,
    *,
    threshold: float = 0.1,
    contrast_visits: int = 1,
    round: int = 0,
) -> tuple[list[PreferencePair], Dropped]:
    """The best child of each node that gives no contrast (``threshold``, ``contrast_visits`` as for
    :func:`sibling_pairs`), where its value is at least ``min_value`` and it was visited at least ``min_visits`` times
    (solved children pass).

    Dropped reasons, by node: ``has contrast``, ``unvisited``, ``too few visits``, ``below min_value``, ``other's
    view``.
    """
    rows = []
    dropped: Dropped = Counter()
    for node in expanded(tree, dropped):
        visited = [child for child in tree.children(node) if tree.visits(child)]
        if not visited:
            dropped["unvisited"] += 1
            continue
        if contrasts(tree, node, threshold, contrast_visits, "best", Counter()):
            dropped["has contrast"] += 1
            continue
        best = max(visited, key=lambda child: (tree.value(child), tree.visits(child), -child))
        if not seen_enough(tree, best, min_visits):
            dropped["too few visits"] += 1
        elif tree.value(best) < min_value:
            dropped["below min_value"] += 1
        else:
            rows.append(step_pair(tree, node, best, None, round, "anchor"))
    return rows, +dropped


def rollout_anchors(
    rollouts: Iterable[Rollout], trees: Sequence[Tree], *, per_tree: int | None = None, round: int = 0
) -> tuple[list[PreferencePair], Dropped]:
    """One row for each action of a successful roll-out (``PolicyRollout(keep_successes=True).take_successes()``); a
    step that was taken twice after the same words comes once. ``per_tree``: at most so many roll-outs a tree, the
    earliest.

    Dropped reasons: ``over per_tree`` (roll-outs), ``duplicate`` (steps).
    """
    rows = []
    dropped: Dropped = Counter()
    by_index = {tree.index: tree for tree in trees}
    taken: Counter[int] = Counter()
    seen: set[tuple[int, tuple[str, ...]]] = set()
    for rollout in rollouts:
        if per_tree is not None and taken[rollout.tree] >= per_tree:
            dropped["over per_tree"] += 1
            continue
        taken[rollout.tree] += 1
        tree = by_index[rollout.tree]
        depth = tree.depth(rollout.node)
        for position in range(rollout.start, len(rollout.transcript)):
            turn = rollout.transcript[position]
            if not turn.is_agent:
                continue
            key = (rollout.tree, tuple(turn.text for turn in rollout.transcript[: position + 1]))
            if key in seen:
                dropped["duplicate"] += 1
            else:
                seen.add(key)
                rows.append(
                    PreferencePair(
                        prompt=rollout.transcript[:position],
                        chosen=(turn,),
                        chosen_q=rollout.value,
                        chosen_visits=1,
                        env_id=str(tree.task.get("env_id", "")),
                        task=tree.task,
                        tree=tree.index,
                        node=rollout.node,
                        depth=depth,
                        round=round,
                        kind="rollout",
                    )
                )
            depth += 1
    return rows, dropped


def trajectory_pairs(
    episodes: Sequence[Episode],
    *,
    by: Outcome = "success",
    threshold: float = 0.0,
    pairing: Literal["random", "all", "extremes"] = "random",
    per_task: int = 1,
    rng: np.random.Generator | None = None,
    round: int = 0,
) -> tuple[list[PreferencePair], Dropped]:
    """Correct against incorrect episodes of the same task, as whole trajectories: the prompt ends with the first
    observation. ``by="reward"``: an episode against one of the same task whose total reward is smaller by more than
    ``threshold``, as in games, where draws and winnings count.

    ``pairing``: ``random`` draws ``per_task`` pairs of the task's, without repetition (needs ``rng``); ``all`` takes
    the first ``per_task`` in order; ``extremes`` the best episode against the worst, the second best against the second
    worst, and so on. Dropped reasons: ``all correct``, ``all incorrect``, ``all alike`` (tasks, the last
    by reward), ``over per_task`` (pairs), ``different start`` (pairs whose prompts differ), ``no action`` (episodes).
    """
    if pairing == "random" and rng is None:
        raise ValueError("pairing='random' draws; pass rng=numpy.random.default_rng(seed)")
    pairs: list[PreferencePair] = []
    dropped: Dropped = Counter()
    for index, tries in enumerate(by_task(episodes, dropped)):
        if by == "success":
            better = [episode for episode in tries if episode.success]
            worse = [episode for episode in tries if not episode.success]
            if not better or not worse:
                dropped["all incorrect" if worse else "all correct"] += 1
                continue
        else:
            better = worse = list(tries)
        if pairing == "extremes":
            better = sorted(better, key=lambda episode: -episode.total_reward)
            worse = sorted(worse, key=lambda episode: episode.total_reward)
            combinations = list(zip(better, worse, strict=False))
        else:
            combinations = list(itertools.product(better, worse))
        if by == "reward":
            combinations = [pair for pair in combinations if pair[0].total_reward - pair[1].total_reward > threshold]
            if not combinations:
                dropped["all alike"] += 1
                continue
        dropped["over per_task"] += max(len(combinations) - per_task, 0)
        if pairing == "random":
            assert rng is not None
            combinations = [combinations[i] for i in rng.permutation(len(combinations))]
        for won, lost in combinations[:per_task]:
            prompt, chosen = _prompt_and_completion(won)
            other_prompt, rejected = _prompt_and_completion(lost)
            if [turn.text for turn in prompt] != [turn.text for turn in other_prompt]:
                dropped["different start"] += 1
                continue
            pairs.append(
                PreferencePair(
                    prompt=prompt,
                    chosen=chosen,
                    rejected=rejected,
                    chosen_q=won.total_reward,
                    rejected_q=lost.total_reward,
                    chosen_visits=1,
                    rejected_visits=1,
                    ref_chosen_logp=logged_logp(chosen),
                    ref_rejected_logp=logged_logp(rejected),
                    env_id=str(won.task.get("env_id", "")),
                    task=won.task,
                    tree=index,
                    round=round,
                    kind="trajectory",
                )
            )
    return pairs, +dropped


def successful_trajectories(
    episodes: Sequence[Episode], *, by: Outcome = "success", per_task: int | None = None, round: int = 0
) -> tuple[list[PreferencePair], Dropped]:
    """The correct episodes alone, as whole trajectories; equal ones of a task come once. ``by="reward"``: those whose
    total reward is above the mean of their task's. ``per_task``: at most so many a task, the earliest; by reward those
    with the largest. Dropped reasons: ``incorrect``, ``duplicate``, ``over per_task``, ``no action`` (episodes)."""
    rows = []
    dropped: Dropped = Counter()
    for index, tries in enumerate(by_task(episodes, dropped)):
        seen: set[tuple[str, ...]] = set()
        if by == "reward":
            tries = sorted(tries, key=lambda episode: -episode.total_reward)
            good = above_mean([episode.total_reward for episode in tries])
        else:
            good = [episode.success for episode in tries]
        for episode, is_good in zip(tries, good, strict=True):
            key = tuple(turn.text for turn in episode.transcript)
            if not is_good:
                dropped["incorrect"] += 1
            elif key in seen:
                dropped["duplicate"] += 1
            elif per_task is not None and len(seen) >= per_task:
                dropped["over per_task"] += 1
            else:
                seen.add(key)
                prompt, chosen = _prompt_and_completion(episode)
                rows.append(
                    PreferencePair(
                        prompt=prompt,
                        chosen=chosen,
                        chosen_q=episode.total_reward,
                        chosen_visits=1,
                        ref_chosen_logp=logged_logp(chosen),
                        env_id=str(episode.task.get("env_id", "")),
                        task=episode.task,
                        tree=index,
                        round=round,
                        kind="successful_trajectory",
                    )
                )
    return rows, dropped


def above_mean(returns: Sequence[float]) -> list[bool]:
    """Which are above the mean of all, and not by rounding alone: what is good by reward, among the tries of a task."""
    mean = sum(returns) / max(len(returns), 1)
    return [value > mean + max(1e-9, 1e-12 * abs(mean)) for value in returns]


# ---- trees ------------------------------------------------------------------------------------------------------


def expanded(tree: Tree, dropped: Dropped, among: Sequence[int] | None = None) -> list[int]:
    """The nodes (``among`` these; None: all) where a player chose among children; of information sets those that the
    player to move was in, and not only another's view of them (``other's view`` counts the rest)."""
    looked_at = range(len(tree)) if among is None else among
    nodes = [node for node in looked_at if len(tree.children(node)) and not tree.is_chance(node)]
    if not isinstance(tree, InformationTree):
        return nodes
    own = [node for node in nodes if tree.is_own_view(node)]
    dropped["other's view"] += len(nodes) - len(own)
    return own


def seen_enough(tree: Tree, node: int, min_visits: int) -> bool:
    """Of a node that was visited."""
    return tree.visits(node) >= min_visits or tree.is_solved(node)


def contrasts(
    tree: Tree, node: int, threshold: float, min_visits: int, contrast: str, dropped: Dropped, z: float = 0.0
) -> list[tuple[int, int]]:
    """(better, worse) children that pass, the largest difference first, then in order of index."""
    compared = []
    for child in tree.children(node):
        if tree.visits(child) == 0:
            dropped["unvisited"] += 1
        elif not seen_enough(tree, child, min_visits):
            dropped["too few visits"] += 1
        else:
            compared.append((tree.value(child), child))
    compared.sort(key=lambda entry: (-entry[0], entry[1]))
    found = []
    for i, (high, better) in enumerate(compared[:1] if contrast == "best" else compared):
        for low, worse in compared[i + 1 :]:
            if high == low:
                dropped["tie"] += 1
            elif high - low < threshold:
                dropped["below threshold"] += 1
            elif z and high - low < z * _error(tree, better, worse):
                dropped["unclear"] += 1
            else:
                found.append((low - high, better, worse))
    return [(better, worse) for _, better, worse in sorted(found)]


def _error(tree: Tree, one: int, other: int) -> float:
    """The standard error of the difference of two children's values, their returns being 0 or 1."""
    both = (one, other)
    values, visits = [tree.value(child) for child in both], [tree.visits(child) for child in both]
    return binary_error(values, visits, [not tree.is_solved(child) for child in both])


def binary_error(means: Sequence[float], counts: Sequence[int], is_open: Sequence[bool] = (True, True)) -> float:
    """The standard error of the difference of two ``means`` of so many returns of 0 or 1, √(m(1 − m) Σ 1/n) with m the
    mean of all of them; a mean that is known, not ``is_open``, adds no term 1/n."""
    mean = float(np.average(np.clip(means, 0.0, 1.0), weights=counts))
    return float(np.sqrt(mean * (1 - mean) * sum(1 / n for n, varies in zip(counts, is_open, strict=True) if varies)))


def step_pair(tree: Tree, node: int, better: int, worse: int | None, round: int, kind: str) -> PreferencePair:
    def q(child: int) -> float:
        return tree.value(child) if tree.visits(child) else 0.0

    def logp(child: int) -> float | None:
        return float(tree.logps[child]) if np.isfinite(tree.logps[child]) else None

    return PreferencePair(
        prompt=tree.transcript(node),
        chosen=(tree.agent_turn(better),),
        rejected=() if worse is None else (tree.agent_turn(worse),),
        chosen_q=q(better),
        rejected_q=0.0 if worse is None else q(worse),
        chosen_visits=tree.visits(better),
        rejected_visits=0 if worse is None else tree.visits(worse),
        ref_chosen_logp=logp(better),
        ref_rejected_logp=None if worse is None else logp(worse),
        env_id=str(tree.task.get("env_id", "")),
        task=tree.task,
        tree=tree.index,
        node=node,
        depth=tree.depth(node),
        round=round,
        kind=kind,
        moves=moves_until(tree, node),
    )


def moves_until(tree: Tree, node: int) -> tuple[str, ...]:
    """What was done until ``node``, where its transcript does not tell all of it."""
    taken = tree.path(node)[1:]
    if isinstance(tree, InformationTree):
        taken = [step for step in taken if not tree.has(step, INFORMATION)]
    moves = (*tree.moves, *(tree.actions[step] for step in taken))
    told = tuple(turn.text for turn in tree.transcript(node) if turn.is_agent)
    return () if moves == told else moves


@dataclass(frozen=True, slots=True)
class _End:
    """A visited end of a tree: ``total`` is the undiscounted return from the root for who moves there. Where luck
    judges it (a verdict that errs), ``node`` is the action's, ``total`` the mean over its verdicts, and ``rank`` that
    mean with one verdict of each kind added, so that one lucky verdict does not lead."""

    node: int
    total: float
    rank: float
    by_luck: bool


def _ends(tree: Tree) -> list[_End]:
    """The visited ends, the best first, the shortest path among equals."""
    found = []
    for node in range(1, len(tree)):
        visits = tree.visits(node)
        if not visits:
            continue
        if tree.is_terminal(node) and not tree.is_chance(tree.parent(node)):
            total = tree.path_return(node)
            found.append(_End(node, total, total, False))
        elif tree.is_chance(node) and _is_judged(tree, node):
            before = tree.path_return(tree.parent(node))
            value = tree.value(node)
            found.append(_End(node, before + value, before + (visits * value + 1) / (visits + 2), True))
    return sorted(found, key=lambda end: (-end.rank, tree.depth(end.node), end.node))


def _is_judged(tree: Tree, node: int) -> bool:
    """Whether luck at a node leads to ends alone, as far as it was seen."""
    seen = [child for child in tree.children(node) if tree.visits(child)]
    return bool(seen) and all(tree.is_terminal(child) for child in seen)


def _best_terminal_path(tree: Tree) -> list[int]:
    ranked = _ends(tree)
    return tree.path(ranked[0].node) if ranked else []


def _most_visited_path(tree: Tree) -> list[int]:
    path = [0]
    while (child := tree.best_child(path[-1], "visits")) >= 0 and tree.visits(child):
        path.append(child)
    return path


# ---- episodes ---------------------------------------------------------------------------------------------------


def by_task(episodes: Sequence[Episode], dropped: Dropped) -> list[list[Episode]]:
    """Episodes with at least one action, grouped by task, in order of first appearance."""
    acted = [episode for episode in episodes if any(turn.is_agent for turn in episode.transcript)]
    dropped.update({"no action": len(episodes) - len(acted)} if len(acted) < len(episodes) else {})
    return [[acted[place] for place in places] for places in places_by_task(episode.task for episode in acted)]


def _prompt_and_completion(episode: Episode) -> tuple[Transcript, tuple[Turn, ...]]:
    """The turns before the first action, and those from it to the last action."""
    turns = episode.transcript
    agent = [i for i, turn in enumerate(turns) if turn.is_agent]
    return turns[: agent[0]], turns[agent[0] : agent[-1] + 1]


def logged_logp(turns: Sequence[Turn]) -> float | None:
    """The sum of the agent's logged log-probabilities, or None where a turn has none."""
    logged = [turn.logps for turn in turns if turn.is_agent]
    return float(sum(sum(logps) for logps in logged)) if all(logged) else None
