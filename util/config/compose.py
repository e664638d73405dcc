"""Which files make a config: one that is named, or those of a fold, a data set, a method and an encoder.

``sh train.sh split2 pascal 4`` with ``MODEL`` and ``NET`` lays over each other, later ones winning,

1. ``config/pascal/<method>.yaml``, or without it ``config/pascal/pascal.yaml`` and ``model/<method>.yaml``,
2. ``encoder/<net>.yaml``,
3. the run's own file, ``config/pascal/<name of the run>.yaml``, whose bases are in the place of 1,

then the fold. A file that is named by its path is a run's own file.
"""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from pathlib import Path

from model.encoders.variant import PREFIX as TIMM_PREFIX
from model.registry import methods
from util.config.folder import (
    LOCAL,
    MAIN_METHOD,
    TIMM,
    config_folder,
    data_file,
    data_sets,
    encoders,
    in_configs,
    method_file,
    method_names,
)
from util.config.parts import bases, is_encoder, merged, with_bases
from util.config.place import FOLDER, RUNS
from util.config.tree import (
    LISTED,
    NET,
    Leaf,
    Tree,
    find,
    merge,
    nested,
    override_tree,
    parse_file,
    value_of,
    with_ending,
)
from util.files.errors import UserError, check_known, nearest

USUAL_NET = "resnet50"
CHOICE = ("MODEL", "NET")  # of method and encoder, in the environment
PLAIN = "_plain"  # after the name of an encoder whose runs have the same own files
FOLD = re.compile(r"split(\d+)")  # an experiment
OF_FOLD = re.compile(r"(?:(.+)_)?split(\d+)(?:_(.+))?")  # a name of data set, fold, method and encoder
BASE_FOLDER, BACKBONE, FOLD_KEY = "run.base_folder", "model.encoder.backbone", "data.fold"
WITH_BRACES = (BASE_FOLDER, "model.encoder.weights")  # keys whose values may name others: {dataset}
BRACES = re.compile(r"\{[^/]*\}")
NAMES = "a YAML file, or an experiment and a data set such as: split2 pascal"  # of a config


@dataclass(frozen=True)
class Source:
    """The files and values that make a config, before the overrides of a command line."""

    words: str  # of a command line that stand for it
    name: str  # of its run, where the config names no other
    files: tuple[Path, ...]  # without their bases; later ones win
    values: Tree = field(default_factory=dict)  # that win over the files: the fold of an experiment
    own: str = ""  # the file of this run alone, all of whose values are meant

    def __str__(self) -> str:
        return self.words


def file_source(path: Path) -> Source:
    """Return the source of a config that is one file with its bases, and the file of the encoder that these name.

    A fold and an encoder in the name of a run's file count, wherever it lies, and where it is the base of another.
    """
    path = in_configs(path)
    name = _name_of(path)
    if name is not None and path.exists() and _names_run(name):
        source = _of_fold(name.fold, name.dataset, name.method, name.net)
        if source.own and path.samefile(source.own):
            return replace(source, words=str(path))
    return _of_file(path)


def _of_file(path: Path) -> Source:
    """Return the source of a file that is no run's own."""
    source = Source(str(path), path.stem, (path,), _fold_of(path), own=str(path))
    net = _net_of(path)
    if net is None or not _takes_encoder(merged([path])):
        return source
    encoder, values = _encoder(net, f"{path}: net")
    return replace(source, files=_around(encoder, path), values=merge(source.values, values))


@dataclass(frozen=True)
class Name:
    """The words in the name of a file of one fold, such as ``pascal_split2_ssp_lite0``; '' for those that it lacks."""

    dataset: str
    fold: int
    method: str
    net: str


def _name_of(file: Path) -> Name | None:
    """Return what a file's name says; None: it names no fold."""
    found = OF_FOLD.fullmatch(file.stem)
    if found is None:
        return None
    dataset, fold, rest = found.groups(default="")
    method = next((method for method in method_names() if f"{rest}_".startswith(f"{method}_")), MAIN_METHOD)
    net = rest.removeprefix(method).removeprefix("_").replace("timm-", TIMM_PREFIX).replace("--", "/")
    return Name(dataset, int(fold), method, net)


def _names_run(name: Name) -> bool:
    """Return whether a file's name is that of a run: its data set is known, and its encoder, or networks, are."""
    has_network = _is_encoder(name.net) or (bool(name.net) and not has_encoder(name.method))
    return name.dataset in data_sets() and has_network


def _around(encoder: Path, path: Path) -> tuple[Path, ...]:
    """Return the file of an encoder between the data set's and method's of a file and those that a person wrote."""
    files = with_bases([path])
    parts = {*data_sets(), *method_names(), *encoders()}
    end = max((i for i, file in enumerate(files[:-1], 1) if file.stem in parts), default=0)
    own = files[end:]
    below = [base for file in own for base in bases(file) if base in files[:end]]
    return (*below, encoder, *own)


def _fold_of(path: Path) -> Tree:
    """Return the fold that the name of a file or of its nearest base says, where no nearer one states it."""
    for file in reversed(with_bases([path])):
        if name := _name_of(file):
            _check_fold(file, name.fold)
            return nested(FOLD_KEY, Leaf(name.fold, str(file)))
        if find(parse_file(file), FOLD_KEY) is not None:
            break
    return {}


def _net_of(path: Path) -> str | None:
    """Return the encoder that a file or its nearest base names; a default counts where none has an encoder's file."""
    files = with_bases([path])
    is_default = {*data_sets(), *method_names()}
    end = max((i for i, file in enumerate(files, 1) if is_encoder(file)), default=0)
    for file in reversed(files[end:]):
        name = _name_of(file)
        stated = value_of(parse_file(file), NET)
        if stated is None and name is not None and _is_encoder(name.net):
            stated = name.net
        if stated is not None and not (end and file.stem in is_default):
            return stated
    return None


def files_of(source: Source) -> str:
    """Say which files make a config, without their bases."""
    return " + ".join(map(str, source.files))


def source_of(text: str) -> Source:
    """Return the config of a text: a file, or ``split2 pascal --model ssp``; raises as ``source_named`` does."""
    if Path(text).exists():
        return file_source(Path(text))
    from util import cli  # for such words alone

    parser = cli.Parser(prog="train.py", add_help=False)
    parser.add_argument("names", nargs="*")
    add_choice(parser)
    options = parser.parse_args(text.split())
    return source_named(options.names, options.model, options.net)


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose method and encoder of an experiment."""
    parser.add_argument("--model", help="method of an experiment, such as dcama; default symnet")
    parser.add_argument("--net", help="encoder of an experiment; default resnet50")


def source_named(names: list[str], method: str | None, net: str | None) -> Source:
    """Return the config that the words of a command line name: a file, or as ``find_config``; UserError: neither."""
    if len(names) not in (1, 2):
        raise UserError(f"'{' '.join(names)}': name {NAMES} --model ssp --net resnet101")
    dataset = names[1] if len(names) == 2 else None
    return find_config(names[0], dataset, method, net)


def find_config(
    experiment: str, dataset: str | None = None, method: str | None = None, net: str | None = None
) -> Source:
    """Return what makes the config of an experiment.

    Args:
        experiment: a fold, a path, or the name of a file of the data set's folder.
        dataset: a folder of ``config/``; None: ``experiment`` is a path.
        method: a file of ``config/model/``; default ``MAIN_METHOD``.
        net: an encoder, ``timm/<name>``, or the networks of a method that brings its own; default that of the recipe,
            else of the method's file, else of the data set's file (key ``net``), else ``USUAL_NET``.

    Raises:
        UserError: names the nearest data set, method, encoder or config that exists.
    """
    if dataset is not None:
        if FOLD.fullmatch(dataset) and experiment in data_sets():
            raise UserError(f"{experiment} {dataset}: the fold stands first; write {dataset} {experiment}")
        check_known(dataset, data_sets(), f"config/{dataset}: no such data set", LISTED)
    fold = FOLD.fullmatch(experiment)
    if dataset is not None and fold is not None:
        return _of_fold(int(fold[1]), dataset, method or MAIN_METHOD, net)
    file = Path(experiment) if dataset is None else _own_file(experiment, dataset)
    if method or net:
        raise UserError(
            f"{file}: names its method and encoder itself",
            fix="leave out --model, --net, MODEL and NET, or name a fold: split0",
        )
    return file_source(file)


def _own_file(experiment: str, dataset: str) -> Path:
    """Return the file that a command line names, as one of the data set's folder or by its path; UserError: no file."""
    name = with_ending(experiment)
    for path in (in_configs(LOCAL / dataset / name), in_configs(Path(name))):
        if path.is_file():
            return path
    files = [path.stem for path in data_file(dataset).parent.glob("*.yaml")]
    near = nearest(Path(experiment).stem, [*files, *(f"split{fold}" for fold in range(4))])
    raise UserError(
        f"{experiment}: no such config for {dataset}{near}",
        fix=f"name a fold, such as split0, with MODEL and NET, a file of config/{dataset}/, or the path of one; "
        f"{LISTED}",
    )


def _of_fold(fold: int, dataset: str, method: str, net: str | None) -> Source:
    """Return what makes the config of a fold, for a method with an encoder or with networks of its own."""
    check_known(method, method_names(), f"MODEL {method}: no such method", LISTED)
    recipe = in_configs(LOCAL / dataset / f"{method}.yaml")
    encoder: list[Path] = []
    values: Tree = {}
    in_name = ""
    if has_encoder(method):
        net = net or _first_net([recipe, method_file(method), data_file(dataset)]) or USUAL_NET
        in_name = net.replace("/", "-")
        file, values = _encoder(net, "NET")
        encoder = [file]
    elif net in encoders():
        net = None  # of a command with several methods
    elif net:
        values = nested("model.weights", Leaf(net.split(","), f"NET {net}"))
        in_name = net.replace("/", "--")
    words = f"split{fold} {dataset} --model {method}" + (f" --net {net}" if net else "")
    name = _run_name(fold, dataset, method, in_name)
    values = merge(values, nested(FOLD_KEY, Leaf(fold, words)))
    if own := _own_of_run(dataset, name):
        _check_fold(own, fold)
        files = _around(encoder[0], own) if encoder else (own,)
        return Source(words, name, files, values, str(own))
    files = (recipe,) if recipe.exists() else (data_file(dataset), method_file(method))
    return Source(words, name, (*files, *encoder), values)


def _run_name(fold: int, dataset: str, method: str, in_name: str) -> str:
    """Return the name of a fold's run, without the main method; ``in_name`` is that of encoder or networks, if any."""
    parts = (f"{dataset}_split{fold}", "" if method == MAIN_METHOD else method, in_name)
    return "_".join(filter(None, parts))


def _own_of_run(dataset: str, name: str) -> Path | None:
    """Return the own file of a run, which may name the main method.

    That of ``resnet50`` serves ``resnet50_plain`` where this has none.
    """
    spelled = re.sub(r"(split\d+)", rf"\1_{MAIN_METHOD}", name, count=1)
    names = dict.fromkeys((name, spelled, name.removesuffix(PLAIN)))
    files = (in_configs(LOCAL / dataset / f"{name}.yaml") for name in names)
    return next((file for file in files if file.exists()), None)


def _check_fold(own: Path, fold: int) -> None:
    """Refuse (UserError) the own file of a fold's run that states another fold."""
    stated = find(parse_file(own), FOLD_KEY)
    if isinstance(stated, Leaf) and stated.value != fold:
        raise UserError(
            f"{stated.where}: data.fold = {stated.value!r} in the file of split{fold}",
            fix=f"write {fold}, or give the file another name",
        )


def _first_net(files: Sequence[Path]) -> str | None:
    """Return the encoder that the first of some files names, those that are there; None: none does."""
    nets = (value_of(parse_file(file), NET) for file in files if file.exists())
    return next(filter(None, nets), None)


def _is_encoder(net: str) -> bool:
    return net in encoders() or net.startswith(TIMM_PREFIX)


def _encoder(net: str, place: str) -> tuple[Path, Tree]:
    """Return the file of an encoder, and values that win over all files.

    UserError: there is no such encoder; it names the place that names it.
    """
    if net.startswith(TIMM_PREFIX):
        return config_folder() / "encoder" / f"{TIMM}.yaml", nested(BACKBONE, Leaf(net, f"{place} {net}"))
    fix = f"one of timm is {TIMM_PREFIX}{net}; {LISTED}"
    check_known(net, encoders(), f"{place} {net}: no such encoder", fix)
    return config_folder() / "encoder" / f"{net}.yaml", {}


def has_encoder(method: str) -> bool:
    """Return whether the method of a file takes an encoder; so does one that is not known yet (``imports``)."""
    return _takes_encoder(merged([method_file(method)]))


def _takes_encoder(tree: Tree) -> bool:
    """Return this of a config's method; False: it names none."""
    name = value_of(tree, "model.name")
    cls = methods().get(str(name))
    return name is not None and (cls is None or any(setting.name == "encoder" for setting in fields(cls.Settings)))


def read_tree(source: Source) -> Tree:
    """Return the merged content of a config's files, with its values.

    UserError: missing file, broken YAML, or a key written twice; it names the place.
    """
    return merge(merged(source.files), source.values)


def completed(tree: Tree, overrides: list[str]) -> Tree:
    """Return a tree after overrides, with values for the names in braces by which paths refer to other settings."""
    tree = reduce(merge, map(override_tree, overrides), tree)
    names = {
        "runs": value_of(tree, FOLDER) or RUNS,
        "dataset": value_of(tree, "data.name"),
        "fold": value_of(tree, FOLD_KEY),
        "encoder": _encoder_of(tree),
    }
    for key in WITH_BRACES:
        leaf = find(tree, key)
        if isinstance(leaf, Leaf) and "{" in str(leaf.value):
            path = str(leaf.value)
            for name, value in names.items():
                path = path.replace(f"{{{name}}}", str(value))
            if unknown := BRACES.search(path):
                known = ", ".join(f"{{{name}}}" for name in names)
                raise UserError(f"{leaf.where}: {key}: {unknown[0]} is no name in braces; known: {known}")
            tree = merge(tree, nested(key, Leaf(path, leaf.where)))
    return tree


def _encoder_of(tree: Tree) -> str | None:
    """Return the name of a config's encoder, as names of runs have it: of its file, or of its network."""
    backbone = find(tree, BACKBONE)
    if not isinstance(backbone, Leaf):
        return None
    file = Path(backbone.where.rpartition(":")[0])
    return file.stem if file.parent.name == "encoder" else str(backbone.value).replace("/", "-")
