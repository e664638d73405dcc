"""Word vectors read by gensim: word2vec's two forms, GloVe, fastText's ``.vec`` and ``.bin``, ``.kv`` and ``.model``.

gensim's own files are pickles; a restricted reader accepts its classes and NumPy's alone, and executes no other code.
This module takes a second to import; import it where a file is read.
"""

from __future__ import annotations

import io
import logging
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from gensim import downloader, utils
from gensim.models import KeyedVectors
from gensim.models.fasttext import load_facebook_vectors

from util.errors import UserError

MODELS = {
    "gensim.models.keyedvectors": {"KeyedVectors"},
    "gensim.models.word2vec": {"Word2Vec"},
    "gensim.models.fasttext": {"FastText", "FastTextKeyedVectors"},
    "gensim.utils": {"call_on_class_only"},
    "collections": {"defaultdict"},
    "builtins": {"int", "hash"},
    "numpy": {"ndarray", "dtype"},
    "numpy.random._pickle": {"__randomstate_ctor", "__bit_generator_ctor"},
    "numpy.random._mt19937": {"MT19937"},
    **{f"numpy.{core}.multiarray": {"_reconstruct", "scalar"} for core in ("core", "_core")},
    **{f"numpy.{core}.numeric": {"_frombuffer"} for core in ("core", "_core")},
}
ROW = "row"  # the only word of a file of one row

logging.getLogger("gensim").setLevel(logging.ERROR)


class ChosenWords(KeyedVectors):
    """gensim's table of a file of which it stores the wanted rows alone, so that memory does not grow with the file.

    gensim's reader asks this table of every word whether the word is there already, and adds the row if it is not.
    """

    wanted: frozenset[str] = frozenset()
    see: Callable[[str], object]  # is told every word that is not wanted

    def __init__(self, vector_size: int, count: int = 0, dtype: type = np.float32):
        super().__init__(vector_size, 0, dtype)
        self.chosen: dict[str, np.ndarray] = {}

    def has_index_for(self, key: str) -> bool:
        """Count a row; return False for the first row of a wanted word."""
        self.next_index += 1  # gensim subtracts the rows that it has read from those that it shall read
        if key not in self.wanted:
            type(self).see(key)
        return key not in self.wanted or key in self.chosen

    def add_vector(self, key: str, vector: Any) -> int:
        """Store a row."""
        self.chosen[key] = np.array(vector, np.float32)
        return len(self.chosen) - 1

    def set_vecattr(self, key: str, attr: str, val: Any) -> None:
        """Store no counts of words."""


def read_binary(
    stream: Any, wanted: set[str], limit: int | None, see: Callable[[str], object]
) -> dict[str, np.ndarray]:
    """Return the rows of the wanted words of word2vec's binary form; of a word written twice the first counts.

    Args:
        stream: the decompressed file, with ``read`` and ``readline``; it is closed.
        limit: the number of rows to read; None for all.
        see: is called with every other word.

    Raises:
        EOFError: the file ends before the number of rows of its header.
    """
    table: Any = type("_Chosen", (ChosenWords,), {"wanted": frozenset(wanted), "see": staticmethod(see)})
    with _replaced("open", lambda name, mode: stream):
        return table.load_word2vec_format("", binary=True, limit=limit, unicode_errors="replace").chosen


def read_row(numbers: list[bytes]) -> np.ndarray | None:
    """Return the numbers (T,) of a row of a text form; None if they are not numbers."""
    text = f"1 {len(numbers)}\n{ROW} ".encode() + b" ".join(numbers) + b"\n"
    with _replaced("open", lambda name, mode: io.BytesIO(text)):
        try:
            return KeyedVectors.load_word2vec_format("", binary=False)[ROW]
        except ValueError:
            return None


def read_whole(path: Path, fasttext: bool) -> tuple[dict[str, int], np.ndarray]:
    """Return the words of fastText's ``.bin`` or of a file of gensim with their rows, and the table (words, T).

    Raises:
        UserError: the file is damaged, too large, would execute code, or holds no word vectors.
    """
    try:
        if hasattr(os, "sysconf") and path.stat().st_size > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
            raise MemoryError
        if fasttext:
            vectors = load_facebook_vectors(str(path))
        else:
            with _replaced("unpickle", _unpickle):
                loaded = utils.SaveLoad.load(str(path), mmap="r")
            vectors = getattr(loaded, "wv", loaded)
        words, table = vectors.key_to_index, vectors.vectors
        if not isinstance(words, dict) or not isinstance(table, np.ndarray) or table.ndim != 2:
            raise ValueError("it holds no table of words")
        if any(type(row) is not int or not 0 <= row < len(table) for row in words.values()):
            raise ValueError("its words name rows that it does not have")
    except MemoryError:
        raise UserError(f"{path}: there is not enough memory for this file; use a text or .vec file instead") from None
    except Exception as error:  # a damaged file can raise any exception
        raise UserError(
            f"{path}: cannot be read by gensim, damaged or not safe ({str(error) or type(error).__name__}); download "
            "it again, or store it with gensim's save_word2vec_format"
        ) from None
    return words, table


class _GensimUnpickler(pickle.Unpickler):
    """Unpickles gensim's models and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if name not in MODELS.get(module, ()):
            raise pickle.UnpicklingError(f"it would load {module}.{name}")
        return super().find_class(module, name)


def _unpickle(name: str) -> Any:
    with open(name, "rb") as file:
        return _GensimUnpickler(file, encoding="latin1").load()


@contextmanager
def _replaced(name: str, function: Callable) -> Iterator[None]:
    """Replace a function by which gensim opens or unpickles files inside the block."""
    before = getattr(utils, name)
    setattr(utils, name, function)
    try:
        yield
    finally:
        setattr(utils, name, before)


def download(name: str) -> Path:
    """Return the file of one of gensim's published sets of vectors, downloaded unless it is there.

    Raises:
        UserError: there is no such set, or no connection.
    """
    try:
        return Path(downloader.load(name, return_path=True))
    except Exception as error:  # a connection can fail in any way
        reason = str(error) or type(error).__name__
        raise UserError(
            f"--download {name}: gensim could not download these vectors ({reason}); check the name and connection, "
            "or bring the file to this machine and name it with --vectors"
        ) from None
