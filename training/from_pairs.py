"""A model trained on pairs of a file, with what it takes beside: a frozen copy, each step once.

``preference.py`` and ``supervised.py`` are the methods; here is what one who has a model and pairs, and no loop, would
write around them.
"""

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..agents.forward import positions_of
from ..agents.language_model import LanguageModel
from ..search.extraction import PreferencePair
from .preference import check_logged, train_preference
from .preference_loss import PreferenceSettings
from .rows import RowCounts, preference_rows, sft_rows, step_key, steps_after
from .supervised import Progress, SupervisedSettings, train_supervised

_SAMPLE = 64  # pairs whose logged log-probabilities are compared


def train_step_dpo(
    policy: LanguageModel,
    pairs: Sequence[PreferencePair],
    settings: PreferenceSettings,
    *,
    logged: bool | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[RowCounts, dict[str, float]]:
    """Step-DPO of ``policy`` in place: what became of the pairs, and the last metrics. The reference is what the pairs
    logged, or, with ``logged=False``, the model as it starts, whose log-probabilities are measured before it changes;
    by default the former where every pair has it. Raises as ``train_preference``, and ``ValueError`` for anchors alone,
    which hold no preference."""
    if pairs and not any(pair.rejected for pair in pairs):
        raise ValueError(
            f"none of the {len(pairs)} rows has a rejected side: they are anchors, and step-DPO needs pairs. Train "
            "on them with --method sft (in Python train_sft), or give the file of pairs, whose anchors are read with it"
        )
    logged = has_logged(pairs) if logged is None else logged
    frozen = "logged" if logged else copy.deepcopy(policy.model)
    report = train_preference(
        policy.model,
        policy.tokenizer,
        pairs,
        settings,
        reference=frozen,
        seed=seed,
        history=policy.history,
        max_tokens=policy.max_prompt_tokens,
        progress=progress,
    )
    return report.rows, report.history[-1] if report.history else {}


def train_sft(
    policy: LanguageModel,
    pairs: Sequence[PreferencePair],
    settings: SupervisedSettings,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[RowCounts, dict[str, float]]:
    """Supervised training of ``policy`` in place on the chosen sides: what became of them, and the last metrics. Raises
    as ``train_supervised``."""
    # A step that was the better one of several contrasts is learned once.
    chosen = [step for pair in pairs for step in steps_after(pair.prompt, pair.chosen)]
    steps = {step_key(step, policy.history): step for step in chosen}
    rows, counts = sft_rows(
        list(steps.values()),
        policy.tokenizer,
        policy.history,
        policy.max_prompt_tokens,
        positions=positions_of(policy.model),
    )
    counts.dropped["repeated steps"] += len(chosen) - len(steps)
    if not rows:
        raise ValueError(f"none of {len(steps)} steps gave a row to train on: {dict(+counts.dropped)}")
    history = train_supervised(policy.model, rows, settings, seed, progress)
    return counts, history[-1]


def has_logged(pairs: Sequence[PreferencePair]) -> bool:
    """Whether the policy that searched logged both sides of every pair; anchors need no reference."""
    return all(
        pair.ref_chosen_logp is not None and pair.ref_rejected_logp is not None for pair in pairs if pair.rejected
    )


def logged_fault(policy: LanguageModel, pairs: Sequence[PreferencePair]) -> str:
    """Where the logged log-probabilities are not this model's, by how much, else "". Right where another policy wrote
    the actions, wrong where the history differs. A sample of the pairs is looked at."""
    some = pairs[:: max(1, len(pairs) // _SAMPLE)]
    rows, _ = preference_rows(
        some, policy.tokenizer, policy.history, policy.max_prompt_tokens, positions_of(policy.model)
    )
    try:
        check_logged(policy.model, rows)
    except ValueError as error:
        return str(error)
    return ""


def check_writable(folder: str | Path) -> None:
    """Raises ``ValueError`` where no model can be written as ``folder``: found out before hours of training, by making
    and removing a folder beside it."""
    place = Path(folder).absolute().parent
    while not place.exists():
        place = place.parent
    try:
        Path(tempfile.mkdtemp(prefix=".branchwise.", dir=place)).rmdir()
    except OSError as error:
        raise ValueError(f"{folder} cannot be written: {error.strerror} in {place}; name another --out") from error
