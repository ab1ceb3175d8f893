"""An option that an environment does not know is refused, in every registered environment and by every way in."""

import importlib
import inspect
import pkgutil
from typing import Any

import gymnasium as gym
import pettingzoo
import pytest

import branchwise.envs
from branchwise.envs import Simulator, environments, registry, simulator_for
from branchwise.envs.adapters import GymnasiumSimulator, PettingZooSimulator
from branchwise.envs.noisy import NoisyVerdict
from branchwise.envs.openenv import SimulatorEnvironment
from branchwise.envs.views import SinglePlayerView
from branchwise.envs.wrappers import ListedActions, Wrapper

ROWS = {row.id: row for row in environments()}
GAMES = [row.id for row in ROWS.values() if row.players > 1]
KNOWN: dict[str, dict[str, Any]] = {  # an option of each environment that has one, which must stay accepted
    "branchwise/WebShop-v0": {"goal": 0},
    "branchwise/MathTool-v0": {"goal": 0},
    "branchwise/Bifurcation-v0": {"goal": 0},
    "branchwise/Werewolf-v0": {"roles": "wwsdvvv"},
    "branchwise/Bargaining-v0": {"discounts": (0.9, 0.8)},
    "branchwise/BuyerSeller-v0": {"values": (0.8, 1.2)},
    "branchwise/DealOrNoDeal-v0": {"context": ((1, 2, 3), (1, 3, 1), (4, 0, 2))},
    "branchwise/CaSiNo-v0": {"context": ((5, 4, 3), (3, 4, 5))},
    "branchwise/Haggling-v0": {"target": 0.7},
}


def simulator(env_id: str, **options: Any) -> Any:
    if ROWS[env_id].extra == "openspiel":
        pytest.importorskip("pyspiel")
    return simulator_for(env_id, **options)


def refused_by(make: Any) -> Any:
    return pytest.raises(ValueError, match=rf"{type(make).__name__}: unknown reset option 'nonsense'; accepted: ")


@pytest.mark.parametrize("env_id", ROWS)
def test_an_unknown_reset_option_is_refused(env_id: str) -> None:
    rules = simulator(env_id)
    known = KNOWN.get(env_id, {})
    with refused_by(rules):
        rules.reset(0, {"nonsense": 1, **known})
    with pytest.raises(ValueError, match="expected a mapping"):
        rules.reset(0, ["nonsense"])
    assert rules.reset(0, {}) == rules.reset(0, None)
    rules.reset(0, known)
    with pytest.raises(ValueError, match=", ".join(map(repr, known)) or "none"):
        rules.reset(0, {"nonsense": 1})


@pytest.mark.parametrize("env_id", ROWS)
def test_views_and_shells_pass_the_refusal_on(env_id: str) -> None:
    rules = simulator(env_id)
    view = SinglePlayerView(rules) if rules.players > 1 else rules
    ways = [
        lambda options: gym.make(env_id).reset(seed=0, options=options),
        lambda options: gym.make_vec(env_id, num_envs=2).reset(seed=0, options=options),
        lambda options: gym.make_vec(env_id, num_envs=2, vectorization_mode="sync").reset(seed=0, options=options),
        lambda options: ListedActions(view).reset(0, options),
        lambda options: (
            SimulatorEnvironment(view).reset(0, **options)
            if SimulatorEnvironment.__base__ is not object
            else view.reset(0, options)
        ),
    ]
    if rules.players > 1:
        for make in (registry.make_aec, registry.make_parallel):
            ways += [
                lambda options, make=make, text=text: make(env_id, text=text).reset(0, options)
                for text in (True, False)
            ]
    for way in ways:
        with refused_by(rules):
            way({"nonsense": 1})


def test_a_board_has_no_opening_by_name() -> None:
    with pytest.raises(ValueError, match="ConnectFour: unknown reset option 'opening'; accepted: none"):
        simulator_for("branchwise/ConnectFour-v0").reset(0, {"opening": "d4"})


@pytest.mark.parametrize("env_id", ROWS)
def test_an_unknown_option_of_making_is_refused(env_id: str) -> None:
    simulator(env_id)
    ways = [gym.make, gym.make_vec, simulator_for]
    if env_id in GAMES:
        ways += [
            lambda env_id, **options: pettingzoo.make("aec", env_id, **options),
            lambda env_id, **options: pettingzoo.make("parallel", env_id, **options),
        ]
    for make in ways:
        with pytest.raises((TypeError, ValueError), match="nonsense"):
            make(env_id, nonsense=1)


def test_no_simulator_escapes_these_tests() -> None:
    """What has a ``reset`` of its own is registered, is a base of what is, or passes options on to what it wraps."""
    pytest.importorskip("pyspiel")
    tested = {base for env_id in ROWS for base in type(simulator_for(env_id)).__mro__}
    passing = {SinglePlayerView, GymnasiumSimulator, PettingZooSimulator, Wrapper, NoisyVerdict}
    for module in pkgutil.walk_packages(branchwise.envs.__path__, "branchwise.envs."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if Simulator in kind.__mro__ and "reset" in vars(kind):
                assert kind in tested | passing, kind
