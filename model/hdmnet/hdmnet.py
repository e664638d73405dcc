"""HDMNet: match query and supports on three grids, with an attention normalised over the query. See ``HDMNet.forward``.

A frozen encoder and base learner (as in Sym-Net), supports masked as images, a token pyramid shared by query and
supports, matching at each level, a linear decoder, and the ensemble with the base learner. Coarse correlation maps
teach finer ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.bam.base_learner import HEAD_DROPOUT
from model.bam.ensemble import Ensemble
from model.bam.shot_weights import scene_distance
from model.bam.with_base_learner import HIGH, LOW, MID, WithBaseLearner, WithBaseSettings, mid_features
from model.common.loss import cross_entropy
from model.common.ops import foreground_mask, normalise, resize
from model.common.projection import WIDTH
from model.common.prototype import support_prototype
from model.contract import Episode, Output, ParamGroup, Task
from model.encoders.features import Features
from model.hdmnet.correlation_distillation import correlation_distillation
from model.hdmnet.decoder import FixedNorm, LinearDecoder
from model.hdmnet.published import LAYOUT
from model.hdmnet.query_matching import QueryMatching
from model.hdmnet.similarity import greatest_cosine
from model.hdmnet.token_pyramid import CHANNELS, LEVELS, MIN_GRID, TokenPyramid
from model.registry import register

SIMILARITIES = 2  # from h5 and from f4
SHARPENED = 10.0  # what similarity is multiplied by among the query's inputs
UNTRAINED = 0.0  # learning-rate factor of the shots' weights


@dataclass
class Settings(WithBaseSettings):
    """HDMNet's own settings; ``config/model/hdmnet.yaml`` explains them."""

    transformer_lr_factor: float = field(default=0.1, metadata={"low": 0})

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, what is wrong and how to mend it) if the pyramid's finest grid is too small."""
        grid = self.grid(size)
        if grid >= MIN_GRID:
            return None
        least = next(side for side in range(size, 2**10) if self.grid(side) >= MIN_GRID and side % 8 == 1)
        what = f"gives a grid of {grid} x {grid} at data.size {size}, the token pyramid takes {MIN_GRID} x {MIN_GRID}"
        return "encoder", f"= {self.encoder.backbone} {what}; set data.size to {least} or more"


@register("hdmnet")
class HDMNet(WithBaseLearner):
    """The published method; every attribute below is one of its ideas."""

    masks_supports = True  # with what does not belong to the object, before they are encoded
    Settings = Settings
    title = "HDMNet"
    published = LAYOUT

    def __init__(self, settings: Settings, task: Task):
        # Published weights follow the rank of a distance and are applied by position: see ShotWeights.
        super().__init__(settings, task, weights_in_shot_order=False)
        self.base_dropout = nn.Dropout2d(HEAD_DROPOUT)  # the base head's own, at work here though the head is frozen
        self.merge_query = _merge(2 * WIDTH + SIMILARITIES)
        self.merge_support = _merge(2 * WIDTH)
        self.pyramid = TokenPyramid()
        self.match = nn.ModuleList(QueryMatching() for _ in LEVELS)
        self.fuse = nn.ModuleList(_fuse(CHANNELS + SIMILARITIES) for _ in LEVELS)
        self.decoder = LinearDecoder(CHANNELS, len(LEVELS))
        self.ensemble = Ensemble()
        self.freeze()

    def forward(self, episode: Episode) -> Output:
        """Return final, base and (in ``extra``) ``meta`` logits (B, 2 or N + 1, S, S), and in training the losses."""
        batch, shots = episode.support.shape[:2]
        mask = foreground_mask(episode.support_label)  # M_k, (B, K, 1, S, S)

        # Frozen: encoder, base learner, and what is computed from them alone.
        with torch.no_grad():
            query, support = self._encode(episode)
            hidden = self.base_learner.hidden(query.stage[HIGH])  # h5
            base_logits = self.base_learner.logits(self.base_dropout(hidden))
            similarity = self._similarity(query, support, hidden, mask)  # A, (B, 2, h, w)
            distance = scene_distance(query.stage[LOW], support.stage[LOW].unflatten(0, (batch, shots)))  # e_k, (B, K)
        scene = (self.shot_weights(distance) * distance).sum(1)  # e, (B,)

        # What enters the transformer: features, prototypes, and for the query its similarity.
        query_feature = self.project_query(mid_features(query))  # X_q, (B, 256, h, w)
        support_feature = self.project_support(mid_features(support))  # x_k, (B * K, 256, h, w)
        size = query_feature.shape[-2:]
        prototype = support_prototype(support_feature, resize(mask.flatten(0, 1), size))  # p_k, (B * K, 256)
        mean_prototype = prototype.unflatten(0, (batch, shots)).mean(1)  # p
        query_map = self.merge_query(_beside(query_feature, mean_prototype, SHARPENED * similarity))  # X
        support_map = self.merge_support(_beside(support_feature, prototype))  # X_k, (B * K, 64, h, w)

        # Match level by level, decode, then correct by what the base learner claims.
        levels = self.pyramid(torch.cat([query_map, support_map]))
        fused, correlation = self._match(levels, mask, similarity)
        meta = self.decoder(fused)
        own_class = episode.base_id if self.training else None
        final = self.ensemble(meta, base_logits, scene, own_class)

        size = episode.query.shape[-2:]
        final, meta, base = (resize(x.float(), size) for x in (final, meta, base_logits))
        looked_at = {"similarity": similarity.mean(1), "correlation": correlation[0].detach().sigmoid()}
        output = Output(final, base, extra={"meta": meta}, maps=looked_at)
        if self.training:
            output.losses = {
                "main": cross_entropy(final, episode.query_label),
                "meta": cross_entropy(meta, episode.query_label),
                "base": cross_entropy(base, episode.query_base_label),
                "distil": correlation_distillation(correlation, episode.query_label),
            }
        return output

    def support_input(self, support: Tensor, support_label: Tensor) -> Tensor:
        """Return the normalised supports with all but the object at the mean colour."""
        return normalise(support) * foreground_mask(support_label)

    def _encode(self, episode: Episode) -> tuple[Features, Features]:
        """Return the features of queries and of masked supports, all on f3's grid (VGG's f2 has another)."""
        both = self.encode(episode)
        for features in both:
            features.stage[LOW] = resize(features.stage[LOW], features.stage[MID].shape[-2:])
        return both

    def _similarity(self, query: Features, support: Features, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return A = [A_5; A_4]: the query's likeness to the supports in h5 and f4, (B, 2, h, w) float32."""
        inside = F.interpolate(mask.flatten(0, 1), size=hidden.shape[-2:], mode="nearest")[:, 0] > 0  # (B * K, h, w)
        support_hidden = self.base_learner.hidden_at(support.stage[HIGH], inside)
        support_high = support.stage[HIGH].permute(0, 2, 3, 1)[inside]
        inside = inside.unflatten(0, mask.shape[:2])
        pairs = (hidden, support_hidden), (query.stage[HIGH], support_high)
        return torch.stack([greatest_cosine(*pair, inside) for pair in pairs], dim=1)

    def _match(self, levels: list[Tensor], mask: Tensor, similarity: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the fused map z_i, (B, 64, h_i, w_i), and the correlation map c_i, (B, h_i, w_i), of every level."""
        batch, shots = mask.shape[:2]
        fused, correlation = [], []
        for level, match, fuse in zip(levels, self.match, self.fuse, strict=True):
            size = level.shape[-2:]
            small_mask = F.interpolate(mask.flatten(0, 1), size=size, mode="nearest")[:, 0].unflatten(0, (batch, shots))
            matched, logits = match(level[:batch], level[batch:].unflatten(0, (batch, shots)), small_mask)
            fused.append(fuse(torch.cat([matched, resize(similarity, size).to(matched.dtype)], dim=1)))
            correlation.append(logits)
        return fused, correlation

    # --- what the engine asks ----------------------------------------------------------------------------------------

    def param_groups(self) -> list[ParamGroup]:
        """Return the transformer with its own rate, the rest that learns, and the shots' weights, that keep theirs.

        The published optimiser was never given the latter: they get gradients and stay at their initial values.
        """
        transformer = [self.pyramid, self.match, self.fuse, self.decoder]
        others = [self.project_query, self.project_support, self.merge_query, self.merge_support, self.ensemble]
        groups = [
            ParamGroup("transformer", _parameters(transformer), self.settings.transformer_lr_factor),
            ParamGroup("others", _parameters(others)),
            ParamGroup("shot_weights", _parameters([self.shot_weights]), UNTRAINED),
        ]
        return [group for group in groups if group.params]


def _merge(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, CHANNELS, 1, bias=False), nn.ReLU(inplace=True))


def _fuse(channels: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, CHANNELS, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, FixedNorm(CHANNELS), nn.ReLU(inplace=True))


def _beside(feature_bchw: Tensor, vector_bc: Tensor, *maps_bnhw: Tensor) -> Tensor:
    """Return a map, a vector at each of its positions, and further maps, as one."""
    spread = vector_bc[:, :, None, None].expand(-1, -1, *feature_bchw.shape[-2:])
    return torch.cat([feature_bchw, spread, *(m.to(feature_bchw.dtype) for m in maps_bnhw)], dim=1)


def _parameters(parts: list[nn.Module]) -> list[nn.Parameter]:
    return [p for part in parts for p in part.parameters()]
