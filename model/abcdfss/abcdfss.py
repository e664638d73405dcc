"""ABCDFSS: fit a small head on each level of an ImageNet encoder to the episode's images, then compare densely.

Nothing is trained beforehand. Read ``ABCDFSS.support`` and ``ABCDFSS.predict_classes``.
Source: Herzog, Adapt Before Comparison: A New Perspective on Cross-Domain Few-Shot Segmentation, CVPR 2024
(arXiv 2402.17614), without its optional conditional random field; the shears are drawn once, there for each class.

z = w2 relu(norm(w1 x)) is the head of a level, u its output at length 1. Of an image, o is u of the sheared map, t is u
of the sheared image's map: position i of both shows the same place. A fit minimises, for query and supports,

    mean_i(-o_i t_i / 0.5 + log sum_j exp(o_i t_j / 0.5)) + |mean o - mean t| + |var o - var t|

and, for the supports' object f and background b, -log(e^cos(f_o, f_t) / (e^cos(f_o, f_t) + e^cos(f_o, b_t))). Ignored
pixels, and those that a shear brings in, are background.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.contract import Episode, Output, Shot, Task, WithEncoderSettings, competing, register
from model.encoders.variant import EncoderVariant
from model.method import HIGH, Maps, Method, Wants
from model.tensors.cells import resize_cells
from model.tensors.mask import Mask
from model.tensors.ops import in_float32
from model.tensors.transfers import to_cpu, to_device

RATE = 0.01  # learning rate of a head
VIEWS = 2  # sheared ones of each image
DEGREES = 20  # largest shear along each axis
SEED = 2  # of the shears
WIDTH = 64  # channels of a head
TEMPERATURE = 0.5  # of the contrast
EPS = 1e-8  # added to the sum of a mask
LEVELS = 256  # bins of its histogram


@dataclass
class ABCDFSSSettings(WithEncoderSettings):
    """ABCDFSS's settings."""

    steps: int = field(default=25, metadata={"low": 0})  # number of SGD steps for each head
    # Number of a map's positions that a step contrasts with all others, drawn for each step; 0: all (published)
    positions: int = field(default=0, metadata={"low": 0})


# Of each block, in the order of the encoder, the maps of n images and of their sheared views, (n, 1 + V, C, h, w).
Levels = list[Tensor]


@dataclass
class ABCDFSSShot(Shot):
    """The maps and masks of n supports."""

    levels: Levels
    mask: Tensor  # of the object, (n, 1, S, S); all else is background


@register("abcdfss")
class ABCDFSS(Method):
    """Heads that are fitted to the query and the supports of each episode; the encoder never learns."""

    Settings = ABCDFSSSettings
    title = "ABCDFSS"
    learns = False
    size_rule = (1, 0)
    # torchvision's ResNet without dilation; all blocks
    wants = Wants(stages=(HIGH,), blocks=True, variant=EncoderVariant(dilation={}, any_width=True))
    settings: ABCDFSSSettings

    def __init__(self, settings: ABCDFSSSettings, task: Task):
        super().__init__(settings, task)
        random = torch.Generator().manual_seed(SEED)
        self.shears = torch.randint(-DEGREES, DEGREES + 1, (VIEWS, 2), generator=random).tolist()

    def support(self, maps: Maps, mask: Mask) -> ABCDFSSShot:
        """Return the maps of n supports in all views, and their masks."""
        return ABCDFSSShot(self._levels(maps), mask.foreground)

    def predict(self, maps: Maps, shots: Sequence[ABCDFSSShot], episode: Episode) -> Output:
        """Return logits (B, 2, S, S): 0, and the score of the object less the threshold of its query."""
        return self.predict_classes(maps, [shots], [episode])

    def predict_classes(
        self, maps: Maps, shots: Sequence[Sequence[ABCDFSSShot]], episodes: Sequence[Episode]
    ) -> Output:
        """Return logits (B, N + 1, S, S) of N classes, each as of ``predict``."""
        query = self._levels(maps)
        outputs = [self._predict(query, *of_class) for of_class in zip(shots, episodes, strict=True)]
        return outputs[0] if len(outputs) == 1 else competing(outputs)

    def _levels(self, maps: Maps) -> Levels:
        """Return the maps of images in all views."""
        views = [maps, *(self.read_normalised(_sheared(maps.images, degrees=shear)) for shear in self.shears)]
        of_views = []
        for view in views:
            of_views.append([block.float() for _, block in view.blocks()])
        return [torch.stack(of_block, dim=1) for of_block in zip(*of_views, strict=True)]

    def _predict(self, query: Levels, shots: Sequence[ABCDFSSShot], episode: Episode) -> Output:
        """Return the logits of one class."""
        size = episode.query.shape[-2:]
        masks = torch.stack([shot.mask for shot in shots], dim=1)  # (B, K, 1, S, S)
        masks_on_cpu, classes = to_cpu([masks, episode.class_id])
        margins = []
        for item, masks_k1ss in enumerate(masks):
            # All that is random depends on the class and the supports' masks alone.
            digests = [zlib.crc32(shot.numpy().tobytes()) for shot in masks_on_cpu[item]]
            seed = sum(digests) + int(classes[item])
            score = self._score(masks_k1ss, _levels_of_item(query, shots, item), seed)
            score_hw = resize_cells(score, size)[0, 0]
            margins.append(score_hw - threshold(score_hw))
        margin = torch.stack(margins)
        return Output(torch.stack([torch.zeros_like(margin), margin], dim=1))

    @in_float32
    def _score(self, masks_k1ss: Tensor, levels: Iterable[Tensor], seed: int) -> Tensor:
        """Return the score of one query on its finest grid, the mean over the levels, (1, 1, h, w).

        Levels are of ``_levels_of_item``.
        """
        random = torch.Generator().manual_seed(seed)
        sheared_masks = torch.stack([_sheared(masks_k1ss, shear) for shear in self.shears])  # (V, K, 1, S, S)
        scores = [self._level_score(maps.unbind(1), masks_k1ss, sheared_masks, random) for maps in levels]
        finest = max(score.shape[-2:] for score in scores)
        return torch.stack([resize_cells(score, finest) for score in scores]).mean(0)

    def _level_score(
        self, views: Sequence[Tensor], masks_k1ss: Tensor, sheared_masks: Tensor, random: torch.Generator
    ) -> Tensor:
        """Return the score of the query by one level, (1, 1, h, w), from maps of the plain images and of their views.

        Maps are (1 + K, C, h, w) each, query first; ``sheared_masks`` are those of the supports, (V, K, 1, S, S).
        """
        plain, *of_views = views
        size = plain.shape[-2:]
        pairs = []
        for shear, of_view in zip(self.shears, of_views):
            pairs.append(torch.stack([_sheared(plain, shear), of_view]))
        small_masks = resize_cells(sheared_masks.flatten(0, 1), size)
        object_vk1l = small_masks.unflatten(0, sheared_masks.shape[:2]).flatten(3)
        masks = torch.cat([object_vk1l, 1 - object_vk1l], dim=2)  # what a shear brings in is background
        head = self._fit(torch.stack(pairs), masks, random)

        query_1chw, support_kchw = plain.tensor_split([1])
        query_cl = head(query_1chw)[0].flatten(1)
        support_kcl = head(support_kchw).flatten(2)
        inside = resize_cells(masks_k1ss, size).flatten()  # (K L,)
        key_cm = support_kcl.transpose(0, 1).flatten(1)  # all shots in one row
        scores = query_cl.T @ key_cm / WIDTH**0.5
        attention = torch.softmax(scores, dim=1)  # (L, K L)
        return (attention @ inside).view(1, 1, *size)

    @torch.inference_mode(False)
    @torch.enable_grad()
    def _fit(self, pairs: Tensor, masks: Tensor, random: torch.Generator) -> nn.Sequential:
        """Return the fitted head of one level.

        ``pairs`` are of each view the sheared map and the sheared image's map, (V, 2, 1 + K, C, h, w), query first;
        ``masks`` object and background of the sheared supports, (V, K, 2, L).
        """
        pairs = pairs.clone()
        masks = masks.clone()
        head = _new_head(pairs.shape[3], random, pairs.device)
        optimizer = torch.optim.SGD(head.parameters(), RATE)
        for positions in self._positions_of_steps(masks.shape[3], random, pairs.device):
            loss = pairs.new_zeros(())
            for images in (slice(0, 1), slice(1, None)):  # the query, then the supports
                maps = (pairs[:, side, images].flatten(0, 1) for side in (0, 1))
                o, t = (F.normalize(head(x).flatten(2), dim=1) for x in maps)  # (V n, 64, L)
                loss = loss + contrast_loss(o, t, positions) + statistics_loss(o, t)
            loss = loss + prototype_loss(o, t, masks)  # of the supports
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return head

    def _positions_of_steps(self, count: int, random: torch.Generator, device: torch.device) -> list[Tensor]:
        """Return the positions of each step's contrast, of ``count``: all, or as many as the settings say, drawn."""
        steps, drawn_count = self.settings.steps, self.settings.positions
        if not 0 < drawn_count < count:
            return [torch.arange(count, device=device)] * steps
        if not steps:
            return []
        drawn = [torch.randperm(count, generator=random)[:drawn_count] for _ in range(steps)]
        return list(to_device(torch.stack(drawn), device))


def _levels_of_item(query: Levels, shots: Sequence[ABCDFSSShot], item: int) -> Iterator[Tensor]:
    """Yield the maps of one query and its supports, (1 + K, 1 + V, C, h, w), query first, of one block at a time."""
    for level, of_query in enumerate(query):
        of_shots = [shot.levels[level][item] for shot in shots]
        yield torch.stack([of_query[item], *of_shots])


def _new_head(channels: int, random: torch.Generator, device: torch.device) -> nn.Sequential:
    """Return a head whose weights are drawn as torch would, by this episode's generator."""
    w1, w2 = (nn.utils.skip_init(nn.Conv2d, width, WIDTH, 1, device=device) for width in (channels, WIDTH))
    for conv in (w1, w2):
        count = WIDTH * (conv.in_channels + 1)
        uniform = 2 * torch.rand(count, generator=random) - 1
        values = uniform / conv.in_channels**0.5
        nn.utils.vector_to_parameters(to_device(values, device), conv.parameters())
    # It has the statistics of the maps that it sees, in prediction too.
    norm = nn.BatchNorm2d(WIDTH, track_running_stats=False, device=device)
    return nn.Sequential(w1, norm, nn.ReLU(), w2)


def contrast_loss(o: Tensor, t: Tensor, positions: Tensor) -> Tensor:
    """Return the contrast of some positions of maps o with all positions of maps t, (V n, 64, L) of unit length."""
    contrasted = o[..., positions].transpose(1, 2)
    similarity = contrasted @ t / TEMPERATURE  # (V n, i, j)
    own_position = positions.repeat(len(o))
    return F.cross_entropy(similarity.flatten(0, 1), own_position)


def statistics_loss(o: Tensor, t: Tensor) -> Tensor:
    """Return how far means and variances of maps (V n, 64, L) are apart."""
    return F.l1_loss(o.mean(2), t.mean(2)) + F.l1_loss(o.var(2), t.var(2))


def prototype_loss(o: Tensor, t: Tensor, masks_vksl: Tensor) -> Tensor:
    """Return the contrast of the prototypes of supports' maps (V K, 64, L); masks s are of object and background."""
    total_vs1 = masks_vksl.sum((1, 3)).unsqueeze(2) + EPS
    prototypes = []
    for x in (o, t):
        of_shots = x.unflatten(0, masks_vksl.shape[:2])
        sum_vsc = torch.einsum("vkcl,vksl->vsc", of_shots, masks_vksl)
        prototypes.append(sum_vsc / total_vs1)
    o_vsc, t_vsc = prototypes
    same, other = (F.cosine_similarity(o_vsc[:, 0], t_vsc[:, side], dim=1) for side in (0, 1))
    return F.softplus(other - same).mean()


def _sheared(x: Tensor, degrees: list[float]) -> Tensor:
    """Return maps (n, C, H, W) sheared along x and y, by the nearest position; 0 comes in from outside."""
    sources = _sources(*x.shape[-2:], *degrees, x.device)
    padded = F.pad(x.flatten(2), (1, 0))
    return padded.index_select(2, sources).view_as(x)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _sources(height: int, width: int, along_x: float, along_y: float, device: torch.device) -> Tensor:
    """Return the position, from 1 on, that every position of a sheared map has its value from, (H W,); 0: outside."""
    from torchvision.transforms.functional import affine

    number = torch.arange(1, height * width + 1, dtype=torch.float32).view(1, 1, height, width)
    sheared = affine(number, angle=0, translate=[0, 0], scale=1, shear=[along_x, along_y])
    return to_device(sheared.flatten().long(), device)


def threshold(score_hw: Tensor) -> Tensor:
    """Return Otsu's threshold over values above 5 % of a map's range, at least its mean; a constant map's value."""
    low = score_hw.min()
    high = score_hw.max()
    spread = (high - low).clamp(min=torch.finfo(low.dtype).tiny)  # 0 for a constant map, which is level 0 everywhere
    share_hw = (score_hw - low) / spread
    level = (share_hw * (LEVELS - 1)).long().flatten()
    count = score_hw.new_zeros(LEVELS, dtype=torch.float64)
    count.scatter_add_(0, level, torch.ones_like(level).double())
    count[:12] = 0  # of 0..255: 5 %
    share = count / count.sum()
    below = share.cumsum(0)
    levels = torch.arange(LEVELS, device=share.device)
    moment = (share * levels).cumsum(0)
    weight = (below * (1 - below)).clamp(min=EPS)
    apart = moment[-1] * below - moment
    between = apart.square() / weight  # variance of two parts
    best = between.argmax() / (LEVELS - 1)
    otsu = best * (high - low) + low
    return torch.where(low == high, high, torch.maximum(otsu, score_hw.mean()))
