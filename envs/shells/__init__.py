"""Simulators as environments of Gymnasium and PettingZoo.

>>> from branchwise.envs.shells import SimulatorEnv

Each file is loaded at the first use of a name in it.
"""

from typing import TYPE_CHECKING

from ..lazily import loaded_lazily

if TYPE_CHECKING:
    from .discrete import DiscreteActions as DiscreteActions
    from .gym import SimulatorEnv as SimulatorEnv
    from .gym import UnicodeText as UnicodeText
    from .vector import SimulatorVectorEnv as SimulatorVectorEnv
    from .zoo import SimulatorAECEnv as SimulatorAECEnv
    from .zoo import SimulatorParallelEnv as SimulatorParallelEnv

__getattr__, __dir__, __all__ = loaded_lazily(
    __name__,
    {
        ".discrete": ("DiscreteActions",),
        ".gym": ("SimulatorEnv", "UnicodeText"),
        ".vector": ("SimulatorVectorEnv",),
        ".zoo": ("SimulatorAECEnv", "SimulatorParallelEnv"),
    },
)
