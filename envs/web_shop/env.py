"""The Gymnasium face of the web shop; the rules are in ``rules.py``."""

from typing import Any

from ..gym_shell import SimulatorEnv
from .rules import WebShopSimulator


class WebShopEnv(SimulatorEnv):
    """A web shop to buy in, after WebShop (Yao et al., 2022)."""

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(WebShopSimulator(**options), render_mode=render_mode)

    @property
    def goals(self) -> Any:
        return self.simulator.goals
