"""Selection and backup formulas against numbers computed by hand."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from flat_settings import flat_settings

from branchwise.envs.play.policy import Proposal
from branchwise.envs.play.sampling import drawn, usable
from branchwise.envs.play.transcript import Transcript, observed
from branchwise.envs.simulator import TERMINAL, Simulator
from branchwise.search.engine import Root, search
from branchwise.search.evaluation import Leaf
from branchwise.search.rules import gumbel
from branchwise.search.rules.backup import (
    BACKUP_CODES,
    DRAW,
    LOSS,
    UNPROVEN,
    WIN,
    Backup,
    action_return,
    best_return,
    critic_mix,
    opposite_proof,
    proof_of_children,
    proof_of_outcome,
    proven_value,
    seen_by,
    visit_weighted_value,
)
from branchwise.search.rules.selection import (
    FIRST_PLAY_CODES,
    SELECTION_CODES,
    alphazero_exploration,
    dirichlet_noise,
    first_play_value,
    full_width,
    min_max_normalised,
    mixed_prior,
    noisy_prior,
    p_ucb,
    puct,
    sibling_bounds,
    softmax_node,
    ucb1,
    uct,
    uct_bonus,
    widened,
)
from branchwise.search.settings import SearchSettings, settings_record
from branchwise.search.trees.children import Children
from branchwise.search.trees.nodes import NODE
from branchwise.search.trees.tree import Tree


def test_ucb1_is_agent_q_equation_7() -> None:
    # N(parent) = e², N(child) = 3: sqrt(2 / 4) = 1/√2
    assert ucb1(0.25, 3.0, math.e**2, 2.0) == pytest.approx(0.25 + 2.0 / math.sqrt(2.0))


def test_ucb1_of_an_unvisited_child_is_finite() -> None:
    assert ucb1(0.0, 0.0, math.e, 1.0) == pytest.approx(1.0)


def test_uct_has_a_two_under_the_root_and_divides_by_the_visits() -> None:
    # sqrt(2 · ln(e²) / 4) = 1
    assert uct(0.5, 4.0, math.e**2, 0.7, 0.1) == pytest.approx(0.5 + 0.7)
    assert uct(0.5, 1.0, math.e**2, 0.7, 0.1) == pytest.approx(0.5 + 2.0 * 0.7)


def test_uct_takes_unvisited_children_first_and_by_prior() -> None:
    assert uct(0.0, 0.0, 10.0, 1.0, 0.1) > uct(1e6, 1.0, 10.0, 1e6, 1.0)
    assert uct(0.0, 0.0, 10.0, 1.0, 0.3) > uct(0.0, 0.0, 10.0, 1.0, 0.2)
    assert [uct(0.0, 0.0, 10.0, 1.0, prior) for prior in (0.0, 1.0)] == [1e30, 2e30]


def test_puct_is_alphazeros() -> None:
    # 2.5 · 0.2 · sqrt(16) / (1 + 3) = 0.5
    assert puct(0.125, 3.0, 16.0, 2.5, 0.2) == pytest.approx(0.625)


def test_puct_of_the_first_child_follows_the_prior_although_the_parent_has_no_visit() -> None:
    assert puct(0.0, 0.0, 0.0, 1.0, 0.6) > puct(0.0, 0.0, 0.0, 1.0, 0.4)


@pytest.mark.parametrize("parent_visits", [0.0, 1.0])
def test_a_parent_counts_as_visited_at_least_once(parent_visits: float) -> None:
    """log 1 = 0, √1 = 1."""
    assert ucb1(0.5, 3.0, parent_visits, 2.0) == 0.5
    assert uct(0.5, 3.0, parent_visits, 2.0, 0.25) == 0.5
    assert uct_bonus(0.5, 3.0, parent_visits, 1.0, 2.0, 0.25, 0.25) == 0.75
    assert p_ucb(0.5, 3.0, parent_visits, 2.0, 0.25) == 0.5
    assert puct(0.5, 3.0, parent_visits, 2.0, 0.25) == 0.5 + 2.0 * 0.25 / 4.0


def test_alphazeros_exploration_grows_with_the_logarithm_of_the_visits() -> None:
    # N = (e − 1) · c_base − 1 makes the logarithm 1
    assert alphazero_exploration((math.e - 1.0) * 19652.0 - 1.0, 19652.0, 1.25) == pytest.approx(2.25)
    assert alphazero_exploration(0.0, 1.0, 0.0) == pytest.approx(math.log(2.0))


def test_p_ucb_has_the_logarithm_under_the_root_and_the_visits_outside() -> None:
    # sqrt(ln(e⁴)) / (1 + 3) = 1/2, against sqrt(4 / 4) = 1 of ucb1
    assert p_ucb(0.5, 3.0, math.e**4, 2.0, 0.25) == pytest.approx(0.5 + 2.0 * 0.25 * 0.5)
    assert p_ucb(0.5, 3.0, 0.0, 2.0, 0.25) == 0.5


def test_uct_bonus_is_swe_searchs_sum() -> None:
    # sqrt(ln(e²) / 2) = 1: no 2 under the root
    assert uct_bonus(40.0, 2.0, math.e**2, 0.5, 3.0, -7.0, 0.1) == pytest.approx(20.0 + 3.0 - 7.0)
    assert uct_bonus(40.0, 1.0, math.e**4, 0.5, 3.0, -7.0, 0.1) == pytest.approx(20.0 + 3.0 * 2.0 - 7.0)
    assert [uct_bonus(9.0, 0.0, 9.0, 1.0, 1.0, 9.0, prior) for prior in (0.0, 1.0)] == [1e30, 2e30]
    assert uct_bonus(0.0, 0.0, 9.0, 1.0, 1.0, -1e6, 0.2) > uct_bonus(0.0, 0.0, 9.0, 1.0, 1.0, 1e6, 0.1)


def test_full_width_goes_round_all_children_before_it_comes_back() -> None:
    prior = [0.2, 0.5, 0.3]
    visits = [0.0, 0.0, 0.0]
    order = []
    for _ in range(6):
        scores = [full_width(n, p) for n, p in zip(visits, prior, strict=True)]
        order.append(int(np.argmax(scores)))
        visits[order[-1]] += 1.0
    assert order == [1, 2, 0, 1, 2, 0]
    assert full_width(0.0, 0.0) > full_width(1.0, 1.0)


def test_first_play_values() -> None:
    values = {name: first_play_value(code, 0.5, -0.25, 0.125, 0.75, 0.16) for name, code in FIRST_PLAY_CODES.items()}
    assert values["zero"] == 0.0
    assert values["parent"] == 0.5
    assert values["prior"] == -0.25
    assert values["constant"] == 0.75
    assert values["reduced"] == pytest.approx(0.5 - 0.75 * 0.4)  # the root of 0.16
    assert values["infinite"] == 1.125e30
    infinite = FIRST_PLAY_CODES["infinite"]
    assert first_play_value(infinite, 0.0, 0.0, 0.3, 0.0, 0.0) > first_play_value(infinite, 0.0, 0.0, 0.2, 0.0, 0.0)


def test_min_max_normalisation_puts_the_bounds_at_zero_and_one() -> None:
    assert [min_max_normalised(q, -2.0, 6.0) for q in (-2.0, 6.0, 0.0)] == [0.0, 1.0, 0.25]
    assert min_max_normalised(3.0, 3.0, 3.0) == 0.0
    assert min_max_normalised(0.25, 0.125, 0.625) == 0.25


def test_bounds_over_the_tree_and_over_siblings() -> None:
    bounds = (math.inf, -math.inf)
    for value in (0.5, -1.0, 2.0):
        bounds = widened(*bounds, value)
    assert bounds == (-1.0, 2.0)
    values, visits = np.array([9.0, 1.0, -3.0]), np.array([0.0, 2.0, 1.0])
    assert sibling_bounds(0.5, values, visits) == (-3.0, 1.0)
    assert sibling_bounds(4.0, values, visits) == (-3.0, 4.0)


def test_noisy_prior_mixes_a_quarter_of_noise() -> None:
    assert noisy_prior(np.array([0.8, 0.2]), np.array([0.0, 1.0]), 0.25) == pytest.approx([0.6, 0.4])


def test_dirichlet_noise_has_the_dirichlet_mean_and_variance() -> None:
    rng = np.random.default_rng(0)
    draws = np.array([dirichlet_noise(rng, 4, 0.3) for _ in range(4000)])
    assert draws.sum(axis=1) == pytest.approx(np.ones(4000))
    # mean 1/k; variance (1/k)(1 − 1/k) / (k α + 1) = 0.1875 / 2.2
    assert draws.mean(axis=0) == pytest.approx(np.full(4, 0.25), abs=0.02)
    assert draws.var(axis=0) == pytest.approx(np.full(4, 0.1875 / 2.2), abs=0.01)


def test_softmax_node_draws_among_the_best_allowed_nodes() -> None:
    values = np.log([8.0, 100.0, 2.0, 1.0, 6.0])
    allowed = np.array([True, False, True, True, True])
    # the three best allowed: 8, 6, 2 of 16, from the best down
    drawn_at = [softmax_node(values, allowed, 1.0, 3, uniform) for uniform in (0.0, 0.49, 0.51, 0.87, 0.88, 0.99)]
    assert drawn_at == [0, 0, 4, 4, 2, 2]
    # temperature 1/2 squares the weights: 64, 36, 4 of 104
    assert softmax_node(values, allowed, 0.5, 3, 0.6) == 0
    assert softmax_node(values, allowed, 0.5, 3, 0.62) == 4
    assert softmax_node(values, np.zeros(5, np.bool_), 1.0, 3, 0.5) == -1
    # fewer than the ten are allowed: 8 and 1 of 9
    few = np.array([True, False, False, True, False])
    assert [softmax_node(values, few, 1.0, 10, uniform) for uniform in (0.0, 0.88, 0.9, 0.99)] == [0, 0, 3, 3]
    # among equals the earlier are in the top
    alike, anywhere = np.zeros(4), np.ones(4, np.bool_)
    assert [softmax_node(alike, anywhere, 1.0, 2, uniform) for uniform in (0.0, 0.49, 0.51, 0.99)] == [0, 0, 1, 1]


def test_drawn_passes_the_cumulated_probabilities() -> None:
    logps = np.log([0.5, 0.25, 0.25])
    assert [drawn(logps, 1.0, uniform) for uniform in (0.0, 0.49, 0.51, 0.74, 0.76, 0.999)] == [0, 0, 1, 1, 2, 2]
    assert drawn(np.array([-np.inf, 0.0]), 1.0, 0.0) == 1
    assert [drawn(np.array([0.0, 0.0, -np.inf]), 1.0, uniform) for uniform in (0.0, 0.49, 0.5, 0.999)] == [0, 0, 1, 1]
    assert [drawn(np.array([-2000.0, -1000.0]), 1.0, uniform) for uniform in (0.0, 0.999)] == [1, 1]
    # at temperature 1/2 the weights are squares: 16, 4 and 4 of 24
    assert [drawn(logps, 0.5, uniform) for uniform in (0.66, 0.67, 0.83, 0.84)] == [0, 1, 1, 2]


def test_usable_refuses_what_is_no_distribution() -> None:
    assert usable(np.array([-np.inf, 0.0]))
    assert not usable(np.array([np.nan, 0.0]))
    assert not usable(np.array([np.inf, 0.0]))
    assert not usable(np.array([-np.inf, -np.inf]))


def test_every_rule_has_a_code_of_its_own() -> None:
    for codes in (SELECTION_CODES, BACKUP_CODES, FIRST_PLAY_CODES):
        assert sorted(codes.values()) == list(range(len(codes)))


def test_sequential_halving_by_hand() -> None:
    # 4 actions, 16 simulations, 2 phases: ⌊16 / (2 · 4)⌋ = 2 visits each, then ⌊16 / (2 · 2)⌋ = 4 each of the best two
    assert gumbel.considered_visits(4, 16).tolist() == [0] * 4 + [1] * 4 + [2, 2, 3, 3, 4, 4, 5, 5]
    # 3 actions, 7 simulations: ⌈log2 3⌉ = 2 phases, one visit each, then one visit each of two at a time
    assert gumbel.considered_visits(3, 7).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert gumbel.considered_visits(1, 3).tolist() == [0, 1, 2]
    # 8 actions, 24 simulations, 3 phases: once each, then ⌊24 / (3 · 4)⌋ = 2 of four, ⌊24 / (3 · 2)⌋ = 4 of two
    assert gumbel.considered_visits(8, 24).tolist() == [0] * 8 + [1] * 4 + [2] * 4 + [3, 3, 4, 4, 5, 5, 6, 6]
    assert gumbel.considered_visits(8, 3).tolist() == [0, 0, 0]


def test_impossible_actions_are_never_among_those_that_are_considered() -> None:
    assert gumbel.halving_plan(np.array([1.0, 0.0, 0.0, 0.0, 0.0]), 16, 5).tolist() == [0, 1, 2, 3]
    assert gumbel.halving_plan(np.array([0.5, 0.0, 0.3, 0.2]), 16, 8).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert gumbel.halving_plan(np.full(4, 0.25), 2, 5).tolist() == [0, 0, 1, 1]
    assert gumbel.halving_plan(np.full(4, 0.25), 4, 1).tolist() == [0]


def test_a_plan_goes_on_without_the_actions_that_are_lost() -> None:
    noise, logits, sigma = np.array([2.0, 1.0, 0.0]), np.zeros(3), np.zeros(3)
    plan = gumbel.considered_visits(3, 9)
    assert plan.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    visits, is_open, order = np.zeros(3), np.array([True, False, True]), []
    for _ in range(9):
        order.append(int(gumbel.planned_choice(noise, logits, sigma, visits, is_open, plan)))
        visits[order[-1]] += 1.0
    # Counts 0, 0, then nobody open has 0: 1, …; in the end nobody open has 3 either, and the most visited goes on
    assert order == [0, 2, 0, 2, 0, 2, 0, 2, 0]
    assert gumbel.planned_choice(noise, logits, sigma, visits, np.zeros(3, np.bool_), plan) == -1
    # all that was visited is lost, and the plan at its end: the action that is left has its first visit
    one_open = np.array([False, True])
    assert gumbel.planned_choice(np.zeros(2), np.zeros(2), np.zeros(2), np.array([1.0, 0.0]), one_open, plan[:1]) == 1


def test_the_first_action_is_planned_like_the_others() -> None:
    """It alone has the count that is asked for; the other drew more."""
    draws, none, visits = np.array([0.0, 9.0]), np.zeros(2), np.array([0.0, 1.0])
    plan = gumbel.considered_visits(2, 4)
    assert plan.tolist() == [0, 0, 1, 1]
    assert gumbel.planned_choice(draws, none, none, visits, np.ones(2, np.bool_), plan) == 0


def test_why_a_root_cannot_be_searched_further_is_said() -> None:
    prior, none, one = np.full(4, 0.25), np.zeros(4), np.array([1.0, 0.0, 0.0, 0.0])
    plan = gumbel.halving_plan(prior, 4, 8)
    assert gumbel.why_not_planned(none, prior, False, plan, 2, 20) == ""
    assert gumbel.why_not_planned(one, prior, True, plan, 4, 8) == ""
    assert "follow no plan" in gumbel.why_not_planned(one, prior, False, plan, 4, 8)
    for simulations in (1, 2, 7, 9, 20):
        assert "for simulations=8 in all" in gumbel.why_not_planned(one, prior, True, plan, 4, simulations)
    assert "other numbers than considered=2" in gumbel.why_not_planned(one, prior, True, plan, 2, 8)
    two = gumbel.halving_plan(prior, 4, 3)
    assert "for simulations=3 in all" in gumbel.why_not_planned(one, prior, True, two, 4, 2)


def test_mixed_value_by_hand() -> None:
    values, visits, prior = np.array([1.0, 0.0, 3.0]), np.array([2.0, 0.0, 1.0]), np.array([0.2, 0.5, 0.3])
    # Σ P·Q / Σ P over the visited = (0.2 + 0.9) / 0.5 = 2.2; (0.6 + 3 · 2.2) / 4 = 1.8
    assert gumbel.mixed_value(values, visits, prior, 0.6) == pytest.approx(1.8)
    assert gumbel.mixed_value(values, np.zeros(3), prior, 0.6) == 0.6
    assert gumbel.mixed_value(values, np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.5, 0.5]), 0.0) == pytest.approx(0.5)


def test_completed_values_are_rescaled_and_grow_with_the_visits() -> None:
    values, visits, prior = np.array([1.0, 0.0, 3.0]), np.array([2.0, 0.0, 1.0]), np.array([0.2, 0.5, 0.3])
    # (50 + 2) · 0.1 times 0, (1.8 − 1) / 2 and 1
    assert gumbel.completed(values, visits, prior, 0.6) == pytest.approx([0.0, 2.08, 5.2])
    assert gumbel.completed(values, np.zeros(3), prior, 0.6) == pytest.approx([0.0, 0.0, 0.0])
    assert gumbel.completed(values, np.zeros(3), prior, 0.6, 0.5, 20.0, False) == pytest.approx([6.0, 6.0, 6.0])
    # values 0.4 apart, as far as those 4 apart: (50 + 2) · 0.1 times 0, 1/4 and 1
    near = gumbel.completed(np.array([0.1, 0.2, 0.5]), np.array([2.0, 1.0, 1.0]), prior, 0.6)
    assert near == pytest.approx([0.0, 1.3, 5.2])
    # (20 + 2) · 0.5 = 11 times 1, 1.8 and 3 as they are, and times 0, 0.4 and 1
    assert gumbel.completed(values, visits, prior, 0.6, 0.5, 20.0, False) == pytest.approx([11.0, 19.8, 33.0])
    assert gumbel.completed(values, visits, prior, 0.6, 0.5, 20.0, True) == pytest.approx([0.0, 4.4, 11.0])


def test_improved_policy_is_the_prior_tilted_by_the_values() -> None:
    policy = gumbel.improved_policy(np.log([0.5, 0.25, 0.25]), np.log([1.0, 2.0, 4.0]))
    assert policy == pytest.approx([0.25, 0.25, 0.5])
    assert gumbel.improved_policy(np.array([-np.inf, 0.0]), np.zeros(2)) == pytest.approx([0.0, 1.0])
    for shift in (-1000.0, 1000.0):
        far = gumbel.improved_policy(np.log([0.5, 0.25, 0.25]) + shift, np.log([1.0, 2.0, 4.0]))
        assert far == pytest.approx([0.25, 0.25, 0.5])


def test_root_choice_looks_only_at_the_considered_visit_count() -> None:
    noise, logits, sigma = np.array([0.0, 3.0, 0.0, 1.0]), np.zeros(4), np.array([0.0, 0.0, 2.0, 0.5])
    visits = np.array([1.0, 2.0, 1.0, 1.0])
    assert gumbel.root_choice(noise, logits, sigma, visits, 1.0) == 2
    assert gumbel.root_choice(noise, logits, sigma, visits, 2.0) == 1
    assert gumbel.root_choice(noise, logits, sigma, visits, 0.0) == -1
    assert gumbel.final_choice(noise, logits, sigma, visits) == 1
    assert gumbel.root_choice(noise, np.array([0.0, -np.inf, 0.0, 0.0]), sigma, visits, 2.0) == 1
    assert gumbel.root_choice(noise, np.array([2.0, -np.inf, 0.0, 1.0]), sigma, visits, 1.0) == 3
    # logits count up to a common constant, however large
    none, once = np.zeros(3), np.ones(3)
    for shift in (0.0, -4e9, 4e9):
        assert gumbel.root_choice(none, np.array([0.0, 1.0, 3.0]) + shift, np.array([0.5, 2.5, 0.0]), once, 1.0) == 1


def test_of_equal_actions_gumbels_rules_take_the_first() -> None:
    alike = np.zeros(3)
    assert gumbel.root_choice(alike, alike, alike, alike, 0.0) == 0
    assert gumbel.final_choice(alike, alike, alike, np.array([0.0, 2.0, 2.0])) == 1
    assert gumbel.interior_choice(np.full(3, 1 / 3), alike) == 0


def test_interior_visits_follow_the_improved_policy() -> None:
    policy = np.array([0.5, 0.3, 0.2])
    visits = np.zeros(3)
    for _ in range(10):
        visits[gumbel.interior_choice(policy, visits)] += 1.0
    assert visits.tolist() == [5.0, 3.0, 2.0]
    assert gumbel.interior_choice(np.array([-np.inf, 0.1, 0.2]), np.array([0.0, 0.0, 9.0])) == 1
    assert gumbel.interior_choice(np.full(2, -np.inf), np.zeros(2)) == -1
    # 0.7 − 1 / 2 against 0.25
    assert gumbel.interior_choice(np.array([0.7, 0.25]), np.array([1.0, 0.0])) == 1


def test_gumbel_draws_have_the_gumbel_mean_and_choose_by_the_prior() -> None:
    rng = np.random.default_rng(0)
    draws = np.array([gumbel.gumbel_draws(rng, 3) for _ in range(20000)])
    assert draws.mean() == pytest.approx(np.euler_gamma, abs=0.02)
    prior = np.array([0.6, 0.3, 0.1])
    # argmax(g + log P) is a draw from P (the Gumbel-max trick)
    shares = np.bincount((draws + np.log(prior)).argmax(axis=1)) / 20000
    assert shares == pytest.approx(prior, abs=0.015)
    assert gumbel.gumbel_draws(rng, 3, 0.0).tolist() == [0.0, 0.0, 0.0]


def test_mixed_prior_is_softmax_mixed_with_uniform() -> None:
    logps = np.log([0.5, 0.3, 0.2])
    assert mixed_prior(logps, 1.0, 0.0) == pytest.approx([0.5, 0.3, 0.2])
    assert mixed_prior(logps, 1.0, 0.3) == pytest.approx([0.45, 0.31, 0.24])
    sharp = np.array([0.25, 0.09, 0.04]) / 0.38
    assert mixed_prior(logps, 0.5, 0.0) == pytest.approx(sharp)
    assert mixed_prior(logps - 1000.0, 1.0, 0.0) == pytest.approx([0.5, 0.3, 0.2])
    assert mixed_prior(np.array([0.0, -np.inf]), 1.0, 0.2) == pytest.approx([0.9, 0.1])
    assert mixed_prior(np.array([-np.inf, 0.0]), 1.0, 0.2) == pytest.approx([0.1, 0.9])  # the largest comes last
    assert mixed_prior(np.array([-2000.0, 0.0, -1.0]), 1.0, 0.0) == pytest.approx(
        np.array([0, math.e, 1]) / (math.e + 1)
    )


def test_backup_formulas() -> None:
    assert action_return(0.25, 0.5, 3.0) == 1.75
    assert visit_weighted_value(3 * 0.5 + 1 * 1.0, 4.0) == 0.625


def test_best_return_keeps_the_larger_and_takes_the_first() -> None:
    assert best_return(0.25, 3.0, 0.125) == best_return(0.25, 1.0, 0.125) == 0.25
    assert best_return(0.0, 0.0, -2.0) == -2.0


def test_zero_sum_values_change_sign_with_the_player() -> None:
    assert [seen_by(0.5, player) for player in (0, 1)] == [0.5, -0.5]


def test_critic_mix_is_agent_q_equation_10() -> None:
    assert critic_mix(0.8, 0.2, 0.75) == pytest.approx(0.65)


@pytest.mark.parametrize(
    ("children", "expected"),
    [
        ([LOSS, UNPROVEN, WIN], WIN),
        ([LOSS, LOSS], LOSS),
        ([LOSS, DRAW], DRAW),
        ([LOSS, UNPROVEN], UNPROVEN),
        ([DRAW, UNPROVEN], UNPROVEN),
        ([WIN, DRAW], WIN),
    ],
)
def test_proofs_combine_as_in_mcts_solver(children: list[int], expected: int) -> None:
    proof = LOSS
    for child in children:
        proof = proof_of_children(proof, child)
    assert proof == expected


def test_a_proof_turns_round_with_the_player() -> None:
    assert [opposite_proof(proof) for proof in (LOSS, DRAW, UNPROVEN, WIN)] == [WIN, DRAW, UNPROVEN, LOSS]
    assert [proof_of_outcome(value) for value in (-0.5, 0.0, 0.5)] == [LOSS, DRAW, WIN]
    assert [proven_value(proof, 0.3) for proof in (LOSS, DRAW, UNPROVEN, WIN)] == [-1.0, 0.0, 0.3, 1.0]


def test_a_node_takes_40_bytes() -> None:
    assert NODE.itemsize == 40


def chain(discount: float) -> Tree:
    """Root → a (reward 0.5) → b (reward 0.25), and a second child c of a."""
    tree = Tree(None, "root", (), discount=discount, capacity=1)
    tree.add_children(0, Children(["a"], ["A"], np.array([1.0]), [0.0], [0.5], [0]))
    tree.add_children(1, Children(["b", "c"], ["B", "C"], np.array([0.5, 0.5]), [0.0, 0.0], [0.25, 0.0], [0, 0]))
    return tree


def simulate(tree: Tree, leaf: int, value: float, backup: Backup, discount: float) -> None:
    tree.mark_under_way(leaf)
    settings = SearchSettings(backup=backup, discount=discount, solve=False)
    tree.back_up(leaf, value, settings_record(settings, zero_sum=False, players=1))


def test_mean_backup_by_hand() -> None:
    tree = chain(0.5)
    simulate(tree, 2, 1.0, "mean", 0.5)  # b: 0.25 + 0.5 = 0.75, a: 0.5 + 0.375 = 0.875, root: its state's value, 0.875
    simulate(tree, 3, 0.0, "mean", 0.5)  # c: 0, a: 0.5, root: 0.5
    assert [tree.value(node) for node in range(4)] == [0.6875, 0.6875, 0.75, 0.0]
    assert [tree.visits(node) for node in range(4)] == [2, 2, 1, 1]


def test_bellman_backup_by_hand() -> None:
    tree = chain(0.5)
    simulate(tree, 1, 8.0, "bellman", 0.5)  # a: 0.5 + 4 = 4.5: its own evaluation counts until a child is visited
    assert tree.value(1) == 4.5
    simulate(tree, 2, 1.0, "bellman", 0.5)  # b: 0.75, so V(A) = 0.75, a: 0.5 + 0.375
    assert tree.value(1) == 0.875
    simulate(tree, 3, 0.0, "bellman", 0.5)
    simulate(tree, 3, 0.0, "bellman", 0.5)  # V(A) = (1 · 0.75 + 2 · 0) / 3 = 0.25, a: 0.625, V(root) = 0.625
    assert [tree.value(node) for node in range(4)] == [0.625, 0.625, 0.75, 0.0]
    assert [tree.visits(node) for node in range(4)] == [4, 4, 1, 2]


class Payoffs(Simulator[tuple[int, ...]]):
    """Two plies that end with the given payoffs of all players; a state is the actions that led to it."""

    def __init__(self, payoffs: Sequence[Sequence[Sequence[float]]], movers: tuple[int, int]) -> None:
        self.payoffs = payoffs
        self.movers = movers
        self.players = len(payoffs[0][0])
        self.zero_sum = self.players == 2

    def reset(self, seed: int, options: Any = None) -> tuple[int, ...]:
        return ()

    def current_player(self, state: tuple[int, ...]) -> int:
        return self.movers[len(state)] if len(state) < 2 else TERMINAL

    def observation(self, state: tuple[int, ...], player: int = 0) -> str:
        return repr(state)

    def legal_actions(self, state: tuple[int, ...]) -> list[str]:
        row = self.payoffs if not state else self.payoffs[state[0]]
        return [str(action) for action in range(len(row))]

    def step(self, state: tuple[int, ...], action: str) -> tuple[int, ...]:
        return (*state, int(action))

    def rewards(self, state: tuple[int, ...]) -> tuple[float, ...]:
        return tuple(self.payoffs[state[0]][state[1]]) if len(state) == 2 else (0.0,) * self.players


class Uniform:
    calls = 0

    def score(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        return [np.zeros(len(actions)) for actions in candidates]

    def propose(
        self, transcripts: Sequence[Transcript], n: int, rngs: Sequence[np.random.Generator]
    ) -> list[list[Proposal]]:
        raise NotImplementedError


class Nothing:
    calls = 0

    def evaluate(self, leaves: Sequence[Leaf]) -> np.ndarray:
        return np.zeros((len(leaves), leaves[0].simulator.players))


def full_tree(game: Payoffs, **settings: Any) -> Tree:
    """Every node once: the root, its children, their children."""
    count = 1 + len(game.payoffs) + sum(len(row) for row in game.payoffs)
    options = flat_settings(simulations=count, selection="minimax", solve=False, **settings)
    return search(game, [Root((), (observed("()"),))], Uniform(), Nothing(), options)[0]


def test_minimax_of_two_plies_is_pokechamps_choice() -> None:
    # what each own move gets against each answer: the best of the worst is the second's, 3
    outcomes = [[9.0, 1.0], [3.0, 4.0], [2.0, 8.0]]
    game = Payoffs([[(value, -value) for value in row] for row in outcomes], (0, 1))
    tree = full_tree(game, backup="minimax")
    assert [tree.value(child) for child in tree.children()] == [1.0, 3.0, 2.0]
    assert tree.value(0) == 3.0
    assert tree.best_action("value") == "1"


def test_three_players_take_each_their_own_best() -> None:
    # player 1 answers with its own largest entry, 5 and 7; player 0 then prefers 2 to 1 (max^n)
    payoffs = [[(9.0, 0.0, 1.0), (2.0, 5.0, 3.0)], [(1.0, 7.0, 4.0), (8.0, 6.0, 0.0)]]
    tree = full_tree(Payoffs(payoffs, (0, 1)), backup="minimax")
    assert [tree.value(child) for child in tree.children()] == [2.0, 1.0]
    assert tree.returns(0).tolist() == [2.0, 5.0, 3.0]


def test_the_mean_of_three_players_is_taken_entry_by_entry() -> None:
    # one evaluation of nothing at the root and at each child, and two outcomes below each child
    payoffs = [[(9.0, 0.0, 1.0), (3.0, 5.0, 3.0)], [(1.0, 7.0, 4.0), (8.0, 6.0, 2.0)]]
    tree = full_tree(Payoffs(payoffs, (0, 1)))
    assert tree.returns(tree.children()[0]) == pytest.approx([4.0, 5.0 / 3.0, 4.0 / 3.0])
    assert tree.returns(0) == pytest.approx([3.0, 18.0 / 7.0, 10.0 / 7.0])


def test_bellman_max_backs_up_the_best_child_discounted() -> None:
    tree = full_tree(Payoffs([[(1.0,), (4.0,)], [(2.0,), (3.0,)]], (0, 0)), backup="bellman_max", discount=0.5)
    assert [tree.value(child) for child in tree.children()] == [2.0, 1.5]
    assert tree.value(0) == 2.0


def test_max_backs_up_the_best_return() -> None:
    tree = full_tree(Payoffs([[(-1.0,), (-4.0,)], [(2.0,), (3.0,)]], (0, 0)), backup="max")
    # an evaluation of 0 at each child is a return too
    assert [tree.value(child) for child in tree.children()] == [0.0, 3.0]
    assert tree.value(0) == 3.0


def test_the_answer_of_a_gumbel_search_scales_values_unless_told_otherwise() -> None:
    """mctx's ``qtransform_completed_by_mix_value`` does."""
    values, visits, prior = np.array([3.0, 1.0]), np.array([2.0, 2.0]), np.array([0.25, 0.75])
    usual = gumbel.root_answer(np.zeros(2), values, visits, prior, 0.0)[1]
    scaled, plain = (
        gumbel.root_answer(np.zeros(2), values, visits, prior, 0.0, gumbel.VALUE_SCALE, gumbel.MAXVISIT_INIT, on)[1]
        for on in (True, False)
    )
    assert usual.tolist() == scaled.tolist() != plain.tolist()
