"""The maps of an image that Pocket compares: three of the encoder, and an embedding that is learnt from them.

The encoder's are the output of stage 3 and those of the last two blocks of stage 4, of whatever width: in EfficientNets
the last block has a grid in common with narrower ones that tell classes apart better. A small classifier of the base
classes beside the comparison teaches the encoder to tell classes apart, and tells the decoder where the query shows a
base class, and whether it is one that the supports' objects look like.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.encoders.encoder import Encoder
from model.encoders.variant import EncoderVariant
from model.episode import Batch
from model.kinds.training_free import unit
from model.method import HIGH, LOW, MID, Maps
from model.tensors.ops import background_mask, foreground_mask, in_float32, masked_mean

VARIANT = EncoderVariant(intermediate={HIGH: 2}, any_width=True)
EMBEDDING = 128  # channels of the learnt level
BASE_MAPS = 4  # that the decoder reads of the base classes
MASK_EPS = 1e-4  # smallest sum of a mask
PROBABILITY_EPS = 1e-12  # smallest product of probabilities, for the gradient of its root


@dataclass
class Levels(Batch):
    """The maps of B images on one grid; float32 but for ``classes``, which autocast may halve."""

    unit: list[Tensor]  # (B, C_l, h, w) of each level, positions of length 1; the learnt level is the last
    joint: Tensor  # (B, C, h, w), the encoder's levels concatenated, their mean square 1
    classes: Tensor  # (B, N + 1, h, w), logits of the base classes, background first
    fine: Tensor  # (B, C_f, h', w'), an earlier stage for outlines, on a grid at least as fine

    @property
    def of_encoder(self) -> Tensor:
        """The levels but the learnt one, concatenated; each counts alike in a cosine, (B, C, h, w)."""
        return torch.cat(self.unit[:-1], dim=1)


@dataclass
class Views(Batch):
    """V views of each of n supports: what a comparison reads of them."""

    unit: list[Tensor]  # of each level, (n, V, C_l, h, w)
    objects: Tensor  # share of each cell that the object covers, (n, V, h, w)
    backgrounds: Tensor  # and its background
    mean: Tensor  # of ``Levels.joint`` over the object, (n, V, C)
    classes: Tensor  # mean probability of the base classes over the object, (n, V, N + 1)

    @classmethod
    def beside(cls, parts: "Sequence[Views]") -> "Views":
        """Return several views of the same supports side by side, (n, V, ...)."""
        return cls.joined(parts, partial(torch.cat, dim=1))


def joint_of(unit_bchw: Sequence[Tensor]) -> Tensor:
    """Return unit maps concatenated, their mean square 1, (B, C, h, w)."""
    return torch.cat([x * x.shape[1] ** 0.5 for x in unit_bchw], dim=1)


class LevelsOf(nn.Module):
    """From the maps of an encoder that was built with ``VARIANT`` to levels."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.channels = [encoder.channels[MID], *encoder.widths(HIGH)]
        total = sum(self.channels)
        self.embed = nn.Conv2d(total, EMBEDDING, 1, bias=False)
        # A random projection keeps cosines, up to noise: the learnt level begins as the mean of the others, weighted by
        # their channels.
        nn.init.normal_(self.embed.weight, std=total**-0.5)

    def forward(self, maps: Maps, classify: Callable[[Tensor], Tensor]) -> Levels:
        """Return the levels of B images; ``classify`` gives the logits of the base classes from ``Levels.joint``."""
        last_blocks = [block for _, block in maps.blocks()]
        of_encoder = [unit(x, dim=1) for x in (maps[MID], *last_blocks)]
        joint_bchw = joint_of(of_encoder)
        learnt = unit(self.embed(joint_bchw), dim=1)
        return Levels([*of_encoder, learnt], joint_bchw, classify(joint_bchw), maps[LOW].float())


class BaseClasses(nn.Module):
    """Logits of the base classes at every position, (B, N + 1, h, w), background first, by ``classify``."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.classify = nn.Sequential(nn.Conv2d(channels, 128, 1), nn.ReLU(), nn.Conv2d(128, classes + 1, 1))


def view_of(levels: Levels, label_nss: Tensor) -> Views:
    """Return n images with labels (n, S, S) as a view each."""
    size = levels.unit[0].shape[-2:]
    objects, backgrounds = (shares(mask(label_nss), size) for mask in (foreground_mask, background_mask))
    objects_b1hw = objects.unsqueeze(1)
    mean_bc = masked_mean(levels.joint, objects_b1hw, MASK_EPS)
    classes_bn = _mean_probability(levels.classes, objects)
    return Views(
        unit=[x.unsqueeze(1) for x in levels.unit],
        objects=objects_b1hw,
        backgrounds=backgrounds.unsqueeze(1),
        mean=mean_bc.unsqueeze(1),
        classes=classes_bn.unsqueeze(1),
    )


def shares(mask_b1ss: Tensor, size: Sequence[int]) -> Tensor:
    """Return the share of each cell that a mask covers, (B, h, w); cells lie as those of the encoder."""
    side, cells = mask_b1ss.shape[-1], size[-1]
    stride = (side - 1) // max(cells - 1, 1)
    if (cells - 1) * stride + 1 == side:  # cells are centred on every stride-th pixel
        return F.avg_pool2d(mask_b1ss, stride + 1, stride, stride // 2, count_include_pad=False)[:, 0]
    return F.adaptive_avg_pool2d(mask_b1ss, (size[0], size[1]))[:, 0]


@in_float32
def _mean_probability(logits_bnhw: Tensor, object_bhw: Tensor) -> Tensor:
    """Return the mean probability of each class over objects, (B, N + 1); 0 without an object."""
    weight = object_bhw / object_bhw.sum((1, 2), keepdim=True).clamp(min=MASK_EPS)
    return torch.einsum("bnhw,bhw->bn", logits_bnhw.softmax(1), weight)


@in_float32
def base_maps(query_bnhw: Tensor, object_bkn: Tensor, weight_bk: Tensor) -> Tensor:
    """Return maps (B, 4, h, w) from logits of queries and the mean probabilities of supports' objects.

    They are the probability of the background, the similarity to the objects with and without the background
    (Bhattacharyya), and the greatest probability of a class. The K supports have weights.
    """
    probability = query_bnhw.softmax(1)
    of_object = (object_bkn * weight_bk.unsqueeze(2)).sum(1)
    product = (probability * of_object[:, :, None, None]).clamp(min=PROBABILITY_EPS).sqrt()
    similarity = product.sum(1, keepdim=True)
    class_similarity = product[:, 1:].sum(1, keepdim=True)
    likeliest = probability[:, 1:].amax(1, keepdim=True)
    return torch.cat([probability[:, :1], similarity, class_similarity, likeliest], dim=1)


def equal_weights(object_bkhw: Tensor) -> Tensor:
    """Return weights (B, K) of K supports that sum to 1: equal for those that show the object, 0 for the others."""
    shows_bk = (object_bkhw.flatten(2).sum(2) > 0).float()
    return shows_bk / shows_bk.sum(1, keepdim=True).clamp(min=1)
