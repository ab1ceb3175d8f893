"""branchwise: environments, tree search and step-level preference learning for LLM agents."""

from .envs.registry import environments, register, simulator_for

__version__ = "0.1.0"
__all__ = ["__version__", "environments", "register", "simulator_for"]

register()
