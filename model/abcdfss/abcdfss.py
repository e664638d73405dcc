"""ABCDFSS: fit a small head on each level of an ImageNet encoder to the episode's images, then compare densely.

Nothing is trained beforehand. Read ``ABCDFSS.forward`` first.
Source: Herzog, Adapt Before Comparison: A New Perspective on Cross-Domain Few-Shot Segmentation, CVPR 2024
(arXiv 2402.17614), without its optional conditional random field; the shears are drawn once, there for each class.

z = w2 relu(norm(w1 x)) is the head of a level, u its output at length 1. Of an image, o is u of the sheared map, t is u
of the sheared image's map: position i of both shows the same place. A fit minimises, for query and supports,

    mean_i(-o_i t_i / 0.5 + log sum_j exp(o_i t_j / 0.5)) + |mean o - mean t| + |var o - var t|

and, for the supports' object f and background b, -log(e^cos(f_o, f_t) / (e^cos(f_o, f_t) + e^cos(f_o, b_t))).
"""

import zlib
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.common.ops import background_mask, foreground_mask, resize_cells, to_cpu, to_device
from model.common.presence import presence_features_of_maps
from model.common.with_encoder import GiveOf, WithEncoder, WithEncoderSettings
from model.contract import Episode, Output, Task, register
from model.encoders.encoder import EncoderVariant
from model.encoders.features import Features

VIEWS = 2  # sheared ones of each image
DEGREES = 20  # largest shear along each axis
SEED = 2  # of the shears
WIDTH = 64  # channels of a head
TEMPERATURE = 0.5  # of the contrast
EPS = 1e-8  # added to the sum of a mask
LEVELS = 256  # bins of its histogram


@dataclass
class ABCDFSSSettings(WithEncoderSettings):
    """ABCDFSS's settings; ``config/model/abcdfss.yaml`` explains them."""

    steps: int = field(default=25, metadata={"low": 0})
    rate: float = field(default=0.01, metadata={"low": 0})
    positions: int = field(default=0, metadata={"low": 0})


@register("abcdfss")
class ABCDFSS(WithEncoder):
    """Heads that are fitted to the query and the supports of each episode; the encoder never learns."""

    Settings = ABCDFSSSettings
    title = "ABCDFSS"
    replays = False  # steps depend on values
    learns = False
    stride, size_rule = 32, (1, 0)
    variant = EncoderVariant(dilation={}, any_width=True)  # torchvision's ResNet without dilation; all blocks
    reads_intermediate = True
    never_compiled = ("_score",)
    cannot_export = "its heads are fitted to each episode"
    settings: ABCDFSSSettings

    def __init__(self, settings: ABCDFSSSettings, task: Task):
        super().__init__(settings, task)
        random = torch.Generator().manual_seed(SEED)
        self.shears = torch.randint(-DEGREES, DEGREES + 1, (VIEWS, 2), generator=random).tolist()
        self.freeze()

    def encode_images(self, image_b3hw: Tensor, give: GiveOf | None = None) -> Features:
        """Return the features of images and, as stage 10 v + s, those of stage s of their sheared view v = 1, 2."""
        plain = super().encode_images(image_b3hw, give)
        for view, by in enumerate(self.shears, 1):
            own = super().encode_images(_sheared(image_b3hw, by))
            plain.intermediate |= {10 * view + stage: maps for stage, maps in own.intermediate.items()}
        return plain

    @torch.no_grad()
    def forward(self, episode: Episode) -> Output:
        """Return logits (B, 2, S, S): 0, and the score of the object less the threshold of its query."""
        shots, size, last = episode.support.shape[1], episode.query.shape[-2:], self.encoder.last_stage
        query, support = self.encode(episode)
        masks = torch.cat([foreground_mask(episode.support_label), background_mask(episode.support_label)], dim=2)
        presence_features = presence_features_of_maps(query.stage[last], support.stage[last], masks[:, :, :1])
        margins = []
        with torch.autocast(masks.device.type, enabled=False):
            known, classes = to_cpu([masks, episode.class_id])
            for item, sides in enumerate(masks):
                # All that is random depends on the class and the supports' masks alone.
                seed = sum(zlib.crc32(shot.numpy().tobytes()) for shot in known[item]) + int(classes[item])
                own = query.rows(slice(item, item + 1)), support.rows(slice(item * shots, (item + 1) * shots))
                images = own[0].each(lambda x: x.float()), own[1].each(lambda x: x.float())
                score_hw = resize_cells(self._score(*images, sides, seed), size)[0, 0]
                margins.append(score_hw - threshold(score_hw))
        margin = torch.stack(margins)
        return Output(torch.stack([torch.zeros_like(margin), margin], dim=1), presence_features=presence_features)

    def _score(self, query: Features, support: Features, sides_k2ss: Tensor, seed: int) -> Tensor:
        """Return the score of one query on its finest grid, the mean over the levels, (1, 1, h, w)."""
        random = torch.Generator().manual_seed(seed)
        viewed = torch.stack([_sheared(sides_k2ss, by) for by in self.shears])  # (V, K, 2, S, S)
        scores = []
        for stage in sorted(stage for stage in query.intermediate if stage < 10):
            for level in range(len(query.intermediate[stage])):
                # Views 0 (plain), 1, 2 of the query and its supports, each (1 + K, C, h, w).
                x, *seen = (
                    torch.cat([part.intermediate[10 * view + stage][level] for part in (query, support)])
                    for view in range(VIEWS + 1)
                )
                pairs = torch.stack([torch.stack([_sheared(x, by), y]) for by, y in zip(self.shears, seen)])
                masks = resize_cells(viewed.flatten(0, 1), x.shape[-2:]).unflatten(0, viewed.shape[:2]).flatten(3)
                head = self._fit(pairs, masks, random)
                q, s = (head(part).flatten(2) for part in (x[:1], x[1:]))  # (1, 64, L), (K, 64, L)
                inside = resize_cells(sides_k2ss[:, :1], x.shape[-2:]).flatten()  # (K L,)
                attention = torch.softmax(q[0].T @ s.transpose(0, 1).flatten(1) / WIDTH**0.5, dim=1)  # (L, K L)
                scores.append((attention @ inside).view(1, 1, *x.shape[-2:]))
        finest = max(score.shape[-2:] for score in scores)
        return torch.stack([resize_cells(score, finest) for score in scores]).mean(0)

    @torch.inference_mode(False)
    @torch.enable_grad()
    def _fit(self, pairs: Tensor, masks: Tensor, random: torch.Generator) -> nn.Sequential:
        """Return the fitted head of one level.

        ``pairs`` are of each view the sheared map and the sheared image's map, (V, 2, 1 + K, C, h, w), query first;
        ``masks`` object and background of the sheared supports, (V, K, 2, L).
        """
        pairs, masks = pairs.clone(), masks.clone()
        channels, positions, total_vs1 = pairs.shape[3], masks.shape[3], masks.sum((1, 3)).unsqueeze(2) + EPS
        w1, w2 = (nn.utils.skip_init(nn.Conv2d, n, WIDTH, 1, device=pairs.device) for n in (channels, WIDTH))
        for conv in (w1, w2):  # as torch would, by this episode's generator
            start = (2 * torch.rand(WIDTH * (conv.in_channels + 1), generator=random) - 1) / conv.in_channels**0.5
            nn.utils.vector_to_parameters(to_device(start, pairs.device), conv.parameters())
        # The norm has the statistics of the maps that it sees, in prediction too.
        head = nn.Sequential(w1, nn.BatchNorm2d(WIDTH, track_running_stats=False, device=pairs.device), nn.ReLU(), w2)
        optimizer = torch.optim.SGD(head.parameters(), self.settings.rate)
        steps, count = self.settings.steps, self.settings.positions
        if 0 < count < positions:
            drawn = [torch.randperm(positions, generator=random)[:count] for _ in range(steps)]
            of_steps = list(to_device(torch.stack(drawn), pairs.device)) if drawn else []
        else:
            of_steps = [torch.arange(positions, device=pairs.device)] * steps
        for chosen in of_steps:
            loss = pairs.new_zeros(())
            for images in (slice(0, 1), slice(1, None)):
                maps = (pairs[:, side, images].flatten(0, 1) for side in (0, 1))
                o, t = (F.normalize(head(x).flatten(2), dim=1) for x in maps)  # (V n, 64, L)
                similar = o[..., chosen].transpose(1, 2) @ t / TEMPERATURE  # (V n, i, j)
                loss = loss + F.cross_entropy(similar.flatten(0, 1), chosen.repeat(len(o)))
                loss = loss + F.l1_loss(o.mean(2), t.mean(2)) + F.l1_loss(o.var(2), t.var(2))
            # The prototypes of the supports, whose maps are the last: s = 0 the object's, 1 the background's.
            shots = (x.unflatten(0, masks.shape[:2]) for x in (o, t))
            of_o, of_t = (torch.einsum("vkcl,vksl->vsc", x, masks) / total_vs1 for x in shots)
            same, other = (F.cosine_similarity(of_o[:, 0], of_t[:, side], dim=1) for side in (0, 1))
            loss = loss + F.softplus(other - same).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return head


def _sheared(x: Tensor, degrees: list[float]) -> Tensor:
    """Return maps (n, C, H, W) sheared along x and y, by the nearest position; 0 comes in from outside."""
    return F.pad(x.flatten(2), (1, 0)).index_select(2, _sources(*x.shape[-2:], *degrees, x.device)).view_as(x)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _sources(height: int, width: int, along_x: float, along_y: float, device: torch.device) -> Tensor:
    """Return the position, from 1 on, that every position of a sheared map has its value from, (H W,); 0: outside."""
    from torchvision.transforms.functional import affine

    number = torch.arange(1, height * width + 1, dtype=torch.float32).view(1, 1, height, width)
    return to_device(
        affine(number, angle=0, translate=[0, 0], scale=1, shear=[along_x, along_y]).flatten().long(), device
    )


def threshold(score_hw: Tensor) -> Tensor:
    """Return Otsu's threshold over values above 5 % of a map's range, at least its mean; a constant map's value."""
    low, high = score_hw.min(), score_hw.max()
    spread = (high - low).clamp(min=torch.finfo(low.dtype).tiny)  # 0 for a constant map, which is level 0 everywhere
    level = ((score_hw - low) / spread * (LEVELS - 1)).long().flatten()
    count = score_hw.new_zeros(LEVELS, dtype=torch.float64).scatter_add_(0, level, torch.ones_like(level).double())
    count[:12] = 0  # of 0..255: 5 %
    share = count / count.sum()
    below = share.cumsum(0)
    moment = (share * torch.arange(LEVELS, device=share.device)).cumsum(0)
    between = (moment[-1] * below - moment).square() / (below * (1 - below)).clamp(min=EPS)  # variance of two parts
    found = torch.maximum(between.argmax() / (LEVELS - 1) * (high - low) + low, score_hw.mean())
    return torch.where(low == high, high, found)
