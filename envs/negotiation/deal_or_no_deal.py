"""Deal or No Deal: two players share out a few books, hats and balls that they value differently.

Rules of Lewis et al. (2017), arXiv:1706.05125. There are three kinds of item, five to seven items in all; each player
has whole-number values by which everything together is worth 10 points, each kind is worth something to somebody and
some kind to both. The dialogue binds nobody: at its end each player, unseen by the other, *selects* what he takes to
have been agreed, and there is a deal only if the two selections share out the items exactly. Otherwise both get 0.
"""

import itertools
import operator
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np

from ..simulator import TERMINAL
from .files import deal_or_no_deal_contexts, fault_of_context
from .offers import Act, counts_of
from .protocol import NOTHING, AlternatingOffers, OfferState

ITEMS: Final = ("book", "hat", "ball")
POINTS: Final = 10  # what everything is worth to each player
_NO_AGREEMENT: Final = "no agreement"

Counts = tuple[int, int, int]


class DealOrNoDealContext(NamedTuple):
    """How many items there are of each kind, and what one of a kind is worth to player 0 and to player 1."""

    counts: Counts
    first: Counts
    second: Counts

    def values(self, player: int) -> Counts:
        """What one item of each kind is worth to ``player``."""
        return self.second if player else self.first


class DealOrNoDealSimulator(AlternatingOffers):
    """Two players share out books, hats and balls that they value differently, by talk and a hidden selection.

    ## Description
    Alice (player 0) and Bob (player 1) see the items and their own values. They talk and make offers in turn, which
    bind nobody, until one selects; then the other selects too, without seeing that selection. A deal needs two
    selections that share out all items exactly.

    ## Observation Space
    Text: items, own values, what was said, the moves that are possible. Values and selections of the other player are
    hidden; a player's own selection is shown to that player.

    ## Action Space
    ``offer[book=1 hat=2 ball=0]`` (what the *speaker* gets, the rest being the other's), ``say: words`` (with
    ``messages``), ``select[book=1 hat=2 ball=0]``, ``select[no agreement]``. With ``messages`` an offer may carry one.
    Without, ``legal_actions`` lists everything.

    ## Rewards
    At the end own points over 10; 0 without a deal.

    ## Starting State
    Contexts are generated (all contexts that the rules allow, counts and then pairs of values equally likely) or read
    from ``contexts``, a file in the format of the original ``selfplay.txt``. ``options={"context": i}`` picks the
    file's i-th, ``options={"context": (counts, values of Alice, values of Bob)}`` gives one.

    ## Episode End
    Both have selected. After ``max_turns`` moves only selections are possible. ``max_invalid`` invalid actions in a row
    end it without a deal.

    ## Arguments
    ``contexts``, ``messages``, ``max_turns``, ``max_invalid``, ``invalid_loses``, ``split``.

    >>> simulator = DealOrNoDealSimulator(messages=False)
    >>> state = simulator.reset(0, {"context": ((1, 2, 3), (4, 3, 0), (1, 0, 3))})
    >>> for action in (
    ...     "offer[book=1 hat=2 ball=0]", "select[book=0 hat=0 ball=3]", "select[book=1 hat=2 ball=0]"
    ... ):
    ...     state = simulator.step(state, action)
    >>> simulator.rewards(state)
    (1.0, 0.9)

    ## Information
    ``success`` and ``deal`` (the selections fit), ``invalid_action``; at the end ``ended`` ("deal"; "walked away":
    somebody selected no agreement; "disagreement": the selections do not fit; "forfeit"), ``agreement`` (Alice's
    items), ``utilities``, ``points``.

    ## Version History
    v0: first version.

    ## Sources
    Lewis et al., Deal or no deal? End-to-end learning for negotiation dialogues, EMNLP 2017, arXiv:1706.05125.
    """

    reset_options: ClassVar[tuple[str, ...]] = ("context",)
    walk_away: ClassVar[bool] = False
    max_actions: ClassVar[int] = 73  # 36 ways to share out seven items, offered or selected, and no agreement

    def __init__(
        self,
        contexts: str | Path | None = None,
        messages: bool = True,
        max_turns: int = 20,
        max_invalid: int = 3,
        invalid_loses: bool = False,
        split: str = "train",
    ) -> None:
        super().__init__(
            messages=messages,
            max_rounds=None,
            max_turns=max_turns,
            max_invalid=max_invalid,
            invalid_loses=invalid_loses,
            split=split,
            talk=True,
        )
        self._arguments = {
            "contexts": contexts,
            "messages": messages,
            "max_turns": max_turns,
            "max_invalid": max_invalid,
            "invalid_loses": invalid_loses,
            "split": split,
        }
        self.contexts = (
            None
            if contexts is None
            else tuple(itertools.starmap(DealOrNoDealContext, deal_or_no_deal_contexts(contexts)))
        )
        self._talking = ("offer", *(("say",) if messages else ()), "select")

    def _draw(self, rng: np.random.Generator, options: dict[str, Any]) -> DealOrNoDealContext:
        asked = options.get("context")
        if isinstance(asked, tuple):
            return _checked(asked)
        if self.contexts is None:
            if asked is not None:
                raise ValueError(
                    f"context={asked!r}; a number needs contexts=FILE, without one give the context itself."
                )
            return _generated(rng)
        count = len(self.contexts)
        if asked is None:
            asked = int(rng.random() * count)
        if not isinstance(asked, int) or not 0 <= asked < count:
            raise ValueError(f"context={asked!r}; the file has contexts 0 to {count - 1}.")
        return self.contexts[asked]

    def _redraw(self, context: DealOrNoDealContext, player: int, rng: np.random.Generator) -> DealOrNoDealContext:
        counts, own = context.counts, context.values(player)
        # A context that was given may leave the other no values by the rules; then it keeps its own.
        others = [values for values in value_vectors(counts) if compatible(own, values)] or [context.values(1 - player)]
        other = others[int(rng.random() * len(others))]
        return DealOrNoDealContext(counts, own, other) if player == 0 else DealOrNoDealContext(counts, other, own)

    def resample(self, state: OfferState, player: int, rng: np.random.Generator) -> OfferState:
        """Values of the other player that the rules allow beside one's own, equally likely. Where the other has
        selected: half the time what fits the last offer, else any selection."""
        state = super().resample(state, player, rng)
        if state.secret == NOTHING or player != state.player:
            return state
        fits = state.offers and rng.random() < 0.5
        drawn = state.offers[-1] >> 1 if fits else int(rng.random() * (_size(state.context.counts) + 1))
        return state._replace(secret=drawn)

    def _verbs(self, state: OfferState) -> tuple[str, ...]:
        over = state.secret != NOTHING or state.turn >= (self.max_turns or 0)
        return ("select",) if over else self._talking

    def _out_of_time(self, state: OfferState) -> OfferState:
        return state  # selections are left

    def _act(self, state: OfferState, player: int, act: Act) -> OfferState:
        if act.verb != "select":
            return super()._act(state, player, act)
        counts = state.context.counts
        if act.terms is not None and act.terms.lower() == _NO_AGREEMENT:
            chosen: int | str = _size(counts)
        else:
            chosen = self._read(state.context, player, act.terms or "")
        if isinstance(chosen, str):
            return self._refuse(state, chosen)
        log = (*state.log, self._spoken(player, "has selected.", act.message))
        turn = state.turn + 1
        if state.secret == NOTHING:
            return state._replace(player=1 - player, turn=turn, secret=chosen, log=log, invalid=0, wrong="")
        fits = chosen == state.secret != _size(counts)
        ended = "deal" if fits else "walked away" if _size(counts) in (chosen, state.secret) else "disagreement"
        deal = chosen if fits else NOTHING
        return state._replace(
            player=TERMINAL, turn=turn, on_table=False, deal=deal, ended=ended, invalid=0, wrong="", log=log
        )

    def _compact(self, context: DealOrNoDealContext, player: int, verbs: tuple[str, ...]) -> tuple[str, ...]:
        return _texts(context.counts, "offer" in verbs)

    def _patterns(self, verbs: tuple[str, ...]) -> list[str]:
        return [*super()._patterns(verbs[:-1]), f"select[{self._form()}]", f"select[{_NO_AGREEMENT}]"]

    def _brief(self, context: DealOrNoDealContext, player: int) -> str:
        counts, own = context.counts, context.values(player)
        items = ", ".join(
            f"{count} × {name} worth {value} each" for name, count, value in zip(ITEMS, counts, own, strict=True)
        )
        return (
            f"You are {self.names[player]} and share out items with {self.names[1 - player]}, whose values differ. "
            f"Items and what they are worth to you: {items}. Terms name what the speaker gets; the rest "
            "is the other's. Talk binds nobody. At the end each selects, unseen, what was agreed; selections that do "
            "not fit leave both with 0."
        )

    def _read(self, context: DealOrNoDealContext, player: int, terms: str) -> int | str:
        return _understood(context.counts, player, terms)

    def _write(self, context: DealOrNoDealContext, player: int, outcome: int) -> str:
        return _terms(context.counts, player, outcome)

    def _form(self) -> str:
        return " ".join(f"{name}=…" for name in ITEMS)

    def _public(self, context: DealOrNoDealContext) -> Any:
        return context.counts

    def outcomes(self, context: DealOrNoDealContext) -> np.ndarray:
        return np.arange(_size(context.counts))

    def value(self, context: DealOrNoDealContext, player: int, outcome: int) -> float:
        counts, own = context.counts, context.values(player)
        share = shares(counts)[outcome]
        if player == 0:
            return sum(a * v for a, v in zip(share, own, strict=True)) / POINTS
        return sum((c - a) * v for c, a, v in zip(counts, share, own, strict=True)) / POINTS

    def _features(self, context: DealOrNoDealContext) -> tuple[np.ndarray, np.ndarray]:
        return np.array(shares(context.counts), dtype=np.float64), np.array(
            [context.counts, (0, 0, 0)], dtype=np.float64
        )

    def info(self, state: OfferState) -> dict[str, Any]:
        """As in the protocol and, at the end, ``points``: what each player scored, 0 to 10."""
        facts = super().info(state)
        if state.player < 0:
            facts["points"] = tuple(round(POINTS * got) for got in facts["utilities"])
        return facts

    def _status(self, state: OfferState, player: int) -> tuple[str, ...]:
        lines = super()._status(state, player)
        if state.secret == NOTHING or state.player != 1 - player:
            return lines
        counts = state.context.counts
        mine = _NO_AGREEMENT if state.secret == _size(counts) else _terms(counts, player, state.secret)
        return (f"You selected: {mine}.", *lines)

    def _ending(self, state: OfferState) -> str:
        if state.deal != NOTHING:
            return f"Deal: Alice gets {self._write(state.context, 0, state.deal)}."
        return "The selections do not fit. No deal." if state.ended == "disagreement" else "No deal."

    def _money(self, state: OfferState, player: int) -> str:
        return f"{round(POINTS * self.utilities(state)[player])} points"

    def accept_action(self, state: OfferState) -> str:
        """Selects what fits the last offer."""
        return f"select[{self._write(state.context, state.player, state.offers[-1] >> 1)}]"

    def is_last_answer(self, state: OfferState) -> bool:
        """Whether this is the last move in which the player may still talk."""
        return state.turn >= (self.max_turns or 0) - 2

    def final_action(self, state: OfferState) -> str:
        """When talk is over: a selection of what the player offered last itself, if that was the last offer."""
        if self._verbs(state) != ("select",):
            return ""
        offered = state.offers and state.offers[-1] & 1 == state.player
        return self.accept_action(state) if offered else self.give_up_action(state)

    def standing(self, state: OfferState) -> int:
        """The other player's offer, if it was the last; its own last offer is nothing to take."""
        mine = state.offers and state.offers[-1] & 1 == state.player
        return NOTHING if mine else super().standing(state)

    def give_up_action(self, state: OfferState) -> str:
        """The action of a player who would rather have no deal."""
        return f"select[{_NO_AGREEMENT}]"


@lru_cache(maxsize=1024)
def shares(counts: Counts) -> tuple[Counts, ...]:
    """What player 0 may get, in the order of outcomes."""
    return tuple(itertools.product(*(range(count + 1) for count in counts)))  # type: ignore[arg-type]


@lru_cache(maxsize=1024)
def value_vectors(counts: Counts) -> tuple[Counts, ...]:
    """All values by which everything is worth 10 points."""
    options = itertools.product(*(range(POINTS // count + 1 if count else 1) for count in counts))
    return tuple(v for v in options if sum(c * x for c, x in zip(counts, v, strict=True)) == POINTS)  # type: ignore


def compatible(values: Counts, others: Counts) -> bool:
    """Whether each kind is worth something to somebody, and some kind to both."""
    pairs = list(zip(values, others, strict=True))
    return all(a or b for a, b in pairs) and any(a and b for a, b in pairs)


@lru_cache(maxsize=1)
def _all_counts() -> tuple[Counts, ...]:
    """One to four of each kind, five to seven in all, for which there are values."""
    counted = itertools.product(range(1, 5), repeat=3)
    return tuple(c for c in counted if 5 <= sum(c) <= 7 and _value_pairs(c))  # type: ignore[arg-type, misc]


@lru_cache(maxsize=1024)
def _value_pairs(counts: Counts) -> tuple[tuple[Counts, Counts], ...]:
    vectors = value_vectors(counts)
    return tuple((a, b) for a in vectors for b in vectors if compatible(a, b))


def _generated(rng: np.random.Generator) -> DealOrNoDealContext:
    every = _all_counts()
    counts = every[int(rng.random() * len(every))]
    pairs = _value_pairs(counts)
    return DealOrNoDealContext(counts, *pairs[int(rng.random() * len(pairs))])


def _checked(context: tuple[Any, ...]) -> DealOrNoDealContext:
    expected = "expected (counts, values, values), three whole numbers each"
    try:
        counts, *values = (tuple(map(operator.index, part)) for part in context)
    except TypeError:
        raise ValueError(f"context={context!r}; {expected}.") from None
    fault = fault_of_context(counts, *values)
    if len(values) != 2 or any(len(part) != 3 for part in (counts, *values)):
        fault = expected
    if fault:
        raise ValueError(f"context={context!r}; {fault}.")
    return DealOrNoDealContext(counts, *values)  # type: ignore[arg-type]  # three numbers each, as checked


def _size(counts: Counts) -> int:
    return (counts[0] + 1) * (counts[1] + 1) * (counts[2] + 1)


@lru_cache(maxsize=65_536)
def _understood(counts: Counts, player: int, terms: str) -> int | str:
    taken = counts_of(terms, ITEMS, counts)
    if isinstance(taken, str):
        return taken
    index = 0
    for count, own in zip(counts, taken, strict=True):
        index = index * (count + 1) + (own if player == 0 else count - own)
    return index


@lru_cache(maxsize=65_536)
def _terms(counts: Counts, player: int, outcome: int) -> str:
    share = shares(counts)[outcome]
    taken = share if player == 0 else tuple(c - s for c, s in zip(counts, share, strict=True))
    return " ".join(f"{name}={count}" for name, count in zip(ITEMS, taken, strict=True))


@lru_cache(maxsize=1024)
def _texts(counts: Counts, talking: bool) -> tuple[str, ...]:
    """The compact form: offers and selections (the same for both players, since terms are the speaker's share)."""
    terms = [_terms(counts, 0, outcome) for outcome in range(_size(counts))]
    selections = [f"select[{text}]" for text in terms] + [f"select[{_NO_AGREEMENT}]"]
    return (*(f"offer[{text}]" for text in terms), *selections) if talking else tuple(selections)
