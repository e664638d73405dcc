"""Tests of word vectors in the formats that gensim alone reads, and of its downloads."""

from __future__ import annotations

import logging
import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.prepare.vector_files import mini_words, options_of, refusal, words_of, write_words
from util.data.words.files import read_words
from util.prepare import embeddings

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

SENTENCES = [["cat", "dog", "cow"]] * 5
TINY = {"min_count": 1, "vector_size": 8, "epochs": 1, "workers": 1, "seed": 1}


def _made(form: str, folder: Path) -> tuple[Path, KeyedVectors]:
    """Return a file of a form and the vectors in it."""
    from gensim.models import FastText, KeyedVectors, Word2Vec
    from gensim.models.fasttext import save_facebook_model

    logging.getLogger("gensim").setLevel(logging.ERROR)
    path = folder / form
    if form.startswith("fasttext"):
        model = FastText(SENTENCES, bucket=20, **TINY)
        save_facebook_model(model, str(path)) if form.endswith(".bin") else model.wv.save(str(path))
        return path, model.wv
    if form.endswith(".model"):
        model = Word2Vec(SENTENCES, **TINY)
        model.save(str(path))
        return path, model.wv
    vectors, words = KeyedVectors(8), words_of("cat", "dog", "cow")
    vectors.add_vectors(list(words), np.stack(list(words.values())))
    vectors.save(str(path), **({"sep_limit": 1} if "apart" in form else {}))
    return path, vectors


@pytest.mark.parametrize("form", ["own.kv", "own_apart.kv", "own.model", "fasttext.kv", "fasttext.bin"])
def test_words_come_out_as_gensim_gives_them(tmp_path: Path, form: str) -> None:
    path, theirs = _made(form, tmp_path)
    ours = read_words(path, ["cat", "cow", "absent"], ["cat", "cow"]).vectors
    assert sorted(ours) == ["cat", "cow"]
    for name, vector in ours.items():
        assert vector == pytest.approx(theirs.vectors[theirs.key_to_index[name]]) and vector.dtype == np.float32


class _Malicious:
    def __reduce__(self) -> tuple:
        return os.system, ("touch trap-has-run",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(_Malicious()),
        pickle.dumps({"key_to_index": {}}),
        b"\x80\x04\x8c\x0cgensim.utils\x8c\x11subprocess.getout\x93.",
        b"\x80\x04cut",
    ],
)
def test_a_file_that_is_no_table_of_words_is_refused(tmp_path: Path, content: bytes, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.kv").write_bytes(content)
    message = refusal(lambda: read_words(tmp_path / "words.kv", ["cat"], ["cat"]))
    assert str(tmp_path) in message and not (tmp_path / "trap-has-run").exists()


def test_downloads_are_gensims_and_fail_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, asked = write_words(tmp_path / "word2vec.bin", mini_words()), []
    monkeypatch.setattr("gensim.downloader.load", lambda name, return_path: asked.append(name) or str(source))
    assert embeddings.run(options_of(tmp_path, download="word2vec-google-news-300")) == 0
    assert asked == ["word2vec-google-news-300"] and (tmp_path / "out/word2vec_mini.npz").exists()

    def unreachable(name: str, return_path: bool) -> str:
        raise OSError("Name or service not known")

    monkeypatch.setattr("gensim.downloader.load", unreachable)
    message = refusal(lambda: embeddings.run(options_of(tmp_path, download="word2vec-google-news-300")))
    assert "could not download these vectors (Name or service not known)" in message
