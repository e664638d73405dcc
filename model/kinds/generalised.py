"""The contract of generalised few-shot segmentation: base and novel classes in one map, over a trained base learner.

A method keeps a shot of every support as the others do, is fitted once to those of all n novel classes (``fit``) and
then labels any number of photos (``segment``).
Shape letters: K shots, n novel classes, M = N + 1 + n channels: background, base classes, novel classes. Labels of
supports have the values of the channels: 0, where base objects are too, N + 1.. of their own class, and 255.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from model.contract import FewShotModel, Task
from model.encode import Maps, Wants
from model.episode import Episode, Output, Shot
from model.kinds.with_base_learner import OverBaseStage, WithBaseSettings
from model.mismatch import ModelMismatch
from model.parts.linear import LinearHead
from model.tensors.cells import on_cells
from model.tensors.mask import Mask
from model.tensors.ops import resize
from model.tensors.transfers import to_cpu

EPS = 1e-10  # smallest probability in a logarithm
LEAST_CELLS = 5  # of a novel class; regressions are chosen on five folds


@dataclass
class Cells(Shot):
    """The last features of the base learner of n supports, and the labels of their cells."""

    features: Tensor  # (n, C, h, w) float32, not negative
    label: Tensor  # (n, h, w) uint8


class GeneralisedModel(OverBaseStage):
    """A method over a base stage alone; subclasses define ``fit_cells`` and ``label``, which need no encoder."""

    wants = Wants(base_learner=True)
    presence_of_maps = False
    only_base_stage = True
    shots_share_weights = True

    def __init__(self, settings: WithBaseSettings, task: Task):
        super().__init__(settings, task)
        self.freeze()

    def forward(self, episode: Episode) -> Output:
        """Raise ModelMismatch: an episode names one class."""
        raise ModelMismatch(
            f"{self.title} labels base and novel classes at once: test it by protocol gfss, or --keep-base"
        )

    @property
    def base(self) -> LinearHead:
        """The classifier of background and base classes, (N + 1, C)."""
        last: Any = self.base_classifier[-1]
        return LinearHead(last.weight.detach()[:, :, 0, 0], last.bias.detach())

    def support(self, maps: Maps, mask: Mask) -> Cells:
        """Return the cells of n supports."""
        features = maps.base.relu().float()
        return Cells(features, on_cells(mask.label, features.shape[-2:]))

    def fit(self, shots: Sequence[Sequence[Cells]], names: Sequence[str]) -> Any:
        """Return what ``segment`` needs of the supports; it depends on weights, supports and settings alone.

        ``shots`` are, of each novel class, ascending, those of its K supports, whose labels have the values of the
        channels; K may differ.

        Raises:
            ModelMismatch: a class without supports, a support whose object covers no cell, or fewer than five of a
                class.
        """
        counts = []  # of the cells of each support's object
        for class_id, of_class in enumerate(shots, len(self.base.bias)):
            areas = [(shot.label == class_id).sum() for shot in of_class]
            counts.append(torch.stack(areas))
        for name, count_k in zip(names, to_cpu(counts), strict=True):
            _check_cells(name, count_k.tolist())
        cells: list[Cells] = [Cells.join(of_class) for of_class in shots]
        with torch.autocast(cells[0].features.device.type, enabled=False):
            return self.fit_cells(cells)

    def segment(self, query: Tensor, valid: Tensor, state: Any) -> Tensor:
        """Return logits (B, M, S, S), whose softmax are probabilities, of photos (B, 3, S, S).

        ``valid`` (B, S, S) is False in the padding. ``state`` of ``fit`` does not change; None: for the base classes
        alone.
        """
        if state is None:
            return base_logits(self, query)
        features = self.base_features(query)
        with torch.autocast(features.device.type, enabled=False):
            return self.label(features, valid, state)

    def base_probability(self, features_bchw: Tensor, size: Sequence[int]) -> Tensor:
        """Return the probabilities of background and base classes by the base learner alone, (B, N + 1, S, S)."""
        return resize(self.base.logits(features_bchw).softmax(1), size)

    def channels(self, features_bchw: Tensor, valid_bhw: Tensor, state: Any, alone_bss: Tensor) -> Tensor:
        """Return the channel of the largest of ``label``, (B, S, S) int64; ``alone`` is the base learner's."""
        return self.label(features_bchw, valid_bhw, state).max(1).indices

    def fit_cells(self, supports: Sequence[Cells]) -> Any:
        """Return the state by the K supports of each class; without a word on bad ones."""
        raise NotImplementedError

    def label(self, features_bchw: Tensor, valid_bhw: Tensor, state: Any) -> Tensor:
        """Return logits (B, M, S, S) of photos by their features."""
        raise NotImplementedError


def base_logits(network: FewShotModel, query_b3ss: Tensor) -> Tensor:
    """Return the logarithms of the probabilities of background and base classes, (B, N + 1, S, S)."""
    features = network.base_features(query_b3ss)
    with torch.autocast(features.device.type, enabled=False):
        last = cast(nn.Sequential, network.base_classifier)[-1]
        probability = resize(last(features).softmax(1), query_b3ss.shape[-2:])
        return probability.clamp(min=EPS).log()


def _check_cells(name: str, counts: list[int]) -> None:
    """Refuse a class whose supports' objects cover too few cells; ``counts`` are those of each support."""
    if 0 in counts:
        what = f"support {counts.index(0) + 1} covers no"
    elif sum(counts) < LEAST_CELLS:
        what = f"supports cover {sum(counts)}"
    else:
        return
    needed = f"each support needs one, all together {LEAST_CELLS}"
    remedy = "give photos that show it larger, or larger images"
    raise ModelMismatch(f"{name}: {what} cell(s) of the network's grid; {needed}: {remedy}")
