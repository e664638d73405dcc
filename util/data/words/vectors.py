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
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from util.data.words.text import name_vectors
from util.files import stand_in
from util.files.errors import UserError

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

# The departures were derived from the published rows. GoogleNews vectors have 8 significant bits: a normalised row that
# is one word of the file becomes a row of 8-bit numbers when it is multiplied by its original length; a sum of words
# does not. 'dining table' minus 'diningtable' and 'hot dog' minus 'dog' are again rows of 8-bit numbers.
# Aeroplane, pottedplant and tvmonitor have the same rows as COCO's airplane, potted plant and tv.
INSTEAD = {"aeroplane": "airplane", "diningtable": "table", "pottedplant": "potted plant", "tvmonitor": "tv"}
JOINED = {"diningtable": "dining table", "tvmonitor": "tv monitor"}  # tried if the file lacks the word above as well
ADDED = {"baseball bat", "baseball glove", "dining table", "hair drier", "hot dog", "parking meter", "sports ball"}
ADDED |= {"stop sign", "traffic light", "wine glass"}
COMMON = 500_000  # rows that are read first; files are sorted by frequency
FASTTEXT = b"\xba\x16\x4f\x2f"  # first bytes of fastText's .bin


class Match(NamedTuple):
    """The words that a file has for a name, as it spells them, and the sum of their vectors (T,) float64."""

    words: list[str]
    vector: np.ndarray


def build_vectors(source: Path, classes: list[str], fill: bool = False) -> tuple[np.ndarray, list[str]]:
    """Return unit rows (classes + 1, T) float32 by this module's rule, and lines that list the exceptional rows.

    With ``fill`` names that the file lacks have rows that depend on the name alone; else they are a UserError. Other
    errors as ``read_words``.
    """
    names = ["background", *classes]
    matches = _find(source, names)
    missing = [name for name in names if name not in matches]
    can_fill = fill and matches
    if missing and not can_fill:
        words = ", ".join(map(repr, missing))
        fix = "rename the classes, or make rows without meaning for them: --missing names"
        raise UserError(f"{source}: has no word for {words}; {fix}")
    width = len(next(iter(matches.values())).vector)
    rows = []
    for name in names:
        match = matches.get(name)
        rows.append(name_vectors([name], width)[1] if match is None else match.vector)
    table = np.stack(rows)
    unit_rows = table / np.linalg.norm(table, axis=1, keepdims=True)
    return unit_rows.astype(np.float32), _notes(matches, missing)


def _notes(matches: dict[str, Match], missing: list[str]) -> list[str]:
    """Return the lines on names that were looked up under other spellings, and on those that a file lacks."""
    notes = []
    respelt = [f"{name} = {' + '.join(match.words)}" for name, match in matches.items() if match.words != [name]]
    if respelt:
        notes.append(f"looked up under other spellings: {', '.join(respelt)}")
    if missing:
        notes.append(f"made from the name alone, without meaning: {', '.join(missing)}")
    return notes


def find_row(source: Path, name: str) -> np.ndarray | None:
    """Return the unit row (T,) float32 of one name, None if the file has no word for it; errors as ``read_words``."""
    match = _find(source, [name]).get(name)
    if match is None:
        return None
    return (match.vector / np.linalg.norm(match.vector)).astype(np.float32)


def _find(source: Path, names: list[str]) -> dict[str, Match]:
    """Return the matches of the names that a file has words for; errors as ``read_words``."""
    lookups = {name: _lookups(name) for name in names}
    table = read_words(source, COMMON)
    has_all = all(_first_stored(best[:1], table) for best in lookups.values())
    if len(table) == COMMON and not has_all:
        table = read_words(source)
    matches = {}
    for name in names:
        stored = _first_stored(lookups[name], table)
        if stored:
            rows = [_row(table, word, source) for word in stored]
            matches[name] = Match(stored, np.sum(rows, axis=0))
    return matches


def _row(table: KeyedVectors, word: str, source: Path) -> np.ndarray:
    """Return the vector of a word, (T,) float64; UserError: it is not finite, or is one number."""
    row = table.get_vector(word).astype(np.float64)
    if not np.isfinite(row).all() or np.ptp(row) == 0:  # gensim repeats the number of a line that has only one
        raise UserError(f"{source}: holds no word vectors: the row of '{word}' is not finite, or is one number")
    return row


def _lookups(name: str) -> list[list[str]]:
    """Return the words under which a name is looked up, the best first; the vectors of each list are added."""
    lookups = []
    for spelt in dict.fromkeys((INSTEAD.get(name, name), name, JOINED.get(name, name))):
        words = re.split(r"[\s_]+", spelt.strip())
        if spelt not in ADDED or len(words) == 1:
            lookups.append(["_".join(words)])
        if len(words) > 1:
            lookups.append(words)
        parts = [part for word in words for part in word.split("-") if part]
        if len(parts) > len(words):
            lookups.append(parts)
    return lookups


def _spellings(word: str) -> list[str]:
    titled = "_".join(part.capitalize() for part in word.split("_"))
    return [word, word.lower(), word.capitalize(), titled, word.upper()]


def _first_stored(lookups: list[list[str]], table: KeyedVectors) -> list[str]:
    """Return the words, as a file spells them, of the first lookup of which it has all; none if there is no such."""
    for words in lookups:
        stored = []
        for word in words:
            stored += [spelling for spelling in _spellings(word) if spelling in table.key_to_index][:1]
        if len(stored) == len(words):
            return stored
    return []


def read_words(path: Path, limit: int | None = None) -> KeyedVectors:
    """Return gensim's table of the first words of a file of word2vec, GloVe or fastText, default all.

    UserError: the file is missing, of another format, damaged or cut short.
    """
    from gensim.models import KeyedVectors  # takes a second
    from gensim.models.fasttext import load_facebook_vectors
    from gensim.utils import open as unpacked

    logging.getLogger("gensim").setLevel(logging.ERROR)
    try:
        with unpacked(str(path), "rb") as file:
            head = file.readline(2**18)
            sample = file.read(2**12)
        if head.startswith(FASTTEXT):
            return load_facebook_vectors(str(path))
        has_header = len(head.split()) == 2
        is_binary = has_header and any(byte < 9 or 13 < byte < 32 for byte in sample)
        form = {"binary": is_binary, "no_header": not has_header, "unicode_errors": "replace"}
        table = KeyedVectors.load_word2vec_format(str(path), limit=limit, **form)
        if table.vector_size < 2:
            raise ValueError("no lines of a word and numbers, separated by spaces")
    except Exception as error:  # a damaged file can raise any exception
        problem = (
            f"is {other}"
            if (other := stand_in(path))
            else f"holds no word vectors of word2vec, GloVe or fastText ({error!r})"
        )
        raise UserError(f"{path}: {problem}") from None
    return table


def download(name: str) -> Path:
    """Return the file of one of gensim's published sets of vectors, downloaded if need be; UserError if it cannot."""
    from gensim import downloader

    try:
        return Path(downloader.load(name, return_path=True))
    except Exception as error:  # a connection can fail in any way
        raise UserError(f"--download {name}: cannot be downloaded ({error!r}); or name a file with --vectors") from None
