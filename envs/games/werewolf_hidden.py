"""What a player of Werewolf can infer for sure about the roles, and what it does not know, drawn anew.

An assignment of roles fits a player's knowledge where it gives the player its role (and a werewolf its pack), the
verdicts that the seer saw, no night's victim a werewolf, a living doctor to every night without a victim, and neither
team the game before its end. :func:`redrawn` picks one uniformly; then, act by act, what the night's actors may have
done: the victim named last is the one who died, or the one whom the doctor guarded.

Drawn uniformly means: how likely the players were to act so is not weighed, nor is anything that was said. Where
several stages of a night fit, each is as likely.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from .werewolf_record import (
    MAX_INVALID,
    NIGHT_ACTS,
    NOBODY,
    Event,
    View,
    WerewolfState,
    last_actor,
    night_order,
    open_votes,
    players_in,
    view_of,
)

T = TypeVar("T")


class Deals(NamedTuple):
    """Every way to deal a cast to n players, A of them: role letters, the same as bits a player and as arrays."""

    roles: tuple[str, ...]  # [A]
    wolves: NDArray[np.int64]  # [A]
    seer: NDArray[np.int64]  # [A]
    doctor: NDArray[np.int64]  # [A]
    is_wolf: NDArray[np.float64]  # [A, n] 1 or 0: products of bools would not use BLAS
    is_seer: NDArray[np.float64]  # [A, n]


class _Knowledge(NamedTuple):
    """What limits the roles, as bits a player: known werewolves, players known to be none, the living at each night in
    which the doctor saved somebody, and the living after each death that did not end the game."""

    wolves: int
    innocent: int
    saved: tuple[int, ...]
    survived: tuple[int, ...]


def pick(choices: Sequence[T], rng: np.random.Generator) -> T:
    """One of ``choices``, each as likely."""
    return choices[int(rng.integers(len(choices)))]


@lru_cache(maxsize=64)
def deals_of(cast: str) -> Deals:
    """Every way to deal the letters of ``cast``: 420 for ``wwsdvvv``."""
    roles = tuple(_orders("".join(sorted(cast))))
    letters = np.array([list(deal) for deal in roles])
    wolves, seer, doctor = ((letters == role) @ (1 << np.arange(len(cast))) for role in "wsd")
    return Deals(roles, wolves, seer, doctor, (letters == "w").astype(np.float64), (letters == "s").astype(np.float64))


def fitting(view: View) -> NDArray[np.bool_]:
    """Of all deals of the cast, those that the player of ``view`` cannot rule out: bool ``[A]``, never all false while
    the game is on. For the player NOBODY: those that what is public leaves open."""
    deals = deals_of(view.cast)
    wolves, innocent, saved, survived = _knowledge(view)
    fits = ((deals.wolves & wolves) == wolves) & ((deals.wolves & innocent) == 0)
    if view.role in "sd" and view.player != NOBODY:
        fits &= (deals.seer if view.role == "s" else deals.doctor) == 1 << view.player
    elif view.role == "v":
        fits &= ((deals.seer | deals.doctor) & 1 << view.player) == 0
    for living in saved:
        fits &= (deals.doctor & living) != 0
    for living in survived:
        hunters = np.bitwise_count(deals.wolves & living)
        fits &= (hunters > 0) & (2 * hunters < living.bit_count())
    return fits


def redrawn(state: WerewolfState, player: int, rng: np.random.Generator) -> WerewolfState:
    """A state that ``player`` cannot tell from ``state``; the state itself at the end, when the roles are open."""
    if state.phase == "over":
        return state
    view = view_of(state, player)
    possible = np.flatnonzero(fitting(view)).tolist()
    living = state.alive
    stages: Sequence[int] = ()
    while not stages:  # the true deal has some
        roles = deals_of(view.cast).roles[pick(possible, rng)]
        stages = _stages(state, player, roles)
    closed = len(state.log) - open_votes(state)
    log: list[Event] = []
    acts: list[Event] = []
    alive = (1 << len(roles)) - 1
    for number, event in enumerate(state.log):
        if event.kind in NIGHT_ACTS.values():
            acts.append(event)
            continue
        if event.kind == "dawn":
            log += _night(acts, night_order(roles, alive), roles, alive, event.target, player, rng)
            acts = []
        if event.kind == "vote" and number >= closed and event.actor != player:
            event = event._replace(target=pick([NOBODY, *players_in(living & ~(1 << event.actor))], rng))
        log.append(event)
        if event.kind in ("dawn", "out") and event.target != NOBODY:
            alive &= ~(1 << event.target)
    queue = state.queue
    if state.phase == "night":
        order, stage = night_order(roles, alive), pick(stages, rng)
        log += _night(acts, order[:stage], roles, alive, None, player, rng)
        queue = order[stage:]
    return state._replace(
        roles=roles,
        queue=queue,
        log=tuple(log),
        invalid=_own_invalid(state, player),
        forfeits=state.forfeits & 1 << player,
    )


def _knowledge(view: View) -> _Knowledge:
    wolves = sum(1 << seat for seat in view.pack)
    everyone = (1 << len(view.cast)) - 1
    innocent = everyone & ~wolves if view.pack else 1 << view.player if view.player != NOBODY else 0
    alive = everyone
    saved: list[int] = []
    survived: list[int] = []
    guarded = NOBODY
    for event in view.events:
        if event.kind == "check":
            wolves |= event.wolf << event.target
            innocent |= (not event.wolf) << event.target
        elif event.kind == "save":
            guarded = event.target
        elif event.kind == "dawn" and event.target == NOBODY:
            saved.append(alive)
            innocent |= 1 << guarded if guarded != NOBODY else 0
        elif event.kind == "dawn":
            innocent |= 1 << event.target
        if event.kind in ("dawn", "out") and event.target != NOBODY:
            alive &= ~(1 << event.target)
            survived.append(alive)
        guarded = NOBODY if event.kind == "dawn" else guarded
    return _Knowledge(wolves, innocent, tuple(saved), tuple(survived))


def _stages(state: WerewolfState, player: int, roles: str) -> Sequence[int]:
    """How many of the night's actors may have acted, if these are the roles; one stage by day."""
    if state.phase != "night":
        return (0,)
    order = night_order(roles, state.alive)
    acted = len(night_order(state.roles, state.alive)) - len(state.queue)
    wolves = sum(roles[seat] == "w" for seat in order)
    stages: Sequence[int] = range(len(order))
    if roles[player] == "w":  # sees how many of its pack have named a victim
        stages = [acted] if acted < wolves else range(wolves, len(order))
    if player not in order:
        return stages
    turn = order.index(player)
    if state.queue[0] == player:
        return [turn]
    return [stage for stage in stages if (stage < turn if player in state.queue else stage > turn)]


def _night(
    acts: Sequence[Event],
    actors: Sequence[int],
    roles: str,
    alive: int,
    victim: int | None,
    player: int,
    rng: np.random.Generator,
) -> list[Event]:
    """What ``actors`` did in a night, in order: as ``acts`` say where ``player`` saw it, else drawn. ``victim`` is whom
    the night killed, ``None`` where it is not over."""
    seen = {act.actor: act for act in acts if act.actor == player or (act.kind == "kill" and roles[player] == "w")}
    living = players_in(alive)
    prey = [seat for seat in living if roles[seat] != "w"]
    last_wolf = max((seat for seat in actors if roles[seat] == "w"), default=NOBODY)
    doctor = next((seat for seat in actors if roles[seat] == "d"), NOBODY)
    named = victim  # by the last werewolf
    if victim == NOBODY:  # somebody was guarded, and named
        witness = seen.get(last_wolf) or seen.get(doctor)
        named = witness.target if witness else pick(prey, rng)
    drawn = []
    for actor in actors:
        role = roles[actor]
        if actor in seen:
            target = seen[actor].target
        elif role == "w":
            target = pick(prey, rng) if named is None or actor != last_wolf else named
        elif role == "s":
            target = pick([seat for seat in living if seat != actor], rng)
        elif victim == NOBODY:
            assert named is not None
            target = named
        else:
            target = pick([seat for seat in living if seat != victim], rng)
        drawn.append(Event(NIGHT_ACTS[role], actor, target, wolf=role == "s" and roles[target] == "w"))
    return drawn


def _own_invalid(state: WerewolfState, player: int) -> int:
    """Invalid texts in a row, where it was ``player`` who wrote them; nobody else is told."""
    if state.invalid == MAX_INVALID:
        return state.invalid if last_actor(state) == player else 0
    return state.invalid if state.queue[:1] == (player,) else 0


def _orders(letters: str) -> list[str]:
    """The distinct orders of sorted ``letters``."""
    if not letters:
        return [""]
    return [
        letter + rest
        for index, letter in enumerate(letters)
        if letter not in letters[:index]
        for rest in _orders(letters[:index] + letters[index + 1 :])
    ]
