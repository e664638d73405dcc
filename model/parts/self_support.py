"""Self-support (SSP): prototypes of a query from the positions at which a first prediction is confident."""

from typing import NamedTuple

import torch
from torch import Tensor

from model.tensors.attention import Attention, attend
from model.tensors.ops import choose, in_float32, mean_over

TEMPERATURE = 10.0  # of the cosines, as logits
EPS = 1e-8  # the least length of a vector, so that the zero vector has cosine 0, not NaN
CONFIDENT_FOREGROUND, CONFIDENT_BACKGROUND = 0.7, 0.6  # probabilities above which a position is confident
OWN_FOREGROUND = 0.5  # share of the query's own prototype in the foreground
OWN_BACKGROUND = 0.3  # share of the query's global prototype in the background; the rest is the adaptive one


@in_float32
def similarity(feature_bchw: Tensor, foreground: Tensor, background: Tensor) -> Tensor:
    """Return scaled cosines of every position to two prototypes as logits (B, 2, h, w), background first.

    Prototypes are (B, C), or (B, C, h, w) for one per position.
    """
    feature = feature_bchw.movedim(1, -1)  # (B, h, w, C), as channels-last maps lie in memory
    length = _length(feature)
    cosines = []
    for prototype in (background, foreground):
        p = prototype.movedim(1, -1) if prototype.ndim == 4 else prototype[:, None, None]  # (B, h or 1, w or 1, C)
        cosines.append((feature * p).sum(-1) / (length * _length(p)))  # F P / (|F| |P|)
    return TEMPERATURE * torch.stack(cosines, dim=1)


def _length(vectors: Tensor) -> Tensor:
    """Return the lengths of vectors (..., C), at least ``EPS``."""
    return vectors.norm(dim=-1).clamp(min=EPS)


class SelfPrototypes(NamedTuple):
    """Prototypes of a query from its own confident positions."""

    foreground: Tensor  # SSFP, (B, C)
    background: Tensor  # SSBP, (B, C)
    adaptive: Tensor  # ASBP, a background prototype for every position, (B, C, h, w)
    attention: Attention  # from which the next step continues


def self_support(feature_bchw: Tensor, logits_b2hw: Tensor, before: SelfPrototypes | None = None) -> SelfPrototypes:
    """Return a query's own prototypes from its logits; the choice of positions carries no gradient.

    ``before`` is the result of an earlier step on the same features, and only saves computation.
    """
    feature = feature_bchw.flatten(2)  # (B, C, L)
    probability = logits_b2hw.detach().softmax(1)
    background_bl, foreground_bl = probability.flatten(2).unbind(1)
    background = _confident(background_bl, CONFIDENT_BACKGROUND)  # N, (B, L)
    foreground = _confident(foreground_bl, CONFIDENT_FOREGROUND)  # A, (B, L)
    attention = attend(feature.transpose(1, 2), background.bool(), before and before.attention)
    return SelfPrototypes(
        foreground=mean_over(feature, foreground),
        background=mean_over(feature, background),
        adaptive=attention.mean.transpose(1, 2).unflatten(2, feature_bchw.shape[-2:]),
        attention=attention,
    )


def _confident(p_bl: Tensor, threshold: float) -> Tensor:
    """Return the positions of a probability above a threshold, or of the greatest ones where there are none."""
    ranking = p_bl.argsort(dim=1, descending=True, stable=True)
    return choose(p_bl > threshold, ranking)


def with_own(support_fg: Tensor, query: SelfPrototypes) -> tuple[Tensor, Tensor]:
    """Return foreground (B, C) and background (B, C, h, w) prototypes after a self-support step."""
    foreground = (1 - OWN_FOREGROUND) * support_fg + OWN_FOREGROUND * query.foreground
    own_background = query.background[:, :, None, None]
    background = OWN_BACKGROUND * own_background + (1 - OWN_BACKGROUND) * query.adaptive
    return foreground, background
