"""CaSiNo: two campsite neighbours share out three packages each of food, water and firewood.

Rules of Chawla et al. (2021), arXiv:2103.15721. Each player ranks the three issues; a package of the first is worth 5
points, of the second 4, of the third 3 (36 in all). One player submits a deal, which the other accepts or rejects; who
walks away leaves both with 5 points. An offer here is a submitted deal, and needs an answer.
"""

import itertools
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np

from .files import CASINO_ITEMS, casino_deals
from .offers import counts_of
from .protocol import OfferState, SameOffers

PACKAGES: Final = (3, 3, 3)
MOST_POINTS: Final = 36
WALK_AWAY_POINTS: Final = 5
_SHARES: Final = tuple(itertools.product(range(4), repeat=3))
_ORDERS: Final = tuple(itertools.permutations((5, 4, 3)))
_REASONS: Final = {  # generated reasons, two for each item; a file brings its own
    "food": ("there are small children with us", "we plan long walks every day"),
    "water": ("the stream nearby has run dry", "it will be hot all week"),
    "firewood": ("the nights are cold up there", "all the wood around is wet"),
}


class CaSiNoContext(NamedTuple):
    """What a package of each issue is worth to player 0 and to player 1, and the reasons of each, by falling worth."""

    first: tuple[int, ...]
    second: tuple[int, ...]
    first_reasons: tuple[str, ...]
    second_reasons: tuple[str, ...]

    def values(self, player: int) -> tuple[int, ...]:
        """What a package of each issue is worth to ``player``."""
        return self.second if player else self.first

    def reasons(self, player: int) -> tuple[str, ...]:
        """Why, for the first, second and third rank of ``player``."""
        return self.second_reasons if player else self.first_reasons


class CaSiNoSimulator(SameOffers):
    """Two campsite neighbours share out food, water and firewood, of which each needs another most.

    ## Description
    Three packages of each. Alice (player 0) and Bob (player 1) talk and submit deals in turn; a submitted deal must be
    accepted or rejected (who rejects moves again), and each may walk away at any time.

    ## Observation Space
    Text: own ranking with the reasons for it, what was said, the moves that are possible. The other's ranking is
    hidden.

    ## Action Space
    ``offer[food=2 water=1 firewood=0]`` (what the *speaker* gets, the rest being the other's), ``say: words`` (with
    ``messages``), ``walk away``; to an offer ``accept``, ``reject``, ``walk away``. With ``messages`` every act may
    carry one. Without, ``legal_actions`` lists everything.

    ## Rewards
    At the end own points over 36; 5/36 for both without a deal.

    ## Starting State
    Rankings and reasons are drawn by the seed, or come from ``contexts``, a CaSiNo JSON file; ``options={"context":
    i}`` picks the file's i-th, ``options={"context": (values of Alice, values of Bob)}`` gives values of food, water
    and firewood.

    ## Episode End
    A deal, walking away, ``max_turns`` moves (truncation, counted as walking away), or ``max_invalid`` invalid actions
    in a row.

    ## Arguments
    ``contexts``, ``messages``, ``max_turns``, ``max_invalid``, ``invalid_loses``.

    >>> simulator = CaSiNoSimulator(messages=False)
    >>> state = simulator.reset(0, {"context": ((5, 4, 3), (3, 4, 5))})
    >>> for action in ("offer[food=3 water=2 firewood=0]", "accept"):
    ...     state = simulator.step(state, action)
    >>> simulator.info(state)["points"]
    (23, 19)

    ## Information
    ``success`` (a deal that gives both at least 5 points), ``invalid_action``, ``deal``; at the end ``ended``,
    ``agreement`` (Alice's packages), ``utilities``, ``points``.

    ## Version History
    v0: first version.

    ## Sources
    Chawla et al., CaSiNo: A corpus of campsite negotiation dialogues, NAACL 2021, arXiv:2103.15721.
    """

    reset_options: ClassVar[tuple[str, ...]] = ("context",)
    counter: ClassVar[bool] = False

    def __init__(
        self,
        contexts: str | Path | None = None,
        messages: bool = True,
        max_turns: int = 30,
        max_invalid: int = 3,
        invalid_loses: bool = False,
    ) -> None:
        super().__init__(
            messages=messages,
            max_rounds=None,
            max_turns=max_turns,
            max_invalid=max_invalid,
            invalid_loses=invalid_loses,
            talk=True,
        )
        self._arguments = {
            "contexts": contexts,
            "messages": messages,
            "max_turns": max_turns,
            "max_invalid": max_invalid,
            "invalid_loses": invalid_loses,
        }
        self.contexts = (
            None
            if contexts is None
            else [CaSiNoContext(*deal.values, *deal.reasons) for deal in casino_deals(contexts)]
        )

    def _draw(self, rng: np.random.Generator, options: dict[str, Any]) -> CaSiNoContext:
        asked = options.get("context")
        if isinstance(asked, tuple):
            return _checked(asked, rng)
        if self.contexts is None:
            if asked is not None:
                raise ValueError(f"context={asked!r}; a number needs contexts=FILE, without one give the values.")
            first, second = (_ORDERS[int(rng.random() * 6)] for _ in range(2))
            return CaSiNoContext(first, second, _reasons(first, rng), _reasons(second, rng))
        count = len(self.contexts)
        if asked is None:
            asked = int(rng.random() * count)
        if not isinstance(asked, int) or not 0 <= asked < count:
            raise ValueError(f"context={asked!r}; the file has contexts 0 to {count - 1}.")
        return self.contexts[asked]

    def _redraw(self, context: CaSiNoContext, player: int, rng: np.random.Generator) -> CaSiNoContext:
        """Any of the six rankings for the other player, each as likely."""
        own, why = context.values(player), context.reasons(player)
        other = _ORDERS[int(rng.random() * 6)]
        reasons = _reasons(other, rng)
        return CaSiNoContext(own, other, why, reasons) if player == 0 else CaSiNoContext(other, own, reasons, why)

    def _brief(self, context: CaSiNoContext, player: int) -> str:
        own, reasons = context.values(player), context.reasons(player)
        ranked = sorted(zip(own, CASINO_ITEMS, strict=True), reverse=True)
        wishes = "; ".join(
            f"{name}, {value} points a package ({why})" for (value, name), why in zip(ranked, reasons, strict=True)
        )
        return (
            f"You are {self.names[player]} and share out camping supplies with {self.names[1 - player]}, three "
            f"packages each of food, water and firewood. To you: {wishes}. Terms name what the speaker gets; the rest "
            f"is the other's. If somebody walks away, both get {WALK_AWAY_POINTS} points."
        )

    def _read(self, context: CaSiNoContext, player: int, terms: str) -> int | str:
        taken = counts_of(terms, CASINO_ITEMS, PACKAGES)
        if isinstance(taken, str):
            return taken
        food, water, firewood = taken if player == 0 else [3 - count for count in taken]
        return 16 * food + 4 * water + firewood

    def _write(self, context: CaSiNoContext, player: int, outcome: int) -> str:
        return _terms(player, outcome)

    def _form(self) -> str:
        return " ".join(f"{name}=…" for name in CASINO_ITEMS)

    def outcomes(self, context: CaSiNoContext) -> np.ndarray:
        return np.arange(len(_SHARES))

    def value(self, context: CaSiNoContext, player: int, outcome: int) -> float:
        share = _SHARES[outcome]
        food, water, firewood = share if player == 0 else [3 - count for count in share]
        values = context.values(player)
        return (food * values[0] + water * values[1] + firewood * values[2]) / MOST_POINTS

    def disagreement(self, context: CaSiNoContext) -> tuple[float, float]:
        return (WALK_AWAY_POINTS / MOST_POINTS, WALK_AWAY_POINTS / MOST_POINTS)

    def _features(self, context: CaSiNoContext) -> tuple[np.ndarray, np.ndarray]:
        return np.array(_SHARES, dtype=np.float64), np.array([PACKAGES, (0, 0, 0)], dtype=np.float64)

    def info(self, state: OfferState) -> dict[str, Any]:
        """As in the protocol and, at the end, ``points``: what each player scored, 0 to 36."""
        facts = super().info(state)
        if state.player < 0:
            facts["points"] = tuple(round(MOST_POINTS * got) for got in facts["utilities"])
        return facts

    def _money(self, state: OfferState, player: int) -> str:
        return f"{round(MOST_POINTS * self.utilities(state)[player])} points"


@lru_cache(maxsize=256)
def _terms(player: int, outcome: int) -> str:
    share = _SHARES[outcome]
    return " ".join(
        f"{name}={count if player == 0 else 3 - count}" for name, count in zip(CASINO_ITEMS, share, strict=True)
    )


def _reasons(values: tuple[int, ...], rng: np.random.Generator) -> tuple[str, ...]:
    """A reason each, for the first, second and third rank."""
    return tuple(_REASONS[name][int(rng.random() * 2)] for name in _ranked(values))


@lru_cache(maxsize=6)
def _ranked(values: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(name for _, name in sorted(zip(values, CASINO_ITEMS, strict=True), reverse=True))


def _checked(context: tuple[Any, ...], rng: np.random.Generator) -> CaSiNoContext:
    values = [tuple(part) for part in context]
    if len(values) != 2 or any(sorted(part) != [3, 4, 5] for part in values):
        raise ValueError(f"context={context!r}; expected two orders of the values 5, 4 and 3.")
    first, second = values
    return CaSiNoContext(first, second, _reasons(first, rng), _reasons(second, rng))
