"""A plain implementation of Sym-Net: the same weights and numbers, layer by layer, one support at a time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.plain_encoder import PlainEncoder
from model.bam.base_learner import BaseLearner
from model.bam.shot_weights import gram
from model.bam.with_base_learner import HIGH, LOW, mid_features
from model.common.ops import foreground_mask, mean_over_shots, normalise, resize
from model.common.prototype import support_prototype
from model.encoders.features import Features
from model.episode import IGNORE, Episode, Output
from model.symnet.decoder import Decoder
from model.symnet.intermediate_correlation import INSIDE, NORM_EPS
from model.symnet.prior import EPS, KERNELS
from model.symnet.query_prototypes import query_prototypes
from model.symnet.symnet import SymNet
from model.symnet.triplet import query_triplet, support_triplet


class NaiveSymNet(nn.Module):
    """Sym-Net with the prior's quadratic matrices, correlations as matrices, and the base learner's map at full size.

    Shots are encoded and matched one after the other; the auxiliary heads run in evaluation too, where their output is
    not used. Frozen parts have no graph here either.
    """

    def __init__(self, network: SymNet):
        super().__init__()
        self.network, self.encoder = network, PlainEncoder(network.encoder)

    def forward(self, episode: Episode) -> Output:
        """Return the output of ``SymNet.forward`` without the map of the prior."""
        network = self.network
        assert episode.text is not None
        masks = [foreground_mask(label) for label in episode.support_label.unbind(1)]  # K of (B, 1, S, S)
        with torch.no_grad():
            query = self.encoder(normalise(episode.query), intermediate=True)
            supports = [self.encoder(normalise(image), intermediate=True) for image in episode.support.unbind(1)]
            base = network.base_learner.logits(base_hidden(network.base_learner, query.stage[HIGH]))
            correlation = _all_correlations(query, supports, masks)
            priors = [_prior(query.stage[HIGH], s.stage[HIGH], m) for s, m in zip(supports, masks)]
            distance = torch.stack([scene_distance(query.stage[LOW], s.stage[LOW]) for s in supports], dim=1)

        weight = network.shot_weights(distance)
        scene = (weight * distance).sum(1)
        prior = mean_over_shots(torch.stack(priors, dim=1), weight)

        feature = network.project_query(mid_features(query))
        support_features = [network.project_support(mid_features(s)) for s in supports]
        aligned = [self._aligned(f, m, episode.text) for f, m in zip(support_features, masks)]
        support_vector = mean_over_shots(torch.stack(aligned, dim=1), weight)
        own = query_prototypes(feature, prior)
        query_vector = network.align(feature * prior, episode.text, own.foreground)

        hyper = network.fuse_correlation(correlation)
        meta, auxiliary = _decode(network.decoder, feature, (support_vector + query_vector) / 2, hyper, prior)
        final = network.ensemble(meta, base, scene, episode.base_id if network.training else None)
        size = episode.query.shape[-2:]
        final, meta, base, *auxiliary = (resize(x, size) for x in (final, meta, base, *auxiliary))
        output = Output(final, base, extra={"meta": meta})
        if network.training:
            assert episode.query_base_label is not None
            triplet = support_triplet(support_vector, torch.stack(support_features, 1), torch.stack(masks, 1))
            output.losses = {
                "main": _cross_entropy(final, episode.query_label),
                "meta": _cross_entropy(meta, episode.query_label),
                "base": _cross_entropy(base, episode.query_base_label),
                "inner": torch.stack([_cross_entropy(x, episode.query_label) for x in auxiliary]).mean(),
                "triplet": triplet + query_triplet(query_vector, own),
            }
        return output

    def _aligned(self, feature: Tensor, mask: Tensor, text: Tensor) -> Tensor:
        """Return the aligned prototype of one shot, (B, C)."""
        mask = resize(mask, feature.shape[-2:])
        return self.network.align(feature * mask, text, support_prototype(feature, mask))


def base_hidden(learner: BaseLearner, f4: Tensor) -> Tensor:
    """Return h5 by a convolution over all pyramid levels, upsampled and concatenated."""
    levels = [resize(level(f4), f4.shape[-2:]) for level in learner.pyramid]
    return learner.classify[:2](torch.cat([f4, *levels], dim=1))


def scene_distance(query: Tensor, support: Tensor) -> Tensor:
    """Return e_k of one shot, (B,)."""
    return (gram(query) - gram(support)).flatten(1).norm(dim=1) / query.shape[1]


def _prior(query: Tensor, support: Tensor, mask: Tensor) -> Tensor:
    """Return one shot's prior, (B, 1, h, w), from the (h w x h w) matrix of each kernel."""
    size = query.shape[-2:]
    support, total = support * resize(mask, size), support.new_zeros(())
    for kernel in KERNELS:
        padding = [side // 2 for side in kernel]
        q, s = (F.avg_pool2d(x, kernel, stride=1, padding=padding).flatten(2) for x in (query, support))
        length_q, length_s = q.norm(dim=1).unsqueeze(2), s.norm(dim=1).unsqueeze(1)
        matrix = (q.transpose(1, 2) @ s).div_(length_q * length_s + EPS).mul_(length_q)  # (B, L, L)
        activation = matrix.mean(2)
        low, high = activation.amin(1, keepdim=True), activation.amax(1, keepdim=True)
        total = total + (activation - low) / (high - low + EPS)
    return (total / len(KERNELS)).unflatten(1, size).unsqueeze(1)


def _all_correlations(query: Features, supports: list[Features], masks: list[Tensor]) -> dict[int, Tensor]:
    """Return stage -> (B, n, h, w), the mean over shots of the pooled correlation of every intermediate feature."""
    maps = {}
    for stage, features in query.intermediate.items():
        shots = [
            [_correlation(q, s.intermediate[stage][i], m) for i, q in enumerate(features)]
            for s, m in zip(supports, masks)
        ]
        maps[stage] = torch.stack([torch.stack(shot, dim=1) for shot in shots]).mean(0)
    return maps


def _correlation(query: Tensor, support: Tensor, mask: Tensor) -> Tensor:
    """Return the map of one intermediate feature, (B, h, w), from the correlation with the positions in the mask."""
    inside = (resize(mask, support.shape[-2:]) >= INSIDE).flatten(1)  # (B, L)
    query_unit, support_unit = (
        x.flatten(2) / (x.flatten(2).norm(dim=1, keepdim=True) + NORM_EPS) for x in (query, support)
    )
    pairs = zip(query_unit, support_unit, inside)
    pooled = [(q.T @ s[:, chosen]).relu_().sum(1) / chosen.sum().clamp(min=1) for q, s, chosen in pairs]
    return torch.stack(pooled).unflatten(1, query.shape[-2:])


def _decode(decoder: Decoder, query: Tensor, vector: Tensor, *maps: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return meta logits and the auxiliary logits of every scale, in evaluation too."""
    merged: list[Tensor] = []
    auxiliary: list[Tensor] = []
    for i, scale in enumerate(decoder.scales):
        grid = (scale, scale)
        spread = vector[:, :, None, None].expand(-1, -1, *grid)
        inputs = [F.adaptive_avg_pool2d(query, grid), spread, *(resize(m, grid) for m in maps)]
        x = decoder.enter[i](torch.cat(inputs, dim=1))
        if merged:
            x = x + decoder.descend[i - 1](torch.cat([x, resize(merged[-1], grid)], dim=1))
        x = decoder.refine[i](x)
        auxiliary.append(decoder.auxiliary[i](x))
        merged.append(resize(x, query.shape[-2:]))
    return decoder.head(decoder.refine_merged(decoder.merge(torch.cat(merged, dim=1)))), auxiliary


def _cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Return the mean cross-entropy over the pixels that are not ignored."""
    return F.cross_entropy(logits, label.long(), ignore_index=IGNORE)
