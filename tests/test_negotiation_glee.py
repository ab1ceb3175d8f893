"""GLEE's three families: the grids of its file, its measures by hand, what is told and what is not."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from branchwise.envs.negotiation.glee import (
    BARGAINING_GRID,
    BUYER_SELLER_GRID,
    BargainingSimulator,
    BuyerSellerSimulator,
    configurations,
)
from branchwise.envs.negotiation.metrics import play_episode
from branchwise.envs.negotiation.partners import random_partner
from branchwise.envs.negotiation.persuasion import PERSUASION_GRID, PersuasionSimulator
from branchwise.envs.negotiation.persuasion_partners import BUYERS, SELLERS
from branchwise.envs.simulator import TERMINAL

DATA = Path(os.environ.get("BRANCHWISE_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
GRID = DATA / "negotiation" / "glee_grid.json"

OUR_NAMES = {
    "money_to_divide": "money",
    "messages_allowed": "messages",
    "product_price_order": "price_order",
    "product_price": "price",
    "total_rounds": "rounds",
    "is_seller_know_cv": "seller_knows_values",
    "is_buyer_know_p": "buyer_knows_p",
    "seller_message_type": "message_type",
    "is_myopic": "myopic",
    "allow_buyer_message": "buyer_messages",
}


def played(simulator: Any, actions: list[str], options: dict | None = None) -> Any:
    state = simulator.reset(0, options)
    for action in actions:
        state = simulator.step(state, action)
        assert not simulator.info(state)["invalid_action"]
    return state


@pytest.mark.skipif(not GRID.exists(), reason="the grid of GLEE's parameters is not beside this checkout")
def test_grids_are_those_of_glees_file() -> None:
    told = json.loads(GRID.read_text())
    ours = {"bargaining": BARGAINING_GRID, "negotiation": BUYER_SELLER_GRID, "persuasion": PERSUASION_GRID}
    for family, grid in ours.items():
        renamed = {OUR_NAMES.get(name, name): values for name, values in told[family].items()}
        assert set(renamed) == set(grid)
        for name, values in grid.items():
            assert list(values) == [pytest.approx(value) for value in renamed[name]]


def test_every_configuration_of_the_grids_can_be_played() -> None:
    kinds = ((BargainingSimulator, BARGAINING_GRID, 384), (BuyerSellerSimulator, BUYER_SELLER_GRID, 576))
    for kind, grid, size in kinds:
        every = list(configurations(grid))
        assert len(every) == size
        for number, arguments in enumerate(every[::5]):
            simulator = kind(**arguments)
            assert simulator.current_player(play_episode(simulator, (random_partner,) * 2, number)) == TERMINAL
    every = list(configurations(PERSUASION_GRID))
    assert len(every) == 360
    for number, arguments in enumerate(every[::20]):
        simulator = PersuasionSimulator(**arguments)
        last = play_episode(simulator, (SELLERS["random"], BUYERS["random"]), number)
        assert len(last.past) == 25


def test_bargaining_measures() -> None:
    simulator = BargainingSimulator(discounts=(0.9, 0.8), messages=False)
    actions = [
        "offer[alice=90 bob=10]",
        "reject",
        "offer[alice=20 bob=80]",
        "reject",
        "offer[alice=70 bob=30]",
        "accept",
    ]
    info = simulator.info(played(simulator, actions))
    assert info["self_gain"] == pytest.approx((0.7 * 0.9**2, 0.3 * 0.8**2))
    assert info["efficiency"] == pytest.approx(0.7 * 0.81 + 0.3 * 0.64)
    assert info["fairness"] == pytest.approx(1 - 4 * 0.2**2)
    assert info["utilities"] == info["self_gain"]


def test_bargaining_ends_with_nothing_after_the_last_rejection() -> None:
    simulator = BargainingSimulator(max_rounds=2, messages=False)
    last = played(simulator, ["offer[alice=50 bob=50]", "reject", "offer[alice=50 bob=50]", "reject"])
    info = simulator.info(last)
    assert (info["ended"], info["self_gain"], info["efficiency"]) == ("rounds", (0.0, 0.0), 0.0)
    assert not simulator.truncated(last)


@pytest.mark.parametrize(
    ("values", "actions", "gains", "efficiency", "fairness"),
    [
        ((0.8, 1.2), ["offer[110]", "accept"], (0.3, 0.1), 1.0, 1 - 4 * 0.1**2),
        ((0.8, 1.2), ["offer[110]", "walk away"], (0.0, 0.0), 0.0, 1.0),
        ((1.5, 0.8), ["offer[160]", "walk away"], (0.0, 0.0), 1.0, 1.0),
        ((1.5, 0.8), ["offer[100]", "accept"], (-0.5, -0.2), 0.0, 1 - 4 * 0.15**2),
        ((1.0, 1.0), ["offer[100]", "reject", "offer[100]", "accept"], (0.0, 0.0), 1.0, 1.0),
    ],
)
def test_buyer_seller_measures(
    values: tuple[float, float], actions: list[str], gains: tuple[float, float], efficiency: float, fairness: float
) -> None:
    simulator = BuyerSellerSimulator(messages=False)
    info = simulator.info(played(simulator, actions, {"values": values}))
    assert info["self_gain"] == pytest.approx(gains)
    assert info["efficiency"] == efficiency
    assert info["fairness"] == pytest.approx(fairness)


def test_an_ultimatum_has_one_round() -> None:
    simulator = BuyerSellerSimulator(max_rounds=1, messages=False)
    last = played(simulator, ["offer[100]", "reject"])
    assert simulator.current_player(last) == TERMINAL
    assert simulator.info(last)["ended"] == "rounds"


def test_private_information_hides_the_others_value_and_a_long_horizon_its_length() -> None:
    simulator = BargainingSimulator(discounts=(0.95, 0.8), complete_information=False, max_rounds=99)
    text = simulator.observation(simulator.reset(0), 0)
    assert "0.95" in text
    assert "0.8" not in text
    assert "99" not in text
    told = BargainingSimulator(discounts=(0.95, 0.8), max_rounds=12)
    assert "0.8 times" in told.observation(told.reset(0), 0)
    assert "Round 1 of 12." in told.observation(told.reset(0), 0)
    trade = BuyerSellerSimulator(seller_value=1.0, buyer_value=1.5, complete_information=False)
    assert "$150" not in trade.observation(trade.reset(0), 0)


def test_messages_travel_with_offers_alone() -> None:
    simulator = BargainingSimulator()
    state = played(simulator, ["offer[alice=60 bob=40]: be reasonable"])
    assert 'Alice: offer[alice=60 bob=40] "be reasonable"' in simulator.observation(state, 1)
    assert simulator.info(simulator.step(state, "accept: fine"))["invalid_action"]


def test_persuasion_measures() -> None:
    simulator = PersuasionSimulator(p=0.5, v=3.0, c=0.0, rounds=4, messages=False)
    rounds = [("good", "yes", "yes"), ("good", "no", "no"), ("bad", "yes", "yes"), ("bad", "no", "no")]
    state = simulator.reset(0)
    returns = [0.0, 0.0]
    for actions in rounds:
        for action in actions:
            state = simulator.step(state, action)
            returns = [a + b for a, b in zip(returns, simulator.rewards(state), strict=True)]
    info = simulator.info(state)
    assert info["efficiency"] == 0.5
    assert info["fairness"] == 0.5
    assert info["self_gain"] == pytest.approx((2 / 4, (1 * 2.0 + 1 * -1.0) / 4))
    assert tuple(returns) == pytest.approx(info["self_gain"])


def test_persuasion_s_amounts_keep_all_their_digits() -> None:
    simulator = PersuasionSimulator(p=0.5, v=2.0, c=0.1, price=1_234_567, rounds=1, messages=False)
    state = simulator.reset(0)
    assert "A good one is worth $2469134 to the buyer, a bad one $123456.7." in simulator.observation(state, 1)
    while simulator.current_player(state) != TERMINAL:
        state = simulator.step(state, "yes")
    assert "You gained $1234567." in simulator.observation(state, 0)


def test_only_the_seller_sees_quality_and_the_buyer_learns_it_after_the_round() -> None:
    """Bought or not: GLEE's generate_response_text."""
    simulator = PersuasionSimulator(p=0.5, v=2.0)
    good, bad = (played(simulator, [quality, "yes"]) for quality in ("good", "bad"))
    assert simulator.information_state(good, 1) == simulator.information_state(bad, 1)
    assert simulator.information_state(good, 0) != simulator.information_state(bad, 0)
    for decision in ("yes", "no"):
        after = played(simulator, ["bad", "yes", decision])
        assert "it was bad" in simulator.observation(after, 1)
        assert simulator.resample(after, 1, np.random.default_rng(0)).past == after.past


def test_a_myopic_buyer_reads_figures_instead_of_a_history() -> None:
    simulator = PersuasionSimulator(p=0.5, v=2.0, myopic=True)
    state = played(simulator, ["good", "yes", "yes", "bad", "yes", "no", "bad", "yes", "yes", "good", "no"])
    text = simulator.observation(state, 1)
    assert "Rounds before you: 3; goods sold in them: 2, of these good: 1." in text
    assert "Round 1:" not in text
    assert "Round 1:" in simulator.observation(state, 0)


def test_what_buyers_say_and_what_sellers_may_say() -> None:
    binary = PersuasionSimulator(message_type="binary")
    state = played(binary, ["good"])
    assert binary.info(binary.step(state, "yes: truly"))["invalid_action"]
    state = played(binary, ["bad", "yes", "no: I do not trust you"])
    assert 'saying "I do not trust you"' in binary.observation(state, 0)
    text = PersuasionSimulator(message_type="text")
    assert text.info(text.step(played(text, ["good"]), "yes"))["invalid_action"]
    assert 'Alice says: "it shines"' in text.observation(played(text, ["good", "say: it shines"]), 1)


def test_invalid_actions_in_persuasion_end_in_the_default_move() -> None:
    simulator = PersuasionSimulator(max_invalid=2, messages=False)
    state = played(simulator, ["good", "yes"])
    state = simulator.step(simulator.step(state, "perhaps"), "perhaps")
    assert not state.past[-1].bought
    assert simulator.info(state)["defaulted"] == 1
    assert simulator.info(state)["invalid_action"]
