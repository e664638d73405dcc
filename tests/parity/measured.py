"""The measured cases of real photos that no case of drawn images covers: the values that differ."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tests.helpers.paths import SHARED
from tests.helpers.read import json_of
from tests.parity import abcdfss, insid3
from tests.parity.case import GRADIENTS, forward_case
from tests.parity.compare import GRADIENT, Arrays, Bounds, deviations, gradient_deviations
from tests.parity.drawn.weights import filled
from util.data.words.text import read_vectors

CASES = {  # training where no steps are drawn, other encoders, photos of other sizes, methods without drawn cases
    "symnet": ("vgg16_1shot",),
    "dcama": ("resnet50_1shot_train", "swin_1shot"),
    "hsnet": ("resnet50_1shot_train", "vgg16_1shot"),
    "pfenet": ("resnet50_1shot_train", "vgg16_1shot"),
    "ssp": ("resnet50_1shot_rect", "resnet50_1shot_train_norefine", "resnet50_1shot_train_refine"),
    "abcdfss": ("resnet50_1shot_nofit", "resnet50_2shot"),
    "insid3": (
        *("cnn_1shot", "cnn_1shot_basis", "cnn_1shot_nocandidate", "cnn_1shot_quantile", "cnn_2shot_rect"),
        *("cnn_3shot_smallmask", "vit_1shot", "vit_5shot"),
    ),
}
GRADIENTS_OF = {"hsnet": 5e-3}  # kernels of SSE4.1 move its ReLUs: 2.7e-3
OUTPUTS = {"final", "logits", "pred", "score", "mask"}
INPUT = "in_"  # of the arrays of INSID3's cases, which begin after the encoder


def folder_of(model: str) -> Path:
    """Return the folder of a method's cases."""
    return SHARED / "parity" / ("" if model == "symnet" else model)


@functools.lru_cache(maxsize=2)  # cases come model by model, and all weights together take gigabytes
def weights(model: str, layout: str) -> dict[str, Tensor]:
    """Return the weights of a method's cases, under their published names."""
    return filled(json_of(folder_of(model) / f"layout_{layout}.json"))


def measured(model: str, stem: str) -> Arrays:
    """Return all arrays of a case's file."""
    with np.load(folder_of(model) / f"{stem}.npz") as stored:
        return dict(stored)


def deviations_of_measured(model: str, stem: str, device: str = "cpu") -> list[str]:
    """Return each value of a case that differs by more than its bound, in words."""
    arrays = measured(model, stem)
    if model == "insid3":
        inputs = {name.removeprefix(INPUT): array for name, array in arrays.items() if name.startswith(INPUT)}
        return _beside(insid3.insid3_case(inputs, device), arrays, insid3.BOUNDS)
    if model == "abcdfss":
        bounds = abcdfss.BOUNDS if arrays["steps"] else abcdfss.WITHOUT_FIT
        return _beside(abcdfss.abcdfss_case(arrays, weights(model, "resnet50"), device), arrays, bounds)
    backbone = stem.partition("_")[0]
    layout = "vgg16_pascal_1shot" if model == "symnet" else backbone
    vectors = read_vectors(SHARED / "embeddings/word2vec_pascal.pkl") if model == "symnet" else None
    train = "_train" in stem
    ours = forward_case(
        model, arrays, weights(model, layout), backbone=backbone, train=train, vectors=vectors, device=device
    )
    norms = ours.pop(GRADIENTS, None)
    found = _beside(ours, arrays, {})
    if train:
        expected = json_of(folder_of(model) / f"{stem}.grad_norms.json")
        found += gradient_deviations(norms, expected, GRADIENTS_OF.get(model, GRADIENT))
    return found


def _beside(given: dict[str, Any], arrays: Arrays, bounds: Bounds) -> list[str]:
    """Compare what a file stores of the values that we give: outputs, all losses, and some inner values."""
    stored = {name: arrays[name] for name in sorted(arrays.keys() & given.keys())}
    assert {name for name in arrays if name.startswith("loss")} <= stored.keys()
    assert stored.keys() & OUTPUTS
    return deviations(given, stored, bounds)
