"""Registered means tested: every row of the registry, in Gymnasium and in PettingZoo, by its id."""

import hashlib
import json
import os
import pickle
import random
import subprocess
import sys
import time
import types
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import pettingzoo
import pytest
from gymnasium.utils.env_checker import check_env
from pettingzoo.test import api_test, max_cycles_test, parallel_api_test, render_test, seed_test
from pettingzoo.test.seed_test import parallel_seed_test

import branchwise
from branchwise.envs import TERMINAL, environments, registry, simulator_for
from branchwise.envs.abilities import suggested_actions
from branchwise.envs.games.wording import plain_words
from branchwise.envs.opponents import draw_outcome
from branchwise.envs.web_shop.pages import showable
from branchwise.testing import check_hostile_steps, check_simulator, check_snapshot, check_zoo_text

ROWS = {row.id: row for row in environments()}
IDS = list(ROWS)
GAMES = [row.id for row in ROWS.values() if row.players > 1]
NAMED = [(row.id, name) for row in ROWS.values() for name, _ in row.opponents]
PHRASES = ("search[red cotton shirt]", "search[slim fit men's shoes size 9]", "yes", "42")


@pytest.fixture(autouse=True)
def _needs_its_extra(request: pytest.FixtureRequest) -> None:
    env_id = getattr(request.node, "callspec", None) and request.node.callspec.params.get("env_id")
    extra = ROWS[env_id].extra if env_id else ""
    if extra:
        pytest.importorskip({"openspiel": "pyspiel"}[extra])


@cache
def simulator(env_id: str) -> Any:
    return simulator_for(env_id)


def actions_of(env: gym.Env[str, str], state: Any = None) -> list[str]:
    rules = env.unwrapped.simulator  # type: ignore[attr-defined]
    return list(suggested_actions(rules, env.unwrapped.state)) or ["yes"]  # type: ignore[attr-defined]


def episode(rules: Any, seed: int) -> Iterator[tuple[Any, str]]:
    """The states and actions of an episode of random suggested actions."""
    rng = np.random.default_rng(seed)
    state = rules.reset(seed)
    while (player := rules.current_player(state)) != TERMINAL:
        choices = suggested_actions(rules, state) if player >= 0 else ()
        action = choices[int(rng.integers(len(choices)))] if choices else draw_outcome(rules, state, rng)
        yield state, action
        state = rules.step(state, action)
    yield state, ""


# Gymnasium.


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasium_finds_nothing_to_say(env_id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(env_id, render_mode="ansi"))
        checked = gym.make(env_id, disable_env_checker=False)
        checked.reset(seed=0)
        checked.step(actions_of(checked)[0])
        checked.reset(seed=0)
        checked.step("nothing of the kind")


@pytest.mark.parametrize("env_id", IDS)
def test_it_keeps_every_promise_of_snapshots(env_id: str) -> None:
    check_snapshot(gym.make(env_id), actions=PHRASES)


@pytest.mark.parametrize("env_id", IDS)
def test_observations_stay_in_their_space(env_id: str) -> None:
    env = gym.make(env_id, render_mode="ansi")
    rng = random.Random(0)
    for seed in range(5):
        observation, _ = env.reset(seed=seed)
        over = False
        while not over:
            assert env.observation_space.contains(observation)
            assert env.render() == observation
            observation, _, terminated, truncated, _ = env.step(rng.choice([*actions_of(env), "\x00\ud800"]))
            over = terminated or truncated
        assert env.observation_space.contains(observation)


@pytest.mark.parametrize("env_id", IDS)
def test_success_and_invalid_actions_are_told(env_id: str) -> None:
    env = gym.make(env_id)
    _, info = env.reset(seed=0)
    assert info["success"] is False
    assert info["invalid_action"] is False
    info = env.step("\x00 nothing of the kind")[-1]
    assert isinstance(info["success"], bool)
    assert info["invalid_action"] is True or env.unwrapped.simulator.legal_actions(env.unwrapped.state) is None  # type: ignore[attr-defined]


@pytest.mark.parametrize("env_id", IDS)
def test_its_specification_is_json_and_makes_it_again(env_id: str) -> None:
    written = gym.spec(env_id).to_json()
    assert json.loads(written)["id"] == env_id
    assert gym.make(type(gym.spec(env_id)).from_json(written)).reset(seed=3) == gym.make(env_id).reset(seed=3)


def test_the_module_form_of_an_id_imports_by_itself() -> None:
    for env_id in IDS[:2]:
        script = f"import gymnasium; print(gymnasium.make('branchwise.envs:{env_id}').reset(seed=0)[0][:20])"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
        assert done.stdout.strip()


@pytest.mark.parametrize("env_id", IDS)
def test_it_can_be_pickled_in_the_middle(env_id: str) -> None:
    env = gym.make(env_id)
    env.reset(seed=2)
    env.step("\x00 nothing of the kind")
    copied = pickle.loads(pickle.dumps(env))
    action = actions_of(env)[-1]
    assert copied.step(action) == env.step(action)


@pytest.mark.parametrize("mode", ["sync", "async", "vector_entry_point"])
@pytest.mark.parametrize("env_id", IDS)
def test_vectors_say_what_single_environments_say(env_id: str, mode: str) -> None:
    # Started afresh: threads that the tests' own process has by now do not survive a fork.
    spawned = {"shared_memory": False, "context": "spawn"}
    extra: dict[str, Any] = {"vector_kwargs": spawned} if mode == "async" else {}
    single = [gym.make(env_id) for _ in range(2)]
    starts = [env.reset(seed=5 + i) for i, env in enumerate(single)]
    actions = (actions_of(single[0])[0], "nonsense")
    said = [env.step(action) for env, action in zip(single, actions, strict=True)]
    envs = gym.make_vec(env_id, num_envs=2, vectorization_mode=mode, **extra)
    try:
        observations, _ = envs.reset(seed=[5, 6])
        after, rewards, terminated, truncated, infos = envs.step(actions)
        infos = {key: list(value) for key, value in infos.items() if not isinstance(value, dict)}
    finally:
        envs.close()
    for i, (observation, reward, ended, cut, info) in enumerate(said):
        assert starts[i][0] == observations[i]
        assert (observation, reward, ended, cut) == (after[i], rewards[i], terminated[i], truncated[i])
        assert infos["invalid_action"][i] == info["invalid_action"]
        assert infos["admissible_commands"][i] == info["admissible_commands"]


@pytest.mark.parametrize("env_id", IDS[:1])
def test_shared_memory_is_refused_rather_than_filled_with_filler(env_id: str) -> None:
    with pytest.raises(ValueError, match="shared_memory=False"):
        gym.make_vec(env_id, num_envs=1, vectorization_mode="async")


@pytest.mark.parametrize("env_id", IDS)
def test_its_splits_players_and_options_are_as_listed(env_id: str) -> None:
    row = ROWS[env_id]
    assert row.summary.endswith(".")
    assert simulator(env_id).players == row.players
    assert ("split" in registry.accepted_options(env_id)) == bool(row.splits)
    firsts = set()
    for split in row.splits:
        rules = simulator_for(env_id, split=split)
        firsts.add(rules.observation(rules.reset(0)))
    assert len(firsts) == len(row.splits)


@pytest.mark.parametrize("env_id", IDS)
def test_its_class_has_a_page(env_id: str) -> None:
    row = ROWS[env_id]
    page = gym.envs.registration.load_env_creator(row.entry_point or row.simulator).__doc__ or ""
    for heading in (
        "Description",
        "Observation Space",
        "Action Space",
        "Rewards",
        "Starting State",
        "Episode End",
        "Arguments",
        "Information",
        "Version History",
        "Source",
    ):
        assert f"## {heading}" in page, heading
    assert ">>> " in page


# Simulators.


@pytest.mark.parametrize("env_id", IDS)
def test_it_keeps_every_promise_of_a_simulator(env_id: str) -> None:
    check_simulator(simulator(env_id), actions=PHRASES, seeds=range(2), fresh_process=False)


@pytest.mark.parametrize("env_id", GAMES)
def test_each_view_keeps_every_promise_of_a_simulator(env_id: str) -> None:
    last = simulator(env_id).players - 1
    check_simulator(simulator_for(env_id, player=last), actions=PHRASES, seeds=[7], fresh_process=False)


@pytest.mark.parametrize("env_id", IDS)
def test_a_thousand_hostile_texts_are_taken_and_counted(env_id: str) -> None:
    assert check_hostile_steps(simulator(env_id)) > 0


@pytest.mark.parametrize("env_id", IDS)
def test_equal_states_have_equal_hashes_and_survive_pickling(env_id: str) -> None:
    rules = simulator(env_id)
    for (state, action), (again, _) in zip(episode(rules, 4), episode(rules, 4), strict=True):
        assert state == again == pickle.loads(pickle.dumps(state))
        assert hash(state) == hash(again) == hash(pickle.loads(pickle.dumps(state)))
        if action:
            assert rules.step(pickle.loads(pickle.dumps(state)), action) == rules.step(state, action)


def trails(ids: list[str]) -> dict[str, str]:
    """What episodes of ``ids`` look like, as digests: run here and in another process."""
    found = {}
    for env_id in ids:
        rules = simulator_for(env_id)
        views = [rules] if rules.players == 1 else [rules, simulator_for(env_id, player=rules.players - 1)]
        said = [
            (action, [one.observation(state, p) for p in range(one.players)], one.rewards(state))
            for one in views
            for seed in (0, 1)
            for state, action in episode(one, seed)
        ]
        found[env_id] = hashlib.sha256(repr(said).encode("utf-8", "replace")).hexdigest()
    return found


def test_episodes_are_the_same_in_another_process(request: pytest.FixtureRequest) -> None:
    ids = [env_id for env_id in IDS if not ROWS[env_id].extra]
    script = (
        "import sys, json, importlib.util as u; s = u.spec_from_file_location('here', sys.argv[1]);"
        "m = u.module_from_spec(s); s.loader.exec_module(m); print('\\n' + json.dumps(m.trails(sys.argv[2:])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, __file__, *ids],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert json.loads(done.stdout.splitlines()[-1]) == trails(ids)


@pytest.mark.parametrize("opponents", [5, [5, 5], ["random"], None])
def test_opponents_that_are_none_are_refused_before_the_first_move(opponents: Any) -> None:
    with pytest.raises(ValueError, match="opponents=") as told:
        simulator_for("branchwise/LeducPoker-v0", opponents=opponents)
    assert "'random', 'rule' or 'equilibrium'" in str(told.value)


@pytest.mark.parametrize(("env_id", "name"), NAMED)
def test_its_named_opponents_play_to_the_end_and_always_alike(env_id: str, name: str) -> None:
    rules = simulator_for(env_id, opponents=name)
    for seed in range(3):
        first, second = (list(episode(rules, seed)) for _ in range(2))
        assert first == second
        assert not any(rules.simulator.info(state.inner)["invalid_action"] for state, _ in first)  # type: ignore[attr-defined]


# PettingZoo.


class LegalSampling(pettingzoo.utils.wrappers.BaseWrapper):
    """``max_cycles_test`` samples without a mask; here a sample is always legal."""

    def action_space(self, agent: str) -> Any:
        table = self.env._actions
        numbers = list(table.texts(self.env.state_now)) or [0]
        return types.SimpleNamespace(sample=lambda: random.choice(numbers))


def zoo_module(env_id: str) -> Any:
    def parallel(**options: Any) -> Any:
        env = pettingzoo.make("parallel", env_id, **options)
        spaces = {agent: env.action_space(agent) for agent in env.possible_agents}
        table = env._actions

        def sampling(agent: str) -> Any:
            state = env._moves.get(env._numbers[agent])
            numbers = [0] if state is None else list(table.texts(state))
            return types.SimpleNamespace(sample=lambda: random.choice(numbers), known=spaces[agent])

        env.action_space = sampling
        return env

    return types.SimpleNamespace(
        parallel_env=parallel, env=lambda **options: LegalSampling(pettingzoo.make("aec", env_id, **options))
    )


@pytest.mark.parametrize("env_id", GAMES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pettingzoo_api(env_id: str) -> None:
    api_test(pettingzoo.make("aec", env_id), num_cycles=100)
    parallel_api_test(pettingzoo.make("parallel", env_id), num_cycles=100)


@pytest.mark.parametrize("env_id", GAMES)
def test_pettingzoo_seeds(env_id: str) -> None:
    seed_test(lambda: pettingzoo.make("aec", env_id), num_cycles=100)
    parallel_seed_test(lambda: pettingzoo.make("parallel", env_id), num_cycles=50)


@pytest.mark.parametrize("env_id", GAMES)
def test_pettingzoo_rendering(env_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    def make(render_mode: str | None = None) -> Any:
        return pettingzoo.make("aec", env_id, render_mode=render_mode)

    render_test(make, {"svg": lambda picture: picture.lstrip().startswith("<svg")})


@pytest.mark.parametrize("env_id", GAMES)
def test_pettingzoo_max_cycles(env_id: str) -> None:
    """PettingZoo's test asks for four cycles of everybody; a game may be over before. Then at least nobody acts more
    often, and what was cut off is truncated."""
    random.seed(0)
    module = zoo_module(env_id)
    lengths = [sum(1 for _ in episode(simulator(env_id), seed)) for seed in range(5)]
    if min(lengths) > 8 * simulator(env_id).players and simulator(env_id).players == 2:
        max_cycles_test(module)
    env = module.env(max_cycles=1)
    env.reset(seed=0)
    turns = dict.fromkeys(env.possible_agents, 0)
    for agent in env.agent_iter():
        _, _, terminated, truncated, _ = env.last()
        turns[agent] += not (terminated or truncated)
        env.step(None if terminated or truncated else env.action_space(agent).sample())
    assert max(turns.values()) == 1


@pytest.mark.parametrize("env_id", GAMES)
def test_the_pure_text_form_keeps_its_promises(env_id: str) -> None:
    check_zoo_text(lambda: pettingzoo.make("aec", env_id, text=True), seeds=(0,))


# The registry itself.


def test_register_envs_and_a_second_registration_change_nothing() -> None:
    gym.register_envs(branchwise)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        branchwise.register()
    assert set(IDS) <= set(gym.registry)
    assert set(GAMES) <= set(pettingzoo.aec_registry)
    assert set(GAMES) <= set(pettingzoo.parallel_registry)


def test_importing_branchwise_is_light() -> None:
    heavy = ("torch", "transformers", "bm25s", "numba", "scipy", "pyspiel")
    script = f"import sys, branchwise; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_an_unknown_id_names_its_neighbours() -> None:
    with pytest.raises(ValueError, match="did you mean branchwise/WebShop-v0"):
        simulator_for("WebShp-v1")
    with pytest.raises(ValueError, match="Registered: branchwise/WebShop-v0"):
        simulator_for("nothing like it")


def test_an_unknown_option_names_those_that_are_accepted() -> None:
    with pytest.raises(TypeError, match=r"no option 'product'.*products"):
        simulator_for("branchwise/WebShop-v0", product=10)


@pytest.mark.parametrize("env_id", ["branchwise/WebShop-v0"])
def test_ten_thousand_steps_a_second_and_more(env_id: str) -> None:
    """Steps per CPU-second through ``gym.make``, resets included; best of three."""
    env = gym.make(env_id)
    actions = [PHRASES[0], "click[next >]", "click[< prev]", "nonsense", "click[back to search]", PHRASES[1]]
    rates = []
    for _ in range(3):
        started = time.process_time()
        for seed in range(200):
            env.reset(seed=seed)
            for action in actions:
                env.step(action)
        rates.append(200 * len(actions) / (time.process_time() - started))
    assert max(rates) > 10_000


@pytest.mark.parametrize("text", ["𠮷", "𝟙", "\U000f0000", "\r", "\x1b[2J"])
@pytest.mark.parametrize("env_id", IDS)
def test_an_observation_stays_in_its_space_whatever_was_written(env_id: str, text: str) -> None:
    env = gym.make(env_id)
    _, info = env.reset(seed=0)
    known = [command.replace("…", text) for command in info["admissible_commands"] or ()]
    for action in (text, f"offer[{text}]", f"say: {text}", *known[:4], *(f"{command} {text}" for command in known[:4])):
        env.reset(seed=0)
        observation, *_ = env.step(action)
        assert observation in env.observation_space, (action, observation)


@pytest.mark.parametrize(("typed", "game"), [("Chess-v0", "chess"), ("Dark_Chess-v0", "dark_chess"), ("go", "go")])
def test_a_game_of_open_spiel_is_pointed_to(typed: str, game: str) -> None:
    pytest.importorskip("pyspiel")
    with pytest.raises(ValueError, match=rf"OpenSpiel-v0, with --option game={game}\."):
        simulator_for(typed)


@pytest.mark.parametrize("typed", ["CartPole-v99", "LunarLander", "Hopper", "nowhere"])
def test_only_near_names_are_suggested(typed: str) -> None:
    with pytest.raises(ValueError, match=f"No environment '{typed}': Registered"):
        simulator_for(typed)


def test_words_of_players_and_of_pages_have_characters_of_the_space() -> None:
    space = gym.make("branchwise/TicTacToe-v0").observation_space
    rare = "𠮷田 \U000f0000 𝔉 👕"
    assert rare not in space
    assert plain_words(rare, 50) == "�田 � � 👕"
    assert showable(rare) == "�田 � F 👕"
    assert plain_words(rare, 50) in space
    assert showable(rare) in space
