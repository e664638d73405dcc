"""Text vectors of class names from a file of word vectors, by the rule that reproduces the published tables.

Row 0 is the vector of the word 'background', row c that of the name of class c. A name of several words is looked up as
one word joined by underscores (teddy_bear). If the file has no such word, the vectors of its words are added without
normalising them first. Every row is then normalised to length 1. Each word is looked up as written, then in lower case,
Capitalised, and in capitals.

The published tables of PASCAL and COCO depart from this rule for 14 names, and so does this module, for every data set
with these names: aeroplane is looked up as airplane, tvmonitor as tv, pottedplant as potted_plant, diningtable as
table; and baseball bat, baseball glove, dining table, hair drier, hot dog, parking meter, sports ball, stop sign,
traffic light and wine glass are sums of their words even if the file has the joined word.
"""

import logging
import re
import zipfile
from codecs import BOM_UTF8
from collections.abc import Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import mode

import numpy as np

from util.data.words.text import name_vectors
from util.errors import UserError
from util.files import stand_in

# The departures were derived from the published rows. GoogleNews vectors have 8 significant bits: a normalised row that
# is one word of the file becomes a row of 8-bit numbers when it is multiplied by its original length; a sum of words
# does not. 'dining table' minus 'diningtable' and 'hot dog' minus 'dog' are again rows of 8-bit numbers.
# Aeroplane, pottedplant and tvmonitor have the same rows as COCO's airplane, potted plant and tv.
INSTEAD = {"aeroplane": "airplane", "diningtable": "table", "pottedplant": "potted plant", "tvmonitor": "tv"}
JOINED = {"diningtable": "dining table", "tvmonitor": "tv monitor"}  # tried if the file lacks the word above as well
ADDED = {"baseball bat", "baseball glove", "dining table", "hair drier", "hot dog", "parking meter", "sports ball"}
ADDED |= {"stop sign", "traffic light", "wine glass"}
COMMON = 500_000  # rows of a binary file that are read first; files are sorted by frequency
FASTTEXT = b"\xba\x16\x4f\x2f"  # first bytes of fastText's .bin


def build_vectors(source: Path, classes: list[str], fill: bool = False) -> tuple[np.ndarray, list[str]]:
    """Return unit rows (classes + 1, T) float32 by this module's rule, and lines that list the exceptional rows.

    With ``fill`` names that the file lacks have rows that depend on the name alone; else they are a UserError. Other
    errors as ``read_words``.
    """
    names = ["background", *classes]
    found = _find(source, names)
    missing = [name for name in names if name not in found]
    if missing and (not fill or not found):
        words = ", ".join(map(repr, missing))
        fix = "rename them, or make rows without meaning: --missing names"
        raise UserError(f"{source}: has no word for {words}; {fix}")
    width = len(next(iter(found.values()))[1])
    table = np.stack([found[n][1] if n in found else name_vectors([n], width)[1] for n in names])
    respelt = [f"{name} = {' + '.join(words)}" for name, (words, _) in found.items() if words != [name]]
    notes = [f"looked up under other spellings: {', '.join(respelt)}"] if respelt else []
    notes += [f"made from the name alone, without meaning: {', '.join(missing)}"] if missing else []
    return (table / np.linalg.norm(table, axis=1, keepdims=True)).astype(np.float32), notes


def find_row(source: Path, name: str) -> np.ndarray | None:
    """Return the unit row (T,) float32 of one name, None if the file has no word for it; errors as ``read_words``."""
    found = _find(source, [name])
    return (found[name][1] / np.linalg.norm(found[name][1])).astype(np.float32) if found else None


def _spellings(word: str) -> list[str]:
    titled = "_".join(part.capitalize() for part in word.split("_"))
    return [word, word.lower(), word.capitalize(), titled, word.upper()]


def _find(source: Path, names: list[str]) -> dict[str, tuple[list[str], np.ndarray]]:
    """Return, for every name that a file has words for, those words as it spells them and the sum of their vectors."""
    ways: dict[str, list[list[str]]] = {name: [] for name in names}  # best first; the vectors of each are added
    for name in names:
        for spelt in dict.fromkeys((INSTEAD.get(name, name), name, JOINED.get(name, name))):
            words = re.split(r"[\s_]+", spelt.strip())
            parts = [part for word in words for part in word.split("-") if part]
            ways[name] += [["_".join(words)]] if spelt not in ADDED or len(words) == 1 else []
            ways[name] += [words] if len(words) > 1 else []
            ways[name] += [parts] if len(parts) > len(words) else []
    wanted = {spelling for way in ways.values() for words in way for word in words for spelling in _spellings(word)}
    vectors, out = read_words(source, wanted, {word for way in ways.values() for word in way[0]}), {}
    for name in names:
        tried = ([next((s for s in _spellings(word) if s in vectors), "") for word in words] for words in ways[name])
        if found := next(filter(all, tried), None):
            out[name] = found, np.sum([vectors[word].astype(np.float64) for word in found], axis=0)
    return out


def read_words(path: Path, wanted: Iterable[str], enough: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the wanted words that a file has, each (T,) float32; if a word occurs twice, its first row counts.

    gensim reads binary files. Of text files this module picks the lines of the wanted words: gensim converts every
    number of every line (minutes for GloVe) and stops at the words with spaces that GloVe has. If all words of
    ``enough`` are among the first, the rest of the file is not read. UserError: the file is missing, of another format,
    damaged or cut short; or a wanted vector is zero or not finite.
    """
    if zipfile.is_zipfile(path):
        raise UserError(f"{path}: is a zip archive; unpack it and name the file in it")
    try:
        found = _read(path, set(wanted), set(enough))
        if odd := [word for word, row in found.items() if not np.isfinite(row).all() or not row.any()]:
            raise ValueError(f"the row of '{odd[0]}' is not finite or is 0")
        return found
    except Exception as error:  # a damaged file can raise any exception
        if other := stand_in(path):
            raise UserError(f"{path}: is {other}") from None
        raise UserError(f"{path}: no word vectors of word2vec, GloVe or fastText ({error!r})") from None


def _read(path: Path, wanted: set[str], enough: set[str]) -> dict[str, np.ndarray]:
    from gensim import utils  # takes a second
    from gensim.models import KeyedVectors
    from gensim.models.fasttext import load_facebook_vectors

    logging.getLogger("gensim").setLevel(logging.ERROR)
    with utils.open(str(path), "rb") as file:
        head, sample = file.readline(2**18).removeprefix(BOM_UTF8), file.read(2**17)
    fields = head.split()
    header = len(fields) == 2 and all(text.isdigit() for text in fields)
    if head.startswith(FASTTEXT):
        table = load_facebook_vectors(str(path))
    elif header and any(byte < 9 or 13 < byte < 32 for byte in sample[: 2**12]):
        load = partial(KeyedVectors.load_word2vec_format, str(path), binary=True, unicode_errors="replace")
        table = load(limit=COMMON)
        if int(fields[0]) > COMMON and not enough <= table.key_to_index.keys():
            table = load()
    else:
        lengths = [len(line.split()) - 1 for line in (head, *sample.split(b"\n")[:-1]) if line.strip()]
        rows, width = map(int, fields) if header else (1, mode(sorted(lengths) or [0]))  # words may have spaces
        with utils.open(str(path), "rb") as file:
            return _of_text(islice(file, int(header), None), rows, width, wanted, enough)
    there = wanted & table.key_to_index.keys()
    return {word: np.array(table.vectors[table.key_to_index[word]], np.float32) for word in there}


def _of_text(
    lines: Iterable[bytes], rows: int, width: int, wanted: set[str], enough: set[str]
) -> dict[str, np.ndarray]:
    """Return the wanted words of lines ``word number ... number``, of which there must be at least ``rows``."""
    words, found, count, numbers = {word.encode(): word for word in wanted}, {}, 0, b""
    for count, line in enumerate(lines, 1):
        name, _, numbers = (line.removeprefix(BOM_UTF8) if count == 1 else line).partition(b" ")
        word = words.get(name)
        if word is None or word in found:
            continue
        fields = numbers.split()
        if len(fields) < width:
            raise ValueError(f"the row of '{word}' has {len(fields)} numbers, not {width}")
        if len(fields) == width:  # others are words with spaces
            found[word] = np.array([float(text) for text in fields], np.float32)
        if enough <= found.keys():
            return found
    if width < 2 or len(numbers.split()) < width or count < rows:
        raise ValueError(f"cut short or no table of numbers: it ends after {count} words")
    return found


def download(name: str) -> Path:
    """Return the file of one of gensim's published sets of vectors, downloaded if need be; UserError if it cannot."""
    from gensim import downloader

    try:
        return Path(downloader.load(name, return_path=True))
    except Exception as error:  # a connection can fail in any way
        raise UserError(f"--download {name}: cannot be downloaded ({error!r}); or name a file with --vectors") from None
