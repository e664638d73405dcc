"""The Python and the packages that this project needs; an entry point checks them before all other imports.

Python 3.6 can read this file and the entry points, so that an older Python than needed ends in one line, too.
"""

import gc
import importlib.util
import sys
from pathlib import Path

OLDEST_PYTHON = (3, 10)
PACKAGES = (
    "torch torchvision numpy pandas cv2 PIL yaml tensorboardX tqdm gensim scipy skimage matplotlib simplejpeg timm "
    "safetensors"
)


def python_problem() -> str:
    """Return why this Python cannot run the project, and the way out; '' if it can."""
    if sys.version_info >= OLDEST_PYTHON:
        return ""
    version, oldest = (".".join(map(str, numbers[:2])) for numbers in (sys.version_info, OLDEST_PYTHON))
    remedy = "call a newer Python, in an environment of its own (README.md, Install)"
    return f"Python {oldest} or later is needed, and {sys.executable} is {version}; {remedy}"


def packages_problem() -> str:
    """Return which required package this Python lacks, and the way out; '' if it has all."""
    missing = [name for name in PACKAGES.split() if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    problem = f"the package '{missing[0]}' is not installed for {sys.executable}"
    project = Path(__file__).resolve().parents[1]
    if not (project / "demo.sh").exists():
        return f"{problem}; install symnet again, with all that it depends on"
    remedy = ". .venv/bin/activate" if (project / ".venv").exists() else "sh demo.sh, which installs everything"
    return f"{problem}; first run: {remedy}"


def check(python_alone: bool = False) -> None:
    """End this process with one line and exit code 2 if Python is too old or, but for ``python_alone``, lacks packages.

    Commands and shell scripts call it, imports never do. The imports after it are made without a search for garbage,
    which takes a sixth of their time and finds none; ``cli.main`` has it on again.
    """
    gc.disable()
    problem = python_problem() or ("" if python_alone else packages_problem())
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    check(python_alone="--python-alone" in sys.argv[1:])
