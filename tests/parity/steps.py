"""The first optimiser step of a method's training beside that of its published training loop, from equal weights.

The numbers of the published loops, and the script that compares four steps, are in ``parity/steps`` of the shared
folder. The published side computed in float64, with dropouts that act on nothing; this side computes in torch's
default type.
"""

import collections
import functools
import re
import runpy
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from model.contract import Trainable
from model.episode import Episode, LabelledImages
from model.registry import models
from tests.helpers.paths import SHARED
from tests.helpers.skip_init import skip_init
from tests.parity.drawn.weights import fill
from util.config.compose import find_config
from util.config.folds import Fold
from util.config.read import read_config
from util.config.settings import Config, StageSettings
from util.data.words.text import read_vectors
from util.loop.network import prepare_network
from util.loop.optim import EMA, StepSchedule, build_optimizers
from util.loop.processes import join
from util.loop.train import train
from util.loop.training import Training
from util.run.build import build_model
from util.train.observers import Losses

FOLDER = SHARED / "parity/steps"
RUNS = ("bam_meta", "bam_base", "hdmnet_meta", "symnet_meta")  # whole, in float64
BATCH = {"base": 4, "meta": 2}
EPOCHS = 10  # of the published schedules, of as many steps as were measured
SMALLER = 0.4  # weights that learn
MERGES = (1, 2, 1, 1)  # the shape of weights that merge two maps, which do not become smaller
BASE_NAMES = {
    r"^(layer\d)": r"encoder.\1",
    r"^cls\.": "base_learner.classify.",
    r"^ppm\.features": "base_learner.pyramid",
}
RATE_RELATIVE = 1e-9
Dropouts = collections.Counter[tuple[str, float, int]]  # kind, probability, elements -> calls


@dataclass(frozen=True)
class Bounds:
    """How far a step may be from the published one, and whose gradients are computed."""

    change: float = 1e-6  # of a tensor, by its norm
    loss: float = 1e-8  # relative
    within: tuple[str, ...] = ("",)  # beginnings of our names; the changes of other tensors are not compared


IN_FLOAT64 = Bounds()
# SCCAN in float32, back to its last block: a whole step in float64 takes 49 s. AdamW's first change is about the
# gradient's sign, which rounding turns where the gradient is nearly 0.
SCCAN = Bounds(change=5e-4, loss=1e-6, within=("decoder.", "attend.norm.", "attend.blocks.7."))


@dataclass
class Noted:
    """The state of a training at its first forward pass, and the dropouts that act in it."""

    norms: int = 0  # batch norms in training mode
    optimizers: dict[str, list] = field(default_factory=dict)  # parameter -> kind, rate, momentum, decay
    dropouts: Dropouts = field(default_factory=collections.Counter)


def deviations_of_step(run: str, folder: Path, bounds: Bounds = IN_FLOAT64) -> list[str]:
    """Return what of a run's first step is not as published; ``folder`` is for the training's files."""
    reference = _reference()[run]
    model, _, stage = run.partition("_")
    config = _config(model, stage)
    vectors = read_vectors(SHARED / "embeddings/word2vec_pascal.pkl") if models()[model].reads_text else None
    with skip_init():
        whole = build_model(config, text_width=0 if vectors is None else vectors.shape[1])
    network: Any = (whole.base_stage() if stage == "base" else whole).to(torch.get_default_dtype())
    names = {name: _own_name(name, model, stage) for name in reference["tensors"]}
    start = _start(network, reference["tensors"], names)
    batch = _images() if stage == "base" else _episode(config, vectors)
    settings = config.base_stage if stage == "base" else config.meta_stage
    assert settings is not None
    measured = len(reference["losses"])
    noted, loss = _first_step(network, settings, batch, measured, folder=folder, within=bounds.within)

    found = _of_facts(noted, loss, reference, bounds.loss)
    own_rows = {names[name]: (name, row) for name, row in reference["tensors"].items()}
    for own, after in network.state_dict().items():
        name, row = own_rows.get(own, (own, {}))
        if "optim" in row and not _same_numbers(noted.optimizers.get(own), row["optim"]):
            found.append(f"{name}: optimiser {noted.optimizers.get(own)}, published {row['optim']}")
        if own in noted.optimizers and "trained" not in row:
            found.append(f"{name}: learns, and does not in the published loop")
        if "change" in row and not own.startswith(bounds.within):
            continue
        apart = _apart(name, after - start[own], row.get("change", (0.0, 0.0)))
        if apart > bounds.change:
            found.append(f"{name}: change {apart:.1e} apart")
    moving = {names[name] for name, row in reference["tensors"].items() if "change" in row}
    return found + [f"{own} is not here" for own in sorted(moving - start.keys())]


@functools.cache
def _reference() -> dict[str, Any]:
    return runpy.run_path(str(FOLDER / "reference.py"))["REFERENCE"]


def _config(model: str, stage: str) -> Config:
    side = _inputs()["SIDE"]
    settings = ["run.device=cpu", f"data.size={side}", "data.shot=1"]
    settings += [f"{stage}_stage.batch={BATCH[stage]}", f"{stage}_stage.epochs={EPOCHS}"]
    if stage == "base":
        settings.append(f"base_stage.size={side}")
    return read_config(find_config("split0", "pascal", model, "resnet50"), settings)


def _own_name(name: str, model: str, stage: str) -> str:
    """Return our name of a published tensor."""
    if stage == "meta":
        return models()[model].published.name(name)
    for pattern, own in BASE_NAMES.items():
        name = re.sub(pattern, own, name)
    return name


def _start(network: Any, rows: dict[str, Any], names: dict[str, str]) -> dict[str, Tensor]:
    """Give a network the weights that the published one began with, and return a copy of them by our names."""
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for constant in (network.encoder.mean, network.encoder.std):
        constant.copy_(constant.to(torch.float32))  # as published
    for name, row in rows.items():
        own, shape = names[name], tuple(row["shape"])
        if own in state:
            value = fill(name, shape)
            is_smaller = row.get("trained") and len(shape) > 1 and shape != MERGES
            state[own].copy_(value * SMALLER if is_smaller else value)
    network.load_state_dict(state)
    return state


@functools.cache
def _inputs() -> dict[str, Any]:
    return runpy.run_path(str(FOLDER / "episodes.py"))


def _images() -> LabelledImages:
    """Return the first batch of the base stage."""
    [batch] = _inputs()["images"](steps=1, batch=BATCH["base"])
    image = torch.from_numpy(batch["image"]).permute(0, 3, 1, 2).contiguous()
    return LabelledImages(image=image, label=torch.from_numpy(batch["label"]))


def _episode(config: Config, vectors: np.ndarray | None) -> Episode:
    """Return the first batch of the meta stage."""
    [batch] = _inputs()["episodes"](steps=1, batch=BATCH["meta"])
    given = {name: torch.from_numpy(array) for name, array in batch.items()}
    given["query"] = given["query"].permute(0, 3, 1, 2).contiguous()
    given["support"] = given["support"].permute(0, 1, 4, 2, 3).contiguous()
    ids = batch["class_id"]
    base_table = Fold.of(config.data).base_table
    return Episode(
        **given,
        base_id=torch.tensor([int(base_table[c]) for c in ids]),
        number=torch.arange(len(ids)),
        text=None if vectors is None else torch.from_numpy(vectors[ids]).to(torch.get_default_dtype()),
    )


def _first_step(
    network: Trainable,
    settings: StageSettings,
    batch: Episode | LabelledImages,
    measured: int,
    *,
    folder: Path,
    within: tuple[str, ...],
) -> tuple[Noted, float]:
    """Do the first step of a stage, of ``measured`` in an epoch, with the gradients of tensors ``within``.

    Return what was noted, and its loss.
    """
    with join("cpu", "the stage") as world:
        optimizers = build_optimizers(network.param_groups(), settings.optimizers)
        training = Training(
            prepared=prepare_network(network, world.device),
            optimizers=optimizers,
            ema=EMA(network, settings.ema_decay),
            rules=settings.optimizers,
            schedule=StepSchedule.from_settings(settings, measured * settings.batch, world.size, "the stage"),
            world=world,
        )
        noted = _noting(network, optimizers)
        for name, parameter in network.named_parameters():
            if not name.startswith(within):
                parameter.requires_grad_(False)  # now that the optimisers have it
        batches = iter([batch])
        try:
            train(training, batches, [Losses()])
        except StopIteration:  # there is no second batch
            assert training.progress.step == 1
    return noted, training.progress.totals["total"]


def _noting(network: nn.Module, optimizers: dict[str, Optimizer]) -> Noted:
    """Return what the network's first forward pass will fill; dropouts act on nothing from then on."""
    noted = Noted()

    def note_dropout(module: nn.Module, inputs: tuple[Tensor, ...], p: float) -> None:
        if module.training:
            noted.dropouts[type(module).__name__, p, inputs[0].numel()] += 1

    def note_start(*_: Any) -> None:
        noted.norms = sum(module.training for module in network.modules() if isinstance(module, nn.BatchNorm2d))
        noted.optimizers = _settings_of_parameters(network, optimizers)

    network.register_forward_pre_hook(note_start)
    for module in network.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d) and module.p > 0:
            module.register_forward_pre_hook(functools.partial(note_dropout, p=module.p))
            module.p = 0.0
    return noted


def _settings_of_parameters(network: nn.Module, optimizers: dict[str, Optimizer]) -> dict[str, list]:
    """Return kind, rate, momentum and decay of every parameter in an optimiser."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    settings = {}
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            values = [type(optimizer).__name__, group["lr"], group.get("momentum"), group["weight_decay"]]
            settings.update({names[parameter]: values for parameter in group["params"]})
    return settings


def _of_facts(noted: Noted, loss: float, reference: dict[str, Any], loss_bound: float) -> list[str]:
    """Return what of a step is not as published, beside its tensors."""
    found = []
    want = reference["losses"][0]
    if abs(loss - want) > loss_bound * abs(want):
        found.append(f"loss {loss:.9g}, published {want:.9g}")
    if noted.norms != reference["norms_in_training"]:
        found.append(f"batch norms in training mode: {noted.norms}, published {reference['norms_in_training']}")
    published = Dropouts({(kind, p, elements): calls for kind, p, elements, calls in reference["dropout"]})
    found += [f"dropout missing: {dropout}" for dropout in published - noted.dropouts]
    return found + [f"dropout not published: {dropout}" for dropout in noted.dropouts - published]


def _same_numbers(given: list | None, want: list) -> bool:
    """Return whether kind, rate, momentum and decay are equal but for rounding."""
    if given is None or given[0] != want[0] or (given[2] is None) != (want[2] is None):
        return False
    numbers = [(a, b) for a, b in zip(given[1:], want[1:], strict=True) if b is not None]
    return all(abs(a - b) <= RATE_RELATIVE * abs(b) for a, b in numbers)


def _apart(name: str, change: Tensor, published: list[float]) -> float:
    """Return how far norm and projection of a tensor's change are from the first published ones, by its norm."""
    norm, along = published[:2]
    if norm == 0 and not change.any():
        return 0.0
    change = change.double()
    own_norm = float(change.norm())
    own_along = float((change * _direction(name, change.shape)).sum())
    return max(abs(own_norm - norm), abs(own_along - along)) / max(norm, own_norm)


def _direction(name: str, shape: torch.Size) -> Tensor:
    """Return the unit vector on which the change of a tensor was projected."""
    random = np.random.Generator(np.random.PCG64(zlib.crc32(f"d {name}".encode())))
    vector = torch.from_numpy(np.asarray(random.standard_normal(tuple(shape)), np.float64))
    return vector / vector.norm()
