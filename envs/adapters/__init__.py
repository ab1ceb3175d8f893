"""Other packages' environments as simulators: Gymnasium's, PettingZoo's and OpenSpiel's games.

>>> from branchwise.envs.adapters import GymnasiumSimulator

Each file is loaded at the first use of a name in it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .branching import CannotBranch as CannotBranch
    from .gymnasium import GymnasiumSimulator as GymnasiumSimulator
    from .gymnasium import GymnasiumState as GymnasiumState
    from .gymnasium import describe as describe
    from .open_spiel import OpenSpielSimulator as OpenSpielSimulator
    from .open_spiel import OpenSpielState as OpenSpielState
    from .pettingzoo import PettingZooSimulator as PettingZooSimulator

_FILES: Final = {
    "CannotBranch": "branching",
    "GymnasiumSimulator": "gymnasium",
    "GymnasiumState": "gymnasium",
    "OpenSpielSimulator": "open_spiel",
    "OpenSpielState": "open_spiel",
    "PettingZooSimulator": "pettingzoo",
    "describe": "gymnasium",
}
__all__ = sorted(_FILES)


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_FILES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
