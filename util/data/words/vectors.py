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

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from util.files.errors import UserError
from util.files.reading import STAND_INS, stand_in
from util.files.sizes import TIMES, largest_content

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

# The departures were derived from the published rows. GoogleNews vectors have 8 significant bits: a normalised row that
# is one word of the file becomes a row of 8-bit numbers when it is multiplied by its original length; a sum of words
# does not. 'dining table' minus 'diningtable' and 'hot dog' minus 'dog' are again rows of 8-bit numbers.
# Aeroplane, pottedplant and tvmonitor have the same rows as COCO's airplane, potted plant and tv.
INSTEAD = {"aeroplane": "airplane", "diningtable": "table", "pottedplant": "potted plant", "tvmonitor": "tv"}
ADDED = {
    *("baseball bat", "baseball glove", "dining table", "hair drier", "hot dog", "parking meter", "sports ball"),
    *("stop sign", "traffic light", "wine glass"),
}
PACKED = (".gz", ".bz2", ".xz", ".zst")
PIECE = 2**20  # bytes, in which many words end
# beginnings of files of other forms -> what they are, and the fix; as ``STAND_INS``
OTHER_FILES = STAND_INS | {
    rb"PK\x03\x04": "a zip archive; unpack it, and name the file of word vectors that was in it",
    rb"\xba\x16O\x2f": "a model of fastText (.bin); name its file of word vectors (.vec), or write one from it",
    rb"\x80[\x02-\x05]": "a pickle, as gensim saves vectors; write them by save_word2vec_format, and name that file",
    rb"\x93NUMPY": "an array of NumPy without its words; name the file that has both",
    rb"\x89HDF": "an HDF5 file; name the same vectors as text, a word and its numbers on each line",
}
COMMON = 500_000  # rows that are read first; files are sorted by frequency


def build_vectors(source: Path, classes: list[str]) -> tuple[np.ndarray, list[str]]:
    """Return unit rows (classes + 1, T) float32 by this module's rule, and the names that are spelt otherwise there.

    UserError: the file lacks a name; others as ``read_words``.
    """
    names = ["background", *classes]
    matches = _find(source, names)
    if missing := ", ".join(name for name in names if name not in matches):
        raise UserError(f"{source}: has no word for {missing}; rename these classes in the config (data.classes)")
    respelt = [f"{name} = {' + '.join(words)}" for name, (words, _) in matches.items() if words != [name]]
    return np.stack([matches[name][1] for name in names]), respelt


def _find(source: Path, names: list[str]) -> dict[str, tuple[list[str], np.ndarray]]:
    """Return the words that a file has for names, as it spells them, and their sum as a unit row (T,) float32.

    Raises as ``read_words`` does.
    """
    table = read_words(source, COMMON)
    if len(table) == COMMON and not all(_stored(_lookups(name)[0], table) for name in names):
        table = read_words(source)
    matches = {}
    for name in names:
        stored = next(filter(None, (_stored(words, table) for words in _lookups(name))), None)
        if stored is None:
            continue
        total = np.sum([table.get_vector(word) for word in stored], axis=0, dtype=np.float64)
        if not np.isfinite(total).all() or np.ptp(total) == 0:  # gensim repeats the number of a line that has only one
            raise UserError(f"{source}: holds no word vectors: the row of '{name}' is not finite, or is one number")
        matches[name] = stored, np.asarray(total / np.linalg.norm(total), np.float32)
    return matches


def _lookups(name: str) -> list[list[str]]:
    """Return the words under which a name is looked up, the best first; the vectors of each list are added."""
    lookups = []
    for spelt in (INSTEAD.get(name, name), name):
        words = re.split(r"[\s_]+", spelt.strip())
        joined = [] if spelt in ADDED else [["_".join(words)]]
        lookups += [*joined, words, re.split(r"[\s_-]+", spelt.strip())]
    return lookups


def _stored(words: list[str], table: KeyedVectors) -> list[str]:
    """Return words as a file spells them; none if it lacks one."""
    stored = []
    for word in words:
        titled = "_".join(part.capitalize() for part in word.split("_"))
        spellings = (word, word.lower(), word.capitalize(), titled, word.upper())
        stored += [spelling for spelling in spellings if spelling in table.key_to_index][:1]
    return stored if len(stored) == len(words) else []


def _form(path: Path) -> dict[str, bool]:
    """Return gensim's arguments for the form of a file of vectors; UserError: unpacked it is larger than its due."""
    from gensim.utils import open as unpacked

    with unpacked(str(path), "rb") as file:
        head = file.readline(2**18)
        sample = file.read(2**12)
        has_header = len(head.split()) == 2
        is_binary = has_header and any(byte < 9 or 13 < byte < 32 for byte in sample)
        if path.suffix in PACKED:
            _check_unpacked(file, path, b" " if is_binary else b"\n")
    return {"binary": is_binary, "no_header": not has_header}


def read_words(path: Path, limit: int | None = None) -> KeyedVectors:
    """Return gensim's table of the first words of a file of word2vec, GloVe or fastText (.vec), default all.

    UserError: the file is missing, of another format, damaged or cut short.
    """
    from gensim.models import KeyedVectors  # takes a second

    logging.getLogger("gensim").setLevel(logging.ERROR)
    if other := (stand_in(path, OTHER_FILES) if path.is_file() else "no file; check its name"):
        raise UserError(f"{path}: is {other}")
    try:
        table = KeyedVectors.load_word2vec_format(str(path), limit=limit, **_form(path), unicode_errors="replace")
        if table.vector_size < 2:
            raise ValueError("no lines of a word and numbers, separated by spaces")
    except UserError:
        raise
    except Exception:  # a damaged file can raise any exception
        raise UserError(
            f"{path}: holds no word vectors, or not all of them: a word and its numbers on each line, as word2vec, "
            "GloVe and fastText (.vec) write them",
            fix="download it again",
        ) from None
    return table


def _check_unpacked(file: IO[bytes], path: Path, after_words: bytes) -> None:
    """Refuse (UserError) a compressed file that is many times as large unpacked, or has words or lines without end."""
    unpacked = 0
    while piece := file.read(PIECE):
        unpacked += len(piece)
        has_end = len(piece) < PIECE or after_words in piece
        if not has_end or unpacked > TIMES * largest_content(path):
            reason = "is far larger unpacked" if has_end else f"has a word or a line of more than {PIECE} bytes"
            raise UserError(f"{path}: {reason}: it is no file of word vectors; download it again")
