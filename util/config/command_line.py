"""The part of a command line that names a config, changes it (``--set``), and prints it (``--print-config``)."""

import argparse
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from model.encoders.variant import PREFIX as TIMM_PREFIX
from util import cli
from util.config.checks import default_of
from util.config.compose import CHOICE, Source, file_source, files_of, find_config
from util.config.folder import LOCAL, data_file, data_sets, encoders, method_names
from util.config.parts import merged
from util.config.read import read_config, to_dict, tree_of
from util.config.settings import Config, OptimizerSettings
from util.config.tree import OVERRIDE, Leaf, find, flow, value_of
from util.files.errors import UserError, note, one_line
from util.files.typecheck import Misfit, convert

NAMES = "a YAML file, or an experiment and a data set such as: split2 pascal"  # of a config


def parser(description: str | None) -> cli.Parser:
    """Return a parser of the options that all commands on one config share."""
    out = cli.Parser(description=description)
    out.add_argument("config", nargs="+", help=NAMES)
    _add_choice(out)
    model, net = (os.environ.get(name) or None for name in CHOICE)
    out.set_defaults(model=model, net=net)
    add_overrides(out)
    out.add_argument(
        "--print-config",
        action="store_true",
        help="print what differs from the defaults or the run's file states, with files, and end",
    )
    out.add_argument("--print-whole-config", action="store_true", help="print every value, with its file, and end")
    out.add_argument("--list", action=_List, nargs=0, help="print data sets, recipes, methods and encoders, and end")
    return out


def add_overrides(out: argparse.ArgumentParser) -> None:
    """Add the option of ``section.key=value``."""
    out.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="section.key=value",
        help="override one setting; may be repeated",
    )


def _add_choice(out: argparse.ArgumentParser) -> None:
    """Add the options that choose method and encoder of an experiment."""
    out.add_argument("--model", help="method of an experiment, such as dcama; default symnet")
    out.add_argument(
        "--net", help="encoder of an experiment; default: that of the method's or data set's file, else resnet50"
    )


class _List(argparse.Action):
    """The option that prints what a command line can name, and ends the command as ``--help`` does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print("\n".join(_listing()))
        parser.exit()


def _listing() -> Iterator[str]:
    """Yield the methods and encoders and, of each data set, the files that are recipes."""
    yield f"MODEL: {', '.join(method_names())}"
    yield f"NET: {', '.join(encoders())}, {TIMM_PREFIX}<name>"
    yield "data sets with their folds, and their files for methods and encoders:"
    for name in data_sets():
        file = data_file(name)
        stems = {path.stem for folder in (file.parent, LOCAL / name) for path in folder.glob("*.yaml")}
        folds = value_of(merged([file]), "data.folds")
        experiments = "split0" if folds == 1 else f"split0 to split{folds - 1}"
        yield f"  {name}, {experiments}: {', '.join(sorted(stems - {name})) or 'none'}"


def read(options: argparse.Namespace) -> Config:
    """Return the config that a command line names; raises as ``find_config`` and ``read_config`` do."""
    config = read_config(_named(options), options.overrides)
    word = options.config[-1]
    if word in data_sets() and value_of(merged([data_file(word)]), "data.name") != config.data.name:
        note(f"{config.source}: data.name = {config.data.name} counts, not the word {word}")
    return config


def source_of(text: str) -> Source:
    """Return the config of a text: a file, or ``split2 pascal --model ssp``; raises as ``find_config`` does."""
    if Path(text).exists():
        return file_source(Path(text))
    words = cli.Parser(prog="train.py", add_help=False)
    words.add_argument("config", nargs="*")
    _add_choice(words)
    return _named(words.parse_args(text.split()))


def _named(options: argparse.Namespace) -> Source:
    """Return the config of a command line's words: a file, or as ``find_config``; UserError: neither."""
    if len(options.config) not in (1, 2):
        raise UserError(f"'{' '.join(options.config)}': name {NAMES} --model ssp --net resnet101")
    experiment, dataset = [*options.config, None][:2]
    return find_config(experiment, dataset, options.model, options.net)


def print_config_if_asked(options: argparse.Namespace, config: Config) -> bool:
    """Print a config where the command line asks for that; return whether it does."""
    is_asked = options.print_config or options.print_whole_config
    if is_asked:
        tree = tree_of(config.source, config.given)
        content = to_dict(config)
        if not options.print_whole_config:  # on a page, with the protocol of its test alone
            name = config.test.protocol
            file = f"{config.source.file}:"
            content = _shown(config, tree, file)
            content["test"] = content.get("test", {}) | {"protocol": name}
            content["protocols"] = {name: _shown(config.protocols[name], find(tree, f"protocols.{name}"), file)}
        print("\n".join([f"# {files_of(config.source)}", *_lines(content, tree, indent="")]))
    return is_asked


def _shown(value: Any, tree: Any, file: str) -> Any:
    """Return settings that differ from their defaults or stand in ``file``, optimisers whole; other values as is."""
    if isinstance(value, dict):
        return {name: asdict(part) if isinstance(part, OptimizerSettings) else part for name, part in value.items()}
    if not is_dataclass(value):
        return value
    out = {}
    for setting in fields(value):
        leaf = find(tree, setting.name)
        is_stated = isinstance(leaf, Leaf) and leaf.where.startswith(file)
        given = _shown(getattr(value, setting.name), leaf, file)
        if setting.compare and (is_stated or given not in (default_of(setting), {})):
            out[setting.name] = given
    return out


def _lines(section: dict[str, Any], tree: Any, indent: str) -> Iterator[str]:
    """Yield a config as YAML that reads back as the same config, each value with its place in the tree.

    A place is followed by what was written there where a check or a default has made another value of it.
    """
    for key, value in section.items():
        leaf = tree.get(key) if isinstance(tree, dict) else None
        if isinstance(value, dict) and value:
            yield f"{indent}{flow(key)}:"
            yield from _lines(value, leaf, indent=f"{indent}  ")
        else:
            line = f"{indent}{flow(key)}: {flow(value)}"
            yield f"{line:<56}  # {one_line(_source(key, leaf, value))}"


def _source(key: str, leaf: Any, value: Any) -> str:
    """Return where the value of a key comes from, in words."""
    if not isinstance(leaf, Leaf):
        return "default"
    place = leaf.where if leaf.where.startswith(OVERRIDE) else os.path.normpath(leaf.where)
    with suppress(Misfit):
        if convert(type(value), leaf.value, "", as_yaml=True) == value:
            return place
    reason = ", no side of this model" if key == "size" else ""
    return f"{place}: {flow(leaf.value)}{reason}"
