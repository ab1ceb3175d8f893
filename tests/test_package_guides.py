"""The Python of the search guide runs as it stands, and its tables are those of the presets and the rules."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from branchwise.search.presets import PRESETS, preset
from branchwise.search.rules.options import RULES, Uct
from branchwise.search.settings import SearchSettings
from branchwise.training.settings import build

GUIDE = (Path(__file__).resolve().parents[1] / "docs" / "search.md").read_text(encoding="utf-8")


def test_the_search_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL):
        exec(compile(block, "docs/search.md", "exec"), names)
    assert names["tree"].counters["simulations"] == 600
    assert names["line"]
    assert abs(names["shares"].sum() - 1.0) < 1e-12
    assert len(names["table"]) == len(names["actions"]) == 9


ROWS = re.findall(r"^\| [^|]+ \| `(\w+)` \| `(.+?)` \|", GUIDE.split("| system | preset |")[1], re.M)


def test_every_preset_has_a_row_and_no_other_is_named() -> None:
    assert [name for name, _ in ROWS] == list(PRESETS)


@pytest.mark.parametrize(("name", "shown"), ROWS, ids=list(PRESETS))
def test_the_guide_shows_what_a_preset_gives(name: str, shown: str) -> None:
    assert yaml.safe_load(shown) == PRESETS[name]
    assert preset(name) == build(SearchSettings, yaml.safe_load(shown)) != SearchSettings()


@pytest.mark.parametrize("name", ["mcts_dpo", "pg_td", "armap", "alphazero", "gumbel_muzero", "katago"])
def test_published_searches_take_the_policy_as_it_is(name: str) -> None:
    """No equal shares in the prior, which are this library's own; zero before a visit, but where first play is the
    point."""
    settings = preset(name)
    assert settings.uniform_prior == 0.0
    if name != "katago" and settings.rule.name != "gumbel":
        assert settings.unvisited_value == "zero"


def test_every_rule_and_its_options_are_in_the_guide() -> None:
    table = GUIDE.split("| rule | options |")[1].split("\n\n")[0]
    for kind in RULES.values():
        [row] = [line for line in table.splitlines() if f"`{kind.__name__}`" in line]
        named = set(re.findall(r"`(\w+)`", row.split("|")[2]))
        same = {"exploration", "unvisited_value", "fpu_value"} if "the same" in row else set()
        assert named | same == {field.name for field in fields(kind)}, row


def test_a_preset_is_changed_by_keywords_and_an_unknown_one_is_refused() -> None:
    assert preset("lats", simulations=64) == SearchSettings(simulations=64, selection=Uct(1.0), proposals=5)
    with pytest.raises(ValueError, match="no preset 'agentq'; did you mean 'agent_q'"):
        preset("agentq")
