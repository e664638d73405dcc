"""Words and their vectors from large files: word2vec, GloVe, fastText and gensim's own, plain or compressed.

gensim reads binary files. Of text files this module picks the lines of the wanted words: gensim converts every number
of every line (minutes for GloVe) and stops at the words with spaces that GloVe has.
"""

from __future__ import annotations

import difflib
import logging
import pickle
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from util.errors import UserError
from util.unpickle import RestrictedUnpickler

COMMON = 500_000  # rows of a binary file that are read first; files are sorted by frequency
FASTTEXT = b"\xba\x16\x4f\x2f"  # first bytes of fastText's .bin
OWN_SUFFIXES = (".kv", ".model", ".wordvectors")  # of gensim's files, which are pickles
GENSIM = {
    "gensim.models.keyedvectors": {"KeyedVectors"},
    "gensim.models.word2vec": {"Word2Vec"},
    "gensim.models.fasttext": {"FastText", "FastTextKeyedVectors"},
    "gensim.utils": {"call_on_class_only"},
    "collections": {"defaultdict"},
    "builtins": {"int", "hash"},
    "numpy.random._pickle": {"__randomstate_ctor", "__bit_generator_ctor"},
    "numpy.random._mt19937": {"MT19937"},
    **{f"numpy.{core}.multiarray": {"_reconstruct", "scalar"} for core in ("core", "_core")},
}


@dataclass
class Words:
    """Vectors by word, each (T,) float32, and words of the file that begin like a requested one."""

    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    def close_to(self, word: str) -> list[str]:
        """Return up to three words of the file with a spelling similar to ``word``."""
        return difflib.get_close_matches(word, self.others, 3, 0.7)


def read_words(path: Path, wanted: Iterable[str], enough: Iterable[str]) -> Words:
    """Return the wanted words that a file has; if a word occurs twice, its first row counts.

    Args:
        wanted: words to look for.
        enough: if all of these are among the first words, the rest of the file is not read.

    Raises:
        UserError: the file is missing, of another format, damaged or cut short; or a wanted vector is zero or not
            finite.
    """
    names, needed = set(wanted), set(enough)
    try:
        words = _read(path, names, needed)
    except Exception as error:  # a damaged file can raise any exception
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(
            f"{path}: cannot be read as word vectors ({reason}); expected word2vec's binary or text form, GloVe's "
            "text, fastText's .vec or .bin, or gensim's .kv or .model"
        ) from None
    for name, row in words.vectors.items():
        if not np.isfinite(row).all() or not row.any():
            raise UserError(f"{path}: the row of '{name}' is not finite or is 0; use another file")
    return words


def _read(path: Path, wanted: set[str], enough: set[str]) -> Words:
    from gensim import utils  # takes a second
    from gensim.models import KeyedVectors
    from gensim.models.fasttext import load_facebook_vectors

    logging.getLogger("gensim").setLevel(logging.ERROR)
    with path.open("rb") as raw:
        start = raw.read(len(FASTTEXT))
    if start == FASTTEXT:
        return _chosen(load_facebook_vectors(str(path)), wanted)
    if path.suffix in OWN_SUFFIXES:
        return _chosen(_own(path), wanted)
    with utils.open(str(path), "rb") as file:
        head, sample = file.readline(2**18), file.read(2**12)
    fields = head.split()
    header = len(fields) == 2 and all(text.isdigit() for text in fields)
    if header and any(byte < 9 or 13 < byte < 32 for byte in sample):
        known = KeyedVectors.load_word2vec_format(str(path), binary=True, limit=COMMON, unicode_errors="replace")
        if not enough <= known.key_to_index.keys() and int(fields[0]) > COMMON:
            known = KeyedVectors.load_word2vec_format(str(path), binary=True, unicode_errors="replace")
        return _chosen(known, wanted)
    width = int(fields[1]) if header else len(fields) - 1
    with utils.open(str(path), "rb") as file:
        rows = islice(file, 1, 1 + int(fields[0])) if header else file
        return _of_text(rows, width, int(fields[0]) if header else None, wanted, enough)


def _of_text(lines: Iterable[bytes], width: int, rows: int | None, wanted: set[str], enough: set[str]) -> Words:
    """Return the wanted words of lines ``word number ... number``."""
    words, starts = Words(), {name[:3].lower() for name in wanted}
    count, numbers = 0, b""
    for count, line in enumerate(lines, 1):  # noqa: B007
        name, _, numbers = line.partition(b" ")
        word = name.decode(errors="replace")
        if word in wanted and word not in words.vectors:
            if len(fields := numbers.split()) <= width:  # others are words with spaces
                words.vectors[word] = np.array([float(text) for text in fields], np.float32)
            if word in words.vectors and len(words.vectors[word]) != width:
                raise ValueError(f"the row of '{word}' has {len(words.vectors[word])} numbers, not {width}")
            if enough <= words.vectors.keys():
                return words
        elif word[:3].lower() in starts:
            words.others.append(word)
    if width < 2 or len(numbers.split()) < width or count < (rows or 0):
        raise ValueError(f"cut short or no table of numbers: it ends after {count} words")
    return words


def _chosen(vectors: Any, wanted: set[str]) -> Words:
    """Return the wanted words of gensim's table."""
    starts = {name[:3].lower() for name in wanted}
    found = {
        word: np.array(vectors.vectors[vectors.key_to_index[word]], np.float32)
        for word in wanted & vectors.key_to_index.keys()
    }
    return Words(found, [word for word in vectors.key_to_index if word[:3].lower() in starts and word not in wanted])


def _own(path: Path) -> Any:
    """Return the table of a file of gensim, read without executing code in it."""
    from gensim import utils

    def unpickle(name: str) -> Any:
        with open(name, "rb") as file:
            return RestrictedUnpickler(file, GENSIM).load()

    before, utils.unpickle = utils.unpickle, unpickle
    try:
        loaded = utils.SaveLoad.load(str(path), mmap="r")
    except pickle.UnpicklingError as error:
        raise ValueError(f"not safe: {error}") from None
    finally:
        utils.unpickle = before
    return getattr(loaded, "wv", loaded)


def download(name: str) -> Path:
    """Return the file of one of gensim's published sets of vectors, downloaded unless it is there.

    Raises:
        UserError: there is no such set, or no connection.
    """
    from gensim import downloader

    try:
        return Path(downloader.load(name, return_path=True))
    except Exception as error:  # a connection can fail in any way
        reason = str(error) or type(error).__name__
        raise UserError(
            f"--download {name}: gensim could not download these vectors ({reason}); check the name and connection, "
            "or bring the file to this machine and name it with --vectors"
        ) from None
