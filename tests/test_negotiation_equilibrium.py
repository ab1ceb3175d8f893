"""Equilibrium play against closed forms, and against backward induction over the simulator itself."""

from typing import Any

import numpy as np
import pytest

from branchwise.envs.negotiation.casino import CaSiNoSimulator
from branchwise.envs.negotiation.equilibrium import (
    equilibrium_partner,
    finite_shares,
    persuasion_rate,
    rubinstein_share,
)
from branchwise.envs.negotiation.glee import BargainingSimulator, BuyerSellerSimulator
from branchwise.envs.negotiation.metrics import play_episode
from branchwise.envs.negotiation.persuasion import PersuasionSimulator
from branchwise.envs.negotiation.persuasion_partners import BUYERS, SELLERS
from branchwise.envs.simulator import TERMINAL

PAIRS = [(0.95, 0.9), (0.9, 0.95), (0.8, 0.8), (0.9, 0.8), (1.0, 0.8), (0.8, 1.0)]


@pytest.mark.parametrize(("own", "other"), PAIRS)
def test_rubinsteins_share_leaves_the_responder_indifferent(own: float, other: float) -> None:
    kept = rubinstein_share(own, other)
    assert kept == pytest.approx((1 - other) / (1 - own * other))
    assert 1 - kept == pytest.approx(other * rubinstein_share(other, own))


@pytest.mark.parametrize(("own", "other"), PAIRS)
def test_with_many_rounds_the_finite_game_becomes_rubinsteins(own: float, other: float) -> None:
    assert finite_shares((own, other), 999)[0] == pytest.approx(rubinstein_share(own, other), abs=1e-6)


def test_three_rounds_by_hand() -> None:
    assert finite_shares((0.9, 0.8), 3) == pytest.approx((1 - 0.8 * (1 - 0.9 * 1.0), 1 - 0.9 * 1.0, 1.0))


@pytest.mark.parametrize("discounts", PAIRS)
def test_equilibrium_play_divides_at_once_as_rubinstein_says(discounts: tuple[float, float]) -> None:
    simulator = BargainingSimulator(discounts=discounts, money=1_000_000, max_rounds=99)
    last = play_episode(simulator, (equilibrium_partner,) * 2, 0)
    assert last.round == 1
    assert simulator.rewards(last)[0] == pytest.approx(rubinstein_share(*discounts), abs=1e-6)


@pytest.mark.parametrize("rounds", [1, 2, 3, 12])
@pytest.mark.parametrize("discounts", PAIRS)
def test_equilibrium_play_of_a_finite_game(discounts: tuple[float, float], rounds: int) -> None:
    simulator = BargainingSimulator(discounts=discounts, money=1_000_000, max_rounds=rounds)
    last = play_episode(simulator, (equilibrium_partner,) * 2, 0)
    assert last.round == 1
    assert simulator.rewards(last)[0] == pytest.approx(finite_shares(discounts, rounds)[0], abs=1e-6)


def backward_induction(simulator: Any, state: Any, known: dict) -> tuple[float, ...]:
    """Subgame-perfect utilities by search; who is indifferent accepts (tried first)."""
    if simulator.current_player(state) == TERMINAL:
        return simulator.rewards(state)
    key = (state.round, state.player, simulator.standing(state))
    if key not in known:
        mover = state.player
        best: tuple[float, ...] | None = None
        for action in simulator.legal_actions(state):
            found = backward_induction(simulator, simulator.step(state, action), known)
            if best is None or found[mover] > best[mover] + 1e-12:
                best = found
        assert best is not None
        known[key] = best
    return known[key]


@pytest.mark.parametrize("discounts", [(0.9, 0.8), (0.8, 0.95)])
@pytest.mark.parametrize("rounds", [1, 2, 3, 4])
def test_play_on_a_grid_is_what_searching_the_whole_game_finds(discounts: tuple[float, float], rounds: int) -> None:
    simulator = BargainingSimulator(discounts=discounts, max_rounds=rounds, messages=False, increments=20)
    solved = backward_induction(simulator, simulator.reset(0), {})
    last = play_episode(simulator, (equilibrium_partner,) * 2, 0)
    assert simulator.rewards(last) == pytest.approx(solved, abs=1 / 20 * rounds / 2 + 1e-9)


@pytest.mark.parametrize("rounds", [1, 2, 3])
@pytest.mark.parametrize("values", [(0.8, 1.2), (1.0, 1.5), (1.5, 0.8), (1.2, 1.2)])
def test_trade_is_what_searching_the_whole_game_finds(values: tuple[float, float], rounds: int) -> None:
    simulator = BuyerSellerSimulator(*values, max_rounds=rounds, messages=False, increments=20)
    solved = backward_induction(simulator, simulator.reset(0), {})
    last = play_episode(simulator, (equilibrium_partner,) * 2, 0)
    assert simulator.rewards(last) == pytest.approx(solved)
    assert simulator.info(last)["efficiency"] == 1.0


def test_equilibrium_play_is_refused_where_no_closed_form_is_known() -> None:
    simulator = CaSiNoSimulator()
    with pytest.raises(TypeError, match="no closed form is known for CaSiNoSimulator"):
        equilibrium_partner(simulator, simulator.reset(0), np.random.default_rng(0))


@pytest.mark.parametrize(("p", "v", "rate"), [(0.5, 1.2, 0.2), (1 / 3, 3.0, 1.0), (0.8, 1.2, 0.8), (0.5, 1.25, 0.25)])
def test_the_committed_seller_makes_the_buyer_indifferent(p: float, v: float, rate: float) -> None:
    assert persuasion_rate(p, v) == pytest.approx(rate)
    if rate < 1.0:
        assert p * (v - 1.0) == pytest.approx((1.0 - p) * rate)


def test_commitment_earns_what_bayesian_persuasion_says() -> None:
    """The seller sells p + (1 − p)q of all goods to a buyer who believes, and the buyer gains nothing in the mean."""
    simulator = PersuasionSimulator(p=0.5, v=1.2, messages=False)
    ends = [
        simulator.info(play_episode(simulator, (SELLERS["committed"], BUYERS["trusting"]), seed))["self_gain"]
        for seed in range(400)
    ]
    seller, buyer = np.mean(ends, axis=0)
    assert seller == pytest.approx(0.5 + 0.5 * 0.2, abs=0.02)  # four standard errors
    assert buyer == pytest.approx(0.0, abs=0.015)


def test_honesty_with_trust_is_efficient_and_fair() -> None:
    simulator = PersuasionSimulator(messages=True, message_type="text")
    for seed in range(20):
        info = simulator.info(play_episode(simulator, (SELLERS["honest"], BUYERS["trusting"]), seed))
        assert (info["efficiency"], info["fairness"]) == (1.0, 1.0)
