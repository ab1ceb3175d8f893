"""The search-and-train loop: recipes as data, and the run that trains, evaluates and compares them.

>>> from branchwise.training.loop import RunConfig, load_config, run_loop
"""

from .config import BaseSettings, RunConfig, load_config
from .recipe import Recipe, load_recipe, recipes_named
from .run import run_loop

__all__ = ["BaseSettings", "Recipe", "RunConfig", "load_config", "load_recipe", "recipes_named", "run_loop"]
