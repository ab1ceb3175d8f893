"""The package's layout: what a wheel would carry, which way imports go, and that importing branchwise stays light."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("envs", "search", "agents", "training", "cli")
PACKAGES = tuple(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])


def folder_of(package: str) -> Path:
    return ROOT.joinpath(*package.split(".")[1:])


def module_files() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    files = {}
    for package in PACKAGES:
        for path in folder_of(package).glob("*.py"):
            files[package if path.stem == "__init__" else f"{package}.{path.stem}"] = path
    return files


MODULES = module_files()


def imported_modules(name: str) -> set[str]:
    """The modules of branchwise that ``name`` imports anywhere in its text, in functions too."""
    path = MODULES[name]
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1])
            source = f"{base}.{node.module}" if node.module else base
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                found.add(inner if inner in MODULES else source)
    return found


def floor_of(module: str) -> int | None:
    """The floor's number, counted from below; ``None`` for the package's root and ``testing``."""
    parts = module.split(".")
    return FLOORS.index(parts[1]) if len(parts) > 1 and parts[1] in FLOORS else None


def tracked_files() -> list[Path]:
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is no list of tracked files")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [path for name in listed.decode().split("\0") if name and (path := ROOT / name).is_file()]


def test_packages_in_pyproject_are_the_folders_with_an_init() -> None:
    folders = {path.parent for floor in FLOORS for path in (ROOT / floor).rglob("__init__.py")}
    assert set(PACKAGES) == {"branchwise"} | {
        ".".join(("branchwise", *folder.relative_to(ROOT).parts)) for folder in folders
    }


def test_every_python_file_of_a_floor_is_in_a_package() -> None:
    """A folder without ``__init__.py`` would be left out of the wheel without a word."""
    packaged = {folder_of(package) for package in PACKAGES}
    for floor in FLOORS:
        for path in (ROOT / floor).rglob("*.py"):
            assert path.parent in packaged, f"{path.parent.relative_to(ROOT)} has no __init__.py"


def test_root_holds_only_the_modules_that_belong_to_the_package() -> None:
    """Any other ``.py`` in the root would land in the wheel as ``branchwise.<name>``."""
    assert {path.name for path in ROOT.glob("*.py")} <= {"__init__.py", "__main__.py", "testing.py"}


def test_tests_are_no_package() -> None:
    assert not (ROOT / "tests" / "__init__.py").exists()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_down_a_floor(module: str) -> None:
    floor = floor_of(module)
    for imported in imported_modules(module):
        assert imported in MODULES, f"{module} imports {imported}, which is no module of the package"
        if floor is not None and module != "branchwise.cli":
            below = floor_of(imported)
            assert below is not None, f"{module} imports {imported}, which stands above every floor"
            assert below <= floor, f"{module} imports {imported}, a floor up"


def test_imports_run_in_no_circle() -> None:
    graph = nx.DiGraph((module, imported) for module in MODULES for imported in imported_modules(module))
    assert list(nx.simple_cycles(graph)) == []


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_inside_the_package_are_relative(module: str) -> None:
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        absolute = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
        assert not any(name.partition(".")[0] == "branchwise" for name in absolute), f"line {node.lineno}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_module_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(ast.parse(MODULES[module].read_text(encoding="utf-8"))) or not MODULES[module].read_text()


def test_importing_branchwise_is_light() -> None:
    heavy = ("torch", "transformers", "trl", "datasets", "pandas", "jinja2", "branchwise.training", "branchwise.agents")
    program = f"import sys, branchwise; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# In pieces, so that this file passes its own test.
MACHINE_PATH = re.compile("|".join((r"/wor" "k/", r"/ho" r"me/\w", r"/ro" "ot/", r"/Us" r"ers/\w", r"C:\\Us" "ers")))
REGISTRY_HOST = re.compile(
    "|".join(
        (
            r"py" r"pi\.org",
            r"python" r"hosted\.org",
            r"download\.py" r"torch\.org",
            r"ana" r"conda\.(org|com)",
            r"npm" r"js\.",
        )
    ),
    re.IGNORECASE,
)


def test_no_tracked_file_names_a_machine_path_or_a_registry() -> None:
    named = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if MACHINE_PATH.search(line) or REGISTRY_HOST.search(line):
                named.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert named == []


def test_ci_is_executable() -> None:
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_nothing_above_the_environments_knows_one_of_them() -> None:
    """No word of one environment's actions, options or goods in the code of agents/ or training/: what they need they
    ask for by abilities and by the row. The default run is the shop's, and an error names it."""
    own = re.compile(r"search\[|click\[|buy now|web_?shop|catalogue_seed|goal_range|observation_mode|math_?tool", re.I)
    named = set()
    for path in (path for floor in ("agents", "training") for path in (ROOT / floor).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            for part in getattr(node, "body", []) if isinstance(getattr(node, "body", []), list) else []:
                if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant):
                    part.value = ast.Constant("")
        named |= {
            f"{path.relative_to(ROOT)}: {line.strip()}" for line in ast.unparse(tree).splitlines() if own.search(line)
        }
    allowed = ("USUAL_ENV: Final = 'branchwise/WebShop-v0'", "runs/web_shop/base/model")
    assert {line for line in named if not any(text in line for text in allowed)} == set()
