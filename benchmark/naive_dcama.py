"""A plain implementation of DCAMA: the same weights and numbers, whole matrices, one image at a time."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from benchmark.plain_encoder import PlainEncoder
from model.common.ops import foreground_mask, normalise, resize
from model.dcama.dcama import DCAMA
from model.dcama.decoder import MaskDecoder
from model.dcama.mask_aggregation import HEADS, MaskAggregation, position_encoding
from model.episode import Episode, Output


class NaiveDCAMA(nn.Module):
    """DCAMA with the whole attention matrix of every intermediate feature, and the decoder's maps at full size."""

    def __init__(self, network: DCAMA):
        super().__init__()
        self.network, self.encoder = network, PlainEncoder(network.encoder)

    @torch.no_grad()
    def forward(self, episode: Episode) -> Output:
        """Return the output of ``DCAMA.forward`` in evaluation mode, for one episode."""
        network, mask = self.network, foreground_mask(episode.support_label)
        query = self.encoder(normalise(episode.query), intermediate=True).intermediate
        shots = [self.encoder(normalise(image), intermediate=True).intermediate for image in episode.support.unbind(1)]
        masks = {}
        for stage, block in network.aggregate.items():
            aggregate = cast(MaskAggregation, block)
            features = zip(query[int(stage)], *(shot[int(stage)] for shot in shots))
            masks[int(stage)] = torch.cat([_soft_mask(aggregate, q, s, mask) for q, *s in features], dim=1)
        skips = {i: [query[i][-1], torch.stack([s[i][-1] for s in shots]).amax(0)] for i in (1, 2)}
        return Output(_decode(network.decoder, masks, skips, episode.query.shape[-2:]))


def _soft_mask(block: MaskAggregation, query: Tensor, shots: list[Tensor], mask: Tensor) -> Tensor:
    """Return the soft mask of one intermediate feature, (1, 1, h, w)."""
    size = query.shape[-2:]
    position = position_encoding(query.shape[1], size.numel(), query.device)
    queries = block.query(query.flatten(2).transpose(1, 2) + position)
    keys = torch.cat([block.key(s.flatten(2).transpose(1, 2) + position) for s in shots], dim=1)
    values = resize(mask[0], size).view(1, 1, -1, 1).expand(-1, HEADS, -1, -1)
    queries, keys = (x.unflatten(2, (HEADS, -1)).transpose(1, 2) for x in (queries, keys))
    attention = (queries @ keys.transpose(2, 3) / keys.shape[3] ** 0.5).softmax(3)  # (1, heads, L, K L)
    return (attention @ values).mean(1).view(1, 1, *size)


def _decode(decoder: MaskDecoder, masks: dict[int, Tensor], skips: dict[int, list[Tensor]], size: tuple) -> Tensor:
    x = decoder.enter["4"](masks[4])
    for stage in (3, 2):
        x = decoder.merge[str(stage)](resize(x, masks[stage].shape[-2:]) + decoder.enter[str(stage)](masks[stage]))
    x = resize(torch.cat([x, *skips[2]], 1), skips[1][0].shape[-2:])
    x = nn.Sequential.forward(decoder.mixer1, torch.cat([x, *skips[1]], 1))
    x = decoder.mixer2(resize(x, [2 * side for side in x.shape[-2:]]))
    return decoder.mixer3(resize(x, size))
