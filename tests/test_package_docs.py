"""The documentation names what the code has: every column, figure, option and reason; and its links lead somewhere."""

import dataclasses
import re
import typing
from pathlib import Path

import pytest
import yaml

from branchwise.search import engine, selection
from branchwise.search.backup import BACKUP_CODES
from branchwise.search.episode import Episode
from branchwise.search.extraction import PreferencePair
from branchwise.search.selection import SELECTION_CODES
from branchwise.search.store import _SCHEMA
from branchwise.search.tree import COUNTERS
from branchwise.training.evaluation import ResultRow
from branchwise.training.preference_loss import LOSSES, SMOOTHINGS

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
    files = (ROOT / "search" / "extraction.py", ROOT / "training" / "rows.py")
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
        "loss": LOSSES,
        "label_smoothing": [choice for choice in SMOOTHINGS if choice != "pair"],
    }
    for option, values in choices.items():
        for value in values:
            assert f"`{option}: {value}`" in papers, (option, value)


def test_settings_named_in_the_papers_page_exist() -> None:
    fields = {field.name for field in dataclasses.fields(engine.SearchSettings)}
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
