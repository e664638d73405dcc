"""The base learner: a PSPNet head that finds the base classes, and the stage that trains it with the encoder.

Sym-Net follows BAM here: a model that knows what it was trained on can say where the novel class is *not*.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.contract import LabelledImages, Output, ParamGroup, Trainable
from model.encoder import Encoder
from model.loss import cross_entropy
from model.ops import normalise, resize

PYRAMID_BINS = (1, 2, 3, 6)
HEAD_CHANNELS = 512
HEAD_DROPOUT = 0.1


class BaseLearner(nn.Module):
    """Pyramid pooling and a classifier on the encoder's last stage."""

    def __init__(self, channels: int, base_classes: int):
        super().__init__()
        self.quarter = quarter = channels // len(PYRAMID_BINS)
        self.pyramid = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(bins),
                nn.Conv2d(channels, quarter, 1, bias=False),
                nn.BatchNorm2d(quarter),
                nn.ReLU(inplace=True),
            )
            for bins in PYRAMID_BINS
        )
        self.classify = nn.Sequential(
            nn.Conv2d(2 * channels, HEAD_CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(HEAD_CHANNELS),
            nn.ReLU(inplace=True),
            nn.Dropout2d(HEAD_DROPOUT),
            nn.Conv2d(HEAD_CHANNELS, base_classes + 1, 1),
        )

    def forward(self, f4_bchw: Tensor) -> Tensor:
        """Return base logits (B, N + 1, H, W), channel 0 background, from the last stage's output.

        The classifier's first 3x3 convolution reads [f4; upsampled pyramid levels]. It is linear, and the levels hold
        only 50 cells in all, so their half of it is computed on the cells: a quarter less time for the whole stage.
        """
        conv, *rest = self.classify
        own, *pyramid = conv.weight.split([f4_bchw.shape[1], *[self.quarter] * len(PYRAMID_BINS)], dim=1)
        x = F.conv2d(f4_bchw, own, padding=conv.padding)
        for level, weight in zip(self.pyramid, pyramid, strict=True):
            x = x + _convolve_upsampled(level(f4_bchw), weight, x.shape[-2:])
        for layer in rest:
            x = layer(x)
        return x


def _convolve_upsampled(cells_bchw: Tensor, weight_oc33: Tensor, size: tuple[int, int]) -> Tensor:
    """Return conv2d(resize(cells, size), weight, padding=1) without the upsampled map.

    With U (cells, L) the bilinear weights and U_t their shift under kernel tap t, the result is
    sum_t W_t cells U_t: two small products instead of a convolution over L positions.
    """
    height, width = cells_bchw.shape[2:]
    one_hot = torch.eye(height * width, device=cells_bchw.device).view(-1, 1, height, width)
    shifted = F.unfold(resize(one_hot, size), weight_oc33.shape[-2:], padding=1)  # (cells, taps, L)
    mixed = torch.einsum("oct,bcn->bont", weight_oc33.flatten(2), cells_bchw.flatten(2))
    return (mixed.flatten(2) @ shifted.flatten(0, 1).to(mixed.dtype)).unflatten(2, tuple(size))


class BaseStage(Trainable):
    """The first stage: encoder and base learner trained together on the fold's base classes.

    ``frozen_stages`` counts the encoder stages, from the stem on, that keep their ImageNet weights.
    """

    def __init__(self, encoder: Encoder, base_learner: BaseLearner, frozen_stages: int, head_lr_factor: float):
        super().__init__()
        self.encoder, self.base_learner = encoder, base_learner
        self.frozen_stages, self.head_lr_factor = frozen_stages, head_lr_factor
        self.requires_grad_(True)
        self.freeze()

    def frozen(self) -> Iterator[nn.Module]:
        """Yield the encoder stages that do not learn."""
        yield from self.encoder.stages()[: self.frozen_stages]

    def param_groups(self) -> list[ParamGroup]:
        """Return the encoder's learning stages (factor 1) and the head (a factor of its own)."""
        encoder = [p for p in self.encoder.parameters() if p.requires_grad]
        head = ParamGroup("head", list(self.base_learner.parameters()), factor=self.head_lr_factor)
        return [ParamGroup("encoder", encoder), head] if encoder else [head]

    def forward(self, batch: LabelledImages) -> Output:
        """Return logits (B, N + 1, S, S) and in training the cross-entropy ``main``."""
        features = self.encoder(normalise(batch.image))
        logits = resize(self.base_learner(features.stage[self.encoder.last_stage]).float(), batch.image.shape[-2:])
        losses = {"main": cross_entropy(logits, batch.label)} if self.training else {}
        return Output(logits, losses=losses)
