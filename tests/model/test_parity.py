"""Sym-Net with the weights of the measured cases gives the numbers of the published implementation."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model.contract import Task
from model.symnet.published import LAYOUT
from model.symnet.symnet import SymNet
from tests.parity_case import forward_case
from tests.paths import SHARED

DATASET, BASE_CLASSES, TEXT_WIDTH = "pascal", 15, 300
ABSOLUTE, RELATIVE, LOSS_RELATIVE, GRADIENT_RELATIVE = 1e-3, 1e-4, 1e-4, 1e-3
STEM = re.compile(r"(?P<backbone>[a-z0-9]+)_(?P<shots>\d+)shot(?P<train>_train)?")
INPUTS = {"query", "query_label", "query_base_label", "support", "support_label", "class_id", "scales"}
STEMS = sorted(p.stem for p in (SHARED / "parity").glob("*.npz") if STEM.fullmatch(p.stem))
LAYOUTS = sorted(p.name for p in (SHARED / "parity").glob(f"layout_*_{DATASET}_*shot.json"))
SMALLEST = "vgg16_1shot"


@functools.cache
def _weights(folder: Path, layout: str) -> dict[str, Tensor]:
    spec = importlib.util.spec_from_file_location("parity_weights", folder / "weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.published_state_dict(folder / layout)


def _measured(folder: Path, stem: str) -> dict[str, np.ndarray]:
    with np.load(folder / f"{stem}.npz") as stored:
        return dict(stored)


def _ours(folder: Path, stem: str, prefix: str = "") -> dict[str, np.ndarray]:
    part = STEM.fullmatch(stem)
    weights = _weights(folder, f"layout_{part['backbone']}_{DATASET}_{part['shots']}shot.json")
    weights = {prefix + name: tensor for name, tensor in weights.items()}
    options = {"backbone": part["backbone"], "dataset": DATASET, "train": bool(part["train"])}
    return forward_case("symnet", _measured(folder, stem), weights, **options)


def _assert_close(name: str, ours: np.ndarray, measured: np.ndarray) -> None:
    assert ours.shape == measured.shape, name
    difference = ours.astype(np.float64) - measured
    assert np.abs(difference).max() <= ABSOLUTE, f"{name}: {np.abs(difference).max():.2e} absolute"
    relative = np.linalg.norm(difference) / np.linalg.norm(measured)
    assert relative <= RELATIVE, f"{name}: {relative:.2e} relative"


@pytest.mark.parity
@pytest.mark.parametrize("stem", STEMS)
def test_measured_case_is_reproduced(shared: Path, stem: str) -> None:
    folder = shared / "parity"
    measured, ours = _measured(folder, stem), _ours(folder, stem)
    names = set(measured) - INPUTS
    assert len(names) > 3
    assert names <= set(ours)
    for name in sorted(names):
        if name.startswith("loss_"):
            assert ours[name] == pytest.approx(float(measured[name]), rel=LOSS_RELATIVE), name
        elif name == "pred":
            np.testing.assert_array_equal(ours[name], measured[name])
        else:
            _assert_close(name, ours[name], measured[name])
    norms = folder / f"{stem}.grad_norms.json"
    assert norms.is_file() == stem.endswith("_train")
    if norms.is_file():
        expected = json.loads(norms.read_text())
        assert set(expected) <= set(ours["grad_norms"])
        given = {name: ours["grad_norms"][name] for name in expected}
        assert given == pytest.approx(expected, rel=GRADIENT_RELATIVE)


def test_measured_cases_cover_both_encoders_shots_and_training(shared: Path) -> None:
    assert {SMALLEST, "resnet50_1shot", "resnet50_5shot", "resnet50_1shot_train"} <= set(STEMS)


@pytest.mark.parity
def test_weights_of_a_distributed_run_give_the_same(shared: Path) -> None:
    ours = _ours(shared / "parity", SMALLEST, prefix="module.")
    measured = _measured(shared / "parity", SMALLEST)
    for name in sorted(set(measured) - INPUTS):
        _assert_close(name, ours[name], measured[name])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_published_names_are_ours_one_to_one(shared: Path, layout: str) -> None:
    published = json.loads((shared / "parity" / layout).read_text())
    backbone, shots = re.fullmatch(rf"layout_(\w+)_{DATASET}_(\d+)shot\.json", layout).groups()
    settings = SymNet.Settings()
    settings.encoder.backbone = backbone
    with torch.device("meta"):
        network = SymNet(settings, Task(BASE_CLASSES, int(shots), 97, TEXT_WIDTH))
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    mapped = [LAYOUT.name(name) for name in published]
    assert len(set(mapped)) == len(mapped)
    assert {LAYOUT.name(name): tuple(shape) for name, shape in published.items()} == own
    renamed = LAYOUT.translate({name: torch.empty(shape, device="meta") for name, shape in published.items()})
    assert network.load_state_dict(renamed, strict=True, assign=True)
    assert LAYOUT.translate({f"module.{name}": torch.empty(0) for name in published}).keys() == renamed.keys()


def test_other_layouts_are_not_taken_for_symnet() -> None:
    assert LAYOUT.translate({"layer0.0.weight": torch.zeros(1), "down_supp.0.weight": torch.zeros(1)}) is None
