"""Reading word2vec, GloVe and fastText files: their vectors, and the files that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.prepare.vector_files import FORMS, mini_words, options_of, refusal, words_of, write_words
from util.data.word_files import read_words
from util.data.word_vectors import build_vectors
from util.prepare import embeddings


@pytest.mark.parametrize("form", [*FORMS, "word2vec.bin.bz2", "fasttext.vec.xz"])
def test_words_come_out_as_gensim_reads_them(tmp_path: Path, form: str) -> None:
    from gensim.models import KeyedVectors  # takes seconds, which not every test process needs

    words = words_of("cat", "Zürich", "dog", "a", "naïve_café", "tv", width=300)
    source = write_words(tmp_path / form, words)
    binary, bare = ".bin" in form, "glove" in form
    theirs = KeyedVectors.load_word2vec_format(str(source), binary=binary, no_header=bare)
    ours = read_words(source, words, words).vectors
    assert set(ours) == set(words)
    for name, vector in ours.items():
        assert (vector == theirs[name]).all() and vector.dtype == np.float32


def test_binary_with_newlines_after_each_word_is_read(tmp_path: Path) -> None:
    words = words_of("cat", "dog", "cow")
    rows = b"".join(name.encode() + b" " + vector.tobytes() + b"\n" for name, vector in words.items())
    (tmp_path / "vectors.bin").write_bytes(b"3 8\n" + rows)
    ours = read_words(tmp_path / "vectors.bin", words, words).vectors
    assert all((ours[name] == vector).all() for name, vector in words.items())


def test_words_with_spaces_in_them_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "glove.txt").write_text("the 1 2 3\ncat at home 9 9 9\ncat 4 5 6\n")
    assert read_words(tmp_path / "glove.txt", ["cat"], ["cat"]).vectors["cat"].tolist() == [4, 5, 6]


@pytest.mark.parametrize("form", ["word2vec.bin", "glove.txt"])
def test_of_a_word_written_twice_the_first_counts(tmp_path: Path, form: str) -> None:
    source = write_words(tmp_path / form, words_of("cat", "dog", "Cat"))
    source.write_bytes(source.read_bytes().replace(b"Cat", b"cat"))
    found = read_words(source, ["cat", "absent"], ["absent"]).vectors["cat"]
    assert found == pytest.approx(words_of("cat")["cat"])


def test_common_words_need_the_start_of_a_file_and_rare_ones_a_second_pass(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("util.data.word_files.COMMON", 95)
    words = words_of(*(f"word{i}" for i in range(100)))
    source = write_words(tmp_path / "word2vec.bin", words)
    rare = read_words(source, ["word5", "word98"], ["word98"]).vectors
    assert (rare["word98"] == words["word98"]).all() and (rare["word5"] == words["word5"]).all()
    source.write_bytes(source.read_bytes()[:-100])
    assert set(read_words(source, ["word5", "word90"], ["word90"]).vectors) == {"word5", "word90"}
    assert "unexpected end" in refusal(lambda: read_words(source, ["word5", "absent"], ["absent"]))


def test_the_end_of_a_text_file_is_not_read_when_all_words_are_found(tmp_path: Path) -> None:
    source = write_words(tmp_path / "glove.txt", words_of(*(f"word{i}" for i in range(100))))
    source.write_bytes(source.read_bytes()[:-30])
    assert set(read_words(source, ["word5", "word90"], ["word90"]).vectors) == {"word5", "word90"}
    assert "cut short" in refusal(lambda: read_words(source, ["word5", "absent"], ["absent"]))


# --- damaged and foreign files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [*FORMS, "word2vec.bin.bz2", "word2vec.bin.xz"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_files_cut_short_are_refused_and_nothing_is_written(tmp_path: Path, form: str, keep: float) -> None:
    source = write_words(
        tmp_path / form, {**words_of(*(f"w{i}" for i in range(60)), width=50), **words_of("cat", width=50)}
    )
    content = source.read_bytes()
    source.write_bytes(content[: int(keep * len(content)) or None] if keep else b"")
    assert str(source) in refusal(lambda: embeddings.run(options_of(tmp_path, vectors=source)))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04 and so on",
        b"\xba\x16\x4f\x2f\x0c\x00",
        b"a text about words\nand nothing else\n",
        b"3 300\nthe 0.1 0.2\nof 0.1 0.3\na 0.1 0.1\n",
        b"3 999999999\n\x00\x01",
        b"2 2\ncat 0 0\nbackground 1 1\n",
        b"2 2\nbackground 1 1\ncat nan 1\n",
        b"2 2\nbackground 1 1\ncat 1\n",
        b"2 2\nbackground 1 1\ncat 1 x\n",
        b"3 2\nbackground 1 1\n1 1 1\n",
        b"9 2\n" + b"\x00" * 9000,
    ],
)
def test_other_files_and_broken_rows_are_refused(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "vectors"
    source.write_bytes(content)
    assert str(source) in refusal(lambda: build_vectors(source, ["cat"]))


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(lambda: build_vectors(tmp_path / "absent.bin", ["cat"]))
    assert "directory" in refusal(lambda: build_vectors(tmp_path, ["cat"]))
    (tmp_path / "out").write_text("a file")
    options = options_of(tmp_path, vectors=write_words(tmp_path / "glove.txt", mini_words()))
    assert "cannot be written" in refusal(lambda: embeddings.run(options))
