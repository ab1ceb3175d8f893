"""What a report shows of a run's insides: one goal before and after training, and one search tree with its pairs.

Chosen to tell something, not to be typical: the goal is one that the base fails on and the trained agent does not, the
tree one with pairs at several depths. What it does not do: draw (``report_pictures.py``) or judge.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ..envs.play.episode import Episode
from ..envs.play.task import task_key
from ..envs.play.transcript import Turn
from ..search import Tree
from ..search.extraction import PreferencePair
from ..search.records import load_episodes, load_pairs
from ..search.store import load_trees
from .evaluation import PairedDifference, paired_difference
from .readable import BASE, agent_name, kind_of
from .report_pictures import PairMark, named, tree_picture
from .run_folder import Round, Run
from .stages import validation_score

PAIRS_SHOWN, NODES_SHOWN, LINES_SHOWN = 6, 40, 16


def sample_episodes(run: Run) -> dict[str, Any] | None:
    """One goal on which the base fails and the trained agent that was best on validation goals succeeds."""
    trained = [row for row in run.results if kind_of(row) == "trained"]
    before_file = run.path / "evaluation" / BASE / "episodes.jsonl"
    last = {made.recipe: made.figures for made in run.rounds}
    for row in sorted(trained, key=lambda row: -validation_score(last.get(row["agent"], {}))):
        after_file = run.path / "evaluation" / row["agent"] / "episodes.jsonl"
        if not (before_file.is_file() and after_file.is_file()):
            continue
        by_task = {task_key(episode.task): episode for episode in load_episodes(after_file)}
        both = [(b, by_task[task_key(b.task)]) for b in load_episodes(before_file) if task_key(b.task) in by_task]
        if both:
            return _compared(row["agent"], both)
    return None


def _compared(agent: str, both: Sequence[tuple[Episode, Episode]]) -> dict[str, Any]:
    telling = [pair for pair in both if not pair[0].success and pair[1].success]
    chosen = min(telling, key=_length_of_telling) if telling else None
    difference: PairedDifference = paired_difference([a.success for _, a in both], [b.success for b, _ in both])
    return {
        "agent": agent_name(agent),
        "base": agent_name(BASE),
        "goals": len(both),
        "won": len(telling),
        "lost": sum(before.success and not after.success for before, after in both),
        "difference": difference,
        "shown": None
        if chosen is None
        else {
            "task": ", ".join(f"{key} {value}" for key, value in _flat(chosen[0].task)),
            "columns": [_column(agent_name(BASE), chosen[0]), _column(agent_name(agent), chosen[1])],
        },
    }


def _length_of_telling(pair: tuple[Episode, Episode]) -> tuple[bool, int, int]:
    """Short, but with something to see: both took steps of their own, and the first ended by its own choice."""
    before, after = pair
    return (
        before.truncated or before.steps < 3 or after.steps < 3,
        before.steps + after.steps,
        _characters(before, after),
    )


def _characters(*episodes: Episode) -> int:
    return sum(len(turn.text) for episode in episodes for turn in episode.transcript)


def _flat(task: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for key, value in task.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        elif key != "env_id":
            yield key, value


def _column(name: str, episode: Episode) -> dict[str, Any]:
    first = set(_lines(episode.transcript[0].text)) if episode.transcript else set()
    return {
        "name": name,
        "success": episode.success,
        "reward": episode.total_reward,
        "steps": episode.steps,
        "truncated": episode.truncated,
        "turns": [
            _turn(turn, first if place else set(), episode.transcript[place - 1].text if place else "")
            for place, turn in enumerate(episode.transcript)
        ],
    }


def _turn(turn: Turn, known: set[str], before: str) -> dict[str, Any]:
    lines = [line for line in _lines(turn.text) if turn.is_agent or line not in known]
    return {
        "agent": turn.is_agent,
        "about": named(turn.text, before) if turn.is_agent else "",
        "text": "\n".join(lines[:LINES_SHOWN]),
        "more": "\n".join(lines[LINES_SHOWN:]),
        "hidden": max(0, len(lines) - LINES_SHOWN),
    }


def _lines(text: str) -> list[str]:
    """Lines as people read them; WebShop's text mode separates them by `` [SEP] ``."""
    return text.replace(" [SEP] ", "\n").split("\n")


def sample_tree(run: Run) -> dict[str, Any] | None:
    """A tree of a round whose pairs compare siblings, from the last such round that kept its files."""
    for r in sorted(run.rounds, key=lambda r: (r.recipe == "step_dpo", r.number), reverse=True):
        pairs_file = r.folder / "pairs.jsonl"
        trees_file = next(
            (
                path
                for around in (r.folder.parent, run.path / f"round_{r.number}")
                for collection in ("trees", "mixed")
                if (path := around / collection / "trees.parquet").is_file()
            ),
            None,
        )
        if trees_file is None or not pairs_file.is_file():
            continue
        by_tree: dict[int, list[PreferencePair]] = {}
        for pair in load_pairs(pairs_file):
            if pair.rejected and pair.kind not in ("trajectory", "rollout"):
                by_tree.setdefault(pair.tree, []).append(pair)
        trees = [tree for tree in load_trees(trees_file) if tree.index in by_tree]
        if trees:
            tree = max(trees, key=lambda tree: _interest(tree, by_tree[tree.index]))
            return _tree_view(r, tree, by_tree[tree.index])
    return None


def _interest(tree: Tree, pairs: Sequence[PreferencePair]) -> tuple[int, int, int, int]:
    """A good example has pairs at several depths, ends in success somewhere, and fits on the page."""
    depths = len({pair.depth for pair in pairs})
    visited = int((tree.nodes["visits"] > 0).sum())
    return min(depths, 4), int(any(pair.chosen_q >= 0.999 for pair in pairs)), -abs(visited - NODES_SHOWN), -tree.index


def _tree_view(r: Round, tree: Tree, pairs: Sequence[PreferencePair]) -> dict[str, Any]:
    shown: list[PreferencePair] = []
    marks: list[PairMark] = []
    for pair in _spread(pairs):
        chosen, rejected = (_child(tree, pair.node, turns) for turns in (pair.chosen, pair.rejected))
        if chosen is not None and rejected is not None and len(marks) < PAIRS_SHOWN:
            marks.append(PairMark(len(marks) + 1, chosen, rejected))
            shown.append(pair)
    last = [turn.text for turn in tree.transcript(0) if not turn.is_agent]
    title = f"Search tree with {len(tree)} nodes; {len(shown)} of its {len(pairs)} pairs are marked"
    return {
        "name": f"{agent_name(r.recipe)}, round {r.number}",
        "task": ", ".join(f"{key} {value}" for key, value in _flat(tree.task)),
        "start": "\n".join(_lines(last[-1])) if last else "",
        "svg": Markup(tree_picture(tree, marks, title, NODES_SHOWN)),
        "nodes": len(tree),
        "visited": int((tree.nodes["visits"] > 0).sum()),
        "simulations": tree.visits(0),
        "pairs": len(pairs),
        "shown": [
            {
                "number": mark.number,
                "depth": pair.depth,
                "after": next((turn.text for turn in reversed(pair.prompt) if turn.is_agent), "the start"),
                "chosen": pair.chosen[0].text,
                "chosen_is": named(pair.chosen[0].text, pair.prompt[-1].text if pair.prompt else ""),
                "chosen_q": pair.chosen_q,
                "chosen_visits": pair.chosen_visits,
                "rejected": pair.rejected[0].text,
                "rejected_is": named(pair.rejected[0].text, pair.prompt[-1].text if pair.prompt else ""),
                "rejected_q": pair.rejected_q,
                "rejected_visits": pair.rejected_visits,
            }
            for mark, pair in zip(marks, shown, strict=True)
        ],
    }


def _spread(pairs: Sequence[PreferencePair]) -> list[PreferencePair]:
    """The pairs in the order in which to show them: first one a node, each backed by many visits; then the others."""
    ranked = sorted(pairs, key=lambda p: (-min(p.chosen_visits, p.rejected_visits), -(p.chosen_q - p.rejected_q)))
    first: dict[int, PreferencePair] = {}
    for pair in ranked:
        first.setdefault(pair.node, pair)
    leading = sorted(first.values(), key=lambda p: (p.depth, p.node))[:PAIRS_SHOWN]
    return [*leading, *(pair for pair in ranked if all(pair is not other for other in leading))]


def _child(tree: Tree, node: int, turns: Sequence[Turn]) -> int | None:
    if not 0 <= node < len(tree):
        return None
    return next((child for child in tree.children(node) if turns and tree.actions[child] == turns[0].text), None)
