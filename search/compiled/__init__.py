"""Search for games whose rules are numba kernels, the whole loop compiled: ``compiled.search(simulator, roots)`` grows
the trees of ``branchwise.search.search`` in a fraction of a microsecond a simulation beside the roll-out itself.

``engine.py`` says what is compiled and calls the loops (``loop.py``, ``gumbel.py``), ``build.py`` compiles them once a
game, ``tree.py`` holds the trees.
"""

from .engine import (
    MOST_SIMULATIONS,
    KernelEvaluator,
    SearchingPlayer,
    extend,
    search,
    why_not_compiled,
)
from .tree import CompiledTree, merged

__all__ = [
    "MOST_SIMULATIONS",
    "CompiledTree",
    "KernelEvaluator",
    "SearchingPlayer",
    "extend",
    "merged",
    "search",
    "why_not_compiled",
]
