"""The network that a config names, with random weights, and the precision that it asks for."""

from typing import Any

import torch

from model.contract import FewShotMethod, Task
from model.mismatch import ModelMismatch
from model.registry import class_of
from util.config.folds import Fold
from util.config.settings import Config
from util.files.errors import as_user_error
from util.loop.device import fast_bf16, has_tf32


def build_model(
    config: Config, text_width: int, side: int | None = None, base_classes: int | None = None
) -> FewShotMethod:
    """Return the model that the config names, with random weights drawn from ``run.seed``.

    Args:
        config: of the run.
        text_width: T, the length of a text vector, 0 for none.
        side: S of its images in pixels, default ``data.size``.
        base_classes: N, default those of the config's fold.

    UserError: pretrained parts of the model cannot be had.
    """
    data = config.data
    if base_classes is None:
        base_classes = len(Fold.of(data).base)
    task = Task(base_classes, data.shot, side or data.size, text_width, tuple(data.classes))
    fork = torch.random.fork_rng(devices=[])  # the caller's random numbers stay
    with fork, as_user_error(ModelMismatch, before=f"{config.source}: "):
        torch.default_generator.manual_seed(config.run.seed)
        model = class_of(config.model)
        network = model(config.model, task, *parts_of(model, config.model))
        network.freeze()
        return network


def parts_of(model: type[FewShotMethod], settings: Any) -> list[Any]:
    """Return the pretrained parts of a model; ModelMismatch: they cannot be had."""
    from util.weights.hub import load_from_hub  # for methods on foundation models

    return [load_from_hub(kind, settings.weights[number]) for kind, number in model.pretrained_parts.items()]


def precision_of_training(config: Config, device: torch.device) -> str:
    """Return the precision of a training and its validations on a device: float32, tf32, bf16 or fp16."""
    asked = config.run.precision
    if asked == "auto" and fast_bf16(device):
        return "bf16"
    if asked in (None, "auto", "tf32"):
        return "tf32" if has_tf32(device) else "float32"
    return asked


def precision_of_test(config: Config, device: torch.device) -> str:
    """Return the precision of tests, calibrations and predictions on a device."""
    asked = precision_asked_of_test(config.run.precision)
    return "float32" if asked == "tf32" and not has_tf32(device) else asked


def precision_asked_of_test(asked: str | None) -> str:
    """Return the precision that ``run.precision`` asks of a test; float32 if it names none."""
    return "float32" if asked in (None, "auto") else asked
