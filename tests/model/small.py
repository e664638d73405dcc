"""Small models and drawn episodes for the model tests."""

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from model.contract import FewShotMethod, Task
from model.encoders.residual import SMALL
from model.encoders.settings import EncoderSettings
from model.episode import IGNORE, Episode
from model.method import Method
from model.registry import methods
from tests.helpers.narrow import NARROW
from tests.model.tiny import networks_of
from util.run.build import parts_of

WITH_ENCODER = sorted(name for name, cls in methods().items() if issubclass(cls, Method))
BASE_CLASSES, TEXT_WIDTH = 3, 8
MIN_SIZE = 33
MIN_CELLS = 3  # of a grid whose stride is the size rule's: with two, its cells are corners and see no object
SETTINGS: dict[str, dict[str, object]] = {  # model -> settings that make it small, or switch its steps on
    "hmnet": {"grid": 12, "blocks": 2},
    "sccan": {"grid": 16, "blocks": 2},
    "probe": {"stage": 3},
    "sam3": {"threshold": 0.01},
    "sansa": {"dropout": False},
    "insid3": {"components": 2, "tau": 0.9, "merge": 0.01},
}

# HDMNet multiplies the scene's distance, whose rounding shows where channels are few.
BACKBONES = {"hdmnet": SMALL}


def image_size(model_class: type[FewShotMethod]) -> int:
    """Return the smallest side from ``MIN_SIZE`` and ``MIN_CELLS`` on that the model takes."""
    step, rest = model_class.size_rule
    least = max(MIN_SIZE, (MIN_CELLS - 1) * step + 1)
    return next(s for s in range(least, least + step) if s % step == rest % step)


def task_of(name: str, shots: int, size: int | None = None) -> Task:
    model_class = methods()[name]
    return Task(BASE_CLASSES, shots, size or image_size(model_class), TEXT_WIDTH if model_class.reads_text else 0)


def small_model(name: str, shots: int, seed: int = 0, **changes: object) -> FewShotMethod:
    """Return a registered model with changed settings, on a narrow plain ResNet-10 of random weights, not in training.

    A little noise on the learnable parameters moves them off initial values that would switch parts of a model off.
    """
    model_class = methods()[name]
    settings = model_class.Settings(name=name, **copy.deepcopy(SETTINGS.get(name, {}) | changes))
    folders = networks_of(model_class, seed)
    if folders:
        settings.weights = folders
    else:
        settings.encoder = EncoderSettings(BACKBONES.get(name, NARROW), "plain")
    torch.manual_seed(seed)
    network = model_class(settings, task_of(name, shots), *parts_of(model_class, settings)).eval()
    with torch.no_grad():
        for p in network.parameters():
            if p.requires_grad:
                p += 0.1 * (p.abs().mean() if p.any() else 1) * torch.randn_like(p)
    return network


def without_dropout(network: nn.Module) -> None:
    """Take the random numbers out of a network's training, in place."""
    for module in network.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0


def drawn_episode(name: str, shots: int, batch: int, seed: int = 0, *, size: int | None = None) -> Episode:
    """Return episodes of bright rectangles on dark noise, with a band of ignored pixels in every label."""
    model_class, task = methods()[name], task_of(name, shots, size)
    random = np.random.default_rng(seed)
    shapes = (batch, shots + 1)
    images, labels = zip(*(_rectangle(random, task.size) for _ in range(batch * (shots + 1))))
    query, support = torch.stack(images).unflatten(0, shapes).split([1, shots], dim=1)
    query_label, support_label = torch.stack(labels).unflatten(0, shapes).split([1, shots], dim=1)
    number = torch.arange(batch)
    class_id = number % task.base_classes + 1
    episode = Episode(
        query=query.flatten(0, 1),
        query_label=query_label.flatten(0, 1),
        support=support.contiguous(),
        support_label=support_label.contiguous(),
        class_id=class_id,
        base_id=class_id.clone(),
        number=number,
    )
    if task.text_width:
        episode.text = torch.from_numpy(random.standard_normal((batch, TEXT_WIDTH), np.float32))
    if model_class.reads_base_labels or model_class.has_base_stage():
        base_id = episode.base_id.byte().view(-1, 1, 1)
        episode.query_base_label = torch.where(episode.query_label == 1, base_id, episode.query_label)
    return episode


def _rectangle(random: np.random.Generator, size: int) -> tuple[Tensor, Tensor]:
    image = random.integers(0, 100, (3, size, size))
    label = np.zeros((size, size), np.uint8)
    top, left = random.integers(1, size // 3, 2)
    bottom, right = random.integers(size // 2, size - 2, 2)
    image[:, top:bottom, left:right] = random.integers(150, 256, (3, 1, 1)) - random.integers(0, 40)
    label[top:bottom, left:right] = 1
    label[bottom : bottom + 2, left:right] = IGNORE
    return torch.from_numpy(image.astype(np.uint8)), torch.from_numpy(label)
