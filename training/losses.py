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

**Unpaired** (KTO, arXiv:2402.01306, Eq. 7, as TRL's ``KTOTrainer``). With r = log π − log π_ref of an answer, or over
all agent tokens of a trajectory (M-KTO, arXiv:2409.02392), and a baseline z0 = max(0, mean r of answers paired with
other prompts), which has no gradient:

    desirable     λ_D (1 − σ(β(r − z0)))
    undesirable   λ_U (1 − σ(β(z0 − r)))

**Clipped policy gradient** (PPO, arXiv:1707.06347, Eq. 7). With r = log π − log π_old of an action or token, ρ = exp r,
its advantage A and the bounds ε_low, ε_high:

    surrogate     − min(ρA, clip(ρ, 1 − ε_low, 1 + ε_high) A)
    k3            exp(−r) − 1 + r                                estimates KL(π‖π_old) where actions are drawn from π

**Soft Bellman** (OREO, arXiv:2412.16145). With actions t of a trajectory (tokens, or whole agent turns), the
return R_t from there on and ρ_t = log π(a_t|s_t) − log π_ref(a_t|s_t):

    value         mean_t (V(s_t) − R_t + β Σ_{i≥t} sg ρ_i)²
    policy        mean_t (sg V(s_t) − R_t + βρ_t + β Σ_{i>t} sg ρ_i)²

where sg stops the gradient. Both are 0 on every trajectory exactly where V is the soft value and π the soft optimum,
V(s) = β log E_ref exp(Q/β), π ∝ π_ref exp(Q/β).

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


def kto_baseline(mismatched_ratio: Tensor) -> Tensor:
    """z0 of the table above, a scalar without gradient; ``mismatched_ratio`` float32 ``[n]``: log π − log π_ref of
    answers after prompts that are not theirs."""
    return mismatched_ratio.detach().mean().clamp_min(0.0)


def kto_losses(
    ratio: Tensor,
    desirable: Tensor,
    baseline: Tensor,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """KTO's losses, float32 ``[n]``: ``ratio`` float32 ``[n]`` is r, ``desirable`` bool ``[n]``, ``baseline`` z0; the
    weights are λ_D and λ_U."""
    good = desirable_weight * (1 - torch.sigmoid(beta * (ratio - baseline)))
    bad = undesirable_weight * (1 - torch.sigmoid(beta * (baseline - ratio)))
    return torch.where(desirable, good, bad)


def clipped_losses(log_ratio: Tensor, advantage: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """The surrogate of the table above, float32 ``[n]``; ``log_ratio`` and ``advantage`` float32 ``[n]``. At ρ = 1 its
    gradient for ``log_ratio`` is −A; beyond the bound on the side that A favours it is exactly 0."""
    ratio = log_ratio.exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip_low, 1 + clip_high) * advantage)


def k3(log_ratio: Tensor) -> Tensor:
    """Schulman's estimator k3 of the table above, float32 ``[n]``: at least 0, and 0 exactly where the two policies
    agree."""
    return torch.expm1(-log_ratio) + log_ratio


def trajectory_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over trajectories of the mean over their actions: ``values`` and ``mask`` float32 ``[N, T]``."""
    return ((values * mask).sum(1) / mask.sum(1).clamp_min(1.0)).mean()


def sums_from(values: Tensor) -> Tensor:
    """Σ_{i≥t} of ``values [N, T]`` for each t: ``[N, T]``."""
    return values.flip(1).cumsum(1).flip(1)


def oreo_value_loss(values: Tensor, ratios: Tensor, returns: Tensor, mask: Tensor, beta: float) -> Tensor:
    """OREO's value loss, a scalar whose gradient reaches ``values`` alone. All float32 ``[N, T]``: V(s_t), ρ_t (0
    outside ``mask``), R_t, and 1 where there is an action."""
    targets = returns - beta * sums_from(ratios.detach())
    return trajectory_mean((values - targets) ** 2, mask)


def oreo_policy_loss(values: Tensor, ratios: Tensor, returns: Tensor, mask: Tensor, beta: float) -> Tensor:
    """OREO's policy loss, a scalar whose gradient reaches each ``ratios[t]`` through its own term alone. Arguments as
    in :func:`oreo_value_loss`."""
    later = sums_from(ratios.detach()) - ratios.detach()
    return trajectory_mean((values.detach() - returns + beta * (ratios + later)) ** 2, mask)


def full_kl(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """KL(π‖π_ref) over the vocabulary at each place: ``[n, vocabulary]`` both, float32 ``[n]``."""
    logps, reference = (torch.log_softmax(one.float(), -1) for one in (logits, reference_logits))
    return (logps.exp() * (logps - reference)).sum(-1)
