"""Packages whose names are loaded at their first use, so that importing one file does not load the others."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def loaded_lazily(
    package: str, homes: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package, from the names in each of its files (``".store"``)."""
    home = {name: file for file, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(home[name], package), name)

    names = sorted(home)
    return get, lambda: names, names
