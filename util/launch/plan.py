"""What a command would do, for ``--dry-run``: its stages, what is there, steps, batches, hours, memory, disk, refusals.

The operations of every training step and evaluation are counted by a pass on tensors without memory. How many of them a
second are done is measured in passes of the network's own encoder on this machine; another device is as many times as
fast as it takes more images of 224 px a second through ResNet-50, its ``--device-speed``.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet50
from tqdm import tqdm

from benchmark import noise_episodes
from model.common.fixed_shapes import fixed_shapes
from model.episode import LabelledImages
from model.registry import class_of
from util import cli
from util.checkpoints.resume import as_trained, check_free, newest, training_differences
from util.config import command_line
from util.config.folds import Fold
from util.config.read import read_config, to_dict
from util.config.settings import Config, StageSettings
from util.data.lists.files import read_fold_list
from util.data.lists.index import load_index
from util.data.sampling import SHUFFLED_PAIRS
from util.data.words.text import NAME_VECTOR_WIDTH
from util.errors import EXIT_USER_ERROR, UserError
from util.files import link
from util.launch.launch import processes, trained_otherwise
from util.prepare.lists import published
from util.prepare.needs import PUBLISHED_SIZES, Finding, Needs, checkpoint_bytes, moments
from util.report.table import Table
from util.run.context import RunContext, base_folder, begun, is_finished, run_folder, with_data
from util.run.data import epoch_length, images_for_training
from util.run.device import CUDA, gpu_count, pick_device
from util.run.input_size import view_of
from util.run.network import build_model
from util.train.optim import StepSchedule

UNIT_SIDE, UNIT_FLOPS = 224, 8.18e9  # ResNet-50's, a multiplication and an addition being two
GIB, GB, HOUR = 2**30, 1e9, 3600
META = torch.device("meta")  # of tensors without memory


class Cost(NamedTuple):
    """What a pass takes: operations for each image or episode; bytes of weights, of those that learn, and besides."""

    flops: float
    weights: int
    learning: int
    peak: int


@dataclass(frozen=True)
class Task:
    """A stage of a training (base, meta) or a test, with what is there of it.

    Attributes:
        gpus: of every machine.
        left: the share of its work that is still to be done.
        refusal: why it cannot go on from what is there.
    """

    config: Config
    stage: str
    gpus: int
    there: str
    left: float
    refusal: str = ""

    @property
    def settings(self) -> StageSettings:
        """The settings of its stage of a training."""
        return getattr(self.config, f"{self.stage}_stage")

    @cached_property
    def schedule(self) -> StepSchedule:
        """The steps of its training; 0 where the length of the list is not known.

        Raises:
            UserError: the batch is too small.
        """
        length = _length(self.config, self.settings)
        schedule = StepSchedule.from_settings(self.settings, length, self.processes, f"{self.stage}_stage")
        return schedule if length else replace(schedule, steps=0)

    def passes(self) -> list[tuple[Case, float]]:
        """Return the cases that a process runs, each with the number of its images or episodes."""
        config, test, is_base, count = self.config, self.config.test, self.stage == "base", self.processes
        sized = with_data(config, size=self.side)
        if self.stage == "test":
            protocol = config.protocols[test.protocol]
            each = math.ceil((test.episodes or protocol.episodes) / count) * protocol.ways
            number = len(test.seeds or protocol.seeds) * each * test.passes(config.data.shot)
            return [(Case(sized, test.batch, False, False), number * self.left)]
        stage, share = self.settings, self.schedule.batch / count
        trained = (self.schedule.steps or math.nan) * share * self.left if self.left else 0.0
        out = [(Case(sized, math.ceil(share / stage.accumulate), is_base, True), trained)]
        if stage.validate_every:
            validations = math.ceil(stage.epochs / stage.validate_every) * (1 + stage.validate_midway)
            held_out = min(stage.validate_episodes, _held_out(config)) if is_base else stage.validate_episodes
            number = validations * math.ceil(held_out / count)
            out.append((Case(sized if is_base else config, test.batch, is_base, False), number * self.left))
        return out

    def described(self) -> list[str]:
        """Return the leading cells of its row."""
        config, test, stage, steps, share = self.config, self.config.test, self.stage, "", ""
        if stage == "test":
            protocol = config.protocols[test.protocol]
            stage, share = f"test by {test.protocol}", f"{test.batch}"
            steps = f"{len(test.seeds or protocol.seeds)} x {test.episodes or protocol.episodes}"
        else:
            steps, share = str(self.schedule.steps or "?"), f"{self.schedule.batch / self.processes:g}"
            share += f" in {self.settings.accumulate} parts" if self.settings.accumulate > 1 else ""
        name = config.path if stage == "base" else f"{config.path}, {config.data.shot}-shot"
        return [name, stage, self.there, steps, str(self.side), f"{share} x {self.processes}"]

    @property
    def processes(self) -> int:
        """Its processes on all machines."""
        return processes(self.config, self.stage, self.gpus)

    @property
    def side(self) -> int:
        """The side of its images in pixels; of images of their original sizes ``data.size``, in their place."""
        test, size = self.config.test, self.config.data.size
        if self.stage == "test":
            return view_of(self.config, self.config.protocols[test.protocol]).side or size
        return self.config.stage_size(self.settings)


def trainings(config: Config, gpus: int, meta: Path, with_base: bool = True) -> Iterator[tuple[Path, Task]]:
    """Yield the folder and the task of each stage of a training; ``meta`` is the folder of the last."""
    folders = {"base": base_folder(config)} if config.base_stage is not None and with_base else {}
    for stage, folder in {**folders, "meta": meta}.items():
        there, left, refusal = "nothing", 1.0, ""
        if is_finished(folder):
            there, left = "finished", 0.0
        elif begun(folder):
            content = newest(folder)
            step, steps = content["progress"]["step"], content["schedule"]["steps"]
            there, left = f"step {step} of {steps}", 1 - step / steps
            if differences := training_differences(content["config"], to_dict(config), stage):
                refusal = f"{folder}: was begun with {', '.join(differences)}; undo the change, or give --overwrite"
        yield folder, Task(config, stage, gpus, there, left, refusal)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a dry run."""
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--device-speed", type=cli.within(float, 0.1))


@contextmanager
def caches_kept_apart(configs: list[Config]) -> Iterator[str]:
    """Return the context of an override under which the caches of configs are read, and none is written."""
    with tempfile.TemporaryDirectory() as folder:
        for file in (file for config in configs for file in Path(config.data.cache).glob("*.npz")):
            link(file, Path(folder, file.name))
        yield f"data.cache={folder}"


def plan_training(path: Path, gpus: int, options: list[str]) -> int:
    """Print what ``train.sh`` would do; return 0, or 2 if it would refuse."""
    parser = command_line.parser(None)
    cli.add_training_options(parser)
    add_options(parser)
    parser.add_argument("--checkpoint")
    asked = parser.parse_args([str(path), *options])
    with caches_kept_apart([read_config(path, asked.overrides)]) as cache:
        config = read_config(path, [*asked.overrides, cache])
        meta, tasks, refused = run_folder(config, "meta"), list[Task](), list[str]()
        continues = asked.resume and begun(meta)
        if asked.resume:
            config = as_trained(config, meta if continues else run_folder(config, "base"))
        for folder, task in trainings(config, gpus, meta, asked.checkpoint is None and not continues):
            otherwise = trained_otherwise(config, "base") if task.stage == "base" else ""
            again = asked.overwrite and otherwise and not config.run.base_folder
            if task.stage == "base" and not task.left and not again:
                refused.append(otherwise)
            elif asked.overwrite:
                there = task.there if task.there == "nothing" else f"{task.there}, discarded"
                task = replace(task, there=there, left=1.0, refusal="")
            else:
                try:
                    check_free(folder, asked.resume and begun(folder), False)
                except UserError as error:
                    refused.append(str(error))
            tasks.append(task)
        if not class_of(config.model).learns:
            refused.append(f"{path}: this model has nothing to train; test it as it is")
        starts = tasks[0].left == 1 and asked.checkpoint is None  # from the encoder's weights
        found = [finding for finding in Needs().of(config) if starts or not finding.what.startswith("weights")]
        return plan(tasks, [*refused, *in_words(found)], gpus, asked.device_speed)


def in_words(findings: list[Finding]) -> list[str]:
    """Return a line for each prerequisite that is not met."""
    return [f"{f.what}: {f.says.partition(';')[0]}; {f.mend}" for f in findings if not f.fine]


def plan(tasks: list[Task], refused: list[str], gpus: int, speed: float | None) -> int:
    """Print the tasks of a command and its refusals; return 0, or 2 if there are some.

    Args:
        speed: images of 224 px a second through ResNet-50; None: those of this machine.
    """
    machine, refused = Machine(pick_device(CUDA if gpus and gpu_count() else "cpu")), list(refused)
    rows, hours, stay, extra = list[list[str]](), 0.0, 0, 0
    for task in tqdm(tasks, "counting", unit="stage", leave=False):
        try:
            passes, cells = task.passes(), task.described()
        except UserError as error:
            refused.append(str(error))
            continue
        of_task, memory, remain = 0.0, 0, 0
        for case, number in passes:
            if (cost := machine.cost(case)) is None:
                of_task += math.nan * bool(number)
            else:
                of_task += machine.hours(case, cost.flops * number) * machine.speed / (speed or machine.speed)
                kept = moments(task.settings) * cost.learning if case.trains else 0
                memory = max(memory, cost.weights + cost.peak + kept)
                remain = max(remain, 2 * cost.weights * case.trains)
                if case.trains and task.left:
                    extra = max(extra, checkpoint_bytes(cost.weights, kept) - remain)
        hours, stay = hours + (0 if math.isnan(of_task) else of_task), stay + remain * (task.left > 0)
        figures = ((of_task, 1), (memory, GIB), (remain, GB))
        rows.append([*cells, *(_figure(value / unit) for value, unit in figures)])
    print(Table(["config", "stage", "there", "steps", "px", "batch x processes", "hours", "GiB each", "disk GB"], rows))
    source = "of --device-speed" if speed else "of a GPU here" if machine.gpu else "of this machine's processor"
    beside = " beside ?" if any("?" in row for row in rows) else ""
    print(f"in all {hours:.1f} hours{beside} at {speed or machine.speed:.4g} images a second, {source}")
    root = Path(tasks[0].config.run.folder if tasks else ".").absolute()
    free = shutil.disk_usage(next(f for f in (root, *root.parents) if f.exists())).free
    print(f"disk: {stay / GB:.1f} GB stay, {extra / GB:.1f} more during a stage, {free / GB:.1f} are free", flush=True)
    if stay + extra > free:
        refused.append(f"{root}: the disk is too small; free some space, or --set run.folder=<DIR> on another one")
    lines = list(dict.fromkeys(filter(None, [*refused, *(task.refusal for task in tasks if task.left)])))
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    return EXIT_USER_ERROR if lines else 0


def _figure(value: float) -> str:
    return "?" if math.isnan(value) else f"{value:.2f}" if value else "-"


def _length(config: Config, stage: StageSettings) -> int:
    """Return the examples of an epoch; of data that are missing as published, or at most all; 0 if not known."""
    if stage.epoch_length:
        return stage.epoch_length
    data, fold = replace(config.data, decoded_gib=0), Fold.of(config.data)
    try:
        context = RunContext(replace(config, data=data), fold, class_of(config.model), None)
        return epoch_length(stage, images_for_training(context, False, stage))
    except UserError:
        if stage.images == "all":
            return _published_size(config, data.train_list)
        if stage.list_file is None:
            return published(data, "train") or _published_size(config, data.train_list)
        stems = read_fold_list(stage.list_file, fold).stems
        return len(stems if stage.query == SHUFFLED_PAIRS else set(stems))


def _held_out(config: Config) -> int:
    """Return the most images that can validate the base stage."""
    try:
        return len(load_index(config.data, "test", False))
    except UserError:
        return _published_size(config, config.data.test_list)


def _published_size(config: Config, listed: str | None) -> int:
    return PUBLISHED_SIZES.get(config.data.name, {}).get(Path(listed or "").stem, 0)


# --- counting --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A pass of a network, or of its base stage, over a batch: a training step without the optimiser, or an evaluation.

    Attributes:
        config: with ``data.size`` as the side of the images.
    """

    config: Config
    batch: int
    base: bool
    trains: bool

    def __str__(self) -> str:
        config = self.config
        return repr((config.model, config.data.size, config.data.shot, self.batch, self.base, self.trains))

    def counted(self) -> Cost:
        """Return what the pass takes; it runs on tensors without memory, with shapes that do not depend on values."""
        data, model_class = self.config.data, class_of(self.config.model)
        episodes = noise_episodes(data.size, data.shot, self.batch).to(META)
        seen = LabelledImages(episodes.query, episodes.query_label) if self.base else episodes
        live, flops = LiveBytes(), FlopCounterMode(display=False)
        with META, fixed_shapes():
            model = build_model(self.config, NAME_VECTOR_WIDTH if model_class.reads_text else 0).to(META)
            network: nn.Module = (model.base_stage() if self.base else model).train(self.trains)
            with flops, live, nullcontext() if self.trains else torch.no_grad():
                losses = network(seen).losses
                if self.trains:
                    sum(losses.values(), torch.zeros(())).backward()
        learning = sum(p.nbytes for p in network.parameters() if p.requires_grad)
        weights = sum(tensor.nbytes for tensor in network.state_dict().values())
        return Cost(flops.get_total_flops() / self.batch, weights, learning, live.peak)


class LiveBytes(TorchDispatchMode):
    """A mode that counts the bytes of the tensors that are made in it, and the most that are alive at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known = set[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and id(storage := tensor.untyped_storage()) not in self.known:
                self.known.add(id(storage))
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._freed, id(storage), storage.nbytes())
        return out

    def _freed(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


class Machine:
    """What cases cost, and how fast a GPU of this machine or its processor is, each found once.

    Attributes:
        speed: images of 224 px a second through ResNet-50.
    """

    def __init__(self, device: torch.device):
        self.device, self.gpu = device, device.type == CUDA
        self.threads = 1 if self.gpu else torch.get_num_threads()
        self._costs = dict[str, Cost | None]()
        self._rates = {repr(None): self._rate(resnet50(), UNIT_SIDE)}  # by encoder
        self.speed = self._rates[repr(None)] / UNIT_FLOPS

    def cost(self, case: Case) -> Cost | None:
        """Return what a case takes; None for a network that asks for the values of tensors."""
        if (key := str(case)) not in self._costs:
            self._costs[key] = None
            with suppress(NotImplementedError, RuntimeError):
                self._costs[key] = case.counted()
        return self._costs[key]

    def hours(self, case: Case, flops: float) -> float:
        """Return the hours that so many operations of a case take, at the rate of its encoder."""
        if flops and (key := repr(case.config.model.encoder)) not in self._rates:
            network: Any = build_model(case.config, NAME_VECTOR_WIDTH)
            self._rates[key] = self._rate(network.encoder, case.config.data.size)
        return flops / self._rates[key] / HOUR if flops else 0.0

    def _rate(self, network: nn.Module, side: int) -> float:
        """Return the operations of a network that are done in a second.

        The processor counts the time that it works for one thread of this process, which other work does not lengthen.
        """
        counter, images = FlopCounterMode(display=False), torch.zeros(32 if self.gpu else 1, 3, side, side)
        network, images = network.eval().to(self.device), images.to(self.device)
        clock, took = time.perf_counter if self.gpu else time.process_time, list[float]()
        torch.set_num_threads(1)
        with torch.inference_mode():
            with counter:
                network(images)
            for _ in range(2):
                started = clock()
                network(images)
                if self.gpu:
                    torch.cuda.synchronize()
                took.append(clock() - started)
        torch.set_num_threads(self.threads)
        return self.threads * counter.get_total_flops() / min(took)
