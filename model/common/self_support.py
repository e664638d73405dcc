"""Self-support (SSP): prototypes from the positions of the query at which a first prediction is confident."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from model.common.fixed_shapes import Chosen, chosen, shapes_are_fixed
from model.common.ops import in_float32
from model.common.prototype import choose, mean_over

TEMPERATURE = 10.0  # of the cosines, as logits
COSINE_EPS = 1e-8  # smallest norm in a cosine
SURE_FOREGROUND = 0.7  # probabilities above which a position is confident
SURE_BACKGROUND = 0.6
SHARPNESS = 2.0  # of the adaptive background's attention
OWN_FOREGROUND = 0.5  # share of the query's own prototype in the foreground
OWN_BACKGROUND = 0.3  # share of the query's global prototype in the background; the rest is the adaptive one
ROWS = 256  # positions whose attention is in memory at a time
BACKGROUND_CHANNEL, FOREGROUND_CHANNEL = 0, 1  # of two-class logits


class Similarity(nn.Module):
    """Scaled cosines of every position to a background and a foreground prototype."""

    @in_float32
    def forward(self, feature_bchw: Tensor, foreground: Tensor, background: Tensor) -> Tensor:
        """Return logits (B, 2, h, w), background first; prototypes are (B, C), or (B, C, h, w) for one per position."""
        length, cosines = _length(feature_bchw), []
        for prototype in (background, foreground):
            if prototype.ndim == 2:  # a matrix product, without a map of feature size
                inner = (prototype.unsqueeze(1) @ feature_bchw.flatten(2)).view_as(length)
                cosines.append(inner / (length * _length(prototype)[:, None, None]))
            else:
                cosines.append((feature_bchw * prototype).sum(1) / (length * _length(prototype)))
        return TEMPERATURE * torch.stack(cosines, dim=1)


def _length(vectors: Tensor) -> Tensor:
    """Return the norms over channels, at least ``COSINE_EPS``."""
    return torch.linalg.vector_norm(vectors, dim=1).clamp_min(COSINE_EPS)


class Attended(NamedTuple):
    """One episode's attention over its confident background, unnormalised: sum_j w_ij F_j and sum_j w_ij."""

    inside: Tensor  # the confident background N, (L,) bool
    values: Tensor  # (L, C)
    weights: Tensor  # (L, 1)


class SelfPrototypes(NamedTuple):
    """Prototypes of a query from its own confident positions."""

    foreground: Tensor  # SSFP, (B, C)
    background: Tensor  # SSBP, (B, C)
    adaptive: Tensor  # ASBP, a background prototype for every position, (B, C, h, w)
    attended: list[Attended]  # of each episode, from which the next step continues


class SelfSupport(nn.Module):
    """One self-support step: from logits to the prototypes of their confident positions."""

    @in_float32
    def forward(
        self, feature_bchw: Tensor, logits_b2hw: Tensor, before: SelfPrototypes | None = None
    ) -> SelfPrototypes:
        """Return the query's own prototypes; the choice of positions carries no gradient.

        ``before`` is the result of an earlier step on the same features, and only saves computation.
        """
        feature = feature_bchw.flatten(2)  # (B, C, L)
        probability = logits_b2hw.detach().softmax(1).flatten(2)  # (B, 2, L)
        foreground = _sure(probability[:, FOREGROUND_CHANNEL], SURE_FOREGROUND)  # A, (B, L)
        background = _sure(probability[:, BACKGROUND_CHANNEL], SURE_BACKGROUND)  # N, (B, L)
        attended = _attend(feature.transpose(1, 2), background.bool(), before and before.attended)
        adaptive = torch.stack([(a.values / a.weights).T for a in attended])  # (B, C, L)
        return SelfPrototypes(
            mean_over(feature, foreground),
            mean_over(feature, background),
            adaptive.unflatten(2, feature_bchw.shape[-2:]),
            attended,
        )


def with_own(support_fg: Tensor, own: SelfPrototypes) -> tuple[Tensor, Tensor]:
    """Return foreground (B, C) and background (B, C, h, w) prototypes after a self-support step."""
    foreground = (1 - OWN_FOREGROUND) * support_fg + OWN_FOREGROUND * own.foreground
    background = OWN_BACKGROUND * own.background[:, :, None, None] + (1 - OWN_BACKGROUND) * own.adaptive
    return foreground, background


def _sure(probability_bl: Tensor, threshold: float) -> Tensor:
    ranking = probability_bl.argsort(dim=1, descending=True, stable=True)
    return choose(probability_bl > threshold, ranking)


def _attend(feature_blc: Tensor, inside_bl: Tensor, before: Sequence[Attended] | None) -> list[Attended]:
    """Return the attention of all positions over the chosen ones.

    The weight of a pair of positions is the same in every step; only the set of positions changes. Where fewer
    positions entered or left than the set has, only their sums are computed.
    """
    changes = []
    if before is not None and not shapes_are_fixed():
        known_bl = torch.stack([each.inside for each in before])
        changes = [inside_bl & ~known_bl, known_bl & ~inside_bl]
    sets, out = chosen(inside_bl, *changes), []
    for i, feature in enumerate(feature_blc):
        unit = F.normalize(feature, dim=1)
        now, *changed = (own[i : i + 1] for own in sets)
        if before is not None and changed and sum(own.counts[0] for own in changed) < now.counts[0]:
            plus, minus = (_sums(unit, feature, own) for own in changed)
            sums = tuple(b + p - m for b, p, m in zip(before[i][1:], plus, minus))
        else:
            sums = _sums(unit, feature, now)
        out.append(Attended(inside_bl[i], *sums))
    return out


def _sums(unit_lc: Tensor, feature_lc: Tensor, own: Chosen) -> tuple[Tensor, Tensor]:
    """Return sum_j w_ij F_j, (L, C), and sum_j w_ij, (L, 1), over the chosen j; w_ij = exp(2 cos(F_i, F_j)).

    Exponents lie within +-2, so a softmax needs no subtraction of the maximum. Positions are processed in pieces, and
    recomputed in the backward pass of training, so the matrix over all pairs is never in memory.
    """
    [key], [value] = own.rows(unit_lc[None]), own.rows(feature_lc[None])
    counted = own.inside[0].to(value.dtype) if shapes_are_fixed() else None  # 0 for the keys that are not chosen
    pieces = []
    for piece in unit_lc.split(ROWS):
        if torch.is_grad_enabled() and unit_lc.requires_grad:
            pieces.append(checkpoint(_piece, piece, key, value, counted, use_reentrant=False))
        else:
            pieces.append(_piece(piece, key, value, counted))
    values, weights = zip(*pieces)
    return torch.cat(values), torch.cat(weights)


def _piece(unit: Tensor, key: Tensor, value: Tensor, counted: Tensor | None) -> tuple[Tensor, Tensor]:
    weight = (SHARPNESS * unit @ key.T).exp()
    if counted is not None:
        weight = weight * counted
    return weight @ value, weight.sum(1, keepdim=True)
