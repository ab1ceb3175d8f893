"""Compiling the loop of ``loop.py`` for a game, once, and keeping what was compiled.

Numba keeps compiled functions on disk by file and name, and does not look at the globals that a function uses. So the
functions of the loop get a name of their own for each game, with a digest of everything that decides what they do: the
files in which the game's kernels, the random numbers and the loop are written, and what the kernels close over. A
change in any of them compiles anew; what was compiled before is left to the cache folder (numba's: ``__pycache__``
beside the file, or ``NUMBA_CACHE_DIR``).

What it does not do: look into files from which a game's kernels import; name those in ``CompiledRules.sources``.
"""

import hashlib
import inspect
import pickle
import sys
from functools import lru_cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from numba import njit

from ...envs.games import kernels
from ...envs.games.compiling import is_compiled
from ...envs.games.kernels import CompiledRules
from . import loop as plain_loop


@lru_cache(maxsize=64)
def built(loop: ModuleType, name: str, rules: CompiledRules, value: Any, fixed: tuple[tuple[str, int], ...]) -> Any:
    """The compiled function ``name`` of the module ``loop`` for a game and a kernel for values of leaves. ``loop`` is
    ``loop.py`` or a module that replaces some of its functions; ``fixed`` are further names with their values."""
    digest, lasting = _digest(loop, rules, value, fixed)
    given = {
        **vars(plain_loop),
        **vars(loop),
        "game_legal": rules.legal,
        "game_step": rules.step,
        "game_value": value,
        "TWO_PLAYERS": rules.players == 2,
        **dict(fixed),
    }
    for function in [item for item in given.values() if isinstance(item, FunctionType)]:
        own = FunctionType(function.__code__, given, function.__name__)
        own.__qualname__ = f"{function.__name__}_{rules.name}_{digest}"
        lasts = lasting and function.__name__ == name
        given[function.__name__] = njit(own, cache=lasts, nogil=True, fastmath=given.get("FASTMATH", False))
    compiled = given[name]
    if not (lasting and is_compiled(compiled)):
        print(f"branchwise: compiling the search of {rules.name}, some seconds …", file=sys.stderr, flush=True)
    return compiled


def _digest(loop: ModuleType, rules: CompiledRules, value: Any, fixed: tuple[tuple[str, int], ...]) -> tuple[str, bool]:
    """Sixteen letters that name all that decides what the compiled functions do, and whether that could all be read."""
    lasting = True
    files = {loop.__file__, plain_loop.__file__, kernels.__file__, *rules.sources}
    found = hashlib.sha256(f"{rules.players} {fixed}".encode())
    for part in (rules.legal, rules.step, value):
        function = part.py_func
        try:
            files.add(inspect.getsourcefile(function))
            closed = [cell.cell_contents for cell in function.__closure__ or ()]
            found.update(pickle.dumps((function.__module__, function.__qualname__, closed)))
        except (OSError, TypeError, pickle.PicklingError, AttributeError):
            lasting = False
    for file in sorted(str(file) for file in files):
        path = Path(file)
        if path.is_file():
            found.update(path.read_bytes())
        else:
            lasting = False
    return found.hexdigest()[:16], lasting
