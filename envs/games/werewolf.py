"""Werewolf: two werewolves among seven players, who talk by day and vote; the environment of LSPO (Xu et al., 2025).

The rules are here; what is said in ``werewolf_speech``, what a player knows in ``werewolf_record``, the redrawing of
what it does not know in ``werewolf_hidden``, scripted players in ``werewolf_agents``.

What it does not do: other special roles (witch, hunter), last words, private talk of the werewolves beyond the victims
that they name.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..arguments import checked_options
from ..forfeits import has_forfeited
from ..simulator import CHANCE, TERMINAL, Simulator
from .werewolf_hidden import redrawn
from .werewolf_record import (
    MAX_INVALID,
    NIGHT_ACTS,
    NOBODY,
    VILLAGE,
    WEREWOLVES,
    Event,
    View,
    WerewolfState,
    night_order,
    numbers,
    pack,
    players_in,
    team,
    told,
    view_of,
)
from .werewolf_speech import SILENCE, Speech, acts_of, parse_speech
from .wording import command

DISCUSSIONS: Final = ("acts", "free")


class Werewolf(Simulator[WerewolfState]):
    """
    ## Description

    Seven players: two werewolves, who know each other, a seer, a doctor, three villagers. Every night the werewolves
    kill; every day all talk and vote somebody out. The village wins when the werewolves are out, the werewolves when
    they are as many as the others. Roles are not told when a player dies. The game of LSPO, for agents that reason
    about what others know and say.

    **Night.** The living werewolves name a victim in order of their seats, each reading what those before it named;
    the last one decides. The seer looks at a player and learns at once whether that is a werewolf. The doctor guards a
    player, itself or another, not knowing the victim; a guarded victim lives. Nobody sees the others' acts.

    **Day.** Who died is announced. The living speak once each (`speeches`), in order of their seats; day *k* begins at
    seat *k* − 1. Then all vote at once, for another living player or for nobody. Whoever has most votes is out; among
    several with as many the lot decides; if nobody is voted for, nobody goes.

    ## Action Space

    Text. Case and blanks do not matter; players are numbered from 0.

    | Action | When |
    |---|---|
    | `kill 3` | at night, a werewolf: a living player outside the pack |
    | `check 3` | at night, the seer: another living player |
    | `save 3` | at night, the doctor: a living player |
    | `vote 3`, `vote nobody` | at the vote: another living player |
    | `claim seer` (`doctor`, `villager`, `werewolf`) | discussion |
    | `accuse 3`, `defend 3` | discussion, of another living player |
    | `result 3 werewolf`, `result 3 innocent` | discussion: what the speaker says to have seen |
    | `silent` | discussion |

    With `discussion="acts"` a speech is one of these. With `discussion="free"` it is any text, and `legal_actions` is
    `None`: up to four acts separated by `;`, then words after a colon if wanted (`claim seer; result 3 werewolf: trust
    me`), or words alone (`say: …`, or anything else). Whoever speaks may lie.

    Anything that cannot be done leaves the state with the same player, who is told so; the third invalid text in a row
    is played as the first legal action (`vote nobody`, `silent`, at night the first player that may be named).

    ## Observation Space

    Text: the players and the own role; then, line by line, all that the player has seen since the first night; last,
    who lives and what is to be done. Words of others stand in quotation marks on the line of their speaker, cut to
    `max_words` characters, without control characters. They are the words of opponents, not of the game.

    ## Rewards

    At the end +1 for every player of the team that won, dead or alive, and −1 for the others.

    ## Starting State

    The first night. The seed shuffles the roles; `reset(options={"roles": "wwsdvvv"})` gives them, a letter a player.

    ## Episode End

    When a team has won; truncated, without rewards, after the vote of day `max_days`.

    ## Information

    - `success`: the team of player 0 (in a single-player view: of the viewed player) won, and no move had
      to be made for that player
    - `invalid_action`: whether the last action was none
    - `day`, `phase` (`night`, `day`, `vote`, `tie`, `over`), `alive`: as everybody knows them
    - `winner`: `village`, `werewolves` or `None`
    - `roles`, at the end

    ## Arguments

    | Argument | Default | Meaning |
    |---|---|---|
    | `discussion` | `"acts"` | `"acts"` or `"free"` |
    | `roles` | `"wwsdvvv"` | who plays, a letter a player: werewolf, seer, doctor, villager; 4 to 9 players |
    | `speeches` | `1` | how often each player speaks in a day |
    | `max_days` | `7` | days before the game is cut off |
    | `max_words` | `300` | longest quotation of a player's words, in characters |
    | `invalid_loses` | `False` | the third invalid text in a row loses the game for the player's team |

    >>> game = Werewolf(discussion="free")
    >>> state = game.reset(seed=0, options={"roles": "wsvdwvv"})
    >>> for action in ("kill 2", "kill 2", "check 4", "save 3", "defend 4", "result 4 werewolf: he is one!"):
    ...     state = game.step(state, action)
    >>> print(game.observation(state, player=3))
    Werewolf. 7 players: 2 werewolves, 1 seer, 1 doctor, 3 villagers. You are player 3, a doctor.
    Night 1.
    You guard yourself.
    Day 1. Player 2 was killed in the night.
    Player 0: defend 4
    Player 1: result 4 werewolf: "he is one!"
    Alive: 0, 1, 3, 4, 5, 6. You are to speak.

    ## Opponents

    `random` acts uniformly; `simple` has habits; `deductive` weighs every deal of the roles by what was said and voted
    (`werewolf_agents`). How often the village wins, by who plays it (rows) and who plays the werewolves, 2,000 games
    each (seeds 0 to 1,999, 95 % within ±0.022):

    | | `random` | `simple` | `deductive` |
    |---|---|---|---|
    | `random` | 0.126 | 0.070 | 0.037 |
    | `simple` | 0.224 | 0.232 | 0.078 |
    | `deductive` | 0.711 | 0.639 | 0.406 |

    ## Version History

    - v0: first version

    ## Sources

    Setting of Xu et al., "Learning strategic language agents in the Werewolf game with iterative latent space policy
    optimization" (arXiv:2502.04686): seven players, these roles, free discussion. How the pack agrees, ties, the order
    of speech and rewards are laid down here.
    """

    hides = True

    def __init__(
        self,
        discussion: str = "acts",
        roles: str = "wwsdvvv",
        speeches: int = 1,
        max_days: int = 7,
        max_words: int = 300,
        invalid_loses: bool = False,
    ) -> None:
        if discussion not in DISCUSSIONS:
            raise ValueError(f"discussion={discussion!r}: expected 'acts' or 'free'.")
        _check_roles(roles)
        for name, value, highest in (
            ("speeches", speeches, 9),
            ("max_days", max_days, 99),
            ("max_words", max_words, 4_000),
        ):
            if not isinstance(value, int) or not 1 <= value <= highest:
                raise ValueError(f"{name}={value!r}: expected a whole number from 1 to {highest}.")
        self.discussion, self.roles = discussion, "".join(sorted(roles, key="wsdv".index))
        self.speeches, self.max_days, self.max_words = speeches, max_days, max_words
        self.players, self.invalid_loses = len(roles), invalid_loses
        self._acts = acts_of(self.players)

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> WerewolfState:
        """The first night; the seed shuffles the roles, or ``options["roles"]`` gives them, a letter a player."""
        given = checked_options(self, options, "roles").get("roles")
        if given is not None and sorted(str(given)) != sorted(self.roles):
            raise ValueError(f"options['roles']={given!r}: expected the letters {self.roles!r} in some order.")
        roles = str(given or "".join(np.random.default_rng(seed).permutation(list(self.roles))))
        alive = (1 << self.players) - 1
        return WerewolfState(roles, alive, 1, "night", night_order(roles, alive))

    def current_player(self, state: WerewolfState) -> int:
        if state.queue:
            return state.queue[0]
        return CHANCE if state.phase == "tie" else TERMINAL

    def observation(self, state: WerewolfState, player: int = 0) -> str:
        return told(state, player)

    def view(self, state: WerewolfState, player: int) -> View:
        """What ``player`` knows, in parts: the observation for scripted agents."""
        return view_of(state, player)

    def legal_actions(self, state: WerewolfState) -> Sequence[str] | None:
        if not state.queue:
            return ()
        if state.phase == "day" and self.discussion == "free":
            return None
        return self.suggested_actions(state)

    def suggested_actions(self, state: WerewolfState) -> Sequence[str]:
        """The legal actions; in a free discussion the speech acts, one each."""
        if not state.queue:
            return ()
        actor, alive = state.queue[0], state.alive
        if state.phase == "vote":
            return _named("vote", alive & ~(1 << actor), "vote nobody")
        if state.phase == "day":
            return _speeches(self.players, alive, actor)
        role = state.roles[actor]
        targets = {"w": alive & ~_mask(pack(state.roles)), "s": alive & ~(1 << actor), "d": alive}[role]
        return _named(NIGHT_ACTS[role], targets)

    def admissible_commands(self, state: WerewolfState) -> list[str]:
        free = state.phase == "day" and self.discussion == "free"
        return [*self.suggested_actions(state), *(["say: …"] if free else [])]

    def all_actions(self) -> Sequence[str]:
        """Everything that can be legal in a discussion by acts, or suggested in a free one."""
        everyone = (1 << self.players) - 1
        named = [text for verb in (*NIGHT_ACTS.values(), "vote") for text in _named(verb, everyone)]
        return (*named, "vote nobody", "silent", *self._acts)

    def simultaneous_players(self, state: WerewolfState) -> Sequence[int]:
        """All who vote; at night the last werewolf, the seer and the doctor; else the player to move."""
        queue = state.queue
        if state.phase == "vote":
            return queue
        wolves = sum(state.roles[seat] == "w" for seat in queue)
        return queue if state.phase == "night" and wolves < 2 else queue[:1]

    def array(self, state: WerewolfState, player: int) -> NDArray[np.int8]:
        """What ``player`` knows in numbers, int8 ``[10 + 9n + 3n²]`` for n players (``werewolf_record.numbers``)."""
        return numbers(state, player)

    def chance_outcomes(self, state: WerewolfState) -> Sequence[tuple[str, float]]:
        """The players with the most votes, each as likely."""
        tied = _most_voted(state)
        return tuple((str(player), 1 / len(tied)) for player in tied)

    def step(self, state: WerewolfState, action: str) -> WerewolfState:
        if state.phase == "tie":
            outcomes = {str(player): player for player in _most_voted(state)}
            if action not in outcomes:
                return state._replace(invalid=1)
            return self._voted_out(state._replace(invalid=0), outcomes[action])
        if state.phase == "over":
            return state
        event, strikes = self._event(state, action), 0
        if event is None:
            strikes = state.invalid % MAX_INVALID + 1
            if strikes < MAX_INVALID:
                return state._replace(invalid=strikes)
            actor = state.queue[0]
            state = state._replace(forfeits=state.forfeits | 1 << actor)
            if self.invalid_loses:
                winner = VILLAGE if team(state.roles[actor]) == WEREWOLVES else WEREWOLVES
                return state._replace(phase="over", queue=(), winner=winner, invalid=MAX_INVALID + 1)
            event = self._event(state, self.suggested_actions(state)[0])
            assert event is not None
        after = state._replace(queue=state.queue[1:], log=(*state.log, event), invalid=strikes)
        if after.queue:
            return after
        return {"night": self._dawn, "day": self._poll, "vote": self._count}[state.phase](after)

    def rewards(self, state: WerewolfState) -> tuple[float, ...]:
        """At the end +1 for every player of the team that won, dead or alive, −1 for the others; zeros where nobody
        did, and before."""
        if not state.winner:
            return (0.0,) * self.players
        return tuple(1.0 if team(role) == state.winner else -1.0 for role in state.roles)

    def truncated(self, state: WerewolfState) -> bool:
        return state.phase == "over" and not state.winner

    def success(self, state: WerewolfState, player: int) -> bool:
        """Whether the team of ``player`` won, and no move had to be made for it."""
        return state.winner == team(state.roles[player]) and not has_forfeited(state.forfeits, player)

    def info(self, state: WerewolfState) -> dict[str, Any]:
        info = {
            "success": self.success(state, 0),
            "invalid_action": state.invalid > 0,
            "day": state.day,
            "phase": state.phase,
            "alive": list(players_in(state.alive)),
            "winner": state.winner or None,
        }
        if state.phase == "over":
            info["roles"] = state.roles
        return info

    def position(self, state: WerewolfState) -> WerewolfState:
        return state._replace(invalid=0)

    def resample(self, state: WerewolfState, player: int, rng: np.random.Generator) -> WerewolfState:
        """Roles drawn uniformly from the assignments that ``player`` cannot rule out, then nights and open votes that
        fit them, uniformly act by act."""
        return redrawn(state, player, rng)

    def _event(self, state: WerewolfState, action: str) -> Event | None:
        """What ``action`` does; ``None`` where it cannot be done."""
        actor = state.queue[0]
        if state.phase == "day":
            speech = self._speech(state, action)
            return None if speech is None else Event("speech", actor, NOBODY, speech)
        text = _meant(action, self.suggested_actions(state))
        if text is None:
            return None
        verb, _, name = text.partition(" ")
        target = NOBODY if name == "nobody" else int(name)
        return Event(verb, actor, target, wolf=verb == "check" and state.roles[target] == "w")

    def _speech(self, state: WerewolfState, action: str) -> Speech | None:
        sayable = self.suggested_actions(state)
        if self.discussion == "free":
            return parse_speech(action, sayable, self._acts, self.max_words)
        text = _meant(action, sayable)
        if text is None:
            return None
        return SILENCE if text == "silent" else Speech((self._acts[text],))

    def _dawn(self, state: WerewolfState) -> WerewolfState:
        """The night is over: its victim dies, unless the doctor was there."""
        night = state.log[-len(night_order(state.roles, state.alive)) :]
        victim = [event.target for event in night if event.kind == "kill"][-1]
        if any(event.kind == "save" and event.target == victim for event in night):
            victim = NOBODY
        state = _without(state, Event("dawn", NOBODY, victim))
        if state.winner:
            return state
        living = players_in(state.alive)
        first = (state.day - 1) % self.players
        order = tuple(seat for seat in living if seat >= first) + tuple(seat for seat in living if seat < first)
        return state._replace(phase="day", queue=order * self.speeches)

    def _poll(self, state: WerewolfState) -> WerewolfState:
        return state._replace(phase="vote", queue=players_in(state.alive))

    def _count(self, state: WerewolfState) -> WerewolfState:
        state = state._replace(phase="tie")  # the last vote is cast: all are open
        most = _most_voted(state)
        return self._voted_out(state, most[0] if most else NOBODY) if len(most) < 2 else state

    def _voted_out(self, state: WerewolfState, player: int) -> WerewolfState:
        state = _without(state, Event("out", NOBODY, player))
        if state.winner:
            return state
        if state.day == self.max_days:
            return state._replace(phase="over", queue=())
        return state._replace(phase="night", day=state.day + 1, queue=night_order(state.roles, state.alive))


def _meant(action: str, legal: Sequence[str]) -> str | None:
    """The legal action that ``action`` is, case and blanks aside."""
    if action in legal:
        return action
    text = command(action)
    return text if text in legal else None


def _without(state: WerewolfState, event: Event) -> WerewolfState:
    """The state after the death, or nobody's, that ``event`` tells; over where that decides the game."""
    alive = state.alive if event.target == NOBODY else state.alive & ~(1 << event.target)
    wolves = (alive & _mask(pack(state.roles))).bit_count()
    winner = VILLAGE if wolves == 0 else WEREWOLVES if 2 * wolves >= alive.bit_count() else ""
    state = state._replace(alive=alive, log=(*state.log, event), winner=winner)
    return state._replace(phase="over", queue=()) if winner else state


def _most_voted(state: WerewolfState) -> tuple[int, ...]:
    """The players with the most of the votes at the end of the log, in order; none where nobody was voted for."""
    votes: Counter[int] = Counter()
    for event in reversed(state.log):
        if event.kind != "vote":
            break
        votes[event.target] += 1
    del votes[NOBODY]
    most = max(votes.values(), default=0)
    return tuple(sorted(player for player, count in votes.items() if count == most))


@lru_cache(maxsize=16384)
def _named(verb: str, mask: int, first: str = "") -> tuple[str, ...]:
    return (*([first] if first else []), *(f"{verb} {seat}" for seat in players_in(mask)))


@lru_cache(maxsize=16384)
def _speeches(players: int, alive: int, actor: int) -> tuple[str, ...]:
    """Silence, and the acts of ``actor``: about others alone, and about the dead only results."""

    def sayable(player: int, kind: str) -> bool:
        return player != actor and (player < 0 or kind == "result" or bool(alive >> player & 1))

    return ("silent", *(text for text, act in acts_of(players).items() if sayable(act.player, act.kind)))


def _mask(seats: Sequence[int]) -> int:
    return sum(1 << seat for seat in seats)


def _check_roles(roles: str) -> None:
    wolves = roles.count("w") if isinstance(roles, str) else 0
    if (
        not isinstance(roles, str)
        or not 4 <= len(roles) <= 9
        or set(roles) - set("wsdv")
        or not 0 < 2 * wolves < len(roles) - 1
        or max(roles.count("s"), roles.count("d")) > 1
    ):
        raise ValueError(
            f"roles={roles!r}: expected 4 to 9 letters: w (at least one, and outnumbered after the first night), "
            "at most one s and one d, and v."
        )
