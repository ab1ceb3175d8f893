"""One lock-step for all who play: evaluation, roll-outs of a search, collecting, demonstrations and self-play.

Many episodes go on side by side, so that each turn is one batch for whoever decides. A player's transcript holds what
that player saw and did: the observations where it was to move, its own actions, and its last observation at the end;
never another's. Luck is drawn with the episode's own generator and is no turn.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import compress, islice
from typing import Any, Final

import numpy as np

from ..abilities import figures_of, success_of
from ..checked import LARGEST, checked_outcome, checked_player, checked_rewards
from ..opponents import past_chance
from ..promises import checked_fact, is_fact
from ..simulator import CHANCE, TERMINAL, Simulator
from .agent import Agent
from .episode import Episode
from .task import Root, start
from .transcript import Transcript, Turn, acted, observed, said

MOST_STEPS: Final = 10_000
"""Of an episode that is played to its end."""


class Playing:
    """An episode under way, of which ``player`` is to move (``TERMINAL`` at its end).

    ``transcripts``: by player, of all who were to move; ``transcript`` is what the first of them saw and did before,
    which may end with what it sees in ``state``. With ``transcript=None`` none are kept and no invalid actions are
    counted, for those who read states alone. ``rewards``: what all players earned by luck before the first step, then
    by each step, luck after it included; ``movers``: who took each step. ``moves``: all that players and luck did.
    ``calls`` and ``invalid``: model calls and invalid actions by player. ``number`` is the caller's.

    Raises ValueError where the simulator's answers are no rewards, players or outcomes.
    """

    __slots__ = (
        *("simulator", "state", "player", "rng", "number"),
        *("transcripts", "rewards", "movers", "moves", "calls", "invalid"),
    )

    def __init__(
        self,
        simulator: Simulator[Any],
        state: Any,
        rng: np.random.Generator,
        transcript: Transcript | None = (),
        number: int = 0,
    ) -> None:
        self.simulator = simulator
        self.state = state
        self.rng = rng
        self.number = number
        self.movers: list[int] = []
        self.moves: list[str] = []
        self.calls = [0] * simulator.players
        self.invalid = [0] * simulator.players
        self.player = checked_player(simulator, state)
        earned: Sequence[float] = (0.0,) * simulator.players
        self.rewards = [self._past_chance(earned) if self.player == CHANCE else earned]
        self.transcripts: dict[int, Transcript] | None = None
        if transcript is not None:
            first = max(self.player, 0)
            read = bool(transcript) and not transcript[-1].is_agent
            self.transcripts = {first: transcript if read else (*transcript, self._seen(first))}

    @property
    def over(self) -> bool:
        return self.player == TERMINAL

    @property
    def transcript(self) -> Transcript:
        """What the player to move saw and did; empty where none is kept."""
        return () if self.transcripts is None else self.transcripts[self.player]

    def step(self, action: str) -> None:
        """The player to move acts, and luck after it."""
        mover, simulator, turns = self.player, self.simulator, self.transcripts
        self.moves.append(action)
        self.state = simulator.step(self.state, action)
        if turns is not None:
            turns[mover] = (*turns[mover], acted(action))
            self.invalid[mover] += checked_fact(simulator, self.state, "invalid_action")
        self.player = checked_player(simulator, self.state)
        earned = checked_rewards(simulator, self.state)
        self.rewards.append(self._past_chance(earned) if self.player == CHANCE else earned)
        self.movers.append(mover)
        if turns is not None:
            for player in tuple(turns) if self.player == TERMINAL else (self.player,):
                turns[player] = (*turns.get(player, ()), self._seen(player))

    def _seen(self, player: int) -> Turn:
        return observed(said(self.simulator, self.state, player))

    def _past_chance(self, earned: Sequence[float]) -> Sequence[float]:
        """Draw outcomes until a player is to move or the episode is over; what was ``earned``, theirs included."""
        paid = list(earned)

        def take(state: Any) -> None:
            self.state = state
            for player, reward in enumerate(checked_rewards(self.simulator, state)):
                paid[player] += reward

        def drawn(state: Any) -> str:
            self.moves.append(checked_outcome(self.simulator, state, self.rng))
            return self.moves[-1]

        _, self.player = past_chance(self.simulator, self.state, drawn, take)
        return paid

    def root(self, task: Mapping[str, Any]) -> Root:
        """Where a tree of this decision starts."""
        others = {player: turns for player, turns in (self.transcripts or {}).items() if player != self.player}
        return Root(self.state, self.transcript, dict(task), tuple(self.moves), others)

    def episode(self, task: Mapping[str, Any], player: int = 0) -> Episode:
        """The episode as ``player`` played it. It has a reward for each of the player's steps: what the step earned it
        and what the others' moves and luck did until its next."""
        rewards = [0.0] * self.movers.count(player)
        taken = -1
        for mover, earned in zip((CHANCE, *self.movers), self.rewards, strict=True):
            taken += mover == player
            if rewards:
                rewards[max(taken, 0)] += earned[player]
        simulator = self.simulator
        if not all(abs(reward) <= LARGEST for reward in (*rewards, sum(rewards))):
            raise ValueError(f"{type(simulator).__name__}: the rewards of an episode add up to more than 3.4e38")
        truncated = simulator.truncated(self.state)
        if not is_fact(truncated):
            raise ValueError(f"{type(simulator).__name__}.truncated gave {truncated!r:.80}; return True or False")
        return Episode(
            task=dict(task),
            transcript=(self.transcripts or {}).get(player, ()),
            rewards=tuple(rewards),
            success=success_of(simulator, self.state, player),
            steps=len(rewards),
            invalid_actions=self.invalid[player],
            model_calls=self.calls[player],
            truncated=bool(truncated),
            figures=figures_of(simulator, self.state),
        )


Decide = Callable[[Sequence[Playing]], Sequence[str]]


def play(
    episodes: Iterable[Playing], decide: Decide, at_once: int | None = None, most_steps: int | None = None
) -> Iterator[Playing]:
    """Play ``episodes`` on side by side, ``at_once`` of them (``None``: all), each to its end or for ``most_steps``
    steps, and yield each when it stops. ``decide`` gives an action for each of those under way; a place that is free is
    filled before it is asked again. Raises ``ValueError`` for an episode that is to end and does not in
    :data:`MOST_STEPS`."""
    waiting = iter(episodes)
    running: list[Playing] = []
    while True:
        running += islice(waiting, None if at_once is None else at_once - len(running))
        has_stopped = [episode.player == TERMINAL or len(episode.movers) == most_steps for episode in running]
        if any(has_stopped):
            stopped = list(compress(running, has_stopped))
            running = [episode for episode, gone in zip(running, has_stopped, strict=True) if not gone]
            yield from stopped
        elif any(len(episode.movers) >= MOST_STEPS for episode in running):
            name = type(running[0].simulator).__name__
            raise ValueError(f"{name}: an episode has not ended after {MOST_STEPS:,} steps; give it a most of steps")
        elif running:
            for episode, action in zip(running, decide(running), strict=True):
                episode.step(action)
        else:
            return


def by_agents(*seats: Agent) -> Decide:
    """Whoever is to move decides: one agent for all players, or one a player. An agent that has several seats is asked
    once for all of them."""

    def decide(running: Sequence[Playing]) -> Sequence[str]:
        actions = [""] * len(running)
        asked: dict[tuple[int, int], list[int]] = {}
        for place, episode in enumerate(running):
            seat = seats[episode.player if len(seats) > 1 else 0]
            asked.setdefault((id(seat), id(episode.simulator)), []).append(place)
        for places in asked.values():
            some = [running[place] for place in places]
            agent = seats[some[0].player if len(seats) > 1 else 0]
            decisions = agent.act(
                some[0].simulator, [e.state for e in some], [e.transcript for e in some], [e.rng for e in some]
            )
            for place, decision in zip(places, decisions, strict=True):
                actions[place] = decision.action
                running[place].calls[running[place].player] += decision.model_calls
        return actions

    return decide


def run_episodes(
    simulator: Simulator[Any],
    tasks: Sequence[Mapping[str, Any]],
    agent: Agent,
    seed: int,
    *,
    batch_size: int = 64,
    progress: Callable[[int], None] | None = None,
    done: Mapping[int, Episode] | None = None,
    ended: Callable[[int, Episode], None] | None = None,
) -> list[Episode]:
    """Play ``tasks`` to their ends, ``batch_size`` at a time, and return their episodes in the order of ``tasks``.

    ``done``: episodes that were played before, by the number of their task; ``ended`` gets each other one as it ends.
    Episode ``i`` draws from a generator of its own, seeded by ``(seed, i)``, so that neither the batch size nor the
    other tasks change it. ``progress`` is told how many episodes have ended. Raises ``ValueError`` where ``batch_size``
    is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}; expected at least 1")
    found = dict(done or {})

    def starts() -> Iterator[Playing]:
        for number, task in enumerate(tasks):
            if number not in found:
                root = start(simulator, task)
                yield Playing(simulator, root.state, np.random.default_rng([seed, number]), root.transcript, number)

    for over in play(starts(), by_agents(agent), batch_size):
        episode = over.episode(tasks[over.number])
        found[over.number] = episode
        if ended:
            ended(over.number, episode)
        if progress:
            progress(len(found))
    return [found[number] for number in range(len(tasks))]
