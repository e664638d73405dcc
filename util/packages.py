"""Check that the needed packages are installed; the module imports the standard library alone.

``python util/packages.py`` ends with code 2 and one line if one is missing; the shell scripts begin with it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEEDED = (
    "torch",
    "torchvision",
    "numpy",
    "cv2",
    "PIL",
    "yaml",
    "tensorboardX",
    "tqdm",
    "gensim",
    "scipy",
    "matplotlib",
    "simplejpeg",
)
OWN = ("util", "model", "benchmark", "tests")  # a missing module of these is an error of the code
ENVIRONMENT = Path(__file__).resolve().parents[1] / ".venv/bin/python"
EXIT_USER_ERROR = 2


def missing() -> str | None:
    """Return the first package that is not installed, None if all are."""
    return next((name for name in NEEDED if importlib.util.find_spec(name) is None), None)


def stop(name: str) -> None:
    """Leave the process with one line that names the command to run first."""
    mend = ". .venv/bin/activate" if ENVIRONMENT.exists() else "sh demo.sh, which installs everything into .venv"
    print(f"error: the package '{name}' is not installed for {sys.executable}; first run: {mend}", file=sys.stderr)
    sys.exit(EXIT_USER_ERROR)


@contextmanager
def required() -> Iterator[None]:
    """Stop with one line where an import inside this context lacks a package."""
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if not name or name in OWN:
            raise
        stop(name)


if __name__ == "__main__":
    if lacking := missing():
        stop(lacking)
