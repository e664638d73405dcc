"""The part of a command line that names a config, changes it (``--set``), and prints it (``--print-config``)."""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from util import cli
from util.config.compose import (
    CONFIG,
    OF_TIMM,
    Source,
    add_choice,
    data_sets,
    encoders,
    find_config,
    methods,
    read_tree,
)
from util.config.read import read_config, read_with_sources, to_dict
from util.config.settings import Config
from util.config.tree import OVERRIDE, Leaf, flow, value_of
from util.errors import UserError, one_line

CHOICE = ("MODEL", "NET")  # of method and encoder, in the environment


def parser(description: str | None) -> cli.Parser:
    """Return a parser of the options that all commands on one config share."""
    out = cli.Parser(description=description)
    words = "a YAML file under config/, or an experiment and a data set such as: split2 pascal"
    out.add_argument("config", nargs="+", help=words)
    add_method_options(out)
    add_overrides(out)
    text = "print the merged config and where each value comes from, and end"
    out.add_argument("--print-config", action="store_true", help=text)
    out.add_argument("--list", action=_List, nargs=0, help="print data sets, recipes, methods and encoders, and end")
    return out


def add_overrides(out: argparse.ArgumentParser) -> None:
    """Add the option of ``section.key=value``."""
    text = "override one setting; may be repeated"
    out.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value", help=text)


class _List(argparse.Action):
    """The option that prints what a command line can name, and ends the command as ``--help`` does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print("\n".join(_listing(CONFIG)))
        parser.exit()


def _listing(root: Path) -> Iterator[str]:
    """Yield the methods and encoders of a folder of configs and, of each data set, the files that are recipes."""
    yield f"MODEL: {', '.join(methods(root))}"
    yield f"NET: {', '.join(encoders(root))}, {OF_TIMM}<name>"
    yield "data sets with their folds, and their own files for methods and encoders:"
    for folder in data_sets(root):
        of_folds = f"{folder.name}_split"
        files = sorted(path.stem for path in folder.glob("*.yaml"))
        recipes = [name for name in files if name != folder.name and not name.startswith(of_folds)]
        folds = value_of(read_tree(folder / f"{folder.name}.yaml"), "data.folds")
        experiments = "split0" if folds == 1 else f"split0 to split{folds - 1}"
        yield f"  {folder.name}, {experiments}: {', '.join(recipes) or 'none'}"


def add_method_options(out: argparse.ArgumentParser) -> None:
    """Add the options that choose method and encoder of an experiment; their defaults are in the environment."""
    model, net = (os.environ.get(name) or None for name in CHOICE)
    add_choice(out)
    out.set_defaults(model=model, net=net)


def read(options: argparse.Namespace) -> Config:
    """Return the config that a command line names; errors as ``named`` and ``read_config``."""
    return read_config(named(options, options.config), options.overrides)


def show(options: argparse.Namespace) -> bool:
    """Print the config where the command line asks for that; return whether it does; errors as ``read``."""
    if options.print_config:
        config, tree = read_with_sources(named(options, options.config), options.overrides)
        print("\n".join(_lines(to_dict(config), tree, str(config.source), "")))
    return options.print_config


def named(options: argparse.Namespace, words: list[str]) -> Source:
    """Return the config that words name: a file, or an experiment and a data set, with a method and an encoder.

    UserError: other words; ``--model`` or ``--net`` beside a file.
    """
    if len(words) == 2:
        return find_config(words[0], words[1], options.model, options.net)
    if len(words) > 2 or options.model or options.net:
        fix = "name one YAML file, or an experiment and a data set such as: split2 pascal"
        also = "--model and --net (MODEL and NET in the environment) go with the latter alone"
        raise UserError(f"'{' '.join(words)}': {fix}; {also}")
    return Path(words[0])


def _lines(section: dict[str, Any], tree: Any, origin: str, prefix: str) -> Iterator[str]:
    """Yield a config as YAML that reads back as the same config, each value with its place in the tree."""
    indent = "  " * prefix.count(".")
    for key, value in section.items():
        leaf = tree.get(key) if isinstance(tree, dict) else None
        if isinstance(value, dict) and value:
            yield f"{indent}{flow(key)}:"
            yield from _lines(value, leaf, origin, f"{prefix}{key}.")
        else:
            line = f"{indent}{flow(key)}: {flow(value)}"
            yield f"{line:<56}  # {one_line(_source(leaf, f'{prefix}{key}', origin, value))}"


def _source(leaf: Any, key: str, origin: str, value: Any) -> str:
    """Return where a value comes from, in words."""
    if key == "run.name" and (not isinstance(leaf, Leaf) or leaf.value is None):
        return "composed: the config's name"
    if not isinstance(leaf, Leaf):
        return "default"
    if leaf.where == origin:
        return f"composed: {key.rpartition('.')[2]}"
    if value != leaf.value:
        return _source_of_other(leaf, key, value)
    return _place(leaf)


def _source_of_other(leaf: Leaf, key: str, value: Any) -> str:
    """Return where a value comes from that is not the one that was written, in words."""
    place = _place(leaf)
    if key.endswith(".size"):
        return place if place.startswith(OVERRIDE) else f"{place}, nearest to {leaf.value}"
    if value is None or isinstance(value, type(leaf.value)):
        return f"default: {flow(leaf.value)} of {os.path.normpath(leaf.where)} has no effect here"
    return place


def _place(leaf: Leaf) -> str:
    return leaf.where if leaf.where.startswith(OVERRIDE) else os.path.normpath(leaf.where)
