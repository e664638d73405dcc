"""Sym-Net with the weights of the measured cases gives the numbers of the published implementation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from model.contract import Task
from model.symnet.symnet import LAYOUT, SymNet
from tests.parity_check import SYMNET, cases, deviations
from tests.paths import SHARED

DATASET, BASE_CLASSES, TEXT_WIDTH = "pascal", 15, 300
STEMS = [stem for model, stem in cases() if model == SYMNET]
LAYOUTS = sorted(p.name for p in (SHARED / "parity").glob(f"layout_*_{DATASET}_*shot.json"))
SMALLEST = "vgg16_1shot"


@pytest.mark.parity
@pytest.mark.parametrize("stem", STEMS)
def test_measured_case_is_reproduced(shared: Path, stem: str, device: str) -> None:
    assert [found for found in deviations(SYMNET, stem, device) if not found.within] == []


def test_measured_cases_cover_both_encoders_shots_and_training(shared: Path) -> None:
    assert {SMALLEST, "resnet50_1shot", "resnet50_5shot", "resnet50_1shot_train"} <= set(STEMS)


@pytest.mark.parity
def test_weights_of_a_distributed_run_give_the_same(shared: Path) -> None:
    assert all(found.within for found in deviations(SYMNET, SMALLEST, prefix="module."))


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
