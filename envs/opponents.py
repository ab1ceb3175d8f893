"""Who moves for the other players, and how luck is drawn, where an environment shows one player's side of a game.

An :data:`Opponent` is called where a player other than the viewed one is to move, with the simulator, the state and a
generator, and answers with an action. It must read only what that player may know (``observation``,
``information_state``, ``legal_actions``, and states that ``resample`` drew), and must not keep memory between calls:
the same state and generator give the same action. A function, or an object that is called; picklable if the environment
is to be.

Generators come from Philox, a counter-based generator (Salmon et al., 2011): the stream of an episode's seed and a step
is found by setting key and counter (0.5 µs) instead of hashing a seed sequence (14 µs), so that luck is a pure function
of a state. Not handled here: opponents that search, which live a floor up, and are passed in.
"""

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

import numpy as np

from .abilities import suggested_actions
from .simulator import CHANCE, MOST_DRAWS, Simulator

T = TypeVar("T")
Opponent = Callable[[Simulator[Any], Any, np.random.Generator], str]

_WORDS = 2**64 - 1
_MEMBERS = 2**63  # the steps of an episode's stream that draw who plays it: none of the episode's own
_idle: "list[Stream]" = []


def random_opponent(simulator: Simulator[Any], state: Any, rng: np.random.Generator) -> str:
    """A legal action, each as likely; where any text may be an answer, one of those that ``abilities`` suggests."""
    choices = simulator.legal_actions(state)
    if choices is None:
        choices = suggested_actions(simulator, state)
    return choices[int(rng.random() * len(choices))]


def named_opponent(name: "str | Opponent", named: Mapping[str, str] | None = None) -> Opponent:
    """The opponent called ``name``: a key of ``named`` (values are ``module:name``), ``"random"``, or itself
    ``module:name``; an opponent is returned as it is. A class is called without arguments to make one.

    Raises ``ValueError`` that lists the known names.
    """
    if not isinstance(name, str):
        return name
    known = {"random": f"{__name__}:random_opponent", **(named or {})}
    path = known.get(name, name)
    module, _, attribute = path.partition(":")
    try:
        found = getattr(import_module(module), attribute) if attribute else None
    except (Exception, SystemExit) as error:
        raise ValueError(f"opponents={name!r}: {error}; known by name: {', '.join(known)}.") from error
    if found is None:
        near = difflib.get_close_matches(name.casefold(), known, 1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"opponents={name!r}: {meant}expected {' or '.join(map(repr, known))}, a 'module:name', "
            "or a function (simulator, state, generator) -> action."
        )
    return found() if isinstance(found, type) else found


@dataclass(frozen=True)
class Mixture:
    """Opponents of whom one plays a whole episode, drawn by its share (of their sum) from the episode's seed."""

    members: tuple[Opponent, ...]
    shares: tuple[float, ...]

    def member(self, seed: int, player: int) -> Opponent:
        """Who plays ``player`` in the episode of ``seed``."""
        rng = borrow_generator(seed, _MEMBERS + player)
        total = sum(self.shares)
        drawn = draw_from(zip(self.members, (share / total for share in self.shares), strict=True), rng)
        return_generator(rng)
        return drawn


def is_share(value: Any) -> bool:
    """Whether ``value`` may be the share of a player in a mixture: a positive, finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def opponent_of(said: "str | Opponent | Mapping[str, float]", named: Mapping[str, str] | None = None) -> Any:
    """An :data:`Opponent` or a :class:`Mixture`: as :func:`named_opponent`, and for shares by name
    (``{"random": 0.5, "perfect": 0.5}``) the mixture of them. Raises ``ValueError`` for shares that are none."""
    if not isinstance(said, Mapping):
        return named_opponent(said, named)
    shares = tuple(said.values())
    for name in said:
        if not isinstance(name, str) and not callable(name):
            raise ValueError(f"opponents={dict(said)!r}: expected names, each with its share, not {name!r}.")
    for share in shares:
        if not is_share(share):
            raise ValueError(f"opponents={dict(said)!r}: expected a positive share for each name, not {share!r}.")
    if not shares or not math.isfinite(sum(shares)):
        raise ValueError(f"opponents={dict(said)!r}: name at least one, with a share; their sum is to be finite.")
    return Mixture(tuple(named_opponent(name, named) for name in said), tuple(map(float, shares)))


def draw_outcome(simulator: Simulator[Any], state: Any, rng: np.random.Generator) -> str:
    """An outcome of the chance node ``state``, as probable as :meth:`Simulator.chance_outcomes` says."""
    return draw_from(simulator.chance_outcomes(state), rng)


def draw_from(outcomes: Iterable[tuple[T, float]], rng: np.random.Generator) -> T:
    """One of the outcomes (at least one), by the probability beside it. They sum to 1, but for rounding: what that
    leaves over is the last outcome's."""
    left = rng.random()
    for outcome, probability in outcomes:
        left -= probability
        if left < 0.0:
            return outcome
    return outcome


def past_chance(
    simulator: Simulator[Any],
    state: Any,
    draw: Callable[[Any], str],
    passed: Callable[[Any], None] = lambda state: None,
) -> tuple[Any, int]:
    """The first state from ``state`` on that is no chance node, and its player (or ``TERMINAL``). ``draw`` gives the
    outcome of each chance node; ``passed`` gets the state after it. Raises RuntimeError where chance never ends."""
    for _ in range(MOST_DRAWS + 1):
        player = simulator.current_player(state)
        if player != CHANCE:
            return state, player
        state = simulator.step(state, draw(state))
        passed(state)
    raise endless_chance(simulator)


def endless_chance(simulator: Simulator[Any]) -> RuntimeError:
    """What is raised where more than ``MOST_DRAWS`` draws of chance follow each other."""
    return RuntimeError(
        f"{type(simulator).__name__} draws chance more than {MOST_DRAWS} times in a row; let step lead from a chance"
        " node to a player's move or to the end"
    )


class Stream(np.random.Generator):
    """A generator with what its state is set from, so that a step writes two entries instead of making it all anew."""

    def __init__(self) -> None:
        super().__init__(np.random.Philox(0))
        self.bits: Any = self.bit_generator
        self.place: dict[str, tuple[int, ...]] = {}
        self.start = {
            "bit_generator": "Philox",
            "state": self.place,  # of tuples: numpy reads them in half the time of arrays
            "buffer": (0, 0, 0, 0),
            "buffer_pos": 4,
            "has_uint32": 0,
            "uinteger": 0,
        }


def borrow_generator(seed: int, step: int) -> Stream:
    """The generator of one step of the episode ``seed``, at its beginning; hand it back when the step is done."""
    try:
        rng = _idle.pop()
    except IndexError:
        rng = Stream()
    rng.place["counter"] = 0, step & _WORDS, 0, 0
    rng.place["key"] = seed & _WORDS, seed >> 64 & _WORDS
    rng.bits.state = rng.start
    return rng


def return_generator(rng: Stream) -> None:
    """Let ``rng`` be borrowed again. A generator that is never returned is only lost."""
    _idle.append(rng)
