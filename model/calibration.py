"""Support calibration: base classes that are claimed in the supports' own object are not believed in the query.

The ensemble takes a base class that the base learner claims for proof that the novel object is not there. But a base
learner that never saw a horse claims cow, and does so in the support, whose mask says that it is wrong. With

    a_c = sum_k w_k sum_i m_ki p_c(k, i) / sum_i m_ki

the share of base class c in what the base learner says inside the supports' objects, its claims in the query count
``trust_c`` times: b = sum_c trust_c p_c is the base map. Cost: the base learner at the supports' object positions
alone, and at most one parameter. Not part of the published method.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.base_learner import BaseLearner
from model.ops import in_float32, resize

TOLERATED = 0.01  # share of the object above which a class is left out, or at which it counts half
HALF = 0.5  # a resized mask value from which a position belongs to the object


class SupportCalibration(nn.Module):
    """How far each base class is believed.

    Args:
        kind: ``threshold``, 1 up to a share of ``TOLERATED`` and 0 above; ``share``, t / (t + a_c) with t that share;
            ``learnt``, the same with t learnt (its logarithm is the parameter).
    """

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind
        if kind == "learnt":
            self.log_tolerated = nn.Parameter(torch.tensor(TOLERATED).log())

    def forward(self, share_bn: Tensor) -> Tensor:
        """Return the trust in each base class, (B, N) in 0..1, from its share of the supports' objects."""
        if self.kind == "threshold":
            return (share_bn <= TOLERATED).to(share_bn.dtype)
        tolerated = self.log_tolerated.exp() if self.kind == "learnt" else TOLERATED
        return tolerated / (tolerated + share_bn)


@torch.no_grad()
def claimed_shares(
    base_learner: BaseLearner, support_f4: Tensor, mask_bk1hw: Tensor, weight_bk: Tensor, unknown_b: Tensor | None
) -> Tensor:
    """Return a, the share of each base class in what is claimed inside the supports' objects, (B, N) float32.

    A support whose object has no position claims nothing.

    Args:
        base_learner: frozen.
        support_f4: last stage of the B * K supports, (B * K, C, h, w).
        mask_bk1hw: the supports' masks, of any size.
        weight_bk: of the shots.
        unknown_b: channels to be treated as unknown to the base learner; see :func:`claims`.
    """
    batch, shots = mask_bk1hw.shape[:2]
    inside = resize(mask_bk1hw.flatten(0, 1), support_f4.shape[-2:])[:, 0] >= HALF  # (B * K, h, w)
    hidden = base_learner.hidden_at(support_f4, inside)  # (n, 512), one image after the other
    logits = base_learner.logits(hidden[:, :, None, None])[:, :, 0, 0]  # (n, N + 1)
    counts = inside.flatten(1).sum(1)
    image = torch.arange(batch * shots, device=logits.device).repeat_interleave(counts)
    unknown = None if unknown_b is None else unknown_b.repeat_interleave(shots)[image]
    claimed = claims(logits, unknown)  # (n, N)
    total = claimed.new_zeros(batch * shots, claimed.shape[1]).index_add_(0, image, claimed)
    mean = total / counts.clamp(min=1).unsqueeze(1)
    return (mean.unflatten(0, (batch, shots)) * weight_bk.unsqueeze(2)).sum(1)


@in_float32
def claims(base_logits: Tensor, unknown: Tensor | None = None) -> Tensor:
    """Return the probabilities of the base classes, background left out, (B, N, ...) of logits (B, N + 1, ...).

    Args:
        base_logits: of the base learner, channel 0 background.
        unknown: (B,) int64, a channel whose class is taken for unknown to the base learner, 0 for none: the others
            share what it would have claimed. In training the query's object is a base class, and a base learner that
            knows it says nothing about one that does not.
    """
    if unknown is not None:
        channel = torch.arange(base_logits.shape[1], device=base_logits.device)
        hide = (channel == unknown.unsqueeze(1)) & (channel > 0)  # (B, N + 1)
        base_logits = base_logits.masked_fill(hide.view(*hide.shape, *[1] * (base_logits.ndim - 2)), float("-inf"))
    return base_logits.softmax(dim=1)[:, 1:]


def trusted_map(base_logits_bnhw: Tensor, trust_bn: Tensor, unknown_b: Tensor | None) -> Tensor:
    """Return b = sum_c trust_c p_c, (B, 1, H, W), of base logits (B, N + 1, H, W)."""
    return torch.einsum("bnhw,bn->bhw", claims(base_logits_bnhw, unknown_b), trust_bn).unsqueeze(1)
