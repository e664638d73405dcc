"""SCCAN: the query's windows attend to themselves and to the support's most similar window.

Read ``SCCAN.support`` and ``SCCAN.predict``.

A frozen encoder, a prior without parameters (the paper's pseudo mask aggregation), fusion with the support prototype,
self-calibrated cross attention (with its patch alignment, ``attention.py``), a decoder of one scale. The pseudo mask is
P_i = sum_j softmax_j(cos(q_i, s_j)) m_j; one softmax weighs a query window's own tokens by q k / sqrt(d) and those of
the aligned support window by cos(q, k).
Source: Xu et al., Self-Calibrated Cross Attention Network for Few-Shot Segmentation, ICCV 2023 (arXiv 2308.09294).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from model.contract import Episode, Output, ParamGroup, Shot, Task, WithEncoderSettings, learnable, register
from model.encoders.variant import EncoderVariant
from model.method import HIGH, Maps, Method, Wants, mid_features, of_each_shot
from model.parts.aspp import ASPPDecoder, Fusion
from model.parts.layers import WIDTH, feature_projections
from model.parts.loss import dice_loss, mask_loss
from model.sccan.attention import WINDOW, CalibratedBlock, SelfCalibratedAttention
from model.sccan.published import LAYOUT
from model.tensors.mask import Mask
from model.tensors.ops import (
    FP16_SHARE,
    joined,
    logits_at,
    masked_mean,
    mean_over_shots,
    min_max,
    resize,
    weighted_sums,
)
from model.tensors.windows import uneven_grid

EPS = 1e-7
MAX_SCORES = 2**21  # attention scores held at a time


@dataclass
class SCCANSettings(WithEncoderSettings):
    """SCCAN's own settings."""

    # Side of the grid of attention and decoder, for inputs of every size; a multiple of WINDOW
    grid: int = field(default=64, metadata={"low": WINDOW})
    blocks: int = field(default=8, metadata={"low": 1})  # of self-calibrated cross attention

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, problem and remedy) if windows do not fill the grid; None if they do."""
        return uneven_grid(self.grid, WINDOW)


@dataclass
class SCCANShot(Shot):
    """Values of n supports, all but f4 on the working grid."""

    feature: Tensor  # X_k m_k, (n, 256, G, G)
    prototype: Tensor  # p_k, (n, 256)
    mask: Tensor  # m_k, (n, 1, G, G)
    f4: Tensor  # the keys of the prior, (n, C, h, w)


@register("sccan")
class SCCAN(Method):
    """Self-calibrated cross attention. Shots are averaged before it; each costs a prior."""

    Settings = SCCANSettings
    title = "SCCAN"
    protocol = "sccan"
    # Dilation as in torchvision: a stage's first block has the dilation of the stage before it.
    wants = Wants(variant=EncoderVariant(first_block_dilated=False))
    published = LAYOUT
    rest_group = "convolutions"
    settings: SCCANSettings

    def __init__(self, settings: SCCANSettings, task: Task):
        super().__init__(settings, task)
        self.project_query, self.project_support = feature_projections(self.encoder)
        self.fuse_query = Fusion()
        self.fuse_support = Fusion()
        self.attend = SelfCalibratedAttention(WIDTH, settings.blocks)
        self.decoder = ASPPDecoder(WIDTH)

    def support(self, maps: Maps, mask: Mask) -> SCCANShot:
        """Return masked features, prototype, mask and keys of n supports."""
        feature = self._on_grid(self.project_support(mid_features(maps, low_first=True)))  # X_k, (n, 256, G, G)
        small_mask = mask.on(feature.shape[-2:])
        return SCCANShot(
            feature=feature * small_mask,
            prototype=masked_mean(feature, small_mask),
            mask=small_mask,
            f4=maps[HIGH],
        )

    def predict(self, maps: Maps, shots: Sequence[SCCANShot], episode: Episode) -> Output:
        """Return logits (B, 2, S, S) and in training the Dice loss ``main``."""
        # The prior of the object, an attention over each shot.
        query_f4 = maps[HIGH]  # (B, C, h, w)
        priors = of_each_shot(lambda shot: pseudo_mask(query_f4, shot.f4, shot.mask), shots, len(query_f4))
        prior = mean_over_shots(priors)  # P, (B, 1, G, G)

        # The shots' mean.
        support_feature = mean_over_shots(torch.stack([shot.feature for shot in shots], dim=1))  # X_s, (B, 256, G, G)
        prototype = mean_over_shots(torch.stack([shot.prototype for shot in shots], dim=1))  # p, (B, 256)
        mask = mean_over_shots(torch.stack([shot.mask for shot in shots], dim=1))  # m, (B, 1, G, G)

        # Fuse, attend, decode.
        query_feature = self._on_grid(self.project_query(mid_features(maps, low_first=True)))  # X_q, (B, 256, G, G)
        query_map = self.fuse_query(query_feature, prototype, prior)  # F_q
        support_map = self.fuse_support(support_feature, prototype, mask)  # F_s
        attended = self.attend(query_map, support_map, mask)
        logits = logits_at(self.decoder(attended), episode.query.shape[-2:])

        output = Output(logits, pictures={"prior": prior[:, 0]})
        if self.training:
            output.losses = {"main": mask_loss(logits, episode.query_label, dice_loss)}
            output.image_losses = ("main",)
        return output

    def _on_grid(self, x_bchw: Tensor) -> Tensor:
        """Return a map on the working grid."""
        return resize(x_bchw, (self.settings.grid, self.settings.grid))

    def frozen(self) -> Iterator[nn.Module]:
        """Yield the encoder, and the parts of the last block that exist only for checkpoints."""
        yield from super().frozen()
        last = cast(CalibratedBlock, self.attend.blocks[-1])
        yield from (last.attend_support, last.mlp_support)

    def own_groups(self) -> list[ParamGroup]:
        """Return the group of an optimiser of its own: attention with its norms."""
        return [ParamGroup("attention", learnable(self.attend), optimizer="attention")]


@torch.no_grad()
def pseudo_mask(query_f4_bchw: Tensor, support_f4_nchw: Tensor, mask_n1gg: Tensor) -> Tensor:
    """Return the prior of n supports, (n, 1, G, G): an attention-weighted mean of its mask, stretched to 0..1.

    The supports are of one shot or of more, shot after shot, each shot with one for every query.

    The attention of a query position is softmax(cos(q, k)) over all positions of the support. It is nearly uniform and
    the result close to the mean of the mask; the stretching makes it a prior: 0 everywhere where the mask is empty,
    rounding errors where it is 1 everywhere, as published. The query's features stay on their own grid, the support's
    are resized to the mask's. Some queries at a time are processed, so that the whole matrix never exists. Products
    have the precision of the map, cosines and attention are float32.
    """
    size = query_f4_bchw.shape[-2:]
    grid = mask_n1gg.shape[-2:]
    supports = len(support_f4_nchw)
    query_nchw = joined([query_f4_bchw] * (supports // len(query_f4_bchw)))
    query_nlc = query_nchw.flatten(2).transpose(1, 2)
    key_ncm = resize(support_f4_nchw, grid).flatten(2).to(query_nlc.dtype)
    value_nm1 = mask_n1gg.flatten(2).transpose(1, 2)
    key_length = torch.linalg.vector_norm(key_ncm.float(), dim=1, keepdim=True)  # (n, 1, M)
    rows = max(MAX_SCORES // (supports * key_ncm.shape[2]), 1)
    means = []
    for query in query_nlc.split(rows, dim=1):
        cosine = torch.bmm(FP16_SHARE * query, key_ncm).float() / FP16_SHARE
        query_length = torch.linalg.vector_norm(query.float(), dim=2, keepdim=True)
        cosine /= query_length * key_length + EPS
        means.append(weighted_sums(cosine.softmax(2), value_nm1))
    mean_nl = torch.cat(means, dim=1).squeeze(2)
    prior_nhw = min_max(mean_nl, EPS).unflatten(1, size)
    return resize(prior_nhw.unsqueeze(1), grid)
