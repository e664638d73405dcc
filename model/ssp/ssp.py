"""SSP: segment a query by cosines to prototypes, first those of the supports, then those of the query itself.

Read ``SSP.support`` and ``SSP.predict``. There is no decoder and no learned layer beyond the encoder, which learns its
stages 2 and 3. FP_0 and BP_0 are the supports' prototypes. ``model/parts/self_support.py`` has the paper's self-support
prototypes of foreground (SSFP), background (SSBP) and adaptive background (ASBP, one for every position i). With A and
N the query's positions that softmax(sim_0) calls foreground (> 0.7) and background (> 0.6), or the 12 surest, they are

    SSFP = mean_{j in A} F_j,  SSBP = mean_{j in N} F_j,  ASBP_i = sum_{j in N} softmax_j(2 cos(F_i, F_j)) F_j,
    FP_1 = 0.5 FP_0 + 0.5 SSFP,  BP_1 = 0.3 SSBP + 0.7 ASBP,  sim_r = 10 [cos(F, BP_r); cos(F, FP_r)].

The refinement finds FP' and BP' in the same way from sim_1, blends them, FP_2 = 0.5 FP_0 + 0.2 FP_1 + 0.3 FP' and BP_2
likewise, and predicts 0.7 sim_2 + 0.3 sim_1.

The paper's self-support loss is ``losses["self_support"]``.

Shape letters: B queries, K shots, n supports (the B of one shot), C channels, h w the grid of stage 3, H W the image.
Source: Fan et al., Self-Support Few-Shot Semantic Segmentation, ECCV 2022 (arXiv 2207.11549).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.contract import Episode, Output, Shot, WithEncoderSettings, register
from model.encoders.settings import Learn
from model.encoders.variant import EncoderVariant
from model.method import MID, Maps, Method, Wants
from model.parts.loss import mask_loss
from model.parts.self_support import self_support, similarity, with_own
from model.ssp.published import LAYOUT
from model.tensors.mask import Mask
from model.tensors.ops import masked_mean, mean_over_shots, resize

MASK_EPS = 1e-5  # in the masked mean of a support
BLEND = (0.5, 0.2, 0.3)  # refinement: weights of the supports', the first and the second round's prototypes
FINAL = 0.7  # weight of the second round's logits; the first round's have the rest
SUPPORT_LOSS = 0.2  # weight of the loss on the supports


@dataclass
class SSPSettings(WithEncoderSettings):
    """SSP's own settings."""

    # A second round of self-support; adds no parameter, so a test may switch it on any checkpoint
    refine: bool = True


@dataclass
class SSPShot(Shot):
    """The prototypes of n supports."""

    foreground: Tensor  # fg_k, (n, C)
    background: Tensor  # bg_k, (n, C)
    feature: Tensor | None = None  # F_k, (n, C, h, w), in training


@register("ssp")
class SSP(Method):
    """Self-support matching; ``refine`` adds a second round and no parameter. Shots are averaged with equal weights."""

    Settings = SSPSettings
    title = "SSP"
    protocol = "ssp"
    # f3 at stride 8: all blocks of stage 3 but the first are dilated, and its last block has no ReLU, so that features
    # may be negative.
    wants = Wants(stages=(MID,), variant=EncoderVariant({MID: 2}, first_block_dilated=False, final_relu=False))
    encoder_learns = Learn(["2", "3"], lr_factor=1.0)  # the convolutions of these stages, at the full rate
    published = LAYOUT
    any_size = True  # also images of any height and width, as they are, where the encoder takes them
    size_rule = (1, 0)  # squares of any side: side % 1 == 0
    settings: SSPSettings

    def support(self, maps: Maps, mask: Mask) -> SSPShot:
        """Return the prototypes of n supports."""
        feature = maps[MID].float()  # F_k, (n, C, h, w)
        foreground, background = prototypes(feature, mask)
        return SSPShot(foreground, background, feature if self.training else None)

    def predict(self, maps: Maps, shots: Sequence[SSPShot], episode: Episode) -> Output:
        """Return logits (B, 2, H, W) and in training the losses.

        ``extra["supports"]`` are logits by the supports' prototypes alone, without self-support. With ``refine`` the
        logits are the second round's, and those of the first are in ``extra["plain"]``.
        """
        query = maps[MID].float()  # F_q, (B, C, h, w)
        size = episode.query.shape[-2:]

        # The supports' prototypes.
        support_fg = mean_over_shots(torch.stack([shot.foreground for shot in shots], dim=1))  # FP_0, (B, C)
        support_bg = mean_over_shots(torch.stack([shot.background for shot in shots], dim=1))  # BP_0, (B, C)
        guess = similarity(query, support_fg, support_bg)  # sim_0, (B, 2, h, w), background first

        # The query's own prototypes, from the positions at which sim_0 is confident.
        own = self_support(query, guess)  # SSFP (B, C), SSBP (B, C), ASBP (B, C, h, w)
        first_fg, first_bg = with_own(support_fg, own)  # FP_1 (B, C), BP_1 (B, C, h, w)
        first = similarity(query, first_fg, first_bg)  # sim_1, (B, 2, h, w)
        first_logits = resize(first, size)  # out1, without refinement, (B, 2, H, W)
        output = Output(first_logits, extra={"supports": resize(guess, size)})

        # The refinement: once more, from the positions at which sim_1 is confident.
        if self.settings.refine:
            new_own = self_support(query, first, own)  # ``own`` spares computing what both rounds share
            new_fg, new_bg = with_own(support_fg, new_own)  # FP' (B, C), BP' (B, C, h, w)
            w0, w1, w2 = BLEND
            second_fg = w0 * support_fg + w1 * first_fg + w2 * new_fg  # FP_2, (B, C)
            second_bg = w0 * support_bg[:, :, None, None] + w1 * first_bg + w2 * new_bg  # BP_2, (B, C, h, w)
            second = similarity(query, second_fg, second_bg)  # sim_2, (B, 2, h, w)
            output = Output(
                resize(FINAL * second + (1 - FINAL) * first, size), extra={**output.extra, "plain": first_logits}
            )

        if self.training:
            output.losses = {"plain": mask_loss(first_logits, episode.query_label)}
            if self.settings.refine:
                output.losses["refined"] = mask_loss(output.logits, episode.query_label)
            output.losses |= _self_support_losses(query, shots, episode)
        return output


def _self_support_losses(query: Tensor, shots: Sequence[SSPShot], episode: Episode) -> dict[str, Tensor]:
    """Return the losses of query and shots by prototypes from their own labels."""
    label = episode.query_label
    of_query = similarity(query, *prototypes(query, Mask(label)))  # by its true object and background
    of_shots = []
    for shot in shots:
        assert shot.feature is not None  # in training
        of_shots.append(similarity(shot.feature, shot.foreground, shot.background))
    labels = episode.support_label.transpose(0, 1).flatten(0, 1)  # (B, K, H, W) to (K B, H, W)
    return {
        "self_support": mask_loss(of_query, label),
        "support": SUPPORT_LOSS * mask_loss(torch.cat(of_shots), labels),
    }


def prototypes(feature_bchw: Tensor, mask: Mask) -> tuple[Tensor, Tensor]:
    """Return an image's foreground and background prototype, (B, C) each; ignored pixels belong to neither."""
    size = feature_bchw.shape[-2:]
    foreground = masked_mean(feature_bchw, resize(mask.foreground, size), MASK_EPS)
    background = masked_mean(feature_bchw, resize(mask.background, size), MASK_EPS)
    return foreground, background
