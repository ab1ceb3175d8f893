"""Deals over several issues at once, with linear utilities and reservation values.

The standard domain of automated negotiation (Raiffa 1982; Faratin, Sierra and Jennings 1998; the ANAC competitions): a
deal chooses one option for each issue, and player i's utility is the sum of points for the chosen options over 100,
where the best options of all issues add up to 100. Without a deal each gets a reservation value. Preferences are
private; since the players weigh issues differently, there are deals that are better for both than meeting in the middle
everywhere.

Not handled: utilities that are not sums over issues, issues with continuous options.
"""

import itertools
import math
from collections.abc import Mapping
from operator import getitem
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from ..characters import within_planes
from .files import issue_domain
from .offers import named_values
from .protocol import OfferState, SameOffers

BEST: Final = 100  # points of each player's best deal
MOST_OUTCOMES: Final = 10_000
HIGHEST_RESERVATION: Final = 40  # points; drawn reservation values lie between 0 and this
_JOB: Final[Mapping[str, tuple[str, ...]]] = {
    "salary": ("60k", "65k", "70k", "75k", "80k"),
    "remote": ("none", "1-day", "2-days", "3-days"),
    "holiday": ("20-days", "25-days", "30-days"),
    "start": ("march", "may", "july", "september"),
}

Points = tuple[tuple[int, ...], ...]  # for each issue the points of its options


class MultiIssueContext(NamedTuple):
    """The points of player 0 and of player 1, and what each gets without a deal."""

    first: Points
    second: Points
    first_reservation: int
    second_reservation: int

    def points(self, player: int) -> Points:
        """The points of ``player``."""
        return self.second if player else self.first

    def reservation(self, player: int) -> int:
        """The points that ``player`` gets without a deal."""
        return self.second_reservation if player else self.first_reservation


class MultiIssueSimulator(SameOffers):
    """Two players agree on an option for each of several issues, which they value and weigh differently.

    ## Description
    By default a job contract: salary, remote work, holiday, start. Alice (player 0) and Bob (player 1) make offers in
    turn; an offer names an option for every issue, and may be accepted or answered by another one.

    ## Observation Space
    Text: issues, own points for each option, own reservation value, what was said, the moves that are possible. The
    other's points and reservation value are hidden.

    ## Action Space
    ``offer[salary=70k remote=2-days holiday=25-days start=may]``, ``accept``, ``walk away``, ``say: words`` (with
    ``messages``). With ``messages`` every act may carry one. Without, ``legal_actions`` lists everything.

    ## Rewards
    At the end own points over 100 times ``discount`` to the power of (offers − 1); without a deal the own reservation
    value, undiscounted.

    ## Starting State
    Weights, points and reservation values (0 to 0.4) are drawn by the seed, unless ``domain``, a JSON file or its
    content, gives them.

    ## Episode End
    A deal, walking away, ``max_turns`` moves (truncation), or ``max_invalid`` invalid actions in a row.

    ## Arguments
    ``domain`` (``{"issues": {name: [option, …]}, "points": [{name: [points]}, {…}], "reservation": [r, r]}``, the last
    two optional), ``discount``, ``messages``, ``max_turns``, ``max_invalid``, ``invalid_loses``, ``split``.

    >>> simulator = MultiIssueSimulator(
    ...     domain={
    ...         "issues": {"price": ["low", "high"], "color": ["red", "blue"]},
    ...         "points": [{"price": [0, 70], "color": [30, 0]}, {"price": [40, 0], "color": [0, 60]}],
    ...         "reservation": [20, 20],
    ...     },
    ...     messages=False,
    ... )
    >>> state = simulator.reset(0)
    >>> for action in ("offer[price=high color=blue]", "accept"):
    ...     state = simulator.step(state, action)
    >>> simulator.rewards(state)
    (0.7, 0.6)

    ## Information
    ``success`` (a deal at or above both reservation values), ``invalid_action``, ``deal``; at the end ``ended``,
    ``agreement``, ``utilities``.

    ## Version History
    v0: first version.

    ## Sources
    Raiffa, The art and science of negotiation, 1982; Faratin, Sierra and Jennings, Negotiation decision functions for
    autonomous agents, Robotics and Autonomous Systems 1998.
    """

    def __init__(
        self,
        domain: str | Path | Mapping[str, Any] | None = None,
        discount: float = 1.0,
        messages: bool = True,
        max_turns: int = 20,
        max_invalid: int = 3,
        invalid_loses: bool = False,
        split: str = "train",
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__(
            messages=messages,
            max_rounds=None,
            max_turns=max_turns,
            max_invalid=max_invalid,
            invalid_loses=invalid_loses,
            split=split,
            talk=True,
        )
        self._arguments = arguments
        if not 0.0 < discount <= 1.0:
            raise ValueError(f"discount={discount!r}; expected a number above 0 and at most 1.")
        self.discount = discount
        content = (
            {"issues": _JOB} if domain is None else domain if isinstance(domain, Mapping) else issue_domain(domain)
        )
        self.issues, self._options = _issues(content.get("issues"))
        self._sizes = tuple(map(len, self._options))
        self._deals = list(itertools.product(*map(range, self._sizes)))
        self._terms = [
            " ".join(f"{name}={values[i]}" for name, values, i in zip(self.issues, self._options, deal, strict=True))
            for deal in self._deals
        ]
        self._index = {terms: outcome for outcome, terms in enumerate(self._terms)}
        self._points_form = "; ".join(
            f"{name}: " + ", ".join(f"{option} {{}}" for option in values)
            for name, values in zip(self.issues, self._options, strict=True)
        )
        self._one_hot = _one_hot(self._deals, self._sizes)
        self.fixed_points = _given_points(content.get("points"), self.issues, self._sizes)
        self.fixed_reservation = _given_reservation(content.get("reservation"))

    def _draw(self, rng: np.random.Generator, options: dict[str, Any]) -> MultiIssueContext:
        points = self.fixed_points or (drawn_points(self._sizes, rng), drawn_points(self._sizes, rng))
        return MultiIssueContext(*points, *(self.fixed_reservation or (_reservation(rng), _reservation(rng))))

    def _redraw(self, context: MultiIssueContext, player: int, rng: np.random.Generator) -> MultiIssueContext:
        """The other's points and reservation value, drawn anew as by the generator."""
        own, kept = context.points(player), context.reservation(player)
        other, reserved = drawn_points(self._sizes, rng), _reservation(rng)
        first, second = (own, other) if player == 0 else (other, own)
        return MultiIssueContext(first, second, *((kept, reserved) if player == 0 else (reserved, kept)))

    def _brief(self, context: MultiIssueContext, player: int) -> str:
        points = self._points_form.format(*itertools.chain(*context.points(player)))
        worth = (
            "" if self.discount == 1.0 else f" Each offer after the first leaves {self.discount:g} of a deal's worth."
        )
        return (
            f"You are {self.names[player]} and negotiate with {self.names[1 - player]} over {', '.join(self.issues)}. "
            f"Your points ({BEST} for your best deal), which differ from the other's: {points}. Without a "
            f"deal you get {context.reservation(player)} points.{worth}"
        )

    def _read(self, context: MultiIssueContext, player: int, terms: str) -> int | str:
        known = self._index.get(terms)
        if known is not None:
            return known
        values = named_values(terms, self.issues)
        if isinstance(values, str):
            return values
        outcome = 0
        for name, options, value in zip(self.issues, self._options, values, strict=True):
            if value.lower() not in options:
                return f"{name} has the options {', '.join(options)}."
            outcome = outcome * len(options) + options.index(value.lower())
        return outcome

    def _write(self, context: MultiIssueContext, player: int, outcome: int) -> str:
        return self._terms[outcome]

    def _form(self) -> str:
        return " ".join(f"{name}=…" for name in self.issues)

    def outcomes(self, context: MultiIssueContext) -> np.ndarray:
        return np.arange(len(self._deals))

    def value(self, context: MultiIssueContext, player: int, outcome: int) -> float:
        return sum(map(getitem, context.points(player), self._deals[outcome])) / BEST

    def disagreement(self, context: MultiIssueContext) -> tuple[float, float]:
        return (context.first_reservation / BEST, context.second_reservation / BEST)

    def _discount(self, state: OfferState, player: int) -> float:
        return self.discount ** (len(state.offers) - 1)

    def _features(self, context: MultiIssueContext) -> tuple[np.ndarray, np.ndarray]:
        """One number for each option, and no presumption about what the other wants: all lie equally far."""
        return self._one_hot, np.zeros((2, self._one_hot.shape[1]))

    def _money(self, state: OfferState, player: int) -> str:
        return f"{BEST * self.utilities(state)[player]:.4g} points"


def drawn_points(sizes: tuple[int, ...], rng: np.random.Generator) -> Points:
    """Points of a player, whole numbers. Weights of the issues are the gaps between uniform cuts of 0 … 100 (a flat
    Dirichlet distribution); for each issue uniform values are stretched so that the worst option has 0 and the best the
    issue's whole weight."""
    issues = len(sizes)
    luck = rng.random(issues - 1 + sum(sizes)).tolist()
    cuts = [0, *sorted([int(u * (BEST + 1)) for u in luck[: issues - 1]]), BEST]
    rows = []
    start = issues - 1
    for i, size in enumerate(sizes):
        values = luck[start : start + size]
        start += size
        low = min(values)
        stretch = (cuts[i + 1] - cuts[i]) / ((max(values) - low) or 1.0)
        rows.append(tuple([round(stretch * (value - low)) for value in values]))
    return tuple(rows)


def _reservation(rng: np.random.Generator) -> int:
    return int(rng.random() * (HIGHEST_RESERVATION + 1))


def _issues(issues: Any) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    if not isinstance(issues, Mapping) or not all(isinstance(values, list | tuple) for values in issues.values()):
        raise ValueError(f"issues={issues!r:.200}; expected an object with a list of options for each name.")
    names = tuple(str(name).lower() for name in issues)
    options = tuple(tuple(str(option).lower() for option in values) for values in issues.values())
    for word in (*names, *itertools.chain(*options)):
        if not word.isprintable() or not word or word != within_planes(word) or set(word) & set(' ,=[]{}:"…'):
            raise ValueError(
                f"issues: {word!r} cannot be written in an offer; use words without blanks and , = : [ ] {{ }}"
            )
    if len(set(names)) != len(names) or any(len(values) < 2 or len(set(values)) != len(values) for values in options):
        raise ValueError("issues: expected different names, each with at least two different options.")
    total = math.prod(map(len, options))
    if not 2 <= total <= MOST_OUTCOMES:
        found = total if total < 10**9 else "a billion or more"
        raise ValueError(f"issues: {found} possible deals; expected 2 to {MOST_OUTCOMES:,}.")
    return names, options


def _given_points(points: Any, names: tuple[str, ...], sizes: tuple[int, ...]) -> tuple[Points, Points] | None:
    if points is None:
        return None
    expected = f"points: expected two objects with whole numbers from 0 for the options of {', '.join(names)}."
    if not isinstance(points, list | tuple) or len(points) != 2:
        raise ValueError(expected)
    both = []
    for side in points:
        listed = isinstance(side, Mapping) and all(isinstance(row, list | tuple) for row in side.values())
        rows = tuple(tuple(side.get(name, ())) for name in names) if listed else ()
        whole = all(type(value) is int and value >= 0 for row in rows for value in row)
        if not whole or tuple(map(len, rows)) != sizes or len(side) != len(names):
            raise ValueError(expected)
        if sum(map(max, rows)) != BEST:
            raise ValueError(f"points: the best options add up to {sum(map(max, rows))}; expected {BEST}.")
        both.append(rows)
    return (both[0], both[1])


def _given_reservation(values: Any) -> tuple[int, int] | None:
    if values is None:
        return None
    whole = isinstance(values, list | tuple) and all(type(value) is int and 0 <= value <= BEST for value in values)
    if not whole or len(values) != 2:
        raise ValueError(f"reservation={values!r}; expected two whole numbers from 0 to {BEST}.")
    return (values[0], values[1])


def _one_hot(deals: list[tuple[int, ...]], sizes: tuple[int, ...]) -> np.ndarray:
    """Float64 ``[deals, sum of sizes]``."""
    return np.concatenate([np.eye(size)[[deal[i] for deal in deals]] for i, size in enumerate(sizes)], axis=1)
