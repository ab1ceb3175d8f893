"""What MkDocs does beside its plugins.

Before it starts: the package's folders are linked under ``build/docs/branchwise``. The repository's root is the
package, and mkdocstrings reading it from there would walk through ``.venv`` too. After a page is made: roles such as
``:func:`` before a name, which docstrings use and Markdown does not know, are taken off.
"""

import re
import shutil
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):(<code>)~?(?:\.?[a-z_]+\.)*")


def on_startup(**_: Any) -> None:
    """Called by MkDocs once, before it reads anything."""
    package = ROOT / "build" / "docs" / "branchwise"
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir(parents=True)
    floors = [init.parent for init in ROOT.glob("*/__init__.py")]
    for source in (*floors, *ROOT.glob("*.py")):
        (package / source.name).symlink_to(source)


def on_page_content(html: str, **_: Any) -> str:
    """Called by MkDocs with the HTML of each page."""
    return ROLE.sub(r"\1", html)
