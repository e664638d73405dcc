"""SCCAN: the query's windows attend to themselves and to the support's most similar window. Read ``SCCAN.forward``.

A frozen encoder, a prior without parameters, fusion with the support prototype, self-calibrated cross attention, a
decoder of one scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from model.common.aspp_decoder import ASPPDecoder
from model.common.fusion import Fusion
from model.common.likeness import likeness, seen_object
from model.common.loss import dice, mask_loss
from model.common.ops import foreground_mask, resize
from model.common.projection import WIDTH, projection
from model.common.prototype import support_prototype
from model.common.with_encoder import HIGH, LOW, MID, WithEncoder
from model.contract import ModelSettings, ParamGroup, Task
from model.encoders.encoder import ENCODER_STRIDE, EncoderVariant
from model.encoders.features import Features
from model.encoders.settings import ResNetSettings, build_encoder
from model.episode import Episode, Output
from model.registry import register
from model.sccan.pseudo_mask import PseudoMask
from model.sccan.published import LAYOUT
from model.sccan.self_calibrated_attention import SelfCalibratedAttention
from model.sccan.window import WINDOW

# Dilation as in torchvision: a stage's first block has the dilation of the stage before it.
ENCODER = EncoderVariant(first_block_dilated=False)


@dataclass
class SCCANSettings(ModelSettings):
    """SCCAN's own settings; ``config/model/sccan.yaml`` explains them."""

    encoder: ResNetSettings = field(default_factory=ResNetSettings)
    grid: int = field(default=64, metadata={"low": WINDOW})
    blocks: int = field(default=8, metadata={"low": 1})

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, problem and remedy) if windows do not fill the grid; None if they do."""
        if self.grid % WINDOW:
            below = self.grid // WINDOW * WINDOW
            return "grid", f"= {self.grid} is not a multiple of {WINDOW}; nearest: {below}, {below + WINDOW}"
        return None


@register("sccan")
class SCCAN(WithEncoder):
    """Self-calibrated cross attention. Shots are averaged before it; each costs an encoder pass and a prior."""

    Settings = SCCANSettings
    title = "SCCAN"
    published = LAYOUT
    size_rule = (ENCODER_STRIDE, 1)
    settings: SCCANSettings

    def __init__(self, settings: SCCANSettings, task: Task):
        super().__init__(settings, task)
        self.encoder = build_encoder(settings.encoder, variant=ENCODER)
        channels = self.encoder.channels
        self.project_query = projection(channels[LOW] + channels[MID])
        self.project_support = projection(channels[LOW] + channels[MID])
        self.pseudo_mask = PseudoMask()
        self.fuse_query, self.fuse_support = Fusion(), Fusion()
        self.attend = SelfCalibratedAttention(WIDTH, settings.blocks)
        self.decoder = ASPPDecoder(WIDTH)
        self.freeze()

    def forward(self, episode: Episode) -> Output:
        """Return logits (B, 2, S, S) and in training the Dice loss ``main``."""
        # Features X_q (B, 256, G, G) and f4 (B, C, h, w) of the query and of the supports, whose shots are averaged by
        # position; the encoder is frozen.
        query_feature, query_f4 = self._projected(self.encode_query(episode), self.project_query)
        shots = [self._shot(episode, k, query_f4) for k in range(episode.support.shape[1])]
        maps, objects = [shot[:-1] for shot in shots], [shot[-1] for shot in shots]
        support_feature, prototype, mask, prior = (torch.stack(kind).mean(0) for kind in zip(*maps))  # X_s, p, m, P

        # Fuse, attend, decode.
        query_map = self.fuse_query(query_feature, prototype, prior)  # F_q, (B, 256, G, G)
        support_map = self.fuse_support(support_feature, prototype, mask)  # F_s
        logits = self.decoder(self.attend(query_map, support_map, mask))
        logits = resize(logits.float(), episode.query.shape[-2:])

        output = Output(logits, maps={"prior": prior[:, 0]})
        if self.training:
            output.losses = {"main": mask_loss(logits, episode.query_label, lambda *pair: dice(*pair).sum(1).mean())}
        else:
            output.evidence = likeness(query_f4, torch.stack(objects, dim=1))
        return output

    def _shot(self, episode: Episode, k: int, query_f4: Tensor) -> tuple[Tensor, ...]:
        """Return X_k m_k (B, 256, G, G), p_k (B, 256), m_k and prior (B, 1, G, G), and the object (B, C + 3).

        One shot is encoded at a time: the encoder's features of K shots take the memory of one.
        """
        feature, support_f4 = self._projected(self.encode_shot(episode, k), self.project_support)
        of_image = foreground_mask(episode.support_label[:, k])
        mask = resize(of_image, feature.shape[-2:])
        prior = self.pseudo_mask(query_f4, support_f4, mask)
        return feature * mask, support_prototype(feature, mask), mask, prior, seen_object(support_f4, of_image)

    def _projected(self, features: Features, project: nn.Module) -> tuple[Tensor, Tensor]:
        """Return [f2; f3] projected and resized to the working grid, and f4; ``features`` is emptied to free memory."""
        stages = features.stage
        low, mid = stages.pop(LOW), stages.pop(MID)
        x = project(torch.cat([resize(low, mid.shape[-2:]), mid], dim=1))
        return resize(x, (self.settings.grid, self.settings.grid)), stages.pop(HIGH)

    # --- the engine's questions --------------------------------------------------------------------------------------

    def frozen(self) -> Iterator[nn.Module]:
        """Yield the encoder, and the parts of the last block that exist only for checkpoints."""
        yield from self.frozen_encoder()
        yield from self.attend.idle()

    def param_groups(self) -> list[ParamGroup]:
        """Return two groups for two optimisers: convolutions, and attention with its norms."""
        attention = [p for p in self.attend.parameters() if p.requires_grad]
        inside = {id(p) for p in attention}
        others = [p for p in self.beside_encoder() if id(p) not in inside]
        attention_group = ParamGroup("attention", attention, optimizer="attention")
        return [ParamGroup("convolutions", others), attention_group, *self.encoder_group()]
