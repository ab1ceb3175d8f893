"""Mutation testing of the core files: does a test fail where one operator, number or branch of the program is wrong?

``python tests/mutants.py --count 200 --seed 1`` draws that many mutants at random (the same for the same seed and
sources) from the files of :data:`CORE`, runs for each the tests that belong to its file, nearest first, until one
fails, and prints the survivors and the share that was killed with its Wilson interval. ``make mutants`` runs it; a
mutant takes about half a minute of one core. Results are appended to ``--out`` (JSONL) as they come; the same command
resumes.

A mutant is one change of the syntax tree: a comparison, an arithmetic, bitwise or Boolean operator, a Boolean, a number
by one, ``not``, the order of the bounds of ``range``, ``min`` for ``max``, ``any`` for ``all``, ``break`` for
``continue``, a statement left out. Left alone are annotations, decorators, docstrings, assertions, the words of errors,
and the default values of settings, which are choices.

Each mutant is tested in a fresh copy of the checkout, numba's caches of the unchanged files included: numba does not
look at the files from which a kernel calls, so a cache written under one mutant would falsify the next. (cosmic-ray
mutates annotations and decorators too and knows no order of tests; mutmut wraps functions in ways that numba does not
compile.) A mutant that fails to import or runs past ``--timeout`` is killed too.
"""

import argparse
import ast
import copy
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NO_END = "no end within"

SEARCH = (
    "search_formulas",
    "search_twin",
    "search_engine",
    "search_failures",
    "search_*",
    "agents_acting",
    "training_stages",
)
COMPILED = ("search_compiled", "search_compiled*", "search_*", "games_*")
AGENTS = ("agents_*", "training_rows", "training_preference", "training_stages")
TRAINING = ("training_*", "report_*", "agents_critics")
CORE: dict[str, tuple[str, ...]] = {
    "envs/play/playing.py": ("envs_playing", "search_evaluation", "training_evaluation", "training_benchmark"),
    "envs/play/sampling.py": ("search_evaluation", "agents_acting", *SEARCH),
    "envs/checked.py": ("search_limits", *SEARCH),
    "search/rules/selection.py": SEARCH,
    "search/rules/backup.py": SEARCH,
    "search/rules/gumbel.py": SEARCH,
    "search/trees/descent.py": ("search_descent", "search_kernels", *SEARCH),
    "search/trees/ascent.py": ("search_kernels", *SEARCH),
    "search/trees/arrays.py": ("search_kernels", *SEARCH),
    "search/trees/nodes.py": ("search_kernels", "search_reuse", "search_proven", "search_proofs", *SEARCH),
    "search/walks.py": ("search_raising_steps", "search_engine", *SEARCH),
    "search/nodewise.py": ("search_raising_steps", "search_options", *SEARCH),
    "search/rules/targets.py": ("search_proven", "search_proofs", *SEARCH),
    "search/trees/stepping.py": ("search_border", "search_failures", "search_raising_steps", *SEARCH),
    "search/engine.py": ("search_engine", *SEARCH),
    "search/expansion.py": ("search_expansion", "search_engine", *SEARCH),
    "search/evaluation.py": ("search_evaluation", "search_engine", *SEARCH),
    "search/extraction.py": ("search_extraction", "cli_search_anywhere", "training_stages", "search_*", "training_*"),
    "search/trees/tree.py": ("search_engine", "search_store", *SEARCH),
    "search/trees/reading.py": ("search_proven", *SEARCH),
    "search/trees/transcripts.py": ("search_privacy", "search_store", *SEARCH),
    "search/trees/restoring.py": ("search_reuse", "search_store", "search_round_trips", *SEARCH),
    "search/store.py": ("search_store", "search_pair_files", "search_resume", "files_*", "search_*", "training_stages"),
    "search/widening.py": ("search_widening", *SEARCH),
    "search/information.py": ("search_information", "search_poker", *SEARCH),
    "search/compiled/loop.py": COMPILED,
    "search/compiled/gumbel.py": ("search_compiled", "search_reuse", *COMPILED),
    "search/compiled/tree.py": ("search_compiled_tree", "search_compiled", "search_proven", *COMPILED),
    "agents/prompting.py": ("agents_prompting", *AGENTS),
    "agents/packing.py": ("agents_packing", "agents_language_model", *AGENTS),
    "agents/forward.py": ("agents_language_model", *AGENTS),
    "training/losses.py": ("training_preference", "training_kto", "training_oreo", *TRAINING),
    "training/batches.py": ("training_preference", "training_supervised", *TRAINING),
    "training/preference.py": ("training_preference", *TRAINING),
    "training/rows.py": ("training_rows", *TRAINING),
    "training/value.py": ("training_value", *TRAINING),
    "training/evaluation.py": ("training_evaluation", *TRAINING),
    "training/supervised.py": ("training_supervised", *TRAINING),
    "training/kto.py": ("training_kto",),
    "training/policy_gradient.py": ("training_policy_gradient",),
    "search/credit.py": ("search_credit",),
    "search/audit.py": ("search_audit", "training_labels"),
    "search/segments.py": ("search_segments",),
    "search/stepwise.py": ("search_stepwise",),
    "envs/noisy.py": ("envs_noisy",),
    "training/labels.py": ("training_labels", "cli_audit"),
    "training/credit/methods.py": ("training_credit",),
    "training/credit/tabular.py": ("training_credit",),
    "training/credit/summary.py": ("training_credit_summary",),
    "training/oreo.py": ("training_oreo",),
    "training/trl_trainer.py": ("training_trl_trainer",),
    "training/trainer.py": ("training_trainer", *TRAINING),
}

SWAPPED: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
    ast.And: ast.Or, ast.Or: ast.And, ast.Break: ast.Continue, ast.Continue: ast.Break,
}  # fmt: skip
RENAMED = {"min": "max", "max": "min", "any": "all", "all": "any", "argmax": "argmin", "argmin": "argmax"}


@dataclass(frozen=True)
class Mutant:
    """One change: the file, the line, and what is written in place of the characters from ``start`` to ``end``."""

    path: str
    line: int
    start: int
    end: int
    before: str
    after: str

    @property
    def key(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        def short(text: str) -> str:
            return " ".join(text.split())[:70]

        return f"{self.path}:{self.line}: {short(self.before)}  →  {short(self.after)}"


def mutants(path: str, source: str) -> list[Mutant]:
    """Every mutant of a file, in the order of its lines."""
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    whole = source.encode()
    found = []
    for node, changed in _changes(ast.parse(source)):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[operator]
        text = ast.unparse(changed)
        after = f"({text})" if isinstance(node, ast.expr) else text
        before = whole[start:end].decode()
        found.append(Mutant(path, node.lineno, start, end, before, after))
    return list(dict.fromkeys(found))


def _changes(tree: ast.Module) -> Iterator[tuple[ast.expr | ast.stmt, ast.AST]]:
    """(a node, what it becomes) for each change of the tree."""
    for node in _living(tree):
        if isinstance(node, ast.Compare):
            for i, operator in enumerate(node.ops):
                yield (
                    node,
                    _with(node, lambda new, i=i, operator=operator: new.ops.__setitem__(i, SWAPPED[type(operator)]())),
                )
        elif isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp) and type(node.op) in SWAPPED:
            yield node, _with(node, lambda new: setattr(new, "op", SWAPPED[type(new.op)]()))
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
            yield node, node.operand
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield node, ast.Constant(not node.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            yield node, ast.Constant(node.value + 1)
            if node.value == 1:
                yield node, ast.Constant(type(node.value)(0))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if name in RENAMED:
                yield node, _with(node, lambda new, name=name: _rename(new.func, RENAMED[name]))
            if name == "range" and len(node.args) == 2:
                yield node, _with(node, lambda new: new.args.reverse())
        elif isinstance(node, ast.Break | ast.Continue):
            yield node, SWAPPED[type(node)]()
        if _can_be_left_out(node):
            yield node, ast.Pass()  # type: ignore[misc]


def _with(node: ast.AST, change) -> ast.AST:  # type: ignore[no-untyped-def]
    new = copy.deepcopy(node)
    change(new)
    return new


def _rename(function: ast.expr, name: str) -> None:
    setattr(function, "id" if isinstance(function, ast.Name) else "attr", name)


def _is_zip(node: ast.AST) -> bool:
    """``zip(…, strict=True)`` asserts."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "zip"


def _can_be_left_out(node: ast.AST) -> bool:
    """A call for its effect, or a change of what an object or array holds."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call)
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
    return bool(targets) and all(isinstance(target, ast.Attribute | ast.Subscript) for target in targets)


def _living(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below that run and that a test could see: no annotations, decorators or words of errors."""
    if isinstance(node, ast.Raise | ast.Assert | ast.Import | ast.ImportFrom | ast.JoinedStr):
        return
    if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
    ):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list") or (name == "keywords" and _is_zip(node)):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _living(child)


def drawn(count: int, seed: int, files: list[str]) -> list[Mutant]:
    """``count`` different mutants, each file's chance in proportion to how many it has."""
    every = [mutant for path in files for mutant in mutants(path, (ROOT / path).read_text("utf-8"))]
    return random.Random(seed).sample(every, min(count, len(every)))


def tested(mutant: Mutant | None, pristine: Path, timeout: float) -> dict[str, object]:
    """Run the tests of a mutant's file in a fresh copy; without a mutant, all of the core tests."""
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder) / "branchwise"
        shutil.copytree(pristine, checkout, symlinks=True)
        wanted = CORE[mutant.path] if mutant else tuple(dict.fromkeys(sum(CORE.values(), ())))
        if mutant:
            source = (checkout / mutant.path).read_bytes()
            (checkout / mutant.path).write_bytes(source[: mutant.start] + mutant.after.encode() + source[mutant.end :])
        files = list(
            dict.fromkeys(str(file) for name in wanted for file in sorted(checkout.glob(f"tests/test_{name}.py")))
        )
        environment = {
            **os.environ,
            "PYTHONPATH": folder,
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "BRANCHWISE_SHARED_DATA": os.environ.get("BRANCHWISE_SHARED_DATA", str(ROOT.parent / "shared" / "data")),
        }
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-n0",
            "-p",
            "no:cacheprovider",
            "--no-header",
            "--tb=line",
        ]
        try:
            run = subprocess.run(
                [*command, *files],
                cwd=checkout,
                env=environment,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
            code, lines = (
                run.returncode,
                [line for line in run.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))],
            )
            by = lines[0][:160] if lines else f"exit code {code}"
        except subprocess.TimeoutExpired:
            code, by = 1, f"{NO_END} {timeout:.0f} s"
        return {"killed": code != 0, "by": by if code else ""}


def wilson(killed: int, count: int) -> tuple[float, float]:
    """The 95 % Wilson interval of a share."""
    z, share = 1.959964, killed / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    return middle - half, middle + half


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--count", type=int, default=200, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0, help="which ones: the same seed, the same mutants")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds after which a mutant counts as killed")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/mutants.jsonl"), help="results; if the file exists, resume"
    )
    parser.add_argument("files", nargs="*", default=[], help=f"core files to draw from (all {len(CORE)})")
    given = parser.parse_args()
    unknown = [file for file in given.files if file not in CORE]
    if unknown:
        parser.error(f"{unknown[0]} is none of the core files: {', '.join(CORE)}")
    sample = drawn(given.count, given.seed, given.files or list(CORE))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    known = {}
    if given.out.exists():
        known = {row["key"]: row for row in map(json.loads, given.out.read_text("utf-8").splitlines())}
    with tempfile.TemporaryDirectory() as folder:
        pristine = Path(folder) / "pristine"
        ignored = shutil.ignore_patterns(".git", ".venv", ".types", "runs", "build", "dist", "site", "*.egg-info")
        shutil.copytree(
            ROOT, pristine, symlinks=True, ignore=ignored
        )  # with the times of the files, as numba's caches ask
        if not known:
            unchanged = tested(None, pristine, 3_600.0)
            if unchanged["killed"]:
                sys.exit(f"the unchanged files fail: {unchanged['by']}; mend that first")
        with ThreadPoolExecutor(given.jobs) as pool, given.out.open("a", encoding="utf-8") as out:
            waiting = {pool.submit(tested, m, pristine, given.timeout): m for m in sample if m.key not in known}
            for done, future in enumerate(as_completed(waiting), 1):
                mutant = waiting[future]
                row = {"key": mutant.key, "mutant": str(mutant), **future.result()}
                known[mutant.key] = row
                print(json.dumps(row, ensure_ascii=False), file=out, flush=True)
                said = "killed  " if row["killed"] else "SURVIVED"
                print(f"{done:4d}/{len(waiting)} {said} {mutant}", flush=True)
    rows = [known[mutant.key] for mutant in sample]
    killed = sum(bool(row["killed"]) for row in rows)
    low, high = wilson(killed, len(rows))
    print(
        f"\n{killed} of {len(rows)} killed: {killed / len(rows):.1%} [{low:.1%}, {high:.1%}], seed {given.seed};"
        " survivors:"
    )
    for row in rows:
        if not row["killed"]:
            print(f"  {row['mutant']}")
    if late := [row["mutant"] for row in rows if str(row["by"]).startswith(NO_END)]:
        print("killed by the time limit alone, so look whether they end at all:", *late, sep="\n  ")


if __name__ == "__main__":
    main()
