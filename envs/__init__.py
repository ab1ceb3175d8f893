"""What can happen: simulators (rules as pure functions), and the shells that show them to Gymnasium."""

from .gym_shell import SimulatorEnv
from .registry import environments, simulator_for
from .simulator import CHANCE, TERMINAL, Simulator

__all__ = ["CHANCE", "TERMINAL", "Simulator", "SimulatorEnv", "environments", "simulator_for"]
