"""A plain implementation of BAM: the same weights and numbers, whole matrices and maps, one image at a time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.naive_symnet import base_hidden, scene_distance
from benchmark.plain_encoder import PlainEncoder
from model.bam.bam import BAM
from model.bam.prior import EPS
from model.bam.with_base_learner import mid_features
from model.common.ops import foreground_mask, mean_over_shots, normalise, resize
from model.common.prototype import support_prototype
from model.common.with_encoder import HIGH, LOW, MID
from model.encoders.features import Features
from model.episode import IGNORE, Episode, Output


class NaiveBAM(nn.Module):
    """BAM with the prior's whole matrices, whole maps in the base head, and the last stage on all of every support."""

    def __init__(self, network: BAM):
        super().__init__()
        self.network, self.encoder = network, PlainEncoder(network.encoder)

    def forward(self, episode: Episode) -> Output:
        """Return the output of ``BAM.forward`` without the map of the prior."""
        network, learner = self.network, self.network.base_learner
        masks = [foreground_mask(label) for label in episode.support_label.unbind(1)]  # K of (B, 1, S, S)
        with torch.no_grad():
            query = _on_one_grid(self.encoder(normalise(episode.query)))
            supports = [self._support(normalise(x), m) for x, m in zip(episode.support.unbind(1), masks)]
            base = learner.logits(network.base_dropout(base_hidden(learner, query.stage[HIGH])))
            priors = [_prior(query.stage[HIGH], s.stage[HIGH], m) for s, m in zip(supports, masks)]
            distance = torch.stack([scene_distance(query.stage[LOW], s.stage[LOW]) for s in supports], dim=1)

        weight = network.shot_weights(distance)
        scene = (weight * distance).sum(1)
        prior = mean_over_shots(torch.stack(priors, dim=1), weight)
        features = [network.project_support(mid_features(s)) for s in supports]
        prototypes = [support_prototype(f, resize(m, f.shape[-2:])) for f, m in zip(features, masks)]
        prototype = mean_over_shots(torch.stack(prototypes, dim=1), weight)
        feature = network.project_query(mid_features(query))
        spread = prototype[:, :, None, None].expand_as(feature)
        meta = network.decoder(F.relu(network.fuse.conv(torch.cat([feature, spread, prior], dim=1))))
        final = network.ensemble(meta, base, scene, episode.base_id if network.training else None)
        final, meta, base = (resize(x, episode.query.shape[-2:]) for x in (final, meta, base))
        output = Output(final, base, extra={"meta": meta})
        if network.training:
            assert episode.query_base_label is not None
            labels = {"main": (final, episode.query_label), "meta": (meta, episode.query_label)}
            labels["base"] = (base, episode.query_base_label)
            output.losses = {name: _cross_entropy(*pair) for name, pair in labels.items()}
        return output

    def _support(self, image: Tensor, mask: Tensor) -> Features:
        """Return f2, f3 and stage 4 of the masked f3."""
        maps, encoder = [image], self.encoder.encoder
        for i in range(HIGH):
            maps.append(encoder.stage(i)(maps[-1]))
        f2, f3 = maps[-2:]
        f4 = encoder.stage(HIGH)(f3 * resize(mask, f3.shape[-2:]))
        return _on_one_grid(Features({LOW: f2, MID: f3, HIGH: f4}, {}))


def _on_one_grid(features: Features) -> Features:
    features.stage[LOW] = resize(features.stage[LOW], features.stage[MID].shape[-2:])
    return features


def _prior(query: Tensor, support: Tensor, mask: Tensor) -> Tensor:
    """Return one shot's prior, (B, 1, h, w), from the cosines with all support positions."""
    size = query.shape[-2:]
    q, s = query.flatten(2), (support * resize(mask, size)).flatten(2)
    cosine = q.transpose(1, 2) @ s / (q.norm(dim=1).unsqueeze(2) * s.norm(dim=1).unsqueeze(1) + EPS)  # (B, L, L)
    best = cosine.amax(2)
    low, high = best.amin(1, keepdim=True), best.amax(1, keepdim=True)
    return ((best - low) / (high - low + EPS)).view(-1, 1, *size)


def _cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Return the mean cross-entropy over the pixels that are not ignored."""
    return F.cross_entropy(logits, label.long(), ignore_index=IGNORE)
