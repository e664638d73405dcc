"""A plain implementation of SSP: the same weights and numbers, whole matrices, one image at a time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.plain_encoder import PlainEncoder
from model.common.ops import normalise, resize
from model.common.prototype import FALLBACK
from model.common.self_support import OWN_BACKGROUND, OWN_FOREGROUND, SHARPNESS, SURE_BACKGROUND, SURE_FOREGROUND
from model.episode import Episode, Output
from model.ssp.ssp import BLEND, FINAL, LAST_STAGE, SSP, prototypes


class NaiveSSP(nn.Module):
    """SSP with the whole matrix of cosines in each step, for the foreground as well, whose result is not used."""

    def __init__(self, network: SSP):
        super().__init__()
        self.network, self.encoder = network, PlainEncoder(network.encoder)

    @torch.no_grad()
    def forward(self, episode: Episode) -> Output:
        """Return the output of ``SSP.forward`` in evaluation mode with ``refine``, for one episode."""
        network = self.network
        query = self.encoder(normalise(episode.query)).stage[LAST_STAGE]
        images = zip(episode.support.unbind(1), episode.support_label.unbind(1))
        pairs = [prototypes(self.encoder(normalise(s)).stage[LAST_STAGE], y) for s, y in images]
        fg, bg = (torch.stack(kind).mean(0)[:, :, None, None] for kind in zip(*pairs))
        first_fg, first_bg = _step(query, network.similarity(query, fg, bg), fg)
        first = network.similarity(query, first_fg, first_bg)
        own_fg, own_bg = _step(query, first, fg)
        blended = [sum(b * p for b, p in zip(BLEND, ps)) for ps in ((fg, first_fg, own_fg), (bg, first_bg, own_bg))]
        second = network.similarity(query, *blended)
        return Output(resize(FINAL * second + (1 - FINAL) * first, episode.query.shape[-2:]))


def _step(query: Tensor, logits: Tensor, support_fg: Tensor) -> tuple[Tensor, Tensor]:
    """Return foreground (1, C, 1, 1) and background (1, C, h, w) prototypes after one self-support step."""
    feature = query.flatten(2)[0]  # (C, L)
    background, foreground = logits.softmax(1).flatten(2)[0]
    means, adaptive = [], []
    for probability, threshold in ((foreground, SURE_FOREGROUND), (background, SURE_BACKGROUND)):
        sure = probability > threshold
        if not sure.any():
            sure = torch.zeros_like(sure).index_fill(0, probability.topk(FALLBACK).indices, True)
        chosen = feature[:, sure]
        similarity = F.normalize(feature, dim=0).T @ F.normalize(chosen, dim=0)  # (L, |N|)
        adaptive.append(((SHARPNESS * similarity).softmax(1) @ chosen.T).T.view_as(query[0])[None])
        means.append(chosen.mean(1)[None, :, None, None])
    foreground_prototype = (1 - OWN_FOREGROUND) * support_fg + OWN_FOREGROUND * means[0]
    return foreground_prototype, OWN_BACKGROUND * means[1] + (1 - OWN_BACKGROUND) * adaptive[1]
