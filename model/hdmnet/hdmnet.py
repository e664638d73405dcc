"""HDMNet: match query and supports on three grids, with an attention normalised over the query.

Read ``HDMNet.support`` and ``HDMNet.predict``.

A frozen encoder and base learner (after BAM), supports masked as images, a token pyramid shared by query and supports,
matching at each level, a linear decoder, and the ensemble with the base learner. Coarse correlation maps teach finer
ones (``transformer.py``): out_i = sum_j m_j softmax_i(s_ij) v_j over query positions i and support positions j,
c_i = sum_j m_j s_ij / sum_j m_j, and the distillation is the mean over levels of KL(t || softmax(c)).
Source: Peng et al., Hierarchical Dense Correlation Distillation for Few-Shot Segmentation, CVPR 2023 (arXiv
2303.14652).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from model.contract import Episode, Output, ParamGroup, Shot, Task, learnable, register
from model.hdmnet.decoder import FixedNorm, LinearDecoder
from model.hdmnet.published import LAYOUT
from model.hdmnet.transformer import CHANNELS, LEVELS, QueryMatching, TokenPyramid, correlation_distillation
from model.kinds.with_base_learner import WithBaseLearner
from model.method import HIGH, IMAGE, ONE_GRID, Maps, Wants, low_features, mid_features
from model.parts.base_learner import Ensemble, cross_entropies, gram
from model.parts.base_stage import WithBaseSettings
from model.parts.layers import WIDTH, pointwise
from model.parts.prior import COSINE_EPS, greatest_cosine
from model.tensors.mask import Mask, Positions, positions_of
from model.tensors.ops import joined, masked_mean, mean_over_shots, resize

SIMILARITIES = 2  # from h5 and from f4
SHARPENED = 10.0  # factor of the similarity among the query's inputs


@dataclass
class HDMNetSettings(WithBaseSettings):
    """HDMNet's own settings."""

    # Learning-rate factor of pyramid, matching and decoder; that of the projections is 1
    transformer_lr_factor: float = field(default=0.1, metadata={"low": 0})
    # If no cell of the coarsest grid sees only the object, as with a small one: false: the cells that see most of it
    # teach (the published form without its rounding errors); true: all cells teach alike
    even_teacher: bool = False


@dataclass
class HDMNetShot(Shot):
    """Values of n supports at the m positions of their objects."""

    gram: Tensor  # G_k of the scene, (n, C, C)
    prototype: Tensor  # p_k, (n, 256)
    h5: Tensor  # directions of the base learner's map, (n, m, 512)
    f4: Tensor  # directions of the high-level features, (n, m, C)
    keys: list[Tensor]  # of each level, (n, m, heads, d)
    values: list[Tensor]
    areas: Tensor  # m of each support and level, (n, 3)


@register("hdmnet")
class HDMNet(WithBaseLearner):
    """The published method; every module below is one of its ideas."""

    Settings = HDMNetSettings
    title = "HDMNet"
    protocol = "hdmnet"
    published = LAYOUT
    wants = Wants(masked_after=IMAGE, base_learner=True, grids=ONE_GRID)
    reads_base_labels = True
    weighs_in_shot_order = False  # published weights follow the rank of a distance and are applied by position
    settings: HDMNetSettings

    def __init__(self, settings: HDMNetSettings, task: Task):
        super().__init__(settings, task)
        self.merge_query = pointwise(2 * WIDTH + SIMILARITIES, CHANNELS)
        self.merge_support = pointwise(2 * WIDTH, CHANNELS)
        self.pyramid = TokenPyramid()
        self.match = nn.ModuleList(QueryMatching() for _ in LEVELS)
        self.fuse = nn.ModuleList()
        for _ in LEVELS:
            conv = nn.Conv2d(CHANNELS + SIMILARITIES, CHANNELS, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            self.fuse.append(nn.Sequential(conv, FixedNorm(CHANNELS), nn.ReLU(inplace=True)))
        self.decoder = LinearDecoder(CHANNELS, len(LEVELS))
        self.ensemble = Ensemble()

    def support(self, maps: Maps, mask: Mask) -> HDMNetShot:
        """Return scene, prototype, directions and matched tokens of n supports."""
        # Inputs of the transformer: features and prototypes.
        feature = self.project_support(mid_features(maps))  # x_k, (n, 256, h, w)
        prototype = masked_mean(feature, mask.on(feature.shape[-2:]))  # p_k, (n, 256)
        levels = self.pyramid(self.merge_support(_beside(feature, prototype)))  # (n, 64, h_i, w_i)

        # Of the object alone: tokens, and directions on the finest level's grid.
        is_object = [_is_object(mask, level.shape[-2:]) for level in levels]
        objects = positions_of(*is_object)
        keys = []
        values = []
        for level, match, positions in zip(levels, self.match, objects, strict=True):
            key, value = cast(QueryMatching, match).of_support(level)
            keys.append(positions.padded(key))
            values.append(positions.padded(value))
        h5, f4 = self._directions(maps[HIGH], objects[0])
        areas = torch.stack([inside.sum(1) for inside in is_object], dim=1)
        return HDMNetShot(
            gram=gram(low_features(maps)),
            prototype=prototype,
            h5=h5,
            f4=f4,
            keys=keys,
            values=values,
            areas=areas,
        )

    def predict(self, maps: Maps, shots: Sequence[HDMNetShot], episode: Episode) -> Output:
        """Return final, base and (in ``extra``) ``meta`` logits (B, 2 or N + 1, S, S), and in training the losses."""
        # The base learner, the distance of the scenes, and the similarity to the supports.
        base_logits = self.base_logits(maps.base)  # (B, N + 1, h, w)
        scene, _ = self.shot_weights_by_scene(low_features(maps), shots)  # e, (B,)
        in_h5 = torch.stack([greatest_cosine(maps.base, shot.h5) for shot in shots], dim=1)  # (B, K, h, w)
        in_f4 = torch.stack([greatest_cosine(maps[HIGH], shot.f4) for shot in shots], dim=1)
        similarity = torch.stack([in_h5.mean(1), in_f4.mean(1)], dim=1)  # A = [A_5; A_4], (B, 2, h, w)

        # The query's tokens: features, the supports' mean prototype, and the similarity.
        feature = self.project_query(mid_features(maps))  # X_q, (B, 256, h, w)
        prototype = mean_over_shots(torch.stack([shot.prototype for shot in shots], dim=1))  # p, (B, 256)
        levels = self.pyramid(self.merge_query(_beside(feature, prototype, SHARPENED * similarity)))

        # Match level by level, decode, then correct the prediction by the base learner's.
        fused = []  # z_i, (B, 64, h_i, w_i)
        correlation = []  # c_i, (B, h_i, w_i)
        areas = torch.stack([shot.areas for shot in shots]).sum(0)  # of all shots, (B, 3)
        for i, (level, match, fuse) in enumerate(zip(levels, self.match, self.fuse, strict=True)):
            key = joined([shot.keys[i] for shot in shots], dim=1)  # of all shots
            value = joined([shot.values[i] for shot in shots], dim=1)
            matched, logits = match(level, key, value, areas[:, i])
            level_similarity = resize(similarity, level.shape[-2:]).to(matched.dtype)
            fused.append(fuse(torch.cat([matched, level_similarity], dim=1)))
            correlation.append(logits)
        meta = self.decoder(fused)
        output = self.ensemble_with_base(meta, base_logits, scene, episode)
        output.pictures |= {"similarity": similarity.mean(1), "correlation": correlation[0].detach().sigmoid()}
        if self.training:
            even = self.settings.even_teacher
            output.losses = cross_entropies(output, episode)
            output.losses["distil"] = correlation_distillation(correlation, episode.query_label, even)
            output.image_losses = ("distil",)
        return output

    @torch.no_grad()
    def _directions(self, f4_nchw: Tensor, objects: Positions) -> tuple[Tensor, Tensor]:
        """Return the directions of h5 and of f4 on the objects, (n, m, C) each; zeros where fewer."""
        of_each = self.base_learner.hidden_at(f4_nchw, objects).split(objects.counts)
        h5 = pad_sequence(of_each, batch_first=True)
        f4 = objects.padded(f4_nchw.flatten(2).transpose(1, 2))
        h5, f4 = (F.normalize(rows.float(), dim=2, eps=COSINE_EPS) for rows in (h5, f4))
        return h5, f4

    def own_groups(self) -> list[ParamGroup]:
        """Return transformer and projections, and the shots' weights at rate 0, as the published optimiser."""
        transformer = learnable(self.pyramid, self.match, self.fuse, self.decoder)
        projections = self.project_query, self.project_support, self.merge_query, self.merge_support
        return [
            ParamGroup("transformer", transformer, self.settings.transformer_lr_factor),
            ParamGroup("others", learnable(*projections, self.ensemble)),
            ParamGroup("shot_weights", learnable(self.shot_weights), factor=0.0),
        ]


def _is_object(mask: Mask, size: Sequence[int]) -> Tensor:
    """Return which positions of a grid have the object at their nearest pixel, (n, h w) bool."""
    return F.interpolate(mask.foreground, size=tuple(size), mode="nearest").flatten(1) > 0


def _beside(feature_bchw: Tensor, vector_bc: Tensor, *maps_bnhw: Tensor) -> Tensor:
    """Return the concatenation of a map, a vector repeated at each of its positions, and further maps."""
    size = feature_bchw.shape[-2:]
    spread = vector_bc[:, :, None, None].expand(-1, -1, *size)
    maps = [m.to(feature_bchw.dtype) for m in maps_bnhw]
    return torch.cat([feature_bchw, spread, *maps], dim=1)
