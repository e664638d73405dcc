"""Checks of a config's prerequisites: data, lists, text vectors, weights and disk space."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from model.contract import Trainable
from model.encoders.timm_facts import PREFIX
from model.encoders.weights import PACKAGE, TIMM
from model.registry import class_of
from util.checkpoints.checkpoint import load_encoder_weights
from util.checkpoints.weights import how_to_get
from util.config.folds import Fold
from util.config.read import read_data
from util.config.settings import Config, DataSettings, StageSettings
from util.data.lists.files import found
from util.data.lists.image_list import check_shots
from util.data.lists.index import load_index, prepare_command
from util.data.words.text import NAME_VECTOR_WIDTH, NAMES, class_vectors, vectors_path
from util.errors import UserError
from util.parallel import usable_cores
from util.prepare import weights
from util.prepare.common import DIFFERS, compare_count
from util.prepare.datasets import coco, pascal
from util.prepare.lists import MAKERS, published
from util.run.device import gpu_count
from util.run.folders import base_folder, run_folder
from util.run.network import build_model


@dataclass(frozen=True)
class Finding:
    """Result of the check of one requirement."""

    what: str  # the requirement
    fine: bool  # whether it is met
    says: str  # details
    mend: str = ""  # command or advice if it is not met
    partly: bool = False  # met, but published results were made with something else

    def line(self) -> str:
        """Return the finding as a line of text."""
        state = "MISSING" if not self.fine else "differs" if self.partly else "ok"
        return f"{state:8}{self.what}: {self.says}"


GIGABYTE = 1e9
OLDEST_PYTHON, OLDEST_TORCH = (3, 10), (2, 4)
INSTALL = "python -m pip install --upgrade -r requirements.txt"


def check_machine() -> list[Finding]:
    """Return the findings about Python, torch, GPUs and cores."""
    return [_python(), _torch(), *_gpus(), Finding("cores", True, f"{usable_cores()} usable")]


def _python() -> Finding:
    fine = sys.version_info[:2] >= OLDEST_PYTHON
    return Finding("Python", fine, platform.python_version(), "" if fine else "install Python 3.10 or later")


def _torch() -> Finding:
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    says = f"{torch.__version__}, torchvision {_version('torchvision')}"
    try:
        import torchvision  # noqa: F401  fails if its version does not match torch's
    except (ImportError, RuntimeError, OSError) as error:
        return Finding("torch", False, f"{says}: torchvision does not load ({error})", INSTALL)
    return Finding("torch", version >= OLDEST_TORCH, says, "" if version >= OLDEST_TORCH else INSTALL)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _gpus() -> list[Finding]:
    if not torch.cuda.is_available():
        why = "torch is built without CUDA" if torch.version.cuda is None else "no CUDA device is available"
        return [Finding("GPU", True, f"none ({why}); runs use the CPU: sh train.sh ... 0")]
    out = [Finding("CUDA", True, f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}")]
    for number in range(gpu_count()):
        facts = torch.cuda.get_device_properties(number)
        out.append(Finding(f"GPU {number}", True, f"{facts.name}, {facts.total_memory / GIGABYTE:.0f} GB"))
    return out


PUBLISHED_SIZES = {"pascal": pascal.PUBLISHED, "coco": coco.SPLITS}  # data set -> list -> images
MOMENTS = {"sgd": 1, "adamw": 2}  # numbers that an optimiser stores for each trained weight
VECTORS = "python prepare.py embeddings --dataset {name} --vectors <GoogleNews-vectors-negative300.bin.gz>"


class Needs:
    """Checks the prerequisites of configs; a prerequisite that several configs share is checked once."""

    def __init__(self) -> None:
        self.found: dict[str, Finding] = {}  # all findings, by their prerequisite

    def of(self, config: Config, trains: bool = True) -> list[Finding]:
        """Return the findings about all prerequisites of a config, or of its test alone."""
        data, learns = config.data, class_of(config.model).learns
        trains = trains and learns
        listed = ", ".join(filter(None, (data.train_list, data.test_list)))
        out = [self._once(f"data {data.root} ({listed})", lambda w: check_data(w, data))]
        if out[0].fine:
            rule = f"{data.min_pixels} pixels, exclude_novel {str(data.exclude_novel).lower()}, {data.shot}-shot"
            out.append(self._once(f"lists {data.name} fold {data.fold} ({rule})", lambda w: check_lists(w, data)))
        if trains and config.meta_stage.validate_on is not None:
            other = read_data(found(config.meta_stage.validate_on))
            out.append(self._once(f"data {other.root} for validations", lambda w: check_data(w, other)))
        if class_of(config.model).reads_text:
            path = NAMES if data.text == NAMES else vectors_path(data)
            out.append(self._once(f"vectors {path} for {data.name}", lambda w: check_vectors(w, data)))
        start = config.model.start()
        if start.weights is not None and (trains or not learns):
            name, partly = f"{class_of(config.model).title} on {config.model.backbone()}", ", partial" * start.partial
            what = f"weights {start.weights} for {name}{partly}"
            out.append(self._once(what, lambda w: check_weights(w, config)))
        if trains:
            name = f"{class_of(config.model).title} on {config.model.backbone()}, {data.name}, {data.shot}-shot"
            what = f"disk for checkpoints of {name} in {config.run.folder}"
            out.append(self._once(what, lambda w: check_disk(w, config)))
        return out

    def add(self, finding: Finding) -> Finding:
        """Keep the finding of a check that is made elsewhere, and return it."""
        self.found[finding.what] = finding
        return finding

    def _once(self, what: str, check: Callable[[str], Finding]) -> Finding:
        if what not in self.found:
            self.found[what] = check(what)
        return self.found[what]


def check_data(what: str, data: DataSettings) -> Finding:
    """Check that each listed photo exists with a mask of its size and valid class ids, and how many are published."""
    mend = prepare_command(data)
    sizes, says = PUBLISHED_SIZES.get(data.name, {}), []
    try:
        for part, listed in (("train", data.train_list), ("test", data.test_list)):
            if listed is None:
                continue
            index = load_index(data, part)
            lost = [path for path in index.images if not path.is_file()]
            if lost:
                return Finding(what, False, f"{len(lost)} photos of {part} are missing, such as {lost[0]}", mend)
            says.append(compare_count(part, len(index), sizes.get(Path(listed).stem)))
    except UserError as error:
        return Finding(what, False, str(error), mend)
    return Finding(what, True, "; ".join(says), partly=any(s.endswith(DIFFERS) for s in says))


def check_lists(what: str, data: DataSettings) -> Finding:
    """Check that each class of a fold's lists has enough supports; compare the sizes of the lists with published."""
    says = []
    try:
        for part, make in MAKERS.items():
            if getattr(data, f"{part}_list") is None:
                continue
            images = make(load_index(data, part, progress=False), Fold.of(data), data)
            check_shots(images, data)
            says.append(compare_count(part, len(images.queries), published(data, part)))
    except UserError as error:
        return Finding(what, False, str(error), "change data.min_pixels, data.shot or the list")
    return Finding(what, True, "; ".join(says), partly=any(s.endswith(DIFFERS) for s in says))


def check_vectors(what: str, data: DataSettings) -> Finding:
    """Check that the text vectors of the class names exist and have the right rows."""
    try:
        table = class_vectors(data)
    except UserError as error:
        return Finding(what, False, str(error), f"{VECTORS.format(name=data.name)} (or --set data.text=names)")
    return Finding(what, True, f"{table.shape[0]} x {table.shape[1]}")


def check_weights(what: str, config: Config) -> Finding:
    """Check that a model's encoder accepts its weights, by loading them as a run does."""
    start, backbone = config.model.start(), config.model.backbone() or ""
    if start.weights is None:
        return Finding(what, True, "random values")
    if start.weights in class_of(config.model).downloads and start.weights != PACKAGE:
        return _downloaded(what, str(start.weights), backbone)
    network = build_model(config, text_width=1)
    try:
        missing = load_encoder_weights(network, start.weights, start.partial)
    except UserError as error:
        return Finding(what, False, str(error), how_to_get(Path(start.weights), backbone))
    says = f"fits; {len(missing)} tensors will start from random values" if missing else "fits, complete"
    return Finding(what, True, says)


def check_disk(what: str, config: Config) -> Finding:
    """Check that a training's checkpoints fit on the disk of its run folder; existing ones count as free space."""
    with torch.device("meta"):  # sizes without memory
        network = build_model(config, NAME_VECTOR_WIDTH if class_of(config.model).reads_text else 0)
    need, folders = _checkpoints(network, config.meta_stage), [run_folder(config, "meta")]
    if config.base_stage is not None:
        base = network.base_stage()
        after = need + 2 * _bytes(base.state_dict())  # the base stage's best and last remain
        need = max(_checkpoints(base, config.base_stage), after)
        folders.append(base_folder(config))
    found = (file.stat() for folder in folders for file in folder.glob("*.pth"))
    there = sum({stat.st_ino: stat.st_size for stat in found}.values())  # each file once, whatever its names
    root = Path(config.run.folder).absolute()
    free = shutil.disk_usage(next(f for f in (root, *root.parents) if f.exists())).free
    says = f"{free / GIGABYTE:.2f} GB free, checkpoints take {need / GIGABYTE:.2f}, {there / GIGABYTE:.2f} of it exist"
    return Finding(what, free >= need - there, says, "free some space, or --set run.folder=<DIR> on another disk")


def _checkpoints(network: Trainable, stage: StageSettings) -> int:
    """Return the most bytes that a stage's checkpoints take at a time: best, last, the one before, and a new one."""
    weights = _bytes(network.state_dict())
    learning = sum(p.nbytes for p in network.parameters() if p.requires_grad)
    copies = max(MOMENTS[o.kind] for o in stage.optimizers.values()) + (stage.ema_decay > 0)
    return weights + 3 * (weights + copies * learning)


def _bytes(state: dict[str, Tensor]) -> int:
    return sum(t.nbytes for t in state.values())


def _downloaded(what: str, source: str, backbone: str) -> Finding:
    """Return whether the weights of torchvision or timm are downloaded already; if not, a run downloads them."""
    if source == TIMM:
        return Finding(what, True, f"a run takes {backbone} from timm's cache or downloads it (network needed)")
    if backbone not in weights.NETWORKS:
        how = f"--set model.encoder.weights={TIMM}" if backbone.startswith(PREFIX) else "give a file"
        return Finding(what, False, f"torchvision has no weights of {backbone}", how)
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.weights_url(backbone)).name
    return Finding(what, True, f"{file}" if file.is_file() else "a run will download them (network needed)")
