"""Class-name vectors out of word2vec, GloVe and fastText files, beside the published rows; published files."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import pickle
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors

from util import cli
from util.data.text import class_vectors, name_vectors, read_vectors, table_names
from util.errors import UserError
from util.prepare import embeddings
from util.prepare.embeddings import ADDED, INSTEAD, build_vectors, dataset_settings, lookups
from util.prepare.word_files import read_words

WIDTH = 300
SHARED_ROWS = ["background", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dog", "horse"]
SHARED_ROWS += ["person", "sheep", "train"]
FORMS = ("word2vec.bin", "word2vec.bin.gz", "word2vec.txt", "fasttext.vec.gz", "glove.txt", "glove.txt.gz")


def _write(path: Path, words: dict[str, np.ndarray]) -> Path:
    """Write words as the name of the file says, by gensim."""
    plain = path.with_suffix("") if path.suffix in (".gz", ".bz2", ".xz") else path
    vectors = KeyedVectors(len(next(iter(words.values()))))
    vectors.add_vectors(list(words), np.stack(list(words.values())).astype(np.float32))
    vectors.save_word2vec_format(str(plain), binary=plain.suffix == ".bin", write_header="glove" not in plain.name)
    if plain != path:
        pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[path.suffix]
        path.write_bytes(pack(plain.read_bytes()))
        plain.unlink()
    return path


def _words(*names: str, width: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(width).astype(np.float32) for name in names}


def _options(tmp_path: Path, dataset: str = "mini", **changes) -> Namespace:
    given = {"vectors": None, "published": None, "name": "word2vec", "out": tmp_path / "out", "missing": "refuse"}
    return Namespace(dataset=dataset, **{**given, **changes})


def _refusal(call) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def published(shared: Path) -> dict[str, np.ndarray]:
    return {name: read_vectors(shared / f"embeddings/word2vec_{name}.pkl") for name in ("pascal", "coco")}


@pytest.fixture(scope="module")
def published_words(published: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return words of random lengths that the rule turns into the published rows, among words that would mislead it."""
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


# --- the rule beside the published rows ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_file_with_the_same_words_gives_the_published_rows(
    tmp_path: Path, published: dict, published_words: dict, form: str
) -> None:
    source = _write(tmp_path / form, published_words)
    for name, rows in published.items():
        table, notes = build_vectors(source, dataset_settings(name).classes)
        assert table.dtype == np.float32 and table.shape == rows.shape
        assert np.abs(table - rows).max() < 1e-6
        assert ("diningtable = table" if name == "pascal" else "hot dog = hot + dog") in notes[0]


def test_published_tables_share_the_rows_that_the_rule_gives_both(published: dict) -> None:
    rows = {k: dict(zip(table_names(dataset_settings(k).classes), v, strict=True)) for k, v in published.items()}
    pairs = {name: name for name in SHARED_ROWS} | {"aeroplane": "airplane", "pottedplant": "potted plant"}
    for mine, theirs in (pairs | {"tvmonitor": "tv"}).items():
        assert (rows["pascal"][mine] == rows["coco"][theirs]).all(), mine
        assert lookups(mine)[0] == lookups(theirs)[0], mine
    assert rows["pascal"]["diningtable"] @ rows["coco"]["dining table"] < 0.9


def test_published_rows_that_are_no_single_word_are_those_that_the_rule_adds(published: dict) -> None:
    """GoogleNews stores 8 significant bits, which a row that is one word shows when its length is given back."""
    for name, rows in published.items():
        summed = set()
        for label, row in zip(table_names(dataset_settings(name).classes), rows.astype(np.float64), strict=True):
            lengths = np.arange(128, 256) / 256 / np.abs(row).max()
            bits = np.frexp(lengths[:, None] * row)[0] * 256
            if np.abs(bits - bits.round()).mean(1).min() > 0.02:  # 0.25 for any numbers
                summed.add(label)
        assert summed == (ADDED if name == "coco" else set())


# --- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [*FORMS, "word2vec.bin.bz2", "fasttext.vec.xz"])
def test_words_come_out_as_gensim_reads_them(tmp_path: Path, form: str) -> None:
    words = _words("cat", "Zürich", "dog", "a", "naïve_café", "tv", width=300)
    source = _write(tmp_path / form, words)
    binary, bare = ".bin" in form, "glove" in form
    theirs = KeyedVectors.load_word2vec_format(str(source), binary=binary, no_header=bare)
    ours = read_words(source, words, words).vectors
    assert set(ours) == set(words)
    for name, vector in ours.items():
        assert (vector == theirs[name]).all() and vector.dtype == np.float32


def test_binary_with_newlines_after_each_word_is_read(tmp_path: Path) -> None:
    words = _words("cat", "dog", "cow")
    rows = b"".join(name.encode() + b" " + vector.tobytes() + b"\n" for name, vector in words.items())
    (tmp_path / "vectors.bin").write_bytes(b"3 8\n" + rows)
    ours = read_words(tmp_path / "vectors.bin", words, words).vectors
    assert all((ours[name] == vector).all() for name, vector in words.items())


def test_rows_reach_over_the_borders_of_what_is_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("util.prepare.word_files.CHUNK", 7)
    words = _words("cat", "a_rather_long_word", "dog")
    ours = read_words(_write(tmp_path / "word2vec.bin", words), words, words).vectors
    assert all((ours[name] == vector).all() for name, vector in words.items())


def test_words_with_spaces_in_them_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "glove.txt").write_text("the 1 2 3\ncat at home 9 9 9\ncat 4 5 6\n")
    assert read_words(tmp_path / "glove.txt", ["cat"], ["cat"]).vectors["cat"].tolist() == [4, 5, 6]


@pytest.mark.parametrize("form", ["word2vec.bin", "glove.txt"])
def test_of_a_word_written_twice_the_first_counts(tmp_path: Path, form: str) -> None:
    source = _write(tmp_path / form, _words("cat", "dog", "Cat"))
    source.write_bytes(source.read_bytes().replace(b"Cat", b"cat"))
    found = read_words(source, ["cat", "absent"], ["absent"]).vectors["cat"]
    assert found == pytest.approx(_words("cat")["cat"])


def test_reading_ends_with_the_last_word_that_is_needed(tmp_path: Path) -> None:
    words = _words(*(f"word{i}" for i in range(100)))
    source = _write(tmp_path / "word2vec.bin", words)
    source.write_bytes(source.read_bytes()[:-100])
    assert set(read_words(source, ["word5", "word90"], ["word90"]).vectors) == {"word5", "word90"}
    assert "cut short" in _refusal(lambda: read_words(source, ["word5", "absent"], ["absent"]))


# --- names to words --------------------------------------------------------------------------------------------------


def _unit(*vectors: np.ndarray) -> np.ndarray:
    total = np.sum(vectors, axis=0)
    return total / np.linalg.norm(total)


@pytest.mark.parametrize(
    ("name", "present", "expected"),
    [
        ("cat", "Cat cat CAT", "cat"),
        ("cat", "Cat CAT", "Cat"),
        ("tv", "TV", "TV"),
        ("Cat", "cat", "cat"),
        ("garden gnome", "garden_gnome garden gnome", "garden_gnome"),
        ("garden gnome", "Garden_Gnome garden gnome", "Garden_Gnome"),
        ("garden gnome", "garden gnome", "garden gnome"),
        ("garden_gnome", "garden gnome", "garden gnome"),
        ("t-shirt", "t-shirt t shirt", "t-shirt"),
        ("t-shirt", "t shirt", "t shirt"),
        ("aeroplane", "aeroplane airplane", "airplane"),
        ("aeroplane", "aeroplane", "aeroplane"),
        ("diningtable", "dining table diningtable dining_table", "table"),
        ("diningtable", "diningtable dining_table", "diningtable"),
        ("pottedplant", "potted plant", "potted plant"),
        ("tvmonitor", "monitor TV", "TV"),
        ("hot dog", "hot_dog hot dog", "hot dog"),
        ("hot dog", "Hot dog cold", "Hot dog"),
        ("teddy bear", "teddy_bear teddy bear", "teddy_bear"),
    ],
)
def test_names_are_looked_up_by_the_rule(tmp_path: Path, name: str, present: str, expected: str) -> None:
    words = {"background": np.ones(8), **_words(*present.split())}
    table, _ = build_vectors(_write(tmp_path / "word2vec.bin", words), [name])
    assert table[1] == pytest.approx(_unit(*(words[w] for w in expected.split())), abs=1e-6)
    assert table[0] == pytest.approx(np.full(8, 8**-0.5))


def test_names_that_the_file_lacks_are_told_with_close_ones(tmp_path: Path) -> None:
    source = _write(tmp_path / "glove.txt", _words("background", "cat", "gardens", "garlic", "strip", "zoo"))
    message = _refusal(lambda: build_vectors(source, ["garden gnome", "cat", "stripe", "x", "y"]))
    assert "'garden gnome', for want of 'garden' (close: gardens" in message and "'stripe' (close: strip)" in message
    assert "1 more" in message and "'cat'" not in message and "--missing names" in message


def test_missing_names_get_rows_of_their_own_when_asked(tmp_path: Path) -> None:
    source = _write(tmp_path / "glove.txt", _words("background", "cat"))
    table, notes = build_vectors(source, ["cat", "blorple"], fill=True)
    assert (table[2] == name_vectors(["blorple"], 8)[1]).all()
    assert "without meaning: blorple" in notes[-1]
    assert table[1] == pytest.approx(_unit(_words("background", "cat")["cat"]), abs=1e-6)
    assert "has no word" in _refusal(lambda: build_vectors(_write(tmp_path / "glove.txt", _words("zoo")), ["a"], True))


# --- the command -----------------------------------------------------------------------------------------------------


def _mini_words() -> dict[str, np.ndarray]:
    names = dataset_settings("mini").classes
    return _words("background", *(word for name in names for word in name.split()))


def test_what_is_written_is_found_by_the_settings(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    options = _options(tmp_path, vectors=_write(tmp_path / "glove.txt", _mini_words()), name="glove")
    assert embeddings.run(options) == 0
    data = dataset_settings("mini")
    data.text, data.text_dir = "glove", str(tmp_path / "out")
    table = class_vectors(data)
    words = _mini_words()
    assert table[1] == pytest.approx(_unit(words["striped"], words["disc"]), abs=1e-6)
    with np.load(tmp_path / "out/glove_mini.npz") as stored:
        assert stored["names"].tolist() == ["background", *data.classes] and stored["vectors"].dtype == np.float32
    assert "9 rows" in capsys.readouterr().out


def test_repeating_does_nothing_and_another_source_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    options = _options(tmp_path, vectors=_write(tmp_path / "word2vec.bin", _mini_words()))
    embeddings.run(options)
    before = (tmp_path / "out/word2vec_mini.npz").stat()
    embeddings.run(options)
    assert "nothing to do" in capsys.readouterr().out
    assert (tmp_path / "out/word2vec_mini.npz").stat().st_mtime_ns == before.st_mtime_ns
    other = _options(tmp_path, vectors=_write(tmp_path / "glove.txt", _mini_words()))
    assert "another --name" in _refusal(lambda: embeddings.run(other))
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["word2vec_mini.npz"]


def test_vectors_of_another_data_set_are_refused(tmp_path: Path) -> None:
    embeddings.run(_options(tmp_path, vectors=_write(tmp_path / "glove.txt", _mini_words())))
    data = dataset_settings("mini")
    data.text, data.classes = str(tmp_path / "out/word2vec_mini.npz"), [*data.classes[1:], data.classes[0]]
    assert "row 1 is 'striped disc', expected 'dotted star'" in _refusal(lambda: class_vectors(data))


@pytest.mark.parametrize("name", ["names", "none", "a/b", "", "glove.npz"])
def test_names_that_settings_could_not_call_are_refused(tmp_path: Path, name: str) -> None:
    source = _write(tmp_path / "glove.txt", _mini_words())
    assert "--name" in _refusal(lambda: embeddings.run(_options(tmp_path, vectors=source, name=name)))


def test_unknown_data_sets_are_named_with_the_nearest(tmp_path: Path) -> None:
    assert "'pascal'" in _refusal(lambda: embeddings.run(_options(tmp_path, "pasca", vectors=tmp_path / "x")))
    assert dataset_settings("config/mini/mini_split0_resnet18.yaml").name == "mini"


# --- published files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pascal", "coco"])
def test_published_files_are_taken_over_unchanged(tmp_path: Path, shared: Path, published: dict, name: str) -> None:
    embeddings.run(_options(tmp_path, name, published=shared / f"embeddings/word2vec_{name}.pkl"))
    data = dataset_settings(name)
    data.text, data.text_dir = "word2vec", str(tmp_path / "out")
    assert (class_vectors(data) == published[name]).all()
    wrong = _options(tmp_path, "mini", published=shared / f"embeddings/word2vec_{name}.pkl")
    assert f"{len(published[name])} rows, mini needs 9" in _refusal(lambda: embeddings.run(wrong))


class _Malicious:
    """Runs a command when an ordinary unpickler reads it."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


@pytest.mark.parametrize("option", ["--import", "--vectors"])
def test_a_pickle_that_would_execute_code_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, option: str
) -> None:
    marker, source = tmp_path / "marker", tmp_path / "word2vec_mini.pkl"
    source.write_bytes(pickle.dumps(_Malicious(f"touch {marker}")))

    def command() -> int:
        parser = cli.Parser()
        embeddings.add_options(parser)
        return embeddings.run(parser.parse_args(["--dataset", "mini", option, str(source), "--out", str(tmp_path)]))

    with pytest.raises(SystemExit) as left:
        cli.main(command)
    message = capsys.readouterr().err
    assert left.value.code == 2 and message.count("\n") == 1 and str(source) in message
    assert not marker.exists() and [p.name for p in tmp_path.iterdir()] == [source.name]
    pickle.loads(source.read_bytes())
    assert marker.exists()  # it would have run


# --- damaged and foreign files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [*FORMS, "word2vec.bin.bz2", "word2vec.bin.xz"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_files_cut_short_are_refused_and_nothing_is_written(tmp_path: Path, form: str, keep: float) -> None:
    source = _write(tmp_path / form, {**_words(*(f"w{i}" for i in range(60)), width=50), **_words("cat", width=50)})
    content = source.read_bytes()
    source.write_bytes(content[: int(keep * len(content)) or None] if keep else b"")
    assert str(source) in _refusal(lambda: embeddings.run(_options(tmp_path, vectors=source)))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"PK\x03\x04 and so on", "unpack"),
        (b"\xba\x16\x4f\x2f\x0c\x00", ".vec"),
        (b"a text about words\nand nothing else\n", "not word vectors"),
        (b"3 300\nthe 0.1 0.2\nof 0.1 0.3\na 0.1 0.1\n", "not word vectors"),
        (b"3 999999999\n\x00\x01", "not word vectors"),
        (b"2 2\ncat 0 0\nbackground 1 1\n", "'cat'"),
        (b"2 2\nbackground 1 1\ncat nan 1\n", "'cat'"),
        (b"2 2\nbackground 1 1\ncat 1\n", "'cat'"),
        (b"2 2\nbackground 1 1\ncat 1 x\n", "'cat'"),
        (b"3 2\nbackground 1 1\n1 1 1\n", "after 2 of 3 words"),
        (b"9 2\n" + b"\x00" * 9000, "damaged after 0"),
    ],
)
def test_other_files_and_broken_rows_are_refused(tmp_path: Path, content: bytes, told: str) -> None:
    source = tmp_path / "vectors"
    source.write_bytes(content)
    message = _refusal(lambda: build_vectors(source, ["cat"]))
    assert told in message and str(source) in message


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in _refusal(lambda: build_vectors(tmp_path / "absent.bin", ["cat"]))
    assert "directory" in _refusal(lambda: build_vectors(tmp_path, ["cat"]))
    (tmp_path / "out").write_text("a file")
    options = _options(tmp_path, vectors=_write(tmp_path / "glove.txt", _mini_words()))
    assert "cannot be written" in _refusal(lambda: embeddings.run(options))
