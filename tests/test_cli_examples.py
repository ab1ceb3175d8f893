"""What the README and the examples show: it runs, and it stays short."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from branchwise.cli import app

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PAGES = (ROOT / "README.md", ROOT / "docs" / "quickstart.md")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short(path: Path) -> None:
    """Fewer than 25 lines beside imports; one that brings an environment with it fewer than 40."""
    body = ast.parse(path.read_text(encoding="utf-8")).body[1:]
    code = [node for node in body if not isinstance(node, ast.Import | ast.ImportFrom)]
    most = 40 if any(isinstance(node, ast.ClassDef) for node in code) else 25
    assert sum((node.end_lineno or 0) - node.lineno + 1 for node in code) < most


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_compile_and_import_what_exists(page: Path) -> None:
    for block in blocks(page, "python"):
        imports = [ast.unparse(n) for n in ast.parse(block).body if isinstance(n, ast.Import | ast.ImportFrom)]
        exec("\n".join(imports), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_environment_block_runs(page: Path, tmp_path: Path) -> None:
    program = next(block for block in blocks(page, "python") if "gym.make" in block)
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=60)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_documented_commands_have_the_options_that_are_shown(page: Path) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    lines = [
        line
        for block in blocks(page, "bash")
        for line in block.replace("\\\n", " ").splitlines()
        if "branchwise " in line
    ]
    shown = [line.split() for line in lines if line.startswith("branchwise ")]
    assert shown
    for words in shown:
        known = {name for parameter in commands[words[1]].params for name in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, words


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("stages.py",), "usage: "),
        (("stages.py", "nothing/here/at all", "out"), "not a folder with a model"),
        (("train_web_shop.py", "--help"), "usage: "),
        (("train_web_shop.py", "nothing", "run"), "no run 'nothing'"),
    ],
)
def test_an_example_with_wrong_arguments_ends_with_one_line(
    arguments: tuple[str, ...], word: str, tmp_path: Path
) -> None:
    program = [sys.executable, str(ROOT / "examples" / arguments[0]), *arguments[1:]]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert word in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_run_takes_a_folder_with_a_space() -> None:
    done = subprocess.run(
        ["make", "-n", "run", "RUN=runs/my smoke"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert "loop 'web_shop' --out 'runs/my smoke'" in done.stdout


@pytest.mark.slow
def test_an_environment_of_ones_own_is_learned(tmp_path: Path) -> None:
    """From nothing to nearly always, by the example as it stands; about half a minute."""
    program = [sys.executable, str(ROOT / "examples" / "own_environment.py"), str(tmp_path / "run")]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    success = {line.split()[0]: float(line.split()[1].rstrip("%")) for line in done.stdout.splitlines()[-3:]}
    assert success["random"] < 10
    assert success["behaviour_cloning"] < 10
    assert success["step_dpo"] >= 90
