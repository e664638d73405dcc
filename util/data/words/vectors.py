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
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from util.data.words.text import name_vectors
from util.files import stand_in
from util.files.errors import UserError

# The departures were derived from the published rows. GoogleNews vectors have 8 significant bits: a normalised row that
# is one word of the file becomes a row of 8-bit numbers when it is multiplied by its original length; a sum of words
# does not. 'dining table' minus 'diningtable' and 'hot dog' minus 'dog' are again rows of 8-bit numbers.
# Aeroplane, pottedplant and tvmonitor have the same rows as COCO's airplane, potted plant and tv.
INSTEAD = {"aeroplane": "airplane", "diningtable": "table", "pottedplant": "potted plant", "tvmonitor": "tv"}
JOINED = {"diningtable": "dining table", "tvmonitor": "tv monitor"}  # tried if the file lacks the word above as well
ADDED = {"baseball bat", "baseball glove", "dining table", "hair drier", "hot dog", "parking meter", "sports ball"}
ADDED |= {"stop sign", "traffic light", "wine glass"}
COMMON = 500_000  # rows that are read first; files are sorted by frequency
GARBLED = re.compile("[\x00-\x1f\ufffd]")  # in words of a binary file whose rows are not where they are expected
SECOND_WORD = re.compile(rb"([\x21-\x7e]+) ")  # at the beginning of a row
FASTTEXT = b"\xba\x16\x4f\x2f"  # first bytes of fastText's .bin
WORDS_PLACE = 64  # of the number of words there: after two numbers, twelve settings, and one of 8 bytes
COMPRESSED = (".gz", ".bz2", ".xz")  # suffixes of what gensim unpacks


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
    """Return the matches of the names that a file has words for."""
    lookups = {name: _lookups(name) for name in names}
    best: set[str] = set()
    wanted: set[str] = set()
    for name_lookups in lookups.values():
        best.update(name_lookups[0])
        for words in name_lookups:
            for word in words:
                wanted.update(_spellings(word))
    vectors = read_words(source, wanted, enough=best)
    matches = {}
    for name in names:
        stored = _first_stored(lookups[name], vectors)
        if stored:
            vector = np.sum([vectors[word].astype(np.float64) for word in stored], axis=0)
            matches[name] = Match(stored, vector)
    return matches


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


def _first_stored(lookups: list[list[str]], vectors: dict[str, np.ndarray]) -> list[str]:
    """Return the words, as a file spells them, of the first lookup of which it has all; none if there is no such."""
    for words in lookups:
        stored = []
        for word in words:
            stored += [spelling for spelling in _spellings(word) if spelling in vectors][:1]
        if len(stored) == len(words):
            return stored
    return []


def read_words(path: Path, wanted: Iterable[str], enough: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the wanted words that a file has, each (T,) float32; if a word occurs twice, its first row counts.

    Args:
        path: a file of word2vec, GloVe or fastText, as gensim reads it.
        wanted: the words to read.
        enough: if all of these are among the first words of the file, its rest is not read.

    Raises:
        UserError: the file is missing, of another format, damaged or cut short; or a wanted vector is not finite or
            is one number.
    """
    if zipfile.is_zipfile(path):
        raise UserError(f"{path}: is a zip archive; unpack it and name the file in it")
    try:
        return _read(path, set(wanted), set(enough))
    except Exception as error:  # a damaged file can raise any exception
        if other := stand_in(path):
            raise UserError(f"{path}: is {other}") from None
        raise UserError(f"{path}: holds no word vectors of word2vec, GloVe or fastText ({error!r})") from None


def _read(path: Path, wanted: set[str], enough: set[str]) -> dict[str, np.ndarray]:
    logging.getLogger("gensim").setLevel(logging.ERROR)
    table = _load(path, wanted, enough)
    if table.vector_size < 2:
        raise ValueError("no lines of a word and numbers, separated by spaces")
    stored = wanted & table.key_to_index.keys()
    rows = {word: np.array(table.vectors[table.key_to_index[word]], np.float32) for word in stored}
    for word, row in rows.items():
        if not np.isfinite(row).all() or np.ptp(row) == 0:  # gensim repeats the number of a line that has only one
            raise ValueError(f"the row of '{word}' is not finite, or is one number")
    return rows


def _load(path: Path, wanted: set[str], enough: set[str]) -> Any:
    """Return gensim's table of a file: of its common words if those are enough, else of all."""
    from gensim import utils  # takes a second
    from gensim.models.fasttext import load_facebook_vectors

    with utils.open(str(path), "rb") as file:
        head = file.readline(2**18)
        sample = file.read(2**12)
        if head.startswith(FASTTEXT):
            _check_words((head + sample)[WORDS_PLACE:], path)
            return load_facebook_vectors(str(path))
        fields = head.split()
        has_header = len(fields) == 2
        if has_header and any(byte < 9 or 13 < byte < 32 for byte in sample):
            table = _load_part(path, int(fields[0]), enough, binary=True)
            _refuse_spaces(table, wanted)
            return table
        rows = int(fields[0]) if has_header else 1 + sample.count(b"\n") + sum(1 for _ in file)
    try:
        return _load_part(path, rows, enough, no_header=not has_header)
    except ValueError as error:
        one_word = int(fields[1]) + 1 if has_header else len(fields)
        fix = f"if words have spaces, as in GloVe 840B, keep the other lines: awk 'NF == {one_word}' FILE > NEW"
        raise ValueError(f"{error}; {fix}") from None


def _check_words(stated: bytes, path: Path) -> None:
    """Refuse (ValueError) a file of fastText that states more words than it has bytes; gensim would look for all."""
    words = int.from_bytes(stated[:4], "little")
    if path.suffix not in COMPRESSED and words > path.stat().st_size:
        raise ValueError(f"states {words} words, more than the file has bytes")


def _load_part(path: Path, rows: int, enough: set[str], **form: bool) -> Any:
    from gensim.models import KeyedVectors

    load = partial(KeyedVectors.load_word2vec_format, str(path), unicode_errors="replace", **form)
    table = load(limit=COMMON)
    if rows > COMMON and not enough <= table.key_to_index.keys():
        table = load()
    return table


def _refuse_spaces(table: Any, wanted: set[str]) -> None:
    """Refuse (ValueError) a table of a binary file of which a wanted word is misread, as one with a space is there.

    A space ends a word there: of ``hot dog`` the bytes ``dog`` become the first numbers of ``hot``, and the last
    numbers of that row the beginning of the next word.
    """
    words = table.index_to_key
    for place in range(1, len(words)):
        if not words[place] or not GARBLED.search(words[place]):  # gensim leaves places of repeated words empty
            continue
        before = words[place - 1]
        rest = SECOND_WORD.match(table.vectors[place - 1].tobytes())
        is_lost = any(words[place].endswith(word) for word in wanted - table.key_to_index.keys())
        if rest and (before in wanted or is_lost):
            fix = "which a binary file cannot hold: it and the word behind it are misread; join names by underscores"
            raise ValueError(f"its word '{before} {rest[1].decode()}' has a space, {fix}")


def download(name: str) -> Path:
    """Return the file of one of gensim's published sets of vectors, downloaded if need be; UserError if it cannot."""
    from gensim import downloader

    try:
        return Path(downloader.load(name, return_path=True))
    except Exception as error:  # a connection can fail in any way
        raise UserError(f"--download {name}: cannot be downloaded ({error!r}); or name a file with --vectors") from None
