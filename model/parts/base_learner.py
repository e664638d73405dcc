"""The base learner (BAM): a PSPNet head that segments the base classes, and the stage that trains it with the encoder.

Its predictions show where the novel class is not: at positions that belong to a base class.
"""

from collections.abc import Iterator
from itertools import product
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.contract import ParamGroup, Trainable
from model.encoders.encoder import Encoder
from model.episode import LabelledImages, Output
from model.parts.layers import HEAD_DROPOUT
from model.parts.loss import mask_loss
from model.tensors.object_windows import Positions, shapes_are_fixed
from model.tensors.ops import bin_means, logits_at, resize

PYRAMID_BINS = (1, 2, 3, 6)
HEAD_CHANNELS = 512


class BinMeans(nn.Module):
    """The means of a map over a grid of bins."""

    def __init__(self, bins: int):
        super().__init__()
        self.bins = bins

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Return (B, C, bins, bins)."""
        return bin_means(x_bchw, (self.bins, self.bins))


class BaseLearner(nn.Module):
    """Pyramid pooling and a classifier on the encoder's last stage."""

    def __init__(self, channels: int, base_classes: int):
        super().__init__()
        self.quarter = quarter = channels // len(PYRAMID_BINS)
        self.pyramid = nn.ModuleList(
            nn.Sequential(
                BinMeans(bins),
                nn.Conv2d(channels, quarter, 1, bias=False),
                nn.BatchNorm2d(quarter),
                nn.ReLU(inplace=True),
            )
            for bins in PYRAMID_BINS
        )
        self.classify = nn.Sequential(
            nn.Conv2d(2 * channels, HEAD_CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(HEAD_CHANNELS),
            nn.ReLU(),  # not in place: models read its input
            nn.Dropout2d(HEAD_DROPOUT),
            nn.Conv2d(HEAD_CHANNELS, base_classes + 1, 1),
        )

    def forward(self, f4_bchw: Tensor) -> Tensor:
        """Return base logits (B, N + 1, H, W), channel 0 background, from the last stage's output."""
        return self.logits(self.hidden(f4_bchw))

    def hidden(self, f4_bchw: Tensor) -> Tensor:
        """Return h5, the output of the classifier's 3x3 convolution and norm before the ReLU, (B, 512, H, W).

        Of its input [f4; upsampled pyramid levels] the levels have 50 cells in all, on which their half is computed.
        """
        total = F.conv2d(f4_bchw, self._kernels()[0], padding=1)
        return self.classify[1](total + self._of_pyramid(f4_bchw))

    def hidden_at(self, f4_bchw: Tensor, positions: Positions) -> Tensor:
        """Return h5 at n positions alone, (n, 512), image by image, at a cost that grows with n."""
        if shapes_are_fixed():
            return torch.cat(positions.rows(self.hidden(f4_bchw).flatten(2).transpose(1, 2)))
        height, width = f4_bchw.shape[-2:]
        rows = f4_bchw.permute(0, 2, 3, 1).flatten(0, 2)  # (B H W, C)
        image, position = positions.flat // (height * width), positions.flat % (height * width)
        y, x = position // width, position % width
        total = self._of_pyramid(f4_bchw)[image, :, y, x].float()  # (n, 512)
        offsets = product((-1, 0, 1), repeat=2)
        for weight, (down, right) in zip(self._kernels()[0].flatten(2).unbind(2), offsets, strict=True):
            near_y, near_x = y + down, x + right
            inside = (near_y >= 0) & (near_y < height) & (near_x >= 0) & (near_x < width)
            near = rows[(image * height + near_y.clamp(0, height - 1)) * width + near_x.clamp(0, width - 1)]
            total += F.linear(near * inside.unsqueeze(1), weight)
        return self.classify[1](total[:, :, None, None])[:, :, 0, 0]

    def logits(self, hidden_bchw: Tensor) -> Tensor:
        """Return base logits (B, N + 1, H, W) from h5."""
        return self.classify[2:](hidden_bchw)

    def _kernels(self) -> tuple[Tensor, ...]:
        """Return the parts of the 3x3 kernel that apply to f4 itself and to the pyramid, (512, C, 3, 3) each."""
        return cast(nn.Conv2d, self.classify[0]).weight.chunk(2, dim=1)

    def _of_pyramid(self, f4_bchw: Tensor) -> Tensor:
        """Return the 3x3 convolution of the upsampled pyramid levels, (B, 512, H, W), without the upsampled maps.

        With U (cells, L) the bilinear weights and U_t their shift by the kernel's offset t, it is sum_t W_t cells U_t:
        two small products instead of a convolution over L positions.
        """
        mixed = []  # of each level (B, 512, cells, offsets)
        shifts = []  # of each level (cells, offsets, L)
        size, weights = f4_bchw.shape[-2:], self._kernels()[1].split(self.quarter, dim=1)
        for level, weight_oc33 in zip(self.pyramid, weights, strict=True):
            cells = level(f4_bchw)
            one_hot = torch.eye(cells[0, 0].numel(), device=cells.device).view(-1, 1, *cells.shape[2:])
            shifts.append(F.unfold(resize(one_hot, size), 3, padding=1))
            mixed.append(torch.einsum("bcn,oct->bont", cells.flatten(2), weight_oc33.flatten(2)))
        mixed_bko = torch.cat(mixed, dim=2).flatten(2).transpose(1, 2)
        shifts_lk = torch.cat(shifts).flatten(0, 1).T.to(mixed_bko.dtype)
        product_blo = torch.bmm(shifts_lk.expand(len(mixed_bko), -1, -1), mixed_bko)
        return product_blo.transpose(1, 2).unflatten(2, tuple(size))


class BaseStage(Trainable):
    """The first training stage: encoder, but for its first ``frozen_stages``, and base learner on base classes."""

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
        """Return the encoder's learnable stages (learning-rate factor 1) and the head (``head_lr_factor``)."""
        encoder = [p for p in self.encoder.parameters() if p.requires_grad]
        head = ParamGroup("head", list(self.base_learner.parameters()), factor=self.head_lr_factor)
        return [ParamGroup("encoder", encoder), head] if encoder else [head]

    def forward(self, batch: LabelledImages) -> Output:
        """Return logits (B, N + 1, S, S) and in training the cross-entropy ``main``."""
        features = self.encoder(self.encoder.normalise(batch.image))
        logits = logits_at(self.base_learner(features.stage[self.encoder.last_stage]), batch.image.shape[-2:])
        losses = {"main": mask_loss(logits, batch.label)} if self.training else {}
        return Output(logits, losses=losses)
