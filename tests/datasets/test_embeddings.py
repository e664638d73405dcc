"""Text vectors: published rows and files, vectors made from names, and files of word2vec, GloVe and fastText."""

import bz2
import gzip
import hashlib
import lzma
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.printed import assert_done
from tests.helpers.paths import REPOSITORY
from tests.helpers.read import config_of
from util.config.settings import DataSettings
from util.data.words import text
from util.data.words.text import class_vectors, name_vectors, read_vectors, write_vectors
from util.data.words.vectors import build_vectors, read_words
from util.files import sizes
from util.files.errors import UserError
from util.run.run import Run

FORMS = ("word2vec.bin", "word2vec.bin.gz", "word2vec.txt", "fasttext.vec.gz", "glove.txt", "glove.txt.gz")


def write_words(path: Path, words: dict[str, np.ndarray]) -> Path:
    """Write words as the name of the file says, by gensim."""
    from gensim.models import KeyedVectors  # takes seconds, which not every test process needs

    pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}.get(path.suffix)
    plain = path.with_suffix("") if pack else path
    rows = np.stack(list(words.values())).astype(np.float32)
    vectors = KeyedVectors(rows.shape[1])
    vectors.add_vectors(list(words), rows)
    vectors.save_word2vec_format(str(plain), binary=plain.suffix == ".bin", write_header="glove" not in plain.name)
    if pack:
        path.write_bytes(pack(plain.read_bytes()))
        plain.unlink()
    return path


def words_of(*names: str, width: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(width).astype(np.float32) for name in names}


def dataset_settings(name: str) -> DataSettings:
    return config_of("split0", name).data


CLASSES = ["cat", "dog", "traffic light"]


def _table(rows: int = len(CLASSES) + 1) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, 5)).astype(np.float32)


def _pickled(path: Path, content: object) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


@pytest.fixture
def vectors_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Vectors that a config names lie in ``tmp_path``."""
    monkeypatch.setattr(text, "FOLDER", tmp_path)


def _settings(**changes) -> DataSettings:
    return DataSettings("tiny", "data/tiny", "train.txt", "test.txt", list(CLASSES), **changes)


def test_malicious_pickle_is_refused_and_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"

    class Malicious:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {marker}",)

    path = _pickled(tmp_path / "vectors.pkl", [_table(), np.array([[Malicious()]], object)])
    with pytest.raises(UserError, match=r"vectors\.pkl: .*system"):
        read_vectors(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())  # it would have run
    assert marker.exists()


@pytest.mark.usefixtures("vectors_here")
def test_vectors_for_other_classes_are_refused(tmp_path: Path) -> None:
    _pickled(tmp_path / "word2vec_tiny.pkl", _table(3))
    with pytest.raises(UserError, match=r"word2vec_tiny\.pkl: .*3 rows.* needs 4"):
        class_vectors(_settings())
    write_vectors(tmp_path / "own.npz", _table(), ["cat", "cow", "traffic light"])
    with pytest.raises(UserError, match=r"own\.npz: .*'cow'"):
        class_vectors(_settings(text=f"{tmp_path}/own.npz"))


@pytest.mark.parametrize("value", [0, np.nan, np.inf, 1e-60, 1e300])  # the last two are 0 and infinite in float32
def test_a_class_whose_row_is_zero_or_not_finite_is_named(tmp_path: Path, value: float) -> None:
    table = np.ones((len(CLASSES) + 1, 5))
    table[0] = value  # of the background, which no method reads
    path = _pickled(tmp_path / "own.pkl", table)
    assert (read_vectors(path, CLASSES)[1:] == 1).all()
    table[2:] = value
    with pytest.raises(UserError, match=r"zero or not finite: dog \(row 2\), traffic light \(row 3\)"):
        read_vectors(_pickled(path, table), CLASSES)


@pytest.mark.usefixtures("vectors_here")
def test_vectors_are_found_by_name_of_text_and_data_set(tmp_path: Path) -> None:
    table = _table()
    _pickled(tmp_path / "word2vec_tiny.pkl", table)
    np.savez(tmp_path / "fasttext_tiny.npz", vectors=2 * table)
    np.savez(tmp_path / "word2vec_tiny.npz", vectors=4 * table)  # as those that come along; a user's pickle wins
    _pickled(tmp_path / "own.pkl", 3 * table)
    for factor, named in enumerate(("word2vec", "fasttext", f"{tmp_path}/own.pkl"), 1):
        assert np.array_equal(class_vectors(_settings(text=named)), factor * table)


@pytest.mark.parametrize("name", ["pascal", "coco"])
def test_vectors_that_come_along_are_those_that_their_page_states(name: str) -> None:
    file = REPOSITORY / f"initmodel/word2vec_{name}.npz"
    assert hashlib.sha256(file.read_bytes()).hexdigest() in (REPOSITORY / "initmodel/README.md").read_text()
    data = replace(dataset_settings(name), text="word2vec")
    assert read_vectors(file, data.classes).shape == class_vectors(data).shape == (len(data.classes) + 1, 300)


@pytest.mark.parametrize(
    ("method", "given", "says"), [("symnet", "none", "reads text"), ("ssp", "names", "reads no text")]
)
def test_a_method_is_given_the_vectors_that_it_reads_and_no_others(method: str, given: str, says: str) -> None:
    run = Run(config_of("split0", "pascal", method, overrides=[f"data.text={given}"]))
    with pytest.raises(UserError, match=f"data.text = {given}, but .* {says}.*; set data.text: "):
        _ = run.vectors


def test_name_vectors_are_nearly_at_right_angles_and_repeatable() -> None:
    table = name_vectors(CLASSES)
    assert table.shape == (len(CLASSES) + 1, 300)
    assert np.array_equal(name_vectors(CLASSES), table)
    assert np.abs(table @ table.T - np.eye(len(table))).max() < 0.3


@pytest.mark.parametrize("form", [*FORMS, "word2vec.bin.bz2", "fasttext.vec.xz"])
def test_words_come_out_as_gensim_reads_them(tmp_path: Path, form: str) -> None:
    from gensim.models import KeyedVectors  # takes seconds, which not every test process needs

    words = words_of("cat", "Zürich", "dog", "a", "naïve_café", "tv", width=300)
    source = write_words(tmp_path / form, words)
    theirs = KeyedVectors.load_word2vec_format(str(source), binary=".bin" in form, no_header="glove" in form)
    ours = read_words(source)
    assert ours.key_to_index.keys() == words.keys()
    assert np.array_equal(ours[[*words]], theirs[[*words]])


NO_ROWS = ["dog", "dog 0.5", "dog 0.5 1.5", "dog 0 0 0", "dog 1 nan 2"]  # cut short, or without a direction
NO_WORDS = ["dog\t1\t2\ncat\t3\t4\n", "image_1.jpg mask_1.png\n", "dog,1,2\ncat,3,4\n"]


@pytest.mark.parametrize("text", [*(f"background 1 2 3\n{row}\n" for row in NO_ROWS), *NO_WORDS])
def test_other_tables_and_rows_without_direction_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "glove.txt"
    file.write_text(text)
    with pytest.raises(UserError, match=r"glove\.txt: holds no word vectors"):
        build_vectors(file, ["dog"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"2 300\n" + bytes(2**22), "has a word or a line of more than 1048576 bytes"),
        (b"2 300\ndog " + b"1 " * 2**21, "has a word or a line of more than 1048576 bytes"),
        (b"dog 1 2\n" * 2**18, "is far larger unpacked"),
    ],
    ids=["no word ends", "no line ends", "many rows"],
)
def test_a_compressed_file_is_read_in_pieces_before(tmp_path: Path, content: bytes, said: str, monkeypatch) -> None:
    monkeypatch.setattr(sizes, "ROOM", 2**10)
    file = tmp_path / "words.vec.gz"
    file.write_bytes(gzip.compress(content))
    monkeypatch.setattr("gensim.models.KeyedVectors.load_word2vec_format", None)  # which reads lines whole
    with pytest.raises(UserError, match=said):
        read_words(file)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"PK\x03\x04", "is a zip archive; unpack it"),
        (b"\xba\x16\x4f\x2f", "is a model of fastText"),
        (b"\x80\x04\x95", "is a pickle, as gensim saves vectors"),
        (b"\x93NUMPY", "is an array of NumPy"),
        (b"\x89HDF\r\n", "is an HDF5 file"),
        (b"2 3\ndog \xff\xfe", "holds no word vectors, or not all of them: a word and its numbers"),
    ],
)
def test_other_files_of_vectors_are_refused_in_words(tmp_path: Path, start: bytes, said: str) -> None:
    (tmp_path / "words").write_bytes(start + bytes(100))
    with pytest.raises(UserError, match=r"^[ -~]*$") as caught:
        build_vectors(tmp_path / "words", ["dog"])
    assert f"words: {said}" in str(caught.value)
    with pytest.raises(UserError, match="vectors: is no file; check its name"):
        build_vectors(tmp_path / "vectors", ["dog"])


def test_rare_words_are_found_in_a_second_pass(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("util.data.words.vectors.COMMON", 95)
    words = words_of(*(f"word{i}" for i in range(100)), "background")
    table, _ = build_vectors(write_words(tmp_path / "word2vec.bin", words), ["word98"])
    assert table[1] == pytest.approx(_unit(words["word98"]), abs=1e-6)


def test_vectors_that_are_much_larger_unpacked_are_refused(tmp_path: Path, monkeypatch) -> None:
    table = np.ones((len(CLASSES) + 1, 2000), np.float32)
    np.savez_compressed(tmp_path / "a.npz", vectors=table)
    assert np.array_equal(read_vectors(tmp_path / "a.npz", CLASSES), table)
    monkeypatch.setattr(sizes, "ROOM", 0)
    with pytest.raises(UserError, match="bytes unpacked, the file"):
        read_vectors(tmp_path / "a.npz", CLASSES)


def _unit(*vectors: np.ndarray) -> np.ndarray:
    total = np.sum(vectors, axis=0)
    return total / np.linalg.norm(total)


@pytest.mark.parametrize(
    ("name", "present", "expected"),
    [
        ("tv", "TV Tv", "Tv"),
        ("garden gnome", "Garden_Gnome garden gnome", "Garden_Gnome"),
        ("garden gnome", "garden gnome", "garden gnome"),
        ("t-shirt", "t shirt", "t shirt"),
        ("diningtable", "diningtable dining_table", "diningtable"),
        ("diningtable", "diningtable table", "table"),
        ("pottedplant", "pottedplant potted plant potted_plant", "potted_plant"),
        ("pottedplant", "potted plant", "potted plant"),
        ("hot dog", "hot_dog hot dog", "hot dog"),
        ("stop sign", "stop sign Stop stop_sign", "stop sign"),
    ],
)
def test_names_are_looked_up_by_the_rule(tmp_path: Path, name: str, present: str, expected: str) -> None:
    """Sums of words where the published rows have them."""
    words = words_of("background", *present.split())
    table, _ = build_vectors(write_words(tmp_path / "word2vec.bin", words), [name])
    wanted = _unit(words["background"]), _unit(*(words[word] for word in expected.split()))
    assert table == pytest.approx(np.stack(wanted), abs=1e-6)


def test_class_names_that_the_vectors_lack_are_named(tmp_path: Path) -> None:
    source = write_words(tmp_path / "glove.txt", words_of("background", "cat"))
    with pytest.raises(UserError, match="has no word for garden gnome, stripe;"):
        build_vectors(source, ["garden gnome", "cat", "stripe"])


def test_written_vectors_are_found_by_the_settings(prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(text, "FOLDER", out)
    data = replace(dataset_settings("mini"), text="glove")
    given = words_of("background", *" ".join(data.classes).split())
    source = write_words(tmp_path / "glove.txt", given)
    words = ("embeddings", "--dataset", "mini", "--name", "glove", "--out", out, "--vectors")
    assert "9 rows" in prepare(*words, source).output
    assert class_vectors(data)[1] == pytest.approx(_unit(given["striped"], given["disc"]), abs=1e-6)
    with np.load(out / "glove_mini.npz") as stored:
        assert stored["names"].tolist() == ["background", *data.classes]
        assert stored["vectors"].dtype == np.float32


@pytest.mark.usefixtures("vectors_here")
@pytest.mark.parametrize("name", ["pascal", "coco"])
def test_published_files_are_imported_unchanged(prepare, tmp_path: Path, shared: Path, name: str) -> None:
    source = shared / f"embeddings/word2vec_{name}.pkl"
    published = read_vectors(source)
    words = ("embeddings", "--out", tmp_path, "--vectors", source, "--dataset")
    assert_done(prepare(*words, name))
    assert np.array_equal(class_vectors(replace(dataset_settings(name), text="word2vec")), published)
    assert np.array_equal(read_vectors(REPOSITORY / f"initmodel/word2vec_{name}.npz"), published)
    assert f"{len(published)} rows" in prepare(*words, "mini").error
