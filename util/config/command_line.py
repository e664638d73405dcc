"""The part of a command line that names a config, changes it (``--set``), and prints it (``--print-config``)."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from util import cli
from util.config.compose import config_path
from util.config.read import read_config, read_with_sources, to_dict
from util.config.settings import Config
from util.config.tree import Leaf, Tree, comment, flow
from util.errors import UserError
from util.files import write_atomically

CHOICE = ("MODEL", "NET")  # names in the environment
PRINT, WRITE = "--print-config", "--write-config"


@dataclass(frozen=True)
class Choice:
    """The method and the encoder of an experiment; None is the default of each."""

    method: str | None = None
    encoder: str | None = None


def choice_from_environment() -> Choice:
    """Return the choice by MODEL and NET in the environment; only commands read them, and pass the choice on."""
    return Choice(*(os.environ.get(name) or None for name in CHOICE))


def parser(description: str | None) -> cli.Parser:
    """Return a parser of the options that all commands on one config share."""
    out = cli.Parser(description=description)
    out.add_argument(
        "config",
        nargs="+",
        help="a YAML file under config/, or an experiment and a data set such as: split2 pascal",
    )
    add_method_options(out, choice_from_environment())
    out.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="section.key=value",
        help="override one setting; may be repeated",
    )
    out.add_argument(
        PRINT, action="store_true", help="print the merged config and where each value comes from, and end"
    )
    out.add_argument(WRITE, type=Path, metavar="FILE", help="write the same to a file, to be edited, and end")
    return out


def add_method_options(out: argparse.ArgumentParser, choice: Choice) -> None:
    """Add the options that choose method and encoder of an experiment, with their defaults."""
    out.add_argument("--model", default=choice.method, help="method of an experiment, such as dcama; default symnet")
    out.add_argument("--net", default=choice.encoder, help="encoder of an experiment; default resnet50")


def read(options: argparse.Namespace) -> Config:
    """Return the config that a command line names.

    Raises:
        UserError: the words name no config, or it cannot be read.
    """
    return read_config(_path(options), options.overrides)


def show(options: argparse.Namespace) -> bool:
    """Print or write the config where the command line asks for that; return whether it does.

    Raises:
        UserError: the words name no config, it cannot be read, or the file to write exists.
    """
    if not options.print_config and options.write_config is None:
        return False
    path = _path(options)
    text = annotated(*read_with_sources(path, options.overrides))
    if options.print_config:
        print(text, end="")
    if options.write_config is not None:
        _write(options.write_config, f"# Every setting of {comment(str(path))}, and where it comes from.\n{text}")
    return True


def _write(target: Path, text: str) -> None:
    if target.exists():
        raise UserError(f"{WRITE} {target}: exists already; name another file, or remove it")
    write_atomically(target, text)
    print(f"written: {target}; use it in place of the config's name, such as: python train.py {target}")


def _path(options: argparse.Namespace) -> Path:
    """Return the config's path: the one given, or that of an experiment, a data set, a method and an encoder."""
    words = options.config
    if len(words) == 2:
        return config_path(words[0], words[1], options.model, options.net)
    if len(words) > 2:
        raise UserError(
            f"'{' '.join(words)}': name one YAML file, or an experiment and a data set such as: split2 pascal"
        )
    refuse_method_options(options, words[0])
    return Path(words[0])


def refuse_method_options(options: argparse.Namespace, named: str) -> None:
    """Refuse ``--model`` and ``--net`` where a command line names no experiment and data set.

    Raises:
        UserError: one of them is given.
    """
    for option in ("model", "net"):
        if getattr(options, option):
            raise UserError(
                f"--{option} (or {option.upper()} in the environment) goes with an experiment and a data set "
                f"(split2 pascal), not with {named}"
            )


# --- printed configs -------------------------------------------------------------------------------------------------


COLUMN = 56  # of the comments
OVERRIDE = "--set "  # how the place of an override begins
NAME = "run.name"


def annotated(config: Config, tree: Tree) -> str:
    """Return a config as YAML that reads back as the same config.

    Args:
        tree: as ``read_with_sources`` gives it.
    """
    return "".join(f"{line}\n" for line in _lines(to_dict(config), tree, config.path, ""))


def _lines(section: dict[str, Any], tree: Any, origin: str, prefix: str) -> Iterator[str]:
    indent = "  " * prefix.count(".")
    for key, value in section.items():
        known = tree.get(key) if isinstance(tree, dict) else None
        if isinstance(value, dict) and value:
            yield f"{indent}{flow(key)}:"
            yield from _lines(value, known, origin, f"{prefix}{key}.")
        else:
            line = f"{indent}{flow(key)}: {flow(value)}"
            yield f"{line:<{COLUMN}}  # {comment(_source(known, f'{prefix}{key}', origin))}"


def _source(leaf: Any, key: str, origin: str) -> str:
    """Return where a value comes from, in words."""
    if key == NAME and (not isinstance(leaf, Leaf) or leaf.value is None):
        return "composed: the config's name"
    if not isinstance(leaf, Leaf):
        return "default"
    if leaf.where == origin:
        return f"composed: {key.rpartition('.')[2]}"
    return leaf.where if leaf.where.startswith(OVERRIDE) else os.path.normpath(leaf.where)
