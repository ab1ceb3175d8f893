"""branchwise: environments, tree search and step-level preference learning for LLM agents."""

__version__ = "0.1.0"
