"""Tests of class-name vectors: published files, the safe refusal of everything else, and vectors made from names."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from util.config.settings import DataSettings
from util.data.words.text import class_vectors, name_vectors, read_vectors, write_vectors
from util.errors import UserError

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
