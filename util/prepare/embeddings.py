"""Make the class-name vectors of a data set out of a file of word vectors, or take over a published file of them.

The rule, which gives the published rows out of the GoogleNews word2vec file. Row 0 is the word 'background', row c the
name of class c. A name of several words is looked up as one word joined by underscores (teddy_bear), and where the
file has none the vectors of its words are added as they are in the file, not made unit first. Every row is then made
unit. A word is looked up as it is written, then in lower case, Capitalised, and in capitals.

The published tables depart from that for 14 names, and so does this command, in every data set that has these names:
aeroplane is the word airplane, tvmonitor is tv, pottedplant is potted_plant, diningtable is table; and baseball bat,
baseball glove, dining table, hair drier, hot dog, parking meter, sports ball, stop sign, traffic light and wine glass
are added from their words even where the file has them joined.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np

from util.config.read import read_config
from util.config.settings import DataSettings
from util.data.text import NAMES, NO_TEXT, SUFFIXES, name_vectors, read_vectors, stored_origin, table_names
from util.data.word_files import Words, read_words
from util.errors import UserError, nearest
from util.files import fingerprint, write_atomically

CONFIG = Path("config")
# How the published rows were made was read off the rows themselves. GoogleNews stores 8 significant bits: a row that
# is one word of it becomes a row of 8-bit numbers when multiplied by its length, a sum of words does not; and 'dining
# table' less 'diningtable', and 'hot dog' less 'dog', are rows of 8-bit numbers again.
# Aeroplane, pottedplant and tvmonitor have the rows of COCO's airplane, potted plant and tv. What a row cannot tell is
# how the file spells its word: airplane or aeroplane, tv or television, fire_hydrant or hydrant.
INSTEAD = {"aeroplane": "airplane", "diningtable": "table", "pottedplant": "potted plant", "tvmonitor": "tv"}
JOINED = {"diningtable": "dining table", "tvmonitor": "tv monitor"}  # where the file lacks the word above as well
ADDED = {"baseball bat", "baseball glove", "dining table", "hair drier", "hot dog", "parking meter", "sports ball"}
ADDED |= {"stop sign", "traffic light", "wine glass"}
REFUSE = "refuse"
SHOWN = 3  # names in a message


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("--dataset", required=True, help="a folder of config/, such as pascal, or a config file")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--vectors", type=Path, metavar="FILE", help="word2vec, GloVe or fastText .vec; .gz as it is")
    source.add_argument("--import", type=Path, metavar="FILE", dest="published", help="a .pkl or .npz of finished rows")
    parser.add_argument("--name", default="word2vec", help="what data.text calls the result (default word2vec)")
    parser.add_argument("--out", type=Path, help="folder to write into (default data.text_dir, initmodel)")
    parser.add_argument(
        "--missing",
        choices=(REFUSE, NAMES),
        default=REFUSE,
        help="a name that the file lacks: stop, or take a row made from the name alone (no meaning)",
    )


def run(options: argparse.Namespace) -> int:
    """Write ``<out>/<name>_<data set>.npz``, or say that it is there.

    Raises:
        UserError: unknown data set, a file that cannot be read safely, names it lacks, or another file in the way.
    """
    data = dataset_settings(options.dataset)
    if (
        options.name in (NAMES, NO_TEXT)
        or not re.fullmatch(r"[\w.-]+", options.name)
        or options.name.endswith(SUFFIXES)
    ):
        raise UserError(
            f"--name {options.name}: data.text cannot call vectors so; take letters, digits, . - and _, no suffix"
        )
    target = (options.out or Path(data.text_dir)) / f"{options.name}_{data.name}.npz"
    source = options.vectors or options.published
    made_from = fingerprint([source], *data.classes, options.missing, bool(options.vectors))
    if target.exists():
        if stored_origin(target) != made_from:
            raise UserError(f"{target}: was made from something else; remove it or give another --name")
        print(f"{target}: made from {source} already; nothing to do")
        return 0
    if options.vectors:
        table, notes = build_vectors(source, data.classes, options.missing == NAMES)
    else:
        table, notes = import_vectors(source, data), [f"rows of {source}, as they are"]
    write_vectors(target, table, data.classes, made_from)
    for note in notes:
        print(note)
    print(f"{target}: {table.shape[0]} rows (background, {len(data.classes)} classes) of {table.shape[1]} numbers")
    if target.with_suffix(".pkl").exists():
        print(f"{target.with_suffix('.pkl')}: is not read any more, now that there is an .npz of that name")
    return 0


def dataset_settings(dataset: str) -> DataSettings:
    """Return the data settings of a folder of ``config/`` (of its first run config) or of a config file.

    Raises:
        UserError: there is no such folder or file, or the config is broken.
    """
    if dataset.endswith((".yaml", ".yml")):
        return read_config(dataset).data
    configs = sorted((CONFIG / dataset).glob(f"{dataset}_*.yaml"))
    if not configs:
        known = [p.parent.name for p in CONFIG.glob("*/*.yaml") if p.stem == p.parent.name]
        raise UserError(f"--dataset {dataset}: {CONFIG / dataset} holds no {dataset}_*.yaml{nearest(dataset, known)}")
    return read_config(configs[0]).data


def build_vectors(source: Path, classes: list[str], fill: bool = False) -> tuple[np.ndarray, list[str]]:
    """Return unit rows (classes + 1, T) float32 by this module's rule, and lines on what is not plain in them.

    Args:
        source: a file of word vectors.
        fill: make rows of names that the file lacks from the names alone.

    Raises:
        UserError: the file cannot be read, or lacks names while ``fill`` is False.
    """
    names = table_names(classes)
    ways = {name: lookups(name) for name in names}
    wanted = {spelling for way in ways.values() for words in way for word in words for spelling in _spellings(word)}
    words = read_words(source, wanted, {word for way in ways.values() for word in way[0]})
    rows, taken, lacking = [], [], []
    for name in names:
        found = next(filter(None, (_spelt(words, way) for way in ways[name])), None)
        if not found:
            lacking.append(name)
            rows.append(None)
            continue
        if found != [name]:
            taken.append(f"{name} = {' + '.join(found)}")
        rows.append(sum(words.vectors[w].astype(np.float64) for w in found))
    if lacking and (not fill or len(lacking) == len(names)):
        raise UserError(_lacking(source, lacking, ways, words))
    width = len(next(row for row in rows if row is not None))
    rows = [name_vectors([n], width)[1] if row is None else row for n, row in zip(names, rows, strict=True)]
    table = np.stack(rows)
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    if not lengths.all():
        raise UserError(f"{source}: the words of '{names[int(lengths.argmin())]}' add up to 0; use another file")
    notes = [f"taken: {', '.join(taken)}"] if taken else []
    notes += [f"from the name alone, without meaning: {', '.join(lacking)}"] if lacking else []
    return (table / lengths).astype(np.float32), notes


def find_row(source: Path, name: str) -> np.ndarray | None:
    """Return one name's unit row (T,) float32 by this module's rule, None where the file has no word for it.

    Raises:
        UserError: the file cannot be read, or the name's words add up to 0.
    """
    ways = lookups(name)
    words = read_words(source, {s for way in ways for word in way for s in _spellings(word)}, set(ways[0]))
    found = next(filter(None, (_spelt(words, way) for way in ways)), None)
    if not found:
        return None
    row = sum(words.vectors[w].astype(np.float64) for w in found)
    if not row.any():
        raise UserError(f"{source}: the words of '{name}' add up to 0; use another file")
    return (row / np.linalg.norm(row)).astype(np.float32)


def import_vectors(source: Path, data: DataSettings) -> np.ndarray:
    """Return the rows of a published file as they are, (classes + 1, T) float32.

    Raises:
        UserError: as ``read_vectors``, or another number of rows than the data set has.
    """
    table, rows = read_vectors(source, data.classes), len(data.classes) + 1
    if len(table) != rows:
        raise UserError(f"{source}: {len(table)} rows, {data.name} needs {rows} (background + classes)")
    return table


def write_vectors(target: Path, table: np.ndarray, classes: list[str], made_from: str = "") -> None:
    """Write rows with the names of their classes as ``.npz``.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    arrays = {"vectors": table, "names": np.array(table_names(classes)), "made_from": np.array(made_from)}
    write_atomically(target, lambda path: np.savez(path, **arrays))


def lookups(name: str) -> list[list[str]]:
    """Return the ways to look up a class name, best first; each is a list of words whose vectors are added."""
    ways = []
    for spelt in dict.fromkeys((INSTEAD.get(name, name), name, JOINED.get(name, name))):
        words = re.split(r"[\s_]+", spelt.strip())
        ways += [["_".join(words)]] if spelt not in ADDED or len(words) == 1 else []
        ways += [words] if len(words) > 1 else []
        parts = [part for word in words for part in word.split("-") if part]
        ways += [parts] if len(parts) > len(words) else []
    return ways


def _spellings(word: str) -> list[str]:
    titled = "_".join(part.capitalize() for part in word.split("_"))
    return list(dict.fromkeys((word, word.lower(), word.capitalize(), titled, word.upper())))


def _spelt(words: Words, way: list[str]) -> list[str] | None:
    """Return the words of a way as the file spells them; None if it lacks one."""
    found = [next((s for s in _spellings(word) if s in words.vectors), None) for word in way]
    return None if None in found else found


def _lacking(source: Path, lacking: list[str], ways: dict[str, list[list[str]]], words: Words) -> str:
    """Return what to say about names that a file lacks: each with the words that would do, and close ones."""
    told = []
    for name in lacking[:SHOWN]:
        absent = [w for w in ways[name][-1] if _spelt(words, [w]) is None]
        close = list(dict.fromkeys(c for w in absent for c in words.close_to(w)))
        hint = f" (close: {', '.join(close)})" if close else ""
        told.append(f"'{name}'{hint}" if absent == [name] else f"'{name}', for want of '{absent[0]}'{hint}")
    more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
    return (
        f"{source}: has no word for {'; '.join(told)}{more}; use another file, rename the class, "
        f"or let --missing {NAMES} make such rows from the names alone"
    )
