"""Linear probe: a query's cells are classified by a logistic regression that was fitted to the supports' cells.

Nothing is trained beforehand. With many supports it is better than prototypes, with few worse. An example is a cell,
its target the share of each class in it; the loss is the cross entropy of all cells and a penalty on the weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from model.common.linear import LinearHead, logistic
from model.common.ops import resize_cells, to_cpu, to_device
from model.common.training_free import OnCells, TrainingFreeSettings
from model.contract import Episode, Output, Task, register
from model.episode import IGNORE

HEADS_KEPT = 8  # of the last supports
KEY_STEP = 8  # between the pixels, or the channels, by which images are told apart
LEAST_TOTAL = 1e-6  # that the cells of a class are divided by at least


@dataclass
class ProbeSettings(TrainingFreeSettings):
    """The probe's settings; ``config/model/probe.yaml`` explains them."""

    stage: int | list[int] = field(default_factory=lambda: [3, 4], metadata={"low": 2, "high": 4, "length": (1, 3)})
    penalty: float = field(default=0.3, metadata={"low": 0})


@register("probe")
class Probe(OnCells):
    """Multinomial logistic regression on the cells of all supports. Nothing learns beforehand."""

    Settings = ProbeSettings
    title = "linear probe"
    for_materials = True
    never_compiled = ("_head",)
    cannot_export = "it is fitted to the supports by an optimiser"
    settings: ProbeSettings

    def __init__(self, settings: ProbeSettings, task: Task):
        super().__init__(settings, task)
        self._heads: dict[bytes, LinearHead] = {}

    @torch.no_grad()
    def forward_classes(self, episodes: Sequence[Episode]) -> Output:
        """Return logits (B, N + 1, H, W) of N classes, background first."""
        encoded = [self.encode_each(episode, self.compared) for episode in self.sharing_queries(episodes)]
        query = encoded[0][0]  # (B, C, h, w)
        shots = [features for _, of_class in encoded for features, _ in of_class]
        with torch.autocast(query.device.type, enabled=False):
            supports = [list(of_query) for of_query in zip(*shots)]
            heads = self._head(episodes, supports)
            logits = torch.cat([head.logits(features[None]) for head, features in zip(heads, query)])
            return Output(resize_cells(logits, episodes[0].query.shape[-2:]))

    def _head(self, episodes: Sequence[Episode], features: Sequence[Sequence[Tensor]]) -> list[LinearHead]:
        """Return the heads of the queries of a batch, by the features (C, h, w) of all supports of each.

        Queries that share supports, one call after the other too, share a head.
        """
        device = features[0][0].device
        classes = len(episodes)
        keys, labels = _keys_and_labels(episodes, features)
        unfitted = {key: item for item, key in enumerate(keys) if key not in self._heads}
        maps = to_cpu([features[item] for item in unfitted.values()])
        for (key, item), support_maps in zip(unfitted.items(), maps):
            supports = list(zip(support_maps, labels[item]))
            self._heads[key] = fit(supports, classes, self.settings.penalty)
        heads = [self._heads[key] for key in keys]
        for oldest in list(self._heads)[:-HEADS_KEPT]:
            del self._heads[oldest]
        return [LinearHead(to_device(head.weight, device), to_device(head.bias, device)) for head in heads]


def _keys_and_labels(
    episodes: Sequence[Episode], features: Sequence[Sequence[Tensor]]
) -> tuple[list[bytes], list[list[Tensor]]]:
    """Return of each query what tells its supports from others, and the labels (H, W) of these for all classes."""
    numbers = [number for number, episode in enumerate(episodes, 1) for _ in episode.supports_of(0)]
    samples = [_samples(episodes, item, maps) for item, maps in enumerate(features)]
    keys, labels = [], []
    for pixels, of_each_class, channels in to_cpu(samples):
        joint = joint_labels(numbers, pixels, of_each_class)
        labels.append(joint)
        keys.append(bytes([len(episodes)]) + b"".join(map(_bytes, (*channels, *joint))))
    return keys, labels


def _samples(episodes: Sequence[Episode], item: int, features: Sequence[Tensor]) -> list[list[Tensor]]:
    """Return some pixels, the label and some channels of the features of each support of the query ``item``."""
    pixels, labels = [], []
    for episode in episodes:
        for image, label in episode.supports_of(item):
            pixels.append(image[..., ::KEY_STEP, ::KEY_STEP].float())
            labels.append(label)
    channels = [feature_chw[::KEY_STEP] for feature_chw in features]
    return [pixels, labels, channels]


def _bytes(x: Tensor) -> bytes:
    return x.contiguous().numpy().tobytes()


def joint_labels(numbers: Sequence[int], pixels: Sequence[Tensor], labels: Sequence[Tensor]) -> list[Tensor]:
    """Return the labels (H, W) of shots for all classes together: 0, the number of the class, or 255.

    In an image that supports several classes, each one's object is unknown to the others: it is not background.

    Args:
        numbers: the class of each shot.
        pixels: pixels of each, by which images are told apart.
        labels: of each, (H, W), 1 on the object of its class.
    """
    images = [_bytes(x) for x in pixels]
    objects: dict[bytes, Tensor] = {}  # by image: where any class has its object
    for image, label in zip(images, labels):
        objects[image] = objects.get(image, False) | (label == 1)
    joint = []
    for number, image, label in zip(numbers, images, labels):
        of_other = (label == 0) & objects[image]
        joint.append(label.masked_fill(of_other, IGNORE).masked_fill(label == 1, number))
    return joint


def fit(supports: Sequence[tuple[Tensor, Tensor]], classes: int, penalty: float) -> LinearHead:
    """Return the head of least mean cross entropy over the cells plus penalty / 2 times the squared weights.

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
    weight, bias = logistic(standardised, y_nt, y_nt.shape[1], penalty=penalty, steps=200, tolerance=1e-6)
    weight = weight / deviation
    bias = bias - weight @ mean
    features = supports[0][0]
    return LinearHead(weight.to(features), bias.to(features))


def balanced(shares_nt: Tensor) -> Tensor:
    """Return the shares of the classes in each cell, scaled to the same sum for every class that occurs; all: 1."""
    total = shares_nt.sum(0)
    occurring = (total > 0).sum()
    return shares_nt / total.clamp(min=LEAST_TOTAL) / occurring.clamp(min=1)
