"""The mutation script makes the mutants that it says it makes, in files that exist, with tests that exist."""

import ast

import mutants
import pytest

SOURCE = '''
def best(values: "int | None" = None) -> float:
    """Not 1 < 2."""
    top = max(values)
    for i in range(0, top):
        if not i or i <= 3 and True:
            nodes[i].visits += 1
            break
    if top < 0:
        raise ValueError(f"{1 + 1} < 2")
    return top * -1.0
'''


def changed(mutant: mutants.Mutant) -> str:
    return SOURCE[: mutant.start] + mutant.after + SOURCE[mutant.end :]


def test_every_change_is_one_and_is_valid_python() -> None:
    found = mutants.mutants("search/example.py", SOURCE)
    texts = [changed(mutant) for mutant in found]
    assert len(set(texts)) == len(texts) > 15
    for text in texts:
        assert ast.dump(ast.parse(text)) != ast.dump(ast.parse(SOURCE))


@pytest.mark.parametrize(
    ("wrong", "is_made"),
    [
        ("top = (min(values))", True),
        ("range(top, 0)", True),
        ("(i < 3)", True),
        ("(False)", True),
        ("if (i) or", True),
        ("nodes[i].visits -= 1", True),
        ("pass", True),
        ("continue", True),
        ("(top <= 0)", True),
        ("(top / -1.0)", True),
        ("Not 1 <= 2", False),
        ("1 - 1", False),
        ("int & None", False),
    ],
)
def test_the_changes_are_those_of_the_list(wrong: str, is_made: bool) -> None:
    texts = [changed(mutant) for mutant in mutants.mutants("search/example.py", SOURCE)]
    assert any(wrong in text for text in texts) == is_made


def test_every_file_of_the_search_that_holds_kernels_is_a_core_file() -> None:
    kernels = {
        file for file in (mutants.ROOT / "search").rglob("*.py") if "\n@njit" in file.read_text(encoding="utf-8")
    }
    assert {file.relative_to(mutants.ROOT).as_posix() for file in kernels} <= set(mutants.CORE)


def test_each_core_file_exists_and_has_tests() -> None:
    for path, names in mutants.CORE.items():
        assert (mutants.ROOT / path).is_file()
        for name in names:
            assert list(mutants.ROOT.glob(f"tests/test_{name}.py")), f"{path}: no tests/test_{name}.py"


def test_the_same_seed_draws_the_same_mutants() -> None:
    files = ["search/rules/selection.py", "search/rules/backup.py"]
    assert mutants.drawn(20, 3, files) == mutants.drawn(20, 3, files) != mutants.drawn(20, 4, files)
