"""Kernels that are compiled and kept: what is said of it, and what a change makes old (``envs/games/compiling.py``)."""

import os
import subprocess
import sys
from pathlib import Path

from branchwise.envs.games import compiling, kernels


def test_the_first_search_after_installation_says_that_it_compiles(tmp_path: Path) -> None:
    """With an empty cache the notice comes, and comes first; with what that left, none. A small kernel stands for those
    of the search, whose compiling takes half a minute."""
    (tmp_path / "small.py").write_text(_SMALL)
    said = [
        subprocess.run(
            [sys.executable, str(tmp_path / "small.py")], capture_output=True, text=True, check=True
        ).stderr.splitlines()
        for _ in range(2)
    ]
    assert said == [["branchwise: compiling the sum, once after installation …", "3"], ["3"]]


_SMALL = """
import sys
from numba import njit
from branchwise.envs.games.compiling import say_if_compiling


@njit(cache=True)
def add(one, other):
    return one + other


say_if_compiling(add, "the sum")
say_if_compiling(add, "the sum")
print(add(1, 2), file=sys.stderr)
"""


_CALLING = """
from numba import njit
from branchwise.envs.games.compiling import forget_outdated
from .between import answer


@njit(cache=True)
def ask():
    return answer()


if FORGET:
    forget_outdated(ask)
print(ask())
"""


def test_kernels_of_before_an_update_are_forgotten_and_others_kept(tmp_path: Path) -> None:
    """Without it numba goes on with what ``ask`` had called before."""
    package, said = tmp_path / "package", []
    package.mkdir()
    constant = "from numba import njit\n\n\n@njit(cache=True)\ndef answer():\n    return {}\n"
    (package / "__init__.py").touch()
    (package / "between.py").write_text("from .called import answer\n")
    (package / "calling.py").write_text(_CALLING)
    (package / "other.py").write_text(constant.format(3) + "answer()\n")
    for number, forget in ((1, False), (2, False), (2, True)):
        (package / "called.py").write_text(constant.format(number))
        said.append(subprocess.run(
            [sys.executable, "-c", f"import builtins as b; b.FORGET = {forget}; import package.other, package.calling"],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        ).stdout.strip())  # fmt: skip
        if number == 1:
            kept = [path.stat().st_mtime_ns for path in (package / "__pycache__").glob("other.*.nbi")]
    assert said == ["1", "1", "2"]
    assert [path.stat().st_mtime_ns for path in (package / "__pycache__").glob("other.*.nbi")] == kept


_GAME = """
from numba import njit
from branchwise.envs.games.kernels import CompiledRules
from .limits import LIMIT


@njit(cache=True)
def legal(state, actions):
    return LIMIT


rules = CompiledRules("game", 1, 1, 2, 2, legal, legal, legal, tuple, str)
print(legal(0, 0))
"""


def test_a_game_is_compiled_anew_after_a_change_of_a_number_that_it_imports(tmp_path: Path) -> None:
    """It is built into a kernel, and numba looks at the kernel's own file alone."""
    package, said = tmp_path / "package", []
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "game.py").write_text(_GAME)
    for limit in (1, 2):
        (package / "limits.py").write_text(f"LIMIT = {limit}\n")
        said.append(subprocess.run(
            [sys.executable, "-c", "import package.game"], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.strip())  # fmt: skip
    assert said == ["1", "2"]


def test_kernels_of_a_game_elsewhere_are_as_old_as_what_they_import_from_here() -> None:
    here, games = Path(__file__).parent, Path(kernels.__file__).parent
    assert games / "kernels.py" in compiling._behind(here / "test_search_going_on.py")
    assert games / "compiling.py" in compiling._behind(games / "kernels.py")


def test_without_the_compiler_environments_play_and_a_search_says_what_it_needs() -> None:
    script = "import gymnasium as gym, branchwise\nenv = gym.make('branchwise/ConnectFour-v0')\nenv.reset(seed=0)\n"
    script += "print(env.step('4')[1])\nimport branchwise.search.engine"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "0.0\n"
    assert done.stderr.splitlines()[-1].endswith("unset NUMBA_DISABLE_JIT")
