"""How agents and figures read in tables, reports and progress lines: names, numbers, shares, intervals, durations.

A figure that is missing or not finite reads "–". What it does not do: round for computing with; it makes text.
"""

import math
from collections.abc import Mapping
from typing import Any, Final, Literal

from ..envs.rows import ENVIRONMENTS

BASE = "behaviour_cloning"
NAMES = {
    "random": "Random",
    "rule_based": "Rule-based",
    BASE: "Base",
    "rft": "RFT",
    "tree_sft": "Tree-SFT",
    "trajectory_dpo": "Trajectory-DPO",
    "step_dpo": "Step-DPO",
    "mixed": "Mixed",
}
"""Agents and recipes in the order of the table. A suffix says how an agent searches at test time: ``+mcts``, with a
learned critic at the leaves; ``+mcts_oracle``, with the environment's own outcome; ``+best_of``, with a Q-model that
ranks its proposals."""

Kind = Literal["reference", "trained", "search", "oracle"]
KINDS: Final[tuple[Kind, ...]] = ("reference", "trained", "search", "oracle")
"""Of agents: those that others are compared with (players by rule, the base); trained ones that act without search;
those that search; those that see the outcome, which is an upper bound."""


SCRIPTED: Final = {name for row in ENVIRONMENTS for name, _ in (*row.opponents, *row.solvers)}
"""Players by rule of our environments."""


def kind_of(row: Mapping[str, Any]) -> Kind:
    """What kind of agent a row of a table is of; where the row does not say, as in a benchmark, by the agent's name."""
    if row.get("kind"):
        return row["kind"]
    policy, _, way = str(row["agent"]).partition("+")
    if policy.endswith("oracle") or way:
        return "oracle" if row["agent"].endswith("oracle") else "search"
    return "reference" if policy == BASE or policy in SCRIPTED else "trained"


def row_order(row: Mapping[str, Any]) -> tuple[int, int, str]:
    """The key that sorts rows as tables show them: by kind, players and policies together, then as :data:`NAMES` lists
    them."""
    kind = kind_of(row)
    return max(1, KINDS.index(kind)), *agent_order(str(row["agent"]).partition("+")[0])


def agent_order(agent: str) -> tuple[int, str]:
    """The key that sorts players and recipes as :data:`NAMES` lists them."""
    order = list(NAMES)
    place = order.index(agent) if agent in order else len(order)
    if agent in SCRIPTED and agent not in NAMES:
        place = order.index("rule_based")
    return place, agent


def agent_name(agent: str) -> str:
    """What people call an agent.

    >>> agent_name("step_dpo+mcts_oracle")
    'Step-DPO + MCTS, oracle'
    """
    policy, _, way = agent.partition("+")
    suffixes = {"": "", "best_of": " + best of n", "mcts": " + MCTS", "mcts_oracle": " + MCTS, oracle"}
    return NAMES.get(policy, policy) + suffixes.get(way, f" + {way}")


def inline(name: str) -> str:
    """A name inside a sentence.

    >>> inline("Step-DPO + MCTS"), inline("RFT")
    ('step-DPO + MCTS', 'RFT')
    """
    article = "the " if name.startswith(NAMES[BASE]) else ""
    return name if name[1:2].isupper() else article + name[:1].lower() + name[1:]


def number(value: Any, digits: int = 3) -> str:
    r"""A number for people: ``digits`` significant ones, thousands apart, "–" where there is none.

    >>> number(0.31249), number(48000), number(1e-4), number(None), number(float("nan"))
    ('0.312', '48\u202f000', '0.0001', '–', '–')
    """
    if value is None or isinstance(value, str) or not math.isfinite(value):
        return value if isinstance(value, str) else "–"
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}").replace("-", "−")
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:.{min(places, 8)}f}"
    return (text.rstrip("0").rstrip(".") if places > digits else text).replace("-", "−")


def percent(value: Any) -> str:
    r"""A share as per cent with one decimal.

    >>> percent(0.1234)
    '12.3\u202f%'
    """
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.1f}\N{NARROW NO-BREAK SPACE}%"


def interval(low: Any, high: Any, scale: float = 100.0, digits: int = 1) -> str:
    """``[20.1, 29.9]``; empty where a bound is missing."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{scale * low:.{digits}f}, {scale * high:.{digits}f}]"


def duration(seconds: Any) -> str:
    """
    >>> duration(0.0042), duration(12.3), duration(200)
    ('4.2 ms', '12.3 s', '3 min 20 s')
    """
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 1:
        return f"{1000 * seconds:.1f} ms"
    return f"{seconds:.1f} s" if seconds < 100 else f"{int(seconds // 60)} min {int(seconds % 60)} s"
