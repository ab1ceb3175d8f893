"""The Gymnasium face of the web shop; the rules are in ``rules.py``."""

from collections.abc import Sequence
from typing import Any

from ..gym_shell import SimulatorEnv
from .catalogue import Goal
from .rules import WebShopSimulator


class WebShopEnv(SimulatorEnv):
    """A web shop to buy in, after WebShop (Yao et al., 2022)."""

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(WebShopSimulator(**options), render_mode=render_mode)  # type: ignore[abstract]

    @property
    def goals(self) -> Sequence[Goal]:
        """The goals of the catalogue; for a folder, of all splits."""
        assert isinstance(self.simulator, WebShopSimulator)
        return self.simulator.goals
