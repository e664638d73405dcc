"""The reader of pickles of others (lists, vectors, annotations): nothing in them is executed."""

import pickle
from typing import IO, Any

import numpy as np

ARRAY_PARTS = {  # the names that a pickled NumPy array needs
    "numpy": {"ndarray", "dtype"},
    **{f"numpy.{core}.multiarray": {"_reconstruct"} for core in ("core", "_core")},
    **{f"numpy.{core}.numeric": {"_frombuffer"} for core in ("core", "_core")},
    "_codecs": {"encode"},
}
BOX_MODE = "detectron2.structures.boxes", "BoxMode"  # in published annotations; its value is a number


class RestrictedUnpickler(pickle.Unpickler):
    """Unpickles plain data and NumPy arrays; refuses everything else."""

    def __init__(self, file: IO[bytes]):
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle names; UnpicklingError if that is not allowed."""
        if (module, name) == BOX_MODE:
            return int
        if name not in ARRAY_PARTS.get(module, set()):
            raise pickle.UnpicklingError(f"it would load {module}.{name}")
        if module.startswith("numpy.core"):
            module = module.replace("numpy.core", "numpy._core") if hasattr(np, "_core") else module
        return super().find_class(module, name)
