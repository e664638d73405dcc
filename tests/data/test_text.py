"""Tests of class-name vectors: published files, the safe refusal of everything else, and vectors made from names."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from util.config.settings import DataSettings
from util.data.words.text import class_vectors, name_vectors, read_vectors
from util.errors import UserError

WIDTH = 300
CLASSES = ["cat", "dog", "traffic light"]


def _table(rows: int = len(CLASSES) + 1, kind: type = np.float32) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, 5)).astype(kind)


def _pickled(path: Path, content: object, protocol: int = pickle.DEFAULT_PROTOCOL) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def _settings(**changes) -> DataSettings:
    return DataSettings("tiny", "data/tiny", "train.txt", "test.txt", list(CLASSES), **changes)


def _refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_vectors(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


# --- files that are read ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "rows"), [("pascal", 21), ("coco", 81)])
def test_published_vectors_are_unit_rows(shared: Path, name: str, rows: int) -> None:
    table = read_vectors(shared / f"embeddings/word2vec_{name}.pkl")
    assert table.shape == (rows, WIDTH) and table.dtype == np.float32
    assert np.linalg.norm(table[1:], axis=1) == pytest.approx(1, abs=1e-4)
    assert len(np.unique(table, axis=0)) == rows


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_pickled_arrays_of_every_protocol_are_read(tmp_path: Path, protocol: int, kind: type) -> None:
    table = _table(kind=kind)
    read = read_vectors(_pickled(tmp_path / "vectors.pkl", table, protocol))
    assert (read == table.astype(np.float32)).all() and read.dtype == np.float32


# --- files that are refused ------------------------------------------------------------------------------------------


class _Malicious:
    """Runs a command when it is unpickled by an ordinary unpickler."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: [_table(), m], lambda m: np.array([[m]], object)])
@pytest.mark.parametrize("protocol", [0, 2, pickle.HIGHEST_PROTOCOL])
def test_malicious_pickle_is_refused_and_does_not_run(tmp_path: Path, wrap, protocol: int) -> None:
    marker = tmp_path / "marker"
    path = _pickled(tmp_path / "vectors.pkl", wrap(_Malicious(f"touch {marker}")), protocol)
    assert "system" in _refusal(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())  # it would have run
    assert marker.exists()


# --- files that settings name ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [len(CLASSES), len(CLASSES) + 2, 1])
def test_wrong_number_of_rows_is_refused(tmp_path: Path, rows: int) -> None:
    path = _pickled(tmp_path / "word2vec_tiny.pkl", _table(rows))
    with pytest.raises(UserError) as caught:
        class_vectors(_settings(text_dir=str(tmp_path)))
    assert str(path) in str(caught.value) and f"{rows} rows" in str(caught.value) and "needs 4" in str(caught.value)


def test_vectors_are_found_by_name_of_text_and_data_set(tmp_path: Path) -> None:
    _pickled(tmp_path / "word2vec_tiny.pkl", _table())
    np.savez(tmp_path / "fasttext_tiny.npz", vectors=2 * _table())
    _pickled(tmp_path / "own.pkl", 3 * _table())
    assert (class_vectors(_settings(text_dir=str(tmp_path))) == _table()).all()
    assert (class_vectors(_settings(text_dir=str(tmp_path), text="fasttext")) == 2 * _table()).all()
    assert (class_vectors(_settings(text_dir="elsewhere", text=str(tmp_path / "own.pkl"))) == 3 * _table()).all()


# --- vectors made from names -----------------------------------------------------------------------------------------


def test_name_vectors_are_unit_distinct_and_repeatable() -> None:
    table = name_vectors(CLASSES)
    assert table.shape == (len(CLASSES) + 1, WIDTH) and table.dtype == np.float32
    assert np.linalg.norm(table, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.abs(table @ table.T - np.eye(len(table))).max() < 0.3  # nearly at right angles, as random directions are
    assert (name_vectors(CLASSES) == table).all()
