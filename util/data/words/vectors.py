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
from typing import Any, NamedTuple

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
GARBLED = re.compile("[\x00-\x1f\ufffd]")  # in words of a binary file whose rows are not where they are expected
SECOND_WORD = re.compile(rb"([\x21-\x7e]+) ")  # at the beginning of a row
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
    if missing and (not fill or not matches):
        words = ", ".join(map(repr, missing))
        fix = "rename them, or make rows without meaning: --missing names"
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
        stored = [_stored_spelling(word, vectors) for word in words]
        if all(stored):
            return stored
    return []


def _stored_spelling(word: str, vectors: dict[str, np.ndarray]) -> str:
    """Return the first spelling of a word that has a vector; '' if none has."""
    return next((spelling for spelling in _spellings(word) if spelling in vectors), "")


def read_words(path: Path, wanted: Iterable[str], enough: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the wanted words that a file has, each (T,) float32; if a word occurs twice, its first row counts.

    gensim reads binary files. Of text files this module picks the lines of the wanted words: gensim converts every
    number of every line (minutes for GloVe) and stops at the words with spaces that GloVe has.

    Args:
        path: a file of word2vec, GloVe or fastText.
        wanted: the words to read.
        enough: if all of these are among the first words of the file, its rest is not read.

    Raises:
        UserError: the file is missing, of another format, damaged or cut short; or a wanted vector is zero or not
            finite.
    """
    if zipfile.is_zipfile(path):
        raise UserError(f"{path}: is a zip archive; unpack it and name the file in it")
    try:
        rows = _read(path, set(wanted), set(enough))
        for word, row in rows.items():
            if not np.isfinite(row).all() or not row.any():
                raise ValueError(f"the row of '{word}' is not finite or is 0")
        return rows
    except Exception as error:  # a damaged file can raise any exception
        if other := stand_in(path):
            raise UserError(f"{path}: is {other}") from None
        raise UserError(f"{path}: no word vectors of word2vec, GloVe or fastText ({error!r})") from None


def _read(path: Path, wanted: set[str], enough: set[str]) -> dict[str, np.ndarray]:
    from gensim import utils  # takes a second
    from gensim.models.fasttext import load_facebook_vectors

    logging.getLogger("gensim").setLevel(logging.ERROR)
    with utils.open(str(path), "rb") as file:
        head = file.readline(2**18).removeprefix(BOM_UTF8)
        sample = file.read(2**17)
    if head.startswith(FASTTEXT):
        return _rows_in(load_facebook_vectors(str(path)), wanted)
    fields = head.split()
    has_header = len(fields) == 2 and all(text.isdigit() for text in fields)
    if has_header:
        rows, width = map(int, fields)
        is_binary = any(byte < 9 or 13 < byte < 32 for byte in sample[: 2**12])
        if is_binary:
            table = _load_binary(path, rows, enough)
            _refuse_spaces(table, wanted)
            return _rows_in(table, wanted)
    else:
        rows, width = 1, _usual_width([head, *sample.split(b"\n")[:-1]])
    with utils.open(str(path), "rb") as file:
        lines = islice(file, int(has_header), None)
        return _rows_of_text(lines, rows, width, wanted, enough)


def _load_binary(path: Path, rows: int, enough: set[str]) -> Any:
    """Return gensim's table of a binary file of word2vec: of its common words if those are enough, else of all."""
    from gensim.models import KeyedVectors  # takes a second

    load = partial(KeyedVectors.load_word2vec_format, str(path), binary=True, unicode_errors="replace")
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
            fix = "which a binary file cannot hold: it and the word behind it are misread; save the file as text"
            raise ValueError(f"its word '{before} {rest[1].decode()}' has a space, {fix}")


def _rows_in(table: Any, wanted: set[str]) -> dict[str, np.ndarray]:
    """Return the wanted words that a table of gensim has, each (T,) float32."""
    stored = wanted & table.key_to_index.keys()
    return {word: np.array(table.vectors[table.key_to_index[word]], np.float32) for word in stored}


def _usual_width(lines: list[bytes]) -> int:
    """Return how many numbers most lines have behind a word: words may have spaces."""
    widths = [len(line.split()) - 1 for line in lines if line.strip()]
    return mode(sorted(widths) or [0])


def _rows_of_text(
    lines: Iterable[bytes], rows: int, width: int, wanted: set[str], enough: set[str]
) -> dict[str, np.ndarray]:
    """Return the wanted words of lines ``word number ... number``, of which there must be at least ``rows``.

    Words that are joined by underscores may be written with spaces.
    """
    words = {word.encode(): word for word in wanted}
    beginnings = {word.partition(b"_")[0] for word in words if b"_" in word}
    vectors: dict[str, np.ndarray] = {}
    count = 0
    numbers = b""
    for count, line in enumerate(lines, 1):
        if count == 1:
            line = line.removeprefix(BOM_UTF8)
        name, _, numbers = line.partition(b" ")
        if name in beginnings and len(fields := line.split()) > width + 1:
            name, numbers = b"_".join(fields[:-width]), b" ".join(fields[-width:])
        word = words.get(name)
        if word is None or word in vectors:
            continue
        row = _parsed_row(word, numbers.split(), width)
        if row is not None:
            vectors[word] = row
        if enough <= vectors.keys():
            return vectors
    is_cut_short = count < rows or len(numbers.split()) < width
    if is_cut_short or width < 2:
        raise ValueError(f"cut short or no table of numbers: it ends after {count} words")
    return vectors


def _parsed_row(word: str, numbers: list[bytes], width: int) -> np.ndarray | None:
    """Return the row (T,) float32 of a word, None if its line has more numbers: then it is a word with spaces."""
    if len(numbers) < width:
        raise ValueError(f"the row of '{word}' has {len(numbers)} numbers, not {width}")
    if len(numbers) > width:
        return None
    return np.array([float(number) for number in numbers], np.float32)


def download(name: str) -> Path:
    """Return the file of one of gensim's published sets of vectors, downloaded if need be; UserError if it cannot."""
    from gensim import downloader

    try:
        return Path(downloader.load(name, return_path=True))
    except Exception as error:  # a connection can fail in any way
        raise UserError(f"--download {name}: cannot be downloaded ({error!r}); or name a file with --vectors") from None
