"""``branchwise.search`` by one name: what scripts call, loaded at first use."""

import subprocess
import sys
from pathlib import Path

import pytest

import branchwise.search as face

FILES = {path.stem for path in Path(face.__file__).parent.glob("*.py")}


def test_every_name_is_that_of_its_file() -> None:
    assert face.__all__ == dir(face) == sorted(face.__all__)
    for name in face.__all__:
        found = getattr(face, name)
        assert found.__name__ == name
        assert found.__module__.startswith("branchwise.")
        assert name not in FILES, "a file of that name would take the place of what it holds"
    with pytest.raises(AttributeError, match="has no attribute 'serch'"):
        face.serch  # noqa: B018


def test_the_face_loads_nothing_by_itself() -> None:
    program = (
        "import branchwise.search, sys; print(sorted(m for m in sys.modules if m.startswith('branchwise.search')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "['branchwise.search']\n"
