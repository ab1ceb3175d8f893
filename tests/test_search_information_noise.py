"""Noise in the prior of a root that is an information set: from the first simulation on, as in other trees."""

from dataclasses import replace

import numpy as np
import pytest

from branchwise.envs.games.kuhn_poker import KuhnPoker
from branchwise.envs.play.task import start
from branchwise.search.engine import SearchSettings, extend, search
from branchwise.search.evaluation import RandomRollout


@pytest.mark.parametrize("information", ["single_observer", "multiple_observer"])
def test_a_tree_of_information_sets_with_noise_that_was_extended_equals_one_of_one_go(information: str) -> None:
    game, task = KuhnPoker(), {"seed": 3}
    root = start(game, task)
    settings = SearchSettings(simulations=60, selection="puct", information=information, noise=0.25)  # type: ignore[arg-type]
    [whole] = search(game, [root], None, RandomRollout(), settings, 0)
    assert whole.noisy
    assert whole.prior(whole.children()[0]) != 0.5
    assert sum(whole.prior(child) for child in whole.children()) == pytest.approx(1.0)
    for cut in (1, 2, 37):
        [tree] = search(game, [root], None, RandomRollout(), replace(settings, simulations=cut), 0)
        [tree] = extend(game, [tree], None, RandomRollout(), settings)
        assert np.array_equal(tree.nodes, whole.nodes)
        assert tree.actions == whole.actions
