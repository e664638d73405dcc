"""Networks with random weights and episodes of noise for all measurements; costs do not depend on the weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from types import MappingProxyType

import torch
from torch import nn

from model.contract import FewShotModel, Task
from model.episode import Episode
from model.registry import models
from util.errors import UserError, nearest

SIZES = {
    "symnet": 473,
    "ssp": 473,
    "dcama": 384,
    "hdmnet": 473,
    "sccan": 473,
    "hsnet": 400,
    "bam": 473,
}  # published sides in pixels
BASE_CLASSES = 15  # of a fold of PASCAL-5i
TEXT_WIDTH = 300  # of word2vec
NORM_WEIGHT = 0.5  # of batch norms; with 1 the maps of random residual networks grow from block to block
NOISE, BRIGHTER = 128, 100  # grey levels: upper bound of the noise, and its increase on the object


def check_models(names: tuple[str, ...], size: int | None) -> None:
    """Refuse models without a measurement, and a size that one of them does not take.

    Raises:
        UserError: names the mistake and the nearest valid value.
    """
    for name in names:
        if name not in SIZES:
            raise UserError(f"--models: '{name}' is not measured{nearest(name, SIZES)}")
        if size is None:
            continue
        below, above = models()[name].sizes_around(size, models()[name].Settings())
        if size not in (below, above):
            raise UserError(f"--size {size}: {name} does not take it; the nearest are {below} and {above}")


def build(
    name: str, backbone: str, size: int, shots: int, changed: Mapping[str, str] = MappingProxyType({})
) -> FewShotModel:
    """Return a model with random weights, in evaluation mode.

    Args:
        size: side of its input in pixels.
        changed: settings that differ from the defaults, by their dotted names.

    Raises:
        AttributeError: a setting is unknown.
    """
    model_class = models()[name]
    settings = model_class.Settings()
    for key, value in {"encoder.backbone": backbone, **changed}.items():
        *path, last = key.split(".")
        section = reduce(getattr, path, settings)
        getattr(section, last)  # raises for a mistyped name, which would otherwise measure the published network
        setattr(section, last, value)
    torch.manual_seed(0)
    text_width = TEXT_WIDTH if model_class.reads_text else 0
    network = model_class(settings, Task(BASE_CLASSES, shots, size, text_width)).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, NORM_WEIGHT)
    return network


def episode(size: int, shots: int, device: str | torch.device = "cpu", batch: int = 1) -> Episode:
    """Return B episodes of noise; the object of each image is a brighter rectangle that covers an eighth of it."""
    random = torch.Generator().manual_seed(0)
    label = torch.zeros(batch, shots + 1, size, size, dtype=torch.uint8)
    label[..., size // 4 : size // 2, size // 4 : 3 * size // 4] = 1
    images = torch.randint(0, NOISE, (batch, shots + 1, 3, size, size), dtype=torch.uint8, generator=random)
    images += BRIGHTER * label.unsqueeze(2)
    one = torch.ones(batch, dtype=torch.int64)
    text = torch.randn(batch, TEXT_WIDTH, generator=random)
    return Episode(
        query=images[:, 0].to(device),
        query_label=label[:, 0].to(device),
        support=images[:, 1:].to(device),
        support_label=label[:, 1:].to(device),
        class_id=one.to(device),
        base_id=one.to(device),
        number=torch.arange(batch).to(device),
        query_base_label=label[:, 0].clone().to(device),
        text=text.to(device),
    )
