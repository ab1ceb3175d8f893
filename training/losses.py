"""The losses, as pure functions of log-probabilities and values; a closed form each, and no model.

**Supervised.** The weighted mean negative log-likelihood over trained tokens, Σ_t w_t (−log π_t) / Σ_t w_t.

**Preference.** With ``h = [log π(chosen) − log π_ref(chosen)] − [log π(rejected) − log π_ref(rejected)]``, each a sum
over a side's learned tokens (``rows.py``: a trajectory's segments sum up, observation tokens count for nothing),
margin ``m`` and label smoothing ``ε`` of the pair:

    sigmoid       − (1−ε) log σ(βh − m) − ε log σ(−(βh − m))     DPO; cDPO for ε > 0; ODPO, arXiv:2402.10571, for m > 0
    sigmoid_norm  the same on h whose sides are divided by their token counts
    robust        [− (1−ε) log σ(βh) + ε log σ(−βh)] / (1 − 2ε)  rDPO, arXiv:2403.00409
    ipo           (h̄ − 1/(2β))²                                  arXiv:2310.12036; in h̄, as in TRL, sides are divided
                                                                 by their token counts
    hinge         max(0, 1 − βh)                                 SLiC, arXiv:2305.10425

**Value.** Cross-entropy against a soft label, or squared error, weighted by visits.

What this file does not do: batch, read models, or find references (``batches.py`` and the learners).
"""

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

Loss = Literal["sigmoid", "sigmoid_norm", "robust", "ipo", "hinge"]


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Σ w v / Σ w, a scalar; 0 where every weight is 0."""
    return (weights * values).sum() / weights.sum().clamp_min(1e-12)


def pair_losses(
    loss: str,
    beta: float,
    chosen_ratio: Tensor,
    rejected_ratio: Tensor,
    chosen_tokens: Tensor,
    rejected_tokens: Tensor,
    margin: Tensor,
    epsilon: Tensor,
) -> Tensor:
    """The losses of the table above, float32 ``[pairs]``. Ratios are log π − log π_ref of a side; tokens are its
    learned tokens.
    """
    if loss in ("ipo", "sigmoid_norm"):
        chosen_ratio = chosen_ratio / chosen_tokens
        rejected_ratio = rejected_ratio / rejected_tokens
    h = chosen_ratio - rejected_ratio
    if loss == "ipo":
        return (h - 1 / (2 * beta)) ** 2
    if loss == "hinge":
        return torch.relu(1 - beta * h)
    logit = beta * h - margin
    right, wrong = F.logsigmoid(logit), F.logsigmoid(-logit)
    if loss == "robust":
        return (-(1 - epsilon) * right + epsilon * wrong) / (1 - 2 * epsilon)
    return -(1 - epsilon) * right - epsilon * wrong


def value_loss(logits: Tensor, targets: Tensor, visits: Tensor, kind: str) -> Tensor:
    """The mean over values σ(``logits``), weighted by ``visits``, of the cross-entropy against ``targets`` in [0, 1]
    (``kind="cross_entropy"``) or of the squared error; all arguments float32 ``[n]``."""
    if kind == "cross_entropy":
        losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    else:
        losses = (torch.sigmoid(logits) - targets) ** 2
    return (visits * losses).sum() / visits.sum()
