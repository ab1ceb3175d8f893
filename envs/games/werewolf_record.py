"""The state of a game of Werewolf, which part of it a player knows, and how that reads.

A state is the roles and a log of events; everything a player may know is the events that :func:`visible_events` lets
through, told line by line by :func:`told` and in numbers by :func:`numbers`. Two kinds of events are hidden: what is
done at night (from all but the doer; the werewolves see each other's), and votes until the last one is cast.

What it does not do: decide what may happen; that is ``werewolf.py``.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .werewolf_speech import ROLES, SILENCE, Speech

NIGHT_ACTS: Final = {"w": "kill", "s": "check", "d": "save"}
PHASES: Final = ("night", "day", "vote", "tie", "over")
NOBODY: Final = -1
MAX_INVALID: Final = 3
VILLAGE: Final = "village"
WEREWOLVES: Final = "werewolves"
_ROLE_NUMBERS: Final = {name: number for number, name in enumerate(ROLES.values())}
_PRIVATE: Final = frozenset(NIGHT_ACTS.values())
_PUBLIC: Final = frozenset({"dawn", "speech", "out", "vote"})


class Event(NamedTuple):
    """``kind``: ``kill``, ``check`` (``wolf``: what the seer saw), ``save``, ``dawn`` (``target`` is whom the night
    killed, or NOBODY), ``speech``, ``vote`` (for whom, or NOBODY), ``out`` (who was voted out, or NOBODY)."""

    kind: str
    actor: int = NOBODY
    target: int = NOBODY
    speech: Speech = SILENCE
    wolf: bool = False


class WerewolfState(NamedTuple):
    """``roles`` is a letter a player (``w``, ``s``, ``d``, ``v``); ``alive`` a bit a player; ``day`` counts nights
    begun; ``phase`` is ``night``, ``day``, ``vote``, ``tie`` or ``over``; ``queue`` holds the players who are still to
    act in it; ``winner`` a team or empty; ``invalid`` counts the invalid texts in a row that led here, ``MAX_INVALID``
    where they cost the mover the choice, one more where they lost the game; ``forfeits``, a bit a player, who ever lost
    a choice so."""

    roles: str
    alive: int
    day: int
    phase: str
    queue: tuple[int, ...]
    log: tuple[Event, ...] = ()
    winner: str = ""
    invalid: int = 0
    forfeits: int = 0


class View(NamedTuple):
    """What a player knows, for agents: its seat and role letter, the letters that were dealt (sorted), the pack (empty
    but for werewolves), the living, and the events that it has seen."""

    player: int
    role: str
    cast: str
    pack: frozenset[int]
    living: tuple[int, ...]
    day: int
    phase: str
    events: tuple[Event, ...]


def players_in(mask: int) -> tuple[int, ...]:
    """The seats whose bits are set, in order."""
    return _SEATS[mask]


_SEATS: Final = tuple(tuple(seat for seat in range(10) if mask >> seat & 1) for mask in range(1 << 10))


def view_of(state: WerewolfState, player: int) -> View:
    role = state.roles[player]
    return View(
        player,
        role,
        "".join(sorted(state.roles)),
        frozenset(pack(state.roles)) if role == "w" else frozenset(),
        players_in(state.alive),
        state.day,
        state.phase,
        tuple(visible_events(state, player)),
    )


def pack(roles: str) -> tuple[int, ...]:
    return tuple(seat for seat, role in enumerate(roles) if role == "w")


def last_actor(state: WerewolfState) -> int:
    """Who moved last; NOBODY at the start."""
    return next((event.actor for event in reversed(state.log) if event.actor != NOBODY), NOBODY)


@lru_cache(maxsize=65536)
def night_order(roles: str, alive: int) -> tuple[int, ...]:
    """Who acts at night: the werewolves by seat, then the seer, then the doctor."""
    return tuple(seat for role in "wsd" for seat in players_in(alive) if roles[seat] == role)


def public_view(view: View) -> View:
    """What everybody knows of what ``view`` knows: as of the player NOBODY, who has no role."""
    events = tuple(event for event in view.events if event.kind in _PUBLIC)
    return view._replace(player=NOBODY, role="", pack=frozenset(), events=events)


def open_votes(state: WerewolfState) -> int:
    """How many votes at the end of the log are still hidden."""
    if state.phase != "vote":
        return 0
    count = 0
    while state.log[-1 - count].kind == "vote":
        count += 1
    return count


def visible_events(state: WerewolfState, player: int) -> Iterable[Event]:
    """The events that ``player`` knows of, in order."""
    wolf = state.roles[player] == "w"
    revealed = len(state.log) - open_votes(state)
    for number, event in enumerate(state.log):
        secret = event.kind in _PRIVATE or number >= revealed
        if not secret or event.actor == player or (wolf and event.kind == "kill"):
            yield event


def team(role: str) -> str:
    return WEREWOLVES if role == "w" else VILLAGE


def told(state: WerewolfState, player: int) -> str:
    """All that ``player`` knows, as text; the last line says what happens now."""
    lines = [_head(state.roles, player), "Night 1."]
    votes: list[Event] = []
    days = 0
    for event in visible_events(state, player):
        if event.kind == "vote":
            votes.append(event)
            continue
        if votes and event.kind == "out":
            lines.append(_votes_line(tuple(votes)))
            votes = []
        days += event.kind == "dawn"
        lines.append(_line(event, player, days))
        if event.kind == "out":
            lines.append(f"Night {days + 1}.")
    if lines[-1].startswith("Night ") and state.phase == "over":
        lines.pop()
    if votes:
        lines.append(_votes_line(tuple(votes)) if state.phase == "tie" else _line(votes[0], player, days))
    lines.append(_now(state, player))
    return "\n".join(lines)


def numbers(state: WerewolfState, player: int) -> NDArray[np.int8]:
    """What ``player`` knows as numbers, int8 ``[10 + 9n + 3n²]`` for n players, in this order: its role (4, one-hot),
    the phase (5, one-hot), the day; then a number a player: itself, the living, known werewolves (1) and known others
    (−1), who is known to be on the move, whom it named, looked at or guarded last; roles claimed ``[n, 4]``; and by
    actor and target ``[n, n]``: the last vote, the last accusation (1) or defence (−1), the last result told (1 for a
    werewolf, −1 for an innocent)."""
    count = len(state.roles)
    role = state.roles[player]
    seats = np.zeros((5, count), np.int8)
    claims = np.zeros((count, 4), np.int8)
    votes, stances, results = np.zeros((3, count, count), np.int8)
    seats[0, player] = 1
    seats[1, list(players_in(state.alive))] = 1
    seats[2, list(pack(state.roles)) if role == "w" else player] = 1 if role == "w" else -1
    if state.queue and (state.phase == "day" or state.queue[0] == player):
        seats[3, state.queue[0]] = 1
    for kind, actor, target, speech, wolf in visible_events(state, player):
        if kind == "vote":
            votes[actor] = 0
            votes[actor, target] = target != NOBODY
        elif actor == player and kind in _PRIVATE:
            seats[4] = 0
            seats[4, target] = 1
            if kind == "check":
                seats[2, target] = 1 if wolf else -1
        for act in speech.acts:
            if act.kind == "claim":
                claims[actor, _ROLE_NUMBERS[act.word]] = 1
            elif act.kind == "result":
                results[actor, act.player] = 1 if act.word == "werewolf" else -1
            else:
                stances[actor, act.player] = 1 if act.kind == "accuse" else -1
    head = np.array([*(letter == role for letter in ROLES), *(name == state.phase for name in PHASES), state.day])
    parts = (head, seats, claims, votes, stances, results)
    return np.concatenate([part.ravel() for part in parts]).astype(np.int8)


@lru_cache(maxsize=4096)
def _head(roles: str, player: int) -> str:
    counted = [(roles.count(letter), name) for letter, name in ROLES.items() if letter in roles]
    plural = [f"{n} {name if n == 1 else 'werewolves' if name == 'werewolf' else name + 's'}" for n, name in counted]
    companions = [seat for seat in pack(roles) if seat != player] if roles[player] == "w" else []
    beside = f" The other werewolves: {_list(companions)}." if companions else ""
    return (
        f"Werewolf. {len(roles)} players: {', '.join(plural)}. "
        f"You are player {player}, a {ROLES[roles[player]]}.{beside}"
    )


def _list(players: Iterable[int]) -> str:
    return ", ".join(map(str, players))


@lru_cache(maxsize=65536)
def _line(event: Event, player: int, day: int) -> str:
    kind, actor, target, speech, wolf = event
    you = actor == player
    if kind == "speech":
        return f"{'You' if you else f'Player {actor}'}: {speech.text}"
    if kind == "dawn":
        killed = "Nobody" if target == NOBODY else "You" if target == player else f"Player {target}"
        return f"Day {day}. {killed} {'were' if target == player else 'was'} killed in the night."
    if kind == "out":
        gone = "Nobody is" if target == NOBODY else "You are" if target == player else f"Player {target} is"
        return f"{gone} voted out."
    if kind == "kill":
        return f"{'You name' if you else f'Player {actor} names'} player {target} as the victim."
    if kind == "check":
        return f"You look at player {target}: {'a werewolf' if wolf else 'not a werewolf'}."
    if kind == "save":
        return f"You guard {'yourself' if target == player else f'player {target}'}."
    return f"You vote for {'nobody' if target == NOBODY else f'player {target}'}."


@lru_cache(maxsize=16384)
def _votes_line(votes: tuple[Event, ...]) -> str:
    said = [f"{vote.actor} for {'nobody' if vote.target == NOBODY else vote.target}" for vote in votes]
    return f"Votes: {', '.join(said)}."


def _now(state: WerewolfState, player: int) -> str:
    if state.phase == "over":
        roles = ", ".join(f"{seat} {ROLES[role]}" for seat, role in enumerate(state.roles))
        if not state.winner:
            return f"The days are over, and nobody has won. Roles: {roles}."
        won = state.winner == team(state.roles[player])
        who = "The village wins" if state.winner == VILLAGE else "The werewolves win"
        put_out = f"A player was put out after {MAX_INVALID} invalid actions in a row. "
        why = put_out if state.invalid > MAX_INVALID else ""
        return f"{why}{who}. You {'win' if won else 'lose'}. Roles: {roles}."
    text = f"Alive: {_list(players_in(state.alive))}."
    mover = state.queue[0] if state.queue else NOBODY
    if not state.alive >> player & 1:
        text += " You are dead."
    if state.phase == "night":
        acts = {
            "w": "Name a victim: kill <player>.",
            "s": "Look at a player: check <player>.",
            "d": "Guard a player: save <player>.",
        }
        text += f" {acts[state.roles[player]]}" if mover == player else " It is night."
    elif state.phase == "day":
        text += " You are to speak." if mover == player else f" Player {mover} is to speak."
    elif state.phase == "vote":
        text += " Vote: vote <player>, or vote nobody." if mover == player else " The village votes."
    else:
        text += " The vote is tied: the lot decides."
    return text + _complaint(state, player)


def _complaint(state: WerewolfState, player: int) -> str:
    if state.invalid == MAX_INVALID:
        if last_actor(state) == player:
            return f" That was your {MAX_INVALID}rd invalid action in a row: a move was made for you."
    elif state.invalid and state.queue and state.queue[0] == player:
        return " Invalid action: that cannot be done here."
    return ""
