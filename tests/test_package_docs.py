"""The documentation names what the code has: every column, figure, option and reason; and its links lead somewhere."""

import dataclasses
import importlib
import importlib.util
import re
import types
import typing
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from branchwise.envs.play.episode import Episode
from branchwise.envs.registry import EnvironmentRow, environments
from branchwise.search import engine
from branchwise.search.extraction import PreferencePair
from branchwise.search.rules import selection
from branchwise.search.rules.backup import BACKUP_CODES
from branchwise.search.rules.options import RULES
from branchwise.search.rules.selection import SELECTION_CODES
from branchwise.search.store import _SCHEMA
from branchwise.search.trees.tree import COUNTERS
from branchwise.training.evaluation import ResultRow
from branchwise.training.loop.slots import ACT, COLLECT, EXTRACT, LEARN
from branchwise.training.losses import Loss
from branchwise.training.preference import Smoothing

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def test_every_column_of_the_table_is_explained() -> None:
    for field in dataclasses.fields(ResultRow):
        assert f"`{field.name}`" in page("metrics.md")


def test_every_counter_of_a_search_is_explained() -> None:
    for counter in COUNTERS:
        assert f"`{counter}`" in page("metrics.md")


def test_every_reason_for_dropping_is_explained() -> None:
    files = (
        *(ROOT / "search" / f"{name}.py" for name in ("extraction", "pooling", "stepwise")),
        ROOT / "training" / "rows.py",
    )
    reasons = {
        reason for file in files for reason in re.findall(r'dropped\["([^"]+)"\]', file.read_text(encoding="utf-8"))
    }
    assert len(reasons) > 5
    for reason in reasons:
        assert f"`{reason}`" in page("metrics.md"), reason


@pytest.mark.parametrize("record", [PreferencePair, Episode])
def test_every_field_of_a_line_is_explained(record: type) -> None:
    for field in dataclasses.fields(record):
        assert f"`{field.name}`" in page("files.md"), field.name


def test_every_column_of_a_tree_is_explained() -> None:
    for column in _SCHEMA.names:
        assert f"`{column}`" in page("files.md"), column


def test_every_choice_has_its_paper() -> None:
    papers = page("papers.md")
    choices = {
        "selection": SELECTION_CODES,
        "backup": BACKUP_CODES,
        "unvisited_value": typing.get_args(selection.UnvisitedValue),
        "loss": get_args(Loss),
        "label_smoothing": [choice for choice in get_args(Smoothing) if choice != "pair"],
    }
    for option, values in choices.items():
        for value in values:
            assert f"`{option}: {value}`" in papers, (option, value)


def test_settings_named_in_the_papers_page_exist() -> None:
    kinds = (engine.SearchSettings, *RULES.values())
    fields = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    search = page("papers.md").split("## Extraction")[0]
    named = {name for cell in re.findall(r"^\| (.+?) \|", search, re.M) for name in re.findall(r"`(\w+)", cell)}
    assert named - {"value", "SearchSettings"} <= fields


@pytest.mark.parametrize("path", sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md")]), ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (path.parent / target).exists(), target


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\s*- (\S+\.md)$", text, re.M))
    assert listed == {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert yaml.safe_load(text)["strict"] is True


def test_the_environment_of_ones_own_is_one_and_is_solved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = page("quickstart.md").split("## Environments of your own")[1].split("```python\n")[1].split("```")[0]
    (tmp_path / "twenty_one.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    said = importlib.import_module("twenty_one")
    assert said.observation == "The sum is 0, after 0 steps."
    assert said.tree.best_action() == "7"
    assert said.tree.stopped == "solved"


# ---- the pages of the environments, as docs/hooks.py makes them ----------------------------------------------------

HEADINGS = {
    "Description",
    "Action Space",
    "Observation Space",
    "Rewards",
    "Starting State",
    "Episode End",
    "Information",
    "Arguments",
    "Version History",
}


@pytest.fixture(scope="module")
def hooks() -> Any:
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("row", environments(), ids=lambda row: row.id)
def test_every_environment_has_a_page_with_gymnasiums_headings(hooks: Any, row: EnvironmentRow) -> None:
    text = hooks.environment_pages()[row.id.removeprefix("branchwise/")]
    assert set(re.findall(r"^## (.+)$", text, re.M)) >= HEADINGS
    assert text.startswith("# ")
    assert row.summary in text
    for named in (row.id, *row.splits, *dict(row.opponents), *dict(row.solvers)):
        assert f"`{named}`" in text


@pytest.mark.parametrize("row", environments(), ids=lambda row: row.id)
def test_an_environments_page_has_its_example_fenced_and_nothing_of_the_tests(hooks: Any, row: EnvironmentRow) -> None:
    text = hooks.environment_page(row)
    outside, fenced = text.split("```pycon\n", 1)
    assert ">>>" not in outside
    example, after = fenced.split("\n```\n", 1)
    assert example.startswith(">>> ")
    assert ">>>" not in re.sub(r"```pycon\n.*?\n```\n", "", after, flags=re.S)
    assert "doctest" not in text
    assert "pytest" not in text


def test_the_navigation_ends_its_section_with_the_environments_pages(hooks: Any) -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    [section] = [entry["Environments"] for entry in hooks.on_config(config)["nav"] if "Environments" in entry]
    names = [f"environments/{row.id.removeprefix('branchwise/')}.md" for row in environments()]
    assert section[-len(names) :] == names
    assert section[0] == "environments.md"


def test_rows_of_the_environments_table_lead_to_pages(hooks: Any) -> None:
    page = types.SimpleNamespace(file=types.SimpleNamespace(src_uri="environments.md"))
    text = hooks.on_page_markdown("| KuhnPoker-v0, `size=7` | 3 |\n| other | x |\n", page=page)
    assert text == "| [KuhnPoker-v0](environments/KuhnPoker-v0.md), `size=7` | 3 |\n| other | x |\n"


def test_every_option_of_a_slot_and_its_settings_are_on_the_recipes_page() -> None:
    rows = [line.split("|")[1:5] for line in page("recipes.md").splitlines() if line.startswith("| ") and "`" in line]
    shown = {(slot.strip(), option.strip().strip("`")): settings for slot, option, settings, _ in rows}
    slots = {"collect": COLLECT, "extract": EXTRACT, "learn": LEARN, "act": ACT}
    assert set(shown) == {(slot, option) for slot, kinds in slots.items() for option in kinds}
    for (slot, option), settings in shown.items():
        if slot != "learn":
            named = re.findall(r"`(\w+)`", settings)
            assert named == [field.name for field in dataclasses.fields(slots[slot][option])], option
