"""The files that make a config: those that it names as ``base``, or those that a command line stands for.

``sh train.sh split2 pascal 4`` with ``MODEL`` and ``NET`` takes

1. ``config/pascal/<method>_<net>.yaml``, where it is there;
2. else ``config/pascal/<method>.yaml``, with that encoder in place of the one that it names;
3. else ``config/pascal/pascal.yaml``, ``model/<method>.yaml`` and the encoder.

The encoder is ``encoder/<net>.yaml`` with ``model/<method>_<net>.yaml`` and, over all, ``config/pascal/<net>.yaml``,
where they are there; those of a network of timm, ``timm/<name>``, are called ``timm``. Later files win, and the fold
lies on top. A method or an encoder whose file names another one as ``base`` uses that one's files, its own over them.

The run is called ``pascal_split2[_<method>]_<net>``. A path of this name that is no file stands for these files, so
that a run can be tested, resumed and inherited from by its name.

A word that is no fold is a file: ``sh train.sh mine pascal 4`` takes ``config/pascal/mine.yaml``, whose run is called
``mine``. A file has a base stage of its own: it does not inherit ``run.base_folder``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from util.config.tree import (
    Layer,
    Leaf,
    Tree,
    bases_of,
    fill,
    find,
    merge,
    merged,
    nested,
    override_tree,
    parse_file,
    value_of,
    with_ending,
)
from util.errors import UserError, nearest
from util.files import REPOSITORY, files_below, link

OWN = Path("config")  # in the working folder
MAIN_METHOD = "symnet"  # not part of its runs' names
USUAL_NET = "resnet50"
TIMM = "timm"  # the name of the files for all networks of timm
OF_TIMM = "timm/"  # before timm's name of a network
SLASH = "--"  # in names of runs, for "/" in the names of a method's own networks
LONGEST_NAME = 240  # bytes of a name that file systems take
FOLD = re.compile(r"split\d+")  # an experiment
BASE_FOLDER = "run.base_folder"
WITH_WORDS = (BASE_FOLDER, "model.encoder.weights")  # keys whose values may hold words in braces


def config_folder() -> Path:
    """Return the folder of all configs: that of the working folder if it has one, else the project's."""
    return OWN if (OWN / "protocols.yaml").exists() else REPOSITORY / "config"


CONFIG = config_folder().resolve()


def begin_own_configs() -> None:
    """Let the working folder have a folder of all configs: links to those of the project, in real folders.

    A clone has it already; where the project is an installed package, a data set of one's own begins it.
    """
    project = config_folder()
    if project != OWN:
        for path in files_below(project):
            link(path, OWN / path.relative_to(project))


@dataclass(frozen=True)
class Selection:
    """The names on a command line: a data set, a fold, a method and an encoder."""

    folder: Path  # of the data set: config/<data set>
    fold: int
    method: str
    net: str | None  # as ``NET`` names it; None: the default networks of a method that brings its own

    @property
    def path(self) -> Path:
        """The path that has the run's name, whether it is a file or not."""
        words = run_words(self.folder.parent, self.method, self.net)
        return self.folder / f"{self.folder.name}_split{self.fold}_{words}.yaml"

    def layers(self, done: set[Path]) -> list[Layer]:
        """Return its files, later ones winning, and over them what the command line says itself."""
        root = self.folder.parent
        net = str(self.net)
        brings_networks = has_networks(root, self.method)
        encoder = None if brings_networks else file_of_net(net)
        files = _files(self.folder, self.method, encoder)
        layers = [layer for path in files.paths for layer in _layers(path, done, files.encoder)]
        layers.append({"data": {"fold": Leaf(self.fold, str(self.path))}})
        if encoder == TIMM:
            layers.append(nested("model.encoder.backbone", Leaf(net, f"NET {net}")))
        if brings_networks and self.net is not None:
            layers.append(nested("model.weights", Leaf(net.split(","), f"NET {net}")))
        return layers


@dataclass(frozen=True)
class Files:
    """The files of a selection, later ones winning."""

    paths: list[Path]
    encoder: list[Path] | None  # those in place of the encoder that a recipe names; None: it keeps its own


def _files(folder: Path, method: str, encoder: str | None) -> Files:
    """Return the files of a method and an encoder on the data set of a folder, as the head of this module states."""
    of_both = folder / f"{method}_{encoder}.yaml"
    of_method = folder / f"{method}.yaml"
    if of_both.exists():
        return Files([of_both], None)
    of_encoder = _encoder_files(folder, method, encoder)
    of_data_set = [path for path in [folder / f"{encoder}.yaml"] if path.exists()]
    if encoder is not None and (parent := _parent(folder.parent / "encoder", encoder)):
        inherited = _files(folder, method, parent)
        return Files([*inherited.paths, *of_encoder, *of_data_set], inherited.encoder)
    if of_method.exists():
        return Files([of_method, *of_data_set], of_encoder)
    model = folder.parent / "model" / f"{method}.yaml"
    if parent := _parent(folder.parent / "model", method):
        inherited = _files(folder, parent, encoder)
        return Files([*inherited.paths, model], inherited.encoder)
    start = [folder.parent / "default.yaml", folder / f"{folder.name}.yaml", model]
    of_every_method = [path for path in [folder / "every_method.yaml"] if path.exists()]
    return Files([*start, *of_encoder, *of_every_method, *of_data_set], of_encoder)


def _encoder_files(folder: Path, method: str, encoder: str | None) -> list[Path]:
    """Return the encoder's file, and those of the method, and of those that it inherits from, on this encoder."""
    if encoder is None:
        return []
    root = folder.parent
    files = [root / "encoder" / f"{encoder}.yaml"]
    for name in _lineage(root / "model", method):
        path = root / "model" / f"{name}_{encoder}.yaml"
        if path.exists():
            files.append(path)
    return files


def _parent(folder: Path, name: str) -> str | None:
    """Return the name of the method, or encoder, that the file of another one in the same folder inherits from."""
    bases = [Path(base) for base in bases_of(folder / f"{name}.yaml")]
    return next((base.stem for base in bases if (folder / base).parent == folder), None)


def _lineage(folder: Path, name: str) -> list[str]:
    """Return a method's, or an encoder's, name after those of all that its file inherits from."""
    parent = _parent(folder, name)
    return [*(_lineage(folder, parent) if parent else []), name]


def in_names(net: str) -> str:
    """Return an encoder as names of runs have it: ``timm-<name>`` for ``timm/<name>``."""
    return net.replace("/", "-")


def file_of_net(net: str) -> str:
    """Return the name of an encoder's file, which is one for all networks of timm."""
    return TIMM if net.startswith(OF_TIMM) else net


def data_sets(root: Path) -> list[Path]:
    """Return the folders of all data sets."""
    return sorted(path.parent for path in root.glob("*/*.yaml") if path.stem == path.parent.name)


def methods(root: Path) -> list[str]:
    """Return the names of all methods; ``<method>_<encoder>.yaml`` is no method."""
    ends = tuple(f"_{path.stem}" for path in (root / "encoder").glob("*.yaml"))
    return sorted(path.stem for path in (root / "model").glob("*.yaml") if not path.stem.endswith(ends))


def encoders(root: Path) -> list[str]:
    """Return the names of all encoders but timm's."""
    return sorted(path.stem for path in (root / "encoder").glob("*.yaml") if path.stem != TIMM)


def has_networks(root: Path, method: str) -> bool:
    """Return whether a method brings its own networks, which ``NET`` names, in place of an encoder."""
    files = [root / "model" / f"{name}.yaml" for name in _lineage(root / "model", method)]
    return value_of(merged(files), "model.weights") is not None


def is_net(root: Path, method: str, net: str | None) -> bool:
    """Return whether ``NET`` may have this value for a method."""
    if has_networks(root, method):
        return net != ""
    return net is not None and (net in encoders(root) or net.startswith(OF_TIMM))


def run_words(root: Path, method: str, net: str | None) -> str:
    """Return method and encoder as names of runs have them: what a method adds to another one's name comes last."""
    head, end = _head_and_end(method, methods(root))
    if net is not None and has_networks(root, method):
        net = net.replace("/", SLASH)
    head = "" if head == MAIN_METHOD and net else head
    return "_".join(filter(None, (head, in_names(net or ""), end)))


def _head_and_end(method: str, known: list[str]) -> tuple[str, str]:
    """Return the method whose name a method's name continues, and the rest: of ``symnet_plus`` symnet and plus."""
    head = next((name for name in known if method.startswith(f"{name}_")), method)
    return head, method[len(head) + 1 :]


def selection_of(path: Path) -> Selection | None:
    """Return what the name of a run stands for; None if it is no such name."""
    folder = path.parent
    root = folder.parent
    start = f"{folder.name}_split"
    fold, _, words = path.stem.removeprefix(start).partition("_")
    is_run_name = path.name.startswith(start) and fold.isdecimal()
    if not is_run_name or not (folder / f"{folder.name}.yaml").exists():
        return None
    for method in _methods_in(words, root):
        for net in _nets_in(words, root, method):
            selection = Selection(folder, int(fold), method, net)
            if is_net(root, method, net) and selection.path.name == path.name:
                return selection
    return None


def _methods_in(words: str, root: Path) -> Iterator[str]:
    """Yield the methods, longer names first, that the words of a run's name may be of; their files are not read."""
    known = methods(root)
    for method in sorted(known, key=len, reverse=True):
        head, end = _head_and_end(method, known)
        may_begin = head == MAIN_METHOD or f"{words}_".startswith(f"{head}_")
        may_end = f"_{words}".endswith(f"_{end}" if end else "")
        if may_begin and may_end:
            yield method


def _nets_in(words: str, root: Path, method: str) -> Iterator[str | None]:
    """Yield what may be the encoder in the words of a run's name, if it is one of this method."""
    head, end = _head_and_end(method, methods(root))
    word = words.removeprefix(f"{head}_").removesuffix(f"_{end}" if end else "")
    timm_prefix = in_names(OF_TIMM)
    yield None
    if has_networks(root, method):
        yield word.replace(SLASH, "/")
    elif word.startswith(timm_prefix):
        yield OF_TIMM + word.removeprefix(timm_prefix)
    else:
        yield word


def file_of(word: str, dataset: str, root: Path | None = None) -> Path | None:
    """Return the file that a word of a command line names; None: it names none that is there.

    Args:
        word: a path, or the name of a file of the data set's folder.
        dataset: a folder of ``config/``.
        root: see ``config_path``.

    Raises:
        UserError: the file is of another data set.
    """
    folder = (root or CONFIG) / dataset
    name = with_ending(word)
    paths = [Path(name)] if "/" in name else [folder / name, Path(name)]
    path = next((path for path in paths if path.is_file() or selection_of(path) is not None), None)
    if path is None:
        return None
    own, named = (value_of(read_tree(file), "data.name") for file in (path, folder / f"{dataset}.yaml"))
    if own != named:
        raise UserError(f"{_shown(path)}: is of data set {own}; name it in place of {dataset}")
    return _shown(path)


def config_path(
    experiment: str, dataset: str, method: str | None = None, net: str | None = None, root: Path | None = None
) -> Path:
    """Return the path of an experiment: a file, or a path with the name of the run of a fold such as ``split0``.

    Args:
        experiment: a fold, a path, or the name of a file of the data set's folder.
        dataset: a folder of ``config/``.
        method: a file of ``config/model/``; default ``MAIN_METHOD``.
        net: an encoder, ``timm/<name>``, or the networks of a method that brings its own; default that of the method's
            file, else of the data set's file (key ``net``), else ``USUAL_NET``.
        root: the folder of the configs; default this project's ``config``, and the path is then relative to it.

    Raises:
        UserError: names the nearest data set, method, encoder or config that exists.
    """
    root = root or CONFIG
    folder = root / dataset
    known = [path.name for path in data_sets(root)]
    if dataset not in known:
        raise UserError(f"config/{dataset}: no such data set{nearest(dataset, known)}")
    file = file_of(experiment, dataset, root)
    if file is not None:
        if method or net:
            raise UserError(f"{file}: names its method and encoder itself; leave out MODEL and NET (unset MODEL NET)")
        return file
    if not FOLD.fullmatch(experiment):
        known = [*(path.stem for path in folder.glob("*.yaml")), *(f"split{fold}" for fold in range(4))]
        near = nearest(Path(experiment).stem, known)
        fix = f"name a fold, such as split0, a file of config/{dataset}/, or the path of one"
        raise UserError(f"{experiment}: no such config for {dataset}{near}; {fix}")
    method = method or MAIN_METHOD
    if method not in methods(root):
        raise UserError(f"MODEL {method}: no such method{nearest(method, methods(root))}")
    if has_networks(root, method):
        net = None if net in encoders(root) else net  # one for the other methods of a command
    else:
        net = net or _default_net(folder, method)
    if not is_net(root, method, net):
        hint = nearest(str(net), encoders(root))
        raise UserError(f"NET {net}: no such encoder{hint}; one of timm is {OF_TIMM}{net}")
    return _shown(_path_of_run(folder, experiment, method, net))


def _path_of_run(folder: Path, experiment: str, method: str, net: str | None) -> Path:
    """Return the path of a fold's run; UserError: its name is too long, or is misread."""
    path = folder / f"{folder.name}_{experiment}_{run_words(folder.parent, method, net)}.yaml"
    if len(path.name) > LONGEST_NAME:
        raise UserError(f"NET {net}: too long for the name of a run; give a link, or --set model.weights=[...]")
    if path.exists():
        return path
    selection = selection_of(path)
    if selection is None or (selection.method, selection.net) != (method, net):
        raise UserError(f"NET {net}: '{SLASH}' and the end of a variant have a meaning in names; rename the folder")
    return path


def _shown(path: Path) -> Path:
    """Return the path as messages show it: relative to the working folder, if all configs are there."""
    folder = CONFIG.parent
    return path.relative_to(folder) if folder == Path.cwd() and path.is_relative_to(folder) else path


def _default_net(folder: Path, method: str) -> str:
    """Return the encoder of a method on a data set where none is named."""
    files = [folder.parent / "model" / f"{name}.yaml" for name in _lineage(folder.parent / "model", method)]
    for path in (*reversed(files), folder / f"{folder.name}.yaml"):
        if net := value_of(parse_file(path), "net"):
            return str(net)
    return USUAL_NET


def read_tree(path: Path) -> Tree:
    """Return the merged content of a config: of a file with its bases, or of those that a run's name stands for.

    A file's base stage is its own, unless the file itself says otherwise. UserError: missing file, broken YAML, or a
    key written twice; it names the place.
    """
    tree = merged(_layers(path, set(), None))
    leaf = find(tree, BASE_FOLDER)
    if path.exists() and isinstance(leaf, Leaf) and leaf.where.rpartition(":")[0] != str(path):
        tree["run"] = {key: value for key, value in tree["run"].items() if key != "base_folder"}
    return tree


def _layers(path: Path, done: set[Path], encoder: list[Path] | None) -> list[Layer]:
    """Return the files of a config, later ones winning, each in the first of its places.

    Args:
        path: a file, whose bases come before it, or the name of a run.
        done: files that are part of the config already.
        encoder: files in place of an encoder that the file or its bases name; None: it keeps its own.
    """
    if path.resolve() in done:
        return []
    done.add(path.resolve())
    if not path.exists() and (selection := selection_of(path)) is not None:
        return selection.layers(done)
    layers = list[Layer]()
    for base in bases_of(path):
        file = path.parent / base
        is_replaced = encoder is not None and _is_of_encoder(file)
        for part in (encoder or []) if is_replaced else [file]:
            layers += _layers(part, done, encoder)
    return [*layers, path]


def encoder_of(tree: Tree) -> str | None:
    """Return the name of a config's encoder, as names of runs have it; None if it names none."""
    backbone = find(tree, "model.encoder.backbone")
    if not isinstance(backbone, Leaf):
        return None
    file = Path(backbone.where.rpartition(":")[0])
    has_name = file.parent.name == "encoder" and file.stem != TIMM
    return file.stem if has_name else in_names(str(backbone.value))


def completed(tree: Tree, overrides: list[str]) -> Tree:
    """Return a tree after overrides, with values for the words in braces by which paths refer to other settings."""
    tree = reduce(merge, map(override_tree, overrides), tree)
    words = {
        "dataset": value_of(tree, "data.name"),
        "fold": value_of(tree, "data.fold"),
        "encoder": encoder_of(tree),
    }
    for key in WITH_WORDS:
        tree = fill(tree, key, words)
    return tree


def _is_of_encoder(path: Path) -> bool:
    """Return whether a file says which encoder a run has: one of ``encoder/``, or ``model/<method>_<encoder>.yaml``."""
    folder = path.resolve().parent
    return folder.name == "encoder" or (folder.name == "model" and path.stem not in methods(folder.parent))
