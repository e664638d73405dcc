"""SSP: segment a query by cosines to prototypes, first those of the supports, then those of the query itself.

Read ``SSP.forward`` first. There is no decoder and no learned layer beyond the encoder, which learns its middle stages.
``model/common/prototype.py`` has the paper's self-support prototypes: foreground (SSFP), background (SSBP), adaptive
background (ASBP); ``self_support`` of the losses is its self-support loss. With softmax(10 [cos(F, BP); cos(F, FP)]):
FP_1 = 0.5 FP_0 + 0.5 SSFP, BP_1 = 0.3 SSBP + 0.7 ASBP, ASBP_i = sum_j softmax_j(2 cos(F_i, F_j)) F_j over the query's
confident background j.
Source: Fan et al., Self-Support Few-Shot Semantic Segmentation, ECCV 2022 (arXiv 2207.11549).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.common.loss import mask_loss
from model.common.ops import background_mask, by_shot, foreground_mask, masked_mean, mean_over_shots, resize
from model.common.presence import presence_features, support_summary
from model.common.prototype import self_support, similarity, with_own
from model.common.published import Layout
from model.common.with_encoder import MID, WithEncoder, WithEncoderSettings, in_one_call
from model.contract import Episode, Output, Task, register
from model.encoders.encoder import EncoderVariant
from model.encoders.resnet import ResNetEncoder
from model.encoders.settings import Learn

MASK_EPS = 1e-5  # in the masked mean of a support
BLEND = (0.5, 0.2, 0.3)  # refinement: weights of the supports', the first and the second round's prototypes
FINAL = 0.7  # weight of the second round's logits; the first round's have the rest
SUPPORT_LOSS = 0.2  # weight of the loss on the supports


@dataclass
class SSPSettings(WithEncoderSettings):
    """SSP's own settings; ``config/model/ssp.yaml`` explains them."""

    refine: bool = True


@register("ssp")
class SSP(WithEncoder):
    """Self-support matching; ``refine`` adds a second round and no parameter. Shots are averaged with equal weights."""

    Settings = SSPSettings
    title = "SSP"
    families = (ResNetEncoder,)
    last_stage = MID  # at stride 8
    # All blocks of stage 3 but the first are dilated, and its last block has no ReLU: features may be negative.
    variant = EncoderVariant(dilation={MID: 2}, first_block_dilated=False, final_relu=False)
    encoder_learns = Learn(["2", "3"], lr_factor=1.0)
    published = Layout(
        "SSP",
        ("layer0.0.0.weight", "layer0.0.6.weight", "layer0.1.weight", "layer3.0.conv1.weight"),
        (
            (r"layer0\.0\.(.*)", r"encoder.layer0.\1"),
            (r"layer0\.1\.(.*)", r"encoder.layer0.7.\1"),
            (r"(layer[1-3]\..*)", r"encoder.\1"),
        ),
    )
    any_size, size_rule = True, (1, 0)
    settings: SSPSettings

    def __init__(self, settings: SSPSettings, task: Task):
        super().__init__(settings, task)
        self.freeze()

    def forward(self, episode: Episode) -> Output:
        """Return logits (B, 2, H, W) and in training the losses.

        With ``refine`` the logits are the second round's, and those of the first are in ``extra["plain"]``.
        """
        # F_q, (B, C, h, w), and features and labels of the K shots, whose images may have different sizes.
        query, each_shot = self.encode_each(episode, lambda features: features.stage[MID].float())
        shots = in_one_call(each_shot)
        batch = len(query)

        # The supports' prototypes.
        pairs = [prototypes(support, label) for support, label in shots]  # (fg_k, bg_k)
        support_fg, support_bg = (mean_over_shots(by_shot(torch.cat(x), batch)) for x in zip(*pairs))  # FP_0, BP_0
        guess = similarity(query, support_fg, support_bg)  # sim_0, (B, 2, h, w)

        # The query's own prototypes, from its confident positions.
        query_support = self_support(query, guess)
        first_fg, first_bg = with_own(support_fg, query_support)  # FP_1 (B, C), BP_1 (B, C, h, w)
        first = similarity(query, first_fg, first_bg)  # sim_1
        size = episode.query.shape[-2:]
        plain = resize(first, size)  # out1, (B, 2, H, W)
        output = Output(plain)
        if self.settings.refine:
            fg, bg = with_own(support_fg, self_support(query, first, query_support))
            w0, w1, w2 = BLEND
            second_fg = w0 * support_fg + w1 * first_fg + w2 * fg  # FP_2
            second_bg = w0 * support_bg[:, :, None, None] + w1 * first_bg + w2 * bg  # BP_2
            second = similarity(query, second_fg, second_bg)  # sim_2
            output = Output(resize(FINAL * second + (1 - FINAL) * first, size), extra={"plain": plain})
        if self.training:
            label = episode.query_label
            output.losses = {"plain": mask_loss(plain, label)}
            if self.settings.refine:
                output.losses["refined"] = mask_loss(output.logits, label)
            # The query, and the shots, by prototypes from their own labels.
            output.losses["self_support"] = mask_loss(similarity(query, *prototypes(query, label)), label)
            support_logits = []
            for (support, support_label), (fg, bg) in zip(shots, pairs):
                support_logits.append(resize(similarity(support, fg, bg), support_label.shape[-2:]))
            support_labels = torch.cat([support_label for _, support_label in shots])
            output.losses["support"] = SUPPORT_LOSS * mask_loss(torch.cat(support_logits), support_labels)
        else:
            summaries = [support_summary(support, foreground_mask(label)) for support, label in shots]
            output.presence_features = presence_features(query, by_shot(torch.cat(summaries), batch))
        return output


def prototypes(feature_bchw: Tensor, label_bhw: Tensor) -> tuple[Tensor, Tensor]:
    """Return an image's foreground and background prototype, (B, C) each; ignored pixels belong to neither."""
    size = feature_bchw.shape[-2:]
    foreground, background = (resize(mask(label_bhw), size) for mask in (foreground_mask, background_mask))
    return masked_mean(feature_bchw, foreground, MASK_EPS), masked_mean(feature_bchw, background, MASK_EPS)
