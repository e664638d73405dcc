"""Text vectors of class names: published tables, vectors made from names, and files of word2vec, GloVe and fastText."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.prepare.vector_files import FORMS, mini_words, options_of, refusal, words_of, write_words
from util.config.settings import DataSettings
from util.data.words.text import class_vectors, name_vectors, read_vectors, write_vectors
from util.data.words.vectors import read_words
from util.errors import UserError
from util.prepare import embeddings

WIDTH = 300
CLASSES = ["cat", "dog", "traffic light"]


def _table(rows: int = len(CLASSES) + 1) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, 5)).astype(np.float32)


def _pickled(path: Path, content: object) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


def _settings(**changes) -> DataSettings:
    return DataSettings("tiny", "data/tiny", "train.txt", "test.txt", list(CLASSES), **changes)


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: [_table(), m], lambda m: np.array([[m]], object)])
def test_malicious_pickle_is_refused_and_does_not_run(tmp_path: Path, wrap) -> None:
    marker = tmp_path / "marker"

    class Malicious:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {marker}",)

    path = _pickled(tmp_path / "vectors.pkl", wrap(Malicious()))
    with pytest.raises(UserError, match=r"vectors\.pkl: .*system"):
        read_vectors(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())  # it would have run
    assert marker.exists()


def test_rows_of_other_classes_are_refused(tmp_path: Path) -> None:
    _pickled(tmp_path / "word2vec_tiny.pkl", _table(3))
    with pytest.raises(UserError, match=r"word2vec_tiny\.pkl: .*3 rows.* needs 4"):
        class_vectors(_settings(text_dir=str(tmp_path)))
    write_vectors(tmp_path / "own.npz", _table(), ["cat", "cow", "traffic light"])
    with pytest.raises(UserError, match=r"own\.npz: .*'cow'"):
        class_vectors(_settings(text=str(tmp_path / "own.npz")))


def test_vectors_are_found_by_name_of_text_and_data_set(tmp_path: Path) -> None:
    _pickled(tmp_path / "word2vec_tiny.pkl", _table())
    np.savez(tmp_path / "fasttext_tiny.npz", vectors=2 * _table())
    _pickled(tmp_path / "own.pkl", 3 * _table())
    assert (class_vectors(_settings(text_dir=str(tmp_path))) == _table()).all()
    assert (class_vectors(_settings(text_dir=str(tmp_path), text="fasttext")) == 2 * _table()).all()
    assert (class_vectors(_settings(text_dir="elsewhere", text=str(tmp_path / "own.pkl"))) == 3 * _table()).all()


def test_name_vectors_are_unit_distinct_and_repeatable() -> None:
    table = name_vectors(CLASSES)
    assert table.shape == (len(CLASSES) + 1, WIDTH) and table.dtype == np.float32
    assert np.linalg.norm(table, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.abs(table @ table.T - np.eye(len(table))).max() < 0.3  # nearly at right angles, as random directions are
    assert (name_vectors(CLASSES) == table).all()


@pytest.mark.parametrize("form", [*FORMS, "word2vec.bin.bz2", "fasttext.vec.xz"])
def test_words_come_out_as_gensim_reads_them(tmp_path: Path, form: str) -> None:
    from gensim.models import KeyedVectors  # takes seconds, which not every test process needs

    words = words_of("cat", "Zürich", "dog", "a", "naïve_café", "tv", width=300)
    source = write_words(tmp_path / form, words)
    binary, bare = ".bin" in form, "glove" in form
    theirs = KeyedVectors.load_word2vec_format(str(source), binary=binary, no_header=bare)
    ours = read_words(source, words, words)
    assert set(ours) == set(words)
    for name, vector in ours.items():
        assert (vector == theirs[name]).all() and vector.dtype == np.float32


def test_words_with_spaces_in_them_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "glove.txt").write_text("the 1 2 3\ncat at home 9 9 9\ncat 4 5 6\n")
    assert read_words(tmp_path / "glove.txt", ["cat"], ["cat"])["cat"].tolist() == [4, 5, 6]


@pytest.mark.parametrize("start", ["\ufeff", "new york city ", "\ufeff4 3\n", " 4 3 \n"])
def test_the_width_is_that_of_most_rows(tmp_path: Path, start: str) -> None:
    first = "1 2 3\n" if "new" in start else "the 1 2 3\n"
    (tmp_path / "some.vec").write_text(f"{start}{first}cat 4 5 6\ndog 7 8 9\na cat 9 9 9\n", encoding="utf-8")
    found = read_words(tmp_path / "some.vec", ["the", "cat", "dog"], ["?"])
    words = {name: row.tolist() for name, row in found.items()}
    assert words == {"cat": [4, 5, 6], "dog": [7, 8, 9]} | ({} if "new" in start else {"the": [1, 2, 3]})


def test_common_words_need_the_start_of_a_file_and_rare_ones_a_second_pass(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("util.data.words.vectors.COMMON", 95)
    words = words_of(*(f"word{i}" for i in range(100)))
    source = write_words(tmp_path / "word2vec.bin", words)
    rare = read_words(source, ["word5", "word98"], ["word98"])
    assert (rare["word98"] == words["word98"]).all() and (rare["word5"] == words["word5"]).all()
    source.write_bytes(source.read_bytes()[:-100])
    assert set(read_words(source, ["word5", "word90"], ["word90"])) == {"word5", "word90"}
    assert "unexpected end" in refusal(lambda: read_words(source, ["word5", "absent"], ["absent"]))


def test_the_end_of_a_text_file_is_not_read_when_all_words_are_found(tmp_path: Path) -> None:
    source = write_words(tmp_path / "glove.txt", words_of(*(f"word{i}" for i in range(100))))
    source.write_bytes(source.read_bytes()[:-30])
    assert set(read_words(source, ["word5", "word90"], ["word90"])) == {"word5", "word90"}
    assert "cut short" in refusal(lambda: read_words(source, ["word5", "absent"], ["absent"]))


def test_a_binary_file_of_fasttext_is_read(tmp_path: Path) -> None:
    from gensim.models import FastText
    from gensim.models.fasttext import save_facebook_model

    sentences = [["cat", "dog", "cow"]] * 5
    model = FastText(sentences, bucket=20, min_count=1, vector_size=8, epochs=1, workers=1, seed=1)
    save_facebook_model(model, str(tmp_path / "cc.bin"))
    found = read_words(tmp_path / "cc.bin", ["cat", "cow", "absent"], ["cat"])
    assert sorted(found) == ["cat", "cow"]
    assert found["cat"] == pytest.approx(model.wv.vectors[model.wv.key_to_index["cat"]])


def test_downloads_are_gensims_and_fail_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, asked = write_words(tmp_path / "word2vec.bin", mini_words()), []
    monkeypatch.setattr("gensim.downloader.load", lambda name, return_path: asked.append(name) or str(source))
    assert embeddings.run(options_of(tmp_path, download="word2vec-google-news-300")) == 0
    assert asked == ["word2vec-google-news-300"] and (tmp_path / "out/word2vec_mini.npz").exists()

    def unreachable(name: str, return_path: bool) -> str:
        raise OSError("Name or service not known")

    monkeypatch.setattr("gensim.downloader.load", unreachable)
    message = refusal(lambda: embeddings.run(options_of(tmp_path, download="word2vec-google-news-300")))
    assert "Name or service not known" in message
