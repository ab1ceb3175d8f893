"""How good an agent is: episodes on given tasks, and figures with their intervals.

Every agent is run on the same tasks. Success is a share of episodes with Wilson's interval; mean reward has a
percentile bootstrap interval; two agents are compared task by task (exact McNemar test, paired bootstrap of the
difference), two ways to train seed by seed (t-intervals, paired t-test). All intervals are 95 %. Nothing here chooses a
model: that is the loop's, on validation tasks.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..envs.play.agent import Agent
from ..envs.play.episode import Episode
from ..envs.play.playing import run_episodes
from ..envs.play.task import Task
from ..envs.simulator import Simulator
from ..search.typed import check_fields
from .stages import is_number


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One row of a results table. Rates are shares in [0, 1]; ``steps`` and ``model_calls`` are means an episode and a
    decision; ``seconds_per_decision`` is wall-clock time in this run, batching included; ``kind`` is the agent's
    (``readable.KINDS``), where it is known. ``figures`` has for each further figure of the environment
    (``abilities.figures_of``) its ``mean`` with ``low`` and ``high``, over the ``episodes`` that have it, and of a
    policy in a small game its ``exploitability``, which is computed and has a ``mean`` alone. ``failures``: how many
    episodes failed in which way (:func:`failure_kind`)."""

    agent: str
    env: str
    split: str
    episodes: int
    seed: int
    success: float
    success_low: float
    success_high: float
    reward: float
    reward_low: float
    reward_high: float
    invalid_action_rate: float
    steps: float
    model_calls: float
    seconds_per_decision: float
    kind: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not isinstance(value, str | dict) and not is_number(value):
                raise ValueError(f"{entry.name} of {self.agent} is {value!r:.40}; expected a finite number")


def row_of(found: Mapping[str, Any]) -> ResultRow:
    """A row of the table from the figures of an evaluation. Raises what :class:`ResultRow` does, ``KeyError`` for a
    figure that is not there."""
    optional = ("kind", "figures", "failures")
    given = [entry.name for entry in fields(ResultRow) if entry.name not in optional or entry.name in found]
    return ResultRow(**{name: found[name] for name in given})


def evaluate(
    simulator: Simulator[Any],
    tasks: Sequence[Task],
    agent: Agent,
    *,
    env: str,
    split: str,
    seed: int,
    batch_size: int = 64,
    progress: Callable[[int], None] | None = None,
) -> tuple[ResultRow, list[Episode]]:
    """Run ``agent`` on ``tasks`` and sum up. Raises ``ValueError`` where there are no tasks."""
    if not tasks:
        raise ValueError(f"no tasks to evaluate {agent.name} on; give at least one goal of the split {split!r}")
    start = time.perf_counter()
    episodes = run_episodes(simulator, tasks, agent, seed, batch_size=batch_size, progress=progress)
    seconds = time.perf_counter() - start
    return summarise(episodes, agent=agent.name, env=env, split=split, seed=seed, seconds=seconds), episodes


def summarise(episodes: Sequence[Episode], *, agent: str, env: str, split: str, seed: int, seconds: float) -> ResultRow:
    """The table's row for these episodes; ``seconds`` is the wall-clock time that they took together."""
    for episode in episodes:
        if not math.isfinite(episode.total_reward):
            raise ValueError(
                f"an episode of {agent} in {env} has rewards {episode.rewards!r:.80}; expected finite numbers of the "
                "environment"
            )
    successes = sum(episode.success for episode in episodes)
    rewards = np.array([episode.total_reward for episode in episodes], dtype=np.float64)
    decisions = sum(episode.steps for episode in episodes)
    success_low, success_high = wilson(successes, len(episodes))
    reward_low, reward_high = bootstrap_mean(rewards, seed)
    return ResultRow(
        agent=agent,
        env=env,
        split=split,
        episodes=len(episodes),
        seed=seed,
        success=successes / len(episodes),
        success_low=success_low,
        success_high=success_high,
        reward=float(rewards.mean()),
        reward_low=reward_low,
        reward_high=reward_high,
        invalid_action_rate=sum(episode.invalid_actions for episode in episodes) / max(decisions, 1),
        steps=decisions / len(episodes),
        model_calls=sum(episode.model_calls for episode in episodes) / max(decisions, 1),
        seconds_per_decision=seconds / max(decisions, 1),
        figures=_means(episodes, seed),
        failures=dict(Counter(kind for episode in episodes if (kind := failure_kind(episode)))),
    )


FAILURES: Final = ("loop", "out of steps", "wrong end")


def failure_kind(episode: Episode) -> str:
    """How an episode failed, "" where it did not: ``loop``, cut off by its budget after a second half of actions that
    were all taken before; ``out of steps``, cut off without that; ``wrong end``, ended by the rules, as by a wrong
    purchase or answer."""
    if episode.success:
        return ""
    if not episode.truncated:
        return "wrong end"
    actions = [turn.text for turn in episode.transcript if turn.is_agent]
    half = (len(actions) + 1) // 2
    return "loop" if len(actions) > 1 and set(actions[half:]) <= set(actions[:half]) else "out of steps"


def _means(episodes: Sequence[Episode], seed: int) -> dict[str, Any]:
    """The mean of each of the episodes' further figures, with its bootstrap interval."""
    found = {}
    for name in dict.fromkeys(name for episode in episodes for name in episode.figures):
        values = np.array([episode.figures[name] for episode in episodes if name in episode.figures])
        low, high = bootstrap_mean(values, seed)
        found[name] = {"mean": float(values.mean()), "low": low, "high": high, "episodes": len(values)}
    return found


def wilson(successes: int, episodes: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share (Wilson, 1927), without continuity correction."""
    interval = stats.binomtest(successes, episodes).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_mean(values: np.ndarray, seed: int, resamples: int = 2000) -> tuple[float, float]:
    """Percentile bootstrap 95 % interval of the mean of ``values`` (float ``[n]``), drawn from ``seed``."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(resamples, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """``difference`` of success (first less second) with its 95 % interval, and the two-sided exact McNemar ``p``."""

    difference: float
    low: float
    high: float
    p: float


def paired_difference(first: Sequence[bool], second: Sequence[bool], seed: int = 0) -> PairedDifference:
    """Compare two agents on the same tasks, in the same order; successes as booleans ``[n]``."""
    if len(first) != len(second) or not len(first):
        raise ValueError(
            f"{len(first)} against {len(second)} episodes: paired figures need the same tasks in one order"
        )
    gaps = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    wins, losses = int((gaps > 0).sum()), int((gaps < 0).sum())
    p = float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    low, high = bootstrap_mean(gaps, seed)
    return PairedDifference(float(gaps.mean()), low, high, p)


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean of ``values`` (float ``[n]``, one a seed) and its 95 % t-interval; of one value there is none (NaN)."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def paired_p(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Two-sided p of the paired t-test; 1 where all are equal or there is one pair alone, 0 where all differ alike."""
    gaps = first - second
    if len(gaps) < 2 or np.ptp(gaps) < 1e-9:
        return 0.0 if len(gaps) > 1 and abs(gaps.mean()) > 1e-9 else 1.0
    return float(stats.ttest_1samp(gaps, 0.0).pvalue)
