"""A search of hidden information, as several test files grow it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from flat_settings import flat_settings

from branchwise.envs.simulator import Simulator
from branchwise.search.engine import Root, search
from branchwise.search.evaluation import RandomRollout
from branchwise.search.trees.information_tree import InformationTree


def grown(
    simulator: Simulator[Any], states: Sequence[Any], seed: int = 0, evaluator: Any = None, **options: Any
) -> list[InformationTree]:
    defaults = {"simulations": 300, "selection": "uct", "exploration": 1.0, "solve": False, "uniform_prior": 1.0}
    settings = flat_settings(**{"information": "multiple_observer", **defaults, **options})
    judge = evaluator or RandomRollout()
    return search(simulator, [Root(state) for state in states], None, judge, settings, np.random.default_rng(seed))  # type: ignore[return-value]
