"""Small networks whose weights depend on their tensors' names alone, whatever the version of torch and numpy.

No bias is 0 and every norm has statistics of its own, so that a part that forgets one changes the output.
"""

import copy
import functools
import hashlib
from collections.abc import Mapping
from unittest import mock

import numpy as np
import torch
from torch import nn

from model.contract import FewShotMethod
from model.encoders import swin
from model.encoders.settings import EncoderSettings
from model.registry import methods
from tests.helpers.skip_init import skip_init
from tests.model.small import SETTINGS, task_of
from tests.model.tiny import built

KEPT = ("mean", "std", "num_batches_tracked", "relative_position_index")  # names of constants
GAIN = 1.4  # keeps the size of maps over many layers with ReLUs
NARROW_SWIN = {"WIDTH": 16, "DEPTHS": (1, 1, 2, 1), "HEADS": (1, 2, 2, 4)}
LEAST_SIDE = 65  # pixels of the drawn images


def takes(name: str, backbone: str) -> bool:
    """Say whether a method takes an encoder."""
    method = methods()[name]
    return method.encoder_problem(method.Settings(encoder=EncoderSettings(backbone))) is None


def seeded_model(
    name: str,
    shots: int,
    backbone: str,
    stem: str = "plain",
    changes: Mapping[str, object] | None = None,
    **encoder: object,
) -> FewShotMethod:
    """Return a registered model, small but for its encoder, in evaluation mode; ``task.size`` is the images' side.

    ``changes`` are further settings of the model, ``encoder`` of its encoder.
    """
    model_class = methods()[name]
    settings = model_class.Settings(name=name, **copy.deepcopy(SETTINGS.get(name, {}) | dict(changes or {})))
    parts = [built(kind) for kind in model_class.pretrained_parts]
    if not parts:
        settings.encoder = EncoderSettings(backbone, stem, **encoder)
    step, rest = model_class.rule(settings)
    sides = settings.sides() or (s for s in range(LEAST_SIDE, 2 * LEAST_SIDE) if s % step == rest % step)
    side = next(s for s in sides if settings.problem(s) is None)
    with skip_init(), mock.patch.multiple(swin, **NARROW_SWIN):
        network = model_class(settings, task_of(name, shots, side), *parts)
    return seed_weights(network).eval()


@torch.no_grad()
def seed_weights(network: nn.Module) -> nn.Module:
    """Fill parameters and statistics; the draw of each depends on its name and shape."""
    for name, tensor in network.state_dict().items():
        if name.rpartition(".")[2] not in KEPT:
            tensor.copy_(torch.from_numpy(_drawn(name, tuple(tensor.shape))))
    return network


@functools.cache  # the encoders of many methods are drawn once
def _drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    seed = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
    random = np.random.RandomState(seed)  # a stream that numpy keeps for good
    draw = np.asarray(random.random_sample(shape), np.float32)
    _, _, leaf = name.rpartition(".")
    if leaf == "running_var" or (leaf == "weight" and draw.ndim == 1):
        return np.asarray(0.5 + draw, np.float32)
    centred = draw - 0.5
    if leaf == "bias" or draw.ndim < 2:
        return np.asarray(0.4 * centred, np.float32)
    return centred * np.float32(GAIN * (12 / np.prod(shape[1:])) ** 0.5)
