"""Check machine, data, lists, text vectors, weights and disk of configs, and list missing prerequisites.

The output ends with the experiments that can be run and a command for each missing prerequisite. Without a config
the data sets are listed; --all checks every experiment. The exit code is 2 if one of the configs cannot be run, with
--all if none can.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import shlex
from collections.abc import Iterator
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch

from model.contract import FewShotModel
from model.registry import class_of, models
from util.config import command_line
from util.config.compose import Source, files_of, find_config, read_tree, selection_of
from util.config.folder import MAIN_METHOD, data_file, data_sets, method_file, methods
from util.config.folds import Fold, teach_base_learners
from util.config.read import read_config, read_data
from util.config.settings import HELD_OUT, Config, DataSettings
from util.config.tree import value_of
from util.data.lists.image_list import check_shots
from util.data.lists.index import load_index
from util.data.lists.list_files import is_published
from util.data.lists.published_sizes import MAKERS, published, whole
from util.data.words.text import NAMES, NO_TEXT, class_vectors, note_on_equal_rows, vectors_path
from util.files import project_path
from util.files.errors import EXIT_USER_ERROR, UserError
from util.files.parallel import usable_cores
from util.loop.device import gpu_count
from util.run.build import build_model
from util.run.encoder_weights import RELEASES, SOURCES, TIMM, fill_encoder, fix_of_missing
from util.run.fetch import cached_file, check_cached, weights_url
from util.run.run import Run
from util.run.weights import cannot_train
from util.train.plan import checkpoint_bytes, free_on_disk, stored_by

NOT_COMPARABLE = "it runs; published numbers are of the complete data set"


class Finding(NamedTuple):
    """Result of the check of one requirement."""

    what: str  # the requirement
    fine: bool  # whether it is met
    says: str  # details
    fix: str = ""  # command or advice if it is not met


def lacking(findings: list[Finding]) -> list[str]:
    """Return a line for each prerequisite that is not met; one that several methods share names all of them."""
    users: dict[tuple[str, str, str], list[str]] = {}  # requirement, details, remedy -> who needs it
    for finding in findings:
        if finding.fine:
            continue
        thing, _, user = finding.what.partition(" for ")
        names = users.setdefault((thing, finding.says, finding.fix), [])
        if user not in names:
            names.append(user)
    lines = []
    for (thing, says, fix), names in users.items():
        needed_by = f" for {', '.join(names)}" if any(names) else ""
        lines.append(f"{thing}{needed_by}: {says}; {fix}")
    return lines


class Report(NamedTuple):
    """The result of the check of one config."""

    dataset: str
    command: str  # that runs the config
    findings: list[Finding]

    @property
    def is_ready(self) -> bool:
        """Whether all prerequisites are met."""
        return all(finding.fine for finding in self.findings)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    text = "YAML files under config/, or an experiment and a data set such as: split2 pascal"
    parser.add_argument("configs", nargs="*", help=text)
    command_line.add_method_options(parser)
    command_line.add_overrides(parser)
    parser.add_argument("--all", action="store_true", help="check every experiment, with the default encoders")


def run(options: argparse.Namespace) -> int:
    """Check the machine and the configs, print the findings and return the exit code; errors as ``read_config``."""
    if not (options.configs or options.all or options.model or options.net):
        _print_data_sets()
        return 0
    if options.all and options.configs:
        raise UserError(f"--all: checks every experiment; leave out --all, or {' '.join(options.configs)}")
    reports = _check_configs(_sources_of(options), options)
    print_reports(reports)
    ready = [report.is_ready for report in reports]
    can_run = any(ready) if options.all else all(ready)
    return 0 if can_run else EXIT_USER_ERROR


def _print_data_sets() -> None:
    """Print how to name a config, and the folder of each data set or the command that makes it."""
    print("name an experiment and a data set, such as: python prepare.py check split0 pascal --model bam")
    print("or name a config file; --all checks every experiment\n")
    for name in data_sets():
        data = read_data(data_file(name))
        place = data.root if Path(data.root).is_dir() else f"missing: {prepare_command(data)}"
        print(f"{name:<12} {place}")


def _sources_of(options: argparse.Namespace) -> list[Source]:
    """Return the configs of ``--all``, of an experiment and a data set, or of the files that are named."""
    if options.all:
        return experiments()
    words = options.configs
    names_files = any(Path(word).suffix for word in words)
    if not words or (len(words) == 2 and not names_files):  # as train.sh has them
        return [command_line.named(options, words)]
    return [command_line.named(options, [word]) for word in words]


def _check_configs(sources: list[Source], options: argparse.Namespace) -> list[Report]:
    """Return the reports on configs; with ``--all`` an error in a config is a finding, else it is raised."""
    needs = Needs()
    reports = []
    for source in sources:
        try:
            config = read_config(source, options.overrides)
            findings = needs.of(config)
            if not options.all:
                findings = [Finding("config", fine=True, says=files_of(source)), *findings]
            reports.append(Report(_data_set_of(source), _command(source, config, options.overrides), findings))
        except UserError as error:
            if not options.all:
                raise
            finding = Finding(f"config {source}", fine=False, says=str(error), fix="correct that line")
            reports.append(Report(_data_set_of(source), "", [finding]))
    return reports


def experiments() -> list[Source]:
    """Return the runs of every data set with all folds and methods, on their default encoders."""
    sources = list[Source]()
    for dataset in data_sets():
        data = read_data(data_file(dataset))
        has_base_classes = teach_base_learners(vars(data))
        for method in methods():
            tree = read_tree(method_file(method))
            model = models()[value_of(tree, "model.name")]
            if has_base_classes or not model.has_base_stage():
                names = [f"split{fold}" for fold in range(data.folds)]
                sources += [find_config(name, dataset, method) for name in names]
    return sources


def _data_set_of(source: Source) -> str:
    """Return the folder of ``config/`` that a config is of."""
    return source.parent.name if isinstance(source, Path) else source.dataset


def _command(source: Source, config: Config, overrides: list[str]) -> str:
    """Return the command that runs a config: by experiment and data set, or by its file."""
    action = "train" if class_of(config.model).learns else "test"
    settings = "".join(f" --set {shlex.quote(text)}" for text in overrides)
    selection = selection_of(source)
    if selection is not None:
        model = "" if selection.method == MAIN_METHOD else f"MODEL={selection.method} "
        net = f"NET={selection.net} " if selection.net else ""
        script = f"sh {action}.sh split{selection.fold} {selection.dataset} {gpu_count()}"
        return f"{model}{net}{script}{settings}"
    return f"python {action}.py {source}{settings}"


def print_reports(reports: list[Report]) -> None:
    """Print all findings, and for each data set the experiments that can be run and a command for each gap."""
    checked = dict.fromkeys(finding for report in reports for finding in report.findings)
    for finding in [*_describe_machine(), *checked]:
        details = f": {finding.says}" if finding.fine else ""  # of the others below, with the remedy
        print(f"{_state(finding):8}{finding.what}{details}")
    for dataset, group in groupby(reports, lambda report: report.dataset):
        _print_dataset(dataset, list(group))


def _describe_machine() -> list[Finding]:
    """Return Python, torch, GPUs and cores as findings that are met."""
    gpus = [torch.cuda.get_device_name(number) for number in range(gpu_count())]
    machine = {
        "Python": platform.python_version(),
        "torch": f"{torch.__version__}, torchvision {version('torchvision')}, CUDA {torch.version.cuda or 'none'}",
        "GPU": ", ".join(gpus) or "none; runs use the CPU: sh train.sh ... 0",
        "cores": f"{usable_cores()} usable",
    }
    return [Finding(what, fine=True, says=says) for what, says in machine.items()]


def _state(finding: Finding) -> str:
    """Return the first word of a finding's line."""
    if not finding.fine:
        return "MISSING"
    return "differs" if NOT_COMPARABLE in finding.says else "ok"


def _print_dataset(dataset: str, reports: list[Report]) -> None:
    """Print the experiments of a data set that can be run, and what is missing for the others."""
    ready = [report.command for report in reports if report.is_ready]
    print(f"{dataset}: {len(ready)} of {len(reports)} experiments can be run")
    for command in ready:
        print(f"  {command}")
    for line in lacking([finding for report in reports for finding in report.findings]):
        print(f"  missing: {line}")


class Needs:
    """Checks the prerequisites of configs; a prerequisite that several configs share is checked once."""

    def __init__(self) -> None:
        self.findings: dict[str, Finding] = {}  # by their requirement

    def of(self, config: Config, trains: bool = True) -> list[Finding]:
        """Return the findings on all prerequisites of a config, or of its test alone."""
        method = class_of(config.model)
        trains = trains and method.learns
        findings = self._check_data(config)
        if trains:
            findings += self._check_training_data(config)
        findings += self._check_text(config.data, method)
        findings += self._check_encoder(config, with_weights=trains or not method.learns)
        if trains:
            name = f"{method.title} on {config.model.backbone() or ''}, {config.data.name}, {config.data.shot}-shot"
            what = f"disk for checkpoints of {name} in {config.run.folder}"
            fix = "free some space, or --set run.folder=<DIR> on another disk"
            findings.append(self.check(what, _disk(config), fix))
        return findings

    def check(self, what: str, says: Iterator[str], fix: str) -> Finding:
        """Return the finding on a requirement: ``says`` yields details, and raises UserError if it is not met."""
        if what not in self.findings:
            try:
                self.findings[what] = Finding(what, fine=True, says="; ".join(says))
            except UserError as error:
                problem, _, _ = str(error).partition("; ")
                place, _, reason = problem.partition(": ")
                self.findings[what] = Finding(what, fine=False, says=reason if place in what else problem, fix=fix)
        return self.findings[what]

    def _check_data(self, config: Config) -> list[Finding]:
        """Return the findings on the photos and masks of a data set and, where they are met, on its lists."""
        data = config.data
        list_files = ", ".join(filter(None, (data.train_list, data.test_list)))
        files = self.check(f"data {data.root} ({list_files})", _data(data), prepare_command(data))
        if not files.fine:
            return [files]
        rule = f"{data.min_pixels} pixels, exclude_novel {str(data.exclude_novel).lower()}, {data.shot}-shot"
        own = _own_lists(config)
        what = f"lists {data.name} fold {data.fold} ({', '.join([rule, *own.values()])})"
        return [files, self.check(what, _lists(data, own), "change data.min_pixels, data.shot or the list")]

    def _check_training_data(self, config: Config) -> list[Finding]:
        """Return the findings on what a training needs beside its data set's files, if that is anything."""
        findings = []
        if problem := cannot_train(config):
            what = f"images to train {class_of(config.model).title} on"
            findings.append(Finding(what, fine=False, says=problem, fix="take another data set or method"))
        if config.meta_stage.validate_on not in (None, HELD_OUT):
            other = read_data(project_path(config.meta_stage.validate_on))
            what = f"data {other.root} for validations"
            findings.append(self.check(what, _data(other), prepare_command(other)))
        return findings

    def _check_text(self, data: DataSettings, method: type[FewShotModel]) -> list[Finding]:
        """Return the finding on the text vectors of a method that reads them, or on vectors that it would not read."""
        if method.reads_text:
            path = NAMES if data.text == NAMES else vectors_path(data)
            command = f"python prepare.py embeddings --dataset {data.name} --vectors"
            fix = f"{command} <GoogleNews-vectors-negative300.bin.gz> (or --set data.text=names)"
            return [self.check(f"vectors {path} for {data.name}", _vectors(data), fix)]
        if data.text != NO_TEXT:
            what = f"data.text = {data.text} for {method.title}"
            says = "this method reads no text vectors"
            return [Finding(what, fine=False, says=says, fix=f"set data.text: {NO_TEXT}")]
        return []

    def _check_encoder(self, config: Config, with_weights: bool) -> list[Finding]:
        """Return the finding on the weights of a method's encoder, or on the networks that it has in its place."""
        encoder = config.model.encoder
        backbone = config.model.backbone() or ""
        title = class_of(config.model).title
        if encoder is None:
            if not backbone:
                return []
            fix = "name their folders in model.weights"
            return [self.check(f"networks {backbone} for {title}", _networks(config), fix)]
        if encoder.weights is None or not with_weights:
            return []
        partial = ", partial" if encoder.partial else ""
        if encoder.weights in SOURCES:
            fix = "name a file in model.encoder.weights, or NET=lite0"
        else:
            fix = fix_of_missing(Path(encoder.weights), backbone)
        what = f"weights {encoder.weights} for {title} on {backbone}{partial}"
        return [self.check(what, _weights(config, encoder.weights), fix)]


def _data(data: DataSettings) -> Iterator[str]:
    """Each listed photo exists with a mask of its size and valid class ids, as many as published."""
    for part, list_file in (("train", data.train_list), ("test", data.test_list)):
        if list_file is None:
            continue
        index = load_index(data, part)
        missing = [path for path in index.images if not path.is_file()]
        if missing:
            raise UserError(f"{len(missing)} photos of {part} are missing, such as {missing[0]}")
        yield _count(part, len(index), whole(data.name, list_file))


def prepare_command(data: DataSettings) -> str:
    """Return the command that makes the folder of a data set of the project, or tells what it takes."""
    if data.name == "mini":
        return f"python prepare.py mini --out {data.root}"
    return f"python prepare.py {data.name} --out {data.root} --download, or with folders of your own: --help says which"


def _count(part: str, count: int, published_count: int | None) -> str:
    """Return the number of a part's images, and what follows if another is published (None or 0: unknown)."""
    if published_count in (None, 0, count):
        return f"{part}: {count}" + (", as published" if published_count else "")
    instead = "of" if count < published_count else "instead of"
    return f"{part}: {count} {instead} {published_count} photos: {NOT_COMPARABLE}"


def _own_lists(config: Config) -> dict[str, str]:
    """Return a user's own list files by part, such as ``train``."""
    files = {"train": config.meta_stage.list_file, "test": config.protocols[config.test.protocol].list_file}
    return {part: file for part, file in files.items() if file is not None and not is_published(file)}


def _lists(data: DataSettings, own: dict[str, str]) -> Iterator[str]:
    """Each class of a fold's lists has enough supports; lists made from the masks are as long as the published ones."""
    for part, make in MAKERS.items():
        if getattr(data, f"{part}_list") is not None:
            images = make(load_index(data, part, progress=False), Fold.of(data), data, own.get(part))
            check_shots(images, data)
            yield _count(part, len(images.queries), None if part in own else published(data, part))


def _vectors(data: DataSettings) -> Iterator[str]:
    vectors = class_vectors(data)
    rows, width = vectors.shape
    yield f"{rows} x {width}"
    if note := note_on_equal_rows(vectors, data.classes):
        yield note


def _weights(config: Config, source: str) -> Iterator[str]:
    """A model's encoder accepts its weights, which are loaded as a run does; or a run can download them."""
    backbone = config.model.backbone() or ""
    if source == TIMM:
        yield f"a run takes {backbone} from timm's cache or downloads it (network needed)"
    elif source in RELEASES:
        file = cached_file(weights_url(backbone, source))
        if file.is_file():
            check_cached(file)
        yield str(file) if file.is_file() else "a run will download them (network needed)"
    else:
        yield fill_encoder(config, build_model(config, text_width=1)).removeprefix("encoder: ")


def _networks(config: Config) -> Iterator[str]:
    """The networks that a method has in place of an encoder load from their folders, or a run fetches them."""
    folders = (config.model.backbone() or "").split(",")
    if all(Path(folder).is_dir() for folder in folders):
        build_model(config, text_width=0)
        yield "complete"
    elif importlib.util.find_spec("transformers") is None:
        raise UserError("the package transformers is absent: pip install 'transformers>=5'")
    else:
        yield "a run takes them from the hub's cache or downloads them (network needed)"


def _disk(config: Config) -> Iterator[str]:
    """A training's checkpoints fit on the disk of its run folder; existing ones count as free space."""
    need = stored_by(config, "meta").peak_bytes
    folders = [Run(config).folder("meta")]
    if config.base_stage is not None:
        base = stored_by(config, "base")
        need = max(base.peak_bytes, need + base.final_bytes)
        folders.append(Run(config).folder("base"))
    free = free_on_disk(config)
    written = checkpoint_bytes(folders)
    says = f"{free / 1e9:.2f} GB free, checkpoints take {need / 1e9:.2f}, {written / 1e9:.2f} of it exist"
    if free < need - written:
        raise UserError(says)
    yield says
