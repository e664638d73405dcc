"""Make the text vectors of a data set's class names from a file of word vectors, or import a published file of them.

--vectors FILE builds unit rows by the rule of util/data/words/vectors.py, which gives the published tables from the
GoogleNews word2vec file. The rows of a published .pkl or .npz are taken as they are; nothing in the file is executed.
"""

import argparse
import re
from pathlib import Path

from util.config.compose import find_config
from util.config.read import read_config
from util.data.words.text import (
    FOLDER,
    NAMES,
    NO_TEXT,
    SUFFIXES,
    note_on_equal_rows,
    read_vectors,
    stored_origin,
    write_vectors,
)
from util.data.words.vectors import build_vectors, download
from util.files import fingerprint, whole_digest
from util.files.errors import UserError


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("--dataset", required=True, help="a folder of config/, such as pascal, or a config file")
    source = parser.add_mutually_exclusive_group(required=True)
    text = "word2vec, GloVe or fastText (.vec), also as .gz; or a .pkl or .npz of finished rows"
    source.add_argument("--vectors", type=Path, metavar="FILE", help=text)
    text = "vectors that gensim downloads, such as word2vec-google-news-300 (1.7 GB)"
    source.add_argument("--download", metavar="NAME", help=text)
    parser.add_argument("--name", default="word2vec", help="value of data.text for the result (default word2vec)")
    parser.add_argument("--out", type=Path, help="folder to write into (default initmodel)")
    text = "if the file lacks a name: stop, or make a row from the name alone (without meaning)"
    parser.add_argument("--missing", choices=("refuse", NAMES), default="refuse", help=text)


def run(options: argparse.Namespace) -> int:
    """Write ``<out>/<name>_<data set>.npz`` unless it exists already.

    UserError: unknown data set, a file that cannot be read safely, names that it lacks, or an existing target that was
    made from something else.
    """
    name = options.name
    _refuse_name(name)
    dataset = options.dataset
    data = read_config(dataset if dataset.endswith(".yaml") else find_config("split0", dataset)).data
    folder = options.out or Path(FOLDER)
    target = folder / f"{name}_{data.name}.npz"
    source = download(options.download) if options.download else options.vectors
    has_words = source.suffix not in SUFFIXES  # else finished rows
    made_from = fingerprint(whole_digest(source), *data.classes, options.missing, has_words)
    if target.exists():
        if stored_origin(target) != made_from:
            problem = "was made from another file, classes or options, or by an earlier version"
            raise UserError(f"{target}: {problem}; remove it, or take another --name")
        print(f"{target}: made from {source} already; nothing to do")
        return 0
    if has_words:
        table, notes = build_vectors(source, data.classes, fill=options.missing == NAMES)
    else:
        table, notes = read_vectors(source, data.classes), [f"rows of {source}, unchanged"]
    write_vectors(target, table, data.classes, made_from)
    notes.append(note_on_equal_rows(table, data.classes))
    print(*filter(None, notes), sep="\n")
    rows, width = table.shape
    print(f"{target}: {rows} rows (background, {len(data.classes)} classes) of {width} numbers")
    return 0


def _refuse_name(name: str) -> None:
    """Refuse (UserError) a name that means something else as a value of ``data.text``, or cannot be a file's."""
    if name in (NAMES, NO_TEXT) or not re.fullmatch(r"[\w.-]+", name) or name.endswith(SUFFIXES):
        raise UserError(f"--name {name}: cannot be a value of data.text; use letters, digits, . - and _")
