"""Scripted partners: their targets by formula, what they read, how they end."""

from typing import Any

import numpy as np
import pytest

from branchwise.envs.negotiation.casino import CaSiNoSimulator
from branchwise.envs.negotiation.deal_or_no_deal import DealOrNoDealSimulator
from branchwise.envs.negotiation.equilibrium import equilibrium_partner, supports
from branchwise.envs.negotiation.glee import BargainingSimulator, BuyerSellerSimulator
from branchwise.envs.negotiation.haggling import HagglingSimulator
from branchwise.envs.negotiation.metrics import mean_figures, outcome_metrics, play_episode
from branchwise.envs.negotiation.multi_issue import MultiIssueSimulator
from branchwise.envs.negotiation.partners import (
    PARTNERS,
    TimeDependentPartner,
    TitForTatPartner,
    boulware,
    conceder,
    hardliner,
    linear,
)
from branchwise.envs.negotiation.persuasion import PersuasionSimulator
from branchwise.envs.negotiation.persuasion_partners import BUYERS, SELLERS
from branchwise.envs.simulator import CHANCE, TERMINAL

GAMES = [
    BargainingSimulator(complete_information=False),
    BuyerSellerSimulator(complete_information=False, messages=False),
    DealOrNoDealSimulator(),
    CaSiNoSimulator(messages=False),
    HagglingSimulator(),
    MultiIssueSimulator(messages=False),
]


@pytest.mark.parametrize("time", [0.0, 0.25, 0.5, 1.0])
def test_targets_of_time_dependent_partners(time: float) -> None:
    assert boulware.target(time) == pytest.approx(1.0 - time**5)
    assert linear.target(time) == pytest.approx(1.0 - time)
    assert conceder.target(time) == pytest.approx(1.0 - time**0.2)
    assert TimeDependentPartner(1.0, least=0.4).target(time) == pytest.approx(1.0 - 0.6 * time)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [("relative", 0.9 * 0.6 / 0.9), ("absolute", 0.9 - 0.3), ("average", 0.9 * 0.6 / 1.0)],
)
def test_targets_of_tit_for_tat(kind: Any, wanted: float) -> None:
    """Bob has left Alice 0, 10 and then 40 of 100, and her last demand was 90."""
    simulator = BargainingSimulator(messages=False)
    state = simulator.reset(0)
    for alice, bob in ((100, 0), (95, 10), (90, 40)):
        for share in (alice, bob):
            state = simulator.step(state, f"offer[alice={share} bob={100 - share}]")
            state = simulator.step(state, "reject")
    assert TitForTatPartner(kind).target(simulator, state) == pytest.approx(wanted)


@pytest.mark.parametrize("simulator", GAMES, ids=lambda one: type(one).__name__)
def test_partners_make_valid_moves_and_read_nothing_hidden(simulator: Any) -> None:
    """Where the hidden part is drawn anew, a partner with the same luck does the same."""
    partners = dict(PARTNERS)
    if supports(simulator):
        partners["equilibrium"] = equilibrium_partner
    names = list(partners)
    rng = np.random.default_rng(0)
    for seed in range(3 * len(names)):
        pair = (partners[names[seed % len(names)]], partners[names[seed // 3]])
        state = simulator.reset(seed)
        while (player := simulator.current_player(state)) != TERMINAL:
            luck = int(rng.integers(2**32))
            action = pair[player](simulator, state, np.random.default_rng(luck))
            other = simulator.resample(state, player, rng)
            assert pair[player](simulator, other, np.random.default_rng(luck)) == action
            state = simulator.step(state, action)
            assert not simulator.info(state)["invalid_action"], action


@pytest.mark.parametrize("myopic", [False, True])
@pytest.mark.parametrize("message_type", ["text", "binary"])
def test_sellers_and_buyers_make_valid_moves_and_read_nothing_hidden(message_type: Any, myopic: bool) -> None:
    simulator = PersuasionSimulator(message_type=message_type, myopic=myopic, rounds=8)
    rng = np.random.default_rng(0)
    for seller in SELLERS.values():
        for buyer in BUYERS.values():
            state = simulator.reset(3)
            while (player := simulator.current_player(state)) != TERMINAL:
                if player == CHANCE:
                    state = simulator.step(state, "good" if rng.random() < 0.5 else "bad")
                    continue
                luck = int(rng.integers(2**32))
                partner = (seller, buyer)[player]
                action = partner(simulator, state, np.random.default_rng(luck))
                other = simulator.resample(state, player, rng)
                assert partner(simulator, other, np.random.default_rng(luck)) == action
                state = simulator.step(state, action)
                assert not simulator.info(state)["invalid_action"]


def test_a_hardliner_takes_all_or_nothing() -> None:
    simulator = CaSiNoSimulator(messages=False)
    for seed in range(20):
        for other in (boulware, linear, hardliner):
            last = play_episode(simulator, (hardliner, other), seed)
            assert last.deal < 0 or simulator.value(last.context, 0, last.deal) == 1.0


@pytest.mark.parametrize("simulator", GAMES[3:], ids=lambda one: type(one).__name__)
def test_the_tougher_partner_gets_more_from_the_same_one(simulator: Any) -> None:
    """Boulware against linear earns more than linear, and that more than a conceder (Faratin et al. 1998)."""
    earned = []
    for partner in (boulware, linear, conceder):
        ends = [play_episode(simulator, (partner, linear), seed) for seed in range(60)]
        earned.append(np.mean([simulator.rewards(last)[0] for last in ends]))
    assert earned[0] > earned[1] > earned[2]


def test_partners_that_concede_find_good_deals_in_a_multi_issue_domain() -> None:
    simulator = MultiIssueSimulator(messages=False)
    found = mean_figures(outcome_metrics(simulator, play_episode(simulator, (boulware, linear), s)) for s in range(60))
    fresh = mean_figures(
        outcome_metrics(simulator, play_episode(simulator, (PARTNERS["random"],) * 2, s)) for s in range(60)
    )
    assert found["deal"].value > 0.9
    assert found["joint"].value > fresh["joint"].value + 0.5
