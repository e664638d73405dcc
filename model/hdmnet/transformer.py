"""HDMNet's decoupled transformer: tokens on three grids, refined by self-attention, then matched with the supports'.

In the token pyramid query and supports go through the same weights, each image on its own. There is no position
encoding; only the depthwise convolution between the two layers of each feed-forward depends on positions.

In the matching the supports' foreground tokens are distributed over the query positions most similar to them. The
attention is normalised over the *query's* positions: every support token divides a weight of one among them. The output
of a position is therefore not a mean; it grows with the supports' area. In training the mask teaches the coarsest
correlation map, and each map the next finer one (correlation distillation).
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.parts.loss import image_mean
from model.tensors.cells import resize_cells
from model.tensors.ops import foreground_mask, in_float32
from model.tensors.tokens import join_heads, split_heads

CHANNELS = 64  # of every token
BLOCKS = 2  # self-attention blocks of a level
DROPOUT = 0.1
# Finest first: kernel and stride of the embedding, heads, reduction of keys and values.
LEVELS = ((1, 1, 2, 4), (3, 2, 4, 2), (3, 2, 8, 1))
token_norm = partial(nn.LayerNorm, CHANNELS, eps=1e-6)
# Of the matching:
HEADS = 2
SHARPNESS = 10.0  # factor of cosines; scores lie in +-10, so that their exponentials need no shift
MASK_EPS = 1e-9
SHARE_EPS = 1e-6  # rounding of a resized mask; shares of a cell differ by more
PROBABILITY_EPS = 1e-12  # added to probabilities before their logarithm
MAX_KEYS = 2048  # support tokens whose scores are held at a time


def to_tokens(map_bchw: Tensor) -> Tensor:
    """Return a map as tokens in row-major order, (B, L, C)."""
    return map_bchw.flatten(2).transpose(1, 2)


def to_map(tokens_blc: Tensor, size: Sequence[int]) -> Tensor:
    """Return tokens as a map, (B, C, H, W)."""
    return tokens_blc.transpose(1, 2).unflatten(2, tuple(size))


class TokenProjections(nn.Module):
    """The four linear maps of an attention."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(CHANNELS, CHANNELS, bias=False)
        self.key = nn.Linear(CHANNELS, CHANNELS, bias=False)
        self.value = nn.Linear(CHANNELS, CHANNELS, bias=False)
        self.out = nn.Linear(CHANNELS, CHANNELS, bias=False)

    def forward(self, x_blc: Tensor, source_bmc: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the queries of tokens, (B, heads, L, C / heads), and keys and values of others alike."""
        query = split_heads(self.query(x_blc), heads)
        key = split_heads(self.key(source_bmc), heads)
        value = split_heads(self.value(source_bmc), heads)
        return query, key, value


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
        tokens = self.norm(x_blc)
        source = tokens
        if self.reduce is not None:
            reduced = self.reduce(to_map(tokens, size))
            source = self.reduced_norm(to_tokens(reduced))
        query, key, value = self.linear(tokens, source, self.heads)
        attended = join_heads(F.scaled_dot_product_attention(query, key, value))
        return x_blc + self.dropout(self.linear.out(attended))


class FeedForward(nn.Module):
    """x + shrink(GELU(depthwise(expand(norm(x)))))."""

    def __init__(self) -> None:
        super().__init__()
        wide = 4 * CHANNELS
        self.norm = token_norm()
        self.expand = nn.Conv2d(CHANNELS, wide, 1)
        self.depthwise = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.shrink = nn.Conv2d(wide, CHANNELS, 1)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x_blc: Tensor, size: Sequence[int]) -> Tensor:
        """Return tokens of the same shape; ``size`` is their grid."""
        x_bchw = to_map(self.norm(x_blc), size)
        wide = F.gelu(self.depthwise(self.expand(x_bchw)))
        narrow = self.shrink(self.dropout(wide))
        return x_blc + to_tokens(self.dropout(narrow))


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

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList(Level(*geometry) for geometry in LEVELS)

    def forward(self, map_bchw: Tensor) -> list[Tensor]:
        """Return the map of every level, finest first."""
        out = []
        for level in self.levels:
            map_bchw = level(map_bchw)
            out.append(map_bchw)
        return out


class QueryMatching(nn.Module):
    """Matching at one level, then a feed-forward."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = token_norm()
        self.linear = TokenProjections()
        self.dropout = nn.Dropout(DROPOUT)
        self.feed_forward = FeedForward()

    def of_support(self, support_nchw: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys, of length 1, and the values of a support's tokens, (n, L, heads, d) each."""
        tokens = self.norm(to_tokens(support_nchw))
        key = self.linear.key(tokens).unflatten(2, (HEADS, -1))
        value = self.linear.value(tokens).unflatten(2, (HEADS, -1))
        return F.normalize(key.float(), dim=3), value

    def forward(
        self, query_bchw: Tensor, key_bnhd: Tensor, value_bnhd: Tensor, area_b: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the query's map after matching, (B, C, h, w), and the correlation map, (B, h, w).

        Keys and values are those of all objects, with zeros where others have more; the area is their number.
        """
        size = query_bchw.shape[-2:]
        x = to_tokens(query_bchw)
        query = split_heads(self.linear.query(self.norm(x)), HEADS)
        collected, correlation = match(query, key_bnhd.transpose(1, 2), value_bnhd.transpose(1, 2), area_b)
        matched = self.linear.out(join_heads(collected).to(x.dtype))
        x = x + self.dropout(matched)
        return to_map(self.feed_forward(x, size), size), correlation.unflatten(1, size)


@in_float32
def match(query_bhld: Tensor, key_bhnd: Tensor, value_bhnd: Tensor, area_b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of matched values, (B, heads, L, d), and the mean score, (B, L), of every query position.

    With s_ij = 10 cos(q_i, k_j) of n keys of length 1: sum_j softmax_i(s_ij) v_j, and the mean of s_ij over j and
    heads. The mean is one product with the mean key; in the sum, values instead of scores are divided by the sums over
    i. Keys and values of 0 change nothing beside the area, the number of the others.
    """
    query = SHARPNESS * F.normalize(query_bhld, dim=3)
    collected = torch.zeros_like(query)
    for key, value in zip(key_bhnd.split(MAX_KEYS, dim=2), value_bhnd.split(MAX_KEYS, dim=2), strict=True):
        score = (query @ key.transpose(2, 3)).exp_()  # (B, heads, L, n)
        over_query = score.sum(2).unsqueeze(3)
        collected = collected + score @ (value / over_query)
    area_b111 = area_b.view(-1, 1, 1, 1)
    mean_key = key_bhnd.sum(2, keepdim=True) / (area_b111 + MASK_EPS)
    correlation = (query @ mean_key.transpose(2, 3)).mean(1)[:, :, 0]
    return collected, correlation


def correlation_distillation(correlation: list[Tensor], label_bhw: Tensor, even_teacher: bool = False) -> Tensor:
    """Return the mean over levels of KL(teacher || logits) over positions; (B, h_i, w_i) each, finest first."""
    total = correlation[0].new_zeros((), dtype=torch.float32)
    teacher = None  # the next coarser level
    for student in reversed(correlation):
        size = student.shape[1:]
        if teacher is None:
            target = true_distribution(label_bhw, size, even_teacher)
        else:
            logits = resize_cells(teacher.detach().float().unsqueeze(1), size)
            target = logits.flatten(1).softmax(1)
        probability = student.float().flatten(1).softmax(1)
        log_target = (target + PROBABILITY_EPS).log()
        ratio = log_target - (probability + PROBABILITY_EPS).log()
        total = total + image_mean((target * ratio).sum(1))
        teacher = student
    return total / len(correlation)


def true_distribution(label_bhw: Tensor, size: Sequence[int], even: bool = False) -> Tensor:
    """Return the uniform distribution over the cells that see most of the foreground, (B, h w).

    As published it is the softmax of the mask with -1e9 outside the object, resized bilinearly: where cells see only
    foreground these share it, else the cells that see least of the rest, which float32 drowns in the rounding of 1e9
    and this finds. ``even`` takes all cells alike where none sees only foreground.
    """
    rest = resize_cells(1 - foreground_mask(label_bhw), size).flatten(1)  # share of what is not foreground, (B, h w)
    least = rest.amin(1, keepdim=True)
    has_least = rest <= least + SHARE_EPS
    all_alike = even & (least > SHARE_EPS)  # (B, 1)
    cells = (has_least | all_alike).float()
    return cells / cells.sum(1, keepdim=True)
