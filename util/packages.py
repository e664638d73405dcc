"""Check that the needed packages are installed; the module imports the standard library alone.

``python util/packages.py MODULE [words]`` runs a module of this project, as the shell scripts do. If a package is
missing, it ends with code 2 and one line.
"""

from __future__ import annotations

import importlib.util
import runpy
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
ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".venv/bin/python"
EXIT_USER_ERROR, EXIT_INTERRUPTED = 2, 130


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
    """Stop with one line where an import inside this context lacks a package, or Ctrl-C comes before all are there."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if not name or name in OWN:
            raise
        stop(name)


if __name__ == "__main__":
    with required():
        if lacking := missing():
            stop(lacking)
        module, *sys.argv[1:] = sys.argv[1:]
        sys.path[0] = str(ROOT)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
