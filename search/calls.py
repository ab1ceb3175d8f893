"""Asking policies, critics and evaluators, none of which can be trusted to answer: one batch call for many leaves, and
where it raises, takes too long or answers too little, one call a leaf, so that a bad leaf takes no other with it.

A call that has timed out cannot be stopped: it goes on in a thread of its own whose answer nobody reads, and may still
draw from the generators that it was given.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np


class Asked(Protocol):
    """A leaf about which somebody is asked; ``error`` says in words what went wrong, empty where nothing did."""

    error: str

    @property
    def rng(self) -> np.random.Generator: ...


Question = TypeVar("Question", bound=Asked)


def ask(
    who: str,
    leaves: Sequence[Question],
    call: Callable[[Sequence[Question]], Sequence[Any] | np.ndarray],
    take: Callable[[Question, Any], None],
    seconds: float | None = None,
) -> None:
    """Hand ``take`` the answer of each leaf. Before leaves are asked again one by one, the trees' generators are set
    back. An answer that ``take`` refuses costs its leaf."""
    if not leaves:
        return
    generators = [leaf.rng.bit_generator for leaf in leaves] if len(leaves) > 1 else []
    states = [generator.state for generator in generators]
    try:
        answers = call(leaves) if seconds is None else _within(seconds, call, leaves)
        if len(answers) != len(leaves):
            raise ValueError(f"it gave {len(answers)} answers for {len(leaves)} questions")
    except Exception as error:
        if len(leaves) == 1:
            leaves[0].error = failure(who, error)
            return
        for generator, state in zip(generators, states, strict=True):
            generator.state = state
        for leaf in leaves:
            ask(who, [leaf], call, take, seconds)
        return
    for leaf, answer in zip(leaves, answers, strict=True):
        try:
            take(leaf, answer)
        except Exception as error:
            leaf.error = failure(who, error)


def failure(who: str, error: Exception) -> str:
    """The words that a tree keeps of a failure."""
    return f"{who} failed: {type(error).__name__}: {error}"


def _within(seconds: float, call: Callable[[Any], Any], argument: Any) -> Any:
    answer: list[Any] = []
    raised: list[BaseException] = []

    def work() -> None:
        try:
            answer.append(call(argument))
        except BaseException as error:
            raised.append(error)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(seconds)
    if worker.is_alive():
        raise TimeoutError(f"no answer within call_seconds={seconds}")
    if raised:
        raise raised[0]
    return answer[0]
