"""Make the text vectors of a data set's class names from a file of word vectors, or import a published file of them.

--vectors FILE builds unit rows by the rule of util/data/words/vectors.py, which gives the published tables from the
GoogleNews word2vec file. The rows of a published .pkl or .npz are taken as they are; nothing in the file is executed.
"""

import argparse
import re
from pathlib import Path

from util.config.compose import find_config
from util.config.read import read_config
from util.data.words.text import FOLDER, NAMES, NO_TEXT, SUFFIXES, read_vectors, write_vectors
from util.data.words.vectors import build_vectors
from util.files.errors import UserError


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("--dataset", required=True, help="a folder of config/, such as pascal, or a config file")
    parser.add_argument(
        "--vectors",
        type=Path,
        required=True,
        metavar="FILE",
        help="word2vec, GloVe or fastText (.vec), also as .gz; or a .pkl or .npz of finished rows",
    )
    parser.add_argument("--name", default="word2vec", help="value of data.text for the result (default word2vec)")
    parser.add_argument("--out", type=Path, default=Path(FOLDER), help=f"folder to write into (default {FOLDER})")


def run(options: argparse.Namespace) -> int:
    """Write ``<out>/<name>_<data set>.npz``.

    UserError: unknown data set, a file that cannot be read safely, or names that it lacks.
    """
    name, source = options.name, options.vectors
    _refuse_name(name)
    dataset = options.dataset
    data = read_config(dataset if dataset.endswith(".yaml") else find_config("split0", dataset)).data
    target = options.out / f"{name}_{data.name}.npz"
    if (instead := target.with_suffix(".pkl")).exists():
        raise UserError(f"{instead}: would be read in place of the new {target.name}", fix="remove or rename it first")
    if source.suffix in SUFFIXES:
        table = read_vectors(source, data.classes)
        print(f"rows of {source}, unchanged")
    else:
        table, respelt = build_vectors(source, data.classes)
        if respelt:
            print(f"looked up under other spellings: {', '.join(respelt)}")
    write_vectors(target, table, data.classes)
    rows, width = table.shape
    print(f"{target}: {rows} rows (background, {len(data.classes)} classes) of {width} numbers")
    return 0


def _refuse_name(name: str) -> None:
    """Refuse (UserError) a name that means something else as a value of ``data.text``, or cannot be a file's."""
    if name in (NAMES, NO_TEXT) or not re.fullmatch(r"[\w.-]+", name) or name.endswith(SUFFIXES):
        raise UserError(f"--name {name}: cannot be a value of data.text; use letters, digits, . - and _")
