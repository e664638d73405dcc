"""Sym-Net's losses.

The triplet losses pull aligned prototypes to their object and push them from its background.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from model.episode import Episode, Output
from model.parts.base_learner import cross_entropies
from model.parts.loss import batch_mean, image_mean, mask_loss
from model.tensors.ops import in_float32

MARGIN = 0.5


def losses(
    output: Output, auxiliary: list[Tensor], triplet: Tensor, episode: Episode, aux_weight: float
) -> dict[str, Tensor]:
    """Return the losses, of which every one but ``main`` has the weight ``aux_weight``."""
    inner = [mask_loss(x, episode.query_label) for x in auxiliary]  # of each scale
    unweighted = cross_entropies(output, episode) | {"inner": torch.stack(inner).mean(), "triplet": triplet}
    return {name: loss if name == "main" else aux_weight * loss for name, loss in unweighted.items()}


@in_float32
def support_triplet(anchor_bc: Tensor, feature_bkchw: Tensor, mask_bk1hw: Tensor) -> Tensor:
    """Return the loss of the anchor's farthest foreground and the mean background position, 0 if no support has both.

    ``mask_bk1hw`` is binary at the image's resolution; ignored pixels count as background, as published.
    """
    anchor_b1c = F.normalize(anchor_bc, dim=1).unsqueeze(1)
    feature_bklc = F.normalize(feature_bkchw.flatten(3).transpose(2, 3), dim=3)
    small_bkhw = F.interpolate(mask_bk1hw[:, :, 0], size=feature_bkchw.shape[-2:], mode="nearest")
    inside_bkl = small_bkhw.flatten(2) == 1
    outside_bkl = (~inside_bkl).float()
    distance_bkl = F.pairwise_distance(anchor_b1c.unsqueeze(1), feature_bklc)
    farthest_bk = distance_bkl.masked_fill(~inside_bkl, 0.0).amax(2)
    total_bkc = torch.einsum("bklc,bkl->bkc", feature_bklc, outside_bkl)
    background_bkc = total_bkc / outside_bkl.sum(2, keepdim=True).clamp(min=1)
    difference_bk = farthest_bk - F.pairwise_distance(anchor_b1c, background_bkc)
    has_both_bk = inside_bkl.any(2) & ~inside_bkl.all(2)
    loss_bk = F.relu(MARGIN + difference_bk) * has_both_bk
    means = [batch_mean(total, count) for total, count in zip(loss_bk.sum(0), has_both_bk.sum(0))]  # of each shot
    return torch.stack(means).mean()


@in_float32
def query_triplet(anchor_bc: Tensor, ambiguous_bc: Tensor, background_bc: Tensor) -> Tensor:
    """Return the query loss, which pulls the ambiguous prototype to the anchor and pushes the background one away."""
    anchor, positive, negative = (F.normalize(x, dim=1) for x in (anchor_bc, ambiguous_bc, background_bc))
    return image_mean(F.triplet_margin_loss(anchor, positive, negative, MARGIN, reduction="none"))
