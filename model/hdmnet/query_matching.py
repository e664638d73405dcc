"""HDMNet's matching: the supports' foreground tokens are distributed over the query positions most similar to them.

The attention is normalised over the *query's* positions: every support token divides a weight of one among them. The
output of a position is therefore not a mean; it grows with the supports' area. In training the mask teaches the
coarsest correlation map, and each map the next finer one (correlation distillation).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.common.fixed_shapes import Chosen, shapes_are_fixed
from model.common.loss import image_mean
from model.common.ops import foreground_mask, in_float32, join_heads, resize_cells
from model.hdmnet.token_pyramid import DROPOUT, FeedForward, TokenProjections, to_map, to_tokens, token_norm

HEADS = 2
SHARPNESS = 10.0  # factor of cosines; scores lie in +-10, so that their exponentials need no shift
MASK_EPS = 1e-9
SHARE_EPS = 1e-6  # rounding of a resized mask; shares of a cell differ by more
PROBABILITY_EPS = 1e-12  # added to probabilities before their logarithm
MAX_KEYS = 2048  # support tokens whose scores are held at a time


class QueryMatching(nn.Module):
    """Matching at one level, then a feed-forward."""

    def __init__(self):
        super().__init__()
        self.norm = token_norm()
        self.linear = TokenProjections()
        self.dropout = nn.Dropout(DROPOUT)
        self.feed_forward = FeedForward()

    def forward(self, query_bchw: Tensor, support_bkchw: Tensor, inside: Chosen) -> tuple[Tensor, Tensor]:
        """Return the query's map after matching, (B, C, h, w), and the correlation map, (B, h, w)."""
        size, x = query_bchw.shape[-2:], to_tokens(query_bchw)
        all_shots = support_bkchw.transpose(1, 2).flatten(2).transpose(1, 2)  # (B, K L, C), one shot after the other
        support, counted = foreground_tokens(all_shots, inside)
        query, key, value = self.linear(self.norm(x), self.norm(support), HEADS)
        collected, correlation = match(query, key, value, counted)
        x = x + self.dropout(self.linear.out(join_heads(collected).to(x.dtype)))
        return to_map(self.feed_forward(x, size), size), correlation.unflatten(1, size)


def foreground_tokens(support_bmc: Tensor, inside: Chosen) -> tuple[Tensor, Tensor]:
    """Return the supports' tokens inside the object, (B, n, C), and 1 for each of them, (B, n).

    n is the largest count of the batch, at least 1; episodes with fewer are filled up by other tokens, marked 0. With
    fixed shapes n counts all tokens.
    """
    if shapes_are_fixed():
        return support_bmc, inside.inside.float()
    mask_bm, count = inside.inside.float(), max(*inside.counts, 1)
    order = mask_bm.argsort(dim=1, descending=True, stable=True)[:, :count]
    chosen = support_bmc.gather(1, order.unsqueeze(2).expand(-1, -1, support_bmc.shape[2]))
    return chosen, mask_bm.gather(1, order)


@in_float32
def match(query_bhld: Tensor, key_bhnd: Tensor, value_bhnd: Tensor, inside_bn: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of matched values, (B, heads, L, d), and the mean score, (B, L), of every query position.

    With s_ij = 10 cos(q_i, k_j): sum_j softmax_i(s_ij) v_j, and the mean of s_ij over j and heads. The mean is one
    product with the mean key; in the sum, values instead of scores are divided by the sums over i. Tokens with
    ``inside_bn`` = 0 are ignored.
    """
    query = SHARPNESS * F.normalize(query_bhld, dim=3)
    key = F.normalize(key_bhnd, dim=3)
    weight = inside_bn[:, None, :, None]
    collected = torch.zeros_like(query)
    for part, value in zip(key.split(MAX_KEYS, dim=2), (value_bhnd * weight).split(MAX_KEYS, dim=2), strict=True):
        score = (query @ part.transpose(2, 3)).exp_()  # (B, heads, L, n)
        collected = collected + score @ (value / score.sum(2).unsqueeze(3))
    mean_key = (key * weight).sum(2, keepdim=True) / (weight.sum(2, keepdim=True) + MASK_EPS)
    return collected, (query @ mean_key.transpose(2, 3)).mean(1)[:, :, 0]


def correlation_distillation(correlation: list[Tensor], label_bhw: Tensor, even_teacher: bool = False) -> Tensor:
    """Return the mean over levels of KL(teacher || logits) over positions; (B, h_i, w_i) each, finest first."""
    total, teacher = correlation[0].new_zeros((), dtype=torch.float32), None
    for student in reversed(correlation):
        size = student.shape[1:]
        if teacher is None:
            target = true_distribution(label_bhw, size, even_teacher)
        else:
            target = resize_cells(teacher.detach().float().unsqueeze(1), size).flatten(1).softmax(1)
        own = student.float().flatten(1).softmax(1)
        ratio = (target + PROBABILITY_EPS).log() - (own + PROBABILITY_EPS).log()
        total = total + image_mean((target * ratio).sum(1))
        teacher = student
    return total / len(correlation)


def true_distribution(label_bhw: Tensor, size: Sequence[int], even: bool = False) -> Tensor:
    """Return the uniform distribution over the cells that see most of the foreground, (B, h w).

    As published it is the softmax of the mask with -1e9 outside the object, resized bilinearly: where cells see only
    foreground these share it, else the cells that see least of the rest, which float32 drowns in the rounding of 1e9
    and this finds. ``even`` takes all cells alike where none sees only foreground.
    """
    rest = resize_cells(1 - foreground_mask(label_bhw), size).flatten(1)
    least = rest.amin(1, keepdim=True)
    most = ((rest <= least + SHARE_EPS) | (even & (least > SHARE_EPS))).float()
    return most / most.sum(1, keepdim=True)
