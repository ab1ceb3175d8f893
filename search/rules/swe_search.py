"""The additive terms of SWE-Search (Antoniades et al., arXiv 2410.20285) for ``selection="uct_bonus"``: the depth terms
of the paper, and those of the released selector (aorwall/moatless-tree-search, ``moatless/selector/selector.py``).

Each term is a small function of plain numbers, on the scale of values from −100 to 100 that its constants are for:
where rewards lie in [0, 1], set ``exploitation=100``, since what the terms see of a value is w_e · Q.
``UctBonus.bonus_terms`` names the terms that a search adds up; :data:`TERMS` says what each looks at in a tree.
A child counts once it was visited, as there children do not exist before.

Differences, because a tree here knows texts and states and no program files: two nodes are alike as the actions that
led to them are (1 − edit distance over length), a child is a duplicate where its state equals that of an earlier
sibling, the kind of an action is its first word, and what expects a correction is an invalid action. Not here: which
node is chosen (``selection.uct_bonus``, ``nodewise.py``), the value agent, the debate.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from rapidfuzz.distance import Levenshtein

from ..trees.nodes import ENDED, EXPANDED, INVALID

if TYPE_CHECKING:
    from ..trees.tree import Tree

HIGH: Final = 50.0
LOW: Final = 0.0
VERY_HIGH: Final = 75.0
FINISHED: Final = 100.0


def early_depth(depth: int) -> float:
    """α · exp(−β · (d − 1)), the paper's early depth bonus; α = 200, β = 0.8. (The program: at the root alone.)"""
    return 200.0 * math.exp(-0.8 * (depth - 1))


def late_depth(depth: int) -> float:
    """−γ · sqrt(d), the late depth penalty; γ = 0.8."""
    return -0.8 * math.sqrt(depth)


def high_value_leaf(value: float, children: int) -> float:
    """+50 for a node without a child that is worth at least 50."""
    return 50.0 if not children and value >= HIGH else 0.0


def bad_child(value: float, children: Sequence[float]) -> float:
    """+5 · (v − v_child) for a node worth at least 50 whose one child is worth 0 or less: another try."""
    alone = len(children) == 1 and value >= HIGH and children[0] <= LOW
    return 5.0 * (value - children[0]) if alone else 0.0


def good_child(children: Sequence[float]) -> float:
    """−5 for a node with a child worth at least 75: enough of this path."""
    return -5.0 if max(children, default=-math.inf) >= VERY_HIGH else 0.0


def good_parent(value: float, children: int, parent: float) -> float:
    """+(50 − v) for a node without a child that is worth 0 or less below a parent worth more than 50."""
    return HIGH - value if not children and value <= LOW and parent > HIGH else 0.0


def finished(best_end_below: float) -> float:
    """−50 where an end worth at least 100 was found below."""
    return -50.0 if best_end_below >= FINISHED else 0.0


def correction(expected: bool, children: int) -> float:
    """+50 / (1 + n²) for a node with n children that expects a correction."""
    return 50.0 / (1.0 + children**2) if expected else 0.0


def diversity(similarities: Sequence[float]) -> float:
    """+100 · (1 − the mean similarity to the other nodes that have grown); 100 where there is none."""
    return 100.0 * (1.0 - sum(similarities) / len(similarities)) if similarities else 100.0


def duplicate_children(duplicates: int) -> float:
    """−25 · n² for n children whose state another child had before."""
    return -25.0 * duplicates**2


def duplicate_actions(counts: Sequence[int]) -> float:
    """−50 · Σ (n − 1)² over the kinds of actions that its children took, n times each."""
    return -50.0 * sum((count - 1) ** 2 for count in counts)


def bonus(names: Sequence[str]) -> Callable[["Tree", int], float]:
    """The sum of the named terms, as a search asks for it: ``bonus(tree, node)``."""
    terms = [TERMS[name] for name in names]

    def added(tree: "Tree", node: int) -> float:
        seen = _Seen(tree, node)
        return sum(term(seen) for term in terms)

    return added


class _Seen:
    """What the terms look at in a tree."""

    def __init__(self, tree: "Tree", node: int) -> None:
        self.tree, self.node = tree, node
        self.children = [child for child in tree.children(node) if tree.visits(child)]

    def value(self, node: int) -> float:
        """w_e · Q; 0 without a visit, as in the released program."""
        if not self.tree.visits(node):
            return 0.0
        return float(self.tree.settings["selection"]["uct_bonus"]["exploitation"]) * self.tree.value(node)

    def values(self) -> list[float]:
        return [self.value(child) for child in self.children]

    def value_of_parent(self) -> float:
        parent = self.tree.parent(self.node)
        return self.value(parent) if parent >= 0 else -math.inf

    def best_end_below(self) -> float:
        best, front = -math.inf, list(self.children)
        while front:
            node = front.pop()
            if self.tree.has(node, ENDED):
                best = max(best, self.value(node))
            front += [child for child in self.tree.children(node) if self.tree.visits(child)]
        return best

    def expects_correction(self) -> bool:
        parent = self.tree.parent(self.node)
        return self.tree.has(self.node, INVALID) and not (parent >= 0 and self.tree.has(parent, INVALID))

    def similarities(self) -> list[float]:
        own = self._said(self.node)
        grown = [other for other in range(len(self.tree)) if other != self.node and self._has_grown(other)]
        return [1.0 - Levenshtein.normalized_distance(own, self._said(other)) for other in grown]

    def duplicates(self) -> int:
        return len(self.children) - len({self.tree.states[child] for child in self.children})

    def kinds(self) -> list[int]:
        return list(
            Counter(re.split(r"\W", self.tree.actions[c].strip(), maxsplit=1)[0] for c in self.children).values()
        )

    def _has_grown(self, node: int) -> bool:
        return self.tree.has(node, EXPANDED) and any(map(self.tree.visits, self.tree.children(node)))

    def _said(self, node: int) -> str:
        return "\n".join(self.tree.actions[step] for step in self.tree.path(node))


TERMS: Final[dict[str, Callable[[_Seen], float]]] = {
    "early_depth": lambda seen: early_depth(seen.tree.depth(seen.node)),
    "late_depth": lambda seen: late_depth(seen.tree.depth(seen.node)),
    "high_value_leaf": lambda seen: high_value_leaf(seen.value(seen.node), len(seen.children)),
    "bad_child": lambda seen: bad_child(seen.value(seen.node), seen.values()),
    "good_child": lambda seen: good_child(seen.values()),
    "good_parent": lambda seen: good_parent(seen.value(seen.node), len(seen.children), seen.value_of_parent()),
    "finished": lambda seen: finished(seen.best_end_below()),
    "correction": lambda seen: correction(seen.expects_correction(), len(seen.children)),
    "diversity": lambda seen: diversity(seen.similarities()),
    "duplicate_children": lambda seen: duplicate_children(seen.duplicates()),
    "duplicate_actions": lambda seen: duplicate_actions(seen.kinds()),
}
"""Name → term, for ``UctBonus.bonus_terms``."""
