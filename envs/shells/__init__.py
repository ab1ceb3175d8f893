"""Simulators as environments of Gymnasium and PettingZoo.

>>> from branchwise.envs.shells import SimulatorEnv

Each file is loaded at the first use of a name in it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .discrete import DiscreteActions as DiscreteActions
    from .gym import SimulatorEnv as SimulatorEnv
    from .gym import UnicodeText as UnicodeText
    from .vector import SimulatorVectorEnv as SimulatorVectorEnv
    from .zoo import SimulatorAECEnv as SimulatorAECEnv
    from .zoo import SimulatorParallelEnv as SimulatorParallelEnv

_FILES: Final = {
    "DiscreteActions": "discrete",
    "SimulatorAECEnv": "zoo",
    "SimulatorEnv": "gym",
    "SimulatorParallelEnv": "zoo",
    "SimulatorVectorEnv": "vector",
    "UnicodeText": "gym",
}
__all__ = sorted(_FILES)


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_FILES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
