"""Solution points against brute force and by hand; measures recomputed from the human dialogues."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from branchwise.envs.negotiation.casino import MOST_POINTS, CaSiNoContext, CaSiNoSimulator
from branchwise.envs.negotiation.deal_or_no_deal import DealOrNoDealSimulator, compatible, value_vectors
from branchwise.envs.negotiation.files import (
    casino_deals,
    deal_or_no_deal_contexts,
    human_deals,
    issue_domain,
    listings,
)
from branchwise.envs.negotiation.haggling import HagglingSimulator
from branchwise.envs.negotiation.metrics import human_figures, mean, outcome_metrics
from branchwise.envs.negotiation.multi_issue import MultiIssueSimulator
from branchwise.envs.negotiation.utilities import is_pareto_optimal, pareto_front, solutions

DATA = Path(os.environ.get("BRANCHWISE_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
FILES = DATA / "negotiation"
needs_files = pytest.mark.skipif(
    not FILES.exists(), reason="the published negotiation data are not beside this checkout"
)


def test_the_pareto_front_is_what_no_point_dominates() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        points = rng.integers(0, 8, (30, 2)).astype(float)
        by_hand = {
            (a, b)
            for a, b in points.tolist()
            if not any(x >= a and y >= b and (x > a or y > b) for x, y in points.tolist())
        }
        front = pareto_front(points)
        assert set(map(tuple, front.tolist())) == by_hand
        assert len(front) == len(by_hand)
        assert all(is_pareto_optimal(point, points) == (tuple(point) in by_hand) for point in points)


def test_solution_points_of_a_straight_frontier() -> None:
    """On u₁ + u₂ = 1 with nothing lost by disagreeing, Nash and Kalai–Smorodinsky meet in the middle."""
    shares = np.linspace(0.0, 1.0, 101)
    solved = solutions(np.stack([shares, 1.0 - shares], axis=1), (0.0, 0.0))
    assert solved.nash == pytest.approx([0.5, 0.5])
    assert solved.kalai_smorodinsky == pytest.approx([0.5, 0.5])
    assert len(solved.welfare) == 101  # every split is as good for both together
    moved = solutions(np.stack([shares, 1.0 - shares], axis=1), (0.2, 0.0))
    assert moved.nash == pytest.approx([0.6, 0.4])  # what is left over 0.2 is shared


def test_nash_and_kalai_smorodinsky_differ_where_the_frontier_bends() -> None:
    """Frontier from (0, 1) by (0.5, 1) to (1, 0): Nash maximises xy at (0.5, 1); Kalai–Smorodinsky goes along x = y to
    where y = 2(1 − x), at 2/3."""
    x = np.linspace(0.0, 1.0, 301)
    points = np.stack([x, np.minimum(1.0, 2.0 * (1.0 - x))], axis=1)
    solved = solutions(points, (0.0, 0.0))
    assert solved.nash == pytest.approx([0.5, 1.0], abs=1e-2)
    assert solved.kalai_smorodinsky == pytest.approx([2 / 3, 2 / 3], abs=1e-2)
    assert solved.welfare[0] == pytest.approx([0.5, 1.0], abs=1e-2)


def test_where_no_deal_is_rational_the_solution_is_to_disagree() -> None:
    solved = solutions(np.array([[0.1, 0.9], [0.9, 0.1]]), (0.5, 0.5))
    assert solved.nash.tolist() == solved.kalai_smorodinsky.tolist() == [0.5, 0.5]


def test_the_figures_of_a_finished_negotiation() -> None:
    simulator = DealOrNoDealSimulator(messages=False)
    state = simulator.reset(0, {"context": ((1, 2, 3), (4, 3, 0), (1, 0, 3))})
    with pytest.raises(ValueError, match="finished negotiations"):
        outcome_metrics(simulator, state)
    for action in ("offer[book=0 hat=2 ball=0]", "select[book=1 hat=0 ball=3]", "select[book=0 hat=2 ball=0]"):
        state = simulator.step(state, action)
    found = outcome_metrics(simulator, state)
    assert (found.deal, found.utilities, found.turns) == (True, (0.6, 1.0), 3)
    assert found.pareto_optimal
    assert found.joint == pytest.approx(1.6)
    # Everybody's best is (book and hats, balls): 1.0 and 0.9, which is Nash, Kalai–Smorodinsky and welfare at once.
    distance = np.hypot(0.4, 0.1)
    assert found.nash_distance == pytest.approx(distance)
    assert found.kalai_distance == pytest.approx(distance)
    assert found.welfare_distance == pytest.approx(distance)


def test_means_carry_their_interval() -> None:
    found = mean([0.0, 1.0, 0.0, 1.0])
    assert found.value == 0.5
    assert found.cases == 4
    assert found.half_width == pytest.approx(1.96 * np.sqrt(1 / 3) / 2)
    assert np.isnan(mean([]).value)


@needs_files
def test_human_figures_of_deal_or_no_deal() -> None:
    """The counts were made by a script of their own over the file: 10,095 lines, 7,883 of them deals, 6,085 of these
    Pareto optimal, 58,958 own points. The reference figures of this project, 77.9 %, 77.0 % and 7.47, are near; which
    lines they were computed from is not known."""
    figures = human_figures(human_deals(FILES / "deal_or_no_deal_train.txt"))
    assert figures["agreement"] == pytest.approx(7883 / 10095)
    assert figures["pareto_optimal"] == pytest.approx(6085 / 7883)
    assert figures["score"] == pytest.approx(58958 / 7883)
    assert figures["agreement"] == pytest.approx(0.779, abs=0.003)
    assert figures["pareto_optimal"] == pytest.approx(0.770, abs=0.003)
    assert figures["score"] == pytest.approx(7.47, abs=0.02)


@needs_files
def test_points_of_casinos_people_are_those_that_its_file_has() -> None:
    simulator = CaSiNoSimulator()
    deals = casino_deals(FILES / "casino_train.json")
    assert len(deals) == 900
    assert sum(deal.shares is None for deal in deals) == 24
    for deal in deals:
        context = CaSiNoContext(*deal.values, *deal.reasons)
        if deal.shares is None:
            assert deal.points == (5, 5)
        else:
            food, water, firewood = deal.shares[0]
            outcome = 16 * food + 4 * water + firewood
            assert tuple(round(MOST_POINTS * simulator.value(context, i, outcome)) for i in (0, 1)) == deal.points


@needs_files
def test_environments_play_the_contexts_of_files() -> None:
    shared = DealOrNoDealSimulator(contexts=FILES / "deal_or_no_deal_selfplay.txt")
    assert shared.contexts is not None
    assert len(shared.contexts) == 4086
    for counts, one, other in shared.contexts:
        assert one in value_vectors(counts)
        assert other in value_vectors(counts)
        assert compatible(one, other)
    assert shared.reset(0, {"context": 5}).context == shared.contexts[5]
    camp = CaSiNoSimulator(contexts=FILES / "casino_valid.json")
    assert camp.reset(0, {"context": 0}).context[0] == (4, 3, 5)
    shop = HagglingSimulator(listings=FILES / "craigslist_listings.json")
    assert shop.reset(0, {"listing": 1}).context[1:3] == ("Custom Trike", 130000)
    assert len(listings(FILES / "craigslist_listings.json")) == 10507


def test_malformed_files_say_where(tmp_path: Path) -> None:
    odd = tmp_path / "odd.txt"
    odd.write_text("1 2 3 4 5 6\n1 2 3 4 5\n")
    with pytest.raises(ValueError, match=r"odd.txt, line 2: .* six whole numbers"):
        deal_or_no_deal_contexts(odd)
    odd.write_text("<input> 1 2 </input>\n")
    with pytest.raises(ValueError, match="line 1: expected <input>"):
        human_deals(odd)
    shop = tmp_path / "shop.json"
    shop.write_text('[{"category": "bike", "title": "x"}]')
    with pytest.raises(ValueError, match="listing 0: KeyError"):
        listings(shop)
    shop.write_text('{"issue": {}}')
    with pytest.raises(ValueError, match='"issues"'):
        issue_domain(shop)


def test_a_domain_comes_from_a_file_as_from_python(tmp_path: Path) -> None:
    content = {
        "issues": {"Price": ["low", "high"], "color": ["red", "blue"]},
        "points": [{"price": [0, 70], "color": [30, 0]}, {"price": [40, 0], "color": [0, 60]}],
        "reservation": [20, 30],
    }
    path = tmp_path / "domain.json"
    path.write_text(json.dumps(content))
    assert MultiIssueSimulator(domain=path).reset(0) == MultiIssueSimulator(domain=content).reset(0)
    with pytest.raises(ValueError, match="best options add up to 90; expected 100"):
        MultiIssueSimulator(domain={**content, "points": [{"price": [0, 60], "color": [30, 0]}, content["points"][1]]})
    with pytest.raises(ValueError, match="cannot be written in an offer"):
        MultiIssueSimulator(domain={"issues": {"price": ["very low", "high"]}})


def test_an_edited_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "contexts.txt"
    for value in (2, 3):
        path.write_text(f"1 4 4 1 1 {value}\n1 2 4 2 1 0\n")
        os.utime(path, ns=(value, value))
        assert deal_or_no_deal_contexts(path)[0][1] == (4, 1, value)
        shop = tmp_path / "shop.json"
        shop.write_text(json.dumps([{"category": "bike", "title": "x", "price": value}]))
        os.utime(shop, ns=(value, value))
        assert listings(shop)[0].price == 100 * value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1000000 4 4 1 1 2\n1000000 2 4 8 1 0\n", r"line 1: .*; expected 0 to 20 items of a kind"),
        ("1 4 4 1 1 2\n1 4 -4 1 1 2\n", r"line 2: .*; expected 0 to 20 items of a kind"),
        ("1 -4 4 1 1 2\n1 2 4 8 1 0\n", r"line 1: .*; expected values from 0 to 10 points"),
        ("\n1 4 4 1 1 2\n\n1 2 4 11 1 0\n", r"line 4: .*; expected values from 0 to 10 points"),
        ("0 4 0 1 0 2\n0 2 0 8 0 0\n", r"line 1: .* and some items"),
        ("1 4 4 1 1 2\n1 2 4 8 1 0\n1 4 4 1 1 2\n", r"line 3: a line without its partner's"),
    ],
)
def test_contexts_of_files_have_limits(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "contexts.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"contexts.txt, {says}"):
        deal_or_no_deal_contexts(path)


@pytest.mark.parametrize(
    "context",
    [
        ((21, 1, 1), (0, 5, 5), (0, 5, 5)),
        ((1, 1, 1), (-1, 5, 5), (0, 5, 5)),
        ((0, 0, 0), (0, 5, 5), (0, 5, 5)),
        ((1, 1, 1), (0, 5.5, 5), (0, 5, 5)),
        ((1, 1, 1), 3, (0, 5, 5)),
        ((1, 1, 1), (0, 5, 5)),
    ],
)
def test_a_context_that_is_given_has_the_limits_of_files(context: tuple) -> None:
    with pytest.raises(ValueError, match=r"context=.*expected"):
        DealOrNoDealSimulator().reset(0, {"context": context})


@pytest.mark.parametrize("context", [((0, 4, 1), (0, 2, 2), (5, 1, 6)), ((20, 20, 1), (0, 0, 1), (0, 0, 1))])
def test_a_context_that_the_rules_do_not_allow_can_be_resampled(context: tuple) -> None:
    simulator = DealOrNoDealSimulator()
    state = simulator.reset(0, {"context": context})
    for player in (0, 1):
        again = simulator.resample(state, player, np.random.default_rng(0))
        assert simulator.observation(again, player) == simulator.observation(state, player)


def test_a_price_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    path.write_text('[{"category": "bike", "title": "x", "price": true}]')
    with pytest.raises(ValueError, match=r"shop.json, listing 0: .*price True; expected a number"):
        listings(path)


@pytest.mark.parametrize(
    "domain",
    [
        {},
        {"issues": {"price": "low"}},
        {"issues": {"price": ["low", "𠮷"]}},
        {"issues": {f"i{k}": ["a", "b"] for k in range(64)}},
        {"issues": {"price": ["a", "b"]}, "points": [{"price": [True, 99]}, {"price": [0, 100]}]},
        {"issues": {"price": ["a", "b"]}, "points": 3},
        {"issues": {"price": ["a", "b"]}, "points": [[0, 100], [0, 100]]},
        {"issues": {"price": ["a", "b"]}, "reservation": [True, 3]},
        {"issues": {"price": ["a", "b"]}, "reservation": 3},
    ],
)
def test_a_domain_of_other_things_is_refused(domain: dict) -> None:
    with pytest.raises(ValueError, match=r"expected|cannot be written"):
        MultiIssueSimulator(domain=domain)
