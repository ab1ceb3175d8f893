"""What can happen: simulators (rules as pure functions), and the shells that show them to Gymnasium."""

from .registry import environments, simulator_for
from .shells.gym import SimulatorEnv
from .simulator import CHANCE, TERMINAL, Simulator

__all__ = ["CHANCE", "TERMINAL", "Simulator", "SimulatorEnv", "environments", "simulator_for"]
