"""Two steps of this project's training loop beside those of the published loops, from equal weights, in float64.

``README.md`` says what is compared. Dropouts act on nothing. The caller sets torch's default type.
"""

import json
import re
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.episode import Episode, LabelledImages
from model.registry import methods
from tests.helpers.read import config_of
from tests.helpers.skip_init import skip_init
from tests.model.small import without_dropout
from tests.parity.drawn.cases import check_sum
from tests.parity.drawn.drawn import word_vectors
from tests.parity.drawn.weights import fill
from tests.parity.steps_drawn.batches import BATCH, STEPS, Arrays, batches
from util.config.folds import Fold
from util.config.settings import Config, StageSettings
from util.loop.network import prepare_network
from util.loop.optim import EMA, StepSchedule, build_optimizers, set_learning_rates
from util.loop.processes import ProcessGroup, join
from util.loop.train import train_to_end
from util.loop.training import Training
from util.run.build import build_model
from util.train.bookkeeping import Losses

FOLDER = Path(__file__).parent
RUNS = sorted(path.stem for path in FOLDER.glob("*.npz"))
BOUND = 1e-6  # of the norm of a tensor's change, and of losses
EQUAL = 1e-9  # of rates
EPOCHS = 10  # of the schedule that the steps begin, of STEPS each
GRID = 16  # of SCCAN's tokens, in place of 64, on both sides
SMALLER = 0.4  # weights that learn
MERGES = (1, 2, 1, 1)  # the shape of weights that merge two maps, which do not become smaller
BASE_NAMES = {
    r"^(layer\d)": r"encoder.\1",
    r"^cls\.": "base_learner.classify.",
    r"^ppm\.features": "base_learner.pyramid",
}
State = dict[str, Tensor]


@dataclass
class Row:
    """A tensor of the published network."""

    name: str  # there
    shape: list[int]
    optimizer: int  # row of the optimisers' settings, which the changes tell
    rates: int  # row of the rates over the schedule; -1: none
    learns: bool
    own: str = ""  # its name here
    change: np.ndarray = field(default_factory=lambda: np.zeros(2 * STEPS))  # norm and projection after each step

    @property
    def start(self) -> Tensor:
        """The weights from which the steps begin."""
        value = fill(self.name, self.shape)
        is_smaller = self.learns and len(self.shape) > 1 and tuple(self.shape) != MERGES
        return SMALLER * value if is_smaller else value


@dataclass
class Noted:
    """The record of the steps."""

    losses: list[float] = field(default_factory=list)
    changes: list[State] = field(default_factory=list)  # of the tensors that have moved after each step
    rates: dict[str, list[float]] = field(default_factory=dict)  # parameter -> its rate at the measured steps


def deviations_of_steps(run: str) -> list[str]:
    """Return what of two steps of a run (``symnet_meta``) is not as published."""
    facts, rows = _published(run)
    model, _, stage = run.partition("_")
    drawn = batches(stage, facts["side"])
    sums = [check_sum(batch[name]) for batch in drawn for name in sorted(batch)]
    assert sums == facts["inputs_crc32"], "other images are drawn"
    config = _config(model, stage, facts["side"])
    settings = getattr(config, f"{stage}_stage")
    vectors = word_vectors() if methods()[model].reads_text else None
    with skip_init():
        whole = build_model(config, text_width=0 if vectors is None else vectors.shape[1])
    network = (whole.base_stage() if stage == "base" else whole).double()
    begin = _begin(network, rows)
    examples = [
        LabelledImages(torch.from_numpy(batch["image"]), torch.from_numpy(batch["label"]))
        if stage == "base"
        else _episode(batch, config, vectors)
        for batch in drawn
    ]
    with join("cpu", stage) as world:
        noted = _two_steps(_training(network, settings, world), begin, examples, facts)
    return [
        *_of_losses(noted.losses, facts["losses"]),
        *_of_rates(noted.rates, rows, facts),
        *_of_changes(noted.changes, rows, begin.keys()),
    ]


def _published(run: str) -> tuple[dict[str, Any], list[Row]]:
    """Return the facts of a published run, and its tensors."""
    model, _, stage = run.partition("_")
    with np.load(FOLDER / f"{run}.npz") as file:
        facts, tensors = (json.loads(bytes(file[key])) for key in ("facts", "tensors"))
        moved = dict(zip(file["moved"].tolist(), file["change"], strict=True))
    rows = [Row(*tensor) for tensor in tensors]
    for number, row in enumerate(rows):
        row.own = _own_name(row.name, model, stage)
        row.change = moved.get(number, row.change)
    return facts, rows


def _own_name(name: str, model: str, stage: str) -> str:
    """Return this project's name of a published tensor."""
    if stage == "meta":
        return methods()[model].published.name(name)
    for pattern, own in BASE_NAMES.items():
        name = re.sub(pattern, own, name)
    return name


def _config(model: str, stage: str, side: int) -> Config:
    key = f"{stage}_stage"
    settings = ["run.device=cpu", f"data.size={side}", "data.shot=1"]
    settings += [f"{key}.batch={BATCH[stage]}", f"{key}.epochs={EPOCHS}"]
    if stage == "base":
        settings.append(f"base_stage.size={side}")
    if model == "sccan":
        settings.append(f"model.grid={GRID}")
    return config_of("split0", "pascal", model, "resnet50", overrides=settings)


def _begin(network: Any, rows: list[Row]) -> State:
    """Give a network the weights that the published one began with, and return a copy of them."""
    state = network.state_dict()  # its tensors are the network's own
    for constant in (network.encoder.mean, network.encoder.std):
        constant.copy_(constant.to(torch.float32))  # as published
    for row in rows:
        if row.own in state:
            state[row.own].copy_(row.start)
    return {name: tensor.clone() for name, tensor in state.items()}


def _episode(batch: Arrays, config: Config, vectors: np.ndarray | None) -> Episode:
    tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
    class_id = tensors["class_id"]
    base_id = torch.from_numpy(Fold.of(config.data).base_table).long()[class_id]
    text = None if vectors is None else torch.from_numpy(vectors).double()[class_id]
    return Episode(**tensors, base_id=base_id, number=torch.arange(len(class_id)), text=text)


def _training(network: Any, settings: StageSettings, world: ProcessGroup) -> Training:
    schedule = StepSchedule.from_settings(settings, STEPS * settings.batch, world.size, "the stage")
    return Training(
        prepared=prepare_network(network, world.device),
        optimizers=build_optimizers(network.param_groups(), settings.optimizers),
        ema=EMA(network, settings.ema_decay),
        rules=settings.optimizers,
        schedule=replace(schedule, steps_per_epoch=schedule.steps),  # no epoch ends, so the sums of losses stay
        world=world,
    )


def _two_steps(training: Training, begin: State, examples: list[Any], facts: dict[str, Any]) -> Noted:
    """Do the steps, and return what was seen of them."""
    network = training.prepared.network
    without_dropout(network)
    noted = Noted()

    def batches_between_notes() -> Iterator[Any]:
        for example in examples:
            yield example
            state = network.state_dict()
            noted.changes.append({k: x - begin[k] for k, x in state.items() if not torch.equal(x, begin[k])})
            noted.losses.append(training.progress.totals["total"] - sum(noted.losses))

    try:
        train_to_end(training, batches_between_notes(), [Losses()])
    except StopIteration:  # there is no third batch
        assert training.progress.step == STEPS
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    for step in facts["rate_steps"]:
        set_learning_rates(training.optimizers, training.rules, step - 1, facts["rate_total"])
        for optimizer in training.optimizers.values():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    noted.rates.setdefault(names[id(parameter)], []).append(group["lr"])
    return noted


def _of_losses(own: list[float], published: list[float]) -> Iterator[str]:
    """Yield what differs of the losses of both steps."""
    for step, (loss, want) in enumerate(zip(own, published, strict=True), start=1):
        if not abs(loss - want) <= BOUND * abs(want):
            yield f"loss of step {step}: {loss:.9g}, published {want:.9g}"


def _of_rates(own: dict[str, list[float]], rows: list[Row], facts: dict[str, Any]) -> Iterator[str]:
    """Yield which parameters learn and do not in the published loop, and what differs of rates over the schedule."""
    for row in rows:
        if row.own not in own:
            continue
        published = facts["rate_rows"][row.rates]
        if not row.learns:
            yield f"{row.name}: learns, and does not in the published loop"
        elif not np.allclose(own[row.own], published, rtol=EQUAL, atol=0):
            yield f"{row.name}: rates {own[row.own]} at steps {facts['rate_steps']}, published {published}"


def _of_changes(changes: list[State], rows: list[Row], names: Collection[str]) -> Iterator[str]:
    """Yield the tensors that do not move as published, or that the published network lacks and that move."""
    for row in rows:
        moves = any(row.own in moved for moved in changes)
        if row.change.any() and row.own not in names:
            yield f"{row.name} is not here"
        elif moves or row.change.any():
            yield from _of_change([moved.get(row.own) for moved in changes], row)
    for name in changes[-1].keys() - {row.own for row in rows}:
        yield f"{name} moves, and is no tensor of the published network"


def _of_change(changes: list[Tensor | None], row: Row) -> Iterator[str]:
    """Yield how a tensor's change after each step (None: none) is not the published one."""
    direction = _direction(row.name, tuple(row.shape))
    for step, change in enumerate(changes, start=1):
        moved = torch.zeros_like(direction) if change is None else change.double().view_as(direction)
        norm, along = row.change.reshape(STEPS, 2)[step - 1]
        own = float(moved.norm())
        differences = abs(own - norm), abs(float((moved * direction).sum()) - along)
        apart = max(differences) / (max(norm, own) or 1.0)
        if not apart <= BOUND:
            yield f"{row.name}: change of step {step} is {own:.3g}, published {norm:.3g}, apart {apart:.1e}"


def _direction(name: str, shape: tuple[int, ...]) -> Tensor:
    """Return the unit vector on which the change of a tensor was projected."""
    random = np.random.Generator(np.random.PCG64(zlib.crc32(f"d {name}".encode())))
    vector = np.atleast_1d(np.asarray(random.standard_normal(shape), np.float64))
    return torch.from_numpy(vector / np.linalg.norm(vector))
