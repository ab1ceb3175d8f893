"""OpenSpiel's games as simulators, on ``pyspiel`` states directly (Lanctot et al., 2019).

A state is the history of the game's action numbers; beside it lies OpenSpiel's own state, which is cloned to step and
takes no part in equality, hashing or pickling (it is replayed from the history where it is missing). Games of
simultaneous moves are played through OpenSpiel's own turn-based form, in which the moves of one round are hidden.

Needs ``pip install '.[openspiel]'`` in the checkout. Not handled here: games that draw their luck inside themselves
(``SAMPLED_STOCHASTIC``: they cannot be repeated), mean-field games, and two without usable lists of legal actions.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from ..abilities import text_array
from ..arguments import checked_options
from ..characters import within_planes
from ..forfeits import has_forfeited
from ..simulator import CHANCE, TERMINAL, Simulator

try:
    import pyspiel
except ImportError:  # the options can be listed without it; making a game says what is missing
    pyspiel = None

_LONGEST_ECHO = 80
_UNUSABLE = {
    "crossword": "does not list its legal actions",
    "morpion_solitaire": "writes unset memory into its action strings (OpenSpiel 2.0.2)",
}
_MOST_MOVES_TRIED = 50_000
_STARTS_ANEW = 20
_MOST_TOLD_APART = 256

MAX_SIZE: Final = 1000
"""The largest whole number as a game's parameter: boards, players, cards."""
MAX_LENGTH: Final = 1_000_000
"""The same for lengths of games, and seeds."""


@dataclass(frozen=True, slots=True)
class OpenSpielState:
    """The numbers of all actions and outcomes so far, ``misses`` senseless actions in a row and the last of them;
    beside them OpenSpiel's own state and the ``rewards`` of the step that led here; ``forfeits``, a bit a player, who
    ever had an action played for it."""

    history: tuple[int, ...] = ()
    misses: int = 0
    refused: str = ""
    rewards: tuple[float, ...] = field(default=(), compare=False)
    native: Any = field(default=None, compare=False, repr=False)
    forfeits: int = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return OpenSpielState, (self.history, self.misses, self.refused, self.rewards, None, self.forfeits)


class OpenSpielSimulator(Simulator[OpenSpielState]):
    """
    ## Description

    Any game of OpenSpiel that takes turns or moves simultaneously, by its short name: chess, go, backgammon, hanabi,
    bridge, bargaining, liar's dice, about a hundred more (``pyspiel.registered_names()``).

    ## Observation Space

    Text: what OpenSpiel writes. Where the game hides something and keeps an information state, that (it has all that
    the player saw and did), else the observation.

    ## Action Space

    OpenSpiel's action strings, such as ``e4`` in chess or ``Pass`` in Kuhn poker; blanks around them do not matter, and
    case only where two legal actions differ in nothing else. Anything else changes nothing and is answered; after
    ``max_invalid`` in a row the first legal action is played for the player.

    ## Rewards

    What OpenSpiel pays each player, in its own units; at the end, in most games.

    ## Starting State

    The game's. The seed decides nothing by itself: luck is in chance nodes, which Gymnasium's and PettingZoo's shells
    draw from the seed.

    ## Episode End

    Terminated by the game; truncated after ``max_steps`` steps of any kind, chance included.

    ## Arguments

    >>> import pytest
    >>> _ = pytest.importorskip("pyspiel")
    >>> import gymnasium as gym
    >>> import branchwise
    >>> env = gym.make("branchwise/OpenSpiel-v0", game="tic_tac_toe")
    >>> observation, info = env.reset(seed=0)
    >>> info["admissible_commands"][4]
    'x(1,1)'
    >>> observation, reward, terminated, truncated, info = env.step("x(1,1)")

    | Argument | Default | Meaning |
    |---|---|---|
    | `game` | `"kuhn_poker"` | short name, with parameters or without: `"hex(board_size=5)"` |
    | `max_invalid` | `3` | senseless actions in a row before one is played for the player |
    | `max_steps` | `2000` | steps before the episode is cut off |
    | `invalid_loses` | `False` | the player who would get a move played for it loses: OpenSpiel's lowest payment |
    | any other | the game's | a parameter of the game: `players=3` |

    ## Information

    - `success`: a positive return at the end, without a move that was played for the player (for `player_0`; the
      shells give each player its own)
    - `invalid_action`: whether the last action was none
    - `returns`: what each player earned so far

    ## Version History

    - v0: first version

    ## Source

    google-deepmind/open_spiel (<https://arxiv.org/abs/1908.09453>), as installed; its version decides the rules.
    """

    def __init__(
        self,
        game: str = "kuhn_poker",
        max_invalid: int = 3,
        max_steps: int = 2_000,
        invalid_loses: bool = False,
        **params: Any,
    ) -> None:
        for name, value in (("max_invalid", max_invalid), ("max_steps", max_steps)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r}: expected a whole number of at least 1.")
        self.game = game
        self.max_invalid = max_invalid
        self.max_steps = max_steps
        self.invalid_loses = invalid_loses
        self.params = params
        self._open()

    def _open(self) -> None:
        if pyspiel is None:
            raise ImportError("OpenSpiel is not installed; in the checkout: pip install '.[openspiel]'")
        _check_name(self.game, self.params)
        for name, value in self.params.items():
            limit = MAX_LENGTH if any(word in name for word in ("max", "horizon", "length", "seed")) else MAX_SIZE
            if isinstance(value, int) and abs(value) > limit:
                raise ValueError(f"{name}={value}: the limit is {limit:,}; OpenSpiel would allocate without one.")
        try:
            loaded = pyspiel.load_game(self.game, self.params) if self.params else pyspiel.load_game(self.game)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"game={self.game!r}, {self.params}: a parameter of another type than OpenSpiel's; its defaults are "
                f"{_parameters(self.game)}."
            ) from error
        except pyspiel.SpielError as error:
            raise ValueError(f"game={self.game!r}, {self.params}: {str(error)[:300]}") from error
        kind = loaded.get_type()
        if kind.short_name in _UNUSABLE:
            raise ValueError(f"game={self.game!r} {_UNUSABLE[kind.short_name]}: expected another game.")
        if kind.dynamics == pyspiel.GameType.Dynamics.SIMULTANEOUS:
            loaded = pyspiel.convert_to_turn_based(loaded)
            kind = loaded.get_type()
        if kind.dynamics != pyspiel.GameType.Dynamics.SEQUENTIAL:
            raise ValueError(
                f"game={self.game!r} is a mean-field game: expected one of turns or of simultaneous moves."
            )
        if kind.chance_mode == pyspiel.GameType.ChanceMode.SAMPLED_STOCHASTIC:
            raise ValueError(
                f"game={self.game!r} draws its luck inside itself, so that nothing can be repeated or branched on: "
                "expected a game whose chance nodes are explicit."
            )
        hidden = kind.information == pyspiel.GameType.Information.IMPERFECT_INFORMATION
        self._by_information_state = kind.provides_information_state_string and (
            hidden or not kind.provides_observation_string
        )
        self._has_information_state = kind.provides_information_state_string
        self.hides = hidden
        self._tensor = (
            "observation_tensor"
            if kind.provides_observation_tensor
            else "information_state_tensor"
            if kind.provides_information_state_tensor
            else ""
        )
        self._game = loaded
        self._resamples = True  # until OpenSpiel says that this game does not
        self.players = loaded.num_players()
        self.never_repeats = True  # a state has the history of all actions
        self.zero_sum = (  # of wins, draws and losses alone, which a search can prove
            kind.utility == pyspiel.GameType.Utility.ZERO_SUM
            and self.players == 2
            and {loaded.min_utility(), loaded.max_utility()} == {-1.0, 1.0}
        )
        self.action_count = loaded.num_distinct_actions()

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("game", "max_invalid", "max_steps", "invalid_loses", "params")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> OpenSpielState:
        checked_options(self, options)
        return OpenSpielState(rewards=(0.0,) * self.players, native=self._game.new_initial_state())

    def current_player(self, state: OpenSpielState) -> int:
        native = self._native(state)
        if native.is_terminal() or len(state.history) >= self.max_steps or self._lost(state):
            return TERMINAL
        return CHANCE if native.is_chance_node() else native.current_player()

    def observation(self, state: OpenSpielState, player: int = 0) -> str:
        native = self._native(state)
        text = (
            native.information_state_string(player) if self._by_information_state else native.observation_string(player)
        )
        return f"{self._complaint(state, native, player)}{text}"

    def _complaint(self, state: OpenSpielState, native: Any, player: int) -> str:
        """What was wrong with the last action, for whoever wrote it; nobody else is told."""
        if not state.refused:
            return ""
        if self._lost(state):
            who = "You were" if has_forfeited(state.forfeits, player) else "Another player was"
            return f"{who} put out after too many invalid actions in a row.\n"
        if state.misses:
            writer = CHANCE if native.is_chance_node() else native.current_player()
            return f"{state.refused!r} is no legal action here.\n" if writer == player else ""
        *before, last = native.full_history()
        if last.player != player:
            return ""
        then = self._game.new_initial_state()
        for move in before:
            then.apply_action(move.action)
        played = then.action_to_string(player, last.action)
        return f"{state.refused!r} is no legal action here: {played} was played for you.\n"

    def information_state(self, state: OpenSpielState, player: int) -> str:
        if self._has_information_state:
            return self._native(state).information_state_string(player)
        return self.observation(state, player)

    def legal_actions(self, state: OpenSpielState) -> Sequence[str]:
        player = self.current_player(state)
        if player < 0:
            return ()
        native = self._native(state)
        return _different([native.action_to_string(player, number) for number in native.legal_actions()])

    def action_indices(self, state: OpenSpielState) -> Sequence[int]:
        """OpenSpiel's numbers of the legal actions."""
        return () if self._lost(state) else self._native(state).legal_actions()

    def chance_outcomes(self, state: OpenSpielState) -> Sequence[tuple[str, float]]:
        native = self._native(state)
        outcomes = native.chance_outcomes()
        texts = _different([native.action_to_string(CHANCE, number) for number, _ in outcomes])
        return [(text, probability) for text, (_, probability) in zip(texts, outcomes, strict=True) if probability > 0]

    def step(self, state: OpenSpielState, action: str) -> OpenSpielState:
        native = self._native(state)
        player = self.current_player(state)
        if player == TERMINAL:
            return state
        number = self._number(native, player, action)
        if number is not None:
            return self._after(state, native, number)
        if player != CHANCE and state.misses + 1 >= self.max_invalid:
            forfeits = state.forfeits | 1 << player
            if self.invalid_loses:
                rewards = self._lost_by(player)
                return OpenSpielState(state.history, state.misses + 1, _shown(action), rewards, native, forfeits)
            after = self._after(state, native, native.legal_actions()[0])
            return OpenSpielState(after.history, 0, _shown(action), after.rewards, after.native, forfeits)
        return replace(state, misses=state.misses + 1, refused=_shown(action), rewards=(0.0,) * self.players)

    def _lost(self, state: OpenSpielState) -> bool:
        """Whether a player has lost by invalid actions."""
        return self.invalid_loses and state.forfeits != 0

    def _lost_by(self, player: int) -> tuple[float, ...]:
        """The lowest payment for ``player``; in a game whose payments sum to 0 the others share what it lost."""
        least = float(self._game.min_utility())
        kind = self._game.get_type().utility
        share = -least / (self.players - 1) if kind == pyspiel.GameType.Utility.ZERO_SUM and self.players > 1 else 0.0
        return tuple(least if other == player else share for other in range(self.players))

    def rewards(self, state: OpenSpielState) -> tuple[float, ...]:
        return state.rewards

    def truncated(self, state: OpenSpielState) -> bool:
        return len(state.history) >= self.max_steps and not self._native(state).is_terminal()

    def info(self, state: OpenSpielState) -> dict[str, Any]:
        returns = state.rewards if self._lost(state) else tuple(map(float, self._native(state).returns()))
        return {"success": self.success(state, 0), "invalid_action": state.refused != "", "returns": returns}

    def success(self, state: OpenSpielState, player: int) -> bool:
        if has_forfeited(state.forfeits, player) or self.current_player(state) != TERMINAL:
            return False
        return (state.rewards if self._lost(state) else self._native(state).returns())[player] > 0

    def array(self, state: OpenSpielState, player: int = 0) -> np.ndarray:
        """OpenSpiel's observation tensor, else its information state tensor, float32 and flat; where the game has
        neither, the text's bytes."""
        if not self._tensor:
            return text_array(self.observation(state, player))
        return np.array(getattr(self._native(state), self._tensor)(player), np.float32)

    def moves_seen(self, state: OpenSpielState, player: int = 0) -> list[str]:
        """The moves and outcomes so far, in OpenSpiel's words with who made them: those that ``player`` made, or could
        tell from every other that was possible there."""
        moves = []
        native = self._game.new_initial_state()
        for move in self._native(state).full_history():
            who = "dealt" if move.player < 0 else "you" if move.player == player else f"player {move.player}"
            if not self.hides or move.player == player or self._tells_apart(native, move.action, player):
                moves.append(f"{who}: {native.action_to_string(move.player, move.action)}")
            native.apply_action(move.action)
        return moves

    def _tells_apart(self, native: Any, action: int, player: int) -> bool:
        """Whether ``player`` sees that it was ``action`` and none of the others."""
        numbers = native.legal_actions()
        if not self._has_information_state or len(numbers) > _MOST_TOLD_APART:
            return False
        seen = {number: native.child(number).information_state_string(player) for number in numbers}
        return all(text != seen[action] for number, text in seen.items() if number != action)

    def resample(self, state: OpenSpielState, player: int, rng: np.random.Generator) -> OpenSpielState:
        """By OpenSpiel's ``resample_from_infostate`` where the game has it; else luck and the others' moves are drawn
        anew such that ``player``, who moves as before, knows at every step what it knew. Each move of the others that
        fits is as likely as another, whatever the other knows. ``NotImplementedError`` where no such history is found.
        """
        if not self.hides:
            return state
        native = self._native(state)
        drawn = None
        if self._resamples:
            try:
                drawn = native.resample_from_infostate(player, rng.random)
            except pyspiel.SpielError:
                self._resamples = False  # asked once: OpenSpiel prints a line each time
        if drawn is None:
            drawn = self._redrawn(state, player, rng)
        return replace(state, history=tuple(drawn.history()), native=drawn, forfeits=state.forfeits & 1 << player)

    def _redrawn(self, state: OpenSpielState, player: int, rng: np.random.Generator) -> Any:
        """OpenSpiel's state at the end of another history that ``player`` cannot tell from this one.

        Depth first, moves in random order. A move is taken where ``player`` then knows what it knew before or learns
        what it learned next, so that what it cannot see may also differ in length (tries in phantom games). The first
        dead ends start anew, which leaves all that fits its chance; the later ones take back the last move alone."""
        learned, own = self._learned(state, player)
        mover = self._native(state).current_player()
        longest = max(len(state.history), self.max_steps - 1)
        start = self._game.new_initial_state()
        # OpenSpiel's state, how much was learned and how many own moves made there, and the moves that are left to try
        way = [(start, 0, 0, _moves_to_try(start, player, own, rng))]
        dead_ends = 0
        for _ in range(_MOST_MOVES_TRIED):
            native, known, used, untried = way[-1]
            if known + 1 == len(learned) and used == len(own) and native.current_player() == mover:
                return native
            if not untried or len(way) > longest:
                dead_ends += 1
                if dead_ends <= _STARTS_ANEW:
                    way = [(start, 0, 0, _moves_to_try(start, player, own, rng))]
                elif len(way) > 1:
                    way.pop()
                else:
                    break
                continue
            after = native.child(untried.pop())
            text = self._known_text(after, player)
            if text == learned[known] or (known + 1 < len(learned) and text == learned[known + 1]):
                now = known + (text != learned[known])
                then = used + (native.current_player() == player)
                way.append((after, now, then, _moves_to_try(after, player, own[then:], rng)))
        raise NotImplementedError(
            f"{self.game} has no resampling of its own, and in {_MOST_MOVES_TRIED:,} tries of luck and of the others'"
            f" moves no history was found that player {player} could not tell from this one; write resample in a"
            " subclass, by what is known of this game."
        )

    def _learned(self, state: OpenSpielState, player: int) -> tuple[list[str], list[int]]:
        """What ``player`` knew in the course of the game, each text once where it stayed, and its own actions."""
        native = self._game.new_initial_state()
        learned, own = [self._known_text(native, player)], []
        for number in state.history:
            if native.current_player() == player:
                own.append(number)
            native.apply_action(number)
            text = self._known_text(native, player)
            if text != learned[-1]:
                learned.append(text)
        return learned, own

    def _known_text(self, native: Any, player: int) -> str:
        if self._has_information_state:
            return str(native.information_state_string(player))
        return str(native.observation_string(player))

    def _native(self, state: OpenSpielState) -> Any:
        if state.native is None:
            native = self._game.new_initial_state()
            for number in state.history:
                native.apply_action(number)
            object.__setattr__(state, "native", native)  # a cache, which equality and pickles leave out
        return state.native

    def _after(self, state: OpenSpielState, native: Any, number: int) -> OpenSpielState:
        before = native.returns()
        native = native.clone()
        native.apply_action(number)
        rewards = tuple(float(after - b) for after, b in zip(native.returns(), before, strict=True))
        return OpenSpielState((*state.history, number), 0, "", rewards, native, state.forfeits)

    def _number(self, native: Any, player: int, action: str) -> int | None:
        numbers = native.legal_actions()
        texts = _different([native.action_to_string(player, number) for number in numbers])
        if action in texts:
            return numbers[texts.index(action)]
        for same in (str.strip, _folded):
            found = [number for number, text in zip(numbers, texts, strict=True) if same(text) == same(action)]
            if len(found) == 1:
                return found[0]
        return None


def _moves_to_try(native: Any, player: int, own: Sequence[int], rng: np.random.Generator) -> list[int]:
    """Chance's outcomes and the others' moves in random order, the first last; of ``player`` its next ``own`` move."""
    if native.is_terminal():
        return []
    if native.current_player() == player:
        return [own[0]] if own and own[0] in native.legal_actions() else []
    if native.is_chance_node():
        numbers, shares = zip(*native.chance_outcomes(), strict=True)
    else:
        numbers = tuple(native.legal_actions())
        shares = (1.0,) * len(numbers)
    waits = rng.exponential(size=len(numbers)) / np.maximum(shares, np.finfo(np.float64).tiny)
    return [numbers[i] for i in np.argsort(-waits).tolist() if shares[i] > 0.0]


def _check_name(game: str, params: Mapping[str, Any]) -> None:
    """Before OpenSpiel is asked, which prints every name that it knows."""
    if not isinstance(game, str):
        raise ValueError(f"game={game!r}: expected a name in quotes, with parameters or without: 'hex(board_size=5)'.")
    name = _short_name(game)
    if name not in (known := pyspiel.registered_names()):
        near = difflib.get_close_matches(name, known, 2)
        meant = f"did you mean {' or '.join(map(repr, near))}" if near else "pyspiel.registered_names() lists them"
        raise ValueError(f"game={game!r}: OpenSpiel has no game of that name; {meant}.")
    parameters = _parameters(game)
    if unknown := sorted(params.keys() - parameters.keys()):
        accepted = ", ".join(sorted(parameters)) or "none"
        raise ValueError(f"game={game!r} has no parameter {', '.join(map(repr, unknown))}; it has {accepted}.")


def _short_name(game: str) -> str:
    return game.partition("(")[0].strip()


def _parameters(game: str) -> dict[str, Any]:
    """The names and defaults of a game's parameters."""
    kinds = {kind.short_name: kind for kind in pyspiel.registered_games()}
    found: dict[str, Any] = kinds[_short_name(game)].parameter_specification
    return found


def _folded(text: str) -> str:
    return text.strip().casefold()


def _different(texts: Sequence[str]) -> Sequence[str]:
    """``texts``, those that would be equal told apart by their place."""
    if len(set(texts)) == len(texts):
        return texts
    return [text if texts.count(text) == 1 else f"{text} #{i}" for i, text in enumerate(texts)]


def _shown(action: str) -> str:
    """A refused action as it may be quoted; never empty."""
    text = within_planes(action if len(action) <= _LONGEST_ECHO else action[:_LONGEST_ECHO] + "…")
    return text.encode("utf-8", "replace").decode() or " "
