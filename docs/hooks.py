"""What MkDocs does beside its plugins.

Before it starts: the package's folders are linked under ``build/docs/branchwise``. The repository's root is the
package, and mkdocstrings reading it from there would walk through ``.venv`` too.

Then every registered environment gets a page, ``environments/<name>.md``, from its row in the registry and the
docstring of its class, and a place in the navigation; the table of ``environments.md`` links to them.

After a page is made: roles such as ``:func:`` before a name, which docstrings use and Markdown does not know, are taken
off.
"""

import inspect
import re
import shutil
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):(<code>)~?(?:\.?[a-z_]+\.)*")
EXAMPLE = re.compile(r"^>>> .*\n(?:.+\n)*", re.MULTILINE)
FOR_TESTS = re.compile(r"^>>> .*\bpytest\b.*\n|  # doctest: .*$", re.MULTILINE)
ROW = re.compile(r"^\| (\w+-v\d+)\b", re.MULTILINE)
SECTION = "Environments"


def on_startup(**_: Any) -> None:
    """Called by MkDocs once, before it reads anything."""
    package = ROOT / "build" / "docs" / "branchwise"
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir(parents=True)
    floors = [init.parent for init in ROOT.glob("*/__init__.py")]
    for source in (*floors, *ROOT.glob("*.py")):
        (package / source.name).symlink_to(source)


def on_config(config: Any) -> Any:
    """Called by MkDocs with the settings: the pages of the environments end their section of the navigation."""
    for entry in config["nav"]:
        if isinstance(entry, dict) and SECTION in entry:
            entry[SECTION].extend(f"environments/{name}.md" for name in environment_pages())
    return config


def on_files(files: Any, config: Any) -> Any:
    """Called by MkDocs with the files that it found."""
    from mkdocs.structure.files import File

    for name, text in environment_pages().items():
        files.append(File.generated(config, f"environments/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by MkDocs with the text of each page: in the table of environments, a row's name leads to its page."""
    if page.file.src_uri != "environments.md":
        return markdown
    return ROW.sub(r"| [\1](environments/\1.md)", markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Called by MkDocs with the HTML of each page."""
    return ROLE.sub(r"\1", html)


def environment_pages() -> dict[str, str]:
    """The page of every registered environment as Markdown, by the id without namespace (``KuhnPoker-v0``)."""
    from branchwise.envs.registry import environments

    return {row.id.rpartition("/")[2]: environment_page(row) for row in environments()}


def environment_page(row: Any) -> str:
    """What the registry says of an environment, then its docstring."""
    from gymnasium.envs.registration import load_env_creator

    made = load_env_creator(row.entry_point or row.simulator)
    facts = {
        "id": f"`{row.id}`",
        "players": str(row.players),
        "played by rule": _listed(name for name, _ in row.solvers),
        "`opponents`": _listed(dict.fromkeys(("random", *dict(row.opponents)))) if row.players > 1 else "",
        "`split`": _listed(row.splits),
        "needs": f"`pip install '.[{row.extra}]'` in the checkout" if row.extra else "",
        "class": f"`{made.__module__}.{made.__qualname__}`",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items() if value)
    title = row.id.rpartition("/")[2].rpartition("-v")[0]
    return f"# {title}\n\n{row.summary}\n\n| | |\n|---|---|\n{table}\n\n{_markdown(inspect.getdoc(made) or '')}\n"


def _listed(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _markdown(docstring: str) -> str:
    """``docstring`` with its examples fenced, less what only tests need; the rest is Markdown already."""
    text = FOR_TESTS.sub("", docstring + "\n")
    return EXAMPLE.sub(lambda example: f"```pycon\n{example[0].rstrip()}\n```\n", text).strip()
