"""Trees that tests build by hand, from nested dicts."""

from typing import Any

import numpy as np

from branchwise.envs.play.transcript import observed
from branchwise.search.trees.children import Children
from branchwise.search.trees.nodes import ENDED, SOLVED, VALUED
from branchwise.search.trees.tree import Tree

TASK = {"env_id": "toy", "seed": 3}


def built(spec: dict[str, Any], start: str = "start") -> Tree:
    """A tree from nested dicts: name → {n: visits, q: value, r: reward, p: prior, logp, end: terminal, solved,
    children}. Priors are equal where none is given; ``start`` is what is seen at the root."""
    tree = Tree(None, None, (observed(start),), TASK, index=7)

    def fill(node: int, entry: dict[str, Any]) -> None:
        record = tree._nodes[node]
        record["visits"] = entry.get("n", 0)
        record["value_sum"] = entry.get("n", 0) * entry.get("q", 0.0)
        children = entry.get("children", {})
        if not children:
            return
        count = len(children)
        flags = [
            (ENDED | VALUED if child.get("end") else 0) | (SOLVED if child.get("solved") else 0)
            for child in children.values()
        ]
        first = tree.add_children(
            node,
            Children(
                list(children),
                [None] * count,
                np.array([child.get("p", 1 / count) for child in children.values()]),
                [child.get("logp", -1.0) for child in children.values()],
                [child.get("r", 0.0) for child in children.values()],
                flags,
            ),
        )
        for offset, name in enumerate(children):
            tree.remember_observation(first + offset, f"after {name}")
        for offset, child in enumerate(children.values()):
            fill(first + offset, child)

    fill(0, spec)
    return tree
