"""The checks of what ``reset`` is asked for: an option that an environment does not know is refused, not ignored, and
so is a seed that is no whole number.

Every simulator of ours calls :func:`checked_options` first; the shells call :func:`checked_seed`. Not handled here: the
values of options, which each simulator checks by itself, and the options of ``gym.make``, which ``registry`` compares
with the simulator's parameters.
"""

import operator
from collections.abc import Mapping
from typing import Any

from gymnasium.error import Error


def checked_options(simulator: Any, options: Mapping[str, Any] | None, *accepted: str) -> dict[str, Any]:
    """``options`` of ``simulator.reset`` as a fresh dict; ``ValueError`` where one is not among the ``accepted``.

    >>> checked_options("TicTacToe", None)
    {}
    >>> checked_options("WebShopSimulator", {"gaol": 3}, "goal")
    Traceback (most recent call last):
    ValueError: WebShopSimulator: unknown reset option 'gaol'; accepted: 'goal'.
    """
    if not options:
        return {}
    name = simulator if isinstance(simulator, str) else type(simulator).__name__
    if not isinstance(options, Mapping):
        raise ValueError(f"{name}: reset options {options!r}; expected a mapping from name to value.")
    unknown = [option for option in options if option not in accepted]
    if unknown:
        known = ", ".join(map(repr, accepted)) or "none"
        raise ValueError(f"{name}: unknown reset option {', '.join(map(repr, unknown))}; accepted: {known}.")
    return dict(options)


def checked_seed(seed: Any) -> int:
    """``seed`` as an ``int``: a whole number of at least 0, Python's or numpy's. Raises Gymnasium's ``Error``, as
    ``gymnasium.Env.reset`` does.

    >>> import numpy as np
    >>> checked_seed(np.int64(3))
    3
    """
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if number < 0:
        raise Error(f"seed={seed!r}: expected a whole number of at least 0, such as 3, or None for any.")
    return number
