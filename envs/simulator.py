"""The rules of an environment as pure functions over immutable states.

A :class:`Simulator` is a generative model in the planning sense (Kearns, Mansour and Ng, 2002): given a state and an
action it returns the next state, and never changes the one that it was given. Search branches on states, environments
(``shells.gym``) hold one state and replace it, and a snapshot of an environment is a reference to its state.

A state must be immutable, hashable and picklable; equal states behave alike for ever. Randomness enters through
``reset(seed)`` and through chance nodes (``current_player(state) == CHANCE``) alone. The simulator object holds what
never changes (a catalogue, settings), is picklable, and may be shared by any number of environments and trees.

Not handled here: simultaneous moves (write them as hidden successive moves) and continuous actions.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import numpy as np

CHANCE: Final = -1
TERMINAL: Final = -2
MOST_DRAWS: Final = 1_000
"""Draws of chance that may follow each other before a player is to move or the episode is over."""

State = TypeVar("State", bound=Hashable)


class Simulator(Protocol[State]):
    """Subclass this to inherit the defaults of the optional methods; the methods without a body must be written.

    ``players`` is the number of players; single-agent environments have one, player 0. ``zero_sum`` promises that the
    rewards of two players always add up to zero: search then keeps one number a node and can prove wins. ``hides`` says
    whether something is hidden that :meth:`resample` draws anew: a search of hidden information asks for it. A class
    that writes ``resample`` and does not declare ``hides`` hides something.
    """

    players: int = 1
    zero_sum: bool = False
    hides: bool = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        nearest = next(kind for kind in cls.__mro__ if {"hides", "resample"} & vars(kind).keys())
        if "hides" not in vars(nearest):
            cls.hides = True

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> State:
        """The first state of the episode that ``seed`` and ``options`` name; the same in every process."""
        ...

    def current_player(self, state: State) -> int:
        """The player to move, ``CHANCE`` or ``TERMINAL``. A truncated state is ``TERMINAL`` too."""
        ...

    def observation(self, state: State, player: int = 0) -> str:
        """What ``player`` reads in ``state``."""
        ...

    def legal_actions(self, state: State) -> Sequence[str] | None:
        """The actions of the player to move, in a fixed order; ``None`` where any text may be an answer."""
        ...

    def step(self, state: State, action: str) -> State:
        """The state after ``action``. Any text is accepted: an action that makes no sense gives a state whose
        observation says what was wrong and whose ``info`` has ``invalid_action`` set. Never raises on text."""
        ...

    def rewards(self, state: State) -> tuple[float, ...]:
        """What each player earned by the step that led into ``state`` (zeros at the start); shape ``[players]``."""
        ...

    def truncated(self, state: State) -> bool:
        """True where the episode was cut off by its budget rather than ended by its rules."""
        return False

    def info(self, state: State) -> dict[str, Any]:
        """Facts beside the observation; at least ``success`` and ``invalid_action`` (both bool). A fresh dict."""
        return {"success": False, "invalid_action": False}

    def admissible_commands(self, state: State) -> list[str] | None:
        """Commands to show an agent: the legal actions, free text marked by an ellipsis (``search[…]``)."""
        actions = self.legal_actions(state)
        return None if actions is None else list(actions)

    def position(self, state: State) -> Hashable:
        """The state without its clock: two states of one position differ only in steps taken. Lets a search
        refuse to walk in circles."""
        return state

    def chance_outcomes(self, state: State) -> Sequence[tuple[str, float]]:
        """At a ``CHANCE`` state: its outcomes, as actions for :meth:`step`, with their probabilities (sum 1). After at
        most ``MOST_DRAWS`` of them a player is to move or the episode is over."""
        kind = type(self).__name__  # a body of nothing but a raise would make the method abstract to mypy
        raise NotImplementedError(f"{kind} has no chance nodes")

    def information_state(self, state: State, player: int) -> str:
        """All that ``player`` knows: equal for states that the player cannot tell apart. It should hold the player's
        own moves: a search of hidden information plans one answer to equal texts, told apart only by how often they
        came on the way."""
        return self.observation(state, player)

    def resample(self, state: State, player: int, rng: np.random.Generator) -> State:
        """A state drawn from those that ``player`` cannot tell from ``state`` (determinisation)."""
        return state
