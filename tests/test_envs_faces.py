"""``branchwise.envs.adapters`` and ``branchwise.envs.shells`` by one name each: what scripts import, loaded at first
use."""

import subprocess
import sys
from types import ModuleType

import pytest

from branchwise.envs import adapters, shells


@pytest.mark.parametrize("face", [adapters, shells], ids=lambda face: face.__name__)
def test_every_name_is_that_of_its_file(face: ModuleType) -> None:
    assert face.__all__ == dir(face) == sorted(face.__all__)
    for name in face.__all__:
        found = getattr(face, name)
        assert found.__name__ == name
        assert found.__module__.startswith(f"{face.__name__}.")
    with pytest.raises(AttributeError, match="has no attribute 'Simulater'"):
        face.Simulater  # noqa: B018


def test_importing_branchwise_loads_the_gymnasium_shell_alone() -> None:
    faces = ("branchwise.envs.adapters.", "branchwise.envs.shells.")
    program = (
        "import branchwise, branchwise.envs.adapters, sys;"
        f"print(sorted(module for module in sys.modules if module.startswith({faces})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "['branchwise.envs.shells.gym']\n"
