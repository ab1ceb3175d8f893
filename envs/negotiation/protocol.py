"""Two players exchange offers until one is accepted or they part: the rules that all domains of this folder share.

The protocol is that of alternating offers (Rubinstein 1982; Rosenschein and Zlotkin 1994). An offer stands until the
other player answers it; any answer but ``accept`` ends it, so that a deal is always an offer of one player which the
other one accepted, and nobody can accept an offer of his own or one that has been answered. Two variants:

- *answer* (``counter=False``): an offer must be accepted or rejected (or left for good); who rejects moves again, and a
  new round begins. GLEE's games and CaSiNo are played so.
- *counter* (``counter=True``): an offer may be answered by an offer.

An outcome is a whole number: an amount in cents, or a place in a list of outcomes. Domains say what it means, in words
and in utility, by the hooks of :class:`AlternatingOffers`. Not handled: more than two players, offers in parallel,
deals that bind only a part of the issues.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np

from ..arguments import checked_options
from ..opponents import borrow_generator, return_generator
from ..simulator import TERMINAL, Simulator
from .offers import LONGEST_ACTION, Act, clean_message, parse, quoted
from .utilities import is_pareto_optimal

SPLITS: Final = ("train", "validation", "test")
NOTHING: Final = -1  # no outcome
_SHOWN = 8  # lines of the log in an observation; information_state has them all
_ENDS = {"accept": "deal", "walk away": "walked away"}
_REMEMBERED = 16_384  # contexts whose texts and tables a simulator keeps

Context = Any  # a tuple, with a domain's names for its parts


class OfferState(NamedTuple):
    """``context`` is what was drawn at the start (private values included), ``player`` who moves (``TERMINAL`` after
    the end), ``round`` one more than the rejections so far, ``turn`` the valid moves so far, ``offers`` all offers in
    order as ``2 · outcome + player``; the last one stands while ``on_table``. ``deal`` is the agreed outcome or
    ``NOTHING``, ``ended`` how it ended (empty before), ``invalid`` the invalid actions in a row, ``wrong`` the fault of
    the last one, ``secret`` a domain's hidden choice, ``log`` what both have heard."""

    context: Context
    player: int
    round: int = 1
    turn: int = 0
    offers: tuple[int, ...] = ()
    on_table: bool = False
    deal: int = NOTHING
    ended: str = ""
    invalid: int = 0
    wrong: str = ""
    secret: int = NOTHING
    log: tuple[str, ...] = ()


new_state: Final = partial(tuple.__new__, OfferState)  # from all fields in order; half the time of keywords


class Choices(NamedTuple):
    """A player's outcomes by falling own value: ``outcomes`` int64 ``[n]``, ``values`` float64 ``[n]`` with no deal
    at 0 and the best outcome at 1, ``features`` float64 ``[n, k]`` in which similar outcomes lie near, ``wish``
    float64 ``[k]``: where the player presumes the other one's best outcome, before having heard an offer."""

    outcomes: np.ndarray
    values: np.ndarray
    features: np.ndarray
    wish: np.ndarray


class AlternatingOffers(Simulator[OfferState]):
    """The protocol; a domain subclasses it and writes the hooks (methods that raise ``NotImplementedError`` here)."""

    players = 2
    hides = True
    names: ClassVar[tuple[str, str]] = ("Alice", "Bob")
    reset_options: ClassVar[tuple[str, ...]] = ()  # the names of options that ``reset`` takes
    counter: ClassVar[bool] = True
    quiet_verbs: ClassVar[frozenset[str]] = frozenset()  # acts that carry no message even where messages are allowed
    walk_away: ClassVar[bool] = True  # whether a player may leave

    def __init__(
        self,
        *,
        messages: bool,
        max_rounds: int | None,
        max_turns: int | None,
        max_invalid: int,
        talk: bool,
        split: str = "train",
        first: int = 0,
        invalid_loses: bool = False,
    ) -> None:
        """``max_rounds`` bounds rejections, ``max_turns`` moves; ``None`` leaves a bound out (one must be given).
        ``talk`` makes ``say`` possible where messages are; ``first`` moves first. ``max_invalid`` invalid actions in a
        row end the negotiation; with ``invalid_loses`` the player gets 1 less than without a deal."""
        for name, value in (("max_rounds", max_rounds), ("max_turns", max_turns), ("max_invalid", max_invalid)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name}={value!r}; expected a whole number of at least 1.")
        if split not in SPLITS:
            raise ValueError(f"split={split!r}; expected one of {', '.join(map(repr, SPLITS))}.")
        self.messages, self.max_rounds, self.max_turns = messages, max_rounds, max_turns
        self.max_invalid, self.invalid_loses, self.split, self.first = max_invalid, invalid_loses, split, first
        say = ("say",) if talk and messages else ()
        away = ("walk away",) if self.walk_away else ()
        self._opening = ("offer", *say, *away)
        self._answering = ("accept", "offer", *say, *away) if self.counter else ("accept", "reject", *away)
        self._arguments: dict[str, Any] = {}
        self._kept: dict[Any, Any] = {}
        self._latest: list[tuple[Any, tuple[str, dict[str, int]]]] = [(None, ("", {}))] * self.players

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **self._arguments), ()

    # What a domain must say.

    def _draw(self, rng: np.random.Generator, options: dict[str, Any]) -> Context:
        """The context of an episode; ``options`` are those of ``reset``, whose names :attr:`reset_options` lists."""
        raise NotImplementedError

    def _redraw(self, context: Context, player: int, rng: np.random.Generator) -> Context:
        """A context that ``player`` cannot tell from ``context``; the same one where nothing is hidden."""
        return context

    def _brief(self, context: Context, player: int) -> str:
        """The rules and values as ``player`` knows them."""
        raise NotImplementedError

    def _read(self, context: Context, player: int, terms: str) -> int | str:
        """The outcome that ``player`` means by ``terms``, or the fault."""
        raise NotImplementedError

    def _write(self, context: Context, player: int, outcome: int) -> str:
        """The terms by which ``player`` means ``outcome``."""
        raise NotImplementedError

    def _form(self) -> str:
        """The terms' form, for prompts and :meth:`admissible_commands`, each gap an ellipsis."""
        raise NotImplementedError

    def outcomes(self, context: Context) -> np.ndarray:
        """The outcomes of the compact form, int64 ``[n]``; all outcomes where the domain is finite."""
        raise NotImplementedError

    def value(self, context: Context, player: int, outcome: int) -> float:
        """What ``outcome`` is worth to ``player`` when agreed in the first round."""
        raise NotImplementedError

    def expected_value(self, context: Context, player: int, outcome: int) -> float:
        """:meth:`value` as ``player`` expects it, where it depends on what the other one hides."""
        return self.value(context, player, outcome)

    def disagreement(self, context: Context) -> tuple[float, float]:
        """What the players get without a deal."""
        return (0.0, 0.0)

    def _discount(self, state: OfferState, player: int) -> float:
        """What is left of a deal's worth to ``player`` in ``state``."""
        return 1.0

    def _features(self, context: Context) -> tuple[np.ndarray, np.ndarray]:
        """Features of :meth:`outcomes`, ``[n, k]``, and the presumed best outcome of each player, ``[2, k]``."""
        raise NotImplementedError

    # The rules.

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> OfferState:
        """The episode of ``seed`` in this simulator's split; each split has a stream of its own."""
        asked = checked_options(self, options, *self.reset_options)
        rng = borrow_generator(seed, SPLITS.index(self.split))
        context = self._draw(rng, asked)
        return_generator(rng)
        return OfferState(context, self.first)

    def current_player(self, state: OfferState) -> int:
        return state.player

    def truncated(self, state: OfferState) -> bool:
        return state.ended == "time"

    def step(self, state: OfferState, action: str) -> OfferState:
        """The state after ``action``; a finished negotiation stays as it is."""
        player = state.player
        if player < 0:
            return state
        if len(action) <= LONGEST_ACTION:  # a listed offer needs no parsing
            offer, _, message = action.partition(":")
            outcome = self._known(state.context, player)[1].get(offer)
            if outcome is not None and "offer" in self._verbs(state) and (self.messages or not message):
                said = self._spoken(player, offer, clean_message(message) if message else "")
                return self._offered(state, player, outcome, said)
        act = parse(action)
        fault = act.fault or self._misplaced(state, act)
        return self._refuse(state, fault) if fault else self._act(state, player, act)

    def _misplaced(self, state: OfferState, act: Act) -> str:
        verbs = self._verbs(state)
        verb = act.verb
        if verb not in verbs:
            return f"{verb} is not possible now; possible: {', '.join(verbs)}."
        if act.message:
            if not self.messages:
                return "messages are not allowed in this negotiation; write the act alone."
            if verb in self.quiet_verbs:
                return f"{verb} carries no message in this negotiation."
        return ""

    def _act(self, state: OfferState, player: int, act: Act) -> OfferState:
        context, _, number, turn, offers, _, _, _, _, _, secret, log = state
        verb = act.verb
        if verb == "offer":
            outcome = self._understood(context, player, act.terms or "")
            if isinstance(outcome, str):
                return self._refuse(state, outcome)
            said = self._spoken(player, self._offer(context, player, outcome), act.message)
            return self._offered(state, player, outcome, said)
        log = (*log, self._spoken(player, verb, act.message))
        ended = "rounds" if verb == "reject" and number == self.max_rounds else _ENDS.get(verb, "")
        if ended:
            deal = offers[-1] >> 1 if verb == "accept" else NOTHING
            return new_state((context, TERMINAL, number, turn + 1, offers, False, deal, ended, 0, "", secret, log))
        mover = player if verb == "reject" else 1 - player
        number += verb == "reject"
        after = new_state((context, mover, number, turn + 1, offers, False, NOTHING, "", 0, "", secret, log))
        return self._out_of_time(after)

    def _offered(self, state: OfferState, player: int, outcome: int, line: str) -> OfferState:
        context, _, number, turn, offers, _, _, _, _, _, secret, log = state
        turn += 1
        offers = (*offers, 2 * outcome + player)
        log = (*log, line)
        after = new_state((context, 1 - player, number, turn, offers, True, NOTHING, "", 0, "", secret, log))
        return self._out_of_time(after) if turn == self.max_turns else after

    def _out_of_time(self, state: OfferState) -> OfferState:
        if state.turn == self.max_turns:
            return state._replace(player=TERMINAL, on_table=False, ended="time")
        return state

    def _refuse(self, state: OfferState, fault: str) -> OfferState:
        """The same player again, or the end of a negotiation that one side does not take part in."""
        wrong = f"Invalid action: {fault}"
        invalid = state.invalid + 1
        if invalid < self.max_invalid:
            return state._replace(invalid=invalid, wrong=wrong)
        line = f"{self.names[state.player]} left after {invalid} invalid actions in a row."
        return state._replace(
            player=TERMINAL, on_table=False, ended="forfeit", invalid=invalid, wrong=wrong, log=(*state.log, line)
        )

    def _verbs(self, state: OfferState) -> tuple[str, ...]:
        return self._answering if state.on_table else self._opening

    def _understood(self, context: Context, player: int, terms: str) -> int | str:
        """As :meth:`_read`; without messages only the offers of the compact form are possible."""
        outcome = self._read(context, player, terms)
        if self.messages or isinstance(outcome, str) or self._is_compact(context, outcome):
            return outcome
        return f"{quoted(terms)} is not one of the offers that are possible here; see the list of legal actions."

    def _is_compact(self, context: Context, outcome: int) -> bool:
        """Whether ``outcome`` is one of :meth:`outcomes`; true for all of a finite domain."""
        return True

    def legal_actions(self, state: OfferState) -> Sequence[str] | None:
        """``None`` where messages are allowed; else answers to the offer on the table, the possible offers in
        the order of :meth:`outcomes`, and the other acts."""
        if state.player < 0:
            return ()
        return None if self.messages else self._compact(state.context, state.player, self._verbs(state))

    def _compact(self, context: Context, player: int, verbs: tuple[str, ...]) -> tuple[str, ...]:
        key = (self._public(context), player, verbs)
        found = self._kept.get(key)
        if found is None:
            offers = tuple(self._listed_offers(context, player)) if "offer" in verbs else ()
            rest = tuple(verb for verb in verbs if verb not in ("offer", "say"))
            found = self._keep(key, (*rest, *offers) if "accept" in verbs else (*offers, *rest))
        return found

    def _listed_offers(self, context: Context, player: int) -> dict[str, int]:
        """The offers of the compact form and what they mean."""
        key = (self._public(context), player)
        found = self._kept.get(key)
        if found is None:
            outcomes = self.outcomes(context).tolist()
            found = self._keep(key, {self._offer(context, player, outcome): outcome for outcome in outcomes})
        return found

    def _public(self, context: Context) -> Any:
        """What the texts of offers depend on; contexts that share it share lists of legal actions."""
        return None

    def admissible_commands(self, state: OfferState) -> list[str] | None:
        if state.player < 0:
            return []
        legal = self.legal_actions(state)
        return self._patterns(self._verbs(state)) if legal is None else list(legal)

    def _patterns(self, verbs: tuple[str, ...]) -> list[str]:
        filled = {"offer": f"offer[{self._form()}]", "say": "say: …"}
        return [filled.get(verb, verb) for verb in verbs]

    def rewards(self, state: OfferState) -> tuple[float, ...]:
        """Zeros, and at the end :meth:`utilities`."""
        return self.utilities(state) if state.player < 0 else (0.0, 0.0)

    def utilities(self, state: OfferState) -> tuple[float, float]:
        """What the two players got; without a deal their disagreement values. Of an unfinished negotiation: as if it
        ended now without a deal."""
        context, deal = state.context, state.deal
        if deal == NOTHING:
            none = self.disagreement(context)
            if state.ended != "forfeit" or not self.invalid_loses:
                return none
            return (none[0] - self._left(state, 0), none[1] - self._left(state, 1))
        return (
            self.value(context, 0, deal) * self._discount(state, 0),
            self.value(context, 1, deal) * self._discount(state, 1),
        )

    def _left(self, state: OfferState, player: int) -> bool:
        """Whether ``player`` ended the negotiation by invalid actions."""
        return state.ended == "forfeit" and state.log[-1].startswith(self.names[player])

    def info(self, state: OfferState) -> dict[str, Any]:
        """``success`` (a deal that leaves nobody worse off than none), ``invalid_action``, ``deal`` and, at the end,
        ``ended`` ("deal", "walked away", "rounds", "time", "forfeit", "disagreement"), ``agreement`` (the terms in
        player 0's words or ``None``) and ``utilities``."""
        facts: dict[str, Any] = {"success": False, "invalid_action": state.wrong != "", "deal": state.deal != NOTHING}
        if state.player < 0:
            facts["ended"], facts["agreement"] = state.ended, None
            facts["utilities"] = self.utilities(state)
            if state.deal != NOTHING:
                facts["agreement"] = self._write(state.context, 0, state.deal)
                none = self.disagreement(state.context)
                facts["success"] = all(got >= least for got, least in zip(facts["utilities"], none, strict=True))
        return facts

    # What is read.

    def observation(self, state: OfferState, player: int = 0) -> str:
        log = state.log
        if len(log) > _SHOWN:
            log = ("…", *log[-_SHOWN:])
        header = self._known(state.context, player)[0]
        if player != state.player or state.wrong:
            return "\n".join([header, *log, *self._status(state, player)])
        return "\n".join([header, *log, self._request(state)])  # by far the most frequent case

    def information_state(self, state: OfferState, player: int) -> str:
        """The observation with the whole log."""
        return "\n".join((self._known(state.context, player)[0], *state.log, *self._status(state, player)))

    def _known(self, context: Context, player: int) -> tuple[str, dict[str, int]]:
        """The header of ``player``'s texts, and the offers that are listed for him."""
        latest, known = self._latest[player]
        if latest is not context:  # comparing is cheaper than hashing the values of a whole context
            made = partial(self._brief, context, player)
            known = (self.remembered((context, player, "brief"), made), self._listed_offers(context, player))
            self._latest[player] = (context, known)
        return known

    def _status(self, state: OfferState, player: int) -> tuple[str, ...]:
        mover = state.player
        if mover == player:
            move = self._request(state)
            return (state.wrong, move) if state.wrong else (move,)
        if mover >= 0:
            return (f"{self._clock(state)} {self.names[mover]} is to move.",)
        ending = self._ending(state)
        got = f"{ending} You get {self._money(state, player)}."
        return (state.wrong, got) if self._left(state, player) else (got,)

    def _request(self, state: OfferState) -> str:
        verbs = self._verbs(state)
        key = (verbs, state.turn if self.max_rounds is None else state.round, "request")
        found = self._kept.get(key)
        if found is None:
            found = self._keep(key, f"{self._clock(state)} Your move: {' | '.join(self._patterns(verbs))}")
        return found

    def _clock(self, state: OfferState) -> str:
        if self.max_rounds is not None:
            return f"Round {state.round} of {self.max_rounds}."
        return f"Move {state.turn + 1} of {self.max_turns}."

    def _ending(self, state: OfferState) -> str:
        if state.deal != NOTHING:
            speaker = state.offers[-1] & 1
            return f"Deal, as {self.names[speaker]} offered: {self._write(state.context, speaker, state.deal)}."
        return "No deal."

    def _money(self, state: OfferState, player: int) -> str:
        """What ``player`` got, in the units of the domain."""
        return f"{self.utilities(state)[player]:.4g}"

    def _spoken(self, player: int, act: str, message: str) -> str:
        return f'{self.names[player]}: {act} "{message}"' if message else f"{self.names[player]}: {act}"

    def _offer(self, context: Context, player: int, outcome: int) -> str:
        return f"offer[{self._write(context, player, outcome)}]"

    # What partners, metrics and search may ask.

    def resample(self, state: OfferState, player: int, rng: np.random.Generator) -> OfferState:
        """``state`` with the other player's private values drawn anew from what ``player`` knows; moves say nothing
        about values here (no inference from behaviour)."""
        return state._replace(context=self._redraw(state.context, player, rng))

    def standing(self, state: OfferState) -> int:
        """The outcome on the table, or ``NOTHING``."""
        return state.offers[-1] >> 1 if state.on_table else NOTHING

    def offers_of(self, state: OfferState, player: int) -> list[int]:
        """The outcomes that ``player`` has offered, in order."""
        return [offer >> 1 for offer in state.offers if offer & 1 == player]

    def time(self, state: OfferState) -> float:
        """How much of the negotiation is over, from 0 at the first move to 1 at the last."""
        done, limit = state.turn, self.max_turns
        if self.max_rounds is not None:
            done, limit = state.round - 1, self.max_rounds
        return 1.0 if limit is None or limit <= 1 else min(1.0, done / (limit - 1))

    def is_last_answer(self, state: OfferState) -> bool:
        """Whether any answer but ``accept`` ends the negotiation without a deal."""
        return state.round == self.max_rounds or (self.max_turns is not None and state.turn >= self.max_turns - 1)

    def offer_action(self, state: OfferState, outcome: int) -> str:
        """The action by which the player to move offers ``outcome``."""
        return self._offer(state.context, state.player, outcome)

    def accept_action(self, state: OfferState) -> str:
        """The action by which the player to move takes the offer on the table."""
        return "accept"

    def decline_action(self, state: OfferState, outcome: int) -> str:
        """The action of a player who will not take the offer on the table and would offer ``outcome``."""
        return self.offer_action(state, outcome) if self.counter else "reject"

    def give_up_action(self, state: OfferState) -> str:
        """The action by which the player to move chooses no deal; empty where there is none now."""
        return "walk away" if "walk away" in self._verbs(state) else ""

    def final_action(self, state: OfferState) -> str:
        """Where talk is over, the action of a player who does not take the offer on the table; else empty."""
        return ""

    def suggested_actions(self, state: OfferState) -> Sequence[str]:
        """The legal actions of the compact form, also where messages are allowed."""
        return () if state.player < 0 else self._compact(state.context, state.player, self._verbs(state))

    def success(self, state: OfferState, player: int) -> bool:
        """As ``info`` has it: the same for both players."""
        return bool(self.info(state)["success"])

    def outcome_figures(self, state: OfferState) -> dict[str, float]:
        """``deal`` (1 or 0), ``joint_utility``, and of deals ``pareto_optimal``, as in ``metrics.outcome_metrics``."""
        got = np.array(self.utilities(state))
        figures = {"deal": float(state.deal != NOTHING), "joint_utility": float(got.sum())}
        if state.deal != NOTHING:
            figures["pareto_optimal"] = float(is_pareto_optimal(got, self.points(state.context)))
        return figures

    def place(self, context: Context, player: int, outcome: int) -> int:
        """Where ``outcome``, or for an amount the nearest, stands in :meth:`choices`."""
        outcomes = self.choices(context, player).outcomes
        ordered, places = self.remembered(
            (context, player, "places"), lambda: (np.sort(outcomes), np.argsort(outcomes))
        )
        at = int(np.searchsorted(ordered, outcome))
        if at == len(ordered) or (at and outcome - ordered[at - 1] < ordered[at] - outcome):
            at -= 1
        return int(places[at])

    def points(self, context: Context) -> np.ndarray:
        """Utilities of :meth:`outcomes` in the first round, float64 ``[n, 2]``."""
        return self.remembered((context, "points"), lambda: self._points(context))

    def _points(self, context: Context) -> np.ndarray:
        rows = [(self.value(context, 0, i), self.value(context, 1, i)) for i in self.outcomes(context).tolist()]
        return np.array(rows, dtype=np.float64).reshape(-1, 2)

    def choices(self, context: Context, player: int) -> Choices:
        """The outcomes as ``player`` values them; reads no value of the other player."""
        return self.remembered((context, player, "choices"), lambda: self._choices(context, player))

    def _choices(self, context: Context, player: int) -> Choices:
        outcomes = self.outcomes(context)
        own = np.array([self.expected_value(context, player, i) for i in outcomes.tolist()])
        order = np.argsort(-own, kind="stable")
        features, wishes = self._features(context)
        values = self._relative(context, player, own[order], float(own.max()))
        return Choices(outcomes[order], values, features[order], wishes[1 - player])

    def own_value(self, state: OfferState, player: int, outcome: int) -> float:
        """``outcome`` on the scale of :class:`Choices`."""
        context = state.context
        value = np.array([self.expected_value(context, player, outcome)])
        best = self.expected_value(context, player, int(self.choices(context, player).outcomes[0]))
        return float(self._relative(context, player, value, best)[0])

    def _relative(self, context: Context, player: int, own: np.ndarray, best: float) -> np.ndarray:
        none = self.disagreement(context)[player]
        return (own - none) / (best - none) if best > none else np.minimum(own - none, 0.0)

    def remembered(self, key: Any, made: Callable[[], Any]) -> Any:
        """What ``made`` returned for ``key`` before, else what it returns; it must depend on nothing else."""
        found = self._kept.get(key)
        return self._keep(key, made()) if found is None else found

    def _keep(self, key: Any, value: Any) -> Any:
        """Remember ``value``: it depends on ``key`` and on this simulator's arguments alone."""
        if len(self._kept) >= _REMEMBERED:
            self._kept.clear()
        self._kept[key] = value
        return value


class SameOffers(AlternatingOffers):
    """A domain in which the possible offers are the same in every episode and for both players, so that the compact
    form's actions can be numbered once and for all; its hooks read no context for them."""

    def all_actions(self) -> tuple[str, ...]:
        """Every action of the compact form: answers, then offers."""
        verbs = dict.fromkeys((*self._answering, *self._opening))
        return (*(verb for verb in verbs if verb not in ("offer", "say")), *self._listed_offers((), 0))
