"""A missing package ends a command with code 2 and one line; this module imports the standard library alone.

``python util/packages.py MODULE [words]`` runs a module of this project in this way, as the shell scripts do.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OWN = ("util", "model", "benchmark", "tests")  # a missing module of these is an error of the code
ROOT = Path(__file__).resolve().parents[1]
EXIT_USER_ERROR, EXIT_INTERRUPTED = 2, 130


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
        installed = (ROOT / ".venv/bin/python").exists()
        mend = ". .venv/bin/activate" if installed else "sh demo.sh, which installs everything into .venv"
        print(f"error: the package '{name}' is not installed for {sys.executable}; first run: {mend}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)


if __name__ == "__main__":
    with required():
        module, *sys.argv[1:] = sys.argv[1:]
        sys.path[0] = str(ROOT)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
