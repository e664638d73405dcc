"""DCAMA and SSP written down plainly: the same weights and numbers, every matrix in full, every image on its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.contract import Episode, Output
from model.dcama import DCAMA
from model.mask_aggregation import HEADS, MaskAggregation, position_encoding
from model.mask_decoder import MaskDecoder
from model.ops import foreground, normalise, resize
from model.self_support import SHARPNESS, SURE_BACKGROUND, SURE_FOREGROUND
from model.ssp import BLEND, FINAL, LAST_STAGE, OWN_BACKGROUND, SSP, prototypes


class NaiveDCAMA(nn.Module):
    """DCAMA with the whole attention matrix of every tap, and the decoder's maps concatenated at full size."""

    def __init__(self, network: DCAMA):
        super().__init__()
        self.network = network

    @torch.no_grad()
    def forward(self, episode: Episode) -> Output:
        """Return what ``DCAMA.forward`` returns in evaluation mode, for one episode."""
        network, mask = self.network, foreground(episode.support_label)
        query = network.encoder(normalise(episode.query), taps=True).taps
        shots = [network.encoder(normalise(image), taps=True).taps for image in episode.support.unbind(1)]
        masks = {}
        for stage, block in network.aggregate.items():
            taps = zip(query[int(stage)], *(shot[int(stage)] for shot in shots))
            masks[int(stage)] = torch.cat([_soft_mask(block, q, s, mask) for q, *s in taps], dim=1)
        skips = {i: [query[i][-1], torch.stack([s[i][-1] for s in shots]).amax(0)] for i in (1, 2)}
        return Output(_decode(network.decoder, masks, skips, episode.query.shape[-2:]))


def _soft_mask(block: MaskAggregation, query: Tensor, shots: list[Tensor], mask: Tensor) -> Tensor:
    size = query.shape[-2:]
    position = position_encoding(*query.flatten(2).shape[1:], query.device)
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


class NaiveSSP(nn.Module):
    """SSP with the whole matrix of likenesses in each step, for the foreground as well, which nothing reads."""

    def __init__(self, network: SSP):
        super().__init__()
        self.network = network

    @torch.no_grad()
    def forward(self, episode: Episode) -> Output:
        """Return what ``SSP.forward`` returns in evaluation mode with ``refine``, for one episode."""
        network = self.network
        query = network.encoder(normalise(episode.query)).stage[LAST_STAGE]
        images = zip(episode.support.unbind(1), episode.support_label.unbind(1))
        pairs = [prototypes(network.encoder(normalise(s)).stage[LAST_STAGE], y) for s, y in images]
        fg, bg = (torch.stack(kind).mean(0)[:, :, None, None] for kind in zip(*pairs))
        first_fg, first_bg = _step(query, network.similarity(query, fg, bg), fg)
        first = network.similarity(query, first_fg, first_bg)
        own_fg, own_bg = _step(query, first, fg)
        blended = [sum(b * p for b, p in zip(BLEND, ps)) for ps in ((fg, first_fg, own_fg), (bg, first_bg, own_bg))]
        second = network.similarity(query, *blended)
        return Output(resize(FINAL * second + (1 - FINAL) * first, episode.query.shape[-2:]))


def _step(query: Tensor, logits: Tensor, support_fg: Tensor) -> tuple[Tensor, Tensor]:
    feature = query.flatten(2)[0]  # (C, L)
    background, foreground = logits.softmax(1).flatten(2)[0]
    means, adaptive = [], []
    for probability, threshold in ((foreground, SURE_FOREGROUND), (background, SURE_BACKGROUND)):
        sure = probability > threshold
        if not sure.any():
            sure = torch.zeros_like(sure).index_fill(0, probability.topk(12).indices, True)
        chosen = feature[:, sure]
        likeness = F.normalize(feature, dim=0).T @ F.normalize(chosen, dim=0)  # (L, |N|)
        adaptive.append(((SHARPNESS * likeness).softmax(1) @ chosen.T).T.view_as(query[0])[None])
        means.append(chosen.mean(1)[None, :, None, None])
    return 0.5 * support_fg + 0.5 * means[0], OWN_BACKGROUND * means[1] + (1 - OWN_BACKGROUND) * adaptive[1]
