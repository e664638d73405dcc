"""BAM's additions to a meta learner: the base learner, shot weights from scenes, and the ensemble of both learners.

The base learner is a PSPNet head that segments the base classes: its predictions show where the novel class is not. The
distance between the scenes of query and support weighs the shots. With the base prediction it corrects the meta one.
"""

from typing import cast

import torch
from torch import Tensor, nn

from model.episode import Episode, Output
from model.parts.layers import HEAD_DROPOUT
from model.parts.loss import mask_loss
from model.tensors.mask import Positions
from model.tensors.ops import bin_means, in_float32
from model.tensors.pyramid import convolve, convolve_at

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
        quarter = channels // len(PYRAMID_BINS)
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
            nn.ReLU(),  # not in place: methods read its input
            nn.Dropout2d(HEAD_DROPOUT),
            nn.Conv2d(HEAD_CHANNELS, base_classes + 1, 1),
        )

    def forward(self, f4_bchw: Tensor) -> Tensor:
        """Return base logits (B, N + 1, H, W), channel 0 background, from the last stage's output."""
        return self.logits(self.hidden(f4_bchw))

    def hidden(self, f4_bchw: Tensor) -> Tensor:
        """Return h5, the 3x3 convolution of [f4; upsampled levels] and its norm before the ReLU, (B, 512, H, W)."""
        levels = [level(f4_bchw) for level in self.pyramid]  # (B, C / 4, bins, bins) each
        return self.classify[1](convolve(f4_bchw, levels, self._kernel))

    def hidden_at(self, f4_bchw: Tensor, positions: Positions) -> Tensor:
        """Return h5 at n positions alone, (n, 512), image by image."""
        levels = [level(f4_bchw) for level in self.pyramid]
        rows = convolve_at(f4_bchw, levels, self._kernel, positions)
        return self.classify[1](rows[:, :, None, None])[:, :, 0, 0]

    @property
    def _kernel(self) -> Tensor:
        """The classifier's 3x3 kernel, (512, 2 C, 3, 3)."""
        return cast(nn.Conv2d, self.classify[0]).weight

    def logits(self, hidden_bchw: Tensor) -> Tensor:
        """Return base logits (B, N + 1, H, W) from h5."""
        return self.classify[2:](hidden_bchw)


@torch.no_grad()
@in_float32
def gram(feature_bchw: Tensor) -> Tensor:
    """Return the cosine Gram matrix between channels over positions, (B, C, C)."""
    x_bcl = feature_bchw.flatten(2)
    norm_bc = x_bcl.norm(dim=2)
    products = torch.bmm(x_bcl, x_bcl.transpose(1, 2))
    lengths = norm_bc.unsqueeze(2) * norm_bc.unsqueeze(1)
    return products / (lengths + 1e-7)


@torch.no_grad()
@in_float32
def gram_distance(query_gram_bcc: Tensor, support_gram_bkcc: Tensor) -> Tensor:
    """Return e_k = |G_q - G_k| / C of K shots, (B, K), the distance of low-level statistics."""
    difference = query_gram_bcc.unsqueeze(1) - support_gram_bkcc
    return difference.flatten(2).norm(dim=2) / query_gram_bcc.shape[1]


class ShotWeights(nn.Module):
    """Learned shot weights from the sorted scene distances; a single shot has weight 1 and needs no parameters.

    Each shot gets the weight of its own distance. Unless ``in_shot_order``, shot r gets that of the r-th smallest
    distance, as HDMNet's published checkpoints have it.
    """

    def __init__(self, shots: int, in_shot_order: bool = True):
        super().__init__()
        self.shots, self.in_shot_order = shots, in_shot_order
        if shots > 1:
            self.mix = nn.Sequential(nn.Conv2d(shots, 2, 1), nn.ReLU(inplace=True), nn.Conv2d(2, shots, 1))

    @in_float32
    def forward(self, distance_bk: Tensor) -> Tensor:
        """Return the weights w_k, (B, K) with sum 1, from the distances e_k."""
        if self.shots == 1:
            return torch.ones_like(distance_bk)
        ascending, order = distance_bk.sort(dim=1)
        score = self.mix(ascending[:, :, None, None])[:, :, 0, 0]
        if self.in_shot_order:
            score = torch.zeros_like(score).scatter(1, order, score)
        return score.softmax(dim=1)


class Ensemble(nn.Module):
    """Correct the meta prediction by the scene difference (g) and the probability of base classes."""

    def __init__(self) -> None:
        super().__init__()
        self.scene, self.background = (nn.Conv2d(2, 1, 1, bias=False) for _ in range(2))  # g serves both classes
        for merge in (self.scene, self.background):
            nn.init.dirac_(merge.weight)  # its output is the first map at first

    @in_float32
    def forward(self, meta_b2hw: Tensor, base_bnhw: Tensor, scene_b: Tensor, own_class_b: Tensor | None) -> Tensor:
        """Return final logits (B, 2, h, w) from meta and base logits and the distance of the scenes, (B,).

        ``own_class_b`` is the base channel of the class that is segmented, whose probability suppresses nothing; 0 or
        None: it has none.
        """
        probability = base_bnhw.softmax(dim=1)
        base = probability[:, 1:].sum(1, keepdim=True)  # of any base class, (B, 1, h, w)
        if own_class_b is not None:
            channel = own_class_b.view(-1, 1, 1, 1)
            index = channel.expand(-1, 1, *probability.shape[2:])
            own_class = probability.gather(1, index)
            base = base - own_class * (channel > 0)
        difference = scene_b.view(-1, 1, 1, 1).expand_as(base)
        meta = meta_b2hw.softmax(dim=1).split(1, dim=1)
        meta_background, meta_foreground = (self.scene(torch.cat([x, difference], dim=1)) for x in meta)
        final_background = self.background(torch.cat([meta_background, base], dim=1))
        return torch.cat([final_background, meta_foreground], dim=1)


def cross_entropies(output: Output, episode: Episode) -> dict[str, Tensor]:
    """Return the cross-entropies of a corrected output: of ensemble, meta learner and base learner (BAM)."""
    assert output.base_logits is not None and episode.query_base_label is not None  # ``reads_base_labels``
    return {
        "main": mask_loss(output.logits, episode.query_label),
        "meta": mask_loss(output.extra["meta"], episode.query_label),
        "base": mask_loss(output.base_logits, episode.query_base_label),
    }
