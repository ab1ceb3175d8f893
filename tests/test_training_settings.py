"""Settings files are read strictly: nothing misspelt or of the wrong type passes."""

import math
from dataclasses import dataclass, field, fields, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from branchwise.cli import parsed_options
from branchwise.cli.options import RUNS
from branchwise.search.rules.options import Uct
from branchwise.search.settings import SearchSettings
from branchwise.training.kto import KtoSettings
from branchwise.training.loop.config import BaseSettings, RunConfig, config_names, load_config, run_of, unread
from branchwise.training.loop.extractors import (
    CREDIT,
    EXTRACT,
    Advantages,
    BestPaths,
    SiblingPairs,
    Successes,
    TrajectoryPairs,
)
from branchwise.training.loop.learners import LEARN, Preference
from branchwise.training.loop.recipe import Recipe, load_recipe, recipe_names
from branchwise.training.loop.run import _claim, check_run
from branchwise.training.loop.slots import COLLECT, BestOf
from branchwise.training.oreo import OreoSettings
from branchwise.training.preference import PreferenceSettings
from branchwise.training.run_folder import how_equal
from branchwise.training.settings import SettingsError, _Loader, as_dict, build, override, read_yaml
from branchwise.training.supervised import SupervisedSettings
from branchwise.training.value import ValueSettings


@dataclass(frozen=True)
class Inner:
    simulations: int = 8
    exploration: float = 1.5


@dataclass(frozen=True)
class Outer:
    name: str = "run"
    rounds: int = 2
    rate: float = 0.1
    fast: bool = False
    kind: Literal["mean", "bellman"] = "mean"
    limit: int | Literal["none"] | tuple[int, ...] = "none"
    cap: float | None = None
    rates: tuple[float, ...] = ()
    levels: tuple[Inner, ...] = ()
    pair: tuple[int, str] = (1, "a")
    options: dict[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] | None = None
    search: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds={self.rounds}; expected at least 1")


def test_every_kind_of_value_is_read() -> None:
    data = {
        "name": "x",
        "rounds": 3,
        "rate": 1,
        "fast": True,
        "kind": "bellman",
        "cap": 2,
        "rates": [1, "1e-3"],
        "levels": [{"simulations": 4}],
        "pair": [7, "b"],
        "options": {"products": 100, "deep": [1]},
        "names": ["a"],
        "search": {"exploration": "2e0"},
    }
    made = build(Outer, data)
    assert made == Outer(
        name="x",
        rounds=3,
        rate=1.0,
        fast=True,
        kind="bellman",
        cap=2.0,
        rates=(1.0, 0.001),
        levels=(Inner(4),),
        pair=(7, "b"),
        options={"products": 100, "deep": [1]},
        names=("a",),
        search=Inner(8, 2.0),
    )
    assert [type(value) for value in (made.rate, made.cap, *made.rates)] == [float] * 4
    assert build(Outer, {}) == Outer()
    assert build(Outer, {"cap": None, "names": None}) == Outer()
    assert [build(Outer, {"limit": given}).limit for given in (5, "none", [1, 2])] == [5, "none", (1, 2)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"rouns": 3}, r"unknown setting rouns; did you mean 'rounds'\? \(settings here: cap, fast, "),
        ({"zzzz": 3}, r"unknown setting zzzz \(settings here"),
        ({"search": {"simulation": 3}}, r"unknown setting search\.simulation; did you mean 'simulations'\?"),
        ({"levels": [{}, {"x": 1}]}, r"unknown setting levels\[1\]\.x "),
        ({3: 1}, r"unknown setting 3 "),
        ({"rounds": "3"}, r"rounds='3' is str; expected int"),
        ({"rounds": 3.0}, r"rounds=3\.0 is float; expected int"),
        ({"rounds": True}, r"rounds=True is bool; expected int"),
        ({"rounds": None}, r"rounds=None is NoneType; expected int"),
        ({"rate": True}, r"rate=True is bool; expected float"),
        ({"rate": "fast"}, r"rate='fast' is str; expected float"),
        ({"rate": "nan"}, r"rate=nan is no finite number"),
        ({"rate": float("inf")}, r"rate=inf is no finite number"),
        ({"fast": 1}, r"fast=1 is int; expected bool"),
        ({"fast": "no way"}, r"fast='no way' is str; expected bool"),
        ({"name": 5}, r"name=5 is int; expected str"),
        ({"kind": "median"}, r"kind='median': expected one of 'mean', 'bellman'"),
        ({"kind": ["mean"]}, r"kind=\['mean'\]: expected one of"),
        ({"rates": 0.1}, r"rates=0\.1: expected a list"),
        ({"rates": "1e-3"}, r"rates='1e-3': expected a list"),
        ({"rates": [0.1, None]}, r"rates\[1\]=None is NoneType; expected float"),
        ({"pair": [1]}, r"pair=\[1\]: expected a list of 2"),
        ({"pair": [1, 2]}, r"pair\[1\]=2 is int; expected str"),
        ({"cap": "high"}, r"cap='high' is str; expected float"),
        ({"limit": "all"}, r"limit='all': expected a list"),
        ({"names": [1]}, r"names\[0\]=1 is int; expected str"),
        ({"options": [1]}, r"options=\[1\] is list; expected dict"),
        ({"search": 8}, r"search=8: expected settings of its own, one 'key: value' a line"),
        ({"search": None}, r"search=None: expected settings of its own"),
        ({"search": {"simulations": "many"}}, r"search\.simulations='many' is str; expected int"),
        ({"rounds": 0}, r"Outer: rounds=0; expected at least 1"),
    ],
)
def test_what_is_wrong_is_named(data: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=f"^{message}"):
        build(Outer, data)


def test_an_inner_refusal_is_told_once_with_its_place() -> None:
    @dataclass(frozen=True)
    class Holder:
        outer: Outer = field(default_factory=Outer)

    Holder.__annotations__["outer"] = Outer
    with pytest.raises(SettingsError) as caught:
        build(Holder, {"outer": {"rounds": 0}})
    assert str(caught.value) == "outer: rounds=0; expected at least 1"


def test_overrides_are_laid_over_a_copy_and_read_as_yaml() -> None:
    data: dict[str, Any] = {"rounds": 2, "search": {"simulations": 8, "deep": {"a": 1}}}
    before = yaml.safe_dump(data)
    said = ["rounds=3", "search.simulations=16", "search.deep.a=2", "rates=[0.1, 1e-3]"]
    laid = override(data, [*said, "new.key= true", "name=a=b", "cap="])
    assert laid == {
        "rounds": 3,
        "search": {"simulations": 16, "deep": {"a": 2}},
        "rates": [0.1, "1e-3"],
        "new": {"key": True},
        "name": "a=b",
        "cap": None,
    }
    assert yaml.safe_dump(data) == before
    assert build(Outer, override({}, ["rate=1e-3"])).rate == 0.001


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("rounds", r"--set 'rounds': expected key=value, such as search\.simulations=8"),
        ("=3", r"--set '=3': expected key=value"),
        ("search.=3", r"--set 'search\.=3': expected key=value"),
        ("rates=[1, 2", r"--set 'rates=\[1, 2': is not readable as YAML"),
        ("rounds.of=3", r"--set 'rounds\.of=3': rounds=2 has no settings of its own"),
    ],
)
def test_overrides_that_say_nothing_are_refused(assignment: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        override({"rounds": 2}, [assignment])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no settings file"),
        (b"a: [1", "is not readable as YAML"),
        (b"\xff\xfe\x00a", "is not readable as YAML"),
        (b"- a\n- b\n", "holds list; expected 'key: value' lines"),
        (b"", "holds nothing; expected 'key: value' lines"),
        (b"a: 1\nb: 2\na: 3\n", "names 'a' twice"),
        (b"a: 1\nb:\n  c: 2\n  c: 3\n", "names 'c' twice"),
    ],
)
def test_files_that_hold_no_settings_are_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "run.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=message) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)


def test_a_folder_is_no_settings_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no settings file"):
        read_yaml(tmp_path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("-8", -8), ("+1_000", 1000), ("0x10", 16), ("0", 0), ("007.5", 7.5), ("-.5", -0.5), ("1.5e+3", 1500.0)),
        *(("-.inf", -math.inf), ("[9, 1_0.5]", [9, 10.5])),
        *((text, text) for text in ("010", "08", "1:40", "1:40.5", "-1:00", "0o10", "0b11", "1e-3", "_1", "1.2.3")),
    ],
)
def test_numbers_are_read_as_people_read_them_or_are_texts(text: str, value: Any) -> None:
    assert override({}, [f"key={text}"]) == {"key": value}
    assert type(override({}, [f"key={text}"])["key"]) is type(value)
    assert parsed_options([f"key={text}"]) == {"key": value}
    assert yaml.load(yaml.safe_dump(value), _Loader) == value  # what a run writes down is read again


def test_settings_survive_yaml(tmp_path: Path) -> None:
    settings = Outer(rates=(0.1, 1e-05), levels=(Inner(3),), options={"attributes": (2, 3)}, cap=4.0)
    data = as_dict(settings)
    assert data["options"] == {"attributes": [2, 3]}
    assert data["levels"] == [{"simulations": 3, "exploration": 1.5}]
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(data))
    again = build(Outer, read_yaml(path))
    assert as_dict(again) == data
    assert again.rates == settings.rates


@pytest.mark.parametrize(
    "settings",
    [
        SearchSettings(),
        SupervisedSettings(),
        PreferenceSettings(),
        ValueSettings(),
        KtoSettings(),
        OreoSettings(),
        load_recipe("step_dpo"),
        BaseSettings(),
        load_config("smoke"),
    ],
    ids=lambda settings: type(settings).__name__,
)
def test_no_field_of_any_settings_takes_an_object_of_another_type(settings: Any) -> None:
    for name in (entry.name for entry in fields(settings)):
        with pytest.raises((TypeError, ValueError), match=rf"{type(settings).__name__}\.{name} is .*; expected"):
            replace(settings, **{name: object()})


ABOVE_0, BELOW_0, BELOW_1, ABOVE_1 = 5e-324, -5e-324, math.nextafter(1, 0), math.nextafter(1, 2)
STEP_DPO = load_recipe("step_dpo")
MOST = 100_000_000
LIMITS: list[tuple[Any, str, tuple[Any, ...], tuple[Any, ...]]] = [
    *(
        limits
        for settings in (SupervisedSettings(), PreferenceSettings())
        for limits in (
            *((settings, name, (ABOVE_0,), (0.0, BELOW_0)) for name in ("learning_rate", "max_grad_norm", "epochs")),
            *((settings, name, (1,), (0, -1)) for name in ("batch_size", "log_every", "max_steps")),
            (replace(settings, max_steps=1), "epochs", (0.0, -1.0), ()),  # not read then
            (settings, "warmup", (0.0, BELOW_1), (BELOW_0, 1.0)),
            (settings, "weight_decay", (0.0,), (BELOW_0,)),
            (settings, "betas", ((0.0, BELOW_1), (BELOW_1, 0.0)), ((BELOW_0, 0.5), (0.5, 1.0), (1.0, 0.5))),
        )
    ),
    *((PreferenceSettings(), name, (ABOVE_0,), (0.0, BELOW_0)) for name in ("beta", "max_chosen_drop")),
    (PreferenceSettings(), "sft_weight", (0.0,), (BELOW_0,)),
    (PreferenceSettings(), "loss", ("sigmoid", "sigmoid_norm", "robust", "ipo", "hinge"), ("dpo", "")),
    (PreferenceSettings(), "label_smoothing", ("pair", "visits", "q"), ("none", "")),
    (ValueSettings(), "visit_cap", (1,), (0, -1)),
    (ValueSettings(), "holdout", (0.0, BELOW_1), (BELOW_0, 1.0)),
    (ValueSettings(), "loss", ("cross_entropy", "squared_error"), ("hinge", "")),
    *((SiblingPairs(), name, (1, MOST), (0, -1, MOST + 1)) for name in ("min_visits", "per_node")),
    *((kind(), "per_task", (1, MOST), (0, -1, MOST + 1)) for kind in (Successes, TrajectoryPairs)),
    *((BestPaths(), name, (1, MOST), (0, -1, MOST + 1)) for name in ("paths", "visits")),
    (SiblingPairs(), "threshold", (0.0,), (BELOW_0,)),
    (SiblingPairs(), "weight", ("difference",), ("visits",)),
    (BestOf(), "proposals", (1, MOST), (0, MOST + 1)),
    (BestOf(), "temperature", (ABOVE_0,), (0.0,)),
    (STEP_DPO, "rates", ((ABOVE_0,), (0.1, 0.2)), ((0.0,), (0.1, BELOW_0), (0.1, 0.2, 0.1))),
    (BaseSettings(), "width", (8, 65_536), (0, -8, 4, 12, 65_544)),  # heads=4: multiples of 8
    (BaseSettings(width=2000), "heads", (1, 1000), (0, 1001)),
    (BaseSettings(), "layers", (1, 1000), (0, 1001)),
    (BaseSettings(), "worlds", (1, 1000), (0, 1001)),
    (BaseSettings(demonstrations=500), "worlds", (500,), (501,)),
    (BaseSettings(worlds=8), "lessons", (0, 8, MOST), (-1, 7, MOST + 1)),
    (BaseSettings(worlds=8), "demonstrations", (8, MOST), (0, 7, MOST + 1)),
    (BaseSettings(), "reading_passes", (1, MOST), (0, MOST + 1)),
    *((BaseSettings(), name, (0.0, 1.0), (BELOW_0, ABOVE_1)) for name in ("reading_gate",)),
    (RunConfig(), "rounds", (1, 1000), (0, 1001)),
    *(
        (RunConfig(), name, (1, MOST), (0, -1, MOST + 1))
        for name in (
            *("train_goals", "validation_goals", "test_goals"),
            *("model_calls", "oracle_simulations", "critic_goals"),
        )
    ),
    (RunConfig(), "seed", (0, 2**32 - 1), (-1, 2**32)),
    (RunConfig(), "temperature", (0.0,), (BELOW_0,)),
    (RunConfig(search_recipe=""), "recipes", ({"a": STEP_DPO}, dict.fromkeys(map(str, range(100)), STEP_DPO)), ({},)),
    (RunConfig(search_recipe=""), "recipes", (), (dict.fromkeys(map(str, range(101)), STEP_DPO),)),
    (RunConfig(), "search_recipe", ("", "rft"), ("mcts",)),
    (RunConfig(), "history", ("all_turns",), ("none",)),
    (RunConfig(), "env_options", ({"products": 60},), ({"split": "train"},)),
    (RunConfig(), "acting", (SearchSettings(hide_outcome=True),), (SearchSettings(),)),
]


@pytest.mark.parametrize(
    ("settings", "name", "allowed", "refused"),
    [pytest.param(*row, id=f"{type(row[0]).__name__}.{row[1]}") for row in LIMITS],
)
def test_a_setting_takes_the_values_up_to_its_limits_and_none_beyond(
    settings: Any, name: str, allowed: tuple[Any, ...], refused: tuple[Any, ...]
) -> None:
    for value in allowed:
        assert getattr(replace(settings, **{name: value}), name) == value
    for value in refused:
        with pytest.raises(ValueError, match=name):
            replace(settings, **{name: value})


WAYS = {name: {name: {}} for name in EXTRACT if name != "advantages"} | {
    f"by {way}": {"advantages": {"by": way}} for way in CREDIT
}
"""The extractors, with each way of the one that has some."""


@pytest.mark.parametrize(("way", "collect", "learn"), product(WAYS, COLLECT, LEARN))
def test_a_recipe_extracts_what_its_collection_gives_and_its_learner_takes(way: str, collect: str, learn: str) -> None:
    [extract] = WAYS[way]
    data = {"summary": "s", "source": "s", "collect": collect, "extract": WAYS[way], "learn": learn}
    if LEARN[learn].makes == "q":
        data["act"] = "best_of"
    extractor, learner = EXTRACT[extract], LEARN[learn]
    reads = CREDIT[way.removeprefix("by ")].reads if extractor is Advantages else extractor.reads
    gives = COLLECT[collect].gives
    if reads != gives and not (gives == "mixed" and reads in ("trees", "episodes")):
        fault = f"extract.{extract} reads {reads}, and collect gives {COLLECT[collect].gives}"
    elif extractor.gives != learner.takes:
        fault = f"extract.{extract} gives {extractor.gives}, and learn takes {learner.takes}"
    elif issubclass(learner, Preference) and not extractor.compares:
        fault = f"extract {extract} gives no pairs to compare"
    else:
        assert as_dict(build(Recipe, data))["extract"].keys() == {extract}
        return
    with pytest.raises(SettingsError, match=f"^Recipe: {fault}"):
        build(Recipe, data)


def test_how_advantages_are_estimated_is_a_choice_whose_ways_have_settings_of_their_own() -> None:
    gigpo = as_dict(load_recipe("gigpo"))
    for by, fault in (
        ({"tree": {"discount": 0.9}}, "unknown setting extract.advantages.by.tree.discount"),
        ({"group": {"weight": -1.0}}, "weight=-1.0; expected a number from 0 on"),
        ({"pooled": {"discount": 1.5}}, "discount=1.5; expected a number from 0 to 1"),
        ({"tree": {"min_visits": 0}}, "min_visits=0; expected at least 1"),
        ({"vine": {"rollouts": 9}}, "unknown setting extract.advantages.by.vine.rollouts"),
        ("siblings", "extract.advantages.by: there is no 'siblings'"),
        (
            "vine",
            r"take one of successes, trajectory_pairs, state_pairs, tries, advantages \(by: group\), "
            r"advantages \(by: pooled\)",
        ),
    ):
        with pytest.raises(SettingsError, match=fault):
            build(Recipe, {**gigpo, "extract": {"advantages": {"by": by}}})
    with pytest.raises(SettingsError, match=r"extract\.advantages: no setting by; add it"):
        build(Recipe, {**gigpo, "extract": "advantages"})


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_survives_yaml(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(as_dict(recipe)))
    assert load_recipe(path) == recipe


def test_an_option_of_a_rule_that_stands_beside_the_rule_is_sent_to_it() -> None:
    with pytest.raises(
        SettingsError, match=r"unknown setting search\.considered; it is a setting of search\.selection\.gumbel"
    ):
        load_config("smoke", ["search.considered=4"])
    with pytest.raises(SettingsError, match=r"it is a setting of search\.selection\.ucb1, \.uct, \.puct"):
        load_config("smoke", ["search.exploration=4"])
    with pytest.raises(SettingsError, match=r"unknown setting search\.selection\.uct\.considered"):
        load_config("smoke", ["search.selection={uct: {considered: 4}}"])


def test_a_rule_is_named_and_then_given_options() -> None:
    assert load_config("smoke", ["search.selection=uct"]).search.rule == Uct()
    other = load_config("web_shop", ["search.selection.uct.exploration=0.5"])  # the run's own rule is puct
    assert other.search.rule == Uct(exploration=0.5)
    named = load_config("smoke", ["search.selection=uct", "search.selection.uct.exploration=0.5"])
    assert named.search.rule == Uct(exploration=0.5)
    assert load_config("smoke", ["search.selection={uct: {exploration: 0.5}}"]) == named
    assert build(RunConfig, as_dict(named)) == named


SMALL = "env: branchwise/TicTacToe-v0\nenv_options: {opponents: random}\nbase: {demonstrators: {random: 1}}\n"


@pytest.mark.parametrize(
    ("content", "overrides", "refused"),
    [
        ("search_recipe:\ncritic_goals: 5\nrecipes: [rft]\n", [], r"critic_goals: .*nobody acts with search"),
        ("search_recipe:\nacting: {simulations: 5}\nrecipes: [rft]\n", [], r"acting: .*nobody acts with search"),
        ("search_recipe:\nsearch: {simulations: 5}\nrecipes: [rft]\n", [], r"search: .*none of its recipes collects"),
        ("search_recipe:\nleaves: random\nrecipes: [rft]\n", [], r"leaves: .*no trees are grown"),
        ("model: some/model\nsearch_recipe:\n", [], r"base: .*starts from model=some/model"),
        ("search_recipe: step_dpo\n", ["search_recipe=", "critic.holdout=0.25"], r"^critic: nothing"),
        ("search_recipe: step_dpo\n", ["model=some/model", "base.width=8"], r"^base: nothing"),
        ("search_recipe:\nleaves: random\n", [], ""),
        ("search_recipe:\nleaves: policy\ncritic_goals: 1000\nrecipes: [rft]\n", [], ""),
        ("critic_goals: 5\nleaves: random\nacting: {simulations: 5}\n", ["search_recipe=", "recipes=[rft]"], ""),
        ("critic_goals: 5\n", ["model=some/model"], ""),
    ],
)
def test_a_setting_that_nothing_in_the_run_reads_is_refused_where_it_is_said(
    content: str, overrides: list[str], refused: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(SMALL + content)
    if not refused:
        again = tmp_path / "again.yaml"  # with every setting, whether said or not, as a run's folder has it
        again.write_text(yaml.safe_dump(as_dict(load_config(path)), sort_keys=False))
        assert load_config(again) == load_config(path)
        load_config(path, overrides)
        return
    with pytest.raises(SettingsError, match=refused):
        load_config(path, overrides)


def test_naming_some_of_a_run_s_recipes_keeps_what_the_run_lays_over_them() -> None:
    whole = load_config("tic_tac_toe")
    some = load_config("tic_tac_toe", ["recipes=[step_dpo, oreo]", "recipes.oreo.rates=[3.0e-4]"])
    assert list(some.recipes) == ["step_dpo", "oreo"]
    assert some.recipes["step_dpo"] == whole.recipes["step_dpo"] != load_recipe("step_dpo")
    assert some.recipes["oreo"].rates == (3e-4,)


def test_the_settings_in_a_run_s_folder_are_a_run_again(tmp_path: Path) -> None:
    for number, overrides in enumerate((["model=some/model"], ["search_recipe="], ["search_recipe=", "recipes=[rft]"])):
        config = load_config("web_shop", overrides)
        folder = tmp_path / str(number)
        folder.mkdir()
        _claim(config, folder)
        _claim(config, folder)  # the same settings
        again = load_config(folder / "config.yaml")
        idle = dict(unread(config))
        assert all(getattr(again, f.name) == getattr(config, f.name) for f in fields(RunConfig) if f.name not in idle)
        with pytest.raises(SettingsError, match="other settings"):
            _claim(replace(config, seed=5), folder)


def test_a_recipe_s_file_is_known_by_its_path_and_by_its_name(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump(as_dict(load_recipe("rft"))))
    run = tmp_path / "run.yaml"
    run.write_text(SMALL + f"search_recipe:\nrecipes: {{'{mine}': {{rates: [7.0e-3]}}, rft: {{}}}}\n")
    for name in ("mine", str(mine)):
        assert run_of(str(run), [], name).recipes["mine"].rates == (7e-3,)
        assert list(run_of(str(run), [f"recipes=['{name}']"]).recipes) == ["mine"]
    assert run_of(str(run), ["recipes.mine.rates=[1.0e-3]"]).recipes["mine"].rates == (1e-3,)
    other = tmp_path / "other" / "rft.yaml"  # not the run's, whose name it has
    other.parent.mkdir()
    other.write_text(yaml.safe_dump({**as_dict(load_recipe("rft")), "rates": [5e-3]}))
    assert run_of(str(run), [], str(other)).recipes["rft"].rates == (5e-3,)


def test_all_that_a_recipe_must_say_laid_over_one_of_ours_keeps_its_rates(tmp_path: Path) -> None:
    over = {k: v for k, v in as_dict(load_recipe("tree_sft")).items() if k not in ("rates", "act")}
    run = tmp_path / "run.yaml"
    run.write_text(SMALL + f"search_recipe:\nrecipes: {yaml.safe_dump({'tree_sft': over}, default_flow_style=True)}")
    assert load_config(run).recipes["tree_sft"] == load_recipe("tree_sft")


@pytest.mark.parametrize(
    ("run", "overrides", "searching"),
    [
        ("web_shop", [], "step_dpo"),
        ("web_shop", ["recipes=[tree_sft]"], ""),
        ("tic_tac_toe", ["recipes=[rft]"], ""),
        ("connect_four", ["recipes=[step_dpo]"], ""),
        ("web_shop", ["recipes=[tree_sft]", "search_recipe=tree_sft"], "tree_sft"),
    ],
)
def test_who_acts_with_search_is_picked_with_the_recipes(run: str, overrides: list[str], searching: str) -> None:
    assert load_config(run, overrides).search_recipe == searching


def test_a_search_recipe_that_is_said_and_is_not_there_is_refused_with_the_cure() -> None:
    with pytest.raises(SettingsError, match=r"'rft' is not among recipes=tree_sft; name one of them, or nothing"):
        load_config("web_shop", ["recipes=[tree_sft]", "search_recipe=rft"])


def test_a_recipe_s_file_is_found_beside_the_run_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    mine = {k: v for k, v in as_dict(load_recipe("rft")).items() if k in ("collect", "extract", "learn")}
    (tmp_path / "sub" / "mine.yaml").write_text(yaml.safe_dump(mine))
    (tmp_path / "sub" / "run.yaml").write_text(SMALL + "recipes: [mine.yaml]\n")
    monkeypatch.chdir(tmp_path)
    assert list(load_config("sub/run.yaml").recipes) == ["mine"]


def test_the_help_names_every_run_of_ours() -> None:
    assert sorted(RUNS.split(", ")) == config_names()


@pytest.mark.parametrize(
    ("run", "override", "fault"),
    [
        (
            "web_shop",
            "recipes.step_dpo.extract.sibling_pairs.visits=5",
            "visits=5 counts where equal positions",
        ),
        ("web_shop", "recipes.trajectory_dpo.extract.trajectory_pairs.threshold=0.5", "the run is for success"),
        ("tic_tac_toe", "recipes.tree_sft.extract.best_paths.paths=5", "paths=5 has no meaning in games"),
    ],
)
def test_what_an_extractor_does_not_read_here_is_refused(run: str, override: str, fault: str) -> None:
    check_run(load_config(run))
    with pytest.raises(SettingsError, match=fault):
        check_run(load_config(run, [override]))


@pytest.mark.parametrize("name", ["webshop", "web-shop", "mathtool", "tictactoe"])
def test_a_slip_in_a_run_s_name_is_not_taken_for_an_environment(name: str) -> None:
    with pytest.raises(SettingsError, match=r"may be the run \w+_\w+ or an environment"):
        run_of(name)
    assert run_of("WebShop").env == run_of("WebShop-v0").env == run_of("web_shop").env


@pytest.mark.parametrize(
    ("samples", "equal"), [([], True), ([100, 90], True), ([100, 89], False), ([53_993, 50_685], True), ([0, 5], False)]
)
def test_budgets_are_called_equal_where_they_are(samples: list[int], equal: bool) -> None:
    assert (how_equal(samples) == "held equal") == equal
