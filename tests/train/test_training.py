"""Training: its start, its episodes by number, its gradients, and one process beside two."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from model import contract
from model.encoders.settings import EncoderSettings, build_encoder
from model.encoders.variant import NOTHING
from model.episode import Batch, Output
from model.method import MID
from model.parts.loss import batch_mean
from model.ssp.ssp import SSP, SSPSettings
from tests.helpers import spawned
from tests.helpers.narrow import NARROW
from tests.helpers.read import json_of
from tests.helpers.trained import train_meta, train_stage
from util.config.read import read_config, to_dict
from util.config.settings import OptimizerSettings
from util.data.lists.index import load_index
from util.files.errors import UserError
from util.loop.loading import training_numbers
from util.loop.network import prepare_network
from util.loop.optim import EMA, StepSchedule
from util.loop.processes import ProcessGroup
from util.loop.train import optimiser_step
from util.loop.training import Training
from util.run.build import build_model
from util.run.folder import BEST
from util.run.initial_weights import initial_digest, load_initial
from util.run.run import Run
from util.train import stages
from util.weights import checkpoint
from util.weights.encoders import digest_of_files, encoder_data, start_encoders


def begin(run: Run, base: Path | None = None) -> None:
    """Fill a network with what a run's meta stage starts from."""
    load_initial(run, build_model(run.config, run.text_width), "meta", base)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read(path).entries["weights"]


def test_missing_files_are_named_with_their_command_before_photos_are_read(mini_yaml, monkeypatch) -> None:
    config = read_config(mini_yaml(data={"root": "nowhere"}))
    for name, fix in (("mini", "python prepare.py mini --out nowhere"), ("pascal", "--out nowhere --voc VOC")):
        with pytest.raises(UserError, match=rf"nowhere: this data folder does not exist.*{fix}"):
            load_index(replace(config.data, name=name), "train")
    monkeypatch.setattr(stages, "stage_data", lambda *_: pytest.fail("photos were read"))
    path = mini_yaml()
    with pytest.raises(UserError, match=r"base/best.pth: the base stage's .*--stage base"):
        train_meta(read_config(path))
    for backbone, others in (
        ("resnet10", "NET=lite0$"),
        ("resnet101", "NET=lite0, or NET=resnet101_plain, a download$"),
    ):
        encoder = {"backbone": backbone, "weights": "initmodel/gone.pth"}
        with pytest.raises(
            UserError, match=rf"gone.pth: these weights do not exist .*; .*initmodel/README\.md .* {others}"
        ):
            train_stage("base", read_config(mini_yaml(model={"encoder": encoder})))
    other = read_config(mini_yaml("ssp", model={"encoder": {"weights": "runs/mini_split0_resnet10/base/gone.pth"}}))
    with pytest.raises(UserError, match=r"train the base stage of that run first"):
        begin(Run(other))


def test_a_partial_files_missing_tensors_are_counted(mini_config, tmp_path: Path) -> None:
    file = tmp_path / "partial.pth"
    encoder = {"backbone": NARROW, "stem": "plain", "weights": str(file), "partial": True}
    config = mini_config("ssp", model={"encoder": encoder})
    network = build_model(config, text_width=0)
    torch.save({name: x for name, x in network.encoder.state_dict().items() if not name.startswith("layer3")}, file)
    counted = r"\d\d tensors start from random values, such as layer3\.\S+"
    assert re.fullmatch(rf"encoder: {NARROW}, weights of {file}, {counted}", start_encoders(config, network)[0])


@dataclass
class TwoSettings(SSPSettings):
    second: EncoderSettings = field(default_factory=EncoderSettings)


class Two(SSP):
    """SSP beside another encoder."""

    title = "Two"
    Settings = TwoSettings

    def __init__(self, settings: Any, task: Any) -> None:
        super().__init__(settings, task)
        self.beside = build_encoder(settings.second, MID)

    def frozen(self) -> Iterator[nn.Module]:
        yield from super().frozen()
        yield self.beside


def test_each_encoder_of_a_method_starts_from_its_weights(mini_yaml, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(contract.METHODS, "two", Two)
    file = tmp_path / "second.pth"
    second = {"backbone": "resnet18", "stem": "plain", "weights": str(file), "pretraining": "drawings"}
    config = read_config(mini_yaml("ssp", model={"name": "two", "second": second}), ["model.encoder.weights=null"])
    network = build_model(config, text_width=0)
    with pytest.raises(UserError, match=r"second.pth: these weights do not exist \(model.second.weights\)"):
        start_encoders(config, network)
    network.beside.start.weights = config.model.second.weights = "package"
    with pytest.raises(UserError, match=r"model.second.weights = package: it has no weights of resnet18"):
        start_encoders(config, network, downloads=False)  # as a rehearsal does
    network.beside.start.weights = config.model.second.weights = str(file)
    filled = {name: torch.full_like(x, 3) for name, x in network.beside.state_dict().items()}
    torch.save(filled, file)
    note, files = start_encoders(config, network)
    random = "encoder: random weights (model.encoder.weights is null)"
    assert note == f"{random}; beside: resnet18, weights of {file}, complete"
    torch.testing.assert_close(network.beside.state_dict(), filled)
    assert digest_of_files(files) == initial_digest(Run(config), "meta") == checkpoint.digest_of(filled)
    assert not any(parameter.requires_grad for parameter in network.beside.parameters())
    untrained = checkpoint.Checkpoint(Path(), {})
    assert encoder_data(network, untrained) == f"{NOTHING}; beside: drawings"
    assert encoder_data(network, replace(untrained, is_unknown=True)) is None
    network.beside.mean.fill_(0.25)
    normalised = network._read(torch.full((1, 3, 33, 33), 255.0)).images_for(network.beside)
    assert (normalised * network.beside.std).allclose(torch.tensor(0.75))
    network.beside = nn.Identity()
    with pytest.raises(UserError, match=r"model.second.weights = .*second.pth is read by no encoder; set it to null"):
        start_encoders(config, network)


def test_a_meta_stage_states_its_base_stage_and_refuses_one_with_other_settings(mini_yaml) -> None:
    config = read_config(path := mini_yaml())
    weights = build_model(config, text_width=300).base_stage().state_dict()
    content = {"stage": "base", "config": to_dict(config), "weights": weights}
    checkpoint.save(Run(config).folder("base") / BEST, content)
    changed = Run(read_config(path, ["base_stage.epochs=3"]))
    with pytest.raises(UserError, match=r"base_stage.epochs = 1, now 3"):
        begin(changed)
    begin(changed, changed.folder("base") / BEST)
    _, start = load_initial(Run(config), build_model(config, text_width=300), "meta", None)
    assert start.origin.initial == initial_digest(Run(config), "meta") == checkpoint.digest_of(weights)


def epochs_of(folder: Path) -> dict[float, dict[str, Any]]:
    """Return the records of a training by their epochs, each of which has one."""
    records = json_of(folder / "metrics.json")["epochs"]
    by_epoch = {record["epoch"]: record for record in records}
    assert len(by_epoch) == len(records)
    return by_epoch


@pytest.mark.process
@pytest.mark.train
def test_two_processes_train_like_one(mini_yaml, tmp_path: Path, device: str):
    """In SSP, which draws no dropouts."""
    if device != "cpu" and torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    stage = {"epochs": 2, "epoch_length": 12, "batch": 6, "accumulate": 2, "validate_episodes": 7}
    stage |= {"validate_every": 2, "validate_midway": True}
    stage["optimizers"] = {"main": {"kind": "sgd", "lr": 0.02}}  # AdamW would blow rounding up to whole steps
    path = mini_yaml("ssp", meta_stage=stage, run={"device": device, "precision": "float32"})
    folder = tmp_path / "runs/tiny/meta"
    spawned.run("train.py", path)
    one = folder.rename(tmp_path / "one")
    ranks = spawned.start_ranks(2, "train.py", path)
    assert [rank.code for rank in ranks] == [0, 0], [rank.stderr[-2000:] for rank in ranks]
    found, expected = epochs_of(folder), epochs_of(one)
    assert list(found) == list(expected) == [1, 1.5, 2]
    assert found[1]["losses"] == pytest.approx(expected[1]["losses"], rel=2e-4)
    for epoch in (1.5, 2):
        assert found[epoch]["validation"]["all_foreground"] == expected[epoch]["validation"]["all_foreground"]
    weights_of_two = weights(folder / "last.pth")
    for name, tensor in weights(one / "last.pth").items():
        assert torch.allclose(tensor.float(), weights_of_two[name].float(), rtol=1e-2, atol=2e-4), name


def test_the_average_decays_and_weights_are_restored() -> None:
    """Of those that learn alone."""
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    learns, rests = (layer.weight for layer in network)
    rests.requires_grad_(False)
    for weight in (learns, rests):
        weight.data.zero_()
    average = EMA(network, decay=0.9)
    expected = 0.0
    for step in range(1, 200):
        learns.data.fill_(step)
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected += (1 - decay) * (step - expected)
        assert average.average["0.weight"].item() == pytest.approx(expected, rel=1e-5)
    with average.applied():
        assert (learns.item(), rests.item()) == pytest.approx((expected, 0))
    assert learns.item() == 199


def numbers_of_steps(steps: range, **shares: int) -> list[int]:
    """Return the numbers of all batches of some steps, by default of one process in one part."""
    shares = {"batch": 8, "rank": 0, "processes": 1, "parts": 1} | shares
    return [*chain.from_iterable(training_numbers(steps.start, steps.stop, **shares))]


@pytest.mark.parametrize(("processes", "batch"), [(1, 8), (2, 8), (3, 7)])
def test_processes_share_the_episodes_of_each_step(processes: int, batch: int) -> None:
    """As evenly as possible, in any number of parts; a continued training takes those that are left."""
    assert numbers_of_steps(range(3, 5), batch=batch, parts=4) == [*range(3 * batch, 5 * batch)]
    for step in range(5):
        numbers, lengths = [], set()
        for rank in range(processes):
            share = numbers_of_steps(range(step, step + 1), batch=batch, rank=rank, processes=processes)
            numbers += share
            lengths.add(len(share))
        first = step * batch
        assert numbers == [*range(first, first + batch)]
        assert max(lengths) - min(lengths) <= 1


def a_training(precision: str, image_losses: tuple[str, ...] = ()) -> Training:
    """Return a training of two weights over two optimisers, whose gradients are 3 and 4 times the inputs."""
    network = TwoWeights(image_losses)
    prepared = prepare_network(network, torch.device("cpu"), precision)
    optimizers = {name: torch.optim.SGD([getattr(network, name)], lr=1.0) for name in ("a", "b")}
    return Training(
        prepared=prepared,
        optimizers=optimizers,
        ema=EMA(network, 0),
        rules={},
        schedule=StepSchedule(1, 1, 1),
        world=ProcessGroup(0, 1, torch.device("cpu")),
    )


@dataclass
class Inputs(Batch):
    """A batch of pairs, some of which are not known."""

    pairs: torch.Tensor  # (n, 2)

    def known(self) -> torch.Tensor:
        return self.pairs[~self.pairs.isnan().any(1)]

    def valid_pixels(self) -> torch.Tensor:
        return torch.tensor(len(self.known()))


class TwoWeights(nn.Module):
    """Its loss is 3 a x + 4 b y for an input (x, y), the mean over the known ones, or all, of a batch."""

    def __init__(self, image_losses: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.image_losses = image_losses
        self.a, self.b = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, inputs: Inputs) -> Output:
        known = inputs.known()
        losses = 3 * self.a * known[:, 0] + 4 * self.b * known[:, 1]
        count = torch.tensor(len(inputs.pairs)) if self.image_losses else inputs.valid_pixels()
        return Output(inputs.pairs, losses={"main": batch_mean(losses.sum(), count)}, image_losses=self.image_losses)


def weights_of(training: Training) -> tuple[float, float]:
    network = training.prepared.network
    return network.a.item(), network.b.item()


def test_fp16s_scale_is_no_part_of_the_norm_that_is_clipped() -> None:
    training = a_training("fp16")
    training.rules = {"a": OptimizerSettings(clip=0.5)}
    optimiser_step(training, [Inputs(torch.tensor([[2.0, 2.0]]))])
    assert weights_of(training) == pytest.approx((-0.5, -8.0), rel=1e-3)


@pytest.mark.parametrize("precision", ["float32", "fp16"])
def test_a_step_is_of_all_optimisers_or_of_none(precision: str) -> None:
    training = a_training(precision)
    optimiser_step(training, [Inputs(torch.tensor([[2.0, 2.0]]))])
    before = training.scaler.get_scale()
    if precision == "fp16":  # the gradient of one weight overflows: the step of both is left out, the scale is halved
        optimiser_step(training, [Inputs(torch.tensor([[2.0, torch.inf]]))])
        assert (training.scaler.get_scale(), training.progress.skipped) == (before / 2, 1)
    assert weights_of(training) == pytest.approx((-6.0, -8.0), rel=1e-3)


@pytest.mark.parametrize(("image_losses", "count"), [((), 2), (("main",), 3)])
def test_parts_weigh_by_what_their_losses_count(image_losses: tuple[str, ...], count: int) -> None:
    """Of the second part's two inputs one is known; means over images count both."""
    training = a_training("float32", image_losses)
    of_one, of_two = torch.tensor([[1.0, 2.0]]), torch.tensor([[torch.nan, torch.nan], [4.0, 8.0]])
    losses = optimiser_step(training, [Inputs(of_one), Inputs(of_two)])
    assert weights_of(training) == pytest.approx((-15 / count, -40 / count))  # 3 (1 + 4), 4 (2 + 8)
    assert losses["main"] == 0
