"""Tests of text vectors from word2vec, GloVe and fastText files against the published rows, and of published files."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.prepare.vector_files import mini_words, refusal, words_of, write_words
from util.data.words.text import class_vectors, name_vectors, read_vectors, table_names
from util.data.words.vectors import ADDED, INSTEAD, build_vectors
from util.prepare.embeddings import dataset_settings

WIDTH = 300


@pytest.fixture(scope="module")
def published(shared: Path) -> dict[str, np.ndarray]:
    return {name: read_vectors(shared / f"embeddings/word2vec_{name}.pkl") for name in ("pascal", "coco")}


@pytest.fixture(scope="module")
def published_words(published: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return vectors of random lengths that the rule turns into the published rows, among misleading words."""
    random = np.random.default_rng(1)
    names = [*table_names(dataset_settings("pascal").classes), *table_names(dataset_settings("coco").classes)]
    rows = dict(zip(names, np.concatenate([published["pascal"], published["coco"]]).astype(np.float64), strict=False))
    words = {}
    for name, row in rows.items():
        if name not in ADDED:
            words[INSTEAD.get(name, name).replace(" ", "_")] = row * random.uniform(1, 5)
    for name in sorted(ADDED):
        first, second = name.split()
        if second in words:
            first, second = second, first
        words.setdefault(first, random.standard_normal(WIDTH) / 10)
        words[second] = rows[name] * random.uniform(1, 5) - words[first]
    misleading = ["aeroplane", "diningtable", "pottedplant", "tvmonitor", *(n.replace(" ", "_") for n in ADDED)]
    misleading += ["Person", "DOG", "tv_monitor", "potted", "plant", "teddy"]
    words |= {name: random.standard_normal(WIDTH) for name in misleading}
    order = random.permutation(list(words))
    return {str(name): words[name].astype(np.float32) for name in order}


@pytest.mark.parametrize("form", ["word2vec.bin.gz", "fasttext.vec.gz", "glove.txt"])
def test_a_file_with_the_same_words_gives_the_published_rows(
    tmp_path: Path, published: dict, published_words: dict, form: str
) -> None:
    source = write_words(tmp_path / form, published_words)
    for name, rows in published.items():
        table, notes = build_vectors(source, dataset_settings(name).classes)
        assert table.dtype == np.float32 and table.shape == rows.shape
        assert np.abs(table - rows).max() < 1e-6
        assert ("diningtable = table" if name == "pascal" else "hot dog = hot + dog") in notes[0]


def _unit(*vectors: np.ndarray) -> np.ndarray:
    total = np.sum(vectors, axis=0)
    return total / np.linalg.norm(total)


@pytest.mark.parametrize(
    ("name", "present", "expected"),
    [
        ("cat", "Cat cat CAT", "cat"),
        ("tv", "TV", "TV"),
        ("garden gnome", "garden_gnome garden gnome", "garden_gnome"),
        ("garden gnome", "Garden_Gnome garden gnome", "Garden_Gnome"),
        ("garden gnome", "garden gnome", "garden gnome"),
        ("t-shirt", "t-shirt t shirt", "t-shirt"),
        ("t-shirt", "t shirt", "t shirt"),
        ("aeroplane", "aeroplane airplane", "airplane"),
        ("diningtable", "dining table diningtable dining_table", "table"),
        ("diningtable", "diningtable dining_table", "diningtable"),
        ("pottedplant", "potted plant", "potted plant"),
        ("tvmonitor", "monitor TV", "TV"),
        ("hot dog", "hot_dog hot dog", "hot dog"),
        ("teddy bear", "teddy_bear teddy bear", "teddy_bear"),
    ],
)
def test_names_are_looked_up_by_the_rule(tmp_path: Path, name: str, present: str, expected: str) -> None:
    words = {"background": np.ones(8), **words_of(*present.split())}
    table, _ = build_vectors(write_words(tmp_path / "word2vec.bin", words), [name])
    assert table[1] == pytest.approx(_unit(*(words[w] for w in expected.split())), abs=1e-6)
    assert table[0] == pytest.approx(np.full(8, 8**-0.5))


def test_names_that_the_file_lacks_are_named_or_get_rows_of_their_own(tmp_path: Path) -> None:
    source = write_words(tmp_path / "glove.txt", words_of("background", "cat"))
    assert "'garden gnome', 'stripe'" in refusal(lambda: build_vectors(source, ["garden gnome", "cat", "stripe"]))
    table, notes = build_vectors(source, ["cat", "blorple"], fill=True)
    assert (table[2] == name_vectors(["blorple"], 8)[1]).all()
    assert "without meaning: blorple" in notes[-1]
    assert table[1] == pytest.approx(_unit(words_of("background", "cat")["cat"]), abs=1e-6)


def test_what_is_written_is_found_by_the_settings(prepare, tmp_path: Path) -> None:
    out, source = tmp_path / "out", write_words(tmp_path / "glove.txt", mini_words())
    words = ("embeddings", "--dataset", "mini", "--name", "glove", "--out", out, "--vectors")
    assert "9 rows" in prepare(*words, source).output
    data = replace(dataset_settings("mini"), text="glove", text_dir=str(out))
    table, given = class_vectors(data), mini_words()
    assert table[1] == pytest.approx(_unit(given["striped"], given["disc"]), abs=1e-6)
    with np.load(out / "glove_mini.npz") as stored:
        assert stored["names"].tolist() == ["background", *data.classes] and stored["vectors"].dtype == np.float32
    before = (out / "glove_mini.npz").stat().st_mtime_ns
    assert "nothing to do" in prepare(*words, source).output
    other = write_words(tmp_path / "word2vec.bin", mini_words())
    assert "another --name" in prepare(*words, other).error
    assert [p.stat().st_mtime_ns for p in out.iterdir()] == [before]


@pytest.mark.parametrize("name", ["pascal", "coco"])
def test_published_files_are_imported_unchanged(
    prepare, tmp_path: Path, shared: Path, published: dict, name: str
) -> None:
    source = shared / f"embeddings/word2vec_{name}.pkl"
    assert prepare("embeddings", "--dataset", name, "--import", source, "--out", tmp_path).code == 0
    data = replace(dataset_settings(name), text="word2vec", text_dir=str(tmp_path))
    assert (class_vectors(data) == published[name]).all()
    error = prepare("embeddings", "--dataset", "mini", "--import", source, "--out", tmp_path).error
    assert f"{len(published[name])} rows" in error


class _Malicious:
    """Runs a command when an ordinary unpickler reads it."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


@pytest.mark.parametrize("option", ["--import", "--vectors"])
def test_a_pickle_that_would_execute_code_is_refused_unread(prepare, tmp_path: Path, option: str) -> None:
    marker, source = tmp_path / "marker", tmp_path / "word2vec_mini.pkl"
    source.write_bytes(pickle.dumps(_Malicious(f"touch {marker}")))
    assert str(source) in prepare("embeddings", "--dataset", "mini", option, source, "--out", tmp_path).error
    assert not marker.exists() and [p.name for p in tmp_path.iterdir()] == [source.name]
    pickle.loads(source.read_bytes())
    assert marker.exists()  # it would have run
