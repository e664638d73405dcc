"""Paths of the repository and of the shared measured cases."""

from __future__ import annotations

import os
from pathlib import Path

from util.files import REPOSITORY

__all__ = ["REPOSITORY", "SHARED"]
SHARED = Path(os.environ.get("SYMNET_SHARED", REPOSITORY.parent / "shared"))
