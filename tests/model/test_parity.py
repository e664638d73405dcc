"""Every method with the weights of its measured cases gives the numbers of the published implementation."""

import collections
import json
from pathlib import Path

import pytest
import torch

from model.encoders.layouts import COUNTER
from model.registry import models
from tests.helpers.paths import REPOSITORY
from tests.helpers.skip_init import skip_init
from tests.parity.case import BACKBONES
from tests.parity.check import ABSOLUTE, cases, deviations, folder_of
from util.checkpoints.checkpoint import load_state
from util.config.read import read_config
from util.runtime.network import build_model

# A case of five shots includes one of one shot, but where shots have learnt weights; others differ in size or mode.
INCLUDED = {(model, "resnet50_1shot") for model in ("dcama", "hsnet", "sccan")}
CASES = cases()
LAYOUTS = {
    **dict.fromkeys(("ssp", "sccan"), ("resnet50",)),
    **dict.fromkeys(("hdmnet", "bam"), ("resnet50_pascal_5shot",)),
    **{"dcama": ("resnet50", "swin"), "hsnet": ("resnet50", "vgg16")},
    "symnet": ("resnet50_pascal_1shot", "resnet50_pascal_5shot", "vgg16_pascal_1shot"),
}


@pytest.mark.parity
@pytest.mark.parametrize(("model", "stem"), [case for case in CASES if case not in INCLUDED])
def test_measured_case_is_reproduced(shared: Path, model: str, stem: str, device: str) -> None:
    assert deviations(model, stem, device) == []


def test_measured_cases_are_all_there(shared: Path) -> None:
    counts = collections.Counter(model for model, _ in CASES)
    assert counts.keys() == ABSOLUTE.keys() and min(counts.values()) >= 3
    assert len(CASES) >= 35


@pytest.mark.parity
@pytest.mark.parametrize(("model", "layout"), [(model, layout) for model in LAYOUTS for layout in LAYOUTS[model]])
def test_a_whole_published_checkpoint_loads_constants_and_all(shared: Path, model: str, layout: str) -> None:
    files = [folder_of(model) / f"layout_{layout}{end}.json" for end in ("", "_constant_buffers")]
    shapes = {name: shape for file in files if file.exists() for name, shape in json.loads(file.read_text()).items()}
    # The prefix is that of a distributed run; every tensor has a number of its own.
    values = {f"module.{name}": torch.tensor(float(i)).expand(shape) for i, (name, shape) in enumerate(shapes.items())}
    state = {name: x.long() if name.endswith(COUNTER) else x for name, x in values.items()}
    encoder, _, shots = layout.partition("_pascal_")  # where the number of shots has weights, it is in the name
    name = f"pascal_split0_{model}_{BACKBONES.get(encoder, encoder)}.yaml".replace("symnet_", "")
    settings = [f"data.shot={shots.removesuffix('shot')}"] if shots else []
    with skip_init():
        config = read_config(REPOSITORY / "config/pascal" / name, settings)
        network = build_model(config, text_width=300 if model == "symnet" else 0)
    load_state(network, state, "authors.pth")
    own = network.state_dict()
    renamed = models()[model].published.translate(state)
    counters = {key for key in own if key.endswith(COUNTER)}  # SCCAN's files have none
    assert renamed.keys() | counters == own.keys()
    assert all(torch.equal(tensor, own[key]) for key, tensor in renamed.items())
