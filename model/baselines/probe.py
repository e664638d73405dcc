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
    replays = False  # steps depend on values
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
        query, shots = encoded[0][0], [feature for _, own in encoded for feature, _ in own]
        with torch.autocast(query.device.type, enabled=False):
            heads = self._head(episodes, [[f[item] for f in shots] for item in range(len(query))])
            logits = torch.cat([head.logits(features[None]) for head, features in zip(heads, query)])
            return Output(resize_cells(logits, episodes[0].query.shape[-2:]))

    def _head(self, episodes: Sequence[Episode], features: Sequence[Sequence[Tensor]]) -> list[LinearHead]:
        """Return the heads of the queries of a batch, by the features (C, h, w) of all supports of each.

        Queries that share supports, one call after the other too, share a head.
        """
        shots = []  # of each query: class, some pixels by which images are told apart, and label (H, W) of every shot
        for item in range(len(features)):
            each = ((number, *shot) for number, episode in enumerate(episodes, 1) for shot in episode.shots(item))
            shots.append([(number, x[..., ::KEY_STEP, ::KEY_STEP].float(), y) for number, x, y in each])
        some = [[x[::KEY_STEP] for x in own] for own in features]  # some channels tell the maps of images apart
        shots, some = to_cpu([shots, some])
        labels, count = [_joint(own) for own in shots], bytes([len(episodes)])
        keys = [count + b"".join(map(_bytes, (*seen, *own))) for seen, own in zip(some, labels)]
        new = {key: item for item, key in enumerate(keys) if key not in self._heads}
        for (key, item), maps in zip(new.items(), to_cpu([features[item] for item in new.values()])):
            self._heads[key] = fit(list(zip(maps, labels[item])), len(episodes), self.settings.penalty)
        heads = [self._heads[key] for key in keys]
        for old in list(self._heads)[:-HEADS_KEPT]:
            del self._heads[old]
        return [LinearHead(*(to_device(part, features[0][0].device) for part in head)) for head in heads]


def _bytes(x: Tensor) -> bytes:
    return x.contiguous().numpy().tobytes()


def _joint(shots: Sequence[tuple[int, Tensor, Tensor]]) -> list[Tensor]:
    """Return the labels (H, W) of shots (class, pixels, label): 0, the number of the class, or 255.

    In an image that supports several classes, each one's object is unknown to the others: it is not background.
    """
    keys = [_bytes(pixels) for _, pixels, _ in shots]
    objects: dict[bytes, Tensor] = {}  # by image: where any class has its object
    for key, (*_, label) in zip(keys, shots):
        objects[key] = objects.get(key, False) | (label == 1)
    return [
        label.masked_fill((label == 0) & objects[key], IGNORE).masked_fill(label == 1, number)
        for key, (number, _, label) in zip(keys, shots)
    ]


def fit(supports: Sequence[tuple[Tensor, Tensor]], classes: int, penalty: float) -> LinearHead:
    """Return the head of least mean cross entropy over the cells plus penalty / 2 times the squared weights.

    Supports are features (C, h, w) and a label map (H, W). Background and classes count alike, however many cells show
    them. The weights of the penalty act on features of mean 0 and mean square 1; the head has both built in. Without a
    cell of known pixels it says nothing. All is computed in float64, so that the order of the cells does not matter.
    """
    of_class = [torch.stack([label == c for c in range(classes + 1)]).float() for _, label in supports]
    pooled = [F.adaptive_avg_pool2d(y, (f.shape[1], f.shape[2])) for (f, _), y in zip(supports, of_class)]
    # Features (n, C) and shares (n, N + 1) of all supports' cells; the rest of a cell is unknown.
    x, shares = (torch.cat([y.flatten(1).T for y in kind]).double() for kind in ([f for f, _ in supports], pooled))
    total = shares.sum(0)
    shares = shares / total.clamp(min=LEAST_TOTAL) / (total > 0).sum().clamp(min=1)  # of equal sum for all classes
    importance = shares.sum(1)
    mean = importance @ x
    deviation = (importance @ (x - mean).square()).mean().sqrt().clamp(min=1e-6)
    x = (x - mean) / deviation
    weight, bias = logistic(x, shares, shares.shape[1], penalty, steps=200, tolerance=1e-6)
    weight = weight / deviation
    return LinearHead(*(part.to(supports[0][0]) for part in (weight, bias - weight @ mean)))
