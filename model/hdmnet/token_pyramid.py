"""HDMNet's token pyramid: a feature map as tokens on three grids, refined by self-attention (decoupled transformer).

Query and supports go through the same weights, each image on its own. There is no position encoding; only the depthwise
convolution between the two layers of each feed-forward depends on positions.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from model.common.ops import join_heads, split_heads

CHANNELS = 64  # of every token
BLOCKS = 2  # self-attention blocks of a level
EXPANSION = 4  # factor of the channels inside a feed-forward
DROPOUT = 0.1
NORM_EPS = 1e-6
# Finest first: kernel and stride of the embedding, heads, reduction of keys and values.
LEVELS = ((1, 1, 2, 4), (3, 2, 4, 2), (3, 2, 8, 1))
MIN_GRID = 4  # least side of the finest grid: the reduction of level 0 needs it


def to_tokens(map_bchw: Tensor) -> Tensor:
    """Return a map as tokens in row-major order, (B, L, C)."""
    return map_bchw.flatten(2).transpose(1, 2)


def to_map(tokens_blc: Tensor, size: Sequence[int]) -> Tensor:
    """Return tokens as a map, (B, C, H, W)."""
    return tokens_blc.transpose(1, 2).unflatten(2, tuple(size))


def token_norm() -> nn.LayerNorm:
    """Return the layer norm of tokens."""
    return nn.LayerNorm(CHANNELS, eps=NORM_EPS)


class TokenProjections(nn.Module):
    """The four linear maps of an attention."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(CHANNELS, CHANNELS, bias=False) for _ in range(4))

    def forward(self, own_blc: Tensor, source_bmc: Tensor, heads: int) -> list[Tensor]:
        """Return the queries of tokens, (B, heads, L, C / heads), and keys and values of others alike."""
        return [split_heads(x, heads) for x in (self.query(own_blc), self.key(source_bmc), self.value(source_bmc))]


class SelfAttention(nn.Module):
    """x + attention(norm(x)); keys and values come from a grid that is coarser by the factor ``reduction``."""

    def __init__(self, heads: int, reduction: int):
        super().__init__()
        self.heads = heads
        self.norm = token_norm()
        self.linear = TokenProjections()
        self.reduce = None
        if reduction > 1:  # without padding: a remainder at the border is dropped
            self.reduce = nn.Conv2d(CHANNELS, CHANNELS, reduction, stride=reduction)
            self.reduced_norm = token_norm()
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x_blc: Tensor, size: Sequence[int]) -> Tensor:
        """Return tokens of the same shape; ``size`` is their grid."""
        own = self.norm(x_blc)
        source = own
        if self.reduce is not None:
            source = self.reduced_norm(to_tokens(self.reduce(to_map(own, size))))
        attended = join_heads(F.scaled_dot_product_attention(*self.linear(own, source, self.heads)))
        return x_blc + self.dropout(self.linear.out(attended))


class FeedForward(nn.Module):
    """x + shrink(GELU(depthwise(expand(norm(x)))))."""

    def __init__(self):
        super().__init__()
        wide = EXPANSION * CHANNELS
        self.norm = token_norm()
        self.expand = nn.Conv2d(CHANNELS, wide, 1)
        self.depthwise = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.shrink = nn.Conv2d(wide, CHANNELS, 1)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x_blc: Tensor, size: Sequence[int]) -> Tensor:
        """Return tokens of the same shape; ``size`` is their grid."""
        wide = F.gelu(self.depthwise(self.expand(to_map(self.norm(x_blc), size))))
        return x_blc + to_tokens(self.dropout(self.shrink(self.dropout(wide))))


class Level(nn.Module):
    """One level: patch embedding, self-attention blocks, norm."""

    def __init__(self, kernel: int, stride: int, heads: int, reduction: int):
        super().__init__()
        self.embed = nn.Conv2d(CHANNELS, CHANNELS, kernel, stride=stride, padding=kernel // 2)
        self.embed_norm = token_norm()
        self.attention = nn.ModuleList(SelfAttention(heads, reduction) for _ in range(BLOCKS))
        self.feed_forward = nn.ModuleList(FeedForward() for _ in range(BLOCKS))
        self.norm = token_norm()

    def forward(self, map_bchw: Tensor) -> Tensor:
        """Return the level's map, (B, C, H / stride, W / stride), sides rounded up."""
        embedded = self.embed(map_bchw)
        size = embedded.shape[-2:]
        x = self.embed_norm(to_tokens(embedded))
        for attend, feed in zip(self.attention, self.feed_forward, strict=True):
            x = feed(attend(x, size), size)
        return to_map(self.norm(x), size)


class TokenPyramid(nn.Module):
    """Three levels, each computed from the previous one."""

    def __init__(self):
        super().__init__()
        self.levels = nn.ModuleList(Level(*geometry) for geometry in LEVELS)

    def forward(self, map_bchw: Tensor) -> list[Tensor]:
        """Return the map of every level, finest first."""
        out = []
        for level in self.levels:
            map_bchw = level(map_bchw)
            out.append(map_bchw)
        return out
