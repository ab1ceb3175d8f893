"""How negotiations went: one episode's figures, means over episodes, and the human figures of Deal or No Deal.

An episode (:func:`outcome_metrics`) is measured by: deal; own and joint utility; whether no other outcome is at least
as good for both and better for one (Pareto); Euclidean distances, in the plane of the two utilities, to the Nash,
Kalai–Smorodinsky and nearest maximum-welfare points (``utilities.py``); turns. Where outcomes are many (prices), the
plane is the grid of the compact form. Utilities are those that were paid: a late deal under discounting is measured
against the deals that were possible at the start.

:func:`mean_figures` averages; Pareto optimality and distances are averaged over the deals alone, as Lewis et al. (2017)
do. GLEE's own measures are in ``info`` of its games.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..opponents import Opponent, borrow_generator, draw_outcome, return_generator
from ..simulator import CHANCE, TERMINAL, Simulator
from .deal_or_no_deal import POINTS, DealOrNoDealContext, DealOrNoDealSimulator
from .files import HumanDeal
from .protocol import NOTHING, AlternatingOffers, OfferState
from .utilities import Solutions, is_pareto_optimal, solutions

_LUCK = 7  # episodes' own stream, apart from those of contexts


class OutcomeMetrics(NamedTuple):
    """One finished negotiation; ``utilities`` float ``(2,)``, distances in units of utility."""

    deal: bool
    utilities: tuple[float, float]
    joint: float
    pareto_optimal: bool
    nash_distance: float
    kalai_distance: float
    welfare_distance: float
    turns: int


class Mean(NamedTuple):
    """A mean with the half-width of its 95 % interval (normal approximation) and the number of cases."""

    value: float
    half_width: float
    cases: int


def outcome_metrics(simulator: AlternatingOffers, state: OfferState) -> OutcomeMetrics:
    """The figures of a finished negotiation; ``ValueError`` for one that goes on."""
    if state.player >= 0:
        raise ValueError("outcome_metrics() measures finished negotiations; this one goes on.")
    points = simulator.points(state.context)
    solved = solved_points(simulator, state.context)
    got = np.array(simulator.utilities(state))
    return OutcomeMetrics(
        deal=state.deal != NOTHING,
        utilities=(float(got[0]), float(got[1])),
        joint=float(got.sum()),
        pareto_optimal=is_pareto_optimal(got, points),
        nash_distance=_distance(got, solved.nash),
        kalai_distance=_distance(got, solved.kalai_smorodinsky),
        welfare_distance=min(_distance(got, point) for point in solved.welfare),
        turns=state.turn,
    )


def solved_points(simulator: AlternatingOffers, context: Any) -> Solutions:
    """The solution points of a context's first-round utilities."""
    return simulator.remembered((context, "solutions"), lambda: _solved(simulator, context))


def _solved(simulator: AlternatingOffers, context: Any) -> Solutions:
    return solutions(simulator.points(context), simulator.disagreement(context))


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.hypot(*(one - other)))


def play_episode(
    simulator: Simulator[Any], partners: Sequence[Opponent], seed: int, options: dict[str, Any] | None = None
) -> Any:
    """The last state of the episode ``seed`` between ``partners``, one a player."""
    state = simulator.reset(seed, options)
    rng = borrow_generator(seed, _LUCK)
    while (player := simulator.current_player(state)) != TERMINAL:
        act = draw_outcome if player == CHANCE else partners[player]
        state = simulator.step(state, act(simulator, state, rng))
    return_generator(rng)
    return state


def mean_figures(episodes: Iterable[OutcomeMetrics]) -> dict[str, Mean]:
    """Means by name: ``deal``, ``utility_0``, ``utility_1``, ``joint``, ``turns`` over all episodes; ``pareto_optimal``
    and the three distances over the deals."""
    every = list(episodes)
    deals = [one for one in every if one.deal]
    taken: dict[str, tuple[list[OutcomeMetrics], Callable[[OutcomeMetrics], float]]] = {
        "deal": (every, lambda one: one.deal),
        "utility_0": (every, lambda one: one.utilities[0]),
        "utility_1": (every, lambda one: one.utilities[1]),
        "joint": (every, lambda one: one.joint),
        "turns": (every, lambda one: one.turns),
        "pareto_optimal": (deals, lambda one: one.pareto_optimal),
        "nash_distance": (deals, lambda one: one.nash_distance),
        "kalai_distance": (deals, lambda one: one.kalai_distance),
        "welfare_distance": (deals, lambda one: one.welfare_distance),
    }
    return {name: mean([float(value(one)) for one in chosen]) for name, (chosen, value) in taken.items()}


def mean(values: Sequence[float]) -> Mean:
    """The mean of ``values``; not a number where there is none."""
    if not values:
        return Mean(math.nan, math.nan, 0)
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return Mean(float(np.mean(values)), 1.96 * spread / math.sqrt(len(values)), len(values))


def human_figures(deals: Iterable[HumanDeal]) -> dict[str, float]:
    """Figures of Deal or No Deal's human dialogues, each line of the file one case: ``agreement`` (part of all),
    ``pareto_optimal`` (part of the deals), ``score`` (mean own points of the deals), ``score_all`` (of all, no deal
    being 0), ``turns``."""
    every = list(deals)
    simulator = DealOrNoDealSimulator()
    scores, optimal = [], []
    for one in every:
        if one.shares is None:
            continue
        context = DealOrNoDealContext(one.counts, one.values, one.partner_values)
        own, partner = (
            sum(count * value for count, value in zip(share, values, strict=True))
            for share, values in zip(one.shares, (one.values, one.partner_values), strict=True)
        )
        scores.append(own)
        optimal.append(is_pareto_optimal((own / POINTS, partner / POINTS), simulator.points(context)))
    return {
        "agreement": len(scores) / len(every),
        "pareto_optimal": float(np.mean(optimal)),
        "score": float(np.mean(scores)),
        "score_all": sum(scores) / len(every),
        "turns": float(np.mean([one.turns for one in every])),
    }
