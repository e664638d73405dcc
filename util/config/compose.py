"""Which files make a config: one that is named, or those of a fold, a data set, a method and an encoder.

``sh train.sh split2 pascal 4`` with ``MODEL`` and ``NET`` takes the first of

1. ``config/pascal/pascal_split2_<net>.yaml``, for Sym-Net alone,
2. ``config/pascal/<method>.yaml``, with ``encoder/<net>.yaml`` on top,
3. ``config/pascal/pascal.yaml``, ``model/<method>.yaml`` and ``encoder/<net>.yaml``, later ones winning.

The first states its fold and encoder itself, as its name says them; else the fold comes last. A file names
others as ``base``; its own values win. Values for one encoder alone stand under ``encoders: {<net>: ...}`` of a file,
those for one method under ``methods: {<method>: ...}``, which may have ``encoders`` too: they are laid over that file,
or over the encoder's or method's where this comes later.
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cached_property, reduce
from pathlib import Path

from model.registry import models
from util.config.folder import (
    MAIN_METHOD,
    OWN,
    TIMM,
    config_folder,
    data_file,
    data_sets,
    encoders,
    in_configs,
    method_file,
    methods,
)
from util.config.parts import merged
from util.config.tree import (
    LISTED,
    Leaf,
    Tree,
    fill,
    find,
    merge,
    nested,
    override_tree,
    parse_file,
    place_of,
    value_of,
    with_ending,
)
from util.files.errors import UserError, nearest
from util.files.launcher import is_first_of_machine

USUAL_NET = "resnet50"
TIMM_PREFIX = "timm/"  # before timm's name of a network
CHOICE = ("MODEL", "NET")  # of method and encoder, in the environment
LONGEST_NAME = 240  # bytes of a name that file systems take
FOLD = re.compile(r"split(\d+)")  # an experiment
BASE_FOLDER = "run.base_folder"
WITH_BRACES = (BASE_FOLDER, "model.encoder.weights")  # keys whose values may name others: {dataset}
NAMES = "a YAML file, or an experiment and a data set such as: split2 pascal"  # of a config


@dataclass(frozen=True)
class Selection:
    """The names on a command line: a data set, a fold, a method and an encoder."""

    dataset: str  # the name of a folder of configs
    fold: int
    method: str
    net: str | None  # as ``NET`` names it; None: a method without encoder, with its default networks if it has some

    def __str__(self) -> str:
        """Return the words of a command line that stand for it."""
        net = "" if self.net is None else f" --net {self.net}"
        return f"split{self.fold} {self.dataset} --model {self.method}{net}"

    @property
    def name(self) -> str:
        """The name of its run: ``pascal_split2_ssp_resnet50``, without the method for ``MAIN_METHOD``."""
        method = "" if self.method == MAIN_METHOD else self.method
        net = self.net or ""
        net = in_names(net) if self.encoder else net.replace("/", "--")
        return "_".join(filter(None, (f"{self.dataset}_split{self.fold}", method, net)))

    @cached_property
    def encoder(self) -> str | None:
        """The name of the encoder's file; None: the method has none of this project's."""
        if self.net is None or not has_encoder(self.method):
            return None
        return TIMM if self.net.startswith(TIMM_PREFIX) else self.net

    def file(self, name: str) -> Path:
        """Return a file of its data set, in the working folder or the project, whether it is there or not."""
        return in_configs(OWN / self.dataset / f"{name}.yaml")

    @property
    def files(self) -> list[Path]:
        """Its files, by the rules 2 and 3."""
        encoder = [config_folder() / "encoder" / f"{self.encoder}.yaml"] if self.encoder else []
        recipe = self.file(self.method)
        if recipe.exists():
            return [recipe, *encoder]
        return [data_file(self.dataset), method_file(self.method), *encoder]

    @property
    def own_values(self) -> Tree:
        """The values beside its files: the fold, and networks that have no file of their own."""
        values: Tree = {"data": {"fold": Leaf(self.fold, str(self))}}
        place = f"NET {self.net}"
        if self.encoder == TIMM:
            values = merge(values, nested("model.encoder.backbone", Leaf(self.net, place)))
        elif self.encoder is None and self.net is not None:
            values = merge(values, nested("model.weights", Leaf(self.net.split(","), place)))
        return values


Source = Path | Selection  # of a config


def files_of(source: Source) -> str:
    """Say which files make a config, without their bases."""
    files = source.files if isinstance(source, Selection) else [source]
    return " + ".join(map(str, files))


def name_of(source: Source) -> str:
    """Return the name of a config's run, where the config names no other."""
    return source.name if isinstance(source, Selection) else source.stem


def source_named(names: Sequence[str], method: str | None, net: str | None) -> Source:
    """Return the config that names stand for: a file, or an experiment and a data set, with a method and an encoder.

    UserError: others; a method or an encoder beside a file, but for those of the environment.
    """
    if len(names) == 2:
        return find_config(names[0], names[1], method, net)
    if len(names) == 1:
        return _alone(Path(names[0]), method, net)
    raise UserError(f"'{' '.join(names)}': name {NAMES}")


def _alone(file: Path, method: str | None, net: str | None) -> Path:
    """Return a file that names its method and encoder itself; a note says that those of the environment do nothing.

    UserError: others are named beside it.
    """
    named = {name: value for name, value in zip(CHOICE, (method, net), strict=True) if value}
    for name, value in named.items():
        if value != os.environ.get(name):
            option = f"--{name.lower()} {value}"
            raise UserError(f"{file}: names its method and encoder itself; leave out {option}, or name a fold: split0")
    if named and is_first_of_machine():
        unused = " ".join(f"{name}={value}" for name, value in named.items())
        note = f"note: {file}: names its method and encoder itself; {unused} of the environment has no effect here"
        print(note, file=sys.stderr, flush=True)
    return file


def source_of(text: str) -> Source:
    """Return the config that a text names: a file, or ``split2 pascal --model ssp``; errors as ``source_named``."""
    if Path(text).exists():
        return Path(text)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("names", nargs="*")
    add_choice(parser)
    with suppress(argparse.ArgumentError):
        options, unknown = parser.parse_known_args(text.split())
        if not unknown:
            return source_named(options.names, options.model, options.net)
    raise UserError(f"'{text}': name {NAMES} --model ssp --net resnet101")


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose method and encoder of an experiment."""
    parser.add_argument("--model", help="method of an experiment, such as dcama; default symnet")
    parser.add_argument("--net", help="encoder of an experiment; default resnet50")


def in_names(net: str) -> str:
    """Return an encoder as names of runs have it: ``timm-<name>`` for ``timm/<name>``."""
    return net.replace("/", "-")


def has_encoder(method: str) -> bool:
    """Return whether the settings of a method's file have an encoder, which ``NET`` names; true if there is no such."""
    return "encoder" in _settings_of(method, default="encoder")


def has_networks(method: str) -> bool:
    """Return whether a method brings its own networks, which ``NET`` names, in place of an encoder."""
    return "weights" in _settings_of(method)


def _settings_of(method: str, default: str = "") -> set[str]:
    """Return the names of the settings that the method of a file has; ``default`` if none has its ``model.name``."""
    cls = models().get(str(value_of(read_tree(method_file(method)), "model.name")))
    return {default} if cls is None else {field.name for field in fields(cls.Settings)}


def file_of(named: str, dataset: str) -> Path | None:
    """Return the file that a command line names, by its path or as one of the data set's folder; None: no file.

    UserError: the file is of another data set.
    """
    name = with_ending(named)
    paths = [in_configs(Path(name))]
    if "/" not in name:  # the project's folder may lie elsewhere: in the installed package
        paths = [OWN / dataset / name, config_folder() / dataset / name, Path(name)]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return None
    own, wanted = (value_of(read_tree(file), "data.name") for file in (path, data_file(dataset)))
    if own is None:
        raise UserError(
            f"{path}: has no data.name, so it is only a part of other configs; name one that has it as its base"
        )
    if own != wanted:
        raise UserError(f"{path}: belongs to data set {own}; write {own} instead of {dataset}")
    return path


def find_config(experiment: str, dataset: str, method: str | None = None, net: str | None = None) -> Source:
    """Return where the config of an experiment comes from: a file, or the files of a fold such as ``split0``.

    The former is the file of a fold for ``MAIN_METHOD``.

    Args:
        experiment: a fold, a path, or the name of a file of the data set's folder.
        dataset: a folder of ``config/``.
        method: a file of ``config/model/``; default ``MAIN_METHOD``.
        net: an encoder, ``timm/<name>``, or the networks of a method that brings its own; default that of the recipe,
            else of the method's file, else of the data set's file (key ``net``), else ``USUAL_NET``.

    Raises:
        UserError: names the nearest data set, method, encoder or config that exists.
    """
    known = data_sets()
    if dataset not in known:
        raise UserError(f"config/{dataset}: no such data set{nearest(dataset, known)}; {LISTED}")
    file = file_of(experiment, dataset)
    if file is not None:
        return _alone(file, method, net)
    fold = FOLD.fullmatch(experiment)
    if fold is None:
        files = (path.stem for path in data_file(dataset).parent.glob("*.yaml"))
        near = nearest(Path(experiment).stem, [*files, *(f"split{fold}" for fold in range(4))])
        fix = f"name a fold, such as split0, with MODEL and NET, a file of config/{dataset}/, or the path of one"
        raise UserError(f"{experiment}: no such config for {dataset}{near}; {fix}; {LISTED}")
    method = method or MAIN_METHOD
    if method not in methods():
        raise UserError(f"MODEL {method}: no such method{nearest(method, methods())}; {LISTED}")
    selection = _checked(Selection(dataset, int(fold[1]), method, _chosen_net(dataset, method, net)))
    own = selection.file(selection.name)
    return own if own.is_file() and fold_of(own) == selection else selection


def _chosen_net(dataset: str, method: str, net: str | None) -> str | None:
    """Return what ``NET`` means for a method on a data set, the default where it is not set."""
    if not has_encoder(method):
        is_of_others = net in encoders()  # of a command with several methods
        if net is None or is_of_others:
            return None
        if not has_networks(method):
            raise UserError(f"NET {net}: {method} has no encoder; leave out NET")
        return net
    if net is not None:
        return net
    recipe = config_folder() / dataset / f"{method}.yaml"
    files = [path for path in (recipe, method_file(method), data_file(dataset)) if path.exists()]
    defaults = (value_of(parse_file(path), "net") for path in files)
    return next((str(default) for default in defaults if default), USUAL_NET)


def _checked(selection: Selection) -> Selection:
    """Return a selection; UserError: its encoder is none, or the name of its run too long."""
    net = selection.net
    is_encoder = net in encoders() or str(net).startswith(TIMM_PREFIX)
    if net == "" or (selection.encoder and not is_encoder):
        near = nearest(str(net), encoders())
        raise UserError(f"NET {net}: no such encoder{near}; one of timm is {TIMM_PREFIX}{net}; {LISTED}")
    if len(selection.name) > LONGEST_NAME:
        raise UserError(f"NET {net}: too long for a run's name; name a link to it, or --set model.weights=[...]")
    return selection


def read_tree(source: Source) -> Tree:
    """Return the merged content of a config: of a file with its bases, or of the files of a selection.

    A file's base stage is its own, unless the file itself says otherwise. UserError: missing file, broken YAML, a key
    written twice, or a file that has the name of another fold; it names the place.
    """
    if isinstance(source, Selection):
        return merge(merged(source.files), source.own_values)
    tree = merged([source])
    fold = fold_of(source)
    if fold is not None:
        _check_name(source, tree, fold)
    leaf = find(tree, BASE_FOLDER)
    if isinstance(leaf, Leaf) and leaf.where.rpartition(":")[0] != str(source):
        tree["run"] = {key: value for key, value in tree["run"].items() if key != "base_folder"}
    return tree


def fold_of(file: Path) -> Selection | None:
    """Return the fold that a file of a data set has the name of, ``pascal_split2_<net>``; None: another name."""
    dataset = file.absolute().parent.name
    parts = re.fullmatch(rf"{re.escape(dataset)}_{FOLD.pattern}_(.+)", file.stem)
    if parts is None or parts[2] not in encoders():
        return None
    return Selection(dataset, int(parts[1]), MAIN_METHOD, parts[2])


def _check_name(path: Path, tree: Tree, fold: Selection) -> None:
    """Refuse (UserError) a file that has the name of a fold, and another data set, fold, method or encoder."""
    backbone = "model.encoder.backbone"
    named = {"data.name": fold.dataset, "data.fold": fold.fold, "model.name": fold.method, backbone: fold.net}
    for key, wanted in named.items():
        given = encoder_of(tree) if key == backbone else value_of(tree, key)
        if given != wanted:
            content = f"its content {given} ({place_of(tree, key) or 'by default'})"
            raise UserError(
                f"{path}: its name says {key} = {wanted}, {content}: set it in this file, or rename the file"
            )


def encoder_of(tree: Tree) -> str | None:
    """Return the name of a config's encoder, as names of runs have it; None if it names none."""
    backbone = find(tree, "model.encoder.backbone")
    if not isinstance(backbone, Leaf):
        return None
    file = Path(backbone.where.rpartition(":")[0])
    has_name = file.parent.name == "encoder" and file.stem != TIMM
    return file.stem if has_name else in_names(str(backbone.value))


def completed(tree: Tree, overrides: list[str]) -> Tree:
    """Return a tree after overrides, with values for the names in braces by which paths refer to other settings."""
    tree = reduce(merge, map(override_tree, overrides), tree)
    values = {
        "dataset": value_of(tree, "data.name"),
        "fold": value_of(tree, "data.fold"),
        "encoder": encoder_of(tree),
    }
    for key in WITH_BRACES:
        tree = fill(tree, key, values)
    return tree
