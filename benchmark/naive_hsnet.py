"""A plain implementation of HSNet: the same weights and numbers, whole 4D correlations, one shot after the other."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.plain_encoder import PlainEncoder
from model.common.conv4d import CentrePivotConv4d
from model.common.ops import foreground_mask, normalise, resize
from model.encoders.features import Features
from model.episode import Episode, Output
from model.hsnet.correlation import NORM_EPS
from model.hsnet.hsnet import HSNet
from model.hsnet.squeeze import Squeeze
from model.hsnet.voting import vote


class NaiveHSNet(nn.Module):
    """HSNet that encodes the query again for every shot and keeps the whole correlation of every level."""

    def __init__(self, network: HSNet):
        super().__init__()
        self.network, self.encoder = network, PlainEncoder(network.encoder)

    def forward(self, episode: Episode) -> Output:
        """Return the output of ``HSNet.forward`` without the map of the votes."""
        pairs = zip(episode.support.unbind(1), foreground_mask(episode.support_label).unbind(1))
        shots = [self._one_shot(episode.query, image, mask) for image, mask in pairs]
        output = Output(vote(torch.stack(shots, dim=1))[0] if len(shots) > 1 else shots[0])
        if self.network.training:
            target = (episode.query_label == 1).long()
            output.losses = {"main": torch.stack([F.cross_entropy(logits, target) for logits in shots]).mean()}
        return output

    def _one_shot(self, query_image: Tensor, support_image: Tensor, mask: Tensor) -> Tensor:
        with torch.no_grad():
            query = self.encoder(normalise(query_image), intermediate=True)
            support = self.encoder(normalise(support_image), intermediate=True)
            correlation = _hypercorrelation(query, support, mask)
        squeeze = self.network.squeeze
        squeezed = {
            int(i): _sequence(cast(Squeeze, level).blocks, correlation[int(i)]) for i, level in squeeze.levels.items()
        }
        x = squeezed[4]
        for level in (3, 2):
            x = _sequence(cast(nn.Sequential, squeeze.mix[str(level)]), _enlarged(x, squeezed[level]) + squeezed[level])
        x = self.network.decoder.coarse(x.mean((4, 5)))
        x = self.network.decoder.fine(resize(x, [2 * side for side in x.shape[-2:]]))
        return resize(x, query_image.shape[-2:])


def _hypercorrelation(query: Features, support: Features, mask: Tensor) -> dict[int, Tensor]:
    """Return level -> (B, n, h, w, h, w), the query's dimensions first."""
    out = {}
    for level, maps in query.intermediate.items():
        if maps:
            small = resize(mask, maps[0].shape[-2:])
            out[level] = torch.stack([_correlation(q, s * small) for q, s in zip(maps, support.intermediate[level])], 1)
    return out


def _correlation(query: Tensor, support: Tensor) -> Tensor:
    """Return the clamped cosines of all positions, (B, h, w, h, w)."""
    q, s = (x.flatten(2) / (x.flatten(2).norm(dim=1, keepdim=True) + NORM_EPS) for x in (query, support))
    cosine = torch.bmm(q.transpose(1, 2), s).clamp(min=0)
    return cosine.view(len(cosine), *query.shape[-2:], *support.shape[-2:])


def _sequence(layers: nn.Sequential, x: Tensor) -> Tensor:
    for layer in layers:
        x = _convolve(layer, x) if isinstance(layer, CentrePivotConv4d) else layer(x)
    return x


def _convolve(layer: CentrePivotConv4d, x: Tensor) -> Tensor:
    """Return (B, C', h, w, r, r) of (B, C, h, w, R, R) by two ordinary convolutions of permuted copies."""
    batch, _, height, width = x.shape[:4]
    pivots = x[..., :: layer.stride, :: layer.stride].permute(0, 4, 5, 1, 2, 3)  # pruned before the convolution
    over_query = layer.over_query(pivots.flatten(0, 2)).unflatten(0, pivots.shape[:3]).permute(0, 3, 4, 5, 1, 2)
    over_support = layer.over_support(x.permute(0, 2, 3, 1, 4, 5).flatten(0, 2))
    return over_query + over_support.unflatten(0, (batch, height, width)).permute(0, 3, 1, 2, 4, 5)


def _enlarged(coarse: Tensor, fine: Tensor) -> Tensor:
    """Return the coarser level with the query's dimensions resized to the finer one's."""
    maps = coarse.permute(0, 4, 5, 1, 2, 3)  # (B, r, r, C, h, w)
    resized = resize(maps.flatten(0, 2), fine.shape[2:4])
    return resized.unflatten(0, maps.shape[:3]).permute(0, 3, 4, 5, 1, 2)
