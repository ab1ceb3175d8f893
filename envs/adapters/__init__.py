"""Other packages' environments as simulators: Gymnasium's, PettingZoo's and OpenSpiel's games.

>>> from branchwise.envs.adapters import GymnasiumSimulator

Each file is loaded at the first use of a name in it.
"""

from typing import TYPE_CHECKING

from ..lazily import loaded_lazily

if TYPE_CHECKING:
    from .branching import CannotBranch as CannotBranch
    from .gymnasium import GymnasiumSimulator as GymnasiumSimulator
    from .gymnasium import GymnasiumState as GymnasiumState
    from .gymnasium import describe as describe
    from .open_spiel import OpenSpielSimulator as OpenSpielSimulator
    from .open_spiel import OpenSpielState as OpenSpielState
    from .pettingzoo import PettingZooSimulator as PettingZooSimulator

__getattr__, __dir__, __all__ = loaded_lazily(
    __name__,
    {
        ".branching": ("CannotBranch",),
        ".gymnasium": ("GymnasiumSimulator", "GymnasiumState", "describe"),
        ".open_spiel": ("OpenSpielSimulator", "OpenSpielState"),
        ".pettingzoo": ("PettingZooSimulator",),
    },
)
