"""First mistakes with a search: each is one line that names the value and the cure, before or at the first step, by the
general engine and by the compiled one; what breaks a promise of a simulator names the check of all of them."""

import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest
from flat_settings import flat_settings

import branchwise  # noqa: F401 (registers the environments)
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.play.policy import FunctionPolicy, Proposal, can
from branchwise.envs.play.transcript import observed
from branchwise.envs.promises import fault_of_actions
from branchwise.envs.simulator import CHANCE, TERMINAL, Simulator
from branchwise.search import compiled
from branchwise.search.border import generators
from branchwise.search.engine import Root, SearchSettings, SearchStopped, search
from branchwise.search.evaluation import Mixed, PolicyRollout, RandomRollout, Repeated, ValueFunction
from branchwise.search.rules.options import RULES, Puct
from branchwise.search.trees.tree import Tree
from branchwise.testing import check_simulator
from branchwise.training.loop.config import BaseSettings, RunConfig
from branchwise.training.loop.recipe import Recipe, load_recipe
from branchwise.training.preference import PreferenceSettings
from branchwise.training.supervised import SupervisedSettings
from branchwise.training.value import ValueSettings


class Place(NamedTuple):
    steps: str = ""


class Walk(Simulator[Any]):
    """Three steps, left or right; right pays. ``broken`` replaces methods."""

    def __init__(self, players: Any = 1, listed: bool = True, **broken: Callable[..., Any]) -> None:
        self.players, self.listed = players, listed
        for name, function in broken.items():
            setattr(self, name, function)

    def reset(self, seed: int, options: Any = None) -> Any:
        return Place()

    def current_player(self, state: Any) -> int:
        return TERMINAL if len(state.steps) == 3 else len(state.steps) % self.players

    def observation(self, state: Any, player: int = 0) -> str:
        return f"after {state.steps}"

    def legal_actions(self, state: Any) -> Any:
        return (("left", "right") if len(state.steps) < 3 else ()) if self.listed else None

    def step(self, state: Any, action: str) -> Any:
        return Place(state.steps + action[:1])

    def rewards(self, state: Any) -> Any:
        return (float(state.steps.endswith("r")),) * self.players


PLACE = Place()


def grow(simulator: Any = None, roots: Any = None, policy: Any = None, evaluator: Any = None, **more: Any) -> Tree:
    simulator = Walk() if simulator is None else simulator
    roots = [Root(PLACE, (observed("go"),))] if roots is None else roots
    settings = more.pop("settings", SearchSettings(simulations=12))
    evaluator = RandomRollout() if evaluator is None else evaluator
    return search(simulator, roots, policy, evaluator, settings, more.pop("rng", None), **more)[0]


# ---- simulators -------------------------------------------------------------------------------------------------


class Listed(list):  # type: ignore[type-arg]
    """A state that is a list."""

    steps = ""


def on_arrays(name: str, answer: Callable[[Any], Any]) -> Walk:
    return Walk(**{name: lambda state, *_: answer(state)})


BROKEN = {
    "a state is a list": (
        Walk(step=lambda state, action: Listed()),
        r"the state \[\] \(Listed\) is not hashable; use a",
    ),
    "a state is an array": (
        Walk(step=lambda *_: np.zeros(2)),
        r"the state array\(\[0., 0.\]\) \(ndarray\) is not hash",
    ),
    "a position is a list": (on_arrays("position", lambda state: [1]), r"position gives \[1\] \(list\), which is no"),
    "rewards are a number": (on_arrays("rewards", lambda state: 1.0), r"rewards gives 1.0 \(float\) with players=1; "),
    "rewards are too many": (
        on_arrays("rewards", lambda state: (1.0, 0.0)),
        r"rewards gives \(1.0, 0.0\) \(tuple\) with",
    ),
    "rewards are a dict": (
        on_arrays("rewards", lambda state: {0: 1.0}),
        r"rewards gives \{0: 1.0\} \(dict\) with play",
    ),
    "rewards are none": (
        on_arrays("rewards", lambda state: None),
        r"rewards gives None \(NoneType\) with players=1; r",
    ),
    "an action comes twice": (on_arrays("legal_actions", lambda s: ["a", "a"]), "legal_actions has 'a' twice; list"),
    "actions are numbers": (
        on_arrays("legal_actions", lambda s: [0, 1]),
        r"legal_actions has 0 \(int\); an action is a te",
    ),
    "actions are a set": (
        on_arrays("legal_actions", lambda s: {"a"}),
        r"legal_actions gives \{'a'\} \(set\); return a l",
    ),
    "actions are a dict": (on_arrays("legal_actions", lambda s: {"a": 1}), r"legal_actions gives \{'a': 1\} \(dict\)"),
    "actions are one text": (on_arrays("legal_actions", lambda s: "go"), r"legal_actions gives 'go' \(str\); return"),
    "actions are an array": (on_arrays("legal_actions", lambda s: np.array(["a"])), r"legal_actions gives array\("),
    "actions are a generator": (
        on_arrays("legal_actions", lambda s: (a for a in "ab")),
        r"legal_actions gives <generator .* \(generator\); return a list",
    ),
    "players from 1": (
        on_arrays("current_player", lambda s: 1),
        r"current_player gives 1 \(int\) with players=1; return 0,",
    ),
    "a player is None": (
        on_arrays("current_player", lambda s: None),
        r"current_player gives None \(NoneType\) with players=1",
    ),
    "a player is a name": (
        on_arrays("current_player", lambda s: "x"),
        r"current_player gives 'x' \(str\) with players=1",
    ),
    "no players": (Walk(players=0), r"players is 0 \(int\); set Walk.players to their number, from 1"),
    "players are names": (
        Walk(players=("x", "o")),
        r"players is \('x', 'o'\) \(tuple\); set Walk.players to their number",
    ),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_a_simulator_that_breaks_a_promise_is_refused_with_the_cure(mistake: str) -> None:
    simulator, words = BROKEN[mistake]
    with pytest.raises(ValueError, match=words) as refused:
        grow(simulator)
    assert "branchwise.testing.check_simulator" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_players_numbered_from_1_are_found_at_the_first_step() -> None:
    numbered = Walk(players=2, current_player=lambda state: TERMINAL if len(state.steps) == 3 else len(state.steps) + 1)
    with pytest.raises(
        ValueError, match=r"current_player gives 2 \(int\) with players=2; return 0 to 1, CHANCE or TERM"
    ):
        grow(numbered, [Root(PLACE)], None, ValueFunction(lambda *_: 0.0))


def test_an_action_that_is_listed_twice_deeper_down_costs_that_leaf() -> None:
    def actions(state: Any) -> Any:
        return ["left", "left"] if state.steps == "r" else ["left", "right"] if len(state.steps) < 3 else []

    tree = grow(Walk(legal_actions=actions), settings=SearchSettings(simulations=12, selection=Puct(exploration=9.0)))
    assert tree.counters["failed_leaves"] == 1
    assert tree.last_error == "the simulator failed: legal_actions has 'left' twice; list an action once"


def test_rewards_may_be_any_sequence_of_the_right_length() -> None:
    plain = grow()
    for kind in (list, np.array):
        walk = Walk()
        other = Walk(rewards=lambda state, kind=kind, walk=walk: kind(walk.rewards(state)))
        assert grow(other).nodes.tobytes() == plain.nodes.tobytes()


@pytest.mark.parametrize("mistake", BROKEN)
def test_the_check_that_is_named_finds_the_mistake_too(mistake: str) -> None:
    simulator, words = BROKEN[mistake]
    what, _, _ = words.partition("; ")
    with pytest.raises(AssertionError, match=rf"broken promise: (.*: {what}|current_player is a player)"):
        check_simulator(simulator, fresh_process=False)


# ---- arguments --------------------------------------------------------------------------------------------------

GOOD = {"roots": [Root(PLACE)], "policy": None, "evaluator": RandomRollout(), "settings": None, "rng": None}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"simulator": Walk}, r"simulator is the class Walk; pass an object of it, Walk\(…\)"),
    ({"simulator": None}, r"simulator is None \(NoneType\), which has no current_player, .*; subclass"),
    ({"simulator": gymnasium.make("CartPole-v1")}, "which has no current_player.*envs.adapters.GymnasiumSimulator"),
    ({"simulator": gymnasium.make("branchwise/TicTacToe-v0")}, r"over a simulator, so pass env\.unwrapped\.simulator"),
    ({"roots": Root(PLACE)}, r"roots is one Root; pass a list, \[root\]"),
    ({"roots": None}, r"roots is None \(NoneType\); pass a list, \[Root\(state\)\]"),
    ({"roots": "start"}, r"roots is 'start' \(str\); pass a list, \[Root\(state\)\]"),
    ({"roots": {"seed": 0}}, r"roots is \{'seed': 0\} \(dict\); pass a list, \[Root\(state\)\]"),
    ({"roots": [PLACE]}, r"root 0 is Place\(steps=''\) \(Place\); wrap the state, Root\(state, transcript, task\)"),
    ({"roots": PLACE}, r"root 0 is '' \(str\); wrap the state"),
    ({"roots": [Root(PLACE, "hello")]}, r"the transcript of root 0 is 'hello' \(str\); expected turns"),
    ({"roots": [Root(PLACE, ({"role": "user"},))]}, r"the transcript of root 0 is .*; expected turns"),
    ({"roots": [Root(PLACE, (), 7)]}, r"the task of root 0 is 7 \(int\); expected a dict"),
    (
        {"settings": {"simulations": 8}},
        r"settings is \{'simulations': 8\} \(dict\); pass SearchSettings\(\*\*settings\)",
    ),
    ({"settings": SearchSettings}, r"settings is .*SearchSettings.* \(type\); pass SearchSettings\(simulations=…\)"),
    ({"rng": "seed"}, r"rng is 'seed' \(str\); pass numpy\.random\.default_rng\(seed\), a seed"),
    ({"rng": True}, r"rng is True \(bool\); pass numpy"),
    ({"rng": np.random.RandomState(0)}, r"rng is RandomState.*; pass numpy"),
    ({"rng": [0]}, r"rng is \[0\] \(list\); pass numpy"),
    ({"evaluator": RandomRollout}, r"evaluator is the class RandomRollout; pass an object of it, RandomRollout\(…\)"),
    ({"evaluator": 0.5}, r"evaluator is 0.5, which has no evaluate\(\); pass RandomRollout\(\)"),
    ({"policy": FunctionPolicy}, r"policy is the class FunctionPolicy; pass an object"),
    ({"policy": "gpt2"}, r"policy is 'gpt2', which has neither score\(\) nor propose\(\); expected"),
    ({"progress": 1}, r"progress is 1 \(int\); expected a function"),
]


@pytest.mark.parametrize(
    ("wrong", "words"), WRONG, ids=[f"{next(iter(wrong))} {place}" for place, (wrong, _) in enumerate(WRONG)]
)
def test_an_argument_of_another_type_is_refused_with_the_cure(wrong: dict[str, Any], words: str) -> None:
    for find in (search, compiled.search):
        given: dict[str, Any] = {"simulator": Walk(), **GOOD, **wrong}
        with pytest.raises(TypeError, match=words) as refused:
            find(**given)
        assert "\n" not in str(refused.value)


def test_the_general_engine_needs_an_evaluator_and_hooks_that_can_be_called() -> None:
    with pytest.raises(TypeError, match=r"evaluator is None, which has no evaluate\(\); pass RandomRollout\(\)"):
        search(Walk(), [Root(PLACE)], None, None)  # type: ignore[arg-type]
    for hook, words in (("critic", r"expected an object with values\(\)"), ("same", "function"), ("bonus", "function")):
        with pytest.raises(TypeError, match=f"{hook} is 3 .*{words}"):
            search(Walk(), [Root(PLACE)], None, RandomRollout(), **{hook: 3})  # type: ignore[arg-type]


@pytest.mark.parametrize("find", [search, compiled.search])
def test_a_seed_is_a_generator_of_that_seed(find: Any) -> None:
    game = TicTacToe()
    roots, settings = [Root(game.reset(0))] * 2, SearchSettings(simulations=30, random_ties=True, selection="uct")
    by_seed = find(game, roots, None, RandomRollout(max_steps=100), settings, 7)
    by_generator = find(game, roots, None, RandomRollout(max_steps=100), settings, np.random.default_rng(7))
    for one, other in zip(by_seed, by_generator, strict=True):
        assert one.nodes.tobytes() == other.nodes.tobytes()
    default = find(game, roots, None, RandomRollout(max_steps=100), settings)
    assert (
        default[1].nodes.tobytes()
        == find(game, roots, None, RandomRollout(max_steps=100), settings, 0)[1].nodes.tobytes()
    )


# ---- functions --------------------------------------------------------------------------------------------------


def to_the_right(transcript: Any, actions: Any) -> list[float]:
    return [0.0 if action == "right" else -2.0 for action in actions]


def test_a_function_as_policy_and_as_evaluator_is_wrapped() -> None:
    def worth(simulator: Any, state: Any, transcript: Any) -> float:
        return state.steps.count("r") / 3

    plain = grow(None, None, to_the_right, worth)
    wrapped = grow(None, None, FunctionPolicy(to_the_right), ValueFunction(worth))
    assert plain.nodes.tobytes() == wrapped.nodes.tobytes()
    shares = np.exp([-2.0, 0.0]) / np.exp([-2.0, 0.0]).sum()
    priors = [plain.prior(child) for child in plain.children()]
    assert np.allclose(priors, 0.1 / 2 + 0.9 * shares)  # uniform_prior is 0.1
    assert plain.counters["model_calls"] > 0
    for evaluator in (Repeated(worth, 1), Mixed(worth, worth, 0.5), PolicyRollout(to_the_right, temperature=0.0)):
        assert grow(None, None, to_the_right, evaluator).best_action() == "right"


@pytest.mark.parametrize("mixed", [False, True])
def test_an_evaluator_that_says_nothing_of_transcripts_is_given_them(mixed: bool) -> None:
    read: list[str] = []

    class Reader:
        def evaluate(self, leaves: Any) -> np.ndarray:
            read.extend(leaf.transcript[-1].text for leaf in leaves)
            return np.zeros((len(leaves), 1))

    grow(None, None, None, Mixed(Reader(), Reader(), 0.5) if mixed else Reader())
    assert read
    assert all(read)


def test_a_function_proposes_where_any_text_may_be_an_answer() -> None:
    def propose(transcript: Any, n: int, rng: np.random.Generator) -> list[Proposal]:
        return [Proposal(["left", "right"][int(rng.integers(2))], -0.7) for _ in range(n)]

    policy = FunctionPolicy(propose=propose)
    tree = grow(Walk(listed=False), None, policy, PolicyRollout(policy))
    assert {tree.actions[child] for child in tree.children()} == {"left", "right"}
    assert policy.calls > 0


def test_a_policy_that_cannot_answer_here_is_refused_with_the_cure() -> None:
    with pytest.raises(TypeError, match=r"takes free-text actions, and the policy FunctionPolicy has no propose\(\)"):
        grow(Walk(listed=False), None, to_the_right)
    with pytest.raises(ValueError, match=r"takes free-text actions, and there is no policy.*ListedActions"):
        grow(Walk(listed=False))

    class OnlyProposes:
        def propose(self, *_: Any) -> Any:
            return []

    with pytest.raises(TypeError, match=r"the policy OnlyProposes has no score\(\)"):
        grow(Walk(), None, OnlyProposes())


# ---- settings ---------------------------------------------------------------------------------------------------

KINDS = [
    SearchSettings,
    PreferenceSettings,
    SupervisedSettings,
    ValueSettings,
    BaseSettings,
    RunConfig,
    Recipe,
    *RULES.values(),
]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("simulations", 10.5, "expected a whole number"),
        ("simulations", "16", "expected a whole number"),
        ("simulations", True, "expected a whole number"),
        ("simulations", None, "expected a whole number"),
        ("virtual_loss", "2", "expected a number"),
        ("virtual_loss", float("nan"), "expected a number"),
        ("solve", "yes", "expected True or False"),
        ("solve", 1, "expected True or False"),
        ("selection", 3, "expected one of ucb1, uct"),
        ("max_nodes", 2.5, "expected a whole number or None"),
        ("proposals_by_depth", (4, 2.5), "expected a tuple of a whole number"),
        ("proposals_by_depth", 4, "expected a tuple of a whole number"),
    ],
)
def test_a_setting_of_another_type_is_refused(name: str, value: Any, words: str) -> None:
    with pytest.raises(TypeError, match=f"SearchSettings.{name} is {re.escape(repr(value))}; {words}"):
        flat_settings(**{name: value})


def test_an_unknown_choice_lists_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"SearchSettings.final is 'most'; expected one of visits, value"):
        SearchSettings(final="most")  # type: ignore[arg-type]


def made(kind: type) -> Any:
    return load_recipe("step_dpo") if kind is Recipe else kind()


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_every_settings_class_is_looked_at(kind: type) -> None:
    """A value of a class of its own fits nowhere."""
    settings = made(kind)
    for field in dataclasses.fields(kind):
        with pytest.raises(TypeError, match=f"{kind.__name__}.{field.name} is <object"):
            dataclasses.replace(settings, **{field.name: object()})


def test_numbers_of_numpy_and_lists_become_pythons_own() -> None:
    settings = SearchSettings(
        simulations=np.int64(8), selection=Puct(exploration=np.float32(0.5)), proposals_by_depth=[4, 2]
    )  # type: ignore[arg-type]
    assert settings == SearchSettings(simulations=8, selection=Puct(exploration=0.5), proposals_by_depth=(4, 2))
    assert hash(settings) == hash(
        SearchSettings(simulations=8, selection=Puct(exploration=0.5), proposals_by_depth=(4, 2))
    )
    assert json.loads(json.dumps(settings.as_json()))["simulations"] == 8


@pytest.mark.parametrize(
    ("method", "wrong", "words"),
    [
        ("current_player", 0.5, "current_player gives 0.5 (float) with players=1; return 0, CHANCE or TERMINAL"),
        ("current_player", 1, "current_player gives 1 (int) with players=1; return 0, CHANCE or TERMINAL"),
        ("rewards", {0: 1.0}, "rewards gives {0: 1.0} (dict) with players=1; return one number a player, as (0.0,)"),
        ("rewards", (1.0, 0.0), "rewards gives (1.0, 0.0) (tuple) with players=1; return one number a player, as"),
        ("rewards", np.zeros((1, 1)), "rewards gives array([[0.]]) (ndarray) with players=1; return one number"),
    ],
)
def test_a_step_further_on_is_refused_by_the_same_rules_as_the_first(method: str, wrong: Any, words: str) -> None:
    right = getattr(Walk(), method)
    simulator = Walk(**{method: lambda state: wrong if state.steps == "rl" else right(state)})
    settings = SearchSettings(simulations=40, selection=Puct(exploration=3.0))
    tree = grow(simulator, evaluator=lambda *_: 0.5, settings=settings)
    assert tree.counters["failed_actions"] == 1
    assert tree.last_error.startswith(f"the simulator failed: ValueError: Walk: {words}")


class Counted(str):
    """An action that counts how often it is compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_an_action_that_is_listed_twice_is_found_among_many_in_linear_time() -> None:
    actions = [Counted(f"a{i}") for i in range(2_000)] + [Counted("a1999")]
    assert fault_of_actions(actions) == ("legal_actions has 'a1999' twice", "list an action once")
    assert Counted.compared < 10 * len(actions)


# ---- what is left to the search ---------------------------------------------------------------------------------


def test_a_hook_that_is_a_class_is_refused_with_the_cure() -> None:
    class Likes:
        def __call__(self, *_: Any) -> float:
            return 0.0

        values = __call__

    for name in ("critic", "same", "bonus", "progress"):
        with pytest.raises(TypeError, match=rf"{name} is the class Likes; pass an object of it, Likes\(…\)"):
            search(Walk(), [Root(PLACE)], None, RandomRollout(), **{name: Likes})  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["legal_actions", "step", "rewards", "current_player"])
def test_what_raises_at_the_first_step_is_left_to_the_search(method: str) -> None:
    def raising(state: Any, *_: Any) -> Any:
        if method in ("legal_actions", "step") or state.steps:
            raise LookupError("lost")
        return 0

    with pytest.raises(SearchStopped, match=r"leaves failed.*the simulator failed: LookupError: lost"):
        grow(Walk(**{method: raising}), evaluator=lambda *_: 0.5)


def test_a_start_without_actions_is_left_to_the_search() -> None:
    with pytest.raises(SearchStopped, match="the simulator gave no legal actions in a state that is not terminal"):
        grow(Walk(legal_actions=lambda state: []))


def test_a_fault_of_the_first_step_is_told_though_a_later_answer_raises() -> None:
    def rewards(state: Any) -> Any:
        raise LookupError("lost")

    walk = Walk(current_player=lambda state: 7 if state.steps else 0, rewards=rewards)
    with pytest.raises(ValueError, match=r"current_player gives 7 \(int\) with players=1"):
        grow(walk)


@pytest.mark.parametrize(("player", "kind"), [(TERMINAL, "terminal"), (CHANCE, "a chance node")])
def test_a_root_where_no_player_moves_is_called_by_its_name(player: int, kind: str) -> None:
    with pytest.raises(ValueError, match=f"^root 0 is {kind}; a search starts where a player is to move$"):
        grow(Walk(current_player=lambda state: player))


@pytest.mark.parametrize("rng", [np.int64(7), np.uint8(7), 7])
def test_a_seed_may_be_any_whole_number(rng: Any) -> None:
    made = generators(rng)
    assert isinstance(made, np.random.Generator)
    assert made.random() == np.random.default_rng(7).random()
    with pytest.raises(TypeError, match=r"rng is 7\.0 \(float\)"):
        generators(7.0)


def test_generators_are_taken_as_they_are() -> None:
    one = np.random.default_rng(3)
    assert generators(one) is one
    assert generators((one, one)) == [one, one]
    assert generators(()) == []
    with pytest.raises(TypeError, match=r"rng is \[Generator.*\]"):
        generators([one, 3])


def test_a_policy_that_only_proposes_is_asked_for_free_text_alone() -> None:
    class Each:
        def propose(self, transcripts: Any, n: int, rngs: Any) -> Any:
            return [[Proposal("right", -0.5)] for _ in transcripts]

    tree = grow(Walk(listed=False), None, Each(), lambda *_: 0.5)
    assert tree.actions[1] == "right"
    with pytest.raises(TypeError, match=r"takes a list of actions, and the policy Each has no score\(\); FunctionPol"):
        grow(Walk(), None, Each())


# ---- functions as policies --------------------------------------------------------------------------------------


def test_a_policy_is_made_of_functions() -> None:
    for name in ("score", "propose"):
        with pytest.raises(TypeError, match=f"{name} is 3; expected a function"):
            FunctionPolicy(**{name: 3})  # type: ignore[arg-type]
    assert all(can(FunctionPolicy(len, len), name) for name in ("score", "propose"))  # type: ignore[arg-type]
    assert [can(FunctionPolicy(propose=len), name) for name in ("score", "propose")] == [False, True]  # type: ignore[arg-type]


def test_a_policy_says_which_function_it_lacks() -> None:
    scoring, proposing = FunctionPolicy(to_the_right), FunctionPolicy(propose=lambda *_: [])
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"the actions are listed here, and the policy only proposes; FunctionPolicy"):
        proposing.score([()], [["left"]])
    with pytest.raises(ValueError, match=r"any text may be an answer here, and the policy only scores; Function"):
        scoring.propose([()], 1, [rng])
    assert scoring.calls == proposing.calls == 0


def test_a_function_is_called_once_a_transcript_with_its_generator() -> None:
    given: list[Any] = []

    def propose(transcript: Any, n: int, rng: np.random.Generator) -> tuple[Proposal, ...]:
        given.append((transcript, n, rng))
        return (Proposal("left", -0.5),)

    policy, rngs = FunctionPolicy(to_the_right, propose), np.random.default_rng(0).spawn(2)
    here, there = (observed("here"),), (observed("there"),)
    assert [scores.tolist() for scores in policy.score([here, there], [["right"], ["left", "right"]])] == [
        [0.0],
        [-2.0, 0.0],
    ]
    assert policy.calls == 2
    assert policy.propose([here, there], 3, [rngs[0]] * 2) == [[Proposal("left", -0.5)]] * 2
    assert given == [(here, 3, rngs[0]), (there, 3, rngs[0])]
    assert policy.calls == 4
    assert policy.propose([here, there], 2, rngs) == [[Proposal("left", -0.5)]] * 2
    assert given[2:] == [(here, 2, rngs[0]), (there, 2, rngs[1])]
