"""Settings of searches by name: those of published systems, and which suit the rules of an environment.

``preset("lats", simulations=64)`` is what a paper says of the search itself (docs/search.md has the table, with the
evaluators and critics that go with each). A preset names the settings that the paper gives; all else are the defaults
of :class:`SearchSettings`, or what it is laid over.

Hidden information is searched over information sets of the player to move (``information.py``), values scaled to [0, 1]
by the tree's bounds, since games of cards pay in chips; with that scale an exploration of 5 serves. The command
``branchwise search`` and the players called ``mcts`` all ask :func:`suited_settings`.

Not here: what is extracted from the trees and learned from it (the recipes of ``training/recipes``).
"""

import difflib
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

from ..envs.abilities import hides
from ..envs.simulator import Simulator
from .rules.swe_search import TERMS
from .settings import SearchSettings

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "agent_q": {
        "selection": {"ucb1": {"exploration": 1.4, "unvisited_value": "prior"}},
        "critic_weight": 0.5,
        "uniform_prior": 0.0,
    },
    "mcts_dpo": {
        "selection": {"puct": {"unvisited_value": "zero"}},
        "backup": "bellman",
        "uniform_prior": 0.0,
        "proposals_by_depth": [4],
        "proposals": 2,
    },
    "step_q": {"selection": {"uct": {"exploration": 1.41}}, "simulations": 30},
    "lats": {"selection": {"uct": {"exploration": 1.0}}, "proposals": 5, "simulations": 30},
    "rest_mcts": {"selection": {"uct": {"exploration": 0.7}}, "proposals": 3, "backup": "bellman"},
    "pg_td": {
        "selection": {"p_ucb": {"exploration": 6.36, "unvisited_value": "zero"}},
        "backup": "max",
        "uniform_prior": 0.0,
    },
    "armap": {
        "selection": {"p_ucb": {"exploration": 6.36, "unvisited_value": "zero"}},
        "backup": "max",
        "discount": 0.9,
        "uniform_prior": 0.0,
    },
    "alphazero": {
        "selection": {"alphazero": {"exploration": 1.25, "unvisited_value": "zero"}},
        "noise": 0.25,
        "uniform_prior": 0.0,
    },
    "gumbel_muzero": {"selection": {"gumbel": {"considered": 16}}, "solve": False, "uniform_prior": 0.0},
    "katago": {"selection": {"puct": {"unvisited_value": "reduced", "fpu_value": 0.2}}, "uniform_prior": 0.0},
    "qlass": {"backup": "bellman_max", "discount": 0.9},
    "optima": {
        "selection": {"softmax": {"top_nodes": 10, "apart": 0.25}},
        "merge": "edit_distance",
        "merge_distance": 0.1,
    },
    "swe_search": {
        "selection": {
            "uct_bonus": {
                "exploration": 1.0,
                "exploitation": 100.0,
                "bonus_terms": list(TERMS),
                "whole_tree": True,
            }
        }
    },
    "pokechamp": {"selection": {"minimax": {}}, "backup": "minimax"},
    "openspiel_mcts": {"selection": {"uct": {"exploration": 2**0.5}}, "random_ties": True},
    "openspiel_ismcts": {
        "selection": {"uct": {"exploration": 2**0.5}},
        "information": "multiple_observer",
        "solve": False,
    },
}
"""The settings that each system's paper gives for its search, as YAML would have them."""


def preset_options(name: str) -> dict[str, Any]:
    """The settings that a preset names, as plain data. Raises ValueError where there is none of that name."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name.lower().replace("-", "_"), PRESETS, 1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"there is no preset {name!r}{meant} (known: {', '.join(PRESETS)})")
    return deepcopy(dict(PRESETS[name]))


def preset(name: str, **changes: Any) -> SearchSettings:
    """The search of a published system, with ``changes``. Raises ValueError where there is none of that name.

    >>> preset("lats", simulations=64).rule
    Uct(exploration=1.0)
    """
    return SearchSettings(**{**preset_options(name), **changes})


def suited_settings(simulator: Simulator[Any]) -> dict[str, Any]:
    """The settings that should differ from their defaults in these rules, as plain data."""
    if not hides(simulator):
        return {}
    return {"information": "single_observer", "normalise": "tree", "selection": {"puct": {"exploration": 5.0}}}
