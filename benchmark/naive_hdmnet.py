"""A plain implementation of HDMNet: the same weights and numbers, whole matrices, one image at a time."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.naive_symnet import base_hidden, scene_distance
from benchmark.plain_encoder import PlainEncoder
from model.bam.with_base_learner import mid_features
from model.common.greatest_cosine import EPS
from model.common.ops import foreground_mask, normalise, resize
from model.common.prototype import support_prototype
from model.common.with_encoder import HIGH, LOW, MID
from model.encoders.features import Features
from model.episode import Episode, Output
from model.hdmnet.decoder import LinearBlock
from model.hdmnet.hdmnet import SHARPENED, HDMNet
from model.hdmnet.query_matching import HEADS, MASK_EPS, SHARPNESS, QueryMatching
from model.hdmnet.token_pyramid import split_heads, to_map, to_tokens


class NaiveHDMNet(nn.Module):
    """HDMNet with whole matrices in similarity and matching, whole maps in the base head, and every convolution."""

    def __init__(self, network: HDMNet):
        super().__init__()
        self.network, self.encoder = network, PlainEncoder(network.encoder)

    @torch.no_grad()
    def forward(self, episode: Episode) -> Output:
        """Return the output of ``HDMNet.forward`` in evaluation mode, for one episode."""
        network, learner = self.network, self.network.base_learner
        masks = [foreground_mask(label) for label in episode.support_label.unbind(1)]  # K of (1, 1, S, S)
        query = self._encode(normalise(episode.query))
        supports = [self._encode(normalise(image) * m) for image, m in zip(episode.support.unbind(1), masks)]
        hidden = base_hidden(learner, query.stage[HIGH])
        hiddens = [base_hidden(learner, s.stage[HIGH]) for s in supports]
        high = [_similarity(hidden, h, m) for h, m in zip(hiddens, masks)]
        deep = [_similarity(query.stage[HIGH], s.stage[HIGH], m) for s, m in zip(supports, masks)]
        similarity = torch.cat([torch.stack(kind).mean(0) for kind in (high, deep)], dim=1)
        distance = torch.stack([scene_distance(query.stage[LOW], s.stage[LOW]) for s in supports], dim=1)
        scene = (network.shot_weights(distance) * distance).sum(1)

        features = [network.project_support(mid_features(s)) for s in supports]
        prototypes = [support_prototype(f, resize(m, f.shape[-2:])) for f, m in zip(features, masks)]
        merged = [network.merge_support(torch.cat([f, _spread(p, f)], 1)) for f, p in zip(features, prototypes)]
        feature = network.project_query(mid_features(query))
        mean = _spread(torch.stack(prototypes).mean(0), feature)
        levels = network.pyramid(network.merge_query(torch.cat([feature, mean, SHARPENED * similarity], 1)))
        shots = [network.pyramid(m) for m in merged]
        fused = []
        for i, (level, match, fuse) in enumerate(zip(levels, network.match, network.fuse)):
            matched, _ = _matched(cast(QueryMatching, match), level, [s[i] for s in shots], masks)
            fused.append(fuse(torch.cat([matched, resize(similarity, level.shape[-2:])], 1)))
        meta = _decode(network, fused)
        base = learner.logits(hidden)
        final = network.ensemble(meta, base, scene, None)
        final, meta, base = (resize(x, episode.query.shape[-2:]) for x in (final, meta, base))
        return Output(final, base, extra={"meta": meta})

    def _encode(self, image: Tensor) -> Features:
        features = self.encoder(image)
        features.stage[LOW] = resize(features.stage[LOW], features.stage[MID].shape[-2:])
        return features


def _spread(vector: Tensor, like: Tensor) -> Tensor:
    return vector[:, :, None, None].expand(-1, -1, *like.shape[-2:])


def _similarity(query: Tensor, support: Tensor, mask: Tensor) -> Tensor:
    """Return one shot's map, (1, 1, h, w), from the cosines with all support positions."""
    size = query.shape[-2:]
    q, s = (x.flatten(2) for x in (query, support * F.interpolate(mask, size=size, mode="nearest")))
    cosine = q.transpose(1, 2) @ s / (q.norm(dim=1).unsqueeze(2) * s.norm(dim=1).unsqueeze(1) + EPS)  # (1, L, L)
    return cosine.amax(2).view(1, 1, *size)


def _matched(block: QueryMatching, level: Tensor, shots: list[Tensor], masks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the level's map after matching and its correlation map."""
    size, linear = level.shape[-2:], block.linear
    x, support = to_tokens(level), torch.cat([to_tokens(s) for s in shots], dim=1)
    inside = torch.cat([F.interpolate(m, size=size, mode="nearest").flatten() for m in masks])  # (K L,)
    query = F.normalize(split_heads(linear.query(block.norm(x)), HEADS), dim=3)
    key = F.normalize(split_heads(linear.key(block.norm(support)), HEADS), dim=3)
    score = SHARPNESS * query @ key.transpose(2, 3)  # (1, heads, L, K L)
    collected = (score.softmax(2) * inside) @ split_heads(linear.value(block.norm(support)), HEADS)
    x = x + linear.out(collected.transpose(1, 2).flatten(2))
    correlation = ((score * inside).sum(3) / (inside.sum() + MASK_EPS)).mean(1)
    return to_map(block.feed_forward(x, size), size), correlation


def _decode(network: HDMNet, fused: list[Tensor]) -> Tensor:
    """Return meta logits, from the coarsest level to the finest."""
    x = fused[-1].new_zeros(fused[-1].shape)
    for refine, level in reversed(list(zip(network.decoder.refine, fused))):
        x = F.interpolate(x, size=level.shape[-2:], mode="bilinear", align_corners=False)
        x = x + F.relu(_block(cast(LinearBlock, refine), level + x))
    return _block(network.decoder.head, x)


def _block(block: LinearBlock, x: Tensor) -> Tensor:
    x = block.leave(block.mix_norm(block.mix(block.enter_norm(block.enter(x)))))
    return x if block.leave_norm is None else block.leave_norm(x)
