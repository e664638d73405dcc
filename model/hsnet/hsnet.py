"""HSNet: correlate query and support at many depths, and squeeze the 4D correlations to a mask.

Read ``HSNet.support`` and ``HSNet.predict``. Levels 2 to 4 are the stages of the encoder, which is frozen. A level
stacks the correlations of its t blocks as channels: C_l (n, t, R, R', h, w), the support's dimensions first. A position
outside the support's mask correlates with nothing, so C_l is 0 there; only the window around the object is computed,
never the whole. In plain form, of normalised maps q (B, C, h, w) and s (B, C, R, R') with mask m:

    masked = s * m                                             # (B, C, R, R')
    cosine = einsum("bcxy,bcij->bxyij", masked, q)             # of one block, (B, R, R', h, w)
    C_l = stack([cosine of each block], dim=1).clamp(min=0)    # (B, t, R, R', h, w)

4D convolutions reduce the support's dimensions of each level from R, R' to r, r', then mix the levels.

Shape letters: B queries, K shots, n supports (the B of one shot, or all K B), t blocks of a level, m positions of an
object, C channels, R R' the support's grid or a window of it, r r' what strides leave, h w the query's, S image side.
Source: Min, Kang and Cho, Hypercorrelation Squeeze for Few-Shot Segmentation, ICCV 2021 (arXiv 2104.01538).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from model.contract import Episode, Output, Shot, Task, register
from model.hsnet.published import LAYOUT
from model.hsnet.settings import STRIDES, VARIANT, HSNetSettings
from model.method import HIGH, LOW, MID, PYRAMID, Maps, Method, Wants, of_each_shot
from model.parts.conv4d import CentrePivotConv4d
from model.parts.layers import two_convolutions
from model.parts.loss import mask_loss
from model.tensors.mask import Mask, touched
from model.tensors.ops import in_float32, resize
from model.tensors.windows import known_spans

WIDTHS = (16, 64, 128)  # channels after each convolution of a level
GROUPS = 4  # of every group norm, over channels and all four position dimensions
KERNELS = {HIGH: (3, 3, 3), MID: (5, 3, 3), LOW: (5, 5, 3)}  # level -> sides of its kernels, with ``STRIDES``
NORM_EPS = 1e-5  # added to the norm of a position


@dataclass
class HSNetShot(Shot):
    """The objects of n supports."""

    # Level -> s_j / |s_j| of each block at the object's positions j, (n, m, C), zeros where an object has fewer than m.
    directions: dict[int, list[Tensor]]
    row_of: dict[int, Tensor]  # level -> each position's row in ``directions``, from 1, (n, R, R'); 0: no object


@register("hsnet")
class HSNet(Method):
    """Hypercorrelation squeeze. Weights serve any number of shots: each shot predicts alone, and they vote."""

    Settings = HSNetSettings
    title = "HSNet"
    protocol = "hsnet"
    published = LAYOUT
    # The blocks alone, up to level 4; each level's grid is coarser than the one before.
    wants = Wants(stages=(HIGH,), blocks=True, grids=PYRAMID, variant=VARIANT)
    size_rule = (1, 0)  # every image side
    shots_share_weights = True

    def __init__(self, settings: HSNetSettings, task: Task):
        super().__init__(settings, task)
        self.squeeze = HypercorrelationSqueeze(self.encoder.intermediate_counts)
        self.decoder = Decoder()

    def support(self, maps: Maps, mask: Mask) -> HSNetShot:
        """Return the objects of n supports at every block of levels 2 to 4."""
        directions: dict[int, list[Tensor]] = {LOW: [], MID: [], HIGH: []}
        row_of: dict[int, Tensor] = {}
        for level, block in maps.blocks():  # (n, C, R, R')
            directions[level].append(object_unit(block, mask))
            grid = block.shape[-2:]  # the same for all blocks of a level
            row_of[level] = mask.positions(grid, touched).row_of.unflatten(1, grid)
        return HSNetShot(directions, row_of)

    def predict(self, maps: Maps, shots: Sequence[HSNetShot], episode: Episode) -> Output:
        """Return logits (B, 2, S, S), with K > 1 of ``vote``, and votes / K as map ``votes``; in training the loss."""
        query: dict[int, list[Tensor]] = {LOW: [], MID: [], HIGH: []}  # level -> q / |q| of each block, (B, C, h, w)
        for level, block in maps.blocks():
            query[level].append(unit(block, dim=1).to(block.dtype))

        # Every shot by itself: the 4D correlations max(0, q . s) of all levels, squeezed over the support, and decoded.
        def logits_of(shot: HSNetShot) -> Tensor:
            squeezed = self.squeeze(query, shot.directions, shot.row_of)  # (n, 128, h_2, w_2)
            return self.decoder(squeezed, episode.query.shape[-2:]).float()  # (n, 2, S, S)

        logits = of_each_shot(logits_of, shots, len(episode.query))  # (B, K, 2, S, S)

        losses = {}
        if self.training:  # pixels to ignore count as background in the target, as in the supports
            is_object = (episode.query_label == 1).repeat(len(shots), 1, 1)  # (K B, S, S)
            losses = {"main": mask_loss(logits.transpose(0, 1).flatten(0, 1), is_object)}
        if len(shots) == 1:
            return Output(logits[:, 0], losses=losses, image_losses=(*losses,))
        voted, votes = vote(logits)
        return Output(voted, pictures={"votes": votes / len(shots)}, losses=losses, image_losses=(*losses,))


@in_float32
def unit(feature: Tensor, dim: int) -> Tensor:
    """Return features whose vectors along ``dim`` have length 1, in float32."""
    return feature / (torch.linalg.vector_norm(feature, dim=dim, keepdim=True) + NORM_EPS)


def object_unit(support_nchw: Tensor, mask: Mask) -> Tensor:
    """Return the normalised features of n supports at the positions of their objects, (n, m, C) as the map's."""
    size = support_nchw.shape[-2:]
    positions = mask.positions(size, touched)
    feature = positions.padded(support_nchw.flatten(2).transpose(1, 2))  # (n, m, C)
    share = positions.padded(mask.on(size).flatten(2).transpose(1, 2))  # of the object in a cell, (n, m, 1)
    # As published; the share cancels: cells in part on the object count in full
    return unit(feature * share, dim=2).to(feature.dtype)


@torch.no_grad()
def clamped_cosines(query_bchw: Tensor, support_nlc: Tensor) -> Tensor:
    """Return max(0, q . s) of normalised features, (n, l, h, w), without gradient.

    The n supports, of one shot or more, come shot after shot, each with l positions.
    """
    by_query = support_nlc.unflatten(0, (-1, len(query_bchw)))  # (n / B, B, l, C)
    cosine = torch.matmul(by_query, query_bchw.flatten(2)).flatten(0, 1)  # (n, l, h w)
    return cosine.relu_().unflatten(2, query_bchw.shape[-2:])


def _block(channels: int, width: int, kernel: int, stride: int) -> list[nn.Module]:
    """Return a 4D convolution, its norm and a ReLU."""
    convolution = CentrePivotConv4d(channels, width, kernel, stride, bias=True)
    return [convolution, nn.GroupNorm(GROUPS, width), nn.ReLU(inplace=True)]


class Squeeze(nn.Module):
    """Squeeze level 2, 3 or 4 of t blocks: C_l (n, t, R, R', h, w) to Z_l (n, 128, r, r', h, w)."""

    def __init__(self, level: int, count: int):
        super().__init__()
        self.blocks = nn.Sequential()
        channels = count
        for width, kernel, stride in zip(WIDTHS, KERNELS[level], STRIDES[level]):
            self.blocks.extend(_block(channels, width, kernel, stride))
            channels = width

    def forward(self, queries: list[Tensor], supports: list[Tensor], row_of: Tensor, spans: list[list[int]]) -> Tensor:
        """Return Z_l from the normalised features of each block: t of (B, C, h, w), and of objects t of (n, m, C).

        ``row_of`` (n, R, R') is that of ``HSNetShot``; ``spans`` are the objects' first and last rows and columns.
        """
        first = cast(CentrePivotConv4d, self.blocks[0])
        pairs = zip(queries, supports, strict=True)
        convolved = first.around_objects(clamped_cosines, pairs, row_of, spans)  # of C_l, (n, 16, r, r', h, w)
        return self.blocks[1:](convolved)


class Mix(nn.Sequential):
    """Merge the coarser level into a finer one with the same r, r': U(coarse) + fine, then three 4D blocks."""

    def __init__(self) -> None:
        super().__init__()
        width = WIDTHS[-1]
        for _ in range(3):
            self.extend(_block(width, width, kernel=3, stride=1))

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:  # type: ignore[override]  # takes two maps
        """Return (n, 128, r, r', h, w); U resizes the query's dimensions of ``coarse``, for each support position."""
        resized = resize(coarse.flatten(0, 2), fine.shape[-2:])  # (n 128 r, r', h, w)
        mixed: Tensor = super().forward(resized.view_as(fine) + fine)  # type: ignore[no-untyped-call]
        return mixed


class HypercorrelationSqueeze(nn.Module):
    """All levels, from the deepest to the shallowest; ``counts`` are the levels' numbers of blocks, t."""

    def __init__(self, counts: dict[int, int]):
        super().__init__()
        self.levels = nn.ModuleDict({str(level): Squeeze(level, counts[level]) for level in (HIGH, MID, LOW)})
        self.mix = nn.ModuleDict({str(level): Mix() for level in (MID, LOW)})

    def forward(
        self, query: dict[int, list[Tensor]], support: dict[int, list[Tensor]], row_of: dict[int, Tensor]
    ) -> Tensor:
        """Return the mean over the support's positions, (n, 128, h_2, w_2), of level -> normalised features."""
        levels = (HIGH, MID, LOW)
        spans = known_spans([row_of[level].unsqueeze(1) for level in levels])  # of each level's objects
        squeezed = {}  # Z_4, Z_3, Z_2
        for level, of_level in zip(levels, spans, strict=True):
            squeeze = self.levels[str(level)]
            squeezed[level] = squeeze(query[level], support[level], row_of[level], of_level)
        x = self.mix[str(MID)](squeezed[HIGH], squeezed[MID])
        x = self.mix[str(LOW)](x, squeezed[LOW])
        return x.mean((2, 3))


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
