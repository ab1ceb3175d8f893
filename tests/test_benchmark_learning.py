"""``benchmarks/learning.py``: its table, its file of results, and what it refuses before anything is trained."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from branchwise.training.settings import SettingsError

FILE = Path(__file__).resolve().parents[1] / "benchmarks" / "learning.py"
ASKED = ["learning.py", "web_shop", "noisy", "--bases", "0", "--seeds", "0", "1", "2", "1"]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("learning_benchmark", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "learning.jsonl")
    return module


def test_what_is_known_is_not_trained_again_and_the_last_line_counts(
    bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Gaps of 1, 2 and 3 points: mean 2, t-interval of two degrees of freedom 2 ± 4.303 / √3."""
    for seed in (0, 1, 2):
        bench.keep(bench.Cell("web_shop", "noisy", 0, seed), "mixed", 0.9)
        bench.keep(bench.Cell("web_shop", "noisy", 0, seed), "mixed", 0.5 + 0.01 * (seed + 1))
        bench.keep(bench.Cell("web_shop", "noisy", 0, seed), "trajectory_dpo", 0.5)
    monkeypatch.setattr(bench, "trained", None)
    monkeypatch.setattr(
        sys, "argv", [*ASKED, "--recipes", "mixed", "trajectory_dpo", "mixed", "--out", str(tmp_path / "o # x")]
    )
    bench.main()
    _, _, mixed, other = capsys.readouterr().out.splitlines()
    assert mixed == "| mixed | 51.0 | 52.0 | 53.0 | 52.0 [49.5, 54.5] | +2.0 [-0.5, +4.5] | 0.074 |"
    assert other == "| trajectory_dpo | 50.0 | 50.0 | 50.0 | 50.0 [50.0, 50.0] | – | – |"


def test_results_of_other_settings_are_not_taken_for_these(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = bench.Cell("web_shop", "noisy", 0, 1)
    work = [(cell, "mixed"), (cell, "rft")]
    for each in work:
        bench.keep(*each, 0.5)
    assert bench.results(work) == dict.fromkeys(work, 0.5)
    monkeypatch.setitem(bench.REGIMES, "noisy", ["verdict_noise=0.3"])
    assert bench.results(work) == {}


def test_every_regime_takes_recipes_with_trees_and_without(bench: Any) -> None:
    for regime in bench.REGIMES:
        cell = bench.Cell("web_shop", regime, 0, 1)
        for recipe in ("step_dpo", "mixed", "trajectory_dpo", "trajectory_dpo_8", "state_dpo", "rft"):
            assert list(bench.config_of(cell, recipe, Path()).recipes) == [recipe]


@pytest.mark.parametrize("more", [["--against", "rft"], ["--workers", "0"], ["--seeds", "1", "1"]])
def test_what_cannot_be_compared_is_refused(bench: Any, more: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [*ASKED, *more])
    with pytest.raises(SystemExit):
        bench.main()


def test_settings_are_built_before_anything_is_trained(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "base_model", None)
    monkeypatch.setattr(sys, "argv", [*ASKED, "--recipes", "step_dpo", "mixd", "--against", "step_dpo"])
    with pytest.raises(SettingsError, match="did you mean mixed"):
        bench.main()


def test_the_results_that_are_kept_can_be_read() -> None:
    rows = [json.loads(line) for line in (FILE.parent / "results" / "learning.jsonl").read_text().splitlines()]
    names = [tuple(row[key] for key in ("run", "regime", "base", "seed", "recipe", "settings")) for row in rows]
    assert len(names) == len(set(names))
    assert all(0.0 <= row["success"] <= 1.0 for row in rows)
