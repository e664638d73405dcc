"""HSNet: correlate query and support at many depths, and squeeze the 4D correlations to a mask.

Read ``HSNet.support`` and ``HSNet.predict``; ``squeeze.py`` has the correlations. Levels 2 to 4 are the
encoder's stages.

Shape letters: B queries, K shots, n supports, m positions, C channels, h w a level's grid, S image side.
Source: Min, Kang and Cho, Hypercorrelation Squeeze for Few-Shot Segmentation, ICCV 2021 (arXiv 2104.01538).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.contract import Episode, Output, Shot, Task, register
from model.encode import Maps, Method, Wants, joined_on_gpu
from model.encoders.registry import PYRAMID
from model.encoders.variant import EncoderVariant
from model.hsnet.published import LAYOUT
from model.hsnet.squeeze import STRIDES, WIDTHS, HypercorrelationSqueeze, object_unit, row_numbers, unit
from model.parts.layers import two_convolutions
from model.parts.loss import mask_loss
from model.parts.with_encoder import HIGH, LOW, MID, WithEncoderSettings
from model.tensors.mask import Mask
from model.tensors.ops import by_shot, resize

VGG = "vgg16"
VGG_STRIDES = {LOW: 8, MID: 16, HIGH: 32}  # of its levels, whose grids need not fit together: pools round down


@dataclass
class HSNetSettings(WithEncoderSettings):
    """HSNet's own settings."""

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, problem and remedy) if VGG's levels squeeze to different grids; a ResNet's never do."""
        if self.encoder.backbone != VGG or _vgg_takes(size):
            return None
        sizes = filter(_vgg_takes, range(2 * size + 200))
        nearest = min(sizes, key=lambda side: abs(side - size))
        return "encoder", f"= {VGG} squeezes its levels to different grids at data.size {size}; nearest size: {nearest}"


@dataclass
class HSNetShot(Shot):
    """The objects of n supports."""

    # Level -> of each block s_j / |s_j| at the object's positions, (n, m, C), zeros where an object has fewer than m.
    directions: dict[int, list[Tensor]]
    rows: dict[int, Tensor]  # level -> the number of each position's direction, from 1, (n, h, w); 0: no object


@register("hsnet")
class HSNet(Method):
    """Hypercorrelation squeeze. Weights serve any number of shots: each shot predicts alone, and they vote."""

    Settings = HSNetSettings
    title = "HSNet"
    protocol = "hsnet"
    published = LAYOUT
    grids = PYRAMID  # each level's is coarser than the one before
    stride = 32  # of the last level
    size_rule = (1, 0)  # every image side
    variant = EncoderVariant(dilation={}, batch_norm=False)  # torchvision's networks
    wants = Wants(stages=(HIGH,), blocks=True)  # the blocks alone, up to level 4
    shots_share_weights = True

    def __init__(self, settings: HSNetSettings, task: Task):
        super().__init__(settings, task)
        self.squeeze = HypercorrelationSqueeze(self.encoder.intermediate_counts)
        self.decoder = Decoder()
        self.freeze()

    def support(self, maps: Maps, mask: Mask) -> HSNetShot:
        """Return the objects of n supports at every block of levels 2 to 4."""
        directions: dict[int, list[Tensor]] = {LOW: [], MID: [], HIGH: []}
        rows: dict[int, Tensor] = {}
        for level, block in maps.blocks():
            directions[level].append(object_unit(block, mask))
            rows[level] = row_numbers(mask, block.shape[-2:])
        return HSNetShot(directions, rows)

    def predict(self, maps: Maps, shots: Sequence[HSNetShot], episode: Episode) -> Output:
        """Return logits (B, 2, S, S), with K > 1 of ``vote`` and its map ``votes``; in training each shot's loss."""
        query: dict[int, list[Tensor]] = {LOW: [], MID: [], HIGH: []}  # level -> of each block q / |q|, (B, C, h, w)
        for level, block in maps.blocks():
            query[level].append(unit(block.float(), dim=1))

        # Every shot by itself: the 4D correlations max(0, q . s) of all levels, squeezed over the support, and decoded.
        shot_logits = []  # of n supports, one shot's B or all K B, (n, 2, S, S)
        for shot in joined_on_gpu(shots, episode):
            squeezed = self.squeeze(query, shot.directions, shot.rows)  # (n, 128, h_2, w_2)
            decoded = self.decoder(squeezed, episode.query.shape[-2:])
            shot_logits.append(decoded.float())
        logits = torch.cat(shot_logits)  # shot after shot, (K B, 2, S, S)

        losses = {}
        if self.training:  # pixels to ignore count as background in the target, as in the supports
            is_object = (episode.query_label == 1).repeat(len(shots), 1, 1)  # (K B, S, S)
            losses = {"main": mask_loss(logits, is_object)}
        if len(shots) == 1:
            return Output(logits, losses=losses)
        voted, votes = vote(by_shot(logits, len(episode.query)))
        return Output(voted, maps={"votes": votes / len(shots)}, losses=losses)


class Decoder(nn.Module):
    """From the squeezed correlation to logits, on twice its grid; no features of the image enter."""

    def __init__(self) -> None:
        super().__init__()
        middle, width = WIDTHS[-2:]
        self.coarse = nn.Sequential(*two_convolutions(width, width, middle), nn.ReLU(inplace=True))
        self.fine = nn.Sequential(*two_convolutions(middle, middle, 2))

    def forward(self, x_bchw: Tensor, size: Sequence[int]) -> Tensor:
        """Return logits (B, 2, *size), background first."""
        x = self.coarse(x_bchw)
        twice = [2 * side for side in x.shape[-2:]]
        larger = resize(x, twice)
        return resize(self.fine(larger), size)


def vote(shot_logits_bk2hw: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (B, 2, H, W) whose larger channel is the voted class, and the votes (B, H, W) int64.

    Half of the image's largest number of votes, at least one, make a pixel foreground. As published, the measure is the
    largest number in this image and not K: with 2 of 5 votes at most, one is enough. The vote alone decides; pixels
    with equal votes are ranked by the shots' mean foreground probability, which is below 1 and makes no tie possible.
    """
    background, foreground = shot_logits_bk2hw.unbind(2)
    votes = (foreground > background).long().sum(1)  # (B, H, W)
    most = votes.flatten(1).amax(1).clamp(min=1)
    needed = (0.5 * most).ceil().long()  # (B,)
    probability = shot_logits_bk2hw.float().softmax(2)[:, :, 1].mean(1)  # (B, H, W)
    margin = votes - needed[:, None, None] + probability
    return torch.stack([torch.zeros_like(margin), margin], dim=1), votes


def _vgg_takes(size: int) -> bool:
    """Return whether the supports of all of VGG's levels are squeezed to the same side, at least 1."""
    sides = set()
    for level, stride in VGG_STRIDES.items():
        side = size // stride
        for step in STRIDES[level]:
            side = -(-side // step)
        sides.add(side)
    return len(sides) == 1 and 0 not in sides
