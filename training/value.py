"""Training a critic on what trees found out: regression of node values, weighted by visits.

A row is a transcript, the mean return ``q`` that the search found from its end on, and the visits behind that mean. It
ends with what the agent saw; where the episode ended, with the agent's last action, since what is seen then would show
the outcome. With ``y = (q − low)/(high − low)`` and the critic's ``v = σ(w · h + b)``, the loss is

    L = Σ_i n_i ℓ(v_i, y_i) / Σ_i n_i,    n_i = min(visits_i, visit_cap),

where ℓ is the cross-entropy against the soft label y, or the squared error (as node means train the value functions of
TS-LLM, arXiv:2309.17179, and QLASS, arXiv:2502.02584). A mean over few visits is a noisy target, hence the weights;
the cap keeps a few nodes near the roots from drowning all others. A share of the *tasks*, not of the rows, is held
out: rows of one task say nearly the same.

Of zero-sum games of two players a row is what the player to move saw, and ``q`` is that player's (at an end, of who
acted last). What it does not do: bootstrap targets across trees, games with other returns.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from scipy.stats import rankdata

from ..agents.critics import ValueModel
from ..envs.play.task import task_key
from ..envs.play.transcript import Transcript, known, observed
from ..search import Tree
from ..search.trees.information_tree import InformationTree
from ..search.typed import check_fields
from .batches import padded
from .losses import value_loss
from .trainer import BatchLoss, OptimiserSettings, Progress, optimise


@dataclass(frozen=True, slots=True)
class ValueRow:
    """``q`` is the mean return from the end of ``transcript`` on; ``task`` names the task, for the hold-out."""

    transcript: Transcript
    q: float
    visits: int
    task: str = ""


@dataclass(frozen=True, slots=True)
class ValueSettings:
    """How :func:`train_value_model` trains."""

    loss: Literal["cross_entropy", "squared_error"] = "cross_entropy"
    """Which ℓ."""
    visit_cap: int = 32
    """Visits weigh up to this many."""
    holdout: float = 0.1
    """Share of the tasks that are kept out of training, for the figures of the report."""
    descent: OptimiserSettings = field(default_factory=lambda: OptimiserSettings(learning_rate=1e-3, epochs=3.0))
    """The optimiser's settings."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.visit_cap < 1 or not 0 <= self.holdout < 1:
            raise ValueError(
                f"visit_cap must be at least 1 and holdout in [0, 1), got {self.visit_cap!r} and {self.holdout!r}"
            )


@dataclass(frozen=True, slots=True)
class ValueReport:
    """``history`` of the training; figures on the held-out rows (NaN where there are none): ``explained_variance``
    1 − Var(q − v)/Var(q); ``auc``: the chance that of two rows, one with q above the mean and one not, the critic
    prefers the former (½ is guessing); ``error``: root mean squared. ``trained`` and ``held_out`` count rows."""

    history: list[dict[str, float]]
    explained_variance: float
    auc: float
    error: float
    trained: int
    held_out: int


def value_rows(tree: Tree, min_visits: int = 1) -> list[ValueRow]:
    """A row for each node of ``tree`` that was visited at least ``min_visits`` times and whose value is known (with
    γ = 0 the returns of actions say nothing of the states after them), without those where chance moves, which nobody
    sees; the tree must hold its observations, or a simulator to make them. Of information sets: of the player who moves
    there, as the search shows them to a critic (the root too where the tree has its simulator). Raises ValueError for
    several players, but two whose returns are opposite."""
    if tree.players > 1 and not (tree.players == 2 and tree.zero_sum):
        raise ValueError(
            "a critic knows the return of one player, or of two whose returns are opposite, and tree "
            f"{tree.index} has {tree.players}" + (" whose returns are not" if tree.players == 2 else "")
        )
    task = task_key(tree.task) if tree.task else f"tree {tree.index}"
    seen = [node for node in range(len(tree)) if tree.visits(node) >= max(1, min_visits)]
    if isinstance(tree, InformationTree):
        own = [node for node in seen if tree.is_own_view(node)]
        return [ValueRow(_set_transcript(tree, node), tree.value(node), tree.visits(node), task) for node in own]
    return [
        ValueRow(tree.transcript(node)[:-1], _of_reader(tree, node, tree.value(node)), tree.visits(node), task)
        if tree.is_terminal(node)
        else ValueRow(tree.transcript(node), _of_reader(tree, node, _state_value(tree, node)), tree.visits(node), task)
        for node in seen
        if not tree.is_chance(node) and (not node or tree.discount_into(node) > 0.0 or tree.is_terminal(node))
    ]


def _of_reader(tree: Tree, node: int, value: float) -> float:
    """A value of a node, which is that of who took the action into it, for the player whose transcript the node has."""
    return value if tree.players == 1 or tree.reader(node) == tree.chooser(node) else -value


def _set_transcript(tree: InformationTree, node: int) -> Transcript:
    if node or tree.simulator is None:
        return tree.transcript(node)
    return (observed(known(tree.simulator, tree.states[0], tree.player(0))),)


def _state_value(tree: Tree, node: int) -> float:
    """V(s) from Q = r + γ V(s); the root's value is V already."""
    if node == 0:
        return tree.value(0)
    return (tree.value(node) - float(tree.nodes["reward"][node])) / tree.discount_into(node)


def bounds(rows: Sequence[ValueRow], zero_sum: bool) -> tuple[float, float]:
    """``low`` and ``high`` of a critic for these rows: 0 and 1, or as far as the returns reach; in a zero-sum game both
    players' returns, so as far down as up."""
    least, most = min((row.q for row in rows), default=0.0), max((row.q for row in rows), default=0.0)
    if zero_sum:
        reach = max(-least, most) or 1.0
        return -reach, reach
    return min(0.0, least), max(1.0, most)


def split_by_task(rows: Sequence[ValueRow], share: float, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Numbers of the rows to train on and of those held out: whole tasks, about ``share`` of them, at least one where
    there are two tasks and ``share`` is above 0."""
    tasks = sorted({row.task for row in rows})
    count = min(len(tasks) - 1, math.ceil(share * len(tasks)))
    kept_out = {tasks[index] for index in rng.permutation(len(tasks))[:count]}
    held_out = [index for index, row in enumerate(rows) if row.task in kept_out]
    trained = [index for index, row in enumerate(rows) if row.task not in kept_out]
    return trained, held_out


def train_value_model(
    critic: ValueModel,
    rows: Sequence[ValueRow],
    settings: ValueSettings,
    seed: int,
    progress: Progress | None = None,
) -> ValueReport:
    """Trains ``critic`` in place; the same arguments give the same weights.

    Raises ``ValueError`` for no rows and for a ``q`` outside the critic's bounds, and
    :class:`~branchwise.training.trainer.TrainingStopped` where the loss is not finite.
    """
    if not rows:
        raise ValueError("no rows to train a critic on: the list is empty; lower min_visits or search more")
    for index, row in enumerate(rows):
        if not critic.low - 1e-6 <= row.q <= critic.high + 1e-6:
            raise ValueError(
                f"row {index} has q={row.q:g}, outside the critic's bounds [{critic.low:g}, {critic.high:g}]; make the "
                "critic with the smallest and largest return as low and high"
            )
    trained, held_out = split_by_task(rows, settings.holdout, np.random.default_rng(seed))
    ids = [critic.ids(rows[index].transcript) for index in trained]
    device = next(critic.parameters()).device
    targets = critic.targets(torch.tensor([rows[index].q for index in trained], device=device))
    visits = torch.tensor([float(min(rows[index].visits, settings.visit_cap)) for index in trained], device=device)

    def loss_of(batch: np.ndarray) -> BatchLoss:
        read = [ids[index] for index in batch]
        tokens, attention = padded(read, [[1] * len(row) for row in read], device)
        attention[:, 0] = True
        chosen = torch.from_numpy(batch).to(device)
        logits = critic(tokens, attention.long())
        return BatchLoss(value_loss(logits, targets[chosen], visits[chosen], settings.loss), len(batch))

    history = optimise(critic, [len(row) for row in ids], loss_of, settings.descent, seed, progress)
    values = critic.values([rows[index].transcript for index in held_out])
    q = np.array([rows[index].q for index in held_out])
    return ValueReport(
        history,
        explained_variance(values, q),
        area_under_curve(values, q > q.mean()) if len(q) else math.nan,
        float(np.sqrt(np.mean((values - q) ** 2))) if len(q) else math.nan,
        len(trained),
        len(held_out),
    )


def explained_variance(values: np.ndarray, q: np.ndarray) -> float:
    """1 − Var(q − v)/Var(q); NaN where q does not vary."""
    return float(1 - np.var(q - values) / np.var(q)) if len(q) and np.ptp(q) > 0 else math.nan


def area_under_curve(values: np.ndarray, good: np.ndarray) -> float:
    """P(v of a good row > v of another) + ½ P(equal), by ranks; NaN where all rows are of one kind."""
    positives = int(good.sum())
    negatives = len(good) - positives
    if not positives or not negatives:
        return math.nan
    ranks = rankdata(values)
    return float((ranks[good].sum() - positives * (positives + 1) / 2) / (positives * negatives))
