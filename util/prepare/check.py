"""Check machine, data, lists, text vectors, weights and disk of configs, and list missing prerequisites.

The output ends with the experiments that can be run now and a command for each missing prerequisite. Without a config
the data sets are listed; --all checks every experiment. The exit code is 2 if one of the configs cannot be run, with
--all if none can.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import shlex
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision

from model.encoders.registry import downloadable
from model.registry import class_of, every_model
from util.checkpoints.checkpoint import Stored, checkpoint_bytes, free_bytes
from util.checkpoints.download import SOURCES, TIMM, TORCHVISION, weights_url
from util.checkpoints.run import Run, StageFolder
from util.checkpoints.weights import cannot_train, fill_encoder, fix_of_missing
from util.config import command_line
from util.config.compose import CONFIG, MAIN_METHOD, config_path, data_sets, methods, read_tree, selection_of
from util.config.folds import Fold, teach_base_learners
from util.config.read import read_config, read_data
from util.config.settings import HELD_OUT, Config, DataSettings
from util.config.tree import value_of
from util.data.lists.files import project_path
from util.data.lists.image_list import check_shots
from util.data.lists.index import load_index
from util.data.words.text import NAME_VECTOR_WIDTH, NAMES, NO_TEXT, class_vectors, vectors_path
from util.errors import EXIT_USER_ERROR, UserError
from util.files import REPOSITORY
from util.parallel import usable_cores
from util.prepare.commands import prepare_command
from util.prepare.datasets import coco, pascal
from util.prepare.datasets.recipe import DIFFERS, compare_count
from util.prepare.lists import MAKERS, published
from util.runtime.device import gpu_count
from util.runtime.network import build_model

PUBLISHED_SIZES = {"pascal": pascal.PUBLISHED, "coco": coco.SPLITS}  # data set -> list -> images


class Finding(NamedTuple):
    """Result of the check of one requirement."""

    what: str  # the requirement
    fine: bool  # whether it is met
    says: str  # details
    fix: str = ""  # command or advice if it is not met


def lacking(findings: list[Finding]) -> list[str]:
    """Return a line for each prerequisite that is not met; one that several methods share names all of them."""
    users = dict[tuple[str, str, str], dict[str, None]]()
    for finding in findings:
        if not finding.fine:
            thing, _, user = finding.what.partition(" for ")
            users.setdefault((thing, finding.says, finding.fix), {})[user] = None
    lines = list[str]()
    for (thing, says, fix), names in users.items():
        needed_by = f" for {', '.join(names)}" if any(names) else ""
        lines.append(f"{thing}{needed_by}: {says.partition(';')[0]}; {fix}")
    return lines


Report = tuple[str, str, list[Finding]]  # data set and command of a config; its prerequisites that are checked


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    text = "YAML files under config/, or an experiment and a data set such as: split2 pascal"
    parser.add_argument("configs", nargs="*", help=text)
    command_line.add_method_options(parser)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    parser.add_argument("--all", action="store_true", help="check every experiment, with the default encoders")


def run(options: argparse.Namespace) -> int:
    """Check the machine and the configs, print the findings and return the exit code; errors as ``read_config``."""
    words, needs, reports = options.configs, Needs(), list[Report]()
    if not (words or options.all or options.model or options.net):
        print("name an experiment and a data set, such as: python prepare.py check split0 pascal --model bam")
        print("or name a config file; --all checks every experiment\n")
        for path in (path for path in sorted(Path("config").glob("*/*.yaml")) if path.stem == path.parent.name):
            data = read_data(path)
            print(f"{path.stem:<12} {data.root if Path(data.root).is_dir() else f'missing: {prepare_command(data)}'}")
        return 0
    if options.all and words:
        raise UserError(f"--all: checks every experiment; leave it out, or {' '.join(words)}")
    together = not words or (len(words) == 2 and not any(Path(word).suffix for word in words))  # as train.sh has them
    groups = [words] if together else [[word] for word in words]
    every = experiments(Path("config")) if options.all else [command_line.named(options, group) for group in groups]
    for path in every:
        try:
            reports.append(check_config(path, needs, options.overrides))
        except UserError as error:
            if not options.all:
                raise
            reports.append((path.parent.name, "", [Finding(f"config {path}", False, str(error), "correct that line")]))
    print_reports(reports)
    ready = [all(finding.fine for finding in findings) for *_, findings in reports]
    return 0 if (any if options.all else all)(ready) else EXIT_USER_ERROR


def experiments(root: Path) -> list[Path]:
    """Return all runs whose configs are files and, of every data set, those of all folds and methods."""
    paths = set(root.glob("*/*_split*.yaml"))
    for folder in data_sets(root):
        data = read_data(folder / f"{folder.name}.yaml")
        has_base_classes = teach_base_learners(vars(data))
        for method in methods(root):
            model = value_of(read_tree(root / "model" / f"{method}.yaml"), "model.name")
            if has_base_classes or not every_model()[model].has_base_stage:
                paths |= {config_path(f"split{n}", folder.name, method, root=root) for n in range(data.folds)}
    return sorted(paths)


def check_config(path: Path, needs: Needs, overrides: list[str]) -> Report:
    """Return the prerequisites of one config and the command that runs it; errors as ``read_config``."""
    config, selection = read_config(path, overrides), selection_of(path)
    given = "".join(f" --set {shlex.quote(text)}" for text in overrides)
    action = "train" if class_of(config.model).learns else "test"
    if selection is not None and selection.folder.parent in (CONFIG, CONFIG.relative_to(REPOSITORY)):
        choice = {"MODEL": None if selection.method == MAIN_METHOD else selection.method, "NET": selection.net}
        command = "".join(f"{name}={word} " for name, word in choice.items() if word)
        command += f"sh {action}.sh split{selection.fold} {path.parent.name} {gpu_count()}{given}"
    else:  # a file that the scripts do not know by experiment and data set
        before = config.base_stage is not None and not StageFolder(Run(config).folder("base")).finished
        command = f"python train_base.py {path}{given} && " * before + f"python {action}.py {path}{given}"
    return path.parent.name, command, needs.of(config)


def print_reports(reports: list[Report]) -> None:
    """Print all findings, and for each data set the experiments that can be run and a command for each gap."""
    gpus = [torch.cuda.get_device_name(number) for number in range(gpu_count())]
    machine = {
        "Python": platform.python_version(),
        "torch": f"{torch.__version__}, torchvision {torchvision.__version__}, CUDA {torch.version.cuda or 'none'}",
        "GPU": ", ".join(gpus) or "none; runs use the CPU: sh train.sh ... 0",
        "cores": f"{usable_cores()} usable",
    }
    checked = dict.fromkeys(finding for *_, findings in reports for finding in findings)
    for finding in [*(Finding(what, True, says) for what, says in machine.items()), *checked]:
        state = "MISSING" if not finding.fine else DIFFERS if DIFFERS in finding.says else "ok"
        print(f"{state:8}{finding.what}: {finding.says}")
    for name, group in groupby(reports, lambda report: report[0]):
        of_dataset = list(group)
        ready = [command for _, command, findings in of_dataset if all(f.fine for f in findings)]
        print(f"{name}: {len(ready)} of {len(of_dataset)} experiments can be run now")
        for command in ready:
            print(f"  {command}")
        gaps = [finding for *_, findings in of_dataset for finding in findings if not finding.fine]
        for fix in dict.fromkeys(finding.fix for finding in gaps):
            waiting = [finding.what for finding in gaps if finding.fix == fix]
            print(f"  {len(waiting)} wait for {waiting[0]}\n    {fix}")


class Needs:
    """Checks the prerequisites of configs; a prerequisite that several configs share is checked once."""

    def __init__(self) -> None:
        self.found: dict[str, Finding] = {}  # all findings, by their prerequisite

    def of(self, config: Config, trains: bool = True) -> list[Finding]:
        """Return the findings about all prerequisites of a config, or of its test alone."""
        data, method, out = config.data, class_of(config.model), list[Finding]()
        trains = trains and method.learns
        listed = ", ".join(filter(None, (data.train_list, data.test_list)))
        out.append(self.check(f"data {data.root} ({listed})", _data(data), prepare_command(data)))
        if out[0].fine:
            rule = f"{data.min_pixels} pixels, exclude_novel {str(data.exclude_novel).lower()}, {data.shot}-shot"
            what = f"lists {data.name} fold {data.fold} ({rule})"
            out.append(self.check(what, _lists(data), "change data.min_pixels, data.shot or the list"))
        if trains and (problem := cannot_train(config)):
            out.append(Finding(f"images to train {method.title} on", False, problem, "take another data set or method"))
        if trains and config.meta_stage.validate_on not in (None, HELD_OUT):
            other = read_data(project_path(config.meta_stage.validate_on))
            out.append(self.check(f"data {other.root} for validations", _data(other), prepare_command(other)))
        if method.reads_text:
            path = NAMES if data.text == NAMES else vectors_path(data)
            made = f"python prepare.py embeddings --dataset {data.name} --vectors"
            fix = f"{made} <GoogleNews-vectors-negative300.bin.gz> (or --set data.text=names)"
            out.append(self.check(f"vectors {path} for {data.name}", _vectors(data), fix))
        elif data.text != NO_TEXT:
            what, fix = f"data.text = {data.text} for {method.title}", f"set data.text: {NO_TEXT}"
            out.append(Finding(what, False, "this method reads no text vectors", fix))
        start, backbone = config.model.encoder, config.model.backbone() or ""
        if start is not None and start.weights is not None and (trains or not method.learns):
            what = f"weights {start.weights} for {method.title} on {backbone}{', partial' * start.partial}"
            advice = "name a file in model.encoder.weights, or NET=lite0"
            fix = advice if start.weights in SOURCES else fix_of_missing(Path(start.weights), backbone)
            out.append(self.check(what, _weights(config, start.weights), fix))
        if start is None and backbone:
            what, fix = f"networks {backbone} for {method.title}", "name their folders in model.weights"
            out.append(self.check(what, _networks(config), fix))
        if trains:
            name = f"{method.title} on {backbone}, {data.name}, {data.shot}-shot"
            what = f"disk for checkpoints of {name} in {config.run.folder}"
            out.append(self.check(what, _disk(config), "free some space, or --set run.folder=<DIR> on another disk"))
        return out

    def check(self, what: str, says: Iterator[str], fix: str) -> Finding:
        """Return the finding about a requirement: ``says`` yields details, and raises UserError if it is not met."""
        if what not in self.found:
            try:
                self.found[what] = Finding(what, True, "; ".join(says))
            except UserError as error:
                self.found[what] = Finding(what, False, str(error), fix)
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
    need, folders = Stored.of(network, config.meta_stage).peak_bytes, [Run(config).folder("meta")]
    if config.base_stage is not None:
        base = Stored.of(network.base_stage(), config.base_stage)
        need = max(base.peak_bytes, need + base.final_bytes)
        folders.append(Run(config).folder("base"))
    free, there = free_bytes(config), checkpoint_bytes(folders)
    says = f"{free / 1e9:.2f} GB free, checkpoints take {need / 1e9:.2f}, {there / 1e9:.2f} of it exist"
    if free < need - there:
        raise UserError(says)
    yield says
