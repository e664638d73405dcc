"""Presence: whether a query shows a support's object at all, by the features of the encoder.

A network that learnt to segment base classes finds something in every query, and its logits say little about the
presence of a novel class. The encoder's last map tells more, and several maps side by side more still. With x the unit
features of a photo, mu their mean, and p the mean unit feature of a support's object, the similarity of the photo to
the object is

    the largest cos(x - mu, p - mu) (the mean of ``TOP`` of all positions), the mean of cos(x, p), and cos(p, mu).

The presence features are the similarity of the query, and beside it that of the support's photo, which says what to
expect of this object: a box or a few points give another p than an exact mask. Both are means over the K supports, each
compared by itself, because the mean of K objects lies nearer to every photo.
"""

import torch
from torch import Tensor

from model.tensors.ops import bin_means, in_float32

TOP = 0.01  # share of a photo's positions
NUMBERS = 3  # of a similarity
EPS = 1e-6  # smallest length of a feature, and smallest sum of a mask


@torch.no_grad()
@in_float32
def support_summary(support_bchw: Tensor, mask_b1ss: Tensor) -> Tensor:
    """Return each support's mean unit feature of the object and its similarity to it, (B, C + 3) float32."""
    height, width = support_bchw.shape[-2:]
    share_b1hw = bin_means(mask_b1ss, (height, width))
    length_b1hw = support_bchw.norm(dim=1, keepdim=True).clamp(min=EPS)
    weight_b1hw = share_b1hw / length_b1hw
    total_bc = torch.einsum("bchw,bhw->bc", support_bchw, weight_b1hw[:, 0])
    area_b1 = share_b1hw.sum((2, 3)).clamp(min=EPS)
    object_bc = total_bc / area_b1  # p
    to_itself = _similarity(support_bchw, object_bc.unsqueeze(1))
    return torch.cat([object_bc, to_itself[:, 0]], dim=1)


@torch.no_grad()
@in_float32
def presence_features(query_bchw: Tensor, summary_bkc: Tensor) -> Tensor:
    """Return the presence features (B, 1, 6) float32 of queries, from ``support_summary`` of their K supports."""
    object_bkc, of_support = summary_bkc.tensor_split([-NUMBERS], dim=-1)
    of_query = _similarity(query_bchw, object_bkc)
    beside = torch.cat([of_query, of_support], dim=-1)
    return beside.mean(1, keepdim=True)


def _similarity(photo_bchw: Tensor, object_bkc: Tensor) -> Tensor:
    """Return the similarity of photos to K objects each, (B, K, 3)."""
    photo_bcl = photo_bchw.flatten(2)
    length_b1l = photo_bcl.norm(dim=1, keepdim=True).clamp(min=EPS)
    positions = photo_bcl.shape[-1]
    sum_bc = torch.einsum("bcl,bl->bc", photo_bcl, 1 / length_b1l[:, 0])
    mean_b1c = sum_bc.unsqueeze(1) / positions  # mu
    with_p = object_bkc @ photo_bcl / length_b1l  # x . p, (B, K, L)
    with_mean = mean_b1c @ photo_bcl / length_b1l  # x . mu, (B, 1, L)
    p_mean = (object_bkc * mean_b1c).sum(-1, keepdim=True)  # p . mu, (B, K, 1)
    p_length = object_bkc.norm(dim=-1, keepdim=True).clamp(min=EPS)
    mean_length = mean_b1c.norm(dim=-1, keepdim=True).clamp(min=EPS)
    mean_square = mean_length**2

    x_from_mean = (1 - 2 * with_mean + mean_square).clamp(min=EPS).sqrt()  # |x - mu|, (B, 1, L)
    p_from_mean = (object_bkc - mean_b1c).norm(dim=-1, keepdim=True).clamp(min=EPS)  # |p - mu|, (B, K, 1)
    product = with_p - with_mean - p_mean + mean_square  # (x - mu) . (p - mu)
    centred = product / x_from_mean / p_from_mean
    top = max(round(TOP * positions), 1)
    largest = centred.topk(top, dim=-1).values.mean(-1)
    mean = (with_p / p_length).mean(-1)
    of_mean = p_mean / (p_length * mean_length)
    return torch.stack([largest, mean, of_mean[..., 0]], dim=-1)
