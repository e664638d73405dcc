"""The other models with the weights of their measured cases give the numbers of the published implementations."""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model.encoders.layouts import COUNTER
from model.registry import models
from tests.parity_case import BACKBONES, forward_case
from tests.paths import REPOSITORY, SHARED
from tests.skip_init import skip_init
from util.config.read import read_config
from util.engine.checkpoint import load_weights
from util.engine.network import build_model

INPUTS = {"query", "query_label", "query_base_label", "support", "support_label", "class_id", "refine", "shot"}
ABSOLUTE = {
    "ssp": 1e-4,
    "dcama": 1e-3,
    "hdmnet": 1e-3,
    "sccan": 1e-4,
    "hsnet": 1e-4,
    "bam": 1e-3,
}  # of outputs and intermediates
TIGHT = {"mid_coarse": 1e-4, "mid_gram": 1e-6, "mid_shot": 1e-6}  # of DCAMA's soft masks, HDMNet's scene distances
RELATIVE = {"ssp": 1e-4, "dcama": 1e-4, "hdmnet": 1e-4, "sccan": 2e-5, "hsnet": 1e-5, "bam": 1e-4}
LOSS_RELATIVE, GRADIENT_RELATIVE, NO_GRADIENT = 1e-5, 1e-3, 1e-6
STEPS = {"correlation", "voting"}  # single steps of HSNet, in tests/model/hsnet
CASES = [
    (model, path.stem)
    for model in ABSOLUTE
    for path in sorted((SHARED / "parity" / model).glob("*.npz"))
    if path.stem not in STEPS
]


@functools.lru_cache(maxsize=2)  # cases come model by model, and all weights together take gigabytes
def _weights(model: str, layout: str) -> dict[str, Tensor]:
    spec = importlib.util.spec_from_file_location("parity_weights", SHARED / "parity" / "weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.published_state_dict(SHARED / "parity" / model / f"layout_{layout}.json")


@pytest.mark.parity
@pytest.mark.parametrize(("model", "stem"), CASES)
def test_measured_case_is_reproduced(shared: Path, model: str, stem: str) -> None:
    folder, encoder, train = shared / "parity" / model, stem.split("_")[0], "_train" in stem
    layout = f"{encoder}_pascal_{stem.split('_')[1]}" if model in ("hdmnet", "bam") else encoder
    with np.load(folder / f"{stem}.npz") as stored:
        measured = dict(stored)
    ours = forward_case(model, measured, _weights(model, layout), backbone=encoder, train=train)
    names = set(measured) - INPUTS
    assert len(names) > 3
    assert names <= set(ours)
    for name in sorted(names):
        given, want = np.asarray(ours[name], np.float64), measured[name].astype(np.float64)
        if name.startswith("loss"):
            assert given == pytest.approx(want, rel=LOSS_RELATIVE), name
            continue
        assert given.shape == want.shape, name
        if name == "pred":
            assert (given != want).mean() < 1e-3, name  # where two logits all but agree
            continue
        limit = next((bound for start, bound in TIGHT.items() if name.startswith(start)), ABSOLUTE[model])
        assert np.abs(given - want).max() <= limit, name
        assert np.linalg.norm(given - want) <= RELATIVE[model] * np.linalg.norm(want), name
    norms = folder / f"{stem}.grad_norms.json"
    assert norms.is_file() == train
    if train:
        expected = json.loads(norms.read_text())
        idle = {name for name, norm in expected.items() if norm == 0} - ours["grad_norms"].keys()
        expected = {name: norm for name, norm in expected.items() if name not in idle}
        assert expected.keys() == ours["grad_norms"].keys()  # exactly the published parameters learn
        assert ours["grad_norms"] == pytest.approx(expected, rel=GRADIENT_RELATIVE, abs=NO_GRADIENT)


def test_measured_cases_are_all_there(shared: Path) -> None:
    assert {("ssp", "resnet50_1shot_rect"), ("ssp", "resnet50_5shot_refine"), ("dcama", "swin_1shot")} <= set(CASES)
    assert {("hdmnet", "resnet50_5shot"), ("hdmnet", "resnet50_1shot_train"), ("sccan", "resnet50_5shot")} <= set(CASES)
    assert {("hsnet", "vgg16_1shot"), ("hsnet", "resnet50_5shot"), ("bam", "resnet50_1shot_193")} <= set(CASES)
    assert len(CASES) >= 23


@pytest.mark.parity
@pytest.mark.parametrize(
    ("model", "layout"),
    [
        ("ssp", "resnet50"),
        ("dcama", "resnet50"),
        ("dcama", "swin"),
        ("hdmnet", "resnet50_pascal_5shot"),
        ("sccan", "resnet50"),
        ("hsnet", "resnet50"),
        ("hsnet", "vgg16"),
        ("bam", "resnet50_pascal_5shot"),
    ],
)
def test_a_whole_published_checkpoint_loads_constants_and_all(shared: Path, model: str, layout: str) -> None:
    folder = shared / "parity" / model
    state = {f"module.{name}": tensor for name, tensor in _weights(model, layout).items()}
    constants = folder / f"layout_{layout}_constant_buffers.json"
    if constants.exists():
        shapes = json.loads(constants.read_text())
        state |= {f"module.{name}": torch.zeros(1).expand(shape) for name, shape in shapes.items()}
    encoder, _, shots = layout.partition("_pascal_")  # where the number of shots has weights, it is in the name
    name = f"pascal_split0_{model}_{BACKBONES.get(encoder, encoder)}.yaml"
    settings = [f"data.shot={shots.removesuffix('shot')}"] if shots else []
    with skip_init():
        network = build_model(read_config(REPOSITORY / "config/pascal" / name, settings), text_width=0)
    load_weights(network, state, "authors.pth")
    own = network.state_dict()
    renamed = models()[model].published.translate(state)
    counters = {key for key in own if key.endswith(COUNTER)}  # SCCAN's files have none
    assert renamed.keys() | counters == own.keys()
    assert all(torch.equal(tensor, own[key]) for key, tensor in renamed.items())
