"""Files of word vectors in every form, written for tests."""

import bz2
import gzip
import lzma
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from util.errors import UserError
from util.prepare.embeddings import dataset_settings

FORMS = ("word2vec.bin", "word2vec.bin.gz", "word2vec.txt", "fasttext.vec.gz", "glove.txt", "glove.txt.gz")


def write_words(path: Path, words: dict[str, np.ndarray]) -> Path:
    """Write words as the name of the file says, by gensim."""
    from gensim.models import KeyedVectors  # takes seconds, which not every test process needs

    plain = path.with_suffix("") if path.suffix in (".gz", ".bz2", ".xz") else path
    vectors = KeyedVectors(len(next(iter(words.values()))))
    vectors.add_vectors(list(words), np.stack(list(words.values())).astype(np.float32))
    vectors.save_word2vec_format(str(plain), binary=plain.suffix == ".bin", write_header="glove" not in plain.name)
    if plain != path:
        pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[path.suffix]
        path.write_bytes(pack(plain.read_bytes()))
        plain.unlink()
    return path


def words_of(*names: str, width: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(width).astype(np.float32) for name in names}


def options_of(tmp_path: Path, dataset: str = "mini", **changes) -> Namespace:
    given = {"vectors": None, "published": None, "download": None, "name": "word2vec", "missing": "refuse"}
    return Namespace(**{"dataset": dataset, "out": tmp_path / "out", **given, **changes})


def refusal(call) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def mini_words() -> dict[str, np.ndarray]:
    names = dataset_settings("mini").classes
    return words_of("background", *(word for name in names for word in name.split()))
