"""The credit benchmark: its learner against closed forms, labels against truth, equal budgets, a run that resumes."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from branchwise import cli
from branchwise.envs.bifurcation import Bifurcation
from branchwise.envs.play.transcript import acted, observed
from branchwise.search.extraction import PreferencePair
from branchwise.training.credit import methods
from branchwise.training.credit import run as running
from branchwise.training.credit.cells import BUDGETS, CELLS, FITTED, HELD_OUT, Cell, exact_success, table_policy
from branchwise.training.credit.labels import (
    Labels,
    PlacedPair,
    exact_advantages,
    fidelity,
    labels_of_advantages,
    labels_of_pairs,
    placed_pairs,
    places,
)
from branchwise.training.credit.methods import CONTROLS, METHODS, Samples, step_dpo, within
from branchwise.training.credit.run import LOG, Result, ResultLog, Settings, measure, measured
from branchwise.training.credit.tabular import Preferences, Problem, advantages, log_softmax, preferences, trained
from branchwise.training.loop.extractors import BestPaths, SiblingPairs, StatePairs, Successes, TrajectoryPairs
from branchwise.training.loop.recipe import load_recipe

NOISY, CLEAN = Cell(6, 0.0, 0.2, 0.8, 0.3, budget=100), Cell(6, 1.0, 0.0, 0.4, 0.3, budget=100)
TINY = tuple(replace(cell, budget=20) for cell in (FITTED[0], FITTED[3]))


def at(*rows: tuple[int, int, int, int, int]) -> Any:
    return np.array(rows, np.int64).reshape(-1, 5)


@pytest.fixture(scope="module")
def noisy() -> Samples:
    return Samples(NOISY, 0)


# ---- cells ------------------------------------------------------------------------------------------------------


def test_the_fitted_cells_are_balanced_and_the_held_out_ones_are_others() -> None:
    assert len(FITTED) == 48
    assert len(HELD_OUT) == 16
    assert len(CELLS) == 64
    for dial in ("horizon", "recoverable", "noise", "budget"):
        values = [getattr(cell, dial) for cell in FITTED]
        assert sorted(map(values.count, set(values))) == [24, 24]
    at_each_budget = [{replace(cell, budget=0) for cell in FITTED if cell.budget == budget} for budget in BUDGETS]
    assert at_each_budget[0] == at_each_budget[1]
    assert at_each_budget[0].isdisjoint(replace(cell, budget=0) for cell in HELD_OUT)
    assert sorted(cell.budget for cell in HELD_OUT) == [150] * 4 + [300] * 8 + [600] * 4


def test_the_name_of_a_cell_has_the_dials_that_differ() -> None:
    assert Cell(6, 0.5, 0.2, 0.4, 0.1).name == "h6_rec50_noise20_crit40_rare10"
    assert Cell(6, 0.5, 0.2, 0.4, 0.1, branching=6, budget=600).name == "h6_rec50_noise20_crit40_rare10_b6_n600"


@pytest.mark.parametrize("cell", CELLS.values(), ids=lambda cell: cell.name)
def test_the_base_succeeds_seldom(cell: Cell) -> None:
    task = cell.task(0)
    base = exact_success(task, cell.base(task))
    assert 0.05 < base <= 0.2 + 1e-6
    assert task.is_noisy == (cell.noise > 0)


@pytest.mark.parametrize("hidden", [False, True])
def test_the_policy_reads_the_table_wherever_the_episode_is(hidden: bool) -> None:
    task = Bifurcation(horizon=4, slack=6, critical=1.0, recoverable=1.0, hidden=hidden)
    table = np.random.default_rng(0).dirichlet(np.ones(4), (task.keys, 4, 2))
    policy, rng = table_policy(table), np.random.default_rng(1)
    for goal in range(8):
        state = task.reset(0, {"goal": goal})
        turns = [observed(task.observation(state))]
        while not state.outcome:
            [logps] = policy.score([tuple(turns)], [task.all_actions()])
            key, point, detour, _ = task.table_index(state)
            assert np.array_equal(logps, np.log(table[key, point, detour]))
            word = task.all_actions()[int(rng.integers(4))]
            state = task.step(state, word)
            turns += [acted(word), observed(task.observation(state))]
    with pytest.raises(ValueError, match="no observation of a bifurcation task"):
        policy.score([(observed("a page"),)], [("left",)])


# ---- the learner ------------------------------------------------------------------------------------------------

SHAPE = (2, 3, 2, 4)


def a_base(seed: int = 0) -> Any:
    return np.random.default_rng(seed).dirichlet(2 * np.ones(4), SHAPE[:3])


def test_imitation_ends_at_the_shares_of_the_actions() -> None:
    rows = [(0, 0, 1, 0, 2)] * 6 + [(0, 4, 1, 0, 1)] * 3 + [(0, 0, 1, 0, 0), (1, 0, 2, 1, 3)]
    problem = preferences([PlacedPair(at(row), at()) for row in rows], SHAPE)
    assert problem.likelihood.sum() == pytest.approx(1)
    [*_, (_, _, table)] = trained(a_base(), problem, (0.05,), (4000,))
    assert table[0, 1, 0] == pytest.approx([0.1, 0.3, 0.6, 0.0], abs=2e-3)
    assert table[1, 2, 1, 3] > 0.999
    assert np.allclose(table[1, 0], a_base()[1, 0])  # nothing was said of these


def loss_of_preferences(logps: Any, start: Any, pairs: Sequence[PlacedPair], beta: float, weight: float) -> float:
    def total(table: Any, side: Any) -> float:
        return sum(table[key, point, detour, action] for key, _, point, detour, action in side)

    ratios = logps - start
    contrasts = [
        np.log1p(np.exp(-beta * (total(ratios, pair.chosen) - total(ratios, pair.rejected))))
        for pair in pairs
        if len(pair.rejected)
    ]
    steps = sum(len(pair.chosen) for pair in pairs)
    return float(np.mean(contrasts) - weight * sum(total(logps, pair.chosen) for pair in pairs) / steps)


def loss_of_advantages(logps: Any, start: Any, labels: Labels, clip: tuple[float, float]) -> float:
    ratio = np.exp(logps - start)[tuple(labels.places[:, [0, 2, 3, 4]].T)]
    bounded = np.clip(ratio, 1 - clip[0], 1 + clip[1])
    return float(-np.minimum(ratio * labels.values, bounded * labels.values).mean())


def check_gradient(problem: Problem, loss: Any) -> None:
    rng = np.random.default_rng(3)
    start = np.log(a_base())
    logps = log_softmax(start + rng.normal(0, 0.7, SHAPE))
    found = problem.gradient((logps - start).reshape(1, -1))[0].reshape(SHAPE)
    for index in np.ndindex(SHAPE):
        step = np.zeros(SHAPE)
        step[index] = 1e-6
        slope = (loss(logps + step, start) - loss(logps - step, start)) / 2e-6
        assert found[index] == pytest.approx(slope, abs=1e-6)


def test_the_gradient_of_preferences_is_that_of_their_loss() -> None:
    rng = np.random.default_rng(0)

    def side(steps: int) -> Any:
        return at(*zip(*(rng.integers(n, size=steps).tolist() for n in (2, 5, 3, 2, 4)), strict=True))

    pairs = [PlacedPair(side(3), side(2)), PlacedPair(side(1), side(1)), PlacedPair(side(4), side(0))]
    problem = replace(preferences(pairs, SHAPE), beta=0.7, weight=0.5)
    assert isinstance(problem, Preferences)
    check_gradient(problem, lambda logps, start: loss_of_preferences(logps, start, pairs, 0.7, 0.5))


def test_the_gradient_of_advantages_is_that_of_the_clipped_loss() -> None:
    rng = np.random.default_rng(0)
    found = at(*zip(*(rng.integers(n, size=60).tolist() for n in (2, 5, 3, 2, 4)), strict=True))
    labels = Labels(found, rng.normal(size=60))
    clip = (0.3, 0.6)
    check_gradient(advantages(labels, SHAPE, clip), lambda logps, start: loss_of_advantages(logps, start, labels, clip))


def test_training_on_nothing_changes_nothing_and_rates_go_side_by_side() -> None:
    for _, _, table in trained(a_base(), preferences([], SHAPE), (0.1, 0.3), (5,)):
        assert np.allclose(table, a_base())
    problem = preferences([PlacedPair(at((0, 0, 1, 0, 2)), at((0, 0, 1, 0, 1)))], SHAPE)
    both = {rate: table for rate, _, table in trained(a_base(), problem, (0.1, 0.3), (7,))}
    [(_, _, alone)] = trained(a_base(), problem, (0.3,), (7,))
    assert np.allclose(both[0.3], alone)


# ---- labels -----------------------------------------------------------------------------------------------------


def test_a_pair_is_placed_by_replaying_it() -> None:
    task = Bifurcation(horizon=2, slack=3, critical=1.0, recoverable=1.0, keys=2)
    words = task.all_actions()
    right = task.right[1]
    wrong = (right[0, 0] + 1) % 4
    goal: Any = {"seed": 3, "options": {"goal": 3}}
    prompt = (observed(""), acted(words[wrong]), observed(""))
    chosen = (acted(words[right[0, 1]]), observed(""), acted(words[right[0, 0]]))
    pair = PreferencePair(prompt, chosen, (acted(words[wrong]),), task=goal)
    [placed] = placed_pairs(task, [pair])
    assert placed.chosen.tolist() == [[1, 1, 0, 1, right[0, 1]], [1, 2, 0, 0, right[0, 0]]]
    assert placed.rejected.tolist() == [[1, 1, 0, 1, wrong]]
    labels = labels_of_pairs([placed])
    assert labels.values.tolist() == [1, 1, -1]
    assert places(task, goal, prompt, ()).shape == (0, 5)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "null"])
def test_rows_of_every_method_are_placed_where_their_prompts_are(name: str, noisy: Samples) -> None:
    rows, task = METHODS[name](noisy), noisy.task
    found = [(each.task, each.prompt, side) for each in rows.pairs for side in (each.chosen, each.rejected)]
    found += [(each.task, each.prompt, each.action) for each in rows.advantages]
    assert found
    for of, prompt, side in found:
        turns = (*prompt, *side)
        seen = [turns[i - 1].text for i, turn in enumerate(turns) if turn.is_agent and i >= len(prompt)]
        for text, (key, used, point, detour, _) in zip(seen, places(task, of, prompt, side), strict=True):
            assert f"key {key}\n" in text
            assert f"point {point + 1} of 6" in text
            assert f"turns {task.turns - used}" in text
            assert ("\ndetour\n" in text) == detour


def test_swapped_sides_are_as_wrong_as_the_others_are_right(noisy: Samples) -> None:
    truth = exact_advantages(noisy.task, noisy.base)
    pairs = [pair for pair in step_dpo(noisy).pairs if pair.rejected]
    good, bad = (
        fidelity(labels_of_pairs(placed_pairs(noisy.task, rows)), truth)
        for rows in (pairs, METHODS["broken"](noisy).pairs)
    )
    assert good["sign"] is not None
    assert good["sign"] > 0.8
    assert bad["sign"] == pytest.approx(1 - good["sign"])
    assert bad["tau"] == pytest.approx(-(good["tau"] or 0))
    assert bad["tied"] == good["tied"]


def test_exact_advantages_are_wholly_right(noisy: Samples) -> None:
    truth = exact_advantages(noisy.task, noisy.base)
    every = np.stack(np.meshgrid(*map(np.arange, truth.shape), indexing="ij"), -1).reshape(-1, 5)
    first_turns = every[every[:, 1] == every[:, 2]]
    found = fidelity(Labels(first_turns, truth[tuple(first_turns.T)]), truth)
    assert found["sign"] == 1
    assert found["tau"] == pytest.approx(1)
    assert 0 < (found["tied"] or 0) < 1
    assert np.allclose((truth * noisy.base[:, None]).sum(-1), 0)  # the mean advantage of a policy's own actions


def test_fidelity_of_labels_that_say_little() -> None:
    truth = np.zeros((1, 1, 1, 1, 3))
    truth[..., :] = [0.2, -0.2, 0.0]
    nothing = fidelity(Labels(at(), np.empty(0)), truth)
    assert nothing == {"sign": None, "tied": None, "tau": None}
    one = [(0, 0, 0, 0, action) for action in (0, 0, 0, 1, 2)]
    found = fidelity(Labels(at(*one), np.array([1.0, 1.0, -1.0, 1.0, 1.0])), truth)
    assert found["sign"] == pytest.approx(3 / 4)
    assert found["tied"] == pytest.approx(1 / 5)
    undecided = fidelity(Labels(at(one[0], one[0]), np.array([1.0, -1.0])), truth)
    assert undecided == {"sign": 0.5, "tied": 0.0, "tau": None}


# ---- methods ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [NOISY, CLEAN], ids=["noisy", "clean"])
def test_budgets_are_equal_and_held(cell: Cell) -> None:
    samples = Samples(cell, 1)
    assert samples.budget == 100 * 6
    dearest = max(cost for cost in samples.trees(samples.budget)[1])
    for name, method in METHODS.items():
        used = method(samples).samples
        if name == "null":
            assert used == 0
        elif name == "vine_ppo":
            assert samples.budget / 2 < used <= samples.budget
        else:  # an episode or a tree, verified where that is asked for, fits no more
            assert samples.budget - 4 * dearest < used <= samples.budget, name


def test_one_episode_or_tree_is_kept_however_small_the_budget() -> None:
    assert within(10, [4, 4, 4]) == 2
    assert within(1, [4, 4]) == 1
    samples = Samples(replace(CLEAN, budget=1), 0)
    assert METHODS["rft"](samples).samples > 1
    assert len(samples.trees(1)[0]) == 1


def test_settings_are_those_of_the_recipes() -> None:
    for name in ("state_dpo", "step_dpo", "trajectory_dpo", "mixed", "rft", "tree_sft"):
        for extractor in load_recipe(name).extract.values():
            if isinstance(extractor, StatePairs):
                assert (extractor.threshold, extractor.z) == (methods.THRESHOLD, methods.STATE_ERRORS)
                assert (extractor.min_visits, extractor.per_state) == (1, methods.PER_NODE)
            elif isinstance(extractor, SiblingPairs):
                assert (extractor.threshold, extractor.min_visits) == (methods.THRESHOLD, methods.MIN_VISITS)
                assert (extractor.per_node, extractor.z, extractor.contrast) == (methods.PER_NODE, 0.0, "best")
            elif isinstance(extractor, TrajectoryPairs | Successes):
                assert extractor.per_task == methods.PER_TASK
            elif isinstance(extractor, BestPaths):
                assert extractor.paths == methods.WINNERS_A_TREE


def test_null_is_the_base_and_a_wrong_method_is_no_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CELLS, NOISY.name, NOISY)
    results = {result.method: result for result in measure(NOISY.name, 0, Settings())}
    assert list(results) == list(METHODS)
    null = results["null"]
    assert null.success == null.base == 0.18
    assert (null.labels, null.samples, null.rate, null.iterations, null.sign) == (0, 0, 0.0, 0, None)
    assert results["broken"].success < null.base
    for name in set(METHODS) - set(CONTROLS):
        assert results[name].success > null.base, name
        assert results[name].labels == round(results[name].labels_per_1000_samples * results[name].samples / 1000)


def test_exact_labels_train_to_success(noisy: Samples) -> None:
    """With A^π itself as the advantages the learner finds the right actions."""
    truth = exact_advantages(noisy.task, noisy.base)
    every = np.stack(np.meshgrid(*map(np.arange, truth.shape), indexing="ij"), -1).reshape(-1, 5)
    every = every[every[:, 1] == every[:, 2]]
    problem = advantages(Labels(every, truth[tuple(every.T)]), noisy.base.shape, (1.0, 1e9))
    best = max(exact_success(noisy.task, table) for _, _, table in trained(noisy.base, problem))
    assert best > 0.95


def test_advantages_and_pairs_are_measured(noisy: Samples) -> None:
    rows = METHODS["gigpo"](noisy)
    found = measured(noisy, "gigpo", rows, Settings())
    labels = labels_of_advantages(noisy.task, rows.advantages)
    assert found.labels == len(labels.values) == len(rows.advantages)
    assert found.cpu_seconds >= 0


# ---- runs -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Two seeds in two cells of few samples."""
    for cell in TINY:
        monkeypatch.setitem(CELLS, cell.name, cell)
    return Settings(seeds=2, cells=[cell.name for cell in TINY])


def here(todo: Sequence[tuple[str, int]], settings: Settings) -> Iterator[list[Result]]:
    """In place of the worker processes."""
    for cell, seed in todo:
        yield measure(cell, seed, settings)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What is measured, in order."""
    done: list[tuple[str, int]] = []

    def noted(todo: Sequence[tuple[str, int]], settings: Settings) -> Iterator[list[Result]]:
        for each, found in zip(todo, here(todo, settings), strict=True):
            done.append(each)
            yield found

    monkeypatch.setattr(running, "_each_measured", noted)
    return done


def without_time(results: Sequence[Result]) -> list[Result]:
    return [replace(result, cpu_seconds=0.0) for result in results]


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    settings = Settings(seeds=1, cells=[FITTED[0].name, FITTED[3].name])
    one, two = (
        running.run(replace(settings, workers=workers), tmp_path / str(workers)) for workers in (1, 2)
    )  # fmt: skip
    assert without_time(one) == without_time(two)
    assert running.load(tmp_path / "1" / LOG) == one
    assert len(one) == 2 * len(METHODS)


def test_a_run_resumes_where_it_was_cut(tmp_path: Path, work: list[tuple[str, int]], small: Settings) -> None:
    moved: list[int] = []
    whole = running.run(small, tmp_path, lambda done, note: moved.append(done))
    assert work == [(cell.name, seed) for seed in (0, 1) for cell in TINY]
    assert moved == [0, 1, 2, 3, 4]
    log = tmp_path / LOG
    text = log.read_bytes()
    lines = text.splitlines(keepends=True)
    for kept in (b"".join(lines[:-1]), b"".join(lines[:-3]) + lines[-3][:20], text + b'{"cell": "h'):
        log.write_bytes(kept)
        work.clear()
        assert without_time(running.run(small, tmp_path)) == without_time(whole)
        assert work == ([] if kept.startswith(text) else [(TINY[1].name, 1)])
        assert len(log.read_bytes().splitlines()) == len(lines)
    more = running.run(replace(small, seeds=3), tmp_path)
    assert more[: len(whole)] == running.run(small, tmp_path)
    assert {result.seed for result in more} == {0, 1, 2}


def test_another_benchmark_or_another_file_is_refused(
    tmp_path: Path, work: list[tuple[str, int]], small: Settings
) -> None:
    small = replace(small, seeds=1, cells=TINY[0].name)
    running.run(small, tmp_path)
    with pytest.raises(ValueError, match=r"holds a benchmark with rates=\[0.1, 0.3, 1.0\]; name another folder"):
        running.run(replace(small, rates=[0.1]), tmp_path)
    log = tmp_path / LOG
    lines = log.read_text().splitlines()
    for changed, fault in (
        (["[1]", *lines[1:]], "exists and holds no credit benchmark"),
        ([lines[0], '{"cell": 1}'], "line 2: no result of the benchmark"),
        ([lines[0], lines[2]], "line 2: the methods are not in their order"),
        ([lines[0], json.dumps({**json.loads(lines[1]), "success": "much"})], "line 2: .*success is 'much'"),
    ):
        log.write_text("\n".join(changed) + "\n")
        with pytest.raises(ValueError, match=fault):
            running.run(small, tmp_path)
    with ResultLog(None, small.about()) as memory:
        assert not memory.found


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"seeds": 0}, "seeds=0; expected a whole number from 1"),
        ({"seeds": 1.5}, "seeds=1.5"),
        ({"workers": True}, "workers=True"),
        ({"clip_low": -1}, "clip_low=-1; expected a number above 0"),
        ({"rates": 0.1}, "rates=0.1; expected numbers above 0"),
        ({"rates": [0.1, 0]}, "rates="),
        ({"cells": "h6"}, "no cell 'h6'"),
        ({"cells": []}, "expected names of cells"),
        ({"cells": 3}, "expected names of cells"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Settings(**given)


def test_cells_are_named_one_by_one_or_in_groups() -> None:
    assert Settings().names() == list(CELLS)
    assert Settings(cells="held_out").names() == [cell.name for cell in HELD_OUT]
    first, second = FITTED[0].name, HELD_OUT[0].name
    assert Settings(cells=f"{second}, {first}").names() == [first, second]


def test_held_out_cells_have_fresh_seeds_beside_fitted_ones() -> None:
    fitted, held_out = FITTED[0].name, HELD_OUT[0].name
    both = Settings(seeds=2, first_seed=3, cells=[fitted, held_out])
    old = [(fitted, 3), (held_out, 3), (fitted, 4), (held_out, 4)]
    assert both.work() == [*old, (held_out, 5), (held_out, 6)]
    assert Settings(seeds=2, cells=held_out).work() == [(held_out, 0), (held_out, 1)]
    assert Settings(seeds=1, cells=fitted).work() == [(fitted, 0)]
    assert len(Settings().work()) == 5 * 64 + 5 * 16


# ---- the command ------------------------------------------------------------------------------------------------


def called(*arguments: Any) -> Any:
    return CliRunner().invoke(cli.app, ["bench", *map(str, arguments)])


def test_the_folder_of_something_else_is_left_alone(tmp_path: Path, work: list[tuple[str, int]]) -> None:
    (tmp_path / "config.yaml").touch()
    refused = called("credit", "--out", tmp_path, "--option", "seeds=1")
    assert (refused.exit_code, work) == (2, [])
    assert "holds something else than this benchmark" in " ".join(refused.output.split())
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_the_command_shows_tables_again_when_all_is_done(
    tmp_path: Path, work: list[tuple[str, int]], small: Settings
) -> None:
    asked = ["credit", "--out", tmp_path, "--option", "seeds=1", "--option", f"cells={','.join(small.names())}"]
    first = called(*asked)
    assert first.exit_code == 0, first.output
    assert all(name in first.stdout for name in METHODS)
    assert "branchwise bench credit --option seeds=1" in (tmp_path / "credit.md").read_text(encoding="utf-8")
    work.clear()
    assert called(*asked).stdout == first.stdout
    assert work == []
    rows = json.loads(called(*asked, "--json").stdout)
    assert [row["method"] for row in rows] == 2 * list(METHODS)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("credit", "--agent", "random"), "--agent: the credit benchmark has methods and tasks of its own"),
        (("credit", "--goals", 5), "--goals: the credit benchmark"),
        (("credit", "--simulations", 5), "--simulations: the credit benchmark"),
        (("credit", "--option", "horizon=3"), "--option horizon: the credit benchmark has seeds, cells, clip_low"),
        (("credit", "--option", "seeds=many"), "seeds='many'; expected a whole number"),
        (("TicTacToe",), "name who plays, such as --agent random"),
    ],
)
def test_options_without_effect_are_refused_in_words(arguments: tuple[Any, ...], fault: str) -> None:
    done = called(*arguments)
    assert done.exit_code == 2
    assert fault in " ".join(done.output.replace("│", " ").split())


def test_ctrl_c_keeps_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(todo: Sequence[tuple[str, int]], settings: Settings) -> Iterator[list[Result]]:
        yield from here(todo[:1], settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "_each_measured", stopped)
    done = called("credit", "--out", tmp_path)
    assert done.exit_code == 130
    assert "the same command resumes" in done.output
    assert len(running.load(tmp_path / LOG)) == len(METHODS)
