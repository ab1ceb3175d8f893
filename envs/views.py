"""One player's side of a game, as a simulator for one player.

:class:`SinglePlayerView` plays the other players' moves and the luck inside ``step``, until the viewed player is to
move or the game is over. It stays pure: the generator of those moves is a function of the state's own seed and number
of steps, so the same state and action lead to the same next state, in every process. That makes luck a part of the
state: a search over a view sees how this very episode would go on, dice and hidden cards included, which is right for
training against a fixed sequence of events and is cheating in play; ``resample`` draws the hidden part and the luck
anew.

Not handled here: opponents that learn or remember from one move to the next.
"""

from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .abilities import success_of
from .opponents import Mixture, Opponent, borrow_generator, draw_outcome, opponent_of, return_generator
from .simulator import CHANCE, TERMINAL, Simulator

_MOST_MOVES = 10_000
_MOST_RESETS = 1_000
_SEEDS = 2**62
VIEW_OPTIONS = {"player": 0, "opponents": "random"}
"""What makes one player's side of a game, with the defaults."""
_OF_THE_GAME = {"all_actions", "action_count", "action_kind", "max_actions", "array_range"}
_OF_A_STATE = {"action_indices", "numbered_actions", "outcome_figures", "suggested_actions", "svg"}
_OF_A_PLAYER = {"array", "moves_seen"}


class ViewState(NamedTuple):
    """``inner`` is the game's state; ``seed`` and ``steps`` fix the luck that follows; ``reward`` is the viewed
    player's since its last move. ``moved``: others, or luck, moved after it; ``invalid``: it was invalid all the same.
    ``player`` is the viewed one.
    """

    inner: Hashable
    seed: int
    steps: int = 0
    reward: float = 0.0
    moved: bool = False
    invalid: bool = False
    player: int = 0


_new_state = partial(tuple.__new__, ViewState)  # from all fields, quicker than by the class


class SinglePlayerView(Simulator[ViewState]):
    """``simulator`` as ``player`` sees it (of one episode: ``reset(options={"player": i})``), the others played by
    ``opponents``: an opponent or the name of one (``"random"``, ``"module:name"``), shares by name of which one is
    drawn for each episode (``{"random": 1, "module:name": 3}``), or a sequence with one of these a player, in which the
    viewed player's own is not asked.

    Also makes a game of one player with chance nodes fit for ``SimulatorEnv``. Episodes in which the game ends before
    the viewed player could act are passed over for the next that the seed names. Where the viewed player's invalid
    action ends its turn, the observation after the others' moves begins with a line that says so.
    """

    players = 1
    hides = True
    foreknowledge = True  # the others' moves and luck follow from the seed and the step

    def __init__(
        self,
        simulator: Simulator[Any],
        player: int = 0,
        opponents: Any = "random",
    ) -> None:
        if isinstance(opponents, str | Mapping | Mixture) or callable(opponents):
            opponents = [opponents] * simulator.players
        if len(opponents) != simulator.players:
            raise ValueError(
                f"opponents={opponents!r}: expected one, or {simulator.players}, one a player "
                "(that of the viewed player is not asked)."
            )
        self.simulator = simulator
        self.player = self._seat(player)
        self.opponents: tuple[Opponent | Mixture, ...] = tuple(map(opponent_of, opponents))
        self.never_repeats = bool(getattr(simulator, "never_repeats", False))

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> ViewState:
        player = self.player
        if options and "player" in options:
            options = dict(options)
            player = self._seat(options.pop("player"))
        for attempt in range(_MOST_RESETS):
            # Not seed + attempt: neighbouring seeds would then share episodes.
            other = int(np.random.SeedSequence([seed, attempt]).generate_state(1)[0]) if attempt else seed
            inner = self.simulator.reset(other, options)
            state = self._go_on(inner, self.simulator.current_player(inner), other, 0, 0.0, False, player)
            if self.simulator.current_player(state.inner) != TERMINAL:
                return state
        raise ValueError(
            f"In {_MOST_RESETS} episodes from seed {seed} the game was over before player {player} could act."
        )

    def _seat(self, player: Any) -> int:
        if player not in range(self.simulator.players):
            raise ValueError(f"player={player!r}: expected 0 to {self.simulator.players - 1}.")
        return int(player)

    def current_player(self, state: ViewState) -> int:
        return TERMINAL if self.simulator.current_player(state.inner) == TERMINAL else 0

    def observation(self, state: ViewState, player: int = 0) -> str:
        text = self.simulator.observation(state.inner, state.player)
        return f"Your last answer was not valid, and the game went on.\n{text}" if state.invalid else text

    def legal_actions(self, state: ViewState) -> Sequence[str] | None:
        return self.simulator.legal_actions(state.inner)

    def admissible_commands(self, state: ViewState) -> list[str] | None:
        return self.simulator.admissible_commands(state.inner)

    def step(self, state: ViewState, action: str) -> ViewState:
        game = self.simulator
        inner, seed, steps, reward, _, _, player = state
        inner = game.step(inner, action)
        # What was earned before the first move is paid with it, since a reset pays nothing.
        reward = game.rewards(inner)[player] if steps else game.rewards(inner)[player] + reward
        mover = game.current_player(inner)
        if mover in (player, TERMINAL):
            return _new_state((inner, seed, steps + 1, reward, False, False, player))
        return self._go_on(inner, mover, seed, steps + 1, reward, game.info(inner)["invalid_action"], player)

    def rewards(self, state: ViewState) -> tuple[float, ...]:
        return (state.reward if state.steps else 0.0,)

    def truncated(self, state: ViewState) -> bool:
        return self.simulator.truncated(state.inner)

    def info(self, state: ViewState) -> dict[str, Any]:
        """The game's, with ``success`` as it is for the viewed player and ``invalid_action`` about its own action."""
        info = self.simulator.info(state.inner)
        if state.player:
            info["success"] = success_of(self.simulator, state.inner, state.player)
        if state.moved:
            info["invalid_action"] = state.invalid
        return info

    def position(self, state: ViewState) -> Hashable:
        return self.simulator.position(state.inner)

    def information_state(self, state: ViewState, player: int = 0) -> str:
        return self.simulator.information_state(state.inner, state.player)

    def resample(self, state: ViewState, player: int, rng: np.random.Generator) -> ViewState:
        """Another state that the viewed player cannot tell from ``state``, with other luck to come."""
        inner = self.simulator.resample(state.inner, state.player, rng)
        return state._replace(inner=inner, seed=int(rng.integers(_SEEDS)))

    def behind_view(self, state: ViewState) -> tuple[Simulator[Any], Any]:
        """The game and its state; see :func:`without_view`."""
        return self.simulator, state.inner

    def __getattr__(self, name: str) -> Any:
        """What the game offers beyond the protocol (``abilities``), the view offers too."""
        if name in _OF_THE_GAME:
            return getattr(self.simulator, name)
        if name in _OF_A_STATE:
            offered = getattr(self.simulator, name)
            return lambda state: offered(state.inner)
        if name in _OF_A_PLAYER:
            seen = getattr(self.simulator, name)
            return lambda state, player=0: seen(state.inner, state.player)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def _go_on(
        self, inner: Any, mover: int, seed: int, steps: int, reward: float, invalid: bool, player: int
    ) -> ViewState:
        """Play everybody else, ``mover`` first, until the viewed player is to move."""
        game = self.simulator
        rng = None
        for _ in range(_MOST_MOVES):
            if mover in (player, TERMINAL):
                if rng is not None:
                    return_generator(rng)
                return _new_state((inner, seed, steps, reward, True, invalid, player))
            if rng is None:
                rng = borrow_generator(seed, steps)
            if mover == CHANCE:
                action = draw_outcome(game, inner, rng)
            else:
                opponent = self.opponents[mover]
                if isinstance(opponent, Mixture):
                    opponent = opponent.member(seed, mover)
                action = opponent(game, inner, rng)
            inner = game.step(inner, action)
            reward += game.rewards(inner)[player]
            mover = game.current_player(inner)
        raise RuntimeError(
            f"{type(game).__name__}: {_MOST_MOVES} moves without player {player} coming to move; the last was "
            f"{action[:80]!r}, player {mover} is next. The game needs a budget, or the opponent a legal move."
        )


def without_view(simulator: Simulator[Any], state: Any) -> tuple[Simulator[Any], Any]:
    """The game and its state behind a player's view, which may itself be wrapped; where there is no view, what was
    given. Who moves by rule or by search acts there: scripted players read the game's state, and a search of the view
    itself would see the luck and the others' moves of this very episode."""
    behind = getattr(simulator, "behind_view", None)
    return (simulator, state) if behind is None else behind(state)
