"""The Python of the search guide runs as it stands, from top to bottom, and its table names settings that there are."""

import re
from pathlib import Path
from typing import Any

import pytest

from branchwise.search.settings import SearchSettings

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


ROWS = re.findall(r"^\| ([^|]+) \| `(.+?)` \|", GUIDE.split("|---|---|---|\n")[1], re.M)


def made(row: tuple[str, str]) -> SearchSettings:
    text = re.sub(r"=…", "=0.5", row[1]).replace("max_depth=0.5", "max_depth=4").replace("(…)", "()")
    return eval(f"SearchSettings({text})", {"SearchSettings": SearchSettings})  # type: ignore[no-any-return]


@pytest.mark.parametrize("row", ROWS)
def test_settings_of_published_searches_can_be_made(row: tuple[str, str]) -> None:
    assert made(row) != SearchSettings()


@pytest.mark.parametrize("row", [row for row in ROWS if re.search("puct|alphazero|p_ucb|gumbel", row[1])])
def test_published_searches_take_the_policy_as_it_is(row: tuple[str, str]) -> None:
    """No equal shares in the prior, which are this library's own; zero before a visit, but where first play is the
    point."""
    settings = made(row)
    assert settings.uniform_prior == 0.0
    if "first play" not in row[0] and settings.selection != "gumbel":
        assert settings.unvisited_value == "zero"
