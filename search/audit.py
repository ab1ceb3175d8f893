"""How right the labels of preference pairs are: the state of a pair is restored, both sides are played out many times,
and the mean returns say which of them was better.

    ΔQ = 1/M Σ R(chosen) − 1/M Σ R(rejected)

A label is right where ΔQ > 0, tied where ΔQ = 0, wrong where ΔQ < 0: with few roll-outs sides that are worth the same
seldom tie, and are called right and wrong by luck. A label is clearly right or wrong where ΔQ is more than two of its
standard errors from 0,

    error = (M + 2) / M · √((s'²_chosen + s'²_rejected) / (M + 2)),

with the smallest and the largest return of all added to the returns of each side in s'² (for returns of 0 and 1:
Agresti and Caffo, The American Statistician, 2000). Of pairs whose sides are worth the same about one in twenty is
called clear by luck.

M roll-outs a side measure Q^π of the policy π that rolls: the label's own claim where it is the policy that searched.
``exact`` asks a simulator that offers ``optimal_values`` (``envs.abilities``) for Q* instead, what the actions are
worth where all play on as well as can be: what the labels of a search of a game converge to.

A state is what its task and the moves until there make of it (``PreferencePair.moves``, else the prompt's actions), so
a pair can be restored from its file alone. Luck that the moves do not tell is drawn until what is seen equals the
prompt. Where something is hidden, or luck is fixed by the state, each roll-out draws anew what the player to move
cannot know (``Simulator.resample``). Of other players the roll-outs remember what they see from the pair's state on.

What it does not do: sides of several actions in games of several players; anchors, which compare nothing.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from ..envs.abilities import hides
from ..envs.checked import LARGEST, checked_outcome, checked_player
from ..envs.play.agent import Agent
from ..envs.play.playing import Playing, by_agents, play
from ..envs.play.task import first_state
from ..envs.play.transcript import Transcript, known, said
from ..envs.simulator import CHANCE, TERMINAL, Simulator
from .extraction import PreferencePair

CLEAR: Final = 2.0
"""Beyond so many standard errors a difference is clear."""
USUAL_ROLLS: Final = 32
_DRAWS: Final = 200
"""Of luck that the moves do not tell."""
MOST_SCALE: Final = 1e6
_ROUNDING: Final = 1e-9
_SOLVED_TO: Final = 0.02
"""Solvers' values are equal where they differ by less."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a pair's sides are worth to who moves: mean returns from the pair's state on, ``error`` the standard error
    of their difference, from ``rolls`` roll-outs a side (0: computed, and exact), which cost ``model_calls``."""

    chosen_q: float
    rejected_q: float
    error: float
    rolls: int
    model_calls: int = 0

    @property
    def gap(self) -> float:
        """ΔQ; 0 where it is rounding alone, or within what a solver is right to."""
        gap = self.chosen_q - self.rejected_q
        return gap if abs(gap) > (_ROUNDING if self.rolls else _SOLVED_TO) else 0.0

    @property
    def is_clear(self) -> bool:
        """Whether the difference is more than roll-outs differ by luck."""
        return abs(self.gap) > CLEAR * self.error


def audited(
    pairs: Sequence[PreferencePair],
    simulator: Simulator[Any],
    agent: Agent,
    rngs: Sequence[np.random.Generator],
    rolls: int = USUAL_ROLLS,
    actions: int | None = None,
    exact: bool = False,
) -> list[Verdict | str]:
    """A verdict for each of the ``pairs`` of ``simulator``, one generator each, or why there is none.

    ``agent`` plays all seats of ``rolls`` roll-outs a side. Of each side the first ``actions`` are played (``None``:
    all) before ``agent`` decides. All roll-outs are one lock-step. ``exact``: pairs of single actions are judged by the
    simulator's solver where it has one.

    Reasons: ``anchor``, ``equal sides``, ``no such task``, ``not restored`` (what is seen after the moves is not what
    the prompt says), ``one future`` (luck is fixed by the state, and the simulator cannot draw it anew), ``several
    actions`` (of one of several players)."""
    solve = getattr(simulator, "optimal_values", None) if exact else None
    if rolls < 1 or (actions is not None and actions < 1):
        raise ValueError(f"rolls={rolls}, actions={actions}; expected at least 1 roll-out a side, of at least 1 action")
    found: list[Verdict | str | _Tries] = []
    for pair, rng in zip(pairs, rngs, strict=True):
        sides = [[turn.text for turn in side if turn.is_agent][:actions] for side in (pair.chosen, pair.rejected)]
        if not pair.rejected:
            found.append("anchor")
        elif sides[0] == sides[1]:
            found.append("equal sides")
        else:
            found.append(_begun(simulator, pair, sides, solve, rolls, rng))
    waiting = [each for each in found if isinstance(each, _Tries)]
    for _ in play([playing for tries in waiting for playing in tries.playings], by_agents(agent)):
        pass
    return [_verdict(each, rolls) if isinstance(each, _Tries) else each for each in found]


@dataclass(frozen=True, slots=True)
class _Tries:
    """Roll-outs under way: those of the chosen side, then as many of the rejected one."""

    player: int
    playings: list[Playing]


def _begun(
    simulator: Simulator[Any], pair: PreferencePair, sides: Sequence[Sequence[str]],
    solve: Callable[[Any], Mapping[str, float]] | None, rolls: int, rng: np.random.Generator,
) -> Verdict | str | _Tries:  # fmt: skip
    """The roll-outs of both sides after their actions, or what needs none."""
    try:
        state = restored(simulator, pair, rng)
    except _NoSuchTask:
        return "no such task"
    if state is None:
        return "not restored"
    longest = max(map(len, sides))
    if solve is not None and longest == 1:
        values = solve(state)
        good, bad = (values.get(side[0]) for side in sides)
        if good is not None and bad is not None:
            return Verdict(good, bad, 0.0, 0)
    if simulator.players > 1 and longest > 1:
        return "several actions"
    playings = [_after(simulator, state, pair.prompt, side, own) for side in sides for own in rng.spawn(rolls)]
    repeats = getattr(simulator, "foreknowledge", False) and not hides(simulator)
    if repeats and not all(playing.over for playing in playings):
        return "one future"
    return _Tries(simulator.current_player(state), playings)


def _verdict(tries: _Tries, rolls: int) -> Verdict:
    returns = np.array([sum(earned[tries.player] for earned in each.rewards) for each in tries.playings])
    sides = returns.reshape(2, rolls)
    ends = np.array([[returns.min(), returns.max()]] * 2)
    spread = float(np.concatenate([sides, ends], axis=1).var(axis=1).sum())
    good, bad = sides.mean(axis=1).tolist()
    calls = sum(sum(each.calls) for each in tries.playings)
    return Verdict(good, bad, math.sqrt(spread * (rolls + 2)) / rolls, rolls, calls)


def restored(simulator: Simulator[Any], pair: PreferencePair, rng: np.random.Generator) -> Any:
    """The state in which the pair's sides begin; None where none is found in which its player sees what the prompt
    ends with. ``rng`` draws the luck that the moves do not tell, and what the player cannot see."""
    moves = pair.moves or [turn.text for turn in pair.prompt if turn.is_agent]
    drawing = hides(simulator)
    for draw in range(_DRAWS):
        viewer = (draw - 1) % simulator.players if draw and drawing else None
        state, drew = _replayed(simulator, pair.task, moves, rng, viewer)
        if state is not None and _is_seen(simulator, state, pair.prompt):
            return state
        if not drew and not drawing:
            return None
    return None


def relabelled(pair: PreferencePair, verdict: Verdict, weighted: bool = False) -> PreferencePair:
    """The pair with what was measured: values and visits are those of the roll-outs, the better side is the chosen one,
    and a margin changes as the difference of values does; so does the weight of a ``weighted`` pair."""
    gap = pair.chosen_q - pair.rejected_q
    scale = min(abs(verdict.gap) / gap, MOST_SCALE) if gap > _ROUNDING else 1.0
    found = replace(
        pair,
        chosen_q=verdict.chosen_q,
        rejected_q=verdict.rejected_q,
        chosen_visits=verdict.rolls,
        rejected_visits=verdict.rolls,
        margin=_held(pair.margin * scale),
        weight=_held(pair.weight * scale) if weighted else pair.weight,
    )
    return swapped(found) if verdict.gap < 0 else found


def _held(value: float) -> float:
    """``value``, of a size that 32 bits hold."""
    return max(min(value, LARGEST), -LARGEST)


def swapped(pair: PreferencePair) -> PreferencePair:
    """The pair with its sides exchanged."""
    return replace(
        pair,
        chosen=pair.rejected,
        rejected=pair.chosen,
        chosen_q=pair.rejected_q,
        rejected_q=pair.chosen_q,
        chosen_visits=pair.rejected_visits,
        rejected_visits=pair.chosen_visits,
        ref_chosen_logp=pair.ref_rejected_logp,
        ref_rejected_logp=pair.ref_chosen_logp,
    )


class _NoSuchTask(ValueError):  # noqa: N818
    pass


def _replayed(
    simulator: Simulator[Any], task: Mapping[str, Any], moves: Sequence[str], rng: np.random.Generator,
    viewer: int | None,
) -> tuple[Any, bool]:  # fmt: skip
    """The state after the task's first decision and ``moves``, and whether luck was drawn on the way; None for a state
    where the episode is over before the last move. At the first decision what ``viewer`` cannot see is drawn anew: an
    information set may be reached where other cards are hidden than the task has dealt."""
    try:
        state = first_state(simulator, task)
    except Exception as error:
        raise _NoSuchTask(str(error)) from error
    if viewer is not None:
        state = simulator.resample(state, viewer, rng)
    drew = False
    for move in (*moves, None):
        while checked_player(simulator, state) == CHANCE and move not in dict(simulator.chance_outcomes(state)):
            state, drew = simulator.step(state, checked_outcome(simulator, state, rng)), True
        if move is None:
            break
        if checked_player(simulator, state) == TERMINAL:
            return None, drew
        state = simulator.step(state, move)
    return (None if checked_player(simulator, state) == TERMINAL else state), drew


def _is_seen(simulator: Simulator[Any], state: Any, prompt: Transcript) -> bool:
    """Whether who is to move sees what the prompt ends with: the observation, or in a search of hidden information all
    that the player knows."""
    if not prompt or prompt[-1].is_agent:
        return False
    player = simulator.current_player(state)
    if prompt[-1].text == said(simulator, state, player):
        return True
    return hides(simulator) and prompt[-1].text == known(simulator, state, player)


def _after(
    simulator: Simulator[Any], state: Any, prompt: Transcript, actions: Sequence[str], rng: np.random.Generator
) -> Playing:
    """An episode in which the player to move took ``actions``."""
    if hides(simulator):
        state = simulator.resample(state, simulator.current_player(state), rng)
    playing = Playing(simulator, state, rng, prompt)
    for action in actions:
        if not playing.over:
            playing.step(action)
    return playing
