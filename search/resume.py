"""A search whose trees stand in a file: saved while it grows and when it is stopped, and taken up again from there."""

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..envs.play.policy import Policy
from ..envs.simulator import Simulator
from .engine import Progress, Root, extend, search
from .evaluation import Evaluator
from .expansion import Critic
from .files import DISK_FAULTS
from .locks import only_writer
from .rules.options import RULES, rule_as_json
from .rules.selection import rule_in
from .settings import SearchSettings
from .store import as_read, load_trees, save_trees
from .trees.tree import Tree

SECONDS_BETWEEN_SAVES: Final = 300.0


def search_into(
    path: str | Path,
    simulator: Simulator[Any],
    roots: Sequence[Root],
    policy: Policy | None,
    evaluator: Evaluator,
    settings: SearchSettings,
    rng: np.random.Generator,
    progress: Progress | None = None,
    *,
    critic: Critic | None = None,
) -> list[Tree]:
    """``engine.search`` with its trees in the parquet file ``path``: written every five minutes, at the end, and on
    Ctrl-C or SIGTERM. Where the file stands already its trees are grown on, to ``settings.simulations`` each, as if
    they had not been stopped (as long as models and evaluators keep no state of their own). While this is at work no
    other process can write to the file.

    A save on the way that finds the disk full is a warning, and the search continues; at the end it is an OSError.

    Each root's ``task`` needs a ``seed``, by which states are made again. Raises ValueError where the file holds trees
    of other tasks, or grown by other settings or with another generator.
    """
    with only_writer(path):
        saving = _Saving(path, progress)
        if not Path(path).exists():
            trees = search(simulator, roots, policy, evaluator, settings, rng, saving, critic=critic, autosave=path)
        else:
            try:
                trees = load_trees(path, simulator)
            except ValueError:
                _check(path, load_trees(path), roots, settings)  # other tasks say more than a state that is another
                raise
            _check(path, trees, roots, settings)
            _check_draws(path, trees, rng)
            trees = extend(simulator, trees, policy, evaluator, settings, saving, critic=critic, autosave=path)
        save_trees(path, trees)
        return trees


class _Saving:
    """Hands progress on, and writes the trees now and then; the engine gives it the trees."""

    def __init__(self, path: str | Path, progress: Progress | None) -> None:
        self.path = path
        self.progress = progress
        self.last = time.monotonic()
        self._trees: Sequence[Tree] = ()

    @property
    def trees(self) -> Sequence[Tree]:
        return self._trees

    @trees.setter
    def trees(self, trees: Sequence[Tree]) -> None:
        self._trees = trees
        if hasattr(self.progress, "trees"):
            self.progress.trees = trees  # type: ignore[union-attr]

    def __call__(self, simulations: int, nodes: int, model_calls: int) -> None:
        if self.progress is not None:
            self.progress(simulations, nodes, model_calls)
        if time.monotonic() - self.last >= SECONDS_BETWEEN_SAVES:
            self.last = time.monotonic()
            try:
                save_trees(self.path, self._trees)
            except OSError as error:
                if error.errno not in DISK_FAULTS:
                    raise
                warnings.warn(f"{error.strerror}; the trees are kept in memory and saved later", stacklevel=2)


def _check(path: str | Path, trees: Sequence[Tree], roots: Sequence[Root], settings: SearchSettings) -> None:
    kept, wanted = [tree.task for tree in trees], [as_read(root.task) for root in roots]
    if kept != wanted:
        few = min(len(kept), len(wanted))
        if kept[:few] == wanted[:few]:
            raise ValueError(
                f"{path} exists, and has the trees of {len(kept)} goals where {len(wanted)} are asked for; a search"
                f" goes on with as many as it began with (--goals {len(kept)}): name another file for others"
            )
        raise ValueError(
            f"{path} exists, and its trees ({len(kept)}) are of other tasks (environment, goals, split or options) than"
            f" the {len(wanted)} asked for; name another file, or remove it"
        )
    asked, usual = settings.as_json(), SearchSettings().as_json()
    for tree in trees:
        grown = usual | tree.settings  # a file of an earlier version knows fewer options
        name, options = rule_in(grown)
        if name in RULES:
            grown["selection"] = {name: {**rule_as_json(RULES[name]())[name], **options}}
        other = {name: grown[name] for name in asked if grown[name] != asked[name]}
        for limit in ("simulations", "seconds", "max_nodes", "max_bytes", "max_model_calls"):
            other.pop(limit, None)
        if other:
            found = ", ".join(f"{name}={value!r}" for name, value in other.items())
            raise ValueError(f"{path} exists, and was grown with {found}; name another file, or remove it")


def _check_draws(path: str | Path, trees: Sequence[Tree], rng: np.random.Generator) -> None:
    """Each tree draws from a child of the search's generator, and the increment of a PCG64 never changes in drawing:
    it tells one seed from another. Other generators keep nothing of theirs."""
    for tree, fresh in zip(trees, rng.spawn(len(trees)), strict=True):
        kept, asked = (maker.bit_generator.state for maker in (tree.rng, fresh))
        if kept["bit_generator"] == asked["bit_generator"] == "PCG64" and kept["state"]["inc"] != asked["state"]["inc"]:
            raise ValueError(
                f"{path} exists, and was grown with another seed; resume with that one, name another file, or remove it"
            )
