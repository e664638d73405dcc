"""Networks with random weights and episodes of noise, for every measurement: costs do not depend on weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from types import MappingProxyType

import torch
from torch import nn

from model.contract import Episode, FewShotModel, Task
from model.registry import models
from util.errors import UserError, nearest

SIZES = {"symnet": 473, "ssp": 473, "dcama": 384, "hdmnet": 473, "sccan": 473}  # published sides in pixels
BASE_CLASSES = 15  # of a fold of PASCAL-5i
TEXT_WIDTH = 300  # of word2vec
NORM_WEIGHT = 0.5  # maps of random residual networks grow otherwise
NOISE, BRIGHTER = 128, 100  # grey levels: noise below the first, and what the object has more


def check(names: tuple[str, ...], size: int | None) -> None:
    """Refuse models that are not measured, and a side that one of them does not take.

    Raises:
        UserError: names what is wrong and what is nearest.
    """
    for name in names:
        if name not in SIZES:
            raise UserError(f"--models: '{name}' is not measured{nearest(name, SIZES)}")
        around = models()[name].sizes_around(size) if size else ()
        if size and size not in around:
            raise UserError(f"--size {size}: {name} does not take it; the nearest are {around[0]} and {around[1]}")


def build(
    name: str, backbone: str, size: int, shots: int, changed: Mapping[str, str] = MappingProxyType({})
) -> FewShotModel:
    """Return a model with random weights, in evaluation mode; ``changed``: its settings by their dotted names.

    Raises:
        AttributeError: a setting is unknown.
    """
    model_class = models()[name]
    settings = model_class.Settings()
    for key, value in {"encoder.backbone": backbone, **changed}.items():
        *path, last = key.split(".")
        section = reduce(getattr, path, settings)
        getattr(section, last)  # a mistyped name would measure the published network
        setattr(section, last, value)
    torch.manual_seed(0)
    width = TEXT_WIDTH if model_class.reads_text else 0
    network = model_class(settings, Task(BASE_CLASSES, shots, size, width)).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, NORM_WEIGHT)
    return network


def episode(size: int, shots: int, device: str | torch.device = "cpu", batch: int = 1) -> Episode:
    """Return drawn episodes: noise, and a brighter rectangle as the object of each image."""
    random = torch.Generator().manual_seed(0)
    label = torch.zeros(batch, shots + 1, size, size, dtype=torch.uint8)
    label[..., size // 4 : size // 2, size // 4 : 3 * size // 4] = 1
    images = torch.randint(0, NOISE, (batch, shots + 1, 3, size, size), dtype=torch.uint8, generator=random)
    images += BRIGHTER * label.unsqueeze(2)
    one = torch.ones(batch, dtype=torch.int64)
    out = Episode(
        query=images[:, 0],
        query_label=label[:, 0],
        support=images[:, 1:],
        support_label=label[:, 1:],
        class_id=one,
        base_id=one,
        number=torch.arange(batch),
        query_base_label=label[:, 0].clone(),
        text=torch.randn(batch, TEXT_WIDTH, generator=random),
    )
    return out.to(torch.device(device))
