"""A plain implementation of SCCAN: the same weights and numbers, whole matrices, one image at a time."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.plain_encoder import PlainEncoder
from model.common.fusion import Fusion
from model.common.ops import foreground_mask, normalise, resize
from model.common.prototype import SUPPORT_EPS
from model.common.with_encoder import HIGH, LOW, MID
from model.encoders.features import Features
from model.episode import Episode, Output
from model.sccan.pseudo_mask import EPS
from model.sccan.sccan import SCCAN
from model.sccan.self_calibrated_attention import HEADS, CalibratedBlock, WindowAttention
from model.sccan.window import SHIFT, WINDOW


class NaiveSCCAN(nn.Module):
    """SCCAN with the prior's whole matrices, and with aligned windows projected anew for every query window."""

    def __init__(self, network: SCCAN):
        super().__init__()
        self.network, self.encoder = network, PlainEncoder(network.encoder)

    @torch.no_grad()
    def forward(self, episode: Episode) -> Output:
        """Return the output of ``SCCAN.forward`` in evaluation mode without the map of the prior, for one episode."""
        network, grid = self.network, (self.network.settings.grid,) * 2
        query = self.encoder(normalise(episode.query))
        shots = [self.encoder(normalise(image)) for image in episode.support.unbind(1)]
        masks = [resize(foreground_mask(label), grid) for label in episode.support_label.unbind(1)]
        priors = [_prior(query.stage[HIGH], resize(s.stage[HIGH], grid), m) for s, m in zip(shots, masks)]
        features = [resize(network.project_support(_middle(s)), grid) * m for s, m in zip(shots, masks)]
        prototypes = [f.sum((2, 3)) / (m.sum((2, 3)) + SUPPORT_EPS) for f, m in zip(features, masks)]
        feature, prototype, mask, prior = (
            torch.stack(x).mean(0) for x in (features, prototypes, masks, [resize(p, grid) for p in priors])
        )
        query_map = _fuse(network.fuse_query, resize(network.project_query(_middle(query)), grid), prototype, prior)
        support_map = _fuse(network.fuse_support, feature, prototype, mask)
        q, s = (x.flatten(2).transpose(1, 2) for x in (query_map, support_map))  # tokens, (1, G G, C)
        for block in network.attend.blocks:
            q, s = _block(cast(CalibratedBlock, block), q, s, mask)
        fused = F.relu(network.attend.norm(q)).transpose(1, 2).unflatten(2, grid)
        return Output(resize(network.decoder(fused), episode.query.shape[-2:]))


def _middle(features: Features) -> Tensor:
    return torch.cat([features.stage[LOW], features.stage[MID]], dim=1)


def _prior(query: Tensor, support: Tensor, mask: Tensor) -> Tensor:
    q, s = query[0].flatten(1).T, support[0].flatten(1)
    cosine = (q @ s) / (q.norm(dim=1, keepdim=True) @ s.norm(dim=0, keepdim=True) + EPS)  # (h w, G G)
    rough = cosine.softmax(1) @ mask.flatten()
    return ((rough - rough.min()) / (rough.max() - rough.min() + EPS)).view(1, 1, *query.shape[-2:])


def _fuse(fuse: Fusion, feature: Tensor, prototype: Tensor, other: Tensor) -> Tensor:
    return fuse.conv(torch.cat([feature, prototype[:, :, None, None].expand_as(feature), other], dim=1))


def _windows(tokens: Tensor, shifted: bool) -> Tensor:
    """Return the windows of (1, G G, C) as (N, T, C)."""
    side = round(tokens.shape[1] ** 0.5)
    grid = tokens.transpose(1, 2).unflatten(2, (side, side))
    grid = F.pad(grid, (SHIFT,) * 4) if shifted else grid
    return F.unfold(grid, WINDOW, stride=WINDOW).unflatten(1, (tokens.shape[2], -1)).permute(0, 3, 2, 1)[0]


def _grid(windows: Tensor, shifted: bool) -> Tensor:
    side = round(len(windows) ** 0.5) * WINDOW
    columns = windows.permute(2, 1, 0).flatten(0, 1)[None]
    grid = F.fold(columns, (side, side), WINDOW, stride=WINDOW)
    grid = grid[..., SHIFT:-SHIFT, SHIFT:-SHIFT] if shifted else grid
    return grid.flatten(2).transpose(1, 2)


def _block(block: CalibratedBlock, q: Tensor, s: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    query, support = _windows(block.norm1(q), block.shifted), _windows(block.norm1(s), block.shifted)
    amount = _windows(mask.flatten(2).transpose(1, 2), block.shifted)  # (N, T, 1)
    own = query.mean(1)
    theirs = (support * amount).sum(1) / (amount.sum(1) + SUPPORT_EPS)
    cosine = own @ theirs.T / (own.norm(dim=1, keepdim=True) @ theirs.norm(dim=1, keepdim=True).T + EPS)
    aligned = ((1 + cosine) / 2 * (amount.sum(1).T > 0)).argmax(1)
    both = torch.cat([query, support[aligned]], dim=1)  # (N, 2 T, C)
    q = q + _grid(_attention(block.attend_query, query, both), block.shifted)
    s = s + _grid(_attention(block.attend_support, support, support), block.shifted)
    return q + block.mlp_query(block.norm2(q)), s + block.mlp_support(block.norm2(s))


def _attention(attend: WindowAttention, queries: Tensor, others: Tensor) -> Tensor:
    query, key, value = (
        x.unflatten(2, (HEADS, -1)).transpose(1, 2)
        for x in (attend.query(queries), *attend.key_value(others).chunk(2, 2))
    )
    product, tokens = query @ key.transpose(2, 3), queries.shape[1]
    lengths = query.norm(dim=3, keepdim=True) @ key.norm(dim=3, keepdim=True).transpose(2, 3)
    cosine = product / (lengths + EPS)
    logits = torch.cat([product[..., :tokens] / query.shape[3] ** 0.5, cosine[..., tokens:]], dim=3)
    return attend.project((logits.softmax(3) @ value).transpose(1, 2).flatten(2))
