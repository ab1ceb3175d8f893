"""Figures of labels, in a run and its report; collections that verify pairs, or mix trees with episodes."""

import json
from pathlib import Path
from typing import Any

import pytest

from branchwise.envs.noisy import NoisyVerdict
from branchwise.envs.play.transcript import acted, observed
from branchwise.envs.wrappers import Wrapper
from branchwise.search import PreferencePair, load_pairs, load_trees
from branchwise.search.audit import Verdict
from branchwise.search.records import load_episodes
from branchwise.training.evaluation import wilson
from branchwise.training.labels import judged_by_place, label_figures, label_table
from branchwise.training.loop import audit as auditing
from branchwise.training.loop.config import load_config
from branchwise.training.loop.graph import stages_of
from branchwise.training.loop.run import check_run
from branchwise.training.loop.tasks import searched_simulator
from branchwise.training.report import write_report
from branchwise.training.run_folder import labels_in_words, read_run
from branchwise.training.settings import SettingsError
from branchwise.training.stages import do_stage, figures


def pair(depth: int = 0, kind: str = "sibling", claimed: float = 0.5) -> PreferencePair:
    sides = {"chosen": (acted("a"),), "rejected": (acted("b"),)}
    return PreferencePair(prompt=(observed("page"),), chosen_q=claimed, depth=depth, kind=kind, **sides)


def test_shares_of_labels_have_their_intervals() -> None:
    gaps = [0.5] * 6 + [0.0] * 3 + [-0.25]
    found = label_figures([(pair(), Verdict(gap, 0.0, 0.15, 8)) for gap in gaps])
    assert (found["pairs"], found["right"], found["tied"], found["wrong"]) == (10, 0.6, 0.3, 0.1)
    assert (found["right_low"], found["right_high"]) == wilson(6, 10)
    assert (found["clearly_right"], found["clearly_wrong"]) == (
        0.6,
        0.0,
    )  # 0.4 and 0.2 against 2 · 0.15
    assert found["claimed"] == 0.5
    assert found["measured"] == pytest.approx(0.275)
    with pytest.raises(ValueError, match="no pair was judged"):
        label_figures([])


def test_parts_of_a_table_are_those_that_differ() -> None:
    right, wrong = Verdict(1.0, 0.0, 0.0, 0), Verdict(0.0, 1.0, 0.0, 0)
    judged = [(pair(depth), right if depth < 11 else wrong) for depth in (0, 2, 11, 11)]
    rows = label_table(judged, lambda each: "a over b")
    assert [(row["of"], row["pairs"], row["right"]) for row in rows] == [
        ("all", 4, 0.5),
        ("depth 0", 1, 1.0),
        ("depth 2", 1, 1.0),
        ("depth 11", 2, 0.0),
    ]
    judged.append((pair(kind="segment"), right))
    kinds = {"segment": "c over d"}
    names = [row["of"] for row in label_table(judged, lambda each: kinds.get(each.kind, "a over b"))]
    assert names == ["all", "depth 0", "depth 2", "depth 11", "segment", "sibling", "a over b", "c over d"]


def done(tmp_path: Path, *overrides: str) -> Any:
    config = load_config("smoke", [*overrides, "search_recipe="])
    check_run(config)
    for stage in stages_of(config):
        do_stage(stage, tmp_path, lambda *_: None)
    return config


@pytest.fixture
def audits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """The simulator of each audit of a run, and how many actions of a side are played."""
    found = []

    def judged(
        pairs: Any, places: Any, simulator: Any, agent: Any, seed: Any, rolls: Any, actions: Any, exact: Any
    ) -> Any:
        found.append((simulator, actions))
        return judged_by_place(pairs, places, simulator, agent, seed, rolls, actions, exact)

    monkeypatch.setattr(auditing, "judged_by_place", judged)
    return found


def test_a_run_audits_a_sample_of_each_round_and_shows_it(tmp_path: Path, audits: list[tuple[Any, Any]]) -> None:
    done(tmp_path, "recipes=[step_dpo, rft, ipr]", "audit_pairs=6", "audit_rolls=4")
    found = figures(tmp_path, "step_dpo/round_1/audit")
    pairs = [each for each in load_pairs(tmp_path / "step_dpo/round_1/model/pairs.jsonl") if each.rejected]
    assert found["of"] == len(pairs)
    assert found["rolls"] == 4
    assert found["labels"][0]["pairs"] + sum(found["not_judged"].values()) == min(6, len(pairs))
    assert found["not_judged"] == {}
    assert found["model_calls"] > 0
    assert [actions for _, actions in audits] == [None, 1]  # of IPR's remainders the first action
    assert not (tmp_path / "rft/round_1/audit").exists()
    run = read_run(tmp_path)
    assert [(each.recipe, each.number) for each in run.audits] == [("step_dpo", 1), ("ipr", 1)]
    assert any(line.startswith("Labels right, tied and wrong, Step-DPO: round 1 ") for line in labels_in_words(run))
    page = write_report(tmp_path).read_text()
    assert "How right the labels are" in page
    assert all("audit" not in stage.name for stage in stages_of(load_config("smoke", ["audit_pairs=0"])))


def test_nothing_that_is_collected_under_noise_tells_the_truth_and_audits_do(
    tmp_path: Path, audits: list[tuple[Any, Any]]
) -> None:
    """An episode is paid what its verdict says, so that no return, label or filter knows better."""
    noise = ["verdict_noise=0.4", "audit_pairs=2", "audit_rolls=1"]
    config = done(tmp_path, "recipes=[trajectory_dpo, mixed]", "outcome=success", *noise)
    assert [is_noisy(simulator) for simulator, _ in audits] == [False, False]
    assert is_noisy(searched_simulator(config))
    for folder in ("round_1/episodes", "round_1/mixed"):
        episodes = load_episodes(tmp_path / folder / "episodes.jsonl")
        assert {episode.total_reward for episode in episodes} == {0.0, 1.0}
        assert all(episode.total_reward == float(episode.success) for episode in episodes)
    found = [each for each in load_pairs(tmp_path / "trajectory_dpo/round_1/model/pairs.jsonl") if each.rejected]
    assert {(each.chosen_q, each.rejected_q) for each in found} == {(1.0, 0.0)}


def is_noisy(simulator: Any) -> bool:
    return isinstance(simulator, NoisyVerdict) or (isinstance(simulator, Wrapper) and is_noisy(simulator.simulator))


def test_damaged_figures_of_an_audit_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "step_dpo" / "round_1" / "audit"
    folder.mkdir(parents=True)
    row = {"of": "all", **label_figures([(pair(), Verdict(1.0, 0.0, 0.1, 4))])}
    whole = {"recipe": "step_dpo", "round": 1, "of": 9, "rolls": 4, "labels": [row], "not_judged": {}, "model_calls": 3}
    (folder / "figures.json").write_text(json.dumps(whole))
    write_report(tmp_path)
    for damage in ([1], {"of": 3}, [{**row, "right": "many"}], [{k: v for k, v in row.items() if k != "tied_low"}]):
        (folder / "figures.json").write_text(json.dumps({**whole, "labels": damage}))
        with pytest.raises(ValueError, match=r"figures\.json: .*label"):
            write_report(tmp_path)


def test_a_mixed_collection_has_trees_and_episodes_for_one_budget(tmp_path: Path) -> None:
    config = done(tmp_path, "recipes=[mixed]")
    folder = tmp_path / "round_1" / "mixed"
    found = figures(tmp_path, "round_1/mixed")
    trees, episodes = load_trees(folder / "trees.parquet"), load_episodes(folder / "episodes.jsonl")
    searched = sum(tree.counters["model_calls"] for tree in trees)
    sampled = sum(episode.model_calls for episode in episodes)
    assert found["model_calls"] == searched + sampled <= config.model_calls
    assert searched <= config.recipes["mixed"].collect.share * config.model_calls
    assert found["searched_goals"] == len(trees)
    kinds = {each.kind for each in load_pairs(tmp_path / "mixed/round_1/model/pairs.jsonl")}
    assert "trajectory" in kinds
    assert kinds & {"sibling", "segment"}
    assert "best_path_step" not in kinds


def test_pairs_may_be_rolled_before_they_are_accepted(tmp_path: Path) -> None:
    roll = ["recipes.step_dpo.collect.trees.rolls=3", "recipes.step_dpo.extract.sibling_pairs=null"]
    roll += ["recipes.step_dpo.extract.segments={label: rolls, threshold: 0.1}"]
    config = done(tmp_path, "recipes=[step_dpo]", *roll)
    collected = figures(tmp_path, "round_1/trees")
    assert collected["model_calls"] <= config.model_calls
    rolled = load_pairs(tmp_path / "round_1" / "trees" / "rolled.jsonl")
    trees = load_trees(tmp_path / "round_1" / "trees" / "trees.parquet")
    assert {each.tree for each in rolled} <= set(range(len(trees)))
    assert all(each.chosen_visits == each.rejected_visits == 3 for each in rolled)
    for each in rolled:
        seen = trees[each.tree].transcript(each.node)
        assert [turn.text for turn in each.prompt] == [turn.text for turn in seen]
    used = [each for each in load_pairs(tmp_path / "step_dpo/round_1/model/pairs.jsonl") if each.rejected]
    assert all(each.kind == "rolled" and each.chosen_q - each.rejected_q >= 0.1 for each in used)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["recipes.step_dpo.collect.trees.rolls=3"], "trees.rolls=3, and extract has no segments with label=rolls"),
        (["recipes.step_dpo.extract.segments.label=rolls"], "trees.rolls=0, and extract has segments with label=rolls"),
        (["recipes.step_dpo.extract.segments={label: rolls, length: 2}"], "length=2 with label=rolls"),
        (["recipes.step_dpo.extract.segments={label: rolls, per_node: 1}"], "per_node=1 with label=rolls"),
        (["recipes.step_dpo.extract.sibling_pairs.z=2.0"], "z=2.0 is for returns of 0 or 1"),
        (["recipes.step_dpo.extract.segments.length=0"], "length"),
        (["recipes.step_dpo.extract.segments.length=half"], "length"),
        (["recipes.step_dpo.collect={mixed: {share: 1.0}}"], "share=1.0"),
        (["audit_pairs=-1"], "audit_pairs=-1"),
        (["audit_pairs=0", "audit_rolls=3"], "audit_rolls: nothing in this run reads it"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(overrides: list[str], said: str) -> None:
    with pytest.raises((SettingsError, ValueError), match=said):
        check_run(load_config("smoke", overrides))


@pytest.mark.parametrize(
    ("run", "change", "said"),
    [("tic_tac_toe", "{}", "one player's actions"), ("math_tool", "{length: pages}", "has no pages")],
)
def test_segments_are_refused_where_they_have_no_meaning(run: str, change: str, said: str) -> None:
    config = load_config(run, ["recipes=[step_dpo]", "search_recipe=", f"recipes.step_dpo.extract.segments={change}"])
    with pytest.raises(SettingsError, match=said):
        check_run(config)
