"""Asking policies, critics and evaluators, none of which can be trusted to answer: one batch call for many leaves, and
where it raises, takes too long or answers too little, one call a leaf, so that a bad leaf takes no other with it.

A call that has timed out cannot be stopped: it runs on in a thread of its own whose answer nobody reads, and may still
draw from the generators that it was given. At most ``MOST_LATE`` such calls run at once for one search; with as many,
further calls fail without being made.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

import numpy as np

from ..envs.checked import LARGEST

ROUNDING: Final = 1e-6
"""By how much a logged log-probability may lie above 0."""

MOST_LATE: Final = 8
"""Calls of one search that have timed out and are still running, each in a thread of its own."""


class Asked(Protocol):
    """A leaf about which somebody is asked; ``error`` says in words what went wrong, empty where nothing did."""

    error: str

    @property
    def rng(self) -> np.random.Generator: ...


Question = TypeVar("Question", bound=Asked)


class Patience:
    """How long the calls of one search may take (``seconds``; None: for ever), and which of those that took longer are
    still running."""

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = seconds
        self.late: list[threading.Thread] = []

    def call(self, function: Callable[[Any], Any], argument: Any) -> Any:
        """``function(argument)``. Raises TimeoutError where that takes longer, and at once where ``MOST_LATE`` calls
        that took longer are still running."""
        if self.seconds is None:
            return function(argument)
        self.late = [thread for thread in self.late if thread.is_alive()]
        if len(self.late) >= MOST_LATE:
            raise TimeoutError(
                f"not called: {MOST_LATE} calls that took longer than call_seconds={self.seconds} are still running"
            )
        answer: list[Any] = []
        raised: list[BaseException] = []

        def work() -> None:
            try:
                answer.append(function(argument))
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(self.seconds)
        if thread.is_alive():
            self.late.append(thread)
            raise TimeoutError(f"no answer within call_seconds={self.seconds}")
        if raised:
            raise raised[0]
        return answer[0]


def ask(
    who: str,
    leaves: Sequence[Question],
    call: Callable[[Sequence[Question]], Sequence[Any] | np.ndarray],
    take: Callable[[Question, Any], None],
    patience: Patience,
) -> None:
    """Hand ``take`` the answer of each leaf. Before leaves are asked again one by one, the trees' generators are set
    back. An answer that ``take`` refuses costs its leaf."""
    if not leaves:
        return
    generators = [leaf.rng.bit_generator for leaf in leaves] if len(leaves) > 1 else []
    states = [generator.state for generator in generators]
    try:
        answers = patience.call(call, leaves)
        if len(answers) != len(leaves):
            raise ValueError(f"it gave {len(answers)} answers for {len(leaves)} questions")
    except Exception as error:
        if len(leaves) == 1:
            leaves[0].error = failure(who, error)
            return
        for generator, state in zip(generators, states, strict=True):
            generator.state = state
        for leaf in leaves:
            ask(who, [leaf], call, take, patience)
        return
    for leaf, answer in zip(leaves, answers, strict=True):
        try:
            take(leaf, answer)
        except Exception as error:
            leaf.error = failure(who, error)


def failure(who: str, error: Exception) -> str:
    """The words that a tree keeps of a failure, those of the exception where it has some."""
    kind = type(error).__name__
    try:
        return f"{who} failed: {kind}: {error}"
    except Exception:
        return f"{who} failed: {kind}, whose own words cannot be read"


def in_range(numbers: Any) -> bool:
    """Whether all of ``numbers`` (a number or an array) are finite and not beyond ±``LARGEST``."""
    return bool((np.abs(numbers) <= LARGEST).all())
