"""Paths of the repository and of the shared measured cases."""

import importlib.util
import os
from pathlib import Path
from types import ModuleType

from util.files import REPOSITORY

__all__ = ["REPOSITORY", "SHARED", "parity_weights"]
SHARED = Path(os.environ.get("SYMNET_SHARED", REPOSITORY.parent / "shared"))


def parity_weights() -> ModuleType:
    """Return the module that fills the networks of the measured cases."""
    spec = importlib.util.spec_from_file_location("parity_weights", SHARED / "parity" / "weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
