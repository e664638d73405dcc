"""Every method with the weights of its measured cases gives the numbers of the published implementation."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model.published import COUNTER
from model.registry import methods
from tests.helpers.read import config_of, json_of
from tests.helpers.skip_init import skip_init
from tests.parity.case import BACKBONES, forward_case
from tests.parity.drawn.cases import deviations_of_drawn, drawn_cases
from tests.parity.measured import CASES, deviations_of_measured, folder_of, measured, weights
from tests.parity.steps_drawn.steps import RUNS, deviations_of_steps
from util.run.build import build_model
from util.weights.checkpoint import Checkpoint
from util.weights.fill import fill

LAYOUTS = {
    **dict.fromkeys(("ssp", "sccan"), ("resnet50",)),
    **dict.fromkeys(("hdmnet", "bam"), ("resnet50_pascal_5shot",)),
    "hmnet": ("resnet50_pascal_1shot", "resnet50_pascal_5shot", "vgg16_pascal_1shot"),  # also of HMNetAMP's files
    **{"dcama": ("resnet50", "swin"), "hsnet": ("resnet50", "vgg16")},
    "pfenet": ("resnet50", "vgg16"),
    "symnet": ("resnet50_pascal_1shot", "resnet50_pascal_5shot", "vgg16_pascal_1shot"),
}


@pytest.mark.parity
@pytest.mark.parametrize(("model", "stem"), [(model, stem) for model, stems in CASES.items() for stem in stems])
def test_a_measured_case_is_reproduced(shared: Path, model: str, stem: str, device: str) -> None:
    assert deviations_of_measured(model, stem, device) == []


@pytest.mark.parity
@pytest.mark.parametrize(("model", "case"), drawn_cases())
def test_a_case_of_drawn_images_is_reproduced(model: str, case: str, device: str) -> None:
    assert deviations_of_drawn(model, case, device) == []


@pytest.mark.parity
def test_pfenets_loss_with_batch_norms_in_training_is_the_published_one(shared: Path, device: str) -> None:
    case = measured("pfenet", "resnet50_1shot_train")
    options = {"backbone": "resnet50", "train": True, "norms_train": True, "device": device}
    given = forward_case("pfenet", case, weights("pfenet", "resnet50"), **options)
    assert float(case["loss_main"]) == pytest.approx(2.05, abs=0.005)  # with the statistics of the weights
    assert float(given["loss_main"]) == pytest.approx(2.31, abs=0.005)


@pytest.fixture
def float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let networks compute in float64, where they ask for float32 too."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parity
@pytest.mark.parametrize("run", RUNS)
def test_two_training_steps_on_drawn_images_are_those_of_the_published_loop(float64: None, run: str) -> None:
    assert deviations_of_steps(run) == []


@pytest.mark.parity
@pytest.mark.parametrize(("model", "layout"), [(model, layout) for model in LAYOUTS for layout in LAYOUTS[model]])
def test_a_whole_published_checkpoint_loads_constants_and_all(shared: Path, model: str, layout: str) -> None:
    state = published_state(model, layout)
    encoder, _, shots = layout.partition("_pascal_")  # where the number of shots has weights, it is in the name
    settings = [f"data.shot={shots.removesuffix('shot')}"] if shots else []
    with skip_init():
        config = config_of("split0", "pascal", model, BACKBONES.get(encoder, encoder), overrides=settings)
        network = build_model(config, text_width=300 if model == "symnet" else 0)
    fill(network, Checkpoint.of_others(state, Path("authors.pth")))
    loaded = network.state_dict()
    renamed = methods()[model].published.translate(state)
    counters = {key for key in loaded if key.endswith(COUNTER)}  # SCCAN's files have none
    assert renamed.keys() | counters == loaded.keys()
    assert all(torch.equal(tensor, loaded[key]) for key, tensor in renamed.items())


def published_state(model: str, layout: str) -> dict[str, torch.Tensor]:
    """Return a state dict as authors publish it; every tensor has a number of its own."""
    shapes = {}
    for end in ("", "_constant_buffers"):
        file = folder_of(model) / f"layout_{layout}{end}.json"
        if file.exists():
            shapes |= json_of(file)
    state = {}
    for number, (name, shape) in enumerate(shapes.items()):
        value = torch.tensor(number if name.endswith(COUNTER) else float(number))
        state[f"module.{name}"] = value.expand(shape)  # the prefix is that of a distributed run
    return state
