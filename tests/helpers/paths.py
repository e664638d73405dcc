"""Paths of the repository and of the shared measured cases."""

import os
from pathlib import Path

from util.files.project import REPOSITORY

__all__ = ["REPOSITORY", "SHARED"]
SHARED = Path(os.environ.get("SYMNET_SHARED", REPOSITORY.parent / "shared"))
