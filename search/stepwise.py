"""Step rewards by roll-outs along good episodes (IPR, arXiv:2406.11176, section 3.2).

At each step of a good episode a policy acts once in the agent's place and plays on to the end; what the good action
and the policy's own led to is valued by the mean return of N roll-outs. A row holds both remainders, that of the good
episode as chosen and the policy's as rejected, with these means.

What it does not do: games of several players, and luck after the first decision.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..envs.play.agent import Agent
from ..envs.play.episode import Episode
from ..envs.play.playing import Playing, by_agents, play
from ..envs.play.task import start
from ..envs.play.transcript import Transcript
from ..envs.simulator import CHANCE, Simulator
from .extraction import Dropped, PreferencePair


@dataclass(slots=True)
class _Fork:
    """A step of a good episode at which the policy goes its own way. ``prompt`` ends with what is seen in ``state``;
    ``remainder`` are the good episode's turns from there, ``earned`` its return from there."""

    episode: Episode
    state: Any
    prompt: Transcript
    remainder: Transcript
    earned: float
    depth: int
    own: Playing


def step_rollouts(
    simulator: Simulator[Any],
    episodes: Sequence[Episode],
    agent: Agent,
    rngs: Sequence[np.random.Generator],
    rollouts: int = 5,
    *,
    return_gap: float = 0.01,
    round: int = 0,
) -> tuple[list[PreferencePair], Dropped, list[int]]:
    """Rows, what was dropped, and the model calls that each episode cost.

    ``episodes``: good ones of ``simulator``, whose actions are replayed; ``agent``: the policy, which samples; one
    generator an episode. A row's good remainder earned at least ``return_gap`` more than the policy's own; ``chosen_q``
    and ``rejected_q`` are the means. Dropped reasons, by step: ``same action``, ``no better``. Raises ``ValueError``
    for a game of several players, and for luck between two steps of a good episode, which its actions do not tell.
    """
    if simulator.players > 1:
        raise ValueError(f"step roll-outs value what one player does, and {simulator.players} play here")
    dropped: Dropped = Counter()
    forks = [
        fork
        for number, (episode, rng) in enumerate(zip(episodes, rngs, strict=True))
        for fork in _forks(simulator, episode, number, rng)
    ]
    decide = by_agents(agent)
    for _ in play([fork.own for fork in forks], decide):
        pass
    kept = []
    for fork in forks:
        if fork.own.moves[0] == fork.remainder[0].text:
            dropped["same action"] += 1
        elif fork.earned - _return(fork.own) < return_gap:
            dropped["no better"] += 1
        else:
            kept.append(fork)
    tries = [
        _after(simulator, fork, action, rng)
        for fork in kept
        for action in (fork.remainder[0].text, fork.own.moves[0])
        for rng in fork.own.rng.spawn(rollouts)
    ]
    for _ in play([playing for _, playing in tries], decide):
        pass
    returns = np.array([paid + _return(playing) for paid, playing in tries]).reshape(-1, 2, rollouts)
    rows = [
        PreferencePair(
            prompt=fork.prompt,
            chosen=fork.remainder,
            rejected=_to_last_action((fork.own.transcripts or {})[0][len(fork.prompt) :]),
            chosen_q=float(good),
            rejected_q=float(own),
            chosen_visits=rollouts,
            rejected_visits=rollouts,
            env_id=str(fork.episode.task.get("env_id", "")),
            task=fork.episode.task,
            tree=fork.own.number,
            depth=fork.depth,
            round=round,
            kind="step_rollout",
        )
        for fork, (good, own) in zip(kept, returns.mean(axis=2), strict=True)
    ]
    calls = [0] * len(episodes)
    for playing in (*(fork.own for fork in forks), *(playing for _, playing in tries)):
        calls[playing.number] += playing.calls[0]
    return rows, dropped, calls


def _forks(simulator: Simulator[Any], episode: Episode, number: int, rng: np.random.Generator) -> list[_Fork]:
    turns, steps = _to_last_action(episode.transcript), replayed(simulator, episode)
    return [
        _Fork(
            episode, state, turns[:place], turns[place:], sum(paid for *_, paid in steps[depth:]), depth,
            Playing(simulator, state, own, turns[:place], number),
        )
        for depth, ((place, state, _), own) in enumerate(zip(steps, rng.spawn(len(steps)), strict=True))
    ]  # fmt: skip


def replayed(simulator: Simulator[Any], episode: Episode) -> list[tuple[int, Any, float]]:
    """The steps of an episode of one player, played again: the place of each action in the transcript, the state in
    which it was taken, and what it paid. Luck after the last action, such as that of a noisy verdict, is not drawn
    anew: the action paid what the episode says. Raises ``ValueError`` for luck between two actions, which no action
    tells."""
    state, steps = start(simulator, episode.task).state, []
    places = [place for place, turn in enumerate(episode.transcript) if turn.is_agent]
    for place in places:
        before, state = state, simulator.step(state, episode.transcript[place].text)
        has_luck = simulator.current_player(state) == CHANCE
        if has_luck and place != places[-1]:
            raise ValueError(
                f"step roll-outs replay an episode's actions, and {type(simulator).__name__} has luck between"
            )
        steps.append((place, before, episode.rewards[-1] if has_luck else simulator.rewards(state)[0]))
    return steps


def _after(simulator: Simulator[Any], fork: _Fork, action: str, rng: np.random.Generator) -> tuple[float, Playing]:
    """What an action at the fork paid, and the play after it."""
    one = Playing(simulator, fork.state, rng, fork.prompt)
    one.step(action)
    return _return(one), Playing(simulator, one.state, rng, one.transcripts[0], fork.own.number)  # type: ignore[index]


def _return(playing: Playing) -> float:
    return sum(earned[0] for earned in playing.rewards)


def _to_last_action(turns: Transcript) -> Transcript:
    last = max(place for place, turn in enumerate(turns) if turn.is_agent)
    return turns[: last + 1]
