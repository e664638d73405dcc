"""Class-name vectors: row 0 is background, row c is class c. Files from others never execute anything."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path

import numpy as np

from util.config.settings import DataSettings
from util.errors import UserError

NAMES = "names"  # data.text: vectors made from the names themselves
NO_TEXT = "none"
NAME_VECTOR_WIDTH = 300
SUFFIXES = (".npz", ".pkl")
# What a pickled NumPy array is made of; anything else in a pickle is refused.
ARRAY_PARTS = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
}


class _ArrayUnpickler(pickle.Unpickler):
    """Rebuilds NumPy arrays and nothing else."""

    def find_class(self, module: str, name: str):
        if (module, name) not in ARRAY_PARTS:
            raise pickle.UnpicklingError(f"it wants to load {module}.{name}")
        if module.startswith("numpy.core"):
            module = module.replace("numpy.core", "numpy._core") if hasattr(np, "_core") else module
        return super().find_class(module, name)


def table_names(classes: list[str]) -> list[str]:
    """Return what the rows of a table are called."""
    return ["background", *classes]


def read_vectors(path: Path, classes: list[str] | None = None) -> np.ndarray:
    """Return the vectors of a file, (classes + 1, T) float32: ``.npz`` (array ``vectors``) or a pickled array.

    Args:
        classes: what the rows must be called where an ``.npz`` tells it (array ``names``); None asks for nothing.

    Raises:
        UserError: missing or damaged file, anything in it but one numeric table, or rows of other classes.
    """
    names = None
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                table = stored["vectors"]
                names = np.ravel(stored["names"]).tolist() if "names" in stored else None
        else:
            table = _ArrayUnpickler(io.BytesIO(path.read_bytes())).load()
    except FileNotFoundError:
        raise UserError(f"{path}: these text vectors do not exist; set data.text, or put the file there") from None
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(f"{path}: not text vectors that can be read safely ({error})") from None
    if not isinstance(table, np.ndarray) or table.ndim != 2 or table.dtype.kind != "f":
        raise UserError(f"{path}: text vectors must be one table of numbers, (classes + 1, width)")
    with np.errstate(over="ignore"):
        table = np.ascontiguousarray(table, np.float32)
    if not np.isfinite(table).all():
        raise UserError(f"{path}: text vectors hold values that are not finite")
    if names is not None and classes is not None and names != table_names(classes):
        wanted = table_names(classes)
        row = next((i for i, (a, b) in enumerate(zip(names, wanted)) if a != b), min(len(names), len(wanted)))
        given, want = (f"'{n[row]}'" if row < len(n) else "no row" for n in (names, wanted))
        raise UserError(f"{path}: vectors of other classes: row {row} is {given}, expected {want}; set data.text")
    return table


def stored_origin(path: Path) -> str | None:
    """Return what an ``.npz`` says it was made from; None where it says nothing or cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return str(stored["made_from"])
    except Exception:  # a damaged file can raise anything
        return None


def name_vectors(names: list[str], width: int = NAME_VECTOR_WIDTH) -> np.ndarray:
    """Return unit vectors (classes + 1, width) float32 that depend on nothing but each name; row 0 is background."""
    rows = []
    for name in table_names(names):
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        row = np.random.Generator(np.random.PCG64(seed)).standard_normal(width)
        rows.append(row / np.linalg.norm(row))
    return np.asarray(rows, np.float32)


def vectors_path(data: DataSettings) -> Path:
    """Return the file that ``data.text`` names: a path as it is, else ``<text_dir>/<text>_<data.name>.npz|.pkl``."""
    if Path(data.text).suffix in SUFFIXES:
        return Path(data.text)
    stem = Path(data.text_dir) / f"{data.text}_{data.name}"
    found = [stem.with_name(stem.name + s) for s in SUFFIXES if stem.with_name(stem.name + s).exists()]
    return found[0] if found else stem.with_name(stem.name + SUFFIXES[-1])


def class_vectors(data: DataSettings) -> np.ndarray:
    """Return the vectors that the settings name, checked against the number of classes.

    Raises:
        UserError: as ``read_vectors``, or another number of rows.
    """
    if data.text == NAMES:
        return name_vectors(data.classes)
    path = vectors_path(data)
    table = read_vectors(path, data.classes)
    rows = len(data.classes) + 1
    if len(table) != rows:
        raise UserError(f"{path}: {len(table)} rows of text vectors, {data.name} needs {rows} (background + classes)")
    return table
