"""Checks of a config's prerequisites: data, lists, text vectors, weights and disk space."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision

from model.encoders.registry import downloadable
from model.registry import class_of
from util.checkpoints.checkpoint import Stored, free_bytes, taken
from util.checkpoints.download import TIMM, TORCHVISION, weights_url
from util.checkpoints.run import Run
from util.checkpoints.weights import cannot_train, fill_encoder, mend_of_missing
from util.config.folds import Fold
from util.config.read import read_data
from util.config.settings import HELD_OUT, Config, DataSettings
from util.data.lists.files import found
from util.data.lists.image_list import check_shots
from util.data.lists.index import load_index, prepare_command
from util.data.words.text import NAME_VECTOR_WIDTH, NAMES, NO_TEXT, class_vectors, vectors_path
from util.errors import UserError
from util.parallel import usable_cores
from util.prepare.datasets import coco, pascal
from util.prepare.datasets.recipe import compare_count
from util.prepare.lists import MAKERS, published
from util.run.device import gpu_count
from util.run.network import build_model

PUBLISHED_SIZES = {"pascal": pascal.PUBLISHED, "coco": coco.SPLITS}  # data set -> list -> images
VECTORS = "python prepare.py embeddings --dataset {} --vectors <GoogleNews-vectors-negative300.bin.gz>"


class Finding(NamedTuple):
    """Result of the check of one requirement."""

    what: str  # the requirement
    fine: bool  # whether it is met
    says: str  # details
    mend: str = ""  # command or advice if it is not met


def machine() -> list[Finding]:
    """Return the facts about Python, torch, GPUs and cores."""
    gpus = [torch.cuda.get_device_name(number) for number in range(gpu_count())]
    versions = f"{torch.__version__}, torchvision {torchvision.__version__}, CUDA {torch.version.cuda or 'none'}"
    return [
        Finding("Python", True, platform.python_version()),
        Finding("torch", True, versions),
        Finding("GPU", True, ", ".join(gpus) or "none; runs use the CPU: sh train.sh ... 0"),
        Finding("cores", True, f"{usable_cores()} usable"),
    ]


class Needs:
    """Checks the prerequisites of configs; a prerequisite that several configs share is checked once."""

    def __init__(self) -> None:
        self.found: dict[str, Finding] = {}  # all findings, by their prerequisite

    def of(self, config: Config, trains: bool = True) -> list[Finding]:
        """Return the findings about all prerequisites of a config, or of its test alone."""
        data, method = config.data, class_of(config.model)
        trains = trains and method.learns
        listed = ", ".join(filter(None, (data.train_list, data.test_list)))
        out = [self.check(f"data {data.root} ({listed})", partial(_data, data), prepare_command(data))]
        if out[0].fine:
            rule = f"{data.min_pixels} pixels, exclude_novel {str(data.exclude_novel).lower()}, {data.shot}-shot"
            what, mend = f"lists {data.name} fold {data.fold} ({rule})", "change data.min_pixels, data.shot or the list"
            out.append(self.check(what, partial(_lists, data), mend))
        if trains and (problem := cannot_train(config)):
            out.append(Finding(f"images to train {method.title} on", False, problem, "take another data set or method"))
        if trains and config.meta_stage.validate_on not in (None, HELD_OUT):
            other = read_data(found(config.meta_stage.validate_on))
            out.append(self.check(f"data {other.root} for validations", partial(_data, other), prepare_command(other)))
        if method.reads_text:
            path = NAMES if data.text == NAMES else vectors_path(data)
            mend = f"{VECTORS.format(data.name)} (or --set data.text=names)"
            out.append(self.check(f"vectors {path} for {data.name}", partial(_vectors, data), mend))
        elif data.text != NO_TEXT:
            what, mend = f"data.text = {data.text} for {method.title}", f"set data.text: {NO_TEXT}"
            out.append(Finding(what, False, "this method reads no text vectors", mend))
        start, backbone = config.model.encoder, config.model.backbone() or ""
        if start is not None and start.weights is not None and (trains or not method.learns):
            what = f"weights {start.weights} for {method.title} on {backbone}{', partial' * start.partial}"
            mend = "name a file in model.encoder.weights, or NET=lite0"
            if start.weights not in (TORCHVISION, TIMM):
                mend = mend_of_missing(Path(start.weights), backbone)
            out.append(self.check(what, partial(_weights, config, start.weights), mend))
        if start is None and backbone:
            what, mend = f"networks {backbone} for {method.title}", "name their folders in model.weights"
            out.append(self.check(what, partial(_networks, config), mend))
        if trains:
            name = f"{method.title} on {backbone}, {data.name}, {data.shot}-shot"
            what = f"disk for checkpoints of {name} in {config.run.folder}"
            mend = "free some space, or --set run.folder=<DIR> on another disk"
            out.append(self.check(what, partial(_disk, config), mend))
        return out

    def check(self, what: str, says: Callable[[], Iterator[str]], mend: str) -> Finding:
        """Return the finding about a requirement: ``says`` yields details, and raises UserError if it is not met."""
        if what not in self.found:
            try:
                self.found[what] = Finding(what, True, "; ".join(says()))
            except UserError as error:
                self.found[what] = Finding(what, False, str(error), mend)
        return self.found[what]


def _data(data: DataSettings) -> Iterator[str]:
    """Each listed photo exists with a mask of its size and valid class ids, as many as published."""
    for part, listed in (("train", data.train_list), ("test", data.test_list)):
        if listed is not None:
            index = load_index(data, part)
            if lost := [path for path in index.images if not path.is_file()]:
                raise UserError(f"{len(lost)} photos of {part} are missing, such as {lost[0]}")
            yield compare_count(part, len(index), PUBLISHED_SIZES.get(data.name, {}).get(Path(listed).stem))


def _lists(data: DataSettings) -> Iterator[str]:
    """Each class of a fold's lists has enough supports; the lists are as long as the published ones."""
    for part, make in MAKERS.items():
        if getattr(data, f"{part}_list") is not None:
            images = make(load_index(data, part, progress=False), Fold.of(data), data)
            check_shots(images, data)
            yield compare_count(part, len(images.queries), published(data, part))


def _vectors(data: DataSettings) -> Iterator[str]:
    """The text vectors of the class names exist and have the right rows."""
    rows, width = class_vectors(data).shape
    yield f"{rows} x {width}"


def _weights(config: Config, source: str) -> Iterator[str]:
    """A model's encoder accepts its weights, which are loaded as a run does; or a run can download them."""
    backbone = config.model.backbone() or ""
    if source == TIMM:
        yield f"a run takes {backbone} from timm's cache or downloads it (network needed)"
    elif source == TORCHVISION:
        if backbone not in downloadable():
            raise UserError(f"torchvision has no weights of {backbone}")
        file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights_url(backbone)).name
        yield str(file) if file.is_file() else "a run will download them (network needed)"
    else:
        yield fill_encoder(config, build_model(config, text_width=1)).removeprefix("encoder: ")


def _networks(config: Config) -> Iterator[str]:
    """The networks that a method brings along load from their folders, or a run fetches them from the hub."""
    if all(Path(name).is_dir() for name in (config.model.backbone() or "").split(",")):
        build_model(config, text_width=0)
        yield "complete"
    elif importlib.util.find_spec("transformers") is None:
        raise UserError("the package transformers is absent: pip install -r requirements-foundation.txt")
    else:
        yield "a run takes them from the hub's cache or downloads them (network needed)"


def _disk(config: Config) -> Iterator[str]:
    """A training's checkpoints fit on the disk of its run folder; existing ones count as free space."""
    with torch.device("meta"):  # sizes without memory
        network = build_model(config, NAME_VECTOR_WIDTH if class_of(config.model).reads_text else 0)
    need, folders = Stored.of(network, config.meta_stage).most, [Run(config).folder("meta")]
    if config.base_stage is not None:
        base = Stored.of(network.base_stage(), config.base_stage)
        need = max(base.most, need + base.remain)
        folders.append(Run(config).folder("base"))
    free, there = free_bytes(config), taken(folders)
    says = f"{free / 1e9:.2f} GB free, checkpoints take {need / 1e9:.2f}, {there / 1e9:.2f} of it exist"
    if free < need - there:
        raise UserError(says)
    yield says
