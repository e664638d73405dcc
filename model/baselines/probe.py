"""Linear probe: a query's cells are classified by a logistic regression that was fitted to the supports' cells.

Nothing is trained beforehand. With many supports it is better than prototypes, with few worse. An example is a cell,
its target the share of each class in it; the loss is the cross entropy of all cells and a penalty on the weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from model.contract import Episode, Output, Shot, register
from model.episode import IGNORE
from model.kinds.training_free import OnCells, TrainingFreeSettings
from model.method import Maps
from model.parts.linear import LinearHead, logistic
from model.parts.once import once_for
from model.tensors.cells import resize_cells
from model.tensors.mask import Mask
from model.tensors.ops import in_float32
from model.tensors.transfers import to_cpu, to_device

PENALTY = 0.3  # on half of the squared weights of features of mean 0 and mean square 1, beside the mean cross entropy
STEP = 8  # between the pixels by which images are told apart
LEAST_TOTAL = 1e-6  # that the cells of a class are divided by at least


@dataclass
class ProbeSettings(TrainingFreeSettings):
    """The probe's settings."""

    stage: int | list[int] = field(default_factory=lambda: [3, 4], metadata={"low": 2, "high": 4, "length": (1, 3)})


@dataclass
class ProbeShot(Shot):
    """The cells of n supports."""

    feature: Tensor  # (n, C, h, w)
    label: Tensor  # (n, H, W)


@register("probe")
class Probe(OnCells):
    """Multinomial logistic regression on the cells of all supports. Nothing learns beforehand."""

    Settings = ProbeSettings
    title = "linear probe"
    settings: ProbeSettings

    def support(self, maps: Maps, mask: Mask) -> ProbeShot:
        """Return the cells of n supports."""
        return ProbeShot(self.compared(maps), mask.label)

    def predict_classes(self, maps: Maps, shots: Sequence[Sequence[ProbeShot]], episodes: Sequence[Episode]) -> Output:
        """Return logits (B, N + 1, H, W) of N classes, background first."""
        # The heads, (B, N + 1, C) and (B, N + 1), are fitted once where all queries share their supports.
        weight_bnc, bias_bn = once_for(shots, lambda shots: self._fit(shots, episodes))
        logits = _logits(self.compared(maps), weight_bnc, bias_bn)
        return Output(resize_cells(logits, episodes[0].query.shape[-2:]))

    def _fit(self, shots: Sequence[Sequence[ProbeShot]], episodes: Sequence[Episode]) -> tuple[Tensor, Tensor]:
        """Return weights and biases of the heads that are fitted to the shots of all classes, of each query's alone."""
        numbers = []  # the class of each shot
        supports = []  # some pixels of each shot, its labels and its features, for every query
        for number, (of_class, episode) in enumerate(zip(shots, episodes, strict=True), 1):
            for shot, support in zip(of_class, episode.supports, strict=True):
                numbers.append(number)
                supports.append([support.image[..., ::STEP, ::STEP].float(), shot.label, shot.feature])
        on_cpu = to_cpu(supports)
        heads = []
        for item in range(len(shots[0][0])):
            pixels_of, labels, features = ([part[item] for part in parts] for parts in zip(*on_cpu, strict=True))
            joint = joint_labels(numbers, pixels_of, labels)
            heads.append(fit(list(zip(features, joint, strict=True)), len(episodes)))
        device = shots[0][0].feature.device
        weights = torch.stack([head.weight for head in heads])
        biases = torch.stack([head.bias for head in heads])
        return to_device(weights, device), to_device(biases, device)


@in_float32
def _logits(x_bchw: Tensor, weight_bnc: Tensor, bias_bn: Tensor) -> Tensor:
    """Return the logits of each cell, (B, N + 1, h, w)."""
    logits_bnl = weight_bnc @ x_bchw.flatten(2) + bias_bn.unsqueeze(2)
    return logits_bnl.unflatten(2, x_bchw.shape[-2:])


def joint_labels(numbers: Sequence[int], pixels: Sequence[Tensor], labels: Sequence[Tensor]) -> list[Tensor]:
    """Return the labels (H, W) of shots for all classes together: 0, the number of the class, or 255.

    In an image that supports several classes, each one's object is unknown to the others: it is not background.

    Args:
        numbers: the class of each shot.
        pixels: pixels of each, by which images are told apart.
        labels: of each, (H, W), 1 on the object of its class.
    """
    images = [x.contiguous().numpy().tobytes() for x in pixels]
    objects: dict[bytes, Tensor] = {}  # by image: where any class has its object
    for image, label in zip(images, labels):
        objects[image] = objects.get(image, False) | (label == 1)
    joint = []
    for number, image, label in zip(numbers, images, labels):
        of_other = (label == 0) & objects[image]
        joint.append(label.masked_fill(of_other, IGNORE).masked_fill(label == 1, number))
    return joint


def fit(supports: Sequence[tuple[Tensor, Tensor]], classes: int) -> LinearHead:
    """Return the head of least mean cross entropy over the cells plus ``PENALTY`` / 2 times the squared weights.

    Supports are features (C, h, w) and a label map (H, W). Background and classes count alike, however many cells show
    them. The weights of the penalty act on features of mean 0 and mean square 1; the head has both built in. Without a
    cell of known pixels it says nothing. All is computed in float64, so that the order of the cells does not matter.
    """
    cells, shares = [], []  # of each support (h w, C) and (h w, N + 1); the rest of a cell is unknown
    for features, label in supports:
        masks = torch.stack([label == number for number in range(classes + 1)]).float()
        share = F.adaptive_avg_pool2d(masks, (features.shape[1], features.shape[2]))
        cells.append(features.flatten(1).T)
        shares.append(share.flatten(1).T)
    x_nc = torch.cat(cells).double()
    y_nt = balanced(torch.cat(shares).double())

    importance = y_nt.sum(1)
    mean = importance @ x_nc
    variance = (importance @ (x_nc - mean).square()).mean()
    deviation = variance.sqrt().clamp(min=1e-6)
    standardised = (x_nc - mean) / deviation
    weight, bias = logistic(standardised, y_nt, y_nt.shape[1], penalty=PENALTY, steps=200, tolerance=1e-6)
    weight = weight / deviation
    bias = bias - weight @ mean
    features = supports[0][0]
    return LinearHead(weight.to(features), bias.to(features))


def balanced(shares_nt: Tensor) -> Tensor:
    """Return the shares of the classes in each cell, scaled to the same sum for every class that occurs; all: 1."""
    total = shares_nt.sum(0)
    occurring = (total > 0).sum()
    return shares_nt / total.clamp(min=LEAST_TOTAL) / occurring.clamp(min=1)
