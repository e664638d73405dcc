"""SSP: segment a query by cosines to prototypes that come from the supports first, then from the query itself.

Read ``SSP.forward`` first. There is no decoder and no learned layer beyond the encoder, which learns its middle stages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from model.common.loss import cross_entropy
from model.common.ops import in_float32, masked_mean, resize
from model.common.self_support import SelfSupport, Similarity, with_own
from model.common.with_encoder import WithEncoder
from model.contract import Episode, ModelSettings, Output, ParamGroup, Task
from model.encoders.encoder import EncoderVariant
from model.encoders.settings import ResNetSettings, build_encoder
from model.registry import register
from model.ssp.published import LAYOUT

LAST_STAGE = 3  # the encoder ends here, at stride 8
FIRST_LEARNING_STAGE = 2
# Stage 3 is dilated but for its first block, and its last block has no ReLU: features may be negative.
ENCODER = EncoderVariant(dilation={3: 2}, first_block_dilated=False, final_relu=False)
MASK_EPS = 1e-5  # in the masked mean of a support
BLEND = (0.5, 0.2, 0.3)  # refinement: supports', first and second round's prototypes
FINAL = 0.7  # share of the refined logits, the first round's have the rest
SUPPORT_LOSS = 0.2


@dataclass
class Settings(ModelSettings):
    """SSP's own settings; ``config/model/ssp.yaml`` explains them."""

    encoder: ResNetSettings = field(default_factory=ResNetSettings)
    refine: bool = True


@register("ssp")
class SSP(WithEncoder):
    """Self-support matching; ``refine`` adds a second round and no parameter. Shots are averaged, none is weighted."""

    Settings = Settings
    title = "SSP"
    published = LAYOUT
    any_size = True

    def __init__(self, settings: Settings, task: Task):
        super().__init__(settings, task)
        self.encoder = build_encoder(settings.encoder, LAST_STAGE, ENCODER)
        self.similarity = Similarity()
        self.self_support = SelfSupport()
        self.freeze()

    def forward(self, episode: Episode) -> Output:
        """Return logits (B, 2, H, W), with ``refine`` the first round's as ``plain``, and in training the losses."""
        query, supports, labels = self._encode(episode)  # F_q (B, C, h, w); K of (B, C, h_s, w_s), (B, H_s, W_s)

        # What the supports say.
        pairs = [prototypes(support, label) for support, label in zip(supports, labels)]  # K of (fg_k, bg_k)
        support_fg, support_bg = (torch.stack(kind).mean(0) for kind in zip(*pairs))  # FP_0, BP_0, (B, C)
        guess = self.similarity(query, support_fg, support_bg)  # sim_0, (B, 2, h, w)

        # What the query then says itself.
        own = self.self_support(query, guess)
        first_fg, first_bg = with_own(support_fg, own)  # FP_1 (B, C), BP_1 (B, C, h, w)
        first = self.similarity(query, first_fg, first_bg)  # sim_1
        size = episode.query.shape[-2:]
        plain = resize(first, size)  # out1, (B, 2, H, W)
        output = Output(plain)
        if self.settings.refine:
            fg, bg = with_own(support_fg, self.self_support(query, first, own))
            second_fg = _blend(support_fg, first_fg, fg)  # FP_2
            second_bg = _blend(support_bg[:, :, None, None], first_bg, bg)  # BP_2
            second = self.similarity(query, second_fg, second_bg)  # sim_2
            output = Output(resize(FINAL * second + (1 - FINAL) * first, size), extra={"plain": plain})
        if self.training:
            output.losses = self._losses(output, plain, query, supports, pairs, labels, episode.query_label)
        return output

    def _encode(self, episode: Episode) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Return the features of queries and of every shot, in float32, and the labels of every shot."""
        if isinstance(episode.support, list):  # images of any size go through the encoder one by one
            query, each = self.encode_any_size(episode)
            supports = [f.stage[LAST_STAGE].float() for f in each]
            return query.stage[LAST_STAGE].float(), supports, episode.support_label
        query, together = (f.stage[LAST_STAGE].float() for f in self.encode(episode))
        supports = together.unflatten(0, episode.support.shape[:2]).unbind(1)
        return query, list(supports), list(episode.support_label.unbind(1))

    def _losses(
        self,
        output: Output,
        plain: Tensor,
        query: Tensor,
        supports: list[Tensor],
        pairs: list[tuple[Tensor, Tensor]],
        labels: list[Tensor],
        query_label: Tensor,
    ) -> dict[str, Tensor]:
        """Return the cross-entropies: predictions, the query by its own true prototypes, each shot by its own pair."""
        true = self.similarity(query, *prototypes(query, query_label))
        shots = [resize(self.similarity(s, *p), y.shape[-2:]) for s, p, y in zip(supports, pairs, labels)]
        losses = {"plain": cross_entropy(plain, query_label)}
        if self.settings.refine:
            losses["refined"] = cross_entropy(output.logits, query_label)
        losses["self_support"] = cross_entropy(resize(true, query_label.shape[-2:]), query_label)
        losses["support"] = SUPPORT_LOSS * cross_entropy(torch.cat(shots), torch.cat(labels))
        return losses

    # --- what the engine asks ----------------------------------------------------------------------------------------

    def frozen(self) -> Iterator[nn.Module]:
        """Yield stem, stage 1 and every batch norm: only the convolutions of stages 2 and 3 learn."""
        stages = self.encoder.stages()
        yield from stages[:FIRST_LEARNING_STAGE]
        for stage in stages[FIRST_LEARNING_STAGE:]:
            yield from (module for module in stage.modules() if isinstance(module, _BatchNorm))

    def param_groups(self) -> list[ParamGroup]:
        """Return the convolutions of stages 2 and 3, with one learning rate."""
        return [ParamGroup("encoder", [p for p in self.parameters() if p.requires_grad])]


@in_float32
def prototypes(feature_bchw: Tensor, label_bhw: Tensor) -> tuple[Tensor, Tensor]:
    """Return an image's foreground and background prototype, (B, C) each; ignored pixels belong to neither."""
    size = feature_bchw.shape[-2:]
    masks = [resize((label_bhw == value).float().unsqueeze(1), size) for value in (1, 0)]
    return tuple(masked_mean(feature_bchw, mask, MASK_EPS) for mask in masks)


def _blend(support: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return sum(share * prototype for share, prototype in zip(BLEND, (support, first, second)))
