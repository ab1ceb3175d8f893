"""Progressive widening where any text may be an answer (Coulom 2007; Chaslot et al. 2008): a node with N visits is to
have ⌈C · N^p⌉ open children; once those that the policy proposed are fewer, it is asked for as many again.

What says the same as a child that is there is merged with it. Priors are shares of all that was proposed: with n
proposals before and m new ones, a child's prior P becomes (n · P + times proposed again) / (n + m), and a new child has
(times proposed) / (n + m). New children stand behind the old ones, the likelier first. An answer without anything new
is not asked for again before ⌈C · N^p⌉ has grown. A node that had been closed, since nothing was left to simulate below
it, is open again, and so are those above it that were closed for that.

Asking stands in :class:`Widening`, one call of the policy for all nodes of a batch, between two batches, when no
simulation is under way: children stand side by side, so the nodes behind them move (:func:`insert_children`).
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from .calls import failure
from .expansion import Expansion
from .rules.backup import UNPROVEN
from .selected import Selected, Words
from .settings import SearchSettings
from .trees.ascent import _settle
from .trees.children import Children
from .trees.descent import _visits_of_state
from .trees.nodes import SOLVED
from .trees.tree import Tree


class Widening:
    """Asks the policy again for the nodes of all trees that have too few open children."""

    def __init__(
        self, expansion: Expansion, settings: SearchSettings, record: np.ndarray, trees: Sequence[Tree]
    ) -> None:
        self.expansion = expansion
        self.settings = settings
        self.record = record
        self.touched: dict[int, tuple[Tree, set[int]]] = {id(tree): (tree, set(tree.asked)) for tree in trees}

    def touch(self, tree: Tree, path: Iterable[int]) -> None:
        """A simulation has passed these nodes."""
        self.touched[id(tree)][1].update(tree.source(node) for node in path)

    def widen(self, trees: Sequence[Tree]) -> int:
        """Ask for more below what was touched in these trees since the last call, until no node is short or asking is
        in vain; how often that failed. So no node of a tree is short between two batches, and a tree that was stored
        goes on as if it had not been."""
        failed = 0
        while leaves := [leaf for tree in trees for leaf in self._short(tree)]:
            self.expansion.propose_more(leaves)
            for leaf in leaves:
                tree = leaf.tree
                if leaf.error or not self._insert(leaf):
                    tree.asked[leaf.node][1] = self._wanted(tree, leaf.node)
                else:
                    self.touched[id(tree)][1].update(tree.asked)  # nodes have moved, and this one may still be short
                if leaf.error:
                    failed += 1
                    tree.count_failure(leaf.error)
        return failed

    def _short(self, tree: Tree) -> list[Selected]:
        """The touched nodes that are short, from behind: when one gets children, those before it do not move. Under
        transpositions a simulation may close a child of nodes that it did not pass, so all are looked at."""
        nodes = self.touched[id(tree)][1]
        if self.settings.transpositions:
            nodes.update(tree.asked)
        short = [node for node in sorted(nodes & tree.asked.keys(), reverse=True) if self.is_short(tree, node)]
        nodes.clear()
        return [
            Selected(tree, node, tree.depth(node), 0, None, tree.states[node], transcript=tree.transcript(node))
            for node in short
        ]

    def is_short(self, tree: Tree, node: int) -> bool:
        """Whether a node has fewer open children than it is to have, and asking has not just been in vain."""
        if tree.proof(node):  # where only some actions were proposed nothing but a win of the mover is proven
            return False
        wanted = self._wanted(tree, node)
        return wanted > tree.asked[node][1] and sum(not tree.is_solved(c) for c in tree.children(node)) < wanted

    def _wanted(self, tree: Tree, node: int) -> int:
        visits = max(_visits_of_state(tree.nodes, node, node), 1.0)
        return math.ceil(self.settings.widening * visits**self.settings.widening_power)

    def _insert(self, leaf: Selected) -> bool:
        """Merge what was proposed into the node; whether it got a child."""
        tree, node, words = leaf.tree, leaf.node, leaf.said
        before, total = tree.asked[node][0], tree.asked[node][0] + words.proposed
        children = list(tree.children(node))
        try:
            places = [self._place(tree, children, text) for text in words.actions]
        except Exception as error:
            leaf.error = failure("same", error)
            return False
        tree.asked[node][0] = total
        priors = np.array([tree.prior(child) for child in children]) * (before / total)
        fresh: list[int] = []
        for i, (same, share) in enumerate(zip(places, np.exp(words.logps), strict=True)):
            if same < 0:
                fresh.append(i)
            else:
                priors[same] += share * words.proposed / total
                tree.counters["merged_proposals"] += 1  # with those that said it in this answer too
        tree.nodes["prior"][children] = priors
        if not fresh:
            return False
        fresh.sort(key=lambda i: -float(words.logps[i]))
        leaf.words = words.only(fresh)
        kept = self._add(leaf, leaf.words, total)
        lost = float(np.delete(np.exp(leaf.words.logps), kept).sum()) * words.proposed / total
        if 0.0 < lost < 1.0:  # the others share what those that were left out would have had, as at the first answer
            tree.nodes["prior"][tree.children(node)] /= 1.0 - lost
        return bool(kept)

    def _place(self, tree: Tree, children: Sequence[int], text: str) -> int:
        """Which of the children says the same as ``text``; −1 where none does."""
        alike = (k for k, child in enumerate(children) if self.expansion.says_same(tree.actions[child], text))
        return next(alike, -1)

    def _add(self, leaf: Selected, words: Words, total: int) -> list[int]:
        """Give the node what was proposed for the first time; which of it is kept."""
        tree, node, expansion = leaf.tree, leaf.node, self.expansion
        expansion.ask_critic([leaf])
        found = None if leaf.error else expansion.stepped(leaf, words)
        if found is None or not found[0]:
            return []
        kept, children = list(found[0]), found[1]
        words = words.only(kept)
        children.priors, children.logps = np.exp(words.logps) * words.proposed / total, words.logged
        first = insert_children(tree, node, children)
        added = range(first, first + len(kept))
        if words.opinions is not None:
            tree.nodes["hint"][added] = words.opinions
        elif expansion.bonus is not None:
            leaf.error = expansion.ask_bonus(tree, added)
        expansion.link_known(tree, first, children, leaf.depth)
        expansion.log_proposals(tree, words, children, first)
        reopen(tree, node, self.record)
        return kept


def insert_children(tree: Tree, node: int, added: Children) -> int:
    """Give an expanded node further children behind those that it has; returns the index of the first. All nodes behind
    them move up. No simulation may be under way."""
    children, count = tree.children(node), len(added)
    first = children[0] if children else tree.size
    place = first + len(children)
    _open_gap(tree, place, count)
    size = tree.size
    tree._head["size"] = tree.size = place
    behind = [(beside, beside[place:]) for beside in tree.beside()]
    for beside, _ in behind:
        del beside[place:]
    tree.add_children(node, added)
    for beside, rest in behind:
        beside.extend(rest)
    tree._head["size"] = tree.size = size
    tree.nodes["first_child"][node], tree.nodes["children"][node] = first, place + count - first
    return place


def reopen(tree: Tree, node: int, record: np.ndarray) -> None:
    """A node has something to simulate again: so have those above it, on every way to it, that were closed for want of
    that."""
    nodes, waiting = tree._nodes, [node]
    while waiting:
        step = waiting.pop()
        if not int(nodes[step]["flags"]) & SOLVED:
            continue
        nodes[step]["flags"] &= ~SOLVED
        nodes[step]["proof"] = UNPROVEN
        if step == node or not _settle(nodes, tree._values, record, step):
            edges = [step, *tree.links_to(step)]
            waiting += [tree.source(parent) for edge in edges if (parent := tree.parent(edge)) >= 0]


def _open_gap(tree: Tree, place: int, count: int) -> None:
    """Move the nodes from ``place`` on up by ``count``; the words beside them stay for the caller to move."""
    tree.reserve(count)
    size = tree.size
    for array in (tree._nodes, tree._values):
        if len(array) >= size + count:
            array[place + count : size + count] = array[place:size].copy()
    for name in ("parent", "first_child"):
        column = tree._nodes[name][: size + count]
        column[column >= place] += count
    tree._agent_turns = {_moved(old, place, count): turn for old, turn in tree._agent_turns.items()}
    tree.asked = {_moved(old, place, count): known for old, known in tree.asked.items()}
    tree.known = {key: _moved(old, place, count) for key, old in tree.known.items()}
    tree._head["size"] = tree.size = size + count


def _moved(node: int, place: int, count: int) -> int:
    return node + count if node >= place else node
