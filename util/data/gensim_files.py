"""Word vectors in the formats that gensim alone reads: its own ``.kv`` and ``.model``, and fastText's ``.bin``.

The text and binary forms of word2vec, GloVe and fastText are read by ``word_files.py``, because gensim converts every
number of every row of text: about 2 ms a row of 300 numbers, a quarter of an hour for the 400 000 words of GloVe.
gensim's own files are pickles; a restricted reader accepts its classes and NumPy's alone, and executes no other code.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from util.errors import UserError

FASTTEXT_START, PICKLE_START = b"\xba\x16\x4f\x2f", b"\x80"
OWN_SUFFIXES = (".kv", ".model", ".wordvectors")
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


class _GensimUnpickler(pickle.Unpickler):
    """Unpickles gensim's models and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if name not in MODELS.get(module, ()):
            raise pickle.UnpicklingError(f"it would load {module}.{name}")
        return super().find_class(module, name)


def is_gensims(path: Path, head: bytes) -> bool:
    """Return whether gensim alone reads a file, by its first bytes and its name."""
    return head.startswith(FASTTEXT_START) or (head.startswith(PICKLE_START) and path.suffix in OWN_SUFFIXES)


def read_by_gensim(path: Path, head: bytes) -> tuple[dict[str, int], np.ndarray]:
    """Return the words of a file with their rows, and the table (words, T) of float32.

    Raises:
        UserError: the file is damaged, would execute code, or holds no word vectors.
    """
    logging.getLogger("gensim").setLevel(logging.ERROR)
    try:
        if head.startswith(FASTTEXT_START):
            from gensim.models.fasttext import load_facebook_vectors  # takes a second to import

            vectors = load_facebook_vectors(str(path))
        else:
            from gensim.utils import SaveLoad

            with _restricted():
                loaded = SaveLoad.load(str(path), mmap="r")
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
    return words, np.asarray(table, np.float32)


@contextmanager
def _restricted() -> Iterator[None]:
    """Replace gensim's reader of pickles inside the block."""
    from gensim import utils

    def unpickle(name: str) -> Any:
        with open(name, "rb") as file:
            return _GensimUnpickler(file, encoding="latin1").load()

    before = utils.unpickle
    utils.unpickle = unpickle
    try:
        yield
    finally:
        utils.unpickle = before


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
