"""Which files make a config: one that is named, or those of a fold, a data set, a method and an encoder.

The head of ``util/config/parts.py``, which lays them over each other, lists them in their order.
"""

import re
import shlex
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

from util.config.folder import (
    LOCAL,
    MAIN_METHOD,
    data_file,
    data_sets,
    encoders,
    in_configs,
    method_file,
    method_names,
)
from util.config.parts import BACKBONE, FOLD_KEY, NETWORKS, encoder_file, encoder_of, has_encoder, merged
from util.config.place import FOLDER, RUNS
from util.config.run_name import FOLD, run_name, short_and_long
from util.config.tree import (
    LISTED,
    Leaf,
    Tree,
    find,
    merge,
    nested,
    override_tree,
    parse_file,
    places,
    value_of,
    with_ending,
)
from util.files.errors import UserError, check_known, nearest

CHOICE = ("MODEL", "NET")  # of method and encoder, in the environment
PLAIN = "_plain"  # after the name of an encoder whose runs have the same files
WEIGHTS, PRETRAINING = "model.encoder.weights", "model.encoder.pretraining"
BRACES = re.compile(r"\{([^/{}]*)\}")


@dataclass(frozen=True)
class Source:
    """The files and values that make a config, before the overrides of a command line."""

    words: str  # of a command line that stand for it
    name: str  # of its run, where the config names no other
    files: tuple[Path, ...]  # without their bases; later ones win
    values: Tree = field(default_factory=dict)  # that win over the files: the fold of an experiment
    file: str = ""  # of this run alone, which a person wrote: all of its values are meant
    encoder: Leaf | None = None  # its name; None: that of the files, if there is one

    def __str__(self) -> str:
        return self.words


def file_source(path: Path) -> Source:
    """Return the source of a config that is one file with its bases."""
    path = in_configs(path)
    return Source(shlex.quote(str(path)), short_and_long(path.stem)[0], (path,), file=str(path))


def files_of(source: Source) -> str:
    """Say which files make a config, without their bases, in their order."""
    encoder = [encoder_file(source.encoder)] if source.encoder else []
    files = [*encoder, *source.files] if source.file else [*source.files, *encoder]
    return " + ".join(map(str, files))


def find_config(
    experiment: str, dataset: str | None = None, method: str | None = None, net: str | None = None
) -> Source:
    """Return the files and values that make the config of an experiment.

    Args:
        experiment: a fold, a path, or the name of a file of the data set's folder.
        dataset: a folder of ``config/``; None: ``experiment`` is a path.
        method: a file of ``config/model/``; default ``MAIN_METHOD``.
        net: the value of ``NET``: an encoder, ``timm/<name>``, or the networks of a method that brings them; default
            the encoder that the files name (``encoder_of``).

    Raises:
        UserError: names the nearest data set, method, encoder or config that exists.
    """
    if dataset is not None:
        if re.fullmatch(FOLD, dataset) and experiment in data_sets():
            raise UserError(f"{experiment} {dataset}: the fold stands first; write {dataset} {experiment}")
        check_known(dataset, data_sets(), f"config/{dataset}: no such data set", LISTED)
    fold = re.fullmatch(FOLD, experiment)
    if dataset is not None and fold is not None:
        return _of_fold(int(fold[1]), dataset, method or MAIN_METHOD, net)
    file = Path(experiment) if dataset is None else _named_file(experiment, dataset)
    if method or net:
        raise UserError(
            f"{file}: names its method and encoder itself",
            fix="leave out --model, --net, MODEL and NET, or name a fold: split0",
        )
    return file_source(file)


def _named_file(experiment: str, dataset: str) -> Path:
    """Return the file that a command line names, as one of the data set's folder or by its path; UserError: no file."""
    name = with_ending(experiment)
    for path in (in_configs(LOCAL / dataset / name), in_configs(Path(name))):
        if path.is_file():
            return path
    names = [path.stem for path in data_file(dataset).parent.glob("*.yaml")] + [f"split{fold}" for fold in range(4)]
    raise UserError(
        f"{experiment}: no such config for {dataset}{nearest(Path(experiment).stem, names)}",
        fix=f"name a fold, such as split0, with MODEL and NET, a file of config/{dataset}/, or the path of one; "
        f"{LISTED}",
    )


def _of_fold(fold: int, dataset: str, method: str, net: str | None) -> Source:
    """Return the files and values of a fold's config, for a method with an encoder or with networks of its own."""
    check_known(method, method_names(), f"MODEL {method}: no such method", LISTED)
    usual = usual_files(dataset, method)
    encoder, networks = _chosen(net, method, usual)
    chosen = encoder.value if encoder else networks
    words = f"split{fold} {dataset} --model {method}" + (f" --net {chosen}" if chosen else "")
    values = nested(FOLD_KEY, Leaf(fold, words))
    if networks:
        values = merge(nested(NETWORKS, Leaf(networks.split(","), f"NET {networks}")), values)
    name = run_name(dataset, fold, method, encoder=chosen if encoder else "", networks=networks)
    file = _file_of_run(dataset, name)
    return Source(words, name, (file,) if file else usual, values, str(file or ""), encoder)


def _chosen(net: str | None, method: str, files: tuple[Path, ...]) -> tuple[Leaf | None, str]:
    """Return the encoder of a method that takes one, or the networks that ``net`` names; '': the usual ones."""
    if has_encoder(method):
        return (Leaf(net, f"NET {net}") if net else encoder_of(files)), ""
    if net is None or net in encoders():  # of a command with several methods
        return None, ""
    return None, net


def usual_files(dataset: str, method: str) -> tuple[Path, ...]:
    """Return the files of a data set and a method, which may be missing: the recipe, else one for each."""
    recipe = in_configs(LOCAL / dataset / f"{method}.yaml")
    return (recipe,) if recipe.exists() else (data_file(dataset), method_file(method))


def _file_of_run(dataset: str, name: str) -> Path | None:
    """Return the file of a run alone, which may name the main method.

    That of ``resnet50`` serves ``resnet50_plain`` where this has none.
    """
    names = (*short_and_long(name), name.removesuffix(PLAIN))
    files = (in_configs(LOCAL / dataset / f"{name}.yaml") for name in names)
    return next(filter(Path.exists, files), None)


def read_tree(source: Source) -> Tree:
    """Return the merged content of a config's files, with its values.

    UserError: missing file, broken YAML, or a key written twice; it names the place.
    """
    return merge(merged(source.files, source.encoder, source.file), source.values)


def completed(tree: Tree, overrides: list[str]) -> Tree:
    """Return a tree after overrides, with values for the names in braces by which paths refer to other settings."""
    tree = _forget_pretraining(reduce(merge, map(override_tree, overrides), tree))
    names = {
        "runs": value_of(tree, FOLDER) or RUNS,
        "dataset": value_of(tree, "data.name"),
        "fold": value_of(tree, FOLD_KEY),
        "encoder": _encoder_in_braces(tree),
    }
    for key in ("run.base_folder", WEIGHTS):
        leaf = find(tree, key)
        if isinstance(leaf, Leaf) and "{" in str(leaf.value):
            path = BRACES.sub(lambda found: str(names.get(found[1], found[0])), str(leaf.value))
            if unknown := BRACES.search(path):
                known = ", ".join(f"{{{name}}}" for name in names)
                raise UserError(f"{leaf.where}: {key}: {unknown[0]} is no name in braces; known: {known}")
            tree = merge(tree, nested(key, Leaf(path, leaf.where)))
    return tree


def _forget_pretraining(tree: Tree) -> Tree:
    """Forget ``pretraining`` where the weights are not those of the encoder's or method's file that states it."""
    data = find(tree, PRETRAINING)
    where = next(places(find(tree, WEIGHTS)), "")
    file = data.where.rpartition(":")[0] if isinstance(data, Leaf) else ""
    if Path(file).parent.name not in ("encoder", "model") or where.startswith(f"{file}:"):
        return tree
    is_named = value_of(parse_file(Path(file)), WEIGHTS) == value_of(tree, WEIGHTS)
    return tree if is_named else merge(tree, nested(PRETRAINING, Leaf(None, where)))


def _encoder_in_braces(tree: Tree) -> str | None:
    """Return the name of a config's encoder, as names of runs have it: of its file, or of its network."""
    encoder = find(tree, BACKBONE)
    if not isinstance(encoder, Leaf):
        return None
    file = Path(encoder.where.rpartition(":")[0])
    return file.stem if file.parent.name == "encoder" else str(encoder.value).replace("/", "-")
