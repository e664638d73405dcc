"""Text vectors of class names: row 0 is background, row c is class c; pickled files are read without executing code."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np

from util.config.settings import DataSettings
from util.files.errors import UserError, as_user_error, closest
from util.files.pickles import load_plain
from util.files.project import project_path
from util.files.sizes import check_unpacked, largest_content
from util.files.writing import write_atomically

NAMES = "names"  # data.text: vectors made from the names themselves
NO_TEXT = "none"
USUAL = {"word2vec", NAMES, NO_TEXT}  # values of data.text
FOLDER = "initmodel"  # of vectors that ``data.text`` names
NAME_VECTOR_WIDTH = 300
SUFFIXES = (".pkl", ".npz")  # in this order: the shipped files are .npz, and a pickle beside one is of the user


def read_vectors(path: Path, classes: list[str] | None = None) -> np.ndarray:
    """Return the vectors of a file, (classes + 1, T) float32: ``.npz`` (array ``vectors``) or a pickled array.

    The names of the classes, if given, are compared with the number of rows and the array ``names`` of an ``.npz``.
    UserError: the file is missing or damaged, holds anything but one numeric table, has rows of other classes, or a
    class's row that is zero or not finite. The background's row is read by no method, and may be anything.
    """
    with as_user_error(
        Exception,  # which a damaged pickle can raise, of any kind
        before=f"{path}: no text vectors that can be read safely (",
        after="); make them by prepare.py embeddings, or --set data.text=names",
    ):
        table, names = _read_table(path)
        if not isinstance(table, np.ndarray) or table.ndim != 2 or table.dtype.kind != "f":
            raise ValueError("no table (classes + 1, width) of numbers")
        if table.nbytes > largest_content(path):
            raise ValueError(f"its table has {table.nbytes} bytes, more than the file")
    if classes is not None:
        _check_rows(path, len(table), names, expected=["background", *classes])
    with np.errstate(over="ignore"):  # a number that is too large becomes infinite
        vectors = np.ascontiguousarray(table, np.float32)
    _check_values(path, vectors, classes)
    return vectors


def _read_table(path: Path) -> tuple[np.ndarray, list[str] | None]:
    """Return the array of a file and the names of its rows, None where it has none; a damaged file raises anything."""
    if path.suffix != ".npz":
        return load_plain(path.read_bytes()), None
    with zipfile.ZipFile(path) as archive:
        check_unpacked(archive, path)
    with np.load(path, allow_pickle=False) as stored:
        table = stored["vectors"]
        names = stored["names"].tolist() if "names" in stored else None
    return table, names


def _check_rows(path: Path, rows: int, names: list[str] | None, expected: list[str]) -> None:
    """Refuse (UserError) a table whose rows, or their names, are not those expected."""
    if rows == len(expected) and names in (None, expected):
        return
    unknown = [repr(name) for name in names or () if name not in expected]
    difference = unknown[0] if unknown else f"{rows} rows"
    raise UserError(
        f"{path}: holds vectors of other classes ({difference})",
        fix=f"this data set needs {len(expected)} rows; make them by prepare.py embeddings",
    )


def _check_values(path: Path, vectors: np.ndarray, classes: list[str] | None) -> None:
    """Refuse (UserError) rows of classes that are zero, or not finite."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    wrong = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    named = [f"{classes[row - 1]} (row {row})" if classes else f"row {row}" for row in wrong if row > 0]
    if named:
        raise UserError(
            f"{path}: the vectors of these classes are zero or not finite: {', '.join(named)}",
            fix="make the table by prepare.py embeddings from a file of words, or --set data.text=names",
        )


def write_vectors(target: Path, table: np.ndarray, classes: list[str]) -> None:
    """Write rows (classes + 1, T) with the names of their classes as ``.npz``; raises as ``write_atomically`` does."""
    write_atomically(target, lambda path: np.savez(path, vectors=table, names=np.array(["background", *classes])))


def name_vectors(names: list[str]) -> np.ndarray:
    """Return unit vectors (classes + 1, 300) float32 that depend on the names alone; row 0 is background."""
    rows = []
    for name in ("background", *names):
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        row = np.random.Generator(np.random.PCG64(seed)).standard_normal(NAME_VECTOR_WIDTH)
        rows.append(row / np.linalg.norm(row))
    return np.asarray(rows, np.float32)


def vectors_path(data: DataSettings) -> Path:
    """Return the file that ``data.text`` names: itself if it is a path, else ``initmodel/<text>_<name>.pkl|.npz``."""
    if Path(data.text).suffix in SUFFIXES:
        return Path(data.text)
    paths = [project_path(Path(FOLDER) / f"{data.text}_{data.name}{suffix}") for suffix in SUFFIXES]
    return next(filter(Path.exists, paths), paths[-1])


def class_vectors(data: DataSettings) -> np.ndarray:
    """Return the vectors (classes + 1, T) float32 that the settings name; raises as ``read_vectors`` does."""
    if data.text == NAMES:
        return name_vectors(data.classes)
    path = vectors_path(data)
    if not path.exists():
        raise UserError(
            f"{path}: these text vectors do not exist{closest(data.text, USUAL - {data.text})}",
            fix=f"make them: python prepare.py embeddings --dataset {data.name} --vectors "
            "<GoogleNews-vectors-negative300.bin.gz>; or --set data.text=names",
        )
    return read_vectors(path, data.classes)
