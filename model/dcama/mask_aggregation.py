"""DCAMA's mask aggregation: a soft mask of the query as the attention-weighted mean of the supports' masks.

Every query position attends to all positions of all shots; the value of a position is one number, its mask.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from model.common.ops import linear_over_map, resize, split_heads

HEADS = 8
DROPOUT = 0.5  # of feature plus position encoding, and of the attention
WAVELENGTH = 10000.0  # of the slowest position sinusoid
VALUE_WIDTH = 8  # columns of a value, one number and padding: GPU kernels need a multiple of 8 (``attended_mask``)
MAX_SCORES = 2**21  # attention scores held at a time where no fused kernel exists


class MaskAggregation(nn.Module):
    """The attention block of one stage, shared by the stage's intermediate features."""

    def __init__(self, channels: int):
        super().__init__()
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.key.load_state_dict(self.query.state_dict())  # keys start as copies of queries
        self.position_dropout = nn.Dropout(DROPOUT)
        self.attention_dropout = nn.Dropout(DROPOUT)

    def forward(self, query_maps: list[Tensor], support_maps: list[Tensor], mask_bk1hw: Tensor) -> Tensor:
        """Return the soft mask of each of the stage's n intermediate features, (B, n, h, w) float32.

        Maps are n of (B, C, h, w) and of (B K, C, h, w); the mask, (B, K, 1, S, S) float32, is 1 on the object.
        """
        batch, size = len(mask_bk1hw), query_maps[0].shape[-2:]
        value = resize(mask_bk1hw.flatten(0, 1), size).view(batch, -1)  # (B, K L)
        position = position_encoding(query_maps[0].shape[1], size.numel(), value.device)  # (L, C)
        # One feature after the other: their scores never exist together, and those of one are enough to fill a device.
        masks = [self._aggregate(q, s, value, position) for q, s in zip(query_maps, support_maps, strict=True)]
        # The keys' bias adds one number to all scores of a query position, which the softmax removes, so the products
        # leave it out. Checkpoints have it as a learnable tensor, and several processes exchange a gradient of every
        # such tensor: this is one, of 0.
        unused_bias = 0 * self.key.bias.sum()
        return torch.stack(masks, dim=1).unflatten(2, size) + unused_bias

    def _aggregate(self, query: Tensor, support: Tensor, value_bm: Tensor, position: Tensor) -> Tensor:
        """Return the soft mask of one intermediate feature, (B, L)."""
        size = query.shape[-2:]
        query, key = (self.position_dropout(x.flatten(2).transpose(1, 2) + position) for x in (query, support))
        query = linear_over_map(query, size, self.query.weight, self.query.bias)
        key = linear_over_map(key, size, self.key.weight)
        key = key.reshape(len(value_bm), -1, key.shape[2])  # (B, K L, C), all shots in one row
        dropout = self.attention_dropout.p if self.attention_dropout.training else 0.0
        return attended_mask(split_heads(query, HEADS), split_heads(key, HEADS), value_bm, dropout)


def position_encoding(channels: int, length: int, device: torch.device) -> Tensor:
    """Return sinusoids of the row-major position on a grid, (L, C): sines in even channels, cosines in odd ones."""
    rate = WAVELENGTH ** (-torch.arange(0, channels, 2, device=device) / channels)  # (C / 2,)
    angle = torch.arange(length, device=device).unsqueeze(1) * rate
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)


def attended_mask(query_bhld: Tensor, key_bhmd: Tensor, value_bm: Tensor, dropout: float) -> Tensor:
    """Return softmax(Q K^T / sqrt(d)) value, mean over heads, (B, L) float32, in bounded memory.

    This is attention whose value is one number per key. With the value as the first of several columns,
    ``scaled_dot_product_attention`` returns the result in its first column, and its fused kernels hold no matrix. Those
    of GPUs accept a narrow value; those of CPUs need one as wide as the keys and have no dropout, so on a CPU training
    splits the queries into pieces, which the backward pass computes again.
    """
    (heads, length, width), keys = query_bhld.shape[1:], key_bhmd.shape[2]
    on_gpu = query_bhld.is_cuda
    rows = length if on_gpu or not dropout else max(MAX_SCORES // (len(value_bm) * heads * keys), 1)
    columns = torch.zeros(VALUE_WIDTH if on_gpu or dropout else width, device=value_bm.device)
    columns[0] = 1
    value = (value_bm[:, None, :, None] * columns).to(query_bhld.dtype).expand(-1, heads, -1, -1)  # (B, heads, K L, W)
    attend, out = partial(F.scaled_dot_product_attention, key=key_bhmd, value=value, dropout_p=dropout), []
    for piece in query_bhld.split(rows, dim=2):
        again = torch.is_grad_enabled() and rows < length
        attended = checkpoint(attend, piece, use_reentrant=False) if again else attend(piece)
        out.append(attended[..., 0].float().mean(1))
    return torch.cat(out, dim=1)
