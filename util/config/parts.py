"""Files of a config, each after its bases, as one tree; later ones win.

1. The files of a data set and a method, and their bases,
2. the file of the encoder, which ``net`` of the last file that a person wrote names, else that of a method or data set,
3. what the files of 1 change with this encoder, ``encoders: {<net>: ...}``,
4. the files that a person wrote, each with what it changes with the encoder.

A file's name, such as ``pascal_split2_ssp_lite0``, states fold and encoder as its content does.
"""

import re
from collections.abc import Sequence
from dataclasses import fields
from functools import reduce
from pathlib import Path

from model.encoders.variant import PREFIX as TIMM_PREFIX
from model.registry import methods
from util.config.folder import (
    MAIN_METHOD,
    TIMM,
    config_folder,
    data_sets,
    encoders,
    in_configs,
    method_file,
    method_names,
)
from util.config.tree import (
    ENCODERS,
    LISTED,
    NET,
    Leaf,
    Tree,
    bases_of,
    find,
    merge,
    nested,
    parse_file,
    places,
    settings_of,
    value_of,
)
from util.files.errors import UserError, check_known, nearest

USUAL_NET = Leaf("resnet50", "NET resnet50")
OF_FOLD = re.compile(r"(?:.+_)?split(\d+)(?:_(.+))?")  # a name of data set, fold, method and encoder or networks
BACKBONE, FOLD_KEY = "model.encoder.backbone", "data.fold"


def merged(files: Sequence[Path], net: Leaf | None = None, own: str = "") -> Tree:
    """Return files, after their bases, as one tree.

    Args:
        files: of a config.
        net: the encoder and where it is named; None: that of the files.
        own: the file that is a person's, whatever its name.

    Raises:
        UserError: a file or an encoder is missing, or a section of one is none; it names the place.
    """
    net = net or net_of(files)
    encoder = with_bases([encoder_file(net)])
    names = [path.stem for path in encoder]  # of the encoder and those that it extends
    usual, written = _parted(files, own)
    below = [settings_of(content_of(path)) for path in usual]
    above = [change for path in usual for change in _changes(path, names)]
    for path in written:
        above += [settings_of(content_of(path)), *_changes(path, names)]
    tree: Tree = reduce(merge, [*below, *above], {})
    if not takes_encoder(tree):
        return tree
    backbone = nested(BACKBONE, net) if net.value.startswith(TIMM_PREFIX) else {}
    return reduce(merge, [*below, *[settings_of(parse_file(path)) for path in encoder], backbone, *above])


def _parted(files: Sequence[Path], own: str) -> tuple[list[Path], list[Path]]:
    """Return the files up to the last of a data set or method, and those that a person wrote, without encoders'."""
    paths = [path for path in with_bases(files) if not _is_encoder(path)]
    end = max((i for i, path in enumerate(paths, 1) if _is_usual(path) and str(path) != own), default=0)
    return paths[:end], paths[end:]


def _is_usual(path: Path) -> bool:
    """Return whether a file has the name of a data set or a method, of which it says what is usual."""
    return path.stem in (*data_sets(), *method_names())


def takes_encoder(tree: Tree) -> bool:
    """Return whether a config's method takes an encoder; so does one that is not known yet (``imports``)."""
    name = value_of(tree, "model.name")
    cls = methods().get(str(name))
    return name is not None and (cls is None or any(setting.name == "encoder" for setting in fields(cls.Settings)))


def net_of(files: Sequence[Path]) -> Leaf:
    """Return the encoder that files name: of a person's files the last one, else of methods' and data sets'."""
    usual, named = USUAL_NET, None
    for path in with_bases(files):
        net = Leaf(path.stem, str(path)) if _is_encoder(path) else find(content_of(path), NET)
        if not isinstance(net, Leaf):
            continue
        if _is_usual(path):
            usual = net
        else:
            named = net
    return named or usual


def is_net(name: str) -> bool:
    """Return whether a name is that of an encoder."""
    return name in encoders() or name.startswith(TIMM_PREFIX)


def encoder_file(net: Leaf) -> Path:
    """Return the file of an encoder; UserError: there is none."""
    name = TIMM if net.value.startswith(TIMM_PREFIX) else net.value
    fix = f"one of timm is {TIMM_PREFIX}{name}; {LISTED}"
    check_known(name, [*encoders(), TIMM], f"{net.where}: no such encoder", fix)
    return config_folder() / "encoder" / f"{name}.yaml"


def _is_encoder(path: Path) -> bool:
    """Return whether a file is an encoder's."""
    return path.resolve().parent.name == "encoder"


def with_bases(files: Sequence[Path], done: set[Path] | None = None) -> list[Path]:
    """Return files, each after its bases; one that several name as their base has the first of its places."""
    done = set() if done is None else done
    out = []
    for path in files:
        if path.resolve() not in done:
            done.add(path.resolve())
            bases = [_base(path, name) for name in bases_of(path)]
            out += [*with_bases(bases, done), path]
    return out


def _base(path: Path, name: str) -> Path:
    """Return the file that one names as its base: beside it, or from the folder where configs are named from.

    UserError: there is none of that name; it names both files.
    """
    beside, elsewhere = in_configs(path.parent / name), in_configs(Path(name))
    if not beside.exists() and not elsewhere.exists():
        fix = "write it with its folder, such as config/pascal/symnet.yaml"
        raise UserError(f"{path}: base: {name} is neither beside it nor in this folder", fix=fix)
    return beside if beside.exists() else elsewhere


def content_of(path: Path) -> Tree:
    """Return what a file states, and what its name does; UserError: it states another fold than its name."""
    content = parse_file(path)
    named = OF_FOLD.fullmatch(path.stem)
    if named is None:
        return content
    fold = Leaf(int(named[1]), str(path))
    stated = find(content, FOLD_KEY, fold)
    if isinstance(stated, Leaf) and stated.value != fold.value:
        raise UserError(
            f"{stated.where}: {FOLD_KEY} = {stated.value!r} in the file of split{fold.value}",
            fix=f"write {fold.value}, or give the file another name",
        )
    return reduce(merge, [nested(FOLD_KEY, fold), _networks_in(path, named[2] or ""), content])


def _networks_in(path: Path, words: str) -> Tree:
    """Return the encoder, or the networks of a method without one, that the last words of a file's name say."""
    method = next((name for name in method_names() if f"{words}_".startswith(f"{name}_")), MAIN_METHOD)
    net = words.removeprefix(method).removeprefix("_").replace("timm-", TIMM_PREFIX).replace("--", "/")
    if is_net(net):
        return {NET: Leaf(net, str(path))}
    return networks(net, str(path)) if net and not has_encoder(method) else {}


def networks(names: str, place: str) -> Tree:
    """Return the tree of the networks of a method that brings its own."""
    return nested("model.weights", Leaf(names.split(","), place))


def has_encoder(method: str) -> bool:
    """Return this of the method of a file."""
    return takes_encoder(merged([method_file(method)]))


def _changes(path: Path, names: Sequence[str]) -> list[Tree]:
    """Return what a file changes with encoders of these names; UserError: it does so with none, or in another form."""
    changes = parse_file(path).get(ENCODERS, {})
    known = [*encoders(), TIMM]
    for name, change in changes.items() if isinstance(changes, dict) else [("", changes)]:
        if name not in known or not isinstance(change, dict):
            place = next(places(change), path)
            raise UserError(f"{place}: {ENCODERS}.{name}: no section of a known encoder{nearest(name, known)}")
    return [settings_of(changes[name]) for name in names if name in changes]
